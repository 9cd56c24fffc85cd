/* Integrate-and-fire neurons with a nonlinear drift: the C face.  Design and measured cost: upstroke.c. */
#ifndef LFT_UPSTROKE_H
#define LFT_UPSTROKE_H
#include <stddef.h>

enum { LFT_QUADRATIC = 0, LFT_EXPONENTIAL = 1, LFT_ADAPTIVE = 2 };

typedef struct {
    double dt, tau, rest, critical, slope, peak, reset, refractory;
    double a, b, share; /* of the adaptation; share = dt/tau_w */
} lft_upstroke;

/* n_steps steps of m neurons; v, w, held: their states (w is used by the adaptive ones alone), h: inputs, y: spikes/dt,
 * both (n_steps, m). */
void lft_upstroke_run(const lft_upstroke *cell, int kind, ptrdiff_t n_steps, ptrdiff_t m, const double *h, double *v,
                      double *w, double *held, double *y);
/* exp of x, between -700 and 700, in place. */
void lft_upstroke_exp(double *x, ptrdiff_t n);
const char *lft_upstroke_path(void);
int lft_upstroke_force(const char *name);
#endif
