"""Intervals from samples: those of a posterior as they are, those of a bootstrap corrected for what it cannot see.

The percentiles of a block bootstrap cover too little: 95 % intervals of a small GLM at 50 blocks 93.6(3) %, of units
that fire in 2 % of the bins 91.7(4) %, where errors from the curvature of the likelihood cover 95.1 and 94.9 %.  There
are three reasons, with a remedy each; with these it is 94.9(3) and 94.8(3) %.

- B blocks have B - 1 deviations from their mean, hence a factor ``sqrt(B/(B - 1))``;
- the width is an estimate itself, the sum of squares of B influences u_b.  Its relative variance is that of a
  chi-squared variable of ``nu = 2/(sum u^4/(sum u^2)^2 - 1/B)`` degrees of freedom: B for Gaussian influences, fewer
  where a coupling rests on the few blocks in which a rare unit fires.  Quantiles of Student's t for nu take the place
  of normal ones (standard result, after Satterthwaite);
- an estimate whose bias or variance depends on the truth is displaced among its own samples.  With ``z0`` the normal
  quantile of the share of samples below the estimate and ``a = sum u^3/(6 (sum u^2)^(3/2))``, the level alpha moves to
  ``Phi(z0 + (z0 + z_alpha)/(1 - a (z0 + z_alpha)))`` (B. Efron, the bias-corrected and accelerated interval; standard
  result).
"""

from __future__ import annotations

import numpy as np

MIN_FREEDOM = 3.0


def deviation(samples):
    """Standard deviation of every column over its finite rows; NaN for a column without two."""
    columns = samples.reshape(len(samples), -1)
    out = np.full(columns.shape[1], np.nan)
    known = np.isfinite(columns).sum(axis=0) > 1
    out[known] = np.nanstd(columns[:, known], axis=0, ddof=1)
    return out.reshape(samples.shape[1:])


def percentiles(samples, level=0.95):
    """(low, high) of every column over its finite rows.

    The k-th of n samples is the quantile k/(n + 1): with the usual k/n few samples give too short an interval.
    """
    columns = samples.reshape(len(samples), -1)
    out = _quantiles(columns, np.array([[(1 - level) / 2], [(1 + level) / 2]]) * np.ones(columns.shape[1]))
    return tuple(out.reshape(2, *samples.shape[1:]))


def corrected(samples, estimate, n_blocks, influences=None, level=0.95):
    """(low, high) of every column of bootstrap samples: see the module.

    Parameters
    ----------
    samples : ndarray (n, ...)
        NaN where a sample has no value.
    estimate : ndarray (...)
        From all blocks.
    n_blocks : int
        B >= 2.
    influences : ndarray (B, ...), optional
        ``H^-1 g_b`` of every block on these numbers, on any scale; without them a = 0 and nu = B - 1.
    level : float

    Returns
    -------
    tuple of two ndarray (...)

    Examples
    --------
    The mean of 10 numbers: Student's interval, in place of one that is 15 % shorter.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 10)
    >>> means = np.random.default_rng(0).choice(x, (20000, 10)).mean(axis=1)
    >>> half = [float(b - a) / 2 for a, b in (percentiles(means), corrected(means, 0.0, 10))]
    >>> exact = 2.262 * x.std(ddof=1) / np.sqrt(10)
    >>> bool(half[0] < 0.86 * exact), bool(abs(half[1] / exact - 1) < 0.03)
    (True, True)
    """
    from scipy.special import ndtr, ndtri, stdtrit

    columns = samples.reshape(len(samples), -1)
    center = np.asarray(estimate, float).reshape(-1)
    freedom, acceleration = np.full(len(center), n_blocks - 1.0), np.zeros(len(center))
    if influences is not None:
        freedom, acceleration = _moments(np.asarray(influences, float).reshape(len(influences), -1))
    finite = np.isfinite(columns)
    below = (columns < center).sum(axis=0) + 0.5 * (columns == center).sum(axis=0)
    shift = ndtri((below + 0.5) / (finite.sum(axis=0) + 1))
    normal = ndtri((1 + level) / 2)
    moved = shift + normal * np.array([[-1.0], [1.0]])
    levels = ndtr(shift + moved / np.maximum(1 - acceleration * moved, 0.1))
    wider = stdtrit(freedom, (1 + level) / 2) / normal * np.sqrt(n_blocks / (n_blocks - 1))
    out = center + wider * (_quantiles(columns, levels) - center)
    return tuple(out.reshape(2, *samples.shape[1:]))


def _moments(u):
    """(nu, a) of every column of influences."""
    square = (u**2).sum(axis=0)
    known = np.where(square > 0, square, 1.0)
    freedom = 2 / np.maximum((u**4).sum(axis=0) / known**2 - 1 / len(u), 2 / max(len(u) - 1.0, MIN_FREEDOM))
    return np.maximum(freedom, MIN_FREEDOM), (u**3).sum(axis=0) / (6 * known**1.5)


def _quantiles(columns, levels):
    """Quantiles ``levels`` (2, m) of the finite rows of columns (n, m); NaN for a column without any."""
    ordered, number = np.sort(columns, axis=0), np.isfinite(columns).sum(axis=0)  # NaN come last
    levels = np.where(np.isfinite(levels), levels, 0.5)  # of columns without an estimate, whose quantiles are NaN
    place = np.clip(levels * (number + 1) - 1, 0, np.maximum(number - 1, 0))
    low = np.floor(place).astype(int)
    high, all_columns = np.minimum(low + 1, np.maximum(number - 1, 0)), np.arange(columns.shape[1])
    part = place - low
    return ordered[low, all_columns] * (1 - part) + ordered[high, all_columns] * part
