"""``lft flow --method prg``: phenomenological renormalization of a recording, beside its nulls."""

from __future__ import annotations

import sys
import warnings

from lft.commands.configurations import is_archive
from lft.commands.recordings import describe, open_recording, select_units
from lft.errors import DataWarning, InputError
from lft.inference.raster import Raster
from lft.rg.phenomenological import report as report
from lft.rg.phenomenological.nulls import analyse
from lft.rg.phenomenological.surrogates import NULLS
from lft.units import parse_quantity

PAIRINGS = {"held-out": {}, "same": {"held_out": False}, "normalized": {"held_out": False, "normalize": True}}


def compute(args):
    """The analysis that the command line asks for; returns (flow, notes)."""
    if is_archive(args.source):
        raise InputError(f"{args.source}: --method prg takes a recording, this is an archive")
    if args.blocking is not None:
        raise InputError(f"--blocking {args.blocking}: not with --method prg, which adds the activity of pairs up")
    options, widths = _options(args), _widths(args.bins)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        recording, bin_s = open_recording(args.source, args.bin, args.window)
        if args.units is not None:
            recording = select_units(recording, args.units)
        rasters = [_raster(recording, bin_s)]
        rasters += [_raster(recording, w) for w in widths if w != rasters[0].bin_s]
    notes = [*getattr(recording, "notes", ()), *describe(rasters[0].report),
             *(str(w.message) for w in caught if issubclass(w.category, DataWarning))]
    analyses = []
    for n, raster in enumerate(rasters):
        text = f"{raster.bin_s * 1e3:g} ms"
        a = analyse(raster.values, raster.bin_s, progress=_progress(text), has_momentum=n == 0, **options)
        prefix = f"bins of {text}: " if len(rasters) > 1 else ""
        notes += [prefix + note for note in a.notes]
        analyses.append(a)
    return report.PhenomenologicalFlow(analyses, notes), notes


def save(result, path):
    """Write FLOW.h5."""
    report.save(result, path)


def plot(result, path):
    """Draw all scalings beside those of the nulls."""
    from lft.plotting import plot_phenomenological

    plot_phenomenological(result, path)


def _options(args):
    nulls = tuple(NULLS) if args.nulls is None else tuple(n.strip() for n in args.nulls.split(",") if n.strip())
    wrong = [n for n in nulls if n not in NULLS]
    if wrong or not nulls:
        raise InputError(f"--nulls {args.nulls!r}: valid is a list of {', '.join(NULLS)}")
    surrogates = 19 if args.surrogates is None else args.surrogates
    if surrogates < 0:
        raise InputError(f"--surrogates {surrogates}: valid is an integer >= 0 (19 or more show a difference at 5 %)")
    pairing = args.pairing or "held-out"
    if pairing not in PAIRINGS:
        raise InputError(f"--pairing {pairing!r}: valid are {', '.join(PAIRINGS)}")
    if args.blocks is not None and (args.blocks < 4 or args.blocks % 2):
        raise InputError(f"--blocks {args.blocks}: valid is an even integer >= 4")
    if not 0 <= args.seed < 2**64:
        raise InputError(f"--seed {args.seed}: valid is an integer from 0 to 2^64 - 1")
    return {"nulls": nulls, "n_surrogates": surrogates, "n_blocks": args.blocks, "seed": args.seed,
            **PAIRINGS[pairing]}


def _widths(text):
    if text is None:
        return []
    return [parse_quantity(part, "time", "--bins").si for part in text.split(",")]


def _raster(recording, bin_s):
    if not isinstance(recording, Raster):
        return recording.bin(bin_s)
    return recording if bin_s is None or abs(bin_s / recording.bin_s - 1) < 1e-9 else recording.coarsen(bin_s)


def _progress(text):
    return lambda line: print(f"bins of {text}: {line}", file=sys.stderr)
