"""Structured networks: low rank, shared noise, lattices, partial symmetry, against exact results and networks."""

import dataclasses
import math

import numpy as np
import pytest

from lft.errors import InputError
from lft.meanfield.fluctuations.stability import population_lyapunov
from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
from lft.meanfield.network.run import simulate_network
from lft.meanfield.network.steps import build_network
from lft.meanfield.network.structured import connection_weights, loadings
from lft.meanfield.network.weights import network_key
from lft.meanfield.neurons import Binary, Rate
from lft.meanfield.saddle.stationary_closed import solve_closed
from lft.meanfield.solver import solve
from lft.meanfield.structure.lattice import as_populations, solve_lattice
from lft.meanfield.structure.symmetric import linear_response
from lft.meanfield.structured import LowRank, Profile, SharedNoise, Sites

OVERLAP = 1.8


def low_rank(std=0.6, size=None, **more):
    weights = LowRank(std, (0.0,), (1.0,), (0.0,), (2.0,), ((OVERLAP,),))
    return Model(
        (Population("x", Rate("tanh"), size=size),),
        (Connection("x", "x", weights),),
        Solve("stationary", 0.1, 30.0),
        **more,
    )


def test_overlap_of_a_low_rank_network():
    solution = solve(low_rank())
    x, (kappa, _) = solution.populations["x"], solution.network["overlap"]
    assert x["response"][0] == pytest.approx(1 / OVERLAP, abs=1e-8)  # 1 = overlap <phi'> where kappa is not 0
    total = kappa[0] ** 2 + 0.6**2 * x["output_variance"][0]
    assert x["state_variance"][0] == pytest.approx(total, rel=1e-9)  # <m^2> kappa^2 + g^2 <phi^2>
    overlaps = []
    for draw in range(6):
        network = build_network(low_rank(size=500), dt=0.1, seed=5, draw=draw)
        network.advance(500)
        _, right = loadings(network.model.connections[0].weights, 500, network_key(5, draw))
        overlaps.append(abs(float(right[0] @ network.outputs_now()[0])) / 500)
    error = np.std(overlaps, ddof=1) / math.sqrt(6)
    assert abs(np.mean(overlaps) - kappa[0]) < 4.5 * error and error < 0.1 * kappa[0]
    without = solve(low_rank(std=0.0)).network["overlap"][0][0]  # the broken twin: no random part
    assert abs(without - kappa[0]) > 0.02


def test_outlier_eigenvalue():
    model = low_rank(size=500)
    radii = []
    for draw in range(4):
        values = np.linalg.eigvals(connection_weights(model, 0, slice(0, 500), network_key(2, draw)).dense())
        order = np.argsort(np.abs(values))
        radii.append(values[order[-1]].real)
        assert abs(values[order[-2]]) < 1.2 * 0.6  # the disk
    error = np.std(radii, ddof=1) / 2
    assert abs(np.mean(radii) - model.connections[0].weights.outliers[0].real) < 4.5 * error and error < 0.15
    with pytest.raises(InputError, match="overlap"):
        LowRank(0.1, (0.0,), (1.0,), (0.0,), (1.0,), ((1.5,),))


def pair_model(shared, sizes=(40, 20)):
    cells = (
        Population("E", Rate("linear", noise=0.5), size=sizes[0]),
        Population("I", Rate("linear", noise=0.5, tau=0.5), size=sizes[1]),
    )
    m = ((0.5, -1.0), (0.8, -0.4))
    connections = tuple(Connection("EI"[b], "EI"[a], Gaussian(m[a][b], 0.0)) for a in range(2) for b in range(2))
    return Model(cells, connections, Solve("stationary", 0.01, 40.0), shared=shared), np.array(m)


def exact_covariance(m, shared, sizes):
    """Lyapunov equation of (Y_E, Y_I, z), z the shared process, for weights without scatter."""
    from scipy.linalg import solve_continuous_lyapunov

    taus, f = np.array([1.0, 0.5]), np.array([shared.factor("E"), shared.factor("I")])
    drift = np.zeros((3, 3))
    drift[:2, :2], drift[:2, 2] = (m - np.eye(2)) / taus[:, None], f / taus
    drift[2, 2] = -1 / shared.tau
    noise = np.diag([*(2 * 0.5 / taus**2 / np.array(sizes)), shared.intensity / shared.tau**2])
    return solve_continuous_lyapunov(drift, -noise)[:2, :2]


