/* Bit-sliced chains of one graph: the C face and, included once per instruction set, the loops.
 * Design: sparse_bits.c. */
#ifndef LFT_SPARSE_BITS_H
#define LFT_SPARSE_BITS_H
#include <stddef.h>
#include <stdint.h>

#define LFT_SPARSE_HEAD 11     /* bits of the uniform compared bit-sliced; the other 53: a block of the chain */
#define LFT_SPARSE_WORDS 8     /* words of a block of 512 chains */
#define LFT_SPARSE_AHEAD 24    /* edges between use and prefetch; the array of edges is longer by as much */
#define LFT_SPARSE_CLASSES 32  /* most thresholds that are compared bit-sliced */
#define LFT_SPARSE_GROUP_BIT 36 /* of the lower word of the counter: the unit below it, bytes 2 and 7 zero */
#define LFT_SPARSE_NEVER 254   /* class of probability 0 */
#define LFT_SPARSE_ALWAYS 255  /* class of probability 1 */

/* How units of one degree and field are updated.  combo = set members + (degree + 1) (own spin, if by_spin) */
typedef struct {
    int degree, heatbath, by_spin, n_classes;
    int fast;                  /* no field: classes in the order of the count, loops without tables */
    int single;                /* more classes: chain by chain, thresholds by combo */
    const uint8_t *class_of;   /* per combo: class, NEVER or ALWAYS */
    const uint8_t *inverted;   /* per combo: heat bath, the probability is that of the value 0 */
    const uint64_t *threshold; /* per class (single: per combo): round(2^64 p) */
    const uint64_t *plane;     /* per bit of the head and class: bit 63-k of the threshold, spread over a word */
} lft_sparse_rule;

typedef struct {
    ptrdiff_t n;
    const int64_t *start;      /* n + 1: first edge of each unit */
    const int32_t *to;         /* per edge: 2 neighbor + (J < 0) */
    const uint16_t *rule_of;   /* per unit */
    const lft_sparse_rule *rules;
} lft_sparse_graph;

int64_t lft_sparse_bits_sweep(const lft_sparse_graph *graph, uint64_t *state, const uint64_t *mask, ptrdiff_t n_blocks,
                              uint64_t group, uint64_t t, uint32_t stream, uint64_t key, int n_threads);
void lft_sparse_pack(const signed char *values, ptrdiff_t row, ptrdiff_t n_rows, ptrdiff_t n, int first,
                     uint64_t *words, ptrdiff_t step);
void lft_sparse_unpack(const uint64_t *words, ptrdiff_t step, ptrdiff_t n, ptrdiff_t n_rows, int first, int low,
                       signed char *values, ptrdiff_t row);
const char *lft_sparse_bits_path(void);
int lft_sparse_bits_force(const char *name);
#endif

#ifdef LFT_SPARSE_BITS_LOOPS
typedef uint64_t NAME(v) __attribute__((vector_size(VEC)));
typedef uint64_t NAME(u) __attribute__((vector_size(VEC), aligned(8), may_alias));
#define V NAME(v)
#define LOAD(p) ((V) * (const NAME(u) *)(p))
#define STORE(p, x) (*(NAME(u) *)(p) = (x))
#define SPREAD(word) ((V){} + (word))
#define LANES (VEC / 8)
#define INLINE ATTR static inline __attribute__((always_inline))

typedef struct { V key[7], first, head[LFT_SPARSE_HEAD], lane, low; } NAME(keys);

/* Chains undecided after the head: the rest of the threshold against the chain's own block. */
ATTR static __attribute__((noinline)) int64_t NAME(tail)(const lft_sparse_graph *g, const lft_sparse_rule *rule,
                                                        uint64_t *state, ptrdiff_t i, ptrdiff_t word, V alike, V flips,
                                                        uint64_t group, uint64_t high, uint64_t key)
{
    int64_t change = 0;
    for (int j = 0; j < LANES; j++) {
        for (uint64_t rest = alike[j]; rest; rest &= rest - 1) {
            const ptrdiff_t w = word + j;
            const int b = __builtin_ctzll(rest);
            uint64_t block[2], kept = rule->heatbath ? flips[j] >> b & 1 : 0;
            ars_block(counter(i, group + (uint64_t)(w >> 1)), high | 128 | (uint64_t)((w & 1) << 6 | b), key, block);
            int c = rule->class_of[combination(g, rule, state, i, w, b)];
            uint64_t hit = (block[0] >> LFT_SPARSE_HEAD) < (rule->threshold[c] & (~(uint64_t)0 >> LFT_SPARSE_HEAD));
            state[LFT_SPARSE_WORDS * i + w] ^= hit << b;
            change += (int64_t)hit * (1 - 2 * (int64_t)kept);
        }
    }
    return change;
}

