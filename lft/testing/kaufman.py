"""Exact two-dimensional Ising model on a finite torus (Kaufman's solution), any couplings, any size.

The weight is ``exp(+K_x sum s_{x,y} s_{x+1,y} + K_y sum s_{x,y} s_{x,y+1})``, no field. With the transfer
matrix along y,

    Z = (1/2) (2 sinh 2K_y)^{N/2} [ C_1 + S_1 + C_0 - S_0 ],     N = L_x L_y,
    C_a = prod_k 2 cosh(L_y gamma_k / 2),   S_a = prod_k 2 sinh(L_y gamma_k / 2),

k = 1, 3, ..., 2 L_x - 1 for a = 1 and k = 0, 2, ..., 2 L_x - 2 for a = 0, and

    cosh gamma_k = cosh 2K_x coth 2K_y - (sinh 2K_x / sinh 2K_y) cos(pi k / L_x).

gamma_k > 0 except gamma_0 = 2 (K* - K_x), tanh K* = exp(-2 K_y), which changes sign at the critical line: S_0
with it.

Negative couplings. On an even axis the sign of K drops out (flip every second spin). On an odd axis the same
flip leaves one antiperiodic seam, which only permutes the signs of the four products:

    seam across x:      C_1 - S_1 + C_0 + S_0           seams across x and y:     C_0 + S_0 - (C_1 - S_1).

Everything is kept as logarithms, and the differences C - S as C (1 - prod tanh), so that neither large
lattices nor the exponentially small Z of a seam overflow or cancel.

Reference: B. Kaufman, Phys. Rev. 76, 1232 (1949).
"""

import numpy as np

from lft.errors import InputError

MAX_EXTENT = 2048
MAX_COUPLING = 150.0          # exp(4 K) stays a float
NEGLIGIBLE = 1e-100           # a coupling below this is zero


def kaufman_log_z(L_x, L_y, K_x, K_y):
    """Log partition function of the 2-D Ising model on an ``L_x x L_y`` torus; equations in the module.

    Parameters
    ----------
    L_x, L_y : int
        Extents, 1 to 2048. An axis of extent 2 has two bonds between the same two spins, as a torus does; on
        an axis of extent 1 there is no bond, because a bond joins two different sites.
    K_x, K_y : float
        Couplings per bond along x and y, any sign, ``|K| <= 150``; positive favors equal spins.

    Returns
    -------
    float
        ln Z, relative accuracy about 1e-14.

    Raises
    ------
    InputError
        Extent or coupling out of range, or the doubly frustrated case (both extents odd, both couplings
        strongly negative) where the terms cancel to less than 9 digits.

    Notes
    -----
    Cost: O(L_x + L_y).

    References
    ----------
    B. Kaufman, Phys. Rev. 76, 1232 (1949).

    Examples
    --------
    >>> from math import log, sqrt
    >>> K = log(1 + sqrt(2)) / 2
    >>> round(kaufman_log_z(4, 4, K, K), 10)
    15.5219154588
    """
    return _solve(*_check(L_x, L_y, K_x, K_y))[0]


def kaufman_bonds(L_x, L_y, K_x, K_y):
    """Exact mean of ``s s'`` per bond along x and along y on an ``L_x x L_y`` torus.

        u_x = (1/(L_x L_y)) d ln Z / d K_x,    u_y = (1/(L_x L_y)) d ln Z / d K_y      (analytic derivatives)

    Parameters
    ----------
    L_x, L_y, K_x, K_y
        As for :func:`kaufman_log_z`.

    Returns
    -------
    u_x, u_y : float
        Each in [-1, 1]; absolute accuracy about 1e-13, and 1e-10 at the largest couplings. 0 for an axis of
        extent 1.

    Raises
    ------
    InputError
        As :func:`kaufman_log_z`.

    Notes
    -----
    The energy per site is ``-(K_x u_x + K_y u_y)``. Cost: O(L_x + L_y).

    References
    ----------
    B. Kaufman, Phys. Rev. 76, 1232 (1949).

    Examples
    --------
    >>> from math import log, sqrt
    >>> K = log(1 + sqrt(2)) / 2
    >>> round(sum(kaufman_bonds(4, 4, K, K)), 10)
    1.5656237876
    """
    return _solve(*_check(L_x, L_y, K_x, K_y))[1]


