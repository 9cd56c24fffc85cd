"""``lft fit``: couplings of a recording, by one of several models and methods.

A fitter is a function ``(recording or raster, bin width in s or None, args) -> (fit, report of the binning)``; a fit is
what :mod:`lft.inference.result` describes.  A pair (model, method) is served by the fitter that :data:`FITTERS` names.
Under ``mpirun`` rank 0 alone calls it, unless it has the attribute ``is_parallel``: then all ranks do, with the
communicator as fourth argument, and None for the recording on the others.
"""

from __future__ import annotations

import math
import warnings
from importlib import import_module

from lft.archive import check_output, explain, on_root
from lft.commands.fit_check import binned, check_arguments, compare_models, compared, judge, options, wants
from lft.commands.fit_options import check_options
from lft.commands.fit_penalty import Plan, refuse_with_compare
from lft.commands.recordings import describe, open_recording, select_units
from lft.errors import DataWarning, InputError, LftError
from lft.inference.result import save_fit

FITTERS = {
    ("independent", "pseudo"): "lft.commands.fit_pseudo:fit_lattice_model",
    ("lattice", "pseudo"): "lft.commands.fit_pseudo:fit_lattice_model",
    ("neural", "pseudo"): "lft.commands.fit_pseudo:fit_unit_model",
    ("pairwise", "pseudo"): "lft.commands.fit_pseudo:fit_unit_model",
    ("k-pairwise", "pseudo"): "lft.commands.fit_pseudo:fit_unit_model",
    ("lagged", "pseudo"): "lft.commands.fit_pseudo:fit_unit_model",
    ("kinetic", "pseudo"): "lft.commands.fit_causal:fit_causal_model",
    ("kinetic", "exact"): "lft.commands.fit_causal:fit_causal_model",
    ("glm", "pseudo"): "lft.commands.fit_causal:fit_causal_model",
    ("glm", "exact"): "lft.commands.fit_causal:fit_causal_model",
    ("gaussian", "pseudo"): "lft.commands.fit_causal:fit_gaussian_model",
    ("gaussian", "exact"): "lft.commands.fit_causal:fit_gaussian_model",
    **{
        (model, "exact"): "lft.commands.fit_likelihood:fit_exactly"
        for model in ("pairwise", "k-pairwise", "neural", "lagged")
    },
    **{
        (model, "boltzmann"): "lft.commands.fit_likelihood:fit_by_boltzmann"
        for model in ("pairwise", "k-pairwise", "neural", "lagged")
    },
    **{
        ("pairwise", method): "lft.commands.fit_likelihood:fit_by_inversion"
        for method in ("mean-field", "tap", "sessak-monasson", "bethe")
    },
    ("pairwise", "mpf"): "lft.commands.fit_likelihood:fit_by_flow",
}


def fit_recording(args, comm=None):
    """Fit what the command line asks for and save it; returns (fit, notes about the data), on every rank."""
    check_arguments(args)
    if getattr(args, "compare", None) is not None:
        refuse_with_compare(args)
        if getattr(args, "rank", None) is not None:
            raise InputError(f"--rank {args.rank}: not together with --compare")
        models = compared(args)
        check_options(args, models[1:] or models)
        if not any(args.method == method for name, method in FITTERS if name in models):
            methods = dict.fromkeys(method for name, method in FITTERS if name in models)
            raise InputError(f"--method {args.method!r}: valid for these models are {', '.join(methods)}")
        return on_root(comm, _compare, args)
    fitter = _fitter(args.model, args.method)
    check_options(args, [args.model])
    if not (math.isfinite(args.test) and 0 <= args.test < 1):
        raise InputError(f"--test {args.test}: valid is a fraction from 0 to below 1")
    if getattr(args, "rank", None) is not None and (args.model, args.method) != ("pairwise", "pseudo"):
        raise InputError(f"--rank {args.rank}: valid for --model pairwise by --method pseudo")
    plan = Plan(args)
    if getattr(fitter, "is_parallel", False):
        return _fit_together(fitter, args, plan, comm)
    return on_root(comm, _fit_alone, fitter, args, plan)


def _fit_alone(fitter, args, plan):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        recording, bin_s = _opened(args)
        fit, report = fitter(recording, bin_s, args)
        plan.attach(fit, recording, bin_s, fitter)
    return _saved(fit, report, recording, caught, args)


def _compare(args):
    """Rank models; the selected one is the fit that is saved."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        recording, bin_s = _opened(args)
        fits, ranking, report = compare_models(recording, bin_s, args, _fitter)
        fit = fits.get(ranking.selected)
        if fit is None:  # independent: fitted like the others, by its own fitter
            fit = _fitter("independent", "pseudo")(binned(recording, bin_s), bin_s, options(args, "independent"))[0]
            if args.input:
                fit.warnings = [*fit.warnings, "selected are units with the inputs and no couplings, which no model of "
                                "a file has: this fit holds independent units without the inputs"]  # fmt: skip
    fit.verdict = {"ranking": ranking}
    fit.warnings = [*fit.warnings, *ranking.warnings]
    return _saved(fit, report, recording, caught, args)


def _fit_together(fitter, args, plan, comm):
    """All ranks fit; the recording stays on rank 0."""
    held = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        on_root(comm, lambda: held.append(_opened(args)))
        recording, bin_s = held.pop() if held else (None, None)
        fit, report = fitter(recording, bin_s, args, comm)
        plan.attach(fit, recording, bin_s, fitter, comm)
    return fit, on_root(comm, lambda: _saved(fit, report, recording, caught, args)[1])


def _opened(args):
    check_output(args.output, args.overwrite)
    recording, bin_s = open_recording(args.recording, args.bin, args.window)
    return recording if args.units is None else select_units(recording, args.units), bin_s


def _saved(fit, report, recording, caught, args):
    if wants(args):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # binning again says nothing new
            judge(fit, recording, fit.bin_s, args, _fitter(fit.model, fit.method))
    notes = [*getattr(recording, "notes", ()), *describe(report), *_messages(caught)]
    _save(fit, args, notes)
    return fit, notes


def _save(fit, args, notes):
    try:
        save_fit(fit, args.output, args.overwrite, {"recording": str(args.recording), "notes": notes})
    except (OSError, RuntimeError) as error:
        raise LftError(explain(error, args.output, "writing the fit")) from error


def _fitter(model, method):
    models = list(dict.fromkeys(name for name, _ in FITTERS))
    if model not in models:
        raise InputError(f"--model {model!r}: valid are {', '.join(models)}")
    methods = [m for name, m in FITTERS if name == model]
    if method not in methods:
        raise InputError(f"--method {method!r}: valid for the model {model} are {', '.join(methods)}")
    module, _, name = FITTERS[model, method].partition(":")
    return getattr(import_module(module), name)


def _messages(caught):
    others = [w for w in caught if not issubclass(w.category, DataWarning)]
    for w in others:
        warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    return [str(w.message) for w in caught if issubclass(w.category, DataWarning)]
