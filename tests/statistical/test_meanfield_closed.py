"""Closed forms of the mean-field theory against published and independently computed numbers, and each other."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import erf, i0

from lft.errors import ConvergenceError
from lft.meanfield.matching.portrait import portrait
from lft.meanfield.model import Connection, FixedIndegree, Gaussian, InputNoise, Model, Population, Solve
from lft.meanfield.network.run import simulate_network
from lft.meanfield.neurons import LIF, Binary, EscapeRate, Rate
from lft.meanfield.neurons.gains import GAINS
from lft.meanfield.saddle.closed import mean_gain, pair_matrix, pair_moment, relu_moment, siegert, step_pair
from lft.meanfield.saddle.mixing import fixed_point
from lft.meanfield.solver import solve, solve_from


def network(neuron, weights, mode="stationary", dt=0.05, duration=100.0, size=None, drive=0.0, **settings):
    connections = (Connection("x", "x", weights),) if weights else ()
    return Model((Population("x", neuron, size, drive),), connections, Solve(mode, dt, duration, **settings))


# ---- Gaussian averages
@pytest.mark.parametrize("name", GAINS)
@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_pair_moments_against_quadrature(name, mean):
    """E[f(x) g(y)] by an integral over y of f(y) E[f(x) | y], each by adaptive quadrature."""
    gain, variance, covariance = GAINS[name], 1.3, 0.7
    s, rho = math.sqrt(variance), covariance / variance
    kinks = [-mean / s] if name in ("relu", "heaviside", "sign") else None

    def given(z):
        inner = mean + covariance / s * z
        width = math.sqrt(variance * (1 - rho**2))
        points = [-inner / width] if kinks else None
        f = lambda u: float(gain(np.array(inner + width * u))) * math.exp(-u * u / 2)  # noqa: E731
        return quad(f, -9, 9, points=points, limit=200, epsabs=1e-11)[0] / math.sqrt(2 * math.pi)

    whole = lambda z: float(gain(np.array(mean + s * z))) * given(z) * math.exp(-z * z / 2)  # noqa: E731
    exact = quad(whole, -9, 9, points=kinks, limit=200, epsabs=1e-9)[0] / math.sqrt(2 * math.pi)
    value = float(pair_moment(gain, mean, variance, np.array([covariance]))[0])
    assert value == pytest.approx(exact, rel=2e-7, abs=2e-8)
    assert float(pair_moment(gain, mean, variance, np.array([0.95 * covariance]))[0]) != pytest.approx(exact, rel=1e-3)


def test_price_theorem():
    """d/dC E[phi phi] = E[phi' phi']."""
    step = 1e-4
    for name in ("tanh", "erf", "logistic", "erfc"):
        gain = GAINS[name]
        c = np.array([0.6 - step, 0.6 + step])
        low, high = pair_moment(gain, 0.3, 1.2, c)
        slope = pair_moment(dataclasses.replace(gain, name="slope", value=gain.slope), 0.3, 1.2, np.array([0.6]))[0]
        assert (high - low) / (2 * step) == pytest.approx(slope, rel=1e-6)


def test_closed_series_and_matrices_agree():
    """The Hermite series reproduces the closed forms, and the matrix form the vector form."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(6, 6))
    covariance = root @ root.T / 6
    own = dataclasses.replace(GAINS["erf"], name="own")
    assert np.allclose(pair_matrix(GAINS["erf"], np.zeros(6), covariance), pair_matrix(own, np.zeros(6), covariance),
                       rtol=1e-10)
    toeplitz = 1.3 * 0.8 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    for name in ("tanh", "logistic", "relu"):
        whole = pair_matrix(GAINS[name], np.full(5, 0.2), toeplitz)
        line = pair_moment(GAINS[name], 0.2, 1.3, toeplitz[0])
        assert np.allclose(whole[0], line, rtol=1e-3 if name == "relu" else 1e-9)
    assert relu_moment(1e-9, 1.0, np.array([0.3])) == pytest.approx(relu_moment(0.0, 1.0, np.array([0.3])), rel=1e-7)
    assert step_pair(0.5, np.array([1.0]))[0] == pytest.approx(0.5 * (1 + erf(0.5 / math.sqrt(2))))


