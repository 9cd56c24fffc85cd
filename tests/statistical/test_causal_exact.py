"""Causal models against the transition matrix, closed forms, known couplings; each with the mutants it must reject."""

import itertools

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from lft.inference.basis import make_basis
from lft.inference.causal.fit import fit_glm, fit_kinetic
from lft.inference.causal.model import CausalModel
from lft.inference.inputs import EventLocked, InputDesign, Smooth

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


def glm_case(seed, n=5, bins=18000, n_trials=3, link="logit", rare=None):
    """Filters in a basis, own history in another, event-locked and smooth inputs, in trials; ``rare``: constant of the
    last unit."""
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
    if rare is not None:
        c[-1] = rare
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


def rare_z(seed, rare):
    """z with a rare last unit: (parameters of the others, couplings from it, parameters of it), and the fit."""
    rasters, design, cross, own, truth = glm_case(seed, rare=rare)
    fit = fit_glm(rasters, basis=cross, own_basis=own, inputs=design, test=0.0)
    n = len(fit.h)
    off, z = ~np.eye(n, dtype=bool), glm_z(fit, truth)[0]
    part = np.full((n, n, 3), np.nan)
    part[off] = z[n : n + 3 * n * (n - 1)].reshape(-1, 3)
    rest = z[n + 3 * n * (n - 1) :]
    v, u = rest[: 4 * n].reshape(n, 4), rest[4 * n :].reshape(n, -1)
    others = np.concatenate([z[: n - 1], part[:-1, :-1][off[:-1, :-1]].ravel(), v[:-1].ravel(), u[:-1].ravel()])
    return others, part[:-1, -1].ravel(), np.concatenate([part[-1, :-1].ravel(), v[-1], u[-1]]), fit


def test_a_rare_unit_is_named_and_harms_no_other():
    """About 14 spikes for 24 parameters: its rate is fitted, all couplings to it are named, those of the rest right."""
    others, from_it, to_it, fit = rare_z(7, -7.0)
    assert any("unit 4: " in w and "only their rates" in w for w in fit.warnings)
    assert np.isnan(to_it).all() and not fit.J_lag[:, 4].any() and not fit.input_weights[4].any()
    assert {f"w[{m},4,{j}]" for m in range(3) for j in range(4)} | {f"u[{q},4]" for q in range(7)} <= set(fit.unbounded)
    assert np.isfinite(others).all() and np.abs(others).max() < 4.5 and chi2_tail(others) > 1e-4
    assert np.isfinite(from_it).all() and np.abs(from_it).max() < 4.5
    assert chi2_tail(others / 0.8) < 1e-3  # errors a fifth too small would be seen
    none = rare_z(1, -12.0)[3]  # it never fires
    assert "h[4]" in none.unbounded and np.isnan(none.h_error[4]) and np.isfinite(none.h_error[:4]).all()


def test_a_unit_that_never_fires_after_another():
    """Smooth filters: the weights run to minus infinity; held at a finite value, the rest is that of the limit."""
    rng = np.random.default_rng(3)
    basis = make_basis("bspline", 4, 8)
    raster = (rng.random((12000, 3)) < 0.08).astype(np.int8)
    for a in range(1, len(raster)):
        raster[a, 1] &= ~raster[max(a - 8, 0) : a, 0].any()
    fit = fit_glm(raster, basis=basis, test=0.0)
    held = {f"w[{m},1,0]" for m in range(4)}
    assert held <= set(fit.unbounded) and any("held by a prior" in w for w in fit.warnings)
    assert np.isnan(fit.J_lag_error[:, 1, 0]).all() and np.isfinite(fit.J_lag_error[:, 1, [1, 2]]).all()
    assert (fit.J_lag[:, 1, 0] < -2.5).all() and np.abs(fit.J_lag).max() < 30
    model = fit.causal_model()
    drawn = model.simulate(4000, seed=1)[0]
    behind = np.zeros(len(drawn), bool)
    for k in range(1, 9):
        behind[k:] |= drawn[:-k, 0] > 0
    assert drawn[behind, 1].mean() < 0.1 * drawn[~behind, 1].mean()
    # the limit: the rows behind a spike of the other unit left out
    clean = np.ones(len(raster), bool)
    for k in range(1, 9):
        clean[k:] &= raster[:-k, 0] == 0
    clean[:8] = False
    past = np.stack([raster[8 - k : len(raster) - k] for k in range(1, 9)]).astype(float)
    X = np.einsum("kaj,km->ajm", past[:, :, 1:], basis.matrix).reshape(len(raster) - 8, -1)[clean[8:]]
    X = np.column_stack([np.ones(len(X)), X])
    y, theta = raster[clean, 1], np.zeros(9)
    for _ in range(30):
        p = 1 / (1 + np.exp(-X @ theta))
        theta += np.linalg.solve((X * (p * (1 - p))[:, None]).T @ X, X.T @ (y - p))
    ours = np.concatenate([fit.own_weights[1], fit.weights[1, 2]])
    errors = np.concatenate([fit.own_weights_error[1], fit.weights_error[1, 2]])
    assert np.abs((ours - theta[1:]) / errors).max() < 0.1 and abs(fit.h[1] - theta[0]) < 0.1 * fit.h_error[1]


@pytest.mark.validate
@pytest.mark.parametrize("rare", [-7.0, -6.0, -5.0])
def test_errors_beside_a_rare_unit_are_calibrated(rare):
    """40 recordings with a unit of about 14, 35, 95 spikes (24 parameters)."""
    parts = {"others": [], "from it": [], "to it": []}
    for seed in range(40):
        for name, z in zip(parts, rare_z(200 + seed, rare)[:3], strict=True):
            parts[name].append(z)
    for name, z in parts.items():
        z = np.array(z)
        known = z[np.isfinite(z)]
        if not len(known):
            continue
        cover = (np.abs(known) < 1.96).mean()
        few = np.random.default_rng(0).permutation(known)[: len(known) // 8]
        p = kstest(few, "norm").pvalue
        print(f"constant {rare}, {name}: coverage {cover:.4f}, sd of z {known.std():.3f}, KS p {p:.3f}, "
              f"{np.isfinite(z).mean():.3f} with an error")  # fmt: skip
        if name == "others":
            assert np.isfinite(z).all() and 0.93 < cover < 0.97 and p > 0.01
        elif name == "from it":
            assert 0.90 < cover < 0.98 and np.isfinite(z).mean() > 0.9
        elif rare == -5.0:
            assert 0.92 < cover < 0.98
    if rare == -7.0:
        assert np.isfinite(parts["to it"]).mean() < 0.1


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
    print(f"{family}: KS p {kstest(few, 'norm').pvalue:.3f}, coverage {cover:.4f}, sd of z {zs.std():.3f}")
    assert 0.93 < cover < 0.97
    assert kstest(few * 0.75, "norm").pvalue < 1e-3  # errors that are a third too large would be seen
    if plain:
        assert 0.93 < (np.abs(plain) < 1.96).mean() < 0.97
