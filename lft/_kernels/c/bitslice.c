/* Bit-sliced Ising sweeps: one bit per site, nearest neighbors, one K per axis, one h.
 *
 * Design
 * ------
 * - Layout.  Two planes of bits, one per checkerboard color.  A line of L sites holds in each plane a row of ceil(L/2)
 *   bits: in plane c the sites j = 2m + r, r = (sum of the line's other coordinates + c) mod 2.  Rows are padded to
 *   128 bits with zeros and lie without gaps, with halo rows from the neighboring lines, so a register may span
 *   several short lines, and neighbors in other lines are loads at a fixed distance.  Along the line one neighbor is
 *   the other plane's bit m; the other is bit m-1 (r = 0) or m+1 (r = 1), prepared with the wrap for a chunk of
 *   lines at a time in ``side``.  On a periodic axis of odd extent the neighbor across the seam has the same color:
 *   the caller swaps the planes of that halo and updates the last plane as a class of its own.
 * - Decision.  A 64-bit uniform per site is compared with round(2^64 p), p = 1 being a class without a threshold.  The
 *   upper 11 bits (the head) are compared bit-sliced for all sites, without a branch; the one site in 2^11 that is
 *   then undecided draws a block of its own for the other 53 (the tail, after each chunk, from a list).  Comparing on
 *   until no site is undecided needs two to three further rounds per register and a mispredicted branch.
 * - Classes.  Metropolis compares neighbors with the site, so only counts of unlike neighbors matter; K < 0 flips a
 *   bit; equal |K| share a count.  Counts are one-hot (one multiplexer per neighbor and count), which is no dearer
 *   than an adder followed by its decoder.  Heat bath without h: the probability of the likelier value, inverted
 *   where the majority is down, which halves the thresholds.  Two groups (different K, h) have
 *   loops of fixed sizes, 0.6 to 0.7 of the rate; what has more goes through tables in memory, 0.3 of it.
 * - Ends of open lines lack a neighbor that is a bit of the same register: the sliced update masks them out and they
 *   follow one by one, with the second word of their own block as the uniform.  Lines at an open face have a rule
 *   of their own instead.
 * - A closed last axis of odd length has its seam inside the rows: the last column, masked out of the sliced update,
 *   is a color class of its own that follows site by site (60 ns each), with the first site's bit from its own plane.
 * - Threads share the chunks of a class of sites, which only read the other plane and write their own lines.
 * - Random numbers.  ARS-7 (Salmon, Moraes, Dror, Shaw, SC11, 2011): seven rounds of AES (the last without
 *   MixColumns) with the round keys key + i (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B).  A block of 128 bits has
 *       counter = [ 128-bit unit of the global lattice 48, spread | update t 48 | stream 4 | 3 zeros, color 1 | index 8 ]
 *   index k < 11: round k of the head, one bit per site; index 128 + n: site n of the unit.  So a chain depends
 *   neither on ranks nor on the instruction set.  A zmm of AES costs one cycle per round (measured), 7 cycles per 512
 *   bits; Philox4x32-10 (philox.c, AVX-512, conversion to doubles included) 8.0 ns, 29 cycles.  Without AES
 *   instructions Philox would win; such processors use tables here.
 * - Two of the seven rounds are shared.  Byte i of the state enters column (i/4 - i) mod 4 of the next one, and the
 *   bytes of the unit lie where they miss column 2, the one of the index: bytes 2 and 7 are zero.  So after one round
 *   index and unit are in different columns, after two the state is P(unit) xor Q(index), P for index 0 and Q constant
 *   through a sweep: 2 + 11 x 5 rounds per register in place of 11 x 7, with the same bits.  Five rounds in all, the
 *   fewest that Salmon et al. accept: 21.0-21.6 updates/ns against 17.9-18.2 (1024^2, the same day; heat bath 18.5-18.8
 *   against 16.7-17.0).  The margin is worth more, and the statistical batteries have seen seven.
 * - The rounds are generated three at a time, each three followed by their comparisons: 17.1 updates/ns (4096^2); one
 *   at a time 17.2, four 16.9, all eleven 15.4 (the scheduler fills up).  Head of 9, 10, 11, 12 bits: 12.4, 13.4, 13.6,
 *   13.0 in an early version; 10 bits now 16.4-16.9 against 17.9-18.2 with 11.  Chunks of 256, 512, 1024 words: 18.0,
 *   18.2, 18.1.  Undecided sites handled after each register instead of after a chunk: 9.9 then.
 * - Of 102 cycles per 512 sites (Metropolis, 1024^2) the rounds take 57 (5.2 each: five of AES and five operations in
 *   the other two pipes; 5.4 measured alone), the undecided sites 11, the neighbors along the line 8.  Stores of a
 *   zmm cost two cycles.  Four neighbors go through two adders, 6 cycles less than one-hot counts.  The rounds alone
 *   allow 32 updates/ns: rates beyond 20 need fewer rounds, or a core with two AES pipes of 512 bits.
 * - Counting while sweeping.  A bond has one end of the color that is updated last, so the last pass can count what it
 *   leaves, chunk by chunk, from the lines and the shifted neighbors that it has just had in L1.  Measuring after every
 *   sweep costs 6.4 us in place of 20 us of a pass of its own at 1024^2 (10 % of the sweep in place of 32 %), 63 in place of
 *   210 us at 4096^2, 97 in place of 376 us at 256^3.  Rejected: a loop per neighbor (11.7, 100, 160 us).  Not tried: in
 *   the registers of the decision: the sites that the tail flips later would have to be mended one by one, for two of
 *   the five loads that it saves.  Lines of odd closed length keep the separate pass: their seam bonds join one color.
 * - Deep halos.  Random numbers belong to sites, so a rank can update lines of its halo as their owner does: several
 *   sweeps per exchange, in one call (lft/bits.py).  Processor time per sweep of 1024^2 between two ranks, 22 layers, 11
 *   sweeps per exchange: 59.2 us against 59.5 us alone; of 64 x 64 x 256, 6 layers, 80.6 against 71.6.  An exchange
 *   after each color costs 11 us twice per sweep, half of it Python.
 *
 * Measured, updates/ns, one thread of an AMD EPYC (Zen 4), gcc 12, Metropolis / heat bath, K isotropic, periodic:
 *                  1024^2        4096^2        256^3         64^3         64^2
 *     avx512     17.9 / 16.5   17.9 / 16.4   14.4 / 12.5   3.8 / 3.4   3.4 / 3.5
 *     avx2        5.3 / 4.9                   4.3 / 4.2     1.2 / 1.1   1.2 / 1.2
 * with the other core busy; 1024^2 with different K per axis 12.5 / 10.7, with h 10.6 / 12.0, all ends open 12.4 / 12.0.
 * Rows shorter than 128 bits (L < 256) waste the rest of each unit, small lattices pay about
 * a microsecond per sweep outside the loops.
 *
 * Rows are words of 64 bits exchanged as bytes: a little-endian processor is assumed (lft/bits.py checks).
 */
