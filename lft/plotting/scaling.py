"""Figures of finite-size scaling: Binder cumulants and their crossings, power laws, collapse."""

from __future__ import annotations

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.plotting.figure import new_figure, save


def plot_scaling(result, path, found=None, points=None):
    """Binder cumulants beside the critical coupling, crossings, fits of slope and susceptibility, and the collapse.

    Parameters
    ----------
    result : lft.analysis.scaling.Scaling
    path : path
    found, points : lft.analysis.collapse.Collapse and Points, optional
    """
    n = 4 if found is None else 5
    figure, axes = new_figure(1, n, width=3.9, height=3.5)
    axes = axes[0]
    colors = dict(zip(result.sizes, _shades(len(result.sizes)), strict=True))
    _binder(axes[0], result, colors)
    _crossings(axes[1], result)
    name = result.coupling
    _power(axes[2], result.slope, result.slope_scan.chosen, result.omega, colors,
           f"dU/d{name}", f"$\\nu$ = {format_with_error(*result.nu)}")
    _power(axes[3], result.chi, result.chi_scan.chosen, result.omega, colors,
           "V $\\langle m^2\\rangle$", f"$\\eta$ = {format_with_error(*result.eta)}")
    if found is not None:
        _collapsed(axes[4], found, points, colors, name)
    save(figure, path)


def _shades(n):
    """From light to dark blue-green, one for each size."""
    from lft.plotting.figure import shade

    return [shade(x) for x in np.linspace(0.0, 1.0, n)]


def _binder(ax, result, colors):
    for L, (g, u, error) in result.curves.items():
        ax.fill_between(g, u - error, u + error, color=colors[L], alpha=0.25, lw=0)
        ax.plot(g, u, color=colors[L], lw=1.3, label=f"{L}")
    value, error = result.critical
    ax.axvspan(value - error, value + error, color="0.85", zorder=0)
    ax.set(xlabel=result.coupling, ylabel="Binder cumulant U")
    ax.ticklabel_format(useOffset=False)
    ax.locator_params(axis="x", nbins=4)
    ax.legend(frameon=False, fontsize=8, title="L", title_fontsize=8)


def _crossings(ax, result):
    rows = result.crossings.rows
    L = np.array([c.small for c in rows], float)
    ax.errorbar(L, [c.coupling for c in rows], [c.error for c in rows], fmt="o", ms=4, color="#1b6ca8", capsize=2)
    fit = result.critical_scan.chosen
    value, error = result.critical
    ax.axhspan(value - error, value + error, color="0.85", zorder=0)
    if "amplitude" in fit.names:
        x = np.geomspace(fit.L[0], 1.3 * L.max(), 100)
        power = 1 / result.nu[0] + result.omega
        ax.plot(x, fit["critical"][0] + fit["amplitude"][0] * x**-power, color="#1b6ca8", lw=1)
    ax.set(xscale="log", xlabel="L of the smaller lattice", ylabel=f"{result.coupling} at the crossing",
           title=f"{result.coupling}$_c$ = {format_with_error(value, error)}")
    ax.set_xticks(L, [f"{x:g}" for x in L])
    ax.minorticks_off()
    ax.ticklabel_format(axis="y", useOffset=False)


def _power(ax, numbers, fit, omega, colors, label, title):
    """Values over the leading power, so that corrections and errors can be seen."""
    p = fit["exponent"][0]
    for L, (value, error) in numbers.items():
        ax.errorbar(L, value / L**p, error / L**p, fmt="o", ms=4, color=colors[L], capsize=2,
                    mfc=colors[L] if L in fit.L else "white")
    x = np.geomspace(fit.L[0], max(numbers), 100)
    y = np.exp(fit["log_amplitude"][0]) * (1 + (fit["correction"][0] * x**-omega if omega is not None else 0 * x))
    ax.plot(x, y, color="0.3", lw=1, zorder=0)
    quality = f"$\\chi^2$/dof = {fit.chi_squared:.1f}/{fit.dof}"
    ax.set(xscale="log", xlabel="L", ylabel=f"{label} / L$^{{{p:.4g}}}$", title=f"{title},  {quality}")
    ax.set_xticks(list(numbers), [f"{L}" for L in numbers])
    ax.minorticks_off()


def _collapsed(ax, found, points, colors, coupling):
    x, y, error = found.scaled(points)
    for L in np.unique(points.L):
        mine = points.L == L
        ax.errorbar(x[mine], y[mine], error[mine], fmt="o", ms=3.5, color=colors[int(L)], capsize=1.5, label=f"{L:g}")
    grid = np.linspace(x.min(), x.max(), 200)
    ax.plot(grid, found.master(grid), color="0.3", lw=1, zorder=0)
    ax.set(xlabel=f"({coupling} - {coupling}$_c$) L$^{{1/\\nu}}$", ylabel="Binder cumulant U",
           title=f"$\\nu$ = {format_with_error(*found.nu)},  "
                 f"$\\chi^2$/dof = {found.chi_squared:.1f}/{found.dof}")
    ax.legend(frameon=False, fontsize=8, title="L", title_fontsize=8)
