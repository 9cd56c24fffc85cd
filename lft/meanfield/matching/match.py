"""Parameters of a model that make it reproduce given statistics: weighted least squares over its solutions.

    minimize  chi^2 = sum_k [(s_k(theta) - t_k)/w_k]^2,     w_k^2 = error_k^2 + (tolerance size_k)^2

with ``error_k`` those of target and model together.  The tolerance keeps targets without noise (closed solutions) from
outweighing each other by their rounding; it is no error, and does not enter those of the parameters:

    Cov(theta) = G diag(error^2) G^T,        G = (J^T W J)^-1 J^T W                      (linear propagation)

Steps are those of Levenberg and Marquardt, in units of the size of each parameter; a step to where the model is not
valid or has no solution is shortened; a search that ends with a poor misfit begins again from the best of 12 places
around the start.  Sampled models keep their seed, so that their noise is the same at all
parameters; derivatives are taken over wide steps.

What is not determined: in units of the parameters' sizes, directions along which a change by half leaves all
statistics within w.  They are reported with their weights, and parameters that take part in them have no error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.errors import ConvergenceError, InputError
from lft.meanfield.matching.portrait import CURVES, MATRICES, SCALARS, WHOLE
from lft.meanfield.matching.sidebyside import Beside, pairing

TOLERANCE = 1e-3
BLIND = 2.0
"""Singular values below this leave a direction undetermined: half of the parameters' size moves chi by less than 1."""
SHARE = 0.1
"""Weight in an undetermined direction from which a parameter counts as undetermined itself."""
CURVE_POINTS = 8
EXACT_STEP, SAMPLED_STEP = 1e-4, 0.05
MAX_STEPS = 60
POOR = 3.0
"""Misfit above which the search begins again at other places."""
PLACES, BEST, SPREAD = 12, 2, 20.0
"""Places that are tried then, how many of them searches begin at, and how far apart they lie (factor up and down)."""
CONVERGED = 1e-7
CREEP, CREEPING = 1e-2, 5
"""A fall of chi^2 that counts as none, in units of the target's errors, and how many such steps in a row end a search:
beside a fold of the model's states the least misfit lies in a bent valley, in which steps become ever smaller.  Said by
:attr:`Match.has_settled`."""


@dataclass(frozen=True)
class Match:
    """Matched parameters.

    Attributes
    ----------
    parameters : dict
        ``{path: (value, error)}``; the error is nan where the statistics do not determine the value.
    start : dict
        Where the search began.
    rows : tuple of Beside
        Statistics: target, then model.
    chi2 : float
        With errors alone where they exist; see ``misfit``.
    n_free : int
        Statistics minus determined directions.
    misfit : float
        Root mean square of (model - target)/w.
    undetermined : tuple of dict
        Directions ``{path: weight}`` that the statistics do not see, in changes relative to a parameter's size, here or
        at the start.
    portrait : Portrait
        Of the matched model.
    evaluations : int
    has_settled : bool
        False where the search was ended in a valley along which the misfit still fell, by less than CREEP per step.
    """

    parameters: dict
    start: dict
    rows: tuple
    chi2: float
    n_free: int
    misfit: float
    undetermined: tuple
    portrait: object = field(repr=False)
    evaluations: int = 0
    has_settled: bool = True

    @property
    def model(self):
        """The matched model."""
        return self.portrait.solution.model

    def table(self):
        """Text: parameters, then statistics."""
        lines = ["parameter: start -> matched"]
        for path, (value, error) in self.parameters.items():
            text = "not determined" if math.isnan(error) else format_with_error(value, error)
            shown = f"{value:.6g} ({text})" if math.isnan(error) else text
            lines.append(f"  {path}: {self.start[path]:.6g} -> {shown}")
        lines += [f"not determined (relative changes): {combination(d)}" for d in self.undetermined]
        lines.append("statistic: target, model, z")
        for r in self.rows:
            z = "-" if math.isnan(r.z) else f"{r.z:.1f}"
            lines.append(f"  {r.name} {r.where}: {r.one:.6g}  {r.two:.6g}  {z}")
        lines.append(
            f"misfit {self.misfit:.3g} (root mean square over tolerance and error), chi2 {self.chi2:.4g} for "
            f"{self.n_free} degrees of freedom, {self.evaluations} solutions"
        )
        if not self.has_settled:
            lines.append(f"the search ended in a valley: chi2 still falls, by less than {CREEP:g} per step")
        return "\n".join(lines)

    def as_json(self):
        """Plain numbers; what is not finite becomes None."""

        def plain(x):
            return float(x) if math.isfinite(x) else None

        return {
            "parameters": {
                k: {"value": v, "error": plain(e), "start": self.start[k]} for k, (v, e) in self.parameters.items()
            },
            "undetermined": list(self.undetermined),
            "statistics": [
                {
                    "name": r.name,
                    "where": r.where,
                    "target": plain(r.one),
                    "target_error": plain(r.one_error),
                    "model": plain(r.two),
                    "model_error": plain(r.two_error),
                    "z": plain(r.z),
                }
                for r in self.rows
            ],
            "chi2": plain(self.chi2),
            "degrees_of_freedom": self.n_free,
            "misfit": plain(self.misfit),
            "evaluations": self.evaluations,
            "settled": self.has_settled,
        }


