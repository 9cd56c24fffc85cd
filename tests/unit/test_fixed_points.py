"""Fixed points: closed forms, the averaged free field, and the sampled map against them."""

import itertools
import math

import numpy as np
import pytest

from lft.errors import DivergenceError, InputError
from lft.field import Field
from lft.geometry import Lattice
from lft.rg.blocking import block
from lft.rg.monte_carlo.fixed_points import (
    Mapped,
    decimation_map,
    exact_map,
    fixed_point,
    flow_field,
    migdal_kadanoff_map,
    sampled_map,
    trajectory,
)
from lft.rg.monte_carlo.operators import operator_set, parse_operator
from lft.testing import assert_agrees, decimate_chain


@pytest.mark.parametrize("b", [2, 3, 4])
def test_decimation_of_chains(b):
    K, h = 0.6, -0.4
    np.testing.assert_allclose(decimation_map(b)([K, h]).couplings, decimate_chain(K, h, b), rtol=1e-12)
    flow = decimation_map(b)([K])
    t = math.tanh(K)
    assert flow.couplings[0] == pytest.approx(math.atanh(t**b), rel=1e-14)
    assert flow.derivative[0, 0] == pytest.approx(b * t ** (b - 1) * (1 - t**2) / (1 - t ** (2 * b)), rel=1e-8)
    assert decimation_map(b)([30.0, 2.0]).couplings[0] == pytest.approx(decimate_chain(30.0, 2.0, b)[0], rel=1e-9)


def test_two_steps_of_decimation_are_one_of_their_product():
    points, covariances = trajectory(decimation_map(2), [0.6, -0.4], 2)
    np.testing.assert_allclose(points[2], decimation_map(4)([0.6, -0.4]).couplings, rtol=1e-10)
    assert not covariances.any()


@pytest.mark.parametrize(("d", "b"), [(2, 2), (2, 3), (3, 2)])
def test_migdal_kadanoff(d, b):
    """Root of tanh K = tanh(b^(d-1) K)^b by bisection; lambda from the derivative in closed form."""
    def excess(K):
        return math.tanh(b ** (d - 1) * K) ** b - math.tanh(K)

    low, high = 0.01, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    point = fixed_point(migdal_kadanoff_map(d, b), [1.1 * low])
    assert point.couplings[0] == pytest.approx(low, rel=1e-9)
    c = b ** (d - 1)
    t = math.tanh(c * low)
    slope = b * t ** (b - 1) * (1 - t**2) * c / (1 - t ** (2 * b))
    assert point.eigenvalues[0] == pytest.approx(slope, rel=1e-7)
    assert point.exponents(b)[0] == pytest.approx(math.log(slope) / math.log(b), rel=1e-7)
    if (d, b) == (2, 2):
        assert (round(float(point.couplings[0]), 5), round(float(point.exponents(2)[0]), 3)) == (0.30469, 0.747)
        assert not point.errors.any() and "0.3046" in point.table(["K"], 2)


def test_without_a_derivative_the_secant_rule_finds_the_same_point():
    with_derivative = migdal_kadanoff_map(2, 2)

    def bare(K):
        return Mapped(with_derivative(K).couplings, np.zeros((1, 1)))

    point = fixed_point(bare, [0.29], tolerance=1e-9)
    assert point.couplings[0] == pytest.approx(0.3046890, abs=1e-6) and point.notes
    assert point.eigenvalues[0].real == pytest.approx(1.6786, abs=1e-2)


def test_a_noisy_map_gives_the_fixed_point_with_its_error():
    """R(K) = K* + T (K - K*) + noise of known size: pulls of the fixed point over 300 seeds."""
    T, exact, sigma = np.array([[1.8, 0.3], [0.1, 0.4]]), np.array([0.3, 0.1]), 0.01
    pulls = []
    for seed in range(300):
        noise = sigma * np.random.default_rng(seed).normal(size=2)
        point = fixed_point(lambda K, n=noise: Mapped(exact + T @ (K - exact) + n, sigma**2 * np.eye(2), T), [0.2, 0.2])
        pulls.append((point.couplings - exact) / point.errors)
    assert (abs(np.std(pulls, axis=0) - 1) < 0.2).all() and (abs(np.mean(pulls, axis=0)) < 0.26).all()
    assert sorted(point.eigenvalues.real) == pytest.approx(sorted(np.linalg.eigvals(T)))


def test_sampled_map_of_a_chain_is_the_exact_one():
    """Decimation closes on (K, h): couplings, derivative and two more steps of the flow."""
    operators = [parse_operator(n, 1) for n in ("1", "h")]
    flow = sampled_map(Lattice((512,)), operators, "decimation", 2, 3000, every=1, seed=3)
    exact = decimation_map(2)([0.6, -0.2])
    image = flow([0.6, -0.2])
    for k in range(2):
        error = math.sqrt(image.covariance[k, k])
        assert_agrees((image.couplings[k], error), exact.couplings[k], relative_error_max=0.05)
    np.testing.assert_allclose(image.derivative, exact.derivative, atol=0.06)


