"""Errors are right: z = (estimate - truth)/error over many simulated recordings is N(0, 1), intervals cover 95 %.

The z of one recording are correlated, so the Kolmogorov-Smirnov test gets one z per recording, of a parameter that goes
round (recording r takes parameter r modulo their number): independent by construction.  Coverage is pooled over all
parameters; its own error comes from the scatter over recordings.
"""

import numpy as np
import pytest
from scipy.stats import kstest

from lft.commands.fit_units import on_grid
from lft.errors import LftError
from lft.inference.basis import make_basis
from lft.inference.causal.fit import fit_glm
from lft.inference.causal.model import CausalModel
from lft.inference.penalty.fit import fit_penalized
from lft.inference.uncertainty.bootstrap import bootstrap, finite_maximum
from lft.inference.uncertainty.discovery import discover
from lft.inference.uncertainty.intervals import corrected, percentiles
from lft.inference.uncertainty.posterior import Prior, sample_posterior
from lft.inference.uncertainty.sandwich import influences, standard_errors
from tests.objectives import ising_exact, ising_gibbs, maximum, pseudo_likelihood, space_time_exact


def sandwich_z(objective, truth, inflate=1.0):
    """z of all parameters of the free maximum."""
    theta, information = maximum(objective)
    return (theta - truth) / (inflate * standard_errors(influences(objective, theta, information)[0]))


def verdict(z):
    """p-value of one z per recording, coverage of 95 % intervals, and its standard error over recordings."""
    recordings, parameters = z.shape
    one = z[np.arange(recordings), np.arange(recordings) % parameters]
    inside = (np.abs(z) < 1.96).mean(axis=1)
    return kstest(one, "norm").pvalue, inside.mean(), inside.std(ddof=1) / np.sqrt(recordings)


def log_odds(j, h):
    """(a of the pairs, c) of the same distribution."""
    return np.concatenate([4 * j[np.triu_indices(len(h), 1)], 2 * h - 2 * j.sum(axis=1)])


def couplings(n, rng, scale=0.5):
    upper = np.triu(rng.normal(0, scale / np.sqrt(n), (n, n)), 1)
    return upper + upper.T, rng.uniform(-1.0, -0.2, n)


def test_pairwise_errors():
    """Short form of the validation below, with the mutant of errors that are a fifth too small."""
    rng = np.random.default_rng(1)
    j, h = couplings(5, rng)
    z = []
    for _ in range(40):
        objective = pseudo_likelihood(ising_exact(j, h, 4000, rng))
        z.append(sandwich_z(objective, log_odds(j, h)))
    z = np.array(z)
    p, coverage, error = verdict(z)
    assert p > 1e-3 and abs(coverage - 0.95) < 4.5 * error and error < 0.02
    assert abs((z**2).mean() - 1) < 4.5 * (z**2).mean(axis=1).std() / np.sqrt(40)
    small = z / 0.8
    assert (small**2).mean() - 1 > 4.5 * (small**2).mean(axis=1).std() / np.sqrt(40)


@pytest.mark.validate
def test_pairwise_errors_over_100_recordings():
    rng = np.random.default_rng(2)
    z = []
    for _ in range(100):
        j, h = couplings(10, rng)
        z.append(sandwich_z(pseudo_likelihood(ising_exact(j, h, 20000, rng)), log_odds(j, h)))
    z = np.array(z)
    p, coverage, error = verdict(z)
    each = min(kstest(column, "norm").pvalue for column in z.T) * z.shape[1]
    print(f"pairwise: KS p = {p:.3f}, worst parameter {min(each, 1):.2f}, coverage {coverage:.4f}({error:.4f})")
    assert p > 0.01 and each > 0.01 and 0.93 <= coverage <= 0.97 and error < 0.005
    assert not 0.93 <= verdict(z / 0.8)[1] <= 0.97 and kstest(z[:, 0] + 0.5, "norm").pvalue < 0.01  # mutants


