"""Causal fits: derivatives, boundaries of the model, inputs, counts, bad input, and what the commands do with them."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from lft.archive import Archive
from lft.commands.fit_causal import cut
from lft.errors import DataWarning, DivergenceError, InputError
from lft.inference.basis import Basis, make_basis
from lft.inference.causal import boundary
from lft.inference.causal.design import Design
from lft.inference.causal.fit import fit_glm, fit_kinetic, make_task
from lft.inference.causal.gaussian import fit_gaussian
from lft.inference.causal.model import CausalModel
from lft.inference.causal.objective import CausalObjective
from lft.inference.causal.spikes import SpikeTable
from lft.inference.inputs import BoundInputs, EventLocked, Given, InputDesign, Smooth
from lft.inference.protocols import BinaryModel, Objective
from lft.inference.recording import Recording, read_recording
from lft.inference.result import load_fit

LINKS = ("logit", "cloglog", "poisson")


def rasters_of(link, lengths=(120, 80), n=11, seed=0):
    rng = np.random.default_rng(seed)
    if link == "poisson":
        return [rng.poisson(0.4, (t, n)).astype(np.int8) for t in lengths]
    return [(rng.random((t, n)) < 0.25).astype(np.int8) for t in lengths]


def explicit_design(rasters, cross, own, columns, target, link):
    """X and y of one target, written out from the definition: trials, lags, bases."""
    n_lags, rows, y, origin = cross.n_lags, [], [], 0
    for raster in rasters:
        for a in range(n_lags, len(raster)):
            row = [1.0, *columns[origin + a]]
            for j in range(raster.shape[1]):
                past = raster[a - n_lags : a, j][::-1]
                matrix = own if j == target else cross
                row += [] if matrix is None else list(past @ matrix.matrix)
            rows.append(row)
            y.append(raster[a, target])
        origin += len(raster)
    return np.array(rows), np.array(y, float)


def irls(X, y, link):
    """Newton on the explicit design: an oracle that shares no code with the fit."""
    theta = np.zeros(X.shape[1])
    theta[0] = np.log(y.mean())
    for _ in range(50):
        eta = X @ theta
        if link == "logit":
            p = 1 / (1 + np.exp(-eta))
            r, w = y - p, p * (1 - p)
        elif link == "poisson":
            r, w = y - np.exp(eta), np.exp(eta)
        else:
            m = np.exp(eta)
            p = 1 - np.exp(-m)
            r = (y - p) * m / p  # d log L/d eta
            w = m**2 * (1 - p) / p  # expected information: Fisher scoring
        step = np.linalg.solve((X * w[:, None]).T @ X, X.T @ r)
        theta = theta + step
        if np.abs(step).max() < 1e-12:
            break
    return theta


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("case", ["basis", "identity", "no own"])
def test_maximum_is_that_of_the_explicit_design(link, case):
    """Trials, lags, bases and inputs against a design matrix that is built element by element."""
    rasters = rasters_of(link, (400, 300), 4)
    cross = make_basis("identity", 2, 2) if case == "identity" else make_basis("raised-cosine", 2, 5)
    own = {"basis": make_basis("bspline", 3, 5), "identity": cross, "no own": None}[case]
    inputs = InputDesign([Smooth(4), EventLocked([[20, 90, 200], [50, 120]], -3, 9, 3)])
    bound = inputs.bind([400, 300], 700)
    options = {"family": "poisson" if link == "poisson" else "bernoulli", "link": None if link == "poisson" else link}
    fit = fit_glm(rasters, basis=cross, own_basis=own, inputs=inputs, test=0.0, **options)
    X, y = explicit_design(rasters, cross, own, bound.columns(0, 700), 1, link)
    theta = irls(X, y, link)
    parts = [fit.h[1], *fit.input_weights[1]]
    for j in range(4):
        parts += list(fit.own_weights[1] if j == 1 else fit.weights[1, j])
    assert np.abs(np.array(parts) - theta).max() < 1e-8
    model = fit.causal_model()
    eta = X @ theta
    assert np.allclose(model.eta(rasters[0])[cross.n_lags :, 1], eta[: 400 - cross.n_lags], atol=1e-8)


@pytest.mark.parametrize("link", LINKS)
def test_derivatives_by_differences(link):
    table = SpikeTable.of(rasters_of(link))
    bases = (
        (make_basis("raised-cosine", 3, 6), make_basis("bspline", 4, 6)),
        (make_basis("exponential", 2, 6), None),
        (make_basis("identity", 2, 2),) * 2,
    )
    rng = np.random.default_rng(1)
    for cross, own in bases:
        inputs = InputDesign([Smooth(4)]).bind(table.lengths, table.n_bins)
        fits = table.has_past(cross.n_lags)
        design = Design(table, cross, own, inputs, link, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10], fits)
        o = CausalObjective(design, [0, 2, 3, 4, 6, 7, 8, 9, 10], table.n_bins)
        assert isinstance(o, Objective) and len(o.names()) == len(set(o.names())) == o.size == len(o.groups())
        theta, x = 0.1 * rng.normal(size=o.size), rng.normal(size=o.size)
        value, gradient, make = o.evaluate(theta)
        assert abs(value - o.log_likelihood(theta, 0, table.n_bins)) < 1e-9 * abs(value)
        assert np.allclose(o.score(theta, 0, 77) + o.score(theta, 77, 200), gradient)
        part = o.over([(10, 60), (130, 190)])
        both = o.score(theta, 10, 60) + o.score(theta, 130, 190)
        assert part.n_rows == 110 and np.allclose(part.evaluate(theta)[1], both)
        assert np.allclose(part.score(theta, 40, 70), o.score(theta, 50, 60) + o.score(theta, 130, 150))
        up, down = (o.evaluate(theta + e * x) for e in (1e-5, -1e-5))
        assert abs((up[0] - down[0]) / 2e-5 - gradient @ x) < 1e-6 * abs(gradient @ x)
        assert np.abs(make(None).solve((down[1] - up[1]) / 2e-5) - x).max() < 1e-5
        extra = rng.random(o.size)
        information = make(extra)
        back = (down[1] - up[1]) / 2e-5 + extra * x
        assert np.abs(information.solve(back) - x).max() < 1e-5
        columns = information.solve(np.eye(o.size))
        assert np.allclose(columns.diagonal(), information.inverse_diagonal())


def test_scores_of_single_rows_add_up():
    raster = (np.random.default_rng(0).random((40, 2)) < 0.3).astype(np.int8)
    one = make_basis("identity", 1, 1)
    task, _, targets = make_task([raster], one, one, "logit", test=0.0)
    o = CausalObjective(task.design, targets, task.n_train)
    at = np.linspace(-0.5, 0.5, o.size)
    rows = [o.score(at, a, a + 1) for a in range(40)]
    assert np.allclose(np.sum(rows, axis=0), o.evaluate(at)[1], atol=1e-12)
    assert sum(o.log_likelihood(at, a, a + 1) for a in range(40)) == pytest.approx(o.evaluate(at)[0])


def test_fitted_model_is_a_binary_model():
    fit = fit_kinetic(rasters_of("logit", (900,), 3), test=0.3)
    model = fit.causal_model()
    assert isinstance(model, BinaryModel)
    h, J = model.spins()
    assert np.allclose(h, fit.h) and np.allclose(J, fit.J_lag)
    raster = rasters_of("logit", (900,), 3)[0]
    sums = model.bin_log_likelihood(raster)
    assert abs(fit.score["train"] - sums[1:630].mean() / 3) < 1e-12
    assert abs(fit.score["test"] - sums[630:].mean() / 3) < 1e-12
    assert np.array_equal(model.simulate(50, seed=3, n_chains=3)[:2], model.simulate(50, seed=3, n_chains=2))


def test_ridge_is_the_stated_penalty():
    """The gradient of log L vanishes up to ridge times w; h stays free."""
    raster = rasters_of("logit", (500,), 3)[0]
    fit = fit_glm(raster, ridge=3.0, test=0.0)
    basis = make_basis("identity", 1, 1)
    X, y = explicit_design([raster], basis, basis, np.zeros((500, 0)), 0, "logit")
    w = np.array([fit.h[0], fit.own_weights[0, 0], *fit.weights[0, 1:, 0]])
    gradient = X.T @ (y - 1 / (1 + np.exp(-X @ w)))
    assert np.allclose(gradient, 3.0 * w * [0, 1, 1, 1], atol=1e-6)


# ---- boundaries of the model
def refractory_raster(dead=2, seed=0):
    rng = np.random.default_rng(seed)
    raster = (rng.random((4000, 3)) < 0.2).astype(np.int8)
    for a in range(1, len(raster)):
        raster[a] &= ~raster[max(a - dead, 0) : a].any(axis=0)
    return raster


def test_refractory_couplings_are_named_not_huge():
    raster = refractory_raster()
    fit = fit_kinetic(raster, n_lags=3, test=0.0)
    own = {f"J[{k},{i},{i}]" for k in (1, 2) for i in range(3)}
    assert set(fit.unbounded) == own
    assert any("ridge" in w and "infinity" in w for w in fit.warnings)
    d = np.arange(3)
    assert np.isnan(fit.J_lag_error[:2, d, d]).all() and np.isfinite(fit.J_lag_error[2]).all()
    assert (fit.J_lag[:2, d, d] < -0.5).all() and (fit.J_lag[:2, d, d] > -5).all()
    # the stated value: half a spike expected behind a spike
    model, k, i = fit.causal_model(), 1, 0
    eta = model.eta(raster)
    rows = np.flatnonzero(raster[:-k, i]) + k
    rows = rows[rows >= 3]
    assert abs((1 / (1 + np.exp(-eta[rows, i]))).sum() - 0.5) < 0.02
    # the other couplings are those of the limit: the same with the rows left out by hand
    strong = fit_glm(raster, basis=make_basis("identity", 3, 3), refractory=2, test=0.0)
    assert np.allclose(strong.J_lag[:, 0, 1:], 4 * fit.J_lag[:, 0, 1:], atol=1e-6)
    assert np.isneginf(strong.J_lag[:2, d, d]).all()
    ridge = fit_kinetic(raster, n_lags=3, ridge=1.0, test=0.0)
    assert not ridge.unbounded and np.isfinite(ridge.J_lag_error).all() and np.abs(ridge.J_lag).max() < 3


def test_refractory_model_never_breaks_its_rule():
    fit = fit_glm(refractory_raster(), basis=make_basis("raised-cosine", 2, 6), refractory=2, test=0.2)
    drawn = fit.causal_model().simulate(3000, seed=1)[0]
    assert drawn.sum() > 500
    assert not (drawn[1:] & drawn[:-1]).any() and not (drawn[2:] & drawn[:-2]).any()
    assert np.isfinite(fit.score["test"]) and fit.score["test"] > fit.score["test_independent"]
    with pytest.raises(InputError, match=r"unit 0 fires .* within"):
        fit_glm(refractory_raster(), refractory=3, basis=make_basis("identity", 4, 4))


def test_rare_pairs_are_fixed_at_zero_and_named():
    raster = np.zeros((2000, 3), np.int8)
    rng = np.random.default_rng(1)
    raster[:, 0] = rng.random(2000) < 0.3
    raster[rng.permutation(1998)[:6] + 1, 1] = 1
    raster[:, 2] = rng.random(2000) < 0.02
    raster[1:, 2] &= ~raster[:-1, 1]
    fit = fit_kinetic(raster, test=0.0)
    assert "J[1,2,1]" in fit.unbounded and fit.J_lag[0, 2, 1] == 0.0 and np.isnan(fit.J_lag_error[0, 2, 1])


def test_silent_and_busy_units():
    raster = rasters_of("logit", (1000,), 4)[0]
    raster[:, 1], raster[:, 2] = 0, 1
    fit = fit_kinetic(raster, test=0.0)
    assert {"h[1]", "h[2]"} <= set(fit.unbounded) and np.isnan(fit.h_error[1])
    assert not fit.J_lag[0, :, 1:3].any() and not fit.J_lag[0, 1:3].any()
    assert np.isclose(2 * fit.h[1], np.log(0.5 / 999.5), atol=1e-6)
    with pytest.raises(InputError, match="no unit both fires and pauses"):
        fit_kinetic(np.zeros((50, 2), np.int8))


def test_separable_data():
    """A unit that copies another one bin later is predicted perfectly."""
    raster = rasters_of("logit", (1000,), 3)[0]
    raster[1:, 2] = raster[:-1, 0]
    fit = fit_kinetic(raster, test=0.0)
    assert "J[1,2,0]" in fit.unbounded and np.abs(fit.J_lag).max() < 5
    with pytest.raises(DivergenceError, match=r"perfectly|singular"):
        fit_glm(raster, inputs=InputDesign([Given((100.0 * np.eye(2)[raster[:, 1]],))]), test=0.0)
    with pytest.raises(InputError, match=r"units 0 and 2 fire in the same bins"):
        fit_kinetic(raster[:, [0, 1, 0]])
    assert fit_kinetic(raster[:, [0, 1, 0]], ridge=1.0).warnings


@pytest.mark.parametrize("turned", [False, True])
def test_a_unit_that_fires_behind_one_source_alone(turned):
    """The strongest coupling there is: kept on its side, with the score and the other couplings of the limit."""
    rng = np.random.default_rng(3)
    raster = (rng.random((4000, 3)) < 0.2).astype(np.int8)
    raster[1:, 2] = raster[:-1, 0] & (rng.random(3999) < 0.4)
    raster[0, 2] = 0
    if turned:  # it pauses behind this source alone
        raster[:, 2] = 1 - raster[:, 2]
    fit = fit_glm(raster, test=0.0)
    assert (fit.J_lag[0, 2, 0] > 4) != turned and abs(fit.J_lag[0, 2, 0]) > 4  # a weight fixed at 0 fails here
    assert {"J[1,2,0]", "h[2]"} <= set(fit.unbounded) and np.isnan([fit.J_lag_error[0, 2, 0], fit.h_error[2]]).all()
    behind = raster[1:][raster[:-1, 0] == 1, 2]
    q = behind.mean()
    limit = (q * np.log(q) + (1 - q) * np.log(1 - q)) * len(behind) / 3999
    others = fit_glm(raster[:, :2], test=0.0).score["train"]
    assert abs(3 * fit.score["train"] - (2 * others + limit)) < 3e-3  # and the couplings from unit 2 itself
    # in the limit the rows that are left are those behind the source: the other couplings are of these alone
    X = np.column_stack([np.ones(len(behind)), raster[:-1][raster[:-1, 0] == 1][:, 1:]])
    alone = irls(X, behind.astype(float), "logit")
    assert np.allclose(fit.J_lag[0, 2, 1:], alone[1:], atol=0.02)
    assert np.isclose(fit.h[2] + fit.J_lag[0, 2, 0], alone[0], atol=0.05)


def test_a_smooth_basis_without_a_maximum_is_found_at_the_maximum():
    fit = fit_glm(refractory_raster(5), basis=make_basis("bspline", 5, 10), test=0.0)
    assert any(name.startswith("w[") for name in fit.unbounded) and np.abs(fit.J_lag).max() < 50


def test_a_unit_with_a_single_spike_does_not_stop_the_others():
    raster = rasters_of("logit", (800,), 4)[0]
    raster[:, 3] = 0
    raster[400, 3] = 1
    fit = fit_glm(raster, basis=make_basis("bspline", 4, 6), test=0.0)
    assert any(name.startswith("w[") and ",3," in name for name in fit.unbounded)
    assert np.abs(fit.J_lag[:, 3]).max() < 20 and np.isfinite(fit.J_lag_error[:, 0, :3]).all()


# ---- inputs
def test_event_columns_overlap_and_stay_in_their_trial():
    bound = InputDesign([EventLocked([[1, 3], [9]], -1, 2, 3)]).bind([6, 10], 16)
    x = bound.columns(0, 16)
    expected = np.zeros((16, 3))
    for origin, length, events in ((0, 6, [1, 3]), (6, 10, [9])):
        for e in events:
            for m, lag in enumerate(range(-1, 2)):
                if 0 <= e + lag < length:
                    expected[origin + e + lag, m] += 1
    assert np.array_equal(x, expected)
    assert np.array_equal(bound.columns(4, 9), x[4:9])


def test_smooth_columns():
    bound = InputDesign([Smooth(5)]).bind([100], 80)
    x = bound.columns(0, 100)
    assert x.shape == (100, 4) and np.allclose(x[:80].mean(axis=0), 0) and np.allclose(x[80:], x[79])
    per_trial = InputDesign([Smooth(5, per_trial=True)]).bind([50, 50], 100).columns(0, 100)
    assert np.allclose(per_trial[:50], per_trial[50:])


def test_inputs_are_simulated_and_end():
    raster = rasters_of("logit", (600,), 3)[0]
    fit = fit_glm(raster, inputs=InputDesign([Given((np.sin(np.arange(600) / 40),))]), test=0.0)
    model = fit.causal_model()
    assert model.simulate(600, seed=1).shape == (1, 600, 3)
    with pytest.raises(InputError, match="600 bins"):
        model.simulate(601, seed=1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r: fit_kinetic(r, n_lags=0), "n_lags = 0"),
        (lambda r: fit_kinetic(r, n_lags=400), "400 lags"),
        (lambda r: fit_kinetic(r, ridge=-1), "ridge = -1"),
        (lambda r: fit_kinetic(r[:12], n_lags=3, test=0.0), "parameters per unit"),
        (lambda r: fit_kinetic(r * 2), "poisson"),
        (lambda r: fit_kinetic(np.where(r > 0, np.nan, r)), "nan"),
        (lambda r: fit_kinetic([r, r[:0]]), "neither zero"),
        (lambda r: fit_kinetic([r, r[:, :2]]), "2 units"),
        (lambda r: fit_kinetic(r, unit=[1, 2]), "one integer per unit"),
        (lambda r: fit_kinetic(r, inputs=[1]), "InputDesign"),
        (lambda r: fit_glm(r, family="gamma"), "bernoulli, poisson"),
        (lambda r: fit_glm(r, link="probit"), "logit, cloglog"),
        (lambda r: fit_glm(r, basis="cosine"), "Basis"),
        (lambda r: make_basis("raised-cosine", 9, 5), "9 functions on 5 lags"),
        (lambda r: make_basis("wavelet", 2, 5), "valid are identity"),
        (lambda r: Basis("mine", np.ones((4, 2))), "linearly dependent"),
        (lambda r: fit_glm(r, inputs=InputDesign([Given((np.ones(7),))])), "7"),
        (lambda r: fit_glm(r, inputs=InputDesign([Given((np.full(len(r), np.inf),))])), "inf"),
        (lambda r: fit_glm(r, inputs=InputDesign([EventLocked([[]], 0, 5, 2)])), "no event"),
        (lambda r: EventLocked([[1]], 3, 3, 1), "start < stop"),
        (lambda r: Smooth(1), "integer >= 2"),
        (lambda r: CausalModel(np.zeros(2), np.zeros((1, 3, 3))), r"\(N,\)"),
        (lambda r: fit_gaussian(np.ones((50, 2))), "never vary"),
        (lambda r: fit_gaussian(r[:5]), "no inverse"),
        (lambda r: fit_gaussian(np.array([[0.0, np.nan]] * 9)), "nan"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call(rasters_of("logit", (300,), 5)[0])
    assert "\n" not in str(caught.value)


# ---- counts
def test_poisson_simulation_has_its_mean_and_variance():
    model = CausalModel(np.log([0.5, 3.0]), np.zeros((1, 2, 2)), "poisson")
    n = model.simulate(20000, seed=1)[0].astype(float)
    error = np.sqrt(np.array([0.5, 3.0]) / 20000)
    assert (np.abs(n.mean(axis=0) - [0.5, 3.0]) < 4.5 * error).all()
    assert np.allclose(n.var(axis=0), [0.5, 3.0], rtol=0.06)
    with pytest.raises(DivergenceError, match=r"runs away"):
        CausalModel(np.array([1.0]), np.array([[[0.5]]]), "poisson").simulate(200, seed=1)


def test_cloglog_is_a_poisson_process_seen_in_bins():
    """The same rate, whether bins hold counts or the mark of at least one spike."""
    counts = CausalModel(np.log([0.1, 0.3]), np.zeros((1, 2, 2)), "poisson").simulate(40000, seed=2)[0]
    seen = fit_glm((counts > 0).astype(np.int8), link="cloglog", test=0.0)
    exact = fit_glm(counts, family="poisson", test=0.0)
    assert (np.abs(seen.h - np.log([0.1, 0.3])) < 4.5 * seen.h_error).all()
    assert (exact.h_error < seen.h_error).all()


# ---- Gaussian field
def test_gaussian_precision_and_components():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(4, 4))
    P = A @ A.T + 4 * np.eye(4)
    x = rng.multivariate_normal(np.arange(4.0), np.linalg.inv(P), 20000)
    fit = fit_gaussian(x, test=0.0)
    z = (fit.precision - P) / fit.precision_error
    assert np.abs(z).max() < 4.5 and np.linalg.norm(fit.precision - P) / np.linalg.norm(P) < 0.03
    assert abs(np.median(fit.precision_error / fit.precision_error_wishart) - 1) < 0.1
    assert np.allclose(fit.precision, np.linalg.inv(np.cov(x.T, bias=True)))
    back = fit.components @ np.diag(1 / fit.eigenvalues) @ fit.components.T
    assert np.allclose(back, fit.precision)  # principal components: the same vectors, inverse values
    wrong = np.linalg.inv(np.cov(x.T, bias=True) + 0.01 * np.eye(4))
    assert np.abs((wrong - P) / fit.precision_error).max() > 4.5


def test_gaussian_sandwich_sees_correlated_samples():
    """Every sample kept ten times: errors grow by sqrt(10), those of independent samples do not know."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3000, 3))
    once, often = fit_gaussian(x, test=0.0), fit_gaussian(np.repeat(x, 10, axis=0), test=0.0)
    assert np.allclose(once.precision, often.precision)
    assert 0.75 < np.median(often.precision_error / once.precision_error) < 1.3
    assert np.median(often.precision_error_wishart / once.precision_error) < 0.4


