"""``lft analyze``: correlators of saved configurations and of recordings, computed, written and put into words."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from lft.analysis.correlator import Correlator, anisotropy, second_moment_length, two_point, zero_momentum
from lft.analysis.crosscorrelation import MAX_UNITS, correlation_matrices, unit_sites
from lft.analysis.ergodicity import ergodicity, stationarity
from lft.analysis.estimate import estimate, format_with_error
from lft.analysis.kernel import (
    MAX_OVERLAP_BYTES,
    MAX_TIMES,
    averages,
    edwards_anderson,
    marchenko_pastur,
    overlaps,
    space_matrix,
    time_matrix,
)
from lft.analysis.mass import effective_mass, scan_mass
from lft.analysis.npoint import n_point
from lft.analysis.propagation import velocity
from lft.analysis.source import CHUNK_BYTES, Source, as_source
from lft.analysis.spectrum import dynamic_structure, space_time, structure_factor
from lft.analysis.summary import connected_series
from lft.archive import replacing
from lft.commands.recordings import describe, open_recording, select_units
from lft.errors import DataWarning, InputError, SeriesTooShort
from lft.inference.raster import Raster, place_units, warn_if_clipped
from lft.units import parse_quantity

FIELD_BYTES = 512 * 2**20
"""Recordings whose field is larger are binned piece by piece."""
MAX_SPECTRUM = 2000
MAX_PAIR_GRID = 2**21


@dataclass
class Correlations:
    """All that was computed; what the data do not allow is absent, and a note says why."""

    source: Source | None
    observables: dict = field(default_factory=dict)
    two_point: dict = field(default_factory=dict)
    zero_momentum: dict = field(default_factory=dict)
    effective_mass: dict = field(default_factory=dict)
    masses: dict = field(default_factory=dict)
    lengths: dict = field(default_factory=dict)
    anisotropy: dict = field(default_factory=dict)
    space_time: object = None
    structure_factor: object = None
    velocity: dict = field(default_factory=dict)
    points: list = field(default_factory=list)
    averages: object = None
    edwards_anderson: tuple | None = None
    overlaps: object = None
    replicas: str = "bins"
    ergodicity: object = None
    eigenvalues: np.ndarray | None = None
    edges: tuple | None = None
    notes: list = field(default_factory=list)

    # ---- words
    def as_json(self):
        """The keys below ``correlators`` of ``lft analyze --json``."""
        out = {"two_point": {a: c.as_json() for a, c in self.two_point.items()}, "zero_momentum": {}}
        for axis, z in self.zero_momentum.items():
            entry = z.as_json()
            if axis in self.effective_mass:
                r, value, error = self.effective_mass[axis]
                entry["effective_mass"] = {"r": r.tolist(), "value": _clean(value), "error": _clean(error)}
            if axis in self.masses:
                entry["mass"] = self.masses[axis].as_json()
            out["zero_momentum"][axis] = entry
        out["lengths"] = self.lengths
        out["anisotropy"] = self.anisotropy
        out["velocity"] = {mode: v.as_json() for mode, v in self.velocity.items()}
        out["n_point"] = [{"displacements": [list(d) for d in p.displacements], "value": _number(p.value),
                           "error": _number(p.error), "raw": p.raw} for p in self.points]
        if self.averages is not None:
            a = self.averages
            out["averages"] = {"offset": a.offset, "susceptibility": a.susceptibility,
                               "row_spectrum": a.row_spectrum(21).tolist(),
                               "column_spectrum": a.column_spectrum(21).tolist()}
        if self.edwards_anderson is not None:
            value, error, naive = self.edwards_anderson
            out["edwards_anderson"] = {"value": value, "error": error, "naive": naive}
        if self.overlaps is not None:
            P = self.overlaps
            out["overlaps"] = {name: {"value": _number(pair[0]), "error": _number(pair[1])}
                               for name, pair in (("mean", P.mean), ("variance", P.variance), ("kurtosis", P.kurtosis))}
            out["overlaps"] |= {"of": self.replicas, "replicas": P.n_replicas, "p": P.p,
                                 "null_variance": float(P.null_variance.mean()),
                                "q": P.q.tolist(), "density": P.density.tolist(),
                                "null_density": np.asarray(P.null_density).tolist()}
        if self.ergodicity is not None:
            e = self.ergodicity
            out["ergodicity"] = {"trials": e.n_trials, "cells": e.n_cells, "cell_bins": e.cell_bins,
                                 "dropped_bins": e.dropped_bins, "null": e.null_kind,
                                 **{t.name: t.as_json() for t in e.tests}}
        if self.eigenvalues is not None:
            out["eigenvalues"] = {"largest": self.eigenvalues[::-1][:10].tolist(), "edges": list(self.edges),
                                  "above": int((self.eigenvalues > self.edges[1]).sum())}
        return out

    def table(self):
        """What a person reads."""
        lines = []
        say = lambda name, text: lines.append(f"{name:24} {text}")  # noqa: E731
        for name, value in self.observables.items():
            say(name, f"{value}")
        if self.averages is not None:
            say("population_susceptibility", f"{self.averages.susceptibility:.4g}")
        if self.edwards_anderson is not None:
            say("q_EA", format_with_error(*self.edwards_anderson[:2]))
        for axis, entry in self.lengths.items():
            for kind, e in entry.items():
                physical = f"  = {e['physical']:.4g} +- {e['physical_error']:.2g} {e['unit']}" if "unit" in e else ""
                say(f"{kind}_{axis}", format_with_error(e["value"], e["error"]) + physical)
        for axis, scan in self.masses.items():
            say(f"mass_{axis}", str(scan))
        for pair, e in self.anisotropy.items():
            say(f"anisotropy_{pair}", format_with_error(e["value"], e["error"]))
        for mode, v in self.velocity.items():
            if math.isfinite(v.speed):
                physical = f"  = {v.physical[0]:.4g} +- {v.physical[1]:.2g} {v.physical[2]}" if v.physical else ""
                say(f"velocity_{mode}", f"{format_with_error(v.speed, v.speed_error)} sites/bin{physical}")
            else:
                say(f"velocity_{mode}", f"not resolved, above {v.at_least:.3g} sites/bin")
        for p in self.points:
            name = ";".join(",".join(map(str, d)) for d in p.displacements[1:])
            say(f"C[{name}]", format_with_error(p.value, p.error))
        if self.overlaps is not None:
            P = self.overlaps
            say("overlap_mean", format_with_error(*P.mean))
            say("overlap_variance", f"{format_with_error(*P.variance)}  null {P.null_variance.mean():.4g}  p={P.p:.3g}")
        if self.eigenvalues is not None:
            above = int((self.eigenvalues > self.edges[1]).sum())
            say("largest_eigenvalue", f"{self.eigenvalues[-1]:.4g}  noise up to {self.edges[1]:.4g}, {above} above it")
        if self.ergodicity is not None:
            e = self.ergodicity
            what = "trials" if self.source.has_time and self.source.n_configurations > 1 else "windows"
            for test in e.tests:
                say(f"{'ergodicity' if what == 'trials' else 'stationarity'}", f"{test}  ({e.n_trials} {what})")
        return "\n".join(lines)


def _number(x):
    return float(x) if math.isfinite(x) else None


def _clean(values):
    return [_number(v) for v in values]


# ---- computing
def correlate(source, args, comm=None, measured=None):
    """All correlators that a source allows.

    Parameters
    ----------
    source : Source or None
        None: an archive without saved configurations, of which only the measured series speak.
    measured : dict, optional
        Zero-momentum correlators that a run has measured, by axis: they take the place of those of the configurations.
    """
    if args.max_lag < 4:
        raise InputError(f"--max-lag {args.max_lag}: valid is an integer >= 4")
    if args.blocks < 8:
        raise InputError(f"--blocks {args.blocks}: valid is an integer >= 8")
    out = Correlations(source)
    blocks = args.blocks
    out.zero_momentum |= measured or {}
    if source is not None:
        _of_source(out, source, args, blocks, comm)
    for axis, z in out.zero_momentum.items():
        _masses(out, axis, z)
    axes = [a for a in out.zero_momentum if a != "t"]
    for one, two in itertools.pairwise(axes):
        pair = out.zero_momentum[one], out.zero_momentum[two]
        if all("second_moment" in out.lengths.get(a, {}) for a in (one, two)) and len({len(z.rows) for z in pair}) == 1:
            value, error = anisotropy(*pair)
            out.anisotropy[f"{one}/{two}"] = {"value": _number(value), "error": _number(error)}
    return out


def _of_source(out, source, args, blocks, comm):
    is_short = source.n_configurations * source.n_bins < blocks
    if is_short:
        blocks = max(4, source.n_configurations * source.n_bins)
    _try(out, lambda: out.two_point.update(two_point(source, args.max_lag, blocks, comm)))
    extents = dict(zip(source.axes, source.shape, strict=False)) | ({"t": source.n_bins} if source.has_time else {})
    for axis, extent in extents.items():
        if axis not in out.zero_momentum and extent >= 8:
            options = (axis, args.max_lag, 2 * blocks, comm)
            _try(out, lambda o=options: out.zero_momentum.update({o[0]: zero_momentum(source, *o)}))
    if source.axes and math.prod(source.shape) > 1:
        _try(out, lambda: setattr(out, "structure_factor", structure_factor(source, None, blocks, None, comm)))
    if source.axes and source.has_time and source.n_bins > 8:
        _try(out, lambda: _propagation(out, source, args, blocks, comm))
    if args.points:
        out.points = n_point(source, [_displacements(text) for text in args.points], blocks, None, comm)
    if not source.is_binary:
        return
    _try(out, lambda: setattr(out, "averages", averages(source, comm)))
    if out.averages is not None and source.has_time and source.n_configurations == 1 and source.n_bins >= 4:
        out.observables["offset"] = _quiet(out.averages.columns, "offset", out.notes)
    _try(out, lambda: setattr(out, "edwards_anderson", edwards_anderson(source, blocks, comm)))
    _try(out, lambda: _overlaps(out, source, comm))
    test = ergodicity if source.has_time and source.n_configurations > 1 else stationarity
    _try(out, lambda: setattr(out, "ergodicity", test(source, null="circular", comm=comm)))
    if "offset" in out.observables:
        _check_lengths(out, source, blocks)
    samples = source.n_configurations * source.n_bins
    if source.n_active <= MAX_SPECTRUM and samples > 4:
        _try(out, lambda: _spectrum(out, source, blocks, samples, comm))


def _check_lengths(out, source, blocks):
    """Notes where blocks or cells are short compared with the autocorrelation time of the population average."""
    tau = out.observables["offset"].tau_int
    pieces = {"blocks, behind the errors": source.blocks(blocks)[0][0][2] - source.blocks(blocks)[0][0][1]}
    if out.ergodicity is not None:
        pieces["cells, behind the nulls of stationarity"] = out.ergodicity.cell_bins
    for name, length in pieces.items():
        if length < 10 * tau:
            what, use = name.split(", ")
            out.notes.append(f"{what} of {length} bins, {use}, are shorter than ten autocorrelation times of {tau:.3g} "
                             "bins: errors are too small, p values too")


def _try(out, step):
    """A step that the data may not allow: the reason becomes a note."""
    try:
        step()
    except InputError as reason:
        out.notes.append(str(reason))


def _quiet(series, name, notes):
    """An estimate whose complaint about a short series becomes a note."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SeriesTooShort)
        value = estimate(series, name=name)
    notes.extend(str(w.message) for w in caught if issubclass(w.category, SeriesTooShort))
    return value


