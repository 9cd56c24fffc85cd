/* Loops of cached.c, compiled once per instruction set: NAME, ATTR, WORDS and CANDIDATES are given by the includer. */

#define IS_SPECIAL(k) ((k) - (1u << LFT_CACHED_SPECIAL) > 0xFFFFFFFFu - (2u << LFT_CACHED_SPECIAL))

/* -log u or log((1-u)/u) of words k, u = (k + 1/2) / 2^32, in single precision, minus margin, in fixed point.  Words
   next to the ends, where one word is too coarse, are listed: the caller transforms them exactly. */
ATTR static ptrdiff_t NAME(thresholds)(uint32_t *words, ptrdiff_t n, int heatbath, double scale, double margin,
                                       uint32_t *special)
{
    const float s = (float)scale, shift = (heatbath ? 0.0f : 22.1807098f) - (float)margin;
    ptrdiff_t n_special = 0;
    for (ptrdiff_t i = 0; i < n; i += 32) { /* n is a multiple of 32 */
        uint32_t *k = words + i, any = 0;
        for (int l = 0; l < 32; l++) any |= (uint32_t)(IS_SPECIAL(k[l]));
        if (__builtin_expect(any != 0, 0))
            for (int l = 0; l < 32; l++)
                if (IS_SPECIAL(k[l])) special[n_special++] = (uint32_t)(i + l);
        /* in steps of 2^-25 or more every threshold fits into 32 bits */
        if (heatbath)
            for (int l = 0; l < 32; l++)
                k[l] = (uint32_t)(int32_t)((log_float((float)~k[l] + 0.5f) - log_float((float)k[l] + 0.5f) + shift) * s);
        else
            for (int l = 0; l < 32; l++) k[l] = (uint32_t)(int32_t)((shift - log_float((float)k[l] + 0.5f)) * s);
    }
    return n_special;
}

/* to[i] = from[i] + sum over up of rows - sum over down of rows, first <= i < last (multiples of BLOCK): all rows at
   once, so that fields are read and written once. */
ATTR static void NAME(add_rows)(const lft_cached_model *m, const int32_t *from, int32_t *to, ptrdiff_t first,
                                ptrdiff_t last, const int32_t *up, ptrdiff_t n_up, const int32_t *down,
                                ptrdiff_t n_down)
{
    const int32_t *W = m->fixed_W;
    const ptrdiff_t row = m->row;
    ptrdiff_t i = first;
    for (; i + 128 <= last; i += 128) {
        const lanes *f = (const lanes *)(from + i);
        lanes a0 = f[0], a1 = f[1], a2 = f[2], a3 = f[3], a4 = f[4], a5 = f[5], a6 = f[6], a7 = f[7];
        for (ptrdiff_t k = 0; k < n_up; k++) {
            const lanes *w = (const lanes *)(W + up[k] * row + i);
            a0 += w[0], a1 += w[1], a2 += w[2], a3 += w[3], a4 += w[4], a5 += w[5], a6 += w[6], a7 += w[7];
        }
        for (ptrdiff_t k = 0; k < n_down; k++) {
            const lanes *w = (const lanes *)(W + down[k] * row + i);
            a0 -= w[0], a1 -= w[1], a2 -= w[2], a3 -= w[3], a4 -= w[4], a5 -= w[5], a6 -= w[6], a7 -= w[7];
        }
        lanes *g = (lanes *)(to + i);
        g[0] = a0, g[1] = a1, g[2] = a2, g[3] = a3, g[4] = a4, g[5] = a5, g[6] = a6, g[7] = a7;
    }
    for (; i < last; i += 64) {
        const lanes *f = (const lanes *)(from + i);
        lanes a0 = f[0], a1 = f[1], a2 = f[2], a3 = f[3];
        for (ptrdiff_t k = 0; k < n_up; k++) {
            const lanes *w = (const lanes *)(W + up[k] * row + i);
            a0 += w[0], a1 += w[1], a2 += w[2], a3 += w[3];
        }
        for (ptrdiff_t k = 0; k < n_down; k++) {
            const lanes *w = (const lanes *)(W + down[k] * row + i);
            a0 -= w[0], a1 -= w[1], a2 -= w[2], a3 -= w[3];
        }
        lanes *g = (lanes *)(to + i);
        g[0] = a0, g[1] = a1, g[2] = a2, g[3] = a3;
    }
}

/* Fields of one bin from its spins, without the lags; list has room for n units. */
ATTR static void NAME(fill)(const lft_cached_model *m, const signed char *row, int32_t *F, int32_t *list)
{
    ptrdiff_t count = 0;
    for (ptrdiff_t j = 0; j < m->n; j++) {
        list[count] = (int32_t)j;
        count += row[j] > 0;
    }
    if (m->W) {
        NAME(add_rows)(m, m->fixed_c, F, 0, m->padded, list, count, list, 0);
        return;
    }
    memcpy(F, m->fixed_c, sizeof *F * (size_t)m->padded);
    for (ptrdiff_t k = 0; k < count; k++)
        for (ptrdiff_t e = m->start[list[k]]; e < m->start[list[k] + 1]; e++) F[m->index[e]] += m->fixed_value[e];
}

