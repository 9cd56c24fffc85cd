"""The Ising model on cubes at its critical point: transfer matrices, and what the literature says of L -> infinity.

Seen in the abstract of Ferrenberg, Xu, Landau, Phys. Rev. E 97, 043301 (2018), arXiv:1806.03558: K_c =
0.221654626(5).  Seen in a public reproduction of that paper: U_4 = 1 - <m^4>/(3 <m^2>^2) at K_c goes to
U* = 0.46548(5) as U*(1 + c L^-omega), omega = 0.83; the abstract of Hasenbusch, Phys. Rev. B 82, 174433 (2010),
arXiv:1004.4486, has omega = 0.832(6).
"""

import numpy as np
import pytest

from lft.actions import Ising
from lft.analysis import estimate
from lft.geometry import Lattice
from lft.implementations import choose
from lft.observables import Bonds, Site, measure_all
from lft.protocols import State
from lft.rng import Key
from lft.testing import assert_agrees, enumerate_lattice, ising_box, z_score
from lft.updaters import HeatBath, Metropolis, SwendsenWang, start

K_C, OMEGA, U_STAR = 0.221654626, 0.83, 0.46548
CUBE = (0.43107598, 0.33121715, 0.16627435)  # ising_box((4, 4, 4), K_C), which takes a minute
UPDATERS = [Metropolis(), HeatBath(), SwendsenWang()]
all_updaters = pytest.mark.parametrize("updater", UPDATERS, ids=lambda u: u.name)


def series(L, updater, n, every=1, seed=3, K=K_C, thermalize=300):
    """Mean bond, m^2 and m^4 (improved estimators where there are any) of each measurement."""
    action, lattice, key = Ising(K=K), Lattice((L, L, L)), Key(seed)
    phi = action.new_field(lattice)
    start(phi, "cold", key)
    loops, state = choose(action, updater, phi), State(phi, 0)
    state, _ = loops.advance(state, key, thermalize * every)
    improved = getattr(updater, "observables", lambda *_: [])(action, lattice)
    observables = [Bonds.of(action, lattice), *(improved or [Site()])]
    m2, m4 = ("m2_improved", "m4_improved") if improved else ("m2", "m4")
    rows = np.empty((n, 3))
    for row in rows:
        state, _ = loops.advance(state, key, every, True)
        values = measure_all(observables, action, state)
        row[:] = np.mean([values[f"bond_{axis}"] for axis in lattice.axes]), values[m2], values[m4]
    return rows


def cumulant(means):
    return 1 - means[1] / (3 * means[0] ** 2)


def scores(rows):
    """Bond, m^2, m^4 and U_4 of the cube of 4^3 against the transfer matrix."""
    exact = [*CUBE, cumulant(CUBE[1:])]
    found = [estimate(rows[:, k]) for k in range(3)] + [estimate(rows[:, 1:], cumulant)]
    return list(zip(found, exact, strict=True))


@pytest.mark.parametrize("shape", [(2, 3, 3), (3, 2, 3), (2, 2, 4)], ids=str)
def test_the_transfer_matrix_is_the_sum_over_states(shape):
    units = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    exact = enumerate_lattice(shape, dict.fromkeys(units, 0.22))
    bond = sum(exact.bonds[d] * exact.n_bonds[d] for d in units) / sum(exact.n_bonds.values())
    assert np.allclose(ising_box(shape, 0.22), (bond, exact.m2, exact.m4), rtol=1e-6, atol=0)


@all_updaters
def test_the_smallest_cube_at_the_critical_point_is_exact(updater):
    n, every = (12000, 1) if updater.name == "swendsen-wang" else (12500, 8)
    for found, exact in scores(series(4, updater, n, every)):
        assert_agrees(found, exact, relative_error_max=0.02)


@all_updaters
def test_a_coupling_off_by_one_percent_shows_on_the_smallest_cube(updater):
    n, every, off = (12000, 1, 1.02) if updater.name == "swendsen-wang" else (12500, 8, 1.01)  # clusters: by two
    assert max(abs(z_score(*pair)) for pair in scores(series(4, updater, n, every, K=off * K_C))) > 4.5


@pytest.mark.validate
def test_the_transfer_matrix_of_the_smallest_cube():
    assert np.allclose(ising_box((4, 4, 4), K_C), CUBE, rtol=1e-7, atol=0)


def extrapolate(updater, runs, K=K_C):
    """U* of U_4 = U* + c L^-omega by least squares with its error, the chi^2 of the fit, and the points."""
    found = [(L, estimate(series(L, updater, n, every, K=K)[:, 1:], cumulant)) for L, n, every in runs]
    A = np.array([[1, L**-OMEGA] for L, _ in found])
    error = np.array([e.error for _, e in found])
    y = np.array([e.value for _, e in found])
    covariance = np.linalg.inv((A / error[:, None] ** 2).T @ A)
    best = covariance @ (A / error[:, None] ** 2).T @ y
    chi2 = (((y - A @ best) / error) ** 2).sum()
    return (best[0], np.sqrt(covariance[0, 0])), chi2, list(zip(runs, y, error, strict=True))


CLUSTER = [(8, 60000, 1), (12, 60000, 1), (16, 60000, 1), (24, 40000, 1), (32, 40000, 1)]
LOCAL = [(6, 60000, 20), (8, 60000, 30), (12, 60000, 60), (16, 60000, 100)]


@pytest.mark.validate
@all_updaters
def test_the_cumulant_tends_to_the_value_of_the_literature(updater):
    is_local = updater.name != "swendsen-wang"
    found, chi2, rows = extrapolate(updater, LOCAL if is_local else CLUSTER)
    print(updater.name, found, chi2, rows)
    assert_agrees(found, U_STAR, relative_error_max=0.01)
    assert chi2 < 20  # 2 or 3 degrees of freedom


@pytest.mark.validate
def test_a_coupling_off_by_one_percent_misses_it():
    found, chi2, _ = extrapolate(SwendsenWang(), [(8, 10000, 1), (16, 10000, 1), (24, 10000, 1)], 1.01 * K_C)
    assert abs(z_score(found, U_STAR)) > 4.5 or chi2 > 30
