/* Bit-sliced chains of one graph with couplings +-K: one bit per chain, 512 chains of a unit in one register.
 *
 * Design
 * ------
 * - Layout.  A block of 512 chains holds 8 words per unit, unit after unit: one cache line.  Chains are numbered
 *   over all ranks; a rank's first block begins at a multiple of 128 chains and a mask tells which bits exist, so
 *   two ranks may both hold a word and use different bits of it.  Threads share out blocks.
 * - Order.  Units in order, one after the other: chains are the vector, so nothing need be colored.
 * - Decision.  Only the number of neighbors that push against (Metropolis) or up (heat bath) matters.  Units of
 *   equal degree and field share a rule: a class, and a threshold round(2^64 p), per count.  The upper 11 bits of a
 *   uniform are compared bit-sliced, what is then undecided draws a block of its own for the other 53: exact to
 *   2^-64.  Other than on a lattice (bitslice.c) undecided chains follow at once, since the next unit may be a
 *   neighbor.
 * - Counts.  Up to eight neighbors without a field: one-hot, unrolled per degree.  Any degree and field: binary
 *   counters and a table of combinations.  A rule with more than 32 different thresholds (a hub with weak
 *   couplings) goes chain by chain with whole 64-bit uniforms; isolated units without a field flip with probability
 *   1/2 under Metropolis.
 * - Random numbers.  ARS-7 with counter = [ unit and group of 128 chains 64 | update t 48 | stream 4 | 0 | index 8
 *   ]; index k < 11: round k of the head, one bit per chain; index 128 + n: chain n of the group.  The bytes of
 *   unit and group lie where the rounds of the head share two of the seven AES rounds (bitslice.c): 1.2 times
 *   faster.
 * - Memory.  A unit touches a cache line per neighbor, which at 1e5 units come from L3: they are fetched ahead by
 *   24 edges, four units.  24 edges: 7.3 to 8.0 updates/ns; 12: 5.6 to 8.1; 36: 3.0 to 3.4; 64: 3.8 to 5.9; 160:
 *   4.8 (on a busy machine).
 *
 * Measured, updates/ns, one thread of an AMD EPYC (Zen 4), gcc 12, 512 chains, degree 6, +-J, beta 0.5, Metropolis
 * (acceptance 0.25), the other core in use:
 *                 1e5 units    1e4 and 2000 units, before two rounds were shared
 *     avx512         9.6                      10.9
 *     avx2           5.4
 *     baseline       0.36
 * Blocks are whole: 64 chains cost as much as 512 and run at 1.35, as fast as in lanes (sparse_real.c).
 */
#include "ars.h"
#include "sparse_bits.h"

static const uint64_t signs[2] = {0, ~(uint64_t)0};

/* Lower word of the counter of unit i < 2^28 and a group of 128 chains < 2^20: bits 0-15 and 24-55, where they share
 * two rounds of AES among all rounds of the head (bitslice.c). */
static inline uint64_t counter(ptrdiff_t i, uint64_t group)
{
    return low_word((uint64_t)i) | group << LFT_SPARSE_GROUP_BIT;
}

/* Which combination of members and own spin one chain has. */
static int combination(const lft_sparse_graph *g, const lft_sparse_rule *rule, const uint64_t *state, ptrdiff_t i,
                       ptrdiff_t w, int b)
{
    const int32_t *to = g->to + g->start[i];
    const uint64_t spin = state[LFT_SPARSE_WORDS * i + w] >> b & 1, same = rule->heatbath ? 0 : spin;
    int count = 0;
    for (int m = 0; m < rule->degree; m++)
        count += (int)((state[LFT_SPARSE_WORDS * (ptrdiff_t)(to[m] >> 1) + w] >> b ^ same ^ (uint64_t)to[m]) & 1);
    return count + (rule->by_spin && spin ? rule->degree + 1 : 0);
}

/* Units with too many thresholds: chain by chain, a whole 64-bit uniform from the chain's own block. */
static int64_t single_unit(const lft_sparse_graph *g, const lft_sparse_rule *rule, uint64_t *state,
                           const uint64_t *mask, ptrdiff_t i, uint64_t group, uint64_t high, uint64_t key)
{
    int64_t flips = 0;
    for (ptrdiff_t w = 0; w < LFT_SPARSE_WORDS; w++) {
        for (uint64_t rest = mask[w]; rest; rest &= rest - 1) {
            const int b = __builtin_ctzll(rest), combo = combination(g, rule, state, i, w, b);
            uint64_t block[2], *own = state + LFT_SPARSE_WORDS * i + w;
            ars_block(counter(i, group + (uint64_t)(w >> 1)), high | 128 | (uint64_t)((w & 1) << 6 | b), key, block);
            uint64_t accept = rule->class_of[combo] == LFT_SPARSE_ALWAYS || block[0] < rule->threshold[combo];
            uint64_t flip = rule->heatbath ? accept ^ rule->inverted[combo] ^ (*own >> b & 1) : accept;
            *own ^= flip << b;
            flips += (int64_t)flip;
        }
    }
    return flips;
}

/* ---- the loops, once per instruction set */
#define LFT_SPARSE_BITS_LOOPS
#define LFT_PATH 0
#include "ars_macros.h"
#include "sparse_bits.h"
#if LFT_X86
#define LFT_PATH 1
#include "ars_macros.h"
#include "sparse_bits.h"
#define LFT_PATH 2
#include "ars_macros.h"
#include "sparse_bits.h"
#endif

/* ---- bytes <-> bits: 64 units of a chain */
static inline uint64_t eight_bits(uint64_t bytes) /* bit 0 of byte i to bit i */
{
    return (bytes & 0x0101010101010101u) * 0x0102040810204080u >> 56;
}