/* All units of one bin in order. */
ATTR static int64_t NAME(visit)(const lft_cached_model *m, signed char *row, uint64_t bin, int32_t *F, int is_kept,
                                const lft_cached_draw *draw, int32_t *work, int64_t *exact)
{
    const ptrdiff_t n = m->n, tiles = (n + LFT_CACHED_RANDOM - 1) / LFT_CACHED_RANDOM;
    const int32_t w = m->window;
    const signed char high = 1, low = (signed char)m->low;
    int32_t *T = work, *up = work + m->padded, *down = up + m->padded;
    int64_t flips = 0;
    WORDS(bin * (uint64_t)tiles * 8, tiles, draw, (uint32_t *)T);
    ptrdiff_t n_special = NAME(thresholds)((uint32_t *)T, 32 * tiles, m->heatbath, m->scale, m->margin, (uint32_t *)up);
    for (ptrdiff_t k = 0; k < n_special; k++) {
        ptrdiff_t i = up[k];
        double noise = lft_cached_noise(m->heatbath, lft_cached_block(bin, n, i), lft_cached_word(i), draw);
        T[i] = lft_cached_threshold(noise, m->scale, m->margin);
    }
    if (!is_kept) NAME(fill)(m, row, F, up);
    for (ptrdiff_t b = 0; b < n; b += LFT_CACHED_BLOCK) {
        const int nb = (int)(n - b < LFT_CACHED_BLOCK ? n - b : LFT_CACHED_BLOCK);
        int32_t r[LFT_CACHED_BLOCK] __attribute__((aligned(64)));
        uint8_t x[LFT_CACHED_BLOCK] __attribute__((aligned(64))) = {0};
        ptrdiff_t n_up = 0, n_down = 0;
        for (int l = 0; l < nb; l++) x[l] = row[b + l] > 0;
        memcpy(r, F + b, sizeof r);
        for (int d = 0; d < m->n_lags; d++) {
            const signed char *after = row + b + m->offset[d], *before = row + b - m->offset[d];
            const int32_t K = m->fixed_K[d];
            for (int l = 0; l < nb; l++) r[l] += K * (after[l] + before[l]);
        }
        for (int c = 0; c < nb; c += 16) {
            uint32_t live = nb - c < 16 ? (1u << (nb - c)) - 1 : 0xFFFFu;
            for (;;) {
                const uint32_t found = live & CANDIDATES(r + c, T + b + c, x + c, w, m->heatbath);
                if (!found) break;
                const int l = c + __builtin_ctz(found);
                const ptrdiff_t i = b + l;
                live &= ~(uint32_t)1 << (l - c);
                const int32_t y = (m->heatbath || !x[l] ? r[l] : -r[l]) - T[i];
                if (__builtin_expect((uint32_t)y < (uint32_t)w, 0)) {
                    const double noise =
                        lft_cached_noise(m->heatbath, lft_cached_block(bin, n, i), lft_cached_word(i), draw);
                    double change = lft_cached_raising(m, row, i, row + i);
                    int yes = m->heatbath ? (change < noise) != x[l] : (x[l] ? -change : change) < noise;
                    ++*exact;
                    if (!yes) {
                        if (live) continue;
                        break;
                    }
                }
                flips++;
                const int is_up = !x[l];
                x[l] = (uint8_t)is_up;
                row[i] = is_up ? high : low;
                if (m->W) {
                    const lanes *from = (const lanes *)(m->fixed_W + i * m->row + b);
                    lanes *to = (lanes *)r;
                    if (is_up) {
                        up[n_up++] = (int32_t)i;
                        for (int v = c / 16; v < LFT_CACHED_BLOCK / 16; v++) to[v] += from[v];
                    } else {
                        down[n_down++] = (int32_t)i;
                        for (int v = c / 16; v < LFT_CACHED_BLOCK / 16; v++) to[v] -= from[v];
                    }
                } else {
                    for (ptrdiff_t e = m->start[i]; e < m->start[i + 1]; e++) {
                        const ptrdiff_t j = m->index[e];
                        const int32_t step = is_up ? m->fixed_value[e] : -m->fixed_value[e];
                        F[j] += step;
                        if (j >= b && j < b + LFT_CACHED_BLOCK) r[j - b] += step;
                    }
                }
                if (!live) break;
            }
        }
        if (n_up + n_down) NAME(add_rows)(m, F, F, is_kept ? 0 : b + LFT_CACHED_BLOCK, m->padded, up, n_up, down, n_down);
    }
    return flips;
}

ATTR static void NAME(fill_all)(const lft_cached_model *m, const lft_cached_bins *bins, const signed char *phi,
                                int32_t *fields, int32_t *work, int n_threads)
{
    const ptrdiff_t size = lft_cached_work(m);
    (void)n_threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_threads) schedule(static)
#endif
    for (ptrdiff_t a = 0; a < bins->n; a++)
        NAME(fill)(m, phi + bins->first[a], fields + bins->local[a] * m->padded, work + THREAD * size);
}

ATTR static int64_t NAME(sweep)(const lft_cached_model *m, const lft_cached_bins *bins, signed char *phi,
                                int32_t *fields, const lft_cached_draw *draw, int32_t *work, int n_threads,
                                int64_t *exact)
{
    const ptrdiff_t size = lft_cached_work(m);
    int64_t flips = 0, slow = 0;
    (void)n_threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_threads) schedule(static) reduction(+ : flips, slow)
#endif
    for (ptrdiff_t a = 0; a < bins->n; a++) {
        int32_t *own = work + THREAD * size;
        int32_t *F = fields ? fields + bins->local[a] * m->padded : own + 3 * m->padded;
        flips += NAME(visit)(m, phi + bins->first[a], bins->bin[a], F, fields != 0, draw, own, &slow);
    }
    *exact += slow;
    return flips;
}
#undef IS_SPECIAL
#undef NAME
#undef ATTR
#undef WORDS
#undef CANDIDATES
