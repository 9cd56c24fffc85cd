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
from lft.meanfield.structured import structure_of


def stability(model, system, state):
    """``{"spectral_radius": (value, error), "lyapunov": (value, error)}`` of a closed solution, where they exist.

    Parameters
    ----------
    model : Model
    system, state : as :func:`lft.meanfield.saddle.stationary_closed.solve_closed` returns them.

    Returns
    -------
    dict
        Empty unless every population is a rate neuron whose gain has a slope.  The exponent is given without synaptic
        filters and delays; its error is that of the grid.
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
    elif len(forms) > 1 and is_plain and not structure_of(model) and all(f.noise[1] == 0 for f in forms):
        taus, step, n = [f.tau_in for f in forms], system.grid.dt, _until_flat(slopes)
        fine = population_lyapunov(taus, variance, [s[:n] for s in slopes], step)
        coarse = population_lyapunov(taus, variance, [s[:n:2] for s in slopes], 2 * step)
        out["lyapunov"] = (fine, abs(fine - coarse) / 3 + 1e-6)
    return out


def _until_flat(slopes):
    """Points until all slope products have become constant, and as many again for what leaks behind."""
    last = 64
    for s in slopes:
        moving = np.flatnonzero(np.abs(s - s[-1]) > 1e-6 * np.abs(s[0]))
        last = max(last, int(moving[-1]) if len(moving) else 0)
    return min(2 * last, len(slopes[0]))


def population_lyapunov(taus, variance, slopes, step):
    """Largest Lyapunov exponent of several populations of rate neurons.

    The square of a perturbation, ``<dx_a(t) dx_a(s)> = psi_a(t - s) exp(lambda (t + s))``, obeys

        [(1 + lambda tau_a)^2 - tau_a^2 d^2/dt^2] psi_a = sum_b V_ab <phi'(x_b(0)) phi'(x_b(t))> psi_b

    All terms that couple are positive, so that the largest solution lambda is real and psi has no node; for one
    population it is that of :func:`lyapunov_exponent`.  Derivation of this project, checked against direct networks.

    Parameters
    ----------
    taus : sequence of float (P,)
    variance : array (P, P)
        V_ab.
    slopes : sequence of ndarray (P, n)
        ``<phi' phi'>`` by lag from 0 to where it has become constant.
    step : float

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.fluctuations.stability import population_lyapunov
    >>> t = np.arange(0, 20, 0.02)
    >>> s = 1 / np.cosh(t) ** 2              # two copies of one population, half of the variance from each
    >>> round(population_lyapunov([1.0, 1.0], np.ones((2, 2)), [s, s], 0.02) + 1, 3)
    1.0
    """
    from scipy.optimize import brentq
    from scipy.sparse import bmat, diags
    from scipy.sparse.linalg import eigs

    variance, slopes = np.asarray(variance, float), np.asarray(slopes, float)
    n_pop, n = slopes.shape
    side = np.full(n - 1, 1.0)
    side[0] *= math.sqrt(2.0)  # the mirror image at 0, symmetrized
    middle = np.full(n, -2.0)
    middle[-1] = -1.0
    curvature = diags([side, middle, side], [-1, 0, 1]) / step**2
    blocks = [
        [diags(variance[a, b] * slopes[b]) + (a == b) * taus[a] ** 2 * curvature for b in range(n_pop)]
        for a in range(n_pop)
    ]
    operator = bmat(blocks, format="csc")
    places = range(0, n, max(n // 50, 1))
    largest = max(float(np.abs(np.linalg.eigvals(variance * slopes[:, k])).max()) for k in places)

    def excess(rate):
        scale = np.repeat([(1.0 + rate * tau) ** -2 for tau in taus], n)
        top = 1.01 * largest * scale.max() + 1e-6
        value = eigs(diags(scale) @ operator, k=1, sigma=top, which="LM", return_eigenvectors=False,
                     v0=np.ones(n_pop * n))[0].real
        return float(value) - 1.0

    low = -1.0 / max(taus) * (1 - 1e-4)
    high = max((math.sqrt(largest) + 1.0) / min(taus), 1.0)
    return float(brentq(excess, low, high, xtol=1e-9)) if excess(low) > 0 else low


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
