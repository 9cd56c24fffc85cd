/* Counter-based noise for the generic loops.
 *
 * Design
 * ------
 * - Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC11, 2011).  One block per site and draw:
 *       counter = [ site 64 | update t 48 | stream 8 | draw 8 ],  key = 64 bits.
 *   One block gives two uniforms u = (k + 1/2) 2^-52, k of 52 bits: u and 1-u are both exact doubles in (0,1), so
 *   neither log u nor log(1-u) can overflow.  (With 53 bits the largest value would round to 1.)
 * - The logarithm is taken here, before the update loop: a Metropolis step accepts when dS < -log u, a heat bath
 *   sets the site when d < log((1-u)/u).  The transforms vectorize, exp(-dS) inside the loop would not.
 * - log, sin and cos are built from IEEE additions, multiplications, divisions and square roots only (polynomials
 *   of the freely published fdlibm), compiled with -ffp-contract=off: every instruction set gives the same bits,
 *   and no libm is involved.
 * - Instruction sets: explicit AVX2 and AVX-512 for Philox (gcc turns the widening product into shuffles);
 *   the transforms are plain loops which gcc vectorizes once per set.  Chosen at run time by CPUID.
 * - Rejected: a uniform drawn inside the update loop (scalar Philox costs 9-11 ns a block); gcc's target_clones
 *   (needs ifunc, absent on musl and macOS, and cannot be forced to a lower path by a test).
 *
 * Arrays: u, v contiguous, n entries; entry m belongs to the site site0 + m*stride.
 */
#include "philox.h"
#include "instruction_sets.h"
#include <math.h>

#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define W0 0x9E3779B9u
#define W1 0xBB67AE85u

static inline uint32_t tail_word(uint64_t t, uint32_t stream, uint32_t draw)
{
    return ((uint32_t)((t >> 32) & 0xFFFFu) << 16) | ((stream & 0xFFu) << 8) | (draw & 0xFFu);
}

void lft_philox4x32(const uint32_t c[4], const uint32_t k[2], uint32_t out[4])
{
    uint32_t a = c[0], b = c[1], d = c[2], e = c[3], k0 = k[0], k1 = k[1];
    for (int r = 0; r < 10; r++) {
        uint64_t p0 = (uint64_t)M0 * a, p1 = (uint64_t)M1 * d;
        uint32_t na = (uint32_t)(p1 >> 32) ^ b ^ k0, nd = (uint32_t)(p0 >> 32) ^ e ^ k1;
        b = (uint32_t)p1;
        e = (uint32_t)p0;
        a = na;
        d = nd;
        k0 += W0;
        k1 += W1;
    }
    out[0] = a; out[1] = b; out[2] = d; out[3] = e;
}

static inline double to_unit(uint32_t high, uint32_t low)
{
    uint64_t bits = 0x3FF0000000000000u | ((uint64_t)high << 20) | (low >> 12);
    double x;
    memcpy(&x, &bits, 8);
    return (x - 1.0) + 0x1p-53;
}

/* The sites are site + m*stride, or at[m] where a list is given. */
static void uniforms_scalar(uint64_t site, uint64_t stride, const uint64_t *at, ptrdiff_t n, uint32_t w2, uint32_t w3,
                            uint64_t key, double *u, double *v)
{
    uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    for (ptrdiff_t m = 0; m < n; m++, site += stride) {
        if (at) site = at[m];
        uint32_t c[4] = {(uint32_t)site, (uint32_t)(site >> 32), w2, w3}, o[4];
        lft_philox4x32(c, k, o);
        u[m] = to_unit(o[0], o[1]);
        v[m] = to_unit(o[2], o[3]);
    }
}

