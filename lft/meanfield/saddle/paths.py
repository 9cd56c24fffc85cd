"""Gaussian input paths with a given covariance, from fresh moment-matched noise.

Moment matching: the normals of a sweep are rotated so that their sample mean is exactly 0 and their sample covariance
exactly 1.  The paths then have the mean and covariance that was asked for, which takes away the noise of first and
second order; what is left is that of the neuron's nonlinearity.

Precision.  Covariances and their factors are in double.  The product of factor and normals, which is half of a sweep's
arithmetic beside the moments, is in single where every step brings a share of its variance that is far above rounding
(``ROUGH``): the paths are then off by 1e-6 of their size and the moments of the outputs by 1e-5 of their sampling noise
(``tests/statistical/test_meanfield_sampling.py``).  Smooth processes have no such steps, and stay in double.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft._kernels import neurons as _neurons
from lft.errors import ConvergenceError
from lft.meanfield.saddle.draws import normals
from lft.rng import Stream

RANK_TOLERANCE = 1e-11
NEGATIVE = 1e-5
NUGGET = 1e-10
"""Variance, in units of the largest, that is added to what has modes without any and still no few modes."""
ROUGH = 1e-4
"""Least share of a step's variance that is its own, for single precision."""


@dataclass(frozen=True)
class Root:
    """F with ``F F^T = C``, for processes that are 0 in their first steps (``lead``).

    Attributes
    ----------
    lead : int
    factor : ndarray
        F^T, an upper triangle in Fortran order (double or single precision; what is below it has no meaning), or F of
        few columns.
    is_triangle : bool
    """

    lead: int
    factor: np.ndarray
    is_triangle: bool

    def paths(self, mean, key, m):
        """Fresh paths (T, M) of the process with mean (T,)."""
        from scipy.linalg.blas import dtrmm, strmm

        if self.is_triangle:
            z = match(len(self.factor), m, key, self.factor.dtype)
            product = strmm if z.dtype == np.float32 else dtrmm
            noise = product(1.0, self.factor, z.T, side=1, lower=0, overwrite_b=1).T  # (L z)^T = z^T L^T
        else:
            noise = self.factor @ match(self.factor.shape[1], m, key)
        h = np.empty((len(mean), m))
        h[: self.lead] = mean[: self.lead, None]
        np.add(noise, mean[self.lead :, None], out=h[self.lead :])
        return h


def root(covariance, name=""):
    """:class:`Root` of a covariance, of which the lower triangle is read.

    Full rank: Cholesky, T^3/3.  Low rank (smooth processes have few modes): Cholesky with pivoting, T r^2.  In between,
    such as after a first sweep of fewer paths than steps, the first of the two with a nugget.

    Raises
    ------
    ConvergenceError
        The matrix is not a covariance (not positive semidefinite).
    """
    diagonal = np.diagonal(covariance)
    largest = float(diagonal.max())
    if not np.isfinite(diagonal).all() or largest < 0:
        raise ConvergenceError(f"population {name}: the covariance of the input is not finite or negative")
    if largest == 0:
        return Root(0, np.zeros((len(diagonal), 0)), False)
    lead = int(np.argmax(diagonal > 0))
    inner = covariance[lead:, lead:]
    upper, failed = _triangle(inner)
    if failed > len(inner) // 4:
        inner = np.array(inner)
        inner.flat[:: len(inner) + 1] += NUGGET * largest
        upper, failed = _triangle(inner)
    if failed:
        return Root(lead, factor(inner, name), False)
    own = np.diagonal(upper) ** 2
    if not np.isfinite(own).all():
        raise ConvergenceError(f"population {name}: the covariance of the input is not finite or negative")
    is_rough = float(own.min()) > ROUGH * largest
    return Root(lead, upper.astype(np.float32, order="F") if is_rough else upper, True)


def _triangle(covariance):
    """(upper Cholesky factor in Fortran order, 0), or the number of the first step that brings nothing of its own."""
    from scipy.linalg.lapack import dpotrf

    return dpotrf(covariance.T, lower=0, clean=0)


def factor(covariance, name=""):
    """F (T, r) with ``F F^T = C``: Cholesky with pivoting, which stops at the numerical rank.

    Raises
    ------
    ConvergenceError
        The matrix is not a covariance (not positive semidefinite).
    """
    from scipy.linalg.blas import dsymm
    from scipy.linalg.lapack import dpstrf

    diagonal = np.diagonal(covariance)
    largest = float(diagonal.max())
    packed, pivots, rank, _ = dpstrf(covariance.T, tol=RANK_TOLERANCE * largest, lower=0)
    out = np.empty((len(diagonal), rank))
    out[pivots - 1] = np.triu(packed[:rank]).T
    probe = np.cos(np.arange(len(diagonal)) * np.sqrt(2.0))[:, None] * np.array([[1.0, 0.0]])
    probe[:, 1] = np.sign(probe[:, 0])
    missed = np.abs(dsymm(1.0, covariance.T, probe) - out @ (out.T @ probe)).max() / (largest * len(diagonal) ** 0.5)
    lowest = float((diagonal - np.sum(out**2, axis=1)).min()) / largest
    if missed > NEGATIVE or lowest < -NEGATIVE:
        raise ConvergenceError(
            f"population {name}: the covariance of the input is not positive (a mode of {-max(missed, -lowest):.2g} of "
            "the largest variance); take more samples, more damping, or a smaller dt"
        )
    return out


def match(n, m, key, dtype=float):
    """Normals (n, M) with sample mean 0 and, for the first rows up to M/8, sample covariance exactly 1."""
    from scipy.linalg import solve_triangular

    z = np.empty((n, m), dtype)
    _neurons.centered_normals(z, int(Stream.MEANFIELD_INPUT), key.word)
    k = min(n, m // 8)
    if k:
        head = z[:k].astype(float)
        z[:k] = solve_triangular(np.linalg.cholesky(head @ head.T / m), head, lower=True, check_finite=False)
    return z


def gaussian_paths(mean, covariance, key, m, name=""):
    """Paths (T, M) of a Gaussian process: mean (T,), covariance (T, T).  T^2 M flops beside those of :func:`root`."""
    return root(covariance, name).paths(mean, key, m)


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
    """n ascending values with the distribution of N(0, 1), one in each n-th of it (stratified; error of a mean n^-3/2).

    Not scaled to variance 1: the farthest of 125 offsets move that by 1.3 %, which a neuron that saturates does not
    see, while the scale would move the others (variance of tanh(xi): 0.6 %) and put a bias of order 1/n into what
    neurons make of them.  Nor one shift for all: it moves the mean of tanh(xi) by 0.6/n.
    """
    from scipy.special import ndtri

    return ndtri((np.arange(n) + key.fill("uniform", 0, 1, n, 0, stream)[0]) / n)
