"""K-pairwise and lagged fits recover known couplings, with calibrated errors, from exact samples.

Words of one bin are drawn by enumeration, lagged rasters by the transfer matrix over words.  Beside each law stand the
mutants that it must reject: a potential that sees the target itself, lags read backward, the causal half alone, errors
that take every conditional for an independent datum.
"""

import itertools

import numpy as np
import pytest

from lft.inference import newton
from lft.inference.neural_fit import fit_k_pairwise, fit_lagged, fit_neural, fit_pairwise
from lft.inference.pseudo import errors
from lft.inference.pseudo import fit as engine
from lft.inference.pseudo.objective import pairwise_objective
from tests.statistical.test_fit_recovery import LIMIT, defects, inverse_information
from tests.unit.test_pseudo_objective import causal_half, changed, shifted_potential, transposed_lag

KAPPA = 99 / 97  # variance of z whose error comes from 100 blocks (a t variable of 99 degrees of freedom)


def words_of(n):
    return np.array(list(itertools.product((0, 1), repeat=n)), np.int8)


# ---- k-pairwise
def k_pairwise_z(rng, n_sets, n=6, n_bins=20000, fields=(-1.2, -0.2)):
    """z of a (through J), of c (through I) and of V, of independent sets with couplings of their own."""
    words, upper = words_of(n), np.triu_indices(n, 1)
    z_a, z_v, shift = [], [], []
    for _ in range(n_sets):
        a = np.triu(rng.normal(0, 0.4, (n, n)), 1)
        a, c = a + a.T, rng.uniform(*fields, n)
        v = np.array([0, 0, 0, 0.5, 0.2, -0.8, -0.5]) + np.append(np.zeros(3), rng.normal(0, 0.2, n - 2))
        weight = 0.5 * np.einsum("wi,ij,wj->w", words, a, words) + words @ c + v[words.sum(axis=1)]
        probability = np.exp(weight - np.logaddexp.reduce(weight))
        fit = fit_k_pairwise(words[rng.choice(len(words), n_bins, p=probability)], test=0)
        z_a.append(np.append((4 * fit.J - a)[upper] / (4 * fit.J_error[upper]), (-fit.I - c) / fit.I_error))
        z_v.append((fit.V - v)[3:] / fit.V_error[3:])
        shift.append(0.5 / fit.V_error[3:])
    return np.array(z_a), np.array(z_v), np.array(shift)


def test_potential_of_the_count_is_recovered(monkeypatch):
    z_a, z_v, shift = k_pairwise_z(np.random.default_rng(1), 8)
    assert max(defects(z_a[:, :15])) < LIMIT and max(defects(z_a[:, 15:])) < LIMIT
    assert max(defects(z_v)) < LIMIT
    assert shift[:, 0].mean() > 3  # V(3) = 0.5 is seen in every set: the errors are small enough to mean something
    assert defects(z_v[:, 0] + shift[:, 0])[0] > LIMIT
    changed(monkeypatch, shifted_potential)
    z_a, z_v, _ = k_pairwise_z(np.random.default_rng(1), 5)
    assert max(defects(z_v)) > LIMIT


@pytest.mark.validate
def test_k_pairwise_calibration_over_many_sets():
    z_a, z_v, _ = k_pairwise_z(np.random.default_rng(2), 100, fields=(-0.4, 0.4))  # every K occurs often
    for z in (z_a[:, :15], z_a[:, 15:], z_v):
        # parameters of one set are correlated: a wider limit than for independent ones
        assert max(defects(z / np.sqrt(KAPPA))) < LIMIT + 2
    inside = np.abs(z_a) < 1.96
    assert 0.93 < inside.mean() < 0.97


# ---- lagged
def lagged_samples(rng, a, c, lag, n_bins, n_sets):
    """Exact rasters (sets, T, N) of a, c, C(1), open time: backward weights, then forward draws."""
    words = words_of(len(c)).astype(int)
    local = np.exp(0.5 * np.einsum("wi,ij,wj->w", words, a, words) + words @ c)
    step = np.exp(np.einsum("vj,ij,wi->vw", words, lag, words))  # from word v to word w one bin later
    beyond = np.ones((n_bins, len(words)))
    for t in range(n_bins - 2, -1, -1):
        beyond[t] = step @ (local * beyond[t + 1])
        beyond[t] /= beyond[t].sum()
    out = np.empty((n_sets, n_bins), int)
    weight = np.broadcast_to(local * beyond[0], (n_sets, len(words)))
    for t in range(n_bins):
        if t:
            weight = step[out[:, t - 1]] * local * beyond[t]
        cumulative = np.cumsum(weight, axis=1)
        out[:, t] = (cumulative < rng.random((n_sets, 1)) * cumulative[:, -1:]).sum(axis=1)
    return words[out].astype(np.int8)


def lagged_problem(rng, n=4):
    a = np.triu(rng.normal(0, 0.4, (n, n)), 1)
    return a + a.T, rng.uniform(-1.5, -0.5, n), rng.normal(0.1, 0.5, (n, n))


def lagged_z(rng, n_sets, n_bins=5000):
    """z of a and c; of C(1) as fitted and transposed; of C(2), which is 0."""
    a, c, lag = lagged_problem(rng)
    upper, z, z_lag, z_turned, z_none = np.triu_indices(4, 1), [], [], [], []
    for raster in lagged_samples(rng, a, c, lag, n_bins, n_sets):
        fit = fit_lagged(raster, k_max=2, test=0)
        z.append(np.append((-2 * fit.A - a)[upper] / (2 * fit.A_error[upper]), (-fit.I - c) / fit.I_error))
        z_lag.append(((fit.J_lag[0] - lag) / fit.J_lag_error[0]).ravel())
        z_turned.append(((fit.J_lag[0].T - lag) / fit.J_lag_error[0].T).ravel())
        z_none.append((fit.J_lag[1] / fit.J_lag_error[1]).ravel())
    return tuple(np.array(x) for x in (z, z_lag, z_turned, z_none))


