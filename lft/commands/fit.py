"""``lft fit``: couplings of a recording."""

from __future__ import annotations

import dataclasses
import math
import warnings

from lft.archive import check_output, explain
from lft.errors import DataWarning, InputError, LftError
from lft.inference.lattice_fit import fit_independent, fit_lattice
from lft.inference.neural_fit import fit_neural, fit_pairwise
from lft.inference.raster import Raster
from lft.inference.recording import read_recording
from lft.inference.result import save_fit
from lft.units import parse_quantity

MODELS = ("independent", "lattice", "neural", "pairwise")
METHODS = ("pseudo",)


def fit_recording(args):
    """Fit what the command line asks for and save it; returns (fit, notes about the data)."""
    if args.model not in MODELS:
        raise InputError(f"--model {args.model!r}: valid are {', '.join(MODELS)}")
    if args.method not in METHODS:
        raise InputError(f"--method {args.method!r}: valid are {', '.join(METHODS)}")
    if not (math.isfinite(args.test) and 0 <= args.test < 1):
        raise InputError(f"--test {args.test}: valid is a fraction from 0 to below 1")
    reach = parse_reach(args.reach, args.diagonals)
    check_output(args.output, args.overwrite)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        recording, bin_s = open_recording(args.recording, args.bin, args.window)
        if args.units is not None:
            recording = select_units(recording, args.units)
        if args.model in ("neural", "pairwise"):
            fit, report = _fit_units(recording, bin_s, args, reach)
        else:
            fit, report = _fit_lattice(recording, bin_s, args, reach)
    notes = [*getattr(recording, "notes", ()), *describe(report), *_messages(caught)]
    try:
        save_fit(fit, args.output, args.overwrite, {"recording": str(args.recording), "notes": notes})
    except (OSError, RuntimeError) as error:
        raise LftError(explain(error, args.output, "writing the fit")) from error
    return fit, notes


def _fit_lattice(recording, bin_s, args, reach):
    if args.model == "independent" and recording.positions_um is None:
        raster = recording if isinstance(recording, Raster) else recording.bin(bin_s)
        return fit_independent([raster.values], test=args.test), raster.report
    field, report = lattice_field(recording, bin_s, args.pitch)
    if args.model == "independent":
        return fit_independent(field, test=args.test), report
    return fit_lattice(field, reach=reach, diagonals=args.diagonals, test=args.test), report


def _fit_units(recording, bin_s, args, reach):
    raster = recording if isinstance(recording, Raster) else recording.bin(bin_s)
    options = {"test": args.test, "ridge": args.ridge, "bin_s": raster.bin_s, "unit": raster.unit}
    if args.model == "pairwise":
        return fit_pairwise([raster.values], **options), raster.report
    if reach[1] >= raster.n_bins:
        raise InputError(f"--reach {args.reach!r}: TIME must stay below the {raster.n_bins} bins")
    return fit_neural([raster.values], lags=tuple(range(1, reach[1] + 1)), **options), raster.report


def _messages(caught):
    others = [w for w in caught if not issubclass(w.category, DataWarning)]
    for w in others:
        warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    return [str(w.message) for w in caught if issubclass(w.category, DataWarning)]


# ---- shared with lft flow
def open_recording(path, bin_text, window=None):
    """(recording or raster, bin width in s or None) from a path and the text of ``--bin`` and ``--window``."""
    bin_s = None if bin_text is None else parse_quantity(bin_text, "time", "--bin").si
    recording = read_recording(path, bin_s)
    if window is not None:
        recording = _window(recording, window)
    if not isinstance(recording, Raster) and bin_s is None:
        raise InputError(f'{path}: holds spike times, so a bin width is needed: give --bin, such as --bin "20 ms"')
    return recording, bin_s


def _window(recording, text):
    try:
        start, stop = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--window {text!r}: valid is START,STOP in seconds, such as 100,400") from None
    if isinstance(recording, Raster):
        raise InputError("--window: only for recordings of spike times, this one is a raster")
    return recording.window(start, stop)


def lattice_field(recording, bin_s, pitch_text=None):
    """(spin field on the lattice of the units, report) of a recording."""
    pitch = None if pitch_text is None else parse_quantity(pitch_text, "length", "--pitch").si * 1e6
    if isinstance(recording, Raster):
        return recording.lattice_field(pitch), recording.report
    binned = recording.bin_lattice(bin_s, pitch)
    return binned.field, binned.report


def select_units(recording, text):
    """The units of ``0,3,10-20``."""
    units, n = [], recording.n_units
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            first, last = int(first), int(last if dash else first)
        except ValueError:
            raise InputError(f"--units {text!r}: valid is a list such as 0,3,10-20") from None
        if not 0 <= first <= last < n:
            raise InputError(f"--units {text!r}: {part} is no unit or range of units; valid are 0 to {n - 1}")
        units.extend(range(first, last + 1))
    twice = next((u for u in units if units.count(u) > 1), None) if len(set(units)) < len(units) else None
    if twice is not None:
        raise InputError(f"--units {text!r}: unit {twice} is listed twice")
    if not isinstance(recording, Raster):
        return recording.select(units)
    positions = None if recording.positions_um is None else recording.positions_um[units]
    old = recording.report
    counts = {f"{n}_of_unit": getattr(old, f"{n}_of_unit")[units] for n in ("spikes", "clipped", "outside")}
    report = dataclasses.replace(old, unit=old.unit[units], **counts)
    values, unit = recording.values[:, units], recording.unit[units]
    return Raster(values, recording.bin_s, positions, unit, report, recording.source)


def parse_reach(text, has_diagonals=False):
    """(space, time) of ``1,1``."""
    longest = 22 if has_diagonals else 1000  # so many couplings are refused; even the list of them takes time
    try:
        space, time = (int(part) for part in text.split(","))
    except ValueError:
        space = time = -1
    if not 0 <= min(space, time) <= max(space, time) <= longest:
        valid = f"SPACE,TIME, two integers from 0 to {longest}, such as 1,2"
        raise InputError(f"--reach {text!r}: valid is {valid}")
    return space, time


def describe(report):
    """What binning did, as lines worth printing."""
    lines = []
    if report.clipped and report.clipped_fraction <= 0.05:  # above, the binning itself has warned
        lines.append(
            f"{report.clipped} of {report.spikes} spikes ({100 * report.clipped_fraction:.2g} %) were second or later "
            "in their bin: a site holds at most one"
        )
    if report.outside:
        lines.append(f"{report.outside} spikes lie outside the binned stretch")
    if report.dropped_tail_s:
        lines.append(f"the last {report.dropped_tail_s:.3g} s do not fill a bin and are left out")
    silent = list(report.silent_units)
    if silent:
        shown = ", ".join(map(str, silent[:10])) + (" ..." if silent[10:] else "")
        lines.append(f"{len(silent)} units never fire: {shown}")
    return lines
