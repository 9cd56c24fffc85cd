"""``lft fit`` with a penalty, and how well its couplings are known.

==================================  ================================================================================
``--penalty l1|l2|group``           for every model of arbitrary units (pairwise, neural, k-pairwise, lagged, kinetic,
                                    glm); fields stay free
``--strength auto|NUMBER``          nats; auto (default): by cross-validation over ``--folds N`` blocks of time
``--rule best|one-se``              auto: the best score, or the strongest penalty within one standard error of it
``--mix X``                         l1, group: quadratic share of an elastic penalty
``--refit``                         l1, group: the selected couplings again, without penalty
``--bootstrap N``                   N fits of recordings made of blocks of this one
``--posterior N``                   N samples per chain of the posterior of all parameters (up to 400; kinetic and glm:
                                    per target), four chains; ``--prior gaussian|laplace|hierarchical[:SCALE]``, in
                                    log-odds
``--discovery Q``                   which couplings exist, at a false discovery rate Q; ``--procedure bh|by|storey``;
                                    ``--surrogates N`` takes the null from N circular shifts of the units
``--power J``                       how long a recording must be to find couplings of size J
==================================  ================================================================================

A fitter takes ``args.penalize``, ``objective -> (theta, influences)`` in place of its own maximum, and
``args.examine``, called with (objective, theta, influences) at the estimate; either may be None.  What they find goes
into ``fit.extra`` (JSON) and ``fit.extra_arrays`` (file).
"""

from __future__ import annotations

import argparse
import itertools
import math
import re

import numpy as np

from lft.commands.fit_options import CAUSAL, GIBBS
from lft.commands.fit_pseudo import Progress
from lft.commands.fit_units import UnitErrors
from lft.errors import InputError, LftError
from lft.inference.penalty.crossval import RULES
from lft.inference.penalty.fit import estimate, fit_penalized
from lft.inference.penalty.terms import KINDS
from lft.inference.pseudo.maximum import penalty as ridge_of
from lft.inference.raster import Raster
from lft.inference.uncertainty.bootstrap import bootstrap, ridge_maximum
from lft.inference.uncertainty.discovery import PROCEDURES, discover, shifted
from lft.inference.uncertainty.identifiability import MAX_SIZE, gauge, weak_directions
from lft.inference.uncertainty.posterior import Prior, sample_posterior
from lft.inference.uncertainty.power import measured_scaling, needed_bins

PENALIZED = (*GIBBS, *CAUSAL)
FIELD = re.compile(r"^(h|I|V|u|c|log_z)(\[|$|_)")  # names that are no couplings
SHOWN = 8


