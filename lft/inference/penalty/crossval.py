"""Which strength predicts: cross-validation over contiguous blocks of time.

Fold f is one block of rows; the fit sees all rows but those of the block and of a gap on both sides, as long as the
longest lag of the model or longer (correlated bins on both sides of a border would let the fit look at its test).
Bins are never drawn at random.  The score is the held-out log-likelihood, per row, and its standard error that of the
mean over folds.

A Gaussian prior does not depend on the length of the recording, so ``l2`` keeps its strength in shorter training sets.
A penalty with a kink must beat the noise of the score, which grows as the square root of the length, so its strength
is scaled by ``sqrt(rows of the fold's training set/all rows)``.

A unit may be silent in all of a fold's training rows, which puts its field at minus infinity; in the folds alone the
fields therefore have a Gaussian prior of standard deviation 100 in log-odds, far outside what data with spikes allow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.inference.penalty.path import solve_path
from lft.inference.penalty.solver import maximize_on, maximize_penalized

RULES = ("best", "one-se")
FIELD_PRIOR = 1e-4  # nats per squared log-odds


@dataclass(frozen=True, eq=False)
class Folds:
    """Blocks of rows, and what is left to train on.

    Attributes
    ----------
    test : list of (start, stop)
    train : list of list of (start, stop)
    gap : int
        Rows left out on each side of a test block.
    """

    test: list
    train: list
    gap: int


def time_folds(n_rows, n_folds, gap=0):
    """Folds of equal length in order of time.

    Examples
    --------
    >>> folds = time_folds(90, 3, gap=2)
    >>> folds.test
    [(0, 30), (30, 60), (60, 90)]
    >>> folds.train[1]
    [(0, 28), (62, 90)]
    """
    if isinstance(n_folds, bool) or not isinstance(n_folds, int | np.integer) or n_folds < 2:
        raise InputError(f"folds = {n_folds!r}: valid is an integer >= 2")
    if isinstance(gap, bool) or not isinstance(gap, int | np.integer) or gap < 0:
        raise InputError(f"gap = {gap!r}: valid is an integer >= 0 (rows)")
    least = n_folds * max(2 * gap, 1) + 2
    if n_rows < least:
        raise InputError(f"{n_folds} folds with a gap of {gap} rows need at least {least} rows, got {n_rows}")
    edges = np.linspace(0, n_rows, n_folds + 1).astype(np.int64)
    test, train = [], []
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        test.append((a, b))
        train.append([(s, e) for s, e in ((0, a - gap), (b + gap, n_rows)) if s < e])
    return Folds(test, train, int(gap))


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Held-out scores along a path.

    Attributes
    ----------
    strengths : ndarray (n,)
        Falling.
    scores : ndarray (n_folds, n)
        Held-out log-likelihood of each fold, nats per row.
    null_scores : ndarray (n_folds,)
        Of the free parameters alone.
    mean, error : ndarray (n,)
        Over folds, and the standard error of the mean.
    best, one_se : int
        The highest mean, and the strongest penalty whose loss against the best is within one standard error of that
        loss (paired over folds).
    warning : str or None
        When the best stands at an end of the path.
    """

    strengths: np.ndarray
    scores: np.ndarray
    null_scores: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    best: int
    one_se: int
    warning: str | None

    def chosen(self, rule="best"):
        """Index by one of :data:`RULES`."""
        if rule not in RULES:
            raise InputError(f"rule {rule!r}: valid are {', '.join(RULES)}")
        return self.best if rule == "best" else self.one_se


