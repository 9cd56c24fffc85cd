"""Parallel tempering against exact results at every temperature, and the swaps that must be rejected.

The systems have barriers that a single chain does not cross at b = 1: what is right there came down the ladder.
"""

import itertools

import numpy as np
import pytest

import lft.tempering
from lft.actions import Ising, Neural, Pairwise, Phi4
from lft.analysis import estimate
from lft.chain import Schedule
from lft.geometry import Graph, Lattice
from lft.observables import ActionDensity, Bonds, Site
from lft.protocols import State
from lft.rng import Key
from lft.tempering import Journeys, Ladder, Tempering, tuned
from lft.testing import assert_agrees, enumerate_lattice, z_score
from lft.updaters import HMC, HeatBath, Metropolis, start

Z_MAX = 4.5
BARRIER = (0.15, 0.22, 0.3, 0.4, 0.55, 1.0)


def tempered(action, updater, geometry, b, n, observables, every=4, thermalize=400, kernel="auto", seed=5, **options):
    """Series of everything measured, by name: (measurement, temperature, *axes)."""
    schedule = Schedule(thermalize, n * every, every)
    ladder = Ladder(b, **options)
    chain = Tempering(action, updater, geometry, Key(seed), schedule, ladder, observables, kernel=kernel)
    chain.start("hot" if action.kind != "real" else "cold")
    rows = []
    while chain.t < schedule.total:
        chain.advance(schedule.next_event(chain.t) - chain.t)
        if schedule.measures(chain.t):
            rows.append(chain.measure())
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}, chain


def worst(series, exact):
    """Largest |z| over temperatures and quantities of {name: exact value per temperature}."""
    found = [
        z_score(estimate(series[name][:, i]), value)
        for name, values in exact.items()
        for i, value in enumerate(values)
    ]
    return max(map(abs, found))


# --- a ferromagnet that does not flip


FERROMAGNET = Ising(K=1.0)


def ferromagnet(b):
    """Exact means of the 3 x 4 torus at each temperature."""
    moments = [enumerate_lattice((3, 4), {(1, 0): x, (0, 1): x}) for x in b]
    return {
        "bond_x": [m.bonds[1, 0] for m in moments],
        "bond_y": [m.bonds[0, 1] for m in moments],
        "magnetization": [0.0 for _ in moments],
        "abs_magnetization": [m.abs_m for m in moments],
        "m2": [m.m2 for m in moments],
    }


def run_ferromagnet(updater, kernel="auto", n=700):
    geometry = Lattice((3, 4))
    return tempered(
        FERROMAGNET, updater, geometry, BARRIER, n, [Bonds.of(FERROMAGNET, geometry), Site()], kernel=kernel
    )


@pytest.mark.parametrize(
    ("updater", "kernel"), [(Metropolis(), "auto"), (HeatBath(), "generic")], ids=["bits", "loops"]
)
def test_a_ferromagnet_at_every_temperature(updater, kernel):
    series, chain = run_ferromagnet(updater, kernel)
    assert chain.kernel == ("ising-bits" if kernel == "auto" else "generic-ising")
    exact = ferromagnet(BARRIER)
    assert worst(series, exact) < Z_MAX
    assert_agrees(estimate(series["m2"][:, -1]), exact["m2"][-1], Z_MAX, 2e-3)
    assert chain.journeys.trips.sum() > 100
    # the barrier is real: a single chain at b = 1 never flips in as many updates
    phi = FERROMAGNET.new_field(Lattice((3, 4)))
    start(phi, "cold", Key(1))
    state, signs = State(phi, 0), set()
    for _ in range(2000):
        state, _ = updater.step(FERROMAGNET, state, Key(1))
        signs.add(phi.values.sum() > 0)
    assert signs == {True}


@pytest.mark.parametrize("mutant", ["ignores S", "wrong sign", "a third"])
def test_wrong_swaps_are_rejected(mutant, monkeypatch):
    right = Tempering._energy
    factor = {"ignores S": 0.0, "wrong sign": -1.0, "a third": 0.33}[mutant]
    monkeypatch.setattr(Tempering, "_energy", lambda self, slot: factor * right(self, slot))
    series, _ = run_ferromagnet(Metropolis(), n=400)
    assert worst(series, ferromagnet(BARRIER)) > 6


