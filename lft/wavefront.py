"""Trajectories of phi^4 blocked in time: many leapfrog steps for each time the field is read from memory.

Nearest-neighbor :class:`lft.actions.Phi4` under :class:`lft.updaters.HMC`, any of its integrators.  A *pass* takes the
field through several (kick, drift) pairs at once; it walks over the rows of a *tile*, each step trailing the one
before, so that all it touches stays in the cache.  A tile reads the rows around it as far as its last step depends on
them and computes those again, so tiles need nothing of each other: they are spread over threads, and between ranks
one exchange of a deep halo serves a whole pass.  Momenta are functions of the global site and are drawn where they
are needed, halo included.

The arithmetic of a site is that of the generic loops: the same bits, for any number of steps per pass, tiles, threads
and ranks.  Layout and measured rates: ``_kernels/c/wavefront.c``.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from lft._kernels import phi4_waves
from lft.actions import Phi4
from lft.domain import Domain
from lft.errors import DivergenceError, InputError
from lft.geometry import Lattice
from lft.rng import Stream

L1_BYTES = 32768
"""First-level data cache that the choice of rows per step assumes; it changes no bit."""


class Phi4Waves:
    """Deep-halo copy of a phi^4 field, and trajectories on it.

    Parameters
    ----------
    action : Phi4
    phi : Field
        The field that :meth:`load` reads and :meth:`store` writes.
    updater : HMC
    blocking : Blocking, optional
        Steps per pass and tiles; default :func:`choose_blocking`.  It does not change a bit.
    n_threads : int
        Threads among which tiles are spread.

    Examples
    --------
    >>> from lft.actions import Phi4
    >>> from lft.geometry import Lattice
    >>> from lft.rng import Key
    >>> from lft.updaters import HMC, start
    >>> action, key = Phi4(kappa=0.2, lam=0.5), Key(7)
    >>> phi = action.new_field(Lattice((8, 8)))
    >>> waves = Phi4Waves(action, phi, HMC(steps=5))
    >>> waves.load()
    >>> is_accepted, dH = waves.trajectory(0, key)
    >>> waves.store()
    """

    def __init__(self, action, phi, updater, blocking=None, n_threads=1):
        reason = _refusal(action, phi)
        if reason:
            raise InputError(f"phi4 blocked in time: {reason}")
        self.action, self.phi, self.updater = action, phi, updater
        self.n_threads = n_threads
        geometry, domain = phi.geometry, phi.domain
        stored = geometry.storage_order
        units = geometry.unit_displacements()
        couplings = action.bond_couplings(geometry)
        self._bonds = [(stored.index(units.index(d)), k) for d, k in couplings.items() if geometry.joins(d)]
        *pairs, (last_kick, _) = updater.scheme.pairs(updater.steps, updater.length / updater.steps)
        itemsize = phi.data.dtype.itemsize
        self.blocking = blocking or choose_blocking(len(pairs), domain, len(self._bonds), itemsize, n_threads)
        # the energies need one more row than the steps, which the neighbor of a thin block may not have
        thin = [n // p for n, p in zip(domain.shape, domain.grid, strict=True) if p > 1]
        self._depth = min([min(len(pairs), self.blocking.steps) + 1, *thin])
        halo = [self._depth if ranks > 1 else 0 for ranks in domain.grid]
        self.domain = Domain(domain.shape, domain.periodic, halo, domain.comm, domain.grid)
        self._scratch = _aligned_rows(n_threads, 0)
        self._passes = self._make_passes(pairs, last_kick, True)
        self._fields, self._momenta = [self._buffer()], []
        self._lines = np.zeros((3, math.prod(domain.local_shape[:-1])))
        self._action_lines = None
        self._evolutions = {}

    @staticmethod
    def supports(action, phi):
        """Whether these trajectories can run: else the generic loops serve."""
        return not _refusal(action, phi)

    # ---- layout
    def _make_passes(self, pairs, last_kick, draws):
        sizes = _shares(len(pairs), min(self.blocking.steps, self._depth))
        if last_kick is not None and sizes[-1] == self._depth:
            sizes.append(0)
        passes, at = [], 0
        for k, size in enumerate(sizes):
            is_last = k + 1 == len(sizes)
            passes.append(self._make_pass(pairs[at : at + size], last_kick if is_last else None, draws and k == 0))
            at += size
        return passes

    def _buffer(self):
        return _aligned(math.prod(self.domain.padded_shape), self.phi.data.dtype)

    def _make_pass(self, pairs, last_kick, draws):
        domain = self.domain
        length, n_axes = domain.shape[-1], len(domain.shape)
        is_single = self.phi.data.dtype == np.float32
        steps = phi4_waves.Steps(
            n_axes, self._bonds, self.action.couplings["lam"], length, domain.periodic[-1], is_single, pairs,
            last_kick, draws,
        )
        depth = len(pairs) + (last_kick is not None)
        boxes = self._make_boxes(depth)
        n_bytes = steps.scratch(max(len(b["row_at"]) for b in boxes), self.blocking.group)
        if n_bytes > self._scratch.shape[1]:
            self._scratch = _aligned_rows(self.n_threads, n_bytes)
        return steps, phi4_waves.Tiles(boxes)

    def _make_boxes(self, depth):
        domain = self.domain
        parts = [self.n_threads, self.blocking.split] + [1] * len(domain.shape)
        axes = []
        for axis, extent in enumerate(domain.local_shape[:-1]):
            n_parts = min(parts[axis], extent)
            edges = [k * extent // n_parts for k in range(n_parts + 1)]
            axes.append([self._region(axis, a, b, depth) for a, b in itertools.pairwise(edges)])
        boxes = [[]]
        for regions in axes:
            boxes = [[*head, r] for head in boxes for r in regions]
        return [self._make_box(b) for b in boxes]

    def _region(self, axis, low, high, depth):
        """Coordinates of a tile and of what lies within ``depth``: global, in the array, in the block, and distance."""
        domain = self.domain
        n, start, halo = domain.shape[axis], domain.slices[axis].start, domain.halo[axis]
        is_whole = axis > 0 and domain.grid[axis] == 1 and domain.periodic[axis] and high - low == n
        if is_whole:
            x = np.arange(n)
        elif not any(a == axis for a, _ in self._bonds):
            x = np.arange(start + low, start + high)
        else:
            x = np.arange(start + low - depth, start + high + depth)
            if not domain.periodic[axis]:
                x = x[(x >= 0) & (x < n)]
        margin = np.maximum(0, np.maximum(start + low - x, x - (start + high - 1)))
        inside = x - start + halo if domain.grid[axis] > 1 else x % n
        return {"global": x % n, "array": inside, "block": x - start, "margin": margin, "is_whole": is_whole}

    def _make_box(self, regions):
        domain = self.domain
        axes = range(len(regions))
        global_strides = [math.prod(domain.shape[k + 1 :]) for k in axes]
        line_strides = [math.prod(domain.local_shape[k + 1 : -1]) for k in axes]
        strides = domain.strides
        extents = [len(r["global"]) for r in regions[1:]]
        index = np.indices(extents).reshape(len(extents), -1) if extents else np.zeros((0, 1), int)

        def total(name, factors):
            rows = np.zeros(index.shape[1] if extents else 1, np.intp)
            for k, r in enumerate(regions[1:]):
                rows += r[name][index[k]] * factors[k + 1]
            return (regions[0][name] * factors[0]).astype(np.intp), rows

        ones = [1] * len(regions)
        neighbor = np.full((max(len(extents), 1), 2, max(index.shape[1], 1)), -1, np.intp)
        for k, (r, n) in enumerate(zip(regions[1:], extents, strict=True)):
            step = math.prod(extents[k + 1 :])
            for side, move in enumerate((1, -1)):
                to = index[k] + move
                exists = (to >= 0) & (to < n) | r["is_whole"]
                neighbor[k, side] = np.where(exists, np.arange(index.shape[1]) + (to % n - index[k]) * step, -1)
        box = {"neighbor": np.ascontiguousarray(neighbor.ravel())}
        for name, source, factors, dtype in (
            ("at", "array", strides, np.intp),
            ("margin", "margin", ones, np.intp),
            ("line", "block", line_strides, np.intp),
            ("site", "global", global_strides, np.uint64),
        ):
            plane, row = total(source, factors)
            box[f"plane_{name}"] = np.ascontiguousarray(plane.astype(dtype))
            box[f"row_{name}"] = np.ascontiguousarray(row.astype(dtype))
        return box

    # ---- what users call
    @property
    def _values(self):
        return self._fields[0].reshape(self.domain.padded_shape)[self.domain.interior]

    def load(self):
        """Copy the field."""
        self._values[...] = self.phi.values
        self._action_lines = self.action.action_lines(self.phi)

    def store(self):
        """Write the configuration back to the field and refresh its halo (collective)."""
        self.phi.values[...] = self._values
        self.phi.exchange()

    def trajectory(self, t, key):
        """One trajectory; returns whether it was accepted, and dH (collective)."""
        before = self._action_lines
        x, _ = self._run(self._passes, None, t, key.word)
        kinetic, *after = self._lines
        energies = np.concatenate([*after, -kinetic, -before])
        try:
            dH = self.domain.sum_lines(energies, "energy change of the trajectory")
        except DivergenceError:
            dH = np.inf
        is_accepted = dH < key.exponential(t, Stream.ACCEPT)
        if is_accepted:
            self._accept(x)
            self._action_lines = self._lines[2].copy()
        return is_accepted, dH

    def evolve(self, momenta, pairs):
        """Move the field along (kick, drift) pairs from given momenta of the block; returns the last momenta."""
        pairs = tuple(pairs)
        if pairs not in self._evolutions:
            self._evolutions[pairs] = self._make_passes(pairs, None, False)
        mom = self._buffer()
        mom.reshape(self.domain.padded_shape)[self.domain.interior] = momenta
        x, mom = self._run(self._evolutions[pairs], mom, 0, 0, keeps_momenta=True)
        self._accept(x)
        self._action_lines = None
        return mom.reshape(self.domain.padded_shape)[self.domain.interior].copy()

    def _run(self, passes, momenta, t, key_word, keeps_momenta=False):
        """Number of the buffer that holds the last field, and the last momenta (None where nobody reads them)."""
        x = 0
        for k, (steps, tiles) in enumerate(passes):
            is_last = k + 1 == len(passes)
            self._exchange(self._fields[x])
            if momenta is not None:
                self._exchange(momenta)
            y = 1 - x if keeps_momenta else 1 + k % 2  # an evolution may write over the first field
            y = y if steps.n_steps else x  # the energies alone leave it
            while len(self._fields) <= y:
                self._fields.append(self._buffer())
            while (len(self._momenta) <= k % 2 and not is_last) or (len(self._momenta) < 2 and keeps_momenta):
                self._momenta.append(self._buffer())
            out = None if is_last and not keeps_momenta else self._momenta[k % 2]
            phi4_waves.run(
                steps, tiles, self.blocking.group, self._fields[x], momenta, self._fields[y], out, self._lines, t,
                int(Stream.MOMENTUM), key_word, self._scratch,
            )
            x, momenta = y, out
        return x, momenta

    def _accept(self, x):
        self._fields[0], self._fields[x] = self._fields[x], self._fields[0]

    def _exchange(self, flat):
        if self.domain.n_ranks > 1:
            self.domain.exchange(flat.reshape(self.domain.padded_shape))


class Blocking(NamedTuple):
    """How a trajectory is cut into passes and a block into tiles."""

    steps: int  # most (kick, drift) pairs of a pass
    split: int = 1  # tiles along the second stored axis
    group: int = 8  # rows that a step takes at a time, before the next step has its turn


def choose_blocking(n_steps, domain, n_bonds, itemsize, n_threads=1):
    """Steps per pass and tiles that cost least, by a model of redundant rows, cache and memory traffic.

    A pass reads and writes the fields once, whatever its number of steps; the rows around a tile are computed again
    (on average over the steps one row per step and end), their momenta are drawn again, and the rows in flight should
    stay in the cache.

    Parameters
    ----------
    n_steps : int
        (kick, drift) pairs of a trajectory.
    domain : Domain
        The blocks; the choice is the same on every rank.
    n_bonds, itemsize, n_threads : int
        Axes with bonds, bytes of a number, threads that share a block.

    Returns
    -------
    Blocking
    """
    blocks = [(n // p, -(-n // p)) for n, p in zip(domain.shape, domain.grid, strict=True)]
    # a halo comes from one neighbor: no deeper than the thinnest block, the energies of the last pass included
    most = min([phi4_waves.MAX_STEPS, *(max(b[0] - 1, 1) for b, p in zip(blocks, domain.grid, strict=True) if p > 1)])
    large = [b[1] for b in blocks]
    length, middle = large[-1], large[1:-1]
    per_site, per_row = (0.5 + 0.2 * max(n_bonds - 2, 0)) * itemsize / 8, 20.0 / length
    # in two dimensions the rows that a step reads and writes at a time, 3 g + 2 of them, should fit in L1
    group = max(1, min(8, 512 // length if middle else (L1_BYTES // (length * itemsize) - 2) // 3))
    best = None
    for steps in range(1, min(most, n_steps) + 1):
        n_passes = -(-n_steps // steps)
        steps = max(_shares(n_steps, steps))
        for split in (1, 2, 4, 8, 16) if middle and domain.grid[1] == 1 else (1,):
            ends = [large[0] / n_threads]
            if middle and (split > 1 or domain.grid[1] > 1):
                ends.append(middle[0] / split)
            if len(middle) > 1 and domain.grid[2] > 1:
                ends.append(middle[1])
            widths = [w + 2 * steps for w in ends[1:]]
            rows = math.prod(widths) * math.prod(middle[len(widths) :])
            flight = rows * length * itemsize * (2 * (steps + 1) + steps)
            slow = 0.0 if flight < 2e6 else 0.25 if flight < 1e7 else 1.0
            again, drawn = (math.prod(1 + k * steps / w for w in ends) for k in (1, 2))
            draw = (2.3 + 2 * per_row) * drawn
            cost = draw + n_steps * (per_site + per_row + slow) * again + 2.0 * n_passes * itemsize / 8
            if best is None or cost < best[0]:
                best = cost, Blocking(steps, split, group)
    return best[1]


def _refusal(action, phi):
    """Why the generic loops must serve, or ''."""
    if type(action) is not Phi4 or type(phi.geometry) is not Lattice or phi.kind != "real":
        return "valid is the action Phi4 on a Lattice"
    geometry = phi.geometry
    if geometry.mask is not None:
        return "the lattice has a mask"
    units = geometry.unit_displacements()
    bonds = [d for d in action.bond_couplings(geometry) if geometry.joins(d)]
    if any(d not in units for d in bonds):
        return "kappa has displacements other than nearest neighbors"
    if not 1 <= len(bonds) <= phi4_waves.MAX_BONDS:
        return f"{len(bonds)} axes have bonds, valid are 1 to {phi4_waves.MAX_BONDS}"
    return ""


def _shares(n, most):
    """``n`` as a sum of nearly equal parts, each at most ``most``, the larger ones first."""
    parts = -(-n // most)
    return [n // parts + (k < n % parts) for k in range(parts)]


def _aligned(n, dtype):
    """Zeros that begin on a cache line."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(n * size + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + n * size].view(dtype)


def _aligned_rows(n_rows, n_bytes):
    """Rows of bytes that begin on cache lines."""
    width = -(-n_bytes // 64) * 64 + 4096
    return _aligned(n_rows * width, np.uint8).reshape(n_rows, width)