#include "ars.h"
#include "bitslice.h"
#ifdef _OPENMP
#include <omp.h>
#endif

void lft_bits_aes_round(uint64_t state[2], const uint64_t key[2], int last)
{
    if (!sbox[0]) fill_tables();
    aes_round(state, key, last);
}

/* ---- the ends of open lines, site by site */

/* Counts of the members' bits, mixed radix; ``neighbor`` is the bit of the neighbor of kind SELF. */
static inline int combination(const lft_bits_rule *rule, const uint64_t *const *at, ptrdiff_t bit, ptrdiff_t neighbor,
                              uint64_t spin)
{
    const uint64_t same = rule->heatbath ? 0 : spin;
    int combo = 0;
    for (int g = 0, m = 0; g < rule->n_groups; g++) {
        int count = 0;
        for (int k = 0; k < rule->size[g]; k++, m++) {
            ptrdiff_t b = rule->kind[m] == LFT_BITS_SELF ? neighbor : bit;
            uint64_t x = rule->kind[m] == LFT_BITS_SPIN ? spin : at[m][b >> 6] >> (b & 63) ^ same;
            count += (int)((x ^ rule->flip[m]) & 1);
        }
        combo = combo * (rule->size[g] + 1) + count;
    }
    return combo;
}

static int64_t end_site(const lft_bits_rule *rule, const uint64_t *const *at, uint64_t *own, ptrdiff_t bit,
                        ptrdiff_t neighbor, uint64_t unit, uint64_t high, uint64_t key)
{
    uint64_t spin = own[bit >> 6] >> (bit & 63) & 1, block[2], accept = 1;
    const int combo = combination(rule, at, bit, neighbor, spin), c = rule->class_of[combo];
    ars_block(low_word(unit + (uint64_t)(bit >> 7)), high | 128 | (uint64_t)(bit & 127), key, block);
    if (c != LFT_BITS_ALWAYS) accept = block[1] < rule->threshold[c];
    uint64_t flip = rule->heatbath ? accept ^ rule->inverted[combo] ^ spin : accept;
    own[bit >> 6] ^= flip << (bit & 63);
    return (int64_t)flip;
}

