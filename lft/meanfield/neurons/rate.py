"""Rate neurons: a leaky integrator with a static gain,

    tau x' = -x + h + xi,   y = phi(x),   <xi(t) xi(s)> = 2 s2 delta(t - s)

With ``noise_tau`` > 0 the private noise is colored: ``<xi xi> = (s2/noise_tau) exp(-|t - s|/noise_tau)``, which has
the same integral.  The input is constant within a step, for which the integration is exact:
``x_(k+1) = a x_k + (1 - a) h_k``, ``a = exp(-dt/tau)`` (exponential Euler).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from lft._kernels import neurons as _neurons
from lft.meanfield.neurons.forms import GainForm
from lft.meanfield.neurons.gains import find_gain, gain_key
from lft.sections import number

ROWS = 64
"""Steps to which a gain is applied at once: small enough to stay in the cache."""
GAIN_NAMES = ("linear", "tanh", "erf", "relu", "exp", "logistic")


@dataclass(frozen=True)
class Rate:
    """Rate neuron (equations above).

    Parameters
    ----------
    gain : str or callable
        ``linear``, ``tanh``, ``erf`` (erf(sqrt(pi) x/2), slope 1), ``relu``, ``exp``, ``logistic``,
        ``"module:function"``, or any vectorized function.
    tau : float
        Time constant, > 0.
    noise : float
        s2 >= 0; alone it gives x the variance s2/tau.
    noise_tau : float
        Correlation time of the noise; 0 is white.
    initial_mean, initial_std : float
        x(0) is normal with these.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.neurons.rate import Rate
    >>> cell = Rate(gain="linear", initial_std=0.0).prepare(0.1)
    >>> state = cell.init(3, np.random.default_rng(1))
    >>> cell.step(state, np.ones(3), 0).round(4)
    array([0.0952, 0.0952, 0.0952])
    """

    gain: object = "tanh"
    tau: float = 1.0
    noise: float = 0.0
    noise_tau: float = 0.0
    initial_mean: float = 0.0
    initial_std: float = 1.0

    name: ClassVar = "rate"
    KEYS: ClassVar = {
        "gain": (gain_key(GAIN_NAMES), ", ".join(GAIN_NAMES) + " or 'module:function'"),
        "tau": (number(0, is_open=True), "a number > 0"),
        "noise": (number(0), "a number >= 0"),
        "noise_tau": (number(0), "a number >= 0"),
        "initial_mean": (number(), "a number"),
        "initial_std": (number(0), "a number >= 0"),
    }

    @property
    def timescale(self):
        return max(self.tau, self.noise_tau)

    def prepare(self, dt):
        return _RateStep(self, dt)

    @property
    def closed_form(self):
        """What :mod:`lft.meanfield.saddle.stationary_closed` needs to know."""
        gain = find_gain(self.gain, GAIN_NAMES)
        return GainForm(gain, self.tau, 0.0, "value", (2 * self.noise, self.noise_tau))

    def gaussian_response(self, mean, covariance, dt):
        """Mean (T + 1,) and covariance (T + 1, T + 1) of x on the grid, from those (T) of the input."""
        from scipy.signal import lfilter

        a, n = math.exp(-dt / self.tau), len(mean)
        powers = a ** np.arange(n + 1)
        lag = np.abs(np.arange(n)[:, None] - np.arange(n))
        if self.noise_tau and self.noise:
            covariance = covariance + self.noise / self.noise_tau * np.exp(-dt / self.noise_tau * lag)
        c = np.zeros((n + 1, n + 1))
        c[1:, 1:] = lfilter([1 - a], [1.0, -a], lfilter([1 - a], [1.0, -a], covariance, axis=0), axis=1)
        c += self.initial_std**2 * np.outer(powers, powers)
        if self.noise and not self.noise_tau:
            steps = np.arange(n + 1)
            both = powers[np.abs(steps[:, None] - steps)] - np.outer(powers, powers)
            c += self.noise / self.tau * both
        x = self.initial_mean * powers
        x[1:] += lfilter([1 - a], [1.0, -a], mean)
        return x, c


class _RateStep:
    """A rate neuron on a grid."""

    def __init__(self, model, dt):
        self.model, self.dt, self.gain = model, dt, find_gain(model.gain, GAIN_NAMES)
        self.timescale = model.timescale
        self.decay = math.exp(-dt / model.tau)
        s2, own = model.noise, model.noise_tau
        self.kick = math.sqrt(s2 / model.tau * (1 - self.decay**2)) if own == 0 else 0.0
        self.color_std = math.sqrt(s2 / own) if own else 0.0
        self.color_decay = math.exp(-dt / own) if own else 0.0

    def init(self, M, rng):
        x = self.model.initial_mean + self.model.initial_std * rng.standard_normal(M)
        z = self.color_std * rng.standard_normal(M) if self.color_std else None
        return SimpleNamespace(x=x, z=z, rng=rng)

    def output(self, state):
        return self.gain(state.x)

    def observe(self, state):
        return state.x

    def compiled(self, state, h, white, y):
        """All steps of :meth:`step` at once: outputs into y (T, M); mean and variance of x after each step (2, T)."""
        n_steps, m = h.shape
        drive = h
        if state.z is not None:
            z = np.empty((n_steps + 1, m))
            z[0] = state.z
            b = self.color_decay
            # kicks in the filter's units: its share (1 - b) is taken out by an input of 0
            _neurons.leaky(np.zeros_like(h), b, self.color_std * math.sqrt(1 - b * b),
                           state.rng.supply("standard_normal", n_steps), z)
            drive, state.z = h + z[:-1], z[-1].copy()
        x = np.empty((n_steps + 1, m))
        x[0] = state.x
        kicks = state.rng.supply("standard_normal", n_steps if self.kick else 0)
        _neurons.leaky(drive, self.decay, self.kick, kicks, x)
        state.x = x[-1].copy()
        observed = np.array([x[1:].mean(axis=1), np.empty(n_steps)])
        for a in range(0, n_steps, ROWS):
            rows = slice(a, min(a + ROWS, n_steps))
            now = x[1:][rows]
            y[rows] = self.gain(now)
            apart = now - observed[0, rows, None]
            observed[1, rows] = np.einsum("ij,ij->i", apart, apart) / m
        return observed

    def step(self, state, h, k):
        a = self.decay
        drive = h if state.z is None else h + state.z
        state.x = a * state.x + (1 - a) * drive
        if self.kick:
            state.x += self.kick * state.rng.standard_normal(len(h))
        if state.z is not None:
            b = self.color_decay
            innovation = self.color_std * math.sqrt(1 - b * b)
            state.z = b * state.z + innovation * state.rng.standard_normal(len(h))
        return self.gain(state.x)

    def tangent(self, state, h, k):
        """(dx_(k+1)/dx_k, dx_(k+1)/dh_k, dy/dx) per neuron, for linearized dynamics."""
        slope = np.full_like(state.x, np.nan) if self.gain.slope is None else self.gain.slope(state.x)
        return self.decay, 1 - self.decay, slope
