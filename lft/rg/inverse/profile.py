"""How the match answers to changes of its couplings: curvature within the errors, and intervals along flat directions.

The errors of the inverse map assume a response that is straight over their width.  Often it is not: ``K' ~ K^b`` after
decimation, so that too large a K comes with too small an error.  In principal coordinates of the covariance, ``theta =
match + sum_a sigma_a v_a t_a``, the predicted couplings are, to second order and projected on what the match sees,

    y_a(t) = v_a^T P (c(theta) - c(match)) / sigma_a = t_a + sum_bc q_abc t_b t_c

The coefficients come from simulations to both sides along every v_b, at ``t = +-STEP`` and with equal random numbers:
the difference of ``v_a^T P J(theta) v_c sigma_c/sigma_a`` is ``4 STEP q_abc``.  Errors of the recording are those of y,
with unit covariance: ``T^2 = |y|^2`` is the squared distance of any theta.  The interval of a coupling is where the
least ``|y|`` at fixed coupling stays below a quantile m (profile likelihood).  With u the unit vector along which the
coupling changes at least cost, second order leaves a parabola of its own,

    y = t + q t^2,   q = sum_abc u_a q_abc u_b u_c,     interval: |y| <= m

longer on the side where the response flattens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lft.rg.inverse.search import FAILURES, FLAT

BENT = 0.15
"""q at which an interval is called asymmetric: its sides differ by a third."""
STEP = math.sqrt(3.0)
"""Standard errors between a match and the simulations beside it; the three points integrate a cubic response against a
normal distribution exactly, and the noise of q is smaller than at one error by this factor."""
RAY = np.linspace(0.0, 1.0, 41)
"""Fractions of a displacement at which the response is looked at for a turning point."""
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
    moved : dict of str to float
        How far every coupling moved from the match before chi^2 had risen.
    """

    weights: dict
    center: float
    low: float | None
    high: float | None
    moved: dict = field(default_factory=dict)

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
    """The response to second order around a match.

    Attributes
    ----------
    directions : ndarray (n_theta, n_theta)
        Columns: principal directions of the covariance, then flat ones.
    errors : ndarray (n_theta,)
        Standard errors along them; inf where flat.
    curvature : ndarray (n_known, n_known, n_known)
        q of ``y_a = t_a + sum_bc q_abc t_b t_c``; 0 for pairs of directions that could not be simulated.
    spread : ndarray (groups, n_known, n_known, n_known)
        Its deviations by groups of configurations: covariances are sums of their products.
    slopes : list of (ndarray, ndarray, float)
        Modes on both sides, and how far away they are.
    """

    directions: np.ndarray
    errors: np.ndarray
    curvature: np.ndarray
    spread: np.ndarray = field(repr=False)
    slopes: list = field(repr=False)

    @property
    def is_known(self):
        """Of every direction."""
        return np.isfinite(self.errors)

    @property
    def covariance(self):
        """Of the couplings, in the frame of the directions; 0 where flat."""
        return np.diag(np.where(self.is_known, self.errors, 0.0) ** 2)

    def weak(self, names, limit):
        """Notes on directions that are known, but poorly."""
        return [
            f"known only to {e:.2f}: {_combination(dict(zip(names, v, strict=True)))}"
            for v, e in zip(self.directions.T, self.errors, strict=True)
            if limit < e < math.inf
        ]

    def bends(self):
        """Per coupling its standard error, and q with error of its parabola ``y = t + q t^2``: three arrays."""
        w = self.directions[:, self.is_known] * self.errors[self.is_known]
        size = np.sqrt((w**2).sum(axis=1))
        u = np.divide(w, size[:, None], out=np.zeros_like(w), where=size[:, None] > 0)
        q = np.einsum("abc,ka,kb,kc->k", self.curvature, u, u, u)
        by_group = np.einsum("gabc,ka,kb,kc->gk", self.spread, u, u, u)
        return size, q, np.sqrt((by_group**2).sum(axis=0))

    def distance(self, delta):
        """Squared distance ``T^2`` of couplings ``match + delta`` in errors, and the number of known directions.

        A response that turns back on the way is taken to stay where it was farthest: couplings beyond are no nearer.
        """
        known = self.is_known
        t = delta @ self.directions[:, known] / self.errors[known]
        bend = np.einsum("abc,b,c->a", _shrunk(self.curvature, self.spread), t, t)
        y = RAY[:, None] * t + RAY[:, None] ** 2 * bend
        return float((y**2).sum(axis=1).max()), int(known.sum())


def _shrunk(q, spread):
    """Estimates ``q q^2/(q^2 + variance)``: those that are mostly noise vanish smoothly."""
    variance = (spread**2).sum(axis=0)
    return np.divide(q**3, q**2 + variance, out=np.zeros_like(q), where=q != 0)


