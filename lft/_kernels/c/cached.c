/* Binary units with arbitrary pair couplings: one bin after the other.  The other half, many bins at once: blocked.c.
 *
 * Design
 * ------
 * - Fields.  S(high) - S(low) of the units of a bin as int32 multiples of a power of two, chosen from the largest field
 *   that any configuration can have.  Integers add exactly in any order, so a field never depends on its history.
 * - Decisions.  The threshold of a unit (-log u, or log((1-u)/u)) is an integer from a logarithm in single precision.
 *   A unit whose field lies within the margin of its threshold is decided in doubles: S from the spins and the true
 *   couplings, in a fixed order of sums, and u with 52 bits.  The margin bounds the rounding of the couplings, of the
 *   fields and of the logarithm, so every decision is that of doubles: no coupling is rounded in effect, and the chain is
 *   the same for every resolution, instruction set and way of organizing a sweep.  About 1e-5 of the decisions are unclear
 *   at N = 1000.  Rejected: sampling the rounded couplings (their error would have to be tolerated and documented).
 * - Scan.  Sixteen units are compared at once, the first that may flip is taken, the rest is compared again: exactly
 *   sequential.  The fields of a block of 64 units are updated at each flip, those of all others after the block, with all
 *   rows in one pass, so that fields are read and written once per block.
 * - Lags (generalized diagonals): read from the spins of the neighboring bins when a block is scanned.  Caching them too
 *   would need scattered writes and corrections of the halo on several ranks.
 * - kept or fresh.  kept: the equal-time fields of all bins stay in memory.  fresh: those of a bin are added up from its
 *   spikes when it is visited; at 1 % of spikes this is cheaper than the memory traffic of kept fields.
 * - Random numbers.  Philox4x32-10 (philox.c), counter [ block 64 | t 48 | stream 8 | draw 8 ], one word per unit: block
 *   g of a tile of 32 units serves the units g, g+8, g+16, g+24.  Draw 1 of the same block gives 20 further bits, which
 *   only unclear decisions and words within 2^18 of the ends need.
 *
 * Layout: fields[bin][padded], padded a multiple of 64; rows of couplings are 16 longer, so that they do not fall on the
 * same cache sets.  Threads share bins.
 *
 * Measured, updates/ns, one thread of an AMD EPYC (Zen 4), AVX-512, gcc 12, while other programs ran (the generic Ising
 * sweep at 0.12 instead of 0.131):
 *   one chain, N = 1000, J ~ N(0, 1/N), beta = 1, Metropolis: kept 0.0265-0.0287, fresh 0.017; 100 units: 0.025
 *   heat bath with lags 1..3, spikes:   1 %: N = 100  kept 0.17, fresh 0.19-0.20, blocked 0.31; N = 1000  0.14, 0.15, 0.135
 *                                     45 %: N = 100  kept 0.046, fresh 0.048, blocked 0.30;     N = 1000  0.019, 0.016, 0.133
 *   the generic loops: 0.011 (N = 100), 0.0012 (N = 1000)
 *
 * What one dense chain could still gain.  At an acceptance of 0.32 an update takes 33 ns: 14 of scan and decisions (4.6 and
 * 30 per flip), the rest the rows of the flips.  Adding rows of 1000 couplings, in a loop of its own, 20 at a time: 44.5 ns
 * a row of 32 bits, 24.4 in 16 bits widened on the way, 23.2 in 16 bits two rows per dot product (6 at a time: 46.0, 26.9,
 * 25.3).  So 16 bits would save 6.6 ns of the 33; but they resolve S to 0.008 only, and the decisions within that margin,
 * some 0.4 %, each cost a row of doubles: not built.  Even rows for nothing would leave the 14 ns, 0.07 updates/ns; less
 * takes another order of visits, such as a color class of a sparser graph, or many chains (blocked.c).
 */
#include "cached.h"
#include "instruction_sets.h"
#include "philox.h"
#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define W0 0x9E3779B9u
#define W1 0xBB67AE85u

typedef int32_t lanes __attribute__((vector_size(64), aligned(4), may_alias));

ptrdiff_t lft_cached_work(const lft_cached_model *m) { return 4 * m->padded; }

