"""Closed forms of random networks: reference values, exact linear networks, and the broken twins of the formulas."""

import math

import numpy as np
import pytest

from lft.errors import InputError
from lft.meanfield.fluctuations.covariance import (
    coherence,
    coupling,
    couplings,
    determinant,
    pair_covariance,
    population_covariance_in_time,
    population_spectrum,
    spectral_radius,
    spectrum_to_covariance,
    unstable_modes,
)
from lft.meanfield.fluctuations.potential import critical_coupling, rate_potential
from lft.meanfield.fluctuations.spread import (
    decay_length,
    equal_frequency_spread,
    equal_time_spread,
    participation_ratio,
    product_spread,
    radius_of_spread,
    relative_spread,
    ring_spread,
)
from lft.meanfield.model import Connection, FixedIndegree, Gaussian, Model, Population, Solve
from lft.meanfield.network.measure import pair_statistics
from lft.meanfield.network.weights import draw_weights, network_key
from lft.meanfield.neurons.binary import Binary
from lft.meanfield.neurons.rate import Rate
from lft.meanfield.solver import solve

# ---- the potential
SCS = {  # g: D0, C_phi(0), Delta(1), (2), (5), (10), E0, lambda, <phi'>, PR/N
    2.0: (1.924805, 0.513178, 1.86300, 1.69966, 1.03458, 0.35106, -0.23756, 0.1125, 0.48682, 0.0197),
    3.0: (5.446326, 0.680581, 5.13179, 4.39586, 2.13894, 0.52661, -0.52634, 0.2354, 0.31942, 0.0447),
}


@pytest.mark.parametrize("g", SCS)
def test_chaotic_rate_network(g):
    d0, c0, d1, d2, d5, d10, e0, exponent, slope, dimension = SCS[g]
    p = rate_potential("tanh", g)
    assert p.variance == pytest.approx(d0, abs=1e-6)
    assert p.output_variance == pytest.approx(c0, abs=2e-6)
    assert p.autocovariance([1.0, 2.0, 5.0, 10.0]) == pytest.approx([d1, d2, d5, d10], abs=2e-5)
    low, zero = p.levels(step=0.04)
    assert low == pytest.approx(e0, abs=4e-5)
    assert abs(zero) < 4e-5
    assert -1 + math.sqrt(1 - low) == pytest.approx(exponent, abs=1e-4)
    assert p.mean_slope == pytest.approx(slope, abs=1e-5)
    w, response, power = p.spectra(0.2, 4096)
    spread = equal_time_spread(w, response[None], np.array([[g * g]]), power[None], np.ones(1))[0, 0]
    assert c0**2 / (c0**2 + spread) == pytest.approx(dimension, abs=1e-4)


@pytest.mark.parametrize(("g", "variance"), [(1.1, 0.111063), (1.2, 0.242629)])
def test_variance_near_the_transition(g, variance):
    assert rate_potential("tanh", g).variance == pytest.approx(variance, abs=1e-6)


def test_erf_network():
    p = rate_potential("erf", 2.0)
    assert (p.variance, p.output_variance) == pytest.approx((2.064080, 0.553807), abs=1e-6)
    rho = np.linspace(0, p.variance, 7)
    assert p.output_covariance(rho) == pytest.approx(
        2 / math.pi * np.arcsin(math.pi / 2 * rho / (1 + math.pi / 2 * p.variance)), abs=1e-12
    )


@pytest.mark.parametrize("g", [1.3, 4.0])
def test_autocovariance_obeys_its_equation(g):
    """Delta'' = Delta - g^2 E phi phi(Delta) by central differences; the energy is conserved."""
    p, h = rate_potential("tanh", g), 0.01
    t = np.arange(0, 12, h)
    d = p.autocovariance(t)
    second = (d[2:] - 2 * d[1:-1] + d[:-2]) / h**2
    assert np.max(np.abs(second - (d[1:-1] - g**2 * p.output_covariance(d[1:-1])))) < 2e-4 * p.variance
    energy = 0.5 * np.gradient(d, h)[2:-2] ** 2 + p(d)[2:-2]
    assert np.max(np.abs(energy)) < 1e-4 * p.variance**2