#if LFT_X86
/* Vector paths: each 64-bit lane holds one 32-bit word in its low half; _mul_epu32 reads just that half. */
/* What stands above a low half is carried along and cleared at the end. */
#define DEFINE_UNIFORMS(NAME, TARGET, VEC, LANES, SET1, LOAD, MUL, XOR3, OR, SRL, SLL, AND, ADD, CAST, SUBPD, ADDPD, \
                        STORE, SETPD)                                                                                 \
    __attribute__((target(TARGET))) static void NAME(uint64_t site, uint64_t stride, const uint64_t *at, ptrdiff_t n, \
                                                     uint32_t w2, uint32_t w3, uint64_t key, double *u, double *v)    \
    {                                                                                                                 \
        uint64_t lane[LANES];                                                                                         \
        for (int i = 0; i < LANES; i++) lane[i] = site + stride * (uint64_t)i;                                        \
        VEC sites = LOAD((const void *)lane);                                                                         \
        const VEC step = SET1((long long)(stride * LANES)), low = SET1(0xFFFFFFFFll);                                 \
        const VEC m0 = SET1((long long)M0), m1 = SET1((long long)M1), one = SET1(0x3FF0000000000000ll);               \
        ptrdiff_t m = 0;                                                                                              \
        for (; m + LANES <= n; m += LANES) {                                                                          \
            if (at) sites = LOAD((const void *)(at + m));                                                             \
            VEC a = sites, b = SRL(sites, 32), c = SET1((long long)w2), d = SET1((long long)w3);                      \
            uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);                                                  \
            for (int r = 0; r < 10; r++) {                                                                            \
                VEC p0 = MUL(a, m0), p1 = MUL(c, m1);                                                                 \
                a = XOR3(SRL(p1, 32), b, SET1((long long)k0));                                                        \
                c = XOR3(SRL(p0, 32), d, SET1((long long)k1));                                                        \
                b = p1;                                                                                               \
                d = p0;                                                                                               \
                k0 += W0;                                                                                             \
                k1 += W1;                                                                                             \
            }                                                                                                         \
            VEC x = OR(one, OR(SLL(AND(a, low), 20), SRL(AND(b, low), 12)));                                          \
            VEC y = OR(one, OR(SLL(AND(c, low), 20), SRL(AND(d, low), 12)));                                          \
            STORE(u + m, ADDPD(SUBPD(CAST(x), SETPD(1.0)), SETPD(0x1p-53)));                                          \
            STORE(v + m, ADDPD(SUBPD(CAST(y), SETPD(1.0)), SETPD(0x1p-53)));                                          \
            sites = ADD(sites, step);                                                                                 \
        }                                                                                                             \
        uniforms_scalar(site + stride * (uint64_t)m, stride, at ? at + m : at, n - m, w2, w3, key, u + m, v + m);     \
    }

#define XOR3_AVX2(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define XOR3_AVX512(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)

DEFINE_UNIFORMS(uniforms_avx2, "avx2", __m256i, 4, _mm256_set1_epi64x, _mm256_loadu_si256, _mm256_mul_epu32,
                XOR3_AVX2, _mm256_or_si256, _mm256_srli_epi64, _mm256_slli_epi64, _mm256_and_si256,
                _mm256_add_epi64, _mm256_castsi256_pd, _mm256_sub_pd, _mm256_add_pd, _mm256_storeu_pd, _mm256_set1_pd)
DEFINE_UNIFORMS(uniforms_avx512, "avx512f", __m512i, 8, _mm512_set1_epi64, _mm512_loadu_si512, _mm512_mul_epu32,
                XOR3_AVX512, _mm512_or_si512, _mm512_srli_epi64, _mm512_slli_epi64, _mm512_and_si512,
                _mm512_add_epi64, _mm512_castsi512_pd, _mm512_sub_pd, _mm512_add_pd, _mm512_storeu_pd, _mm512_set1_pd)
#endif

/* log x for finite normal x > 0: x = 2^e m with m in [sqrt(1/2), sqrt 2); log m by the odd series of s = f/(2+f). */
static inline double log_one(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, 8);
    uint64_t shifted = bits + (0x3FF0000000000000u - 0x3FE6A09E667F3BCDu);
    /* the biased exponent as a double without an integer conversion, which AVX2 lacks for 64 bits */
    uint64_t eb = (shifted >> 52) | 0x4330000000000000u;
    double e;
    memcpy(&e, &eb, 8);
    e -= 4503599627370496.0 + 1023.0;
    uint64_t mb = (shifted & 0x000FFFFFFFFFFFFFu) + 0x3FE6A09E667F3BCDu;
    double m;
    memcpy(&m, &mb, 8);
    double f = m - 1.0, s = f / (2.0 + f), z = s * s, w = z * z;
    double t1 = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    double t2 = z * (6.666666666666735130e-01 +
                     w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    double h = 0.5 * f * f;
    return e * 6.93147180369123816490e-01 - ((h - (s * (h + (t1 + t2)) + e * 1.90821492927058770002e-10)) - f);
}

