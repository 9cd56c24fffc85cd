"""Two-lattice matching: the critical coupling, and the step in coupling that one blocking makes.

The same theory on lattices of L and L/b sites per axis.  Blocked n and n - 1 times they have the same number of sites,
so that finite-size effects cancel, and their operators (per product) differ only as the couplings have flowed further
on one of them.  With S the bond part of -action and couplings ``(1 + e) K``, to first order in e,

    D(e) = <O^(n)>_L - <O^(n-1)>_(L/b) = D + e [ <O^(n) S>_c,L - <O^(n-1) S>_c,(L/b) ].

- Critical point: D(e_c) = 0 for every operator once n is large enough; ``K_c = (1 + e_c) K``.
- Step of the flow: the smaller lattice at ``K' = K - delta K`` agrees with the larger at K;
  ``delta K = -K D / <O^(n-1) S>_c,(L/b)``, zero at the critical point, positive in the disordered phase.

Standard method (two-lattice Monte Carlo renormalization group); even operators alone.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, field

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.errors import InputError
from lft.rg.monte_carlo.stability import SCHEMA, VERSION, jackknife_edges

MAX_SHIFT = 0.02
"""Largest relative distance to the critical coupling at which the first order is trusted without a note."""


@dataclass(frozen=True)
class Match:
    """One operator at one level: relative distance to the critical coupling, and relative step of the flow.

    ``shift`` = e_c, ``step`` = delta K / K, both with statistical errors; nan where the derivative vanishes.
    """

    level: int
    operator: str
    shift: float
    shift_error: float
    step: float
    step_error: float


@dataclass(frozen=True)
class MatchingResult:
    """What two lattices say about the critical coupling.

    Attributes
    ----------
    matches : list of Match
    shifts, steps : dict of int to (value, error)
        By level, all operators together, weighted by their inverse variance.
    couplings : dict of str to float
        At which both lattices were simulated.
    critical : dict of str to (value, statistical, systematic)
        Last level; systematic: its change from the level before (nan with a single level).
    shapes : list of tuple
        Lattices on which operators were compared, by level from 1.
    series : (OperatorSeries, OperatorSeries)
    notes : list of str
    """

    matches: list
    shifts: dict
    steps: dict
    couplings: dict
    critical: dict
    shapes: list
    series: tuple
    notes: list = field(default_factory=list)

    def as_json(self):
        """The JSON form of ``lft flow --json``."""
        large, small = self.series
        levels = []
        for n, shape in enumerate(self.shapes, 1):
            value, error = self.steps[n]
            observables = {"relative_step": _pair(value, error), "relative_shift": _pair(*self.shifts[n])}
            couplings = {name: _pair(K * (1 - value), abs(K) * error) for name, K in self.couplings.items()}
            levels.append({"scale": list(large.scales[n]), "shape": list(shape), "couplings": couplings,
                           "observables": observables})  # fmt: skip
        return {
            "method": "matching", "blocking": large.blocking, "factor": list(large.factor),
            "axes": list(large.lattices[0].axes), "shapes": [list(s.lattices[0].shape) for s in self.series],
            "configurations": [large.n, small.n], "couplings": self.couplings, "levels": levels,
            "critical": {
                name: {**_pair(v, _total(e, s)), "statistical": e, "systematic": _number(s)}
                for name, (v, e, s) in self.critical.items()
            },
            "matching": [
                {"level": m.level, "operator": m.operator, "shift": _pair(m.shift, m.shift_error),
                 "step": _pair(m.step, m.step_error)} for m in self.matches
            ],
        }  # fmt: skip

    def table(self):
        """Critical coupling by operator (rows) and level (columns), then all operators together."""
        name, K = next(iter(self.couplings.items()))
        levels = sorted(self.shifts)
        names = list(dict.fromkeys(m.operator for m in self.matches))
        found = {(m.operator, m.level): (K * (1 + m.shift), abs(K) * m.shift_error) for m in self.matches}
        rows = [[f"{name} critical", *(f"n={n}: {'x'.join(map(str, self.shapes[n - 1]))}" for n in levels)]]
        rows += [[o, *(_text(found.get((o, n))) for n in levels)] for o in names]
        rows.append(["all", *(_text((K * (1 + self.shifts[n][0]), abs(K) * self.shifts[n][1])) for n in levels)])
        rows.append([f"step of {name}", *(_text(tuple(K * x for x in self.steps[n])) for n in levels)])
        widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        lines.append("")
        for name, (value, statistical, systematic) in self.critical.items():
            shown = f", change from the level before {systematic:.2g}" if math.isfinite(systematic) else ""
            lines.append(f"critical {name} = {format_with_error(value, statistical)}{shown}")
        return "\n".join(lines)


def _total(statistical, systematic):
    return statistical if math.isnan(systematic) else math.hypot(statistical, systematic)


def _number(x):
    return float(x) if math.isfinite(x) else None


def _pair(value, error):
    return {"value": _number(value), "error": _number(error)}


def _text(pair):
    return "-" if pair is None or not math.isfinite(pair[0]) else format_with_error(*pair)


def bond_energy(series, couplings):
    """``S = sum_a K_a O_a`` of every configuration at level 0, from the couplings by operator name."""
    names = [o.name for o in series.operators]
    missing = [n for n in couplings if n not in names]
    if missing:
        raise InputError(f"coupling of operator {missing[0]}: it was not measured; measured are {', '.join(names)}")
    return sum(K * series.sums[0][:, names.index(n)] for n, K in couplings.items())


def match(large, small, couplings, n_blocks=None):
    """Critical coupling and step of the flow from two lattices simulated at the same couplings.

    Parameters
    ----------
    large, small : lft.rg.monte_carlo.cascade.OperatorSeries
        Of L and L/b sites, the same operators and blocking; large has one level more, or more are ignored.
    couplings : dict of str to float
        By name of the operator; all are multiplied by the same (1 + e).
    n_blocks : int, optional
        Jackknife blocks of each; default from the measured autocorrelation.

    Returns
    -------
    MatchingResult

    Raises
    ------
    InputError
        Lattices whose blocks do not become equal, different operators, no even operator, too few blocks.

    Examples
    --------
    >>> from lft.actions import Ising
    >>> from lft.clusters import SwendsenWang
    >>> from lft.geometry import Lattice
    >>> from lft.rg.monte_carlo.cascade import measure_cascade, sampled
    >>> from lft.rg.monte_carlo.matching import match
    >>> from lft.rg.monte_carlo.operators import operator_set
    >>> from lft.rng import Key
    >>> def measured(L, levels):
    ...     batches = sampled(Ising(0.44), Lattice((L, L)), SwendsenWang(), Key(1, L), 2000, 1, 50)
    ...     return measure_cascade(batches, Lattice((L, L)), operator_set(2, 2, 0), levels=levels)
    >>> value, error, _ = match(measured(16, 2), measured(8, 1), {"1,0": 0.44}).critical["K[1,0]"]
    >>> abs(value - 0.4407) < 4 * error < 0.02
    True
    """
    if large.operators != small.operators or large.blocking != small.blocking or large.factor != small.factor:
        raise InputError("matching: both lattices need the same operators, blocking and factor")
    levels = min(large.n_levels - 1, small.n_levels)
    if levels < 1 or large.lattices[1].shape != small.lattices[0].shape:
        shapes = [s.lattices[0].shape for s in (large, small)]
        raise InputError(f"matching of lattices {shapes[0]} and {shapes[1]}: one blocking with factor "
                         f"{list(large.factor)} must make the first as large as the second")
    even = large.sector(True)
    if not len(even):
        raise InputError("matching: valid is at least one even operator")
    edges = [jackknife_edges(s, n_blocks)[0] for s in (large, small)]
    energies = [bond_energy(s, couplings) for s in (large, small)]
    matches, shifts, steps, notes, singular = [], {}, {}, [*large.notes], set()
    for n in range(1, levels + 1):
        parts = [
            _moments(s.sums[level][:, even] / s.n_products[level][even], energy, edge)
            for s, level, energy, edge in zip((large, small), (n, n - 1), energies, edges, strict=True)
        ]
        shift, step = (_propagate(*parts, f) for f in (_shift, _step))
        for k, index in enumerate(even):
            matches.append(Match(n, large.operators[index].name, *shift[k], *step[k]))
        singular |= {large.operators[index].name for k, index in enumerate(even) if not np.isfinite(shift[k]).all()}
        shifts[n], steps[n] = (_together(*parts, f, w) for f, w in ((_shift, shift), (_step, step)))
    if singular:
        notes.append(f"operators without information at some level, left out there: {', '.join(sorted(singular))}")
    value, error = shifts[levels]
    if not math.isfinite(value):
        shown = ", ".join(f"{n} = {K:.6g}" for n, K in couplings.items())
        raise InputError(f"matching: at level {levels} no operator changes with the couplings {shown}: the "
                         "configurations are frozen, or too few; simulate nearer to the critical point")
    change = abs(value - shifts[levels - 1][0]) if levels > 1 else math.nan
    if abs(value) > MAX_SHIFT:
        notes.append(f"the critical couplings are {100 * value:+.2g} % away: beyond {100 * MAX_SHIFT:.0f} % the "
                     "first order is not enough; simulate nearer and repeat")
    critical = {
        _coupling(large, name): (K * (1 + value), abs(K) * error, abs(K) * change) for name, K in couplings.items()
    }
    named = {_coupling(large, name): float(K) for name, K in couplings.items()}
    shapes = [large.lattices[n].shape for n in range(1, levels + 1)]
    return MatchingResult(matches, shifts, steps, named, critical, shapes, (large, small), notes)


def _coupling(series, name):
    return next(o.coupling for o in series.operators if o.name == name)


def _moments(o, energy, edges):
    """<O> and <O S>_c of all configurations [0], and of all without block j [1 + j]; (1 + g, 2, m)."""
    energy = energy - energy.mean()
    parts = list(itertools.pairwise(edges))
    n = np.diff(edges).astype(float)[:, None]
    sums = [np.array([x[a:b].sum(axis=0) for a, b in parts]) for x in (o, energy[:, None], o * energy[:, None])]
    n, mean_o, mean_e, mean_oe = (np.concatenate([[s.sum(axis=0)], s.sum(axis=0) - s]) for s in (n, *sums))
    mean_o, mean_e, mean_oe = (s / n for s in (mean_o, mean_e, mean_oe))
    return np.stack([mean_o, mean_oe - mean_o * mean_e], axis=1)


def _shift(a, b):
    with np.errstate(divide="ignore", invalid="ignore"):
        return -(a[..., 0, :] - b[..., 0, :]) / (a[..., 1, :] - b[..., 1, :])


def _step(a, b):
    with np.errstate(divide="ignore", invalid="ignore"):
        return -(a[..., 0, :] - b[..., 0, :]) / b[..., 1, :]


def _jackknife(parts):
    g = len(parts)
    return (g - 1) / g * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0)


def _propagate(a, b, function):
    """Per operator (value, error): the two lattices are independent, so their jackknife variances add."""
    value = function(a[0], b[0])
    variance = _jackknife(function(a[1:], b[0])) + _jackknife(function(a[0], b[1:]))
    return list(zip(value.tolist(), np.sqrt(variance).tolist(), strict=True))


def _together(a, b, function, singles):
    """All operators, weighted by inverse variance; the error contains their correlations."""
    errors = np.array([e if math.isfinite(v) and e > 0 else math.inf for v, e in singles])
    if not np.isfinite(errors).any():
        return math.nan, math.nan
    weight = errors**-2.0 / (errors**-2.0).sum()
    used = weight > 0

    def mean(x, y):
        return (function(x, y)[..., used] * weight[used]).sum(axis=-1)

    return float(mean(a[0], b[0])), float(np.sqrt(_jackknife(mean(a[1:], b[0])) + _jackknife(mean(a[0], b[1:]))))


def save_matching(result, path):
    """Write FLOW.h5: attribute ``json``, and the table of matches."""
    from lft.archive import replacing

    with replacing(path, "writing the flow") as file:
        file.attrs.update(schema=SCHEMA, schema_version=VERSION, json=json.dumps(result.as_json()))
        file["matches"] = np.array([(m.level, m.shift, m.shift_error, m.step, m.step_error) for m in result.matches])
        file["matches"].attrs["columns"] = ["level", "shift", "shift_error", "step", "step_error"]
        file["matches"].attrs["operators"] = [m.operator for m in result.matches]
