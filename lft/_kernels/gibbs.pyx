# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Heat bath of many chains of a Gibbs model.  Design: chains64.c."""
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from "chains64.h" nogil:
    ctypedef struct lft_gibbs_model:
        Py_ssize_t n_units, n_rows
        const double *c
        const int64_t *start
        const int32_t *to
        const double *w
        const int64_t *late_start
        const int32_t *late_to
        const int32_t *late_by
        const double *late_w
        const double *step
        int folded
    void lft_gibbs_sweep(const lft_gibbs_model *model, uint64_t *state, uint64_t word, uint64_t t, uint32_t stream,
                         uint64_t key)
    const char *lft_gibbs_path()
    int lft_gibbs_force(const char *name)


cdef class Model:
    """Log-odds of a unit: ``c``, edges within a row (start, to, w), edges to other rows (start, to, by, w), ``step``."""
    cdef lft_gibbs_model c
    cdef object keep

    def __init__(self, Py_ssize_t n_rows, const double[::1] c, const int64_t[::1] start, const int32_t[::1] to,
                 const double[::1] w, const int64_t[::1] late_start, const int32_t[::1] late_to,
                 const int32_t[::1] late_by, const double[::1] late_w, const double[::1] step, bint folded):
        self.keep = (c, start, to, w, late_start, late_to, late_by, late_w, step)
        self.c.n_units, self.c.n_rows = c.shape[0], n_rows
        self.c.c, self.c.start, self.c.to, self.c.w = &c[0], &start[0], &to[0], &w[0]
        self.c.late_start, self.c.late_to, self.c.late_by = &late_start[0], &late_to[0], &late_by[0]
        self.c.late_w = &late_w[0]
        self.c.step = NULL
        if step is not None:
            self.c.step = &step[0]
        self.c.folded = folded

    def sweep(self, uint64_t[:, :, ::1] state, uint64_t first, uint64_t t, uint32_t stream, uint64_t key,
              int n_threads):
        """One sweep of every word of ``state`` (words, rows, units); ``first`` is the number of its first word."""
        cdef Py_ssize_t word
        for word in prange(state.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            lft_gibbs_sweep(&self.c, &state[word, 0, 0], first + <uint64_t>word, t, stream, key)


def instruction_set():
    """``avx512`` or ``baseline``."""
    return (<bytes>lft_gibbs_path()).decode()


def force_instruction_set(name):
    """Use a given path (tests compare them); raises ValueError where the processor lacks it."""
    if not lft_gibbs_force(name.encode()):
        raise ValueError(f"instruction set {name!r} is not available on this processor")
