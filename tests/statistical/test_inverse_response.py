"""Derivatives of coarse couplings from the fluctuations of one simulation: exact chains, differences, and mutants."""

import numpy as np
import pytest

from lft.geometry import Lattice
from lft.inference.lattice_estimator import lattice_estimator
from lft.rg.chains import decimation_jacobian
from lft.rg.inverse.ensemble import FineModel, Observation, simulate
from lft.rg.inverse.response import Companions, Response, cell_operators, rings


def response(observation, theta, vectors, n, n_time, mutate=None, seed=3):
    ensemble = simulate(FineModel(observation), theta, n, n_time, seed=seed, keep_modes=False, keep_cells=True)
    companions = Companions(ensemble)
    if mutate:
        mutate(companions)
    _, u, r = lattice_estimator(vectors)(ensemble.fields, companions)
    return Response.of(r, len(theta), np.linalg.inv(u.T @ u))


def chain_response(b, mutate=None):
    chain = Lattice((5000,), ("t",), "open", ("2 ms",))
    return response(Observation(chain, b), (0.7, -0.3), ((1,),), 400, 4096, mutate)


@pytest.mark.parametrize("b", [2, 3, 5])
def test_the_response_of_a_decimated_chain_is_that_of_the_transfer_matrix(b):
    found, exact = chain_response(b), decimation_jacobian(0.7, -0.3, b)
    error = np.sqrt(found.variance)
    z = (found.jacobian - exact) / error
    assert abs(z).max() < 4.5
    assert (error < 0.1 * np.abs(exact).max(axis=1, keepdims=True)).all()
    assert found.reach == 1  # beyond the neighbors the score is screened


def own_cell(companions):
    companions.reach = 0


def five_cells_late(companions):
    companions.cells = np.roll(companions.cells, 5, axis=2)


def half_as_much(companions):
    companions.cells = companions.cells / 2
    companions.mean = companions.mean / 2


@pytest.mark.parametrize("mutate", [own_cell, five_cells_late, half_as_much])
def test_wrong_sums_are_noticed(mutate):
    found, exact = chain_response(3, mutate), decimation_jacobian(0.7, -0.3, 3)
    z = (found.jacobian - exact) / np.sqrt(found.variance)
    assert abs(z).max() > 6


def test_an_array_with_edges_mask_and_bins_agrees_with_differences_of_simulations():
    """OR in time, decimation in space, tissue around the array; the differences use the same random numbers."""
    mask = np.ones((5, 4), bool)
    mask[0, 0] = False
    array = Lattice((5, 4, 500), ("x", "y", "t"), "open", ("100 um", "100 um", "10 ms"), mask=mask)
    observation, theta, vectors = Observation(array, (2, 2, 2), "or"), (0.16, 0.14, 0.3, -0.3), np.eye(3, dtype=int)
    found = response(observation, theta, vectors, 250, 64)
    rows, step = [], 0.04
    for k in range(4):
        sides = []
        for sign in (1, -1):
            moved = np.array(theta) + sign * step * np.eye(4)[k]
            ensemble = simulate(FineModel(observation), moved, 250, 64, seed=3, keep_modes=False)
            sides.append(lattice_estimator(vectors)(ensemble.fields))
        slope = (sides[0][0] - sides[1][0]) / (2 * step)
        u = np.add.reduceat(sides[0][1] - sides[1][1], np.arange(0, 250, 10), axis=0)
        rows.append((slope, 25 * u.var(axis=0, ddof=1) / (2 * step) ** 2))
    slopes, variances = (np.array(x).T for x in zip(*rows, strict=True))
    z = (found.jacobian - slopes) / np.sqrt(found.variance + variances)
    assert abs(z).max() < 4.5
    assert np.sqrt(found.variance).max() < 0.15 * np.abs(slopes).max()


def test_cells_sum_to_the_operators_and_rings_to_the_whole():
    rng = np.random.default_rng(0)
    stack = rng.choice(np.array([-1, 1], np.int8), (2, 6, 4, 10))
    vectors = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -1, 0)]
    for periodic in ([True] * 3, [False, True, False]):
        cells = cell_operators(stack, vectors, (3, 2, 5), periodic)
        assert cells.shape == (2, 5, 2, 2, 2)
        for k, d in enumerate(vectors):
            moved = np.roll(stack, [-x for x in d], axis=(1, 2, 3)).astype(int)
            exists = np.ones(stack.shape[1:], bool)
            for axis, (x, ends) in enumerate(zip(d, periodic, strict=True)):
                if x and not ends:
                    exists[(slice(None),) * axis + (-1 if x > 0 else 0,)] = False
            assert (cells[:, k].sum(axis=(1, 2, 3)) == (stack * moved * exists).sum(axis=(1, 2, 3))).all()
        assert (cells[:, -1].sum(axis=(1, 2, 3)) == stack.sum(axis=(1, 2, 3), dtype=int)).all()
    field = rng.normal(size=(1, 1, 7, 5))
    around = rings(field, 3, [True, True])
    whole = around.sum(axis=1)[0, 0]
    np.testing.assert_allclose(whole, field.sum(), rtol=1e-4)  # 7 x 5 cells are all within 3
    alone = rings(np.eye(9)[4].reshape(1, 1, 9), 3, [False])[0, :, 0]
    np.testing.assert_allclose(alone, [[abs(i - 4) == r for i in range(9)] for r in range(4)], atol=1e-6)
