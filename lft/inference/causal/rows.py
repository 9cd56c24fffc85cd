"""One target with its design matrix written out: what a bootstrap or a posterior evaluates thousands of times.

:class:`lft.inference.causal.objective.CausalObjective` visits spikes for eight targets at a time; one target alone, at
small size, is faster by plain products with its matrix, and a bootstrap sample is a choice of rows.
"""

from __future__ import annotations

import itertools

import numpy as np

from lft import links
from lft.errors import InputError
from lft.inference.causal.design import TargetInformation

MAX_BYTES = 2**30
DENSE = 0.1  # share of entries from which products of dense matrices are faster (measured: 0.05 to 0.2)


class RowObjective:
    """Exact log-likelihood of one target (:mod:`lft.inference.protocols`).

        L = sum_a log P(n_i(a) | eta(a)),     eta = X theta

    Parameters
    ----------
    X : ndarray or scipy.sparse.csr_array (rows, size)
    y : ndarray (rows,)
    at : ndarray of int (rows,)
        Position of each row in the stretch, ascending: bins that are not fitted are not among the rows.
    n_rows : int
        Length of the stretch.
    link : {"logit", "cloglog", "poisson"}
    labels : tuple
        (names, kinds, groups).
    longest_lag : int

    Notes
    -----
    Memory: X, 8 bytes a cell (12 a nonzero entry where it is sparse).  Rows that are alike (few units, short filters)
    can be joined, with their number (:meth:`join`).

    Examples
    --------
    >>> import numpy as np
    >>> labels = (["c[0]", "C[1,0,1]"], np.array(["c", "C"]), np.array([-1, 1]))
    >>> x, y = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]), np.array([0.0, 1.0, 0.0, 1.0])
    >>> o = RowObjective(x, y, np.arange(4), 4, "logit", labels, 1)
    >>> value, gradient, make = o.evaluate(np.zeros(2))
    >>> bool(abs(value + 4 * np.log(2)) < 1e-12), gradient.tolist(), make(None).diagonal().tolist()
    (True, [0.0, 0.0], [1.0, 0.5])
    >>> o.over([(1, 2), (1, 2)]).score(np.zeros(2), 0, 2).tolist()  # a row drawn twice counts twice
    [1.0, 1.0]
    """

    def __init__(self, X, y, at, n_rows, link, labels, longest_lag):
        self.X, self.y, self.at, self.n_rows, self.link = X, y, at, int(n_rows), link
        self.labels, self.longest_lag, self.size = labels, longest_lag, X.shape[1]
        self.joined = None  # (X, y, how often) of different rows

    def names(self):
        return self.labels[0]

    def kinds(self):
        return self.labels[1]

    def groups(self):
        return self.labels[2]

    def _terms(self, theta, low, high):
        X, y = self.X, self.y[:, None]
        if high - low < len(y):  # a slice of a sparse matrix is a copy
            X, y = X[low:high], y[low:high]
        elif self.joined is not None:
            return self._joined_terms(theta)
        value, r, w = links.terms(self.link, (X @ theta)[:, None], y)
        if self.link == "poisson" and y.size and y.max() > 1:
            from scipy.special import gammaln

            value = value - gammaln(y + 1).sum()
        return X, float(value[0]), r[:, 0], w[:, 0]

    def join(self):
        """Sums over all rows visit equal ones once from now on, if that saves half of them; returns the objective.  The
        sorting costs about 30 evaluations."""
        self.joined = _join(self.X, self.y) if isinstance(self.X, np.ndarray) else None
        return self

    def _joined_terms(self, theta):
        X, y, times = self.joined
        eta = X @ theta
        _, r, w = links.terms(self.link, eta[:, None], y[:, None])
        value = float(times @ links.log_probability(self.link, eta, y))
        return X, value, times * r[:, 0], times * w[:, 0]

    def _rows(self, start, stop):
        return np.searchsorted(self.at, (start, stop))

    def evaluate(self, theta):
        """Log-likelihood, gradient and ``extra -> TargetInformation``."""
        X, value, r, w = self._terms(theta, 0, len(self.y))
        matrix = []

        def make(extra=None):
            if not matrix:
                matrix.append(_gram(X, w))
            return TargetInformation(matrix[0], np.arange(self.size), extra)

        return value, X.T @ r, make

    def score(self, theta, start, stop):
        """Gradient of some rows."""
        X, _, r, _ = self._terms(theta, *self._rows(start, stop))
        return X.T @ r

    def log_likelihood(self, theta, start, stop):
        """Log-likelihood of some rows, nats."""
        return self._terms(theta, *self._rows(start, stop))[1]

    def over(self, ranges):
        """The same problem on some ranges of rows; a row that is named twice counts twice."""
        which, at, length = [], [], 0
        for a, b in ranges:
            low, high = self._rows(a, b)
            which.append(np.arange(low, high))
            at.append(self.at[low:high] - a + length)
            length += b - a
        which = np.concatenate(which)
        more = (length, self.link, self.labels, self.longest_lag)
        return RowObjective(self.X[which], self.y[which], np.concatenate(at), *more)


