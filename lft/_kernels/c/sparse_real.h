/* Real couplings on a graph, one chain or chains in lanes: the C face and, included once per instruction set, the
 * loops.  Design: sparse_real.c. */
#ifndef LFT_SPARSE_REAL_H
#define LFT_SPARSE_REAL_H
#include <stddef.h>
#include <stdint.h>

#define LFT_LANES_AHEAD 24 /* edges between use and prefetch; ``to`` of lanes is longer by as much */
#define LFT_BATCH 64 /* groups of slots of one color that are decided before any neighbor is told */
#define LFT_SLOTS 32 /* slots of a color come in multiples of this */

/* What decides: exact numbers for the decision in double precision, rounded ones for the bound that settles most.
 * Units (lanes) or slots (colors); the neighbors of one are summed in the order of its edges. */
typedef struct {
    int heatbath;
    ptrdiff_t n;
    const int64_t *start;   /* n + 1: first edge */
    const int32_t *to;      /* per edge: neighbor */
    const double *J;        /* per edge */
    const double *h;        /* per unit */
    const double *extra;    /* per unit: added to dS under Metropolis (log 2 where nothing acts on the unit, else 0) */
    const float *most;      /* per unit (colors: per 32 slots): 65536 exp(-extra) */
    const float *margin;    /* the same: bound of the relative error of the probability */
    /* lanes */
    const float *base;      /* per unit: h - sum J, rounded */
    const float *twice;     /* per edge: 2 J, rounded */
    /* colors */
    const int32_t *push;    /* per edge: 2 J of the neighbor's fixed-point field */
    const float *scale;     /* per slot: what the fixed-point field is multiplied with, -2 log2 e times its unit */
    const uint32_t *valid;  /* per 32 slots: which exist */
    const uint8_t *last;    /* per 32 slots: whether they are the last of their color */
} lft_sparse_net;

int64_t lft_sparse_lanes_sweep(const lft_sparse_net *net, uint64_t *state, const uint64_t *mask, const double *beta,
                               ptrdiff_t n_words, uint64_t word0, uint64_t t, uint32_t stream, uint64_t key,
                               int n_threads);
int64_t lft_sparse_colors_sweep(const lft_sparse_net *net, uint32_t *state, int32_t *field, ptrdiff_t n_chains,
                                uint64_t chain0, uint64_t t, uint32_t stream, uint64_t key, int n_threads);
void lft_sparse_colors_fields(const lft_sparse_net *net, const int32_t *own, const uint32_t *state, int32_t *field,
                              ptrdiff_t n_chains);
ptrdiff_t lft_sparse_color(ptrdiff_t n, const int64_t *start, const int32_t *to, int32_t *color, int32_t *last);
void lft_sparse_random(uint64_t low, uint64_t high, uint64_t key, uint64_t out[2]);
const char *lft_sparse_real_path(void);
int lft_sparse_real_force(const char *name);
#endif

#ifdef LFT_SPARSE_REAL_LOOPS
/* Expects of ars_macros.h NAME, ATTR, VEC, ROUNDS; and of floats
 * FMA(a, b, c), MIN, MAX, LESS_BITS(a, b), ADD_IF(x, bits, y), NEGATE_IF(x, bits). */
typedef uint64_t NAME(v) __attribute__((vector_size(VEC)));
typedef uint64_t NAME(u) __attribute__((vector_size(VEC), aligned(8), may_alias));
typedef float NAME(f) __attribute__((vector_size(VEC)));
typedef int32_t NAME(i) __attribute__((vector_size(VEC)));
typedef float NAME(fu) __attribute__((vector_size(VEC), aligned(4), may_alias));
typedef int32_t NAME(iu) __attribute__((vector_size(VEC), aligned(4), may_alias));
typedef uint16_t NAME(h) __attribute__((vector_size(VEC / 2), aligned(2), may_alias));
#define V NAME(v)
#define F NAME(f)
#define I NAME(i)
#define ALL(x) ((F){} + (x))
#define WIDE (VEC / 4)
#define FULL ((uint32_t)((1ull << WIDE) - 1))
#define STORE(p, x) (*(NAME(u) *)(p) = (x))
#define INLINE ATTR static inline __attribute__((always_inline))

typedef struct { V key[7], first, lane, low; } NAME(keys);

