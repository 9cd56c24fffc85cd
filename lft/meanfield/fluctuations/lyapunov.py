"""Largest Lyapunov exponents of simulated rate networks, by the tangent dynamics.

    delta x_i(k+1) = a delta x_i(k) + b sum_j W_ij phi'(x_j(k)) delta x_j(k),      (a, b) of the neuron's step

A neuron takes part by ``tangent(state, h, k) -> (a, b, phi')``.  The perturbation is scaled back to norm 1 at regular
times; the mean of the logarithms of its growth per time is the exponent, with an error by the Gamma method.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from lft.analysis.estimate import estimate
from lft.errors import InputError, SeriesTooShort
from lft.meanfield.network.steps import StepNetwork


def lyapunov_exponent(model, *, duration, warmup, dt=None, seed=1, draw=0, comm=None, precision="double", interval=1.0):
    """Largest Lyapunov exponent of a finite rate network.

    Parameters
    ----------
    model : Model
        Neurons with ``tangent``; connections without delay and synaptic filter.
    duration, warmup : float
        Time over which growth is measured, and the time before, in which the perturbation turns into the most
        unstable direction.
    dt, seed, draw, comm, precision
        As in :func:`lft.meanfield.network.steps.build_network`.
    interval : float, optional
        Time between two scalings.

    Returns
    -------
    Estimate
        Per unit of time, of one network: the scatter over draws is not in the error.

    Raises
    ------
    InputError
        A neuron has no tangent or a gain without a slope; a connection has a delay or a filter.

    Notes
    -----
    Cost: twice that of the simulation.
    """
    for c in model.connections:
        if c.delay or c.synapse:
            raise InputError(f"the connection from {c.source!r} to {c.target!r} has a delay or a filter; valid: none")
    if dt is None:
        if model.solve is None:
            raise InputError("dt: the model has no [solve]; give the grid step")
        dt = model.solve.dt
    network = StepNetwork(model, dt=dt, seed=seed, draw=draw, comm=comm, precision=precision)
    tangent = Tangent(network)
    per = max(round(interval / dt), 1)
    for _ in range(max(round(warmup / (per * dt)), 1)):
        tangent.grow(per)
    growth = np.array([tangent.grow(per) for _ in range(max(round(duration / (per * dt)), 2))]) / (per * dt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesTooShort)  # the estimate says so itself
        return estimate(growth, spacing=per * dt)


class Tangent:
    """A perturbation that follows a network."""

    def __init__(self, network):
        self.network = network
        for p, neuron in zip(network.parts, network.neurons, strict=True):
            if not callable(getattr(neuron, "tangent", None)):
                raise InputError(f"population {p.population.name!r}: its neuron has no tangent")
        self.slopes = [self._local(a)[2] for a in range(len(network.parts))]
        self.direction = [self._start(part) for part in network.parts]
        self._scale()

    def _local(self, a):
        net = self.network
        values = net.neurons[a].tangent(net.states[a], net.h[a], net.k)
        if not np.all(np.isfinite(values[2])):
            raise InputError(
                f"population {net.parts[a].population.name!r}: the slope of its gain is not known; valid is a gain "
                "with a derivative"
            )
        return values

    @staticmethod
    def _start(part):
        """A direction that no symmetry singles out, the same on any number of ranks."""
        return np.sin(1.0 + 2.399963229728653 * np.arange(part.rows.start, part.rows.stop))

    def _scale(self):
        """Scale to norm 1; the old norm."""
        domain = self.network.parts[0].domain
        square = sum(part.domain.sum_lines(d * d) for part, d in zip(self.network.parts, self.direction, strict=True))
        norm = math.sqrt(square)
        if norm == 0 or not math.isfinite(norm):
            raise InputError(f"the perturbation has the norm {norm} on {domain.n_ranks} ranks: a shorter interval")
        self.direction = [d / norm for d in self.direction]
        return norm

    def grow(self, n):
        """n steps of network and perturbation; logarithm of the growth."""
        net = self.network
        for _ in range(n):
            pushed = [part.whole(s * d) for part, s, d in zip(net.parts, self.slopes, self.direction, strict=True)]
            moved = [np.zeros(part.n) for part in net.parts]
            for (source, target, _, _), weight in zip(net.route, net.weights, strict=True):
                weight.add(pushed[source], moved[target])
            net.step()
            for a in range(len(net.parts)):
                decay, input_gain, self.slopes[a] = self._local(a)
                self.direction[a] = decay * self.direction[a] + input_gain * moved[a]
        return math.log(self._scale())