def test_siegert_values():
    assert siegert(15.0, 5.0, 0.02, 20.0, 10.0, 0.002) == pytest.approx(9.46080, abs=1e-5)
    assert siegert(10.0, 4.0, 0.02, 20.0, 10.0, 0.002) == pytest.approx(0.122604, abs=1e-6)
    assert siegert(0.0, 0.5, 0.02, 20.0, 10.0) == 0.0
    # without noise: the time from reset to threshold
    assert siegert(30.0, 0.05, 0.02, 20.0, 10.0, 0.002) == pytest.approx(1 / (0.002 + 0.02 * math.log(2)), rel=1e-5)


def test_siegert_fixed_point_of_the_sparse_network():
    """Self-consistent rates of the balanced integrate-and-fire network, model A: 37.950 and 6.517 Hz."""
    for g, eta, rate in ((5.0, 2.0, 37.950), (4.5, 0.9, 6.517)):
        def surplus(r, g=g, eta=eta):
            external = eta * 20.0 / (0.1 * 1000 * 0.02)
            mu = 0.02 * 0.1 * (1000 * external + 1000 * r - 250 * g * r)
            variance = 0.02 * 0.1**2 * (1000 * external + 1000 * r + 250 * g * g * r)
            return siegert(mu, math.sqrt(variance), 0.02, 20.0, 10.0, 0.002) - r

        assert brentq(surplus, 0.5, 200.0) == pytest.approx(rate, abs=2e-3)


# ---- random rate networks
SCS = {  # g: D0, C_phi(0), Delta(1), Delta(2), Delta(5), Delta(10), lambda
    2.0: (1.924805, 0.513178, 1.86300, 1.69966, 1.03458, 0.35106, 0.1125),
    3.0: (5.446326, 0.680581, 5.13179, 4.39586, 2.13894, 0.52661, 0.2354),
}


def potential_root(gain, g, s2=0.0):
    """D0 from V(D0) - V(0) = -s2^2/2, V = -D^2/2 + g^2 (E Phi Phi(D) - E Phi Phi(0)): a way that knows no lags."""
    def energy(d0):
        c = np.linspace(0.0, d0, 2001)
        force = -c + g**2 * pair_moment(gain, 0.0, d0, c)  # dV/dD, since Phi' = phi
        return np.trapezoid(force, c) + s2**2 / 2

    low, high = 1e-3 * g, 4.0 * g**2
    grid = np.geomspace(low, high, 60)
    signs = np.array([energy(d) for d in grid])
    at = np.flatnonzero((signs[:-1] > 0) & (signs[1:] <= 0))[-1]
    return brentq(energy, grid[at], grid[at + 1], xtol=1e-9)


@pytest.mark.parametrize("g", SCS)
def test_transition_to_chaos(g):
    solution = solve(network(Rate("tanh"), Gaussian(0.0, g)))
    d0, c0, *lags, exponent = SCS[g]
    x = solution.populations["x"]
    assert x["state_variance"][0] == pytest.approx(d0, abs=2e-6)
    assert x["output_variance"][0] == pytest.approx(c0, abs=4e-6)
    assert solution.network["lyapunov"][0] == pytest.approx(exponent, abs=1e-4)
    # the covariance of x from that of the output, in the time domain: D'' = D - g^2 C
    c = x["autocovariance"][0]
    t = solution.axis
    kernel = lambda tau: 0.5 * np.trapezoid(  # noqa: E731
        (np.exp(-np.abs(t - tau)) + np.exp(-np.abs(t + tau))) * c, t) * g**2
    assert [kernel(tau) for tau in (1.0, 2.0, 5.0, 10.0)] == pytest.approx(lags, abs=2e-3)


