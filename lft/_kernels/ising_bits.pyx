# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Bit-sliced Ising sweeps: rules, rows and runs as objects, and the calls.  Design: bitslice.c."""
from libc.string cimport memcpy
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "bitslice.h" nogil:
    enum:
        LFT_BITS_HEAD, LFT_BITS_MEMBERS, LFT_BITS_GROUPS, LFT_BITS_COMBOS, LFT_BITS_ALWAYS
        LFT_BITS_SELF, LFT_BITS_SIDE, LFT_BITS_LINE, LFT_BITS_SPIN, LFT_BITS_SHAPED
        LFT_BITS_OPEN, LFT_BITS_EVEN, LFT_BITS_ODD, LFT_BITS_UP
    ctypedef struct lft_bits_rule:
        int heatbath, n_groups, n_members, n_combos, n_classes, fast, shape
        int *size
        int *kind
        Py_ssize_t *offset
        uint64_t *flip
        uint8_t *class_of
        uint8_t *inverted
        uint64_t *threshold
        uint64_t select[8][LFT_BITS_SHAPED]
        uint64_t invert[LFT_BITS_SHAPED]
        uint64_t plane[LFT_BITS_HEAD][LFT_BITS_COMBOS]
    ctypedef struct lft_bits_rows:
        Py_ssize_t words
        Py_ssize_t *bits
        Py_ssize_t chunk
        int closed, ends
        const uint64_t **mask
        const uint64_t **right
        const uint64_t **left
        const uint64_t **valid
        const uint64_t **same
        const uint64_t **moved
        int threads
        Py_ssize_t work
        uint64_t *side
        uint64_t *open
        uint64_t *flipped
        uint64_t *list
    ctypedef struct lft_bits_runs:
        Py_ssize_t n
        const Py_ssize_t *word
        const Py_ssize_t *lines
        const Py_ssize_t *parity
        const uint64_t *unit
    ctypedef struct lft_bits_bonds:
        int n
        int *axis
        Py_ssize_t *offset
        int last
    int64_t lft_bits_pass(const lft_bits_rule *rule, const lft_bits_rule *end, const lft_bits_rows *rows,
                          const lft_bits_runs *runs, uint64_t *own, const uint64_t *other, int color, uint64_t t,
                          uint32_t stream, uint64_t key, const lft_bits_bonds *bonds, int64_t *counts)
    int64_t lft_bits_seam(const lft_bits_rule *rule, const lft_bits_rows *rows, const lft_bits_runs *runs,
                          uint64_t *own, const uint64_t *other, int color, uint64_t t, uint32_t stream, uint64_t key)
    int64_t lft_bits_unlike(const lft_bits_rows *rows, const lft_bits_runs *runs, const uint64_t *own,
                            const uint64_t *other, Py_ssize_t offset, int color)
    int64_t lft_bits_unlike_along(const lft_bits_rows *rows, const lft_bits_runs *runs, const uint64_t *own,
                                  const uint64_t *other, int color)
    int64_t lft_bits_count(const uint64_t *words, Py_ssize_t n)
    void lft_bits_columns(const uint64_t *plane, const Py_ssize_t *word, Py_ssize_t n, Py_ssize_t words,
                          int64_t *counts)
    void lft_bits_pack(const signed char *line, Py_ssize_t length, uint64_t *even, uint64_t *odd)
    void lft_bits_unpack(const uint64_t *even, const uint64_t *odd, Py_ssize_t length, signed char *line)
    void lft_bits_aes_round(uint64_t *state, const uint64_t *key, int last)
    void lft_bits_random(uint64_t low, uint64_t high, uint64_t key, uint64_t *out)
    const char *lft_bits_path()
    int lft_bits_force(const char *name)

