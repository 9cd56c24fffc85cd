"""What every pseudo-likelihood fit shares: damped Newton steps, and errors from scores in blocks of time.

The pseudo-log-likelihood L of a binary field is a sum of logistic terms, hence concave: Newton with a line
search finds the one maximum.  Neighboring sites share their data, so the inverse of the information ``H =
-L''`` is *not* the covariance of the estimate; the sandwich is (``g_b`` = score of block b, B blocks)

    cov = H^-1 G H^-1,     G = B/(B-1) sum_b g_b g_b^T

which is right as soon as a block is much longer than the correlations (J. Besag, doi 10.2307/2987782, for the
pseudo-likelihood; V. P. Godambe, doi 10.1214/aoms/1177705693, for the sandwich).
"""

from __future__ import annotations

import numpy as np

from lft.errors import DivergenceError, InputError

TOLERANCE = 1e-8
ROUGHLY = 0.05  # how far below the tolerance a promised gain must be that an information estimates
EVIDENCE = 5.0  # events that a coupling without a finite maximum must lack to be more than noise
HELD_SD = 5.0  # prior that keeps it finite, log-odds or log-rate: a factor of 150, beyond what data can measure
RUNAWAY = 100.0  # a standard error this large, in log-odds: the likelihood has no maximum in that direction
MAX_FINE = 400
MAX_BLOCKS = 100
MIN_BLOCKS = 20


class ArrowInformation:
    """Information of many fields h_i (diagonal block) and few couplings K, solved by the Schur complement.

        H = [[diag(hh), hk], [hk^T, kk]],     S = kk - hk^T diag(1/hh) hk

    Parameters
    ----------
    hh : ndarray (groups,)
    hk : ndarray (groups, couplings)
    kk : ndarray (couplings, couplings)
    """

    def __init__(self, hh, hk, kk):
        self.hh, self.hk, self.kk = hh, hk, kk
        self.ratio = hk / hh[:, None]
        self.schur = kk - hk.T @ self.ratio

    def damped(self, extra):
        """The same with ``extra`` added to the diagonal (None: itself)."""
        if extra is None:
            return self
        n = len(self.hh)
        return ArrowInformation(self.hh + extra[:n], self.hk, self.kk + np.diag(extra[n:]))

    def diagonal(self):
        """Fields before couplings."""
        return np.concatenate([self.hh, self.kk.diagonal()])

    def weak_directions(self):
        """Couplings whose standard error (inverse information) exceeds RUNAWAY or is undefined: indices."""
        diagonal = self.schur.diagonal()
        if not len(diagonal):
            return []
        empty = [int(d) for d in np.flatnonzero(~(diagonal > RUNAWAY**-2))]
        if empty:
            return empty
        scale = 1 / np.sqrt(diagonal)
        values, vectors = np.linalg.eigh(self.schur * np.outer(scale, scale))
        if values[0] < 1e-11:
            return [int(d) for d in np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)]
        error = scale * np.sqrt((vectors**2 / values).sum(axis=1))
        return [int(d) for d in np.flatnonzero(error > RUNAWAY)]

    def solve(self, vector):
        """H^-1 vector: fields before couplings; a second axis holds several right-hand sides."""
        n = len(self.hh)
        columns = vector.reshape(len(vector), -1)
        g_h, g_k = columns[:n], columns[n:]
        k = np.linalg.solve(self.schur, g_k - self.ratio.T @ g_h) if len(self.schur) else g_k
        h = g_h / self.hh[:, None] - self.ratio @ k
        return np.concatenate([h, k]).reshape(vector.shape)


class SingularInformation(DivergenceError):
    """The information matrix has no Cholesky factor."""


class DenseInformation:
    """A symmetric positive definite information matrix, factored once (n^3/3 multiplications)."""

    def __init__(self, matrix, extra=None):
        from scipy.linalg import cho_factor

        self._diagonal = matrix.diagonal().copy()
        matrix = matrix.copy()  # it may be asked for with another diagonal
        if extra is not None:
            matrix[np.diag_indices(len(matrix))] += extra
        try:
            self.factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            raise SingularInformation(
                "the information matrix of the fit is singular: some couplings cannot be told apart on this "
                "recording; select fewer units, wider bins, or give ridge > 0"
            ) from None

    def solve(self, vector):
        """H^-1 vector."""
        from scipy.linalg import cho_solve

        return cho_solve(self.factor, vector, check_finite=False)

    estimate = solve

    def diagonal(self):
        """Diagonal of the matrix."""
        return self._diagonal

    def inverse_diagonal(self):
        """Diagonal of H^-1, in slices of right-hand sides, so that memory stays near that of the factor."""
        n = len(self.factor[0])
        out = np.empty(n)
        for start in range(0, n, 512):
            columns = np.zeros((n, min(512, n - start)))
            columns[np.arange(start, start + columns.shape[1]), np.arange(columns.shape[1])] = 1.0
            solved = self.solve(columns)
            out[start : start + columns.shape[1]] = solved[
                np.arange(start, start + columns.shape[1]), np.arange(columns.shape[1])
            ]
        return out