@pytest.mark.parametrize("gain, g", [("tanh", 1.2), ("tanh", 1.7), ("tanh", 4.5), ("erf", 2.0), ("erf", 1.4)])
def test_random_networks_at_other_parameters(gain, g):
    solution = solve(network(Rate(gain), Gaussian(0.0, g)))
    assert solution.populations["x"]["state_variance"][0] == pytest.approx(potential_root(GAINS[gain], g), rel=2e-4)
    wrong = potential_root(GAINS[gain], 1.01 * g)  # mutant: 1 % in g
    assert solution.populations["x"]["state_variance"][0] != pytest.approx(wrong, rel=5e-3)


def test_a_time_constant_only_stretches_time():
    fast = solve(network(Rate("tanh", tau=1.0), Gaussian(0.0, 2.0)))
    slow = solve(network(Rate("tanh", tau=3.0), Gaussian(0.0, 2.0), dt=0.15, duration=300.0))
    a, b = (s.populations["x"]["autocovariance"][0] for s in (fast, slow))
    assert np.allclose(a, b, rtol=1e-6, atol=1e-9)
    assert slow.network["lyapunov"][0] == pytest.approx(fast.network["lyapunov"][0] / 3, rel=1e-4)


def test_below_the_transition_nothing_moves():
    solution = solve(network(Rate("tanh"), Gaussian(0.0, 0.8)))
    assert solution.populations["x"]["state_variance"][0] < 1e-10
    assert solution.network["lyapunov"][0] == pytest.approx(-0.2, abs=1e-3)
    assert any("nothing moves" in note for note in solution.notes)


@pytest.mark.parametrize("s2, g, radius", [(0.25, 1.6741, 1.101), (0.5, 1.9557, 1.158)])
def test_noise_driven_transition(s2, g, radius):
    """At the transition D0 = g^2 C_phi(0), lambda = 0, and the local radius exceeds 1: expansive, not chaotic."""
    solution = solve(network(Rate("tanh", noise=s2), Gaussian(0.0, g)))
    x = solution.populations["x"]
    assert x["state_variance"][0] == pytest.approx(g**2 * x["output_variance"][0], rel=3e-4)
    assert abs(solution.network["lyapunov"][0]) < 3e-4
    assert solution.network["spectral_radius"][0] == pytest.approx(radius, abs=1e-3)
    assert solve(network(Rate("tanh", noise=s2), Gaussian(0.0, 1.1 * g))).network["lyapunov"][0] > 0.01


def test_linear_network_with_noise_is_exact():
    """x' = -x + g J x + xi: C(tau) = s2/k exp(-k |tau|), k = sqrt(1 - g^2)."""
    for g, s2, color in ((0.5, 1.0, 0.0), (0.9, 0.3, 0.0), (0.6, 1.0, 0.7)):
        x = solve(network(Rate("linear", noise=s2, noise_tau=color), Gaussian(0.0, g))).populations["x"]
        if not color:
            exact = s2 / math.sqrt(1 - g * g)
        else:
            power = lambda w, g=g, c=color: 2 / ((1 + w * w - g * g) * (1 + (w * c) ** 2)) / (2 * np.pi)  # noqa: E731
            exact = s2 * 2 * quad(power, 0, np.inf)[0]
        value, error = x["output_variance"]
        assert value == pytest.approx(exact, rel=2e-4) and abs(value - exact) < 5 * error


# ---- binary networks
A_SIGN = {0.5: 0.75865, 1: 0.56773, 1.5: 0.42247, 2: 0.31351, 2.5: 0.23231, 3: 0.17202, 4: 0.09421, 5: 0.05157}


@pytest.mark.parametrize("g", [0.5, 3.0])
def test_asynchronous_signs(g):
    """A'' = A - (2/pi) asin A, whatever g."""
    x = solve(network(Binary(levels="pm1"), Gaussian(0.0, g), dt=0.01, duration=60.0)).populations["x"]
    a, dt = x["autocovariance"][0], 0.01
    assert [a[round(t / dt)] for t in A_SIGN] == pytest.approx(list(A_SIGN.values()), abs=2e-5)
    assert np.trapezoid(a, dx=dt) == pytest.approx(1.717079, abs=2e-5)
    assert (a[1] - a[0]) / dt == pytest.approx(-math.sqrt(4 / math.pi - 1), abs=5e-3)


