"""Statistics of a running network, in bounded memory: what a mean-field theory predicts, with errors.

Outputs come in blocks of time.  Per population, with i over the measured neurons and < > over time:

    Q(lag) = mean_i <y_i(t) y_i(t + lag)>,      q = mean_i <y_i>^2,     m^2 alike,
    A = Q - q  (single-neuron autocovariance),  q - m^2  (variance of the time-averaged output over neurons),
    S(f)   = mean_i of the spectrum of single neurons, Hann window, block mean removed

Products of two averages over time come from pairs of segments that do not touch, which leaves no bias: in one segment,
or across an edge, fluctuations are correlated. Of the population means Y_a: covariances ``Cov[Y_a(t + lag), Y_b(t)]``
and cross-spectra.  Pairs of neurons, from sums over windows of time: the mean covariance, its spread ``Var(c_ij)`` and
the participation ratio.  Two covariance matrices from the first and the second half of the time have independent
sampling noise (alternate blocks do not: they share what is correlated across their edges), so that

    E[c_ij^2] = mean over pairs of C1_ij C2_ij,           PR = tr C1 tr C2 / tr(C1 C2)

are free of the bias of the naive estimates.  Every rank measures the same neurons from the same outputs.
"""

from __future__ import annotations

import warnings

import numpy as np

from lft.analysis.estimate import estimate
from lft.errors import InputError, SeriesTooShort

MIN_BLOCKS = 8
GAMMA_BLOCKS = 25
MIN_BLOCK = 16


