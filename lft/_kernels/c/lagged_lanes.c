/* Sums over lagged spikes, eight targets at a time.  Design: lagged.pyx.
 *
 * Plain additions in a fixed order, compiled once per instruction set and chosen at run time: the same bits on all. */
#include "lagged_lanes.h"
#include "instruction_sets.h"

#define L LFT_LANES
#define AHEAD 16 /* visits of a source lie far apart in time: each would wait for memory three times */
#if defined(__GNUC__) || defined(__clang__)
#define FETCH(P) __builtin_prefetch(P)
#else
#define FETCH(P) (void)(P)
#endif

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
#define PICK(F)                                                                                                        \
    (lft_runs("avx512") ? avx512_##F : lft_runs("avx2") ? avx2_##F : plain_##F)
#else
#define PICK(F) plain_##F
#endif

void lft_lagged_predict(const lft_spikes *s, ptrdiff_t start, ptrdiff_t stop, const double *theta, double *out)
{
    PICK(predict)(s, start, stop, theta, out);
}

void lft_lagged_gather(const lft_spikes *s, ptrdiff_t start, ptrdiff_t stop, const double *r, double *out)
{
    PICK(gather)(s, start, stop, r, out);
}

void lft_lagged_pairs(const lft_spikes *s, ptrdiff_t j, const int32_t *t, ptrdiff_t n, ptrdiff_t n_bins,
                      const double *w, double *out)
{
    PICK(pairs)(s, j, t, n, n_bins, w, out);
}
