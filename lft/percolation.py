"""Directed percolation: activity that spreads, slice by slice, and may die out.

Site x of slice t has 2^d parents in slice t-1, its nearest neighbors on a lattice whose slices are shifted by half a
spacing along every space axis at each step (position x + (t mod 2)/2): the tilted square lattice in 1+1 dimensions,
the body-centered cubic one in 2+1, and so on.  Given the slice before, sites are independent:

    P(n_x = 1 | m active parents) = P_m,        P_0 = 0
    bond:  P_m = 1 - (1 - p)^m        (each bond from an active parent is open with probability p)
    site:  P_m = p   for m >= 1       (the site itself is open with probability p)

Both absorb: a slice without activity stays so.  The probability of a whole configuration given its first slice is the
product over sites, so that the action is known with its normalization, S = - sum_x log P(n_x | m_x).
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np

from lft._kernels import percolation as kernel
from lft.actions import BaseAction
from lft.errors import InputError
from lft.geometry import TIME, Lattice
from lft.rng import Key, Stream

KINDS = ("bond", "site")
STARTS = ("seed", "full")
LANES = 64
"""Replicas that share a word; replica r is lane r mod 64 of word r // 64, whose key is Key(seed, r // 64)."""

MAX_SLICE = 2**31
"""Most sites of a slice."""


class DirectedPercolation(BaseAction):
    """Directed percolation on the lattice described above; the last axis of the geometry is time.

    Parameters
    ----------
    p : float
        Probability that a bond, or a site, is open; 0 <= p <= 1.
    kind : {"bond", "site"}

    Notes
    -----
    Critical points on these lattices in 1+1 dimensions: p = 0.644700185 (bond), 0.70548515 (site).

    Examples
    --------
    >>> from lft.percolation import DirectedPercolation
    >>> DirectedPercolation(p=0.5).probabilities(2)
    (0.0, 0.5, 0.75, 0.875, 0.9375)
    >>> DirectedPercolation(p=0.5, kind="site").probabilities(1)
    (0.0, 0.5, 0.5)
    """

    name, kind = "directed-percolation", "gas"
    is_drawn = True

    def __init__(self, p, kind="bond"):
        if isinstance(p, bool) or not isinstance(p, int | float | np.number) or not 0 <= p <= 1:
            raise InputError(f"p = {p!r}: valid is a number from 0 to 1")
        if kind not in KINDS:
            raise InputError(f"kind = {kind!r}: valid are {', '.join(KINDS)}")
        super().__init__(p=float(p), kind=str(kind))

    @property
    def is_site(self):
        """Whether sites, not bonds, are open or closed."""
        return self._couplings["kind"] == "site"

    def probabilities(self, n_axes):
        """P_m for m = 0..2^d active parents."""
        return tuple(float(q) for q in self._exact(n_axes))

    def thresholds(self, n_axes):
        """P_m in units of 2^-64, rounded to the nearest: a site is active if its 64-bit number is below."""
        return tuple(round(q * 2**64) for q in self._exact(n_axes))

    def _exact(self, n_axes):
        p = Fraction(self._couplings["p"])
        return [Fraction(0) if m == 0 else p if self.is_site else 1 - (1 - p) ** m for m in range(2**n_axes + 1)]

    # ---- what the base class offers to Gibbs measures
    def displacements(self, geometry):
        """Steps from a site to its children in the next slice, for even slices (for odd ones the signs change)."""
        space = itertools.product((0, -1), repeat=len(geometry.shape) - 1)
        return [(*corner, 1) for corner in space]

    def kernel(self, plan, geometry):
        """The compiled step, without distances."""
        return self.steps(geometry)

    def steps(self, geometry, squares=None):
        """The compiled step on a lattice; ``squares`` of :func:`squares` where distances are wanted."""
        shape, periodic = geometry.shape[:-1], [b == "periodic" for b in geometry.boundary[:-1]]
        return kernel.Steps(shape, periodic, self.thresholds(len(shape)), self.is_site, squares)

    def operators(self, phi):
        """None: S is not linear in the couplings."""
        raise InputError(f"action {self.name}: its normalization depends on p; it has no conjugate operators")

    def scaled(self, b):
        """The action itself for b = 1."""
        if b == 1:
            return self
        raise InputError(f"action {self.name}: has no temperature (b = {b}); valid is 1")

    def S(self, phi):
        """-log P of a configuration given its first slice; infinite if it is impossible.

        Parameters
        ----------
        phi : lft.field.Field
            Not distributed (one rank).
        """
        geometry = phi.geometry
        check_geometry(geometry)
        n = np.moveaxis(geometry.from_storage(phi.values), -1, 0).astype(np.int64)
        P = np.array(self.probabilities(n.ndim - 1))
        total = 0.0
        for t in range(1, len(n)):
            active = P[parents(n[t - 1], t - 1, geometry)]
            with np.errstate(divide="ignore"):
                total -= np.log(np.where(n[t] == 1, active, 1 - active)).sum()
        return float(total)


