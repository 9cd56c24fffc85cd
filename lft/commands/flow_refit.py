"""``lft flow --method refit``: block, fit again, level by level."""

from __future__ import annotations

import math
import warnings

import numpy as np

from lft.archive import Archive
from lft.commands.configurations import (
    axis_groups,
    checked_blocking,
    is_archive,
    is_config,
    open_configurations,
    operators_of,
    parse_factor,
)
from lft.commands.recordings import describe, lattice_field, open_recording, parse_reach
from lft.errors import DataWarning, InputError
from lft.field import Field
from lft.geometry import Lattice
from lft.inference.lattice_fit import fit_lattice
from lft.rg.blocking import BLOCKINGS
from lft.rg.flow import flow, save_flow
from lft.rg.monte_carlo.operator_flow import operator_flow
from lft.rg.monte_carlo.operators import operator_set


def compute(args):
    """The flow that the command line asks for; returns (flow, notes)."""
    if args.blocking is not None and args.blocking not in BLOCKINGS:
        raise InputError(f"--blocking {args.blocking!r}: valid are {', '.join(BLOCKINGS)}")
    if args.levels < 0:
        raise InputError(f"--levels {args.levels}: valid is an integer >= 0")
    if args.operators or is_config(args.source):
        return _in_operators(args)
    if args.estimator != "pseudo":
        raise InputError(f"--estimator {args.estimator}: only with --operators, a space in which it can be simulated")
    factor, reach = parse_factor(args.factor), parse_reach(args.reach, args.diagonals)
    if is_archive(args.source):
        fields, site_field, notes, default = *archive_fields(args.source), "majority"
    else:
        fields, site_field, notes, default = *recording_fields(args), "or"
    blocking = args.blocking or default
    if blocking == "average":
        raise InputError("--blocking average: makes real fields, which refit cannot fit; valid are or, majority, "
                         "decimation, k-of-n")
    _check_k(blocking, args.k, factor, fields[0].geometry)
    if args.blocking is None:
        source = "an archive" if default == "majority" else "a recording"
        notes.append(f"blocking: {blocking} (the default for {source})")

    def fit(fields):
        result = fit_lattice(fields, reach=reach, diagonals=args.diagonals, site_field=site_field, test=0.0)
        couplings = dict(result.couplings)
        couplings.setdefault("h", result.h_mean)
        return couplings

    def truncation(fields):
        return _wider(fields, reach, args.diagonals, site_field)

    result = flow(fields, fit, blocking=blocking, factor=factor, levels=args.levels, k=args.k,
                  truncation=truncation if args.truncation else None)  # fmt: skip
    result.notes[:0] = notes
    return result, result.notes


def _wider(fields, reach, diagonals, site_field):
    """Truncation by a second fit: with the diagonals, or where they are in, one step further in space and time.

    Couplings of the displacements that the space leaves out, and the gain in pseudo-log-likelihood, nats per bin and
    unit.  The gain of a larger space is never negative: 1/(2 bins units) per coupling is what chance gives.
    """
    options = {"site_field": site_field, "test": 0.0, "bias_correction": False}
    narrow = fit_lattice(fields, reach=reach, diagonals=diagonals, **options)
    further = tuple(r + 1 for r in reach) if diagonals else reach
    wide = fit_lattice(fields, reach=further, diagonals=True, **options)
    added = {n: pair for n, pair in wide.couplings.items() if n not in narrow.couplings}
    return {
        "outside": {n: {"value": v, "error": e} for n, (v, e) in added.items()},
        "gain": wide.score["train"] - narrow.score["train"],
    }


def _in_operators(args):
    """The flow in a space of operators (``--operators``, default 4,0), with truncation by level."""
    source = open_configurations(args.source, "refit --operators")
    if args.truncation:
        raise InputError("--truncation: with --operators it is always reported")
    args.operators = args.operators or ("4,1" if np.any(source.action.couplings.get("h", 0.0)) else "4,0")
    operators, notes = operators_of(args, source)
    evens = sum(o.is_even for o in operators)
    n_axes = len(source.lattice.shape)
    more = operator_set(n_axes, evens + (3 if n_axes > 1 else 1), 1, axis_groups(args, source))
    result = operator_flow(
        source.batches(), source.n, source.lattice, operators, more, blocking=checked_blocking(args, least=0),
        factor=parse_factor(args.factor), levels=args.levels, k=args.k, seed=source.seed, estimator=args.estimator,
    )  # fmt: skip
    result.notes[:0] = notes
    return result, result.notes


def save(result, path):
    """Write FLOW.h5."""
    save_flow(result, path)


def plot(result, path):
    """Draw the couplings against the scale."""
    from lft.plotting import plot_flow

    plot_flow(result, path)


def _check_k(blocking, k, factor, geometry):
    if blocking != "k-of-n":
        if k is not None:
            raise InputError(f"--k {k}: only with --blocking k-of-n, this one is {blocking}")
        return
    n = factor ** len(geometry.shape) if isinstance(factor, int) else math.prod(factor)
    if k is None or not 1 <= k <= n:
        given = "--k is missing" if k is None else f"--k {k}"
        raise InputError(f"{given}: k-of-n takes an integer from 1 to {n}, the sites of a block")


def archive_fields(path):
    """(fields, whether sites have fields of their own, notes) of an archive's saved configurations."""
    with Archive(path) as archive:
        if not isinstance(archive.geometry, Lattice):
            raise InputError(f"{path}: a graph has no blocks in space; valid is an archive on a lattice")
        if archive.kind != "spin":
            what = f"action {archive.action.name!r} has a {archive.kind} field"
            raise InputError(f"{path}: {what}; refit takes spin fields")
        notes, n = [], archive.n_configurations
        if n:
            arrays = [archive.configuration(k) for k in range(n)]
        else:
            arrays = [archive.last()]
            notes.append(f"{path}: holds no saved configurations (save_every = 0): only the last one is used")
        site_field = bool(np.ndim(archive.action.couplings["h"]))
        return [Field.from_array(archive.geometry, "spin", a) for a in arrays], site_field, notes


def recording_fields(args):
    """The same of a recording, as options of the command line describe it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        recording, bin_s = open_recording(args.source, args.bin)
        field, report = lattice_field(recording, bin_s, args.pitch)
    messages = [str(w.message) for w in caught if issubclass(w.category, DataWarning)]
    return [field], True, [*getattr(recording, "notes", ()), *describe(report), *messages]
