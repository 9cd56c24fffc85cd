"""Judging a Monte Carlo result against an exact one, and series whose answer is known."""

import math

import numpy as np

from lft.errors import InputError


def z_score(estimate, exact):
    """Deviation in units of the error, ``z = (value - exact)/error``.

    Parameters
    ----------
    estimate : object with attributes `value` and `error`, or pair (value, error)
        For example an :class:`lft.analysis.Estimate`.
    exact : float
        The true value.

    Returns
    -------
    float
        With error 0: 0 if value and exact are the same float, else infinite with the sign of the deviation.

    Raises
    ------
    InputError
        The estimate has neither the attributes nor two entries.

    Notes
    -----
    Cost: O(1).

    Examples
    --------
    >>> z_score((1.5, 0.25), 1.0)
    2.0
    """
    value, error = _value_and_error(estimate)
    deviation = value - exact
    if error == 0:
        return 0.0 if deviation == 0 else math.copysign(math.inf, deviation)
    return deviation / error


def assert_agrees(estimate, exact, z_max=4.5, relative_error_max=None):
    """Raise AssertionError unless ``|z| < z_max``, and unless the error is small enough to mean something.

    Parameters
    ----------
    estimate : object with attributes `value` and `error`, or pair (value, error)
        The Monte Carlo result.
    exact : float
        The true value.
    z_max : float, optional
        Largest accepted deviation in units of the error, > 0. At 4.5 a correct result fails once in 150 000.
    relative_error_max : float, optional
        Required precision: ``error <= relative_error_max |exact|`` (absolute when `exact` is 0). Without it a
        test passes by being imprecise.

    Raises
    ------
    AssertionError
        With value, error, exact value, z and both limits. A nan anywhere fails.

    Notes
    -----
    Cost: O(1).

    Examples
    --------
    >>> assert_agrees((1.02, 0.01), 1.0, relative_error_max=0.02)
    >>> assert_agrees((1.02, 0.001), 1.0)
    Traceback (most recent call last):
        ...
    AssertionError: 1.02 +- 0.001 differs from the exact 1 by z = 20 (limit 4.5)
    """
    value, error = _value_and_error(estimate)
    z = z_score(estimate, exact)
    if not abs(z) < z_max:
        raise AssertionError(f"{value:.10g} +- {error:.3g} differs from the exact {exact:.10g} "
                             f"by z = {z:.3g} (limit {z_max:g})")
    if relative_error_max is not None:
        limit = relative_error_max * (abs(exact) if exact != 0 else 1.0)
        if not error <= limit:
            raise AssertionError(f"{value:.10g} +- {error:.3g} agrees with the exact {exact:.10g} "
                                 f"(z = {z:.3g}) but its error exceeds {limit:.3g}: this tests nothing")


def ar1_series(n, rho, seed, shape=()):
    """Stationary Gaussian AR(1) series with zero mean, unit variance and known autocorrelation.

        x_0 = e_0,   x_i = rho x_{i-1} + sqrt(1 - rho^2) e_i,   e_i ~ N(0, 1)
        <x_i x_{i+t}> = rho^t,   tau_int = 1/2 + sum_t rho^t = (1 + rho)/(2 (1 - rho))

    Parameters
    ----------
    n : int
        Length, >= 1.
    rho : float
        Correlation of neighbors, -1 < rho < 1.
    seed : int
        Non-negative; the same seed gives the same series.
    shape : tuple of int, optional
        Independent series in further axes.

    Returns
    -------
    ndarray, shape (n, *shape)

    Raises
    ------
    InputError
        n, rho or seed out of range.

    Notes
    -----
    Cost: O(n) per series.

    Examples
    --------
    >>> ar1_series(5, 0.5, seed=1, shape=(2, 3)).shape
    (5, 2, 3)
    """
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise InputError(f"n = {n!r}: give an integer >= 1")
    if not -1 < rho < 1:
        raise InputError(f"rho = {rho!r}: give a number between -1 and 1, ends excluded")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed = {seed!r}: give an integer >= 0")
    from scipy.signal import lfilter
    noise = np.random.default_rng(seed).standard_normal((n, *shape))
    noise[1:] *= math.sqrt((1 - rho) * (1 + rho))
    return lfilter([1.0], [1.0, -rho], noise, axis=0)


def normality_p_value(z):
    """p-value of the Kolmogorov-Smirnov test that the numbers are independent draws from N(0, 1).

        D = max_x |F_n(x) - Phi(x)|,   p = P(a sample of this size has a larger D)

    Parameters
    ----------
    z : array_like
        At least 20 finite z-scores, of any shape.

    Returns
    -------
    float
        Uniform on [0, 1] if the hypothesis holds. With 200 scores, errors too small by a factor 1.4 typically
        give 0.01, by a factor 2 below 1e-5.

    Raises
    ------
    InputError
        Fewer than 20 scores, or one that is not finite.

    Notes
    -----
    Cost: O(n log n). Sensitive to a shift and to the width, less so to the tails.

    References
    ----------
    F. J. Massey, J. Am. Stat. Assoc. 46, 68 (1951).

    Examples
    --------
    >>> z = ar1_series(200, 0.0, seed=8)
    >>> normality_p_value(z) > 0.01, normality_p_value(3 * z) < 1e-6
    (True, True)
    """
    z = np.asarray(z, dtype=float).ravel()
    if z.size < 20 or not np.isfinite(z).all():
        raise InputError(f"got {z.size} z-scores, {np.count_nonzero(~np.isfinite(z))} of them not finite: "
                         "give at least 20 finite ones")
    from scipy.stats import kstest
    return float(kstest(z, "norm").pvalue)


def _value_and_error(estimate):
    if hasattr(estimate, "value") and hasattr(estimate, "error"):
        return float(estimate.value), float(estimate.error)
    try:
        value, error = estimate
        return float(value), float(error)
    except (TypeError, ValueError):
        raise InputError(f"expected an Estimate or a pair (value, error), got {estimate!r}") from None
