"""Couplings whose maximum lies at infinity: found by counting, pinned, and given a stated finite value.

A weight that belongs to one lag of one source runs to -infinity if the target never fires at that lag after it, and to
+infinity if it always does.  The likelihood then has a supremum, reached when the rows behind the source are certain:
they
leave the fit of everything else (``pinned``), and the weight gets the value at which half a spike would be expected in
them (Krichevsky-Trofimov).  Only if at least ``EVIDENCE`` spikes (or pauses) were expected there without any coupling:
fewer say nothing, and the weight is fixed at 0.  All are listed as unbounded, without error.

A weight of a function of several lags, or of an input, that runs away at the maximum is *held*: a Gaussian prior of
standard deviation ``HELD_SD`` on it alone gives it a finite value on the side to which it runs, and what it does not
touch is as good as in the limit.  So is the weight of a source behind which alone a unit fires (pauses), where
``EVIDENCE`` spikes (pauses) were expected elsewhere: the constant then runs to -infinity (+infinity) as the weight runs
to the other side, and has no error either.  A unit that fires (or pauses) less often than it has parameters says
nothing about them: only its rate is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lft import links
from lft._kernels import lagged
from lft.inference.causal.design import LANES
from lft.inference.newton import EVIDENCE

MIN_EVENTS = 20  # spikes of a source per function, or of a target per parameter, below which a sandwich is too small
HELD = "held"


@dataclass
class Bounds:
    """What one target has to do without.

    ``keep`` free places; ``certain`` cells (lag k, source, sign); ``dropped`` cells (k, source, why); ``pinned``
    (rows, sign) or None; ``held`` places (part of ``keep``); ``alone`` places of sources behind which alone the unit
    fires or pauses (part of ``held``); ``rare`` (spikes or pauses, parameters) of a unit of which only the rate is
    fitted.
    """

    keep: np.ndarray
    certain: list = field(default_factory=list)
    dropped: list = field(default_factory=list)
    pinned: tuple | None = None
    held: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    alone: list = field(default_factory=list)
    rare: tuple | None = None


def exposures(design):
    """(K, N) rows that each lagged source touches."""
    sums = np.zeros((design.n_lags, design.table.n_units, LANES))
    ones = np.ones((design.table.n_bins, LANES))
    for a, b in design.chunks():
        lagged.gather(design.table.ptr, design.table.unit, design.fits, a, b, ones[a:b], sums)
    return sums[:, :, 0]


def expected(design, exposed, rate):
    """(N, M) spikes of a target with this rate expected behind each source within each function of the basis.

    ``rate sum_k |b_m(k)|/max|b_m| n_j(k)``, n_j(k) the rows behind the source j at lag k.  Below ``EVIDENCE`` the
    estimate of the weight is skewed, and its error rough.
    """
    size = np.abs(design.cross) / np.abs(design.cross).max(axis=0)
    return rate * (exposed.T @ size)


def coincidences(batch):
    """(K, N, lanes) spikes of the targets behind each lagged source, and spikes (lanes,)."""
    d = batch.design
    sums, total = np.zeros((d.n_lags, d.table.n_units, LANES)), np.zeros(LANES)
    for a, b in d.chunks():
        y = batch.counts(a, b)
        total += y[d.fits[a:b].astype(bool)].sum(axis=0)
        lagged.gather(d.table.ptr, d.table.unit, d.fits, a, b, y, sums)
    return sums, total


def find(batch, exposed, refractory, is_penalized):
    """:class:`Bounds` of each lane, and the counts (together, total) behind them."""
    d = batch.design
    together, total = coincidences(batch)
    out = []
    for lane, i in enumerate(batch.targets):
        bounds = Bounds(d.places(i))
        dead = [(k, i, -1) for k in range(1, refractory + 1)]
        if not is_penalized:
            _check_cells(d, i, bounds, exposed, together[:, :, lane], total[lane])
            _check_count(d, i, bounds, total[lane])
            bounds.held = np.array(bounds.alone, np.int64)
        bounds.pinned = pinned_rows(d, dead + bounds.certain)
        out.append(bounds)
    return out, (together, total)


def first_guess(batch, exposed, counts, rates, bounds, ridge):
    """(size, lanes) start of Newton: of each lag of each source alone, the log of spikes seen over spikes expected.

    Newton from zero couplings overshoots where a rare source raises the rate severalfold.  Smooth bases start from 0.
    """
    d = batch.design
    together, total = counts
    theta = np.zeros((d.size, LANES))
    prior = max(ridge, 1.0)
    for lane, i in enumerate(batch.targets):
        theta[0, lane] = links.inverse(d.link, rates[i])
        if not d.is_identity or (d.own is not None and not d.same_own):
            continue
        expected = exposed * total[lane] / d.n_fitted
        guess = np.log((together[:, :, lane] + prior) / (expected + prior))[:, d.sources]
        w = np.zeros(d.size)
        w[d.n_dense :] = guess.T.ravel()
        w[np.setdiff1d(np.arange(d.size), bounds[lane].keep)] = 0.0
        mean = (exposed[:, d.sources] / d.n_fitted).T.ravel()
        theta[d.n_dense :, lane] = w[d.n_dense :]
        theta[0, lane] -= mean @ np.expm1(w[d.n_dense :])
    return theta


def _check_cells(d, i, bounds, exposed, together, total):
    n, binary = d.n_fitted, d.link != "poisson"
    free = np.ones(d.size, bool)
    for s, j in enumerate(d.sources):
        matrix = d.own if j == i else d.cross
        if matrix is None:
            continue
        for m in range(matrix.shape[1]):
            lags = np.flatnonzero(matrix[:, m])
            if len(lags) != 1:  # a function of several lags: seen by its error at the maximum
                if not exposed[lags, j].any():
                    free[d.n_dense + s * d.width + m] = False
                    bounds.dropped.append((m, int(j), "the source never fires before a fitted bin"))
                continue
            k = int(lags[0])
            why, sign = _cell(exposed[k, j], together[k, j], total, n, binary)
            place = d.n_dense + s * d.width + m
            if sign is HELD:
                bounds.alone.append(place)
                continue
            if not why:
                continue
            free[place] = False
            if sign:
                bounds.certain.append((k + 1, int(j), sign))
            else:
                bounds.dropped.append((k + 1, int(j), why))
    bounds.keep = bounds.keep[free[bounds.keep]]


def _check_count(d, i, bounds, total):
    """Leave only the rate to a unit with fewer spikes (pauses) than parameters."""
    events = total if d.link == "poisson" else min(total, d.n_fitted - total)
    if events >= len(bounds.keep):
        return
    bounds.rare = int(events), len(bounds.keep)
    for place in bounds.keep[bounds.keep >= d.n_dense]:
        s, m = divmod(int(place) - d.n_dense, d.width)
        number = m + 1 if d.is_identity else m
        bounds.dropped.append((number, int(d.sources[s]), "fewer spikes than parameters"))
    bounds.certain.clear()
    bounds.alone.clear()
    bounds.keep = np.zeros(1, np.int64)


def _cell(exposed, both, total, n, binary):
    """(why there is no maximum or "", sign of the infinity, 0 where there is too little evidence, or HELD)."""
    if exposed == 0 or exposed == n:
        return "the source never (or always) fires there", 0
    expected = exposed * total / n
    if both == 0:
        return "never together", -1 if expected >= EVIDENCE else 0
    if not binary:
        return "", 0
    if total - both <= 0:
        return "the unit fires behind this source alone", HELD if total - expected >= EVIDENCE else 0
    if both >= exposed:
        return "always together", 1 if exposed - expected >= EVIDENCE else 0
    if n - exposed - total + both <= 0:
        pauses = (n - exposed) * (n - total) / n  # expected elsewhere
        return "the unit pauses behind this source alone", HELD if pauses >= EVIDENCE else 0
    return "", 0


def pinned_rows(d, cells):
    """Rows behind the cells, ascending, with their sign (the first cell of a row counts)."""
    if not cells:
        return None
    rows = [d.table.times(j).astype(np.int64) + k for k, j, _ in cells]
    signs = [np.full(len(r), s) for r, (_, _, s) in zip(rows, cells, strict=True)]
    rows, signs = np.concatenate(rows), np.concatenate(signs)
    inside = (rows < d.table.n_bins) & (d.fits[np.minimum(rows, d.table.n_bins - 1)] > 0)
    rows, first = np.unique(rows[inside], return_index=True)
    return rows, signs[inside][first].astype(float)


def settle(batch, lane, bounds, theta, table):
    """Write the stated values of the certain cells into the filters ``table`` (K, N, lanes)."""
    d, i = batch.design, batch.targets[lane]
    for k, j, sign in bounds.certain:
        rows = d.table.times(j).astype(np.int64) + k
        rows = np.unique(rows[rows < d.table.n_bins])
        rows = rows[d.fits[rows] > 0]
        eta = eta_at(batch, theta, table, rows, lane)
        target = 0.5 if sign < 0 else len(rows) - 0.5
        low, high = -60.0, 60.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if links.mean(d.link, eta + middle).sum() < target else (low, middle)
        table[k - 1, j, lane] = min(low, 0.0) if sign < 0 else max(low, 0.0)
    return i


def eta_at(batch, theta, table, rows, lane):
    """Linear predictor of one lane at some rows, from its filters."""
    d = batch.design
    out = np.full(len(rows), theta[0, lane])
    if d.n_dense > 1:
        for number, row in enumerate(rows):
            out[number] += d.dense(int(row), int(row) + 1)[0, 1:] @ theta[1 : d.n_dense, lane]
    filters = np.ascontiguousarray(table[:, :, lane])
    ptr, unit = d.table.ptr, d.table.unit
    for number, row in enumerate(rows):
        for k in range(1, d.n_lags + 1):
            spikes = unit[ptr[row - k] : ptr[row - k + 1]]
            out[number] += filters[k - 1, spikes].sum()
    return out
