"""What ``lft fit`` adds to a fit: checks beside simulation, a ranking of models, bin widths, specific heat, pitfalls.

``--check [FILE.png]``        statistics of the training stretch beside a simulation at the fit; drift and common input
``--compare MODEL,MODEL,...`` these models and ``independent`` by held-out log-likelihood; the selected one is the fit
``--bin-scan 5ms,10ms,...``   the same fit at other bin widths
``--heat [FILE.png]``         specific heat against temperature, beside the control

Everything goes into ``fit.verdict``, a dictionary of parts with ``as_json()`` (a key of the fit's JSON each), perhaps
``arrays()`` (datasets of FIT.h5) and ``table()``.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np

from lft.commands.fit_options import CAUSAL, GIBBS
from lft.errors import DataWarning, DivergenceError, InputError
from lft.inference.inputs import MAX_CELLS
from lft.inference.raster import Raster
from lft.inference.trials import split_trials
from lft.inference.verdict import driven
from lft.inference.verdict.checks import check_model
from lft.inference.verdict.common_input import common_input
from lft.inference.verdict.drift import drift
from lft.inference.verdict.heat import CAVEAT, shifted, specific_heat
from lft.inference.verdict.independent import IndependentModel
from lft.inference.verdict.ranking import rank
from lft.inference.verdict.scan import CLIPPED_WARNING, scan_bins
from lft.inference.verdict.statistics import Constraints
from lft.units import parse_quantity

COMPARED = ("independent", *GIBBS, *CAUSAL)
ONLY_GLM = ("basis", "own_basis", "family", "link", "refractory")
BETAS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0)
COMMON_INPUT_S = 0.1
"""Width of the window in which the rate of the other units is smoothed."""


def wants(args):
    """Whether any option of this module is given."""
    return any(getattr(args, name, None) is not None for name in ("check", "bin_scan", "heat"))


def check_arguments(args):
    """InputError for what can be seen before any work."""
    from lft.plotting.figure import check_figure_path

    for name in ("check", "heat"):
        path = getattr(args, name, None)
        if path:
            check_figure_path(path)
    if not wants(args) and getattr(args, "compare", None) is None:
        return
    if getattr(args, "trials", None) is not None:
        raise InputError("--trials: not together with --check, --compare, --bin-scan or --heat")
    if getattr(args, "input", None) and getattr(args, "heat", None) is not None:
        raise InputError("--input: not together with --heat, as bins under different inputs have no one temperature")
    if getattr(args, "family", None) == "poisson":
        raise InputError("--family poisson: counts can be neither checked nor compared; valid is bernoulli")
    if getattr(args, "compare", None) is not None:
        compared(args)
    elif args.check is not None and args.model not in COMPARED:
        raise InputError(f"--check: not for --model {args.model}; valid are {', '.join(COMPARED)}")
    elif args.heat is not None and args.model not in GIBBS:
        raise InputError(_no_heat(args.model))
    if getattr(args, "bin_scan", None) is not None:
        widths(args.bin_scan)


def _no_heat(model):
    return f"--heat: the model {model!r} is no Gibbs model with couplings; valid are {', '.join(GIBBS)}"


# ---- the model of a fit
def model_of(fit):
    """The :class:`lft.inference.protocols.BinaryModel` of a fit or its file, or InputError.

    That of a fit with inputs begins with those of the first bin of the recording (:func:`driven.over`).
    """
    if hasattr(fit, "causal_model"):
        return fit.causal_model()
    arrays = fit.arrays() if callable(fit.arrays) else fit.arrays
    if fit.model in CAUSAL:
        from lft.inference.causal.result import model_of as causal_model

        return causal_model(fit.model, arrays)
    if fit.model == "independent" and np.ndim(arrays.get("h")) == 1:
        return IndependentModel(2 * np.asarray(arrays["h"]))
    if fit.model in COMPARED:
        from lft.inference.likelihood.model import from_arrays

        model = from_arrays(fit.model, arrays)
        if "input_weights" not in arrays:
            return model
        if "inputs" not in arrays:
            raise InputError(
                f"model {fit.model!r}: the columns of its inputs are not kept (more than {MAX_CELLS} numbers), so "
                "it can be neither checked nor compared; valid are wider bins or fewer functions"
            )
        return driven.DrivenModel(model, arrays["input_weights"], arrays["inputs"])
    raise InputError(f"model {fit.model!r} cannot be checked as a model of units: valid are {', '.join(COMPARED)}")


def constraints_of(fit):
    """What the model of a fit matches by construction."""
    arrays = fit.arrays()
    static = fit.model not in CAUSAL and fit.model != "independent"
    auto = cross = ()
    if fit.model == "neural":
        auto = tuple(int(k) for k in arrays["lags"])
    elif "J_lag" in arrays:
        auto = cross = tuple(range(1, len(arrays["J_lag"]) + 1))
    return Constraints(pairs=static, count=fit.model == "k-pairwise", auto_lags=auto, cross_lags=cross)


def n_parameters(fit):
    """Free parameters with a finite maximum; all fields of a Gibbs model count, also those without an error."""
    arrays = fit.arrays()
    if fit.model in CAUSAL:
        names = ("h_error", "weights_error", "own_weights_error", "input_error")
        return int(sum(np.count_nonzero(np.isfinite(arrays[n]) & (arrays[n] > 0)) for n in names))
    couplings = [error for name, (_, error) in fit.named().items() if name[0] not in "hI"]
    return int(np.isfinite(couplings).sum()) + fit.n_units


# ---- parts of a verdict
@dataclass(frozen=True, eq=False)
class Pitfalls:
    """Drift, common input, clipping.

    Attributes
    ----------
    drift : Drift or None
    common_input : CommonInput or None
    clipped : float
        Fraction of the spikes that are second or later in their bin.
    notes : list of str
        Why a part is missing.
    """

    drift: object
    common_input: object
    clipped: float
    notes: list

    @property
    def warnings(self):
        """One line for each pitfall that matters."""
        out = [part.warning for part in (self.drift, self.common_input) if part is not None and part.warning]
        if self.clipped > CLIPPED_WARNING:
            out.append(
                f"clipping: {100 * self.clipped:.2g} % of the spikes are second or later in their bin and lost "
                f"(above {100 * CLIPPED_WARNING:.0f} %: take narrower bins, or a model of counts)"
            )
        return out + self.notes

    def as_json(self):
        """The key ``pitfalls``."""
        return {
            "drift": None if self.drift is None else self.drift.as_json(),
            "common_input": None if self.common_input is None else self.common_input.as_json(),
            "clipped": self.clipped,
            "warnings": self.warnings,
        }


def find_pitfalls(train, bin_s, clipped):
    """Pitfalls of a training stretch (list of rasters); what cannot be tested is named."""
    notes, found = [], {}
    width = max(1.0, COMMON_INPUT_S / bin_s) if bin_s else 5.0
    tests = {"drift": lambda: drift(train), "common input": lambda: common_input(train, width_bins=width)}
    for name, test in tests.items():
        try:
            found[name] = test()
        except (InputError, DivergenceError) as reason:
            notes.append(f"{name}: not tested ({reason})")
    return Pitfalls(found.get("drift"), found.get("common input"), float(clipped), notes)


@dataclass(frozen=True, eq=False)
class Heat:
    """Specific heat of a fit and of the control."""

    fit: object
    control: object

    def as_json(self):
        """The key ``specific_heat``."""
        return {"fit": self.fit.as_json(), "control": self.control.as_json(), "caveat": CAVEAT}

    def table(self):
        """Lines for a terminal."""
        peak = lambda c: f"{c.peak[0]:g} +- {c.peak[1]:.2g}" + (" (end of the grid)" if c.at_edge else "")  # noqa: E731
        lines = ["beta   C(fit)            C(control)"]
        for b, v, e, w, f in zip(
            self.fit.beta, self.fit.value, self.fit.error, self.control.value, self.control.error, strict=True
        ):
            lines.append(f"{b:<5g}  {v:.5f} +- {e:.5f}  {w:.5f} +- {f:.5f}")
        return "\n".join([*lines, f"largest at beta = {peak(self.fit)}; control {peak(self.control)}"])


def heat_of(fit, fit_again, train, seed=0, n_bins=200, n_chains=400, betas=BETAS):
    """Specific heat of a Gibbs fit, and of the fit to circularly shifted units.

    ``fit_again``: rasters -> fit of the same model.
    """
    if fit.model not in GIBBS:
        raise InputError(_no_heat(fit.model))
    curves = []
    for made in (fit, fit_again(shifted(train, seed))):
        model = model_of(made)
        nothing = type(model)(np.zeros(model.n_units))
        curves.append(
            specific_heat(
                lambda beta, m=model, zero=nothing: m.scaled(beta, zero),
                model.log_weights,
                model.n_units,
                betas,
                is_static=model.kind == "static",
                n_bins=n_bins,
                n_chains=n_chains,
                seed=seed,
            )
        )
    return Heat(*curves)


# ---- command
def judge(fit, recording, bin_s, args, fitter):
    """Add what the command line asks for to a fit: ``fit.verdict`` and lines in ``fit.warnings``."""
    raster = binned(recording, bin_s)
    train, _ = split_trials([raster.values], args.test)
    verdict = dict(getattr(fit, "verdict", {}))
    asked = {"bin_scan": args.bin_scan, "heat": args.heat}
    if getattr(args, "compare", None) is not None:  # nobody could know which model it selects
        for name, models in (("bin_scan", COMPARED[1:]), ("heat", GIBBS)):
            if asked[name] is not None and fit.model not in models:
                asked[name] = None
                fit.warnings = [*fit.warnings, f"--{name.replace('_', '-')}: not done, as the selected model "
                                f"{fit.model} is none of {', '.join(models)}"]  # fmt: skip
    if args.check is not None:
        model = model_of(_by_unit(fit, raster, args.pitch))
        verdict["checks"] = check_model(model, train, constraints_of(fit), bin_s=raster.bin_s)
        verdict["pitfalls"] = find_pitfalls(train, raster.bin_s, raster.report.clipped_fraction)
        if getattr(args, "input", None):
            verdict["pitfalls"].notes.append("drift and common input: of the recording as it is, inputs and all")
        fit.warnings = [*fit.warnings, *verdict["checks"].notes, *verdict["pitfalls"].warnings]
    if asked["bin_scan"] is not None:
        verdict["bin_scan"] = _scan(recording, fit, args, fitter)
        fit.warnings = [*fit.warnings, *verdict["bin_scan"].warnings]
    if asked["heat"] is not None:
        quiet = options(args, fit.model, fit.method)

        def again(rasters):
            control = Raster(np.concatenate(rasters), raster.bin_s, None, raster.unit)
            return fitter(control, raster.bin_s, quiet)[0]

        verdict["specific_heat"] = heat_of(fit, again, train)
        fit.warnings = [*fit.warnings, CAVEAT]
    fit.verdict = verdict


def _by_unit(fit, raster, pitch_text):
    """An independent fit on the lattice with its fields in the order of the raster's units; other fits as they are."""
    if fit.model != "independent" or np.ndim(fit.h) == 1:
        return fit
    pitch = None if pitch_text is None else parse_quantity(pitch_text, "length", "--pitch").si * 1e6
    return argparse.Namespace(model="independent", arrays={"h": fit.h[tuple(raster.place(pitch).sites.T)]})


