"""Standard errors of maximum pseudo-likelihood: the sandwich over blocks of time, jointly or row by row.

The influence of a block b with score g_b on the estimate is ``u_b = H^-1 g_b``, and cov = B/(B-1) sum_b u_b u_b^T.

*Joint*: H of all parameters together (:class:`RowInformation`), exact for the joint maximum.

*Rows*: where the N matrices H_i do not fit in memory they are computed, used and dropped one tile of targets at a time:
``u_b = D sum_i E_i H_i^-1 g_ib``, D one over the number of rows in which a parameter stands.  These are exactly the
influences of the estimator that fits every row alone, averages the two values of each pair, and then fits the fields c
again; couplings in all rows (b, V) are eliminated exactly.  Joint and averaged estimates have the same influences where
p_i (1 - p_i) of both units are in proportion to the variances of their features, as for weak couplings.

The sum of the inverses with weights D on both sides bounds H^-1 from above, so its diagonal proves that no direction
runs away, or names the suspects.
"""

from __future__ import annotations

import numpy as np

from lft.inference import newton
from lft.inference.pseudo.information import tile_rows
from lft.inference.pseudo.patterns import LANES

BATCH_BYTES = 2**20
ROW_BLOCKS = 64
UNCORRELATED = 0.6  # integrated time of a series without correlation is 0.5


def weighted_scores(objective, theta, edges, tiles):
    """Data minus model, feature by feature: (blocks, targets of the tiles, features), without sharing of parameters."""
    layout, n_blocks, pieces = objective.layout, len(edges) - 1, objective.pieces(edges)
    shared, own, constant, _, _ = objective.sums(objective.weights(theta), pieces, n_blocks, tiles=tiles)
    model = np.concatenate([shared, own[:, :, : layout.n_own], constant[:, :, None]], axis=2).transpose(0, 1, 3, 2)
    units = range(tiles.start * LANES, min(tiles.stop * LANES, layout.n_units))
    model = model.reshape(n_blocks, -1, layout.n_features)[:, : len(units)]
    return objective.patterns.observed(pieces, n_blocks, units) - model


