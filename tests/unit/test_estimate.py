"""Laws of the Gamma method: invariances, limits, and the messages a user meets."""

import math
import warnings

import numpy as np
import pytest

from lft.analysis import Estimate, covariance_of_means, estimate, estimate_vector
from lft.errors import InputError, SeriesTooShort
from lft.testing import ar1_series, assert_agrees


@pytest.mark.parametrize("rho", [-0.8, -0.3, 0.0, 0.5, 0.9])
def test_autocorrelation_time_of_ar1(rho):
    n = 100_000
    e = estimate(ar1_series(n, rho, seed=11))
    tau = (1 + rho) / (2 * (1 - rho))
    assert abs(e.value) < 4.5 * e.error
    # Below 1/2 the window is even and cut on the large side, so the error may only be too large there.
    assert abs(e.tau_int - tau) < 4.5 * e.tau_int_error + 0.02
    assert e.error == pytest.approx(math.sqrt(2 * tau / n), rel=0.15)


def test_matches_the_formulas_written_as_loops():
    x = ar1_series(3000, 0.7, seed=12)
    e = estimate(x)
    d, n, W = x - x.mean(), len(x), e.window
    gamma = [sum(d[i] * d[i + t] for i in range(n - t)) / (n - t) for t in range(W + 1)]
    C = gamma[0] + 2 * sum(gamma[1:])
    C_corrected = C * (1 + (2 * W + 1) / n)
    assert e.error == pytest.approx(math.sqrt(C_corrected / n), rel=1e-12)
    assert e.tau_int == pytest.approx(C_corrected / (2 * (gamma[0] + C / n)), rel=1e-12)
    assert e.error_of_error == pytest.approx(e.error * math.sqrt((W + 0.5) / n))
    assert e.tau_int_error == pytest.approx(2 * e.tau_int * math.sqrt((W + 0.5 - e.tau_int) / n))


def test_window_is_where_statistical_and_systematic_error_cross():
    x, s_tau = ar1_series(5000, 0.8, seed=13), 1.5
    e, d = estimate(x, s_tau=s_tau), x - x.mean()
    n, tau_int = len(x), 0.5
    for W in range(1, n // 2):
        tau_int += (d[W:] @ d[:-W]) / (n - W) / (d @ d / n)
        tau = s_tau / math.log((2 * tau_int + 1) / (2 * tau_int - 1))
        if math.exp(-W / tau) < tau / math.sqrt(W * n):
            break
    assert e.window == W


def test_affine_maps_act_on_value_and_error_only():
    x = ar1_series(5000, 0.5, seed=14)
    e, f = estimate(x), estimate(1e6 - 3 * x)
    assert f.value == pytest.approx(1e6 - 3 * e.value, rel=1e-14)
    assert f.error == pytest.approx(3 * e.error, rel=1e-8)
    assert (f.window, f.n) == (e.window, e.n)


def test_linear_function_equals_the_estimate_of_the_combination():
    x = ar1_series(5000, 0.5, seed=15, shape=(3,))
    weights = np.array([1.0, -2.0, 0.5])
    direct = estimate(x @ weights)
    for gradient in (None, weights, lambda m: weights):
        derived = estimate(x, lambda m: m @ weights, gradient=gradient)
        assert derived.value == pytest.approx(direct.value, rel=1e-10)
        assert derived.error == pytest.approx(direct.error, rel=1e-7)
        assert derived.window == direct.window


def test_rotated_ar1_modes():
    # Two independent modes, mixed by a rotation: each column is a mixture, but the way back has the pure tau.
    n, angle = 50_000, 0.7
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    modes = np.stack([ar1_series(n, 0.9, seed=16), ar1_series(n, 0.2, seed=17)], axis=1)
    mixed = modes @ rotation.T
    for mode, rho in enumerate((0.9, 0.2)):
        e = estimate(mixed, lambda m, row=rotation.T[mode]: row @ m)
        assert abs(e.tau_int - (1 + rho) / (2 * (1 - rho))) < 4.5 * e.tau_int_error
    mixture = [c**2 * 9.5 + s**2 * 0.75 for c, s in (rotation[0], rotation[1])]
    for e, tau in zip(estimate_vector(mixed), mixture, strict=True):
        assert abs(e.tau_int - tau) < 4.5 * e.tau_int_error


def test_ratio_agrees_with_its_given_gradient():
    x = ar1_series(20_000, 0.6, seed=18, shape=(2,)) + np.array([3.0, 2.0])
    numeric = estimate(x, lambda m: m[0] / m[1])
    given = estimate(x, lambda m: m[0] / m[1], gradient=lambda m: [1 / m[1], -m[0] / m[1]**2])
    assert numeric.error == pytest.approx(given.error, rel=1e-4)
    assert_agrees(numeric, 1.5, relative_error_max=0.02)


def test_replicas_pool_like_one_long_chain():
    parts = [ar1_series(n, 0.7, seed=s) for n, s in ((40_000, 19), (10_000, 20), (25_000, 21))]
    pooled, one = estimate(parts), estimate(np.concatenate(parts))
    assert pooled.n == 75_000
    assert pooled.value == pytest.approx(one.value, rel=1e-10)
    assert pooled.error == pytest.approx(one.error, rel=1e-2)
    assert estimate([parts[0]]) == estimate(parts[0])


def test_replicas_do_not_correlate_across_their_border():
    rng = np.random.default_rng(22)
    parts = [rng.standard_normal(1000), rng.standard_normal(1000)]
    flipped = estimate([parts[0], parts[1][::-1]])
    assert estimate(parts).error == pytest.approx(flipped.error, rel=1e-12)


def test_a_difference_between_replicas_enlarges_the_error():
    x = ar1_series(2000, 0.0, seed=23)
    with pytest.warns(SeriesTooShort):
        apart = estimate([x, x[::-1] + 10])
    assert apart.error > 20 * estimate([x, x[::-1]]).error


def test_spacing_counts_in_updates():
    x = ar1_series(20_000, 0.8, seed=24)
    one, ten = estimate(x), estimate(x, spacing=10)
    assert (ten.tau_int, ten.tau_int_error) == (10 * one.tau_int, 10 * one.tau_int_error)
    assert (ten.error, ten.window, ten.is_long_enough) == (one.error, one.window, one.is_long_enough)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e300, 3])
