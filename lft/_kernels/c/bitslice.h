/* Bit-sliced Ising sweeps: the C face and, included once per instruction set, the loops.  Design: bitslice.c. */
#ifndef LFT_BITSLICE_H
#define LFT_BITSLICE_H
#include <stddef.h>
#include <stdint.h>

#define LFT_BITS_HEAD 11     /* bits of the uniform compared bit-sliced; the other 53 come from a block of the site */
#define LFT_BITS_MEMBERS 9   /* eight neighbors and the site itself */
#define LFT_BITS_GROUPS 5
#define LFT_BITS_COMBOS 162  /* 3^4 neighbor counts, two values of the site */
#define LFT_BITS_GRAIN 8     /* chunks that are worth a thread */
#define LFT_BITS_SHAPED 15   /* most combinations of the loops for two groups of fixed size */
#define LFT_BITS_ALWAYS 255  /* class of probability 1 */
#define LFT_BITS_UP 4        /* of the counts of a pass: sites that are up; before it the axes */

enum { LFT_BITS_SELF, LFT_BITS_SIDE, LFT_BITS_LINE, LFT_BITS_SPIN };
enum { LFT_BITS_OPEN, LFT_BITS_EVEN, LFT_BITS_ODD };

/* What decides the new value of a site: members are bits, joined in groups of equal |K|; the counts of set bits per
 * group, mixed radix with the first group slowest, select a class, and the class a threshold. */
typedef struct {
    int heatbath, n_groups, n_members, n_combos, n_classes;
    int fast;                                /* one group, classes in the order of the count: loops without tables */
    int shape;                               /* 10 size[0] + size[1] where there are loops of these sizes, else 0 */
    int size[LFT_BITS_GROUPS];               /* members per group */
    int kind[LFT_BITS_MEMBERS];
    ptrdiff_t offset[LFT_BITS_MEMBERS];      /* words, of kind LINE */
    uint64_t flip[LFT_BITS_MEMBERS];         /* all bits set where K < 0 */
    uint8_t class_of[LFT_BITS_COMBOS];       /* class or ALWAYS */
    uint8_t inverted[LFT_BITS_COMBOS];       /* heat bath: the probability is that of the value 0 */
    uint64_t threshold[LFT_BITS_COMBOS];     /* round(2^64 p) */
    uint64_t select[8][LFT_BITS_SHAPED];     /* all bits set where a combination is in a class */
    uint64_t invert[LFT_BITS_SHAPED];        /* and where the probability is that of the value 0 */
    uint64_t plane[LFT_BITS_HEAD][LFT_BITS_COMBOS]; /* bit 63-k of the threshold, spread over a word */
} lft_bits_rule;

typedef struct {
    ptrdiff_t words;                         /* per row, even */
    ptrdiff_t bits[2];                       /* sites of a line with even j, with odd j */
    ptrdiff_t chunk;                         /* lines per chunk */
    int closed, ends;                        /* last axis OPEN, EVEN or ODD; open and coupled: ends one by one */
    const uint64_t *mask[2];                 /* sites of the sliced update, for chunks whose first row is even, odd */
    const uint64_t *right[2], *left[2];      /* even sites with a neighbor j+1, j-1; 0 on rows of odd sites */
    const uint64_t *valid[2];                /* all sites */
    const uint64_t *same[2], *moved[2];      /* sites whose neighbors along the line exist: the one in the same bit of
                                                the other plane, the one that ``side`` holds */
    int threads;                             /* at most so many; each has its own work arrays */
    ptrdiff_t work;                          /* words from the arrays of a thread to those of the next */
    uint64_t *side, *open, *flipped, *list;  /* work arrays of one chunk */
} lft_bits_rows;

typedef struct {                             /* runs of lines that are neighbors in memory and have the same rule */
    ptrdiff_t n;
    const ptrdiff_t *word, *lines, *parity;  /* first word, lines, parity of the coordinates of the first line */
    const uint64_t *unit;                    /* global number of the first 128 bits */
} lft_bits_runs;

