"""Figures of fits of arbitrary units: matrices of couplings, fields, what depends on lag or count, and inputs."""

from __future__ import annotations

import numpy as np

from lft.plotting.figure import COLORS, new_figure, save

MATRICES = {"J": "pairs, $J_{ij}$", "A": "pairs, $A_{ij}$ (negative: excitatory)"}
FIELDS = {"h": "field $h_i$", "I": "$I_i$ (negative: excitatory)"}
PRECISE = 2.0
"""Errors by which a coupling differs from 0 to be drawn in full."""


def is_of_units(arrays):
    """Whether these are arrays of a fit whose couplings are matrices of units."""
    return any(np.ndim(arrays.get(name)) >= 2 for name in ("J", "A", "J_lag"))


def plot_units(arrays, title, path):
    """Everything that a fit of units found, panel by panel.

    Parameters
    ----------
    arrays : dict
        As in FIT.h5: ``J`` or ``A``, ``J_lag`` (row = target), ``h`` or ``I``, ``B`` with ``lags``, ``V``,
        ``input_weights``, and ``NAME_error`` of each.
    title : str
    path : path
    """
    panels = []
    name = next((n for n in MATRICES if np.ndim(arrays.get(n)) == 2), None)
    if name is not None:
        panels.append((_matrix, (arrays[name], arrays[f"{name}_error"], MATRICES[name], "unit", "unit")))
    if "J_lag" in arrays:
        panels.append((_matrix, (*_strongest(arrays), "$J_{ij}(k)$ at its strongest lag", "source", "target")))
    field = next((n for n in FIELDS if np.ndim(arrays.get(n)) == 1), None)
    if field is not None:
        panels.append((_curve, (np.arange(len(arrays[field])), arrays[field], arrays[f"{field}_error"], "unit",
                                FIELDS[field], "o")))  # fmt: skip
    if len(arrays.get("B", ())):
        panels.append((_curve, (arrays["lags"], arrays["B"], arrays["B_error"], "lag (bins)", "memory $B(k)$", "o-")))
    if len(arrays.get("J_lag", ())) > 1:
        panels.append((_by_lag, (arrays["J_lag"],)))
    if "V" in arrays:
        K = np.arange(len(arrays["V"]))
        panels.append((_curve, (K, arrays["V"], arrays["V_error"], "spikes in the bin $K$", "potential $V(K)$", "o-")))
    if np.size(arrays.get("input_weights", ())):
        u, error = arrays["input_weights"], arrays["input_error"]
        panels.append((_matrix, (u, error, "weights of inputs $u_{iq}$", "input", "unit")))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(rows, columns, width=4.4, height=3.8)
    for ax, (draw, arguments) in zip(axes.ravel(), panels, strict=False):
        draw(figure, ax, *arguments)
        for axis in (ax.xaxis, ax.yaxis) if draw is _matrix else (ax.xaxis,):
            axis.get_major_locator().set_params(integer=True)  # units, lags, counts
    for ax in axes.ravel()[len(panels) :]:
        ax.set_visible(False)
    figure.suptitle(title)
    save(figure, path)


def _strongest(arrays):
    """(coupling, error) of each pair at the lag where it is farthest from 0, in errors where there are any."""
    J, error = np.asarray(arrays["J_lag"], float), np.asarray(arrays["J_lag_error"], float)
    J = np.where(np.isfinite(J), J, np.nan)
    size = np.where(np.isfinite(J), np.abs(J), -1.0) / np.where(error > 0, error, 1.0)
    at = np.argmax(size, axis=0)[None]
    return np.take_along_axis(J, at, 0)[0], np.take_along_axis(error, at, 0)[0]


def _matrix(figure, ax, value, error, label, x, y):
    """A matrix in color; entries within two errors of 0, or without an error, are pale."""
    value = np.array(value, float)
    if x == y:
        np.fill_diagonal(value, np.nan)
    with np.errstate(invalid="ignore"):
        is_clear = np.abs(value) > PRECISE * np.asarray(error, float)
    top = float(np.nanmax(np.abs(value), initial=0.0)) or 1.0
    image = ax.imshow(
        value, cmap="RdBu_r", vmin=-top, vmax=top, alpha=np.where(is_clear, 1.0, 0.35), interpolation="none",
        aspect="equal" if value.shape[0] == value.shape[1] else "auto",
    )  # fmt: skip
    ax.set(xlabel=x, ylabel=y, title=f"{label}\n(pale: within {PRECISE:g} errors of 0)")
    ax.title.set_fontsize(9)
    figure.colorbar(image, ax=ax, shrink=0.85)


def _curve(figure, ax, x, value, error, xlabel, ylabel, style):
    """Values with errors; those without a finite maximum are open."""
    value, error = np.asarray(value, float), np.asarray(error, float)
    known = np.isfinite(error)
    ax.errorbar(np.asarray(x)[known], value[known], error[known], fmt=style, ms=3.5, lw=1, color=COLORS[0])
    ax.plot(np.asarray(x)[~known], value[~known], "o", ms=4, mfc="none", color=COLORS[1])
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if not known.all():
        ax.set_title("open: no error", fontsize=9)


def _by_lag(figure, ax, J):
    """Root mean square over the pairs, and mean over the units, by lag."""
    J = np.where(np.isfinite(J), J, np.nan)
    lags, own = np.arange(1, len(J) + 1), np.diagonal(J, axis1=1, axis2=2)
    others = np.where(np.eye(J.shape[1], dtype=bool), np.nan, J)
    with np.errstate(invalid="ignore"):
        rms = np.sqrt(np.nanmean(others**2, axis=(1, 2)))
        ax.plot(lags, rms, "o-", ms=3.5, lw=1, color=COLORS[0], label="pairs, rms")
        ax.plot(lags, np.nanmean(own, axis=1), "s-", ms=3.5, lw=1, color=COLORS[1], label="own history, mean")
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.legend(frameon=False)
    ax.set(xlabel="lag (bins)", ylabel="$J_{ij}(k)$")
