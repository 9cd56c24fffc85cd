"""Blocking, jackknife and block bootstrap: errors that need no derivative and no autocorrelation function.

Blocks must be much longer than the autocorrelation time. The series is never shortened: when the number of
blocks does not divide its length, the first blocks are one measurement longer than the others, as in
``numpy.array_split``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lft.analysis.series import check_array, check_replicas
from lft.errors import InputError


@dataclass(frozen=True)
class Resamples:
    """What resampling did to a quantity: kept, so that functions, covariances and fits can follow.

    Parameters
    ----------
    kind : {"jackknife", "bootstrap"}
    center : ndarray, any shape
        The quantity from all data.
    samples : ndarray, shape (n_samples, *shape)
        The quantity from each resampled series.
    h : ndarray, shape (n_samples,)
        Jackknife: length of the series over that of the block left out.  Bootstrap: g/(g-1) of its g blocks.
    group : ndarray of int, shape (n_samples,)
        Jackknife: the independent ensemble whose block was left out.

    Notes
    -----
    Quantities that come from one chain are combined by :meth:`map` of objects made with the same blocks (and seed):
    their correlations are kept.  Independent jackknife ensembles are first put side by side by :func:`independent`;
    independent bootstraps are combined as they are, if their seeds differ.

    Examples
    --------
    >>> from lft.testing import ar1_series
    >>> x = jackknife_samples(ar1_series(4000, 0.5, seed=1, shape=(2,)) + [1, 2], 40)
    >>> ratio = x.map(lambda m: m[0] / m[1])
    >>> abs(ratio.value - 0.5) < 4 * ratio.error
    True
    >>> y = jackknife_samples(ar1_series(3000, 0.2, seed=2) + 3, 30)
    >>> ratio, y = independent(ratio, y)
    >>> product = ratio.map(lambda r, m: r * m, y)
    >>> product.error > 3 * ratio.error
    True
    """

    kind: str
    center: np.ndarray
    samples: np.ndarray
    h: np.ndarray
    group: np.ndarray

    def map(self, function, *others):
        """The samples of ``function(self, *others)``; None is the identity.  The function gets arrays, returns any."""
        for other in others:
            if (other.kind, len(other.samples)) != (self.kind, len(self.samples)) or not (
                np.array_equal(other.group, self.group) and np.allclose(other.h, self.h)
            ):
                raise InputError("resamples of different blocks cannot be combined: make them with the same blocks and "
                                 "seed, or put independent ones side by side with independent()")
        if function is None:
            return self
        center = _evaluate(function, self.center, *(o.center for o in others))
        rows = zip(self.samples, *(o.samples for o in others), strict=True)
        samples = np.array([_evaluate(function, *row) for row in rows])
        return replace(self, center=center, samples=samples)

    @property
    def value(self):
        """The estimate: jackknife without its bias of order 1/n, bootstrap from all data."""
        if self.kind == "bootstrap":
            return _plain(self.center)
        return _plain(self.center + sum(self._group_value(k) - self.center for k in np.unique(self.group)))

    @property
    def error(self):
        """One standard error, in the shape of the quantity."""
        if self.kind == "bootstrap":
            return _plain(self.samples.std(axis=0, ddof=1) * np.sqrt(self.h[0]))
        return _plain(np.sqrt((self.deviations() ** 2).sum(axis=0)))

    @property
    def covariance(self):
        """Covariance matrix of the flattened quantity, positive semi-definite."""
        deviations = self.deviations().reshape(len(self.samples), -1)
        return deviations.T @ deviations

    @property
    def correlation(self):
        """Correlation matrix; rows of constant entries are nan off the diagonal."""
        covariance = self.covariance
        error = np.sqrt(np.diag(covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            out = covariance / np.outer(error, error)
        np.fill_diagonal(out, 1.0)
        return out

    def _column(self, values, mask):
        return values[mask].reshape((-1,) + (1,) * self.center.ndim)

    def _group_value(self, k):
        mask = self.group == k
        h, parts = self._column(self.h, mask), self.samples[mask]
        return len(parts) * self.center - ((1 - 1 / h) * parts).sum(axis=0)

    def deviations(self):
        """Rows whose outer products sum up to the covariance, (n_samples, *shape)."""
        if self.kind == "bootstrap":
            return (self.samples - self.samples.mean(axis=0)) * np.sqrt(self.h[0] / (len(self.samples) - 1))
        rows = np.empty_like(self.samples)
        for k in np.unique(self.group):
            mask = self.group == k
            h, parts = self._column(self.h, mask), self.samples[mask]
            pseudo = h * self.center - (h - 1) * parts
            rows[mask] = (pseudo - self._group_value(k)) / np.sqrt((h - 1) * len(parts))
        return rows


def independent(*parts):
    """Jackknife resamples of independent ensembles on one common set of samples, for :meth:`Resamples.map`.

    A block left out of one ensemble leaves the others whole, so their samples there are their centers.

    Returns
    -------
    list of Resamples
        In the order given, each of ``sum(len(p.samples))`` samples.
    """
    if any(p.kind != "jackknife" for p in parts):
        raise InputError("independent() is for jackknife resamples; bootstraps with other seeds combine as they are")
    h = np.concatenate([p.h for p in parts])
    first = np.cumsum([0] + [int(p.group.max()) + 1 for p in parts])
    group = np.concatenate([p.group + f for p, f in zip(parts, first, strict=False)])
    out = []
    for k, p in enumerate(parts):
        rows = [p.samples if j == k else np.broadcast_to(p.center, (len(q.samples), *p.center.shape))
                for j, q in enumerate(parts)]
        out.append(replace(p, samples=np.concatenate(rows), h=h, group=group))
    return out


def jackknife_samples(series, n_blocks=50):
    """Means of a series without one block at a time, as :class:`Resamples` (parameters as :func:`jackknife`).

    Several replicas (a list of arrays) are cut into blocks in proportion to their lengths, at least one each; no block
    spans two of them.
    """
    parts, is_flat = _check_parts(series)
    sums, lengths = _blocks_of(parts, n_blocks)
    n = lengths.sum()
    mean = np.concatenate(parts).mean(axis=0)
    h = n / lengths
    left_out = mean + (mean - sums / lengths[:, None]) / (h - 1)[:, None]
    if is_flat:
        mean, left_out = mean[0], left_out[:, 0]
    return Resamples("jackknife", np.asarray(mean), left_out, h, np.zeros(len(h), int))


def bootstrap_samples(series, n_blocks, n_samples, seed):
    """Means of resampled series as :class:`Resamples`, parameters as :func:`bootstrap`; a list: as replicas."""
    parts, is_flat = _check_parts(series)
    sums, lengths = _blocks_of(parts, n_blocks)
    _check_integer("n_samples", n_samples, 2, None)
    _check_integer("seed", seed, 0, None)
    g = len(lengths)
    counts = np.random.default_rng(seed).multinomial(g, np.full(g, 1 / g), size=n_samples)
    means = (counts @ sums) / (counts @ lengths)[:, None]
    mean = np.concatenate(parts).mean(axis=0)
    if is_flat:
        mean, means = mean[0], means[:, 0]
    return Resamples("bootstrap", np.asarray(mean), means, np.full(n_samples, g / (g - 1)), np.zeros(n_samples, int))


def block_means(series, n_blocks):
    """Means over consecutive blocks, ``B_j = (1/m_j) sum_{i in block j} a_i``.

    Parameters
    ----------
    series : array_like, shape (n,) or (n, k)
        Finite measurements in their order.
    n_blocks : int
        2 <= n_blocks <= n. If it does not divide n, the first ``n % n_blocks`` blocks hold one measurement
        more.

    Returns
    -------
    ndarray, shape (n_blocks,) or (n_blocks, k)
        With unequal blocks their plain mean differs slightly from the mean of the series; :func:`jackknife`
        and :func:`bootstrap` weight by block length.

    Raises
    ------
    InputError
        Wrong shape, non-finite data, or a number of blocks out of range.

    Notes
    -----
    Cost: O(n k).

    Examples
    --------
    >>> block_means([1.0, 2.0, 3.0, 4.0, 5.0], 2).tolist()
    [2.0, 4.5]
    """
    data, is_flat = _check_series(series)
    sums, lengths = _block_sums(data, n_blocks)
    means = sums / lengths[:, None]
    return means[:, 0] if is_flat else means


def jackknife(series, function=None, n_blocks=50):
    """Bias-corrected value and error of a function of means, leaving out one block at a time.

    With blocks of m_j of the n measurements, ``h_j = n/m_j``, t = f(all), t_j = f(all without block j), g
    blocks:

        value   = g t - sum_j (1 - 1/h_j) t_j
        error^2 = (1/g) sum_j (h_j t - (h_j - 1) t_j - value)^2 / (h_j - 1)

    which for equal blocks is ``g t - (g-1) mean(t_j)`` and ``(g-1)/g sum_j (t_j - mean)^2``.

    Parameters
    ----------
    series : array_like, shape (n,) or (n, k), or list of such arrays
        Finite measurements in their order; a list means replicas.
    function : callable, optional
        ``function(means)`` with `means` of shape (k,), returning a number or an array. Default: the means
        themselves.
    n_blocks : int, optional
        2 <= n_blocks <= n; blocks are unequal by one measurement when it does not divide n.

    Returns
    -------
    value, error : float or ndarray
        In the shape that the function returns. The bias of order 1/n is removed from the value, so it differs
        from ``function(series.mean(0))`` unless the function is linear.

    Raises
    ------
    InputError
        Wrong shape, non-finite data or function values, or a number of blocks out of range.

    Notes
    -----
    Cost: O(n k) and n_blocks + 1 calls. The relative error of the error is about ``1/sqrt(2 n_blocks)``.

    References
    ----------
    F. M. T. A. Busing, E. Meijer, R. van der Leeden, Statistics and Computing 9, 3 (1999): unequal blocks.

    Examples
    --------
    >>> from lft.testing import ar1_series
    >>> value, error = jackknife(ar1_series(10000, 0.5, seed=5) + 2, lambda m: m[0] ** 2)
    >>> abs(value - 4) < 4 * error
    True
    """
    samples = jackknife_samples(series, n_blocks).map(_of_means(function, series))
    return samples.value, samples.error


def bootstrap(series, function, n_blocks, n_samples, seed):
    """Value and error of a function of means, from resampling blocks with replacement.

        error^2 = g/(g-1) var_s f(means of sample s),   sample s = g blocks drawn with replacement

    Parameters
    ----------
    series : array_like, shape (n,) or (n, k), or list of such arrays
        Finite measurements in their order; a list means replicas.
    function : callable or None
        ``function(means)`` with `means` of shape (k,), returning a number or an array. None: the means
        themselves.
    n_blocks : int
        g, 2 <= g <= n; blocks are unequal by one measurement when it does not divide n, and weighted by
        length.
    n_samples : int
        Number of resampled series, >= 2; 1000 is usual.
    seed : int
        Any non-negative integer; the same seed gives the same result.

    Returns
    -------
    value, error : float or ndarray
        `value` is the function at the means of the whole series, without bias correction.

    Raises
    ------
    InputError
        Wrong shape, non-finite data or function values, or an integer out of range.

    Notes
    -----
    The factor g/(g-1) makes the squared error of a plain mean unbiased. Cost: O(n k + n_samples n_blocks k).

    References
    ----------
    B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, Chapman & Hall (1993).

    Examples
    --------
    >>> from lft.testing import ar1_series
    >>> value, error = bootstrap(ar1_series(10000, 0.5, seed=6) + 2, lambda m: m[0] ** 2, 100, 500, seed=7)
    >>> abs(value - 4) < 4 * error
    True
    """
    samples = bootstrap_samples(series, n_blocks, n_samples, seed).map(_of_means(function, series))
    return samples.value, samples.error


def _check_series(series):
    """Data as (n, k) float64, and whether it came as (n,)."""
    data = check_array(series, "series")
    return data, np.ndim(series) == 1


def _check_integer(label, x, low, high):
    if not isinstance(x, (int, np.integer)) or x < low or (high is not None and x > high):
        limit = f"from {low} to {high}" if high is not None else f">= {low}"
        raise InputError(f"{label} = {x!r}: give an integer {limit}")


def _block_sums(data, n_blocks):
    """Sums (g, k) and lengths (g,) of consecutive blocks, all measurements used."""
    _check_integer("n_blocks", n_blocks, 2, len(data))
    size, extra = divmod(len(data), n_blocks)
    lengths = np.full(n_blocks, size)
    lengths[:extra] += 1
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.add.reduceat(data, starts, axis=0), lengths


def _of_means(function, series):
    """The function as one of the mean of a series of numbers, which it expects as an array of shape (1,)."""
    _, is_flat = _check_parts(series)
    return function if function is None or not is_flat else lambda mean: function(np.array([mean]))


def _check_parts(series):
    """Replicas as a list of (n, k) float64 arrays, and whether they came as (n,)."""
    if isinstance(series, (list, tuple)) and len(series) and np.ndim(series[0]) > 0:
        return check_replicas(series, "series"), np.ndim(series[0]) == 1
    data, is_flat = _check_series(series)
    return [data], is_flat


def _blocks_of(parts, n_blocks):
    """Sums and lengths of the blocks of all replicas."""
    n = sum(map(len, parts))
    _check_integer("n_blocks", n_blocks, 2, n)
    if len(parts) == 1:
        return _block_sums(parts[0], n_blocks)
    cut = [min(len(p), max(1, round(n_blocks * len(p) / n))) for p in parts]
    pieces = [_block_sums(p, g) if g > 1 else (p.sum(axis=0)[None], np.array([len(p)]))
              for p, g in zip(parts, cut, strict=True)]
    return np.concatenate([s for s, _ in pieces]), np.concatenate([m for _, m in pieces])


def _evaluate(function, *arguments):
    value = np.asarray(function(*(np.copy(a) if np.ndim(a) else float(a) for a in arguments)))
    if value.dtype.kind not in "biuf" or not np.isfinite(value).all():
        raise InputError(f"function returned {value!r} at {', '.join(str(np.asarray(a).tolist()) for a in arguments)}; "
                         "it must return finite real numbers")
    return value.astype(np.float64)


def _plain(x):
    return float(x) if np.ndim(x) == 0 else x
