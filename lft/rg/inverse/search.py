"""The search behind the inverse map: simulate, fit, step.

Damped Gauss-Newton from several starts with short simulations, stage by stage (:mod:`lft.rg.inverse.stages`), the ends
compared with longer ones, and the best of them refined until a step stays within its error.  One simulation gives both
the couplings and their derivatives (:mod:`lft.rg.inverse.response`).  What is minimized, and what the result means:
:mod:`lft.rg.inverse.match`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.rg.inverse.ensemble import FineModel, simulate
from lft.rg.inverse.response import Companions, Response
from lft.rg.inverse.stages import carried

FLAT = 0.25
"""A direction whose standard error exceeds this is flat: couplings are of order 0.1 to 1."""
MAX_EXTRA = 3
"""Repetitions of the last simulation where the noise of the Jacobian alone would call a direction flat."""
FAILURES = (InputError, DivergenceError, np.linalg.LinAlgError)
MAX_MOVE, MAX_MOVE_OF_H = 0.2, 0.6
MAX_STEPS = 15
MAX_STALLED = 3
"""Steps without a smaller chi^2 after which a search has ended."""
MAX_FINAL, SETTLED = 4, 1.5
HOPELESS = 10.0
"""chi^2 per observed coupling of a match that no precision will save."""
MAX_TUNING, MAX_TUNED = 5, 0.2
"""Steps of the field alone before a search, and the largest."""
FIELD_SHIFTS = (-0.1, 0.1, -0.3, 0.3, -0.6, 0.6)
MAX_ENDS = 3
"""Ends of searches that are followed further, those that match best."""


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
    spread: np.ndarray  # of `predicted`, see Look
    model: np.ndarray  # covariance that the model predicts for the recording
    jacobian: np.ndarray
    jacobian_noise: np.ndarray  # its spread, see Response
    chi2: float
    ensemble: object = field(repr=False)
    is_converged: bool = True

    @property
    def noise(self):
        """Covariance of ``predicted`` from the finite simulation."""
        return self.spread.T @ self.spread

    @property
    def move(self):
        """The last step: from where the last simulation was made to ``theta``."""
        return self.theta - self.ensemble.theta


@dataclass(frozen=True)
class Look:
    """One simulation, fitted."""

    theta: np.ndarray
    values: np.ndarray  # fitted couplings
    spread: np.ndarray  # (groups, n_c), deviations by groups of configurations: the sum of their products is `noise`
    per_site: np.ndarray  # covariance of a recording, times its sites
    jacobian: np.ndarray
    jacobian_noise: np.ndarray  # its spread, see Response
    ensemble: object = field(repr=False)

    @property
    def noise(self):
        """Covariance of the values from the finite simulation."""
        return self.spread.T @ self.spread

    def against(self, target):
        """chi^2, residual and weight: the inverse of what the model predicts for the recording, plus this noise."""
        r, W = target.values - self.values, np.linalg.inv(self.per_site / target.n_sites + self.noise)
        return float(r @ W @ r), r, W


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
        self.n_sites = volume.observation.seen_lattice(volume.n_time).n_active

    def at(self, volume):
        """The same search in another volume."""
        return Search(self.target, volume, self.estimator, self.model.displacements, self.seed, self.say)

    def look(self, theta, n, volume=None, seed=None, keep_modes=False):
        """The fine lattice at couplings theta, as the array sees it: a :class:`Look`."""
        volume = volume or self.volume
        model = FineModel(volume.observation, self.model.displacements)
        ensemble = simulate(model, theta, n, volume.n_time, seed=self.seed if seed is None else seed,
                            keep_modes=keep_modes, keep_cells=True)  # fmt: skip
        values, u, responses = self.estimator(ensemble.fields, Companions(ensemble))
        sites = volume.observation.seen_lattice(volume.n_time).n_active
        per_site = n * u.T @ u * sites  # cov(n u_i) of one configuration, times its sites
        spread = _grouped(u)
        weight = np.linalg.inv(per_site / self.target.n_sites + spread.T @ spread)
        response = Response.of(responses, len(theta), weight)
        ensemble.fields.clear()
        ensemble = dataclasses.replace(ensemble, cells=None)
        return Look(np.array(theta, float), values, spread, per_site, response.jacobian, response.spread, ensemble)

    def chi2(self, theta, n):
        """chi^2 at theta with the residual and its weight."""
        return self.look(theta, n).against(self.target)

    def pilot(self, starts, n):
        """Damped Gauss-Newton from every start; those that lead nowhere are dropped, equal ends counted once."""
        found, reason = [], ""
        for number, candidates in enumerate(starts):
            try:
                end = self._descend(candidates, n, number)
            except FAILURES as error:
                reason = str(error)
                self.say(f"start {number}: given up: {reason}")
                continue
            if all(end.is_apart(other) for other in found):
                found.append(end)
        if not found:
            raise DivergenceError(f"inverse map: no start led to couplings that can be simulated and fitted: {reason}")
        return found

    def climb(self, found, finer):
        """Starts for a finer stage: per end, the candidates of :func:`lft.rg.inverse.stages.carried`."""
        ends = sorted(found, key=lambda f: f.chi2)[:MAX_ENDS]
        return [carried(f.theta, f.magnetization, self.model, finer.model) for f in ends]

    def _first(self, candidates, n):
        """The best candidate once its field is tuned; those that cannot be simulated and fitted are passed over."""
        looks, reason = [], None
        for theta in candidates:
            try:
                looks.append(self._tuned(theta, max(n // 2, 40)))
            except FAILURES as error:
                reason = error
        if not looks:
            raise reason
        return self.look(min(looks, key=lambda look: look.against(self.target)[0]).theta, n)

    def _tuned(self, theta, n):
        """A look after a few steps of the field alone, which decides on the rate: guesses of it are rough near Tc."""
        look = self._any_look(theta, n)
        for _ in range(MAX_TUNING):
            chi2, r, W = look.against(self.target)
            column = look.jacobian[:, -1]
            stiff = column @ W @ column
            move = np.clip(column @ W @ r / (stiff + 1.0), -MAX_TUNED, MAX_TUNED)
            if move * move * stiff < max(0.02 * chi2, 1.0):
                break
            new = self.look(look.theta + move * np.eye(len(theta))[-1], n)
            if new.against(self.target)[0] > chi2:
                break
            look = new
        return look

    def _any_look(self, theta, n):
        """A look at theta, or at the nearest field where the array is neither silent nor saturated."""
        for shift in (0.0, *FIELD_SHIFTS):
            try:
                return self.look(theta + shift * np.eye(len(theta))[-1], n)
            except FAILURES as error:
                reason = error
        raise reason

    def _descend(self, candidates, n, number):
        look, prior, damping, stalled = self._first(candidates, n), 0.3**-2, 0.0, 0
        best, least = look, look.against(self.target)[0]
        for step in range(MAX_STEPS):
            chi2, r, W = look.against(self.target)
            theta, J = look.theta, look.jacobian
            self.say(f"start {number}, step {step}: chi2 {chi2:.1f} at " + ", ".join(f"{x:.4f}" for x in theta))
            if chi2 < 0.98 * least - 1:
                best, least, stalled = look, chi2, 0
            else:
                stalled += step > 0
            information = J.T @ W @ J
            stiff = information + prior * np.eye(len(theta)) + damping * np.diag(information.diagonal())
            move = np.linalg.solve(stiff, J.T @ W @ r)
            move *= min(1.0, MAX_MOVE / np.abs(move[:-1]).max(), MAX_MOVE_OF_H / abs(move[-1]))
            if stalled == MAX_STALLED or move @ information @ move < len(theta):  # as noise alone makes
                break
            try:
                new = self.look(theta + move, n)
                noise = 2 * math.sqrt(float(r @ W @ look.noise @ W @ r))  # of chi2
                is_better = new.against(self.target)[0] < chi2 + 3 + noise
            except FAILURES:
                is_better = False
            if is_better:
                look, prior, damping = new, max(prior / 3, 1.0), damping / 10 if damping > 3.0 else 0.0
            else:
                damping = max(10 * damping, 3.0)
        look = best
        chi2, _, W = look.against(self.target)
        return _Found(look.theta, chi2, look.jacobian.T @ W @ look.jacobian, _magnetization(look))

    def choose(self, found, n):
        """The end point to refine, and others that match nearly as well, judged by ``n`` configurations each."""
        limit = min(f.chi2 for f in found) + 10 * math.sqrt(2 * len(self.target.names))  # short runs are noisy
        polished = []
        for f in sorted((f for f in found if f.chi2 < limit), key=lambda f: f.chi2)[:MAX_ENDS]:
            try:
                f = self._polish(f, n)
                self.say(f"candidate: chi2 {f.chi2:.1f} at " + ", ".join(f"{x:.4f}" for x in f.theta))
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
        look = self.look(found.theta, n)
        chi2, r, W = look.against(self.target)
        for _ in range(3):
            J = look.jacobian
            move = np.linalg.solve(J.T @ W @ J + np.eye(J.shape[1]), J.T @ W @ r)
            move *= min(1.0, 0.05 / np.abs(move).max())
            if move @ (J.T @ W @ J) @ move < 0.5:
                break
            new = self.look(found.theta + move, n)
            if new.against(self.target)[0] > chi2 - 0.5:
                break
            look, found = new, dataclasses.replace(found, theta=found.theta + move)
            chi2, r, W = look.against(self.target)
        return dataclasses.replace(found, chi2=chi2, information=look.jacobian.T @ W @ look.jacobian)

    def refine(self, theta, n):
        """Gauss-Newton with the full simulation until a step stays within the errors."""
        best = None
        for attempt in range(MAX_FINAL):
            look = self.look(theta, n, keep_modes=True)
            move, size, chi2, frame = self._step(look)
            self.say(f"final {attempt}: chi2 {chi2:.1f}, step of {size:.2f} errors at "
                     + ", ".join(f"{x:.4f}" for x in theta))  # fmt: skip
            extra = 0
            is_rejected = chi2 > HOPELESS * len(self.target.names)
            while size < SETTLED and frame.in_doubt and extra < MAX_EXTRA and not is_rejected:
                # is a direction flat, or only the Jacobian noisy?
                extra += 1
                look = _mean(look, extra, self.look(theta, n, seed=self.seed + 7919 * extra))
                move, size, chi2, frame = self._step(look)
                self.say(f"final {attempt}, repetition {extra}: chi2 {chi2:.1f}, step of {size:.2f} errors")
            if best is not None and chi2 > 2 * best[1] + 20:  # the linear step led away: stay where it was best
                return self._match(best[0], np.zeros(len(theta)), False)
            best = (look, chi2)
            if size < SETTLED or attempt == MAX_FINAL - 1:
                return self._match(look, move, size < SETTLED)
            theta = theta + move * min(1.0, MAX_MOVE / np.abs(move).max())


    def _match(self, look, move, is_settled):
        _, r, W = look.against(self.target)
        J, rest = look.jacobian, r - look.jacobian @ move
        return Match(look.theta + move, look.values + J @ move, look.spread, look.per_site / self.target.n_sites, J,
                     look.jacobian_noise, float(rest @ W @ rest), look.ensemble, is_settled)  # fmt: skip

    def _step(self, look):
        """(Gauss-Newton step within the known directions, its length in errors, chi^2, frame)."""
        chi2, r, W = look.against(self.target)
        frame = Frame.of(look.jacobian, look.jacobian_noise, W)
        move = frame.step(r)
        return move, math.sqrt(max(float(move @ (look.jacobian.T @ W @ look.jacobian) @ move), 0.0)), chi2, frame


@dataclass(frozen=True)
class _Found:
    """Where a search from one start ended."""

    theta: np.ndarray
    chi2: float
    information: np.ndarray
    magnetization: float

    def is_apart(self, other):
        """Whether two ends are more than five errors and 0.03 apart."""
        gap = self.theta - other.theta
        distance = float(gap @ (self.information + other.information) @ gap) / 2
        return distance > 25 and np.abs(gap).max() > 0.03


@dataclass(frozen=True)
class Frame:
    """Directions of theta: known and flat, by the singular values S of the whitened Jacobian.

    A direction is flat if its standard error 1/S exceeds ``FLAT``, or if S^2 does not rise above what the noise of the
    Jacobian alone would show; ``in_doubt`` if the noise alone decides.  That noise adds to S^2 and would make errors
    too small: variances along a known direction are multiplied by ``inflation = S^2/(S^2 - noise)``.
    """

    project: np.ndarray  # P: residual -> theta, within the known directions
    known: np.ndarray  # columns
    flat: np.ndarray  # columns
    in_doubt: bool
    inflation: np.ndarray  # per known direction

    @classmethod
    def of(cls, J, spread, W):
        L = np.linalg.cholesky(W)
        A = L.T @ J
        _, S, Vt = np.linalg.svd(A, full_matrices=False)
        noise = np.array([float(((spread @ v @ L) ** 2).sum()) for v in Vt])
        is_steep = S > 1 / FLAT
        is_seen = S**2 > noise * (1 + 4 * math.sqrt(2 / len(J)))
        is_known = is_steep & is_seen
        known, flat = Vt[is_known].T, Vt[~is_known].T
        if known.shape[1]:
            B = A @ known
            project = known @ np.linalg.solve(B.T @ B, B.T @ L.T)
        else:
            project = np.zeros((J.shape[1], J.shape[0]))
        in_doubt = bool((is_steep & (S**2 < 5 * noise)).any())
        return cls(project, known, flat, in_doubt, S[is_known] ** 2 / (S[is_known] ** 2 - noise[is_known]))

    def step(self, r):
        """The change of theta that removes a residual, within the known directions."""
        return self.project @ r

    def covariance(self, of_couplings):
        """Covariance of theta, given that of the coarse couplings."""
        inner = self.known.T @ self.project @ of_couplings @ self.project.T @ self.known
        wide = self.known * np.sqrt(self.inflation)
        return wide @ inner @ wide.T

    def simulated(self, match, rest, W):
        """Covariance of theta from the simulation: the noise of its couplings and, to first order, of its derivatives.

            d theta = -P d c + M^-1 dJ^T W rest - P dJ move,     M = J^T W J

        with ``rest`` what remains of the residual and ``move`` the last step, group by group of configurations.
        """
        J = match.jacobian @ self.known
        inverse = self.known @ np.linalg.solve(J.T @ W @ J, self.known.T)
        by_values = match.spread @ self.project.T
        by_slopes = (W @ rest) @ match.jacobian_noise @ inverse - (match.jacobian_noise @ match.move) @ self.project.T
        deviations = (by_slopes - by_values) @ self.known * np.sqrt(self.inflation)
        return self.known @ (deviations.T @ deviations) @ self.known.T


def _grouped(u, n_groups=40):
    """Deviations of the mean of a Markov series by groups of consecutive configurations: sums of influences.

    The groups are those of :meth:`lft.rg.inverse.response.Response.of`, so that the noise of values and derivatives,
    which is that of the same configurations, can be added with its correlation.
    """
    n = min(n_groups, len(u) // 2)
    edges = np.linspace(0, len(u), n + 1).astype(int)[:-1]
    return math.sqrt(n / (n - 1)) * np.add.reduceat(u, edges, axis=0)


def _mean(look, n, other):
    """The mean of a look that stands for ``n`` simulations and one more at the same couplings."""
    a, b = n / (n + 1), 1 / (n + 1)
    return dataclasses.replace(
        look, values=a * look.values + b * other.values, spread=np.concatenate([a * look.spread, b * other.spread]),
        per_site=a * look.per_site + b * other.per_site, jacobian=a * look.jacobian + b * other.jacobian,
        jacobian_noise=np.concatenate([a * look.jacobian_noise, b * other.jacobian_noise]),
    )  # fmt: skip


def _magnetization(look):
    return float(look.ensemble.operators[:, -1].mean() / look.ensemble.fine.n_sites)
