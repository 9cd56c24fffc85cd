"""Pairwise couplings of low rank: ``a_ij = sum_r sign_r b_ir b_jr`` for i != j, by maximum pseudo-likelihood.

N r numbers in place of N (N - 1)/2: for populations whose pairs are coupled through a few patterns.  The problem is not
concave.  The search starts at the leading eigenvectors (in absolute value, which also fixes the signs) of the couplings
of the full fit, with a diagonal that the low-rank part itself supplies (principal factors, a standard method), and
goes on by Newton steps with the curvature ``J^T H J - sum_p g_p d2 a_p/db2``, H the information in a, g the gradient
in it and J = d a/d b; where that is not positive the second term, which vanishes where the rank fits, is left out.
Other maxima are not looked for.

Rotations within patterns of one sign (and boosts between those of two) leave a unchanged.  The likelihood has no slope
along them, so a term that is quadratic along them alone makes the curvature regular and changes nothing else.  Errors
of a are those of a sandwich in the b, carried over by J.
"""

from __future__ import annotations

import itertools
import time

import numpy as np

from lft.errors import InputError
from lft.inference import newton
from lft.inference.pseudo import errors
from lft.inference.pseudo.information import MAX_DENSE, RowBlocks
from lft.inference.pseudo.objective import pairwise_objective
from lft.inference.pseudo.result import PseudoFit, couplings


class _Factors:
    """beta = (b, pattern after pattern; c) <-> theta = (a of the pairs, c)."""

    def __init__(self, objective, signs):
        self.objective, self.signs, self.layout = objective, signs, objective.layout
        self.n = len(self.layout.units)
        place = np.full(self.layout.n_units, -1)
        place[self.layout.units] = np.arange(self.n)
        self.i, self.j = place[self.layout.pairs].T

    def split(self, beta):
        r = len(self.signs)
        return beta[: r * self.n].reshape(r, self.n), beta[r * self.n :]

    def theta(self, beta):
        b, c = self.split(beta)
        return np.concatenate([np.einsum("r,rp,rp->p", self.signs, b[:, self.i], b[:, self.j]), c])

    def jacobian(self, beta):
        """d theta / d beta, (size, r n + n)."""
        b, _ = self.split(beta)
        n_pairs, r = len(self.i), len(self.signs)
        out = np.zeros((n_pairs + self.n, len(beta)))
        pair = np.arange(n_pairs)
        for k, sign in enumerate(self.signs):
            out[pair, k * self.n + self.i] = sign * b[k, self.j]
            out[pair, k * self.n + self.j] = sign * b[k, self.i]
        out[n_pairs + np.arange(self.n), r * self.n + np.arange(self.n)] = 1.0
        return out

    def gauge(self, beta):
        """Unit vectors of the directions of b that leave a unchanged, (directions, size of beta)."""
        b, _ = self.split(beta)
        out = np.zeros((0, len(beta)))
        for p, q in itertools.combinations(range(len(self.signs)), 2):
            turn = np.zeros(len(beta))
            turn[p * self.n : (p + 1) * self.n] = b[q]
            turn[q * self.n : (q + 1) * self.n] = -self.signs[p] * self.signs[q] * b[p]
            out = np.vstack([out, turn / max(np.linalg.norm(turn), 1e-300)])
        return out

    def curvature(self, beta, gradient):
        """Minus the second derivative in beta, with the term along the gauge; ``gradient`` in theta."""
        jacobian, gauge = self.jacobian(beta), self.gauge(beta)
        rows = RowBlocks.of(self.objective, self.theta(beta))
        matrix = jacobian.T @ rows.product(jacobian)
        matrix += np.trace(matrix) / len(matrix) * gauge.T @ gauge
        bent = np.zeros_like(matrix)
        for k, sign in enumerate(self.signs):
            bent[k * self.n + self.i, k * self.n + self.j] = -sign * gradient[: len(self.i)]
        whole = matrix + bent + bent.T
        is_positive = np.linalg.eigvalsh(whole)[0] > 1e-6 * np.linalg.eigvalsh(matrix)[0]
        return whole if is_positive else matrix

    def evaluate(self, beta):
        value, gradient, _ = self.objective.evaluate(self.theta(beta))
        make = lambda extra: newton.DenseInformation(self.curvature(beta, gradient), extra)  # noqa: E731
        return value, self.jacobian(beta).T @ gradient, make


def principal_factors(a, rank, steps=200):
    """(b (rank, n), signs) of the best ``sum sign b b^T`` off the diagonal, by eigenvectors with their own diagonal."""
    a = a.copy()
    for _ in range(steps):
        values, vectors = np.linalg.eigh(a)
        top = np.argsort(-np.abs(values))[:rank]
        new = np.einsum("r,ir,ir->i", values[top], vectors[:, top], vectors[:, top])
        if np.abs(new - a.diagonal()).max() < 1e-9 * max(np.abs(values[top]).max(), 1e-300):
            break
        np.fill_diagonal(a, new)
    return np.sqrt(np.abs(values[top]))[:, None] * vectors[:, top].T, np.where(values[top] < 0, -1.0, 1.0)


