"""Models beside models: portraits against known numbers, parameters matched against closed forms, recordings."""

import math

import numpy as np
import pytest

from lft.errors import ConvergenceError, InputError
from lft.meanfield.matching.match import match
from lft.meanfield.matching.portrait import Portrait, portrait
from lft.meanfield.matching.recorded import recorded
from lft.meanfield.matching.sidebyside import compare_models
from lft.meanfield.model import Connection, FixedIndegree, Gaussian, Model, Population, Solve
from lft.meanfield.network.steps import build_network
from lft.meanfield.neurons import Binary, Rate
from lft.meanfield.neurons.escape import EscapeRate

G = 1.5


def one(neuron, std, size=None, dt=0.05, duration=30.0, name="x", **more):
    weights = (Connection(name, name, Gaussian(0.0, std)),)
    return Model((Population(name, neuron, size=size, **more),), weights, Solve("stationary", dt, duration))


def binary(**more):
    """Levels -1, 1 and a mean output erf(sqrt(pi) h/2), that of the rate neuron's ``erf``."""
    return one(Binary(gain="erfc", width=math.sqrt(2 / math.pi), levels="pm1"), G, name="b", **more)


def noise_of_binary(g):
    """s2 of the rate network whose x has the statistics of the binary network's input: energy at Delta(0) = g^2.

    s2^2 = -2 V(g^2),  V(D) = -D^2/2 + g^2 int_0^D (2/pi) asin(k c) dc,  k = 2 a^2/(1 + 2 a^2 g^2), a^2 = pi/4
    """
    d, a2 = g * g, math.pi / 4
    k = 2 * a2 / (1 + 2 * a2 * d)
    area = d * math.asin(k * d) + (math.sqrt(1 - (k * d) ** 2) - 1) / k
    return math.sqrt(d * d - 2 * g * g * 2 / math.pi * area)


def rate(values, gain="erf"):
    return portrait(one(Rate(gain, tau=values.get("tau", 1.0), noise=values["noise"]), values.get("std", G)))


def test_rate_network_takes_the_noise_of_a_binary_one():
    target = portrait(binary())
    found = match(rate, {"noise": 0.7, "std": 1.2}, target, ["state_autocovariance"])
    (noise, error), (std, std_error) = found.parameters["noise"], found.parameters["std"]
    assert abs(noise - noise_of_binary(G)) < 4.5 * error and noise == pytest.approx(noise_of_binary(G), rel=2e-3)
    assert abs(std - G) < 4.5 * std_error and std == pytest.approx(G, rel=2e-3)
    assert found.misfit < 0.5 and not found.undetermined
    # the whole curve then agrees, where the outputs do not
    both = compare_models(target, found.portrait)
    assert both.row("state_timescale").relative == pytest.approx(0.0, abs=2e-3)
    assert both.row("response").relative == pytest.approx(0.0, abs=2e-3)
    assert both.row("output_variance").relative < -0.2


def test_another_gain_is_rejected():
    """The broken twin: tanh instead of erf cannot have the curve."""
    found = match(lambda v: rate(v, "tanh"), {"noise": 1.2}, portrait(binary()), ["state_autocovariance"])
    assert found.misfit > 5


def test_what_is_not_determined_is_said():
    def linear(values):
        return portrait(one(Rate("linear", noise=values["noise"]), values["std"], dt=0.1))

    found = match(linear, {"noise": 1.0, "std": 0.5}, linear({"noise": 1.2, "std": 0.4}), ["state_variance"])
    assert len(found.undetermined) == 1 and set(found.undetermined[0]) == {"noise", "std"}
    assert all(math.isnan(e) for _, e in found.parameters.values())
    assert found.misfit < 1e-3
    with pytest.raises(InputError, match="valid are"):
        match(linear, {"noise": 1.0, "std": 0.5}, linear({"noise": 1.2, "std": 0.4}), ["size"])


def test_no_solution_is_no_match():
    def linear(values):
        return portrait(one(Rate("linear", noise=1.0), values["std"], dt=0.1))

    with pytest.raises((ConvergenceError, InputError)):
        match(linear, {"std": 1.5}, linear({"std": 0.4}), ["state_variance"])


def test_portraits_have_the_known_numbers():
    chaos = portrait(one(Rate("tanh"), 2.0, size=3200, duration=100.0))
    assert chaos["participation"][0] == pytest.approx(0.0197, rel=0.01)
    assert chaos["spectral_radius"][0] > 1 and chaos["lyapunov"][0] == pytest.approx(0.1125, rel=1e-3)
    inhibitory = Model(
        (Population("x", Binary(threshold=1.0), size=2000, input=3.05),),
        (Connection("x", "x", FixedIndegree(100, -0.1)),),
        Solve("stationary", 0.05, 40.0),
    )
    seen = portrait(inhibitory)
    assert seen["mean"][0][0] == pytest.approx(0.2349, rel=1e-3)
    value, error = (2000 * x[0, 0] for x in seen["population_covariance"])
    assert abs(value - 0.01395) < 4.5 * error and error < 0.02 * value
    assert seen["mean_loop"][0] < -5
    # long windows of a linear network: PR/N = (1 - g^2)^2
    linear = portrait(one(Rate("linear", noise=1.0), 0.5, duration=60.0), window=400.0)
    assert linear["participation"][0] == pytest.approx(0.5625, rel=3e-3)


