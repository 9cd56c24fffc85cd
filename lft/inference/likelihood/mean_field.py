"""Couplings of a pairwise model from means and covariances alone: mean field, TAP, Sessak-Monasson, Bethe.

Spins s = 2 phi - 1, ``m_i = <s_i>``, ``C_ij = <s_i s_j> - m_i m_j``, ``c = C^-1``, ``L_i = 1 - m_i^2``:

=================  ==========================================================================================
mean-field         ``J_ij = -c_ij``
tap                ``-c_ij = J_ij + 2 m_i m_j J_ij^2``, the root that vanishes with c
sessak-monasson    ``J_ij = -c_ij + J2(m_i, m_j, C_ij) - C_ij / (L_i L_j - C_ij^2)``
bethe              ``J_ij = J2(m_i, m_j, x)``, x the root of ``-c_ij = x / (L_i L_j - x^2)``; exact on trees
=================  ==========================================================================================

``J2 = (1/4) ln[p(++) p(--) / (p(+-) p(-+))]`` is the coupling of a pair alone with these moments.  Mean field and TAP
are two orders in J, Sessak and Monasson resum loops and pairs of an expansion in C (standard results; reviews arXiv
1702.01522, 1112.4814).  Bethe: on a tree ``P = prod p_ij / prod p_i^(d_i - 1)``, so J is that of the pair alone, and
C^-1 vanishes but for neighbors, where it is that of a pair alone; other graphs are treated as if they were trees.

The root of TAP can be complex, and the pair of Bethe can have a negative probability (the measured C is none of a
tree): such pairs have no J, and are named.
"""

from __future__ import annotations

import time

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.inference.likelihood.exact_fit import Problem
from lft.inference.likelihood.operators import blocks_of

METHODS = ("mean-field", "tap", "sessak-monasson", "bethe")
N_BLOCKS = 50
EMPTY = 1e-12
"""Four times a probability of a joint state that counts as none: less than one bin of any recording."""


