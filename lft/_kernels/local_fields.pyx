# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Sweeps over binary units with arbitrary pair couplings: model and bins as objects, and the calls.  Design: cached.c."""
from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t, uint64_t
import numpy as np

cdef extern from "cached.h" nogil:
    enum:
        LFT_CACHED_BLOCK, LFT_CACHED_RANDOM, LFT_CACHED_TILE, LFT_CACHED_LANES, LFT_CACHED_SPECIAL
    ctypedef struct lft_cached_model:
        Py_ssize_t n
        int heatbath, low, n_lags
        const Py_ssize_t *offset
        const double *c
        const double *K
        const double *W
        Py_ssize_t row_W
        const Py_ssize_t *start
        const Py_ssize_t *index
        const double *value
        Py_ssize_t padded, row
        const int32_t *fixed_c
        const int32_t *fixed_K
        const int32_t *fixed_W
        const int32_t *fixed_value
        double scale, margin
        int32_t window
        Py_ssize_t n_tiles
        const int8_t *table
        const int32_t *triangle
        const int32_t *block_c
        const int32_t *block_K
        double block_scale, block_margin
        int32_t block_window
    ctypedef struct lft_cached_bins:
        Py_ssize_t n
        const Py_ssize_t *first
        const uint64_t *bin
        const Py_ssize_t *local
    ctypedef struct lft_cached_draw:
        uint64_t t, key
        uint32_t stream
    Py_ssize_t lft_cached_work(const lft_cached_model *m)
    Py_ssize_t lft_cached_blocked_work(const lft_cached_model *m)
    void lft_cached_fill(const lft_cached_model *m, const lft_cached_bins *bins, const signed char *phi,
                         int32_t *fields, int32_t *work, int n_threads)
    int64_t lft_cached_sweep(const lft_cached_model *m, const lft_cached_bins *bins, signed char *phi,
                             int32_t *fields, const lft_cached_draw *draw, int32_t *work, int n_threads,
                             int64_t *exact)
    int64_t lft_cached_blocked(const lft_cached_model *m, const lft_cached_bins *bins, signed char *phi,
                               const lft_cached_draw *draw, int32_t *work, int n_threads, int64_t *exact)
    int lft_cached_has_blocked()
    Py_ssize_t lft_cached_thresholds(uint32_t *words, Py_ssize_t n, int heatbath, double scale, double margin,
                                     uint32_t *special)
    const char *lft_cached_path()
    int lft_cached_force(const char *name)

BLOCK, RANDOM, TILE, LANES = LFT_CACHED_BLOCK, LFT_CACHED_RANDOM, LFT_CACHED_TILE, LFT_CACHED_LANES
SPECIAL = LFT_CACHED_SPECIAL


cdef class Model:
    """Couplings of S(high) - S(low) = c + K (lags) + W phi, phi = 0, 1, in doubles and in fixed point.

    ``dense``: (W with zeros up to a multiple of 8, its integers in padded rows) or None; ``sparse``: (start, index,
    value, their integers) or None.  All arrays are kept alive here.
    """
    cdef lft_cached_model m
    cdef object keep

    def __init__(self, Py_ssize_t n, is_heatbath, low, const Py_ssize_t[::1] offsets, const double[::1] c,
                 const double[::1] K, dense, sparse, const int32_t[::1] fixed_c, const int32_t[::1] fixed_K,
                 double scale, double margin, int32_t window):
        cdef const double[:, ::1] W
        cdef const int32_t[:, ::1] fixed_W
        cdef const Py_ssize_t[::1] start, index
        cdef const double[::1] value
        cdef const int32_t[::1] fixed_value
        self.m.n, self.m.heatbath, self.m.low = n, is_heatbath, low
        self.m.n_lags = offsets.shape[0]
        if offsets.shape[0]:
            self.m.offset, self.m.K, self.m.fixed_K = &offsets[0], &K[0], &fixed_K[0]
        self.m.c, self.m.fixed_c, self.m.padded = &c[0], &fixed_c[0], fixed_c.shape[0]
        self.m.W, self.m.start, self.m.n_tiles = NULL, NULL, 0
        if dense is not None:
            W, fixed_W = dense
            self.m.W, self.m.row_W = &W[0, 0], W.shape[1]
            self.m.fixed_W, self.m.row = &fixed_W[0, 0], fixed_W.shape[1]
        else:
            start, index, value, fixed_value = sparse
            self.m.start, self.m.index = &start[0], &index[0]
            self.m.value, self.m.fixed_value = &value[0], &fixed_value[0]
        self.m.scale, self.m.margin, self.m.window = scale, margin, window
        self.keep = [offsets, c, K, dense, sparse, fixed_c, fixed_K]

    def set_blocked(self, const int8_t[:, :, :, :, :, ::1] table, const int32_t[:, :, ::1] triangle,
                    const int32_t[::1] c, const int32_t[::1] K, double scale, double margin, int32_t window):
        """Tables of the blocked sweep: (chunk, tile, target, byte, group, pattern), (tile, flipped, target)."""
        self.m.n_tiles, self.m.table, self.m.triangle = triangle.shape[0], &table[0, 0, 0, 0, 0, 0], &triangle[0, 0, 0]
        self.m.block_c = &c[0]
        if K.shape[0]:
            self.m.block_K = &K[0]
        self.m.block_scale, self.m.block_margin, self.m.block_window = scale, margin, window
        self.keep += [table, triangle, c, K]

    def work(self):
        """Integers of work space that a thread needs."""
        return max(lft_cached_work(&self.m), lft_cached_blocked_work(&self.m) if self.m.n_tiles else 0)