@pytest.mark.parametrize("n, k, j, drive, m", [(2000, 100, 1, 2.05, 0.2349), (2000, 400, 1, 4.025, 0.2157),
                                               (4000, 400, 2, 3.05, 0.0945)])
def test_inhibitory_binary_networks(n, k, j, drive, m):
    weights = FixedIndegree(k, -j / math.sqrt(k))
    x = solve(network(Binary(), weights, dt=0.02, duration=40.0, size=n, drive=drive)).populations["x"]
    assert x["mean"][0] == pytest.approx(m, abs=6e-5)
    exact = brentq(lambda y: mean_gain(GAINS["heaviside"], drive - j * math.sqrt(k) * y,
                                       j * math.sqrt((1 - k / n) * (y - y * y))) - y, 0.01, 0.9)
    assert x["mean"][0] == pytest.approx(exact, rel=1e-8)
    assert x["frozen_variance"][0] < 1e-12 and x["output_variance"][0] == pytest.approx(exact * (1 - exact), rel=1e-6)


def test_population_covariance_of_linear_populations_is_exact():
    """Y' = -Y + M Y + noise/N: the Lyapunov equation; the random part of the weights enters through A alone."""
    from scipy.linalg import solve_continuous_lyapunov

    mean = np.array([[0.3, -0.9], [0.8, -0.4]])
    cells = tuple(Population(p, Rate("linear", noise=s), n) for p, s, n in (("a", 0.5, 100), ("b", 0.2, 300)))
    links = tuple(Connection("ab"[j], "ab"[i], Gaussian(mean[i, j], 0.0)) for i in range(2) for j in range(2))
    solution = solve(Model(cells, links, Solve("stationary", 0.01, 40.0)))
    value, error = solution.network["population_covariance"]
    exact = solve_continuous_lyapunov(mean - np.eye(2), -np.diag([2 * 0.5 / 100, 2 * 0.2 / 300]))
    assert np.allclose(value, exact, rtol=2e-3, atol=2e-6)
    assert (np.abs(value - exact) < 10 * error + 1e-3 * np.abs(exact).max()).all()
    unstable = tuple(dataclasses.replace(c, weights=Gaussian(1.5 * (c.source == c.target), 0.0)) for c in links)
    with pytest.raises(ConvergenceError, match=r"not stable|without bound"):
        solve(dataclasses.replace(solution.model, connections=unstable))


def test_synchronous_signs_follow_the_map():
    """C_(t+1) = (2/pi) asin C_t has 0 as its attractor: in the stationary state lags are independent."""
    solution = solve(network(Binary(levels="pm1", update="synchronous"), Gaussian(0.0, 1.0), dt=1.0, duration=40.0))
    a, error = solution.populations["x"]["autocovariance"]
    assert a[0] == pytest.approx(1.0) and np.abs(a[1:]).max() < 1e-3
    assert error.max() < 1e-3  # of a grid twice as coarse, but not across the jump at lag 0


@pytest.mark.parametrize("mean", [-0.6, 0.5])
def test_populations_of_synchronous_neurons_follow_a_map(mean):
    """``Y(k + 1) = S M Y(k) + noise``: Var Y = A(0)/N/(1 - (S M)^2); the next mode overshoots from step to step."""
    cell = Binary("erfc", width=0.6, levels="pm1", update="synchronous")
    solution = solve(network(cell, Gaussian(mean, 0.4), dt=1.0, duration=60.0, size=300))
    x = solution.populations["x"]
    loop = mean * x["response"][0]
    value = solution.network["population_covariance"][0][0, 0]
    assert 0.5 < abs(loop) < 0.8 and value == pytest.approx(x["autocovariance"][0][0] / 300 / (1 - loop**2), rel=1e-6)
    measured = simulate_network(solution.model, duration=3000.0, warmup=50.0, max_lag=3.0, draws=6, seed=3, pairs=False)
    seen = measured["population_covariance"]
    z = (seen.value[3, 0, 0] - value) / seen.error[3, 0, 0]
    assert abs(z) < 4.5 and seen.error[3, 0, 0] < 0.05 * value
    assert portrait(solution.model).values["unstable_modes"][0] == 0
    wrong = value * (1 - loop**2) / (1 - loop) ** 2  # a response without a delay
    assert abs(seen.value[3, 0, 0] - wrong) > 10 * seen.error[3, 0, 0]


