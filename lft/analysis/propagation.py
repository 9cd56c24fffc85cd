"""Propagation velocity of activity, from how the peak of C(r, t) moves with distance.

    plane wave:     t*(r) = s . r,      t* the lag at which C(r, t) is largest;   velocity v = s/|s|^2
    fronts in all directions:  |t*|(d) = t_0 + d/v,   C averaged over displacements of length d and over +-t

A travelling wave ``phi(x, a) = g(x - v a)`` has ``C(r, t) = c(r - v t)``: the ridge of C goes through the origin with
the slowness s = 1/v.  Where waves run in all directions of a plane the ridge of the average lies at d/v, rounded off
by the width of the waves; in three dimensions the average has no ridge.  The ridge is followed outward from the
origin, so that a periodic wave is not confused with its own next crest, as far as C stands out of its errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.source import normalized
from lft.errors import InputError

MIN_DISTANCES = 3
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
        Distance in sites, lag of the peak in bins (parabola through three lags), its error.
    slowness, slowness_error : float
        Bins per site: slope of the lag.
    offset : float
        Lag at distance 0: 0 along an axis.
    """

    axis: str
    r: np.ndarray
    lag: np.ndarray
    error: np.ndarray
    slowness: float
    slowness_error: float
    offset: float


@dataclass(frozen=True, eq=False)
class Velocity:
    """Velocity of propagation.

    Attributes
    ----------
    mode : {"directed", "radial"}
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
        out["slowness"] = {r.axis: {"value": clean(r.slowness), "error": clean(r.slowness_error)} for r in self.ridges}
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
    mode : {"directed", "radial"}
        One plane wave (or one preferred direction), or fronts in all directions.
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
    if mode not in ("directed", "radial"):
        raise InputError(f"mode {mode!r}: valid are directed, radial")
    if len(correlations.lags) < 4 or not correlations.axes:
        raise InputError("velocity: C(r, t) needs a spatial axis and at least the lags 0..3")
    if mode == "directed":
        return _directed(correlations, reach)
    return _radial(correlations, reach)


# ---- the ridge
def _leave_out(rows, weights):
    """Means of all blocks but one, (B, distance, lag), and of all; weights (B, lag >= 0)."""
    w = normalized(np.concatenate([weights[:, :0:-1], weights], axis=1), 2)[:, np.newaxis]
    whole = (w * rows).sum(axis=0)
    return whole, (whole - w * rows) / (1 - w)


def _peak(c, near, width, floor=0):
    """Index of the largest value within ``width`` of ``near``, from ``floor`` on, and as fraction (None at the rim)."""
    low, high = max(near - width, floor), min(near + width + 1, len(c))
    k = low + int(np.argmax(c[low:high]))
    if not 0 < k < len(c) - 1 or not (c[k] >= c[k - 1] and c[k] >= c[k + 1]):
        return k, None
    bend = c[k - 1] - 2 * c[k] + c[k + 1]
    return k, k + (0.5 * (c[k - 1] - c[k + 1]) / bend if bend < 0 else 0.0)


def _follow(c, error, start, width, floor):
    """Peak indices of c (distance, lag) from distance 0 outward, until one is lost; ``(integers, fractions)``."""
    whole, exact, near, step = [], [], start, 0.0
    for row, bar in zip(c, error, strict=True):
        guess = round(near + step)
        k, x = _peak(row, min(max(guess, floor), len(row) - 1), width, floor)
        if x is None or not row[k] > SIGNIFICANT * bar[k]:
            break
        whole.append(k)
        exact.append(x)
        near, step = x, (x - exact[0]) / max(len(exact) - 1, 1)
    return np.array(whole, int), np.array(exact)


def _ridge(axis, r, rows, weights, start, has_offset, reach):
    """Ridge of rows (blocks, distance, lag) with distances r; None if too short."""
    whole, out = _leave_out(rows, weights)
    n = len(out)
    error = np.sqrt((n - 1) / n * ((out - out.mean(axis=0)) ** 2).sum(axis=0))
    width = max(2, whole.shape[1] // 8)
    places, exact = _follow(whole, error, start, width, start if has_offset else 0)
    if reach is not None:
        places, exact = places[: reach + 1], exact[: reach + 1]
    if len(places) <= MIN_DISTANCES:
        return None
    r = r[: len(places)]
    parts = np.array([[_refine(c[d], k) for d, k in enumerate(places)] for c in out])
    bars = np.sqrt((n - 1) / n * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))
    slope, offset = _line(r, exact - start, has_offset)
    slopes = np.array([_line(r, p - start, has_offset)[0] for p in parts])
    slope_error = math.sqrt((n - 1) / n * ((slopes - slopes.mean()) ** 2).sum())
    return Ridge(axis, r, exact - start, bars, slope, slope_error, offset), slopes


def _refine(c, k):
    """Fractional peak beside a known place (climbs to the local maximum)."""
    while 0 < k < len(c) - 1 and max(c[k - 1], c[k + 1]) > c[k]:
        k += 1 if c[k + 1] > c[k - 1] else -1
    return _peak(c, k, 0)[1] if 0 < k < len(c) - 1 else float(k)


def _line(r, lag, has_offset):
    r = np.asarray(r, float)
    if not has_offset:
        return float(r @ lag / (r @ r)), 0.0
    slope, offset = np.polyfit(r[1:], lag[1:], 1)
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


def _radial(C, reach):
    grids = np.meshgrid(*[np.asarray(r, float) for r in C.r], indexing="ij")
    length = np.sqrt(sum(g**2 for g in grids))
    shell = np.rint(length).astype(int)
    top = int(min(max(abs(r[0]), r[-1]) for r in C.r if len(r) > 1))
    weights = np.where(C.n_pairs > 0, C.n_pairs, 0).astype(float)
    rows, r = [], []
    for d in range(top + 1):
        inside = (shell == d) & (weights > 0)
        if not inside.any():
            break
        w = weights[inside] / weights[inside].sum()
        rows.append(C.rows[:, :, inside] @ w)
        r.append(float(length[inside] @ w))
    rows = np.moveaxis(rows, 0, -1).swapaxes(1, 2)
    mirrored = np.concatenate([rows[..., :0:-1], rows], axis=-1)
    # every shell holds r and -r, so its rows are even in t: only t >= 0 is searched
    found = _ridge("distance", np.array(r), mirrored, C.weights, len(C.lags) - 1, True, reach)
    if found is None:
        raise InputError(f"velocity: fewer than {MIN_DISTANCES} distances have a peak of C(d, t) that stands out of "
                         "its errors")
    ridge, slopes = found
    of = lambda s, scale: 1 / np.abs(s / scale)[..., 0]  # noqa: E731
    s, samples = np.array([ridge.slowness]), slopes[:, np.newaxis]
    value = _speed(s, samples, of, np.ones(1))
    steps = {str(q) for q in C.steps[: len(C.axes)]}
    scale, unit = _physical([C.steps[0]], C.steps[-1]) if len(steps) == 1 else (None, None)
    physical = None if scale is None else (*_speed(s, samples, of, scale)[:2], unit)
    return Velocity("radial", *value, (), (ridge,), physical)

