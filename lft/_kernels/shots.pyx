# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Neurons driven by jumps: superposed spike trains of random partners, and an integrate-and-fire neuron on them.

Design.
- The trains of a population are one list of ascending times with an offset per train.  A neuron's partners, and the
  shift of each, come from one block of Philox per partner (site: the partner, time word: the neuron pair), so that a
  neuron's input is a function of its number alone, on any number of ranks.
- The events of one neuron (time, jump) are gathered, sorted and used before those of the next: some 50,000 per second
  of 1250 partners at 20 Hz and 20,000 external spikes, 800 kB, a second-level cache.  Sorting is by counting into
  steps, then by insertion within a step (a few events).
- Integrate-and-fire neurons go from event to event, so that nothing depends on the grid: on one, jumps that
  arrive in one step count together and a threshold that is crossed in between is missed.  All other neurons get the
  jumps as input of the step they fall into.
- Measured: 23 to 28 ns per event (two cores shared by 13 processes); a whole sweep about 47 ns per event.
- Not built, and not measured: a merge of the sorted trains, and decay from a table instead of exp.
"""
from libc.math cimport exp, log
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from lft._kernels cimport noise
import numpy as np

DEF BATCH = 1024


cdef class Shots:
    """Partners, their trains, and the trains from outside, of the neurons of one population.

    Parameters
    ----------
    links : list of (start, times, indegree, jump, spread, draw)
        Trains of a source population: offsets (2 n + 1) and times in [0, period); trains j and j + n belong together.
        In-degree of every pair of neurons; mean and s.d. of the jumps; number of the connection in the random numbers.
    outside : list of (rate, jump, draw)
        Poisson trains.
    period, duration : float
        Trains are continued periodically up to ``duration``.
    """
    cdef object keep
    cdef int64_t[:, ::1] where  # start, times, indegree (addresses), trains, draw
    cdef double[:, ::1] weight
    cdef double[:, ::1] outside
    cdef double period, duration
    cdef uint32_t partner_stream, outside_stream
    cdef uint64_t key
    cdef double[::1] u, v, a, b
    cdef double *time
    cdef double *jump
    cdef Py_ssize_t room

    def __cinit__(self):
        self.time = self.jump = NULL
        self.room = 0

    def __init__(self, list links, list outside, double period, double duration, int partner_stream,
                 int outside_stream, uint64_t key):
        cdef const int64_t[::1] start, indegree
        cdef const double[::1] times
        cdef Py_ssize_t c, most = BATCH
        self.keep = links
        self.where = np.zeros((max(len(links), 1), 5), np.int64)[:len(links)]
        self.weight = np.array([[link[3], link[4]] for link in links], float).reshape(-1, 2)
        for c in range(len(links)):
            start, times, indegree = links[c][0], links[c][1], links[c][2]
            self.where[c, 0] = <int64_t> <size_t> &start[0]
            self.where[c, 1] = <int64_t> <size_t> (&times[0] if times.shape[0] else NULL)
            self.where[c, 2] = <int64_t> <size_t> &indegree[0]
            self.where[c, 3] = start.shape[0] - 1
            self.where[c, 4] = links[c][5]
            most = max(most, max(links[c][2]))
        self.outside = np.array(outside, float).reshape(-1, 3)
        self.period, self.duration, self.key = period, duration, key
        self.partner_stream, self.outside_stream = partner_stream, outside_stream
        self.u, self.v, self.a, self.b = np.empty(most), np.empty(most), np.empty(most), np.empty(most)

    def __dealloc__(self):
        free(self.time)
        free(self.jump)

    cdef int put(self, Py_ssize_t n, double time, double jump) noexcept nogil:
        """Event number n; -1 where memory is short."""
        cdef double *more
        if n >= self.room:
            self.room = 2 * n + 1024
            more = <double *> realloc(self.time, self.room * sizeof(double))
            if more == NULL:
                self.room = 0
                return -1
            self.time = more
            more = <double *> realloc(self.jump, self.room * sizeof(double))
            if more == NULL:
                self.room = 0
                return -1
            self.jump = more
        self.time[n] = time
        self.jump[n] = jump
        return 0

    cdef Py_ssize_t gather(self, Py_ssize_t pair, int member) noexcept nogil:
        """All events of a neuron into ``time`` and ``jump``, not sorted; their number, or -1."""
        cdef Py_ssize_t c, k, s, n = 0, trains, train, degree
        cdef const int64_t *start
        cdef const double *times
        cdef double shift, first, t, size
        for c in range(self.where.shape[0]):
            start = <const int64_t *> <size_t> self.where[c, 0]
            times = <const double *> <size_t> self.where[c, 1]
            degree = (<const int64_t *> <size_t> self.where[c, 2])[pair]
            trains = self.where[c, 3]
            # who, and by how much it is shifted for the first neuron of the pair; for the second another shift
            noise.uniforms(0, 1, degree, pair, self.partner_stream, <uint32_t> (4 * self.where[c, 4]), self.key,
                           &self.u[0], &self.v[0])
            if member:
                noise.uniforms(0, 1, degree, pair, self.partner_stream, <uint32_t> (4 * self.where[c, 4] + 1),
                               self.key, &self.v[0], &self.a[0])
            if self.weight[c, 1] != 0:
                noise.uniforms(0, 1, degree, pair, self.partner_stream, <uint32_t> (4 * self.where[c, 4] + 2),
                               self.key, &self.a[0], &self.b[0])
                noise.normals(&self.a[0], &self.b[0], degree)
            for k in range(degree):
                train = <Py_ssize_t> (self.u[k] * trains)
                if member:  # the partner's own partner: the same frozen rate, nothing else in common
                    train += trains // 2 if train < trains // 2 else -(trains // 2)
                size = self.weight[c, 0]
                if self.weight[c, 1] != 0:
                    size += self.weight[c, 1] * self.a[k]
                shift = self.v[k] * self.period
                for s in range(start[train], start[train + 1]):
                    t = times[s] + shift
                    if t >= self.period:
                        t -= self.period
                    while t < self.duration:
                        if self.put(n, t, size) < 0:
                            return -1
                        n += 1
                        t += self.period
        for c in range(self.outside.shape[0]):
            if self.outside[c, 0] <= 0:
                continue
            t, k = 0.0, 0
            while True:
                if k % BATCH == 0:
                    noise.uniforms(k, 1, BATCH, 2 * pair + member, self.outside_stream,
                                   <uint32_t> self.outside[c, 2], self.key, &self.u[0], &self.v[0])
                    noise.exponential(&self.u[0], BATCH)
                t += self.u[k % BATCH] / self.outside[c, 0]
                k += 1
                if t >= self.duration:
                    break
                if self.put(n, t, self.outside[c, 1]) < 0:
                    return -1
                n += 1
        return n


cdef void in_order(const double *time, const double *jump, Py_ssize_t n, double dt, Py_ssize_t n_steps, int64_t *first,
                   int64_t *last, double *t, double *x) noexcept nogil:
    """Events sorted by time into ``t`` and ``x``; ``first`` and ``last``: n_steps + 1 places each, room to work in."""
    cdef Py_ssize_t k, e, p
    cdef double s, y
    for k in range(n_steps + 1):
        first[k] = 0
    for e in range(n):
        k = <Py_ssize_t> (time[e] / dt)
        first[(k if k < n_steps else n_steps - 1) + 1] += 1
    for k in range(n_steps):
        first[k + 1] += first[k]
        last[k] = first[k]
    for e in range(n):
        k = <Py_ssize_t> (time[e] / dt)
        if k >= n_steps:
            k = n_steps - 1
        s, y, p = time[e], jump[e], last[k]
        last[k] = p + 1
        while p > first[k] and t[p - 1] > s:
            t[p], x[p] = t[p - 1], x[p - 1]
            p -= 1
        t[p], x[p] = s, y


def trains(Shots shots, Py_ssize_t n_pairs):
    """Events of every neuron as (offsets (2 n + 1), times), in the order of gathering: ascending for one train."""
    offsets, parts = np.zeros(2 * n_pairs + 1, np.int64), []
    cdef Py_ssize_t i, events
    cdef int64_t[::1] offset = offsets
    for i in range(2 * n_pairs):
        events = shots.gather(i % n_pairs, i >= n_pairs)
        if events < 0:
            raise MemoryError("spike trains")
        parts.append(np.array(<double[:events]> shots.time) if events else np.empty(0))
        offset[i + 1] = offset[i] + events
    return offsets, np.concatenate(parts)


def superpose(Shots shots, double dt, double[:, ::1] h):
    """Add the jumps of a step, over dt, to the inputs (T, 2 n): neuron i and i + n are a pair."""
    cdef Py_ssize_t n_steps = h.shape[0], n = h.shape[1] // 2, i, k, e, events = 0
    cdef double[::1] row = np.empty(n_steps)
    with nogil:
        for i in range(2 * n):
            events = shots.gather(i % n, i >= n)
            if events < 0:
                break
            for k in range(n_steps):
                row[k] = 0.0
            for e in range(events):
                k = <Py_ssize_t> (shots.time[e] / dt)
                row[k if k < n_steps else n_steps - 1] += shots.jump[e]
            for k in range(n_steps):
                h[k, i] += row[k] / dt
    if events < 0:
        raise MemoryError("the spikes that a neuron receives")


def integrate_and_fire(Shots shots, const double[::1] v, double drive, double dt, Py_ssize_t n_steps, double tau,
                       double threshold, double reset, double refractory):
    """Exact leaky integrate-and-fire neurons with jumps: (offsets of each neuron's spikes, spike times).

        tau V' = -V + drive between events,    V -> V + jump/tau at an event,    spike where V >= threshold
    """
    cdef Py_ssize_t n = v.shape[0] // 2, i, e, events = 0, fired = 0, most
    cdef double[::1] t = np.empty(BATCH), x = np.empty(BATCH)
    cdef int64_t[::1] first = np.empty(n_steps + 1, np.int64), last = np.empty(n_steps + 1, np.int64)
    offsets = np.zeros(2 * n + 1, np.int64)
    cdef int64_t[::1] offset = offsets
    spikes = np.empty(max(64 * n, 1024))
    cdef double[::1] spike = spikes
    cdef double potential, now, at, rise, end = dt * n_steps
    for i in range(2 * n):
        with nogil:
            events = shots.gather(i % n, i >= n)
        if events < 0:
            raise MemoryError("the spikes that a neuron receives")
        if events > t.shape[0]:
            t, x = np.empty(events + events // 4), np.empty(events + events // 4)
        most = fired + events + <Py_ssize_t> (end / (refractory if refractory > 0 else dt)) + 1
        if drive > threshold and refractory <= 0:
            most += <Py_ssize_t> (end / (tau * log((drive - reset) / (drive - threshold)))) + 1
        if most > spike.shape[0]:
            spikes = np.concatenate([spikes[:fired], np.empty(most + most // 2)])
            spike = spikes
        with nogil:
            in_order(shots.time, shots.jump, events, dt, n_steps, &first[0], &last[0], &t[0], &x[0])
            potential, now = v[i], 0.0
            for e in range(events + 1):
                at = t[e] if e < events else end
                while drive > threshold and at > now:  # fires without jumps
                    rise = tau * log((drive - potential) / (drive - threshold)) if potential < threshold else 0.0
                    if now + rise >= at:
                        break
                    spike[fired] = now + rise
                    fired += 1
                    now += rise + refractory
                    potential = reset
                if e == events or at < now:  # lost while it is held
                    continue
                potential = drive + (potential - drive) * exp(-(at - now) / tau) + x[e] / tau
                now = at
                if potential >= threshold:
                    spike[fired] = at
                    fired += 1
                    potential = reset
                    now = at + refractory
            offset[i + 1] = fired
    return offsets, spikes[:fired].copy()
