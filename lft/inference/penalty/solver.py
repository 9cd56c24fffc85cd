"""The penalized maximum, by proximal Newton steps, with a certificate.

    maximize  L(theta) - Omega(theta),      L concave with information H = -L''

Without a kink (``l2``) that is Newton with ``s q`` on the diagonal of H.  Otherwise each step maximizes the quadratic
model of L minus Omega by the alternating direction method of multipliers in the metric R = diag(H), free parameters
without it (standard result; z is the sparse copy of theta + d, u the scaled multiplier):

    (H + R) d = g + R (z - u - theta),      z = prox(theta + d + u),      u <- u + theta + d - z

so that one factor of H + R serves a whole step, whatever solver the objective brings.  A line search along z - theta
makes the outer iteration converge from anywhere.  The certificate is the Karush-Kuhn-Tucker residual r, reported as

    kkt = max_j |r_j|/sqrt(H_jj)     (standard deviations of the score)     and     gap = 1/2 r H^-1 r     (nats)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lft.errors import DivergenceError
from lft.inference import newton
from lft.inference.protocols import Information

TOLERANCE = 1e-6
MAX_INNER = 2000
MAX_POLISH = 5
RELAXATION = 1.6
FAST = 0.1  # largest ratio of promised gains, or residuals, of two steps with one information
SLOW = 0.3  # the same of the residuals of two steps with a kink, whose inner problem costs more than the information
NEARLY = 0.8
MAX_WORKING = 9000
"""Parameters of a step whose matrix is factored (0.6 GB, 240 G operations)."""
FIXED = 1e9  # per row, on the diagonal of the information: the parameter does not move


@dataclass(frozen=True, eq=False)
class Known:
    """The information of a problem nearby, in place of one's own: gradients are exact, so no maximum depends on it.

    Attributes
    ----------
    information : Information
        Of H + diag(ridge), and where there is a kink of H + diag(ridge + metric).
    scale : ndarray (size,) or None
        Standard deviations of the scores, from which the metric is made.
    share : float
        The problem at hand has ``share`` times this information.
    """

    information: Information
    scale: np.ndarray | None = None
    share: float = 1.0

    def solve(self, vector):
        """H^-1 vector, as well as a step needs it where the information knows such a solution (``step``)."""
        return getattr(self.information, "step", self.information.solve)(vector) / self.share

    def exactly(self, vector):
        """The same to the last digit."""
        return self.information.solve(vector) / self.share

    def estimate(self, vector):
        """Roughly the same."""
        return getattr(self.information, "estimate", self.information.solve)(vector) / self.share

    def on(self, places):
        """``vector -> H^-1 vector`` among some parameters, the others held still, from a factor of their matrix; None
        where the information knows none, or they are too many for that to pay."""
        size, n = len(self.scale), len(places)
        if not hasattr(self.information, "restricted") or 2 * n > size or n > MAX_WORKING:
            return None
        factor = self.information.restricted(places)

        def solve(vector):
            out = np.zeros(size)
            out[places] = factor.solve(vector[places]) / self.share
            return out

        return solve

    def diagonal(self):
        """Diagonal of H."""
        return self.information.diagonal() * self.share

    def of_part(self, share):
        """The same for a stretch with this share of the rows."""
        return replace(self, share=share * self.share)


@dataclass(frozen=True, eq=False)
class Solution:
    """A penalized maximum.

    Attributes
    ----------
    theta : ndarray (size,)
    strength : float
    log_likelihood : float
        Nats, without the penalty.
    gradient : ndarray (size,)
        Of the log-likelihood.
    ridge : ndarray (size,)
        s q, the curvature of the penalty's quadratic part.
    make : callable
        ``extra -> Information`` of H + diag(extra).
    residual : ndarray (size,)
        r: the smallest element of the gradient of L - Omega.
    kkt : float
        The certificate: see the module.
    n_steps : int
    searched : Known or None
        What its last steps were made with; :func:`lft.inference.penalty.path.solve_path` drops it, for it is large.
    """

    theta: np.ndarray
    strength: float
    log_likelihood: float
    gradient: np.ndarray
    ridge: np.ndarray
    make: object
    residual: np.ndarray
    kkt: float
    n_steps: int
    searched: Known | None = None

    @property
    def information(self) -> Information:
        """H plus the quadratic part of the penalty, factored when first asked for."""
        # not functools.cached_property, which locks all solutions in Python 3.11: fits side by side would stop
        if "_information" not in self.__dict__:
            object.__setattr__(self, "_information", self.make(self.ridge))
        return self.__dict__["_information"]

    @property
    def gap(self):
        """Distance from the maximum in nats, to leading order: 1/2 r H^-1 r."""
        return 0.5 * float(self.residual @ self.information.solve(self.residual))

    @property
    def selected(self):
        """(size,) of bool: parameters that are not exactly zero."""
        return self.theta != 0


def maximize_penalized(objective, penalty, strength, start=None, tolerance=TOLERANCE, max_steps=100, known=None):
    """Maximum of ``L(theta) - Omega(theta)``.

    Parameters
    ----------
    objective : Objective
    penalty : Penalty
    strength : float
        s >= 0, nats.
    start : ndarray (size,), optional
        Default 0; the solution at a neighboring strength saves steps.
    tolerance : float
        Largest kkt residual, in standard deviations of the score.
    max_steps : int
    known : Known, optional
        Of a problem nearby: used as long as it brings the residual down fast.

    Returns
    -------
    Solution

    Raises
    ------
    DivergenceError
        Not converged, or the information is singular (a strength of 0 on separable data).

    Examples
    --------
    An orthogonal design: the maximum is the soft threshold of the free one.

    >>> import numpy as np
    >>> from lft.inference.penalty.terms import penalty_for
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.eye(3), [3.0, -0.5, 2.0])
    >>> s = maximize_penalized(o, penalty_for(o, "l1"), 1.0)
    >>> np.allclose(s.theta, [2, 0, 1]), s.selected.tolist(), s.kkt < 1e-6
    (True, [True, False, True], True)
    """
    theta = np.zeros(objective.size) if start is None else np.array(start, float)
    ridge = strength * penalty.ridge_weights
    if not penalty.has_norm:
        return _newton(objective, penalty, strength, theta, tolerance, max_steps, known)
    value, gradient, make = objective.evaluate(theta)
    # of the start: it measures the residual, and keeps the metric fixed
    scale, before = _scale(make, ridge) if known is None else known.scale * np.sqrt(known.share), np.inf
    for step in range(max_steps):
        residual = penalty.residual(theta, gradient, strength)
        kkt = float(np.max(np.abs(residual) / scale))
        if kkt < tolerance:
            return Solution(theta, float(strength), value, gradient, ridge, make, residual, kkt, step, known)
        if known is None or kkt > SLOW * before:
            known = Known(make(ridge + _metric(penalty, scale)), scale)
        before, slope = kkt, gradient - ridge * theta
        places = _working(penalty, strength, theta, gradient)
        solve = known.on(places) or known.exactly
        target = _quadratic_model(penalty, strength, theta, slope, solve, scale, min(0.01 * kkt, 1e-3))
        move = target - theta
        now = value - penalty.value(theta, strength)
        promised = float(slope @ move) - penalty.norm_value(target, strength) + penalty.norm_value(theta, strength)
        length = 1.0
        while True:
            trial = target if length == 1 else theta + length * move
            new = objective.evaluate(trial)
            gain = new[0] - penalty.value(trial, strength) - now
            if np.isfinite(gain) and gain >= 1e-2 * length * promised - 1e-13 * (1 + abs(now)):
                break
            length /= 2
            if length < 1e-10:
                raise DivergenceError(
                    f"penalized fit: no step raises the likelihood at strength {strength:.4g}; kkt residual {kkt:.2g}"
                )
        theta, (value, gradient, make) = trial, new
    raise DivergenceError(
        f"penalized fit: not converged after {max_steps} steps at strength {strength:.4g}; kkt residual {kkt:.2g}"
    )


def _metric(penalty, scale):
    """R of the module, one number per group as one per parameter; 0 where nothing is penalized."""
    index, penalized = penalty.index, penalty.penalized
    return penalty.spread(np.bincount(index[penalized], scale[penalized] ** 2) / np.bincount(index[penalized]))


def _working(penalty, strength, theta, gradient):
    """Places that a step may move: free parameters, what is not zero, and what would leave zero at ``NEARLY`` times the
    strength; whether anything else should is asked of the whole gradient before the next step."""
    moves = (theta != 0) | (penalty.residual(theta, gradient, NEARLY * strength) != 0) | ~penalty.penalized
    groups = np.bincount(penalty.index[penalty.penalized & moves], minlength=len(penalty.norm_weights)) > 0
    return np.flatnonzero(~penalty.penalized | np.append(groups, False)[penalty.index])


def _quadratic_model(penalty, strength, theta, slope, solve, scale, tolerance):
    """Maximum of the quadratic model around theta minus the norms; ``solve`` is that of H + R."""
    penalized, r = penalty.penalized, _metric(penalty, scale)
    metric = np.ones(len(penalty.norm_weights))
    metric[penalty.index[penalized]] = r[penalized]
    z, u = theta.copy(), np.zeros(len(theta))
    weight = np.where(penalized, np.sqrt(r), 0.0)
    for _ in range(MAX_INNER):
        x = theta + solve(slope + r * (z - u - theta))
        relaxed = np.where(penalized, RELAXATION * x + (1 - RELAXATION) * z, x)
        old, z = z, penalty.shrink(relaxed + u, metric, strength)
        u = np.where(penalized, u + relaxed - z, 0.0)
        if max(np.max(weight * np.abs(x - z)), np.max(weight * np.abs(z - old))) < tolerance:
            break
    return z


class _Kept:
    """The information of a search, kept from point to point while the promised gain falls fast: gradients are exact.

    To begin with it may be that of a neighboring strength or of a longer stretch.
    """

    def __init__(self, ridge, information=None):
        self.ridge, self.information, self.before = ridge, information, np.inf

    def at(self, gradient, make):
        """The information to use where the penalized gradient is this one; ``make`` gives that of the place itself."""
        if self.information is not None:
            promised = self._promised(gradient)
            if promised <= FAST * self.before:
                self.before = promised
                return self.information
        self.information = Known(make(self.ridge))
        self.before = self._promised(gradient)
        return self.information

    def _promised(self, gradient):
        return float(gradient @ self.information.estimate(gradient))


def _newton(objective, penalty, strength, theta, tolerance, max_steps, known=None):
    ridge = strength * penalty.ridge_weights
    evaluations, last, kept = 0, None, _Kept(ridge, known)

    def evaluate(point):
        nonlocal evaluations, last
        evaluations += 1
        value, gradient, make = objective.evaluate(point)
        last = point, value, gradient, make
        slope = gradient - ridge * point
        return (
            value - 0.5 * float(ridge @ point**2),
            slope,
            lambda extra: kept.at(slope, make) if extra is None else make(ridge + extra),
        )

    # below this gain the rounding of the value hides whether a step helps: the rest is up to the gradient
    gain = max(0.1 * tolerance**2 * objective.size, 1e-7)
    theta, _, information = newton.maximize(evaluate, theta, gain, max_steps)
    if last[0] is not theta:
        evaluate(theta)
    scale, before = np.sqrt(np.maximum(information.diagonal(), 1e-9)), np.inf
    for polish in range(MAX_POLISH + 1):
        _, value, gradient, make = last
        residual = penalty.residual(theta, gradient, strength)
        kkt = float(np.max(np.abs(residual) / scale))
        if kkt < tolerance or polish == MAX_POLISH:
            break
        if kkt > FAST * before:
            information = Known(make(ridge))
        before, theta = kkt, theta + information.solve(residual)
        evaluate(theta)
    known = replace(information, scale=scale / np.sqrt(information.share))
    return Solution(theta, float(strength), value, gradient, ridge, make, residual, kkt, evaluations - 1, known)


def _scale(make, ridge):
    """Standard deviations of the scores, from the diagonal of the information."""
    # an objective may report its diagonal with or without what was added: a little is added where nothing is
    return np.sqrt(np.maximum(make(np.maximum(ridge, 1e-9)).diagonal(), 1e-9))


def maximize_on(objective, keep, start=None):
    """Maximum without a penalty over the parameters in ``keep`` (size,), the others fixed at zero.

    The null model of a path (``keep`` = the free parameters), or the refit on a selected support.

    Returns
    -------
    theta, log_likelihood, gradient, information
        The gradient of all parameters; the information holds the fixed ones still.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.eye(3), [3.0, -0.5, 2.0])
    >>> maximize_on(o, np.array([True, False, True]))[0].round(6).tolist()
    [3.0, 0.0, 2.0]
    """
    theta = np.zeros(objective.size) if start is None else np.where(keep, start, 0.0)
    fixed = np.where(keep, 0.0, FIXED * objective.n_rows)
    kept = _Kept(fixed)

    def evaluate(point):
        value, gradient, make = objective.evaluate(point)
        slope = np.where(keep, gradient, 0.0)
        return value, slope, lambda extra: kept.at(slope, make) if extra is None else make(fixed + extra)

    theta, value, information = newton.maximize(evaluate, theta)
    theta = np.where(keep, theta, 0.0)
    return theta, value, objective.score(theta, 0, objective.n_rows), information
