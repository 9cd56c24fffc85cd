"""Input of a neuron as what it is: the superposed spike trains of K random partners, and jumps from outside.

A Gaussian input has the mean and covariance of these jumps.  Where they are few or large it is not what a neuron sees:
here the input of a neuron in one sweep is made of the spike trains that the neurons of the sweep before have fired,

    h_i(t) = I + sum_b sum_{k = 1..K_ib} J_ik sum_s delta(t - t_s^(b, j_ik) - r_ik) + trains from outside,

with partners j drawn at random from the pool of trains of population b and a shift r uniform over the window for each
(so that no two neurons have input in common at one time, and delays do not matter).  In-degrees are those of the
ensemble: K, or binomial.  The fixed point is that of population dynamics (the cavity method): all cumulants of the
input are those of the neurons' own output, and for a random network with K partners and N -> infinity, in which two
partners of a neuron are independent, it is the exact stationary state.  Nothing is assumed of the neuron, but that it
sends spikes.

Finite networks.  The pool stands for infinitely many neurons.  Where a population has a size, the K partners of a fixed
in-degree are drawn without replacement: if the population's mean did not fluctuate, the input would vary by 1 - K/N of
K J^2.  That is kept, as for Gaussian input, with jumps of ``J sqrt(1 - K/N)`` around the mean K J m (variance exact,
third cumulant in order K/N).  What the populations' own fluctuations bring back of it
(:mod:`lft.meanfield.fluctuations.integrate_fire`) is not in this solution.  A binomial in-degree has no such factor.

Noise.  The mean rate of a finite pool is off by chance, which K large jumps of one sign amplify.  So the *mean* input
is M m with the m of the iteration's state, less that of the pool: ``drive = I + sum M (m - r)``.  What K jumps amplify
as well is the noise of m itself: excitation and inhibition nearly cancel in M m, independent errors of them do not
(four replicas of 0.5 mV at (5, 2) ended at 20.5 to 24.0 Hz).  So neuron i of every population has the same partners,
trains from outside and private noise as far as their laws are the same (common random numbers): populations that differ
little have errors that differ little, and the cancellation takes them along.  Populations that are alike are computed
once.  Within the input of one neuron nothing is common: partners of two populations are two draws.

Gain.  The variance of the input follows the rates through the pool, the mean through m, and neither may lag behind the
other: at 0.5 mV the first loop has a gain of 2 to 3, the second one of -3, and what iterates well is their sum (a
Newton step for the means alone, with dr/dmu measured by a kick of the drive, oscillated for this reason).  So the share
of new trains in a pool is the share of the new in the state.  A pool holds as many trains as that takes without
throwing any new one away: twice or five times those of a sweep, whose noise it halves or better.

Two neurons of a pair have pairs as partners, one member each: they share frozen rates (and in-degree) and nothing else,
as :mod:`lft.meanfield.saddle.stationary` needs.

A train is continued periodically over its window.  At the seam, somewhere in it, the memory of a train is lost: input
correlations at lag t are too small by the share t/window.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from lft._kernels import shots as _shots
from lft.errors import InputError
from lft.meanfield.model import Bernoulli, FixedIndegree, WeightStatistics
from lft.meanfield.neurons.registry import NEURONS
from lft.meanfield.saddle.draws import Draws
from lft.meanfield.saddle.paths import circulant_paths
from lft.rng import Stream

FIRST_RATE = 0.1
"""Rate of the first pool, Poisson trains, in spikes per timescale of the neuron."""
SPREAD = 2.0 / 3.0
"""Exponent of the scales 2^-1.5 to 2^1.5 of replicas: first rates from half to twice of what is expected."""
MAX_LINKS = 60
FIRST = 255
"""Draw number of what is no connection: the first pool, and what is kept of one."""
LARGEST = 12
"""Sweeps that fit a pool, at most."""
FIRST_GAIN = 0.5
"""Gain of the first sweep.  What overshoots leaves neurons unlike each other in the pool, which is forgotten slowly
(0.5 mV at (5, 2): from 57 Hz and silence in the first sweeps, twenty sweeps)."""


@dataclass(frozen=True)
class Pool:
    """Spike trains of 2 n neurons of a population; trains j and j + n share their frozen input.

    Attributes
    ----------
    start : ndarray of int64 (2 n + 1,)
    times : ndarray
        Ascending within a train, from 0 to the window.
    """

    start: np.ndarray
    times: np.ndarray

    @property
    def n(self):
        """Trains."""
        return len(self.start) - 1

    def trains(self, which):
        """(spikes of each, times) of some trains."""
        sizes = np.diff(self.start)[which]
        place = np.repeat(self.start[which] - np.concatenate([[0], np.cumsum(sizes[:-1])]), sizes)
        return sizes, self.times[place + np.arange(len(place))]

    def joined(self, new, kept):
        """A Pool of the pairs ``kept`` of this one and all of ``new``."""
        both = [pool.trains(pairs + member * (pool.n // 2)) for member in (0, 1)
                for pool, pairs in ((self, kept), (new, np.arange(new.n // 2)))]
        sizes = np.concatenate([size for size, _ in both])
        return Pool(np.concatenate([[0], np.cumsum(sizes)]), np.concatenate([times for _, times in both]))


def check_shots(model):
    """Raise InputError where spike trains of partners do not describe the input of a model."""
    valid = "input = 'shot' needs"
    for number, c in enumerate(model.connections):
        where = f"connection {number + 1} from {c.source!r} to {c.target!r}"
        if not isinstance(c.weights, FixedIndegree | Bernoulli):
            raise InputError(f"{where}: {c.weights.name} weights; {valid} fixed-indegree or bernoulli weights")
        if not getattr(model.population(c.source).neuron, "is_point_process", False):
            raise InputError(f"{where}: the neurons of {c.source!r} send no spikes; {valid} spiking neurons")
    for p in model.populations:
        if len(model.into(p.name)) > MAX_LINKS:
            raise InputError(f"population {p.name!r} has {len(model.into(p.name))} connections; {valid} at most "
                             f"{MAX_LINKS} into a population")


def independent(system):
    """The links of a system with the statistics of these inputs.

    Bernoulli weights: ``K (J^2 + s^2)`` times the covariance of an output and ``Var(K) J^2 + K s^2`` times the square
    of its mean; fixed in-degrees as they are.
    """
    out = []
    for link, c in zip(system.links, system.model.connections, strict=True):
        w, s = c.weights, link.statistics
        if isinstance(w, Bernoulli):
            k = w.probability * system.model.population(c.source).size
            whole = k * (w.weight**2 + w.weight_std**2) * system.model.population(c.target).weight_scale**2
            link = dataclasses.replace(link, statistics=WeightStatistics(s.mean, s.second, whole - s.second))
        out.append(link)
    return tuple(out)


def jump_of(weights, source):
    """Mean jump, and its share of the weight: ``sqrt(1 - K/N)`` for a fixed in-degree."""
    if isinstance(weights, Bernoulli) or not weights.weight:
        return weights.weight, 1.0
    share = math.sqrt(weights.statistics(source.size).covariance / (weights.indegree * weights.weight**2))
    return weights.weight * share, share


def alike(system):
    """For each population the first one whose neurons have the same law, by model, drive and connections.

    A neuron of one's own is like itself alone, whatever it says of equality.
    """
    laws = []
    for a, p in enumerate(system.model.populations):
        into = [(link.source, c.weights, c.synapse) for link, c in _into(system, a)]
        neuron = p.neuron if type(p.neuron) in NEURONS.values() else id(p.neuron)
        laws.append((neuron, p.drive(0.0), p.external, p.noise, into))
    return [laws.index(law) for law in laws]


def _into(system, a):
    """(link, connection) of all connections into population a, by source: their number names random numbers."""
    found = [(link, c) for link, c in zip(system.links, system.model.connections, strict=True) if link.target == a]
    return sorted(found, key=lambda pair: pair[0].source)


class ShotDrive:
    """Neurons of one replica, driven by the trains of the sweeps before.

    Parameters
    ----------
    system, grid
        As in :mod:`lft.meanfield.saddle.stationary`; the links have the statistics of :func:`independent`.
    n_pairs : int
    key : lft.rng.Key
        Of the first pools.
    scale : float
        By which the first rates of replicas differ.
    rates : ndarray (P,), optional
        First rates; default ``FIRST_RATE`` per timescale.
    """

    def __init__(self, system, grid, n_pairs, key, scale, rates=None):
        self.system, self.grid, self.n_pairs = system, grid, n_pairs
        self.window = grid.window * grid.dt
        self.first = alike(system)
        self.rates, self.pools = [], []  # of the first sweep
        for a, runner in enumerate(system.runners):
            slow = max(float(getattr(runner.neuron, "timescale", 10 * grid.dt)), 2 * grid.dt)
            rate = scale * FIRST_RATE / slow if rates is None else scale**SPREAD * float(rates[a])
            jumps = _shots.Shots([], [(rate, 1.0, FIRST)], self.window, self.window, 0, int(Stream.MEANFIELD_TRAIN),
                                 key.word)
            self.pools.append(Pool(*_shots.trains(jumps, n_pairs)))
            self.rates.append(rate)
        self.fresh, self.before = list(self.pools), None

    def _degrees(self, weights, source, key, draw):
        """In-degree of each pair (n,)."""
        if isinstance(weights, FixedIndegree):
            return np.full(self.n_pairs, weights.indegree, np.int64)
        from scipy.special import bdtr

        u = key.fill("uniform", 0, 1, self.n_pairs, 0, Stream.MEANFIELD_PARTNER, 4 * draw + 3)[0]
        size = self.system.model.population(source).size
        return np.searchsorted(bdtr(np.arange(size), size, weights.probability), u).astype(np.int64)

    def run(self, a, state, key, push):
        """Outputs (steps + 1, 2 n) of population a, what was observed, True: pairs may share a frozen input,
        and None: their slow input is not known apart from it.

        Its new trains wait for :meth:`follow`.  ``push``: part of the input by which the drive is moved.
        """
        from scipy.signal import lfilter

        system, grid = self.system, self.grid
        means = [m[0] for m in state[:: len(state) // len(self.pools)]]
        p, runner = system.model.populations[a], system.runners[a]
        drive = p.drive(0.0) - p.weight_scale * sum(train.mean for train in p.external)
        filtered = {}
        for draw, (link, c) in enumerate(_into(system, a)):
            pool = self.pools[link.source]
            jump, share = jump_of(c.weights, system.model.populations[link.source])
            drive += link.statistics.mean * (means[link.source] - share * len(pool.times) / pool.n / self.window)
            jumps = (jump * p.weight_scale, c.weights.weight_std * p.weight_scale)
            filtered.setdefault(link.decay, []).append(
                (pool.start, pool.times, self._degrees(c.weights, c.source, key, draw), *jumps, draw))
        outside = [(t.indegree * t.rate, t.weight * p.weight_scale, n) for n, t in enumerate(p.external)]
        filtered.setdefault(0.0, [])
        drive += push * (abs(drive) + sum(abs(r * w) for r, w, _ in outside))
        duration = grid.steps * grid.dt

        def superposed(decay):
            return _shots.Shots(filtered[decay], outside if decay == 0 else [], self.window, duration,
                                int(Stream.MEANFIELD_PARTNER), int(Stream.MEANFIELD_TRAIN), key.word)

        draws = Draws(key, 2 * self.n_pairs)
        if p.noise is None and set(filtered) == {0.0} and getattr(runner.neuron, "takes_jumps", False):
            start, times = runner.neuron.on_jumps(runner.neuron.init(2 * self.n_pairs, draws), superposed(0.0), drive,
                                                  grid.steps)
            self.fresh[a] = _windowed(start, times, grid)
            return binned(start, times, grid.steps, grid.dt), None, True, None
        h = np.zeros((grid.steps, 2 * self.n_pairs))
        for decay in filtered:
            part = np.zeros((grid.steps, 2 * self.n_pairs))
            _shots.superpose(superposed(decay), grid.dt, part)
            h += lfilter([1 - decay], [1.0, -decay], part, axis=0) if decay else part
        if p.noise is not None:
            h += circulant_paths(self.noise_power(p), grid.steps, key, 2 * self.n_pairs)
        h += drive
        white = p.noise.intensity if p.noise is not None and p.noise.tau == 0 else 0.0
        y, seen = runner.run(h, draws, np.full(grid.steps, white))
        self.fresh[a] = _windowed(*spike_times(y[1:], grid.dt), grid)
        return y, seen, True, None

    def noise_power(self, p):
        """Spectrum of the Gaussian noise from outside."""
        if p.noise.tau == 0:
            return np.full(len(self.grid.omega), p.noise.intensity / self.grid.dt)
        return self.grid.spectrum(p.noise.intensity / (2 * p.noise.tau) * np.exp(-self.grid.lags / p.noise.tau))

    def follow(self, state, key):
        """Start of a sweep: give the last one the share in the pools that it has in the state."""
        if self.before is None:
            return
        old, new = self.before
        step = np.concatenate([n - o for n, o in zip(new, old, strict=True)])
        done = np.concatenate([s - o for s, o in zip(state, old, strict=True)])
        gain = float(step @ done) / max(float(step @ step), 1e-300)
        before = self.pools[0].n // 2
        room = round(self.n_pairs * (1.0 / min(max(gain, 1.0 / LARGEST), 1.0) - 1.0))
        u = key.fill("uniform", 0, 1, before, 0, Stream.MEANFIELD_PARTNER, FIRST)[0]
        kept = np.sort(np.argsort(u)[:room])
        self.pools = [pool.joined(self.fresh[first], kept) for pool, first in zip(self.pools, self.first, strict=True)]

    def keep(self, state, new):
        """End of a sweep: what came of a state."""
        self.before = [a.copy() for a in state], [a.copy() for a in new]


def _windowed(start, times, grid):
    """The Pool of what was fired after the warm-up."""
    begin = grid.warmup * grid.dt
    inside = times >= begin
    before = np.concatenate([[0], np.cumsum(inside)])
    window = grid.window * grid.dt
    return Pool(before[start], np.minimum(times[inside] - begin, np.nextafter(window, 0.0)))


def binned(start, times, n_steps, dt):
    """Outputs (T + 1, n) on the grid, spikes over dt, of spike trains; the first row is the start."""
    y = np.zeros((n_steps + 1, len(start) - 1))
    who = np.repeat(np.arange(len(start) - 1), np.diff(start))
    np.add.at(y, (1 + np.minimum((times / dt).astype(np.int64), n_steps - 1), who), 1.0 / dt)
    return y


def spike_times(y, dt):
    """(offsets, times) of spikes on a grid: the middle of their steps."""
    counts = np.rint(y.T * dt).astype(np.int64)
    who, step = np.nonzero(counts)
    times = np.repeat((step + 0.5) * dt, counts[who, step])
    return np.concatenate([[0], np.cumsum(counts.sum(axis=1))]), times