/* ``step``: what the next group of eight chains or slots adds to the counter. */
ATTR static void NAME(prepare)(NAME(keys) *keys, uint64_t step, uint64_t high, uint64_t key)
{
    for (int i = 0; i < 8; i++) {
        uint64_t pair[2];
        round_key(key, i, pair);
        for (int j = 0; j < VEC / 8; j++) {
            if (i) keys->key[i - 1][j] = pair[j & 1];
            else keys->first[j] = pair[j & 1] ^ (j & 1 ? high : 0);
        }
    }
    for (int j = 0; j < VEC / 8; j++) {
        keys->lane[j] = (uint64_t)(j >> 1) * step;
        keys->low[j] = j & 1 ? 0 : ~(uint64_t)0;
    }
}

/* At least ``n`` numbers of 16 bits, 8 per block, from the group of this counter on. */
INLINE void NAME(draw)(const NAME(keys) *keys, uint64_t low, uint64_t step, int n, uint16_t *out)
{
    _Pragma("GCC unroll 8")
    for (int b = 0; b < n / 8; b += VEC / 16)
        STORE(out + 8 * b,
              ROUNDS(((keys->lane + ((V){} + (low + (uint64_t)b * step))) & keys->low) ^ keys->first, keys->key, 0, 7));
}

/* 2^y for |y| <= 30, relative error below 5e-6. */
INLINE F NAME(power)(F y)
{
    const F n = (y + 12582912.0f) - 12582912.0f, r = y - n;
    F p = FMA(r, ALL(9.58285e-3f), ALL(5.590642e-2f));
    p = FMA(p, r, ALL(2.4024099e-1f));
    p = FMA(p, r, ALL(6.9312419e-1f));
    p = FMA(p, r, ALL(1.0f));
    return (F)((I)p + (__builtin_convertvector(n, I) << 23));
}

/* The first 16 bits k of each uniform against the probability q / 65536, known to a factor 1 +- margin: bits of what is
 * certainly below it and of what is not certain. */
INLINE void NAME(compare)(F y, const uint16_t *noise, float most, float margin, int heatbath, uint32_t *sure,
                          uint32_t *open)
{
    const F bound = ALL(30.0f);
    y = MIN(MAX(y, -bound), bound);
    F q = NAME(power)(y);
    q = heatbath ? ALL(65536.0f) / (q + 1.0f) : q * most;
    const F k = __builtin_convertvector(__builtin_convertvector(*(const NAME(h) *)noise, I), F);
    const uint32_t maybe = LESS_BITS(k, q * (1.0f + margin));
    *sure = ~LESS_BITS(q * (1.0f - margin), k + 1.0f) & FULL;
    *open = maybe & ~*sure;
}

/* ---- lanes: one unit of 64 chains; N registers from the chain FIRST on */
INLINE void NAME(lanes)(const lft_sparse_net *net, const NAME(keys) *keys, const uint64_t *state, ptrdiff_t i,
                        uint64_t counter, const float *factor, int first, int n, uint64_t *sure, uint64_t *open)
{
    uint16_t noise[64] __attribute__((aligned(64)));
    F f[64 / WIDE]; /* the narrowest registers need most of them */
    const int heatbath = net->heatbath;
    NAME(draw)(keys, counter + ((uint64_t)first >> 3 << 32), (uint64_t)1 << 32, n * WIDE < 16 ? 16 : n * WIDE, noise);
    _Pragma("GCC unroll 8")
    for (int p = 0; p < n; p++) f[p] = ALL(net->base[i]);
    for (int64_t e = net->start[i]; e < net->start[i + 1]; e++) {
        const uint64_t word = state[net->to[e]] >> first;
        const F twice = ALL(net->twice[e]);
        __builtin_prefetch(state + net->to[e + LFT_LANES_AHEAD]);
        _Pragma("GCC unroll 8")
        for (int p = 0; p < n; p++) f[p] = ADD_IF(f[p], (word >> (p * WIDE)) & FULL, twice);
    }
    const uint64_t own = state[i];
    const float most = net->most[i], margin = net->margin[i];
    *sure = *open = 0;
    _Pragma("GCC unroll 8")
    for (int p = 0; p < n; p++) {
        const int at = first + p * WIDE;
        uint32_t s, o;
        if (!heatbath) f[p] = NEGATE_IF(f[p], (uint32_t)(~own >> at) & FULL);
        NAME(compare)(f[p] * *(const NAME(fu) *)(factor + at), noise + p * WIDE, most, margin, heatbath, &s, &o);
        *sure |= (uint64_t)s << at;
        *open |= (uint64_t)o << at;
    }
}

