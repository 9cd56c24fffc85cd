/* Logistic regressions of all units of a binary raster on shared patterns: expected sums, curvature, second moments.
 *
 * Design
 * ------
 * - Patterns, not matrices.  The log-odds of 32 target units (a tile) are kept in registers while the weights of the
 *   active features of a bin are added: 0/1 features need additions alone, and even units that fire in 30 % of the
 *   bins leave two thirds of a matrix product out.  Nothing of size bins x units is ever stored in floating point.
 *   Rejected: single-precision matrix products of unpacked rasters.
 * - Two kinds of features.  A shared feature acts on every target with a weight of its own (another unit, now or at a
 *   lag; the number of active units).  An own entry acts on one target in one bin (its own spikes at a lag; the
 *   correction where the unit itself is one of the active ones).  All families of Gibbs models are sums of the two.
 * - What is data is counted once, in integers, elsewhere; the loops add up the model's side alone.  log(1 + exp(z)) =
 *   max(z, 0) + log(1 + x), x = exp(-|z|), and the factors 1 + x <= 2 of 512 bins are multiplied before one
 *   logarithm is taken.
 * - Strips.  The log-odds of 32 bins are formed first, then their probabilities, lane group by lane group with the sums
 *   in registers, then the sums by feature: exponentials of a strip overlap.  Even and odd powers of their polynomial run
 *   side by side: 16.3 ms where Horner's rule takes 17.1 (40 units x 1e5 bins, 28 % firing).  What is left of a pass is
 *   two thirds exponentials, at the rate of the arithmetic.
 * - Precision.  Value and gradient in double.  Products with the curvature in single precision, spilled into double
 *   every 4096 bins: they steer the search, whose end the gradient decides.  Second moments in either.
 * - Gradient and curvature in one pass.  The pass that makes the gradient leaves p (1 - p) of all bins in single
 *   precision, where it fits in memory, and its sums over the bins: products of the same step read it (6.6 ms instead of
 *   11.5), and the sums, which a preconditioner needs, cost no pass.  It is always this pass that fills the room, also
 *   after a step that was refused: a search that goes on elsewhere has the same bits.
 * - Bits.  Every target is added up in the order of the bins and lanes never mix, so results depend neither on the
 *   instruction set (no fused multiply-add, exponential from basic operations) nor on how targets are shared out.
 * - Second moments.  Pairs of active features rather than a product per target: at 40 units that fire in 30 % of the
 *   bins a row has 91 pairs where a symmetric product has 861 entries.  The bins of a stretch are walked feature by
 *   feature: the sums of one feature stay in the cache, and the order of the additions is that of the bins all the same.
 *   Rejected: bin by bin, 467 ms instead of 356 (100 units x 5e4 bins, 26 %), 0.21 s instead of 0.12 (a tile of 1000
 *   units x 1e5 bins, 1 %), the same at 40 units, where stores are the limit; without fetching ahead 0.19 s in the
 *   second case; stretches of 8192 bins 0.16 s there.
 *
 * Measured, one thread of an AMD EPYC (Zen 4, AVX-512), gcc 12, CPU milliseconds while 13 other programs shared the two
 * cores:
 *                                                value and    product      second
 *                                                gradient                   moments
 *     40 units x 1e5 bins, firing in 28 %          16.3         6.6            79
 *     the same, firing in 8 %                      13           4.2            25
 *     100 units x 5e4 bins, firing in 26 %         37           14            356
 */
#include "pseudo_rows.h"
#include "instruction_sets.h"
#include <math.h>

#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are passed between inlined functions alone */
#endif
enum {
    SPILL = 4096,    /* rows of single-precision sums */
    LOGARITHM = 512, /* rows per logarithm */
    AHEAD = LFT_PSEUDO_BEYOND / 2, /* entries fetched before they are needed */
    STRIP = 32,      /* rows whose log-odds stand side by side, so that their exponentials overlap */
};