static int64_t end_sites(const lft_bits_rule *rule, const lft_bits_rows *rows, uint64_t *own, const uint64_t *other,
                         ptrdiff_t lines, int r, uint64_t unit, uint64_t high, uint64_t key)
{
    int64_t flips = 0;
    const int is_odd = rows->bits[0] != rows->bits[1];
    const ptrdiff_t end = rows->bits[0] - 1; /* of an odd length the last even site, else the last odd site */
    const uint64_t *at[LFT_BITS_MEMBERS];
    for (ptrdiff_t l = 0; l < lines; l++, r ^= 1) {
        for (int m = 0; m < rule->n_members; m++) at[m] = other + rule->offset[m];
        if (r == 0) flips += end_site(rule, at, own, 0, 0, unit, high, key);
        if (r == 0 && is_odd) flips += end_site(rule, at, own, end, end - 1, unit, high, key);
        if (r == 1 && !is_odd) flips += end_site(rule, at, own, end, end, unit, high, key);
        own += rows->words;
        other += rows->words;
        unit += (uint64_t)(rows->words >> 1);
    }
    return flips;
}

/* On even rows; the neighbors along the line are the last odd site and, in the own plane, the first. */
static int64_t seam_sites(const lft_bits_rule *rule, const lft_bits_rows *rows, uint64_t *own, const uint64_t *other,
                          ptrdiff_t lines, int r, uint64_t unit, uint64_t high, uint64_t key)
{
    int64_t flips = 0;
    const ptrdiff_t end = rows->bits[0] - 1, words = rows->words;
    const uint64_t *at[LFT_BITS_MEMBERS];
    for (ptrdiff_t l = r & 1; l < lines; l += 2) {
        uint64_t *row = own + l * words, first = (row[0] & 1) << (end & 63);
        for (int m = 0; m < rule->n_members; m++)
            at[m] = rule->kind[m] == LFT_BITS_SIDE ? &first - (end >> 6) : other + l * words + rule->offset[m];
        flips += end_site(rule, at, row, end, end - 1, unit + (uint64_t)(l * (words >> 1)), high, key);
    }
    return flips;
}

/* ---- the loops, once per instruction set */
#define LFT_BITS_LOOPS
#define LFT_PATH 0
#include "ars_macros.h"
#include "bitslice.h"
#if LFT_X86
#define LFT_PATH 1
#include "ars_macros.h"
#include "bitslice.h"
#define LFT_PATH 2
#include "ars_macros.h"
#include "bitslice.h"
#endif

/* ---- bytes <-> bits */
static inline uint64_t pairs_apart(uint64_t x) /* even bits of x to the low half, odd bits to the high half */
{
    uint64_t y;
    y = (x ^ x >> 1) & 0x2222222222222222u, x ^= y ^ y << 1;
    y = (x ^ x >> 2) & 0x0C0C0C0C0C0C0C0Cu, x ^= y ^ y << 2;
    y = (x ^ x >> 4) & 0x00F000F000F000F0u, x ^= y ^ y << 4;
    y = (x ^ x >> 8) & 0x0000FF000000FF00u, x ^= y ^ y << 8;
    y = (x ^ x >> 16) & 0x00000000FFFF0000u, x ^= y ^ y << 16;
    return x;
}

static inline uint64_t pairs_together(uint64_t x)
{
    uint64_t y;
    y = (x ^ x >> 16) & 0x00000000FFFF0000u, x ^= y ^ y << 16;
    y = (x ^ x >> 8) & 0x0000FF000000FF00u, x ^= y ^ y << 8;
    y = (x ^ x >> 4) & 0x00F000F000F000F0u, x ^= y ^ y << 4;
    y = (x ^ x >> 2) & 0x0C0C0C0C0C0C0C0Cu, x ^= y ^ y << 2;
    y = (x ^ x >> 1) & 0x2222222222222222u, x ^= y ^ y << 1;
    return x;
}

