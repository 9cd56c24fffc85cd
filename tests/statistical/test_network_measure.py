"""What a recorder says of a network, against processes whose statistics are known."""

import math

import numpy as np
import pytest

from lft.errors import InputError
from lft.meanfield.compare import beside, compare, default_simulation, resize, within
from lft.meanfield.fluctuations.lyapunov import lyapunov_exponent
from lft.meanfield.model import Connection, FixedIndegree, Gaussian, Model, Population, Solve
from lft.meanfield.network.measure import Recorder, lagged, pair_statistics, summarize
from lft.meanfield.network.run import NetworkStatistics, combine, simulate_network, simulate_transient
from lft.meanfield.network.weights import draw_weights, network_key
from lft.meanfield.neurons.binary import Binary
from lft.meanfield.neurons.rate import Rate
from lft.meanfield.result import PopulationResult, Solution


def autoregressive(n_steps, n, a, offset, common, seed):
    """x_i(t): AR(1) of unit variance with correlation ``common`` between neurons, on a frozen offset."""
    rng = np.random.default_rng(seed)
    z = math.sqrt(1 - common) * rng.normal(size=(n_steps, n)) + math.sqrt(common) * rng.normal(size=(n_steps, 1))
    x = np.empty((n_steps, n))
    x[0] = z[0]
    for t in range(1, n_steps):
        x[t] = a * x[t - 1] + math.sqrt(1 - a * a) * z[t]
    return x + 1.5 + offset * rng.normal(size=n)


def test_short_runs_have_no_bias():
    """Common and private fluctuations that outlive the edges of segments leave heterogeneity and covariances alone."""
    a, n, common, runs = 0.9, 12, 0.4, 100
    found = []
    for seed in range(runs):
        recorder = Recorder([n], 1.0, 800, 4, neurons=n, segments=8, block=25, pairs=False)
        recorder.add([autoregressive(recorder.n_steps, n, a, 0.0, common, seed)])
        s = summarize(recorder)
        found.append([float(s["heterogeneity"][0][0]), float(s["population_covariance"][0][4, 0, 0])])
    z = (np.mean(found, axis=0) - [0.0, common + (1 - common) / n]) / np.std(found, axis=0) * math.sqrt(runs)
    assert np.abs(z).max() < 4.5
    # what the squared mean of all time is too large by
    bias = (common + (1 - common) / n) * (1 + a) / (1 - a) / recorder.n_steps
    assert (np.std(found, axis=0) / math.sqrt(runs) < np.array([0.1, 0.8]) * bias).all()


@pytest.mark.parametrize(("offset", "common"), [(0.0, 0.0), (0.7, 0.1)])
def test_statistics_of_a_known_process(offset, common):
    a, n, n_steps = 0.8, 60, 20000
    recorder = Recorder([n], 0.5, n_steps, 10, neurons=n)
    x = autoregressive(recorder.n_steps, n, a, offset, common, 3)
    frozen = np.var(x.mean(axis=0))  # of these 60 neurons
    for start in range(0, len(x), 777):
        recorder.add([x[start : start + 777]])
    assert recorder.is_full
    s = summarize(recorder)
    lags = np.arange(11)

    def check(name, expected, rel=0.1):
        value, error = (np.squeeze(v) for v in s[name])
        z = (value - expected) / error
        assert np.max(np.abs(z)) < 4.5, (name, z)
        assert np.max(error) < rel, (name, error)

    check("autocovariance", a**lags)
    assert s["heterogeneity"][0][0] == pytest.approx(frozen, abs=0.02)
    around = np.abs(np.arange(-10, 11))
    check("population_covariance", (common + (1 - common) / n) * a**around)
    check("mean_pair_covariance", common)
    f = np.fft.rfftfreq(recorder.block, 0.5)
    expected = 0.5 * (1 - a * a) / np.abs(1 - a * np.exp(-2j * np.pi * f * 0.5)) ** 2
    value = s["spectrum"][0]
    assert np.max(np.abs(value[0, 2:] / expected[2:] - 1)) < 0.25
    assert np.mean(value[0, 2:] / expected[2:]) == pytest.approx(1.0, abs=0.02)
    power = np.squeeze(s["population_spectrum"][0]).real
    assert np.mean(power[2:] / expected[2:]) == pytest.approx(common + (1 - common) / n, rel=0.1)


def test_lagged_products_by_definition():
    x = np.random.default_rng(1).normal(size=(50, 70))
    for lag, value in enumerate(lagged(x, 7)):
        assert value == pytest.approx(np.mean(x[: 50 - lag] * x[lag:]), abs=1e-12)


