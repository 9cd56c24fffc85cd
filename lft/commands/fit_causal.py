"""``lft fit --model kinetic | glm | gaussian``: causal models, inputs, trials, and the Gaussian field.

The methods ``pseudo`` (default) and ``exact`` are one here: given the past, units are independent, so that the
pseudo-likelihood is the likelihood, and that of a Gaussian field is known in closed form.

================================  ==================================================================================
``--lags N``                      longest lag in bins, one weight per lag (default 1; gaussian: 0)
``--basis NAME:N:DURATION``       glm: N functions up to that lag instead: raised-cosine, bspline, exponential
``--own-basis NAME:N:DURATION``   glm: of the own history; ``none`` leaves it out (kinetic too)
``--family``, ``--link``          glm: bernoulli (default) or poisson; logit (default) or cloglog
``--refractory DURATION``         glm: no spike within this time of a unit's last one
================================  ==================================================================================

Inputs and trials: :mod:`lft.commands.fit_inputs`.
"""

from __future__ import annotations

import numpy as np

from lft.archive import on_root
from lft.commands.fit_inputs import cut, make_inputs, read_events
from lft.errors import InputError
from lft.inference.basis import make_basis
from lft.inference.causal.fit import fit_glm, fit_kinetic
from lft.inference.causal.gaussian import fit_gaussian
from lft.units import parse_quantity


def fit_causal_model(recording, bin_s, args, comm=None):
    """``kinetic`` and ``glm``; ranks share the targets."""
    held = []
    packed, inputs, bin_s, unit = on_root(comm, _prepared, recording, bin_s, args, held)
    report = held.pop() if held else None
    options = {
        "inputs": inputs, "test": args.test, "ridge": args.ridge, "bin_s": bin_s, "unit": unit, "comm": comm,
        "penalize": getattr(args, "penalize", None), "examine": getattr(args, "examine", None),
    }  # fmt: skip
    rasters = [_unpacked(*part) for part in packed]
    lags = _positive("--lags", 1 if args.lags is None else args.lags)
    if args.model == "kinetic":
        fit = fit_kinetic(rasters, n_lags=lags, own=args.own_basis is None, **options)
    else:
        basis = make_basis("identity", lags, lags) if args.basis is None else parse_basis("--basis", args.basis, bin_s)
        own = "same"
        if args.own_basis is not None:
            own = None if args.own_basis == "none" else parse_basis("--own-basis", args.own_basis, bin_s)
        refractory = 0 if args.refractory is None else bins_of("--refractory", args.refractory, bin_s)
        family = args.family or "bernoulli"
        more = {"family": family, "link": args.link, "basis": basis, "own_basis": own, "refractory": refractory}
        fit = fit_glm(rasters, **more, **options)
    fit.method = args.method
    return fit, report


fit_causal_model.is_parallel = True


def _prepared(recording, bin_s, args, held):
    """What every rank needs (packed rasters, inputs, bin width, units); the report goes to ``held`` of rank 0."""
    if args.model == "kinetic":
        if args.own_basis not in (None, "none"):
            raise InputError(f"--own-basis {args.own_basis!r}: valid for --model kinetic is none")
    if args.basis is not None and args.lags is not None:
        raise InputError("--lags: not together with --basis, which has its own duration")
    events = read_events(args, recording)
    is_counts = args.family == "poisson"
    rasters, bin_s, report, trial_events = cut(recording, bin_s, args, events, is_counts)
    held.append(report)
    packed = [(r if is_counts else np.packbits(r), r.shape) for r in rasters]
    return packed, make_inputs(args, trial_events, [len(r) for r in rasters], bin_s), bin_s, report.unit


def _unpacked(values, shape):
    if values.ndim == 2:
        return values
    return np.unpackbits(values, count=shape[0] * shape[1]).reshape(shape).view(np.int8)


def fit_gaussian_model(recording, bin_s, args):
    """``gaussian``: counts per bin, each unit minus its mean and over its standard deviation."""
    events = read_events(args, recording)
    rasters, bin_s, report, _ = cut(recording, bin_s, args, events, True)
    fit = fit_gaussian(rasters, n_lags=args.lags or 0, standardize=True, test=args.test, ridge=args.ridge, bin_s=bin_s,
                       unit=report.unit)  # fmt: skip
    fit.method = args.method
    return fit, report


def _positive(name, value):
    if value < 1:
        raise InputError(f"{name} {value}: valid is an integer >= 1")
    return value


# ---- bases
def bins_of(option, text, bin_s):
    """A duration in bins, which it must fill."""
    seconds = parse_quantity(text, "time", option).si
    n = round(seconds / bin_s)
    if n < 1 or abs(n * bin_s - seconds) > 1e-6 * seconds:
        raise InputError(f"{option} {text!r}: valid is a multiple of the bin width, {bin_s:g} s")
    return n


def parse_basis(option, text, bin_s):
    """A basis from ``NAME:N:DURATION``."""
    parts = text.split(":")
    if len(parts) != 3 or not parts[1].isdecimal():
        raise InputError(f'{option} {text!r}: valid is NAME:N:DURATION, such as "raised-cosine:5:100 ms"')
    return make_basis(parts[0], int(parts[1]), bins_of(option, parts[2], bin_s))
