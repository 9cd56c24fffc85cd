"""Spread of pairwise covariances over the pairs of a random network, O(1/sqrt N), and its dimension.

Each neuron a linear unit around the mean-field state, with response R_a(w) to its input, and spectrum A_a(w) of its
full self-consistent autocovariance.  With ``Z_ab = R_a(w1) R_a(w2) V_ab``, ``X = (1 - Z)^-1``,
``Y_ab = (X - 1)_ab/N_b`` and A_a standing for ``A_a(w1) A_a(w2)``, for pairs i in a, j in b, i != j, of the zero-mean
part of the weights:

    E[C_ij(w1) C_ij(w2)] = Y_ab A_b + conj(Y_ba) A_a + sum_c N_c Y_ac conj(Y_bc) A_c

One population: ``N E = [|1 - g^2 R(w1) R(w2)|^-2 - 1] A(w1) A(w2)``.  The one-population form is known (Clark, Abbott,
Litwin-Kumar 2023; Dahmen et al. 2019 at w = 0); several populations and lattices are a reconstruction of this project,
checked against direct linear networks (``tests/statistical/test_network_spread.py``).

All functions take arrays and do not care where these come from.
"""

from __future__ import annotations

import math

import numpy as np

from lft.errors import InputError


def product_spread(response1, response2, variance, power1, power2, sizes):
    """``E[C_ij(w1) C_ij(w2)]`` over pairs, for several populations at a pair of frequencies.

    Parameters
    ----------
    response1, response2 : ndarray (P,)
        R_a(w1), R_a(w2).
    variance : ndarray (P, P)
        V_ab, post by pre.
    power1, power2 : ndarray (P,)
        A_a(w1), A_a(w2): spectra of single neurons.
    sizes : ndarray (P,)

    Returns
    -------
    ndarray (P, P)
        Complex in general; for w2 = -w1 it is the variance of the cross-spectra.

    Raises
    ------
    InputError
        The spectral radius of ``|Z|`` at these frequencies is 1 or more: the mean-field state is unstable.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.ones(1)
    >>> spread = product_spread(one, one, np.array([[0.25]]), one, one, np.array([1000]))
    >>> round(float(1000 * spread[0, 0].real), 4)
    0.7778
    """
    response1, response2, variance, power1, power2, sizes = (
        np.atleast_1d(np.asarray(x)) for x in (response1, response2, variance, power1, power2, sizes)
    )
    variance = np.atleast_2d(variance)
    z = (response1 * response2)[:, None] * variance
    radius = float(np.max(np.abs(np.linalg.eigvals(np.abs(z)))))
    if radius >= 1:
        raise InputError(f"the spectral radius of R R V is {radius:.4g}: valid is below 1, where the state is stable")
    y = (np.linalg.inv(np.eye(len(z)) - z) - np.eye(len(z))) / sizes
    power = power1 * power2
    return y * power + (y.conj() * power).T + (y * (sizes * power)) @ y.conj().T


def equal_frequency_spread(response, variance, power, sizes):
    """Variance over pairs of the covariances of time-integrated outputs, from R(0) and A(0): (P, P)."""
    return product_spread(response, response, variance, power, power, sizes).real


def equal_time_spread(omega, response, variance, power, sizes):
    """Variance over pairs of equal-time covariances, the integral over both frequencies.

    Parameters
    ----------
    omega : ndarray (F,)
        Equally spaced angular frequencies, both signs, each once (order of ``numpy.fft.fftfreq``).
    response, power : ndarray (P, F)
    variance : ndarray (P, P)
    sizes : ndarray (P,)

    Returns
    -------
    ndarray (P, P)

    Notes
    -----
    The sum over F^2 pairs of P x P matrices; frequencies with little power are left out (1e-7 of the whole).
    """
    response, power = np.atleast_2d(response), np.atleast_2d(power)
    variance, sizes = np.atleast_2d(variance), np.atleast_1d(sizes)
    n_pop, step = len(power), float(np.median(np.abs(np.diff(omega))))
    keep = _heavy(power)
    r, a = response[:, keep], power[:, keep]
    worst = float(np.max(np.abs(r))) if r.size else 0.0
    radius = float(np.max(np.abs(np.linalg.eigvals(np.max(np.abs(r), axis=1)[:, None] ** 2 * variance))))
    if radius >= 1:
        raise InputError(
            f"the spectral radius of R R V reaches {radius:.4g} (largest |R| = {worst:.4g}): valid is below 1"
        )
    total = np.zeros((n_pop, n_pop), complex)
    eye = np.eye(n_pop)
    # both frequencies with the other sign give the complex conjugate: one sign of the first, twice, is enough
    sign = np.sign(np.asarray(omega, float)[keep])
    for k in np.flatnonzero(sign >= 0):
        pair = (1.0 + sign[k]) * a[:, k][:, None] * a  # (P, F)
        if n_pop == 1:
            z = r[0, k] * r[0] * variance[0, 0]
            total[0, 0] += np.sum((1.0 / np.abs(1.0 - z) ** 2 - 1.0) * pair[0]) / sizes[0]
            continue
        z = np.einsum("af,ab->fab", r[:, k][:, None] * r, variance)
        y = (np.linalg.inv(eye - z) - eye) / sizes
        total += np.einsum("fab,bf->ab", y, pair) + np.einsum("fba,af->ab", y.conj(), pair)
        total += np.einsum("fac,cf,fbc->ab", y, sizes[:, None] * pair, y.conj())
    return total.real * (step / (2 * np.pi)) ** 2


