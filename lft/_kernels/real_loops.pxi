# Generic loops over real fields, compiled once per member of the fused type ``real_action_t`` of the including module.
# Segments and noise: see binary_loops.pxi.  Design and measured cost: README.md.
from libc.stdint cimport uint64_t, int64_t
from cython.parallel cimport prange
from lft._kernels cimport noise as _noise

cdef enum:
    CHUNK = 256  # also the literal steps below


cdef int64_t _metropolis(real_action_t S, double *phi, const Py_ssize_t *p0, const Py_ssize_t *q0,
                         const uint64_t *s0, const Py_ssize_t *count, Py_ssize_t first, Py_ssize_t last,
                         Py_ssize_t step, const signed char *active, uint64_t t, int stream, uint64_t key, double *u,
                         double *v, double width) noexcept nogil:
    cdef Py_ssize_t i, m, p, q
    cdef int64_t accepted = 0
    cdef double new
    cdef int n = S.n
    for i in range(first, last):
        _noise.uniforms(s0[i], step, count[i], t, stream, 0, key, u, v)
        _noise.exponential(u, count[i])
        p, q = p0[i], q0[i]
        for m in range(count[i]):
            if active == NULL or active[q]:
                new = phi[p] + width * (2.0 * v[m] - 1.0)
                if S.site_dS(phi, p, q, new, n) < u[m]:
                    phi[p] = new
                    accepted += 1
            p += step
            q += step
    return accepted


def sweep(real_action_t S, double[::1] phi, segments, Py_ssize_t step, const signed char[::1] active,
          uint64_t t, int stream, uint64_t key, double[:, :, ::1] buffer, double width):
    """Metropolis update of one color class: propose phi + width (2 v - 1); returns the number accepted."""
    cdef const Py_ssize_t[::1] p0 = segments[0], q0 = segments[1], count = segments[3]
    cdef const uint64_t[::1] s0 = segments[2]
    cdef const signed char *mask = NULL
    cdef double *f = &phi[0]
    cdef int64_t accepted = 0
    cdef Py_ssize_t n = p0.shape[0]
    cdef int k, n_threads = buffer.shape[0]
    if n == 0:
        return 0
    if active is not None:
        mask = &active[0]
    for k in prange(n_threads, nogil=True, schedule="static", chunksize=1, num_threads=n_threads):
        accepted += _metropolis(S, f, &p0[0], &q0[0], &s0[0], &count[0], k * n // n_threads,
                                (k + 1) * n // n_threads, step, mask, t, stream, key, &buffer[k, 0, 0],
                                &buffer[k, 1, 0], width)
    return accepted


cdef inline void _kick_row(real_action_t S, const double *phi, double *mom, Py_ssize_t p, Py_ssize_t q,
                           Py_ssize_t length, double eps, const signed char *active, int n) noexcept nogil:
    # The force goes to a local buffer first: stores to it cannot alias the parameters, so they stay in registers
    # and the loop vectorizes.
    cdef double force[CHUNK]
    cdef Py_ssize_t j, start, m
    for start in range(0, length, 256):
        m = min(<Py_ssize_t>CHUNK, length - start)
        for j in range(m):
            force[j] = S.site_force(phi, p + start + j, q + start + j, n)
        if active != NULL:
            for j in range(m):
                if not active[q + start + j]:
                    force[j] = 0.0
        for j in range(m):
            mom[p + start + j] += eps * force[j]


cdef inline void _kick_drift(real_action_t S, double *phi, double *mom, const Py_ssize_t[::1] p0,
                             const Py_ssize_t[::1] q0, Py_ssize_t length, double kick, double drift,
                             const signed char *active, Py_ssize_t reach, int n) noexcept nogil:
    # One pass over memory: a row drifts as soon as no row still to be kicked reads it.  The halo keeps the old
    # values, so nothing wraps.
    cdef Py_ssize_t i, j, done = 0, rows = p0.shape[0], p
    for i in range(rows):
        _kick_row(S, phi, mom, p0[i], q0[i], length, kick, active, n)
        while drift != 0.0 and done <= i and (i + 1 == rows or p0[done] + length + reach <= p0[i + 1]):
            p = p0[done]
            for j in range(length):
                phi[p + j] += drift * mom[p + j]
            done += 1


