"""Figures of renormalization flows."""

from __future__ import annotations

import numpy as np

from lft.plotting.figure import COLORS, finite, new_figure, save


def plot_flow(flow, path):
    """Couplings, and density of up sites, against scale."""
    names = list(dict.fromkeys(n for level in flow.levels for n in level.couplings))
    figure, axes = new_figure(1, 2, width=4.8)
    levels = np.arange(len(flow.levels))
    ax = axes[0, 0]
    for k, name in enumerate(names):
        pairs = [level.couplings.get(name, (np.nan, np.nan)) for level in flow.levels]
        value, error = np.array(pairs).T
        x, value, error = finite(levels, value, error)
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