typedef struct {                             /* what a pass counts of the lines it leaves, neighbors included */
    int n;                                   /* neighbors in other lines */
    int axis[LFT_BITS_MEMBERS];              /* stored axis of each */
    ptrdiff_t offset[LFT_BITS_MEMBERS];      /* words */
    int last;                                /* number of the last stored axis */
} lft_bits_bonds;

/* Update one color of the lines; returns the number of sites that changed.  With ``bonds``, counts[a] grows by the
 * bonds with unlike ends along axis a of the updated sites, counts[LFT_BITS_UP] by the sites of the lines, of both
 * colors, that are up.  Not for closed lines of odd length. */
int64_t lft_bits_pass(const lft_bits_rule *rule, const lft_bits_rule *end, const lft_bits_rows *rows,
                      const lft_bits_runs *runs, uint64_t *own, const uint64_t *other, int color, uint64_t t,
                      uint32_t stream, uint64_t key, const lft_bits_bonds *bonds, int64_t *counts);
/* The last column of closed lines of odd length, a color class of its own: site by site. */
int64_t lft_bits_seam(const lft_bits_rule *rule, const lft_bits_rows *rows, const lft_bits_runs *runs, uint64_t *own,
                      const uint64_t *other, int color, uint64_t t, uint32_t stream, uint64_t key);
int64_t lft_bits_unlike(const lft_bits_rows *rows, const lft_bits_runs *runs, const uint64_t *own,
                        const uint64_t *other, ptrdiff_t offset, int color);
int64_t lft_bits_unlike_along(const lft_bits_rows *rows, const lft_bits_runs *runs, const uint64_t *own,
                              const uint64_t *other, int color);
int64_t lft_bits_count(const uint64_t *words, ptrdiff_t n);
void lft_bits_columns(const uint64_t *plane, const ptrdiff_t *word, ptrdiff_t n, ptrdiff_t words, int64_t *counts);
void lft_bits_pack(const signed char *line, ptrdiff_t length, uint64_t *even, uint64_t *odd);
void lft_bits_unpack(const uint64_t *even, const uint64_t *odd, ptrdiff_t length, signed char *line);
void lft_bits_aes_round(uint64_t state[2], const uint64_t key[2], int last);
void lft_bits_random(uint64_t low, uint64_t high, uint64_t key, uint64_t out[2]);
const char *lft_bits_path(void);
int lft_bits_force(const char *name);
#endif

#ifdef LFT_BITS_LOOPS
/* Expects NAME(x), ATTR, VEC (bytes), GROUP (rounds generated together), MUX, LESS, EQUAL, XOR3, MAJORITY, NEITHER,
 * XORAND, ORAND, ROUNDS(x, keys, from, to), COUNT(v), NONZERO(v), BLOCK, POPCOUNT. */
typedef uint64_t NAME(v) __attribute__((vector_size(VEC)));
typedef uint64_t NAME(u) __attribute__((vector_size(VEC), aligned(8), may_alias));
#define V NAME(v)
#define LOAD(p) ((V) * (const NAME(u) *)(p))
#define STORE(p, x) (*(NAME(u) *)(p) = (x))
#define LANES (VEC / 8)
#define INLINE ATTR static inline __attribute__((always_inline))

typedef struct { V key[7], first, head[LFT_BITS_HEAD], lane, low; } NAME(keys);

INLINE V NAME(spread)(const uint64_t pair[2])
{
    V x;
    for (int j = 0; j < LANES; j++) x[j] = pair[j & 1];
    return x;
}

/* Neighbors along the line that sit in another bit: even sites (r = 0) see bit m-1 of the odd ones, odd sites bit
 * m+1 of the even ones.  The wrap is set for a closed axis, 0 at an open end; of an odd length the last site has the
 * parity of the first, so its bit comes from the row's own plane, and no odd site wraps. */
