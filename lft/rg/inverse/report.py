"""The inverse map as a flow of two levels: the fine lattice, and the electrodes that see it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np

from lft.rg.flow import SCHEMA, VERSION
from lft.rg.inverse.match import FLAT
from lft.rg.variables import Variable, connectivity, ensemble_variables


@dataclass(frozen=True)
class InverseFlow:
    """An :class:`lft.rg.inverse.match.InverseMap` with experimental variables at both scales.

    Attributes
    ----------
    inverse : InverseMap
    fine, coarse : dict of str to Variable
        Of the matched lattice, as :func:`lft.rg.variables.ensemble_variables`; those of the coarse scale are what
        the array shows of it, but for the rate, which is the measured one where the source holds more than a fit.
    observables : dict of str to (float, float)
        Measured at the electrode scale, where the source holds more than a fit.
    notes : list of str
    """

    inverse: object
    fine: dict
    coarse: dict
    observables: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    def as_json(self):
        """The JSON form of ``lft flow --to-spacing --to-bin``: levels as for ``refit``, level 0 the fine lattice."""
        inverse, observation = self.inverse, self.inverse.volume.observation
        target = inverse.target
        errors = np.sqrt(target.covariance.diagonal())
        recorded = inverse.recorded
        fine_spacing = observation.fine_lattice(2).spacing
        observed = {n: (v, e) for n, v, e in zip(target.names, target.values, errors, strict=True)}
        return {
            "method": "inverse",
            "blocking": observation.rule,
            "factor": list(observation.factor),
            "axes": list(recorded.axes),
            "levels": [
                _level([1] * len(observation.factor), fine_spacing, inverse.couplings, {}, self.fine),
                _level(observation.factor, recorded.spacing, observed, self.observables, self.coarse),
            ],
            "inverse": {
                "verdict": inverse.verdict,
                "chi2": _number(inverse.chi2),
                "dof": inverse.dof,
                "p_value": _number(inverse.p_value),
                "covariance": inverse.covariance.tolist(),
                "names": list(inverse.names),
                "degrees_of_freedom": _number(inverse.degrees_of_freedom),
                "intervals": {n: list(pair) for n, pair in inverse.intervals.items()},
                "joint_intervals": {n: list(pair) for n, pair in inverse.intervals_at(at_once=True).items()},
                "flat_directions": [
                    {"weights": d.weights, "low": d.low, "high": d.high} for d in inverse.flat
                ],
                "alternatives": inverse.alternatives,
                "predicted": dict(zip(target.names, map(float, inverse.predicted), strict=True)),
                "simulation": {
                    "fine_sites": int(inverse.volume.n_fine),
                    "bins": inverse.volume.n_time,
                    "configurations": int(inverse.n_configurations),
                    "share_of_variance": _number(inverse.noise_share),
                    "doubled_volume": inverse.finite_size,
                },
            },
            "notes": list(self.notes),
        }

    def table(self):
        """Couplings and variables at both scales, and the verdict, as text."""
        data, lines = self.as_json(), []
        for title, level in zip(("fine lattice", "electrodes"), data["levels"], strict=True):
            spacing = "" if level["spacing"] is None else f" ({', '.join(level['spacing'])})"
            lines.append(f"{title}{spacing}")
            for name, pair in level["couplings"].items():
                nan = math.nan
                value, error = (nan if x is None else x for x in pair.values())
                text = "not determined" if math.isnan(value) else str(Variable(value, error))
                if title == "fine lattice" and name in self.inverse.intervals:
                    text += _asymmetric(value, *self.inverse.intervals[name])
                lines.append(f"  {name:26} {text}")
            for name, variable in (self.fine if title == "fine lattice" else self.coarse).items():
                lines.append(f"  {name:26} {variable}")
        at_once = self.inverse.intervals_at(at_once=True)
        if at_once:
            ranges = ", ".join(f"{n} {low:.4f} to {high:.4f}" for n, (low, high) in at_once.items())
            lines.append(f"all at once (95.45 %): {ranges}")
        for direction in self.inverse.flat:
            lines.append(f"flat: {direction}")
        for other in self.inverse.alternatives:
            values = ", ".join(f"{n} {v:.3f}" for n, v in other["couplings"].items())
            lines.append(f"other solution: {values} (chi2 {other['chi2']:.1f})")
        result = self.inverse
        lines.append(f"chi2 {result.chi2:.1f} at {result.dof} degrees of freedom: {result.verdict}")
        return "\n".join(lines)


def _asymmetric(value, low, high):
    """`` (0.21 to 0.32)`` where the two sides differ by more than a tenth, else nothing."""
    down, up = value - low, high - value
    return f"  (68 %: {low:.4f} to {high:.4f})" if abs(up - down) > 0.1 * min(up, down) else ""


def _number(x):
    return float(x) if math.isfinite(x) else None


def _level(scale, spacing, couplings, observables, variables):
    def pairs(values):
        return {n: {"value": _number(v), "error": _number(e)} for n, (v, e) in values.items()}

    return {
        "scale": list(scale),
        "spacing": None if spacing is None else list(spacing),
        "couplings": pairs(couplings),
        "observables": pairs(observables),
        "variables": {n: v.as_json() for n, v in variables.items()},
    }


def report(inverse, observables=None, notes=()):
    """Experimental variables of an inverse map at both scales.

    Parameters
    ----------
    inverse : InverseMap
    observables : dict, optional
        Measured at the electrode scale.
    notes : sequence of str

    Returns
    -------
    InverseFlow
        A variable that changes along a flat direction by more than its error is nan: it is not determined either.
    """
    match, observation, bends = inverse.match, inverse.volume.observation, inverse.profile
    flat = np.eye(len(inverse.names))[len(inverse.names) - len(inverse.flat) :]  # in the frame of the profile
    out = []
    for name, lattice in (("fine", match.ensemble.fine), ("coarse", match.ensemble.torus)):
        center = match.ensemble.modes[name]
        slopes = [(up.get(name, center), down.get(name, center), delta) for up, down, delta in bends.slopes]
        out.append(ensemble_variables(lattice, center, slopes, bends.covariance, flat=FLAT * flat))
    fine, coarse = out
    for name, unit in (("density", ""), ("rate_hz", "Hz")):  # what was measured needs no model
        if name in (observables or {}):
            coarse[name] = Variable(*map(float, observables[name]), unit)
    known = {n: pair for n, pair in inverse.couplings.items() if n != "h"}
    spacing = observation.fine_lattice(2).spacing
    if spacing is not None and not any(math.isnan(v) for v, _ in known.values()):
        fine |= connectivity(known, spacing, inverse.covariance[:-1, :-1])
    cell = math.prod(b for b, a in zip(observation.factor, observation.recorded.axes, strict=True) if a != "t")
    fine["sites_per_electrode"] = Variable(float(cell), 0.0)
    target = inverse.target
    if spacing is not None:
        errors = np.sqrt(target.covariance.diagonal())
        named = {n: (v, e) for n, v, e in zip(target.names, target.values, errors, strict=True) if n != "h"}
        coarse |= connectivity(named, inverse.recorded.spacing, target.covariance[: len(named), : len(named)])
    return InverseFlow(inverse, fine, coarse, dict(observables or {}), [*notes, *inverse.notes])


def save_inverse(result, path):
    """Write FLOW.h5: attribute ``json``; ``theta``, ``covariance``, ``observed``, ``predicted``, ``jacobian``."""
    from lft.archive import replacing

    inverse = result.inverse
    with replacing(path, "writing the inverse map") as file:
        file.attrs.update(schema=SCHEMA, schema_version=VERSION, json=json.dumps(result.as_json()))
        file.attrs["names"] = list(inverse.names)
        file.attrs["observed_names"] = list(inverse.target.names)
        known = np.array([v for v, _ in inverse.couplings.values()])
        arrays = {
            "theta": known, "covariance": inverse.covariance, "observed": inverse.target.values,
            "observed_covariance": inverse.target.covariance, "predicted": inverse.predicted,
            "jacobian": inverse.match.jacobian,
        }  # fmt: skip
        for name, array in arrays.items():
            file[name] = array



