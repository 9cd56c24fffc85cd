"""Structure of weights and drive beyond independent neurons: what it *is*; solvers read it, direct simulations draw it.

low rank           ``W = chi + sum_k m^k (n^k)^T/N``, chi independent with variance std^2/N, (m_i, n_i) Gaussian
partial symmetry   ``E[W_ij W_ji] = eta std^2/N`` (a number of the connection)
lattice            ``E[W_ij] = mean p(x_i - x_j)/n``, ``Var W_ij = std^2 p(x_i - x_j)/n``, n neurons per site, sum p = 1
shared noise       one Gaussian process that enters the input of all neurons of some populations
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError

SHAPES = ("gaussian", "exponential", "box")


@dataclass(frozen=True)
class LowRank:
    """Independent weights plus a matrix of low rank, within one population.

    Parameters
    ----------
    std : float
        sqrt(N Var chi), >= 0.
    left_mean, left_std : tuple of float
        Means and standard deviations of m^k, one for each rank; different m^k are independent.
    right_mean, right_std : tuple of float
        The same of n^k.
    overlap : tuple of tuple of float
        ``overlap[k][l] = Cov(n^k_i, m^l_i)``.  ``|overlap|`` cannot exceed the product of the standard deviations.

    Examples
    --------
    >>> from lft.meanfield.structured import LowRank
    >>> LowRank(0.8, (0.0,), (1.0,), (0.0,), (2.0,), ((1.5,),)).outliers.real.tolist()
    [1.5]
    """

    std: float
    left_mean: tuple
    left_std: tuple
    right_mean: tuple
    right_std: tuple
    overlap: tuple
    name = "low-rank"

    def __post_init__(self):
        n = len(self.left_mean)
        rows = [self.left_std, self.right_mean, self.right_std, self.overlap, *self.overlap]
        if n < 1 or any(len(row) != n for row in rows):
            raise InputError(
                f"low-rank: {n} left vectors; valid are as many entries in each list, and in each row and "
                "column of overlap"
            )
        if min(self.left_std) < 0 or min(self.right_std) < 0 or self.std < 0:
            raise InputError("low-rank: standard deviations are >= 0")
        for k in range(n):
            left = self._residual(k)
            if left < -1e-9 * max(self.right_std[k] ** 2, 1.0):
                raise InputError(
                    f"low-rank: overlap = {list(self.overlap[k])} of vector {k + 1} is more than its "
                    f"standard deviations allow: valid is sum_l (overlap_l/left_std_l)^2 <= "
                    f"{self.right_std[k] ** 2:g}"
                )

    @property
    def rank(self):
        return len(self.left_mean)

    def loadings(self):
        """``Cov(n^k, m^l)/Var(m^l)``, (rank, rank)."""
        out = np.zeros((self.rank, self.rank))
        for k in range(self.rank):
            for j in range(self.rank):
                if self.overlap[k][j]:
                    if not self.left_std[j]:
                        raise InputError(f"low-rank: overlap with vector {j + 1}, whose left_std is 0")
                    out[k, j] = self.overlap[k][j] / self.left_std[j] ** 2
        return out

    def _residual(self, k):
        """Variance of n^k beside what m says of it."""
        explained = self.loadings()[k] ** 2 @ np.array(self.left_std) ** 2
        return self.right_std[k] ** 2 - float(explained)

    @property
    def residual_std(self):
        """Standard deviation of n^k at given m, (rank,)."""
        return np.sqrt(np.maximum([self._residual(k) for k in range(self.rank)], 0.0))

    @property
    def matrix(self):
        """``n^k m^l`` per neuron, (rank, rank): its eigenvalues are the outliers of W."""
        return np.array(self.overlap, float) + np.outer(self.right_mean, self.left_mean)

    @property
    def outliers(self):
        """Eigenvalues of the part of low rank; outside the disk of radius ``std`` they are eigenvalues of W."""
        return np.linalg.eigvals(self.matrix)

    @property
    def signs(self):
        """Signs that a weight can have."""
        return {-1, 1}

    def statistics(self, n_pre):
        """Those of chi: what the part of low rank does is in the overlaps, not in these numbers."""
        from lft.meanfield.model import WeightStatistics

        return WeightStatistics(0.0, self.std**2, 0.0)

    def third_cumulant(self, n_pre, moments):
        """0: chi is Gaussian."""
        return 0.0


@dataclass(frozen=True)
class Profile:
    """How mean and variance of the weights fall off with distance on a periodic lattice.

    ``gaussian``: ``exp(-d^2/(2 width^2))``; ``exponential``: ``exp(-d/width)``; ``box``: 1 up to ``width``.  Distances
    are the shortest around the torus, in sites; the sum over all sites is 1.

    Examples
    --------
    >>> from lft.meanfield.structured import Profile
    >>> Profile("box", 1.0).table((5,)).round(6).tolist()
    [0.333333, 0.333333, 0.0, 0.0, 0.333333]
    """

    shape: str
    width: float

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise InputError(f"profile shape {self.shape!r}: valid are {', '.join(SHAPES)}")
        if not (self.width > 0 and math.isfinite(self.width)):
            raise InputError(f"profile width = {self.width!r}: valid is a number > 0")

    def table(self, shape):
        """p by displacement, array of the lattice's shape."""
        square = np.zeros(shape)
        for axis, n in enumerate(shape):
            d = np.minimum(np.arange(n), n - np.arange(n)).astype(float)
            square = square + (d**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        distance = np.sqrt(square)
        if self.shape == "gaussian":
            p = np.exp(-square / (2 * self.width**2))
        elif self.shape == "exponential":
            p = np.exp(-distance / self.width)
        else:
            p = (distance <= self.width * (1 + 1e-12)).astype(float)
        return p / p.sum()


@dataclass(frozen=True)
class SharedNoise:
    """A Gaussian process with mean 0 in the inputs of whole populations.

    ``tau = 0``: ``<x x> = intensity delta(t - s)``; else ``intensity/(2 tau) exp(-|t - s|/tau)``.  A neuron of
    population a gets ``factors[a] x(t)``.

    Parameters
    ----------
    intensity, tau : float
    factors : tuple of (str, float)
        Populations and their factors.
    """

    intensity: float
    tau: float
    factors: tuple

    def factor(self, name):
        return dict(self.factors).get(name, 0.0)


@dataclass(frozen=True)
class Sites:
    """Periodic lattice on which a population lives: neuron i sits at site ``i // n``, n neurons per site.

    Parameters
    ----------
    shape : tuple of int
    drive : tuple of float, optional
        Input of each site beside that of the population, in the order of a flattened array.
    """

    shape: tuple
    drive: tuple = ()

    def __post_init__(self):
        if not self.shape or min(self.shape) < 1:
            raise InputError(f"lattice shape {self.shape}: valid are integers >= 1")
        if self.drive and len(self.drive) != self.n:
            raise InputError(f"site_input has {len(self.drive)} values, the lattice {self.n} sites")

    @property
    def n(self):
        """Number of sites."""
        return math.prod(self.shape)

    @property
    def is_uniform(self):
        """True if all sites have the same drive."""
        return not self.drive or max(self.drive) == min(self.drive) == 0.0


def structure_of(model):
    """What a model has beyond independent weights: names for messages, in a set."""
    out = set()
    if any(isinstance(c.weights, LowRank) for c in model.connections):
        out.add("low-rank weights")
    if any(c.symmetry for c in model.connections):
        out.add("partially symmetric weights")
    if model.shared:
        out.add("shared noise")
    if any(p.sites is not None and not p.sites.is_uniform for p in model.populations):
        out.add("site_input")
    return out