ATTR static void NAME(sides)(const lft_bits_rows *rows, const uint64_t *own, const uint64_t *other, ptrdiff_t lines,
                             int r)
{
    const int is_odd = rows->closed == LFT_BITS_ODD;
    const ptrdiff_t words = rows->words, last = rows->bits[is_odd ? 0 : 1] - 1, end = last >> 6;
    const uint64_t keep = rows->closed != LFT_BITS_OPEN, bit = (uint64_t)1 << (last & 63);
    const uint64_t *ring = is_odd ? own : other;
    uint64_t *side = rows->side;
    if (words == 2 && LANES > 2) {          /* several lines in a register */
        uint64_t even[LANES], low[LANES], high[LANES];
        for (int j = 0; j < LANES; j++) {
            even[j] = ((r ^ (j >> 1)) & 1) ? 0 : ~(uint64_t)0;
            low[j] = (j & 1) ? 0 : 1;
            high[j] = rows->closed == LFT_BITS_EVEN && (j & 1) == end ? bit : 0;
        }
        const V is_even = LOAD(even), first = LOAD(low), final = LOAD(high), wrap = (V){} + keep;
        const int shift = (int)(last & 63);
        for (ptrdiff_t i = 0; i < 2 * lines; i += LANES) {
            V x = LOAD(other + i), top = LOAD(ring + i + end), bottom = LOAD(other + i - end);
            V up = (((x << 1) | (LOAD(other + i - 1) >> 63)) & ~first) | ((top >> shift) & first & wrap);
            V down = (((x >> 1) | (LOAD(other + i + 1) << 63)) & ~final) | (((bottom & wrap) << shift) & final);
            STORE(side + i, MUX(is_even, up, down));
        }
        return;
    }
    for (ptrdiff_t l = 0; l < lines; l++, other += words, ring += words, side += words, r ^= 1) {
        if (r == 0) {
            for (ptrdiff_t w = 0; w < words; w += LANES)
                STORE(side + w, (LOAD(other + w) << 1) | (LOAD(other + w - 1) >> 63));
            side[0] = (side[0] & ~(uint64_t)1) | ((ring[end] >> (last & 63)) & keep);
        } else {
            for (ptrdiff_t w = 0; w < words; w += LANES)
                STORE(side + w, (LOAD(other + w) >> 1) | (LOAD(other + w + 1) << 63));
            if (rows->closed == LFT_BITS_EVEN) side[end] = (side[end] & ~bit) | ((other[0] & 1) << (last & 63));
        }
    }
}

/* Sites undecided after the head: the rest of the threshold against the rest of the site's own block.  They are
 * not flipped yet; a hit changes the value that the head left. */
ATTR static __attribute__((noinline)) int64_t NAME(tail)(const lft_bits_rule *rule, const lft_bits_rows *rows,
                                                        const uint64_t *const *at, uint64_t *own, ptrdiff_t n,
                                                        uint64_t unit, uint64_t high, uint64_t key)
{
    int64_t change = 0;
    for (ptrdiff_t q = 0; q < n; q++) {
        for (uint64_t some = rows->list[q] & 255; some; some &= some - 1) {
            const ptrdiff_t w = (ptrdiff_t)(rows->list[q] >> 8) + __builtin_ctzll(some);
            for (uint64_t rest = rows->open[w]; rest; rest &= rest - 1) {
                int b = __builtin_ctzll(rest);
                uint64_t block[2], kept = rule->heatbath ? rows->flipped[w] >> b & 1 : 0;
                BLOCK(low_word(unit + (uint64_t)(w >> 1)), high | 128 | (uint64_t)((w & 1) << 6 | b), key, block);
                int c = rule->class_of[combination(rule, at, 64 * w + b, 64 * w + b, own[w] >> b & 1)];
                uint64_t hit = (block[0] >> LFT_BITS_HEAD) < (rule->threshold[c] & (~(uint64_t)0 >> LFT_BITS_HEAD));
                own[w] ^= hit << b;
                change += (int64_t)hit * (1 - 2 * (int64_t)kept);
            }
        }
    }
    return change;
}

