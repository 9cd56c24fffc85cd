/* ARS-7 random blocks (Salmon, Moraes, Dror, Shaw, SC11, 2011) and vector words, shared by the bit-sliced kernels.
 *
 * Seven rounds of AES (the last without MixColumns) with the round keys key + i (0x9E3779B97F4A7C15,
 * 0xBB67AE8584CAA73B): a block of 128 bits is a pure function of (low, high, key), the same on every instruction set.
 * Cost and alternatives: bitslice.c.  Call fill_tables() once before the plain version is used.
 */
#ifndef LFT_ARS_H
#define LFT_ARS_H
#include "instruction_sets.h"
#include <stdint.h>

static inline void round_key(uint64_t key, int i, uint64_t out[2])
{
    out[0] = key + (uint64_t)i * 0x9E3779B97F4A7C15u;
    out[1] = (uint64_t)i * 0xBB67AE8584CAA73Bu;
}

static uint8_t sbox[256];
static uint32_t columns[4][256]; /* SubBytes, ShiftRows and MixColumns of one byte: a column, little endian */

static inline uint8_t doubled(uint8_t x) { return (uint8_t)(x << 1 ^ (x & 0x80 ? 0x1B : 0)); }

/* The S-box from its definition: inverse in GF(2^8) by logarithms to the base 3, then the affine map. */
static void fill_tables(void)
{
    uint8_t power[256], log[256] = {0}, x = 1;
    for (int i = 0; i < 255; i++) {
        power[i] = x;
        log[x] = (uint8_t)i;
        x ^= doubled(x);
    }
    for (int i = 0; i < 256; i++) {
        uint8_t inverse = i ? power[(255 - log[i]) % 255] : 0, s = 0x63;
        for (int k = 0; k < 5; k++) s ^= (uint8_t)(inverse << k | inverse >> (8 - k));
        sbox[i] = s;
        uint32_t column = doubled(s) | (uint32_t)s << 8 | (uint32_t)s << 16 | (uint32_t)(doubled(s) ^ s) << 24;
        for (int r = 0; r < 4; r++) columns[r][i] = r ? column << 8 * r | column >> (32 - 8 * r) : column;
    }
}

static inline void aes_round(uint64_t x[2], const uint64_t key[2], int last)
{
    uint32_t in[4] = {(uint32_t)x[0], (uint32_t)(x[0] >> 32), (uint32_t)x[1], (uint32_t)(x[1] >> 32)}, out[4];
    for (int c = 0; c < 4; c++) {
        uint32_t a = in[c] & 255, b = in[(c + 1) & 3] >> 8 & 255, d = in[(c + 2) & 3] >> 16 & 255,
                 e = in[(c + 3) & 3] >> 24;
        out[c] = last ? sbox[a] | (uint32_t)sbox[b] << 8 | (uint32_t)sbox[d] << 16 | (uint32_t)sbox[e] << 24
                      : columns[0][a] ^ columns[1][b] ^ columns[2][d] ^ columns[3][e];
    }
    x[0] = (out[0] | (uint64_t)out[1] << 32) ^ key[0];
    x[1] = (out[2] | (uint64_t)out[3] << 32) ^ key[1];
}

/* The 48 bits of a unit's number without the bytes 2 and 7: the design comment of bitslice.c. */
static inline uint64_t low_word(uint64_t unit) { return (unit & 0xFFFF) | unit >> 16 << 24; }

static inline void block_plain(uint64_t low, uint64_t high, uint64_t key, uint64_t out[2])
{
    uint64_t k[2];
    round_key(key, 0, k);
    out[0] = low ^ k[0];
    out[1] = high ^ k[1];
    for (int i = 1; i < 8; i++) {
        round_key(key, i, k);
        aes_round(out, k, i == 7);
    }
}

