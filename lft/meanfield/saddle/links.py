"""Connections on the grid of a solver, and the linear map from outputs to inputs.

    mu_a(k)   = I_a(k) + sum_b M_ab (kappa * m_b)(k - d)
    C_a(k, l) = sum_b [V2 Q_b + Vc (Q_b - m_b m_b)] filtered by kappa on both sides, delayed by d, + external

Outputs stand at the grid times t_0 .. t_T (T + 1 values, the first one is the start), inputs belong to the steps
0 .. T - 1: without delay, step k sees the output at t_k.  Spikes of a step enter at its end, which delays them by one
step on average; a delay is shortened by that step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft._kernels import neurons as _neurons
from lft.meanfield.model import WeightStatistics

ROWS = 64
"""Rows of a covariance that are formed at once: they stay in the cache."""


@dataclass(frozen=True)
class Link:
    """A connection as the solver sees it: indices, statistics, delay in steps, and decay of the filter per step."""

    target: int
    source: int
    statistics: WeightStatistics
    shift: int
    decay: float

    def kernel_power(self, frequencies):
        """``|kappa(w)|^2`` of the filter on the grid, for angular frequencies in radians per step."""
        b = self.decay
        return (1 - b) ** 2 / (1 - 2 * b * np.cos(frequencies) + b * b)


def make_links(model, dt):
    """(links, notes) of a model on a grid."""
    out, notes = [], []
    for c in model.connections:
        spikes = getattr(model.population(c.source).neuron, "is_point_process", False)
        shift = round(c.delay / dt)
        if abs(shift * dt - c.delay) > 1e-6 * dt:
            notes.append(f"delay {c.delay:g} of {c.source} -> {c.target}: rounded to {shift * dt:g}, a multiple of dt")
        if spikes:
            shift = max(shift - 1, 0)
        decay = math.exp(-dt / c.synapse) if c.synapse else 0.0
        source, target = model.index(c.source), model.index(c.target)
        out.append(Link(target, source, model.statistics(c), shift, decay))
    return tuple(out), notes


def through(link, values, n_steps):
    """Outputs (T + 1,) filtered and delayed into inputs (T,)."""
    from scipy.signal import lfilter

    if link.decay:
        values = lfilter([1 - link.decay], [1.0, -link.decay], values)
    out = np.zeros(n_steps)
    out[link.shift :] = values[: max(n_steps - link.shift, 0)]
    return out


@dataclass(frozen=True)
class External:
    """What drives a population from outside, on the grid: mean (T,), white intensity, colored covariance (T,)."""

    mean: np.ndarray
    white: float
    colored: np.ndarray | None

    def covariance(self, dt):
        """C_ext (T, T); white noise is its intensity over dt on the diagonal."""
        n = len(self.mean)
        out = np.zeros((n, n))
        if self.colored is not None:
            lag = np.abs(np.arange(n)[:, None] - np.arange(n))
            out += self.colored[lag]
        out.flat[:: n + 1] += self.white / dt
        return out


def externals(model, dt, n_steps):
    """:class:`External` of every population."""
    times = dt * np.arange(n_steps)
    out = []
    for p in model.populations:
        mean = np.array([p.drive(t) for t in times]) if p.is_driven_in_time else np.full(n_steps, p.drive(0.0))
        noise = p.colored
        colored = None if noise is None else noise.intensity / (2 * noise.tau) * np.exp(-times / noise.tau)
        out.append(External(mean, p.white, colored))
    return out


def mean_inputs(links, external, means):
    """mu_a(k) of every population from the means m_b(t) (T + 1)."""
    mu = [e.mean.copy() for e in external]
    for link in links:
        mu[link.target] += link.statistics.mean * through(link, means[link.source], len(mu[link.target]))
    return mu


def variances_into(target, links):
    """``{(shift, decay): {source: (V, Vc)}}`` of what adds up to the covariance of a population's input: two targets
    for which it is the same, and whose noise from outside is, have one covariance."""
    out = {}
    for link in links:
        if link.target == target and link.statistics.variance:
            sums = out.setdefault((link.shift, link.decay), {})
            total, fixed = sums.get(link.source, (0.0, 0.0))
            sums[link.source] = (total + link.statistics.variance, fixed + link.statistics.covariance)
    return out


def input_covariance(target, links, external, means, seconds, dt, is_lower=False):
    """C_a(k, l) of one population from the means and second moments of all.

    ``is_lower``: on and below the diagonal; what is above has no meaning.
    """
    n = len(external[target].mean)
    total = external[target].covariance(dt)
    for (shift, decay), sums in variances_into(target, links).items():
        left = max(n - shift, 0)  # a delayed block, some rows at a time
        pair = np.zeros((left, left)) if decay else None
        for first in range(0, left, ROWS):
            rows = slice(first, min(first + ROWS, left))
            stop = rows.stop if is_lower or decay else left
            part = 0.0
            for source, (variance, fixed) in sums.items():
                part += variance * seconds[source][rows, :stop]
                if fixed:
                    part -= np.outer(fixed * means[source][rows], means[source][:stop])
            if decay:
                pair[rows, :stop] = part
            else:
                total[shift + rows.start : shift + rows.stop, shift : shift + stop] += part
        if decay:
            _neurons.low_pass_pairs(pair, decay)
            total[shift:, shift:] += pair if is_lower else np.tril(pair) + np.tril(pair, -1).T
    return total


def white_inputs(target, links, external, means, point):
    """Intensity of the white part of the input, per step (T,): external noise and unfiltered spikes."""
    out = np.full(len(external[target].mean), external[target].white)
    for link in links:
        if link.target == target and point[link.source] and not link.decay:
            rate = through(link, means[link.source], len(out))
            out += link.statistics.variance * np.maximum(rate, 0.0)
    return out
