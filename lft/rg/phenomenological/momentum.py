"""Momentum-space coarse-graining: keep the leading modes of the correlation matrix, and see what remains.

    phi_i(t) = z_i sum_j P_ij (x_j(t) - <x_j>)/sigma_j,   <phi_i^2> = 1,   P: projector on the N/k leading eigenvectors

The modes with large variance play the part of long wavelengths (the idea is that of L. Meshulam et al., arXiv
1812.11904, of which the abstract was seen).  Sums of many weakly dependent units become Gaussian as the cutoff falls;
an excess kurtosis that stays says they are not.  Modes come from one half of the time blocks and are applied in the
other, both ways, so noise that happens to be large in one half does not look like a mode in the other.

Eigenvalues of T independent bins of N independent units reach up to ``(1 + sqrt(N/T))^2`` by noise alone (Marchenko
and Pastur; T is the number of bins of one half).  ``n_above_noise`` modes lie above; what a cutoff keeps beyond them
is not told from noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.rg.phenomenological.activity import correlation, covariance
from lft.rg.phenomenological.clusters import Curve

MAX_BINS = 4096
"""Bins that are projected (evenly spaced if there are more): the cost is their number times N^2."""


@dataclass(frozen=True, eq=False)
class MomentumSpace:
    """Non-Gaussianity against the cutoff.

    Attributes
    ----------
    kurtosis : Curve
        Excess kurtosis of phi, mean over units, against the fraction 1/k of the modes kept.
    n_modes : tuple of int
        Modes kept.
    eigenvalues : ndarray, shape (N,)
        Of the correlation matrix, mean over the halves.
    noise_edge : float
    n_above_noise : int
    n_bins : int
        Bins projected.
    """

    kurtosis: Curve
    n_modes: tuple
    eigenvalues: np.ndarray
    noise_edge: float
    n_above_noise: int
    n_bins: int


def momentum_space(activity, has_errors=True, max_bins=MAX_BINS):
    """Kurtosis of the activity projected on ever fewer leading modes.

    Parameters
    ----------
    activity : Activity
        See :func:`lft.rg.phenomenological.activity.cut_into_blocks`.
    has_errors : bool, optional
    max_bins : int, optional

    Returns
    -------
    MomentumSpace

    Notes
    -----
    Cost: 4 max_bins N^2 multiplications and two diagonalizations; 1 s for N = 1152.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.phenomenological.activity import cut_into_blocks
    >>> from lft.rg.phenomenological.momentum import momentum_space
    >>> noise = np.random.default_rng(2).standard_normal((8000, 16))
    >>> m = momentum_space(cut_into_blocks(noise))
    >>> m.n_modes, bool((abs(m.kurtosis.value) < 5 * m.kurtosis.error).all())
    ((16, 8, 4, 2), True)
    """
    every = np.arange(activity.n_blocks)
    halves = [every[activity.fold == f] for f in (0, 1)]
    n = len(activity.values)
    n_modes = tuple(n // 2**k for k in range(int(math.log2(n))) if n // 2**k >= 2)
    stride = max(1, -(-activity.n_blocks * activity.length // max_bins))
    sums, spectra = [], []
    for found, measured in (halves, halves[::-1]):
        mean, c = covariance(activity, found)
        spectrum, modes = np.linalg.eigh(correlation(c).astype(np.float32))
        spectra.append(spectrum[::-1])
        deviation = np.sqrt(np.diag(c))
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        sums.append(_project(activity, measured, mean, scale, np.ascontiguousarray(modes[:, ::-1]), n_modes, stride))
    value = _kurtosis(sums, None)
    replicas = [_kurtosis(sums, (f, row)) for f in (0, 1) for row in range(len(halves[f]))] if has_errors else []
    fold = np.repeat([0, 1], [len(h) for h in halves]) if has_errors else np.array([])
    edge = (1 + math.sqrt(n / (len(halves[0]) * activity.length))) ** 2
    spectrum = np.mean(spectra, axis=0)
    curve = Curve(np.array(n_modes) / n, value, np.array(replicas).reshape(-1, len(n_modes)), fold)
    used = -(-activity.length // stride) * activity.n_blocks
    return MomentumSpace(curve, n_modes, spectrum, edge, int(np.count_nonzero(spectrum > edge)), used)


def _project(activity, blocks, mean, scale, modes, n_modes, stride):
    """Sums of phi, phi^2, phi^3, phi^4 over the bins of each block: (block, cutoff, power, unit)."""
    out = np.empty((len(blocks), len(n_modes), 4, len(mean)))
    factor = scale.astype(np.float32)[:, None]
    for row, b in enumerate(blocks):
        part = (activity.block(b)[:, ::stride] - mean[:, None].astype(np.float32)) * factor
        amplitude = modes.T @ part
        for k, m in enumerate(n_modes):
            phi = modes[:, :m] @ amplitude[:m]
            square = phi * phi
            out[row, k] = [phi.mean(axis=1), square.mean(axis=1), np.einsum("ij,ij->i", square, phi) / phi.shape[1],
                           np.einsum("ij,ij->i", square, square) / phi.shape[1]]
    return out


def _kurtosis(sums, omit):
    """Mean over units and halves of the excess kurtosis, per cutoff."""
    parts = []
    for f, s in enumerate(sums):
        keep = np.ones(len(s), bool)
        if omit is not None and omit[0] == f:
            keep[omit[1]] = False
        d, s2, s3, s4 = s[keep].mean(axis=0).transpose(1, 0, 2)
        variance = s2 - d**2
        fourth = s4 - 4 * d * s3 + 6 * d**2 * s2 - 3 * d**4
        known = variance > 1e-6
        ratio = np.divide(fourth, variance**2, out=np.zeros_like(fourth), where=known)
        parts.append(ratio.sum(axis=1) / known.sum(axis=1) - 3)
    return np.mean(parts, axis=0)
