"""Simulated annealing against known ground states, and the cooling that must fail to find them."""

import itertools

import numpy as np
import pytest

from lft.actions import Ising, Neural, Pairwise, Phi4
from lft.annealing import Cooling, anneal
from lft.errors import InputError
from lft.geometry import Graph, Lattice
from lft.rng import Key
from lft.updaters import HMC, HeatBath, Metropolis


def glass(n, seed):
    J = np.triu(np.random.default_rng(seed).normal(size=(n, n)), 1)
    return J + J.T


def planted(L, seed, weak=0.7):
    """Plaquettes of an L x L torus, every second one, each with three bonds of 1 and one of ``weak`` that is broken.

    Each plaquette alone is minimized by the planted spins (into which the signs are gauged), so their sum is too.
    """
    rng, n = np.random.default_rng(seed), L * L
    s, J, S = rng.choice([-1, 1], n), np.zeros((n, n)), 0.0
    for x, y in itertools.product(range(L), repeat=2):
        if (x + y) % 2 == 0:
            corners = [(u % L) * L + v % L for u, v in ((x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1))]
            bonds = np.roll([1.0, 1.0, 1.0, -weak], rng.integers(4))
            for k in range(4):
                i, j = corners[k], corners[(k + 1) % 4]
                J[i, j] = J[j, i] = bonds[k] * s[i] * s[j]
            S -= 3 - weak
    return J, s, S


@pytest.mark.parametrize("updater", [Metropolis(), HeatBath()])
def test_a_ferromagnet(updater):
    ground = anneal(Ising(K=0.7), updater, Lattice((8, 8)), Cooling(300, 0.1, 4.0, restarts=8), Key(3))
    assert ground.lowest == pytest.approx(-0.7 * 128) and ground.has_reached.sum() >= 6
    assert {int(a.sum()) for a in ground.configurations} <= {-64, 64}
    with_field = anneal(Ising(K=0.7, h=0.05), updater, Lattice((8, 8)), Cooling(300, 0.1, 4.0, restarts=8), Key(3))
    assert with_field.lowest == pytest.approx(-0.7 * 128 - 0.05 * 64)
    assert len(with_field.configurations) == 1 and (with_field.configurations[0] == 1).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_spin_glass_of_sixteen_spins(seed):
    J, h = glass(16, seed), np.random.default_rng(seed + 100).normal(0, 0.2, 16)
    s = np.array(list(itertools.product([-1, 1], repeat=16)), dtype=float)
    S = -0.5 * np.einsum("ki,ij,kj->k", s, J, s, optimize=True) - s @ h
    ground = anneal(Pairwise(J, h), Metropolis(), Graph(16, 1), Cooling(200, 0.1, 5.0, restarts=32), Key(seed))
    assert ground.lowest == pytest.approx(S.min(), abs=1e-9) and ground.has_reached.sum() >= 8
    assert len(ground.configurations) == 1
    assert np.array_equal(np.ravel(ground.configurations[0]), s[S.argmin()])


def test_a_planted_solution_and_how_cooling_finds_it():
    J, s, S = planted(8, 5)
    action = Pairwise(J)
    assert -0.5 * s @ J @ s == pytest.approx(S)
    slow = anneal(action, Metropolis(), Graph(64, 1), Cooling(500, 0.2, 4.0, restarts=64), Key(2))
    assert slow.lowest == pytest.approx(S)
    found = [np.ravel(a) for a in slow.configurations]
    assert any(np.array_equal(a, s) or np.array_equal(a, -s) for a in found)
    # mutant: a quench without cooling reaches it much more rarely
    fast = anneal(action, Metropolis(), Graph(64, 1), Cooling(1, 0.0, 1e-3, "linear", 64), Key(2))
    reached = np.isclose(fast.actions, S).sum()
    assert slow.has_reached.sum() > 2 * reached + 5


def test_spiking_units_over_time():
    A = glass(4, 9)
    x = np.array(list(itertools.product([0, 1], repeat=12))).reshape(-1, 3, 4).astype(float)  # state, bin, unit
    pairs, lags = np.einsum("kai,ij,kaj->k", x, A, x), (x[:, :-1] * x[:, 1:]).sum(axis=(1, 2))
    S = pairs + 2 * 0.4 * lags - 0.3 * x.sum(axis=(1, 2))
    action = Neural(A=A, B={1: 0.4}, I=-0.3)
    ground = anneal(action, HeatBath(), Graph(4, 3, "open"), Cooling(100, 0.1, 6.0, restarts=6), Key(1))
    assert ground.lowest == pytest.approx(S.min())


def test_a_real_field_ends_in_its_minimum():
    kappa, lam = 0.4, 0.5
    square = 1 + (4 * kappa - 1) / (2 * lam)  # of the uniform configuration in two dimensions
    S = 36 * ((1 - 4 * kappa) * square + lam * (square - 1) ** 2)
    action, cooling = Phi4(kappa=kappa, lam=lam), Cooling(60, 0.2, 20.0, restarts=4)
    for updater in (HMC(5, 0.3), Metropolis(0.5)):
        ground = anneal(action, updater, Lattice((6, 6)), cooling, Key(4))
        assert ground.lowest == pytest.approx(S, rel=1e-9)
        for a in ground.configurations:
            assert np.abs(np.abs(a) - np.sqrt(square)).max() < 1e-3


def test_steps_add_up_and_rise():
    for schedule, first in (("linear", 0.0), ("geometric", 0.1)):
        for sweeps in (1, 2, 99, 100, 1234):
            steps = Cooling(sweeps, first, 5.0, schedule).steps()
            b = [x for x, _ in steps]
            assert sum(n for _, n in steps) == sweeps and b == sorted(b) and b[-1] == 5.0
            assert len(b) == 1 or b[0] == first


def test_more_than_one_bin_is_refused():
    with pytest.raises(InputError, match="2 bins"):
        anneal(Pairwise(glass(3, 1)), Metropolis(), Graph(3, 2), Cooling(), Key(1))