def maximize(evaluate, theta, tolerance=TOLERANCE, max_steps=100, keeper=None):
    """Maximum of a concave function by damped Newton steps (Levenberg-Marquardt).

    Where a step does not raise the function, ``damping`` times the diagonal at the start is added to the
    information.  The present diagonal would not do: it vanishes where a parameter has overshot.  An information may
    solve inexactly, or be that of a point nearby: gradients are exact, so the end is not affected.

    Parameters
    ----------
    evaluate : callable
        ``theta -> (value, gradient, make)``; ``make(extra)`` gives the information, minus the Hessian with
        ``extra`` (None or one number per parameter) added to its diagonal, as an object with ``solve`` and
        ``diagonal``, and perhaps ``estimate``, a cheap ``solve`` for what needs no more than its size.  It is called
        at accepted points alone: a trial step may overshoot to where the information is singular, which says nothing
        about the maximum.
    theta : ndarray (n,)
        Start.
    tolerance : float
        Stop when the gain that the quadratic model promises is below this (nats, twice).
    keeper : object, optional
        With ``read()``, which gives (theta, scale, damping) of an interrupted search or None, and ``write`` of these
        three, called after every step: all that a step depends on, so that the search ends with the same bits.

    Returns
    -------
    theta, value, information : at the maximum

    Raises
    ------
    DivergenceError
        After ``max_steps`` steps, or when no step raises the function.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.array([[1.0, 0.0], [1.0, 1.0]]), [1.0, 3.0])
    >>> maximize(o.evaluate, np.zeros(2))[0].round(9).tolist()
    [1.0, 2.0]
    """
    saved = None if keeper is None else keeper.read()
    scale, damping = None, 0.0
    if saved is not None and saved[0].shape == theta.shape:
        theta, scale, damping = saved
    value, gradient, make = evaluate(theta)
    plain = None  # the information at theta, without damping
    for _ in range(max_steps):
        if damping == 0 and plain is None:
            plain = make(None)
            scale = plain.diagonal() if scale is None else scale
            if hasattr(plain, "estimate") and float(gradient @ plain.estimate(gradient)) < ROUGHLY * tolerance:
                return theta, value, plain
        step, damping, information = _step(make, gradient, scale, damping, plain)
        promised = float(gradient @ step)
        if promised < tolerance and damping == 0:
            return theta, value, plain
        new = evaluate(theta + step)
        gain, is_small = new[0] - value, is_below_rounding(promised, value)
        if is_small:
            is_better = float(new[1] @ information.solve(new[1])) < promised
        else:
            is_better = np.isfinite(gain) and gain >= 1e-2 * promised  # 1/2 for a quadratic function
        if not is_better:
            damping = max(10 * damping, 1e-3)
            if damping > 1e9:
                raise DivergenceError(f"fit: no step raises the likelihood, promised gain {promised:.3g} nats")
            continue
        if gain < 0.1 * promised and not is_small:
            damping = max(4 * damping, 1e-3)
        else:
            damping = damping / 10 if damping > 1e-5 else 0.0
        theta = theta + step
        (value, gradient, make), plain = new, None
        if keeper is not None:
            keeper.write(theta, scale, damping)
    raise DivergenceError(
        f"fit: not converged after {max_steps} Newton steps, promised gain {promised:.3g} nats"
    )


def is_below_rounding(promised, value):
    """Whether a gain is lost in the rounding of the value, a sum of millions of terms: the gradient, which is small
    itself there, must then say whether a step has led nearer to the maximum."""
    return promised < 1e-11 * (1 + abs(value))


def _step(make, gradient, scale, damping, plain):
    """(step, damping, information): more damping where the matrix is singular without being flat at the maximum."""
    while True:
        try:
            information = make(damping * scale) if damping else plain
            return information.solve(gradient), damping, information
        except SingularInformation:
            if not 0 < damping < 1e-2:
                raise
            damping *= 10


def raise_runaway(names, values):
    """DivergenceError for parameters whose likelihood has no maximum."""
    at = ", ".join(f"{v:.3g}" for v in values)
    raise DivergenceError(
        f"{', '.join(names)}: no finite maximum (stopped at {at}); some pattern that bounds it never "
        "occurs in training, as with a refractory time: leave the coupling out or take wider bins"
    )


