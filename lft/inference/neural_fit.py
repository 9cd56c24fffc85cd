"""Couplings (A, B, I) of 0/1 units by maximum joint pseudo-likelihood, and the other Gibbs models of units.

Weight ``exp(-S)`` with ``S = sum_a sum_ij A_ij phi_i phi_j + sum_i sum_ab B(|a-b|) phi_i^a phi_i^b + sum_ia
I_i phi_i``, A symmetric with zero diagonal, ordered pairs, open time:

    P(phi_i^a = 1 | rest) = 1 / (1 + exp(g)),   g = I_i + 2 sum_{j != i} A_ij phi_j^a + 2 sum_k B(k) u_ik^a,
    u_ik^a = phi_i^{a+k} + phi_i^{a-k}

Inside the fit the parameters are those of the log-odds -g: ``a_ij = -2 A_ij`` (i < j), ``b_k = -2 B(k)``, ``c_i =
-I_i``.  Every pair appears in the terms of both its units, so one symmetric A results, no average of two estimates.
The machinery is :mod:`lft.inference.pseudo`.
"""

from __future__ import annotations

from lft.archive import on_root
from lft.inference.likelihood.counts import continue_potential
from lft.inference.pseudo.fit import fit_gibbs
from lft.inference.trials import checked_rasters, split_trials


def fit_neural(rasters, *, lags=(1,), test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None, comm=None,
               checkpoint=None, report=None, penalize=None, examine=None, inputs=None):  # fmt: skip
    """Fit the couplings (A, B, I) of the neural lattice field theory by maximum joint pseudo-likelihood.

    Maximizes ``sum_ia log P(phi_i^a | rest) - (ridge/2) sum_{i<j} A_ij^2`` with ``P(phi_i^a = 1 | rest) =
    1/(1 + exp(I_i + 2 sum_j A_ij phi_j^a + 2 sum_k B(k) (phi_i^{a+k} + phi_i^{a-k})))``.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1; several are trials, never joined across their borders.
    lags : sequence of int
        Lags of B in bins, >= 1; ``()`` sets B = 0.
    test : float
        Fraction at the end, 0 <= test < 1, that is scored, not fitted.
    ridge : float
        L2 penalty on A in nats, >= 0.  With 0, pairs without a finite maximum are held or fixed, and reported.
    n_blocks : int, optional
        Blocks behind the errors; default 20 to 100, chosen from the correlation of the scores.
    bin_s : float, optional
        Bin width in seconds, for the record.
    unit : sequence of int, optional
        Index of each unit in the recording; default 0..N-1.
    comm, checkpoint, report : optional
        As in :func:`lft.inference.pseudo.fit.fit_gibbs`: ranks, a file that keeps the search, progress.
    inputs : InputDesign, optional
        Time-dependent couplings ``I_i^a = I_i - sum_q u_iq x_q(a)`` (:mod:`lft.inference.inputs`): responses to events,
        slow drift, time within trials, conditions; at most 512 different values in all
        (:mod:`lft.inference.pseudo.drive`).

    Returns
    -------
    PseudoFit

    Raises
    ------
    InputError
        Bad arguments, no unit that both spikes and pauses, too few bins, or more than fits in memory.
    DivergenceError
        The information matrix is singular.

    Notes
    -----
    Newton steps on all parameters at once.  An evaluation costs about 2 N additions per spike and a logistic per unit
    and bin: 40 units x 1e5 bins take about half a second with errors, 1000 units in 1e6 bins that fire in 1 % of them
    a few minutes.  Errors come from the joint information matrix where the N matrices of the rows fit in 600 MB (some
    300 units), else from the rows alone (:mod:`lft.inference.pseudo.errors`).

    Unbounded: a unit that never (or always) fires in training is left out of the maximization and scored,
    here and in the independent model alike, with the Krichevsky-Trofimov estimate (n + 1/2)/(T + 1) of its
    rate.  A pair that never coincides, or one of whose units fires only (or pauses only) with the other, has
    its A at infinity; more complicated cases show by a standard error above 100 at convergence.  All are
    listed in ``unbounded``, value 0, error nan.  With ``ridge`` the errors are those of the penalized
    estimate; its bias is not included.

    References
    ----------
    J. Besag, doi 10.2307/2987782; A. Hyvarinen, doi 10.1162/neco.2006.18.10.2283.

    Examples
    --------
    >>> import numpy as np
    >>> raster = np.random.default_rng(0).random((4000, 3)) < 0.2
    >>> fit = fit_neural(raster.astype(np.int8), lags=(1, 2))
    >>> bool(abs(fit.A[0, 1]) < 4.5 * fit.A_error[0, 1]), sorted(fit.B)
    (True, [1, 2])
    """
    return _fit(
        "neural", rasters, {"lags": lags},
        test, ridge, n_blocks, bin_s, unit, comm, checkpoint, report, penalize, examine, inputs,
    )  # fmt: skip