@pytest.mark.parametrize("drive", [0.0, 0.3])
def test_synchronous_neurons_that_overshoot_have_no_stationary_state(drive):
    cell = Binary("erfc", width=0.6, levels="pm1", update="synchronous")
    with pytest.raises(ConvergenceError, match="not stable") as found:
        solve(network(cell, Gaussian(-1.6, 0.2), dt=1.0, duration=60.0, drive=drive))
    assert found.value.history


def test_linear_escape_rate_network_is_a_hawkes_process():
    """q = m^2/(1 - g^2) and S = m/(1 - g^2 |kappa|^2), while the intensity stays positive (4 s.d.)."""
    r, g, tau_s = 40.0, 0.2, 0.02
    link = Connection("x", "x", Gaussian(0.0, g), synapse=tau_s)
    cells = Population("x", EscapeRate(gain="linear", rate=1.0), input=r)
    x = solve(Model((cells,), (link,), Solve("stationary", 0.0005, 0.6))).populations["x"]
    root = math.sqrt(1 - g * g)
    assert x["mean"][0] == pytest.approx(r, rel=1e-4)
    assert x["frozen_variance"][0] == pytest.approx(r * r * g * g / (1 - g * g), rel=1e-3)
    lags = 0.0005 * np.arange(50)
    exact = r * g * g / (2 * tau_s * root) * np.exp(-root * lags / tau_s)
    assert np.allclose(x["autocovariance"][0][:50], exact, rtol=2e-3)
    assert not np.allclose(x["autocovariance"][0][:50], exact * (1 - g * g), rtol=2e-3)


# ---- two times
def test_linear_transient_against_bessel():
    """C(t, s) = exp(-(t+s)) I0(2 g sqrt(ts)); exponential Euler is first order in dt."""
    g, t, errors = 0.9, 5.0, []
    for dt in (0.1, 0.05, 0.025):
        x = solve(network(Rate("linear"), Gaussian(0.0, g), "two-time", dt, t)).populations["x"]
        errors.append(x["state_variance"][0][-1] - math.exp(-2 * t) * i0(2 * g * t))
        early = round(t / 2 / dt)
        apart = x["state_covariance"][0][-1, early] - math.exp(-1.5 * t) * i0(2 * g * t * math.sqrt(0.5))
        assert abs(apart) < 0.4 * dt * 0.25 and np.allclose(*(x[k][0] for k in ("state_covariance", "covariance")))
    assert errors[0] == pytest.approx(0.0551 - 0.0496, abs=1e-4)
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.15)
    assert errors[1] / errors[2] == pytest.approx(2.0, abs=0.1)


def test_erf_transient():
    x = solve(network(Rate("erf"), Gaussian(0.0, 1.5), "two-time", 0.1, 12.0)).populations["x"]
    v = x["state_variance"][0]
    assert [v[50], v[119]] == pytest.approx([0.566006, 0.776012], abs=1e-6)
    c, error = x["state_covariance"]
    assert c[50, 100] == pytest.approx(0.238590, abs=1e-6) and np.array_equal(np.diag(c), v) and (error < 1e-6).all()
    q = x["second_moment"][0]
    assert np.allclose(q, q.T) and np.linalg.eigvalsh(q).min() > -1e-12


def test_two_time_solution_becomes_the_stationary_one():
    cell = Rate("tanh", noise=0.5, initial_std=0.3)
    weights = Gaussian(0.4, 0.9)
    late = solve(network(cell, weights, "two-time", 0.1, 16.0, drive=0.5)).populations["x"]
    still = solve(network(cell, weights, drive=0.5)).populations["x"]
    assert late["mean"][0][-1] == pytest.approx(still["mean"][0], rel=2e-3)
    assert late["state_variance"][0][-1] == pytest.approx(still["state_variance"][0], rel=5e-3)


