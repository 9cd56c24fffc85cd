"""The random rate network as a particle in a potential: variance, autocovariance, chaos.

For ``x' = -x + g J phi(x) + xi``, <xi xi> = 2 s2 delta, with zero mean output (odd gain), the covariance Delta of x
obeys

    Delta'' = -dV/dDelta,   V(Delta) = -Delta^2/2 + g^2 int_0^Delta E[phi phi](c) dc,   Delta'(0+) = -s2

so that ``V(Delta(0)) = -s2^2/2``.  The largest Lyapunov exponent follows from the ground state E0 of a particle on the
line of time differences:

    [-d^2/dtau^2 + W(tau)] psi = E psi,   W = 1 - g^2 E[phi' phi'](Delta(tau)),   lambda = -1 + sqrt(1 - E0)

Without noise Delta' is the first excited state with ``E1 = 0``, which checks the numerics.  With noise the network
becomes chaotic where ``Delta(0) = g^2 E[phi^2]``.  Standard results (Sompolinsky, Crisanti, Sommers 1988; Schuecker,
Goedeke, Helias 2018); ``E[phi phi]`` and ``E[phi' phi']`` are one Hermite series and its derivative (Mehler, Price).

Time is in units of the time constant of the rate neuron.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.meanfield.neurons.gains import find_gain
from lft.meanfield.saddle.closed import gain_coefficients

GAIN_NAMES = ("tanh", "erf", "linear")
ORDER = 400


@dataclass(frozen=True)
class RatePotential:
    """A random rate network at its self-consistent variance.

    Attributes
    ----------
    gain : Gain
    g, s2 : float
        Standard deviation of the summed weights, strength of the noise.
    variance : float
        Delta(0); 0 in the quiet state.
    terms : ndarray
        a_n^2 of ``E[phi phi](Delta) = sum_n a_n^2 (Delta/Delta(0))^n``, n = 0, 1, ...
    """

    gain: object
    g: float
    s2: float
    variance: float
    terms: np.ndarray

    def output_covariance(self, delta):
        """``E[phi phi]`` for the covariance delta of x."""
        return np.polynomial.polynomial.polyval(np.asarray(delta) / self.variance, self.terms)

    def slope_product(self, delta):
        """``E[phi' phi'] = d E[phi phi]/d Delta``."""
        n = np.arange(1, len(self.terms))
        rho = np.asarray(delta) / self.variance
        return np.polynomial.polynomial.polyval(rho, n * self.terms[1:]) / self.variance

    @property
    def output_variance(self):
        """C_phi(0)."""
        return float(self.terms.sum())

    @property
    def mean_slope(self):
        """<phi'>, the static response of the output to the input."""
        return math.sqrt(self.terms[1] / self.variance)

    @property
    def local_radius(self):
        """``g sqrt(<phi'^2>)``: above 1 small perturbations grow at first."""
        return self.g * math.sqrt(float(self.slope_product(self.variance)))

    def __call__(self, delta):
        """V(Delta)."""
        return _potential(np.asarray(delta, float), self.g, self.variance, self.terms)

    def autocovariance(self, times):
        """Delta(tau) at ascending times >= 0.

        The energy is conserved, ``Delta' = -sqrt(-2 V(Delta))``: a first-order equation whose errors do not grow,
        solved for the logarithm of Delta.
        """
        from scipy.integrate import solve_ivp

        times = np.asarray(times, float)
        d0, force = self.variance, self.g**2 * self.output_variance - self.variance
        begin = 1e-3 if self.s2 == 0 else 0.0  # Delta' = 0 at the start: one Taylor step away from it
        # -2 V/Delta^2 as a series in Delta/Delta(0)
        series = -2.0 * self.g**2 / d0 * self.terms[1:] / np.arange(2, len(self.terms) + 1)
        series[0] += 1.0

        def slope(_, log):
            rho = np.exp(np.minimum(log, 0.0))
            return -np.sqrt(np.maximum(np.polynomial.polynomial.polyval(rho, series), 0.0))

        def taylor(t):
            fourth = -force * (1.0 - self.g**2 * float(self.slope_product(d0)))
            return d0 - 0.5 * force * t**2 + fourth * t**4 / 24.0

        end = max(float(times[-1]) if times.size else 0.0, 2 * begin + 1e-6)
        start = math.log(taylor(begin) / d0) if begin else 0.0
        path = solve_ivp(slope, (begin, end), [start], rtol=1e-11, atol=1e-11, dense_output=True, method="DOP853")
        later = times >= begin
        out = np.empty_like(times)
        out[later], out[~later] = d0 * np.exp(path.sol(times[later])[0]), taylor(times[~later])
        return out

    def levels(self, step=0.02, end=None):
        """(E0, E1): lowest even and lowest odd level of the particle, Richardson-extrapolated from two grids."""
        from scipy.linalg import eigh_tridiagonal

        tail = max(1.0 - self.g**2 * float(self.slope_product(0.0)), 1e-4)
        end = end or 24.0 / math.sqrt(tail)

        def lowest(h):
            n = round(end / h)
            w = 1.0 - self.g**2 * self.slope_product(self.autocovariance(h * np.arange(n)))
            diagonal, off = 2.0 / h**2 + w, np.full(n - 1, -1.0 / h**2)
            even_off = off.copy()
            even_off[0] *= math.sqrt(2.0)  # mirror at 0, made symmetric
            even = eigh_tridiagonal(diagonal, even_off, select="i", select_range=(0, 0), eigvals_only=True)[0]
            odd = eigh_tridiagonal(diagonal[1:], off[1:], select="i", select_range=(0, 0), eigvals_only=True)[0]
            return np.array([even, odd])

        # with noise, W has a cusp at 0: the error is still of second order, the cusp being on the grid
        return tuple(float(e) for e in (4 * lowest(0.5 * step) - lowest(step)) / 3)

    def lyapunov(self, step=0.02):
        """Largest Lyapunov exponent, per time constant.

        Examples
        --------
        >>> from lft.meanfield.fluctuations.potential import rate_potential
        >>> round(rate_potential("tanh", 2.0).lyapunov(), 4)
        0.1125
        """
        return -1.0 + math.sqrt(1.0 - self.levels(step)[0])

    def spectra(self, dt=0.05, n=8192):
        """(w, R(w), A_phi(w)): angular frequencies of an FFT, mean response of phi to input, spectrum of phi."""
        lags = dt * np.arange(n // 2 + 1)
        half = self.output_covariance(self.autocovariance(lags))
        spectrum = np.fft.fft(np.concatenate([half, half[-2:0:-1]])).real * dt
        w = 2 * np.pi * np.fft.fftfreq(n, dt)
        return w, self.mean_slope / (1 + 1j * w), np.maximum(spectrum, 0.0)


def _potential(delta, g, variance, terms):
    powers = np.concatenate([[0.0, 0.0], terms[1:] / np.arange(2, len(terms) + 1)])
    return -0.5 * delta**2 + g**2 * variance * np.polynomial.polynomial.polyval(delta / variance, powers)


def _terms(gain, variance):
    """a_n^2 with what is left out in the last term, so that the sum is E[phi^2]."""
    a, square = gain_coefficients(gain, [0.0], [math.sqrt(variance)], ORDER)
    if abs(a[0, 0]) > 1e-9 * math.sqrt(square[0]):
        raise InputError(f"gain = {gain!r}: its mean output is not 0; the potential is for odd gains")
    terms = a[0] ** 2
    terms[0] = 0.0
    return np.append(terms, max(square[0] - terms.sum(), 0.0))


def _excess(gain, g, s2, variance):
    terms = _terms(gain, variance)
    return float(_potential(np.array(variance), g, variance, terms)) + 0.5 * s2**2


def rate_potential(gain, g, s2=0.0):
    """The self-consistent state of a random rate network.

    Parameters
    ----------
    gain : str or callable
        Odd: ``tanh``, ``erf``, or any odd vectorized function.
    g : float
        > 0; without noise above 1/phi'(0), else the network is quiet.
    s2 : float, optional
        Strength of the white noise, ``<xi xi> = 2 s2 delta``.

    Returns
    -------
    RatePotential

    Raises
    ------
    InputError
        The gain is not odd, or there is no active state.

    Examples
    --------
    >>> from lft.meanfield.fluctuations.potential import rate_potential
    >>> state = rate_potential("tanh", 2.0)
    >>> round(state.variance, 5), round(state.output_variance, 5), round(state.mean_slope, 5)
    (1.92481, 0.51318, 0.48682)
    """
    from scipy.optimize import brentq

    gain = find_gain(gain, GAIN_NAMES)
    if not g > 0 or not math.isfinite(g):
        raise InputError(f"g = {g!r}: valid is a number > 0")
    if not s2 >= 0 or not math.isfinite(s2):
        raise InputError(f"s2 = {s2!r}: valid is a number >= 0")
    # V(D0; D0) + s2^2/2 as a function of D0: positive below the self-consistent point, negative above
    grid = np.geomspace(1e-4, 1e4, 161) if s2 == 0 else np.geomspace(max(0.2 * s2, 1e-6), 1e4 * max(1.0, s2), 161)
    values = []
    for k, d in enumerate(grid):
        values.append(_excess(gain, g, s2, d))
        if k and values[-1] <= 0 < values[-2]:
            d0 = brentq(lambda x: _excess(gain, g, s2, x), grid[k - 1], d, xtol=1e-13, rtol=1e-12)
            return RatePotential(gain, g, s2, d0, _terms(gain, d0))
    raise InputError(
        f"g = {g:g}, s2 = {s2:g}: the network has no active state with a finite variance; valid is g above "
        "1/phi'(0) and a gain that saturates"
    )


def critical_coupling(gain, s2):
    """The coupling at which a network with white noise becomes chaotic: ``Delta(0) = g^2 E[phi^2]``.

    Parameters
    ----------
    gain : str or callable
    s2 : float
        > 0; without noise it is 1/phi'(0).

    Returns
    -------
    RatePotential
        At the transition: ``.g``, ``.local_radius`` (above 1: growth without chaos below this coupling).

    Examples
    --------
    >>> from lft.meanfield.fluctuations.potential import critical_coupling
    >>> point = critical_coupling("tanh", 0.5)
    >>> round(point.g, 4), round(point.local_radius, 3)
    (1.9557, 1.158)
    """
    from scipy.optimize import brentq

    gain = find_gain(gain, GAIN_NAMES)
    if not s2 > 0 or not math.isfinite(s2):
        raise InputError(f"s2 = {s2!r}: valid is a number > 0; without noise the transition is at g = 1/phi'(0)")

    def at(variance):
        """g^2 = D0/C_phi(0); then V(D0) + s2^2/2."""
        terms = _terms(gain, variance)
        g = math.sqrt(variance / terms.sum())
        return g, float(_potential(np.array(variance), g, variance, terms)) + 0.5 * s2**2

    grid = np.geomspace(0.05 * s2, 1e4 * max(1.0, s2), 81)
    before = at(grid[0])[1]
    for low, high in itertools.pairwise(grid):
        after = at(high)[1]
        if after <= 0 < before:
            d0 = brentq(lambda x: at(x)[1], low, high, xtol=1e-13, rtol=1e-12)
            return RatePotential(gain, at(d0)[0], s2, d0, _terms(gain, d0))
        before = after
    raise InputError(f"s2 = {s2:g}: no transition to chaos was found for gain {gain!r}")
