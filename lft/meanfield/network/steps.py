"""Direct simulation of the finite network that a model describes, for any neuron of the protocol.

    h_i(t_k) = I_a(t_k) + xi_i + sum_b sum_j W_ij (kappa_ab * y_j)(t_k - d_ab),     y_i = neuron.step(state, h_i, k)

Step k covers ``[t_k, t_k + dt)`` and gets the outputs at ``t_k``, those at the end of step k - 1 (spikes of that step,
for point processes), or by their delay earlier ones; at the start the output is that of the initial state (none, for
point processes), before it there is none.  The filter is ``z_k = b z_(k-1) + (1 - b) y(t_k)``, ``b = exp(-dt/tau)``:
the grid of the solvers (:mod:`lft.meanfield.saddle.links`).  Trains from outside are Poisson counts, not their
Gaussian limit.

Three ways to run it, with one face (``advance``):

========== ==========================================================================================================
``steps``  this module: every model, by numpy and compiled sums over the weights
``events`` :mod:`lft.meanfield.network.binary`: asynchronous binary neurons, flip by flip, exact in time
``spikes`` :mod:`lft.meanfield.network.spiking`: leaky integrate-and-fire neurons, spike by spike
========== ==========================================================================================================

Ranks: each holds a part of every population with all weights into it; outputs are exchanged after every step.  Random
numbers belong to neurons and sums have a fixed order: the same bits on any number of ranks.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from lft.domain import Domain
from lft.errors import DivergenceError, InputError
from lft.meanfield.network.structured import SharedInput, connection_weights, needs_steps
from lft.meanfield.network.weights import network_key
from lft.meanfield.neurons import prepared
from lft.meanfield.saddle.draws import Draws
from lft.rng import Stream

METHODS = ("auto", "steps", "events", "spikes")
BLOCK_BYTES = 1 << 23


def build_network(model, *, dt=None, seed=1, draw=0, comm=None, precision="double", method="auto"):
    """The finite network of a model, ready to run.

    Parameters
    ----------
    model : Model
        Every population with a size.
    dt : float, optional
        Grid step; default that of ``[solve]``.
    seed, draw : int
        Number ``draw`` of independent networks of a seed: weights, initial states and noise.
    comm : communicator, optional
        Spreads the neurons over ranks; None: this process alone.
    precision : str
        ``"double"`` or ``"single"`` dense weights.
    method : str
        ``"auto"`` takes events or spikes where they describe the model, else steps.

    Returns
    -------
    object
        With ``advance(n) -> [y_a (n, N_a) of every population]``, ``observe() -> [x_a (N_a,)]``, ``time``, ``dt``.

    Raises
    ------
    InputError
        A population has no size, or the method does not describe the model.

    Examples
    --------
    >>> from lft.meanfield.network.steps import build_network
    >>> from lft.meanfield.reading import build_model
    >>> model = build_model('''
    ... [population.x]
    ... neuron = "rate"
    ... size = 50
    ... [[connection]]
    ... from = "x"
    ... to = "x"
    ... weights = "gaussian"
    ... std = 1.5
    ... [solve]
    ... mode = "stationary"
    ... dt = 0.1
    ... duration = 10.0
    ... ''')
    >>> network = build_network(model)
    >>> network.advance(3)[0].shape, round(network.time, 6)
    ((3, 50), 0.3)
    """
    from lft.meanfield.network.binary import BinaryNetwork, is_event_driven
    from lft.meanfield.network.spiking import SpikingNetwork, is_integrate_and_fire

    if method not in METHODS:
        raise InputError(f"method = {method!r}: valid are {', '.join(METHODS)}")
    missing = next((p.name for p in model.populations if p.size is None), None)
    if missing is not None:
        raise InputError(f"population {missing!r} has no size: a finite network needs one")
    if dt is None:
        if model.solve is None:
            raise InputError("dt: the model has no [solve]; give the grid step")
        dt = model.solve.dt
    if not dt > 0 or not math.isfinite(dt):
        raise InputError(f"dt = {dt!r}: valid is a number > 0")
    kinds = {"events": (is_event_driven, BinaryNetwork), "spikes": (is_integrate_and_fire, SpikingNetwork)}
    arguments = {"dt": dt, "seed": seed, "draw": draw, "comm": comm, "precision": precision}
    for kind, (fits, build) in kinds.items():
        if method not in (kind, "auto"):
            continue
        structure = needs_steps(model)
        reason = f"the model has {structure}" if structure else fits(model, dt)
        if reason is None:
            return build(model, **arguments)
        if method == kind:
            raise InputError(f"method = {kind!r}: {reason}")
    return StepNetwork(model, **arguments)


class Part:
    """The neurons of one population that this rank holds."""

    def __init__(self, population, number, dt, key, comm):
        self.population, self.number = population, number
        self.domain = Domain((population.size, 1), (False, False), comm=comm)
        self.rows = self.domain.slices[0]
        self.n = self.rows.stop - self.rows.start
        self.rng = Draws(key, self.n, self.rows.start, Stream.MEANFIELD_NEURON)
        self.outside = Draws(key, self.n, self.rows.start, Stream.MEANFIELD_EVENT)
        self.dt = dt
        scale = population.weight_scale
        self.trains = [(scale * p.weight / dt, poisson_law(p.indegree * p.rate * dt)) for p in population.external]
        self.mean_trains = scale * sum(p.mean for p in population.external)
        noise = population.noise
        self.white = math.sqrt(noise.intensity / dt) if noise is not None and noise.tau == 0 else 0.0
        self.color, self.site_input = None, None
        if population.sites is not None and not population.sites.is_uniform:
            whole = np.repeat(population.sites.drive, population.size // population.sites.n)
            self.site_input = whole[self.rows]
        if noise is not None and noise.tau > 0:
            self.color_decay = math.exp(-dt / noise.tau)
            self.color_std = math.sqrt(noise.intensity / (2 * noise.tau))
            self.color = self.color_std * self.outside.standard_normal()

    def drive(self, k):
        """Input without trains at step k."""
        return self.population.drive(k * self.dt) - self.mean_trains

    def external(self, k):
        """Everything from outside during step k, (n,)."""
        h = np.full(self.n, self.drive(k))
        if self.site_input is not None:
            h += self.site_input
        for jump, law in self.trains:
            h += jump * np.searchsorted(law, self.outside.random(), side="right")
        if self.white:
            h += self.white * self.outside.standard_normal()
        if self.color is not None:
            h += self.color
            innovation = self.color_std * math.sqrt(1 - self.color_decay**2)
            self.color = self.color_decay * self.color + innovation * self.outside.standard_normal()
        return h

    def whole(self, y):
        """Values of all neurons of the population from those of the ranks."""
        if self.domain.comm is None:
            return y
        return self.domain.allgather(np.ascontiguousarray(y, dtype=float).view(np.int64)[:, None])[:, 0].view(float)


def poisson_law(mean):
    """Cumulated probabilities of a Poisson count, up to where they are 1 in double precision.

    >>> poisson_law(1.0)[:2].round(6).tolist()
    [0.367879, 0.735759]
    """
    from scipy.special import pdtr

    if mean == 0:
        return np.ones(1)
    top = int(mean + 12 * math.sqrt(mean) + 40)
    law = pdtr(np.arange(top), mean)
    law[-1] = 1.0
    return law


def delay_steps(model, connection, dt):
    """Delay on the grid: spikes of a step enter at its end, so that their delay is one step shorter."""
    steps = round(connection.delay / dt)
    spikes = getattr(model.population(connection.source).neuron, "is_point_process", False)
    return max(steps - 1, 0) if spikes else steps


class StepNetwork:
    """A network in discrete time, for every neuron model.  Arguments: :func:`build_network`."""

    method = "steps"

    def __init__(self, model, *, dt, seed=1, draw=0, comm=None, precision="double"):
        self.model, self.dt, self.k = model, dt, 0
        names = model.names
        key = network_key(seed, draw)
        self.parts = [
            Part(p, a, dt, network_key(seed, draw, a + 1), comm) for a, p in enumerate(model.populations)
        ]
        self.weights = [
            connection_weights(model, number, self.parts[names.index(c.target)].rows, key, precision)
            for number, c in enumerate(model.connections)
        ]
        self.shared = [SharedInput(noise, number, model, dt, key) for number, noise in enumerate(model.shared)]
        self.route = [
            (names.index(c.source), names.index(c.target), delay_steps(model, c, dt), c.synapse)
            for c in model.connections
        ]
        self.filters = {(target, tau): np.zeros(self.parts[target].n) for _, target, _, tau in self.route if tau > 0}
        self.neurons = [prepared(p.neuron, dt) for p in model.populations]
        self.states = [n.init(p.n, p.rng) for n, p in zip(self.neurons, self.parts, strict=True)]
        for neuron, state in zip(self.neurons, self.states, strict=True):
            if getattr(neuron, "uses_white", False):
                state.white = 0.0  # all noise is in h, as numbers
        self.outputs = []
        for a, part in enumerate(self.parts):
            longest = max((d for source, _, d, _ in self.route if source == a), default=0)
            silence = np.zeros(part.population.size)
            self.outputs.append(deque([silence] * longest + [part.whole(self._initial(a))], maxlen=longest + 1))
        self.h = [np.zeros(p.n) for p in self.parts]

    def _initial(self, a):
        neuron, state, n = self.neurons[a], self.states[a], self.parts[a].n
        if getattr(neuron, "is_point_process", False) or not hasattr(neuron, "output"):
            return np.zeros(n)
        return np.array(np.broadcast_to(neuron.output(state), (n,)), dtype=float)

    @property
    def time(self):
        """Time of the next step."""
        return self.k * self.dt

    def inputs(self):
        """Summed inputs of the next step, one array per population, neurons of this rank."""
        h = [part.external(self.k) for part in self.parts]
        for noise in self.shared:
            noise.add(h, self.k)
        filtered = {}
        for (source, target, delay, tau), weight in zip(self.route, self.weights, strict=True):
            into = h[target] if tau == 0 else filtered.setdefault((target, tau), np.zeros(self.parts[target].n))
            weight.add(self.outputs[source][-1 - delay], into)
        for (target, tau), now in filtered.items():
            b = math.exp(-self.dt / tau)
            z = self.filters[target, tau] = b * self.filters[target, tau] + (1 - b) * now
            h[target] += z
        return h

    def step(self):
        """One step; the outputs of all neurons, one array per population."""
        self.h = self.inputs()
        fresh = []
        for a, (neuron, state, part) in enumerate(zip(self.neurons, self.states, self.parts, strict=True)):
            y = np.asarray(neuron.step(state, self.h[a], self.k), dtype=float)
            if y.shape != (part.n,):
                raise InputError(
                    f"population {part.population.name!r}: step returned an array of shape {y.shape} for {part.n} "
                    "neurons; valid is one number for each"
                )
            fresh.append(part.whole(y))
            if not np.isfinite(fresh[-1].sum()):
                bad = int(np.flatnonzero(~np.isfinite(fresh[-1]))[0]) if not np.isfinite(fresh[-1]).all() else -1
                raise DivergenceError(
                    f"population {part.population.name!r}: the output of neuron {bad} is not finite after step "
                    f"{self.k} (time {self.time:g})"
                )
        for history, y in zip(self.outputs, fresh, strict=True):
            history.append(y)
        self.k += 1
        return fresh

    def advance(self, n):
        """n steps; outputs (n, N_a) of every population."""
        out = [np.empty((n, p.population.size)) for p in self.parts]
        for k in range(n):
            for block, y in zip(out, self.step(), strict=True):
                block[k] = y
        return out

    def outputs_now(self):
        """Outputs of all neurons at the present time."""
        return [history[-1].copy() for history in self.outputs]

    def observe(self):
        """The state variable of every neuron (``neuron.observe``), else its last input; one array per population."""
        return [
            part.whole(np.asarray(neuron.observe(state) if hasattr(neuron, "observe") else h, dtype=float))
            for neuron, state, part, h in zip(self.neurons, self.states, self.parts, self.h, strict=True)
        ]
