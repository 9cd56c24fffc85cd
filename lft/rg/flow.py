"""Renormalization flow by blocking and refitting: couplings against scale.

Level 0 is the field itself; level n is the field after n block-spin transformations.  At each level the couplings
of the same operator space are fitted to the blocked configurations, so a flow is a trajectory in that space; what the
space leaves out shows as truncation, not as an error bar.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np

from lft.analysis.estimate import estimate
from lft.errors import DivergenceError, InputError
from lft.rg.blocking import block, plan_blocks
from lft.rg.variables import experimental_variables

SCHEMA, VERSION = "lft-flow", 1


@dataclass(frozen=True)
class Level:
    """One scale of a flow.

    Attributes
    ----------
    scale : tuple of int
        Sites of level 0 per site of this level, one number per axis in the user's order.
    spacing : tuple of str or None
        Physical spacing per axis.
    shape : tuple of int
    n_active : int
        Active sites, time bins included.
    couplings, observables : dict
        ``{name: (value, error)}``.
    notes : tuple of str
    truncation : dict
        What the space of couplings leaves out, as JSON (:mod:`lft.rg.monte_carlo.operator_flow`); empty where nobody
        asked for it.
    """

    scale: tuple
    spacing: tuple | None
    shape: tuple
    n_active: int
    couplings: dict
    observables: dict
    notes: tuple = ()
    truncation: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Flow:
    """Levels of a flow, and how they were made."""

    levels: list
    axes: tuple
    blocking: str
    factor: tuple
    method: str = "refit"
    notes: list = field(default_factory=list)

    def as_json(self):
        """The JSON form of ``lft flow --json``."""
        return {
            "method": self.method,
            "blocking": self.blocking,
            "factor": list(self.factor),
            "axes": list(self.axes),
            "levels": [
                {
                    "scale": list(level.scale),
                    "spacing": None if level.spacing is None else list(level.spacing),
                    "shape": list(level.shape),
                    "couplings": _pairs(level.couplings),
                    "observables": _pairs(level.observables),
                    "variables": {n: v.as_json() for n, v in experimental_variables(level, self.axes).items()},
                    "notes": list(level.notes),
                    **({"truncation": level.truncation} if level.truncation else {}),
                }
                for level in self.levels
            ],
        }

    def table(self):
        """The flow as text, one row per level; ``gain``: what a larger space adds, nats per site."""
        names = list(dict.fromkeys(n for level in self.levels for n in level.couplings))
        extra = [n for n in ("density", "rate_hz") if n in self.levels[0].observables]
        head = ["scale", *(["spacing"] if self.levels[0].spacing else []), *names, *extra]
        has_gain = any(_gain(level) is not None for level in self.levels)
        rows = [head + ["gain"] * has_gain]
        head = rows[0]
        for level in self.levels:
            row = ["x".join(map(str, level.scale))]
            if level.spacing:
                row.append(", ".join(level.spacing))
            row += [_text(level.couplings.get(n)) for n in names]
            row += [_text(level.observables.get(n)) for n in extra]
            row += [_number(_gain(level))] if has_gain else []
            rows.append(row)
        widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _gain(level):
    """Gain of a larger space of couplings: of one fit, or the largest of the operators that were tested."""
    if "gain" in level.truncation:
        return level.truncation["gain"]
    gains = [e["gain"] for e in level.truncation.get("outside", {}).values() if e.get("gain") is not None]
    return max(gains, default=None)


def _pairs(values):
    number = lambda x: float(x) if math.isfinite(x) else None  # noqa: E731
    return {n: {"value": number(v), "error": number(e)} for n, (v, e) in values.items()}


def _number(x):
    return "-" if x is None else f"{x:.2g}"


def _text(pair):
    from lft.analysis.estimate import format_with_error

    if pair is None or not math.isfinite(pair[0]):
        return "-"
    if not math.isfinite(pair[1]):
        return f"{pair[0]:.4g}(?)"
    return format_with_error(*pair)


def flow(fields, fit, *, blocking, factor, levels, k=None, seed=0, truncation=None):
    """Block and refit, level by level.

    Parameters
    ----------
    fields : sequence of Field
        Configurations (or one recording) on one lattice.
    fit : callable
        ``fit(fields) -> {name: (value, error)}``: couplings of configurations.
    blocking : str
        A name in :data:`lft.rg.blocking.BLOCKINGS`.
    factor : int or sequence of int
        Block size, for all axes or one per axis (user's order).
    levels : int
        Number of blockings after level 0.
    truncation : callable, optional
        ``truncation(fields) -> dict``: what the couplings leave out, as JSON, kept by level.

    Returns
    -------
    Flow
        It ends early, with a note, where the lattice is too small for another block, or where a fit fails.
    """
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 0:
        raise InputError(f"levels = {levels!r}: valid is an integer >= 0")
    lattice = fields[0].geometry
    factors = (factor,) * len(lattice.shape) if isinstance(factor, int) else tuple(factor)
    plan_blocks(lattice, factors, name=blocking)  # complains about factors before anything is computed
    scale, out, notes = (1,) * len(factors), [], []
    for level in range(levels + 1):
        level_notes = ()
        if level:
            try:
                plan = plan_blocks(fields[0].geometry, factors, name=blocking)
                fields = [
                    block(f, blocking, factors, k=k, seed=seed, level=level + 1000 * n) for n, f in enumerate(fields)
                ]
            except InputError as reason:
                notes.append(f"level {level}: no further blocking: {reason}")
                break
            scale = tuple(a * b for a, b in zip(scale, factors, strict=True))
            dropped = {axis: n for axis, n in plan.dropped.items() if n}
            if dropped:
                level_notes = (f"planes that fill no block were left out: {dropped}",)
        try:
            couplings = fit(fields)
            left_out = truncation(fields) if truncation else {}
        except (InputError, DivergenceError) as reason:
            if level == 0:
                raise
            size, up = "x".join(map(str, scale)), _estimate([_plane_means(f) for f in fields], lambda m: (1 + m[0]) / 2)
            notes.append(f"level {level} (scale {size}): {100 * up[0]:.3g} % of the blocks are up, no fit: {reason}")
            break
        geometry = fields[0].geometry
        what = (geometry.spacing, geometry.shape, geometry.n_active, couplings, observe(fields), level_notes, left_out)
        entry = Level(scale, *what)
        notes += [f"level {level}: {note}" for note in level_notes]
        out.append(entry)
    return Flow(out, lattice.axes, blocking, factors, notes=notes)


def observe(fields):
    """Density of up sites, magnetization, rate and connected nearest-neighbor correlations, with errors.

    ``connected_<axis> = <s s'> - <s>^2`` over the pairs of neighbors along an axis that exist.  Errors by the Gamma
    method over time bins (over configurations where there is no time); nan with fewer than 4 of them.
    """
    geometry = fields[0].geometry
    per_field = [_plane_means(f) for f in fields]
    has_time = geometry.time_axis is not None
    series = per_field if has_time else [np.concatenate(per_field)]
    out = {"magnetization": _estimate(series, lambda m: m[0]), "density": _estimate(series, lambda m: (1 + m[0]) / 2)}
    bin_width = geometry.quantity("t") if has_time else None
    if bin_width is not None:
        out["rate_hz"] = tuple(v / bin_width.si for v in out["density"])
    for n, axis in enumerate(_bond_axes(geometry)):
        out[f"connected_{axis}"] = _estimate(series, lambda m, n=n: m[n + 1] - m[0] ** 2)
    return out


def _estimate(series, function):
    import warnings

    from lft.errors import SeriesTooShort

    if sum(len(s) for s in series) < 4 or any(len(s) < 4 for s in series):
        return float(function(np.concatenate(series).mean(axis=0))), math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesTooShort)  # a level is a description; the fit carries its own verdict
        value = estimate([s for s in series], function)
    return value.value, value.error


def _bond_axes(geometry):
    return [a for a, d in zip(geometry.axes, geometry.unit_displacements(), strict=True) if geometry.count_bonds(d)]


def _plane_means(phi):
    """Per time bin: mean spin, and mean product of neighbors along each axis, (n_time, 1 + n_axes)."""
    geometry, values = phi.geometry, phi.values
    if phi.kind == "gas":
        values = 2 * values - 1
    has_time = geometry.time_axis is not None
    if not has_time:
        values = values[np.newaxis]
    others = tuple(range(1, values.ndim))
    n_active = geometry.n_active // geometry.n_time
    columns = [values.sum(axis=others, dtype=np.int64) / n_active]
    for axis in _bond_axes(geometry):
        user = geometry.axes.index(axis)
        stored = geometry.storage_order.index(user) + (0 if has_time else 1)
        is_periodic = geometry.boundary[user] == "periodic"
        pairs = geometry.count_bonds(geometry.unit_displacements()[user])
        if stored == 0:
            other = np.roll(values, -1, 0) if is_periodic else values[1:]
            sums = (values[: len(other)] * other).sum(axis=others, dtype=np.int64)
            sums = sums if is_periodic else np.append(sums, sums.mean())  # the last bin has no successor
            columns.append(sums * geometry.n_time / pairs if is_periodic else sums * (geometry.n_time - 1) / pairs)
            continue
        n = values.shape[stored]
        first = np.take(values, range(n if is_periodic else n - 1), stored)
        second = np.roll(values, -1, stored) if is_periodic else np.take(values, range(1, n), stored)
        sums = (first * second).sum(axis=others, dtype=np.int64)
        columns.append(sums * geometry.n_time / pairs)
    return np.column_stack(columns)


def save_flow(flow, path):
    """Write FLOW.h5: attribute ``json`` and, per level, datasets of couplings and observables."""
    from lft.archive import replacing

    with replacing(path, "writing the flow") as file:
        file.attrs.update(schema=SCHEMA, schema_version=VERSION, json=json.dumps(flow.as_json()))
        file["scale"] = np.array([level.scale for level in flow.levels])
        for kind in ("couplings", "observables"):
            names = list(dict.fromkeys(n for level in flow.levels for n in getattr(level, kind)))
            group = file.create_group(kind)
            for name in names:
                pairs = [getattr(level, kind).get(name, (math.nan, math.nan)) for level in flow.levels]
                group[name] = np.array(pairs)
                group[name].attrs["columns"] = ["value", "error"]
