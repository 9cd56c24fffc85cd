"""Two-lattice matching: the exact step of a decimated chain, the critical point of the square lattice."""

import math

import numpy as np
import pytest

from lft.actions import Ising
from lft.clusters import SwendsenWang
from lft.errors import InputError
from lft.geometry import Lattice
from lft.rg.monte_carlo import matching
from lft.rg.monte_carlo.cascade import measure_cascade, sampled
from lft.rg.monte_carlo.matching import match
from lft.rg.monte_carlo.operators import operator_set
from lft.rng import Key
from lft.testing import assert_agrees

CRITICAL = 0.5 * math.log(1 + math.sqrt(2))


def measured(shape, K, n, levels, blocking="majority", operators=(3, 0), seed=1):
    lattice = Lattice(shape)
    batches = sampled(Ising(K), lattice, SwendsenWang(), Key(seed, shape[0]), n, 1, 200)
    return measure_cascade(batches, lattice, operator_set(len(shape), *operators), blocking, 2, levels, seed=shape[0])


def test_step_of_a_decimated_chain_is_exact():
    """Kept sites of 2L at K are a chain of L at atanh(tanh(K)^2): lattices at K and near K' differ by delta K."""
    K = 0.35  # both simulated at K; the step to K' is not small, so the second order of the expansion is predicted too
    large, small = (measured((n,), K, 40_000, levels, "decimation", (1, 0)) for n, levels in ((128, 1), (64, 0)))
    result = match(large, small, {"1": K}, n_blocks=100)
    t = math.tanh(K)
    # neighbors of an infinite chain: <s s'> = t; D = t^2 - t, derivative of the small lattice K (1 - t^2)
    step = -(t**2 - t) / (K * (1 - t**2))
    assert_agrees(result.steps[1], step, relative_error_max=0.02)
    shift = -(t**2 - t) / (K * (2 * t * (1 - t**2) - (1 - t**2)))
    assert_agrees(result.shifts[1], shift, relative_error_max=0.1)


@pytest.fixture(scope="module")
def pair():
    """K, and the series of both lattices."""
    K = 0.435
    return K, *(measured((n, n), K, 12_000, levels) for n, levels in ((32, 3), (16, 2)))


def test_critical_point_of_the_square_lattice(pair):
    K, large, small = pair
    result = match(large, small, {"1,0": K})
    value, error, systematic = result.critical["K[1,0]"]
    assert_agrees((value, math.hypot(error, systematic)), CRITICAL, relative_error_max=0.01)
    # disordered side: the couplings flow down, about (2^y_t - 1) times the distance
    step, step_error = result.steps[3]
    assert step > 4 * step_error > 0
    assert_agrees((K * step, K * step_error), CRITICAL - K, relative_error_max=0.5)


def test_mutants_are_caught(pair, monkeypatch):
    """The smaller lattice at another coupling; the derivative without its connected part."""
    K, large, small = pair
    value, error = match(large, measured((16, 16), 0.42, 6000, 2), {"1,0": K}).shifts[3]
    assert abs(value - (CRITICAL / K - 1)) > 8 * error
    moments = matching._moments

    def raw(o, energy, edges):
        out = moments(o, energy, edges)
        return np.stack([out[:, 0], out[:, 1] + out[:, 0] * energy.mean()], axis=1)

    monkeypatch.setattr(matching, "_moments", raw)
    value, error = match(large, small, {"1,0": K}).steps[3]
    assert abs(K * value - (CRITICAL - K)) > 4.5 * K * error


def test_bad_input_is_one_line():
    small = measured((8, 8), 0.4, 400, 1)
    for what, message in (
        (lambda: match(small, small, {"1,0": 0.4}), "as large as the second"),
        (lambda: match(measured((16, 16), 0.4, 400, 2), small, {"5,0": 0.4}), "was not measured"),
        (lambda: match(measured((16, 16), 0.4, 400, 2, "decimation"), small, {"1,0": 0.4}), "blocking"),
        (lambda: match(measured((16, 16), 0.4, 60, 2), small, {"1,0": 0.4}), "too few blocks"),
        (lambda: match(*(measured((n, n), 0.4, 400, 1, operators=(0, 1)) for n in (16, 8)), {"1,0": 0.4}),
         "even operator"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message) as caught:
            what()
        assert "\n" not in str(caught.value)


def test_far_from_the_critical_point_a_note_says_so():
    large, small = (measured((n, n), 0.38, 2000, levels) for n, levels in ((16, 2), (8, 1)))
    assert any("simulate nearer" in note for note in match(large, small, {"1,0": 0.38}).notes)