def _displacements(text):
    try:
        return [tuple(int(v) for v in part.split(",")) for part in text.split(";")]
    except ValueError:
        raise InputError(f'--points {text!r}: valid are displacements such as "1,0,0" or "1,0,0;0,1,0"') from None


def _masses(out, axis, z):
    if z.rows is None or not (z.error[0] > 0):
        out.notes.append(f"zero-momentum correlator along {axis}: constant, no error can be given")
        return
    _try(out, lambda: out.effective_mass.update({axis: effective_mass(z)}))
    _try(out, lambda: out.masses.update({axis: scan_mass(z, n_states=(1, 2))}))
    if axis in out.masses and 2 * out.masses[axis].best.first > out.masses[axis].best.last:
        best = out.masses[axis].best
        out.notes.append(f"along {axis}: an exponential describes only r = {best.first}..{best.last}; look whether the "
                         "effective mass settles (--plot)")
    entry, name = {}, "time" if axis == "t" else "length"
    xi, error, reach = second_moment_length(z)
    if math.isfinite(xi) and math.isfinite(error):
        entry["second_moment"] = _length(xi, error, z.step) | {"reach": reach}
        left = z.value[reach] / z.value[0]
        if left > 0.05:
            out.notes.append(f"along {axis}: the second-moment {name} sums up to r = {reach}, where Z(r) is still "
                             f"{100 * left:.0f} % of Z(0): it is a lower bound")
    if axis in out.masses:
        entry["exponential"] = _length(*out.masses[axis].length, z.step)
    if entry:
        out.lengths[axis] = entry
    else:
        out.notes.append(f"along {axis}: no correlation {name} resolved")


