"""An ensemble of replicas that spread over a lattice slice by slice: what ``lft run`` does with directed percolation.

Replica r is a function of (seed, r) alone, so that ranks take words of 64 replicas in turn and the sums, which are
integers, do not depend on who drew what.  By slice t the ensemble keeps, for each of 64 groups of replicas (r mod 64),

    active  sum_r N_r(t)                     N_r = number of active sites
    alive   sum_r [N_r(t) > 0]
    square  sum_r sum_x |x - x0|^2           over active sites, in units of half a spacing (start = "seed")

from which :mod:`lft.analysis.spreading` makes estimates with errors; and by replica the size of its avalanche, the sum
of N_r over slices, and its duration, the number of slices with activity.  Slices are forgotten as they are drawn: what
stays are these sums, two numbers per replica, and one configuration, that of the last replica.
"""

from __future__ import annotations

import dataclasses
import math
import time
from types import SimpleNamespace

import numpy as np

from lft import threads
from lft.chain import BATCH_S, Counters, Schedule
from lft.groups import Groups
from lft.percolation import LANES, Words, check_geometry, configuration
from lft.protocols import Info, State

STEPS = 256
"""Most slices of one call of the compiled loop."""

CALL_SITES = 2**24
"""Sites of one call: a signal is answered after it, within 0.2 s or so."""

SUMS = ("active", "alive", "square")


class Replicas(Schedule):
    """A schedule that counts replicas: sums are kept as they come, so that nothing is measured in between."""

    def measures(self, t):
        """False: see the class."""
        return False

    def next_event(self, t):
        """The next replica to be saved, or the last one."""
        return min(t + self.save_every - t % self.save_every, self.total) if self.save_every else self.total


class Ensemble:
    """Replicas of a percolating action, with the face of a :class:`lft.chain.Chain`: update t draws replica t.

    Parameters
    ----------
    action : lft.percolation.DirectedPercolation
    geometry : Lattice
        Its last axis is time, and open.
    start : {"seed", "full"}
        One active site in the middle of slice 0 (L // 2 along each axis), or all of them.
    key : lft.rng.Key
    schedule : Schedule
        ``updates`` replicas, of which every ``save_every``-th is saved.
    comm : mpi4py communicator, optional

    Examples
    --------
    >>> from lft.chain import Schedule
    >>> from lft.geometry import Lattice
    >>> from lft.percolation import DirectedPercolation
    >>> from lft.rng import Key
    >>> from lft.spreading import Ensemble
    >>> lattice = Lattice((64, 20), ("x", "t"), ("periodic", "open"))
    >>> ensemble = Ensemble(DirectedPercolation(1.0), lattice, "seed", Key(1), Schedule(updates=100))
    >>> ensemble.run()
    >>> ensemble.extras()["active"].sum(axis=1)[:4].tolist()
    [100, 200, 300, 400]
    """

    kernel = "percolation-bits"
    observables, leading_axes, extras_group = (), (), "spreading"

    def __init__(self, action, geometry, start, key, schedule, comm=None):
        check_geometry(geometry)
        self.action, self.start, self.key = action, start, key
        self.schedule = Replicas(**{f.name: getattr(schedule, f.name) for f in dataclasses.fields(Schedule)})
        self.domain = Groups(comm, 1)
        self.counters = Counters()
        self.state = State(SimpleNamespace(geometry=geometry, kind=action.kind), 0)
        self._sums, self._local = np.zeros((2, len(SUMS), geometry.shape[-1], LANES), np.int64)
        self._counts = np.zeros(2, np.int64)
        self._parts, self._contact, self._batch = [], -1, None

    # ---- drawing
    def run(self):
        """Draw all replicas of the schedule."""
        while self.state.t < self.schedule.total:
            self.advance(self.schedule.total - self.state.t)
        self.collect_counts()

    def advance(self, n=1, is_untouched=False):
        """Go on with the next ``n`` replicas or somewhat more, whole words where nothing is to be saved in between.

        Returns after 0.2 s or so, whether they are complete or not; ``state.t`` counts those that are (collective).
        """
        started = time.perf_counter()
        if self._batch is None:
            self._batch = _Batch(self, n)
        while not self._batch.is_done and time.perf_counter() - started < BATCH_S:
            self._batch.advance()
        proposed, accepted = (int(v) for v in self._batch.reached)
        if int(self.domain.sum_int(np.array([self._batch.is_done]))[0]) == self.domain.n_ranks:
            self._close_batch()
        seconds = time.perf_counter() - started
        self.counters.seconds += seconds
        return Info(proposed, accepted, 0.0, seconds)

    def _close_batch(self):
        batch, self._batch = self._batch, None
        self._local += batch.sums
        self._counts += batch.reached
        self._parts.append(self.domain.sum_int(batch.series))
        seen = self._everywhere(batch.contact)
        self._contact = min((c for c in (self._contact, *seen) if c >= 0), default=-1)
        self.state = State(self.state.phi, batch.stop)

    def _everywhere(self, number):
        table = np.zeros(self.domain.n_ranks, np.int64)
        table[self.domain.rank] = number
        return self.domain.sum_int(table).tolist()

    # ---- what a checkpoint asks for
    def collect_counts(self):
        """Bring what the ranks have drawn together (collective); replicas in the making are not among it."""
        self._sums += self.domain.sum_int(self._local.reshape(-1)).reshape(self._local.shape)
        proposed, accepted = (int(v) for v in self.domain.sum_int(self._counts))
        self._local[:], self._counts[:] = 0, 0
        self.counters.proposed_total += proposed
        self.counters.accepted_total += accepted

    def rows(self, pack):
        """``[pack(kind, array)]`` of the last complete replica on rank 0, None elsewhere."""
        if self.domain.rank:
            return None
        geometry, t = self.state.phi.geometry, self.state.t
        if t == 0:
            return [pack(self.action.kind, np.zeros(geometry.shape, np.int8))]
        array = configuration(self.action, geometry, self.start, self.key.seed, t - 1)
        return [pack(self.action.kind, array.T)]

    def target_row(self, pack):
        """``pack(kind, array)`` of the last complete replica on rank 0, None elsewhere."""
        rows = self.rows(pack)
        return None if rows is None else rows[0]

    def extras(self):
        """The sums over replicas by slice and group, and size and duration by replica."""
        size, duration = np.concatenate([np.zeros((2, 0), np.int64), *self._parts], axis=1)
        sums = dict(zip(SUMS, self._sums, strict=True))
        return {**sums, "size": size, "duration": duration, "start": self.start, "contact": self._contact}

    def restore(self, t, counters, extras):
        """Continue where a checkpoint stopped; ``extras`` as :meth:`extras` gave it."""
        self.counters = counters
        self._sums[...] = [extras[name] for name in SUMS]
        self._parts, self._contact = [np.stack([extras["size"], extras["duration"]])], int(extras["contact"])
        self.state = State(self.state.phi, t)

    def close(self):
        """Give the communicators back."""
        self.domain.close()


