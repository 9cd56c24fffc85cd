"""Covariances between populations of finite size, in order 1/N, for stationary closed solutions.

    Cov(w) = (1 - R(w) M(w))^{-1} diag(A_a(w)/N_a) (1 - R(w) M(w))^{-H}

with ``Y_a`` the mean output of a population, A the full self-consistent autocovariance of one of its neurons (not a
bare Poisson or Glauber one), ``R_a = dm_a/dmu_a`` behind the filters of the neuron, and ``M(w)`` the mean weights with
synaptic filter and delay.  Fluctuations of second moments are neglected (reconstruction; checked against simulations of
inhibitory binary networks, where it is good to 1-5 %).

The formula holds while all zeros of ``det(1 - R M)`` lie in the stable half plane; otherwise the network oscillates
together and there is no such covariance.  That is decided by how often the determinant winds around 0.
"""

from __future__ import annotations

import math

import numpy as np

from lft.meanfield.saddle.closed import mean_gain


def population_covariance(model, system, state):
    """(Cov(Y_a, Y_b) at equal times (P, P), notes); None where it does not exist.

    Parameters
    ----------
    model : Model
        All populations with a size.
    system, state : as :func:`lft.meanfield.saddle.stationary_closed.solve_closed` returns them.

    Returns
    -------
    covariance : ndarray (P, P) or None
        None without sizes, for spikes (their equal-time variance is that of a delta function), and in unstable states.
    notes : list of str
    """
    populations, forms = model.populations, system.forms
    if any(p.size is None for p in populations) or any(f.kind == "spikes" for f in forms):
        return None, []
    from lft.meanfield.structure.closed import private_power, shared_spectrum

    loop = loop_matrix(model, system, state)
    one = np.eye(len(forms))
    turns = winding(np.linalg.det(one - loop))
    if turns:
        return None, [
            f"the populations oscillate or run away together: det(1 - R M) winds {abs(turns)} times around 0, so that "
            "the state is not stable in a finite network and has no population covariance"
        ]
    n = system.grid.n
    omega, dt = system.grid.omega, system.grid.dt
    single = np.array([np.fft.rfft(system.grid.whole(system.output(state, k))).real for k in range(len(populations))])
    inverse = np.linalg.inv(one - loop)
    response = responses(system, state)
    private = private_power(model, omega, response, single * dt) / dt
    noise = private / np.array([p.size for p in populations])[:, None]
    spectrum = np.einsum("wac,cw,wbc->wab", inverse, noise, inverse.conj())
    if model.shared:
        whole = np.einsum("aw,wab,bw->wab", response, shared_spectrum(model, omega), response.conj())
        spectrum += inverse @ whole @ inverse.conj().swapaxes(1, 2) / dt
    whole = np.fft.irfft(spectrum.reshape(len(spectrum), -1), n, axis=0)[0]
    return whole.reshape(one.shape), []


def responses(system, state):
    """``R_a(w)``, (P, frequencies)."""
    omega, out = system.grid.omega, []
    for k, form in enumerate(system.forms):
        mu, frozen, dynamic = system.inputs(state, k)
        slope = susceptibility(form.gain, mu, math.sqrt(frozen + max(dynamic[0], 0.0)))
        out.append(slope / ((1 + 1j * omega * form.tau_in) * (1 + 1j * omega * form.tau_out)))
    return np.array(out)


def loop_matrix(model, system, state):
    """``R_a(w) M_ab(w)`` on the grid's frequencies, (frequencies, P, P)."""
    omega, forms = system.grid.omega, system.forms
    out = np.zeros((len(omega), len(forms), len(forms)), complex)
    for c in model.connections:
        a, b = model.index(c.target), model.index(c.source)
        filters = np.exp(-1j * omega * c.delay) / (1 + 1j * omega * c.synapse)
        out[:, a, b] += model.statistics(c).mean * filters
    for k, form in enumerate(forms):
        mu, frozen, dynamic = system.inputs(state, k)
        out[:, k] *= (susceptibility(form.gain, mu, math.sqrt(frozen + max(dynamic[0], 0.0)))
                      / ((1 + 1j * omega * form.tau_in) * (1 + 1j * omega * form.tau_out)))[:, None]
    return out


def susceptibility(gain, mu, std):
    """``d E[phi]/d mu``."""
    step = 1e-3 * max(std, 1e-6 * abs(mu), 1e-9)
    high, low = (float(mean_gain(gain, mu + s * step, std)) for s in (1, -1))
    return (high - low) / (2 * step)


def winding(determinant):
    """Turns of a real system's determinant around 0 as w runs over the real line, from its values at w >= 0.

    >>> w = np.linspace(0, 100, 20001)
    >>> winding(1 - 0.5 / (1 + 1j * w)), winding(1 - 2.0 / (1 + 1j * w))
    (0, 1)
    """
    phase = np.unwrap(np.angle(determinant))
    return round(abs(phase[-1] - phase[0]) / np.pi)