def test_autoregression_recovers():
    rng = np.random.default_rng(2)
    M = 0.5 * np.array([[0.5, 0.8, 0], [0, 0.5, -0.5], [0.4, 0, 0.3]])
    x = np.zeros((8000, 3))
    for a in range(1, 8000):
        x[a] = M @ x[a - 1] + rng.normal(size=3)
    fit = fit_gaussian([x[:5000], x[5000:]], n_lags=1, test=0.2)
    assert np.abs((fit.J_lag[0] - M) / fit.J_lag_error[0]).max() < 4.5
    assert np.abs(fit.J_lag[0] - M).max() < 0.06
    assert np.abs((fit.J_lag[0].T - M) / fit.J_lag_error[0]).max() > 4.5
    assert abs(np.median(fit.J_lag_error / fit.J_lag_error_information) - 1) < 0.3
    assert fit.score["test"] > fit.score["test_independent"] and fit.gain[0] > 5 * fit.gain[1]


# ---- commands
def recording(bins=3000, n=4, seed=1):
    J = np.random.default_rng(0).normal(0, 0.3, (1, n, n))
    raster = CausalModel.of_spins(np.full(n, -0.7), J).simulate(bins, seed=seed)[0]
    times = [np.flatnonzero(raster[:, i]) * 0.01 + 0.004 for i in range(n)]
    index = np.concatenate([[0], np.cumsum([len(t) for t in times])])
    np.savez(
        "s.npz",
        spike_times=np.concatenate(times),
        spike_index=index,
        duration_s=bins * 0.01,
        events_s=np.arange(1.0, bins * 0.01 - 1, 0.9),
    )
    return raster


