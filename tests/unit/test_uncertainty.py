"""Errors of couplings against exact ones: bootstrap, posterior, flat directions, discovery, power."""

import numpy as np
import pytest

from lft.analysis.estimate import estimate
from lft.errors import InputError, LftError
from lft.inference.penalty.solver import maximize_penalized
from lft.inference.penalty.terms import penalty_for
from lft.inference.uncertainty import posterior as hmc
from lft.inference.uncertainty.bootstrap import bootstrap, free_maximum, multiplicities
from lft.inference.uncertainty.discovery import discover, null_z, shifted, zero_share
from lft.inference.uncertainty.identifiability import gauge, raster_defects, weak_directions
from lft.inference.uncertainty.intervals import corrected, percentiles
from lft.inference.uncertainty.posterior import Prior, sample_posterior
from lft.inference.uncertainty.power import measured_scaling, needed_bins
from lft.inference.uncertainty.sandwich import influences, standard_errors
from lft.testing.objectives import LinearObjective, LogisticObjective
from tests.objectives import ExactIsing, ising_exact, maximum, pseudo_likelihood

LIMIT = 4.5


def regression(n=4, n_rows=4000, seed=0, runs=1):
    """Unit noise, in runs of equal rows: the honest error is sqrt(runs) times that of independent rows."""
    rng = np.random.default_rng(seed)
    x = np.repeat(rng.normal(size=(n_rows // runs, n)), runs, axis=0)
    return LinearObjective(x, np.repeat(rng.normal(size=n_rows // runs), runs))


# ---- bootstrap
def test_bootstrap_error_is_the_exact_one():
    for runs in (1, 5):
        o = regression(runs=runs)
        theta = free_maximum(o, np.zeros(4))
        b = bootstrap(o, theta, n_samples=400, seed=1)
        exact = np.sqrt(runs / o.n_rows)
        # the error of an error: samples, and blocks of squared scores
        width = np.sqrt(0.5 / 400 + 0.5 / (len(b.edges) - 1))
        assert np.all(np.abs(b.error / exact - 1) < LIMIT * width)
        low, high = b.interval(0.95)
        assert (high - low) / (2 * 1.96 * exact) == pytest.approx(1, abs=LIMIT * width)
    single = bootstrap(o, theta, n_samples=200, edges=np.arange(o.n_rows + 1))
    assert np.all(single.error < 0.65 * exact)  # mutant: rows drawn one by one ignore their correlation (1/sqrt 5)


@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_intervals_from_few_blocks_cover(law):
    """Means of 12 numbers, 4000 recordings; mutants: percentiles as they are, the acceleration with the wrong sign."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 4000)) if law == "normal" else rng.exponential(size=(12, 4000)) - 1
    mean = x.mean(axis=0)
    samples = np.stack([x[rng.integers(12, size=12)].mean(axis=0) for _ in range(400)])
    u = (x - mean) / 12

    def missed(low, high):
        return np.array([(low > 0).mean(), (high < 0).mean()])

    good, plain = missed(*corrected(samples, mean, 12, u)), missed(*percentiles(samples))
    turned = missed(*corrected(samples, mean, 12, -u))
    if law == "normal":  # exactly 2.5 % on either side; the freedom of 12 blocks is itself a guess
        assert np.all(np.abs(good - 0.025) < LIMIT * np.sqrt(0.025 / 4000)) and plain.sum() > 0.07
        exact = 2.201 * x.std(axis=0, ddof=1) / np.sqrt(12)
        high = corrected(samples, mean, 12)[1]  # without influences: Student's t of 11
        assert abs(np.median((high - mean) / exact) - 1) < 0.05
    else:
        assert good.sum() < 0.085 < 0.115 < plain.sum() and good[1] < turned[1] - 0.01


def test_columns_without_an_estimate_have_no_interval():
    samples = np.random.default_rng(0).normal(size=(50, 3))
    samples[:, 1], samples[:5, 2] = np.nan, np.nan
    for center, u in (([0.0, np.nan, 0.0], None), ([0.0, np.nan, 0.0], samples[5:] * [1, np.nan, 1])):
        low, high = corrected(samples, center, 45, u)
        assert np.isfinite([low, high]).tolist() == [[True, False, True]] * 2 and low[2] < 0 < high[2]


def test_bootstrap_of_couplings_agrees_with_the_sandwich():
    j = np.array([[0, 0.3, 0], [0.3, 0, -0.2], [0, -0.2, 0]])
    o = pseudo_likelihood(ising_exact(j, np.array([-0.5, -0.3, -0.7]), 6000, np.random.default_rng(0)))
    theta, information = maximum(o)
    b = bootstrap(o, theta, n_samples=150, seed=3, information=information)
    sandwich = standard_errors(influences(o, theta, information)[0])
    assert b.error / sandwich == pytest.approx(1, abs=LIMIT * np.sqrt(0.5 / 150))


def test_bootstrap_samples_are_functions_of_their_number():
    o = regression()
    theta = free_maximum(o, np.zeros(4))
    long, short = (bootstrap(o, theta, n_samples=n, seed=5, n_blocks=40) for n in (12, 5))
    assert np.array_equal(long.samples[:5], short.samples)
    assert not np.array_equal(long.samples, bootstrap(o, theta, n_samples=12, seed=6, n_blocks=40).samples)
    counts = np.sum([multiplicities(40, 5, k) for k in range(400)], axis=0)
    assert np.all(np.abs(counts - 400) < LIMIT * 20)


def test_trials_are_the_units_where_there_are_enough():
    o = regression(n_rows=3000, runs=100)
    theta = free_maximum(o, np.zeros(4))
    trials = bootstrap(o, theta, n_samples=50, trial_edges=np.arange(0, 3001, 100))
    assert trials.unit == "trials" and len(trials.edges) == 31
    few = bootstrap(o, theta, n_samples=50, trial_edges=[0, 1500, 3000], n_blocks=30)
    assert few.unit == "blocks"


def test_samples_without_a_fit_are_counted():
    rng = np.random.default_rng(0)
    y = np.zeros(200)
    y[3] = 1  # the only success stands in one block: without it the field is infinite
    o = LogisticObjective(np.ones((200, 1)), y, kinds="c")

    def fit(objective, start):
        if not objective.y.any():
            raise LftError("no success")
        return start + rng.normal(size=1)

    with pytest.raises(LftError, match="have no finite fit"):
        bootstrap(o, np.zeros(1), n_samples=60, n_blocks=40, fit=fit)


# ---- posterior
def posterior_z(p, mean, covariance):
    """z of means and of variances, from the effective numbers of samples."""
    sd = np.sqrt(np.diag(covariance))
    return (p.mean - mean) / sd * np.sqrt(p.ess), (p.sd**2 / sd**2 - 1) * np.sqrt(p.ess / 2)


def gaussian_case():
    o = regression(n=6, n_rows=40, seed=2)
    precision = o.x.T @ o.x + np.eye(6) / 0.25
    covariance = np.linalg.inv(precision)
    return o, free_maximum(o, np.zeros(6)), covariance @ o.x.T @ o.y, covariance


def test_posterior_of_a_gaussian_is_exact():
    o, theta, mean, covariance = gaussian_case()
    p = sample_posterior(o, theta, prior=Prior("gaussian", 0.5), adjust=False, n_samples=2000, n_warmup=300)
    assert max(np.abs(z).max() for z in posterior_z(p, mean, covariance)) < LIMIT
    assert p.r_hat.max() < 1.02 and p.divergences == 0 and p.ess.min() > 1500
    assert np.sqrt(np.mean((p.sd / np.sqrt(np.diag(covariance)) - 1) ** 2)) < 0.03


@pytest.mark.parametrize("mutant", ["always", "reversed"])
def test_wrong_acceptance_is_rejected(mutant, monkeypatch):
    """Mutants: every trajectory kept; the sign of the change of energy reversed.  Steps are long: it matters."""
    o, theta, mean, covariance = gaussian_case()
    monkeypatch.setattr(hmc, "TARGET", 0.5)
    run = lambda: sample_posterior(  # noqa: E731
        o, theta, prior=Prior("gaussian", 0.5), adjust=False, n_samples=2000, n_warmup=300
    )
    honest = run()
    assert honest.acceptance.max() < 0.9
    assert max(np.abs(z).max() for z in posterior_z(honest, mean, covariance)) < LIMIT
    rules = {"always": lambda a, b, t: True, "reversed": lambda a, b, t: bool(a - b < t)}
    monkeypatch.setattr(hmc, "accept", rules[mutant])
    assert max(np.abs(z).max() for z in posterior_z(run(), mean, covariance)) > 2 * LIMIT


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_posterior_of_couplings_on_a_grid(kind):
    """Two units, 60 bins, exact likelihood of (a, c_0, c_1): moments by quadrature."""
    raster = ising_exact(np.array([[0, 0.4], [0.4, 0]]), np.array([-0.6, -0.2]), 60, np.random.default_rng(1))
    o = ExactIsing(raster)
    theta = free_maximum(o, np.zeros(3))
    p = sample_posterior(o, theta, prior=Prior(kind, 0.8), adjust=False, n_samples=1500, n_warmup=200, seed=4)
    axes = [np.linspace(t - 6 * s, t + 6 * s, 61) for t, s in zip(p.mean, p.sd, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    e = points @ o.features.T
    log_z = np.log(np.exp(e).sum(axis=1))
    a = points[:, 0] / 0.8
    log_p = points @ o._sums(0, 60) - 60 * log_z - (np.abs(a) if kind == "laplace" else a**2 / 2)
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    mean = w @ points
    covariance = (points - mean).T @ ((points - mean) * w[:, None])
    assert max(np.abs(z).max() for z in posterior_z(p, mean, covariance)) < LIMIT
    assert p.sd / np.sqrt(np.diag(covariance)) == pytest.approx(1, abs=0.06)


def test_scale_of_a_hierarchical_prior_on_a_grid():
    """Orthogonal design: p(tau | y) in closed form, y_j ~ N(0, tau^2 + 1)."""
    rng = np.random.default_rng(5)
    n = 30
    y = rng.normal(size=n) * np.sqrt(1 + 0.7**2)
    o = LinearObjective(np.eye(n), y)
    p = sample_posterior(o, y, prior=Prior("hierarchical", 1.0), adjust=False, n_samples=2000, n_warmup=300, seed=2)
    tau = p.scales["a"].ravel()
    v = np.linspace(1e-4, 8, 40001)
    shape, rate = hmc.HYPER
    log_p = -(shape + 1) * np.log(v) - rate / v - n / 2 * np.log(v + 1) - (y @ y) / (2 * (v + 1))
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    exact = w @ np.sqrt(v)
    e = estimate([np.ascontiguousarray(t) for t in p.scales["a"]])
    assert abs(tau.mean() - exact) < LIMIT * e.error and e.error < 0.05 * exact


def test_adjusted_pseudo_likelihood_has_the_width_of_the_likelihood():
    rng = np.random.default_rng(7)
    j = np.triu(rng.normal(0, 0.2, (4, 4)), 1)
    raster = ising_exact(j + j.T, np.array([-0.4, -0.2, -0.5, -0.3]), 4000, rng)
    exact, pseudo = ExactIsing(raster), pseudo_likelihood(raster)
    theta = free_maximum(exact, np.zeros(exact.size))
    covariance = np.linalg.inv(hmc.dense_information(exact, theta))
    options = {"prior": Prior("gaussian", 5.0), "n_samples": 250, "n_warmup": 100, "n_chains": 2}
    start = maximum(pseudo)[0]
    adjusted = sample_posterior(pseudo, start, n_blocks=400, **options)
    raw = sample_posterior(pseudo, start, adjust=False, **options)
    pairs = np.arange(6)
    ratio = lambda p: np.sqrt(np.mean(p.sd[pairs] ** 2 / np.diag(covariance)[pairs]))  # noqa: E731
    assert ratio(adjusted) == pytest.approx(1, abs=0.1)
    assert ratio(raw) < 0.8  # mutant: every pair counted twice
    assert np.abs((adjusted.mean - theta)[pairs] / np.sqrt(np.diag(covariance))[pairs]).max() < 1.0


# ---- identifiability
def test_duplicates_make_a_flat_direction_with_their_names():
    rng = np.random.default_rng(0)
    x = (rng.random((3000, 3)) < 0.3).astype(np.int8)
    x = np.concatenate([x, x[:, :1]], axis=1)
    assert raster_defects(x).duplicates == ((0, 3),)
    o = pseudo_likelihood(x)
    regular = maximize_penalized(o, penalty_for(o, "l2"), 0.01).theta
    worst = weak_directions(o, regular)[0]
    names = {name for name, _ in worst.parameters}
    assert worst.eigenvalue < 1e-2 and names <= {"a[0,1]", "a[1,3]", "a[0,2]", "a[2,3]", "a[0,3]", "c[0]", "c[3]"}
    clean = pseudo_likelihood((rng.random((3000, 3)) < 0.3).astype(np.int8))
    assert weak_directions(clean, np.zeros(clean.size)) == []


def test_an_exactly_flat_direction():
    x = np.random.default_rng(0).normal(size=(100, 4))
    x[:, 3] = 2 * x[:, 1]
    worst, *others = weak_directions(LinearObjective(x, np.zeros(100)), np.zeros(4))
    weights = dict(worst.parameters)
    assert worst.is_flat and np.isinf(worst.error) and not others
    assert weights["a[1]"] / weights["a[3]"] == pytest.approx(-2, rel=1e-4)


def test_defects_of_a_raster():
    x = np.zeros((50, 5), np.int8)
    x[:10, 0] = x[:20, 1] = x[30:40, 2] = 1
    x[:, 4] = 1
    d = raster_defects(x)
    assert (d.silent, d.saturated, d.duplicates) == ((3,), (4,), ())
    assert (d.never_together, d.nested) == (((0, 2), (1, 2)), ((0, 1),))
    assert len(d.messages()) == 4
    assert gauge("neural") and not gauge("glm")


# ---- discovery
@pytest.mark.parametrize(("procedure", "calls"), [("bh", 60), ("storey", 70), ("by", 30)])
def test_false_discovery_rate_of_known_nulls(procedure, calls):
    """200 repetitions of 300 tests, 100 of them real: the share of false calls stays at or below q."""
    rng = np.random.default_rng(0)
    real = np.arange(300) < 100
    shares, found = [], []
    for _ in range(200):
        z = rng.normal(size=300) + np.where(real, 3.0, 0.0)
        d = discover([str(i) for i in range(300)], z, np.ones(300), 0.1, procedure=procedure)
        shares.append((d.found & ~real).sum() / max(d.found.sum(), 1))
        found.append(d.found.sum())
    error = np.std(shares) / np.sqrt(200)
    assert np.mean(shares) < 0.1 + LIMIT * error and np.mean(found) > calls
    if procedure == "bh":  # exactly q times the share of nulls
        assert abs(np.mean(shares) - 0.1 * 2 / 3) < LIMIT * error
    plain = np.abs(rng.normal(size=(200, 300)) + 3.0 * real) > 1.645
    uncontrolled = ((plain & ~real).sum(axis=1) / plain.sum(axis=1)).mean()
    assert uncontrolled > 0.13  # mutant: p < 0.1 without control


def test_measured_null_repairs_errors_that_are_too_small():
    rng = np.random.default_rng(1)
    null = 1.5 * rng.normal(size=(20, 200))
    z = 1.5 * rng.normal(size=200)
    assert discover([""] * 200, z, np.ones(200), 0.2).found.sum() > 3
    calibrated = discover([""] * 200, z, np.ones(200), 0.2, null_z=null)
    assert calibrated.found.sum() <= 2 and calibrated.null_sd == pytest.approx(1.5, rel=0.05)
    assert calibrated.n_null == 4000


def test_surrogates_keep_units_and_lose_couplings():
    rng = np.random.default_rng(2)
    x = ising_exact(np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]]), np.full(3, -0.5), 3000, rng)

    def z_of(raster):
        o = pseudo_likelihood(raster)
        theta, information = maximum(o)
        return (theta / standard_errors(influences(o, theta, information)[0]))[:3]

    z = null_z(x, z_of, 20, seed=1)
    assert abs(z_of(x)[0]) > 10 and abs((z**2).sum() - z.size) < LIMIT * np.sqrt(2 * z.size)
    y = shifted(x, 1, 0)
    assert np.array_equal(y.sum(axis=0), x.sum(axis=0)) and not np.array_equal(y, x)
    turns = {tuple(np.roll(x[:, 0], k)) for k in range(len(x))}
    assert tuple(y[:, 0]) in turns


def test_couplings_without_an_error_are_not_tested():
    d = discover(["a", "b"], np.array([5.0, 1.0]), np.array([np.nan, 1.0]))
    assert not d.found[0] and np.isnan(d.q[0]) and d.report()["tested"] == 1
    assert zero_share(np.zeros(0)) == 1.0


# ---- power
def test_power_reaches_what_it_promises():
    """Couplings at the promised length are found with the promised probability."""
    p = needed_bins(np.full(1, 0.1), 1000, coupling=0.15, level=0.01, power=0.9)
    error = 0.1 * np.sqrt(1000 / p.bins[0])
    z = np.abs(0.15 / error + np.random.default_rng(0).normal(size=20000))
    assert (z > 2.5758).mean() == pytest.approx(0.9, abs=LIMIT * np.sqrt(0.09 / 20000))
    report = needed_bins(np.array([0.1, np.nan]), 1000, target_error=0.05, bin_s=0.02).report()
    assert report["median_bins"] == pytest.approx(4000) and report["median_s"] == pytest.approx(80)


def test_scaling_notices_drift():
    o = regression(n=10)
    theta, error = free_maximum(o, np.zeros(10)), np.full(10, 4000**-0.5)
    assert all(0.6 < r < 1.4 for r in measured_scaling(o, theta, error).values())
    drift = LinearObjective(o.x, o.y + o.x @ np.full(10, 0.2) * np.linspace(-1, 1, 4000))
    assert measured_scaling(drift, theta, error)[2] > 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: bootstrap(o, np.zeros(4), n_samples=1), "bootstrap samples = 1: valid"),
        (lambda o: bootstrap(o, np.zeros(4), n_samples=9, edges=[0, 10]), "increasing edges from 0 to 4000"),
        (lambda o: sample_posterior(o, np.zeros(4), n_chains=0), "chains = 0: valid"),
        (lambda o: sample_posterior(regression(n=500, n_rows=500), np.zeros(500)), "at most 400"),
        (lambda o: Prior("flat"), "prior 'flat': valid are gaussian, laplace, hierarchical"),
        (lambda o: Prior("laplace", 0.0), "scale of the prior = 0.0"),
        (lambda o: discover(["a"], [1.0], [1.0], 1.5), "false discovery rate = 1.5"),
        (lambda o: discover(["a"], [1.0], [1.0], procedure="bonferroni"), "valid are bh, by, storey"),
        (lambda o: discover(["a"], [1.0], [1.0], null_z=np.ones(3)), "at least 19"),
        (lambda o: needed_bins([1.0], 10), "either target_error or coupling"),
        (lambda o: needed_bins([1.0], 10, coupling=1.0, power=1.0), "power = 1.0"),
        (lambda o: measured_scaling(o, np.zeros(4), np.ones(4), parts=(1,)), "parts = 1"),
        (lambda o: null_z(np.zeros((10, 2)), None, 0), "surrogates = 0"),
        (lambda o: shifted(np.zeros((10, 2)), 0, 0, least=5), "least shift = 5"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call(regression())
