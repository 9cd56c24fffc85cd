"""Leaky integrate-and-fire neurons in white noise: linear responses of the rate, and modes of networks of them.

    tau V' = -V + mu + white noise of intensity D          sigma^2 = D/tau of Siegert's formula

The density of the potential and its flux obey, at the frequency w of a small modulation of mu or D,

    J = (mu - V)/tau P - D/(2 tau^2) dP/dV,    i w P = -dJ/dV + r exp(-i w tau_ref) delta(V - reset),    P(theta) = 0

and r is the flux at the threshold.  Integrated from the threshold down with one solution for a unit rate and one for
the modulation, r follows from J = 0 far below ("threshold integration", a standard method); w may be complex, so that
the growing and decaying modes of a network,

    det(1 - L(lambda)) = 0,     L_ab = [R_mu,a M_ab + R_D,a V_ab] exp(-lambda d_ab)

are found as well.  The second term of L is the feedback through the *variance* of the input: the shot noise of neurons
that fire more is stronger.  In sparse balanced networks it is as large as that through the mean.  White noise alone:
connections without synaptic filter, neurons without synapse.

A finite network feeds its own fluctuations back.  The mean outputs of its populations fluctuate by
``delta Y = (1 - L)^-1 Xi``, Xi that of independent neurons with the spectra A_b/N_b, and what a neuron receives of it
is worth an input ``R_mu^-1 L delta Y``: with the variance K (1 - K/N) J^2 of the rest, its input has the spectrum

    S_a = sum_b V_ab A_b + sum_b G_ab A_b,      G_ab = |[L (1 - L)^-1]_ab / R_mu,a|^2 / N_b

(standard steps of linear response; a derivation of this project).  Where nothing answers, at high frequencies, L = 0
and R_mu^-1 L = M, and the sum is K J^2 A: there the factor 1 - K/N of the saddle point alone would be wrong.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np

from lft.errors import ConvergenceError
from lft.meanfield.neurons.lif import LIF

CELLS = 600
"""Cells between reset and threshold, at least."""
WIDTHS = 6.0
"""Standard deviations below the mean and the reset at which the density counts as 0."""
DENSE = 2 * math.pi * 400.0
"""1/s: up to here responses are computed in equal steps."""
SMALLEST = 1e-4
"""1/s: w = 0, where both fluxes below vanish, stands for this."""


@dataclass(frozen=True)
class WhiteNoiseResponse:
    """Rate of a neuron in white noise and what it answers to modulations.

    Attributes
    ----------
    rate : float
        Hz.
    to_mean, to_intensity : ndarray of complex
        ``dr/dmu`` (Hz per unit of h) and ``dr/dD`` at the frequencies that were asked for.
    """

    rate: float
    to_mean: np.ndarray
    to_intensity: np.ndarray


def white_noise_response(neuron, mean, intensity, omega, cells=CELLS):
    """Rate and linear responses of a LIF neuron with delta synapses.

    Parameters
    ----------
    neuron : lft.meanfield.neurons.lif.LIF
    mean : float
        mu, mV.
    intensity : float
        D > 0 of the white noise in h: ``tau^2 sum_j J_j^2 r_j`` for spikes of jumps J.
    omega : array_like of real or complex
        Angular frequencies, 1/s; ``exp(i w t)``.  A mode ``exp(lambda t)`` is ``w = -i lambda``.
    cells : int, optional
        Least number of cells between reset and threshold.

    Returns
    -------
    WhiteNoiseResponse

    Notes
    -----
    Second order in the cell, 600 cells or more between reset and threshold; three complex numbers per frequency and
    cell: 30 ms for 100 frequencies.

    Examples
    --------
    >>> from lft.meanfield.fluctuations.integrate_fire import white_noise_response
    >>> from lft.meanfield.neurons import LIF
    >>> answer = white_noise_response(LIF(), 15.0, 25.0 * 0.02, [0.0])
    >>> round(answer.rate, 3), round(float(answer.to_mean[0].real), 3)
    (9.461, 2.907)
    """
    tau, top, reset = neuron.tau, neuron.threshold, neuron.reset
    variance = intensity / tau
    omega = np.atleast_1d(np.asarray(omega, complex))
    omega = np.where(np.abs(omega) < SMALLEST, SMALLEST, omega)
    dv = min((top - reset) / cells, 12.0 / cells * math.sqrt(variance))
    to_reset = math.ceil((top - reset) / dv)
    dv = (top - reset) / to_reset
    n = to_reset + math.ceil((max(reset - mean, 0.0) + WIDTHS * math.sqrt(variance)) / dv)
    middle = top - dv * (np.arange(n) + 0.5)
    pull = 2.0 * (mean - middle) / variance
    keep = np.exp(-pull * dv)
    share = np.where(np.abs(pull * dv) < 1e-8, dv, -np.expm1(-pull * dv) / np.where(pull == 0, 1.0, pull))
    slope = 2.0 * tau / variance

    flux = np.zeros(n)  # of the stationary density, for a rate of 1
    flux[:to_reset] = 1.0
    density = np.empty(n + 1)
    density[0] = 0.0
    for k in range(n):
        density[k + 1] = density[k] * keep[k] + slope * flux[k] * share[k]
    inside = 0.5 * (density[1:] + density[:-1])
    rate = 1.0 / (dv * float(inside.sum()) + neuron.refractory)
    falling = pull * inside - slope * flux  # dP0/dV for a rate of 1

    p = np.zeros((3, len(omega)), complex)  # for a unit rate; for mu; for sigma^2
    j = np.zeros((3, len(omega)), complex)
    j[0] = 1.0
    late = np.exp(-1j * omega * neuron.refractory)
    iw = 1j * omega * dv
    sources = np.zeros((n, 3, 1))
    sources[:, 1, 0] = -slope * rate * inside / tau
    sources[:, 2, 0] = rate * falling / variance
    for k in range(n):
        if k == to_reset:
            j[0] -= late
        after = keep[k] * p + share[k] * (slope * (j + 0.5 * iw * p) + sources[k])
        j = j + 0.5 * iw * (p + after)
        p = after
    return WhiteNoiseResponse(rate, -j[1] / j[0], -j[2] / j[0] / tau)


def has_white_loop(model):
    """True if every neuron is a LIF with delta synapses in white noise, as far as connections can tell."""
    neurons = all(isinstance(p.neuron, LIF) and not p.neuron.synapse and p.colored is None for p in model.populations)
    return neurons and not any(c.synapse for c in model.connections)


def white_inputs_of(model, rates):
    """(mu, D) of every population from the rates of all: Brunel's limit, in which only the white part is kept."""
    mu = np.array([p.drive(0.0) for p in model.populations])
    intensity = np.array([p.white for p in model.populations])
    for c in model.connections:
        a, b, s = model.index(c.target), model.index(c.source), model.statistics(c)
        mu[a] += s.mean * rates[b]
        intensity[a] += s.variance * rates[b]
    return mu, intensity


