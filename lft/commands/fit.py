"""``lft fit``: couplings of a recording."""

from __future__ import annotations

import math
import warnings

from lft.archive import check_output
from lft.errors import DataWarning, InputError
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
    reach = parse_reach(args.reach)
    check_output(args.output, args.overwrite)
    recording, bin_s = open_recording(args.recording, args.bin, args.window)
    if args.units:
        recording = select_units(recording, args.units)
    notes = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        if args.model in ("neural", "pairwise"):
            fit, report = _fit_units(recording, bin_s, args, reach)
        else:
            fit, report = _fit_lattice(recording, bin_s, args, reach)
    notes = [*getattr(recording, "notes", ()), *describe(report), *_messages(caught)]
    save_fit(fit, args.output, args.overwrite, {"recording": str(args.recording), "notes": notes})
    return fit, notes


def _fit_lattice(recording, bin_s, args, reach):
    field, report = lattice_field(recording, bin_s, args.pitch)
    if args.model == "independent":
        return fit_independent(field, test=args.test), report
    return fit_lattice(field, reach=reach, diagonals=args.diagonals, test=args.test), report


def _fit_units(recording, bin_s, args, reach):
    raster = recording if isinstance(recording, Raster) else recording.bin(bin_s)
    options = {"test": args.test, "ridge": args.ridge, "bin_s": raster.bin_s, "unit": raster.unit}
    if args.model == "pairwise":
        return fit_pairwise([raster.values], **options), raster.report
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
    units = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            units.extend(range(int(first), int(last) + 1) if dash else [int(first)])
        except ValueError:
            raise InputError(f"--units {text!r}: valid is a list such as 0,3,10-20") from None
    if isinstance(recording, Raster):
        wrong = [u for u in units if not 0 <= u < recording.n_units]
        if wrong:
            raise InputError(f"--units: unit {wrong[0]} is not in 0..{recording.n_units - 1}")
        positions = None if recording.positions_um is None else recording.positions_um[units]
        return Raster(recording.values[:, units], recording.bin_s, positions, recording.unit[units])
    return recording.select(units)


def parse_reach(text):
    """(space, time) of ``1,1``."""
    try:
        space, time = (int(part) for part in text.split(","))
    except ValueError:
        space = time = -1
    if min(space, time) < 0:
        raise InputError(f"--reach {text!r}: valid is SPACE,TIME, two integers >= 0, such as 1,2")
    return space, time


def describe(report):
    """What binning did, as lines worth printing."""
    lines = []
    if report.clipped:
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
        lines.append(f"{len(silent)} units never fire: {', '.join(map(str, silent[:10]))}{' ...' if silent[10:] else ''}")
    return lines
