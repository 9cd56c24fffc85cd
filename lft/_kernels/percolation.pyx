# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Directed percolation of 64 replicas per word, words side by side in threads.

Design: see percolate.c.  The checks of shapes stand here, the loops there.
"""
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int64_t, uint32_t, uint64_t

import numpy as np

cdef extern from "percolate.h" nogil:
    enum: LFT_PERCOLATE_AXES
    enum: LFT_PERCOLATE_PARENTS
    ctypedef struct lft_percolation:
        Py_ssize_t n_axes
        Py_ssize_t *shape
        int *periodic
        uint64_t *threshold
        int *certain
        int is_site
        const int64_t *square
    void lft_percolate(const lft_percolation *model, uint64_t *slices, Py_ssize_t *box, uint64_t t, Py_ssize_t n,
                       uint32_t stream, uint64_t key, int64_t *count, int64_t *square, uint64_t *alive,
                       int8_t *record, int lane, int64_t *reach)
    void lft_percolate_block(uint64_t site, uint64_t t, uint32_t stream, uint32_t draw, uint64_t key, uint64_t *out)
    const char *lft_percolate_path()
    int lft_percolate_force(const char *name)

MAX_AXES = LFT_PERCOLATE_AXES


def path():
    """The instruction-set path in use: aes or baseline."""
    return lft_percolate_path().decode()


def force(name):
    """Force a path (tests)."""
    if not lft_percolate_force(name.encode()):
        raise ValueError(f"path {name!r} cannot be used on this machine")


def blocks(const uint64_t[::1] site, uint64_t t, int stream, int draw, uint64_t key):
    """(n, 2) uint64: the random words of the bits 63 - 2 draw and 62 - 2 draw of u at each site of slice t."""
    cdef Py_ssize_t i
    out = np.empty((site.shape[0], 2), np.uint64)
    cdef uint64_t[:, ::1] view = out
    for i in range(site.shape[0]):
        lft_percolate_block(site[i], t, stream, draw, key, &view[i, 0])
    return out


cdef class Steps:
    """The lattice and the probabilities of a step."""

    cdef lft_percolation model
    cdef object squares
    cdef readonly Py_ssize_t padded, n_sites

    def __init__(self, shape, periodic, thresholds, is_site, squares=None):
        """thresholds: integers 0..2^64 by the number of active parents (the first is not read); squares: int64
        (2, sum of shape) squared distances of even and odd slices, None where no distance is wanted."""
        cdef Py_ssize_t k, n = len(shape)
        if not 1 <= n <= MAX_AXES or len(periodic) != n or len(thresholds) != (1 << n) + 1:
            raise ValueError(f"shape {shape}: valid are 1 to {MAX_AXES} axes")
        self.model.n_axes = n
        self.n_sites = 1
        for k in range(n):
            self.model.shape[k] = shape[k]
            self.model.periodic[k] = periodic[k]
            self.n_sites *= shape[k]
        self.padded = self.n_sites // shape[n - 1] * (shape[n - 1] + 2)
        for k in range(len(thresholds)):
            self.model.certain[k] = thresholds[k] >> 64 > 0
            self.model.threshold[k] = thresholds[k] & 0xFFFFFFFFFFFFFFFF
        self.model.is_site = is_site
        self.squares = None if squares is None else np.ascontiguousarray(squares, np.int64)
        self.model.square = NULL
        cdef int64_t[:, ::1] view
        if squares is not None:
            view = self.squares
            if view.shape[0] != 2 or view.shape[1] != sum(shape):
                raise ValueError("squares: valid is (2, sum of shape)")
            self.model.square = &view[0, 0]

    def run(self, uint64_t[:, :, ::1] slices, Py_ssize_t[:, :, ::1] box, uint64_t t, int stream,
            const uint64_t[::1] keys, int64_t[:, :, ::1] count, int64_t[:, :, ::1] square, uint64_t[:, ::1] alive,
            int64_t[:, ::1] reach, int n_threads=1, int8_t[:, ::1] record=None, int lane=0):
        """Steps t -> t + n of W words; slices (W, 2, padded), box (W, axes, 2), count and square (W, n, 64) and alive
        (W, n) zero on entry, reach (W, 3) as in percolate.h; record (n, sites) of the first word's ``lane``."""
        cdef Py_ssize_t w, W = slices.shape[0], n = alive.shape[1]
        cdef int8_t *first = &record[0, 0] if record is not None else NULL
        fits = (slices.shape[1] == 2 and slices.shape[2] == self.padded and box.shape[0] == keys.shape[0] == W
                and box.shape[1] == self.model.n_axes and box.shape[2] == 2 and count.shape[0] == W
                and count.shape[1] == n and count.shape[2] == 64 and square.shape[0] == W and square.shape[1] == n
                and square.shape[2] == 64 and alive.shape[0] == W and reach.shape[0] == W and reach.shape[1] == 3)
        if record is not None:
            fits = fits and record.shape[0] == n and record.shape[1] == self.n_sites and 0 <= lane < 64
        if not fits or n < 1 or W < 1:
            raise ValueError("arrays of words, steps and sites do not fit each other")
        for w in prange(W, nogil=True, num_threads=n_threads, schedule="dynamic"):
            lft_percolate(&self.model, &slices[w, 0, 0], &box[w, 0, 0], t, n, stream, keys[w], &count[w, 0, 0],
                          &square[w, 0, 0], &alive[w, 0], first if w == 0 else NULL, lane, &reach[w, 0])
