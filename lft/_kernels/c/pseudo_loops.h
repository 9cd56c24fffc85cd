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
    const V square = r * r; /* odd and even powers side by side: half the latency */
    V odd = square * POLYNOMIAL[0] + POLYNOMIAL[2], even = square * POLYNOMIAL[1] + POLYNOMIAL[3];
    for (int k = 4; k < DEGREE; k += 2) odd = odd * square + POLYNOMIAL[k], even = even * square + POLYNOMIAL[k + 1];
    return (V)((VI)(odd * r + even) + ((VI)t << MANTISSA));
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

/* ``v`` added to the sums of the features e0 .. e1 - 1 */
INNER void NAME(add)(const lft_pseudo_rows *rows, int64_t e0, int64_t e1, const ptrdiff_t n_v, const V *v, REAL *sums)
{
    for (int64_t e = e0; e < e1; e++) {
        VM *g = (VM *)(sums + (ptrdiff_t)rows->feature[e] * LFT_PSEUDO_LANES);
        for (ptrdiff_t k = 0; k < n_v; k++) g[k] += v[k];
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
#define VH NAME(half)
typedef float VH __attribute__((vector_size(32), may_alias));
INNER void NAME(expect_with)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                              const lft_pseudo_weights *at, const lft_pseudo_sums *out, float *kept,
                              const ptrdiff_t n_v)
{
    const V one = (V){0} + (REAL)1, zero = {0};
    const ptrdiff_t width = kept_lanes(rows);
    V linear[MAX_V], total[MAX_V], square[MAX_V], z[STRIP * MAX_V];
    for (ptrdiff_t k = 0; k < n_v; k++) linear[k] = zero, total[k] = zero, square[k] = zero;
    ptrdiff_t o = first_own(rows, first);
    for (ptrdiff_t from = first; from < last; from += LOGARITHM) {
        const ptrdiff_t upto = from + LOGARITHM < last ? from + LOGARITHM : last;
        V product[MAX_V];
        for (ptrdiff_t k = 0; k < n_v; k++) product[k] = one;
        for (ptrdiff_t a = from; a < upto; a += STRIP) {
            const ptrdiff_t b = a + STRIP < upto ? a + STRIP : upto, o0 = o;
            for (ptrdiff_t c = a; c < b; c++) {
                NAME(odds)(rows, c, at->weight, at->constant, n_v, z + (c - a) * n_v);
                o = NAME(own_odds)(rows, c, o, at->own, z + (c - a) * n_v);
            }
            for (ptrdiff_t k = 0; k < n_v; k++) {
                V all = product[k], positive = linear[k], sum = total[k], sum_v = square[k];
                for (ptrdiff_t c = 0; c < b - a; c++) {
                    const V zk = z[c * n_v + k];
                    VI up;
                    const V x = NAME(small)(zk, &up), s = one + x, p = NAME(pick)(up, one, x) / s, v = p - p * p;
                    positive += (V)(up & (VI)zk);
                    all *= s;
                    sum += p;
                    sum_v += v;
                    z[c * n_v + k] = p;
                    if (kept) *(VH *)(kept + (a + c - first) * width + k * N_LANES) = __builtin_convertvector(v, VH);
                }
                product[k] = all, linear[k] = positive, total[k] = sum, square[k] = sum_v;
            }
            for (ptrdiff_t c = a; c < b; c++)
                NAME(add)(rows, rows->start[c], rows->start[c + 1], n_v, z + (c - a) * n_v, out->sums);
            for (ptrdiff_t q = o0; q < o; q++)
                out->own[(ptrdiff_t)rows->own_feature[q] * LFT_PSEUDO_LANES + rows->own_lane[q]] +=
                    ((const REAL *)(z + (rows->own_row[q] - a) * n_v))[rows->own_lane[q]];
        }
        for (ptrdiff_t k = 0; k < n_v; k++)
            for (ptrdiff_t l = 0; l < N_LANES; l++) out->softplus[k * N_LANES + l] += log(product[k][l]);
    }
    for (ptrdiff_t k = 0; k < n_v; k++)
        for (ptrdiff_t l = 0; l < N_LANES; l++) {
            out->softplus[k * N_LANES + l] += linear[k][l];
            out->constant[k * N_LANES + l] += total[k][l];
            out->variance[k * N_LANES + l] += square[k][l];
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

#ifdef WITH_PRODUCT
INNER void NAME(product_with)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                               const lft_pseudo_weights *at, const lft_pseudo_weights *along, float *scratch,
                               const lft_pseudo_sums *out, const float *kept, const ptrdiff_t n_v)
{
    const ptrdiff_t n = rows->n_features, n_own = rows->n_own_features, width = kept_lanes(rows);
    float *sums = scratch, *own = sums + n * LFT_PSEUDO_LANES, *constant = own + n_own * LFT_PSEUDO_LANES;
    ptrdiff_t o = first_own(rows, first);
    for (ptrdiff_t from = first; from < last; from += SPILL) {
        const ptrdiff_t to = from + SPILL < last ? from + SPILL : last;
        memset(scratch, 0, (size_t)((n + n_own + 1) * LFT_PSEUDO_LANES) * sizeof(REAL));
        for (ptrdiff_t a = from; a < to; a++) {
            V z[MAX_V], u[MAX_V];
            const ptrdiff_t o0 = o;
            NAME(odds)(rows, a, along->weight, along->constant, n_v, u);
            o = NAME(own_odds)(rows, a, o0, along->own, u);
            if (kept) {
                for (ptrdiff_t k = 0; k < n_v; k++) z[k] = ((const V *)(kept + (a - first) * width))[k];
            } else {
                NAME(odds)(rows, a, at->weight, at->constant, n_v, z);
                NAME(own_odds)(rows, a, o0, at->own, z);
                NAME(variance)(n_v, z);
            }
            for (ptrdiff_t k = 0; k < n_v; k++) z[k] *= u[k], ((VM *)constant)[k] += z[k];
            NAME(add)(rows, rows->start[a], rows->start[a + 1], n_v, z, sums);
            for (ptrdiff_t q = o0; q < o; q++)
                own[(ptrdiff_t)rows->own_feature[q] * LFT_PSEUDO_LANES + rows->own_lane[q]] +=
                    ((const REAL *)z)[rows->own_lane[q]];
        }
        for (ptrdiff_t j = 0; j < n * LFT_PSEUDO_LANES; j++) out->sums[j] += sums[j];
        for (ptrdiff_t j = 0; j < n_own * LFT_PSEUDO_LANES; j++) out->own[j] += own[j];
        for (ptrdiff_t j = 0; j < LFT_PSEUDO_LANES; j++) out->constant[j] += constant[j];
    }
}
#endif

/* Second moments of the rows first .. last - 1, at most as many as ``room`` holds: see the design. */
INNER void NAME(blocks_with)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                              const lft_pseudo_weights *at, const lft_pseudo_moments *out,
                              const lft_pseudo_room *room, const ptrdiff_t n_v)
{
    const ptrdiff_t n = rows->n_features, n_own = rows->n_own_features;
    const int64_t *start = rows->start;
    REAL *pairs = out->pairs, *cross = out->cross, *square = out->square;
    V *kept = room->kept;
    ptrdiff_t o = first_own(rows, first);
    for (ptrdiff_t a = first; a < last; a++) {
        V *z = kept + (a - first) * n_v;
        NAME(odds)(rows, a, at->weight, at->constant, n_v, z);
        const ptrdiff_t o0 = o;
        o = NAME(own_odds)(rows, a, o, at->own, z);
        NAME(variance)(n_v, z);
        for (ptrdiff_t q = o0; q < o; q++) {
            const ptrdiff_t lane = rows->own_lane[q], f = rows->own_feature[q];
            const REAL w = ((const REAL *)z)[lane];
            REAL *row = cross + f * (n + 1) * LFT_PSEUDO_LANES + lane;
            for (int64_t e = start[a]; e < start[a + 1]; e++) row[(ptrdiff_t)rows->feature[e] * LFT_PSEUDO_LANES] += w;
            row[n * LFT_PSEUDO_LANES] += w;
            for (ptrdiff_t r = o0; r < o; r++)
                if (rows->own_lane[r] == lane)
                    square[(f * n_own + rows->own_feature[r]) * LFT_PSEUDO_LANES + lane] += w;
        }
    }
    by_feature(rows, first, last, room);
    for (ptrdiff_t f = 0, s = 0; f < n; f++)
        for (; s < room->end[f]; s++) {
            const int64_t a = room->row[s], later = room->row[s + AHEAD];
            for (ptrdiff_t k = 0; k < n_v; k++) __builtin_prefetch(kept + later * n_v + k);
            __builtin_prefetch(rows->feature + start[first] + room->entry[s + AHEAD]);
            __builtin_prefetch(start + first + room->row[s + 2 * AHEAD]);
            NAME(add)(rows, start[first + a], start[first] + room->entry[s] + 1, n_v, kept + a * n_v,
                      pairs + (f * (f + 1) / 2) * LFT_PSEUDO_LANES);
        }
    REAL *constant = pairs + (n * (n + 1) / 2) * LFT_PSEUDO_LANES; /* active in every row */
    for (ptrdiff_t a = first; a < last; a++) {
        const V *v = kept + (a - first) * n_v;
        NAME(add)(rows, start[a], start[a + 1], n_v, v, constant);
        for (ptrdiff_t k = 0; k < n_v; k++) ((VM *)(constant + n * LFT_PSEUDO_LANES))[k] += v[k];
    }
}
/* As many vectors as hold targets: the last tile is seldom full. */
#ifdef WITH_EXPECT
ATTR static void NAME(expect)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                              const lft_pseudo_weights *at, const lft_pseudo_sums *out, float *kept)
{
    switch ((rows->n_lanes + N_LANES - 1) / N_LANES) {
    case 1: NAME(expect_with)(rows, first, last, at, out, kept, 1); break;
    case 2: NAME(expect_with)(rows, first, last, at, out, kept, 2); break;
    case 3: NAME(expect_with)(rows, first, last, at, out, kept, 3); break;
    default: NAME(expect_with)(rows, first, last, at, out, kept, MAX_V);
    }
}
#endif

