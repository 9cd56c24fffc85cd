"""Fits by maximum pseudo-likelihood: models on a lattice, and models of arbitrary units."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from lft.archive import on_root
from lft.commands.fit_inputs import cut, make_inputs, read_events
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

    TIME of ``--reach`` is the longest lag of ``neural`` and ``lagged``; inputs and trials:
    :mod:`lft.commands.fit_inputs`.  The search is kept in ``OUTPUT.search``, the error stage of a large fit in
    ``OUTPUT.search.N``: the same command goes on after a kill, and they go when the fit is done.  ``--rank R``:
    pairwise couplings of that rank, by rank 0 alone.
    """
    _check_rank(args)
    time_reach = parse_reach(args.reach, args.diagonals)[1]
    held = []
    bin_s, unit, inputs = on_root(comm, _prepared, recording, bin_s, args, time_reach, held)
    rasters, report = held.pop() if held else (None, None)
    if getattr(args, "rank", None) is not None:
        options = {"test": args.test, "bin_s": bin_s, "unit": unit}
        fit = on_root(comm, lambda: fit_low_rank(rasters, args.rank, **options))
    else:
        fit = _fit_gibbs(rasters, args, time_reach, bin_s, unit, inputs, comm)
    on_root(comm, lambda: _look_at_joint(fit, rasters))
    return fit, report


fit_unit_model.is_parallel = True


def _prepared(recording, bin_s, args, time_reach, held):
    """Bin width, units and inputs for every rank; rasters and report go to ``held`` of rank 0."""
    if getattr(args, "trials", None) is None and not getattr(args, "input", None):
        raster = binned_raster(recording, bin_s, args.model, args.reach, time_reach)
        held.append(([raster.values], raster.report))
        return raster.bin_s, raster.unit, None
    rasters, bin_s, report, events = cut(recording, bin_s, args, read_events(args, recording), False)
    check_reach(args.model, args.reach, time_reach, max(len(r) for r in rasters))
    held.append((rasters, report))
    return bin_s, report.unit, make_inputs(args, events, [len(r) for r in rasters], bin_s)


def _fit_gibbs(rasters, args, time_reach, bin_s, unit, inputs, comm):
    return fit_gibbs(
        args.model,
        rasters,
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
        inputs=inputs,
    )


def _check_rank(args):
    rank = getattr(args, "rank", None)
    if rank is None:
        return
    for name in ("ridge", "penalty", "bootstrap", "posterior", "input"):
        if getattr(args, name, None):
            raise InputError(f"--rank {rank}: not together with --{name}; the rank is the constraint")


def _look_at_joint(fit, rasters):
    """What the pseudo-likelihood leaves open of the joint distribution: V beyond all counts, and a second state.

    Inputs count by their mean over the training bins.
    """
    raster = rasters[0] if len(rasters) == 1 else np.concatenate(rasters)
    if fit.model == "k-pairwise":
        continue_potential(fit, *([part] for part in np.split(raster, [fit.n_train])))
    rate = float(raster[: fit.n_train].sum(axis=1, dtype=float).mean())
    found = second_state(from_fit(fit.with_mean_input()), rate)
    fit.warnings = [*fit.warnings, *([found] if found else [])]


def binned_raster(recording, bin_s, model, reach, time_reach):
    """The raster of a recording, of more bins than the longest lag."""
    raster = recording if isinstance(recording, Raster) else recording.bin(bin_s)
    check_reach(model, reach, time_reach, raster.n_bins)
    return raster


def check_reach(model, reach, time_reach, n_bins):
    """InputError where the longest lag does not fit into so many bins."""
    if model in ("neural", "lagged") and time_reach >= n_bins:
        raise InputError(f"--reach {reach!r}: TIME must stay below the {n_bins} bins")
    if model == "lagged" and not time_reach:
        raise InputError(f"--reach {reach!r}: the model lagged needs a TIME of at least 1 bin")


class Progress:
    """Lines on standard error, once a fit has taken some seconds."""

    def __init__(self, after_s=5.0):
        self.shown_at, self.held = time.monotonic() + after_s, []

    def __call__(self, line):
        self.held.append(line)
        if time.monotonic() >= self.shown_at:
            print(*(f"lft fit: {text}" for text in self.held), sep="\n", file=sys.stderr, flush=True)
            self.held = []
