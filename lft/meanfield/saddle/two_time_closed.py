"""Two-time solution without sampling, for rate neurons: x is a Gaussian process, whatever the gain.

    mean_x, C_x = the low-pass filter of (mu, C_h) from x(0) on;   m = E phi(x),   Q(t, s) = E phi(x_t) phi(x_s)

The map is iterated until it stands still; information moves forward in time, so that a window is done after a number of
iterations that grows with its length over the time constant, and then exactly.  The step is that of the neuron on the
grid (exponential Euler): a direct simulation with the same dt has the same theory, error of dt included.
"""

from __future__ import annotations

import numpy as np

from lft.errors import ConvergenceError, InputError
from lft.meanfield.saddle.closed import N_HERMITE, mean_gain, pair_matrix
from lft.meanfield.saddle.mixing import shown
from lft.meanfield.saddle.two_time import System

TOLERANCE = 1e-12


def has_closed_path(model):
    """True if every neuron filters linearly before its gain."""
    return all(hasattr(p.neuron, "gaussian_response") for p in model.populations)


def solve_two_time_closed(model):
    """Closed two-time solution.

    Returns
    -------
    system : System
    arrays, errors : list
        As :func:`lft.meanfield.saddle.two_time.describe`, seven arrays per population; the errors are what half of the
        Hermite series changes (nothing where the gain has a closed form), and rounding.
    states : list of ndarray (T + 1, T + 1)
        Covariance of x at two times.
    history : list of float

    Raises
    ------
    InputError
        A neuron is not of that kind.
    ConvergenceError
        Growth without bound (a linear network beyond its instability in a long window), or no convergence.
    """
    if not has_closed_path(model):
        bad = next(p.name for p in model.populations if not hasattr(p.neuron, "gaussian_response"))
        raise InputError(f"population {bad}: its neuron has no closed form in two times; valid is method = 'sampling'")
    system = System(model)
    n, dt = system.n, system.dt
    means = [np.zeros(n + 1) for _ in system.runners]
    seconds = [np.zeros((n + 1, n + 1)) for _ in system.runners]
    states, history = [None] * len(system.runners), []
    most = max(500, model.solve.sweeps)
    for _ in range(most):
        mu, change, new_means, new_seconds = system.means(means), 0.0, [], []
        for a, p in enumerate(model.populations):
            x, c = p.neuron.gaussian_response(mu[a], system.covariance(a, means, seconds), dt)
            if not (np.isfinite(x).all() and np.isfinite(c).all()) or c.max() > 1e200:
                raise ConvergenceError(f"population {p.name}: grows without bound {shown(history)}", history)
            gain = system.runners[a].neuron.gain
            m, q = mean_gain(gain, x, np.sqrt(np.maximum(np.diag(c), 0.0))), pair_matrix(gain, x, c)
            size = max(float(np.max(np.abs(q))), 1e-300)
            change = max(change, float(np.max(np.abs(q - seconds[a]))) / size,
                         float(np.max(np.abs(m - means[a]))) / np.sqrt(size))
            states[a] = (x, c)
            new_means.append(m)
            new_seconds.append(q)
        means, seconds = new_means, new_seconds
        history.append(change)
        if change < TOLERANCE:
            arrays = _arrays(system, means, seconds, states)
            return system, arrays, _errors(system, arrays, states), [c for _, c in states], history
    raise ConvergenceError(f"no convergence in {most} iterations {shown(history)}: shorten the duration", history)


def _errors(system, arrays, states):
    """What the end of the Hermite series contributes, of the second moments; the rest to rounding and in proportion."""
    out = []
    for a, (x, c) in enumerate(states):
        own = arrays[7 * a : 7 * a + 7]
        change = np.abs(pair_matrix(system.runners[a].neuron.gain, x, c, N_HERMITE // 2) - own[1])
        relative = float(np.max(change)) / max(float(np.max(np.abs(own[1]))), 1e-300) + 1e-10
        for k, array in enumerate(own):
            floor = relative * np.max(np.abs(array)) if k > 2 else 1e-10 * np.max(np.abs(array))
            out.append((change if k in (1, 2) else np.zeros_like(array)) + floor)
    return out


def _arrays(system, means, seconds, states):
    out, mu = [], system.means(means)
    for a, (x, c) in enumerate(states):
        m, q = means[a], seconds[a]
        smooth = np.diag(system.covariance(a, means, seconds)) - system.white(a, means) / system.dt
        out += [m, q, q - np.outer(m, m), x, np.diag(c).copy(), mu[a], smooth]
    return out