def combination(direction):
    """Text of a direction in the space of parameters."""
    terms = [f"{weight:+.2f} {path}" for path, weight in direction.items() if abs(weight) >= SHARE]
    return " ".join(terms)


def default_statistics(target, names):
    """Statistics that a match takes unless told: of the states where target and model have them, else of outputs."""
    states = ("state_mean", "state_variance", "state_timescale")
    if all(n in target and n in names for n in states):
        return states
    outputs = ("mean", "frozen_variance", "variance", "pair_mean", "pair_spread")
    chosen = tuple(n for n in outputs if n in target and n in names)
    if not chosen:
        raise InputError(f"nothing to match: target and model share none of {', '.join(states + outputs)}")
    return chosen


def _places(name, target):
    """Indices of a curve that are matched: where the target has not decayed, about equally spaced."""
    value = np.abs(target.curves[name][0]).max(axis=0)
    above = np.flatnonzero(value > 0.05 * value.max())
    last = int(above[-1]) if len(above) else 1
    first = 1 if name == "spectrum" else 0
    return np.unique(np.linspace(first, max(last, first + 1), CURVE_POINTS).astype(int))


def vector(portrait, target, statistics, order):
    """(values, errors, [(name, where)]) of one portrait at the places of the target; ``order``: its populations."""
    values, errors, labels = [], [], []
    for name in statistics:
        if name in CURVES:
            at = target.frequencies if name == "spectrum" else target.lags
            mine = portrait.frequencies if name == "spectrum" else portrait.lags
            v, e = portrait.curves[name]
            places = _places(name, target)
            if at[places[-1]] > mine[-1] * (1 + 1e-9):
                raise InputError(
                    f"{name}: the model has it up to {mine[-1]:g}, the target is matched up to "
                    f"{at[places[-1]]:g}: a longer duration (or a smaller dt)"
                )
            for a, k in enumerate(order):
                values += np.interp(at[places], mine, v[k]).tolist()
                errors += np.interp(at[places], mine, e[k]).tolist()
                labels += [(name, f"{target.names[a]} at {x:.4g}") for x in at[places]]
            continue
        v, e = (np.asarray(x, float) for x in portrait[name])
        if name in SCALARS:
            v, e = v[order], e[order]
            places = list(target.names)
        elif name in MATRICES:
            upper = np.triu_indices(len(order))
            v, e = v[np.ix_(order, order)][upper], e[np.ix_(order, order)][upper]
            places = [f"{target.names[i]}, {target.names[j]}" for i, j in zip(*upper, strict=True)]
        else:
            v, e, places = v.reshape(1), e.reshape(1), [""]
        values += v.tolist()
        errors += e.tolist()
        labels += [(name, w) for w in places]
    return np.array(values), np.nan_to_num(np.array(errors)), labels


def _check_statistics(statistics, target, first):
    valid = [
        n
        for n in (*SCALARS, *MATRICES, *WHOLE, *CURVES)
        if (n in target and n in first) or (n in target.curves and n in first.curves)
    ]
    for name in statistics:
        if name not in valid:
            raise InputError(f"statistic {name!r}: valid are those of target and model, {', '.join(valid)}")


def _sizes(t, labels):
    """Scale of every statistic: the largest of its name."""
    largest = {}
    for x, (name, _) in zip(t, labels, strict=True):
        largest[name] = max(largest.get(name, 0.0), abs(x))
    overall = max(largest.values(), default=1.0) or 1.0
    return np.array([largest[name] or overall for name, _ in labels])


