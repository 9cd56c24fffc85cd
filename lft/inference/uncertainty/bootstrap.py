"""Time-block bootstrap of any fit: the spread of estimates over recordings put together anew from their own blocks.

A sample draws as many blocks as there are, with replacement; each keeps its neighbors in time.  Blocks are much longer
than the measured correlation of the scores, or are the trials where there are enough of them (20): then trials are the
independent units, whatever happens within them.  A block drawn m times counts m times.

Unlike the sandwich the bootstrap holds for any estimator, penalized ones and those far from the Gaussian limit too: it
sees the skewness of couplings between rare units, and its percentiles follow it.  It does not see the bias of a
penalty.  What few blocks take away is given back: :mod:`.intervals`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.source import ordered_map
from lft.errors import InputError, LftError
from lft.inference import newton
from lft.inference.uncertainty.intervals import corrected, deviation
from lft.inference.uncertainty.sandwich import block_edges, scores_of
from lft.rng import Key, Stream

MIN_TRIALS = 20


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Estimates of bootstrap samples.

    Attributes
    ----------
    theta : ndarray (size,)
        From all rows.
    samples : ndarray (n_samples, size)
        NaN where a sample had no fit, and for parameters with too few finite samples.
    edges : ndarray of int
        Of the blocks, in rows.
    influences : ndarray (blocks, size) or None
        Of the blocks, to first order; None for an estimator of which they are not known.
    unit : {"blocks", "trials"}
    n_failed : int
        Samples without any fit, left out of the numbers below.
    warnings : list of str
    """

    theta: np.ndarray
    samples: np.ndarray
    edges: np.ndarray
    influences: np.ndarray | None
    unit: str
    n_failed: int
    warnings: list

    @property
    def error(self):
        """(size,) standard deviation over samples, with the factor ``sqrt(B/(B - 1))`` of B blocks."""
        n_blocks = len(self.edges) - 1
        return deviation(self.samples) * math.sqrt(n_blocks / (n_blocks - 1))

    def interval(self, level=0.95):
        """Corrected percentiles (:mod:`.intervals`): (low, high), each (size,)."""
        if not 0 < level < 1:
            raise InputError(f"level = {level!r}: valid is a number, 0 < level < 1")
        return corrected(self.samples, self.theta, len(self.edges) - 1, self.influences, level)


def multiplicities(n_blocks, seed, sample):
    """How often each block stands in a sample: the same on any number of ranks.

    >>> int(multiplicities(10, seed=1, sample=3).sum())
    10
    """
    uniform = Key(seed, sample).fill("uniform", 0, 1, n_blocks, 0, Stream.RESAMPLE)[0]
    return np.bincount(np.minimum((uniform * n_blocks).astype(np.int64), n_blocks - 1), minlength=n_blocks)


def bootstrap(objective, theta, *, n_samples, seed=0, fit=None, ridge=None, information=None, edges=None,
              trial_edges=None, n_blocks=None, comm=None):  # fmt: skip
    """Estimates of ``n_samples`` recordings made of blocks of this one.

    Parameters
    ----------
    objective : Objective
    theta : ndarray (size,)
        The estimate from all rows, where every sample starts.
    n_samples : int
        >= 2; 200 give the standard deviation to 5 %, 95 % intervals want 1000.
    seed : int
    fit : callable, optional
        ``fit(objective, start) -> theta``.  Default: the maximum without a penalty, or with ``ridge``.
    ridge : ndarray (size,), optional
        The estimate is the maximum of ``L - (1/2) sum_j ridge_j theta_j^2``.
    information : Information, optional
        At theta, with the ridge, for the choice of the blocks; default the objective's own.
    edges : sequence of int, optional
        Edges of the blocks in rows; default from the measured correlation.
    trial_edges : sequence of int, optional
        First row of every trial, and the number of rows: with at least 20 trials these are the blocks.
    n_blocks : int, optional
        That many blocks of equal length.
    comm : mpi4py communicator, optional
        Samples are dealt out to the ranks; the result has the same bits on any number of them.

    Returns
    -------
    Bootstrap

    Raises
    ------
    InputError
        Bad arguments, or blocks that do not cover the rows.
    LftError
        More than a tenth of the samples have no fit.  Of a ``fit`` that returns NaN for single parameters only those
        are lost, and a warning names them.

    Notes
    -----
    Cost: one fit per sample, started at the estimate (2 to 4 Newton steps).

    References
    ----------
    The block bootstrap is a standard result (H. R. Kuensch 1989, R. Y. Liu and K. Singh 1992; not quoted here).

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.ones((400, 1)), np.random.default_rng(0).normal(size=400))
    >>> b = bootstrap(o, np.array([o.y.mean()]), n_samples=200, n_blocks=100)
    >>> bool(abs(b.error[0] / 0.05 - 1) < 0.3), b.samples.shape  # exact: 1/sqrt(400)
    (True, (200, 1))
    """
    if isinstance(n_samples, bool) or not isinstance(n_samples, int | np.integer) or n_samples < 2:
        raise InputError(f"bootstrap samples = {n_samples!r}: valid is an integer >= 2")
    is_maximum = fit in (None, free_maximum, finite_maximum) or ridge is not None
    if information is None and (is_maximum or edges is None):
        information = objective.evaluate(theta)[2](ridge)
    edges, unit, warnings = _blocks(objective, theta, information, edges, trial_edges, n_blocks)
    influences = _influences(objective, theta, information, edges) if is_maximum else None
    if fit is None:
        fit = free_maximum if ridge is None else ridge_maximum(ridge)
    ranges = list(itertools.pairwise(edges.tolist()))

    def one(sample):
        times = multiplicities(len(ranges), seed, sample)
        rows = [ranges[b] for b in np.flatnonzero(times) for _ in range(times[b])]
        try:
            return np.asarray(fit(objective.over(rows), theta), float)
        except (LftError, np.linalg.LinAlgError):
            return np.full(objective.size, np.nan)

    samples = np.stack(list(ordered_map(one, range(n_samples), comm)))
    n_failed = int(np.isnan(samples).all(axis=1).sum())
    if n_failed > n_samples / 10:
        raise LftError(
            f"bootstrap: {n_failed} of {n_samples} samples have no finite fit (some couplings rest on a few blocks): "
            "use a penalty, or select fewer units"
        )
    if n_failed:
        warnings.append(f"bootstrap: {n_failed} of {n_samples} samples have no finite fit and are left out")
    lost = np.flatnonzero(np.isnan(samples).sum(axis=0) > n_samples / 10)
    if len(lost):
        samples[:, lost] = np.nan
        names = objective.names()
        warnings.append(
            f"bootstrap: {len(lost)} parameters without a finite maximum in more than a tenth of the samples get no "
            f"errors: {', '.join(names[p] for p in lost[:5])}{', ...' if len(lost) > 5 else ''}; a posterior bounds "
            "them"
        )
    return Bootstrap(np.asarray(theta), samples, edges, influences, unit, n_failed, warnings)


