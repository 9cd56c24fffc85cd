"""Which couplings survive a common input?  The smoothed rate of the other units as a covariate of each unit.

Every unit is regressed twice on all others,

    logit P(phi_i(t) = 1 | rest) = c_i + sum_j a_ij phi_j(t)  [ + g_i x_i(t) ],

once without and once with the standardized logarithm of the rate of the other units around t,

    x_i(t) ~ log( s0 + sum_(k != 0) w_k sum_(j != i) phi_j(t + k) ),    w Gaussian, sum of w = 1, s0 = (sum_k w_k^2)/2

The bin itself is left out of x_i, so coincidences in one bin remain evidence for a coupling, while what follows from a
shared modulation slower than a bin is taken by g_i; s0 is half a spike in the smoothing window.  Both directions of a
pair are averaged; errors are the sandwich over blocks of time, with the scores of both units (as in
:mod:`lft.inference.newton`).  Which couplings exist is decided before and after by the procedure of Benjamini and
Hochberg at the rate FDR.  A weak L2 penalty, the same both times, keeps pairs that never coincide finite.

The control is deliberately strict: a common rate that the couplings themselves create is taken away too, so a coupling
that is lost is *explainable* by common input, not thereby refuted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.inference import newton
from lft.inference.trials import checked_rasters

FDR = 0.05
LOST_WARNING = 0.25
"""Fraction of the significant couplings lost above which the fit's couplings need the caveat."""
SLOPE_WARNING = 0.75
DENSE = 0.2  # mean firing probability from which dense products are faster than sparse ones


@dataclass(frozen=True, eq=False)
class CommonInput:
    """Couplings without and with the common input, in log-odds.

    Attributes
    ----------
    units : ndarray (n,)
        Columns of the raster that took part.
    before, before_error, after, after_error : ndarray (n, n)
        Symmetric, zero diagonal.
    gain : ndarray (n,)
        Coefficient g_i of the standardized covariate.
    width_bins : float
        Standard deviation of the smoothing window.
    """

    units: np.ndarray
    before: np.ndarray
    before_error: np.ndarray
    after: np.ndarray
    after_error: np.ndarray
    gain: np.ndarray
    width_bins: float

    def _significant(self, which):
        upper = np.triu_indices(len(self.units), 1)
        value, error = (self.before, self.before_error) if which == "before" else (self.after, self.after_error)
        return discoveries(value[upper], error[upper])

    @property
    def n_significant(self):
        """Couplings found (before, after)."""
        return int(self._significant("before").sum()), int(self._significant("after").sum())

    @property
    def lost(self):
        """Fraction of the couplings found before that are not found after, or change sign; nan if none was found."""
        before, after = self._significant("before"), self._significant("after")
        upper = np.triu_indices(len(self.units), 1)
        kept = before & after & (np.sign(self.before[upper]) == np.sign(self.after[upper]))
        return float(1 - kept.sum() / before.sum()) if before.any() else math.nan

    @property
    def slope(self):
        """What is left of the significant couplings: weighted regression of after on before through 0."""
        upper = np.triu_indices(len(self.units), 1)
        found = self._significant("before")
        x, y = self.before[upper][found], self.after[upper][found]
        weight = 1 / self.after_error[upper][found] ** 2
        return float((weight * x * y).sum() / (weight * x * x).sum()) if found.any() else math.nan

    @property
    def warning(self):
        """A line where common input explains much, else None."""
        if not (self.lost > LOST_WARNING or self.slope < SLOPE_WARNING):
            return None
        found = self.n_significant[0]
        return (
            f"common input: with the smoothed rate of the other units as covariate, {100 * self.lost:.0f} % of the "
            f"{found} significant couplings are no longer found, and all keep {100 * self.slope:.0f} % of their size: "
            "a shared modulation explains them as well as couplings do"
        )

    def as_json(self):
        """Plain numbers."""
        plain = lambda x: x if math.isfinite(x) else None  # noqa: E731
        return {
            "n_units": len(self.units),
            "n_pairs": len(self.units) * (len(self.units) - 1) // 2,
            "significant_before": self.n_significant[0],
            "significant_after": self.n_significant[1],
            "lost": plain(self.lost),
            "slope": plain(self.slope),
            "mean_gain": float(self.gain.mean()),
            "width_bins": self.width_bins,
            "false_discovery_rate": FDR,
        }


