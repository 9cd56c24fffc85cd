# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Patterns of a raster, and sums over its bins for many logistic regressions at once.  Design: pseudo_rows.c."""
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, int64_t
import numpy as np

cdef extern from "pseudo_rows.h" nogil:
    enum:
        LFT_PSEUDO_LANES
    ctypedef struct lft_pseudo_rows:
        const int64_t *start
        const int32_t *feature
        Py_ssize_t n_features
        const int32_t *own_row
        const int32_t *own_lane
        const int32_t *own_feature
        Py_ssize_t n_own, n_own_features, n_lanes
    ctypedef struct lft_pseudo_weights:
        const void *weight
        const void *own
        const void *constant
    ctypedef struct lft_pseudo_sums:
        double *sums
        double *own
        double *constant
        double *softplus
    void lft_pseudo_expect(const lft_pseudo_rows *rows, Py_ssize_t first, Py_ssize_t last,
                           const lft_pseudo_weights *at, const lft_pseudo_sums *out)
    void lft_pseudo_product(const lft_pseudo_rows *rows, Py_ssize_t first, Py_ssize_t last,
                            const lft_pseudo_weights *at, const lft_pseudo_weights *along, int is_single,
                            void *scratch, const lft_pseudo_sums *out, void *kept, int is_kept)
    void lft_pseudo_blocks(const lft_pseudo_rows *rows, Py_ssize_t first, Py_ssize_t last,
                           const lft_pseudo_weights *at, int is_single, void *pairs, void *cross, void *square)
    const char *lft_pseudo_path()
    int lft_pseudo_force(const char *name)

LANES = LFT_PSEUDO_LANES
ctypedef fused real:
    float
    double


def path():
    """Instruction set in use: base, avx2 or avx512."""
    return lft_pseudo_path().decode()


def force(name):
    """Use another instruction set; False where the machine lacks it."""
    lft_pseudo_path()
    return bool(lft_pseudo_force(name.encode()))


# ---- patterns
def active(const int8_t[:, :] raster, int64_t[::1] start, int32_t[::1] feature):
    """Active units of every bin; ``start`` (bins + 1), ``feature`` as long as the raster has ones."""
    cdef Py_ssize_t a, i, n = 0, n_units = raster.shape[1]
    with nogil:
        for a in range(raster.shape[0]):
            start[a] = n
            for i in range(n_units):
                if raster[a, i]:
                    feature[n] = <int32_t>i
                    n += 1
        start[raster.shape[0]] = n


def shifted(const int64_t[::1] start, const int32_t[::1] unit, const int64_t[::1] edges, const int64_t[::1] shifts,
            int32_t n_units, int64_t[::1] out_start, int32_t[::1] out):
    """Features ``n_units s + j``: unit j is active ``shifts[s]`` bins later, within the same trial (edges)."""
    cdef Py_ssize_t trial, a, b, s, n = 0
    cdef int64_t e
    with nogil:
        for trial in range(edges.shape[0] - 1):
            for a in range(edges[trial], edges[trial + 1]):
                out_start[a] = n
                for s in range(shifts.shape[0]):
                    b = a + shifts[s]
                    if b < edges[trial] or b >= edges[trial + 1]:
                        continue
                    for e in range(start[b], start[b + 1]):
                        out[n] = <int32_t>(n_units * s) + unit[e]
                        n += 1
        out_start[edges[edges.shape[0] - 1]] = n
    return n


def coincidences(const int64_t[::1] start, const int32_t[::1] feature, Py_ssize_t first, Py_ssize_t last,
                 int64_t[:, ::1] counts):
    """``counts[f, i]`` += bins in which the shared feature f is active and unit i (a feature below the width) fires."""
    cdef Py_ssize_t a
    cdef int64_t d, e
    cdef int32_t n_units = <int32_t>counts.shape[1]
    with nogil:
        for a in range(first, last):
            for e in range(start[a], start[a + 1]):
                for d in range(start[a], start[a + 1]):
                    if feature[d] >= n_units:
                        break
                    counts[feature[e], feature[d]] += 1


