"""Figures drawn again from the files that commands have written."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from lft.plotting.figure import COLORS, finite, new_figure, save
from lft.plotting.fits import plot_fit
from lft.plotting.flows import plot_exponents, plot_flow, plot_matching
from lft.plotting.meanfields import plot_solution


def draw_stored(path, data, schema, target):
    """Draw what the file at ``path`` holds, ``data`` its JSON form, to ``target``; nothing where there is no figure."""
    if schema == "lft-fit":
        plot_fit(_fit(path), target)
    elif schema == "lft-meanfield":
        plot_solution(_solution(path, data), target)
    elif schema == "lft-prg":
        _phenomenological(path, data, target)
    elif schema == "lft-flow":
        {"mcrg": _exponents, "matching": _matching}.get(data.get("method"), _flow)(data, target)


def _number(value):
    return np.nan if value is None else value


def _pair(entry):
    return _number(entry["value"]), _number(entry["error"])


def _fit(path):
    from lft.inference.result import load_fit

    stored = load_fit(path)
    has_lattice = "axes" in stored.attributes
    return SimpleNamespace(
        model=stored.model, named=lambda: stored.couplings, h=stored.arrays.get("h"), n_units=stored.json["n_units"],
        n_bins=stored.json["n_bins"], arrays=stored.arrays, lattice=stored.lattice if has_lattice else None,
    )  # fmt: skip


def _levels(data):
    return [
        SimpleNamespace(
            scale=level["scale"],
            shape=level.get("shape"),
            spacing=level.get("spacing"),
            couplings={n: _pair(c) for n, c in level["couplings"].items()},
            observables={n: _pair(c) for n, c in level.get("observables", {}).items()},
        )
        for level in data["levels"]
    ]


def _flow(data, target):
    levels = _levels(data)
    if all("density" in level.observables for level in levels):
        plot_flow(SimpleNamespace(levels=levels, method=data["method"], blocking=data["blocking"]), target)
        return
    figure, axes = new_figure(1, len(levels), width=4.4)
    for ax, level in zip(axes[0], levels, strict=True):
        names = list(level.couplings)
        value, error = np.array([level.couplings[n] for n in names]).T
        order, value, error = finite(np.arange(len(names))[::-1], value, np.nan_to_num(error))
        ax.errorbar(value, order, xerr=error, fmt="o", ms=4, color=COLORS[0])
        ax.axvline(0, color="0.7", lw=0.8, zorder=0)
        ax.set_yticks(np.arange(len(names))[::-1], names, fontsize=8)
        ax.set(xlabel="coupling (dimensionless)", title=f"blocks of {'x'.join(map(str, level.scale))}")
    save(figure, target)


def _exponents(data, target):
    entries = [
        SimpleNamespace(sector=sector, **{k: _number(v) for k, v in e.items()})
        for sector, found in data["eigenvalues"].items()
        for e in found
    ]
    lattices = [SimpleNamespace(shape=level["shape"]) for level in data["levels"]]
    series = SimpleNamespace(lattices=lattices, blocking=data["blocking"])
    plot_exponents(SimpleNamespace(eigenvalues=entries, series=series), target)


def _matching(data, target):
    matches = []
    for m in data["matching"]:
        (shift, shift_error), (step, step_error) = _pair(m["shift"]), _pair(m["step"])
        matches.append(SimpleNamespace(level=m["level"], operator=m["operator"], shift=shift, shift_error=shift_error,
                                       step=step, step_error=step_error))  # fmt: skip
    critical = {n: (c["value"], c["statistical"], _number(c["systematic"])) for n, c in data["critical"].items()}
    shapes = [level["shape"] for level in data["levels"]]
    shifts = {n: None for n in range(1, len(shapes) + 1)}
    plot_matching(SimpleNamespace(couplings=data["couplings"], matches=matches, critical=critical, shifts=shifts,
                                  shapes=shapes), target)  # fmt: skip


def _phenomenological(path, data, target):
    """The four scalings of the first bin width beside their nulls."""
    import h5py

    from lft.plotting.phenomenological import PANELS, SYMBOLS

    figure, axes = new_figure(1, len(PANELS), width=3.6)
    with h5py.File(path, "r") as file:
        group = file["bin_0"]
        for ax, (name, exponent, ylabel, xlabel) in zip(axes[0], PANELS, strict=True):
            ax.set(yscale="log", xlabel=xlabel, ylabel=ylabel)
            ax.set_xscale("log", base=2)
            value, error = _pair(data["exponents"][exponent])
            ax.set_title(f"${SYMBOLS[exponent]}$ = {value:.3g} $\\pm$ {error:.2g}", fontsize=10)
            if f"curves/{name}" not in group:
                continue
            scale = group[f"curves/{name}"][:, 0]
            for k, null in enumerate(group.get("nulls", ())):
                if name in group[f"nulls/{null}"]:
                    x, y, e = finite(scale, *np.nan_to_num(group[f"nulls/{null}/{name}"][()], posinf=np.nan).T)
                    ax.errorbar(x, y, e, lw=1.2, color=COLORS[1 + k % (len(COLORS) - 1)], label=null)
            x, y, e = finite(*group[f"curves/{name}"][()].T)
            ax.errorbar(x[y > 0], y[y > 0], e[y > 0], fmt="o", ms=4, color=COLORS[0], label="recording")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(len(labels), 1), frameon=False, fontsize=9)
    save(figure, target)


def _solution(path, data):
    import h5py

    with h5py.File(path, "r") as file:
        name = "lags" if data["mode"] == "stationary" else "times"
        populations = {
            p: {k: (group[k][()], group[f"{k}_error"][()]) for k in group if f"{k}_error" in group}
            for p, group in file["populations"].items()
        }
        return SimpleNamespace(mode=data["mode"], method=data["method"], axis=file[f"axis/{name}"][()],
                               history=file["history"][()], populations=populations)  # fmt: skip
