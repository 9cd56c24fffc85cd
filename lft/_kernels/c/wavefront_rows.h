/* Rows and the wavefront of wavefront.c for one type of number and one instruction set; included once for each pair.
 *
 * REAL     double or float
 * V        numbers in 64 bytes: rows are padded to multiples of it
 * NAME(x)  x with a suffix of its own
 * ATTR     target attribute
 */

/* 2 f - 2 x - 4 lam x (x^2 - 1) with the bonds added in the order of the action: the bits of Phi4Kernel.site_force.
 * Its 0 + first bond and 2 f - 2 x are written shorter: doubling is exact, and the sign of a zero f is lost when x and
 * the quartic term are subtracted. */
#define FORCE(N)                                                                                                      \
    REAL x = c[j], f = k0 * (p0[j] + m0[j]);                                                                          \
    if (N > 1) f += k1 * (p1[j] + m1[j]);                                                                             \
    if (N > 2) f += k2 * (p2[j] + m2[j]);                                                                             \
    if (N > 3) f += k3 * (p3[j] + m3[j]);                                                                             \
    REAL F = (REAL)2 * (f - x) - lam4 * x * (x * x - (REAL)1);

#define BONDS(N)                                                                                                      \
    const REAL *p0 = plus[0], *m0 = minus[0], *p1 = plus[N > 1], *m1 = minus[N > 1], *p2 = plus[N > 2 ? 2 : 0],       \
               *m2 = minus[N > 2 ? 2 : 0], *p3 = plus[N > 3 ? 3 : 0], *m3 = minus[N > 3 ? 3 : 0];                     \
    const REAL k0 = k[0], k1 = k[1], k2 = k[2], k3 = k[3];                                                            \
    (void)p1, (void)m1, (void)p2, (void)m2, (void)p3, (void)m3, (void)k1, (void)k2, (void)k3;

/* n is a multiple of V: no scalar remainder. */
#define DEFINE_STEP(N)                                                                                                \
    ATTR static void NAME(step##N)(ptrdiff_t n, const REAL *c, const REAL *const *plus, const REAL *const *minus,     \
                                   const REAL *k, REAL lam4, REAL kick, REAL drift, REAL *restrict mom,               \
                                   REAL *restrict out)                                                                \
    {                                                                                                                 \
        BONDS(N)                                                                                                      \
        mom = __builtin_assume_aligned(mom, 64);                                                                      \
        out = __builtin_assume_aligned(out, 64);                                                                      \
        c = __builtin_assume_aligned(c, 64);                                                                          \
        n &= -V;                                                                                                      \
        for (ptrdiff_t j = 0; j < n; j++) {                                                                           \
            FORCE(N)                                                                                                  \
            REAL m = mom[j] + kick * F;                                                                               \
            mom[j] = m;                                                                                               \
            out[j] = x + drift * m;                                                                                   \
        }                                                                                                             \
    }

/* Squares of the momenta after the last kick, and shares of S with the bits of Phi4Kernel.site_action. */
#define DEFINE_ENERGY(N)                                                                                              \
    ATTR static void NAME(energy##N)(ptrdiff_t n, const REAL *c, const REAL *const *plus, const REAL *const *minus,   \
                                     const REAL *k, REAL lam4, const double *kappa, double lam, REAL kick,            \
                                     const REAL *mom, double *restrict square, double *restrict share)                \
    {                                                                                                                 \
        BONDS(N)                                                                                                      \
        const double a0 = kappa[0], a1 = kappa[1], a2 = kappa[2], a3 = kappa[3];                                      \
        (void)a1, (void)a2, (void)a3;                                                                                 \
        n &= -V;                                                                                                      \
        for (ptrdiff_t j = 0; j < n; j++) {                                                                           \
            FORCE(N)                                                                                                  \
            double m = (REAL)(mom[j] + kick * F), y = x, g = 0, a = y * y;                                            \
            square[j] = m * m;                                                                                        \
            g += a0 * p0[j];                                                                                          \
            if (N > 1) g += a1 * p1[j];                                                                               \
            if (N > 2) g += a2 * p2[j];                                                                               \
            if (N > 3) g += a3 * p3[j];                                                                               \
            share[j] = a + lam * (a - 1.0) * (a - 1.0) - 2.0 * g * y;                                                 \
        }                                                                                                             \
    }

DEFINE_STEP(1)
DEFINE_STEP(2)
DEFINE_STEP(3)
DEFINE_STEP(4)
DEFINE_ENERGY(1)
DEFINE_ENERGY(2)
DEFINE_ENERGY(3)
DEFINE_ENERGY(4)

/* Four running sums in a fixed order, those of lines.squares and action_lines. */
ATTR static inline void NAME(add)(four *sum, const double *x, ptrdiff_t n)
{
    four s = *sum;
    for (ptrdiff_t j = 0; j + 3 < n; j += 4) {
        four v;
        memcpy(&v, x + j, sizeof v);
        s += v;
    }
    for (ptrdiff_t j = n & ~(ptrdiff_t)3; j < n; j++) s[0] += x[j];
    *sum = s;
}

