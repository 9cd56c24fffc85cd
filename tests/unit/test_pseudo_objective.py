"""Pseudo-likelihoods of all Gibbs families: against the weight itself, finite differences, and enumeration."""

import itertools

import numpy as np
import pytest

from lft._kernels import pseudo as kernel
from lft.errors import InputError
from lft.inference.protocols import Information, Objective
from lft.inference.pseudo import information as info
from lft.inference.pseudo import objective as families
from lft.inference.pseudo.layout import Layout, levels_of, without_levels

FAMILIES = {
    "independent": families.independent_objective,
    "pairwise": families.pairwise_objective,
    "neural": lambda r, **o: families.neural_objective(r, lags=(1, 3), **o),
    "k-pairwise": families.k_pairwise_objective,
    "lagged": lambda r, **o: families.lagged_objective(r, k_max=2, **o),
    "everything": lambda r, **o: families.gibbs_objective(r, lags=(2,), k_max=1, is_counted=True, **o),
}
each_family = pytest.mark.parametrize("name", FAMILIES)


def trials(seed=0, n=5, lengths=(60, 90), rate=0.35):
    rng = np.random.default_rng(seed)
    return [(rng.random((t, n)) < rate).astype(np.int8) for t in lengths]


def log_weight(parameters, level, x):
    """log of the Gibbs weight of one trial, term by term from the names of the parameters."""
    x, total = x.astype(int), 0.0
    for name, value in parameters.items():
        at = [int(part) for part in name[2:-1].split(",")]
        if name[0] == "a":
            total += value * (x[:, at[0]] * x[:, at[1]]).sum()
        elif name[0] == "c":
            total += value * x[:, at[0]].sum()
        elif name[0] == "b":
            total += value * (x[at[0] :] * x[: -at[0]]).sum()
        elif name[0] == "C":
            total += value * (x[at[0] :, at[1]] * x[: -at[0], at[2]]).sum()
    if level is not None:
        potential = {k: parameters.get(f"V[{np.flatnonzero(level == v)[0]}]", 0.0) if v >= 0 else 0.0
                     for k, v in enumerate(level)}  # fmt: skip
        total += sum(potential[k] for k in x.sum(axis=1))
    return total


def slow_likelihood(objective, theta, rasters):
    """Sum of log P(phi | rest) by flipping one site after the other in the weight."""
    parameters, level, total = dict(zip(objective.names(), theta, strict=True)), objective.layout.level, 0.0
    for x in rasters:
        here = log_weight(parameters, level, x)
        for site in np.ndindex(x.shape):
            flipped = x.copy()
            flipped[site] = 1 - flipped[site]
            total -= np.logaddexp(0, log_weight(parameters, level, flipped) - here)
    return total


@each_family
def test_likelihood_is_the_conditional_of_the_weight(name):
    rasters = trials()
    objective = FAMILIES[name](rasters)
    assert isinstance(objective, Objective)
    theta = 0.3 * np.random.default_rng(1).normal(size=objective.size)
    value, _, _ = objective.evaluate(theta)
    assert value == pytest.approx(slow_likelihood(objective, theta, rasters), rel=1e-12)
    assert len(objective.names()) == len(objective.kinds()) == len(objective.groups()) == objective.size
    assert [n[0] for n in objective.names()] == list(objective.kinds())
    assert np.all(objective.groups()[objective.kinds() == "c"] == -1)


@each_family
def test_gradient_and_information_are_derivatives(name):
    objective = FAMILIES[name](trials())
    rng = np.random.default_rng(2)
    theta, step = 0.4 * rng.normal(size=objective.size), 1e-5
    _, gradient, make = objective.evaluate(theta)
    units = np.eye(objective.size) * step
    ups, downs = [objective.evaluate(theta + e) for e in units], [objective.evaluate(theta - e) for e in units]
    numeric = np.array([(u[0] - d[0]) / (2 * step) for u, d in zip(ups, downs, strict=True)])
    assert np.allclose(gradient, numeric, atol=1e-6)
    matrix = np.array([-(u[1] - d[1]) / (2 * step) for u, d in zip(ups, downs, strict=True)])
    extra = rng.uniform(0.1, 1.0, objective.size)
    vectors = rng.normal(size=(objective.size, 2))
    for added in (None, extra):
        whole = matrix if added is None else matrix + np.diag(added)
        dense = make(added)
        assert isinstance(dense, Information)
        assert np.allclose(dense.rows.dense(added), whole, atol=1e-6)
        assert np.allclose(dense.diagonal(), whole.diagonal(), atol=1e-6)
        assert np.allclose(dense.inverse_diagonal(), np.linalg.inv(whole).diagonal(), rtol=1e-5)
        assert np.allclose(dense.solve(vectors), np.linalg.solve(whole, vectors), rtol=1e-4, atol=1e-7)