def match(describe, start, target, statistics=None, tolerance=TOLERANCE, is_exact=True):
    """Find parameters of a model that give the statistics of a target.

    Parameters
    ----------
    describe : callable
        ``{path: value} -> Portrait`` of the model with these parameters; raises InputError or ConvergenceError where
        there is none.
    start : dict
        ``{path: value}``.
    target : Portrait
    statistics : sequence of str, optional
        Names of :class:`~lft.meanfield.matching.portrait.Portrait`; curves are matched at 8 places.  Default
        :func:`default_statistics`.
    tolerance : float, optional
        Relative difference of a statistic that counts as one error.
    is_exact : bool, optional
        False for sampled solutions: derivatives over steps of 5 % instead of 1e-4.

    Returns
    -------
    Match

    Raises
    ------
    InputError
        Unknown statistics, or fewer statistics than can be matched.
    ConvergenceError
        The search found no least misfit; carries the values of chi.

    Examples
    --------
    >>> from lft.meanfield.matching.match import match
    >>> from lft.meanfield.matching.portrait import portrait
    >>> from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
    >>> from lft.meanfield.neurons import Rate
    >>> def network(values):
    ...     cells = Population("x", Rate("linear", noise=values["noise"]))
    ...     weights = (Connection("x", "x", Gaussian(0.0, values["std"])),)
    ...     return portrait(Model((cells,), weights, Solve("stationary", 0.1, 40.0)))
    >>> target = network({"noise": 0.7, "std": 0.4})
    >>> found = match(network, {"noise": 1.0, "std": 0.2}, target)
    >>> {path: round(value, 4) for path, (value, _) in found.parameters.items()}
    {'noise': 0.7, 'std': 0.4}
    """
    paths, theta = list(start), np.array(list(start.values()), float)
    first = describe(dict(zip(paths, theta.tolist(), strict=True)))
    statistics = tuple(statistics or default_statistics(target, {**first.values, **first.curves}))
    _check_statistics(statistics, target, first)
    into, order = pairing(target.names, first.names)[:2]
    t, t_error, labels = vector(target, target, statistics, into)
    search = _Search(
        describe, paths, t, t_error, tolerance * _sizes(t, labels), lambda p: vector(p, target, statistics, order)[:2]
    )
    search.step = EXACT_STEP if is_exact else SAMPLED_STEP
    theta, state = search.from_several(theta, np.where(np.abs(theta) > 0, np.abs(theta), 0.1), first)
    return _report(search, theta, state, paths, start, labels)


