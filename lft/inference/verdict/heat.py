"""Specific heat against temperature around a fit, beside a control without correlations.

With the fitted weight exp(W) raised to the power beta, and S bins simulated in each of many independent stretches,

    C(beta) = beta^2 var_beta(W) / (N S)          per unit and bin

For a static model the bins of a stretch are drawn independently and S = 1 serves (all bins count, errors over
stretches).  For a space-time model W includes the couplings between bins, and S must be long against their range: edges
contribute of order 1/S.

A peak near beta = 1 is no proof of criticality: it appears for small N, for units of different rates, and for any
latent common input; so the same is done for a control fit to circularly shifted units, which have the same rates and no
correlations among them.  A unit on its own has, exactly, C(beta) = (beta c)^2 p (1 - p) with p = 1/(1 + exp(-beta c)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.inference.verdict.checks import jackknife_error
from lft.rng import Key, Stream

CAVEAT = (
    "a peak of the specific heat near beta = 1 is expected of small groups, of unequal rates and of common input too: "
    "compare it with the control, and over growing groups of units, before calling it critical"
)


@dataclass(frozen=True, eq=False)
class HeatCurve:
    """C(beta) with errors.

    Attributes
    ----------
    beta, value, error : ndarray
    peak : tuple of float
        beta of the largest value on the grid, and half the width of the stretch around it that C does not tell apart
        from it within one error: the peak is known no better.
    at_edge : bool
        The largest value is at an end of the grid: the peak lies outside, or there is none.
    """

    beta: np.ndarray
    value: np.ndarray
    error: np.ndarray
    peak: tuple
    at_edge: bool

    def as_json(self):
        """Plain numbers."""
        return {
            "beta": self.beta.tolist(),
            "value": self.value.tolist(),
            "error": self.error.tolist(),
            "peak_beta": {"value": self.peak[0], "error": self.peak[1]},
            "peak_at_edge": self.at_edge,
        }


def specific_heat(scaled, weight, n_units, betas, *, is_static, n_bins=200, n_chains=100, seed=0):
    """C(beta) of a family of models by simulation.

    Parameters
    ----------
    scaled : callable
        ``beta -> BinaryModel`` with the weight exp(beta W).
    weight : callable
        ``raster (S, N) -> (S,)`` terms of W at beta = 1 whose sum over bins is W (a term that joins two bins belongs to
        one of them).
    n_units : int
    betas : sequence of float
        > 0, increasing, at least 3.
    is_static : bool
        The model joins no two bins.
    n_bins, n_chains : int
        Length S and number of the stretches.
    seed : int
        The same random numbers serve all temperatures, which makes the curve smooth.

    Returns
    -------
    HeatCurve

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.verdict.independent import IndependentModel
    >>> c = np.array([-2.0, -1.0])
    >>> curve = specific_heat(lambda b: IndependentModel(b * c), lambda r: r @ c, 2, [0.5, 1.0, 1.5], is_static=True)
    >>> p = 1 / (1 + np.exp(-c))
    >>> bool(abs(curve.value[1] - np.mean(c**2 * p * (1 - p))) < 4.5 * curve.error[1])
    True
    """
    betas = np.array(betas, dtype=float)
    if betas.ndim != 1 or len(betas) < 3 or not (betas[0] > 0 and (np.diff(betas) > 0).all()):
        raise InputError(f"betas = {betas.tolist()}: valid are at least 3 increasing numbers > 0")
    points = [_at(scaled(float(b)), weight, n_units, float(b), is_static, n_bins, n_chains, seed) for b in betas]
    value, error = (np.array(x) for x in zip(*points, strict=True))
    return HeatCurve(betas, value, error, *_peak(betas, value, error))


def _at(model, weight, n_units, beta, is_static, n_bins, n_chains, seed):
    stretches = model.simulate(n_bins, seed=seed, n_chains=n_chains)
    terms = np.array([weight(r) for r in stretches], dtype=float)
    terms -= terms.mean()
    sums = np.stack([np.full(len(terms), n_bins), terms.sum(axis=1), (terms**2).sum(axis=1)], axis=1)
    if not is_static:
        sums = np.stack([np.ones(len(terms)), sums[:, 1], sums[:, 1] ** 2], axis=1)
    count = n_bins * n_chains if is_static else n_chains
    scale = beta**2 / n_units * count / (count - 1) / (1 if is_static else n_bins)

    def variance(s):
        return scale * (s[..., 2] / s[..., 0] - (s[..., 1] / s[..., 0]) ** 2)

    return float(variance(sums.sum(axis=0))), float(jackknife_error(variance, sums))


def _peak(beta, value, error):
    top = int(value.argmax())
    # all points that one error of the difference does not tell apart from the highest, joined to it
    low = high = top
    near = value + np.hypot(error, error[top]) >= value[top]
    while low > 0 and near[low - 1]:
        low -= 1
    while high < len(beta) - 1 and near[high + 1]:
        high += 1
    half = (beta[min(high + 1, len(beta) - 1)] - beta[max(low - 1, 0)]) / 2
    return (float(beta[top]), float(half)), bool(top in (0, len(beta) - 1))


def shifted(rasters, seed=0):
    """Control: every unit turned by its own random angle within each trial; rates and own correlations are kept.

    Examples
    --------
    >>> import numpy as np
    >>> raster = np.eye(6, 2, dtype=np.int8)
    >>> shifted([raster])[0].sum(axis=0).tolist()
    [1, 1]
    """
    out = []
    for number, raster in enumerate(rasters):
        n = raster.shape[1]
        steps = (Key(seed).fill("uniform", 0, 1, n, number, Stream.CHECK_CONTROL)[0] * len(raster)).astype(np.int64)
        rows = (np.arange(len(raster))[:, None] + steps) % len(raster)
        out.append(np.take_along_axis(raster, rows, axis=0))
    return out


def exact_independent(c, beta):
    """C(beta) of independent units with log-odds c, per unit: mean of ``(beta c)^2 p (1 - p)``.

    Examples
    --------
    >>> round(exact_independent([0.0, 2.0], 1.0), 4)
    0.21
    """
    x = beta * np.asarray(c, dtype=float)
    p = 0.5 * (1 + np.tanh(x / 2))
    return float((x**2 * p * (1 - p)).mean()) if x.size else math.nan
