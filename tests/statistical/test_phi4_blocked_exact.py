"""phi^4 trajectories blocked in time against exact results, in float64 and float32, with mutants that must fail."""

import numpy as np
import pytest

from lft.actions import Phi4
from lft.analysis import estimate
from lft.geometry import Lattice
from lft.implementations import choose
from lft.protocols import State
from lft.rng import Key
from lft.testing import free_field, single_site_phi4, z_score
from lft.updaters import HMC, start
from lft.wavefront import Phi4Waves

Z_MAX = 4.5
PRECISIONS = ["float64", "float32"]


def sample(action, lattice, updater, observe, n, thermalize=100, mutate=None):
    """Series of ``observe(phi, dH)`` after every trajectory of the blocked loops; ``mutate(waves)`` breaks them."""
    phi, key, rows = action.new_field(lattice), Key(31), []
    start(phi, "cold", key)
    loops = choose(action, updater, phi, "phi4-blocked")
    if mutate is not None:
        mutate(loops.waves)
    state = State(phi, 0)
    for t in range(thermalize + n):
        state, info = loops.advance(state, key, 1, is_untouched=t > 0)
        if t >= thermalize:
            rows.append(observe(phi, info.dH))
    return np.array(rows)


def scores(series, exact):
    """z of each column."""
    columns = series.reshape(len(series), -1).T
    return [z_score(estimate(c, name="column"), float(e)) for c, e in zip(columns, np.ravel(exact), strict=True)]


def always_accept(waves):
    """A chain without the accept step: exact in nothing but the limit of small steps."""

    class Certain:
        def __init__(self, key):
            self.word = key.word

        def exponential(self, *_):
            return np.inf

    trajectory = waves.trajectory
    waves.trajectory = lambda t, key: trajectory(t, Certain(key))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_free_field_on_the_finite_lattice(precision):
    shape, kappa = (12, 14), (0.12, 0.08)
    lattice, action = Lattice(shape, boundary=("periodic", "open")), Phi4(kappa, 0.0, precision=precision)
    exact = free_field(shape, kappa, (True, False))
    counts = np.array([lattice.count_bonds(d) for d in lattice.unit_displacements()])

    def observe(phi, _):
        return np.append(action.bond_sums(phi) / counts, action.moments(phi)[0] / lattice.n_sites)

    want = (*exact.bonds, exact.phi2)
    series = sample(action, lattice, HMC(6, 1.2), observe, 3000)
    z = scores(series, want)
    assert max(map(abs, z)) < Z_MAX
    assert estimate(series[:, 2], name="phi2").error < 5e-3 * exact.phi2
    wrong = scores(sample(action, lattice, HMC(3, 1.9), observe, 1500, mutate=always_accept), want)
    assert max(map(abs, wrong)) > Z_MAX


@pytest.mark.parametrize("precision", PRECISIONS)
def test_identities_of_the_interacting_field(precision):
    """<exp(-dH)> = 1, and <phi_x dS/dphi_x> = 1 at every site (integration by parts); cubes, odd and open."""
    lattice = Lattice((5, 6, 7), boundary=("periodic", "open", "periodic"))
    action = Phi4(0.13, 0.5, precision=precision)

    def observe(phi, dH):
        return np.exp(-dH), -(phi.values * action.force(phi)).mean()

    z = scores(sample(action, lattice, HMC(5, 1.0), observe, 4000), (1.0, 1.0))
    assert max(map(abs, z)) < Z_MAX

    def weak(waves):
        waves._bonds = [(axis, 0.8 * kappa) for axis, kappa in waves._bonds]
        waves._passes = waves._make_passes(*_pairs(waves.updater), True)

    wrong = scores(sample(action, lattice, HMC(5, 1.0), observe, 1500, mutate=weak), (1.0, 1.0))
    assert max(map(abs, wrong)) > Z_MAX  # forces and energies of another kappa: the chain is exact for that one


def _pairs(updater):
    *pairs, (last, _) = updater.scheme.pairs(updater.steps, updater.length / updater.steps)
    return pairs, last


@pytest.mark.parametrize("precision", PRECISIONS)
def test_independent_sites_follow_their_own_law(precision):
    lattice, lam = Lattice((24, 32)), 0.7
    exact, action = single_site_phi4(lam), Phi4(0.0, lam, precision=precision)

    def observe(phi, _):
        return np.array(action.moments(phi)) / lattice.n_sites

    z = scores(sample(action, lattice, HMC(8, 1.2), observe, 1000), (exact["phi2"], exact["phi4"]))
    assert max(map(abs, z)) < Z_MAX


@pytest.mark.parametrize(("precision", "limit"), [("float64", 1e-12), ("float32", 1e-4)])
def test_a_trajectory_turned_around_returns(precision, limit):
    lattice, action, key = Lattice((12, 9, 10)), Phi4(0.14, 0.5, precision=precision), Key(3)
    phi = action.new_field(lattice)
    start(phi, "hot", key)
    waves = Phi4Waves(action, phi, HMC(20, 1.0))
    waves.load()
    first = phi.values.copy()
    mom = np.random.default_rng(1).normal(size=first.shape).astype(first.dtype)
    pairs = waves.updater.scheme.pairs(20, 0.05)
    (half, drift), kick = pairs[0], pairs[1][0]
    there = [(half, drift)] + [(kick, drift)] * 19
    end = waves.evolve(mom, [*there, (half, 0.0)])
    waves.store()
    assert np.abs(phi.values - first).max() > 0.1
    back = waves.evolve(-end, [*there, (half, 0.0)])
    waves.store()
    assert np.abs(phi.values - first).max() < limit
    assert np.abs(back + mom).max() < limit


def test_the_energy_violation_of_float32_is_that_of_the_integrator():
    """dH per trajectory: float32 follows float64 while rounding (about 1e-7 a site) is below the step error."""
    lattice, key = Lattice((24, 24)), Key(7)
    for steps, precision in ((10, 0.02), (20, 0.02)):
        changes = []
        for name in PRECISIONS:
            action = Phi4(0.2, 0.5, precision=name)
            phi = action.new_field(lattice)
            start(phi, "hot", key)
            phi.data[...] = 0.5 * phi.data
            waves = Phi4Waves(action, phi, HMC(steps, 1.0))
            waves.load()
            changes.append(waves.trajectory(0, key)[1])
        assert abs(changes[0] - changes[1]) < precision * max(1.0, abs(changes[0]))
