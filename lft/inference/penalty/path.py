"""The path of penalized maxima from strong to weak, warm-started.

Penalties with a kink start at the strength where the first coupling enters, which is known in closed form from the
gradient at the fit of the fields alone, ``s_max = max_G |g_G|_2/w_G``, and end at ``s_max``/1000.  For ``l2``, whose
couplings shrink as ``H_jj/(H_jj + s)``, the path runs from the largest H_jj of a penalized parameter (all couplings at
least halved) to 10^-4 of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lft.errors import InputError
from lft.inference.penalty.solver import TOLERANCE, maximize_on, maximize_penalized
from lft.inference.penalty.terms import Penalty, penalty_for

SPAN_NORM, SPAN_RIDGE = 1e-3, 1e-4


@dataclass(frozen=True, eq=False)
class Null:
    """The fit of the free parameters alone.

    Attributes
    ----------
    theta, gradient : ndarray (size,)
    log_likelihood : float
    diagonal : ndarray (size,)
        Of the information there.
    """

    theta: np.ndarray
    gradient: np.ndarray
    log_likelihood: float
    diagonal: np.ndarray


def null_fit(objective):
    """Fit of the fields alone, where every path begins.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> null = null_fit(LinearObjective(np.eye(3), [3.0, -0.5, 2.0], kinds="aac"))
    >>> null.theta.round(6).tolist(), null.gradient.round(6).tolist()
    ([0.0, 0.0, 2.0], [3.0, -0.5, 0.0])
    """
    free = (np.asarray(objective.kinds()) == "c") | (np.asarray(objective.groups()) < 0)
    begin = getattr(objective, "start", None)
    theta, value, gradient, _ = maximize_on(objective, free, None if begin is None else begin())
    # some solvers add what stands on the diagonal to what they report: ask for very little
    diagonal = np.asarray(objective.evaluate(theta)[2](np.full(objective.size, 1e-9)).diagonal())
    return Null(theta, gradient, value, diagonal)


def make_penalty(objective, kind, null, mix=0.0, weights=None):
    """The penalty of a kind with the weights of this package: equal for ``l2``, noise of the score otherwise.

    ``weights`` is ``"equal"`` or ``"noise"`` and overrides that choice for ``l1`` and ``group``.
    """
    if weights not in (None, "equal", "noise"):
        raise InputError(f"weights = {weights!r}: valid are 'equal' and 'noise'")
    diagonal = None if kind == "l2" or weights == "equal" else null.diagonal
    return penalty_for(objective, kind, information_diagonal=diagonal, mix=mix)


def strengths(penalty: Penalty, null: Null, n=None, span=None):
    """Strengths of a path, falling, equally spaced in their logarithm.

    Parameters
    ----------
    penalty : Penalty
    null : Null
    n : int, optional
        Default 13 for ``l2``, 20 otherwise.
    span : float, optional
        Last over first, 0 < span < 1.  Default 1e-4 for ``l2``, 1e-3 otherwise.

    Returns
    -------
    ndarray (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.eye(2), [3.0, -0.5])
    >>> null = null_fit(o)
    >>> strengths(make_penalty(o, "l1", null), null, 3, 0.01).round(6).tolist()
    [3.0, 0.3, 0.03]
    """
    n = (20 if penalty.has_norm else 13) if n is None else n
    span = (SPAN_NORM if penalty.has_norm else SPAN_RIDGE) if span is None else span
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2:
        raise InputError(f"number of strengths = {n!r}: valid is an integer >= 2")
    if not 0 < span < 1:
        raise InputError(f"span = {span!r}: valid is a number, 0 < span < 1")
    first = (
        penalty.smallest_empty_strength(null.gradient)
        if penalty.has_norm
        else float(null.diagonal[penalty.penalized].max())
    )
    if not (np.isfinite(first) and first > 0):
        raise InputError(
            "penalty: the data hold nothing to penalize (no coupling has a score or information); "
            "are there units that fire together at all?"
        )
    return first * np.geomspace(1, span, n)


def solve_path(objective, penalty, grid, start=None, tolerance=TOLERANCE, progress=None):
    """Solutions along falling strengths, each started at the one before.

    Parameters
    ----------
    objective : Objective
    penalty : Penalty
    grid : sequence of float
    start : ndarray (size,), optional
        For the first strength.
    tolerance : float
    progress : callable, optional
        Called with each solution, which still has what its search used (``searched``).

    Returns
    -------
    list of Solution

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.eye(2), [3.0, -0.5])
    >>> [s.theta.round(6).tolist() for s in solve_path(o, penalty_for(o, "l1"), [3.0, 1.0, 0.25])]
    [[0.0, 0.0], [2.0, 0.0], [2.75, -0.25]]
    """
    theta, out, known = start, [], None
    for strength in grid:
        solution = maximize_penalized(objective, penalty, strength, theta, tolerance, known=known)
        theta = solution.theta
        known = solution.searched if penalty.has_norm else None  # that of a neighboring strength is near enough
        if progress is not None:
            progress(solution)
        out.append(replace(solution, searched=None))
    return out
