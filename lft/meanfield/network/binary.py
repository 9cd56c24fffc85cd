"""Asynchronous binary networks, flip by flip.

Every neuron of population a is updated at the times of a Poisson process of rate 1/tau_a: it takes the upper state with
the probability of its gain (sign or step: if h is above the threshold).  Nothing happens between updates, so that a
step of length dt contains a Poisson number of events of the whole population, each of a random neuron, and a flip adds
its weights to the inputs of its targets: exact in continuous time, and dt is only the spacing of the measurements.

Cost: 20 ns per event plus 1 ns for each target of a neuron that flips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft._kernels import network as _network
from lft.meanfield.network.weights import Dense, draw_weights, network_key
from lft.meanfield.neurons import prepared
from lft.meanfield.neurons.binary import LEVELS, Binary
from lft.meanfield.saddle.draws import Draws
from lft.rng import Stream

GAINS = {"heaviside": _network.HEAVISIDE, "erfc": _network.ERFC, "logistic": _network.LOGISTIC}
REFRESH = 1 << 26  # events after which the summed inputs are added up anew, so that rounding errors do not pile up


@dataclass(frozen=True)
class BinaryLaw:
    """What the event loop needs to know of a binary neuron."""

    tau: float
    gain: int
    threshold: float
    width: float
    low: float
    high: float


def binary_law(neuron):
    """The BinaryLaw of a built-in asynchronous binary neuron, or None."""
    if not isinstance(neuron, Binary) or neuron.update != "asynchronous":
        return None
    gain = getattr(neuron.gain, "name", neuron.gain)
    if gain not in GAINS:
        return None
    return BinaryLaw(neuron.tau, GAINS[gain], neuron.threshold, neuron.width, *LEVELS[neuron.levels])


def is_event_driven(model, dt):
    """None if the event loop describes a model, else why not."""
    for p in model.populations:
        if binary_law(p.neuron) is None:
            return f"population {p.name!r} is not of asynchronous binary neurons with a gain of {', '.join(GAINS)}"
        if p.external or p.noise is not None:
            return f"population {p.name!r} has noisy input from outside"
    for c in model.connections:
        if c.delay or c.synapse:
            return f"the connection from {c.source!r} to {c.target!r} has a delay or a synaptic filter"
    return None


class BinaryNetwork:
    """An asynchronous binary network.  Arguments: :func:`lft.meanfield.network.steps.build_network`.

    Events follow one another, so that the ranks of a communicator cannot share a network: each computes all of it
    (:func:`lft.meanfield.network.run.simulate_network` gives each rank networks of its own).
    """

    method = "events"

    def __init__(self, model, *, dt, seed=1, draw=0, comm=None, precision="double"):
        self.model, self.dt, self.k, self.event = model, dt, 0, 0
        self.key = network_key(seed, draw)
        self.laws = [binary_law(p.neuron) for p in model.populations]
        sizes = [p.size for p in model.populations]
        self.first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.of = [slice(a, b) for a, b in zip(self.first[:-1], self.first[1:], strict=True)]
        self.weights, self.networks = [], []
        for number, c in enumerate(model.connections):
            a, b = model.index(c.target), model.index(c.source)
            w = draw_weights(c.weights, sizes[b], slice(0, sizes[a]), self.key, number,
                             model.population(c.target).weight_scale)
            self.weights.append((a, b, w))
            lists = (None, None, None, w.weight) if isinstance(w, Dense) else (w.start, w.target, w.weight, None)
            self.networks.append((int(self.first[b]), sizes[b], int(self.first[a]), *lists))
        self.rate = np.array([1.0 / law.tau for law in self.laws])
        self.low, self.high, self.threshold, self.width = (
            np.array([getattr(law, name) for law in self.laws], float)
            for name in ("low", "high", "threshold", "width")
        )
        self.gain = np.array([law.gain for law in self.laws], np.int64)
        self.y = np.concatenate([self._initial(a, n, network_key(seed, draw, a + 1)) for a, n in enumerate(sizes)])
        self.h = self.summed()

    def _initial(self, a, n, key):
        """The states with which the neuron model itself begins."""
        neuron = prepared(self.model.populations[a].neuron, self.dt)
        state = neuron.init(n, Draws(key, n, 0, Stream.MEANFIELD_NEURON))
        return np.array(neuron.output(state), dtype=float)

    def summed(self):
        """Inputs from all weights, without drive."""
        h = np.zeros(self.first[-1])
        for a, b, w in self.weights:
            w.add(self.y[self.of[b]], h[self.of[a]])
        return h

    @property
    def time(self):
        """Time of the next step."""
        return self.k * self.dt

    def advance(self, n):
        """n steps of dt; states at their ends (n, N_a) of every population."""
        out = np.empty((n, self.first[-1]))
        expected = float(self.rate @ np.diff(self.first)) * self.dt
        for k in range(n):
            u = self.key.uniform(self.k, Stream.MEANFIELD_EVENT, draw=1)
            events = _poisson_count(u, expected)
            drive = np.array([p.drive(self.k * self.dt) for p in self.model.populations])
            if (self.event + events) // REFRESH > self.event // REFRESH:
                self.h = self.summed()
            _network.glauber(
                self.y, self.h, self.first, self.rate, self.low, self.high, self.threshold - drive, self.width,
                self.gain, self.networks, events, self.event, int(Stream.MEANFIELD_EVENT), self.key.word,
            )
            self.event += events
            self.k += 1
            out[k] = self.y
        return [np.ascontiguousarray(out[:, s]) for s in self.of]

    def outputs_now(self):
        """Outputs of all neurons at the present time."""
        return [self.y[s].copy() for s in self.of]

    def observe(self):
        """Summed inputs, drive included, of every neuron."""
        drive = [p.drive(self.k * self.dt) for p in self.model.populations]
        return [self.h[s] + d for s, d in zip(self.of, drive, strict=True)]


def _poisson_count(u, mean):
    """The Poisson count whose cumulated probability first exceeds u."""
    from scipy.special import pdtrik

    # pdtrik is the inverse in a continuous count; the count is the next integer
    return max(int(np.ceil(pdtrik(u, mean) - 1e-9)), 0) if u > np.exp(-mean) else 0
