"""Errors from scores in blocks of time, for any objective.

The covariance of a maximum ``theta`` of L is ``H^-1 G H^-1`` with G the covariance of the score, estimated from blocks
of rows (V. P. Godambe, doi 10.1214/aoms/1177705693).  It is kept as influences U, one row per block, so that the
covariance of any linear function ``M theta`` is ``(U M^T)^T (U M^T)`` and no (size, size) matrix is ever needed.
"""

from __future__ import annotations

import itertools

import numpy as np

from lft.inference import newton


def longest_lag(objective):
    """The longest lag of a model in rows; 0 for an objective that names none."""
    return int(getattr(objective, "longest_lag", 0))


def block_edges(objective, theta, information, n_blocks=None):
    """Edges of blocks much longer than the lags and the measured correlation of the scores, and a warning or None.

    ``n_blocks`` fixes their number.
    """
    edges = newton.fine_edges(objective.n_rows, objective.size, n_blocks, "rows")
    if n_blocks is not None or len(edges) < 3:
        return edges, None
    scores = scores_of(objective, theta, edges)
    u = newton.influences(information, scores)
    kinds = np.asarray(objective.kinds())
    classes = [u[:, kinds == kind] for kind in np.unique(kinds)]
    merged, warning = newton.merge_blocks(scores, classes, objective.n_rows, longest_lag(objective))
    starts = np.linspace(0, len(scores), len(merged) + 1).astype(int)
    return edges[starts], warning


def scores_of(objective, theta, edges):
    """Score of each block (n_blocks, size)."""
    return np.stack([objective.score(theta, int(a), int(b)) for a, b in itertools.pairwise(edges)])


def influences(objective, theta, information, n_blocks=None):
    """Influences U (n_blocks, size) of blocks on a maximum, and a warning or None.

    The scores are centered: at a penalized maximum they do not sum to zero.

    Parameters
    ----------
    objective : Objective
    theta : ndarray (size,)
    information : Information
        H at theta, with whatever quadratic penalty was used.
    n_blocks : int, optional
        Default 20 to 100, from the correlation of the scores.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(4000, 2))
    >>> o = LinearObjective(x, rng.normal(size=4000))
    >>> _, gradient, make = o.evaluate(np.zeros(2))
    >>> u, _ = influences(o, make(None).solve(gradient), make(None), 100)
    >>> bool(np.all(np.abs(np.sqrt((u**2).sum(axis=0)) * np.sqrt(4000) - 1) < 0.3))  # exact: 1/sqrt(4000)
    True
    """
    edges, warning = block_edges(objective, theta, information, n_blocks)
    scores = scores_of(objective, theta, edges)
    share = np.diff(edges)[:, None] / objective.n_rows
    return newton.influences(information, scores - share * scores.sum(axis=0)), warning


def standard_errors(u):
    """Standard error of every parameter from its influences."""
    return np.sqrt((u**2).sum(axis=0))
