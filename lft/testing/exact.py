"""Exactly solvable systems: Ising chain, free field, one phi^4 site.

Weights are ``exp(+sum K s s' + sum h s)`` for spins and ``exp(-S)`` for real fields. Bonds follow the rules
of :mod:`lft.testing.oracles`. Small lattices of any kind: :mod:`lft.testing.enumeration`; the two-dimensional
Ising torus of any size: :mod:`lft.testing.kaufman`.
"""

from typing import NamedTuple

import numpy as np

from lft.errors import InputError
from lft.testing.enumeration import (
    LatticeMoments,
    NeuralMoments,
    count_bonds,
    enumerate_lattice,
    enumerate_neural,
    enumerate_states,
)
from lft.testing.kaufman import kaufman_bonds, kaufman_log_z

__all__ = ["ChainSolution", "FreeField", "LatticeMoments", "NeuralMoments", "decimate_chain",
           "enumerate_lattice", "enumerate_neural", "enumerate_states", "free_field", "ising_chain",
           "kaufman_bonds", "kaufman_log_z", "single_site_phi4"]

MAX_DENSE = 2048              # sites of a free field whose covariance is inverted as a matrix


class ChainSolution(NamedTuple):
    """Exact moments of an Ising chain."""

    log_z: float
    magnetization: float      # (1/L) sum_x <s_x>
    bond: float               # <s_x s_{x+1}> averaged over the bonds; 0 if there is none
    two_point: np.ndarray     # <s_x s_{x+r}>, r = 0 .. L-1, averaged over x (open: over the L - r pairs)


class FreeField(NamedTuple):
    """Exact moments of the free scalar field."""

    log_z: float
    phi2: float               # <phi_x^2> averaged over sites
    phi2_x: np.ndarray        # <phi_x^2>, shape of the lattice
    bonds: tuple              # per axis, <phi_x phi_{x+axis}> averaged over the bonds; 0 if there is none
    propagator_p: np.ndarray  # <|phi(p)|^2>/V, phi(p) = sum_x exp(-ipx) phi_x, p in the order of numpy.fft


def ising_chain(L, K, h=0.0, periodic=True):
    """Exact Ising chain from its 2x2 transfer matrix ``T(s, s') = exp(K s s' + h (s + s')/2)``.

        weight = exp( K sum_x s_x s_{x+1} + h sum_x s_x )

    Parameters
    ----------
    L : int
        Number of spins, >= 1. Closed chains: 2 spins have two bonds, 1 spin has none.
    K, h : float
        Coupling and field, finite.
    periodic : bool, optional
        Closed (default) or open.

    Returns
    -------
    ChainSolution
        log_z, magnetization, bond, two_point.

    Raises
    ------
    InputError
        L below 1, K or h not finite.

    Notes
    -----
    Cost: O(L) closed, O(L^2) open.

    References
    ----------
    R. J. Baxter, Exactly Solved Models in Statistical Mechanics, Academic Press (1982), chapter 2.

    Examples
    --------
    >>> chain = ising_chain(10, 0.5, periodic=False)
    >>> bool(abs(chain.two_point[3] - np.tanh(0.5)**3) < 1e-14)
    True
    """
    if not isinstance(L, (int, np.integer)) or L < 1 or not np.isfinite([K, h]).all():
        raise InputError(f"L = {L!r}, K = {K!r}, h = {h!r}: give L >= 1 and finite couplings")
    ratio, vectors, log_largest = _transfer(K, h)
    spin = vectors.T @ np.diag([1.0, -1.0]) @ vectors                    # matrix of s in the eigenbasis
    if periodic and L > 1:
        trace = (ratio**L).sum()
        log_z = L * log_largest + np.log(trace)
        magnetization = (ratio**L * np.diag(spin)).sum() / trace
        r = np.arange(L)[:, None, None]
        two_point = (ratio[:, None]**(L - r) * spin**2 * ratio**r).sum(axis=(1, 2)) / trace
    else:
        edge = np.exp(np.array([h, -h]) / 2 - abs(h) / 2) @ vectors
        norm = (edge**2 * ratio**(L - 1)).sum()
        log_z = (L - 1) * log_largest + abs(h) + np.log(norm)
        left = edge * ratio**np.arange(L)[:, None]              # left[x] = edge T^x, also read from the right
        magnetization = np.einsum("xa,ab,xb->", left, spin, left[::-1]) / (norm * L)
        sums = [np.einsum("xa,ab,xb->", left[:L - r], spin * ratio**r @ spin, left[L - 1 - r::-1])
                for r in range(L)]
        two_point = np.array(sums) / (norm * (L - np.arange(L)))
    return ChainSolution(float(log_z), float(magnetization), float(two_point[1]) if L > 1 else 0.0, two_point)