class _Batch:
    """Replicas from the present one up to ``stop``, and this rank's words of them."""

    def __init__(self, ensemble, n):
        e, first = ensemble, ensemble.state.t
        end, n_threads = e.schedule.next_event(first), threads.count()
        whole = LANES * n_threads * e.domain.n_ranks
        self.first, self.stop = first, min(-(-(first + n) // whole) * whole, end)
        words = range(first // LANES, -(-self.stop // LANES))
        mine = words[e.domain.rank :: e.domain.n_ranks]
        self._left = [mine[k : k + n_threads] for k in range(0, len(mine), n_threads)][::-1]
        self._ensemble, self._n_threads, self._words = e, n_threads, None
        self.series = np.zeros((2, self.stop - first), np.int64)  # size, duration
        self.reached, self.contact = np.zeros(2, np.int64), -1
        self.sums = np.zeros_like(e._local)

    @property
    def is_done(self):
        """Whether this rank's words are complete."""
        return self._words is None and not self._left

    def advance(self):
        """Some slices more of the present words, or of the next ones."""
        if self._words is None:
            self._open()
        words = self._words
        if not words.is_done:
            sites = max(1, math.prod(self._ensemble.state.phi.geometry.shape[:-1]) * len(words.keys))
            n = min(STEPS, max(1, CALL_SITES // sites), words.n_steps - words.t - 1)
            before, t = words.reached, words.t
            count, square, alive = words.advance(n)
            self.reached += words.reached - before
            self._add(t + 1, count, square, alive)
        if words.is_done:
            seen = [c for c in (self.contact, words.contact) if c >= 0]
            self.contact, self._words = min(seen, default=-1), None

    def _open(self):
        e, numbers = self._ensemble, self._left.pop()
        lanes = [self._wanted(w) for w in numbers]
        geometry = e.state.phi.geometry
        self._numbers = numbers
        self._words = Words(e.action, geometry, e.start, e.key.seed, numbers, lanes, self._n_threads)
        alive = np.array(lanes, np.uint64)[:, np.newaxis]
        count = bits_of(alive) * (1 if e.start == "seed" else math.prod(geometry.shape[:-1]))
        self._add(0, count, np.zeros_like(count), alive)

    def _wanted(self, word):
        low, high = max(self.first - LANES * word, 0), min(self.stop - LANES * word, LANES)
        return (1 << high) - (1 << low)

    def _add(self, t, count, square, alive):
        bits = bits_of(alive)
        for k, values in enumerate((count, bits, square)):
            self.sums[k, t : t + values.shape[1]] += values.sum(axis=0)
        for word, size, duration in zip(self._numbers, count.sum(axis=1), bits.sum(axis=1), strict=True):
            low, high = max(self.first - LANES * word, 0), min(self.stop - LANES * word, LANES)
            here = slice(LANES * word + low - self.first, LANES * word + high - self.first)
            self.series[0, here] += size[low:high]
            self.series[1, here] += duration[low:high]


def ensemble_bytes(geometry):
    """Memory of the two slices of the words that are drawn side by side, and of the sums over replicas."""
    *space, n_steps = geometry.shape
    return 16 * threads.count() * math.prod(space) * (1 + 2 / space[-1]) + 12 * 8 * LANES * n_steps


def bits_of(words):
    """int64 (..., 64) of uint64 words, the lowest bit first."""
    octets = np.ascontiguousarray(words.astype("<u8"))[..., np.newaxis].view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little").astype(np.int64)
