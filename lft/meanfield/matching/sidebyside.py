"""Two models side by side: every number that both have, with difference and z.

    z = (B - A)/sqrt(error_A^2 + error_B^2)

Populations are paired by name if both models have the same names, else in their order.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.errors import InputError
from lft.meanfield.matching.portrait import CURVES, MATRICES, SCALARS, WHOLE

N_POINTS = 6
"""Points of a curve in the table."""


@dataclass(frozen=True)
class Beside:
    """One number of two models."""

    name: str
    where: str
    one: float
    one_error: float
    two: float
    two_error: float

    @property
    def z(self):
        """Difference in standard errors; nan without errors."""
        error = math.hypot(self.one_error, self.two_error)
        return (self.two - self.one) / error if error > 0 else math.nan

    @property
    def relative(self):
        """Difference over the first, nan where that is 0 within its error."""
        if abs(self.one) <= max(0.0 if math.isnan(self.one_error) else self.one_error, 1e-13):
            return math.nan
        return (self.two - self.one) / abs(self.one)


@dataclass(frozen=True)
class ModelComparison:
    """What :func:`compare_models` returns.

    Attributes
    ----------
    one, two : Portrait
    rows : tuple of Beside
    only : dict
        Names of quantities that one of them alone has, ``{"one": [...], "two": [...]}``.
    """

    one: object
    two: object
    rows: tuple
    only: dict
    labels: tuple = ("A", "B")

    def row(self, name, where=None):
        """The first row of a name (and place)."""
        found = [r for r in self.rows if r.name == name and where in (None, r.where)]
        if not found:
            raise InputError(f"row {name!r}: valid are {', '.join(sorted({r.name for r in self.rows}))}")
        return found[0]

    def table(self):
        """Text, one line for each number."""
        lines = [("quantity", "where", *self.labels, "diff %", "z")]
        for r in self.rows:
            lines.append(
                (
                    r.name,
                    r.where,
                    _number(r.one, r.one_error),
                    _number(r.two, r.two_error),
                    _or_dash(100 * r.relative, ".2f"),
                    _or_dash(r.z, ".1f"),
                )
            )
        widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
        sides = ("<", "<", *(">" * (len(widths) - 2)))
        text = [
            "  ".join(f"{c:{s}{w}}" for c, s, w in zip(line, sides, widths, strict=True)).rstrip() for line in lines
        ]
        for label, key in zip(self.labels, ("one", "two"), strict=True):
            if self.only[key]:
                text.append(f"only {label} has: {', '.join(self.only[key])}")
        return "\n".join(text)

    def as_json(self):
        """Plain numbers; what is not finite becomes None."""
        rows = [{**dataclasses.asdict(r), "z": r.z, "relative": r.relative} for r in self.rows]
        for row in rows:
            row.update({k: None for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)})
        return {
            "labels": list(self.labels),
            "rows": rows,
            "only": self.only,
            "warnings": {"one": list(self.one.notes), "two": list(self.two.notes)},
        }


def _number(value, error):
    return format_with_error(value, error) if math.isfinite(error) and error > 0 else f"{value:.6g}"


def _or_dash(x, form):
    return "-" if math.isnan(x) else f"{x:{form}}"


def pairing(one, two):
    """(places in one, places in two, labels) of populations that belong together."""
    if len(one) != len(two):
        raise InputError(f"populations {', '.join(one)} and {', '.join(two)}: valid are two models with as many")
    if set(one) == set(two):
        return np.arange(len(one)), np.array([two.index(n) for n in one]), list(one)
    return np.arange(len(one)), np.arange(len(two)), [f"{a} | {b}" for a, b in zip(one, two, strict=True)]


def compare_models(one, two, labels=("A", "B")):
    """Two portraits as a table.

    Parameters
    ----------
    one, two : Portrait
    labels : tuple of str, optional

    Returns
    -------
    ModelComparison

    Examples
    --------
    >>> from lft.meanfield.matching.portrait import portrait
    >>> from lft.meanfield.matching.sidebyside import compare_models
    >>> from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
    >>> from lft.meanfield.neurons import Rate
    >>> def network(noise):
    ...     weights = (Connection("x", "x", Gaussian(0.0, 0.5)),)
    ...     return Model((Population("x", Rate("linear", noise=noise)),), weights, Solve("stationary", 0.05, 60.0))
    >>> both = compare_models(portrait(network(1.0)), portrait(network(2.0)))
    >>> round(both.row("state_variance").relative, 6)
    1.0
    """
    a, b, names = pairing(one.names, two.names)
    shared = [n for n in (*SCALARS, *MATRICES, *WHOLE) if n in one and n in two]
    rows = []
    for name in shared:
        (x, ex), (y, ey) = one[name], two[name]
        if name in SCALARS:
            rows += [
                Beside(name, label, *map(float, (x[i], ex[i], y[j], ey[j])))
                for i, j, label in zip(a, b, names, strict=True)
            ]
        elif name in MATRICES:
            rows += [
                Beside(name, f"{m}, {n}", *map(float, (x[i, k], ex[i, k], y[j, h], ey[j, h])))
                for i, j, m in zip(a, b, names, strict=True)
                for k, h, n in zip(a, b, names, strict=True)
            ]
        else:
            rows.append(Beside(name, "", *map(float, (x, ex, y, ey))))
    for name in CURVES:
        if name in one.curves and name in two.curves:
            rows += _curve(name, one, two, a, b, names)
    only = {"one": sorted(set(one.values) - set(two.values)), "two": sorted(set(two.values) - set(one.values))}
    return ModelComparison(one, two, tuple(rows), only, tuple(labels))


def _curve(name, one, two, a, b, names):
    """A curve at a few places: lags from 0 to where the first has decayed, frequencies up to where it has fallen."""
    (x, ex), (y, ey) = one.curves[name], two.curves[name]
    at, other = (one.frequencies, two.frequencies) if name == "spectrum" else (one.lags, two.lags)
    size = np.abs(x).max(axis=0)
    above = np.flatnonzero(size > (0.05 if name != "spectrum" else 0.01) * size[:2].max())
    end = min(at[above[-1]] if len(above) else at[-1], at[-1], other[-1])
    places = np.unique(np.searchsorted(at, np.linspace(0.0, end, N_POINTS)).clip(0, len(at) - 1))
    symbol = "f" if name == "spectrum" else "lag"
    return [
        Beside(
            name,
            f"{label}, {symbol} {at[k]:.4g}",
            float(x[i, k]),
            float(ex[i, k]),
            float(np.interp(at[k], other, y[j])),
            float(np.interp(at[k], other, ey[j])),
        )
        for i, j, label in zip(a, b, names, strict=True)
        for k in places
    ]
