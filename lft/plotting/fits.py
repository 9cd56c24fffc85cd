"""Figures of fitted couplings and of what a simulation at the fit does."""

from __future__ import annotations

import numpy as np

from lft.plotting.figure import COLORS, new_figure, save
from lft.plotting.units import is_of_units, plot_units


def plot_fit(fit, path):
    """Couplings of a fit with their errors: matrices of units, else a list, and the site fields where there are any."""
    arrays = fit.arrays() if callable(fit.arrays) else fit.arrays
    title = f"{fit.model}, {fit.n_units} units, {fit.n_bins} bins"
    if is_of_units(arrays):
        plot_units(arrays, title, path)
        return
    named = [(n, v, e) for n, (v, e) in fit.named().items() if np.isfinite(v)]
    h = getattr(fit, "h", None)
    is_map = h is not None and np.ndim(h) == 2
    figure, axes = new_figure(1, 2 if is_map else 1, width=5)
    ax = axes[0, 0]
    shown = named if len(named) <= 40 else [p for p in named if not p[0].startswith(("I[", "h["))]
    x, value, error = np.arange(len(shown)), [v for _, v, _ in shown], [e for _, _, e in shown]
    ax.errorbar(x, value, np.nan_to_num(error), fmt="o", ms=4, color=COLORS[0])
    ax.axhline(0, color="0.7", lw=0.8)
    if len(shown) <= 20:
        ax.set_xticks(x, [n for n, _, _ in shown], rotation=60, ha="right")
    else:
        ax.set_xlabel("coupling")
    ax.set(ylabel="coupling (dimensionless)", title=title)
    if is_map:
        image = axes[0, 1].imshow(h.T, origin="lower", cmap="viridis", interpolation="none")
        spacing = fit.lattice.spacing
        axes[0, 1].set(
            xlabel=f"x (sites of {spacing[0]})" if spacing else "x (sites)",
            ylabel=f"y (sites of {spacing[1]})" if spacing else "y (sites)",
            title="site field $h$",
        )
        figure.colorbar(image, ax=axes[0, 1], label="$h$ (dimensionless)")
    save(figure, path)


def plot_recovery(couplings, path):
    """True beside fitted couplings: ``{name: {"true", "value", "error"}}``."""
    figure, axes = new_figure(1, 2, width=4.6)
    names = list(couplings)
    true = np.array([couplings[n]["true"] for n in names])
    value = np.array([couplings[n]["value"] for n in names])
    error = np.array([couplings[n]["error"] for n in names])
    x = np.arange(len(names))
    axes[0, 0].bar(x, true, color="0.85", width=0.7, label="true")
    axes[0, 0].errorbar(x, value, error, fmt="o", ms=4, color=COLORS[1], label="fitted")
    axes[0, 0].axhline(0, color="0.5", lw=0.8)
    axes[0, 0].set_xticks(x, names, rotation=45, ha="right", fontsize=8)
    axes[0, 0].set_ylabel("coupling (dimensionless)")
    axes[0, 0].legend(frameon=False)
    axes[0, 1].axhspan(-2, 2, color="0.92", lw=0)
    axes[0, 1].plot(x, (value - true) / error, "o", ms=5, color=COLORS[0])
    axes[0, 1].axhline(0, color="0.5", lw=0.8)
    axes[0, 1].set_xticks(x, names, rotation=45, ha="right", fontsize=8)
    axes[0, 1].set(ylabel="(fitted - true) / error", ylim=(-5, 5))
    save(figure, path)


def plot_rates(recorded, simulated, path, unit="Hz"):
    """Rate of every unit in the simulation against that in the recording."""
    figure, axes = new_figure(1, 1, width=4.2, height=4)
    ax = axes[0, 0]
    top = max(np.max(recorded), np.max(simulated)) * 1.1
    positive = np.concatenate([recorded[recorded > 0], simulated[simulated > 0]])
    low = max(np.min(positive, initial=top) / 1.5, 1e-9)
    ax.plot([low, top], [low, top], color="0.6", lw=1)
    ax.plot(recorded, simulated, ".", ms=3, color=COLORS[0], alpha=0.6)
    ax.set(xscale="log", yscale="log", xlim=(low, top), ylim=(low, top))
    ax.set(xlabel=f"rate in the recording ({unit})", ylabel=f"rate in the simulation ({unit})")
    save(figure, path)