@pytest.mark.parametrize(("s2", "g", "radius"), [(0.25, 1.6741, 1.101), (0.5, 1.9557, 1.158)])
def test_noise_moves_the_transition(s2, g, radius):
    point = critical_coupling("tanh", s2)
    assert point.g == pytest.approx(g, abs=5e-5)
    assert point.local_radius == pytest.approx(radius, abs=5e-4)
    assert abs(point.lyapunov(0.04)) < 1e-4
    assert rate_potential("tanh", 0.9 * g, s2).lyapunov(0.08) < -0.01
    assert rate_potential("tanh", 1.1 * g, s2).lyapunov(0.08) > 0.01
    h = 1e-3
    d = point.autocovariance([0.0, h, 2 * h])
    assert (-1.5 * d[0] + 2 * d[1] - 0.5 * d[2]) / h == pytest.approx(-s2, rel=1e-4)  # the cusp of white noise


def test_linear_gain_with_noise_is_exact():
    """S = 2 s2/(1 + w^2 - g^2): Delta = s2 exp(-k t)/k, k = sqrt(1 - g^2)."""
    g, s2 = 0.6, 0.7
    p = rate_potential("linear", g, s2)
    assert p.variance == pytest.approx(s2 / 0.8, rel=1e-9)
    assert p.autocovariance([0.5, 3.0]) == pytest.approx(s2 / 0.8 * np.exp(-0.8 * np.array([0.5, 3.0])), rel=1e-6)
    # E[phi' phi'] = 1: no bound state, lambda = g - 1 up to the size of the window
    assert p.lyapunov(0.05) == pytest.approx(g - 1, abs=0.02)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: rate_potential("tanh", 0.9), "no active state"),
    (lambda: rate_potential("tanh", -1.0), "g = -1.0"),
    (lambda: rate_potential("tanh", 2.0, -1.0), "s2 = -1.0"),
    (lambda: rate_potential(np.exp, 2.0), "for odd gains"),
    (lambda: rate_potential("relu", 2.0), "gain = 'relu': valid is"),
    (lambda: critical_coupling("tanh", 0.0), "s2 = 0.0"),
    (lambda: relative_spread(1.0), "radius = 1.0"),
    (lambda: radius_of_spread(-0.1), "spread = -0.1"),
    (lambda: decay_length(1.0, 1.0), "radius = 1.0"),
    (lambda: product_spread([1.0], [1.0], [[1.2]], [1.0], [1.0], [10]), "spectral radius of R R V is 1.2"),
    (lambda: ring_spread(1.0, 1.0, np.full(10, 0.2), 1.0, 1.0), "largest |R R V(k)| is 2"),
    (lambda: population_spectrum([[1.0]], np.array([[1.0]]), [[1.0]], [10]), "det(1 - R M) is 0"),
])
def test_bad_input(call, words):
    with pytest.raises(InputError) as caught:
        call()
    assert words in str(caught.value)


# ---- spread of covariances of linear networks
def exact_covariance(w, noise):
    b = np.linalg.inv(np.eye(len(w)) - w)
    return (b * noise) @ b.T


def linear_blocks(sizes, variance, draw, mean=None):
    """Weights of several populations, rows and columns in their order."""
    n = len(sizes)
    return np.block([[
        draw_weights(Gaussian(0.0 if mean is None else mean[a][b], math.sqrt(variance[a][b])), sizes[b],
                     slice(0, sizes[a]), network_key(4, draw), n * a + b).dense()
        for b in range(n)] for a in range(n)])


@pytest.mark.parametrize(("radius", "tolerance"), [(0.3, 0.01), (0.5, 0.015), (0.7, 0.04)])
def test_spread_of_one_population(radius, tolerance):
    found, dimension = [], []
    for draw in range(3):
        c = exact_covariance(linear_blocks([700], [[radius**2]], draw), np.ones(700))
        s = pair_statistics(c, c, [700], [700])
        found.append(700 * s["pair_spread"][0, 0] / s["pair_variance"][0] ** 2)
        dimension.append(s["participation"][0])
    assert np.mean(found) == pytest.approx(relative_spread(radius), rel=tolerance)
    assert radius_of_spread(np.mean(found)) == pytest.approx(radius, rel=tolerance)
    assert np.mean(dimension) == pytest.approx((1 - radius**2) ** 2, rel=tolerance)
    assert participation_ratio(1.0, 1.0, relative_spread(radius) / 700, 701) == pytest.approx((1 - radius**2) ** 2)
    assert abs(np.mean(found) / relative_spread(radius**2) - 1) > 0.2  # the radius for its square