def check_geometry(geometry):
    """Raise InputError unless this is a lattice with at least one space axis and open time as its last axis."""
    if not isinstance(geometry, Lattice):
        raise InputError("action directed-percolation lives on a Lattice")
    shape, axes = geometry.shape, geometry.axes
    if not 2 <= len(shape) <= kernel.MAX_AXES + 1:
        raise InputError(f"shape = {list(shape)}: valid are 1 to {kernel.MAX_AXES} space axes and, last, time")
    if axes[-1] != TIME:
        raise InputError(f'axes = {list(axes)}: the last axis of directed percolation is time, "t"')
    if geometry.boundary[-1] != "open":
        raise InputError(f'boundary = {list(geometry.boundary)}: time, the last axis, must be "open"')
    if geometry.mask is not None:
        raise InputError("mask: directed percolation knows no inactive sites")
    if math.prod(shape[:-1]) >= MAX_SLICE:
        raise InputError(f"shape = {list(shape)}: {math.prod(shape[:-1])} sites in a slice; valid are below 2^31")


def parents(slice_, t, geometry, combine=np.add):
    """How many active parents each site of slice t+1 has; with ``np.bitwise_or`` on words, the replicas with any.

    Parameters
    ----------
    slice_ : ndarray
        Slice t, space axes in the user's order.
    combine : ufunc
        Adds what two parents contribute.
    """
    step, periodic = (1 if t % 2 == 0 else -1), [b == "periodic" for b in geometry.boundary[:-1]]
    total = slice_
    for axis, wraps in enumerate(periodic):
        total = combine(total, shifted(total, step, axis, wraps))
    return total


def shifted(array, step, axis, wraps):
    """``array[x + step]``, zero beyond an open end."""
    out = np.roll(array, -step, axis)
    if not wraps:
        edge = [slice(None)] * array.ndim
        edge[axis] = -1 if step > 0 else 0
        out[tuple(edge)] = 0
    return out


