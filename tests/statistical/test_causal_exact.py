"""Causal models against the transition matrix, closed forms, known couplings; each with the mutants it must reject."""

import itertools

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from lft.inference.causal.basis import make_basis
from lft.inference.causal.fit import fit_glm, fit_kinetic
from lft.inference.causal.inputs import EventLocked, InputDesign, Smooth
from lft.inference.causal.model import CausalModel

N_EXACT, K_EXACT = 3, 2


def exact_model():
    rng = np.random.default_rng(5)
    return CausalModel.of_spins(rng.uniform(-0.5, 0.2, N_EXACT), rng.normal(0, 0.5, (K_EXACT, N_EXACT, N_EXACT)))


def transition(model):
    """Matrix P[past, bin] and the state that follows; a past is (a-1, ..., a-K), written out from the definition."""
    h, J = model.spins()
    words = np.array(list(itertools.product([-1, 1], repeat=N_EXACT)))
    pasts = list(itertools.product(range(len(words)), repeat=K_EXACT))
    number = {past: n for n, past in enumerate(pasts)}
    P = np.zeros((len(pasts), len(words)))
    follows = np.zeros((len(pasts), len(words)), int)
    for n, past in enumerate(pasts):
        H = h + sum(J[k] @ words[past[k]] for k in range(K_EXACT))
        for m, s in enumerate(words):
            P[n, m] = np.prod(np.exp(s * H) / (2 * np.cosh(H)))
            follows[n, m] = number[(m, *past[:-1])]
    return words, pasts, P, follows


def stationary(P, follows):
    weight = np.full(len(P), 1 / len(P))
    for _ in range(2000):
        weight = np.bincount(follows.ravel(), (weight[:, None] * P).ravel(), len(P))
    return weight


def pair_moments(words, pasts, weight):
    """<s_i^a s_j^(a-1)> of the stationary state: the two bins of a past."""
    return sum(w * np.outer(words[past[0]], words[past[1]]) for w, past in zip(weight, pasts, strict=True))


def simulated_z(model, exact):
    chains = 2.0 * model.simulate(1500, seed=11, n_chains=60) - 1
    each = np.einsum("cai,caj->cij", chains[:, 1:], chains[:, :-1]) / 1499
    error = each.std(axis=0, ddof=1) / np.sqrt(len(each))
    assert error.max() < 0.006  # a required precision
    return (each.mean(axis=0) - exact) / error


def test_simulation_has_the_stationary_distribution():
    model = exact_model()
    words, pasts, P, follows = transition(model)
    exact = pair_moments(words, pasts, stationary(P, follows))
    assert np.abs(simulated_z(model, exact)).max() < 4.5
    h, J = model.spins()
    mutants = {
        "transposed": CausalModel.of_spins(h, J.transpose(0, 2, 1)),
        "lags exchanged": CausalModel.of_spins(h, J[::-1]),
        "no second lag": CausalModel.of_spins(h, J * np.array([1, 0])[:, None, None]),
    }
    for name, mutant in mutants.items():
        assert np.abs(simulated_z(mutant, exact)).max() > 4.5, name


def test_log_likelihood_is_that_of_the_transition_matrix():
    model = exact_model()
    words, pasts, P, follows = transition(model)
    raster = model.simulate(200, seed=2)[0]
    index = {tuple(w): n for n, w in enumerate(words)}
    at = [index[tuple(row)] for row in 2 * raster.astype(int) - 1]
    state = pasts.index((at[1], at[0]))
    total = 0.0
    for m in at[2:]:
        total += np.log(P[state, m])
        state = follows[state, m]
    value = model.log_likelihood([raster])
    assert abs(value.value - total) < 1e-9 and value.error == 0.0
    halves = model.log_likelihood([raster], [np.array([0, 100, 200])])
    assert abs(halves.blocks.sum() - total) < 1e-9
    odds = model.log_odds(raster)[2:]
    bins = np.where(raster[2:] > 0, -np.logaddexp(0, -odds), -np.logaddexp(0, odds)).sum()
    assert abs(bins - total) < 1e-9