def discoveries(value, error):
    """Benjamini-Hochberg at the rate FDR on two-sided normal p values: bool.

    Examples
    --------
    >>> discoveries(np.array([5.0, 0.1, -4.0]), np.ones(3)).tolist()
    [True, False, True]
    """
    from scipy.special import ndtr

    p = np.where(error > 0, 2 * ndtr(-np.abs(value) / np.where(error > 0, error, 1)), 1.0)
    order = np.argsort(p)
    passed = np.flatnonzero(p[order] <= FDR * np.arange(1, len(p) + 1) / max(len(p), 1))
    out = np.zeros(len(p), bool)
    out[order[: passed[-1] + 1 if len(passed) else 0]] = True
    return out


def common_input(rasters, *, width_bins=5.0, max_units=60, ridge=0.1, n_blocks=20):
    """Fit all pairs without and with the rate of the other units as a covariate.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1; several are trials, smoothed apart.
    width_bins : float
        Standard deviation of the Gaussian window, > 0; the window is cut at 4 of them.
    max_units : int
        The most active units take part where there are more; their common rate is still that of all units.
    ridge : float
        L2 penalty on couplings and covariate, > 0: ``-(ridge/2) a^2`` nats.
    n_blocks : int
        Blocks behind the errors, >= 2.

    Returns
    -------
    CommonInput

    Raises
    ------
    InputError
        Fewer than 3 units that both fire and pause, or bad arguments.

    Notes
    -----
    Newton unit by unit: about 10 Hessians of ``T n^2`` operations (dense) or ``T (n p)^2`` (sparse) each, twice.

    Examples
    --------
    Units that share a slow rate and nothing else.

    >>> rng = np.random.default_rng(0)
    >>> slow = np.repeat(np.where(rng.random(150) < 0.5, 0.02, 0.3), 40)
    >>> found = common_input((rng.random((6000, 8)) < slow[:, None]).astype(np.int8))
    >>> found.n_significant[0] > 20, found.slope < 0.3
    (True, True)
    """
    rasters = checked_rasters(rasters)
    if not (math.isfinite(width_bins) and width_bins > 0):
        raise InputError(f"width_bins = {width_bins!r}: valid is a finite number > 0")
    if not (math.isfinite(ridge) and ridge > 0):
        raise InputError(f"ridge = {ridge!r}: valid is a finite number > 0")
    everything = np.concatenate(rasters)
    n_bins, fires = len(everything), everything.sum(axis=0, dtype=np.int64)
    active = np.flatnonzero((fires > 0) & (fires < n_bins))
    if len(active) < 3:
        raise InputError(f"{len(active)} units both fire and pause: a common input needs at least 3")
    units = np.sort(active[np.argsort(-fires[active], kind="stable")][:max_units])
    edges = np.linspace(0, n_bins, n_blocks + 1).astype(np.int64)
    design = _Design(everything[:, units], ridge, edges)
    spread = np.concatenate([_around(r, units, width_bins) for r in rasters])
    n = len(units)
    fits = [[], []]
    gain = np.zeros(n)
    for i in range(n):
        for which, covariate in enumerate((None, _standard(spread[:, i]))):
            theta, influence = design.fit(i, covariate)
            fits[which].append((theta, influence))
            if which:
                gain[i] = theta[-1]
    before, after = (_symmetric(fit, n) for fit in fits)
    return CommonInput(units, *before, *after, gain, float(width_bins))