def squares(geometry):
    """int64 (2, sum of the space extents): squared distance from the seed along each axis, in half spacings, on even
    and on odd slices; the shortest way round where an axis is periodic.

    The seed stands at site L // 2 of slice 0.
    """
    tables = []
    for parity in (0, 1):
        parts = []
        for n, boundary in zip(geometry.shape[:-1], geometry.boundary[:-1], strict=True):
            distance = np.abs(2 * np.arange(n) + parity - 2 * (n // 2))
            parts.append(np.minimum(distance, 2 * n - distance) if boundary == "periodic" else distance)
        tables.append(np.concatenate(parts) ** 2)
    return np.array(tables, np.int64)


class Words:
    """Some words of 64 replicas in the making: :meth:`advance` draws their next slices.

    Parameters
    ----------
    action : DirectedPercolation
    geometry : Lattice
    start : {"seed", "full"}
    seed : int
    numbers : sequence of int
        Of the words.
    lanes : sequence of int
        For each word, the bits of the replicas that are wanted (uint64).
    n_threads : int

    Attributes
    ----------
    t : int
        The present slice.
    """

    def __init__(self, action, geometry, start, seed, numbers, lanes, n_threads=1):
        self.steps = action.steps(geometry, squares(geometry) if start == "seed" else None)
        self.keys = np.array([Key(seed, int(w)).word for w in numbers], np.uint64)
        self.n_steps, self.n_threads, self.t = geometry.shape[-1], n_threads, 0
        self._lanes = np.array(lanes, np.uint64)
        self._begin(geometry.shape[:-1], geometry.boundary[-2] == "periodic", start)

    def _begin(self, shape, is_ring, start):
        W, n = len(self.keys), shape[-1]
        self._slices = np.zeros((W, 2, self.steps.padded), np.uint64)
        self._box = np.empty((W, len(shape), 2), np.intp)
        self._reach = np.zeros((W, 3), np.int64)
        self._reach[:, 2] = -1
        first = self._slices[:, 0].reshape(W, *shape[:-1], n + 2)
        if start == "seed":
            site = tuple(k // 2 for k in shape)
            first[(slice(None), *site[:-1], site[-1] + 1)] = self._lanes
            self._box[...] = np.array(site)[:, np.newaxis]
        else:
            first[..., 1 : n + 1] = self._lanes.reshape(-1, *([1] * len(shape)))
            self._box[...] = np.array([[0, k - 1] for k in shape])
        if is_ring:
            first[..., 0], first[..., n + 1] = first[..., n], first[..., 1]

    @property
    def is_done(self):
        """Whether the last slice has been drawn, or all activity has died."""
        return self.t + 1 >= self.n_steps or bool((self._box[:, 0, 0] > self._box[:, 0, 1]).all())

    @property
    def reached(self):
        """(sites with an active parent, those of them that became active), over all replicas so far."""
        return self._reach[:, :2].sum(axis=0)

    @property
    def contact(self):
        """The first slice in which a replica is active at the edge of the lattice, -1 if none has been."""
        seen = self._reach[:, 2]
        return int(seen[seen >= 0].min(initial=self.n_steps)) if (seen >= 0).any() else -1

    def advance(self, n, record=None, lane=0):
        """The next ``n`` slices: count (W, n, 64), summed squared distance (W, n, 64), alive (W, n) of bits.

        Parameters
        ----------
        record : ndarray (n, sites of a slice) int8, optional
            Gets the slices of one lane of the first word.
        """
        W = len(self.keys)
        count, square = np.zeros((2, W, n, LANES), np.int64)
        alive = np.zeros((W, n), np.uint64)
        self.steps.run(self._slices, self._box, self.t, int(Stream.PERCOLATION), self.keys, count, square, alive,
                       self._reach, self.n_threads, record, lane)  # fmt: skip
        self.t += n
        return count, square, alive


def configuration(action, geometry, start, seed, replica):
    """int8 (time, sites of a slice) of one replica; the replica as every ensemble draws it.

    Examples
    --------
    >>> from lft.geometry import Lattice
    >>> from lft.percolation import DirectedPercolation, configuration
    >>> lattice = Lattice((6, 3), ("x", "t"), ("periodic", "open"))
    >>> configuration(DirectedPercolation(1.0), lattice, "seed", seed=1, replica=0)
    array([[0, 0, 0, 1, 0, 0],
           [0, 0, 1, 1, 0, 0],
           [0, 0, 1, 1, 1, 0]], dtype=int8)
    """
    word, lane = divmod(replica, LANES)
    words = Words(action, geometry, start, seed, [word], [1 << lane])
    sites = math.prod(geometry.shape[:-1])
    out = np.zeros((geometry.shape[-1], sites), np.int8)
    if start == "seed":
        out[0, np.ravel_multi_index([n // 2 for n in geometry.shape[:-1]], geometry.shape[:-1])] = 1
    else:
        out[0] = 1
    if geometry.shape[-1] > 1:
        words.advance(geometry.shape[-1] - 1, out[1:], lane)
    return out
