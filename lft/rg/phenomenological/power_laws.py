"""Power laws fitted to curves whose points are correlated: exponent, error, goodness of fit, range.

    ln y(K) = a + x ln K,     covariance S of ln y from leaving out one time block at a time

The exponent is the least-squares slope with equal weights, a fixed linear function ``x = w . ln y`` of the curve, so
that data and surrogates are measured with the same ruler; its error is ``sqrt(w S w)``, with the correlations between
the levels in it.  The generalized least-squares slope, with ``S^-1`` as the weight, stands beside it: it is the most
precise one where the power law holds, and where it does not it leans on the levels with the smallest errors.

Whether the power law holds is asked of the residuals alone: for contrasts ``L`` (rows orthogonal to 1 and ln K)

    chi2 = (L ln y)' (L S L')^-1 (L ln y),      q = m - 2 degrees of freedom,

which has Hotelling's distribution as S comes from few blocks: ``chi2 (nu - q + 1)/(nu q) ~ F(q, nu - q + 1)`` with
``nu = blocks - folds`` (standard result).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

MIN_LEVELS = 4
"""Levels in the shortest range that is tried where the whole one is rejected."""
P_REJECT = 0.05


@dataclass(frozen=True)
class PowerLaw:
    """An exponent with its evidence.

    Attributes
    ----------
    value, error : float
        Slope with equal weights and its standard error; nan where fewer than 2 levels (3 without replicas) are there.
    gls, gls_error : float
        Slope weighted with the inverse covariance; nan where that is singular.
    chi2 : float
    dof : int
    p_value : float
        Chance of a larger chi2 if the power law holds; nan if it cannot be told.
    first, last : float
        Range of the scale.
    n_levels : int
    tried : int
        Ranges looked at before this one was taken, itself included.
    notes : tuple of str
    """

    value: float
    error: float
    gls: float
    gls_error: float
    chi2: float
    dof: int
    p_value: float
    first: float
    last: float
    n_levels: int
    tried: int = 1
    notes: tuple = ()

    @property
    def is_rejected(self):
        """True if the power law is rejected at 5 %."""
        return self.p_value < P_REJECT

    @property
    def is_constant(self):
        """True if the blocks do not scatter: an error of 0 is no sign of precision."""
        return self.error <= 1e-9 * max(1.0, abs(self.value))

    def __str__(self):
        from lft.analysis.estimate import format_with_error

        if not math.isfinite(self.value):
            return "undefined"
        text = format_with_error(self.value, self.error)
        if not math.isfinite(self.error) or self.is_constant:
            text = f"{self.value:.4g}({'constant' if self.is_constant else '?'})"
        return f"{text} on {self.first:g}..{self.last:g}, chi2/dof {_ratio(self.chi2, self.dof)}, p {self.p_value:.2g}"


def _ratio(chi2, dof):
    return f"{chi2 / dof:.2g}" if dof and math.isfinite(chi2) else "-"


def jackknife_covariance(replicas, fold):
    """Covariance of a quantity from its values without one block, fold by fold.

        S = sum_f (g_f - 1)/g_f sum_{b in f} (y_b - mean_f y)(y_b - mean_f y)'

    with g_f blocks in fold f (the standard delete-one jackknife where there is one fold).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 2.0, 4.0, 5.0])
    >>> without = (x.sum() - x) / 3
    >>> bool(np.isclose(jackknife_covariance(without[:, None], np.zeros(4))[0, 0], x.var(ddof=1) / 4))
    True
    """
    replicas, fold = np.asarray(replicas, float), np.asarray(fold)
    s = np.zeros((replicas.shape[1],) * 2)
    for f in np.unique(fold):
        d = replicas[fold == f]
        d = d - d.mean(axis=0)
        s += (len(d) - 1) / len(d) * d.T @ d
    return s


def slope_weights(scale):
    """w with ``w . ln y`` the least-squares slope of ln y against ln scale."""
    x = np.log(scale)
    x = x - x.mean()
    return x / (x @ x)


def usable(curve):
    """Levels where the curve and all its replicas are positive and finite."""
    with np.errstate(invalid="ignore"):
        good = np.isfinite(curve.value) & (curve.value > 0)
        if len(curve.replicas):
            good &= (np.isfinite(curve.replicas) & (curve.replicas > 0)).all(axis=0)
    return good


def fit_power_law(curve, levels=None, has_scan=True):
    """The exponent of a curve.

    Parameters
    ----------
    curve : Curve
        See :class:`lft.rg.phenomenological.clusters.Curve`.
    levels : array_like of bool, optional
        Levels that may be used; default: where the curve is positive and finite, replicas included.
    has_scan : bool, optional
        If the power law is rejected (p < 0.05) on all levels, take the longest range of at least 4 consecutive ones
        on which it is not (the one at larger scales of two equal ones); all levels where there is none.  Without:
        all levels.

    Returns
    -------
    PowerLaw
        Flagged by ``is_rejected`` and by notes.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.phenomenological.clusters import Curve
    >>> rng, scale = np.random.default_rng(1), 2.0 ** np.arange(6)
    >>> blocks = scale**1.5 * (1 + 0.1 * rng.standard_normal((20, 6)))
    >>> without = (blocks.sum(0) - blocks) / 19
    >>> law = fit_power_law(Curve(scale, blocks.mean(0), without, np.zeros(20)))
    >>> abs(law.value - 1.5) < 4 * law.error, law.is_rejected
    (True, False)
    """
    good = usable(curve)
    good = good if levels is None else good & np.asarray(levels, bool)
    index = np.flatnonzero(good)
    notes = []
    if len(index) < np.count_nonzero(np.ones_like(good) if levels is None else levels):
        notes.append("not defined (or too few events) on some levels, which are left out")
    if len(index) < 2:
        return PowerLaw(*[math.nan] * 5, 0, *[math.nan] * 3, len(index), notes=(*notes, "fewer than 2 levels"))
    whole = _fit(curve, index, 1, notes)
    if not has_scan or not whole.is_rejected:
        return whole
    tried = 1
    for n in range(len(index) - 1, MIN_LEVELS - 1, -1):
        for start in range(len(index) - n, -1, -1):
            tried += 1
            law = _fit(curve, index[start : start + n], tried, [])
            if law.p_value >= P_REJECT:
                text = f"rejected on all {len(index)} levels (p = {whole.p_value:.1g}); longest accepted range"
                return replace(law, notes=(*notes, text))
    return replace(whole, tried=tried, notes=(*whole.notes, f"no power law: rejected on all {tried} ranges tried"))


def _fit(curve, index, tried, notes):
    x, y = np.log(curve.scale[index]), np.log(curve.value[index])
    w, m = slope_weights(curve.scale[index]), len(index)
    first, last = sorted((float(curve.scale[index[0]]), float(curve.scale[index[-1]])))
    value, q = float(w @ y), m - 2
    if not len(curve.replicas):
        return PowerLaw(value, math.nan, *[math.nan] * 3, q, math.nan, first, last, m, tried, tuple(notes))
    s = jackknife_covariance(np.log(curve.replicas[:, index]), curve.fold)
    error = math.sqrt(max(0.0, float(w @ s @ w)))
    notes = list(notes)
    if error <= 1e-9 * max(1.0, abs(value)):  # as PowerLaw.is_constant
        notes.append("the blocks do not scatter: error 0 says constant, not exact")
    nu = len(curve.fold) - len(np.unique(curve.fold))
    chi2 = p = gls = gls_error = math.nan
    design = np.column_stack([np.ones(m), x])
    scale = np.sqrt(np.diag(s))
    if q and nu >= q and scale.min() > 0:
        contrasts = np.linalg.svd(design)[0][:, 2:].T
        middle = contrasts @ s @ contrasts.T
        if np.linalg.cond(s / np.outer(scale, scale)) < 1e12:
            r = contrasts @ y
            chi2 = float(r @ np.linalg.solve(middle, r))
            from scipy.special import fdtrc

            p = float(fdtrc(q, nu - q + 1, max(chi2, 0.0) * (nu - q + 1) / (nu * q)))
            gls, gls_error = _generalized(design, y, s, q, nu)
        else:
            notes.append("the covariance of the levels is singular: no chi2")
    elif q and nu < q:
        notes.append(f"{nu + 1} blocks cannot tell the covariance of {m} levels: no chi2")
    return PowerLaw(value, error, gls, gls_error, chi2, q, p, first, last, m, tried, tuple(notes))


def _generalized(design, y, s, q, nu):
    """Slope with weight S^-1; its error allows for the scatter of S, itself estimated with nu degrees of freedom.

    For Gaussian blocks the variance of the slope is ``(nu - 1)/(nu - q - 1)`` times that with the true covariance, of
    which ``(X' S^-1 X)^-1`` gives ``(nu - q)/nu`` on average (standard results for growth curves).
    """
    inner = design.T @ np.linalg.solve(s, design)
    slope = float(np.linalg.solve(inner, design.T @ np.linalg.solve(s, y))[1])
    if nu - q - 1 <= 0:
        return slope, math.nan
    variance = float(np.linalg.inv(inner)[1, 1]) * nu / (nu - q) * (nu - 1) / (nu - q - 1)
    return slope, math.sqrt(variance)


def common_slope(curves, levels):
    """Equal-weight slopes of several curves on the levels where all of them are positive: (slopes, levels used).

    nan with fewer than 3 levels in common.
    """
    levels = np.asarray(levels, bool).copy()
    for c in curves:
        with np.errstate(invalid="ignore"):
            levels &= np.isfinite(c.value) & (c.value > 0)
    if np.count_nonzero(levels) < 3:
        return np.full(len(curves), np.nan), levels
    w = slope_weights(curves[0].scale[levels])
    return np.array([w @ np.log(c.value[levels]) for c in curves]), levels