def fit_pairwise(rasters, *, test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None, comm=None,
                 checkpoint=None, report=None, penalize=None, examine=None, inputs=None):  # fmt: skip
    """Fit the pairwise maximum-entropy (Ising) model of equal times.

    Weight ``exp(sum_{i<j} J_ij s_i s_j + sum_i h_i s_i)``; the model of :func:`fit_neural` with B = 0, in
    spins ``s = 2 phi - 1``: ``J_ij = -A_ij/2``, ``h_i = -I_i/2 - (1/2) sum_j A_ij``; their errors follow from
    the same sandwich.

    Parameters
    ----------
    rasters, test, ridge, n_blocks, bin_s, unit, comm, checkpoint, report, penalize, examine, inputs
        As in :func:`fit_neural`.

    Returns
    -------
    PseudoFit
        With J, J_error (N, N) and h, h_error (N,).

    Examples
    --------
    >>> import numpy as np
    >>> raster = np.random.default_rng(0).random((4000, 3)) < 0.2
    >>> fit = fit_pairwise(raster.astype(np.int8))
    >>> np.allclose(fit.J, -fit.A / 2), fit.model
    (True, 'pairwise')
    """
    return _fit(
        "pairwise", rasters, {},
        test, ridge, n_blocks, bin_s, unit, comm, checkpoint, report, penalize, examine, inputs,
    )  # fmt: skip


def fit_k_pairwise(rasters, *, test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None, comm=None,
                   checkpoint=None, report=None, penalize=None, examine=None, inputs=None):  # fmt: skip
    """Fit the K-pairwise model: pairs, and a potential of the number of units that fire together.

    Weight ``exp(sum_{i<j} a_ij phi_i phi_j + sum_i c_i phi_i + V(K))``, ``K = sum_i phi_i``, per bin; the log-odds of a
    unit contain ``V(K_rest + 1) - V(K_rest)``.  A constant and terms linear and quadratic in K are held by c and a, so
    ``V(0) = V(1) = V(2) = 0``.  Conditionals compare neighboring K alone: from the first K that never occurs in
    training on V is constant, and those K are listed in ``unbounded``; above the largest that occurs it falls so that
    no state of more spikes has weight (:mod:`lft.inference.likelihood.counts`), and a warning says so.

    Parameters
    ----------
    rasters, test, ridge, n_blocks, bin_s, unit, comm, checkpoint, report, penalize, examine, inputs
        As in :func:`fit_neural`.

    Returns
    -------
    PseudoFit
        With J, h of the pairs (spins) and V, V_error (N + 1,) (log-odds).

    Examples
    --------
    >>> import numpy as np
    >>> raster = np.random.default_rng(0).random((4000, 4)) < 0.4
    >>> fit = fit_k_pairwise(raster.astype(np.int8))
    >>> fit.V.shape, bool(np.all(fit.V[:3] == 0)), bool(abs(fit.V[3]) < 4.5 * fit.V_error[3])
    ((5,), True, True)
    """
    fit = _fit(
        "k-pairwise", rasters, {"is_counted": True},
        test, ridge, n_blocks, bin_s, unit, comm, checkpoint, report, penalize, examine, inputs,
    )  # fmt: skip
    return on_root(comm, lambda: continue_potential(fit, *split_trials(checked_rasters(rasters), test)))


def fit_lagged(rasters, *, k_max=1, test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None, comm=None,
               checkpoint=None, report=None, penalize=None, examine=None, inputs=None):  # fmt: skip
    """Fit directed couplings at lags 1 to k_max beside those of equal times, as a Gibbs measure of the raster.

    Weight ``exp(sum_a [sum_{i<j} a_ij phi_i^a phi_j^a + sum_i c_i phi_i^a] + sum_kij C_ij(k) sum_a phi_i^a
    phi_j^{a-k})``, open time.  The measure is not causal: the log-odds of unit i in bin a hold ``C_ij(k) phi_j^{a-k}``
    and ``C_ji(k) phi_j^{a+k}``.  ``C_ii(k)`` is the memory of unit i.

    Parameters
    ----------
    k_max : int
        Longest lag in bins, >= 1.
    rasters, test, ridge, n_blocks, bin_s, unit, comm, checkpoint, report, penalize, examine, inputs
        As in :func:`fit_neural`; the ridge also adds (ridge/8) C^2.

    Returns
    -------
    PseudoFit
        With ``J_lag[k - 1, i, j] = C_ij(k)`` (log-odds; row = target, the later bin) and its error.

    Examples
    --------
    >>> import numpy as np
    >>> raster = (np.random.default_rng(0).random((4000, 3)) < 0.3).astype(np.int8)
    >>> raster[1:, 1] |= raster[:-1, 0] & raster[:-1, 2]   # 0 and 2 together make 1 fire one bin later
    >>> fit = fit_lagged(raster)
    >>> bool(fit.J_lag[0, 1, 0] > 4.5 * fit.J_lag_error[0, 1, 0])
    True
    >>> bool(abs(fit.J_lag[0, 0, 1]) < 4.5 * fit.J_lag_error[0, 0, 1])
    True
    """
    return _fit(
        "lagged", rasters, {"k_max": k_max},
        test, ridge, n_blocks, bin_s, unit, comm, checkpoint, report, penalize, examine, inputs,
    )  # fmt: skip


def _fit(model, rasters, terms, test, ridge, n_blocks, bin_s, unit, comm, checkpoint, report, penalize, examine,
         inputs):  # fmt: skip
    """The one place that names the options which all families share."""
    return fit_gibbs(
        model, rasters, **terms, test=test, ridge=ridge, n_blocks=n_blocks, bin_s=bin_s, unit=unit, comm=comm,
        checkpoint=checkpoint, report=report, penalize=penalize, examine=examine, inputs=inputs,
    )  # fmt: skip