class Recorder:
    """Collects outputs of a network.

    Parameters
    ----------
    sizes : sequence of int
        Neurons of each population.
    dt : float
    n_steps : int
        Steps that will come; rounded down to whole blocks (attribute ``n_steps``).
    max_lag : int
        Longest lag, in steps.
    neurons : int, optional
        Neurons measured one by one in each population, spread evenly over it.
    window : int, optional
        Steps over which outputs are averaged before covariances of pairs.
    segments : int, optional
        Parts of the time whose scatter gives errors.
    pairs : bool, optional
        Measure covariances of pairs: memory 2 (sum of measured neurons)^2.
    block : int, optional
        Steps per block; default 4 max_lag, at least 16.

    Notes
    -----
    Cost per step and neuron: two FFTs, log2(block) each, and one multiplication for each other measured neuron and
    window; memory ``block x neurons``.
    """

    def __init__(self, sizes, dt, n_steps, max_lag, *, neurons=500, window=1, segments=8, pairs=True, block=None):
        self.sizes, self.dt, self.max_lag, self.window = tuple(sizes), dt, max_lag, window
        block = block or max(4 * max_lag, MIN_BLOCK)
        block = -(-block // window) * window
        self.n_blocks = n_steps // block
        if self.n_blocks < MIN_BLOCKS:
            raise InputError(
                f"{n_steps} steps measure {self.n_blocks} blocks of {block} steps (4 times the largest lag of {max_lag}"
                f"); valid is at least {MIN_BLOCKS}: a longer duration or a shorter lag"
            )
        self.segments = min(segments, self.n_blocks)
        self.block, self.n_steps = block, self.n_blocks * block
        self.chosen = [np.unique(np.linspace(0, n - 1, min(neurons, n)).round().astype(int)) for n in self.sizes]
        n_pop, n_lag = len(self.sizes), max_lag + 1
        self.counts = [len(c) for c in self.chosen]
        total = sum(self.counts)
        self.buffer = np.empty((block, total))
        self.means = np.empty((block, n_pop))
        self.filled, self.done = 0, 0
        self.second = np.zeros((self.segments, n_pop, n_lag))
        self.unit_mean = np.zeros((self.segments, total))
        self.mean = np.zeros((self.segments, n_pop))
        self.block_means = np.empty((self.n_blocks, n_pop))
        self.pop_second = np.zeros((self.segments, 2 * max_lag + 1, n_pop, n_pop))
        self.blocks_in = np.zeros(self.segments, int)
        n_f = block // 2 + 1
        self.unit_power = np.zeros((self.segments, n_pop, n_f))
        self.pop_power = np.zeros((self.segments, n_f, n_pop, n_pop), complex)
        self.reference = None
        self.has_pairs = pairs
        if pairs:
            self.pair_sum, self.pair_second = np.zeros((2, total)), np.zeros((2, total, total))
            self.pair_rows = np.zeros(2, int)
        self.x_sums = np.zeros((self.segments, n_pop, 2))
        self.x_rows = np.zeros(self.segments, int)

    @property
    def is_full(self):
        """True when all blocks are there."""
        return self.done == self.n_blocks

    @property
    def segment(self):
        """Number of the segment that is being measured."""
        return min(self.done * self.segments // self.n_blocks, self.segments - 1)

    def add(self, outputs):
        """Outputs (n, N_a) of every population, n steps."""
        n, at = len(outputs[0]), 0
        while at < n and not self.is_full:
            m = min(n - at, self.block - self.filled)
            rows, place = slice(self.filled, self.filled + m), 0
            for a, (y, chosen) in enumerate(zip(outputs, self.chosen, strict=True)):
                part = y[at : at + m]
                whole = len(chosen) == self.sizes[a]
                self.buffer[rows, place : place + len(chosen)] = part if whole else part[:, chosen]
                self.means[rows, a] = part.mean(axis=1)
                place += len(chosen)
            self.filled += m
            at += m
            if self.filled == self.block:
                self._finish_block()

    def observe(self, values):
        """State variables of all neurons at one time, for their variance."""
        s = self.segment
        for a, x in enumerate(values):
            self.x_sums[s, a] += x.mean(), np.mean(x * x)
        self.x_rows[s] += 1

    def _finish_block(self):
        s = self.segment
        if self.reference is None:
            self.reference = self.means.mean(axis=0)
        self.blocks_in[s] += 1
        self.unit_mean[s] += self.buffer.mean(axis=0)
        self.mean[s] += self.means.mean(axis=0)
        self.block_means[self.done] = self.means.mean(axis=0)
        place = 0
        for a, count in enumerate(self.counts):
            x = self.buffer[:, place : place + count]
            self.second[s, a] += lagged(x, self.max_lag)
            self.unit_power[s, a] += power(x, self.dt)
            place += count
        centered = self.means - self.reference
        self.pop_second[s] += cross_lagged(centered, self.max_lag)
        f = np.fft.rfft(hann(self.block)[:, None] * (self.means - self.means.mean(axis=0)), axis=0)
        norm = self.dt / np.sum(hann(self.block) ** 2)
        self.pop_power[s] += norm * f[:, :, None] * f[:, None, :].conj()
        if self.has_pairs:
            half = 2 * self.done // self.n_blocks
            x = self.buffer
            if self.window > 1:
                x = x.reshape(-1, self.window, x.shape[1]).mean(axis=1)
            self.pair_sum[half] += x.sum(axis=0)
            self.pair_second[half] += x.T @ x
            self.pair_rows[half] += len(x)
        self.done += 1
        self.filled = 0


def hann(n):
    """Hann window of n points."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)


def lagged(x, max_lag):
    """Mean over columns and time of ``x(t) x(t + lag)``, lags 0..max_lag, all pairs inside the block.

    >>> lagged(np.array([[1.0], [2.0], [3.0]]), 1).round(12).tolist()
    [4.666666666667, 4.0]
    """
    from scipy.fft import irfft, next_fast_len, rfft

    n = next_fast_len(len(x) + max_lag, real=True)
    total = np.zeros(n // 2 + 1)
    for start in range(0, x.shape[1], 64):
        f = rfft(x[:, start : start + 64], n, axis=0)
        total += np.sum(f.real**2 + f.imag**2, axis=1)
    return irfft(total, n)[: max_lag + 1] / (len(x) - np.arange(max_lag + 1)) / x.shape[1]


def cross_lagged(x, max_lag):
    """Mean over time of ``x_a(t + lag) x_b(t)``, lags -max_lag..max_lag: (2 max_lag + 1, n, n)."""
    from scipy.fft import irfft, next_fast_len, rfft

    n = next_fast_len(len(x) + max_lag, real=True)
    f = rfft(x, n, axis=0)
    full = irfft(f[:, :, None] * f[:, None, :].conj(), n, axis=0)
    lags = np.arange(-max_lag, max_lag + 1)
    return full[lags] / (len(x) - np.abs(lags))[:, None, None]


def power(x, dt):
    """Mean spectrum of the columns: Hann window, own mean removed, ``S(f) = dt |sum_t w x e^{iwt}|^2 / sum w^2``."""
    w = hann(len(x))
    total = np.zeros(len(x) // 2 + 1)
    for start in range(0, x.shape[1], 64):
        part = x[:, start : start + 64]
        f = np.fft.rfft(w[:, None] * (part - part.mean(axis=0)), axis=0)
        total += np.sum(f.real**2 + f.imag**2, axis=1)
    return total * dt / np.sum(w**2) / x.shape[1]


def apart(segments):
    """Weights (n, n), sum 1, of pairs of segments that do not touch, given by number in order of time; of all
    different ones where there are none.

    >>> apart(np.array([0, 1, 2, 5])).round(3).tolist()
    [[0.0, 0.0, 0.125, 0.125], [0.0, 0.0, 0.0, 0.125], [0.125, 0.0, 0.0, 0.125], [0.125, 0.125, 0.125, 0.0]]
    """
    distance = np.abs(np.subtract.outer(segments, segments))
    pairs = distance > (1 if distance.max() > 1 else 0)
    return pairs / pairs.sum()


def static_second(means, pairs):
    """``mean_i <y_i>^2`` from the means (segments, neurons) of segments with the weights :func:`apart`."""
    return float(np.mean(np.einsum("si,si->i", means, pairs @ means)))


def summarize(recorder):
    """Statistics of a full recorder with errors from its segments (jackknife), a dict of (value, error) by name.

    The error of the mean comes from the blocks by the Gamma method, from 25 blocks on.

    Errors of what the two halves of the time give (``pair_*``, ``participation``) are nan: they come from several
    networks alone.
    """
    if not recorder.is_full:
        raise InputError(f"{recorder.done} of {recorder.n_blocks} blocks are measured: nothing to summarize yet")
    everything = _means(recorder, np.arange(recorder.segments))
    left_out = [
        _means(recorder, np.delete(np.arange(recorder.segments), k)) for k in range(recorder.segments)
    ]
    n, out = recorder.segments, {}
    for name, value in everything.items():
        parts = np.array([p[name] for p in left_out])
        error = np.sqrt((n - 1) / n * np.sum(np.abs(parts - parts.mean(axis=0)) ** 2, axis=0))
        out[name] = (value, error)
    if recorder.n_blocks >= GAMMA_BLOCKS:
        out["mean"] = (out["mean"][0], _mean_errors(recorder))
    if recorder.has_pairs:
        out.update({name: (value, np.full(np.shape(value), np.nan)) for name, value in _pairs(recorder).items()})
    return out


def _mean_errors(recorder):
    """Errors of the mean outputs, autocorrelation between blocks included (Gamma method)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesTooShort)  # blocks are longer than the lags that matter
        return np.array([estimate(series).error for series in recorder.block_means.T])


def _means(recorder, keep):
    """All statistics that average over the segments ``keep``."""
    r, blocks = recorder, recorder.blocks_in[keep].sum()
    weight = recorder.blocks_in[keep]
    mean = r.mean[keep].sum(axis=0) / blocks
    second = r.second[keep].sum(axis=0) / blocks
    segment_means, pairs = r.unit_mean[keep] / weight[:, None], apart(keep)
    static, place = [], 0
    for count in r.counts:
        static.append(static_second(segment_means[:, place : place + count], pairs))
        place += count
    static = np.array(static)
    means = r.mean[keep] / weight[:, None]
    shifts = means - r.reference
    population = r.pop_second[keep].sum(axis=0) / blocks - shifts.T @ pairs @ shifts
    out = {
        "mean": mean,
        "second": second,
        "static": static,
        "autocovariance": second - static[:, None],
        "heterogeneity": static - np.diag(means.T @ pairs @ means),
        "population_covariance": population,
        "spectrum": r.unit_power[keep].sum(axis=0) / blocks,
        "population_spectrum": r.pop_power[keep].sum(axis=0) / blocks,
    }
    if r.x_rows[keep].all():
        first, square = (r.x_sums[keep].sum(axis=0) / r.x_rows[keep].sum()).T
        out["state_variance"] = square - first**2
    n_lag = r.max_lag
    own = np.array([(r.sizes[a] * population[n_lag, a, a] - out["autocovariance"][a, 0]) / (r.sizes[a] - 1)
                    for a in range(len(r.sizes))])
    pair = population[n_lag].copy()
    np.fill_diagonal(pair, own)
    out["mean_pair_covariance"] = pair
    return out


def _pairs(recorder):
    """Mean, spread and dimension of the covariances of pairs from the two halves of the time."""
    c = []
    for half in range(2):
        n = recorder.pair_rows[half]
        mean = recorder.pair_sum[half] / n
        c.append((recorder.pair_second[half] / n - np.outer(mean, mean)) * (n / (n - 1)))
    return pair_statistics(c[0], c[1], recorder.counts, recorder.sizes)


def pair_statistics(c1, c2, counts, sizes):
    """Statistics of pairs from two covariance matrices with independent sampling noise.

    Parameters
    ----------
    c1, c2 : ndarray (n, n)
        The measured neurons of all populations in order.
    counts : sequence of int
        Measured neurons of each population.
    sizes : sequence of int
        All neurons of each population.

    Returns
    -------
    dict
        ``pair_variance`` (P,), ``pair_mean`` (P, P), ``pair_spread`` (P, P): mean of c_ii, mean and variance of c_ij
        over pairs of different neurons, and ``participation``: PR/N of each population (P,), its measured neurons
        standing for all.
    """
    edges = np.concatenate([[0], np.cumsum(counts)])
    n_pop = len(counts)
    mean, spread = np.empty((n_pop, n_pop)), np.empty((n_pop, n_pop))
    variance, participation = np.empty(n_pop), np.empty(n_pop)
    for a in range(n_pop):
        rows = slice(edges[a], edges[a + 1])
        d1, d2 = np.diag(c1)[rows], np.diag(c2)[rows]
        variance[a] = 0.5 * (d1.mean() + d2.mean())
        for b in range(n_pop):
            x, y = c1[rows, edges[b] : edges[b + 1]], c2[rows, edges[b] : edges[b + 1]]
            same = a == b
            n = x.size - (len(x) if same else 0)
            s1, s2 = x.sum() - same * d1.sum(), y.sum() - same * d2.sum()
            product = np.sum(x * y) - same * np.sum(d1 * d2)
            mean[a, b] = 0.5 * (s1 + s2) / n
            # unbiased: the product of the means of the two halves
            spread[a, b] = product / n - (s1 / n) * (s2 / n)
        square = spread[a, a] + mean[a, a] ** 2
        squares = np.mean(d1 * d2) + (sizes[a] - 1) * square
        participation[a] = d1.mean() * d2.mean() / squares if squares else np.nan  # nan: nothing moves
    return {"pair_variance": variance, "pair_mean": mean, "pair_spread": spread, "participation": participation}
