"""Couplings (A, B, I) of 0/1 units by maximum joint pseudo-likelihood, and the pairwise model of equal times.

Weight ``exp(-S)`` with ``S = sum_a sum_ij A_ij phi_i phi_j + sum_i sum_ab B(|a-b|) phi_i^a phi_i^b + sum_ia
I_i phi_i``, A symmetric with zero diagonal, ordered pairs, open time:

    P(phi_i^a = 1 | rest) = 1 / (1 + exp(g)),   g = I_i + 2 sum_{j != i} A_ij phi_j^a + 2 sum_k B(k) u_ik^a,
    u_ik^a = phi_i^{a+k} + phi_i^{a-k}

Inside the fit the parameters are those of the log-odds -g: ``a_ij = -2 A_ij`` (i < j), ``b_k = -2 B(k)``,
``c_i = -I_i``.  Every pair appears in the terms of both its units, so one symmetric A results, no average of
two estimates.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.inference import newton
from lft.inference.result import NeuralFit
from lft.inference.trials import Rows, checked_lags, checked_rasters

MAX_UNITS = 150
MAX_COINCIDENCES = 3 * 10**7


# ---- likelihood
@dataclass
class _Model:
    """Which parameters exist: ``theta = (a of the pairs, b of the lags, c of the units)``."""

    rows: Rows
    n_train: int
    pairs: np.ndarray  # (n_pairs, 2), i < j
    units: np.ndarray  # units with a finite maximum
    ridge: float
    coincidences: list  # per chunk: sparse (unit pairs x bins), or None

    def __post_init__(self):
        n = self.rows.n_units
        self.position = np.full((n, n), -1)
        i, j = self.pairs.T
        self.position[i, j] = self.position[j, i] = np.arange(len(self.pairs))
        self.n_pairs, self.n_lags = len(self.pairs), len(self.rows.lags)
        self.size = self.n_pairs + self.n_lags + len(self.units)

    def split(self, theta):
        """Matrix a (N, N), vector b (lags,), vector c (N,) with 0 for units outside the fit."""
        n = self.rows.n_units
        a = np.zeros((n, n))
        i, j = self.pairs.T
        a[i, j] = a[j, i] = theta[: self.n_pairs]
        c = np.zeros(n)
        c[self.units] = theta[self.n_pairs + self.n_lags :]
        return a, theta[self.n_pairs : self.n_pairs + self.n_lags], c

    def join(self, pair_matrix, b, c):
        """Derivatives with respect to theta from ``M_ij`` (added over both orders), and those of b and c."""
        i, j = self.pairs.T
        return np.concatenate([pair_matrix[i, j] + pair_matrix[j, i], b, c[self.units]])

    def odds(self, phi, u, a, b, c):
        return phi @ a + c + np.tensordot(b, u, 1)

    def score(self, theta, start, stop):
        """Gradient of the log-likelihood over some rows, without the ridge."""
        return sum(self._score(theta, phi, u) for _, phi, u in self.rows.chunks(start, stop))

    def _score(self, theta, phi, u):
        residual = phi - _logistic(self.odds(phi, u, *self.split(theta)))
        residual = self._only_fitted(residual)
        return self.join(residual.T @ phi, np.tensordot(u, residual, 2), residual.sum(axis=0))

    def _only_fitted(self, values):
        """Zero outside the fitted units: their terms are constant, or at their supremum."""
        if len(self.units) < values.shape[1]:
            keep = np.zeros(values.shape[1])
            keep[self.units] = 1
            values = values * keep
        return values

    def evaluate(self, theta):
        """Penalized log-likelihood of the training rows, gradient and information."""
        n, parts = self.rows.n_units, self.split(theta)
        value, gradient = 0.0, np.zeros(self.size)
        triple, single = np.zeros((n, n, n)), np.zeros((n, n))
        cross, lagged, own = (
            np.zeros((self.n_lags, n, n)),
            np.zeros((self.n_lags,) * 2),
            np.zeros((self.n_lags, n)),
        )
        total = np.zeros(n)
        for number, (_, phi, u) in enumerate(self.rows.chunks(0, self.n_train)):
            z = self.odds(phi, u, *parts)
            p = _logistic(z)
            value += float(self._only_fitted(phi * z - np.logaddexp(0, z)).sum())
            residual = self._only_fitted(phi - p)
            gradient += self.join(residual.T @ phi, np.tensordot(u, residual, 2), residual.sum(axis=0))
            w = self._only_fitted(p * _logistic(-z))
            total += w.sum(axis=0)
            single += w.T @ phi
            for k in range(self.n_lags):
                wu = w * u[k]
                cross[k] += wu.T @ phi
                own[k] += wu.sum(axis=0)
                lagged[k] += np.tensordot(u, wu, 2)
            _add_triples(triple, phi, w, self.coincidences[number] if self.coincidences else None)
        for i in range(n):
            triple[i][np.diag_indices(n)] = single[i]
        matrix = self._assemble(triple, single, cross, lagged, own, total)
        pairs = theta[: self.n_pairs]
        # a = -2 A: ridge/2 A^2 = ridge/8 a^2
        value -= self.ridge / 8 * float(pairs @ pairs)
        gradient[: self.n_pairs] -= self.ridge / 4 * pairs
        matrix[np.arange(self.n_pairs), np.arange(self.n_pairs)] += self.ridge / 4
        return value, gradient, lambda extra: newton.DenseInformation(matrix, extra)

    def _assemble(self, triple, single, cross, lagged, own, total):
        """Information matrix: every unit adds the block of its own regression, in the shared parameters."""
        matrix = np.zeros((self.size, self.size))
        first = self.n_pairs + self.n_lags
        lag_index = np.arange(self.n_pairs, first)
        matrix[np.ix_(lag_index, lag_index)] = lagged
        for number, i in enumerate(self.units):
            others = np.flatnonzero(self.position[i] >= 0)
            index, c = self.position[i, others], first + number
            matrix[np.ix_(index, index)] += triple[i][np.ix_(others, others)]
            matrix[np.ix_(index, lag_index)] += cross[:, i, others].T
            matrix[index, c] += single[i, others]
            matrix[lag_index, c] = own[:, i]
            matrix[c, c] = total[i]
        upper = np.triu(matrix, 1)
        # rows ran over (pairs, lags, units): the blocks below the diagonal of blocks are still empty
        matrix[self.n_pairs :, : self.n_pairs] = upper[: self.n_pairs, self.n_pairs :].T
        matrix[first:, self.n_pairs : first] = upper[self.n_pairs : first, first:].T
        return matrix


def _logistic(z):
    return 0.5 * (1 + np.tanh(0.5 * z)) if z.size == 0 else np.exp(-np.logaddexp(0, -z))


def _add_triples(triple, phi, w, coincidences):
    """``triple[i, j, k] += sum_a w_ia phi_ja phi_ka`` for j != k; the caller sets j = k."""
    n = phi.shape[1]
    if coincidences is not None:
        j, k = np.triu_indices(n, 1)
        sums = (coincidences @ w).T
        triple[:, j, k] += sums
        triple[:, k, j] += sums
        return
    for i in range(n):
        triple[i] += (phi * w[:, i : i + 1]).T @ phi


def _coincidences(rows, n_train):
    """Sparse (pairs x bins) indicators per chunk, or [] where dense products are cheaper."""
    from scipy.sparse import csr_array

    n = rows.n_units
    count = sum(
        float((s * (s - 1) / 2).sum()) for _, phi, _ in rows.chunks(0, n_train) for s in [phi.sum(axis=1)]
    )
    if count > min(MAX_COINCIDENCES, 0.05 * n_train * n**2):
        return []
    number = np.zeros((n, n), np.int64)
    number[np.triu_indices(n, 1)] = np.arange(n * (n - 1) // 2)
    out = []
    for _, phi, _ in rows.chunks(0, n_train):
        bins, units = [], []
        for a in np.flatnonzero(phi.sum(axis=1) > 1):
            active = np.flatnonzero(phi[a])
            i, j = np.triu_indices(len(active), 1)
            units.append(number[active[i], active[j]])
            bins.append(np.full(len(i), a))
        index = (
            (np.concatenate(units), np.concatenate(bins)) if bins else (np.zeros(0, int), np.zeros(0, int))
        )
        out.append(csr_array((np.ones(len(index[0])), index), shape=(n * (n - 1) // 2, len(phi))))
    return out


# ---- fit
def fit_neural(rasters, *, lags=(1,), test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None):
    """Fit the couplings (A, B, I) of the neural lattice field theory by maximum joint pseudo-likelihood.

    Maximizes ``sum_ia log P(phi_i^a | rest) - (ridge/2) sum_{i<j} A_ij^2`` with ``P(phi_i^a = 1 | rest) =
    1/(1 + exp(I_i + 2 sum_j A_ij phi_j^a + 2 sum_k B(k) (phi_i^{a+k} + phi_i^{a-k})))``.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1; several are trials, never joined across their borders.  At most 150 units.
    lags : sequence of int
        Lags of B in bins, >= 1; ``()`` sets B = 0.
    test : float
        Fraction at the end, 0 <= test < 1, that is scored, not fitted.
    ridge : float
        L2 penalty on A in nats, >= 0.  With 0, pairs without a finite maximum are fixed at A = 0 and
        reported.
    n_blocks : int, optional
        Blocks behind the errors; default 20 to 100, chosen from the correlation of the scores.
    bin_s : float, optional
        Bin width in seconds, for the record.
    unit : sequence of int, optional
        Index of each unit in the recording; default 0..N-1.

    Returns
    -------
    NeuralFit

    Raises
    ------
    InputError
        Bad arguments, or no unit that both spikes and pauses.
    DivergenceError
        The information matrix is singular.

    Notes
    -----
    Newton on all parameters at once.  A Hessian costs N^3 T multiplications with dense data, N times the
    number of coincident pairs with sparse data; its Cholesky factor N^6/24.  N = 40 with 1e5 bins takes a few
    seconds.

    Unbounded: a unit that never (or always) fires in training is left out of the maximization and scored,
    here and in the independent model alike, with the Krichevsky-Trofimov estimate (n + 1/2)/(T + 1) of its
    rate.  A pair that never coincides, or one of whose units fires only (or pauses only) with the other, has
    its A at infinity; more complicated cases show by a standard error above 100 at convergence.  All are
    listed in ``unbounded``, value 0, error nan.  With ``ridge`` the errors are those of the penalized
    estimate; its bias is not included.

    References
    ----------
    J. Besag, doi 10.2307/2987782; A. Hyvarinen, doi 10.1162/neco.2006.18.10.2283.

    Examples
    --------
    >>> import numpy as np
    >>> raster = np.random.default_rng(0).random((4000, 3)) < 0.2
    >>> fit = fit_neural(raster.astype(np.int8), lags=(1, 2))
    >>> bool(abs(fit.A[0, 1]) < 4.5 * fit.A_error[0, 1]), sorted(fit.B)
    (True, [1, 2])
    """
    return _fit("neural", rasters, lags, test, ridge, n_blocks, bin_s, unit)


def fit_pairwise(rasters, *, test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None):
    """Fit the pairwise maximum-entropy (Ising) model of equal times.

    Weight ``exp(sum_{i<j} J_ij s_i s_j + sum_i h_i s_i)``; the model of :func:`fit_neural` with B = 0, in
    spins ``s = 2 phi - 1``: ``J_ij = -A_ij/2``, ``h_i = -I_i/2 - (1/2) sum_j A_ij``; their errors follow from
    the same sandwich.

    Parameters
    ----------
    rasters, test, ridge, n_blocks, bin_s, unit
        As in :func:`fit_neural`.

    Returns
    -------
    NeuralFit
        With J, J_error (N, N) and h, h_error (N,).

    Examples
    --------
    >>> import numpy as np
    >>> raster = np.random.default_rng(0).random((4000, 3)) < 0.2
    >>> fit = fit_pairwise(raster.astype(np.int8))
    >>> np.allclose(fit.J, -fit.A / 2), fit.model
    (True, 'pairwise')
    """
    return _fit("pairwise", rasters, (), test, ridge, n_blocks, bin_s, unit)


def _fit(model, rasters, lags, test, ridge, n_blocks, bin_s, unit):
    started = time.perf_counter()
    rasters = checked_rasters(rasters)
    rows = Rows(rasters, checked_lags(lags, rasters))
    unit = _checked_unit(unit, rows.n_units, ridge)
    n_train = newton.split_rows(rows.n_rows, test)
    fires, together = _counts(rows, n_train)
    bounded = (fires > 0) & (fires < n_train)
    if not bounded.any():
        raise InputError(f"no unit both spikes and pauses within the {n_train} training bins: nothing to fit")
    warnings, unbounded = [], [f"I[{i}]" for i in np.flatnonzero(~bounded)]
    if unbounded:
        warnings.append(
            f"{len(unbounded)} of {len(fires)} units never (or always) fire in training: {_some(unbounded)}; "
            "their I is the Krichevsky-Trofimov estimate, without error"
        )
    free = _bounded_pairs(fires, together, n_train) if ridge == 0 else np.ones_like(together, bool)
    free &= bounded[:, None] & bounded[None, :]
    problem, theta, information = _maximum(rows, n_train, free, np.flatnonzero(bounded), float(ridge), fires)
    missing = [f"A[{i},{j}]" for i, j in np.argwhere(np.triu(problem.position < 0, 1))]
    if missing:
        warnings.append(
            f"{len(missing)} pairs have no finite maximum: {_some(missing)}; fixed at A = 0, without error "
            "(ridge > 0 keeps them)"
        )
    u, warning = _influences(problem, theta, information, n_blocks)
    warnings += [warning] if warning else []
    a, b, c = problem.split(theta)
    c, independent = _with_silent_units(rows, n_train, bounded, fires, a, b, c)
    score, gain = _scores(problem, a, b, c, independent)
    return NeuralFit(
        model=model, score=score, gain=gain, n_units=rows.n_units, n_bins=rows.n_rows, n_train=n_train,
        n_blocks=len(u), bin_s=bin_s, warnings=warnings, unbounded=unbounded + missing, unit=unit,
        **_couplings(problem, a, b, c, u, model == "pairwise"), seconds=time.perf_counter() - started,
    )  # fmt: skip


def _checked_unit(unit, n, ridge):
    if n > MAX_UNITS:
        size = n * (n + 1) // 2
        raise InputError(
            f"{n} units: the joint fit of all {n * (n - 1) // 2} pairs needs {8e-9 * size**2:.1f} GB and "
            f"{size**3 / 3e12:.0f} Tflop per step; select at most {MAX_UNITS} units"
        )
    if isinstance(ridge, bool) or not isinstance(ridge, int | float | np.number) or not 0 <= ridge < np.inf:
        raise InputError(f"ridge = {ridge!r}: valid is a finite number >= 0")
    unit = np.arange(n) if unit is None else np.asarray(unit)
    if unit.shape != (n,) or unit.dtype.kind not in "iu":
        raise InputError(
            f"unit: got shape {unit.shape} of type {unit.dtype}; valid is one integer per unit, {n}"
        )
    return unit.astype(np.int64)


def _some(names):
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _counts(rows, n_train):
    """Spikes per unit and coincidences per pair in training."""
    n = rows.n_units
    together = np.zeros((n, n))
    for _, phi, _ in rows.chunks(0, n_train):
        together += phi.T @ phi
    return together.diagonal().copy(), together


def _bounded_pairs(fires, together, n_train):
    """Pairs all four of whose joint states occur: without one of them A runs to infinity."""
    only = fires[:, None] - together
    neither = n_train - fires[:, None] - fires[None, :] + together
    free = (together > 0) & (only > 0) & (only.T > 0) & (neither > 0)
    np.fill_diagonal(free, False)
    return free


def _maximum(rows, n_train, free, units, ridge, fires):
    """Newton; pairs whose error at convergence shows a runaway are fixed at 0, the rest is fitted again."""
    coincidences = _coincidences(rows, n_train)
    rate = fires[units] / n_train
    while True:
        pairs = np.argwhere(np.triu(free, 1))
        problem = _Model(rows, n_train, pairs, units, ridge, coincidences)
        start = np.zeros(problem.size)
        start[problem.n_pairs + problem.n_lags :] = np.log(rate / (1 - rate))
        theta, _, information = newton.maximize(problem.evaluate, start)
        error = np.sqrt(information.inverse_diagonal())
        names = (
            [f"A[{i},{j}]" for i, j in pairs] + [f"B[{k}]" for k in rows.lags] + [f"I[{i}]" for i in units]
        )
        runaway = np.flatnonzero(error > newton.RUNAWAY)
        if not len(runaway):
            return problem, theta, information
        bad = runaway[runaway < len(pairs)]
        if not len(bad):
            newton.raise_runaway([names[i] for i in runaway], theta[runaway])
        # the worst ones alone: others may be pulled along by them
        worst = bad[error[bad] > 0.1 * error[bad].max()]
        free[tuple(pairs[worst].T)] = False
        free &= free.T


def _influences(problem, theta, information, n_blocks):
    """Influences of the blocks on theta (:func:`lft.inference.newton.influences`), and a warning or None."""
    longest = max(problem.rows.lags, default=0)
    edges = newton.fine_edges(problem.n_train, problem.size, n_blocks)
    scores = np.stack([problem.score(theta, a, b) for a, b in itertools.pairwise(edges)])
    warning = None
    if n_blocks is None and len(scores) > 1:
        u = newton.influences(information, scores)
        cuts = np.cumsum([problem.n_pairs, problem.n_lags])
        scores, warning = newton.merge_blocks(scores, np.split(u, cuts, axis=1), problem.n_train, longest)
    return newton.influences(information, scores), warning


def _with_silent_units(rows, n_train, bounded, fires, a, b, c):
    """Log-odds c of all units and of the independent model, with the stated estimate where none is finite."""
    rate = np.where(bounded, fires / n_train, (fires + 0.5) / (n_train + 1))
    independent = np.log(rate / (1 - rate))
    silent = np.flatnonzero(~bounded)
    if len(silent):
        offset = [(np.tensordot(b, u, 1) + phi @ a)[:, silent] for _, phi, u in rows.chunks(0, n_train)]
        offset = np.concatenate(offset)
        group = np.broadcast_to(np.arange(len(silent)), offset.shape).ravel()
        target = (rate * n_train)[silent]
        c = c.copy()
        c[silent] = newton.solve_fields(offset.ravel(), np.ones(offset.size), group, len(silent), target)
    return c, independent


def _scores(problem, a, b, c, independent):
    """Pseudo-log-likelihood per bin and unit; gain over independent units, by blocks of the test stretch."""
    rows, n_train = problem.rows, problem.n_train

    def both(start, stop):
        sums = np.zeros(2)
        for _, phi, u in rows.chunks(start, stop):
            for which, z in enumerate(
                (problem.odds(phi, u, a, b, c), np.broadcast_to(independent, phi.shape))
            ):
                sums[which] += (phi * z - np.logaddexp(0, z)).sum()
        return sums

    n_test = rows.n_rows - n_train
    n_blocks = max(min(20, n_test // max(10 * max(rows.lags, default=0), 1)), 1) if n_test else 0
    edges = np.linspace(n_train, rows.n_rows, n_blocks + 1).astype(int) if n_test else []
    values = np.array([both(s, e) for s, e in itertools.pairwise(edges)]).reshape(-1, 2)
    sizes = np.diff(edges) * float(rows.n_units)
    test = values.sum(axis=0) / sizes.sum() if n_test else np.full(2, np.nan)
    score = {
        "kind": "pseudo-log-likelihood",
        "train": float(both(0, n_train)[0] / (n_train * rows.n_units)),
        "test": float(test[0]),
        "test_independent": float(test[1]),
    }
    return score, newton.gain_with_error(values[:, 0] - values[:, 1], sizes)


def _couplings(problem, a, b, c, u, spins):
    """A, B, I (and J, h) with errors; ``u`` are the influences of the blocks on theta = (a, b, c)."""
    n, n_pairs, n_lags = problem.rows.n_units, problem.n_pairs, problem.n_lags
    error = np.sqrt((u**2).sum(axis=0))
    a_error = np.full((n, n), np.nan)
    np.fill_diagonal(a_error, 0.0)
    i, j = problem.pairs.T
    a_error[i, j] = a_error[j, i] = error[:n_pairs] / 2
    i_error = np.full(n, np.nan)
    i_error[problem.units] = error[n_pairs + n_lags :]
    lags = problem.rows.lags
    out = {
        "A": -a / 2 + 0.0,
        "A_error": a_error,
        "B": {k: float(-v / 2) for k, v in zip(lags, b, strict=True)},
        "B_error": {k: float(e / 2) for k, e in zip(lags, error[n_pairs : n_pairs + n_lags], strict=True)},
        "I": -c,
        "I_error": i_error,
    }
    if spins:
        # a = -2A and c = -I: J = a/4, h = c/2 + sum_j a_ij/4
        u_h = np.zeros((len(u), n))
        u_h[:, problem.units] = u[:, n_pairs + n_lags :] / 2
        for pair, (x, y) in enumerate(problem.pairs):
            u_h[:, x] += u[:, pair] / 4
            u_h[:, y] += u[:, pair] / 4
        h_error = np.sqrt((u_h**2).sum(axis=0))
        h_error[np.isnan(i_error)] = np.nan
        out |= {"J": a / 4, "J_error": a_error / 2, "h": c / 2 + a.sum(axis=1) / 4, "h_error": h_error}
    return out