def integrated_time(series):
    """Integrated autocorrelation time, 1/2 + sum of rho, of the mean autocorrelation of several series.

    The sum stops at the first window W >= 5 tau (Sokal).  Each column is scaled by its own variance about
    zero: the scores sum to zero at the maximum.  Returns 0.5 where nothing varies.

    Parameters
    ----------
    series : ndarray (blocks, columns)
    """
    variance = (series**2).sum(axis=0)
    series = series[:, variance > 0] / np.sqrt(variance[variance > 0])
    if not series.shape[1]:
        return 0.5
    tau = 0.5
    for lag in range(1, len(series) // 4):
        tau += float((series[lag:] * series[:-lag]).sum(axis=0).mean()) * len(series) / (len(series) - lag)
        if lag >= 5 * tau:
            break
    return max(tau, 0.5)


def fine_edges(n_rows, n_parameters, n_blocks, what="training bins"):
    """Edges of the first blocks of scores: ``n_blocks`` of them, or at most 400 to be merged later."""
    if n_blocks is None:
        n = max(min(MAX_FINE, n_rows, max(2**24 // max(n_parameters, 1), MIN_BLOCKS)), 1)
    else:
        if (
            isinstance(n_blocks, bool)
            or not isinstance(n_blocks, int | np.integer)
            or not 2 <= n_blocks <= n_rows
        ):
            raise InputError(
                f"n_blocks = {n_blocks!r}: valid is an integer from 2 to the number of {what}, {n_rows}"
            )
        n = int(n_blocks)
    return np.linspace(0, n_rows, n + 1).astype(np.int64)


def merge_blocks(scores, influence_classes, n_rows, longest_lag):
    """Merge fine blocks until they are long against the lags and the measured correlation of the scores.

    A block spans at least 10 lags, 4 fine blocks and 20 correlation times (tau - 1/2); 20 to 100 blocks
    result.

    Parameters
    ----------
    scores : ndarray (fine blocks, parameters)
    influence_classes : list of ndarray (fine blocks, any)
        ``H^-1 g_b`` by kind of parameter: the slowest kind decides.
    n_rows, longest_lag : int
        Bins covered and the longest lag in time.

    Returns
    -------
    merged : ndarray (blocks, parameters)
    warning : str or None
        What the user must know when 20 blocks are still too short.
    """
    n_fine = len(scores)
    rows = n_rows / n_fine
    tau = max([integrated_time(c) for c in influence_classes if c.size], default=0.5)
    wanted = max(4.0, 20 * (tau - 0.5), 10 * longest_lag / rows)
    n_blocks = max(min(MAX_BLOCKS, int(n_fine / wanted)), min(MIN_BLOCKS, n_fine))
    starts = np.linspace(0, n_fine, n_blocks + 1).astype(int)[:-1]
    warning = None
    if tau > 0.5 and 20 * (tau - 0.5) > 1.5 * n_fine / n_blocks:
        warning = (
            f"scores are correlated over about {(tau - 0.5) * rows:.3g} bins and a block has "
            f"{n_rows / n_blocks:.3g}: errors may be too small; a longer recording is needed"
        )
    return np.add.reduceat(scores, starts, axis=0), warning


def influences(information, scores):
    """Rows ``u_b = sqrt(B/(B-1)) H^-1 g_b``: the sandwich covariance is ``U^T U``, and that of ``M theta`` is
    ``(U M^T)^T (U M^T)``.  NaN from fewer than two blocks."""
    n_blocks = len(scores)
    if n_blocks < 2:
        return np.full(scores.shape, np.nan)
    return information.solve(np.ascontiguousarray(scores.T)).T * np.sqrt(n_blocks / (n_blocks - 1))


def split_rows(n_rows, test):
    """Number of training rows: all but the last ``test`` fraction."""
    if isinstance(test, bool) or not isinstance(test, int | float | np.number) or not 0 <= test < 1:
        raise InputError(f"test = {test!r}: valid is a fraction, 0 <= test < 1")
    return max(n_rows - round(float(test) * n_rows), 1)


def gain_with_error(gains, sizes):
    """Mean gain per site-bin and its error from blocks: ``gains`` and ``sizes`` are sums over each block."""
    total = sizes.sum()
    if not total:
        return float("nan"), float("nan")
    mean, n = gains.sum() / total, len(gains)
    if n < 2:
        return float(mean), float("nan")
    return float(mean), float(np.sqrt(n / (n - 1) * ((gains - mean * sizes) ** 2).sum()) / total)


def solve_fields(offset, weight, group, n_groups, target):
    """Fields h_g with ``sum_e in g weight_e / (1 + exp(-(h_g + offset_e))) = target_g``, by bisection.

    Used for units that never (or always) fire: their maximum lies at infinity, and the target is the stated
    Krichevsky-Trofimov estimate ``T (n + 1/2)/(T + 1)``.
    """
    span = 60.0 + float(np.abs(offset).max(initial=0.0))
    low, high = np.full(n_groups, -span), np.full(n_groups, span)
    for _ in range(60):
        middle = (low + high) / 2
        expected = np.bincount(group, weight * 0.5 * (1 + np.tanh(0.5 * (middle[group] + offset))), n_groups)
        low, high = np.where(expected < target, middle, low), np.where(expected < target, high, middle)
    return (low + high) / 2
