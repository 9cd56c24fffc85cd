"""Two-time solution by sampling: means m(t) and second moments Q(t, s) that reproduce themselves.

Repeat: inputs (mu, C) from the outputs by the linear map of :mod:`lft.meanfield.saddle.links`; M fresh
moment-matched paths; M neurons of each population along them; ``m = <y>``, ``Q = <y y^T>``;
average (:mod:`lft.meanfield.saddle.averaging`).
Replicas are independent from the first number on; they are spread over the ranks and combined in their order, so
that results do not depend on the number of ranks.  An initial-value problem has one solution, reached by information
that moves forward in time: a start from silence is as good as any.

Memory: a few T x T arrays per population (all replicas of a rank one after the other; on several ranks each keeps the
solutions of its own until they are combined).  Cost of a sweep: T r M + T^2 M + T^2 r flops per population, r the rank
of the input covariance.
"""

from __future__ import annotations

import itertools

import numpy as np

from lft.domain import Domain
from lft.errors import ConvergenceError, InputError
from lft.meanfield.neurons import prepared
from lft.meanfield.saddle.averaging import Replicas, average
from lft.meanfield.saddle.draws import Draws, sweep_key
from lft.meanfield.saddle.links import (
    externals,
    input_covariance,
    make_links,
    mean_inputs,
    variances_into,
    white_inputs,
)
from lft.meanfield.saddle.paths import root
from lft.meanfield.saddle.simulate import Runner, gram

BATCHES = 8
FIRST_PATHS, FIRST_SWEEP, FIRST_NUGGET = 64, 2**31, 1e-4
"""Of the causal pass that a replica begins with: paths, the number that tells its random numbers apart, nugget."""


class System:
    """A model on a grid: prepared neurons, links, external drive."""

    def __init__(self, model):
        solve = model.solve
        self.model, self.solve, self.dt, self.n = model, solve, solve.dt, solve.n_steps
        self.links, self.notes = make_links(model, solve.dt)
        if abs(self.n * self.dt - solve.duration) > 1e-9 * solve.duration:
            self.notes.append(f"duration {solve.duration:g}: rounded to {self.n * self.dt:g}, a multiple of dt")
        for link in self.links if solve.mode == "two-time" else ():
            if link.shift >= self.n:
                ends = f"{model.names[link.source]} -> {model.names[link.target]}"
                self.notes.append(f"delay {link.shift * self.dt:g} of {ends}: no less than the duration, so that the "
                                  "connection does nothing")
        self.external = externals(model, solve.dt, self.n)
        self.point = [bool(getattr(p.neuron, "is_point_process", False)) for p in model.populations]
        self.runners = [Runner(prepared(p.neuron, solve.dt), p.name) for p in model.populations]
        laws = [(variances_into(a, self.links), p.white, p.colored) for a, p in enumerate(model.populations)]
        self.first = [laws.index(law) for law in laws]  # of those whose inputs have one covariance

    def means(self, means):
        return mean_inputs(self.links, self.external, means)

    def covariance(self, a, means, seconds, is_lower=False):
        return input_covariance(a, self.links, self.external, means, seconds, self.dt, is_lower)

    def white(self, a, means):
        return white_inputs(a, self.links, self.external, means, self.point)


def replica_domain(model, comm):
    """The replicas of this rank and who owns each."""
    n = model.solve.replicas
    ranks = 1 if comm is None else comm.Get_size()
    if ranks > n:
        raise InputError(f"{ranks} ranks share {n} replicas: valid are at most {n} ranks, or more replicas")
    return Domain((n, 1), (False, False), comm=comm)


def combine(domain, results, keep=()):
    """:class:`Replicas` of all replicas in order, the same on every rank; ``results`` are this rank's lists of arrays,
    consumed one by one; ``keep``: numbers of the arrays that are kept of each replica."""
    total, local = Replicas(keep), iter(results)
    owners = [r for r in range(domain.n_ranks) for _ in range(*domain.block_of(r)[0].indices(domain.shape[0]))]
    if domain.n_ranks == 1:
        for arrays in local:
            total.add(arrays)
        return total
    mine = list(local)
    for owner in owners:
        value = mine.pop(0) if owner == domain.rank else None
        total.add(domain.broadcast_from(value, owner))
    return total


def samples_of(model, replica):
    """Paths of one replica: the samples shared out as evenly as possible."""
    size, extra = divmod(model.solve.samples, model.solve.replicas)
    return size + (replica < extra)


def batches(m):
    """Slices of nearly equal batches of m paths."""
    edges = np.linspace(0, m, BATCHES + 1).astype(int)
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