def invert(method, m, C):
    """Couplings and fields from exact or measured moments of spins.

    Parameters
    ----------
    method : {"mean-field", "tap", "sessak-monasson", "bethe"}
    m : ndarray (N,)
        Means, between -1 and 1.
    C : ndarray (N, N)
        Covariance, diagonal 1 - m^2.

    Returns
    -------
    J : ndarray (N, N)
        Symmetric, zero diagonal; nan where the root is complex.
    h : ndarray (N,)
        Mean field: ``atanh m_i - sum_j J_ij m_j``; TAP and Sessak-Monasson: that plus ``m_i sum_j J_ij^2 L_j``; Bethe:
        ``atanh m_i + sum_j (field of i in the pair alone - atanh m_i)``.  Pairs without a root count as J = 0.

    Raises
    ------
    InputError
        Another method.
    DivergenceError
        C is singular.

    Examples
    --------
    >>> import numpy as np
    >>> J, h = invert("bethe", np.zeros(2), np.array([[1, np.tanh(0.3)], [np.tanh(0.3), 1]]))
    >>> round(float(J[0, 1]), 12)
    0.3
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}: valid are {', '.join(METHODS)}")
    c = _inverse(C)
    L = 1 - m**2
    mm = np.outer(m, m)
    with np.errstate(invalid="ignore", divide="ignore"):
        J = {"mean-field": _mean_field, "tap": _tap, "sessak-monasson": _sessak_monasson, "bethe": _bethe}[method](
            c, C, m, mm, L
        )
    np.fill_diagonal(J, 0.0)
    return J, _fields(method, np.nan_to_num(J, nan=0.0, posinf=0.0, neginf=0.0), m, L, c)


def _inverse(C):
    try:
        return np.linalg.inv(np.linalg.cholesky(C)).T @ np.linalg.inv(np.linalg.cholesky(C))
    except np.linalg.LinAlgError:
        raise DivergenceError(
            "the covariance matrix of the units is singular: some units are copies or combinations of others; select "
            "fewer units, or take a longer recording"
        ) from None


def _mean_field(c, C, m, mm, L):
    return -c


def _tap(c, C, m, mm, L):
    # 2 mm J^2 + J + c = 0; this form of the root has no difference of near numbers, and no 0/0 at m = 0
    return -2 * c / (1 + np.sqrt(1 - 8 * mm * c))


def _pair(m, C):
    """p(++), p(--), p(+-), p(-+) of every pair alone, times 4."""
    up, down = 1 + m, 1 - m
    return np.outer(up, up) + C, np.outer(down, down) + C, np.outer(up, down) - C, np.outer(down, up) - C


def _sessak_monasson(c, C, m, mm, L):
    pp, nn, pn, np_ = p = np.array(_pair(m, C))
    p[:, (p < EMPTY).any(axis=0)] = 0.0  # a joint state that does not occur, up to rounding
    return -c + 0.25 * np.log(pp * nn / (pn * np_)) - C / (np.outer(L, L) - C**2)


def _tree_covariance(c, L):
    """x of ``-c = x / (L_i L_j - x^2)``, the root that vanishes with c, without a difference of near numbers."""
    LL = np.outer(L, L)
    return -2 * c * LL / (1 + np.sqrt(1 + 4 * c**2 * LL))


def _bethe(c, C, m, mm, L):
    p = _pair(m, _tree_covariance(c, L))
    is_real = (np.array(p) > 0).all(axis=0)
    return np.where(is_real, 0.25 * np.log(np.abs(p[0] * p[1] / (p[2] * p[3]))), np.nan)


def _fields(method, J, m, L, c):
    alone = np.arctanh(m)
    if method == "mean-field":
        return alone - J @ m
    if method != "bethe":
        return alone - J @ m + m * (J**2 @ L)
    pp, nn, pn, np_ = _pair(m, _tree_covariance(c, L))
    with np.errstate(invalid="ignore", divide="ignore"):
        change = 0.25 * np.log(np.abs(pp * pn / (np_ * nn))) - alone[:, None]
    return alone + np.where(J == 0, 0.0, change).sum(axis=1)


def fit_mean_field(rasters, *, method="tap", test=0.2, n_blocks=None, bin_s=None, unit=None):
    """Fit the pairwise model by one of the inversions of the covariance.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1; several are trials.
    method : {"mean-field", "tap", "sessak-monasson", "bethe"}
    test : float
        Fraction at the end that is scored, not fitted.
    n_blocks : int, optional
        Blocks of time behind the errors, default 50: each is left out once (jackknife).  They are those of the
        estimate, not of its systematic deviation from maximum likelihood.
    bin_s, unit : as in :func:`lft.inference.neural_fit.fit_neural`

    Returns
    -------
    GibbsFit
        ``score`` is the pseudo-log-likelihood.  Pairs whose root is complex have J = 0, error nan, and stand in
        ``unbounded``; so do pairs whose pair term has no logarithm (Sessak-Monasson).

    Raises
    ------
    InputError, DivergenceError
        Bad arguments; a singular covariance.

    Notes
    -----
    Cost: one inversion per block.  Measured errors: docs/likelihoods.md.

    Examples
    --------
    >>> from lft.inference.likelihood import GibbsModel
    >>> model = GibbsModel([-1.0, -0.5, -1.0], [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    >>> fit = fit_mean_field(model.simulate(20000, seed=4)[0], method="bethe")
    >>> bool(abs(fit.J[0, 1] - 0.25) < 4.5 * fit.J_error[0, 1])
    True
    """
    started = time.perf_counter()
    if method not in METHODS:
        raise InputError(f"method {method!r}: valid are {', '.join(METHODS)}")
    problem = Problem(rasters, "pairwise", (), test, 1.0)  # a penalty keeps all pairs, and is not used
    n_blocks = min(N_BLOCKS if n_blocks is None else n_blocks, problem.n_train)
    if n_blocks < 2:
        raise InputError(f"n_blocks = {n_blocks}: valid is an integer >= 2")
    op = problem.operators
    edges = np.linspace(0, problem.n_train, n_blocks + 1).astype(int)
    values = blocks_of(op, problem.train, 0, problem.n_train, edges)
    total, rows = values.sum(axis=0), np.diff(edges)
    theta, complex_pairs = _estimate(method, op, total / problem.n_train)
    left_out = np.stack([
        _estimate(method, op, (total - v) / (problem.n_train - r))[0] for v, r in zip(values, rows, strict=True)
    ])  # fmt: skip
    u = np.sqrt((n_blocks - 1) / n_blocks) * (left_out - left_out.mean(axis=0))
    u[:, np.isnan(theta)] = np.nan
    u[:, np.flatnonzero(np.isin(op.units, op.pairs[complex_pairs])) + len(op.pairs)] = np.nan  # J = 0 goes into c
    names = [f"J[{i},{j}]" for i, j in op.pairs[complex_pairs]]
    notes = []
    if names:
        shown = ", ".join(names[:5]) + (", ..." if names[5:] else "")
        notes.append(f"{method}: {len(names)} pairs have no real root: {shown}; set to J = 0, without error")
        problem.unbounded += names
    fit = problem.result(
        np.nan_to_num(theta, nan=0.0), u, method, bin_s, unit, started, notes, {}, kind="pseudo-log-likelihood"
    )
    return fit


def _estimate(method, op, mean):
    """(theta, which pairs have no root) from means of the operators per bin."""
    n_pairs = len(op.pairs)
    rate = mean[n_pairs:]
    place = np.full(op.n_units, -1)
    place[op.units] = np.arange(len(op.units))
    i, j = place[op.pairs].T
    m = 2 * rate - 1
    C = np.diag(1 - m**2)
    C[i, j] = C[j, i] = 4 * (mean[:n_pairs] - rate[i] * rate[j])
    J, h = invert(method, m, C)
    pairs = J[i, j]
    finite = np.nan_to_num(J, nan=0.0, posinf=0.0, neginf=0.0)
    lost = ~np.isfinite(pairs)
    theta = np.concatenate([np.where(lost, np.nan, 4 * pairs), 2 * h - 2 * finite.sum(axis=1)])
    return theta, lost
