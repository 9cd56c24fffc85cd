"""Closed forms: Gaussian averages of gains, and models that need no sampling.

Pairs of jointly Gaussian inputs x, y with means, variances and covariance C:

=============  =====================================================================================================
erf            ``E[erf(ax) erf(ay)] = (2/pi) asin(2 a^2 C / sqrt((1 + 2 a^2 Cxx)(1 + 2 a^2 Cyy)))``, zero mean
sign           ``(2/pi) asin(rho)``, zero mean
step           ``P(x > 0, y > 0) = Phi(u) - 2 T(u, sqrt((1-rho)/(1+rho)))``, u = mu/s, equal moments, T of Owen
ReLU           ``s^2/(2 pi) [sqrt(1 - rho^2) + rho (pi - acos rho)]``, zero mean; with a mean by :func:`relu_moment`
exp            ``exp(mu_x + mu_y + (Cxx + Cyy)/2 + C)``
any gain       ``sum_n a_n(x) a_n(y) rho^n``, a_n the Hermite coefficients (Mehler's formula): :func:`pair_moment`
=============  =====================================================================================================

Standard results.  ``d/dC E[f(x) g(y)] = E[f' g']`` (Price) ties them together and is used as a test.
"""

from __future__ import annotations

import math

import numpy as np

N_HERMITE = 120
GRID = np.linspace(-12.0, 12.0, 4801)
_WEIGHT = np.exp(-0.5 * GRID**2) / math.sqrt(2 * math.pi) * (GRID[1] - GRID[0])


def hermite_functions(n):
    """Normalized Hermite polynomials He_0..He_n on GRID, times the Gaussian weight, (n + 1, grid)."""
    out = np.empty((n + 1, len(GRID)))
    out[0], out[1] = _WEIGHT, _WEIGHT * GRID
    for k in range(1, n):
        out[k + 1] = (GRID * out[k] - math.sqrt(k) * out[k - 1]) / math.sqrt(k + 1)
    return out


_BASIS = {}


def _basis(n):
    if n not in _BASIS:
        _BASIS[n] = hermite_functions(n)
    return _BASIS[n]


def gain_coefficients(gain, mean, std, n=N_HERMITE):
    """Hermite coefficients of ``phi(mean + std z)`` and its second moment.

    Parameters
    ----------
    gain : callable
    mean, std : ndarray (K,)
    n : int, optional
        Highest order.

    Returns
    -------
    a : ndarray (K, n + 1)
        ``a_n = E[phi(mean + std z) He_n(z)/sqrt(n!)]``; a_0 is the mean of the output.
    square : ndarray (K,)
        ``E[phi^2] = sum_n a_n^2`` (n to infinity).

    Notes
    -----
    Trapezoid rule on 4801 points: exact to rounding for smooth gains, to 1e-6 for kinks (ReLU), 1e-3 for jumps.
    """
    mean, std = np.atleast_1d(mean).astype(float), np.atleast_1d(std).astype(float)
    a, square = np.empty((len(mean), n + 1)), np.empty(len(mean))
    for start in range(0, len(mean), 64):  # bounded memory
        part = slice(start, start + 64)
        values = gain(mean[part, None] + std[part, None] * GRID)
        a[part] = values @ _basis(n).T
        square[part] = values**2 @ _WEIGHT
    return a, square


STEPS = ("heaviside", "sign", "erfc")


def _mean_of_step(kind, mean, std):
    """Exact means of the gains that jump, for which the grid would be coarse."""
    from scipy.special import ndtr

    if kind == "erfc":
        return ndtr(mean / np.sqrt(1.0 + std**2))
    safe = np.where(std > 0, std, 1.0)
    p = np.where(std > 0, ndtr(mean / safe), mean > 0)
    return p if kind == "heaviside" else 2.0 * p - 1.0


def mean_gain(gain, mean, std):
    """``E[phi(mean + std z)]``, same shape as the arguments."""
    mean, std = np.broadcast_arrays(np.asarray(mean, float), np.asarray(std, float))
    if getattr(gain, "name", "") == "scaled":
        inner, threshold, width, low, high = gain.parts
        return low + (high - low) * mean_gain(inner, (mean - threshold) / width, std / width)
    if getattr(gain, "name", "") in STEPS:
        return _mean_of_step(gain.name, mean, std)
    a, _ = gain_coefficients(gain, mean.ravel(), std.ravel(), 1)
    return a[:, 0].reshape(mean.shape)


