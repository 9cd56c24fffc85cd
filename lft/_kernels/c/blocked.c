/* Binary units with dense pair couplings: many bins (or chains) at once, one in each lane.  The chain is that of cached.c.
 *
 * Design
 * ------
 * - Pull instead of push.  No field is stored: those of a tile of 16 units are computed from the spins of all units when
 *   the tile is visited; its triangle is then walked in order, sixteen lanes at a time, with all fields in registers.
 * - Product by tables.  Four units and a target make a table of 16 sums of couplings, centered, in two bytes.  One
 *   permutation of bytes looks up four tables in sixteen lanes, one dot product of bytes adds them up: 128 products of 16
 *   bits per pair of instructions on three ports, 43 cycles (2.97 ns, measured) for 16 sources, 4 targets and 64 lanes.
 * - Precision.  16 bits span the sums of four couplings alone, so fields are good to about 1e-3; what is then unclear
 *   (7e-4 at N = 1000) is decided with the couplings of cached.c, and what is still unclear (1e-5) in doubles.
 * - Rejected, measured at N = 1000, 64 lanes, updates/ns: tables of five couplings in 16-bit words, vpermw, sums of three
 *   tables in 16 bits 0.125 (12.9 MB of tables; 0.065 where they were not aligned); tables of four in words 0.114.
 * - Rejected, the product alone, tables in the L2 cache, 2.97 ns as it is: low bytes of two tables added before their dot
 *   product 2.84-2.92, of four tables 2.82 (and steps two and four times as coarse, so two and four times as many
 *   undecided units); groups of five by vpermi2b 3.46 (two instructions inside; from memory 7); the high byte alone 1.50:
 *   the permutations are the limit, and every byte looked up costs one.
 * - Rejected, the sweep, 4.79-5.1 ns as it is: setting lanes aside while the row of an undecided unit is fetched (the rows
 *   take 0.35 ns of an update) 5.03-5.2.
 * - Tables (8 MB at N = 1000) are read once per sweep and up to 256 lanes; passes of 32 tiles keep the spins in L1.
 *   Without prefetching 3.8-4.9 ns, with it 3.3-3.5 ns per update.
 * - Needs AVX-512 with VBMI and VNNI; without them cached.c serves, with the same bits.
 *
 * Layout: state[tile][lane], a word of four bytes 16 g + (units 4 g ... 4 g + 3), each an index of the four tables.
 *
 * Measured, updates/ns, conditions of cached.c, Metropolis, J ~ N(0, 1/N), beta = 1:
 *   N       60     120    240    480    1000 (64 lanes)   1000 (256 lanes)
 *           0.41   0.44   0.39   0.30   0.161-0.171       0.167-0.169
 */
#include "cached.h"
#include "instruction_sets.h"
#include "philox.h"
#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

enum {
    TILE = LFT_CACHED_TILE,
    LANES = LFT_CACHED_LANES,
    SUBS = 4,            /* batches that share the tables of a chunk while they lie in the L2 cache */
    RING = 64,           /* units whose thresholds are at hand */
    GROUP = 4,           /* units of one table */
    CHUNK = 4,           /* targets of one pass over the tables */
    STEP = 2 * CHUNK * (TILE / GROUP << GROUP), /* bytes of a chunk's tables for one tile */
    PARTS = LANES / 16,
    PASS = 32,           /* tiles of a pass: their spins stay in the L1 cache for all chunks of a tile */
    AHEAD = 16 * STEP    /* bytes */
};

/* Integers of work space of a batch: words of its bins and of those at each lag, thresholds, fields, one row. */
static ptrdiff_t batch_work(const lft_cached_model *m)
{
    ptrdiff_t words = m->n_tiles * LANES;
    return words * (1 + 2 * m->n_lags) + RING * LANES + TILE * LANES + (m->n + 127) / 64 * 16;
}
ptrdiff_t lft_cached_blocked_work(const lft_cached_model *m) { return SUBS * batch_work(m); }

int lft_cached_has_blocked(void)
{
    return lft_runs("avx512") && LFT_HAS("avx512vbmi") && LFT_HAS("avx512vnni");
}

#if LFT_X86
#define AVX512                                                                                                        \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vbmi,avx512vnni,bmi,bmi2,popcnt,prefer-vector-width=512")))

