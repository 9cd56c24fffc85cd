/* Loops of pseudo_rows.c for one type of numbers (REAL) and one instruction set (ATTR).  Design: pseudo_rows.c. */
#define V NAME(vector)
#define VI NAME(integer)
#define VM NAME(memory) /* a vector in memory, of any alignment */
#define N_LANES ((ptrdiff_t)(64 / sizeof(REAL)))
#define MAX_V ((ptrdiff_t)LFT_PSEUDO_LANES / N_LANES)
#define INNER ATTR static inline __attribute__((always_inline))
typedef REAL V __attribute__((vector_size(64), may_alias));
typedef REAL VM __attribute__((vector_size(64), may_alias, aligned(sizeof(REAL))));
typedef INT VI __attribute__((vector_size(64), may_alias));

/* exp(-x) for 0 <= x <= LARGEST: 2^n times a Taylor polynomial on |r| <= log(2)/2. */
INNER V NAME(exp_minus)(V x)
{
    const V t = x * (REAL)-1.4426950408889634 + MAGIC;
    const V n = t - MAGIC;
    const V r = (-x - n * LN2_HIGH) - n * LN2_LOW;
    V q = r * POLYNOMIAL[0] + POLYNOMIAL[1];
    for (int k = 2; k <= DEGREE; k++) q = q * r + POLYNOMIAL[k];
    return (V)((VI)q + ((VI)t << MANTISSA));
}

INNER V NAME(pick)(VI mask, V a, V b) { return (V)((mask & (VI)a) | (~mask & (VI)b)); }

/* exp(-|z|), and the mask of z > 0 */
INNER V NAME(small)(V z, VI *is_positive)
{
    const V zero = {0};
    V x = NAME(pick)((VI)(z < zero), -z, z);
    *is_positive = (VI)(z > zero);
    x = NAME(pick)((VI)(x < zero + (REAL)LARGEST), x, zero + (REAL)LARGEST);
    return NAME(exp_minus)(x);
}

INNER void NAME(odds)(const lft_pseudo_rows *rows, ptrdiff_t a, const REAL *weight, const REAL *constant, const ptrdiff_t n_v,
                      V *z)
{
    for (ptrdiff_t k = 0; k < n_v; k++) z[k] = ((const VM *)constant)[k];
    for (int64_t e = rows->start[a]; e < rows->start[a + 1]; e++) {
        const VM *w = (const VM *)(weight + (ptrdiff_t)rows->feature[e] * LFT_PSEUDO_LANES);
        for (ptrdiff_t k = 0; k < n_v; k++) z[k] += w[k];
    }
}

/* The own entries of row a; returns the first entry of a later row. */
INNER ptrdiff_t NAME(own_odds)(const lft_pseudo_rows *rows, ptrdiff_t a, ptrdiff_t o, const REAL *own, V *z)
{
    for (; o < rows->n_own && rows->own_row[o] == a; o++) {
        const ptrdiff_t lane = rows->own_lane[o];
        ((REAL *)z)[lane] += own[(ptrdiff_t)rows->own_feature[o] * LFT_PSEUDO_LANES + lane];
    }
    return o;
}

