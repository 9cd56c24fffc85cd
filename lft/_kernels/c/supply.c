/* Roofs of the machine: how fast it moves doubles and makes random bits when nothing else is to be done.
 *
 * Design
 * ------
 * - Triad: a plain loop compiled per instruction set, for buffers of any size: with the copy (memcpy, from numpy) it
 *   is what `lft bench` holds a kernel's traffic against.  Two reads and one write; the write-allocate read of the
 *   target is not counted, as in STREAM.  numpy itself needs two passes for a triad, 40 instead of 24 bytes.
 * - Random bits: AES rounds on counters as the bit-sliced sweep makes them (bitslice.c), seven per block or the five
 *   that are left where two are shared, two registers in flight, folded by exclusive or.  Measured on Zen 4, seven
 *   rounds of 512 bits, 64-bit words/ns: one in flight 4.06, two 4.22, four 4.22, eight 4.22: one round per cycle,
 *   whatever is done.  Storing the blocks instead of folding them would measure the cache.
 * - Rejected: using the sweep's own generator, which is inlined there and never runs alone; Philox has a
 *   function of its own and is measured through it.
 *
 * Layout: contiguous arrays of n doubles; nothing is kept between calls.
 *
 * LFT_MUTANT is the broken twin of the sanitizer test (tests/conformance/test_sanitizers.py): the triad reads so many
 * elements too far.
 */
#include "supply.h"
#include "instruction_sets.h"

#ifndef LFT_MUTANT
#define LFT_MUTANT 0
#endif

#define TRIAD(NAME, ATTR)                                                                                             \
    ATTR static void NAME(double *restrict out, const double *restrict a, const double *restrict b, double s,         \
                          ptrdiff_t n)                                                                                \
    {                                                                                                                 \
        for (ptrdiff_t i = 0; i < n; i++) out[i] = a[i + LFT_MUTANT] + s * b[i];                                      \
    }
TRIAD(triad_base, )
#if LFT_X86
TRIAD(triad_avx2, __attribute__((target("avx2"))))
TRIAD(triad_avx512, __attribute__((target("avx512f,prefer-vector-width=512"))))
#endif

void lft_triad(double *out, const double *a, const double *b, double s, ptrdiff_t n)
{
#if LFT_X86
    if (lft_runs("avx512")) {
        triad_avx512(out, a, b, s, n);
        return;
    }
    if (lft_runs("avx2")) {
        triad_avx2(out, a, b, s, n);
        return;
    }
#endif
    triad_base(out, a, b, s, n);
}

#if LFT_X86
enum { FLIGHT = 2 };

#define SUPPLY(NAME, ATTR, VEC, PER_BLOCK, BROADCAST, XOR, ADD, ROUND, LAST, LOAD, STORE)                             \
    ATTR static inline __attribute__((always_inline)) uint64_t NAME##_rounds(uint64_t first, uint64_t key,             \
                                                                             int rounds, ptrdiff_t blocks)            \
    {                                                                                                                 \
        VEC keys[8], count[FLIGHT], sum = BROADCAST(_mm_setzero_si128());                                             \
        const VEC step = BROADCAST(_mm_set_epi64x(0, FLIGHT * 4 / PER_BLOCK));                                        \
        uint64_t out[8] = {0}, start[8] = {0};                                                                        \
        for (int i = 0; i < 8; i++)                                                                                   \
            keys[i] = BROADCAST(_mm_set_epi64x((long long)((uint64_t)i * 0xBB67AE8584CAA73Bu),                        \
                                               (long long)(key + (uint64_t)i * 0x9E3779B97F4A7C15u)));                \
        for (int f = 0; f < FLIGHT; f++) { /* every lane of 128 bits counts on its own */                             \
            for (int l = 0; l < 4 / PER_BLOCK; l++) start[2 * l] = first + (uint64_t)(f * 4 / PER_BLOCK + l);         \
            count[f] = LOAD((const void *)start);                                                                     \
        }                                                                                                             \
        for (ptrdiff_t n = 0; n < blocks * PER_BLOCK; n += FLIGHT) {                                                  \
            VEC x[FLIGHT];                                                                                            \
            for (int f = 0; f < FLIGHT; f++) x[f] = XOR(count[f], keys[0]);                                           \
            _Pragma("GCC unroll 8")                                                                                   \
            for (int i = 8 - rounds; i < 7; i++)                                                                      \
                for (int f = 0; f < FLIGHT; f++) x[f] = ROUND(x[f], keys[i]);                                         \
            for (int f = 0; f < FLIGHT; f++) {                                                                        \
                sum = XOR(sum, LAST(x[f], keys[7]));                                                                  \
                count[f] = ADD(count[f], step);                                                                       \
            }                                                                                                         \
        }                                                                                                             \
        STORE((void *)out, sum);                                                                                      \
        return out[0] ^ out[1] ^ out[2] ^ out[3] ^ out[4] ^ out[5] ^ out[6] ^ out[7];                                 \
    }                                                                                                                 \
    ATTR static uint64_t NAME(uint64_t first, uint64_t key, int is_shared, ptrdiff_t blocks)                          \
    {                                                                                                                 \
        return is_shared ? NAME##_rounds(first, key, 5, blocks) : NAME##_rounds(first, key, 7, blocks);               \
    }
#define SAME(x) (x)
SUPPLY(supply_aes, __attribute__((target("aes"))), __m128i, 4, SAME, _mm_xor_si128, _mm_add_epi64, _mm_aesenc_si128,
       _mm_aesenclast_si128, _mm_loadu_si128, _mm_storeu_si128)
SUPPLY(supply_vaes, __attribute__((target("avx512f,vaes,aes"))), __m512i, 1, _mm512_broadcast_i32x4, _mm512_xor_si512,
       _mm512_add_epi64, _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_loadu_si512, _mm512_storeu_si512)
#endif

uint64_t lft_ars_supply(uint64_t first, uint64_t key, int is_shared, ptrdiff_t blocks, int64_t *bits)
{
#if LFT_X86
    blocks = (blocks + FLIGHT - 1) / FLIGHT * FLIGHT;
    *bits = 512 * (int64_t)blocks;
    if (LFT_HAS("avx512f") && LFT_HAS("vaes")) return supply_vaes(first, key, is_shared, blocks);
    if (LFT_HAS("aes")) return supply_aes(first, key, is_shared, blocks);
#endif
    (void)first, (void)key, (void)is_shared, (void)blocks;
    *bits = 0;
    return 0;
}
