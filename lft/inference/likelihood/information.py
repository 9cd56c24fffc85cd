"""How much of the dependence among units pairs explain: multi-information of words, with its sampling bias controlled.

    I_N = sum_i S(p_i) - S(words),    I_2 = sum_i S(p_i) - S(pairwise maximum entropy)

in bits per bin, for groups of up to 14 units whose 2^N words are counted.  S(pairwise) is the entropy of the model
whose rates and coincidences are those of the recording: the minimum of log Z - theta . O, found exactly.

Entropies from counts are too small by about (cells - 1)/(2 T): I_N is biased by up to 2^N - N - 1 cells, I_2 by the
N(N-1)/2 pairs.  Three estimates:

=============  ================================================================================
plug-in        as counted
miller-madow   cells that occur, and couplings, counted: + (cells - 1)/(2T) for words, + pairs/(2T) for I_2
extrapolated   values from all, halves and quarters of the recording, as a + b/T + c/T^2 (standard method)
=============  ================================================================================

The first correction takes bins as independent and cells that never occurred as impossible; the second lets the data
tell, correlations between bins included, since halves and quarters are stretches of time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.inference.likelihood import exact
from lft.inference.likelihood.operators import Operators

ESTIMATES = ("plug-in", "miller-madow", "extrapolated")
MAX_UNITS = 14
N_BLOCKS = 32
_BITS = 1 / np.log(2)


@dataclass(frozen=True)
class MultiInformation:
    """Bits per bin, each as (value, error); errors by leaving out blocks of time.

    Attributes
    ----------
    i_n, i_2, ratio : tuple of float
    words : int
        Different words that occur.
    n_bins : int
    estimate : str
    """

    i_n: tuple
    i_2: tuple
    ratio: tuple
    words: int
    n_bins: int
    estimate: str


def word_counts(raster):
    """How often each of the 2^N words occurs; bit i of the index is unit i.

    >>> import numpy as np
    >>> word_counts(np.array([[0, 0], [1, 0], [1, 1], [1, 0]])).tolist()
    [1, 2, 0, 1]
    """
    raster = np.asarray(raster)
    n = raster.shape[1]
    if n > MAX_UNITS:
        raise InputError(f"{n} units: words are counted for at most {MAX_UNITS}")
    return np.bincount(raster.astype(np.int64) @ (1 << np.arange(n)), minlength=1 << n)


def entropy(counts):
    """Plug-in entropy of counts, bits."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def pairwise_entropy(rate, together):
    """Entropy (bits) of the pairwise maximum-entropy model of given rates and coincidences.

    Parameters
    ----------
    rate : ndarray (N,)
        Probabilities of a spike.
    together : ndarray (N, N)
        Probabilities of a coincidence.

    Returns
    -------
    float
        ``min_theta [log Z(theta) - theta . <O>]``: also right where couplings run to infinity, as for units that never
        fire together, since the minimum is reached to 1e-10 nats all the same.

    Raises
    ------
    DivergenceError
        Not converged: these are no moments of a distribution.

    Notes
    -----
    Newton steps, each N 2^N additions and a system of N(N+1)/2 equations.
    """
    active = np.flatnonzero((rate > 0) & (rate < 1))
    n = len(active)
    if not n:
        return 0.0
    op = Operators(n, np.argwhere(np.triu(np.ones((n, n), bool), 1)), (), (), np.arange(n), np.zeros(n))
    rate, together = rate[active], together[np.ix_(active, active)]
    i, j = op.pairs.T
    target = np.concatenate([together[i, j], rate])
    theta = np.concatenate([np.zeros(len(i)), np.log(rate / (1 - rate))])
    scale = np.concatenate([rate[i] * rate[j], rate]) * 1e-9
    log_z, mean, covariance = exact.static_moments(op, op.model(theta))
    value = log_z - theta @ target
    for _ in range(200):
        residual = target - mean
        step = np.linalg.solve(covariance + np.diag(scale), residual)
        promised = residual @ step / 2
        if promised < 1e-10:
            return float((value - promised) * _BITS)
        size = min(1.0, 20 / np.abs(step).max())  # states that are excluded lose a factor e^20 per step
        while True:
            new = exact.static_moments(op, op.model(theta + size * step))
            lower = new[0] - (theta + size * step) @ target
            if lower <= value - 0.1 * size * promised or size < 1e-6:
                break
            size /= 4
        if size < 1e-6:
            if promised < 1e-7:
                return float(value * _BITS)
            break
        theta, value, (log_z, mean, covariance) = theta + size * step, lower, new
    raise DivergenceError(f"pairwise entropy: not converged, {promised:.3g} nats left; are these moments of a raster?")