def _check(L_x, L_y, K_x, K_y):
    for name, L in (("L_x", L_x), ("L_y", L_y)):
        if not isinstance(L, (int, np.integer)) or isinstance(L, bool) or not 1 <= L <= MAX_EXTENT:
            raise InputError(f"{name} = {L!r}: give an integer from 1 to {MAX_EXTENT}")
    for name, K in (("K_x", K_x), ("K_y", K_y)):
        if not (np.isscalar(K) and np.isreal(K) and abs(K) <= MAX_COUPLING):
            raise InputError(f"{name} = {K!r}: give a number between -{MAX_COUPLING:g} and {MAX_COUPLING:g}")
    return int(L_x), int(L_y), float(K_x), float(K_y)


def _solve(L_x, L_y, K_x, K_y):
    """(ln Z, (u_x, u_y)): reduce to positive couplings, transfer along y, then sum the sectors."""
    if L_x == 1 or abs(K_x) < NEGLIGIBLE:
        log_z, u = _ring(L_y, K_y)
        return L_x * log_z, (0.0, u)
    has_seam_x, has_seam_y = K_x < 0 and L_x % 2 == 1, K_y < 0 and L_y % 2 == 1
    must_swap = has_seam_y and not has_seam_x                  # the formula wants a single seam across x
    may_swap = has_seam_x == has_seam_y and abs(K_x) > abs(K_y)      # better conditioned
    if L_y == 1 or abs(K_y) < NEGLIGIBLE or must_swap or may_swap:
        log_z, (u_y, u_x) = _solve(L_y, L_x, K_y, K_x)
        return log_z, (u_x, u_y)
    log_z, u_x, u_y = _sum_sectors(L_x, L_y, abs(K_x), abs(K_y), has_seam_x, has_seam_y)
    return log_z, (float(np.copysign(1, K_x) * u_x), float(np.copysign(1, K_y) * u_y))


def _ring(L, K):
    """ln Z and mean bond of a closed chain, ``Z = (2 cosh K)^L (1 + tanh^L K)``."""
    if L == 1:
        return float(np.log(2)), 0.0
    if K == 0:
        return float(L * np.log(2)), 0.0
    t = np.tanh(abs(K))
    log_t = _log_tanh(abs(K))
    log_cosh = np.logaddexp(K, -K)
    if K > 0 or L % 2 == 0:
        log_z, u = L * log_cosh + np.log1p(t**L), (t + t**(L - 1)) / (1 + t**L)
    else:
        log_z = L * log_cosh + np.log(-np.expm1(L * log_t))
        u = t * np.expm1((L - 2) * log_t) / np.expm1(L * log_t)
    return float(log_z), float(np.copysign(u, K))


def _log_tanh(K):
    """ln tanh K for K > 0, also where tanh K rounds to 1."""
    return np.log(np.tanh(K)) if K < 1 else np.log1p(-2 / (np.exp(2 * K) + 1))


