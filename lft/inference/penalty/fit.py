"""A penalized fit from beginning to end: path, choice of the strength, estimate, errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.inference.penalty.crossval import CrossValidation, cross_validate, time_folds
from lft.inference.penalty.errors import Errors, ridge_errors, sparse_errors
from lft.inference.penalty.path import make_penalty, null_fit, strengths
from lft.inference.penalty.solver import maximize_on, maximize_penalized
from lft.inference.penalty.terms import penalty_for
from lft.inference.uncertainty.sandwich import longest_lag

MAX_STORED = 5 * 10**6  # numbers of a path that a result keeps


@dataclass(frozen=True, eq=False)
class PenalizedFit:
    """A penalized estimate, how it was chosen, and its errors.

    Attributes
    ----------
    kind : {"l1", "l2", "group"}
    strength : float
        Nats; for ``l2`` the penalty is ``strength/2 sum theta_j^2`` in log-odds.
    theta : ndarray (size,)
        The estimate; of the refit if that was asked for.
    errors : Errors
        Root mean squared errors of ``theta`` (their meaning: ``lft.inference.penalty.errors``).
    selected : ndarray (size,) of bool
        Penalized parameters that are not exactly zero.
    kkt, gap : float
        Certificate of the estimate before a refit.
    path : dict of ndarray
        ``strengths`` (n,), ``log_likelihood`` (n,) nats of all rows, ``n_selected`` (n,) penalized parameters that are
        not zero, ``kkt`` (n,), ``theta`` (n, size) unless that is too large.  Empty for a given strength.
    cross_validation : CrossValidation or None
    rule : str
        ``best``, ``one-se`` or ``given``.
    refitted : bool
    warnings : list of str
    """

    kind: str
    strength: float
    theta: np.ndarray
    errors: Errors
    selected: np.ndarray
    kkt: float
    gap: float
    path: dict
    cross_validation: CrossValidation | None
    rule: str
    refitted: bool
    warnings: list

    def report(self):
        """Plain numbers for JSON: the penalty, its strength, how it was chosen."""
        out = {
            "kind": self.kind,
            "strength": self.strength,
            "rule": self.rule,
            "refit": self.refitted,
            "n_selected": int(self.selected.sum()),
            "kkt": self.kkt,
            "gap_nats": self.gap,
            "prior_sd_log_odds": self.errors.prior_sd,
        }
        if self.path:
            out["path"] = {k: v.tolist() for k, v in self.path.items() if k != "theta"}
        cv = self.cross_validation
        if cv is not None:
            out["cross_validation"] = {
                "folds": len(cv.scores),
                "score": cv.mean.tolist(),
                "score_error": cv.error.tolist(),
                "score_fields_alone": float(cv.null_scores.mean()),
                "best": cv.best,
                "one_se": cv.one_se,
            }
        return out

    def arrays(self):
        """Arrays for the file of a fit, all in log-odds, parameters in the order of ``Objective.names()``."""
        out = {
            "penalty_theta": self.theta,
            "penalty_theta_error": self.errors.error,
            "penalty_selected": self.selected,
        }
        out |= {f"penalty_path_{name}": value for name, value in self.path.items()}
        if self.errors.debiased is not None:
            out["penalty_debiased"] = self.errors.debiased
            out["penalty_debiased_error"] = self.errors.debiased_error
        if self.cross_validation is not None:
            out["penalty_cv_scores"] = self.cross_validation.scores
            out["penalty_cv_scores_fields_alone"] = self.cross_validation.null_scores
        return out


def fit_penalized(
    objective,
    kind,
    *,
    strength="auto",
    n_folds=5,
    gap=None,
    rule=None,
    mix=0.0,
    weights=None,
    refit=False,
    n_strengths=None,
    span=None,
    n_blocks=None,
    progress=None,
):
    """Penalized maximum of an objective, with its strength chosen over time blocks and honest errors.

    Parameters
    ----------
    objective : Objective
        Of the training rows.
    kind : {"l1", "l2", "group"}
    strength : float or "auto"
        Nats, > 0; ``auto`` takes the path and cross-validates.
    n_folds : int
        Contiguous blocks of time, >= 2.
    gap : int, optional
        Rows left out beside a test block; default the longest lag of the model.
    rule : {"best", "one-se"}, optional
        Default ``best``: the one-standard-error rule shrinks more than the data ask for, and is for those who want
        fewer couplings.
    mix : float
        Quadratic share of an elastic penalty (``l1``, ``group``), 0 <= mix < 1.
    weights : {"equal", "noise"}, optional
        Default ``equal`` for ``l2`` (one prior for all couplings), ``noise`` otherwise (equal chance of a false one).
    refit : bool
        ``l1``, ``group``: fit the selected parameters again without a penalty.
    n_strengths, span : optional
        Of the path: see :func:`lft.inference.penalty.path.strengths`.
    n_blocks : int, optional
        Blocks behind the errors.
    progress : callable, optional
        Called with each solution of the path.

    Returns
    -------
    PenalizedFit

    Raises
    ------
    InputError
        Bad arguments.
    DivergenceError
        Not converged.

    Notes
    -----
    Cost: about 3 Newton steps per strength for the path and 2 per strength and fold.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> rng = np.random.default_rng(0)
    >>> x, truth = rng.normal(size=(1000, 20)), np.where(np.arange(20) < 3, 0.5, 0.0)
    >>> o = LinearObjective(x, x @ truth + rng.normal(size=1000))
    >>> fit = fit_penalized(o, "l1", rule="one-se")
    >>> bool(fit.selected[:3].all()), bool(fit.selected.sum() < 10), fit.cross_validation.scores.shape
    (True, True, (5, 20))
    """
    if not (strength == "auto" or (_is_number(strength) and math.isfinite(strength) and strength > 0)):
        raise InputError(f"strength = {strength!r}: valid is 'auto' or a number > 0 (nats)")
    if refit and kind == "l2":
        raise InputError("refit: an l2 penalty drops no coupling, so there is no support to fit again")
    penalty, begin, null = _posed(objective, kind, mix, weights, strength == "auto")
    path, cv, warnings = {}, None, []
    if strength == "auto":
        folds = time_folds(objective.n_rows, n_folds, longest_lag(objective) if gap is None else gap)
        grid = strengths(penalty, null, n_strengths, span)
        cv, solutions = cross_validate(objective, penalty, grid, folds, begin, progress=progress)
        used = "best" if rule is None else rule
        solution = solutions[cv.chosen(used)]
        path = _stored(solutions, penalty)
        warnings += [cv.warning] if cv.warning else []
    else:
        if rule is not None:
            raise InputError(f"rule {rule!r}: the strength {strength:g} is given, there is nothing to choose")
        solution, used = maximize_penalized(objective, penalty, float(strength), begin), "given"
    theta = solution.theta
    selected = (theta != 0) & penalty.penalized
    if refit:
        theta = maximize_on(objective, selected | ~penalty.penalized, theta)[0]
        warnings.append("refit: errors take the selection of the couplings as given")
    errors = (
        sparse_errors(objective, theta, n_blocks)
        if penalty.has_norm
        else ridge_errors(objective, penalty, solution, n_blocks)
    )
    warnings += [errors.warning] if errors.warning else []
    for name, sd in errors.prior_sd.items():
        if sd == 0:
            warnings.append(
                f"couplings {name}: their scatter does not exceed its noise, so their errors hold no bias and are "
                "those of couplings that are all zero"
            )
    return PenalizedFit(
        kind, solution.strength, theta, errors, selected, solution.kkt, solution.gap, path, cv, used, refit, warnings
    )


def estimate(objective, kind, strength, *, mix=0.0, weights=None, refit=False, start=None):
    """The estimate at a given strength, without errors: what a bootstrap repeats.

    Parameters
    ----------
    objective, kind, strength, mix, weights, refit
        As in :func:`fit_penalized`.
    start : ndarray (size,), optional
        A penalized maximum nearby.

    Returns
    -------
    ndarray (size,)

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.eye(3), [3.0, -0.5, 2.0])
    >>> [estimate(o, "l1", 1.0, weights="equal", refit=r).round(6).tolist() for r in (False, True)]
    [[2.0, 0.0, 1.0], [3.0, 0.0, 2.0]]
    """
    penalty, begin, _ = _posed(objective, kind, mix, weights)
    theta = maximize_penalized(objective, penalty, float(strength), begin if start is None else start).theta
    return maximize_on(objective, (theta != 0) | ~penalty.penalized, theta)[0] if refit else theta


def _posed(objective, kind, mix, weights, with_null=False):
    """(penalty, start, fit of the fields alone or None where nothing asks for it)."""
    if kind == "l2" and weights in (None, "equal") and not with_null:
        return penalty_for(objective, kind, mix=mix), getattr(objective, "start", lambda: None)(), None
    null = null_fit(objective)
    return make_penalty(objective, kind, null, mix, weights), null.theta, null


def _is_number(value):
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _stored(solutions, penalty):
    out = {
        "strengths": np.array([s.strength for s in solutions]),
        "log_likelihood": np.array([s.log_likelihood for s in solutions]),
        "n_selected": np.array([int((s.selected & penalty.penalized).sum()) for s in solutions]),
        "kkt": np.array([s.kkt for s in solutions]),
    }
    if len(solutions) * len(solutions[0].theta) <= MAX_STORED:
        out["theta"] = np.stack([s.theta for s in solutions])
    return out
