/* TestU01's batteries on the package's own generators, in the orders in which a lattice consumes their numbers.
 *
 * Design
 * ------
 * - Linked with lft/_kernels/c/philox.c and bitslice.c: the numbers come from lft_uniforms, lft_philox4x32 and
 *   lft_bits_random, the functions that the kernels call.  Counters are composed as the kernels compose them.
 * - A stream fills a buffer of 32-bit words, a row of sites at a time; the battery reads the buffer.
 * - Every test of Crush is a call of its own on the running stream: results appear as they are found and a run may be
 *   split into ranges of tests, while the numbers go on from test to test as they do in one call.
 * - Streams named ``mutant-`` are broken on purpose: a battery that lets them pass proves nothing.
 *
 * usage: battery STREAM smallcrush|crush|rabbit|alphabit [FIRST LAST]
 * Each result is a line "RESULT number p name"; TestU01's own report goes with it.
 */
#include "bitslice.h"
#include "philox.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <bbattery.h>
#include <swrite.h>
#include <unif01.h>

enum { L = 1024, ROW = 1024, KEYS = 64, HEAD = LFT_BITS_HEAD };

static uint32_t buffer[1 << 20];
static size_t filled, used;
static uint64_t key, t, row;
static double u[ROW], v[ROW];

static uint64_t key_word(uint64_t seed, uint64_t replica) /* lft.rng.Key */
{
    const uint32_t c[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)replica, (uint32_t)(replica >> 32)};
    const uint32_t k[2] = {0x6C667400u, 0x6B657900u};
    uint32_t out[4];
    lft_philox4x32(c, k, out);
    return out[0] | (uint64_t)out[1] << 32;
}

static void put(uint32_t word) { buffer[filled++] = word; }
static void put64(uint64_t word) { put((uint32_t)word), put((uint32_t)(word >> 32)); }
static uint32_t high32(double x) { return (uint32_t)(x * 4294967296.0); }
static uint32_t low32(double x) /* the lowest 32 of the 52 bits, lowest first: u is (k + 1/2) 2^-52 */
{
    uint64_t k = (uint64_t)(x * 0x1p52);
    uint32_t word = 0;
    for (int b = 0; b < 32; b++) word |= (uint32_t)(k >> b & 1) << (31 - b);
    return word;
}
static void next_row(void)
{
    if (++row == L) row = 0, t++;
}

/* ---- Philox: stream 1 is that of a Metropolis update */
static void philox_sweep(void) /* neighboring sites, then the next sweep */
{
    lft_uniforms(row * ROW, 1, ROW, t, 1, 0, key, u, v);
    for (int m = 0; m < ROW; m++) put(high32(u[m]));
    next_row();
}
static void philox_low_bits(void)
{
    lft_uniforms(row * ROW, 1, ROW, t, 1, 0, key, u, v);
    for (int m = 0; m < ROW; m++) put(low32(u[m])), put(low32(v[m]));
    next_row();
}
static void philox_one_site(void)
{
    for (int m = 0; m < ROW; m++, t++) {
        lft_uniforms(12345, 1, 1, t, 1, 0, key, u, v);
        put(high32(u[0]));
    }
}
static void philox_keys(void) /* seeds 0..15 times replicas 0..3, one number of each in turn */
{
    static uint32_t all[KEYS][ROW];
    for (int k = 0; k < KEYS; k++) {
        lft_uniforms(row * ROW, 1, ROW, t, 1, 0, key_word((uint64_t)k / 4, (uint64_t)k % 4), u, v);
        for (int m = 0; m < ROW; m++) all[k][m] = high32(u[m]);
    }
    for (int m = 0; m < ROW; m++)
        for (int k = 0; k < KEYS; k++) put(all[k][m]);
    next_row();
}
static void philox_colors(void) /* every second site, proposal and acceptance in turn; then the other color */
{
    for (uint64_t color = 0; color < 2; color++) {
        lft_uniforms(row * ROW + color, 2, ROW / 2, t, 1, 0, key, u, v);
        for (int m = 0; m < ROW / 2; m++) put(high32(u[m])), put(high32(v[m]));
    }
    next_row();
}
static void philox_stacked(void) /* the number of one site beside those of the next 31 sweeps: columns of the time */
{
    static uint32_t all[32][ROW];
    for (int k = 0; k < 32; k++) {
        lft_uniforms(row * ROW, 1, ROW, t + (uint64_t)k, 1, 0, key, u, v);
        for (int m = 0; m < ROW; m++) all[k][m] = high32(u[m]);
    }
    for (int m = 0; m < ROW; m++)
        for (int k = 0; k < 32; k++) put(all[k][m]);
    if (++row == L) row = 0, t += 32;
}
static void key_words(void) /* the keys of seeds 0, 1, 2, ... */
{
    for (int m = 0; m < ROW; m++) put64(key_word(t++, 0));
}

