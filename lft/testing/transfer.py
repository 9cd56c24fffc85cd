"""Small periodic Ising boxes in three dimensions, exact by transfer matrices: up to 16 spins per layer, any length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lft.errors import InputError

_STEP_K, _STEP_H = 1e-4, 0.004


class BoxMoments(NamedTuple):
    """Exact averages of a periodic box.

    Attributes
    ----------
    bond : float
        Mean of s_x s_(x+d) over all nearest-neighbor bonds.
    m2, m4 : float
        Moments of m = (1/V) sum_x s_x.
    """

    bond: float
    m2: float
    m4: float


def ising_box(shape, K):
    """Mean bond and moments of the magnetization of the Ising model on a periodic box.

    exp(-S) = exp(K sum_<xy> s_x s_y), Z(K, h) = Tr T^L with the symmetric transfer matrix T = D V D of layers: D the
    square root of the weight inside a layer and of exp(h sum s), V the bonds between layers.  As T commutes with
    translations and reflections of a layer, one diagonal element per class of layers is enough.  The bond is
    d ln Z / d K divided by the number of bonds; m2 and m4 follow from the cumulants of the magnetization, which are
    the coefficients of ln Z(h) - ln Z(0), fitted by an even polynomial (standard result; relative accuracy 1e-7).

    Parameters
    ----------
    shape : tuple of int
        (a, b, L), a and b >= 2, a b <= 16, L >= 3; an extent of 2 has two bonds between its sites.
    K : float
        Coupling of all bonds.

    Returns
    -------
    BoxMoments

    Raises
    ------
    InputError
        The box is too small or its layer too large.

    Notes
    -----
    Cost: about 600 products of 256 x 256 matrices per value of h for layers of 4 x 4 (half a minute), nothing for
    small ones.

    Examples
    --------
    >>> from lft.testing import ising_box
    >>> print(f"{ising_box((2, 3, 3), 0.2).bond:.6f}")
    0.411272
    """
    if len(shape) != 3 or min(shape) < 2 or shape[2] < 3 or shape[0] * shape[1] > 16:
        raise InputError(f"shape = {tuple(shape)}: valid are (a, b, L), a, b >= 2, a b <= 16, L >= 3")
    V = int(np.prod(shape))
    layer = _Layer(shape[:2])
    ends = [layer.log_z(K + s * _STEP_K, 0.0, shape[2]) for s in (-2, -1, 1, 2)]
    slope = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * _STEP_K)
    x = (np.arange(1, 6) * _STEP_H) ** 2
    y = np.array([layer.log_z(K, np.sqrt(v), shape[2]) for v in x]) - layer.log_z(K, 0.0, shape[2])
    c = np.linalg.solve((x / x[-1])[:, None] ** np.arange(1, 6), y)  # ln Z(h) = ln Z(0) + sum_k kappa_2k h^2k / (2k)!
    second, fourth = 2 * c[0] / x[-1], 24 * c[1] / x[-1] ** 2
    return BoxMoments(float(slope) / (3 * V), float(second) / V**2, float(fourth + 3 * second**2) / V**4)


class _Layer:
    """States of a layer, one of each class under translations and reflections, and how many are in its class."""

    def __init__(self, shape):
        n = shape[0] * shape[1]
        states = np.arange(2**n)
        spins = (2 * (states[:, None] >> np.arange(n) & 1) - 1).astype(np.int8)
        self.m = spins.sum(axis=1, dtype=np.int64)
        grid = spins.reshape(-1, *shape)
        self.energy = np.zeros(2**n, np.int64)
        for axis in range(2):
            pairs = grid * np.roll(grid, -1, axis + 1)
            self.energy += pairs.reshape(2**n, -1).sum(axis=1, dtype=np.int64)
        site = np.arange(n).reshape(shape)
        least = states.copy()
        for dx in range(shape[0]):
            for dy in range(shape[1]):
                for flip in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
                    moved = np.roll(site[:: flip[0], :: flip[1]], (dx, dy), (0, 1)).ravel()
                    image = sum((states >> int(a) & 1) << b for b, a in enumerate(moved))
                    least = np.minimum(least, image)
        self.first, self.size = np.unique(least, return_counts=True)
        self.n = n

    def log_z(self, K, h, length):
        """ln Tr T^length."""
        half = self.n // 2
        low, high = (self._between(K, k) for k in (half, self.n - half))
        root = np.exp(0.5 * (K * self.energy + h * self.m) - 0.5 * K * self.energy.max()).reshape(high.shape[0], -1)

        def times(x):
            return root * (high @ (root * x) @ low)

        total = 0.0
        for state, size in zip(self.first, self.size, strict=True):
            x = np.zeros(2**self.n)
            x[state] = 1.0
            x = x.reshape(root.shape)
            for _ in range(length // 2):
                x = times(x)
            y = times(x) if length % 2 else x
            total += size * np.vdot(x, y)
        return np.log(total) + length * K * self.energy.max()

    @staticmethod
    def _between(K, n):
        """exp(K sum s s') for two rows of n spins."""
        one = np.exp(K * np.array([[1.0, -1.0], [-1.0, 1.0]]))
        out = np.ones((1, 1))
        for _ in range(n):
            out = np.kron(one, out)
        return out
