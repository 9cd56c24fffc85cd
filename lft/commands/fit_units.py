"""``--bootstrap`` and ``--posterior`` of ``kinetic`` and ``glm``: target by target, as their likelihood falls apart.

Beside the flat arrays that every model has (``bootstrap_error``, ``posterior_samples``, ...: log-odds or log-rates, in
the order of ``parameter_names``), the file gets them in the convention and shape of the fit: ``J_lag_bootstrap_error``,
``_low``, ``_high`` and ``J_lag_posterior_mean``, ``_sd``, ``_low``, ``_high`` (K, N, N), the same of ``h`` (N,).
"""

from __future__ import annotations

import itertools

import numpy as np

from lft.errors import LftError
from lft.inference.uncertainty.bootstrap import bootstrap, finite_maximum, ridge_maximum
from lft.inference.uncertainty.intervals import corrected, deviation, percentiles
from lft.inference.uncertainty.posterior import sample_posterior

MAX_STORED = 2**25  # numbers of posterior samples in the file


class UnitErrors:
    """``examine`` of a causal fit; :meth:`attach` puts what all ranks found into a plan.

    Parameters
    ----------
    args : argparse.Namespace
    prior : Prior
    seed : int
    again : callable
        target -> the estimator of bootstrap samples, or None for the maximum.
    """

    def __init__(self, args, prior, seed, again):
        self.args, self.prior, self.seed, self.again, self.units = args, prior, seed, again, {}

    def __call__(self, objective, theta, influences, one):
        found = {"flat": {}, "table": {}, "report": {}, "warnings": []}
        wide, start = one.whole()
        found["names"] = wide.names()
        if self.args.bootstrap:
            self._bootstrap(found, objective, theta, influences, one)
        if self.args.posterior:
            self._posterior(found, wide, start, one)
        self.units[one.target] = found

    def _bootstrap(self, found, objective, theta, influences, one):
        options = {"n_samples": self.args.bootstrap, "seed": self.seed, "trial_edges": _trial_edges(one.task)}
        try:
            b = bootstrap(objective, theta, **self._estimator(one), **options)
        except LftError as reason:
            found["warnings"].append(f"unit {one.target}: {reason}")
            return
        place = {name: k for k, name in enumerate(found["names"])}
        at = [place[name] for name in objective.names()]
        low, high = b.interval()
        for name, values in (("error", b.error), ("low", low), ("high", high)):
            found["flat"][f"bootstrap_{name}"] = _spread(values, at, len(place))
        n_blocks = len(b.edges) - 1
        inflate = np.sqrt(n_blocks / (n_blocks - 1))
        for name, samples, at, moved in zip(("h", "J_lag"), *on_grid(one, b), strict=True):
            low, high = corrected(samples, at, n_blocks, moved)
            parts = (("error", inflate * deviation(samples)), ("low", low), ("high", high))
            found["table"] |= {f"{name}_bootstrap_{part}": values for part, values in parts}
        found["report"]["bootstrap"] = {
            "blocks": len(b.edges) - 1, "unit": b.unit, "failed": b.n_failed,
            "ratios": (b.error / np.sqrt((influences**2).sum(axis=0))).tolist(),
        }  # fmt: skip
        found["warnings"] += [f"unit {one.target}: {w}" for w in b.warnings]

    def _estimator(self, one):
        """Options of the bootstrap: what its samples maximize."""
        again = self.again(one.target)
        penalty, is_held = one.penalty(), np.isin(one.bounds.keep, one.bounds.held)
        if again or not penalty.any():
            return again or {"fit": finite_maximum}
        ridge = ridge_maximum(penalty)
        return {"ridge": penalty, "fit": lambda objective, start: np.where(is_held, np.nan, ridge(objective, start))}

    def _posterior(self, found, wide, start, one):
        options = {"prior": self.prior, "adjust": False, "n_samples": self.args.posterior, "seed": self.seed}
        try:
            p = sample_posterior(wide, start, first_chain=4 * one.target, **options)
        except (LftError, np.linalg.LinAlgError) as reason:
            found["warnings"].append(f"unit {one.target}: no posterior ({reason})")
            return
        low, high = p.interval()
        parts = (("mean", p.mean), ("sd", p.sd), ("low", low), ("high", high))
        found["flat"] |= {f"posterior_{name}": values for name, values in parts}
        found["samples"] = p.samples.astype(np.float32)
        flat = p.samples.reshape(-1, p.samples.shape[2])
        for name, samples in zip(("h", "J_lag"), one.on_grid(flat, whole=True), strict=True):
            low, high = percentiles(samples)
            parts = (("mean", samples.mean(axis=0)), ("sd", samples.std(axis=0, ddof=1)), ("low", low), ("high", high))
            found["table"] |= {f"{name}_posterior_{part}": values for part, values in parts}
        found["report"]["posterior"] = {
            "chains": len(p.samples), "r_hat": float(p.r_hat.max()), "ess": float(p.ess.min()),
            "divergences": p.divergences, "acceptance": p.acceptance.tolist(),
            "tau": {k: float(v.mean()) for k, v in p.scales.items()},
        }  # fmt: skip
        found["warnings"] += [f"unit {one.target}: {w}" for w in p.warnings]

    # ---- after the fit
    def attach(self, plan, n_units, comm=None):
        """What the units of all ranks found, into the report, arrays, lines and warnings of a plan (collective)."""
        parts = [self.units] if comm is None else comm.allgather(self.units)
        units = {i: found for part in parts for i, found in part.items()}
        order = sorted(units)
        if not order:
            return
        every = [units[i] for i in order]
        sizes = [len(found["names"]) for found in every]
        for name in dict.fromkeys(name for found in every for name in found["flat"]):
            lines = [found["flat"].get(name, np.full(n, np.nan)) for found, n in zip(every, sizes, strict=True)]
            plan.arrays[name] = np.concatenate(lines)
        for name in dict.fromkeys(name for found in every for name in found["table"]):
            rows = {i: found["table"][name] for i, found in zip(order, every, strict=True) if name in found["table"]}
            whole = np.full((n_units, *next(iter(rows.values())).shape), np.nan)
            for i, row in rows.items():
                whole[i] = row
            plan.arrays[name] = whole.swapaxes(0, 1) if whole.ndim > 1 else whole  # (K, target, source)
        plan.arrays["parameter_names"] = np.array([n for found in every for n in found["names"]], dtype="S")
        plan.warnings += [w for found in every for w in found["warnings"]]
        self._report_bootstrap(plan, [f["report"]["bootstrap"] for f in every if "bootstrap" in f["report"]])
        self._report_posterior(plan, every, sizes)

    def _report_bootstrap(self, plan, found):
        if not found:
            return
        ratio = float(np.nanmedian(list(itertools.chain.from_iterable(f["ratios"] for f in found))))
        blocks = min(f["blocks"] for f in found)
        plan.report["bootstrap"] = {
            "samples": self.args.bootstrap, "blocks": blocks, "unit": found[0]["unit"],
            "failed": sum(f["failed"] for f in found), "ratio_to_sandwich": ratio,
        }  # fmt: skip
        plan.lines.append(
            f"bootstrap: {self.args.bootstrap} samples of {blocks} {found[0]['unit']}, errors {ratio:.3g} times those "
            "of the fit (median)"
        )

    def _report_posterior(self, plan, every, sizes):
        found = [f["report"]["posterior"] for f in every if "posterior" in f["report"]]
        if not found:
            return
        n, chains = self.args.posterior, found[0]["chains"]
        if chains * n * sum(sizes) <= MAX_STORED:
            empty = np.float32("nan")
            plan.arrays["posterior_samples"] = np.concatenate(
                [f.get("samples", np.full((chains, n, size), empty)) for f, size in zip(every, sizes, strict=True)],
                axis=2,
            )
        else:
            plan.warnings.append(f"posterior: {chains * n * sum(sizes)} numbers of samples are not stored, the rest is")
        r_hat, ess = max(f["r_hat"] for f in found), min(f["ess"] for f in found)
        divergences = sum(f["divergences"] for f in found)
        kinds = sorted({k for f in found for k in f["tau"]})
        plan.report["posterior"] = {
            "prior": self.prior.kind, "scale": self.prior.scale, "samples": n, "chains": chains, "r_hat_max": r_hat,
            "ess_min": ess, "divergences": divergences,
            "acceptance": np.mean([f["acceptance"] for f in found], axis=0).tolist(),
            "tau": {k: float(np.mean([f["tau"][k] for f in found])) for k in kinds},
        }  # fmt: skip
        plan.lines.append(
            f"posterior: {chains} x {n} samples, R-hat at most {r_hat:.3f}, at least {ess:.0f} effective, "
            f"{divergences} divergences"
        )


def on_grid(one, b):
    """((h, J_lag) of the samples, of the estimate, influences on both or twice None) of a bootstrap."""
    estimate = [values[0] for values in one.on_grid(b.theta[None])]
    if b.influences is None:
        return one.on_grid(b.samples), estimate, (None, None)
    moved = one.on_grid(b.theta + b.influences)
    return one.on_grid(b.samples), estimate, [m - e for m, e in zip(moved, estimate, strict=True)]


def _spread(values, at, size):
    out = np.full(size, np.nan)
    out[at] = values
    return out


def _trial_edges(task):
    """First fitted row of every trial, and the number of rows; None for one trial."""
    lengths = task.design.table.lengths
    starts = [a for a in itertools.accumulate([0, *lengths[:-1]]) if a < task.n_train]
    return [*starts, task.n_train] if len(starts) > 1 else None
