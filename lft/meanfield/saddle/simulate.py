"""Neurons on given input paths: run them, look at what they return, accumulate their moments."""

from __future__ import annotations

from numbers import Real

import numpy as np

from lft.errors import ConvergenceError, InputError
from lft.meanfield.saddle.draws import Draws
from lft.rng import Key

TILE = 128
"""Side of the tiles in which :func:`gram` mirrors a triangle: two of them fit a second-level cache."""
ROWS = 64
"""Steps of the paths that are looked at together."""
SHORT, LONGEST = 64, 4096
"""Steps of the trials of a neuron, least and most."""
EXACT = 2**24
"""Integers up to this are exact in single precision, and so are sums of them that stay below."""


class Runner:
    """A neuron model at work: checks shapes and values of what a user's class returns.

    Parameters
    ----------
    neuron : object
        Prepared for a grid step.
    name : str
        What messages call it.
    is_compiled : bool, optional
        Use the compiled steps of a built-in neuron; False: step by step in NumPy, the reference.
    """

    def __init__(self, neuron, name, is_compiled=True):
        self.neuron, self.name = neuron, name
        owner = next((c for c in type(neuron).__mro__ if "step" in c.__dict__), None)  # a class with another step has
        self.is_compiled = is_compiled and "compiled" in getattr(owner, "__dict__", ()) and getattr(  # its own law
            neuron, "has_compiled", True)

    def run(self, h, rng, white=None, keep_state=True):
        """Outputs of M neurons on their paths.

        Parameters
        ----------
        h : ndarray (T, M)
            Summed input of each step.
        rng : Draws
        white : ndarray (T,), optional
            Intensity of the white part of h, for neurons with ``uses_white``.
        keep_state : bool, optional
            Also give mean and variance of the state variable.

        Returns
        -------
        y : ndarray (T + 1, M)
            y[0] is the output before the first step.
        observed : ndarray (2, T + 1) or None
            Mean and variance of ``observe(state)``; None for a neuron without it.
        """
        neuron, (n_steps, m) = self.neuron, h.shape
        state = neuron.init(m, rng)
        y = np.empty((n_steps + 1, m))
        y[0] = neuron.output(state) if hasattr(neuron, "output") else 0.0
        if hasattr(neuron, "run") and not (keep_state and hasattr(neuron, "observe")):
            y[1:] = self._shaped(neuron.run(state, h), h.shape)
            self._finite(y)
            return y, None
        if self.is_compiled and isinstance(getattr(state, "rng", None), Draws):
            first = neuron.observe(state).copy() if hasattr(neuron, "observe") else None
            sees = white is not None and getattr(neuron, "uses_white", False)
            white = np.ascontiguousarray(white, float) if sees else np.zeros(n_steps)
            after = neuron.compiled(state, np.ascontiguousarray(h, float), white, y[1:])
            self._finite(y)
            if after is None or not keep_state:
                return y, None
            return y, np.concatenate([[[first.mean()], [first.var()]], after], axis=1)
        can_observe = keep_state and hasattr(neuron, "observe")
        observed = np.empty((2, n_steps + 1)) if can_observe else None
        if can_observe:
            self._look(observed, 0, state)
        uses_white = white is not None and getattr(neuron, "uses_white", False)
        for k in range(n_steps):
            if uses_white:
                state.white = white[k]
            y[k + 1] = self._shaped(neuron.step(state, h[k].copy(), k), (m,))
            if can_observe:
                self._look(observed, k + 1, state)
        self._finite(y)
        return y, observed

    def _look(self, observed, k, state):
        x = self.neuron.observe(state)
        observed[0, k] = mean = x.mean()
        apart = x - mean
        observed[1, k] = apart @ apart / len(x)

    def _shaped(self, y, shape):
        y = np.asarray(y)
        if y.shape != shape:
            raise InputError(f"population {self.name}: the neuron returned shape {y.shape}; valid is {shape}")
        if y.dtype.kind not in "biuf":
            raise InputError(f"population {self.name}: the neuron returned {y.dtype} numbers; valid are real ones")
        return y

    def _finite(self, y):
        if np.isfinite(y.sum(axis=1)).all():  # one pass; a sum that overflows is looked at below
            return
        bad = np.flatnonzero(~np.isfinite(y).all(axis=1))
        if len(bad):
            raise ConvergenceError(
                f"population {self.name}: {int(np.count_nonzero(~np.isfinite(y[bad[0]])))} of {y.shape[1]} outputs "
                f"are not finite at step {int(bad[0])}: the neuron, its parameters or dt make it diverge"
            )


def check_causality(neuron, name, scale, mean, n_steps=64, dt=None, m=32):
    """Raise InputError if a neuron's output depends on later input or on other neurons, or differs between equal runs.

    The same neurons are run again with the same random numbers; from some step on, or for half of the neurons, the
    input is another one.  Outputs up to that step, or of the other half, must not differ.

    Parameters
    ----------
    neuron : object
    name : str
    scale, mean : float
        Standard deviation and mean of the trial input.
    n_steps : int, optional
        As many as the solver takes, so that a look ahead that begins late or reaches far is seen; up to LONGEST.
    dt : float, optional
        Grid step: spikes must come as whole numbers divided by it.
    """
    n_steps = min(n_steps, LONGEST)
    _check_parts(neuron, name, m)
    noise = Draws(Key(0xCAFE), m)
    h = mean + scale * np.array([noise.standard_normal() for _ in range(max(n_steps, SHORT))])
    other = mean + scale * (5.0 - h)
    try:
        _check_trial(neuron, name, h, other, dt)
    except ConvergenceError:  # the trial's input is not the network's: what runs away in a long one may not there
        if len(h) == SHORT:
            raise
        _check_trial(neuron, name, h[:SHORT], other[:SHORT], dt)


