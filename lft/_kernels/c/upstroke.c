/* Steps of quadratic, exponential and adaptive exponential integrate-and-fire neurons.
 *
 * Design
 * ------
 * - A step is a few short loops over blocks of neurons whose parts stay in the first-level cache, each without a branch:
 *   holding, limits and spikes are selections, so that the compiler turns every loop, the exponentials with it, into
 *   vectors.  Plain C, compiled once per instruction set; the operations stand in one order, nothing is contracted, and
 *   all sets give the same bits.
 * - exp is made here: 2^k times the Taylor polynomial of degree 13 on |r| <= log(2)/2, within one unit in the last place
 *   (measured 0.91; NumPy's 0.67).  Arguments are limited to +-700: a drift of e^700 passes any peak within the step,
 *   and no infinity arises of which the next step would make NaN.
 * - Reciprocals of tau and slope in place of divisions: the sums differ from those of the NumPy class by rounding.
 * - Measured per neuron and step, M = 1250, one core of a Zen 4 while both were busy: qif 2.8 ns, eif 5.3, adex 5.6 with
 *   AVX-512 (7 and 9 with AVX2, 13 and 14 plainly, the last two); NumPy steps 25, 35, 41, at M = 200 100, 146, 168.
 * - Rejected: one loop over whole steps (qif 1.4 ns, but the compiler makes scalar code of it where an exponential stands
 *   inside, at least while that is not forced inline: eif and adex 37); vectors of eight doubles as a type, which gcc 12
 *   takes apart at every comparison (7, 15, 16; 35 with AVX2).
 */
#include "upstroke.h"
#include "instruction_sets.h"
#include <stdint.h>

#define BLOCK 128 /* neurons whose parts of a step stay in the first-level cache */
#define LARGEST 700.0
#define MAGIC 6755399441055744.0 /* 1.5 2^52: adding it rounds to an integer, which the low bits then hold */

/* Into the loops of each instruction set, as a call they would be those of the first. */
#if defined(__GNUC__) || defined(__clang__)
#define INNER static inline __attribute__((always_inline))
#else
#define INNER static inline
#endif

static inline double at_most(double x, double limit) { return x > limit ? limit : x; }
static inline double at_least(double x, double limit) { return x < limit ? limit : x; }

/* exp x for |x| <= LARGEST */
INNER double exp_one(double x)
{
    const double t = x * 1.4426950408889634 + MAGIC, k = t - MAGIC;
    const double r = (x - k * 0x1.62e42fefap-1) - k * 0x1.cf79abc9e3b39p-40;
    double q = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
    q = q * r + 1.0 / 39916800.0;
    q = q * r + 1.0 / 3628800.0;
    q = q * r + 1.0 / 362880.0;
    q = q * r + 1.0 / 40320.0;
    q = q * r + 1.0 / 5040.0;
    q = q * r + 1.0 / 720.0;
    q = q * r + 1.0 / 120.0;
    q = q * r + 1.0 / 24.0;
    q = q * r + 1.0 / 6.0;
    q = q * r + 0.5;
    q = (q * (r * r) + r) + 1.0;
    uint64_t bits, power;
    memcpy(&bits, &q, 8);
    memcpy(&power, &t, 8);
    bits += power << 52;
    memcpy(&q, &bits, 8);
    return q;
}

/* out = what the membrane does by itself at v */
INNER void drift(const lft_upstroke *c, int kind, ptrdiff_t n, const double *restrict v, double *restrict out)
{
    const double per_slope = 1.0 / c->slope;
    if (kind == LFT_QUADRATIC) {
        for (ptrdiff_t i = 0; i < n; i++) out[i] = (v[i] - c->rest) * (v[i] - c->critical) * per_slope;
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) out[i] = (at_most(v[i], c->peak) - c->critical) * per_slope;
    for (ptrdiff_t i = 0; i < n; i++) out[i] = at_most(at_least(out[i], -LARGEST), LARGEST);
    for (ptrdiff_t i = 0; i < n; i++) out[i] = (c->rest - v[i]) + c->slope * exp_one(out[i]);
}