def _sum_sectors(L_x, L_y, K_x, K_y, has_seam_x, has_seam_y):
    """ln Z and its derivatives per site for positive couplings, with seams."""
    c_x, s_x, c_y, s_y = np.cosh(2 * K_x), np.sinh(2 * K_x), np.cosh(2 * K_y), np.sinh(2 * K_y)
    delta = -0.5 * _log_tanh(K_y) - K_x                                             # K* - K_x
    logs, slopes_x, slopes_y = [], [], []
    for a in (1, 0):
        theta = np.pi * (2 * np.arange(L_x) + a) / L_x
        gamma = 2 * np.arcsinh(np.sqrt(np.sinh(delta)**2 + s_x / s_y * np.sin(theta / 2)**2))
        gamma = np.maximum(gamma, 1e-200)          # exactly on the critical line: tanh and coth stay finite
        d_x = 2 * (c_y * s_x - c_x * np.cos(theta)) / s_y / np.sinh(gamma)
        d_y = -2 * (c_x - s_x * c_y * np.cos(theta)) / s_y / s_y / np.sinh(gamma)
        # gamma falls with K_y as the prefactor (2 sinh 2K_y)^{N/2} grows; their sum, free of cancellation:
        if K_y < 0.5:
            rest = c_x - c_y * np.exp(-gamma) / s_y
        else:                                      # the same, exact also where everything is nearly frozen
            rest = 2 * np.sinh(K_x)**2 - np.exp(-2 * K_y) / s_y - c_y / s_y * np.expm1(-gamma)
        d_y_rest = 2 * rest / np.sinh(gamma)
        sign = -1.0 if has_seam_x else 1.0
        if a == 0:
            side = np.copysign(1.0, delta)         # S_0 is odd in gamma_0; the arrays hold |gamma_0|
            sign *= -side
            d_x[0], d_y[0], d_y_rest[0] = -2 * side, -2 * side / s_y, 2 * np.tanh(K_y)**side
        with np.errstate(over="ignore"):           # 1/expm1(large) = 0 is meant
            log_sector, pull = _sector(L_y, gamma, sign)
        logs.append(log_sector)
        slopes_x.append(L_y / 2 * ((1 + pull) @ d_x))
        slopes_y.append(L_y / 2 * (d_y_rest.sum() + pull @ d_y))
    log_sum, weights = _combine(logs, is_difference=has_seam_x and has_seam_y)
    n = L_x * L_y
    log_sinh = 2 * K_y + np.log(-np.expm1(-4 * K_y))                                # ln(2 sinh 2K_y)
    log_z = n / 2 * log_sinh + log_sum - np.log(2)
    return float(log_z), weights @ slopes_x / n, weights @ slopes_y / n


def _sector(L, gamma, sign):
    """``ln(C + sign S)``, and p such that its derivative with respect to gamma_k is ``(L/2)(1 + p_k)``."""
    q = np.exp(-L * gamma)
    log_c = (L * gamma / 2 + np.log1p(q)).sum()
    one_over_sinh = 2 * q / -np.expm1(-2 * L * gamma)
    # r = S/C = prod tanh(L gamma_k / 2); ln tanh in the form that keeps its digits
    minus_log_r = np.where(q > 0.3, -np.log(np.tanh(L * gamma / 2)), 2 * np.arctanh(np.minimum(q, 0.5))).sum()
    if sign > 0:
        return (log_c + np.log1p(np.exp(-minus_log_r)),
                -2 * q / (1 + q) + 2 * one_over_sinh / (1 + np.exp(minus_log_r)))
    if L * gamma.min() > 600:                      # q underflows: 1 - r = 2 sum q
        log_sum = np.logaddexp.reduce(-L * gamma)
        return log_c + np.log(2) + log_sum, -2 * np.exp(-L * gamma - log_sum)
    return (log_c + np.log(-np.expm1(-minus_log_r)),
            -2 * q / (1 + q) - 2 * one_over_sinh / np.expm1(minus_log_r))


def _combine(logs, is_difference):
    """ln(P_1 + P_0), or ln(P_0 - P_1) with two seams, and the weights of the two in the derivative."""
    if not is_difference:
        total = np.logaddexp(*logs)
        return total, np.exp(np.array(logs) - total)
    rest = -np.expm1(logs[0] - logs[1])                    # 1 - P_1/P_0
    if not rest > 1e-6:
        raise InputError("both extents are odd and both couplings strongly negative: the exact terms cancel "
                         "to fewer than 9 digits; use weaker couplings, or an even extent")
    return logs[1] + np.log(rest), np.array([1 - 1 / rest, 1 / rest])
