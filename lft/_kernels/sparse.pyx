# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Chains on a sparse graph: networks and rules as objects, and the calls.  Design: sparse_real.c, sparse_bits.c."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef extern from "sparse_real.h" nogil:
    enum:
        LFT_SLOTS, LFT_LANES_AHEAD
    ctypedef struct lft_sparse_net:
        int heatbath
        Py_ssize_t n
        const int64_t *start
        const int32_t *to
        const double *J
        const double *h
        const double *extra
        const float *most
        const float *margin
        const float *base
        const float *twice
        const int32_t *push
        const float *scale
        const uint32_t *valid
        const uint8_t *last
    int64_t lft_sparse_lanes_sweep(const lft_sparse_net *net, uint64_t *state, const uint64_t *mask, const double *beta,
                                   Py_ssize_t n_words, uint64_t word0, uint64_t t, uint32_t stream, uint64_t key,
                                   int n_threads)
    int64_t lft_sparse_colors_sweep(const lft_sparse_net *net, uint32_t *state, int32_t *field, Py_ssize_t n_chains,
                                    uint64_t chain0, uint64_t t, uint32_t stream, uint64_t key, int n_threads)
    void lft_sparse_colors_fields(const lft_sparse_net *net, const int32_t *own, const uint32_t *state, int32_t *field,
                                  Py_ssize_t n_chains)
    Py_ssize_t lft_sparse_color(Py_ssize_t n, const int64_t *start, const int32_t *to, int32_t *color, int32_t *last)
    void lft_sparse_random(uint64_t low, uint64_t high, uint64_t key, uint64_t *out)
    const char *lft_sparse_real_path()
    int lft_sparse_real_force(const char *name)

cdef extern from "sparse_bits.h" nogil:
    enum:
        LFT_SPARSE_HEAD, LFT_SPARSE_WORDS, LFT_SPARSE_AHEAD, LFT_SPARSE_CLASSES, LFT_SPARSE_NEVER, LFT_SPARSE_ALWAYS
    ctypedef struct lft_sparse_rule:
        int degree, heatbath, by_spin, n_classes, fast, single
        const uint8_t *class_of
        const uint8_t *inverted
        const uint64_t *threshold
        const uint64_t *plane
    ctypedef struct lft_sparse_graph:
        Py_ssize_t n
        const int64_t *start
        const int32_t *to
        const uint16_t *rule_of
        const lft_sparse_rule *rules
    int64_t lft_sparse_bits_sweep(const lft_sparse_graph *graph, uint64_t *state, const uint64_t *mask,
                                  Py_ssize_t n_blocks, uint64_t group, uint64_t t, uint32_t stream, uint64_t key,
                                  int n_threads)
    void lft_sparse_pack(const signed char *values, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t n, int first,
                         uint64_t *words, Py_ssize_t step)
    void lft_sparse_unpack(const uint64_t *words, Py_ssize_t step, Py_ssize_t n, Py_ssize_t n_rows, int first, int low,
                           signed char *values, Py_ssize_t row)
    const char *lft_sparse_bits_path()
    int lft_sparse_bits_force(const char *name)

SLOTS, HEAD, WORDS = LFT_SLOTS, LFT_SPARSE_HEAD, LFT_SPARSE_WORDS
AHEAD, LANES_AHEAD = LFT_SPARSE_AHEAD, LFT_LANES_AHEAD
MAX_CLASSES, NEVER, ALWAYS = LFT_SPARSE_CLASSES, LFT_SPARSE_NEVER, LFT_SPARSE_ALWAYS


cdef class Net:
    """Real couplings: edges of each unit (lanes) or slot (colors) with exact and rounded numbers.

    ``base`` and ``twice`` belong to lanes, ``push``, ``scale``, ``valid``, ``last`` to colors; the others are None.
    """
    cdef lft_sparse_net c
    cdef object keep

    def __init__(self, is_heatbath, const int64_t[::1] start, const int32_t[::1] to, const double[::1] J,
                 const double[::1] h, const double[::1] extra, const float[::1] most, const float[::1] margin,
                 const float[::1] base=None, const float[::1] twice=None, const int32_t[::1] push=None,
                 const float[::1] scale=None, const uint32_t[::1] valid=None, const uint8_t[::1] last=None):
        self.c.heatbath, self.c.n = is_heatbath, start.shape[0] - 1
        self.c.start, self.c.h, self.c.extra = &start[0], &h[0], &extra[0]
        self.c.most, self.c.margin = &most[0], &margin[0]
        self.c.to, self.c.J = &to[0], &J[0]
        if base is not None:
            self.c.base, self.c.twice = &base[0], &twice[0]
        else:
            self.c.push, self.c.scale, self.c.valid, self.c.last = &push[0], &scale[0], &valid[0], &last[0]
        self.keep = (start, to, J, h, extra, most, margin, base, twice, push, scale, valid, last)


def lanes_sweep(Net net, uint64_t[:, ::1] state, const uint64_t[::1] mask, const double[::1] beta, uint64_t word0,
                uint64_t t, uint32_t stream, uint64_t key, int n_threads):
    """Visit the units of 64 chains per row of ``state``; returns the number of changes."""
    cdef int64_t changed
    with nogil:
        changed = lft_sparse_lanes_sweep(&net.c, &state[0, 0], &mask[0], &beta[0], state.shape[0], word0, t, stream,
                                         key, n_threads)
    return changed