def free_maximum(objective, start):
    """The maximum without a penalty."""
    return newton.maximize(objective.evaluate, start)[0]


def finite_maximum(objective, start):
    """The maximum without a penalty; NaN for parameters that run away (standard error above ``newton.RUNAWAY``).

    A sample may leave out the few blocks on which a parameter rests, and its information is singular then: a ridge so
    weak that it leaves such a parameter an error of 2 RUNAWAY finds the others.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.array([[1.0, 0.0], [2.0, 0.0]]), [3.0, 6.0])
    >>> finite_maximum(o, np.zeros(2)).round(3).tolist()
    [3.0, nan]
    """
    try:
        theta, _, information = newton.maximize(objective.evaluate, start)
    except (newton.SingularInformation, np.linalg.LinAlgError):
        weak = np.full(objective.size, newton.RUNAWAY**-2 / 4)
        theta = ridge_maximum(weak)(objective, start)
        information = objective.evaluate(theta)[2](weak)
    return np.where(np.sqrt(information.inverse_diagonal()) < newton.RUNAWAY, theta, np.nan)


def ridge_maximum(ridge):
    """Estimator ``(objective, start) -> theta`` of the maximum of ``L - (1/2) sum_j ridge_j theta_j^2``.

    Parameters
    ----------
    ridge : ndarray (size,)
        Nats, >= 0; zero for parameters that stay free.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.eye(2), [3.0, 1.0])
    >>> ridge_maximum(np.array([2.0, 0.0]))(o, np.zeros(2)).round(9).tolist()
    [1.0, 1.0]
    """

    def fit(objective, start):
        def evaluate(theta):
            value, gradient, make = objective.evaluate(theta)
            return (
                value - 0.5 * float(ridge @ theta**2),
                gradient - ridge * theta,
                lambda extra=None: make(ridge if extra is None else ridge + extra),
            )

        return newton.maximize(evaluate, start)[0]

    return fit


def _influences(objective, theta, information, edges):
    """``H^-1 g_b`` of the blocks; those of a penalized maximum do not sum to zero by themselves."""
    scores = scores_of(objective, theta, edges)
    share = np.diff(edges)[:, None] / objective.n_rows
    return information.solve(np.ascontiguousarray((scores - share * scores.sum(axis=0)).T)).T


def _blocks(objective, theta, information, edges, trial_edges, n_blocks):
    """(edges, unit, warnings) of what is resampled."""
    unit, warnings = "blocks", []
    if trial_edges is not None and len(trial_edges) > MIN_TRIALS:
        edges, unit = trial_edges, "trials"
    if edges is None:
        edges, warning = block_edges(objective, theta, information, n_blocks)
        warnings += [warning] if warning else []
    edges = np.asarray(edges, np.int64)
    if (
        edges.ndim != 1
        or len(edges) < 3
        or edges[0] != 0
        or edges[-1] != objective.n_rows
        or np.any(np.diff(edges) < 1)
    ):
        raise InputError(
            f"blocks of a bootstrap: at least 2, increasing edges from 0 to {objective.n_rows}; got {len(edges)} edges"
        )
    if len(edges) < MIN_TRIALS:
        warnings.append(f"bootstrap over {len(edges) - 1} {unit}: below about 20 its errors are rough")
    return edges, unit, warnings
