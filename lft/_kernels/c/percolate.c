/* Directed percolation, 64 replicas in the bits of a word.
 *
 * Design
 * ------
 * - A site with m active parents becomes active with probability P_m = p (site) or 1 - (1-p)^m (bond): given the slice
 *   before, sites are independent, so one number u per site and replica decides (u < P_m), however many bonds lead
 *   there.  The sites of a slice are the same process as with every bond drawn; bonds themselves are not observed.
 *   The numbers do not depend on p, and P_m grows with m and p: replicas at a larger p contain those at a smaller one.
 * - u has 64 bits, compared from the highest down until every replica of the word is decided.  Bit k of all 64 replicas
 *   is one word; the threshold is a word too, put together from those of the counts m that occur.  Replicas that have no
 *   active parent are decided at once, so that a word with j of them takes about log2(j) + 1.3 random words.
 * - Random words: ARS-7 (ars.h) of (site, t | stream | draw, key of the word of replicas); draw k gives bits 63 - 2k and
 *   62 - 2k.  Nothing is drawn where no parent is active.
 * - Only the box that holds activity is visited: a seed costs what it spreads over, not what the lattice could hold.
 * - Counts by replica: bit by bit while squared distances are summed as well (a seed: few bits are set), else by vertical
 *   counters of six planes emptied every 63 words.
 * - Rejected: one replica at a time with a list of active sites: its 10 ns per site and bond (scalar generator) is what a
 *   whole word costs here; drawing every bond: 2^d numbers where one will do; skipping dead words by a second level
 *   of bits: the box is nearly full of words that one replica or another has reached.
 *
 * Layout: rows along the last axis with a word of padding at both ends (the neighbor round a periodic axis, or zero);
 * slices of even and odd time in two buffers, of which the one to be written is zero everywhere.
 *
 * LFT_MUTANT is the broken twin of the sanitizer test (tests/conformance/test_sanitizers.py): rows take so many words
 * more than they have.
 */
#include "percolate.h"
#include "ars.h"

#ifndef LFT_MUTANT
#define LFT_MUTANT 0
#endif
#define PAD (2 + LFT_MUTANT)

/* ---- the lattice */
static ptrdiff_t n_rows_of(const lft_percolation *m)
{
    ptrdiff_t n = 1;
    for (ptrdiff_t k = 0; k + 1 < m->n_axes; k++) n *= m->shape[k];
    return n;
}

/* The box of sites that may become active: a parent x has the children x and x - step. */
static void grow(const lft_percolation *m, const ptrdiff_t *box, int step, ptrdiff_t *out)
{
    for (ptrdiff_t k = 0; k < m->n_axes; k++) {
        ptrdiff_t low = box[2 * k] - (step > 0), high = box[2 * k + 1] + (step < 0), last = m->shape[k] - 1;
        if (low < 0 || high > last) {
            int wraps = m->periodic[k];
            low = wraps || low < 0 ? 0 : low;
            high = wraps || high > last ? last : high;
        }
        out[2 * k] = low;
        out[2 * k + 1] = high;
    }
}

/* Whether activity stands at the first or last site of an axis: an open end, or the seam of a periodic one. */
static int touches_edge(const lft_percolation *m, const ptrdiff_t *box)
{
    for (ptrdiff_t k = 0; k < m->n_axes; k++)
        if (box[2 * k] <= box[2 * k + 1] && (box[2 * k] == 0 || box[2 * k + 1] == m->shape[k] - 1)) return 1;
    return 0;
}

/* Next row of a box; 0 behind the last. */
static int next_row(const lft_percolation *m, const ptrdiff_t *box, ptrdiff_t *at)
{
    for (ptrdiff_t k = m->n_axes - 2; k >= 0; k--) {
        if (++at[k] <= box[2 * k + 1]) return 1;
        at[k] = box[2 * k];
    }
    return 0;
}

static ptrdiff_t row_index(const lft_percolation *m, const ptrdiff_t *at)
{
    ptrdiff_t r = 0;
    for (ptrdiff_t k = 0; k + 1 < m->n_axes; k++) r = r * m->shape[k] + at[k];
    return r;
}

