/* Sweeps over binary units with arbitrary pair couplings: the C face.  Design and measured cost: cached.c. */
#ifndef LFT_CACHED_H
#define LFT_CACHED_H
#include <stddef.h>
#include <stdint.h>

enum {
    LFT_CACHED_BLOCK = 64, /* units whose fields are kept at hand while they are scanned; rows are padded to this */
    LFT_CACHED_RANDOM = 32, /* units of one tile of random words: eight blocks of four words */
    LFT_CACHED_TILE = 16,   /* units of one tile of the blocked sweep: four groups of four */
    LFT_CACHED_LANES = 64,  /* bins of one batch of the blocked sweep */
    LFT_CACHED_SPECIAL = 18 /* log2 of the random words at the ends that are transformed exactly */
};

/* S(high) - S(low) of unit i = c_i + sum_d K_d (phi(+d) + phi(-d)) + sum_j W_ij phi_j with phi = 0, 1, three times: in
   doubles, which decide, and in fixed point of two resolutions, which tell whether a decision is clear. */
typedef struct {
    ptrdiff_t n;
    int heatbath, low;
    int n_lags;
    const ptrdiff_t *offset; /* distance of a lag in the flat field */
    const double *c, *K;
    const double *W; /* row-major, rows of row_W entries, zeros behind the n-th; NULL: sparse */
    ptrdiff_t row_W;
    const ptrdiff_t *start, *index; /* CSR */
    const double *value;
    /* cached sweep: round(scale * ...) */
    ptrdiff_t padded, row; /* length of a row of fields (a multiple of BLOCK) and of the couplings below */
    const int32_t *fixed_c, *fixed_K, *fixed_W, *fixed_value;
    double scale, margin;
    int32_t window;
    /* blocked sweep (NULL: not available), with a resolution of its own */
    ptrdiff_t n_tiles;
    const int8_t *table;     /* [chunk of 4 targets][tile][target][high, low][group of 4 sources][16 patterns] */
    const int32_t *triangle; /* [tile][flipped][target] */
    const int32_t *block_c, *block_K;
    double block_scale, block_margin;
    int32_t block_window;
} lft_cached_model;

/* The bins of one color class: flat index of the first unit, global number, number of the local bin. */
typedef struct {
    ptrdiff_t n;
    const ptrdiff_t *first;
    const uint64_t *bin;
    const ptrdiff_t *local;
} lft_cached_bins;

typedef struct {
    uint64_t t, key;
    uint32_t stream;
} lft_cached_draw;

/* Integers of work space per thread. */
ptrdiff_t lft_cached_work(const lft_cached_model *m);
ptrdiff_t lft_cached_blocked_work(const lft_cached_model *m);

/* Fields of the bins from their spins: fields[local][padded]. */
void lft_cached_fill(const lft_cached_model *m, const lft_cached_bins *bins, const signed char *phi, int32_t *fields,
                     int32_t *work, int n_threads);
/* Visit every unit of the bins in order.  fields NULL: they are computed from the spins of a bin when it is visited.
   Returns the number of flips; *exact counts the decisions that were taken in doubles. */
int64_t lft_cached_sweep(const lft_cached_model *m, const lft_cached_bins *bins, signed char *phi, int32_t *fields,
                         const lft_cached_draw *draw, int32_t *work, int n_threads, int64_t *exact);
/* The same chain, LANES bins at once.  Only where lft_cached_has_blocked(). */
int64_t lft_cached_blocked(const lft_cached_model *m, const lft_cached_bins *bins, signed char *phi,
                           const lft_cached_draw *draw, int32_t *work, int n_threads, int64_t *exact);
int lft_cached_has_blocked(void);

/* For cached.c and blocked.c: the noise of a unit (-log u or log((1-u)/u)), the change of S, both in doubles. */
double lft_cached_noise(int heatbath, uint64_t block, int word, const lft_cached_draw *draw);
double lft_cached_raising(const lft_cached_model *m, const signed char *row, ptrdiff_t i, const signed char *site);
/* Threshold of a unit in fixed point from its exact noise. */
int32_t lft_cached_threshold(double noise, double scale, double margin);

/* Thresholds of n random words in place (for tests). */
ptrdiff_t lft_cached_thresholds(uint32_t *words, ptrdiff_t n, int heatbath, double scale, double margin,
                                uint32_t *special);
const char *lft_cached_path(void);
int lft_cached_force(const char *name);

/* Random words of n_tiles tiles of 32 units from block number first on. */
static inline uint64_t lft_cached_block(uint64_t bin, ptrdiff_t n, ptrdiff_t unit)
{
    ptrdiff_t tiles = (n + LFT_CACHED_RANDOM - 1) / LFT_CACHED_RANDOM;
    return (bin * (uint64_t)tiles + (uint64_t)(unit / LFT_CACHED_RANDOM)) * 8 + (uint64_t)(unit % 8);
}
static inline int lft_cached_word(ptrdiff_t unit) { return (int)(unit % LFT_CACHED_RANDOM / 8); }
static inline uint32_t lft_cached_tail(const lft_cached_draw *d, uint32_t draw)
{
    return ((uint32_t)((d->t >> 32) & 0xFFFFu) << 16) | ((d->stream & 0xFFu) << 8) | (draw & 0xFFu);
}
#endif