# ---- sums
cdef class Rows:
    """Shared features of all bins, and own entries by tile of targets: (row, lane, feature), from own_start[tile]."""
    cdef lft_pseudo_rows c
    cdef Py_ssize_t n_units
    cdef const int64_t[::1] own_start
    cdef object keep
    cdef const int32_t[::1] row, lane, own

    def __init__(self, const int64_t[::1] start, const int32_t[::1] feature, Py_ssize_t n_features,
                 const int64_t[::1] own_start, const int32_t[::1] row, const int32_t[::1] lane,
                 const int32_t[::1] own, Py_ssize_t n_own_features, Py_ssize_t n_units):
        self.keep = (start, feature)
        self.own_start, self.row, self.lane, self.own = own_start, row, lane, own
        self.c.start, self.c.feature, self.c.n_features = &start[0], &feature[0], n_features
        self.c.n_own_features, self.n_units = n_own_features, n_units

    cdef lft_pseudo_rows tile(self, Py_ssize_t tile) noexcept nogil:
        cdef lft_pseudo_rows rows = self.c
        rows.n_own = self.own_start[tile + 1] - self.own_start[tile]
        rows.n_lanes = min(LFT_PSEUDO_LANES, self.n_units - tile * LFT_PSEUDO_LANES)
        rows.own_row = &self.row[0] + self.own_start[tile]
        rows.own_lane = &self.lane[0] + self.own_start[tile]
        rows.own_feature = &self.own[0] + self.own_start[tile]
        return rows

    cdef void expect_tile(self, Py_ssize_t tile, Py_ssize_t out, Py_ssize_t first, Py_ssize_t last,
                          const double[:, :, ::1] weight, const double[:, :, ::1] own, const double[:, ::1] constant,
                          double[:, :, ::1] sums, double[:, :, ::1] own_sums, double[:, ::1] totals,
                          double[:, ::1] softplus) noexcept nogil:
        cdef lft_pseudo_rows rows = self.tile(tile)
        cdef lft_pseudo_weights at
        cdef lft_pseudo_sums to
        at.weight, at.own, at.constant = &weight[out, 0, 0], &own[out, 0, 0], &constant[out, 0]
        to.sums, to.own, to.constant = &sums[out, 0, 0], &own_sums[out, 0, 0], &totals[out, 0]
        to.softplus = &softplus[out, 0]
        lft_pseudo_expect(&rows, first, last, &at, &to)

    def expect(self, Py_ssize_t tile0, Py_ssize_t first, Py_ssize_t last, const double[:, :, ::1] weight,
               const double[:, :, ::1] own, const double[:, ::1] constant, double[:, :, ::1] sums,
               double[:, :, ::1] own_sums, double[:, ::1] totals, double[:, ::1] softplus, int n_threads):
        """Expected sums of the tiles tile0, tile0 + 1, ... (first axis of the arrays), added to the outputs."""
        cdef Py_ssize_t t
        for t in prange(weight.shape[0], nogil=True, schedule="dynamic", num_threads=n_threads):
            self.expect_tile(tile0 + t, t, first, last, weight, own, constant, sums, own_sums, totals, softplus)

    cdef void product_tile(self, Py_ssize_t tile, Py_ssize_t out, Py_ssize_t first, Py_ssize_t last,
                           const real[:, :, ::1] weight, const real[:, :, ::1] own, const real[:, ::1] constant,
                           const real[:, :, ::1] along, const real[:, :, ::1] own_along,
                           const real[:, ::1] constant_along, real[:, ::1] scratch, double[:, :, ::1] sums,
                           double[:, :, ::1] own_sums, double[:, ::1] totals, real[:, ::1] kept, int keeps,
                           int is_kept) noexcept nogil:
        cdef lft_pseudo_rows rows = self.tile(tile)
        cdef lft_pseudo_weights at, to
        cdef lft_pseudo_sums total
        at.weight, at.own, at.constant = &weight[out, 0, 0], &own[out, 0, 0], &constant[out, 0]
        to.weight, to.own, to.constant = &along[out, 0, 0], &own_along[out, 0, 0], &constant_along[out, 0]
        total.sums, total.own, total.constant = &sums[out, 0, 0], &own_sums[out, 0, 0], &totals[out, 0]
        total.softplus = NULL
        lft_pseudo_product(&rows, first, last, &at, &to, real is float, &scratch[out, 0], &total,
                           &kept[out, 0] if keeps else NULL, is_kept)

    def product(self, Py_ssize_t tile0, Py_ssize_t first, Py_ssize_t last, const real[:, :, ::1] weight,
                const real[:, :, ::1] own, const real[:, ::1] constant, const real[:, :, ::1] along,
                const real[:, :, ::1] own_along, const real[:, ::1] constant_along, real[:, ::1] scratch,
                double[:, :, ::1] sums, double[:, :, ::1] own_sums, double[:, ::1] totals, real[:, ::1] kept,
                int keeps, int is_kept, int n_threads):
        """Sums of p (1 - p) u over the features, u the log-odds of ``along``.

        ``kept`` (tiles, room): p (1 - p) of all rows, written if ``keeps``, read instead of computed if ``is_kept``.
        """
        cdef Py_ssize_t t
        for t in prange(weight.shape[0], nogil=True, schedule="dynamic", num_threads=n_threads):
            self.product_tile(tile0 + t, t, first, last, weight, own, constant, along, own_along, constant_along,
                              scratch, sums, own_sums, totals, kept, keeps, is_kept)

    def blocks(self, Py_ssize_t tile, Py_ssize_t first, Py_ssize_t last, const real[:, ::1] weight,
               const real[:, ::1] own, const real[::1] constant, real[:, ::1] pairs, real[:, :, ::1] cross,
               real[:, :, ::1] square):
        """Second moments of one tile with weight p (1 - p), added to the outputs (layout: pseudo_rows.h)."""
        cdef lft_pseudo_rows rows = self.tile(tile)
        cdef lft_pseudo_weights at
        at.weight, at.own, at.constant = &weight[0, 0], &own[0, 0], &constant[0]
        with nogil:
            lft_pseudo_blocks(&rows, first, last, &at, real is float, &pairs[0, 0], &cross[0, 0, 0], &square[0, 0, 0])