def white_loop(model, rates, omega, cells=CELLS):
    """L(w), (F, P, P), of the module's second equation at given rates of the populations."""
    omega = np.atleast_1d(np.asarray(omega, complex))
    return _closed_loop(model, white_responses(model, rates, omega, cells), omega)


def white_responses(model, rates, omega, cells=CELLS):
    """:class:`WhiteNoiseResponse` of every population at given rates; those that are alike have the same."""
    mu, intensity = white_inputs_of(model, rates)
    keys = [(p.neuron, float(m), float(d)) for p, m, d in zip(model.populations, mu, intensity, strict=True)]
    answers = {key: white_noise_response(*key, omega, cells) for key in dict.fromkeys(keys)}
    return [answers[key] for key in keys]


def _closed_loop(model, answers, omega):
    out = np.zeros((len(omega), len(answers), len(answers)), complex)
    for c in model.connections:
        a, b, s = model.index(c.target), model.index(c.source), model.statistics(c)
        out[:, a, b] += (answers[a].to_mean * s.mean + answers[a].to_intensity * s.variance) * np.exp(
            -1j * omega * c.delay)
    return out


def population_noise(model, omega):
    """G (F, P, P): what the fluctuations of a finite network add to the spectra of its inputs (module's last equation).

    Parameters
    ----------
    model : Model
        :func:`has_white_loop`, every population with a size.
    omega : ndarray (F,)
        Angular frequencies >= 0, 1/s, ascending.

    Returns
    -------
    ndarray or None
        In ``(summed input)^2`` per output spectrum; None where a mode grows, so that there is no stationary state to
        fluctuate around, or nothing is noisy.

    Raises
    ------
    ConvergenceError
        No rates in white noise.

    Notes
    -----
    Responses are those in white noise at Siegert's rates, in steps of 2 Hz up to 400 Hz, then of 3 %, linear in
    between: the error is of second order, times 1/N.  A tenth of a second, and as much again for the modes.
    """
    rates = white_noise_rates(model, np.full(len(model.populations), 10.0))
    if rates is None or any(mode.real >= 0 for mode in slowest_modes(model, rates)):
        return None
    top = max(float(omega[-1]), DENSE * 1.01)
    above = np.geomspace(DENSE, top, 2 + int(np.log(top / DENSE) / 0.03))
    nodes = np.concatenate([np.arange(0.0, DENSE, 4 * np.pi), above])
    answers = [
        WhiteNoiseResponse(r.rate, np.interp(omega, nodes, r.to_mean), np.interp(omega, nodes, r.to_intensity))
        for r in white_responses(model, rates, nodes)
    ]
    loop = _closed_loop(model, answers, omega)
    fed_back = loop @ np.linalg.inv(np.eye(len(rates)) - loop)
    answer = np.array([r.to_mean for r in answers]).T[:, :, None]
    return np.abs(fed_back / answer) ** 2 / np.array([p.size for p in model.populations], float)


