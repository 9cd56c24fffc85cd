"""Figures of models side by side."""

from __future__ import annotations

import math

import numpy as np

from lft.plotting.figure import COLORS, height_of, new_figure, plain, ratios, save

STYLES = ("-", "--")


def plot_models(comparison, path):
    """Autocovariances of states and outputs, spectra, and every number of B over that of A.

    Parameters
    ----------
    comparison : lft.meanfield.matching.sidebyside.ModelComparison
    path : path
    """
    rows = _rows(comparison)
    figure, axes = new_figure(2, 2, width=4.4, height=height_of(len(rows), 3.1))
    pair = (comparison.one, comparison.two)
    for ax, name, text in zip(
        axes.ravel(),
        ("state_autocovariance", "autocovariance", "spectrum"),
        ("autocovariance of the state", "autocovariance of the output", "spectrum of the output"),
        strict=False,
    ):
        _curves(ax, pair, comparison.labels, name)
        ax.set(ylabel=text, xlabel="frequency" if name == "spectrum" else "time lag")
    axes[0, 1].legend(frameon=False, fontsize=7)
    ratios(axes[1, 1], rows, plain(f"{comparison.labels[1]} / {comparison.labels[0]}"))
    save(figure, path)


def _curves(ax, pair, labels, name):
    end = 0.0
    for portrait, style, label in zip(pair, STYLES, labels, strict=True):
        if name not in portrait.curves:
            ax.text(0.5, 0.9, plain(f"{label} has none"), transform=ax.transAxes, ha="center", fontsize=7)
            continue
        values, errors = portrait.curves[name]
        at = portrait.frequencies if name == "spectrum" else portrait.lags
        start = 1 if name == "spectrum" or _holds_delta(portrait, name) else 0
        for a, population in enumerate(portrait.names):
            color = COLORS[a % len(COLORS)]
            ax.plot(at[start:], values[a, start:], style, color=color, lw=1.4, label=plain(f"{label}, {population}"))
            ax.fill_between(
                at[start:], (values - errors)[a, start:], (values + errors)[a, start:], color=color, alpha=0.25, lw=0
            )
            size = np.abs(values[a, start:])
            above = np.flatnonzero(size > 0.01 * size.max()) if size.max() > 0 else []
            end = max(end, float(at[start:][above[-1]]) if len(above) else float(at[-1]))
    if name == "spectrum":
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(right=3 * end or None)
        tops = [float(p.curves[name][0][:, 1:].max()) for p in pair if name in p.curves]
        if tops and max(tops) > 0:
            ax.set_ylim(1e-4 * max(tops), 3 * max(tops))
    elif end:
        ax.set_xlim(0, 1.1 * end)
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)


def _holds_delta(portrait, name):
    """Whether lag 0 of a curve holds the delta function of spikes."""
    return name == "autocovariance" and "fano" in portrait


def _rows(comparison):
    """(name, ratio, error, color) of every number that is no point of a curve."""
    out = []
    for r in comparison.rows:
        if not r.name.endswith(("autocovariance", "spectrum")) and math.isfinite(r.relative):
            error = math.hypot(r.one_error * r.two / r.one, r.two_error) / abs(r.one)
            out.append((f"{r.name} {r.where}", r.two / r.one, error, COLORS[0]))
    return out
