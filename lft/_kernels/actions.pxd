"""Built-in actions as the generic loops see them: final classes with inline site functions.

Contract (README.md in this folder): ``phi`` is the flat padded local field, ``p`` the flat index of the site, ``q``
its index within one time slice (for couplings that differ between sites), ``n`` the number of displacements (a
literal inside the loops, so that the compiler unrolls).  Absent neighbors (open ends, inactive sites) read 0.

binary fields   raising(phi, p, q, n)        S(phi_p = high) - S(phi_p = low), whatever phi_p is now
                site_action(phi, p, q, n)    share of S: the site and its forward bonds
real fields     site_dS(phi, p, q, new, n)   S(phi_p = new) - S(phi_p)
                site_force(phi, p, q, n)     -dS/dphi_p
                site_action(phi, p, q, n)
"""
cimport cython

from libc.stddef cimport ptrdiff_t

ctypedef signed char cell

cdef enum:
    MAX_DISPLACEMENTS = 64

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>
    #if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define LFT_EIGHT 1
    #else
    #define LFT_EIGHT 0
    #endif
    /* sum_j w[j] x[j] of values 0 and 1, in the order of j: eight silent units cost one comparison */
    static inline double lft_sum_where(const double *w, const signed char *x, ptrdiff_t n)
    {
        double f = 0.0;
        ptrdiff_t j = 0;
    #if LFT_EIGHT
        for (; j + 8 <= n; j += 8) {
            uint64_t eight;
            memcpy(&eight, x + j, 8);
            for (; eight; eight &= eight - 1) f += w[j + (__builtin_ctzll(eight) >> 3)];
        }
    #endif
        for (; j < n; j++)
            if (x[j]) f += w[j];
        return f;
    }
    """
    double lft_sum_where(const double *w, const cell *x, ptrdiff_t n) noexcept nogil


@cython.final
cdef class IsingKernel:
    """S = - sum_d K_d sum_x s_x s_(x+d) - sum_x h_x s_x,  s = +-1 (0 where no site exists)."""
    cdef public int low, high, n
    cdef Py_ssize_t offset[MAX_DISPLACEMENTS]
    cdef double K[MAX_DISPLACEMENTS]
    cdef double h
    cdef const double *h_site
    cdef object owner

    cdef inline double raising(self, const cell *s, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double f = self.h
        cdef int d
        if self.h_site != NULL:
            f = self.h_site[q]
        for d in range(n):
            f += self.K[d] * (s[p + self.offset[d]] + s[p - self.offset[d]])
        return -2.0 * f

    cdef inline double site_action(self, const cell *s, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double f = self.h
        cdef int d
        if self.h_site != NULL:
            f = self.h_site[q]
        for d in range(n):
            f += self.K[d] * s[p + self.offset[d]]
        return -f * s[p]


@cython.final
cdef class NeuralKernel:
    """S = sum_(a, i<j) J_ij phi_i^a phi_j^a + sum_(i, a, k) K_k phi_i^a phi_i^(a+k) + sum_(i, a) h_i phi_i^a.

    ``J = 2 A``, ``K = 2 B``, ``h = I``; phi = 0, 1.  J is dense (row-major, n_units^2) or CSR.  ``by_bin``: h is one
    number per unit (0), or per site of the padded block (1), which costs the loops no branch.
    """
    cdef public int low, high, n
    cdef Py_ssize_t offset[MAX_DISPLACEMENTS]
    cdef double K[MAX_DISPLACEMENTS]
    cdef Py_ssize_t n_units
    cdef const double *h
    cdef Py_ssize_t by_bin
    cdef const double *J
    cdef const double *value
    cdef const Py_ssize_t *indptr
    cdef const Py_ssize_t *index
    cdef object owner

    cdef inline double raising(self, const cell *phi, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double f = self.h[q + self.by_bin * (p - q)]
        cdef const cell *row = phi + (p - q)
        cdef const double *J
        cdef Py_ssize_t j
        cdef int d
        for d in range(n):
            f += self.K[d] * (phi[p + self.offset[d]] + phi[p - self.offset[d]])
        if self.J != NULL:
            J = self.J + q * self.n_units
            for j in range(self.n_units):
                f += J[j] * row[j]
        elif self.indptr != NULL:
            for j in range(self.indptr[q], self.indptr[q + 1]):
                f += self.value[j] * row[self.index[j]]
        return f

    cdef inline double site_action(self, const cell *phi, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double f = self.h[q + self.by_bin * (p - q)]
        cdef const cell *row = phi + (p - q)
        cdef const double *J
        cdef Py_ssize_t j
        cdef int d
        if phi[p] == 0:
            return 0.0
        for d in range(n):
            f += self.K[d] * phi[p + self.offset[d]]
        if self.J != NULL:
            J = self.J + q * self.n_units
            for j in range(q + 1, self.n_units):
                f += J[j] * row[j]
        elif self.indptr != NULL:
            for j in range(self.indptr[q], self.indptr[q + 1]):
                if self.index[j] > q:
                    f += self.value[j] * row[self.index[j]]
        return f


@cython.final
cdef class PairwiseKernel:
    """S = - sum_(a, i<j) J_ij s_i^a s_j^a - sum_(i, a) h_i s_i^a,  s = +-1.  J is dense (row-major) or CSR."""
    cdef public int low, high, n
    cdef Py_ssize_t n_units
    cdef const double *h
    cdef const double *J
    cdef const double *value
    cdef const Py_ssize_t *indptr
    cdef const Py_ssize_t *index
    cdef object owner

    cdef inline double raising(self, const cell *s, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double f = self.h[q]
        cdef const cell *row = s + (p - q)
        cdef const double *J
        cdef Py_ssize_t j
        if self.J != NULL:
            J = self.J + q * self.n_units
            for j in range(self.n_units):
                f += J[j] * row[j]
        else:
            for j in range(self.indptr[q], self.indptr[q + 1]):
                f += self.value[j] * row[self.index[j]]
        return -2.0 * f

    cdef inline double site_action(self, const cell *s, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double f = self.h[q]
        cdef const cell *row = s + (p - q)
        cdef const double *J
        cdef Py_ssize_t j
        if self.J != NULL:
            J = self.J + q * self.n_units
            for j in range(q + 1, self.n_units):
                f += J[j] * row[j]
        else:
            for j in range(self.indptr[q], self.indptr[q + 1]):
                if self.index[j] > q:
                    f += self.value[j] * row[self.index[j]]
        return -f * s[p]


@cython.final
cdef class GibbsKernel:
    """S = sum_(a, i<j) J_ij phi_i^a phi_j^a + sum_(i, a) h_i phi_i^a - sum_a V(sum_i phi_i^a)
    + sum_(k, i, j, a) late_k,ij phi_i^a phi_j^(a+k),  phi = 0, 1;  S(site) leaves V out, which belongs to whole bins.

    ``J = 2 A``, ``h = I`` per unit or site as above; ``late`` (displacement, 2, unit, unit) holds the couplings of a unit (row) to the later and
    to the earlier bin; ``step[K] = V(K) - V(K+1)`` of K other units that fire.  Each may be NULL.
    """
    cdef public int low, high, n
    cdef Py_ssize_t offset[MAX_DISPLACEMENTS]
    cdef Py_ssize_t n_units
    cdef const double *h
    cdef Py_ssize_t by_bin
    cdef const double *J
    cdef const double *late
    cdef const double *step
    cdef object owner

    cdef inline double raising(self, const cell *phi, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double f = self.h[q + self.by_bin * (p - q)]
        cdef const cell *row = phi + (p - q)
        cdef Py_ssize_t N = self.n_units, j
        cdef int d, count = 0
        if self.J != NULL:
            f += lft_sum_where(self.J + q * N, row, N)
        for d in range(n):
            f += lft_sum_where(self.late + (2 * d * N + q) * N, row + self.offset[d], N)
            f += lft_sum_where(self.late + ((2 * d + 1) * N + q) * N, row - self.offset[d], N)
        if self.step != NULL:
            for j in range(N):
                count += row[j]
            f += self.step[count - row[q]]
        return f

    cdef inline double site_action(self, const cell *phi, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double f = self.h[q + self.by_bin * (p - q)]
        cdef const cell *row = phi + (p - q)
        cdef Py_ssize_t N = self.n_units
        cdef int d
        if phi[p] == 0:
            return 0.0
        if self.J != NULL:
            f += lft_sum_where(self.J + q * N + q + 1, row + q + 1, N - q - 1)
        for d in range(n):
            f += lft_sum_where(self.late + (2 * d * N + q) * N, row + self.offset[d], N)
        return f


@cython.final
cdef class Phi4Kernel:
    """S = sum_x [ -2 sum_d kappa_d phi_x phi_(x+d) + unit phi_x^2 + lambda (phi_x^2 - 1)^2 ]."""
    cdef public int n
    cdef Py_ssize_t offset[MAX_DISPLACEMENTS]
    cdef double kappa[MAX_DISPLACEMENTS]
    cdef double lam, unit

    cdef inline double site_dS(self, const double *phi, Py_ssize_t p, Py_ssize_t q, double new, int n) noexcept nogil:
        cdef double x = phi[p], f = 0.0, a, b
        cdef int d
        for d in range(n):
            f += self.kappa[d] * (phi[p + self.offset[d]] + phi[p - self.offset[d]])
        a, b = x * x, new * new
        return (b - a) * (self.unit + self.lam * (a + b - 2.0)) - 2.0 * f * (new - x)

    cdef inline double site_force(self, const double *phi, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double x = phi[p], f = 0.0
        cdef int d
        for d in range(n):
            f += self.kappa[d] * (phi[p + self.offset[d]] + phi[p - self.offset[d]])
        return 2.0 * f - 2.0 * self.unit * x - 4.0 * self.lam * x * (x * x - 1.0)

    cdef inline double site_action(self, const double *phi, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double x = phi[p], f = 0.0, a
        cdef int d
        for d in range(n):
            f += self.kappa[d] * phi[p + self.offset[d]]
        a = x * x
        return self.unit * a + self.lam * (a - 1.0) * (a - 1.0) - 2.0 * f * x


ctypedef fused binary_action_t:
    IsingKernel
    NeuralKernel
    PairwiseKernel
    GibbsKernel

ctypedef fused real_action_t:
    Phi4Kernel
