"""Means of correlated series with errors that include the autocorrelation (the Gamma method).

Conventions used in the whole package:

- autocovariance ``Gamma(t) = <(a_i - <a>)(a_{i+t} - <a>)>``, normalized ``rho(t) = Gamma(t)/Gamma(0)``;
- integrated autocorrelation time ``tau_int = 1/2 + sum_{t>=1} rho(t)``: 1/2 if independent;
- squared error of a mean over n measurements ``2 tau_int Gamma(0)/n``.

Reference: U. Wolff, "Monte Carlo errors with less errors", Comput. Phys. Commun. 156, 143 (2004),
hep-lat/0306017.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np

from lft.analysis.series import center, check_index, check_replicas, largest
from lft.errors import DataWarning, InputError, SeriesTooShort

MIN_LENGTH_IN_TAU = 50        # shorter series have an error of the error that is itself unknown


@dataclass(frozen=True)
class Estimate:
    """A number with its evidence; printing it gives ``0.4823(12) tau=2.1(2) n=18000``.

    Parameters
    ----------
    value : float
        The estimated quantity.
    error : float
        One standard error of `value`, autocorrelation included; 0 for a constant series, of which it says nothing:
        see `is_constant`.
    error_of_error : float
        One standard error of `error`.
    tau_int : float
        Integrated autocorrelation time ``1/2 + sum_{t>=1} rho(t)``, times `spacing`: in updates, not in
        measurements.
    tau_int_error : float
        One standard error of `tau_int`, in updates.
    window : int
        Last lag that was summed, in measurements.
    n : int
        Number of measurements, all replicas together.
    spacing : float, optional
        Updates between two measurements.

    Examples
    --------
    >>> e = Estimate(0.48231, 0.0012, 0.0001, 2.1, 0.2, 9, 18000)
    >>> print(e)
    0.4823(12) tau=2.1(2) n=18000
    >>> e.is_long_enough
    True
    """

    value: float
    error: float
    error_of_error: float
    tau_int: float
    tau_int_error: float
    window: int
    n: int
    spacing: float = 1

    @property
    def is_long_enough(self):
        """True if the series spans at least 50 integrated autocorrelation times and 25 measurements.

        The second condition is the first for independent measurements: a tau_int below 1/2 earns no credit.
        """
        return self.n * self.spacing >= self._needed_updates()

    @property
    def is_constant(self):
        """True if nothing fluctuated: the error 0 then means that none could be estimated, not that there is none."""
        return self.error == 0

    def _needed_updates(self):
        return MIN_LENGTH_IN_TAU * max(self.tau_int, 0.5 * self.spacing)

    def __str__(self):
        if self.is_constant:
            return f"{self.value:.10g} constant: no error can be estimated, n={self.n}"
        value = format_with_error(self.value, self.error)
        return f"{value} tau={format_with_error(self.tau_int, self.tau_int_error, digits=1)} n={self.n}"


def format_with_error(value, error, digits=2):
    """Write a number with its error in parentheses, in units of the last digit shown.

    Parameters
    ----------
    value, error : float
        Any floats; a zero, infinite, nan or negligible error is written out.
    digits : int, optional
        Significant digits of the error, 1 or 2.

    Returns
    -------
    str
        From 1 on the error keeps its decimal point, ``4.8(1.2)``; very large and very small numbers get an
        exponent.

    Examples
    --------
    >>> format_with_error(0.48231, 0.0012), format_with_error(4.83, 1.2), format_with_error(12345.6, 120)
    ('0.4823(12)', '4.8(1.2)', '12350(120)')
    >>> format_with_error(1.23456e10, 3e7), format_with_error(0.5, 0.0), format_with_error(2.5, float("nan"))
    ('1.2346(30)e+10', '0.5(0)', '2.5(nan)')
    """
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return f"{value:.10g}({error:.{digits}g})"
    if error < 1e-14 * abs(value):
        return f"{value:.17g}({error:.{digits}g})"
    exponent = math.floor(math.log10(max(abs(value), error)))
    if not -5 < exponent < 6:
        # Through the decimal text: 10.0**exponent would overflow at the ends of the float range.
        exponent = int(f"{max(abs(value), error):.16e}".split("e")[1])
        return f"{_fixed(_shift(value, -exponent), _shift(error, -exponent), digits)}e{exponent:+03d}"
    return _fixed(value, error, digits)


def _shift(x, exponent):
    mantissa, own = f"{x:.16e}".split("e")
    return float(f"{mantissa}e{int(own) + exponent}")


def _fixed(value, error, digits):
    """Fixed-point text of value(error); rounding the error first keeps 0.0996 from showing as (100)."""
    rounded = float(f"{error:.{digits - 1}e}")
    last = int(f"{error:.{digits - 1}e}".split("e")[1]) - (digits - 1)    # decimal place shown last
    decimals = max(0, -last)
    text = f"{round(value, -last):.{decimals}f}"
    if decimals == 0 or rounded >= 1:
        return f"{text}({rounded:.{decimals}f})"
    return f"{text}({round(rounded * 10**decimals)})"


def estimate(series, function=None, *, spacing=1, s_tau=1.5, gradient=None, name="series", index=None):
    """Estimate the mean of a series, or a function of means, with its autocorrelated error.

    For ``F = f(<a_1>, ..., <a_k>)`` the fluctuations are projected on the gradient, and

        d_i          = sum_j (df/da_j) (a_{i,j} - mean a_j)
        Gamma(t)     = sum over pairs at distance t within one replica of d_i d_{i+t} / (number of such pairs)
        C(W)         = Gamma(0) + 2 sum_{t=1}^{W} Gamma(t)
        error^2      = C(W)/n,   tau_int = C(W) / (2 Gamma(0))

    after every Gamma(t) was raised by C(W)/n, which removes the bias from the subtraction of the measured
    mean.

    Parameters
    ----------
    series : array_like, shape (n,) or (n, k), or list of such arrays
        Measurements in their order. A list (or tuple) of arrays means replicas: independent chains of any
        lengths, with a common mean. A list of plain numbers is one series. Finite and real; at least 4
        measurements each.
    function : callable, optional
        ``function(means) -> float`` with `means` of shape (k,). Needed when k > 1. Smooth on the scale of the
        errors.
    spacing : float, optional
        Updates between two measurements, > 0. `tau_int` and its error are reported in updates.
    s_tau : float, optional
        Ratio of the exponential to the integrated autocorrelation time assumed by the automatic window, > 0.
        Usual 1 to 2; larger values give longer windows: less bias, more noise.
    gradient : callable or array_like of shape (k,), optional
        Gradient of `function`, or a callable that returns it at the means. Default: central differences whose
        step is the error that each mean would have without autocorrelation.
    name : str, optional
        Name of the series in messages.
    index : array_like of int, or list of them (one per replica), optional
        Place of each measurement in its chain, in units of `spacing` updates: strictly increasing, as many as
        measurements. Default: 0, 1, 2, ... A series with gaps (a lost file, a stretch thrown away) or with another
        stride.

    Returns
    -------
    Estimate
        `value` is the function at the overall means. A constant series gives error 0 and tau_int = spacing/2.

    Raises
    ------
    InputError
        Wrong shape, too few measurements, complex or non-finite data, non-finite values of the function or
        gradient.

    Warns
    -----
    SeriesTooShort
        The series is shorter than 50 tau_int, or than 25 measurements; the estimate is returned all the same.
    DataWarning
        The gaps of `index` leave lags inside the window without a single pair of measurements: `tau_int` then rests
        on a straight line between the neighboring lags (the error does not, those lags do not enter it).

    Notes
    -----
    With gaps, Gamma(t) averages over the N(t) pairs that exist, and since only those pairs are correlated,

        error^2 = (1/n) [Gamma(0) + 2 sum_{t=1}^{W} w(t) Gamma(t)],    w(t) = N(t) / (pairs of n gapless measurements)

    while tau_int remains that of the chain, with w = 1. Dropping measurements at random therefore lowers n, and
    the correlation of what is left.

    Window: the smallest W >= 1 with ``exp(-W/tau) < tau/sqrt(W n)``, where
    ``tau = s_tau / ln((2 tau_int + 1)/(2 tau_int - 1))``: there the systematic error of the cut equals the
    statistical one. Where the sum falls to 1/2 or below, tau is negligible, except for significantly
    alternating series, ``rho(1) < -3/sqrt(n)``: they use at least ``tau = -s_tau / ln |rho(1)|`` and an even
    window, which errs on the large side. If noise makes C(W) <= 0 the window is 0, the error of independent
    measurements. ``error_of_error = error sqrt((W + 1/2)/n)`` and ``tau_int_error = 2 tau_int sqrt((W + 1/2 -
    tau_int)/n)``, both leading order in W/n. Cost: O(k n) + O(n log n), memory O(n).

    References
    ----------
    U. Wolff, Comput. Phys. Commun. 156, 143 (2004), hep-lat/0306017.

    Examples
    --------
    >>> from lft.testing import ar1_series
    >>> e = estimate(ar1_series(20000, 0.6, seed=1))        # exact: mean 0, tau_int 1.6/0.8 = 2
    >>> abs(e.value) < 4 * e.error, abs(e.tau_int - 2) < 4 * e.tau_int_error
    (True, True)
    >>> ratio = estimate(ar1_series(20000, 0.6, seed=2, shape=(2,)) + [1, 2], lambda m: m[0] / m[1])
    >>> abs(ratio.value - 0.5) < 4 * ratio.error
    True
    """
    _check_options(spacing, s_tau)
    replicas = check_replicas(series, name)
    k = replicas[0].shape[1]
    if function is None and k > 1:
        raise InputError(f"{name} has {k} columns and no function: give function(means) -> float, "
                         "or use estimate_vector for one estimate per column")
    if function is None and gradient is not None:
        raise InputError(f"{name}: a gradient needs the function it belongs to")
    index = None if index is None else check_index(index, replicas, name)
    means, deltas = center(replicas)
    if function is None:
        value, slope = float(means[0]), np.ones(1)
    else:
        value = _call(function, means, name)
        slope = _slope(function, gradient, means, deltas, name)
    # Below this the projected fluctuations are rounding noise of data that are constant.
    noise = 16 * np.finfo(float).eps * sum(abs(slope) * largest(replicas))
    result = _gamma_method(value, [d @ slope for d in deltas], noise, spacing, s_tau, index, name)
    _warn_if_short(result, name)
    return result


def estimate_vector(series, *, spacing=1, s_tau=1.5, name="series", index=None):
    """Estimate the mean of every column of a series, each with its own window.

    Parameters
    ----------
    series : array_like, shape (n, k), or list of such arrays
        As for :func:`estimate`; shape (n,) is one column.
    spacing, s_tau, name, index
        As for :func:`estimate`; column j is called ``name[j]`` in messages.

    Returns
    -------
    list of Estimate
        One per column.

    Raises
    ------
    InputError
        As :func:`estimate`.

    Notes
    -----
    Cost: O(k n log n). The estimates are correlated; see :func:`covariance_of_means`.

    Examples
    --------
    >>> from lft.testing import ar1_series
    >>> [e.n for e in estimate_vector(ar1_series(1000, 0.0, seed=3, shape=(2,)))]
    [1000, 1000]
    """
    _check_options(spacing, s_tau)
    replicas = check_replicas(series, name)
    index = None if index is None else check_index(index, replicas, name)
    means, deltas = center(replicas)
    noise = 16 * np.finfo(float).eps * largest(replicas)
    results = []
    for j, mean in enumerate(means):
        columns = [d[:, j] for d in deltas]
        results.append(_gamma_method(float(mean), columns, noise[j], spacing, s_tau, index, f"{name}[{j}]"))
        _warn_if_short(results[-1], f"{name}[{j}]")
    return results


def covariance_of_means(series, window):
    """Covariance matrix of the means of the columns of a series, with one window for all.

        Cov_ab = (1/n) [Gamma_ab(0) + sum_{t=1}^{W} (Gamma_ab(t) + Gamma_ba(t))] (1 + (2W + 1)/n)

    Parameters
    ----------
    series : array_like, shape (n, k), or list of such arrays
        As for :func:`estimate`; shape (n,) is one column.
    window : int
        Last lag summed, 0 <= window < length of the longest replica. A common choice is the largest window of
        :func:`estimate_vector`.

    Returns
    -------
    ndarray, shape (k, k)
        Symmetric; the diagonal holds the squared errors of the Gamma method with this window. It need not be
        positive definite when k approaches n/(2W + 1).

    Raises
    ------
    InputError
        As :func:`estimate`, or a window out of range.

    Notes
    -----
    Cost: O(W n k^2). The last factor removes the bias from the subtraction of the measured mean.

    References
    ----------
    U. Wolff, Comput. Phys. Commun. 156, 143 (2004), hep-lat/0306017.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing import ar1_series
    >>> x = ar1_series(4000, 0.5, seed=4)
    >>> c = covariance_of_means(np.stack([x, 2 * x], axis=1), window=10)
    >>> bool(abs(c[0, 1] - 2 * c[0, 0]) < 1e-12)
    True
    """
    replicas = check_replicas(series, "series")
    longest = max(len(r) for r in replicas)
    if not (isinstance(window, (int, np.integer)) and 0 <= window < longest):
        raise InputError(f"window = {window!r}: give an integer from 0 to {longest - 1}, below the "
                         "length of the series")
    _, deltas = center(replicas)
    n = sum(len(d) for d in deltas)
    total = sum(d.T @ d for d in deltas) / n
    for t in range(1, window + 1):
        lagged = sum(d[:-t].T @ d[t:] for d in deltas if len(d) > t) / sum(max(len(d) - t, 0) for d in deltas)
        total = total + lagged + lagged.T
    return total / n * (1 + (2 * window + 1) / n)


def _check_options(spacing, s_tau):
    for label, x in (("spacing", spacing), ("s_tau", s_tau)):
        if not (np.isscalar(x) and np.isreal(x) and np.isfinite(x) and x > 0):
            raise InputError(f"{label} = {x!r}: give a positive number")


def _call(function, means, name):
    value = np.asarray(function(means.copy()))
    if value.size != 1 or value.dtype.kind not in "biuf" or not np.isfinite(value).all():
        raise InputError(f"{name}: function returned {value!r} at means {means.tolist()}; "
                         "it must return one finite number")
    return float(value.reshape(()))


def _slope(function, gradient, means, deltas, name):
    """Gradient of the function, given or by central differences with the naive errors as steps."""
    if gradient is not None:
        slope = np.asarray(gradient(means.copy()) if callable(gradient) else gradient, dtype=float)
        if slope.shape != means.shape or not np.isfinite(slope).all():
            raise InputError(f"{name}: the gradient is {slope!r}; it must be finite with shape {means.shape}")
        return slope
    n = sum(len(d) for d in deltas)
    steps = np.sqrt(sum((d**2).sum(axis=0) for d in deltas)) / n
    slope = np.zeros_like(means)
    for j, step in enumerate(steps):
        up, down = means.copy(), means.copy()
        up[j] += step
        down[j] -= step
        if up[j] > down[j]:                      # a constant column moves nothing
            slope[j] = (_call(function, up, name) - _call(function, down, name)) / (up[j] - down[j])
    return slope


def _gamma_method(value, deltas, noise, spacing, s_tau, index=None, name="series"):
    """Estimate from projected fluctuations, one 1-D array per replica."""
    n = sum(len(d) for d in deltas)
    scale = float(max(abs(d).max() for d in deltas))
    if scale <= noise:
        return Estimate(value, 0.0, 0.0, 0.5 * spacing, 0.0, 0, n, spacing)
    stride = 1
    if index is not None:
        stride, index = _common_stride(index)
        deltas = [_spread(d, i) for d, i in zip(deltas, index, strict=True)]
    deltas = [d / scale for d in deltas]  # squares of any data stay in range
    gamma, weight, window = _gamma_and_window(deltas, index, n, s_tau)
    if index is not None:
        _warn_of_empty_lags(weight[:window + 1], stride * spacing, name)
    total = gamma[0] + 2 * (weight * gamma)[1:window + 1].sum()
    if total <= 0:
        window, total = 0, gamma[0]
    bias = total / n
    total += (1 + 2 * weight[1:window + 1].sum()) * bias
    tau = (gamma[0] + 2 * gamma[1:window + 1].sum() + (2 * window + 1) * bias) / (2 * (gamma[0] + bias))
    error = scale * math.sqrt(total / n)
    tau_error = 2 * tau * math.sqrt(max(window + 0.5 - tau, 0.0) / n)
    step = spacing * stride
    return Estimate(value, error, error * math.sqrt((window + 0.5) / n), float(tau * step),
                    float(tau_error * step), window, n, step)


FEW_LAGS = 512


def _gamma_and_window(deltas, index, n, s_tau):
    """Gamma, weights of the pairs, and the window: of as many lags as it takes to find it.

    The window depends on shorter lags alone, so most series need few, and those come from transforms that stay in the
    cache.
    """
    n_lags = max(len(d) for d in deltas) // 2 + 1
    m = FEW_LAGS
    while index is None and 8 * m < n_lags:
        gamma = sum(_short_sums(d, m) for d in deltas) / sum(np.maximum(len(d) - np.arange(m), 0) for d in deltas)
        window = _choose_window(gamma / gamma[0], n, s_tau)
        if window < m - 2:
            return gamma, np.ones(m), window
        m *= 8
    gamma, weight = autocovariance(deltas, index)
    return gamma, weight, _choose_window(gamma / gamma[0], n, s_tau)


def _short_sums(d, m):
    """sum_i d_i d_(i+t) for t < m: blocks of 3 m against themselves and the next m, by FFT of 4 m."""
    n_blocks = -(-len(d) // (3 * m))
    padded = np.zeros(3 * m * n_blocks + m)
    padded[: len(d)] = d
    total = 0.0
    for first in range(0, n_blocks, 32):
        rows = range(first, min(first + 32, n_blocks))
        whole = np.array([padded[3 * m * b : 3 * m * b + 4 * m] for b in rows])
        ahead = np.fft.rfft(whole)
        total = total + (np.conj(np.fft.rfft(whole[:, : 3 * m], 4 * m)) * ahead).sum(axis=0)
    return np.fft.irfft(total, 4 * m)[:m]


def autocovariance(deltas, index=None):
    """Gamma(t) for t up to half the longest replica, by FFT with zero padding, and the weights of its pairs.

    Parameters
    ----------
    deltas : list of ndarray, each (n,)
        Centered series, one per replica; with `index` on the grid of their places, 0 where there is none.
    index : list of ndarray of int, optional
        Places of the measurements on that grid.

    Returns
    -------
    gamma, weight : ndarray
        The weight is the number of pairs over that of as many measurements without gaps (1 without `index`); where
        it is 0, gamma lies on the line between its neighbors.
    """
    n_lags = max(len(d) for d in deltas) // 2 + 1
    sums, pairs, gapless = np.zeros(n_lags), np.zeros(n_lags), np.zeros(n_lags)
    for r, d in enumerate(deltas):
        size = 1 << (2 * len(d) - 1).bit_length()          # >= 2 n: no pair wraps around
        power = np.abs(np.fft.rfft(d, size))**2
        m = min(len(d), n_lags)
        sums[:m] += np.fft.irfft(power, size)[:m]
        if index is None:
            pairs[:m] += len(d) - np.arange(m)
            continue
        there = _spread(np.ones(len(index[r])), index[r])
        pairs[:m] += np.rint(np.fft.irfft(np.abs(np.fft.rfft(there, size))**2, size)[:m])
        gapless[:m] += np.maximum(len(index[r]) - np.arange(m), 0)
    if index is None:
        return sums / pairs, np.ones(n_lags)
    is_known = pairs > 0
    lags = np.arange(n_lags)
    gamma = np.interp(lags, lags[is_known], sums[is_known] / pairs[is_known])
    return gamma, np.divide(pairs, gapless, out=np.zeros(n_lags), where=gapless > 0)


def _common_stride(index):
    """Greatest common divisor of all distances, and the places in units of it, each chain from 0."""
    from_zero = [i - i[0] for i in index]
    stride = max(1, int(np.gcd.reduce([np.gcd.reduce(i) for i in from_zero])))
    return stride, [i // stride for i in from_zero]


def _spread(values, places):
    out = np.zeros(int(places[-1]) + 1)
    out[places] = values
    return out


def _warn_of_empty_lags(weight, step, name):
    n_empty = int(np.count_nonzero(weight == 0))
    if n_empty:
        warnings.warn(DataWarning(f"{name}: {n_empty} of the {len(weight) - 1} lags in the window have no pair of "
                                  f"measurements (the shortest: {int(np.argmin(weight)) * step:g} updates): tau_int is "
                                  "interpolated there"), stacklevel=4)


def _choose_window(rho, n, s_tau):
    """Smallest window at which the systematic error of the cut falls below the statistical one."""
    lags = np.arange(1, len(rho))
    tau_int = 0.5 + np.cumsum(rho[1:])
    tau = np.full(len(lags), np.finfo(float).tiny)
    above = tau_int > 0.5
    tau[above] = s_tau / np.log1p(1 / (tau_int[above] - 0.5))       # (2 t + 1)/(2 t - 1) = 1 + 1/(t - 1/2)
    is_alternating = rho[1] < -3 / math.sqrt(n)
    if is_alternating:
        size = min(-rho[1], 1 - 1 / n)                     # rho(1) = -1 would never decay
        tau = np.maximum(tau, -s_tau / math.log(size))
    with np.errstate(under="ignore", over="ignore"):
        is_enough = np.exp(-lags / tau) < tau / np.sqrt(lags * n)
    window = int(lags[np.argmax(is_enough)]) if is_enough.any() else int(lags[-1])
    if is_alternating and window % 2 == 1:
        window = window + 1 if window < lags[-1] else window - 1
    return window


def _warn_if_short(result, name):
    if result.is_long_enough:
        return
    needed = result._needed_updates()
    missing = math.ceil(needed - result.n * result.spacing)
    tau = format_with_error(result.tau_int, result.tau_int_error, digits=1)
    message = (f"{name}: n = {result.n} measurements span {result.n * result.spacing:g} updates, less than "
               f"the {needed:.4g} of {MIN_LENGTH_IN_TAU} tau_int (tau_int = {tau} updates): "
               f"its error is not to be trusted; add at least {missing} updates")
    warnings.warn(SeriesTooShort(message), stacklevel=3)
