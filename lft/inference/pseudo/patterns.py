"""A raster as lists of active features per bin: what the loops of the pseudo-likelihood read.

A *shared* feature is 0 or 1 in a bin and acts on every target unit with a weight of its own: unit j at a shift in
time (``n_units s + j``), "K units fire in this bin" (after all shifts), or "the input has its p-th value in this bin"
(after those).  An *own* entry acts on one target in one bin: the spikes of the target itself at a lag, or the
correction of K where the target is one of those that fire.
Features are read across the border between training and test, never across that of a trial.

Memory: 4 bytes per active feature and 8 per bin, 12 per own entry; 1000 units in 1e6 bins, of which they fire
in 1 %, take 48 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lft._kernels import pseudo as kernel

LANES = kernel.LANES


@dataclass(frozen=True)
class Patterns:
    """Active features of all bins, in sequence over the trials.

    Attributes
    ----------
    n_units, n_rows : int
        Units, and bins of all trials.
    edges : ndarray (trials + 1,)
        First row of each trial.
    start : ndarray (n_rows + 1,), feature : ndarray of int32
        Shared features of each row, ascending.
    n_shared, n_own : int
        Numbers of shared and own features.
    own_row, own_unit, own_feature : ndarray of int32
        Own entries, by tile of ``LANES`` targets, then by row.
    own_start : ndarray (tiles + 1,)
    count : ndarray of int32 (n_rows,)
        Units that fire in each row.
    """

    n_units: int
    n_rows: int
    edges: np.ndarray
    start: np.ndarray
    feature: np.ndarray
    n_shared: int
    n_own: int
    own_row: np.ndarray
    own_unit: np.ndarray
    own_feature: np.ndarray
    own_start: np.ndarray
    count: np.ndarray

    def __post_init__(self):
        none = np.zeros(1, np.int32)
        row, lane, own = (
            np.concatenate([a, none]) for a in (self.own_row, self.own_unit % LANES, self.own_feature)
        )
        feature = self.feature if len(self.feature) else none
        rows = kernel.Rows(
            self.start, feature, self.n_shared, self.own_start, row, lane, own, self.n_own, self.n_units
        )  # fmt: skip
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "counted", {})

    @property
    def n_tiles(self):
        return -(-self.n_units // LANES)

    @property
    def nbytes(self):
        """Bytes of all lists."""
        arrays = (self.start, self.feature, self.own_row, self.own_unit, self.own_feature, self.count)
        return sum(a.nbytes for a in arrays)

    def observed(self, pieces, n_blocks=1, units=None):
        """Sums over rows of feature times spike: shared features, own features, the constant.

        Parameters
        ----------
        pieces : ndarray of int64 (pieces, 3)
            First row, end and block of each stretch of rows.
        n_blocks : int
        units : range, optional
            Default all.

        Returns
        -------
        ndarray (n_blocks, units, n_shared + n_own + 1)
            Integers as float.
        """
        if n_blocks > 1 or units is not None:
            return self._observed(pieces, n_blocks, units)
        key = pieces.tobytes()
        if key not in self.counted:  # the last one alone is remembered
            self.counted.clear()
            self.counted[key] = self._observed(pieces, n_blocks, units)
        return self.counted[key]

    def _observed(self, pieces, n_blocks, units):
        units = range(self.n_units) if units is None else units
        shared = np.zeros((n_blocks, max(self.n_shared, 1), len(units)), np.int32)
        kernel.coincidences(self.start, self.feature, pieces, units.start, shared)
        out = np.empty((n_blocks, len(units), self.n_shared + self.n_own + 1))
        out[:, :, : self.n_shared] = shared.transpose(0, 2, 1)
        out[:, :, -1] = shared[:, units.start : units.stop].diagonal(axis1=1, axis2=2)
        if self.n_own:
            own = np.zeros((n_blocks, self.n_units, self.n_own))
            for tile in range(units.start // LANES, -(-units.stop // LANES)):
                a, b = self.own_start[tile : tile + 2]
                edges = a + np.searchsorted(self.own_row[a:b], pieces[:, :2])
                for (first, last), block in zip(edges, pieces[:, 2], strict=True):
                    fires = first + np.flatnonzero(self.own_fires[first:last])
                    np.add.at(own[block], (self.own_unit[fires], self.own_feature[fires]), 1.0)
            out[:, :, self.n_shared : -1] = own[:, units.start : units.stop]
        return out

    def rows_with(self, ranges, first, n):
        """Number of rows in some ranges in which each of ``n`` shared features from ``first`` on is active, (n,)."""
        parts = [self.feature[self.start[a] : self.start[b]] - first for a, b in ranges]
        return sum(np.bincount(part[(part >= 0) & (part < n)], minlength=n) for part in parts)

    @cached_property
    def own_fires(self):
        """Whether the unit of each own entry fires in its row."""
        key = np.int64(self.n_units + 1)
        row, spike = np.repeat(np.arange(self.n_rows), np.diff(self.start)), self.feature < self.n_units
        active = row[spike] * key + self.feature[spike]
        wanted = self.own_row.astype(np.int64) * key + self.own_unit
        place = np.searchsorted(active, wanted)
        return (place < len(active)) & (active[np.minimum(place, len(active) - 1)] == wanted)


def spikes_of(rasters):
    """(edges, start, unit) of trials: active units of every bin, as compressed rows."""
    edges = np.concatenate([[0], np.cumsum([len(r) for r in rasters])]).astype(np.int64)
    n_spikes = [int(np.count_nonzero(r)) for r in rasters]
    start, unit = np.zeros(edges[-1] + 1, np.int64), np.empty(sum(n_spikes), np.int32)
    done = 0
    for r, a, n in zip(rasters, edges[:-1], n_spikes, strict=True):
        part = start[a : a + len(r) + 1]
        binary = r.view(np.int8) if r.dtype == bool else r.astype(np.int8, copy=False)
        kernel.active(binary, part, unit[done : done + n])
        part += done
        done += n
    return edges, start, unit


def build(n_units, spikes, *, shifts=(0,), lags=(), counts=False, drive=None):
    """Patterns of a raster.

    Parameters
    ----------
    n_units : int
    spikes : (edges, start, unit)
        From :func:`spikes_of`.
    shifts : sequence of int
        Shared features are the units so many bins later; the first must be 0.
    lags : sequence of int
        Own entries: the target's own spikes so many bins before and after, feature = place of the lag.
    counts : bool
        Add the number of firing units as shared features, and the correction by own entries.
    drive : Drive, optional
        Add the values of time-dependent inputs as shared features.
    """
    edges, start, unit = spikes
    n_rows, count = len(start) - 1, np.diff(start).astype(np.int32)
    n_shared = n_units * len(shifts)
    if tuple(shifts) == (0,):
        row_start, feature = start, unit
    else:
        room = np.empty(max(len(unit) * len(shifts), 1), np.int32)
        row_start = np.empty(n_rows + 1, np.int64)
        n = kernel.shifted(
            start, unit if len(unit) else room, edges, np.array(shifts, np.int64), n_units, row_start, room
        )
        feature = room[:n]
    entries = [_own_lag(edges, start, unit, k, place) for place, k in enumerate(lags)]
    n_own = len(lags)
    if counts:
        row = np.repeat(np.arange(n_rows, dtype=np.int32), np.diff(start))
        entries.append((row, unit, (n_own + count[row]).astype(np.int32)))
        feature, row_start = _with_one(feature, row_start, np.arange(n_rows), n_shared + count)
        n_shared += n_units + 1
        n_own += n_units + 1
    for value, n_values in () if drive is None else drive.values:
        rows = np.flatnonzero(value >= 0)
        feature, row_start = _with_one(feature, row_start, rows, n_shared + value[rows])
        n_shared += n_values
    own_row, own_unit, own_feature = (
        np.concatenate(part) if entries else np.zeros(0, np.int32)
        for part in (zip(*entries, strict=True) if entries else ((), (), ()))
    )
    tile = own_unit // LANES
    order = np.lexsort((own_unit, own_row, tile))
    own_start = np.searchsorted(tile[order], np.arange(-(-n_units // LANES) + 1)).astype(np.int64)
    return Patterns(
        n_units, n_rows, edges, row_start, np.ascontiguousarray(feature, np.int32), n_shared, n_own,
        own_row[order].astype(np.int32), own_unit[order].astype(np.int32), own_feature[order].astype(np.int32),
        own_start, count,
    )  # fmt: skip


def _with_one(feature, start, rows, more):
    """One more feature in each of some rows, behind those that are there: (features, start)."""
    feature = np.insert(feature, start[rows + 1], more)
    added = np.zeros(len(start), np.int64)
    added[rows + 1] = 1
    return feature, start + np.cumsum(added)


def _own_lag(edges, start, unit, lag, place):
    """Entries (row, unit, feature) of the spikes ``lag`` bins before and after."""
    row = np.repeat(np.arange(len(start) - 1), np.diff(start))
    trial = np.searchsorted(edges, row, side="right") - 1
    parts = []
    for step in (lag, -lag):
        there = row + step
        inside = (there >= edges[trial]) & (there < edges[trial + 1])
        parts.append((there[inside].astype(np.int32), unit[inside]))
    rows, units = (np.concatenate(p) for p in zip(*parts, strict=True))
    return rows, units, np.full(len(rows), place, np.int32)
