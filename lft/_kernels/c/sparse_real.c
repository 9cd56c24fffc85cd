/* Real couplings on a sparse graph: many chains in lanes, few chains by colors.
 *
 * Design
 * ------
 * - What is decided.  A uniform of 52 bits u per unit, chain and update; the field f = h + sum J s in double
 *   precision, summed in the order of the edges; Metropolis flips when 2 s f beta < -log u, heat bath sets +1 when
 *   -2 f beta < log((1-u)/u).  This alone defines the chain.  It is evaluated (``accepts``) for about one decision
 *   in 20000.
 * - How most are decided.  The upper 16 bits k of u are drawn for eight chains or slots at a time; the probability
 *   q is computed in single precision with a bound of its relative error from rounding, fixed point and polynomial.
 *   (k+1)/65536 <= q (1 - margin) accepts, k/65536 >= q (1 + margin) rejects, else double precision decides with
 *   the other bits.  So bits cannot depend on the instruction set, and no double, logarithm or second random word
 *   is needed otherwise.  A unit whose bound is poor (margin > 1/4: a hub, a huge field) is always left to double
 *   precision.
 * - Lanes.  64 chains of a unit are one word, so at 1e5 units the spins of 64 chains are 0.8 MB and stay in L2; as
 *   bytes they would be 6.4 MB.  The bits of a neighbor are the mask of one addition: f = (h - sum J) + sum of 2 J
 *   over set bits.  Fetching the neighbors 24 edges ahead: 1.45 updates/ns, without 1.13, all in L1 1.53.  Units in
 *   order; a factor beta per chain costs nothing, it is part of the constant -2 log2 e.
 * - Colors (one chain).  Units of a color are contiguous slots, padded to 32, and decided a register at a time from
 *   fields that are kept: a unit that flips adds +-2 J to its neighbors' fields.  The fields are integers (fixed
 *   point, scaled per unit to below 2^30), so they depend on the spins alone, not on history.  A decision takes 0.7
 *   ns and a flip 5.6 ns, so the rate grows as the system freezes.  Rejected: gathering the neighbors of every
 *   unit.  The fields alone then take 3.8 ns (gathers of floats), 3.3 ns (loads of bytes) or 2.3 ns (gathers of
 *   bits), which wins above an acceptance of 0.4 only.  Groups of a color are decided by 64 before any neighbor is
 *   told, 0.40 updates/ns; told after each group of 32 slots, 0.30: the mispredicted loop over the flips then waits
 *   for the whole decision.
 * - Random numbers.  ARS-7 (ars.h), counter = [ group 64 | update t 48 | stream 4 | 4 zeros | index 8 ]; group is
 *   unit | (chain / 8) << 32 for lanes, slot / 8 | chain << 32 for colors; index 0: the 16 upper bits of eight
 *   uniforms, index 128 + n: the others of number n.  The slots follow from the couplings alone.
 * - Threads share out words of chains (lanes) or chains (colors); one chain runs on one thread.
 *
 * Measured, updates/ns, one thread of an AMD EPYC (Zen 4), gcc 12, 1e5 units of degree 6, J Gaussian of width 1,
 * Metropolis, beta 0.5, acceptance 0.27:
 *                  64 chains, lanes    16     8     4      one chain, colors
 *     avx512             1.45         0.62  0.31  0.15       0.40
 *     avx2               0.52
 *     baseline           0.028                               0.05
 * Colors with 3e4 units at beta 0.1, 0.5, 1, 4 (acceptance 0.81, 0.27, 0.083, 0.014): 0.19, 0.43, 0.60, 1.2.  The
 * other core was in use.
 */
#include "ars.h"
#include "philox.h"
#include "sparse_real.h"

/* ---- the decision in double precision: what defines the chain */
static int accepts(const lft_sparse_net *net, ptrdiff_t i, double field, double spin, double beta, uint64_t bits)
{
    double u = ((double)(bits >> 12) + 0.5) * 0x1p-52;
    if (net->heatbath) {
        lft_logistic(&u, 1);
        return -2.0 * field * beta < u;
    }
    lft_exponential(&u, 1);
    return 2.0 * spin * field * beta + net->extra[i] < u;
}

/* Bits of a uniform: the first 16 come from the block of a group of eight, the others from a block of its own. */
static uint64_t uniform_bits(uint64_t counter, int r, uint64_t high, uint64_t key)
{
    uint64_t head[2], tail[2];
    ars_block(counter, high, key, head);
    ars_block(counter, high | 128 | (uint64_t)(r & 7), key, tail);
    return (head[(r & 7) >> 2] >> (16 * (r & 3)) & 0xFFFF) << 48 | tail[0] >> 16;
}

