# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Roofs of the machine for ``lft bench``: triad bandwidth and the supply of random bits.

Design: see supply.c.  Nothing here takes part in a simulation.
"""
from libc.stdint cimport int64_t, uint64_t

cdef extern from "supply.h" nogil:
    void lft_triad(double *out, const double *a, const double *b, double s, Py_ssize_t n)
    uint64_t lft_ars_supply(uint64_t first, uint64_t key, int is_shared, Py_ssize_t blocks, int64_t *bits)


def triad(double[::1] out, const double[::1] a, const double[::1] b, double s, Py_ssize_t repeats):
    """out = a + s b, over and over."""
    if not out.shape[0] == a.shape[0] == b.shape[0] > 0:
        raise ValueError(f"lengths {out.shape[0]}, {a.shape[0]}, {b.shape[0]}: valid are three equal ones > 0")
    cdef Py_ssize_t r
    with nogil:
        for r in range(repeats):
            lft_triad(&out[0], &a[0], &b[0], s, out.shape[0])


def ars(uint64_t first, uint64_t key, bint is_shared, Py_ssize_t blocks):
    """(bits made, their fold): registers of 512 bits of ARS-7 (two rounds shared or none);
    no bits where the processor lacks AES."""
    cdef int64_t bits = 0
    cdef uint64_t fold
    with nogil:
        fold = lft_ars_supply(first, key, is_shared, blocks, &bits)
    return bits, fold
