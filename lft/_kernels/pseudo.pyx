# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Patterns of a raster, and sums over its bins for many logistic regressions at once.  Design: pseudo_rows.c."""
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, int64_t
import numpy as np

cdef extern from "pseudo_rows.h" nogil:
    enum:
        LFT_PSEUDO_LANES
        LFT_PSEUDO_BEYOND
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
        double *variance
    ctypedef struct lft_pseudo_moments:
        void *pairs
        void *cross
        void *square
    ctypedef struct lft_pseudo_room:
        Py_ssize_t n_rows, n_entries
        void *kept
        int64_t *end
        int32_t *row
        int32_t *entry
    void lft_pseudo_expect(const lft_pseudo_rows *rows, Py_ssize_t first, Py_ssize_t last,
                           const lft_pseudo_weights *at, const lft_pseudo_sums *out, float *kept)
    void lft_pseudo_product(const lft_pseudo_rows *rows, Py_ssize_t first, Py_ssize_t last,
                            const lft_pseudo_weights *at, const lft_pseudo_weights *along, float *scratch,
                            const lft_pseudo_sums *out, const float *kept)
    void lft_pseudo_blocks(const lft_pseudo_rows *rows, Py_ssize_t first, Py_ssize_t last,
                           const lft_pseudo_weights *at, int is_single, const lft_pseudo_moments *out,
                           const lft_pseudo_room *room)
    const char *lft_pseudo_path()
    int lft_pseudo_force(const char *name)

LANES = LFT_PSEUDO_LANES
BEYOND = LFT_PSEUDO_BEYOND
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