def _join(X, y):
    """Different rows of X and y, and how often each stands; None where that would not save much."""
    some = slice(0, 2000)
    if 2 * len(np.unique(X[some], axis=0)) > len(X[some]):
        return None
    different, times = np.unique(np.column_stack([X, y]), axis=0, return_counts=True)
    if 2 * len(different) > len(X):
        return None
    return np.ascontiguousarray(different[:, :-1]), different[:, -1], times.astype(float)


def _gram(X, w):
    """``X^T diag(w) X``."""
    if isinstance(X, np.ndarray):
        return (X * w[:, None]).T @ X
    scaled = X.copy()
    scaled.data = X.data * np.repeat(w, np.diff(X.indptr))
    return (scaled.T @ X).toarray()


def bytes_of_rows(design, size):
    """Memory of the written-out matrix of one target, without building it."""
    density = _density(design, size)
    return design.n_fitted * size * (8.0 if density > DENSE else 12.0 * density)


def _density(design, size):
    """Upper bound of the share of entries that are not 0."""
    spikes = np.diff(design.table.ptr).sum() * design.width * np.count_nonzero(design.cross, axis=0).max(initial=1)
    return min((design.n_fitted * design.n_dense + spikes) / max(design.n_fitted * size, 1), 1.0)


def write_out(design, target, places, n_rows, labels, pinned=None):
    """The :class:`RowObjective` of a target of a design.

    Parameters
    ----------
    design : Design
    target : int
    places : ndarray of int
        Padded places of its free parameters.
    n_rows : int
        Rows of the fitted stretch, from the first bin.
    labels : tuple
        (names, kinds, groups) of these parameters.
    pinned : tuple, optional
        (rows, sign) of bins whose outcome is certain; they add nothing and are left out.

    Raises
    ------
    InputError
        More than 1 GB.
    """
    need = bytes_of_rows(design, len(places))
    if need > MAX_BYTES:
        raise InputError(
            f"{len(places)} parameters of unit {target} on {design.n_fitted} bins: written out they need "
            f"{need / 1e9:.3g} GB, valid is up to {MAX_BYTES / 1e9:.3g}: select fewer units, or a shorter stretch"
        )
    is_fitted = design.fits[:n_rows].astype(bool)
    if pinned is not None:
        is_fitted[pinned[0][pinned[0] < n_rows]] = False
    at = np.flatnonzero(is_fitted)
    y = np.bincount(design.table.times(target), minlength=design.table.n_bins)[at].astype(float)
    columns = _columns(design, target, places, at)
    if _density(design, len(places)) > DENSE:
        X = np.empty((len(at), len(places)))
        for number, column in enumerate(columns):
            X[:, number] = column
    else:
        X = _sparse(columns, len(at))
    return RowObjective(X, y, at, n_rows, design.link, labels, design.n_lags)


def _columns(design, target, places, at):
    """Each column on the rows ``at``, one after the other."""
    dense = design.dense(0, design.table.n_bins)[at] if design.n_dense > 1 else np.ones((len(at), 1))
    for source, group in itertools.groupby(places, lambda p: -1 if p < design.n_dense else _split(design, p)[0]):
        if source < 0:
            yield from (dense[:, p] for p in group)
            continue
        j = design.sources[source]
        matrix = design.own if j == target else design.cross
        counts = np.bincount(design.table.times(j), minlength=design.table.n_bins).astype(float)
        for place in group:
            column, filt = np.zeros(len(at)), matrix[:, _split(design, place)[1]]
            for k in np.flatnonzero(filt) + 1:
                column += filt[k - 1] * counts[at - k]  # a fitted row has its past
            yield column


def _split(design, place):
    return divmod(int(place) - design.n_dense, design.width)


def _sparse(columns, n_rows):
    from scipy.sparse import csc_array

    values, indices, ends = [], [], [0]
    for column in columns:
        filled = np.flatnonzero(column)
        values.append(column[filled])
        indices.append(filled)
        ends.append(ends[-1] + len(filled))
    shape = (n_rows, len(ends) - 1)
    return csc_array((np.concatenate(values), np.concatenate(indices), ends), shape=shape).tocsr()
