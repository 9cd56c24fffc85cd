"""Covariances of inhibitory binary networks: feedback through mean, variance and skewness of the input."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import hypergeom

from lft.meanfield.fluctuations.covariance import couplings, population_spectrum
from lft.meanfield.fluctuations.covariance_closed import responses
from lft.meanfield.fluctuations.feedback import binary_moments, effective_means, of_solution
from lft.meanfield.fluctuations.shot_noise import kernel_integral, skewness
from lft.meanfield.matching.portrait import portrait
from lft.meanfield.model import Bernoulli, Connection, FixedIndegree, Gaussian, Model, Population, Solve
from lft.meanfield.network.binary import BinaryNetwork
from lft.meanfield.neurons import Binary, EscapeRate, Rate
from lft.meanfield.neurons.binary import _Scaled
from lft.meanfield.neurons.gains import GAINS
from lft.meanfield.saddle.closed import gain_derivatives, mean_gain
from lft.meanfield.saddle.stationary_closed import solve_closed
from lft.meanfield.solver import solve

# size, indegree, j, drive; covariance without feedback and a simulation of unknown error, both from a reference table
# of numbers; simulations of this project (48, 8 and 8 draws of 2000 to 8000 time constants) and their errors
TABLE = (
    (2000, 100, 1.0, 2.05, 0.01395, 0.01406, 0.014241, 4.0e-5),
    (2000, 400, 1.0, 4.025, 0.00619, 0.00624, 0.006383, 2.1e-5),
    (4000, 400, 2.0, 3.05, 0.00453, 0.00477, 0.004732, 1.4e-5),
)


def inhibitory(n, k, j, drive, dt=0.01):
    cells = Population("x", Binary(), size=n, input=drive)
    weights = (Connection("x", "x", FixedIndegree(k, -j / math.sqrt(k))),)
    return Model((cells,), weights, Solve("stationary", dt, 30.0))


@pytest.mark.parametrize("gain", [*GAINS.values(), _Scaled(GAINS["erfc"], 0.3, 0.7, -1.0, 2.0)])
def test_derivatives_of_mean_gains(gain):
    """Five-point differences of the exact mean; orders mixed up are seen."""
    mean, std, h = 0.4, 1.3, 0.02
    found = gain_derivatives(gain, mean, std, 5)
    x = mean + h * np.arange(-3, 4)
    values = np.array([gain_derivatives(gain, m, std, 4) for m in x])  # every order from the one below
    slope = (values[6] - 9 * values[5] + 45 * values[4] - 45 * values[2] + 9 * values[1] - values[0]) / (60 * h)
    assert found[0] == pytest.approx(float(mean_gain(gain, mean, std)), rel=1e-12)
    assert found[1:] == pytest.approx(slope, rel=1e-4, abs=1e-5)
    assert not found[:-1] == pytest.approx(slope, rel=1e-2, abs=1e-3) or gain.name == "exp"


def test_third_cumulants_by_enumeration():
    """All subsets of the sources; with weights of finite width, E h^3 = E[(J Y1)^3 + 3 J Y1 s^2 Y2]."""
    y, n, k, weight, width = np.array([0.0, 1.0, 1.0, -0.5, 2.0, 0.3, 0.0]), 7, 3, -0.7, 0.4
    moments = tuple(np.mean(y**r) for r in (1, 2, 3))

    def cumulant(sets, probabilities):
        one, two = (np.array([np.sum(y[list(s)] ** r) for s in sets]) for r in (1, 2))
        first = weight * one
        raw = [first, first**2 + width**2 * two, first**3 + 3 * first * width**2 * two]
        m1, m2, m3 = (float(np.dot(probabilities, r)) for r in raw)
        return m3 - 3 * m1 * m2 + 2 * m1**3

    subsets = list(itertools.combinations(range(n), k))
    # the formula is that of large N: (n - k)(n - 2k)/((n - 1)(n - 2)) stands for (1 - k/n)(1 - 2k/n) in small ones
    exact = cumulant(subsets, np.full(len(subsets), 1 / len(subsets)))
    rule = FixedIndegree(k, weight, width)
    alone = dataclasses.replace(rule, weight_std=0.0).third_cumulant(n, moments)
    mixed = rule.third_cumulant(n, moments) - alone
    assert exact == pytest.approx(alone * n * n / ((n - 1) * (n - 2)) + mixed * n / (n - 1), rel=1e-12)
    everything = [s for r in range(n + 1) for s in itertools.combinations(range(n), r)]
    p = np.array([0.3 ** len(s) * 0.7 ** (n - len(s)) for s in everything])
    assert cumulant(everything, p) == pytest.approx(Bernoulli(0.3, weight, width).third_cumulant(n, moments), rel=1e-12)
    assert Gaussian(1.0, 2.0).third_cumulant(n, moments) == 0.0
    assert binary_moments(0.5, (-1.0, 1.0)) == pytest.approx((0.5, 1.0, 0.5))


@pytest.mark.parametrize(("n", "k", "j", "drive"), [row[:4] for row in TABLE] + [(3000, 900, 1.5, 8.025)])
def test_the_loop_of_counts(n, k, j, drive):
    """Updated neurons count their active partners: F(m) is a hypergeometric probability, known for all m."""
    model = inhibitory(n, k, j, drive)
    most = math.floor(drive * math.sqrt(k) / j)

    def rate(active):
        return hypergeom.cdf(most, n, active, k)

    system, state, _ = solve_closed(model)
    near = np.arange(-12, 13) + round(n * state[0])
    fit = np.polynomial.Polynomial.fit(near / n, rate(near), 8)  # between whole numbers of active neurons
    assert np.max(np.abs(fit(near / n) - rate(near))) < 1e-8
    m = brentq(lambda x: fit(x) - x, near[0] / n, near[-1] / n)
    exact = fit.deriv()(m)
    mu, frozen, dynamic = system.inputs(state, 0)
    total = frozen + dynamic[0]
    (weight,), notes = effective_means(model, system.forms, [state[0]], [mu], [total])
    slope = gain_derivatives(GAINS["heaviside"], mu, math.sqrt(total), 1)[1]
    assert not notes
    assert weight * slope == pytest.approx(exact, rel=0.25 / (k * m))  # the next term of the series
    plain = model.statistics(model.connections[0]).mean  # mutants: the mean weight alone, and twice the correction
    assert abs(plain * slope / exact - 1) > 2 * abs(weight * slope / exact - 1)
    assert abs((2 * weight - plain) * slope / exact - 1) > 2 * abs(weight * slope / exact - 1)


@pytest.mark.parametrize(("n", "k", "j", "drive", "plain", "page", "simulated", "error"), TABLE)
def test_covariances_of_the_table(n, k, j, drive, plain, page, simulated, error):
    """Within 3 % of every simulation; without feedback the numbers of section 4, which miss this project's."""
    model = inhibitory(n, k, j, drive)
    solution = solve(model)
    value, grid = (n * x[0, 0] for x in solution.network["population_covariance"])
    assert grid < 0.003 * value
    assert value == pytest.approx(page, rel=0.03) and value == pytest.approx(simulated, rel=0.03)
    assert abs(value - simulated) < 60 * value / n + 4.5 * error  # the next order, 1/N
    system, state, _ = solve_closed(model)
    power = np.fft.rfft(system.grid.whole(system.output(state, 0))).real
    spectrum = population_spectrum(responses(system, state), couplings(model, system.grid.omega), power[None], [n])
    bare = n * np.fft.irfft(spectrum[:, 0, 0], system.grid.n)[0]
    assert bare == pytest.approx(plain, rel=0.005)
    assert abs(bare - simulated) > 1.5 * abs(value - simulated)
    m, w = state[0], -1.0 / (1.0 - (responses(system, state)[0, 0] * couplings(model, [0.0])[0, 0, 0]).real)
    assert abs(-w * m * (1 - m) / simulated - 1) > 0.2  # mutant: an exponential autocovariance