def test_one_neuron_closed_form():
    """J and h from the four counts; J is the K_t of the Gibbs chain, h is not its field: the normalization differs."""
    p, rho = 0.2, 0.3
    P11, P10 = p + (1 - p) * rho, p * (1 - rho)
    model = CausalModel.of_spins(
        np.array([np.log(P11 / (1 - P11) * P10 / (1 - P10)) / 4]),
        np.array([[[np.log(P11 * (1 - P10) / ((1 - P11) * P10)) / 4]]]),
    )
    odds = model.log_odds(np.array([[1], [0], [0]]))
    assert abs(1 / (1 + np.exp(-odds[1, 0])) - P11) < 1e-12
    assert abs(1 / (1 + np.exp(-odds[2, 0])) - P10) < 1e-12
    raster = model.simulate(20000, seed=4)[0]
    rate = raster.mean()
    assert abs(rate - p) < 4.5 * np.sqrt(p * (1 - p) / 20000 * (1 + rho) / (1 - rho))
    fit = fit_kinetic(raster, test=0.0)
    before, after = raster[:-1, 0], raster[1:, 0]
    n11, n10, n01, n00 = (((before == x) & (after == y)).sum() for x, y in ((1, 1), (1, 0), (0, 1), (0, 0)))
    assert abs(fit.J_lag[0, 0, 0] - np.log(n11 * n00 / (n10 * n01)) / 4) < 1e-7
    assert abs(fit.h[0] - np.log(n11 / n10 * n01 / n00) / 4) < 1e-7
    error = np.sqrt((1 / np.array([n11, n10, n01, n00])).sum()) / 4
    assert abs(fit.J_lag_error_information[0, 0, 0] / error - 1) < 1e-6
    gibbs_h = 0.5 * np.log(P11 / (1 - P10))
    assert abs(fit.h[0] - gibbs_h) > 10 * fit.h_error[0]


