"""Fits of causal models by maximum likelihood: kinetic Ising and generalized linear models.

The likelihood is exact and factorizes over targets; eight targets at a time go through damped Newton steps, and batches
are dealt to ranks.  A batch is computed by one rank alone, so results have the same bits for any number of ranks.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import numpy as np

from lft import links
from lft.errors import InputError
from lft.groups import Groups
from lft.inference import newton
from lft.inference.basis import Basis, make_basis
from lft.inference.causal import boundary
from lft.inference.causal.approach import approach, serves
from lft.inference.causal.design import LANES, Batch, Design
from lft.inference.causal.examine import Examined
from lft.inference.causal.objective import SingularTarget, maximize_batch
from lft.inference.causal.result import CausalFit
from lft.inference.causal.spikes import MAX_COUNT, SpikeTable
from lft.inference.causal.target import finish_target
from lft.inference.causal.together import Together
from lft.inference.inputs import MAX_CELLS, BoundInputs, InputDesign
from lft.inference.trials import checked_rasters

MAX_BYTES = 16e9
FAMILIES = ("bernoulli", "poisson")


@dataclass(frozen=True)
class Task:
    """Everything that the batches of a fit share."""

    design: Design  # training rows
    scored: Design  # all rows with their past
    n_train: int
    ridge: float
    refractory: int
    n_blocks: int | None
    spins: bool
    rates: np.ndarray
    exposed: np.ndarray
    penalize: object = None
    examine: object = None


def fit_kinetic(rasters, *, n_lags=1, own=True, inputs=None, test=0.2, ridge=0.0, n_blocks=None, bin_s=None,
                unit=None, comm=None, penalize=None, examine=None):  # fmt: skip
    """Kinetic Ising model: spins drawn bin by bin given the past.

        P(s_i^a) = exp(s_i^a H_i)/(2 cosh H_i),    H_i(a) = h_i + sum_{k=1..K} sum_j J_ij(k) s_j^{a-k} + sum_q u_iq
        x_q(a)

    with s = 2 phi - 1.  Couplings are directed: ``J_lag[k-1, i, j]``, row = target.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1; several are trials.  The first K bins of each trial have no known past and are not fitted.
    n_lags : int
        K >= 1.
    own : bool
        Whether a unit's own past counts (J_ii).
    inputs : InputDesign, optional
        Time-dependent input.
    test : float
        Fraction at the end that is scored, not fitted.
    ridge : float
        L2 penalty in nats, ``-(ridge/2) sum w^2`` with the log-odds weights ``w = 4 J``, the same as in
        :func:`fit_glm`; h and inputs stay free.
    n_blocks : int, optional
        Blocks behind the sandwich errors; default 20 to 100, from the correlation of the scores.
    bin_s, unit
        Bin width in seconds and indices of the units, for the record.
    comm : mpi4py communicator, optional
        Targets are dealt to its ranks; all get the result.
    penalize : callable, optional
        ``objective of one target -> (theta, influences (rows, size))``: another estimate in place of the maximum with
        ridge.
    examine : callable, optional
        Called for each target with (objective, theta, influences, :class:`lft.inference.causal.examine.Examined`):
        bootstrap, posterior.

    Returns
    -------
    CausalFit

    Raises
    ------
    InputError
        Bad arguments, no unit that both fires and pauses, two units with the same spikes (without ridge), more
        parameters than bins (without ridge).
    DivergenceError
        A unit's spikes are predicted perfectly.

    Notes
    -----
    Exact Newton; per target and step ``(spikes in the past of a bin)^2/2`` additions per bin and one Cholesky factor of
    P = 1 + N K parameters.  1000 units, 1e6 bins, rate 1 %, one lag: see docs/causal-models.md.  Weights without a
    finite
    maximum: :mod:`lft.inference.causal.boundary`.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.causal.model import CausalModel
    >>> true = CausalModel.of_spins(np.array([-0.5, -0.3]), np.array([[[0.0, 0.4], [0.0, 0.0]]]))
    >>> fit = fit_kinetic(true.simulate(20000, seed=1)[0])
    >>> bool(abs(fit.J_lag[0, 0, 1] - 0.4) < 4.5 * fit.J_lag_error[0, 0, 1]), fit.J_lag.shape
    (True, (1, 2, 2))
    """
    if isinstance(n_lags, bool) or not isinstance(n_lags, int | np.integer) or n_lags < 1:
        raise InputError(f"n_lags = {n_lags!r}: valid is an integer >= 1")
    basis = make_basis("identity", n_lags, n_lags)
    return _fit("kinetic", rasters, basis, basis if own else None, "logit", 0, inputs, test, ridge, n_blocks, bin_s,
                unit, comm, penalize, examine)  # fmt: skip


def fit_glm(rasters, *, family="bernoulli", link=None, basis=None, own_basis="same", refractory=0, inputs=None,
            test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None, comm=None, penalize=None,
            examine=None):  # fmt: skip
    """Generalized linear model of spikes, with coupling filters and own-history filters in a basis.

        eta_i(a) = h_i + sum_j sum_k J_ij(k) n_j^{a-k} + sum_q u_iq x_q(a),    J_ij(k) = sum_m w_ijm b_m(k)

    ``bernoulli``: n = 0, 1, ``eta`` the log-odds (link ``logit``) or ``log(-log(1 - p))`` (``cloglog``, the rate of a
    Poisson process in continuous time); ``poisson``: counts, ``eta`` the log-rate per bin.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1, or counts up to 127 (``poisson``), one per trial.
    family : {"bernoulli", "poisson"}
    link : {"logit", "cloglog"}, optional
        Of ``bernoulli``.
    basis : Basis, optional
        Default one weight at lag 1.
    own_basis : Basis or None or "same"
        Of the own history; None leaves it out.
    refractory : int
        Bins after a spike in which a unit cannot fire: J_ii = -infinity there, and the own filter begins behind them.
    inputs, test, ridge, n_blocks, bin_s, unit, comm, penalize, examine
        As in :func:`fit_kinetic`; the ridge acts on the weights w of the basis as it is.

    Returns
    -------
    CausalFit

    Raises
    ------
    InputError
        Also a spike within the refractory time of another.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.basis import make_basis
    >>> raster = (np.random.default_rng(0).random((6000, 3)) < 0.1).astype(np.int8)
    >>> fit = fit_glm(raster, basis=make_basis("raised-cosine", 3, 10))
    >>> fit.J_lag.shape, fit.weights.shape, bool(abs(fit.J_lag[2, 0, 1]) < 4.5 * fit.J_lag_error[2, 0, 1])
    ((10, 3, 3), (3, 3, 3), True)
    """
    if family not in FAMILIES:
        raise InputError(f"family = {family!r}: valid are {', '.join(FAMILIES)}")
    if family == "poisson" and link not in (None, "log"):
        raise InputError(f"link = {link!r}: the family poisson has the link log")
    link = "poisson" if family == "poisson" else link or "logit"
    if link not in links.LINKS:
        raise InputError(f"link = {link!r}: valid are logit, cloglog")
    basis = make_basis("identity", 1, 1) if basis is None else basis
    own = basis if isinstance(own_basis, str) and own_basis == "same" else own_basis
    for name, b in (("basis", basis), ("own_basis", own)):
        if b is not None and not isinstance(b, Basis):
            raise InputError(f"{name} = {b!r}: valid is a Basis (lft.inference.basis)")
    if isinstance(refractory, bool) or not isinstance(refractory, int | np.integer) or refractory < 0:
        raise InputError(f"refractory = {refractory!r}: valid is a number of bins >= 0")
    basis, own = _same_lags(basis, own, refractory)
    if refractory and own is not None and own.n_lags > refractory:
        own = own.after(int(refractory))
    return _fit("glm", rasters, basis, own, link, int(refractory), inputs, test, ridge, n_blocks, bin_s, unit, comm,
                penalize, examine)  # fmt: skip


def _same_lags(basis, own, refractory):
    """Both bases on the longest lag of any part, by lags of zero weight."""
    n = max(basis.n_lags, refractory, own.n_lags if own is not None else 0)

    def longer(b):
        if b is None or b.n_lags == n:
            return b
        return Basis(b.name, np.concatenate([b.matrix, np.zeros((n - b.n_lags, b.size))]))

    return longer(basis), longer(own)


def make_task(rasters, basis, own, link, refractory=0, inputs=None, test=0.2, ridge=0.0, n_blocks=None, spins=False,
              penalize=None, examine=None):  # fmt: skip
    """(:class:`Task`, warnings, targets that can be fitted) of checked arguments."""
    if isinstance(ridge, bool) or not isinstance(ridge, int | float | np.number) or not 0 <= ridge < np.inf:
        raise InputError(f"ridge = {ridge!r}: valid is a finite number >= 0")
    rasters = checked_rasters(rasters, MAX_COUNT if link == "poisson" else 1)
    lengths, n_lags = [len(r) for r in rasters], basis.n_lags
    short = [n for n, length in enumerate(lengths) if length <= n_lags]
    if len(short) == len(lengths):
        raise InputError(
            f"{n_lags} lags, the longest trial has {max(lengths)} bins: valid are fewer lags than bins of a trial"
        )
    warnings = []
    if n_lags and len(lengths) > 1:
        warnings.append(
            f"the first {n_lags} bins of each of {len(lengths)} trials have no known past and are not fitted"
        )
    if short:
        warnings.append(f"{len(short)} trials are no longer than the {n_lags} lags and are left out: {_some(short)}")
    table = SpikeTable.of(rasters)
    n_train = newton.split_rows(table.n_bins, test)
    usable = table.has_past(n_lags)
    fits = usable.copy()
    fits[n_train:] = 0
    if not fits.any():
        raise InputError(f"no bin to fit: {n_train} training bins, {n_lags} lags")
    bound = BoundInputs() if inputs is None else inputs.bind(lengths, n_train)
    n_fit = int(fits.sum())
    fires = np.array([fits[table.times(i)].sum() for i in range(table.n_units)], float)
    binary = link != "poisson"
    good = (fires > 0) & ((fires < n_fit) | (not binary))
    if not good.any():
        raise InputError(f"no unit both fires and pauses within the {n_fit} fitted bins: nothing to fit")
    if not good.all():
        names = [f"h[{i}]" for i in np.flatnonzero(~good)]
        warnings.append(
            f"{len(names)} of {len(good)} units never (or always) fire in training: {_some(names)}; their h is the "
            "Krichevsky-Trofimov estimate without error, and they couple to nobody"
        )
    _check_same(table, ridge, warnings)
    if refractory:
        _check_refractory(table, refractory)
    sources = np.flatnonzero(good)
    design = Design(table, basis, own, bound, link, sources, fits)
    n_parameters = max(len(design.places(i)) for i in sources)
    if ridge == 0 and penalize is None and n_parameters >= n_fit:
        raise InputError(
            f"{n_parameters} parameters per unit, {n_fit} fitted bins: give ridge > 0, or fewer units or lags"
        )
    need = (1.0 + 2.5 / LANES) * LANES * 8.0 * design.size**2 + 16.0 * LANES * table.n_bins
    if need > MAX_BYTES:
        raise InputError(
            f"{n_parameters} parameters per unit need {need / 1e9:.3g} GB: select fewer units, fewer lags or a "
            "smaller basis"
        )
    rates = np.where(good, fires / n_fit, (fires + 0.5) / (n_fit + 1))
    exposed = boundary.exposures(design)
    task = Task(
        design, design.restricted(usable), n_train, float(ridge), refractory, n_blocks, spins, rates, exposed, penalize,
        examine,
    )
    return task, warnings, sources


def _check_same(table, ridge, warnings):
    same = table.duplicates()
    if same and ridge == 0:
        i, j = same[0]
        raise InputError(
            f"units {i} and {j} fire in the same bins ({len(same)} such pairs): their couplings cannot be told "
            "apart; leave "
            "one out, or give ridge > 0, which shares the coupling between them"
        )
    if same:
        warnings.append(
            f"{len(same)} pairs of units fire in the same bins, such as {same[0]}: ridge shares their couplings"
        )


def _check_refractory(table, refractory):
    for i in range(table.n_units):
        times = table.times(i)
        gap = np.diff(times)
        origin = np.searchsorted(np.cumsum(table.lengths), times, side="right")
        wrong = (gap <= refractory) & (np.diff(origin) == 0)
        if wrong.any():
            raise InputError(
                f"refractory = {refractory} bins: unit {i} fires {int(wrong.sum())} times within it, first in bin "
                f"{int(times[1:][wrong][0])}; valid is a time in which no unit fires twice"
            )


def _some(names):
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")


def _fit(model, rasters, basis, own, link, refractory, inputs, test, ridge, n_blocks, bin_s, unit, comm, penalize,
         examine):  # fmt: skip
    started = time.perf_counter()
    if inputs is not None and not isinstance(inputs, InputDesign):
        raise InputError(f"inputs = {inputs!r}: valid is an InputDesign (lft.inference.inputs)")
    task, warnings, targets = make_task(
        rasters, basis, own, link, refractory, inputs, test, ridge, n_blocks, model == "kinetic", penalize, examine
    )
    n = task.design.table.n_units
    unit = np.arange(n) if unit is None else np.asarray(unit)
    if unit.shape != (n,) or unit.dtype.kind not in "iu":
        raise InputError(f"unit: got shape {unit.shape} of type {unit.dtype}; valid is one integer per unit, {n}")
    parts = [targets[a : a + LANES] for a in range(0, len(targets), LANES)]
    groups = Groups(comm, len(parts))
    done = groups.merge({number: fit_batch(task, parts[number]) for number in groups.members})
    groups.close()
    results = [result for number in range(len(parts)) for result in done[number]]
    return _assemble(model, task, results, basis, own, bin_s, unit, warnings, started)


def fit_batch(task, targets):
    """Results of up to eight targets: :class:`lft.inference.causal.target.TargetResult` each."""
    design = task.design
    batch = Batch(design, targets)
    is_penalized = task.ridge > 0 or task.penalize is not None
    bounds, counts = boundary.find(batch, task.exposed, task.refractory, is_penalized)
    batch = Batch(design, targets, {n: b.pinned for n, b in enumerate(bounds) if b.pinned is not None})
    theta = boundary.first_guess(batch, task.exposed, counts, task.rates, bounds, task.ridge)
    plain = np.zeros_like(theta)
    for lane, i in enumerate(batch.targets):
        plain[0, lane] = links.inverse(design.link, task.rates[i])
    ridge = np.full((design.size, LANES), task.ridge)
    ridge[: design.n_dense] = 0.0
    for lane, b in enumerate(bounds):
        ridge[b.held, lane] = newton.HELD_SD**-2
    if task.penalize is not None:
        return _penalized(task, batch, bounds, theta)
    if serves(design):
        theta = approach(batch, theta, [b.keep for b in bounds], ridge)
    while True:
        try:
            theta, _, information, _ = maximize_batch(batch, theta, [b.keep for b in bounds], ridge, plain)
        except SingularTarget as error:
            b = bounds[error.lane]
            free = np.setdiff1d(b.keep[b.keep > 0], b.held)
            if error.is_start or not len(free) or task.ridge > 0:
                raise
            theta = plain.copy()
            _hold(b, free, ridge[:, error.lane])
            continue
        if task.ridge > 0 or not _hold_runaways(bounds, theta, plain, information, ridge):
            break
    batch.evaluate(theta)
    edges = newton.fine_edges(task.n_train, max(len(b.keep) for b in bounds), task.n_blocks)
    scores = batch.scores(edges)
    # the penalty is part of the estimating equation, shared evenly by the blocks
    scores -= (ridge * theta)[None] * (np.diff(edges) / task.n_train)[:, None, None]
    u = [_influences(task, information[n], scores[:, b.keep, n]) for n, b in enumerate(bounds)]
    return _finish(task, batch, bounds, theta, information, u)


def _influences(task, information, scores):
    """Influences of blocks, and a warning or None; fine blocks are solved for once, and their influences joined."""
    fine, warning = newton.influences(information, scores), None
    if task.n_blocks is None and len(scores) > 1:
        size = len(fine)
        fine, warning = newton.merge_blocks(fine, [fine], task.n_train, task.design.n_lags)
        # the factor of the number of blocks, sqrt(B/(B-1)), is that of the joined ones
        fine *= np.sqrt(len(fine) / (len(fine) - 1) * (size - 1) / size)
    return fine, warning


def _finish(task, batch, bounds, theta, information, influences):
    table = batch.filters(theta)
    for lane, b in enumerate(bounds):
        boundary.settle(batch, lane, b, theta, table)
        table[: task.refractory, batch.targets[lane], lane] = -np.inf
    if task.examine is not None:
        for lane, i in enumerate(batch.targets):
            filters = table[:, :, lane] / (4.0 if task.spins else 1.0)
            one = Examined(task, i, bounds[lane], theta[:, lane], filters)
            task.examine(one.objective(), theta[bounds[lane].keep, lane], influences[lane][0], one)
    scores = _score(task, batch, theta, table)
    return [
        finish_target(
            task, batch, lane, bounds[lane], theta, table, information[lane], influences[lane], scores[:, :, lane]
        )
        for lane in range(batch.n_lanes)
    ]


def _hold_runaways(bounds, theta, plain, information, ridge):
    """Hold what ran away to infinity, and start its lane again from its rate; True if anything did."""
    found = False
    for lane, b in enumerate(bounds):
        error = np.sqrt(information[lane].inverse_diagonal())
        runaway = np.flatnonzero(~(error < newton.RUNAWAY))
        runaway = runaway[b.keep[runaway] > 0]
        if not len(runaway):
            continue
        found = True
        _hold(b, b.keep[runaway[error[runaway] > 0.1 * error[runaway].max()]], ridge[:, lane])
        theta[:, lane] = plain[:, lane]
    return found


def _hold(bounds, places, ridge):
    bounds.held = np.union1d(bounds.held, places)
    ridge[places] = newton.HELD_SD**-2


def _penalized(task, batch, bounds, theta):
    """Estimates of another routine, each target through the protocol."""
    keeps, pinned = [b.keep for b in bounds], [b.pinned for b in bounds]
    found = Together(task.design, batch.targets, task.n_train, keeps, pinned).map(task.penalize)
    for lane, (values, _) in enumerate(found):
        theta[keeps[lane], lane] = values
    information, influences = [None] * len(found), [(np.asarray(u), None) for _, u in found]
    return _finish(task, batch, bounds, theta, information, influences)


def _score(task, batch, theta, table):
    """(stretches, 3, lanes): log-likelihood, that of the independent model, rows; first training, then test blocks."""
    d, n_bins = task.scored, task.design.table.n_bins
    edges = [0, *test_edges(task)]
    scorer = Batch(d, batch.targets)
    out = np.zeros((len(edges) - 1, 3, LANES))
    rates = np.ones(LANES)
    rates[: batch.n_lanes] = task.rates[batch.targets]
    alone = links.inverse(d.link, np.where(rates < 1, rates, 0.5) if d.link != "poisson" else rates)
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        for a, b in d.chunks(start, min(stop, n_bins)):
            own, other, n = scorer.log_probability(theta, table, alone, a, b)
            out[number] += [own, other, np.full(LANES, n)]
    return out


def test_edges(task):
    """Edges of the blocks of the test stretch, beginning with its first bin."""
    n_bins = task.design.table.n_bins
    n_test = n_bins - task.n_train
    n_blocks = max(min(20, n_test // max(10 * task.design.n_lags, 1)), 1) if n_test else 0
    return np.linspace(task.n_train, n_bins, n_blocks + 1).astype(int).tolist()


def _assemble(model, task, results, basis, own, bin_s, unit, warnings, started):
    design = task.design
    n, k, q = design.table.n_units, design.n_lags, design.inputs.size
    nan = lambda *shape: np.full(shape, np.nan)  # noqa: E731
    n_own = 0 if own is None else own.size
    silent = links.inverse(design.link, task.rates)
    out = {
        "h": silent / 2 if task.spins else silent, "h_error": nan(n), "h_error_information": nan(n),
        "J_lag": np.zeros((k, n, n)), "J_lag_error": nan(k, n, n), "J_lag_error_information": nan(k, n, n),
        "weights": np.zeros((n, n, basis.size)), "weights_error": nan(n, n, basis.size),
        "weights_expected": np.zeros((n, n, basis.size)),
        "own_weights": np.zeros((n, n_own)), "own_weights_error": nan(n, n_own),
        "input_weights": np.zeros((n, q)), "input_error": nan(n, q),
    }  # fmt: skip
    unbounded = [f"h[{i}]" for i in range(n) if i not in set(design.sources.tolist())]
    blocks, notes, too_short, rare = [], [], [], []
    for r in results:
        for name, value in r.rows.items():
            if name.startswith("J_lag"):
                out[name][:, r.target] = value
            else:
                out[name][r.target] = value
        unbounded += r.unbounded
        notes += r.notes
        blocks.append(r.n_blocks)
        too_short += [r.warning] if r.warning else []
        rare += [f"unit {r.target}: {r.rare[0]} for {r.rare[1]}"] if r.rare else []
    if rare:
        warnings.append(
            f"{len(rare)} units fire (or pause) less often than they have parameters ({_some(rare)}): only their rates "
            "are fitted, no couplings to them; ridge > 0 or a posterior bounds those"
        )
    if notes:
        warnings.append(f"{len(notes)} parameters have no finite maximum: {_some(notes)}; ridge > 0 keeps all of them")
    warnings += too_short[:1]
    if task.ridge == 0 and task.penalize is None:
        off = ~np.eye(n, dtype=bool)[:, :, None]
        rough = off & np.isfinite(out["weights_error"]) & (out["weights_expected"] < newton.EVIDENCE)
        if rough.any():
            names = (f"{'J' if design.is_identity else 'w'}[{m + design.is_identity},{i},{j}]"
                     for i, j, m in itertools.islice(np.argwhere(rough).tolist(), 6))  # fmt: skip
            warnings.append(
                f"{int(rough.sum())} couplings rest on fewer than {newton.EVIDENCE:g} expected spikes "
                f"({_some(list(names))}): skewed estimates with rough errors; a posterior has right intervals"
            )
    totals = _totals(task, results, silent, n)
    score, gain = _scores(totals, n)
    inputs = None
    if q and q * design.table.n_bins <= MAX_CELLS:
        inputs = design.inputs.columns(0, design.table.n_bins)
    elif q:
        warnings.append("the columns of the inputs are too long for the file: this fit cannot be simulated as it is")
    if out["J_lag"].size > 10**5:
        warnings.append(f"{out['J_lag'].size} couplings stand in the arrays J_lag alone, not among the named couplings")
    return CausalFit(
        model=model, link=design.link, score=score, gain=gain, n_units=n, n_bins=design.table.n_bins,
        n_train=task.n_train, n_blocks=min(blocks, default=0), bin_s=bin_s, warnings=warnings, unbounded=unbounded,
        unit=unit.astype(np.int64),
        basis=basis.matrix, own_basis=np.zeros((k, 0)) if own is None else own.matrix, input_names=design.inputs.names,
        inputs=inputs, seconds=time.perf_counter() - started, **out,
    )  # fmt: skip


def _totals(task, results, silent, n):
    """(stretches, 3): sums over units, the silent ones included."""
    totals = sum(r.scores for r in results)
    absent = sorted(set(range(n)) - {r.target for r in results})
    edges = [0, *test_edges(task)]
    d = task.scored
    for i in absent:
        at, rows = d.table.times(i), d.fits.astype(bool)
        y = np.bincount(at, minlength=d.table.n_bins)
        for number, (a, b) in enumerate(itertools.pairwise(edges)):
            part = y[a:b][rows[a:b]]
            value = links.log_probability(d.link, np.full(len(part), silent[i]), part).sum()
            totals[number] += [value, value, len(part)]
    return totals


def _scores(totals, n):
    train, test = totals[0], totals[1:]
    size = test[:, 2].sum()
    mean = test[:, :2].sum(axis=0) / size if size else np.full(2, np.nan)
    score = {
        "kind": "log-likelihood",
        "train": float(train[0] / train[2]),
        "test": float(mean[0]),
        "test_independent": float(mean[1]),
    }
    return score, newton.gain_with_error(test[:, 0] - test[:, 1], test[:, 2])