def test_shared_noise_correlates_populations_exactly():
    shared = SharedNoise(0.4, 0.5, (("E", 1.0), ("I", 0.5)))
    model, m = pair_model((shared,))
    solution = solve(model)
    covariance, exact = solution.network["population_covariance"][0], exact_covariance(m, shared, (40, 20))
    assert covariance == pytest.approx(exact, rel=1e-3)
    for k, name in enumerate("EI"):  # a single neuron: the private noise whole instead of a part of it
        own = solve(pair_model((), (10**9, 10**9))[0]).populations[name]["state_variance"][0]
        alone = exact_covariance(m, shared, (1e9, 1e9))[k, k]
        assert solution.populations[name]["state_variance"][0] == pytest.approx(own + alone, rel=1e-3)
    none = solve(pair_model(())[0]).network["population_covariance"][0]  # the broken twin
    assert np.abs(none / exact - 1).max() > 0.3


def test_shared_noise_in_the_network():
    model, m = pair_model((SharedNoise(0.4, 0.5, (("E", 1.0), ("I", 0.5))),))
    seen = simulate_network(
        model, duration=300.0, warmup=10.0, max_lag=4.0, dt=0.05, draws=4, sample_every=8, pairs=False
    )["population_covariance"]
    now = len(seen.value) // 2
    z = (seen.value[now] - exact_covariance(m, model.shared[0], (40, 20))) / seen.error[now]
    assert np.abs(z).max() < 6.0  # four networks: Student's t with 3 degrees of freedom
    assert (seen.error[now] < 0.25 * seen.value[now]).all()


def ring(neuron, shape=(6,), width=1.0):
    drive = 0.8 * np.cos(2 * np.pi * np.arange(math.prod(shape)) / math.prod(shape))
    return Model(
        (Population("x", neuron, sites=Sites(shape, tuple(drive)), input=0.3),),
        (Connection("x", "x", Gaussian(-0.8, 1.1), profile=Profile("gaussian", width)),),
        Solve("stationary", 0.1, 20.0),
    )


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_lattice_by_fft_and_by_populations(shape):
    model = ring(Binary(threshold=0.4), shape)
    system, state, _ = solve_lattice(model)
    dense, other, _ = solve_closed(as_populations(model))
    mean, second, lags = system.parts(state, 0)
    for x in range(6):
        m, q, own = dense.parts(other, x)
        assert abs(m - mean[x]) < 1e-10 and abs(q - second[x]) < 1e-10
        assert np.abs(own - lags[x]).max() < 1e-10
    broken, wrong, _ = solve_lattice(ring(Binary(threshold=0.4), shape, width=2.0))
    assert np.abs(broken.parts(wrong, 0)[0] - mean).max() > 1e-3


def test_lattice_solution_and_its_network():
    model = ring(Rate("relu", noise=0.2))
    sized = dataclasses.replace(model, populations=(dataclasses.replace(model.populations[0], size=600),))
    solution = solve(sized)
    by_site = solution.populations["x"]["site_mean"][0]
    assert by_site.shape == (6,) and np.allclose(by_site, by_site[[0, 5, 4, 3, 2, 1]], atol=1e-8)
    means, variances = [], []
    for draw in range(4):
        network = build_network(sized, dt=0.1, seed=1, draw=draw)
        network.advance(150)
        y = network.advance(300)[0].reshape(300, 6, 100)
        means.append(y.mean(axis=(0, 2)))
        variances.append(y.var(axis=(0, 2)))
    variance, measured = solution.populations["x"]["site_output_variance"][0], np.mean(variances, axis=0)
    spread = np.std(variances, axis=0, ddof=1) / 2
    assert (np.abs(measured - variance) < 6.0 * spread + 0.03 * variance.max()).all()
    assert np.ptp(variance) > 0.3 * variance.max()
    error = np.std(means, axis=0, ddof=1) / 2
    assert (np.abs(np.mean(means, axis=0) - by_site) < 6.0 * error + 0.01 * by_site.max()).all()
    assert np.ptp(by_site) > 10 * error.max()


