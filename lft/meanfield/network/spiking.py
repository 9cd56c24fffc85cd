"""Networks of leaky integrate-and-fire neurons, spike by spike.

    tau V' = -V + I + tau sum_j J_j s_j(t - d)      (delta synapses: a spike moves V by J)
    tau V' = -V + I + R i,  tau_s (R i)' = -R i + tau sum_j J_j s_j(t - d)      (exponential synapses)

on a grid, exactly integrated between the steps; a spike arrives with the step ``round(d/dt)`` (at least 1) later.  A
neuron at the threshold spikes, is reset and stays there for the refractory time, during which what moves V is lost and
what moves the synaptic current is not.  Ranks exchange spikes once per shortest delay.

Spikes that arrive within one step count together, so that a threshold that is crossed in between is missed: in network
A of Brunel's model, (g, eta) = (5, 2), the rate on a grid of 0.1 ms is 37.2(1) Hz, on one of 0.025 ms 37.7(1) Hz.

Cost per step: 5 ns for each neuron, 5 ns for each of its external trains; per spike 1 ns for each target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft._kernels import network as _network
from lft.meanfield.network.steps import Part, poisson_law
from lft.meanfield.network.weights import Dense, Sparse, draw_weights, network_key
from lft.meanfield.neurons import prepared
from lft.meanfield.neurons.lif import LIF
from lft.rng import Stream

GUIDE = 4096  # cells of the table that finds a Poisson count


@dataclass(frozen=True)
class SpikingLaw:
    """What the loop needs to know of an integrate-and-fire neuron."""

    tau: float
    threshold: float
    reset: float
    refractory: float
    synapse: float


def spiking_law(neuron):
    """The SpikingLaw of a built-in leaky integrate-and-fire neuron, or None."""
    if not isinstance(neuron, LIF):
        return None
    return SpikingLaw(neuron.tau, neuron.threshold, neuron.reset, neuron.refractory, neuron.synapse)


def is_integrate_and_fire(model, dt):
    """None if the spike loop describes a model, else why not."""
    for p in model.populations:
        if spiking_law(p.neuron) is None:
            return f"population {p.name!r} is not of leaky integrate-and-fire neurons"
        if p.colored is not None:
            return f"population {p.name!r} has colored noise"
        law, taus = spiking_law(p.neuron), {c.synapse for c in model.into(p.name)}
        if len(taus) > 1:
            return f"population {p.name!r} has connections with different time constants"
        if law.synapse and taus - {0.0}:
            return f"population {p.name!r} has synaptic filters both in its neurons and in its connections"
        if p.external and taus - {0.0}:
            return f"population {p.name!r} has filtered connections and trains from outside, which are not"
        if law.synapse and p.noise is not None:
            return f"population {p.name!r} has filtered white noise"
        if law.tau in taus | {law.synapse}:
            return f"population {p.name!r} has synapses as slow as its membrane"
    return None


class SpikingNetwork:
    """A network of integrate-and-fire neurons.  Arguments: :func:`lft.meanfield.network.steps.build_network`."""

    method = "spikes"

    def __init__(self, model, *, dt, seed=1, draw=0, comm=None, precision="double"):
        self.model, self.dt, self.k = model, dt, 0
        key = network_key(seed, draw)
        self.parts = [
            Part(p, a, dt, network_key(seed, draw, a + 1), comm) for a, p in enumerate(model.populations)
        ]
        self.laws = [spiking_law(p.neuron) for p in model.populations]
        self.route, self.weights = [], []
        for number, c in enumerate(model.connections):
            a, b = model.index(c.target), model.index(c.source)
            weights = draw_weights(c.weights, model.population(c.source).size, self.parts[a].rows, key, number)
            self.weights.append(_as_lists(weights) if isinstance(weights, Dense) else weights)
            self.route.append((b, a, max(round(c.delay / dt), 1)))
        self.chunk = min((d for _, _, d in self.route), default=1)
        self.slots = max((d for _, _, d in self.route), default=1) + self.chunk + 1
        self.rings = [np.zeros((self.slots, p.n)) for p in self.parts]
        self.synapse = [
            law.synapse or max((c.synapse for c in model.into(name)), default=0.0)
            for law, name in zip(self.laws, model.names, strict=True)
        ]
        self.drive = [0.0] * len(self.parts)  # behind the neuron's own synapse
        self.V = [self._initial(a) for a in range(len(self.parts))]
        self.current = [np.zeros(p.n) for p in self.parts]
        self.refractory = [np.zeros(p.n, np.int32) for p in self.parts]
        self.trains = [
            [(train.weight, *_table(train.indegree * train.rate * dt)) for train in p.external]
            for p in model.populations
        ]

    def _initial(self, a):
        """The potentials with which the neuron model itself begins."""
        neuron, part = prepared(self.model.populations[a].neuron, self.dt), self.parts[a]
        return np.array(neuron.init(part.n, part.rng).v, dtype=float)

    def _drive(self, a, m):
        """Input from outside, without trains, in m steps; through the neuron's own synapse if it has one."""
        part, tau = self.parts[a], self.laws[a].synapse
        drive = np.array([part.drive(self.k + i) for i in range(m)])
        if tau:
            b = math.exp(-self.dt / tau)
            for i in range(m):
                self.drive[a] = drive[i] = b * self.drive[a] + (1 - b) * drive[i]
        return drive

    @property
    def time(self):
        """Time of the next step."""
        return self.k * self.dt

    def advance(self, n):
        """n steps; outputs (spikes per time) (n, N_a) of every population."""
        out = [np.empty((n, p.population.size)) for p in self.parts]
        done = 0
        while done < n:
            m = min(self.chunk, n - done)
            for a, spikes in enumerate(self._chunk(m)):
                out[a][done : done + m] = 0.0
                out[a][spikes[:, 0] - self.k + done, spikes[:, 1]] = 1.0 / self.dt
            self.k += m
            done += m
        return out

    def _chunk(self, m):
        """m steps, at most the shortest delay; all spikes of every population, rows of (step, neuron)."""
        fired = []
        for a, (part, law) in enumerate(zip(self.parts, self.laws, strict=True)):
            tau_s, decay = self.synapse[a], math.exp(-self.dt / law.tau)
            current_decay = math.exp(-self.dt / tau_s) if tau_s else 0.0
            # the sum of J behind the synapse is the current in units of tau/tau_s
            gain = (current_decay - decay) / (tau_s - law.tau) * law.tau if tau_s else 0.0
            noise = part.population.noise
            kick = math.sqrt(noise.intensity * (1 - decay**2) / (2 * law.tau)) if noise is not None else 0.0
            spikes = _network.integrate_and_fire(
                self.V[a], self.refractory[a], self.current[a], self.rings[a], decay, current_decay, gain,
                law.threshold, law.reset, round(law.refractory / self.dt),
                self._drive(a, m), kick, self.trains[a], part.rows.start, self.k, m,
                int(Stream.MEANFIELD_EVENT), part.outside.key.word, np.empty((m, part.n), np.int8),
            )
            spikes[:, 1] += part.rows.start
            if part.domain.comm is not None:
                spikes = part.domain.allgather(spikes)
            order = np.lexsort((spikes[:, 1], spikes[:, 0]))
            fired.append(np.ascontiguousarray(spikes[order]))
        for (source, target, delay), w in zip(self.route, self.weights, strict=True):
            _network.deliver(w.start, w.target, w.weight, fired[source], delay, self.rings[target])
        return fired

    def outputs_now(self):
        """No spikes: those of a step belong to its end."""
        return [np.zeros(p.population.size) for p in self.parts]

    def observe(self):
        """Membrane potentials of all neurons."""
        return [part.whole(v) for part, v in zip(self.parts, self.V, strict=True)]


def _as_lists(weights):
    """Dense weights as lists of all targets."""
    n_pre, n = weights.weight.shape
    return Sparse(np.arange(n_pre + 1, dtype=np.int64) * n, np.tile(np.arange(n, dtype=np.int32), n_pre),
                  np.ascontiguousarray(weights.weight, float).ravel(), n)


def _table(mean):
    """(cumulated Poisson law, first candidate for the count of each of GUIDE + 1 uniforms)."""
    law = poisson_law(mean)
    return law, np.searchsorted(law, np.arange(GUIDE + 1) / GUIDE, side="right").clip(max=len(law) - 1).astype(np.int32)