#ifdef WITH_EXPECT
INNER void NAME(expect_with)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                              const lft_pseudo_weights *at, const lft_pseudo_sums *out, const ptrdiff_t n_v)
{
    const V one = (V){0} + (REAL)1, zero = {0};
    V product[MAX_V], linear[MAX_V], total[MAX_V];
    for (ptrdiff_t k = 0; k < n_v; k++) product[k] = one, linear[k] = zero, total[k] = zero;
    ptrdiff_t o = first_own(rows, first);
    for (ptrdiff_t a = first; a < last; a++) {
        V z[MAX_V];
        NAME(odds)(rows, a, at->weight, at->constant, n_v, z);
        const ptrdiff_t o0 = o;
        o = NAME(own_odds)(rows, a, o, at->own, z);
        for (ptrdiff_t k = 0; k < n_v; k++) {
            VI up;
            const V x = NAME(small)(z[k], &up), s = one + x;
            linear[k] += (V)(up & (VI)z[k]);
            product[k] *= s;
            z[k] = NAME(pick)(up, one, x) / s;
            total[k] += z[k];
        }
        for (int64_t e = rows->start[a]; e < rows->start[a + 1]; e++) {
            VM *g = (VM *)(out->sums + (ptrdiff_t)rows->feature[e] * LFT_PSEUDO_LANES);
            for (ptrdiff_t k = 0; k < n_v; k++) g[k] += z[k];
        }
        for (ptrdiff_t q = o0; q < o; q++)
            out->own[(ptrdiff_t)rows->own_feature[q] * LFT_PSEUDO_LANES + rows->own_lane[q]] +=
                ((const REAL *)z)[rows->own_lane[q]];
        if (((a - first) & 511) == 511 || a + 1 == last)
            for (ptrdiff_t k = 0; k < n_v; k++) {
                for (ptrdiff_t l = 0; l < N_LANES; l++) out->softplus[k * N_LANES + l] += log(product[k][l]);
                product[k] = one;
            }
    }
    for (ptrdiff_t k = 0; k < n_v; k++)
        for (ptrdiff_t l = 0; l < N_LANES; l++) {
            out->softplus[k * N_LANES + l] += linear[k][l];
            out->constant[k * N_LANES + l] += total[k][l];
        }
}
#endif

/* p (1 - p) in place of the log-odds */
INNER void NAME(variance)(const ptrdiff_t n_v, V *z)
{
    const V one = (V){0} + (REAL)1;
    for (ptrdiff_t k = 0; k < n_v; k++) {
        VI up;
        const V x = NAME(small)(z[k], &up), s = one + x;
        z[k] = x / (s * s);
    }
}

INNER void NAME(product_with)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                               const lft_pseudo_weights *at, const lft_pseudo_weights *along, void *scratch,
                               const lft_pseudo_sums *out, void *kept_at, int is_kept, const ptrdiff_t n_v)
{
    VM *kept = kept_at;
    const ptrdiff_t n = rows->n_features, n_own = rows->n_own_features;
    REAL *sums = scratch, *own = sums + n * LFT_PSEUDO_LANES, *constant = own + n_own * LFT_PSEUDO_LANES;
    ptrdiff_t o = first_own(rows, first);
    for (ptrdiff_t from = first; from < last; from += SPILL) {
        const ptrdiff_t to = from + SPILL < last ? from + SPILL : last;
        memset(scratch, 0, (size_t)((n + n_own + 1) * LFT_PSEUDO_LANES) * sizeof(REAL));
        for (ptrdiff_t a = from; a < to; a++) {
            V z[MAX_V], u[MAX_V];
            const ptrdiff_t o0 = o;
            NAME(odds)(rows, a, along->weight, along->constant, n_v, u);
            o = NAME(own_odds)(rows, a, o0, along->own, u);
            if (is_kept) {
                for (ptrdiff_t k = 0; k < n_v; k++) z[k] = kept[(a - first) * n_v + k];
            } else {
                NAME(odds)(rows, a, at->weight, at->constant, n_v, z);
                NAME(own_odds)(rows, a, o0, at->own, z);
                NAME(variance)(n_v, z);
                if (kept)
                    for (ptrdiff_t k = 0; k < n_v; k++) kept[(a - first) * n_v + k] = z[k];
            }
            for (ptrdiff_t k = 0; k < n_v; k++) z[k] *= u[k], ((VM *)constant)[k] += z[k];
            for (int64_t e = rows->start[a]; e < rows->start[a + 1]; e++) {
                VM *g = (VM *)(sums + (ptrdiff_t)rows->feature[e] * LFT_PSEUDO_LANES);
                for (ptrdiff_t k = 0; k < n_v; k++) g[k] += z[k];
            }
            for (ptrdiff_t q = o0; q < o; q++)
                own[(ptrdiff_t)rows->own_feature[q] * LFT_PSEUDO_LANES + rows->own_lane[q]] +=
                    ((const REAL *)z)[rows->own_lane[q]];
        }
        for (ptrdiff_t j = 0; j < n * LFT_PSEUDO_LANES; j++) out->sums[j] += sums[j];
        for (ptrdiff_t j = 0; j < n_own * LFT_PSEUDO_LANES; j++) out->own[j] += own[j];
        for (ptrdiff_t j = 0; j < LFT_PSEUDO_LANES; j++) out->constant[j] += constant[j];
    }
}