@pytest.mark.validate
def test_space_time_errors_over_100_recordings():
    rng = np.random.default_rng(3)
    n = 8
    a = np.triu(rng.normal(0, 0.5, (n, n)), 1)
    a, b, c = a + a.T, 0.6, rng.uniform(-2.0, -1.0, n)
    truth = np.concatenate([a[np.triu_indices(n, 1)], [b], c])
    rasters = space_time_exact(a, b, c, 20000, 100, rng)
    z = np.array([sandwich_z(pseudo_likelihood(r, lags=(1,)), truth) for r in rasters])
    p, coverage, error = verdict(z)
    p_b = kstest(z[:, n * (n - 1) // 2], "norm").pvalue
    print(f"space-time: KS p = {p:.3f} (B alone {p_b:.3f}), coverage {coverage:.4f}({error:.4f})")
    assert min(p, p_b) > 0.01 and 0.93 <= coverage <= 0.97


@pytest.mark.validate
def test_bootstrap_intervals_over_40_recordings():
    rng = np.random.default_rng(4)
    inside = []
    for k in range(40):
        j, h = couplings(5, rng)
        objective = pseudo_likelihood(ising_exact(j, h, 5000, rng))
        theta, information = maximum(objective)
        b = bootstrap(objective, theta, n_samples=120, seed=k, information=information)
        low, high = b.interval(0.95)
        truth = log_odds(j, h)
        inside.append(((low < truth) & (truth < high)).mean())
    error = np.std(inside, ddof=1) / np.sqrt(40)
    print(f"bootstrap: coverage {np.mean(inside):.4f}({error:.4f})")
    assert 0.92 < np.mean(inside) < 0.97 and error < 0.012


@pytest.mark.validate
def test_adjusted_posterior_intervals_over_recordings():
    rng = np.random.default_rng(5)
    inside, raw = [], []
    for k in range(40):
        j, h = couplings(4, rng)
        objective = pseudo_likelihood(ising_exact(j, h, 4000, rng))
        theta, _ = maximum(objective)
        truth = log_odds(j, h)
        for adjust, out in ((True, inside), (False, raw))[: 1 if k >= 10 else 2]:
            p = sample_posterior(
                objective, theta, prior=Prior("gaussian", 1.0), adjust=adjust, n_samples=200, n_warmup=100, seed=k,
                n_chains=2, n_blocks=400,
            )  # fmt: skip
            low, high = p.interval(0.95)
            out.append(((low < truth) & (truth < high))[:6].mean())
    error = np.std(inside, ddof=1) / np.sqrt(40)
    print(f"posterior: coverage {np.mean(inside):.3f}({error:.3f}), unadjusted {np.mean(raw):.3f}")
    assert abs(np.mean(inside) - 0.95) < 4.5 * error and error < 0.025
    assert np.mean(raw) < 0.9  # mutant: a pseudo-likelihood taken for a likelihood


@pytest.mark.validate
@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_penalized_errors_over_recordings(kind):
    """Intervals of the chosen penalized fit cover on average over couplings; without the bias they do not."""
    inside, debiased, bare = [], [], []
    for seed in range(8):
        j, h, raster = ising_gibbs(16, 20000, seed, fields=(-1.5, -0.7))
        objective, truth = pseudo_likelihood(raster), log_odds(j, h)
        fit = fit_penalized(objective, kind, n_strengths=8)
        pairs = np.arange(16 * 15 // 2)
        inside.append((np.abs(fit.theta - truth) < 1.96 * fit.errors.error)[pairs].mean())
        if kind == "l1":
            z = (fit.errors.debiased - truth) / fit.errors.debiased_error
            debiased.append((np.abs(z) < 1.96)[pairs].mean())
        else:
            strong = fit_penalized(objective, "l2", strength=30 * fit.strength)
            n_prior = len(pairs)
            variance = np.sqrt((strong.errors.influences[:-n_prior] ** 2).sum(axis=0))
            bare.append((np.abs(strong.theta - truth) < 1.96 * variance)[pairs].mean())
            debiased.append((np.abs(strong.theta - truth) < 1.96 * strong.errors.error)[pairs].mean())
    error = np.std(inside, ddof=1) / np.sqrt(8)
    print(f"{kind}: coverage {np.mean(inside):.4f}({error:.4f}); {np.mean(debiased):.4f}; {np.mean(bare or [1]):.4f}")
    assert np.mean(inside) > 0.95 - 4.5 * error - 0.01 and error < 0.02
    assert abs(np.mean(debiased) - 0.95) < 0.025  # one Newton step; for l2: a strength 30 times too large
    if kind == "l2":
        assert np.mean(bare) < 0.7  # mutant: the sandwich of a strongly penalized estimate, without its bias


@pytest.mark.validate
@pytest.mark.parametrize("seed", [22, 14])
def test_sparse_recording_of_forty_units(seed):
    """N = 40, 1e5 bins, J ~ N(0, 0.25/N), h ~ U(-2, -1): the cross-validated ridge nears the Bayes limit."""
    j, h, raster = ising_gibbs(40, 100000, seed)
    objective, truth = pseudo_likelihood(raster), log_odds(j, h)
    pairs = np.arange(780)
    rms = lambda x: np.sqrt(np.mean((x - truth)[pairs] ** 2) / np.mean(truth[pairs] ** 2))  # noqa: E731
    theta, information = maximum(objective)
    fit = fit_penalized(objective, "l2")
    free = rms(theta)
    u, _ = influences(objective, theta, information, 800)
    variance = standard_errors(u)[pairs] ** 2
    prior = 16 * 0.25 / 40
    bayes = np.sqrt(np.mean(variance * prior / (variance + prior)) / np.mean(variance))
    coverage = np.mean((np.abs(fit.theta - truth) < 1.96 * fit.errors.error)[pairs])
    print(f"N = 40, seed {seed}: free {free:.3f}, ridge {rms(fit.theta):.3f}, ratio {rms(fit.theta) / free:.3f}, "
          f"Bayes limit of the ratio {bayes:.3f}, coverage {coverage:.3f}")  # fmt: skip
    assert rms(fit.theta) < 0.85 * free and rms(fit.theta) / free < 1.05 * bayes
    assert 0.93 < coverage < 0.97


@pytest.mark.validate
def test_false_discoveries_in_recordings_with_known_zeros():
    """N = 10, a third of the couplings real: the share of false calls at q = 0.1 over 40 recordings."""
    rng = np.random.default_rng(6)
    shares, power = [], []
    for _ in range(40):
        real = np.triu(rng.random((10, 10)) < 0.33, 1)
        upper = np.where(real, rng.choice([-0.12, 0.12], (10, 10)), 0.0)
        j, h = upper + upper.T, rng.uniform(-1, -0.4, 10)
        objective = pseudo_likelihood(ising_exact(j, h, 5000, rng))
        theta, information = maximum(objective)
        error = standard_errors(influences(objective, theta, information)[0])
        truth = real[np.triu_indices(10, 1)]
        d = discover(objective.names()[:45], theta[:45], error[:45], 0.1)
        shares.append((d.found & ~truth).sum() / max(d.found.sum(), 1))
        power.append((d.found & truth).sum() / truth.sum())
    error = np.std(shares, ddof=1) / np.sqrt(40)
    print(f"discovery: false share {np.mean(shares):.3f}({error:.3f}) at q = 0.1, power {np.mean(power):.2f}")
    assert np.mean(shares) < 0.1 + 3 * error and np.mean(power) > 0.6


def causal_intervals(seed, kind, n_bins=3000, fields=(-2.2, -1.6), link="logit"):
    """Shares of h and J(k) of a small causal model inside bootstrap or posterior intervals, and inside percentiles."""
    rng = np.random.default_rng(seed)
    n, prior = 4, 0.3
    basis = make_basis("raised-cosine", 2, 6)
    w = rng.normal(0, prior, (n, n, 2))  # drawn from the prior: posterior intervals then cover exactly as they say
    C = np.einsum("km,ijm->kij", basis.matrix, w)
    c = rng.uniform(*fields, n)
    raster = CausalModel(c, C, link).simulate(n_bins, seed=seed)[0]
    inside, plain = [], []

    def covered(pairs, i):
        """Shares over h and three lags; couplings without a maximum have no interval."""
        (a, d), (low, high) = pairs
        known = np.isfinite(low[::2])
        return [float((a < c[i]) & (c[i] < d)), *((low < C[:, i]) & (C[:, i] < high))[::2][known].astype(float)]

    def examine(objective, theta, u, one):
        if kind == "bootstrap":
            try:
                b = bootstrap(objective, theta, n_samples=120, seed=seed, fit=finite_maximum)
            except LftError as reason:  # a unit that (nearly) always fires: nothing is known, and that is said
                assert "no finite fit" in str(reason)
                return
            (h, J), at, moved = on_grid(one, b)
            n_blocks = len(b.edges) - 1
            pairs = [corrected(x, e, n_blocks, v) for x, e, v in zip((h, J), at, moved, strict=True)]
        else:
            wide, start = one.whole()
            options = {"prior": Prior("gaussian", prior), "adjust": False, "n_samples": 150, "n_warmup": 80}
            p = sample_posterior(wide, start, n_chains=2, seed=seed, first_chain=2 * one.target, **options)
            h, J = one.on_grid(p.samples.reshape(-1, wide.size), whole=True)
            pairs = percentiles(h), percentiles(J)
        inside.extend(covered(pairs, one.target))
        plain.extend(covered((percentiles(h), percentiles(J)), one.target))

    fit_glm(raster, basis=basis, link=link, test=0.0, examine=examine)
    assert len(inside) > 1 + 3 * n  # more than one target has intervals
    return np.mean(inside), np.mean(plain)


CASES = {"bootstrap": {}, "posterior": {}, "rare spikes": {"n_bins": 8000, "fields": (-4.2, -3.6)},
         "short": {"n_bins": 1200}}  # fmt: skip


@pytest.mark.validate
@pytest.mark.parametrize("case", list(CASES))
def test_intervals_of_causal_models(case):
    """120 recordings (posterior: 60), h and filters at three lags; truth drawn from the prior.  Mutant: percentiles."""
    kind = "posterior" if case == "posterior" else "bootstrap"
    n = 60 if kind == "posterior" else 120
    inside, plain = np.array([causal_intervals(2000 + seed, kind, **CASES[case]) for seed in range(n)]).T
    error, lost = (x.std(ddof=1) / np.sqrt(len(x)) for x in (inside, inside - plain))
    print(f"{case}, {kind} of a GLM: coverage {inside.mean():.4f}({error:.4f}); "
          f"percentiles {plain.mean():.4f}, {(inside - plain).mean():.4f}({lost:.4f}) less")  # fmt: skip
    assert 0.93 < inside.mean() < 0.97 and error < 0.012
    if kind == "bootstrap":
        assert (inside - plain).mean() > 3 * lost and plain.mean() < 0.945
