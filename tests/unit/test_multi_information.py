"""Multi-information of words: exact values, the corrections, and what pairs cannot explain."""

import numpy as np
import pytest

from lft.errors import DivergenceError, InputError
from lft.inference.likelihood import GibbsModel, exact
from lft.inference.likelihood.information import (
    entropy,
    multi_information,
    pairwise_entropy,
    word_counts,
)


def triplets(n=5):
    """A model that pairs do not exhaust."""
    V = np.zeros(n + 1)
    V[3:] = 1.2
    return GibbsModel(np.full(n, -1.4), 0.4 * (1 - np.eye(n)), V)


def truth(model):
    """(I_N, I_2) in bits of a model, without data."""
    n = model.n_units
    p, _ = exact.probabilities(model)
    g = exact.superset_sums(p)
    single = 1 << np.arange(n)
    rate, together = g[single], g[single[:, None] | single[None, :]]
    alone = -(rate * np.log2(rate) + (1 - rate) * np.log2(1 - rate)).sum()
    return alone + (p * np.log2(p)).sum(), alone - pairwise_entropy(rate, together)


def test_entropy_of_a_pairwise_model_is_its_own():
    rng = np.random.default_rng(0)
    a = np.triu(rng.normal(0, 1, (6, 6)), 1)
    model = GibbsModel(rng.normal(-1, 0.5, 6), a + a.T)
    total, pairs = truth(model)
    assert pairs == pytest.approx(total, abs=1e-8)
    total, pairs = truth(triplets())
    assert pairs < 0.97 * total  # and that of another is larger


def test_exclusive_units():
    """Couplings at infinity: two units that never fire together, one that fires only with another."""
    assert pairwise_entropy(np.array([0.25, 0.25]), np.array([[0.25, 0], [0, 0.25]])) == pytest.approx(1.5, abs=1e-7)
    p = np.array([0.3, 0.7])
    wanted = -(p * np.log2(p)).sum() + 0.3  # fires with 0.3; the other then with 1/2
    assert pairwise_entropy(np.array([0.3, 0.15]), np.array([[0.3, 0.15], [0.15, 0.15]])) == pytest.approx(
        wanted, abs=1e-6
    )
    with pytest.raises((DivergenceError, np.linalg.LinAlgError)):
        pairwise_entropy(np.array([0.2, 0.2]), np.array([[0.2, 0.5], [0.5, 0.2]]))


def test_counts():
    raster = (np.random.default_rng(1).random((500, 4)) < 0.4).astype(np.int8)
    counts = word_counts(raster)
    assert counts.sum() == 500 and counts[0] == (raster.sum(axis=1) == 0).sum()
    assert entropy(np.array([2, 2, 0, 4])) == pytest.approx(1.5)


def test_estimates_of_a_known_model():
    """Many short recordings: the plug-in is biased, the corrections are not, and errors are those of the scatter."""
    model = triplets()
    exactly = np.array(truth(model))
    n, values, errors = 24, {}, {}
    data = model.simulate(300, seed=2, n_chains=n)
    for estimate in ("plug-in", "miller-madow", "extrapolated"):
        found = [multi_information(x, estimate=estimate, n_blocks=8) for x in data]
        values[estimate] = np.array([[f.i_n[0], f.i_2[0]] for f in found])
        errors[estimate] = np.array([[f.i_n[1], f.i_2[1]] for f in found])
    for estimate, table in values.items():
        error = table.std(axis=0, ddof=1) / np.sqrt(n)
        z = (table.mean(axis=0) - exactly) / error
        assert (np.abs(z) < 4.5).all() == (estimate != "plug-in"), (estimate, z)
        assert (error < 0.08 * exactly).all()
        ratio = errors[estimate].mean(axis=0) / table.std(axis=0, ddof=1)
        assert (ratio > 0.6).all() and (ratio < 1.9).all(), (estimate, ratio)


@pytest.mark.parametrize(
    ("raster", "options", "message"),
    [
        (np.zeros((50, 1)), {}, "at least 2 units"),
        (np.full((50, 2), 2), {}, "values 0 and 1"),
        (np.zeros((50, 15)), {}, "15 units"),
        (np.zeros((50, 2)), {"estimate": "best"}, "estimate 'best'"),
        (np.zeros((50, 2)), {"n_blocks": 10}, "n_blocks = 10"),
    ],
)
def test_bad_requests(raster, options, message):
    with pytest.raises(InputError, match=message):
        multi_information(raster.astype(int), **options)
