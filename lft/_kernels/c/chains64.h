/* Heat bath of 64 chains of binary units side by side: pairs, lags and a potential of the count.  Design: chains64.c. */
#ifndef LFT_GIBBS_H
#define LFT_GIBBS_H
#include <stddef.h>
#include <stdint.h>

/* Log-odds of unit i in row a:  c_i + sum_edges w phi_to^a + sum_late w phi_to^(a + by) + step[count of the others]. */
typedef struct {
    ptrdiff_t n_units, n_rows;
    const double *c;
    const int64_t *start; /* (n_units + 1) edges within a row, by unit */
    const int32_t *to;
    const double *w;
    const int64_t *late_start; /* (n_units + 1) edges to other rows */
    const int32_t *late_to, *late_by;
    const double *late_w;
    const double *step; /* (n_units) V(K + 1) - V(K), or NULL */
    int folded;         /* the 64 lanes are consecutive stretches of one chain of 64 n_rows bins; n_rows > lags */
} lft_gibbs_model;

/* One sweep, rows and units in order, of the chains 64 word .. 64 word + 63; state is (n_rows, n_units) words. */
void lft_gibbs_sweep(const lft_gibbs_model *model, uint64_t *state, uint64_t word, uint64_t t, uint32_t stream,
                     uint64_t key);
/* "avx512" or "baseline": the path in use, and a way to force the lower one (tests); returns 0 if refused. */
const char *lft_gibbs_path(void);
int lft_gibbs_force(const char *name);
#endif
