"""Pairs that lack a joint state, by every method: right fields, honest errors, names; recordings are exact draws."""

import numpy as np
import pytest

from lft.inference import held, newton
from lft.inference.likelihood import fit_boltzmann, fit_exact, fit_mean_field, fit_probability_flow
from lft.inference.likelihood.boltzmann import _Learner
from lft.inference.likelihood.exact import probabilities
from lft.inference.likelihood.model import GibbsModel, from_fit
from lft.inference.neural_fit import fit_k_pairwise, fit_pairwise

N, BINS = 5, 2000
WORDS = (np.arange(1 << N)[:, None] >> np.arange(N)) & 1
METHODS = {"pseudo": fit_pairwise, "exact": fit_exact, "mpf": fit_probability_flow, "boltzmann": fit_boltzmann}


def drawn(seed):
    """Log-odds (a, c) of strongly coupled units, most of which are busy, and bins drawn from all 32 states."""
    rng = np.random.default_rng(seed)
    a = np.triu(rng.normal(0, 2.5, (N, N)), 1)
    a, c = a + a.T, rng.normal(-1.0, 0.5, N)
    p, _ = probabilities(GibbsModel(c, a))
    return a, c, WORDS[rng.choice(1 << N, BINS, p=p)].astype(np.int8)


def fields(fit_one, seeds):
    """z of J, h and I, as far as they have errors, and the number of h that have none."""
    z, lost, up = {"J": [], "h": [], "I": []}, 0, np.triu_indices(N, 1)
    for seed in seeds:
        a, c, x = drawn(seed)
        if not ((x.min(axis=0) == 0) & (x.max(axis=0) == 1)).all():
            continue  # a unit that never pauses has no field
        fit = fit_one(x, test=0)
        truth = {"J": a[up] / 4, "h": c / 2 + a.sum(axis=1) / 4, "I": -c}
        got = {"J": (fit.J[up], fit.J_error[up]), "h": (fit.h, fit.h_error), "I": (fit.I, fit.I_error)}
        for name, (value, error) in got.items():
            known = np.isfinite(error)
            z[name] += ((value - truth[name])[known] / error[known]).tolist()
        lost += int(np.isnan(fit.h_error).sum())
        named = {name for name in fit.unbounded if name[0] == "h"}
        assert named == {f"h[{i}]" for i in np.flatnonzero(np.isnan(fit.h_error))}
    return {name: np.array(v) for name, v in z.items()}, lost


def fixed(together, first, second, n_rows, judged=held.judged):
    """The mutant: every pair that lacks a joint state has no coupling."""
    keep, is_held = judged(together, first, second, n_rows)
    return keep & ~is_held, np.zeros_like(keep)


def bold(information, places, error):
    """The other: nothing but the pair itself loses its error."""
    return np.isin(np.arange(len(error)), places)


@pytest.mark.parametrize("method", ["pseudo", "exact", "mpf"])
def test_fields_beside_pairs_without_a_maximum(method, monkeypatch):
    seeds = range(3000, 3040)
    z, lost = fields(METHODS[method], seeds)
    widest = 1.35 if method == "mpf" else 1.25  # rare states weigh exponentially there: the sandwich is somewhat small
    assert all(np.abs(v).max() < 4.5 and 0.8 < v.std() < widest for v in z.values()), z
    assert len(z["h"]) > 1.5 * lost > 20
    with monkeypatch.context() as patch:
        patch.setattr(held, "judged", fixed)
        mutant, _ = fields(METHODS[method], seeds)
        assert np.abs(mutant["I"]).max() > 6
    monkeypatch.setattr(held, "carried", bold)
    assert np.abs(fields(METHODS[method], seeds)[0]["I"]).max() > 6


@pytest.mark.validate
def test_fields_by_boltzmann_learning(monkeypatch):
    seeds = range(3000, 3060)
    z, lost = fields(fit_boltzmann, seeds)
    assert all(np.abs(v).max() < 4.5 and 0.8 < v.std() < 1.25 for v in z.values()) and lost > 30
    monkeypatch.setattr(held, "judged", fixed)
    assert np.abs(fields(fit_boltzmann, seeds)[0]["I"]).max() > 6