class _Search:
    """Levenberg-Marquardt with steps that stay where the model has solutions."""

    def __init__(self, describe, paths, target, target_error, floor, read):
        self.describe, self.paths, self.t, self.t_error = describe, paths, target, target_error
        self.floor, self.read, self.evaluations, self.step = floor, read, 1, EXACT_STEP
        self.obstacle, self.has_settled = "", True

    def at(self, theta, portrait=None):
        """(portrait, values, errors) at some parameters."""
        if portrait is None:
            self.evaluations += 1
            portrait = self.describe(dict(zip(self.paths, theta.tolist(), strict=True)))
        return (portrait, *self.read(portrait))

    def try_at(self, theta):
        try:
            return self.at(theta)
        except (InputError, ConvergenceError) as error:
            self.obstacle = f"{error}"
            return None

    def jacobian(self, theta, scale, state):
        """d s/d(theta/scale), (K, n), by one-sided differences; the other side where the model is not valid."""
        columns = []
        for k in range(len(theta)):
            for side in (self.step, -self.step):
                moved = theta.copy()
                moved[k] += side * scale[k]
                there = self.try_at(moved)
                if there is not None:
                    columns.append((there[1] - state[1]) / side)
                    break
            else:
                raise ConvergenceError(f"{self.paths[k]} = {theta[k]:.6g}: no solution on either side of it", [])
        return np.array(columns).T

    def from_several(self, theta, scale, first):
        """(theta, state) of the least misfit: from the start, and where that is poor, from places around it."""
        found, failed = [], None

        def attempt(theta, scale, portrait=None):
            nonlocal failed
            try:
                theta, state = self.run(theta, scale, portrait)
                found.append(
                    (
                        float(np.mean(((state[1] - self.t) / self.weights) ** 2)),
                        len(found),
                        theta,
                        state,
                        (self.weights, self.derivative, self.scale, self.has_settled),
                    )
                )
            except ConvergenceError as error:
                failed = failed or error

        attempt(theta, scale, first)
        if not found or found[0][0] > POOR**2:
            for _, _, other in sorted(self.around(theta, scale))[:BEST]:
                attempt(other, np.maximum(np.abs(other), 1e-2 * scale))
                if found and min(found)[0] <= POOR**2:
                    break
        if not found:
            raise failed
        _, _, theta, state, (self.weights, self.derivative, self.scale, self.has_settled) = min(found)
        return theta, state

    def around(self, theta, scale):
        """[(misfit, number, theta)] at places that are spread over a factor of SPREAD up and down (Halton points)."""
        from scipy.stats import qmc

        out = []
        for number, point in enumerate(qmc.Halton(len(theta), scramble=False).random(PLACES + 1)[1:]):
            factors = SPREAD ** (2 * point - 1)
            other = np.where(theta != 0, theta * factors, scale * np.log(factors))
            there = self.try_at(other)
            if there is not None:
                w2 = self.t_error**2 + there[2] ** 2 + self.floor**2
                out.append((float(np.sum((there[1] - self.t) ** 2 / w2)), number, other))
        return out

    def run(self, theta, scale, first):
        state, damping, history, slow, begun = self.at(theta, first), 1e-3, [], 0, scale
        for _ in range(MAX_STEPS):
            w = np.sqrt(self.t_error**2 + state[2] ** 2 + self.floor**2)
            scale = np.maximum(np.abs(theta), 1e-2 * scale)
            r, j = (state[1] - self.t) / w, self.jacobian(theta, scale, state) / w[:, None]
            chi = float(r @ r)
            history.append(chi)
            normal, moved = j.T @ j, False
            for _ in range(25):
                size = damping * (np.diag(normal) + 1e-12 * np.trace(normal) + 1e-300)
                step = -np.linalg.solve(normal + np.diag(size), j.T @ r)
                step *= min(1.0, 1.0 / max(np.max(np.abs(step)), 1e-300))  # no parameter by more than its size
                there = self.try_at(theta + step * scale)
                if there is not None and float(np.sum(((there[1] - self.t) / w) ** 2)) < chi:
                    moved = True
                    break
                damping *= 4.0
                if np.max(np.abs(step)) < CONVERGED:
                    break
            if moved:
                theta, state, damping = theta + step * scale, there, damping / 10.0
            gain = chi - float(np.sum(((state[1] - self.t) / w) ** 2))
            slow = slow + 1 if gain < CREEP and np.any(self.t_error > 0) else 0
            if not moved or np.max(np.abs(step)) < CONVERGED or gain <= 1e-10 * (chi + 1e-12) or slow == CREEPING:
                if not moved and float(np.linalg.norm(j.T @ r)) > 1e-2 * np.sqrt(chi * np.trace(normal)) and chi > 1:
                    raise ConvergenceError(
                        f"the misfit falls no more, at {chi:.4g}, though its slope is not 0: "
                        "begin elsewhere, or free fewer parameters"
                        + (f" (on the way: {self.obstacle})" if self.obstacle else ""),
                        history,
                    )
                # sizes are no less than at the start: beside 0 every relative change is unseen
                self.scale = np.maximum(np.abs(theta), begun)
                self.weights, self.derivative = w, self.jacobian(theta, scale, state) * (self.scale / scale)
                self.has_settled = slow < CREEPING
                return theta, state
        raise ConvergenceError(
            f"no least misfit in {MAX_STEPS} steps (chi2 {history[0]:.4g} -> {history[-1]:.4g})", history
        )


def _report(search, theta, state, paths, start, labels):
    j = search.derivative / search.weights[:, None]
    u, s, vt = np.linalg.svd(j, full_matrices=True)
    s = np.concatenate([s, np.zeros(len(vt) - len(s))])
    seen = s >= BLIND
    blind = vt[~seen]
    inverse = (vt[seen].T / s[seen]) @ u[:, : len(s)][:, np.flatnonzero(seen)].T  # theta/scale per r
    error = np.hypot(search.t_error, state[2])
    own = np.sqrt(np.sum((inverse * (error / search.weights)) ** 2, axis=1)) * search.scale
    hidden = (np.abs(blind) > SHARE).any(axis=0) if len(blind) else np.zeros(len(theta), bool)
    own[hidden] = math.nan
    r = state[1] - search.t
    has_error = error > 0
    chi2 = float(np.sum((r[has_error] / error[has_error]) ** 2))
    rows = tuple(
        Beside(n, w, *map(float, four))
        for (n, w), *four in zip(labels, search.t, search.t_error, state[1], state[2], strict=True)
    )
    return Match(
        {p: (float(v), float(e)) for p, v, e in zip(paths, theta, own, strict=True)},
        dict(start),
        rows,
        chi2,
        int(len(r) - seen.sum()),
        float(np.sqrt(np.mean((r / search.weights) ** 2))),
        tuple({p: float(x) for p, x in zip(paths, row, strict=True)} for row in blind),
        state[0],
        search.evaluations,
        search.has_settled,
    )
