"""Moments of the operators of a recording and their covariance, measured in chains of a model.

A recording is a set of trials.  A trial of a static model is so many bins, each a draw.  In space-time a trial that is
short against memory is simulated as it is; a long one is two ends and a middle,

    <O>_T = <O>_L + (T - L) <O of the middle> / (bins of the middle)

up to terms that vanish exponentially with the margin (:meth:`GibbsModel.margin`).  Sums of operators are sums of
integers: they do not depend on the order, so neither on the number of ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.inference.likelihood.result import trial_lengths
from lft.inference.likelihood.sampling import Chains
from lft.rng import Key


@dataclass(frozen=True)
class Moments:
    """<O> of the training stretch.

    Attributes
    ----------
    total, error : ndarray (size,)
        Mean over words of 64 chains, and its standard error from the scatter of words, which are independent.
    by_word : ndarray (words, size)
    share : float
        Variance of ``total`` in units of that of the recording, about.
    n_samples : int
        Simulated bins (static) or stretches.
    """

    total: np.ndarray
    error: np.ndarray
    by_word: np.ndarray
    share: float
    n_samples: int


@dataclass(frozen=True)
class _Kind:
    """Trials of one treatment: ``O = whole O_L + middle O_middle``; ``draws`` stretches are as much as the trials."""

    rows: int
    core: slice
    whole: float
    middle: float
    draws: float


def kinds_of(model, rasters):
    """How the trials are represented by simulated stretches."""
    if model.kind == "static":
        n = float(sum(len(r) for r in rasters))
        return [_Kind(1, slice(0, 1), n, 0.0, n)]
    margin, lengths = model.margin(), trial_lengths(rasters)
    rows = 2 * margin + max(64, margin // 2)
    core = slice(margin, rows - margin)
    long = {n: m for n, m in lengths.items() if n > rows}
    out = [_Kind(n, slice(0, n), float(m), 0.0, float(m)) for n, m in lengths.items() if n <= rows]
    if long:
        rest = sum(m * (n - rows) for n, m in long.items())
        bins = sum(m * n for n, m in long.items())
        out.append(_Kind(rows, core, float(sum(long.values())), rest / (core.stop - core.start), bins / rows))
    return out


class Stretches:
    """Chains of a model in equilibrium that represent the trials of a recording.

    Parameters
    ----------
    operators : Operators
    model : GibbsModel
    rasters : list of int8 array
        Training trials.
    words, seed, replica, comm
        As in :class:`lft.inference.likelihood.sampling.Chains`; the replica tells the chains of one fit apart.
    """

    def __init__(self, operators, model, rasters, words, seed, replica, comm=None):
        self.operators, self.comm, self.words = operators, comm, words
        self.kinds = kinds_of(model, rasters)
        rate = 1 / (1 + np.exp(-model.c))
        self.chains, self.spacing = [], []
        for number, kind in enumerate(self.kinds):
            key = Key(seed, 1000 + 64 * replica + number).word
            made = Chains(model, words, kind.rows, seed=key, comm=comm, rate=rate)
            self.chains.append(made)
            self.spacing.append(made.thermalize()[1])
        self.n_stretches = max(sum(kind.draws for kind in self.kinds), 1.0)

    def moments(self, share):
        """<O> with a variance of about ``share`` of that of the recording.

        Returns
        -------
        Moments
        """
        by_word = np.zeros((self.words, self.operators.size))
        n_samples, worst = 0, 0.0
        for kind, chains, spacing in zip(self.kinds, self.chains, self.spacing, strict=True):
            n = max(math.ceil(kind.draws / share / (64 * self.words)), 4)
            whole = middle = 0.0
            for _ in range(n):
                chains.sweep(spacing)
                part = self._sums(kind, chains)
                whole, middle = whole + part[0], middle + part[1]
            by_word += _gather(self.comm, (kind.whole * whole + kind.middle * middle) / (64 * n))
            n_samples += n * 64 * self.words
            worst = max(worst, kind.draws / (n * 64 * self.words))
        error = by_word.std(axis=0, ddof=1) / math.sqrt(self.words)
        return Moments(by_word.mean(axis=0), error, by_word, worst, n_samples)

    def _sums(self, kind, chains):
        """Sums of O of the whole and of the middle over the chains of each local word, (words, size)."""
        op, lanes = self.operators, chains.lanes()
        out = np.zeros((2, len(lanes), op.size))
        for word, x in enumerate(lanes):
            if kind.rows == 1:
                out[0, word] = op.total(x[:, 0])
                continue
            out[0, word] = op.values(x).sum(axis=0)
            if kind.middle:
                longest = max(op.lags, default=0)
                low, high = kind.core.start, kind.core.stop
                out[1, word] = op.values(x[:, low - longest : high]).sum(axis=0)
                if longest:
                    out[1, word] -= op.values(x[:, low - longest : low]).sum(axis=0)
        return out

    def covariance(self, times):
        """cov(O) of the training stretch, from at least ``times`` as many draws as there are operators.

        Returns
        -------
        covariance : ndarray (size, size)
        n_draws : float
            Independent draws behind it.
        """
        op = self.operators
        total, fewest = np.zeros((op.size,) * 2), math.inf
        for kind, chains, spacing in zip(self.kinds, self.chains, self.spacing, strict=True):
            n = max(math.ceil(times * op.size / (64 * self.words)), 4)
            second, first = np.zeros((op.size,) * 2), np.zeros(op.size)
            for _ in range(n):
                chains.sweep(2 * spacing)
                self._add_products(kind, chains.values(), first, second)
            first, second = _sum(self.comm, first), _sum(self.comm, second)
            draws = n * 64 * self.words
            second /= draws
            first /= draws
            second -= np.outer(first, first)
            second *= kind.draws * draws / (draws - 1)
            total += second
            fewest = min(fewest, draws)
        return total, float(fewest)

    def _add_products(self, kind, stretches, first, second):
        # sums of products of 0 and 1 below 2^24 are exact in single precision
        dtype = np.float32 if kind.rows == 1 else np.float64
        size = self.operators.chunk()
        for start in range(0, len(stretches), size):
            values = self.operators.values(stretches[start : start + size], dtype)
            first += values.sum(axis=0, dtype=float)
            second += values.T @ values


def _gather(comm, mine):
    return mine if comm is None else np.concatenate(comm.allgather(mine))


def _sum(comm, mine):
    """Sum over ranks of arrays of whole numbers below 2^53: exact."""
    if comm is None:
        return mine
    total = np.empty_like(mine)
    comm.Allreduce(mine, total)
    return total
