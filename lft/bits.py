"""Bit-sliced Ising sweeps: one bit per site, hundreds of sites per instruction.

Nearest-neighbor :class:`lft.actions.Ising` with one K per axis and one h, Metropolis or heat bath.  The chain is a
function of the key alone: the same bits on every instruction set and for every domain decomposition, but not the bits
of the generic loops, which compare energies with another random number.  Both sample exp(-S); here acceptance
probabilities are exact to 2^-64.  Layout, random numbers and measured rates: ``_kernels/c/bitslice.c``.
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
from lft.geometry import Lattice
from lft.rng import Stream

UPDATERS = {"metropolis": Stream.METROPOLIS, "heatbath": Stream.HEATBATH}
UNIT = 128  # sites of one random block
CHUNK_WORDS = 512  # words of a row or of several rows whose shifted neighbors are prepared together
LATENCY_S, SITE_S = 15e-6, 6e-11
"""An exchange between ranks and a site update, for the choice of the depth of halos; they change no bit."""
NO_COPIES = [np.zeros(0, np.intp)] * 3
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
        reason = refusal(action, phi, updater_name)
        if reason:
            raise InputError(f"bit-sliced sweeps: {reason}")
        self.phi = phi
        self.is_heatbath = updater_name == "heatbath"
        self._stream = int(UPDATERS[updater_name])
        geometry, shape = phi.geometry, phi.domain.shape
        self._couplings = axis_couplings(action, geometry)
        self._h = action.couplings["h"]
        self._halves_ties = not self.is_heatbath and action.halves_ties(geometry)
        self._user = np.argsort(geometry.storage_order)
        self.length, self._periodic = shape[-1], geometry.storage_periodic
        units = -(-((self.length + 1) // 2) // UNIT)
        self._words = 2 * units
        lines = shape[:-1]
        self._seams = [a for a, n in enumerate(lines) if self._periodic[a] and n % 2]
        self._n_classes = 4 if self._periodic[-1] and self.length % 2 else 2
        depth = 1 if self._seams else choose_depth(phi.domain, self._n_classes)
        self.domain = Domain(
            (*lines, 8 * self._words),
            (*self._periodic[:-1], False),
            (*(depth if ranks > 1 else 1 for ranks in phi.domain.grid[:-1]), 0),
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
        self._sums, self._is_watched = None, False
        self._faces = self._seam_faces()
        self._make_passes(depth)
        self._copies = self.domain.local_copies
        self._n_bonds = self._count_bonds()
        del self._all_lines, self._at_line, self._margin  # they served to make the runs
        self.n_sites = math.prod(phi.domain.local_shape)

    @staticmethod
    def supports(action, phi, updater_name):
        """Whether these sweeps can run: else the generic loops serve."""
        return not refusal(action, phi, updater_name)

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
        same = (right, valid[1])
        moved = (left, valid[1] if is_periodic or length % 2 else valid[1] & ~_mask(words, (n_bits[1] - 1,)))
        masks = np.zeros((6, 2, chunk * words), np.uint64)
        for k, pair in enumerate([sliced, (right, none), (left, none), valid, same, moved]):
            for r in range(2):
                masks[k, r] = np.concatenate([pair[(r + i) % 2] for i in range(chunk)])
        stride = -(-(chunk * words + 16) // 8) * 8
        work = _aligned(4 * threads.count() * stride).reshape(-1, stride)
        return ising_bits.Rows(words, n_bits, chunk, closed, has_ends, masks, work)

    def _make_lines(self):
        """Per local line its first word, parity and start in the flat padded field; the same of the halo's lines."""
        domain, field = self.domain, self.phi.domain
        depth, halo = (np.array(d.halo[:-1])[:, None] for d in (domain, field))
        starts = np.array([s.start for s in domain.slices[:-1]])[:, None]
        strides, shape = np.array(domain.strides[:-1])[:, None] // 8, domain.padded_shape[:-1]
        x = np.indices(shape).reshape(len(shape), -1) - depth
        y = x + starts
        word = ((x + depth) * strides).sum(axis=0).astype(np.intp)
        parity = (y.sum(axis=0) % 2).astype(np.intp)  # across an odd seam too: there the halo rows trade planes
        start = (((x + halo) * np.array(field.strides[:-1])[:, None]).sum(axis=0) + field.halo[-1]).astype(np.intp)
        exists = np.ones(x.shape[1], bool)
        number = np.zeros(x.shape[1], np.uint64)
        for axis, n in enumerate(domain.shape[:-1]):
            exists &= self._periodic[axis] | ((y[axis] >= 0) & (y[axis] < n))
            number = number * np.uint64(n) + (y[axis] % n).astype(np.uint64)
        extents = np.array(domain.local_shape[:-1])[:, None]
        margin = np.maximum(0, np.maximum(-x, x - extents + 1))
        is_own = (margin == 0).all(axis=0)
        self._line_word, self._line_parity, self._line_start = word[is_own], parity[is_own], start[is_own]
        self._words_by_parity = [np.ascontiguousarray(self._line_word[self._line_parity == p]) for p in range(2)]
        # the same with the lines of the halo that exist: those of the field as far as it is one line wide
        padded = np.array(field.padded_shape[:-1])[:, None]
        is_there = exists & ((x + halo >= 0) & (x + halo < padded)).all(axis=0)
        self._padded_lines = tuple(v[is_there] for v in (start, word, parity))
        # over all lines: what a run of them needs; neighbors in memory are neighbors in number within one turn
        turn = y[-1] // domain.shape[-2]
        self._all_lines = {k: v.reshape(shape) for k, v in (("word", word), ("parity", parity), ("number", number),
                                                            ("turn", turn), ("exists", exists))}
        self._at_line, self._margin = y.reshape(-1, *shape), margin.reshape(-1, *shape)

    def _make_runs(self, keep):
        """Runs of the lines, those of the halo included, for which ``keep`` holds."""
        lines = self._all_lines
        label = np.where(keep, lines["turn"] - lines["turn"].min() + 1, 0)
        ends = np.zeros((*keep.shape[:-1], 1), label.dtype)
        first = np.argwhere((label != np.concatenate([ends, label[..., :-1]], -1)) & (label > 0))
        last = np.argwhere((label != np.concatenate([label[..., 1:], ends], -1)) & (label > 0))
        at = tuple(first.T)
        return ising_bits.Runs(
            np.ascontiguousarray(lines["word"][at]),
            np.ascontiguousarray((last - first)[:, -1].astype(np.intp) + 1),
            np.ascontiguousarray(lines["parity"][at]),
            lines["number"][at] * np.uint64(self._words // 2),
        )

    def _at(self, axis, index):
        """Over all lines: whether the global coordinate has this value."""
        n = self.domain.shape[axis]
        return self._at_line[axis] % n == index % n

    def _make_passes(self, depth):
        """What one sweep does: its passes as :func:`ising_bits.sweeps` wants them, or what :meth:`_program` makes
        them of.

        With v valid layers of the halo a class of sites updates what is up to v - 1 lines away from the block, and
        leaves v - 1 valid layers.  ``_mine`` has the lines of the block: all, those that travel, the others.
        """
        domain = self.domain
        exists, cut = self._all_lines["exists"], [a for a, p in enumerate(domain.grid[:-1]) if p > 1]
        uncut = [a for a in range(exists.ndim) if a not in cut]
        is_open = [a for a in range(exists.ndim) if not self._periodic[a]]
        own = (self._margin == 0).all(axis=0)
        groups = {}
        for ends in itertools.product(*[((0, 0), (0, 1), (1, 0), (1, 1)) for _ in is_open]):
            keep = exists & (self._margin[uncut] == 0).all(axis=0)
            for axis, (low, high) in zip(is_open, ends, strict=True):
                keep = keep & (self._at(axis, 0) == low) & (self._at(axis, -1) == high)
            if keep.any():
                groups[ends] = keep
        rules = {}
        for ends in groups:
            missing = dict(zip(is_open, ends, strict=True))
            rules[ends] = (*self._make_rules(missing), self._make_bonds(missing))

        def parts(where, is_counted):
            return [
                (rule, end, self._make_runs(groups[ends] & where), is_counted, bonds)
                for ends, (rule, end, bonds) in rules.items()
                if (groups[ends] & where).any()
            ]

        self._all = self._make_runs(own)
        self._upper = [self._make_runs(own if self._periodic[a] else own & ~self._at(a, -1)) for a in range(own.ndim)]
        seams = list(itertools.product(*[(False, True) for _ in self._seams]))
        columns = (False, True) if self._n_classes == 4 else (False,)
        kinds = list(itertools.product(seams, columns, range(2)))
        self._is_fused = not self._seams and len(columns) == 1
        self._valid = self._depth = depth if depth >= len(kinds) else 0
        self._programs = {}
        if not self._depth:
            lines = []
            for flags in seams:
                inside = [self._at(a, -1) == flag for a, flag in zip(self._seams, flags, strict=True)]
                lines.append(parts(np.logical_and.reduce([own, *inside]), True))
            self._passes = [
                (0, color, lines[seams.index(flags)], is_last, n + 1 == len(kinds))
                for n, (flags, is_last, color) in enumerate(kinds)
            ]
            return
        reach = [parts((self._margin[cut] <= r).all(axis=0) & ~own, False) for r in range(depth)]
        mine = [parts(own, True)]
        if domain.first_cut is not None:
            a = domain.first_cut
            x = self._at_line[a] - domain.slices[a].start
            near = (x < depth) | (x >= domain.local_shape[a] - depth)
            mine.append(parts(own & near, True))
            mine.append(parts(own & ~near, True))
        self._kinds, self._mine, self._reach = kinds, mine, reach

    def _program(self, n, is_last):
        """Passes of ``n`` sweeps, a class taking one of the valid layers of the halo, and what is left for the time
        that the edges travel, if these sweeps use the halo up; ``is_last``: the last one may count its bonds."""
        key = self._valid, n, is_last
        if key not in self._programs:
            passes, valid = [], self._valid
            for step in range(n):
                for k, (_, is_column, color) in enumerate(self._kinds):
                    valid -= 1
                    is_final = is_last and step + 1 == n and k + 1 == len(self._kinds)
                    passes.append((step, color, self._mine[0] + self._reach[valid], is_column, is_final))
            rest = []
            if not valid and len(self._mine) > 1:
                step, color, _, is_column, is_final = passes.pop()
                edges, inside = ((step, color, lines, is_column, is_final) for lines in self._mine[1:])
                passes.append(edges)
                rest.append(inside)
            self._programs[key] = passes, rest
        return self._programs[key]

    def _count_bonds(self):
        """Per stored axis, the bonds of the local sites of the color that is updated last."""
        sites = np.array([self.length // 2, (self.length + 1) // 2])[self._line_parity]  # even parity: the odd sites
        own = (self._margin == 0).all(axis=0)
        counts = []
        for axis in range(own.ndim):
            ends = [0 if self._periodic[axis] else self._at(axis, end)[own].astype(int) for end in (0, -1)]
            counts.append((sites * (2 - sum(ends))).sum())
        return np.array([*counts, len(sites) * (self.length - (not self._periodic[-1]))])

    def _make_bonds(self, ends):
        """Neighbors in other lines, by axis, and the bonds along the line."""
        neighbors = []
        for axis, stride in enumerate(self.domain.strides[:-1]):
            for step, missing in zip((-1, 1), ends.get(axis, (0, 0)), strict=True):
                if not missing:
                    neighbors.append((axis, step * stride // 8))
        return ising_bits.Bonds(neighbors, len(self._periodic) - 1)

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
        self.domain.exchange(*(self._bytes[c] for c in ((0, 1) if self._seams else colors)))
        self._valid = self._depth
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
        counts = np.zeros(ising_bits.UP + 1, np.int64) if self._is_watched and self._is_fused else None
        self._sums, self._is_watched = None, False
        if self._depth:
            changed = self._sweep_deep(t, key_word, n, counts)
        elif self._seams or self.domain.sends_messages:
            counts, changed = None, sum(self._sweep_classes(t + i, key_word) for i in range(n))
        else:
            changed = self._run(self._passes, t, key_word, n, counts)
        if counts is not None:
            self._sums = self._bond_sums(counts)
        return n * self.n_sites, changed

    def _run(self, passes, t, key_word, n=1, counts=None, copies=None):
        copies = copies or self._copies
        return ising_bits.sweeps(passes, self._rows, *self.planes, *copies, t, n, self._stream, key_word, counts)

    def _sweep_classes(self, t, key_word):
        """One sweep with an exchange after each class."""
        changed = 0
        for one in self._passes:
            changed += self._run([one], t, key_word)
            self._exchange((one[1],))
        return changed

    def _sweep_deep(self, t, key_word, n, counts):
        """Several sweeps between exchanges: lines of the halo are updated too, with the same random numbers as where
        they are at home."""
        changed, done = 0, 0
        while done < n:
            m = min(n - done, self._valid // len(self._kinds))
            if not m:
                self._exchange()
                continue
            passes, rest = self._program(m, done + m == n)
            changed += self._run(passes, t + done, key_word, 1, counts)
            self._valid -= m * len(self._kinds)
            done += m
            if rest:
                self.domain.begin(*self._bytes)
                changed += self._run(rest, t + done - m, key_word, 1, counts, NO_COPIES)  # those are made by end()
                self.domain.end(*self._bytes)
                self._valid = self._depth
            elif not self._valid:
                self._exchange()
        return changed

    def exchange(self, other):
        """Trade configurations, packed and not, with another copy of the same layout: only references move."""
        for name in ("_buffer", "planes", "_bytes", "_valid", "_sums"):
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, theirs)
            setattr(other, name, mine)
        if self.can_reside:
            self.phi.resident, other.phi.resident = self, other
        else:
            self.phi.data, other.phi.data = other.phi.data, self.phi.data

    def measure(self):
        """This rank's share of sum_x s_x s_(x+1) per axis (user's order) and of sum_x s_x.

        Who measures after a sweep is taken to measure after the next call of :meth:`sweep` too: its last pass then
        counts what it leaves, line by line while they are in the nearest cache, instead of a pass of its own.  The
        sums over all ranks are the same; a bond belongs to the rank of its lower site, or of its site of the color
        that is updated last.
        """
        self._is_watched = True
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

    def _bond_sums(self, counts):
        """The same from what the last pass counted: bonds of the sites of the last color, spins of the lines."""
        bonds = self._n_bonds - 2 * counts[: len(self._n_bonds)]
        return bonds[self._user], 2 * counts[ising_bits.UP] - self.n_sites

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
        return bonds[self._user], 2 * up - self.n_sites


def choose_depth(domain, n_classes):
    """Layers of halo of bits: an exchange every so many sweeps against the lines that are then computed twice.

    With w seconds for a line more on both sides of a block and E for an exchange, m sweeps between two exchanges cost
    E/m + w c m per sweep of c classes, least at m = sqrt(E / (w c)).

    Parameters
    ----------
    domain : Domain
        The blocks; the choice is the same on every rank.
    n_classes : int
        Classes of sites of a sweep, each of which uses up one layer.

    Returns
    -------
    int
        A multiple of ``n_classes``, or 1 if there is nobody to exchange with or a block is thinner than that.
    """
    cut = [k for k, ranks in enumerate(domain.grid) if ranks > 1]
    most = min((domain.shape[k] // domain.grid[k] for k in cut), default=0) // n_classes
    if not most:
        return 1
    block = [-(-n // ranks) for n, ranks in zip(domain.shape, domain.grid, strict=True)]
    work = SITE_S * math.prod(block) * sum(1 / block[k] for k in cut)
    return n_classes * max(1, min(most, round(math.sqrt(LATENCY_S / (work * n_classes)))))


def refusal(action, phi, updater_name):
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
    couplings = axis_couplings(action, geometry)
    if couplings is None:
        return "K has displacements other than nearest neighbors"
    if (length := geometry.storage_shape[-1] if len(geometry.shape) > 1 else geometry.shape[0]) < 2:
        return f"the last stored axis has {length} sites, valid are 2 or more"
    if updater_name == "metropolis" and not any(couplings) and not action.couplings["h"]:
        return "free spins under Metropolis"
    return ""


def axis_couplings(action, geometry):
    """K per stored axis (0 where no bonds exist), None if the action has other bonds."""
    units = geometry.unit_displacements()
    bonds = action.bond_couplings(geometry)
    if any(d not in units for d in bonds):
        return None
    return [bonds.get(units[i], 0.0) if geometry.joins(units[i]) else 0.0 for i in geometry.storage_order]


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
