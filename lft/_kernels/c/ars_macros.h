/* Vector words of one instruction set, LFT_PATH = 0 (plain C), 1 (AVX2) or 2 (AVX-512); include after ars.h.
 *
 * Design: the bit-sliced loops are written once over these names and compiled once per instruction set, each time
 * after this file has defined them anew; intrinsics stand here alone, so that all paths give the same bits.
 */
#undef NAME
#undef ATTR
#undef VEC
#undef GROUP
#undef MUX
#undef LESS
#undef EQUAL
#undef XOR3
#undef MAJORITY
#undef NEITHER
#undef XORAND
#undef ORAND
#undef ROUNDS
#undef COUNT
#undef NONZERO
#undef BLOCK
#undef POPCOUNT
#if LFT_PATH == 0
#define NAME(x) x##_baseline
#define ATTR
#define VEC 16
#define GROUP 1
#define MUX(x, a, b) (((x) & ((a) ^ (b))) ^ (b))
#define LESS(x, t, less) ((((x) ^ (t)) & ((t) ^ (less))) ^ (less))
#define EQUAL(alike, x, t) ((alike) & ~((x) ^ (t)))
#define XOR3(a, b, c) ((a) ^ (b) ^ (c))
#define MAJORITY(a, b, c) (((a) & (b)) | (((a) | (b)) & (c)))
#define NEITHER(a, b, c) (~((a) | ((b) & (c))))
#define XORAND(a, b, c) ((a) ^ ((b) & (c)))
#define ORAND(a, b, c) ((a) | ((b) & (c)))
#define ROUNDS(x, keys, from, to) rounds_plain(x, keys, from, to)
#define COUNT(x) count_plain(x)
#define NONZERO(x) ((uint64_t)((x)[0] != 0) | (uint64_t)((x)[1] != 0) << 1)
#define BLOCK block_plain
#define POPCOUNT popcount_plain
#elif LFT_PATH == 1
#define NAME(x) x##_avx2
#define ATTR AVX2
#define VEC 32
#define GROUP 11
#define MUX(x, a, b) (((x) & ((a) ^ (b))) ^ (b))
#define LESS(x, t, less) ((((x) ^ (t)) & ((t) ^ (less))) ^ (less))
#define EQUAL(alike, x, t) ((alike) & ~((x) ^ (t)))
#define XOR3(a, b, c) ((a) ^ (b) ^ (c))
#define MAJORITY(a, b, c) (((a) & (b)) | (((a) | (b)) & (c)))
#define NEITHER(a, b, c) (~((a) | ((b) & (c))))
#define XORAND(a, b, c) ((a) ^ ((b) & (c)))
#define ORAND(a, b, c) ((a) | ((b) & (c)))
#define ROUNDS(x, keys, from, to) rounds_avx2(x, keys, from, to)
#define COUNT(x) popcount_avx2(x)
#define NONZERO(x)                                                                                                    \
    (15 ^ (uint64_t)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64((__m256i)(x), _mm256_setzero_si256()))))
#define BLOCK block_aes
#define POPCOUNT __builtin_popcountll
#else
#define NAME(x) x##_avx512
#define ATTR AVX512
#define VEC 64
#define GROUP 3
#define MUX(x, a, b) TERNARY(x, a, b, 0xCA)
#define LESS(x, t, less) TERNARY(x, t, less, 0x8E)
#define EQUAL(alike, x, t) TERNARY(alike, x, t, 0x90)
#define XOR3(a, b, c) TERNARY(a, b, c, 0x96)
#define MAJORITY(a, b, c) TERNARY(a, b, c, 0xE8)
#define NEITHER(a, b, c) TERNARY(a, b, c, 0x07)
#define XORAND(a, b, c) TERNARY(a, b, c, 0x78)
#define ORAND(a, b, c) TERNARY(a, b, c, 0xF8)
#define ROUNDS(x, keys, from, to) rounds_avx512(x, keys, from, to)
#define COUNT(x) ((lanes8)_mm512_popcnt_epi64((__m512i)(x)))
#define NONZERO(x) ((uint64_t)_mm512_test_epi64_mask((__m512i)(x), (__m512i)(x)))
#define BLOCK block_aes
#define POPCOUNT __builtin_popcountll
#endif
#undef LFT_PATH
