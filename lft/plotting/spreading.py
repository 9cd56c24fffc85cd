"""Figure of a spreading ensemble: active sites, survival, radius and density over time, on logarithmic scales."""

from __future__ import annotations

import numpy as np

from lft.analysis.spreading import exponents
from lft.plotting.figure import COLORS, new_figure, save

LABELS = {
    "active": ("active sites", "theta"),
    "survival": ("survival probability", "delta"),
    "radius2": ("mean squared distance (spacings$^2$)", "2/z"),
    "density": ("density of active sites", "delta"),
}


def plot_spreading(archive, estimates, path):
    """The four observables over the time step with bands of one standard error, and their slopes in the last decade."""
    slopes, is_seed = exponents(archive) or {}, archive.spreading["start"] == "seed"
    figure, axes = new_figure(2, 2)
    for ax, (name, (label, slope)) in zip(axes.ravel(), LABELS.items(), strict=True):
        value = np.array([e.value for e in estimates[name]])
        error = np.array([e.error for e in estimates[name]])
        t = np.arange(len(value))
        shown = (t > 0) & np.isfinite(value) & (value > 0)
        if not shown.any():
            ax.text(0.5, 0.5, "not defined" if not is_seed else "no activity", ha="center", transform=ax.transAxes)
            ax.set(xlabel="time step", ylabel=label)
            continue
        low = np.maximum(value - np.nan_to_num(error), value * 1e-2)
        ax.fill_between(t[shown], low[shown], (value + np.nan_to_num(error))[shown], color=COLORS[0], alpha=0.3, lw=0)
        ax.plot(t[shown], value[shown], color=COLORS[0], lw=1)
        ax.set(xscale="log", yscale="log", xlabel="time step", ylabel=label)
        found = slopes.get(slope, {"value": None})
        if found["value"] is not None and (name != "density" or not is_seed):
            ax.set_title(f"{slope} = {found['value']:.4g} $\\pm$ {found['error'] or np.nan:.2g}", fontsize=10)
    save(figure, path)
