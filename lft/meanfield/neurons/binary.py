"""Binary neurons: the output is one of two levels, decided by the summed input at the moment of an update.

``update = "asynchronous"`` (Glauber): each neuron is updated at rate 1/tau, at random; in a step of dt with the
probability 1 - exp(-dt/tau).  ``update = "synchronous"``: all neurons in every step.  The gain is the probability of
the high level: ``heaviside`` (h > threshold), ``erfc`` (``erfc(-(h - threshold)/(sqrt(2) width))/2``, a threshold with
Gaussian noise), ``logistic``, or a function of one's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from lft._kernels import neurons as _neurons
from lft.errors import InputError
from lft.meanfield.neurons.forms import GainForm
from lft.meanfield.neurons.gains import GAINS, Gain, find_gain, gain_key
from lft.sections import choice, number

GAIN_NAMES = ("heaviside", "erfc", "logistic")
LEVELS = {"01": (0.0, 1.0), "pm1": (-1.0, 1.0)}


@dataclass(frozen=True)
class Binary:
    """Binary neuron (equations above).

    Parameters
    ----------
    gain : str or callable
        Probability of the high level as a function of (h - threshold)/width.
    threshold, width : float
        ``width`` > 0; without meaning for ``heaviside``.
    tau : float
        Mean time between updates (asynchronous).
    update : str
        ``"asynchronous"`` or ``"synchronous"``.
    levels : str
        ``"01"`` or ``"pm1"`` (-1, +1).
    initial : float
        Probability of the high level at the start.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.neurons.binary import Binary
    >>> cell = Binary(update="synchronous", threshold=1.0).prepare(0.1)
    >>> state = cell.init(3, np.random.default_rng(1))
    >>> cell.step(state, np.array([0.0, 1.5, 3.0]), 0)
    array([0., 1., 1.])
    """

    gain: object = "heaviside"
    threshold: float = 0.0
    width: float = 1.0
    tau: float = 1.0
    update: str = "asynchronous"
    levels: str = "01"
    initial: float = 0.5

    name: ClassVar = "binary"
    KEYS: ClassVar = {
        "gain": (gain_key(GAIN_NAMES), ", ".join(GAIN_NAMES) + " or 'module:function'"),
        "threshold": (number(), "a number"),
        "width": (number(0, is_open=True), "a number > 0"),
        "tau": (number(0, is_open=True), "a number > 0"),
        "update": (choice(("asynchronous", "synchronous")), "asynchronous or synchronous"),
        "levels": (choice(LEVELS), "01 or pm1"),
        "initial": (number(0), "a number from 0 to 1"),
    }

    def __post_init__(self):
        if not 0 <= self.initial <= 1:
            raise InputError(f"initial = {self.initial!r}: valid is a number from 0 to 1")

    @property
    def timescale(self):
        return self.tau if self.update == "asynchronous" else 0.0

    def prepare(self, dt):
        return _BinaryStep(self, dt)

    def mean_output(self):
        """The gain as a function of h that gives the mean output."""
        gain, (low, high) = find_gain(self.gain, GAIN_NAMES), LEVELS[self.levels]
        if gain.name == "heaviside" and self.levels == "pm1" and self.threshold == 0:
            return GAINS["sign"]
        if gain.name in ("heaviside", "erfc") and self.levels == "01" and self.threshold == 0 and self.width == 1:
            return gain
        return _Scaled(gain, self.threshold, self.width, low, high)

    @property
    def closed_form(self):
        """What :mod:`lft.meanfield.saddle.stationary_closed` needs to know."""
        tau_out = self.tau if self.update == "asynchronous" else 0.0
        return GainForm(self.mean_output(), 0.0, tau_out, "binary", (0.0, 0.0), LEVELS[self.levels])


class _Scaled(Gain):
    """``low + (high - low) gain((x - threshold)/width)``, with the pair moments of the gain inside."""

    def __init__(self, gain, threshold, width, low, high):
        super().__init__("scaled", lambda x: low + (high - low) * gain((x - threshold) / width))
        object.__setattr__(self, "parts", (gain, threshold, width, low, high))


class _BinaryStep:
    """A binary neuron on a grid."""

    def __init__(self, model, dt):
        self.gain, self.threshold, self.width = find_gain(model.gain, GAIN_NAMES), model.threshold, model.width
        self.low, self.high = LEVELS[model.levels]
        self.initial, self.timescale = model.initial, model.timescale
        self.is_sharp = self.gain.name == "heaviside"
        is_synchronous = model.update == "synchronous"
        self.p_update = 1.0 if is_synchronous else 1.0 - math.exp(-dt / model.tau)

    def init(self, M, rng):
        high = rng.random(M) < self.initial
        return SimpleNamespace(y=np.where(high, self.high, self.low), rng=rng)

    def output(self, state):
        return state.y

    def compiled(self, state, h, white, y):
        """All steps of :meth:`step` at once, outputs into y (T, M)."""
        distance = h - self.threshold
        p = distance if self.is_sharp else np.ascontiguousarray(self.gain(distance / self.width), float)
        calls = (not self.is_sharp) + (self.p_update < 1.0)
        state.y = np.array(state.y, float)
        _neurons.flips(state.y, p, self.is_sharp, self.p_update, self.low, self.high,
                       state.rng.supply("random", calls * len(h)), y)

    def step(self, state, h, k):
        if self.is_sharp:
            new = np.where(h > self.threshold, self.high, self.low)
        else:
            p = self.gain((h - self.threshold) / self.width)
            new = np.where(state.rng.random() < p, self.high, self.low)
        if self.p_update < 1.0:
            new = np.where(state.rng.random() < self.p_update, new, state.y)
        state.y = new
        return new