INNER void NAME(blocks_with)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                              const lft_pseudo_weights *at, void *pairs_at, void *cross_at, void *square_at,
                               const ptrdiff_t n_v)
{
    const ptrdiff_t n = rows->n_features, n_own = rows->n_own_features;
    REAL *pairs = pairs_at, *cross = cross_at, *square = square_at;
    ptrdiff_t o = first_own(rows, first);
    for (ptrdiff_t a = first; a < last; a++) {
        V z[MAX_V];
        NAME(odds)(rows, a, at->weight, at->constant, n_v, z);
        const ptrdiff_t o0 = o;
        o = NAME(own_odds)(rows, a, o, at->own, z);
        NAME(variance)(n_v, z);
        const int64_t e0 = rows->start[a], e1 = rows->start[a + 1];
        for (int64_t e = e0; e <= e1; e++) {
            const ptrdiff_t f = e < e1 ? rows->feature[e] : n;
            REAL *row = pairs + (f * (f + 1) / 2) * LFT_PSEUDO_LANES;
            for (int64_t d = e0; d <= e; d++) {
                VM *g = (VM *)(row + (d < e1 ? rows->feature[d] : n) * LFT_PSEUDO_LANES);
                for (ptrdiff_t k = 0; k < n_v; k++) g[k] += z[k];
            }
        }
        for (ptrdiff_t q = o0; q < o; q++) {
            const ptrdiff_t lane = rows->own_lane[q], f = rows->own_feature[q];
            const REAL w = ((const REAL *)z)[lane];
            REAL *row = cross + f * (n + 1) * LFT_PSEUDO_LANES + lane;
            for (int64_t e = e0; e < e1; e++) row[(ptrdiff_t)rows->feature[e] * LFT_PSEUDO_LANES] += w;
            row[n * LFT_PSEUDO_LANES] += w;
            for (ptrdiff_t r = o0; r < o; r++)
                if (rows->own_lane[r] == lane)
                    square[(f * n_own + rows->own_feature[r]) * LFT_PSEUDO_LANES + lane] += w;
        }
    }
}
/* As many vectors as hold targets: the last tile is seldom full. */
#ifdef WITH_EXPECT
ATTR static void NAME(expect)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                              const lft_pseudo_weights *at, const lft_pseudo_sums *out)
{
    switch ((rows->n_lanes + N_LANES - 1) / N_LANES) {
    case 1: NAME(expect_with)(rows, first, last, at, out, 1); break;
    case 2: NAME(expect_with)(rows, first, last, at, out, 2); break;
    case 3: NAME(expect_with)(rows, first, last, at, out, 3); break;
    default: NAME(expect_with)(rows, first, last, at, out, MAX_V);
    }
}
#endif

ATTR static void NAME(product)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                               const lft_pseudo_weights *at, const lft_pseudo_weights *along, void *scratch,
                               const lft_pseudo_sums *out, void *kept, int is_kept)
{
    if (rows->n_lanes <= N_LANES)
        NAME(product_with)(rows, first, last, at, along, scratch, out, kept, is_kept, 1);
    else if (rows->n_lanes <= 2 * N_LANES)
        NAME(product_with)(rows, first, last, at, along, scratch, out, kept, is_kept, 2);
    else
        NAME(product_with)(rows, first, last, at, along, scratch, out, kept, is_kept, MAX_V);
}

ATTR static void NAME(blocks)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                              const lft_pseudo_weights *at, void *pairs, void *cross, void *square)
{
    if (rows->n_lanes <= N_LANES)
        NAME(blocks_with)(rows, first, last, at, pairs, cross, square, 1);
    else if (rows->n_lanes <= 2 * N_LANES)
        NAME(blocks_with)(rows, first, last, at, pairs, cross, square, 2);
    else
        NAME(blocks_with)(rows, first, last, at, pairs, cross, square, MAX_V);
}
#undef V
#undef VI
#undef VM
#undef N_LANES
#undef MAX_V
#undef INNER