/* First own entry at or after a row. */
static ptrdiff_t first_own(const lft_pseudo_rows *rows, ptrdiff_t a)
{
    ptrdiff_t low = 0, high = rows->n_own;
    while (low < high) {
        const ptrdiff_t middle = low + (high - low) / 2;
        if (rows->own_row[middle] < a)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Numbers per row where p (1 - p) is kept in single precision. */
static ptrdiff_t kept_lanes(const lft_pseudo_rows *rows) { return (rows->n_lanes + 15) / 16 * 16; }

/* The entries of the rows first .. last - 1 sorted by feature: the row of each, and the entry itself. */
static void by_feature(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last, const lft_pseudo_room *room)
{
    const int64_t *start = rows->start, origin = start[first];
    memset(room->end, 0, (size_t)rows->n_features * sizeof *room->end);
    for (int64_t e = origin; e < start[last]; e++) room->end[rows->feature[e]]++;
    int64_t total = 0;
    for (ptrdiff_t f = 0; f < rows->n_features; f++) {
        const int64_t number = room->end[f];
        room->end[f] = total;
        total += number;
    }
    for (ptrdiff_t a = first; a < last; a++)
        for (int64_t e = start[a]; e < start[a + 1]; e++) {
            const int64_t s = room->end[rows->feature[e]]++;
            room->row[s] = (int32_t)(a - first);
            room->entry[s] = (int32_t)(e - origin);
        }
}

static const double taylor_double[] = {1 / 6227020800.0, 1 / 479001600.0, 1 / 39916800.0, 1 / 3628800.0, 1 / 362880.0,
                                       1 / 40320.0, 1 / 5040.0, 1 / 720.0, 1 / 120.0, 1 / 24.0, 1 / 6.0, 0.5, 1.0, 1.0};
static const float taylor_float[] = {1 / 5040.f, 1 / 720.f, 1 / 120.f, 1 / 24.f, 1 / 6.f, 0.5f, 1.f, 1.f};
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512")))

#define REAL double
#define INT int64_t
#define MAGIC 0x1.8p52
#define MANTISSA 52
#define LN2_HIGH 0x1.62e42fee00000p-1
#define LN2_LOW 0x1.a39ef35793c76p-33
#define LARGEST 700.0
#define POLYNOMIAL taylor_double
#define DEGREE 13
#define WITH_EXPECT
#define ATTR
#define NAME(x) x##_base_double
#include "pseudo_loops.h"
#undef ATTR
#undef NAME
#if LFT_X86
#define ATTR AVX2
#define NAME(x) x##_avx2_double
#include "pseudo_loops.h"
#undef ATTR
#undef NAME
#define ATTR AVX512
#define NAME(x) x##_avx512_double
#include "pseudo_loops.h"
#undef ATTR
#undef NAME
#endif
#undef REAL
#undef INT
#undef MAGIC
#undef MANTISSA
#undef LN2_HIGH
#undef LN2_LOW
#undef LARGEST
#undef POLYNOMIAL
#undef DEGREE
#undef WITH_EXPECT

#define REAL float
#define INT int32_t
#define MAGIC 0x1.8p23f
#define MANTISSA 23
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define LARGEST 80.0f
#define POLYNOMIAL taylor_float
#define DEGREE 7
#define WITH_PRODUCT
#define ATTR
#define NAME(x) x##_base_float
#include "pseudo_loops.h"
#undef ATTR
#undef NAME
#if LFT_X86
#define ATTR AVX2
#define NAME(x) x##_avx2_float
#include "pseudo_loops.h"
#undef ATTR
#undef NAME
#define ATTR AVX512
#define NAME(x) x##_avx512_float
#include "pseudo_loops.h"
#endif

typedef void (*expect_f)(const lft_pseudo_rows *, ptrdiff_t, ptrdiff_t, const lft_pseudo_weights *,
                         const lft_pseudo_sums *, float *);
typedef void (*product_f)(const lft_pseudo_rows *, ptrdiff_t, ptrdiff_t, const lft_pseudo_weights *,
                          const lft_pseudo_weights *, float *, const lft_pseudo_sums *, const float *);
typedef void (*blocks_f)(const lft_pseudo_rows *, ptrdiff_t, ptrdiff_t, const lft_pseudo_weights *,
                         const lft_pseudo_moments *, const lft_pseudo_room *);
typedef struct {
    const char *name;
    expect_f expect;
    product_f product;
    blocks_f blocks[2];
} pseudo_path;

#define PATH(name, set)                                                                                               \
    {name, expect_##set##_double, product_##set##_float, {blocks_##set##_double, blocks_##set##_float}}
static const pseudo_path paths[] = {
    PATH("baseline", base),
#if LFT_X86
    PATH("avx2", avx2),
    PATH("avx512", avx512),
#endif
};
LFT_PATHS(pseudo_path, lft_runs, LFT_NOTHING)

const char *lft_pseudo_path(void) { return path()->name; }
int lft_pseudo_force(const char *name) { return force_path(name); }

void lft_pseudo_expect(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last, const lft_pseudo_weights *at,
                       const lft_pseudo_sums *out, float *kept)
{
    path()->expect(rows, first, last, at, out, kept);
}

void lft_pseudo_product(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last, const lft_pseudo_weights *at,
                        const lft_pseudo_weights *along, float *scratch, const lft_pseudo_sums *out, const float *kept)
{
    path()->product(rows, first, last, at, along, scratch, out, kept);
}

void lft_pseudo_blocks(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last, const lft_pseudo_weights *at,
                       int is_single, const lft_pseudo_moments *out, const lft_pseudo_room *room)
{
    path()->blocks[is_single != 0](rows, first, last, at, out, room);
}
