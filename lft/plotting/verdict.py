"""Figures of the verdict on a fit: recording beside simulation, ranking, specific heat, bin widths."""

from __future__ import annotations

import math

import numpy as np

from lft.plotting.figure import COLORS, finite, new_figure, save

RECORDED, SIMULATED = COLORS[0], COLORS[1]
LOGARITHMIC = ("count", "silences", "avalanche_size", "avalanche_duration", "intervals", "spectrum")
UNIT = {
    "count": "probability",
    "crosscorrelogram": "covariance",
    "autocorrelation": "covariance",
    "spectrum": "power per unit and bin",
}
MAX_SHOWN = 3000


def plot_checks(checks, path, model=""):
    """All statistics of a fit, recording beside simulation, with one standard error each.

    Curves against K, lag, length or frequency; units, pairs and triples as simulation against recording.
    """
    shown = [c for c in checks.checks if c.key != "slow"]
    n_columns = 5
    n_rows = math.ceil((len(shown) + 1) / n_columns)
    figure, axes = new_figure(n_rows, n_columns, width=3.6, height=2.9)
    for ax, check in zip(axes.ravel(), shown, strict=False):
        _curve(ax, check, checks.bin_s) if check.x is not None else _scatter(ax, check)
        color = COLORS[1] if check.key in checks.failed else "black"
        mark = " (fitted)" if check.fitted else ""
        ax.set_title(f"{check.label}{mark}\n$\\chi^2$ = {check.chi2:.3g}, p = {check.p:.2g}", fontsize=9, color=color)
    for ax in axes.ravel()[len(shown) :]:
        ax.set_axis_off()
    _legend(axes.ravel()[len(shown)], checks, model)
    save(figure, path)


def _curve(ax, check, bin_s):
    x = np.asarray(check.x, dtype=float)
    logarithmic = check.key in LOGARITHMIC
    label = check.x_label
    if bin_s is not None and label.startswith("frequency"):
        x, label = x / bin_s, "frequency (Hz)"
    elif bin_s is not None and label.endswith("(bins)"):
        x, label = x * bin_s * 1e3, label.replace("(bins)", "(ms)")
    step = 1.0 if logarithmic else 0.15 * np.diff(x).min(initial=1.0)
    for side, (color, name) in enumerate(((RECORDED, "recording"), (SIMULATED, "simulation"))):
        value, error = check.values[side], check.errors[side]
        if check.width is not None:
            value, error = value / check.width, error / check.width
        place = x * (1 + 0.02 * side) if logarithmic and check.key != "count" else x + step * 0.15 * side
        show = value > 0 if logarithmic else np.isfinite(value)
        low = np.minimum(error, 0.95 * np.abs(value)) if logarithmic else error
        errors = np.array([low, error])[:, show]
        ax.errorbar(place[show], value[show], errors, fmt="o-", ms=3, lw=1, color=color, label=name)
    if not logarithmic:
        ax.axhline(0, color="0.7", lw=0.8)
    scales = {"yscale": "log"} if logarithmic else {}
    if logarithmic and check.key != "count" and x.max() > 10 * x.min():
        scales["xscale"] = "log"
        ax.tick_params(axis="x", which="minor", labelbottom=False)
    ax.set(xlabel=label, ylabel=UNIT.get(check.key, "probability per integer"), **scales)


