"""Fixed points of a map that is known through samples: fresh noise in every sweep, then averaging.

While the state settles, ``x <- damping x + (1 - damping) F(x)``.  Once the residual is at the level of the sampling
noise and falls no more, ``x <- x + GAIN (1 - damping) (F(x) - x)``, and the mean of the F(x) is the result (averaging
of iterates, Polyak and Ruppert): it averages the noise away instead of freezing it in, as an iteration with the same
noise in every sweep would.  A gain of 1/k does worse wherever information has to travel, as it does in a causal
problem: a chain of n steps forgets its start only like (log k)^n/k.  Measured on a transient (erf, g = 1.5, 12 tau,
1000 paths, 130 sweeps, error of Q): gain 1/k 4.8 %, k^-0.8 2.2 %, k^-0.67 1.1 %, constant 0.7 %.

The residual of a sweep is no measure of the error: errors come from independent replicas.  Nor is the noise of a sweep
all the noise in a residual: that of the state, which earlier sweeps have left in it, comes through F as well, and much
enlarged where the output is sensitive to slow input (spiking neurons below threshold: 7 times).  So a residual is
small if its *mean* over the last sweeps is, beside its own scatter over them; a state that moves on has a mean, a
loop that overshoots has residuals that alternate (and is damped until they do not).

A state is a list of arrays.  A sweep returns the new state and the squared sampling noise of its summary, from batches
of paths; the summary is what residuals are judged by.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from lft.errors import ConvergenceError

GAIN = 0.4
"""Share of the new state while averaging: the noise that stays in the iterate is GAIN/(2 - GAIN) of a sweep's."""
AT_NOISE = 4.0
"""Residual^2 over noise^2 at which a state counts as settled (2 for two independent sweeps)."""
FAR = 16.0
"""The same, with the mean noise of the last sweeps, at which what turns back counts as overshooting.  At 4 a single
number of noise does so in every twelfth sweep; by the noise of one sweep, from eight batches, in every eightieth."""
RESOLVED = 1e-4
"""Residual, relative to the size of a block in the first sweep, below which it counts as noise: a silent population has
none of its own."""
WINDOW = 8
"""Sweeps over which the mean of the residual is judged."""
ALTERNATING = -0.7
"""Correlation of successive residuals below which the loop overshoots, whatever their mean."""
EARLY = 3
"""Sweeps in which a single number that overshoots is enough to damp the loop (``first_gain``)."""
DRIFT = 100.0
"""Squared residual or drift over its sampling noise that is an error, in the worst block of the summary ..."""
SMALL = 1e-2
"""... unless it is smaller than this, relative to the state."""
FADED = 1e-2
"""What dies away, such as the motion of a network with a stable fixed point, drifts relative to no less than this share
of its first size."""

ROWS = 64
"""Rows of an array that are mixed at once."""

SMALLEST = 24
"""Numbers in an array up to which it is kept of every replica."""


@dataclass
class Settled:
    """A replica's solution and how it came about.

    Attributes
    ----------
    state : list of ndarray
    residuals, sizes : list of float
        Relative residual and size of the summary, of each sweep.
    noise : float
        Relative sampling noise of one sweep.
    n_settling, n_averaged : int
        Sweeps before and in the average.
    damping : float
        In the end: it grows where the iteration oscillates.
    """

    state: list
    residuals: list = field(default_factory=list)
    sizes: list = field(default_factory=list)
    noise: float = 0.0
    n_settling: int = 0
    n_averaged: int = 0
    damping: float = 0.0