def decimate_chain(K, h, b):
    """Couplings of the Ising chain that consists of every b-th spin.

        K' = (1/4) ln[T11 T22 / T12^2],   h' = (1/2) ln[T11/T22]
        T  = b-th power of the matrix exp(K s s' + h (s + s')/2)

    Parameters
    ----------
    K, h : float
        Coupling and field of the fine chain, finite.
    b : int
        Decimation factor, >= 1.

    Returns
    -------
    K_b, h_b : float
        At h = 0 this is ``atanh(tanh(K)^b)`` and 0.

    Raises
    ------
    InputError
        b below 1, K or h not finite, or ``|K| + |h| > 100``.

    Notes
    -----
    Cost: O(1). K' is taken from the determinant, ``ln(1 + det T^b / T12^2)/4``, to keep its digits when it is
    small.

    Examples
    --------
    >>> [round(x, 10) for x in decimate_chain(0.6, -0.4, 3)]
    [0.1150571437, -0.9391464864]
    """
    if not isinstance(b, (int, np.integer)) or b < 1 or not np.isfinite([K, h]).all():
        raise InputError(f"K = {K!r}, h = {h!r}, b = {b!r}: give finite couplings and an integer b >= 1")
    if abs(K) + abs(h) > 100:
        raise InputError(f"K = {K!r}, h = {h!r}: too strong, the weights underflow; |K| + |h| <= 100 works")
    ratio, _, log_largest = _transfer(K, h)
    power = np.linalg.matrix_power(np.exp(_exponents(K, h) - log_largest), b)  # all entries positive
    excess = ratio[1]**b / power[0, 1]**2                                      # determinant over T12^2
    direct = np.log(power[0, 0] / power[0, 1]) + np.log(power[1, 1] / power[0, 1])
    K_b = (np.log1p(excess) if abs(excess) < 0.5 else direct) / 4
    return float(K_b), float(np.log(power[0, 0] / power[1, 1]) / 2)


def free_field(shape, kappa, periodic=True):
    """Exact Gaussian scalar field on a finite lattice: phi^4 at lambda = 0.

        S = sum_x [ -2 sum_axis kappa_axis phi_x phi_{x+axis} + phi_x^2 ] = (1/2) phi M phi,   <phi phi> =
        M^{-1} all axes periodic:   <|phi(p)|^2>/V = 1 / (2 - 4 sum_axis kappa_axis cos p_axis)

    Parameters
    ----------
    shape : tuple of int
        Extents. At most 2048 sites if an axis is open. Extents 1 and 2 as in :func:`enumerate_lattice`.
    kappa : float or sequence of float
        Hopping parameter, one number or one per axis; ``sum |kappa_axis| < 1/2`` always works.
    periodic : bool or sequence of bool, optional
        Per axis.

    Returns
    -------
    FreeField
        log_z, phi2, phi2_x, bonds, propagator_p.

    Raises
    ------
    InputError
        M is not positive definite, too many sites, or arguments that do not fit the axes.

    Notes
    -----
    Cost: O(V) if all axes are periodic, else O(V^3).

    Examples
    --------
    >>> free = free_field((8, 8), 0.2)
    >>> round(free.phi2 - 2 * 0.2 * sum(free.bonds), 12)        # <S>/V = 1/2
    0.5
    """
    try:
        shape = tuple(int(L) for L in shape)
        kappa = np.broadcast_to(kappa, len(shape)).astype(float)
        periodic = np.broadcast_to(periodic, len(shape))
    except (TypeError, ValueError):
        raise InputError(f"shape {shape}: give extents, and kappa and periodic once "
                         "or once per axis") from None
    if not shape or min(shape) < 1 or not np.isfinite(kappa).all():
        raise InputError(f"shape {shape}, kappa {kappa}: give extents >= 1 and finite kappa")
    V = int(np.prod(shape))
    if all(periodic):
        cosines = np.meshgrid(*(np.cos(2 * np.pi * np.arange(L) / L) * (L > 1) for L in shape), indexing="ij")
        inverse_p = 2 - 4 * sum(k * c for k, c in zip(kappa, cosines, strict=True))
        _require_positive(inverse_p.min(), kappa)
        propagator_p = 1 / inverse_p
        phi2, log_det = propagator_p.mean(), np.log(inverse_p).sum()
        phi2_x, bonds = np.full(shape, phi2), tuple(float((c * propagator_p).mean()) for c in cosines)
    else:
        if V > MAX_DENSE:
            raise InputError(f"shape {shape} has {V} sites: an open axis needs a dense inverse, "
                             f"at most {MAX_DENSE}")
        everywhere = np.ones(shape, dtype=bool)
        counts = [count_bonds(tuple(row), everywhere, periodic) for row in np.eye(len(shape), dtype=int)]
        matrix = 2 * np.eye(V) - 2 * sum(k * (c + c.T) for k, c in zip(kappa, counts, strict=True))
        eigenvalues, vectors = np.linalg.eigh(matrix)
        _require_positive(eigenvalues[0], kappa)
        covariance, log_det = (vectors / eigenvalues) @ vectors.T, np.log(eigenvalues).sum()
        modes = np.fft.fftn(vectors.T.reshape(-1, *shape), axes=range(1, len(shape) + 1))
        propagator_p = np.tensordot(1 / eigenvalues, abs(modes)**2, axes=1) / V
        phi2_x = np.diag(covariance).reshape(shape)
        phi2, bonds = phi2_x.mean(), tuple(float((c * covariance).sum() / max(c.sum(), 1)) for c in counts)
    return FreeField(float((V * np.log(2 * np.pi) - log_det) / 2), float(phi2), phi2_x, bonds, propagator_p)


