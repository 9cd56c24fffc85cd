/* Products of several spins over a lattice: sums, local fields, heat bath.  Design: products.c. */
#ifndef LFT_PRODUCTS_H
#define LFT_PRODUCTS_H
#include <stddef.h>
#include <stdint.h>

#define LFT_PRODUCTS_WORDS 4  /* words per site: 256 configurations side by side */
#define LFT_PRODUCTS_PLANES 40 /* bits of a count */

/* minus[site][word]: bit set where the spin is -1.  A product has the rows ``term[first..last)`` of the table
 * ``to[row][site]``; it starts at every site of ``base`` (NULL: at sites 0 .. n_base - 1).  planes[p] is bit p of the
 * number of products that are -1, per configuration. */
void lft_products_count(const uint64_t *minus, const int32_t *to, ptrdiff_t n_sites, const int32_t *term, int n_terms,
                        const int32_t *base, ptrdiff_t n_base, uint64_t *planes);

/* values[configuration][site] (-1, 0, +1) to bits, 256 configurations at a time. */
void lft_products_pack(const signed char *values, ptrdiff_t n_configurations, ptrdiff_t n_sites, ptrdiff_t row,
                       uint64_t *minus);

/* The environment of a site: factor f of operator k is the product of the spins at ``to[term[t]][site]``,
 * factor_start[f] <= t < factor_start[f+1], operator_start[k] <= f < operator_start[k+1].  spins[n_sites] is 0 and
 * stands for all sites that do not exist. */
typedef struct {
    const int32_t *to;
    ptrdiff_t n_sites;
    int n_operators;
    const int32_t *operator_start, *factor_start, *term;
} lft_products_rule;

/* key = sum_k weight[k] f_k(site) */
void lft_products_keys(const lft_products_rule *rule, const signed char *spins, const int32_t *site, ptrdiff_t n,
                       const int64_t *weight, int64_t *key);
/* One heat-bath sweep, sites in order: s = +1 where 2 sum_k coupling[k] f_k(site) exceeds the logistic variate. */
void lft_products_sweep(const lft_products_rule *rule, const double *coupling, const int32_t *site, ptrdiff_t n,
                        const double *logistic, signed char *spins);
#endif