/* ---- ARS-7: unit of 128 sites, color, round of the head */
static uint64_t high_word(uint64_t sweep, uint64_t color, uint64_t index)
{
    return sweep << 16 | 1u << 12 | color << 8 | index;
}
static uint64_t low_word(uint64_t unit) { return (unit & 0xFFFF) | unit >> 16 << 24; } /* as in bitslice.c */
static void ars_unit(uint64_t unit, uint64_t sweep, uint64_t color, uint64_t word, uint64_t out[2 * HEAD])
{
    for (uint64_t k = 0; k < HEAD; k++) lft_bits_random(low_word(unit), high_word(sweep, color, k), word, out + 2 * k);
}
static const uint64_t units_per_row = ROW / 2 / 128; /* of one color */

static void ars_sweep(void) /* the blocks in the order of the sweep: units, rounds, then the other color */
{
    uint64_t out[2 * HEAD];
    for (uint64_t unit = 0; unit < L * units_per_row / 64; unit++) {
        ars_unit(row % 64 * (L * units_per_row / 64) + unit, t, row / 64, key, out);
        for (int k = 0; k < 2 * HEAD; k++) put64(out[k]);
    }
    if (++row == 128) row = 0, t++;
}
static void ars_heads(void) /* eleven bits of each site in turn: the uniforms as the sites see them */
{
    uint64_t out[2 * HEAD], bits = 0;
    int have = 0;
    for (int repeat = 0; repeat < 32; repeat++, t += (++row == L * units_per_row), row %= L * units_per_row) {
        ars_unit(row, t, 0, key, out);
        for (int site = 0; site < 128; site++)
            for (int k = 0; k < HEAD; k++) {
                bits = bits << 1 | (out[2 * k + (site >> 6)] >> (site & 63) & 1);
                if (++have == 32) put((uint32_t)bits), have = 0;
            }
    }
}
static void ars_one_unit(void) /* one unit, sweep after sweep */
{
    uint64_t out[2 * HEAD];
    for (int m = 0; m < 64; m++) {
        ars_unit(77, t++, 0, key, out);
        for (int k = 0; k < 2 * HEAD; k++) put64(out[k]);
    }
}
static void ars_keys(void)
{
    uint64_t out[2];
    for (uint64_t k = 0; k < HEAD; k++)
        for (uint64_t some = 0; some < KEYS; some++) {
            lft_bits_random(low_word(row), high_word(t, 0, k), key_word(some / 4, some % 4), out);
            put64(out[0]), put64(out[1]);
        }
    next_row();
}
static void ars_tail(void) /* the blocks of undecided sites: index 128 + site of the unit */
{
    uint64_t out[2];
    for (uint64_t site = 0; site < 128; site++) {
        lft_bits_random(low_word(row), high_word(t, 0, 128 | site), key, out);
        put64(out[0]), put64(out[1]);
    }
    next_row();
}
static void ars_large(void) /* units of a lattice of 2^48 of them, far apart */
{
    uint64_t out[2 * HEAD];
    for (uint64_t unit = 0; unit < 64; unit++) {
        ars_unit((row * 64 + unit) << 32 | (row & 15) << 14 | unit, t, 0, key, out);
        for (int k = 0; k < 2 * HEAD; k++) put64(out[k]);
    }
    next_row();
}
static void ars_one_plane(void) /* one bit of every block: one site in 128, all rounds, unit after unit */
{
    uint64_t out[2 * HEAD], bits = 0;
    for (int have = 0; have < 32 * HEAD;) {
        ars_unit(row, t, 0, key, out);
        for (int k = 0; k < HEAD; k++) {
            bits = bits << 1 | (out[2 * k] & 1);
            if (++have % 32 == 0) put((uint32_t)bits);
        }
        next_row();
    }
}