/* Rows of the parents, at + {0, step} along every axis but the last; returns how many exist. */
static ptrdiff_t parent_rows(const lft_percolation *m, const uint64_t *old, const ptrdiff_t *at, int step,
                             const uint64_t **rows)
{
    const ptrdiff_t stride = m->shape[m->n_axes - 1] + PAD;
    ptrdiff_t n = 0;
    for (ptrdiff_t corner = 0; corner < (ptrdiff_t)1 << (m->n_axes - 1); corner++) {
        ptrdiff_t r = 0, k;
        for (k = 0; k + 1 < m->n_axes; k++) {
            ptrdiff_t x = at[k] + (corner >> k & 1 ? step : 0);
            if (x < 0 || x >= m->shape[k]) {
                if (!m->periodic[k]) break;
                x = x < 0 ? x + m->shape[k] : x - m->shape[k];
            }
            r = r * m->shape[k] + x;
        }
        if (k + 1 >= m->n_axes) rows[n++] = old + r * stride + 1;
    }
    return n;
}

/* ---- one site */
typedef void (*block_fn)(uint64_t, uint64_t, uint64_t, uint64_t *);

#define DEFINE_STEPS(SUFFIX, ATTR, BLOCK)                                                                             \
    /* Replicas among some whose u is below the threshold of their count of active parents. */                       \
    ATTR static inline uint64_t below_##SUFFIX(const uint64_t *who, const uint64_t *limit, int n, uint64_t undecided,  \
                                               uint64_t site, uint64_t high, uint64_t key)                            \
    {                                                                                                                 \
        uint64_t result = 0, r[2];                                                                                    \
        for (int k = 63; k > 0 && undecided; k -= 2) {                                                                \
            BLOCK(site, high | (uint64_t)(63 - k) >> 1, key, r);                                                      \
            for (int half = 0; half < 2; half++) {                                                                    \
                uint64_t bit = 0;                                                                                     \
                for (int i = 0; i < n; i++) bit |= who[i] & (0 - (limit[i] >> (k - half) & 1));                       \
                result |= undecided & bit & ~r[half];                                                                 \
                undecided &= ~(bit ^ r[half]);                                                                        \
            }                                                                                                         \
        }                                                                                                             \
        return result;                                                                                                \
    }                                                                                                                 \
    ATTR static uint64_t site_##SUFFIX(const lft_percolation *m, const uint64_t **rows, ptrdiff_t n, ptrdiff_t y,      \
                                       int step, uint64_t any, uint64_t site, uint64_t high, uint64_t key)            \
    {                                                                                                                 \
        uint64_t who[LFT_PERCOLATE_PARENTS], limit[LFT_PERCOLATE_PARENTS], sure = 0;                                  \
        if (m->is_site) {                                                                                             \
            if (m->certain[1]) return any;                                                                            \
            return below_##SUFFIX(&any, &m->threshold[1], 1, any, site, high, key);                                   \
        }                                                                                                             \
        if (n == 1) { /* two parents: no adder is needed */                                                           \
            uint64_t a = rows[0][y], b = rows[0][y + step];                                                           \
            if (m->certain[1]) return any;                                                                            \
            who[0] = a ^ b;                                                                                           \
            who[1] = a & b;                                                                                           \
            if (m->certain[2]) return who[1] | below_##SUFFIX(who, &m->threshold[1], 1, who[0], site, high, key);     \
            return below_##SUFFIX(who, &m->threshold[1], who[1] ? 2 : 1, any, site, high, key);                       \
        }                                                                                                             \
        uint64_t plane[LFT_PERCOLATE_AXES + 1] = {0};                                                                 \
        for (ptrdiff_t i = 0; i < n; i++)                                                                             \
            for (int half = 0; half < 2; half++) {                                                                    \
                uint64_t carry = rows[i][half ? y + step : y];                                                        \
                for (int k = 0; carry; k++) {                                                                         \
                    uint64_t next = plane[k] & carry;                                                                 \
                    plane[k] ^= carry;                                                                                \
                    carry = next;                                                                                     \
                }                                                                                                     \
            }                                                                                                         \
        int found = 0;                                                                                                \
        for (int c = 1; c <= 2 * n; c++) {                                                                            \
            uint64_t mask = any;                                                                                      \
            for (int k = 0; k <= m->n_axes; k++) mask &= c >> k & 1 ? plane[k] : ~plane[k];                           \
            if (!mask) continue;                                                                                      \
            if (m->certain[c]) sure |= mask;                                                                          \
            else {                                                                                                    \
                who[found] = mask;                                                                                    \
                limit[found++] = m->threshold[c];                                                                     \
            }                                                                                                         \
        }                                                                                                             \
        return sure | below_##SUFFIX(who, limit, found, any & ~sure, site, high, key);                                \
    }

