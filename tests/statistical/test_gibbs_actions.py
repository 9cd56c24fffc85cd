"""The actions k-pairwise and lagged against enumeration, and fits that run: |z| < 4.5 with the package's own errors."""

import numpy as np
import pytest

from lft.analysis import estimate
from lft.archive import Archive
from lft.cli import main
from lft.geometry import Graph
from lft.gibbs import KPairwise, Lagged
from lft.inference.likelihood import exact, load_model
from lft.inference.likelihood.operators import Operators
from lft.protocols import State
from lft.rng import Key
from lft.testing import (
    assert_agrees,
    enumerate_states,
    k_pairwise_action,
    lagged_action,
    z_score,
)
from lft.updaters import HeatBath, Metropolis, start
from tests.helpers import load_json

Z_MAX = 4.5
UPDATERS = pytest.mark.parametrize("updater", [Metropolis(), HeatBath()], ids=lambda u: u.name)


def symmetric(rng, n):
    upper = np.triu(rng.normal(0, 0.4, (n, n)), 1)
    return upper + upper.T


def sample(action, geometry, updater, observe, n):
    phi, key = action.new_field(geometry), Key(3)
    start(phi, "hot", key)
    state, rows = State(phi, 0), []
    for k in range(100 + n):
        state, _ = updater.step(action, state, key)
        if k >= 100:
            rows.append(observe(phi))
    return [estimate(column) for column in np.array(rows).T]


def agrees(found, expected, precision):
    for e, value in zip(found, expected, strict=True):
        assert_agrees(e, float(value), Z_MAX)
        assert e.error < precision


def is_rejected(found, expected):
    return any(not abs(z_score(e, float(v))) < Z_MAX for e, v in zip(found, expected, strict=True))


# --- K-pairwise: bins are independent chains

N = 6
COUNTED = KPairwise(
    V=np.array([0.0, 0.3, -0.4, 1.2, 0.5, -0.6, 0.9]),
    A=symmetric(np.random.default_rng(4), N),
    I=np.random.default_rng(5).normal(0.4, 0.5, N),
)


def counted(phi):
    x = phi.values.astype(float)
    pairs = (x.T @ x / len(x))[np.triu_indices(N, 1)]
    return np.concatenate([np.bincount(x.sum(axis=1).astype(int), minlength=N + 1) / len(x), x.mean(axis=0), pairs])


def counted_exactly():
    x = enumerate_states(N, "gas").astype(float)
    c = COUNTED.couplings
    p = np.exp([-k_pairwise_action(row[None].astype(int), c["A"], c["I"], c["V"]) for row in x])
    p /= p.sum()
    count = x.sum(axis=1)
    pairs = (x.T @ (p[:, None] * x))[np.triu_indices(N, 1)]
    return np.concatenate([[p[count == k].sum() for k in range(N + 1)], p @ x, pairs])


@UPDATERS
def test_k_pairwise_against_enumeration(updater):
    expected = counted_exactly()
    agrees(sample(COUNTED, Graph(N, 200), updater, counted, 1000), expected, 3e-3)
    V = COUNTED.couplings["V"]
    # mutants: the count includes the unit that is visited; the potential has the sign of an action
    for wrong in (np.append(V[0], V[:-1]), -V):
        action = COUNTED.with_couplings(V=wrong)
        assert is_rejected(sample(action, Graph(N, 200), updater, counted, 300), expected)


# --- directed lags: many copies of a few units that do not see each other

UNITS, BINS, COPIES = 3, 4, 60
_RNG = np.random.default_rng(6)
SMALL = Lagged(
    J_lag=_RNG.normal(0, 0.6, (2, UNITS, UNITS)), A=symmetric(_RNG, UNITS), I=_RNG.normal(0.5, 0.4, UNITS)
)


def copied(J_lag):
    c, many = SMALL.couplings, np.eye(COPIES)
    return Lagged(J_lag=[np.kron(many, C) for C in J_lag], A=np.kron(many, c["A"]), I=np.tile(c["I"], COPIES))