typedef struct {
    uint32_t *state;    /* [tile][LANES]: sixteen units as four indices of a table, byte g = 16 g + four bits */
    uint32_t *lag;      /* [2 lag + side][tile][LANES] */
    int32_t *threshold; /* [unit mod RING][LANES] */
    int32_t *field;     /* [unit of the tile][LANES] */
    signed char *row;   /* spins of one lane, for decisions in doubles */
    const lft_cached_model *m;
    const lft_cached_bins *bins;
    const lft_cached_draw *draw;
    ptrdiff_t first; /* bin of lane 0 */
    int n;           /* lanes in use */
    const signed char *phi;
    int64_t flips, exact;
} batch;

enum { BITS = 0x0F0F0F0F, BYTES = 0x30201000 };
static inline uint32_t bit_of(int unit) { return 1u << (8 * (unit / GROUP) + unit % GROUP); }

/* 64 units at a time: the signs of four tiles. */
AVX512 static void pack(const signed char *row, ptrdiff_t n, uint32_t *to)
{
    for (ptrdiff_t i = 0; i < n; i += 64) {
        const __mmask64 valid = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        uint64_t bits = _mm512_cmpgt_epi8_mask(_mm512_maskz_loadu_epi8(valid, row + i), _mm512_setzero_si512());
        for (ptrdiff_t j = i; j < n && j < i + 64; j += TILE, bits >>= TILE, to += LANES)
            *to = _pdep_u32((uint32_t)bits, BITS) | BYTES;
    }
}

AVX512 static void unpack(const uint32_t *from, ptrdiff_t n, signed char low, signed char *row)
{
    for (ptrdiff_t i = 0; i < n; i += 64) {
        const __mmask64 valid = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        uint64_t bits = 0;
        for (ptrdiff_t j = i; j < n && j < i + 64; j += TILE, from += LANES)
            bits |= (uint64_t)_pext_u32(*from, BITS) << (j - i);
        _mm512_mask_storeu_epi8(row + i, valid, _mm512_mask_blend_epi8(bits, _mm512_set1_epi8(low), _mm512_set1_epi8(1)));
    }
}

/* Thresholds of 32 units of all lanes. */
AVX512 static void draw_tile(batch *b, ptrdiff_t tile)
{
    const lft_cached_model *m = b->m;
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
    const uint32_t tail = lft_cached_tail(b->draw, 0);
    uint32_t *T = (uint32_t *)b->threshold + tile * 32 % RING * LANES;
    __m512i keys[20];
    for (uint32_t r = 0; r < 10; r++) {
        keys[2 * r] = _mm512_set1_epi64((uint32_t)b->draw->key + r * 0x9E3779B9u);
        keys[2 * r + 1] = _mm512_set1_epi64((uint32_t)(b->draw->key >> 32) + r * 0xBB67AE85u);
    }
    for (int part = 0; part < PARTS; part++) {
        __m512i base[2];
        for (int half = 0; half < 2; half++) {
            uint64_t block[8];
            for (int l = 0; l < 8; l++) {
                int q = 16 * part + 2 * l + half;
                block[l] = lft_cached_block(b->bins->bin[b->first + (q < b->n ? q : 0)], m->n, 32 * tile);
            }
            base[half] = _mm512_loadu_si512(block);
        }
        for (int g = 0; g < 8; g++) {
            __m512i o[2][4];
            for (int half = 0; half < 2; half++) {
                const __m512i site = _mm512_add_epi64(base[half], _mm512_set1_epi64(g));
                __m512i x = site, y = _mm512_srli_epi64(site, 32);
                __m512i z = _mm512_set1_epi64((uint32_t)b->draw->t), w = _mm512_set1_epi64(tail);
#pragma GCC unroll 10
                for (int r = 0; r < 10; r++) {
                    const __m512i p0 = _mm512_mul_epu32(x, m0), p1 = _mm512_mul_epu32(z, m1);
                    x = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), y, keys[2 * r], 0x96);
                    z = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), w, keys[2 * r + 1], 0x96);
                    y = p1, w = p0;
                }
                o[half][0] = x, o[half][1] = y, o[half][2] = z, o[half][3] = w;
            }
            for (int w = 0; w < 4; w++)
                _mm512_storeu_si512(T + (8 * w + g) * LANES + 16 * part,
                                    _mm512_mask_shuffle_epi32(o[0][w], 0xAAAA, o[1][w], _MM_PERM_CCAA));
        }
    }
    uint32_t special[32 * LANES];
    ptrdiff_t n = lft_cached_thresholds(T, 32 * LANES, m->heatbath, m->block_scale, m->block_margin, special);
    for (ptrdiff_t e = 0; e < n; e++) {
        const ptrdiff_t unit = 32 * tile + special[e] / LANES;
        const int q = (int)(special[e] % LANES);
        const uint64_t bin = b->bins->bin[b->first + (q < b->n ? q : 0)];
        const double noise =
            lft_cached_noise(m->heatbath, lft_cached_block(bin, m->n, unit), lft_cached_word(unit), b->draw);
        ((int32_t *)T)[special[e]] = lft_cached_threshold(noise, m->block_scale, m->block_margin);
    }
}

