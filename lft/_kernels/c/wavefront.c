/* Molecular dynamics of phi^4 blocked in time.
 *
 * Design
 * ------
 * - A kick and a drift read and write field and momenta: 32 bytes per site, which is all that memory delivers at
 *   4096^2.  Here a pass reads the field once and takes it through many steps.  The rows of a tile come in order;
 *   step s works on a row as soon as step s - 1 has left the next one along the first axis (``lag`` chunks later), and
 *   the rows in flight stay in the cache: per step a ring of two planes and a chunk, per lag the momenta between.
 * - The first stage copies (and draws the momenta), the last one makes the last kick and both energies, so a trajectory
 *   of one pass reads the field, writes the candidate, and never writes a momentum.
 * - A tile computes the rows around it as far as its steps depend on them (``margin``): tiles need nothing of each
 *   other, be they of other threads or ranks, and a periodic first axis needs no closing of the wavefront.
 * - Row kernels are plain loops on aligned rows padded to 64 bytes, compiled per instruction set and number of bonds.
 *   Ends of a row are copied into the padding: unit stride, no modulo.
 * - The next rows of the big arrays are prefetched piece by piece between the steps: 512^2, 10 steps: 5.8 ns a site
 *   against 7.5 without.
 *
 * - Rows per chunk.  A step that has g rows at hand reads g + 2 rows of the field for g of the next, all but the last
 *   two of which the step before has just left in L1, as long as 3 g + 2 rows fit there.  Whole trajectories, ns a site,
 *   CPU time, two copies of each interleaved, shortest of many (other programs running): 512^2 with chunks of 1, 2, 4
 *   rows 9.3 and 9.95, 8.7 and 9.0, 9.1 and 9.2; 256^2 9.9, 8.9, 8.7; 1024^2 8.8 and 9.2, 8.8 and 9.0, 9.3 and 9.6.
 * - What limits it.  A step of a site costs 0.55 ns, two cycles: about 40 bytes to and from L2 at 20 bytes a cycle.  The
 *   arithmetic alone, 8 additions and 8 multiplications without fused ones (they would change the bits), needs one
 *   cycle, 3.6 site-steps/ns.  What remains of a trajectory, 4.0 ns a site, are the momenta (2.3), the copy, the energies.
 *   Getting closer needs a second level of blocking: columns of a row that stay in L1 for several steps.
 *
 * Rejected, measured on a 2-core AMD EPYC (Zen 4), 512^2, 10 steps a pass unless said otherwise
 * - Fields and scratch in pages of 2 MB: 9.1-9.2 ns a site of a trajectory against 8.9-9.9; 64^3, 1024^2: no difference.
 * - 64^3, chunks of 4, 8, 16, 32 rows: 16.1, 15.4-15.6, 14.9, 15.4 ns; two tiles along the second axis 21.5, four 27.0;
 *   two passes of 5 steps 16.4.
 * - Dummy rows against planes that lie a multiple of 4 KB apart (64^3): no difference.
 * - Small rings at any price: 64^3 with 5 steps in 0.66 MB gives 0.62 site-steps/ns of a trajectory, with 10 steps in
 *   1.3 MB 0.64; 4096^2 with 5 steps in 0.8 MB 0.83, with 10 in 1.5 MB 1.0.  A pass saved is worth more than L2.
 *
 * Layout of the scratch: a row of zeros (neighbors beyond open ends), the ring of momenta, one ring of rows for the
 * field after each step, doubles for the random numbers of float fields.  A row is V numbers of padding, of which the
 * last is the site before the first, and the sites, padded.
 */
#include "wavefront.h"
#include "instruction_sets.h"

#define CHUNK 256
#define PREFETCH(array, at) __builtin_prefetch((const char *)(array) + (at), 0, 2)
typedef double four __attribute__((vector_size(32)));

/* Sizes of the scratch: rows per ring, numbers per row, where the parts lie. */
typedef struct {
    ptrdiff_t lag, rows, mom_rows, padded, pitch, work_at, n_bytes;
} shape;

static shape measure(const lft_wave_pass *pass, ptrdiff_t rows, ptrdiff_t group)
{
    const ptrdiff_t size = pass->is_single ? 4 : 8, v = 64 / size;
    const ptrdiff_t n_stages = pass->n_steps + 1 + (pass->closes != 0);
    shape s;
    s.lag = (rows + group - 1) / group;
    s.rows = rows + s.lag * group + group;
    s.mom_rows = (n_stages - 1) * s.lag * group + group;
    s.padded = (pass->length + v - 1) / v * v;
    s.pitch = s.padded + v;
    s.work_at = (s.pitch * (1 + s.mom_rows + (pass->n_steps + 1) * s.rows) + v) * size;
    s.n_bytes = s.work_at + (pass->is_single ? (pass->length + 16) * 8 : 0);
    return s;
}

ptrdiff_t lft_wave_scratch(const lft_wave_pass *pass, ptrdiff_t rows, ptrdiff_t group)
{
    return measure(pass, rows, group).n_bytes;
}

#define REAL double
#define V 8
#define ATTR
#define NAME(x) x##_base_double
#include "wavefront_rows.h"
#undef ATTR
#undef NAME
#if LFT_X86
#define ATTR __attribute__((target("avx2")))
#define NAME(x) x##_avx2_double
#include "wavefront_rows.h"
#undef ATTR
#undef NAME
#define ATTR __attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512")))
#define NAME(x) x##_avx512_double
#include "wavefront_rows.h"
#undef ATTR
#undef NAME
#endif
#undef REAL
#undef V

#define REAL float
#define V 16
#define ATTR
#define NAME(x) x##_base_float
#include "wavefront_rows.h"
#undef ATTR
#undef NAME
#if LFT_X86
#define ATTR __attribute__((target("avx2")))
#define NAME(x) x##_avx2_float
#include "wavefront_rows.h"
#undef ATTR
#undef NAME
#define ATTR __attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512")))
#define NAME(x) x##_avx512_float
#include "wavefront_rows.h"
#endif

typedef void (*run_double)(const lft_wave_pass *, const lft_wave_tile *, ptrdiff_t, const double *, const double *,
                           double *, double *, double *, double *, double *, char *);
typedef void (*run_float)(const lft_wave_pass *, const lft_wave_tile *, ptrdiff_t, const float *, const float *,
                          float *, float *, double *, double *, double *, char *);
typedef struct { const char *name; run_double of_double; run_float of_float; } wave_path;

static const wave_path paths[] = {
    {"baseline", run_base_double, run_base_float},
#if LFT_X86
    {"avx2", run_avx2_double, run_avx2_float},
    {"avx512", run_avx512_double, run_avx512_float},
#endif
};
LFT_PATHS(wave_path, lft_runs, LFT_NOTHING)

const char *lft_wave_path(void) { return path()->name; }
int lft_wave_force(const char *name) { return force_path(name); }

void lft_wave_run(const lft_wave_pass *pass, const lft_wave_tile *tile, ptrdiff_t group, const void *phi_in,
                  const void *mom_in, void *phi_out, void *mom_out, double *kinetic0, double *kinetic1,
                  double *action, void *scratch)
{
    if (pass->is_single)
        path()->of_float(pass, tile, group, phi_in, mom_in, phi_out, mom_out, kinetic0, kinetic1, action, scratch);
    else
        path()->of_double(pass, tile, group, phi_in, mom_in, phi_out, mom_out, kinetic0, kinetic1, action, scratch);
}
