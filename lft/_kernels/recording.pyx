# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Spike times into bins: the loops over all spikes of a recording.

Design.  Spikes come unit by unit, ascending in each unit, so

- the spikes inside the window are found by two bisections per unit; cutting many trials out of a long
  recording costs the spikes of the trials, not those of the recording;
- a spike is clipped exactly if its bin is that of the spike before it.  The raster is written and never read:
  one million spikes into a 90000 x 4096 raster that is already in memory take 20 ms, all of it cache misses.
  The first touch of its pages by the operating system costs more than the loop.

The raster is a flat int8 array: bin ``a`` of unit ``u`` is the element ``column[u] + a * row_stride``, so the
same loop fills a (time, unit) raster and the (time, x, y, ...) block of a lattice field with its halo.
Sorting the spikes by time first (sequential stores) was rejected: the sort alone costs more than the loop.

The rule of the edges.  Bin ``a`` covers ``[start + a bin, start + (a + 1) bin)``.  Times and bin widths such
as 0.06 and 0.02 are not binary fractions, and the floor of their quotient may be one too small; a spike that
lies less than ``EDGE = 1e-6`` bins before an edge therefore counts as being on it.  This is far above the
rounding error of the quotient (valid up to 1e9 bins) and far below the sampling interval of any recording.
"""
from libc.math cimport isfinite
from libc.stdint cimport int8_t, int64_t

cdef double EDGE = 1e-6

EDGE_TOLERANCE = EDGE
VALID, NOT_FINITE, NEGATIVE, DESCENDING, TOO_LATE = range(5)


cdef inline double position(double time, double start, double width) noexcept nogil:
    """Place of a time in units of bins; its integer part (if not negative) is the bin."""
    return (time - start) / width + EDGE


cdef Py_ssize_t first_from(const double[::1] times, Py_ssize_t low, Py_ssize_t high, double start, double
width,
                           double row) noexcept nogil:
    """First index of the ascending ``times[low:high]`` at or after the lower edge of a bin."""
    cdef Py_ssize_t middle
    while low < high:
        middle = low + (high - low) // 2
        if position(times[middle], start, width) < row:
            low = middle + 1
        else:
            high = middle
    return low


cdef void bin_unit(const double[::1] times, Py_ssize_t first, Py_ssize_t last, double start, double width,
                   int8_t[::1] raster, Py_ssize_t origin, Py_ssize_t row_stride, Py_ssize_t n_rows,
                   int64_t *clipped, int64_t *outside) noexcept nogil:
    cdef Py_ssize_t low = first_from(times, first, last, start, width, 0.0)
    cdef Py_ssize_t high = first_from(times, low, last, start, width, <double> n_rows)
    cdef Py_ssize_t k, row, previous = -1, repeated = 0
    for k in range(low, high):
        row = <Py_ssize_t> position(times[k], start, width)  # not negative here: truncation is the floor
        repeated += row == previous
        previous = row
        raster[origin + row * row_stride] = 1
    clipped[0] = repeated
    outside[0] = (last - first) - (high - low)


def bin_spikes(const double[::1] times, const int64_t[::1] index, const int64_t[::1] column,
               int8_t[::1] raster, Py_ssize_t row_stride, Py_ssize_t n_rows, double start, double width,
               int64_t[:, ::1] counts):
    """Write 1 into the bin of every spike of unit ``u``, ``times[index[u]:index[u+1]]``.

    ``counts`` (units, 3) receives the spikes of the unit, those clipped (second and later in a bin) and those
    outside the window.  About 20 ns per spike (a cache miss each) in a large raster.  Arguments are trusted.
    """
    cdef Py_ssize_t u
    with nogil:
        for u in range(column.shape[0]):
            counts[u, 0] = index[u + 1] - index[u]
            bin_unit(times, index[u], index[u + 1], start, width, raster, column[u], row_stride, n_rows,
                     &counts[u, 1], &counts[u, 2])


def first_violation(const double[::1] times, const int64_t[::1] index, double duration):
    """(what, unit, index) of the first time that is not finite, negative, out of order or too late.

    ``what`` is one of NOT_FINITE, NEGATIVE, DESCENDING, TOO_LATE; (VALID, -1, -1) if there is none.
    """
    cdef Py_ssize_t u, k
    cdef int what = 0
    with nogil:
        for u in range(index.shape[0] - 1):
            for k in range(index[u], index[u + 1]):
                if not isfinite(times[k]):
                    what = 1
                elif times[k] < 0:
                    what = 2
                elif k > index[u] and times[k] < times[k - 1]:
                    what = 3
                elif times[k] > duration:
                    what = 4
                if what:
                    break
            if what:
                break
    if not what:
        return VALID, -1, -1
    return what, u, k
