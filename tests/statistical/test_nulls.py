"""Surrogates keep what they say and destroy the rest; verdicts have the promised rate of false alarms, and power."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import chi2, kstest, multivariate_normal

from lft.errors import InputError
from lft.rg.phenomenological.clusters import Curve, coarse_grain
from lft.rg.phenomenological.latent import LatentModel, binary_covariance, fit_latent
from lft.rg.phenomenological.nulls import analyse, compare, exponents
from lft.rg.phenomenological.power_laws import fit_power_law, jackknife_covariance
from lft.rg.phenomenological.surrogates import NULLS, circular, independent, shuffled, surrogate_key, surrogate_maker
from lft.rng import Key
from lft.testing import assert_agrees, z_score
from lft.testing.hierarchical import hierarchical_gaussian


def spikes(n_bins=6000, n_units=16, seed=1):
    """Bursting units with a common drive."""
    x = hierarchical_gaussian(n_bins, 4, 1.5, seed, 0.5, 2.0)[:, :n_units]
    return (x > np.linspace(0.5, 1.8, n_units)).astype(np.int8)


# ---- what each null keeps
@pytest.mark.parametrize("null", NULLS)
def test_a_surrogate_is_a_function_of_its_key(null):
    x = spikes(2000)
    make, _ = surrogate_maker(null, x)
    first = make(surrogate_key(1, null, 0))
    assert first.shape == x.shape and set(np.unique(first)) <= {0, 1}
    assert (first == make(surrogate_key(1, null, 0))).all()
    assert all((first != make(surrogate_key(*other))).any() for other in ((1, null, 1), (2, null, 0)))


def test_shuffling_keeps_the_values_alone():
    x = spikes() * np.arange(1, 17, dtype=np.int8)  # counts: any values are permuted
    x[::7, 3] += 1
    y = shuffled(x, Key(1))
    assert (np.sort(x, axis=0) == np.sort(y, axis=0)).all()
    r = np.corrcoef(np.column_stack([y[1:], y[:-1]]).T)
    off = r[~np.eye(len(r), dtype=bool)]
    assert abs(off).max() < 5 / math.sqrt(len(x))
    assert abs(np.corrcoef(np.column_stack([x[1:], x[:-1]]).T) - np.eye(32)).max() > 0.3  # the recording has both


@pytest.mark.parametrize("column", [[0, 1, 2, 3], [0, 0, 1, 0, 0, 2, 0, 0]], ids=["busy", "sparse"])
def test_shuffling_gives_every_order(column):
    counts, n = {}, 2400
    for s in range(n):
        order = tuple(shuffled(np.array(column)[:, None], Key(s))[:, 0].tolist())
        counts[order] = counts.get(order, 0) + 1
    k = len(set(itertools.permutations(column)))
    assert len(counts) == k
    assert chi2.sf(sum((c - n / k) ** 2 / (n / k) for c in counts.values()), k - 1) > 1e-4


def test_shifting_keeps_the_circular_autocorrelation_alone():
    x = spikes()
    y = circular(x, Key(2))
    power = [abs(np.fft.rfft(z, axis=0)) ** 2 for z in (x, y)]
    assert np.allclose(*power, atol=1e-6)
    r = np.corrcoef(y.T) - np.eye(16)
    assert abs(r).max() < 0.15 < abs(np.corrcoef(x.T) - np.eye(16)).max()
    shifts = {int(np.argmax([(np.roll(x[:, i], s) == y[:, i]).all() for s in range(len(x))])) for i in range(4)}
    assert len(shifts) == 4


def test_independent_units_keep_rates_and_slow_changes_if_asked():
    x = spikes(20000)
    y = independent(x, Key(3))
    p = x.mean(axis=0)
    z = (y.mean(axis=0) - p) / np.sqrt(p * (1 - p) / len(y))
    assert abs(z).max() < 4.5 and 0.4 < z.std() < 1.7
    ramp = (np.random.default_rng(1).random((20000, 6)) < np.linspace(0, 0.6, 20000)[:, None]).astype(np.int8)
    slow = independent(ramp, Key(4), slow_bins=1000)
    profile = slow.reshape(20, 1000, 6).mean(axis=1)
    assert profile.std(axis=0).min() > 0.12  # the ramp is there, somewhere else for each unit
    assert independent(ramp, Key(4)).reshape(20, 1000, 6).mean(axis=1).std(axis=0).max() < 0.05
    assert len(set(np.argmax(profile, axis=0))) > 2
    with pytest.raises(InputError, match="slow_bins = 0"):
        independent(ramp, Key(4), slow_bins=0)
    with pytest.raises(InputError, match="0 and 1"):
        independent(ramp * 2, Key(4))


# ---- common input
TRUE = LatentModel(
    np.linspace(0.3, 2.0, 24),
    np.column_stack([np.linspace(0.7, 0.2, 24), 0.5 * np.sin(np.arange(24))]),
    np.array([0.97 ** np.arange(200.0), 0.8 ** np.arange(200.0)]),
    1.0,
)


@pytest.mark.parametrize("a, b, x", [(0, 1, 0.5), (2.5, 2.0, 0.9), (1, 3, -0.6), (2.5, 2.5, 0.3)])
def test_covariance_of_thresholded_gaussians(a, b, x):
    exact = multivariate_normal.cdf([-a, -b], cov=[[1, x], [x, 1]]) - ndtr(-a) * ndtr(-b)
    assert binary_covariance(np.full((2, 2), x), np.array([a, b], float))[0, 1] == pytest.approx(exact, rel=1e-5)


def block_scores(sample, exact, n_blocks=50):
    """z-scores of means against exact values; `sample` is (bins, quantities)."""
    blocks = sample[: len(sample) // n_blocks * n_blocks].reshape(n_blocks, -1, sample.shape[1]).mean(axis=1)
    return (blocks.mean(axis=0) - exact) / (blocks.std(axis=0, ddof=1) / math.sqrt(n_blocks))


def pair_scores(model, sample):
    """z-scores of rates and of all covariances (and their mean) of a sample under a model."""
    i, j = np.triu_indices(sample.shape[1], 1)
    p = ndtr(-model.threshold)
    g = model.loading
    exact = binary_covariance(np.where(np.eye(len(p)), 0, g @ g.T), model.threshold)[i, j]
    products = (sample[:, i] - p[i]) * (sample[:, j] - p[j])
    mean = block_scores(products.mean(axis=1)[:, None], exact.mean())
    return np.concatenate([block_scores(sample, p), block_scores(products, exact), mean])


def test_common_input_has_the_rates_and_covariances_of_its_model():
    sample = TRUE.sample(60000, Key(5))
    z = pair_scores(TRUE, sample)
    assert abs(z).max() < 5 and 0.5 < z.std() < 1.5
    weaker = LatentModel(TRUE.threshold, 0.85 * TRUE.loading, TRUE.autocorrelation, 1.0)
    assert abs(pair_scores(weaker, sample)).max() > 6  # the mutant: loadings 15 % too small


def test_inputs_have_their_autocorrelation():
    eta = TRUE.inputs(200000, Key(6))
    for m in range(2):
        for lag in (0, 1, 5, 20):
            product = (eta[m, : len(eta[m]) - lag] * eta[m, lag:])[:, None]
            assert abs(block_scores(product, TRUE.autocorrelation[m, lag])[0]) < 4.5
    assert abs(block_scores((eta[0] * eta[1])[:, None], 0)[0]) < 4.5


def test_the_fit_recovers_a_planted_common_input():
    x = TRUE.sample(60000, Key(7))
    fit = fit_latent(x, n_latents=2)
    assert np.allclose(ndtr(-fit.threshold), x.mean(axis=0), atol=1e-6)
    off = ~np.eye(24, dtype=bool)
    planted, found = (m.loading @ m.loading.T for m in (TRUE, fit))
    assert abs(planted - found)[off].max() < 0.08 and fit.explained > 0.98
    y = fit.sample(len(x), Key(8))
    for lag in (0, 2, 10, 40):  # the population as a whole: variance and its decay
        a, b = (z.sum(axis=1) - z.sum(axis=1).mean() for z in (x, y))
        first, second = (float((s[: len(s) - lag] * s[lag:]).mean()) for s in (a, b))
        assert second == pytest.approx(first, abs=0.12 * a.var())
    assert fit_latent(x).loading.shape[1] == 2  # the number of inputs, found from the spectrum


def test_silent_and_saturated_units_stay_what_they_are():
    x = spikes(4000)
    x[:, 3], x[:, 5], x[:, 7] = 0, 1, 0
    x[-1, 7] = 1  # once, after the last whole block
    for null in NULLS:
        y = surrogate_maker(null, x[:3999 if null == "latent" else 4000])[0](Key(1))
        assert not y[:, 3].any() and y[:, 5].all(), null
    fit_latent(np.vstack([x, x[:7]]))


def test_given_its_inputs_the_units_are_independent():
    """Private noise of units shares nothing: residuals after the inputs do not correlate."""
    eta = TRUE.inputs(40000, Key(9))
    y = TRUE.sample(40000, Key(9))
    private = np.sqrt(1 - (TRUE.loading**2).sum(axis=1))
    p = ndtr((TRUE.loading @ eta - TRUE.threshold[:, None]) / private[:, None])
    residual = (y.T - p) / np.sqrt(p * (1 - p))
    r = np.corrcoef(residual) - np.eye(24)
    assert abs(r).max() < 5 / math.sqrt(40000)


# ---- verdicts
def test_rank_of_an_exchangeable_number_is_uniform():
    rng = np.random.default_rng(1)
    p = np.array([compare(*(s := rng.standard_normal(20))[:1], 1.0, s[1:]).p_value for _ in range(4000)])
    counts = np.bincount(np.round(p * 20).astype(int), minlength=21)[1:]
    assert chi2.sf(((counts - 200) ** 2 / 200).sum(), 19) > 1e-4
    assert compare(math.nan, 0.1, [1.0, 2.0]).verdict == "undefined"
    assert compare(9.0, 0.1, [1.0, 2.0, 1.5]).verdict == "undecided"  # three surrogates cannot show 5 %


def test_coupled_units_differ_from_all_uncoupled_nulls():
    a = analyse(spikes(), nulls=("shuffled", "circular", "independent"), n_splits=2, has_momentum=False)
    for null, entries in a.comparisons.items():
        assert entries["alpha"].verdict == "differs" and entries["alpha"].distance > 4.5, null
        assert entries["beta"].verdict == "differs" and entries["beta"].distance < -4.5, null
        assert abs(entries["alpha"].null - 1) < 0.05 and 0 < entries["alpha"].spread < 0.1
    assert a.halves["alpha"][0] > 0


def test_common_input_is_told_from_independence_but_not_from_itself():
    x = TRUE.sample(6000, Key(11))
    a = analyse(x, nulls=("shuffled", "latent"), n_splits=0, has_momentum=False)
    assert a.comparisons["shuffled"]["alpha"].verdict == "differs"
    assert abs(a.comparisons["latent"]["alpha"].distance) < 3
    assert any("latent null: " in note for note in a.notes)


def p_values(null, n_seeds, x=None, n=19):
    """p of alpha and beta for recordings that are themselves drawn from a null."""
    x = spikes(800) if x is None else x
    out = []
    for s in range(n_seeds):
        drawn = surrogate_maker(null, x)[0](Key(10_000 + s))
        a = analyse(drawn, nulls=(null,), n_surrogates=n, seed=s, n_blocks=8, n_splits=0, has_momentum=False)
        out.append([a.comparisons[null][name].p_value for name in ("alpha", "beta")])
    return np.array(out)


@pytest.mark.validate
@pytest.mark.parametrize("null", ["shuffled", "circular", "independent", "latent"])
def test_5_percent_of_recordings_drawn_from_a_null_differ_from_it(null):
    p = p_values(null, 200)
    for column in p.T:
        false_alarms = np.count_nonzero(column <= 0.05)
        assert false_alarms - 10 < 4.5 * math.sqrt(200 * 0.05 * 0.95), false_alarms
        jittered = column - np.random.default_rng(1).random(len(column)) / 20  # discrete p made continuous
        # a null that is fitted to the recording lies nearer to it than it should: p may be too large, never too small
        side = "greater" if null == "latent" else "two-sided"
        assert kstest(jittered, "uniform", alternative=side).pvalue > 1e-3


# ---- power laws
def curve_of(rng, n_blocks, scale, exponent, bend=0.0):
    common = rng.standard_normal((n_blocks, 1))
    noise = 0.1 * common + 0.05 * np.cumsum(rng.standard_normal((n_blocks, len(scale))), axis=1)
    blocks = scale**exponent * np.exp(bend * np.log(scale) ** 2) * (1 + noise)
    return Curve(scale, blocks.mean(axis=0), (blocks.sum(axis=0) - blocks) / (n_blocks - 1), np.zeros(n_blocks))


def test_power_laws_with_correlated_levels_are_calibrated():
    rng, scale = np.random.default_rng(3), 2.0 ** np.arange(7)
    laws = [fit_power_law(curve_of(rng, 20, scale, 1.4), has_scan=False) for _ in range(400)]
    z, gls = (np.array([(getattr(w, a) - 1.4) / getattr(w, b) for w in laws])
              for a, b in (("value", "error"), ("gls", "gls_error")))
    for scores in (z, gls):
        assert abs(scores.mean()) < 0.2 and 0.85 < scores.std() < 1.25
    p = np.array([w.p_value for w in laws])
    assert kstest(p, "uniform").pvalue > 1e-3
    from_gaussian = np.array([chi2.sf(w.chi2, w.dof) for w in laws])  # the mutant: S taken for exact
    assert kstest(from_gaussian, "uniform").pvalue < 1e-3
    bent = fit_power_law(curve_of(rng, 20, scale, 1.4, bend=0.05))
    assert bent.tried > 1 and any("rejected on all 7 levels" in n or "no power law" in n for n in bent.notes)


def test_jackknife_covariance_is_that_of_a_mean():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((30, 3)) @ rng.standard_normal((3, 3))
    without = (x.sum(axis=0) - x) / 29
    assert np.allclose(jackknife_covariance(without, np.zeros(30)), np.cov(x.T) / 30)
    halves = np.repeat([0, 1], 15)
    each = [np.cov(x[halves == f].T) / 15 / 4 for f in (0, 1)]  # a mean of two halves: a quarter of each variance
    moved = np.array([(x[halves == halves[b]].sum(axis=0) - x[b]) / 14 / 2 + x[halves != halves[b]].mean(axis=0) / 2
                      for b in range(30)])
    assert np.allclose(jackknife_covariance(moved, halves), sum(each))


def test_few_levels_and_silent_ones_are_said_not_guessed():
    rng = np.random.default_rng(5)
    curve = curve_of(rng, 20, 2.0 ** np.arange(3), 1.0)
    assert fit_power_law(curve, [True, False, False]).notes[-1] == "fewer than 2 levels"
    few = fit_power_law(curve_of(rng, 4, 2.0 ** np.arange(7), 1.0))
    assert math.isnan(few.p_value) and any("cannot tell the covariance" in n for n in few.notes)
    laws = exponents(coarse_grain((np.random.default_rng(6).random((2000, 32)) < 0.7).astype(np.int8)))
    assert any("too few events" in note for note in laws["beta"].notes)  # 8 units are never silent together
    assert_agrees(laws["alpha"], 1.0, relative_error_max=0.05)
    assert abs(z_score(laws["alpha"], 1.0)) < 4.5
