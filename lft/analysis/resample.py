"""Blocking, jackknife and block bootstrap: errors that need no derivative and no autocorrelation function.

Blocks must be much longer than the autocorrelation time. The series is never shortened: when the number of
blocks does not divide its length, the first blocks are one measurement longer than the others, as in
``numpy.array_split``.
"""

import numpy as np

from lft.analysis.series import check_array
from lft.errors import InputError


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
    series : array_like, shape (n,) or (n, k)
        Finite measurements in their order.
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
    data, is_flat = _check_series(series)
    sums, lengths = _block_sums(data, n_blocks)
    n = len(data)
    mean = data.mean(axis=0)
    h = n / lengths
    left_out = mean + (mean - sums / lengths[:, None]) / (h - 1)[:, None]
    whole = _evaluate(function, mean, is_flat)
    parts = np.array([_evaluate(function, m, is_flat) for m in left_out])
    h = h.reshape((-1,) + (1,) * whole.ndim)
    value = len(parts) * whole - ((1 - 1 / h) * parts).sum(axis=0)
    spread = (h * whole - (h - 1) * parts - value) ** 2 / (h - 1)
    return _plain(value), _plain(np.sqrt(spread.mean(axis=0)))


def bootstrap(series, function, n_blocks, n_samples, seed):
    """Value and error of a function of means, from resampling blocks with replacement.

        error^2 = g/(g-1) var_s f(means of sample s),   sample s = g blocks drawn with replacement

    Parameters
    ----------
    series : array_like, shape (n,) or (n, k)
        Finite measurements in their order.
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
    data, is_flat = _check_series(series)
    sums, lengths = _block_sums(data, n_blocks)
    _check_integer("n_samples", n_samples, 2, None)
    _check_integer("seed", seed, 0, None)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n_samples)
    means = (counts @ sums) / (counts @ lengths)[:, None]
    samples = np.array([_evaluate(function, m, is_flat) for m in means])
    error = samples.std(axis=0, ddof=1) * np.sqrt(n_blocks / (n_blocks - 1))
    return _plain(_evaluate(function, data.mean(axis=0), is_flat)), _plain(error)


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


def _evaluate(function, means, is_flat):
    if function is None:
        return means[0] if is_flat else means
    value = np.asarray(function(means.copy()))
    if value.dtype.kind not in "biuf" or not np.isfinite(value).all():
        raise InputError(f"function returned {value!r} at means {means.tolist()}; "
                         "it must return finite real numbers")
    return value.astype(np.float64)


def _plain(x):
    return float(x) if np.ndim(x) == 0 else x
