/* Molecular dynamics of phi^4 blocked in time: the C face.  Design and measured cost: wavefront.c. */
#ifndef LFT_WAVEFRONT_H
#define LFT_WAVEFRONT_H
#include <stddef.h>
#include <stdint.h>

enum { LFT_WAVE_BONDS = 4, LFT_WAVE_STEPS = 64 };

/* Two uniforms per site, and two uniforms into two normals: lft_uniforms and lft_normals of philox.h. */
typedef void (*lft_wave_uniforms)(uint64_t, uint64_t, ptrdiff_t, uint64_t, uint32_t, uint32_t, uint64_t, double *,
                                  double *);
typedef void (*lft_wave_normals)(double *, double *, ptrdiff_t);

/* What all tiles of a pass share. */
typedef struct {
    int n_axes, n_bonds;              /* stored axes; bonds in the order of the action's displacements */
    int axis[LFT_WAVE_BONDS];         /* stored axis of a bond: 0 the planes, n_axes - 1 along the row */
    double kappa[LFT_WAVE_BONDS], lam;
    ptrdiff_t length;                 /* sites of a row */
    int is_periodic;                  /* rows close on themselves */
    int is_single;                    /* fields of float, else of double */
    int n_steps;                      /* >= 0 pairs of a kick and a drift */
    double kick[LFT_WAVE_STEPS], drift[LFT_WAVE_STEPS];
    int closes;                       /* a last kick follows, then the energies */
    double last_kick;
    int draws;                        /* momenta are drawn, not read */
    uint64_t t, key;
    uint32_t stream;
    lft_wave_uniforms uniforms;
    lft_wave_normals normals;
} lft_wave_pass;

/* A box of rows, and the rows around it on which its last step depends. */
typedef struct {
    ptrdiff_t planes, rows;                      /* of the region; row y of plane i is its row i * rows + y */
    const ptrdiff_t *plane_at, *row_at;          /* flat index of a row's first site: the sum of the two */
    const ptrdiff_t *plane_margin, *row_margin;  /* steps from the box: the sum of the two, 0 inside */
    const ptrdiff_t *plane_line, *row_line;      /* number of a line of the box: the sum of the two */
    const uint64_t *plane_site, *row_site;       /* first global site of a line: the sum of the two */
    const ptrdiff_t *neighbor;                   /* [n_axes - 2][2][rows]: row of the plane one step up, down; or -1 */
} lft_wave_tile;

/* Bytes of scratch for tiles of so many rows per plane that are walked in chunks of ``group`` rows. */
ptrdiff_t lft_wave_scratch(const lft_wave_pass *pass, ptrdiff_t rows, ptrdiff_t group);

/* All steps of a pass on one tile.  Fields are flat arrays of double or float; mom_in is not read if momenta are drawn
 * (then kinetic0 is written), mom_out may be NULL; kinetic1 and action are written if the pass closes.  scratch:
 * aligned to 64 bytes, zeroed before its first use. */
void lft_wave_run(const lft_wave_pass *pass, const lft_wave_tile *tile, ptrdiff_t group, const void *phi_in,
                  const void *mom_in, void *phi_out, void *mom_out, double *kinetic0, double *kinetic1,
                  double *action, void *scratch);

/* "avx512", "avx2" or "baseline": the loops in use, and a way to force others (tests); returns 0 if refused. */
const char *lft_wave_path(void);
int lft_wave_force(const char *name);
#endif
