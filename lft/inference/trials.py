"""Rasters of trials as one sequence of bins; neighbors in time never cross the border of a trial."""

from __future__ import annotations

import numpy as np

from lft.errors import InputError

CHUNK_BINS = 8192


def checked_rasters(rasters):
    """Rasters as a list of int8 arrays (T, N), all of the same N; InputError for anything but 0 and 1."""
    rasters = [rasters] if isinstance(rasters, np.ndarray) and rasters.ndim == 2 else list(rasters)
    if not rasters:
        raise InputError("rasters = []: valid is a 0/1 array (T, N), or a sequence of at least one")
    out = []
    for n, r in enumerate(rasters):
        r = np.asarray(r)
        if r.ndim != 2 or not r.size:
            raise InputError(f"raster {n} has shape {r.shape}: valid is (bins, units), neither zero")
        if r.shape[1] != np.asarray(rasters[0]).shape[1]:
            raise InputError(
                f"raster {n} has {r.shape[1]} units, raster 0 has {np.asarray(rasters[0]).shape[1]}"
            )
        if r.dtype != bool and (
            r.min() < 0 or r.max() > 1 or (r.dtype.kind == "f" and np.any((r != 0) & (r != 1)))
        ):
            raise InputError(
                f"raster {n}: values from {r.min()} to {r.max()}; valid are 0 (silent) and 1 (spike)"
            )
        out.append(r.astype(np.int8, copy=False))
    return out


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