/* One register of sites, given which site is in which class.  No branch: what the head leaves open is listed. */
INLINE void NAME(decide)(const lft_bits_rule *rule, const lft_bits_rows *rows, const NAME(keys) *keys, const V *member,
                         int n_classes, V open, V always, V inverted, V spin, V mask, uint64_t *own, ptrdiff_t i,
                         uint64_t unit, int heatbath, NAME(v) *total, ptrdiff_t *n_open)
{
    V accept = (V){};
    const V number = keys->lane + ((V){} + (unit + (uint64_t)(i >> 1)));
    const V low = ((number & 0xFFFF) | (number >> 16 << 24)) & keys->low;
    const V common = ROUNDS(low ^ keys->first, keys->key, 0, 2);
    open &= mask;
    V alike = open;
    _Pragma("GCC unroll 16")
    for (int top = LFT_BITS_HEAD; top > 0; top -= GROUP) {
        const int n = top < GROUP ? top : GROUP;
        V word[GROUP];
        _Pragma("GCC unroll 16")
        for (int j = 0; j < n; j++) word[j] = common ^ keys->head[top - 1 - j];
        _Pragma("GCC unroll 16")
        for (int round = 2; round < 7; round++)
            _Pragma("GCC unroll 16")
            for (int j = 0; j < n; j++) word[j] = ROUNDS(word[j], keys->key, round, round + 1);
        _Pragma("GCC unroll 16")
        for (int j = 0; j < n; j++) {
            V t = (V){} + rule->plane[top - 1 - j][n_classes - 1]; /* every open site is in a class: the last needs no mask */
            _Pragma("GCC unroll 8")
            for (int c = n_classes - 2; c >= 0; c--) t = MUX(member[c], ((V){} + rule->plane[top - 1 - j][c]), t);
            accept = LESS(word[j], t, accept);
            alike = EQUAL(alike, word[j], t);
        }
    }
    accept = (accept & open) | always;
    V flips = (heatbath ? accept ^ inverted ^ spin : accept) & mask;
    STORE(own + i, spin ^ flips);
    *total += COUNT(flips);
    STORE(rows->open + i, alike);
    if (heatbath) STORE(rows->flipped + i, flips);
    const uint64_t some = NONZERO(alike);
    rows->list[*n_open] = (uint64_t)i << 8 | some;
    *n_open += some != 0;
}

/* One group of n members; Metropolis: classes 0..(n-1)/2 unlike neighbors, more are always accepted.  Heat bath:
 * class c has c or n-c neighbors up. */
INLINE void NAME(fast)(const lft_bits_rule *rule, const lft_bits_rows *rows, const NAME(keys) *keys,
                       const uint64_t *const *at, ptrdiff_t i, V mask, uint64_t *own, uint64_t unit, int n,
                       int heatbath, NAME(v) *total, ptrdiff_t *n_open)
{
    V spin = LOAD(own + i), x[8], count[9], member[5], open = ~(V){}, inverted = (V){};
    const int kept = heatbath ? n + 1 : (n + 1) / 2, classes = heatbath ? n / 2 + 1 : kept;
    _Pragma("GCC unroll 8")
    for (int m = 0; m < n; m++) {
        const V flip = (V){} + rule->flip[m];
        x[m] = heatbath ? LOAD(at[m] + i) ^ flip : XOR3(LOAD(at[m] + i), flip, spin);
    }
    if (n == 4) { /* two adders: the lowest bit of the count tells the classes apart */
        const V sum = XOR3(x[0], x[1], x[2]), carry = MAJORITY(x[0], x[1], x[2]), odd = sum ^ x[3];
        const V few = NEITHER(carry, sum, x[3]);
        if (heatbath) {
            member[0] = ~(odd | XORAND(carry, sum, x[3]));
            member[1] = odd;
            inverted = few;
        } else {
            member[0] = ~odd;
            open = few;
        }
    } else {
        _Pragma("GCC unroll 8")
        for (int m = 0; m < n; m++) {
            if (m + 1 < kept) count[m + 1] = m ? x[m] & count[m] : x[m];
            _Pragma("GCC unroll 8")
            for (int u = m < kept ? m : kept - 1; u > 0; u--) count[u] = MUX(x[m], count[u - 1], count[u]);
            count[0] = m ? count[0] & ~x[m] : ~x[m];
        }
        if (!heatbath) open = (V){};
        _Pragma("GCC unroll 8")
        for (int c = 0; c < classes; c++) {
            member[c] = heatbath && 2 * c < n ? count[c] | count[n - c] : count[c];
            if (!heatbath) open |= count[c];
            else if (2 * c < n) inverted |= count[c];
        }
    }
    NAME(decide)(rule, rows, keys, member, classes, open, ~open, inverted, spin, mask, own, i, unit, heatbath, total,
                 n_open);
}