def gain_derivatives(gain, mean, std, n):
    """``d^k/dmean^k E[phi(mean + std z)]``, k = 0..n, of one Gaussian variable with std > 0: (n + 1,).

    ``std^-k E[phi He_k(z)]`` (integration by parts); exact for steps.  Those by the variance follow: d/dstd^2 is half
    of the second one.

    Examples
    --------
    >>> from lft.meanfield.neurons.gains import GAINS
    >>> gain_derivatives(GAINS["heaviside"], 0.0, 2.0, 1).round(6).tolist()
    [0.5, 0.199471]
    """
    kind = getattr(gain, "name", "")
    if kind == "scaled":
        inner, threshold, width, low, high = gain.parts
        out = (high - low) * gain_derivatives(inner, (mean - threshold) / width, std / width, n)
        out /= width ** np.arange(n + 1.0)
        out[0] += low
        return out
    order = np.arange(n + 1)
    if kind in STEPS:
        total = math.hypot(std, 1.0) if kind == "erfc" else std
        u = mean / total
        he = np.polynomial.hermite_e.hermevander(u, n).ravel()
        # Phi(u) and its derivatives, (-1)^(k-1) He_(k-1)(u) times the density
        out = math.exp(-0.5 * u * u) / math.sqrt(2 * math.pi) * np.append(0.0, (-1.0) ** order[:-1] * he[:-1])
        out *= (2.0 if kind == "sign" else 1.0) / total ** order.astype(float)
        out[0] = _mean_of_step(kind, np.array(float(mean)), np.array(float(std)))
        return out
    a, _ = gain_coefficients(gain, mean, std, n)
    return a[0] * np.array([math.sqrt(math.factorial(k)) for k in order]) / std ** order.astype(float)


def pair_moment(gain, mean, variance, covariance, n=N_HERMITE):
    """``E[phi(x) phi(y)]`` for x, y of equal mean and variance: covariance (K,) -> (K,).

    What the series leaves out is put into its last term, so that the value at ``rho = 1`` is exact.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.saddle.closed import pair_moment
    >>> from lft.meanfield.neurons.gains import GAINS
    >>> float(pair_moment(GAINS["linear"], 1.0, 4.0, np.array([3.0]))[0].round(12))
    4.0
    """
    kind = getattr(gain, "name", "")
    covariance = np.asarray(covariance, float)
    if kind == "scaled":
        inner, threshold, width, low, high = gain.parts
        mean, spread = (mean - threshold) / width, high - low
        pair = pair_moment(inner, mean, variance / width**2, covariance / width**2, n)
        first = float(mean_gain(inner, mean, math.sqrt(max(variance, 0.0)) / width))
        return low**2 + 2 * low * spread * first + spread**2 * pair
    if variance <= 0:
        return np.full(covariance.shape, float(gain(np.array(mean, float))) ** 2)
    std = math.sqrt(variance)
    rho = np.clip(covariance / variance, -1.0, 1.0)
    if kind == "linear":
        return mean**2 + covariance
    if kind == "exp":
        return np.exp(2 * mean + variance + covariance)
    if kind == "sign":
        p = step_pair(mean / std, rho)
        return 1.0 - 4.0 * (step_pair(mean / std, np.ones(1))[0] - p)
    if kind == "heaviside":
        return step_pair(mean / std, rho)
    if kind == "erfc":
        total = 1.0 + variance
        return step_pair(mean / math.sqrt(total), covariance / total)
    if kind == "erf" and mean == 0:
        a2 = math.pi / 4
        return 2 / math.pi * np.arcsin(2 * a2 * covariance / (1 + 2 * a2 * variance))
    if kind == "relu":
        return relu_moment(mean, std, rho)
    a, square = gain_coefficients(gain, [mean], [std], n)
    terms = np.append(a[0] ** 2, square[0] - np.sum(a[0] ** 2))
    return np.polynomial.polynomial.polyval(rho, terms)


