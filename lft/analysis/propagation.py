"""Propagation velocity of activity, from how the peak of C(r, t) moves, or broadens, with distance.

    directed:  t*(r) = s . r                         t* the lag at which C(r, t) is largest;  velocity v = s/|s|^2
    radial:    |t*|(d) = t_0 + d/v                   C averaged over displacements of length d and over +-t
    spread:    sigma^2(d) = sigma_0^2 + d^2/(D v^2)  sigma: width of that average in t, from its half maximum

A travelling wave ``phi(x, a) = g(x - v a)`` has ``C(r, t) = c(r - v t)``: the ridge of C goes through the origin with
the slowness s = 1/v.  Where waves run in all directions of a plane the ridge of the average lies at d/v, rounded off
by the width of the waves; in three dimensions the average has no ridge.  The ridge is followed outward from the
origin, so that a periodic wave is not confused with its own next crest, as far as C stands out of its errors.

Waves that last longer than they travel keep the peak of the average over directions at lag 0.  Then it still broadens:
pulses of one shape c(t) that run in all directions of D dimensions alike have ``C(d, t) = <c(t - d cos/v)>`` over
directions, whose variance in t grows by ``d^2 <cos^2>/v^2 = d^2/(D v^2)``.  The width is read off at half the maximum
as that of a Gaussian: exact for Gaussian pulses while sigma^2 grows by less than about a half; over longer distances
(in two dimensions) the speed comes out low by up to 30 %.  (Kinematics, derived here.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.source import normalized
from lft.errors import InputError

MODES = ("directed", "radial", "spread")
MIN_DISTANCES = 3
LAG_FLOOR = 0.1
"""Error in bins that every lag has at least in the fit of a line: parabolas are no better."""
CREST = 0.7
"""The parabola that gives the lag of a peak is fitted to the lags around it where C is above this part of it."""
SIGNIFICANT = 3.0
"""C at the peak in units of its error, below which the ridge ends."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """Lag of the peak against distance along one axis, or against the length of the displacement.

    Attributes
    ----------
    axis : str
        Name, or ``"distance"``.
    r, lag, error : ndarray
        Distance in sites, lag of the peak in bins (of a parabola; ``spread``: the width sigma), its
        error.
    slowness, slowness_error : float
        Bins per site: slope of the lag.
    offset : float
        Lag at distance 0: 0 along an axis (``spread``: sigma_0).
    chi2, dof : float, int
        Of the line through the lags (``spread``: through sigma^2 against d^2), which is no line where activity has no
        single velocity.
    """

    axis: str
    r: np.ndarray
    lag: np.ndarray
    error: np.ndarray
    slowness: float
    slowness_error: float
    offset: float
    chi2: float
    dof: int

    @property
    def is_straight(self):
        """Whether the lag follows its line: chi^2 per degree of freedom below 4."""
        return self.chi2 <= 4 * max(self.dof, 1)


@dataclass(frozen=True, eq=False)
class Velocity:
    """Velocity of propagation.

    Attributes
    ----------
    mode : {"directed", "radial", "spread"}
    speed, speed_error : float
        Sites per bin.  NaN where the slowness is not resolved: within two errors of zero the peaks do not move.
    at_least : float
        Where the speed is not resolved: 1/(|slowness| + 2 errors), a lower bound; else NaN.
    direction : tuple of float
        Unit vector of the velocity over the spatial axes (``directed``), else empty.
    ridges : tuple of Ridge
    physical : (value, error, unit) or None
        Speed in the units of the spacings, mm/s for lengths and times.
    """

    mode: str
    speed: float
    speed_error: float
    at_least: float
    direction: tuple
    ridges: tuple
    physical: tuple | None

    def as_json(self):
        """Numbers for a report."""
        clean = lambda v: float(v) if math.isfinite(v) else None  # noqa: E731
        out = {"mode": self.mode, "value": clean(self.speed), "error": clean(self.speed_error),
               "at_least": clean(self.at_least), "direction": list(self.direction)}
        out["slowness"] = {r.axis: {"value": clean(r.slowness), "error": clean(r.slowness_error), "chi2": clean(r.chi2),
                                    "dof": r.dof} for r in self.ridges}
        if self.physical is not None:
            out["physical"] = {"value": clean(self.physical[0]), "error": clean(self.physical[1]),
                               "unit": self.physical[2]}
        return out


def velocity(correlations, mode="directed", reach=None):
    """Velocity of activity from C(r, t).

    Parameters
    ----------
    correlations : SpaceTime
        Of :func:`lft.analysis.spectrum.space_time`, with lags 0..max_lag (C(r, -t) = C(-r, t)).
    mode : {"directed", "radial", "spread"}
        One plane wave (or one preferred direction); fronts in all directions, from the peak or from the width.
    reach : int, optional
        Longest distance used, in sites.  Default: as far as the ridge can be followed.

    Returns
    -------
    Velocity

    Raises
    ------
    InputError
        No axis (``radial``: no distance) along which at least 3 distances stand out of the errors.

    Notes
    -----
    Errors: blocks are left out one at a time, on the ridge's distances of all data.  Lags are measured to a fraction of
    a bin, but a wave faster than about ``reach / (error of the lag)`` sites per bin is only bounded from below.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.propagation import velocity
    >>> from lft.analysis.source import Source
    >>> from lft.analysis.spectrum import space_time
    >>> from lft.geometry import Lattice
    >>> bump = lambda d: np.exp(-((d + 16) % 32 - 16) ** 2 / 8)
    >>> noise = lambda k: np.random.default_rng(k).standard_normal((400, 32))
    >>> wave = lambda k, a, b: (bump(np.arange(32) - 0.5 * np.arange(400)[:, None]) + 0.5 * noise(k))[a:b]
    >>> C = space_time(Source(Lattice((32, 400), ("x", "t"), ("periodic", "open")), "real", 8, wave), max_lag=20)
    >>> v = velocity(C)
    >>> bool(abs(v.speed - 0.5) < 4.5 * v.speed_error + 0.01), v.direction
    (True, (1.0,))
    """
    if mode not in MODES:
        raise InputError(f"mode {mode!r}: valid are {', '.join(MODES)}")
    if len(correlations.lags) < 4 or not correlations.axes:
        raise InputError("velocity: C(r, t) needs a spatial axis and at least the lags 0..3")
    if mode == "directed":
        return _directed(correlations, reach)
    return _radial(correlations, reach) if mode == "radial" else _spread(correlations, reach)


# ---- the ridge
def _leave_out(rows, weights):
    """Means of all blocks but one, (B, distance, lag), and of all; weights (B, lag >= 0)."""
    w = normalized(np.concatenate([weights[:, :0:-1], weights], axis=1), 2)[:, np.newaxis]
    whole = (w * rows).sum(axis=0)
    return whole, (whole - w * rows) / (1 - w)


def _crest(c, near, width, floor=0):
    """Lags (from, to) around the largest value within ``width`` of ``near`` where c stays above 70 % of it.

    At least one lag on either side; None where the largest value or its crest lies at the rim.
    """
    low, high = max(near - width, floor), min(near + width + 1, len(c))
    k = low + int(np.argmax(c[low:high]))
    if not (0 < k < len(c) - 1 and c[k] >= c[k - 1] and c[k] >= c[k + 1]):
        return None
    first, last = k - 1, k + 1
    while first > floor and c[first] > CREST * c[k]:
        first -= 1
    while last < len(c) - 1 and c[last] > CREST * c[k]:
        last += 1
    if (first == 0 and floor == 0 and c[0] > CREST * c[k]) or c[last] > CREST * c[k]:
        return None
    return first, last


def _vertex(c, crest):
    """Lag of the top of the parabola that fits a crest best: a smooth function of c, so that blocks can be left out."""
    first, last = crest
    x = np.arange(first, last + 1) - (first + last) / 2
    bend, slope, _ = np.linalg.pinv(np.stack([x**2, x, np.ones(len(x))], axis=1)) @ c[first : last + 1]
    if not bend < 0:
        return math.nan
    return float(np.clip(-slope / (2 * bend), x[0], x[-1]) + (first + last) / 2)


def _follow(c, error, start, width, floor):
    """Crests of c (distance, lag) from distance 0 outward, and their vertices, until one is lost."""
    crests, exact, near, step = [], [], start, 0.0
    for row, bar in zip(c, error, strict=True):
        guess = min(max(round(near + step), floor), len(row) - 1)
        crest = _crest(row, guess, width, floor)
        if crest is None:
            break
        top = _vertex(row, crest)
        k = crest[0] + int(np.argmax(row[crest[0] : crest[1] + 1]))
        if not (math.isfinite(top) and row[k] > SIGNIFICANT * bar[k]):
            break
        crests.append(crest)
        exact.append(top)
        near, step = top, (top - exact[0]) / max(len(exact) - 1, 1)
    return crests, np.array(exact)


def _ridge(axis, r, rows, weights, start, has_offset, reach):
    """(Ridge, its slowness with each block left out) of rows (blocks, distance, lag); None if it is too short."""
    whole, out = _leave_out(rows, weights)
    n = len(out)
    error = np.sqrt((n - 1) / n * ((out - out.mean(axis=0)) ** 2).sum(axis=0))
    width = max(2, whole.shape[1] // 8)
    crests, exact = _follow(whole, error, start, width, start if has_offset else 0)
    if reach is not None:
        crests, exact = crests[: reach + 1], exact[: reach + 1]
    if len(crests) <= MIN_DISTANCES:
        return None
    parts = np.array([[_vertex(c[d], crest) for d, crest in enumerate(crests)] for c in out])
    bars = np.sqrt((n - 1) / n * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))
    lost = np.flatnonzero(~(bars < width))
    used = slice(0, lost[0] if len(lost) else len(crests))
    r, lag, parts, bars = r[used], exact[used] - start, parts[:, used] - start, bars[used]
    first = 1
    if has_offset and len(lag):  # waves that last longer than they travel keep the peak of the average at lag 0
        first = np.flatnonzero(lag < 0.5)[-1] + 1 if (lag < 0.5).any() else 0
    if len(r[first:]) < MIN_DISTANCES:
        return None
    weights = 1 / (bars[first:] ** 2 + LAG_FLOOR**2)
    slope, offset = _line(r[first:], lag[first:], weights, has_offset)
    slopes = np.array([_line(r[first:], p[first:], weights, has_offset)[0] for p in parts])
    slope_error = math.sqrt((n - 1) / n * ((slopes - slopes.mean()) ** 2).sum())
    chi2 = float(weights @ (lag[first:] - offset - slope * r[first:]) ** 2)
    dof = len(weights) - (2 if has_offset else 1)
    return Ridge(axis, r, lag, bars, slope, slope_error, offset, chi2, dof), slopes


def _line(r, lag, weights, has_offset):
    """Weighted least squares: (slope, offset), through the origin without an offset."""
    if not has_offset:
        return float((weights * r) @ lag / ((weights * r) @ r)), 0.0
    slope, offset = np.polyfit(r, lag, 1, w=np.sqrt(weights))
    return float(slope), float(offset)


def _directed(C, reach):
    ridges, samples, names = [], [], []
    center = [int(np.flatnonzero(r == 0)[0]) for r in C.r]
    for k, axis in enumerate(C.axes):
        top = int(min(-C.r[k][0], C.r[k][-1]))
        if top < MIN_DISTANCES:
            continue
        at = [slice(None), slice(None), *center]
        forward, backward = [], []
        for d in range(top + 1):
            at[2 + k] = center[k] + d
            forward.append(C.rows[tuple(at)])
            at[2 + k] = center[k] - d
            backward.append(C.rows[tuple(at)])
        # C(r, -t) = C(-r, t): all lags of the positive distances
        rows = np.concatenate([np.moveaxis(backward, 0, 1)[..., :0:-1], np.moveaxis(forward, 0, 1)], axis=-1)
        found = _ridge(axis, np.arange(top + 1), rows, C.weights, len(C.lags) - 1, False, reach)
        if found is not None:
            ridges.append(found[0])
            samples.append(found[1])
            names.append(axis)
    if not ridges:
        raise InputError(f"velocity: along no axis do at least {MIN_DISTANCES} distances have a peak of C(r, t) that "
                         "stands out of its errors")
    s = np.array([r.slowness for r in ridges])
    steps = [C.steps[C.axes.index(name)] for name in names]
    scale, unit = _physical(steps, C.steps[-1])
    of = lambda s, scale: 1 / np.sqrt(((s / scale) ** 2).sum(axis=-1))  # noqa: E731
    unitless = _speed(s, np.array(samples).T, of, np.ones(len(s)))
    physical = None
    if scale is not None:
        value, error, _ = _speed(s, np.array(samples).T, of, scale)
        physical = (value, error, unit)
    direction = tuple(float(s[names.index(a)] / math.sqrt(s @ s)) if a in names else 0.0 for a in C.axes)
    resolved = math.isfinite(unitless[0])
    return Velocity("directed", *unitless, direction if resolved else (), tuple(ridges), physical)


def _speed(s, samples, of, scale):
    """(speed, error, lower bound) from the slowness and its values with blocks left out (B, axes)."""
    n = len(samples)
    bars = np.sqrt((n - 1) / n * ((samples - samples.mean(axis=0)) ** 2).sum(axis=0))
    if not (np.abs(s) > 2 * bars).any():
        return math.nan, math.nan, float(of(np.abs(s) + 2 * bars, scale))
    parts = of(samples, scale)
    error = math.sqrt((n - 1) / n * ((parts - parts.mean()) ** 2).sum())
    return float(of(s, scale)), error, math.nan


def _physical(steps, time):
    """(mm/s per site/bin along each axis, unit), or (None, None)."""
    if time is None or any(s is None for s in steps):
        return None, None
    return np.array([1e3 * s.si / time.si for s in steps]), "mm/s"


def _shells(C):
    """Distances, and rows (blocks, distance, lag >= 0) averaged over the displacements of each; even in t."""
    grids = np.meshgrid(*[np.asarray(r, float) for r in C.r], indexing="ij")
    length = np.sqrt(sum(g**2 for g in grids))
    shell = np.rint(length).astype(int)
    top = int(min(max(abs(r[0]), r[-1]) for r in C.r if len(r) > 1))
    rows, r = [], []
    for d in range(top + 1):
        inside = (shell == d) & (C.n_pairs > 0)
        if not inside.any():
            break
        w = C.n_pairs[inside] / C.n_pairs[inside].sum()
        rows.append(C.rows[:, :, inside] @ w)
        r.append(float(length[inside] @ w))
    return np.array(r), np.moveaxis(rows, 0, 1)


def _radial(C, reach):
    r, rows = _shells(C)
    mirrored = np.concatenate([rows[..., :0:-1], rows], axis=-1)
    # every shell holds r and -r, so its rows are even in t: only t >= 0 is searched
    found = _ridge("distance", r, mirrored, C.weights, len(C.lags) - 1, True, reach)
    if found is None:
        raise InputError(f"velocity: at fewer than {MIN_DISTANCES} distances has C(d, t) a peak that stands out of its "
                         "errors and has left lag 0 (waves that last longer than they travel keep it there)")
    return _of_distance("radial", C, *found)


def _of_distance(mode, C, ridge, slopes):
    of = lambda s, scale: 1 / np.abs(s / scale)[..., 0]  # noqa: E731
    s, samples = np.array([ridge.slowness]), slopes[:, np.newaxis]
    value = _speed(s, samples, of, np.ones(1))
    is_isotropic = len({str(q) for q in C.steps[: len(C.axes)]}) == 1
    scale, unit = _physical([C.steps[0]], C.steps[-1]) if is_isotropic else (None, None)
    physical = None if scale is None else (*_speed(s, samples, of, scale)[:2], unit)
    return Velocity(mode, *value, (), (ridge,), physical)


def _spread(C, reach):
    r, rows = _shells(C)
    w = normalized(C.weights, 2)[:, np.newaxis]
    whole = (w * rows).sum(axis=0)
    out = (whole - w * rows) / (1 - w)
    n = len(out)
    error = np.sqrt((n - 1) / n * ((out - out.mean(axis=0)) ** 2).sum(axis=0))
    widths = [_half_width(c) if c[0] > SIGNIFICANT * e[0] else math.nan for c, e in zip(whole, error, strict=True)]
    parts = np.array([[_half_width(c) for c in part] for part in out]) ** 2
    bars = np.sqrt((n - 1) / n * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))
    # a unit's correlation with itself (distance 0) has a shape of its own
    lost = np.flatnonzero(~np.isfinite(np.array(widths)[1:] * bars[1:]))
    stop = 1 + (lost[0] if len(lost) else len(r) - 1)
    stop = stop if reach is None else min(stop, reach + 1)
    if stop - 1 < MIN_DISTANCES:
        raise InputError(f"velocity: at fewer than {MIN_DISTANCES} distances does C(d, t) fall to half its maximum "
                         f"within {C.lags[-1]} bins; take more lags")
    use, square = slice(1, stop), np.array(widths) ** 2
    weights = 1 / (bars[use] ** 2 + (2 * np.array(widths)[use] * LAG_FLOOR) ** 2)
    dimensions = sum(len(a) > 1 for a in C.r)
    line = lambda y: _line(r[use] ** 2, y[use], weights, True)  # noqa: E731
    slope, offset = line(square)
    chi2, dof = float(weights @ (square[use] - offset - slope * r[use] ** 2) ** 2), len(weights) - 2
    slopes = np.array([line(p)[0] for p in parts]) * dimensions
    bar = math.sqrt((n - 1) / n * ((slopes - slopes.mean()) ** 2).sum())
    slope *= dimensions
    if not slope > 2 * bar:
        raise InputError("velocity: the width of C(d, t) does not grow with distance "
                         f"(1/v^2 = {slope:.2g} +- {bar:.2g})")
    slowness = np.sqrt(np.maximum(slopes, 0))
    ridge = Ridge("distance", r[use], np.array(widths)[use], bars[use] / (2 * np.array(widths)[use]), math.sqrt(slope),
                  bar / (2 * math.sqrt(slope)), math.sqrt(max(offset, 0.0)), chi2, dof)
    return _of_distance("spread", C, ridge, slowness)


def _half_width(c):
    """Standard deviation of the Gaussian with the half maximum of c(t), t >= 0; NaN if it does not fall so far."""
    below = np.flatnonzero(c < c[0] / 2)
    if not len(below) or below[0] == 0:
        return math.nan
    k = below[0]
    half = k - 1 + (c[k - 1] - c[0] / 2) / (c[k - 1] - c[k])
    return half / math.sqrt(2 * math.log(2))