/* One or two groups of n and n_second members and at most n_classes classes: the tables stay in registers. */
INLINE void NAME(shaped)(const lft_bits_rule *rule, const lft_bits_rows *rows, const NAME(keys) *keys,
                         const uint64_t *const *at, ptrdiff_t i, V mask, uint64_t *own, uint64_t unit, int n,
                         int n_second, int n_classes, int heatbath, NAME(v) *total, ptrdiff_t *n_open)
{
    V spin = LOAD(own + i), count[2][9], joint[LFT_BITS_SHAPED], member[8], open = (V){}, inverted = (V){};
    _Pragma("GCC unroll 2")
    for (int g = 0; g < 2; g++) {
        const int size = g ? n_second : n;
        count[g][0] = ~(V){};
        _Pragma("GCC unroll 8")
        for (int k = 0; k < size; k++) {
            const int m = g ? n + k : k;
            V x = LOAD(at[m] + i) ^ ((V){} + rule->flip[m]);
            if (!heatbath && rule->kind[m] != LFT_BITS_SPIN) x ^= spin;
            count[g][k + 1] = k ? x & count[g][k] : x;
            _Pragma("GCC unroll 8")
            for (int u = k; u > 0; u--) count[g][u] = MUX(x, count[g][u - 1], count[g][u]);
            count[g][0] = k ? count[g][0] & ~x : ~x;
        }
    }
    _Pragma("GCC unroll 9")
    for (int a = 0; a <= n; a++)
        _Pragma("GCC unroll 3")
        for (int b = 0; b <= n_second; b++)
            joint[a * (n_second + 1) + b] = n_second ? count[0][a] & count[1][b] : count[0][a];
    _Pragma("GCC unroll 8")
    for (int c = 0; c < n_classes; c++) {
        member[c] = (V){};
        _Pragma("GCC unroll 16")
        for (int q = 0; q < (n + 1) * (n_second + 1); q++)
            member[c] = ORAND(member[c], joint[q], ((V){} + rule->select[c][q]));
        open |= member[c];
    }
    if (heatbath)
        _Pragma("GCC unroll 16")
        for (int q = 0; q < (n + 1) * (n_second + 1); q++)
            inverted = ORAND(inverted, joint[q], ((V){} + rule->invert[q]));
    NAME(decide)(rule, rows, keys, member, n_classes, open, ~open, inverted, spin, mask, own, i, unit, heatbath, total,
                 n_open);
}

/* Any groups: counts per group, then every combination of counts by table. */
INLINE void NAME(general)(const lft_bits_rule *rule, const lft_bits_rows *rows, const NAME(keys) *keys,
                          const uint64_t *const *at, ptrdiff_t i, V mask, uint64_t *own, uint64_t unit, int ignored,
                          int heatbath, NAME(v) *total, ptrdiff_t *n_open)
{
    V spin = LOAD(own + i), joint[2][LFT_BITS_COMBOS], member[LFT_BITS_COMBOS], always = (V){}, inverted = (V){};
    int n_joint = 1, now = 0;
    (void)ignored;
    joint[0][0] = ~(V){};
    for (int g = 0, m = 0; g < rule->n_groups; g++) {
        V count[9];
        count[0] = ~(V){};
        for (int k = 0; k < rule->size[g]; k++, m++) {
            V x = LOAD(at[m] + i) ^ ((V){} + rule->flip[m]);
            if (!heatbath && rule->kind[m] != LFT_BITS_SPIN) x ^= spin;
            count[k + 1] = x & count[k];
            for (int u = k; u > 0; u--) count[u] = MUX(x, count[u - 1], count[u]);
            count[0] &= ~x;
        }
        int radix = rule->size[g] + 1;
        for (int c = 0; c < n_joint; c++)
            for (int u = 0; u < radix; u++) joint[now ^ 1][c * radix + u] = joint[now][c] & count[u];
        n_joint *= radix;
        now ^= 1;
    }
    for (int c = 0; c < rule->n_classes; c++) member[c] = (V){};
    for (int c = 0; c < n_joint; c++) {
        if (rule->class_of[c] == LFT_BITS_ALWAYS) always |= joint[now][c];
        else member[rule->class_of[c]] |= joint[now][c];
        if (rule->inverted[c]) inverted |= joint[now][c];
    }
    V open = (V){};
    for (int c = 0; c < rule->n_classes; c++) open |= member[c];
    NAME(decide)(rule, rows, keys, member, rule->n_classes, open, always, inverted, spin, mask, own, i, unit, heatbath,
                 total, n_open);
}

