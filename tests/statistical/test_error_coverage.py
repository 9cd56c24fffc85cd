"""Do 68 % and 95 % intervals hold the truth in 68 % and 95 % of all cases?  AR(1) series and mixtures of them."""

import math
import warnings

import numpy as np
import pytest

from lft.analysis import bootstrap, estimate, jackknife
from lft.errors import SeriesTooShort
from lft.testing import ar1_series, assert_agrees

LENGTH = 4000
TWO = np.array([1.0, 2.0])
LEVELS = ((1.0, math.erf(1 / math.sqrt(2))), (1.959964, 0.95))


def mixture(n, seed):
    """Two time scales: 0.8 of the variance with rho = 0.3, 0.2 with rho = 0.9; variance 1."""
    parts = ar1_series(n, 0.3, seed=seed), ar1_series(n, 0.9, seed=10**6 + seed)
    return math.sqrt(0.8) * parts[0] + math.sqrt(0.2) * parts[1]


MIXTURE_TAU = 0.8 * 1.3 / 1.4 + 0.2 * 1.9 / 0.2
ratio = lambda m: m[0] / m[1]  # noqa: E731


def gapped(seed):
    keep = np.random.default_rng(seed).random(2 * LENGTH) < 0.5
    index = np.flatnonzero(keep)
    return estimate(ar1_series(2 * LENGTH, 0.7, seed=seed)[index], index=index)


def as_pair(e):
    return e.value, e.error


METHODS = {  # seed to (value, error), exact value
    "gamma": (lambda s: as_pair(estimate(ar1_series(LENGTH, 0.6, seed=s))), 0.0),
    "gamma, mixture": (lambda s: as_pair(estimate(mixture(LENGTH, s))), 0.0),
    "gamma, ratio": (lambda s: as_pair(estimate(ar1_series(LENGTH, 0.6, seed=s, shape=(2,)) + TWO, ratio)), 0.5),
    "gamma, gaps": (lambda s: as_pair(gapped(s)), 0.0),
    "jackknife": (lambda s: jackknife(ar1_series(LENGTH, 0.6, seed=s, shape=(2,)) + TWO, ratio, 50), 0.5),
    "bootstrap": (lambda s: bootstrap(ar1_series(LENGTH, 0.6, seed=s), None, 50, 200, seed=s), 0.0),
}
MUTANTS = {
    "no autocorrelation": (lambda s: as_pair(estimate(ar1_series(LENGTH, 0.6, seed=s)[np.random.default_rng(s)
                                                                                     .permutation(LENGTH)])), 0.0),
    "blocks too short": (lambda s: jackknife(ar1_series(LENGTH, 0.6, seed=s), None, 2000), 0.0),
}


def coverage(method, exact, n):
    """Fraction of intervals that hold the exact value, at each level."""
    z = np.empty(n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesTooShort)
        for s in range(n):
            value, error = method(s)
            z[s] = (value - exact) / error
    return [(float(np.mean(np.abs(z) < width)), level) for width, level in LEVELS]


def check(method, exact, n):
    """Binomial error, and 1.5 % for what the noise of the error itself and the cut of the sum take away."""
    for found, level in coverage(method, exact, n):
        limit = 3.5 * math.sqrt(level * (1 - level) / n) + 0.015
        message = f"{found:.3f} of the intervals hold the truth, {level:.3f} should (+- {limit:.3f})"
        assert abs(found - level) < limit, message


@pytest.mark.parametrize("name", list(METHODS))
def test_intervals_hold_the_truth(name):
    check(*METHODS[name], 200)


@pytest.mark.validate
@pytest.mark.parametrize("name", list(METHODS))
def test_intervals_hold_the_truth_in_a_thousand_series(name):
    check(*METHODS[name], 1000)


@pytest.mark.parametrize("name", list(MUTANTS))
def test_the_check_sees_wrong_errors(name):
    with pytest.raises(AssertionError, match="of the intervals hold the truth"):
        check(*MUTANTS[name], 200)


def test_mixtures_have_the_exact_time_and_error():
    es = [estimate(mixture(50_000, s)) for s in range(20)]
    tau = np.array([e.tau_int for e in es])
    # the window cuts the slow tail: a bias of some per cent of tau is that of the method, not an error of ours
    error = tau.std(ddof=1) / math.sqrt(20) + 0.03 * MIXTURE_TAU
    assert_agrees((tau.mean(), error), MIXTURE_TAU, relative_error_max=0.05)
    error = np.mean([e.error for e in es])
    assert error == pytest.approx(math.sqrt(2 * MIXTURE_TAU / 50_000), rel=0.05)