def test_portraits_and_measured_responses_take_the_same_loop():
    model = inhibitory(2000, 100, 1.0, 2.05, 0.02)
    solution = solve(model)
    (weight,), _ = of_solution(model, solution.populations)
    seen = portrait(model)
    assert seen["population_covariance"][0] == pytest.approx(solution.network["population_covariance"][0], rel=1e-9)
    slope = solution.populations["x"]["response"][0]
    assert seen["mean_loop"][0] == pytest.approx(weight * slope, rel=1e-9)


def test_what_is_left_out_is_said():
    """Three strong synapses are not nearly Gaussian; filtered outputs, and those of other neurons, have M alone."""
    few = inhibitory(1000, 3, 1.0, 0.0)
    cells = dataclasses.replace(few.populations[0], neuron=Binary(gain="erfc", threshold=2.0))
    few = solve(dataclasses.replace(few, populations=(cells,)))
    assert any("skewness" in note for note in few.notes)
    model = inhibitory(2000, 100, 1.0, 2.05)
    filtered = dataclasses.replace(model, connections=(dataclasses.replace(model.connections[0], synapse=0.1),))
    forms = [Binary().closed_form]
    assert effective_means(filtered, forms, [0.23], [-0.3], [0.17]) == ([-10.0], [])
    rate = Model((Population("x", Rate("tanh"), 100),), (Connection("x", "x", Bernoulli(0.1, 1.0)),))
    assert effective_means(rate, [Rate("tanh").closed_form], [0.1], [0.1], [0.2]) == ([10.0], [])