def test_spread_of_two_populations():
    """5 % against the exact covariances of 900 neurons; an untransposed V and sizes mixed up are seen."""
    sizes, variance = np.array([540, 360]), np.array([[0.2, 0.5], [0.1, 0.3]])
    noise, response = np.array([1.0, 2.0]), np.array([1.0, 0.8])
    power = np.linalg.solve(np.eye(2) - response[:, None] ** 2 * variance, response**2 * noise)
    found = []
    for draw in range(3):
        w = np.repeat(response, sizes)[:, None] * linear_blocks(sizes, variance, draw)
        c = exact_covariance(w, np.repeat(response**2 * noise, sizes))
        s = pair_statistics(c, c, sizes, sizes)
        found.append(s["pair_spread"])
        assert s["pair_variance"] == pytest.approx(power, rel=0.01)
    found = np.mean(found, axis=0)
    assert found == pytest.approx(equal_frequency_spread(response, variance, power, sizes), rel=0.05)
    for wrong in (equal_frequency_spread(response, variance.T, power, sizes),
                  equal_frequency_spread(response, variance, power, sizes[::-1])):
        assert np.max(np.abs(wrong / found - 1)) > 0.1


def test_spread_on_a_ring():
    """15 % against exact covariances of a ring with a Gaussian profile."""
    n, s, radius = 700, 60.0, 0.5
    site = np.arange(n)
    distance = np.minimum(site, n - site)
    profile = np.exp(-(distance**2) / (2 * s * s))
    profile *= radius**2 / profile.sum()
    found = np.zeros(5)
    lags = np.array([30, 60, 90, 120, 150])
    for seed in range(3):
        w = np.random.default_rng(seed).normal(size=(n, n)) * np.sqrt(profile[(site[:, None] - site) % n])
        c = exact_covariance(w, np.ones(n))
        found += [np.mean(c[site, (site + lag) % n] ** 2) / 3 for lag in lags]
    power = 1 / (1 - radius**2)
    assert found == pytest.approx(ring_spread(1.0, 1.0, profile, power, power)[lags], rel=0.15)
    flat = ring_spread(1.0, 1.0, np.full(n, radius**2 / n), power, power)[lags]
    assert np.max(np.abs(flat / found - 1)) > 0.3  # the broken twin without distance


def test_ring_with_a_flat_profile_is_one_population():
    flat = ring_spread(0.9, 0.7, np.full((8, 9), 0.5 / 72), 1.3, 1.1)
    one = product_spread([0.9], [0.7], [[0.5]], [1.3], [1.1], [72])[0, 0]
    assert flat == pytest.approx(np.full((8, 9), one), rel=1e-12)


def test_equal_time_spread_of_a_linear_network():
    """Spread of equal-time covariances of x' = -x + W x + noise: Lyapunov's equation is exact."""
    from scipy.linalg import solve_continuous_lyapunov

    g, n = 0.5, 300
    found, variances = [], []
    for draw in range(4):
        step = linear_blocks([n], [[g * g]], draw) - np.eye(n)
        c = solve_continuous_lyapunov(step, -2.0 * np.eye(n))
        s = pair_statistics(c, c, [n], [n])
        found.append(s["pair_spread"][0, 0])
        variances.append(s["pair_variance"][0])
    w = 2 * np.pi * np.fft.fftfreq(1024, 0.08)
    response = 1 / (1 + 1j * w)
    power = 2 / (1 + w * w - g * g)
    assert np.mean(variances) == pytest.approx(1 / math.sqrt(1 - g * g), rel=0.01)
    theory = equal_time_spread(w, response[None], np.array([[g * g]]), power[None], np.array([n]))[0, 0]
    assert np.mean(found) == pytest.approx(theory, rel=0.04)
    doubled = equal_time_spread(w, np.tile(response, (2, 1)), np.full((2, 2), g * g / 2), np.tile(power, (2, 1)),
                                np.array([n / 2, n / 2]))
    assert doubled == pytest.approx(np.full((2, 2), theory), rel=1e-9)  # one population called two