def colors_sweep(Net net, uint32_t[:, ::1] state, int32_t[:, ::1] field, uint64_t chain0, uint64_t t, uint32_t stream,
                 uint64_t key, int n_threads):
    """Visit the slots of one chain per row of ``state``; returns the number of changes."""
    cdef int64_t changed
    with nogil:
        changed = lft_sparse_colors_sweep(&net.c, &state[0, 0], &field[0, 0], state.shape[0], chain0, t, stream, key,
                                          n_threads)
    return changed


def colors_fields(Net net, const int32_t[::1] own, const uint32_t[:, ::1] state, int32_t[:, ::1] field):
    """Fill the fixed-point fields of every chain from its spins; ``own`` is the part of h."""
    with nogil:
        lft_sparse_colors_fields(&net.c, &own[0], &state[0, 0], &field[0, 0], state.shape[0])


def color(const int64_t[::1] start, const int32_t[::1] to, int32_t[::1] colors, int32_t[::1] scratch):
    """Greedy coloring in the order of the units; ``scratch`` holds -1; returns the number of colors."""
    cdef Py_ssize_t n
    with nogil:
        n = lft_sparse_color(start.shape[0] - 1, &start[0], &to[0], &colors[0], &scratch[0])
    return n


cdef class Graph:
    """Couplings of one size: edges with signs, and the rule of each unit.

    ``rules``: dictionaries of the fields of ``lft_sparse_rule``, tables as arrays.  ``to`` is longer than the edges by
    AHEAD.
    """
    cdef lft_sparse_graph c
    cdef lft_sparse_rule *rules
    cdef object keep

    def __cinit__(self, const int64_t[::1] start, const int32_t[::1] to, const uint16_t[::1] rule_of, rules):
        cdef const uint8_t[::1] class_of, inverted
        cdef const uint64_t[::1] threshold, plane
        cdef lft_sparse_rule *rule
        self.rules = <lft_sparse_rule *>calloc(len(rules), sizeof(lft_sparse_rule))
        if self.rules == NULL:
            raise MemoryError()
        for i, r in enumerate(rules):
            rule = self.rules + <Py_ssize_t>i
            rule.degree, rule.heatbath, rule.by_spin = r["degree"], r["heatbath"], r["by_spin"]
            rule.n_classes, rule.fast, rule.single = r["n_classes"], r["fast"], r["single"]
            class_of, inverted, threshold, plane = r["class_of"], r["inverted"], r["threshold"], r["plane"]
            rule.class_of, rule.inverted = &class_of[0], &inverted[0]
            rule.threshold, rule.plane = &threshold[0], &plane[0]
        self.c.n, self.c.start, self.c.to = start.shape[0] - 1, &start[0], &to[0]
        self.c.rule_of, self.c.rules = &rule_of[0], self.rules
        self.keep = (start, to, rule_of, rules)

    def __dealloc__(self):
        free(self.rules)


def bits_sweep(Graph graph, uint64_t[:, :, ::1] state, const uint64_t[:, ::1] mask, uint64_t group, uint64_t t,
               uint32_t stream, uint64_t key, int n_threads):
    """Visit the units of 512 chains per block of ``state``; returns the number of changes."""
    cdef int64_t changed
    with nogil:
        changed = lft_sparse_bits_sweep(&graph.c, &state[0, 0, 0], &mask[0, 0], state.shape[0], group, t, stream, key,
                                        n_threads)
    return changed


def pack(const signed char[:, ::1] values, int first, uint64_t[:, :] words, Py_ssize_t word):
    """Chains (rows) to the bits from ``first`` on of column ``word``; a set bit is a positive value."""
    if values.shape[0]:
        with nogil:
            lft_sparse_pack(&values[0, 0], values.shape[1], values.shape[0], values.shape[1], first, &words[0, word],
                            words.strides[0] // 8)


def unpack(const uint64_t[:, :] words, Py_ssize_t word, int first, int low, signed char[:, ::1] values):
    """Inverse of :func:`pack`; ``low`` is the value of an unset bit."""
    if values.shape[0]:
        with nogil:
            lft_sparse_unpack(&words[0, word], words.strides[0] // 8, values.shape[1], values.shape[0], first, low,
                              &values[0, 0], values.shape[1])


def random_block(uint64_t low, uint64_t high, uint64_t key):
    """The random block of a counter, as two words."""
    cdef uint64_t out[2]
    lft_sparse_random(low, high, key, out)
    return out[0], out[1]


def path():
    """Name of the loops in use: ``avx512``, ``avx2`` or ``baseline``."""
    lft_sparse_bits_path()
    return (<bytes>lft_sparse_real_path()).decode()


def force(name):
    """Use given loops (tests compare them); raises ValueError where the processor lacks the instructions."""
    if not (lft_sparse_real_force(name.encode()) and lft_sparse_bits_force(name.encode())):
        raise ValueError(f"instruction set {name!r} is not available on this processor")