def _heavy(power):
    """Frequencies that carry all but 1e-7 of the power of every population."""
    keep = np.zeros(power.shape[1], bool)
    for row in power:
        order = np.argsort(row)[::-1]
        share = np.cumsum(row[order]) / max(row.sum(), 1e-300)
        keep[order[: int(np.searchsorted(share, 1 - 1e-7)) + 1]] = True
    return keep


def relative_spread(radius):
    """``N Var(c_ij)/(mean c_ii)^2`` of one linear population with spectral radius ``radius``.

        1/(1 - radius^2)^2 - 1

    >>> round(relative_spread(0.5), 4)
    0.7778
    """
    if not 0 <= radius < 1:
        raise InputError(f"radius = {radius!r}: valid is a number from 0 to below 1")
    return 1.0 / (1.0 - radius**2) ** 2 - 1.0


def radius_of_spread(spread):
    """The spectral radius with a given ``N Var(c_ij)/(mean c_ii)^2``, the inverse of :func:`relative_spread`.

        sqrt(1 - sqrt(1/(1 + spread)))

    >>> round(radius_of_spread(relative_spread(0.5)), 12)
    0.5
    """
    if not spread >= 0:
        raise InputError(f"spread = {spread!r}: valid is a number >= 0")
    return math.sqrt(1.0 - math.sqrt(1.0 / (1.0 + spread)))


def participation_ratio(variance, variance_square, pair_square, size):
    """``PR/N = (mean c_ii)^2 / (mean c_ii^2 + (N - 1) mean c_ij^2)``.

    Parameters
    ----------
    variance, variance_square : float
        Means of c_ii and c_ii^2 over neurons.
    pair_square : float
        Mean of c_ij^2 over pairs: spread plus squared mean.
    size : int

    Examples
    --------
    >>> lam = 0.5
    >>> round(participation_ratio(1.0, 1.0, relative_spread(lam) / 1000, 1001), 4), (1 - lam**2) ** 2
    (0.5625, 0.5625)
    """
    return variance**2 / (variance_square + (size - 1) * pair_square)


def ring_spread(response1, response2, profile, power1, power2):
    """``E[C_ij(w1) C_ij(w2)]`` on a periodic lattice by the displacement of the pair.

        [ |1 - R(w1) R(w2) V_hat(k)|^-2 - 1 ] A(w1) A(w2), back to space

    Parameters
    ----------
    response1, response2 : complex
    profile : ndarray
        V by displacement, ``profile[x] = Var(W)`` of one pair of neurons x sites apart; any number of periodic axes.
    power1, power2 : float

    Returns
    -------
    ndarray
        Same shape; the entry at displacement 0 belongs to pairs of the same site, if a site has several neurons.

    Raises
    ------
    InputError
        ``|R R V_hat|`` reaches 1.

    Notes
    -----
    One neuron per site, or the variance divided by the neurons of a site; a reconstruction that gets better with the
    number of partners (8 % for a ring with a profile of 100 sites).  Cost: two FFTs.
    """
    z = response1 * response2 * np.fft.fftn(profile)
    worst = float(np.max(np.abs(z)))
    if worst >= 1:
        raise InputError(f"the largest |R R V(k)| is {worst:.4g}: valid is below 1, where the state is stable")
    return np.fft.ifftn(1.0 / np.abs(1.0 - z) ** 2 - 1.0).real * power1 * power2


def decay_length(profile_std, radius):
    """Distance over which the spread of covariances decays: ``s radius/sqrt(2 (1 - radius^2))``; a reconstruction.

    Parameters
    ----------
    profile_std : float
        S.d. of the variance profile along one axis.
    radius : float
        ``sqrt(R^2 V_hat(0))``.
    """
    if not 0 <= radius < 1:
        raise InputError(f"radius = {radius!r}: valid is a number from 0 to below 1")
    return profile_std * radius / math.sqrt(2.0 * (1.0 - radius**2))
