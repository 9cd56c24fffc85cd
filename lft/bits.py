"""Bit-sliced Ising sweeps: one bit per site, hundreds of sites per instruction.

Nearest-neighbor :class:`lft.actions.Ising` with one K per axis and one h, Metropolis or heat bath.  The chain is a
function of the key alone: the same bits on every instruction set and for every domain decomposition, but not the bits
of the generic loops, which compare energies with another random number.  Both sample exp(-S); here acceptance
probabilities are exact to 2^-64.  Layout, random numbers and measured rates: ``_kernels/bitslice.c``.
"""

from __future__ import annotations

import itertools
import math
import sys
from decimal import Context, Decimal
from functools import lru_cache

import numpy as np

from lft import threads
from lft._kernels import ising_bits
from lft.actions import Ising
from lft.domain import Domain
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Lattice
from lft.rng import Stream

UPDATERS = {"metropolis": Stream.METROPOLIS, "heatbath": Stream.HEATBATH}
UNIT = 128  # sites of one random block
CHUNK_WORDS = 512  # words of a row or of several rows whose shifted neighbors are prepared together
_EXACT = Context(prec=50, Emax=10**8, Emin=-(10**8))


class IsingBits:
    """Packed copy of a spin field, with sweeps and bond sums on the bits.

    Parameters
    ----------
    action : Ising
    phi : Field
        The field that :meth:`load` reads and :meth:`store` writes.
    updater_name : {"metropolis", "heatbath"}

    Examples
    --------
    >>> from lft.actions import Ising
    >>> from lft.bits import IsingBits
    >>> from lft.geometry import Lattice
    >>> from lft.rng import Key
    >>> action = Ising(K=0.4)
    >>> phi = action.new_field(Lattice((8, 64)))
    >>> phi.values[...] = 1
    >>> bits = IsingBits(action, phi, "metropolis")
    >>> bits.load()
    >>> bits.measure()
    (array([512, 512]), 512)
    >>> proposed, accepted = bits.sweep(0, Key(7).word)
    >>> bits.store()
    >>> bits.measure()[1] == phi.values.sum()
    np.True_
    """

    def __init__(self, action, phi, updater_name):
        reason = _refusal(action, phi, updater_name)
        if reason:
            raise InputError(f"bit-sliced sweeps: {reason}")
        self.phi = phi
        self.is_heatbath = updater_name == "heatbath"
        self._stream = int(UPDATERS[updater_name])
        geometry, shape = phi.geometry, phi.domain.shape
        self._couplings = _axis_couplings(action, geometry)
        self._h = action.couplings["h"]
        self._halves_ties = not self.is_heatbath and action.halves_ties(geometry)
        self._order = geometry.storage_order
        self.length, self._periodic = shape[-1], geometry.storage_periodic
        units = -(-((self.length + 1) // 2) // UNIT)
        self._words = 2 * units
        lines = shape[:-1]
        self.domain = Domain(
            (*lines, 8 * self._words),
            (*self._periodic[:-1], False),
            (*(1 for _ in lines), 0),
            phi.domain.comm,
            phi.domain.grid,
        )
        size = math.prod(self.domain.padded_shape[:-1]) * self._words
        # one buffer with slack at its end: a register that begins in the last row may read beyond it
        self._buffer = [_aligned(size + 8) for _ in range(2)]
        self.planes = [b[:size] for b in self._buffer]
        self._bytes = [p.view(np.int8).reshape(self.domain.padded_shape) for p in self.planes]
        self._rows = self._make_rows()
        self._make_lines()
        self.can_reside = max(phi.domain.halo) <= 1  # else the halo of the field needs messages
        self._sums = None
        self._seams = [a for a, n in enumerate(lines) if self._periodic[a] and n % 2]
        self._faces = self._seam_faces()
        self._classes = self._make_classes()
        self._copies = None if self._seams else self.domain.local_copies
        self.n_sites = math.prod(phi.domain.local_shape)

    @staticmethod
    def supports(action, phi, updater_name):
        """Whether these sweeps can run: else the generic loops serve."""
        return not _refusal(action, phi, updater_name)

    # ---- layout
    def _make_rows(self):
        length, words = self.length, self._words
        n_bits = ((length + 1) // 2, length // 2)
        is_periodic = self._periodic[-1]
        has_ends = not is_periodic and bool(self._couplings[-1])
        chunk = max(1, CHUNK_WORDS // words)
        valid = [_mask(words, range(n)) for n in n_bits]
        ends = [(0, n_bits[0] - 1) if length % 2 else (0,), () if length % 2 else (n_bits[1] - 1,)]
        closed = ising_bits.OPEN
        if is_periodic:
            closed, ends = (ising_bits.ODD, [(n_bits[0] - 1,), ()]) if length % 2 else (ising_bits.EVEN, [(), ()])
        elif not has_ends:
            ends = [(), ()]
        sliced = [v & ~_mask(words, e) for v, e in zip(valid, ends, strict=True)]
        right = valid[0] & valid[1]
        left = valid[0] if is_periodic else valid[0] & ~_mask(words, (0,))
        none = np.zeros(words, np.uint64)
        masks = np.zeros((4, 2, chunk * words), np.uint64)
        for k, pair in enumerate([sliced, (right, none), (left, none), valid]):
            for r in range(2):
                masks[k, r] = np.concatenate([pair[(r + i) % 2] for i in range(chunk)])
        stride = -(-(chunk * words + 16) // 8) * 8
        work = _aligned(4 * threads.count() * stride).reshape(-1, stride)
        return ising_bits.Rows(words, n_bits, chunk, closed, has_ends, masks, work)

    def _make_lines(self):
        """First word and parity of each local line, and its start in the flat padded field."""
        domain, field = self.domain, self.phi.domain
        x = np.indices(domain.local_shape[:-1]).reshape(len(domain.shape) - 1, -1)
        starts = np.array([s.start for s in domain.slices[:-1]])
        strides = np.array(domain.strides[:-1]) // 8
        self._line_word = ((x + 1) * strides[:, None]).sum(axis=0).astype(np.intp)
        self._line_parity = ((x + starts[:, None]).sum(axis=0) % 2).astype(np.intp)
        halo = np.array(field.halo[:-1])[:, None]
        start = ((x + halo) * np.array(field.strides[:-1])[:, None]).sum(axis=0) + field.halo[-1]
        self._line_start = start.astype(np.intp)
        self._words_by_parity = [np.ascontiguousarray(self._line_word[self._line_parity == p]) for p in range(2)]
        # the same with the lines of the halo that exist: those of the field as far as it is one line wide
        x = np.indices(domain.padded_shape[:-1]).reshape(len(starts), -1) - 1
        padded, y = np.array(field.padded_shape[:-1])[:, None], x + starts[:, None]
        is_there = ((x + halo >= 0) & (x + halo < padded)).all(axis=0)
        for axis, n in enumerate(domain.shape[:-1]):
            is_there &= self._periodic[axis] | ((y[axis] >= 0) & (y[axis] < n))
        x, y = x[:, is_there], y[:, is_there]
        start = ((x + halo) * np.array(field.strides[:-1])[:, None]).sum(axis=0) + field.halo[-1]
        self._padded_lines = (
            start.astype(np.intp),
            ((x + 1) * strides[:, None]).sum(axis=0).astype(np.intp),
            (y.sum(axis=0) % 2).astype(np.intp),  # across an odd seam too: there the halo rows trade planes
        )

    def _make_runs(self, keep):
        """Runs of the local lines for which ``keep`` (over the local lines' shape) holds."""
        domain = self.domain
        starts = [s.start for s in domain.slices[:-1]]
        word = self._line_word.reshape(domain.local_shape[:-1])
        parity = self._line_parity.reshape(word.shape)
        edge = np.diff(keep.astype(np.int8), axis=-1, prepend=0, append=0)
        first, stop = np.argwhere(edge == 1), np.argwhere(edge == -1)
        at = tuple(first.T)
        line = np.zeros(len(first), np.uint64)
        for axis, n in enumerate(domain.shape[:-1]):
            line = line * np.uint64(n) + (first[:, axis] + starts[axis]).astype(np.uint64)
        return ising_bits.Runs(
            np.ascontiguousarray(word[at]),
            np.ascontiguousarray((stop - first)[:, -1].astype(np.intp)),
            np.ascontiguousarray(parity[at]),
            line * np.uint64(self._words // 2),
        )

    def _at(self, axis, index):
        """Over the local lines: whether the global coordinate has this value."""
        domain = self.domain
        shape = [1] * (len(domain.shape) - 1)
        shape[axis] = -1
        s = domain.slices[axis]
        here = (np.arange(s.start, s.stop) == index % domain.shape[axis]).reshape(shape)
        return np.broadcast_to(here, domain.local_shape[:-1])

    def _make_classes(self):
        """Per class of the sweep: (color, first, rest, is_last_column), both a list of (rule, end rule, runs).

        The colors of the seams come last.  Without seams the edges of the axis whose halo is exchanged by messages come
        first and travel during the rest.
        """
        domain = self.domain
        whole = np.ones(domain.local_shape[:-1], bool)
        is_open = [a for a in range(whole.ndim) if not self._periodic[a]]
        groups = {}
        for ends in itertools.product(*[((0, 0), (0, 1), (1, 0), (1, 1)) for _ in is_open]):
            keep = whole
            for axis, (low, high) in zip(is_open, ends, strict=True):
                keep = keep & (self._at(axis, 0) == low) & (self._at(axis, -1) == high)
            if keep.any():
                groups[ends] = keep
        rules = {ends: self._make_rules(dict(zip(is_open, ends, strict=True))) for ends in groups}
        classes = []
        for flags in itertools.product(*[(False, True) for _ in self._seams]):
            inside = whole
            for axis, flag in zip(self._seams, flags, strict=True):
                inside = inside & (self._at(axis, -1) == flag)

            def select(where):
                return [(*rules[e], self._make_runs(k & where)) for e, k in groups.items() if (k & where).any()]

            parts, is_odd = select(inside), self._periodic[-1] and self.length % 2
            if domain.first_cut is None or self._seams or is_odd:
                classes += [(color, [], parts, False) for color in range(2)]
            else:
                edges = np.zeros_like(whole)
                np.moveaxis(edges, domain.first_cut, 0)[[0, -1]] = True
                classes += [(color, select(edges), select(~edges), False) for color in range(2)]
            if is_odd:
                classes += [(color, [], parts, True) for color in range(2)]
        self._all = self._make_runs(whole)
        self._upper = [
            self._make_runs(whole if self._periodic[a] else ~self._at(a, -1)) for a in range(whole.ndim)
        ]
        return classes

    # ---- rules
    def _make_rules(self, ends):
        """Rule of the sliced sites and of the ends of open lines; ``ends`` says which lines miss a neighbor."""
        lines = []
        for axis, stride in enumerate(self.domain.strides[:-1]):
            misses = ends.get(axis, (0, 0))
            for step, missing in zip((-1, 1), misses, strict=True):
                if not missing and self._couplings[axis]:
                    lines.append((self._couplings[axis], ising_bits.LINE, step * stride // 8))
        K = self._couplings[-1]
        along = [(K, ising_bits.SELF, 0), (K, ising_bits.SIDE, 0)] if K else []
        return self._make_rule(lines + along), self._make_rule(lines + along[:1])

    def _make_rule(self, members):
        groups = {}
        for K, kind, offset in members:
            groups.setdefault(abs(K), []).append((kind, offset, K < 0))
        strengths, groups = list(groups), list(groups.values())
        n = [len(g) for g in groups]
        if self._h and not self.is_heatbath:
            groups.append([(ising_bits.SPIN, 0, False)])
        exact = []
        for counts in itertools.product(*[range(len(g) + 1) for g in groups]):
            field = _EXACT.create_decimal(0)
            for K, u, size in zip(strengths, counts, n, strict=False):
                field = _EXACT.add(field, _EXACT.multiply(Decimal(K), 2 * u - size))
            if self.is_heatbath:
                field = _EXACT.add(field, Decimal(self._h))
                exact.append((heatbath_threshold(abs(field)), field < 0))
            else:
                # members are compared with the site: a set bit is an unlike neighbor, whose bond a flip satisfies
                if self._h:
                    field = _EXACT.subtract(field, _EXACT.multiply(Decimal(self._h), 2 * counts[-1] - 1))
                exact.append((2**63 if self._halves_ties and not field else metropolis_threshold(field), False))
        thresholds = [T for T, _ in exact]
        is_single = len(groups) == 1 and not self._h
        if is_single and n[0] in (4, 6, 8) and not self._halves_ties:
            half = n[0] // 2
            own = [thresholds[n[0] - c] for c in range(half + 1)] if self.is_heatbath else thresholds[:half]
            if max(own) < 2**64:
                classes = [min(u, n[0] - u) if self.is_heatbath else min(u, half) for u in range(n[0] + 1)]
                class_of = [c if c < len(own) else ising_bits.ALWAYS for c in classes]
                return ising_bits.Rule(self.is_heatbath, groups, class_of, [i for _, i in exact], own, n[0])
        own = sorted({T for T in thresholds if T < 2**64}) or [0]  # at least one class
        class_of = [own.index(T) if T < 2**64 else ising_bits.ALWAYS for T in thresholds]
        return ising_bits.Rule(self.is_heatbath, groups, class_of, [i for _, i in exact], own, 0)

    # ---- halo
    def _seam_faces(self):
        """Halo planes on both sides of a periodic axis of odd extent, where the checkerboard does not close."""
        faces = []
        for axis in self._seams:
            s = self.domain.slices[axis]
            for is_here, plane in ((s.start == 0, 0), (s.stop == self.domain.shape[axis], -1)):
                if is_here:
                    index = [slice(None)] * len(self.domain.shape)
                    index[axis] = plane
                    faces.append(tuple(index))
        return faces

    def _exchange(self, colors=(0, 1)):
        """Fresh halo.  Across an odd seam a neighbor has the same color, so its row goes to the other plane."""
        for color in (0, 1) if self._seams else colors:
            self.domain.exchange(self._bytes[color])
        for face in self._faces:
            kept = self._bytes[0][face].copy()
            self._bytes[0][face] = self._bytes[1][face]
            self._bytes[1][face] = kept

    # ---- what users call
    def load(self):
        """Pack the local block of the field (collective)."""
        self._sums = None
        flat = self.phi.data.reshape(-1)
        ising_bits.load(flat, self._line_start, self.length, *self.planes, self._line_word, self._line_parity)
        self._exchange()

    def store(self):
        """Write the bits back to the field with its halo: local work, unless that is wider than one site."""
        self.phi.resident = None
        data = self.phi.data
        if not self.can_reside:
            where = (self._line_start, self.length, *self.planes, self._line_word, self._line_parity)
            ising_bits.store(data.reshape(-1), *where)
            self.phi.exchange()
            return
        start, word, parity = self._padded_lines
        ising_bits.store(data.reshape(-1), start, self.length, *self.planes, word, parity)
        if self.phi.domain.halo[-1] and self._periodic[-1]:
            data[..., 0], data[..., -1] = data[..., -2], data[..., 1]

    def sweep(self, t, key_word, n=1):
        """Visit every site once, ``n`` times from ``t`` on; returns the local numbers of proposals and of sites that
        changed (collective)."""
        if not 0 <= t <= t + n <= 2**48:
            raise InputError(f"t = {t}, n = {n}: valid are numbers of updates from 0 to 2^48 - 1")
        self._sums = None
        if self._copies is None:
            return n * self.n_sites, sum(self._sweep(t + i, key_word) for i in range(n))
        classes = [(color, rest, is_last_column) for color, _, rest, is_last_column in self._classes]
        changed = ising_bits.sweeps(classes, self._rows, *self.planes, *self._copies, t, n, self._stream, key_word)
        return n * self.n_sites, changed

    def _sweep(self, t, key_word):
        changed = 0
        for color, first, rest, is_last_column in self._classes:
            planes = self.planes[color], self.planes[1 - color]
            what = color, t, self._stream, key_word
            for rule, end, runs in first:
                changed += ising_bits.update(rule, end, self._rows, runs, *planes, *what)
            if first:
                self.domain.begin(self._bytes[color])
            for rule, end, runs in rest:
                if is_last_column:
                    changed += ising_bits.seam(rule, self._rows, runs, *planes, *what)
                else:
                    changed += ising_bits.update(rule, end, self._rows, runs, *planes, *what)
            if first:
                self.domain.end(self._bytes[color])
            else:
                self._exchange((color,))
        return changed

    def exchange(self, other):
        """Trade configurations, packed and not, with another copy of the same layout: only references move."""
        for name in ("_buffer", "planes", "_bytes"):
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, theirs)
            setattr(other, name, mine)
        self._sums, other._sums = other._sums, self._sums
        if self.can_reside:
            self.phi.resident, other.phi.resident = self, other
        else:
            self.phi.data, other.phi.data = other.phi.data, self.phi.data

    def measure(self):
        """Local sums: sum_x s_x s_(x+1) per axis (user's order, each bond by its lower site), and sum_x s_x."""
        if self._sums is None:
            self._sums = self._measure()
        return self._sums

    def site_sum(self):
        """Local sum_x s_x."""
        return int(self.measure()[1])

    def bond_sum(self, displacement):
        """Local sum_x s_x s_(x+d); None if d is not a unit step."""
        units = self.phi.geometry.unit_displacements()
        return int(self.measure()[0][units.index(displacement)]) if displacement in units else None

    def plane_sums(self, axis):
        """Local sums over the planes perpendicular to a storage axis."""
        lines = self.domain.local_shape[:-1]
        if axis < len(lines):
            up = np.empty(len(self._line_word), np.int64)
            ising_bits.line_counts(*self.planes, self._line_word, self._words, up)
            others = tuple(k for k in range(len(lines)) if k != axis)
            n = math.prod(lines[k] for k in others) * self.length
            return 2 * up.reshape(lines).sum(axis=others) - n
        up = np.zeros(self.length, np.int64)
        for parity, word in enumerate(self._words_by_parity):
            for color, plane in enumerate(self.planes):
                counts = np.zeros(64 * self._words, np.int64)
                ising_bits.column_counts(plane, word, self._words, counts)
                r = parity ^ color
                up[r::2] += counts[: len(up[r::2])]
        return 2 * up - math.prod(lines)

    def _measure(self):
        bonds = np.zeros(len(self._periodic), np.int64)
        lines = self.domain.local_shape[:-1]
        for axis, runs in enumerate(self._upper):
            n = math.prod(lines)
            s = self.domain.slices[axis]
            if not self._periodic[axis] and s.stop == self.domain.shape[axis]:
                n -= n // lines[axis]
            stride = self.domain.strides[axis] // 8
            unlike = sum(
                ising_bits.unlike(self._rows, runs, self.planes[c], self.planes[1 - c], stride, c) for c in (0, 1)
            )
            bonds[axis] = n * self.length - 2 * unlike
        unlike = sum(
            ising_bits.unlike_along(self._rows, self._all, self.planes[c], self.planes[1 - c], c) for c in (0, 1)
        )
        bonds[-1] = math.prod(lines) * (self.length - (not self._periodic[-1])) - 2 * unlike
        up = sum(ising_bits.count(self._rows, self._all, p) for p in self.planes)
        return bonds[np.argsort(self._order)], 2 * up - self.n_sites


def _refusal(action, phi, updater_name):
    """Why the generic loops must serve, or ''."""
    if sys.byteorder != "little":
        return "rows are packed for little-endian processors"
    if updater_name not in UPDATERS:
        return f"update {updater_name!r}, valid are {', '.join(UPDATERS)}"
    if type(action) is not Ising or type(phi.geometry) is not Lattice or phi.kind != "spin":
        return "valid is the action Ising on a Lattice"
    geometry = phi.geometry
    if geometry.mask is not None:
        return "the lattice has a mask"
    if len(geometry.shape) > 4:
        return f"{len(geometry.shape)} axes, valid are 1 to 4"
    if np.ndim(action.couplings["h"]):
        return "h differs between sites"
    couplings = _axis_couplings(action, geometry)
    if couplings is None:
        return "K has displacements other than nearest neighbors"
    if (length := geometry.storage_shape[-1] if len(geometry.shape) > 1 else geometry.shape[0]) < 2:
        return f"the last stored axis has {length} sites, valid are 2 or more"
    if updater_name == "metropolis" and not any(couplings) and not action.couplings["h"]:
        return "free spins under Metropolis"
    return ""


def _axis_couplings(action, geometry):
    """K per stored axis (0 where no bonds exist), None if the action has other bonds."""
    units = geometry.unit_displacements()
    bonds = action.bond_couplings(geometry)
    if any(d not in units for d in bonds):
        return None
    return [bonds.get(units[i], 0.0) if geometry.joins(units[i]) else 0.0 for i in geometry.storage_order]


class IsingLine:
    """The same of a chain of spins, the only axis of its lattice: one row of bits that every rank keeps whole.

    The row is not cut, since one color of it is updated at once: every rank does all the work and needs no messages
    but those of :meth:`load`, so ranks do not speed it up, and the chain does not depend on their number.
    """

    can_reside = True

    def __init__(self, action, phi, updater_name):
        reason = _refusal(action, phi, updater_name)
        if reason:
            raise InputError(f"bit-sliced sweeps: {reason}")
        geometry = phi.geometry
        lattice = Lattice((1, *geometry.shape), boundary=("open", *geometry.boundary))  # an axis t would come first
        self.phi = phi
        self._row = Field(lattice, "spin")
        couplings = (0.0, *_axis_couplings(action, geometry))
        self._bits = IsingBits(Ising(couplings, action.couplings["h"]), self._row, updater_name)
        self.domain = self._bits.domain
        self._mine = phi.domain.slices[0]

    def load(self):
        """Pack the whole row from the blocks of all ranks (collective)."""
        whole = np.zeros(self._bits.length, np.int64)
        whole[self._mine] = self.phi.values[:, 0]
        self._row.values[0] = self.phi.domain.sum_int(whole)
        self._bits.load()

    def store(self):
        """Write block and halo of this rank to the field."""
        self._bits.store()
        self.phi.resident = None
        domain, row = self.phi.domain, self._row.values[0]
        at = np.arange(domain.padded_shape[0]) - domain.halo[0] + self._mine.start
        is_there = (at >= 0) & (at < len(row)) | domain.periodic[0]
        self.phi.data[is_there, domain.halo[1]] = row[at[is_there] % len(row)]

    def sweep(self, t, key_word, n=1):
        """``n`` sweeps; proposals are those of this rank's sites, all changes are counted by rank 0."""
        _, changed = self._bits.sweep(t, key_word, n)
        return n * self.phi.domain.local_shape[0], changed if self.phi.domain.rank == 0 else 0

    def exchange(self, other):
        """Trade configurations with another copy of the same layout."""
        self._bits.exchange(other._bits)
        self.phi.resident, other.phi.resident = self, other

    def measure(self):
        """Sums as those of :class:`IsingBits`, all of them on rank 0."""
        bonds, total = self._bits.measure()
        is_root = self.phi.domain.rank == 0
        return bonds[1:] * is_root, total * is_root

    def site_sum(self):
        """sum_x s_x on rank 0."""
        return int(self.measure()[1])

    def bond_sum(self, displacement):
        """sum_x s_x s_(x+1) on rank 0."""
        return int(self.measure()[0][0]) if displacement == (1,) else None

    def plane_sums(self, axis):
        """The spins of this rank's block; across the storage axis of extent 1 their sum, on rank 0."""
        return self._bits.plane_sums(1)[self._mine] if axis == 0 else np.array([self.site_sum()])


def _mask(words, bits):
    """Row with these bits set."""
    row = np.zeros(words * 64, np.uint8)
    row[list(bits)] = 1
    return np.packbits(row, bitorder="little").view("<u8").astype(np.uint64)


def _aligned(n):
    """Zeros of uint64, aligned to 64 bytes."""
    whole = np.zeros(n + 8, np.uint64)
    first = -whole.ctypes.data % 64 // 8
    return whole[first : first + n]


@lru_cache(maxsize=4096)
def metropolis_threshold(field):
    """round(2^64 min(1, exp(2 f))), f = sum over unlike minus like neighbors of K, minus h s."""
    if field >= 0:
        return 2**64
    return _rounded(_EXACT.exp(_EXACT.multiply(2, field))) if field > -1000 else 0


@lru_cache(maxsize=4096)
def heatbath_threshold(field):
    """round(2^64 / (1 + exp(-2 f))) for a local field f >= 0."""
    if field > 1000:
        return 2**64
    return _rounded(_EXACT.divide(1, _EXACT.add(1, _EXACT.exp(_EXACT.multiply(-2, field)))))


def _rounded(p):
    return int(_EXACT.multiply(p, 2**64).to_integral_value())
