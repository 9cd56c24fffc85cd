"""Cluster updates against exact results: enumeration on lattices and graphs with fields, masks and mixed signs,
Kaufman's torus at criticality, and improved estimators against plain ones.

The wrong updates at the end must be rejected by the same tests at the same length.
"""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import lft.clusters
from lft.actions import Ising, Pairwise
from lft.analysis import estimate
from lft.clusters import ClusterMoments, ClusterSize
from lft.geometry import Graph, Lattice
from lft.observables import measure_all
from lft.protocols import State
from lft.rng import Key
from lft.testing import assert_agrees, enumerate_lattice, enumerate_states, kaufman_bonds, z_score
from lft.testing.enumeration import count_bonds
from lft.updaters import SwendsenWang, Wolff, start

UPDATES = [SwendsenWang(), Wolff(3)]
both = pytest.mark.parametrize("updater", UPDATES, ids=lambda u: u.name)


def measured(action, geometry, updater, n, seed, thermalize=50):
    """Improved estimators and stored configurations after each update, as floats."""
    phi, key = action.new_field(geometry), Key(seed)
    start(phi, "hot", key)
    state = State(phi, 0)
    observables = updater.observables(action, geometry)
    rows, fields = [], np.empty((n, *phi.values.shape))
    for i in range(-thermalize, n):
        state, _ = updater.step(action, state, key)
        if i >= 0:
            rows.append(measure_all(observables, action, state))
            fields[i] = phi.values
    return {k: np.array([r[k] for r in rows]) for k in rows[0]}, fields


MASK = np.array([[1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 1]], bool)
SITE_H = np.round(np.random.default_rng(8).normal(0, 0.4, (3, 4)), 3)
LATTICES = {
    "torus": (Lattice((4, 4)), {(1, 0): 0.4, (0, 1): 0.35}, 0.0),
    "field": (Lattice((3, 5), boundary=("periodic", "open")), {(1, 0): 0.3, (0, 1): 0.45}, -0.15),
    "mask-and-site-field": (Lattice((3, 4), boundary="open", mask=MASK), {(1, 0): 0.5, (0, 1): 0.3}, SITE_H),
    "steps": (Lattice((3, 5)), {(1, 1): 0.25, (0, 2): 0.2, (1, -2): 0.3, (0, 1): 0.1}, 0.05),
    "frustrated": (Lattice((3, 4)), {(1, 0): -0.4, (0, 1): 0.3, (1, 1): -0.25}, 0.2),
    "antiferromagnet": (Lattice((4, 4)), {(1, 0): -0.45, (0, 1): -0.4}, 0.1),
    "time": (Lattice((2, 3, 3), ("x", "t", "y"), "open"), {(1, 0, 0): 0.4, (0, 1, 0): 0.3, (0, 0, 1): 0.35}, 0.1),
    "pairs": (Lattice((2, 6)), {(1, 0): 0.2, (0, 1): 0.5}, 0.0),
    "chain": (Lattice((9,)), {(1,): 0.8, (3,): 0.2}, 0.0),
}


