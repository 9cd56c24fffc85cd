# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Constructors of the built-in kernels; the site functions stand in actions.pxd.

Design: parameters are plain C numbers inside a final class, so the loops compile once per action and inline the site
functions (measured against a hand-written loop: 1.1-1.5x; virtual methods and function pointers: 3x).  The Python
faces (lft/actions.py) have validated everything; nothing is checked here.
"""
import numpy as np

cdef _store(offsets, couplings, Py_ssize_t *offset, double *coupling):
    if len(offsets) > MAX_DISPLACEMENTS:
        raise ValueError(f"{len(offsets)} displacements: at most {MAX_DISPLACEMENTS}")
    for d in range(len(offsets)):
        offset[d] = offsets[d]
        coupling[d] = couplings[d]
    return len(offsets)


cdef class IsingKernel:
    def __init__(self, offsets, K, h):
        cdef const double[::1] site
        self.n = _store(offsets, K, self.offset, self.K)
        self.low, self.high = -1, 1
        if np.ndim(h):
            self.owner = site = np.ascontiguousarray(h, dtype=np.float64).ravel()
            self.h, self.h_site = 0.0, &site[0]
        else:
            self.h, self.h_site = h, NULL


cdef class NeuralKernel:
    def __init__(self, offsets, K, h, dense=None, sparse=None):
        cdef const double[::1] h_view, values
        cdef const double[:, ::1] matrix
        cdef const Py_ssize_t[::1] pointers, indices
        self.n = _store(offsets, K, self.offset, self.K)
        self.low, self.high = 0, 1
        h_view = np.ascontiguousarray(h, dtype=np.float64).reshape(-1)
        self.h = &h_view[0]
        self.by_bin = np.ndim(h) - 1
        self.n_units = np.shape(h)[self.by_bin]
        self.J, self.indptr = NULL, NULL
        if dense is not None:
            matrix = np.ascontiguousarray(dense, dtype=np.float64)
            self.J = &matrix[0, 0]
            self.owner = (h_view, matrix)
        elif sparse is not None:
            pointers = np.ascontiguousarray(sparse[0], dtype=np.intp)
            # one spare entry: an empty pattern still has an address
            indices = np.append(np.asarray(sparse[1], dtype=np.intp), 0)
            values = np.append(np.asarray(sparse[2], dtype=np.float64), 0.0)
            self.indptr, self.index, self.value = &pointers[0], &indices[0], &values[0]
            self.owner = (h_view, pointers, indices, values)
        else:
            self.owner = h_view


cdef class PairwiseKernel:
    def __init__(self, h, dense=None, sparse=None):
        cdef const double[::1] h_view, values
        cdef const double[:, ::1] matrix
        cdef const Py_ssize_t[::1] pointers, indices
        self.n, self.low, self.high = 0, -1, 1
        h_view = np.ascontiguousarray(h, dtype=np.float64)
        self.h, self.n_units = &h_view[0], h_view.shape[0]
        self.J, self.indptr = NULL, NULL
        if dense is not None:
            matrix = np.ascontiguousarray(dense, dtype=np.float64)
            self.J = &matrix[0, 0]
            self.owner = (h_view, matrix)
        else:
            pointers = np.ascontiguousarray(sparse[0], dtype=np.intp)
            # one spare entry: an empty pattern still has an address
            indices = np.append(np.asarray(sparse[1], dtype=np.intp), 0)
            values = np.append(np.asarray(sparse[2], dtype=np.float64), 0.0)
            self.indptr, self.index, self.value = &pointers[0], &indices[0], &values[0]
            self.owner = (h_view, pointers, indices, values)


cdef class GibbsKernel:
    def __init__(self, h, J=None, offsets=(), late=None, step=None):
        cdef const double[::1] h_view, step_view
        cdef const double[:, ::1] J_view
        cdef const double[:, :, :, ::1] late_view
        cdef double unused[MAX_DISPLACEMENTS]
        self.n = _store(offsets, [0.0] * len(offsets), self.offset, unused)
        self.low, self.high = 0, 1
        h_view = np.ascontiguousarray(h, dtype=np.float64).reshape(-1)
        self.h = &h_view[0]
        self.by_bin = np.ndim(h) - 1
        self.n_units = np.shape(h)[self.by_bin]
        self.J = self.late = self.step = NULL
        self.owner = [h_view]
        if J is not None:
            J_view = np.ascontiguousarray(J, dtype=np.float64)
            self.J = &J_view[0, 0]
            self.owner.append(J_view)
        if len(offsets):
            late_view = np.ascontiguousarray(late, dtype=np.float64)
            self.late = &late_view[0, 0, 0, 0]
            self.owner.append(late_view)
        if step is not None:
            step_view = np.ascontiguousarray(step, dtype=np.float64)
            self.step = &step_view[0]
            self.owner.append(step_view)


cdef class Phi4Kernel:
    def __init__(self, offsets, kappa, lam, unit=1.0):
        self.n = _store(offsets, kappa, self.offset, self.kappa)
        self.lam, self.unit = lam, unit
