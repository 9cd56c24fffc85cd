/* Directed percolation, 64 replicas in the bits of a word.  Design and measured cost: percolate.c. */
#ifndef LFT_PERCOLATE_H
#define LFT_PERCOLATE_H
#include <stddef.h>
#include <stdint.h>

#define LFT_PERCOLATE_AXES 6
#define LFT_PERCOLATE_PARENTS (1 << LFT_PERCOLATE_AXES)

/* Slices of n_rows rows along the last axis; a row has one word before and one after its sites. */
typedef struct {
    ptrdiff_t n_axes;
    ptrdiff_t shape[LFT_PERCOLATE_AXES];
    int periodic[LFT_PERCOLATE_AXES];
    uint64_t threshold[LFT_PERCOLATE_PARENTS + 1]; /* by the number of active parents: active if u < threshold ... */
    int certain[LFT_PERCOLATE_PARENTS + 1];        /* ... or in any case */
    int is_site;                                   /* one threshold for any number of active parents */
    const int64_t *square;                         /* (sum of shape, two parities) squared distances by axis, or NULL */
} lft_percolation;

/* Steps t -> t+1 ... t+n of one word of replicas.  slices: two buffers of padded rows, the present slice in that of
 * parity t; box: first and last active coordinate by axis (first > last: nothing is active).  Adds to, or fills, the rows of
 * the new slices: count and square (n, 64), alive (n); record (n, sites) gets the bits of one lane where it is not NULL.
 * Adds to reach[0] the sites that had an active parent, to reach[1] those of them that became active; reach[2], if it is
 * negative, becomes the first slice with activity at the edge of the lattice. */
void lft_percolate(const lft_percolation *model, uint64_t *slices, ptrdiff_t *box, uint64_t t, ptrdiff_t n,
                   uint32_t stream, uint64_t key, int64_t *count, int64_t *square, uint64_t *alive, int8_t *record,
                   int lane, int64_t *reach);
/* The block of 128 random bits of (site, t, draw): bits 63 and 62 - ... of u, see percolate.c. */
void lft_percolate_block(uint64_t site, uint64_t t, uint32_t stream, uint32_t draw, uint64_t key, uint64_t out[2]);
/* "aes" or "baseline": the path in use, and a way to force the lower one (tests); returns 0 if refused. */
const char *lft_percolate_path(void);
int lft_percolate_force(const char *name);
#endif
