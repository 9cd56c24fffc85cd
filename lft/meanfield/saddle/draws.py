"""Random numbers of mean-field samples: a function of seed, sweep, population, replica and sample alone."""

from __future__ import annotations

import numpy as np

from lft._kernels.neurons import Supply
from lft.errors import InputError
from lft.rng import Key, Stream

KINDS = {"random": "uniform", "standard_normal": "normal", "standard_exponential": "exponential"}


def sweep_key(seed, sweep, population, replica):
    """Key of one population in one sweep of one replica; the four numbers never add up to the same key.

    >>> sweep_key(1, 0, 1, 0) == sweep_key(1, 0, 0, 1)
    False
    """
    return Key(seed, (sweep << 32) | (population << 16) | replica)


class Draws:
    """What a neuron's ``init`` gets as ``rng``: numpy's generator methods, n numbers per call, one per sample.

    Parameters
    ----------
    key : lft.rng.Key
    n : int
        Samples.
    first : int, optional
        Number of the first sample: the sample's number, not its place in a batch, decides what it draws.
    stream : lft.rng.Stream, optional

    Notes
    -----
    Call number c of a kind draws block c // 2 of the counter-based generator; each block gives two numbers.

    Examples
    --------
    >>> from lft.meanfield.saddle.draws import Draws
    >>> from lft.rng import Key
    >>> whole, part = Draws(Key(1), 8), Draws(Key(1), 3, first=5)
    >>> bool((whole.standard_normal()[5:] == part.standard_normal()).all())
    True
    """

    def __init__(self, key, n, first=0, stream=Stream.MEANFIELD_NEURON):
        self.key, self.n, self.first, self.stream = key, n, first, stream
        self._calls, self._spare = dict.fromkeys(KINDS, 0), {}

    def _next(self, method, size):
        if size is not None and size != self.n and tuple(np.atleast_1d(size)) != (self.n,):
            raise InputError(f"rng.{method}({size!r}): a neuron draws one number for each of its {self.n} samples")
        call = self._calls[method]
        self._calls[method] = call + 1
        if call % 2:
            return self._spare.pop(method)
        draw = list(KINDS).index(method)
        now, later = self.key.fill(KINDS[method], self.first, 1, self.n, call // 2, self.stream, draw)
        self._spare[method] = later
        return now

    def supply(self, method, n_calls):
        """The numbers of the next ``n_calls`` calls of a method, for a compiled loop that makes them itself."""
        call, draw = self._calls[method], list(KINDS).index(method)
        self._calls[method] = call + n_calls
        self._spare.pop(method, None)
        if (call + n_calls) % 2:  # half a block is left for whoever draws next
            self._spare[method] = self.key.fill(
                KINDS[method], self.first, 1, self.n, (call + n_calls) // 2, self.stream, draw)[1]
        return Supply(self.n, self.first, call, int(self.stream), draw, self.key.word, draw)

    def random(self, size=None):
        """Uniform in (0, 1)."""
        return self._next("random", size)

    def standard_normal(self, size=None):
        """Mean 0, variance 1."""
        return self._next("standard_normal", size)

    def standard_exponential(self, size=None):
        """Mean 1."""
        return self._next("standard_exponential", size)


def normals(key, n_rows, n, first=0, stream=Stream.MEANFIELD_INPUT):
    """Independent standard normals (n_rows, n); a column belongs to a sample."""
    out = np.empty((n_rows + n_rows % 2, n))
    for t in range(len(out) // 2):
        out[2 * t], out[2 * t + 1] = key.fill("normal", first, 1, n, t, stream)
    return out[:n_rows]
