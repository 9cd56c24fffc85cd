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


def row_influences(objective, theta, edges, extra=None):
    """Influences of the row-wise estimator (blocks, size), and the bound of the diagonal of H^-1 (size,).

    Cost: half the active pairs of every bin times N additions, N factors of N x N, N solutions for all blocks.
    """
    layout, size = objective.layout, objective.size
    number = _rows_of_each(objective)
    border, n_blocks = layout.border, len(edges) - 1
    alone, mean = np.zeros((n_blocks, layout.n_units)), np.zeros((layout.n_units, _widest(objective)))
    share = None if extra is None else extra / number
    influence, bound = np.zeros((n_blocks, size)), np.zeros(size)
    schur, right = np.zeros((len(border),) * 2), np.zeros((len(border), n_blocks))
    response = np.zeros((size, len(border)))
    for tile in objective.tiles:
        scores = weighted_scores(objective, theta, edges, range(tile, tile + 1))
        for i, places, matrix in tile_rows(objective, theta, tile, np.float32):
            g = _row_scores(objective, i, places, scores[:, i - tile * LANES])
            if share is not None:
                matrix[np.diag_indices(len(matrix))] += share[places]
            inside = ~np.isin(places, border)
            alone[:, i], mean[i, : len(places) - 1] = g[:, -1] / matrix[-1, -1], matrix[-1, :-1] / matrix[-1, -1]
            own, inverse = places[inside], _inverse(matrix[np.ix_(inside, inside)])
            u = g[:, inside] @ inverse
            influence[:, own] += u / number[own]
            bound[own] += inverse.diagonal() / number[own] ** 2
            if len(border):
                at = np.searchsorted(border, places[~inside])
                b = matrix[np.ix_(inside, ~inside)]
                to = inverse @ b
                schur[np.ix_(at, at)] += matrix[np.ix_(~inside, ~inside)] - b.T @ to
                right[at] += (g[:, ~inside] - u @ b).T
                response[np.ix_(own, at)] += to / number[own, None]
    if objective.comm is not None and objective.comm.Get_size() > 1:
        influence, bound, schur, right, response, alone, mean = (
            _added(objective.comm, a) for a in (influence, bound, schur, right, response, alone, mean)
        )
    if len(border):
        inverse = _inverse(schur)
        low = inverse @ right
        influence -= (response @ low).T
        influence[:, border] = low.T
        bound += np.einsum("pi,ij,pj->p", response, inverse, response)
        bound[border] = inverse.diagonal()
    for place, i in enumerate(layout.units):  # the field, given all the couplings of its row
        places = _places(objective, i)[:-1]
        influence[:, layout.first[4] + place] = alone[:, i] - influence[:, places] @ mean[i, : len(places)]
    return influence, bound


def _places(objective, i):
    """Parameters in the conditional of target i; its c is the last."""
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
    m = objective.layout.n_features
    rows = objective.matrix[i * m : (i + 1) * m]
    return (rows.T @ scores.T)[places].T


def _inverse(matrix):
    """Inverse of a positive definite matrix; directions without information get a huge variance, not an exception."""
    from scipy.linalg import lapack

    if not len(matrix):
        return matrix
    factor, info = lapack.dpotrf(matrix, lower=True)
    if info == 0:
        inverse, info = lapack.dpotri(factor, lower=True)
    if info == 0:
        lower = np.tril(inverse, -1)
        return lower + lower.T + np.diag(inverse.diagonal())
    values, vectors = np.linalg.eigh(matrix)
    values = np.maximum(values, 1e-12 * max(values[-1], 1e-300))
    return (vectors / values) @ vectors.T


def variance_bound(rows, extra=None):
    """Upper bound of the diagonal of H^-1 from rows in memory: D sum_i E_i (H_i + shares of extra)^-1 E_i^T D."""
    number = np.append(rows.number, 1).astype(float)
    share = np.zeros(len(number)) if extra is None else np.append(extra, 0.0) / number
    bound = np.zeros(len(number))
    for places, block in zip(rows.place, rows.block, strict=True):
        bound[places] += _inverse(block + np.diag(share[places])).diagonal() / number[places] ** 2
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
