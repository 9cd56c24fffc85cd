"""Weights of a finite network with structure (:mod:`lft.meanfield.structured`), and its shared noise.

Every number is a function of (seed, draw, connection, neurons), as in :mod:`lft.meanfield.network.weights`.  A pair
(i, j) and its reverse draw from the same place of the stream, number ``min N + max``, whichever rank asks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.meanfield.model import Gaussian
from lft.meanfield.network.weights import Dense, draw_weights
from lft.meanfield.structured import LowRank, structure_of
from lft.rng import Stream


def needs_steps(model):
    """What a model has that only the network in steps knows, as text; None without."""
    found = structure_of(model) | {"a profile" for c in model.connections if c.profile is not None}
    return ", ".join(sorted(found)) or None


def connection_weights(model, number, rows, key, precision="double"):
    """Weights of connection ``number`` of a model into the targets ``rows``: an object with ``add`` and ``dense``."""
    c = model.connections[number]
    source, target = model.population(c.source), model.population(c.target)
    scale, n = target.weight_scale, source.size
    if isinstance(c.weights, LowRank):
        chi = draw_weights(Gaussian(0.0, c.weights.std), n, rows, key, number, scale, precision)
        left, right = loadings(c.weights, n, key, number)
        return WithLowRank(chi, scale / n * left[:, rows], right)
    if c.symmetry:
        return _symmetric(c, n, rows, key, number, scale, precision)
    if c.profile is not None:
        return _profiled(c, source, target, rows, key, number, scale, precision)
    return draw_weights(c.weights, n, rows, key, number, scale, precision)


def loadings(weights, n, key, number=0):
    """The vectors m and n of a low-rank connection, (rank, N) each.

    >>> from lft.meanfield.network.weights import network_key
    >>> left, right = loadings(LowRank(0.0, (0.5,), (1.0,), (0.0,), (1.0,), ((0.6,),)), 100000, network_key(1, 0))
    >>> bool(abs(np.mean((left[0] - 0.5) * right[0]) - 0.6) < 0.02)
    True
    """
    draws = [key.fill("normal", 0, 1, n, number, Stream.MEANFIELD_LOADING, k) for k in range(weights.rank)]
    z = np.array([d[0] for d in draws]) * np.array(weights.left_std)[:, None]
    own = np.array([d[1] for d in draws]) * weights.residual_std[:, None]
    right = np.array(weights.right_mean)[:, None] + weights.loadings() @ z + own
    return np.array(weights.left_mean)[:, None] + z, right


@dataclass(frozen=True)
class WithLowRank:
    """``chi + sum_k left_k right_k^T``: rank x (targets), rank x (sources)."""

    chi: Dense
    left: np.ndarray
    right: np.ndarray

    def add(self, y, out):
        """``out_i += sum_j W_ij y_j``."""
        self.chi.add(y, out)
        y = np.ascontiguousarray(y, dtype=float)
        for left, right in zip(self.left, self.right, strict=True):
            out += left * float(right @ y)

    def dense(self):
        """The matrix (targets, sources)."""
        return self.chi.dense() + self.left.T @ self.right

    @property
    def n_bytes(self):
        return self.chi.n_bytes + self.left.nbytes + self.right.nbytes


def _dense(rows_of, n, rows, precision):
    out = np.empty((n, rows.stop - rows.start), np.float64 if precision == "double" else np.float32)
    for i in range(rows.start, rows.stop):
        out[:, i - rows.start] = rows_of(i)
    return Dense(out)


def _symmetric(c, n, rows, key, number, scale, precision):
    even, odd = math.sqrt(0.5 * (1 + c.symmetry)), math.sqrt(0.5 * (1 - c.symmetry))
    mean, std = scale * c.weights.mean / n, scale * c.weights.std / math.sqrt(n)

    def row(i):
        z = np.empty(n)
        u, v = key.fill("normal", i * (n + 1), 1, n - i, number, Stream.MEANFIELD_PAIR)
        z[i:] = even * u + odd * v
        if i:
            u, v = key.fill("normal", i, n, i, number, Stream.MEANFIELD_PAIR)
            z[:i] = even * u - odd * v
        return mean + std * z

    return _dense(row, n, rows, precision)


def displacement_table(profile, shape):
    """p between all pairs of sites, (sites, sites): target by source."""
    table = profile.table(shape)
    index = np.indices(shape).reshape(len(shape), -1)
    return table[tuple((i[:, None] - i) % s for i, s in zip(index, shape, strict=True))]


def _profiled(c, source, target, rows, key, number, scale, precision):
    sites = source.sites.n
    if source.size is None or source.size % sites or target.size % sites:
        raise InputError(f"populations on {sites} sites: valid sizes are multiples of that")
    p = displacement_table(c.profile, source.sites.shape)
    per_source, per_target = source.size // sites, target.size // sites
    plain = draw_weights(Gaussian(0.0, math.sqrt(source.size)), source.size, rows, key, number, 1.0, precision)
    for i in range(rows.start, rows.stop):
        share = np.repeat(p[i // per_target], per_source) / per_source
        column = plain.weight[:, i - rows.start]
        column[:] = scale * (c.weights.mean * share + c.weights.std * np.sqrt(share) * column)
    return plain


class SharedInput:
    """The shared noise of a network, step by step; the same on every rank."""

    def __init__(self, noise, number, model, dt, key):
        self.noise, self.number, self.key = noise, number, key
        self.factors = [(model.index(name), factor) for name, factor in noise.factors]
        if noise.tau:
            self.decay, self.std = math.exp(-dt / noise.tau), math.sqrt(noise.intensity / (2 * noise.tau))
        else:
            self.decay, self.std = 0.0, math.sqrt(noise.intensity / dt)
        self.value = self.std * self._normal(0)

    def _normal(self, k):
        return float(self.key.fill("normal", self.number, 0, 1, k, Stream.MEANFIELD_SHARED)[0][0])

    def add(self, h, k):
        """Add its value during step k to the inputs, then move on."""
        for a, factor in self.factors:
            h[a] += factor * self.value
        self.value = self.decay * self.value + self.std * math.sqrt(1 - self.decay**2) * self._normal(k + 1)