def binned(recording, bin_s):
    """The raster of a recording."""
    return recording if isinstance(recording, Raster) else recording.bin(bin_s)


def options(args, model, method="pseudo"):
    """The arguments of the fit of one of several models: no file of its own, and only options that the model knows."""
    changes = {"model": model, "method": method, "output": f"{args.output}.{model}"}
    if model != "glm":
        changes |= dict.fromkeys(ONLY_GLM)
    elif getattr(args, "basis", None) is not None:
        changes |= {"lags": None}  # a basis has its own duration; --lags is for kinetic
    return argparse.Namespace(**{**vars(args), **changes})


def compared(args):
    """Names of ``--compare``, independent first."""
    names = [name.strip() for name in args.compare.split(",") if name.strip()]
    wrong = [name for name in names if name not in COMPARED]
    if wrong or not names:
        raise InputError(
            f"--compare {args.compare!r}: {wrong[0] if wrong else 'nothing'} is no model that can be "
            f"compared; valid are {', '.join(COMPARED)}"
        )
    return list(dict.fromkeys(["independent", *names]))


def compare_models(recording, bin_s, args, fitter_of):
    """Fit every model on the training stretch, rank them on the test stretch: (fits, Ranking, report of the binning).

    A model whose fit fails is reported in the ranking; the others go on.  With ``--input`` all have the inputs, the
    independent units as well.
    """
    if not args.test > 0:
        raise InputError(f"--test {args.test}: a ranking needs a held-out part, valid is above 0")
    raster = binned(recording, bin_s)
    train, test = split_trials([raster.values], args.test)
    independent = IndependentModel.fitted(train)
    models, fits, failed, reason = {"independent": (independent, len(independent.c))}, {}, {}, None
    for name in compared(args)[1:]:
        try:
            method = _method(fitter_of, name, args.method)
            fits[name] = fitter_of(name, method)(raster, raster.bin_s, options(args, name, method))[0]
            models[name] = (driven.over(model_of(fits[name]), len(train[0]), raster.n_bins), n_parameters(fits[name]))
        except (DivergenceError, InputError) as error:
            reason, failed[name] = error, " ".join(str(error).split())
    if isinstance(reason, InputError) and not fits:
        raise reason
    if args.input and fits:  # the reference has the inputs of all families, too
        alone = driven.independent(train, next(iter(fits.values())).inputs)
        models["independent"] = (driven.over(alone, len(train[0]), raster.n_bins), alone.weights.size + alone.n_units)
    return fits, rank(models, test, failed=failed), raster.report