ATTR static double NAME(squares)(const REAL *x, ptrdiff_t n)
{
    four s = {0, 0, 0, 0};
    double square[CHUNK];
    for (ptrdiff_t start = 0; start < n; start += CHUNK) {
        ptrdiff_t m = n - start < CHUNK ? n - start : CHUNK;
        for (ptrdiff_t j = 0; j < m; j++) square[j] = (double)x[start + j] * x[start + j];
        NAME(add)(&s, square, m);
    }
    return 0.5 * ((s[0] + s[1]) + (s[2] + s[3]));
}

/* What the row needs beside its own numbers: one column at each end, and zeros in the padding. */
ATTR static inline void NAME(ends)(REAL *row, ptrdiff_t length, ptrdiff_t padded, int is_periodic)
{
    for (ptrdiff_t j = length + 1; j < padded; j++) row[j] = 0;
    row[-1] = is_periodic ? row[length - 1] : 0;
    row[length] = is_periodic ? row[0] : 0;
}

ATTR static inline void NAME(draw)(const lft_wave_pass *pass, uint64_t site, ptrdiff_t length, REAL *row, double *work)
{
    ptrdiff_t half = (length + 1) / 2;
    double *u = sizeof(REAL) == 8 ? (double *)row : work, *v = u + half;
    pass->uniforms(site, 1, half, pass->t, pass->stream, 0, pass->key, u, v);
    pass->normals(u, v, half);
    if (sizeof(REAL) != 8)
        for (ptrdiff_t j = 0; j < length; j++) row[j] = (REAL)u[j];
}

