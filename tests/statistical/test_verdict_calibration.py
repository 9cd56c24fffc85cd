"""A right model is not rejected and a wrong one is; the right family wins the ranking.

Short versions run by default; ``-m validate`` repeats over seeds.
"""

import numpy as np
import pytest

from lft.errors import DivergenceError
from lft.inference.basis import make_basis
from lft.inference.causal.fit import fit_glm, fit_kinetic
from lft.inference.causal.model import CausalModel
from lft.inference.likelihood.exact_fit import fit_exact
from lft.inference.likelihood.model import GibbsModel, from_fit
from lft.inference.pseudo.fit import fit_gibbs
from lft.inference.trials import split_trials
from lft.inference.verdict.checks import check_model
from lft.inference.verdict.independent import IndependentModel
from lft.inference.verdict.ranking import rank
from lft.inference.verdict.statistics import Constraints

N = 6
BASIS = make_basis("raised-cosine", 4, 10)


def couplings(seed, scale):
    a = np.triu(np.random.default_rng(seed).normal(0, scale, (N, N)), 1)
    return a + a.T


def space_time(seed):
    return GibbsModel(np.random.default_rng(seed + 100).uniform(-2.5, -1.5, N), couplings(seed, 0.6), None, {1: 1.0})


def pairwise(seed):
    return GibbsModel(np.random.default_rng(seed + 100).uniform(-2.5, -1.5, N), couplings(seed, 0.8))


def kinetic(seed):
    rng = np.random.default_rng(seed)
    return CausalModel(rng.uniform(-2.5, -1.5, N), rng.normal(0, 0.8, (1, N, N)))


