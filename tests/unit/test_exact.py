"""The exact solutions against each other, against brute force, and against published or derived numbers."""

import itertools
import math

import numpy as np
import pytest

from lft.errors import InputError
from lft.testing import (
    decimate_chain,
    enumerate_lattice,
    enumerate_neural,
    enumerate_states,
    free_field,
    ising_action,
    ising_chain,
    kaufman_bonds,
    kaufman_log_z,
    neural_action,
    phi4_action,
    single_site_phi4,
)

K_CRITICAL = math.log(1 + math.sqrt(2)) / 2
COUPLINGS = [(0.3, 0.3), (0.0, 0.0), (0.4, 0.0), (0.0, -0.7), (K_CRITICAL, K_CRITICAL), (0.9, 0.2),
             (0.2, 1.3), (-0.4, 0.3), (0.5, -0.8), (-0.3, -0.6), (1.5, 2.0), (-1.5, 2.0), (1e-9, -1e-9),
             (1e-6, 9.0), (math.asinh(1 / math.sinh(0.6)) / 2, 0.3)]
SHAPES = [(1, 1), (1, 4), (3, 1), (2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 3)]


def brute_force(states, action):
    """ln Z and probabilities from one action at a time."""
    log_w = np.array([-action(state) for state in states])
    log_z = np.logaddexp.reduce(log_w)
    return log_z, np.exp(log_w - log_z)


# --- torus

