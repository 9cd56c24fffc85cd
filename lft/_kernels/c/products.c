/* Products of several spins over a lattice: sums over many configurations, local fields, heat bath.
 *
 * Design
 * ------
 * - Sums.  256 configurations stand side by side in four words per site, so a product is the exclusive or of as many
 *   words as it has spins, in any dimension and on any boundary; neighbors come from tables of site numbers.  Packing the
 *   sites of one configuration into words instead would need shifts across words and wastes most of a word on the small
 *   lattices that blocking ends with.  int8 products by shifted views (numpy) cost 20 times as much on 64 x 64.
 * - Counting.  Eight products at a time pass a tree of carry-save adders (5 operations per word and adder, 7 adders),
 *   what overflows is added to the planes of a vertical counter.
 * - Local fields and sweeps are about one configuration at a time: int8 spins, one site after the other.  They serve
 *   fits and moment matching on small lattices; nearest-neighbor chains have faster loops (bitslice.c).
 * - Absence.  A product with a site that does not exist is none: such base sites are not listed (sums), or the spin 0
 *   that stands for them takes the product out (local fields).
 *
 * Measured, one core of an EPYC (Zen 4), gcc 12, while other programs ran: 0.04 ns per product and configuration on
 * 64 x 64 (4.4 us per configuration for 11 operators of 27 shapes, 0.9 us of them packing), 0.021 ns on 64^3 (413 us, 74
 * shapes); small lattices are limited by the calls, 1.6 us per configuration.  Local fields: 4 ns per factor and site.
 */
#include "products.h"
#include <string.h>

#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are passed between inlined functions alone */
#endif
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

typedef uint64_t word __attribute__((vector_size(8 * LFT_PRODUCTS_WORDS), may_alias));
typedef uint64_t word_in_memory __attribute__((vector_size(8 * LFT_PRODUCTS_WORDS), may_alias, aligned(8)));

#define CSA(high, low, a, b, c)                   \
    do {                                          \
        const word u_ = (a) ^ (b), c_ = (c);      \
        (high) = ((a) & (b)) | (u_ & c_);         \
        (low) = u_ ^ c_;                          \
    } while (0)

INLINE word product(const word_in_memory *minus, const int32_t *to, ptrdiff_t n_sites, const int32_t *term, int n_terms,
                    ptrdiff_t x)
{
    word p = minus[to[term[0] * n_sites + x]];
    for (int k = 1; k < n_terms; k++) p ^= minus[to[term[k] * n_sites + x]];
    return p;
}

INLINE void count(const word_in_memory *minus, const int32_t *to, ptrdiff_t n_sites, const int32_t *term, int n_terms,
                  const int32_t *base, ptrdiff_t n_base, word *planes)
{
    word ones = {0}, twos = {0}, fours = {0};
    ptrdiff_t i = 0;
    for (; i + 8 <= n_base; i += 8) {
        word p[8], two[4], four[2], eight;
        for (int j = 0; j < 8; j++)
            p[j] = product(minus, to, n_sites, term, n_terms, base ? base[i + j] : i + j);
        for (int j = 0; j < 4; j++) CSA(two[j], ones, ones, p[2 * j], p[2 * j + 1]);
        for (int j = 0; j < 2; j++) CSA(four[j], twos, twos, two[2 * j], two[2 * j + 1]);
        CSA(eight, fours, fours, four[0], four[1]);
        for (int b = 3; b < LFT_PRODUCTS_PLANES; b++) {
            const word carry = planes[b] & eight;
            planes[b] ^= eight;
            eight = carry;
            uint64_t any = 0;
            for (int w = 0; w < LFT_PRODUCTS_WORDS; w++) any |= carry[w];
            if (!any) break;
        }
    }
    planes[0] = ones;
    planes[1] = twos;
    planes[2] = fours;
    for (; i < n_base; i++) {
        word one = product(minus, to, n_sites, term, n_terms, base ? base[i] : i);
        for (int b = 0; b < LFT_PRODUCTS_PLANES; b++) {
            const word carry = planes[b] & one;
            planes[b] ^= one;
            one = carry;
        }
    }
}

/* The number of terms is a constant in each call, so that the loop over them disappears. */
CLONES void lft_products_count(const uint64_t *minus_words, const int32_t *to, ptrdiff_t n_sites, const int32_t *term,
                               int n_terms, const int32_t *base, ptrdiff_t n_base, uint64_t *planes_words)
{
    const word_in_memory *minus = (const word_in_memory *)minus_words;
    word planes[LFT_PRODUCTS_PLANES];
    memset(planes, 0, sizeof planes);
    switch (n_terms) {
    case 1: count(minus, to, n_sites, term, 1, base, n_base, planes); break;
    case 2: count(minus, to, n_sites, term, 2, base, n_base, planes); break;
    case 3: count(minus, to, n_sites, term, 3, base, n_base, planes); break;
    case 4: count(minus, to, n_sites, term, 4, base, n_base, planes); break;
    default: count(minus, to, n_sites, term, n_terms, base, n_base, planes);
    }
    memcpy(planes_words, planes, sizeof planes);
}

CLONES void lft_products_pack(const signed char *values, ptrdiff_t n_configurations, ptrdiff_t n_sites, ptrdiff_t row,
                              uint64_t *minus)
{
    memset(minus, 0, (size_t)n_sites * LFT_PRODUCTS_WORDS * 8);
    for (ptrdiff_t w = 0; w * 64 < n_configurations; w++) {
        const ptrdiff_t last = n_configurations - 64 * w < 64 ? n_configurations - 64 * w : 64;
        for (ptrdiff_t x0 = 0; x0 < n_sites; x0 += 512) { /* a strip of sites, so that its words stay in the cache */
            const ptrdiff_t n = n_sites - x0 < 512 ? n_sites - x0 : 512;
            uint64_t strip[512] = {0};
            for (ptrdiff_t c = 0; c < last; c++) {
                const signed char *v = values + (64 * w + c) * row + x0;
                for (ptrdiff_t x = 0; x < n; x++) strip[x] |= (uint64_t)(v[x] < 0) << c;
            }
            for (ptrdiff_t x = 0; x < n; x++) minus[(x0 + x) * LFT_PRODUCTS_WORDS + w] = strip[x];
        }
    }
}

INLINE int local_field(const lft_products_rule *r, const signed char *spins, int k, ptrdiff_t x)
{
    int sum = 0;
    for (int f = r->operator_start[k]; f < r->operator_start[k + 1]; f++) {
        int p = 1;
        for (int t = r->factor_start[f]; t < r->factor_start[f + 1]; t++) p *= spins[r->to[r->term[t] * r->n_sites + x]];
        sum += p;
    }
    return sum;
}

void lft_products_keys(const lft_products_rule *r, const signed char *spins, const int32_t *site, ptrdiff_t n,
                       const int64_t *weight, int64_t *key)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t sum = 0;
        for (int k = 0; k < r->n_operators; k++) sum += weight[k] * local_field(r, spins, k, site[i]);
        key[i] = sum;
    }
}

void lft_products_sweep(const lft_products_rule *r, const double *coupling, const int32_t *site, ptrdiff_t n,
                        const double *logistic, signed char *spins)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        double eta = 0;
        for (int k = 0; k < r->n_operators; k++) eta += coupling[k] * local_field(r, spins, k, site[i]);
        spins[site[i]] = 2 * eta > logistic[i] ? 1 : -1;
    }
}