/* One register of chains of unit i, given which chain is in which class. */
INLINE int64_t NAME(decide)(const lft_sparse_graph *g, const lft_sparse_rule *rule, const NAME(keys) *keys,
                            const V *member, int n_classes, V always, V inverted, V spin, V mask, uint64_t *state,
                            ptrdiff_t i, ptrdiff_t word, uint64_t group, uint64_t high, uint64_t key, int heatbath,
                            V *total)
{
    V open = (V){}, accept = (V){};
    const V low = (keys->lane + SPREAD(counter(i, group + (uint64_t)(word >> 1)))) & keys->low;
    _Pragma("GCC unroll 5")
    for (int c = 0; c < n_classes; c++) open |= member[c];
    open &= mask;
    V alike = open;
    if (n_classes) {
        const V common = ROUNDS(low ^ keys->first, keys->key, 0, 2);
        _Pragma("GCC unroll 16")
        for (int k = LFT_SPARSE_HEAD - 1; k >= 0; k--) {
            const V noise = ROUNDS(common ^ keys->head[k], keys->key, 2, 7);
            const uint64_t *plane = rule->plane + k * n_classes;
            V t = SPREAD(plane[n_classes - 1]); /* every open chain is in a class: the last needs no mask */
            _Pragma("GCC unroll 5")
            for (int c = n_classes - 2; c >= 0; c--) t = MUX(member[c], SPREAD(plane[c]), t);
            accept = LESS(noise, t, accept);
            alike = EQUAL(alike, noise, t);
        }
    }
    accept = (accept & open) | always;
    const V flips = (heatbath ? accept ^ inverted ^ spin : accept) & mask;
    STORE(state + LFT_SPARSE_WORDS * i + word, spin ^ flips);
    *total += COUNT(flips);
    return NONZERO(alike) ? NAME(tail)(g, rule, state, i, word, alike, flips, group, high, key) : 0;
}

/* No field, n neighbors: one-hot counts.  Metropolis: class = unsatisfied bonds, up to (n-1)/2, more are always
 * accepted; heat bath: class c has c or n-c neighbors that push up. */
INLINE int64_t NAME(fast)(const lft_sparse_graph *g, const lft_sparse_rule *rule, const NAME(keys) *keys,
                          const int32_t *to, int n, int heatbath, V mask, uint64_t *state, ptrdiff_t i, ptrdiff_t word,
                          uint64_t group, uint64_t high, uint64_t key, V *total)
{
    V spin = LOAD(state + LFT_SPARSE_WORDS * i + word), count[9], member[5], always = (V){}, inverted = (V){};
    const int kept = heatbath ? n + 1 : (n + 1) / 2, classes = heatbath ? n / 2 + 1 : kept;
    _Pragma("GCC unroll 8")
    for (int m = 0; m < n; m++) {
        V x = LOAD(state + LFT_SPARSE_WORDS * (ptrdiff_t)(to[m] >> 1) + word) ^ SPREAD(signs[to[m] & 1]);
        if (!heatbath) x ^= spin;
        if (m + 1 < kept) count[m + 1] = m ? x & count[m] : x;
        _Pragma("GCC unroll 8")
        for (int u = m + 1 < kept ? m : kept - 1; u > 0; u--) count[u] = MUX(x, count[u - 1], count[u]);
        count[0] = m ? count[0] & ~x : ~x;
    }
    if (heatbath) {
        _Pragma("GCC unroll 8")
        for (int c = 0; c < classes; c++) {
            member[c] = 2 * c == n ? count[c] : count[c] | count[n - c];
            if (2 * c < n) inverted |= count[c];
        }
    } else {
        V any = (V){};
        _Pragma("GCC unroll 8")
        for (int c = 0; c < classes; c++) {
            member[c] = count[c];
            any |= count[c];
        }
        always = ~any;
    }
    return NAME(decide)(g, rule, keys, member, classes, always, inverted, spin, mask, state, i, word, group, high, key,
                        heatbath, total);
}

