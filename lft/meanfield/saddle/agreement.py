"""Do the replicas of a stationary sampled solution tell of one settled state?

Their scatter is the error.  It does not tell where they end in two groups, where they remember their starts, or where
all of them have begun on one side and are still on their way.
"""

from __future__ import annotations

import math

import numpy as np

from lft.errors import ConvergenceError
from lft.meanfield.saddle.stationary import EVIDENCE, PARTS

APART = 0.1
"""Difference of the means of replicas, in units of the output's size, at which they count as different states."""
REMEMBERED = 1e-3
"""Probability that replicas that have settled count as remembering their start."""


UNLIKE = 8.0
"""Mean square of the differences between parts of the window over its noise at which they count."""
MOST_SLOPE = 0.95
"""Largest slope of the means upon themselves that is told from 1: what is left to go is at most 19 residuals."""


def evidence(model, total, a):
    """What the replicas show of population a: name of :data:`~lft.meanfield.saddle.stationary.EVIDENCE` -> (R,), but
    ``segment`` -> (R, SEGMENTS)."""
    rows = np.array([parts[(PARTS + 1) * len(model.populations) + a] for parts in total.small])
    first = EVIDENCE.index("segment")
    return {**dict(zip(EVIDENCE[:first], rows.T, strict=False)), "segment": rows[:, first:]}


def is_common(values):
    """Whether numbers of independent replicas have a mean that is not 0 (Student's t)."""
    from scipy.special import stdtrit

    n = len(values)
    scatter = values.std(ddof=1) / math.sqrt(n)
    return n > 2 and abs(values.mean()) > -stdtrit(n - 1, 0.5 * REMEMBERED) * scatter


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
    for a, p in enumerate(model.populations):
        mean, frozen, lags = total.mean[(PARTS + 1) * a : (PARTS + 1) * a + 3]
        values = np.array([parts[(PARTS + 1) * a][0] for parts in total.small])
        seen, order = evidence(model, total, a), np.argsort(values)
        values, least, most = values[order], seen["least"][order], seen["most"][order]
        gaps = np.diff(values)
        at = int(np.argmax(gaps))
        within = max(np.ptp(values[: at + 1]), np.ptp(values[at + 1 :]))
        size = max(abs(float(mean[0])), math.sqrt(max(float(frozen[0]) + float(np.abs(lags[1:3]).max()), 0.0)))
        is_apart = most[: at + 1].max() < least[at + 1 :].min()
        if is_apart and gaps[at] > APART * size and gaps[at] > 3.0 * within:
            raise ConvergenceError(
                f"population {p.name}: the replicas end in different states, with mean outputs "
                f"{', '.join(f'{v:.4g}' for v in values)}: several are stable; begin low or high (start, solve_from)"
            )


def check_memory(model, total):
    """Raise where replicas that began below the median still differ from those that began above (Student's t)."""
    from scipy.special import stdtrit

    for a, p in enumerate(model.populations):
        ended = np.array([parts[(PARTS + 1) * a][0] for parts in total.small])
        begun = evidence(model, total, a)["begun"]
        is_low = begun <= np.median(begun)
        low, high = ended[is_low], ended[~is_low]
        if min(len(low), len(high)) < 2:
            continue
        apart = abs(float(high.mean() - low.mean()))
        square = (np.sum((low - low.mean()) ** 2) + np.sum((high - high.mean()) ** 2)) / (len(ended) - 2)
        error = math.sqrt(square * (1 / len(low) + 1 / len(high)))
        if apart > APART * abs(float(ended.mean())) and apart > -stdtrit(len(ended) - 2, 0.5 * REMEMBERED) * error:
            raise ConvergenceError(
                f"population {p.name}: the replicas remember where they began: those from low rates end at "
                f"{low.mean():.4g}, those from high ones at {high.mean():.4g}; take more sweeps, or several states are "
                "stable (start, solve_from)"
            )


def side_notes(model, total):
    """Populations whose replicas have all begun on one side of where they ended: still on their way, they scatter less
    than they are off.  First rates half to twice of what white noise gives are on both sides as a rule."""
    out = []
    for a, p in enumerate(model.populations):
        begun = evidence(model, total, a)["begun"]
        ended = float(total.mean[(PARTS + 1) * a][0])
        if begun.max() < ended or begun.min() > ended:
            side = "below" if begun.max() < ended else "above"
            out.append(f"{p.name}: all replicas began {side} the solution ({begun.min():.3g} to {begun.max():.3g}, now "
                       f"{ended:.3g}): what has not settled may not show in the errors; compare with more sweeps")
    return out


def mean_doubt(model, total, a):
    """(how far the mean output of a population may be off beside its scatter, notes that say why).

    Replicas that begin alike and are still on their way scatter little: their residuals ``r = F(x) - x`` have a common
    mean.  With the slope s of F, from all of their sweeps, the fixed point is ``s/(1 - s)`` of it beyond the mean of
    the F(x).  And where the mean output is not the same in all parts of the window, neurons still remember their start.
    """
    error, seen, name = total.error[(PARTS + 1) * a][0], evidence(model, total, a), model.populations[a].name
    doubt, notes = 0.0, []
    if is_common(seen["residual"]):
        xx, xr, rr, n = seen["xx"].sum(), seen["xr"].sum(), seen["rr"].sum(), len(seen["xx"])
        back = -xr / xx if xx > 0 else 1.0
        scatter = math.sqrt(max(rr - xr * xr / xx, 0.0) / max(n, 2) / xx) if xx > 0 else 0.0
        slope = min(max(1.0 - back + 2.0 * scatter, 0.0), MOST_SLOPE)
        left = float(seen["residual"].mean()) * slope / (1.0 - slope)
        if abs(left) > error:
            doubt = abs(left)
            notes.append(f"{name}: the mean output is still on its way, with about {left:+.2g} to go (in its error, "
                         "not in those of what follows it); take more sweeps")
    parts = seen["segment"]
    if len(parts) > 2 and parts.size:
        noise2 = parts.var(axis=0, ddof=1) / len(parts)
        size = math.sqrt(max(float(np.mean(parts.mean(axis=0) ** 2 - noise2)), 0.0))
        if size > error and np.mean(parts.mean(axis=0) ** 2) > UNLIKE * np.mean(noise2):
            doubt = math.hypot(doubt, size)
            notes.append(f"{name}: the mean output differs by {size:.2g} between parts of the window (in its error): "
                         "the neurons still remember their start; take a longer warmup")
    return doubt, notes


def frozen_doubt(model, total, a):
    """(how far the frozen variance of a population may be off beside its scatter, notes that say why)."""
    value, error = (part[(PARTS + 1) * a + 1][0] for part in (total.mean, total.error))
    seen, name = evidence(model, total, a), model.populations[a].name
    missed, moved, doubt, notes = seen["unseen"].mean(), seen["frozen_moved"], 0.0, []
    if value > 0 and missed:
        doubt = float(missed)
        notes.append(f"{name}: the frozen variance stands out of its noise in a part of the sweeps alone: up to "
                     f"{missed:.2g} may count as autocovariance instead (in the errors of both); take more samples")
    apart = abs(float(moved.mean()))
    if apart > error and is_common(moved):
        doubt = math.hypot(doubt, apart)
        notes.append(f"{name}: the frozen variance still moved, by {moved.mean():+.2g} between the halves of the "
                     "averaged sweeps (in its error); take more sweeps")
    return doubt, notes