HEAD, ALWAYS, MAX_COMBOS = LFT_BITS_HEAD, LFT_BITS_ALWAYS, LFT_BITS_COMBOS
SELF, SIDE, LINE, SPIN = LFT_BITS_SELF, LFT_BITS_SIDE, LFT_BITS_LINE, LFT_BITS_SPIN
OPEN, EVEN, ODD = LFT_BITS_OPEN, LFT_BITS_EVEN, LFT_BITS_ODD
UP = LFT_BITS_UP


# most classes of the loops for groups of these sizes, (Metropolis, heat bath); 0 where there are none
SHAPED = {(2, 2): (4, 5), (4, 1): (5, 0), (4, 2): (7, 8), (6, 1): (7, 0), (4,): (0, 5), (6,): (0, 7)}


cdef class Rule:
    """How a site is updated: ``groups`` of members (kind, offset, flip), and per combination of their counts a class
    with its threshold."""
    cdef lft_bits_rule c

    def __init__(self, is_heatbath, groups, class_of, inverted, thresholds, fast):
        cdef int m = 0, k
        if len(groups) > LFT_BITS_GROUPS or len(class_of) > LFT_BITS_COMBOS or sum(map(len, groups)) > LFT_BITS_MEMBERS:
            raise ValueError(f"{len(groups)} groups, {len(class_of)} combinations: too many")
        self.c.heatbath, self.c.fast, self.c.n_groups = is_heatbath, fast, len(groups)
        for g, members in enumerate(groups):
            self.c.size[<int>g] = len(members)
            for kind, offset, flip in members:
                self.c.kind[m], self.c.offset[m] = kind, offset
                self.c.flip[m] = <uint64_t>0xFFFFFFFFFFFFFFFF if flip else 0
                m += 1
        self.c.n_members, self.c.n_combos, self.c.n_classes = m, len(class_of), len(thresholds)
        for i, (value, flag) in enumerate(zip(class_of, inverted, strict=True)):
            self.c.class_of[<int>i], self.c.inverted[<int>i] = value, flag
        sizes = tuple(len(g) for g in groups)
        self.c.shape = 0
        if not fast and len(thresholds) <= SHAPED.get(sizes, (0, 0))[bool(is_heatbath)]:
            self.c.shape = 10 * sizes[0] + (sizes[1] if len(sizes) > 1 else 0)
            for i, value in enumerate(class_of):
                self.c.invert[<int>i] = <uint64_t>0xFFFFFFFFFFFFFFFF if inverted[i] else 0
                for k in range(8):
                    self.c.select[k][<int>i] = <uint64_t>0xFFFFFFFFFFFFFFFF if value == k else 0
        for i, value in enumerate(thresholds):
            self.c.threshold[<int>i] = value
            for k in range(LFT_BITS_HEAD):
                self.c.plane[k][<int>i] = <uint64_t>0xFFFFFFFFFFFFFFFF if value >> (63 - k) & 1 else 0


cdef class Rows:
    """Shape of packed rows.  ``masks``: uint64 arrays (6, 2, words of a chunk) of the sites of the sliced update, of
    even sites with a neighbor to the right, to the left, of all sites, of those whose neighbor in the same bit of the
    other plane exists, and of those whose other neighbor along the line does, by the parity of the first row;
    ``work`` has four rows of a chunk and 16 more words for each thread."""
    cdef lft_bits_rows c
    cdef object keep

    def __init__(self, Py_ssize_t words, bits, Py_ssize_t chunk, closed, has_ends, const uint64_t[:, :, ::1] masks,
                 uint64_t[:, ::1] work):
        cdef int r
        self.c.words, self.c.chunk, self.c.closed, self.c.ends = words, chunk, closed, has_ends
        self.c.threads, self.c.work = work.shape[0] // 4, 4 * work.shape[1]
        self.c.side, self.c.open = &work[0, 0], &work[1, 0]
        self.c.flipped, self.c.list = &work[2, 0], &work[3, 0]
        for r in range(2):
            self.c.bits[r] = bits[r]
            self.c.mask[r], self.c.right[r] = &masks[0, r, 0], &masks[1, r, 0]
            self.c.left[r], self.c.valid[r] = &masks[2, r, 0], &masks[3, r, 0]
            self.c.same[r], self.c.moved[r] = &masks[4, r, 0], &masks[5, r, 0]
        self.keep = (masks, work)


