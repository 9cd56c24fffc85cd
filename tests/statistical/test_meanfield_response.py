"""Responses of neurons: three estimators against closed forms and each other."""

import math

import numpy as np
import pytest

from lft.errors import InputError
from lft.meanfield.fluctuations.integrate_fire import (
    slowest_modes,
    white_inputs_of,
    white_loop,
    white_noise_response,
)
from lft.meanfield.fluctuations.response import response
from lft.meanfield.model import Connection, FixedIndegree, Model, Poisson, Population, Solve
from lft.meanfield.neurons import LIF, Binary, EscapeRate, Rate
from lft.meanfield.saddle.closed import mean_gain, siegert
from lft.meanfield.saddle.paths import circulant_paths

DT = 0.1


def constant(mean, n):
    return lambda key, m: np.full((n, m), mean)


def colored(mean, variance, tau, n, dt=DT):
    """Stationary paths of an Ornstein-Uhlenbeck process, and their covariance."""
    period = 512
    lags = np.minimum(np.arange(period), period - np.arange(period)) * dt
    spectrum = np.maximum(np.fft.rfft(variance * np.exp(-lags / tau)).real, 0)
    line = variance * np.exp(-np.arange(n) * dt / tau)
    covariance = line[np.abs(np.subtract.outer(np.arange(n), np.arange(n)))]
    return (lambda key, m: mean + circulant_paths(spectrum, n, key, m)), covariance


