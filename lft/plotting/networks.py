"""Figures of finite networks beside their mean-field theory."""

from __future__ import annotations

from lft.plotting.figure import COLORS, new_figure, plain, save


def plot_network_comparison(comparison, path, title=""):
    """Autocovariances, and every number of the table as network over theory.

    Parameters
    ----------
    comparison : lft.meanfield.compare.NetworkComparison
    path : path
        PNG, SVG or PDF.
    title : str, optional
    """
    figure, axes = new_figure(1, 2, width=4.6)
    _curves(axes[0, 0], comparison)
    _ratios(axes[0, 1], comparison)
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


def _ratios(ax, comparison):
    """Network over theory, one line per row of the table."""
    rows = [r for r in comparison.rows if r.theory]
    for k, r in enumerate(rows):
        error = r.network_error / abs(r.theory)
        ax.errorbar(r.network / r.theory, -k, xerr=error if error == error else None, fmt="o", ms=3.5,
                    color=COLORS[0] if not abs(r.z) > 4.5 else COLORS[1])
    ax.axvline(1, color="0.7", lw=0.8, zorder=0)
    ax.set(xlabel="network / theory")
    ax.set_yticks([-k for k in range(len(rows))], [plain(f"{r.name} {r.where}") for r in rows], fontsize=6)