def test_commands_fit_and_simulate(lft_main, tmp_path):
    raster = recording()
    lft_main("fit s.npz --bin 10ms --model kinetic --lags 2 -o k.h5 --json k.json")
    data = json.loads((tmp_path / "k.json").read_text())
    direct = fit_kinetic(raster, n_lags=2, bin_s=0.01)
    assert data["score"]["kind"] == "log-likelihood" and data["method"] == "pseudo"
    assert data["couplings"]["J[2,0,3]"]["value"] == pytest.approx(direct.J_lag[1, 0, 3], abs=1e-12)
    stored = load_fit("k.h5")
    assert stored["J_lag"].shape == (2, 4, 4) and stored["unit"].tolist() == [0, 1, 2, 3]
    lft_main("run k.h5 -o a.h5 --set run.replicas=3 --set run.save_every=1 --set lattice.bins=400 --quiet")
    drawn = direct.causal_model().simulate(400, seed=1, n_chains=3)
    with Archive("a.h5") as archive:
        for r in range(3):
            assert np.array_equal(archive.configuration(r), 2 * drawn[r] - 1)
        S = archive.samples("action_density")
        exact = [-direct.causal_model().log_likelihood([d]).value / (400 * 4) for d in drawn]
        assert np.allclose(S, exact, rtol=1e-12)
    lft_main("resume a.h5 --updates 2 --quiet")
    with Archive("a.h5") as archive:
        more = direct.causal_model().simulate(400, seed=1, n_chains=5)
        assert np.array_equal(archive.last(), 2 * more[4] - 1)
    assert "no blocks in space" in lft_main("flow a.h5 -o f.h5", code=2).err  # as of every graph