def agrees(r, exact, most):
    """Three lags and the static response within errors (16 batches: |t| < 6 is as rare as |z| < 4.5), and precise."""
    for k in (0, len(exact) // 3, 2 * len(exact) // 3):
        assert abs(r.value[k] - exact[k]) < 6.0 * r.error[k] + 1e-9 * exact[0], (r.method, k, r.value[k], exact[k])
    static = r.lags[0] * np.sum(exact)
    assert abs(r.static - static) < 6.0 * r.static_error + 1e-9 * abs(static), (r.method, r.static, static)
    assert r.static_error < most * abs(static), (r.method, r.static_error, static)


@pytest.mark.parametrize("method, most", [("common-noise", 0.02), ("correlation", 0.1)])
def test_rate_neuron_with_white_input(method, most):
    """R_k = <phi'> (1 - a) a^k/dt: Gaussian x, so that one slope serves all lags (Price's theorem)."""
    cell, a, n_lags = Rate("tanh", initial_std=0.7), math.exp(-DT), 30
    variance = 1.0 / DT * (1 - a) / (1 + a)
    step = 1e-4
    slope = float(
        mean_gain(cell.closed_form.gain, 0.4 + step, math.sqrt(variance))
        - mean_gain(cell.closed_form.gain, 0.4 - step, math.sqrt(variance))
    ) / (2 * step)
    exact = slope * (1 - a) * a ** np.arange(n_lags) / DT
    r = response(cell, DT, constant(0.4, 150), n_lags, white=1.0, method=method, warmup=60)
    agrees(r, exact, most)
    if method == "common-noise":
        assert abs(r.static - 1.1 * DT * exact.sum()) > 6 * r.static_error  # a tenth more is seen
        assert abs(r.spectrum([1.0])[0][0] - slope / (1 + 1j)) < 0.05 * slope


@pytest.mark.parametrize("method, most", [("common-noise", 0.06), ("correlation", 0.2)])
def test_binary_neuron_with_colored_input(method, most):
    """R_k = S p (1 - p)^k/dt for a threshold on Gaussian input, S its density at the threshold."""
    cell, n_lags, n = Binary(threshold=0.3), 25, 120
    paths, covariance = colored(0.0, 1.0, 1.0, n)
    p = 1 - math.exp(-DT)
    exact = math.exp(-0.5 * 0.3**2) / math.sqrt(2 * math.pi) * p * (1 - p) ** np.arange(n_lags) / DT
    given = {"covariance": covariance} if method == "correlation" else {"kick": 0.3, "samples": 16384}
    agrees(response(cell, DT, paths, n_lags, method=method, warmup=60, **given), exact, most)


@pytest.mark.parametrize("method, most", [("common-noise", 0.1), ("correlation", 0.2), ("score", 0.15)])
def test_escape_rate_neuron(method, most):
    """Spikes of exp(u) with Gaussian u: r = rate E exp(u), R_k = r (1 - a) a^k/dt, in the limit of small rate dt."""
    dt, tau, rate, n_lags, white = 2e-3, 0.02, 10.0, 25, 0.004
    a = math.exp(-dt / tau)
    cell = EscapeRate("exp", rate=rate, tau=tau)
    variance = white / dt * (1 - a) / (1 + a)
    mean = rate * math.exp(variance / 2)
    exact = mean * (1 - a) * a ** np.arange(n_lags) / dt
    r = response(cell, dt, constant(0.0, 200), n_lags, white=white, method=method, warmup=60, kick=3.0)
    # a step holds one spike at most: (rate dt)/2 below, 1 %
    agrees(r, exact * (1 - mean * dt / 2), most)


def test_integrate_and_fire_neuron():
    """Common noise and correlation against threshold integration: dr/dmu at w = 0 and at 20 Hz."""
    cell, dt, mean, white = LIF(), 4e-4, 15.0, 25.0 * 0.02
    omega = 2 * np.pi * np.array([0.0, 20.0])
    exact = white_noise_response(cell, mean, white, omega).to_mean
    for method in ("common-noise", "correlation"):
        r = response(
            cell, dt, constant(mean, 700), 200, white=white, method=method, warmup=250, kick=35.0, samples=32768
        )
        value, error = r.spectrum(omega)
        assert np.all(np.abs(value - exact) < 4.5 * error + 0.03 * np.abs(exact)), (method, value, exact, error)
        assert error < 0.2 * abs(exact[0])


# ---- threshold integration
@pytest.mark.parametrize("mu, sigma", [(15.0, 5.0), (10.0, 4.0), (25.0, 2.0)])
def test_threshold_integration_is_siegerts_formula(mu, sigma):
    cell = LIF()
    a = white_noise_response(cell, mu, sigma**2 * cell.tau, [0.0, 2 * np.pi * 5000])
    rate = lambda m, v: siegert(m, math.sqrt(v), 0.02, 20.0, 10.0, 0.002)  # noqa: E731
    assert a.rate == pytest.approx(rate(mu, sigma**2), rel=2e-5)
    step = 1e-3
    to_mean = (rate(mu + step, sigma**2) - rate(mu - step, sigma**2)) / (2 * step)
    to_variance = (rate(mu, sigma**2 + step) - rate(mu, sigma**2 - step)) / (2 * step)
    assert a.to_mean[0].real == pytest.approx(to_mean, rel=2e-4)
    assert a.to_intensity[0].real * cell.tau == pytest.approx(to_variance, rel=2e-4, abs=2e-4)
    # fast modulations: r/(sigma sqrt(i w tau)) for the mean, standard result
    fast = a.rate / (sigma * np.sqrt(1j * 2 * np.pi * 5000 * cell.tau))
    assert abs(a.to_mean[1] - fast * math.sqrt(2)) < 0.15 * abs(fast)  # what is left falls like 1/sqrt(w)


def brunel(g, eta, indegree=1000, delay=1.5e-3, size=None):
    drive = (Poisson(1000, 10.0 * eta, 0.1),)
    cells = tuple(Population(p, LIF(), size and size[p], external=drive) for p in "EI")
    weights = {"E": FixedIndegree(indegree, 0.1), "I": FixedIndegree(indegree // 4, -0.1 * g)}
    links = tuple(Connection(b, a, weights[b], delay) for a in "EI" for b in "EI")
    return Model(cells, links, Solve("stationary", 2e-4, 0.4))


def test_stationary_states_of_sparse_networks_that_oscillate():
    """Model A: at (g, eta) = (4.5, 0.9) a mode of 29 Hz grows, at (5, 2) all modes decay."""
    mode = slowest_modes(brunel(4.5, 0.9), [6.517, 6.517])[0]
    assert 3.0 < mode.real < 13.0 and 2 * np.pi * 27 < mode.imag < 2 * np.pi * 31
    loop = white_loop(brunel(4.5, 0.9), [6.517, 6.517], [-1j * mode])[0]
    assert abs(np.linalg.det(np.eye(2) - loop)) < 1e-6
    assert slowest_modes(brunel(5.0, 2.0), [37.95, 37.95])[0].real < -50.0
    # mutant: feedback through the mean alone knows no such oscillation
    mu, intensity = white_inputs_of(brunel(4.5, 0.9), [6.517, 6.517])
    answer = white_noise_response(LIF(), mu[0], intensity[0], 2 * np.pi * np.linspace(1, 200, 50))
    mean = 0.02 * 0.1 * (1000 - 4.5 * 250)
    assert np.min(np.abs(1 - answer.to_mean * mean)) > 0.5


def test_bad_input():
    with pytest.raises(InputError, match="method = 'guess'"):
        response(Rate(), DT, constant(0, 9), 3, method="guess")
    with pytest.raises(InputError, match="n_lags = 30"):
        response(Rate(), DT, constant(0, 9), 30)
    with pytest.raises(InputError, match="has no score"):
        response(Rate(), DT, constant(0, 9), 3, method="score")
    with pytest.raises(InputError, match="no white part"):
        response(Rate(), DT, constant(0, 9), 3, method="correlation")