def cross_validate(objective, penalty, grid, folds, start=None, tolerance=1e-3, progress=None):
    """Held-out scores of every strength, and the solutions on all rows.

    Strength by strength, first all rows and then the folds: a fold differs from all rows by one block, so it begins at
    their solution, moved by what the fold differed at the strength before, and takes its steps with their information.

    Parameters
    ----------
    objective : Objective
    penalty : Penalty
    grid : ndarray (n,)
        Falling strengths.
    folds : Folds
    start : ndarray (size,), optional
        On all rows, for the first strength.
    tolerance : float
        Largest kkt residual of the fits of folds, in standard deviations of the score: 1e-3 changes no score that
        matters.
    progress : callable, optional
        Called with each solution on all rows.

    Returns
    -------
    CrossValidation
    list of Solution

    Raises
    ------
    InputError
        Fewer than 2 folds.

    Notes
    -----
    Cost: per strength one path step on all rows, and 2 to 4 evaluations of every fold; what the objective keeps for a
    stretch is kept for all folds.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.penalty.terms import penalty_for
    >>> from lft.testing.objectives import LinearObjective
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(400, 30))
    >>> o = LinearObjective(x, 0.1 * x @ rng.normal(size=30) + rng.normal(size=400))
    >>> cv, solutions = cross_validate(o, penalty_for(o, "l2"), np.geomspace(1e5, 1e-1, 7), time_folds(400, 5))
    >>> 0 < cv.best < 6, cv.one_se <= cv.best, cv.warning, len(solutions)
    (True, True, None, 7)
    """
    grid = np.asarray(grid, float)
    pieces = zip(folds.test, folds.train, strict=True)
    parts = [_Fold(objective, penalty, block, ranges, start) for block, ranges in pieces]
    scores = []

    def visit(solution):
        scores.append([part.score(penalty, solution, tolerance) for part in parts])
        if progress is not None:
            progress(solution)

    solutions = solve_path(objective, penalty, grid, start, progress=visit)
    return choose(grid, np.array(scores).T, np.array([part.null_score for part in parts])), solutions


class _Fold:
    """One block that is scored, and the fits of the rest."""

    def __init__(self, objective, penalty, block, ranges, start):
        self.objective, self.block, free = objective, block, ~penalty.penalized
        self.training = _Anchored(objective.over(ranges), np.where(free, FIELD_PRIOR, 0.0))
        self.rows = self.training.n_rows / objective.n_rows
        null = maximize_on(self.training, free, start)[0]
        self.null_score = self._held_out(null)
        self.moved = None  # from the solution on all rows to that of this fold

    def _held_out(self, theta):
        a, b = self.block
        return self.objective.log_likelihood(theta, a, b) / (b - a)

    def score(self, penalty, whole, tolerance):
        """Held-out score at the strength of a solution on all rows."""
        # the ridge does not shrink with the rows: half way between its share and theirs
        share, strength = (1 + self.rows) / 2, whole.strength
        if penalty.has_norm:
            share, strength = self.rows, strength * np.sqrt(self.rows)
        begin = whole.theta if self.moved is None or penalty.has_norm else whole.theta + self.moved
        known = None if whole.searched is None else whole.searched.of_part(share)
        theta = maximize_penalized(self.training, penalty, strength, begin, tolerance, known=known).theta
        self.moved = theta - whole.theta
        return self._held_out(theta)


class _Anchored:
    """An objective minus ``1/2 sum_j anchor_j theta_j^2``."""

    def __init__(self, objective, anchor):
        self.objective, self.anchor = objective, anchor
        self.size, self.n_rows = objective.size, objective.n_rows

    def evaluate(self, theta):
        value, gradient, make = self.objective.evaluate(theta)
        anchor = self.anchor
        return (
            value - 0.5 * float(anchor @ theta**2),
            gradient - anchor * theta,
            lambda extra: make(anchor if extra is None else anchor + extra),
        )

    def score(self, theta, start, stop):
        return self.objective.score(theta, start, stop) - (stop - start) / self.n_rows * self.anchor * theta


def choose(grid, scores, null_scores):
    """Means, errors and choices from held-out scores (n_folds, n)."""
    n_folds = len(scores)
    mean = scores.mean(axis=0)
    best = int(np.argmax(mean))
    loss = scores[:, [best]] - scores
    paired = loss.std(axis=0, ddof=1) / np.sqrt(n_folds)
    within = loss.mean(axis=0) <= paired
    one_se = int(np.flatnonzero(within | (np.arange(len(grid)) == best))[0])
    warning = None
    if best == len(grid) - 1:
        warning = (
            f"cross-validation prefers the weakest penalty tried, {grid[best]:.3g}: the recording may need none, "
            "or a longer path"
        )
    elif best == 0:
        warning = (
            f"cross-validation prefers the strongest penalty tried, {grid[0]:.3g}: the recording shows no couplings "
            "that predict"
        )
    error = scores.std(axis=0, ddof=1) / np.sqrt(n_folds)
    return CrossValidation(grid, scores, np.asarray(null_scores), mean, error, best, one_se, warning)
