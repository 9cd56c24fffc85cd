# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Sums over lagged spikes for causal models, and the drawing of causal chains bin by bin.

Design
------
All targets share one design matrix, the lagged spikes ``x_j(a-k)``; only the weights of the rows differ.  It is never
built: the spikes lie once by bin (what happened at a-1, a-2, ...) and once by unit.

* Eight targets at a time.  One visit of a pair of spikes adds eight numbers that lie side by side (one cache line, one
  AVX-512 register): per target it costs 8 times less than one target alone, where every sum is a scattered access.
* Hessian by source: all sums that involve the source j at lag k go to one block (lags x units x 8 doubles: 64 kB with
  1000 units and one lag), which stays in the second-level cache.  The visits of a source lie far apart in time, so that
  weights and lists are fetched ahead: without that each visit waits for memory three times (0.5 s per target instead of
  0.1 s at the size below).  Row by row over the whole matrix would scatter over 8 MB per target; dense products would
  take T P^2 multiplications, 2e4 times as many as there are pairs of spikes at 1000 units and a rate of 1 %.
* Only j' >= j is visited (the lists ascend, so it is their tail); the caller mirrors.
* A unit with n spikes in a bin stands n times in the lists: counts need no values.
* Logistic terms of a row of lanes in one pass with an exponential of their own: 2.5 ns each; NumPy's passes over memory
  took 12 ns, and the scalar loop that the compiler made of the same C without vector types 11 ns.
* Bases of filters are applied by the caller to these sums, so that any basis costs the same.

Measured on one core of a busy Zen 4 machine, scaled to 1000 units, 1e6 bins, 1 % rate, one lag, CPU time per target:
predict 4 ms, gather 4 ms, pairs 0.1 s.  Drawing: 11 us per bin of 1000 units.