def test_constant_series_has_no_error(constant):
    e = estimate(np.full(1000, constant))
    assert (e.value, e.error, e.tau_int, e.window) == (constant, 0.0, 0.5, 0)
    assert estimate(np.full((1000, 2), 0.1), lambda m: m[0] / m[1]).error == 0.0


def test_a_combination_that_cancels_is_constant():
    x = ar1_series(1000, 0.5, seed=25)
    e = estimate(np.stack([x, 0.1 - x], axis=1), lambda m: m[0] + m[1])
    assert (e.error, e.tau_int) == (0.0, 0.5)
    assert e.value == pytest.approx(0.1)


def test_small_fluctuation_on_a_large_offset_is_not_taken_for_constant():
    x = ar1_series(5000, 0.5, seed=26)
    assert estimate(1e6 + 1e-5 * x).error == pytest.approx(1e-5 * estimate(x).error, rel=1e-3)


def test_perfectly_alternating_series_has_a_finite_error():
    e = estimate(np.tile([1.0, -1.0], 500))
    assert e.value == 0.0
    assert 0 < e.error <= math.sqrt(1.01 / 1000)


@pytest.mark.parametrize("n", [4, 5, 7, 20])
def test_very_short_series_warn_and_return(n):
    with pytest.warns(SeriesTooShort, match=f"magnetization: n = {n} .* at least [0-9]+ updates"):
        e = estimate(np.arange(n) % 3.0, name="magnetization")
    assert math.isfinite(e.error) and not e.is_long_enough


def test_the_missing_updates_are_what_is_missing():
    x = ar1_series(200, 0.95, seed=27)
    with pytest.warns(SeriesTooShort) as record:
        e = estimate(x, spacing=5)
    missing = int(str(record[0].message).split("at least ")[1].split()[0])
    assert missing == math.ceil(50 * e.tau_int - 1000)
    assert record[0].filename == __file__


def test_long_series_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert estimate(ar1_series(5000, 0.5, seed=28)).is_long_enough


