"""Stability matrix against exact ones: all states of a 4 x 4 torus with the coins of the majority rule, and chains."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from lft.actions import Ising
from lft.clusters import SwendsenWang
from lft.geometry import Lattice
from lft.rg.blocking import plan_blocks
from lft.rg.monte_carlo import stability as mcrg
from lft.rg.monte_carlo.cascade import OperatorSeries, block_batch, measure_cascade, sampled
from lft.rg.monte_carlo.operators import Products, operator_set, parse_operator
from lft.rg.monte_carlo.stability import SingularMatrix, jackknife_edges, stability, stability_matrix
from lft.rng import Key
from lft.testing import assert_agrees, enumerate_states, z_score

TORUS, K = Lattice((4, 4)), 0.3
NAMES = {"y_t": ("1,0", "1,1"), "y_h": ("h", "1,0;1,1")}
OPERATORS = [parse_operator(n, 2) for names in NAMES.values() for n in names]


def enumerated():
    """Exact T of both sectors: sums over 2^16 states, their weights, and the 2^4 coarse states that coins can give."""
    states = enumerate_states(16).reshape(-1, 4, 4)
    fine = Products(TORUS, OPERATORS).sums(states).astype(float)
    weight = np.exp(K * fine[:, 0])
    weight /= weight.sum()
    blocks = states.reshape(-1, 2, 2, 2, 2).sum(axis=(2, 4)).reshape(-1, 4)
    up = np.where(blocks > 0, 1.0, np.where(blocks < 0, 0.0, 0.5))
    coarse_states = np.array(list(itertools.product((-1, 1), repeat=4)), np.int8)
    coarse = Products(Lattice((2, 2)), OPERATORS).sums(coarse_states.reshape(-1, 2, 2)).astype(float)
    given = np.prod(np.where(coarse_states[None] > 0, up[:, None], 1 - up[:, None]), axis=2)  # P(coarse | fine)
    joint = weight[:, None] * given
    p, conditional = joint.sum(axis=0), joint.T @ fine
    out = {}
    for sector, which in (("y_t", [0, 1]), ("y_h", [2, 3])):
        a, b = coarse[:, which], fine[:, which]
        mean_a, mean_b = p @ a, weight @ b
        cc = a.T @ (p[:, None] * a) - np.outer(mean_a, mean_a)
        cf = a.T @ conditional[:, which] - np.outer(mean_a, mean_b)
        out[sector] = stability_matrix(cc, cf)[0]
    return out


def drawn(n, seed):
    """Independent states of the torus, with exactly the Boltzmann weight."""
    states = enumerate_states(16).reshape(-1, 4, 4)
    bonds = Products(TORUS, OPERATORS[:1]).sums(states)[:, 0]
    weight = np.exp(K * bonds)
    return states[np.random.default_rng(seed).choice(len(states), n, p=weight / weight.sum())]


def worst_z(result, exact):
    """Largest |z| of the elements of T in both sectors, with the jackknife errors."""
    z = []
    for (sector, _), (_, matrix, error) in result.spectra.items():
        z.append(abs(matrix - exact[sector]) / error)
    return float(np.max(z))


def test_stability_matrix_is_that_of_enumeration():
    exact = enumerated()
    series = measure_cascade([drawn(200_000, 1)], TORUS, OPERATORS, "majority", 2, 1, seed=2)
    result = stability(series, n_blocks=100)
    assert worst_z(result, exact) < 4.5
    for sector in NAMES:
        y = math.log(np.linalg.eigvals(exact[sector]).real.max()) / math.log(2)
        best = result.best(sector, 1)
        assert_agrees((best.value, best.statistical), y, relative_error_max=0.02)


def test_wrong_stability_matrices_are_caught(monkeypatch):
    """Mutants: correlations not connected, operators per site, the transposed correlation."""
    exact = enumerated()
    series = measure_cascade([drawn(200_000, 1)], TORUS, OPERATORS, "majority", 2, 1, seed=2)

    per_site = dataclasses.replace(series, sums=(series.sums[0] / 16, series.sums[1] / 4))
    assert worst_z(stability(per_site, 100), exact) > 10

    right = mcrg.Moments.connected
    with monkeypatch.context() as m:
        m.setattr(mcrg.Moments, "connected", lambda self: [right(self)[0], right(self)[1].transpose(0, 2, 1)])
        assert worst_z(stability(series, 100), exact) > 10
    of = mcrg.Moments.of
    with monkeypatch.context() as m:
        m.setattr(np, "mean", lambda x, axis=None: np.zeros(x.shape[1]))
        raw = of(series.sums[1][:, :2], series.sums[0][:, :2], np.linspace(0, series.n, 101).astype(int))
    raw = dataclasses.replace(raw, coarse=0 * raw.coarse, fine=0 * raw.fine)
    T = np.linalg.solve(*(x[0] for x in raw.connected()))
    error = stability(series, 100).spectra["y_t", 1][2]
    assert (abs(T - exact["y_t"]) / error).max() > 10

    coins_up = dataclasses.replace(series, sums=measure_cascade(
        [drawn(200_000, 1)], TORUS, OPERATORS, "k-of-n", 2, 1, k=2).sums)  # ties always up
    assert worst_z(stability(coins_up, 100), exact) > 10


def test_decimated_chain_has_the_exact_derivative():
    """tanh K' = tanh(K)^2, and no other coupling: the first column of T is (2t/(1+t^2), 0, 0)."""
    lattice, coupling = Lattice((64,)), 0.6
    operators = [parse_operator(n, 1) for n in ("1", "2", "1;2;3")]
    batches = sampled(Ising(coupling), lattice, SwendsenWang(), Key(4), 40_000, 1, 50)
    result = stability(measure_cascade(batches, lattice, operators, "decimation", 2, 2))
    for level in (1, 2):
        t = math.tanh(coupling) ** level
        _, matrix, error = result.spectra["y_t", level]
        assert_agrees((matrix[0, 0], error[0, 0]), 2 * t / (1 + t * t), relative_error_max=0.05)
        for k in (1, 2):
            assert abs(z_score((matrix[k, 0], error[k, 0]), 0.0)) < 4.5