cdef class Runs:
    """Lines that follow each other in memory: first word, number, parity of the first, its first random unit."""
    cdef lft_bits_runs c
    cdef object keep

    def __init__(self, const Py_ssize_t[::1] word, const Py_ssize_t[::1] lines, const Py_ssize_t[::1] parity,
                 const uint64_t[::1] unit):
        self.c.n = word.shape[0]
        if self.c.n:
            self.c.word, self.c.lines, self.c.parity, self.c.unit = &word[0], &lines[0], &parity[0], &unit[0]
        self.keep = (word, lines, parity, unit)


cdef class Bonds:
    """Neighbors whose bonds a pass counts: (stored axis, offset in words) in other lines, and along the line."""
    cdef lft_bits_bonds c

    def __init__(self, neighbors, last):
        if len(neighbors) > LFT_BITS_MEMBERS:
            raise ValueError(f"{len(neighbors)} neighbors: too many")
        self.c.n, self.c.last = len(neighbors), last
        for k, (axis, offset) in enumerate(neighbors):
            self.c.axis[<int>k], self.c.offset[<int>k] = axis, offset


def sweeps(passes, Rows rows, uint64_t[::1] first, uint64_t[::1] second, const Py_ssize_t[::1] target,
           const Py_ssize_t[::1] source, const Py_ssize_t[::1] size, uint64_t t, Py_ssize_t n, uint32_t stream,
           uint64_t key, int64_t[::1] counts=None):
    """All passes, ``n`` times, with t, t + 1, ...; returns the number of sites that changed.

    A pass is (step, color, parts, is_last_column, is_final), a part (rule, end rule, runs, is_counted, bonds): the
    lines of the runs are updated as those of the sweep t + step; what changes on lines of a halo is not counted.
    After a pass the halo of its plane is copied, runs of bytes.  With ``counts``, final passes of the last of the n
    rounds add up what their bonds say.
    """
    cdef uint64_t *plane[2]
    cdef char *own
    cdef int c
    cdef uint64_t now
    cdef int64_t changed = 0, flips
    cdef int64_t *sums = NULL
    cdef const lft_bits_bonds *neighbors
    cdef Py_ssize_t i, j
    cdef bint is_column, counts_bonds
    cdef Rule rule, end
    cdef Runs runs
    cdef Bonds bonds
    plane[0], plane[1] = &first[0], &second[0]
    if counts is not None:
        sums = &counts[0]
    for i in range(n):
        for step, color, parts, is_last_column, is_final in passes:
            c, is_column, now = color, is_last_column, t + i + <uint64_t>step
            counts_bonds = is_final and sums != NULL and i + 1 == n
            for rule, end, runs, is_counted, bonds in parts:
                neighbors = &bonds.c if counts_bonds and is_counted else NULL
                with nogil:
                    if is_column:
                        flips = lft_bits_seam(&rule.c, &rows.c, &runs.c, plane[c], plane[1 - c], c, now, stream, key)
                    else:
                        flips = lft_bits_pass(&rule.c, &end.c, &rows.c, &runs.c, plane[c], plane[1 - c], c, now, stream,
                                              key, neighbors, sums)
                if is_counted:
                    changed += flips
            own = <char *>plane[c]
            for j in range(size.shape[0]):
                memcpy(own + target[j], own + source[j], size[j])
    return changed


def unlike(Rows rows, Runs runs, const uint64_t[::1] own, const uint64_t[::1] other, Py_ssize_t offset, int color):
    """Bonds with unlike ends from sites of one color to the line ``offset`` words further."""
    return lft_bits_unlike(&rows.c, &runs.c, &own[0], &other[0], offset, color)