def test_one_tempered_coupling_leaves_the_others():
    action, geometry, b = Ising(K=0.6, h=0.15), Lattice((3, 4)), (0.0, 0.4, 0.7, 1.0)
    observables = [Bonds.of(action, geometry), Site()]
    series, chain = tempered(action, HeatBath(), geometry, b, 700, observables, coupling="K")
    exact = [enumerate_lattice((3, 4), {(1, 0): 0.6 * x, (0, 1): 0.6 * x}, 0.15) if x else None for x in b]
    assert chain.kernels == ["ising-bits"] * 4
    bonds = [np.tanh(0.15) ** 2, *(m.bonds[1, 0] for m in exact[1:])]
    means = [np.tanh(0.15), *(m.m for m in exact[1:])]
    assert worst(series, {"bond_x": bonds, "magnetization": means}) < Z_MAX


# --- a spin glass and spiking units


def states(n, low):
    return np.array(list(itertools.product([low, 1], repeat=n)))


def exact_means(S, values, b):
    """<value>_b of an enumerated system, per temperature."""
    weights = [np.exp(-x * (S - S.min())) for x in b]
    return [(w @ values) / w.sum() for w in weights]


def test_a_spin_glass_at_every_temperature():
    rng = np.random.default_rng(3)
    J = np.triu(rng.normal(0, 1, (10, 10)), 1)
    J, b = J + J.T, (0.1, 0.25, 0.45, 0.75, 1.2)
    action, s = Pairwise(J), states(10, -1)
    S = -0.5 * np.einsum("ki,ij,kj->k", s, J, s)
    series, _ = tempered(action, Metropolis(), Graph(10, 1), b, 800, [ActionDensity(), Site()])
    m = s.mean(axis=1)
    exact = {
        "action_density": exact_means(S, S / 10, b),
        "magnetization": exact_means(S, m, b),
        "m2": exact_means(S, m**2, b),
    }
    assert worst(series, exact) < Z_MAX


def test_spiking_units_with_tempered_couplings():
    A = np.array([[0, -0.9, 0.4], [-0.9, 0, -0.5], [0.4, -0.5, 0]])
    action, b = Neural(A=A, I=np.array([0.6, 0.8, 0.2])), (0.0, 0.5, 1.0, 1.6)
    x = states(3, 0)
    E, rest = np.einsum("ki,ij,kj->k", x, A, x), x @ action.couplings["I"]
    weights = [np.exp(-c * E - rest) for c in b]
    exact = {
        "action_density": [(w @ (E + rest)) / w.sum() / 3 for w in weights],
        "magnetization": [(w @ x.mean(axis=1)) / w.sum() for w in weights],
    }
    series, _ = tempered(action, HeatBath(), Graph(3, 1), b, 800, [ActionDensity(), Site()], coupling="A")
    assert worst(series, exact) < Z_MAX


# --- a double well


def double_well(kappa, lam, b, L=3):
    """<phi^2>, <phi^4>, <phi phi'> and <S>/L of a ring of L real sites at each b, by a transfer matrix on a grid."""
    x = np.linspace(-2.5, 2.5, 301)
    out = []
    for c in b:
        v = x**2 + lam * (x**2 - 1) ** 2
        T = np.exp(-c * (0.5 * v[:, None] + 0.5 * v - 2 * kappa * np.outer(x, x)))
        ring = np.linalg.matrix_power(T, L - 1)  # from a site around to its neighbor
        p = np.diagonal(ring @ T)
        pair = (T * ring.T).ravel() @ np.outer(x, x).ravel() / p.sum()
        second, fourth = (p @ x**2) / p.sum(), (p @ x**4) / p.sum()
        out.append((second, fourth, pair, -2 * kappa * pair + second + lam * (fourth - 2 * second + 1)))
    return np.array(out).T


@pytest.mark.parametrize(
    "updater",
    [pytest.param(HMC(3, 0.45), id="hmc"), pytest.param(Metropolis(0.7), id="metropolis", marks=pytest.mark.validate)],
)
def test_a_double_well_at_every_temperature(updater):
    from lft.observables import Moments

    action, b, geometry = Phi4(kappa=0.3, lam=8.0), (0.08, 0.16, 0.3, 0.55, 1.0), Lattice((3,))
    observables = [Moments(), ActionDensity(), Site(), Bonds.of(action, geometry)]
    series, chain = tempered(action, updater, geometry, b, 700, observables)
    names = ("phi2", "phi4", "bond_x", "action_density")
    exact = dict(zip(names, double_well(0.3, 8.0, b), strict=True)) | {"magnetization": [0.0] * len(b)}
    assert worst(series, exact) < Z_MAX
    assert chain.journeys.trips.sum() > 20
    # mutant: other temperatures than those that were simulated
    wrong = dict(zip(names, double_well(0.3, 8.0, (0.12, 0.25, 0.4, 0.7, 1.0)), strict=True))
    assert worst(series, wrong) > 6


