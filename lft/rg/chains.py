"""Exact relations in one dimension: decimation and its inverse, rates, persistence, refractory time.

One neuron, or a line of sites, as an Ising chain ``s = +-1`` with the weight

    exp( K sum_x s_x s_{x+1} + h sum_x s_x ),      T(s, s') = exp(K s s' + h (s + s')/2)

Everything follows from the 2x2 transfer matrix T: its normalized eigenvalues are 1 and ``rho``, the correlation of
neighbors.  Keeping every b-th site raises T to the power b (:func:`lft.testing.exact.decimate_chain`); the way back is
a b-th root of T, which need not exist, and need not be unique (:func:`undecimate_chain`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lft.errors import InputError
from lft.testing.exact import decimate_chain

MAX_COUPLING = 100.0
"""Largest |K| + |h|: beyond, the weights underflow."""


class ChainMoments(NamedTuple):
    """Exact moments of the infinite chain."""

    magnetization: float  # <s>
    correlation: float  # rho = (<s s'> - <s>^2)/(1 - <s>^2) of neighbors
    susceptibility: float  # sum_r (<s_0 s_r> - <s>^2)
    probability: float  # that a site is up, (1 + <s>)/2
    persistence: float  # -1/ln|rho| in sites: |correlation| at distance r is exp(-r/persistence)


def _check_couplings(K, h):
    if not (np.isfinite(K) and np.isfinite(h)) or abs(K) + abs(h) > MAX_COUPLING:
        raise InputError(f"K = {K!r}, h = {h!r}: valid are finite couplings with |K| + |h| <= {MAX_COUPLING:g}")


def _check_integer(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} = {value!r}: valid is an integer >= {least}")


def chain_moments(K, h=0.0):
    """Moments of the infinite chain from its couplings.

        m = sinh h / sqrt(sinh^2 h + exp(-4K)),    rho = (cosh h - D)/(cosh h + D),   D = sqrt(sinh^2 h + exp(-4K)),
        chi = (1 - m^2) (1 + rho)/(1 - rho),       persistence = -1/ln|rho|

    Parameters
    ----------
    K, h : float
        ``|K| + |h| <= 100``.

    Returns
    -------
    ChainMoments
        Persistence in sites, 0 for ``rho = 0``.

    Raises
    ------
    InputError
        Couplings out of range.

    Notes
    -----
    Cost O(1).  ``rho`` is formed as ``(1 - exp(-4K)) / (cosh h + D)^2``, which keeps its digits near 0; it is negative
    for K < 0, where the correlation alternates.  Standard result (transfer matrix).

    Examples
    --------
    >>> moments = chain_moments(0.6)
    >>> bool(abs(moments.correlation - np.tanh(0.6)) < 1e-15), moments.magnetization
    (True, 0.0)
    """
    _check_couplings(K, h)
    # everything over exp(|h|), so that a strong field does not overflow
    sinh, cosh = math.copysign(-math.expm1(-2 * abs(h)) / 2, h), (1 + math.exp(-2 * abs(h))) / 2
    edge = math.exp(-2 * K - abs(h)) if K >= 0 else 1.0
    if K < 0:  # over exp(-2K) as well
        sinh, cosh = sinh * math.exp(2 * K), cosh * math.exp(2 * K)
        edge = math.exp(-abs(h))
    root = math.hypot(sinh, edge)
    m = sinh / root
    scale = math.exp(-2 * abs(h)) * (1.0 if K >= 0 else math.exp(4 * K))
    rho = -math.expm1(-4 * K) * scale / (cosh + root) ** 2
    variance = (edge / root) ** 2
    magnitude = abs(rho)
    persistence = 0.0 if magnitude == 0 else -1 / math.log(magnitude) if magnitude < 1 else math.inf
    gap = 2 * root / (cosh + root)  # 1 - rho
    rare = variance / (2 * (1 + abs(m)))  # of the rarer state, with all its digits
    return ChainMoments(m, rho, variance * (1 + rho) / gap, rare if m < 0 else 1 - rare, persistence)


def chain_couplings(probability, correlation):
    """Couplings of the chain with a given probability of being up and a given correlation of neighbors.

        P11 = p + (1 - p) rho,  P10 = p (1 - rho),
        K = (1/4) ln[P11 (1 - P10) / ((1 - P11) P10)],   h = (1/2) ln[P11/(1 - P10)]

    The inverse of :func:`chain_moments`: a neuron's firing probability per bin and its lag-1 autocorrelation.

    Parameters
    ----------
    probability : float
        p, 0 < p < 1.
    correlation : float
        rho, ``max(-p/(1-p), -(1-p)/p) < rho < 1``: below, no binary sequence has it.

    Returns
    -------
    K, h : float

    Raises
    ------
    InputError
        Out of range.

    Examples
    --------
    >>> moments = chain_moments(0.3, -0.7)
    >>> [round(x, 12) for x in chain_couplings(moments.probability, moments.correlation)]
    [0.3, -0.7]
    """
    p, rho = float(probability), float(correlation)
    if not 0 < p < 1:
        raise InputError(f"probability = {probability!r}: valid is 0 < p < 1 per bin")
    low = max(-p / (1 - p), -(1 - p) / p)
    if not low < rho < 1:
        raise InputError(f"correlation = {correlation!r}: valid is {low:.6g} < rho < 1 at probability {p:.6g}")
    p11, p10 = p + (1 - p) * rho, p * (1 - rho)
    p01, p00 = (1 - p) * (1 - rho), 1 - p10
    return math.log(p11 * p00 / (p01 * p10)) / 4, math.log(p11 / p00) / 2


def field_at_probability(probability, K):
    """Field of the chain that is up with a given probability at a given coupling.

        sinh h = m exp(-2K) / sqrt(1 - m^2),    m = 2p - 1

    Examples
    --------
    >>> round(field_at_probability(chain_moments(0.3, -0.7).probability, 0.3), 12)
    -0.7
    """
    if not 0 < probability < 1:
        raise InputError(f"probability = {probability!r}: valid is 0 < p < 1 per bin")
    _check_couplings(K, 0.0)
    m = 2 * probability - 1
    return math.asinh(m * math.exp(-2 * K) / (2 * math.sqrt(probability * (1 - probability))))


def coupling_at_persistence(persistence):
    """Coupling of the chain without field whose correlation falls as ``exp(-r/persistence)``; in sites, > 0.

        K = atanh(exp(-1/persistence))

    Examples
    --------
    >>> round(coupling_at_persistence(chain_moments(0.6).persistence), 12)
    0.6
    """
    if not (np.isfinite(persistence) and persistence > 0):
        raise InputError(f"persistence = {persistence!r}: valid is a positive number of sites")
    return math.atanh(math.exp(-1 / persistence)) if persistence < 1e15 else math.log(2 * persistence) / 2


class Roots(NamedTuple):
    """Fine chains whose decimation is a given chain, and why there are none or several."""

    solutions: tuple  # of (K, h), the ferromagnetic one first; empty if no fine chain exists
    verdict: str


def undecimate_chain(K, h, b):
    """Every fine chain of which each b-th site is the chain with couplings (K, h).

    With ``T' = V diag(1, r') V^T`` (scaled), ``r'`` the correlation of neighbors, the fine transfer matrix is
    ``T = V diag(1, r) V^T`` with ``r^b = r'``; it is one of a chain with real couplings if all its entries are
    positive:

    ============  ==========  =================================================================
    K             b           fine chains
    ============  ==========  =================================================================
    K > 0         odd         one, K_fine > 0
    K > 0         even        one with K_fine > 0; a second with K_fine < 0 if ``|r|`` permits
    K = 0         any         one, K_fine = 0 (h unchanged)
    K < 0         odd         one with K_fine < 0 if ``|r|`` permits
    K < 0         even        none: a square cannot have a negative eigenvalue
    ============  ==========  =================================================================

    "Permits": ``|r| < min(v1^2, v2^2)/max(v1^2, v2^2)`` with v the leading eigenvector, that is: the sequence cannot
    be more anticorrelated than its density allows.

    Parameters
    ----------
    K, h : float
        Coarse couplings, ``|K| + |h| <= 100``.
    b : int
        Decimation factor, >= 1.

    Returns
    -------
    Roots
        ``solutions`` and ``verdict``; nothing is guessed where no root exists.

    Raises
    ------
    InputError
        Arguments out of range.

    Notes
    -----
    The condition number grows as ``1/r'``: a coarse chain without visible correlation says nothing about K.

    Examples
    --------
    >>> [tuple(round(x, 9) for x in s) for s in undecimate_chain(*decimate_chain(0.6, -0.4, 3), 3).solutions]
    [(0.6, -0.4)]
    >>> undecimate_chain(-0.2, 0.0, 2).solutions
    ()
    """
    _check_couplings(K, h)
    _check_integer("b", b, 1)
    if b == 1:
        return Roots(((float(K), float(h)),), "b = 1: the chain itself")
    if K == 0:
        return Roots(((0.0, float(h)),), "no correlation: K = 0 at every scale, the field is unchanged")
    moments = chain_moments(K, h)
    p, coarse = moments.probability, moments.correlation
    if moments.susceptibility == 0 or not 0 < p < 1:
        raise InputError(f"K = {K!r}, h = {h!r}: all sites are alike to rounding; such a chain has no root to take")
    bound = min(p, 1 - p) / max(p, 1 - p)  # the leading eigenvector squared is (p, 1 - p)
    size = abs(coarse) ** (1 / b)
    ratios = [size] if coarse > 0 else []
    is_allowed = size < bound
    if (coarse > 0) == (b % 2 == 0) and is_allowed:
        ratios.append(-size)
    solutions = tuple(_couplings_of(p, moments.magnetization, r) for r in ratios)
    if coarse < 0 and b % 2 == 0:
        return Roots((), f"K = {K:.6g} < 0: no chain alternates after an even decimation, b = {b}")
    if not solutions:
        return Roots((), f"the fine chain would need rho = {-size:.4g}, below {-bound:.4g} that density {p:.4g} allows")
    if len(solutions) == 2:
        return Roots(solutions, f"two chains: every {b}-th site of K > 0 and of K < 0 look the same")
    return Roots(solutions, "one chain")


def _couplings_of(p, m, rho):
    """(K, h) of a chain at density p and correlation rho; h by its sinh, which keeps digits where p = 1/2."""
    K = math.log1p(rho / (p * (1 - p) * (1 - rho) ** 2)) / 4
    return K, math.asinh(m * math.exp(-2 * K) / (2 * math.sqrt(p * (1 - p))))


def undecimation_error(K, h, b, covariance, solution=0):
    """Covariance of an undecimated chain from that of the coarse couplings: ``J^-1 C J^-T``, ``J = d(K', h')/d(K, h)``.

    Parameters
    ----------
    K, h, b
        As in :func:`undecimate_chain`.
    covariance : ndarray (2, 2)
        Of the coarse (K, h).
    solution : int
        Which of the solutions.

    Returns
    -------
    ndarray (2, 2)
        Linear propagation; infinite where decimation has erased the coupling (J is singular at K = 0, b >= 2).
    """
    solutions = undecimate_chain(K, h, b).solutions
    if not solutions:
        raise InputError(f"K = {K!r}, h = {h!r}: {undecimate_chain(K, h, b).verdict}")
    jacobian = decimation_jacobian(*solutions[solution], b)
    if np.linalg.cond(jacobian) > 1e8:  # the differences behind it have an error of 1e-9
        return np.full((2, 2), np.inf)
    inverse = np.linalg.inv(jacobian)
    return inverse @ np.asarray(covariance, float) @ inverse.T


def decimation_jacobian(K, h, b):
    """``d(K', h')/d(K, h)`` of :func:`lft.testing.exact.decimate_chain`, by central differences (error about 1e-9)."""
    columns = []
    for k in range(2):
        step = np.array([1e-5, 0.0])[:: -1 if k else 1]
        up, down = (np.array(decimate_chain(*(np.array([K, h]) + sign * step), b)) for sign in (1, -1))
        columns.append((up - down) / 2e-5)
    return np.array(columns).T


# ---- refractory time: hard rods on a line
def hard_rod_activity(density, refractory):
    """Activity z of a neuron that fires with a given density and then rests for R bins.

        z = rho/(1 - (R+1) rho) [ (1 - R rho)/(1 - (R+1) rho) ]^R

    The weight of a spike train is ``z^spikes``, any two spikes more than R bins apart.

    Parameters
    ----------
    density : float
        rho, spikes per bin, 0 < rho < 1/(R+1).
    refractory : int
        R >= 0, bins after a spike in which no other can follow.

    Returns
    -------
    float

    Raises
    ------
    InputError
        A density that rods of this length cannot reach.

    Examples
    --------
    >>> round(hard_rod_activity(0.0882139741, 3), 9)
    0.2
    """
    _check_integer("refractory", refractory, 0)
    if not 0 < density < 1 / (refractory + 1):
        raise InputError(
            f"density = {density!r}: valid is 0 < rho < 1/(R+1) = {1 / (refractory + 1):.6g} spikes per bin at R = "
            f"{refractory}"
        )
    free = 1 - (refractory + 1) * density
    return density / free * ((1 - refractory * density) / free) ** refractory


def hard_rod_density(activity, refractory):
    """Density of spikes at a given activity: the inverse of :func:`hard_rod_activity`, to rounding.

    With ``y`` the root of ``y = 1 + z y^-R`` above 1 (the largest eigenvalue of the transfer matrix),
    ``rho = (y - 1)/(y + R (y - 1))``.

    Examples
    --------
    >>> round(hard_rod_density(0.2, 3), 10)
    0.0882139741
    """
    _check_integer("refractory", refractory, 0)
    if not (np.isfinite(activity) and activity > 0):
        raise InputError(f"activity = {activity!r}: valid is a positive number")
    if refractory == 0:
        return activity / (1 + activity)
    from scipy.optimize import brentq

    # x = y - 1 solves ln x + R ln(1 + x) = ln z, which rises monotonically
    log_z = math.log(activity)
    low = log_z - refractory * math.log(2)  # ln(1 + x) <= ln 2 + max(0, ln x)
    low = min(low, low / (refractory + 1)) - 1e-9
    u = brentq(lambda u: u + refractory * np.logaddexp(0, u) - log_z, low, log_z, xtol=1e-15)
    x = math.exp(u)
    return x / (1 + (refractory + 1) * x)