def test_split_halves_remove_the_bias_of_spread_and_dimension():
    """Independent neurons: no spread, PR/N = 1; the naive estimate (one half for both) is far off."""
    n, t = 80, 160
    rng = np.random.default_rng(2)
    spreads, naive, dimension = [], [], []
    for _ in range(40):
        c1, c2 = (np.cov(rng.normal(size=(t, n)).T) for _ in range(2))
        spreads.append(pair_statistics(c1, c2, [n], [n])["pair_spread"][0, 0])
        naive.append(pair_statistics(c1, c1, [n], [n])["pair_spread"][0, 0])
        dimension.append(1 / pair_statistics(c1, c2, [n], [n])["participation"][0])
    error = np.std(spreads) / math.sqrt(40)
    assert abs(np.mean(spreads)) < 4.5 * error < 4.5e-4
    assert np.mean(naive) == pytest.approx(1 / t, rel=0.1)  # the broken twin sees sampling noise as spread
    assert np.mean(dimension) == pytest.approx(1.0, abs=4.5 * np.std(dimension) / math.sqrt(40))


def test_pairs_of_several_populations_and_part_of_the_neurons():
    rng = np.random.default_rng(4)
    b = rng.normal(size=(90, 90)) / 9 + np.eye(90)
    c = b @ b.T
    s = pair_statistics(c, c, [50, 40], [50, 40])
    x, y = c[:50, :50], c[:50, 50:]
    off = x[~np.eye(50, dtype=bool)]
    assert s["pair_mean"][0, 0] == pytest.approx(off.mean())
    assert s["pair_spread"][0, 0] == pytest.approx(off.var())
    assert s["pair_spread"][0, 1] == pytest.approx(y.var())
    assert s["pair_variance"][1] == pytest.approx(np.diag(c)[50:].mean())
    assert s["participation"][0] == pytest.approx(np.trace(x) ** 2 / np.sum(x * x) / 50)


def linear(n=120, g=0.5):
    cells = Population("x", Rate(gain="linear", noise=1.0), size=n)
    return Model((cells,), (Connection("x", "x", Gaussian(0.0, g)),), Solve("stationary", 0.1, 100.0))


def exact_linear(w, dt):
    """Stationary covariance of x(k+1) = a x + (1 - a) W x + sqrt(1 - a^2) z, and the transition matrix."""
    from scipy.linalg import solve_discrete_lyapunov

    a = math.exp(-dt)
    step = a * np.eye(len(w)) + (1 - a) * w
    return step, solve_discrete_lyapunov(step, (1 - a * a) * np.eye(len(w)))


def test_linear_network_has_its_exact_statistics():
    """Autocovariance, population covariance, spread and dimension of the very networks that were drawn."""
    model = linear()
    s = simulate_network(model, duration=700.0, warmup=20.0, max_lag=2.0, draws=4, neurons=120, seed=5)
    exact = {"auto0": [], "auto20": [], "pop": [], "spread": [], "participation": []}
    for draw in range(4):
        w = draw_weights(Gaussian(0.0, 0.5), 120, slice(0, 120), network_key(5, draw)).dense()
        step, c = exact_linear(w, 0.1)
        later = np.linalg.matrix_power(step, 20) @ c
        p = pair_statistics(c, c, [120], [120])
        for key, value in (("auto0", np.trace(c) / 120), ("auto20", np.trace(later) / 120), ("pop", c.mean()),
                           ("spread", p["pair_spread"][0, 0]), ("participation", p["participation"][0])):
            exact[key].append(value)
    for name, index, key, tolerance in (
        ("autocovariance", (0, 0), "auto0", 0.03), ("autocovariance", (0, 20), "auto20", 0.08),
        ("population_covariance", (20, 0, 0), "pop", 0.2), ("pair_spread", (0, 0), "spread", 0.2),
        ("participation", (0,), "participation", 0.08),
    ):
        measured = s[name].draws[(slice(None), *index)]
        ratio = measured / np.array(exact[key])
        assert np.all(np.abs(ratio - 1) < tolerance), (name, ratio)
        assert abs(ratio.mean() - 1) < 4.5 * ratio.std(ddof=1) / 2 + 1e-3, (name, ratio)


def test_lyapunov_exponent_of_a_linear_network_is_its_largest_eigenvalue():
    model = linear(80, 0.8)
    w = draw_weights(Gaussian(0.0, 0.8), 80, slice(0, 80), network_key(2, 0)).dense()
    step, _ = exact_linear(w, 0.1)
    expected = math.log(np.max(np.abs(np.linalg.eigvals(step)))) / 0.1
    found = lyapunov_exponent(model, duration=200.0, warmup=100.0, seed=2)
    assert found.value == pytest.approx(expected, abs=0.01)