#define CHUNK(LOOP, ...)                                                                                      \
    {                                                                                                                 \
        ptrdiff_t i = 0;                                                                                              \
        for (; i + LANES <= n; i += LANES)                                                                            \
            NAME(LOOP)(rule, rows, keys, at, i, LOAD(mask + i), own, unit, __VA_ARGS__, &total, &n_open);             \
        if (i < n) {                                                                                                  \
            uint64_t part[LANES] = {0};                                                                               \
            for (ptrdiff_t j = i; j < n; j++) part[j - i] = mask[j];                                                  \
            uint64_t last[LANES]; /* the words beyond may be another thread's: they are read, not written */          \
            STORE(last, LOAD(own + i));                                                                               \
            NAME(LOOP)(rule, rows, keys, at, i, LOAD(part), last - i, unit, __VA_ARGS__, &total, &n_open);            \
            for (ptrdiff_t j = i; j < n; j++) own[j] = last[j - i];                                                   \
        }                                                                                                             \
        break;                                                                                                        \
    }

/* One chunk of n words; own is its first word. */
ATTR static int64_t NAME(chunk)(const lft_bits_rule *rule, const lft_bits_rows *rows, const NAME(keys) *keys,
                                const uint64_t *const *at, const uint64_t *mask, uint64_t *own, ptrdiff_t n,
                                uint64_t unit, uint64_t high, uint64_t key)
{
    V total = (V){};
    ptrdiff_t n_open = 0;
    switch (rule->shape + 100 * rule->heatbath) {
    case 22: CHUNK(shaped, 2, 2, 4, 0)
    case 41: CHUNK(shaped, 4, 1, 5, 0)
    case 42: CHUNK(shaped, 4, 2, 7, 0)
    case 61: CHUNK(shaped, 6, 1, 7, 0)
    case 122: CHUNK(shaped, 2, 2, 5, 1)
    case 140: CHUNK(shaped, 4, 0, 5, 1)
    case 142: CHUNK(shaped, 4, 2, 8, 1)
    case 160: CHUNK(shaped, 6, 0, 7, 1)
    default: switch (rule->fast + 16 * rule->heatbath) {
    case 4: CHUNK(fast, 4, 0)
    case 6: CHUNK(fast, 6, 0)
    case 8: CHUNK(fast, 8, 0)
    case 20: CHUNK(fast, 4, 1)
    case 22: CHUNK(fast, 6, 1)
    case 24: CHUNK(fast, 8, 1)
    case 16: CHUNK(general, 0, 1)
    default: CHUNK(general, 0, 0)
    }
    }
    int64_t flips = NAME(tail)(rule, rows, at, own, n_open, unit, high, key);
    for (int j = 0; j < LANES; j++) flips += (int64_t)total[j];
    return flips;
}

/* Bonds and spins of a chunk that has just been left: all of it is still in the nearest cache.  Rows of neighboring
 * lines have as many sites, and zeros beyond. */
