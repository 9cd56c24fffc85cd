/* Heat bath of many chains of a Gibbs model: couplings in a row (one bin), couplings between rows, V(count).
 *
 * Design
 * ------
 * - What is decided.  The log-odds f of a spike are summed in double precision in the order: c, edges within the row,
 *   edges to other rows, V(K+1) - V(K); the unit is set when f > log((1-u)/u), u of 52 bits.  This alone defines the
 *   chain, so bits depend neither on the instruction set nor on threads, ranks or the number of chains.
 * - Layout.  64 chains of one unit and row are one word.  A neighbor's word is the mask of eight additions, a word of
 *   zeros is skipped, so sparse firing costs little.  Rows of one word lie together: units x rows x 8 bytes, in L1 for
 *   up to 4000 sites, in L2 for 1e5.
 * - One long chain.  "Folded", the 64 lanes are consecutive stretches of one chain of 64 n_rows bins: what lies beyond
 *   the last row is the first row moved by one lane.  A sweep is still a sequence of heat baths, since bins that are
 *   decided together are n_rows > lags apart.
 * - Random numbers.  Philox (philox.c), counter site = word << 40 | (row * units + unit) << 5 | m: block m gives the
 *   uniforms of the chains m and 32 + m.
 * - Counts.  Where there is a V, the counts of a row are made when the row is entered and kept while it is visited.
 * - Rejected: single precision with a margin and doubles only where it leaves doubt (sparse_real.c): 1.2 updates/ns at
 *   100 units, but it needs bounds for V and for lags, and the chains are nowhere the bottleneck of a fit (the moments
 *   and their covariance are).  Fields kept and changed by flips: saves nothing, some of 64 chains always flips.
 *
 * Measured, updates/ns, one thread of an AMD EPYC (Zen 4), gcc 12, other programs running:
 *                                                         avx512   baseline
 *     40 units, dense pairs, p = 0.29                      0.138     0.061
 *     100 units, dense pairs, p = 0.25                     0.086     0.033
 *     100 units, dense pairs, p = 0.023                    0.108     0.124
 *     100 units, V alone, p = 0.5                          0.152
 *     20 units, 3 lags, dense, p = 0.054                   0.080
 */
#include "chains64.h"
#include "instruction_sets.h"
#include "philox.h"

typedef void (*edge_fn)(double *, const uint64_t *, const int32_t *, const double *, ptrdiff_t);

/* field[r] += w for every chain r whose bit is set, edge by edge */
static void add_plain(double *field, const uint64_t *row, const int32_t *to, const double *w, ptrdiff_t n)
{
    for (ptrdiff_t e = 0; e < n; e++)
        for (uint64_t rest = row[to[e]]; rest; rest &= rest - 1) field[__builtin_ctzll(rest)] += w[e];
}

#if LFT_X86
__attribute__((target("avx512f"))) static void add_avx512(double *field, const uint64_t *row, const int32_t *to,
                                                          const double *w, ptrdiff_t n)
{
    __m512d f[8];
    for (int k = 0; k < 8; k++) f[k] = _mm512_loadu_pd(field + 8 * k);
    for (ptrdiff_t e = 0; e < n; e++) {
        const uint64_t bits = row[to[e]];
        if (!bits) continue;
        const __m512d weight = _mm512_set1_pd(w[e]);
        for (int k = 0; k < 8; k++) f[k] = _mm512_mask_add_pd(f[k], (__mmask8)(bits >> 8 * k), f[k], weight);
    }
    for (int k = 0; k < 8; k++) _mm512_storeu_pd(field + 8 * k, f[k]);
}
#endif

typedef struct { const char *name; edge_fn add; } gibbs_path;
static const gibbs_path paths[] = {
    {"baseline", add_plain},
#if LFT_X86
    {"avx512", add_avx512},
#endif
};
LFT_PATHS(gibbs_path, lft_runs, LFT_NOTHING)

const char *lft_gibbs_path(void) { return path()->name; }
int lft_gibbs_force(const char *name) { return force_path(name); }

void lft_gibbs_sweep(const lft_gibbs_model *m, uint64_t *state, uint64_t word, uint64_t t, uint32_t stream,
                     uint64_t key)
{
    const edge_fn add = path()->add;
    const ptrdiff_t n = m->n_units;
    const int32_t zero = 0;
    double field[64], logistic[64];
    int32_t count[64];
    for (ptrdiff_t a = 0; a < m->n_rows; a++) {
        uint64_t *row = state + a * n;
        if (m->step) {
            memset(count, 0, sizeof count);
            for (ptrdiff_t i = 0; i < n; i++)
                for (uint64_t rest = row[i]; rest; rest &= rest - 1) count[__builtin_ctzll(rest)]++;
        }
        for (ptrdiff_t i = 0; i < n; i++) {
            for (int r = 0; r < 64; r++) field[r] = m->c[i];
            add(field, row, m->to + m->start[i], m->w + m->start[i], m->start[i + 1] - m->start[i]);
            for (int64_t e = m->late_start[i], next; e < m->late_start[i + 1]; e = next) {
                const int32_t by = m->late_by[e]; /* a run of edges to one bin */
                for (next = e + 1; next < m->late_start[i + 1] && m->late_by[next] == by;) next++;
                const ptrdiff_t other = a + by;
                if (other >= 0 && other < m->n_rows)
                    add(field, state + other * n, m->late_to + e, m->late_w + e, next - e);
                else if (m->folded) /* the bin belongs to the lane before or after */
                    for (int64_t k = e; k < next; k++) {
                        const uint64_t bits = other < 0 ? state[(other + m->n_rows) * n + m->late_to[k]] << 1
                                                        : state[(other - m->n_rows) * n + m->late_to[k]] >> 1;
                        add(field, &bits, &zero, m->late_w + k, 1);
                    }
            }
            if (m->step)
                for (int r = 0; r < 64; r++) {
                    count[r] -= (int32_t)(row[i] >> r & 1);
                    field[r] += m->step[count[r]];
                }
            lft_uniforms(word << 40 | (uint64_t)(a * n + i) << 5, 1, 32, t, stream, 0, key, logistic, logistic + 32);
            lft_logistic(logistic, 64);
            uint64_t bits = 0;
            for (int r = 0; r < 64; r++) bits |= (uint64_t)(field[r] > logistic[r]) << r;
            row[i] = bits;
            if (m->step)
                for (int r = 0; r < 64; r++) count[r] += (int32_t)(bits >> r & 1);
        }
    }
}