# ---- what is no solution
def test_growth_is_an_error_with_its_history():
    with pytest.raises(ConvergenceError) as caught:
        solve(network(Rate("linear", noise=1.0), Gaussian(0.0, 1.2)))
    assert len(caught.value.history) > 3 and "\n" not in str(caught.value)
    with pytest.raises(ConvergenceError):
        solve(network(Rate("exp"), Gaussian(3.0, 2.0), "two-time", 0.1, 20.0))


def test_several_starts_find_both_states():
    """Strong excitation of a sigmoid: a quiet and an active state; a weak one has one state."""
    found = solve_from(network(Rate("logistic", noise=0.05), Gaussian(12.0, 0.5), drive=-6.0, duration=40.0))
    means = sorted(s.populations["x"]["mean"][0] for _, s in found)
    assert len(found) == 2 and means[0] < 0.05 and means[1] > 0.95
    single = solve_from(network(Rate("logistic", noise=0.05), Gaussian(2.0, 0.5), drive=-1.0, duration=40.0))
    assert len(single) == 1


@pytest.mark.parametrize("method", ["closed", "sampling"])
def test_a_second_state_is_said_and_found(method):
    """Binary neurons that hold each other up: low from the guess, with a note of the high state."""
    cell, weights = Binary("erfc", threshold=1.0, width=0.3), FixedIndegree(100, 0.02)
    model = network(cell, weights, dt=0.1, duration=20.0, size=2000, method=method, samples=256, sweeps=12)
    low = solve(model)
    said = [n for n in low.notes if n.startswith("from high inputs another state")]
    assert low.populations["x"]["mean"][0] < 0.01 and len(said) == 1 and "mean outputs x 0.9" in said[0]
    means = [s.populations["x"]["mean"][0] for _, s in solve_from(model)]
    assert len(means) == 2 and max(means) > 0.99
    single = dataclasses.replace(model, connections=(Connection("x", "x", FixedIndegree(100, 0.008)),))
    assert not [n for n in solve(single).notes if "another state" in n] and len(solve_from(single)) == 1


def test_a_state_far_above_the_start_is_found():
    """Spikes in Hz: the threshold is far beyond the reach of a single output."""
    cell = EscapeRate("erfc", rate=100.0, threshold=20.0, width=4.0)
    cells = Population("x", cell)
    model = Model((cells,), (Connection("x", "x", Gaussian(0.4, 0.02), synapse=0.1),), Solve("stationary", 0.005, 2.0))
    (_, quiet), (start, active) = solve_from(model)
    assert start == "high" and quiet.populations["x"]["mean"][0] < 1e-3
    assert active.populations["x"]["mean"][0] == pytest.approx(50 * math.erfc(-20 / 4 / math.sqrt(2)), rel=1e-3)


def test_fixed_points_of_maps():
    matrix = np.array([[0.0, -3.0], [0.2, 0.1]])
    x, history = fixed_point(lambda x: matrix @ x + 1.0, np.zeros(2), damping=0.5)
    assert np.allclose(x, np.linalg.solve(np.eye(2) - matrix, np.ones(2)), rtol=1e-9) and len(history) < 60
    with pytest.raises(ConvergenceError, match="not finite"):
        fixed_point(lambda x: x * np.inf, np.ones(1))
    with pytest.raises(ConvergenceError, match="no convergence in 30"):
        fixed_point(lambda x: x + 1.0, np.zeros(1), max_sweeps=30, depth=0)


def test_white_noise_on_an_unfiltered_gain_is_refused():
    noisy = Population("x", Binary(), noise=InputNoise(1.0))
    with pytest.raises(ValueError, match="variance is infinite"):
        solve(Model((noisy,), (), Solve("stationary", 0.1, 10.0, method="closed")))
    assert LIF().weight_scale == 0.02