def test_directed_couplings_are_recovered(monkeypatch):
    z, z_lag, z_turned, z_none = lagged_z(np.random.default_rng(3), 20)
    assert max(defects(z)) < LIMIT and max(defects(z_lag)) < LIMIT and max(defects(z_none)) < LIMIT
    assert defects(z_turned)[1] > LIMIT  # rows are targets
    for mutant in (transposed_lag, causal_half):
        with monkeypatch.context() as patch:
            changed(patch, mutant)
            z, z_lag, _, _ = lagged_z(np.random.default_rng(3), 8)
            # the past alone gives C all the same, but not a and c: the future weighs on them
            assert max(*defects(z), *defects(z_lag)) > LIMIT, mutant.__name__


@pytest.mark.validate
def test_lagged_calibration_over_many_sets():
    z, z_lag, _, z_none = lagged_z(np.random.default_rng(4), 200, 6000)
    for values in (z, z_lag, z_none):
        assert max(defects(values / np.sqrt(KAPPA))) < LIMIT + 2
        assert 0.93 < (np.abs(values) < 1.96).mean() < 0.97


def test_lag_one_alone_agrees_with_the_memory_of_the_neural_model():
    """Diagonal C(1), the same for all units, is b(1): the two families score the same data alike."""
    a, c, _ = lagged_problem(np.random.default_rng(5))
    raster = lagged_samples(np.random.default_rng(6), a, c, 0.8 * np.eye(4), 20000, 1)[0]
    neural, lagged = fit_neural(raster, lags=(1,)), fit_lagged(raster, k_max=1)
    own = lagged.J_lag[0].diagonal()
    error = lagged.J_lag_error[0].diagonal()
    assert np.all(np.abs(own - 0.8) < LIMIT * error)
    assert abs(-2 * neural.B[1] - 0.8) < LIMIT * 2 * neural.B_error[1]
    assert np.all(np.abs(own + 2 * neural.B[1]) < LIMIT * error) and np.all(error < 0.15)


# ---- errors
def test_errors_from_rows_are_those_of_the_averaged_estimator():
    """Against the sandwich of N independent regressions with J_ij and J_ji averaged, written out with plain loops."""
    rng = np.random.default_rng(7)
    words = words_of(5)
    a = np.triu(rng.normal(0, 0.5, (5, 5)), 1)
    weight = np.einsum("wi,ij,wj->w", words, a, words) - 0.5 * words.sum(axis=1)
    raster = words[rng.choice(32, 4000, p=np.exp(weight - np.logaddexp.reduce(weight)))]
    objective = pairwise_objective(raster)
    theta = newton.maximize(objective.evaluate, objective.start())[0]
    edges = np.linspace(0, 4000, 41).astype(int)
    influence, bound = errors.row_influences(objective, theta, edges)
    x = np.concatenate([raster, np.ones((4000, 1))], axis=1)
    weights = (objective.matrix @ theta).reshape(5, 6)
    slow = np.zeros((40, 5, 6))
    for i in range(5):
        others = [j for j in range(6) if j != i]
        p = 1 / (1 + np.exp(-x @ weights[i]))
        hessian = (x[:, others] * (p * (1 - p))[:, None]).T @ x[:, others]
        scores = np.add.reduceat((raster[:, i] - p)[:, None] * x[:, others], edges[:-1])
        slow[:, i, others] = np.linalg.solve(hessian, scores.T).T
    i, j = objective.layout.pairs.T
    expected = (slow[:, i, j] + slow[:, j, i]) / 2
    assert np.allclose(influence[:, :10], expected, rtol=1e-3, atol=1e-6)  # float32 rows: 6e-8 per term, 1e4 terms
    inverse = objective.evaluate(theta)[2](None).inverse_diagonal()
    assert np.all(bound >= inverse * (1 - 1e-6)) and np.all(bound[:10] < 1.05 * inverse[:10])


def test_errors_from_rows_agree_with_the_joint_ones(monkeypatch):
    rng = np.random.default_rng(8)
    a, c, lag = lagged_problem(rng)
    raster = lagged_samples(rng, a, c, lag, 8000, 1)[0]
    for fit in (fit_pairwise, fit_neural, fit_k_pairwise, fit_lagged):
        joint = fit(raster, test=0, n_blocks=50)
        with monkeypatch.context() as patch:
            patch.setattr(engine, "rows_bytes", lambda layout: np.inf)
            rows = fit(raster, test=0, n_blocks=50)
        assert joint.errors_from == "joint" and rows.errors_from == "rows"
        assert np.allclose(joint.A, rows.A, atol=1e-4)
        for name in ("A_error", "I_error", "h_error", "V_error", "J_lag_error"):
            one, two = getattr(joint, name), getattr(rows, name)
            if one is not None:
                assert np.allclose(one, two, rtol=0.12, equal_nan=True), (fit.__name__, name)  # 1/sqrt(98); same nan


def test_inverse_information_is_too_small(monkeypatch):
    """The mutant of the sandwich, for the potential of the count."""
    monkeypatch.setattr("lft.inference.newton.influences", inverse_information)
    z_a, _, _ = k_pairwise_z(np.random.default_rng(9), 6)
    assert defects(z_a)[1] > LIMIT