def coincidences(const int64_t[::1] start, const int32_t[::1] feature, const int64_t[:, ::1] pieces,
                 Py_ssize_t first_unit, int32_t[:, :, ::1] counts):
    """``counts[block, f, i]`` += bins of the pieces (first row, end, block) in which the shared feature f is active and
    unit ``first_unit + i`` fires."""
    cdef Py_ssize_t p, a
    cdef int64_t d, e, low, high
    cdef int32_t *to
    cdef int32_t first = <int32_t>first_unit, last = <int32_t>(first_unit + counts.shape[2])
    with nogil:
        for p in range(pieces.shape[0]):
            for a in range(pieces[p, 0], pieces[p, 1]):
                low = start[a]
                while low < start[a + 1] and feature[low] < first:
                    low += 1
                high = low
                while high < start[a + 1] and feature[high] < last:
                    high += 1
                if low < high:
                    for e in range(start[a], start[a + 1]):
                        to = &counts[pieces[p, 2], feature[e], 0]
                        for d in range(low, high):
                            to[feature[d] - first] += 1


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

    cdef void expect_tile(self, Py_ssize_t tile, Py_ssize_t t, const int64_t[:, ::1] pieces,
                          const double[:, :, ::1] weight, const double[:, :, ::1] own, const double[:, ::1] constant,
                          double[:, :, :, ::1] sums, double[:, :, :, ::1] own_sums, double[:, :, ::1] totals,
                          double[:, :, ::1] softplus, double[:, :, ::1] variance, float[:, ::1] kept) noexcept nogil:
        cdef lft_pseudo_rows rows = self.tile(tile)
        cdef lft_pseudo_weights at
        cdef lft_pseudo_sums to
        cdef Py_ssize_t p, b, width = (rows.n_lanes + 15) // 16 * 16
        cdef float *room = &kept[t, 0] if kept.shape[1] else NULL
        at.weight, at.own, at.constant = &weight[t, 0, 0], &own[t, 0, 0], &constant[t, 0]
        for p in range(pieces.shape[0]):
            b = pieces[p, 2]
            to.sums, to.own, to.constant = &sums[b, t, 0, 0], &own_sums[b, t, 0, 0], &totals[b, t, 0]
            to.softplus, to.variance = &softplus[b, t, 0], &variance[b, t, 0]
            lft_pseudo_expect(&rows, pieces[p, 0], pieces[p, 1], &at, &to, room)
            if room != NULL:
                room += (pieces[p, 1] - pieces[p, 0]) * width

    def expect(self, Py_ssize_t tile0, const int64_t[:, ::1] pieces, const double[:, :, ::1] weight,
               const double[:, :, ::1] own, const double[:, ::1] constant, double[:, :, :, ::1] sums,
               double[:, :, :, ::1] own_sums, double[:, :, ::1] totals, double[:, :, ::1] softplus,
               double[:, :, ::1] variance, float[:, ::1] kept, int n_threads):
        """Expected sums of the tiles tile0, tile0 + 1, ..., added to the outputs (block, tile, ...).

        ``pieces``: (first row, end, block) each.  ``kept`` (tiles, 32 per row of all pieces, or 0): p (1 - p).
        """
        cdef Py_ssize_t t
        for t in prange(weight.shape[0], nogil=True, schedule="dynamic", num_threads=n_threads):
            self.expect_tile(tile0 + t, t, pieces, weight, own, constant, sums, own_sums, totals, softplus, variance,
                             kept)

    cdef void product_tile(self, Py_ssize_t tile, Py_ssize_t t, const int64_t[:, ::1] pieces,
                           const float[:, :, ::1] weight, const float[:, :, ::1] own, const float[:, ::1] constant,
                           const float[:, :, ::1] along, const float[:, :, ::1] own_along,
                           const float[:, ::1] constant_along, float[:, ::1] scratch, double[:, :, ::1] sums,
                           double[:, :, ::1] own_sums, double[:, ::1] totals, const float[:, ::1] kept) noexcept nogil:
        cdef lft_pseudo_rows rows = self.tile(tile)
        cdef lft_pseudo_weights at, to
        cdef lft_pseudo_sums total
        cdef Py_ssize_t p, width = (rows.n_lanes + 15) // 16 * 16
        cdef const float *room = &kept[t, 0] if kept.shape[1] else NULL
        at.weight, at.own, at.constant = &weight[t, 0, 0], &own[t, 0, 0], &constant[t, 0]
        to.weight, to.own, to.constant = &along[t, 0, 0], &own_along[t, 0, 0], &constant_along[t, 0]
        total.sums, total.own, total.constant = &sums[t, 0, 0], &own_sums[t, 0, 0], &totals[t, 0]
        total.softplus = total.variance = NULL
        for p in range(pieces.shape[0]):
            lft_pseudo_product(&rows, pieces[p, 0], pieces[p, 1], &at, &to, &scratch[t, 0], &total, room)
            if room != NULL:
                room += (pieces[p, 1] - pieces[p, 0]) * width

    def product(self, Py_ssize_t tile0, const int64_t[:, ::1] pieces, const float[:, :, ::1] weight,
                const float[:, :, ::1] own, const float[:, ::1] constant, const float[:, :, ::1] along,
                const float[:, :, ::1] own_along, const float[:, ::1] constant_along, float[:, ::1] scratch,
                double[:, :, ::1] sums, double[:, :, ::1] own_sums, double[:, ::1] totals, const float[:, ::1] kept,
                int n_threads):
        """Sums of p (1 - p) u over the features, u the log-odds of ``along``, of all pieces together.

        ``kept``: as :meth:`expect` left it for the same pieces and weights, or (tiles, 0).
        """
        cdef Py_ssize_t t
        for t in prange(weight.shape[0], nogil=True, schedule="dynamic", num_threads=n_threads):
            self.product_tile(tile0 + t, t, pieces, weight, own, constant, along, own_along, constant_along, scratch,
                              sums, own_sums, totals, kept)

    def blocks(self, Py_ssize_t tile, const int64_t[:, ::1] pieces, const real[:, ::1] weight,
               const real[:, ::1] own, const real[::1] constant, real[:, ::1] pairs, real[:, :, ::1] cross,
               real[:, :, ::1] square, real[:, ::1] kept, int64_t[::1] end, int32_t[:, ::1] entries):
        """Second moments of one tile with weight p (1 - p), added to the outputs (layout: pseudo_rows.h).

        Room: ``kept`` (rows, LANES) on a 64-byte boundary, ``end`` (features,), ``entries`` (2, at least features + BEYOND),
        zeros at first.
        """
        cdef lft_pseudo_rows rows = self.tile(tile)
        cdef lft_pseudo_weights at
        cdef lft_pseudo_moments out
        cdef lft_pseudo_room room
        cdef Py_ssize_t p
        at.weight, at.own, at.constant = &weight[0, 0], &own[0, 0], &constant[0]
        out.pairs, out.cross, out.square = &pairs[0, 0], &cross[0, 0, 0], &square[0, 0, 0]
        room.n_rows, room.n_entries = kept.shape[0], entries.shape[1] - LFT_PSEUDO_BEYOND
        room.kept = &kept[0, 0]
        room.end, room.row, room.entry = &end[0], &entries[0, 0], &entries[1, 0]
        with nogil:
            for p in range(pieces.shape[0]):
                lft_pseudo_blocks(&rows, pieces[p, 0], pieces[p, 1], &at, real is float, &out, &room)
