"""Partially symmetric weights, ``E[W_ij W_ji] = eta g^2/N``: what a neuron does comes back to it.

    h(t) = mu + xi(t) + eta g^2 sum_(s < t) R(t - s) y(s),      <xi xi> = g^2 <y y> + external
    R(l) = d<y(t + l)>/dh(t)      with the same term in force

The input is no Gaussian process any more; its Gaussian part xi is. Standard result (Roy, Biroli, Bunin, Cammarota
2019; Clark, Abbott, Litwin-Kumar 2023 for rates). For a linear neuron R solves the quadratic equation of the elliptic
law,

    R(w) = (1 - a)/(e^(iw) - a - (1 - a) eta g^2 R(w)),        S_x(w) = |R|^2 S_noise/(1 - g^2 |R|^2)

in grid steps, a = e^-dt/tau (:func:`linear_response`), which is the check. Solved by sampling as
:mod:`lft.meanfield.saddle.stationary`, with R as a further unknown: paired kicks of both signs with the same random
numbers, so that any causal neuron will do. Frozen variance by pairs of neurons: a network with many valleys (strong
eta) is outside of what this describes.
"""

from __future__ import annotations

import math

import numpy as np

from lft.errors import ConvergenceError, InputError
from lft.meanfield.result import PopulationResult, Solution
from lft.meanfield.saddle.averaging import average
from lft.meanfield.saddle.draws import Draws, sweep_key
from lft.meanfield.saddle.paths import circulant_paths, frozen_offsets
from lft.meanfield.saddle.stationary import PARTS, Grid, Inputs, Summary, measure
from lft.meanfield.saddle.two_time import System, combine, replica_domain, samples_of
from lft.rng import Stream

KICK = 0.05
"""Kick of the input over its standard deviation."""
SETTLED = 1e-3
"""Relative change of R that counts as settled: R of a linear neuron has no sampling noise to be judged by."""
OWN = PARTS + 1
"""Arrays per population: m, e, A, moments of the state, R."""


def feedback(model):
    """``eta g^2`` of every population."""
    out = np.zeros(len(model.populations))
    for c in model.connections:
        if c.symmetry:
            if c.delay or c.synapse:
                raise InputError(
                    f"the connection from {c.source!r} to itself has symmetry and a delay or a filter; "
                    "valid: one of them"
                )
            out[model.index(c.target)] += c.symmetry * model.statistics(c).variance
    return out


def linear_response(omega, dt, g, eta, tau=1.0):
    """R at angular frequencies, of a linear rate neuron on a grid: response of x to the input of one step.

    Parameters
    ----------
    omega : ndarray
        Radians per time.
    dt, g, eta, tau : float

    Examples
    --------
    >>> from lft.meanfield.structure.symmetric import linear_response
    >>> r = linear_response(np.array([0.0]), 0.05, 0.5, 1.0)      # elliptic law: 2/(1 + sqrt(1 - 4 eta g^2))
    >>> round(float(r[0].real), 12)
    2.0
    """
    a = math.exp(-dt / tau)
    b = np.exp(1j * omega * dt) - a
    f = (1 - a) * eta * g * g
    if not f:
        return (1 - a) / b
    root = np.sqrt(b * b - 4 * f * (1 - a) + 0j)
    root = np.where((root * b.conj()).real < 0, -root, root)
    return 2 * (1 - a) / (b + root)