INLINE void NAME(tally_lines)(const lft_bits_rows *rows, const lft_bits_bonds *bonds, const uint64_t *own,
                              const uint64_t *other, ptrdiff_t n, int r, int n_lines, int64_t *counts)
{
    const uint64_t *side = rows->side, *same = rows->same[r], *moved = rows->moved[r], *line[LFT_BITS_MEMBERS];
    V along = (V){}, up = (V){}, across[LFT_BITS_MEMBERS];
    int64_t sum[LFT_BITS_MEMBERS] = {0}, last = 0, n_up = 0;
    ptrdiff_t i = 0;
    _Pragma("GCC unroll 8")
    for (int k = 0; k < n_lines; k++) line[k] = other + bonds->offset[k], across[k] = (V){};
    for (; i + LANES <= n; i += LANES) {
        const V a = LOAD(own + i), b = LOAD(other + i);
        along += COUNT((a ^ b) & LOAD(same + i)) + COUNT((a ^ LOAD(side + i)) & LOAD(moved + i));
        up += COUNT(a) + COUNT(b);
        _Pragma("GCC unroll 8")
        for (int k = 0; k < n_lines; k++) across[k] += COUNT(a ^ LOAD(line[k] + i));
    }
    for (; i < n; i++) {
        last += POPCOUNT((own[i] ^ other[i]) & same[i]) + POPCOUNT((own[i] ^ side[i]) & moved[i]);
        n_up += POPCOUNT(own[i]) + POPCOUNT(other[i]);
        for (int k = 0; k < n_lines; k++) sum[k] += POPCOUNT(own[i] ^ line[k][i]);
    }
    for (int j = 0; j < LANES; j++) {
        last += (int64_t)along[j];
        n_up += (int64_t)up[j];
        for (int k = 0; k < n_lines; k++) sum[k] += (int64_t)across[k][j];
    }
    for (int k = 0; k < n_lines; k++) counts[bonds->axis[k]] += sum[k];
    counts[bonds->last] += last;
    counts[LFT_BITS_UP] += n_up;
}

ATTR static __attribute__((noinline)) void NAME(tally)(const lft_bits_rows *rows, const lft_bits_bonds *bonds,
                                                       const uint64_t *own, const uint64_t *other, ptrdiff_t n, int r,
                                                       int64_t *counts)
{
    switch (bonds->n) {
    case 2: NAME(tally_lines)(rows, bonds, own, other, n, r, 2, counts); break;
    case 4: NAME(tally_lines)(rows, bonds, own, other, n, r, 4, counts); break;
    default: NAME(tally_lines)(rows, bonds, own, other, n, r, bonds->n, counts);
    }
}

/* The chunks first..stop-1 of all runs. */
ATTR static int64_t NAME(pass)(const lft_bits_rule *rule, const lft_bits_rule *end, const lft_bits_rows *rows,
                               const lft_bits_runs *runs, uint64_t *own, const uint64_t *other, int color,
                               uint64_t high, uint64_t key, ptrdiff_t first, ptrdiff_t stop,
                               const lft_bits_bonds *bonds, int64_t *counts)
{
    NAME(keys) keys;
    const uint64_t *at[LFT_BITS_MEMBERS];
    const ptrdiff_t words = rows->words;
    int64_t flips = 0;
    uint64_t pair[2];
    for (int i = 1; i < 8; i++) {
        round_key(key, i, pair);
        keys.key[i - 1] = NAME(spread)(pair);
    }
    round_key(key, 0, pair);
    pair[1] ^= high;
    keys.first = NAME(spread)(pair);
    for (uint64_t k = 0; k < LFT_BITS_HEAD; k++) {
        uint64_t one[2] = {pair[0], pair[1] ^ k};
        keys.head[k] = ROUNDS(NAME(spread)(one), keys.key, 0, 2) ^ ROUNDS(keys.first, keys.key, 0, 2);
    }
    for (int j = 0; j < LANES; j++) {
        keys.lane[j] = (uint64_t)(j >> 1);
        keys.low[j] = j & 1 ? 0 : ~(uint64_t)0;
    }
    for (ptrdiff_t s = 0, number = 0; s < runs->n && number < stop; s++) {
        for (ptrdiff_t l = 0; l < runs->lines[s] && number < stop; l += rows->chunk) {
            if (number++ < first) continue;
            ptrdiff_t lines = runs->lines[s] - l < rows->chunk ? runs->lines[s] - l : rows->chunk;
            ptrdiff_t w = runs->word[s] + l * words;
            uint64_t unit = runs->unit[s] + (uint64_t)(l * (words >> 1));
            int r = (int)((runs->parity[s] + l + color) & 1), needs_side = bonds != 0;
            for (int m = 0; m < rule->n_members; m++) {
                needs_side |= rule->kind[m] == LFT_BITS_SIDE;
                at[m] = rule->kind[m] == LFT_BITS_SIDE   ? rows->side
                        : rule->kind[m] == LFT_BITS_SPIN ? own + w
                                                         : other + w + rule->offset[m];
            }
            if (needs_side) NAME(sides)(rows, own + w, other + w, lines, r);
            flips += NAME(chunk)(rule, rows, &keys, at, rows->mask[r], own + w, lines * words, unit, high, key);
            if (rows->ends)
                flips += end_sites(end, rows, own + w, other + w, lines, r, unit, high, key);
            if (bonds) NAME(tally)(rows, bonds, own + w, other + w, lines * words, r, counts);
        }
    }
    return flips;
}

