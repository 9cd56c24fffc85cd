"""First steps towards a maximum with many sparse sources, without the matrix of second derivatives.

With one weight per lagged source and 0/1 spikes, the part of the information that is due to two sources is close to
what their means alone give, ``H_jk ~ h_j^T A^-1 h_k`` with A the block of the constant and the inputs and ``h_j`` the
column that joins it to the source j; what is left is its diagonal,

    H ~ [[A, h], [h^T, D + h^T A^-1 h]],     D_j = H_jj - h_j^T A^-1 h_j

It costs one sum over spikes where H costs one over pairs of spikes.  For independent sparse sources the steps shrink
by about ``2 sqrt(P/T)`` (P sources and lags, T bins).  Where they do not, the exact steps take over.
"""

from __future__ import annotations

import numpy as np

from lft.inference.causal.design import LANES

MIN_PARAMETERS = 200  # below, the matrix costs less than the steps that it saves
MAX_STEPS = 15
SLOW = 0.3  # promised gain against that of the step before
ENOUGH = 1e-9


def serves(design):
    """Whether the approximation is of use: many sources, one weight per lag, no counts above 1."""
    return design.is_identity and design.same_own and design.is_binary and design.size >= MIN_PARAMETERS


def approach(batch, theta, keeps, ridge):
    """Parameters from which few exact steps are left, lane by lane.

    Parameters
    ----------
    batch : Batch
    theta : ndarray (size, lanes)
    keeps : list of ndarray
    ridge : ndarray (size, lanes)

    Returns
    -------
    ndarray (size, lanes)
    """

    def evaluate(at):
        value, gradient = batch.evaluate(at)
        return value - 0.5 * (ridge * at**2).sum(axis=0), gradient - ridge * at

    n_dense, n = batch.design.n_dense, batch.n_lanes
    free = np.zeros((batch.design.size, LANES), bool)
    for lane, keep in enumerate(keeps):
        free[keep, lane] = True
    value, gradient = evaluate(theta)
    moves, before = np.arange(LANES) < n, np.full(LANES, np.inf)
    for _ in range(MAX_STEPS):
        step, promised = np.zeros_like(theta), np.zeros(LANES)
        A, cross = batch.dense_sums()
        for lane in np.flatnonzero(moves):
            step[:, lane] = _step(A[lane], cross[:, :, lane], gradient[:, lane], free[:, lane], ridge[:, lane], n_dense)
            promised[lane] = gradient[:, lane] @ step[:, lane]
        moves &= np.isfinite(promised) & (promised > ENOUGH) & (promised < SLOW * before)
        if not moves.any():
            break
        new_value, new_gradient = evaluate(theta + step * moves)
        moves &= new_value - value >= 0.1 * promised
        theta = theta + step * moves
        value, before = np.where(moves, new_value, value), promised
        gradient = np.where(moves, new_gradient, gradient)
        if not moves.all() and moves.any():
            batch.evaluate(theta)  # the work arrays must belong to theta
    return theta


def _step(A, cross, gradient, free, ridge, n_dense):
    """Solution of the approximate system; ``cross`` (n_dense, weights), whose first row is the diagonal of H too."""
    solved = np.linalg.solve(A, np.column_stack([cross, gradient[:n_dense]]))
    left = cross[0] - (cross * solved[:, :-1]).sum(axis=0) + ridge[n_dense:]
    usable = free[n_dense:] & (left > 0)
    out = np.zeros(len(gradient))
    weights = out[n_dense:]
    weights[usable] = (gradient[n_dense:] - cross.T @ solved[:, -1])[usable] / left[usable]
    out[:n_dense] = np.linalg.solve(A, gradient[:n_dense] - cross @ weights)
    return out
