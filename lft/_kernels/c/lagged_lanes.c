/* Sums over lagged spikes, eight targets at a time.  Design: lagged.pyx.
 *
 * Plain additions in a fixed order, compiled once per instruction set and chosen at run time: the same bits on all. */
#include "lagged_lanes.h"
#include "instruction_sets.h"
#include <math.h>

#define L LFT_LANES
#define AHEAD 16 /* visits of a source lie far apart in time: each would wait for memory three times */
#if defined(__GNUC__) || defined(__clang__)
#define FETCH(P) __builtin_prefetch(P)
#else
#define FETCH(P) (void)(P)
#endif

/* A row of lanes as one vector; (in memory it has the alignment of a double). */
typedef double lanes __attribute__((vector_size(8 * L), may_alias));
typedef double lanes_at __attribute__((vector_size(8 * L), may_alias, aligned(8)));
typedef int64_t bits __attribute__((vector_size(8 * L), may_alias));
#define PICK_LANES(MASK, A, B) ((lanes)(((MASK) & (bits)(A)) | (~(MASK) & (bits)(B))))

/* out = exp(-x) for 0 <= x <= FARTHEST: 2^n times a Taylor polynomial on |r| <= log(2)/2, the same bits on all (the
 * library's exponential differs between instruction sets, and NumPy's passes over memory cost three times as much). */
#define FARTHEST 700.0
#define MAGIC 6755399441055744.0 /* 1.5 2^52: adding it rounds to an integer, which the low bits then hold */
#define EXP_MINUS(x, out)                                                                                              \
    {                                                                                                                  \
        const lanes t = x * -1.4426950408889634 + MAGIC, n = t - MAGIC;                                                \
        const lanes u = (-x - n * 0x1.62e42fefap-1) - n * 0x1.cf79abc9e3b39p-40;                                       \
        lanes q = u * (1.0 / 6227020800.0) + 1.0 / 479001600.0;                                                        \
        q = q * u + 1.0 / 39916800.0;                                                                                  \
        q = q * u + 1.0 / 3628800.0;                                                                                   \
        q = q * u + 1.0 / 362880.0;                                                                                    \
        q = q * u + 1.0 / 40320.0;                                                                                     \
        q = q * u + 1.0 / 5040.0;                                                                                      \
        q = q * u + 1.0 / 720.0;                                                                                       \
        q = q * u + 1.0 / 120.0;                                                                                       \
        q = q * u + 1.0 / 24.0;                                                                                        \
        q = q * u + 1.0 / 6.0;                                                                                         \
        q = q * u + 0.5;                                                                                               \
        q = q * u + 1.0;                                                                                               \
        q = q * u + 1.0;                                                                                               \
        out = (lanes)((bits)q + ((bits)t << 52));                                                                      \
    }

