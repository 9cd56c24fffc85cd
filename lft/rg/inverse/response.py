"""How the coarse couplings answer to the fine ones, dc/dtheta, from the fluctuations of a single simulation.

With the weight ``exp(sum_k theta_k O_k)`` and the estimator's condition ``sum_Y <g_c(Y)> = 0`` (``g`` the score of the
coarse site Y, ``H`` the information) the derivative is a covariance,

    dc/dtheta_k = H^-1 sum_Y sum_X <g(Y) (o_k(X) - <o_k>)>

with ``o_k(X)`` the operator summed over the fine sites of the cell of X.  The score has the coarse neighbors' influence
removed, so the terms die off within a cell or two (exactly beyond the nearest neighbors on a decimated chain), while
their noise grows with the number of cells: only cells within ``reach`` of Y are summed, ring by ring, up to the last
ring that still rises above its noise.  Against the sum over the whole lattice the variance falls by the ratio of the
volumes (32 for 5 x 5 x 5 cells of 12 x 12 x 28); against differences of simulations nothing has to be chosen: at
factors of 8 a step of 0.05 in a coupling may cross a phase transition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MAX_REACH = 3
"""Cells, in every direction, beyond which no response is looked for."""
SIGNIFICANT = 4.0
"""A ring counts if its mean squared z exceeds 1 by this many standard deviations."""


def cell_operators(stack, displacements, factor, periodic):
    """Bonds per displacement and spins, summed over cells, of fine configurations in the user's axis order.

    Parameters
    ----------
    stack : ndarray of int8, (N, *shape)
    displacements : sequence of tuple of int
    factor : tuple of int
        Fine sites per cell along each axis.
    periodic : sequence of bool
        Per axis: bonds beyond an open end do not exist.

    Returns
    -------
    ndarray of int16 (int32 for cells of 2^15 sites or more), (N, n_d + 1, *coarse shape)
        A bond belongs to the cell of the site it starts from; spins come last.

    Examples
    --------
    >>> spins = np.array([[1, 1, -1, 1]], np.int8)
    >>> cell_operators(spins, [(1,)], (2,), [True])[0].tolist()
    [[0, 0], [2, 0]]
    """
    out = []
    for d in displacements:
        product = stack * np.roll(stack, [-step for step in d], axis=tuple(range(1, stack.ndim)))
        for axis, (step, is_periodic) in enumerate(zip(d, periodic, strict=True), start=1):
            if step and not is_periodic:
                n = stack.shape[axis]
                gone = slice(max(n - step, 0), n) if step > 0 else slice(0, min(-step, n))
                product[(slice(None),) * axis + (gone,)] = 0
        out.append(_cell_sums(product, factor))
    out.append(_cell_sums(stack, factor))
    return np.stack(out, axis=1)


def _cell_sums(array, factor):
    """Sums over cells; strided slices are added, in the narrowest integers that hold them."""
    most = 1
    for axis, b in enumerate(factor, start=1):
        most *= b
        dtype = np.int8 if most < 128 else np.int16 if most < 2**15 else np.int32
        lead = (slice(None),) * axis
        total = array[(*lead, slice(0, None, b))].astype(dtype)
        for i in range(1, b):
            total += array[(*lead, slice(i, None, b))]
        array = total
    return array.astype(np.int16 if most < 2**15 else np.int32)


def rings(cells, reach, periodic):
    """Sums over the cells at distance exactly 0, 1, .. reach (largest component), around every cell.

    Parameters
    ----------
    cells : ndarray (N, n_k, *coarse shape)
        Centered values.
    reach : int
    periodic : sequence of bool
        Per coarse axis.

    Returns
    -------
    ndarray of float32, (N, reach + 1, n_k, *coarse shape)
    """
    boxes = np.asarray(cells, np.float32)
    out, inner = [boxes], boxes
    for r in range(1, reach + 1):
        box = boxes
        for axis, is_periodic in enumerate(periodic, start=2):
            box = _running_sum(box, min(r, (box.shape[axis] - 1) // 2), axis, is_periodic)
        out.append(box - inner)
        inner = box
    return np.stack(out, axis=1)


def _running_sum(x, r, axis, is_periodic):
    """Sum over x - r .. x + r along an axis."""
    if r == 0:
        return x
    n = x.shape[axis]
    ends = [(0, 0)] * x.ndim
    ends[axis] = (r, r)
    wide = np.pad(x, ends, mode="wrap") if is_periodic else np.pad(x, ends)
    lead = (slice(None),) * axis
    total = wide[(*lead, slice(0, n))].copy()
    for i in range(1, 2 * r + 1):
        total += wide[(*lead, slice(i, i + n))]
    return total


class Companions:
    """What the estimator sums its scores against: rings of centered operators, as the array sees their cells.

    Parameters
    ----------
    ensemble : lft.rg.inverse.ensemble.Ensemble
        With ``cells``.
    """

    def __init__(self, ensemble):
        self.torus, observation = ensemble.torus, ensemble.model.observation
        self.cells, self.window = ensemble.cells, observation.recorded.space_shape
        self.periodic = [ends == "periodic" for ends in self.torus.boundary]
        sites = math.prod(self.torus.shape)
        axes = (0, *range(2, self.cells.ndim))
        self.mean = self.cells.sum(axis=axes, dtype=np.float64) / (len(self.cells) * sites)
        self.reach = min(MAX_REACH, max((L - 1) // 2 for L in self.torus.shape))

    def __call__(self, first, last):
        """Configurations ``first`` to ``last``: (last - first, (reach + 1) n_k, *storage shape of the array)."""
        part = self.cells[first:last] - self.mean.reshape(1, -1, *(1,) * len(self.torus.shape))
        rows = rings(part, self.reach, self.periodic)
        rows = rows.reshape(len(part), -1, *self.torus.shape)
        seen = [slice(0, n) for n in self.window]
        if self.torus.time_axis is not None:
            seen.insert(self.torus.time_axis, slice(None))
        rows = rows[(slice(None), slice(None), *seen)]
        return np.ascontiguousarray(rows.transpose(0, 1, *(2 + i for i in self.torus.storage_order)))


@dataclass(frozen=True)
class Response:
    """dc/dtheta (n_c, n_theta), its noise, and the reach in cells at which it was cut.

    ``spread`` (n_groups, n_c, n_theta) holds the deviations of groups of configurations: the covariance of any two
    entries is the sum of their products.  (The columns are strongly correlated, since all operators follow the energy:
    differences of columns are known far better than the columns.)
    """

    jacobian: np.ndarray
    spread: np.ndarray
    reach: int

    @property
    def variance(self):
        """Of the entries."""
        return (self.spread**2).sum(axis=0)

    @classmethod
    def of(cls, responses, n_theta, weight, n_groups=40):
        """From the sums of every configuration, (N, n_c, (reach + 1) n_theta).

        Rings are added from the inside; ``weight`` (n_c, n_c) says how much a change of the couplings matters.
        """
        n, n_c, _ = responses.shape
        parts = responses.reshape(n, n_c, -1, n_theta)
        m = min(n_groups, n // 2)
        edges = np.linspace(0, n, m + 1).astype(int)[:-1]
        groups = np.add.reduceat(parts, edges, axis=0)
        L = np.linalg.cholesky(weight)
        last = min(1, parts.shape[2] - 1)
        for ring in range(last + 1, parts.shape[2]):
            white = np.einsum("cd,gck->gdk", L, groups[:, :, ring])
            total, variance = white.sum(axis=0), m * white.var(axis=0, ddof=1)
            z2 = total**2 / np.maximum(variance, 1e-300)
            if z2.mean() > 1 + SIGNIFICANT * math.sqrt(2 / z2.size):
                last = ring
        kept = groups[:, :, : last + 1].sum(axis=2)
        return cls(kept.sum(axis=0), math.sqrt(m / (m - 1)) * (kept - kept.mean(axis=0)), last)
