"""Cross-correlation matrices of all pairs of units (sites), at equal times and lagged.

    covariance:  C_ij(k) = (1/n_k) sum_a (phi_i^a - f_i)(phi_j^(a+k) - f_j)
    pearson:     C_ij(k) / sqrt(var_i var_j)
    raw:         (1/n_k) sum_a phi_i^a phi_j^(a+k)

with n_k pairs of bins and f_i the mean of unit i, so ``C_ij(-k) = C_ji(k)``: i leads j where C_ij(k) is large at
k > 0.  Pairs never cross the border of a configuration.  Counts of binary data are exact integers: sparse products
where few sites are up, else matrix products of single-precision 0/1 numbers, which are exact below 2^24 bins a piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.analysis.source import as_source, ordered_map, site_means
from lft.analysis.spectrum import check_lags
from lft.errors import InputError

KINDS = ("covariance", "pearson", "raw")
MAX_UNITS = 6000
SPARSE_BELOW = 0.05
"""Fraction of sites up below which sparse products are faster."""


@dataclass(frozen=True, eq=False)
class LaggedMatrix:
    """C_ij(k) at one lag.

    Attributes
    ----------
    lag : int
    value, error : ndarray, shape (N, N)
        NaN (``pearson``) where a unit is constant.  The error is that of the covariance, over the same scale.
    n_pairs : int
        Pairs of bins behind each entry.
    kind : str
    """

    lag: int
    value: np.ndarray
    error: np.ndarray
    n_pairs: int
    kind: str

    @property
    def z(self):
        """Value over error, 0 where the error is 0."""
        return np.divide(self.value, self.error, out=np.zeros_like(self.value), where=self.error > 0)


def unit_sites(source):
    """Coordinates of the units, the rows of the matrices: (N, d) over the spatial axes in the user's order."""
    return np.argwhere(source.mask)


def correlation_matrices(data, lags=(0,), kind="covariance", n_blocks=20, comm=None):
    """Cross-correlation matrices, one lag after the other.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
        At most 6000 active sites.
    lags : sequence of int
        In bins, >= 0; (0,) without a time axis, where configurations are the samples.
    kind : {"covariance", "pearson", "raw"}
    n_blocks : int, optional
        Blocks of samples behind the errors, >= 4.
    comm : mpi4py communicator, optional
        Blocks are shared out among its ranks; the result has the same bits for any number.

    Yields
    ------
    LaggedMatrix
        In ascending order of the lags: write each out before the next is made.

    Notes
    -----
    Cost per lag: one pass, ``T (N p)^2`` operations of about 10 ns for sparse data (p: fraction up), else ``T N^2`` of
    about 0.03 ns.  Memory: six N x N matrices.  The error treats the f_i as known.

    Examples
    --------
    Unit 1 repeats unit 0 two bins later.

    >>> import numpy as np
    >>> from lft.analysis.crosscorrelation import correlation_matrices
    >>> from lft.field import Field
    >>> from lft.geometry import Graph
    >>> x = (np.random.default_rng(0).random(4000) < 0.2).astype(np.int8)
    >>> field = Field.from_array(Graph(2, 4000), "gas", np.stack([x, np.roll(x, 2)], axis=1))
    >>> C = {m.lag: m for m in correlation_matrices(field, lags=(0, 2), kind="pearson")}
    >>> bool(C[2].value[0, 1] > 0.99), bool(abs(C[2].z[1, 0]) < 4.5), bool(abs(C[0].z[0, 1]) < 4.5)
    (True, True, True)
    """
    source = as_source(data)
    lags = check_lags(lags, source)
    if kind not in KINDS:
        raise InputError(f"kind {kind!r}: valid are {', '.join(KINDS)}")
    if source.n_active > MAX_UNITS:
        raise InputError(f"{source.name}: {source.n_active} sites; matrices of pairs are made of at most {MAX_UNITS}")
    mean = site_means(source, True, comm)[source.mask]
    shift, scale = (-1.0, 2.0) if source.kind == "spin" else (0.0, 1.0)  # phi = shift + scale x, counted are the x
    f = (mean - shift) / scale
    is_sparse = source.is_binary and f.mean() < SPARSE_BELOW
    deviation = np.sqrt(_variances(source, f, comm))
    blocks = source.blocks(n_blocks)
    for lag in lags:
        total = first = second = 0
        n_pairs, squares, linear, weight2 = 0, 0.0, 0.0, 0.0
        for part, one, two, n in ordered_map(lambda b, k=int(lag): _sums(source, b, k, is_sparse), blocks, comm):
            if not n:
                continue
            total, first, second, n_pairs = total + part, first + one, second + two, n_pairs + n
            c = _connected(part, one, two, n, f)
            squares, linear, weight2 = squares + (n * c) ** 2, linear + n * n * c, weight2 + float(n) * n
        if not n_pairs:
            raise InputError(f"lag {lag}: longer than every stretch of time")
        value = _connected(total, first, second, n_pairs, f)
        spread = np.maximum(squares - 2 * value * linear + value**2 * weight2, 0) / n_pairs**2
        error = np.sqrt(spread * len(blocks) / (len(blocks) - 1)) * scale**2
        value = value * scale**2
        if kind == "raw":
            one, two = first / n_pairs, second / n_pairs
            value = scale**2 * total / n_pairs + shift * scale * (one[:, np.newaxis] + two) + shift**2
        elif kind == "pearson":
            with np.errstate(invalid="ignore", divide="ignore"):
                norm = np.outer(deviation, deviation) * scale**2
                norm[norm == 0] = np.nan
                value, error = value / norm, error / norm
        yield LaggedMatrix(int(lag), value, error, int(n_pairs), kind)


def _connected(total, first, second, n, f):
    """(1/n) sum (x_i - f_i)(y_j - f_j) from the raw sums."""
    return (total - np.outer(first, f) - np.outer(f, second) + n * np.outer(f, f)) / n


def _variances(source, f, comm):
    if source.is_binary:
        return f * (1 - f)
    parts = source.blocks(64, at_least=1)
    total = sum(ordered_map(lambda b: _square_sums(source, b, f), parts, comm))
    return total / (source.n_configurations * source.n_bins)


def _square_sums(source, block, f):
    return sum(((v[:, source.mask] - f) ** 2).sum(axis=0) for v, _ in source.chunks(block))


def _sums(source, block, lag, is_sparse):
    """(sum_a x_i^a x_j^(a+k), sum_a x_i^a, sum_a x_j^(a+k), pairs of bins) of a block."""
    n = source.n_active
    kind = np.int64 if source.is_binary else np.float64
    total, first, second, pairs = np.zeros((n, n), kind), np.zeros(n, kind), np.zeros(n, kind), 0
    for values, own in source.chunks(block, ahead=lag):
        m = min(own, len(values) - lag)
        if m <= 0:
            continue
        x = values[:, source.mask]
        x = x > 0 if source.is_binary else x
        one, two = x[:m], x[lag : lag + m]
        if is_sparse:
            total += _sparse_product(one, two)
        elif source.is_binary:
            total += np.rint(one.astype(np.float32).T @ two.astype(np.float32)).astype(np.int64)
        else:
            total += one.T @ two
        first += one.sum(axis=0, dtype=kind)
        second += two.sum(axis=0, dtype=kind)
        pairs += m
    return total, first, second, pairs


def _sparse_product(one, two):
    from scipy.sparse import csr_matrix

    return (csr_matrix(one, dtype=np.int32).T @ csr_matrix(two, dtype=np.int32)).toarray()
