"""Phenomenological RG against exact answers: independent, identical, heterogeneous and hierarchical units, the
critical Ising model; and the broken twins that these tests must reject."""

import math

import numpy as np
import pytest

from lft.actions import Ising
from lft.geometry import Lattice
from lft.protocols import State
from lft.rg.phenomenological.activity import correlation, covariance, cut_into_blocks
from lft.rg.phenomenological.clusters import (
    coarse_grain,
    crossing,
    find_clusters,
    members,
    random_pairs,
)
from lft.rg.phenomenological.momentum import momentum_space
from lft.rg.phenomenological.nulls import allowed_levels, exponents
from lft.rg.phenomenological.power_laws import fit_power_law, slope_weights
from lft.rng import Key
from lft.testing import assert_agrees, normality_p_value, z_score
from lft.testing.hierarchical import hierarchical_autocorrelation, hierarchical_covariances, hierarchical_gaussian
from lft.updaters import SwendsenWang, start

LEVELS, ALPHA, Z, TAU = 6, 1.6, 0.5, 1.0


def bernoulli(n_bins, p, seed):
    return (np.random.default_rng(seed).random((n_bins, len(p))) < p).astype(np.int8)


def tree(seed, n_bins=16000, tau=TAU):
    return hierarchical_gaussian(n_bins, LEVELS, ALPHA, seed, Z, tau)


def geometric(n, levels):
    """Pairs of neighboring places, level by level."""
    return [np.arange(n >> k).reshape(-1, 2) for k in range(levels)]


# ---- units that do not interact
def test_independent_units_have_alpha_and_beta_1():
    laws = exponents(coarse_grain(bernoulli(30000, np.full(64, 0.02), 1)), has_scan=False)
    assert_agrees(laws["alpha"], 1.0, relative_error_max=0.01)
    assert_agrees(laws["beta"], 1.0, relative_error_max=0.01)
    assert_agrees(laws["beta_typical"], 1.0, relative_error_max=0.01)
    assert laws["alpha"].p_value > 1e-4 and laws["beta"].p_value > 1e-4
    assert math.isnan(laws["z"].value) and laws["z"].notes  # no correlation time of a bin or more: said, not invented


def test_pairs_measured_where_they_were_found_look_correlated():
    """The mutant of the held-out measurement: the largest of many noisy correlations is taken at its word."""
    x = bernoulli(3000, np.full(128, 0.3), 2)
    honest = exponents(coarse_grain(x), has_scan=False)["alpha"]
    naive = exponents(coarse_grain(x, held_out=False), has_scan=False)["alpha"]
    assert_agrees(honest, 1.0, relative_error_max=0.03)
    assert z_score(naive, 1.0) > 4.5


def test_identical_units_have_alpha_2_and_beta_0():
    x = np.repeat(bernoulli(4000, np.full(1, 0.2), 3), 32, axis=1)
    laws = exponents(coarse_grain(x))
    assert laws["alpha"].value == pytest.approx(2, abs=1e-5)
    assert laws["beta"].value == pytest.approx(0, abs=1e-9)
    for name in ("alpha", "beta"):
        assert laws[name].error < 1e-5
        assert any("constant, not exact" in note for note in laws[name].notes) and "(constant)" in str(laws[name])
    assert math.isnan(laws["mu"].value)  # one eigenvalue is all there is: rounding errors make no spectrum


def test_heterogeneous_units_have_the_exact_variance_and_silence():
    p = np.geomspace(0.002, 0.3, 64)
    scaling = coarse_grain(bernoulli(40000, p, 4), pairs=geometric(64, 4))
    for k in range(5):
        q = (1 - p).reshape(-1, 2**k)
        for name, exact in (
            ("variance", (p * (1 - p)).reshape(-1, 2**k).sum(axis=1).mean()),
            ("silence", q.prod(axis=1).mean()),
            ("free_energy", -math.log(q.prod(axis=1).mean())),
            ("typical_free_energy", -np.log(q).sum(axis=1).mean()),
        ):
            curve = scaling.curves[name]
            assert_agrees((curve.value[k], curve.error[k]), exact, relative_error_max=0.03)
    laws = exponents(scaling, has_scan=False)
    assert_agrees(laws["beta_typical"], 1.0, relative_error_max=0.02)
    scale = 2.0 ** np.arange(5)
    exact = slope_weights(scale) @ np.log([-math.log((1 - p).reshape(-1, 2**k).prod(axis=1).mean()) for k in range(5)])
    assert_agrees(laws["beta"], exact, relative_error_max=0.02)
    assert z_score(laws["beta"], 1.0) < -4.5  # different rates alone bend the published F