def test_transient_of_a_linear_network():
    """C(t, s) = exp(-(t + s)) I0(2 g sqrt(ts)) in continuous time; here for the grid: powers of the step."""
    g, dt, n = 0.9, 0.1, 400
    a = math.exp(-dt)
    cells = Population("x", Rate(gain="linear", initial_std=1.0), size=n)
    model = Model((cells,), (Connection("x", "x", Gaussian(0.0, g)),), Solve("two-time", dt, 2.0))
    s = simulate_transient(model, duration=2.0, draws=12)
    from math import comb

    def exact(t, u):
        """sum over the number of couplings k: choose the steps in which they act."""
        return sum(
            comb(t, k) * comb(u, k) * a ** (t + u - 2 * k) * ((1 - a) * g) ** (2 * k) for k in range(min(t, u) + 1)
        )

    for t, u in ((0, 0), (5, 5), (20, 20), (20, 8)):
        value, error = s["second"].value[0, t, u], s["second"].error[0, t, u]
        assert abs(value - exact(t, u)) < 4.5 * error + 2.0 / n * exact(t, u), (t, u, value, exact(t, u), error)
        assert error < 0.05 * exact(0, 0)
    assert s["population_covariance"].value[0, 0, 0, 0] == pytest.approx(1 / n, rel=1.5)


def test_comparison_of_a_linear_network_with_its_theory():
    """Variance of x by the self-consistent spectrum on the grid; a theory that is 10 % off is seen."""
    from scipy.integrate import quad

    g, a = 0.5, math.exp(-0.1)
    # S |e^{iw} - a|^2 = (1 - a^2) + (1 - a)^2 g^2 S
    variance = quad(
        lambda w: (1 - a * a) / (1 + a * a - 2 * a * math.cos(w) - ((1 - a) * g) ** 2) / math.pi, 0, math.pi
    )[0]
    theory = {"mean": [0.0], "state_variance": ([variance], [0.0]), "lags": [0.0, 1.0],
              "autocovariance": [[variance, variance]]}
    simulation = {"duration": 300.0, "warmup": 20.0, "max_lag": 0.2, "draws": 6, "neurons": 100, "pairs": False}
    both = compare(linear(50, g), 200, theory, **simulation)
    row = both.row("state_variance")
    assert abs(row.z) < 4.5
    assert abs(row.relative) < 0.03
    assert "state_variance" in both.table()
    assert both.as_json()["error_from"] == "networks"
    wrong = beside({"state_variance": ([1.1 * variance], [0.0])}, both.statistics)
    assert abs(wrong.row("state_variance").z) > 4.5


def measured_process(first, n_draws, a=0.8, dt=0.5, n=12, n_steps=8192):
    """NetworkStatistics of independent AR(1) processes, and a solution with their autocovariance a^k."""
    found = []
    for draw in range(n_draws):
        recorder = Recorder([n], dt, n_steps, 64, neurons=n, pairs=False)
        recorder.add([autoregressive(recorder.n_steps, n, a, 0.0, 0.0, first + draw)])
        found.append(summarize(recorder))
    model = Model((Population("x", Rate(), size=n),), ())
    values = {name: combine([f[name] for f in found], recorder.segments) for name in found[0]}
    statistics = NetworkStatistics(model, dt, dt * np.arange(65), np.fft.rfftfreq(recorder.block, dt), dt, values,
                                   "networks" if n_draws >= 3 else "time", "steps")
    lags = np.arange(65)
    x = PopulationResult({"mean": (1.5, 0.0), "autocovariance": (a**lags, np.zeros(65))})
    return statistics, Solution("stationary", "closed", dt * lags, {"x": x}, model, notes=["cut off at 32"])