def fit_low_rank(rasters, rank, *, test=0.0, n_blocks=None, bin_s=None, unit=None):
    """Fit pairwise couplings of a given rank.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1; every unit must both spike and pause in training.
    rank : int
        Number of patterns, 1 to N - 1.
    test, n_blocks, bin_s, unit
        As in :func:`lft.inference.neural_fit.fit_pairwise`.

    Returns
    -------
    PseudoFit
        Model ``pairwise``; J and A have the rank off the diagonal, and errors that know it.  ``extra_arrays`` holds
        ``patterns`` (rank, N) and ``signs`` (rank,): ``J_ij = sum_r signs_r patterns_ri patterns_rj``, i != j;
        rotations within one sign leave J unchanged.

    Raises
    ------
    InputError
        Bad rank, a unit that never or always fires, or too many parameters for a dense Jacobian (9000).
    DivergenceError
        The full problem, from which the search starts, has no finite maximum or none is reached.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> raster = (rng.random((4000, 5)) < 0.2 + 0.3 * (rng.random((4000, 1)) < 0.3)).astype(np.int8)
    >>> fit = fit_low_rank(raster, 1)
    >>> bool(np.all(fit.J + np.eye(5) > 0)), fit.errors_from
    (True, 'joint')
    """
    started = time.perf_counter()
    whole = pairwise_objective(rasters)
    n_rows, n = whole.n_rows, whole.layout.n_units
    n_train = newton.split_rows(n_rows, test)
    objective = whole.over([(0, n_train)])
    if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or not 1 <= rank < n:
        raise InputError(f"rank = {rank!r}: valid is an integer from 1 to {n - 1}")
    if objective.size > MAX_DENSE:
        raise InputError(f"{n} units: a fit of low rank holds {objective.size} couplings at once, at most {MAX_DENSE}")
    if len(whole.layout.units) < n:
        silent = np.setdiff1d(np.arange(n), whole.layout.units)
        name = silent[0] if unit is None else unit[silent[0]]
        raise InputError(f"unit {name} never (or always) fires: leave it out of a fit of low rank")
    extra = np.append(np.full(len(objective.layout.pairs), 1.0), np.zeros(n))  # enough for a start without runaways

    def penalized(theta):
        value, gradient, make = objective.evaluate(theta)
        return value - extra @ theta**2 / 2, gradient - extra * theta, lambda more: make(
            extra if more is None else extra + more)  # fmt: skip

    full = newton.maximize(penalized, objective.start())[0]
    a = np.zeros((n, n))
    i, j = objective.layout.pairs.T
    a[i, j] = a[j, i] = full[: len(i)]
    b, signs = principal_factors(a, rank)
    factors = _Factors(objective, signs)
    beta, _, information = newton.maximize(factors.evaluate, np.append(b.ravel(), full[len(i) :]))
    theta, jacobian = factors.theta(beta), factors.jacobian(beta)
    edges = newton.fine_edges(n_train, len(beta), n_blocks)
    scores = errors.block_scores(objective, theta, edges) @ jacobian
    u, warning = errors.joint_influences(information, scores, [np.arange(len(beta))], n_train, 0, n_blocks)
    rate = objective.data[:, -1] / n_train
    independent = np.append(np.zeros(len(i)), np.log(rate / (1 - rate)))
    blocks = np.linspace(n_train, n_rows, 21).astype(int) if n_rows - n_train >= 20 else np.array([n_train, n_rows])
    pairs = list(itertools.pairwise(blocks)) if n_rows > n_train else []
    values = np.array([[whole.log_likelihood(t, *p) for t in (theta, independent)] for p in pairs]).reshape(-1, 2)
    sizes = np.diff(blocks).astype(float) * n if pairs else np.zeros(0)
    test_scores = values.sum(axis=0) / sizes.sum() if pairs else np.full(2, np.nan)
    score = {
        "kind": "pseudo-log-likelihood",
        "train": objective.log_likelihood(theta, 0, n_train) / (n_train * n),
        "test": float(test_scores[0]),
        "test_independent": float(test_scores[1]),
    }
    return PseudoFit(
        model="pairwise", score=score, gain=newton.gain_with_error(values[:, 0] - values[:, 1], sizes), n_units=n,
        n_bins=n_rows, n_train=n_train, n_blocks=len(u), bin_s=bin_s, warnings=[warning] if warning else [],
        unit=np.arange(n) if unit is None else np.asarray(unit), extra={"rank": int(rank)},
        extra_arrays={"patterns": factors.split(beta)[0] / 2, "signs": signs}, seconds=time.perf_counter() - started,
        **couplings(objective.layout, theta, u @ jacobian.T, [], True),
    )  # fmt: skip
