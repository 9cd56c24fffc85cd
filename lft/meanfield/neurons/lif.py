"""Leaky integrate-and-fire neurons,

    tau V' = -V + h        (tau V' = -V + I,  tau_s I' = -I + h   with an exponential synapse, synapse = tau_s)
    V >= threshold: spike, V = reset, held for the refractory time

in units of the potential (mV): a weight J is the jump of V that a spike makes, so the summed input is
``h = input + tau sum_j J_j sum_k delta(t - t_jk)`` (``weight_scale = tau``), and its white part of intensity D acts as
``sigma^2 = D/tau`` in Siegert's formula.

Integration is exact for an input that is constant within a step.  A potential that is driven by white noise crosses
the threshold between the grid times as well: given both ends of a step, a Brownian path of variance s^2 has crossed
with the probability ``exp(-2 (th - V_0)(th - V_1)/s^2)`` (standard result), which is drawn.  Without it rates come out
low in order sqrt(dt).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from lft._kernels import neurons as _neurons
from lft._kernels import shots as _shots
from lft.errors import InputError
from lft.sections import number


@dataclass(frozen=True)
class LIF:
    """Leaky integrate-and-fire neuron (equations above).

    Parameters
    ----------
    tau : float
        Membrane time constant, s.
    threshold, reset : float
        mV, reset < threshold.
    refractory : float
        s.
    synapse : float
        Time constant of the synaptic current, s; 0: delta synapses.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.neurons.lif import LIF
    >>> cell = LIF(refractory=0.002).prepare(1e-4)
    >>> state = cell.init(1, np.random.default_rng(1))
    >>> state.v[:] = 10.0
    >>> n = sum(float(cell.step(state, np.array([30.0]), k)[0]) * 1e-4 for k in range(10000))
    >>> n, round(1 / (0.002 + 0.02 * float(np.log(20 / 10))), 1)  # and from the formula, Hz
    (63.0, 63.0)
    """

    tau: float = 0.02
    threshold: float = 20.0
    reset: float = 10.0
    refractory: float = 0.002
    synapse: float = 0.0

    name: ClassVar = "lif"
    is_point_process: ClassVar = True
    uses_white: ClassVar = True
    KEYS: ClassVar = {
        "tau": (number(0, is_open=True), "a number > 0, s"),
        "threshold": (number(), "a number, mV"),
        "reset": (number(), "a number, mV"),
        "refractory": (number(0), "a number >= 0, s"),
        "synapse": (number(0), "a number >= 0, s"),
    }

    def __post_init__(self):
        if not self.reset < self.threshold:
            raise InputError(f"reset = {self.reset!r}: valid is a number below the threshold {self.threshold!r}")

    @property
    def weight_scale(self):
        return self.tau

    @property
    def timescale(self):
        return max(self.tau, self.synapse, self.refractory)

    def prepare(self, dt):
        return _LIFStep(self, dt)


class _LIFStep:
    """A LIF neuron on a grid."""

    is_point_process = uses_white = True

    def __init__(self, model, dt):
        self.model, self.dt, self.timescale = model, dt, model.timescale
        self.decay = math.exp(-dt / model.tau)
        self.slow = math.exp(-dt / model.synapse) if model.synapse else 0.0

    def init(self, M, rng):
        spread = self.model.threshold - self.model.reset
        v = self.model.reset + spread * rng.random(M)
        return SimpleNamespace(v=v, rest=np.zeros(M), current=np.zeros(M), rng=rng, white=0.0)

    def compiled(self, state, h, white, y):
        """All steps of :meth:`step` at once, outputs into y (T, M)."""
        model = self.model
        _neurons.integrate_and_fire(
            state.v, state.rest, state.current, h, white, self.dt, model.tau, self.decay, self.slow, model.threshold,
            model.reset, model.refractory, state.rng.supply("random", len(h)), y,
        )

    @property
    def takes_jumps(self):
        """Jumps move the potential itself."""
        return not self.slow

    def on_jumps(self, state, shots, drive, n_steps):
        """Spikes (offsets, times) of neurons with a constant input and jumps, from event to event: no error of dt."""
        model = self.model
        return _shots.integrate_and_fire(shots, state.v, drive, self.dt, n_steps, model.tau, model.threshold,
                                         model.reset, model.refractory)

    def step(self, state, h, k):
        model, dt, a = self.model, self.dt, self.decay
        if self.slow:
            state.current = self.slow * state.current + (1 - self.slow) * h
            h = state.current
        before, top = state.v, model.threshold
        after = h + (before - h) * a
        is_held = state.rest != 0
        if is_held.any():  # released within the step: integrates for the rest of it
            rest = state.rest[is_held]
            free = np.maximum(dt - rest, 0.0)
            held = h[is_held]
            after[is_held] = held + (model.reset - held) * np.exp(-free / model.tau)
            state.rest[is_held] = np.maximum(rest - dt, 0.0)
        spikes = after >= top
        u = state.rng.random()  # drawn in every step, used or not: a fixed number per step
        variance = state.white / model.tau**2 * dt
        if variance > 0 and not self.slow:
            near = ~spikes & ~is_held & (after > top - 6.0 * math.sqrt(variance))
            gap = 2.0 * (top - before[near]) * (top - after[near]) / variance
            spikes[near] = u[near] < np.exp(-gap)
        after[spikes] = model.reset
        # on average the spike falls into the middle of the step: half a step has passed since.  Where that is longer
        # than the refractory time, the next step is so much longer (this one's input is known to have been high).
        state.rest[spikes] = model.refractory - 0.5 * dt
        state.v = after
        return spikes / dt