def _length(value, error, step):
    entry = {"value": float(value), "error": float(error)}
    if step is not None:
        entry |= {"physical": value * step.value, "physical_error": error * step.value, "unit": step.unit}
    return entry


def _propagation(out, source, args, blocks, comm):
    top = min(args.max_lag, source.n_bins // 2 - 1)
    grid = math.prod(source.shape) * 2 ** len(source.shape) * (top + 1)
    reach = None if grid <= MAX_PAIR_GRID else max(4, int((MAX_PAIR_GRID / (top + 1)) ** (1 / len(source.shape)) / 2))
    out.space_time = space_time(source, top, reach, blocks, None, comm)
    for mode in ("directed", "radial", "spread"):
        _try(out, lambda m=mode: out.velocity.update({m: velocity(out.space_time, m)}))
    for mode, v in out.velocity.items():
        for ridge in v.ridges:
            if not ridge.is_straight:
                what = "width" if mode == "spread" else "lag of the peak"
                out.notes.append(f"velocity, {mode}: the {what} of C(r, t) does not follow its line along {ridge.axis} "
                                 f"(chi2/dof = {ridge.chi2:.3g}/{ridge.dof}): there is no single velocity")


def _overlaps(out, source, comm):
    """Of whole configurations where there are enough, else of bins."""
    out.replicas = "bins" if source.has_time and source.n_configurations < 20 else "configurations"
    n_sites = source.n_active * (1 if out.replicas == "bins" else source.n_bins)
    n = max(20, min(1000, MAX_OVERLAP_BYTES // n_sites))
    out.overlaps = overlaps(source, n, out.replicas, n_null=99, comm=comm)


def _spectrum(out, source, blocks, samples, comm):
    (C,) = correlation_matrices(source, (0,), "pearson", blocks, comm)
    keep = np.isfinite(np.diag(C.value))
    if not keep.any():
        raise InputError(f"{source.name}: every unit is constant, so that no correlation matrix exists")
    out.eigenvalues = np.linalg.eigvalsh(C.value[np.ix_(keep, keep)])
    out.edges = marchenko_pastur(int(keep.sum()), samples)
    if not keep.all():
        out.notes.append(f"{int((~keep).sum())} constant units have no correlation and are left out of the eigenvalues")


# ---- recordings
def recording_source(args):
    """(source, notes, what binning did) of the recording that the command line names."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        recording, bin_s = open_recording(args.archive, args.bin, args.window)
        if args.units is not None:
            recording = select_units(recording, args.units)
        source, report, notes = _source(recording, bin_s, args.pitch)
    notes = [*getattr(recording, "notes", ()), *describe(report), *notes]
    notes += [str(w.message) for w in caught if issubclass(w.category, DataWarning)]
    return source, list(dict.fromkeys(notes)), report


def _source(recording, bin_s, pitch_text):
    pitch = None if pitch_text is None else parse_quantity(pitch_text, "length", "--pitch").si * 1e6
    notes = []
    try:
        if isinstance(recording, Raster):
            field, report = recording.lattice_field(pitch), recording.report
        else:
            placement = place_units(recording.positions_um, pitch, recording.unit, recording.source)
            n_bins = int(recording.duration_s / bin_s + 1e-6)
            if math.prod(placement.shape) * n_bins > FIELD_BYTES:
                return _piecewise(recording, bin_s, pitch, placement.lattice(n_bins, bin_s))
            binned = recording.bin_lattice(bin_s, pitch)
            field, report = binned.field, binned.report
    except InputError as reason:
        if pitch_text is not None:
            raise
        notes.append(f"no lattice, so no distances: {reason}")
        raster = recording if isinstance(recording, Raster) else recording.bin(bin_s)
        field, report = raster.graph_field(), raster.report
    return as_source(field, getattr(recording, "source", None)), report, notes


def _piecewise(recording, bin_s, pitch, lattice):
    """A recording whose field would not fit: binned anew wherever it is read."""
    def bins(start, stop):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # clipping is reported once for all pieces
            return recording.bin_lattice(bin_s, pitch, start * bin_s, min(stop * bin_s, recording.duration_s))

    step = max(1, CHUNK_BYTES // math.prod(lattice.space_shape))
    reports = [bins(a, min(a + step, lattice.n_time)).report for a in range(0, lattice.n_time, step)]
    clipped = sum(r.clipped_of_unit for r in reports)
    outside = reports[0].spikes_of_unit - clipped - sum(r.binned_of_unit for r in reports)
    report = dataclasses.replace(
        reports[0], n_bins=lattice.n_time, dropped_tail_s=recording.duration_s - lattice.n_time * bin_s,
        clipped_of_unit=clipped, outside_of_unit=outside)
    if report.dropped_tail_s < 1e-6 * bin_s:
        report = dataclasses.replace(report, dropped_tail_s=0.0)
    warn_if_clipped([report], stacklevel=2)
    shape = (-1, *lattice.space_shape)

    def reader(configuration, start, stop):
        values = bins(start, stop).field.values.reshape(shape)
        if len(values) != stop - start:
            raise InputError(f"{recording.source}: bins {start} to {stop} came as {len(values)}")
        return values

    note = f"{lattice.n_sites / 2**20:.0f} MB of sites are binned piece by piece"
    return Source(lattice, "spin", 1, reader, recording.source), report, [note]


# ---- the file of matrices
def _lags(text):
    try:
        lags = [int(part) for part in text.split(",")]
    except ValueError:
        lags = [-1]
    if min(lags) < 0:
        raise InputError(f"--lags {text!r}: valid are integers >= 0 such as 0,1,2,5")
    return lags


def save_matrices(path, result, args, comm=None):
    """Write Phi, Pi, the lagged matrices and the correlators as arrays.

    Groups: ``phi``, ``pi`` (first bins), ``lagged/<k>`` (covariance and error), ``sites``, ``averages``,
    ``space_time``, ``structure_factor``, ``dynamic_structure``.  Each lag is written before the next one is made.
    """
    if path is None:
        return
    source, blocks = result.source, args.blocks
    lags = _lags(args.lags) if args.lags is not None else [k for k in (0, 1, 2) if k < max(1, source.n_bins // 2)]
    is_root = comm is None or comm.Get_rank() == 0
    with replacing(path, "writing the matrices") if is_root else nullcontext() as file:
        put = (lambda name, value: file.create_dataset(name, data=value)) if is_root else (lambda name, value: None)
        if source.n_active <= MAX_UNITS:
            put("sites", unit_sites(source))
            for matrix in correlation_matrices(source, lags, "covariance", blocks, comm):
                put(f"lagged/{matrix.lag}/covariance", matrix.value)
                put(f"lagged/{matrix.lag}/error", matrix.error)
            if source.is_binary:
                put("phi", space_matrix(source, comm=comm))
        else:
            result.notes.append(f"{source.n_active} sites: matrices of all pairs are made of at most {MAX_UNITS}")
        if source.is_binary and source.has_time and is_root:
            stop = min(source.n_bins, MAX_TIMES // 4)
            put("pi", time_matrix(source, 0, stop))
        if source.has_time and source.n_bins >= 8:
            segment = min(256, source.n_bins // 4)
            try:
                D = dynamic_structure(source, segment, n_blocks=blocks, comm=comm)
            except InputError as reason:
                result.notes.append(str(reason))
            else:
                for name in ("omega", "value", "error"):
                    put(f"dynamic_structure/{name}", getattr(D, name))
        _put_correlators(put, result)


def _put_correlators(put, result):
    if result.averages is not None:
        for name in ("offset", "rows", "columns"):
            put(f"averages/{name}", getattr(result.averages, name))
    if result.eigenvalues is not None:
        put("eigenvalues", result.eigenvalues)
    for group, S in (("structure_factor", result.structure_factor), ("space_time", result.space_time)):
        if S is None:
            continue
        for axis, grid in zip(S.axes, S.k if group == "structure_factor" else S.r, strict=True):
            put(f"{group}/{'k' if group == 'structure_factor' else 'r'}_{axis}", grid)
        put(f"{group}/value", S.value)
        put(f"{group}/error", S.error)
        if group == "space_time":
            put("space_time/lags", S.lags)


# ---- what a run has measured
def measured_correlators(archive, n_blocks=None):
    """Connected zero-momentum correlators from the measured series of an archive, in blocks.

    The blocks are at least ten autocorrelation times long where the series allows it.
    """
    out, found = {}, {}
    for name in archive.names:
        series = connected_series(archive, name) if name.startswith("correlator_") else None
        if series is not None and len(series) >= 16 and series.shape[1] >= 3:
            found[name.removeprefix("correlator_")] = series
    blocks = n_blocks or min(map(_blocks_of, found.values()), default=0)  # one for all: ratios of axes need that
    for axis, series in found.items():
        edges = np.linspace(0, len(series), blocks + 1).astype(int)
        rows = np.add.reduceat(series, edges[:-1], axis=0) / np.diff(edges)[:, np.newaxis]
        weights = np.diff(edges).astype(float)
        value = (weights[:, np.newaxis] * rows).sum(axis=0) / weights.sum()
        w = (weights / weights.sum())[:, np.newaxis]
        error = np.sqrt(((w * (rows - value)) ** 2).sum(axis=0) * blocks / (blocks - 1))
        geometry = archive.geometry
        k = geometry.axes.index(axis)
        boundary = geometry.boundary if isinstance(geometry.boundary, str) else geometry.boundary[k]
        period = geometry.shape[k] if boundary == "periodic" else None
        out[axis] = Correlator(axis, np.arange(series.shape[1]), value, error, geometry.quantity(axis), rows, weights,
                               period)
    return out


def _blocks_of(series):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesTooShort)
        tau = max(estimate(series[:, r]).tau_int for r in {0, 1, series.shape[1] // 2})
    return int(np.clip(len(series) / (10 * max(tau, 0.5)), 8, 200))
