"""Do rates and pair correlations stay the same through a recording?  Windows beside a null that permutes short cells.

The tests are those of :mod:`lft.analysis.ergodicity`: variance between windows of the units' rates and of the pairs'
coincidence rates, beside the same for cells dealt out anew over all windows.  Long recordings reject stationarity for
changes that do not matter, so the size is given too, as the excess of the variance over its null:

    rate change = sqrt(max(E_m - null, 0)) / mean rate
    pair change = sqrt(max(E_c - null, 0)) / mean coincidence rate
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.ergodicity import stationarity
from lft.analysis.source import Source
from lft.errors import InputError
from lft.geometry import Graph
from lft.inference.trials import checked_rasters

P_WARNING = 0.01
CHANGE_WARNING = 0.1
"""Relative change of rates between windows above which couplings of the whole recording are averages of several."""


@dataclass(frozen=True, eq=False)
class Drift:
    """Stationarity of a recording over windows of time.

    Attributes
    ----------
    p_rates, p_pairs : float
        Probability of so large a variance between windows if the recording is stationary.
    rate_change, pair_change : float
        Relative standard deviation between windows beyond the null.
    window_bins, cell_bins : int
        Length of a window, and of the cells that the null deals out.
    window_rates : ndarray
        Mean rate of each window, per bin.
    """

    p_rates: float
    p_pairs: float
    rate_change: float
    pair_change: float
    window_bins: int
    cell_bins: int
    window_rates: np.ndarray

    @property
    def warning(self):
        """A line where a change is significant and large, else None."""
        tests = ((self.p_rates, self.rate_change), (self.p_pairs, self.pair_change))
        if not any(p <= P_WARNING and change >= CHANGE_WARNING for p, change in tests):
            return None
        return (
            f"the recording is not stationary: between windows of {self.window_bins} bins the rates change by "
            f"{100 * self.rate_change:.2g} % (p = {self.p_rates:.2g}) and the pairs' coincidence rates by "
            f"{100 * self.pair_change:.2g} % (p = {self.p_pairs:.2g}) beyond chance; shared slow changes look like "
            "couplings: fit windows apart, or give the fit an input"
        )

    def as_json(self):
        """Plain numbers."""
        return {
            "p_rates": self.p_rates,
            "p_pairs": self.p_pairs,
            "rate_change": self.rate_change,
            "pair_change": self.pair_change,
            "window_bins": self.window_bins,
            "cell_bins": self.cell_bins,
            "window_rates": self.window_rates.tolist(),
        }


def drift(rasters, n_windows=8, n_cells=8, n_null=400, seed=0):
    """Test the longest trial for changes between windows.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1.
    n_windows, n_cells : int
        Windows, and cells in each; a cell must be long against the correlation time.
    n_null, seed : int
        Draws of the null.

    Returns
    -------
    Drift

    Examples
    --------
    >>> import numpy as np
    >>> steady = (np.random.default_rng(0).random((4000, 20)) < 0.1).astype(np.int8)
    >>> drift(steady).warning is None
    True
    """
    raster = max(checked_rasters(rasters), key=len)
    n_bins, n_units = raster.shape
    if n_bins < n_windows * n_cells:
        raise InputError(f"{n_bins} bins: {n_windows} windows of {n_cells} cells need at least {n_windows * n_cells}")
    source = Source(Graph(n_units, n_bins), "gas", 1, lambda _, a, b: raster[a:b])
    found = stationarity(source, n_windows, n_cells, n_null=n_null, seed=seed)
    rate = raster.mean()
    count = raster.sum(axis=1, dtype=float)
    together = (count @ count - count.sum()) / (n_bins * n_units * max(n_units - 1, 1))
    excess = lambda test, mean: math.sqrt(max(test.value - test.null_mean, 0.0)) / mean if mean > 0 else 0.0  # noqa: E731
    return Drift(
        found.mean.p, found.correlation.p, float(excess(found.mean, rate)),
        float(excess(found.correlation, together)),
        found.cell_bins * found.n_cells, found.cell_bins, found.rows.mean(axis=1),
    )  # fmt: skip
