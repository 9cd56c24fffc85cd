"""Boltzmann learning: maximum likelihood with moments and their covariance measured in many persistent chains.

    theta <- theta + H^-1 (O(data) - <O>),       H = cov(O)

Newton steps on the concave likelihood, from the maximum of the pseudo-likelihood.  H is measured once, again where it
is no guide any more and where the steps end; <O> is measured after every step, in the more samples the less is left of
the gradient, until that is what chains resolve.  Whether the moments are matched is then asked of new chains.

Sparse recordings with bursts have a second state nearby, in which most units fire; quadratic forms do not see it
before chains visit it; once they do, Newton steps lead out of it.  So

* no step raises the weight of a bin, recorded or drawn, by more than some nats: H is raised by a constant;
* a step into that state, where chains fire too much, or remember four times as long as those before, is taken back to a
  quarter, and the next ones do not raise the weight of the bins found there (fences), until what is left of
  the gradient lies across;
* a step beyond the maximum along it, which the slope there tells, is taken back to where the slope vanishes.

Bins of a static model are independent draws.  For space-time models chains are stretches with open ends: the ends count
as they are, the middle stands for the rest of a longer trial (:mod:`lft.inference.likelihood.stretches`).
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.inference import held, newton
from lft.inference.likelihood.checkpoint import State, Store
from lft.inference.likelihood.exact_fit import MODELS, Problem, penalty
from lft.inference.likelihood.joint import keeps_firing, second_state, strayed_bins
from lft.inference.likelihood.model import LONGEST, GibbsModel, from_fit
from lft.inference.likelihood.normalization import log_z_difference, weights_by_bin
from lft.inference.likelihood.operators import start_theta
from lft.inference.likelihood.stretches import MOST_SWEEPS, Stretches

MAX_PARAMETERS = 12_000
"""Couplings whose covariance is measured as a matrix (1.2 GB)."""
DRAWS = 12
"""Draws behind the covariance, per coupling."""
SEEN, MOST = 20.0, 16.0
"""How often the rarest joint state should occur behind the covariance, in at most so many times the recording."""
RIDGES = (1.0, 4.0, 16.0, 64.0, 256.0)
"""Of the pseudo-likelihood at the start, nats, where the maximum without one has a second state."""
FAR = 1e-3
"""Nats per bin by which the distribution may change before the covariance is measured again for the errors."""
WILD = 10.0
"""Noise of the moments, in units of what the covariance promises at most, beyond which a step has strayed."""
REACH = 2.0
"""Nats by which the first step may raise the weight of any bin, recorded or drawn; doubled after a good one."""
FARTHEST = 16.0
"""Nats to which that grows."""
ACROSS = 0.3
"""Share of what a free step promises below which a fenced one is given up."""
STRAY = 1.3
"""Spikes of chains, in units of those recorded or before a step, beyond which it is taken back to a quarter."""
FENCES = 12
"""Kinds of bins, to which steps have strayed, that are remembered."""
PATIENCE = 4
"""Margins, in units of those before a step or of 64 bins, beyond which it is taken back."""
SWEEPS = 256
"""Sweeps in which chains after a step must settle, or twice those that it took before."""
SMALLEST = 0.01
"""Log-odds of a step that is not cut any further."""
STALLED = 15
"""Steps in which what is left of the gradient must fall by a fifth."""
ADDED = 1.0
"""Nats of likelihood that the noise of chains may cost before the last step, whose chains are ``1 / accuracy`` long."""
STUCK = 50
"""Events of the rarer of two joint states beyond which single flips take too long between them."""
ADVICE = "give a larger --ridge, or fewer units or lags, or wider bins"
CAUSAL_ADVICE = ", or take --model kinetic or glm, whose likelihood has no such edge"


def fit_boltzmann(
    rasters, *, model="pairwise", lags=(1,), k_max=1, test=0.2, ridge=0.0, start=None, accuracy=0.02, n_chains=None,
    seed=0, n_blocks=None, bin_s=None, unit=None, comm=None, checkpoint=None, max_steps=60,
):  # fmt: skip
    """Fit a Gibbs model by Boltzmann learning.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1; several are trials.
    model : {"pairwise", "k-pairwise", "neural", "lagged"}
    lags, k_max, test, ridge, n_blocks, bin_s, unit
        As in :func:`lft.inference.likelihood.fit_exact`.
    start : GibbsModel or Fit, optional
        Default: the maximum of the pseudo-likelihood.
    accuracy : float
        The last chains are ``1 / accuracy`` times as long as the recording.  What they add to the variance of the
        couplings is less than this share of what the recording gives (a tenth of it for pairs), and is part of the
        errors.
    n_chains : int, optional
        Multiple of 64, at least 128; default 4096, for space-time models 512.
    seed : int
    comm : communicator, optional
        Chains are dealt to ranks; results have the same bits for any number of ranks.
    checkpoint : path, optional
        Rewritten after every step; a fit that finds it goes on from there.
    max_steps : int

    Returns
    -------
    GibbsFit
        ``checks`` holds what new chains at the fit say: ``worst_z`` and ``rms_z`` of all moments in units of the
        combined error of recording and chains, ``rms_z_chains`` of the chains alone (1 where nothing but sampling is
        left), ``gain_over_start`` in nats of the training stretch with its error, ``steps``, ``samples``.

    Raises
    ------
    InputError
        Bad arguments, more than 12 000 couplings, or a checkpoint of another fit.
    DivergenceError
        Not converged, or couplings that cannot be told apart.

    Notes
    -----
    Cost, one core: the covariance of p couplings takes ``12 p^3`` operations in single precision (100 units, p = 5050:
    27 s); then sweeps and moments of ``1 / accuracy`` times the recording, a few times (78 s in all for 5e4 bins).

    Examples
    --------
    >>> from lft.inference.likelihood import GibbsModel, fit_boltzmann
    >>> model = GibbsModel([-1.0, -0.5, -1.0], [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    >>> fit = fit_boltzmann(model.simulate(5000, seed=4)[0], n_chains=256)
    >>> fit.checks["worst_z"] < 3
    True
    """
    started = time.perf_counter()
    if model not in MODELS:
        raise InputError(f"model {model!r}: valid for Boltzmann learning are {', '.join(MODELS)}")
    if not 0 < accuracy <= 1:
        raise InputError(f"accuracy = {accuracy!r}: valid is a number > 0, up to 1")
    if n_chains is None:
        n_chains = 512 if model in ("neural", "lagged") else 4096
    if not isinstance(n_chains, int | np.integer) or n_chains < 128 or n_chains % 64:
        raise InputError(f"n_chains = {n_chains!r}: valid is a multiple of 64, at least 128")
    problem = Problem(rasters, model, lags, test, ridge, k_max)
    if problem.operators.size > MAX_PARAMETERS:
        raise InputError(
            f"{problem.operators.size} couplings: valid for Boltzmann learning are at most {MAX_PARAMETERS}"
        )
    _check_flips(problem)
    first = _start(problem, start, test, ridge, comm)
    learner = _Learner(problem, first, accuracy, n_chains // 64, seed, comm, ridge, Store(checkpoint, comm))
    state, moments = learner.learn(max_steps)
    theta, noise = learner.settle(state, moments)
    u, warning = problem.influences(learner.information, learner.observed, n_blocks)
    u = problem.without_errors(np.concatenate([u * learner.shrink, noise]), learner.information)
    checks, notes = learner.check(theta, first, moments, state)
    fit = problem.result(
        theta, u, "boltzmann", bin_s, unit, started, notes + ([warning] if warning else []), checks,
        seed=seed, comm=comm,
    )  # fmt: skip
    fit.n_blocks = len(u) - len(noise)
    learner.store.remove()
    return fit


def _check_flips(problem):
    """InputError for two units that only change together: chains of single flips do not move them."""
    op, total = problem.operators, sum(problem.operators.total(r) for r in problem.train)
    fires = np.zeros(op.n_units)
    fires[op.units] = total[op.at["c"]]
    i, j = op.pairs.T
    both = total[op.at["a"]]
    alike = held.twins(both, fires[i], fires[j])
    opposite = (both == 0) & (fires[i] + fires[j] == problem.n_train)
    # a flip leads through a state that the prior leaves with a third of an event: rare states are left soon
    stuck = op.pairs[(alike | opposite) & (np.minimum(fires[i], problem.n_train - fires[i]) > STUCK)]
    if len(stuck) and not problem.ridge:
        names = held.some([f"{i} and {j}" for i, j in stuck])
        raise InputError(
            f"units {names} fire in exactly the same bins, or the one where the other does not: chains of single flips "
            "do not move them; leave one out, give --ridge, or take --method pseudo or exact"
        )


def _start(problem, start, test, ridge, comm):
    """The model from which learning sets out, in the free couplings of the problem."""
    if start is None:
        start = _settled_start(problem, test, ridge, comm)
    elif not isinstance(start, GibbsModel):
        start = from_fit(start)
    if start.n_units != problem.n_units:
        raise InputError(f"start has {start.n_units} units, the recording {problem.n_units}")
    return _projected(problem, start)


def _settled_start(problem, test, ridge, comm):
    """The maximum of the pseudo-likelihood; where it has a second state, which the recording never visits and from
    which no moments lead back, the one under four times the weakest ridge that leaves none, or independent units."""
    rate = sum(r.sum(dtype=float) for r in problem.train) / problem.n_train
    for strength in (ridge, *(r for r in RIDGES if r > ridge)):
        near = _projected(problem, from_fit(problem.pseudo(test, strength, comm)))
        if second_state(near, rate) is None:
            if strength > ridge:
                near = _projected(problem, from_fit(problem.pseudo(test, 4 * strength, comm)))
            return near
    return problem.operators.model(start_theta(problem.operators, problem.train))


def _projected(problem, model):
    """A model in the free couplings of the problem."""
    return problem.operators.model(problem.start_at(model))


class _Learner:
    """Moments and their covariance from chains, and the steps they give."""

    def __init__(self, problem, first, accuracy, words, seed, comm, ridge, store):
        self.problem, self.operators, self.first = problem, problem.operators, first
        self.accuracy, self.words, self.seed, self.comm, self.store = accuracy, words, seed, comm, store
        self.observed = sum(self.operators.total(r) for r in problem.train)
        self.penalty, self.renewed = penalty(self.operators, ridge), 0
        self.slack = min(4 * ADDED, 2 * accuracy * self.operators.size)  # for the last step, which ends it
        self._rare = np.r_[tuple(self.operators.at[kind] for kind in "aCV")]  # coincidences and counts
        self.rate = sum(r.sum(axis=0, dtype=float) for r in problem.train) / problem.n_train
        self._rarest = self.operators.rarest(self.observed, problem.n_train)
        store.mark(problem, first, accuracy, words, seed, ridge)

    def stretches(self, theta, replica, **trial):
        """Chains at these couplings; ``trial``: what is too much of them (:class:`Stretches`)."""
        model = theta if isinstance(theta, GibbsModel) else self.operators.model(theta)
        return Stretches(self.operators, model, self.problem.train, self.words, self.seed, replica, self.comm, **trial)

    def arrived(self, state):
        """Chains where the last step led; None where it strayed, as far as one look tells."""
        model = self.operators.model(state.theta)
        if np.array_equal(state.theta, state.back):
            return self.stretches(model, state.seeds)
        is_long = model.margin() > min(PATIENCE * max(state.margin, 64), LONGEST - 1)
        if is_long or second_state(model, self.rate.sum(), self.seed, self.rate):  # a look that is cheap
            return None
        if model.kind == "space-time" and keeps_firing(model, self.rate.sum(), self.seed):
            return None  # chains that begin as recorded may not find that state in any time
        most = STRAY * max(1.0, state.spikes / self.spikes(self.observed))
        chains = self.stretches(model, state.seeds, most=most, patience=max(2 * state.sweeps, SWEEPS))
        return chains if chains.is_settled else None

    def moments(self, chains, share):
        """<O> with its noise reduced, or as it is where that leaves less noise in a step."""
        reduced = chains.moments(share)
        plain = reduced.plain()
        return plain if self.noise(plain) < self.noise(reduced) else reduced

    def gradient(self, theta, moments):
        return self.observed - moments.total - self.penalty * theta

    def measure(self, chains):
        """(information of the training stretch, relaxation of a step) from ``DRAWS`` times as many draws as couplings.

        With p couplings and n draws the eigenvalues of ``cov^-1 H`` lie between ``(1 +- s)^-2``, s = sqrt(p/n)
        (Marchenko-Pastur law, standard result): steps relaxed by ``(1 - s^2)^2 / (1 + s^2)`` contract by
        ``2 s / (1 + s^2)``.  ``cov^-1 G cov^-1`` is too large by ``n^2 (n-1) / ((n-p)(n-p-1)(n-p-3))`` (inverse Wishart
        matrix, standard result): influences are multiplied by ``self.shrink``.
        """
        rarest = max(self._rarest, 1.0)
        events = chains.n_stretches * min(SEEN / rarest, MOST)
        covariance, n = chains.covariance(DRAWS, events)
        covariance[self._rare, self._rare] += sum(kind.scale for kind in chains.kinds) / n  # one more event was met
        self._use(covariance, n)
        return covariance, n

    def _use(self, covariance, n):
        p = self.operators.size
        floor, rare = np.zeros(p), self._rare
        # an event that the chains hardly met, or hardly missed: its variance at the maximum is about its count
        events = np.minimum(self.observed[rare], self.problem.n_train - self.observed[rare])
        floor[rare] = np.maximum(0.5 * np.minimum(events, 30) - covariance.diagonal()[rare], 0)
        self._variance = covariance.diagonal() + floor
        self._matrix = covariance + np.diag(self.penalty + floor)
        self.information = newton.DenseInformation(self._matrix)
        self.relax = (1 - p / n) ** 2 / (1 + p / n)
        self.shrink = math.sqrt((n - p) * (n - p - 1) * (n - p - 3) / (n**2 * (n - 1)))

    def learn(self, max_steps):
        """Steps until the gradient is what sampling resolves; (state, moments of long chains at its couplings)."""
        state = self.store.load()
        if state is None:
            theta = self.operators.theta(self.first)
            share = min(16 * self.accuracy, 1.0)
            chains = self.stretches(theta, 1)
            state = State(theta, 0, *self.measure(chains), theta, math.inf, 2, share, theta, math.inf, 0.0, REACH,
                           np.zeros((0, len(theta))), chains.sweeps, chains.margin, math.inf, 0, 0)  # fmt: skip
            self.store.save(state)
        else:
            self._use(state.covariance, state.n_draws)
        while state.step < max_steps:
            chains = self.arrived(state)
            state.seeds += 1
            if chains is None:
                state = self.retreat(self.fenced(state), 0.25)
                continue
            if not chains.is_settled:
                raise self.failure(
                    state, state.theta, chains, f"chains that started silent and at random still differ after "
                    f"{MOST_SWEEPS} sweeps: the model has several states that single flips do not join"
                )  # fmt: skip
            moments = self.moments(chains, state.share)
            residual = self.gradient(state.theta, moments)
            if not np.isfinite(residual).all():
                raise DivergenceError("Boltzmann learning: moments are not finite")
            if self.strays(state, moments):
                state = self.retreat(self.fenced(state), 0.25)
                continue
            left = self.overshot(state, residual, moments)
            if left is not None:
                state = self.retreat(state, left)
                continue
            state.sweeps, state.margin = chains.sweeps, chains.margin
            quality, noise = self.promise(residual, moments)
            worse = quality > 0.7 * state.quality + 5 * noise or self.moved(state) > 10 * FAR
            done = quality <= 2.5 * noise + self.slack and self.is_close(state, noise)
            # the end is judged by a covariance from which the couplings are no farther than chains resolve
            worse |= done and self.moved(state) * self.problem.n_train > 0.5 * self.operators.size * self.accuracy
            if worse and not np.array_equal(state.theta, state.measured_at):  # that covariance is no guide any more
                state.covariance, state.n_draws = self.measure(chains)
                state.measured_at = state.theta
                quality, noise = self.promise(residual, moments)
            if quality <= 2.5 * noise + self.slack and self.is_close(state, noise):
                return state, moments if state.share <= self.accuracy else self.moments(chains, self.accuracy)
            if quality <= 20 * noise + self.slack:
                state.share = self.closer(state, noise, quality)
                if quality <= 2.5 * noise + self.slack:
                    continue  # no step from noise: look closer first
            elif quality > 60 * noise + self.slack:  # chains were longer than what is left asks for
                state.share = min(2 * state.share, min(16 * self.accuracy, 1.0))
            if quality < 0.8 * state.lowest:
                state.lowest, state.lowest_step = quality, state.step
            if state.step >= state.lowest_step + STALLED:
                raise self.failure(
                    state, state.theta, chains, f"no progress in the last {STALLED} of {state.step} steps"
                )
            move = self.bounded(residual, moments, chains, state.fences, state.reach)
            if len(state.fences):
                free = self.bounded(residual, moments, chains, state.fences[:0], min(state.reach, REACH))
                if residual @ move < ACROSS * (residual @ free):  # what is left lies across: with care
                    move, state.fences, state.reach = free, state.fences[:0], min(state.reach, REACH)
            move = self.relax * move
            state = replace(
                state, theta=state.theta + move, step=state.step + 1, quality=quality, back=state.theta,
                slope=float(residual @ move), spikes=self.spikes(moments.total), reach=min(2 * state.reach, FARTHEST),
            )  # fmt: skip
            self.store.save(state)
        chains = self.stretches(state.back, 2**19)
        raise self.failure(state, state.back, chains, f"not converged after {max_steps} steps")

    def is_close(self, state, noise):
        """Whether what the noise of chains costs is small enough, or they are as long as they may be."""
        return state.share <= self.accuracy or noise <= self._enough()

    def closer(self, state, noise, quality):
        """The share of chains whose noise is a thirtieth of what is left, or small enough; at most 16 times as long."""
        enough = max(quality / 30, 0.8 * self._enough())
        return max(self.accuracy, state.share * min(max(enough / noise, 1 / 16), 1.0))

    def _enough(self):
        return min(2 * ADDED, 0.5 * self.accuracy * self.operators.size)

    def failure(self, state, theta, chains, reason):
        """The error that ends a fit: why, what is left, which moments differ there, and what to do."""
        moments = self.moments(chains, state.share)
        # in units of the scatter of the model, as what is left is: blocks of a recording with rare bursts hide it
        z = self.gradient(theta, moments) / np.hypot(np.sqrt(self._variance), moments.error)
        edge = (
            f"; {state.strays} steps led into a state in which units keep on firing and which the recording does not "
            "visit: the maximum lies at its edge"
        ) * bool(state.strays)
        advice = ADVICE + CAUSAL_ADVICE * bool(state.strays and self.operators.longest)
        left = f"; what is left of the gradient promises {state.quality / 2:.3g} nats" * math.isfinite(state.quality)
        return DivergenceError(f"Boltzmann learning: {reason}{left}{edge}; {self.off(z, moments)}; {advice}")

    def off(self, z, moments):
        """Moments beyond 3 standard errors, the worst ones by name."""
        many = int(np.count_nonzero(np.abs(z) > 3))
        names = self.operators.names()
        listed = [
            f"{names[k]} ({self.observed[k]:.0f} recorded, {moments.total[k]:.4g} in chains, z = {z[k]:+.2g})"
            for k in np.argsort(-np.abs(z))[: min(many, 5)]
        ] + ["..."] * (many > 5)
        return (
            f"{many} of {len(z)} moments of the recording differ from those of the chains by more than 3 standard "
            f"errors: {', '.join(listed) or 'none'}"
        )

    def promise(self, residual, moments):
        """``r . H^-1 r``, twice the nats that a full step promises, and what it is for an r of nothing but sampling."""
        return float(residual @ self.curvature(moments).solve(residual)), self.noise(moments)

    def strays(self, state, moments):
        """Whether the last step led into a state of which the recording knows nothing, in which units fire more."""
        if np.array_equal(state.theta, state.back):
            return False
        most = STRAY * max(self.spikes(self.observed), state.spikes)
        return self.spikes(moments.total) > most or self.noise(moments) > WILD * state.share * self.operators.size

    def spikes(self, total):
        """Number of spikes, all units together."""
        return float(total[self.operators.at["c"]].sum())

    def overshot(self, state, residual, moments):
        """Part of the last step that leads to the maximum along it, where it went too far beyond, else None.

        The likelihood is concave: along a step its slope ``r . step`` falls, from ``state.slope``.
        """
        step = state.theta - state.back
        ahead = float(residual @ step)
        error = float((moments.by_word @ step).std(ddof=1)) / math.sqrt(len(moments.by_word))
        if not step.any() or ahead >= -0.5 * state.slope - 3 * error:
            return None
        return min(max(state.slope / (state.slope - ahead), 0.1), 0.5)

    def fenced(self, state):
        """The state after a step that strayed: the operators of the bins there are among those whose weight must not
        rise."""
        state.strays += 1
        found = strayed_bins(self.operators, self.operators.model(state.theta), self.rate.sum(), self.seed)
        if found is not None:
            state.fences = np.concatenate([state.fences, [found - self.observed / self.problem.n_train]])[-FENCES:]
        return state

    def along(self, move, fences, information):
        """The step without what raises the weight of bins to which others have strayed, in the metric of H.

        ``move - H^-1 D^T (D H^-1 D^T)^-1 D move`` with rows D of the fences that the step would cross.
        """
        active = np.zeros(len(fences), bool)
        original = move
        while (crossed := (fences @ move > 1e-9) & ~active).any():
            active |= crossed
            D = fences[active]
            solved = information.solve(np.ascontiguousarray(D.T))
            move = original - solved @ np.linalg.lstsq(D @ solved, D @ original, rcond=1e-10)[0]
        return move

    def bounded(self, residual, moments, chains, fences, nats):
        """A step that raises the weight of no bin, recorded or drawn, by more than so many nats.

        Quadratic forms do not see bursts: many pairs that each gain a little multiply the weight of the bins in which
        all of them are active.  The information is raised by a constant on its diagonal until the step obeys: what has
        most events, and is known best, then goes first.
        """
        constant = 0.0
        while True:
            information = self.curvature(moments, constant)
            move = self.along(information.solve(residual), fences, information)
            most = self.largest_weight(move, chains)
            if most <= nats or constant > self._matrix.diagonal().max():
                return move * min(nats / max(most, 1e-30), 1.0)
            constant = 4 * constant or 0.1 * float(np.median(self._matrix.diagonal()))

    def largest_weight(self, move, chains):
        """Nats by which a step raises the weight of a bin, at most."""
        zero, there = (self.operators.model(theta) for theta in (np.zeros(len(move)), move))
        V = None if there.V is None else there.V - zero.V
        change = GibbsModel(there.c - zero.c, there.a, V, None, there.lagged)
        recorded = max(float(weights_by_bin(change, r).max()) for r in self.problem.train)
        return max(recorded, chains.largest_weight(change))

    def curvature(self, moments, constant=0.0):
        """H, far below the recorded number of coincidences with their secant variance.

        A coincidence that the model makes m times and the recording n times needs a step of about log(n/m), its
        variance is n at the end: (n - m)/m would overshoot.  ``constant`` is added to the diagonal.
        """
        seen, made = self.observed[self._rare], np.maximum(moments.total[self._rare], 1e-2)
        far = seen > 2 * made
        if not far.any() and not constant:
            return self.information
        extra = np.full(self.operators.size, constant)
        secant = np.where(far, (seen - made) / np.log(np.where(far, seen / made, 2.0)), 0.0)
        extra[self._rare] += np.maximum(secant - self._variance[self._rare], 0.0)
        return newton.DenseInformation(self._matrix, extra)

    def retreat(self, state, part):
        """A part of the last step."""
        step = state.theta - state.back
        state.theta, state.slope = state.back + part * step, part * state.slope
        state.step, state.reach = state.step + 1, part * state.reach
        if np.abs(part * step).max() < SMALLEST:  # that covariance was none: measure it anew
            state.theta, state.quality = state.back, math.inf
            chains = self.stretches(state.theta, state.seeds)
            self.renewed += 1
            if self.renewed > 2:
                raise self.failure(
                    state, state.theta, chains, f"after {state.step} steps even small ones lead into another state, "
                    "which the recording does not visit"
                )  # fmt: skip
            state.covariance, state.n_draws = self.measure(chains)
            state.measured_at, state.seeds, state.reach = state.theta, state.seeds + 1, REACH
        self.store.save(state)
        return state

    def moved(self, state):
        """Nats per bin by which the distribution has changed since the covariance was measured."""
        return self.nats(state.theta - state.measured_at, state)

    def nats(self, step, state):
        """Nats per bin by which a step changes the distribution."""
        return float(step @ (state.covariance @ step)) / (2 * self.problem.n_train)

    def noise(self, moments):
        """``r . H^-1 r`` where r is nothing but the statistical error of the moments: its mean plus 4 deviations."""
        words = moments.by_word - moments.total
        mean = float((words * self.information.solve(np.ascontiguousarray(words.T)).T).sum())
        mean /= len(words) * (len(words) - 1)
        return mean * (1 + 4 * math.sqrt(2 / self.operators.size))

    def settle(self, state, moments):
        """Couplings after a last step, and what sampling adds to their error: influences of the words.

        The covariance is measured again if the couplings have moved so far that it may have changed by some percent.
        """
        if self.moved(state) > FAR:
            self.measure(self.stretches(state.theta, 2**20))
        theta = state.theta + self.relax * self.information.solve(self.gradient(state.theta, moments))
        words = moments.by_word - moments.total
        noise = self.information.solve(np.ascontiguousarray(words.T)).T / math.sqrt(len(words) * (len(words) - 1))
        return theta, noise * self.shrink

    def check(self, theta, first, moments, state):
        """What new chains at the couplings say."""
        new = self.moments(self.stretches(theta, 0), state.share)
        residual = self.gradient(theta, new)
        # blocks have no error for an event that never occurs, or once: that of the model is the least
        data = np.maximum(self._data_error(), np.sqrt(np.diagonal(state.covariance)))
        own = np.hypot(new.error, moments.error)
        own = np.maximum(own, 1e-9 * self.problem.n_train)  # those of a unit without couplings are exact
        z, z_chains = residual / np.hypot(data, own), residual / own
        model = self.operators.model(theta)
        many = {"n_chains": 64 * self.words, "n_samples": 96}
        if model.kind != "static":  # a stretch is many bins
            many = {"n_chains": 128, "n_samples": 24}
        change, error = log_z_difference(first, model, seed=self.seed, comm=self.comm, **many)
        n = self.problem.n_train
        step = theta - self.operators.theta(first)
        checks = {
            "worst_z": float(np.abs(z).max()),
            "rms_z": float(np.sqrt((z**2).mean())),
            "rms_z_chains": float(np.sqrt((z_chains**2).mean())),
            "gain_over_start": (float(step @ self.observed - n * change), float(n * error)),
            "steps": int(state.step),
            "samples": int(new.n_samples),
        }
        notes = []
        if keeps_firing(model, self.rate.sum(), self.seed):
            notes.append(
                "the fit has a second state, in which units keep on firing and which the recording does not visit: "
                f"{ADVICE}"
            )
        if checks["worst_z"] > 3:
            notes.append(
                f"the fit is not at its maximum: {self.off(z, new)}; give a smaller --accuracy, --ridge, fewer units, "
                "fewer lags, or wider bins"
            )
        return checks, notes

    def _data_error(self):
        """Standard errors of the moments of the recording, from blocks of time."""
        from lft.inference.likelihood.operators import blocks_of

        n = self.problem.n_train
        edges = np.linspace(0, n, min(100, n) + 1).astype(int)
        values = blocks_of(self.operators, self.problem.train, 0, n, edges)
        values -= np.diff(edges)[:, None] / n * values.sum(axis=0)
        return np.sqrt(len(values) / (len(values) - 1) * (values**2).sum(axis=0))