def test_units_left_over_do_not_bend_the_laws():
    """100 units of different rates: 96 are in the 3 clusters of the last level, and alpha is 1 for them."""
    x = bernoulli(20000, np.random.default_rng(1).permutation(np.geomspace(0.005, 0.3, 100)), 10)
    scaling = coarse_grain(x)
    assert scaling.n_clusters == (96, 48, 24, 12, 6, 3)
    assert any(note.startswith("4 units are in no cluster") for note in scaling.notes)
    laws = exponents(scaling, has_scan=False)
    assert_agrees(laws["alpha"], 1.0, relative_error_max=0.01)
    assert_agrees(laws["beta_typical"], 1.0, relative_error_max=0.01)


# ---- a field with exact scaling
def test_pairing_finds_the_tree_and_its_exponents():
    scaling = coarse_grain(tree(5))
    for fold in scaling.pairs:
        for k, cluster in enumerate(members(fold, 2**LEVELS)):
            assert (cluster >> k == (cluster >> k)[:, :1]).all(), f"level {k}: a cluster is no block of the tree"
    laws = exponents(scaling, has_scan=False)
    assert_agrees(laws["alpha"], ALPHA, relative_error_max=0.02)
    assert laws["alpha"].p_value > 1e-4
    gls = (laws["alpha"].gls, laws["alpha"].gls_error)
    assert_agrees(gls, ALPHA, relative_error_max=0.02)
    for k in range(len(scaling.n_clusters)):
        rho = hierarchical_autocorrelation(k, LEVELS, ALPHA, Z, TAU, np.arange(200))
        curve = scaling.curves["correlation_time"]
        assert_agrees((curve.value[k], curve.error[k]), crossing(rho, 1 / math.e), relative_error_max=0.2)
    c = hierarchical_covariances(LEVELS, ALPHA)
    size = scaling.curves["eigenvalues"].scale.size
    distance = np.array([[(i ^ j).bit_length() for j in range(size)] for i in range(size)])
    spectrum = np.linalg.eigvalsh(c[distance])[::-1]
    curve = scaling.curves["eigenvalues"]
    assert_agrees((curve.value[0], curve.error[0]), spectrum[0], relative_error_max=0.05)
    used = allowed_levels("mu", curve)
    exact = slope_weights(curve.scale[used]) @ np.log(spectrum[used])
    assert laws["mu"].value == pytest.approx(exact, abs=0.03)  # ranks split degenerate eigenvalues: biased by O(1/T)


def test_random_pairs_do_not_find_the_exponent():
    """The mutant of the pairing: alike laws are measured, but not of the clusters that belong together."""
    law = exponents(coarse_grain(tree(5), pair=random_pairs(Key(1))), has_scan=False)["alpha"]
    assert z_score(law, ALPHA) < -4.5 and law.value < ALPHA - 0.05


def test_normalized_pairing_finds_the_same_tree():
    spikes = (tree(6) > 1).astype(np.int8)
    activity = cut_into_blocks(spikes)
    found = find_clusters(activity, range(20), normalize=True)
    for k, cluster in enumerate(members(found, 2**LEVELS)):
        assert (cluster >> k == (cluster >> k)[:, :1]).all()


def test_gaussian_sums_are_gaussian_and_independent_spikes_become_so():
    scaling = coarse_grain(tree(7))
    curve = scaling.curves["kurtosis"]
    for value, error in zip(curve.value, curve.error, strict=True):
        assert_agrees((value, error), 0.0, relative_error_max=0.1)
    p = 0.05
    scaling = coarse_grain(bernoulli(40000, np.full(64, p), 8), pairs=geometric(64, 5))
    for name, exact in (("kurtosis", (1 - 6 * p * (1 - p)) / (p * (1 - p))), ("skewness", (1 - 2 * p))):
        curve = scaling.curves[name]
        for k in range(6):
            wanted = exact / 2**k if name == "kurtosis" else exact / math.sqrt(2**k * p * (1 - p))
            assert_agrees((curve.value[k], curve.error[k]), wanted, relative_error_max=0.1)


def test_covariance_counts_and_multiplies_alike():
    x = bernoulli(2000, np.geomspace(0.01, 0.1, 12), 9)
    activity = cut_into_blocks(x)
    mean, c = covariance(activity, range(20))
    dense = bernoulli(2000, np.geomspace(0.3, 0.9, 12), 9)
    assert np.allclose(c, np.cov(x.T, ddof=0), atol=1e-7) and np.allclose(mean, x.mean(axis=0))
    assert np.allclose(covariance(cut_into_blocks(dense), range(20))[1], np.cov(dense.T, ddof=0), atol=1e-6)
    assert np.allclose(correlation(c), np.corrcoef(x.T), atol=1e-5)


def plane(size, n, eta, seed):
    """Gaussian field on a torus with spectrum k^(eta - 2), no zero mode; samples (n, size^2) and its covariance."""
    k = 2 - 2 * np.cos(2 * np.pi * np.fft.fftfreq(size))
    spectrum = np.zeros((size, size))
    spectrum.flat[1:] = ((k[:, None] + k).ravel()[1:]) ** (eta / 2 - 1)
    noise = np.fft.fft2(np.random.default_rng(seed).standard_normal((n, size, size)))
    x = np.fft.ifft2(noise * np.sqrt(spectrum)).real
    return x.reshape(n, -1), np.fft.ifft2(spectrum).real


