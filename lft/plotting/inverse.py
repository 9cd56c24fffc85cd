"""Figure of an inverse map."""

from __future__ import annotations

import math

import numpy as np

from lft.plotting.figure import COLORS, new_figure, save


def plot_inverse(flow, path):
    """Observed couplings beside those of the matched lattice; fine couplings; experimental variables at both scales."""
    figure, axes = new_figure(1, 3, width=4.6, height=4.0)
    inverse = flow.inverse
    _observed(axes[0, 0], inverse)
    _fine(axes[0, 1], inverse)
    _variables(axes[0, 2], flow)
    save(figure, path)


def _observed(ax, inverse):
    """Couplings K on one axis; the field, an order of magnitude larger, in words."""
    target = inverse.target
    kept = [k for k, name in enumerate(target.names) if name != "h"]
    order = np.arange(len(kept))[::-1]
    errors = np.sqrt(target.covariance.diagonal())
    noise = np.sqrt(inverse.match.noise.diagonal())
    for values, bars, shift, marker, color, label in (
        (target.values, errors, 0.12, "o", COLORS[0], "fitted to the recording"),
        (inverse.predicted, noise, -0.12, "s", COLORS[1], "fine lattice, seen alike"),
    ):
        face = "white" if marker == "s" else color
        at, by = values[kept], bars[kept]
        ax.errorbar(at, order + shift, xerr=by, fmt=marker, ms=4, mfc=face, color=color, label=label)
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    ax.set_yticks(order, [target.names[k] for k in kept], fontsize=8)
    test = f"$\\chi^2$ = {inverse.chi2:.1f}, {inverse.dof} d.o.f." if inverse.dof else "no test: as many as unknowns"
    if "h" in target.names:
        k = target.names.index("h")
        test += f"; h {target.values[k]:.3f} fitted, {inverse.predicted[k]:.3f} seen"
    ax.set(xlabel="coupling at the electrode scale", ylim=(-0.6, 1.15 * len(order) + 1))
    ax.set_title(test, fontsize=9)
    ax.legend(frameon=False, fontsize=8, loc="upper left")


def _fine(ax, inverse):
    names = list(inverse.names)
    order = np.arange(len(names))[::-1]
    for y, (value, error) in zip(order, inverse.couplings.values(), strict=True):
        if math.isnan(value):
            ax.text(0.02, y, "not determined", fontsize=8, color="0.4", va="center",
                    transform=ax.get_yaxis_transform())  # fmt: skip
        else:
            ax.errorbar([value], [y], xerr=[error], fmt="o", ms=5, color=COLORS[2])
    for k, other in enumerate(inverse.alternatives):
        label = "other solutions (signs)" if k == 0 else None
        ax.plot([other["couplings"][n] for n in names], order - 0.2, "x", ms=5, color=COLORS[4], label=label)
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    ax.set_yticks(order, names, fontsize=8)
    lattice = inverse.volume.observation.fine_lattice(2)
    spacing = "" if lattice.spacing is None else ": " + ", ".join(dict.fromkeys(lattice.spacing))
    ax.set(xlabel="coupling of the fine lattice", ylim=(-0.6 - 0.35 * len(inverse.flat), len(order) + 0.2))
    ax.set_title(f"inverse map{spacing}", fontsize=9)
    for k, direction in enumerate(inverse.flat):
        ax.text(0.02, -0.6 - 0.3 * k, f"flat: {direction}", fontsize=6, transform=ax.get_yaxis_transform())
    if inverse.alternatives:
        ax.legend(frameon=False, fontsize=8, loc="upper left")


def _variables(ax, flow):
    ax.axis("off")
    names = [n for n in dict.fromkeys([*flow.fine, *flow.coarse]) if n != "density" or "rate_hz" not in flow.fine]
    ax.text(0.0, 1.0, "matched lattice", fontsize=9, weight="bold", transform=ax.transAxes, va="top")
    ax.text(0.52, 1.0, "fine", fontsize=9, weight="bold", transform=ax.transAxes, va="top")
    ax.text(0.78, 1.0, "electrodes", fontsize=9, weight="bold", transform=ax.transAxes, va="top")
    for k, name in enumerate(names):
        y = 0.93 - 0.065 * k
        ax.text(0.0, y, name.replace("_", " "), fontsize=7.5, transform=ax.transAxes, va="top")
        for x, side in ((0.52, flow.fine), (0.78, flow.coarse)):
            if name in side:
                text = str(side[name]).removesuffix(side[name].unit).strip()
                ax.text(x, y, text, fontsize=7.5, transform=ax.transAxes, va="top")