def test_flow_field_has_a_note_where_there_is_no_image():
    field = flow_field(decimation_map(2), [[0.5, 0.1], [1.0, -0.1]], ("K", "h"))
    assert np.isfinite(field.images).all() and not field.notes and not field.errors.any()

    def fails(K):
        if K[0] > 0.4:
            raise DivergenceError("too far")
        return Mapped(K / 2, np.eye(1))

    field = flow_field(fails, [[0.2], [0.5]], ("K",))
    assert np.isnan(field.images[1]).all() and "too far" in field.notes[0] and field.images[0, 0] == 0.1


def test_many_body_spaces_are_sampled_too():
    operators = operator_set(2, 3, 0)
    image = sampled_map(Lattice((8, 8)), operators, "majority", 2, 200, thermalize=30)([0.2, 0.0, 0.1])
    assert image.couplings.shape == (3,) and np.isfinite(image.derivative).all()


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        (lambda: fixed_point(exact_map(lambda K: K), [0.1]), InputError, r"condition number \S+, at most"),
        (lambda: fixed_point(exact_map(lambda K: K + np.exp(K)), [0.1]), DivergenceError, "last couplings"),
        (lambda: fixed_point(decimation_map(2), [np.nan]), InputError, "finite"),
        (lambda: decimation_map(1), InputError, "b = 1"),
        (lambda: flow_field(decimation_map(2), [[0.1, 0.2]], ("K",)), InputError, "shape"),
        (lambda: sampled_map(Lattice((9, 9)), operator_set(2, 1, 0)), InputError, "no multiple of 2"),
    ],
)
def test_what_has_no_fixed_point(what, error, message):
    with pytest.raises(error, match=message) as caught:
        what()
    assert "\n" not in str(caught.value)


# ---- the Gaussian fixed point of averaging
def massless(lattice):
    """Covariance of the massless free field without its constant mode: inverse of the lattice Laplacian, (V, V)."""
    k = [2 * np.pi * np.fft.fftfreq(n) for n in lattice.shape]
    square = sum(np.meshgrid(*[2 - 2 * np.cos(q) for q in k], indexing="ij"))
    square.flat[0] = np.inf
    row = np.fft.ifftn(1 / square).real
    sites = np.argwhere(np.ones(lattice.shape))
    difference = (sites[:, None] - sites[None]) % lattice.shape
    return row[tuple(np.moveaxis(difference, 2, 0))]


def averaged(covariance, lattice, rescale):
    """Covariance of the blocked field: the rule is linear, so it acts on rows and on columns."""
    def columns(matrix):
        fields = [Field.from_array(lattice, "real", c.reshape(lattice.shape)) for c in matrix]
        return np.array([block(f, "average", 2, rescale=rescale).array().ravel() for f in fields])

    return columns(columns(covariance).T)


@pytest.mark.parametrize(("d", "sites", "levels", "tolerance"), [(1, 8, 4, 1e-6), (2, 4, 2, 0.06)])
def test_averages_of_the_free_field_approach_the_gaussian_fixed_point(d, sites, levels, tolerance):
    """With phi' = b^((d-2)/2) mean(phi), eta = 0: the blocked propagators at equal size converge as b^(-2n)."""
    found = {}
    for name, rescale in (("right", 2 ** ((d - 2) / 2)), ("wrong", 2 ** (d / 2))):
        sequence = []
        for n in range(levels + 1):
            lattice = Lattice((sites * 2**n,) * d)
            covariance = massless(lattice)
            for _ in range(n):
                covariance = averaged(covariance, lattice, rescale)
                lattice = Lattice(tuple(s // 2 for s in lattice.shape))
            sequence.append(covariance)
        found[name] = [abs(b - a).max() for a, b in itertools.pairwise(sequence)]
    steps = found["right"]
    assert steps[-1] / steps[-2] == pytest.approx(0.25, abs=tolerance)
    assert found["wrong"][-1] > found["wrong"][-2]  # mutant: the rescaling of a field without correlations


def test_average_of_the_free_field_has_the_exact_propagator():
    """G'(q) = rescale^2 b^d sum over the modes k that q folds from of |D(k)|^2 G(k) / b^d, on sampled free fields."""
    from lft.testing import free_field

    shape, kappa, rescale, b = (16, 12), 0.2, 1.3, 2
    lattice = Lattice(shape)
    G = free_field(shape, kappa).propagator_p
    k = np.meshgrid(*[2 * np.pi * np.fft.fftfreq(n) for n in shape], indexing="ij")
    D = np.prod([(1 + np.exp(1j * q)) / b for q in k], axis=0)
    folded = (abs(D) ** 2 * G).reshape(2, 8, 2, 6).sum(axis=(0, 2)) * rescale**2 / b**2
    rng = np.random.default_rng(4)
    n, power = 1600, []
    for _ in range(n):
        noise = np.fft.fftn(rng.normal(size=shape))
        phi = np.fft.ifftn(noise * np.sqrt(G)).real
        coarse = block(Field.from_array(lattice, "real", phi), "average", b, rescale=rescale).array()
        power.append(abs(np.fft.fftn(coarse)) ** 2 / coarse.size)
    mean, error = np.mean(power, axis=0), np.std(power, axis=0) / math.sqrt(n)
    assert (abs(mean - folded) < 4.5 * error).all() and (error < 0.05 * folded).all()
    assert (abs(mean - folded / rescale) > 4.5 * error).any()
