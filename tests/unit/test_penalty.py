"""Penalized maxima against closed forms and an independent optimizer; certificates, paths, folds and choices."""

import numpy as np
import pytest

from lft.errors import DivergenceError, InputError
from lft.inference.basis import make_basis
from lft.inference.causal import fit as causal_fits
from lft.inference.causal.fit import fit_glm
from lft.inference.causal.objective import CausalObjective
from lft.inference.causal.together import Together
from lft.inference.penalty import solver
from lft.inference.penalty.crossval import cross_validate, time_folds
from lft.inference.penalty.errors import debias, ridge_errors
from lft.inference.penalty.fit import fit_penalized
from lft.inference.penalty.path import make_penalty, null_fit, solve_path, strengths
from lft.inference.penalty.solver import maximize_on, maximize_penalized
from lft.inference.penalty.terms import Penalty, penalty_for
from lft.testing.objectives import LinearObjective, LogisticObjective
from tests.objectives import ising_exact, pseudo_likelihood


def logistic(n=12, n_rows=600, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, n))
    x[:, 1] += 0.9 * x[:, 0]
    x[:, -1] = 1.0
    truth = np.where(np.arange(n) < 4, 0.7, 0.0)
    y = rng.random(n_rows) < 1 / (1 + np.exp(-x @ truth))
    kinds = ["a"] * (n - 1) + ["c"]
    return LogisticObjective(x, y, kinds, groups=[*np.repeat(np.arange(n // 2), 2)[: n - 1], -1])


def raster(n=5, n_bins=3000, seed=0, scale=0.3):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(0, scale, (n, n)), 1)
    return ising_exact(upper + upper.T, rng.uniform(-0.8, -0.2, n), n_bins, rng)


def test_orthogonal_designs_have_closed_forms():
    o = LinearObjective(np.diag([1.0, 2.0, 1.0, 1.0]), [3.0, -2.0, 0.5, 4.0], groups=[0, 1, 2, 2])
    g, h = np.array([3.0, -4.0, 0.5, 4.0]), np.array([1.0, 4.0, 1.0, 1.0])
    soft = np.sign(g) * np.maximum(np.abs(g) - 1.5, 0) / h
    assert maximize_penalized(o, penalty_for(o, "l1"), 1.5).theta == pytest.approx(soft, abs=1e-6)
    assert maximize_penalized(o, penalty_for(o, "l2"), 1.5).theta == pytest.approx(g / (h + 1.5), abs=1e-6)
    mixed = np.sign(g) * np.maximum(np.abs(g) - 0.75, 0) / (h + 0.75)
    assert maximize_penalized(o, penalty_for(o, "l1", mix=0.5), 1.5).theta == pytest.approx(mixed, abs=1e-6)
    pair = np.hypot(0.5, 4.0)
    grouped = np.concatenate([soft[:2], g[2:] * (1 - 1.5 * np.sqrt(2) / pair)])
    assert maximize_penalized(o, penalty_for(o, "group"), 1.5).theta == pytest.approx(grouped, abs=1e-6)


@pytest.mark.parametrize("kind", ["l1", "group"])
def test_steps_of_a_working_set(kind, monkeypatch):
    """The same maximum as by steps of all parameters; the mutant: nothing that is zero may leave it."""
    rng = np.random.default_rng(4)
    x = (rng.random((800, 24)) < 0.2 + 0.5 * (np.arange(24) < 5) * rng.random((800, 1))).astype(np.int8)
    o = pseudo_likelihood(x)
    p = penalty_for(o, kind)
    strength = 0.4 * p.smallest_empty_strength(maximize_on(o, ~p.penalized)[2])
    used = []
    on = solver.Known.on
    monkeypatch.setattr(solver.Known, "on", lambda self, places: used.append(on(self, places)) or used[-1])
    some = maximize_penalized(o, p, strength)
    assert some.kkt < 1e-6 and any(solve is not None for solve in used) and 24 < some.selected.sum() < 60
    monkeypatch.setattr(solver.Known, "on", lambda self, places: None)
    assert np.abs(maximize_penalized(o, p, strength).theta - some.theta).max() < 1e-5
    monkeypatch.setattr(solver.Known, "on", on)
    monkeypatch.setattr(solver, "_working", lambda penalty, strength, theta, gradient: np.flatnonzero(~p.penalized))
    with pytest.raises(DivergenceError):
        maximize_penalized(o, p, strength, max_steps=10)


@pytest.mark.parametrize("kind", ["l1", "l2", "group"])
def test_against_an_independent_optimizer(kind):
    from scipy.optimize import minimize

    o = logistic()
    p = penalty_for(o, kind)
    s = maximize_penalized(o, p, 9.0)
    assert s.kkt < 1e-6 and 0 <= s.gap < 1e-10
    objective = lambda theta: -o.log_likelihood(theta, 0, o.n_rows) + p.value(theta, 9.0)  # noqa: E731
    best = min(
        (minimize(objective, start, method="Powell", options={"xtol": 1e-10, "ftol": 1e-14, "maxiter": 10**5})
         for start in (s.theta, np.zeros(o.size))),
        key=lambda r: r.fun,
    )  # fmt: skip
    assert objective(s.theta) <= best.fun + 1e-7
    if kind != "l2":
        assert 0 < (s.theta == 0).sum() < o.size - 1


@pytest.mark.parametrize("kind", ["l1", "group"])
def test_certificate_rejects_what_is_not_the_maximum(kind):
    """The residual sees a wrong sign, a coupling dropped that belongs in, and one kept that does not."""
    o = logistic()
    p = penalty_for(o, kind)
    s = maximize_penalized(o, p, 9.0)
    kept, dropped = np.flatnonzero(s.selected & p.penalized)[0], np.flatnonzero(~s.selected)[0]
    for j, value in ((kept, -s.theta[kept]), (kept, 0.0), (dropped, 0.05)):
        theta = s.theta.copy()
        theta[j] = value
        r = p.residual(theta, o.score(theta, 0, o.n_rows), 9.0)
        assert np.abs(r).max() > 0.5


def test_a_solver_without_the_threshold_is_caught(monkeypatch):
    """Mutant: the proximal map that shrinks nothing gives the free maximum, which the certificate refuses."""
    o = logistic()
    p = penalty_for(o, "l1")
    monkeypatch.setattr(Penalty, "shrink", lambda self, point, metric, strength: point)
    with pytest.raises(solver.DivergenceError, match=r"not converged|no step"):
        maximize_penalized(o, p, 9.0)


@pytest.mark.parametrize("kind", ["l1", "group"])
def test_path_begins_where_the_first_coupling_enters(kind):
    x = raster()
    o = pseudo_likelihood(x)
    null = null_fit(o)
    rate = x.mean(axis=0)
    assert null.theta[-5:] == pytest.approx(np.log(rate / (1 - rate)), abs=1e-6)
    p = make_penalty(o, kind, null)
    grid = strengths(p, null, 6, 0.01)
    couplings = p.penalized
    above, below = solve_path(o, p, [1.0001 * grid[0], 0.999 * grid[0]], null.theta)
    assert not above.selected[couplings].any()
    assert below.selected[couplings].sum() == 1
    assert np.all(above.theta[~couplings] != 0)
    counts = [s.selected[couplings].sum() for s in solve_path(o, p, grid, null.theta)]
    assert counts[0] == 0 < counts[-1] and all(s.kkt < 1e-6 for s in solve_path(o, p, grid, null.theta))


def test_warm_starts_do_not_change_solutions():
    o = logistic()
    null = null_fit(o)
    for kind in ("l1", "l2", "group"):
        p = make_penalty(o, kind, null)
        grid = strengths(p, null, 5)
        for s in solve_path(o, p, grid):
            assert maximize_penalized(o, p, s.strength).theta == pytest.approx(s.theta, abs=1e-5)


def test_refit_is_the_maximum_on_the_support():
    o = logistic()
    keep = np.arange(o.size) % 2 == 1
    theta, value, _, _ = maximize_on(o, keep)
    small = LogisticObjective(o.x[:, keep], o.y)
    other, small_value, _, _ = maximize_on(small, np.ones(small.size, bool))
    assert theta[keep] == pytest.approx(other, abs=1e-6) and not theta[~keep].any()
    assert value == pytest.approx(small_value, abs=1e-6)


def test_folds_are_separated_blocks_of_time():
    folds = time_folds(1000, 4, gap=7)
    assert [b - a for a, b in folds.test] == [250] * 4
    for (a, b), train in zip(folds.test, folds.train, strict=True):
        rows = np.concatenate([np.arange(*r) for r in train])
        assert len(np.intersect1d(rows, np.arange(max(a - 7, 0), min(b + 7, 1000)))) == 0
        assert len(rows) == 1000 - (min(b + 7, 1000) - max(a - 7, 0))


def drifting(seed):
    """Covariates and noise that stay the same for 50 rows: 8 independent rows for 30 parameters."""
    rng = np.random.default_rng(seed)
    x, noise = (np.repeat(rng.normal(size=(40, n)), 50, axis=0) for n in (30, 1))
    return LinearObjective(x + 0.01 * rng.normal(size=x.shape), noise[:, 0])


def test_random_bins_would_look_at_their_test():
    """Mutant: folds of single rows dealt at random find the correlated noise predictable and ask for no penalty."""
    o = drifting(0)
    p, grid = penalty_for(o, "l2"), np.geomspace(1e6, 1e-2, 9)
    honest = cross_validate(o, p, grid, time_folds(o.n_rows, 5))[0]
    order = np.random.default_rng(1).permutation(o.n_rows)
    mixed = LinearObjective(o.x[order], o.y[order])
    leaking = cross_validate(mixed, p, grid, time_folds(o.n_rows, 5))[0]
    assert honest.strengths[honest.best] > 30 * leaking.strengths[leaking.best]
    assert honest.mean[honest.best] < leaking.mean[leaking.best]


def test_one_standard_error_rule_takes_the_stronger_penalty():
    o = logistic(n_rows=2000)
    null = null_fit(o)
    p = make_penalty(o, "l1", null)
    cv = cross_validate(o, p, strengths(p, null), time_folds(o.n_rows, 5))[0]
    loss = cv.scores[:, cv.best] - cv.scores[:, cv.one_se]
    assert cv.one_se < cv.best and 0 <= loss.mean() <= loss.std(ddof=1) / np.sqrt(5)
    assert cv.mean[cv.best] == cv.scores.mean(axis=0).max()
    assert cv.null_scores.mean() < cv.mean[cv.best]


def test_ridge_errors_in_closed_form():
    """Orthogonal design, H = T: error^2 = [T noise + (s tau)^2]/(T + s)^2, and tau from the estimates."""
    rng = np.random.default_rng(3)
    n, n_rows, tau = 150, 2000, 0.03
    x = np.linalg.qr(rng.normal(size=(n_rows, n)))[0] * np.sqrt(n_rows)
    truth = tau * rng.normal(size=n)
    o = LinearObjective(x, x @ truth + rng.normal(size=n_rows))
    p, s = penalty_for(o, "l2"), 4 / tau**2
    errors = ridge_errors(o, p, maximize_penalized(o, p, s), n_blocks=100)
    expected = np.sqrt(n_rows + (s * errors.prior_sd["a"]) ** 2) / (n_rows + s)
    assert errors.error == pytest.approx(expected, rel=0.25)
    assert errors.prior_sd["a"] == pytest.approx(truth.std(), rel=0.3)
    z = (maximize_penalized(o, p, s).theta - truth) / errors.error
    assert 0.8 < z.std() < 1.2
    sandwich = z * errors.error / np.sqrt((errors.influences[:100] ** 2).sum(axis=0))
    assert sandwich.std() > 2  # mutant: the variance without the bias


def test_debiased_estimate_is_one_newton_step():
    o = LinearObjective(np.random.default_rng(0).normal(size=(50, 4)), np.ones(50))
    free = maximize_on(o, np.ones(4, bool))[0]
    assert debias(o, np.array([0.3, 0, 0, 0]), 10)[0] == pytest.approx(free, abs=1e-9)


def test_separable_data_need_a_penalty_and_get_one():
    x = np.array([[1.0, 1], [1, 1], [-1, 1], [-1, 1]])
    o = LogisticObjective(x, [1, 1, 0, 0], kinds="ac")
    for kind in ("l1", "l2"):
        s = maximize_penalized(o, penalty_for(o, kind), 0.1)
        assert np.isfinite(s.theta).all() and s.kkt < 1e-6


def test_fit_reports_what_it_did():
    o = pseudo_likelihood(raster(), lags=(1, 2))
    fit = fit_penalized(o, "l1", refit=True, n_strengths=6, n_folds=3)
    report, arrays = fit.report(), fit.arrays()
    assert report["rule"] == "best" and report["cross_validation"]["folds"] == 3
    assert len(report["path"]["strengths"]) == 6 == len(report["cross_validation"]["score"])
    assert arrays["penalty_path_theta"].shape == (6, o.size) and arrays["penalty_cv_scores"].shape == (3, 6)
    assert any("selection" in w for w in fit.warnings)
    assert np.all(fit.errors.error >= fit.errors.debiased_error - 1e-12)
    given = fit_penalized(o, "l2", strength=3.0)
    assert given.rule == "given" and not given.path and given.cross_validation is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "lasso"}, "penalty 'lasso': valid are l1, l2, group"),
        ({"kind": "l2", "strength": -1}, "strength = -1: valid is 'auto' or a number > 0"),
        ({"kind": "l2", "refit": True}, "drops no coupling"),
        ({"kind": "l1", "n_folds": 1}, "folds = 1: valid is an integer >= 2"),
        ({"kind": "l1", "mix": 1.0}, "mix = 1.0: valid is"),
        ({"kind": "l1", "rule": "median"}, "rule 'median': valid are best, one-se"),
        ({"kind": "l1", "strength": 1.0, "rule": "best"}, "there is nothing to choose"),
        ({"kind": "l1", "span": 2}, "span = 2: valid is"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        fit_penalized(logistic(), **options)


def test_fields_alone_cannot_be_penalized():
    with pytest.raises(InputError, match="never penalized"):
        fit_penalized(LogisticObjective(np.ones((4, 1)), [0, 1, 1, 0], kinds="c"), "l2")


# ---- targets of a causal model side by side
def causal_fit(monkeypatch, routine, together=True, n=5):
    """A penalized GLM of one batch, its targets side by side or one after the other."""

    class OneByOne:
        def __init__(self, design, targets, n_rows, keeps, pinned):
            self.objectives = [
                CausalObjective(design, [i], n_rows, {i: k}, {} if p is None else {i: p})
                for i, k, p in zip(targets, keeps, pinned, strict=True)
            ]

        def map(self, routine):
            return [routine(o) for o in self.objectives]

    with monkeypatch.context() as patch:
        if not together:
            patch.setattr(causal_fits, "Together", OneByOne)
        raster = (np.random.default_rng(0).random((700, n)) < 0.15).astype(np.int8)
        return fit_glm(raster, basis=make_basis("raised-cosine", 2, 6), test=0.1, penalize=routine)


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_targets_side_by_side_have_the_bits_of_single_ones(kind, monkeypatch):
    def routine(objective):
        fit = fit_penalized(objective, kind, n_folds=2, n_strengths=3, n_blocks=20)
        return fit.theta, fit.errors.influences

    fits = [causal_fit(monkeypatch, routine, together, n=4) for together in (True, False)]
    for name in ("h", "weights", "own_weights", "weights_error", "J_lag", "h_error"):
        a, b = (getattr(fit, name) for fit in fits)
        assert np.isfinite(a).any() and np.array_equal(a, b, equal_nan=True), name


def test_passes_are_shared_and_lanes_are_not(monkeypatch):
    def routine(objective):
        objective.evaluate(np.zeros(objective.size))  # all at once
        if objective.targets == [0]:
            objective.score(np.zeros(objective.size), 0, 50)
        return objective.evaluate(np.zeros(objective.size))[1], np.zeros((2, objective.size))

    served, serve = [], Together._serve

    def counted(self, what, lanes):
        served.append((what[1:], len(lanes)))
        serve(self, what, lanes)

    monkeypatch.setattr(Together, "_serve", counted)
    good = causal_fit(monkeypatch, routine, n=4).weights
    whole = ("sums", None, None)
    assert sorted(n for what, n in served if what == whole) in ([1, 3, 4], [4, 4])
    assert [n for what, n in served if what != whole] == [1]
    assert np.array_equal(good, causal_fit(monkeypatch, routine, together=False, n=4).weights)

    def mixed(self, what, lanes):  # mutant: the sums of another lane
        serve(self, what, lanes)
        self.answers[lanes[0]], self.answers[lanes[-1]] = self.answers[lanes[-1]], self.answers[lanes[0]]

    monkeypatch.setattr(Together, "_serve", mixed)
    assert not np.array_equal(good, causal_fit(monkeypatch, routine, n=4).weights)


def test_an_error_of_one_target_is_raised(monkeypatch):
    def routine(objective):
        objective.evaluate(np.zeros(objective.size))
        if objective.targets == [2]:
            raise InputError("unit 2 is bad")
        return fit_penalized(objective, "l2", strength=3.0, n_blocks=10).theta, np.zeros((2, objective.size))

    with pytest.raises(InputError, match="unit 2 is bad"):
        causal_fit(monkeypatch, routine)


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_information_of_all_rows_changes_no_fold(kind):
    """Scores of folds are those of fits of their own; mutant: the solution on all rows in their place."""
    o = logistic()
    null = null_fit(o)
    p = make_penalty(o, kind, null)
    grid, folds = strengths(p, null, 5), time_folds(o.n_rows, 4)
    cv, solutions = cross_validate(o, p, grid, folds, null.theta)
    exact = cross_validate(o, p, grid, folds, null.theta, tolerance=1e-6)[0]
    fresh, leak = np.empty((4, 5)), np.empty((4, 5))
    for f, ((a, b), ranges) in enumerate(zip(folds.test, folds.train, strict=True)):
        part = o.over(ranges)
        share = np.sqrt(part.n_rows / o.n_rows) if p.has_norm else 1.0
        for k, s in enumerate(grid):
            theta = maximize_penalized(part, p, s * share).theta
            fresh[f, k], leak[f, k] = (o.log_likelihood(t, a, b) / (b - a) for t in (theta, solutions[k].theta))
    nats = o.n_rows / 4  # per fold
    assert nats * np.abs(exact.scores - fresh).max() < 1e-3  # fields are anchored weakly in folds
    assert nats * np.abs(cv.scores - fresh).max() < 1e-2 and nats * np.abs(leak - fresh).max() > 0.1
