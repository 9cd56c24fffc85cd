"""Is a stationary state the only stable one?  What can be known of it at a small part of the cost of the solution.

Closed: the means of populations without memory are relaxed from far below and far above, and where they end elsewhere
the network is solved from there.  Sampled: if the outputs of neurons at high inputs could hold these inputs, a few
paths are iterated from there.  Both look along one line of inputs, low and high for all populations together; a state
off it, such as one of several populations that inhibit each other, is not found, and neither is a network that is
bistable by its variance alone.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from lft.errors import ConvergenceError
from lft.meanfield.fluctuations.covariance_closed import population_covariance
from lft.meanfield.saddle.draws import Draws
from lft.meanfield.saddle.stationary import PARTS, solve_stationary
from lft.meanfield.saddle.stationary_closed import solve_closed
from lft.meanfield.saddle.two_time import System
from lft.meanfield.structured import structure_of
from lft.rng import Key

APART = 0.05
"""Difference of means, in units of the output's size, from which on states count as different."""
STEPS = 200
"""Steps in which means are relaxed: what they leave of a difference is 0.97^200 = 0.2 %."""
PATHS, SWEEPS, REPLICAS = 32, 36, 2
"""Of the sampled trial: paths of a replica, sweeps, replicas."""
STEADY, EACH = 1000, 4
"""Steps and paths at each input that is tried."""
FACTORS = 2.0 ** np.arange(-3.0, 12.5, 0.5)
"""Inputs at which neurons are tried, in units of what mean weights and noise make of an output of 1."""


def closed_states_beside(model, system, state):
    """Notes on stable states beside a closed solution, found from low and high inputs.

    Parameters
    ----------
    model : Model
    system, state : as :func:`lft.meanfield.saddle.stationary_closed.solve_closed` returns them.

    Returns
    -------
    list of str
        At most one: empty where none was found.

    Notes
    -----
    A tenth of a solution, and a whole one more where the relaxed means end apart.
    """
    if structure_of(model) or not np.any(model.matrices()[0]):
        return []
    here, size = _means(system, state)
    for push in (1.0, -1.0):
        m, _ = system.relaxed(1.0, push, STEPS)
        if not np.isfinite(m).all() or np.all(np.abs(m - here) < APART * size):
            continue
        try:
            found, other, history = solve_closed(model, (1.0, push))
            population_covariance(model, found, other, history)
        except ConvergenceError:
            continue
        there, wide = _means(found, other)
        if np.any(np.abs(there - here) > APART * np.maximum(size, wide)):
            return [_note(model, "high" if push > 0 else "low", there)]
    return []


def _means(system, state):
    """Means of all populations, and the sizes of their outputs."""
    parts = [system.parts(state, k)[:2] for k in range(len(system.forms))]
    outputs = [system.output(state, k)[0] for k in range(len(system.forms))]
    m = np.array([p[0] for p in parts])
    return m, np.sqrt(np.array([p[1] + max(a, 0.0) for p, a in zip(parts, outputs, strict=True)]))


def _note(model, start, means):
    them = ", ".join(f"{n} {m:.4g}" for n, m in zip(model.names, means, strict=True))
    return (f"from {start} inputs another state is reached, mean outputs {them}: several seem "
            "stable, and a network may be in either (lft.meanfield.solver.solve_from gives each)")


def sampled_states_beside(model, means, sizes):
    """Notes on a stable state beside a sampled solution, found from high inputs (sampling begins with low outputs).

    Parameters
    ----------
    model : Model
    means, sizes : ndarray (P,)
        Means and sizes of the outputs of the solution.

    Notes
    -----
    A trial of 64 paths and 36 sweeps where excitation could hold itself, else some paths at 31 inputs: per cent of a
    solution with the default settings.
    """
    if _self_sustained(model) is None:
        return []
    solve = dataclasses.replace(model.solve, samples=PATHS * REPLICAS, replicas=REPLICAS, sweeps=SWEEPS, tolerance=0.0)
    try:
        total = solve_stationary(dataclasses.replace(model, solve=solve), begin=(1.0, high_push(model)))[2]
    except ConvergenceError:
        return []
    n = len(model.populations)
    for parts in total.small:  # one replica may have gone back
        there = np.array([parts[(PARTS + 1) * a][0] for a in range(n)])
        low, high = np.array([parts[(PARTS + 1) * n + a][:2] for a in range(n)]).T  # in the sweeps that were averaged
        apart = np.abs(there - means)
        if np.any((apart > 2.0 * APART * np.maximum(sizes, np.abs(there))) & (apart > 3.0 * (high - low))):
            return [_note(model, "high", there)]
    return []


def high_push(model):
    """What the first inputs of a sampled solution are pushed by, in the units of the solver, to find a high state."""
    factor = _self_sustained(model)
    return 1.0 if factor is None else max(2.0 * factor, 1.0)


def _self_sustained(model):
    """A push of the first inputs (in the units of the solver) from which outputs could hold themselves, or None.

    Looks at each population's excitation of itself, alone: a bound from above wherever others inhibit.
    """
    system, mean, variance = System(model), *map(np.array, model.matrices())
    n_steps, found, factors = min(model.solve.n_steps, STEADY), None, np.repeat(FACTORS, EACH)
    for a, (p, runner) in enumerate(zip(model.populations, system.runners, strict=True)):
        if mean[a, a] <= 0:
            continue
        noise = math.sqrt(variance[a].sum() + p.white / model.solve.dt)
        unit = mean[a, a] + 3.0 * noise + abs(p.drive(0.0))
        draws = Draws(Key(0x5EED), len(factors))
        h = p.drive(0.0) + unit * factors + noise * np.array([draws.standard_normal() for _ in range(n_steps)])
        try:
            y = runner.run(h, draws, np.full(n_steps, p.white), keep_state=False)[0]
        except ConvergenceError:
            continue
        held = mean[a, a] * y[n_steps // 2 :].mean(axis=0).reshape(-1, EACH).mean(axis=1) >= unit * FACTORS
        if held.any():
            begin = abs(p.drive(0.0)) + 3.0 * noise  # what GaussianDrive multiplies, nearly
            found = max(found or 0.0, float(unit * FACTORS[np.flatnonzero(held)[-1]]) / max(begin, 1e-12))
    return found
