"""Activity of many units cut into time blocks: what phenomenological RG is measured on.

Blocks are the unit of every error and come in two folds: clusters (or modes) are found in one and measured in the
other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lft.errors import InputError

SPARSE = 0.1
"""Fraction of nonzero entries below which products of spikes are counted instead of multiplied."""


@dataclass(frozen=True, eq=False)
class Activity:
    """A recording cut into time blocks: ``values`` (unit, bin) of the units that vary, equal blocks, two folds.

    Attributes
    ----------
    values : ndarray, shape (N, T)
        int8 for 0/1 and small counts, else int16 or float32.
    unit : ndarray of int, shape (N,)
        Column of the input of each unit.
    n_blocks, length : int
        Number of blocks and bins in each; the bins after ``n_blocks * length`` are left out.
    fold : ndarray of int, shape (n_blocks,)
        0 and 1 alternating.
    notes : tuple of str
    """

    values: np.ndarray
    unit: np.ndarray
    n_blocks: int
    length: int
    fold: np.ndarray
    notes: tuple = ()
    known: dict = field(default_factory=dict, repr=False)  # covariances by blocks: needed more than once

    def raw_block(self, b):
        """The activity in block b as it is stored, shape (N, length)."""
        return self.values[:, b * self.length : (b + 1) * self.length]

    def block(self, b):
        """The activity in block b as float32."""
        return self.raw_block(b).astype(np.float32)


def cut_into_blocks(values, n_blocks=20):
    """Time blocks of a raster.

    Parameters
    ----------
    values : array_like, shape (T, N)
        Activity, time first: spikes 0/1, counts, or real numbers; finite.
    n_blocks : int, optional
        Even, >= 4.  Blocks should be at least 10 correlation times long (:func:`choose_blocks`).

    Returns
    -------
    Activity

    Raises
    ------
    InputError
        Wrong shape, not finite, fewer than 8 bins in a block, or fewer than 4 units that vary.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.phenomenological.activity import cut_into_blocks
    >>> a = cut_into_blocks(np.arange(165).reshape(33, 5) % 2, n_blocks=4)
    >>> a.values.shape, a.length, a.notes
    ((5, 33), 8, ('1 bins after the last block of 8 are left out',))
    """
    values = np.asarray(values)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "biuf":
        raise InputError(f"activity has shape {values.shape} and type {values.dtype}: valid are real numbers "
                         "(bins, units)")
    if isinstance(n_blocks, bool) or not isinstance(n_blocks, int | np.integer) or n_blocks < 4 or n_blocks % 2:
        raise InputError(f"n_blocks = {n_blocks!r}: valid is an even integer >= 4")
    length = len(values) // int(n_blocks)
    if length < 8:
        raise InputError(f"{len(values)} bins in {n_blocks} blocks: valid are at least 8 bins in each; give more "
                         "bins or fewer blocks")
    rows = np.ascontiguousarray(_narrow(values).T)
    varies = (rows != rows[:, :1]).any(axis=1)
    if np.count_nonzero(varies) < 4:
        raise InputError(f"{np.count_nonzero(varies)} of {len(rows)} units vary: valid are at least 4")
    notes = []
    if not varies.all():
        rows = rows[varies]
        notes.append(f"{np.count_nonzero(~varies)} units that never change have no correlation and are left out")
    if len(values) > n_blocks * length:
        notes.append(f"{len(values) - n_blocks * length} bins after the last block of {length} are left out")
    return Activity(rows, np.flatnonzero(varies), int(n_blocks), length, np.arange(n_blocks) % 2, tuple(notes))


def _narrow(values):
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InputError("activity holds numbers that are not finite")
        return values.astype(np.float32, copy=False)
    low, high = int(values.min()), int(values.max())
    for kind in (np.int8, np.int16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind, copy=False)
    return values.astype(np.float32)


def choose_blocks(values, most=20, fewest=8):
    """(number of blocks, tau, notes): as many as hold 10 integrated correlation times of the summed activity each.

    ``tau`` is in bins, by the Gamma method; a note says so where even ``fewest`` blocks are too short.
    """
    import warnings

    from lft.analysis.estimate import estimate
    from lft.errors import SeriesTooShort

    total = np.asarray(values).sum(axis=1, dtype=float)
    if len(total) < 32:
        raise InputError(f"{len(total)} bins: valid are at least 32, for 4 blocks of 8")
    most = min(most, len(total) // 8 // 2 * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesTooShort)  # the note below says it for the blocks
        tau = estimate(total, name="summed activity").tau_int
    for n in range(most, min(fewest, most) - 1, -2):
        if len(total) // n >= 10 * tau:
            return n, tau, []
    n = min(fewest, most)
    return n, tau, [f"{n} blocks of {len(total) // n} bins hold only {len(total) / n / tau:.2g} correlation times "
                    f"({tau:.3g} bins) of the summed activity each: errors are too small"]


# ---- second moments
def covariance(activity, blocks):
    """(means (N,), covariance (N, N)) over some blocks, in float64; sparse activity is counted, dense multiplied."""
    key = tuple(int(b) for b in blocks)
    if key not in activity.known:
        n = len(key) * activity.length
        mean = sum(activity.raw_block(b).sum(axis=1, dtype=float) for b in key) / n
        second = np.zeros((len(mean), len(mean)))
        for b in key:
            second += _second_moments(activity.raw_block(b), mean)
        activity.known[key] = mean, (second + second.T) / (2 * n)
    return activity.known[key]


def _second_moments(part, mean):
    """sum_t (x_i - mean_i)(x_j - mean_j) over the columns of a block."""
    length = part.shape[1]
    active = np.flatnonzero((part != 0).ravel())
    if len(active) >= SPARSE * part.size:
        deviation = part - mean[:, None].astype(np.float32)
        return deviation @ deviation.T
    from scipy.sparse import csr_array

    rows = np.searchsorted(active, np.arange(len(part) + 1) * length)
    spikes = csr_array((part.ravel()[active].astype(np.float32), active % length, rows), shape=part.shape)
    sums = part.sum(axis=1, dtype=float)
    products = np.outer(sums, mean)
    return (spikes @ spikes.T).toarray() - products - products.T + length * np.outer(mean, mean)


def correlation(c):
    """Correlation coefficients of a covariance matrix; 0 where a unit does not vary."""
    scale = np.sqrt(np.clip(np.diag(c), 0, None))
    scale = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    r = c * np.outer(scale, scale)
    return (r + r.T) / 2