class Plan:
    """What the options ask for, and what came out of it."""

    def __init__(self, args):
        self.args = args
        self.penalized, self.report, self.arrays, self.warnings, self.lines = {}, {}, {}, [], []
        self.progress = Progress()
        _check(args)
        args.penalize = None if args.penalty is None else self.penalize
        is_examined = args.model in GIBBS and any(
            (args.bootstrap, args.posterior, args.penalty, args.discovery, args.power)
        )
        args.examine = self.examine if is_examined else None
        self.units = None
        if args.model in CAUSAL and (args.bootstrap or args.posterior):
            self.units = args.examine = UnitErrors(args, _prior(args.prior), _seed(args), self._again)

    # ---- inside the fit
    def penalize(self, objective):
        """Penalized estimate and its influences, rows x parameters."""
        args = self.args
        options = {"n_folds": 5 if args.folds is None else args.folds, "rule": args.rule, "refit": args.refit}
        strength = "auto" if args.strength in (None, "auto") else float(args.strength)
        targets, done = getattr(objective, "targets", None), itertools.count(1)

        def progress(solution):
            if targets is None:  # one problem of all units
                self.progress(f"penalty: strength {next(done)} of the path, {solution.strength:.4g} nats")

        options |= {"strength": strength, "mix": args.mix or 0.0, "progress": progress}
        fit = fit_penalized(objective, args.penalty, **options)
        self.penalized[None if targets is None else targets[0]] = _kept(objective, fit)
        if targets is not None:
            self.progress(f"penalty: unit {targets[0]}, the {len(self.penalized)}. of this process")
        self.warnings += [w if targets is None else f"unit {targets[0]}: {w}" for w in fit.warnings]
        return fit.theta, fit.errors.influences

    def examine(self, objective, theta, u):
        """Bootstrap, posterior and weak directions at an estimate."""
        args, names = self.args, objective.names()
        if args.bootstrap:
            options = self._again(objective=objective)
            b = bootstrap(objective, theta, n_samples=args.bootstrap, seed=_seed(args), **options)
            known = np.isfinite(u).all(axis=0)  # not what has no maximum, nor what moves with it
            low, high, error = (np.where(known, part, np.nan) for part in (*b.interval(), b.error))
            self.arrays |= {"bootstrap_error": error, "bootstrap_low": low, "bootstrap_high": high}
            self.report["bootstrap"] = {
                "samples": args.bootstrap, "blocks": len(b.edges) - 1, "unit": b.unit, "failed": b.n_failed,
                "ratio_to_sandwich": float(np.nanmedian(error / np.sqrt((u**2).sum(axis=0)))),
            }  # fmt: skip
            self.warnings += b.warnings
            ratio = self.report["bootstrap"]["ratio_to_sandwich"]
            self.lines.append(f"bootstrap: {args.bootstrap} samples of {len(b.edges) - 1} {b.unit}, "
                              f"errors {ratio:.3g} times those of the fit (median)")  # fmt: skip
        if args.posterior:
            prior = _prior(args.prior)
            p = sample_posterior(objective, theta, prior=prior, n_samples=args.posterior, seed=_seed(args))
            low, high = p.interval()
            self.arrays |= {"posterior_mean": p.mean, "posterior_sd": p.sd, "posterior_low": low,
                            "posterior_high": high, "posterior_samples": p.samples.astype(np.float32)}  # fmt: skip
            self.report["posterior"] = {
                "prior": prior.kind, "scale": prior.scale, "samples": args.posterior, "chains": len(p.samples),
                "r_hat_max": float(p.r_hat.max()), "ess_min": float(p.ess.min()), "divergences": p.divergences,
                "acceptance": p.acceptance.tolist(), "tau": {k: float(v.mean()) for k, v in p.scales.items()},
            }  # fmt: skip
            self.warnings += p.warnings
            self.lines.append(
                f"posterior: {p.samples.shape[0]} x {args.posterior} samples, R-hat at most {p.r_hat.max():.3f}, at "
                f"least {p.ess.min():.0f} effective, {p.divergences} divergences"
            )
        if args.power and not self.penalized:
            self._scaling(objective, theta, u)
        if objective.size <= MAX_SIZE // 4:
            weak = weak_directions(objective, theta)
            self.report["identifiability"] = {
                "gauge": gauge(args.model),
                "weak": [
                    {"eigenvalue": d.eigenvalue, "flat": d.is_flat, "parameters": dict(d.parameters)} for d in weak
                ],
            }
            self.warnings += [str(d) for d in weak if d.is_flat]
        self.arrays["parameter_names"] = np.array(names, dtype="S")

    def _scaling(self, objective, theta, u):
        """Whether errors fall as 1/sqrt(T) here, from halves and quarters of the training stretch."""
        kinds = np.asarray(objective.kinds())
        error = np.sqrt((u**2).sum(axis=0))
        try:
            which, ridge = (kinds != "c") & np.isfinite(error), self._again(objective=objective).get("ridge")
            fit = None if ridge is None else ridge_maximum(ridge)
            ratios = measured_scaling(objective, theta, error, parts=(2, 4), which=which, fit=fit)
        except (LftError, np.linalg.LinAlgError) as reason:
            self.warnings.append(f"power: parts of the recording have no finite fit, so nothing is checked ({reason})")
            return
        self.report["power_scaling"] = {str(n): r for n, r in ratios.items()}
        self.lines.append(
            "power: errors of its "
            + ", ".join(f"{name} {ratios[n]:.3g}" for n, name in ((2, "halves"), (4, "quarters")))
            + " times those extrapolated as 1/sqrt(bins)"
        )

    def _again(self, target=None, objective=None):
        """Options with which a bootstrap repeats the estimator, at the strength that was chosen: none for the free
        maximum.  ``objective`` is that of a Gibbs model, whose ridge is not known to it."""
        args = self.args
        if not self.penalized:
            ridge = None if objective is None else ridge_of(objective.layout, args.ridge)
            return {} if ridge is None or not ridge.any() else {"ridge": ridge}
        strength = self.penalized[target]["report"]["strength"]
        options = {"mix": args.mix or 0.0, "refit": args.refit}
        return {"fit": lambda sample, start: estimate(sample, args.penalty, strength, start=start, **options)}

    # ---- after the fit
    def attach(self, fit, recording, bin_s, fitter, comm=None):
        """Discovery and power from the couplings of the fit; everything into the fit (collective)."""
        args = self.args
        if comm is not None:
            parts = comm.allgather((self.penalized, self.warnings))
            self.penalized = {k: v for part, _ in parts for k, v in part.items()}
            self.warnings = list(dict.fromkeys(w for _, part in parts for w in part))
        if self.penalized:
            self._attach_penalty()
        if self.units is not None:
            self.units.attach(self, fit.n_units, comm)
        names, value, error = _couplings(fit)
        if args.discovery:
            null = self._null(recording, bin_s, fitter, comm) if args.surrogates else None
            self._discover(fit, names, value, error, null)
        unbiased = not self.penalized
        if unbiased and names:
            self._power(fit, names, value, error)
        fit.extra = {**getattr(fit, "extra", {}), **self.report}
        fit.extra_arrays = {**getattr(fit, "extra_arrays", {}), **self.arrays}
        fit.findings = [*getattr(fit, "findings", ()), *self.lines]
        fit.warnings = [*fit.warnings, *self.warnings]
        args.examine = None  # further fits of this command, such as those of a scan of bins, are not examined

    def _attach_penalty(self):
        if None in self.penalized:
            kept = self.penalized[None]
            self.report["penalty"], self.arrays = kept["report"], self.arrays | kept["arrays"]
            strengths, chosen = [kept["report"]["strength"]], kept["report"]["n_selected"]
        else:
            order = sorted(self.penalized)
            self.report["penalty"] = {str(k): self.penalized[k]["report"] for k in order}
            strengths = [self.penalized[k]["report"]["strength"] for k in order]
            chosen = sum(self.penalized[k]["report"]["n_selected"] for k in order)
            self.arrays["penalty_strengths"] = np.array(strengths)
        at = f"{strengths[0]:.4g}" if len(strengths) == 1 else f"{min(strengths):.4g} to {max(strengths):.4g}"
        rule = next(iter(self.penalized.values()))["report"]["rule"]
        self.lines.append(f"penalty: {self.args.penalty} at {at} nats ({rule}), {chosen} couplings kept")

    def _discover(self, fit, names, value, error, null):
        args = self.args
        if self.penalized:
            order = sorted(self.penalized, key=lambda k: -1 if k is None else k)
            parts = [self.penalized[k]["debiased"] for k in order]
            names = [n for part in parts for n in part[0]]
            value, error = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
        found = discover(names, value, error, args.discovery, procedure=args.procedure or "bh", null_z=null)
        self.report["discovery"] = found.report()
        tested = int(np.isfinite(found.p).sum())
        if null is not None and getattr(args, "input", None):
            self.warnings.append(
                "discovery: the surrogates shift units against the inputs, too: they keep the memory of each unit and "
                "lose its response, so their null is that of units without inputs"
            )
        if found.n_null and tested > args.discovery * (1 + found.n_null):
            wanted = math.ceil(args.surrogates * tested / args.discovery / found.n_null)
            self.warnings.append(
                f"discovery: a null of {found.n_null} draws cannot show one coupling among {tested} at "
                f"{args.discovery:g}: take --surrogates {wanted} or more"
            )
        untested = [n for n, p in zip(names, found.p, strict=True) if not np.isfinite(p)]
        if untested:
            self.warnings.append(
                f"discovery: {len(untested)} couplings have no error and are not tested, strong as they may be: "
                f"{', '.join(untested[:5])}{', ...' if untested[5:] else ''} (--ridge or --penalty l1 gives them one)"
            )
        self.arrays |= {"discovery_names": np.array(names, dtype="S"), "discovery_z": found.z, "discovery_p": found.p,
                        "discovery_q": found.q, "discovery_found": found.found}  # fmt: skip
        tables = _tables(names, found, fit.n_units)
        self.arrays |= tables
        order = np.argsort(-np.abs(np.nan_to_num(found.z)))[: min(SHOWN, int(found.found.sum()))]
        shown = ", ".join(f"{names[i]} (z {found.z[i]:.1f})" for i in order)
        self.lines.append(
            f"discovery: {int(found.found.sum())} of {tested} couplings at a false discovery "
            f"rate of {args.discovery:g}{': ' + shown if shown else ''}"
        )

    def _null(self, recording, bin_s, fitter, comm):
        """z of surrogates by the same fit without the rest of the plan; the recording is None on ranks above 0."""
        raster = recording if recording is None or isinstance(recording, Raster) else recording.bin(bin_s)
        plain = argparse.Namespace(**vars(self.args))
        plain.examine, out = None, []
        more = (comm,) if getattr(fitter, "is_parallel", False) else ()
        for number in range(self.args.surrogates):
            part = None
            if raster is not None:
                values = shifted(raster.values, _seed(self.args), number, math.ceil(raster.n_bins / 100))
                part = Raster(values, raster.bin_s, raster.positions_um, raster.unit, source=raster.source)
            _, value, error = _couplings(fitter(part, bin_s, plain, *more)[0])
            out.append(value / error)
        return np.array(out)

    def _power(self, fit, names, value, error):
        known = np.isfinite(error) & (error > 0)
        if not known.any():
            return
        size = self.args.power
        if size is None:
            # the size of the couplings themselves, their noise taken off
            size = math.sqrt(max(float(np.mean(value[known] ** 2 - error[known] ** 2)), 0.0))
            if size == 0:
                return
        goal = needed_bins(error, fit.n_train, coupling=size, bin_s=fit.bin_s)
        self.report["power"] = {**goal.report(), "coupling": size}
        self.arrays["power_bins"] = goal.bins
        if self.args.power is not None:
            r = self.report["power"]
            hours = "" if r["median_s"] is None else f", {r['median_s'] / 3600:.3g} h"
            self.lines.append(
                f"power: {r['goal']}: {r['median_bins']:.3g} bins{hours} for the median coupling "
                f"({r['factor_quartiles'][1]:.3g} times the training stretch); {r['share_reached']:.0%} reach it now"
            )


