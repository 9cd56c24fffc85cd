"""Fixed points x = F(x) of a map that is known without noise: damped Picard steps with Anderson acceleration.

Anderson's step combines the last few pairs (x, F(x)) so that the linear part of the residual is least.  It is taken
only while the residual falls; where it grows, the history is dropped and the step is a damped one, whose damping grows
while successive residuals point against each other (the period-2 oscillation of inhibitory loops).
"""

from __future__ import annotations

import numpy as np

from lft.errors import ConvergenceError

NEAR = 1e-2
"""Relative residual below which Anderson's step is taken: from afar it may land at another fixed point."""
HUGE = 1e100


def fixed_point(function, start, weights=1.0, tolerance=1e-11, max_sweeps=2000, damping=0.0, depth=6, burn_in=8):
    """Solve x = F(x).

    Parameters
    ----------
    function : callable
        ndarray (n,) -> ndarray (n,).
    start : ndarray (n,)
    weights : float or ndarray (n,), optional
        Scale of the entries in the norm of the residual.
    tolerance : float, optional
        Stop when ``max |F(x) - x| weights < tolerance max |x| weights``, or below 1e-14 absolutely.
    max_sweeps : int, optional
    damping : float, optional
        x <- damping x + (1 - damping) F(x) to begin with.
    depth, burn_in : int, optional
        Pairs that Anderson's step combines, and plain steps before the first; depth 0 switches it off.

    Returns
    -------
    x : ndarray
    history : list of float
        Relative residual of every evaluation.

    Raises
    ------
    ConvergenceError
        Not finite, or no convergence; carries the history.

    Examples
    --------
    >>> x, history = fixed_point(np.cos, np.array([1.0]))
    >>> float(x[0].round(10)), history[-1] < 1e-11
    (0.7390851332, True)
    """
    x, history, kept = np.array(start, float), [], []
    alpha, previous, best = 1.0 - damping, None, np.inf
    for sweep in range(max_sweeps):
        new = function(x)
        residual = new - x
        if not np.isfinite(residual).all():
            raise ConvergenceError(f"the state is not finite after {sweep} iterations {shown(history)}", history)
        if np.max(np.abs(new)) > HUGE:
            raise ConvergenceError(f"the state grows without bound {shown(history)}", history)
        size = float(np.max(np.abs(x * weights)))
        distance = float(np.max(np.abs(residual * weights)))
        history.append(distance / size if size > 0 else distance)
        if distance <= max(tolerance * size, 1e-14):
            return new, history
        if previous is not None and np.dot(residual * weights, previous * weights) < -0.5 * np.dot(
            previous * weights, previous * weights
        ):
            alpha = max(0.5 * alpha, 0.02)
        previous = residual
        if history[-1] > 3.0 * best:
            kept = []
        best = min(best, history[-1])
        kept = [*kept[-depth:], (x, residual)] if depth else []
        is_near = sweep >= burn_in and history[-1] < NEAR
        step = _anderson(kept, weights) if is_near and len(kept) > 1 else None
        x = x + alpha * residual if step is None else step
    raise ConvergenceError(
        f"no convergence in {max_sweeps} iterations {shown(history)}: try damping = 0.5 or more sweeps", history
    )


def _anderson(kept, weights):
    """Anderson's next point, or None where two residuals are the same."""
    x, r = kept[-1]
    dx = np.array([x - a for a, _ in kept[:-1]]).T
    dr = np.array([r - b for _, b in kept[:-1]]).T
    scale = np.linalg.norm(dr, axis=0)
    if not np.all(scale > 0):
        return None
    w = np.sqrt(np.broadcast_to(weights, r.shape))[:, None]
    c = np.linalg.lstsq(dr / scale * w, r * w[:, 0], rcond=1e-8)[0] / scale
    return x + r - (dx + dr) @ c


def shown(history, n=6):
    """The end of a history for a message."""
    return f"(residuals {', '.join(f'{r:.2g}' for r in history[-n:])})" if history else "(no residual yet)"
