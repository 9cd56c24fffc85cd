"""Neurons that fire at random with an intensity: escape rate, generalized linear model, nonlinear Hawkes process.

    P(spike in a step) = 1 - exp(-rate phi(u) dt),      tau u' = -u + h   (u = h for tau = 0),

``rate`` in Hz, phi the gain of (u - threshold)/width; after a spike silent for the refractory time, and u lowered by
``adaptation``, which decays with ``adaptation_tau`` (the spike-history filter of a GLM).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from lft._kernels import neurons as _neurons
from lft.meanfield.neurons.forms import GainForm
from lft.meanfield.neurons.gains import Gain, find_gain, gain_key
from lft.sections import number

GAIN_NAMES = ("exp", "relu", "erfc", "logistic", "linear")


@dataclass(frozen=True)
class EscapeRate:
    """Escape-rate neuron (equations above).

    Parameters
    ----------
    gain : str or callable
    rate : float
        Hz, > 0.
    threshold, width : float
    tau : float
        Low-pass filter of the input, s; 0: none.
    refractory : float
        s.
    adaptation, adaptation_tau : float
        Step down after a spike, in units of u, and its time constant in s.
    """

    gain: object = "exp"
    rate: float = 10.0
    threshold: float = 0.0
    width: float = 1.0
    tau: float = 0.0
    refractory: float = 0.0
    adaptation: float = 0.0
    adaptation_tau: float = 0.1

    name: ClassVar = "escape-rate"
    is_point_process: ClassVar = True
    KEYS: ClassVar = {
        "gain": (gain_key(GAIN_NAMES), ", ".join(GAIN_NAMES) + " or 'module:function'"),
        "rate": (number(0, is_open=True), "a number > 0, Hz"),
        "threshold": (number(), "a number"),
        "width": (number(0, is_open=True), "a number > 0"),
        "tau": (number(0), "a number >= 0, s"),
        "refractory": (number(0), "a number >= 0, s"),
        "adaptation": (number(), "a number"),
        "adaptation_tau": (number(0, is_open=True), "a number > 0, s"),
    }

    @property
    def timescale(self):
        return max(self.tau, self.refractory, self.adaptation_tau if self.adaptation else 0.0, 1.0 / self.rate)

    def prepare(self, dt):
        return _EscapeStep(self, dt)

    @property
    def closed_form(self):
        """A gain that makes spikes, unless spikes act back on the neuron."""
        if self.refractory or self.adaptation:
            return None
        gain, rate = find_gain(self.gain, GAIN_NAMES), self.rate
        intensity = Gain("own", lambda x: rate * np.maximum(gain((x - self.threshold) / self.width), 0.0))
        return GainForm(intensity, self.tau, 0.0, "spikes")


class _EscapeStep:
    """An escape-rate neuron on a grid."""

    is_point_process = True

    def __init__(self, model, dt):
        self.model, self.dt, self.timescale = model, dt, model.timescale
        self.gain = find_gain(model.gain, GAIN_NAMES)
        self.decay = math.exp(-dt / model.tau) if model.tau else 0.0
        self.score_decay = self.decay
        self.forget = math.exp(-dt / model.adaptation_tau)

    def init(self, M, rng):
        return SimpleNamespace(u=np.zeros(M), low=np.zeros(M), rest=np.zeros(M), hazard=np.zeros(M),
                               spikes=np.zeros(M, bool), slope=None, rng=rng)

    @property
    def has_compiled(self):
        """Adaptation acts back on the gain within a run: no array of gains then."""
        return not self.model.adaptation

    def compiled(self, state, h, white, y):
        """All steps of :meth:`step` at once, outputs into y (T, M)."""
        model, u = self.model, h
        if model.tau:
            u = np.empty((len(h) + 1, h.shape[1]))
            u[0] = state.u
            _neurons.leaky(h, self.decay, 0.0, state.rng.supply("standard_normal", 0), u)
            u = u[1:]
        hazard = model.rate * np.maximum(self.gain((u - model.threshold) / model.width), 0.0) * self.dt
        variates = state.rng.supply("standard_exponential", len(h))
        _neurons.fire(state.rest, hazard, self.dt, model.refractory, variates, y)
        state.u = u[-1].copy()

    def step(self, state, h, k):
        model, dt = self.model, self.dt
        state.u = h + (state.u - h) * self.decay if model.tau else h
        argument = (state.u - state.low - model.threshold) / model.width
        hazard = model.rate * np.maximum(self.gain(argument), 0.0) * dt
        hazard *= np.clip(1.0 - state.rest / dt, 0.0, 1.0)
        spikes = state.rng.standard_exponential() < hazard
        state.low = state.low * self.forget + model.adaptation * spikes
        state.rest = np.where(spikes, model.refractory, np.maximum(state.rest - dt, 0.0))
        state.hazard, state.argument, state.spikes = hazard, argument, spikes
        return spikes / dt

    def score(self, state, h, k):
        """d log P(what the last step did)/dh of that step, for gains with a known slope."""
        if self.gain.slope is None:
            return np.full(len(h), np.nan)
        share = (1.0 - self.decay) if self.model.tau else 1.0
        per_h = self.model.rate * self.gain.slope(state.argument) / self.model.width * self.dt * share
        fired = np.exp(-state.hazard) / np.maximum(-np.expm1(-state.hazard), 1e-300)
        return per_h * np.where(state.spikes, fired, -1.0)
