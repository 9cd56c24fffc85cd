"""Rasters of trials as one sequence of bins; neighbors in time never cross the border of a trial."""

from __future__ import annotations

import numpy as np

from lft.errors import InputError
from lft.inference.newton import split_rows

CHUNK_BINS = 8192


def checked_rasters(rasters, highest=1):
    """Rasters as a list of arrays (T, N), all of the same N.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        Several are trials.
    highest : int or None
        Whole numbers from 0 to ``highest`` are valid, and returned as int8: 1 for spikes, 127 for counts.  None: finite
        real numbers, returned as float.

    Raises
    ------
    InputError
        Anything else, by the number of the raster and the value.

    Examples
    --------
    >>> import numpy as np
    >>> [r.dtype.name for r in checked_rasters(np.eye(3))], len(checked_rasters([np.eye(3), np.eye(3)], None))
    (['int8'], 2)
    """
    rasters = [rasters] if isinstance(rasters, np.ndarray) and rasters.ndim == 2 else list(rasters)
    if not rasters:
        raise InputError("rasters = []: valid is an array (T, N), or a sequence of at least one")
    out, n_units = [], None
    for n, r in enumerate(rasters):
        r = np.asarray(r)
        if r.ndim != 2 or not r.size:
            raise InputError(f"raster {n} has shape {r.shape}: valid is (bins, units), neither zero")
        if r.dtype.kind not in "biuf":
            raise InputError(f"raster {n}: type {r.dtype}; valid are numbers")
        n_units = r.shape[1] if n_units is None else n_units
        if r.shape[1] != n_units:
            raise InputError(f"raster {n} has {r.shape[1]} units, raster 0 has {n_units}")
        out.append(_real(n, r) if highest is None else _counts(n, r, highest))
    return out


def _real(n, r):
    if r.dtype.kind == "f" and not np.isfinite(r).all():
        a, i = np.argwhere(~np.isfinite(r))[0]
        raise InputError(f"raster {n}: unit {i}, bin {a} is {r[a, i]}; valid are finite numbers")
    return r.astype(float)


def _counts(n, r, highest):
    if r.dtype != bool:
        valid = "0 (silent) and 1 (spike)" if highest == 1 else f"whole numbers from 0 to {highest}"
        if not (r.min() >= 0 and r.max() <= highest):  # or NaN
            hint = "; counts are for the family poisson of glm" if highest == 1 and r.min() >= 0 else ""
            raise InputError(f"raster {n}: values from {r.min()} to {r.max()}; valid are {valid}{hint}")
        if r.dtype.kind == "f" and not np.array_equal(r, np.rint(r)):
            raise InputError(f"raster {n}: holds {r[r != np.rint(r)][0]}; valid are {valid}")
    return r.astype(np.int8, copy=False)


def split_trials(rasters, test):
    """(training trials, test trials): the last ``test`` fraction of the bins of all trials, as fits split them.

    Examples
    --------
    >>> import numpy as np
    >>> train, test = split_trials([np.zeros((60, 2), np.int8), np.zeros((40, 2), np.int8)], 0.5)
    >>> [len(r) for r in train], [len(r) for r in test]
    ([50], [10, 40])
    """
    rasters = checked_rasters(rasters)
    n_train = split_rows(sum(len(r) for r in rasters), test)
    train, test, first = [], [], 0
    for r in rasters:
        cut = min(max(n_train - first, 0), len(r))
        train += [r[:cut]] if cut else []
        test += [r[cut:]] if cut < len(r) else []
        first += len(r)
    return train, test


def checked_lags(lags, rasters):
    lags = tuple(lags)
    longest = max(len(r) for r in rasters)
    for k in lags:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k < longest:
            raise InputError(f"lags = {lags}: valid are different integers from 1 to {longest - 1} (bins)")
    if len(set(lags)) < len(lags):
        raise InputError(f"lags = {lags}: each may stand only once")
    return tuple(int(k) for k in lags)


class Rows:
    """Bins of all trials in sequence; neighbors in time never cross the border of a trial."""

    def __init__(self, rasters, lags):
        self.rasters, self.lags = rasters, lags
        self.starts = np.concatenate([[0], np.cumsum([len(r) for r in rasters])])
        self.n_rows, self.n_units = int(self.starts[-1]), rasters[0].shape[1]

    def read(self, start, stop):
        """Spikes (bins, N) and neighbor sums (lags, bins, N) of rows start..stop, as float."""
        phi, u = [], []
        for r, origin in zip(self.rasters, self.starts[:-1], strict=True):
            a, b = max(start - origin, 0), min(stop - origin, len(r))
            if a < b:
                phi.append(r[a:b])
                u.append(np.stack([_neighbors(r, a, b, k) for k in self.lags]) if self.lags else None)
        phi = np.concatenate(phi).astype(float)
        if not self.lags:
            return phi, np.zeros((0, *phi.shape))
        return phi, np.concatenate(u, axis=1).astype(float)

    def chunks(self, start, stop):
        """(first row, spikes, neighbor sums) of pieces of bounded size."""
        for a in range(start, stop, CHUNK_BINS):
            yield (a, *self.read(a, min(a + CHUNK_BINS, stop)))


def _neighbors(raster, start, stop, lag):
    out = np.zeros((stop - start, raster.shape[1]), np.int8)
    for step in (lag, -lag):
        low, high = max(start + step, 0), min(stop + step, len(raster))
        if low < high:
            out[low - step - start : high - step - start] += raster[low:high]
    return out
