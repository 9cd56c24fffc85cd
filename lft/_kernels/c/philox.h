/* Counter-based noise: the C face.  Design and measured cost: philox.c. */
#ifndef LFT_NOISE_H
#define LFT_NOISE_H
#include <stddef.h>
#include <stdint.h>

/* One Philox4x32-10 block; counter c[4], key k[2], both little word first. */
void lft_philox4x32(const uint32_t c[4], const uint32_t k[2], uint32_t out[4]);

/* For m = 0..n-1: block at counter [site0 + m*stride | t | stream | draw]; u and v are two uniforms in (0,1). */
void lft_uniforms(uint64_t site0, uint64_t stride, ptrdiff_t n, uint64_t t, uint32_t stream, uint32_t draw,
                  uint64_t key, double *u, double *v);
/* The same for a list of sites. */
void lft_uniforms_at(const uint64_t *site, ptrdiff_t n, uint64_t t, uint32_t stream, uint32_t draw, uint64_t key,
                     double *u, double *v);
/* In place, x > 0: log x, -log x, log((1-x)/x) for 0 < x < 1.  Same bits on every instruction set. */
void lft_log(double *x, ptrdiff_t n);
void lft_exponential(double *x, ptrdiff_t n);
void lft_logistic(double *x, ptrdiff_t n);
/* In place: two uniforms become two independent standard normals (Box-Muller). */
void lft_normals(double *u, double *v, ptrdiff_t n);
/* "avx512", "avx2" or "baseline": the path in use, and a way to force a lower one (tests); returns 0 if refused. */
const char *lft_noise_path(void);
int lft_noise_force(const char *name);
#endif
