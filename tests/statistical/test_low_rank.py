"""Couplings of low rank: exact samples are recovered with errors that are right, and smaller than without the rank."""

import numpy as np
import pytest

from lft.errors import InputError
from lft.inference.neural_fit import fit_pairwise
from lft.inference.pseudo import low_rank
from lft.inference.pseudo.low_rank import fit_low_rank, principal_factors
from lft.inference.pseudo.objective import pairwise_objective
from tests.statistical.test_fit_recovery import LIMIT, defects, inverse_information
from tests.statistical.test_pseudo_recovery import words_of

N, SIGNS = 7, np.array([1.0, -1.0])


def samples(rng, b, c, n_bins):
    words = words_of(N)
    a = np.einsum("r,ri,rj->ij", SIGNS, b, b)
    np.fill_diagonal(a, 0.0)
    weight = 0.5 * np.einsum("wi,ij,wj->w", words, a, words) + words @ c
    return a, words[rng.choice(len(words), n_bins, p=np.exp(weight - np.logaddexp.reduce(weight)))]


def z_values(rng, n_sets, n_bins=10000, rank=2):
    upper, z, ratio = np.triu_indices(N, 1), [], []
    for _ in range(n_sets):
        b = rng.uniform(0.4, 0.9, (2, N)) * np.where(rng.random((2, N)) < 0.5, 1, -1)
        a, x = samples(rng, b, rng.uniform(-1, 0, N), n_bins)
        fit, free = fit_low_rank(x, rank), fit_pairwise(x, test=0)
        z.append((4 * fit.J - a)[upper] / (4 * fit.J_error[upper]))
        ratio.append((fit.J_error / np.maximum(free.J_error, 1e-300))[upper])
        off_diagonal = np.linalg.svd(fit.J[: rank + 1, rank + 1 : 2 * rank + 2], compute_uv=False)
        assert off_diagonal[-1] < 1e-12 < 1e-4 < off_diagonal[0]  # the rank holds
    return np.array(z), np.array(ratio)


def test_patterns_are_recovered(monkeypatch):
    z, ratio = z_values(np.random.default_rng(1), 8)
    # 14 free numbers behind 21 couplings of a set: their z are correlated
    assert max(defects(z)) < LIMIT and ratio.mean() < 0.95
    z, _ = z_values(np.random.default_rng(1), 4, rank=1)  # one pattern where there are two
    assert defects(z)[1] > LIMIT
    monkeypatch.setattr("lft.inference.newton.influences", inverse_information)
    z, _ = z_values(np.random.default_rng(1), 8)
    assert defects(z)[1] > LIMIT


def test_jacobian_and_gauge():
    rng = np.random.default_rng(2)
    b, c = rng.normal(size=(2, N)), rng.normal(size=N)
    _, x = samples(rng, 0.5 * b, c, 500)
    factors = low_rank._Factors(pairwise_objective(x), SIGNS)
    beta, step = np.append(b.ravel(), c), 1e-6
    numeric = [(factors.theta(beta + e) - factors.theta(beta - e)) / (2 * step) for e in np.eye(len(beta)) * step]
    assert np.allclose(factors.jacobian(beta), np.array(numeric).T, atol=1e-8)
    gauge = factors.gauge(beta)
    assert len(gauge) == 1 and np.abs(factors.jacobian(beta) @ gauge.T).max() < 1e-12


def test_principal_factors_find_an_exact_decomposition():
    b = np.random.default_rng(4).normal(size=(2, 12))
    a = np.einsum("r,ri,rj->ij", SIGNS, b, b)
    found, signs = principal_factors(a - np.diag(a.diagonal()), 2, steps=5000)
    again = np.einsum("r,ri,rj->ij", signs, found, found)
    assert sorted(signs) == [-1, 1] and np.allclose(again, a, atol=1e-5)


def test_bad_rank_is_one_line():
    x = (np.random.default_rng(3).random((200, 4)) < 0.4).astype(np.int8)
    for rank in (0, 4, 1.5, True):
        with pytest.raises(InputError, match=r"rank = .*from 1 to 3"):
            fit_low_rank(x, rank)
    x[:, 2] = 0
    with pytest.raises(InputError, match="unit 2 never"):
        fit_low_rank(x, 1)
