"""Recordings: spike times of many units, their binning into rasters and lattice fields.

Bin ``a`` covers ``[start + a bin, start + (a + 1) bin)``.  A spike on an edge belongs to the later bin, also
where times and widths are no binary fractions (0.06 s lies in bin 3 of 20 ms): less than 1e-6 bins before an
edge counts as on the edge.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lft._kernels import recording as kernel
from lft.errors import InputError
from lft.field import Field
from lft.inference.raster import (
    Raster,
    RasterReport,
    check_bin,
    empty_field,
    place_units,
    warn_if_clipped,
)
from lft.inference.reading import read_arrays
from lft.inference.sites import Placement, check_memory, check_positions, duration_text

SLACK = 1e-9
"""Relative rounding allowed where a stretch of time is compared with the ends of the recording."""


class BinnedLattice(NamedTuple):
    """A recording as a field on a lattice: the field, the site of each unit, what became of the spikes."""

    field: Field
    placement: Placement
    report: RasterReport


@dataclass(frozen=True, eq=False)
class Recording:
    """Spike times of N units in seconds, and where the units are.

    Parameters
    ----------
    spike_times : array_like of float, shape (S,)
        Times in ``[0, duration_s]``, unit after unit, not descending in each unit.
    spike_index : array_like of int, shape (N + 1,)
        Unit ``i`` fired at ``spike_times[spike_index[i]:spike_index[i + 1]]``.
    duration_s : float
        Length of the recording, > 0.
    positions_um : array_like, shape (N, d), optional
        Coordinates of the units, d = 1, 2 or 3.
    unit : sequence of int, optional
        Index of each unit in the recording as read.  Default 0, 1, ..., N-1.
    notes : tuple of str, optional
        What the reader had to settle; goes into every report.
    source : str, optional
        What error messages call this recording: the file.

    Raises
    ------
    InputError
        Names the array, the index, the value and what is valid.

    Notes
    -----
    A unit that never fires is kept and listed in ``RasterReport.silent_units``.

    Examples
    --------
    >>> from lft.inference.recording import Recording
    >>> recording = Recording([0.010, 0.030, 0.083, 0.060], [0, 3, 4], duration_s=0.085)
    >>> raster = recording.bin(0.02)
    >>> raster.values.T.tolist()
    [[1, 1, 0, 0], [0, 0, 0, 1]]
    >>> raster.report.clipped, raster.report.outside, round(raster.report.dropped_tail_s, 9)
    (0, 1, 0.005)
    """

    spike_times: np.ndarray
    spike_index: np.ndarray
    duration_s: float
    positions_um: np.ndarray | None = None
    unit: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    source: str = "recording"

    def __post_init__(self):
        times = _check_times(self.spike_times, self.source)
        index = _check_index(self.spike_index, len(times), self.source)
        n_units = len(index) - 1
        duration = _check_duration(self.duration_s, self.source)
        _check_order(times, index, duration, self.source)
        positions = self.positions_um
        if positions is not None:
            positions = check_positions(positions, n_units, self.source)
        unit = np.arange(n_units) if self.unit is None else np.array(self.unit, dtype=np.int64)
        if unit.shape != (n_units,):
            raise InputError(f"{self.source}: unit has shape {unit.shape}, the recording {n_units} units")
        values = {"spike_times": times, "spike_index": index, "positions_um": positions, "unit": unit}
        for name, value in values.items():
            if value is not None:
                value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "duration_s", duration)
        object.__setattr__(self, "notes", tuple(self.notes))

    def __repr__(self):
        where = (
            "no positions"
            if self.positions_um is None
            else f"positions in {self.positions_um.shape[1]} dimensions"
        )
        return (
            f"<Recording {self.source}: {self.n_units} units, {len(self.spike_times)} spikes, "
            f"{self.duration_s:g} s, {where}>"
        )

    @property
    def n_units(self):
        return len(self.spike_index) - 1

    @property
    def rates_hz(self):
        """Spikes per second of each unit."""
        return np.diff(self.spike_index) / self.duration_s

    # ---- parts
    def window(self, start_s, stop_s):
        """The stretch ``start_s <= t < stop_s`` as a recording whose time starts at 0.

        A stretch up to the end of the recording includes a spike exactly at the end.
        """
        start, stop = self._check_stretch(start_s, stop_s)
        times = self.spike_times
        keep = (times >= start) & ((times < stop) | (stop >= self.duration_s))
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        return dataclasses.replace(
            self,
            spike_times=np.minimum(times[keep] - start, stop - start),
            spike_index=kept_before[self.spike_index],
            duration_s=stop - start,
        )

    def select(self, units):
        """The recording of some units: their places 0..N-1 in this recording, in the order given."""
        units = np.asarray(units)
        if units.ndim != 1 or not len(units) or units.dtype.kind not in "iu":
            raise InputError(
                f"{self.source}: units = {units.tolist()}: valid is a list of at least one place"
            )
        wrong = (units < 0) | (units >= self.n_units)
        if wrong.any():
            raise InputError(f"{self.source}: unit {units[wrong][0]}: valid are 0 to {self.n_units - 1}")
        if len(np.unique(units)) != len(units):
            raise InputError(f"{self.source}: units = {units.tolist()}: a unit is listed twice")
        parts = [self.spike_times[self.spike_index[u] : self.spike_index[u + 1]] for u in units]
        return dataclasses.replace(
            self,
            spike_times=np.concatenate(parts),
            spike_index=np.concatenate([[0], np.cumsum([len(p) for p in parts])]),
            positions_um=None if self.positions_um is None else self.positions_um[units],
            unit=self.unit[units],
        )

    # ---- bins
    def bin(self, bin_s, start_s=0.0, stop_s=None):
        """The spikes between two times (default: all) in bins: a :class:`lft.inference.raster.Raster`.

        An incomplete last bin is left out.  ``raster.report`` counts what was clipped and left out; a
        DataWarning is given above 5 % clipped spikes.  Raises InputError if the stretch leaves the recording
        or holds no bin.  Cost about 20 ns per spike, and the memory of the (T, N) int8 array.
        """
        start, bin_s, n_bins, tail = self._check_bins(bin_s, start_s, stop_s)
        raster = self._bin_raster(start, bin_s, n_bins, tail)
        warn_if_clipped([raster.report], stacklevel=2)
        return raster

    def trials(self, events_s, before_s, after_s, bin_s):
        """One raster per event, of the stretch ``[event - before_s, event + after_s)``.

        All have the same number of bins; an incomplete last bin is left out.

        Raises InputError that names the event whose stretch leaves the recording.
        """
        events = np.asarray(events_s, dtype=np.float64)
        if events.ndim != 1 or not len(events):
            raise InputError(
                f"{self.source}: events have shape {events.shape}; valid is a list of at least one time"
            )
        length = before_s + after_s
        if not (math.isfinite(length) and before_s >= 0 and length > 0):
            raise InputError(
                f"{self.source}: before_s = {before_s!r}, after_s = {after_s!r}: valid are finite "
                "times, before_s >= 0 and their sum > 0"
            )
        bin_s = check_bin(bin_s, self.source)
        n_bins, tail = self._count_bins(length, bin_s)
        slack = SLACK * self.duration_s
        for k, event in enumerate(events):
            if not (event - before_s >= -slack and event + after_s <= self.duration_s + slack):
                raise InputError(
                    f"{self.source}: event {k} at {event:.10g} s: its stretch {event - before_s:.10g} to "
                    f"{event + after_s:.10g} s leaves the recording (0 to {self.duration_s:.10g} s)"
                )
        rasters = [self._bin_raster(float(event - before_s), bin_s, n_bins, tail) for event in events]
        warn_if_clipped([r.report for r in rasters], stacklevel=2)
        return rasters

    def bin_lattice(self, bin_s, pitch_um=None, start_s=0.0, stop_s=None, kind="spin", halo=None):
        """The spikes between two times as a field on the lattice of the units, without a (T, N) array.

        Parameters
        ----------
        bin_s, start_s, stop_s : float
            As in :meth:`bin`.
        pitch_um : float or sequence of float, optional
            See :func:`lft.inference.sites.place`.
        kind : {"spin", "gas"}
            Spike and silence are +1 and -1 or 1 and 0; sites without a unit are 0.
        halo : sequence of int, optional
            Width of the field's halo per storage axis (time first).

        Returns
        -------
        BinnedLattice
            ``field`` on axes x, y, (z,) t with open ends, ``placement``, ``report``.

        Notes
        -----
        The memory is that of the field: 64 x 64 sites x 90000 bins take 369 MB.
        """
        if kind not in ("spin", "gas"):
            raise InputError(f"kind = {kind!r}: valid are spin, gas")
        start, bin_s, n_bins, tail = self._check_bins(bin_s, start_s, stop_s)
        placement = place_units(self.positions_um, pitch_um, self.unit, self.source)
        field = empty_field(placement.lattice(n_bins, bin_s), kind, halo)
        if kind == "spin":
            mask = field.local_mask()
            field.values[...] = -1 if mask is None else -mask.astype(np.int8)
        inside = tuple(s.start or 0 for s in field.domain.interior)
        strides = np.array(field.data.strides)  # bytes, which are elements: int8
        columns = (placement.sites + inside[1:]) @ strides[1:] + inside[0] * strides[0]
        counts = self._fill(field.data.reshape(-1), columns, int(strides[0]), n_bins, start, bin_s)
        report = self._report(counts, bin_s, start, n_bins, tail, placement.largest_displacement_um)
        warn_if_clipped([report], stacklevel=2)
        return BinnedLattice(field, placement, report)

    def _bin_raster(self, start, bin_s, n_bins, tail):
        check_memory((n_bins, self.n_units), self.source)
        values = np.zeros((n_bins, self.n_units), np.int8)
        counts = self._fill(values.reshape(-1), np.arange(self.n_units), self.n_units, n_bins, start, bin_s)
        report = self._report(counts, bin_s, start, n_bins, tail)
        return Raster(values, bin_s, self.positions_um, self.unit, report, self.source)

    def _fill(self, flat, columns, row_stride, n_bins, start, bin_s):
        counts = np.zeros((self.n_units, 3), np.int64)
        columns = np.ascontiguousarray(columns, dtype=np.int64)
        kernel.bin_spikes(
            self.spike_times, self.spike_index, columns, flat, row_stride, n_bins, start, bin_s, counts
        )
        return counts

    def _report(self, counts, bin_s, start, n_bins, tail, displacement=None):
        spikes, clipped, outside = (column.copy() for column in counts.T)
        return RasterReport(
            bin_s, start, n_bins, tail, self.unit, spikes, clipped, outside, displacement, self.notes
        )

    def _check_stretch(self, start_s, stop_s):
        stop_s = self.duration_s if stop_s is None else stop_s
        slack = SLACK * self.duration_s
        if not (-slack <= start_s < stop_s <= self.duration_s + slack):
            raise InputError(
                f"{self.source}: stretch {start_s!r} to {stop_s!r} s: valid are 0 <= start < stop <= "
                f"{self.duration_s:.10g} s"
            )
        return float(start_s), float(stop_s)

    def _check_bins(self, bin_s, start_s, stop_s):
        start, stop = self._check_stretch(start_s, stop_s)
        bin_s = check_bin(bin_s, self.source)
        return (start, bin_s, *self._count_bins(stop - start, bin_s))

    def _count_bins(self, length, bin_s):
        """Whole bins in a length of time, and what is left over."""
        quotient = length / bin_s + kernel.EDGE_TOLERANCE
        if quotient < 1:
            raise InputError(
                f"{self.source}: a bin of {duration_text(bin_s)} is longer than the stretch of "
                f"{duration_text(length)}: no bin is complete"
            )
        if quotient >= 1e9:
            raise InputError(
                f"{self.source}: bin_s = {bin_s:.4g} s makes {quotient:.3g} bins; at most 1e9 are valid"
            )
        n_bins = int(quotient)
        tail = length - n_bins * bin_s
        return n_bins, tail if tail > 2 * kernel.EDGE_TOLERANCE * bin_s else 0.0


def read_recording(path, bin_s=None):
    """Read a recording, of spike times or of bins, by the content of the file (not its name).

    Parameters
    ----------
    path : str or path-like
        NWB; HDF5 or ``.npz`` with ``spike_times``, ``spike_index``, optional ``positions`` and
        ``duration_s``; ``.npz`` with ``raster`` (units x bins), ``bin_s``, optional ``positions``; ``.npy``
        with a raster.
    bin_s : float, optional
        Only for rasters: the width of the bins where the file does not give it; where it does, the raster is
        coarsened to this width (an integer multiple).

    Returns
    -------
    Recording or Raster
        Spike times give a :class:`Recording`, a raster a :class:`lft.inference.raster.Raster`.

    Raises
    ------
    InputError
        One line that names the file, the array, the value and what is valid.

    Notes
    -----
    Without ``duration_s`` (and in NWB) the last spike is the end, and ``notes`` says so; that spike lies on
    the end of the last bin and counts as outside where the bins fill the recording exactly.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from lft.inference.recording import read_recording
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "two_units.npz")
    >>> np.savez(path, spike_times=[0.1, 0.2, 0.15], spike_index=[0, 2, 3], duration_s=1.0)
    >>> read_recording(path).rates_hz.tolist()
    [2.0, 1.0]
    >>> folder.cleanup()
    """
    arrays = read_arrays(path)
    source = str(path)
    if "raster" in arrays:
        return _raster_of(arrays, bin_s, source)
    n_units = np.size(arrays["spike_index"]) - 1
    if n_units > 0 and not np.size(arrays["spike_times"]):
        raise InputError(f"{source}: no spike at all in {n_units} units")
    return Recording(
        arrays["spike_times"],
        arrays["spike_index"],
        arrays["duration_s"],
        arrays["positions"],
        notes=tuple(arrays["notes"]),
        source=source,
    )


def _raster_of(arrays, bin_s, source):
    width = arrays["bin_s"] if arrays["bin_s"] is not None else bin_s
    if width is None:
        raise InputError(f"{source}: the raster does not say how long its bins are: give bin_s (--bin)")
    raster = Raster(arrays["raster"], width, arrays["positions"], source=source)
    if not raster.values.any():
        raise InputError(f"{source}: no spike at all in {raster.n_units} units x {raster.n_bins} bins")
    if bin_s is None or abs(check_bin(bin_s, source) / raster.bin_s - 1) < SLACK:
        return raster
    return raster.coarsen(bin_s)


# ---- checks of what a file or a user gives
def _check_times(times, source):
    times = np.asarray(times)
    if times.ndim != 1:
        raise InputError(f"{source}: spike_times has shape {times.shape}; valid is one axis")
    if times.dtype.kind not in "iuf":
        if len(times):
            raise InputError(
                f"{source}: spike_times has the type {times.dtype}; valid are real numbers, in seconds"
            )
        times = times.astype(np.float64)
    return np.array(times, dtype=np.float64)


def _check_index(index, n_spikes, source):
    index = np.asarray(index)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise InputError(
            f"{source}: spike_index has shape {index.shape} and type {index.dtype}; "
            "valid is one axis of integers"
        )
    if len(index) < 2:
        raise InputError(
            f"{source}: spike_index has {len(index)} entries, so there is no unit; valid is units + 1"
        )
    if index[0] != 0:
        raise InputError(f"{source}: spike_index[0] = {index[0]}; the first offset must be 0")
    descending = np.flatnonzero(index[1:] < index[:-1])
    if len(descending):
        i = int(descending[0])
        raise InputError(
            f"{source}: spike_index[{i + 1}] = {index[i + 1]} is below spike_index[{i}] = {index[i]}; "
            "offsets must not descend"
        )
    if index[-1] != n_spikes:
        raise InputError(
            f"{source}: spike_index ends at {index[-1]}, but spike_times holds {n_spikes}; "
            "its last entry must be the number of spikes"
        )
    return np.array(index, dtype=np.int64)


def _check_duration(duration, source):
    try:
        value = math.nan if isinstance(duration, bool) else float(duration)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{source}: duration_s = {duration!s}: valid is a positive number of seconds")
    return value


def _check_order(times, index, duration, source):
    what, unit, k = kernel.first_violation(times, index, duration)
    if what == kernel.VALID:
        return
    rule = {
        kernel.NOT_FINITE: "times must be finite",
        kernel.NEGATIVE: "times must not be negative",
        kernel.DESCENDING: f"it comes after {times[k - 1]!s} s; times must ascend in each unit",
        kernel.TOO_LATE: f"times must not exceed duration_s = {duration!s}",
    }
    raise InputError(f"{source}: spike_times[{k}] = {times[k]!s} s (unit {unit}): {rule[what]}")