@each_family
def test_large_problems_solve_the_same_equations(name, monkeypatch):
    """Conjugate gradients over rows in memory, and over passes in single precision, against the dense factor."""
    objective = FAMILIES[name](trials(lengths=(200, 300)))
    rng = np.random.default_rng(3)
    theta, extra = 0.3 * rng.normal(size=objective.size), rng.uniform(0.5, 1.0, objective.size)
    vectors = rng.normal(size=(objective.size, 3))
    exact = objective.evaluate(theta)[2](extra).solve(vectors)
    monkeypatch.setattr(info, "DENSE_SIZE", 0)
    rows = objective.evaluate(theta)[2](extra)
    assert np.allclose(rows.solve(vectors), exact, rtol=1e-5, atol=1e-7)
    passes = info.PassInformation(objective, theta, extra)
    assert np.allclose(passes.product(vectors), rows.product(vectors), rtol=1e-4, atol=1e-3)
    scale = np.abs(exact).max()
    assert np.allclose(passes.solve(vectors, 1e-5), exact, atol=1e-4 * scale)
    assert not np.allclose(info.PassInformation(objective, theta).solve(vectors, 1e-5), exact, atol=1e-4 * scale)


@each_family
def test_rows_and_ranges(name):
    rasters = trials()
    objective = FAMILIES[name](rasters, n_train=110)
    theta = 0.3 * np.random.default_rng(4).normal(size=objective.size)
    value, gradient, _ = objective.evaluate(theta)
    pieces = [(0, 41), (41, 70), (70, 110)]
    assert sum(objective.log_likelihood(theta, *p) for p in pieces) == pytest.approx(value, rel=1e-12)
    assert np.allclose(sum(objective.score(theta, *p) for p in pieces), gradient, atol=1e-10)
    part = objective.over([(5, 30), (64, 100)])
    assert part.n_rows == 61 and part.size == objective.size
    both = [objective.evaluate(theta)[0] * 0 + objective.log_likelihood(theta, *p) for p in ((5, 30), (64, 100))]
    assert part.evaluate(theta)[0] == pytest.approx(sum(both), rel=1e-12)
    assert part.log_likelihood(theta, 20, 40) == pytest.approx(
        objective.log_likelihood(theta, 25, 30) + objective.log_likelihood(theta, 64, 79), rel=1e-12
    )
    assert part.over([(24, 26)]).evaluate(theta)[0] == pytest.approx(part.log_likelihood(theta, 24, 26), rel=1e-12)
    held_out = objective.log_likelihood(theta, 110, 150)  # rows after those of the fit
    whole = FAMILIES[name](rasters)
    if whole.names() == objective.names():
        assert whole.log_likelihood(theta, 0, 150) == pytest.approx(value + held_out, rel=1e-12)
    for wrong in ((-1, 3), (5, 151), (9, 3)):
        with pytest.raises(InputError, match="rows"):
            objective.score(theta, *wrong)
    with pytest.raises(InputError, match="0 to 61"):
        part.score(theta, 0, 62)


def everything_of(objective, theta):
    """Value, gradient, a product with the curvature, second moments."""
    objective = objective.over([(0, objective.n_rows)])  # which remembers nothing
    value, gradient, _ = objective.evaluate(theta)
    weights = (objective.matrix @ theta).reshape(objective.layout.n_units, -1)
    return value, gradient, objective.product(theta, weights), info.RowBlocks.of(objective, theta).block


def test_same_bits_from_every_instruction_set_and_number_of_threads(monkeypatch):
    objective = FAMILIES["everything"](trials(n=37, lengths=(300,), rate=0.2))
    theta = 0.2 * np.random.default_rng(5).normal(size=objective.size)
    first, results = kernel.path(), {}
    try:
        for name in ("baseline", "avx2", "avx512"):
            if kernel.force(name):
                results[name] = everything_of(objective, theta)
        monkeypatch.setenv("LFT_THREADS", "2")
        results["threads"] = everything_of(objective, theta)
    finally:
        kernel.force(first)
    assert first in results and "baseline" in results
    for other in results.values():
        assert all(np.array_equal(a, b) for a, b in zip(results["baseline"], other, strict=True))


def test_extreme_log_odds_stay_finite():
    raster = trials(n=3, lengths=(40,))[0]
    objective = families.pairwise_objective(raster)
    for size in (30.0, 800.0, 1e5):
        theta = np.array([size, -size, size, -size, size, 0.0])
        value, gradient, make = objective.evaluate(theta)
        z = raster @ np.array([[0, size, -size], [size, 0, size], [-size, size, 0.0]]) + [-size, size, 0]
        assert value == pytest.approx((raster * z - np.logaddexp(0, z)).sum(), rel=1e-12)
        assert np.isfinite(gradient).all() and np.isfinite(make(np.ones(6)).solve(gradient)).all()


