# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Halo copies within one rank and exact, order-free sums.

Design
------
- The local wrap of all periodic axes is one precomputed list of (destination, source, length) runs, in axis order so
  that corners are right.  numpy slice assignments cost about 1 us per slab, 4 to 12 of them per color: more than the
  sweep of a small lattice.
- A sum that must not depend on the number of ranks is a fixed-point number of 68 limbs of 32 bits held in int64: it
  covers every finite double exactly, adding is associative, and MPI adds the limbs.  2^31 deposits fit before a limb
  can overflow; a deposit (one per lattice line) costs about 3 ns.  Rejected: gathering all line sums for math.fsum
  (traffic grows with the volume, about 100 ns per line), plain allreduce (differs in the last bits).
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

ctypedef fused cell_t:
    signed char
    float
    double
    int64_t

cdef enum:
    LIMBS = 68

cdef uint64_t LOW = (<uint64_t>1 << 32) - 1

N_LIMBS = LIMBS


def copy_runs(cell_t[::1] data, const Py_ssize_t[::1] target, const Py_ssize_t[::1] source,
              const Py_ssize_t[::1] length):
    """data[target + i] = data[source + i] for i < length, run after run."""
    cdef Py_ssize_t r, n = target.shape[0], i, a, b, m
    with nogil:
        for r in range(n):
            a, b, m = target[r], source[r], length[r]
            if m <= 4:
                for i in range(m):
                    data[a + i] = data[b + i]
            else:
                memcpy(&data[a], &data[b], m * sizeof(cell_t))


cdef inline int add(double x, int64_t *limbs) noexcept nogil:
    cdef uint64_t bits, mantissa, low
    cdef int exponent, position, limb, shift
    memcpy(&bits, &x, 8)
    exponent = <int>((bits >> 52) & 0x7FF)
    mantissa = bits & ((<uint64_t>1 << 52) - 1)
    if exponent == 0x7FF:
        return 1
    if exponent:
        mantissa |= <uint64_t>1 << 52
        position = exponent - 1
    else:
        position = 0
    limb, shift = position >> 5, position & 31
    # mantissa << shift spans at most 84 bits: three limbs, split without a 128-bit integer
    low = (mantissa & LOW) << shift
    mantissa = ((mantissa >> 32) << shift) + (low >> 32)
    if bits >> 63:
        limbs[limb] -= <int64_t>(low & LOW)
        limbs[limb + 1] -= <int64_t>(mantissa & LOW)
        limbs[limb + 2] -= <int64_t>(mantissa >> 32)
    else:
        limbs[limb] += <int64_t>(low & LOW)
        limbs[limb + 1] += <int64_t>(mantissa & LOW)
        limbs[limb + 2] += <int64_t>(mantissa >> 32)
    return 0


def deposit(const double[::1] values, const Py_ssize_t[::1] group, int64_t[:, ::1] limbs):
    """Add values[i] to the exact accumulator limbs[group[i]]; returns how many values are not finite."""
    cdef Py_ssize_t i, bad = 0
    with nogil:
        for i in range(values.shape[0]):
            bad += add(values[i], &limbs[group[i], 0])
    return bad


def deposit_columns(const double[:, ::1] values, int64_t[:, ::1] limbs):
    """Add values[i, j] to limbs[j] for all i, j; returns how many values are not finite."""
    cdef Py_ssize_t i, j, bad = 0
    with nogil:
        for i in range(values.shape[0]):
            for j in range(values.shape[1]):
                bad += add(values[i, j], &limbs[j, 0])
    return bad


cdef bint carry(const int64_t *limbs, uint32_t *digit) noexcept nogil:
    """The magnitude of an accumulator in LIMBS + 2 digits of 32 bits; whether it is negative."""
    cdef int64_t rest = 0
    cdef uint64_t part
    cdef bint is_negative
    cdef int k
    for k in range(LIMBS + 2):
        part = <uint64_t>rest & LOW
        rest >>= 32
        if k < LIMBS:
            part += <uint64_t>limbs[k] & LOW
            rest += limbs[k] >> 32
        digit[k] = <uint32_t>(part & LOW)
        rest += <int64_t>(part >> 32)
    is_negative = rest < 0
    if is_negative:  # so far in two's complement
        part = 1
        for k in range(LIMBS + 2):
            part += LOW ^ digit[k]
            digit[k] = <uint32_t>(part & LOW)
            part >>= 32
    return is_negative


def round_limbs(const int64_t[::1] limbs):
    """The correctly rounded double of one accumulator.

    Of the 2176 bits a few limbs are not 0: carries first, then Python's exact division of what is left (2 us; of all
    limbs 13).
    """
    cdef uint32_t digit[LIMBS + 2]
    cdef int low = 0, high = LIMBS + 1, k
    cdef bint is_negative
    if limbs.shape[0] != LIMBS:
        raise ValueError(f"{limbs.shape[0]} limbs: valid are {LIMBS}")
    is_negative = carry(&limbs[0], digit)
    while high >= 0 and digit[high] == 0:
        high -= 1
    if high < 0:
        return 0.0
    while digit[low] == 0:
        low += 1
    total = 0
    for k in range(high, low - 1, -1):
        total = (total << 32) + digit[k]
    power = 32 * low - 1074
    return (-total if is_negative else total) * (1 << max(power, 0)) / (1 << max(-power, 0))