def slowest_modes(model, rates, n_scan=160, max_hz=400.0):
    """Modes ``exp(lambda t)`` of a network near the imaginary axis, the least damped first.

    Parameters
    ----------
    model : Model
        :func:`has_white_loop`.
    rates : ndarray (P,)
        Stationary rates, Hz.
    n_scan : int, optional
        Frequencies from 0 to ``max_hz`` at which the search begins.

    Returns
    -------
    list of complex
        lambda in 1/s, imaginary part >= 0; a positive real part grows.

    Notes
    -----
    Minima of ``|det(1 - L(i w))|`` along the axis, each followed by Newton's method in the plane.  A mode far from
    the axis may be missed; one that has just crossed it is not.
    """
    rates = np.asarray(rates, float)
    omega = 2 * np.pi * np.linspace(0.0, max_hz, n_scan)
    size = np.abs(_characteristic(model, rates, omega))
    padded = np.concatenate([[np.inf], size, [np.inf]])
    starts = omega[(size < padded[:-2]) & (size <= padded[2:])]
    found = []
    for w in starts:
        mode = _newton(model, rates, 1j * w)
        if mode is not None and not any(abs(mode - other) < 1e-3 * (1 + abs(mode)) for other in found):
            found.append(mode)
    return sorted(found, key=lambda m: -m.real)


def white_noise_rates(model, start, tolerance=1e-9):
    """Rates (P,) that reproduce themselves in Brunel's limit, from ``start`` on; None where there is no noise.

    Raises
    ------
    ConvergenceError
        No fixed point was found.
    """
    rates, history = np.array(start, float), []
    share, before = 0.5, None
    for _ in range(200):
        mu, intensity = white_inputs_of(model, rates)
        if np.any(intensity <= 0):
            return None
        answers = {}
        for p, key in zip(model.populations, zip(mu, intensity, strict=True), strict=True):
            answers.setdefault((p.neuron, *key), None)
        for key in answers:
            answers[key] = white_noise_response(*key, []).rate
        change = np.array([answers[p.neuron, m, d] for p, m, d in zip(model.populations, mu, intensity, strict=True)])
        change -= rates
        history.append(float(np.max(np.abs(change)) / np.max(np.abs(rates) + 1e-6)))
        if history[-1] < tolerance:
            return rates
        if before is not None and change @ before < -0.3 * (before @ before):
            share = max(0.6 * share, 0.02)
        before = change
        rates = np.maximum(rates + share * change, 1e-6)
    raise ConvergenceError("the rates in white noise did not converge", history)


def collective_mode(model, start):
    """((growth, error), (frequency in Hz, error)) of the least damped mode around the rates in white noise, or None.

    The errors are a third of what half of the cells changes.
    """
    rates = white_noise_rates(model, start)
    modes = [] if rates is None else slowest_modes(model, rates)
    if not modes:
        return None
    rough = _newton(model, rates, modes[0], cells=CELLS // 2)
    change = (modes[0] - rough) / 3 if rough is not None else complex(math.inf, math.inf)
    turn = 2 * math.pi
    return (modes[0].real, abs(change.real)), (modes[0].imag / turn, abs(change.imag) / turn)


def _characteristic(model, rates, omega, cells=CELLS):
    loop = white_loop(model, rates, omega, cells)
    return np.linalg.det(np.eye(len(rates)) - loop)


def _newton(model, rates, start, n_steps=25, cells=CELLS):
    """A zero of det(1 - L) near ``start`` (secant), or None."""
    one, two = start, start + complex(2.0, 2.0)
    f_one, f_two = (complex(v) for v in _characteristic(model, rates, np.array([-1j * one, -1j * two]), cells))
    for _ in range(n_steps):
        if f_two == f_one:
            break
        step = -f_two * (two - one) / (f_two - f_one)
        step *= min(1.0, 60.0 / max(abs(step), 1e-300))
        one, f_one, two = two, f_two, two + step
        f_two = complex(_characteristic(model, rates, np.array([-1j * two]), cells)[0])
        if not cmath.isfinite(f_two):
            return None
        if abs(step) < 1e-7 * (1 + abs(two)):
            return complex(two.real, abs(two.imag))
    return None
