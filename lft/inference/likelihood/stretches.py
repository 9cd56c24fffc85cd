"""Moments of the operators of a recording and their covariance, measured in chains of a model.

A recording is a set of trials.  A trial of a static model is so many bins, each a draw.  In space-time a trial that is
short against memory is simulated as it is; a long one is two ends and a middle,

    <O>_T = <O>_L + (T - L) <O of the middle> / (bins of the middle)

up to terms that vanish exponentially with the margin (:meth:`GibbsModel.margin`).  Sums of operators are sums of
integers: they do not depend on the order, so neither on the number of ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lft.inference.likelihood.products import add_products
from lft.inference.likelihood.result import trial_lengths
from lft.inference.likelihood.sampling import Chains
from lft.rng import Key

MOST_SWEEPS = 2048
"""Sweeps after which chains from both starts must agree."""
FEWEST = 16384
"""Bins behind a covariance, at least."""
AT_ONCE = 1 << 18
"""Bins whose operators are multiplied at once."""
FORGOTTEN = 0.4
"""Part of the margin of a model, 20 times its memory, beyond which no moment shows an open end (e^-8)."""


@dataclass(frozen=True)
class Moments:
    """<O> of the training stretch.

    Attributes
    ----------
    total, error : ndarray (size,)
        Mean over words of 64 chains, and its standard error from the scatter of words, which are independent.
    by_word : ndarray (words, size)
    n_samples : int
        Simulated bins (static) or stretches.
    control : ndarray (words, size)
        Of mean zero, what was subtracted from the operators to reduce their noise.
    event : float
        By how much an event in one more stretch would raise a moment.
    """

    total: np.ndarray
    error: np.ndarray
    by_word: np.ndarray
    n_samples: int
    control: np.ndarray
    event: float

    @classmethod
    def of(cls, by_word, control, n_samples, event):
        """Averages over words of operators less their control."""
        by_word = by_word - control
        error = by_word.std(axis=0, ddof=1) / math.sqrt(len(by_word))
        return cls(by_word.mean(axis=0), error, by_word, n_samples, control, event)

    def plain(self):
        """The same draws without the control: better where a joint state of two units hardly occurs, whose count the
        operators give exactly as a difference of theirs, and the control does not."""
        plain = Moments.of(self.by_word + self.control, np.zeros_like(self.control), self.n_samples, self.event)
        return replace(plain, error=np.maximum(plain.error, self.event))  # what never happened is no proof


@dataclass(frozen=True)
class _Kind:
    """Trials of one treatment: ``O = whole O_L + middle O_middle``.

    ``draws`` stretches are as precise as the trials, ``scale`` stretches as long.
    """

    rows: int
    core: slice
    whole: float
    middle: float
    draws: float
    scale: float


def kinds_of(model, rasters):
    """How the trials are represented by simulated stretches."""
    if model.kind == "static":
        n = float(sum(len(r) for r in rasters))
        return [_Kind(1, slice(0, 1), n, 0.0, n, n)]
    margin, lengths = max(math.ceil(FORGOTTEN * model.margin()), len(model.lagged)), trial_lengths(rasters)
    rows = 2 * margin + max(64, 3 * margin)
    core = slice(margin, rows - margin)
    long = {n: m for n, m in lengths.items() if n > rows}
    out = [_Kind(n, slice(0, n), float(m), 0.0, float(m), float(m)) for n, m in lengths.items() if n <= rows]
    if long:
        rest = sum(m * (n - rows) for n, m in long.items())
        bins = sum(m * n for n, m in long.items())
        n_core = core.stop - core.start
        out.append(_Kind(rows, core, float(sum(long.values())), rest / n_core, bins / n_core, bins / rows))
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
    most : float
        Spikes, in units of those recorded, beyond which chains are called not settled without waiting for it.
    patience : int
        Sweeps after which they are, too.

    Attributes
    ----------
    is_settled : bool
        Whether chains that started silent and at random agree (and fire no more than ``most``).
    sweeps, margin : int
        Sweeps that this took, both passes together; margin of the model.
    """

    def __init__(self, operators, model, rasters, words, seed, replica, comm=None, most=math.inf, patience=MOST_SWEEPS):
        self.operators, self.comm, self.words = operators, comm, words
        self.kinds, self.margin = kinds_of(model, rasters), model.margin()
        rate = 1 / (1 + np.exp(-model.c))
        self.rate = sum(r.sum(axis=0) for r in rasters) / sum(len(r) for r in rasters)
        self.chains, self.spacing, self.sweeps = [], [], 0
        for number, kind in enumerate(self.kinds):
            key = Key(seed, 1000 + 64 * replica + number).word
            made = Chains(model, words, kind.rows, seed=key, comm=comm, rate=rate)
            self.chains.append(made)
            sweeps, spacing = made.thermalize(maximum=patience, most=most * kind.rows * self.rate.sum())
            self.spacing.append(spacing)
            self.sweeps = max(self.sweeps, sweeps)
        self.is_settled = all(made.is_settled for made in self.chains)
        self.n_stretches = max(sum(kind.draws for kind in self.kinds), 1.0)

    def moments(self, share):
        """<O> of as many bins as ``1 / share`` times the recording has, at least 4 sweeps.

        Returns
        -------
        Moments
        """
        sums = np.zeros((2, self.words, self.operators.size))  # operators, control
        n_samples = 0
        for kind, chains, spacing in zip(self.kinds, self.chains, self.spacing, strict=True):
            n = max(math.ceil(kind.draws / share / (64 * self.words)), 4)
            whole = middle = 0.0
            for _ in range(n):
                chains.sweep(spacing)
                part = self._sums(kind, chains)
                whole, middle = whole + part[0], middle + part[1]
            for out, part in zip(sums, (kind.whole * whole + kind.middle * middle) / (64 * n), strict=True):
                out += _all(self.comm, part)
            n_samples += n * 64 * self.words
        return Moments.of(*sums, n_samples, sum(kind.scale for kind in self.kinds) / n_samples)

    def _sums(self, kind, chains):
        """Sums of O and of its control, of the whole and of the middle, over the chains of each local word."""
        x = chains.lanes().astype(np.float32)
        out, control = np.zeros((2, 2, len(x), self.operators.size))
        rest = x - 1 / (1 + np.exp(-chains.model.odds_of(x)))  # of mean zero given all the other units
        everything = slice(0, kind.rows)
        if kind.rows == 1:
            out[0] = self._static(x[:, :, 0])
        else:
            for word, lanes in enumerate(x):
                out[0, word] = self.operators.values(lanes).sum(axis=0)
        control[0] = self._control(x, rest, everything)
        if kind.middle:
            longest = self.operators.longest
            low, high = kind.core.start, kind.core.stop
            for word, lanes in enumerate(x):
                out[1, word] = self.operators.values(lanes[:, low - longest : high]).sum(axis=0)
                if longest:
                    out[1, word] -= self.operators.values(lanes[:, low - longest : low]).sum(axis=0)
            control[1] = self._control(x, rest, kind.core)
        return np.stack([out, control], axis=1)

    def _static(self, x):
        """Sums of O over the 64 chains of each word, x (words, 64, N)."""
        op, out = self.operators, np.zeros((len(x), self.operators.size))
        i, j = op.pairs.T
        out[:, op.at["a"]] = (x.transpose(0, 2, 1) @ x)[:, i, j]
        count = x.sum(axis=2).astype(np.intp) if op.levels else None
        for number, level in enumerate(op.levels, op.at["V"].start):
            out[:, number] = np.isin(count, level).sum(axis=1)
        out[:, op.at["c"]] = x.sum(axis=1)[:, op.units]
        return out

    def _control(self, x, rest, rows):
        """A quantity of mean zero that follows O: where units are independent, all of O but a constant.

        With ``r_i = phi_i - P(phi_i | rest)``, whose product with anything of the other units averages to zero:
        ``r_i`` for phi_i, ``(r_i phi_j + phi_i r_j + r_i m_j + m_i r_j) / 2`` for phi_i phi_j, at equal times and at
        lags.  Measured, 100 units: variance of pairs 14 times, of single units 8 times smaller.  Numbers of spikes have
        no such partner, and must fluctuate with the pairs, so where there is a V nothing is subtracted.
        """
        op, out = self.operators, np.zeros((len(x), self.operators.size))
        if op.levels:
            return out
        words, n, at = len(x), x.shape[-1], op.at
        m = self.rate
        r = rest[:, :, rows]
        mean = r.sum(axis=(1, 2), dtype=float)
        flat = np.ascontiguousarray(r).reshape(words, -1, n)
        both = flat.transpose(0, 2, 1) @ np.ascontiguousarray(x[:, :, rows]).reshape(words, -1, n)
        both = both + (mean[:, :, None] * m)
        i, j = op.pairs.T
        out[:, at["a"]] = (both[:, i, j] + both[:, j, i]) / 2
        for number, k in enumerate(op.lags, at["b"].start):
            near = np.zeros_like(x)
            near[:, :, k:] += x[:, :, :-k] + m.astype(np.float32)
            near[:, :, :-k] += x[:, :, k:] + m.astype(np.float32)
            out[:, number] = np.einsum("wlan,wlan->w", r, near[:, :, rows], optimize=True) / 2
        for k, places, i, j in op.by_lag():
            near = np.zeros((2, *x.shape), np.float32)  # what a unit meets in the earlier, in the later bin
            near[0, :, :, k:] = x[:, :, :-k] + m.astype(np.float32)
            near[1, :, :, :-k] = x[:, :, k:] + m.astype(np.float32)
            near = np.ascontiguousarray(near[:, :, :, rows]).reshape(2, words, -1, n)
            before, after = flat.transpose(0, 2, 1) @ near  # (words, unit of r, unit met)
            out[:, at["C"].start + places] = (before[:, i, j] + after[:, j, i]) / 2
        out[:, at["c"]] = mean[:, op.units]
        return out

    def largest_weight(self, model):
        """The largest W of a bin of the present stretches under another model."""
        mine = np.array([max(model.log_weights(chains.values()).max(initial=-np.inf) for chains in self.chains)])
        return float(_all(self.comm, mine).max())

    def covariance(self, times, at_least=0):
        """cov(O) of the training stretch, from ``times`` as many draws as there are operators, or ``at_least`` so many.

        Returns
        -------
        covariance : ndarray (size, size)
        n_draws : float
            Independent draws behind it.
        """
        op = self.operators
        total, fewest = np.zeros((op.size,) * 2), math.inf
        for kind, chains, spacing in zip(self.kinds, self.chains, self.spacing, strict=True):
            n = max(math.ceil(max(times * op.size, at_least, FEWEST // kind.rows) / (64 * self.words)), 4)
            second, first = np.zeros((op.size,) * 2), np.zeros(op.size)
            held = []
            for k in range(n):
                chains.sweep(spacing)
                held.append(chains.values())
                if sum(map(len, held)) * kind.rows >= AT_ONCE or k == n - 1:
                    add_products(op, np.concatenate(held), first, second)
                    held = []
            first, second = _sum(self.comm, first), _sum(self.comm, second)
            draws = n * 64 * self.words
            second /= draws
            first /= draws
            second -= np.outer(first, first)
            second *= kind.scale * draws / (draws - 1)
            total += second
            fewest = min(fewest, draws)
        return total, float(fewest)


def _all(comm, mine):
    """Rows of all ranks, in the order of the chains."""
    return mine if comm is None else np.concatenate(comm.allgather(mine))


def _sum(comm, mine):
    """Sum over ranks of arrays of whole numbers below 2^53: exact."""
    if comm is None:
        return mine
    total = np.empty_like(mine)
    comm.Allreduce(mine, total)
    return total