def test_a_held_pair_is_at_the_maximum_with_its_prior():
    """Moments by enumeration: recorded less expected is the slope of the prior on the pair, and 0 elsewhere."""
    x = drawn(3000)[2]
    x[:, 1] &= 1 - x[:, 0]
    fit = fit_exact(x, test=0)
    p, _ = probabilities(from_fit(fit))
    left = x.T.astype(float) @ x - BINS * (WORDS.T * p) @ WORDS
    assert "A[0,1]" in fit.unbounded and -2 * fit.A[0, 1] < -4
    is_held = np.array([[f"A[{min(i, j)},{max(i, j)}]" in held_of(fit) for j in range(N)] for i in range(N)])
    assert np.abs(left[~is_held]).max() < 1e-3
    assert np.allclose(left[is_held], -2 * fit.A[is_held] / newton.HELD_SD**2, atol=1e-3)


def held_of(fit):
    """Names in the line of the fit."""
    line = next(w for w in fit.warnings if "lack a joint state" in w)
    return line.split(": ")[1].split(";")[0].split(", ")


@pytest.mark.parametrize("model", ["neural", "lagged", "k-pairwise"])
def test_every_family_names_the_same_pairs(model, monkeypatch):
    """A unit that fires only with another, one that never follows itself; the exact maximum and Boltzmann learning."""
    rng = np.random.default_rng(8)
    x = (rng.random((4000, 4)) < [0.5, 0.3, 0.4, 0.3]).astype(np.int8)
    x[:, 1] &= x[:, 0]
    for t in range(1, len(x)):
        x[t, 3] &= 1 - x[t - 1, 3]
    first, second = (f(x, model=model, test=0) for f in (fit_exact, fit_boltzmann))
    names = {"A[0,1]"} | ({"J_lag[1,3,3]"} if model == "lagged" else set())
    assert all(names == set(held_of(fit)) and names <= set(fit.unbounded) for fit in (first, second))
    assert first.A[0, 1] < -2 and np.isnan(first.A_error[0, 1]) and np.isnan(first.I_error[1])
    assert np.isfinite(first.I_error[2]) and abs(first.I[2] - second.I[2]) < 0.2 * first.I_error[2]
    assert abs(first.A[0, 1] - second.A[0, 1]) < 0.5
    if model == "neural":  # the mutant: the noise of moments is always reduced, that of rare joint states grows
        monkeypatch.setattr(_Learner, "moments", lambda self, chains, share: chains.moments(share))
        assert abs(first.A[0, 1] - fit_boltzmann(x, model=model, test=0).A[0, 1]) > 1


def test_rare_units_and_pairs_without_a_root():
    """Units too rare to meet: fixed at 0, and h has no error; the same for pairs that an inversion cannot give."""
    rng = np.random.default_rng(2)
    x = (rng.random((2000, 4)) < [0.02, 0.02, 0.3, 0.3]).astype(np.int8)
    x[:, 1] &= 1 - x[:, 0]
    for fit_one in (fit_pairwise, fit_exact, fit_probability_flow):
        fit = fit_one(x, test=0)
        assert {"A[0,1]", "h[0]", "h[1]"} == set(fit.unbounded) and fit.J[0, 1] == 0
        assert np.isnan(fit.h_error[:2]).all() and np.isfinite(fit.h_error[2:]).all() and np.isfinite(fit.I_error).all()
    fit = fit_mean_field(x, method="sessak-monasson", test=0)
    assert {"J[0,1]", "h[0]", "h[1]"} == set(fit.unbounded) and np.isnan(fit.I_error[:2]).all()


def test_what_always_fires_is_part_of_the_others():
    x = (np.random.default_rng(0).random((500, 4)) < 0.3).astype(np.int8)
    x[:, 1], x[:, 2] = 1, 0
    for fit in (fit_pairwise(x), fit_exact(x)):
        assert fit.warnings[0].startswith("1 never fire and 1 always fire of 4 units in training: I[2], I[1]; ")
        assert "couplings to I[1], which always fire, are part of the I of the others" in fit.warnings[0]


def test_a_potential_above_the_largest_number_is_told_once():
    rng = np.random.default_rng(1)
    x = (rng.random((800, 9)) < np.where(rng.random((800, 1)) < 0.3, 0.35, 0.1)).astype(np.int8)
    fit = fit_k_pairwise(x, test=0)
    lines = [w for w in fit.warnings if "V above" in w]
    assert len(lines) == 1 and "falls" in lines[0] and not any("constant" in w for w in fit.warnings)
