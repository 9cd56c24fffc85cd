"""Nonlinear integrate-and-fire neurons: quadratic, exponential, and adaptive exponential.

    qif:   tau V' = (V - rest)(V - critical)/slope + h
    eif:   tau V' = -(V - rest) + slope exp((V - critical)/slope) + h
    adex:  as eif, minus w;   tau_w w' = a (V - rest) - w,   w -> w + b at a spike

V >= peak: spike, V = reset, held for the refractory time.  Units of the potential (mV) and s, as ``lif``: a weight is a
jump of V, ``h = input + tau sum_j J_j sum_k delta(t - t_jk)``, w in mV.

Second order in a smooth input (Heun), first in the noise, which is constant within a step; the upstroke is followed
to the peak with the exponential limited there, and the spike time is linear between the ends of the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from lft._kernels import neurons as _neurons
from lft.errors import InputError
from lft.sections import number

POSITIVE = (number(0, is_open=True), "a number > 0")
ANY = (number(), "a number, mV")
LARGEST = 700.0
"""Of the argument of an exponential: its drift passes any peak within a step, and none becomes infinite."""
NOT_NEGATIVE = (number(0), "a number >= 0, s")
COMMON = {"tau": POSITIVE, "rest": ANY, "critical": ANY, "slope": POSITIVE, "peak": ANY, "reset": ANY,
          "refractory": NOT_NEGATIVE}


@dataclass(frozen=True)
class _Nonlinear:
    """What the three share: parameters, checks, scale of weights."""

    tau: float = 0.02
    rest: float = 0.0
    critical: float = 15.0
    slope: float = 2.0
    peak: float = 30.0
    reset: float = 5.0
    refractory: float = 0.002

    is_point_process: ClassVar = True
    KEYS: ClassVar = COMMON

    def __post_init__(self):
        if not max(self.reset, self.critical) < self.peak:
            raise InputError(f"peak = {self.peak!r}: valid is a number above reset {self.reset!r} and critical "
                             f"{self.critical!r}")

    @property
    def weight_scale(self):
        return self.tau

    @property
    def timescale(self):
        return max(self.tau, self.refractory, getattr(self, "tau_w", 0.0))

    def prepare(self, dt):
        return _NonlinearStep(self, dt)


@dataclass(frozen=True)
class QIF(_Nonlinear):
    """Quadratic neuron: rests at ``rest``, fires from ``critical`` on without input."""

    slope: float = 15.0
    peak: float = 100.0
    reset: float = -50.0
    refractory: float = 0.0
    name: ClassVar = "qif"

    def drift(self, v):
        return (v - self.rest) * (v - self.critical) / self.slope


@dataclass(frozen=True)
class EIF(_Nonlinear):
    """Exponential neuron of sharpness ``slope``."""

    name: ClassVar = "eif"

    def drift(self, v):
        steep = np.clip((np.minimum(v, self.peak) - self.critical) / self.slope, -LARGEST, LARGEST)
        return self.rest - v + self.slope * np.exp(steep)


@dataclass(frozen=True)
class AdEx(EIF):
    """Adaptive exponential neuron."""

    a: float = 0.0
    b: float = 1.0
    tau_w: float = 0.1
    name: ClassVar = "adex"
    KEYS: ClassVar = {**COMMON, "a": (number(), "a number"), "b": ANY, "tau_w": POSITIVE}


class _NonlinearStep:
    """A nonlinear integrate-and-fire neuron on a grid."""

    is_point_process = True

    def __init__(self, model, dt):
        self.model, self.dt, self.timescale = model, dt, model.timescale
        self.adapts = isinstance(model, AdEx)

    def init(self, M, rng):
        model = self.model
        v = model.rest + (min(model.critical, model.peak) - model.rest) * rng.random(M)
        return SimpleNamespace(v=v, w=np.zeros(M), held=np.zeros(M), rng=rng)

    @property
    def has_compiled(self):
        """A class that derives from these may have another drift."""
        return type(self.model) in (QIF, EIF, AdEx)

    def compiled(self, state, h, white, y):
        """All steps of :meth:`step` at once, outputs into y (T, M)."""
        cell = self.model
        _neurons.upstroke(
            cell.name, state.v, state.w, state.held, h, self.dt, cell.tau, cell.rest, cell.critical, cell.slope,
            cell.peak, cell.reset, cell.refractory, getattr(cell, "a", 0.0), getattr(cell, "b", 0.0),
            getattr(cell, "tau_w", 1.0), y,
        )

    def step(self, state, h, k):
        model, dt = self.model, self.dt
        free = np.clip(dt - state.held, 0.0, 2.0 * dt) / model.tau  # a credit from the last spike makes a step longer
        drive = h - state.w if self.adapts else h
        first = model.drift(state.v) + drive
        ahead = np.minimum(state.v + free * first, 2.0 * model.peak - model.reset)
        after = state.v + 0.5 * free * (first + model.drift(ahead) + drive)
        spikes = after >= model.peak
        rise = after[spikes] - state.v[spikes]
        late = (after[spikes] - model.peak) / np.maximum(rise, 1e-300)  # share of the step after the spike
        state.held = np.maximum(state.held - dt, 0.0)
        state.held[spikes] = model.refractory - late * dt
        if self.adapts:
            state.w += dt / model.tau_w * (model.a * (state.v - model.rest) - state.w)
            state.w[spikes] += model.b
        after[spikes] = model.reset
        state.v = after
        return spikes / dt