def unlike_along(Rows rows, Runs runs, const uint64_t[::1] own, const uint64_t[::1] other, int color):
    """Bonds with unlike ends along the lines, those of the even sites of one color."""
    return lft_bits_unlike_along(&rows.c, &runs.c, &own[0], &other[0], color)


def count(Rows rows, Runs runs, const uint64_t[::1] plane):
    """Number of set bits in these lines."""
    cdef int64_t total = 0
    cdef Py_ssize_t i
    for i in range(runs.c.n):
        total += lft_bits_count(&plane[0] + runs.c.word[i], runs.c.lines[i] * rows.c.words)
    return total


def line_counts(const uint64_t[::1] first, const uint64_t[::1] second, const Py_ssize_t[::1] word, Py_ssize_t words,
                int64_t[::1] out):
    """Number of set bits of each line, both planes."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(word.shape[0]):
            out[i] = lft_bits_count(&first[word[i]], words) + lft_bits_count(&second[word[i]], words)


def column_counts(const uint64_t[::1] plane, const Py_ssize_t[::1] word, Py_ssize_t words, int64_t[::1] counts):
    """Add to ``counts`` (64 per word) the number of lines in which each bit is set."""
    if word.shape[0]:
        with nogil:
            lft_bits_columns(&plane[0], &word[0], word.shape[0], words, &counts[0])


def load(const signed char[::1] field, const Py_ssize_t[::1] start, Py_ssize_t length, uint64_t[::1] first,
         uint64_t[::1] second, const Py_ssize_t[::1] word, const Py_ssize_t[::1] parity):
    """Pack lines of -1, +1 that start at ``start``; even sites of a line of even parity go to the first plane."""
    cdef Py_ssize_t i
    cdef uint64_t *a
    cdef uint64_t *b
    with nogil:
        for i in range(start.shape[0]):
            a, b = &first[word[i]], &second[word[i]]
            if parity[i] & 1:
                a, b = b, a
            lft_bits_pack(&field[start[i]], length, a, b)


def store(signed char[::1] field, const Py_ssize_t[::1] start, Py_ssize_t length, const uint64_t[::1] first,
          const uint64_t[::1] second, const Py_ssize_t[::1] word, const Py_ssize_t[::1] parity):
    """Inverse of :func:`load`."""
    cdef Py_ssize_t i
    cdef const uint64_t *a
    cdef const uint64_t *b
    with nogil:
        for i in range(start.shape[0]):
            a, b = &first[word[i]], &second[word[i]]
            if parity[i] & 1:
                a, b = b, a
            lft_bits_unpack(a, b, length, &field[start[i]])


def aes_round(state, key, is_last=False):
    """One round of AES on 16 bytes (for tests): the table implementation."""
    cdef uint64_t s[2]
    cdef uint64_t k[2]
    for i in range(2):
        s[<int>i] = int.from_bytes(state[8 * i : 8 * i + 8], "little")
        k[<int>i] = int.from_bytes(key[8 * i : 8 * i + 8], "little")
    lft_bits_aes_round(s, k, is_last)
    return int(s[0]).to_bytes(8, "little") + int(s[1]).to_bytes(8, "little")


def random_block(uint64_t low, uint64_t high, uint64_t key):
    """The random block of a counter, as two words."""
    cdef uint64_t out[2]
    lft_bits_path()
    lft_bits_random(low, high, key, out)
    return out[0], out[1]


def path():
    """Name of the loops in use: ``avx512``, ``avx2`` or ``baseline``."""
    return (<bytes>lft_bits_path()).decode()


def force(name):
    """Use given loops (tests compare them); raises ValueError where the processor lacks the instructions."""
    if not lft_bits_force(name.encode()):
        raise ValueError(f"instruction set {name!r} is not available on this processor")
