"""Covariances between populations of finite size, in order 1/N, for stationary closed solutions.

    Cov(w) = (1 - R(w) M(w))^{-1} diag(A_a(w)/N_a) (1 - R(w) M(w))^{-H}

with ``Y_a`` the mean output of a population, A the full self-consistent autocovariance of one of its neurons (not a
bare Poisson or Glauber one), ``R_a = dm_a/dmu_a`` behind the filters of the neuron, and ``M(w)`` the mean weights with
synaptic filter and delay.  Between binary neurons M holds the feedback through variance and skewness of the input too
(:mod:`lft.meanfield.fluctuations.feedback`): the whole of order 1/N.  Networks differ as the next order does, by 1.1 %
at N = 1000 and 0.6 % at 2000 (K = 100).  Fluctuations of second moments of other neurons are neglected.

All zeros of ``det(1 - R M)`` must lie in the stable half plane; otherwise the populations oscillate or run away
together and the stationary state is not one of the network: how often the determinant winds around 0 tells.
"""

from __future__ import annotations

import math

import numpy as np

from lft.errors import ConvergenceError
from lft.meanfield.fluctuations.covariance import couplings, determinant, population_spectrum, winding
from lft.meanfield.fluctuations.feedback import effective_means
from lft.meanfield.saddle.closed import mean_gain


def population_covariance(model, system, state, history=()):
    """(Cov(Y_a, Y_b) at equal times (P, P), notes); None where it does not exist.

    Parameters
    ----------
    model : Model
    system, state : as :func:`lft.meanfield.saddle.stationary_closed.solve_closed` returns them.
    history : sequence of float, optional
        Residuals on the way to the state, for the error.

    Returns
    -------
    covariance : ndarray (P, P) or None
        None without sizes, and for spikes (their equal-time variance is that of a delta function).
    notes : list of str

    Raises
    ------
    ConvergenceError
        The state is not stable.
    """
    populations, forms = model.populations, system.forms
    from lft.meanfield.structure.closed import private_power, shared_spectrum

    omega = system.grid.omega
    response = responses(system, state)
    mu, frozen, dynamic = zip(*(system.inputs(state, k) for k in range(len(forms))), strict=True)
    variance = [s + max(d[0], 0.0) for s, d in zip(frozen, dynamic, strict=True)]
    outputs = [system.parts(state, k)[0] for k in range(len(forms))]
    weights, notes = effective_means(model, forms, outputs, mu, variance)
    mean = couplings(model, omega, weights)
    turns = winding(determinant(response, mean))
    if turns:
        last = ", ".join(f"{r:.2g}" for r in list(history)[-6:])
        raise ConvergenceError(
            f"the stationary state is not stable: det(1 - R M) winds {abs(turns)} times around 0, so that the "
            f"populations oscillate or run away together (found with residuals {last}); begin low or high where "
            "several states are stable, or solve in mode = 'two-time'", list(history),
        )
    if any(p.size is None for p in populations) or any(f.kind == "spikes" for f in forms):
        return None, []
    sizes = np.array([p.size for p in populations])
    n = system.grid.n
    dt = system.grid.dt
    power = np.array([np.fft.rfft(system.grid.whole(system.output(state, k))).real for k in range(len(forms))])
    private = private_power(model, omega, response, power * dt) / dt
    common = shared_spectrum(model, omega) / dt if model.shared else None
    spectrum = population_spectrum(response, mean, private, sizes, common)
    return np.fft.irfft(spectrum.reshape(n // 2 + 1, -1), n, axis=0)[0].reshape(spectrum.shape[1:]), notes


def responses(system, state):
    """R_a(w) of every population on the grid's frequencies, (P, F): the slope of the mean gain behind the filters
    (:meth:`~lft.meanfield.neurons.forms.GainForm.answer`)."""
    omega, out = system.grid.omega, []
    for k, form in enumerate(system.forms):
        mu, frozen, dynamic = system.inputs(state, k)
        slope = susceptibility(form.gain, mu, math.sqrt(frozen + max(dynamic[0], 0.0)))
        out.append(slope * form.answer(omega, system.grid.dt))
    return np.array(out)


def susceptibility(gain, mu, std):
    """``d E[phi]/d mu``."""
    step = 1e-3 * max(std, 1e-6 * abs(mu), 1e-9)
    high, low = (float(mean_gain(gain, mu + s * step, std)) for s in (1, -1))
    return (high - low) / (2 * step)
