"""Which couplings a Gibbs model has, and the operators that are conjugate to them.

    W = theta . O,        O = (phi_i phi_j of the pairs, sum_i phi_i^a phi_i^(a+k) of the lags,
                               phi_i^a phi_j^(a-k) of the directed couplings, 1[K in level], phi_i)

summed over the bins of a stretch.  Maximum likelihood equates <O> of the model with O of the recording; the information
is the covariance of O.  All operators are integers, so sums of them are exact and their order does not matter.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import numpy as np

from lft.errors import InputError
from lft.inference import held, newton
from lft.inference.likelihood.model import GibbsModel

KINDS = "abCVc"
CHUNK = 1 << 22  # entries of a table of operators that is made at once


@dataclass(frozen=True, eq=False)
class Operators:
    """The free couplings, ``theta = (a of the pairs, b of the lags, C directed, V of the levels, c of the units)``.

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
    directed : ndarray (n_directed, 3)
        (lag, target, source) of C; others are 0.
    k_max : int
        Longest lag of C, free or not.
    fixed_V : ndarray (N + 1,) or None
        Part of V that is not free: its continuation above the largest number that occurs
        (:mod:`lft.inference.likelihood.counts`).
    held : ndarray of int
        Places of couplings that a prior keeps finite (:mod:`lft.inference.held`).
    """

    n_units: int
    pairs: np.ndarray
    lags: tuple
    levels: tuple
    units: np.ndarray
    fixed_c: np.ndarray
    directed: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))
    k_max: int = 0
    fixed_V: np.ndarray | None = None
    held: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    @property
    def sizes(self):
        """Numbers of couplings of the five kinds."""
        return len(self.pairs), len(self.lags), len(self.directed), len(self.levels), len(self.units)

    @property
    def at(self):
        """Place of each kind in theta, slices by ``a``, ``b``, ``C``, ``V``, ``c``."""
        ends = np.cumsum(self.sizes).tolist()
        return dict(zip(KINDS, itertools.starmap(slice, itertools.pairwise([0, *ends])), strict=True))

    @property
    def longest(self):
        """Longest lag of any coupling, 0 for a static model."""
        return max([*self.lags, self.k_max])

    def by_lag(self):
        """(lag, places among the directed couplings, targets, sources) of each lag that has any."""
        for k in np.unique(self.directed[:, 0]).tolist():
            places = np.flatnonzero(self.directed[:, 0] == k)
            yield k, places, self.directed[places, 1], self.directed[places, 2]

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
            + [f"C[{k},{i},{j}]" for k, i, j in self.directed]
            + [f"V[{level[0]}]" for level in self.levels]
            + [f"c[{i}]" for i in self.units]
        )

    # ---- couplings
    def model(self, theta):
        """The Gibbs model of a vector of couplings."""
        a_pairs, b, late, levels, c_units = np.split(np.asarray(theta, float), self.cuts)
        a, c = np.zeros((self.n_units,) * 2), np.array(self.fixed_c, float)
        i, j = self.pairs.T
        a[i, j] = a[j, i] = a_pairs
        c[self.units] = c_units
        V = None
        if self.levels or self.fixed_V is not None:
            V = np.zeros(self.n_units + 1) if self.fixed_V is None else self.fixed_V.copy()
            for value, level in zip(levels, self.levels, strict=True):
                V[list(level)] += value
        C = None
        if self.k_max:
            C = np.zeros((self.k_max, self.n_units, self.n_units))
            k, i, j = self.directed.T
            C[k - 1, i, j] = late
        return GibbsModel(c, a, V, dict(zip(self.lags, b, strict=True)), C)

    def theta(self, model):
        """The vector of couplings of a model (of those that are free here)."""
        i, j = self.pairs.T
        V = np.zeros(self.n_units + 1) if model.V is None else model.V
        b = [model.b.get(k, 0.0) for k in self.lags]
        C = np.zeros((self.k_max, self.n_units, self.n_units))
        C[: len(model.C)] = model.C[: self.k_max]
        k, target, source = self.directed.T
        late, levels = C[k - 1, target, source], [V[level[0]] for level in self.levels]
        return np.concatenate([model.a[i, j], b, late, levels, model.c[self.units]])

    # ---- operators
    def values(self, stretches, dtype=float):
        """O of every stretch: (R, T, N) of 0/1 to (R, size)."""
        x = np.ascontiguousarray(stretches, dtype=dtype)
        n_stretches, n_bins = x.shape[:2]
        out = np.empty((n_stretches, self.size), dtype)
        at = self.at
        if len(self.pairs):
            i, j = self.pairs.T
            if n_bins == 1:
                np.multiply(x[:, 0, i], x[:, 0, j], out=out[:, at["a"]])
            else:
                out[:, at["a"]] = (x.transpose(0, 2, 1) @ x)[:, i, j]
        for number, k in enumerate(self.lags, at["b"].start):
            out[:, number] = (x[:, k:] * x[:, :-k]).sum(axis=(1, 2)) if k < n_bins else 0
        for k, places, i, j in self.by_lag():
            late = (x[:, k:].transpose(0, 2, 1) @ x[:, :-k])[:, i, j] if k < n_bins else 0
            out[:, at["C"].start + places] = late
        if self.levels:
            count = x.sum(axis=2).astype(np.intp)
            for number, level in enumerate(self.levels, at["V"].start):
                out[:, number] = np.isin(count, level).sum(axis=1)
        out[:, at["c"]] = x.sum(axis=1)[:, self.units]
        return out

    def sparse_values(self, bins):
        """O of every bin of a static model: (R, N) of 0/1 to a sparse (R, size), of which silent bins hold nothing."""
        from scipy.sparse import csr_array

        place = np.full((self.n_units,) * 2, -1)
        i, j = self.pairs.T
        place[i, j] = self.at["a"].start + np.arange(len(self.pairs))
        place[self.units, self.units] = self.at["c"].start + np.arange(len(self.units))
        count = np.asarray(bins).sum(axis=1, dtype=np.intp)
        rows, columns = [], []
        for k in np.unique(count[count > 0]):
            here = np.flatnonzero(count == k)
            active = np.nonzero(bins[here])[1].reshape(len(here), k)
            first, second = np.triu_indices(int(k))
            columns.append(place[active[:, first], active[:, second]].ravel())
            rows.append(np.repeat(here, len(first)))
        for number, level in enumerate(self.levels, self.at["V"].start):
            rows.append(np.flatnonzero(np.isin(count, level)))
            columns.append(np.full(len(rows[-1]), number))
        row, column = (np.concatenate(x) if x else np.zeros(0, int) for x in (rows, columns))
        row, column = row[column >= 0], column[column >= 0]
        return csr_array((np.ones(len(row)), (row, column)), shape=(len(bins), self.size))

    def total(self, raster):
        """O of one raster (T, N), by matrix products."""
        x = np.asarray(raster)
        out, at = np.zeros(self.size), self.at
        second = self._coincidences(x, 0)
        i, j = self.pairs.T
        out[at["a"]] = second[i, j]
        for number, k in enumerate(self.lags, at["b"].start):
            out[number] = np.count_nonzero(x[k:] & x[:-k])
        for k, places, i, j in self.by_lag():
            out[at["C"].start + places] = self._coincidences(x, k)[i, j]
        if self.levels:
            count = np.bincount(x.sum(axis=1, dtype=np.intp), minlength=self.n_units + 1)
            out[at["V"]] = [count[list(level)].sum() for level in self.levels]
        out[at["c"]] = second.diagonal()[self.units]
        return out

    def rarest(self, total, n_rows):
        """How often the rarest joint state of the coupled pairs, or number of spikes, occurs in a recording.

        Parameters
        ----------
        total : ndarray (size,)
            O of the recording.
        n_rows : int
            Its bins.
        """
        fires, at = np.zeros(self.n_units), self.at
        fires[self.units] = total[at["c"]]
        fewest = float(total[at["V"]].min(initial=n_rows))
        for kind, (i, j) in (("a", self.pairs.T), ("C", self.directed[:, 1:].T)):
            both = total[at[kind]]
            for cell in (both, fires[i] - both, fires[j] - both, n_rows - fires[i] - fires[j] + both):
                fewest = min(fewest, float(cell.min(initial=fewest)))
        return fewest

    def _coincidences(self, x, k):
        """sum_a x_i^a x_j^(a-k), in pieces of bounded size."""
        rows, out = max(CHUNK // self.n_units, 1), np.zeros((self.n_units,) * 2)
        for start in range(k, len(x), rows):
            stop = min(start + rows, len(x))
            out += x[start:stop].astype(float).T @ x[start - k : stop - k].astype(float)
        return out

    def chunk(self):
        """Stretches whose operators fit into one table."""
        return max(CHUNK // max(self.size, 1), 64)


def blocks_of(operators, rasters, start, stop, edges):
    """O of the rows between consecutive edges of all trials in sequence, (blocks, size); a term that joins two bins
    counts in the block of the later one."""
    first = np.concatenate([[0], np.cumsum([len(r) for r in rasters])])
    longest = operators.longest
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


def free_operators(model, rasters, lags=(), ridge=0.0, k_max=0):
    """The couplings of a family whose maximum is finite on these rasters, or kept finite.

    Parameters
    ----------
    model : {"pairwise", "k-pairwise", "neural", "lagged"}
    rasters : list of int8 arrays (T, N)
        The training stretch.
    lags : tuple of int
        Of b; ``neural`` only.
    ridge : float
        With a penalty all pairs of active units stay, directed ones too.
    k_max : int
        Lags 1 ... k_max of C; ``lagged`` only.

    Returns
    -------
    operators : Operators
    unbounded : list of str
        Couplings whose maximum lies at infinity and that are fixed; those ``held`` are named with their errors
        (:meth:`lft.inference.likelihood.exact_fit.Problem.without_errors`).
    notes : list of str

    Raises
    ------
    InputError
        No unit both spikes and pauses.
    """
    n = rasters[0].shape[1]
    n_rows = sum(len(r) for r in rasters)
    pairs = np.argwhere(np.triu(np.ones((n, n), bool), 1))
    directed = np.indices((k_max, n, n)).reshape(3, -1).T
    directed[:, 0] += 1
    everything = Operators(n, pairs, (), (), np.arange(n), np.zeros(n), directed, k_max)
    total = sum(everything.total(r) for r in rasters)
    at = everything.at
    fires = total[at["c"]]
    bounded = (fires > 0) & (fires < n_rows)
    if not bounded.any():
        raise InputError(f"no unit both spikes and pauses within the {n_rows} training bins: nothing to fit")
    exists, lost, is_held = [], [], []
    for kind, known, (i, j) in (("a", pairs, pairs.T), ("C", directed, directed[:, 1:].T)):
        here, together = bounded[i] & bounded[j], total[at[kind]]
        kept, unbounded_here = held.judged(together, fires[i], fires[j], n_rows)
        if ridge > 0:
            kept, unbounded_here = np.ones_like(kept), np.zeros_like(kept)
        name = "A" if kind == "a" else "J_lag"
        lost += [f"{name}[{','.join(map(str, known[x]))}]" for x in np.flatnonzero(here & ~kept)]
        exists.append(known[here & kept])
        is_held.append(unbounded_here[here & kept])
    rate = (fires + 0.5) / (n_rows + 1)
    fixed = np.where(bounded, 0.0, np.log(rate / (1 - rate)))
    levels, notes, merged = (), [], []
    if model == "k-pairwise":
        levels, merged = _levels(rasters, n)
    silent = np.flatnonzero(~bounded)
    if len(silent):
        notes.append(held.silent_note(fires, n_rows))
    i, j = pairs.T
    twins = held.twin_note(pairs[bounded[i] & bounded[j] & held.twins(total[at["a"]], fires[i], fires[j])])
    if twins:
        notes.append(twins)
    if lost:
        notes.append(held.fixed_note(lost))
    if merged:
        notes.append(
            f"{len(merged)} numbers of spikes never occur: {held.some([f'V[{k}]' for k in merged])}; V there is that "
            "of the next lower number that occurs, and above the largest falls so that no state of more has weight"
        )
    unbounded = [f"I[{u}]" for u in silent] + lost + [f"V[{k}]" for k in merged]
    free = Operators(n, exists[0], tuple(lags), levels, np.flatnonzero(bounded), fixed, exists[1], k_max)
    places = [free.at[kind].start + np.flatnonzero(h) for kind, h in zip("aC", is_held, strict=True)]
    return replace(free, held=np.concatenate(places)), unbounded, notes


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
        longest = operators.longest
        scores, warning = newton.merge_blocks(scores, parts, stop, longest)
    return newton.influences(information, scores), warning
