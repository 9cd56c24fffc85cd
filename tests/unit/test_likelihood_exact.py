"""Exact likelihoods: moments, log Z and fits against sums over states that share no line with them."""

import itertools

import numpy as np
import pytest

from lft.errors import DivergenceError, InputError
from lft.inference.likelihood import GibbsModel, exact, exact_fit, fit_exact, from_arrays, log_likelihood, normalization
from lft.inference.likelihood.exact_fit import ExactObjective, Problem
from lft.inference.likelihood.operators import Operators, blocks_of
from lft.inference.neural_fit import fit_pairwise
from lft.testing.enumeration import enumerate_neural

A2, B2, I2 = [[0, -0.3], [-0.3, 0]], [-0.25], [0.5, 0.5]


def operators(n, lags=(), levels=()):
    return Operators(n, np.argwhere(np.triu(np.ones((n, n), bool), 1)), lags, levels, np.arange(n), np.zeros(n))


def brute(op, model, n_bins):
    """log Z, <O>, cov(O) by summing over all stretches."""
    n = op.n_units
    states = np.array(list(itertools.product([0, 1], repeat=n * n_bins))).reshape(-1, n_bins, n)
    w = model.log_weights(states).sum(axis=1)
    log_z = np.logaddexp.reduce(w)
    p, values = np.exp(w - log_z), op.values(states)
    mean = p @ values
    return log_z, mean, (values.T * p) @ values - np.outer(mean, mean)


def test_reference_values_of_the_theory():
    """N = 2, T = 3 of the theory page, section 11."""
    model = from_arrays("neural", {"A": A2, "B": B2, "lags": [1], "I": I2})
    transfer = exact.Transfer(model)
    assert transfer.log_z(3) == pytest.approx(3.7040818736814, abs=1e-12)
    op = operators(2, (1,))
    mean = transfer.mean(op, 3)
    entropy = transfer.log_z(3) - op.theta(model) @ mean
    assert entropy == pytest.approx(4.0562545854972, abs=1e-12)
    assert mean[0] / 3 == pytest.approx(0.3380221924, abs=1e-10)  # Phi_01
    assert mean[1] / 2 == pytest.approx(2 * 0.3413066935, abs=1e-9)  # two pairs of bins, two units: N Pi each
    moments = enumerate_neural(A2, {1: -0.25}, I2, T=3)
    assert mean[2:].sum() == pytest.approx(moments.phi.sum(), abs=1e-12)


def test_static_moments():
    op = operators(5, levels=((3,), (4, 5)))
    model = op.model(np.random.default_rng(0).normal(0, 0.6, op.size))
    log_z, mean, covariance = brute(op, model, 1)
    found = exact.static_moments(op, model)
    assert found[0] == pytest.approx(log_z, abs=1e-12)
    assert np.allclose(found[1], mean, atol=1e-13) and np.allclose(found[2], covariance, atol=1e-13)
    assert np.allclose(op.theta(model), op.theta(op.model(op.theta(model))))


@pytest.mark.parametrize("n_bins", [1, 2, 5])
def test_transfer_matrix(n_bins):
    op = operators(3, (1, 3), ((3,),))
    model = op.model(np.random.default_rng(1).normal(0, 0.6, op.size))
    log_z, mean, _ = brute(op, model, n_bins)
    transfer = exact.Transfer(model)
    assert transfer.log_z(n_bins) == pytest.approx(log_z, abs=1e-12)
    assert np.allclose(transfer.mean(op, n_bins), mean, atol=1e-12)


def test_long_stretches_are_two_ends_and_a_bulk():
    """The mean is the derivative of log Z, also where only converged vectors are used."""
    op = operators(2, (1, 2))
    theta = np.random.default_rng(2).normal(0, 0.8, op.size)
    mean = exact.Transfer(op.model(theta)).mean(op, 3000)
    for k in range(op.size):
        step = 1e-5 * np.eye(op.size)[k]
        up, down = (exact.Transfer(op.model(theta + s * step)).log_z(3000) for s in (1, -1))
        assert mean[k] == pytest.approx((up - down) / 2e-5, rel=1e-8)


def test_directed_lags():
    rng = np.random.default_rng(3)
    model = GibbsModel([-0.5, -1.0], [[0, 0.4], [0.4, 0]], None, None, rng.normal(0, 0.7, (2, 2, 2)))
    assert exact.log_z(model, 5) == pytest.approx(brute(operators(2), model, 5)[0], abs=1e-12)
    C = model.C.copy()
    C[0] = C[0].T  # the mutant: source and target of one lag (of all of them: the same backwards in time)
    assert abs(exact.log_z(GibbsModel(model.c, model.a, None, None, C), 5) - exact.log_z(model, 5)) > 1e-3