/* Any degree and field: counts in binary, then every combination by table. */
ATTR static __attribute__((noinline)) int64_t NAME(general)(const lft_sparse_graph *g, const lft_sparse_rule *rule,
                                                           const NAME(keys) *keys, const int32_t *to, V mask,
                                                           uint64_t *state, ptrdiff_t i, ptrdiff_t word, uint64_t group,
                                                           uint64_t high, uint64_t key, V *total)
{
    const V spin = LOAD(state + LFT_SPARSE_WORDS * i + word);
    V digit[32], member[LFT_SPARSE_CLASSES], always = (V){}, inverted = (V){};
    int n_digits = 0;
    for (int m = 0; m < rule->degree; m++) {
        V x = LOAD(state + LFT_SPARSE_WORDS * (ptrdiff_t)(to[m] >> 1) + word) ^ SPREAD(signs[to[m] & 1]);
        if (!rule->heatbath) x ^= spin;
        if (!((m + 1) & m)) digit[n_digits++] = (V){}; /* m + 1 = 2^k needs one digit more */
        for (int d = 0; d < n_digits; d++) {
            V carry = digit[d] & x;
            digit[d] ^= x;
            x = carry;
        }
    }
    for (int c = 0; c < rule->n_classes; c++) member[c] = (V){};
    for (int u = 0; u <= rule->degree; u++) {
        V is = ~(V){};
        for (int d = 0; d < n_digits; d++) is &= u >> d & 1 ? digit[d] : ~digit[d];
        for (int s = 0; s <= rule->by_spin; s++) {
            const int combo = u + s * (rule->degree + 1), c = rule->class_of[combo];
            const V here = !rule->by_spin ? is : s ? is & spin : is & ~spin;
            if (c == LFT_SPARSE_ALWAYS) always |= here;
            else if (c != LFT_SPARSE_NEVER) member[c] |= here;
            if (rule->inverted[combo]) inverted |= here;
        }
    }
    return NAME(decide)(g, rule, keys, member, rule->n_classes, always, inverted, spin, mask, state, i, word, group,
                        high, key, rule->heatbath, total);
}

#define FAST(N, HEATBATH)                                                                                             \
    case N + 16 * HEATBATH:                                                                                           \
        extra += NAME(fast)(g, rule, &keys, to, N, HEATBATH, LOAD(mask + w), state, i, w, group, high, key, &total);  \
        break;

ATTR static int64_t NAME(sweep)(const lft_sparse_graph *g, uint64_t *state, const uint64_t *mask, uint64_t group,
                                uint64_t high, uint64_t key)
{
    NAME(keys) keys;
    V total = (V){};
    int64_t extra = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t pair[2];
        round_key(key, i, pair);
        for (int j = 0; j < LANES; j++) {
            if (i) keys.key[i - 1][j] = pair[j & 1];
            else keys.first[j] = pair[j & 1] ^ (j & 1 ? high : 0);
        }
    }
    for (int j = 0; j < LANES; j++) {
        keys.lane[j] = (uint64_t)(j >> 1) << LFT_SPARSE_GROUP_BIT;
        keys.low[j] = j & 1 ? 0 : ~(uint64_t)0;
    }
    for (uint64_t k = 0; k < LFT_SPARSE_HEAD; k++) {
        V one = keys.first;
        for (int j = 1; j < LANES; j += 2) one[j] ^= k;
        keys.head[k] = ROUNDS(one, keys.key, 0, 2) ^ ROUNDS(keys.first, keys.key, 0, 2);
    }
    for (ptrdiff_t i = 0; i < g->n; i++) {
        const lft_sparse_rule *rule = g->rules + g->rule_of[i];
        const int32_t *to = g->to + g->start[i];
        if (rule->single) {
            extra += single_unit(g, rule, state, mask, i, group, high, key);
            continue;
        }
        const int ahead = rule->degree < LFT_SPARSE_AHEAD ? rule->degree : LFT_SPARSE_AHEAD;
        for (int m = 0; m < ahead; m++)
            __builtin_prefetch(state + LFT_SPARSE_WORDS * (ptrdiff_t)(to[m + LFT_SPARSE_AHEAD] >> 1));
        for (ptrdiff_t w = 0; w < LFT_SPARSE_WORDS; w += LANES) {
            switch (rule->fast) {
                FAST(1, 0) FAST(2, 0) FAST(3, 0) FAST(4, 0) FAST(5, 0) FAST(6, 0) FAST(7, 0) FAST(8, 0)
                FAST(1, 1) FAST(2, 1) FAST(3, 1) FAST(4, 1) FAST(5, 1) FAST(6, 1) FAST(7, 1) FAST(8, 1)
            default:
                extra += NAME(general)(g, rule, &keys, to, LOAD(mask + w), state, i, w, group, high, key, &total);
            }
        }
    }
    for (int j = 0; j < LANES; j++) extra += (int64_t)total[j];
    return extra;
}
#undef V
#undef LOAD
#undef STORE
#undef SPREAD
#undef LANES
#undef INLINE
#undef FAST
#endif
