"""Statistics of a recording that a model can be matched to: counts (T, N) in equal bins, all units one population.

    mean              <y>,  y = count/bin (rates, Hz) or the occupancy 0/1
    frozen_variance   variance over units of the time-averaged output, sampling noise in time taken out
    variance          mean over units of the variance in time, of outputs averaged over a bin
    pair_mean         mean covariance of two different units, in the same bin
    pair_spread       its variance over pairs, sampling noise in time taken out

Time is cut into segments, and squares of estimates that are noisy in time are replaced by products of different
segments, which have no bias.  Errors: jackknife over segments and jackknife over groups of units, added in squares: the
units are a sample of the population that a model speaks of.  Means are removed in each segment, so that what is slower
than a segment counts as neither.
"""

from __future__ import annotations

import math

import numpy as np

from lft.errors import InputError
from lft.meanfield.matching.portrait import Portrait

SEGMENTS = 10
GROUPS = 10
MIN_UNITS = 4
MIN_BINS = 20
"""Bins of a segment."""


def recorded(counts, bin_s, is_rate=True, name="recording"):
    """The :class:`~lft.meanfield.matching.portrait.Portrait` of a recording.

    Parameters
    ----------
    counts : ndarray (T, N)
        Spikes of each unit in each bin, T >= 200, N >= 4.
    bin_s : float
        Width of a bin, in the unit of time of the model (s for rates in Hz).
    is_rate : bool, optional
        Outputs are counts over the bin (spiking models); else the counts themselves (0/1 for binary models).
    name : str, optional
        Name of the population.

    Raises
    ------
    InputError
        Too few bins or units.

    Notes
    -----
    Cost: one matrix product per segment, T N^2; memory 10 N^2.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.matching.recorded import recorded
    >>> counts = np.random.default_rng(1).poisson(0.2, (20000, 30))
    >>> seen = recorded(counts, 0.02)
    >>> [round(float((seen[n][0].ravel()[0] - x) / seen[n][1].ravel()[0]), 0) + 0.0 in (-2., -1., 0., 1., 2.)
    ...  for n, x in (("mean", 10.0), ("variance", 500.0), ("pair_mean", 0.0), ("pair_spread", 0.0))]
    [True, True, True, True]
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or len(counts) < SEGMENTS * MIN_BINS or counts.shape[1] < MIN_UNITS:
        raise InputError(
            f"recording of shape {counts.shape}: valid is at least {SEGMENTS * MIN_BINS} bins and {MIN_UNITS} units"
        )
    if not (bin_s > 0 and math.isfinite(bin_s)):
        raise InputError(f"bin_s = {bin_s!r}: valid is a number > 0")
    scale = 1.0 / bin_s if is_rate else 1.0
    length = len(counts) // SEGMENTS
    means, covariances = [], []
    for s in range(SEGMENTS):
        y = scale * counts[s * length : (s + 1) * length].astype(float)
        m = y.mean(axis=0)
        means.append(m)
        covariances.append((y - m).T @ (y - m) / (length - 1))
    means, covariances = np.array(means), np.array(covariances)
    n = counts.shape[1]
    everything, units = np.arange(SEGMENTS), np.arange(n)
    value = _statistics(means, covariances, everything, units)
    in_time = _jackknife([_statistics(means, covariances, np.delete(everything, s), units) for s in everything])
    groups = np.array_split(np.random.default_rng(0).permutation(n), min(GROUPS, n))
    over_units = _jackknife([_statistics(means, covariances, everything, np.setdiff1d(units, g)) for g in groups])
    values = {}
    for k, x in value.items():
        error = np.hypot(in_time[k], over_units[k])
        shape = (1, 1) if k.startswith("pair") else (1,)
        values[k] = (np.full(shape, x), np.full(shape, error))
    notes = []
    left = len(counts) - SEGMENTS * length
    if left:
        notes.append(f"{left} of {len(counts)} bins do not fill a segment and are left out")
    return Portrait((name,), values, np.zeros(0), np.zeros(0), {}, bin_s, tuple(notes))


def _statistics(means, covariances, keep, units):
    m = means[np.ix_(keep, units)]
    c = covariances[np.ix_(keep, units, units)]
    k, n = len(keep), len(units)
    off = ~np.eye(n, dtype=bool)
    whole, squares = c.sum(axis=0), np.sum(c * c, axis=0)
    product = (whole * whole - squares) / (k * (k - 1))  # C_ij^2 from pairs of different segments
    pair_sums = c[:, off].mean(axis=1)
    square_of_mean = (pair_sums.sum() ** 2 - np.sum(pair_sums**2)) / (k * (k - 1))
    centered = m - m.mean(axis=1, keepdims=True)
    total = centered.sum(axis=0)
    frozen = np.sum(total**2 - np.sum(centered**2, axis=0)) / (k * (k - 1)) / (n - 1)
    return {
        "mean": float(m.mean()),
        "frozen_variance": float(frozen),
        "variance": float(np.mean(np.diagonal(whole)) / k),
        "pair_mean": float(whole[off].mean() / k),
        "pair_spread": float(product[off].mean() - square_of_mean),
    }


def _jackknife(left_out):
    """Standard errors from values with one part left out each."""
    n = len(left_out)
    return {k: math.sqrt((n - 1) * np.var([x[k] for x in left_out])) for k in left_out[0]}
