# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Counter-based noise: value = f(key, site, t, stream, draw).

Design: see philox.c.  The cdef functions are for loops of any extension module (``cimport``), the def functions for
Python: global decisions, tests and whole arrays of momenta.
"""
from libc.stdint cimport uint32_t, uint64_t
import numpy as np

cdef extern from "philox.h" nogil:
    void lft_philox4x32(const uint32_t *c, const uint32_t *k, uint32_t *out)
    void lft_uniforms(uint64_t site0, uint64_t stride, Py_ssize_t n, uint64_t t, uint32_t stream, uint32_t draw,
                      uint64_t key, double *u, double *v)
    void lft_uniforms_at(const uint64_t *site, Py_ssize_t n, uint64_t t, uint32_t stream, uint32_t draw,
                         uint64_t key, double *u, double *v)
    void lft_log(double *x, Py_ssize_t n)
    void lft_exponential(double *x, Py_ssize_t n)
    void lft_logistic(double *x, Py_ssize_t n)
    void lft_normals(double *u, double *v, Py_ssize_t n)
    const char *lft_noise_path()
    int lft_noise_force(const char *name)


cdef void uniforms(uint64_t site0, uint64_t stride, Py_ssize_t n, uint64_t t, uint32_t stream, uint32_t draw,
                   uint64_t key, double *u, double *v) noexcept nogil:
    lft_uniforms(site0, stride, n, t, stream, draw, key, u, v)

cdef void uniforms_at(const uint64_t *site, Py_ssize_t n, uint64_t t, uint32_t stream, uint32_t draw,
                      uint64_t key, double *u, double *v) noexcept nogil:
    lft_uniforms_at(site, n, t, stream, draw, key, u, v)

cdef void log_inplace(double *x, Py_ssize_t n) noexcept nogil:
    lft_log(x, n)

cdef void exponential(double *x, Py_ssize_t n) noexcept nogil:
    lft_exponential(x, n)

cdef void logistic(double *x, Py_ssize_t n) noexcept nogil:
    lft_logistic(x, n)

cdef void normals(double *u, double *v, Py_ssize_t n) noexcept nogil:
    lft_normals(u, v, n)


def philox4x32(counter, key):
    """The raw block: four 32-bit words from a counter of four and a key of two words."""
    cdef uint32_t c[4]
    cdef uint32_t k[2]
    cdef uint32_t o[4]
    for i in range(4):
        c[i] = counter[i]
    for i in range(2):
        k[i] = key[i]
    lft_philox4x32(c, k, o)
    return o[0], o[1], o[2], o[3]


def fill(kind, uint64_t site0, uint64_t stride, Py_ssize_t n, uint64_t t, uint32_t stream, uint32_t draw,
         uint64_t key):
    """Two arrays of ``n`` numbers for the sites ``site0 + m*stride``; kind: uniform, exponential, logistic, normal."""
    if n < 0 or t >> 48 or stream > 255 or draw > 255:
        raise ValueError(f"n={n}, t={t}, stream={stream}, draw={draw}: valid are n >= 0, t < 2^48, the others < 256")
    u_array, v_array = np.empty(n), np.empty(n)
    cdef double[::1] u = u_array, v = v_array
    if n == 0:
        return u_array, v_array
    lft_uniforms(site0, stride, n, t, stream, draw, key, &u[0], &v[0])
    if kind == "exponential":
        lft_exponential(&u[0], n)
        lft_exponential(&v[0], n)
    elif kind == "logistic":
        lft_logistic(&u[0], n)
        lft_logistic(&v[0], n)
    elif kind == "normal":
        lft_normals(&u[0], &v[0], n)
    elif kind != "uniform":
        raise ValueError(f"kind {kind!r}: valid are uniform, exponential, logistic, normal")
    return u_array, v_array


def log(values):
    """The kernels' own logarithm (for tests): same bits on every instruction set."""
    out = np.array(values, dtype=float).ravel()
    cdef double[::1] x = out
    if x.shape[0]:
        lft_log(&x[0], x.shape[0])
    return out


def instruction_set():
    """Name of the path in use: ``avx512``, ``avx2`` or ``baseline``."""
    return (<bytes>lft_noise_path()).decode()


def force_instruction_set(name):
    """Use a given path (tests compare them); raises ValueError where the processor lacks it."""
    if not lft_noise_force(name.encode()):
        raise ValueError(f"instruction set {name!r} is not available on this processor")
