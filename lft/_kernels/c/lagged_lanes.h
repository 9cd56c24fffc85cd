/* Sums over lagged spikes, eight targets at a time.  Design and measured cost: lagged.pyx. */
#ifndef LFT_LAGGED_LANES_H
#define LFT_LAGGED_LANES_H
#include <stddef.h>
#include <stdint.h>
#define LFT_LANES 8

/* Spikes of bin a: unit[ptr[a] .. ptr[a+1]), ascending, a unit with n spikes stands n times. */
typedef struct {
    const int64_t *ptr;
    const int32_t *unit;
    ptrdiff_t n_units, n_lags;
    const uint8_t *fits; /* per bin: 1 where its whole past lies in its trial and it is fitted */
} lft_spikes;

/* out[a - start][lane] += sum_k sum_{j in bin a-k} theta[k-1][j][lane] for fitted rows start <= a < stop. */
void lft_lagged_predict(const lft_spikes *s, ptrdiff_t start, ptrdiff_t stop, const double *theta, double *out);
/* out[k-1][j][lane] += sum_a x_j(a-k) r[a - start][lane] over the same rows. */
void lft_lagged_gather(const lft_spikes *s, ptrdiff_t start, ptrdiff_t stop, const double *r, double *out);
/* Logistic terms of the rows start <= a < stop, of which eta, r, w hold one row of lanes each:  r = y - p,  w = p (1 - p),
 * value[lane] += sum_a y eta - log(1 + exp(eta)); 0 where a row is not fitted.  (row, lane) are the n spikes of the
 * targets in fitted rows of this range, ascending in the row. */
void lft_lagged_logit(ptrdiff_t start, ptrdiff_t stop, const uint8_t *fits, const double *eta, const int32_t *row,
                      const uint8_t *lane, ptrdiff_t n, double *r, double *w, double *value);
/* out[k-1][k'-1][j'][lane] += sum_a x_j(a-k) x_j'(a-k') w[a][lane] for one source j with n spikes at the bins t, and all
 * j' >= j; w over all bins. */
void lft_lagged_pairs(const lft_spikes *s, ptrdiff_t j, const int32_t *t, ptrdiff_t n, ptrdiff_t n_bins,
                      const double *w, double *out);

/* Name of the loops in use: "avx512", "avx2" or "baseline"; 1 and others from now on, or 0 where they do not run. */
const char *lft_lagged_path(void);
int lft_lagged_force(const char *name);
#endif
