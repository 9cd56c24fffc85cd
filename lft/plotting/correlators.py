"""Figures of two-point functions, and of all that ``lft analyze`` finds in configurations and recordings."""

from __future__ import annotations

import math

import numpy as np

from lft.plotting.figure import COLORS, axis_label, finite, new_figure, save

COLUMNS = 3


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


def plot_correlators(result, path):
    """One panel for each thing found: correlators with their fits, effective masses, C(r, t), S(k), P(q), averages,
    eigenvalues, nulls of stationarity."""
    panels = []
    for axis, z in result.zero_momentum.items():
        panels.append(lambda ax, axis=axis, z=z: _decay(ax, axis, z, result.masses.get(axis)))
        if axis in result.effective_mass and np.isfinite(result.effective_mass[axis][1]).sum() > 1:
            panels.append(lambda ax, axis=axis: _masses(ax, axis, result.effective_mass[axis], result.masses.get(axis)))
    if result.two_point:
        panels.append(lambda ax: _two_point(ax, result.two_point))
    if result.space_time is not None:
        panels.append(lambda ax: _space_time(ax, result.space_time, result.velocity))
    dimensions = sum(len(r) > 1 for r in result.space_time.r) if result.space_time is not None else 1
    panels += [lambda ax, m=m, v=v: _ridges(ax, m, v, dimensions) for m, v in result.velocity.items()]
    if result.structure_factor is not None:
        panels.append(lambda ax: _structure(ax, result.structure_factor))
    if result.overlaps is not None:
        panels.append(lambda ax: _overlaps(ax, result.overlaps))
    if result.averages is not None:
        panels.append(lambda ax: _averages(ax, result.averages))
    if result.eigenvalues is not None:
        panels.append(lambda ax: _eigenvalues(ax, result.eigenvalues, result.edges))
    if result.ergodicity is not None:
        panels.append(lambda ax: _nulls(ax, result.ergodicity))
    n_rows = max(1, -(-len(panels) // COLUMNS))
    figure, axes = new_figure(n_rows, min(COLUMNS, max(1, len(panels))))
    for ax, panel in zip(axes.ravel(), panels, strict=False):
        panel(ax)
    for ax in axes.ravel()[len(panels) :]:
        ax.set_axis_off()
    save(figure, path)


def _label(axis, step):
    return axis_label("lag" if axis == "t" else f"distance along {axis}", step) if step else (
        "lag (bins)" if axis == "t" else f"distance along {axis} (sites)")


def _decay(ax, axis, z, scan):
    """Zero-momentum correlator on a logarithmic scale with the best fit."""
    step = z.step.value if z.step else 1.0
    shown = z.value > 0
    scale = z.value[0] if z.value[0] > 0 else 1.0
    low = np.minimum(z.error, 0.95 * np.abs(z.value))[shown] / scale
    ax.errorbar(z.r[shown] * step, z.value[shown] / scale, [low, z.error[shown] / scale], fmt="o", ms=3, lw=1,
                color=COLORS[0])
    if scan is not None:
        best = scan.best
        r = np.linspace(best.first, best.last, 200)
        value, error = scan.length
        unit = z.step.unit if z.step else ("bins" if axis == "t" else "sites")
        name = "\\tau" if axis == "t" else "\\xi"
        ax.plot(r * step, best(r) / scale, color=COLORS[1], lw=1.6,
                label=f"${name}$ = {value * step:.3g} ± {error * step:.1g} {unit}")
        ax.legend(frameon=False, fontsize=8)
        ax.set_title(f"fit {best.first}..{best.last}: $\\chi^2$/dof = {best.chi2:.2g}/{best.dof:.2g}, p = {best.p:.2g}",
                     fontsize=8)
    ax.set(yscale="log", xlabel=_label(axis, z.step), ylabel="$Z(r)/Z(0)$, zero momentum")


def _masses(ax, axis, found, scan):
    r, value, error = found
    keep = np.isfinite(value) & np.isfinite(error) & (error < 3 * np.nanmedian(np.abs(value)))
    ax.errorbar(r[keep], value[keep], error[keep], fmt="o", ms=3, lw=1, color=COLORS[0])
    if scan is not None:
        ax.axhspan(scan.mass - scan.error, scan.mass + scan.error, color=COLORS[1], alpha=0.35, lw=0)
        ax.axhline(scan.mass, color=COLORS[1], lw=1)
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)
    unit = "bin" if axis == "t" else "site"
    ax.set(xlabel=f"{'lag' if axis == 't' else f'distance along {axis}'} ({unit}s)",
           ylabel=f"effective mass (1/{unit})")


def _two_point(ax, correlators):
    for k, (axis, c) in enumerate(correlators.items()):
        value, error = c.normalized
        x, value, error = finite(c.r[1:], value[1:], error[1:])
        ax.errorbar(x, value, error, fmt="o-", ms=2.5, lw=0.9, color=COLORS[k], label=axis)
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)
    ax.legend(frameon=False, fontsize=8, title="along", title_fontsize=8)
    ax.set(xlabel="distance (sites) or lag (bins)", ylabel="$C(r)/C(0)$, one site")


