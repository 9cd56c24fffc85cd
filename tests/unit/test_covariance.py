"""Covariances of functions and of ensembles, and resamples that can be computed with."""

import math

import numpy as np
import pytest

from lft.analysis import estimate, jackknife
from lft.analysis.covariance import covariance
from lft.analysis.ensembles import combine
from lft.analysis.resample import bootstrap_samples, independent, jackknife_samples
from lft.errors import InputError
from lft.testing import ar1_series, assert_agrees

MIX = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.5, 0.3, 0.7]])


def mixed(n, seed, rho=0.7):
    """Columns with the exact covariance matrix of their means MIX MIX^T 2 tau_int/n."""
    return ar1_series(n, rho, seed=seed, shape=(3,)) @ MIX.T + [2.0, 3.0, 4.0]


FUNCTIONS = [lambda m: m[0] / m[1], lambda m: m[0] * m[2], lambda m: math.log(m[1])]
JACOBIAN = np.array([[1 / 3, -2 / 9, 0], [4, 0, 2], [0, 1 / 3, 0]])


def exact_covariance(n, rho=0.7):
    c = MIX @ MIX.T * (1 + rho) / (1 - rho) / n
    return JACOBIAN @ c @ JACOBIAN.T


def test_covariance_of_functions_is_the_exact_one():
    n = 20_000
    exact = exact_covariance(n)
    error = np.sqrt(np.diag(exact))
    cs = [covariance(mixed(n, 10 + s), FUNCTIONS) for s in range(30)]
    mean = np.mean([c.correlation for c in cs], axis=0)
    assert abs(mean - exact / np.outer(error, error)).max() < 0.03
    assert np.mean([c.errors for c in cs], axis=0) == pytest.approx(error, rel=0.03)
    assert not any(c.is_adjusted for c in cs)
    chi2 = np.array([c.chi_squared([2 / 3, 8, math.log(3)])[0] for c in cs])
    assert_agrees((chi2.mean(), math.sqrt(6 / 30)), 3)


def test_diagonal_holds_the_errors_of_the_single_estimates():
    x = mixed(5000, 1)
    c = covariance(x, FUNCTIONS)
    for k, f in enumerate(FUNCTIONS):
        assert c.matrix[k, k] == pytest.approx(estimate(x, f).error ** 2, rel=1e-9)


def test_agrees_with_the_jackknife():
    x = mixed(40_000, 2)
    c = covariance(x, FUNCTIONS)
    j = jackknife_samples(x, 400).map(lambda m: np.array([f(m) for f in FUNCTIONS]))
    assert abs(c.correlation - j.correlation).max() < 0.2
    assert c.errors == pytest.approx(j.error, rel=0.15)


def test_a_negative_sum_is_made_positive_and_said_so():
    x = ar1_series(200, 0.0, seed=3, shape=(30,))
    c = covariance(x, window=40)
    assert c.is_adjusted and c.smallest_eigenvalue < 0 and "negative eigenvalue" in c.note
    assert np.linalg.eigvalsh(c.correlation)[0] > -1e-12
    assert np.diag(c.correlation) == pytest.approx(1)
    with pytest.raises(InputError, match="condition number"):
        c.chi_squared(np.zeros(30))


def test_constant_quantities_are_flagged():
    x = np.column_stack([ar1_series(1000, 0.2, seed=4), np.full(1000, 0.1)])
    c = covariance(x)
    assert c.constant == [1] and "constant" in c.note and c.matrix[1, 1] == 0
    assert "no error can be estimated" in str(c.estimates[1]) and c.estimates[1].is_constant
    with pytest.raises(InputError, match="too large to invert"):
        c.chi_squared([0, 0.1])


def test_the_check_sees_covariances_without_autocorrelation():
    """Broken twin: Gamma(0) alone is five times too small here."""
    n = 20_000
    x = mixed(n, 11)
    naive = np.cov(x.T) / n
    assert np.diag(naive).max() < 0.3 * np.diag(MIX @ MIX.T * (1.7 / 0.3) / n).min()
    assert covariance(x).matrix == pytest.approx(MIX @ MIX.T * (1.7 / 0.3) / n, rel=0.6, abs=1e-5)