def test_commands_glm_trials_inputs_and_counts(lft_main, tmp_path):
    recording()
    events = "--input events:3:-50ms,200ms --input smooth:3"
    line = f"fit s.npz --bin 10ms --model glm --basis raised-cosine:2:50ms --own-basis none {events} -o g.h5"
    lft_main(line)
    stored = load_fit("g.h5")
    assert stored["inputs"].shape == (3000, 5) and stored["weights"].shape == (4, 4, 2)
    assert stored["own_weights"].shape == (4, 0) and not stored["J_lag"][:, range(4), range(4)].any()
    lft_main("run g.h5 -o g_run.h5 --set run.replicas=2 --set lattice.bins=100 --quiet")
    out = lft_main(["run", "g.h5", "-o", "x.h5", "--set", "lattice.bins=3001", "--quiet"], 2)
    assert "inputs have 3000" in out.err
    lft_main(
        ["fit", *"s.npz --bin 10ms --model glm --trials".split(), "-300 ms,600 ms", *"-o t.h5 --json t.json".split()]
    )
    assert json.loads((tmp_path / "t.json").read_text())["n_bins"] == 90 * 32
    lft_main("fit s.npz --bin 50ms --model glm --family poisson -o p.h5 --json p.json")
    assert not any("clipped" in w for w in json.loads((tmp_path / "p.json").read_text())["warnings"])
    assert "counts" in lft_main("run p.h5 -o x.h5", 2).err
    lft_main("fit s.npz --bin 20ms --model gaussian --lags 1 -o n.h5")
    assert load_fit("n.h5")["precision"].shape == (4, 4)


