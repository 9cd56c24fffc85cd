"""How the match answers to changes of its couplings: curvature within the errors, and intervals along flat directions.

The errors of the inverse map assume a response that is straight over their width.  It is looked at on both sides, one
standard error along every principal direction v of the covariance, where the whitened response is

    y'(t) = | P J(theta + t sigma v) sigma v | along v / sigma,     y'(0) = 1

(``P J(theta) = 1``).  With the slopes at t = -1, 0, 1 the response is the parabola ``y = t + q t^2``, and a residual of
one standard error means ``y = +-1``: the interval is longer on the side where the response flattens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lft.rg.inverse.search import FAILURES, FLAT

BENT = 0.15
"""q at which an interval is called asymmetric: its sides differ by a third."""
DELTA_CHI2 = 4.0
REACHES = (0.1, 0.2, 0.4, 0.8)
"""Distances at which the interval along a flat direction is looked for."""


@dataclass(frozen=True)
class Direction:
    """A combination of couplings that the recording does not determine.

    Attributes
    ----------
    weights : dict of str to float
        Unit vector, largest weight positive.
    center : float
        Where the scan began.
    low, high : float or None
        Where chi^2 has risen by more than 4 above the minimum, others readjusted; None: not within the scan.
    """

    weights: dict
    center: float
    low: float | None
    high: float | None

    def __str__(self):
        name = _combination(self.weights)
        bounds = ["?" if b is None else f"{b:.2f}" for b in (self.low, self.high)]
        return f"{name} between {bounds[0]} and {bounds[1]}"


def _combination(weights):
    """``0.9 K[1] - 0.4 h`` as text, the largest weight positive."""
    sign = math.copysign(1, max(weights.values(), key=abs))
    return " ".join(f"{sign * w:+.2f} {n}" for n, w in weights.items() if abs(w) > 0.05).lstrip("+")


@dataclass(frozen=True)
class Profile:
    """The response one standard error to both sides along orthogonal directions of the couplings.

    Attributes
    ----------
    directions : ndarray (n_theta, n_theta)
        Columns: principal directions of the covariance, then flat ones.
    errors : ndarray (n_theta,)
        Standard errors along them; inf where flat.
    bends, bend_errors : ndarray (n_theta,)
        q of the response ``y = t + q t^2`` and its error from the simulation; nan where flat.
    slopes : list of (ndarray, ndarray, float)
        Modes on both sides, and how far away they are.
    """

    directions: np.ndarray
    errors: np.ndarray
    bends: np.ndarray
    bend_errors: np.ndarray
    slopes: list = field(repr=False)

    @property
    def covariance(self):
        """Of the couplings, in the frame of the directions; 0 where flat."""
        return np.diag(np.where(np.isfinite(self.errors), self.errors, 0.0) ** 2)

    def weak(self, names, limit):
        """Notes on directions that are known, but poorly."""
        return [
            f"known only to {e:.2f}: {_combination(dict(zip(names, v, strict=True)))}"
            for v, e in zip(self.directions.T, self.errors, strict=True)
            if limit < e < math.inf
        ]


def profile(search, match, frame, covariance, n):
    """The :class:`Profile` of a match, from ``n`` configurations on either side of every direction."""
    values, vectors = np.linalg.eigh(covariance)
    known = vectors[:, len(values) - frame.known.shape[1] :]
    errors = np.sqrt(values[len(values) - frame.known.shape[1] :])
    bends, bend_errors, slopes = [], [], []
    for v, error in zip(known.T, errors, strict=True):
        sides = [_side(search, match.theta, s * error * v, n) for s in (1, -1)]
        slopes.append((sides[0][1], sides[1][1], error))
        project = v @ frame.project
        ups = [float(project @ look.jacobian @ v) if look else math.nan for look, _ in sides]
        noise = [float(((look.jacobian_noise @ v @ project) ** 2).sum()) if look else math.nan for look, _ in sides]
        bends.append((ups[0] - ups[1]) / 4)
        bend_errors.append(math.sqrt(sum(noise)) / 4)
    for v in frame.flat.T:
        sides = [_side(search, match.theta, s * FLAT / 5 * v, n) for s in (1, -1)]
        slopes.append((sides[0][1], sides[1][1], FLAT / 5))
    none = [math.nan] * frame.flat.shape[1]
    return Profile(np.hstack([known, frame.flat]), np.append(errors, [math.inf] * len(none)),
                   np.array(bends + none), np.array(bend_errors + none), slopes)  # fmt: skip


def _side(search, theta, move, n):
    """(look, modes) at theta + move; None and the modes at theta itself where that cannot be simulated and fitted."""
    try:
        look = search.look(theta + move, n, keep_modes=True)
    except FAILURES:
        return None, {}
    return look, look.ensemble.modes


def intervals(profile, names, theta):
    """68 % intervals of the couplings that are numbers, and notes on those that are not symmetric."""
    is_known = np.isfinite(profile.errors)
    loose = (profile.directions[:, ~is_known] ** 2).sum(axis=1)
    up, down, is_bent = np.zeros(len(theta)), np.zeros(len(theta)), np.zeros(len(theta), bool)
    for v, e, q, dq in zip(profile.directions.T[is_known], profile.errors[is_known], profile.bends[is_known],
                           profile.bend_errors[is_known], strict=True):  # fmt: skip
        bent = math.isfinite(q) and abs(q) > max(BENT, 3 * dq)
        sides = (_reach(q), _reach(-q)) if bent else (1.0, 1.0)
        forward, backward = np.where(v > 0, sides[0], sides[1]), np.where(v > 0, sides[1], sides[0])
        up, down = up + (v * e * forward) ** 2, down + (v * e * backward) ** 2
        if bent:
            is_bent |= (v * e) ** 2 > 0.1 * (profile.directions[:, is_known] ** 2 @ profile.errors[is_known] ** 2)
    up, down = np.sqrt(up), np.sqrt(down)
    out, notes = {}, []
    for name, x, d, u, loss, bent in zip(names, theta, down, up, loose, is_bent, strict=True):
        if loss >= 0.01:
            continue
        out[name] = (float(x - d), float(x + u))
        if bent:
            notes.append(f"the response bends within the error of {name}: 68 % interval {x - d:.4f} to {x + u:.4f}")
    return out, notes


def _reach(q):
    """t > 0 with ``t + q t^2 = 1``; where the parabola turns back before, its summit or, at most, 3."""
    inside = 1 + 4 * q
    if abs(q) < 1e-9:
        return 1.0
    return min((math.sqrt(inside) - 1) / (2 * q) if inside > 0 else -1 / (2 * q), 3.0)


def search_interval(search, match, frame, which, n=80):
    """How far one can walk along a flat direction until chi^2 rises by 4, the known directions readjusted."""
    v = frame.flat[:, which]
    v = v * np.sign(v[np.argmax(np.abs(v))])
    # the least chi^2, by the same short simulations, is what a rise is measured against
    limit = search.chi2(match.theta, n)[0] + DELTA_CHI2
    bounds = []
    for sign in (-1, 1):
        bound, walked, theta = None, 0.0, match.theta
        for reach in REACHES:
            try:
                chi2, theta = _profile(search, theta + sign * (reach - walked) * v, frame, n, limit)
            except FAILURES:
                break
            walked = reach
            if chi2 > limit:
                bound = float(match.theta @ v + sign * reach)
                break
        bounds.append(bound)
    weights = dict(zip(search.model.names, map(float, v), strict=True))
    return Direction(weights, float(match.theta @ v), *bounds)


def _profile(search, theta, frame, n, limit):
    """chi^2 at theta, after up to two steps along the known directions if it is above the limit, and where that is."""
    chi2, r, _ = search.chi2(theta, n)
    for _ in range(2):
        if chi2 <= limit:
            break
        trial = theta + np.clip(frame.step(r), -0.1, 0.1)
        new, new_r, _ = search.chi2(trial, n)
        if new > chi2 - 1:
            break
        chi2, r, theta = new, new_r, trial
    return chi2, theta