/* ---- decisions in doubles */
double lft_cached_noise(int heatbath, uint64_t block, int word, const lft_cached_draw *draw)
{
    const uint32_t key[2] = {(uint32_t)draw->key, (uint32_t)(draw->key >> 32)};
    uint32_t c[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)draw->t, lft_cached_tail(draw, 0)};
    uint32_t first[4], second[4];
    lft_philox4x32(c, key, first);
    c[3] = lft_cached_tail(draw, 1);
    lft_philox4x32(c, key, second);
    const uint64_t k = (uint64_t)first[word] << 20 | second[word] >> 12;
    double u = (double)k * 0x1p-52 + 0x1p-53;
    if (heatbath)
        lft_logistic(&u, 1);
    else
        lft_exponential(&u, 1);
    return u;
}

/* Sixteen sums, added in a fixed order: the same bits from every instruction set. */
static inline double total(const double *sum)
{
    double s[8];
    for (int l = 0; l < 8; l++) s[l] = sum[l] + sum[l + 8];
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}
static double dense_plain(const double *W, const signed char *row, ptrdiff_t n)
{
    double sum[16] = {0};
    for (ptrdiff_t j = 0; j < n; j += 16)
        for (int l = 0; l < 16 && j + l < n; l++) sum[l] += row[j + l] > 0 ? W[j + l] : 0.0;
    return total(sum);
}

int32_t lft_cached_threshold(double noise, double scale, double margin)
{
    double t = (noise - margin) * scale;
    return (int32_t)(t > 0x1p30 ? 0x1p30 : t < -0x1p30 ? -0x1p30 : t);
}

/* ---- single precision, error of the logarithm below 4e-6 (tests/conformance/test_cached.py) */
static inline float log_float(float x)
{
    int32_t b;
    float m;
    memcpy(&b, &x, 4);
    const int32_t e = (b - 0x3F2AAAAB) >> 23;
    b -= e << 23;
    memcpy(&m, &b, 4);
    const float f = m - 1.0f;
    const float p = 1.00002285f + f * (-0.500064749f + f * (0.331607224f + f * (-0.247217603f + f * (0.230738382f +
                    f * -0.201713356f))));
    return (float)e * 0.693147181f + f * p;
}

/* ---- random words of tiles of 32 units: block g of a tile serves the units g, g + 8, g + 16, g + 24 */
static void words_plain(uint64_t first, ptrdiff_t n_tiles, const lft_cached_draw *draw, uint32_t *out)
{
    const uint32_t key[2] = {(uint32_t)draw->key, (uint32_t)(draw->key >> 32)}, tail = lft_cached_tail(draw, 0);
    for (ptrdiff_t block = 0; block < 8 * n_tiles; block++) {
        const uint64_t site = first + (uint64_t)block;
        const uint32_t c[4] = {(uint32_t)site, (uint32_t)(site >> 32), (uint32_t)draw->t, tail};
        uint32_t o[4];
        lft_philox4x32(c, key, o);
        for (int w = 0; w < 4; w++) out[block / 8 * 32 + 8 * w + block % 8] = o[w];
    }
}

/* Where a unit may flip: all that are not clearly refused. */
#define REFUSED(r, T, x) ((x) ? -(r) : (r)) >= (T) + w
static inline uint32_t candidates_plain(const int32_t *r, const int32_t *T, const uint8_t *x, int32_t w, int heatbath)
{
    uint32_t any = 0, mask = 0;
    if (heatbath) {
        for (int l = 0; l < 16; l++) any |= (uint32_t)(x[l] ? r[l] - T[l] >= 0 : r[l] - T[l] < w);
        if (any)
            for (int l = 0; l < 16; l++) mask |= (uint32_t)(x[l] ? r[l] - T[l] >= 0 : r[l] - T[l] < w) << l;
        return mask;
    }
    for (int l = 0; l < 16; l++) any |= (uint32_t)((x[l] ? -r[l] : r[l]) - T[l] < w);
    if (any)
        for (int l = 0; l < 16; l++) mask |= (uint32_t)((x[l] ? -r[l] : r[l]) - T[l] < w) << l;
    return mask;
}
#undef REFUSED

#define NAME(x) x##_baseline
#define ATTR
#define WORDS words_plain
#define CANDIDATES candidates_plain
#include "cached_loops.h"

