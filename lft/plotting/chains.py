"""Figures of an archive."""

from __future__ import annotations

import numpy as np

from lft.plotting.figure import COLORS, axis_label, new_figure, save
from lft.plotting.spreading import plot_spreading


def plot_archive(archive, estimates, path):
    """Series of the magnetization and connected zero-momentum correlators of an archive; of directed percolation the
    observables by time step."""
    if archive.spreading is not None:
        plot_spreading(archive, estimates, path)
        return
    geometry = archive.geometry
    names = [n for n in estimates if n.startswith("connected_")]
    figure, axes = new_figure(1, 1 + len(names))
    spacing = archive.config["run"]["measure_every"]
    series = archive.samples("magnetization")
    ax = axes[0, 0]
    ax.plot(np.arange(1, len(series) + 1) * spacing, series, lw=0.7, color=COLORS[0])
    mean = estimates["magnetization"]
    ax.axhspan(mean.value - mean.error, mean.value + mean.error, color=COLORS[1], alpha=0.4, lw=0)
    ax.axhline(mean.value, color=COLORS[1], lw=1)
    ax.set(xlabel="update after thermalization", ylabel="magnetization per site", title=str(mean))
    for ax, name in zip(axes[0, 1:], names, strict=True):
        axis = name.removeprefix("connected_")
        quantity = geometry.quantity(axis)
        values = np.array([e.value for e in estimates[name]])
        errors = np.array([e.error for e in estimates[name]])
        distance = np.arange(len(values)) * (quantity.value if quantity else 1.0)
        ax.errorbar(distance, values, errors, fmt="o", ms=3, lw=1, color=COLORS[0])
        ax.axhline(0, color="0.7", lw=0.8, zorder=0)
        ax.set(xlabel=axis_label(f"distance along {axis}", quantity), ylabel="$C(r)$, zero momentum, connected")
    save(figure, path)
