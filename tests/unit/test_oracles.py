"""The oracles against hand-worked numbers and laws, and the tools that judge statistics."""

import itertools
import math

import numpy as np
import pytest

from lft.analysis import Estimate
from lft.errors import InputError
from lft.testing import (
    ar1_series,
    assert_agrees,
    ising_action,
    neural_action,
    normality_p_value,
    phi4_action,
    phi4_force,
    philox4x32,
    z_score,
)

# --- actions


def test_ising_bonds_counted_by_hand():
    spins = [[1, -1], [1, 1], [-1, 1]]
    along_0 = {(1, 0): 1.0}            # open: +1 -1 -1 +1 = 0; the wrap adds (-1)(+1) + (+1)(-1) = -2
    assert ising_action(spins, along_0, 0.0, periodic=False) == 0.0
    assert ising_action(spins, along_0, 0.0, periodic=True) == 2.0
    along_1 = {(0, 1): 1.0}            # pairs -1, +1, -1; extent 2 periodic counts each twice
    assert ising_action(spins, along_1, 0.0, periodic=False) == 1.0
    assert ising_action(spins, along_1, 0.0, periodic=(False, True)) == 2.0
    assert ising_action(spins, {}, 0.5, periodic=True) == -1.0


def test_ising_rules_at_the_edges():
    assert ising_action([[1], [1]], {(0, 1): 1.0}, 0.0, periodic=True) == 0.0              # own site
    assert ising_action([1, 1, 1], {(3,): 1.0}, 0.0, periodic=True) == 0.0                 # own site
    assert ising_action([1, 1, 1], {(1,): 1.0, (-1,): 1.0}, 0.0, periodic=True) == -6.0    # both count
    assert ising_action([1, 7, 1], {(1,): 1.0}, 1.0, True, mask=[True, False, True]) == -3.0


def test_ising_is_invariant_under_translation_and_flip():
    rng = np.random.default_rng(1)
    spins = rng.choice([-1, 1], size=(3, 4))
    couplings = {(1, 0): 0.3, (1, -1): -0.2, (0, 2): 0.7}
    S = ising_action(spins, couplings, 0.0, periodic=True)
    assert ising_action(np.roll(spins, (1, 2), (0, 1)), couplings, 0.0, True) == pytest.approx(S, abs=1e-12)
    assert ising_action(-spins, couplings, 0.0, True) == pytest.approx(S, abs=1e-12)


def test_narrow_integers_do_not_overflow():
    assert phi4_action(np.array([100, 100], dtype=np.int8), 0.5, 0.0, False) == 10_000.0


@pytest.mark.parametrize("periodic", [True, False, (False, True)])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3), (1, 4)])
def test_phi4_force_is_minus_the_derivative(shape, periodic):
    rng = np.random.default_rng(2)
    phi, lam, mask = rng.normal(size=shape), rng.random(shape), np.ones(shape, dtype=bool)
    mask[-1, 1] = False
    kappa = (0.2, 0.35)
    force = phi4_force(phi, kappa, lam, periodic, mask)
    assert force[-1, 1] == 0
    for x in np.ndindex(shape):
        def S(step, x=x):
            moved = phi.copy()
            moved[x] += step
            return phi4_action(moved, kappa, lam, periodic, mask)

        h = 1e-2                       # degree 4 in phi: the five-point rule is exact up to rounding
        slope = (8 * (S(h) - S(-h)) - (S(2 * h) - S(-2 * h))) / (12 * h)
        assert force[x] == pytest.approx(-slope, abs=1e-10)


def test_phi4_becomes_ising_on_unit_fields():
    # phi = +-1: S = -2 kappa sum s s' + V, the same bonds as the Ising action with K = 2 kappa.
    spins = np.random.default_rng(3).choice([-1, 1], size=(4, 3))
    ising = ising_action(spins, {(1, 0): 0.3, (0, 1): 0.5}, 0.0, periodic=(True, False))
    assert phi4_action(spins, (0.15, 0.25), 9.0, (True, False)) == pytest.approx(ising + 12, abs=1e-12)


def test_neural_action_is_the_ordered_double_sum():
    rng = np.random.default_rng(4)
    T, N = 4, 3
    A = rng.normal(size=(N, N))
    A = np.triu(A, 1) + np.triu(A, 1).T
    B, I = {1: 0.3, 2: -0.8, 7: 100.0}, rng.normal(size=(T, N))
    in_time = np.array([[B.get(abs(a - b), 0.0) for b in range(T)] for a in range(T)])
    for _ in range(5):
        phi = rng.integers(0, 2, size=(T, N))
        expected = np.sum(A * (phi.T @ phi)) + np.sum(in_time * (phi @ phi.T)) + np.sum(I * phi)
        assert neural_action(phi, A, B, I) == pytest.approx(expected, abs=1e-12)


def test_neural_action_on_periodic_time():
    phi, zero = [[1], [0], [1], [1]], [[0.0]]

    def action(B):
        return neural_action(phi, zero, B, [0.0], periodic_time=True)

    assert action({1: 1.0}) == 2 * 2.0          # pairs (2,3), (3,0)
    assert action({2: 1.0}) == 2 * 2.0          # pair (0,2) from both of its ends
    assert action({4: 1.0}) == 0.0              # a time with itself
    assert action({3: 1.0}) == action({1: 1.0})
    assert neural_action(phi, zero, {1: 1.0}, [0.0]) == 2.0


