"""Figures of mean-field solutions."""

from __future__ import annotations

import numpy as np

from lft.plotting.figure import COLORS, new_figure, plain, save


def plot_solution(solution, path):
    """Stationary: autocovariances and how the iteration settled; two-time: means, variances and a covariance."""
    figure = _stationary(solution) if solution.mode == "stationary" else _two_time(solution)
    save(figure, path)


def _stationary(solution):
    figure, axes = new_figure(1, 2, width=4.8)
    ax, is_spiking = axes[0, 0], False
    for k, (name, result) in enumerate(solution.populations.items()):
        value, error = result["autocovariance"]
        is_spiking |= "output_variance" not in result
        start = 1 if "output_variance" not in result else 0  # the delta function of spikes would hide the rest
        color = COLORS[k % len(COLORS)]
        ax.plot(solution.axis[start:], value[start:], color=color, lw=1.4, label=plain(name))
        ax.fill_between(solution.axis[start:], (value - error)[start:], (value + error)[start:], color=color,
                        alpha=0.3, lw=0)
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)
    ax.set(xlabel="lag (s)" if is_spiking else "lag (unit of the model)",
           ylabel="autocovariance (Hz$^2$)" if is_spiking else "autocovariance of the output")
    ax.set_xlim(0, _until(solution))
    ax.legend(frameon=False, fontsize=8)
    _history(axes[0, 1], solution)
    return figure


def _until(solution):
    """The lag after which less than 0.5 % of every autocovariance is left."""
    last = 0
    for result in solution.populations.values():
        value = np.abs(result["autocovariance"][0][1:])
        above = np.flatnonzero(value > 0.005 * max(value.max(), 1e-300))
        last = max(last, int(above[-1]) + 2 if len(above) else 2)
    return solution.axis[min(int(1.1 * last), len(solution.axis) - 1)]


def _history(ax, solution):
    history = np.array(solution.history)
    ax.semilogy(np.arange(1, len(history) + 1), np.maximum(history, 1e-16), "o-", ms=2.5, lw=0.9, color=COLORS[5])
    sampled = "sweep of the first replica" if solution.method == "sampling" else "iteration"
    ax.set(xlabel=sampled, ylabel="relative residual", title=solution.method)


def _two_time(solution):
    figure, axes = new_figure(1, 3, width=4.2)
    for k, (name, result) in enumerate(solution.populations.items()):
        color = COLORS[k % len(COLORS)]
        second = "state_variance" if "state_variance" in result else "input_mean"
        axes[0, 1].set_ylabel("variance of the state" if second == "state_variance" else "mean input")
        for ax, key in ((axes[0, 0], "mean"), (axes[0, 1], second)):
            value, error = result[key]
            times = solution.axis[: len(value)]
            ax.plot(times, value, color=color, lw=1.4, label=plain(name))
            ax.fill_between(times, value - error, value + error, color=color, alpha=0.3, lw=0)
    axes[0, 0].set(xlabel="time (unit of the model)", ylabel="mean output")
    axes[0, 1].set(xlabel="time (unit of the model)")
    axes[0, 0].legend(frameon=False, fontsize=8)
    name, result = next(iter(solution.populations.items()))
    value = result["covariance"][0].copy()
    if "output_variance" not in result:
        np.fill_diagonal(value, np.nan)  # the delta function of spikes
    limit = float(np.nanpercentile(np.abs(value), 99.8)) or 1.0
    end = solution.axis[-1]
    image = axes[0, 2].imshow(value, origin="lower", extent=(0, end, 0, end), cmap="RdBu_r", vmin=-limit, vmax=limit,
                              interpolation="none")
    axes[0, 2].set(xlabel="time", ylabel="time", title=f"covariance of the output, {plain(name)}")
    figure.colorbar(image, ax=axes[0, 2])
    return figure