def _check_parts(neuron, name, m):
    """What a class offers beside its steps: shapes and values before the first of them."""
    def called(method, *arguments):
        try:
            return getattr(neuron, method)(*arguments)
        except TypeError as error:
            if error.__traceback__.tb_next is not None:  # raised inside
                raise
            raise InputError(f"population {name}: {error}; valid are init(M, rng), step(state, h, k)") from None

    memory = getattr(neuron, "timescale", 0.0)
    if isinstance(memory, bool) or not isinstance(memory, Real) or not 0 <= memory < np.inf:
        raise InputError(f"population {name}: timescale = {memory!r}; valid is a time >= 0")
    state = called("init", m, Draws(Key(0x5EED), m))
    for method in ("output", "observe"):
        if hasattr(neuron, method):
            found = called(method, state)
            x = np.asarray(found)
            shapes = [(m,)] if method == "observe" else [(m,), ()]
            if (method == "observe" and x is not found) or x.shape not in shapes or x.dtype.kind not in "biuf":
                raise InputError(f"population {name}: {method} returned {type(found).__name__} of shape {x.shape}; "
                                 f"valid is an array of real numbers, shape {(m,)}")
            if not np.isfinite(x).all():
                raise InputError(f"population {name}: {method} is not finite before the first step")
    if hasattr(neuron, "step"):
        called("step", state, np.zeros(m), 0)


def _check_trial(neuron, name, h, other, dt):
    def outputs(h):
        return Runner(neuron, name).run(h.copy(), Draws(Key(0x5EED), h.shape[1]), np.zeros(len(h)), keep_state=False)[0]

    first = outputs(h)
    if not np.array_equal(first, outputs(h)):
        raise InputError(
            f"population {name}: two runs of the neuron with the same input and random numbers differ; draw from the "
            "rng that init receives, and keep nothing outside the state"
        )
    for cut in sorted({1, SHORT // 2, len(h) // 2, len(h) - 1}):
        later = np.concatenate([h[:cut], other[cut:]])
        changed = outputs(later)[: cut + 1] != first[: cut + 1]
        if changed.any():
            step = int(np.flatnonzero(changed.any(axis=1))[0])
            raise InputError(
                f"population {name}: the neuron is not causal: its output at step {step} changes with the input from "
                f"step {cut} on"
            )
    half = h.shape[1] // 2
    beside = outputs(np.concatenate([h[:, :half], other[:, half:]], axis=1))[:, :half]
    if not np.allclose(beside, first[:, :half], rtol=1e-6, atol=1e-9 * np.abs(first).max()):
        raise InputError(
            f"population {name}: outputs change with the input of other neurons of the same call; a class speaks of "
            "independent neurons, what couples them is a [[connection]]"
        )
    if dt is not None and getattr(neuron, "is_point_process", False):
        counts = first * dt
        wrong = first[(np.abs(counts - np.rint(counts)) > 1e-6) | (counts < 0)]
        if len(wrong):
            raise InputError(
                f"population {name}: the neuron has is_point_process and returned {wrong[0]:g}; valid is the number "
                f"of spikes in the step divided by dt = {dt:g}"
            )


def gram(y, unit=1.0):
    """``y y^T / M`` of (T, M) paths, the rank-M update: one triangle by BLAS, mirrored in tiles.

    What is whole numbers of ``unit`` (spikes, states 0 and 1) is multiplied in single precision, without an error; all
    else in double: where M < T the product is singular, and errors of 1e-7 made the next input's covariance negative.
    """
    from scipy.linalg.blas import dsyrk, ssyrk

    n, m = y.shape
    counts = _counts(y, unit)
    if counts is None:
        part = dsyrk(1.0 / m, y.T, trans=1, lower=1).T  # rows of the upper triangle are there
    else:
        part = ssyrk(1.0, counts.T, trans=1, lower=1).T
    out = part if counts is None else np.empty((n, n))
    for a in range(0, n, TILE):
        rows = slice(a, min(a + TILE, n))
        for b in range(a, n, TILE):
            columns = slice(b, min(b + TILE, n))
            tile = part[rows, columns]
            if counts is not None:
                tile = (unit**2 / m) * tile.astype(float)
            if a == b:
                tile = np.triu(tile) + np.triu(tile, 1).T
            if a == b or counts is not None:
                out[rows, columns] = tile
            if a != b:
                out[columns, rows] = tile.T
    return out


def _counts(y, unit):
    """y in units as single precision, or None where it is no whole numbers or too large ones."""
    counts, largest = np.empty(y.shape, np.float32), 0.0
    for first in range(0, len(y), ROWS):
        rows = slice(first, first + ROWS)
        part = y[rows] * (1.0 / unit)
        whole = np.rint(part, out=counts[rows], casting="same_kind")
        part -= whole
        largest = max(largest, float(whole.max()), -float(whole.min()))
        if max(float(part.max()), -float(part.min())) > 1e-9 or largest**2 * y.shape[1] >= EXACT:
            return None
    return counts
