"""What all figures share: the one module that imports matplotlib.

Figures are made with the object interface (no pyplot, no global state, no display) and written as PNG, SVG or PDF by
the ending of the file name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lft.archive import aside
from lft.errors import InputError

COLORS = ("#1b6ca8", "#d1495b", "#2e7d32", "#8e6c8a", "#e08e0b", "#3c3c3c")
SPAN = (-1.0, 3.0)
"""Ratios that are drawn in place."""
ENDINGS = (".png", ".svg", ".pdf")


def new_figure(n_rows=1, n_columns=1, width=4.2, height=3.2):
    """A figure and its axes, an array of n_rows by n_columns; width and height in inches per axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * n_columns, height * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax in axes.ravel():
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def check_figure_path(path):
    """Raise InputError unless the ending names a format that can be written."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: valid endings of a figure are {', '.join(ENDINGS)}")


def save(figure, path):
    """Write a figure, as a whole or not at all."""
    check_figure_path(path)
    with aside(path, "writing the figure") as part:
        figure.savefig(part, dpi=150, format=Path(path).suffix[1:].lower())


def axis_label(name, quantity):
    """Label of an axis with its unit; in sites where there is none."""
    return f"{name} ({quantity.unit})" if quantity is not None else f"{name} (sites)"


def plain(text):
    """A name as it is written, whatever it holds: ``$`` begins no formula."""
    return text.replace("$", r"\$")


def height_of(n_rows, least):
    """Inches of axes that hold so many lines of :func:`ratios`."""
    return max(least, 0.6 + 0.105 * n_rows)


def ratios(ax, rows, xlabel):
    """Ratios beside 1, one line for each (name, ratio, error, color); what lies beyond SPAN is a triangle at its edge.

    Rows of a large error or a small denominator would else squeeze all others.

    >>> _, axes = new_figure()
    >>> ratios(axes[0, 0], [("a", 1.1, 0.1, COLORS[0]), ("b", 40.0, 2.0, COLORS[0])], "B / A")
    >>> bool(axes[0, 0].get_xlim()[1] < 3.1), [t.get_text() for t in axes[0, 0].texts]
    (True, ['40 '])
    """
    for k, (_, ratio, error, color) in enumerate(rows):
        place = min(max(ratio, SPAN[0]), SPAN[1])
        mark = "o" if place == ratio else "<" if ratio < place else ">"
        ax.errorbar(place, -k, xerr=error if mark == "o" and np.isfinite(error) else None, fmt=mark, ms=3.5,
                    color=color)
        if mark != "o":
            ax.text(place, -k, f"{ratio:.3g} " if mark == ">" else f" {ratio:.3g}", fontsize=6, va="center",
                    ha="right" if mark == ">" else "left")
    seen = [min(max(r[1] + s * (r[2] if np.isfinite(r[2]) else 0.0), SPAN[0]), SPAN[1]) for r in rows for s in (-1, 1)]
    ax.set_xlim(min([0.9, *seen]) - 0.05, max([1.1, *seen]) + 0.05)
    ax.axvline(1, color="0.7", lw=0.8, zorder=0)
    ax.set(xlabel=xlabel, ylim=(-len(rows), 1))
    ax.set_yticks([-k for k in range(len(rows))], [plain(name) for name, *_ in rows], fontsize=6)


def finite(*arrays):
    """The arrays without the places where one of them is not finite."""
    keep = np.all([np.isfinite(a) for a in arrays], axis=0)
    return [np.asarray(a)[keep] for a in arrays]


def shade(x):
    """A color between light (0) and dark (1), for curves that form a sequence."""
    from matplotlib import colormaps

    return colormaps["viridis_r"](0.12 + 0.88 * float(x))