static __attribute__((noinline)) int lane_exact(const lft_sparse_net *net, const uint64_t *state, ptrdiff_t i, int r,
                                                double beta, uint64_t counter, uint64_t high, uint64_t key)
{
    double field = net->h[i];
    for (int64_t e = net->start[i]; e < net->start[i + 1]; e++)
        field += (state[net->to[e]] >> r & 1) ? net->J[e] : -net->J[e];
    return accepts(net, i, field, (state[i] >> r & 1) ? 1.0 : -1.0, beta,
                   uniform_bits(counter + ((uint64_t)(r >> 3) << 32), r, high, key));
}

static __attribute__((noinline)) int slot_exact(const lft_sparse_net *net, const uint32_t *state, ptrdiff_t x,
                                                uint64_t counter, uint64_t high, uint64_t key)
{
    double field = net->h[x];
    for (int64_t e = net->start[x]; e < net->start[x + 1]; e++)
        field += (state[net->to[e] >> 5] >> (net->to[e] & 31) & 1) ? net->J[e] : -net->J[e];
    return accepts(net, x, field, (state[x >> 5] >> (x & 31) & 1) ? 1.0 : -1.0, 1.0,
                   uniform_bits(counter + (uint64_t)((x & 31) >> 3), (int)(x & 7), high, key));
}

/* The changes of n groups of slots, added to the fields of their neighbors. */
static void tell_neighbors(const lft_sparse_net *net, const uint32_t *state, int32_t *field, ptrdiff_t group,
                           const uint32_t *changed, ptrdiff_t n)
{
    for (ptrdiff_t k = 0; k < n; k++) {
        for (uint32_t rest = changed[k]; rest; rest &= rest - 1) {
            const int b = __builtin_ctz(rest);
            const ptrdiff_t x = (group + k) * LFT_SLOTS + b;
            const int32_t sign = (int32_t)(state[group + k] >> b & 1) - 1; /* 0 up, -1 down */
            for (int64_t e = net->start[x]; e < net->start[x + 1]; e++)
                field[net->to[e]] += (net->push[e] ^ sign) - sign;
        }
    }
}

/* ---- the loops, once per instruction set */
typedef float floats4 __attribute__((vector_size(16)));
#define EACH(name, arguments, value)                                                                                  \
    static inline floats4 name arguments                                                                              \
    {                                                                                                                 \
        floats4 out;                                                                                                  \
        for (int j = 0; j < 4; j++) out[j] = value;                                                                   \
        return out;                                                                                                   \
    }
EACH(min_plain, (floats4 a, floats4 b), a[j] < b[j] ? a[j] : b[j])
EACH(max_plain, (floats4 a, floats4 b), a[j] > b[j] ? a[j] : b[j])
EACH(add_plain, (floats4 x, uint64_t bits, floats4 y), bits >> j & 1 ? x[j] + y[j] : x[j])
EACH(negate_plain, (floats4 x, uint64_t bits), bits >> j & 1 ? -x[j] : x[j])
static inline uint32_t less_plain(floats4 a, floats4 b)
{
    uint32_t bits = 0;
    for (int j = 0; j < 4; j++) bits |= (uint32_t)(a[j] < b[j]) << j;
    return bits;
}

#define LFT_SPARSE_REAL_LOOPS
#define LFT_PATH 0
#include "ars_macros.h"
#define FMA(a, b, c) ((a) * (b) + (c))
#define MIN min_plain
#define MAX max_plain
#define LESS_BITS less_plain
#define ADD_IF add_plain
#define NEGATE_IF negate_plain
#include "sparse_real.h"
#undef FMA
#undef MIN
#undef MAX
#undef LESS_BITS
#undef ADD_IF
#undef NEGATE_IF

#if LFT_X86
AVX2 static inline __attribute__((always_inline)) __m256 expand_avx2(uint32_t bits)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), bit), bit));
}
#define LFT_PATH 1
#include "ars_macros.h"
#define FMA(a, b, c) ((a) * (b) + (c))
#define MIN(a, b) ((F)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define MAX(a, b) ((F)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define LESS_BITS(a, b) ((uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)(a), (__m256)(b), _CMP_LT_OQ)))
#define ADD_IF(x, bits, y) ((x) + (F)_mm256_and_ps(expand_avx2((uint32_t)(bits)), (__m256)(y)))
#define NEGATE_IF(x, bits)                                                                                            \
    ((F)_mm256_xor_ps((__m256)(x), _mm256_and_ps(expand_avx2(bits), _mm256_set1_ps(-0.0f))))
#include "sparse_real.h"
#undef FMA
#undef MIN
#undef MAX
#undef LESS_BITS
#undef ADD_IF
#undef NEGATE_IF