@pytest.mark.validate
def test_errors_of_eigenvalues_are_calibrated():
    """Pull of y over 200 independent sets of independent states."""
    exact = enumerated()
    pulls = {sector: [] for sector in NAMES}
    for seed in range(200):
        series = measure_cascade([drawn(4000, 100 + seed)], TORUS, OPERATORS, "majority", 2, 1, seed=seed)
        result = stability(series, n_blocks=50)
        for sector in NAMES:
            y = math.log(np.linalg.eigvals(exact[sector]).real.max()) / math.log(2)
            best = result.best(sector, 1)
            pulls[sector].append((best.value - y) / best.statistical)
    for p in pulls.values():
        assert 0.85 < np.std(p) < 1.2 and abs(np.mean(p)) < 0.3


@pytest.mark.validate
def test_critical_ising_in_two_dimensions():
    """y_t = 1 and y_h = 15/8 from the second iteration on."""
    lattice = Lattice((64, 64))
    batches = sampled(Ising(0.5 * math.log(1 + math.sqrt(2))), lattice, SwendsenWang(), Key(8), 200_000, 1, 300)
    result = stability(measure_cascade(batches, lattice, operator_set(2, 7, 4), "majority", 2, 4, seed=1))
    for level in (2, 3, 4):
        for sector, exact, limit in (("y_t", 1.0, 0.015), ("y_h", 1.875, 0.003)):
            best = result.best(sector, level)
            assert abs(best.value - exact) < limit and abs(best.value - exact) < 3 * best.error


# ---- what cannot be inverted, and series that are too short
def test_singular_matrices_are_reported_with_their_condition_number():
    with pytest.raises(SingularMatrix, match=r"condition number inf .* \(a b\)") as caught:
        stability_matrix(np.diag([1.0, 0.0]), np.eye(2), ("a", "b"))
    assert caught.value.condition_number == math.inf
    nearly = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-12]])
    with pytest.raises(SingularMatrix, match="at most 1e"):
        stability_matrix(nearly, np.eye(2))


def test_a_singular_level_is_absent_and_said(capsys):
    """On 2 x 2 sites the displacement (2, 0) leads back: the operator is constant."""
    operators = [parse_operator(n, 2) for n in ("1,0", "2,0")]
    series = measure_cascade([drawn(5000, 3)], TORUS, operators, "majority", 2, 1)
    result = stability(series, 50)
    assert {(e.level, e.operators) for e in result.eigenvalues} == {(1, 1)}
    assert any("condition number inf" in note and "2,0" in note for note in result.notes)
    only = measure_cascade([drawn(500, 3)], TORUS, operators[1:], "majority", 2, 1)
    with pytest.raises(SingularMatrix, match="condition number inf"):
        stability(only, 20)


def test_correlated_series_make_fewer_and_longer_blocks():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(20_000, 1))
    for k in range(1, len(x)):
        x[k] = 0.9 * x[k - 1] + math.sqrt(1 - 0.81) * x[k]  # tau_int = 9.5
    base = measure_cascade([drawn(100, 3)], TORUS, OPERATORS[:1], "majority", 2, 1)
    series = dataclasses.replace(base, sums=(x, x), chains=(12_000, 8_000))
    edges, tau = jackknife_edges(series)
    assert 7 < tau < 12.5 and len(edges) - 1 == pytest.approx(20_000 / (20 * tau), rel=0.05)
    assert 12_000 in edges  # no block holds parts of two chains
    with pytest.raises(Exception, match="too few blocks"):
        jackknife_edges(dataclasses.replace(series, sums=(x[:1500], x[:1500]), chains=(1500,)))


def test_coins_belong_to_configurations_not_to_batches():
    states = drawn(700, 9)
    whole = measure_cascade([states], TORUS, OPERATORS, "majority", 2, 1, seed=5)
    parts = measure_cascade([states[:1], states[1:300], states[300:]], TORUS, OPERATORS, "majority", 2, 1, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(whole.sums, parts.sums, strict=True))


def test_blocked_batches_are_blocked_fields():
    from lft.field import Field
    from lft.rg.blocking import block

    rng = np.random.default_rng(7)
    mask = rng.random((6, 4)) < 0.8
    for lattice in (
        Lattice((12,)),
        Lattice((6, 4), mask=mask),
        Lattice((6, 4, 8), ("x", "y", "t"), ("open", "periodic", "open"), mask=mask),
    ):
        values = rng.choice([-1, 1], (5, *lattice.storage_shape)).astype(np.int8)
        exists = lattice.storage_mask()
        values = values if exists is None else values * exists.astype(np.int8)
        factor = (2,) * len(lattice.shape)
        for name, k in (("decimation", None), ("or", None), ("k-of-n", 2)):
            plan = plan_blocks(lattice, factor, name=name)
            together = block_batch(values, plan, name, k=k)
            for row, one in zip(values, together, strict=True):
                field = Field.from_storage(lattice, "spin", row)
                assert np.array_equal(block(field, name, factor, k=k).values, one)


def test_series_of_chains_join():
    a, b = (measure_cascade([drawn(50, s)], TORUS, OPERATORS, "majority", 2, 1) for s in (1, 2))
    both = a.joined(b)
    assert isinstance(both, OperatorSeries) and both.chains == (50, 50) and both.n == 100
