"""Series with gaps: only the pairs that exist count, and the chain keeps its autocorrelation time."""

import math
import warnings

import numpy as np
import pytest

from lft.analysis import estimate, estimate_vector
from lft.analysis.covariance import covariance
from lft.errors import DataWarning, InputError
from lft.testing import ar1_series, assert_agrees


def exact_error(rho, index):
    """sqrt((1/n^2) sum_ij rho^|i-j|) of unit-variance AR(1) measurements at the given places."""
    distances = np.bincount(np.abs(np.subtract.outer(index, index)).ravel())
    return math.sqrt(distances @ rho ** np.arange(len(distances))) / len(index)


def thinned(n, kept, seed):
    return np.sort(np.random.default_rng(seed).choice(n, kept, replace=False))


GAPS = {
    "lost file": np.r_[0:2000, 2600:5000],
    "many holes": np.concatenate([np.arange(k, k + 37) for k in range(0, 4960, 60)]),
    "random": thinned(5000, 2000, 1),
    "every third": np.arange(0, 5000, 3),
}


def test_no_gaps_change_nothing():
    x = ar1_series(3000, 0.7, seed=1, shape=(2,))
    function = lambda m: m[0] + m[1] ** 2  # noqa: E731
    a, b = estimate(x, function), estimate(x, function, index=np.arange(100, 3100))
    assert (a.window, a.n) == (b.window, b.n)
    for name in ("value", "error", "error_of_error", "tau_int", "tau_int_error"):
        assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1e-9)
    parts = [x[:1000], x[1000:]]
    c, d = estimate(parts, function), estimate(parts, function, index=[np.arange(1000), np.arange(2000)])
    assert d.error == pytest.approx(c.error, rel=1e-9)


@pytest.mark.parametrize("gaps", list(GAPS))
def test_matches_the_formulas_written_as_loops(gaps):
    index = GAPS[gaps]
    x = ar1_series(5000, 0.8, seed=2)[index]
    e = estimate(x, index=index)
    stride = int(np.gcd.reduce(np.diff(index)))
    places, d, n = index // stride, x - x.mean(), len(x)
    at = dict(zip(places.tolist(), d.tolist(), strict=True))
    gamma, weight = [], []
    for t in range(e.window + 1):
        pairs = [v * at[i + t] for i, v in at.items() if i + t in at]
        gamma.append(sum(pairs) / len(pairs))
        weight.append(len(pairs) / (n - t))
    gamma, weight = np.array(gamma), np.array(weight)
    C = gamma[0] + 2 * weight[1:] @ gamma[1:]
    assert e.error == pytest.approx(math.sqrt((C + C / n * (1 + 2 * weight[1:].sum())) / n), rel=1e-9)
    tau = (gamma[0] + 2 * gamma[1:].sum() + (2 * e.window + 1) * C / n) / (2 * (gamma[0] + C / n))
    assert e.tau_int == pytest.approx(stride * tau, rel=1e-9)


@pytest.mark.parametrize("gaps", list(GAPS))
def test_errors_and_times_are_the_exact_ones(gaps):
    rho, index = 0.8, GAPS[gaps]
    stride = int(np.gcd.reduce(np.diff(index)))
    es = [estimate(ar1_series(5000, rho, seed=100 + s)[index], index=index) for s in range(60)]
    error = np.array([e.error for e in es])
    exact = exact_error(rho, index)
    assert_agrees((error.mean(), error.std(ddof=1) / math.sqrt(60) + 0.01 * exact), exact, relative_error_max=0.03)
    tau = np.array([e.tau_int for e in es])
    r = rho**stride
    assert abs(tau.mean() / (stride * (1 + r) / (2 * (1 - r))) - 1) < 0.06
    z = np.array([e.value for e in es]) / error
    assert 0.75 < z.std() < 1.3


def test_the_check_sees_errors_that_ignore_the_gaps():
    """Broken twins: all lags at full weight (too large), and the gaps closed up (too small)."""
    rho, index = 0.8, GAPS["random"]
    exact = exact_error(rho, index)
    whole, closed = [], []
    for s in range(60):
        x = ar1_series(5000, rho, seed=100 + s)[index]
        e = estimate(x, index=index)
        whole.append(math.sqrt(2 * e.tau_int * x.var() / len(x)))
        closed.append(estimate(x).tau_int)
    assert np.mean(whole) > 1.3 * exact
    assert np.mean(closed) < 0.7 * (1 + rho) / (2 * (1 - rho))


def test_lags_without_pairs_are_reported():
    index = np.concatenate([[k, k + 1] for k in range(0, 40000, 7)])
    x = ar1_series(40001, 0.9, seed=3)
    with pytest.warns(DataWarning, match=r"lags in the window have no pair .*the shortest: 2 updates"):
        e = estimate(x[index], index=index)
    exact = exact_error(0.9, index[:3000]) * math.sqrt(3000 / len(index))
    assert e.error == pytest.approx(exact, rel=0.15)


def test_columns_of_a_gappy_series_are_estimated_alike():
    index = GAPS["random"]
    x = ar1_series(5000, 0.8, seed=6, shape=(2,))[index]
    for k, e in enumerate(estimate_vector(x, index=index)):
        alone = estimate(x[:, k], index=index)
        assert (e.value, e.error, e.tau_int, e.window) == pytest.approx(
            (alone.value, alone.error, alone.tau_int, alone.window), rel=1e-9)


def test_covariance_of_a_gappy_series():
    index = GAPS["many holes"]
    x = ar1_series(5000, 0.8, seed=4)[index]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c = covariance(np.column_stack([x, 3 * x]), index=index)
    assert c.correlation[0, 1] == pytest.approx(1, abs=1e-9)
    assert c.errors[1] == pytest.approx(3 * estimate(x, index=index).error, rel=1e-9)


@pytest.mark.parametrize("index, message", [
    (np.arange(99), r"index has shape \(99,\)"),
    (np.arange(100.0), "float64; it must hold one integer"),
    (np.r_[0:50, 49:99], r"element 50 is 49 after 49; the places must increase"),
    ([np.arange(100), np.arange(100)], "2 parts for 1 replicas"),
    (np.r_[0:99, 2**60], "spans 1152921504606846976 places"),
])
def test_bad_places_are_named(index, message):
    with pytest.raises(InputError, match=message):
        estimate(ar1_series(100, 0.0, seed=5), index=index)