def test_events_keep_the_clock_of_the_recording_in_a_window(lft_main, tmp_path):
    """A window is a part of the recording: events count from the start of the recording, as the window itself."""
    recording(6000)
    options = ["--bin", "10ms", "--model", "glm", "--input", "events:3:0,100ms"]
    lft_main(["fit", "s.npz", *options, "--window", "10.5,50", "-o", "window.h5"])
    whole = read_recording("s.npz")
    part = whole.window(10.5, 50.0)
    events = np.load("s.npz")["events_s"]
    arrays = {"spike_times": part.spike_times, "spike_index": part.spike_index, "duration_s": part.duration_s}
    np.savez("cut.npz", **arrays, events_s=events - 10.5)
    lft_main(["fit", "cut.npz", *options, "-o", "cut.h5"])
    assert np.array_equal(load_fit("window.h5")["input_weights"], load_fit("cut.h5")["input_weights"])
    np.savez("moved.npz", **arrays, events_s=events)  # the mutant: the window's spikes, the recording's events
    lft_main(["fit", "moved.npz", *options, "-o", "moved.h5"])
    assert not np.allclose(load_fit("window.h5")["input_weights"], load_fit("moved.h5")["input_weights"], atol=0.05)
    said = lft_main(["fit", "s.npz", *options, "--window", "10.5,50", "--trials", "0s,200ms", "-o", "t.h5"])
    inside = (events >= 10.5) & (events + 0.2 <= 50.0)
    assert f"{(~inside).sum()} of {len(events)} events have no complete trial" in said.err
    assert json.loads(load_fit("t.h5").attributes["json"])["n_bins"] == 20 * inside.sum()