def test_populations_are_coherent_through_their_weights():
    def two(weight):
        cells = [Population(n, Rate("linear", noise=1.0), size=100) for n in "ab"]
        return portrait(
            Model(tuple(cells), (Connection("a", "b", Gaussian(weight, 0.0)),), Solve("stationary", 0.05, 40.0))
        )

    # b = w a + own noise at frequency 0: |S_ab|^2/(S_aa S_bb) = w^2/(1 + w^2)
    assert two(2.0)["coherence"][0][0, 1] == pytest.approx(0.8, abs=1e-6)
    assert two(0.0)["coherence"][0][0, 1] == pytest.approx(0.0, abs=1e-12)
    curve = two(2.0).curves["coherence_spectrum"][0][0]
    assert curve[0] == pytest.approx(0.8, abs=1e-6) and curve[40] < 0.8


def gaussian_recording(seed, spread, n=24, t=4000):
    """Outputs with known mean 2, variance over units 0.25, covariance matrix of known spread."""
    rng = np.random.default_rng(seed)
    loads = spread * rng.standard_normal((n, 3))
    return 2.0 + 0.5 * rng.standard_normal(n) + rng.standard_normal((t, 3)) @ loads.T + rng.standard_normal((t, n))


def test_statistics_of_recordings_have_calibrated_errors():
    zs, naive = {"mean": [], "frozen_variance": [], "pair_mean": [], "pair_spread": [], "variance": []}, []
    s = 0.3
    truth = {"mean": 2.0, "frozen_variance": 0.25, "pair_mean": 0.0, "pair_spread": 3 * s**4, "variance": 1 + 3 * s * s}
    for seed in range(60):
        y = gaussian_recording(seed, s)
        seen = recorded(y, 1.0, is_rate=False)
        for name, values in zs.items():
            value, error = (x.ravel()[0] for x in seen[name])
            values.append((value - truth[name]) / error)
        c = np.cov(gaussian_recording(seed, 0.0, t=400).T)
        naive.append(np.var(c[~np.eye(24, dtype=bool)]))
    for name, z in zs.items():
        assert abs(np.mean(z)) < 4.5 / math.sqrt(60) + 0.35, name  # a skewed estimate leans to the small side
        assert 0.6 < np.std(z) < 1.7, name
    # the broken twin: the variance over pairs of one matrix holds its sampling noise
    assert np.mean(naive) / (np.std(naive) / math.sqrt(60)) > 4.5
    none = [recorded(gaussian_recording(seed, 0.0), 1.0, False)["pair_spread"] for seed in range(20)]
    assert abs(np.mean([v.item() / e.item() for v, e in none])) < 4.5 / math.sqrt(20)


def spiking(values, size=160, dt=0.01):
    neuron = EscapeRate(gain="exp", rate=values["rate"], tau=0.05)
    return Model(
        (Population("x", neuron, size=size, input=values.get("input", 0.0)),),
        (Connection("x", "x", Gaussian(values["mean"], values["std"])),),
        Solve("stationary", dt, 8.0),
    )


@pytest.mark.validate
def test_parameters_of_a_recorded_network():
    """A network is recorded in bins; the model finds its parameters again, and says that rate and input are one."""
    true = {"rate": 10.0, "std": 0.04, "mean": -0.1}
    network = build_network(spiking(true), dt=0.002, seed=3)
    network.advance(1500)
    counts = (0.002 * network.advance(100000)[0]).reshape(2000, 50, -1).sum(axis=1)
    seen = recorded(counts, 0.1)
    found = match(lambda v: portrait(spiking(v), window=0.1), {"rate": 7.0, "std": 0.02, "mean": -0.05}, seen)
    assert not found.undetermined and found.n_free == 2
    for name, (value, error) in found.parameters.items():
        assert abs(value - true[name]) < 4.5 * error, name
        assert error < 0.5 * abs(value), name
    both = match(lambda v: portrait(spiking(v), window=0.1), {**true, "input": 0.1}, seen)
    (direction,) = both.undetermined
    assert abs(direction["rate"]) > 0.05 and abs(direction["input"]) > 0.05 and abs(direction["std"]) < 0.05


@pytest.mark.validate
def test_a_poor_start_is_left_behind():
    """From a start beside which rates run away, the search begins again elsewhere."""

    def model(values):
        return portrait(spiking({"mean": 0.0, **values}, size=1000, dt=0.02), window=0.1)

    found = match(model, {"rate": 1.0, "std": 0.1}, model({"rate": 6.0, "std": 0.03}), ["mean", "frozen_variance"])
    assert found.parameters["rate"][0] == pytest.approx(6.0, rel=1e-3) and found.misfit < 0.1


def test_a_search_that_creeps_along_a_valley_ends(monkeypatch):
    """A misfit that falls by less than a hundredth per step in a bent valley, beside one that no parameter lowers."""

    def bent(values):
        x, y = values["x"], values["y"]
        numbers = {"mean": 100.0 * (y - x**2), "variance": 1.0 + math.exp(-0.2 * x), "frozen_variance": 3.0}
        pairs = {name: (np.array([v]), np.zeros(1)) for name, v in numbers.items()}
        return Portrait(("x",), pairs, np.zeros(0), np.zeros(0), {})

    target = Portrait(
        ("x",),
        {n: (np.array([v]), np.ones(1)) for n, v in (("mean", 0.0), ("variance", 0.5), ("frozen_variance", 1.0))},
        np.zeros(0),
        np.zeros(0),
        {},
    )
    start = {"x": 1.0, "y": 1.0}
    found = match(bent, start, target, list(target.values))
    assert found.evaluations < 200 and not found.has_settled and "valley" in found.table()
    monkeypatch.setattr("lft.meanfield.matching.match.CREEPING", 10**9)  # the broken twin goes on
    try:
        longer = match(bent, start, target, list(target.values)).evaluations
    except ConvergenceError:
        longer = math.inf
    assert longer > found.evaluations
