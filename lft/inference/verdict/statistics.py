"""What a check compares: statistics of 0/1 rasters, each a function of sums that add up over stretches of time.

A stretch of L bins gives a vector of sums (spikes, coincidences, runs, ...); a statistic of several stretches is a
function of the total of their sums.  So errors (leave one stretch out) and null distributions (exchange stretches)
cost no second pass over the data.  With ``phi`` 0/1, ``K_t = sum_i phi_i(t)`` and <.> the mean over bins:

    rates              <phi_i>
    pairs              <phi_i phi_j> - <phi_i><phi_j>
    count              P(K)
    triples            <(phi_i - <phi_i>)(phi_j - <phi_j>)(phi_k - <phi_k>)>
    crosscorrelogram   mean over i != j of <phi_i(t) phi_j(t+k)> - <phi_i><phi_j>, for lags k
    lagged_pairs       the same pair by pair (ordered), at the first lags outside the fit
    autocorrelation    mean over i of <phi_i(t) phi_i(t+k)> - <phi_i>^2, for lags k
    silences           P(length) of runs of bins with K = 0
    avalanche_size     P(size), spikes between two silent bins
    avalanche_duration P(length) of runs of bins with K > 0
    intervals          P(interval) between successive spikes of one unit
    spectrum           |sum_t (K_t - mean K) exp(-i w t)|^2 / L, in bands of frequency
    slow               variance over stretches of the mean count, per unit

Runs and intervals that a border of a stretch cuts are left out, in recording and simulation alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lft.errors import InputError
from lft.rng import Key, Stream

RARE = 20  # classes of a histogram are joined until each holds so many events
BANDS = 16
CHUNK = 1 << 24


@dataclass(frozen=True, eq=False)
class Statistic:
    """One statistic: how a stretch is summed, and what the sums say.

    Attributes
    ----------
    key, label : str
        Name in files, and in tables and figures.
    sums : callable
        ``raster (L, N) -> ndarray (m,)``.
    values : callable
        ``sums (..., m) -> (..., d)``.
    headline : callable
        ``sums (..., m) -> (...)``: the one number of the table.
    headline_label : str
    x : ndarray (d,) or None
        Abscissa of a curve; None for a set of pairs, triples or units.
    x_label : str
    width : ndarray (d,) or None
        Integers in each class of a histogram; a density is the probability over this.
    classes : tuple or None
        ``(first, edges)``: the columns from ``first`` on count events between the edges and may be joined.
    fitted : bool
        The fit matches the statistic by construction (or nearly): its p value is then too large rather than too
        small, and its agreement says little.
    """

    key: str
    label: str
    sums: Callable
    values: Callable
    headline: Callable
    headline_label: str
    x: np.ndarray | None = None
    x_label: str = ""
    width: np.ndarray | None = None
    classes: tuple | None = None
    fitted: bool = False


@dataclass(frozen=True)
class Constraints:
    """What a fit matches by construction, so that a check can say so.

    Attributes
    ----------
    rates, pairs, count : bool
        Each unit's rate; equal-time pairs; P(K).
    auto_lags, cross_lags : tuple of int
        Lags at which autocorrelations, and pairs of different units, enter the model.
    """

    rates: bool = True
    pairs: bool = False
    count: bool = False
    auto_lags: tuple = ()
    cross_lags: tuple = ()


def statistics(n_units, block_bins, constraints=None, *, max_lag=10, max_pairs=2000, max_triples=2000, seed=0):
    """The statistics of the module's list for rasters of ``n_units`` in stretches of ``block_bins``.

    Parameters
    ----------
    n_units, block_bins : int
    constraints : Constraints, optional
        Lags inside the fit are left out of the correlograms; fitted statistics are marked.
    max_lag : int
        Longest lag of the correlograms, bins; below ``block_bins``.
    max_pairs, max_triples : int
        All of them, or a reproducible random subset of this size.
    seed : int

    Returns
    -------
    tuple of Statistic
        Those that need pairs or triples are left out where the units are too few.

    Examples
    --------
    >>> [s.key for s in statistics(2, 100)][:3]
    ['rates', 'pairs', 'count']
    """
    constraints = constraints or Constraints()
    if not 1 <= max_lag < block_bins:
        raise InputError(f"max_lag = {max_lag}: valid is 1 to {block_bins - 1}, below the stretch of {block_bins} bins")
    pairs = _subset(n_units, 2, max_pairs, seed)
    out = [_rates(n_units, constraints)]
    if len(pairs):
        out.append(_pairs(n_units, pairs, constraints))
    out.append(_count(n_units, constraints))
    triples = _subset(n_units, 3, max_triples, seed)
    if len(triples):
        out.append(_triples(triples))
    outside = [k for k in range(1, max_lag + 1) if k not in constraints.cross_lags]
    if len(pairs) and outside:
        out += [_crosscorrelogram(n_units, outside), _lagged_pairs(n_units, pairs, outside[:2])]
    outside = [k for k in range(1, max_lag + 1) if k not in constraints.auto_lags]
    if outside:
        out.append(_autocorrelation(n_units, outside))
    out += [
        _runs("silences", "silent intervals", _silences, block_bins, "length (bins)", "mean length"),
        _runs("avalanche_size", "avalanche sizes", _sizes, block_bins * n_units, "spikes", "mean size"),
        _runs("avalanche_duration", "avalanche durations", _durations, block_bins, "length (bins)", "mean length"),
        _runs("intervals", "interspike intervals", _intervals, block_bins, "interval (bins)", "mean interval"),
        _spectrum(n_units, block_bins),
        _slow(n_units),
    ]
    return tuple(out)


def measure(statistic, stretches):
    """Sums of every stretch: (number of stretches, m)."""
    return np.array([statistic.sums(stretch) for stretch in stretches], dtype=float)


def join_rare(statistic, *sums):
    """The statistic and its sums with rare classes joined, by the total over all sums: labels are not seen.

    Returns
    -------
    statistic : Statistic
    sums : list of ndarray
    """
    if statistic.classes is None:
        return statistic, list(sums)
    first, edges = statistic.classes
    total = sum(s.sum(axis=0) for s in sums)[first:]
    used = int(np.flatnonzero(total).max(initial=0)) + 1  # beyond, no event on either side
    starts = _starts(total[:used])
    joined = [np.hstack([s[:, :first], np.add.reduceat(s[:, first : first + used], starts, axis=1)]) for s in sums]
    bounds = edges[np.append(starts, used)]
    low, high = bounds[:-1], bounds[1:] - 1
    x = (low + high) / 2 if low[0] == 0 else np.sqrt(low * high)
    classes = (first, bounds)
    return replace(statistic, x=x, width=high - low + 1.0, classes=classes), joined


def _starts(total):
    """First classes of the joined ones: each holds RARE events, the last may take what is left over."""
    starts, held = [0], 0
    for k, n in enumerate(total):
        if held >= RARE:
            starts.append(k)
            held = 0
        held += n
    if held < RARE and len(starts) > 1:
        starts.pop()
    return np.array(starts)


def _subset(n, size, largest, seed):
    """Increasing tuples of units: all, or ``largest`` different random ones."""
    if n < size:
        return np.zeros((0, size), np.int64)
    total = 1
    for k in range(size):
        total = total * (n - k) // (k + 1)
    if total <= largest:
        return np.array(list(itertools.combinations(range(n), size)), np.int64)
    key, found, t = Key(seed), {}, 0
    while len(found) < largest:
        u = key.fill("uniform", 0, 1, 4 * largest, t, Stream.CHECK_SUBSET, size - 2)[0]
        drawn = np.sort((u[: size * (len(u) // size)].reshape(-1, size) * n).astype(np.int64), axis=1)
        found |= {tuple(row): None for row in drawn.tolist() if len(set(row)) == size}
        t += 1
    return np.array(list(found)[:largest], np.int64)


# ---- moments
def _rates(n, constraints):
    def sums(raster):
        return np.append(len(raster), raster.sum(axis=0, dtype=np.int64))

    return Statistic(
        "rates", "firing rates", sums, lambda s: s[..., 1:] / s[..., :1],
        lambda s: s[..., 1:].mean(axis=-1) / s[..., 0], "mean, per bin", fitted=constraints.rates,
    )  # fmt: skip


def _products(phi, i, j, lag=0):
    """``sum_t phi_i(t) phi_j(t + lag)`` of pairs (i, j)."""
    first, second = (phi, phi) if lag == 0 else (phi[:-lag], phi[lag:])
    if phi.shape[1] ** 2 <= 40 * len(i):
        return (first.T @ second)[i, j].astype(float)
    out = np.empty(len(i))
    step = max(1, CHUNK // len(phi))
    for a in range(0, len(i), step):
        part = slice(a, a + step)
        out[part] = np.einsum("tp,tp->p", first[:, i[part]], second[:, j[part]])
    return out


def _pairs(n, pairs, constraints):
    i, j = pairs.T

    def sums(raster):
        phi = raster.astype(np.float32)
        return np.concatenate([[len(raster)], phi.sum(axis=0, dtype=float), _products(phi, i, j)])

    def values(s):
        p = s[..., 1 : n + 1] / s[..., :1]
        return s[..., n + 1 :] / s[..., :1] - p[..., i] * p[..., j]

    return Statistic(
        "pairs", "pair covariances", sums, values, lambda s: values(s).mean(axis=-1), "mean, per bin",
        fitted=constraints.pairs,
    )  # fmt: skip


def _triples(triples):
    units, inverse = np.unique(triples, return_inverse=True)
    i, j, k = inverse.reshape(triples.shape).T
    n, m = len(units), len(i)

    def sums(raster):
        phi = np.ascontiguousarray(raster[:, units], dtype=np.float32)
        three = np.empty(m)
        step = max(1, CHUNK // len(phi))
        for a in range(0, m, step):
            part = slice(a, a + step)
            three[part] = np.einsum("tp,tp,tp->p", phi[:, i[part]], phi[:, j[part]], phi[:, k[part]])
        two = [_products(phi, a, b) for a, b in ((i, j), (i, k), (j, k))]
        return np.concatenate([[len(raster)], phi.sum(axis=0, dtype=float), *two, three])

    def values(s):
        s = s[..., 1:] / s[..., :1]
        p, ij, ik, jk, ijk = s[..., :n], *(s[..., n + q * m : n + (q + 1) * m] for q in range(4))
        a, b, c = p[..., i], p[..., j], p[..., k]
        return ijk - ij * c - ik * b - jk * a + 2 * a * b * c

    return Statistic(
        "triples", "three-point correlations", sums, values, lambda s: values(s).mean(axis=-1), "mean, per bin"
    )


def _crosscorrelogram(n, lags):
    """Sums: bins, spikes per unit, bins and products of each lag."""

    def sums(raster):
        phi = raster.astype(np.float32)
        count = phi.sum(axis=1, dtype=float)
        own = np.array([np.einsum("ti,ti->", phi[:-k], phi[k:], dtype=float) for k in lags])
        both = np.array([count[:-k] @ count[k:] for k in lags]) - own
        spikes = phi.sum(axis=0, dtype=float)
        return np.concatenate([[len(raster)], spikes, [len(raster) - k for k in lags], both])

    def values(s):
        p = s[..., 1 : n + 1] / s[..., :1]
        bins, both = s[..., n + 1 : n + 1 + len(lags)], s[..., n + 1 + len(lags) :]
        independent = p.sum(axis=-1) ** 2 - (p**2).sum(axis=-1)
        return (both / bins - independent[..., None]) / (n * (n - 1))

    return Statistic(
        "crosscorrelogram", "cross-correlogram", sums, values, lambda s: values(s).mean(axis=-1),
        "mean over lags", np.array(lags, float), "lag (bins)",
    )  # fmt: skip


def _lagged_pairs(n, pairs, lags):
    i, j = np.concatenate([pairs, pairs[:, ::-1]]).T

    def sums(raster):
        phi = raster.astype(np.float32)
        products = [_products(phi, i, j, k) for k in lags]
        return np.concatenate([[len(raster)], phi.sum(axis=0, dtype=float), [len(raster) - k for k in lags], *products])

    def values(s):
        p = s[..., 1 : n + 1] / s[..., :1]
        bins = np.repeat(s[..., n + 1 : n + 1 + len(lags)], len(i), axis=-1)
        independent = p[..., i] * p[..., j]
        return s[..., n + 1 + len(lags) :] / bins - np.concatenate([independent] * len(lags), axis=-1)

    return Statistic(
        "lagged_pairs", f"pair covariances, lag {', '.join(map(str, lags))}", sums, values,
        lambda s: values(s).mean(axis=-1), "mean, per bin",
    )  # fmt: skip


def _autocorrelation(n, lags):
    def sums(raster):
        phi = raster.astype(np.float32)
        own = [np.einsum("ti,ti->", phi[:-k], phi[k:], dtype=float) for k in lags]
        return np.concatenate([[len(raster)], phi.sum(axis=0, dtype=float), [len(raster) - k for k in lags], own])

    def values(s):
        p = s[..., 1 : n + 1] / s[..., :1]
        bins, own = s[..., n + 1 : n + 1 + len(lags)], s[..., n + 1 + len(lags) :]
        return (own / bins - (p**2).sum(axis=-1)[..., None]) / n

    return Statistic(
        "autocorrelation", "autocorrelation", sums, values, lambda s: values(s).mean(axis=-1), "mean over lags",
        np.array(lags, float), "lag (bins)",
    )  # fmt: skip


# ---- histograms
def _count(n, constraints):
    def sums(raster):
        count = raster.sum(axis=1, dtype=np.int64)
        return np.append(len(raster), np.bincount(count, minlength=n + 1))

    return Statistic(
        "count", "P(K)", sums, lambda s: s[..., 1:] / s[..., :1], lambda s: s[..., 1] / s[..., 0],
        "P(K = 0)", None, "active units K", None, (1, np.arange(n + 2)), fitted=constraints.count,
    )  # fmt: skip


def _runs(key, label, events, largest, x_label, headline_label):
    """Distribution of positive integers ``events(raster)``: sums are their number, their total, their classes."""
    edges = np.unique(np.concatenate([np.arange(1, 10), np.geomspace(10, largest + 1, 40).astype(np.int64)]))
    edges = edges[edges <= largest + 1]

    def sums(raster):
        found = events(raster)
        return np.concatenate([[len(found), found.sum()], np.histogram(found, edges)[0]])

    with_guard = lambda s: np.maximum(s, 1)  # noqa: E731  no event at all: zero, not nan
    return Statistic(
        key, label, sums, lambda s: s[..., 2:] / with_guard(s[..., :1]), lambda s: s[..., 1] / with_guard(s[..., 0]),
        headline_label, None, x_label, None, (2, edges),
    )  # fmt: skip


def _inner_runs(is_on):
    """(starts, stops) of the runs of True that lie inside, off both ends."""
    steps = np.diff(is_on.astype(np.int8))
    starts, stops = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1
    if len(is_on) and is_on[0]:
        stops = stops[1:]
    return starts[: len(stops)], stops


def _silences(raster):
    starts, stops = _inner_runs(~raster.any(axis=1))
    return stops - starts


def _durations(raster):
    starts, stops = _inner_runs(raster.any(axis=1))
    return stops - starts


def _sizes(raster):
    total = np.concatenate([[0], np.cumsum(raster.sum(axis=1, dtype=np.int64))])
    starts, stops = _inner_runs(raster.any(axis=1))
    return total[stops] - total[starts]


def _intervals(raster):
    unit, bins = np.nonzero(raster.T)
    return np.diff(bins)[np.diff(unit) == 0]


# ---- the rate of the population
def _spectrum(n, block_bins):
    frequency = np.fft.rfftfreq(block_bins)[1:]
    cuts = np.unique(np.geomspace(1, len(frequency) + 1, BANDS + 1).astype(np.int64)) - 1
    middle = np.array([frequency[a:b].mean() for a, b in itertools.pairwise(cuts)])

    def sums(raster):
        count = raster.sum(axis=1, dtype=float)
        power = np.abs(np.fft.rfft(count - count.mean())[1:]) ** 2 / (len(raster) * n)
        return np.append(1.0, [power[a:b].mean() for a, b in itertools.pairwise(cuts)])

    return Statistic(
        "spectrum", "spectrum of the population rate", sums, lambda s: s[..., 1:] / s[..., :1],
        lambda s: s[..., 1] / s[..., 0], "lowest band, per unit", middle, "frequency (1/bin)",
    )  # fmt: skip


def _slow(n):
    def sums(raster):
        mean = raster.mean()
        return np.array([1.0, mean, mean**2])

    def values(s):
        s = s[..., 1:] / s[..., :1]
        return (s[..., 1] - s[..., 0] ** 2)[..., None]

    return Statistic(
        "slow", "rate between stretches", sums, values, lambda s: np.sqrt(np.maximum(values(s)[..., 0], 0)),
        "standard deviation, per bin",
    )  # fmt: skip