def test_a_tempered_hopping():
    from lft.observables import Moments

    action, b, geometry = Phi4(kappa=0.4, lam=1.0), (0.0, 0.5, 1.0), Lattice((3,))
    series, _ = tempered(action, HMC(5, 1.0), geometry, b, 600, [Moments()], coupling="kappa")
    exact = np.array([double_well(0.4 * c, 1.0, (1.0,))[:2, 0] for c in b]).T
    assert worst(series, {"phi2": exact[0], "phi4": exact[1]}) < Z_MAX


# --- journeys


@pytest.mark.parametrize(("n", "every"), [(2, 1), (5, 1), (6, 3)])
def test_round_trips_where_everything_is_accepted(n, every):
    """Without couplings every swap is accepted: each replica moves one slot per swap and takes 2 n swaps."""
    action = Ising(K=0.0)
    schedule = Schedule(0, 40 * n * every)
    ladder = Ladder(tuple(0.1 * (k + 1) for k in range(n)), swap_every=every)
    chain = Tempering(action, HeatBath(), Lattice((2, 2)), Key(1), schedule, ladder, [])
    chain.start("hot")
    chain.advance(schedule.total)
    j = chain.journeys
    assert (chain.accepted == chain.proposed).all() and j.trips.sum() > 15 * n
    assert (j.trip_sum == 2 * n * every * j.trips).all()
    assert (j.trip_squares == (2 * n * every) ** 2 * j.trips).all()
    assert sorted(j.replica) == list(range(n))


def simulated_trips(p, n_swaps, order, seed=2):
    """Mean and error of the round-trip time of swaps that are accepted independently with probabilities ``p``."""
    rng, journeys = np.random.default_rng(seed), Journeys(len(p) + 1)
    for t in range(n_swaps):
        pairs = np.arange(order(t, rng), len(p), 2)
        journeys.move(pairs[rng.random(len(pairs)) < p[pairs]], t)
    n, total, squares = (int(x.sum()) for x in (journeys.trips, journeys.trip_sum, journeys.trip_squares))
    return total / n, np.sqrt((squares / n - (total / n) ** 2) / n)


def test_the_ideal_round_trip_time_holds_for_independent_swaps():
    p = np.array([0.8, 0.5, 0.6, 0.9])
    ideal = 2 * 5 * (1 + ((1 - p) / p).sum())
    assert abs(z_score(simulated_trips(p, 40_000, lambda t, rng: t % 2), ideal)) < Z_MAX
    # mutant: random instead of alternating pairs travel like a random walk
    assert abs(z_score(simulated_trips(p, 40_000, lambda t, rng: int(rng.integers(2))), ideal)) > 6


# --- tuning


def acceptances(is_tuned):
    action, geometry = Ising(K=0.44), Lattice((16, 16))
    b = (0.3, 0.35, 0.4, 0.45, 0.5, 0.95, 1.0)
    _, chain = tempered(action, HeatBath(), geometry, b, 1200, [], every=1, thermalize=2000, is_tuned=is_tuned)
    return chain.acceptance_sum / chain.proposed, chain


def test_tuning_makes_the_acceptance_uniform():
    even, chain = acceptances(True)
    ladder = chain.inverse_temperatures
    assert np.ptp(even) < 0.15 and even.min() > 0.2
    assert ladder[0] == 0.3 and ladder[-1] == 1.0 and (np.diff(ladder) > 0).all()
    uneven, same = acceptances(False)  # mutant: nothing is tuned
    assert np.ptp(uneven) > 0.6 and list(same.inverse_temperatures) == [0.3, 0.35, 0.4, 0.45, 0.5, 0.95, 1.0]
    assert chain.journeys.trips.sum() > 4 * same.journeys.trips.sum()


def test_the_tuned_ladder_has_equal_steps_of_rejection():
    assert tuned([0.0, 1.0, 2.0, 3.0], [0.3, 0.3, 0.3]) == pytest.approx([0.0, 1.0, 2.0, 3.0])
    assert tuned([0.0, 1.0, 2.0], [0.9, 0.3]) == pytest.approx([0.0, 2 / 3, 2.0])
    assert tuned([0.5, 0.7, 1.0], [0.0, 0.0]) == pytest.approx([0.5, 0.7, 1.0])
    many = tuned(np.linspace(0.1, 1, 9), [1.0] + [0.0] * 7)
    assert (np.diff(many) > 0).all() and many[4] < 0.25


def test_the_acceptance_is_that_of_the_exponential():
    gain = np.array([0.0, 3.0, -1e-9, -0.3, -1.0, -7.0, -40.0, -99.0, -1e9, np.inf, -np.inf])
    right = np.minimum(1.0, np.exp(gain, where=gain < 700, out=np.ones_like(gain)))
    assert lft.tempering.acceptance(gain) == pytest.approx(right, rel=1e-10, abs=1e-43)
