"""The search behind the inverse map: simulate, fit, step.

Damped Gauss-Newton from several starts with short simulations, the ends compared with longer ones, and the best of them
refined until a step stays within its error.  What is minimized, and what the result means: :mod:`lft.rg.inverse.match`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.rg.inverse.ensemble import FineModel, simulate
from lft.rg.variables import displacement_of

STEP, WIDE_STEP = 0.05, 0.1
"""Half the distance of central differences; the wide one where the response is weak, hence smooth, and noise rules."""
FLAT = 0.25
"""A direction whose standard error exceeds this is flat: couplings are of order 0.1 to 1."""
MAX_EXTRA = 3
"""Repetitions of the Jacobian where its noise alone would call a direction flat."""
FAILURES = (InputError, DivergenceError, np.linalg.LinAlgError)
MAX_MOVE = 0.2
MAX_STEPS = 15
MAX_FINAL = 4


@dataclass(frozen=True)
class Target:
    """Couplings of a recording, the aim of the match.

    Parameters
    ----------
    names : sequence of str
        In the order of the estimator: ``K[...]``, then ``h``.
    values : ndarray (n_c,)
    covariance : ndarray (n_c, n_c)
    n_sites : float
        Active sites times bins behind the fit.
    n_blocks : int, optional
        Blocks behind the covariance; None if it is known exactly.
    """

    names: tuple
    values: np.ndarray
    covariance: np.ndarray
    n_sites: float
    n_blocks: int | None = None

    def __post_init__(self):
        values, covariance = np.asarray(self.values, float), np.asarray(self.covariance, float)
        if values.shape != (len(self.names),) or covariance.shape != (len(values),) * 2:
            raise InputError(f"target: {len(self.names)} names, values {values.shape}, covariance {covariance.shape}")
        if not (np.isfinite(values).all() and np.isfinite(covariance).all()):
            rows = zip(self.names, values, covariance, strict=True)
            bad = [name for name, v, row in rows if not np.isfinite([v, *row]).all()]
            raise InputError(f"target: {', '.join(bad)} without a finite value and error: leave it out of the fit")
        if np.linalg.eigvalsh((covariance + covariance.T) / 2)[0] < -1e-9 * covariance.diagonal().max():
            raise InputError("target: the covariance has a negative eigenvalue")
        if not self.n_sites > 0:
            raise InputError(f"target: n_sites = {self.n_sites!r}, valid is a positive number")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "covariance", covariance)


@dataclass(frozen=True)
class Match:
    """Where a search ended: couplings, what they give, and the linear map there."""

    theta: np.ndarray
    predicted: np.ndarray
    noise: np.ndarray  # covariance of `predicted` from the finite simulation
    model: np.ndarray  # covariance that the model predicts for the recording
    jacobian: np.ndarray
    jacobian_noise: np.ndarray  # variance of its entries
    chi2: float
    ensemble: object = field(repr=False)
    slopes: tuple = field(repr=False)  # (modes at theta + delta, modes at theta - delta, delta) per coupling
    is_converged: bool = True


# ---- where to begin
def default_starts(target, model):
    """Guesses: the exact one-dimensional inverse along each axis, kept below a mean-field instability."""
    observation = model.observation
    c = dict(zip(target.names, target.values, strict=True))
    units = observation.recorded.unit_displacements()
    coarse = np.array([c.get(_name(d), 0.0) for d in units])
    m = _mean_field(c.get("h", 0.0), 2 * sum(v for n, v in c.items() if displacement_of(n)))
    t = observation.recorded.time_axis
    if t is not None and observation.rule != "decimation":
        p = (1 + m) / 2
        fine_p = 1 - (1 - p) ** (1 / observation.factor[t]) if observation.rule == "or" else p / observation.factor[t]
        m = 2 * min(max(fine_p, 1e-4), 1 - 1e-4) - 1
    rho = np.tanh(coarse)
    along = np.arctanh(np.sign(rho) * np.abs(rho) ** (1 / np.array(observation.factor)))
    gain = 2 * np.maximum(along, 0).sum() * (1 - m * m)
    if len(units) > 1 and gain > 1:
        along = along / gain

    def start(K):
        values = dict(zip(units, K, strict=True))
        sought = np.array([values.get(d, 0.0) for d in model.displacements])
        h = math.atanh(np.clip(m, -0.9999, 0.9999)) - 2 * sought.sum() * m
        return np.append(sought, np.clip(h, -4, 4))

    out = [start(along), start(along / 2)]
    for axis, b in enumerate(observation.factor):
        name = observation.space if axis != t else observation.rule
        if b % 2 == 0 and name == "decimation" and units[axis] in model.displacements:
            flipped = along.copy()
            flipped[axis] = -max(abs(flipped[axis]), 0.1)
            out.append(start(flipped))
    return out


def _name(displacement):
    return f"K[{','.join(map(str, displacement))}]"


def _mean_field(h, total):
    m = math.tanh(h)
    for _ in range(200):
        m = 0.5 * m + 0.5 * math.tanh(h + total * m)
    return m


# ---- the search
class Search:
    """Simulates, fits, and steps."""

    def __init__(self, target, volume, estimator, displacements, seed, progress):
        self.target, self.volume, self.estimator, self.seed, self.say = target, volume, estimator, seed, progress
        self.model = FineModel(volume.observation, displacements)
        if tuple(getattr(estimator, "names", target.names)) != tuple(target.names):
            raise InputError(f"target couplings {', '.join(target.names)} are not those of the estimator: "
                             f"{', '.join(estimator.names)}")
        if len(target.names) < len(self.model.names):
            raise InputError(
                f"{len(target.names)} observed couplings cannot determine {len(self.model.names)}: fit the recording "
                "with a longer reach or with diagonals"
            )
        seen = volume.observation.seen_lattice(volume.n_time)
        self.n_sites = seen.n_active
        self.n_runs = 0

    def look(self, theta, n, volume=None, seed=None):
        """(fitted couplings, their simulation covariance, covariance per site, ensemble) at couplings theta."""
        volume = volume or self.volume
        model = FineModel(volume.observation, self.model.displacements)
        self.n_runs += 1
        ensemble = simulate(model, theta, n, volume.n_time, seed=self.seed if seed is None else seed)
        values, u = self.estimator(ensemble.fields)
        sites = volume.observation.seen_lattice(volume.n_time).n_active
        per_site = n * u.T @ u * sites  # cov(n u_i) of one configuration, times its sites
        noise = _grouped(u)
        ensemble.fields.clear()
        return values, noise, per_site, ensemble

    def jacobian(self, theta, n, seed=None, step=STEP):
        """dc/dtheta by central differences, the variance of its entries, and the modes of both sides."""
        columns, variances, slopes = [], [], []
        for k in range(len(theta)):
            delta = step * np.eye(len(theta))[k]
            up, down = (self.look(theta + s * delta, n, seed=seed) for s in (1, -1))
            columns.append((up[0] - down[0]) / (2 * step))
            variances.append((up[1] + down[1]).diagonal() / (2 * step) ** 2)
            slopes.append((up[3].modes, down[3].modes, step))
        return np.array(columns).T, np.array(variances).T, tuple(slopes)

    def weight(self, noise, per_site):
        """Inverse of what the model predicts for a recording of this size, plus simulation noise."""
        return np.linalg.inv(per_site / self.target.n_sites + noise)

    def chi2(self, theta, n):
        """chi^2 at theta with the residual and its weight."""
        values, noise, per_site, _ = self.look(theta, n)
        r, W = self.target.values - values, self.weight(noise, per_site)
        return float(r @ W @ r), r, W

    def pilot(self, starts, n):
        """Damped Gauss-Newton from every start; those that lead nowhere are dropped."""
        found, reason = [], ""
        for number, start in enumerate(starts):
            try:
                found.append(self._descend(start, n, number))
            except FAILURES as error:
                reason = str(error)
                self.say(f"start {number}: given up: {reason}")
        if not found:
            raise DivergenceError(f"inverse map: no start led to couplings that can be simulated and fitted: {reason}")
        return found

    def _descend(self, start, n, number):
        theta, J, at, is_done, damping = np.array(start, float), None, None, False, 0.3**-2
        chi2, r, W = self.chi2(theta, n)
        for step in range(MAX_STEPS):
            if J is None or np.abs(theta - at).max() > 0.1:
                (J, _, _), at = self.jacobian(theta, max(n // 2, 40), step=WIDE_STEP), theta
            information = J.T @ W @ J
            move = np.linalg.solve(information + damping * np.eye(len(theta)), J.T @ W @ r)
            move *= min(1.0, MAX_MOVE / np.abs(move).max())
            self.say(f"start {number}, step {step}: chi2 {chi2:.1f} at " + ", ".join(f"{x:.4f}" for x in theta))
            if move @ information @ move < 1 or np.abs(move).max() < 0.003:
                is_done = True
                break
            try:
                new = self.chi2(theta + move, n)
            except FAILURES:
                new = (math.inf, None, None)
            if new[0] < chi2 + 3:
                theta, (chi2, r, W) = theta + move, new
                damping = max(damping / 3, 1.0)
            else:
                damping *= 10
                if damping > 1e5:
                    break
        return _Found(theta, chi2, J, information, is_done)

    def choose(self, found, n):
        """The end point to refine, and others that match nearly as well, judged by ``n`` configurations each."""
        found = [f for f in found if f.is_converged] or found
        limit = min(f.chi2 for f in found) + 10 * math.sqrt(2 * len(self.target.names))  # short runs are noisy
        polished = []
        for f in sorted((f for f in found if f.chi2 < limit), key=lambda f: f.chi2):
            try:
                f = self._polish(f, n)
            except FAILURES:
                continue
            if all(f.is_apart(other) for other in polished):
                polished.append(f)
        if not polished:
            return min(found, key=lambda f: f.chi2), []
        least = min(f.chi2 for f in polished)
        near = [f for f in polished if f.chi2 < least + 9]
        best = max(near, key=lambda f: f.theta[:-1].sum())
        return best, [f for f in near if f is not best]

    def _polish(self, found, n):
        chi2, r, W = self.chi2(found.theta, n)
        J = found.jacobian
        for _ in range(3):
            move = np.linalg.solve(J.T @ W @ J + np.eye(J.shape[1]), J.T @ W @ r)
            move *= min(1.0, 0.05 / np.abs(move).max())
            new = self.chi2(found.theta + move, n)
            if new[0] > chi2 - 0.5:
                break
            found = dataclasses.replace(found, theta=found.theta + move)
            chi2, r, W = new
        return dataclasses.replace(found, chi2=chi2, information=J.T @ W @ J)

    def refine(self, theta, n):
        """Gauss-Newton with the full simulation until a step stays within the errors."""
        for attempt in range(MAX_FINAL):
            values, noise, per_site, ensemble = self.look(theta, n)
            W = self.weight(noise, per_site)
            J, variance, slopes = self.jacobian(theta, n)
            total = 1.0
            for extra in range(1, MAX_EXTRA + 1):  # is a direction flat, or only the Jacobian noisy?
                if not Frame.of(J, variance, W).in_doubt:
                    break
                more, more_variance, slopes = self.jacobian(theta, n, self.seed + 7919 * extra, WIDE_STEP)
                w = (WIDE_STEP / STEP) ** 2
                J = (total * J + w * more) / (total + w)
                variance = (total**2 * variance + w**2 * more_variance) / (total + w) ** 2
                total += w
            r, frame = self.target.values - values, Frame.of(J, variance, W)
            move = frame.step(r)
            size = math.sqrt(max(float(move @ (J.T @ W @ J) @ move), 0.0))
            self.say(f"final {attempt}: step of {size:.2f} errors at " + ", ".join(f"{x:.4f}" for x in theta))
            if size < 1.5 or attempt == MAX_FINAL - 1:
                rest = r - J @ move
                return Match(theta + move, values + J @ move, noise, per_site / self.target.n_sites, J, variance,
                             float(rest @ W @ rest), ensemble, slopes, size < 1.5)
            theta = theta + move * min(1.0, MAX_MOVE / np.abs(move).max())


@dataclass(frozen=True)
class _Found:
    """Where a search from one start ended."""

    theta: np.ndarray
    chi2: float
    jacobian: np.ndarray
    information: np.ndarray
    is_converged: bool

    def is_apart(self, other):
        """Whether two ends are more than five errors and 0.03 apart."""
        gap = self.theta - other.theta
        distance = float(gap @ (self.information + other.information) @ gap) / 2
        return distance > 25 and np.abs(gap).max() > 0.03


@dataclass(frozen=True)
class Frame:
    """Directions of theta: known and flat, by the singular values S of the whitened Jacobian.

    A direction is flat if its standard error 1/S exceeds ``FLAT``, or if S^2 does not rise above what the noise of the
    Jacobian alone would show; ``in_doubt`` if the noise alone decides.
    """

    project: np.ndarray  # P: residual -> theta, within the known directions
    known: np.ndarray  # columns
    flat: np.ndarray  # columns
    in_doubt: bool

    @classmethod
    def of(cls, J, variance, W):
        L = np.linalg.cholesky(W)
        A = L.T @ J
        _, S, Vt = np.linalg.svd(A, full_matrices=False)
        noise = np.array([float((np.diag(W)[:, None] * variance * v**2).sum()) for v in Vt])
        is_steep = S > 1 / FLAT
        is_seen = S**2 > noise * (1 + 4 * math.sqrt(2 / len(J)))
        known, flat = Vt[is_steep & is_seen].T, Vt[~(is_steep & is_seen)].T
        if known.shape[1]:
            B = A @ known
            project = known @ np.linalg.solve(B.T @ B, B.T @ L.T)
        else:
            project = np.zeros((J.shape[1], J.shape[0]))
        in_doubt = bool((is_steep & (S**2 < 5 * noise)).any())
        return cls(project, known, flat, in_doubt)

    def step(self, r):
        """The change of theta that removes a residual, within the known directions."""
        return self.project @ r


def _grouped(u, n_groups=40):
    """Covariance of the mean of a Markov series from groups of consecutive configurations (sums of influences)."""
    n = min(n_groups, len(u) // 2)
    edges = np.linspace(0, len(u), n + 1).astype(int)[:-1]
    sums = np.add.reduceat(u, edges, axis=0)
    return n / (n - 1) * sums.T @ sums
