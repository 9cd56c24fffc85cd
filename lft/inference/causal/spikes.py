"""Spikes of all trials by bin and by unit: all that the fits of causal models read."""

from __future__ import annotations

import itertools

import numpy as np

CHUNK_CELLS = 2**26
MAX_COUNT = 127


class SpikeTable:
    """Spikes of trials in sequence; a unit with n spikes in a bin stands n times.

    Attributes
    ----------
    ptr : ndarray of int64 (T + 1,)
        The spikes of bin a are ``unit[ptr[a]:ptr[a+1]]``, ascending.
    unit : ndarray of int32
    lengths : list of int
        Bins of each trial.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.causal.spikes import SpikeTable
    >>> table = SpikeTable.of([np.array([[1, 0], [0, 2], [1, 1]])])
    >>> table.unit.tolist(), table.times(1).tolist()
    ([0, 1, 1, 0, 1], [1, 1, 2])
    """

    def __init__(self, ptr, unit, lengths, n_units):
        self.ptr, self.unit, self.lengths, self.n_units = ptr, unit, list(lengths), int(n_units)
        self.n_bins = len(ptr) - 1
        order = np.argsort(unit, kind="stable")
        bins = np.repeat(np.arange(self.n_bins, dtype=np.int32), np.diff(ptr))
        self._times = bins[order]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=self.n_units))])

    @classmethod
    def of(cls, rasters):
        """From arrays (T, N) of counts, one per trial (:func:`lft.inference.trials.checked_rasters`)."""
        n_units = rasters[0].shape[1]
        units, counts = [], []
        for raster in rasters:
            step = max(1, CHUNK_CELLS // max(n_units, 1))
            for start in range(0, len(raster), step):
                part = raster[start : start + step]
                a, j = np.nonzero(part)
                n = part[a, j]
                if n.size and n.max() > 1:
                    a, j = np.repeat(a, n), np.repeat(j, n)
                units.append(j.astype(np.int32))
                counts.append(np.bincount(a, minlength=len(part)))
        ptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
        return cls(ptr, np.concatenate(units), [len(r) for r in rasters], n_units)

    def times(self, unit):
        """Bins of the spikes of a unit, ascending (int32)."""
        return self._times[self._starts[unit] : self._starts[unit + 1]]

    def has_past(self, n_lags):
        """(T,) uint8: 1 where the n_lags bins before belong to the same trial."""
        out = np.ones(self.n_bins, np.uint8)
        for start, length in zip(itertools.accumulate([0, *self.lengths[:-1]]), self.lengths, strict=True):
            out[start : start + min(n_lags, length)] = 0
        return out

    def is_binary(self):
        """Whether no unit fires twice in a bin."""
        same_unit = self.unit[1:] == self.unit[:-1]
        same_unit[self.ptr[1:-1][(self.ptr[1:-1] > 0) & (self.ptr[1:-1] < len(self.unit))] - 1] = False
        return not same_unit.any()

    def duplicates(self):
        """Pairs of units that fire together in every bin, silent ones aside."""
        seen, out = {}, []
        for i in range(self.n_units):
            times = self.times(i)
            if len(times):
                first = seen.setdefault(times.tobytes(), i)
                if first != i:
                    out.append((first, i))
        return out
