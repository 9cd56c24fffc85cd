/* Roofs of the machine: the C face.  Design: supply.c. */
#ifndef LFT_SUPPLY_H
#define LFT_SUPPLY_H
#include <stddef.h>
#include <stdint.h>

/* out[i] = a[i] + s b[i]: 24 bytes per element. */
void lft_triad(double *out, const double *a, const double *b, double s, ptrdiff_t n);
/* ``blocks`` registers of 512 random bits of ARS-7 from the counter ``first`` on, folded into one word that the caller
 * must use; *bits is what was made, 0 where the processor has no AES instructions.  is_shared: the first two rounds of
 * a block are common to many and not counted. */
uint64_t lft_ars_supply(uint64_t first, uint64_t key, int is_shared, ptrdiff_t blocks, int64_t *bits);
#endif
