# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Sums that know no action: momenta, kinetic energy, bonds and powers along lines.

Design: one number per local line along the last axis (never cut between ranks), added in a fixed order; the domain
combines the lines exactly.  Products of absent sites are 0 by storage, so no mask is needed.
"""
from libc.stdint cimport uint64_t, int64_t
from lft._kernels cimport noise

ctypedef fused cell_t:
    signed char
    double


def momenta(double[::1] mom, const Py_ssize_t[::1] p0, const uint64_t[::1] s0, const Py_ssize_t[::1] q0,
            Py_ssize_t length, const signed char[::1] active, uint64_t t, int stream, uint64_t key,
            double[:, ::1] buffer):
    """Standard normals for every site: block m of a line serves the sites m and m + ceil(length/2)."""
    cdef Py_ssize_t i, j, half = (length + 1) // 2
    cdef double *u = &buffer[0, 0]
    cdef double *v = &buffer[1, 0]
    with nogil:
        for i in range(p0.shape[0]):
            noise.uniforms(s0[i], 1, half, t, stream, 0, key, u, v)
            noise.normals(u, v, half)
            for j in range(half):
                mom[p0[i] + j] = u[j]
            for j in range(half, length):
                mom[p0[i] + j] = v[j - half]
            if active is not None:
                for j in range(length):
                    if not active[q0[i] + j]:
                        mom[p0[i] + j] = 0.0


def squares(const double[::1] field, const Py_ssize_t[::1] p0, Py_ssize_t length, double scale, double[::1] out):
    """out[i] = scale * sum over line i of field^2."""
    cdef Py_ssize_t i, j, p
    cdef double a, b, c, d
    with nogil:
        for i in range(p0.shape[0]):
            p = p0[i]
            a = b = c = d = 0.0
            for j in range(0, length - 3, 4):
                a += field[p + j] * field[p + j]
                b += field[p + j + 1] * field[p + j + 1]
                c += field[p + j + 2] * field[p + j + 2]
                d += field[p + j + 3] * field[p + j + 3]
            for j in range(length - length % 4, length):
                a += field[p + j] * field[p + j]
            out[i] = scale * ((a + b) + (c + d))


def bonds(const cell_t[::1] field, const Py_ssize_t[::1] p0, Py_ssize_t length, const Py_ssize_t[::1] offset,
          double[:, ::1] out):
    """out[i, d] = sum over line i of field[p] * field[p + offset[d]]."""
    cdef Py_ssize_t i, j, d, p, o
    cdef int64_t count
    cdef double total
    with nogil:
        for i in range(p0.shape[0]):
            p = p0[i]
            for d in range(offset.shape[0]):
                o = offset[d]
                if cell_t is double:
                    total = 0.0
                    for j in range(length):
                        total += field[p + j] * field[p + j + o]
                    out[i, d] = total
                else:
                    count = 0
                    for j in range(length):
                        count += field[p + j] * field[p + j + o]
                    out[i, d] = <double>count


def moments(const double[::1] field, const Py_ssize_t[::1] p0, Py_ssize_t length, double[:, ::1] out):
    """out[i, k] = sum over line i of field^(2(k+1)), k = 0, 1."""
    cdef Py_ssize_t i, j
    cdef double x, a, b
    with nogil:
        for i in range(p0.shape[0]):
            a = b = 0.0
            for j in range(length):
                x = field[p0[i] + j] * field[p0[i] + j]
                a += x
                b += x * x
            out[i, 0], out[i, 1] = a, b


def line_sums(const cell_t[::1] field, const Py_ssize_t[::1] p0, Py_ssize_t length, double[::1] out):
    """out[i] = sum over line i of field."""
    cdef Py_ssize_t i, j
    cdef int64_t count
    cdef double total
    with nogil:
        for i in range(p0.shape[0]):
            if cell_t is double:
                total = 0.0
                for j in range(length):
                    total += field[p0[i] + j]
                out[i] = total
            else:
                count = 0
                for j in range(length):
                    count += field[p0[i] + j]
                out[i] = <double>count


