"""The sampling solvers against closed forms and direct networks, with their own errors."""

import dataclasses

import numpy as np
import pytest

from lft.errors import ConvergenceError, InputError
from lft.meanfield.model import (
    Connection,
    FixedIndegree,
    Gaussian,
    InputNoise,
    Model,
    Poisson,
    Population,
    Solve,
    WeightStatistics,
)
from lft.meanfield.network.steps import build_network
from lft.meanfield.neurons import LIF, Binary, EscapeRate, Rate
from lft.meanfield.saddle import two_time
from lft.meanfield.saddle.agreement import check_agreement
from lft.meanfield.saddle.averaging import Replicas, average
from lft.meanfield.saddle.closed import siegert
from lft.meanfield.saddle.draws import Draws, sweep_key
from lft.meanfield.saddle.links import External, Link, input_covariance
from lft.meanfield.saddle.paths import Root, circulant_paths, factor, gaussian_paths, root
from lft.meanfield.saddle.simulate import Runner, check_causality, gram
from lft.meanfield.saddle.two_time import Summary, System, from_silence, outputs, sweep
from lft.meanfield.solver import solve
from lft.rng import Key
from lft.testing import normality_p_value


def network(neuron, weights, mode="stationary", dt=0.1, duration=40.0, size=None, drive=0.0, noise=None, **settings):
    connections = (Connection("x", "x", weights),) if weights else ()
    population = Population("x", neuron, size, drive, noise=noise)
    return Model((population,), connections, Solve(mode, dt, duration, **settings))


def by(model, method):
    return solve(dataclasses.replace(model, solve=dataclasses.replace(model.solve, method=method))).populations["x"]


def agrees(pair, exact, z_max=4.5, most=None):
    """Eight replicas: t with 7 degrees of freedom; |t| < 6.9 is as rare as |z| < 4.5 is in a normal."""
    value, error = pair
    assert abs(value - exact) < 6.9 / 4.5 * z_max * error, f"{value} +- {error}, exact {exact}"
    assert most is None or error < most * abs(exact), f"{value} +- {error} is not precise enough"


# ---- parts
def test_paths_have_the_covariance_that_was_asked_for():
    """Moment matching makes it exact; the mutant without it scatters by 1/sqrt(M)."""
    lag = np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    covariance = np.exp(-0.5 * (lag / 6.0) ** 2)
    h = gaussian_paths(np.linspace(0, 1, 40), covariance, Key(1), 2000)
    assert np.allclose(h.mean(axis=1), np.linspace(0, 1, 40), atol=1e-12)
    assert np.allclose(np.cov(h, bias=True), covariance, atol=1e-9)
    assert factor(covariance).shape[1] < 40 and factor(np.eye(5) + 1.0).shape == (5, 5)
    free = np.random.default_rng(1).multivariate_normal(np.zeros(40), covariance + 1e-9 * np.eye(40), 2000).T
    assert np.abs(np.cov(free, bias=True) - covariance).max() > 0.01
    with pytest.raises(ConvergenceError, match="not positive"):
        factor(np.array([[1.0, 2.0], [2.0, 1.0]]))


def test_circulant_paths_have_their_spectrum():
    period = 64
    lags = np.minimum(np.arange(period), period - np.arange(period))
    spectrum = np.fft.rfft(0.8**lags).real
    h = circulant_paths(spectrum, period, Key(2), 500)
    power = np.mean(np.abs(np.fft.rfft(h, axis=0)) ** 2, axis=1) / period
    assert np.allclose(power, spectrum, rtol=1e-10) and np.abs(h.mean(axis=1)).max() < 1e-12
    kurtosis = np.mean(h**4) / np.mean(h**2) ** 2
    assert kurtosis == pytest.approx(3.0, abs=0.1)


def ornstein(n, m, decay=0.9, seed=4):
    y = np.random.default_rng(seed).normal(size=(n, m))
    for k in range(1, n):
        y[k] = decay * y[k - 1] + np.sqrt(1 - decay**2) * y[k]
    return y