def test_objective_is_consistent():
    rng = np.random.default_rng(4)
    rasters = [(rng.random((n, 2)) < 0.4).astype(np.int8) for n in (60, 60, 31)]
    problem = Problem(rasters, "neural", (1,), 0.0, 0.5)
    objective = ExactObjective(problem.operators, problem.train, 0.5)
    theta = rng.normal(0, 0.3, objective.size)
    _, gradient, make = objective.evaluate(theta)
    information = make(None)
    for k in range(objective.size):
        step = 1e-5 * np.eye(objective.size)[k]
        up, down = (objective.evaluate(theta + s * step) for s in (1, -1))
        assert gradient[k] == pytest.approx((up[0] - down[0]) / 2e-5, rel=1e-6, abs=1e-6)
        assert np.allclose(information.solve((down[1] - up[1]) / 2e-5), np.eye(objective.size)[k], atol=1e-5)


@pytest.mark.parametrize("lags", [1, 2])
def test_covariance_of_long_stretches(lags):
    """All that the bins of a stretch share, against differences of exact moments."""
    rng = np.random.default_rng(lags)
    directed = np.indices((lags, 3, 3)).reshape(3, -1).T[::2] + np.array([1, 0, 0])
    op = Operators(3, np.array([[0, 1], [1, 2]]), (1,), ((3,),), np.array([0, 2]), np.full(3, -1.0), directed, lags)
    theta = rng.normal(0, 0.6, op.size)
    transfer = exact.Transfer(op.model(theta))
    longer, shorter = (
        ExactObjective(op, [np.tile([[1, 0, 1], [1, 1, 0], [1, 1, 1]], (n, 1))])._differences(theta) for n in (900, 500)
    )
    found = transfer.covariance(op)
    assert np.allclose(found, (longer - shorter) / 1200, atol=1e-7) and np.allclose(found, found.T, atol=1e-14)
    joint = transfer.joint(4000) / 4000
    alone = (joint.sum(axis=0) @ transfer.bits[:, 0]) * (1 - joint.sum(axis=0) @ transfer.bits[:, 0])
    assert abs(found[op.at["c"].start, op.at["c"].start] / alone - 1) > 0.02  # the mutant: bins as independent


def test_fit_matches_moments_and_beats_the_pseudo_likelihood():
    raster = GibbsModel([-1.0, -0.5, -1.0, 0.0], np.full((4, 4), 0.8) - 0.8 * np.eye(4)).simulate(3000, seed=1)[0]
    fit, other = fit_exact(raster, test=0), fit_pairwise([raster], test=0)
    model = from_arrays("pairwise", fit.arrays())
    op = operators(4)
    assert np.allclose(exact.static_moments(op, model)[1] * 3000, op.total(raster), atol=1e-3)
    best = fit.score["train"]
    pseudo = log_likelihood(from_arrays("pairwise", other.arrays()), [raster]).value / raster.size
    assert best > pseudo > best - 1e-3
    assert best == pytest.approx(log_likelihood(model, [raster]).value / raster.size, abs=1e-12)


def test_neural_fit_matches_moments():
    model = GibbsModel([-1.0, -0.5], [[0, 0.8], [0.8, 0]], None, {1: 0.6, 2: -0.4})
    raster = model.simulate(2000, seed=2)[0]
    fit = fit_exact([raster[:700], raster[700:]], model="neural", lags=(1, 2), test=0)
    found = from_arrays("neural", fit.arrays())
    op = operators(2, (1, 2))
    transfer = exact.Transfer(found)
    expected = transfer.mean(op, 700) + transfer.mean(op, 1300)
    assert np.allclose(expected, op.total(raster[:700]) + op.total(raster[700:]), atol=1e-3)
    assert np.isfinite(list(fit.B_error.values())).all() and fit.log_z[1] == 0


def test_lagged_fit_matches_moments():
    rng = np.random.default_rng(6)
    model = GibbsModel([-1.0, -0.5], [[0, 0.6], [0.6, 0]], None, None, rng.normal(0, 0.6, (2, 2, 2)))
    raster = model.simulate(1500, seed=2)[0]
    fit = fit_exact([raster[:700], raster[700:]], model="lagged", k_max=2, test=0, n_blocks=0)
    found = from_arrays("lagged", fit.arrays())
    directed = np.array([(k, i, j) for k in (1, 2) for i in range(2) for j in range(2)])
    op = Operators(2, np.array([[0, 1]]), (), (), np.arange(2), np.zeros(2), directed, 2)
    transfer = exact.Transfer(found)
    expected = transfer.mean(op, 700) + transfer.mean(op, 800)
    assert np.allclose(expected, op.total(raster[:700]) + op.total(raster[700:]), atol=1e-3)
    # the operators count what they say, by loops
    x = raster[:50].astype(int)
    for name, total in zip(op.names(), op.total(x), strict=True):
        if name[0] == "C":
            k, i, j = map(int, name[2:-1].split(","))
            assert total == sum(x[a, i] * x[a - k, j] for a in range(k, 50))
    assert np.array_equal(op.values(x[None])[0], op.total(x))
    z = (fit.J_lag - model.C) / fit.J_lag_error
    assert np.abs(z).max() < 4.5 and np.abs((fit.J_lag.transpose(0, 2, 1) - model.C) / fit.J_lag_error).max() > 4.5