/* Fields of four units of all lanes from the spins of all units, by tables of the 16 sums of four couplings in steps of
   1/scale, 255 high + low.  One permutation of bytes looks up four groups in sixteen lanes, one dot product adds them. */
AVX512 static void pull(const batch *b, ptrdiff_t chunk, ptrdiff_t first, int32_t *to)
{
    const lft_cached_model *m = b->m;
    const __m512i high = _mm512_set1_epi8((char)255), low = _mm512_set1_epi8(1);
    const int8_t *table = m->table + (chunk * m->n_tiles + first) * STEP;
    const uint32_t *state = b->state + first * LANES;
    const ptrdiff_t last = first + PASS < m->n_tiles ? first + PASS : m->n_tiles;
    __m512i sum[CHUNK][PARTS];
#pragma GCC unroll 4
    for (int i = 0; i < CHUNK; i++)
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; part++)
            sum[i][part] = first ? _mm512_loadu_si512(to + i * LANES + 16 * part)
                                 : _mm512_set1_epi32(m->block_c[chunk * CHUNK + i]);
    for (ptrdiff_t s = first; s < last; s++, state += LANES, table += STEP) {
        __m512i x[PARTS];
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; part++) x[part] = _mm512_loadu_si512(state + 16 * part);
#pragma GCC unroll 4
        for (int i = 0; i < CHUNK; i++) {
            __m512i t = _mm512_load_si512(table + 128 * i), u = _mm512_load_si512(table + 128 * i + 64);
            _mm_prefetch((const char *)table + AHEAD + 128 * i, _MM_HINT_T1);
            _mm_prefetch((const char *)table + AHEAD + 128 * i + 64, _MM_HINT_T1);
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; part++)
                sum[i][part] = _mm512_dpbusd_epi32(sum[i][part], high, _mm512_permutexvar_epi8(x[part], t));
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; part++) {
                sum[i][part] = _mm512_dpbusd_epi32(sum[i][part], low, _mm512_permutexvar_epi8(x[part], u));
                __asm__ volatile("" : "+v"(sum[i][part])); /* in this order, else gcc runs out of registers */
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < CHUNK; i++)
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; part++) _mm512_storeu_si512(to + i * LANES + 16 * part, sum[i][part]);
}