#if LFT_X86
__attribute__((target("aes"))) static inline void block_aes(uint64_t low, uint64_t high, uint64_t key, uint64_t out[2])
{
    const __m128i step = _mm_set_epi64x((long long)0xBB67AE8584CAA73Bu, (long long)0x9E3779B97F4A7C15u);
    __m128i k = _mm_set_epi64x(0, (long long)key);
    __m128i x = _mm_xor_si128(_mm_set_epi64x((long long)high, (long long)low), k);
    for (int i = 1; i < 7; i++) {
        k = _mm_add_epi64(k, step);
        x = _mm_aesenc_si128(x, k);
    }
    x = _mm_aesenclast_si128(x, _mm_add_epi64(k, step));
    _mm_storeu_si128((__m128i *)out, x);
}
#endif

/* One block by the loops in use: the entries of their table (instruction_sets.h) name it `block`. */
static void (*ars_block)(uint64_t, uint64_t, uint64_t, uint64_t *) __attribute__((unused)) = block_plain;
#define LFT_ARS_TABLES(path) (fill_tables(), (void)(ars_block = (path)->block))

/* ---- vector words */
static inline int64_t popcount_plain(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
    return (int64_t)(x * 0x0101010101010101u >> 56);
}

typedef uint64_t lanes2 __attribute__((vector_size(16)));
static inline lanes2 rounds_plain(lanes2 x, const lanes2 *key, int from, int to)
{
    uint64_t s[2] = {x[0], x[1]};
    for (int i = from; i < to; i++) {
        uint64_t k[2] = {key[i][0], key[i][1]};
        aes_round(s, k, i == 6);
    }
    return (lanes2){s[0], s[1]};
}
static inline lanes2 count_plain(lanes2 x)
{
    return (lanes2){(uint64_t)popcount_plain(x[0]), (uint64_t)popcount_plain(x[1])};
}

#if LFT_X86
typedef uint64_t lanes4 __attribute__((vector_size(32)));
#define AVX2 __attribute__((target("avx2,aes,popcnt")))
AVX2 static inline __attribute__((always_inline)) lanes4 rounds_avx2(lanes4 x, const lanes4 *key, int from, int to)
{
    __m128i a = _mm256_castsi256_si128((__m256i)x), b = _mm256_extracti128_si256((__m256i)x, 1);
    for (int i = from; i < to; i++) {
        __m128i k = _mm256_castsi256_si128((__m256i)key[i]);
        a = i < 6 ? _mm_aesenc_si128(a, k) : _mm_aesenclast_si128(a, k);
        b = i < 6 ? _mm_aesenc_si128(b, k) : _mm_aesenclast_si128(b, k);
    }
    return (lanes4)_mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}
AVX2 static inline __attribute__((always_inline)) lanes4 popcount_avx2(lanes4 x)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                           2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i a = _mm256_shuffle_epi8(table, _mm256_and_si256((__m256i)x, low));
    __m256i b = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16((__m256i)x, 4), low));
    return (lanes4)_mm256_sad_epu8(_mm256_add_epi8(a, b), _mm256_setzero_si256());
}

typedef uint64_t lanes8 __attribute__((vector_size(64)));
#define AVX512                                                                                                        \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vpopcntdq,vaes,aes,popcnt,"                       \
                          "prefer-vector-width=512")))
AVX512 static inline __attribute__((always_inline)) lanes8 rounds_avx512(lanes8 x, const lanes8 *key, int from, int to)
{
    __m512i a = (__m512i)x;
    for (int i = from; i < to; i++)
        a = i < 6 ? _mm512_aesenc_epi128(a, (__m512i)key[i]) : _mm512_aesenclast_epi128(a, (__m512i)key[i]);
    return (lanes8)a;
}
#define TERNARY(a, b, c, table)                                                                                       \
    ((lanes8)_mm512_ternarylogic_epi64((__m512i)(a), (__m512i)(b), (__m512i)(c), table))
#endif

/* Whether loops of this name run here, with their AES rounds and vector population counts. */
static inline int lft_ars_runs(const char *name)
{
    if (!strcmp(name, "avx2")) return lft_runs(name) && LFT_HAS("aes");
    if (!strcmp(name, "avx512"))
        return lft_runs(name) && LFT_HAS("aes") && LFT_HAS("vaes") && LFT_HAS("avx512vpopcntdq");
    return lft_runs(name);
}
#endif