def _both(counts, n, corrected):
    """(I_N, I_2) in bits from counts of words."""
    total = counts.sum()
    g = exact.superset_sums(counts / total)
    single = 1 << np.arange(n)
    rate = np.minimum(g[single], 1.0)
    together = g[single[:, None] | single[None, :]]
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = -np.nansum(rate * np.log2(rate)) - np.nansum((1 - rate) * np.log2(1 - rate))
    i_n, i_2 = alone - entropy(counts), alone - pairwise_entropy(rate, together)
    if corrected:
        active = int(((rate > 0) & (rate < 1)).sum())
        cells = np.count_nonzero(counts)
        i_n += (active - (cells - 1)) / (2 * total) * _BITS
        pairs = np.count_nonzero(np.triu(together, 1))
        i_2 -= pairs / (2 * total) * _BITS
    return np.array([i_n, i_2])


def multi_information(raster, *, estimate="extrapolated", n_blocks=N_BLOCKS):
    """Multi-information of a group of units and the share that pairs explain.

    Parameters
    ----------
    raster : array (T, N) of 0 and 1
        2 to 14 units.
    estimate : {"plug-in", "miller-madow", "extrapolated"}
    n_blocks : int
        Multiple of 4: blocks of time that are left out in turn (jackknife).

    Returns
    -------
    MultiInformation

    Raises
    ------
    InputError
        Bad arguments.

    Notes
    -----
    A quarter of the recording must still hold several times as many bins as words that occur, or the extrapolation has
    nothing to go by.  Cost: N 2^N additions per Newton step, about 15 steps per value, 7 values per block left out.

    Examples
    --------
    >>> import numpy as np
    >>> raster = (np.random.default_rng(0).random((4000, 3)) < 0.3).astype(int)
    >>> raster[:, 2] = raster[:, 0] ^ raster[:, 1]  # no pair knows of it
    >>> found = multi_information(raster)
    >>> found.i_n[0] > 0.8, found.ratio[0] < 0.5
    (True, True)
    """
    raster = np.asarray(raster)
    if raster.ndim != 2 or raster.shape[1] < 2:
        raise InputError(f"raster has shape {raster.shape}: valid is (bins, units), at least 2 units")
    if ((raster != 0) & (raster != 1)).any():
        raise InputError("raster: valid are the values 0 and 1")
    if estimate not in ESTIMATES:
        raise InputError(f"estimate {estimate!r}: valid are {', '.join(ESTIMATES)}")
    if n_blocks < 8 or n_blocks % 4 or n_blocks > len(raster):
        raise InputError(f"n_blocks = {n_blocks!r}: valid is a multiple of 4 from 8 to the number of bins")
    edges = np.linspace(0, len(raster), n_blocks + 1).astype(int)
    counts = np.stack([word_counts(raster[a:b]) for a, b in itertools.pairwise(edges)])
    n = raster.shape[1]
    value = _estimated(counts, n, estimate)
    left_out = np.array([_estimated(np.delete(counts, k, axis=0), n, estimate) for k in range(n_blocks)])
    values = np.append(value, value[1] / value[0])
    left_out = np.column_stack([left_out, left_out[:, 1] / left_out[:, 0]])
    error = np.sqrt((n_blocks - 1) / n_blocks * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    pairs = [(float(v), float(e)) for v, e in zip(values, error, strict=True)]
    words = int(np.count_nonzero(counts.sum(axis=0)))
    return MultiInformation(*pairs, words, len(raster), estimate)


def _estimated(counts, n, estimate):
    """(I_N, I_2) from counts by block of time."""
    whole = _both(counts.sum(axis=0), n, estimate == "miller-madow")
    if estimate != "extrapolated":
        return whole
    # x = T/T_part: 1, 2, 4; the parabola through the three values, at x = 0
    half, quarter = (
        np.mean([_both(part.sum(axis=0), n, False) for part in np.array_split(counts, parts)], axis=0)
        for parts in (2, 4)
    )
    return (8 * whole - 6 * half + quarter) / 3