#define LFT_PATH 2
#include "ars_macros.h"
#define FMA(a, b, c) ((F)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define MIN(a, b) ((F)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define MAX(a, b) ((F)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define LESS_BITS(a, b) ((uint32_t)_mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_LT_OQ))
#define ADD_IF(x, bits, y) ((F)_mm512_mask_add_ps((__m512)(x), (__mmask16)(bits), (__m512)(x), (__m512)(y)))
#define NEGATE_IF(x, bits)                                                                                            \
    ((F)_mm512_mask_xor_ps((__m512)(x), (__mmask16)(bits), (__m512)(x), _mm512_set1_ps(-0.0f)))
#include "sparse_real.h"
#endif

/* ---- choice at run time */
typedef struct {
    const char *name;
    int64_t (*lanes)(const lft_sparse_net *, uint64_t *, uint64_t, const double *, uint64_t, uint64_t, uint64_t);
    int64_t (*colors)(const lft_sparse_net *, uint32_t *, int32_t *, uint64_t, uint64_t, uint64_t);
    void (*block)(uint64_t, uint64_t, uint64_t, uint64_t *);
} sparse_path;

static const sparse_path paths[] = {
    {"baseline", lanes_sweep_baseline, colors_sweep_baseline, block_plain},
#if LFT_X86
    {"avx2", lanes_sweep_avx2, colors_sweep_avx2, block_aes},
    {"avx512", lanes_sweep_avx512, colors_sweep_avx512, block_aes},
#endif
};

LFT_PATHS(sparse_path, lft_ars_runs, LFT_ARS_TABLES)

const char *lft_sparse_real_path(void) { return path()->name; }
int lft_sparse_real_force(const char *name) { return force_path(name); }

int64_t lft_sparse_lanes_sweep(const lft_sparse_net *net, uint64_t *state, const uint64_t *mask, const double *beta,
                               ptrdiff_t n_words, uint64_t word0, uint64_t t, uint32_t stream, uint64_t key,
                               int n_threads)
{
    const uint64_t high = t << 16 | (uint64_t)(stream & 15) << 12;
    const sparse_path *use = path();
    int64_t flips = 0;
    (void)n_threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_threads) reduction(+ : flips) schedule(dynamic, 1) if (n_threads > 1)
#endif
    for (ptrdiff_t w = 0; w < n_words; w++)
        flips += use->lanes(net, state + net->n * w, mask[w], beta + 64 * w, word0 + (uint64_t)w, high, key);
    return flips;
}

int64_t lft_sparse_colors_sweep(const lft_sparse_net *net, uint32_t *state, int32_t *field, ptrdiff_t n_chains,
                                uint64_t chain0, uint64_t t, uint32_t stream, uint64_t key, int n_threads)
{
    const uint64_t high = t << 16 | (uint64_t)(stream & 15) << 12;
    const sparse_path *use = path();
    int64_t flips = 0;
    (void)n_threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_threads) reduction(+ : flips) schedule(dynamic, 1) if (n_threads > 1)
#endif
    for (ptrdiff_t c = 0; c < n_chains; c++)
        flips += use->colors(net, state + net->n / LFT_SLOTS * c, field + net->n * c, chain0 + (uint64_t)c, high, key);
    return flips;
}

/* ---- set-up */
void lft_sparse_colors_fields(const lft_sparse_net *net, const int32_t *own, const uint32_t *state, int32_t *field,
                              ptrdiff_t n_chains)
{
    for (ptrdiff_t c = 0; c < n_chains; c++, state += net->n / LFT_SLOTS, field += net->n) {
        memcpy(field, own, (size_t)net->n * sizeof *field);
        for (ptrdiff_t x = 0; x < net->n; x++) {
            const int32_t sign = (int32_t)(state[x >> 5] >> (x & 31) & 1) - 1;
            for (int64_t e = net->start[x]; e < net->start[x + 1]; e++)
                field[net->to[e]] += ((net->push[e] / 2) ^ sign) - sign;
        }
    }
}

/* Greedy coloring in the order of the units: color[i] is the lowest that no neighbor below i has; ``last`` holds n
 * numbers below 0 and is scratch.  Returns the number of colors. */
ptrdiff_t lft_sparse_color(ptrdiff_t n, const int64_t *start, const int32_t *to, int32_t *color, int32_t *last)
{
    int32_t colors = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        int32_t c = 0;
        for (int64_t e = start[i]; e < start[i + 1]; e++)
            if (to[e] < i) last[color[to[e]]] = (int32_t)i;
        while (c < colors && last[c] == (int32_t)i) c++;
        color[i] = c;
        if (c == colors) colors++;
    }
    return colors;
}

void lft_sparse_random(uint64_t low, uint64_t high, uint64_t key, uint64_t out[2])
{
    path();
    ars_block(low, high, key, out);
}