def test_covariance_has_the_squared_errors_on_its_diagonal():
    x = ar1_series(5000, 0.6, seed=29, shape=(2,)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    e = estimate(x[:, 1])
    c = covariance_of_means(x, e.window)
    assert c.shape == (2, 2) and np.array_equal(c, c.T)
    assert c[1, 1] == pytest.approx(e.error**2, rel=1e-10)
    difference = estimate(x, lambda m: m[0] - m[1])
    assert c[0, 0] + c[1, 1] - 2 * c[0, 1] == pytest.approx(difference.error**2, rel=0.05)


def test_covariance_of_replicas():
    parts = [ar1_series(n, 0.4, seed=n) for n in (300, 700)]
    e = estimate(parts)
    assert covariance_of_means(parts, e.window)[0, 0] == pytest.approx(e.error**2, rel=1e-10)


def test_integers_and_booleans_are_read_as_numbers():
    bits = ar1_series(1000, 0.0, seed=30) > 0
    assert estimate(bits) == estimate(bits.astype(np.int8)) == estimate(bits.astype(float))


@pytest.mark.parametrize("numbers, text", [
    ((0.48231, 0.0012, 2.1, 0.2, 18000), "0.4823(12) tau=2.1(2) n=18000"),
    ((0.5, 0.0, 0.5, 0.0, 10), "0.5 constant: no error can be estimated, n=10"),
    ((0.5, math.nan, math.nan, math.nan, 10), "0.5(nan) tau=nan(nan) n=10"),
    ((-12345.6, 123.0, 31.4, 12.0, 10), "-12350(120) tau=30(10) n=10"),
    ((4.83, 1.2, 0.5, 0.012, 10), "4.8(1.2) tau=0.50(1) n=10"),
    ((0.1234, 0.0996, 1.0, 0.96, 10), "0.12(10) tau=1(1) n=10"),
    ((1.23456e10, 3e7, 1.0, 0.1, 10), "1.2346(30)e+10 tau=1.0(1) n=10"),
    ((-3.2e-7, 1.5e-8, 1.0, 0.1, 10), "-3.20(15)e-07 tau=1.0(1) n=10"),
    ((0.0, 0.02, 1.0, 0.1, 10), "0.000(20) tau=1.0(1) n=10"),
    ((1e300, 1e298, 1.0, 0.1, 10), "1.000(10)e+300 tau=1.0(1) n=10"),
    ((1.0, 1e-300, 1.0, 0.1, 10), "1(1e-300) tau=1.0(1) n=10"),
    ((math.inf, 1.0, 1.0, 0.1, 10), "inf(1) tau=1.0(1) n=10"),
])
def test_estimates_print_their_evidence(numbers, text):
    value, error, tau, tau_error, n = numbers
    e = Estimate(value, error, 0.0, tau, tau_error, 3, n)
    assert str(e) == text
    assert eval(repr(e), {"Estimate": Estimate, "nan": math.nan, "inf": math.inf}).n == n


def test_printing_never_fails():
    rng = np.random.default_rng(31)
    for value, error, tau in 10.0 ** rng.uniform(-320, 308, size=(300, 3)):
        assert " tau=" in str(Estimate(value, error, error, tau, tau, 1, 100))


@pytest.mark.parametrize("series, options, message", [
    ([1.0, 2.0, 3.0], {}, "3 measurements; at least 4"),
    ([[0.0] * 9, [1.0] * 2], {}, "replica 1 has 2 measurements"),
    ([1.0, 2.0, math.nan, 3.0, 4.0], {}, r"element \[2\] is nan"),
    (np.array([[1, 2], [3, 4], [5, math.inf], [0, 0]]), {"function": sum}, r"element \[2, 1\] is inf"),
    (np.ones((5, 2)), {}, "2 columns and no function"),
    (np.ones((5, 2, 2)), {}, r"shape \(5, 2, 2\)"),
    (np.ones(5) * 1j, {}, "real"),
    (["a"] * 5, {}, "real numbers"),
    ([np.ones(5), np.ones((5, 2))], {}, "columns"),
    (np.ones(50), {"spacing": 0}, "spacing = 0"),
    (np.ones(50), {"s_tau": -1.0}, "s_tau = -1.0"),
    (np.ones(50), {"function": lambda m: math.nan}, "function returned"),
    (np.ones(50), {"function": lambda m: m.repeat(2)}, "one finite number"),
    (np.ones(50), {"function": lambda m: m[0], "gradient": [1.0, 2.0]}, "gradient"),
    (np.ones(50), {"gradient": [1.0]}, "needs the function"),
])
def test_bad_input_is_named(series, options, message):
    with pytest.raises(InputError, match=message):
        estimate(series, **options)


@pytest.mark.parametrize("window", [-1, 50, 1.5])
def test_bad_windows_are_named(window):
    with pytest.raises(InputError, match="from 0 to 49"):
        covariance_of_means(np.ones(50), window)


def test_a_constant_series_says_that_its_error_is_unknown():
    e = estimate(np.full(100, 0.25))
    assert e.is_constant and e.error == 0 and str(e) == "0.25 constant: no error can be estimated, n=100"
    assert not estimate(ar1_series(100, 0.0, seed=1)).is_constant


def test_constant_observables_of_an_archive_are_flagged(tmp_path):
    from lft.analysis.summary import as_json, summarize
    from lft.archive import Archive
    from lft.cli import main

    text = ("seed = 1\n[lattice]\nshape = [4, 4]\n[action]\nname = 'ising'\nK = {}\n[update]\nname = 'metropolis'\n"
            "[run]\nstart = 'cold'\nthermalize = 0\nupdates = 40\nmeasure_every = 1\n")
    for K, is_flagged in ((5.0, True), (0.1, False)):
        (tmp_path / "run.toml").write_text(text.format(K))
        assert main(["run", str(tmp_path / "run.toml"), "-o", str(tmp_path / f"{K}.h5"), "--quiet"]) == 0
        with Archive(tmp_path / f"{K}.h5") as archive:
            estimates, notes = summarize(archive)
        flagged = [note for note in notes if note.startswith("constant over all measurements")]
        assert bool(flagged) == is_flagged and as_json(estimates)["m2"].get("constant", False) == is_flagged
        assert not is_flagged or "m2" in flagged[0]


@pytest.mark.parametrize("rho", [0.5, 0.995, -0.9])
def test_few_lags_by_blocks_are_those_of_the_whole_transform(rho):
    from lft.analysis.estimate import _choose_window, _gamma_and_window, autocovariance

    parts = [ar1_series(n, rho, seed=n) for n in (80_000, 100, 9001)]
    whole, _ = autocovariance(parts)
    gamma, weight, window = _gamma_and_window(parts, None, 89_101, 1.5)
    assert len(gamma) < len(whole) and gamma == pytest.approx(whole[: len(gamma)], abs=1e-12)
    assert window == _choose_window(whole / whole[0], 89_101, 1.5) and (weight == 1).all()