/* sin and cos of 2 pi x, 0 < x < 1: octant q in 0..8, remainder |y| <= pi/4, then the two kernel polynomials. */
static inline void sincos_turn(double x, double *sine, double *cosine)
{
    double q = (8.0 * x + 1.0) * 0.5;                 /* quarter turns plus one half */
    double k = (q + 4503599627370496.0) - 4503599627370496.0; /* round to nearest ... */
    k = k > q ? k - 1.0 : k;                          /* ... and down: floor without an instruction */
    double y = (4.0 * x - k) * 1.5707963267948966;
    double z = y * y;
    double sp = y + y * z * (-1.66666666666666324348e-01 + z * (8.33333333332248946124e-03 +
                z * (-1.98412698298579493134e-04 + z * (2.75573137070700676789e-06 +
                z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
    double cp = 1.0 - 0.5 * z + z * z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 +
                z * (2.48015872894767294178e-05 + z * (-2.75573143513906633035e-07 +
                z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
    /* the quadrant as bits, so that no selection needs a mask: odd ones swap, then the signs */
    double w = k + 4503599627370496.0;
    uint64_t n, sb, cb;
    memcpy(&n, &w, 8);
    memcpy(&sb, &sp, 8);
    memcpy(&cb, &cp, 8);
    uint64_t swap = (sb ^ cb) & (0 - (n & 1));
    sb = (sb ^ swap) ^ ((n << 62) & 0x8000000000000000u);
    cb = (cb ^ swap) ^ (((n + 1) << 62) & 0x8000000000000000u);
    memcpy(sine, &sb, 8);
    memcpy(cosine, &cb, 8);
}

#define LOOP_BODIES(SUFFIX, ATTR)                                                                                     \
    ATTR static void log_##SUFFIX(double *restrict x, ptrdiff_t n)                                                    \
    {                                                                                                                 \
        for (ptrdiff_t m = 0; m < n; m++) x[m] = log_one(x[m]);                                                       \
    }                                                                                                                 \
    ATTR static void exponential_##SUFFIX(double *restrict x, ptrdiff_t n)                                            \
    {                                                                                                                 \
        for (ptrdiff_t m = 0; m < n; m++) x[m] = -log_one(x[m]);                                                      \
    }                                                                                                                 \
    ATTR static void logistic_##SUFFIX(double *restrict x, ptrdiff_t n)                                               \
    {                                                                                                                 \
        for (ptrdiff_t m = 0; m < n; m++) x[m] = log_one((1.0 - x[m]) / x[m]);                                        \
    }                                                                                                                 \
    ATTR static void normals_##SUFFIX(double *restrict u, double *restrict v, ptrdiff_t n)                            \
    {                                                                                                                 \
        for (ptrdiff_t m = 0; m < n; m++) {                                                                           \
            double r = sqrt(-2.0 * log_one(u[m])), s, c;                                                              \
            sincos_turn(v[m], &s, &c);                                                                                \
            u[m] = r * c;                                                                                             \
            v[m] = r * s;                                                                                             \
        }                                                                                                             \
    }

LOOP_BODIES(base, )
#if LFT_X86
LOOP_BODIES(avx2, __attribute__((target("avx2"))))
LOOP_BODIES(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))))
#endif

typedef void (*fill_fn)(uint64_t, uint64_t, const uint64_t *, ptrdiff_t, uint32_t, uint32_t, uint64_t, double *, double *);
typedef void (*one_fn)(double *restrict, ptrdiff_t);
typedef void (*two_fn)(double *restrict, double *restrict, ptrdiff_t);
typedef struct { const char *name; fill_fn fill; one_fn log, exponential, logistic; two_fn normals; } noise_path;

static const noise_path paths[] = {
    {"baseline", uniforms_scalar, log_base, exponential_base, logistic_base, normals_base},
#if LFT_X86
    {"avx2", uniforms_avx2, log_avx2, exponential_avx2, logistic_avx2, normals_avx2},
    {"avx512", uniforms_avx512, log_avx512, exponential_avx512, logistic_avx512, normals_avx512},
#endif
};

LFT_PATHS(noise_path, lft_runs, LFT_NOTHING)

const char *lft_noise_path(void) { return path()->name; }
int lft_noise_force(const char *name) { return force_path(name); }

void lft_uniforms(uint64_t site0, uint64_t stride, ptrdiff_t n, uint64_t t, uint32_t stream, uint32_t draw,
                  uint64_t key, double *u, double *v)
{
    path()->fill(site0, stride, NULL, n, (uint32_t)t, tail_word(t, stream, draw), key, u, v);
}
void lft_uniforms_at(const uint64_t *site, ptrdiff_t n, uint64_t t, uint32_t stream, uint32_t draw, uint64_t key,
                     double *u, double *v)
{
    path()->fill(0, 0, site, n, (uint32_t)t, tail_word(t, stream, draw), key, u, v);
}
void lft_log(double *x, ptrdiff_t n) { path()->log(x, n); }
void lft_exponential(double *x, ptrdiff_t n) { path()->exponential(x, n); }
void lft_logistic(double *x, ptrdiff_t n) { path()->logistic(x, n); }
void lft_normals(double *u, double *v, ptrdiff_t n) { path()->normals(u, v, n); }