def test_events_of_other_trials_count_and_shared_bins_are_named():
    spikes = Recording(0.0131 * np.arange(700), np.array([0, 700]), 10.0)
    args = argparse.Namespace(trials="-100 ms,400 ms", window=None)
    with pytest.warns(DataWarning, match="1 of 3 trials begin before the last one has ended"):
        rasters, _, _, at = cut(spikes, 0.01, args, np.array([1.0, 1.3, 5.0]), False)
    assert len(rasters) == 3 and [e.tolist() for e in at] == [[10, 40, 410], [-20, 10, 380], [-390, -360, 10]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--model kinetic --basis bspline:3:50ms", "--basis: only for --model glm, not for --model kinetic"),
        ("--model kinetic --lags 0", "--lags 0"),
        ("--model glm --basis bspline:3", "NAME:N:DURATION"),
        ("--model glm --basis bspline:3:55ms", "multiple of the bin width"),
        ("--model glm --input drift:3", "smooth:N"),
        ("--model glm --input smooth:x", "'x'"),
        ("--model glm --input events:3:10ms", "START,STOP"),
        ("--model glm --events none.txt --input events:3:0,50ms", "no such file"),
        ("--model glm --input covariates:none.npy", "no such file"),
        ("--model glm --trials 1,2", "positive number with a unit"),
        ("--model glm --refractory 1ms", "multiple of the bin width"),
        ("--model gaussian --family poisson", "not for --model gaussian"),
        ("--model glm --method tap", "valid for the model glm"),
    ],
)
def test_bad_options_are_one_line(lft_main, line, words):
    recording(300)
    out = lft_main(f"fit s.npz --bin 10ms -o x.h5 {line}", 2)
    assert words in out.err and out.err.count("\n") == 1