#define BODY(NAME, TARGET)                                                                                             \
    TARGET static void NAME##_predict(const lft_spikes *s, ptrdiff_t start, ptrdiff_t stop, const double *theta,      \
                                      double *out)                                                                     \
    {                                                                                                                  \
        for (ptrdiff_t a = start; a < stop; a++) {                                                                     \
            if (!s->fits[a])                                                                                           \
                continue;                                                                                              \
            double sum[L], *to = out + (a - start) * L;                                                                \
            for (int l = 0; l < L; l++)                                                                                \
                sum[l] = to[l];                                                                                        \
            for (ptrdiff_t k = 1; k <= s->n_lags; k++) {                                                               \
                const double *table = theta + (k - 1) * s->n_units * L;                                                \
                for (int64_t m = s->ptr[a - k]; m < s->ptr[a - k + 1]; m++) {                                          \
                    const double *from = table + (ptrdiff_t)s->unit[m] * L;                                            \
                    for (int l = 0; l < L; l++)                                                                        \
                        sum[l] += from[l];                                                                             \
                }                                                                                                      \
            }                                                                                                          \
            for (int l = 0; l < L; l++)                                                                                \
                to[l] = sum[l];                                                                                        \
        }                                                                                                              \
    }                                                                                                                  \
    TARGET static void NAME##_gather(const lft_spikes *s, ptrdiff_t start, ptrdiff_t stop, const double *r,           \
                                     double *out)                                                                      \
    {                                                                                                                  \
        for (ptrdiff_t a = start; a < stop; a++) {                                                                     \
            if (!s->fits[a])                                                                                           \
                continue;                                                                                              \
            double row[L];                                                                                             \
            for (int l = 0; l < L; l++)                                                                                \
                row[l] = r[(a - start) * L + l];                                                                       \
            for (ptrdiff_t k = 1; k <= s->n_lags; k++) {                                                               \
                double *table = out + (k - 1) * s->n_units * L;                                                        \
                for (int64_t m = s->ptr[a - k]; m < s->ptr[a - k + 1]; m++) {                                          \
                    double *to = table + (ptrdiff_t)s->unit[m] * L;                                                    \
                    for (int l = 0; l < L; l++)                                                                        \
                        to[l] += row[l];                                                                               \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    TARGET static void NAME##_logit(ptrdiff_t start, ptrdiff_t stop, const uint8_t *fits, const double *eta,          \
                                    const int32_t *row, const uint8_t *lane, ptrdiff_t n, double *r, double *w,        \
                                    double *value)                                                                     \
    {                                                                                                                  \
        const lanes zero = {0}, one = zero + 1.0;                                                                      \
        lanes product = one, linear = zero;                                                                            \
        ptrdiff_t e = 0;                                                                                               \
        for (ptrdiff_t a = start; a < stop; a++) {                                                                     \
            const lanes z = ((const lanes_at *)eta)[a - start];                                                        \
            lanes_at *to = (lanes_at *)r + (a - start), *weight = (lanes_at *)w + (a - start);                         \
            if (!fits[a]) {                                                                                            \
                *to = *weight = zero;                                                                                  \
                continue;                                                                                              \
            }                                                                                                          \
            const bits up = (bits)(z >= zero);                                                                         \
            lanes x = PICK_LANES(up, z, -z);                                                                           \
            linear += PICK_LANES(up, z, zero);                                                                         \
            x = PICK_LANES((bits)(x < zero + FARTHEST), x, zero + FARTHEST);                                           \
            EXP_MINUS(x, x)                                                                                            \
            const lanes sum = one + x, q = one / sum;                                                                  \
            product *= sum;                                                                                            \
            *to = -PICK_LANES(up, q, x * q);                                                                           \
            *weight = x * q * q;                                                                                       \
            for (; e < n && row[e] == a; e++) {                                                                        \
                r[(a - start) * L + lane[e]] += 1.0;                                                                   \
                value[lane[e]] += eta[(a - start) * L + lane[e]];                                                      \
            }                                                                                                          \
            if (((a - start) & 511) == 511) {                                                                          \
                for (int l = 0; l < L; l++)                                                                            \
                    value[l] -= log(product[l]);                                                                       \
                product = one;                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
        for (int l = 0; l < L; l++)                                                                                    \
            value[l] -= log(product[l]) + linear[l];                                                                   \
    }                                                                                                                  \
    TARGET static void NAME##_pairs(const lft_spikes *s, ptrdiff_t j, const int32_t *t, ptrdiff_t n,                  \
                                    ptrdiff_t n_bins, const double *w, double *out)                                    \
    {                                                                                                                  \
        ptrdiff_t plane = s->n_units * L;                                                                              \
        for (ptrdiff_t k = 1; k <= s->n_lags; k++) {                                                                   \
            double *block = out + (k - 1) * s->n_lags * plane;                                                         \
            for (ptrdiff_t e = 0; e < n; e++) {                                                                        \
                ptrdiff_t a = t[e] + k;                                                                                \
                if (e + AHEAD < n && t[e + AHEAD] + k < n_bins) {                                                      \
                    FETCH(w + (t[e + AHEAD] + k) * L);                                                                 \
                    FETCH(s->ptr + t[e + AHEAD] + k);                                                                  \
                }                                                                                                      \
                if (e + AHEAD / 2 < n && t[e + AHEAD / 2] + k < n_bins && t[e + AHEAD / 2] + k >= s->n_lags)           \
                    FETCH(s->unit + s->ptr[t[e + AHEAD / 2] + k - s->n_lags]);                                         \
                if (a >= n_bins || !s->fits[a])                                                                        \
                    continue;                                                                                          \
                double row[L];                                                                                         \
                for (int l = 0; l < L; l++)                                                                            \
                    row[l] = w[a * L + l];                                                                             \
                for (ptrdiff_t q = 1; q <= s->n_lags; q++) {                                                           \
                    double *table = block + (q - 1) * plane;                                                           \
                    for (int64_t m = s->ptr[a - q + 1] - 1; m >= s->ptr[a - q] && s->unit[m] >= j; m--) {              \
                        double *to = table + (ptrdiff_t)s->unit[m] * L;                                                \
                        for (int l = 0; l < L; l++)                                                                    \
                            to[l] += row[l];                                                                           \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

BODY(plain, )
#if LFT_X86
BODY(avx2, __attribute__((target("avx2"))))
BODY(avx512, __attribute__((target("avx512f,prefer-vector-width=512"))))
#endif

typedef struct {
    const char *name;
    void (*predict)(const lft_spikes *, ptrdiff_t, ptrdiff_t, const double *, double *);
    void (*gather)(const lft_spikes *, ptrdiff_t, ptrdiff_t, const double *, double *);
    void (*logit)(ptrdiff_t, ptrdiff_t, const uint8_t *, const double *, const int32_t *, const uint8_t *, ptrdiff_t,
                  double *, double *, double *);
    void (*pairs)(const lft_spikes *, ptrdiff_t, const int32_t *, ptrdiff_t, ptrdiff_t, const double *, double *);
} lagged_path;

static const lagged_path paths[] = {
    {"baseline", plain_predict, plain_gather, plain_logit, plain_pairs},
#if LFT_X86
    {"avx2", avx2_predict, avx2_gather, avx2_logit, avx2_pairs},
    {"avx512", avx512_predict, avx512_gather, avx512_logit, avx512_pairs},
#endif
};
LFT_PATHS(lagged_path, lft_runs, LFT_NOTHING)

const char *lft_lagged_path(void) { return path()->name; }
int lft_lagged_force(const char *name) { return force_path(name); }

void lft_lagged_predict(const lft_spikes *s, ptrdiff_t start, ptrdiff_t stop, const double *theta, double *out)
{
    path()->predict(s, start, stop, theta, out);
}

void lft_lagged_gather(const lft_spikes *s, ptrdiff_t start, ptrdiff_t stop, const double *r, double *out)
{
    path()->gather(s, start, stop, r, out);
}

void lft_lagged_logit(ptrdiff_t start, ptrdiff_t stop, const uint8_t *fits, const double *eta, const int32_t *row,
                      const uint8_t *lane, ptrdiff_t n, double *r, double *w, double *value)
{
    path()->logit(start, stop, fits, eta, row, lane, n, r, w, value);
}

void lft_lagged_pairs(const lft_spikes *s, ptrdiff_t j, const int32_t *t, ptrdiff_t n, ptrdiff_t n_bins,
                      const double *w, double *out)
{
    path()->pairs(s, j, t, n, n_bins, w, out);
}
