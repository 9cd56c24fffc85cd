"""``lft flow --to-spacing --to-bin``: the finer lattice behind a recording, an archive or a fit."""

from __future__ import annotations

import math
import sys

import numpy as np

from lft.commands.configurations import is_archive
from lft.commands.flow_refit import archive_fields, recording_fields
from lft.commands.recordings import parse_reach
from lft.errors import DivergenceError, InputError
from lft.geometry import TIME
from lft.inference.lattice_estimator import lattice_estimator
from lft.inference.lattice_fit import fit_lattice
from lft.inference.result import SCHEMA as FIT_SCHEMA
from lft.inference.result import coupling_name, load_fit
from lft.rg.flow import observe
from lft.rg.inverse.ensemble import RULES, Observation
from lft.rg.inverse.match import Target, inverse_map
from lft.rg.inverse.report import report, save_inverse
from lft.rg.variables import steps

HETEROGENEITY = 3.0
"""Spread of the site fields, in units of their mean error, above which one field for all is worth a note."""


def compute(args):
    """The inverse map that the command line asks for; returns (flow, notes)."""
    _check_options(args)
    target, displacements, lattice, observables, notes, default = _target(args)
    factor = _factors(args, lattice)
    blocking = _blocking(args, factor, lattice, default, notes)
    from_archive = default == "decimation"
    surround = args.surround if args.surround is not None else (0 if from_archive else 2)
    observation = Observation(lattice, factor, blocking, args.k, surround=surround)
    if surround == 0 and "open" in [b for b, a in zip(lattice.boundary, lattice.axes, strict=True) if a != TIME]:
        notes.append("the tissue is taken to end with the array (surround 0)")
    result = inverse_map(
        target, observation, lattice_estimator(displacements, target.values), n_configurations=args.configurations,
        progress=_say,
    )  # fmt: skip
    flow = report(result, observables, notes)
    return flow, flow.notes


def _say(line):
    """Stages always, the steps between them (lines that begin with blanks) where somebody watches."""
    if sys.stderr.isatty() or not line.startswith(" "):
        print(line, file=sys.stderr, flush=True)


def save(result, path):
    """Write FLOW.h5."""
    save_inverse(result, path)


def plot(result, path):
    """Draw the match and the couplings of the fine lattice."""
    from lft.plotting import plot_inverse

    plot_inverse(result, path)


def _check_options(args):
    if args.to_spacing is None and args.to_bin is None:
        valid = "--to-spacing, --to-bin or both, such as --to-spacing 50um --to-bin 1ms"
        raise InputError(f"--method inverse: needs {valid}")
    for name, value, default in (("--factor", args.factor, "2"), ("--levels", args.levels, 3)):
        if value != default:
            raise InputError(f"{name} {value}: not with --to-spacing or --to-bin, which say how fine the lattice is")
    if args.blocking is not None and args.blocking not in RULES:
        raise InputError(f"--blocking {args.blocking!r}: with --to-bin valid are {', '.join(RULES)}")
    if args.surround is not None and args.surround < 0:
        raise InputError(f"--surround {args.surround}: valid is an integer >= 0")
    if args.configurations is not None and args.configurations < 40:
        raise InputError(f"--configurations {args.configurations}: valid is an integer >= 40")


# ---- how much finer
def _factors(args, lattice):
    if lattice.spacing is None:
        raise InputError(f"{args.source}: has no physical spacing, so --to-spacing and --to-bin mean nothing; valid "
                         "is a source with positions in um and a bin width")  # fmt: skip
    if args.to_bin is not None and lattice.time_axis is None:
        raise InputError(f"--to-bin {args.to_bin}: {args.source} has no time axis")
    if args.to_spacing is not None and not lattice.space_axes:
        raise InputError(f"--to-spacing {args.to_spacing}: {args.source} has no spatial axis")
    out = []
    for axis in lattice.axes:
        text = args.to_bin if axis == TIME else args.to_spacing
        if text is None:
            out.append(1)
        elif axis == TIME:
            out.append(steps(str(lattice.quantity(axis)), text, "--to-bin", "time"))
        else:
            out.append(steps(str(lattice.quantity(axis)), text, "--to-spacing", "length"))
    if max(out) == 1:
        raise InputError(f"--to-spacing {args.to_spacing}, --to-bin {args.to_bin}: the lattice of {args.source} is no "
                         f"coarser ({', '.join(lattice.spacing)}); nothing is to be found")  # fmt: skip
    return tuple(out)


