"""How long a recording must be: for a given error of a coupling, or to find a coupling of a given size.

The information grows with the number of bins, so ``error(T) = error_0 sqrt(T_0/T)``.  A two-sided test at level alpha
finds a coupling of size J with probability ``power`` once ``|J| >= (z_(1 - alpha/2) + z_power) error(T)``, hence

    T = T_0 (error_0/target)^2      and      T = T_0 [(z_(1 - alpha/2) + z_power) error_0/|J|]^2

The extrapolation holds where errors are those of the Gaussian limit; :func:`measured_scaling` checks it on the
recording itself, by fits of its halves, quarters and eighths.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.inference.uncertainty.bootstrap import free_maximum


@dataclass(frozen=True, eq=False)
class Power:
    """Recording lengths that reach a goal, for every coupling.

    Attributes
    ----------
    bins : ndarray (m,)
        Needed bins; NaN where a coupling has no error.
    factor : ndarray (m,)
        The same over the bins at hand.
    n_bins : int
        At hand.
    bin_s : float or None
    goal : str
    """

    bins: np.ndarray
    factor: np.ndarray
    n_bins: int
    bin_s: float | None
    goal: str

    def report(self):
        """Quartiles over couplings for JSON, and the share that the recording reaches already."""
        known = self.factor[np.isfinite(self.factor)]
        low, middle, high = [float(v) for v in np.quantile(known, [0.25, 0.5, 0.75])] if len(known) else [None] * 3
        seconds = None if self.bin_s is None or middle is None else middle * self.n_bins * self.bin_s
        return {
            "goal": self.goal,
            "n_bins": self.n_bins,
            "factor_quartiles": [low, middle, high],
            "median_bins": None if middle is None else middle * self.n_bins,
            "median_s": seconds,
            "share_reached": float((known <= 1).mean()) if len(known) else None,
        }


def needed_bins(error, n_bins, *, target_error=None, coupling=None, level=0.05, power=0.8, bin_s=None):
    """Bins needed for a target error, or to find couplings of a size.

    Parameters
    ----------
    error : array_like (m,)
        Errors at ``n_bins`` bins, of estimates without penalty.
    n_bins : int
    target_error : float, optional
        > 0, in the units of ``error``.
    coupling : float, optional
        |J| > 0 to be found; exactly one of the two is given.
    level, power : float
        Of the two-sided test.
    bin_s : float, optional

    Returns
    -------
    Power

    Examples
    --------
    >>> needed_bins([0.02], 1000, target_error=0.01).bins.tolist()
    [4000.0]
    >>> round(float(needed_bins([0.02], 1000, coupling=0.05).bins[0]))  # (1.960 + 0.842)^2 0.16 1000
    1256
    """
    from scipy.special import ndtri

    if (target_error is None) == (coupling is None):
        raise InputError("power: give either target_error or coupling")
    for label, value, high in (
        ("target_error", target_error, np.inf),
        ("coupling", coupling, np.inf),
        ("level", level, 1),
        ("power", power, 1),
    ):
        if value is not None and not (np.isfinite(value) and 0 < value < high):
            raise InputError(f"{label} = {value!r}: valid is a number > 0" + ("" if high == np.inf else " and < 1"))
    error = np.asarray(error, float)
    if target_error is not None:
        factor, goal = (error / target_error) ** 2, f"error {target_error:g}"
    else:
        reach = ndtri(1 - level / 2) + ndtri(power)
        factor = (reach * error / coupling) ** 2
        goal = f"coupling {coupling:g} found with probability {power:g} at level {level:g}"
    factor = np.where(error > 0, factor, np.nan)
    return Power(factor * n_bins, factor, int(n_bins), bin_s, goal)


def measured_scaling(objective, theta, error, *, parts=(2, 4, 8), fit=None, which=None):
    """Whether errors fall as 1/sqrt(T) on this recording: the scatter of fits of its parts over the prediction.

    For each number n of equal parts the fits theta_p scatter about their mean with variance ``n error^2``; returned is
    the ratio of the measured to the predicted root mean square, 1 if the extrapolation is right.  Above 1: couplings
    drift, or the small parts are beyond the Gaussian limit.

    Parameters
    ----------
    objective : Objective
    theta, error : ndarray (size,)
        Free estimate and its errors from all rows.
    parts : sequence of int
        Each >= 2.
    fit : callable, optional
        ``fit(objective, start) -> theta``; default the maximum without a penalty.
    which : ndarray (size,) of bool, optional
        Parameters that count; default those with a finite error.

    Returns
    -------
    dict
        ``{n: ratio}``.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> rng = np.random.default_rng(0)
    >>> o = LinearObjective(rng.normal(size=(8000, 20)), rng.normal(size=8000))
    >>> _, g, make = o.evaluate(np.zeros(20))
    >>> ratios = measured_scaling(o, make(None).solve(g), np.full(20, 8000**-0.5))
    >>> all(0.7 < r < 1.3 for r in ratios.values()), sorted(ratios)
    (True, [2, 4, 8])
    """
    fit = free_maximum if fit is None else fit
    which = np.isfinite(error) if which is None else which
    out = {}
    for n in parts:
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 2 <= n <= objective.n_rows:
            raise InputError(f"parts = {n!r}: valid is an integer from 2 to {objective.n_rows}")
        edges = np.linspace(0, objective.n_rows, n + 1).astype(int).tolist()
        fits = np.stack([fit(objective.over([r]), theta) for r in itertools.pairwise(edges)])[:, which]
        measured = ((fits - fits.mean(axis=0)) ** 2).sum(axis=0) / (n - 1)
        out[int(n)] = float(np.sqrt((measured / (n * error[which] ** 2)).mean()))
    return out
