"""Pseudo-log-likelihoods of Gibbs models of 0/1 units: value, gradient and information, for any of their families.

    L(theta) = sum_ia log P(phi_i^a | rest) = sum_ia [ phi_i^a z_i^a - log(1 + exp(z_i^a)) ]

over the target units i and the rows a, with the log-odds z of :mod:`lft.inference.pseudo.layout` (J. Besag, doi
10.2307/2987782).  L is concave.  Value and gradient are summed in double precision by the loops of
``lft/_kernels/c/pseudo_rows.c``: about 2 N additions per spike and a logistic per unit and bin.  Ranks share
the target units; results have the same bits on any number.
"""

from __future__ import annotations

import copy

import numpy as np

from lft import threads
from lft.cached import aligned as aligned_zeros
from lft.errors import InputError
from lft.inference.pseudo import patterns as pattern_lists
from lft.inference.pseudo.information import information
from lft.inference.pseudo.layout import Layout, all_pairs, levels_of
from lft.inference.pseudo.patterns import LANES
from lft.inference.trials import checked_lags, checked_rasters

ROOM_BYTES = 256 * 2**20




class GibbsObjective:
    """A pseudo-log-likelihood as described by :class:`lft.inference.protocols.Objective`.

    Rows are numbered from 0 within the ranges that are fitted; where the fit is one stretch from the first bin
    (``over`` not used), rows from ``n_rows`` on are the held-out bins and may be scored.

    Parameters
    ----------
    patterns : Patterns
    layout : Layout
    ranges : list of (int, int)
        Stretches of rows that are fitted.
    comm : mpi4py communicator or None
        Ranks that share the target units; every method but ``names``, ``kinds`` and ``groups`` is then collective.
    """

    def __init__(self, patterns, layout, ranges, comm=None):
        self.patterns, self.layout, self.comm = patterns, layout, comm
        self.ranges = [(int(a), int(b)) for a, b in ranges]
        self.size, self.n_rows = layout.size, sum(b - a for a, b in self.ranges)
        self.matrix = layout.matrix()
        self.adjoint = self.matrix.T.tocsr()
        self.is_target = np.zeros(layout.n_units, bool)
        self.is_target[layout.units] = True
        self._observed, self._room, self._owner, self._last = {}, None, None, None
        rank, size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
        self.tiles_of_rank = [patterns.n_tiles * r // size for r in range(size + 1)]
        self.tiles = range(self.tiles_of_rank[rank], self.tiles_of_rank[rank + 1])

    @property
    def longest_lag(self):
        """Longest lag in rows."""
        return max([*self.layout.lags, *self.layout.directed_lags], default=0)

    def names(self):
        return self.layout.names()

    def kinds(self):
        return self.layout.kinds()

    def groups(self):
        return self.layout.groups()

    def start(self):
        """Independent units: log-odds of the rates, everything else 0."""
        theta = np.zeros(self.size)
        if len(self.layout.units):
            rate = self._data(self.ranges)[self.layout.units, -1] / self.n_rows
            if np.any((rate <= 0) | (rate >= 1)):
                i = int(self.layout.units[np.flatnonzero((rate <= 0) | (rate >= 1))[0]])
                raise InputError(f"unit {i} never (or always) fires in the rows of the fit: leave it out")
            theta[self.layout.first[4] :] = np.log(rate / (1 - rate))
        return theta

    # ---- likelihood
    def evaluate(self, theta):
        """Log-likelihood (nats), gradient, and a callable ``extra -> Information`` of H + diag(extra)."""
        theta = np.asarray(theta, float)
        value, gradient = self._sums(theta, self.ranges)
        return value, gradient, lambda extra=None: information(self, theta, extra)

    def score(self, theta, start, stop):
        """Gradient of the rows ``start <= row < stop``."""
        return self._sums(np.asarray(theta, float), self._stretch(start, stop))[1]

    def log_likelihood(self, theta, start, stop):
        """Log-likelihood of these rows, in nats."""
        return self._sums(np.asarray(theta, float), self._stretch(start, stop))[0]

    def over(self, ranges):
        """The same problem restricted to ranges of rows; neighbors in time across their borders are read."""
        part = copy.copy(self)
        part.ranges = [piece for a, b in ranges for piece in self._stretch(a, b)]
        part.n_rows = sum(b - a for a, b in part.ranges)
        part._observed, part._room, part._owner, part._last = {}, None, None, None
        return part

    def _stretch(self, start, stop):
        """Rows of the raster behind rows of the fit."""
        if self.ranges == [(0, self.n_rows)]:
            if not 0 <= start <= stop <= self.patterns.n_rows:
                raise InputError(f"rows {start} to {stop}: valid are 0 to {self.patterns.n_rows}")
            return [(int(start), int(stop))]
        if not 0 <= start <= stop <= self.n_rows:
            raise InputError(f"rows {start} to {stop}: valid are 0 to {self.n_rows}")
        out, done = [], 0
        for a, b in self.ranges:
            low, high = max(start - done, 0), min(stop - done, b - a)
            if low < high:
                out.append((int(a + low), int(a + high)))
            done += b - a
        return out

    def _sums(self, theta, ranges):
        """Value and gradient; those of the last point are remembered, for the score of the training rows."""
        if self._last is not None and self._last[0] == ranges and np.array_equal(self._last[1], theta):
            return self._last[2], self._last[3].copy()
        weights = (self.matrix @ theta).reshape(self.layout.n_units, -1)
        expected, softplus = self.expected(weights, ranges)
        data = self._data(ranges)
        units = self.layout.units
        value = float((data[units] * weights[units]).sum() - softplus[units].sum())
        gradient = self.adjoint @ (data - expected).ravel()
        self._last = (ranges, theta.copy(), value, gradient.copy()) if ranges == self.ranges else self._last
        return value, gradient

    def _data(self, ranges, keep=True):
        """Sums of feature times spike over rows: (n_units, n_features), integers as float."""
        key = tuple(ranges)
        if key in self._observed:
            return self._observed[key]
        total = np.zeros((self.layout.n_features, self.layout.n_units))
        for a, b in ranges:
            shared, own, spikes = self.patterns.observed(a, b)
            n = self.layout.n_shared
            total[:n] += shared
            total[n:-1] += own
            total[-1] += spikes
        total = np.ascontiguousarray(total.T)
        if keep:
            if len(self._observed) > 3:
                self._observed.clear()
            self._observed[key] = total
        return total

    # ---- sums of the model
    def packed(self, weights, dtype=float):
        """(tiles of this rank, features, LANES) for the loops: shared, own, constant."""
        n, m = weights.shape
        padded = np.zeros((self.patterns.n_tiles * LANES, m), dtype)
        padded[:n] = weights
        tiles = padded.reshape(-1, LANES, m)[self.tiles.start : self.tiles.stop]
        shared, own = self.layout.n_shared, self.layout.n_own
        part = lambda a, b: aligned(tiles[:, :, a:b].transpose(0, 2, 1))  # noqa: E731
        return part(0, shared), part_or_empty(part(shared, shared + own)), aligned(tiles[:, :, -1])

    def gather(self, shared, own, constant):
        """The inverse of :meth:`packed`, from all ranks: (n_units, n_features)."""
        n_own = self.layout.n_own
        parts = [shared, own[:, :n_own], constant[:, None, :]]
        mine = np.ascontiguousarray(np.concatenate(parts, axis=1).transpose(0, 2, 1))
        return self.whole(mine.reshape(-1, self.layout.n_features))

    def whole(self, mine):
        """Rows of the targets of all ranks from those of this one, (n_units, ...)."""
        mine = np.ascontiguousarray(mine, float)
        if self.comm is None or self.comm.Get_size() == 1:
            return mine[: self.layout.n_units]
        width = int(np.prod(mine.shape[1:]))
        total = np.empty((self.patterns.n_tiles * LANES, *mine.shape[1:]))
        counts = np.diff(self.tiles_of_rank) * LANES * width
        self.comm.Allgatherv(mine, [total, counts])
        return total[: self.layout.n_units]

    def expected(self, weights, ranges):
        """Sums of feature times probability, (n_units, n_features), and of log(1 + exp z), (n_units,)."""
        shared, own, constant = self.packed(weights)
        out, out_own, total, softplus = (np.zeros(a.shape) for a in (shared, own, constant, constant))
        rows, first = self.patterns.rows, self.tiles.start
        for a, b in ranges:
            rows.expect(first, a, b, shared, own, constant, out, out_own, total, softplus, threads.count())
        return self.gather(out, out_own, total), self.whole(softplus.reshape(-1))

    def product(self, weights, along, owner=None):
        """Sums over the fitted rows of feature times p (1 - p) u, u the log-odds of the weights ``along``.

        In single precision.  p (1 - p) of all rows is kept for the products of one ``owner``, who always comes with the
        same weights, where it takes no more than 256 MB.
        """
        kept = None if owner is None else self._kept()
        is_kept, self._owner = kept is not None and self._owner is owner, owner
        at, to = self.packed(weights, np.float32), self.packed(along, np.float32)
        shared, own, constant = (np.zeros(a.shape) for a in at)
        n_tiles = max(len(self.tiles), 1)
        scratch = aligned_zeros((n_tiles, self.layout.n_features * LANES), np.float32)
        none = np.zeros((n_tiles, 1), np.float32)
        for place, (a, b) in enumerate(self.ranges):
            room = none if kept is None else kept[place]
            self.patterns.rows.product(
                self.tiles.start, a, b, *at, *to, scratch, shared, own, constant, room, kept is not None, is_kept,
                threads.count(),
            )  # fmt: skip
        return self.gather(shared, own, constant)

    def _kept(self):
        """Room for p (1 - p) of the rows of each range and the targets of this rank; None where it is too much."""
        if self._room is None and 4 * self.patterns.n_tiles * LANES * self.n_rows <= ROOM_BYTES:
            n_tiles = max(len(self.tiles), 1)
            self._room = [aligned_zeros((n_tiles, (b - a) * LANES), np.float32) for a, b in self.ranges]
        return self._room


def part_or_empty(array):
    """Loops take the address of the first element: never an empty middle axis."""
    return array if array.shape[1] else np.zeros((array.shape[0], 1, array.shape[2]), array.dtype)


def aligned(array):
    """A C-contiguous copy on a 64-byte boundary."""
    out = aligned_zeros(array.shape, array.dtype)
    out[...] = array
    return out


# ---- families
def gibbs_objective(rasters, *, n_train=None, units=None, pairs=None, lags=(), k_max=0, directed=None,
                    is_counted=False, comm=None):  # fmt: skip
    """The pseudo-log-likelihood of any sum of terms.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1; several are trials.
    n_train : int, optional
        Rows that are fitted, from the first; default all.
    units : sequence of int, optional
        Target units; default those that both spike and pause in the training rows.
    pairs : ndarray (n_pairs, 2), optional
        Pairs i < j with a coupling a; default all of the units.
    lags : sequence of int
        Of the memory b.
    k_max : int
        Directed couplings C_ij(k) for k = 1 ... k_max.
    directed : ndarray (n, 3), optional
        (lag, target, source) of the C; default all of the units.
    is_counted : bool
        Whether there is a V(K).
    comm : mpi4py communicator, optional

    Returns
    -------
    GibbsObjective
    """
    rasters = checked_rasters(rasters)
    lags = checked_lags(lags, rasters)
    n = rasters[0].shape[1]
    spikes = pattern_lists.spikes_of(rasters)
    n_rows = len(spikes[1]) - 1
    n_train = n_rows if n_train is None else n_train
    if not 1 <= n_train <= n_rows:
        raise InputError(f"n_train = {n_train!r}: valid are 1 to the number of bins, {n_rows}")
    if units is None:
        fires = np.bincount(spikes[2][: spikes[1][n_train]], minlength=n)
        units = np.flatnonzero((fires > 0) & (fires < n_train))
        if not len(units):
            raise InputError(f"no unit both spikes and pauses within the {n_train} training bins: nothing to fit")
    return assemble(spikes, n, n_train, np.asarray(units), pairs, lags, k_max, directed, is_counted, comm)


def assemble(spikes, n, n_train, units, pairs=None, lags=(), k_max=0, directed=None, is_counted=False, comm=None):
    """:func:`gibbs_objective` from lists of spikes instead of rasters."""
    pairs = all_pairs(n, units) if pairs is None else np.asarray(pairs, np.int64).reshape(-1, 2)
    directed_lags = tuple(range(1, k_max + 1))
    if directed is None and k_max:
        grid = np.meshgrid(directed_lags, units, units, indexing="ij")
        directed = np.stack([g.ravel() for g in grid], axis=1)
    level = None
    if is_counted:
        counts = np.diff(spikes[1])[:n_train]
        level, _ = levels_of(np.bincount(counts, minlength=n + 1) > 0, n)
    layout = Layout(n, units, pairs, tuple(lags), directed, directed_lags, level)
    lists = pattern_lists.build(n, spikes, shifts=layout.shifts, lags=layout.lags, counts=is_counted)
    return GibbsObjective(lists, layout, [(0, n_train)], comm)


def independent_objective(rasters, **options):
    """c alone."""
    return gibbs_objective(rasters, pairs=np.zeros((0, 2), np.int64), **options)


def pairwise_objective(rasters, **options):
    """a and c: the maximum-entropy model of equal-time pairs.

    Examples
    --------
    >>> import numpy as np
    >>> raster = (np.random.default_rng(0).random((500, 3)) < 0.3).astype(np.int8)
    >>> objective = pairwise_objective(raster, n_train=400)
    >>> objective.names()
    ['a[0,1]', 'a[0,2]', 'a[1,2]', 'c[0]', 'c[1]', 'c[2]']
    >>> value, gradient, make = objective.evaluate(objective.start())
    >>> make(None).solve(gradient).shape
    (6,)
    """
    return gibbs_objective(rasters, **options)


def neural_objective(rasters, *, lags=(1,), **options):
    """a, b, c: the space-time theory (A, B, I)."""
    return gibbs_objective(rasters, lags=lags, **options)


def k_pairwise_objective(rasters, **options):
    """a, V(K), c."""
    return gibbs_objective(rasters, is_counted=True, **options)


def lagged_objective(rasters, *, k_max=1, **options):
    """a, C(k) for k = 1 ... k_max, c."""
    return gibbs_objective(rasters, k_max=k_max, **options)