Drawing: couplings lie by (lag, source), targets contiguous; a bin costs the rows of the spikes in its past, plus one
uniform and one logarithm per unit (philox.c).  The order of the additions is fixed (lag, then source), so a bin has the
same bits whoever draws it.
"""
from libc.math cimport exp
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from lft._kernels cimport noise
import numpy as np

LANES = 8
LOGIT, CLOGLOG, POISSON = range(3)
MAX_RATE = 500.0

cdef extern from "lagged_lanes.h" nogil:
    ctypedef struct lft_spikes:
        const int64_t *ptr
        const int32_t *unit
        Py_ssize_t n_units
        Py_ssize_t n_lags
        const uint8_t *fits
    void lft_lagged_predict(const lft_spikes *s, Py_ssize_t start, Py_ssize_t stop, const double *theta, double *out)
    void lft_lagged_gather(const lft_spikes *s, Py_ssize_t start, Py_ssize_t stop, const double *r, double *out)
    void lft_lagged_logit(Py_ssize_t start, Py_ssize_t stop, const uint8_t *fits, const double *eta, const int32_t *row,
                          const uint8_t *lane, Py_ssize_t n, double *r, double *w, double *value)
    void lft_lagged_pairs(const lft_spikes *s, Py_ssize_t j, const int32_t *t, Py_ssize_t n, Py_ssize_t n_bins,
                          const double *w, double *out)
    const char *lft_lagged_path()
    int lft_lagged_force(const char *name)


def path():
    """Name of the loops in use: ``avx512``, ``avx2`` or ``baseline``."""
    return lft_lagged_path().decode()


def force(name):
    """Use the loops of this name from now on (tests); False where they do not run."""
    return bool(lft_lagged_force(name.encode()))


cdef lft_spikes bundle(const int64_t[::1] ptr, const int32_t[::1] unit, Py_ssize_t n_units, Py_ssize_t n_lags,
                       const uint8_t[::1] fits):
    cdef lft_spikes s
    s.ptr = &ptr[0]
    s.unit = &unit[0] if unit.shape[0] else NULL
    s.n_units, s.n_lags = n_units, n_lags
    s.fits = &fits[0]
    return s


def predict(const int64_t[::1] ptr, const int32_t[::1] unit, const uint8_t[::1] fits, Py_ssize_t start,
            Py_ssize_t stop, const double[:, :, ::1] theta, double[:, ::1] out):
    """``out[a - start, lane] += sum_k sum_j theta[k-1, j, lane] x_j(a-k)`` for the fitted rows."""
    cdef lft_spikes s = bundle(ptr, unit, theta.shape[1], theta.shape[0], fits)
    if start < stop and theta.shape[0] and theta.shape[1]:
        with nogil:
            lft_lagged_predict(&s, start, stop, &theta[0, 0, 0], &out[0, 0])


def gather(const int64_t[::1] ptr, const int32_t[::1] unit, const uint8_t[::1] fits, Py_ssize_t start,
           Py_ssize_t stop, const double[:, ::1] r, double[:, :, ::1] out):
    """``out[k-1, j, lane] += sum_a x_j(a-k) r[a - start, lane]`` over the fitted rows."""
    cdef lft_spikes s = bundle(ptr, unit, out.shape[1], out.shape[0], fits)
    if start < stop and out.shape[0] and out.shape[1]:
        with nogil:
            lft_lagged_gather(&s, start, stop, &r[0, 0], &out[0, 0, 0])


def logit(Py_ssize_t start, Py_ssize_t stop, const uint8_t[::1] fits, const double[:, ::1] eta, const int32_t[::1] row,
          const uint8_t[::1] lane, double[:, ::1] r, double[:, ::1] w, double[::1] value):
    """Residuals, weights and value of logistic rows: ``eta``, ``r``, ``w`` hold the rows start <= a < stop."""
    cdef Py_ssize_t n = row.shape[0]
    if start < stop:
        with nogil:
            lft_lagged_logit(start, stop, &fits[0], &eta[0, 0], &row[0] if n else NULL, &lane[0] if n else NULL, n,
                             &r[0, 0], &w[0, 0], &value[0])


def pairs(const int64_t[::1] ptr, const int32_t[::1] unit, const uint8_t[::1] fits, Py_ssize_t j,
          const int32_t[::1] times, const double[:, ::1] w, double[:, :, :, ::1] out):
    """``out[k-1, k'-1, j', lane] = sum_a x_j(a-k) x_j'(a-k') w[a, lane]`` for j' >= j (0 below); ``times`` of source j."""
    cdef lft_spikes s = bundle(ptr, unit, out.shape[2], out.shape[0], fits)
    if out.shape[0] and out.shape[2]:
        memset(&out[0, 0, 0, 0], 0, out.shape[0] * out.shape[1] * out.shape[2] * LANES * sizeof(double))
    if times.shape[0] and out.shape[0]:
        with nogil:
            lft_lagged_pairs(&s, j, &times[0], times.shape[0], w.shape[0], &w[0, 0], &out[0, 0, 0, 0])


# ---- drawing
cdef void add_past(const double[:, :, ::1] coupling, const int32_t[:, ::1] lists, const int64_t[::1] length,
                   Py_ssize_t a, double *field) noexcept nogil:
    """field_i += sum_k sum_j coupling[k-1, j, i] x_j(a-k); the bin b lies in slot b % K of the lists."""
    cdef Py_ssize_t n_lags = coupling.shape[0], n = coupling.shape[1], k, m, i, slot
    cdef const double *row
    for k in range(1, n_lags + 1):
        slot = (a - k) % n_lags
        for m in range(length[slot]):
            row = &coupling[k - 1, lists[slot, m], 0]
            for i in range(n):
                field[i] += row[i]


cdef void remember(const int8_t *row, Py_ssize_t n, Py_ssize_t slot, int32_t[:, ::1] lists,
                   int64_t[::1] length) noexcept nogil:
    """Put the units of a row into a slot, as often as they fired."""
    cdef Py_ssize_t j, count = 0
    cdef int8_t c
    for j in range(n):
        for c in range(row[j]):
            lists[slot, count] = <int32_t> j
            count += 1
    length[slot] = count