/* Eight spins as bytes -> eight bits: the sign bits, gathered in the top byte by a product without carries. */
static inline uint64_t eight_bits(uint64_t bytes)
{
    return (~bytes >> 7 & 0x0101010101010101u) * 0x0102040810204080u >> 56;
}

/* Its inverse: bit i to byte i, 1 -> +1, 0 -> -1. */
static inline uint64_t eight_bytes(uint64_t bits)
{
    bits = bits * 0x0101010101010101u & 0x8040201008040201u;
    bits = ((bits + 0x7F7F7F7F7F7F7F7Fu) | bits) >> 7 & 0x0101010101010101u;
    return bits | (0x0101010101010101u - bits) * 255;
}

static uint64_t gather_plain(const signed char *spins)
{
    uint64_t word = 0, bytes;
    for (ptrdiff_t b = 0; b < 64; b += 8) {
        memcpy(&bytes, spins + b, 8);
        word |= eight_bits(bytes) << b;
    }
    return pairs_apart(word);
}

static void scatter_plain(uint64_t word, signed char *spins)
{
    word = pairs_together(word);
    for (ptrdiff_t b = 0; b < 64; b += 8) {
        uint64_t bytes = eight_bytes(word >> b & 255);
        memcpy(spins + b, &bytes, 8);
    }
}

#if LFT_X86
__attribute__((target("avx512f,avx512bw,bmi2"))) static uint64_t gather_avx512(const signed char *spins)
{
    const uint64_t word = ~(uint64_t)_mm512_movepi8_mask(_mm512_loadu_si512(spins));
    return _pext_u64(word, 0x5555555555555555u) | _pext_u64(word, 0xAAAAAAAAAAAAAAAAu) << 32;
}

__attribute__((target("avx512f,avx512bw,bmi2"))) static void scatter_avx512(uint64_t word, signed char *spins)
{
    word = _pdep_u64(word, 0x5555555555555555u) | _pdep_u64(word >> 32, 0xAAAAAAAAAAAAAAAAu);
    _mm512_storeu_si512(spins, _mm512_mask_blend_epi8(word, _mm512_set1_epi8(-1), _mm512_set1_epi8(1)));
}
#endif

/* ---- choice at run time */
typedef struct {
    const char *name;
    int64_t (*pass)(const lft_bits_rule *, const lft_bits_rule *, const lft_bits_rows *, const lft_bits_runs *,
                    uint64_t *, const uint64_t *, int, uint64_t, uint64_t, ptrdiff_t, ptrdiff_t, const lft_bits_bonds *,
                    int64_t *);
    int64_t (*unlike)(const lft_bits_rows *, const lft_bits_runs *, const uint64_t *, const uint64_t *, ptrdiff_t, int,
                      int);
    int64_t (*count)(const uint64_t *, ptrdiff_t);
    void (*columns)(const uint64_t *, const ptrdiff_t *, ptrdiff_t, ptrdiff_t, int64_t *);
    uint64_t (*gather)(const signed char *); /* 64 spins -> bits, even sites in the low half */
    void (*scatter)(uint64_t, signed char *);
    void (*block)(uint64_t, uint64_t, uint64_t, uint64_t *);
} bits_path;

static const bits_path paths[] = {
    {"baseline", pass_baseline, unlike_baseline, count_baseline, columns_baseline, gather_plain, scatter_plain,
     block_plain},
#if LFT_X86
    {"avx2", pass_avx2, unlike_avx2, count_avx2, columns_avx2, gather_plain, scatter_plain, block_aes},
    {"avx512", pass_avx512, unlike_avx512, count_avx512, columns_avx512, gather_avx512, scatter_avx512, block_aes},
#endif
};

LFT_PATHS(bits_path, lft_ars_runs, LFT_ARS_TABLES)

const char *lft_bits_path(void) { return path()->name; }
int lft_bits_force(const char *name) { return force_path(name); }

