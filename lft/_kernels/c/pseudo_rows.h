/* Logistic regressions of all units of a binary raster on shared patterns: the C face.  Design: pseudo_rows.c. */
#ifndef LFT_PSEUDO_ROWS_H
#define LFT_PSEUDO_ROWS_H
#include <stddef.h>
#include <stdint.h>

enum {
    LFT_PSEUDO_LANES = 32, /* target units of a tile */
    LFT_PSEUDO_BEYOND = 16, /* entries beyond the end of a room that are read, but not used */
};

/* The rows as one tile of targets sees them.  A shared feature acts on all targets; an own entry on one lane alone. */
typedef struct {
    const int64_t *start;   /* [rows + 1] first entry of each row */
    const int32_t *feature; /* ascending within a row */
    ptrdiff_t n_features;
    const int32_t *own_row, *own_lane, *own_feature; /* entries of this tile, by row */
    ptrdiff_t n_own, n_own_features;
    ptrdiff_t n_lanes; /* targets of this tile */
} lft_pseudo_rows;

/* weight[n_features][LANES], own[n_own_features][LANES], constant[LANES] */
typedef struct {
    const void *weight, *own, *constant;
} lft_pseudo_weights;

/* Added to: sums[n_features][LANES], own[n_own_features][LANES], and [LANES] each: constant, softplus, variance (the
 * last two by lft_pseudo_expect alone). */
typedef struct {
    double *sums, *own, *constant, *softplus, *variance;
} lft_pseudo_sums;

/* Added to: pairs[f (f + 1) / 2 + g][LANES] for g <= f, the constant last; cross[own][f][LANES], the constant last;
 * square[own][own'][LANES]. */
typedef struct {
    void *pairs, *cross, *square;
} lft_pseudo_moments;

/* What lft_pseudo_blocks writes on the way, for a stretch of rows: kept[n_rows][LANES] numbers on a 64-byte boundary,
 * end[n_features], row and entry [n_entries + BEYOND], small numbers beyond; n_entries >= n_features. */
typedef struct {
    ptrdiff_t n_rows, n_entries;
    void *kept;
    int64_t *end;
    int32_t *row, *entry;
} lft_pseudo_room;

/* Expected spikes: sums of p = 1/(1 + exp(-z)), of log(1 + exp(z)) and of p (1 - p).  kept (or NULL): p (1 - p) of the
 * rows first .. last - 1, a multiple of 16 lanes each. */
void lft_pseudo_expect(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last, const lft_pseudo_weights *at,
                       const lft_pseudo_sums *out, float *kept);
/* Sums of p (1 - p) u, u the log-odds of ``along``, in single precision; scratch: (n_features + n_own_features + 1)
 * LANES numbers.  Where kept is given, p (1 - p) is read from there instead of computed at ``at``. */
void lft_pseudo_product(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last, const lft_pseudo_weights *at,
                        const lft_pseudo_weights *along, float *scratch, const lft_pseudo_sums *out,
                        const float *kept);
/* Second moments with weight p (1 - p). */
void lft_pseudo_blocks(const lft_pseudo_rows *rows, ptrdiff_t first, ptrdiff_t last, const lft_pseudo_weights *at,
                       int is_single, const lft_pseudo_moments *out, const lft_pseudo_room *room);
const char *lft_pseudo_path(void);
int lft_pseudo_force(const char *name);
#endif