DEFINE_STEPS(plain, , block_plain)
#if LFT_X86
DEFINE_STEPS(aes, __attribute__((target("aes,popcnt"))), block_aes)
#endif

typedef uint64_t (*site_fn)(const lft_percolation *, const uint64_t **, ptrdiff_t, ptrdiff_t, int, uint64_t, uint64_t,
                            uint64_t, uint64_t);

/* ---- counts by replica */
static void empty_planes(uint64_t *plane, int64_t *count)
{
    for (int k = 0; k < 6; k++) {
        for (int lane = 0; lane < 64; lane++) count[lane] += (int64_t)(plane[k] >> lane & 1) << k;
        plane[k] = 0;
    }
}

static inline void add_to_planes(uint64_t *plane, uint64_t carry)
{
    for (int k = 0; carry; k++) {
        uint64_t next = plane[k] & carry;
        plane[k] ^= carry;
        carry = next;
    }
}

static inline int lowest(uint64_t x)
{
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_ctzll(x);
#else
    return (int)popcount_plain((x & (0 - x)) - 1);
#endif
}

static inline void add_sites(uint64_t word, int64_t square, int64_t *count, int64_t *total)
{
    for (; word; word &= word - 1) {
        int lane = lowest(word);
        count[lane]++;
        total[lane] += square;
    }
}

/* ---- a slice */
static void clear(const lft_percolation *m, uint64_t *slice, const ptrdiff_t *box)
{
    const ptrdiff_t length = m->shape[m->n_axes - 1], stride = length + PAD, last = m->n_axes - 1;
    ptrdiff_t at[LFT_PERCOLATE_AXES];
    for (ptrdiff_t k = 0; k < m->n_axes; k++) at[k] = box[2 * k];
    do {
        uint64_t *row = slice + row_index(m, at) * stride;
        memset(row + 1 + box[2 * last], 0, (size_t)(box[2 * last + 1] - box[2 * last] + 1) * 8);
        row[0] = row[1 + length] = 0;
    } while (next_row(m, box, at));
}

