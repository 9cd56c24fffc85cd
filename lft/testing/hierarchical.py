"""A Gaussian field on a binary tree with exact scaling: blocks of K = 2^k units have variance K^alpha exactly.

    x_i(t) = sum_j sqrt(a_j) eta_{j, i >> j}(t),     a_j = c_j - c_{j+1},
    c_0 = 1,   c_d = (2^(alpha - 1) - 1) 2^((d - 1)(alpha - 2))     covariance at tree distance d

eta: one AR(1) process of unit variance per node, with correlation time ``tau_0 2^(j z)`` on level j.  The two halves
of a block are its most correlated parts, so pairing by correlation finds the tree.  (Derivation: the variance of two
joined blocks is ``2 S_K + 2 K^2 c_d``, which must be ``2^alpha S_K``.)
"""

from __future__ import annotations

import numpy as np

from lft.errors import InputError


def hierarchical_covariances(n_levels, alpha):
    """c_0, ..., c_n: covariance of two units by tree distance.

    Examples
    --------
    >>> hierarchical_covariances(2, 1.5).round(4).tolist()
    [1.0, 0.4142, 0.2929]
    """
    if not 1 <= alpha <= 2:
        raise InputError(f"alpha = {alpha!r}: valid is a number from 1 to 2")
    d = np.arange(1, n_levels + 1)
    return np.concatenate([[1.0], (2 ** (alpha - 1) - 1) * 2.0 ** ((d - 1) * (alpha - 2))])


def hierarchical_gaussian(n_bins, n_levels, alpha, seed, z=0.0, tau_0=None):
    """Samples of shape (n_bins, 2^n_levels); white in time unless ``tau_0`` (bins) is given.

    Examples
    --------
    >>> x = hierarchical_gaussian(4000, 3, 1.5, seed=1)
    >>> bool(abs(x.sum(axis=1).var() / 8**1.5 - 1) < 0.1)
    True
    """
    from lft.testing.statistics import ar1_series

    c = np.append(hierarchical_covariances(n_levels, alpha), 0.0)
    x = np.zeros((n_bins, 2**n_levels))
    for j in range(n_levels + 1):
        rho = 0.0 if tau_0 is None else float(np.exp(-1 / (tau_0 * 2 ** (j * z))))
        nodes = ar1_series(n_bins, rho, seed=seed * 1000 + j, shape=(2 ** (n_levels - j),))
        x += np.sqrt(c[j] - c[j + 1]) * np.repeat(nodes, 2**j, axis=1)
    return x


def hierarchical_autocorrelation(k, n_levels, alpha, z, tau_0, lags):
    """Normalized autocorrelation of the sum over a block of 2^k units, at the given lags.

    Examples
    --------
    >>> hierarchical_autocorrelation(1, 3, 1.5, 0.0, 2.0, [0, 2]).round(4).tolist()
    [1.0, 0.3679]
    """
    c = np.append(hierarchical_covariances(n_levels, alpha), 0.0)
    lags, out = np.asarray(lags, float), 0.0
    for j in range(n_levels + 1):
        weight = 2.0 ** (k + min(j, k)) * (c[j] - c[j + 1])
        out = out + weight * np.exp(-lags / (tau_0 * 2 ** (j * z)))
    return out / 2.0 ** (k * alpha)
