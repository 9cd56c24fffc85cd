"""The data of a lattice fit as counts of local patterns ``(group, f_1, ..., f_n, s)``.

A group is a set of sites with the same field h, ``f_d = s_{x+d} + s_{x-d}`` the sum of the two neighbors at a
displacement, 0 for those that do not exist.  The counting itself is ``lft._kernels.patterns``; here stands
what feeds it, chunk by chunk, and the logistic likelihood on the resulting table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft._kernels import patterns as _patterns
from lft.errors import InputError
from lft.inference import newton

MAX_DISPLACEMENTS = 22
DIRECT_CELLS = 2**20
MAX_BITS = 24  # 2^24 rows of 24 bytes: 0.4 GB, and two halves of the training stretch are held
CHUNK_SITES = 2**22
PART = 2**18  # table rows turned into floats at a time


@dataclass
class Patterns:
    """Counts of local patterns.

    Attributes
    ----------
    group : ndarray (E,) of int64
    f : ndarray (E, n_d) of int8
        Sum of the two neighbors at each displacement.
    minus, plus : ndarray (E,) of float64
        How often the site was -1 and +1.
    """

    group: np.ndarray
    f: np.ndarray
    minus: np.ndarray
    plus: np.ndarray

    def select(self, keep):
        return Patterns(self.group[keep], self.f[keep], self.minus[keep], self.plus[keep])

    def joined(self, other):
        """Both tables one after the other; a pattern may then stand twice."""
        names = ("group", "f", "minus", "plus")
        return Patterns(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in names))

    def parts(self):
        """Slices of bounded size, f as float."""
        for start in range(0, len(self.group), PART):
            cut = slice(start, start + PART)
            yield self.group[cut], self.f[cut].astype(float), self.minus[cut], self.plus[cut]

    def log_likelihood(self, h, k):
        """Sum of log P(s | rest) in nats at fields ``h`` (groups,) and couplings ``k`` (n_d,)."""
        total = 0.0
        for group, f, minus, plus in self.parts():
            eta = h[group] + f @ k
            total -= float(plus @ np.logaddexp(0, -2 * eta) + minus @ np.logaddexp(0, 2 * eta))
        return total

    def score(self, h, k):
        """Gradient: ``sum (s - tanh eta)`` by group, then ``sum (s - tanh eta) f_d``."""
        out = np.zeros(len(h) + len(k))
        for group, f, minus, plus in self.parts():
            residual = plus - minus - (plus + minus) * np.tanh(h[group] + f @ k)
            out[: len(h)] += np.bincount(group, residual, len(h))
            out[len(h) :] += residual @ f
        return out

    def evaluate(self, h, k):
        """Log-likelihood, gradient and information matrix in one walk over the table."""
        value, gradient = 0.0, np.zeros(len(h) + len(k))
        hh, hk, kk = np.zeros(len(h)), np.zeros((len(h), len(k))), np.zeros((len(k), len(k)))
        for group, f, minus, plus in self.parts():
            eta = h[group] + f @ k
            value -= float(plus @ np.logaddexp(0, -2 * eta) + minus @ np.logaddexp(0, 2 * eta))
            tanh = np.tanh(eta)
            residual = plus - minus - (plus + minus) * tanh
            # 1 - tanh^2 would cancel to 0 for |eta| > 19
            weight = (plus + minus) / np.cosh(np.clip(eta, -300, 300)) ** 2
            gradient[: len(h)] += np.bincount(group, residual, len(h))
            gradient[len(h) :] += residual @ f
            hh += np.bincount(group, weight, len(h))
            weighted = weight[:, None] * f
            kk += weighted.T @ f
            for d in range(len(k)):
                hk[:, d] += np.bincount(group, weighted[:, d], len(h))
        return value, gradient, newton.ArrowInformation(hh, hk, kk)


class PatternCounter:
    """Turns stretches of fields into :class:`Patterns`.

    Rows are time bins of all trials in sequence, or whole configurations where the lattice has no time axis.
    A chunk of rows is padded and handed to the kernel, so memory beside the fields is a few chunks and the
    table.
    """

    def __init__(self, fields, vectors, site_field):
        lattice = fields[0].geometry
        self.kinds, self.trials = _trials(fields, lattice)
        self.starts = np.concatenate([[0], np.cumsum([len(a) for a in self.trials])])
        self.n_rows = int(self.starts[-1])
        has_time = lattice.time_axis is not None
        stored = [lattice.storage_displacement(d) for d in vectors]
        stored = stored if has_time else [(0, *v) for v in stored]
        periodic = lattice.storage_periodic if has_time else (False, *lattice.storage_periodic)
        self.time_periodic, self.space_periodic = periodic[0], periodic[1:]
        space = self.trials[0].shape[1:]
        reach = [max((abs(v[k]) for v in stored), default=0) for k in range(len(space) + 1)]
        self.lag, self.pad = reach[0], reach[1:]
        self.padded = tuple(n + 2 * p for n, p in zip(space, self.pad, strict=True))
        self.plane = int(np.prod(self.padded))
        self.inner = tuple(slice(p, p + n) for p, n in zip(self.pad, space, strict=True))
        mask = lattice.storage_mask()
        self.mask = np.ones(space, np.int8) if mask is None else mask.reshape(space).astype(np.int8)
        self.n_active = int(self.mask.sum())
        self.n_groups = self.n_active if site_field else 1
        strides = [int(np.prod(self.padded[k:])) for k in range(len(self.padded) + 1)]
        self.offsets = np.array(
            [sum(c * s for c, s in zip(v, strides, strict=True)) for v in stored], np.int64
        )
        self._keys(site_field, stored, strides)

    def _keys(self, site_field, stored, strides):
        """Key of every position without neighbors, and with all its neighbors silent."""
        n_d = len(stored)
        self.radix = 5**n_d
        if n_d > MAX_DISPLACEMENTS or self.n_groups * self.radix >= 2**63:
            raise InputError(
                f"{n_d} displacements with {self.n_groups} site fields: patterns must number below 2^63 "
                f"(fields times 5^displacements), and displacements at most {MAX_DISPLACEMENTS}; give fewer, "
                "or site_field=False"
            )
        self.weights = 5 ** np.arange(n_d, dtype=np.int64)
        exists = self._pad(np.ascontiguousarray(self.mask[None])).reshape(-1)
        here = np.flatnonzero(self._pad(self.mask[None], wrap=False).reshape(-1))
        group = np.arange(len(here)) if site_field else np.zeros(len(here), np.int64)
        self.base = np.full(self.plane, -1, np.int64)
        self.base[here] = group * self.radix + 2 * self.weights.sum()
        self.silent_key = self.base.copy()
        for v, w in zip(stored, self.weights, strict=True):
            step = sum(c * s for c, s in zip(v[1:], strides[1:], strict=True))
            self.silent_key[here] -= w * (exists[here + step].astype(np.int64) + exists[here - step])

    def _pad(self, rows, wrap=True):
        """Rows with a halo in space: zeros beyond open ends, copies on periodic axes."""
        chunk = np.zeros((len(rows), *self.padded), np.int8)
        chunk[(slice(None), *self.inner)] = rows
        if wrap:
            self._wrap(chunk)
        return chunk

    def _wrap(self, chunk):
        for k, (p, periodic) in enumerate(zip(self.pad, self.space_periodic, strict=True)):
            if periodic and p:
                axis = np.moveaxis(chunk, k + 1, 0)
                axis[:p] = axis[-2 * p : -p]
                axis[-p:] = axis[p : 2 * p]

    def _chunk(self, trial, start, stop):
        """Spins of rows start..stop of one trial with their halo in space and time."""
        values, n = self.trials[trial], len(self.trials[trial])
        first, last = start - self.lag, stop + self.lag
        if self.time_periodic and (first < 0 or last > n):
            values, shift = values[np.arange(first, last) % n], -first
        else:
            shift = 0
        low, high = (first, last) if shift else (max(first, 0), min(last, n))
        chunk = np.zeros((last - first, *self.padded), np.int8)
        rows = chunk[(slice(low - first, high - first), *self.inner)]
        rows[...] = values[low + shift : high + shift]
        gas = self.kinds[trial] == "gas"
        if rows.min() < (0 if gas else -1) or rows.max() > 1:
            raise InputError(
                f"field of kind {self.kinds[trial]!r}: values must lie in {'0..1' if gas else '-1..1'}"
            )
        if gas:
            rows *= 2
            rows -= 1
        rows *= self.mask
        if np.count_nonzero(rows) != len(rows) * self.n_active:
            raise InputError("field of kind 'spin': an active site has the value 0; valid are -1 and +1")
        self._wrap(chunk)
        return chunk.reshape(-1)

    def _busy(self, chunk, trial, start, stop):
        """1 where the kernel must look: near a spike, or where the recording begins or ends."""
        dense = np.count_nonzero(chunk == 1) * (2 * len(self.offsets) + 1) > chunk.size // 2
        busy = np.full(chunk.size, dense, np.uint8)
        if not dense:
            _patterns.mark(chunk, self.offsets, busy)
            if not self.time_periodic and self.lag:
                edges = [(0, self.lag), (len(self.trials[trial]) - self.lag, len(self.trials[trial]))]
                for low, high in edges:
                    low, high = max(low, start), min(high, stop)
                    if low < high:
                        busy[
                            (low - start + self.lag) * self.plane : (high - start + self.lag) * self.plane
                        ] = 1
        return busy

    def count(self, *ranges):
        """:class:`Patterns` of the rows ``start <= row < stop`` of one or several ranges (start, stop)."""
        table = _Table(self.n_groups * self.radix)
        visits = np.zeros(self.plane, np.int64)
        for start, stop in ranges:
            self._count_range(table, visits, start, stop)
        n_rows = sum(int(stop - start) for start, stop in ranges)
        here = np.flatnonzero(self.base >= 0)
        silent = n_rows - visits[here]
        keys, back = np.unique(self.silent_key[here], return_inverse=True)
        number = np.bincount(back, silent).astype(np.int64)
        table.add(np.stack([keys, number, np.zeros_like(keys)], axis=1)[number > 0])
        return self._decode(table.rows())

    def _count_range(self, table, visits, start, stop):
        height = max(CHUNK_SITES // self.plane, 1)
        for trial, origin in enumerate(self.starts[:-1]):
            low, high = max(start - origin, 0), min(stop, self.starts[trial + 1]) - origin
            for a in range(int(low), int(high), height):
                b = min(a + height, int(high))
                chunk = self._chunk(trial, a, b)
                busy = self._busy(chunk, trial, a, b)
                table.count(self, chunk, busy, self.lag * self.plane, (self.lag + b - a) * self.plane, visits)

    def _decode(self, rows):
        rows = rows[np.argsort(rows[:, 0])]
        group, code = np.divmod(rows[:, 0], self.radix)
        f = np.empty((len(rows), len(self.weights)), np.int8)
        for d in range(len(self.weights)):
            code, f[:, d] = np.divmod(code, 5)
        f -= 2
        return Patterns(group, f, rows[:, 1].astype(float), rows[:, 2].astype(float))


class _Table:
    """Rows (key, minus, plus): direct when the keys are few, else a hash table that grows."""

    def __init__(self, n_keys):
        self.direct = n_keys <= DIRECT_CELLS
        self.used = 0
        self._allocate(n_keys if self.direct else 2**16)

    def _allocate(self, size):
        self.table = np.zeros((size, 3), np.int64)
        self.table[:, 0] = -1
        self.shift = -1 if self.direct else 64 - (size.bit_length() - 1)
        self.limit = size if self.direct else size * 5 // 8

    def _grow(self):
        if len(self.table) >= 2**MAX_BITS:
            raise InputError(
                f"more than {self.limit} different local patterns: the recording does not compress; use "
                "fewer displacements, site_field=False, or a shorter stretch"
            )
        old = self.table
        self._allocate(2 * len(old))
        self.used = _patterns.add(old, self.table, self.shift, 0)

    def count(self, counter, chunk, busy, start, stop, visits):
        while True:
            start, self.used = _patterns.count(
                chunk, busy, counter.base, counter.offsets, counter.weights, start, stop, visits, self.table,
                self.shift, self.used, self.limit,
            )  # fmt: skip
            if start == stop:
                return
            self._grow()

    def add(self, rows):
        while not self.direct and self.used + len(rows) > self.limit:
            self._grow()
        self.used = _patterns.add(np.ascontiguousarray(rows), self.table, self.shift, self.used)

    def rows(self):
        return self.table[self.table[:, 0] >= 0]


def _trials(fields, lattice):
    """Kinds, and stored values (rows, *space); configurations without time become the rows of one."""
    arrays = [f.values for f in fields]
    if lattice.time_axis is not None:
        return [f.kind for f in fields], arrays
    kinds = {f.kind for f in fields}
    if len(kinds) > 1:
        raise InputError(f"fields of kinds {', '.join(sorted(kinds))}: give all of one kind")
    return [fields[0].kind], [np.stack(arrays)]
