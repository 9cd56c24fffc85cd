"""Phenomenological renormalization of a recording: pair the most correlated units, add them up, again and again.

Level k holds clusters of K = 2^k units whose activity is the sum ``x_c(t) = sum_{i in c} x_i(t)``.  Followed with K:

    variance            <(x - <x>)^2>, mean over clusters                 ~ K^alpha
    free energy         F = -ln P0,  P0 = P(x = 0), mean over clusters    ~ K^beta
    eigenvalues         of the covariance within clusters, by rank r      ~ (K / r)^mu
    correlation time    of the mean autocorrelation of the clusters       ~ K^z

Independent alike units have alpha = beta = 1, mu = z = 0; identical ones alpha = 2, beta = 0.  Units of a critical
field in d dimensions, in compact blocks, have alpha = 1 + (2 - eta)/d, mu = (2 - eta)/d and z = z_dynamic/d
(derivation: the variance of a block sums C(r) ~ r^(2 - d - eta) over pairs).

The pairing by the largest correlation and the summing are the procedure of L. Meshulam et al., Phys. Rev. Lett. 123,
178103 (2019), of which the abstract and the captions were seen; the estimators here are our own.  Three departures:

- **Held out.**  Clusters found from noisy correlations and measured on the same bins look more correlated than they
  are: independent units would show alpha > 1.  So clusters are found in one half of the time blocks and measured in
  the other, both ways (``held_out=False``: everything on all bins, as published).
- **The same units on every level.**  Only units that are in a cluster of the last level count, on all levels: with
  the odd ones out, a change of composition would look like scaling where rates differ.
- **Errors.**  All numbers are sums over time blocks; leaving out one block at a time gives the covariance of all
  levels (:mod:`lft.rg.phenomenological.power_laws`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lft.errors import InputError
from lft.rg.graph_blocking import greedy_pairs
from lft.rg.phenomenological.activity import Activity, correlation, covariance, cut_into_blocks

MIN_SILENT_BINS = 10
"""Fewer silent bins than this (all clusters together) say nothing about P0."""
LARGEST_SPECTRUM = 128
RESOLVED = 1e-5
"""Eigenvalues below this fraction of the largest are rounding errors of single precision."""


# ---- clusters
def find_clusters(activity, blocks, pair=greedy_pairs, min_clusters=3, normalize=False, max_levels=None):
    """Pairs of every level, from the correlations in some blocks.

    Parameters
    ----------
    activity : Activity
    blocks : sequence of int
        Where correlations are taken.
    pair : callable, optional
        ``pair(correlation) -> (pairs (n, 2), left)``; default :func:`lft.rg.graph_blocking.greedy_pairs`.
    min_clusters : int, optional
        The last level has at least so many clusters.
    normalize : bool, optional
        Divide the activity of a cluster by the mean of its nonzero values before the next pairing (as published).
        It changes which clusters are found, never what is measured: that is always the plain sum.
    max_levels : int, optional
        Pairings at most.

    Returns
    -------
    list of ndarray, shape (n, 2)
        ``pairs[k][c]``: the two clusters of level k that make cluster c of level k + 1.

    Notes
    -----
    Covariances of sums are sums of covariances, so the activity is read once; with `normalize` once per level.
    """
    mean, c = covariance(activity, blocks)
    out = []
    while len(c) // 2 >= min_clusters and (max_levels is None or len(out) < max_levels):
        if normalize:
            factor = _mean_nonzero(activity, blocks, out, mean)
            c, mean = c / np.outer(factor, factor), mean / factor
        pairs, _ = pair(correlation(c))
        if len(pairs) < min_clusters:
            break
        i, j = pairs.T
        half = c[i] + c[j]
        c, mean = half[:, i] + half[:, j], mean[i] + mean[j]
        out.append(pairs)
    return out


def _mean_nonzero(activity, blocks, pairs_of_level, mean):
    """Mean of the nonzero values of each cluster, whose overall mean is given; 1 for a silent one."""
    n, count = len(blocks) * activity.length, 0
    for b in blocks:
        part = activity.raw_block(b) != 0
        for pairs in pairs_of_level:
            part = part[pairs[:, 0]] | part[pairs[:, 1]]
        count = count + np.count_nonzero(part, axis=1)
    usable = (count > 0) & (mean > 0)
    return np.where(usable, mean * n / np.maximum(count, 1), 1.0)


def members(pairs_of_level, n_units):
    """Units of each cluster, level by level: arrays (n_clusters, K); the two halves of a row are its parts."""
    out = [np.arange(n_units)[:, None]]
    for pairs in pairs_of_level:
        out.append(np.concatenate([out[-1][pairs[:, 0]], out[-1][pairs[:, 1]]], axis=1))
    return out


def random_pairs(key):
    """A pairing that ignores the correlations (for comparison): ``find_clusters(..., pair=random_pairs(key))``."""
    from lft.rng import Stream

    def pair(c):
        order = np.argsort(key.fill("uniform", 0, 1, len(c), len(c), Stream.SUBSET, 1)[0])
        n = len(c) // 2 * 2
        return np.sort(order[:n].reshape(-1, 2), axis=1), order[n:]

    return pair


# ---- measuring
@dataclass(eq=False)
class _Sums:
    """Sums over the bins of each block for the clusters of one level and fold."""

    moments: np.ndarray  # (block, power 1..4, cluster), about a reference
    nonzero: np.ndarray  # (block, cluster)
    products: np.ndarray  # (block, lag), summed over clusters
    square: np.ndarray | None = None  # (block, cluster, K, K), only where the spectrum is taken
    single: np.ndarray | None = None  # (block, cluster, K): sums of the units of these clusters
    counts: dict = field(default_factory=dict)  # activity -> number of bins, of integer activity


def _measure(activity, blocks, order, n_levels, spectrum_level, n_lags, has_counts):
    """Sums of every level over some blocks; `order` lists the units, the two halves of every cluster in a row."""
    length = activity.length
    mean = sum(activity.raw_block(b).sum(axis=1, dtype=float) for b in blocks)
    references = [mean[order] / (len(blocks) * length)]
    while len(references) < n_levels:
        references.append(references[-1][::2] + references[-1][1::2])
    sums = [_Sums(np.empty((len(blocks), 4, len(r))), np.empty((len(blocks), len(r)), np.int64),
                  np.empty((len(blocks), n_lags))) for r in references]
    top, size = sums[spectrum_level], 2**spectrum_level
    if spectrum_level:
        top.square = np.empty((len(blocks), len(order) // size, size, size))
        top.single = np.empty((len(blocks), len(order) // size, size))
    for row, b in enumerate(blocks):
        part = activity.raw_block(b)[order].astype(np.float32)
        for level in range(n_levels):
            if level:
                part = part[::2] + part[1::2]
            deviation = part - references[level][:, None].astype(np.float32)
            _add_block(sums[level], row, part, deviation, n_lags, has_counts)
            if level == 0 and spectrum_level:
                units = deviation.reshape(-1, size, length)
                top.square[row] = units @ units.transpose(0, 2, 1)
                top.single[row] = units.sum(axis=2)
    return sums


def _add_block(sums, row, part, deviation, n_lags, has_counts):
    square = deviation * deviation
    sums.moments[row, 0] = deviation.sum(axis=1, dtype=np.float64)
    sums.moments[row, 1] = square.sum(axis=1)
    sums.moments[row, 2] = np.einsum("ij,ij->i", square, deviation)
    sums.moments[row, 3] = np.einsum("ij,ij->i", square, square)
    sums.nonzero[row] = np.count_nonzero(part, axis=1)
    sums.products[row] = _lag_products(deviation, n_lags)
    if has_counts:
        for value, count in enumerate(np.bincount(part[part > 0].astype(np.int64))):
            if count:
                sums.counts[value] = sums.counts.get(value, 0) + int(count)


def _lag_products(deviation, n_lags):
    """sum_c sum_t d_c(t) d_c(t + l) / (length - l) for l < n_lags, by one Fourier transform per cluster."""
    from scipy.fft import irfft, next_fast_len, rfft

    length = deviation.shape[1]
    size = next_fast_len(length + n_lags, real=True)
    power = np.zeros(size // 2 + 1)
    for start in range(0, len(deviation), 256):  # a part at a time: the transforms stay in the cache
        modes = rfft(deviation[start : start + 256], n=size, axis=1)
        power += (modes.real**2 + modes.imag**2).sum(axis=0)
    return irfft(power, n=size)[:n_lags] / (length - np.arange(n_lags))


# ---- from sums to curves
@dataclass(frozen=True, eq=False)
class Curve:
    """A quantity against the scale, with what it is when one block is left out.

    Attributes
    ----------
    scale : ndarray, shape (m,)
        K; for eigenvalues K/rank.
    value : ndarray, shape (m,)
        nan where it is not defined.
    replicas : ndarray, shape (n_blocks, m)
        The value without block b.
    fold : ndarray of int, shape (n_blocks,)
        Which blocks are measured together.
    """

    scale: np.ndarray
    value: np.ndarray
    replicas: np.ndarray
    fold: np.ndarray

    @property
    def error(self):
        """One standard error of each value."""
        from lft.rg.phenomenological.power_laws import jackknife_covariance

        return np.sqrt(np.diag(jackknife_covariance(self.replicas, self.fold)))


@dataclass(frozen=True, eq=False)
class Scaling:
    """What coarse-graining did to the activity, level by level.

    Attributes
    ----------
    curves : dict of Curve
        ``variance``, ``silence`` (P0), ``free_energy``, ``correlation_time`` (bins), ``eigenvalues`` (against K/rank,
        of the largest clusters with a spectrum), ``kurtosis`` (excess, mean over clusters), ``skewness``.
    n_clusters : tuple of int
        Clusters per level (and fold).
    autocorrelation : ndarray, shape (n_levels, n_lags)
        Normalized autocovariance, summed over clusters.
    spectra : dict
        ``{K: eigenvalues (K,)}``, mean over clusters, by rank.
    counts : list of dict
        Bins by activity of a cluster, pooled, for integer activity.
    pairs : list
        Per fold the pairs of every level.
    n_units, n_bins, n_blocks, block_bins : int
    held_out : bool
    notes : tuple of str
    """

    curves: dict
    n_clusters: tuple
    autocorrelation: np.ndarray
    spectra: dict
    counts: list
    pairs: list
    n_units: int
    n_bins: int
    n_blocks: int
    block_bins: int
    held_out: bool
    notes: tuple = ()

    @property
    def scale(self):
        """Units per cluster, level by level."""
        return 2 ** np.arange(len(self.n_clusters))


def coarse_grain(values, *, n_blocks=20, held_out=True, pair=greedy_pairs, pairs=None, min_clusters=3,
                 max_levels=None, normalize=False, decay=1 / math.e, has_errors=True):
    """Pair, add up and measure, level by level.

    Parameters
    ----------
    values : array_like (T, N), or Activity
        Activity, time first.
    n_blocks : int, optional
        Time blocks, even, >= 4; each much longer than the correlation time.
    held_out : bool, optional
        Find clusters in one half of the blocks and measure in the other, both ways.  False: everything on all bins.
    pair : callable, optional
        See :func:`find_clusters`.
    pairs : list of array_like (n, 2), optional
        Pairs of every level (places among the units that vary), known beforehand, as for geometric blocks; nothing is
        searched.
    min_clusters : int, optional
        Clusters on the last level, >= 1.
    max_levels : int, optional
        Pairings at most.
    normalize : bool, optional
        See :func:`find_clusters`.
    decay : float, optional
        The correlation time is where the autocorrelation falls to this; between 0 and 1.
    has_errors : bool, optional
        False: no replicas and no histograms, for surrogates.

    Returns
    -------
    Scaling

    Raises
    ------
    InputError
        Activity or options out of range.

    Notes
    -----
    Cost: 1152 units x 90000 bins with 0.6 % spikes 3 s on one core; memory that of the int8 raster and one block.
    Autocovariances use pairs of bins within one block.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.phenomenological.clusters import coarse_grain
    >>> from lft.rg.phenomenological.power_laws import fit_power_law
    >>> spikes = np.random.default_rng(1).random((4000, 32)) < 0.2
    >>> scaling = coarse_grain(spikes)
    >>> scaling.scale.tolist(), scaling.n_clusters
    ([1, 2, 4, 8], (32, 16, 8, 4))
    >>> law = fit_power_law(scaling.curves["variance"])
    >>> abs(law.value - 1) < 4 * law.error
    True
    """
    activity = values if isinstance(values, Activity) else cut_into_blocks(values, n_blocks)
    if not 0 < decay < 1:
        raise InputError(f"decay = {decay!r}: valid is a number between 0 and 1")
    if not isinstance(min_clusters, int) or min_clusters < 1:
        raise InputError(f"min_clusters = {min_clusters!r}: valid is an integer >= 1")
    every = np.arange(activity.n_blocks)
    is_fixed = pairs is not None
    if is_fixed:
        folds = [(every, _checked_pairs(pairs, len(activity.values)))]
    elif held_out:
        halves = [every[activity.fold == f] for f in (0, 1)]
        found = [find_clusters(activity, h, pair, min_clusters, normalize, max_levels) for h in halves]
        n = min(map(len, found))
        folds = [(halves[1], found[0][:n]), (halves[0], found[1][:n])]
    else:
        folds = [(every, find_clusters(activity, every, pair, min_clusters, normalize, max_levels))]
    return _evaluate_folds(activity, folds, held_out and not is_fixed, decay, has_errors)


def _checked_pairs(pairs, n):
    out = []
    for level, p in enumerate(pairs):
        p = np.asarray(p)
        used = p.ravel()
        if p.ndim != 2 or p.shape[1:] != (2,) or p.dtype.kind not in "iu" or not len(p) or used.min() < 0 \
                or used.max() >= n or len(np.unique(used)) < len(used):
            raise InputError(f"pairs of level {level}: valid are disjoint pairs (n, 2) of places 0 to {n - 1}")
        out.append(p)
        n = len(p)
    return out


def _evaluate_folds(activity, folds, held_out, decay, has_errors):
    n_levels = len(folds[0][1]) + 1
    n_lags = max(2, activity.length // 4)
    spectrum_level = max((k for k in range(n_levels) if 2**k <= LARGEST_SPECTRUM and k), default=0)
    is_integer = activity.values.dtype.kind == "i" and activity.values.min() >= 0
    orders = [members(pairs, len(activity.values))[-1].ravel() for _, pairs in folds]
    sums = [_measure(activity, blocks, order, n_levels, spectrum_level, n_lags, has_errors and is_integer)
            for (blocks, _), order in zip(folds, orders, strict=True)]
    everything = _quantities(sums, None, activity.length, spectrum_level, decay)
    replicas, fold = [], []
    if has_errors:
        for f, (blocks, _) in enumerate(folds):
            for row in range(len(blocks)):
                replicas.append(_quantities(sums, (f, row), activity.length, spectrum_level, decay))
                fold.append(f)
    scale = {"eigenvalues": 2**spectrum_level / np.arange(1, 2**spectrum_level + 1)} if spectrum_level else {}
    curves = {}
    for name, value in everything.items():
        if name in ("autocorrelation", "spectra"):
            continue
        rows = np.array([r[name] for r in replicas]).reshape(-1, len(value))
        curves[name] = Curve(np.asarray(scale.get(name, 2.0 ** np.arange(n_levels))), value, rows, np.array(fold))
    counts = [{} for _ in range(n_levels)]
    for s in sums:
        for level in range(n_levels):
            for value, count in s[level].counts.items():
                counts[level][value] = counts[level].get(value, 0) + count
    return Scaling(
        curves, tuple(len(m) for m in (s.nonzero[0] for s in sums[0])), everything["autocorrelation"],
        everything["spectra"], counts, [p for _, p in folds], len(activity.values), activity.values.shape[1],
        activity.n_blocks, activity.length, held_out, (*activity.notes, *_left_out(activity, orders)),
    )


def _left_out(activity, orders):
    n = max(len(activity.values) - len(order) for order in orders)
    if n:
        yield f"{n} units are in no cluster of the last level and left out: all levels average over the same units"


def _quantities(sums, omit, length, spectrum_level, decay):
    """All quantities from the sums of all folds, without block (fold, row) `omit`; folds count alike."""
    n_levels = len(sums[0])
    out = {name: np.full(n_levels, np.nan) for name in
           ("variance", "silence", "free_energy", "typical_free_energy", "correlation_time", "kurtosis", "skewness")}
    rho, spectra = [], {}
    for level in range(n_levels):
        parts = [_of_fold(s[level], omit[1] if omit is not None and omit[0] == f else None, length)
                 for f, s in enumerate(sums)]
        for name in ("variance", "silence", "typical_free_energy", "kurtosis", "skewness"):
            out[name][level] = np.mean([p[name] for p in parts])
        if sum(p["n_silent"] for p in parts) >= MIN_SILENT_BINS and 0 < out["silence"][level] < 1:
            out["free_energy"][level] = -math.log(out["silence"][level])
        covariances = np.mean([p["autocovariance"] for p in parts], axis=0)
        rho.append(covariances / covariances[0])
        out["correlation_time"][level] = crossing(rho[-1], decay)
        if level and level == spectrum_level:
            sizes = [2**level] if omit is not None else [2**k for k in range(1, level + 1)]
            spectra = {k: np.mean([_spectrum(p["covariance"], k) for p in parts], axis=0) for k in sizes}
            top = spectra[2**level]
            out["eigenvalues"] = np.where(top > RESOLVED * top[0], top, np.nan)
    return {**out, "autocorrelation": np.array(rho), "spectra": spectra}


def _of_fold(sums, omit, length):
    """Means over the clusters of one level and fold."""
    keep = np.ones(len(sums.moments), bool)
    if omit is not None:
        keep[omit] = False
    n = np.count_nonzero(keep) * length
    d, s2, s3, s4 = sums.moments[keep].sum(axis=0) / n
    variance = s2 - d**2
    third = s3 - 3 * d * s2 + 2 * d**3
    fourth = s4 - 4 * d * s3 + 6 * d**2 * s2 - 3 * d**4
    silent = 1 - sums.nonzero[keep].sum(axis=0) / n
    varies = variance > 1e-12 * np.max(variance)
    with np.errstate(divide="ignore"):
        typical = -np.log(silent).mean()
    return {
        "variance": variance.mean(),
        "silence": silent.mean(),
        "n_silent": silent.sum() * n,
        "typical_free_energy": typical if np.isfinite(typical) and typical > 0 else math.nan,
        "kurtosis": (fourth[varies] / variance[varies] ** 2).mean() - 3,
        "skewness": (third[varies] / variance[varies] ** 1.5).mean(),
        "autocovariance": sums.products[keep].mean(axis=0) - (d**2).sum(),
        "covariance": None if sums.square is None else _covariances(sums, keep, n),
    }


def _covariances(sums, keep, n):
    """Covariance matrices within clusters, (cluster, K, K)."""
    d = sums.single[keep].sum(axis=0) / n
    return sums.square[keep].sum(axis=0) / n - d[:, :, None] * d[:, None, :]


def _spectrum(matrices, k):
    """Mean over clusters of K units of the eigenvalues by rank, from the matrices of larger clusters."""
    n, size, _ = matrices.shape
    blocks = matrices.reshape(n, size // k, k, size // k, k)
    parts = blocks[:, np.arange(size // k), :, np.arange(size // k), :].reshape(-1, k, k)
    return np.linalg.eigvalsh(parts).mean(axis=0)[::-1]


def crossing(rho, decay):
    """Lag at which a normalized autocorrelation first falls to `decay`, linear between lags; nan if it never does.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.phenomenological.clusters import crossing
    >>> crossing(np.array([1.0, 0.5, 0.25]), 0.375)
    1.5
    """
    below = np.flatnonzero(rho <= decay)
    if not len(below):
        return math.nan
    l = int(below[0])
    return float(l - (decay - rho[l]) / (rho[l - 1] - rho[l])) if l else 0.0