def test_a_critical_gaussian_plane_has_the_exact_block_variances():
    """C(r) ~ r^-eta in the plane; the zero mode that a finite torus must lose bends the law, exactly as computed."""
    size = 32
    x, c = plane(size, 2000, 0.25, 12)
    scaling = coarse_grain(x, pairs=square_pairs(size, 6))
    curve, exact = scaling.curves["variance"], []
    for k in range(7):
        a, b = np.meshgrid(np.arange(2 ** ((k + 1) // 2)), np.arange(2 ** (k // 2)), indexing="ij")
        a, b = a.ravel(), b.ravel()
        exact.append(c[(a[:, None] - a) % size, (b[:, None] - b) % size].sum())
        assert_agrees((curve.value[k], curve.error[k]), exact[k], relative_error_max=0.05)
    law = fit_power_law(curve, has_scan=False)
    assert_agrees(law, slope_weights(curve.scale) @ np.log(exact), relative_error_max=0.01)


# ---- critical Ising model
def ising(size, n, seed, thermalize=100, between=2):
    action, lattice = Ising(K=math.log(1 + math.sqrt(2)) / 2, h=0.0), Lattice((size, size))
    phi, key = action.new_field(lattice), Key(seed)
    start(phi, "hot", key)
    state, updater, out = State(phi, 0), SwendsenWang(), np.empty((n, size, size), np.int8)
    for i in range(-thermalize, n * between):
        state, _ = updater.step(action, state, key)
        if i >= 0 and i % between == 0:
            out[i // between] = phi.values
    return out


def square_pairs(size, levels):
    """Pairs that make 2 x 1, 2 x 2, 4 x 2, ... blocks."""
    out, shape = [], [size, size]
    for k in range(levels):
        place = np.arange(shape[0] * shape[1]).reshape(shape)
        first, second = (place[::2], place[1::2]) if k % 2 == 0 else (place[:, ::2], place[:, 1::2])
        out.append(np.column_stack([first.ravel(), second.ravel()]))
        shape[k % 2] //= 2
    return out


def test_critical_ising_blocks_have_alpha_15_over_8():
    size = 64
    spins = (ising(size, 1000, 11).reshape(1000, -1) + 1) // 2
    scaling = coarse_grain(spins, pairs=square_pairs(size, 8))
    curve = scaling.curves["variance"]
    squares = np.isin(np.arange(9), (2, 4, 6))  # 2 x 2, 4 x 4, 8 x 8: one shape, far from 1 and from the lattice
    law = fit_power_law(curve, squares, has_scan=False)
    assert abs(law.value - 1.875) < 0.02 and law.error < 0.01
    assert z_score(law, 2.0) < -4.5 and z_score(law, 1.0) > 4.5


# ---- momentum space
def test_momentum_space_tells_noise_from_modes():
    noise = momentum_space(cut_into_blocks(np.random.default_rng(1).standard_normal((8000, 32))))
    assert noise.n_above_noise <= 2
    for value, error in zip(noise.kurtosis.value, noise.kurtosis.error, strict=True):
        assert_agrees((value, error), 0.0, relative_error_max=0.2)
    rng = np.random.default_rng(2)
    common = np.where(rng.random((8000, 1)) < 0.05, 4.0, 0.0)  # a rare common event: one mode, far from Gaussian
    planted = momentum_space(cut_into_blocks(rng.standard_normal((8000, 32)) + common))
    assert planted.n_above_noise == 1
    k = planted.kurtosis
    assert k.value[-1] > 5 and k.value[-1] > k.value[0] and k.value[-1] / k.error[-1] > 4.5


# ---- errors
@pytest.mark.validate
def test_error_bars_of_alpha_are_calibrated():
    laws = [exponents(coarse_grain(tree(100 + s, 4000)), has_scan=False)["alpha"] for s in range(200)]
    assert normality_p_value([z_score(law, ALPHA) for law in laws]) > 1e-3
    gls = [(law.gls - ALPHA) / law.gls_error for law in laws]
    assert normality_p_value(gls) > 1e-3
    p = np.array([law.p_value for law in laws])
    assert abs(np.count_nonzero(p < 0.05) - 10) < 4.5 * math.sqrt(200 * 0.05 * 0.95)
    mutant = [z_score((law.value, law.error / 2), ALPHA) for law in laws]
    assert normality_p_value(mutant) < 1e-3


@pytest.mark.validate
def test_error_bars_of_independent_units_are_calibrated():
    laws = [exponents(coarse_grain(bernoulli(4000, np.geomspace(0.02, 0.2, 64), 500 + s)), has_scan=False)
            for s in range(200)]
    for name in ("alpha", "beta_typical"):
        assert normality_p_value([z_score(law[name], 1.0) for law in laws]) > 1e-3