def _around(raster, units, width):
    """log(s0 + smoothed rate of the others, this bin left out), (T, n)."""
    from scipy.ndimage import convolve1d

    reach = max(1, math.ceil(4 * width))
    k = np.arange(-reach, reach + 1)
    window = np.exp(-0.5 * (k / width) ** 2) * (k != 0)
    window /= window.sum()
    smooth = lambda x: convolve1d(x.astype(float), window, axis=0, mode="constant")  # noqa: E731
    inside = smooth(np.ones(len(raster)))  # ends of a trial: the part of the window that lies inside
    others = smooth(raster.sum(axis=1))[:, None] - smooth(raster[:, units])
    return np.log((window**2).sum() / 2 + np.maximum(others, 0) / inside[:, None])


def _standard(x):
    spread = x.std()
    return (x - x.mean()) / spread if spread > 0 else np.zeros_like(x)


class _Design:
    """Regressions of one unit on all others, with products that use sparse firing."""

    def __init__(self, raster, ridge, edges):
        from scipy.sparse import csr_array

        self.raster, self.ridge, self.edges = raster, ridge, edges
        self.is_sparse = raster.mean() < DENSE
        self.phi = csr_array(raster.astype(float)) if self.is_sparse else raster.astype(float)
        self.n = raster.shape[1]

    def fit(self, i, covariate):
        """theta = (a of all units with 0 for i itself, c, g), and the influence of each block on it."""
        y = self.raster[:, i].astype(float)
        extra = np.stack([np.ones(len(y)), *([] if covariate is None else [covariate])], axis=1)
        keep = np.delete(np.arange(self.n + extra.shape[1]), i)
        penalty = np.full(len(keep), self.ridge)
        penalty[self.n - 1] = 0.0  # the field
        start = np.zeros(len(keep))
        start[self.n - 1] = math.log(y.mean() / (1 - y.mean()))

        def odds(theta):
            whole = np.zeros(self.n + extra.shape[1])
            whole[keep] = theta
            return self.phi @ whole[: self.n] + extra @ whole[self.n :]

        def evaluate(theta):
            z = odds(theta)
            p = 0.5 * (1 + np.tanh(0.5 * z))
            value = float((y * z - np.logaddexp(0, z)).sum() - 0.5 * (penalty * theta**2).sum())
            gradient = np.concatenate([self.phi.T @ (y - p), extra.T @ (y - p)])[keep] - penalty * theta
            w = p * (1 - p)
            return (
                value,
                gradient,
                lambda damping: newton.DenseInformation(
                    self._hessian(w, extra)[np.ix_(keep, keep)] + np.diag(penalty), damping
                ),
            )

        theta, _, information = newton.maximize(evaluate, start)
        residual = y - 0.5 * (1 + np.tanh(0.5 * odds(theta)))
        scores = [
            np.concatenate([self.phi[a:b].T @ residual[a:b], extra[a:b].T @ residual[a:b]])[keep]
            for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)
        ]
        influence = np.zeros((len(scores), self.n + extra.shape[1]))
        influence[:, keep] = newton.influences(information, np.array(scores))
        whole = np.zeros(influence.shape[1])
        whole[keep] = theta
        return whole, influence

    def _hessian(self, w, extra):
        if self.is_sparse:
            weighted = self.phi.multiply(w[:, None]).tocsr()
            block, side = (weighted.T @ self.phi).toarray(), weighted.T @ extra
        else:
            weighted = self.phi * w[:, None]
            block, side = weighted.T @ self.phi, weighted.T @ extra
        return np.block([[block, side], [side.T, (extra * w[:, None]).T @ extra]])


def _symmetric(fits, n):
    """Mean of both directions and its error, from the influences of both regressions block by block."""
    value = np.array([theta[:n] for theta, _ in fits])
    influence = np.array([u[:, :n] for _, u in fits])
    both = (influence + influence.transpose(2, 1, 0)) / 2
    return (value + value.T) / 2, np.sqrt((both**2).sum(axis=1))