def test_linear_network_with_partial_symmetry():
    g, dt, s2, a = 0.4, 0.1, 1.0, math.exp(-0.1)
    for eta in (0.8, -0.8):
        weights = (Connection("x", "x", Gaussian(0.0, g), symmetry=eta),)
        settings = Solve("stationary", dt, 8.0, samples=256, sweeps=24)
        model = Model((Population("x", Rate("linear", noise=s2)),), weights, settings)
        x = solve(model).populations["x"]
        w = 2 * np.pi * np.fft.fftfreq(4096, dt)

        def exact(symmetry, w=w):
            r = linear_response(w, dt, g, symmetry)
            spectrum = np.abs(r) ** 2 * s2 * (1 - a * a) / (1 - a) ** 2 / (1 - g * g * np.abs(r) ** 2)
            return np.fft.ifft(r).real[1:], np.fft.ifft(spectrum).real

        response, covariance = exact(eta)
        assert dt * x["response_function"][0][:40] == pytest.approx(response[:40], abs=2e-5)
        value, error = x["autocovariance"]
        at = [0, 5, 10, 20]
        assert (np.abs(value[at] - covariance[at]) < 6.0 * error[at]).all()  # 8 replicas: Student's t
        assert (error[at] < 0.02 * covariance[0]).all()
        wrong = exact(0.0)[0]  # the broken twin: weights without symmetry
        assert np.abs(dt * x["response_function"][0][:40] - wrong[:40]).max() > 1e-3


def test_symmetric_linear_network_fulfils_the_sum_rule():
    """eta = 1 with white noise is an equilibrium: int R = C(0)/s2 (fluctuation and dissipation), dt -> 0."""
    sums = []
    for dt in (0.02, 0.01):
        w = 2 * np.pi * np.fft.fftfreq(2**16, dt)
        r, a = linear_response(w, dt, 0.4, 1.0), math.exp(-dt)
        spectrum = np.abs(r) ** 2 * (1 - a * a) / (1 - a) ** 2 / (1 - 0.16 * np.abs(r) ** 2)
        sums.append(np.fft.ifft(spectrum).real[0] / r[0].real)
    assert 2 * sums[1] - sums[0] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("eta", [1.0, 0.3, -1.0])
def test_partially_symmetric_weights(eta):
    n = 300
    model = Model((Population("x", Rate("tanh"), size=n),), (Connection("x", "x", Gaussian(0.0, 1.5), symmetry=eta),))
    key = network_key(4, 0)
    w = connection_weights(model, 0, slice(0, n), key).dense()
    parts = [connection_weights(model, 0, rows, key).dense() for rows in (slice(0, 120), slice(120, n))]
    assert np.array_equal(np.concatenate(parts), w)  # whichever rank draws it
    upper = np.triu_indices(n, 1)
    products = n / 1.5**2 * w[upper] * w.T[upper]
    squares = n / 1.5**2 * w[upper] ** 2
    for values, expected in ((products, eta), (squares, 1.0)):
        assert abs(values.mean() - expected) < 4.5 * values.std() / math.sqrt(len(values))
    if abs(eta) == 1:
        assert np.allclose(w[upper], eta * w.T[upper])


def test_exponent_of_several_populations():
    """Copies of one population have its exponent; the node-free mode of a solvable well with unequal shares too."""
    t = np.arange(0, 25, 0.02)
    well = 1 / np.cosh(t) ** 2
    shares = np.array([[1.2, 0.8], [0.5, 1.5]])  # rows add up to 2: psi_a = psi_b
    value = population_lyapunov([1.0, 1.0], shares, [well, well], 0.02)
    assert value == pytest.approx(0.0, abs=1e-3)
    above = population_lyapunov([1.0, 1.0], 1.2 * shares, [well, well], 0.02)
    assert above > 0.05  # the broken twin: other weights
    slow = 1 / np.cosh(t / 2) ** 2  # the same in another unit of time
    assert population_lyapunov([2.0, 2.0], 1.2 * shares, [slow, slow], 0.02) == pytest.approx(above / 2, abs=1e-3)


def test_what_is_not_solved_is_said():
    for change in ({"mode": "two-time"}, {"method": "sampling"}):
        model = low_rank()
        with pytest.raises(InputError, match="low-rank weights"):
            solve(dataclasses.replace(model, solve=dataclasses.replace(model.solve, **change)))
