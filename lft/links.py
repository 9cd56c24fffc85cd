"""Log-likelihood of one bin given its linear predictor eta, with two derivatives.

============  =======================================================  ==================
``logit``     P(1) = 1/(1 + exp(-eta))                                  0/1
``cloglog``   P(1) = 1 - exp(-exp(eta)): at least one Poisson spike     0/1
``poisson``   P(n) = exp(n eta - exp(eta))/n!                           counts
============  =======================================================  ==================

All three are concave in eta.  Arrays (rows, lanes).
"""

from __future__ import annotations

import numpy as np

LINKS = ("logit", "cloglog", "poisson")
HIGH = 40.0  # exp(-exp(eta)) is 0 beyond; also keeps rejected steps of Newton finite


def terms(link, eta, y):
    """(value summed over rows, residual d/d eta, weight -d2/d eta2); without the constant -log n! of counts."""
    if link == "logit":
        e = np.exp(-np.abs(eta))
        q = 1.0 / (1.0 + e)
        p = np.where(eta >= 0, q, e * q)
        value = (y * eta).sum(axis=0) - np.maximum(eta, 0.0).sum(axis=0) - _log_product(1.0 + e)
        return value, y - p, e * q * q
    mean = np.exp(np.minimum(eta, HIGH))
    if link == "poisson":
        return (y * eta - mean).sum(axis=0), y - mean, mean
    is_one = y > 0
    small = np.maximum(mean, 1e-300)
    growth = np.expm1(np.minimum(small, 700.0))
    ratio = small / growth
    value = np.where(is_one, np.log(-np.expm1(-small)), -mean).sum(axis=0)
    return value, np.where(is_one, ratio, -mean), np.where(is_one, ratio * (small + ratio - 1.0), mean)


def _log_product(factors, block=512):
    """Sum of log over rows, for factors between 1 and 2: one logarithm per 512 of them (exact to rounding)."""
    n = len(factors) - len(factors) % block
    out = np.log(np.prod(factors[:n].reshape(-1, block, factors.shape[1]), axis=1)).sum(axis=0)
    return out + np.log(np.prod(factors[n:], axis=0))


def mean(link, eta):
    """Expected value of a bin."""
    if link == "logit":
        return np.exp(-np.logaddexp(0, -eta))
    rate = np.exp(np.minimum(eta, HIGH))
    return rate if link == "poisson" else -np.expm1(-rate)


def inverse(link, value):
    """The eta of an expected value."""
    if link == "logit":
        return np.log(value) - np.log1p(-value)
    return np.log(value) if link == "poisson" else np.log(-np.log1p(-value))


def log_probability(link, eta, y):
    """Log-probability of each bin (with -log n! of counts); eta may be -infinity (a refractory bin)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if link == "logit":
            out = np.where(y > 0, -np.logaddexp(0, -eta), -np.logaddexp(0, eta))
        elif link == "cloglog":
            rate = np.exp(np.minimum(eta, HIGH))
            out = np.where(y > 0, np.log(-np.expm1(-rate)), -rate)
        else:
            from scipy.special import gammaln

            rate = np.exp(np.minimum(eta, HIGH))
            out = np.where(y > 0, y * eta, 0.0) - rate - gammaln(np.asarray(y, float) + 1)
    return out


def log_odds(link, eta):
    """log P(at least one spike)/P(none)."""
    if link == "logit":
        return eta
    rate = np.exp(np.minimum(eta, HIGH))
    return rate + np.log(-np.expm1(-rate))