int64_t lft_bits_pass(const lft_bits_rule *rule, const lft_bits_rule *end, const lft_bits_rows *rows,
                      const lft_bits_runs *runs, uint64_t *own, const uint64_t *other, int color, uint64_t t,
                      uint32_t stream, uint64_t key, const lft_bits_bonds *bonds, int64_t *counts)
{
    uint64_t high = t << 16 | (uint64_t)(stream & 15) << 12 | (uint64_t)color << 8;
    const bits_path *now = path();
    int64_t flips = 0;
    ptrdiff_t chunks = 0;
    for (ptrdiff_t s = 0; s < runs->n; s++) chunks += (runs->lines[s] + rows->chunk - 1) / rows->chunk;
    const ptrdiff_t most = chunks / LFT_BITS_GRAIN;
    const int threads = rows->threads < most ? rows->threads : (int)most;
    if (threads < 2)
        return now->pass(rule, end, rows, runs, own, other, color, high, key, 0, chunks, bonds, counts);
#ifdef _OPENMP
#pragma omp parallel num_threads(threads) reduction(+ : flips)
    {
        const ptrdiff_t i = omp_get_thread_num(), n = omp_get_num_threads();
        lft_bits_rows mine = *rows;
        mine.side += i * rows->work, mine.open += i * rows->work;
        mine.flipped += i * rows->work, mine.list += i * rows->work;
        int64_t part[LFT_BITS_UP + 1] = {0};
        flips += now->pass(rule, end, &mine, runs, own, other, color, high, key, chunks * i / n, chunks * (i + 1) / n,
                           bonds, part);
        for (int a = 0; a <= LFT_BITS_UP && bonds; a++) {
#pragma omp atomic
            counts[a] += part[a];
        }
    }
#else
    flips = now->pass(rule, end, rows, runs, own, other, color, high, key, 0, chunks, bonds, counts);
#endif
    return flips;
}
int64_t lft_bits_seam(const lft_bits_rule *rule, const lft_bits_rows *rows, const lft_bits_runs *runs, uint64_t *own,
                      const uint64_t *other, int color, uint64_t t, uint32_t stream, uint64_t key)
{
    uint64_t high = t << 16 | (uint64_t)(stream & 15) << 12 | (uint64_t)color << 8;
    int64_t flips = 0;
    path();
    for (ptrdiff_t s = 0; s < runs->n; s++)
        flips += seam_sites(rule, rows, own + runs->word[s], other + runs->word[s], runs->lines[s],
                            (int)((runs->parity[s] + color) & 1), runs->unit[s], high, key);
    return flips;
}
int64_t lft_bits_unlike(const lft_bits_rows *rows, const lft_bits_runs *runs, const uint64_t *own,
                        const uint64_t *other, ptrdiff_t offset, int color)
{
    return path()->unlike(rows, runs, own, other, offset, color, 0);
}
int64_t lft_bits_unlike_along(const lft_bits_rows *rows, const lft_bits_runs *runs, const uint64_t *own,
                              const uint64_t *other, int color)
{
    return path()->unlike(rows, runs, own, other, 0, color, 1);
}
int64_t lft_bits_count(const uint64_t *words, ptrdiff_t n) { return path()->count(words, n); }
void lft_bits_columns(const uint64_t *plane, const ptrdiff_t *word, ptrdiff_t n, ptrdiff_t words, int64_t *counts)
{
    path()->columns(plane, word, n, words, counts);
}
void lft_bits_random(uint64_t low, uint64_t high, uint64_t key, uint64_t out[2]) { path()->block(low, high, key, out); }

/* -1, +1 -> 0, 1; even[] and odd[] are rows of zeros up to the padding. */
void lft_bits_pack(const signed char *line, ptrdiff_t length, uint64_t *even, uint64_t *odd)
{
    path();
    for (ptrdiff_t j = 0; j < length; j += 64) {
        const ptrdiff_t n = length - j, m = j >> 1;
        signed char part[64];
        if (n < 64) {
            memset(part, -1, 64); /* beyond the end: bits of 0 */
            memcpy(part, line + j, (size_t)n);
        }
        const uint64_t word = chosen->gather(n < 64 ? part : line + j);
        even[m >> 6] = (m & 63 ? even[m >> 6] : 0) | (word & 0xFFFFFFFFu) << (m & 63);
        odd[m >> 6] = (m & 63 ? odd[m >> 6] : 0) | (word >> 32) << (m & 63);
    }
}

void lft_bits_unpack(const uint64_t *even, const uint64_t *odd, ptrdiff_t length, signed char *line)
{
    path();
    for (ptrdiff_t j = 0; j < length; j += 64) {
        ptrdiff_t m = j >> 1, n = length - j;
        const uint64_t word = (even[m >> 6] >> (m & 63) & 0xFFFFFFFFu) | (odd[m >> 6] >> (m & 63)) << 32;
        signed char part[64];
        chosen->scatter(word, n < 64 ? part : line + j);
        if (n < 64) memcpy(line + j, part, (size_t)n);
    }
}