def late(x, p=None):
    """Means by bin and unit, and of phi_i^a phi_j^(a-k) for both lags; x (copies or states, bins, units)."""
    p = np.full(len(x), 1 / len(x)) if p is None else p
    parts = [np.einsum("s,sai->ai", p, x).ravel()]
    parts += [np.tensordot(x[:, k:] * p[:, None, None], x[:, :-k], ((0, 1), (0, 1))).ravel() for k in (1, 2)]
    return np.concatenate(parts)


def late_exactly(periodic):
    states = enumerate_states(UNITS * BINS, "gas").reshape(-1, BINS, UNITS)
    c = SMALL.couplings
    S = np.array([lagged_action(x, c["A"], c["I"], c["J_lag"], periodic) for x in states])
    p = np.exp(-S) / np.exp(-S).sum()
    return late(states.astype(float), p)


@pytest.mark.parametrize(("boundary", "updater"), [("open", HeatBath()), ("periodic", Metropolis())])
def test_lagged_against_enumeration(boundary, updater):
    expected, graph = late_exactly(boundary == "periodic"), Graph(UNITS * COPIES, BINS, boundary)

    def run(C, n):
        return sample(
            copied(C),
            graph,
            updater,
            lambda phi: late(phi.values.reshape(BINS, COPIES, UNITS).transpose(1, 0, 2).astype(float)),
            n,
        )

    C = SMALL.couplings["J_lag"]
    agrees(run(C, 1000), expected, 0.01)
    turned = np.array([C[0].T, C[1]])  # mutants: source and target of one lag; the two lags exchanged
    for wrong in (turned, C[::-1]):
        assert is_rejected(run(wrong, 200), expected)


# --- what a fit wrote is simulated as it is


@pytest.fixture
def recording(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    action = Lagged(J_lag=[[[0.4, 1.2, 0], [0, 0.3, 0], [-0.9, 0, 0]]], I=[1.0, 0.8, 0.6])
    phi = action.new_field(Graph(3, 1500))
    state = State(phi, 0)
    for _ in range(30):
        state, _ = HeatBath().step(action, state, Key(8))
    np.savez("r.npz", raster=phi.values.T, bin_s=0.02)


@pytest.mark.parametrize("model", ["k-pairwise", "lagged"])
def test_a_fit_runs_and_its_archive_has_the_moments_of_the_model(model, recording, capsys):
    reach = ["--reach", "1,2"] if model == "lagged" else []
    assert not main(["fit", "r.npz", "--model", model, *reach, "-o", "f.h5"])
    settings = ["lattice.bins=40", "run.updates=900", "run.thermalize=100", "run.measure_every=1", "run.save_every=300"]
    assert not main(["run", "f.h5", "-o", "a.h5", "--quiet", *(part for s in settings for part in ("--set", s))])
    assert not main(["resume", "a.h5", "--updates", "300", "--quiet"])
    assert not main(["analyze", "a.h5", "--json", "a.json"])
    found = load_json("a.json")["observables"]
    fit = load_model("f.h5")
    pairs = np.argwhere(np.triu(np.ones((3, 3), bool), 1))
    o = Operators(3, pairs, (), (), np.arange(3), np.zeros(3))
    if model == "k-pairwise":
        rate = exact.static_moments(o, fit, False)[1][o.at["c"]]
    else:
        rate = exact.Transfer(fit).mean(o, 40)[o.at["c"]] / 40
    value, error = (np.array(found["rate"][key]) for key in ("value", "error"))
    assert (np.abs(value - rate) < Z_MAX * error).all() and (error < 0.015).all()
    with Archive("a.h5") as archive:
        assert archive.action.name == model and archive.t == 1300 and archive.n_configurations == 4
        last = archive.configuration(3)
        phi = archive.action.new_field(archive.geometry)
        phi.values[...] = last
        phi.exchange()
        assert archive.action.S(phi) == pytest.approx(-fit.log_weights(last).sum(), abs=1e-9)