class Kicked:
    """Neurons with the retarded term, run with and without kicks."""

    def __init__(self, system, grid, back):
        self.system, self.grid, self.back = system, grid, back
        self.n_lags = grid.n_lags
        self.times = np.arange(grid.warmup, grid.steps - self.n_lags, self.n_lags)
        if not len(self.times):
            raise InputError("max_lag: valid is at most half of the duration, so that a kick and its answer fit in")

    def run(self, a, h, key, response, kick, white):
        """(y (steps + 1, M), moments of the state (2,)) with kicks of one size at all times of ``self.times``."""
        runner, grid = self.system.runners[a], self.grid
        neuron, (n_steps, m) = runner.neuron, h.shape
        state = neuron.init(m, Draws(key, m))
        uses_white = getattr(neuron, "uses_white", False)
        y = np.zeros((n_steps + 1, m))
        y[0] = neuron.output(state) if hasattr(neuron, "output") else 0.0
        weights = self.back[a] * response[::-1]
        kicked, moments, seen = set(self.times.tolist()) if kick else (), np.zeros(2), 0
        for k in range(n_steps):
            into = h[k].copy()
            first = max(0, k - self.n_lags)
            if k and self.back[a]:
                into += weights[self.n_lags - (k - first) :] @ y[first:k]
            if k in kicked:
                into += kick
            if uses_white:
                state.white = white
            y[k + 1] = neuron.step(state, into, k)
            if not kick and k >= grid.warmup:
                x = neuron.observe(state) if hasattr(neuron, "observe") else into
                moments += np.mean(x), np.mean(x * x)
                seen += 1
        runner._finite(y)
        mean, square = moments / max(seen, 1)
        return y, np.array([mean, square - mean**2])

    def answer(self, a, h, key, response, white):
        """R by lag, and its squared noise, from kicks of both signs."""
        size = KICK * max(float(h.std()), 1e-3)
        up, _ = self.run(a, h, key, response, size, white)
        down, _ = self.run(a, h, key, response, -size, white)
        difference = (up - down) / (2 * size)
        each = np.mean([difference[s + 1 : s + 1 + self.n_lags] for s in self.times], axis=0)
        return each.mean(axis=1), each.var(axis=1) / each.shape[1]


class SymmetricSummary(Summary):
    """m, e, A and R of every population."""

    def set_scales(self, state):
        super().set_scales([x for a in range(0, len(state), OWN) for x in state[a : a + PARTS]])
        self.answers = [float(np.sqrt(np.mean(state[a + PARTS] ** 2))) or 1.0 for a in range(0, len(state), OWN)]

    def __call__(self, state):
        plain = super().__call__([x for a in range(0, len(state), OWN) for x in state[a : a + PARTS]])
        answers = [state[a + PARTS] for a in range(0, len(state), OWN)]
        begin = len(plain) + np.cumsum([0, *(len(r) for r in answers[:-1])])
        self.edges = np.concatenate([self.edges, begin])
        scales = getattr(self, "answers", [1.0] * len(answers))
        return np.concatenate([plain, *(r / s for r, s in zip(answers, scales, strict=True))])


