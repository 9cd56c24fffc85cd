"""Fits by maximum pseudo-likelihood: models on a lattice, and models of arbitrary units."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from lft.archive import on_root
from lft.commands.recordings import lattice_field, parse_reach
from lft.errors import InputError
from lft.inference.lattice_fit import fit_independent, fit_lattice
from lft.inference.likelihood.counts import continue_potential
from lft.inference.likelihood.joint import second_state
from lft.inference.likelihood.model import from_fit
from lft.inference.pseudo.fit import fit_gibbs
from lft.inference.pseudo.low_rank import fit_low_rank
from lft.inference.raster import Raster


def fit_lattice_model(recording, bin_s, args):
    """``independent`` and ``lattice``."""
    reach = parse_reach(args.reach, args.diagonals)
    if args.model == "independent":
        return _fit_independent(recording, bin_s, args)
    field, report = lattice_field(recording, bin_s, args.pitch)
    return fit_lattice(field, reach=reach, diagonals=args.diagonals, test=args.test), report


def _fit_independent(recording, bin_s, args):
    """On the lattice of the units where they stand on one, else unit by unit."""
    warnings = []
    if recording.positions_um is not None:
        try:
            field, report = lattice_field(recording, bin_s, args.pitch)
            return fit_independent(field, test=args.test), report
        except InputError as error:
            if args.pitch is not None:
                raise
            warnings = [f"fields are listed by unit, as the positions stand on no lattice ({error})"]
    raster = recording if isinstance(recording, Raster) else recording.bin(bin_s)
    fit = fit_independent([raster.values], test=args.test)
    fit.warnings.extend(warnings)
    return fit, raster.report


def fit_unit_model(recording, bin_s, args, comm=None):
    """``pairwise``, ``neural``, ``k-pairwise`` and ``lagged``; ranks share the units.

    TIME of ``--reach`` is the longest lag of ``neural`` and ``lagged``.  The search is kept in ``OUTPUT.search``, the
    error stage of a large fit in ``OUTPUT.search.N``: the same command goes on after a kill, and they go when the fit
    is done.  ``--rank R``: pairwise couplings of that rank, by rank 0 alone.
    """
    _check_rank(args)
    time_reach = parse_reach(args.reach, args.diagonals)[1]
    held = []
    on_root(comm, lambda: held.append(binned_raster(recording, bin_s, args.model, args.reach, time_reach)))
    raster = held.pop() if held else None
    bin_s, unit = on_root(comm, lambda: (raster.bin_s, raster.unit))
    if getattr(args, "rank", None) is not None:
        options = {"test": args.test, "bin_s": bin_s, "unit": unit}
        fit = on_root(comm, lambda: fit_low_rank([raster.values], args.rank, **options))
    else:
        fit = _fit_gibbs(raster, args, time_reach, bin_s, unit, comm)
    on_root(comm, lambda: _look_at_joint(fit, raster))
    return fit, None if raster is None else raster.report


fit_unit_model.is_parallel = True


def _fit_gibbs(raster, args, time_reach, bin_s, unit, comm):
    return fit_gibbs(
        args.model,
        None if raster is None else [raster.values],
        lags=tuple(range(1, time_reach + 1)) if args.model == "neural" else (),
        k_max=time_reach if args.model == "lagged" else 0,
        is_counted=args.model == "k-pairwise",
        test=args.test,
        ridge=args.ridge,
        bin_s=bin_s,
        unit=unit,
        comm=comm,
        checkpoint=Path(f"{args.output}.search"),
        report=Progress(),
        penalize=getattr(args, "penalize", None),
        examine=getattr(args, "examine", None),
    )


def _check_rank(args):
    rank = getattr(args, "rank", None)
    if rank is None:
        return
    for name in ("ridge", "penalty", "bootstrap", "posterior"):
        if getattr(args, name, None):
            raise InputError(f"--rank {rank}: not together with --{name}; the rank is the constraint")


def _look_at_joint(fit, raster):
    """What the pseudo-likelihood leaves open of the joint distribution: V beyond all counts, and a second state."""
    if fit.model == "k-pairwise":
        continue_potential(fit, *([part] for part in np.split(raster.values, [fit.n_train])))
    rate = float(raster.values[: fit.n_train].sum(axis=1, dtype=float).mean())
    found = second_state(from_fit(fit), rate)
    fit.warnings = [*fit.warnings, *([found] if found else [])]


def binned_raster(recording, bin_s, model, reach, time_reach):
    """The raster of a recording, of more bins than the longest lag."""
    raster = recording if isinstance(recording, Raster) else recording.bin(bin_s)
    if model in ("neural", "lagged") and time_reach >= raster.n_bins:
        raise InputError(f"--reach {reach!r}: TIME must stay below the {raster.n_bins} bins")
    if model == "lagged" and not time_reach:
        raise InputError(f"--reach {reach!r}: the model lagged needs a TIME of at least 1 bin")
    return raster


class Progress:
    """Lines on standard error, once a fit has taken some seconds."""

    def __init__(self, after_s=5.0):
        self.shown_at, self.held = time.monotonic() + after_s, []

    def __call__(self, line):
        self.held.append(line)
        if time.monotonic() >= self.shown_at:
            print(*(f"lft fit: {text}" for text in self.held), sep="\n", file=sys.stderr, flush=True)
            self.held = []