@pytest.mark.validate
def test_the_rest_falls_with_the_size():
    """N Var(Y) of networks of 500 to 4000 neurons above the theory by c/N: the same c, and nothing left at 1/N -> 0."""
    apart = []
    for n, draws, duration in ((500, 48, 2000.0), (1000, 32, 2000.0), (4000, 24, 2000.0)):
        model = inhibitory(n, 100, 1.0, 2.05)
        theory = n * solve(model).network["population_covariance"][0][0, 0]
        found = []
        for draw in range(draws):
            network = BinaryNetwork(model, dt=0.25, seed=11, draw=draw)
            network.advance(160)
            y = np.concatenate([network.advance(400)[0].mean(axis=1) for _ in range(round(duration / 100))])
            found.append(n * y.var() / theory - 1)
        apart.append((1 / n, np.mean(found), np.std(found, ddof=1) / math.sqrt(draws)))
    x, y, error = np.array(apart).T
    design = np.stack([np.ones(3), x], axis=1) / error[:, None]
    covariance = np.linalg.inv(design.T @ design)
    rest, slope = covariance @ design.T @ (y / error)
    assert abs(rest) < 4.5 * math.sqrt(covariance[0, 0]) and math.sqrt(covariance[0, 0]) < 0.004
    assert slope / math.sqrt(covariance[1, 1]) > 4.5


@pytest.mark.parametrize("taus", [(0.02,), (0.02, 0.005), (0.01, 0.01)])
def test_integrals_of_filters(taus):
    t = np.arange(0.0, 0.5, 1e-6) + 5e-7
    kernel = np.exp(-t / taus[0]) / taus[0]
    if len(taus) == 2:
        a, b = taus
        kernel = (np.exp(-t / a) - np.exp(-t / b)) / (a - b) if a != b else t / a**2 * np.exp(-t / a)
    for power in (2, 3):
        assert kernel_integral(power, *taus) == pytest.approx(1e-6 * np.sum(kernel**power), rel=2e-4)


@pytest.mark.parametrize("weights", [FixedIndegree(12, 0.03, 0.02), Bernoulli(0.02, -0.04)])
def test_skewness_of_shot_noise(weights):
    """Against the input of many neurons that each draw their weights, behind synapse and membrane, exactly filtered."""
    rate, size, tau, synapse, n, dt = 8.0, 1000, 0.02, 0.01, 4000, 0.001
    cells = Population("x", EscapeRate(tau=tau), size=size)
    model = Model((cells,), (Connection("x", "x", weights, synapse=synapse),))
    rng, first, second = np.random.default_rng(3), np.zeros(n), np.zeros(n)
    if isinstance(weights, FixedIndegree):
        own = weights.weight + weights.weight_std * rng.standard_normal((n, weights.indegree))
    else:
        own = np.where(np.arange(60) < rng.binomial(size, weights.probability, (n, 1)), weights.weight, 0.0)
    values = []
    for step in range(600):
        spikes = np.sum(own * rng.poisson(rate * dt, own.shape), axis=1) * (1 - np.exp(-dt / synapse)) / dt
        first = first * np.exp(-dt / synapse) + spikes
        second += dt / tau * (first - second)
        if step > 100 and step % 50 == 0:
            values.append(second.copy())
    # the frozen spread of the weights is not the shot noise: each neuron about its own mean
    x = np.concatenate(values) - np.tile(rate * own.sum(axis=1), len(values))
    found = np.mean(x**3) / np.mean(x**2) ** 1.5
    parts = [np.mean(v**3) / np.mean(v**2) ** 1.5 for v in np.array_split(x, 20)]
    error = np.std(parts, ddof=1) / np.sqrt(20)
    expected = skewness(model, [rate])[0]
    assert abs(found - expected) < 4.5 * error + 0.06 * abs(expected)  # 0.06: K/N, grid
    assert error < 0.06 * abs(expected) and abs(expected + found) > 10 * error


def test_few_synapses_are_said():
    few = Connection("x", "x", FixedIndegree(60, -0.02), synapse=0.008)
    cells = Population("x", EscapeRate("erfc", rate=60.0, threshold=1.0, width=1.0, tau=0.01), size=600)
    notes = solve(Model((cells,), (few,), Solve("stationary", 0.001, 0.3))).notes
    assert [n for n in notes if "skewness of -0.5" in n and "input = 'shot'" in n]
    many = dataclasses.replace(few, weights=FixedIndegree(60, -0.002))
    assert not [n for n in solve(Model((cells,), (many,), Solve("stationary", 0.001, 0.3))).notes if "skewness" in n]
