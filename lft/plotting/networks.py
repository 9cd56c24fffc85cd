"""Figures of finite networks beside their mean-field theory."""

from __future__ import annotations

from lft.plotting.figure import COLORS, height_of, new_figure, plain, ratios, save


def plot_network_comparison(comparison, path, title=""):
    """Autocovariances, and every number of the table as network over theory.

    Parameters
    ----------
    comparison : lft.meanfield.compare.NetworkComparison
    path : path
        PNG, SVG or PDF.
    title : str, optional
    """
    rows = [
        (f"{r.name} {r.where}", r.network / r.theory, r.network_error / abs(r.theory), COLORS[int(abs(r.z) > 4.5)])
        for r in comparison.rows if r.theory
    ]
    figure, axes = new_figure(1, 2, width=4.6, height=height_of(len(rows), 3.2))
    _curves(axes[0, 0], comparison)
    ratios(axes[0, 1], rows, "network / theory")
    if title:
        figure.suptitle(title, fontsize=10)
    save(figure, path)


def _curves(ax, comparison):
    """Autocovariances by lag: theory as lines, network as points with errors."""
    statistics, theory = comparison.statistics, comparison.theory
    measured = statistics["autocovariance"]
    every = max(1, len(statistics.lags) // 40)
    for a, name in enumerate(statistics.model.names):
        color = COLORS[a % len(COLORS)]
        spikes = getattr(statistics.model.populations[a].neuron, "is_point_process", False)
        shown = slice(1 if spikes else 0, None, every)
        ax.errorbar(statistics.lags[shown], measured.value[a, shown], measured.error[a, shown], fmt="o", ms=3,
                    color=color, label=plain(f"network, {name}"))
        if "autocovariance" in theory and "lags" in theory:
            inside = theory["lags"] <= statistics.lags[-1]
            ax.plot(theory["lags"][inside], theory["autocovariance"][0][a, inside], "-", lw=1.3, color=color,
                    label=plain(f"theory, {name}"))
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)
    ax.set(xlabel="time lag", ylabel="autocovariance of the output")
    ax.legend(frameon=False, fontsize=7)
