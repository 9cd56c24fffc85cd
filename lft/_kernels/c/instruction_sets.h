/* Loops compiled for several instruction sets: which of them this processor runs, and the choice between them.
 *
 * Design: a source compiles its loops as `baseline`, `avx2` and `avx512`, lists them in a table `paths`, slowest first,
 * each entry beginning with its name, and writes LFT_PATHS behind it.  The last entry that runs here is taken at the
 * first call; tests force every other.  All three give the same bits.  `avx2` means what every such processor has
 * since 2013 (Haswell, Excavator), `avx512` what it has since 2017 (Skylake-X, Zen 4); what a kernel needs beyond that
 * it asks for itself.  Rejected: target_clones, where the dynamic linker chooses: no test can force a clone, and neither
 * clang before 14 nor musl has it (products.c, of which both clones are the same plain C, does use it).
 */
#ifndef LFT_INSTRUCTION_SETS_H
#define LFT_INSTRUCTION_SETS_H
#include <stddef.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define LFT_X86 1
#include <immintrin.h>
#define LFT_HAS(feature) (__builtin_cpu_init(), __builtin_cpu_supports(feature) != 0)
#else
#define LFT_X86 0
#define LFT_HAS(feature) 0
#endif

/* Whether loops of this name run here. */
static inline int lft_runs(const char *name)
{
    const int avx2 = LFT_HAS("avx2") && LFT_HAS("bmi") && LFT_HAS("bmi2") && LFT_HAS("popcnt");
    if (!strcmp(name, "avx2")) return avx2;
    if (!strcmp(name, "avx512"))
        return avx2 && LFT_HAS("avx512f") && LFT_HAS("avx512dq") && LFT_HAS("avx512bw") && LFT_HAS("avx512vl");
    return !strcmp(name, "baseline");
}

/* path(): the loops in use; force_path(name): 1 and these from now on, or 0 where they do not run.  RUNS(name) says
 * which run here; TAKE(path) prepares what the loops need before they are used. */
#define LFT_PATHS(TYPE, RUNS, TAKE)                                           \
    static const TYPE *chosen = 0;                                            \
                                                                              \
    static int force_path(const char *name)                                   \
    {                                                                         \
        const TYPE *found = 0;                                                \
        for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)           \
            if ((!name || !strcmp(name, paths[i].name)) && RUNS(paths[i].name)) found = &paths[i]; \
        if (!found) return 0;                                                 \
        TAKE(found);                                                          \
        chosen = found;                                                       \
        return 1;                                                             \
    }                                                                         \
                                                                              \
    static const TYPE *path(void)                                             \
    {                                                                         \
        if (!chosen) force_path(0);                                           \
        return chosen;                                                        \
    }

#define LFT_NOTHING(path) ((void)(path))
#endif