# ---- population covariances
def test_population_covariance_of_a_linear_network():
    """Mean weights alone: 1/N covariances are exact, at w = 0 and at equal times."""
    from scipy.linalg import solve_continuous_lyapunov

    sizes, mean = np.array([50, 30]), np.array([[0.3, -1.2], [0.8, -0.5]])
    w = np.block([[np.full((sizes[a], sizes[b]), mean[a, b] / sizes[b]) for b in range(2)] for a in range(2)])
    project = np.zeros((2, 80))
    project[0, :50], project[1, 50:] = 1 / 50, 1 / 30
    integrated = project @ exact_covariance(w, np.repeat([1.0, 2.0], sizes)) @ project.T
    theory = population_spectrum(np.ones((2, 1)), mean, np.array([[1.0], [2.0]]), sizes)[0]
    assert theory.real == pytest.approx(integrated, rel=1e-10)
    c = solve_continuous_lyapunov(w - np.eye(80), -2 * np.diag(np.repeat([1.0, 2.0], sizes)))
    dt, n = 0.005, 1 << 14
    omega = 2 * np.pi * np.fft.fftfreq(n, dt)
    response = np.tile(1 / (1 + 1j * omega), (2, 1))
    power = np.array([[1.0], [2.0]]) * 2 / (1 + omega**2)
    spectrum = population_spectrum(response, mean, power, sizes)
    assert spectrum_to_covariance(spectrum, dt)[0] == pytest.approx(project @ c @ project.T, rel=0.01)
    own = np.array([c[0, 0] - c[0, 1], c[60, 60] - c[60, 61]])
    pairs = pair_covariance(project @ c @ project.T, own + np.array([c[0, 1], c[60, 61]]), sizes)
    assert pairs == pytest.approx(np.array([[c[0, 1], c[0, 60]], [c[60, 0], c[60, 61]]]), rel=1e-9)
    both = coherence(spectrum)
    assert both[:, 0, 0] == pytest.approx(1.0)
    assert np.all(both[:, 0, 1] <= 1 + 1e-12)


def test_shared_input_is_added():
    r, m, c = 0.5, -1.0, 0.3
    plain = population_spectrum([[r]], [[m]], [[2.0]], [10])[0, 0, 0].real
    shared = population_spectrum([[r]], [[m]], [[2.0]], [10], np.array([[c]]))[0, 0, 0].real
    assert shared - plain == pytest.approx(r * c * r / (1 - r * m) ** 2)


def two_time_response(n, dt):
    """R(t, s) of x' = -x + h in exponential Euler steps: (1 - a) a^(t - s - 1)/dt."""
    a = math.exp(-dt)
    lag = np.arange(n)[:, None] - np.arange(n)
    return np.where(lag > 0, (1 - a) * a ** np.maximum(lag - 1, 0) / dt, 0.0)


def test_population_covariance_in_time_is_exact_for_a_linear_network():
    """From independent starts, with drive switched nowhere: C(t, s) of Y by powers of the step; two populations."""
    sizes, mean, dt, n = np.array([40, 20]), np.array([[0.3, -1.2], [0.8, -0.5]]), 0.1, 25
    a = math.exp(-dt)
    step = a * np.eye(2) + (1 - a) * mean
    start = np.diag([1.0 / 40, 1.0 / 20])
    powers = [np.linalg.matrix_power(step, k) for k in range(n)]
    exact = np.array([[powers[t] @ start @ powers[s].T for s in range(n)] for t in range(n)]).transpose(2, 3, 0, 1)
    single = np.array([np.outer(a ** np.arange(n), a ** np.arange(n))] * 2)
    response = np.array([two_time_response(n, dt)] * 2)
    found = population_covariance_in_time(response, mean, single, sizes, dt)
    assert found == pytest.approx(exact, rel=1e-10, abs=1e-14)
    operators = [[m * np.eye(n) for m in row] for row in mean]
    assert population_covariance_in_time(response, operators, single, sizes, dt) == pytest.approx(found, rel=1e-10)
    late = [[m * np.eye(n, k=-1) for m in row] for row in mean]  # a delay of one step is another network
    delayed = population_covariance_in_time(response, late, single, sizes, dt)
    assert np.max(np.abs(delayed - exact)) > 0.05 * np.max(exact)
    with pytest.raises(InputError, match="t > s"):
        population_covariance_in_time(response.transpose(0, 2, 1), mean, single, sizes, dt)