/* ---- broken on purpose */
static void mutant_ars(int rounds)
{
    for (uint64_t unit = 0; unit < 256; unit++)
        for (uint64_t k = 0; k < HEAD; k++) {
            uint64_t x[2] = {unit ^ key, high_word(t, 0, k)}, round[2];
            for (int i = 1; i <= rounds; i++) {
                round[0] = key + (uint64_t)i * 0x9E3779B97F4A7C15u;
                round[1] = (uint64_t)i * 0xBB67AE8584CAA73Bu;
                lft_bits_aes_round(x, round, i == rounds);
            }
            put64(x[0]), put64(x[1]);
        }
    t++;
}
static void mutant_ars_1(void) { mutant_ars(1); }
static void mutant_ars_2(void) { mutant_ars(2); }
static void mutant_repeat(void) /* a sweep number used twice */
{
    lft_uniforms(row * ROW, 1, ROW, t / 2, 1, 0, key, u, v);
    for (int m = 0; m < ROW; m++) put(high32(u[m]));
    if (++row == 16) row = 0, t++;
}
static void mutant_seeds(void) /* keys seed + replica: (seed 0, replica 1) and (seed 1, replica 0) are one chain */
{
    static uint32_t all[KEYS][ROW];
    for (int k = 0; k < KEYS; k++) {
        lft_uniforms(row * ROW, 1, ROW, t, 1, 0, key_word((uint64_t)(k / 4 + k % 4), 0), u, v);
        for (int m = 0; m < ROW; m++) all[k][m] = high32(u[m]);
    }
    for (int m = 0; m < ROW; m++)
        for (int k = 0; k < KEYS; k++) put(all[k][m]);
    next_row();
}
static void mutant_lcg(void) /* x -> 69069 x + 1 mod 2^32 */
{
    static uint32_t x = 1;
    for (int m = 0; m < ROW; m++) put(x = 69069u * x + 1u);
}
static void mutant_randu(void)
{
    static uint32_t x = 1;
    for (int m = 0; m < ROW; m++) put((x = 65539u * x & 0x7FFFFFFFu) << 1);
}

static const struct { const char *name; void (*fill)(void); } streams[] = {
    {"philox-sweep", philox_sweep},       {"philox-one-site", philox_one_site}, {"philox-keys", philox_keys},
    {"philox-colors", philox_colors},     {"philox-stacked", philox_stacked},   {"philox-low-bits", philox_low_bits},
    {"key-words", key_words},             {"ars-sweep", ars_sweep},             {"ars-heads", ars_heads},
    {"ars-one-unit", ars_one_unit},       {"ars-keys", ars_keys},               {"ars-tail", ars_tail},
    {"ars-one-plane", ars_one_plane},     {"ars-large", ars_large},             {"mutant-ars-1", mutant_ars_1},
    {"mutant-ars-2", mutant_ars_2},
    {"mutant-repeat", mutant_repeat},     {"mutant-seeds", mutant_seeds},       {"mutant-lcg", mutant_lcg},
    {"mutant-randu", mutant_randu},
};
static void (*fill)(void);

static unsigned int next_word(void)
{
    if (used == filled) {
        used = filled = 0;
        fill();
    }
    return buffer[used++];
}

static void results(int number)
{
    for (int k = 0; k < bbattery_NTests; k++)
        if (bbattery_pVal[k] >= 0) printf("RESULT %d %.17g %s\n", number, bbattery_pVal[k], bbattery_TestNames[k]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 3) return fprintf(stderr, "usage: battery STREAM BATTERY [FIRST LAST]\n"), 2;
    for (size_t s = 0; s < sizeof streams / sizeof streams[0]; s++)
        if (!strcmp(argv[1], streams[s].name)) fill = streams[s].fill;
    if (!fill) return fprintf(stderr, "unknown stream %s\n", argv[1]), 2;
    key = key_word(20240229, 0);
    printf("stream %s, paths %s and %s\n", argv[1], lft_noise_path(), lft_bits_path());
    swrite_Basic = FALSE;
    unif01_Gen *gen = unif01_CreateExternGenBits(argv[1], next_word);
    if (!strcmp(argv[2], "smallcrush")) {
        bbattery_SmallCrush(gen);
        results(0);
    } else if (!strcmp(argv[2], "rabbit")) {
        bbattery_Rabbit(gen, 0x1p26);
        results(0);
    } else if (!strcmp(argv[2], "alphabit")) {
        bbattery_Alphabit(gen, 0x1p28, 0, 32);
        results(0);
    } else if (!strcmp(argv[2], "crush")) {
        int first = argc > 3 ? atoi(argv[3]) : 1, last = argc > 4 ? atoi(argv[4]) : 96;
        for (int i = first; i <= last; i++) {
            int repeat[200] = {0};
            repeat[i] = 1;
            bbattery_RepeatCrush(gen, repeat);
            results(i);
        }
    } else {
        return fprintf(stderr, "unknown battery %s\n", argv[2]), 2;
    }
    unif01_DeleteExternGenBits(gen);
    return 0;
}