def average(sweep, state, summary, sweeps, damping=0.0, tolerance=0.0, name="", first_gain=1.0, polish=None):
    """Settle, then average.

    Parameters
    ----------
    sweep : callable
        (state, number) -> (new state, noise^2 of the summary).
    state : list of ndarray
        The start; its arrays are used.
    summary : callable
        state -> ndarray, entries of comparable size; ``summary.edges``: where its blocks begin.
    sweeps : int
        In all; at least a third of them average.
    damping : float, optional
    tolerance : float, optional
        Relative noise of the average at which to stop early; 0: never.
    first_gain : float, optional
        Most that the first sweep counts; below 1, single numbers that overshoot in the next sweeps are damped as well.
    polish : callable, optional
        (state, damping) -> state between settling and averaging.

    Returns
    -------
    Settled

    Raises
    ------
    ConvergenceError
        The residual stays above the noise, or the average drifts; carries the residuals.
    """
    out = Settled(state, damping=damping)
    calm, end, ratio, recent = 0, None, np.inf, []
    for number in range(max(2 * sweeps // 3, 1)):
        new, noise2 = sweep(out.state, number)
        old = summary(out.state)
        residual = summary(new) - old
        ratio = _judge(out, residual, summary(new), noise2, summary)
        out.n_settling = number + 1
        if _overshoots([*recent, (residual, noise2)], summary) or (
            first_gain < 1 and 0 < number < EARLY and out.damping < 0.5
            and _one_overshoots(residual, recent[-1][0], noise2, summary)
        ):
            out.damping = max(0.5, 0.5 * (1 + out.damping))  # period 2: the loop overshoots
        out.state = mix(out.state, new, min(1.0 - out.damping, 1.0 if number else first_gain))
        recent = [*recent[1 - WINDOW :], (residual, noise2)]
        flat = number >= 7 and np.mean(out.residuals[-3:]) > 0.8 * np.mean(out.residuals[-6:-3])
        calm = calm + 1 if flat and (ratio < AT_NOISE or _mean_ratio(recent, summary) < AT_NOISE) else 0
        if calm and end is None:
            end = number + 2 + number // 2  # the slow rest of what batches can resolve
        if end is not None and number >= end:
            break
    _check_growth(out, name)
    ratio = min(ratio, _mean_ratio(recent, summary))
    if end is None and ratio > DRIFT and out.residuals[-1] > SMALL:
        raise ConvergenceError(
            f"{name}the iteration did not settle in {out.n_settling} sweeps: its residual is {ratio**0.5:.3g} times "
            f"its noise (residuals {', '.join(f'{r:.2g}' for r in out.residuals[-6:])}); try damping = 0.5 or "
            "more sweeps", out.residuals,
        )
    if polish is not None:
        out.state = polish(out.state, out.damping)
    _average(sweep, out, summary, sweeps - out.n_settling, tolerance, name)
    return out


def _overshoots(recent, summary):
    """Whether the state turns back by more than half, beyond its noise; or a block of it twice, far beyond."""
    if len(recent) < 2:
        return False
    residuals = [residual for residual, _ in recent[-3:]]
    noise2 = np.mean([noise for _, noise in recent], axis=0)
    last, before = residuals[-1], residuals[-2]
    if last @ before < -0.5 * (before @ before) and last @ last > AT_NOISE * recent[-1][1].sum():
        return True
    turns = [by_block(a * b, summary) < -0.5 * by_block(b * b, summary) for b, a in itertools.pairwise(residuals)]
    far = [by_block(r * r, summary) > FAR * by_block(noise2, summary) for r in residuals]
    return len(residuals) == 3 and bool(np.any(np.all(turns + far, axis=0)))


def _one_overshoots(residual, previous, noise2, summary):
    """Whether a block of one number, such as a mean, turns back by more than half, beyond its noise."""
    alone = np.flatnonzero(np.diff([*summary.edges, len(residual)]) == 1)
    at = np.asarray(summary.edges)[alone]
    turns = residual[at] * previous[at] < -0.5 * previous[at] ** 2
    return bool(np.any(turns & (residual[at] ** 2 > AT_NOISE * noise2[at])))


def _enlarged(residuals, noises, summary):
    """Scatter of residuals over sweeps, in units of the sampling noise of one, by block; at least 1."""
    scatter = by_block(np.var(residuals, axis=0, ddof=1), summary)
    return np.maximum(scatter / np.maximum(by_block(np.mean(noises, axis=0), summary), 1e-300), 1.0)


def _mean_ratio(recent, summary):
    """Squared mean residual over its noise, in the worst block; infinite while there are too few or they alternate."""
    if len(recent) < WINDOW:
        return np.inf
    residuals, noises = (np.array(x) for x in zip(*recent, strict=True))
    if np.sum(residuals[1:] * residuals[:-1]) < ALTERNATING * np.sum(residuals[1:] ** 2):
        return np.inf
    noise = by_block(noises.mean(axis=0), summary) * _enlarged(residuals, noises, summary) / len(residuals)
    floor = by_block(np.full(residuals.shape[1], RESOLVED**2), summary)
    return float(np.max(by_block(residuals.mean(axis=0) ** 2, summary) / (noise + floor)))


def _average(sweep, out, summary, n, tolerance, name):
    halves, residuals, noises, mean = [], [], [], None
    for k in range(1, n + 1):
        new, noise2 = sweep(out.state, out.n_settling + k - 1)
        residual = summary(new) - summary(out.state)
        _judge(out, residual, summary(new), noise2, summary)
        halves.append(summary(new))
        residuals.append(residual)
        noises.append(noise2)
        out.state = mix(out.state, new, GAIN * (1.0 - out.damping))
        mean = [np.array(part) for part in new] if mean is None else mix(mean, new, 1.0 / k)
        out.n_averaged = k
        if tolerance and k >= 4 and out.noise / np.sqrt(k) < tolerance:
            break
    _check_growth(out, name)
    if mean is not None:
        out.state = mean
    half = len(halves) // 2
    if half >= 2:
        difference = np.mean(halves[:half], axis=0) - np.mean(halves[half:], axis=0)
        expected = np.mean(noises, axis=0) * (1 / half + 1 / (len(halves) - half))
        moved, level = by_block(difference**2, summary), by_block(np.mean(halves, axis=0) ** 2, summary)
        fades = by_block(np.mean(halves[:half], axis=0) ** 2, summary) > level
        faded = FADED**2 * by_block(np.ones(len(difference)), summary)
        level = np.where(fades, np.maximum(level, faded), level)
        expected = by_block(expected, summary) * _enlarged(residuals, noises, summary)
        drifts = moved / np.maximum(expected, 1e-300)
        worst = int(np.argmax(np.where(moved > 1e-6 * level, drifts, 0.0)))
        drift, size = float(drifts[worst]), float(np.sqrt(moved[worst] / max(level[worst], 1e-300)))
        if drift > DRIFT and size > SMALL:
            raise ConvergenceError(
                f"{name}the average drifts by {size:.2g} of itself ({drift**0.5:.3g} times its noise) within "
                f"{len(halves)} sweeps: the state is not stationary under the iteration; more sweeps or damping",
                out.residuals,
            )


def by_block(values, summary):
    """Sums over the blocks of a summary (``summary.edges``; one block without it): a mean that drifts must not hide
    behind many noisy covariances."""
    edges = getattr(summary, "edges", None)
    return np.add.reduceat(values, edges if edges is not None else [0])


def _judge(out, residual, value, noise2, summary):
    """Append the relative residual; residual^2 over noise^2 of the worst block."""
    if not np.isfinite(residual).all():
        raise ConvergenceError("the state is not finite", out.residuals)
    size = float(np.sqrt(np.mean(value**2)))
    out.residuals.append(float(np.sqrt(np.mean(residual**2))) / (size or 1.0))
    out.sizes.append(size)
    out.noise = float(np.sqrt(np.mean(noise2))) / (size or 1.0)
    floor = by_block(np.full(len(value), RESOLVED**2), summary)
    return float(np.max(by_block(residual**2, summary) / (by_block(noise2, summary) + floor)))


def _check_growth(out, name):
    """Raise where the state still grows by a third and more in each of the last sweeps."""
    last = out.sizes[-5:]
    if len(last) == 5 and all(b > 1.3 * a for a, b in itertools.pairwise(last)):
        raise ConvergenceError(
            f"{name}the state grows without bound (by {last[-1] / last[-2]:.3g} in a sweep, to {last[-1]:.3g} times "
            "its size in the first)", out.residuals,
        )


def mix(old, new, gain):
    """(1 - gain) old + gain new into the arrays of old, some rows at a time: they stay in the cache."""
    for a, b in zip(old, new, strict=True):
        for first in range(0, len(a), ROWS):
            rows = slice(first, first + ROWS)
            step = b[rows] - a[rows]
            step *= gain
            a[rows] += step
    return old


class Replicas:
    """Mean over independent replicas and its standard error, added one by one in order.

    ``small`` keeps what is small of each replica, ``kept`` the arrays whose numbers are in ``keep``.

    Examples
    --------
    >>> from lft.meanfield.saddle.averaging import Replicas
    >>> r = Replicas()
    >>> for x in (1.0, 2.0, 3.0):
    ...     r.add([np.array([x])])
    >>> r.mean[0], r.error[0].round(4)
    (array([2.]), array([0.5774]))
    """

    def __init__(self, keep=()):
        self.n, self.mean, self._square, self.small, self.keep, self.kept = 0, None, None, [], tuple(keep), []

    def add(self, arrays):
        self.n += 1
        self.kept.append([np.array(arrays[k], float) for k in self.keep])
        self.small.append([np.array(a, float) if np.size(a) <= SMALLEST else None for a in arrays])
        if self.mean is None:
            self.mean = [np.array(a, float) for a in arrays]
            self._square = [np.zeros_like(a) for a in self.mean]
            return
        for mean, square, a in zip(self.mean, self._square, arrays, strict=True):
            difference = a - mean
            mean += difference / self.n
            square += difference * (a - mean)

    @property
    def error(self):
        """Standard error of the mean."""
        return [np.sqrt(s / (self.n * max(self.n - 1, 1))) for s in self._square]