cdef int draw_row(int link, double *field, double *u, Py_ssize_t n, int8_t *out) noexcept nogil:
    """One bin of all units; returns 1 where a Poisson rate is out of range."""
    cdef Py_ssize_t i
    cdef double mean, p, total
    cdef int count
    if link == 0:
        noise.logistic(u, n)
        for i in range(n):
            out[i] = -u[i] < field[i]
    elif link == 1:
        noise.exponential(u, n)
        noise.log_inplace(u, n)
        for i in range(n):
            out[i] = u[i] < field[i]
    else:
        for i in range(n):
            if not field[i] < 6.2:  # log of MAX_RATE
                return 1
            mean = exp(field[i])
            p = exp(-mean)
            total, count = p, 0
            while u[i] > total and p > 0:
                count += 1
                p *= mean / count
                total += p
            if count > 127:
                return 1
            out[i] = <int8_t> count
    return 0


def draw(int link, const double[::1] h, const double[:, :, ::1] coupling, inputs, int8_t[:, ::1] rows,
         uint64_t first_bin, uint64_t t, uint32_t stream, uint64_t key):
    """Draw ``rows[K:]`` bin by bin given the past, whose first K bins are ``rows[:K]``.

    ``coupling`` (lag, source, target); ``inputs`` (bins, N) is added to h, or None.  The bin b = 0, 1, ... of the draw
    uses the random numbers of the sites ``(first_bin + b) N + i``.  Returns the bin at which a Poisson rate left its
    range, or -1.
    """
    cdef Py_ssize_t n = h.shape[0], n_lags = coupling.shape[0], a, i, wide = 127 if link == 2 else 1
    cdef double[::1] field = np.empty(max(n, 1)), u = np.empty(max(n, 1)), v = np.empty(max(n, 1))
    cdef int32_t[:, ::1] lists = np.empty((max(n_lags, 1), n * wide), np.int32)
    cdef int64_t[::1] length = np.zeros(max(n_lags, 1), np.int64)
    cdef bint has_input = inputs is not None
    cdef const double[:, ::1] extra = inputs if has_input else np.zeros((1, n))
    cdef Py_ssize_t failed = -1
    with nogil:
        for a in range(n_lags):
            remember(&rows[a, 0], n, a % n_lags, lists, length)
        for a in range(n_lags, rows.shape[0]):
            for i in range(n):
                field[i] = h[i]
            if has_input:
                for i in range(n):
                    field[i] += extra[a - n_lags, i]
            if n_lags:
                add_past(coupling, lists, length, a, &field[0])
            noise.uniforms((first_bin + <uint64_t> (a - n_lags)) * <uint64_t> n, 1, n, t, stream, 0, key, &u[0], &v[0])
            if draw_row(link, &field[0], &u[0], n, &rows[a, 0]):
                failed = a - n_lags
                break
            if n_lags:
                remember(&rows[a, 0], n, a % n_lags, lists, length)
    return failed


def fields(const double[::1] h, const double[:, :, ::1] coupling, const int8_t[:, ::1] rows, double[:, ::1] out):
    """``out[b] = h + sum of the couplings to the past`` of the bins ``rows[K + b]``."""
    cdef Py_ssize_t n = h.shape[0], n_lags = coupling.shape[0], a, i
    cdef int8_t highest = max(np.max(rows), 1) if rows.shape[0] and rows.shape[1] else 1
    cdef int32_t[:, ::1] lists = np.empty((max(n_lags, 1), n * highest), np.int32)
    cdef int64_t[::1] length = np.zeros(max(n_lags, 1), np.int64)
    with nogil:
        for a in range(rows.shape[0]):
            if a >= n_lags:
                for i in range(n):
                    out[a - n_lags, i] = h[i]
                if n_lags:
                    add_past(coupling, lists, length, a, &out[a - n_lags, 0])
            if n_lags:
                remember(&rows[a, 0], n, a % n_lags, lists, length)