static inline uint64_t eight_bytes(uint64_t bits) /* its inverse */
{
    bits = bits * 0x0101010101010101u & 0x8040201008040201u;
    return (((bits + 0x7F7F7F7F7F7F7F7Fu) | bits) >> 7) & 0x0101010101010101u;
}

static uint64_t gather_plain(const signed char *values)
{
    uint64_t word = 0, bytes;
    for (ptrdiff_t b = 0; b < 64; b += 8) {
        memcpy(&bytes, values + b, 8);
        word |= eight_bits(bytes & ~(bytes >> 7)) << b; /* +1 -> 1; 0 and -1 -> 0 */
    }
    return word;
}

static void scatter_plain(uint64_t word, int low, signed char *values)
{
    for (ptrdiff_t b = 0; b < 64; b += 8) {
        const uint64_t bits = eight_bytes(word >> b & 255);
        const uint64_t bytes = low ? bits | (0x0101010101010101u - bits) * 255 : bits;
        memcpy(values + b, &bytes, 8);
    }
}

#if LFT_X86
AVX512 static uint64_t gather_avx512(const signed char *values)
{
    return (uint64_t)_mm512_cmpgt_epi8_mask(_mm512_loadu_si512(values), _mm512_setzero_si512());
}

AVX512 static void scatter_avx512(uint64_t word, int low, signed char *values)
{
    _mm512_storeu_si512(values, _mm512_mask_blend_epi8(word, _mm512_set1_epi8((char)low), _mm512_set1_epi8(1)));
}
#endif

/* ---- choice at run time */
typedef struct {
    const char *name;
    int64_t (*sweep)(const lft_sparse_graph *, uint64_t *, const uint64_t *, uint64_t, uint64_t, uint64_t);
    void (*block)(uint64_t, uint64_t, uint64_t, uint64_t *);
    uint64_t (*gather)(const signed char *); /* 64 values -> bits */
    void (*scatter)(uint64_t, int, signed char *);
} sparse_path;

static const sparse_path paths[] = {
    {"baseline", sweep_baseline, block_plain, gather_plain, scatter_plain},
#if LFT_X86
    {"avx2", sweep_avx2, block_aes, gather_plain, scatter_plain},
    {"avx512", sweep_avx512, block_aes, gather_avx512, scatter_avx512},
#endif
};

LFT_PATHS(sparse_path, lft_ars_runs, LFT_ARS_TABLES)

const char *lft_sparse_bits_path(void) { return path()->name; }
int lft_sparse_bits_force(const char *name) { return force_path(name); }

int64_t lft_sparse_bits_sweep(const lft_sparse_graph *graph, uint64_t *state, const uint64_t *mask, ptrdiff_t n_blocks,
                              uint64_t group, uint64_t t, uint32_t stream, uint64_t key, int n_threads)
{
    const uint64_t high = t << 16 | (uint64_t)(stream & 15) << 12;
    const sparse_path *use = path();
    int64_t flips = 0;
    (void)n_threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_threads) reduction(+ : flips) schedule(dynamic, 1) if (n_threads > 1)
#endif
    for (ptrdiff_t b = 0; b < n_blocks; b++)
        flips += use->sweep(graph, state + LFT_SPARSE_WORDS * graph->n * b, mask + LFT_SPARSE_WORDS * b,
                            group + (uint64_t)(4 * b), high, key);
    return flips;
}

/* ---- tiles of 64 chains and 64 units */
static void transpose(uint64_t x[64]) /* bit j of word i <-> bit i of word j */
{
    uint64_t m = 0x00000000FFFFFFFFu;
    for (int j = 32; j; j >>= 1, m ^= m << j)
        for (int k = 0; k < 64; k = ((k | j) + 1) & ~j) {
            uint64_t y = (x[k] >> j ^ x[k | j]) & m;
            x[k] ^= y << j;
            x[k | j] ^= y;
        }
}

/* Chain r of n_rows to bit first + r of a word per unit, other bits 0; positive values are set bits. */
void lft_sparse_pack(const signed char *values, ptrdiff_t row, ptrdiff_t n_rows, ptrdiff_t n, int first,
                     uint64_t *words, ptrdiff_t step)
{
    const sparse_path *use = path();
    for (ptrdiff_t i = 0; i < n; i += 64) {
        const ptrdiff_t m = n - i < 64 ? n - i : 64;
        uint64_t tile[64] = {0};
        for (ptrdiff_t r = 0; r < n_rows; r++) {
            const signed char *line = values + r * row + i;
            signed char part[64] = {0};
            if (m < 64) memcpy(part, line, (size_t)m);
            tile[first + r] = use->gather(m < 64 ? part : line);
        }
        transpose(tile);
        for (ptrdiff_t b = 0; b < m; b++) words[(i + b) * step] = tile[b];
    }
}

/* Its inverse; low is the value of a bit that is not set, -1 or 0. */
void lft_sparse_unpack(const uint64_t *words, ptrdiff_t step, ptrdiff_t n, ptrdiff_t n_rows, int first, int low,
                       signed char *values, ptrdiff_t row)
{
    const sparse_path *use = path();
    for (ptrdiff_t i = 0; i < n; i += 64) {
        const ptrdiff_t m = n - i < 64 ? n - i : 64;
        uint64_t tile[64] = {0};
        for (ptrdiff_t b = 0; b < m; b++) tile[b] = words[(i + b) * step];
        transpose(tile);
        for (ptrdiff_t r = 0; r < n_rows; r++) {
            signed char *line = values + r * row + i, part[64];
            use->scatter(tile[first + r], low, m < 64 ? part : line);
            if (m < 64) memcpy(line, part, (size_t)m);
        }
    }
}
