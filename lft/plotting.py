"""Figures; the only module that imports matplotlib.

Figures are made with the object interface (no pyplot, no global state, no display) and written as PNG, SVG or PDF by
the ending of the file name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lft.archive import aside
from lft.errors import InputError

COLORS = ("#1b6ca8", "#d1495b", "#2e7d32", "#8e6c8a", "#e08e0b", "#3c3c3c")
ENDINGS = (".png", ".svg", ".pdf")


def _figure(n_rows=1, n_columns=1, width=4.2, height=3.2):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * n_columns, height * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax in axes.ravel():
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def check_figure_path(path):
    """Raise InputError unless the ending names a format that can be written."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: valid endings of a figure are {', '.join(ENDINGS)}")


def save(figure, path):
    """Write a figure, as a whole or not at all."""
    check_figure_path(path)
    with aside(path, "writing the figure") as part:
        figure.savefig(part, dpi=150, format=Path(path).suffix[1:].lower())


def _label(name, quantity):
    return f"{name} ({quantity.unit})" if quantity is not None else f"{name} (sites)"


def _finite(*arrays):
    keep = np.all([np.isfinite(a) for a in arrays], axis=0)
    return [np.asarray(a)[keep] for a in arrays]


def plot_archive(archive, estimates, path):
    """Series of the magnetization and connected zero-momentum correlators of an archive."""
    geometry = archive.geometry
    names = [n for n in estimates if n.startswith("connected_")]
    figure, axes = _figure(1, 1 + len(names))
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
        ax.set(xlabel=_label(f"distance along {axis}", quantity), ylabel="$C(r)$, zero momentum, connected")
    save(figure, path)


def plot_fit(fit, path):
    """Couplings of a fit with their errors, and the site fields where there are any."""
    named = [(n, v, e) for n, (v, e) in fit.named().items() if np.isfinite(v)]
    h = getattr(fit, "h", None)
    is_map = h is not None and np.ndim(h) == 2
    figure, axes = _figure(1, 2 if is_map else 1, width=5)
    ax = axes[0, 0]
    shown = named if len(named) <= 40 else [p for p in named if not p[0].startswith(("I[", "h["))]
    x, value, error = np.arange(len(shown)), [v for _, v, _ in shown], [e for _, _, e in shown]
    ax.errorbar(x, value, np.nan_to_num(error), fmt="o", ms=4, color=COLORS[0])
    ax.axhline(0, color="0.7", lw=0.8)
    if len(shown) <= 20:
        ax.set_xticks(x, [n for n, _, _ in shown], rotation=60, ha="right")
    else:
        ax.set_xlabel("coupling")
    ax.set(ylabel="coupling (dimensionless)", title=f"{fit.model}, {fit.n_units} units, {fit.n_bins} bins")
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


def plot_flow(flow, path):
    """Couplings, and density of up sites, against scale."""
    names = list(dict.fromkeys(n for level in flow.levels for n in level.couplings))
    figure, axes = _figure(1, 2, width=4.8)
    levels = np.arange(len(flow.levels))
    ax = axes[0, 0]
    for k, name in enumerate(names):
        pairs = [level.couplings.get(name, (np.nan, np.nan)) for level in flow.levels]
        value, error = np.array(pairs).T
        x, value, error = _finite(levels, value, error)
        label = "$\\langle h\\rangle$" if name == "h" else name
        ax.errorbar(x, value, error, fmt="o-", ms=4, color=COLORS[k % len(COLORS)], label=label)
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)
    ax.set(ylabel="renormalized coupling (dimensionless)", title=f"{flow.method}, {flow.blocking}")
    ax.legend(frameon=False, fontsize=8)
    value, error = np.array([level.observables["density"] for level in flow.levels]).T
    axes[0, 1].errorbar(levels, value, np.nan_to_num(error), fmt="s-", ms=4, color=COLORS[1])
    axes[0, 1].set(ylabel="fraction of sites up", ylim=(0, None))
    ticks = []
    for level in flow.levels:
        text = "x".join(map(str, level.scale))
        ticks.append(text + ("\n" + "\n".join(dict.fromkeys(level.spacing)) if level.spacing else ""))
    for ax in axes[0]:
        ax.set_xticks(levels, ticks, fontsize=8)
        ax.set_xlabel("block size (sites) and spacing")
    save(figure, path)


def plot_comparison(pairs, path, title=""):
    """Normalized two-point functions of several sources beside each other.

    Parameters
    ----------
    pairs : dict
        ``{label: {axis: Correlator}}``; the first is the reference.
    """
    axes_names = list(next(iter(pairs.values())))
    figure, axes = _figure(1, len(axes_names))
    for ax, axis in zip(axes[0], axes_names, strict=True):
        for k, (label, correlators) in enumerate(pairs.items()):
            if axis not in correlators:
                continue
            c = correlators[axis]
            value, error = c.normalized
            x, value, error = _finite(c.distance[1:], value[1:], error[1:])
            style = {"fmt": "o", "ms": 3.5} if k == 0 else {"fmt": "-", "lw": 1.4}
            ax.errorbar(x, value, error, color=COLORS[k % len(COLORS)], label=label, **style)
        ax.axhline(0, color="0.7", lw=0.8, zorder=0)
        ax.set(xlabel=_label("time" if axis == "t" else f"distance along {axis}", c.step), ylabel="$C(r)/C(0)$")
    axes[0, 0].legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    save(figure, path)


def plot_recovery(couplings, path):
    """True beside fitted couplings: ``{name: {"true", "value", "error"}}``."""
    figure, axes = _figure(1, 2, width=4.6)
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
    figure, axes = _figure(1, 1, width=4.2, height=4)
    ax = axes[0, 0]
    top = max(np.max(recorded), np.max(simulated)) * 1.1
    positive = np.concatenate([recorded[recorded > 0], simulated[simulated > 0]])
    low = max(np.min(positive, initial=top) / 1.5, 1e-9)
    ax.plot([low, top], [low, top], color="0.6", lw=1)
    ax.plot(recorded, simulated, ".", ms=3, color=COLORS[0], alpha=0.6)
    ax.set(xscale="log", yscale="log", xlim=(low, top), ylim=(low, top))
    ax.set(xlabel=f"rate in the recording ({unit})", ylabel=f"rate in the simulation ({unit})")
    save(figure, path)
