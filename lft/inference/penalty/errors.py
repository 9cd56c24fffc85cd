"""What the errors of penalized estimates mean, and how they are made.

Everything is kept as influences U (rows, size): the mean squared error of a linear function M theta is the sum over
rows of ``(U M^T)^2``.

**l2.**  With ``Lambda = diag(s q)``, ``M = (H + Lambda)^-1`` and score covariance G, an estimate about the truth theta
is ``theta_hat - theta = M (score - Lambda theta)`` to first order.  Averaged over couplings from a Gaussian of variance
``tau^2`` (one per kind of parameter),

    E (theta_hat - theta)(theta_hat - theta)^T = M G M + M Lambda diag(tau^2) Lambda M

variance plus mean squared bias.  If G = H and Lambda = 1/tau^2 this is the covariance of the Gaussian posterior, M.
For a pseudo-likelihood G is near 2 H, as every pair stands in the terms of both its units, and the formula stays right
where M would not.  ``tau^2`` follows from the size of the estimates themselves, by their second moment

    sum_(j of a kind) theta_hat_j^2 = tr (M G M) + tau^2 tr (M H H M)      (traces over that kind)

and not from the strength, so that a badly chosen strength still gives honest errors.  Such intervals hold on average
over couplings, not for each coupling: a single strong coupling among many weak ones is shrunk too much
(the mean squared error of a smoother in the sense of Bayesian confidence intervals; standard result).

**l1, group.**  The estimate is biased toward zero by an amount of the order of its error.  One Newton step without the
penalty from there, ``theta_1 = theta_hat + H^-1 g``, is as good as the free maximum to first order, has the sandwich
error, and needs no finite maximum.  Intervals and tests belong to theta_1 (``debiased``).  The sparse estimate itself
gets ``error^2 = (theta_hat - theta_1)^2 + error_1^2``, an interval which covers at least as often as that of theta_1.
The same holds for the refit on the support.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.inference.uncertainty.sandwich import influences
from lft.rng import Key, Stream

EXACT_SIZE = 3000
PROBES = 32


@dataclass(frozen=True, eq=False)
class Errors:
    """Influences of an estimate and what they rest on.

    Attributes
    ----------
    influences : ndarray (rows, size)
    prior_sd : dict
        ``l2``: tau of every penalized kind.  Empty otherwise.
    debiased, debiased_influences : ndarray (size,) and (rows, size), or None
        ``l1``, ``group``: the one-step estimate and its influences.
    warning : str or None
    """

    influences: np.ndarray
    prior_sd: dict
    debiased: np.ndarray | None
    debiased_influences: np.ndarray | None
    warning: str | None

    @property
    def error(self):
        """(size,) root mean squared error of the estimate."""
        return np.sqrt((self.influences**2).sum(axis=0))

    @property
    def debiased_error(self):
        """(size,) standard error of the one-step estimate, or None."""
        return None if self.debiased is None else np.sqrt((self.debiased_influences**2).sum(axis=0))


def ridge_errors(objective, penalty, solution, n_blocks=None, seed=0):
    """Errors of an ``l2`` estimate: see the module.

    Parameters
    ----------
    objective : Objective
    penalty : Penalty
    solution : Solution
    n_blocks : int, optional
    seed : int
        Of the random probes that estimate the bias above 3000 parameters (32 probes: its square to 25 %).

    Returns
    -------
    Errors

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.penalty.solver import maximize_penalized
    >>> from lft.inference.penalty.terms import penalty_for
    >>> from lft.testing.objectives import LinearObjective
    >>> rng = np.random.default_rng(1)
    >>> x, truth = rng.normal(size=(2000, 200)), 0.03 * rng.normal(size=200)
    >>> o = LinearObjective(x, x @ truth + rng.normal(size=2000))
    >>> p = penalty_for(o, "l2")
    >>> s = maximize_penalized(o, p, 0.03**-2)
    >>> e = ridge_errors(o, p, s)
    >>> 0.022 < e.prior_sd["a"] < 0.038, bool(0.8 < np.std((s.theta - truth) / e.error) < 1.2)
    (True, True)
    """
    u, warning = influences(objective, solution.theta, solution.information, n_blocks)
    ridge = solution.strength * penalty.ridge_weights
    probes, columns = _probes(objective.size, penalty.penalized, seed)
    solved = solution.information.solve(ridge[:, None] * probes)  # M Lambda z
    kinds = np.asarray(objective.kinds())
    scale, prior_sd = np.zeros(objective.size), {}
    seen = probes - solved  # M H z
    for kind in np.unique(kinds[penalty.penalized]):
        own = penalty.penalized & (kinds == kind)
        # columns of another kind would need its variance too: their share in this trace is neglected
        mine = np.where(own[:, None], probes, 0.0)
        response = seen[own] if np.array_equal(own, penalty.penalized) else _response(solution, ridge, mine)[own]
        trace = float((response**2).sum()) / columns
        noise = float((u[:, own] ** 2).sum())
        variance = (float((solution.theta[own] ** 2).sum()) - noise) / trace if trace > 0 else 0.0
        prior_sd[str(kind)] = float(np.sqrt(max(variance, 0.0)))
        scale[own] = prior_sd[str(kind)]
    if len(prior_sd) > 1:
        solved = solution.information.solve(ridge[:, None] * scale[:, None] * probes)
        bias = solved.T / np.sqrt(columns)
    else:
        bias = solved.T * (next(iter(prior_sd.values())) / np.sqrt(columns))
    return Errors(np.concatenate([u, bias]), prior_sd, None, None, warning)


def _response(solution, ridge, probes):
    """M H z = z - M Lambda z."""
    return probes - solution.information.solve(ridge[:, None] * probes)


def _probes(size, penalized, seed):
    """Columns z whose mean of ``z z^T`` (sum over columns) is the identity on the penalized parameters, and the
    divisor of that sum: unit vectors where they are affordable, random signs otherwise."""
    where = np.flatnonzero(penalized)
    if len(where) <= EXACT_SIZE:
        probes = np.zeros((size, len(where)))
        probes[where, np.arange(len(where))] = 1.0
        return probes, 1
    uniform = np.stack([Key(seed, k).fill("uniform", 0, 1, size, 0, Stream.PROBE)[0] for k in range(PROBES)], axis=1)
    return np.where(penalized[:, None], np.where(uniform < 0.5, -1.0, 1.0), 0.0), PROBES


def debias(objective, theta, n_blocks=None):
    """One Newton step without a penalty from ``theta``, its influences, and a warning or None.

    Valid while the free information is invertible, that is with more independent rows than parameters; a direction
    without information raises DivergenceError there.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> debias(LinearObjective(np.eye(3), [3.0, -0.5, 2.0]), np.array([2.0, 0.0, 1.0]), 3)[0].tolist()
    [3.0, -0.5, 2.0]
    """
    _, gradient, make = objective.evaluate(theta)
    information = make(None)
    u, warning = influences(objective, theta, information, n_blocks)
    return theta + information.solve(gradient), u, warning


def sparse_errors(objective, theta, n_blocks=None):
    """Errors of any sparse estimate (penalized, or refitted on its support): see the module."""
    free, u, warning = debias(objective, theta, n_blocks)
    shift = (theta - free)[None, :]
    return Errors(np.concatenate([u, shift]), {}, free, u, warning)