def glm(seed):
    """Filters of 10 bins in the basis that is fitted."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.3, (4, N, N)) - 0.1  # stronger ones drive some units to fire in every bin
    return CausalModel(rng.uniform(-2.2, -1.5, N), np.tensordot(BASIS.matrix, weights, 1))


TRUE = {"neural": space_time, "pairwise": pairwise, "kinetic": kinetic, "glm": glm}


def test_a_right_model_is_not_rejected_and_wrong_ones_are():
    model = space_time(1)
    raster = model.simulate(12000, seed=11)[0]
    right = check_model(model, raster, Constraints(pairs=True, auto_lags=(1,)), seed=5, stretch_bins=300)
    assert not right.failed and min(c.p for c in right.checks) > 0.002
    # mutants: the coupling in time forgotten, rates of independent units, every second pair with the wrong sign
    static = check_model(GibbsModel(model.c, model.a), raster, seed=5, stretch_bins=300)
    assert {"rates", "lagged_pairs", "autocorrelation", "intervals", "spectrum"} <= set(static.failed)
    independent = check_model(IndependentModel.fitted(raster), raster, seed=5, stretch_bins=300)
    assert {"pairs", "count", "autocorrelation", "avalanche_size"} <= set(independent.failed)
    assert "rates" not in independent.failed
    turned = check_model(GibbsModel(model.c, -model.a, None, {1: 1.0}), raster, seed=5, stretch_bins=300)
    assert {"pairs", "rates"} <= set(turned.failed)


def test_the_fit_that_matches_pairs_passes_pairs_and_fails_time():
    model = space_time(2)
    raster = model.simulate(12000, seed=12)[0]
    fit = fit_exact([raster], model="pairwise", test=0.0)
    checks = check_model(from_fit(fit), raster, Constraints(pairs=True), seed=6, stretch_bins=300)
    assert checks["pairs"].p > 0.2 and checks["rates"].p > 0.2 and checks["pairs"].fitted
    assert {"autocorrelation", "intervals", "spectrum"} <= set(checks.failed) and "pairs" not in checks.failed
    arrays = checks.arrays()
    assert arrays["check_pairs"].shape == (4, 15) and np.isfinite(arrays["check_count"]).all()


class Triplets:
    """Bins with exactly the rates and the pairs of independent units, and three-point correlations of choice.

    ``P(phi) = prod_i P(phi_i) [1 + sum_T t_T x_i x_j x_k]`` with ``x_i = (phi_i - p_i)/sqrt(p_i (1 - p_i))``: every sum
    over a unit takes the terms away that hold it, so all marginals of two units are products, and the third
    cumulant of a triple is ``t_T sqrt(prod p (1 - p))``.
    """

    kind = "static"

    def __init__(self, p, triples):
        self.n_units = len(p)
        self.words = np.array(list(np.ndindex(*[2] * len(p))))
        x = (self.words - p) / np.sqrt(p * (1 - p))
        self.weights = np.where(self.words, p, 1 - p).prod(axis=1)
        self.weights *= 1 + sum(t * x[:, list(units)].prod(axis=1) for units, t in triples.items())
        assert (self.weights >= 0).all()

    def simulate(self, n_bins, *, seed, n_chains=1):
        drawn = np.random.default_rng(seed).choice(len(self.words), (n_chains, n_bins), p=self.weights)
        return self.words[drawn].astype(np.int8)


P = np.full(N, 0.2)
TRIPLES = {(0, 1, 2): 0.1, (3, 4, 5): -0.1}  # of both signs, so that P(K) is changed in second order alone


def test_wrong_triplets_with_the_right_pairs_are_rejected():
    """The power of the three-point statistic: rates, pairs, P(K) and all times agree, the triplets do not."""
    true = Triplets(P, TRIPLES)
    pair = true.weights @ (true.words[:, :, None] * true.words[:, None, :]).reshape(len(true.words), -1)
    assert np.allclose(pair.reshape(N, N), np.outer(P, P) + np.diag(P * (1 - P)))  # independent pairs, exactly
    raster, independent = true.simulate(8000, seed=21)[0], IndependentModel(np.log(P / (1 - P)))
    options = {"constraints": Constraints(pairs=True), "seed": 7, "stretch_bins": 200}
    assert check_model(true, raster, **options).failed == []
    # mutants: no triplets (the pairwise model), triplets of the wrong sign, of other units
    turned = Triplets(P, {units: -t for units, t in TRIPLES.items()})
    others = Triplets(P, {(0, 1, 3): 0.1, (2, 4, 5): -0.1})
    for wrong, least in ((independent, 5), (turned, 10), (others, 5)):
        checks = check_model(wrong, raster, **options)
        assert checks.failed == ["triples"] and checks["triples"].chi2 > least, checks.table()
    # the size of what was found: t sqrt(prod p q) of the two triples, within its error
    found, error = checks["triples"].values[0], checks["triples"].errors[0]
    expected = np.zeros(20)
    expected[[0, -1]] = np.array([0.1, -0.1]) * (P * (1 - P))[:3].prod() ** 0.5
    assert np.abs((found - expected) / error).max() < 4.5 and error.max() < 0.2 * expected.max()


@pytest.mark.validate
def test_power_of_the_three_point_statistic():
    """At a correlation of 0.03 to 0.1 of the largest possible the power rises from little to all; no false alarms."""
    power = {}
    for t in (0.0, 0.04, 0.06, 0.1):
        true = Triplets(P, {units: np.sign(s) * t for units, s in TRIPLES.items()})
        hits = 0
        for seed in range(40):
            raster = true.simulate(8000, seed=100 + seed)[0]
            checks = check_model(IndependentModel(np.log(P / (1 - P))), raster, seed=seed, stretch_bins=200)
            hits += "triples" in checks.failed
        power[t] = hits
    assert power[0.0] <= 2 and power[0.04] < power[0.1] and power[0.1] >= 39, power


@pytest.mark.validate
@pytest.mark.parametrize("name", ["neural", "kinetic"])
def test_p_values_of_the_true_model_are_uniform(name):
    from scipy.stats import binom, kstest

    model, found, rejected = TRUE[name](3), {}, 0
    for seed in range(100):
        checks = check_model(model, model.simulate(4000, seed=1000 + seed)[0], seed=seed, n_labels=2000,
                             max_lag=4, stretch_bins=100)  # fmt: skip
        rejected += bool(checks.failed)
        for check in checks.checks:
            found.setdefault(check.key, []).append(check.p)
    lowest = {key: float(kstest(p, "uniform").pvalue) for key, p in found.items()}
    print(name, {k: round(v, 3) for k, v in lowest.items()}, "rejected", rejected, "of 100")
    assert min(lowest.values()) > 0.001 and rejected <= binom.ppf(0.9999, 100, 0.01)


@pytest.mark.validate
def test_fits_of_the_right_family_are_not_rejected():
    """Couplings are fitted to the same bins: p values are too large rather than too small."""
    from scipy.stats import binom, kstest

    model, found, rejected = space_time(4), {}, 0
    for seed in range(40):
        raster = model.simulate(6000, seed=2000 + seed)[0]
        fit = fit_gibbs("neural", [raster], lags=(1,), test=0.0)
        checks = check_model(from_fit(fit), raster, Constraints(pairs=True, auto_lags=(1,)), seed=seed,
                             n_labels=2000, max_lag=4, stretch_bins=120)  # fmt: skip
        rejected += bool(checks.failed)
        for check in checks.checks:
            found.setdefault(check.key, []).append(check.p)
    small = {key: float(kstest(p, "uniform", alternative="greater").pvalue) for key, p in found.items()}
    print({k: round(v, 3) for k, v in small.items()}, "rejected", rejected, "of 40")
    assert min(small.values()) > 0.001 and rejected <= binom.ppf(0.9999, 40, 0.01)


def ranking_of(name, seed, n_bins=20000):
    raster = TRUE[name](seed).simulate(n_bins, seed=500 + seed)[0]
    train, test = split_trials([raster], 0.25)
    fitters = {
        "pairwise": lambda: fit_gibbs("pairwise", train, test=0.0),
        "k-pairwise": lambda: fit_gibbs("k-pairwise", train, is_counted=True, test=0.0),
        "neural": lambda: fit_gibbs("neural", train, lags=(1,), test=0.0),
        "lagged": lambda: fit_gibbs("lagged", train, k_max=1, test=0.0),
        "kinetic": lambda: fit_kinetic(train, n_lags=1, test=0.0),
        "glm": lambda: fit_glm(train, basis=BASIS, test=0.0),
    }
    sizes = {"pairwise": 21, "k-pairwise": 25, "neural": 22, "lagged": 57, "kinetic": 42, "glm": N + 4 * N * N}
    models = {"independent": (IndependentModel.fitted(train), N)}
    for key, fitter in fitters.items():
        try:
            fit = fitter()
        except DivergenceError:  # such as V of a count that never occurs in training: no maximum, no score
            assert key != name
            continue
        models[key] = (fit.causal_model() if hasattr(fit, "causal_model") else from_fit(fit), sizes[key])
    return rank(models, test)


@pytest.mark.parametrize("name", list(TRUE))
def test_the_right_family_wins_the_ranking(name):
    ranking = ranking_of(name, 0)
    assert ranking.selected == name and ranking["independent"].behind[0] > 5 * ranking["independent"].behind[1]


@pytest.mark.validate
@pytest.mark.parametrize("name", list(TRUE))
def test_the_right_family_wins_in_19_of_20_recordings(name):
    won = [ranking_of(name, seed) for seed in range(1, 21)]
    best = sum(r.entries[0].name == name for r in won)
    print(
        name,
        "selected in",
        sum(r.selected == name for r in won),
        "of 20; best score in",
        best,
        [r.selected for r in won if r.selected != name],
    )
    assert sum(r.selected == name for r in won) >= 19