def test_configuration_of_a_chain(lft_main):
    head = "seed = 3\n[lattice]\nshape = [2, 60]\n"
    text = head + '[action]\nname = "{}"\nh = [-0.5, -0.2]\nJ = [[0.0, 0.5], [0.0, 0.1]]\n{}'
    cases = {
        "good": ("kinetic", "[run]\nreplicas = 3\n", None),
        "update": ("kinetic", '[update]\nname = "heatbath"\n', "draw"),
        "tempering": ("kinetic", "[tempering]\nmin = 0.5\nmax = 1.0\ncount = 3\n", "no temperature"),
        "link": ("glm", "", None),
        "start": ("kinetic", '[run]\nstart = "hot"\n', "start"),
    }
    for name, (action, more, words) in cases.items():
        Path(f"{name}.toml").write_text(text.format(action, more))
        out = lft_main(f"run {name}.toml -o {name}.h5 --quiet", 2 if words else 0)
        assert words is None or words in out.err
    periodic = text.format("kinetic", "").replace("[2, 60]", '[2, 60]\nboundary = "periodic"')
    Path("p.toml").write_text(periodic)
    assert "open" in lft_main("run p.toml -o p.h5 --quiet", 2).err


def test_counting_finds_the_boundary_cells():
    """The cells of a small table by brute force."""
    raster = rasters_of("logit", (60,), 3, seed=3)[0]
    task, _, targets = make_task(
        [raster], make_basis("identity", 2, 2), make_basis("identity", 2, 2), "logit", test=0.0
    )
    from lft.inference.causal.design import Batch

    together, total = boundary.coincidences(Batch(task.design, targets))
    for k in (1, 2):
        for i in range(3):
            assert total[i] == raster[2:, i].sum()
            for j in range(3):
                assert together[k - 1, j, i] == (raster[2:, i] * raster[2 - k : 60 - k, j]).sum()
                assert task.exposed[k - 1, j] == raster[2 - k : 60 - k, j].sum()
    assert BoundInputs().columns(0, 3).shape == (3, 0)


