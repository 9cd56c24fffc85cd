"""What an inverse map allows to conclude: tests, intervals and joint regions from covariances of finitely many blocks.

A covariance estimated from B blocks is itself uncertain, so that deviations follow Student's t and Hotelling's T^2 with
B - 1 degrees of freedom rather than the normal distribution and chi^2 (standard results).  The covariance of a match is
a sum, of the recording (B - 1 degrees of freedom) and of the simulation (groups of configurations); the sum is treated
as one Wishart matrix with the degrees of freedom that give it the right variance (Satterthwaite; Nel and van der Merwe
for matrices, standard),

    nu = (tr(S^2) + (tr S)^2) / sum_i (tr(S_i^2) + (tr S_i)^2)/nu_i,     S = sum_i S_i, whitened

*Two sigma* of one coupling is the interval that holds it in 95.45 % of recordings.  Several couplings are inside their
intervals of two sigma at once less often: four independent ones in 0.9545^4 = 83 %.  For a statement on all of them
there is the joint region (an ellipsoid, :func:`joint_p_value`), and the box of :func:`simultaneous_quantile`, whose
sides are the intervals of each coupling at the level ``0.9545^(1/d)``: by the inequality of Sidak it holds all d of
them in at least 95.45 % of recordings, however they are correlated.
"""

from __future__ import annotations

import math

import numpy as np

TWO_SIGMA = math.erf(math.sqrt(2))
"""Probability within two standard deviations, 0.9545."""
ONE_SIGMA = math.erf(math.sqrt(0.5))


def degrees_of_freedom(parts):
    """Degrees of freedom of a sum of independent covariance estimates.

    Parameters
    ----------
    parts : sequence of (ndarray (d, d), float)
        Covariances and their degrees of freedom; inf where one is known exactly.

    Returns
    -------
    float
        inf if all are; nan without a direction.

    Examples
    --------
    >>> round(degrees_of_freedom([(np.eye(2), 20.0), (np.eye(2), 20.0)]), 9)
    40.0
    >>> round(degrees_of_freedom([(np.eye(2), 20.0), (0.1 * np.eye(2), math.inf)]), 9)
    24.2
    """
    total = sum(S for S, _ in parts)
    if not len(total) or not np.trace(total) > 0:
        return math.nan
    values, vectors = np.linalg.eigh(total)
    keep = values > 1e-12 * values[-1]
    white = vectors[:, keep] / np.sqrt(values[keep])

    def size(S):
        S = white.T @ S @ white
        return float((S * S.T).sum() + np.trace(S) ** 2)

    spread = sum(size(S) / nu for S, nu in parts)
    d = int(keep.sum())
    return (d + d * d) / spread if spread > 0 else math.inf


def quantile(level, dof):
    """``|t|`` that a deviation in units of its estimated error stays below with this probability.

    Examples
    --------
    >>> round(quantile(TWO_SIGMA, math.inf), 6), round(quantile(TWO_SIGMA, 19), 3)
    (2.0, 2.14)
    """
    from scipy.special import ndtri, stdtrit

    p = (1 + level) / 2
    return float(ndtri(p) if math.isinf(dof) else stdtrit(dof, p))


def simultaneous_quantile(level, dof, d):
    """The same for d deviations at once, at least (Sidak).

    Examples
    --------
    >>> round(simultaneous_quantile(TWO_SIGMA, math.inf, 4), 3), round(simultaneous_quantile(TWO_SIGMA, 99, 4), 3)
    (2.525, 2.573)
    """
    return quantile(level ** (1 / d), dof)


def joint_p_value(t2, d, dof):
    """Probability of a larger ``T^2 = (x - mu)^T S^-1 (x - mu)`` in d dimensions, S with ``dof`` degrees of freedom.

        T^2 (dof - d + 1)/(d dof) ~ F(d, dof - d + 1)

    nan where S has fewer degrees of freedom than dimensions.

    Examples
    --------
    >>> round(joint_p_value(4.0, 1, math.inf), 4), round(joint_p_value(9.715, 4, math.inf), 4)
    (0.0455, 0.0455)
    >>> round(joint_p_value(2.14**2, 1, 19), 3), joint_p_value(1.0, 4, 3)
    (0.046, nan)
    """
    from scipy.special import chdtrc, fdtrc

    if d == 0 or not math.isfinite(t2):
        return math.nan
    if math.isinf(dof):
        return float(chdtrc(d, t2))
    if not dof >= d:
        return math.nan
    return float(fdtrc(d, dof - d + 1, max(t2, 0.0) * (dof - d + 1) / (d * dof)))


def goodness(residual, parts, tangent):
    """chi^2, degrees of freedom and p-value of a residual, in the directions that no coupling can mend.

        q = N^T r,   chi^2 = q^T (N^T C N)^-1 q,     N: orthonormal, N^T J = 0

    C is the sum of ``parts``, as :func:`degrees_of_freedom` takes them, and p that of Hotelling's T^2
    (:func:`joint_p_value`).
    """
    U, S, _ = np.linalg.svd(tangent, full_matrices=True)
    rank = int((S > 1e-12 * S.max(initial=1e-300)).sum())
    N = U[:, rank:]
    d = N.shape[1]
    if d == 0:
        return 0.0, 0, math.nan
    inner = [(N.T @ C @ N, nu) for C, nu in parts]
    dof = degrees_of_freedom(inner)
    if dof < d:
        return math.nan, d, math.nan
    q = N.T @ residual
    chi2 = float(q @ np.linalg.solve(sum(C for C, _ in inner), q))
    return chi2, d, joint_p_value(chi2, d, dof)