def single_site_phi4(lam):
    """Exact moments of one phi^4 site (kappa = 0), by quadrature.

        weight = exp(-S),   S = phi^2 + lam (phi^2 - 1)^2

    Parameters
    ----------
    lam : float
        Quartic coupling, 0 to 1e8.

    Returns
    -------
    dict
        ``log_z``, ``phi2`` = <phi^2>, ``phi4`` = <phi^4>, ``phi6`` = <phi^6>, ``action`` = <S>; relative
        accuracy 1e-12.

    Raises
    ------
    InputError
        lam out of range.

    Notes
    -----
    Trapezoidal rule, which converges faster than any power for a smooth, rapidly decaying integrand. Cost:
    about 10 ms.

    Examples
    --------
    >>> round(single_site_phi4(0.0)["phi2"], 12)
    0.5
    """
    if not (np.isscalar(lam) and np.isreal(lam) and 0 <= lam <= 1e8):
        raise InputError(f"lam = {lam!r}: give a number from 0 to 1e8")
    reach = np.sqrt(1 + 50 / max(np.sqrt(50 * lam), 1.0)) + 0.5          # there the weight is below exp(-50)
    n = 400_001
    phi = np.linspace(-reach, reach, n)
    S = phi**2 + lam * (phi**2 - 1)**2
    w = np.exp(S.min() - S)
    mean = {f"phi{k}": float((w * phi**k).sum() / w.sum()) for k in (2, 4, 6)}
    log_z = float(np.log(w.sum() * 2 * reach / (n - 1)) - S.min())
    return {"log_z": log_z, **mean, "action": float((w * S).sum() / w.sum())}


def _exponents(K, h):
    """Logarithm of the 2x2 transfer matrix; order of states +1, -1."""
    return np.array([[K + h, -K], [-K, K - h]])


def _transfer(K, h):
    """Eigenvalues over the largest, orthonormal eigenvectors (columns), log of the largest."""
    scale = abs(K) + abs(h)                                              # keeps the exponentials in range
    values, vectors = np.linalg.eigh(np.exp(_exponents(K, h) - scale))
    largest = values[1]
    determinant = np.sign(K) * -np.expm1(-4 * abs(K)) * np.exp(-2 * abs(h))      # of the scaled matrix
    return np.array([1.0, determinant / largest**2]), vectors[:, ::-1], float(scale + np.log(largest))


def _require_positive(smallest, kappa):
    if not smallest > 1e-13:
        raise InputError(f"kappa = {kappa.tolist()}: the free field is not positive definite here "
                         f"(smallest eigenvalue {smallest:.3g}); reduce |kappa|: a sum below 1/2 is safe")