cdef class Bins:
    """The local bins of one color class: flat index of the first unit, global number, local number."""
    cdef lft_cached_bins b
    cdef object keep

    def __init__(self, const Py_ssize_t[::1] first, const uint64_t[::1] number, const Py_ssize_t[::1] local):
        self.b.n = first.shape[0]
        if self.b.n:
            self.b.first, self.b.bin, self.b.local = &first[0], &number[0], &local[0]
        self.keep = (first, number, local)


def fill(Model model, Bins bins, const signed char[::1] phi, int32_t[:, ::1] fields, int32_t[:, ::1] work):
    """Fields of these bins from their spins; one row of ``work`` per thread."""
    with nogil:
        lft_cached_fill(&model.m, &bins.b, &phi[0], &fields[0, 0], &work[0, 0], <int>work.shape[0])


def sweep(Model model, Bins bins, signed char[::1] phi, int32_t[:, ::1] fields, uint64_t t, uint32_t stream,
          uint64_t key, int32_t[:, ::1] work):
    """Visit every unit of these bins; returns the numbers of flips and of decisions in doubles."""
    cdef lft_cached_draw draw
    cdef int64_t exact = 0, flips
    cdef int32_t *f = NULL
    if fields is not None:
        f = &fields[0, 0]
    draw.t, draw.key, draw.stream = t, key, stream
    with nogil:
        flips = lft_cached_sweep(&model.m, &bins.b, &phi[0], f, &draw, &work[0, 0], <int>work.shape[0], &exact)
    return flips, exact


def sweep_blocked(Model model, Bins bins, signed char[::1] phi, uint64_t t, uint32_t stream, uint64_t key,
                  int32_t[:, ::1] work):
    """The same, many bins at once."""
    cdef lft_cached_draw draw
    cdef int64_t exact = 0, flips
    draw.t, draw.key, draw.stream = t, key, stream
    with nogil:
        flips = lft_cached_blocked(&model.m, &bins.b, &phi[0], &draw, &work[0, 0], <int>work.shape[0], &exact)
    return flips, exact


def thresholds(words, is_heatbath, double scale, double margin):
    """(-log u or log((1-u)/u), minus margin) * scale of random words; and the positions that need the exact noise."""
    k = np.array(words, np.uint32)
    special = np.zeros(len(k) + 1, np.uint32)
    cdef uint32_t[::1] view = k, positions = special
    cdef Py_ssize_t n
    if len(k) % 32 or not len(k):
        raise ValueError(f"{len(k)} words: valid is a multiple of 32")
    n = lft_cached_thresholds(&view[0], len(k), is_heatbath, scale, margin, &positions[0])
    return k.view(np.int32), special[:n]


def has_blocked():
    """Whether this processor runs the blocked sweep."""
    return bool(lft_cached_has_blocked())


def path():
    """Name of the loops in use: ``avx512``, ``avx2`` or ``baseline``."""
    return (<bytes>lft_cached_path()).decode()


def force(name):
    """Use given loops (tests compare them); raises ValueError where the processor lacks the instructions."""
    if not lft_cached_force(name.encode()):
        raise ValueError(f"instruction set {name!r} is not available on this processor")