def test_penalties_of_the_package_serve_through_the_objective():
    """l2 of a given strength is the ridge; l1 keeps fewer couplings and finds the strong one."""
    from lft.inference.penalty.fit import fit_penalized

    J = np.zeros((1, 5, 5))
    J[0, 0, 1] = 0.5
    raster = CausalModel.of_spins(np.full(5, -0.5), J).simulate(3000, seed=1)[0]

    def penalize(kind, strength):
        def estimate(objective):
            fit = fit_penalized(objective, kind, strength=strength)
            return fit.theta, fit.errors.influences

        return estimate

    ridge = fit_kinetic(raster, ridge=4.0, test=0.0)
    same = fit_kinetic(raster, test=0.0, penalize=penalize("l2", 4.0))
    assert np.allclose(same.J_lag, ridge.J_lag, atol=1e-6) and np.allclose(same.h, ridge.h, atol=1e-6)
    sparse = fit_kinetic(raster, test=0.0, penalize=penalize("l1", 4.0))
    assert sparse.J_lag[0, 0, 1] > 0.2 and (sparse.J_lag == 0).sum() > 12


def test_same_bits_from_every_instruction_set():
    """The sums over lagged spikes, forced through each path that runs here."""
    from lft._kernels import lagged

    raster = (np.random.default_rng(4).random((1500, 9)) < 0.15).astype(np.int8)
    first, results = lagged.path(), {}
    try:
        for name in ("baseline", "avx2", "avx512"):
            if lagged.force(name):
                fit = fit_kinetic(raster, n_lags=2)
                arrays = fit.arrays()
                results[name] = arrays["J_lag"], arrays["J_lag_error"], arrays["h"]
    finally:
        lagged.force(first)
    assert first in results and "baseline" in results and not lagged.force("sse9")
    for other in results.values():
        assert all(np.array_equal(a, b) for a, b in zip(results["baseline"], other, strict=True))