#ifdef WITH_PRODUCT
ATTR static void NAME(product)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                               const lft_pseudo_weights *at, const lft_pseudo_weights *along, float *scratch,
                               const lft_pseudo_sums *out, const float *kept)
{
    if (rows->n_lanes <= N_LANES)
        NAME(product_with)(rows, first, last, at, along, scratch, out, kept, 1);
    else if (rows->n_lanes <= 2 * N_LANES)
        NAME(product_with)(rows, first, last, at, along, scratch, out, kept, 2);
    else
        NAME(product_with)(rows, first, last, at, along, scratch, out, kept, MAX_V);
}
#endif

ATTR static void NAME(blocks)(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last,
                              const lft_pseudo_weights *at, const lft_pseudo_moments *out,
                              const lft_pseudo_room *room)
{
    for (ptrdiff_t a = first, b; a < last; a = b) {
        b = a + 1; /* a row has no more entries than features, which is what the room holds at least */
        while (b < last && b - a < room->n_rows && rows->start[b + 1] - rows->start[a] <= room->n_entries) b++;
        if (rows->n_lanes <= N_LANES)
            NAME(blocks_with)(rows, a, b, at, out, room, 1);
        else if (rows->n_lanes <= 2 * N_LANES)
            NAME(blocks_with)(rows, a, b, at, out, room, 2);
        else
            NAME(blocks_with)(rows, a, b, at, out, room, MAX_V);
    }
}
#undef V
#undef VI
#undef VM
#undef N_LANES
#undef MAX_V
#undef INNER
