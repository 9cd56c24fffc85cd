"""Blocks of units on a graph: pairs by correlation, pairs by distance, parts of a graph; the coarser field.

Units of a graph have no order, so a block is a list of units, a :class:`Partition`.  Three ways to find one:

- :func:`by_correlation`: greedy pairs, the most correlated first (the procedure of L. Meshulam et al.,
  doi 10.1103/PhysRevLett.123.178103, for summed activity);
- :func:`by_distance`: greedy pairs, the closest first;
- :func:`by_partition`: parts of equal size that cut little coupling (recursive spectral bisection, refined by
  exchanges of units as in Kernighan and Lin, doi 10.1002/j.1538-7305.1970.tb01770.x).

:func:`block_graph` makes the field of the blocks with any rule of :data:`lft.rg.blocking.BLOCKINGS`, in time too.
What belongs to no block is in ``Partition.left``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.domain import Domain
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Graph
from lft.rg.blocking import BLOCKINGS, CHUNK_SITES, Blocks, check_rule, flip_coins, plan_blocks
from lft.rng import Key

SPARSE_UNITS = 3000
"""Above this the eigenvector of a bisection is found iteratively, below by dense diagonalization."""
CANDIDATES = 32
"""Units per side among which the best exchange is looked for."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Which unit belongs to which block.

    Attributes
    ----------
    label : ndarray of int, shape (n_units,)
        Number of the block, from 0 without gaps; -1 where the unit belongs to none.
    how : str
        How it was found.

    Examples
    --------
    >>> from lft.rg.graph_blocking import Partition
    >>> p = Partition([0, 1, 1, -1, 0])
    >>> p.n_blocks, p.left.tolist(), [m.tolist() for m in p.members]
    (2, [3], [[0, 4], [1, 2]])
    """

    label: np.ndarray
    how: str = "given"

    def __post_init__(self):
        label = np.asarray(self.label)
        if label.ndim != 1 or not len(label) or label.dtype.kind not in "iu" or label.min() < -1:
            raise InputError("label: valid is one integer >= -1 per unit, -1 for a unit of no block")
        label = label.astype(np.int64)
        found = np.unique(label[label >= 0])
        if not len(found):
            raise InputError("label: every unit is left out; at least one block must have a unit")
        if found[-1] != len(found) - 1:
            missing = int(np.flatnonzero(found != np.arange(len(found)))[0])
            raise InputError(f"label: block {missing} has no unit; valid are numbers from 0 without gaps")
        label.setflags(write=False)
        object.__setattr__(self, "label", label)

    @property
    def n_units(self):
        """Units before blocking."""
        return len(self.label)

    @property
    def n_blocks(self):
        """Units after blocking."""
        return int(self.label.max()) + 1

    @property
    def left(self):
        """Units that belong to no block."""
        return np.flatnonzero(self.label < 0)

    @property
    def sizes(self):
        """Units per block."""
        return np.bincount(self.label[self.label >= 0], minlength=self.n_blocks)

    @property
    def members(self):
        """The units of each block, in increasing order."""
        order = np.argsort(self.label, kind="stable")[len(self.left) :]
        return np.split(order, np.cumsum(self.sizes)[:-1])

    def then(self, coarser):
        """The partition of the first units by a partition of the blocks."""
        if coarser.n_units != self.n_blocks:
            raise InputError(f"partition of {coarser.n_units} units after one with {self.n_blocks} blocks")
        label = np.where(self.label < 0, -1, coarser.label[self.label])
        return Partition(label, f"{self.how}, {coarser.how}")

    def notes(self):
        """What is to be said about it: units that are left out, blocks of different sizes."""
        out, sizes = [], self.sizes
        if len(self.left):
            shown = ", ".join(map(str, self.left[:8])) + (", ..." if len(self.left) > 8 else "")
            out.append(f"{len(self.left)} of {self.n_units} units belong to no block ({self.how}): {shown}")
        if sizes.min() != sizes.max():
            out.append(f"blocks hold {sizes.min()} to {sizes.max()} units ({self.how})")
        return out

    def __repr__(self):
        return f"Partition({self.n_units} units, {self.n_blocks} blocks, {len(self.left)} left, {self.how!r})"


def greedy_pairs(correlation):
    """Disjoint pairs, the largest entry first.

    The largest off-diagonal entry makes the first pair; its two rows and columns are struck out; and so on until no
    pair is left.

    Parameters
    ----------
    correlation : array_like, shape (N, N)
        Symmetric; larger is more alike.  The diagonal is not looked at.  nan: the two are never paired (units that
        never change have no correlation).

    Returns
    -------
    pairs : ndarray of int, shape (n_pairs, 2)
        In the order in which they were found, ``pairs[:, 0] < pairs[:, 1]``.  Equal entries: the lower units first.
    left : ndarray of int
        Units of no pair, increasing: the odd one out, and those with nan alone.

    Raises
    ------
    InputError
        Not a square symmetric matrix of at least two units, or an infinite entry.

    Notes
    -----
    Cost: sorting N(N-1)/2 numbers, 0.5 s for N = 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.graph_blocking import greedy_pairs
    >>> c = np.array([[1, 0.9, 0.8, 0.1, 0], [0.9, 1, 0.7, 0.2, 0], [0.8, 0.7, 1, 0.3, 0],
    ...               [0.1, 0.2, 0.3, 1, 0], [0, 0, 0, 0, 1]])
    >>> pairs, left = greedy_pairs(c)
    >>> pairs.tolist(), left.tolist()
    ([[0, 1], [2, 3]], [4])
    """
    c = _square(correlation, "correlation")
    n = len(c)
    if n < 2:
        raise InputError("correlation of 1 unit: pairs need at least 2")
    if np.isinf(c).any():
        raise InputError("correlation: an entry is infinite; valid are finite numbers, or nan for no pair")
    row, column = np.triu_indices(n, 1)
    values = c[row, column]
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(-values[known], kind="stable")]  # ties keep the order of (row, column)
    is_free, pairs = np.ones(n, bool), []
    for start in range(0, len(order), 4 * n):  # a chunk at a time, without what is already struck out
        part = order[start : start + 4 * n]
        part = part[is_free[row[part]] & is_free[column[part]]]
        for i, j in zip(row[part].tolist(), column[part].tolist(), strict=True):
            if is_free[i] and is_free[j]:
                is_free[i] = is_free[j] = False
                pairs.append((i, j))
        if len(pairs) == n // 2:
            break
    return np.array(pairs, np.int64).reshape(-1, 2), np.flatnonzero(is_free)


def _square(matrix, what):
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise InputError(f"{what} has shape {matrix.shape}: valid is a square matrix, one row per unit")
    if not np.allclose(matrix, matrix.T, rtol=1e-9, atol=1e-12, equal_nan=True):
        raise InputError(f"{what}: the matrix is not symmetric")
    return matrix


def pair_partition(similarity, how="greedy pairs"):
    """The :class:`Partition` of :func:`greedy_pairs`, for any symmetric matrix of likeness (nan: never paired)."""
    pairs, _ = greedy_pairs(similarity)
    n = len(np.asarray(similarity))
    if not len(pairs):
        raise InputError(f"{how}: no two of the {n} units can be paired, every entry is nan")
    label = np.full(n, -1, np.int64)
    label[pairs] = np.arange(len(pairs))[:, None]
    return Partition(label, how)


def by_correlation(activity):
    """Greedy pairs of the units of a field, the most correlated first.

    Parameters
    ----------
    activity : Field on a Graph, or array_like (n_bins, n_units)
        For a matrix of correlations that is at hand: :func:`pair_partition`.

    Returns
    -------
    Partition

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.graph_blocking import by_correlation
    >>> rng = np.random.default_rng(1)
    >>> common = rng.normal(size=(400, 3))
    >>> units = np.concatenate([common, common], axis=1) + 0.5 * rng.normal(size=(400, 6))
    >>> sorted(m.tolist() for m in by_correlation(units).members)
    [[0, 3], [1, 4], [2, 5]]
    """
    if isinstance(activity, Field):
        activity = _checked_graph(activity).values
    return pair_partition(correlations(activity), "pairs by correlation")


def correlations(values, chunk_bins=8192):
    """Correlation coefficients of the columns of (n_bins, n_units); nan for a column that never changes.

    Sums of integers are exact; memory beside the input is one chunk as float and two (N, N) matrices.
    """
    values = np.asarray(values)
    if values.ndim != 2 or len(values) < 2:
        raise InputError(f"values have shape {values.shape}: valid is (n_bins, n_units) with 2 bins or more")
    n_bins, n = values.shape
    shift = values[0].astype(float)  # any constant: keeps the sums small where the mean is large
    first, second = np.zeros(n), np.zeros((n, n))
    for a in range(0, n_bins, chunk_bins):
        x = values[a : a + chunk_bins].astype(float) - shift
        first += x.sum(axis=0)
        second += x.T @ x
    covariance = second / n_bins - np.outer(first, first) / n_bins**2
    constant = (values == values[0]).all(axis=0)
    scale = np.sqrt(np.where(constant, np.nan, np.diag(covariance)))
    c = covariance / np.outer(scale, scale)
    np.fill_diagonal(c, np.where(constant, np.nan, 1.0))
    return (c + c.T) / 2


def by_distance(positions):
    """Greedy pairs of units, the closest first.

    Parameters
    ----------
    positions : array_like, shape (n_units,) or (n_units, n_axes)
        Any unit of length, finite.

    Returns
    -------
    Partition

    Examples
    --------
    >>> from lft.rg.graph_blocking import by_distance
    >>> p = by_distance([[0, 0], [1, 0], [5, 0], [5, 2], [20, 0]])
    >>> [m.tolist() for m in p.members], p.left.tolist()
    ([[0, 1], [2, 3]], [4])
    """
    x = np.asarray(positions, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise InputError(f"positions have shape {x.shape}: valid are finite coordinates of 2 units or more")
    square = np.zeros((len(x), len(x)))
    for axis in x.T:
        square += (axis[:, None] - axis[None, :]) ** 2
    return pair_partition(-square, "pairs by distance")


def block_centers(positions, partition):
    """Mean position of the units of each block, (n_blocks, n_axes): where the coarse units stand."""
    x = np.asarray(positions, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    if len(x) != partition.n_units:
        raise InputError(f"positions of {len(x)} units for a partition of {partition.n_units}")
    keep = partition.label >= 0
    sums = np.stack([np.bincount(partition.label[keep], a[keep], partition.n_blocks) for a in x.T], axis=1)
    return sums / partition.sizes[:, None]


# ---- parts of a graph
def by_partition(weights, n_blocks):
    """Parts of equal size (within one unit) that cut little weight.

    Recursive bisection: the units in the order of the second eigenvector of the Laplacian ``L = D - W``,
    ``D_ii = sum_j W_ij``, are cut in proportion, then units are exchanged across the cut while that lowers the weight
    cut.  A heuristic: the smallest cut is not guaranteed.

    Parameters
    ----------
    weights : array_like or scipy.sparse matrix, shape (N, N)
        Symmetric, finite; its absolute values count (couplings of either sign join), its diagonal does not.
    n_blocks : int
        1 <= n_blocks <= N.

    Returns
    -------
    Partition

    Raises
    ------
    InputError

    Notes
    -----
    Cost: dense diagonalization up to 3000 units, O(N^3), 5 s for 2000 units in 8 parts; above, Lanczos steps on the
    sparse Laplacian, 4 s for 20000 units of degree 6 in 4 parts.

    References
    ----------
    M. Fiedler, Czech. Math. J. 23, 298 (1973); B. W. Kernighan, S. Lin, doi 10.1002/j.1538-7305.1970.tb01770.x.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.graph_blocking import by_partition
    >>> w = np.kron(np.eye(2), np.ones((3, 3)))
    >>> w[2, 3] = w[3, 2] = 0.1
    >>> [m.tolist() for m in by_partition(w, 2).members]
    [[0, 1, 2], [3, 4, 5]]
    """
    w = _weights(weights)
    n = w.shape[0]
    if isinstance(n_blocks, bool) or not isinstance(n_blocks, int | np.integer) or not 1 <= n_blocks <= n:
        raise InputError(f"n_blocks = {n_blocks!r}: valid is an integer from 1 to {n}, the number of units")
    label = np.zeros(n, np.int64)
    todo, done = [(np.arange(n), int(n_blocks))], []
    while todo:
        units, parts = todo.pop()
        if parts == 1:
            done.append(units)
            continue
        low = parts // 2
        # sizes within one unit at the end: each half gets the units of its share of the blocks
        size = low * (len(units) // parts) + min(low, len(units) % parts)
        first, second = _bisect(w[units][:, units], size)
        todo += [(units[first], low), (units[second], parts - low)]
    for number, units in enumerate(sorted(done, key=min)):
        label[units] = number
    return Partition(label, "graph partition")


def _weights(weights):
    """Absolute values without the diagonal: dense for small graphs, CSR for large or sparse input."""
    if hasattr(weights, "tocsr"):
        w = abs(weights.tocsr().astype(float))
        if w.shape[0] != w.shape[1] or abs(w - w.T).max() > 1e-9 * max(w.max(), 1e-300):
            raise InputError(f"weights of shape {w.shape}: valid is a square symmetric matrix, one row per unit")
        if w.shape[0] <= SPARSE_UNITS:
            return _weights(w.toarray())
        if not np.isfinite(w.data).all():
            raise InputError("weights: every entry must be finite")
        w.setdiag(0)
        return w
    w = abs(_square(weights, "weights"))
    if not np.isfinite(w).all():
        raise InputError("weights: every entry must be finite")
    np.fill_diagonal(w, 0)
    if len(w) > SPARSE_UNITS:
        from scipy.sparse import csr_array

        return csr_array(w)
    return w


def _bisect(w, size):
    """Indices of ``size`` units and of the others."""
    order = np.argsort(_second_eigenvector(w), kind="stable")
    side = np.zeros(w.shape[0], bool)
    side[order[:size]] = True
    _exchange(w, side)
    return np.flatnonzero(side), np.flatnonzero(~side)


def _second_eigenvector(w):
    degree = np.asarray(w.sum(axis=1)).reshape(-1)
    n = len(degree)
    if n <= SPARSE_UNITS:
        dense = w.toarray() if hasattr(w, "toarray") else w
        vector = np.linalg.eigh(np.diag(degree) - dense)[1][:, 1]
    else:
        from scipy.sparse import diags_array
        from scipy.sparse.linalg import eigsh

        # largest eigenvalues of (2 max degree - L): no factorization, so memory stays that of the couplings
        shifted = diags_array(2 * degree.max() - degree) + w
        start = np.cos(np.arange(n) + 0.5)
        vector = eigsh(shifted, k=2, which="LA", v0=start, tol=1e-6, maxiter=20 * n)[1][:, 0]
    lead = np.flatnonzero(abs(vector) > 1e-6 * abs(vector).max())[0]
    return vector * np.sign(vector[lead])  # the sign of an eigenvector is arbitrary: fixed, so that results repeat


def _exchange(w, side):
    """Exchange units across the cut, best first, each once per pass; keep the best prefix of a pass."""
    for _ in range(10):
        sign = np.where(side, 1.0, -1.0)
        outside = -(w @ sign) * sign  # weight across the cut minus weight within, of every unit
        is_free, moves, gains = np.ones(len(side), bool), [], []
        trial = side.copy()
        for _ in range(min(int(side.sum()), int((~side).sum()), 200)):
            a, b = (_leading(outside, is_free & s) for s in (trial, ~trial))
            if not len(a) or not len(b):
                break
            between = w[a][:, b]
            between = between.toarray() if hasattr(between, "toarray") else between
            gain = outside[a][:, None] + outside[b][None, :] - 2 * between
            i, j = np.unravel_index(np.argmax(gain), gain.shape)
            moves.append((a[i], b[j]))
            gains.append(gain[i, j])
            is_free[[a[i], b[j]]] = False
            trial[a[i]], trial[b[j]] = False, True
            sign = np.where(trial, 1.0, -1.0)
            outside = -(w @ sign) * sign
        total = np.cumsum(gains)
        if not len(total) or total.max() <= 1e-12 * max(abs(outside).max(), 1e-300):
            return
        for a, b in moves[: int(np.argmax(total)) + 1]:
            side[a], side[b] = False, True


def _leading(outside, allowed):
    where = np.flatnonzero(allowed)
    if len(where) <= CANDIDATES:
        return where
    return where[np.argpartition(-outside[where], CANDIDATES)[:CANDIDATES]]


def cut_weight(weights, partition):
    """Sum of ``|W_ij|`` over pairs i < j in different blocks, units of no block left out."""
    w, label = _weights(weights), partition.label
    w = w.toarray() if hasattr(w, "toarray") else w
    cut = (label[:, None] != label[None, :]) & (label[:, None] >= 0) & (label[None, :] >= 0)
    return float((w * cut).sum() / 2)


# ---- the coarser field
@dataclass(frozen=True)
class _UnitBlocks(Blocks):
    """Blocks of units times runs of bins: columns stand in the order of their block, ``starts`` where one begins."""

    starts: np.ndarray = None
    kept: np.ndarray = None

    def total(self):
        values = np.asarray(self.values)
        wide = np.float64 if values.dtype.kind == "f" else np.int64
        sums = np.add.reduceat(values, self.starts, axis=1, dtype=wide)
        return sums.reshape(-1, self.factor[0], sums.shape[1]).sum(axis=1)

    def keep(self):
        return self.values[self.offset[0] :: self.factor[0]][:, self.kept]


def _checked_graph(field):
    if not isinstance(field, Field) or not isinstance(field.geometry, Graph):
        raise InputError("field: valid is a Field on a Graph (units x bins)")
    if field.domain.local_shape != field.domain.shape:
        raise InputError("blocking works on a whole field, this one is spread over ranks: gather it first")
    return field


def block_graph(field, partition, name, time_factor=1, k=None, seed=0, level=0, offset=0, rescale=1.0, kept=None):
    """The field of the blocks on the coarser graph.

    Parameters
    ----------
    field : Field
        On a Graph, kind spin, gas or real.
    partition : Partition
        Of its units.
    name : str
        A rule of :data:`lft.rg.blocking.BLOCKINGS`, applied to all units and bins of a block at once.
    time_factor : int, optional
        Bins per block; bins at the end that fill no block are left out (``plan_blocks`` says how many).
    k, seed, level, rescale
        As in :func:`lft.rg.blocking.block`.
    offset : int, optional
        Which bin of a block ``decimation`` keeps.
    kept : array_like of int, optional
        Which unit of each block ``decimation`` keeps.  Default: the one with the lowest number.

    Returns
    -------
    Field
        On ``Graph(n_blocks, n_bins // time_factor)``.

    Raises
    ------
    InputError

    Examples
    --------
    >>> import numpy as np
    >>> from lft.field import Field
    >>> from lft.geometry import Graph
    >>> from lft.rg.graph_blocking import Partition, block_graph
    >>> spikes = Field.from_array(Graph(4, 2), "gas", np.array([[1, 0, 0, 0], [1, 1, 0, 0]]))
    >>> pairs = Partition([0, 1, 0, 1])
    >>> block_graph(spikes, pairs, "or").values.tolist(), block_graph(spikes, pairs, "k-of-n", 2, k=2).values.tolist()
    ([[1, 0], [1, 1]], [[1, 0]])
    """
    geometry = _checked_graph(field).geometry
    check_rule(field, name, k, rescale, level)
    if partition.n_units != geometry.n_units:
        raise InputError(f"partition of {partition.n_units} units, the field has {geometry.n_units}")
    plan = plan_blocks(geometry, time_factor, offset=offset, name=name)
    n_times, sizes = plan.coarse.n_bins, partition.sizes
    most = int(sizes.max()) * plan.factor[0]
    if name == "k-of-n" and k > most:
        raise InputError(f"k = {k}: the largest block has {most} units times bins")
    coarse = Graph(partition.n_blocks, n_times, geometry.boundary, plan.coarse.bin_width)
    order = np.concatenate(partition.members)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    kind = "real" if name == "average" else field.kind
    result = Field(coarse, kind, Domain(coarse.storage_shape, coarse.storage_periodic, None))
    b, key, rows = plan.factor[0], Key(seed), max(1, CHUNK_SITES // (plan.factor[0] * geometry.n_units))
    places = _kept_columns(partition, kept, starts)
    n_active = np.broadcast_to((sizes * b).astype(np.int32), (1, len(sizes)))
    for a in range(0, n_times, rows):
        part = slice(a, min(a + rows, n_times))
        values = field.values[part.start * b : part.stop * b][:, order]
        blocks = _UnitBlocks(
            values, field.kind, (b, 1), np.broadcast_to(n_active, (part.stop - a, len(sizes))), k or 0,
            (int(np.ravel(offset)[0]), 0), rescale,
            lambda ties, a=a: flip_coins(ties, key, a * len(sizes), level), starts, places,
        )  # fmt: skip
        result.values[part] = BLOCKINGS[name](blocks)
    result.exchange()
    return result


def _kept_columns(partition, kept, starts):
    if kept is None:
        return starts
    kept = np.asarray(kept)
    if kept.shape != (partition.n_blocks,) or kept.dtype.kind not in "iu":
        raise InputError(f"kept has shape {kept.shape}: valid is one unit per block, {partition.n_blocks}")
    columns = np.empty(partition.n_blocks, np.int64)
    for number, (unit, units) in enumerate(zip(kept, partition.members, strict=True)):
        where = np.flatnonzero(units == unit)
        if not len(where):
            raise InputError(f"kept: unit {unit} does not belong to block {number}")
        columns[number] = starts[number] + where[0]
    return columns