ATTR static void NAME(run)(const lft_wave_pass *pass, const lft_wave_tile *tile, ptrdiff_t group, const REAL *phi_in,
                           const REAL *mom_in, REAL *phi_out, REAL *mom_out, double *kinetic0, double *kinetic1,
                           double *action, char *scratch)
{
    const shape s = measure(pass, tile->rows, group);
    const ptrdiff_t R = tile->rows, planes = tile->planes, total = planes * R, length = pass->length;
    const ptrdiff_t padded = s.padded, pitch = s.pitch, n_chunks = (total + group - 1) / group;
    const int n_steps = pass->n_steps, n_stages = n_steps + 1 + (pass->closes != 0), depth = n_stages - 1;
    REAL *zero = (REAL *)scratch + V, *mom_ring = zero + pitch, *ring = mom_ring + s.mom_rows * pitch;
    double *work = (double *)(scratch + s.work_at);
    const size_t n_bytes = (size_t)length * sizeof(REAL);
    const REAL lam4 = (REAL)4 * (REAL)pass->lam;
    REAL k[LFT_WAVE_BONDS];
    for (int d = 0; d < LFT_WAVE_BONDS; d++) k[d] = d < pass->n_bonds ? (REAL)pass->kappa[d] : 0;

    for (ptrdiff_t front = 0; front < n_chunks + (n_stages - 1) * s.lag; front++) {
        /* rows that the next front reads and writes follow those of this one: fetched meanwhile, piece by piece */
        const ptrdiff_t last_chunk = front - n_steps * s.lag, ahead = group * (ptrdiff_t)n_bytes;
        const ptrdiff_t in_row = front < n_chunks ? front * group : 0;
        const ptrdiff_t out_row = last_chunk > 0 && last_chunk < n_chunks ? last_chunk * group : 0;
        const ptrdiff_t in_at = (tile->plane_at[in_row / R] + tile->row_at[in_row % R]) * (ptrdiff_t)sizeof(REAL);
        const ptrdiff_t out_at = (tile->plane_at[out_row / R] + tile->row_at[out_row % R]) * (ptrdiff_t)sizeof(REAL);
        for (int stage = 0; stage < n_stages; stage++) {
            const ptrdiff_t chunk = front - stage * s.lag;
            if (chunk < 0) break;
            for (ptrdiff_t b = stage * ahead / n_stages & -64; b < (stage + 1) * ahead / n_stages; b += 64) {
                PREFETCH(phi_in, in_at + ahead + b);
                PREFETCH(phi_out, out_at + ahead + b);
                if (!pass->draws) PREFETCH(mom_in, in_at + ahead + b);
                if (mom_out) PREFETCH(mom_out, out_at + ahead + b);
            }
            if (chunk >= n_chunks) continue;
            ptrdiff_t r = chunk * group, last = r + group < total ? r + group : total;
            ptrdiff_t i = r / R, y = r % R, slot = r % s.rows, mom_slot = r % s.mom_rows;
            REAL *level = ring + (stage ? stage - 1 : 0) * s.rows * pitch; /* what the stage reads */
            for (; r < last; r++) {
                const ptrdiff_t margin = tile->plane_margin[i] + tile->row_margin[y];
                REAL *mom = mom_ring + mom_slot * pitch, *c = level + slot * pitch;
                if (margin > depth - stage) {
                    ;
                } else if (stage == 0) {
                    const ptrdiff_t at = tile->plane_at[i] + tile->row_at[y];
                    memcpy(c, phi_in + at, n_bytes);
                    NAME(ends)(c, length, padded, pass->is_periodic);
                    if (margin < depth) {
                        if (pass->draws) {
                            NAME(draw)(pass, tile->plane_site[i] + tile->row_site[y], length, mom, work);
                            if (!margin)
                                kinetic0[tile->plane_line[i] + tile->row_line[y]] = NAME(squares)(mom, length);
                        } else {
                            memcpy(mom, mom_in + at, n_bytes);
                        }
                    }
                } else {
                    const REAL *plus[LFT_WAVE_BONDS], *minus[LFT_WAVE_BONDS];
                    for (int d = 0; d < pass->n_bonds; d++) {
                        const int axis = pass->axis[d];
                        if (axis == pass->n_axes - 1) {
                            plus[d] = c + 1;
                            minus[d] = c - 1;
                        } else if (axis == 0) {
                            ptrdiff_t up = slot + R, down = slot - R;
                            up -= up >= s.rows ? s.rows : 0;
                            down += down < 0 ? s.rows : 0;
                            plus[d] = i + 1 < planes ? level + up * pitch : zero;
                            minus[d] = i > 0 ? level + down * pitch : zero;
                        } else {
                            const ptrdiff_t *there = tile->neighbor + 2 * (axis - 1) * R + y;
                            ptrdiff_t up = slot + there[0] - y, down = slot + there[R] - y;
                            up += up < 0 ? s.rows : up >= s.rows ? -s.rows : 0;
                            down += down < 0 ? s.rows : down >= s.rows ? -s.rows : 0;
                            plus[d] = there[0] >= 0 ? level + up * pitch : zero;
                            minus[d] = there[R] >= 0 ? level + down * pitch : zero;
                        }
                    }
                    if (stage <= n_steps) {
                        const REAL kick = (REAL)pass->kick[stage - 1], drift = (REAL)pass->drift[stage - 1];
                        REAL *out = c + s.rows * pitch;
                        switch (pass->n_bonds) {
                        case 1: NAME(step1)(padded, c, plus, minus, k, lam4, kick, drift, mom, out); break;
                        case 2: NAME(step2)(padded, c, plus, minus, k, lam4, kick, drift, mom, out); break;
                        case 3: NAME(step3)(padded, c, plus, minus, k, lam4, kick, drift, mom, out); break;
                        default: NAME(step4)(padded, c, plus, minus, k, lam4, kick, drift, mom, out);
                        }
                        NAME(ends)(out, length, padded, pass->is_periodic);
                        if (stage == n_steps && !margin) {
                            const ptrdiff_t at = tile->plane_at[i] + tile->row_at[y];
                            memcpy(phi_out + at, out, n_bytes);
                            if (mom_out) memcpy(mom_out + at, mom, n_bytes);
                        }
                    } else {
                        double square[CHUNK], share[CHUNK];
                        four kinetic = {0, 0, 0, 0}, potential = {0, 0, 0, 0};
                        const REAL kick = (REAL)pass->last_kick;
                        for (ptrdiff_t start = 0; start < padded; start += CHUNK) {
                            const ptrdiff_t n = padded - start < CHUNK ? padded - start : CHUNK;
                            const ptrdiff_t m = length - start < n ? length - start : n;
                            const double *kappa = pass->kappa, lam = pass->lam;
                            switch (pass->n_bonds) {
                            case 1: NAME(energy1)(n, c, plus, minus, k, lam4, kappa, lam, kick, mom, square, share); break;
                            case 2: NAME(energy2)(n, c, plus, minus, k, lam4, kappa, lam, kick, mom, square, share); break;
                            case 3: NAME(energy3)(n, c, plus, minus, k, lam4, kappa, lam, kick, mom, square, share); break;
                            default: NAME(energy4)(n, c, plus, minus, k, lam4, kappa, lam, kick, mom, square, share);
                            }
                            NAME(add)(&kinetic, square, m);
                            NAME(add)(&potential, share, m);
                            c += n;
                            mom += n;
                            for (int d = 0; d < pass->n_bonds; d++) plus[d] += n, minus[d] += n;
                        }
                        const ptrdiff_t line = tile->plane_line[i] + tile->row_line[y];
                        kinetic1[line] = 0.5 * ((kinetic[0] + kinetic[1]) + (kinetic[2] + kinetic[3]));
                        action[line] = (potential[0] + potential[1]) + (potential[2] + potential[3]);
                    }
                }
                if (++y == R) y = 0, i++;
                if (++slot == s.rows) slot = 0;
                if (++mom_slot == s.mom_rows) mom_slot = 0;
            }
        }
    }
}

#undef FORCE
#undef BONDS
#undef DEFINE_STEP
#undef DEFINE_ENERGY
