"""Laws of blocking, jackknife and bootstrap."""

import numpy as np
import pytest

from lft.analysis import block_means, bootstrap, estimate, jackknife
from lft.errors import InputError
from lft.testing import ar1_series


def test_blocks_use_every_measurement():
    x = np.arange(23.0)
    blocks = block_means(x, 5)
    assert blocks.tolist() == [part.mean() for part in np.array_split(x, 5)]
    assert block_means(x[:, None], 5).shape == (5, 1)
    assert block_means(x, 23).tolist() == x.tolist()


def test_jackknife_of_the_mean_is_the_standard_error():
    x = ar1_series(1000, 0.0, seed=1)
    value, error = jackknife(x, n_blocks=1000)
    assert value == pytest.approx(x.mean(), rel=1e-9)
    assert error == pytest.approx(x.std(ddof=1) / np.sqrt(1000), rel=1e-9)


@pytest.mark.parametrize("n", [100, 103, 109])
def test_jackknife_matches_its_definition(n):
    x, blocks = ar1_series(n, 0.3, seed=2) + 2, 10
    parts = np.array_split(x, blocks)
    left_out = np.array([np.concatenate(parts[:j] + parts[j + 1:]).mean()**2 for j in range(blocks)])
    h = n / np.array([len(part) for part in parts])
    expected = blocks * x.mean()**2 - np.sum((1 - 1 / h) * left_out)
    pseudo = h * x.mean()**2 - (h - 1) * left_out
    value, error = jackknife(x, lambda m: m[0]**2, n_blocks=blocks)
    assert value == pytest.approx(expected, rel=1e-12)
    assert error == pytest.approx(np.sqrt(np.mean((pseudo - expected)**2 / (h - 1))), rel=1e-9)


def test_jackknife_removes_the_bias_of_a_square():
    # <mean^2> = mu^2 + var/n: at mu = 0 the plain square is positive, the corrected one averages to 0.
    plain, corrected = [], []
    for seed in range(200):
        x = ar1_series(60, 0.0, seed=seed)
        plain.append(x.mean()**2)
        corrected.append(jackknife(x, lambda m: m[0]**2, n_blocks=30)[0])
    error = np.std(corrected) / np.sqrt(200)
    assert abs(np.mean(corrected)) < 4.5 * error
    assert np.mean(plain) > 4.5 * error          # the mutant: no correction


def test_methods_agree_on_a_correlated_ratio():
    x = ar1_series(50_000, 0.8, seed=3, shape=(2,)) + np.array([1.0, 4.0])

    def ratio(m):
        return m[0] / m[1]

    e = estimate(x, ratio)
    for value, error in (jackknife(x, ratio, n_blocks=100), bootstrap(x, ratio, 100, 400, seed=4)):
        assert value == pytest.approx(e.value, abs=0.1 * e.error)
        assert error == pytest.approx(e.error, rel=0.35)        # 100 blocks: the error itself has 7 %
    too_short = jackknife(x, ratio, n_blocks=25_000)[1]
    assert too_short < 0.5 * e.error             # the mutant: blocks shorter than tau_int


def test_arrays_in_arrays_out():
    x = ar1_series(1000, 0.0, seed=5, shape=(3,))
    for value, error in (jackknife(x), bootstrap(x, None, 50, 100, seed=6)):
        assert value.shape == error.shape == (3,)
    value, error = jackknife(x, lambda m: np.outer(m, m))
    assert value.shape == error.shape == (3, 3)
    assert jackknife(x[:, 0], n_blocks=7)[0] == pytest.approx(x[:, 0].mean(), rel=1e-9)


def test_bootstrap_is_a_function_of_its_seed():
    x = ar1_series(1000, 0.5, seed=7)
    assert bootstrap(x, None, 20, 50, seed=1) == bootstrap(x, None, 20, 50, seed=1)
    assert bootstrap(x, None, 20, 50, seed=1) != bootstrap(x, None, 20, 50, seed=2)


@pytest.mark.parametrize("call, message", [
    (lambda x: block_means(x, 1), "n_blocks = 1: give an integer from 2 to 100"),
    (lambda x: jackknife(x, n_blocks=101), "n_blocks = 101"),
    (lambda x: jackknife(x, n_blocks=2.0), "n_blocks = 2.0"),
    (lambda x: bootstrap(x, None, 10, 1, seed=0), "n_samples = 1"),
    (lambda x: bootstrap(x, None, 10, 10, seed=-1), "seed = -1"),
    (lambda x: block_means(x.reshape(10, 5, 2), 2), r"shape \(10, 5, 2\)"),
    (lambda x: jackknife(np.append(x, np.nan)), r"element \[100\] is nan"),
    (lambda x: jackknife(x, lambda m: np.nan), "function returned"),
    (lambda x: block_means([x, x[:5]], 2), "real numbers"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(ar1_series(100, 0.0, seed=8))