# ---- several ensembles
def test_functions_of_independent_ensembles():
    zs = []
    for s in range(100):
        pair = [ar1_series(n, 0.3, seed=seed + s, shape=(2,)) + np.array([3.0, 1.0])
                for n, seed in ((900, 400), (700, 600))]
        data = {"a": ar1_series(3000, 0.6, seed=200 + s) + 2, "b": pair}
        c = combine(lambda m: m["a"][0] * m["b"][1] / m["b"][0], data)
        zs.append((c.value - 2 / 3) / c.error)
    exact = math.sqrt((1 / 9) * 4 / 3000 + (4 / 9) * (1.3 / 0.7) / 1600 * (1 + 1 / 9))
    assert c.error == pytest.approx(exact, rel=0.2)
    assert 0.8 < np.std(zs) < 1.2 and abs(np.mean(zs)) < 0.45
    assert set(c.parts) == {"a", "b"} and " %" in str(c)
    assert c.error**2 == pytest.approx(sum(p.error**2 for p in c.parts.values()))


def test_one_ensemble_is_an_estimate():
    x = mixed(3000, 5)
    c, e = combine(lambda m: m["x"][0] / m["x"][1], {"x": x}), estimate(x, lambda m: m[0] / m[1])
    assert (c.value, c.error) == pytest.approx((e.value, e.error))
    assert c.error_of_error == pytest.approx(e.error_of_error)


def test_gaps_and_spacing_of_one_of_several():
    index = np.r_[0:500, 900:1500]
    x, y = ar1_series(1500, 0.8, seed=6)[index], ar1_series(800, 0.1, seed=7)
    c = combine(lambda m: m["x"][0] + m["y"][0], {"x": x, "y": y}, index={"x": index}, spacing={"x": 5})
    assert c.parts["x"].error == pytest.approx(estimate(x, index=index).error)
    assert c.parts["x"].tau_int == pytest.approx(5 * estimate(x, index=index).tau_int)


def test_constant_ensembles_and_none():
    assert "no error" in str(combine(lambda m: m["x"][0], {"x": np.ones(50)}))
    with pytest.raises(InputError, match="none given"):
        combine(lambda m: 0.0, {})


# ---- resamples
def test_resamples_of_one_chain_keep_its_correlations():
    x = mixed(4000, 8)
    j = jackknife_samples(x, 40)
    difference = j.map(lambda m: m[0]).map(lambda a, b: a - b, j.map(lambda m: m[1]))
    assert (difference.value, difference.error) == pytest.approx(jackknife(x, lambda m: m[0] - m[1], 40))
    assert j.map(lambda m: m[0]).map(lambda a, b: a - b, j.map(lambda m: m[0])).error == 0
    assert np.linalg.eigvalsh(j.covariance)[0] >= 0
    assert np.sqrt(np.diag(j.covariance)) == pytest.approx(j.error)


def test_independent_ensembles_add_in_squares():
    a = jackknife_samples(ar1_series(4000, 0.5, seed=9) + 2, 40)
    b = jackknife_samples(ar1_series(900, 0.0, seed=10) + 5, 31)
    x, y = independent(a, b)
    assert (x.error, x.value) == pytest.approx((a.error, a.value))
    assert x.map(lambda p, q: p + q, y).error == pytest.approx(math.hypot(a.error, b.error))
    product = x.map(lambda p, q: p * q, y)
    assert product.error == pytest.approx(math.hypot(a.error * b.center, b.error * a.center), rel=0.02)
    with pytest.raises(InputError, match="different blocks"):
        a.map(lambda p, q: p + q, b)


def test_bootstraps_with_other_seeds_are_independent():
    x, y = ar1_series(4000, 0.0, seed=11), ar1_series(4000, 0.0, seed=12)
    a, b = bootstrap_samples(x, 50, 2000, seed=1), bootstrap_samples(y, 50, 2000, seed=2)
    assert a.map(lambda p, q: p + q, b).error == pytest.approx(math.hypot(a.error, b.error), rel=0.06)
    again = bootstrap_samples(x, 50, 2000, seed=1)
    assert a.map(lambda p, q: p - q, again).error == 0


def test_replicas_are_not_joined_by_a_block():
    parts = [ar1_series(1000, 0.5, seed=13), ar1_series(500, 0.5, seed=14)]
    j = jackknife_samples(parts, 30)
    assert len(j.samples) == 30 and j.center == pytest.approx(np.concatenate(parts).mean())
    assert j.error == pytest.approx(estimate(parts).error, rel=0.4)
