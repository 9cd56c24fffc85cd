"""Bases of filters over lags: few smooth functions in place of one number per lag.

A filter is ``f(k) = sum_m w_m b_m(k)`` at the lags k = 1..K (bins); ``matrix[k-1, m] = b_m(k)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.errors import InputError


@dataclass(frozen=True)
class Basis:
    """Functions on the lags 1..K.

    Attributes
    ----------
    name : str
    matrix : ndarray (K, M)
        Full column rank, finite.

    Examples
    --------
    >>> from lft.inference.basis import Basis, make_basis
    >>> make_basis("raised-cosine", 4, 20).matrix.shape
    (20, 4)
    >>> make_basis("identity", 3, 3).matrix.tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    name: str
    matrix: np.ndarray

    def __post_init__(self):
        matrix = np.array(self.matrix, float)
        if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
            raise InputError(
                f"basis {self.name!r}: matrix of shape {matrix.shape}; valid is finite numbers (lags, functions)"
            )
        if np.linalg.matrix_rank(matrix) < matrix.shape[1]:
            raise InputError(
                f"basis {self.name!r}: its {matrix.shape[1]} functions on {matrix.shape[0]} lags are linearly "
                "dependent: "
                "take fewer functions or more lags"
            )
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    @property
    def n_lags(self):
        return self.matrix.shape[0]

    @property
    def size(self):
        return self.matrix.shape[1]

    @property
    def is_identity(self):
        """Whether every lag has its own weight."""
        return self.n_lags == self.size and np.array_equal(self.matrix, np.eye(self.size))

    def orthonormal(self):
        """The same space of filters with orthonormal functions (QR): a ridge then punishes the norm of the filter."""
        return Basis(f"{self.name}, orthonormal", np.linalg.qr(self.matrix)[0])

    def after(self, n_dead):
        """The functions that begin n_dead lags later, cut at the same K: zero on the lags 1..n_dead."""
        if n_dead == 0:
            return self
        if not 0 < n_dead < self.n_lags:
            raise InputError(f"refractory = {n_dead} bins: valid is 0 to {self.n_lags - 1}, below the longest lag")
        if self.is_identity:
            return Basis(self.name, self.matrix[:, n_dead:])
        n = self.n_lags - n_dead
        moved = np.concatenate([np.zeros((n_dead, self.size)), self.matrix[:n]])
        keep = np.abs(moved).max(axis=0) > 0
        return Basis(self.name, moved[:, keep])


def make_basis(name, size, n_lags):
    """A basis by name.

    ==================  ====================================================================================
    ``identity``        one weight per lag (M = K)
    ``raised-cosine``   ``(1 + cos x_m(k))/2``, ``x_m = pi (log(k + 1) - c_m)/(2 D)`` cut at +-pi: bumps of width
                        4 D whose centers c_m are D apart on a logarithmic time axis, from log 2 to log(K + 1)
    ``exponential``     ``exp(-(k - 1)/tau_m)``, tau_m from 1 to K/2 bins in equal ratios
    ``bspline``         cubic (lower degree below 4 functions) with equal spacing of the knots; they sum to 1
    ==================  ====================================================================================

    The functions are used as they are, neither normalized nor orthogonal (:meth:`Basis.orthonormal`).

    Parameters
    ----------
    name : str
    size : int
        Number of functions M, 1 <= M <= K.
    n_lags : int
        Longest lag K, bins.

    Raises
    ------
    InputError
        Unknown name, or a size that does not fit.

    References
    ----------
    The logarithmic raised cosines are those customary for spike-history filters (standard choice); the rest are
    textbook
    bases.
    """
    for what, value in (("size", size), ("n_lags", n_lags)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise InputError(f"basis {name!r}: {what} = {value!r}; valid is an integer >= 1")
    if size > n_lags:
        raise InputError(f"basis {name!r}: {size} functions on {n_lags} lags; valid are at most as many as lags")
    k = np.arange(1.0, n_lags + 1)
    if name == "identity":
        if size != n_lags:
            raise InputError(f"basis 'identity': {size} functions on {n_lags} lags; valid is one per lag")
        return Basis(name, np.eye(n_lags))
    if name == "raised-cosine":
        return Basis(name, _raised_cosine(k, size))
    if name == "exponential":
        tau = np.geomspace(1.0, max(n_lags / 2, 1.0), size) if size > 1 else np.array([max(n_lags / 4, 1.0)])
        return Basis(name, np.exp(-(k[:, None] - 1) / tau))
    if name == "bspline":
        return Basis(name, bspline(k, 1.0, float(n_lags), size))
    raise InputError(f"basis {name!r}: valid are identity, raised-cosine, exponential, bspline")


def _raised_cosine(k, size):
    x = np.log(k + 1.0)
    if size == 1:
        width = max((x[-1] - x[0]) / 2, 1e-9)
        return (0.5 * (1 + np.cos(np.clip(np.pi * (x - x[0]) / (2 * width), -np.pi, np.pi))) + 1e-12)[:, None]
    centers = np.linspace(x[0], x[-1], size)
    phase = np.pi * (x[:, None] - centers) / (2 * (centers[1] - centers[0]))
    return 0.5 * (1 + np.cos(np.clip(phase, -np.pi, np.pi)))


def bspline(x, low, high, size):
    """(len(x), size) B-splines with equally spaced knots on [low, high], clamped; x beyond the ends counts as the
    end."""
    from scipy.interpolate import BSpline

    degree = min(3, size - 1)
    inner = np.linspace(low, high, size - degree + 1)
    if high <= low:
        return np.ones((len(x), 1))
    knots = np.concatenate([[low] * degree, inner, [high] * degree])
    return BSpline.design_matrix(np.clip(x, low, high), knots, degree).toarray()
