"""Counter-based noise for compiled loops (C face in philox.h, design in philox.c)."""
from libc.stdint cimport uint32_t, uint64_t

cdef void uniforms(uint64_t site0, uint64_t stride, Py_ssize_t n, uint64_t t, uint32_t stream, uint32_t draw,
                   uint64_t key, double *u, double *v) noexcept nogil
cdef void uniforms_at(const uint64_t *site, Py_ssize_t n, uint64_t t, uint32_t stream, uint32_t draw,
                      uint64_t key, double *u, double *v) noexcept nogil
cdef void log_inplace(double *x, Py_ssize_t n) noexcept nogil
cdef void exponential(double *x, Py_ssize_t n) noexcept nogil
cdef void logistic(double *x, Py_ssize_t n) noexcept nogil
cdef void normals(double *u, double *v, Py_ssize_t n) noexcept nogil