@pytest.mark.parametrize("K", COUPLINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_kaufman_is_the_sum_over_states(shape, K):
    exact = enumerate_lattice(shape, {(1, 0): K[0], (0, 1): K[1]})
    assert kaufman_log_z(*shape, *K) == pytest.approx(exact.log_z, abs=1e-12)
    bonds = kaufman_bonds(*shape, *K)
    assert bonds == pytest.approx((exact.bonds[1, 0], exact.bonds[0, 1]), abs=1e-12)


@pytest.mark.parametrize("K", [(K_CRITICAL, K_CRITICAL), (0.8, -0.3)])
def test_kaufman_on_16_sites(K):
    exact = enumerate_lattice((4, 4), {(1, 0): K[0], (0, 1): K[1]})
    assert kaufman_log_z(4, 4, *K) == pytest.approx(exact.log_z, abs=1e-12)
    assert kaufman_bonds(4, 4, *K) == pytest.approx((exact.bonds[1, 0], exact.bonds[0, 1]), abs=1e-12)


def test_kaufman_critical_4x4_reference():
    assert kaufman_log_z(4, 4, K_CRITICAL, K_CRITICAL) == pytest.approx(15.5219154588, abs=1e-10)
    assert sum(kaufman_bonds(4, 4, K_CRITICAL, K_CRITICAL)) == pytest.approx(1.5656237876, abs=1e-10)


@pytest.mark.parametrize("shape", [(8, 8), (7, 16), (33, 64), (101, 3)])
@pytest.mark.parametrize("K", [
    (0.2, 0.3), (0.44, 0.44), (-0.5, 0.35), (0.35, -0.5), (1.1, 0.05), (0.02, 0.9)])
def test_kaufman_bonds_are_the_derivative_of_log_z(shape, K):
    for axis in (0, 1):
        def log_z(step, axis=axis):
            moved = list(K)
            moved[axis] += step
            return kaufman_log_z(*shape, *moved)

        d = 2e-3                                        # Richardson: error of order d^6, rounding 1e-16 N/d
        first, second, third = ((log_z(h) - log_z(-h)) / (2 * h) for h in (d, d / 2, d / 4))
        a, b = (4 * second - first) / 3, (4 * third - second) / 3
        derivative = (16 * b - a) / 15 / (shape[0] * shape[1])
        assert kaufman_bonds(*shape, *K)[axis] == pytest.approx(derivative, abs=2e-10)


def test_kaufman_is_symmetric_in_the_axes_and_in_the_sign_on_even_axes():
    # Different paths through the formula: transfer along x or along y.
    for shape, K in itertools.product([(6, 10), (5, 8), (64, 3)], [(0.3, 0.5), (0.7, 0.2), (1.0, 1.1)]):
        u_x, u_y = kaufman_bonds(*shape, *K)
        assert kaufman_bonds(*shape[::-1], *K[::-1]) == pytest.approx((u_y, u_x), abs=1e-13)
        if shape[0] % 2 == 0:
            assert kaufman_log_z(*shape, -K[0], K[1]) == pytest.approx(kaufman_log_z(*shape, *K), rel=1e-14)
            assert kaufman_bonds(*shape, -K[0], K[1]) == pytest.approx((-u_x, u_y), abs=1e-13)


def test_kaufman_large_lattices_reach_the_infinite_one():
    # Free energy by Onsager's integral, energy sqrt(2)/2 per bond at the critical point up to 1/L.
    def onsager(K):
        k = 2 * math.sinh(2 * K) / math.cosh(2 * K)**2
        angle = (np.arange(20_000) + 0.5) * np.pi / 20_000
        mean_log = np.log((1 + np.sqrt(1 - k**2 * np.sin(angle)**2)) / 2).mean()
        return math.log(2 * math.cosh(2 * K)) + mean_log / 2

    for K in (0.2, 0.6, 3.0):
        expected = onsager(K) + (math.log(2) / 2048**2 if K > K_CRITICAL else 0)
        assert kaufman_log_z(2048, 2048, K, K) / 2048**2 == pytest.approx(expected, rel=1e-12)
    for u in kaufman_bonds(2048, 2048, K_CRITICAL, K_CRITICAL):
        assert 0 < u - math.sqrt(0.5) < 1 / 2048


@pytest.mark.parametrize("K", [
    (150, 150), (1e-99, 1e-99), (150, 1e-9), (1e-99, 150), (-150, 150), (1.0, -1e-90)])
@pytest.mark.parametrize("shape", [(2, 2), (3, 2048), (2047, 4), (2048, 2047)])
def test_kaufman_extreme_couplings_stay_in_range(shape, K):
    bonds = kaufman_bonds(*shape, *K)
    assert math.isfinite(kaufman_log_z(*shape, *K))
    assert max(map(abs, bonds)) <= 1 + 1e-10


def test_kaufman_single_domain_wall():
    # One odd antiferromagnetic axis, strong couplings: every row breaks one bond, all aligned.
    L, K = 301, 20.0
    broken = (L - 2) / L
    u_x, u_y = kaufman_bonds(L, 200, -K, K)
    assert (u_x, u_y) == pytest.approx((-broken, 1.0), abs=1e-9)
    assert kaufman_log_z(L, 200, -K, K) == pytest.approx(200 * K * (L - 2 + L) + math.log(2 * L), rel=1e-13)


def test_kaufman_says_when_digits_are_lost():
    exact = enumerate_lattice((3, 3), {(1, 0): -1.2, (0, 1): -1.0})
    assert kaufman_log_z(3, 3, -1.2, -1.0) == pytest.approx(exact.log_z, abs=1e-10)
    with pytest.raises(InputError, match="use weaker couplings"):
        kaufman_log_z(21, 21, -1.5, -1.5)


@pytest.mark.parametrize("arguments", [
    (0, 4, 1, 1), (4, 2049, 1, 1), (4.0, 4, 1, 1), (4, 4, math.nan, 1), (4, 4, 1, 151)])
def test_kaufman_names_bad_input(arguments):
    with pytest.raises(InputError, match="give a"):
        kaufman_log_z(*arguments)


# --- enumeration

def test_states_are_all_different():
    for kind, values in (("spin", {-1, 1}), ("gas", {0, 1})):
        states = enumerate_states(10, kind)
        assert states.shape == (1024, 10) and set(states.ravel().tolist()) == values
        assert len(np.unique(states, axis=0)) == 1024
    for arguments in ((0,), (21,), (3, "potts")):
        with pytest.raises(InputError):
            enumerate_states(*arguments)


@pytest.mark.parametrize("periodic", [True, False, (True, False)])
@pytest.mark.parametrize("shape, masked", [((3, 3), None), ((2, 4), (1, 2)), ((1, 5), (0, 0))])
def test_lattice_moments_match_the_oracle(shape, masked, periodic):
    rng = np.random.default_rng(1)
    h = rng.normal(size=shape)
    mask = np.ones(shape, dtype=bool)
    if masked:
        mask[masked] = False
    couplings = {(1, 0): 0.3, (0, 1): -0.5, (1, 1): 0.2, (-1, 2): 0.1}
    exact = enumerate_lattice(shape, couplings, h, periodic, mask)
    states = np.ones((2**int(mask.sum()), *shape), dtype=int)
    states[:, mask] = enumerate_states(int(mask.sum()))
    log_z, p = brute_force(states, lambda s: ising_action(s, couplings, h, periodic, mask))
    assert exact.log_z == pytest.approx(log_z, abs=1e-12)
    assert exact.mean_field == pytest.approx(np.einsum("s,s...->...", p, states) * mask, abs=1e-12)
    m = states[:, mask].mean(axis=1)
    for name, values in (("m", m), ("abs_m", abs(m)), ("m2", m**2), ("m4", m**4)):
        assert getattr(exact, name) == pytest.approx(p @ values, abs=1e-12)
    for d in couplings:
        bond_sum = -(p @ [ising_action(s, {d: 1.0}, 0.0, periodic, mask) for s in states])
        assert exact.bonds[d] * exact.n_bonds[d] == pytest.approx(bond_sum, abs=1e-12)


def test_number_of_bonds_follows_the_rules():
    def n_bonds(shape, d, periodic, mask=None):
        return enumerate_lattice(shape, {d: 0.1}, periodic=periodic, mask=mask).n_bonds[d]

    assert n_bonds((4,), (1,), True) == 4 and n_bonds((4,), (1,), False) == 3
    assert n_bonds((2,), (1,), True) == 2 and n_bonds((2,), (1,), False) == 1
    assert n_bonds((1,), (1,), True) == 0 and n_bonds((4,), (4,), True) == 0
    assert n_bonds((4,), (-3,), False) == 1
    assert n_bonds((3, 3), (1, 1), (True, False)) == 6
    assert n_bonds((3,), (1,), True, [True, True, False]) == 1


def test_enumeration_of_twenty_sites_is_possible_and_more_is_refused():
    assert enumerate_lattice((20,), {(1,): 0.4}, 0.1).log_z == pytest.approx(ising_chain(20, 0.4, 0.1).log_z)
    with pytest.raises(InputError, match="1 to 20 sites"):
        enumerate_lattice((3, 7), {(1, 0): 0.4})
    with pytest.raises(InputError, match="displacement"):
        enumerate_lattice((3, 3), {(0, 0): 0.4})
    with pytest.raises(InputError, match="periodic has shape"):
        enumerate_lattice((3, 3), {(1, 0): 0.4}, periodic=(True,) * 3)
    with pytest.raises(InputError, match="mask has shape"):
        enumerate_lattice((3, 3), {(1, 0): 0.4}, h=np.ones(3))


def test_without_couplings_the_sites_are_independent():
    exact = enumerate_lattice((2, 3), {}, 0.7)
    assert exact.log_z == pytest.approx(6 * math.log(2 * math.cosh(0.7)), abs=1e-12)
    assert exact.mean_field == pytest.approx(np.full((2, 3), math.tanh(0.7)), abs=1e-12)


def test_neural_reference_values():
    exact = enumerate_neural([[0, -0.3], [-0.3, 0]], {1: -0.25}, [0.5, 0.5], T=3)
    assert exact.log_z == pytest.approx(3.7040818736814, abs=1e-12)
    assert exact.action == pytest.approx(0.3521727118157, abs=1e-12)
    assert exact.log_z + exact.action == pytest.approx(4.0562545854972, abs=1e-12)
    expected = np.repeat([[0.5268429003], [0.5895402444], [0.5268429003]], 2, axis=1)
    assert exact.phi == pytest.approx(expected, abs=1e-10)
    assert exact.Phi[0, 1] == pytest.approx(0.3380221924, abs=1e-10)
    assert [exact.Pi[0, 1], exact.Pi[1, 2], exact.Pi[0, 2]] == pytest.approx(
        [0.3413066935, 0.3413066935, 0.2815394914], abs=1e-10)


@pytest.mark.parametrize("periodic_time", [False, True])
@pytest.mark.parametrize("T", [1, 2, 3])
def test_neural_moments_match_the_oracle(T, periodic_time):
    rng = np.random.default_rng(2)
    A = rng.normal(size=(3, 3))
    A = np.triu(A, 1) + np.triu(A, 1).T
    B, I = {1: 0.4, 2: -0.7, 3: 0.2}, rng.normal(size=(T, 3))
    exact = enumerate_neural(A, B, I, T, periodic_time)
    states = enumerate_states(3 * T, "gas").reshape(-1, T, 3)
    action = [neural_action(s, A, B, I, periodic_time) for s in states]
    log_z, p = brute_force(states, lambda s: neural_action(s, A, B, I, periodic_time))
    assert exact.log_z == pytest.approx(log_z, abs=1e-12)
    assert exact.action == pytest.approx(p @ action, abs=1e-12)
    assert exact.phi == pytest.approx(np.einsum("s,sai->ai", p, states), abs=1e-12)
    assert exact.Phi == pytest.approx(np.einsum("s,sai,saj->ij", p, states, states) / T, abs=1e-12)
    assert exact.Pi == pytest.approx(np.einsum("s,sai,sbi->ab", p, states, states) / 3, abs=1e-12)


def test_gas_and_spin_are_the_same_model():
    # phi = (1 + s)/2: A_s = A/4, B_s = B/4, H = I/2 + (row sums)/2, constant T sum A/4 + N sum B/4 + sum I/2.
    A, B, I, T = -0.3, -0.25, np.array([[0.5, 0.1], [0.2, 0.3], [-0.4, 0.0]]), 3
    gas = enumerate_neural([[0, A], [A, 0]], {1: B}, I, T)
    n_neighbors = np.array([[1], [2], [1]])
    H = I / 2 + A / 2 + B / 2 * n_neighbors
    spin = enumerate_lattice((3, 2), {(0, 1): -2 * A / 4, (1, 0): -2 * B / 4}, -H, periodic=False)
    constant = T * 2 * A / 4 + 2 * 4 * B / 4 + I.sum() / 2
    assert gas.log_z == pytest.approx(spin.log_z - constant, abs=1e-12)
    assert gas.phi == pytest.approx((1 + spin.mean_field) / 2, abs=1e-12)


@pytest.mark.parametrize("A, B, I, T", [
    ([[0, 1], [2, 0]], {}, [0, 0], 2), ([[1, 0], [0, 0]], {}, [0, 0], 2),
    (np.zeros((2, 2)), {0: 1.0}, [0, 0], 2),
    (np.zeros((2, 2)), {}, [0, 0, 0], 2), (np.zeros((2, 2)), {}, [0, 0], 11)])
def test_neural_names_bad_input(A, B, I, T):
    with pytest.raises(InputError):
        enumerate_neural(A, B, I, T)


# --- chain

@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("K, h", [
    (0.6, 0.0), (0.6, -0.4), (-0.8, 0.3), (0.0, 0.5), (3.0, 0.01), (0.0, 0.0), (-2.0, 0.0)])
@pytest.mark.parametrize("L", [1, 2, 3, 8])
def test_chain_is_the_sum_over_states(L, K, h, periodic):
    chain = ising_chain(L, K, h, periodic)
    exact = enumerate_lattice((L,), {(1,): K}, h, periodic)
    assert chain.log_z == pytest.approx(exact.log_z, abs=1e-12)
    assert chain.magnetization == pytest.approx(exact.m, abs=1e-12)
    assert chain.bond == pytest.approx(exact.bonds[1,], abs=1e-12)
    assert chain.two_point[0] == pytest.approx(1.0, abs=1e-12)
    states = enumerate_states(L)
    _, p = brute_force(states, lambda s: ising_action(s, {(1,): K}, h, periodic))
    for r in range(1, L):
        pairs = [(x, (x + r) % L) for x in range(L if periodic else L - r)]
        expected = np.mean([p @ (states[:, x] * states[:, y]) for x, y in pairs])
        assert chain.two_point[r] == pytest.approx(expected, abs=1e-12)


def test_long_and_strong_chains_stay_finite():
    chain = ising_chain(100_000, 200.0, 1.0)
    assert chain.log_z == pytest.approx(100_000 * 201.0) and chain.magnetization == pytest.approx(1.0)
    assert ising_chain(500, -0.5).two_point[7] == pytest.approx(-math.tanh(0.5)**7, rel=1e-12)


def test_decimation_reference_values():
    K, h = decimate_chain(0.6, -0.4, 3)
    assert (K, h) == pytest.approx((0.1150571437, -0.9391464865), abs=1e-10)
    K, h = decimate_chain(0.6, 0.0, 3)
    assert (K, h) == pytest.approx((0.1561540027, 0.0), abs=1e-10)


@pytest.mark.parametrize("K, h, b", [
    (0.6, -0.4, 3), (1.5, 0.1, 4), (-0.7, 0.2, 3), (-0.7, -0.2, 2), (0.3, 2.0, 2)])
def test_decimation_keeps_the_correlations_of_the_kept_spins(K, h, b):
    fine, coarse = ising_chain(6 * b, K, h), ising_chain(6, *decimate_chain(K, h, b))
    assert coarse.magnetization == pytest.approx(fine.magnetization, abs=1e-12)
    assert coarse.two_point == pytest.approx(fine.two_point[::b], abs=1e-12)


def test_decimation_composes():
    twice = decimate_chain(*decimate_chain(0.9, 0.3, 2), 3)
    assert decimate_chain(0.9, 0.3, 6) == pytest.approx(twice, abs=1e-13)
    assert decimate_chain(0.9, 0.3, 1) == pytest.approx((0.9, 0.3), abs=1e-14)
    assert decimate_chain(0.2, 0.0, 30)[0] == pytest.approx(math.tanh(0.2)**30, rel=1e-12)
    assert decimate_chain(30.0, 0.0, 2)[0] == pytest.approx(30 - math.log(2) / 2, rel=1e-13)
    assert decimate_chain(-30.0, 0.0, 3)[0] == pytest.approx(-30 + math.log(3) / 2, rel=1e-13)


@pytest.mark.parametrize("call", [lambda: ising_chain(0, 1.0), lambda: ising_chain(4, math.inf),
                                  lambda: decimate_chain(1.0, 0.0, 0), lambda: decimate_chain(90.0, 20.0, 2)])
def test_chain_names_bad_input(call):
    with pytest.raises(InputError, match="K = "):
        call()


# --- free field

@pytest.mark.parametrize("shape, periodic", [
    ((5,), True), ((5,), False), ((2, 3), True), ((2, 3), False), ((4, 3), (True, False)), ((1, 4), True),
    ((2, 2, 3), (False, True, True))])
def test_free_field_is_the_inverse_of_its_action(shape, periodic):
    kappa = np.array([0.2, 0.15, -0.1])[:len(shape)]
    V = int(np.prod(shape))
    unit = np.eye(V).reshape(V, *shape)

    def S(phi):
        return phi4_action(phi, kappa, 0.0, periodic)

    matrix = np.array([[S(unit[i] + unit[j]) - S(unit[i]) - S(unit[j]) for j in range(V)] for i in range(V)])
    covariance = np.linalg.inv(matrix)
    free = free_field(shape, kappa, periodic)
    assert free.phi2_x == pytest.approx(np.diag(covariance).reshape(shape), abs=1e-12)
    assert free.phi2 == pytest.approx(np.diag(covariance).mean(), abs=1e-12)
    log_z = V / 2 * math.log(2 * math.pi) - np.linalg.slogdet(matrix)[1] / 2
    assert free.log_z == pytest.approx(log_z, abs=1e-12)
    waves = np.array([np.fft.fftn(u).ravel() for u in unit]).T
    power = np.einsum("px,xy,py->p", waves, covariance, waves.conj()).real / V
    assert free.propagator_p == pytest.approx(power.reshape(shape), abs=1e-12)
    # <S> = V/2 by equipartition, and S contains every bond that exists.
    n_bonds = [V if is_periodic and L > 1 else V // L * (L - 1) if not is_periodic else 0
               for L, is_periodic in zip(shape, np.broadcast_to(periodic, len(shape)), strict=True)]
    action = V * free.phi2 - 2 * sum(k * n * u for k, n, u in zip(kappa, n_bonds, free.bonds, strict=True))
    assert action == pytest.approx(V / 2, abs=1e-12)


def test_free_field_must_be_positive_definite():
    free_field((4, 4), 0.2499)
    free_field((4,), 0.55, periodic=False)                  # an open chain of 4 tolerates more than 1/2
    for kappa, periodic in ((0.25, True), (-0.25, True), (0.4, False)):
        with pytest.raises(InputError, match="positive definite"):
            free_field((4, 4), kappa, periodic)
    for arguments in (((4, 4), [0.1, 0.1, 0.1]), ((0, 4), 0.1), ((64, 64), 0.1, False), ((4,), math.nan)):
        with pytest.raises(InputError):
            free_field(*arguments)


@pytest.mark.parametrize("lam", [0.0, 0.1, 1.0, 30.0, 1e4, 1e8])
def test_single_site_obeys_schwinger_dyson(lam):
    # <phi dS/dphi> = 1, <phi^3 dS/dphi> = 3 <phi^2>; lam = 0 is a Gaussian, large lam an Ising spin.
    site = single_site_phi4(lam)
    rounding = 1e-13 * (1 + 100 * lam)          # the terms are of order lam and cancel
    first = (2 - 4 * lam) * site["phi2"] + 4 * lam * site["phi4"]
    third = (2 - 4 * lam) * site["phi4"] + 4 * lam * site["phi6"]
    assert (first, third) == pytest.approx((1, 3 * site["phi2"]), abs=rounding)
    if lam == 0:
        gaussian = (0.5, 0.75, math.log(math.pi) / 2)
        assert (site["phi2"], site["phi4"], site["log_z"]) == pytest.approx(gaussian, abs=1e-13)
    if lam == 1e8:
        assert (site["phi2"], site["phi4"]) == pytest.approx((1, 1), abs=1e-7)


def test_single_site_quadrature_against_another_one():
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x, w = 5 * nodes, 5 * weights
    for lam in (0.0, 0.3, 5.0):
        w_lam = w * np.exp(-x**2 - lam * (x**2 - 1)**2)
        site = single_site_phi4(lam)
        expected = math.log(w_lam.sum()), w_lam @ x**2 / w_lam.sum()
        assert (site["log_z"], site["phi2"]) == pytest.approx(expected, abs=1e-9 if lam == 0 else 1e-13)
    with pytest.raises(InputError):
        single_site_phi4(-0.1)