# ---- recovery of known couplings
def kinetic_case(seed, n=8, bins=12000):
    rng = np.random.default_rng(7)
    J, h = rng.normal(0, 0.25, (2, n, n)), rng.uniform(-0.8, -0.2, n)
    rasters = list(CausalModel.of_spins(h, J).simulate(bins // 3, seed=seed, n_chains=3))
    return rasters, np.concatenate([h, J.ravel()])


def kinetic_z(fit, truth):
    value = np.concatenate([fit.h, fit.J_lag.ravel()])
    return (value - truth) / np.concatenate([fit.h_error, fit.J_lag_error.ravel()]), value


def glm_case(seed, n=5, bins=18000, n_trials=3, link="logit"):
    """Filters in a basis, own history in another, event-locked and smooth inputs, in trials."""
    rng = np.random.default_rng(16)  # every unit fires in 7 to 22 % of the bins: all filters have a maximum
    cross, own = make_basis("raised-cosine", 3, 12), make_basis("bspline", 4, 12)
    w = rng.normal(0, 0.3, (n, n, 3))
    v = rng.normal(0, 0.4, (n, 4)) - np.array([1.0, 0.3, 0, 0])
    C = np.einsum("km,ijm->kij", cross.matrix, w)
    for i in range(n):
        C[:, i, i] = own.matrix @ v[i]
    length = bins // n_trials
    events = [np.arange(50 + 7 * t, length - 60, 150) for t in range(n_trials)]
    design = InputDesign([EventLocked(tuple(events), -5, 25, 4), Smooth(4)])
    bound = design.bind([length] * n_trials, bins)
    u = rng.normal(0, 0.5, (n, bound.size))
    c = rng.uniform(-1.7, -1.3, n)
    rasters = []
    for t in range(n_trials):
        columns = bound.columns(t * length, (t + 1) * length)
        rasters.append(CausalModel(c, C, link, columns, u).simulate(length, seed=seed, n_chains=t + 1)[t])
    off = ~np.eye(n, dtype=bool)
    return rasters, design, cross, own, np.concatenate([c, w[off].ravel(), v.ravel(), u.ravel()])


def glm_z(fit, truth):
    off = ~np.eye(len(fit.h), dtype=bool)
    value = np.concatenate([fit.h, fit.weights[off].ravel(), fit.own_weights.ravel(), fit.input_weights.ravel()])
    errors = (fit.h_error, fit.weights_error[off].ravel(), fit.own_weights_error.ravel(), fit.input_error.ravel())
    return (value - truth) / np.concatenate(errors), value


def chi2_tail(z):
    """Probability of a larger sum of squares, with the 100 blocks' noise of the errors (a factor 1 + 2/100)."""
    return chi2.sf((z**2).sum() / 1.02, len(z))


def test_kinetic_recovery():
    rasters, truth = kinetic_case(1)
    fit = fit_kinetic(rasters, n_lags=2, test=0.0)
    z, value = kinetic_z(fit, truth)
    assert np.abs(z).max() < 4.5 and chi2_tail(z) > 1e-4
    assert np.linalg.norm(value - truth) / np.linalg.norm(truth) < 0.1
    ratio = fit.J_lag_error / fit.J_lag_error_information
    assert abs(np.median(ratio) - 1) < 0.05  # the model is right: sandwich and inverse information agree
    h, J = truth[:8], truth[8:].reshape(2, 8, 8)
    for name, wrong in (("transposed", J.transpose(0, 2, 1)), ("lag shifted", np.roll(J, 1, axis=0))):
        assert chi2_tail(kinetic_z(fit, np.concatenate([h, wrong.ravel()]))[0]) < 1e-6, name
    back = fit_kinetic([r[::-1] for r in rasters], n_lags=2, test=0.0)
    assert chi2_tail(kinetic_z(back, truth)[0]) < 1e-6  # time runs backwards


def test_trial_borders_are_not_joined():
    """Short trials from a start of their own: joined, a quarter of the rows would read a foreign past."""
    rng = np.random.default_rng(2)
    n = 4
    J, h = rng.normal(0, 0.6, (3, n, n)), rng.uniform(-0.6, 0.0, n)
    model = CausalModel.of_spins(h, J)
    rasters = list(model.simulate(12, seed=9, n_chains=1500))
    truth = np.concatenate([h, J.ravel()])
    fit = fit_kinetic(rasters, n_lags=3, test=0.0)
    z, value = kinetic_z(fit, truth)
    assert np.abs(z).max() < 4.5 and chi2_tail(z) > 1e-4 and any("first 3 bins" in w for w in fit.warnings)
    assert np.linalg.norm(value - truth) / np.linalg.norm(truth) < 0.15
    joined = fit_kinetic([np.concatenate(rasters)], n_lags=3, test=0.0)
    assert chi2_tail(kinetic_z(joined, truth)[0]) < 1e-6


def test_glm_recovery():
    rasters, design, cross, own, truth = glm_case(1)
    fit = fit_glm(rasters, basis=cross, own_basis=own, inputs=design, test=0.0)
    z, _value = glm_z(fit, truth)
    assert np.abs(z).max() < 4.5 and chi2_tail(z) > 1e-4
    i, j = np.nonzero(~np.eye(5, dtype=bool))
    filters = cross.matrix @ fit.weights[i, j].T
    true = cross.matrix @ truth[5 : 5 + 3 * len(i)].reshape(-1, 3).T
    assert np.allclose(fit.J_lag[:, i, j], filters)
    assert np.linalg.norm(filters - true) / np.linalg.norm(true) < 0.35
    z_lag = (filters - true) / fit.J_lag_error[:, i, j]  # pointwise errors of the filters
    assert np.abs(z_lag).max() < 4.5 and abs((z_lag**2).mean() - 1) < 0.35
    events = [np.asarray(e) + 5 for e in design.terms[0].events]
    shifted = InputDesign([EventLocked(tuple(events), -5, 25, 4), design.terms[1]])
    late = fit_glm(rasters, basis=cross, own_basis=own, inputs=shifted, test=0.0)
    assert chi2_tail(glm_z(late, truth)[0]) < 1e-6  # events five bins late
    without = fit_glm(rasters, basis=cross, own_basis=own, test=0.0)
    assert fit.score["train"] > without.score["train"]


@pytest.mark.validate
@pytest.mark.parametrize("family", ["kinetic", "glm", "glm-cloglog"])
def test_errors_are_calibrated(family):
    """60 recordings: z of every coupling against N(0, 1), coverage of 95 % intervals."""
    zs, plain = [], []
    for seed in range(60):
        if family == "kinetic":
            rasters, truth = kinetic_case(100 + seed)
            fit = fit_kinetic(rasters, n_lags=2, test=0.0)
            z = kinetic_z(fit, truth)[0]
            plain.append((fit.J_lag.ravel() - truth[8:]) / fit.J_lag_error_information.ravel())
        else:
            link = "cloglog" if family.endswith("cloglog") else "logit"
            rasters, design, cross, own, truth = glm_case(100 + seed, link=link)
            fit = fit_glm(rasters, link=link, basis=cross, own_basis=own, inputs=design, test=0.0)
            z = glm_z(fit, truth)[0]
        zs.append(z)
    # the parameters of one fit are correlated: the test takes a random eighth of them
    zs = np.array(zs)
    assert np.isfinite(zs).all()
    few = np.random.default_rng(0).permutation(zs.ravel())[: zs.size // 8]
    assert kstest(few, "norm").pvalue > 0.01
    cover = (np.abs(zs) < 1.96).mean()
    assert 0.93 < cover < 0.97
    assert kstest(few * 0.75, "norm").pvalue < 1e-3  # errors that are a third too large would be seen
    if plain:
        assert 0.93 < (np.abs(plain) < 1.96).mean() < 0.97