INLINE int64_t NAME(unlike_words)(const uint64_t *a, const uint64_t *b, const uint64_t *mask, ptrdiff_t n)
{
    int64_t sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) sum += POPCOUNT((a[i] ^ b[i]) & mask[i]);
    return sum;
}

ATTR static int64_t NAME(unlike)(const lft_bits_rows *rows, const lft_bits_runs *runs, const uint64_t *own,
                                 const uint64_t *other, ptrdiff_t offset, int color, int along)
{
    int64_t sum = 0;
    for (ptrdiff_t s = 0; s < runs->n; s++) {
        for (ptrdiff_t l = 0; l < runs->lines[s]; l += rows->chunk) {
            ptrdiff_t lines = runs->lines[s] - l < rows->chunk ? runs->lines[s] - l : rows->chunk;
            ptrdiff_t w = runs->word[s] + l * rows->words, n = lines * rows->words;
            int r = (int)((runs->parity[s] + l + color) & 1);
            if (along) {
                NAME(sides)(rows, own + w, other + w, lines, r);
                sum += NAME(unlike_words)(own + w, other + w, rows->right[r], n);
                sum += NAME(unlike_words)(own + w, rows->side, rows->left[r], n);
            } else {
                sum += NAME(unlike_words)(own + w, other + w + offset, rows->valid[r], n);
            }
        }
    }
    return sum;
}

ATTR static int64_t NAME(count)(const uint64_t *words, ptrdiff_t n)
{
    int64_t sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) sum += POPCOUNT(words[i]);
    return sum;
}

/* Set bits of each column over lines of w words, a register (or one word) of columns at a time: binary counters of
 * eight digits, emptied every 255 lines. */
#define COLUMNS(TYPE, GET, SIZE)                                                                                      \
    for (ptrdiff_t from = 0; from < n; from += 255) {                                                                 \
        const ptrdiff_t to = from + 255 < n ? from + 255 : n;                                                         \
        TYPE digit[8] = {(TYPE){0}};                                                                                  \
        for (ptrdiff_t l = from; l < to; l++) {                                                                       \
            TYPE carry = GET(plane + word[l] + w), both;                                                              \
            _Pragma("GCC unroll 8")                                                                                   \
            for (int d = 0; d < 8; d++) both = digit[d] & carry, digit[d] ^= carry, carry = both;                     \
        }                                                                                                             \
        uint64_t bits[8][SIZE];                                                                                       \
        memcpy(bits, digit, sizeof bits);                                                                             \
        for (int j = 0; j < SIZE; j++)                                                                                \
            for (int b = 0; b < 64; b++) {                                                                            \
                int64_t sum = 0;                                                                                      \
                for (int d = 0; d < 8; d++) sum |= (int64_t)(bits[d][j] >> b & 1) << d;                               \
                counts[64 * (w + j) + b] += sum;                                                                      \
            }                                                                                                         \
    }

ATTR static void NAME(columns)(const uint64_t *plane, const ptrdiff_t *word, ptrdiff_t n, ptrdiff_t words,
                               int64_t *counts)
{
    ptrdiff_t w = 0;
    for (; w + LANES <= words; w += LANES) COLUMNS(V, LOAD, LANES)
    for (; w < words; w++) COLUMNS(uint64_t, *, 1)
}

#undef COLUMNS
#undef V
#undef LOAD
#undef STORE
#undef LANES
#undef INLINE
#undef CHUNK
#undef NAME
#undef ATTR
#undef VEC
#undef MUX
#undef LESS
#undef EQUAL
#undef XOR3
#undef GROUP
#undef MAJORITY
#undef NEITHER
#undef XORAND
#undef ORAND
#undef ROUNDS
#undef COUNT
#undef NONZERO
#undef BLOCK
#undef POPCOUNT
#endif
