"""``lft flow --method matching``: the critical coupling from two lattices, one of them blocked once more."""

from __future__ import annotations

import dataclasses

import numpy as np

from lft.commands.configurations import (
    axis_groups,
    checked_blocking,
    open_configurations,
    operators_of,
    parse_factor,
    simulated,
)
from lft.config import read_config
from lft.errors import InputError
from lft.geometry import Lattice
from lft.rg.blocking import plan_blocks
from lft.rg.monte_carlo.cascade import measure_cascade
from lft.rg.monte_carlo.matching import match, save_matching
from lft.rg.monte_carlo.operators import operator

PILOTS = 8
PILOT_SHIFT = 0.05
"""Largest relative step of the couplings between two pilot runs."""
NEAR = 0.003
"""Pilot runs end when the couplings are that close to critical (relative), or within twice the error of it."""


def compute(args):
    """Critical couplings by operator and level; returns (result, notes)."""
    blocking, factor = checked_blocking(args), parse_factor(args.factor)
    large = open_configurations(args.source, "matching")
    if np.any(large.action.couplings.get("h", 0.0)):
        raise InputError(f"{large.name}: h = {large.action.couplings['h']}: matching looks for the critical coupling "
                         "without a field; valid is h = 0")
    operators, notes = operators_of(args, large)
    operators = [o for o in operators if o.is_even]
    couplings, operators = action_operators(large.action, large.lattice, axis_groups(args, large), operators)

    def measured(source, levels):
        return measure_cascade(source.batches(), source.lattice, operators, blocking, factor, levels, args.k,
                               source.seed)  # fmt: skip

    if large.config is None:
        small = _second_archive(args, large)
        result = match(measured(large, args.levels), measured(small, args.levels - 1), couplings)
        result.notes[:0] = notes
        return result, result.notes
    if args.against:
        raise InputError(f"--against {args.against}: a run configuration makes both lattices itself")
    lattice = _smaller(large.lattice, factor, blocking)
    config, scale = read_config(args.source), 1.0
    pilot = dataclasses.replace(config, schedule=_tenth(config.schedule))

    def pair(config, scale):
        action = config.action.scaled(scale)
        sources = [simulated(config, large.name, geometry, action, replica)
                   for replica, geometry in enumerate((large.lattice, lattice))]  # fmt: skip
        series = [measured(s, args.levels - k) for k, s in enumerate(sources)]
        return match(*series, {name: K * scale for name, K in couplings.items()})

    for _ in range(PILOTS):
        value, error = (found := pair(pilot, scale)).shifts[max(found.shifts)]
        if not np.isfinite(value) or abs(value) < max(NEAR, 2 * error):
            break
        scale *= 1 + float(np.clip(value, -PILOT_SHIFT, PILOT_SHIFT))
    else:
        raise InputError(f"{large.name}: no critical coupling near K = {large.action.couplings['K']!r}: "
                         f"{PILOTS} pilot runs moved it by a factor {scale:.3g} and did not settle; start nearer")
    if scale != 1.0:
        notes.append(f"pilot runs moved the couplings by a factor {scale:.5g} towards the critical point")
    result = pair(config, scale)
    result.notes[:0] = notes
    return result, result.notes


def action_operators(action, lattice, groups, operators):
    """Couplings by operator name, and the operators with those of the action in front."""
    couplings, found = {}, {o.name: o for o in operators}
    zero, own = (0,) * len(lattice.shape), {}
    for d, K in action.bond_couplings(lattice).items():
        o = operator([zero, d], groups)
        if couplings.setdefault(o.name, K) != K:
            raise InputError(f"K{list(d)} = {K}: operator {o.name} sums displacements with different couplings")
        own[o.name] = o
    return couplings, [*own.values(), *(o for n, o in found.items() if n not in own)]


def _second_archive(args, large):
    if not args.against:
        raise InputError(f"{large.name}: --method matching needs --against ARCHIVE.h5, the same theory on a lattice "
                         "smaller by the factor")
    small = open_configurations(args.against, "matching")
    if small.action.couplings != large.action.couplings:
        raise InputError(f"--against {args.against}: couplings {dict(small.action.couplings)} differ from "
                         f"{dict(large.action.couplings)} of {large.name}; valid is the same theory")
    return small


def _smaller(lattice, factor, blocking):
    """The lattice with so many sites as the blocks of this one, at its spacing."""
    coarse = plan_blocks(lattice, factor, name=blocking).coarse
    return Lattice(coarse.shape, coarse.axes, coarse.boundary, lattice.spacing, coarse.mask)


def _tenth(schedule):
    every = schedule.save_every or schedule.measure_every
    updates = max(schedule.updates // (10 * every), min(schedule.updates // every, 2000)) * every
    return dataclasses.replace(schedule, updates=updates)


def save(result, path):
    """Write FLOW.h5."""
    save_matching(result, path)


def plot(result, path):
    """Draw the critical coupling of each operator and level."""
    from lft.plotting import plot_matching

    plot_matching(result, path)