def kick_drift(real_action_t S, double[::1] phi, double[::1] mom, const Py_ssize_t[::1] p0, const Py_ssize_t[::1] q0,
               Py_ssize_t length, double kick, double drift, const signed char[::1] active, Py_ssize_t reach):
    """mom += kick * force(phi), then phi += drift * mom, for all local sites (halo filled before)."""
    cdef const signed char *mask = NULL
    cdef int n = S.n
    if active is not None:
        mask = &active[0]
    with nogil:
        if n == 1:
            _kick_drift(S, &phi[0], &mom[0], p0, q0, length, kick, drift, mask, reach, 1)
        elif n == 2:
            _kick_drift(S, &phi[0], &mom[0], p0, q0, length, kick, drift, mask, reach, 2)
        elif n == 3:
            _kick_drift(S, &phi[0], &mom[0], p0, q0, length, kick, drift, mask, reach, 3)
        elif n == 4:
            _kick_drift(S, &phi[0], &mom[0], p0, q0, length, kick, drift, mask, reach, 4)
        else:
            _kick_drift(S, &phi[0], &mom[0], p0, q0, length, kick, drift, mask, reach, n)


def force(real_action_t S, const double[::1] phi, double[::1] out, const Py_ssize_t[::1] p0,
          const Py_ssize_t[::1] q0, Py_ssize_t length, const signed char[::1] active):
    """out = -dS/dphi at every local site, 0 where no site exists."""
    cdef Py_ssize_t i, j
    with nogil:
        for i in range(p0.shape[0]):
            for j in range(length):
                if active is None or active[q0[i] + j]:
                    out[p0[i] + j] = S.site_force(&phi[0], p0[i] + j, q0[i] + j, S.n)
                else:
                    out[p0[i] + j] = 0.0


def site_dS(real_action_t S, const double[::1] phi, const Py_ssize_t[::1] p, const Py_ssize_t[::1] q,
            const double[::1] new):
    """S(phi_p = new) - S(phi_p) at the given sites."""
    import numpy as np
    out_array = np.empty(p.shape[0])
    cdef double[::1] out = out_array
    cdef Py_ssize_t i
    for i in range(p.shape[0]):
        out[i] = S.site_dS(&phi[0], p[i], q[i], new[i], S.n)
    return out_array


cdef inline double _action_row(real_action_t S, const double *phi, Py_ssize_t p, Py_ssize_t q, Py_ssize_t length,
                               const signed char *active, int n) noexcept nogil:
    cdef double share[CHUNK]
    cdef double a = 0.0, b = 0.0, c = 0.0, d = 0.0
    cdef Py_ssize_t j, start, m
    for start in range(0, length, 256):
        m = min(<Py_ssize_t>CHUNK, length - start)
        for j in range(m):
            share[j] = S.site_action(phi, p + start + j, q + start + j, n)
        if active != NULL:
            for j in range(m):
                if not active[q + start + j]:
                    share[j] = 0.0
        # four running sums in a fixed order: the same bits everywhere, a quarter of the latency
        for j in range(0, m - 3, 4):
            a += share[j]
            b += share[j + 1]
            c += share[j + 2]
            d += share[j + 3]
        for j in range(m - m % 4, m):
            a += share[j]
    return (a + b) + (c + d)


def action_lines(real_action_t S, const double[::1] phi, const Py_ssize_t[::1] p0, const Py_ssize_t[::1] q0,
                 Py_ssize_t length, const signed char[::1] active, double[::1] out):
    """Share of S of each line along the last axis; inactive sites add nothing."""
    cdef const signed char *mask = NULL
    cdef Py_ssize_t i
    cdef int n = S.n
    if active is not None:
        mask = &active[0]
    with nogil:
        for i in range(p0.shape[0]):
            if n == 2:
                out[i] = _action_row(S, &phi[0], p0[i], q0[i], length, mask, 2)
            elif n == 3:
                out[i] = _action_row(S, &phi[0], p0[i], q0[i], length, mask, 3)
            else:
                out[i] = _action_row(S, &phi[0], p0[i], q0[i], length, mask, n)