def _space_time(ax, C, velocities):
    """C along the first axis against lag, each distance over its largest value, and the directed ridge."""
    at = [int(np.flatnonzero(r == 0)[0]) for r in C.r]
    cut = C.value[(slice(None), slice(None), *at[1:])]
    r = C.r[0]
    whole = np.concatenate([cut[:0:-1, ::-1] if len(r) % 2 else np.full_like(cut[:0:-1], np.nan), cut])
    lags = np.concatenate([-C.lags[:0:-1], C.lags])
    with np.errstate(invalid="ignore", divide="ignore"):
        shown = whole / np.nanmax(np.abs(whole), axis=0)
    space, time = (C.steps[0], C.steps[-1])
    scale = (space.value if space else 1.0), (time.value if time else 1.0)
    image = ax.pcolormesh(r * scale[0], lags * scale[1], shown, cmap="RdBu_r", vmin=-1, vmax=1, rasterized=True)
    ax.figure.colorbar(image, ax=ax, label="$C(r, t)/\\max_t |C(r, t)|$")
    v = velocities.get("directed")
    ridge = next((x for x in v.ridges if x.axis == C.axes[0]), None) if v is not None else None
    if ridge is not None:
        top = ridge.r[-1]
        ends = np.array([-top, top])
        ax.plot(ends * scale[0], ends * ridge.slowness * scale[1], color="k", lw=1, ls="--")
    ax.set(xlabel=_label(C.axes[0], space), ylabel=_label("t", time), ylim=(lags[0] * scale[1], lags[-1] * scale[1]))


def _ridges(ax, mode, v, dimensions):
    for k, ridge in enumerate(v.ridges):
        y, error = ridge.lag, np.nan_to_num(ridge.error)
        ax.errorbar(ridge.r, y, error, fmt="o", ms=3, lw=1, color=COLORS[k], label=ridge.axis)
        r = np.linspace(0, ridge.r[-1], 100)
        if mode == "spread":
            line = np.sqrt(ridge.offset**2 + (ridge.slowness * r) ** 2 / dimensions)
        else:
            line = ridge.offset + ridge.slowness * r
        ax.plot(r, line, color=COLORS[k], lw=1.2)
    speed = f"v = {v.speed:.3g} ± {v.speed_error:.1g} sites/bin" if math.isfinite(v.speed) else (
        f"not resolved: v > {v.at_least:.3g} sites/bin")
    if math.isfinite(v.speed) and v.physical:
        speed += f" = {v.physical[0]:.3g} {v.physical[2]}"
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    ax.set_title(f"{mode}: {speed}", fontsize=8)
    what = "width of $C(d, t)$ in time (bins)" if mode == "spread" else "lag of the peak (bins)"
    ax.set(xlabel="distance (sites)", ylabel=what)


def _structure(ax, S):
    for k, axis in enumerate(S.axes):
        at = [0] * len(S.axes)
        at[k] = slice(1, len(S.k[k]) // 2 + 1)
        wave, value, error = np.abs(S.k[k][at[k]]), S.value[tuple(at)], S.error[tuple(at)]
        ax.errorbar(wave, value, np.minimum(error, 0.95 * np.abs(value)), fmt="o-", ms=2.5, lw=0.9, color=COLORS[k],
                    label=axis)
    positive = (S.value > 0).all()
    ax.set(xscale="log", yscale="log" if positive else "linear", xlabel="k (radians per site)", ylabel="S(k)")
    ax.legend(frameon=False, fontsize=8, title="along", title_fontsize=8)


def _overlaps(ax, P):
    width = P.q[1] - P.q[0] if len(P.q) > 1 else 1.0
    ax.bar(P.q, P.density, width=width, color=COLORS[0], alpha=0.6, label="data", lw=0)
    ax.step(P.q, P.null_density, where="mid", color=COLORS[1], lw=1.2, label="units shuffled")
    ax.legend(frameon=False, fontsize=8)
    ax.set_title(f"variance {P.variance[0]:.3g}, null {P.null_variance.mean():.3g}, p = {P.p:.2g}", fontsize=8)
    ax.set(xlabel="overlap q of two samples", ylabel="P(q)")
    if P.density.max() > 0 and (P.density > 0).sum() > 2:
        ax.set_yscale("log")


def _averages(ax, a):
    level = np.linspace(0, 1, 101)
    ax.plot(level, a.row_spectrum(), color=COLORS[0], lw=1.4, label="rows (units)")
    ax.plot(level, a.column_spectrum(), color=COLORS[1], lw=1.4, label="columns (bins)")
    ax.axhline(a.offset, color="0.5", lw=0.8, ls=":", label="offset")
    ax.legend(frameon=False, fontsize=8)
    ax.set(xlabel="quantile", ylabel="average (fraction up)")


def _eigenvalues(ax, values, edges):
    rank = np.arange(1, len(values) + 1)
    ax.plot(rank, values[::-1], "o", ms=2.5, color=COLORS[0])
    ax.axhspan(*edges, color=COLORS[1], alpha=0.35, lw=0, label="independent units")
    ax.legend(frameon=False, fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="rank", ylabel="eigenvalue of the correlation matrix")
    positive = values[values > 1e-12]
    if len(positive):
        ax.set_ylim(max(positive.min(), 1e-4) * 0.8, values.max() * 1.3)


def _nulls(ax, e):
    for k, test in enumerate(e.tests):
        scale = test.null_mean if test.null_mean > 0 else 1.0
        ax.hist(test.null / scale, bins=30, color=COLORS[k], alpha=0.4, lw=0, density=True)
        ax.axvline(test.value / scale, color=COLORS[k], lw=1.6, label=f"{test.name}: p = {test.p:.2g}")
    ax.legend(frameon=False, fontsize=8)
    ax.set_title(f"{e.n_trials} trials or windows, cells of {e.cell_bins} bins", fontsize=8)
    ax.set(xlabel="statistic over the mean of its null", ylabel="density of the null")