OPTIONS = ("penalty", "bootstrap", "posterior", "discovery", "power", "strength", "folds", "rule", "mix", "refit",
           "prior", "procedure", "surrogates")  # fmt: skip


def refuse_with_compare(args):
    """A comparison of models fits each without penalty."""
    for name in OPTIONS:
        if getattr(args, name) not in (None, False):
            raise InputError(f"--{name}: not together with --compare; fit the model that it selects")


def _check(args):
    """Complain before anything is computed."""
    if args.penalty is not None:
        if args.penalty not in KINDS:
            raise InputError(f"--penalty {args.penalty!r}: valid are {', '.join(KINDS)}")
        if args.model not in PENALIZED or args.method not in ("pseudo", "exact") or (
            args.model in GIBBS and args.method != "pseudo"
        ):
            raise InputError(f"--penalty: valid for the models {', '.join(PENALIZED)} by pseudo-likelihood, not for "
                             f"{args.model} by {args.method}")  # fmt: skip
        if args.ridge:
            raise InputError(f"--penalty {args.penalty} and --ridge {args.ridge:g}: valid is one of them")
        if args.strength not in (None, "auto"):
            try:
                is_valid = 0 < float(args.strength) < math.inf
            except ValueError:
                is_valid = False
            if not is_valid:
                raise InputError(f"--strength {args.strength!r}: valid is auto or a number > 0 (nats)")
            if args.rule is not None or args.folds is not None:
                raise InputError("--strength is given: --rule and --folds have nothing to choose")
        if args.rule is not None and args.rule not in RULES:
            raise InputError(f"--rule {args.rule!r}: valid are {', '.join(RULES)}")
        if args.folds is not None and args.folds < 2:
            raise InputError(f"--folds {args.folds}: valid is an integer >= 2")
        if args.penalty == "l2" and (args.refit or args.mix is not None):
            raise InputError("--penalty l2: --refit and --mix are for l1 and group")
        if args.mix is not None and not 0 <= args.mix < 1:
            raise InputError(f"--mix {args.mix:g}: valid is a number, 0 <= mix < 1")
    else:
        for name in ("strength", "folds", "rule", "mix", "refit"):
            if getattr(args, name) not in (None, False):
                raise InputError(f"--{name}: needs --penalty")
    for name, least in (("bootstrap", 2), ("posterior", 4)):
        value = getattr(args, name)
        if value is not None:
            if value < least:
                raise InputError(f"--{name} {value}: valid is an integer >= {least}")
            if args.model not in PENALIZED or (args.model in GIBBS and args.method != "pseudo"):
                raise InputError(f"--{name}: valid for the models {', '.join(PENALIZED)} by pseudo-likelihood")
    if args.posterior and args.penalty:
        raise InputError("--posterior and --penalty: the posterior has its own --prior; valid is one of them")
    if args.posterior and args.ridge and args.model in GIBBS:
        raise InputError(
            f"--posterior and --ridge {args.ridge:g}: the posterior of {args.model} is adjusted at the maximum without "
            "ridge and has its own --prior; valid is one of them"
        )
    if args.power is not None and args.penalty is not None:
        raise InputError(
            f"--power and --penalty {args.penalty}: errors of a penalized fit do not fall as 1/sqrt(bins); valid is "
            "one of them"
        )
    if args.prior is not None:
        if not args.posterior:
            raise InputError("--prior: needs --posterior")
        _prior(args.prior)
    if args.discovery is not None and not 0 < args.discovery < 1:
        raise InputError(f"--discovery {args.discovery:g}: valid is a rate, 0 < Q < 1")
    if args.procedure is not None and args.procedure not in PROCEDURES:
        raise InputError(f"--procedure {args.procedure!r}: valid are {', '.join(PROCEDURES)}")
    for name in ("procedure", "surrogates"):
        if getattr(args, name) is not None and args.discovery is None:
            raise InputError(f"--{name}: needs --discovery")
    if args.surrogates is not None and args.penalty is not None:
        raise InputError("--surrogates: only without --penalty")
    if args.surrogates is not None and getattr(args, "trials", None) is not None:
        raise InputError("--surrogates: not together with --trials, as shifts would carry spikes from trial to trial")
    if args.discovery is not None and args.penalty == "l2":
        raise InputError("--discovery: l2 shrinks every coupling, none is tested against zero; use l1 or no penalty")
    if args.surrogates is not None and args.surrogates < 1:
        raise InputError(f"--surrogates {args.surrogates}: valid is an integer >= 1")
    if args.power is not None and not (math.isfinite(args.power) and args.power > 0):
        raise InputError(f"--power {args.power:g}: valid is the size of a coupling, > 0")


