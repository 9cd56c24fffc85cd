"""Pseudo-log-likelihoods of Gibbs models of 0/1 units: value, gradient and information, for any of their families.

    L(theta) = sum_ia log P(phi_i^a | rest) = sum_ia [ phi_i^a z_i^a - log(1 + exp(z_i^a)) ]

over the target units i and the rows a, with the log-odds z of :mod:`lft.inference.pseudo.layout` (J. Besag, doi
10.2307/2987782).  L is concave.  Value and gradient are summed in double precision by the loops of
``lft/_kernels/c/pseudo_rows.c``: about 2 N additions per spike and a logistic per unit and bin.  Ranks share
the target units; results have the same bits on any number.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class _Point:
    """What one pass over the fitted rows leaves behind.

    Attributes
    ----------
    theta : ndarray (size,)
    value : float
    gradient : ndarray (size,)
    variance : ndarray (n_units,)
        Sums of p (1 - p).
    """

    theta: np.ndarray
    value: float
    gradient: np.ndarray
    variance: np.ndarray


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
        self._forget()
        rank, size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
        self.tiles_of_rank = [patterns.n_tiles * r // size for r in range(size + 1)]
        self.tiles = range(self.tiles_of_rank[rank], self.tiles_of_rank[rank + 1])

    def _forget(self):
        """Nothing is known of the rows that are fitted: data, last evaluation, room for p (1 - p)."""
        self._data = self._last = self._room = self._room_of = None

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
            rate = self.data[self.layout.units, -1] / self.n_rows
            if np.any((rate <= 0) | (rate >= 1)):
                i = int(self.layout.units[np.flatnonzero((rate <= 0) | (rate >= 1))[0]])
                raise InputError(f"unit {i} never (or always) fires in the rows of the fit: leave it out")
            theta[slice(*self.layout.first[4:6])] = np.log(rate / (1 - rate))
        return theta

    # ---- likelihood
    def evaluate(self, theta):
        """Log-likelihood (nats), gradient, and a callable ``extra -> Information`` of H + diag(extra)."""
        point = self.at(np.asarray(theta, float))
        return point.value, point.gradient.copy(), lambda extra=None: information(self, point.theta, extra)

    def score(self, theta, start, stop):
        """Gradient of the rows ``start <= row < stop``."""
        return self._some(theta, start, stop)[1]

    def log_likelihood(self, theta, start, stop):
        """Log-likelihood of these rows, in nats."""
        if (start, stop) == (0, self.n_rows):
            return self.at(np.asarray(theta, float)).value
        return self._some(theta, start, stop)[0]

    def over(self, ranges):
        """The same problem restricted to ranges of rows; neighbors in time across their borders are read."""
        part = copy.copy(self)
        part.ranges = [piece for a, b in ranges for piece in self._stretch(a, b)]
        part.n_rows = sum(b - a for a, b in part.ranges)
        part._forget()
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

    def pieces(self, edges):
        """(first row, end, block) of the stretches of rows of the raster between edges of rows of the fit."""
        blocks = enumerate(itertools.pairwise(edges))
        out = [(a, b, block) for block, (start, stop) in blocks for a, b in self._stretch(start, stop)]
        return np.array(out, np.int64).reshape(-1, 3)

    def weights(self, theta):
        """R theta, (n_units, n_features)."""
        return (self.matrix @ theta).reshape(self.layout.n_units, -1)

    def at(self, theta):
        """The :class:`_Point` theta; that of the last call is remembered."""
        if self._last is None or not np.array_equal(self._last.theta, theta):
            theta, kept = theta.copy(), self._kept()
            self._last = _Point(theta, *self._sums(theta, self.pieces([0, self.n_rows]), self.data, kept))
            self._room_of = None if kept is None else theta
        return self._last

    def _sums(self, theta, pieces, data, kept=None):
        """Value, gradient, and sums of p (1 - p) over some rows."""
        weights, units = self.weights(theta), self.layout.units
        expected, softplus, variance = self.expected(weights, pieces, kept=kept)
        value = float((data[units] * weights[units]).sum() - softplus[units].sum())
        return value, self.adjoint @ (data - expected[0]).ravel(), variance

    def _some(self, theta, start, stop):
        pieces = self.pieces([start, stop])
        return self._sums(np.asarray(theta, float), pieces, self.patterns.observed(pieces)[0])

    @property
    def data(self):
        """Sums of feature times spike over the fitted rows: (n_units, n_features), integers as float."""
        if self._data is None:
            self._data = self.patterns.observed(self.pieces([0, self.n_rows]))[0]
        return self._data

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
        """The inverse of :meth:`packed`, from all ranks: (blocks, n_units, n_features)."""
        n_blocks, n_own = len(shared), self.layout.n_own
        mine = np.concatenate([shared, own[:, :, :n_own], constant[:, :, None, :]], axis=2).transpose(1, 3, 0, 2)
        return self.whole(mine.reshape(-1, n_blocks, self.layout.n_features)).transpose(1, 0, 2)

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

    def expected(self, weights, pieces, n_blocks=1, kept=None):
        """Sums of feature times probability, (n_blocks, n_units, n_features); of log(1 + exp z) and of p (1 - p) over
        all pieces, (n_units,)."""
        parts = self.sums(weights, pieces, n_blocks, kept)
        return self.gather(*parts[:3]), *(self.whole(part.sum(axis=0).reshape(-1)) for part in parts[3:])

    def sums(self, weights, pieces, n_blocks=1, kept=None, tiles=None):
        """What the loop adds up for some of the tiles of this rank, default all: shared, own, constant, softplus and
        variance, each (n_blocks, tiles, ...)."""
        tiles = self.tiles if tiles is None else tiles
        first = tiles.start - self.tiles.start
        shared, own, constant = (part[first : first + len(tiles)] for part in self.packed(weights))
        out = [np.zeros((n_blocks, *a.shape)) for a in (shared, own, constant, constant, constant)]
        kept = np.zeros((len(tiles), 0), np.float32) if kept is None else kept
        self.patterns.rows.expect(tiles.start, pieces, shared, own, constant, *out, kept, threads.count())
        return out

    def product(self, theta, along):
        """Sums over the fitted rows of feature times p (1 - p) u, (n_units, n_features), u the log-odds of the weights
        ``along``, in single precision.

        p (1 - p) is read from where the pass at theta has left it, unless it would take more than 256 MB.
        """
        kept = self._kept()
        if kept is not None and not np.array_equal(self._room_of, theta):
            self._last = None  # another pass at theta
            self.at(theta)
        at, to = self.packed(self.weights(theta), np.float32), self.packed(along, np.float32)
        shared, own, constant = (np.zeros((1, *a.shape)) for a in at)
        scratch = aligned_zeros((len(self.tiles), self.layout.n_features * LANES), np.float32)
        kept = np.zeros((len(self.tiles), 0), np.float32) if kept is None else kept
        self.patterns.rows.product(
            self.tiles.start, self.pieces([0, self.n_rows]), *at, *to, scratch, shared[0], own[0], constant[0], kept,
            threads.count(),
        )  # fmt: skip
        return self.gather(shared, own, constant)[0]

    def _kept(self):
        """Room for p (1 - p) of the fitted rows and the targets of this rank; None where it is too much."""
        if self._room is None and 4 * self.patterns.n_tiles * LANES * self.n_rows <= ROOM_BYTES:
            self._room = aligned_zeros((len(self.tiles), self.n_rows * LANES), np.float32)
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


def assemble(spikes, n, n_train, units, pairs=None, lags=(), k_max=0, directed=None, is_counted=False, comm=None,
             drive=None, driven=None):  # fmt: skip
    """:func:`gibbs_objective` from lists of spikes instead of rasters, with inputs (``drive_of``) on (unit, input)."""
    pairs = all_pairs(n, units) if pairs is None else np.asarray(pairs, np.int64).reshape(-1, 2)
    directed_lags = tuple(range(1, k_max + 1))
    if directed is None and k_max:
        grid = np.meshgrid(directed_lags, units, units, indexing="ij")
        directed = np.stack([g.ravel() for g in grid], axis=1)
    level = None
    if is_counted:
        counts = np.diff(spikes[1])[:n_train]
        level, _ = levels_of(np.bincount(counts, minlength=n + 1) > 0, n)
    values = None if drive is None else drive.table
    layout = Layout(n, units, pairs, tuple(lags), directed, directed_lags, level, values, driven)
    lists = pattern_lists.build(n, spikes, shifts=layout.shifts, lags=layout.lags, counts=is_counted, drive=drive)
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