/* One step of n <= BLOCK neurons; kind is a constant where this is called. */
INNER void step(const lft_upstroke *c, int kind, ptrdiff_t n, const double *restrict h, double *restrict v,
                        double *restrict w, double *restrict held, double *restrict y)
{
    const double dt = c->dt, per_tau = 1.0 / c->tau, limit = 2.0 * c->peak - c->reset, spike = 1.0 / dt;
    double free[BLOCK], first[BLOCK], ahead[BLOCK], then[BLOCK], late[BLOCK];
    drift(c, kind, n, v, first);
    for (ptrdiff_t i = 0; i < n; i++) {
        first[i] += kind == LFT_ADAPTIVE ? h[i] - w[i] : h[i];
        free[i] = at_most(at_least(dt - held[i], 0.0), 2.0 * dt) * per_tau;
        ahead[i] = at_most(v[i] + free[i] * first[i], limit);
    }
    drift(c, kind, n, ahead, then);
    for (ptrdiff_t i = 0; i < n; i++) {
        const double drive = kind == LFT_ADAPTIVE ? h[i] - w[i] : h[i];
        const double after = v[i] + 0.5 * free[i] * (first[i] + then[i] + drive);
        late[i] = (after - c->peak) / at_least(after - v[i], 1e-300); /* share of the step after the spike */
        then[i] = after;
    }
    if (kind == LFT_ADAPTIVE)
        for (ptrdiff_t i = 0; i < n; i++) {
            const double low = w[i] + c->share * (c->a * (v[i] - c->rest) - w[i]);
            w[i] = then[i] >= c->peak ? low + c->b : low;
        }
    for (ptrdiff_t i = 0; i < n; i++) {
        const double wait = c->refractory - late[i] * dt, less = at_least(held[i] - dt, 0.0);
        held[i] = then[i] >= c->peak ? wait : less;
        v[i] = then[i] >= c->peak ? c->reset : then[i];
        y[i] = then[i] >= c->peak ? spike : 0.0;
    }
}

INNER void steps(const lft_upstroke *c, int kind, ptrdiff_t n_steps, ptrdiff_t m, const double *h, double *v,
                         double *w, double *held, double *y)
{
    for (ptrdiff_t k = 0; k < n_steps; k++, h += m, y += m)
        for (ptrdiff_t i = 0; i < m; i += BLOCK)
            step(c, kind, m - i < BLOCK ? m - i : BLOCK, h + i, v + i, w + i, held + i, y + i);
}

#define LOOPS(NAME, ATTR)                                                                                              \
    ATTR static void run_##NAME(const lft_upstroke *c, int kind, ptrdiff_t n_steps, ptrdiff_t m, const double *h,      \
                                double *v, double *w, double *held, double *y)                                        \
    {                                                                                                                  \
        switch (kind) {                                                                                                \
        case LFT_QUADRATIC: steps(c, LFT_QUADRATIC, n_steps, m, h, v, w, held, y); break;                              \
        case LFT_EXPONENTIAL: steps(c, LFT_EXPONENTIAL, n_steps, m, h, v, w, held, y); break;                          \
        default: steps(c, LFT_ADAPTIVE, n_steps, m, h, v, w, held, y);                                                 \
        }                                                                                                              \
    }                                                                                                                  \
    ATTR static void exp_##NAME(double *x, ptrdiff_t n)                                                                \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) x[i] = exp_one(x[i]);                                                        \
    }

LOOPS(base, )
#if LFT_X86
LOOPS(avx2, __attribute__((target("avx2"))))
LOOPS(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))))
#endif

typedef struct {
    const char *name;
    void (*run)(const lft_upstroke *, int, ptrdiff_t, ptrdiff_t, const double *, double *, double *, double *, double *);
    void (*exp)(double *, ptrdiff_t);
} upstroke_path;

static const upstroke_path paths[] = {
    {"baseline", run_base, exp_base},
#if LFT_X86
    {"avx2", run_avx2, exp_avx2},
    {"avx512", run_avx512, exp_avx512},
#endif
};

LFT_PATHS(upstroke_path, lft_runs, LFT_NOTHING)

const char *lft_upstroke_path(void) { return path()->name; }
int lft_upstroke_force(const char *name) { return force_path(name); }

void lft_upstroke_run(const lft_upstroke *cell, int kind, ptrdiff_t n_steps, ptrdiff_t m, const double *h, double *v,
                      double *w, double *held, double *y)
{
    path()->run(cell, kind, n_steps, m, h, v, w, held, y);
}
void lft_upstroke_exp(double *x, ptrdiff_t n) { path()->exp(x, n); }