def step_pair(u, rho):
    """``P(x > 0, y > 0)`` for two Gaussians with mean/s.d. = u and correlation rho.

    >>> step_pair(0.0, np.array([0.0, 1.0])).round(12)
    array([0.25, 0.5 ])
    """
    from scipy.special import ndtr, owens_t

    rho = np.clip(rho, -1.0, 1.0)
    with np.errstate(divide="ignore"):
        slope = np.sqrt((1.0 - rho) / (1.0 + rho))
    return ndtr(u) - 2.0 * owens_t(u, slope)


def relu_moment(mean, std, rho):
    """``E[max(x, 0) max(y, 0)]`` for equal mean and s.d. (moments of the truncated bivariate normal)."""
    from scipy.special import ndtr

    u, rho = mean / std, np.clip(rho, -1.0, 1.0)
    if u == 0:
        return std**2 / (2 * math.pi) * (np.sqrt(1 - rho**2) + rho * (math.pi - np.arccos(rho)))
    both = step_pair(u, rho)
    with np.errstate(divide="ignore"):
        edge = math.exp(-0.5 * u**2) / math.sqrt(2 * math.pi) * ndtr(u * np.sqrt((1 - rho) / (1 + rho)))
        joint = np.sqrt(1 - rho**2) / (2 * math.pi) * np.exp(-(u**2) / (1 + rho))
    joint = np.where(rho > -1, joint, 0.0)
    return std**2 * ((u**2 + rho) * both + 2 * u * edge + joint)


def pair_matrix(gain, mean, covariance, n=N_HERMITE):
    """``E[phi(x_s) phi(x_t)]`` of a Gaussian process: mean (T,), covariance (T, T) -> (T, T).

    Parameters
    ----------
    gain : callable
        ``erf`` with zero mean and ``linear`` are exact; others by the Hermite series with the diagonal exact.

    Notes
    -----
    Cost: T^2 n multiplications, stopped early where the coefficients have died out.
    """
    kind = getattr(gain, "name", "")
    if kind == "linear":
        return covariance + np.outer(mean, mean)
    variance = np.diag(covariance)
    if kind == "erf" and not np.any(mean):
        root = np.sqrt(1 + math.pi / 2 * variance)
        return 2 / math.pi * np.arcsin(math.pi / 2 * covariance / np.outer(root, root))
    if kind == "exp":
        grown = np.exp(mean + 0.5 * variance)
        return np.outer(grown, grown) * np.exp(covariance)
    std = np.sqrt(variance)
    safe = np.where(std > 0, std, 1.0)
    rho = np.clip(covariance / np.outer(safe, safe), -1.0, 1.0)
    a, square = gain_coefficients(gain, mean, std, n)
    out, power = np.outer(a[:, 0], a[:, 0]), rho.copy()
    for k in range(1, n + 1):
        out += np.outer(a[:, k], a[:, k]) * power
        if k < n and np.max(np.abs(a[:, k + 1 :])) < 1e-12 * math.sqrt(np.max(square)):
            break
        power *= rho
    np.fill_diagonal(out, square)
    return out


def siegert(mu, sigma, tau, threshold, reset, refractory=0.0):
    """Rate of a leaky integrate-and-fire neuron with white input (Hz if times are in s).

        1/r = tau_ref + tau sqrt(pi) int_{(Vr-mu)/sigma}^{(th-mu)/sigma} erfcx(-u) du

    Parameters
    ----------
    mu, sigma : float
        Mean input and its s.d. in the convention ``sigma^2 = tau sum_j J_j^2 r_j``, in units of the potential.
    tau, refractory : float
    threshold, reset : float

    Examples
    --------
    >>> from lft.meanfield.saddle.closed import siegert
    >>> round(siegert(15.0, 5.0, 0.02, 20.0, 10.0, 0.002), 5)
    9.4608
    """
    from scipy.integrate import quad
    from scipy.special import erfcx

    low, high = (reset - mu) / sigma, (threshold - mu) / sigma
    # erfcx(-u) grows as 2 exp(u^2): scaled by its largest value, so that far below threshold the rate is 0, not nan
    top = max(high, 0.0) ** 2

    def integrand(u):
        return erfcx(-u) * math.exp(-top) if u < 20 else 2.0 * math.exp(u * u - top)

    area, _ = quad(integrand, low, high, limit=400, epsabs=0, epsrel=1e-10)
    logarithm = math.log(tau * math.sqrt(math.pi) * area) + top
    return 0.0 if logarithm > 600 else 1.0 / (refractory + math.exp(logarithm))
