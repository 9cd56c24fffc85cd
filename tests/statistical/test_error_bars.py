"""Are the error bars right? Over many seeds (value - exact)/error is N(0, 1), and a mutant is caught.

The mutant is the error of independent measurements, tau_int forced to 1/2: what the Gamma method prevents.
"""

import math

import numpy as np
import pytest

from lft.analysis import bootstrap, estimate, jackknife
from lft.testing import ar1_series, normality_p_value, z_score

P_MIN = 1e-3                    # a correct method fails one seed set in a thousand; the seeds are fixed
P_MUTANT = 1e-6


def series(seed, n, rho=0.8):
    """Two correlated columns with means 1 and 2, both with tau_int = (1 + rho)/(2 (1 - rho))."""
    x = ar1_series(n, rho, seed=seed, shape=(2,))
    return np.stack([1 + 0.3 * x[:, 0], 2 + 0.2 * x[:, 0] + 0.2 * x[:, 1]], axis=1)


def ratio(means):
    return means[0] / means[1]


def without_autocorrelation(x, function=None):
    """The mutant: value and error as if measurements were independent."""
    e = estimate(x, function)
    return e.value, e.error * math.sqrt(0.5 / e.tau_int)


METHODS = {
    "gamma": lambda x: estimate(x, ratio),
    "gamma, 4 replicas": lambda x: estimate(np.array_split(x, [500, 1200, 2500]), ratio),
    "jackknife": lambda x: jackknife(x, ratio, n_blocks=40),
    "bootstrap": lambda x: bootstrap(x, ratio, 40, 200, seed=1),
}


def test_error_bars_of_a_mean_and_of_a_ratio():
    samples = [series(seed, 4000) for seed in range(120)]
    assert normality_p_value([z_score(estimate(x[:, 0]), 1.0) for x in samples]) > P_MIN
    assert normality_p_value([z_score(estimate(x, ratio), 0.5) for x in samples]) > P_MIN
    assert normality_p_value([z_score(without_autocorrelation(x[:, 0]), 1.0) for x in samples]) < P_MUTANT
    assert normality_p_value([z_score(without_autocorrelation(x, ratio), 0.5) for x in samples]) < P_MUTANT


def test_error_of_the_error_and_of_tau_are_of_the_right_size():
    # The reported spreads against the real ones over seeds; 100 seeds know a spread to 7 %.
    found = [estimate(ar1_series(10_000, 0.8, seed=seed)) for seed in range(100)]
    exact_error = math.sqrt(2 * 4.5 / 10_000)
    for values, errors, exact in (
            ([e.error for e in found], [e.error_of_error for e in found], exact_error),
            ([e.tau_int for e in found], [e.tau_int_error for e in found], 4.5)):
        assert np.mean(values) == pytest.approx(exact, rel=0.05)
        assert np.std(values) == pytest.approx(np.mean(errors), rel=0.5)


@pytest.mark.validate
@pytest.mark.parametrize("rho", [-0.8, 0.0, 0.8, 0.95])
def test_mean_of_ar1_over_200_seeds(rho):
    samples = [ar1_series(20_000, rho, seed=seed) for seed in range(200)]
    assert normality_p_value([z_score(estimate(x), 0.0) for x in samples]) > P_MIN
    if rho != 0:                       # independent measurements leave the mutant nothing to miss
        mutants = [z_score(without_autocorrelation(x), 0.0) for x in samples]
        assert normality_p_value(mutants) < P_MUTANT


@pytest.mark.validate
@pytest.mark.parametrize("method", METHODS)
def test_derived_quantity_over_200_seeds(method):
    samples = [series(seed, 10_000) for seed in range(1000, 1200)]
    assert normality_p_value([z_score(METHODS[method](x), 0.5) for x in samples]) > P_MIN
    assert normality_p_value([z_score(without_autocorrelation(x, ratio), 0.5) for x in samples]) < P_MUTANT


@pytest.mark.validate
def test_tau_int_over_200_seeds():
    # The mutant closes its window too early and misses the tail.
    def scores(s_tau):
        found = (estimate(ar1_series(100_000, 0.6, seed=seed), s_tau=s_tau) for seed in range(200))
        return [z_score((e.tau_int, e.tau_int_error), 2.0) for e in found]

    z = scores(2.0)
    assert abs(np.mean(z)) < 0.5 and np.std(z) == pytest.approx(1, abs=0.25)
    assert abs(np.mean(scores(0.5))) > 1
