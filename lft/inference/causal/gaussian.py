"""The Gaussian field: couplings of real-valued recordings are the inverse covariance; its causal twin is a vector
autoregression.

Static (no lags), weight of a bin ``exp(-(1/2) (x - m)^T P (x - m))``:

    P = C^-1,     C = connected covariance,     log L = (T/2) [log det P - tr(P C) - N log 2 pi]

The eigenvectors of C are the principal components; those of P are the same, with inverse eigenvalues: the components of
small variance carry the strong couplings.  ``J_ij = -P_ij`` is the coupling of a pair (weight ``exp(+J_ij x_i x_j)``)
and
``-P_ij/sqrt(P_ii P_jj)`` its partial correlation.

Causal (K lags): ``x(a) = m + sum_k M_k x(a-k) + noise``, noise Gaussian with covariance S: least squares, ``J_lag`` =
M.

Errors of P: for independent Gaussian samples (Wishart)

    var P_ij = (P_ii P_jj + P_ij^2)/T

to leading order; for correlated samples the sandwich, from the influence of a block of time
``-P [sum_a (x x^T - C)] P / T``.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.inference import newton
from lft.inference.result import Fit
from lft.inference.trials import checked_rasters

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(kw_only=True, repr=False)
class GaussianFit(Fit):
    """Gaussian field.

    Attributes
    ----------
    mean, scale : ndarray (N,)
        What the data were reduced by, ``x = (data - mean)/scale`` (scale = 1 without ``standardize``).
    precision, precision_error, precision_error_wishart : ndarray (N, N)
        P and its errors: sandwich over blocks of time; and of independent samples.  With lags P of the noise.
    J, J_error : ndarray (N, N)
        ``-P`` off the diagonal, 0 on it.
    partial_correlation : ndarray (N, N)
    eigenvalues, components : ndarray (N,), (N, N)
        Of the connected covariance, descending; ``components[:, n]`` the n-th principal component.
    J_lag, J_lag_error, J_lag_error_information : ndarray (K, N, N)
        Row = target; sandwich and inverse information.
    unit : ndarray (N,)
    """

    method: str = "exact"
    mean: np.ndarray
    scale: np.ndarray
    precision: np.ndarray
    precision_error: np.ndarray
    precision_error_wishart: np.ndarray
    J: np.ndarray
    J_error: np.ndarray
    partial_correlation: np.ndarray
    eigenvalues: np.ndarray
    components: np.ndarray
    J_lag: np.ndarray
    J_lag_error: np.ndarray
    J_lag_error_information: np.ndarray
    unit: np.ndarray

    def named(self):
        """``P[i,j]`` for i <= j, and ``J[k,i,j]`` (lag, target, source)."""
        n = len(self.mean)
        out = {
            f"P[{i},{j}]": (float(self.precision[i, j]), float(self.precision_error[i, j]))
            for i in range(n)
            for j in range(i, n)
        }
        for k, i, j in np.ndindex(self.J_lag.shape):
            out[f"J[{k + 1},{i},{j}]"] = (float(self.J_lag[k, i, j]), float(self.J_lag_error[k, i, j]))
        return out

    def arrays(self):
        names = (
            "mean", "scale", "precision", "precision_error", "precision_error_wishart", "J", "J_error",
            "partial_correlation", "eigenvalues", "components", "J_lag", "J_lag_error",
            "J_lag_error_information", "unit",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


def fit_gaussian(data, *, n_lags=0, standardize=False, test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None):
    """Inverse covariance of a real-valued recording, or its vector autoregression.

    Parameters
    ----------
    data : ndarray (T, N), or sequence of them (trials)
        Finite numbers; time first.
    n_lags : int
        0: bins independent.  K >= 1: autoregression; the first K bins of each trial are not fitted.
    standardize : bool
        Divide every unit by its standard deviation over the training rows.
    test : float
        Fraction at the end that is scored, not fitted.
    ridge : float
        ``-(ridge/2) tr P`` in nats per unit of P: adds ridge/T to the diagonal of C.  With lags it is the L2 penalty on
        J_lag in units of the noise.
    n_blocks, bin_s, unit
        As in :func:`lft.inference.causal.fit.fit_glm`.

    Returns
    -------
    GaussianFit
        Scores are log-densities of x, nats per bin and unit.

    Raises
    ------
    InputError
        A unit that never varies, fewer bins than units (without ridge), bad arguments.

    References
    ----------
    Wishart errors and least squares: standard results.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> P = np.array([[2.0, -0.8], [-0.8, 2.0]])
    >>> x = rng.multivariate_normal(np.zeros(2), np.linalg.inv(P), 20000)
    >>> fit = fit_gaussian(x)
    >>> bool(abs(fit.precision[0, 1] + 0.8) < 4.5 * fit.precision_error[0, 1])
    True
    """
    started = time.perf_counter()
    trials = checked_rasters(data, None)
    n_units, n_bins = trials[0].shape[1], sum(len(x) for x in trials)
    if isinstance(n_lags, bool) or not isinstance(n_lags, int | np.integer) or n_lags < 0:
        raise InputError(f"n_lags = {n_lags!r}: valid is an integer >= 0")
    if isinstance(ridge, bool) or not isinstance(ridge, int | float | np.number) or not 0 <= ridge < np.inf:
        raise InputError(f"ridge = {ridge!r}: valid is a finite number >= 0")
    unit = np.arange(n_units) if unit is None else np.asarray(unit)
    if unit.shape != (n_units,) or unit.dtype.kind not in "iu":
        raise InputError(f"unit: got shape {unit.shape} of type {unit.dtype}; valid is one integer per unit, {n_units}")
    n_train = newton.split_rows(n_bins, test)
    rows = _rows(trials, n_lags)
    is_train = rows < n_train
    y, X = _stack(trials, n_lags)
    if not is_train.any():
        raise InputError(f"no bin to fit: {n_train} training bins, {n_lags} lags")
    n_fit = int(is_train.sum())
    if ridge == 0 and n_fit <= n_units * (1 + n_lags) + 1:
        raise InputError(
            f"{n_fit} fitted bins, {n_units} units, {n_lags} lags: the covariance has no inverse; give ridge > 0 "
            "or fewer units"
        )
    mean, scale = _reduce(y[is_train], standardize)
    y = (y - mean) / scale
    X = (X - np.tile(mean, n_lags)) / np.tile(scale, n_lags)
    M, residual, gram = _regress(y, X, is_train, ridge)
    parts = _estimate(residual[is_train], X[is_train], gram, ridge, n_blocks, max(n_lags, 1))
    C0 = np.cov(y[is_train].T, bias=True).reshape(n_units, n_units)
    values, vectors = np.linalg.eigh(C0)
    score, gain = _scores(residual, y, is_train, parts["precision"], n_lags)
    warnings = [] if parts["warning"] is None else [parts["warning"]]
    if n_lags and len(trials) > 1:
        warnings.append(
            f"the first {n_lags} bins of each of {len(trials)} trials have no known past and are not fitted"
        )
    P, n = parts["precision"], n_units
    off = ~np.eye(n, dtype=bool)
    diagonal = np.sqrt(P.diagonal())
    return GaussianFit(
        model="gaussian", score=score, gain=gain, n_units=n, n_bins=n_bins, n_train=n_train, n_blocks=parts["n_blocks"],
        bin_s=bin_s, seconds=time.perf_counter() - started, warnings=warnings, mean=mean, scale=scale, precision=P,
        precision_error=parts["error"], precision_error_wishart=parts["wishart"], J=np.where(off, -P, 0.0),
        J_error=np.where(off, parts["error"], 0.0),
        partial_correlation=np.where(off, -P / np.outer(diagonal, diagonal), 1.0), eigenvalues=values[::-1].copy(),
        components=vectors[:, ::-1].copy(), J_lag=M.reshape(n, n_lags, n).transpose(1, 0, 2).copy(),
        J_lag_error=parts["lag_error"], J_lag_error_information=parts["lag_information"], unit=unit.astype(np.int64),
    )  # fmt: skip


def _rows(trials, n_lags):
    """Global bins of the rows that have their past."""
    origins = np.concatenate([[0], np.cumsum([len(x) for x in trials])])
    rows = [np.arange(a + n_lags, b) for a, b in itertools.pairwise(origins)]
    rows = np.concatenate(rows)
    if not len(rows):
        raise InputError(f"{n_lags} lags, the longest trial has {max(map(len, trials))} bins: valid are fewer lags")
    return rows


def _stack(trials, n_lags):
    """(rows, N) and (rows, K N): the past ordered lag by lag."""
    y = np.concatenate([x[n_lags:] for x in trials])
    lagged = [
        np.concatenate([x[n_lags - k : len(x) - k] for x in trials if len(x) > n_lags]) for k in range(1, n_lags + 1)
    ]
    return y, np.concatenate(lagged, axis=1) if lagged else np.zeros((len(y), 0))


def _reduce(y, standardize):
    mean, scale = y.mean(axis=0), y.std(axis=0)
    still = np.flatnonzero(~(scale > 0))
    if len(still):
        raise InputError(f"{len(still)} units never vary in training, such as {still[0]}: leave them out")
    return mean, scale if standardize else np.ones_like(scale)


def _regress(y, X, is_train, ridge):
    """Least squares of y on the past (rows without past: M of no columns): M, residual of all rows, X^T X."""
    center = X[is_train].mean(axis=0)
    middle = y[is_train].mean(axis=0)
    Z = X[is_train] - center
    gram = Z.T @ Z + ridge * np.eye(X.shape[1])
    try:
        M = np.linalg.solve(gram, Z.T @ (y[is_train] - middle)).T if X.shape[1] else np.zeros((y.shape[1], 0))
    except np.linalg.LinAlgError:
        raise InputError(
            "the lagged covariance is singular: two units vary alike; leave one out, or give ridge > 0"
        ) from None
    return M, y - middle - (X - center) @ M.T, gram


def _estimate(e, X, gram, ridge, n_blocks, longest):
    """Precision of the residuals and all errors."""
    T, n = e.shape
    C = e.T @ e / T + ridge / T * np.eye(n)
    try:
        np.linalg.cholesky(C)
    except np.linalg.LinAlgError:
        raise InputError("the covariance is singular: two units vary alike; leave one out, or give ridge > 0") from None
    P = np.linalg.inv(C)
    P = (P + P.T) / 2
    edges = newton.fine_edges(T, n * n, n_blocks, "fitted bins")
    Z = X - X.mean(axis=0) if X.shape[1] else X
    sums = np.stack([e[a:b].T @ e[a:b] - (b - a) * (C - ridge / T * np.eye(n)) for a, b in itertools.pairwise(edges)])
    scores = np.stack([(e[a:b].T @ Z[a:b]).ravel() for a, b in itertools.pairwise(edges)])
    B = len(sums)
    influence = -np.einsum("ij,bjk,kl->bil", P, sums, P, optimize=True).reshape(B, -1) / T
    inverse = np.linalg.inv(gram) if len(gram) else gram
    lag = np.einsum("bik,kl->bil", scores.reshape(B, n, -1), inverse).reshape(B, -1)
    warning = None
    both = np.concatenate([influence, lag], axis=1)
    if n_blocks is None and B > 1:
        both, warning = newton.merge_blocks(both, [influence, lag], T, longest)
    B = len(both)
    error = np.sqrt((both**2).sum(axis=0) * (B / (B - 1))) if B > 1 else np.full(both.shape[1], np.nan)
    K = X.shape[1] // n
    to_lags = lambda flat: flat.reshape(n, K, n).transpose(1, 0, 2)  # noqa: E731
    d = P.diagonal()
    return {
        "precision": P, "error": error[: n * n].reshape(n, n), "n_blocks": B, "warning": warning,
        "wishart": np.sqrt((np.outer(d, d) + P**2) / T), "lag_error": to_lags(error[n * n :]),
        "lag_information": to_lags(np.sqrt(np.outer(C.diagonal(), inverse.diagonal())).ravel()),
    }  # fmt: skip


def _scores(residual, y, is_train, P, n_lags):
    """Log-density per bin and unit; the independent model has a variance per unit."""
    _, logdet = np.linalg.slogdet(P)
    n = y.shape[1]
    own = 0.5 * (logdet - n * LOG_2PI - np.einsum("ai,ij,aj->a", residual, P, residual, optimize=True))
    m, v = y[is_train].mean(axis=0), y[is_train].var(axis=0)
    alone = -0.5 * (np.log(v) + LOG_2PI + (y - m) ** 2 / v).sum(axis=1)
    test = ~is_train
    n_test = int(test.sum())
    score = {
        "kind": "log-likelihood", "train": float(own[is_train].mean() / n),
        "test": float(own[test].mean() / n) if n_test else float("nan"),
        "test_independent": float(alone[test].mean() / n) if n_test else float("nan"),
    }  # fmt: skip
    n_blocks = max(min(20, n_test // max(10 * n_lags, 1)), 1) if n_test else 0
    parts = np.array_split(own[test] - alone[test], n_blocks) if n_blocks else []
    gains, sizes = np.array([p.sum() for p in parts]), np.array([len(p) * n for p in parts], float)
    return score, newton.gain_with_error(gains, sizes)