def block_scores(objective, theta, edges):
    """Gradients of the blocks, (blocks, size)."""
    weights, width = objective.weights(theta), 8 * objective.layout.n_units * objective.layout.n_features
    step = max(1, int(BATCH_BYTES // width))
    out = np.empty((len(edges) - 1, objective.size))
    for first in range(0, len(out), step):
        last = min(first + step, len(out))
        pieces = objective.pieces(edges[first : last + 1])
        expected, _, _ = objective.expected(weights, pieces, last - first)
        residual = objective.patterns.observed(pieces, last - first) - expected
        out[first:last] = (objective.adjoint @ residual.reshape(last - first, -1).T).T
    return out


def row_influences(objective, theta, edges, extra=None, checkpoint=None, report=None):
    """Influences of the row-wise estimator (blocks, size), and the bound of the diagonal of H^-1 (size,).

    Cost: half the active pairs of every bin times N additions, N factors of N x N, N solutions for all blocks.  What a
    tile of targets adds is kept in a file of its own (:class:`lft.inference.pseudo.checkpoint.Checkpoint`), whichever
    rank makes it, so that a later call goes on from there; results are the same bits on any number of ranks.
    """
    layout, size = objective.layout, objective.size
    number = _rows_of_each(objective)
    border, n_blocks, n_tiles = layout.border, len(edges) - 1, objective.patterns.n_tiles
    alone, mean = np.zeros((n_blocks, layout.n_units)), np.zeros((layout.n_units, _widest(objective)))
    influence, bound = np.zeros((n_blocks, size)), np.zeros(size)
    schur = np.zeros((n_tiles, len(border), len(border)))  # by tile: the order of summation is that of the tiles
    right, response = np.zeros((n_tiles, len(border), n_blocks)), np.zeros((size, len(border)))
    identity = None if checkpoint is None else checkpoint.identity_with([theta, edges] + [extra] * (extra is not None))
    for tile in objective.tiles:
        part = None if checkpoint is None else checkpoint.read_piece(tile, identity)
        if part is None:
            part = _tile_influences(objective, theta, edges, extra, number, tile)
            if checkpoint is not None:
                checkpoint.write_piece(tile, identity, part)
            if report is not None:
                report(f"errors: rows of units {tile * LANES} to {min((tile + 1) * LANES, layout.n_units) - 1}")
        for k, i in enumerate(part["unit"]):
            places = _places(objective, i)
            own = places[~np.isin(places, border)]
            alone[:, i], mean[i, : len(places) - 1] = part["alone"][k], part["mean"][k, : len(places) - 1]
            influence[:, own] += part["influence"][k, :, : len(own)] / number[own]
            bound[own] += part["diagonal"][k, : len(own)] / number[own] ** 2
            if len(border):
                at = np.searchsorted(border, places[np.isin(places, border)])
                schur[tile][np.ix_(at, at)] += part["schur"][k][: len(at), : len(at)]
                right[tile, at] += part["right"][k, : len(at)]
                response[np.ix_(own, at)] += part["response"][k, : len(own), : len(at)] / number[own, None]
    if objective.comm is not None and objective.comm.Get_size() > 1:
        influence, bound, schur, right, response, alone, mean = (
            _added(objective.comm, a) for a in (influence, bound, schur, right, response, alone, mean)
        )
    if len(border):
        both, diagonal = _solved(
            schur.sum(axis=0), np.concatenate([right.sum(axis=0), np.eye(len(border))], axis=1)
        )
        low, inverse = both[:, :n_blocks], both[:, n_blocks:]
        influence -= (response @ low).T
        influence[:, border] = low.T
        bound += np.einsum("pi,ij,pj->p", response, inverse, response)
        bound[border] = diagonal
    for place, i in enumerate(layout.units):  # the field, given all the couplings of its row
        places = _places(objective, i)[:-1]
        influence[:, layout.first[4] + place] = alone[:, i] - influence[:, places] @ mean[i, : len(places)]
    return influence, bound


def _tile_influences(objective, theta, edges, extra, number, tile):
    """What the targets of a tile add, one after the other along the first axis of every array."""
    scores = weighted_scores(objective, theta, edges, range(tile, tile + 1))
    border, n_blocks, widest = objective.layout.border, len(edges) - 1, _widest(objective)
    n = int(objective.is_target[tile * LANES : (tile + 1) * LANES].sum())
    out = {
        "unit": np.zeros(n, np.int64), "alone": np.zeros((n, n_blocks)), "mean": np.zeros((n, widest)),
        "influence": np.zeros((n, n_blocks, widest)), "diagonal": np.zeros((n, widest)),
        "schur": np.zeros((n, len(border), len(border))), "right": np.zeros((n, len(border), n_blocks)),
        "response": np.zeros((n, widest, len(border))),
    }  # fmt: skip
    for k, (i, places, matrix) in enumerate(tile_rows(objective, theta, tile, np.float32)):
        g = _row_scores(objective, i, places, scores[:, i - tile * LANES])
        if extra is not None:
            matrix[np.diag_indices(len(matrix))] += (extra / number)[places]
        inside = ~np.isin(places, border)
        m, n_border = int(inside.sum()), len(places) - int(inside.sum())
        b = matrix[np.ix_(inside, ~inside)]
        solved, diagonal = _solved(matrix[np.ix_(inside, inside)], np.concatenate([g[:, inside].T, b], axis=1))
        u, to = solved[:, :n_blocks].T, solved[:, n_blocks:]
        out["unit"][k], out["alone"][k] = i, g[:, -1] / matrix[-1, -1]
        out["mean"][k, : len(places) - 1] = matrix[-1, :-1] / matrix[-1, -1]
        out["influence"][k, :, :m], out["diagonal"][k, :m] = u, diagonal
        if n_border:
            out["schur"][k, :n_border, :n_border] = matrix[np.ix_(~inside, ~inside)] - b.T @ to
            out["right"][k, :n_border] = (g[:, ~inside] - u @ b).T
            out["response"][k, :m, :n_border] = to
    return out


def _places(objective, i):
    """Parameters in the conditional of target i; its c is the last, as row-wise errors know no inputs."""
    matrix, m = objective.matrix, objective.layout.n_features
    return np.unique(matrix.indices[matrix.indptr[i * m] : matrix.indptr[(i + 1) * m]])


def _widest(objective):
    return max(len(_places(objective, i)) for i in objective.layout.units)


def _rows_of_each(objective):
    """Number of conditionals in which each parameter stands."""
    every = np.concatenate([_places(objective, i) for i in objective.layout.units])
    return np.bincount(every, minlength=objective.size).astype(float)


def _added(comm, array):
    """Sum over ranks, in the order of the ranks."""
    total = np.zeros_like(array)
    for part in comm.allgather(array) if array.nbytes < 2**20 else _pieces(comm, array):
        total += part
    return total


def _pieces(comm, array):
    """The arrays of all ranks, one after the other."""
    for rank in range(comm.Get_size()):
        part = array.copy() if rank == comm.Get_rank() else np.empty_like(array)
        comm.Bcast(part, rank)
        yield part


def _row_scores(objective, i, places, scores):
    """Scores of target i in the parameters of its conditional, (blocks, places)."""
    from scipy.sparse import csr_array

    m, matrix = objective.layout.n_features, objective.matrix
    start = matrix.indptr[i * m : (i + 1) * m + 1]
    entries = slice(start[0], start[-1])
    column = np.searchsorted(places, matrix.indices[entries])
    return scores @ csr_array((matrix.data[entries], column, start - start[0]), shape=(m, len(places)))


def _solved(matrix, columns):
    """H^-1 columns and the diagonal of H^-1 for a positive definite H (n^3/3 multiplications for its factor L and as
    many for L^-1); directions without information get a huge variance, not an exception."""
    from scipy.linalg import lapack

    if not len(matrix):
        return columns, np.zeros(0)
    factor, info = lapack.dpotrf(matrix, lower=True)
    if info == 0:
        solved, _ = lapack.dpotrs(factor, columns, lower=True)
        inverse, info = lapack.dtrtri(factor, lower=True)
    if info == 0:
        return solved, np.einsum("ki,ki->i", inverse, inverse)
    values, vectors = np.linalg.eigh(matrix)
    values = np.maximum(values, 1e-12 * max(values[-1], 1e-300))
    return (vectors / values) @ (vectors.T @ columns), (vectors**2 / values).sum(axis=1)


def variance_bound(rows, extra=None):
    """Upper bound of the diagonal of H^-1 from rows in memory: D sum_i E_i (H_i + shares of extra)^-1 E_i^T D."""
    number = np.append(rows.number, 1).astype(float)
    share = np.zeros(len(number)) if extra is None else np.append(extra, 0.0) / number
    bound = np.zeros(len(number))
    for places, block in zip(rows.place, rows.block, strict=True):
        _, diagonal = _solved(block + np.diag(share[places]), np.zeros((len(places), 1)))
        bound[places] += diagonal / number[places] ** 2
    return bound[:-1]


def joint_influences(information, scores, classes, n_rows, longest_lag, n_blocks):
    """Influences of blocks that are long enough, scaled so that cov = U^T U, and a warning or None.

    ``classes``: index arrays of the parameters by kind; the slowest decides on the blocks.
    """
    warning = None
    if n_blocks is None and len(scores) > 1:
        u = information.estimate(np.ascontiguousarray(scores.T)).T
        scores, warning = newton.merge_blocks(scores, [u[:, c] for c in classes], n_rows, longest_lag)
    return newton.influences(information, scores), warning


def merged_influences(u, classes, n_rows, longest_lag, n_blocks):
    """The same from influences that are known, since they are linear in the scores.

    Blocks whose influences show no correlation stay as they are: there are few of them.
    """
    warning = None
    correlation = max([newton.integrated_time(u[:, c]) for c in classes if c.size], default=0.5) if len(u) > 1 else 0.5
    if n_blocks is None and (correlation > UNCORRELATED or 10 * longest_lag * len(u) > n_rows):
        u, warning = newton.merge_blocks(u, [u[:, c] for c in classes], n_rows, longest_lag)
    b = len(u)
    return (u * np.sqrt(b / (b - 1)) if b > 1 else np.full(u.shape, np.nan)), warning