def test_rank_update_is_the_product():
    """In double, but for whole numbers, which single precision multiplies without an error.  Mutant: single precision
    of what is no whole number."""
    y = 300.0 + ornstein(600, 70)
    spikes = 4000.0 * (y > 301.0)
    counts = (spikes / 4000).astype(int)
    assert (gram(spikes, 4000.0) == (4000.0**2 / 70) * (counts @ counts.T)).all()
    for paths in (y, spikes + 0.1, 1e4 * np.rint(y)):  # the last: whole, and too large
        exact = paths @ paths.T / 70
        found = gram(paths, 4000.0 if paths is not y else 1.0)
        assert np.allclose(found, exact, rtol=1e-12, atol=1e-14) and (found == found.T).all()  # rounding of doubles
        single = paths.astype(np.float32)
        assert not np.allclose(single @ single.T / 70, exact, rtol=1e-9)  # single precision is off by some 1e-7


def test_factors_of_covariances():
    """Single precision where steps bring variance of their own, rows of 0 in front, ranks in between, few modes."""
    n, m = 120, 2000
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    late = np.zeros((n, n))
    late[7:, 7:] = 0.9 ** lag[7:, 7:]
    half = np.random.default_rng(3).normal(size=(n, n // 2))
    cases = {"rough": (0.9**lag, np.float32, True), "late": (late, np.float32, True),
             "half": (half @ half.T, float, True), "smooth": (np.exp(-0.5 * (lag / 9.0) ** 2), float, False)}
    for name, (covariance, dtype, is_triangle) in cases.items():
        found = root(np.tril(covariance) + np.triu(np.full((n, n), np.nan), 1))
        assert (found.factor.dtype, found.is_triangle) == (dtype, is_triangle), name
        h = found.paths(np.full(n, 50.0), Key(3), m)
        # beyond the first M/8 steps normals are matched in mean alone: their covariance has the error of a sample
        size = np.sqrt(np.diag(covariance)).max()
        assert np.abs(h.mean(axis=1) - 50.0).max() < 2e-6 * size, name
        assert np.abs(np.cov(h, bias=True) - covariance).max() < 3e-6 * size**2, name
    assert found.factor.shape[1] < n // 2


def test_single_precision_is_far_below_the_noise():
    """One sweep of a noisy network as it is and with all in double: moments differ by 1e-4 of their sampling errors."""
    cells = Population("x", Rate("tanh", noise=0.5), input=0.5)
    model = Model((cells,), (Connection("x", "x", Gaussian(0.4, 1.2)),), Solve("two-time", 0.1, 8.0, samples=2048))
    system, lag = System(model), np.abs(np.subtract.outer(np.arange(81), np.arange(81)))
    state = [np.full(81, 0.3), 0.09 + 0.3 * 0.93**lag, np.zeros((2, 81))]
    (m, q, _), _ = sweep(system, state, 3, 0, Summary(81))
    upper = np.linalg.cholesky(system.covariance(0, state[:1], state[1:2])).T
    h = Root(0, np.asfortranarray(upper), True).paths(system.means(state[:1])[0], sweep_key(1, 3, 0, 0), 256)
    y, _ = system.runners[0].run(h, Draws(sweep_key(1, 3, 0, 0), 256))
    assert root(system.covariance(0, state[:1], state[1:2])).factor.dtype == np.float32
    error = y.std(axis=1).mean() / np.sqrt(256)
    assert 0 < np.abs(m - y.mean(axis=1)).max() < 1e-4 * error
    assert 0 < np.abs(q - y @ y.T / 256).max() < 1e-4 * error


def test_populations_with_one_covariance_share_its_factor(monkeypatch):
    """The drive may differ; another weight or noise is another covariance."""
    made = []
    monkeypatch.setattr("lft.meanfield.saddle.two_time.root", lambda c, name: made.append(name) or root(c, name))

    def states(weight, noise):
        one, other = Rate("tanh", noise=0.3), Rate("relu")
        cells = (Population("a", one, input=0.1), Population("b", other, input=0.4, noise=noise))
        links = tuple(Connection(s, t, Gaussian(0.2, 1.0 if t == "a" else weight)) for s in "ab" for t in "ab")
        system = System(Model(cells, links, Solve("two-time", 0.1, 2.0, samples=1024)))
        made.clear()
        return list(outputs(system, from_silence(system), 0, 0)), len(made)

    assert [states(w, n)[1] for w, n in ((1.0, None), (1.1, None), (1.0, InputNoise(0.1)))] == [1, 2, 2]


@pytest.mark.parametrize("shift", [0, 3])
def test_filters_of_a_covariance(shift):
    """Both sides in one pass, against lfilter along either axis; on and below the diagonal, and whole."""
    from scipy.signal import lfilter

    y = ornstein(61, 200)
    second, mean = y @ y.T / 200, y.mean(axis=1)
    link = Link(0, 0, WeightStatistics(0.0, 0.7, 0.4), shift, 0.8)
    outside = (External(np.zeros(60), 0.5, None),)
    whole = input_covariance(0, (link,), outside, [mean], [second], 0.1)
    pair = (1.1 * second - 0.4 * np.outer(mean, mean))[: 60 - shift, : 60 - shift]
    expected = 5.0 * np.eye(60)
    expected[shift:, shift:] += lfilter([0.2], [1, -0.8], lfilter([0.2], [1, -0.8], pair, axis=0), axis=1)
    assert np.allclose(whole, expected, rtol=1e-12, atol=1e-14)  # rounding, in another order of sums
    lower = input_covariance(0, (link,), outside, [mean], [second], 0.1, is_lower=True)
    assert np.allclose(np.tril(lower), np.tril(expected), rtol=1e-12, atol=1e-14)  # rounding, as above


def test_averaging_beats_its_noise_and_knows_it():
    """A noisy linear map: replicas scatter as they say; a map that never settles is an error."""
    def solved(seed, gain=0.6, sweeps=60):
        rng = np.random.default_rng(seed)

        def sweep(state, number):
            return [gain * state[0] + 1.0 + 0.05 * rng.normal(size=4)], np.full(4, 0.05**2)

        return average(sweep, [np.zeros(4)], lambda s: s[0], sweeps).state[0]

    z = []
    for block in range(30):
        total = Replicas()
        for replica in range(8):
            total.add([solved(100 * block + replica)])
        z.append((total.mean[0] - 2.5) / total.error[0])
    z = np.concatenate(z)
    assert abs(z.mean()) < 4.5 * 1.2 / np.sqrt(z.size) and 0.9 < z.std() < 1.5
    with pytest.raises(ConvergenceError) as caught:
        solved(1, gain=1.5)
    assert caught.value.history
    assert abs(solved(2, gain=-3.0)[0] - 0.25) < 0.1  # period 2: damped by itself


# ---- against closed forms
def test_rate_network_with_frozen_part_and_noise():
    model = network(Rate("tanh", noise=0.5), Gaussian(0.5, 1.0), drive=0.5, duration=20.0, samples=3000, sweeps=20)
    sampled, exact = by(model, "sampling"), by(model, "closed")
    for key, most in (("mean", 4e-3), ("state_variance", 1e-2), ("frozen_variance", 2e-2), ("output_variance", 1e-2)):
        agrees(sampled[key], exact[key][0], most=most)
    value, error = sampled["autocovariance"]
    short = slice(0, 40)
    deviation = np.abs(value - exact["autocovariance"][0])[short]
    assert (deviation < 6.9 * error[short] + 2e-3 * value[0]).all()


def test_binary_network():
    weights = FixedIndegree(100, -0.1)
    model = network(Binary(), weights, size=2000, drive=2.05, dt=0.04, duration=16.0, samples=1200, sweeps=24,
                    damping=0.6)
    sampled, exact = by(model, "sampling"), by(model, "closed")
    agrees(sampled["mean"], exact["mean"][0], most=1e-2)
    a, c = sampled["autocovariance"][0], exact["autocovariance"][0]
    assert np.abs(a - c)[:75].max() < 0.03 * c[0]
    # mutant: independent weights (second moment) in place of a fixed in-degree (covariance)
    second = dataclasses.replace(model.connections[0], weights=Gaussian(-10.0, np.sqrt(0.95)))
    wrong = by(dataclasses.replace(model, connections=(second,)), "closed")
    assert np.abs(a - wrong["autocovariance"][0])[:75].max() > 0.1 * c[0]
    assert sampled["frozen_variance"][0] < 2e-3 < 0.1 * wrong["frozen_variance"][0]


@pytest.mark.parametrize("method", ["sampling", "march"])
def test_transient_in_two_populations_with_delay_filter_and_moving_drive(method):
    a = Population("a", Rate("tanh", noise=0.2, initial_mean=0.5), input=((0.0, 0.5), (2.0, -0.3)))
    b = Population("b", Rate("logistic", tau=2.0, noise=0.1, noise_tau=0.5), input=0.2)
    links = (Connection("a", "a", Gaussian(0.3, 1.0), delay=0.5), Connection("a", "b", Gaussian(0.6, 0.7)),
             Connection("b", "a", Gaussian(-0.8, 0.5), synapse=0.7))
    settings = Solve("two-time", 0.1, 4.0, samples=3200, sweeps=30)
    exact = solve(Model((a, b), links, settings))
    assert exact.method == "closed"
    solution = solve(Model((a, b), links, dataclasses.replace(settings, method=method)))
    for name in "ab":
        for key in ("mean", "state_variance", "second_moment"):
            value, error = solution.populations[name][key]
            reference = exact.populations[name][key][0]
            z = (value - reference) / np.maximum(error, 1e-9 * np.abs(reference).max() + 1e-12)
            assert np.sqrt(np.mean(z**2)) < 3.0, (name, key)
            most = 0.03 if method == "sampling" else 0.06  # the march has the 1/M of a network as well
            assert np.linalg.norm(value - reference) < most * np.linalg.norm(reference)


@pytest.mark.parametrize("mu, sigma, refractory", [(15.0, 5.0, 0.002), (22.0, 3.0, 0.0)])
def test_lif_rate_is_siegerts(mu, sigma, refractory):
    cell = LIF(refractory=refractory)
    model = network(cell, None, dt=4e-4, duration=0.2, drive=mu, noise=InputNoise(sigma**2 * cell.tau), samples=1600,
                    sweeps=6, max_lag=0.02)
    rate = solve(model).populations["x"]["mean"]
    exact = siegert(mu, sigma, cell.tau, cell.threshold, cell.reset, refractory)
    agrees(rate, exact, most=0.01)
    assert abs(rate[0] - exact) < 0.02 * exact


def test_lif_without_crossings_between_grid_times_is_too_slow():
    """Mutant: the same neuron that sees the threshold at the grid times alone."""
    class Blind(LIF):
        def prepare(self, dt):
            step = super().prepare(dt)
            step.uses_white = False
            return step

    model = network(Blind(), None, dt=4e-4, duration=0.2, drive=15.0, noise=InputNoise(0.5), samples=1600, sweeps=4,
                    max_lag=0.02)
    value, error = solve(model).populations["x"]["mean"]
    assert value < 9.4608 - 6 * error and value < 0.95 * 9.4608


def test_poisson_drive_is_its_white_noise():
    drive = Poisson(1000, 20.0, 0.1)
    cell = Population("E", LIF(), external=(drive,))
    assert cell.drive(0) == pytest.approx(40.0) and cell.white == pytest.approx(0.02**2 * 1000 * 20 * 0.1**2)


def test_escape_rate_neurons():
    cell = EscapeRate(gain="erfc", rate=50.0, threshold=1.0, tau=0.02)
    link = Connection("x", "x", Gaussian(0.01, 0.02), synapse=0.01)
    model = Model((Population("x", cell, input=0.5),), (link,), Solve("stationary", 5e-4, 0.2, samples=1600, sweeps=10))
    sampled, exact = by(model, "sampling"), by(model, "closed")
    # a step holds one spike at most: the grid takes away (rate dt)/2, half a percent here
    (value, error), rate = sampled["mean"], exact["mean"][0]
    assert abs(value - rate) < 6.9 * error + 0.01 * rate and error < 0.02 * rate
    value, error = sampled["autocovariance"]
    assert value[0] == pytest.approx(sampled["mean"][0] / 5e-4, rel=0.02)
    near = slice(1, 40)  # the mean over lags: their errors are nearly independent
    expected = exact["autocovariance"][0][near].mean()
    assert abs(value[near].mean() - expected) < 6.9 * error[near].mean() / np.sqrt(39) + 0.05 * expected


def test_two_stable_states_are_found_and_never_averaged():
    cell, weights = Rate("logistic", noise=0.3), Gaussian(12.0, 0.5)
    model = network(cell, weights, drive=-6.0, duration=10.0, samples=512, sweeps=30, method="sampling")
    low, high = (solve(model, start=s).populations["x"]["mean"] for s in ("low", "high"))
    assert low[0] + 10 * low[1] < 0.1 and high[0] - 10 * high[1] > 0.9
    for wander in (0.05, 0.45):
        total = Replicas()
        for m in (0.1, 0.9, 0.11, 0.89, 0.1, 0.9, 0.9, 0.1):
            total.add([np.array([m]), np.zeros(1), np.full(9, 0.01), np.zeros(2), np.zeros(3),
                       np.array([m - wander, m + wander, 0.5])])
        if wander < 0.1:
            with pytest.raises(ConvergenceError, match="different states"):
                check_agreement(model, total)
        else:  # replicas whose own iterates go to and fro between the groups: noise
            check_agreement(model, total)


# ---- one's own neuron
class Adapting:
    """Adapting, noisy, quantized: an integrator that answers in steps of 1/4 and tires of its own output."""

    timescale = 2.0

    def __init__(self, dt, strength=0.8):
        self.dt, self.strength = dt, strength

    def init(self, M, rng):
        return {"x": rng.standard_normal(M), "w": np.zeros(M), "rng": rng}

    def step(self, state, h, k):
        dt = self.dt
        state["x"] += dt * (-state["x"] + h - state["w"]) + 0.3 * np.sqrt(dt) * state["rng"].standard_normal()
        y = np.round(4 * np.tanh(state["x"])) / 4
        state["w"] += dt / 2.0 * (self.strength * y - state["w"])
        return y


def direct(neuron, n, g, mean, drive, dt, n_warm, n_steps, seed):
    """A network of n such neurons: mean, variance over neurons and time, and autocovariance at lag 1."""
    rng = np.random.default_rng(seed)
    weights = mean / n + g / np.sqrt(n) * rng.normal(size=(n, n))
    state = neuron.init(n, Draws(Key(seed), n))
    y, kept = np.zeros(n), []
    for k in range(n_warm + n_steps):
        y = neuron.step(state, drive + weights @ y, k)
        if k >= n_warm:
            kept.append(y)
    kept = np.array(kept)
    m, lag = kept.mean(), round(1.0 / dt)
    centered = kept - kept.mean(axis=0)
    return m, kept.var(), np.mean(centered[lag:] * centered[:-lag]) + np.var(kept.mean(axis=0))


def test_an_unknown_neuron_goes_through_and_agrees_with_its_network():
    """Within errors and nothing else: networks of 100 and 400 tell what falls as 1/N (at 100 2 to 3 %).  Mutant: the
    theory of a neuron that does not tire."""
    dt, g, mean, drive, lag = 0.1, 1.5, -0.5, 0.4, 10
    small, large = (
        np.array([direct(Adapting(dt), n, g, mean, drive, dt, 200, 1500, n + s) for s in range(draws)])
        for n, draws in ((100, 32), (400, 12))
    )
    expected = (4 * large.mean(axis=0) - small.mean(axis=0)) / 3
    error = np.hypot(4 * large.std(axis=0, ddof=1) / np.sqrt(12), small.std(axis=0, ddof=1) / np.sqrt(32)) / 3

    def deviations(strength, samples, sweeps):
        model = network(Adapting(dt, strength), Gaussian(mean, g), dt=dt, duration=40.0, drive=drive, samples=samples,
                        sweeps=sweeps)
        x = solve(model).populations["x"]
        late, frozen = (x[key] for key in ("autocovariance", "frozen_variance"))
        theory = [x["mean"], x["output_variance"], (late[0][lag] + frozen[0], np.hypot(late[1][lag], frozen[1]))]
        value, own = np.array(theory).T
        return x, model, value, (value - expected) / np.hypot(own, error)

    x, model, value, z = deviations(0.8, 2400, 24)
    assert np.all(np.abs(z) < 4.5) and np.all(error < 0.05 * value), z
    assert np.abs(deviations(0.0, 512, 15)[3]).max() > 6.0
    late = dataclasses.replace(model, solve=Solve("two-time", dt, 16.0, samples=1200, sweeps=30))
    end, scatter = (v[-40:].mean() for v in solve(late).populations["x"]["output_variance"])
    exact, own = x["output_variance"]
    assert abs(end - exact) < 6.9 * np.hypot(scatter, own) and scatter < 0.02 * exact


# ---- what is refused
class Prophet:
    """Answers with the input of the next step: it sees all paths at once."""

    def init(self, M, rng):
        return None

    def run(self, state, h):
        return np.concatenate([h[1:], h[-1:]])

    def step(self, state, h, k):
        return h


class Forgetful(Prophet):
    """Draws from a generator of its own."""

    def run(self, state, h):
        return h + np.random.default_rng().normal(size=h.shape)


class Cumulative(Prophet):
    """All steps at once, and causal."""

    def run(self, state, h):
        return np.tanh(np.cumsum(h, axis=0) / 10)


class Exploding(Rate):
    def prepare(self, dt):
        return self

    def init(self, M, rng):
        return np.ones(M)

    def output(self, state):
        return state

    observe = output

    def step(self, state, h, k):
        return np.full(len(h), np.nan)


def test_only_causal_neurons_pass():
    check_causality(Cumulative(), "x", 1.0, 0.0)
    with pytest.raises(InputError, match="not causal: its output at step"):
        check_causality(Prophet(), "x", 1.0, 0.0)
    with pytest.raises(InputError, match="same input and random numbers differ"):
        check_causality(Forgetful(), "x", 1.0, 0.0)
    with pytest.raises(InputError, match="not causal"):
        solve(network(Prophet(), Gaussian(0.0, 1.0), samples=64, sweeps=4))


def test_outputs_that_are_not_finite_are_an_error():
    with pytest.raises(ConvergenceError, match="not finite at step"):
        solve(network(Exploding(), Gaussian(0.0, 1.0), samples=64, sweeps=4, method="sampling"))
    with pytest.raises(InputError, match="returned shape"):
        Runner(type("Short", (), {"init": lambda s, M, rng: 0, "step": lambda s, st, h, k: h[:-1]})(), "x").run(
            np.zeros((3, 4)), Draws(Key(1), 4))
    with pytest.raises(InputError, match="draws one number for each"):
        Draws(Key(1), 4).random(3)


@pytest.mark.validate
def test_errors_are_calibrated():
    """z of means and variances over seeds is Student's t with 7 degrees of freedom, close to normal."""
    from scipy.stats import norm, t

    z = []
    for seed in range(60):
        model = network(Rate("tanh", noise=0.5), Gaussian(0.5, 1.0), drive=0.5, duration=15.0, dt=0.1, samples=1600,
                        sweeps=16, seed=seed)
        sampled, exact = by(model, "sampling"), by(model, "closed")
        for key in ("mean", "state_variance"):
            value, error = sampled[key]
            z.append(norm.ppf(t.cdf((value - exact[key][0]) / error, 7)))
    assert normality_p_value(np.array(z)) > 1e-3
    assert normality_p_value(2.0 * np.array(z)) < 1e-3


@pytest.mark.validate
def test_errors_fall_with_the_samples():
    """Four times the samples halve the error (median over seeds and quantities)."""
    ratios = []
    for seed in range(12):
        model = network(Rate("tanh", noise=0.5), Gaussian(0.5, 1.0), drive=0.5, duration=15.0, samples=1600, sweeps=16,
                        seed=seed, method="sampling")
        more = dataclasses.replace(model, solve=dataclasses.replace(model.solve, samples=6400))
        few, many = (solve(m).populations["x"] for m in (model, more))
        ratios += [few[key][1] / many[key][1] for key in ("mean", "state_variance", "output_variance")]
    assert 1.6 < np.median(ratios) < 2.5


def brunel(g, eta, size=None, weight=0.1, **settings):
    """Model A: threshold 20, reset 10, 1000 + 250 partners; without sizes K/N counts as 0."""
    drive = (Poisson(1000, eta * 20.0 / (weight * 1000 * 0.02), weight),)
    cells = tuple(Population(p, LIF(), size and size * 4 // 5 if p == "E" else size and size // 5, external=drive)
                  for p in "EI")
    weights = {"E": FixedIndegree(1000, weight), "I": FixedIndegree(250, -g * weight)}
    links = tuple(Connection(b, a, weights[b], 0.0015) for a in "EI" for b in "EI")
    return Model(cells, links, Solve("stationary", **{**dict(dt=2e-4, duration=0.4, samples=4000, sweeps=40,
                                                             damping=0.5, max_lag=0.15), **settings}))


def test_sparse_network_where_the_noise_of_the_state_rules():
    """(4.5, 0.9): residuals are several times a sweep's own noise, which is no failure; the oscillation is reported."""
    solution = solve(brunel(4.5, 0.9, 12500, samples=240, sweeps=12, dt=4e-4, duration=0.2, max_lag=0.1))
    value, error = solution.populations["E"]["mean"]
    assert 4.0 < value < 7.5 and error < 0.2 * value
    assert solution.network["collective_frequency"][0] == pytest.approx(28.2, abs=0.3)
    growth, uncertain = solution.network["collective_growth"]
    assert growth == pytest.approx(1.8, abs=0.3) and uncertain < 0.3
    assert any("oscillate together" in note for note in solution.notes)


@pytest.mark.validate
def test_sparse_integrate_and_fire_network():
    """Model A at (5, 2), K/N counted as 0, against Siegert's fixed point; all its modes decay."""
    solution = solve(brunel(5.0, 2.0))
    for p in "EI":
        value, error = solution.populations[p]["mean"]
        assert abs(value - 37.950) < 0.02 * 37.950 and error < 0.01 * value
    assert solution.network["collective_growth"][0] < -50.0


@pytest.mark.validate
def test_sparse_network_in_slow_oscillation():
    """Model A at (4.5, 0.9), N = 12,500: the sampled rate is that of the network (5.63 Hz at dt = 0.025 ms), not that
    of Siegert's formula (5.95 Hz with the factor 1 - K/N, 6.52 without)."""
    solution = solve(brunel(4.5, 0.9, 12500, samples=3200, sweeps=24))
    value, error = solution.populations["E"]["mean"]
    assert abs(value - 5.63) < 6.9 * error + 0.1 and error < 0.03 * value
    assert abs(value - 5.63) < abs(5.952 - 5.63)


def strong(input, **settings):
    """100 + 25 partners, jumps of 0.7 and -5.6 mV."""
    drive = (Poisson(100, 40.0 / (0.7 * 100 * 0.02), 0.7),)
    cells = tuple(Population(p, LIF(), size=n, external=drive) for p, n in (("E", 4000), ("I", 1000)))
    weights = {"E": FixedIndegree(100, 0.7), "I": FixedIndegree(25, -5.6)}
    links = tuple(Connection(b, a, weights[b], 0.0015) for a in "EI" for b in "EI")
    return Model(cells, links, Solve("stationary", **{**dict(dt=2e-4, duration=0.3, samples=480, replicas=4, sweeps=16,
                                                             damping=0.7, warmup=0.08, max_lag=0.1, input=input),
                                                      **settings}))


@pytest.mark.validate
def test_few_strong_synapses():
    """The rate of the network, with spike trains as input.  Gaussian input, the mutant, is two Hz too high."""
    rates = []
    for draw in range(3):
        network = build_network(strong("shot"), dt=5e-5, seed=1, draw=draw)
        network.advance(4000)
        rates.append(np.mean([np.concatenate(network.advance(500), axis=1).mean() for _ in range(32)]))
    exact, scatter = np.mean(rates), np.std(rates, ddof=1) / np.sqrt(3)
    value, error = solve(strong("shot", dt=5e-4)).populations["E"]["mean"]
    both = np.hypot(error, scatter)
    assert abs(value - exact) < 4.5 * both and both < 0.06 * exact
    value, error = solve(strong("gaussian")).populations["E"]["mean"]
    assert value - exact > 3.0 * np.hypot(error, scatter)


@pytest.mark.validate
def test_chaos_by_sampling():
    """The same fixed point as the closed form, from paths alone; slow because the iteration is nearly critical."""
    model = network(Rate("tanh"), Gaussian(0.0, 3.0), duration=80.0, samples=8000, sweeps=60)
    sampled, exact = by(model, "sampling"), by(model, "closed")
    value, error = sampled["state_variance"]
    assert abs(value - exact["state_variance"][0]) < 6.9 * error and error < 0.005 * value
    lags = np.abs(sampled["autocovariance"][0] - exact["autocovariance"][0])[:200]
    assert lags.max() < 0.01 * exact["autocovariance"][0][0]


@pytest.mark.parametrize("is_mutant", [False, pytest.param(True, marks=pytest.mark.validate)])
def test_far_from_the_start_a_transient_is_that_of_the_closed_solution(is_mutant, monkeypatch):
    """Populations whose loop is strong: from silence (mutant) the solution moves forward by little in a sweep, and
    replicas that are all on their way look settled."""
    cells = [Population("E", Rate("relu", noise=0.1), input=((0.0, 1.0), (8.0, 2.0))),
             Population("I", Rate("relu", noise=0.1), input=0.5)]
    means = {"EE": 2.0, "IE": -2.5, "EI": 2.5, "II": -2.0}
    links = tuple(Connection(a, b, Gaussian(means[a + b], 0.2)) for a in "EI" for b in "EI")
    model = Model(tuple(cells), links, Solve("two-time", 0.2, 24.0, method="sampling", samples=800, sweeps=40))
    exact = solve(dataclasses.replace(model, solve=dataclasses.replace(model.solve, method="closed")))
    if is_mutant:
        monkeypatch.setattr(two_time, "first_state", lambda system, replica: two_time.from_silence(system))
    sampled, z = solve(model), []
    for name in model.names:
        for key in ("mean", "state_variance"):
            value, error = (x[10::10] for x in sampled.populations[name][key])
            z.append((value - exact.populations[name][key][0][10::10]) / error)
            assert np.max(error) < 0.06 * np.max(value)
    spread = np.sqrt(np.mean(np.square(z)))
    assert spread > 2.5 if is_mutant else spread < 2
