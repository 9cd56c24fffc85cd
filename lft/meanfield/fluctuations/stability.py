"""Stability of a stationary rate network: local spectral radius and largest Lyapunov exponent.

    radius   = sqrt(spectral radius of V_ab <phi'(x_b)^2>)            of the Jacobian at a typical state (times tau)
    lambda   = (-1 + sqrt(1 - E0))/tau,   E0 the lowest eigenvalue of  -tau^2 d^2/dt^2 + 1 - V <phi'(x_t) phi'(x_0)>

Standard results for one population with independent weights (Sompolinsky, Crisanti, Sommers 1988; with noise Schuecker,
Goedeke, Helias 2018); checked here against direct simulation.  A radius above 1 with a negative exponent is the
expansive but not chaotic regime of driven networks.
"""

from __future__ import annotations

import math

import numpy as np

from lft.meanfield.fluctuations.covariance import spectral_radius
from lft.meanfield.neurons.gains import Gain
from lft.meanfield.saddle.closed import pair_moment


def stability(model, system, state):
    """``{"spectral_radius": (value, error), "lyapunov": (value, error)}`` of a closed solution, where they exist.

    Parameters
    ----------
    model : Model
    system, state : as :func:`lft.meanfield.saddle.stationary_closed.solve_closed` returns them.

    Returns
    -------
    dict
        Empty unless every population is a rate neuron whose gain has a slope.  The exponent is given for one
        population without a synaptic filter or delay; its error is that of the grid.
    """
    forms = system.forms
    if any(f.kind != "value" or getattr(f.gain, "slope", None) is None or f.tau_in <= 0 for f in forms):
        return {}
    _, variance = model.matrices()
    slopes = [_slopes(system, state, k) for k in range(len(forms))]
    squares = np.array([s[0] for s in slopes])
    radius = spectral_radius(variance, np.sqrt(squares))
    out = {"spectral_radius": (radius, 1e-8 * radius)}
    is_plain = all(c.synapse == 0 and c.delay == 0 for c in model.connections)
    if len(forms) == 1 and is_plain and forms[0].noise[1] == 0:
        tau, potential = forms[0].tau_in, 1.0 - variance[0][0] * slopes[0]
        fine = lyapunov_exponent(potential, system.grid.dt / tau) / tau
        coarse = lyapunov_exponent(potential[::2], 2 * system.grid.dt / tau) / tau
        out["lyapunov"] = (fine, abs(fine - coarse) / 3 + 1e-6)
    return out


def _slopes(system, state, k):
    """``<phi'(x_t) phi'(x_0)>`` by lag."""
    mu, frozen, dynamic = system.inputs(state, k)
    gain = system.forms[k].gain
    return pair_moment(Gain("slope of " + gain.name, gain.slope), mu, frozen + max(dynamic[0], 0.0), frozen + dynamic)


def lyapunov_exponent(potential, step):
    """``-1 + sqrt(1 - E0)`` of ``-d^2/dt^2 + U(|t|)``, U given on a grid from t = 0 to where it has become constant.

    Even functions on the half line with flat ends, second order in the step.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.fluctuations.stability import lyapunov_exponent
    >>> t = np.arange(0, 20, 0.01)                         # Poeschl-Teller: E0 = 1 - 1
    >>> round(lyapunov_exponent(1 - 2 / np.cosh(t) ** 2, 0.01) + 1, 3)
    1.0
    """
    from scipy.linalg import eigh_tridiagonal

    n = len(potential)
    diagonal = potential + 2.0 / step**2
    side = np.full(n - 1, -1.0 / step**2)
    side[0] *= math.sqrt(2.0)  # flat at 0: the mirror image joins in; symmetrized
    diagonal[-1] -= 1.0 / step**2
    lowest = float(eigh_tridiagonal(diagonal, side, eigvals_only=True, select="i", select_range=(0, 0))[0])
    return -1.0 + math.sqrt(max(1.0 - lowest, 0.0))