#if LFT_X86
#define AVX2 __attribute__((target("avx2,bmi")))
AVX2 static void words_avx2(uint64_t first, ptrdiff_t n_tiles, const lft_cached_draw *draw, uint32_t *out)
{
    const __m256i m0 = _mm256_set1_epi64x(M0), m1 = _mm256_set1_epi64x(M1);
    const __m256i pick = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    const uint32_t tail = lft_cached_tail(draw, 0);
    for (ptrdiff_t block = 0; block < 8 * n_tiles; block += 4) {
        __m256i a = _mm256_add_epi64(_mm256_set1_epi64x((long long)(first + (uint64_t)block)),
                                     _mm256_setr_epi64x(0, 1, 2, 3));
        __m256i b = _mm256_srli_epi64(a, 32), c = _mm256_set1_epi64x((uint32_t)draw->t), d = _mm256_set1_epi64x(tail);
        uint32_t k0 = (uint32_t)draw->key, k1 = (uint32_t)(draw->key >> 32);
        for (int r = 0; r < 10; r++) { /* products read the low halves alone: what stands above is garbage */
            const __m256i p0 = _mm256_mul_epu32(a, m0), p1 = _mm256_mul_epu32(c, m1);
            a = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), b), _mm256_set1_epi64x(k0));
            c = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), d), _mm256_set1_epi64x(k1));
            b = p1, d = p0;
            k0 += W0, k1 += W1;
        }
        uint32_t *to = out + block / 8 * 32 + block % 8;
        _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(a, pick)));
        _mm_storeu_si128((__m128i *)(to + 8), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(b, pick)));
        _mm_storeu_si128((__m128i *)(to + 16), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(c, pick)));
        _mm_storeu_si128((__m128i *)(to + 24), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(d, pick)));
    }
}
AVX2 static inline uint32_t candidates_avx2(const int32_t *r, const int32_t *T, const uint8_t *x, int32_t w,
                                            int heatbath)
{
    uint32_t mask = 0;
    const __m256i window = _mm256_set1_epi32(w), zero = _mm256_setzero_si256();
    for (int l = 0; l < 16; l += 8) {
        const __m256i f = _mm256_loadu_si256((const __m256i *)(r + l)), t = _mm256_loadu_si256((const __m256i *)(T + l));
        const __m256i is_high = _mm256_sub_epi32(zero, _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(x + l))));
        __m256i found;
        if (heatbath) {
            const __m256i y = _mm256_sub_epi32(f, t);
            found = _mm256_blendv_epi8(_mm256_cmpgt_epi32(window, y), _mm256_cmpgt_epi32(y, _mm256_set1_epi32(-1)), is_high);
        } else {
            const __m256i change = _mm256_sub_epi32(_mm256_xor_si256(f, is_high), is_high);
            found = _mm256_cmpgt_epi32(window, _mm256_sub_epi32(change, t));
        }
        mask |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(found)) << l;
    }
    return mask;
}
#define NAME(x) x##_avx2
#define ATTR AVX2
#define WORDS words_avx2
#define CANDIDATES candidates_avx2
#include "cached_loops.h"

