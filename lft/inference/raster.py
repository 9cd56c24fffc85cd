"""Binned recordings: 0/1 arrays (time, unit), what was lost in binning, and the fields made of them."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from lft.domain import Domain
from lft.errors import DataWarning, InputError
from lft.field import Field
from lft.geometry import Graph
from lft.inference.sites import check_positions, duration_text, place

CLIPPED_WARNING = 0.05
"""Fraction of clipped spikes above which a raster says less than the recording: DataWarning."""
CHUNK_CELLS = 1 << 24


@dataclass(frozen=True, eq=False)
class RasterReport:
    """What became of every spike: ``spikes = binned + clipped + outside``, also unit by unit.

    Attributes
    ----------
    bin_s, start_s : float
        Width of a bin and start of the first one, seconds.
    n_bins : int
    dropped_tail_s : float
        Length of the incomplete last bin, which is left out.
    unit : ndarray of int64, shape (N,)
        Index of each unit in the recording.
    spikes_of_unit, clipped_of_unit, outside_of_unit : ndarray of int64, shape (N,)
        All spikes of the recording; second and later spikes of a bin; spikes outside the bins.
    displacement_um : float or None
        Largest distance of a unit from its lattice site, where the raster was put on a lattice.
    notes : tuple of str
        What the reader had to settle, such as a duration that the file does not give.
    """

    bin_s: float
    start_s: float
    n_bins: int
    dropped_tail_s: float
    unit: np.ndarray
    spikes_of_unit: np.ndarray
    clipped_of_unit: np.ndarray
    outside_of_unit: np.ndarray
    displacement_um: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def binned_of_unit(self):
        """Occupied bins of each unit."""
        return self.spikes_of_unit - self.clipped_of_unit - self.outside_of_unit

    @property
    def spikes(self):
        return int(self.spikes_of_unit.sum())

    @property
    def clipped(self):
        return int(self.clipped_of_unit.sum())

    @property
    def outside(self):
        return int(self.outside_of_unit.sum())

    @property
    def clipped_fraction(self):
        """Clipped spikes over spikes inside the bins; 0 if there is none."""
        inside = self.spikes - self.outside
        return self.clipped / inside if inside else 0.0

    @property
    def silent_units(self):
        """Indices (in the recording) of the units without a spike in the bins."""
        return [int(u) for u in self.unit[self.binned_of_unit == 0]]

    def as_dict(self):
        """Plain numbers, for JSON."""
        return {
            "bin_s": self.bin_s,
            "start_s": self.start_s,
            "n_bins": self.n_bins,
            "dropped_tail_s": self.dropped_tail_s,
            "n_units": len(self.unit),
            "spikes": self.spikes,
            "clipped": self.clipped,
            "clipped_fraction": self.clipped_fraction,
            "outside": self.outside,
            "silent_units": self.silent_units,
            "displacement_um": self.displacement_um,
            "notes": list(self.notes),
        }

    def __repr__(self):
        return (
            f"<RasterReport {self.n_bins} bins of {duration_text(self.bin_s)}, {self.spikes} spikes: "
            f"{self.clipped} clipped, {self.outside} outside, {len(self.silent_units)} silent units>"
        )


def warn_if_clipped(reports, stacklevel):
    """One DataWarning if more than 5 % of the spikes inside the bins were clipped."""
    clipped = sum(r.clipped for r in reports)
    inside = sum(r.spikes - r.outside for r in reports)
    if clipped > CLIPPED_WARNING * inside:
        warnings.warn(
            f"{clipped} of {inside} spikes ({clipped / inside:.1%}) are clipped, as their bin of "
            f"{duration_text(reports[0].bin_s)} already held one: shorter bins lose less",
            DataWarning,
            stacklevel=stacklevel + 1,
        )


class Raster:
    """Spikes of many units in bins of equal width: ``phi[a, i] = 1`` if unit i fired in bin a, else 0.

    Parameters
    ----------
    values : array_like, shape (T, N)
        0 or 1, time first; kept as int8, without a copy if it is int8 already.
    bin_s : float
        Width of a bin in seconds, > 0.
    positions_um : array_like, shape (N, d), optional
    unit : sequence of int, optional
        Index of each column in the recording.  Default 0, 1, ..., N-1.
    report : RasterReport, optional
        What was lost in binning.  Default: every 1 is one spike, nothing was lost.
    source : str, optional
        What error messages call this raster.

    Examples
    --------
    >>> from lft.inference.raster import Raster
    >>> raster = Raster([[1, 0], [0, 0], [0, 1], [1, 0], [1, 0]], bin_s=0.01)
    >>> wide = raster.coarsen(0.02)
    >>> wide.values.tolist()
    [[1, 0], [1, 1]]
    >>> wide.report.clipped, wide.report.outside, round(wide.report.dropped_tail_s, 9)
    (0, 1, 0.01)
    """

    def __init__(self, values, bin_s, positions_um=None, unit=None, report=None, source="raster"):
        self.source = source
        self.values = _check_values(values, source)
        self.bin_s = check_bin(bin_s, source)
        n_units = self.values.shape[1]
        self.positions_um = None if positions_um is None else check_positions(positions_um, n_units, source)
        self.unit = np.arange(n_units) if unit is None else np.asarray(unit, dtype=np.int64)
        if self.unit.shape != (n_units,):
            raise InputError(f"{source}: unit has shape {self.unit.shape}, the raster {n_units} units")
        self.report = report or self._default_report()

    def _default_report(self):
        ones = self.values.sum(axis=0, dtype=np.int64)
        none = np.zeros_like(ones)
        return RasterReport(self.bin_s, 0.0, self.n_bins, 0.0, self.unit, ones, none, none)

    def __repr__(self):
        return (
            f"<Raster {self.source}: {self.n_units} units, {self.n_bins} bins of {duration_text(self.bin_s)}>"
        )

    @property
    def n_bins(self):
        return self.values.shape[0]

    @property
    def n_units(self):
        return self.values.shape[1]

    @property
    def rates_hz(self):
        """Occupied bins per second of each unit."""
        return self.values.sum(axis=0, dtype=np.int64) / (self.n_bins * self.bin_s)

    def coarsen(self, new_bin_s):
        """A raster of wider bins, each the OR of ``b`` bins (``p' = 1 - (1-p)^b`` if these are independent).

        An incomplete last bin is left out and reported; spikes that meet in a bin count as clipped.  Raises
        InputError unless the new width is an integer multiple of the old one and at least one bin remains.
        """
        new_bin_s = check_bin(new_bin_s, self.source)
        b = round(new_bin_s / self.bin_s)
        if b < 1 or abs(new_bin_s / self.bin_s - b) > 1e-6:
            raise InputError(
                f"{self.source}: bins of {duration_text(new_bin_s)} are no integer multiple of the raster's "
                f"{duration_text(self.bin_s)}"
            )
        n_bins = self.n_bins // b
        if n_bins == 0:
            raise InputError(
                f"{self.source}: bins of {duration_text(new_bin_s)} are longer than the raster "
                f"({duration_text(self.n_bins * self.bin_s)})"
            )
        kept, tail = self.values[: n_bins * b], self.values[n_bins * b :]
        values = kept[::b].copy()
        for k in range(1, b):
            np.bitwise_or(values, kept[k::b], out=values)
        old = self.report
        outside = old.outside_of_unit + tail.sum(axis=0, dtype=np.int64)
        clipped = old.spikes_of_unit - outside - values.sum(axis=0, dtype=np.int64)
        tail_s = old.dropped_tail_s + len(tail) * self.bin_s
        report = RasterReport(
            new_bin_s,
            old.start_s,
            n_bins,
            tail_s,
            self.unit,
            old.spikes_of_unit,
            clipped,
            outside,
            None,
            old.notes,
        )
        warn_if_clipped([report], stacklevel=2)
        return Raster(values, new_bin_s, self.positions_um, self.unit, report, self.source)

    # ---- fields
    def graph_field(self, halo=None):
        """The raster as a lattice-gas field on units without positions; time ends are open.

        Returns a Field of kind ``"gas"`` on ``Graph(n_units, n_bins)``; ``halo`` = (time, 0).
        """
        graph = Graph(self.n_units, self.n_bins, bin_width=duration_text(self.bin_s))
        field = Field(graph, "gas", Domain(graph.storage_shape, graph.storage_periodic, halo))
        field.values[...] = self.values
        return field

    def place(self, pitch_um=None):
        """The units on lattice sites: see :func:`lft.inference.sites.place`."""
        return place_units(self.positions_um, pitch_um, self.unit, self.source)

    @property
    def unit_sites(self):
        """Site (N, d) of each unit, at the pitch that the positions show."""
        return self.place().sites

    def lattice(self, pitch_um=None):
        """The :class:`lft.geometry.Lattice` on which the units stand: axes x, y, (z,) t, open, masked."""
        return self.place(pitch_um).lattice(self.n_bins, self.bin_s)

    def lattice_field(self, pitch_um=None, halo=None):
        """The raster as a spin field: +1 spike, -1 silent, 0 where no unit stands.

        ``halo``: its width per storage axis (time first).  ``Recording.bin_lattice`` makes the same field
        without the (T, N) array.
        """
        placement = self.place(pitch_um)
        field = empty_field(placement.lattice(self.n_bins, self.bin_s), "spin", halo)
        sites = tuple(placement.sites.T)
        rows = max(1, CHUNK_CELLS // self.n_units)
        for a in range(0, self.n_bins, rows):
            field.values[(slice(a, a + rows), *sites)] = 2 * self.values[a : a + rows] - 1
        return field


def empty_field(lattice, kind, halo):
    """A serial field of zeros with a halo."""
    return Field(lattice, kind, Domain(lattice.storage_shape, lattice.storage_periodic, halo))


def place_units(positions_um, pitch_um, unit, source):
    """:func:`lft.inference.sites.place` with messages that name the recording."""
    if positions_um is None:
        raise InputError(
            f"{source}: the units have no positions, so they stand on no lattice: give positions, or take what needs "
            "none, such as --model pairwise of lft fit or --method prg of lft flow"
        )
    try:
        return place(positions_um, pitch_um, unit)
    except InputError as reason:
        raise InputError(f"{source}: {reason}") from None


def check_bin(bin_s, source):
    """The bin width as a float, > 0 seconds."""
    try:
        value = math.nan if isinstance(bin_s, bool) else float(bin_s)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{source}: bin_s = {bin_s!s}: valid is a positive number of seconds")
    return value


def _check_values(values, source):
    values = np.asarray(values)
    if values.ndim != 2:
        raise InputError(f"{source}: raster has shape {values.shape}; valid is two axes")
    if 0 in values.shape:
        raise InputError(f"{source}: raster of {values.shape[1]} units x {values.shape[0]} bins is empty")
    if values.dtype.kind not in "biuf":
        raise InputError(f"{source}: raster has the type {values.dtype}; valid are 0 and 1")
    if values.dtype.kind != "b":
        _check_binary(values, source)
    return np.ascontiguousarray(values, dtype=np.int8)


def _check_binary(values, source):
    rows = max(1, CHUNK_CELLS // values.shape[1])
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        if part.dtype.kind in "iu" and part.min() >= 0 and part.max() <= 1:
            continue
        wrong = (part != 0) & (part != 1)
        if wrong.any():
            a, i = (int(k) for k in np.argwhere(wrong)[0])
            hint = "; it holds counts: bin the spikes instead" if part[a, i] > 1 else ""
            raise InputError(
                f"{source}: raster of unit {i}, bin {start + a} is {part[a, i]}; valid are 0 and 1{hint}"
            )