/* One step; the squared distances of the sites of the new slice stand in the half of its parity. */
static uint64_t advance(const lft_percolation *m, site_fn become, const uint64_t *old, uint64_t *now, ptrdiff_t *box,
                        uint64_t t, uint32_t stream, uint64_t key, int64_t *count, int64_t *square, int64_t *reach)
{
    const ptrdiff_t last = m->n_axes - 1, length = m->shape[last], stride = length + PAD;
    const int step = t & 1 ? -1 : 1;
    const uint64_t high = (t + 1) << 16 | (uint64_t)(stream & 255) << 8;
    ptrdiff_t wide[2 * LFT_PERCOLATE_AXES], at[LFT_PERCOLATE_AXES], held = 0, sites = 0;
    const uint64_t *rows[LFT_PERCOLATE_PARENTS];
    uint64_t alive = 0, plane[6] = {0};
    grow(m, box, step, wide);
    for (ptrdiff_t k = 0; k < m->n_axes; k++) {
        at[k] = wide[2 * k];
        box[2 * k] = m->shape[k];
        box[2 * k + 1] = -1;
        sites += m->shape[k];
    }
    const int64_t *table = m->square ? m->square + (step > 0 ? sites : 0) : NULL;
    do {
        const ptrdiff_t r = row_index(m, at), n = parent_rows(m, old, at, step, rows);
        uint64_t *out = now + r * stride + 1, row_alive = 0;
        ptrdiff_t low = length, high_y = -1, offset = 0;
        int64_t row_square = 0;
        for (ptrdiff_t k = 0; k < last; k++) {
            if (table) row_square += table[offset + at[k]];
            offset += m->shape[k];
        }
        for (ptrdiff_t y = wide[2 * last]; y <= wide[2 * last + 1]; y++) {
            uint64_t any = 0;
            for (ptrdiff_t i = 0; i < n; i++) any |= rows[i][y] | rows[i][y + step];
            if (!any) continue;
            uint64_t word = become(m, rows, n, y, step, any, (uint64_t)(r * length + y), high, key);
            reach[0] += popcount_plain(any);
            if (!word) continue;
            reach[1] += popcount_plain(word);
            out[y] = word;
            row_alive |= word;
            low = y < low ? y : low;
            high_y = y;
            if (table) add_sites(word, row_square + table[offset + y], count, square);
            else {
                add_to_planes(plane, word);
                if (++held == 63) {
                    empty_planes(plane, count);
                    held = 0;
                }
            }
        }
        if (row_alive) {
            alive |= row_alive;
            for (ptrdiff_t k = 0; k < last; k++) {
                box[2 * k] = at[k] < box[2 * k] ? at[k] : box[2 * k];
                box[2 * k + 1] = at[k] > box[2 * k + 1] ? at[k] : box[2 * k + 1];
            }
            box[2 * last] = low < box[2 * last] ? low : box[2 * last];
            box[2 * last + 1] = high_y > box[2 * last + 1] ? high_y : box[2 * last + 1];
            if (m->periodic[last]) {
                out[-1] = out[length - 1];
                out[length] = out[0];
            }
        }
    } while (next_row(m, wide, at));
    if (held) empty_planes(plane, count);
    return alive;
}

/* ---- the path */
static int is_ready, is_plain;

static int has_aes(void) { return LFT_HAS("aes") && LFT_HAS("popcnt"); }

static void prepare(void)
{
    if (is_ready) return;
    fill_tables();
    is_plain = is_plain || !has_aes();
    is_ready = 1;
}

static site_fn chosen(void)
{
#if LFT_X86
    if (!is_plain) return site_aes;
#endif
    return site_plain;
}

const char *lft_percolate_path(void)
{
    prepare();
    return is_plain ? "baseline" : "aes";
}

int lft_percolate_force(const char *name)
{
    prepare();
    if (!strcmp(name, "baseline")) return is_plain = 1;
    if (strcmp(name, "aes") || !has_aes()) return 0;
    is_plain = 0;
    return 1;
}

void lft_percolate_block(uint64_t site, uint64_t t, uint32_t stream, uint32_t draw, uint64_t key, uint64_t out[2])
{
    prepare();
    block_plain(site, t << 16 | (uint64_t)(stream & 255) << 8 | (draw & 255), key, out);
}

void lft_percolate(const lft_percolation *m, uint64_t *slices, ptrdiff_t *box, uint64_t t, ptrdiff_t n,
                   uint32_t stream, uint64_t key, int64_t *count, int64_t *square, uint64_t *alive, int8_t *record,
                   int lane, int64_t *reach)
{
    const ptrdiff_t length = m->shape[m->n_axes - 1], n_rows = n_rows_of(m), size = n_rows * (length + PAD);
    prepare();
    site_fn become = chosen();
    for (ptrdiff_t i = 0; i < n && box[0] <= box[1]; i++, t++) {
        uint64_t *old = slices + (t & 1 ? size : 0), *now = slices + (t & 1 ? 0 : size);
        ptrdiff_t before[2 * LFT_PERCOLATE_AXES];
        memcpy(before, box, sizeof(ptrdiff_t) * 2 * (size_t)m->n_axes);
        alive[i] = advance(m, become, old, now, box, t, stream, key, count + 64 * i, square + 64 * i, reach);
        clear(m, old, before);
        if (reach[2] < 0 && touches_edge(m, box)) reach[2] = (int64_t)t + 1;
        if (record)
            for (ptrdiff_t r = 0; r < n_rows; r++)
                for (ptrdiff_t y = 0; y < length; y++)
                    record[(i * n_rows + r) * length + y] = (int8_t)(now[r * (length + PAD) + 1 + y] >> lane & 1);
    }
}
