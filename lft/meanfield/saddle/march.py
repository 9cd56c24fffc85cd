"""Two-time solution in one causal pass.

The input of step k depends on outputs before it alone.  So: given the outputs up to t_k of M neurons, the row
C(k, <= k) of the input covariance is known; one row is appended to its Cholesky factor, eta_k is drawn conditioned on
the past, all neurons step, and the next row can be formed.  No iteration; T^3/3 + T^2 M per population and connection.

With independent Gaussian weights and one population this has the law of a direct network of M neurons: nothing is
averaged but neurons.  Use it where the iteration has to fight (long transients, growth), or as a check of it.  The
normals of the first M/4 steps are kept orthogonal to those before them, which matches moments as the iteration does.
"""

from __future__ import annotations

import numpy as np

from lft.errors import ConvergenceError
from lft.meanfield.saddle.averaging import Replicas
from lft.meanfield.saddle.draws import Draws, sweep_key
from lft.meanfield.saddle.simulate import gram
from lft.meanfield.saddle.two_time import System, combine, describe, replica_domain, samples_of
from lft.rng import Stream

NUGGET = 1e-9
"""Least conditional variance, relative to the variance: below it a step of the input is a function of the past."""


class _Factor:
    """A Cholesky factor that grows by a row per step, and the normals behind it.

    Rows lie behind one another (packed): the part that is known is solved for in place, without a copy of it.
    """

    def __init__(self, n, m, key, name, nugget):
        self.rows, self.z, self.k = np.zeros(n * (n + 1) // 2), np.empty((n, m)), 0
        self.key, self.name, self.nugget = key, name, nugget

    def draw(self, row):
        """eta_k (M,) given the covariance with the past and itself, ``row`` (k + 1,)."""
        from scipy.linalg.blas import dtpsv

        k, m = self.k, self.z.shape[1]
        if not k % 2:
            self._pair = self.key.fill("normal", 0, 1, m, k // 2, Stream.MEANFIELD_INPUT)
        z = self._pair[k % 2].copy()
        if k < m // 4:
            z -= z.mean()
            z -= (self.z[:k] @ z / m) @ self.z[:k]
            z /= np.sqrt(np.mean(z**2))
        left = dtpsv(k, self.rows, row[:k], lower=0, trans=1) if k else row[:0]
        rest = row[k] - left @ left
        if not np.isfinite(rest) or rest < -max(1e-6, self.nugget) * max(row[k], 0.0) - 1e-300:
            raise ConvergenceError(f"population {self.name}: the covariance of the input is not positive at step {k} "
                                   f"(conditional variance {rest:.3g} of {row[k]:.3g}); take more samples")
        own = np.sqrt(max(rest, self.nugget * row[k], 1e-300))
        begin = k * (k + 1) // 2
        self.rows[begin : begin + k], self.rows[begin + k] = left, own
        self.z[k] = z
        self.k = k + 1
        return left @ self.z[:k] + own * z


class _Filtered:
    """Outputs of a source behind the filter and delay of a link, sample by sample."""

    def __init__(self, link, n, m):
        self.link, self.values, self.trace = link, np.zeros((n, m)), 0.0

    def step(self, outputs, k):
        """Row k: what arrives in step k; ``outputs`` (T + 1, M) is known up to k."""
        at = k - self.link.shift
        arrived = outputs[at] if at >= 0 else 0.0
        self.trace = self.link.decay * self.trace + (1 - self.link.decay) * arrived
        self.values[k] = self.trace
        s, now = self.link.statistics, self.values[k]
        pair = self.values[: k + 1] @ now / self.values.shape[1] * s.variance
        if s.covariance:
            pair -= s.covariance * self.values[: k + 1].mean(axis=1) * now.mean()
        return s.mean * float(now.mean()), pair


def march_replica(system, replica, m=None, number=0, nugget=NUGGET):
    """State (m, Q, observed) per population of one replica, of m paths (all of its samples), as sweep ``number``.

    A larger nugget makes fewer paths safe, at the price of as much white noise in their inputs.
    """
    n, m, seed = system.n, m or samples_of(system.model, replica), system.solve.seed
    states, outputs, factors, seen, outside = [], [], [], [], []
    for a, runner in enumerate(system.runners):
        key = sweep_key(seed, number, a, replica)
        state = runner.neuron.init(m, Draws(key, m))
        y = np.empty((n + 1, m))
        y[0] = runner.neuron.output(state) if hasattr(runner.neuron, "output") else 0.0
        states.append(state)
        outputs.append(y)
        factors.append(_Factor(n, m, key, runner.name, nugget))
        seen.append(np.zeros((2, n + 1)))
        outside.append(system.external[a].covariance(system.dt))
        _observe(runner, state, seen[-1], 0)
    filtered = [[_Filtered(link, n, m) for link in system.links if link.target == a] for a in range(len(states))]
    for k in range(n):
        h, whites = [], []
        for a in range(len(states)):
            mu, row, white = system.external[a].mean[k], outside[a][k, : k + 1].copy(), system.external[a].white
            for part in filtered[a]:
                mean, pair = part.step(outputs[part.link.source], k)
                mu += mean
                row += pair
                if system.point[part.link.source] and not part.link.decay:
                    white += part.link.statistics.variance * float(part.values[k].mean())
            h.append(mu + factors[a].draw(row))
            whites.append(white)
        for a, runner in enumerate(system.runners):
            if getattr(runner.neuron, "uses_white", False):
                states[a].white = whites[a]
            outputs[a][k + 1] = runner.neuron.step(states[a], h[a], k)
            _observe(runner, states[a], seen[a], k + 1)
            if not np.isfinite(outputs[a][k + 1]).all():
                raise ConvergenceError(f"population {runner.name}: the output is not finite at step {k + 1}")
    out = []
    for y, observed in zip(outputs, seen, strict=True):
        out += [y.mean(axis=1), gram(y), observed]
    return out


def _observe(runner, state, seen, k):
    if hasattr(runner.neuron, "observe"):
        x = runner.neuron.observe(state)
        seen[0, k], seen[1, k] = np.mean(x), np.var(x)


def march(model, comm=None):
    """Solution by one pass per replica; returns (System, Replicas, evidence) as
    :func:`lft.meanfield.saddle.two_time.solve_two_time`."""
    system, domain = System(model), replica_domain(model, comm)
    replicas = range(*domain.slices[0].indices(model.solve.replicas))
    total: Replicas = combine(domain, (describe(system, march_replica(system, r)) for r in replicas))
    return system, total, {"residuals": []}
