# Generic loops over binary fields, compiled once per member of the fused type ``binary_action_t``, which the including
# module defines (the built-in one, or a third party's own).  Design and measured cost: README.md.
#
# A sweep visits segments: runs of equally spaced sites of one color class along the last axis.  Segment i starts at
# flat index p0[i] (slice index q0[i], global site s0[i]), has count[i] sites, ``step`` apart.  The noise of a whole
# segment is drawn first (vectorized), then the sites are updated in order.  Segments of one class do not interact:
# they are shared among as many threads as the noise buffer has parts, with the same result.
from libc.stdint cimport uint64_t, int64_t
from cython.parallel cimport prange
from lft._kernels cimport noise as _noise

cdef inline int64_t _metropolis(binary_action_t S, signed char *phi, const Py_ssize_t *p0, const Py_ssize_t *q0,
                                const uint64_t *s0, const Py_ssize_t *count, Py_ssize_t first, Py_ssize_t last,
                                Py_ssize_t step, const signed char *active, uint64_t t, int stream, uint64_t key,
                                double *u, double *v, bint halve_ties, int n) noexcept nogil:
    # Without branches on the data: at 20 % acceptance a mispredicted branch costs as much as the rest of the site.
    cdef Py_ssize_t i, m, p, q
    cdef int64_t accepted = 0
    cdef double dS
    cdef int total = S.low + S.high, high = S.high, x, yes
    for i in range(first, last):
        _noise.uniforms(s0[i], step, count[i], t, stream, 0, key, u, v)
        _noise.exponential(u, count[i])
        p, q = p0[i], q0[i]
        for m in range(count[i]):
            x = phi[p]
            dS = S.raising(phi, p, q, n) * (1 - 2 * (x == high))
            yes = (dS < u[m]) & (not halve_ties or dS != 0.0 or v[m] < 0.5)
            if active != NULL:
                yes &= active[q]
            phi[p] = <signed char>(x + yes * (total - 2 * x))
            accepted += yes
            p += step
            q += step
    return accepted


cdef inline int64_t _heatbath(binary_action_t S, signed char *phi, const Py_ssize_t *p0, const Py_ssize_t *q0,
                              const uint64_t *s0, const Py_ssize_t *count, Py_ssize_t first, Py_ssize_t last,
                              Py_ssize_t step, const signed char *active, uint64_t t, int stream, uint64_t key,
                              double *u, double *v, int n) noexcept nogil:
    cdef Py_ssize_t i, m, p, q
    cdef int64_t changed = 0
    cdef int low = S.low, span = S.high - S.low, x, new
    for i in range(first, last):
        _noise.uniforms(s0[i], step, count[i], t, stream, 0, key, u, v)
        _noise.logistic(u, count[i])
        p, q = p0[i], q0[i]
        for m in range(count[i]):
            # P(high) = 1/(1 + exp(raising)): high when raising < log((1-u)/u)
            x = phi[p]
            new = low + span * (S.raising(phi, p, q, n) < u[m])
            if active != NULL and not active[q]:
                new = x
            changed += new != x
            phi[p] = <signed char>new
            p += step
            q += step
    return changed


cdef int64_t _part(binary_action_t S, signed char *phi, const Py_ssize_t *p0, const Py_ssize_t *q0,
                   const uint64_t *s0, const Py_ssize_t *count, Py_ssize_t first, Py_ssize_t last, Py_ssize_t step,
                   const signed char *active, uint64_t t, int stream, uint64_t key, double *u, double *v,
                   bint heatbath, bint halve_ties) noexcept nogil:
    # the usual numbers of displacements as literals, so that the compiler unrolls the sum over neighbors
    cdef int n = S.n
    if heatbath:
        if n == 2:
            return _heatbath(S, phi, p0, q0, s0, count, first, last, step, active, t, stream, key, u, v, 2)
        if n == 3:
            return _heatbath(S, phi, p0, q0, s0, count, first, last, step, active, t, stream, key, u, v, 3)
        return _heatbath(S, phi, p0, q0, s0, count, first, last, step, active, t, stream, key, u, v, n)
    if n == 2:
        return _metropolis(S, phi, p0, q0, s0, count, first, last, step, active, t, stream, key, u, v, halve_ties, 2)
    if n == 3:
        return _metropolis(S, phi, p0, q0, s0, count, first, last, step, active, t, stream, key, u, v, halve_ties, 3)
    return _metropolis(S, phi, p0, q0, s0, count, first, last, step, active, t, stream, key, u, v, halve_ties, n)


def sweep(binary_action_t S, signed char[::1] phi, segments, Py_ssize_t step, const signed char[::1] active,
          uint64_t t, int stream, uint64_t key, double[:, :, ::1] buffer, bint heatbath, bint halve_ties=False):
    """Update every site of one color class; returns the number of accepted proposals (heat bath: of changes)."""
    cdef const Py_ssize_t[::1] p0 = segments[0], q0 = segments[1], count = segments[3]
    cdef const uint64_t[::1] s0 = segments[2]
    cdef const signed char *mask = NULL
    cdef signed char *f = &phi[0]
    cdef int64_t done = 0
    cdef Py_ssize_t n = p0.shape[0]
    cdef int k, n_threads = buffer.shape[0]
    if n == 0:
        return 0
    if active is not None:
        mask = &active[0]
    for k in prange(n_threads, nogil=True, schedule="static", chunksize=1, num_threads=n_threads):
        done += _part(S, f, &p0[0], &q0[0], &s0[0], &count[0], k * n // n_threads, (k + 1) * n // n_threads, step,
                      mask, t, stream, key, &buffer[k, 0, 0], &buffer[k, 1, 0], heatbath, halve_ties)
    return done


def raising(binary_action_t S, const signed char[::1] phi, const Py_ssize_t[::1] p, const Py_ssize_t[::1] q):
    """S(high) - S(low) at the given sites."""
    import numpy as np
    out_array = np.empty(p.shape[0])
    cdef double[::1] out = out_array
    cdef Py_ssize_t i
    for i in range(p.shape[0]):
        out[i] = S.raising(&phi[0], p[i], q[i], S.n)
    return out_array


def action_lines(binary_action_t S, const signed char[::1] phi, const Py_ssize_t[::1] p0, const Py_ssize_t[::1] q0,
                 Py_ssize_t length, double[::1] out):
    """Share of S of each line along the last axis (inactive sites carry 0 and add nothing)."""
    cdef Py_ssize_t i, j
    cdef double total
    with nogil:
        for i in range(p0.shape[0]):
            total = 0.0
            for j in range(length):
                if phi[p0[i] + j] != 0:
                    total += S.site_action(&phi[0], p0[i] + j, q0[i] + j, S.n)
            out[i] = total