def test_growing_modes_are_counted():
    """x' = -x + M x(t - d): eigenvalues M - 1 without delay; with delay the Hopf instability of negative feedback."""
    w = np.linspace(-2000, 2000, 400001)
    response = np.tile(1 / (1 + 1j * w), (2, 1))
    mean = np.array([[2.0, 0.0], [0.0, 3.0]])
    assert unstable_modes(w, response, mean) == 2
    assert unstable_modes(w, response, mean - 1.5 * np.eye(2)) == 1
    assert unstable_modes(w, response, -mean) == 0
    one = response[:1]
    # -x - m x(t - d): critical delay arccos(-1/m)/sqrt(m^2 - 1)
    critical = math.acos(-1 / 2.0) / math.sqrt(3.0)
    for delay, modes in ((0.9 * critical, 0), (1.1 * critical, 2)):
        assert unstable_modes(w, one, coupling(-2.0, w, delay)[:, None, None]) == modes
    assert abs(determinant([[0.5]], [[1.0]])[0]) == pytest.approx(0.5)
    with pytest.raises(InputError, match="larger frequencies"):
        unstable_modes(np.linspace(-1, 1, 101), 1 / (1 + 1j * np.linspace(-1, 1, 101))[None], np.array([[3.0]]))


def test_couplings_and_radius_of_a_model():
    e, i = Population("e", Rate(), size=100), Population("i", Rate(), size=50)
    model = Model((e, i), (Connection("e", "i", FixedIndegree(10, 0.2), delay=0.5, synapse=0.1),
                           Connection("i", "i", Gaussian(-1.0, 0.6))), Solve("stationary", 0.1, 10.0))
    m = couplings(model, np.array([0.0, 2.0]))
    assert m[0] == pytest.approx(np.array([[0, 0], [2.0, -1.0]]))
    assert m[1, 1, 0] == pytest.approx(2.0 * np.exp(-1j) / (1 + 0.2j))
    _, variance = model.matrices()
    assert spectral_radius(variance, [1.0, 0.5]) == pytest.approx(0.3)


@pytest.mark.parametrize(("n", "k", "j", "drive", "mean", "variance"), [
    (2000, 100, 1.0, 2.05, 0.2349, 0.01395), (2000, 400, 1.0, 4.025, 0.2157, 0.00619),
    (4000, 400, 2.0, 3.05, 0.0945, 0.00453)])
def test_population_variance_of_binary_networks(n, k, j, drive, mean, variance):
    """N Var(Y) by the sandwich, R = S/(1 + iw) and A of the closed solution; the table has 3 digits.

    The autocovariance of independent updates, m(1 - m) exp(-t), in place of A is off by half.
    """
    cells = Population("x", Binary(), size=n, input=drive)
    model = Model((cells,), (Connection("x", "x", FixedIndegree(k, -j / math.sqrt(k))),),
                  Solve("stationary", 0.01, 40.0, max_lag=20.0))
    solution = solve(model)
    result = solution.populations["x"]
    assert result["mean"][0] == pytest.approx(mean, abs=1e-4)
    spread = math.sqrt(result["state_variance"][0])
    mu = result["state_mean"][0]
    slope = math.exp(-0.5 * (mu / spread) ** 2) / (math.sqrt(2 * math.pi) * spread)
    half, dt = result["autocovariance"][0], 0.01
    whole = np.concatenate([half, half[-2:0:-1]])
    omega = 2 * np.pi * np.fft.fftfreq(len(whole), dt)
    response = slope / (1 + 1j * omega)

    def found(power):
        spectrum = population_spectrum(response[None], couplings(model, omega), power[None], np.array([n]))
        return n * spectrum_to_covariance(spectrum, dt)[0, 0, 0]

    assert found(np.fft.fft(whole).real * dt) == pytest.approx(variance, rel=0.005)
    m = result["mean"][0]  # below, 6 %: the grid of frequencies ends where a jump has not decayed
    independent = found(m * (1 - m) * 2 / (1 + omega**2))
    assert independent == pytest.approx(m * (1 - m) / (1 - slope * couplings(model, [0.0])[0, 0, 0].real), rel=0.06)
    assert independent > 1.3 * variance
