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
    ax.set(ylabel="renormalized coupling", title=f"{flow.method}, {flow.blocking}")
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
        ax.set_xlabel("block size (sites)" + (" and spacing" if flow.levels[0].spacing else ""))
    save(figure, path)


def plot_exponents(result, path):
    """Exponents y of each sector against the number of operators, one curve per iteration.

    Inner bars: statistical errors; outer bars: with the systematic ones.
    """
    sectors = [s for s in ("y_t", "y_h") if any(e.sector == s for e in result.eigenvalues)]
    figure, axes = new_figure(1, len(sectors), width=5.4)
    for ax, sector in zip(axes[0], sectors, strict=True):
        entries = [e for e in result.eigenvalues if e.sector == sector and np.isfinite(e.value)]
        levels = sorted({e.level for e in entries})
        for k, level in enumerate(levels):
            mine = [e for e in entries if e.level == level]
            shift = 0.12 * (k - (len(levels) - 1) / 2)
            x = np.array([e.operators for e in mine]) + shift
            y = np.array([e.value for e in mine])
            color = COLORS[k % len(COLORS)]
            before, after = ("x".join(map(str, result.series.lattices[n].shape)) for n in (level - 1, level))
            ax.errorbar(x, y, np.nan_to_num([e.error for e in mine]), fmt="none", lw=0.8, color=color)
            ax.errorbar(x, y, np.nan_to_num([e.statistical for e in mine]), fmt="o", ms=4, lw=2, color=color,
                        label=f"$n={level}$: {before} to {after}")  # fmt: skip
        most = max(e.operators for e in entries)
        ax.set_xticks(range(1, most + 1))
        parity = "even" if sector == "y_t" else "odd"
        ax.set(xlabel=f"{parity} operators, {result.series.blocking} blocking", ylabel=f"$y_{sector[-1]}$")
        ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    save(figure, path)


def plot_matching(result, path):
    """Critical coupling of each operator by level, and the step of the flow."""
    figure, axes = new_figure(1, 2, width=4.8)
    name, K = next(iter(result.couplings.items()))
    names = list(dict.fromkeys(m.operator for m in result.matches))
    for k, operator in enumerate(names):
        mine = [m for m in result.matches if m.operator == operator]
        x = np.array([m.level for m in mine]) + 0.06 * (k - (len(names) - 1) / 2)
        for ax, value, error in (
            (axes[0, 0], [K * (1 + m.shift) for m in mine], [abs(K) * m.shift_error for m in mine]),
            (axes[0, 1], [K * m.step for m in mine], [abs(K) * m.step_error for m in mine]),
        ):
            a, b, c = finite(x, np.array(value), np.array(error))
            marker = "os^v"[k // len(COLORS) % 4]
            ax.errorbar(a, b, c, fmt=marker, ms=4, lw=1, color=COLORS[k % len(COLORS)], label=operator)
    value, statistical, systematic = result.critical[name]
    error = np.hypot(statistical, np.nan_to_num(systematic))
    axes[0, 0].axhspan(value - error, value + error, color="0.9", lw=0, zorder=0)
    axes[0, 0].axhline(value, color="0.6", lw=1, zorder=0)
    axes[0, 1].axhline(0, color="0.7", lw=0.8, zorder=0)
    levels = sorted(result.shifts)
    for ax, label in zip(axes[0], (f"critical {name}", f"step of {name} per blocking"), strict=True):
        shapes = ["x".join(map(str, result.shapes[n - 1])) for n in levels]
        ax.set_xticks(levels, [f"{n}\n{shape}" for n, shape in zip(levels, shapes, strict=True)])
        ax.set(xlabel="blockings of the larger lattice", ylabel=label)
    axes[0, 0].legend(frameon=False, fontsize=7, title="operator", title_fontsize=8)
    save(figure, path)


def plot_flow_field(flow, path, point=None, names=None):
    """Flow in the plane of two couplings: an arrow from each point of the grid towards its image.

    Parameters
    ----------
    flow : lft.rg.monte_carlo.fixed_points.FlowField
        Of two couplings or more; the first two are drawn.
    point : lft.rg.monte_carlo.fixed_points.FixedPoint, optional
        Marked with its errors; the lines through it are the eigenvectors of T.
    names : sequence of str, optional
        Labels; default those of the field.
    """
    names = names or flow.names
    figure, axes = new_figure(1, 1, width=5.6, height=4.6)
    ax = axes[0, 0]
    known = np.isfinite(flow.images[:, :2]).all(axis=1)
    start, step = flow.points[known, :2], (flow.images - flow.points)[known, :2]
    length = np.hypot(*step.T)
    extent = np.ptp(start, axis=0)
    pitch = 0.8 * np.sqrt(np.prod(extent) / max(len(start), 1))  # arrows about as long as the grid is wide
    unit = step / np.maximum(length, 1e-300)[:, None] * pitch
    arrows = ax.quiver(*start.T, *unit.T, length, angles="xy", scale_units="xy", scale=1, cmap="viridis", width=0.004)
    ax.plot(*start.T, ".", ms=3, color="0.6", zorder=0)
    ax.plot(*flow.points[~known, :2].T, "x", ms=5, color=COLORS[1])
    figure.colorbar(arrows, ax=ax, label="distance of one blocking")
    if point is not None:
        center, errors = point.couplings[:2], point.errors[:2]
        values, vectors = np.linalg.eig(point.derivative[:2, :2])
        for value, vector in zip(values, vectors.T, strict=True):
            if abs(value.imag) > 0:
                continue
            line = center + np.outer([-1, 1], vector.real) * 0.25 * extent.max()
            style = "-" if abs(value) > 1 else "--"
            label = f"$\\lambda = {value.real:.2f}$"
            ax.plot(*line.T, style, lw=1, color=COLORS[1], label=label)
        ax.errorbar(*center[:, None], errors[1], errors[0], fmt="o", ms=5, color=COLORS[1], label="fixed point")
        ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    margin = 0.12 * extent
    low, high = start.min(axis=0) - margin, start.max(axis=0) + margin
    ax.set(xlabel=names[0], ylabel=names[1], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    save(figure, path)