# ---- enumeration: the score vanishes on average at the truth, exactly
def all_rasters(n, n_bins):
    return np.array(list(itertools.product((0, 1), repeat=n * n_bins)), np.int8).reshape(-1, n_bins, n)


def mean_score(make, n, n_bins):
    states = all_rasters(n, n_bins)
    objective = make(list(states))
    theta = np.random.default_rng(6).normal(0, 0.4, objective.size)
    parameters = dict(zip(objective.names(), theta, strict=True))
    weight = np.array([log_weight(parameters, objective.layout.level, s) for s in states])
    probability = np.exp(weight - np.logaddexp.reduce(weight))
    scores = np.array([objective.score(theta, n_bins * s, n_bins * s + n_bins) for s in range(len(states))])
    return np.abs(probability @ scores).max()


CASES = {
    "lagged": (lambda r: families.lagged_objective(r, k_max=2), 3, 3),
    "k-pairwise": (families.k_pairwise_objective, 4, 2),
    "everything": (lambda r: families.gibbs_objective(r, lags=(1,), k_max=1, is_counted=True), 3, 3),
}


@pytest.mark.parametrize("name", CASES)
def test_score_vanishes_at_the_truth_by_enumeration(name):
    assert mean_score(*CASES[name]) < 1e-13


def changed(monkeypatch, change):
    """The mutant whose weights of targets are made by another matrix."""
    right = Layout.matrix
    monkeypatch.setattr(Layout, "matrix", lambda layout: change(layout, right(layout).tolil()).tocsr())


def transposed_lag(layout, r):
    n, m = layout.n_units, layout.n_features
    out = r.copy()
    for i in range(n):  # features at -k and +k exchanged
        out[i * m + n : i * m + 2 * n], out[i * m + 2 * n : i * m + 3 * n] = (
            r[i * m + 2 * n : i * m + 3 * n], r[i * m + n : i * m + 2 * n])  # fmt: skip
    return out


def causal_half(layout, r):
    """C_ij(k) only in the conditional of the later bin: the second appearance of the pair is forgotten."""
    n, m = layout.n_units, layout.n_features
    for i in range(n):
        r[i * m + 2 * n : i * m + 3 * n] = 0
    return r


def half_pair(layout, r):
    """a_ij only in the conditional of the first unit."""
    for pair, (i, j) in enumerate(layout.pairs):
        r[j * layout.n_features + i, pair] = 0
    return r


def shifted_potential(layout, r):
    """The potential sees the number of firing units with the target among them."""
    n, m = layout.n_units, layout.n_features
    for i in range(n):
        r[i * m + layout.n_shared + len(layout.lags) : (i + 1) * m - 1] = 0
    return r


MUTANTS = [("lagged", transposed_lag), ("lagged", causal_half), ("lagged", half_pair),
           ("k-pairwise", shifted_potential)]  # fmt: skip


@pytest.mark.parametrize("name, mutant", MUTANTS, ids=lambda x: getattr(x, "__name__", x))
def test_enumeration_rejects_mutants(name, mutant, monkeypatch):
    changed(monkeypatch, mutant)
    assert mean_score(*CASES[name]) > 1e-3


def test_levels_end_where_a_count_is_missing():
    for seen, level, merged in (
        ([1, 1, 1, 1, 1, 1], [-1, -1, -1, 0, 1, 2, 2], []),
        ([1, 1, 1, 1, 0, 1], [-1, -1, -1, 0, 0, 0, 0], [4, 5]),
        ([1, 1, 1, 0, 1, 0], [-1, -1, -1, -1, -1, -1, -1], [3, 4, 5]),
        ([0, 1, 1, 1, 1, 0], [-1, -1, -1, -1, 0, 0, 0], [5]),  # a unit that always fires: the gauge moves
        ([1, 1, 0, 0, 0, 0], [-1, -1, -1, -1, -1, -1, -1], [3, 4, 5]),
    ):
        found = levels_of(np.array(seen) > 0, 5)
        assert found[0].tolist() == level and found[1] == merged, seen
    assert without_levels(np.array([-1, -1, -1, 0, 1, 2, 2]), [1]).tolist() == [-1, -1, -1, 0, 0, 1, 1]
    assert without_levels(np.array([-1, -1, -1, 0, 1, 2, 2]), [0, 2]).tolist() == [-1, -1, -1, -1, 0, 0, 0]


def test_too_few_rows_or_units():
    raster = trials(n=3, lengths=(40,))[0]
    with pytest.raises(InputError, match="n_train = 41"):
        families.pairwise_objective(raster, n_train=41)
    with pytest.raises(InputError, match="nothing to fit"):
        families.pairwise_objective(np.zeros((20, 3), np.int8))
    silent = families.pairwise_objective(raster, units=[0, 1, 2]).over([(0, 40)])
    assert silent.n_rows == 40