def check_lattice(name, updater, n=2500, seed=5):
    """z-scores of bonds, moments, mean spins and the improved estimators."""
    lattice, K, h = LATTICES[name]
    series, fields = measured(Ising(K=K, h=h), lattice, updater, n, seed)
    periodic = [b == "periodic" for b in lattice.boundary]
    exact = enumerate_lattice(lattice.shape, K, h, periodic, lattice.mask)
    mask = np.ones(lattice.shape, bool) if lattice.mask is None else lattice.mask
    spins = np.array([lattice.from_storage(f)[mask] for f in fields])
    m = spins.mean(axis=1)
    moments = {"magnetization": exact.m, "m2": exact.m2, "m4": exact.m4}
    improved = {f"{k}_improved": v for k, v in moments.items()}
    scores = {k: z_score(estimate(series[k]), v) for k, v in improved.items() if k in series}
    scores |= {f"plain m^{k}": z_score(estimate(m**k), (exact.m2, exact.m4)[k // 4]) for k in (2, 4)}
    for d, bond in exact.bonds.items():
        pairs = ((spins @ count_bonds(d, mask, periodic)) * spins).sum(axis=1)
        scores[d] = z_score(estimate(pairs / exact.n_bonds[d]), bond)
    scores |= {x: z_score(estimate(spins[:, x]), mean) for x, mean in enumerate(exact.mean_field[mask])}
    return scores


@both
@pytest.mark.parametrize("name", LATTICES)
def test_small_lattices_agree_with_enumeration(name, updater):
    scores = check_lattice(name, updater)
    assert max(map(abs, scores.values())) < 4.5, scores


def graph_exact(J, h):
    """<s_i s_j> and <s_i> of one copy."""
    states = enumerate_states(len(J), "spin").astype(float)
    w = np.exp(0.5 * np.einsum("ai,ij,aj->a", states, J, states) + states @ h)
    w /= w.sum()
    return states.T @ (w[:, None] * states), w @ states


def check_graph(updater, kind, h, n=3000, seed=3, n_bins=4):
    rng = np.random.default_rng(17)
    J = np.triu(rng.normal(0.25, 0.1 if kind != "mixed" else 0.5, (6, 6)) * (rng.random((6, 6)) < 0.8), 1)
    J = J + J.T
    h = np.round(rng.normal(0, 0.4, 6), 3) * h
    action = Pairwise(J=csr_matrix(J) if kind == "sparse" else J, h=h)
    series, fields = measured(action, Graph(6, n_bins), updater, n, seed)
    pairs, means = graph_exact(J, h)
    products = np.einsum("nai,naj->nij", fields, fields) / n_bins
    upper = np.argwhere(np.triu(np.ones((6, 6)), 1))
    scores = [z_score(estimate(products[:, i, j]), pairs[i, j]) for i, j in upper]
    if h.any():
        scores += [z_score(estimate(fields[:, :, i].mean(axis=1)), means[i]) for i in range(6)]
    if "m2_improved" in series:
        scores.append(z_score(estimate(series["m2_improved"]), pairs.mean()))
    if "m4_improved" in series:
        scores.append(z_score(estimate(series["m4_improved"]), _fourth(J, h)))
    if "magnetization_improved" in series:
        scores.append(z_score(estimate(series["magnetization_improved"]), means.mean()))
    copies = fields[:, 0].prod(axis=1) * fields[:, 1].prod(axis=1)
    scores.append(z_score(estimate(copies), _parity(J, h) ** 2))  # the copies are independent
    return np.array(scores)


def _mean(J, h, function):
    """Mean of a function of the states of one copy."""
    states = enumerate_states(len(J), "spin").astype(float)
    w = np.exp(0.5 * np.einsum("ai,ij,aj->a", states, J, states) + states @ h)
    return float(w @ function(states) / w.sum())


def _parity(J, h):
    return _mean(J, h, lambda s: s.prod(axis=1))


def _fourth(J, h):
    return _mean(J, h, lambda s: s.mean(axis=1) ** 4)


@both
@pytest.mark.parametrize("h", [0, 1], ids=["no-field", "field"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "mixed"])
def test_small_graphs_agree_with_enumeration(kind, h, updater):
    scores = check_graph(updater, kind, h)
    assert np.abs(scores).max() < 4.5, scores


def bond_mean(fields):
    """Mean of s_x s_(x+d) over both axes of a torus, for each configuration."""
    return 0.5 * sum((fields * np.roll(fields, 1, axis)).mean(axis=(1, 2)) for axis in (1, 2))


@pytest.mark.parametrize("updater", [SwendsenWang(), Wolff(2)], ids=lambda u: u.name)
@pytest.mark.parametrize("L", [16, 32])
def test_energy_of_the_critical_torus_is_that_of_kaufman(L, updater):
    K = 0.5 * np.log(1 + np.sqrt(2))
    _, fields = measured(Ising(K=K), Lattice((L, L)), updater, 4000, 7, 100)
    assert_agrees(estimate(bond_mean(fields)), kaufman_bonds(L, L, K, K)[0], relative_error_max=6e-3)


@pytest.mark.parametrize("updater", [SwendsenWang(), Wolff(2)], ids=lambda u: u.name)
def test_the_improved_estimator_has_the_mean_and_a_smaller_error(updater):
    # disordered phase, where clusters are much smaller than the lattice
    series, fields = measured(Ising(K=0.36), Lattice((32, 32)), updater, 3000, 11)
    m2 = fields.mean(axis=(1, 2)) ** 2
    plain, improved = estimate(m2), estimate(series["m2_improved"])
    assert abs(z_score(estimate(m2 - series["m2_improved"]), 0.0)) < 4.5
    # Wolff sees few clusters of each configuration, so it gains less
    assert improved.error < (0.7 if updater.name == "wolff" else 0.4) * plain.error


def test_callen_identity_holds_for_every_site():
    # <s_x> = <tanh(f_x)>, f_x the local field: no exact solution is needed
    action, lattice = Ising(K=(0.3, 0.25), h=0.05), Lattice((12, 10))
    for updater in UPDATES:
        s = measured(action, lattice, updater, 3000, 2)[1]
        f = 0.05 + 0.3 * (np.roll(s, 1, 1) + np.roll(s, -1, 1)) + 0.25 * (np.roll(s, 1, 2) + np.roll(s, -1, 2))
        assert_agrees(estimate((s - np.tanh(f)).mean(axis=(1, 2))), 0.0)
        assert_agrees(estimate((s * np.roll(s, 1, 1) - np.tanh(f) * np.roll(s, 1, 1)).mean(axis=(1, 2))), 0.0)


# --- wrong updates


class _Weights:
    """lft.clusters.loops with the weights of the bonds changed."""

    def __init__(self, monkeypatch, scale):
        for kind in (lft.clusters.LatticeClusters, lft.clusters.GraphClusters):
            right = kind.__init__

            def init(self, action, phi, right=right):
                right(self, action, phi)
                self.weight = self.weight * scale

            monkeypatch.setattr(kind, "__init__", init)


@both
def test_half_the_bond_strength_is_rejected(updater, monkeypatch):
    _Weights(monkeypatch, 0.5)  # 1 - exp(-K) in place of 1 - exp(-2K)
    assert max(map(abs, check_lattice("torus", updater).values())) > 8
    assert np.abs(check_graph(updater, "dense", 0)).max() > 8


@both
def test_a_slightly_wrong_bond_strength_is_rejected(updater, monkeypatch):
    _Weights(monkeypatch, 0.9)
    assert max(map(abs, check_lattice("torus", updater, 8000).values())) > 4.5


@both
def test_a_missing_ghost_spin_is_rejected(updater, monkeypatch):
    for kind in (lft.clusters.LatticeClusters, lft.clusters.GraphClusters):
        right = kind.__init__

        def init(self, action, phi, right=right):
            right(self, action, phi)
            self.ghost = None

        monkeypatch.setattr(kind, "__init__", init)
    assert max(map(abs, check_lattice("field", updater).values())) > 8
    assert np.abs(check_graph(updater, "sparse", 1)).max() > 8


def test_a_wrong_improved_estimator_is_rejected(monkeypatch):
    right = ClusterMoments.measure

    def forgets_the_fourth_powers(self, action, state):
        values = right(self, action, state)
        return values | {"m4_improved": 3 * values["m2_improved"] ** 2}

    monkeypatch.setattr(ClusterMoments, "measure", forgets_the_fourth_powers)
    assert abs(check_lattice("torus", SwendsenWang())["m4_improved"]) > 8
    monkeypatch.setattr(ClusterSize, "measure", lambda self, a, s: {"m2_improved": 1.1 * clusters_share(a, s)})
    assert abs(check_lattice("torus", Wolff(3))["m2_improved"]) > 8


def clusters_share(action, state):
    return lft.clusters.clusters_of(action, state.phi).share / state.phi.geometry.n_active
