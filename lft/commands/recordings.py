"""What the commands share about recordings: opening them, the units and the window asked for, what binning did."""

from __future__ import annotations

import dataclasses

from lft.errors import InputError
from lft.inference.raster import Raster
from lft.inference.recording import read_recording
from lft.units import parse_quantity


def open_recording(path, bin_text, window=None):
    """(recording or raster, bin width in s or None) from a path and the text of ``--bin`` and ``--window``."""
    bin_s = None if bin_text is None else parse_quantity(bin_text, "time", "--bin").si
    recording = read_recording(path, bin_s)
    if window is not None:
        recording = _window(recording, window)
    if not isinstance(recording, Raster) and bin_s is None:
        raise InputError(f'{path}: holds spike times, so a bin width is needed: give --bin, such as --bin "20 ms"')
    return recording, bin_s


def window_of(text):
    """(start, stop) in seconds of ``100,400``."""
    try:
        start, stop = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--window {text!r}: valid is START,STOP in seconds, such as 100,400") from None
    return start, stop


def _window(recording, text):
    start, stop = window_of(text)
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