class Summary:
    """What residuals are judged by: m, the diagonal of Q and two lines beside it, each over its size."""

    def __init__(self, n):
        self.shifts = sorted({0, n // 4, n // 2})
        self.scales = None

    def raw(self, m, q):
        return [m, *(np.diagonal(q, -s) for s in self.shifts)]

    def of_paths(self, y):
        """Summary of a batch of paths."""
        n = len(y)
        return [y.mean(axis=1), *(np.einsum("ij,ij->i", y[s:], y[: n - s]) / y.shape[1] for s in self.shifts)]

    def __call__(self, state):
        blocks = [b for a in range(0, len(state), 3) for b in self.raw(state[a], state[a + 1])]
        self.edges = np.cumsum([0, *(len(b) for b in blocks[:-1])])
        return np.concatenate([b / s for b, s in zip(blocks, self.scales or [1.0] * len(blocks), strict=True)])

    def set_scales(self, state):
        self.scales = []
        for a in range(0, len(state), 3):
            m, *lines = (float(np.sqrt(np.mean(b**2))) for b in self.raw(state[a], state[a + 1]))
            # a mean of 0 is judged by the size of the outputs; the diagonal of spikes is 1/dt, the other lines are not
            self.scales += [max(m, lines[1] ** 0.5) or 1.0, *(line or 1.0 for line in lines)]


def outputs(system, state, number, replica):
    """(y (T + 1, M), what was observed) of each population in turn, on fresh paths with the inputs of a state."""
    means, seconds = state[0::3], state[1::3]
    mu, m_paths, roots = system.means(means), samples_of(system.model, replica), {}
    for a, (runner, first) in enumerate(zip(system.runners, system.first, strict=True)):
        key = sweep_key(system.solve.seed, number, a, replica)
        if first not in roots:
            roots[first] = root(system.covariance(a, means, seconds, is_lower=True), runner.name)
        last = a == len(system.first) - 1 or first not in system.first[a + 1 :]
        h = (roots.pop(first) if last else roots[first]).paths(mu[a], key, m_paths)
        yield runner.run(h, Draws(key, m_paths), system.white(a, means))


def first_state(system, replica):
    """The state with which a replica begins, (m, Q, observed) of each population: one causal pass of a few paths.

    From silence a solution travels forward through the window, by no more than a step of a neuron without memory in a
    sweep: far from the start what has not arrived looks like what is settled, alike in all replicas.  After the pass
    all times are there, within a noise of 1/sqrt(M) that is another one in each replica, so that what is left of the
    start shows in the errors.
    """
    from lft.meanfield.saddle.march import march_replica  # which is made of this module

    try:
        m = min(samples_of(system.model, replica), FIRST_PATHS)
        return march_replica(system, replica, m, FIRST_SWEEP, FIRST_NUGGET)
    except ConvergenceError:  # the iteration may still get there
        return from_silence(system)


def from_silence(system):
    """A state without outputs: (m, Q, observed) of each population."""
    n = system.n + 1
    return [part for _ in system.runners for part in (np.zeros(n), np.zeros((n, n)), np.zeros((2, n)))]


def sweep(system, state, number, replica, summary):
    """(new state, squared sampling noise of its summary) of one sweep of a replica."""
    new, noise2 = [], []
    for a, (y, observed) in enumerate(outputs(system, state, number, replica)):
        unit = 1.0 / system.dt if system.point[a] else 1.0
        new += [y.mean(axis=1), gram(y, unit), np.zeros((2, len(y))) if observed is None else observed]
        parts = [np.array(p) for p in zip(*(summary.of_paths(y[:, b]) for b in batches(y.shape[1])), strict=True)]
        noise2 += [p.var(axis=0, ddof=1) / BATCHES for p in parts]
    if summary.scales is None:
        summary.set_scales(new)
    return new, np.concatenate([b / s**2 for b, s in zip(noise2, summary.scales, strict=True)])


def solve_replica(system, replica):
    """One replica's :class:`~lft.meanfield.saddle.averaging.Settled`: (m, Q, observed) of every population."""
    solve, summary = system.solve, Summary(system.n + 1)

    def step(state, number):
        return sweep(system, state, number, replica, summary)

    start = first_state(system, replica)
    if any(np.any(q) for q in start[1::3]):
        summary.set_scales(start)
    return average(step, start, summary, solve.sweeps, solve.damping, solve.tolerance, f"replica {replica}: ")


def solve_two_time(model, comm=None):
    """Sampled two-time solution of a model.

    Parameters
    ----------
    model : Model
        With ``solve`` settings, mode ``two-time``.
    comm : communicator, optional

    Returns
    -------
    system : System
    total : Replicas
        Means and errors of (m, Q, Q - m m, observed mean and variance, input mean, input variance without its white
        part) for each population, seven arrays each.
    evidence : dict
        ``residuals`` (of the first replica on this rank), ``noise``, ``sweeps``, ``damping``.
    """
    system, domain = System(model), replica_domain(model, comm)
    evidence = {}

    def results():
        for replica in range(*domain.slices[0].indices(model.solve.replicas)):
            settled = solve_replica(system, replica)
            evidence.setdefault("residuals", settled.residuals)
            evidence.update(noise=settled.noise, settling=settled.n_settling, averaged=settled.n_averaged,
                            damping=settled.damping)
            yield describe(system, settled.state)

    return system, combine(domain, results()), evidence


def describe(system, state):
    """The seven arrays per population that are averaged over replicas."""
    means, seconds, out = state[0::3], state[1::3], []
    mu = system.means(means)
    for a in range(len(system.runners)):
        m, q, observed = state[3 * a : 3 * a + 3]
        smooth = np.diag(system.covariance(a, means, seconds)) - system.white(a, means) / system.dt
        out += [m, q, q - np.outer(m, m), observed[0], observed[1], mu[a], smooth]
    return out
