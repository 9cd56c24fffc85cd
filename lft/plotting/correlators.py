"""Figures of two-point functions."""

from __future__ import annotations

from lft.plotting.figure import COLORS, axis_label, finite, new_figure, save


def plot_comparison(pairs, path, title=""):
    """Normalized two-point functions of several sources beside each other.

    Parameters
    ----------
    pairs : dict
        ``{label: {axis: Correlator}}``; the first is the reference.
    """
    axes_names = list(next(iter(pairs.values())))
    figure, axes = new_figure(1, len(axes_names))
    for ax, axis in zip(axes[0], axes_names, strict=True):
        for k, (label, correlators) in enumerate(pairs.items()):
            if axis not in correlators:
                continue
            c = correlators[axis]
            value, error = c.normalized
            x, value, error = finite(c.distance[1:], value[1:], error[1:])
            style = {"fmt": "o", "ms": 3.5} if k == 0 else {"fmt": "-", "lw": 1.4}
            ax.errorbar(x, value, error, color=COLORS[k % len(COLORS)], label=label, **style)
        ax.axhline(0, color="0.7", lw=0.8, zorder=0)
        ax.set(xlabel=axis_label("time" if axis == "t" else f"distance along {axis}", c.step), ylabel="$C(r)/C(0)$")
    axes[0, 0].legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    save(figure, path)