/* One word of chains; ``word`` is its global number. */
ATTR static int64_t NAME(lanes_sweep)(const lft_sparse_net *net, uint64_t *state, uint64_t mask, const double *beta,
                                      uint64_t word, uint64_t high, uint64_t key)
{
    NAME(keys) keys;
    float factor[64] __attribute__((aligned(64)));
    int64_t flips = 0;
    NAME(prepare)(&keys, (uint64_t)1 << 32, high, key);
    for (int r = 0; r < 64; r++) factor[r] = (float)(-2.8853900817779268 * beta[r]);
    const int is_whole = POPCOUNT(mask) > 32;
    for (ptrdiff_t i = 0; i < net->n; i++) {
        const uint64_t counter = (uint64_t)i | (word << 3) << 32;
        uint64_t sure = 0, open = 0;
        if (is_whole) {
            NAME(lanes)(net, &keys, state, i, counter, factor, 0, 64 / WIDE, &sure, &open);
        } else {
            for (int first = 0; first < 64; first += 16) {
                uint64_t s, o;
                if (!(mask >> first & 0xFFFF)) continue;
                NAME(lanes)(net, &keys, state, i, counter, factor, first, 16 / WIDE, &s, &o);
                sure |= s;
                open |= o;
            }
        }
        const uint64_t own = state[i];
        for (open &= mask; open; open &= open - 1) {
            const int r = __builtin_ctzll(open);
            sure |= (uint64_t)lane_exact(net, state, i, r, beta[r], counter, high, key) << r;
        }
        const uint64_t changed = (net->heatbath ? sure ^ own : sure) & mask;
        state[i] = own ^ changed;
        flips += POPCOUNT(changed);
    }
    return flips;
}

/* ---- colors: one chain */
ATTR static int64_t NAME(colors_sweep)(const lft_sparse_net *net, uint32_t *state, int32_t *field, uint64_t chain,
                                       uint64_t high, uint64_t key)
{
    NAME(keys) keys;
    uint16_t noise[LFT_SLOTS] __attribute__((aligned(64)));
    uint32_t batch[LFT_BATCH];
    int64_t flips = 0;
    ptrdiff_t n = 0;
    const int heatbath = net->heatbath;
    NAME(prepare)(&keys, 1, high, key);
    for (ptrdiff_t g = 0; g < net->n / LFT_SLOTS; g++) {
        const uint64_t counter = (uint64_t)(g * (LFT_SLOTS / 8)) | chain << 32;
        const uint32_t own = state[g];
        const float most = net->most[g], margin = net->margin[g];
        uint32_t sure = 0, open = 0;
        NAME(draw)(&keys, counter, 1, LFT_SLOTS, noise);
        _Pragma("GCC unroll 8")
        for (int at = 0; at < LFT_SLOTS; at += WIDE) {
            const ptrdiff_t x = g * LFT_SLOTS + at;
            uint32_t s, o;
            F f = __builtin_convertvector((I)*(const NAME(iu) *)(field + x), F) * *(const NAME(fu) *)(net->scale + x);
            if (!heatbath) f = NEGATE_IF(f, ~own >> at & FULL);
            NAME(compare)(f, noise + at, most, margin, heatbath, &s, &o);
            sure |= s << at;
            open |= o << at;
        }
        for (open &= net->valid[g]; open; open &= open - 1) {
            const int b = __builtin_ctz(open);
            sure |= (uint32_t)slot_exact(net, state, g * LFT_SLOTS + b, counter, high, key) << b;
        }
        const uint32_t changed = (heatbath ? sure ^ own : sure) & net->valid[g];
        state[g] = own ^ changed;
        flips += POPCOUNT(changed);
        batch[n++] = changed;
        if (n == LFT_BATCH || net->last[g]) {
            tell_neighbors(net, state, field, g + 1 - n, batch, n);
            n = 0;
        }
    }
    return flips;
}
#undef V
#undef F
#undef I
#undef ALL
#undef WIDE
#undef FULL
#undef STORE
#undef INLINE
#endif