/* The undecided lanes of a unit, first in the resolution of the cached sweep, then in doubles: which of them flip. */
AVX512 static __attribute__((noinline)) uint32_t decide(batch *b, ptrdiff_t unit, int part, uint32_t undecided)
{
    const lft_cached_model *m = b->m;
    uint32_t flips = 0;
    const int32_t *W = m->fixed_W + unit * m->row;
    for (ptrdiff_t j = 0; j < m->n; j += 16) _mm_prefetch((const char *)(W + j), _MM_HINT_T0);
    for (; undecided; undecided &= undecided - 1) {
        const int l = __builtin_ctz(undecided), q = 16 * part + l;
        const ptrdiff_t a = b->first + q;
        const signed char *site = b->phi + b->bins->first[a] + unit;
        const double noise = lft_cached_noise(m->heatbath, lft_cached_block(b->bins->bin[a], m->n, unit),
                                              lft_cached_word(unit), b->draw);
        __m512i sum = _mm512_setzero_si512();
        for (ptrdiff_t s = 0; s < m->n_tiles; s++) {
            const __mmask16 high = (__mmask16)_pext_u32(b->state[s * LANES + q], BITS);
            sum = _mm512_mask_add_epi32(sum, high, sum, _mm512_maskz_loadu_epi32(high, W + TILE * s));
        }
        int32_t fixed = m->fixed_c[unit] + _mm512_reduce_add_epi32(sum);
        for (int d = 0; d < m->n_lags; d++) fixed += m->fixed_K[d] * (site[m->offset[d]] + site[-m->offset[d]]);
        const int x = (b->state[unit / TILE * LANES + q] & bit_of((int)(unit % TILE))) != 0;
        const int sign = m->heatbath || !x ? 1 : -1;
        const double clear = sign * (double)fixed / m->scale - noise;
        int below = clear < 0;
        if (fabs(clear) <= m->margin) {
            unpack(b->state + q, m->n, 0, b->row);
            below = sign * lft_cached_raising(m, b->row, unit, site) < noise;
            b->exact++;
        }
        const int yes = m->heatbath ? below != x : below;
        flips |= (uint32_t)yes << l;
    }
    return flips;
}

/* The units of a tile one after the other, for sixteen lanes. */
AVX512 static inline __attribute__((always_inline)) void triangle(batch *b, ptrdiff_t tile, const int part,
                                                                  const int heatbath)
{
    const lft_cached_model *m = b->m;
    const __m512i zero = _mm512_setzero_si512(), window = _mm512_set1_epi32(m->block_window);
    const int units = (int)(m->n - TILE * tile < TILE ? m->n - TILE * tile : TILE);
    uint32_t *word = b->state + tile * LANES + 16 * part;
    const int32_t *W = m->triangle + tile * TILE * TILE, *T = b->threshold + 16 * part;
    const ptrdiff_t first = TILE * tile;
    __m512i f[TILE], state = _mm512_loadu_si512(word);
    const int left = b->n - 16 * part;
    const __mmask16 valid = (__mmask16)(left >= 16 ? 0xFFFF : left > 0 ? (1 << left) - 1 : 0);
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) f[i] = _mm512_loadu_si512(b->field + i * LANES + 16 * part);
    for (int d = 0; d < 2 * m->n_lags; d++) {
        const __m512i bits = _mm512_loadu_si512(b->lag + (d * m->n_tiles + tile) * LANES + 16 * part);
        const __m512i K = _mm512_set1_epi32(m->block_K[d / 2]);
#pragma GCC unroll 16
        for (int i = 0; i < TILE; i++)
            f[i] = _mm512_mask_add_epi32(f[i], _mm512_test_epi32_mask(bits, _mm512_set1_epi32((int)bit_of(i))), f[i], K);
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) {
        if (i >= units) break;
        const __m512i bit = _mm512_set1_epi32((int)bit_of(i));
        const __m512i t = _mm512_loadu_si512(T + (first + i) % RING * LANES);
        const __mmask16 is_high = _mm512_test_epi32_mask(state, bit);
        const __m512i y =
            _mm512_sub_epi32(heatbath ? f[i] : _mm512_mask_sub_epi32(f[i], is_high, zero, f[i]), t);
        const __mmask16 below = _mm512_movepi32_mask(y);
        const __mmask16 undecided = _mm512_mask_cmplt_epu32_mask(valid, y, window);
        __mmask16 flip = (__mmask16)((heatbath ? below ^ is_high : below) & valid & ~undecided);
        if (__builtin_expect(undecided != 0, 0)) {
            _mm512_storeu_si512(word, state);
            flip |= (__mmask16)decide(b, first + i, part, undecided);
        }
        state = _mm512_mask_xor_epi32(state, flip, state, bit);
        const __mmask16 up = (__mmask16)(flip & ~is_high), down = flip & is_high;
#pragma GCC unroll 16
        for (int j = i + 1; j < TILE; j++) {
            const __m512i w = _mm512_set1_epi32(W[TILE * i + j]);
            f[j] = _mm512_mask_add_epi32(f[j], up, f[j], w);
            f[j] = _mm512_mask_sub_epi32(f[j], down, f[j], w);
        }
        b->flips += __builtin_popcount(flip);
    }
    _mm512_storeu_si512(word, state);
}

