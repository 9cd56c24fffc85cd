"""Figures of phenomenological RG: every scaling of a recording beside those of its nulls."""

from __future__ import annotations

import numpy as np

from lft.plotting.figure import COLORS, finite, new_figure, save

PANELS = (
    ("variance", "alpha", "variance of the summed activity", "units per cluster K"),
    ("free_energy", "beta", "$F = -\\ln P_0$", "units per cluster K"),
    ("eigenvalues", "mu", "eigenvalue in a cluster", "K / rank"),
    ("correlation_time", "z", "correlation time (bins)", "units per cluster K"),
)
SYMBOLS = {"alpha": "\\alpha", "beta": "\\beta", "mu": "\\mu", "z": "z"}


def plot_phenomenological(flow, path):
    """Six panels: the four scalings, the distribution of activity, non-Gaussianity; a seventh row for a bin sweep."""
    a = flow.analyses[0]
    n_rows = 3 if len(flow.analyses) > 1 else 2
    figure, axes = new_figure(n_rows, 3, width=4.2, height=3.3)
    places = [axes[0, 0], axes[0, 1], axes[0, 2], axes[1, 0]]
    for ax, panel in zip(places, PANELS, strict=True):
        _scaling(ax, a, *panel)
    _distribution(axes[1, 1], a)
    _gaussianity(axes[1, 2], a)
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    if n_rows == 3:
        for ax, name in zip(axes[2], ("alpha", "beta", "z"), strict=True):
            _sweep(ax, flow.analyses, name)
    save(figure, path)


def _color(k):
    return COLORS[1 + k % (len(COLORS) - 1)]


def _scaling(ax, a, name, exponent, ylabel, xlabel):
    ax.set(yscale="log", xlabel=xlabel, ylabel=ylabel)
    ax.set_xscale("log", base=2)
    for k, (null, curves) in enumerate(a.null_curves.items()):
        if name in curves and name in a.scaling.curves:
            mean, spread = curves[name]
            x, y, s = finite(a.scaling.curves[name].scale, mean, np.nan_to_num(spread))
            ax.errorbar(x, y, s, fmt="-", lw=1.2, color=_color(k), label=null)
    curve = a.scaling.curves.get(name)
    if curve is None:
        ax.text(0.5, 0.5, "not defined", transform=ax.transAxes, ha="center")
        return
    x, y, e = finite(curve.scale, curve.value, curve.error)
    keep = y > 0
    ax.errorbar(x[keep], y[keep], e[keep], fmt="o", ms=4, color=COLORS[0], label="recording")
    law = a.laws.get(exponent)
    if law is not None and np.isfinite(law.value):
        from lft.analysis.estimate import format_with_error
        from lft.rg.phenomenological.nulls import used_levels

        used = used_levels(curve, law, exponent)
        xs, ys = np.log(curve.scale[used]), np.log(curve.value[used])
        line = np.exp(ys.mean() + law.value * (xs - xs.mean()))
        ax.plot(curve.scale[used], line, "--", color="0.2", lw=1.2)
        verdict = " (no power law)" if law.is_rejected else ""
        text = f"${SYMBOLS[exponent]}$ = {format_with_error(law.value, law.error)}{verdict}"
        ax.set_title(text, fontsize=10)


def _distribution(ax, a):
    counts = a.scaling.counts
    shown = [k for k in range(len(counts)) if len(counts[k]) > 3][-4:]
    for n, k in enumerate(shown):
        value, number = np.array(sorted(counts[k].items()), float).T
        mean = (value * number).sum() / number.sum()
        density = number / number.sum() * mean
        ax.plot(value / mean, density, "o-", ms=2.5, lw=0.8, color=COLORS[n], label=f"K = {a.scaling.scale[k]}")
    ax.set(yscale="log", xlabel="activity / mean of the nonzero", ylabel="probability density, nonzero")
    if shown:
        ax.legend(frameon=False, fontsize=8)


def _gaussianity(ax, a):
    """Excess kurtosis against the units in a cluster, and against the modes cut off."""
    curve = a.scaling.curves["kurtosis"]
    ax.set_xscale("log", base=2)
    ax.set(xlabel="K (full); N / modes kept (dashed)", ylabel="excess kurtosis")
    lines = [(curve.scale, curve.value, curve.error, COLORS[0], "kurtosis")]
    lines += [(curve.scale, *c["kurtosis"], _color(n), "kurtosis") for n, c in enumerate(a.null_curves.values())]
    for x, y, e, color, _ in lines:
        x, y, e = finite(x, y, np.nan_to_num(e))
        ax.errorbar(x, y, e, fmt="-", marker="o" if color == COLORS[0] else None, ms=4, lw=1.2, color=color)
    if a.momentum is not None:
        k = a.momentum.kurtosis
        for n, (y, e) in enumerate([(k.value, k.error), *(c["momentum"] for c in a.null_curves.values())]):
            x = 1 / k.scale[: len(y)]
            color = COLORS[0] if n == 0 else _color(n - 1)
            ax.errorbar(x, y, np.nan_to_num(e), fmt="--", marker="s" if n == 0 else None, ms=3, lw=1, color=color)
    ax.set_yscale("symlog", linthresh=1)
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)


def _sweep(ax, analyses, name):
    """An exponent and those of its nulls against the bin width."""
    analyses = sorted(analyses, key=lambda a: a.bin_s)
    width = np.array([a.bin_s * 1e3 for a in analyses])
    for k, null in enumerate(analyses[0].comparisons):
        pairs = np.array([(a.comparisons[null][name].null, a.comparisons[null][name].spread) for a in analyses])
        x, y, e = finite(width, *pairs.T)
        ax.errorbar(x, y, e, fmt="-", lw=1.2, color=_color(k))
    pairs = np.array([(a.laws[name].value, a.laws[name].error) for a in analyses])
    rejected = np.array([a.laws[name].is_rejected for a in analyses])
    for mask, fill in ((~rejected, COLORS[0]), (rejected, "white")):
        x, y, e = finite(width[mask], *pairs[mask].T)
        ax.errorbar(x, y, e, fmt="o", ms=5, color=COLORS[0], mfc=fill)
    ax.set(xscale="log", xlabel="bin (ms); open: power law rejected", ylabel=f"${SYMBOLS[name]}$")
    ax.set_xticks(width, [f"{w:g}" for w in width])
    ax.set_xticks([], minor=True)
