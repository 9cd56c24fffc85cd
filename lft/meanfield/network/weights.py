"""Weights of a finite network, drawn from the ensembles of a model.

Every weight is a function of (seed, draw, connection, target, source) alone, so that each rank draws the rows of its
own neurons and the network is the same on any number of ranks.  Weights are held by presynaptic neuron (reasons:
``lft/_kernels/network.pyx``).  A neuron may connect to itself, as the weight statistics of
:mod:`lft.meanfield.model` assume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft._kernels import network as _network
from lft.errors import InputError
from lft.meanfield.model import Bernoulli, FixedIndegree, Gaussian
from lft.rng import Key, Stream

MAX_NEURONS = 2**31
ROWS = 256  # targets drawn at once


def network_key(seed, draw, part=0):
    """Key of one network: weights and drive have part 0, the noise of population a has part a + 1.

    The top bit keeps it apart from the keys of the theory's samples.
    """
    return Key(seed, (1 << 63) | (draw << 16) | part)


@dataclass(frozen=True)
class Dense:
    """All weights of a connection, ``weight[j, i]`` from source j to the rank's target i."""

    weight: np.ndarray

    def add(self, y, out):
        """``out_i += sum_j W_ij y_j``."""
        _network.dense_add(self.weight, np.ascontiguousarray(y, dtype=float), out)

    def dense(self):
        """The matrix (targets, sources)."""
        return np.array(self.weight.T, dtype=float)

    @property
    def n_bytes(self):
        return self.weight.nbytes


@dataclass(frozen=True)
class Sparse:
    """Weights by source: source j reaches ``target[start[j]:start[j+1]]``; one weight alone means all are equal."""

    start: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    n_targets: int

    def add(self, y, out):
        """``out_i += sum_j W_ij y_j``; sources with ``y = 0`` cost nothing."""
        _network.sparse_add(self.start, self.target, self.weight, np.ascontiguousarray(y, dtype=float), out)

    def dense(self):
        """The matrix (targets, sources)."""
        out = np.zeros((self.n_targets, len(self.start) - 1))
        source = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        np.add.at(out, (self.target, source), self.weight if len(self.weight) > 1 else self.weight[0])
        return out

    @property
    def n_bytes(self):
        return self.start.nbytes + self.target.nbytes + self.weight.nbytes


def draw_weights(weights, n_pre, rows, key, number=0, scale=1.0, precision="double"):
    """Weights of one connection into some of its targets.

    Parameters
    ----------
    weights : Gaussian, Bernoulli or FixedIndegree
    n_pre : int
        Size of the source population.
    rows : slice
        The targets of this rank, numbers within the target population.
    key : lft.rng.Key
    number : int, optional
        Number of the connection in the model, below 2^15.
    scale : float, optional
        Turns a weight into summed input (``weight_scale`` of the target).
    precision : str, optional
        ``"double"`` or ``"single"``, of dense weights alone: single halves memory and time of the dense product.

    Returns
    -------
    Dense or Sparse

    Notes
    -----
    Cost: one random number for every pair; memory N_pre x targets (dense) or 4 bytes per synapse (12 with random
    weights).

    Examples
    --------
    >>> from lft.meanfield.model import FixedIndegree
    >>> from lft.meanfield.network.weights import draw_weights, network_key
    >>> w = draw_weights(FixedIndegree(3, -0.5), 10, slice(0, 10), network_key(1, 0))
    >>> w.dense().sum(axis=1).tolist() == [-1.5] * 10
    True
    """
    if precision not in ("double", "single"):
        raise InputError(f"precision = {precision!r}: valid are double and single")
    if n_pre >= MAX_NEURONS or not 0 <= number < 1 << 15:
        raise InputError(f"{n_pre} neurons, connection {number}: valid are below 2^31 neurons and 2^15 connections")
    t0 = (number << 32) + rows.start
    if isinstance(weights, Gaussian):
        return _dense(weights, n_pre, rows, key, t0, scale, np.float64 if precision == "double" else np.float32)
    if isinstance(weights, Bernoulli | FixedIndegree):
        return _sparse(weights, n_pre, rows, key, t0, scale)
    raise InputError(f"weights {type(weights).__name__}: valid are Gaussian, Bernoulli, FixedIndegree")


def _dense(weights, n_pre, rows, key, t0, scale, dtype):
    n = rows.stop - rows.start
    out = np.empty((n_pre, n), dtype)
    mean, std = scale * weights.mean / n_pre, scale * weights.std / np.sqrt(n_pre)
    half = (n_pre + 1) // 2
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        block = np.empty((stop - start, 2 * half))
        for i in range(start, stop):
            block[i - start, :half], block[i - start, half:] = key.fill(
                "normal", 0, 1, half, t0 + i, Stream.MEANFIELD_WEIGHTS, 1
            )
        out[:, start:stop] = (mean + std * block[:, :n_pre]).T
    return Dense(out)


def _sparse(weights, n_pre, rows, key, t0, scale):
    from scipy.sparse import csr_matrix

    n, stream = rows.stop - rows.start, int(Stream.MEANFIELD_WEIGHTS)
    if isinstance(weights, FixedIndegree):
        indegree, probability = weights.indegree, 0.0
        if not 0 < indegree <= n_pre:
            raise InputError(f"indegree = {indegree}: valid is an integer from 1 to {n_pre}, the size of the source")
        counts = np.full(n, indegree)
    else:
        indegree, probability = -1, weights.probability
        counts = _network.count_partners(probability, n_pre, n, t0, stream, key.word)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    partners = _network.draw_partners(probability, indegree, n_pre, start, t0, stream, key.word)
    if weights.weight_std:
        values = np.empty(len(partners))
        for i in range(n):
            a, b = start[i], start[i + 1]
            u, v = key.fill("normal", 0, 1, (b - a + 1) // 2, t0 + i, Stream.MEANFIELD_WEIGHTS, 2)
            values[a:b] = np.concatenate([u, v])[: b - a]
        values = scale * (weights.weight + weights.weight_std * values)
    else:
        values = np.ones(len(partners), np.int8)
    by_source = csr_matrix((values, partners, start), shape=(n, n_pre)).tocsc()
    weight = by_source.data.astype(float) if weights.weight_std else np.array([scale * weights.weight])
    return Sparse(
        by_source.indptr.astype(np.int64), np.ascontiguousarray(by_source.indices, np.int32), weight, n
    )
