"""Do the replicas of a stationary sampled solution tell of one settled state?

Their scatter is the error.  It does not tell where they end in two groups, where they remember their starts, or where
all of them have begun on one side and are still on their way.
"""

from __future__ import annotations

import math

import numpy as np

from lft.errors import ConvergenceError
from lft.meanfield.saddle.stationary import PARTS

APART = 0.1
"""Difference of the means of replicas, in units of the output's size, at which they count as different states."""
REMEMBERED = 1e-3
"""Probability that replicas that have settled count as remembering their start."""


def check_replicas(model, total):
    """Notes on the replicas of a solution; raises ConvergenceError where they end in different states.

    ``total`` as :func:`lft.meanfield.saddle.stationary.solve_stationary` gives it.
    """
    check_agreement(model, total)
    if model.solve.input != "shot":  # their first rates are on both sides
        return []
    check_memory(model, total)
    return side_notes(model, total)


def check_agreement(model, total):
    """Raise where the replicas have ended in two groups: several states are stable.

    A gap between the means of few replicas may be chance.  Between states that are stable no iteration goes to and fro:
    the ranges of the means over the sweeps that were averaged do not overlap either.
    """
    n_pop = len(model.populations)
    for a, p in enumerate(model.populations):
        mean, frozen, lags = total.mean[(PARTS + 1) * a : (PARTS + 1) * a + 3]
        values = np.array([parts[(PARTS + 1) * a][0] for parts in total.small])
        ranges = np.array([parts[(PARTS + 1) * n_pop + a] for parts in total.small])
        order = np.argsort(values)
        values, ranges = values[order], ranges[order]
        gaps = np.diff(values)
        at = int(np.argmax(gaps))
        within = max(np.ptp(values[: at + 1]), np.ptp(values[at + 1 :]))
        size = max(abs(float(mean[0])), math.sqrt(max(float(frozen[0]) + float(np.abs(lags[1:3]).max()), 0.0)))
        is_apart = ranges[: at + 1, 1].max() < ranges[at + 1 :, 0].min()
        if is_apart and gaps[at] > APART * size and gaps[at] > 3.0 * within:
            raise ConvergenceError(
                f"population {p.name}: the replicas end in different states, with mean outputs "
                f"{', '.join(f'{v:.4g}' for v in values)}: several are stable; begin low or high (start, solve_from)"
            )


def check_memory(model, total):
    """Raise where replicas that began below the median still differ from those that began above (Student's t)."""
    from scipy.stats import t

    n_pop = len(model.populations)
    for a, p in enumerate(model.populations):
        ended = np.array([parts[(PARTS + 1) * a][0] for parts in total.small])
        begun = np.array([parts[(PARTS + 1) * n_pop + a][2] for parts in total.small])
        is_low = begun <= np.median(begun)
        low, high = ended[is_low], ended[~is_low]
        if min(len(low), len(high)) < 2:
            continue
        apart = abs(float(high.mean() - low.mean()))
        square = (np.sum((low - low.mean()) ** 2) + np.sum((high - high.mean()) ** 2)) / (len(ended) - 2)
        error = math.sqrt(square * (1 / len(low) + 1 / len(high)))
        if apart > APART * abs(float(ended.mean())) and apart > t.isf(0.5 * REMEMBERED, len(ended) - 2) * error:
            raise ConvergenceError(
                f"population {p.name}: the replicas remember where they began: those from low rates end at "
                f"{low.mean():.4g}, those from high ones at {high.mean():.4g}; take more sweeps, or several states are "
                "stable (start, solve_from)"
            )


def side_notes(model, total):
    """Populations whose replicas have all begun on one side of where they ended: still on their way, they scatter less
    than they are off.  First rates half to twice of what white noise gives are on both sides as a rule."""
    n_pop, out = len(model.populations), []
    for a, p in enumerate(model.populations):
        begun = np.array([parts[(PARTS + 1) * n_pop + a][2] for parts in total.small])
        ended = float(total.mean[(PARTS + 1) * a][0])
        if begun.max() < ended or begun.min() > ended:
            side = "below" if begun.max() < ended else "above"
            out.append(f"{p.name}: all replicas began {side} the solution ({begun.min():.3g} to {begun.max():.3g}, now "
                       f"{ended:.3g}): what has not settled may not show in the errors; compare with more sweeps")
    return out


def frozen_doubt(model, total, a):
    """(how far the frozen variance of a population may be off beside its scatter, notes that say why)."""
    from scipy.stats import t

    value, error = (part[(PARTS + 1) * a + 1][0] for part in (total.mean, total.error))
    rows = np.array([parts[(PARTS + 1) * len(model.populations) + a] for parts in total.small])
    name, missed, moved, n = model.populations[a].name, rows[:, 3].mean(), rows[:, 4], len(rows)
    doubt, notes = 0.0, []
    if value > 0 and missed:
        doubt = float(missed)
        notes.append(f"{name}: the frozen variance stands out of its noise in a part of the sweeps alone: up to "
                     f"{missed:.2g} may count as autocovariance instead (in the errors of both); take more samples")
    apart = abs(float(moved.mean()))
    if n > 2 and apart > error and apart > t.isf(0.5 * REMEMBERED, n - 1) * moved.std(ddof=1) / math.sqrt(n):
        doubt = math.hypot(doubt, apart)
        notes.append(f"{name}: the frozen variance still moved, by {moved.mean():+.2g} between the halves of the "
                     "averaged sweeps (in its error); take more sweeps")
    return doubt, notes