def test_k_pairwise_recovers_v():
    V = np.array([0, 0, 0, 1.0, 1.5, 0.5])
    raster = GibbsModel(np.full(5, -1.0), 0.3 * (1 - np.eye(5)), V).simulate(20000, seed=3)[0]
    fit = fit_exact(raster, model="k-pairwise")
    z = (fit.V[3:] - V[3:]) / fit.V_error[3:]
    assert np.abs(z).max() < 4.5 and fit.V_error[3] < 0.3
    assert fit.gain[0] > 0 and "V[4]" in fit.named()


def test_blocks_add_up():
    rng = np.random.default_rng(5)
    rasters = [(rng.random((n, 3)) < 0.4).astype(np.int8) for n in (50, 37)]
    op = operators(3, (1, 4), ((3,),))
    edges = np.array([0, 13, 40, 61, 87])
    assert np.array_equal(blocks_of(op, rasters, 0, 87, edges).sum(axis=0), sum(op.total(r) for r in rasters))
    assert np.array_equal(op.values(rasters[0][None])[0], op.total(rasters[0]))


def test_log_likelihood_of_blocks():
    model = from_arrays("neural", {"A": A2, "B": B2, "lags": [1], "I": I2})
    raster = np.array([[1, 0], [1, 1], [0, 1]])
    states = np.array(list(itertools.product([0, 1], repeat=6))).reshape(-1, 3, 2)
    total = np.logaddexp.reduce([model.log_weights(s).sum() for s in states])
    found = log_likelihood(model, [raster], [[0, 1, 3]])
    assert found.value == pytest.approx(model.log_weights(raster).sum() - total, abs=1e-12)
    assert found.blocks.sum() == pytest.approx(found.value, abs=1e-12) and len(found.blocks) == 2
    assert normalization(model).method == "exact"


def test_the_edge_of_a_state_in_which_units_keep_on_firing():
    """Bursts of e^8 bins, and of a few: steps go on from the second alone."""
    for b, is_edge in ((16.0, True), (2.0, False)):
        transfer = exact.Transfer(GibbsModel([-b], b={1: b}), 20_000)
        if is_edge:
            with pytest.raises(DivergenceError, match=r"felt over \d+ bins.*give --ridge"):
                exact_fit._check_memory(transfer)
        else:
            exact_fit._check_memory(transfer)


def test_what_has_no_maximum_is_named():
    rng = np.random.default_rng(6)
    raster = (rng.random((500, 4)) < 0.3).astype(np.int8)
    raster[:, 2] = 0
    raster[:, 1] &= 1 - raster[:, 0]
    fit = fit_exact(raster, test=0)
    assert {"I[2]", "A[0,1]", "h[0]", "h[1]"} <= set(fit.unbounded) and np.isnan(fit.J_error[0, 1])
    assert fit.J[0, 1] < -0.5 and np.isfinite(fit.J).all()  # held, on its side
    twin = np.column_stack([raster[:, 0], raster[:, 0]])
    assert "A[0,1]" in fit_exact(twin, test=0).unbounded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "lattice"}, "model 'lattice'"),
        ({"model": "neural", "lags": (9,)}, "at most 20 units without lags"),
        ({"test": 1.0}, "test = 1.0"),
        ({"ridge": -1}, "ridge = -1"),
        ({"unit": [0]}, "one integer per unit"),
    ],
)
def test_bad_requests(options, message):
    raster = (np.random.default_rng(0).random((100, 3)) < 0.3).astype(np.int8)
    with pytest.raises(InputError, match=message):
        fit_exact(raster, **options)


def test_too_large_or_empty():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="21 units"):
        fit_exact((rng.random((200, 21)) < 0.3).astype(np.int8))
    with pytest.raises(InputError, match="nothing to fit"):
        fit_exact(np.zeros((10, 2), np.int8))
    with pytest.raises(InputError, match="transfer matrix"):
        exact.Transfer(GibbsModel(np.zeros(13), b={1: 0.1}))
    with pytest.raises(DivergenceError, match="no finite maximum"):
        fit_exact(np.array([[0, 1], [1, 0]] * 20, np.int8), model="neural", lags=(1,))