def solve_replica(system, grid, replica, back):
    """One replica's settled state."""
    model, solve = system.model, system.solve
    n_pairs = max(samples_of(model, replica) // 2, 8)
    inputs, summary, kicked = Inputs(system, grid), SymmetricSummary(), Kicked(system, grid, back)

    def sweep(state, number):
        new, noise, answers = [], [], []
        plain = [x for a in range(0, len(state), OWN) for x in state[a : a + PARTS]]
        for a in range(len(system.runners)):
            key = sweep_key(solve.seed, number, a, replica)
            mu, frozen, power, white, _ = inputs(a, plain)
            h = circulant_paths(power, grid.steps, key, 2 * n_pairs)
            h += mu
            if frozen:
                offset = np.sqrt(frozen) * frozen_offsets(key, n_pairs, Stream.MEANFIELD_STATIC)
                h += np.concatenate([offset, offset])
            response = state[OWN * a + PARTS]
            y, moments = kicked.run(a, h, key, response, 0.0, white)
            y = y[1 + grid.warmup :]
            values, noise2 = measure(y[:, :n_pairs], y[:, n_pairs:], frozen > 0, grid.n_lags)
            answer, answer2 = kicked.answer(a, h, key, response, white)
            new += [*values, moments, answer]
            noise += [noise2[0], noise2[1], noise2[2][:1], noise2[2][1:]]
            answers.append(answer2)
        if summary.scales is None:
            summary.set_scales(new)
        answers = [np.maximum(x / s**2, SETTLED**2) for x, s in zip(answers, summary.answers, strict=True)]
        return new, np.concatenate([summary.scaled(noise, 2), *answers])

    start, scale = [], 2.0 ** ((replica % 4) - 1.5)
    for runner in system.runners:
        slow = 2 * max(float(getattr(runner.neuron, "timescale", 10 * grid.dt)), 2 * grid.dt)
        start += [
            np.zeros(1),
            np.full(1, 0.01 * scale),
            scale * np.exp(-grid.lags / slow),
            np.zeros(2),
            np.zeros(grid.n_lags),
        ]
    return average(sweep, start, summary, solve.sweeps, solve.damping, solve.tolerance, f"replica {replica}: ")


def _beyond(answer):
    """What is left of R after the longest lag, if it goes on to fall as over the second half of the lags."""
    n = len(answer)
    middle, last = abs(float(answer[n // 2])), abs(float(answer[-1]))
    if last == 0:
        return 0.0
    if last >= middle:
        return math.inf
    ratio = (last / middle) ** (1.0 / (n - 1 - n // 2))
    return last * ratio / (1.0 - ratio)


def solve_symmetric(model, comm=None):
    """Stationary state of a network with partially symmetric weights.

    Parameters
    ----------
    model : Model
        Connections with ``symmetry``; mode ``stationary``.
    comm : communicator, optional
        Replicas are spread over its ranks.

    Returns
    -------
    Solution
        ``response_function``: R by lag per time; ``response``: its sum.

    Raises
    ------
    InputError, ConvergenceError

    Notes
    -----
    Cost: three runs of ``samples`` neurons per sweep, each step with a sum over ``max_lag``.
    """
    back = feedback(model)
    system, domain = System(model), replica_domain(model, comm)
    grid = Grid(model, system.runners)
    evidence = {}

    def results():
        for replica in range(*domain.slices[0].indices(model.solve.replicas)):
            settled = solve_replica(system, grid, replica, back)
            evidence.setdefault("residuals", settled.residuals)
            evidence.update(settling=settled.n_settling, averaged=settled.n_averaged, damping=settled.damping)
            yield settled.state

    total = combine(domain, results())
    populations, notes = {}, []
    for a, p in enumerate(model.populations):
        pairs = list(zip(total.mean, total.error, strict=True))[OWN * a : OWN * (a + 1)]
        (mean, mean_e), (frozen, frozen_e), lags, (seen, seen_e), (answer, answer_e) = pairs
        if not np.isfinite(answer).all():
            raise ConvergenceError(f"population {p.name}: the response is not finite", evidence["residuals"])
        q = {
            "mean": (float(mean[0]), float(mean_e[0])),
            "state_mean": (float(seen[0]), float(seen_e[0])),
            "state_variance": (float(seen[1]), float(seen_e[1])),
            "frozen_variance": (float(frozen[0]), float(frozen_e[0])),
            "autocovariance": lags,
            "response": (float(answer.sum()), float(np.sqrt(np.sum(answer_e**2))) + _beyond(answer)),
            "response_function": (answer / grid.dt, answer_e / grid.dt),
        }
        if not getattr(p.neuron, "is_point_process", False):
            q["output_variance"] = (float(lags[0][0] + frozen[0]), float(np.hypot(lags[1][0], frozen_e[0])))
        populations[p.name] = PopulationResult(q)
        if abs(answer[-1]) > 0.01 * np.abs(answer).max():
            share = abs(answer[-1]) / np.abs(answer).max()
            notes.append(
                f"{p.name}: the response is at {share:.1%} of its largest value at the longest lag, "
                f"{grid.lags[-1]:g}: a longer max_lag is needed"
            )
    settings = {
        "samples": model.solve.samples,
        "replicas": model.solve.replicas,
        "settling sweeps": evidence["settling"],
        "averaged sweeps": evidence["averaged"],
        "damping": evidence["damping"],
    }
    return Solution("stationary", "sampling", grid.lags, populations, model, evidence["residuals"], notes, settings)