def _scatter(ax, check):
    recorded, simulated, e_recorded, e_simulated = finite(*check.values, *check.errors)
    keep = slice(None, None, max(1, len(recorded) // MAX_SHOWN))
    both = np.concatenate([recorded, simulated])
    low, high = both.min(initial=0), both.max(initial=0)
    margin = 0.05 * (high - low) or 1.0
    ax.plot([low - margin, high + margin], [low - margin, high + margin], color="0.6", lw=1)
    ax.errorbar(
        recorded[keep], simulated[keep], e_simulated[keep], e_recorded[keep], fmt=".", ms=3, lw=0.5, ecolor="0.8",
        color=COLORS[0], alpha=0.6, rasterized=len(recorded) > 500,
    )  # fmt: skip
    ax.set(xlabel="recording, per bin", ylabel="simulation, per bin")
    ax.ticklabel_format(style="sci", axis="both", scilimits=(-2, 2))


def _legend(ax, checks, model):
    ax.errorbar([], [], [], fmt="o-", ms=3, lw=1, color=RECORDED, label="recording")
    ax.errorbar([], [], [], fmt="o-", ms=3, lw=1, color=SIMULATED, label=f"simulation at the fit {model}".rstrip())
    ax.plot([], [], color="0.6", lw=1, label="equality")
    ax.legend(frameon=False, loc="upper left", fontsize=9)
    recorded, simulated = checks.n_stretches
    slow = checks["slow"]
    text = (
        f"{recorded} recorded, {simulated} simulated\nstretches of {checks.stretch_bins} bins; bars: 1 standard error\n"
        f"red title: fails at level 0.01\nrate between stretches, std per bin:\n"
        f"{slow.recording[0]:.3g} +- {slow.recording[1]:.1g} (rec), {slow.simulation[0]:.3g} +- "
        f"{slow.simulation[1]:.1g} (sim), p = {slow.p:.2g}"
    )
    ax.text(0.02, 0.5, text, transform=ax.transAxes, fontsize=8, va="top")


def plot_ranking(ranking, path, title="", family=""):
    """Held-out score above independent units of every model, bits per spike; the selected one filled."""
    figure, axes = new_figure(1, 1, width=5.2, height=0.45 * len(ranking.entries) + 1.6)
    ax = axes[0, 0]
    for row, e in enumerate(reversed(ranking.entries)):
        style = {"mfc": COLORS[0] if e.selected else "white", "color": COLORS[0]}
        ax.errorbar(e.bits_per_spike[0], row, xerr=e.bits_per_spike[1], fmt="o", ms=7, **style)
    names = [f"{e.name} ({e.n_parameters})" for e in reversed(ranking.entries)]
    ax.set_yticks(range(len(names)), names)
    ax.axvline(0, color="0.7", lw=0.8)
    ax.margins(y=0.15)
    head = f"{title}\n" if title else ""
    ax.set(xlabel="held-out score above\nindependent units (bits/spike)")
    ax.set_title(f"{head}filled: selected; in brackets: parameters", fontsize=9)
    save(figure, path)


def plot_heat(curve, control, path, title=""):
    """Specific heat against inverse temperature beside the control; beta = 1 is the fit."""
    figure, axes = new_figure(1, 1, width=5, height=3.6)
    ax = axes[0, 0]
    for c, color, name in ((curve, COLORS[0], "fit"), (control, COLORS[2], "control: units shifted circularly")):
        if c is not None:
            ax.errorbar(c.beta, c.value, c.error, fmt="o-", ms=4, color=color, label=name)
    ax.axvline(1, color="0.6", lw=1, ls="--")
    ax.set(xlabel=r"inverse temperature $\beta$ (1 = fit)", ylabel=r"$C(\beta)$ per unit and bin", title=title)
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.3 * (high - low), high)  # room for the legend below the curves
    ax.legend(frameon=False, loc="lower center")
    save(figure, path)


def plot_scan(scan, path):
    """Couplings, score and clipping against the width of a bin."""
    figure, axes = new_figure(1, 3, width=3.6)
    x = [1e3 * p.bin_s for p in scan.points]
    axes[0, 0].plot(x, [p.rms for p in scan.points], "o-", color=COLORS[0])
    axes[0, 0].set(ylabel="rms coupling (dimensionless)")
    value, error = np.array([p.gain for p in scan.points]).T
    axes[0, 1].errorbar(x, value, error, fmt="o-", color=COLORS[0])
    axes[0, 1].set(ylabel="held-out gain (bits/spike)")
    axes[0, 2].plot(x, [100 * p.clipped for p in scan.points], "o-", color=COLORS[1], label="clipped spikes")
    correlation = [100 * p.correlation for p in scan.points]
    axes[0, 2].plot(x, correlation, "s-", color=COLORS[2], label="correlation of couplings\nwith the width before")
    axes[0, 2].set(ylabel="%")
    axes[0, 2].legend(frameon=False, fontsize=8)
    for ax in axes.ravel():
        ax.set(xlabel="bin (ms)", xscale="log")
    save(figure, path)