@pytest.mark.parametrize("call, message", [
    (lambda: ising_action([1, 0], {(1,): 1.0}, 0.0, True), "-1 or"),
    (lambda: ising_action([1, 1], {(0,): 1.0}, 0.0, True), "displacement"),
    (lambda: ising_action([1, 1], {(1, 0): 1.0}, 0.0, True), "displacement"),
    (lambda: ising_action([1, 1], {}, [1.0, 2.0, 3.0], True), "h has shape"),
    (lambda: ising_action([1, 1], {}, 0.0, (True, False)), "periodic has 2 values but the lattice has 1"),
    (lambda: ising_action([1, 1], {}, 0.0, True, mask=[True]), "mask has shape"),
    (lambda: phi4_action(1.0, 0.1, 0.1, True), "no axis"),
    (lambda: phi4_force(np.ones((2, 2)), [0.1] * 3, 0.1, True), "kappa has 3 values"),
    (lambda: neural_action([[2]], [[0]], {}, [0]), "0 and 1"),
    (lambda: neural_action([[1, 1]], [[0, 1], [2, 0]], {}, [0, 0]), "symmetric"),
    (lambda: neural_action([[1]], [[0]], {0: 1.0}, [0]), "lag 0"),
    (lambda: neural_action([[1]], [[0]], {}, [0, 0]), "I has shape"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


# --- philox

ONES = 0xFFFFFFFF


@pytest.mark.parametrize("counter, key, words", [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
])
def test_philox_known_answers(counter, key, words):
    assert philox4x32(counter, key) == words
    assert philox4x32(np.array(counter, dtype=np.uint32), np.array(key, dtype=np.uint32)) == words


def test_philox_is_a_bijection_of_the_counter():
    words = {philox4x32((i, j, 0, 0), (1, 2)) for i, j in itertools.product(range(40), range(40))}
    assert len(words) == 1600


@pytest.mark.parametrize("counter, key", [
    ((0, 0, 0), (0, 0)), ((0, 0, 0, 2**32), (0, 0)), ((0, 0, 0, 0), (0, -1))])
def test_philox_names_bad_words(counter, key):
    with pytest.raises(InputError, match="give 4 and 2 words"):
        philox4x32(counter, key)


# --- judging

def test_z_scores():
    e = Estimate(1.5, 0.25, 0.01, 0.5, 0.1, 1, 100)
    assert z_score(e, 1.0) == z_score((1.5, 0.25), 1.0) == 2.0
    assert z_score((1.0, 0.0), 1.0) == 0.0
    assert z_score((1.0, 0.0), 2.0) == -math.inf
    with pytest.raises(InputError, match="pair"):
        z_score(1.5, 1.0)


@pytest.mark.parametrize("pair, exact, options, message", [
    ((1.0, 0.1), 1.5, {}, "z = -5"),
    ((1.0, 0.1), 1.25, {"z_max": 2.0}, "limit 2"),
    ((1.0, math.nan), 1.0, {}, "z = nan"),
    ((math.nan, 1.0), 1.0, {}, "z = nan"),
    ((1.0, math.inf), 1.0, {"relative_error_max": 0.1}, "tests nothing"),
    ((1.0, 0.3), 1.0, {"relative_error_max": 0.1}, "exceeds 0.1"),
    ((0.0, 0.3), 0.0, {"relative_error_max": 0.1}, "exceeds 0.1"),
    ((1.0, 0.0), 1.0 + 1e-15, {}, "inf"),
])
def test_disagreement_is_raised(pair, exact, options, message):
    with pytest.raises(AssertionError, match=message):
        assert_agrees(pair, exact, **options)


def test_agreement_passes():
    assert_agrees((1.0, 0.1), 1.44)
    assert_agrees((-2.0, 0.01), -2.01, relative_error_max=0.01)


@pytest.mark.parametrize("rho", [-0.6, 0.0, 0.9])
def test_ar1_has_its_promised_moments(rho):
    # Across 20 000 independent series: unit variance at every time, from the start; lag t gives rho^t.
    x = ar1_series(6, rho, seed=5, shape=(20_000,))
    error = 1 / math.sqrt(20_000)
    assert x.shape == (6, 20_000)
    assert abs(x.mean(axis=1)).max() < 4.5 * error
    assert abs((x**2).mean(axis=1) - 1).max() < 4.5 * math.sqrt(2) * error
    for t in range(1, 6):
        assert abs((x[0] * x[t]).mean() - rho**t) < 4.5 * math.sqrt(1 + rho**(2 * t)) * error
    assert np.array_equal(ar1_series(6, rho, seed=5), ar1_series(6, rho, seed=5))


@pytest.mark.parametrize("arguments", [(0, 0.5, 1), (10, 1.0, 1), (10, math.nan, 1), (10, 0.5, -1)])
def test_ar1_names_bad_input(arguments):
    with pytest.raises(InputError, match="give a"):
        ar1_series(*arguments)


def test_normality_rejects_what_is_not_normal():
    z = ar1_series(400, 0.0, seed=6)
    assert normality_p_value(z) > 0.01
    for mutant in (1.6 * z, 0.5 * z, z + 0.4, abs(z)):
        assert normality_p_value(mutant) < 1e-4
    for bad in (z[:10], np.append(z, np.nan)):
        with pytest.raises(InputError, match="z-scores"):
            normality_p_value(bad)