@pytest.mark.parametrize("n_draws", [1, 6])
def test_spectra_in_bands_have_the_errors_of_bands(n_draws, monkeypatch):
    """z of 18 bands of several networks, one or six draws each.  Mutant: neighboring frequencies as independent."""
    z, mutant = [], []
    for trial in range(6 if n_draws == 1 else 3):
        statistics, solution = measured_process(10 + 100 * trial, n_draws)
        both, f = beside(solution, statistics), statistics.frequencies
        assert "theory: cut off at 32" in both.notes
        rows = both.bands(f[np.arange(2, 127, 7)])
        z += [r.z for r in rows]
        assert all(r.network_error < 0.06 * r.theory for r in rows)
        with monkeypatch.context() as patch:
            patch.setattr("lft.meanfield.compare.HANN", (1.0,))
            mutant += [r.z for r in both.bands(f[np.arange(2, 127, 7)])]
    # several draws: Student's t with 5 degrees of freedom
    z = np.array(z) / (1.0 if n_draws == 1 else math.sqrt(5 / 3))
    assert abs(z.mean()) < 4.5 / math.sqrt(len(z)) and 0.75 < z.std() < 1.2
    assert n_draws > 1 or np.std(mutant) > 1.2
    flat = 0.5 * (1 - 0.8**2) / np.abs(1 - 0.8 * np.exp(-2j * np.pi * f * 0.5)) ** 2
    assert both.theory["spectrum"][0][0, 2] == pytest.approx(flat[2], rel=0.1)
    assert both.theory["spectrum"][0][0, 40:] == pytest.approx(flat[40:], rel=0.01)
    assert len([r for r in both.rows if r.name == "spectrum"]) == 7
    assert within(rows, 0.05, 3.0) > 0.9 > within(rows, 0.0, 0.5)
    with pytest.raises(InputError, match="no frequency of the network"):
        both.bands([0.1, 0.1001])


def test_binary_network_in_steps_agrees_with_events():
    """The same law in discrete time with dt = 0.02 tau, by the neuron's own rule."""
    model = Model((Population("x", Binary(), size=400, input=2.05),),
                  (Connection("x", "x", FixedIndegree(100, -0.1)),), Solve("stationary", 0.02, 10.0))
    common = {"warmup": 10.0, "max_lag": 1.0, "draws": 4, "neurons": 100, "pairs": False}
    events = simulate_network(model, duration=200.0, dt=0.2, **common)
    steps = simulate_network(model, duration=110.0, sample_every=10, method="steps", **common)
    assert (events.method, steps.method) == ("events", "steps")
    for name, bias in (("mean", 0.002), ("autocovariance", 0.02)):
        a, b = events[name], steps[name]
        difference = np.abs(a.value - b.value).ravel()
        assert np.all(difference < 4.5 * np.hypot(a.error, b.error).ravel() + bias * np.abs(a.value).max()), name


def test_sizes_of_a_comparison():
    model = Model((Population("e", Rate(), size=80), Population("i", Rate(), size=20)), (), None)
    assert [p.size for p in resize(model, 500).populations] == [400, 100]
    assert [p.size for p in resize(model, {"i": 7}).populations] == [80, 7]
    for size, words in ((1, "size"), ({"x": 3}, "valid are e, i"), ({"i": 2.5}, "2.5")):
        with pytest.raises(InputError, match=words):
            resize(model, size)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"duration": 10.0, "max_lag": 5.0}, "valid is at least 8"),
    ({"duration": 10.0, "max_lag": 0.1, "draws": 0}, "draws = 0"),
])
def test_bad_measurements(arguments, words):
    with pytest.raises(InputError, match=words):
        simulate_network(linear(10), warmup=1.0, **arguments)


def test_times_of_a_comparison_come_from_the_settings():
    model = Model((Population("x", Rate("linear", tau=0.5, noise=0.5), size=30),), (), Solve("stationary", 0.1, 10.0))
    assert default_simulation(model) == {"duration": 400.0, "warmup": 20.0, "max_lag": 5.0}
    both = compare(model, 40, draws=3, pairs=False)
    assert both.statistics.lags[-1] == pytest.approx(5.0)
    assert both.row("state_variance").theory == pytest.approx(1.0, rel=1e-3)  # s2/tau
    assert abs(both.row("state_variance").relative) < 0.1
    with pytest.raises(InputError, match="no \\[solve\\]"):
        compare(Model(model.populations, ()), 40)
    with pytest.raises(InputError, match="row 'median'"):
        both.row("median")


def test_alternate_blocks_would_not_be_independent():
    """Why the halves of the time are used: with blocks in turn, slow processes look correlated in pairs."""
    x = autoregressive(6400, 40, 0.97, 0.0, 0.0, 7)
    blocks = x.reshape(-1, 32, 40)

    def spread(first, second):
        c = [np.cov(b.reshape(-1, 40).T) for b in (first, second)]
        return pair_statistics(*c, [40], [40])["pair_spread"][0, 0]

    halves, turns = spread(blocks[:100], blocks[100:]), spread(blocks[::2], blocks[1::2])
    assert abs(halves) < 0.25 * turns
