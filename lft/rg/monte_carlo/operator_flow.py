"""Flow of couplings in a space of operators: block, fit again, and say at each level what the space leaves out.

The operators of :mod:`lft.rg.monte_carlo.operators` and the fits of :mod:`lft.rg.monte_carlo.refit`, over batches of
configurations that are seen once (:mod:`lft.rg.monte_carlo.cascade`).  Truncation is reported by level in two ways:

- *outside*: for operators that the space does not contain, the coupling that one Newton step would give them, its
  error, and the gain in pseudo-likelihood (nats per site);
- *simulation*: means of operators inside and outside the space, per product, in the blocked configurations and in a
  simulation of the fitted couplings on the same lattice.
"""

from __future__ import annotations

import math

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.rg.flow import Flow, Level
from lft.rg.monte_carlo.cascade import block_batch, plan_cascade
from lft.rg.monte_carlo.refit import BLOCKS, PatternTable, match_moments, maximize, simulated_moments
from lft.rng import Key

ESTIMATORS = ("pseudo", "moments")
CHAINS = 32
"""Chains of a simulation at the fitted couplings."""
MAX_SIMULATED = 1 << 20
"""Largest chains times sites that are simulated to show truncation."""
SWEEPS, THERMALIZE = 200, 100


class _Stage:
    """What is collected at one level: patterns, sums of operators, a few configurations to start simulations from."""

    def __init__(self, compiled, operators, outside, kind, n):
        self.lattice, self.compiled = compiled.lattice, compiled
        self.table = PatternTable(compiled.lattice, [*operators, *outside], kind)
        self.kind, self.sums, self.up, self.starts = kind, [], [], []
        self.keep = {k * n // CHAINS for k in range(CHAINS)}

    def add(self, values, first, n, n_blocks):
        self.sums.append(self.compiled.sums(values, self.kind))
        self.up.append((values > 0).reshape(len(values), -1).sum(axis=1))
        number = (first + np.arange(len(values))) * n_blocks // n
        for b in np.unique(number):
            self.table.add_to(int(b), values[number == b])
        self.starts += [values[k - first].copy() for k in sorted(self.keep) if first <= k < first + len(values)]


def operator_flow(batches, n, lattice, operators, outside=(), *, blocking="majority", factor=2, levels=3, k=None,
                  seed=0, kind="spin", estimator="pseudo", has_simulation=True):  # fmt: skip
    """Couplings of a space of operators by level.

    Parameters
    ----------
    batches : iterable of ndarray of int8, shape (n_batch, *storage shape)
    n : int
        Configurations in all.
    lattice : Lattice
    operators, outside : sequence of Operator
        The space, and what is tested against it.
    blocking, factor, levels, k, seed, kind
        As in :func:`lft.rg.monte_carlo.cascade.measure_cascade`.
    estimator : {"pseudo", "moments"}
        Pseudo-likelihood, or from there moment matching (32 chains).
    has_simulation : bool, optional
        Whether truncation is also shown by a simulation, up to 2^20 sites times chains.

    Returns
    -------
    lft.rg.flow.Flow
        It ends early, with a note, where the lattice is too small or a fit fails.

    Raises
    ------
    InputError, DivergenceError
        Bad arguments; a level 0 that cannot be fitted.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"estimator {estimator!r}: valid are {', '.join(ESTIMATORS)}")
    outside = [o for o in outside if o not in operators]
    plans, products, notes = plan_cascade(lattice, [*operators, *outside], blocking, factor, levels, k)
    stages = []
    for level, compiled in enumerate(products):
        try:
            stages.append(_Stage(compiled, operators, outside, kind, n))
        except InputError as reason:
            if level == 0:
                raise
            notes.append(f"level {level}: no fit: {reason}")
            break
    done, n_blocks = 0, max(1, min(BLOCKS, n))
    for batch in batches:
        values = np.ascontiguousarray(batch, np.int8)
        for level, stage in enumerate(stages):
            if level:
                values = block_batch(values, plans[level - 1], blocking, kind, k, seed, level, done)
            stage.add(values, done, n, n_blocks)
        done += len(batch)
    if done != n:
        raise InputError(f"{done} configurations came, {n} were announced")
    factors = (factor,) * len(lattice.shape) if isinstance(factor, int | np.integer) else tuple(factor)
    scale, out = (1,) * len(factors), []
    for level, stage in enumerate(stages):
        if level:
            scale = tuple(a * b for a, b in zip(scale, factors, strict=True))
        try:
            out.append(_level(stage, scale, len(operators), estimator, has_simulation, Key(seed, level)))
        except (InputError, DivergenceError) as reason:
            if level == 0:
                raise
            notes.append(f"level {level} (scale {'x'.join(map(str, scale))}): no fit: {reason}")
            break
        notes += [f"level {level}: {note}" for note in out[-1].notes]
    return Flow(out, lattice.axes, blocking, factors, notes=notes)


def _level(stage, scale, m, estimator, has_simulation, key):
    fit = maximize(stage.table, m)
    sums = np.concatenate(stage.sums).astype(float)
    mean, covariance = _means(sums)
    starts, lattice = np.stack(stage.starts), stage.lattice
    if stage.kind == "gas":
        starts = np.where(starts > 0, 1, -1).astype(np.int8)
    operators, truncation = stage.table.operators, {}
    if estimator == "moments":
        matched = match_moments(mean[:m], covariance[:m, :m], lattice, operators[:m], fit.values, starts, key)
        matched.notes[:0] = fit.notes
        fit, tested = matched, fit.outside
    else:
        tested = fit.outside
    if tested:
        truncation["outside"] = {name: _entry(v, e, gain=gain) for name, (v, e, gain) in tested.items()}
    notes = list(fit.notes)
    if has_simulation and len(starts) > 1 and starts.size <= MAX_SIMULATED:
        simulated, spread, _ = simulated_moments(lattice, operators, fit.values, starts, SWEEPS, Key(key.seed, 1 << 32),
                                                 2, THERMALIZE)  # fmt: skip
        number, error = stage.compiled.n_products, np.sqrt(np.diag(covariance) + np.diag(spread))
        truncation["simulation"] = {
            o.name: {"measured": float(a / c), "simulated": float(b / c), **_entry((b - a) / c, e / c),
                     "is_inside": i < m}
            for i, (o, a, b, e, c) in enumerate(zip(operators, mean, simulated, error, number, strict=True))
        }  # fmt: skip
    elif has_simulation:
        notes.append(f"no simulation at the fitted couplings: {starts.size} sites times chains exceed {MAX_SIMULATED}")
    observables = {o.name: (float(v / c), float(math.sqrt(s) / c)) for o, v, s, c in
                   zip(operators, mean, np.diag(covariance), stage.compiled.n_products, strict=True)}  # fmt: skip
    up = np.concatenate(stage.up) / lattice.n_active
    observables["density"] = (float(up.mean()), float(_means(up[:, None])[1][0, 0] ** 0.5))
    return Level(scale, lattice.spacing, lattice.shape, lattice.n_active, fit.couplings, observables, tuple(notes),
                 truncation)  # fmt: skip


def _entry(value, error, **more):
    number = lambda x: float(x) if math.isfinite(x) else None  # noqa: E731
    return {"value": number(value), "error": number(error), **{k: number(v) for k, v in more.items()}}


def _means(x):
    """Mean over configurations, and the covariance of that mean from blocks of them."""
    blocks = np.array([b.mean(axis=0) for b in np.array_split(x, max(1, min(BLOCKS, len(x))))])
    if len(blocks) < 2:
        return x.mean(axis=0), np.full((x.shape[1],) * 2, np.nan)
    return x.mean(axis=0), np.atleast_2d(np.cov(blocks.T)) / len(blocks)