#define AVX512                                                                                                        \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,bmi,bmi2,popcnt,prefer-vector-width=512")))
AVX512 static void words_avx512(uint64_t first, ptrdiff_t n_tiles, const lft_cached_draw *draw, uint32_t *out)
{
    const __m512i m0 = _mm512_set1_epi64(M0), m1 = _mm512_set1_epi64(M1), eight = _mm512_set1_epi64(8);
    const uint32_t tail = lft_cached_tail(draw, 0);
    __m512i site = _mm512_add_epi64(_mm512_set1_epi64((long long)first), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    for (ptrdiff_t tile = 0; tile < n_tiles; tile++) {
        __m512i a = site, b = _mm512_srli_epi64(site, 32);
        __m512i c = _mm512_set1_epi64((uint32_t)draw->t), d = _mm512_set1_epi64(tail);
        uint32_t k0 = (uint32_t)draw->key, k1 = (uint32_t)(draw->key >> 32);
        for (int r = 0; r < 10; r++) {
            const __m512i p0 = _mm512_mul_epu32(a, m0), p1 = _mm512_mul_epu32(c, m1);
            a = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), b, _mm512_set1_epi64(k0), 0x96);
            c = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), d, _mm512_set1_epi64(k1), 0x96);
            b = p1, d = p0;
            k0 += W0, k1 += W1;
        }
        _mm256_storeu_si256((__m256i *)(out + 32 * tile), _mm512_cvtepi64_epi32(a));
        _mm256_storeu_si256((__m256i *)(out + 32 * tile + 8), _mm512_cvtepi64_epi32(b));
        _mm256_storeu_si256((__m256i *)(out + 32 * tile + 16), _mm512_cvtepi64_epi32(c));
        _mm256_storeu_si256((__m256i *)(out + 32 * tile + 24), _mm512_cvtepi64_epi32(d));
        site = _mm512_add_epi64(site, eight);
    }
}
AVX512 static double dense_avx512(const double *W, const signed char *row, ptrdiff_t n)
{
    __m512d a = _mm512_setzero_pd(), b = a;
    double sum[16];
    for (ptrdiff_t j = 0; j < n; j += 16) {
        const __m128i x = _mm_maskz_loadu_epi8((__mmask16)(n - j < 16 ? (1u << (n - j)) - 1 : 0xFFFFu), row + j);
        const __mmask16 high = _mm_cmpgt_epi8_mask(x, _mm_setzero_si128());
        a = _mm512_mask_add_pd(a, (__mmask8)high, a, _mm512_maskz_loadu_pd((__mmask8)high, W + j));
        b = _mm512_mask_add_pd(b, (__mmask8)(high >> 8), b, _mm512_maskz_loadu_pd((__mmask8)(high >> 8), W + j + 8));
    }
    _mm512_storeu_pd(sum, a);
    _mm512_storeu_pd(sum + 8, b);
    return total(sum);
}
AVX512 static inline uint32_t candidates_avx512(const int32_t *r, const int32_t *T, const uint8_t *x, int32_t w,
                                                int heatbath)
{
    const __m512i f = _mm512_loadu_si512(r), t = _mm512_loadu_si512(T), zero = _mm512_setzero_si512();
    const __m128i bytes = _mm_loadu_si128((const __m128i *)x);
    const __mmask16 is_high = _mm_test_epi8_mask(bytes, bytes);
    if (heatbath) {
        const __m512i y = _mm512_sub_epi32(f, t);
        return (uint32_t)(_mm512_mask_cmplt_epi32_mask((__mmask16)~is_high, y, _mm512_set1_epi32(w)) |
                          _mm512_mask_cmpge_epi32_mask(is_high, y, zero));
    }
    const __m512i change = _mm512_mask_sub_epi32(f, is_high, zero, f);
    return _mm512_cmplt_epi32_mask(_mm512_sub_epi32(change, t), _mm512_set1_epi32(w));
}
#define NAME(x) x##_avx512
#define ATTR AVX512
#define WORDS words_avx512
#define CANDIDATES candidates_avx512
#include "cached_loops.h"
#endif

/* ---- choice at run time */
typedef struct {
    const char *name;
    double (*dense)(const double *, const signed char *, ptrdiff_t);
    ptrdiff_t (*thresholds)(uint32_t *, ptrdiff_t, int, double, double, uint32_t *);
    void (*fill)(const lft_cached_model *, const lft_cached_bins *, const signed char *, int32_t *, int32_t *, int);
    int64_t (*sweep)(const lft_cached_model *, const lft_cached_bins *, signed char *, int32_t *,
                     const lft_cached_draw *, int32_t *, int, int64_t *);
} cached_path;

static const cached_path paths[] = {
    {"baseline", dense_plain, thresholds_baseline, fill_all_baseline, sweep_baseline},
#if LFT_X86
    {"avx2", dense_plain, thresholds_avx2, fill_all_avx2, sweep_avx2},
    {"avx512", dense_avx512, thresholds_avx512, fill_all_avx512, sweep_avx512},
#endif
};

LFT_PATHS(cached_path, lft_runs, LFT_NOTHING)

const char *lft_cached_path(void) { return path()->name; }
int lft_cached_force(const char *name) { return force_path(name); }

double lft_cached_raising(const lft_cached_model *m, const signed char *row, ptrdiff_t i, const signed char *site)
{
    double f = m->c[i];
    for (int d = 0; d < m->n_lags; d++) f += m->K[d] * (site[m->offset[d]] + site[-m->offset[d]]);
    if (m->W) return f + path()->dense(m->W + i * m->row_W, row, m->n);
    for (ptrdiff_t e = m->start[i]; e < m->start[i + 1]; e++) f += m->value[e] * (row[m->index[e]] > 0);
    return f;
}

ptrdiff_t lft_cached_thresholds(uint32_t *words, ptrdiff_t n, int heatbath, double scale, double margin,
                                uint32_t *special)
{
    return path()->thresholds(words, n, heatbath, scale, margin, special);
}
void lft_cached_fill(const lft_cached_model *m, const lft_cached_bins *bins, const signed char *phi, int32_t *fields,
                     int32_t *work, int n_threads)
{
    path()->fill(m, bins, phi, fields, work, n_threads);
}
int64_t lft_cached_sweep(const lft_cached_model *m, const lft_cached_bins *bins, signed char *phi, int32_t *fields,
                         const lft_cached_draw *draw, int32_t *work, int n_threads, int64_t *exact)
{
    return path()->sweep(m, bins, phi, fields, draw, work, n_threads, exact);
}