def profile(search, match, frame, covariance, n):
    """The :class:`Profile` of a match, from ``n`` configurations on either side of every direction."""
    values, vectors = np.linalg.eigh(covariance)
    d = frame.known.shape[1]
    known, errors = vectors[:, len(values) - d :], np.sqrt(values[len(values) - d :])
    project = (known / errors).T @ frame.project  # residual -> y
    n_groups = min(40, n // 2)
    q, spread, slopes = np.zeros((d, d, d)), np.zeros((n_groups, d, d, d)), []
    for b, (v, error) in enumerate(zip(known.T, errors, strict=True)):
        (up, above), (down, below) = (_side(search, match.theta, sign * STEP * error * v, n) for sign in (1, -1))
        slopes.append((above, below, STEP * error))
        if up is not None and down is not None:
            q[:, b] = project @ (up.jacobian - down.jacobian) @ (known * errors) / (4 * STEP)
            spread[:, :, b] = project @ (up.jacobian_noise - down.jacobian_noise) @ (known * errors) / (4 * STEP)
    for v in frame.flat.T:
        sides = [_side(search, match.theta, sign * FLAT / 5 * v, n) for sign in (1, -1)]
        slopes.append((sides[0][1], sides[1][1], FLAT / 5))
    # derivatives commute: q_abc and q_acb are two estimates of one number
    return Profile(np.hstack([known, frame.flat]), np.append(errors, [math.inf] * frame.flat.shape[1]),
                   (q + q.swapaxes(1, 2)) / 2, (spread + spread.swapaxes(2, 3)) / 2, slopes)  # fmt: skip


def _side(search, theta, move, n):
    """(look, modes) at theta + move; None and the modes at theta itself where that cannot be simulated and fitted."""
    try:
        look = search.look(theta + move, n, keep_modes=True)
    except FAILURES:
        return None, {}
    return look, look.ensemble.modes


def intervals(profile, names, theta, quantile=1.0):
    """Intervals of the couplings that are numbers, ``|y| <= quantile``."""
    out, loose = {}, (profile.directions[:, ~profile.is_known] ** 2).sum(axis=1)
    for name, x, error, q, dq, loss in zip(names, theta, *profile.bends(), loose, strict=True):
        if loss < 0.01:
            q = float(_shrunk(np.array(q), np.array([dq])))
            out[name] = (float(x - error * _reach(-q, quantile)), float(x + error * _reach(q, quantile)))
    return out


def bent(profile, names, ranges):
    """Notes on couplings whose response bends within their error; ``ranges``: the 68 % intervals by name."""
    notes = []
    for name, _, q, dq in zip(names, *profile.bends(), strict=True):
        if name in ranges and abs(q) > max(BENT, 3 * dq):
            low, high = ranges[name]
            notes.append(f"the response bends within the error of {name}: 68 % interval {low:.4f} to {high:.4f}")
    return notes


def _reach(q, quantile):
    """t > 0 with ``t + q t^2 = quantile``; where the parabola turns back, its summit or, at most, 3 quantiles."""
    if abs(q) < 1e-9:
        return quantile
    inside = 1 + 4 * q * quantile
    return min((math.sqrt(inside) - 1) / (2 * q) if inside > 0 else -1 / (2 * q), 3.0 * quantile)


def search_interval(search, match, frame, which, n=80):
    """How far one can walk along a flat direction until chi^2 rises by 4, the known directions readjusted.

    Returns
    -------
    Direction
    better : ndarray (n_theta,) or None
        Couplings on the way whose chi^2 is less by more than 4: the match is a saddle, as at K = 0 where an even
        decimation hides the sign of K.
    """
    v = frame.flat[:, which]
    v = v * np.sign(v[np.argmax(np.abs(v))])
    # the least chi^2, by the same short simulations, is what a rise is measured against
    least = search.chi2(match.theta, n)[0]
    limit, best, lowest = least + DELTA_CHI2, None, least - DELTA_CHI2
    bounds, moves = [], [np.zeros(len(v))]
    for sign in (-1, 1):
        bound, walked, theta = None, 0.0, match.theta
        for reach in REACHES:
            try:
                chi2, theta = _profile(search, theta + sign * (reach - walked) * v, frame, n)
            except FAILURES:
                break
            walked = reach
            if chi2 > limit:
                bound = float(match.theta @ v + sign * reach)
                break
            moves.append(theta - match.theta)
            if chi2 < lowest:
                best, lowest = theta, chi2
        bounds.append(bound)
    weights = dict(zip(search.model.names, map(float, v), strict=True))
    moved = dict(zip(search.model.names, map(float, np.abs(moves).max(axis=0)), strict=True))
    return Direction(weights, float(match.theta @ v), *bounds, moved), best


def _profile(search, theta, frame, n):
    """chi^2 at theta after up to two steps along the known directions, and where that is."""
    chi2, r, _ = search.chi2(theta, n)
    for _ in range(2):
        trial = theta + np.clip(frame.step(r), -0.1, 0.1)
        new, new_r, _ = search.chi2(trial, n)
        if new > chi2 - 1:
            break
        chi2, r, theta = new, new_r, trial
    return chi2, theta