def _prior(text):
    kind, _, scale = (text or "gaussian:1").partition(":")
    try:
        scale = float(scale) if scale else 1.0
    except ValueError:
        raise InputError(f"--prior {text!r}: valid is NAME or NAME:SCALE, such as gaussian:0.5") from None
    return Prior(kind, scale)


def _seed(args):
    return getattr(args, "seed", None) or 0


def _kept(objective, fit):
    """What of a penalized fit goes into the result."""
    out = {"report": fit.report(), "arrays": fit.arrays(), "debiased": None}
    if fit.errors.debiased is not None:
        where = np.asarray(objective.groups()) >= 0
        names = [n for n, keep in zip(objective.names(), where, strict=True) if keep]
        out["debiased"] = names, fit.errors.debiased[where], fit.errors.debiased_error[where]
    return out


def _couplings(fit):
    """Names, values and errors of the couplings of a fit, without fields."""
    named = {n: pair for n, pair in fit.named().items() if not FIELD.match(n)}
    table = np.array(list(named.values()), float).reshape(-1, 2)
    return list(named), table[:, 0], table[:, 1]


def _tables(names, found, n_units):
    """Symmetric (N, N) tables of z and of what was found, where couplings are named by pairs ``X[i,j]``."""
    pairs = [(k, re.fullmatch(r"[A-Za-z]+\[(\d+),(\d+)\]", name)) for k, name in enumerate(names)]
    pairs = [(k, int(m[1]), int(m[2])) for k, m in pairs if m]
    if not pairs or max(max(i, j) for _, i, j in pairs) >= n_units:
        return {}
    z, is_found = np.zeros((n_units, n_units)), np.zeros((n_units, n_units), bool)
    for k, i, j in pairs:
        z[i, j] = z[j, i] = found.z[k]
        is_found[i, j] = is_found[j, i] = found.found[k]
    return {"discovery_z_table": z, "discovery_found_table": is_found}
