"""Fits of Gibbs models to rasters by maximum pseudo-likelihood: checks of the data, maximum, errors, held-out scores.

The steps, in order: what has no finite maximum by inspection of counts is taken out and named; the joint concave
problem is maximized (:mod:`lft.inference.pseudo.maximum`); parameters whose error shows a runaway are taken out and the
rest is fitted again; errors are a sandwich over blocks of time (:mod:`lft.inference.pseudo.errors`); the last stretch
of the recording is scored.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace

import numpy as np

from lft.archive import on_root
from lft.errors import InputError
from lft.inference import held, newton
from lft.inference.inputs import MAX_CELLS
from lft.inference.pseudo import errors
from lft.inference.pseudo import patterns as pattern_lists
from lft.inference.pseudo.checkpoint import Checkpoint, identity
from lft.inference.pseudo.drive import drive_of
from lft.inference.pseudo.information import ROWS_BYTES, rows_bytes
from lft.inference.pseudo.layout import Layout, all_pairs, counts_notes, levels_of, without
from lft.inference.pseudo.maximum import find_maximum, penalty
from lft.inference.pseudo.memory import check_memory
from lft.inference.pseudo.objective import GibbsObjective
from lft.inference.pseudo.result import MAX_NAMED, PseudoFit, couplings
from lft.inference.trials import checked_lags, checked_rasters

ERROR_OPERATIONS = 2e13  # multiplications for the factors of all rows: above, errors are left out
USER = {"a": "A", "b": "B", "C": "J_lag", "V": "V", "c": "I", "u": "u"}
"""Names of parameters in results."""


@dataclass(frozen=True)
class _Data:
    """What all ranks know of the recording."""

    spikes: tuple
    n_units: int
    lags: tuple
    n_train: int
    drive: object

    @property
    def n_rows(self):
        return len(self.spikes[1]) - 1


def fit_gibbs(model, rasters, *, lags=(), k_max=0, is_counted=False, test=0.2, ridge=0.0, n_blocks=None, bin_s=None,
              unit=None, comm=None, checkpoint=None, report=None, penalize=None, examine=None,
              inputs=None):  # fmt: skip
    """Fit a sum of terms by maximum joint pseudo-likelihood.

    Parameters
    ----------
    model : str
        For the record; ``neural`` reports (A, B, I) alone, the others J and h too.
    rasters : ndarray (T, N), or sequence of them
        0/1; several are trials, never joined.  On ranks above 0 it may be None.
    lags : sequence of int
        Of the memory b, shared by all units.
    k_max : int
        Directed couplings C_ij(k), k = 1 ... k_max.
    is_counted : bool
        Whether there is a potential V(K).  Above the largest K that occurs nothing tells it and it stays constant:
        a flat direction, named in ``unbounded`` and ``warnings``; ``continue_potential`` of
        :mod:`lft.inference.likelihood.counts` lets it fall, as :func:`lft.inference.neural_fit.fit_k_pairwise` does.
    test, ridge, n_blocks, bin_s, unit
        As in :func:`lft.inference.neural_fit.fit_neural`; the ridge acts on A and, as (ridge/8) C^2, on C.
    comm : mpi4py communicator, optional
        Ranks share the target units.
    checkpoint : path, optional
        File that keeps the search (and with the endings ``.0``, ``.1``, ... the errors of a large fit), so that the
        same call goes on after a kill; removed at the end.
    report : callable, optional
        Takes lines of progress, on rank 0.

    penalize : callable, optional
        ``objective -> (theta, influences (rows, size))``: another estimate in place of the maximum with ridge.
    examine : callable, optional
        Called with (objective, theta, influences) at the estimate.
    inputs : InputDesign, optional
        Time-dependent one-body couplings I_i^a = I_i - sum_q u_iq x_q(a); see :mod:`lft.inference.pseudo.drive`.

    Returns
    -------
    PseudoFit, on every rank
    """
    started = time.perf_counter()
    data = on_root(comm, _read, rasters, lags, k_max, test, inputs)
    ridge, unit = _checked(ridge, unit, data.n_units)
    report = report if report is not None and (comm is None or comm.Get_rank() == 0) else lambda line: None
    n, n_train = data.n_units, data.n_train
    fires = np.bincount(data.spikes[2][: data.spikes[1][n_train]], minlength=n)
    bounded = (fires > 0) & (fires < n_train)
    if not bounded.any():
        raise InputError(f"no unit both spikes and pauses within the {n_train} training bins: nothing to fit")
    n_ranks = 1 if comm is None else comm.Get_size()
    n_inputs = 0 if data.drive is None else data.drive.n_inputs
    report(check_memory(n, k_max, len(data.lags) + n_inputs, is_counted, data.n_rows, len(data.spikes[2]), n_ranks))
    layout, merged = _layout(data, np.flatnonzero(bounded), k_max, is_counted)
    if layout.n_values and rows_bytes(layout) > ROWS_BYTES:
        raise InputError(
            f"{len(layout.units)} units with {n_inputs} inputs: the rows of the information need "
            f"{rows_bytes(layout) / 1e6:.0f} MB; valid with inputs are {ROWS_BYTES / 1e6:.0f} MB: select fewer units"
        )
    lists = pattern_lists.build(
        n, data.spikes, shifts=layout.shifts, lags=layout.lags, counts=is_counted, drive=data.drive
    )
    silent, unbounded = held.silent_note(fires, n_train), [f"I[{i}]" for i in np.flatnonzero(~bounded)]
    warnings = [silent] if silent else []
    strength = ridge if penalize is None else 1.0  # only its being zero matters here
    layout, lost, notes = _bounded(lists, layout, fires, n_train, strength)
    layout, undriven = _driven_within(lists, layout, fires, n_train, penalize is None)
    lost, held_names = _pairs_of_silent(bounded) + lost, _user_names(sorted(layout.held, key=_by_numbers))
    warnings += notes + _few_bins(layout, n_train, strength)
    keeper = Checkpoint(None)
    if checkpoint is not None:
        options = {"model": model, "lags": data.lags, "k_max": k_max, "counted": is_counted, "ridge": ridge,
                   "n_train": n_train, "format": 2}  # fmt: skip
        if data.drive is not None:
            options["inputs"] = data.drive.digest()
        keeper = Checkpoint(checkpoint, identity(data.spikes, options), comm)
    if penalize is None:
        objective, theta, info, runaway = find_maximum(lists, layout, n_train, ridge, comm, keeper, report)
    else:
        objective, runaway = GibbsObjective(lists, layout, [(0, n_train)], comm), []
        theta, u = penalize(objective)
    layout = objective.layout
    merged = sorted(merged + [int(name[2:-1]) for name in runaway if name[0] == "V"])
    gone = sorted((name for name in runaway if name[0] == "u"), key=_by_numbers)
    unbounded += gone + (undriven if penalize is not None else [])
    names = _user_names(sorted(lost, key=_by_numbers) + [name for name in runaway if name[0] in "aC"])
    if names:
        warnings.append(held.fixed_note(names))
    if undriven:
        warnings.append(
            f"{len(undriven)} weights of inputs, u[input,unit], have no finite maximum, as the unit never (or always) "
            f"fires where the input acts: {held.some(undriven)}; "
            + (f"held by a prior of standard deviation {newton.HELD_SD:g}" if penalize is None else "fixed at 0")
            + ", without error"
        )
    if gone:
        warnings.append(f"{len(gone)} weights of inputs run away: {held.some(gone)}; fixed at 0, without error")
    if merged:
        warnings += counts_notes(merged, int(np.diff(data.spikes[1])[:n_train].max()))
    kind, notes = "penalized", []
    if penalize is None:
        u, kind, notes = _influences(objective, theta, info, ridge, n_blocks, keeper, report)
        carried = _carried(layout, info, u) if held_names else []
        u[:, carried] = np.nan
        unbounded += [USER[name[0]] + name[1:] for name in np.array(layout.names(), object)[carried]]
    pairs = [name for name in held_names if name[0] != "u"]
    if pairs:
        notes.insert(0, held.note(pairs, len(carried)))
    if examine is not None:
        examine(objective, theta, u)
    if n * (n - 1) // 2 + k_max * n * n > MAX_NAMED:
        notes.append("the couplings of pairs stand in the arrays of the fit alone, not among the named couplings")
    everything, complete, independent = _with_silent_units(objective, theta, bounded, fires)
    score, gain = _scores(everything, complete, independent, n_train)
    arrays = couplings(layout, theta, u, merged, model != "neural")
    arrays["I"] = -complete[slice(*everything.layout.first[4:6])]
    if data.drive is not None:
        rows = lists.rows_with([(0, n_train)], layout.counted.stop, layout.n_values)
        arrays |= {"input_names": list(data.drive.names), "inputs": _kept_columns(data, k_max),
                   "mean_input": rows @ data.drive.table / n_train}  # fmt: skip
    if "h" in arrays:
        arrays["h"][~bounded] = -arrays["I"][~bounded] / 2 + 0.0
        fixed = [name for name in names if name[0] == "A" and bounded[_units_of(name)].all()]
        arrays["h_error"][[i for name in fixed for i in _units_of(name)]] = np.nan
        if (held_names or fixed) and kind != "none":
            unbounded += [f"h[{i}]" for i in np.flatnonzero(np.isnan(arrays["h_error"]) & bounded)]
    keeper.remove()
    return PseudoFit(
        model=model, score=score, gain=gain, n_units=n, n_bins=data.n_rows, n_train=n_train, n_blocks=len(u),
        bin_s=bin_s, warnings=warnings + notes, unit=unit, errors_from=kind,
        unbounded=unbounded + names + [f"V[{k}]" for k in merged], **arrays,
        seconds=time.perf_counter() - started,
    )  # fmt: skip


# ---- what is given
def _read(rasters, lags, k_max, test, inputs):
    rasters = checked_rasters(rasters)
    lags = checked_lags(lags, rasters)
    longest = max(len(r) for r in rasters)
    if isinstance(k_max, bool) or not isinstance(k_max, int | np.integer) or not 0 <= k_max < longest:
        raise InputError(f"k_max = {k_max!r}: valid is an integer from 0 to {longest - 1} (bins)")
    spikes = pattern_lists.spikes_of(rasters)
    n_train = newton.split_rows(len(spikes[1]) - 1, test)
    return _Data(spikes, rasters[0].shape[1], lags, n_train, drive_of(inputs, [len(r) for r in rasters], n_train))


def _checked(ridge, unit, n):
    if isinstance(ridge, bool) or not isinstance(ridge, int | float | np.number) or not 0 <= ridge < np.inf:
        raise InputError(f"ridge = {ridge!r}: valid is a finite number >= 0")
    unit = np.arange(n) if unit is None else np.asarray(unit)
    if unit.shape != (n,) or unit.dtype.kind not in "iu":
        raise InputError(
            f"unit: got shape {unit.shape} of type {unit.dtype}; valid is one integer per unit, {n}"
        )
    return float(ridge), unit.astype(np.int64)


def _layout(data, units, k_max, is_counted):
    """All parameters of the units that both spike and pause; numbers K that never occur."""
    directed, level, merged = None, None, []
    directed_lags = tuple(range(1, k_max + 1))
    if k_max:
        grid = np.meshgrid(directed_lags, units, units, indexing="ij")
        directed = np.stack([g.ravel() for g in grid], axis=1)
    if is_counted:
        counts = np.diff(data.spikes[1])[: data.n_train]
        level, merged = levels_of(np.bincount(counts, minlength=data.n_units + 1) > 0, data.n_units)
    values = driven = None
    if data.drive is not None:
        values = data.drive.table
        grid = np.meshgrid(units, np.arange(data.drive.n_inputs), indexing="ij")
        driven = np.stack([g.ravel() for g in grid], axis=1)
    pairs = all_pairs(data.n_units, units)
    return Layout(data.n_units, units, pairs, data.lags, directed, directed_lags, level, values, driven), merged


def _user_names(names):
    """``a[0,3]`` -> ``A[0,3]``, ``C[2,0,3]`` -> ``J_lag[2,0,3]``."""
    return [USER[name[0]] + name[1:] for name in names]


def _units_of(name):
    """The two units of ``A[0,3]``; of ``J_lag[1,0,3]`` the last two numbers."""
    return [int(i) for i in name[2:-1].split(",")]


def _pairs_of_silent(bounded):
    """Names of the pairs without a coupling because one of the units is left out."""
    pairs = np.argwhere(np.triu(~(bounded[:, None] & bounded[None, :]), 1)) if not bounded.all() else []
    return [f"a[{i},{j}]" for i, j in pairs]


def _by_numbers(name):
    return name[0], [int(part) for part in name[2:-1].split(",")]


def _bounded(lists, layout, fires, n_train, ridge):
    """Couplings that lack a joint state (:mod:`lft.inference.held`): some go, the others are held.

    Returns
    -------
    layout : Layout
    lost : list of str
        Names of the couplings that went.
    notes : list of str
    """
    n = layout.n_units
    together = lists.observed(np.array([[0, n_train, 0]]))[0].T
    notes = []
    i, j = layout.pairs.T
    twins = held.twin_note(layout.pairs[held.twins(together[i, j], fires[i], fires[j])])
    notes += [twins] if twins else []
    if ridge > 0:
        return layout, [], notes
    keep, is_held = np.ones(layout.size, bool), np.zeros(layout.size, bool)
    f = layout.first
    keep[: f[1]], is_held[: f[1]] = held.judged(together[i, j], fires[i], fires[j], n_train)
    if layout.n_directed:
        k, i, j = layout.directed.T
        shift = 2 * np.searchsorted(layout.directed_lags, k) + 1
        late = slice(f[2], f[3])
        keep[late], is_held[late] = held.judged(together[shift * n + j, i], fires[i], fires[j], n_train)
    if keep.all() and not is_held.any():
        return layout, [], notes
    names = np.array(layout.names(), object)
    return replace(without(layout, ~keep), held=frozenset(names[is_held])), names[~keep].tolist(), notes


def _driven_within(lists, layout, fires, n_train, is_held):
    """u of inputs that act in rows of one kind alone, spikes or pauses: (layout in which they are held, or which lacks
    them; their names)."""
    if not layout.n_driven:
        return layout, []
    place = slice(layout.counted.stop, layout.counted.stop + layout.n_values)
    spikes = lists.observed(np.array([[0, n_train, 0]]))[0][:, place]
    rows = lists.rows_with([(0, n_train)], layout.counted.stop, layout.n_values)
    acts = layout.values != 0
    unit, q = layout.driven.T
    within, spikes = rows @ acts, spikes @ acts  # (inputs,), (units, inputs)
    # an input that acts everywhere, such as a drift, is told by the fields; others where both occur
    keep = (within[q] == n_train) | ((spikes[unit, q] > 0) & (spikes[unit, q] < within[q]))
    drop = np.append(np.zeros(layout.first[5], bool), ~keep)
    if not drop.any():
        return layout, []
    names = np.array(layout.names(), object)[drop].tolist()
    return replace(layout, held=layout.held | set(names)) if is_held else without(layout, drop), names


def _kept_columns(data, k_max):
    """The columns of the inputs; None where they would need more than 2^22 numbers, or no field of one piece has them:
    several trials with couplings in time."""
    is_joined = len(data.spikes[0]) > 2 and (data.lags or k_max)
    if is_joined or data.n_rows * data.drive.n_inputs > MAX_CELLS:
        return None
    return data.drive.columns(0, data.n_rows)


def _few_bins(layout, n_train, ridge):
    """A conditional needs more bins than it has parameters."""
    per_unit = layout.size / max(len(layout.units), 1)
    widest = int(np.bincount(layout.pairs.ravel(), minlength=layout.n_units).max(initial=0)) + 1
    widest += len(layout.lags) + layout.n_levels
    widest += (2 * layout.n_directed + layout.n_driven) // max(len(layout.units), 1)
    if ridge == 0 and n_train <= widest:
        raise InputError(
            f"{n_train} training bins for {widest} parameters of each unit: every conditional can be fitted exactly; "
            "give ridge > 0, fewer units or a longer recording"
        )
    if n_train < 10 * widest:
        return [
            f"{n_train} training bins for {layout.size} parameters ({per_unit:.3g} per unit): expect large errors and "
            "biased couplings; a penalty, fewer units or a longer recording help"
        ]
    return []


# ---- errors
def _influences(objective, theta, info, ridge, n_blocks, keeper, report):
    """Scaled influences of the blocks (blocks, size), what they are made of, and notes."""
    layout = objective.layout
    edges = newton.fine_edges(objective.n_rows, objective.size, n_blocks)
    extra = penalty(layout, ridge) if ridge or layout.held else None
    f = layout.first
    classes = [np.arange(f[k], f[k + 1]) for k in range(len(f) - 1) if f[k] < f[k + 1]]
    longest = max([*layout.lags, *layout.directed_lags], default=0)
    kind, notes = "joint", []
    if rows_bytes(layout) <= ROWS_BYTES:
        scores = errors.block_scores(objective, theta, edges)
        u, warning = errors.joint_influences(info, scores, classes, objective.n_rows, longest, n_blocks)
    elif len(layout.units) * float(layout.n_features) ** 3 <= ERROR_OPERATIONS:
        kind = "rows"
        report(f"errors: {len(layout.units)} rows of {layout.n_features} features")
        if n_blocks is None:  # few enough to hold, enough for errors good to 10 %
            edges = np.linspace(0, objective.n_rows, min(errors.ROW_BLOCKS, objective.n_rows) + 1).astype(np.int64)
        u, bound = errors.row_influences(objective, theta, edges, extra, keeper, report)
        far = np.flatnonzero(bound > newton.RUNAWAY**2)
        if len(far):
            u[:, far] = np.nan
            classes = [c[bound[c] <= newton.RUNAWAY**2] for c in classes]
            notes.append(
                f"{len(far)} parameters show no finite maximum: {held.some([layout.names()[p] for p in far[:6]])}; "
                "without error (ridge > 0 keeps them)"
            )
        u, warning = errors.merged_influences(u, classes, objective.n_rows, longest, n_blocks)
        notes.append(
            "errors are those of every unit's own regression, the two values of each pair averaged: the matrix of all "
            f"{objective.size} parameters does not fit in memory"
        )
    else:
        notes.append(
            f"no errors: {len(layout.units)} factors of {layout.n_features} x {layout.n_features} take too long; "
            "select fewer units or lags for errors"
        )
        return np.full((1, objective.size), np.nan), "none", notes
    return u, kind, ([warning] if warning else []) + notes


def _carried(layout, info, u):
    """Places without an error (:func:`lft.inference.held.carried`).

    Where the rows do not fit in memory a solution is many passes over the data, and the fields of the two units stand
    for what moves.
    """
    places = np.flatnonzero(layout.is_held())
    if rows_bytes(layout) <= ROWS_BYTES:
        return np.flatnonzero(held.carried(info, places, np.sqrt((u**2).sum(axis=0))))
    near = {unit for name in layout.held for unit in _units_of(name)[-2:]}
    return np.union1d(places, layout.first[4] + np.flatnonzero(np.isin(layout.units, sorted(near))))


# ---- scores
def _with_silent_units(objective, theta, bounded, fires):
    """(objective of all units, its parameters, log-odds of the independent model): stated estimates where needed."""
    layout, n_train = objective.layout, objective.n_rows
    rate = np.where(bounded, fires / n_train, (fires + 0.5) / (n_train + 1))
    independent = np.log(rate / (1 - rate))
    everything = replace(layout, units=np.arange(layout.n_units))
    f, c = layout.first, np.zeros(layout.n_units)
    c[layout.units] = theta[f[4] : f[5]]
    complete = np.concatenate([theta[: f[4]], c, theta[f[5] :]])
    if bounded.all():
        return objective, complete, independent
    all_units = GibbsObjective(objective.patterns, everything, objective.ranges, objective.comm)
    for i in np.flatnonzero(~bounded):
        offset, number = _offsets(all_units, complete, i, n_train)
        complete[everything.first[4] + i] = newton.solve_fields(
            offset, number, np.zeros(len(offset), int), 1, np.array([rate[i] * n_train])
        )[0]
    return all_units, complete, independent


def _offsets(objective, theta, i, n_train):
    """Log-odds of a unit without couplings of pairs, apart from its c: values and numbers of bins."""
    layout, lists = objective.layout, objective.patterns
    weights = (objective.matrix @ theta).reshape(layout.n_units, -1)[i]
    offset = np.zeros(n_train)
    if layout.level is not None:
        offset += weights[layout.counted][lists.count[:n_train]]
    tile = i // pattern_lists.LANES
    entries = slice(*lists.own_start[tile : tile + 2])
    mine = (lists.own_unit[entries] == i) & (lists.own_row[entries] < n_train)
    row, feature = lists.own_row[entries][mine], lists.own_feature[entries][mine]
    np.add.at(offset, row, weights[layout.n_shared + feature])
    values, number = np.unique(offset, return_counts=True)
    return values, number.astype(float)


def _scores(objective, theta, independent, n_train):
    """Pseudo-log-likelihood per bin and unit; gain over independent units, by blocks of the test stretch."""
    n, n_rows = objective.layout.n_units, objective.patterns.n_rows
    longest = max([*objective.layout.lags, *objective.layout.directed_lags], default=0)
    n_test = n_rows - n_train
    n_blocks = max(min(20, n_test // max(10 * longest, 1)), 1) if n_test else 0
    edges = np.linspace(n_train, n_rows, n_blocks + 1).astype(int) if n_test else np.zeros(0, int)
    values = np.zeros((n_blocks, 2))
    softplus = np.logaddexp(0, independent).sum()
    for b, (start, stop) in enumerate(itertools.pairwise(edges)):
        fires = np.bincount(_spikes_between(objective.patterns, start, stop), minlength=n)
        values[b] = objective.log_likelihood(theta, start, stop), fires @ independent - (stop - start) * softplus
    sizes = np.diff(edges) * float(n)
    test = values.sum(axis=0) / sizes.sum() if n_test else np.full(2, np.nan)
    score = {
        "kind": "pseudo-log-likelihood",
        "train": objective.log_likelihood(theta, 0, n_train) / (n_train * n),
        "test": float(test[0]),
        "test_independent": float(test[1]),
    }
    return score, newton.gain_with_error(values[:, 0] - values[:, 1], sizes)


def _spikes_between(lists, start, stop):
    feature = lists.feature[lists.start[start] : lists.start[stop]]
    return feature[feature < lists.n_units]
