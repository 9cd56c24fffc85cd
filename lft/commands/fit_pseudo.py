"""Fits by maximum pseudo-likelihood: models on a lattice, and models of arbitrary units."""

from __future__ import annotations

from lft.commands.recordings import lattice_field, parse_reach
from lft.errors import InputError
from lft.inference.lattice_fit import fit_independent, fit_lattice
from lft.inference.neural_fit import fit_neural, fit_pairwise
from lft.inference.raster import Raster


def fit_lattice_model(recording, bin_s, args):
    """``independent`` and ``lattice``."""
    reach = parse_reach(args.reach, args.diagonals)
    if args.model == "independent" and recording.positions_um is None:
        raster = recording if isinstance(recording, Raster) else recording.bin(bin_s)
        return fit_independent([raster.values], test=args.test), raster.report
    field, report = lattice_field(recording, bin_s, args.pitch)
    if args.model == "independent":
        return fit_independent(field, test=args.test), report
    return fit_lattice(field, reach=reach, diagonals=args.diagonals, test=args.test), report


def fit_unit_model(recording, bin_s, args):
    """``pairwise`` and ``neural``."""
    reach = parse_reach(args.reach, args.diagonals)
    raster = recording if isinstance(recording, Raster) else recording.bin(bin_s)
    options = {"test": args.test, "ridge": args.ridge, "bin_s": raster.bin_s, "unit": raster.unit,
               "penalize": getattr(args, "penalize", None), "examine": getattr(args, "examine", None)}  # fmt: skip
    if args.model == "pairwise":
        return fit_pairwise([raster.values], **options), raster.report
    if reach[1] >= raster.n_bins:
        raise InputError(f"--reach {args.reach!r}: TIME must stay below the {raster.n_bins} bins")
    return fit_neural([raster.values], lags=tuple(range(1, reach[1] + 1)), **options), raster.report
