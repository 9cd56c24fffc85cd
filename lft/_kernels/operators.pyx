# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Sums of products of spins over 256 configurations at once; local fields; heat bath.  Design: products.c."""
from libc.stdint cimport int32_t, int64_t, int8_t, uint64_t

cdef extern from "products.h" nogil:
    enum:
        LFT_PRODUCTS_WORDS, LFT_PRODUCTS_PLANES
    ctypedef struct lft_products_rule:
        const int32_t *to
        Py_ssize_t n_sites
        int n_operators
        const int32_t *operator_start
        const int32_t *factor_start
        const int32_t *term
    void lft_products_count(const uint64_t *minus, const int32_t *to, Py_ssize_t n_sites, const int32_t *term,
                            int n_terms, const int32_t *base, Py_ssize_t n_base, uint64_t *planes)
    void lft_products_pack(const signed char *values, Py_ssize_t n_configurations, Py_ssize_t n_sites, Py_ssize_t row,
                           uint64_t *minus)
    void lft_products_keys(const lft_products_rule *rule, const signed char *spins, const int32_t *site, Py_ssize_t n,
                           const int64_t *weight, int64_t *key)
    void lft_products_sweep(const lft_products_rule *rule, const double *coupling, const int32_t *site, Py_ssize_t n,
                            const double *logistic, signed char *spins)

WORDS, PLANES = LFT_PRODUCTS_WORDS, LFT_PRODUCTS_PLANES


def pack(const int8_t[:, ::1] values, uint64_t[:, ::1] minus):
    """Bits of up to 64 WORDS configurations (n, sites): set where the value is negative."""
    lft_products_pack(<const signed char *>&values[0, 0], values.shape[0], minus.shape[0], values.shape[1], &minus[0, 0])


def count(const uint64_t[:, ::1] minus, const int32_t[:, ::1] to, const int32_t[::1] term, const int32_t[::1] base,
          Py_ssize_t n_base, uint64_t[:, ::1] planes):
    """Vertical counter of the products that are -1; ``base`` None: all products start at sites 0 .. n_base - 1."""
    cdef const int32_t *starts = NULL
    if base is not None:
        starts = &base[0]
    lft_products_count(&minus[0, 0], &to[0, 0], to.shape[1], &term[0], <int>term.shape[0], starts, n_base, &planes[0, 0])


cdef class Environment:
    """Who multiplies a site in each operator."""
    cdef lft_products_rule c
    cdef object keep

    def __init__(self, const int32_t[:, ::1] to, const int32_t[::1] operator_start, const int32_t[::1] factor_start,
                 const int32_t[::1] term):
        self.keep = (to, operator_start, factor_start, term)
        self.c.to, self.c.n_sites = &to[0, 0], to.shape[1]
        self.c.n_operators = <int>operator_start.shape[0] - 1
        self.c.operator_start, self.c.factor_start = &operator_start[0], &factor_start[0]
        self.c.term = &term[0]

    def keys(self, const int8_t[::1] spins, const int32_t[::1] site, const int64_t[::1] weight, int64_t[::1] key):
        """``sum_k weight_k f_k`` at the listed sites; spins has one more entry, 0."""
        with nogil:
            lft_products_keys(&self.c, <const signed char *>&spins[0], &site[0], site.shape[0], &weight[0], &key[0])

    def sweep(self, const double[::1] coupling, const int32_t[::1] site, const double[:, ::1] logistic,
              int8_t[:, ::1] spins):
        """One heat-bath sweep of every row of spins, sites in the order listed."""
        cdef Py_ssize_t c
        with nogil:
            for c in range(spins.shape[0]):
                lft_products_sweep(&self.c, &coupling[0], &site[0], site.shape[0], &logistic[c, 0],
                                   <signed char *>&spins[c, 0])
