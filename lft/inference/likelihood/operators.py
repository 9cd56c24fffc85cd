"""Which couplings a Gibbs model has, and the operators that are conjugate to them.

    W = theta . O,        O = (phi_i phi_j of the pairs, sum_i phi_i^a phi_i^(a+k) of the lags, 1[K in level], phi_i)

summed over the bins of a stretch.  Maximum likelihood equates <O> of the model with O of the recording; the information
is the covariance of O.  All operators are integers, so sums of them are exact and their order does not matter.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.inference import newton
from lft.inference.likelihood.model import GibbsModel

CHUNK = 1 << 22  # entries of a table of operators that is made at once


@dataclass(frozen=True, eq=False)
class Operators:
    """The free couplings, ``theta = (a of the pairs, b of the lags, V of the levels, c of the units)``.

    Attributes
    ----------
    n_units : int
    pairs : ndarray (n_pairs, 2)
        i < j; other pairs have a = 0.
    lags : tuple of int
    levels : tuple of tuple of int
        Numbers of spikes that share a value of V; V = 0 elsewhere (gauge: V(0) = V(1) = V(2) = 0, since a constant, a
        change of all c and a change of all a do the same).
    units : ndarray
        Units whose c is free; c of the others is ``fixed_c``.
    fixed_c : ndarray (N,)
    """

    n_units: int
    pairs: np.ndarray
    lags: tuple
    levels: tuple
    units: np.ndarray
    fixed_c: np.ndarray

    @property
    def sizes(self):
        """Numbers of couplings of the four kinds."""
        return len(self.pairs), len(self.lags), len(self.levels), len(self.units)

    @property
    def size(self):
        return sum(self.sizes)

    @property
    def cuts(self):
        """Where a kind ends and the next begins."""
        return np.cumsum(self.sizes)[:-1]

    def names(self):
        """As in :class:`lft.inference.protocols.Objective`."""
        return (
            [f"a[{i},{j}]" for i, j in self.pairs]
            + [f"b[{k}]" for k in self.lags]
            + [f"V[{level[0]}]" for level in self.levels]
            + [f"c[{i}]" for i in self.units]
        )

    # ---- couplings
    def model(self, theta):
        """The Gibbs model of a vector of couplings."""
        a_pairs, b, levels, c_units = np.split(np.asarray(theta, float), self.cuts)
        a, c = np.zeros((self.n_units,) * 2), np.array(self.fixed_c, float)
        i, j = self.pairs.T
        a[i, j] = a[j, i] = a_pairs
        c[self.units] = c_units
        V = None
        if self.levels:
            V = np.zeros(self.n_units + 1)
            for value, level in zip(levels, self.levels, strict=True):
                V[list(level)] = value
        return GibbsModel(c, a, V, dict(zip(self.lags, b, strict=True)))

    def theta(self, model):
        """The vector of couplings of a model (of those that are free here)."""
        i, j = self.pairs.T
        V = np.zeros(self.n_units + 1) if model.V is None else model.V
        b = [model.b.get(k, 0.0) for k in self.lags]
        return np.concatenate([model.a[i, j], b, [V[level[0]] for level in self.levels], model.c[self.units]])

    # ---- operators
    def values(self, stretches, dtype=float):
        """O of every stretch: (R, T, N) of 0/1 to (R, size)."""
        x = np.ascontiguousarray(stretches, dtype=dtype)
        n_stretches, n_bins = x.shape[:2]
        out = np.empty((n_stretches, self.size), dtype)
        n_pairs, n_lags, n_levels, _ = self.sizes
        if n_pairs:
            i, j = self.pairs.T
            if n_bins == 1:
                np.multiply(x[:, 0, i], x[:, 0, j], out=out[:, :n_pairs])
            else:
                out[:, :n_pairs] = (x.transpose(0, 2, 1) @ x)[:, i, j]
        for number, k in enumerate(self.lags, n_pairs):
            out[:, number] = (x[:, k:] * x[:, :-k]).sum(axis=(1, 2)) if k < n_bins else 0
        if n_levels:
            count = x.sum(axis=2).astype(np.intp)
            for number, level in enumerate(self.levels, n_pairs + n_lags):
                out[:, number] = np.isin(count, level).sum(axis=1)
        out[:, n_pairs + n_lags + n_levels :] = x.sum(axis=1)[:, self.units]
        return out

    def total(self, raster):
        """O of one raster (T, N), by matrix products."""
        x = np.asarray(raster)
        out = np.zeros(self.size)
        n_pairs, n_lags, n_levels, _ = self.sizes
        rows = max(CHUNK // self.n_units, 1)
        second = np.zeros((self.n_units,) * 2)
        for start in range(0, len(x), rows):
            part = x[start : start + rows].astype(float)
            second += part.T @ part
        i, j = self.pairs.T
        out[:n_pairs] = second[i, j]
        for number, k in enumerate(self.lags, n_pairs):
            out[number] = np.count_nonzero(x[k:] & x[:-k])
        if n_levels:
            count = np.bincount(x.sum(axis=1, dtype=np.intp), minlength=self.n_units + 1)
            out[n_pairs + n_lags : n_pairs + n_lags + n_levels] = [count[list(level)].sum() for level in self.levels]
        out[n_pairs + n_lags + n_levels :] = second.diagonal()[self.units]
        return out

    def chunk(self):
        """Stretches whose operators fit into one table."""
        return max(CHUNK // max(self.size, 1), 64)


def blocks_of(operators, rasters, start, stop, edges):
    """O of the rows between consecutive edges of all trials in sequence, (blocks, size); a term that joins two bins
    counts in the block of the later one."""
    first = np.concatenate([[0], np.cumsum([len(r) for r in rasters])])
    longest = max(operators.lags, default=0)
    out = np.zeros((len(edges) - 1, operators.size))
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        for raster, origin in zip(rasters, first[:-1], strict=True):
            a, b = max(low, start, origin) - origin, min(high, stop, origin + len(raster)) - origin
            if a < b:
                before = max(a - longest, max(start - origin, 0))
                out[number] += operators.total(raster[before:b])
                if before < a:
                    out[number] -= operators.total(raster[before:a])
    return out


def free_operators(model, rasters, lags=(), ridge=0.0):
    """The couplings of a family whose maximum is finite on these rasters.

    Parameters
    ----------
    model : {"independent", "pairwise", "k-pairwise", "neural"}
    rasters : list of int8 arrays (T, N)
        The training stretch.
    lags : tuple of int
        Of b; ``neural`` only.
    ridge : float
        With a penalty on pairs all pairs of active units stay.

    Returns
    -------
    operators : Operators
    unbounded : list of str
        Couplings whose maximum lies at infinity.
    notes : list of str

    Raises
    ------
    InputError
        No unit both spikes and pauses.
    """
    n = rasters[0].shape[1]
    n_rows = sum(len(r) for r in rasters)
    everything = Operators(n, np.argwhere(np.triu(np.ones((n, n), bool), 1)), (), (), np.arange(n), np.zeros(n))
    total = sum(everything.total(r) for r in rasters)
    fires, together = total[len(everything.pairs) :], total[: len(everything.pairs)]
    bounded = (fires > 0) & (fires < n_rows)
    if not bounded.any():
        raise InputError(f"no unit both spikes and pauses within the {n_rows} training bins: nothing to fit")
    i, j = everything.pairs.T
    exists = bounded[i] & bounded[j]
    if model == "independent":
        exists[:] = False
    lost = np.zeros(0, int)
    if ridge == 0:
        four = (together > 0) & (together < fires[i]) & (together < fires[j])
        four &= n_rows - fires[i] - fires[j] + together > 0
        lost = np.flatnonzero(exists & ~four)
        exists &= four
    rate = (fires + 0.5) / (n_rows + 1)
    fixed = np.where(bounded, 0.0, np.log(rate / (1 - rate)))
    levels, notes, merged = (), [], []
    if model == "k-pairwise":
        levels, merged = _levels(rasters, n)
    silent = np.flatnonzero(~bounded)
    if len(silent):
        notes.append(
            f"{len(silent)} of {n} units never (or always) fire in training: {_some(f'I[{u}]' for u in silent)}; their "
            "I is the Krichevsky-Trofimov estimate, without error"
        )
    if len(lost):
        names = [f"A[{i[k]},{j[k]}]" for k in lost]
        notes.append(
            f"{len(lost)} pairs have no finite maximum: {_some(names)}; fixed at A = 0, without error "
            "(ridge > 0 keeps them)"
        )
    if merged:
        notes.append(
            f"{len(merged)} numbers of spikes never occur: {_some(f'V[{k}]' for k in merged)}; V there is that of the "
            "next lower number that occurs"
        )
    unbounded = [f"I[{u}]" for u in silent] + [f"A[{i[k]},{j[k]}]" for k in lost] + [f"V[{k}]" for k in merged]
    free = Operators(n, everything.pairs[exists], tuple(lags), levels, np.flatnonzero(bounded), fixed)
    return free, unbounded, notes


def _levels(rasters, n):
    """Groups of numbers of spikes from 3 on, each beginning with one that occurs, and the numbers that do not."""
    count = sum(np.bincount(r.sum(axis=1, dtype=np.intp), minlength=n + 1) for r in rasters)
    groups, merged = [], []
    for k in range(3, n + 1):
        if count[k]:
            groups.append([k])
        else:
            merged.append(k)
            if groups:
                groups[-1].append(k)
    return tuple(tuple(g) for g in groups), merged


def _some(names):
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def start_theta(operators, rasters):
    """Independent units: c at the log-odds of the rates, everything else 0."""
    rows = sum(len(r) for r in rasters)
    fires = sum(r.sum(axis=0, dtype=float) for r in rasters)[operators.units]
    theta = np.zeros(operators.size)
    theta[operators.size - len(operators.units) :] = np.log(fires / (rows - fires))
    return theta


def sandwich(operators, information, rasters, stop, expected, n_blocks=None):
    """Influences of blocks of time on theta: the covariance is U^T U (:func:`lft.inference.newton.influences`).

    Scores of a block are its operators minus the expected ones of so many bins.

    Parameters
    ----------
    information : Information
        Of the whole training stretch.
    expected : ndarray (size,)
        <O> of the whole training stretch.

    Returns
    -------
    u : ndarray (blocks, size)
    warning : str or None
    """
    edges = newton.fine_edges(stop, operators.size, n_blocks)
    values = blocks_of(operators, rasters, 0, stop, edges)
    scores = values - np.diff(edges)[:, None] / stop * values.sum(axis=0)
    scores -= (np.diff(edges)[:, None] / stop) * (expected - values.sum(axis=0))
    warning = None
    if n_blocks is None and len(scores) > 1:
        u = newton.influences(information, scores)
        parts = [part for part in np.split(u, operators.cuts, axis=1) if part.shape[1]]
        longest = max(operators.lags, default=0)
        scores, warning = newton.merge_blocks(scores, parts, stop, longest)
    return newton.influences(information, scores), warning