def _method(fitter_of, name, wanted):
    """The method asked for where the model has it, else pseudo."""
    try:
        fitter_of(name, wanted)
    except InputError:
        return "pseudo"
    return wanted


def widths(text):
    """Bin widths of ``5 ms,10 ms`` in seconds."""
    return [parse_quantity(part.strip(), "time", "--bin-scan").si for part in text.split(",")]


def _scan(recording, like, args, fitter):
    first = recording if isinstance(recording, Raster) else None

    def fit_at(bin_s):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # clipping is a column of the scan
            raster = recording.bin(bin_s) if first is None else first.coarsen(bin_s)
            fit = fitter(raster, raster.bin_s, options(args, like.model, like.method))[0]
        return fit, float(raster.values.mean()), raster.report.clipped_fraction

    return scan_bins(fit_at, widths(args.bin_scan))


def show(fit, args):
    """Print the tables and draw the figures of a verdict."""
    verdict = getattr(fit, "verdict", {})
    if getattr(args, "json", None) != "-":
        for part in verdict.values():
            if hasattr(part, "table"):
                print(part.table())
    if getattr(args, "check", None):
        from lft.plotting.verdict import plot_checks

        plot_checks(verdict["checks"], args.check, fit.model)
    if getattr(args, "heat", None):
        from lft.plotting.verdict import plot_heat

        plot_heat(verdict["specific_heat"].fit, verdict["specific_heat"].control, args.heat, fit.model)
