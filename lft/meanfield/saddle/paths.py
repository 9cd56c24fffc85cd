"""Gaussian input paths with a given covariance, from fresh moment-matched noise.

Moment matching: the normals of a sweep are rotated so that their sample mean is exactly 0 and their sample covariance
exactly 1.  The paths then have the mean and covariance that was asked for, which takes away the noise of first and
second order; what is left is that of the neuron's nonlinearity.
"""

from __future__ import annotations

import numpy as np

from lft.errors import ConvergenceError
from lft.meanfield.saddle.draws import normals

RANK_TOLERANCE = 1e-11
NEGATIVE = 1e-5


def factor(covariance, name=""):
    """F (T, r) with ``F F^T = C``: Cholesky with pivoting, which stops at the numerical rank.

    Smooth processes have few modes: r is small and paths are cheap.  White parts stay whole (r = T).

    Raises
    ------
    ConvergenceError
        The matrix is not a covariance (not positive semidefinite).
    """
    from scipy.linalg.lapack import dpstrf

    diagonal = np.diag(covariance)
    largest = float(diagonal.max())
    if not np.isfinite(covariance).all() or largest < 0:
        raise ConvergenceError(f"population {name}: the covariance of the input is not finite or negative")
    if largest == 0:
        return np.zeros((len(diagonal), 0))
    packed, pivots, rank, _ = dpstrf(covariance.T, tol=RANK_TOLERANCE * largest, lower=1)
    lower = np.tril(packed[:, :rank])
    out = np.empty_like(lower)
    out[pivots - 1] = lower
    probe = np.cos(np.arange(len(diagonal)) * np.sqrt(2.0))[:, None] * np.array([[1.0, 0.0]])
    probe[:, 1] = np.sign(probe[:, 0])
    missed = np.abs(covariance @ probe - out @ (out.T @ probe)).max() / (largest * np.sqrt(len(diagonal)))
    lowest = float((diagonal - np.sum(out**2, axis=1)).min()) / largest
    if missed > NEGATIVE or lowest < -NEGATIVE:
        raise ConvergenceError(
            f"population {name}: the covariance of the input is not positive (a mode of {-max(missed, -lowest):.2g} of "
            "the largest variance); take more samples, more damping, or a smaller dt"
        )
    return out


def triangle(covariance):
    """The lower Cholesky factor of a covariance of full rank, or None: half the work of :func:`factor`.

    An attempt on a covariance of low rank ends at that rank and costs little.
    """
    from scipy.linalg.lapack import dpotrf

    largest = float(np.diagonal(covariance).max())
    if not largest > 0 or not np.isfinite(largest):
        return None
    lower, failed = dpotrf(covariance.T, lower=1, clean=1)
    if failed or not float(np.diagonal(lower).min()) ** 2 > RANK_TOLERANCE * largest:
        return None
    return lower


def match(z):
    """Normals (n, M) with sample mean 0 and, for the first rows up to M/8, sample covariance exactly 1; in place."""
    n, m = z.shape
    z -= z.mean(axis=1, keepdims=True)
    z *= np.sqrt(m / (m - 1.0))
    k = min(n, m // 8)
    if k:
        covariance = z[:k] @ z[:k].T / m
        z[:k] = np.linalg.solve(np.linalg.cholesky(covariance), z[:k])
    return z


def gaussian_paths(mean, covariance, key, m, name=""):
    """Paths (T, M) of a Gaussian process: mean (T,), covariance (T, T).

    Notes
    -----
    Full rank: T^3/3 for the factor and T^2 M for the paths, by a triangular product in place; rank r: T r^2 and
    2 T r M.
    """
    from scipy.linalg.blas import dtrmm

    lower = triangle(covariance)
    if lower is None:
        f = factor(covariance, name)
        h = f @ match(normals(key, f.shape[1], m))
    else:
        z = match(normals(key, len(lower), m))
        h = dtrmm(1.0, lower, z.T, side=1, lower=1, trans_a=1, overwrite_b=1).T  # (L z)^T = z^T L^T
    h += mean[:, None]
    return h


def circulant_paths(spectrum, n_steps, key, m):
    """Stationary paths (n_steps, M) with mean 0 from a power spectrum on the full period.

    Parameters
    ----------
    spectrum : ndarray (P/2 + 1,)
        ``S(f) = sum_tau C(tau) exp(-2 pi i f tau / P)`` >= 0, P even.
    n_steps : int
        Length that is kept, <= P.

    Notes
    -----
    Every frequency is moment-matched: the sample power is S exactly.  Cost: M P log P.
    """
    from scipy.fft import irfft

    n = len(spectrum)
    period = 2 * (n - 1)
    z = normals(key, 2 * n, m).reshape(2, n, m)
    z -= z.mean(axis=2, keepdims=True)
    coefficients = z[0] + 1j * z[1]
    coefficients[[0, -1]] = np.sqrt(2.0) * z[0][[0, -1]]
    power = np.mean(np.abs(coefficients) ** 2, axis=1)
    coefficients *= np.sqrt(spectrum * period / power)[:, None]
    return irfft(coefficients, period, axis=0)[:n_steps]


def frozen_offsets(key, n, stream):
    """n values with mean 0, variance 1 and the distribution of N(0, 1): its quantiles at a common random shift."""
    from scipy.special import ndtri

    shift = key.uniform(0, stream)
    z = ndtri((np.arange(n) + shift) / n)
    z -= z.mean()
    return z / z.std()
