"""The potential of counts above all that occur: half a bin at first; scores follow, and nothing else moves."""

import numpy as np
import pytest

from lft.inference.likelihood import GibbsModel, from_fit
from lft.inference.likelihood.counts import continue_potential
from lft.inference.pseudo.fit import fit_gibbs
from lft.inference.trials import split_trials

N = 7


@pytest.fixture(scope="module")
def raster():
    x = GibbsModel(np.full(N, -1.6), 0.4 * (1 - np.eye(N))).simulate(3000, seed=2)[0]
    return x[x.sum(axis=1) <= 4]


def expected(model, x, top):
    """Bins of ``top + 1`` spikes that the conditionals make of those of ``top``."""
    x = x[x.sum(axis=1) == top]
    return np.exp(model.log_odds(x))[x == 0].sum() / (top + 1)


def test_the_first_count_that_never_occurs_gets_half_a_bin(raster):
    fit = fit_gibbs("k-pairwise", raster, is_counted=True)
    flat, before, top = from_fit(fit), (fit.score, fit.gain), 4
    assert {f"V[{k}]" for k in range(top + 1, N + 1)} <= set(fit.unbounded)  # the flat direction is named
    (train,), (test,) = split_trials([raster], 0.2)
    assert train.sum(axis=1).max() == test.sum(axis=1).max() == top
    found = continue_potential(fit, [train], [test])
    model = from_fit(found)
    assert np.array_equal(model.V[: top + 1], flat.V[: top + 1]) and np.array_equal(model.a, flat.a)
    assert expected(model, train, top) == pytest.approx(0.5, rel=1e-12)
    assert expected(flat, train, top) > 3  # the mutant: V constant
    assert (np.diff(model.V)[top:] <= 0).all()
    for name, x in (("train", train), ("test", test)):
        assert found.score[name] == pytest.approx(model.pseudo_log_likelihood(x).mean() / N, abs=1e-12)
        assert found.score[name] > before[0][name]
    assert found.gain[0] - before[1][0] == pytest.approx(found.score["test"] - before[0]["test"], abs=1e-12)
    assert any(f"V above {top}," in line for line in found.warnings)


def test_a_potential_that_every_count_tells_is_left_alone(raster):
    fit = fit_gibbs("k-pairwise", raster[:, :4], is_counted=True, test=0)
    V, lines = fit.V.copy(), list(fit.warnings)
    found = continue_potential(fit, [raster[:, :4]], [])
    assert np.array_equal(found.V, V) and found.warnings == lines
