"""Exact one-dimensional maps: against transfer matrices, enumeration and each other."""

import itertools
import math

import numpy as np
import pytest

from lft.errors import InputError
from lft.rg.chains import (
    chain_couplings,
    chain_moments,
    coupling_at_persistence,
    field_at_probability,
    hard_rod_activity,
    hard_rod_density,
    undecimate_chain,
    undecimation_error,
)
from lft.testing.exact import decimate_chain, ising_chain

COUPLINGS = [(0.6, -0.4), (0.05, 1.5), (-0.3, 0.2), (1.4, 0.01), (-0.9, -0.6), (0.2, 0.0)]


@pytest.mark.parametrize(("K", "h"), COUPLINGS)
def test_moments_are_those_of_a_long_ring(K, h):
    ring, ours = ising_chain(600, K, h), chain_moments(K, h)
    variance = 1 - ring.magnetization**2
    connected = ring.two_point - ring.magnetization**2
    assert ours.magnetization == pytest.approx(ring.magnetization, abs=1e-12)
    assert ours.correlation == pytest.approx(connected[1] / variance, abs=1e-12)
    assert ours.susceptibility == pytest.approx(connected.sum(), rel=1e-9)
    assert abs(connected[5] / variance) == pytest.approx(math.exp(-5 / ours.persistence), rel=1e-7)


def test_moments_keep_their_digits_where_sites_are_almost_always_alike():
    ours = chain_moments(5.0, -30.0)
    assert ours.probability == pytest.approx(math.exp(-4 * 5.0 - 2 * 30.0), rel=1e-6)  # one spike: two bonds, one field
    assert 0 < ours.susceptibility < 1e-30


@pytest.mark.parametrize(("K", "h"), COUPLINGS)
def test_couplings_of_rate_and_correlation_are_the_inverse_of_moments(K, h):
    moments = chain_moments(K, h)
    assert chain_couplings(moments.probability, moments.correlation) == pytest.approx((K, h), abs=1e-12)
    assert field_at_probability(moments.probability, K) == pytest.approx(h, abs=1e-12)
    if h == 0:
        assert coupling_at_persistence(moments.persistence) == pytest.approx(K, abs=1e-12)


@pytest.mark.parametrize("b", [2, 3, 4])
@pytest.mark.parametrize(("K", "h"), COUPLINGS)
def test_a_decimated_chain_has_the_fine_chain_among_its_roots(K, h, b):
    coarse = decimate_chain(K, h, b)
    roots = undecimate_chain(*coarse, b)
    assert any(np.allclose(root, (K, h), atol=1e-7) for root in roots.solutions)
    for root in roots.solutions:  # and the others give the same coarse chain
        assert decimate_chain(*root, b) == pytest.approx(coarse, abs=1e-10)


def test_reference_value_of_the_theory_page():
    assert undecimate_chain(0.1150571437, -0.9391464864, 3).solutions[0] == pytest.approx((0.6, -0.4), abs=1e-8)


@pytest.mark.parametrize(
    ("K", "h", "b", "n", "words"),
    [
        (-0.2, 0.1, 2, 0, "alternates"),  # a square has no negative eigenvalue
        (-0.2, 0.1, 4, 0, "alternates"),
        (-0.2, 0.1, 3, 1, "one chain"),
        (0.2, 0.0, 2, 2, "two chains"),  # the sign of K is invisible
        (0.2, 0.0, 3, 1, "one chain"),
        (0.2, 3.0, 2, 1, "one chain"),  # at this density no chain alternates that much
        (-0.001, 2.0, 3, 0, "density"),
        (0.0, 0.7, 3, 1, "no correlation"),
    ],
)
def test_domain_of_the_inverse(K, h, b, n, words):
    roots = undecimate_chain(K, h, b)
    assert len(roots.solutions) == n
    assert words in roots.verdict


def test_errors_of_an_undecimated_chain():
    """Linear propagation against a cloud of coarse couplings; the cloud of b = 1 errors would be far too narrow."""
    rng, C = np.random.default_rng(3), np.array([[4e-6, 1e-6], [1e-6, 9e-6]])
    coarse = np.array(decimate_chain(0.7, -0.3, 3))
    cloud = np.array(
        [undecimate_chain(*(coarse + d), 3).solutions[0] for d in rng.multivariate_normal([0, 0], C, 4000)]
    )
    predicted = undecimation_error(*coarse, 3, C)
    np.testing.assert_allclose(np.cov(cloud.T), predicted, rtol=0.12)
    assert not np.allclose(np.cov(cloud.T), C, rtol=0.5)
    assert np.isinf(undecimation_error(0.0, 0.3, 2, C)).all()


def rods_on_a_ring(L, R):
    """Number of ways to put n spikes on a ring of L bins with more than R bins between any two: exact."""
    return [1] + [L * math.comb(L - R * n - 1, n - 1) // n for n in range(1, L // (R + 1) + 1)]


def test_counting_rods_is_right():
    for R in (1, 2, 3):
        counts = [0] * 13
        for spikes in itertools.product((0, 1), repeat=12):
            where = [i for i, s in enumerate(spikes) if s]
            gaps = [(b - a) % 12 or 12 for a, b in zip(where, where[1:] + where[:1], strict=True)]
            if all(g > R for g in gaps):
                counts[len(where)] += 1
        assert counts[: 12 // (R + 1) + 1] == rods_on_a_ring(12, R)


@pytest.mark.parametrize("R", [0, 1, 3, 6])
@pytest.mark.parametrize("z", [0.01, 0.2, 3.0])
def test_hard_rods_have_the_density_of_a_long_ring(R, z):
    ways = rods_on_a_ring(1200, R)
    logs = np.array([math.log(w) + n * math.log(z) for n, w in enumerate(ways)])
    weights = np.exp(logs - logs.max())
    density = (weights @ np.arange(len(ways))) / weights.sum() / 1200
    assert hard_rod_density(z, R) == pytest.approx(density, rel=1e-9)
    assert hard_rod_activity(density, R) == pytest.approx(z, rel=1e-7)
    if R:  # the relation without a refractory time is a different one
        assert abs(density - z / (1 + z)) > 1e-4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: chain_moments(math.nan, 0), "K"),
        (lambda: chain_couplings(0.0, 0.1), "probability"),
        (lambda: chain_couplings(0.1, -0.2), "correlation"),
        (lambda: chain_couplings(0.1, 1.0), "correlation"),
        (lambda: undecimate_chain(0.2, 0.1, 0), "b"),
        (lambda: undecimate_chain(0.2, 0.1, 2.0), "b"),
        (lambda: undecimation_error(-0.2, 0.1, 2, np.eye(2)), "alternates"),
        (lambda: hard_rod_activity(0.25, 3), "density"),
        (lambda: hard_rod_density(-1.0, 3), "activity"),
        (lambda: hard_rod_density(0.2, -1), "refractory"),
        (lambda: coupling_at_persistence(0.0), "persistence"),
        (lambda: field_at_probability(1.0, 0.1), "probability"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
