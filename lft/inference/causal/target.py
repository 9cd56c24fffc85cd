"""From the maximum of one target to its couplings with errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.inference import newton
from lft.inference.causal import boundary


@dataclass(frozen=True)
class TargetResult:
    """Rows of the result arrays of one target, and what is to be said about it."""

    target: int
    rows: dict
    unbounded: list
    notes: list
    scores: np.ndarray  # (stretches, 3)
    n_blocks: int
    warning: str | None
    rare: tuple | None = None


class _Spread:
    """Standard errors of linear functions of the free parameters, by influences and by the inverse information."""

    def __init__(self, influences, inverse, held, is_few=False):
        """``held`` parameters have no errors, nor has what depends on them; ``is_few``: too few spikes for influences,
        the larger of the two errors stands for the first."""
        self.u, self.inverse, self.is_few = influences, inverse, is_few and inverse is not None
        if len(held):
            self.u = influences.copy()
            self.u[:, held] = np.nan
            if inverse is not None:
                inverse[held], inverse[:, held] = np.nan, np.nan
        self.each = np.sqrt((self.u**2).sum(axis=0))
        self.plain = np.full(len(self.each), np.nan) if inverse is None else np.sqrt(inverse.diagonal())
        if self.is_few:
            self.each = np.fmax(self.each, self.plain)

    def of(self, places, matrix):
        """Errors of ``matrix @ theta[places]``: (sandwich, information)."""
        with np.errstate(invalid="ignore"):
            first = np.sqrt(((self.u[:, places] @ matrix.T) ** 2).sum(axis=0))
            if self.inverse is None:
                return first, np.full(len(matrix), np.nan)
            part = self.inverse[np.ix_(places, places)]
            second = np.sqrt(np.maximum(((matrix @ part) * matrix).sum(axis=1), 0.0))
            return np.fmax(first, second) if self.is_few else first, second


def finish_target(task, batch, lane, bounds, theta, table, information, influences, scores):
    """:class:`TargetResult` of a lane; ``table`` (K, N, lanes) are the filters with the stated boundary values."""
    d, i = task.design, batch.targets[lane]
    u, warning = influences
    keep, values = bounds.keep, theta[:, lane]
    at = np.full(d.size, -1)  # place -> position among the free parameters
    at[keep] = np.arange(len(keep))
    # the scores of a unit with few spikes per parameter are fitted away, like those behind a rare source below
    events = task.rates[i] * d.n_fitted
    events = events if d.link == "poisson" else min(events, d.n_fitted - events)
    is_few = task.ridge == 0 and events < boundary.MIN_EVENTS * len(keep)  # a ridge fits less away
    spread = _Spread(u, None if information is None else information.inverse(), at[bounds.held], is_few)
    n, scale = d.table.n_units, 4.0 if task.spins else 1.0
    filters = table[:, :, lane] / scale
    error, plain = np.full((d.n_lags, n), np.nan), np.full((d.n_lags, n), np.nan)
    w, w_error = np.zeros((n, d.n_cross)), np.full((n, d.n_cross), np.nan)
    own, own_error = np.zeros(d.n_own), np.full(d.n_own, np.nan)
    for s, j in enumerate(d.sources):
        matrix = d.own if j == i else d.cross
        if matrix is None:
            continue
        places = d.n_dense + s * d.width + np.arange(matrix.shape[1])
        free = np.flatnonzero(at[places] >= 0)
        used = at[places[free]]
        if d.is_identity and d.same_own:
            error[free, j], plain[free, j] = spread.each[used] / scale, spread.plain[used] / scale
        elif len(used):
            part = matrix[:, free]
            touched = np.abs(part).max(axis=1) > 0
            first, second = spread.of(used, part[touched])
            error[touched, j], plain[touched, j] = first / scale, second / scale
        each = spread.each[used]
        if len(d.table.times(j)) < boundary.MIN_EVENTS * matrix.shape[1]:
            # as good as no block holds a second spike: the score of each is fitted away, and the sandwich too small
            error[:, j], each = np.fmax(error[:, j], plain[:, j]), np.fmax(each, spread.plain[used])
        target, target_error = (own, own_error) if j == i else (w[j], w_error[j])
        target[:] = values[places]
        target_error[free] = each
    c = np.arange(d.n_dense)
    half = 2.0 if task.spins else 1.0
    rows = {
        "J_lag": filters, "J_lag_error": error, "J_lag_error_information": plain, "weights": w,
        "weights_error": w_error, "own_weights": own, "own_weights_error": own_error,
        "weights_expected": boundary.expected(d, task.exposed, task.rates[i]),
        "input_weights": values[1 : d.n_dense] / half,
    }  # fmt: skip
    rows["input_error"] = np.full(d.n_dense - 1, np.nan)
    there = np.flatnonzero(at[c[1:]] >= 0)
    rows["input_error"][there] = spread.each[at[c[1:]][there]] / half
    rows["h"], rows["h_error"], rows["h_error_information"] = _field(task, spread, filters, values, at, i)
    if bounds.alone:  # the constant runs away with them
        rows["h_error"] = rows["h_error_information"] = np.nan
    unbounded, notes = _names(task, bounds, i)
    if task.refractory:
        unbounded += [f"J[{k},{i},{i}]" for k in range(1, task.refractory + 1)]
    return TargetResult(i, rows, unbounded, notes, scores, len(u), warning, bounds.rare)


def _field(task, spread, filters, values, at, i):
    """h with its two errors; of spins ``h = c/2 + sum_kj J_ij(k)``."""
    d = task.design
    if not task.spins:
        first, second = spread.of(np.array([at[0]]), np.ones((1, 1)))
        return values[0], first[0], second[0]
    free = np.flatnonzero(at >= 0)
    sums = np.zeros((len(d.sources), d.width))
    sums[:, : d.n_cross] = d.cross.sum(axis=0)
    if d.place[i] >= 0:
        sums[d.place[i]] = 0.0
        if d.own is not None:
            sums[d.place[i], : d.n_own] = d.own.sum(axis=0)
    weight = np.concatenate([[0.5], np.zeros(d.n_dense - 1), sums.ravel() / 4])[free]
    first, second = spread.of(at[free], weight[None])
    return values[0] / 2 + filters.sum(), first[0], second[0]


def _names(task, bounds, i):
    """Names of what has no maximum, and sentences about it."""
    d = task.design
    unbounded, notes = [], []
    for k, j, sign in bounds.certain:
        name = f"J[{k},{i},{j}]"
        unbounded.append(name)
        notes.append(f"{name} -> {'-' if sign < 0 else '+'}infinity (value at which half a spike is expected)")
    if bounds.rare is not None:
        unbounded += [f"u[{q},{i}]" for q in range(d.n_dense - 1)]
    for place in bounds.held:
        s, m = divmod(int(place) - d.n_dense, d.width)
        name = f"u[{place - 1},{i}]" if place < d.n_dense else f"w[{m},{i},{d.sources[s]}]"
        if place >= d.n_dense and d.is_identity:
            name = f"J[{m + 1},{i},{d.sources[s]}]"
        unbounded.append(name)
        why = ""
        if place in bounds.alone:
            why = "the unit fires, or pauses, behind this source alone, so h has no maximum either; "
        notes.append(f"{name} ({why}held by a prior of standard deviation {newton.HELD_SD:g})")
    unbounded += [f"h[{i}]"] * bool(bounds.alone)
    for k, j, why in bounds.dropped:
        name = f"J[{k},{i},{j}]" if d.is_identity else f"w[{k},{i},{j}]"
        unbounded.append(name)
        if bounds.rare is None:
            notes.append(f"{name} ({why}; fixed at 0)")
    return unbounded, notes
