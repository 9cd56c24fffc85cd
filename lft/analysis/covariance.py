"""Covariance of several functions of the means of one ensemble, autocorrelation included, positive semi-definite.

With the fluctuations projected on the gradient of each function, ``d_{i,a} = sum_j (df_a/da_j) (a_{i,j} - mean a_j)``,

    Gamma_ab(t) = < d_{i,a} d_{i+t,b} >,     C_ab = [Gamma_ab(0) + sum_{t=1}^{W} (Gamma_ab(t) + Gamma_ba(t))] / n

with one window W for all.  The errors are those of the Gamma method, each with its own best window; from C only the
correlations ``C_ab / sqrt(C_aa C_bb)`` are taken.  A sum cut at a window need not be positive: if it is not, its
negative eigenvalues are set to 0 and the diagonal is brought back to 1, and the result says so.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from lft.analysis.estimate import covariance_of_means, estimate
from lft.analysis.series import center, check_index, check_replicas
from lft.errors import InputError, SeriesTooShort


@dataclass(frozen=True)
class Covariance:
    """Several quantities of one ensemble with their covariance.

    Attributes
    ----------
    estimates : list of Estimate
    matrix, correlation : ndarray (m, m)
        Covariance and correlation; positive semi-definite, diagonal = squared errors, 1.
    window : int
        Window of the correlations, in measurements.
    smallest_eigenvalue : float
        Of the correlation matrix before it was made positive.
    is_adjusted : bool
        Whether negative eigenvalues were set to 0 (:attr:`note` says it in words).
    constant : list of int
        Quantities that did not fluctuate: their rows are 0, and say nothing.
    """

    estimates: list
    matrix: np.ndarray
    correlation: np.ndarray
    window: int
    smallest_eigenvalue: float
    is_adjusted: bool
    constant: list

    @property
    def values(self):
        """Values, (m,)."""
        return np.array([e.value for e in self.estimates])

    @property
    def errors(self):
        """Errors, (m,)."""
        return np.array([e.error for e in self.estimates])

    @property
    def note(self):
        """What the reader of the matrix must know; empty if nothing."""
        text = []
        if self.is_adjusted:
            text.append(f"the correlation matrix had a negative eigenvalue ({self.smallest_eigenvalue:.2g}, "
                        f"window {self.window}): negative ones were set to 0; measure longer, or take fewer quantities")
        if self.constant:
            text.append(f"quantities {self.constant} are constant: no error can be estimated")
        return "; ".join(text)

    def chi_squared(self, expected):
        """chi^2 of the values against expected ones, and its degrees of freedom.

        Raises
        ------
        InputError
            The matrix is singular to working precision, or was adjusted: its condition number is named, nothing is
            inverted.
        """
        condition = np.linalg.cond(self.correlation)
        if self.constant or self.is_adjusted or not condition < 1e12:
            raise InputError(f"covariance of {len(self.estimates)} quantities: condition number {condition:.2g}, too "
                             "large to invert (valid below 1e12); use fewer quantities or more measurements")
        pull = (self.values - np.asarray(expected, float)) / self.errors
        return float(pull @ np.linalg.solve(self.correlation, pull)), len(pull)


def covariance(series, functions=None, *, spacing=1, s_tau=1.5, window=None, index=None, name="series"):
    """Estimates of several functions of the means of one ensemble, and their covariance matrix.

    Parameters
    ----------
    series : array_like, shape (n,) or (n, k), or list of such arrays
        As for :func:`lft.analysis.estimate`.
    functions : list of callable, or callable, optional
        Each ``function(means) -> float``; one callable that returns (m,) numbers counts as m functions.  Default: the
        means of the columns.
    spacing, s_tau, index, name
        As for :func:`lft.analysis.estimate`.
    window : int, optional
        Window of the correlations.  Default: the largest window of the single estimates.  Halved, to the value in the
        result, while the noise leaves a variance that is not positive.

    Returns
    -------
    Covariance

    Raises
    ------
    InputError
        As :func:`lft.analysis.estimate`; window out of range; a window with gaps in the series.

    Notes
    -----
    With gaps the correlations are those of the pairs that exist (lags of measurement places).  Cost: m times that of
    an estimate, and O(W n m^2).

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing import ar1_series
    >>> x = ar1_series(20000, 0.6, seed=1, shape=(2,))
    >>> c = covariance(np.column_stack([x[:, 0], x[:, 0] + x[:, 1]]))
    >>> bool(abs(c.correlation[0, 1] - 0.5 ** 0.5) < 0.1), c.is_adjusted
    (True, False)
    """
    replicas = check_replicas(series, name)
    means, deltas = center(replicas)
    functions = _functions(functions, means, name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SeriesTooShort)
        estimates = [estimate(replicas, f, spacing=spacing, s_tau=s_tau, name=f"{name}[{a}]", index=_listed(index))
                     for a, f in enumerate(functions)]
    for w in caught:
        warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    slopes = np.array([_gradient(f, means, deltas) for f in functions])
    constant = [a for a, e in enumerate(estimates) if e.is_constant]
    live = [a for a in range(len(functions)) if a not in constant]
    correlation, used, smallest = np.eye(len(functions)), 0, 1.0
    if live:
        used = max(estimates[a].window for a in live) if window is None else window
        projected = [d @ slopes[live].T for d in deltas]
        scale = np.sqrt(sum((d**2).sum(axis=0) for d in projected))
        projected = [d / scale for d in projected]
        places = None if index is None else check_index(index, replicas, name)
        while (np.diag(total := _windowed(projected, used, places)) <= 0).any():
            used //= 2  # noise at this window exceeds the variance itself; window 0 is a sum of squares
        raw, smallest = _as_correlation(total)
        correlation[np.ix_(live, live)] = raw
    errors = np.array([e.error for e in estimates])
    is_adjusted = smallest < -1e-12 * len(functions)
    return Covariance(estimates, correlation * np.outer(errors, errors), correlation, int(used), float(smallest),
                      bool(is_adjusted), constant)


def _listed(index):
    return index if index is None or (isinstance(index, (list, tuple)) and np.ndim(index[0]) > 0) else [index]


def _functions(functions, means, name):
    if functions is None:
        return [lambda m, a=a: m[a] for a in range(len(means))]
    if not callable(functions):
        return list(functions)
    m = np.asarray(functions(means.copy()))
    if m.ndim != 1:
        raise InputError(f"{name}: the function returned shape {m.shape}; valid is (m,), or give a list of functions")
    return [lambda x, a=a: np.asarray(functions(x))[a] for a in range(len(m))]


def _gradient(function, means, deltas):
    """Central differences with the naive errors as steps."""
    steps = np.sqrt(sum((d**2).sum(axis=0) for d in deltas)) / sum(map(len, deltas))
    slope = np.zeros(len(means))
    for j, step in enumerate(steps):
        up, down = means.copy(), means.copy()
        up[j] += step
        down[j] -= step
        if up[j] > down[j]:
            slope[j] = (float(function(up)) - float(function(down))) / (up[j] - down[j])
    return slope


def _windowed(deltas, window, index):
    """sum of Gamma_ab over lags -W..W, (m, m), up to one factor for all."""
    if index is None:
        return covariance_of_means(deltas, window)
    n = sum(map(len, deltas))
    total = sum(d.T @ d for d in deltas)
    for t in range(1, window * _stride(index) + 1):
        for d, places in zip(deltas, index, strict=True):
            _, i, j = np.intersect1d(places + t, places, assume_unique=True, return_indices=True)
            lagged = d[i].T @ d[j]
            total = total + lagged + lagged.T
    return total / n**2


def _stride(index):
    return max(1, int(np.gcd.reduce([np.gcd.reduce(np.diff(i)) for i in index])))


def _as_correlation(total):
    """Positive semi-definite correlation matrix next to a symmetric one, and its smallest eigenvalue before."""
    diagonal = np.diag(total)
    raw = total / np.sqrt(np.outer(diagonal, diagonal))
    values, vectors = np.linalg.eigh(raw)
    if values[0] >= 0:
        return raw, values[0]
    positive = (vectors * np.maximum(values, 0)) @ vectors.T
    scale = np.sqrt(np.diag(positive))
    positive = positive / np.outer(scale, scale)
    return (positive + positive.T) / 2, values[0]