AVX512 static void tile_metropolis(batch *b, ptrdiff_t tile)
{
    triangle(b, tile, 0, 0);
    triangle(b, tile, 1, 0);
    triangle(b, tile, 2, 0);
    triangle(b, tile, 3, 0);
}

AVX512 static void tile_heatbath(batch *b, ptrdiff_t tile)
{
    triangle(b, tile, 0, 1);
    triangle(b, tile, 1, 1);
    triangle(b, tile, 2, 1);
    triangle(b, tile, 3, 1);
}

AVX512 static void visit(batch *b, int n_subs, signed char *phi)
{
    const lft_cached_model *m = b->m;
    for (batch *s = b; s < b + n_subs; s++) {
        memset(s->state, 0, sizeof *s->state * (size_t)(m->n_tiles * LANES * (1 + 2 * m->n_lags)));
        for (int q = 0; q < s->n; q++) {
            const signed char *row = phi + s->bins->first[s->first + q];
            pack(row, m->n, s->state + q);
            for (int d = 0; d < m->n_lags; d++) {
                pack(row + m->offset[d], m->n, s->lag + 2 * d * m->n_tiles * LANES + q);
                pack(row - m->offset[d], m->n, s->lag + (2 * d + 1) * m->n_tiles * LANES + q);
            }
        }
    }
    ptrdiff_t drawn = 0;
    for (ptrdiff_t tile = 0; tile < m->n_tiles; tile++) {
        const ptrdiff_t end = TILE * (tile + 1) < m->n ? TILE * (tile + 1) : m->n;
        for (; 32 * drawn < end; drawn++)
            for (int s = 0; s < n_subs; s++) draw_tile(b + s, drawn);
        for (ptrdiff_t first = 0; first < m->n_tiles; first += PASS)
            for (int s = 0; s < n_subs; s++)
                for (int c = 0; c < TILE / CHUNK && TILE * tile + CHUNK * c < m->n; c++)
                    pull(b + s, TILE / CHUNK * tile + c, first, b[s].field + c * CHUNK * LANES);
        for (int s = 0; s < n_subs; s++)
            if (m->heatbath)
                tile_heatbath(b + s, tile);
            else
                tile_metropolis(b + s, tile);
    }
    for (batch *s = b; s < b + n_subs; s++)
        for (int q = 0; q < s->n; q++)
            unpack(s->state + q, m->n, (signed char)m->low, phi + s->bins->first[s->first + q]);
}
#endif

int64_t lft_cached_blocked(const lft_cached_model *m, const lft_cached_bins *bins, signed char *phi,
                           const lft_cached_draw *draw, int32_t *work, int n_threads, int64_t *exact)
{
    int64_t flips = 0, slow = 0;
#if LFT_X86
    const ptrdiff_t size = batch_work(m), words = m->n_tiles * LANES;
    ptrdiff_t subs = (bins->n + (ptrdiff_t)LANES * n_threads - 1) / ((ptrdiff_t)LANES * n_threads);
    subs = subs < 1 ? 1 : subs > SUBS ? SUBS : subs;
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_threads) schedule(static) reduction(+ : flips, slow)
#endif
    for (ptrdiff_t first = 0; first < bins->n; first += subs * LANES) {
        batch b[SUBS];
        int n = 0;
        for (ptrdiff_t lane = first; lane < bins->n && n < subs; lane += LANES, n++) {
            int32_t *own = work + (THREAD * SUBS + n) * size;
            b[n] = (batch){.m = m, .bins = bins, .draw = draw, .first = lane, .phi = phi};
            b[n].n = (int)(bins->n - lane < LANES ? bins->n - lane : LANES);
            b[n].threshold = own;
            b[n].field = own + RING * LANES;
            b[n].state = (uint32_t *)(b[n].field + TILE * LANES);
            b[n].lag = b[n].state + words;
            b[n].row = (signed char *)(b[n].lag + 2 * m->n_lags * words);
        }
        visit(b, n, phi);
        for (int s = 0; s < n; s++) flips += b[s].flips, slow += b[s].exact;
    }
#endif
    (void)n_threads;
    *exact += slow;
    return flips;
}
