# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Molecular dynamics of phi^4 blocked in time: passes and tiles as objects, and the call.  Design: wavefront.c."""
from cython.parallel cimport prange, threadid
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from lft._kernels cimport noise as _noise

cdef extern from "wavefront.h" nogil:
    enum:
        LFT_WAVE_BONDS, LFT_WAVE_STEPS
    ctypedef void (*lft_wave_uniforms)(uint64_t, uint64_t, Py_ssize_t, uint64_t, uint32_t, uint32_t, uint64_t,
                                       double *, double *) noexcept nogil
    ctypedef void (*lft_wave_normals)(double *, double *, Py_ssize_t) noexcept nogil
    ctypedef struct lft_wave_pass:
        int n_axes, n_bonds
        int *axis
        double *kappa
        double lam
        Py_ssize_t length
        int is_periodic, is_single, n_steps
        double *kick
        double *drift
        int closes
        double last_kick
        int draws
        uint64_t t, key
        uint32_t stream
        lft_wave_uniforms uniforms
        lft_wave_normals normals
    ctypedef struct lft_wave_tile:
        Py_ssize_t planes, rows
        const Py_ssize_t *plane_at
        const Py_ssize_t *row_at
        const Py_ssize_t *plane_margin
        const Py_ssize_t *row_margin
        const Py_ssize_t *plane_line
        const Py_ssize_t *row_line
        const uint64_t *plane_site
        const uint64_t *row_site
        const Py_ssize_t *neighbor
    Py_ssize_t lft_wave_scratch(const lft_wave_pass *steps, Py_ssize_t rows, Py_ssize_t group)
    void lft_wave_run(const lft_wave_pass *steps, const lft_wave_tile *tile, Py_ssize_t group, const void *phi_in,
                      const void *mom_in, void *phi_out, void *mom_out, double *kinetic0, double *kinetic1,
                      double *action, void *scratch)
    const char *lft_wave_path()
    int lft_wave_force(const char *name)

MAX_BONDS, MAX_STEPS = LFT_WAVE_BONDS, LFT_WAVE_STEPS

ctypedef fused real_t:
    float
    double


cdef class Steps:
    """The kicks and drifts of one pass: ``pairs`` of (kick, drift), ``last_kick`` or None, and the action."""
    cdef lft_wave_pass c

    def __init__(self, n_axes, bonds, lam, length, is_periodic, is_single, pairs, last_kick, draws):
        if len(bonds) > LFT_WAVE_BONDS or len(pairs) > LFT_WAVE_STEPS:
            raise ValueError(f"{len(bonds)} bonds, {len(pairs)} steps: too many")
        self.c.n_axes, self.c.n_bonds, self.c.lam = n_axes, len(bonds), lam
        for d, (axis, kappa) in enumerate(bonds):
            self.c.axis[<int>d], self.c.kappa[<int>d] = axis, kappa
        self.c.length, self.c.is_periodic, self.c.is_single = length, is_periodic, is_single
        self.c.n_steps = len(pairs)
        for s, (kick, drift) in enumerate(pairs):
            self.c.kick[<int>s], self.c.drift[<int>s] = kick, drift
        self.c.closes, self.c.last_kick = last_kick is not None, last_kick or 0.0
        self.c.draws = draws
        self.c.uniforms, self.c.normals = _noise.uniforms, _noise.normals

    @property
    def n_steps(self):
        """Number of (kick, drift) pairs."""
        return self.c.n_steps

    def scratch(self, Py_ssize_t rows, Py_ssize_t group):
        """Bytes that a tile of so many rows per plane needs beside the fields."""
        return lft_wave_scratch(&self.c, rows, group)


cdef class Tiles:
    """Boxes of rows; each is a mapping of the names in ``lft_wave_tile`` to arrays."""
    cdef lft_wave_tile *c
    cdef readonly Py_ssize_t n
    cdef object keep

    def __init__(self, boxes):
        cdef const Py_ssize_t[::1] a
        cdef const uint64_t[::1] b
        cdef Py_ssize_t i
        self.n, self.keep = len(boxes), boxes
        self.c = <lft_wave_tile *>calloc(max(self.n, 1), sizeof(lft_wave_tile))
        if self.c == NULL:
            raise MemoryError
        for i in range(self.n):
            box = boxes[i]
            self.c[i].planes, self.c[i].rows = len(box["plane_at"]), len(box["row_at"])
            a = box["plane_at"]; self.c[i].plane_at = &a[0]
            a = box["row_at"]; self.c[i].row_at = &a[0]
            a = box["plane_margin"]; self.c[i].plane_margin = &a[0]
            a = box["row_margin"]; self.c[i].row_margin = &a[0]
            a = box["plane_line"]; self.c[i].plane_line = &a[0]
            a = box["row_line"]; self.c[i].row_line = &a[0]
            b = box["plane_site"]; self.c[i].plane_site = &b[0]
            b = box["row_site"]; self.c[i].row_site = &b[0]
            a = box["neighbor"]; self.c[i].neighbor = &a[0]

    def __dealloc__(self):
        free(self.c)


def run(Steps steps, Tiles tiles, Py_ssize_t group, const real_t[::1] phi_in, const real_t[::1] mom_in,
        real_t[::1] phi_out, real_t[::1] mom_out, double[:, ::1] lines, uint64_t t, uint32_t stream, uint64_t key,
        unsigned char[:, ::1] scratch):
    """All steps of a pass on all tiles, spread over as many threads as ``scratch`` has rows.

    ``lines`` (3, number of local lines): kinetic energy of drawn momenta, kinetic energy and action after the last
    kick.  ``mom_in`` may be None if momenta are drawn, ``mom_out`` if nobody reads them.
    """
    cdef const void *p = NULL
    cdef void *q = NULL
    cdef Py_ssize_t i
    cdef int n_threads = scratch.shape[0]
    steps.c.t, steps.c.stream, steps.c.key = t, stream, key
    if mom_in is not None:
        p = &mom_in[0]
    if mom_out is not None:
        q = &mom_out[0]
    if n_threads == 1:
        with nogil:
            for i in range(tiles.n):
                lft_wave_run(&steps.c, &tiles.c[i], group, &phi_in[0], p, &phi_out[0], q, &lines[0, 0], &lines[1, 0],
                             &lines[2, 0], &scratch[0, 0])
        return
    for i in prange(tiles.n, nogil=True, num_threads=n_threads, schedule="static", chunksize=1):
        lft_wave_run(&steps.c, &tiles.c[i], group, &phi_in[0], p, &phi_out[0], q, &lines[0, 0], &lines[1, 0],
                     &lines[2, 0], &scratch[threadid(), 0])


def path():
    """Name of the loops in use: ``avx512``, ``avx2`` or ``baseline``."""
    return (<bytes>lft_wave_path()).decode()


def force(name):
    """Use given loops (tests compare them); raises ValueError where the processor lacks the instructions."""
    if not lft_wave_force(name.encode()):
        raise ValueError(f"instruction set {name!r} is not available on this processor")
