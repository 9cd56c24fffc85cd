"""Which sites the compiled loops visit, in which order: the bridge from geometry and domain to flat indices.

A *line* is a run along the last stored axis, which is never cut.  A *segment* is the part of a line that belongs to
one color class: equally spaced sites that do not interact (or, on a graph, a whole time slice that is walked in
order).  All indices refer to the flat padded local array; ``q`` is the index within one time slice, for couplings
and masks that do not depend on time.
"""

from __future__ import annotations

import math

import numpy as np

from lft import threads
from lft.geometry import TIME


class Plan:
    """Lines, color classes, offsets, mask and noise buffers of one geometry, domain and set of displacements.

    Attributes
    ----------
    offsets : ndarray of int
        Flat offset of each displacement that joins any sites.
    bonded : list of tuple
        Those displacements, user's order.
    line_p, line_q, line_site : ndarray
        Flat index, slice index and global site of the first site of each local line.
    classes : list of tuple of ndarray
        Per color class the arrays (p0, q0, site0, count) of its segments.
    step : int
        Distance of neighboring sites of a segment along the line.
    active : ndarray of int8 or None
        Mask over the padded slice.
    """

    def __init__(self, geometry, domain, displacements):
        self.domain = domain
        self._scratch = {}
        has_time = TIME in geometry.axes
        self.slice_size = domain.strides[0] if has_time else math.prod(domain.padded_shape)
        self.bonded, self.offsets = self._offsets(geometry, domain, displacements)
        self.length = domain.local_shape[-1]
        self.reach = int(np.abs(self.offsets).max(initial=0))
        coordinates = np.indices(domain.local_shape[:-1]).reshape(len(domain.shape) - 1, -1)
        self._lines(domain, coordinates)
        coloring = geometry.coloring(displacements)
        self.step = 1 if coloring.sequential else coloring.modulus
        if not coloring.coefficients[-1] and not coloring.sequential:
            self.step = 1  # no couplings along the line: its sites do not interact
        starts = np.array([s.start for s in domain.slices[:-1]]).reshape(-1, 1)
        self.classes = [self._segments(domain, coloring, c, f, coordinates + starts) for c, f in coloring.classes()]
        self.classes = [c for c in self.classes if c is not None]
        self.active = self._active(geometry, domain, has_time)
        self.buffer = np.empty((threads.count(), 2, max(self.length, 2)))  # noise of one segment per thread
        self.n_active_local = self._count_active(geometry, domain)

    @staticmethod
    def _offsets(geometry, domain, displacements):
        bonded = [d for d in displacements if geometry.joins(d)]
        vectors = [geometry.storage_displacement(d) for d in bonded]
        offsets = [sum(step * stride for step, stride in zip(v, domain.strides, strict=True)) for v in vectors]
        return bonded, np.array(offsets, dtype=np.intp)

    def _lines(self, domain, coordinates):
        padded = np.array(domain.strides[:-1]), np.array(domain.halo[:-1])
        p = ((coordinates + padded[1][:, None]) * padded[0][:, None]).sum(axis=0) + domain.halo[-1]
        starts = np.array([s.start for s in domain.slices[:-1]])
        global_strides = np.array([math.prod(domain.shape[k + 1 :]) for k in range(len(domain.shape) - 1)])
        site = ((coordinates + starts[:, None]) * global_strides[:, None]).sum(axis=0)
        self.line_p = p.astype(np.intp)
        self.line_q = (p % self.slice_size).astype(np.intp)
        self.line_site = site.astype(np.uint64)

    def _segments(self, domain, coloring, color, seam_flags, x):
        """Segments of one class; ``x`` are the global coordinates of the local lines."""
        keep = np.ones(x.shape[1], bool)
        for axis in range(len(domain.shape) - 1):
            if coloring.seam[axis]:
                in_seam = x[axis] >= domain.shape[axis] - coloring.seam[axis]
                keep &= in_seam == seam_flags[axis]
        length, seam = domain.shape[-1], coloring.seam[-1]
        low, high = 0, length
        if seam:
            low, high = (length - seam, length) if seam_flags[-1] else (0, length - seam)
        row_color = (np.array(coloring.coefficients[:-1])[:, None] * x).sum(axis=0) % coloring.modulus
        if coloring.coefficients[-1]:
            first = low + (color - row_color - low) % coloring.modulus
            count = np.maximum(0, -(-(high - first) // coloring.modulus))
        else:
            keep &= row_color == color
            first, count = np.full(x.shape[1], low), np.full(x.shape[1], high - low)
        keep &= count > 0
        if not keep.any() and self.domain.n_ranks == 1:
            return None
        first = first[keep]
        return (
            np.ascontiguousarray(self.line_p[keep] + first),
            np.ascontiguousarray(self.line_q[keep] + first),
            np.ascontiguousarray(self.line_site[keep] + first.astype(np.uint64)),
            np.ascontiguousarray(count[keep].astype(np.intp)),
        )

    def _active(self, geometry, domain, has_time):
        mask = geometry.storage_mask()
        if mask is None:
            return None
        padded = np.zeros(domain.padded_shape[1:] if has_time else domain.padded_shape, np.int8)
        first = 1 if has_time else 0
        interior, slices = domain.interior[first:], domain.slices[first:]
        padded[interior] = (mask[0] if has_time else mask)[slices]
        return padded.reshape(-1)

    def _count_active(self, geometry, domain):
        if self.active is None:
            return math.prod(domain.local_shape)
        return int(self.active.sum()) * (domain.local_shape[0] if TIME in geometry.axes else 1)

    def scratch(self, name, like):
        """A work array of the shape of ``like`` that is kept: fresh memory costs more than filling it."""
        if name not in self._scratch:
            self._scratch[name] = np.zeros_like(like)
        return self._scratch[name]

    def slice_array(self, values, geometry):
        """Values per site of a time slice (user's spatial order) on the padded local slice, flat."""
        has_time = TIME in geometry.axes
        first = 1 if has_time else 0
        padded = np.zeros(self.domain.padded_shape[first:], np.float64)
        stored = np.asarray(values, dtype=np.float64)
        if not has_time:
            stored = geometry.to_storage(stored)
        stored = stored.reshape(self.domain.shape[first:])
        padded[self.domain.interior[first:]] = stored[self.domain.slices[first:]]
        return padded.reshape(-1)