def _blocking(args, factor, lattice, default, notes):
    n_bins = factor[lattice.time_axis] if lattice.time_axis is not None else 1
    if args.blocking == "k-of-n":
        if args.k is None or not 1 <= args.k <= n_bins:
            given = "--k is missing" if args.k is None else f"--k {args.k}"
            raise InputError(f"{given}: k-of-n takes an integer from 1 to {n_bins}, the time steps of a bin")
        return args.blocking
    if args.k is not None:
        raise InputError(f"--k {args.k}: only with --blocking k-of-n")
    if args.blocking is None and n_bins > 1:
        source = "an archive" if default == "decimation" else "bins"
        notes.append(f"blocking of time: {default} (the default for {source}); in space electrodes sample sites")
    return args.blocking or default


# ---- couplings at the electrode scale
def _target(args):
    """(target, displacements, lattice, observables, notes, default rule) of the source."""
    if _is_fit(args.source):
        return (*_of_fit(args.source), "or")
    if is_archive(args.source):
        fields, site_field, notes, default = *archive_fields(args.source), "decimation"
    else:
        fields, site_field, notes, default = *recording_fields(args), "or"
    _factors(args, fields[0].geometry)  # complains before anything is fitted
    fit = _fit(fields, args, site_field, notes)
    lattice = fields[0].geometry
    names = (*map(coupling_name, fit.displacements), "h")
    values = [*(fit.couplings[n][0] for n in names[:-1]), fit.h_mean[0]]
    n_sites = fit.n_units * fit.n_train
    notes += [*fit.warnings, *_heterogeneity(fit.h, fit.h_error)]
    target = Target(names, values, fit.joint_covariance, n_sites, fit.n_blocks)
    return target, fit.displacements, lattice, observe(fields), notes, default


def _fit(fields, args, site_field, notes):
    """The fit; diagonals are added to the default reach, since decimated couplings reach farther than fine ones."""
    reach = parse_reach(args.reach, args.diagonals)
    widened = not args.diagonals and args.reach == "1,1" and len(fields[0].geometry.shape) > 1
    if widened:
        try:
            return fit_lattice(fields, reach=reach, diagonals=True, site_field=site_field, test=0.0)
        except (InputError, DivergenceError) as reason:
            notes.append(f"fitted without diagonals: {reason}")
    if len(fields[0].geometry.shape) == 1 and args.reach == "1,1":
        reach = (3, 3)
    return fit_lattice(fields, reach=reach, diagonals=args.diagonals, site_field=site_field, test=0.0)


def _heterogeneity(h, h_error):
    spread, error = float(np.nanstd(h)), float(np.sqrt(np.nanmean(np.square(h_error)))) if h.size > 1 else math.nan
    if h.size > 1 and np.isfinite(h_error).any() and spread > HETEROGENEITY * error and spread > 0.05:
        return [f"the fields of the sites differ (standard deviation {spread:.2f}, mean error {error:.2f}): the fine "
                "lattice has one field for all, matched to their mean"]  # fmt: skip
    return []


def _is_fit(path):
    try:
        with open(path, "rb") as file:
            if file.read(8) != b"\x89HDF\r\n\x1a\n":
                return False
    except OSError:
        return False
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("schema") == FIT_SCHEMA
    except (OSError, KeyError, RuntimeError):
        return False


def _of_fit(path):
    fit = load_fit(path)
    if fit.model != "lattice":
        raise InputError(f"{path}: a fit of model {fit.model!r}; the inverse map starts from model 'lattice'")
    lattice, notes = fit.lattice, list(fit.json["warnings"])
    displacements = tuple(tuple(int(x) for x in d) for d in fit["displacements"])
    if "joint_covariance" in fit:
        covariance, h = fit["joint_covariance"], float(fit["h_mean"][0])
    else:
        n = np.isfinite(fit["h_error"]).sum()
        covariance = np.zeros((len(displacements) + 1,) * 2)
        covariance[:-1, :-1] = fit["K_covariance"]
        covariance[-1, -1] = np.nansum(np.square(fit["h_error"])) / n**2
        h = float(np.nanmean(fit["h"]))
        notes.append(f"{path}: an older fit without the correlation of K and h, which is taken as 0; fit again")
    notes += _heterogeneity(fit["h"], fit["h_error"])
    names = (*map(coupling_name, displacements), "h")
    n_sites = fit.json["n_units"] * fit.json["n_train"]
    target = Target(names, [*fit["K"], h], covariance, n_sites, fit.json["n_blocks"])
    return target, displacements, lattice, {}, notes
