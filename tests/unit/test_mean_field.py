"""Inversions of the covariance: exact where theory says so, measured against maximum likelihood elsewhere."""

import numpy as np
import pytest

from lft.errors import DivergenceError, InputError
from lft.inference.likelihood import exact, fit_exact, fit_mean_field, fit_probability_flow, from_arrays, invert
from lft.inference.likelihood.exact_fit import Problem
from lft.inference.likelihood.mean_field import METHODS
from lft.inference.likelihood.probability_flow import FlowObjective


def moments(J, h):
    """Exact m and C of spins."""
    n = len(h)
    p, _ = exact.probabilities(from_arrays("pairwise", {"J": J, "h": h}))
    s = 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1) - 1
    m = p @ s
    return m, (s.T * p) @ s - np.outer(m, m)


def random_model(n, size, seed, tree=False):
    rng = np.random.default_rng(seed)
    J = np.zeros((n, n))
    pairs = [(i, rng.integers(0, i)) for i in range(1, n)] if tree else zip(*np.triu_indices(n, 1), strict=True)
    for i, j in pairs:
        J[i, j] = J[j, i] = rng.normal(0, size)
    return J, rng.normal(0, 0.4, n)


@pytest.mark.parametrize("seed", range(4))
def test_bethe_is_exact_on_trees(seed):
    J, h = random_model(8, 0.7, seed, tree=True)
    found = invert("bethe", *moments(J, h))
    assert np.allclose(found[0], J, atol=1e-10) and np.allclose(found[1], h, atol=1e-10)
    for other in ("mean-field", "tap"):  # what is no Bethe approximation fails
        assert np.abs(invert(other, *moments(J, h))[0] - J).max() > 1e-3


@pytest.mark.parametrize(("method", "order"), [("mean-field", 2), ("tap", 3), ("sessak-monasson", 4), ("bethe", 3)])
def test_orders_of_the_expansions(method, order):
    """The error of J falls as a power of the size of J: halving it divides the error by 2^order."""
    J, h = random_model(6, 1.0, 1)
    errors = []
    for size in (0.02, 0.01):
        error = np.abs(invert(method, *moments(size * J, h))[0] - size * J).max()
        errors.append(error)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_two_units():
    """One pair: Bethe and Sessak-Monasson are exact, mean field is not."""
    J = np.array([[0, 0.5], [0.5, 0]])
    m, C = moments(J, np.array([0.3, -0.2]))
    assert np.allclose(invert("bethe", m, C)[0], J) and np.allclose(invert("sessak-monasson", m, C)[0], J)
    assert abs(invert("mean-field", m, C)[0][0, 1] - 0.5) > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_fits_are_near_the_exact_one(method):
    J, h = random_model(8, 0.12, 2)
    raster = from_arrays("pairwise", {"J": J, "h": h - 0.5}).simulate(20000, seed=1)[0]
    best, fit = fit_exact(raster), fit_mean_field(raster, method=method)
    upper = np.triu_indices(8, 1)
    assert np.sqrt(((fit.J - best.J)[upper] ** 2).mean()) < {"mean-field": 0.05}.get(method, 0.02)
    assert np.allclose(fit.J_error[upper], best.J_error[upper], rtol=0.35)
    assert fit.score["kind"] == "pseudo-log-likelihood" and fit.method == method


def test_roots_that_do_not_exist_are_named():
    m = np.array([0.6, 0.6, 0.6])
    C = np.diag(1 - m**2)
    C[0, 1] = C[1, 0] = -0.3
    J, h = invert("tap", m, C)
    assert np.isnan(J[0, 1]) and np.isfinite(J[0, 2]) and np.isfinite(h).all()
    raster = (np.random.default_rng(1).random((3000, 2)) < 0.3).astype(np.int8)
    raster[:, 1] &= 1 - raster[:, 0]  # the pair alone has J = -infinity
    fit = fit_mean_field(raster, method="sessak-monasson")
    assert fit.unbounded == ["J[0,1]", "h[0]", "h[1]"] and "no real root" in fit.warnings[0]
    assert fit.J[0, 1] == 0 and np.isnan(fit.J_error[0, 1])


def test_flow_objective():
    rng = np.random.default_rng(3)
    raster = (rng.random((400, 4)) < 0.3).astype(np.int8)
    problem = Problem([raster], "pairwise", (), 0.0, 0.0)
    objective = FlowObjective(problem.operators, problem.train)
    theta = rng.normal(0, 0.3, objective.size)
    value, gradient, make = objective.evaluate(theta)
    sigma = 2 * raster - 1
    assert value == pytest.approx(-np.exp(-0.5 * sigma * problem.operators.model(theta).log_odds(raster)).sum())
    assert np.allclose(objective.score(theta, 0, 150) + objective.score(theta, 150, 400), gradient)
    information = make(None)
    for k in range(objective.size):
        step = 1e-5 * np.eye(objective.size)[k]
        up, down = (objective.evaluate(theta + s * step) for s in (1, -1))
        assert gradient[k] == pytest.approx((up[0] - down[0]) / 2e-5, rel=1e-6)
        assert np.allclose(information.solve((down[1] - up[1]) / 2e-5), np.eye(objective.size)[k], atol=1e-5)


def test_flow_recovers_couplings():
    J, h = random_model(6, 0.25, 4)
    model = from_arrays("pairwise", {"J": J, "h": h - 0.5})
    fit = fit_probability_flow(model.simulate(30000, seed=2)[0])
    upper = np.triu_indices(6, 1)
    z = ((fit.J - J) / np.where(fit.J_error > 0, fit.J_error, 1))[upper]
    assert np.abs(z).max() < 4.5 and 0.5 < z.std() < 1.6 and fit.J_error[upper].max() < 0.02


def test_bad_requests():
    raster = (np.random.default_rng(0).random((200, 3)) < 0.3).astype(np.int8)
    with pytest.raises(InputError, match="method 'plefka'"):
        fit_mean_field(raster, method="plefka")
    with pytest.raises(InputError, match="method 'plefka'"):
        invert("plefka", np.zeros(2), np.eye(2))
    with pytest.raises(InputError, match="n_blocks = 1"):
        fit_mean_field(raster, n_blocks=1)
    with pytest.raises(DivergenceError, match="copies"):
        fit_mean_field(np.column_stack([raster, raster[:, 0]]))
    with pytest.raises(InputError, match="151 units"):
        fit_probability_flow(np.random.default_rng(0).integers(0, 2, (400, 151)).astype(np.int8), test=0)
