"""Sweeps with fixed-point fields against enumeration, and against the generic loops where enumeration ends.

The wrong kernels at the end must be rejected by the same tests at the same length.
"""

import numpy as np
import pytest

from lft._kernels import local_fields
from lft.actions import Neural, Pairwise
from lft.cached import WAYS, CachedFields
from lft.geometry import Graph
from lft.implementations import choose
from lft.protocols import State
from lft.rng import Key
from lft.testing import assert_agrees, enumerate_neural, enumerate_states, z_score
from lft.updaters import HeatBath, start

UPDATERS = ["metropolis", "heatbath"]
A = np.array([[0, -0.4, 0.3, 0.2], [-0.4, 0, -0.5, 0.1], [0.3, -0.5, 0, -0.3], [0.2, 0.1, -0.3, 0]])
I = np.array([0.4, 0.9, -0.2, 0.5])
B = {1: -0.35, 2: 0.25}


def glass(n, seed=3):
    upper = np.triu(np.random.default_rng(seed).normal(0, 0.8 / np.sqrt(n), (n, n)), 1)
    return upper + upper.T


def allowed(ways):
    return [w for w in ways if w != "blocked" or local_fields.has_blocked()]


def estimate(x, n_bins=64):
    """Mean over the first axis and its error from bins much longer than the correlation time."""
    bins = x[: len(x) // n_bins * n_bins].reshape(n_bins, -1, *x.shape[1:]).mean(axis=1)
    return bins.mean(axis=0), bins.std(axis=0, ddof=1) / np.sqrt(n_bins)


def series(action, graph, updater, way, n, measure, seed=9, spoil=lambda fields: None, thermalize=100):
    """A measurement after each sweep."""
    phi, key = action.new_field(graph), Key(seed)
    start(phi, "hot", key)
    fields = CachedFields(action, phi, updater, way)
    fields.load()
    spoil(fields)
    for t in range(thermalize):
        fields.sweep(t, key.word)
    out = []
    for t in range(thermalize, thermalize + n):
        fields.sweep(t, key.word)
        out.append(measure(phi.values))
    return np.array(out, float)


def glass_z(way, updater, n_sweeps, n=9, spoil=lambda fields: None, thermalize=100):
    """z of <s_i s_j> (all pairs) and <s_i> of many chains of a small glass."""
    J, h = glass(n), np.linspace(-0.5, 0.4, n)
    states = enumerate_states(n).astype(float)
    log_w = 0.5 * np.einsum("ki,ij,kj->k", states, J, states) + states @ h
    p = np.exp(log_w - log_w.max())
    p /= p.sum()
    pairs, first = np.einsum("k,ki,kj->ij", p, states, states), p @ states

    def measure(s):
        s = s.astype(float)
        return np.concatenate([(s.T @ s / len(s))[np.triu_indices(n, 1)], s.mean(axis=0)])

    value, error = estimate(series(Pairwise(J, h), Graph(n, 192), updater, way, n_sweeps, measure,
                                   spoil=spoil, thermalize=thermalize))  # fmt: skip
    exact = np.concatenate([pairs[np.triu_indices(n, 1)], first])
    return (value - exact) / error, error


def neural_z(way, updater, n_sweeps, T=3, periodic=False, spoil=lambda fields: None):
    """z of the means of all sites, of the equal-time pairs and of the pairs in time."""
    lags = {k: b for k, b in B.items() if not periodic or 2 * k <= T}
    exact = enumerate_neural(A, lags, I, T, periodic)
    up = np.triu_indices(4, 1)

    def measure(x):
        x = x.astype(float)
        return np.concatenate([x.ravel(), (x.T @ x / T)[up], (x @ x.T / 4)[np.triu_indices(T, 1)]])

    graph = Graph(4, T, "periodic" if periodic else "open")
    samples = series(Neural(A=A, B=lags, I=I), graph, updater, way, n_sweeps, measure, spoil=spoil)
    value, error = estimate(samples)
    target = np.concatenate([exact.phi.ravel(), exact.Phi[up], exact.Pi[np.triu_indices(T, 1)]])
    return (value - target) / error, error


@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("way", allowed(WAYS))
def test_a_small_glass_agrees_with_enumeration(way, updater):
    z, error = glass_z(way, updater, 960)
    assert np.abs(z).max() < 4.5 and error.max() < 5e-3


@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("way", allowed(WAYS))
@pytest.mark.parametrize(("T", "periodic"), [(3, False), (3, True)], ids=["open", "periodic"])
def test_a_small_space_time_field_agrees_with_enumeration(way, updater, T, periodic):
    z, error = neural_z(way, updater, 6400, T, periodic)
    assert np.abs(z).max() < 4.5 and error.max() < 1.2e-2


def test_a_large_field_agrees_with_the_generic_loops():
    # 70 units do not fit into one block of any kind; the two chains share no random number
    rng = np.random.default_rng(7)
    n, graph = 70, Graph(70, 96)
    action = Neural(A=glass(n, 5) / 2, B={1: -0.3, 2: 0.1}, I=rng.normal(1.0, 0.5, n))
    estimates = []
    for kernel in ("generic", "neural-cached"):
        phi, key = action.new_field(graph), Key(31)
        start(phi, "hot", key)
        loops = choose(action, HeatBath(), phi, kernel)
        state, _ = loops.advance(State(phi, 0), key, 50)
        samples = []
        for _ in range(384):
            state, _ = loops.advance(state, key, 1)
            x = phi.values
            samples.append([x.mean(), action.S(phi) / x.size, (x[1:] * x[:-1]).mean()])
        estimates.append(estimate(np.array(samples), 32))
    (a, da), (b, db) = estimates
    for k in range(3):
        assert abs(z_score((a[k] - b[k], np.hypot(da[k], db[k])), 0.0)) < 4.5
        assert_agrees((a[k], da[k]), b[k], z_max=9.0, relative_error_max=0.02)


# --- broken twins: forgotten lags, fields that are not brought up to date


def test_forgotten_lags_are_rejected():
    def forget(fields):
        fields.fixed["K"][...] = 0
        if fields.is_blocked_ready:
            fields.tables["K"][...] = 0

    for way in allowed(WAYS):
        z, _ = neural_z(way, "heatbath", 3000, spoil=forget)
        assert np.abs(z).max() > 8, way


def test_stale_fields_are_rejected():
    def stale(fields):
        name = "triangle" if fields.is_blocked_ready else None
        (fields.tables[name] if name else fields.fixed["W"])[...] = 0

    for way in allowed(("kept", "blocked")):
        z, _ = glass_z(way, "heatbath", 300, spoil=stale)
        assert np.abs(z).max() > 8, way
