"""The whole chain of evidence over 200 seeds: (value - exact)/error of Chain and estimate is N(0, 1).

A single check at |z| < 4.5 would pass with error bars twice too large; the distribution of z would not.
"""

import math

import numpy as np
import pytest

from lft.actions import Ising, Neural, Phi4
from lft.analysis import estimate
from lft.chain import Chain, Schedule
from lft.geometry import Graph, Lattice
from lft.observables import ActionDensity, Bonds, Site, default_observables
from lft.protocols import State
from lft.rng import Key
from lft.testing import enumerate_neural, free_field, kaufman_bonds, normality_p_value, z_score
from lft.updaters import HMC, HeatBath, Metropolis, start

pytestmark = pytest.mark.validate

SEEDS = 200
P_MIN = 1e-3  # a correct method fails one seed set in a thousand; the seeds are fixed
P_MUTANT = 1e-6


class ForceTimesField:
    """<phi dS/dphi> per site, 1 by Schwinger-Dyson."""

    names = ("virial",)
    axes = ()
    doc = "mean of phi dS/dphi"

    def measure(self, action, state):
        return {"virial": -float(np.mean(state.phi.values * action.force(state.phi)))}


def ising():
    action, lattice = Ising(K=(0.25, 0.35)), Lattice((12, 10))
    exact = dict(zip(("bond_x", "bond_y"), kaufman_bonds(12, 10, 0.25, 0.35), strict=True))
    return action, lattice, [Bonds.of(action, lattice)], exact


def neural():
    A = np.array([[0, -0.3, 0.2], [-0.3, 0, -0.1], [0.2, -0.1, 0]])
    action, graph = Neural(A=A, B={1: -0.25, 2: 0.1}, I=np.array([0.5, 0.2, 0.1])), Graph(3, 5, "periodic")
    exact = enumerate_neural(A, {1: -0.25, 2: 0.1}, [0.5, 0.2, 0.1], 5, True)
    values = {
        "magnetization": exact.phi.mean(),
        "action_density": exact.action / 15,
        "lag_1": np.diag(exact.Pi, 1).mean(),
    }
    return action, graph, [Site(), ActionDensity(), Bonds.of(action, graph)], values


def phi4():
    action, lattice = Phi4(kappa=(0.18, 0.14), lam=0.5), Lattice((8, 6))
    return action, lattice, [ForceTimesField()], {"virial": 1.0}


def free():
    action, lattice = Phi4(kappa=0.15, lam=0.0), Lattice((6, 6))
    exact = free_field((6, 6), 0.15)
    observables = [
        o for o in default_observables(action, lattice) if "phi2" in o.names or "bond_x" in o.names
    ]
    return action, lattice, observables, {"phi2": exact.phi2, "bond_x": exact.bonds[0]}


SYSTEMS = {
    "ising, metropolis": (ising, Metropolis(), 2000),
    "ising, heat bath": (ising, HeatBath(), 2000),
    "neural, metropolis": (neural, Metropolis(), 2000),
    "neural, heat bath": (neural, HeatBath(), 2000),
    "phi4, metropolis": (phi4, Metropolis(1.3), 3000),
    "phi4, hmc": (phi4, HMC(6, 1.0), 2000),
    "free, hmc": (free, HMC(8, 0.8), 2000),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def scores(request):
    """z of every observable over all seeds."""
    make, updater, n = SYSTEMS[request.param]
    action, geometry, observables, exact = make()
    z = {name: [] for name in exact}
    for seed in range(SEEDS):
        phi, key = action.new_field(geometry), Key(seed)
        start(phi, "cold" if phi.kind == "real" else "hot", key)
        chain = Chain(action, updater, State(phi, 0), key, Schedule(100, n, 2), observables)
        rows = list(chain.run())
        assert len(rows) == n // 2
        for name, value in exact.items():
            z[name].append(
                z_score(estimate(np.array([row[name] for row in rows]), spacing=2, name=name), value)
            )
    return z


def is_normal(z):
    """Shape by Kolmogorov and Smirnov, mean to 4.5 of its errors, width to 20 per cent (four of them)."""
    return (
        normality_p_value(z) > P_MIN
        and abs(np.mean(z)) < 4.5 / math.sqrt(len(z))
        and abs(np.std(z) - 1) < 0.2
    )


def test_z_over_200_seeds_is_normal(scores):
    for name, z in scores.items():
        assert is_normal(z), (name, normality_p_value(z), np.mean(z), np.std(z))


def test_wrong_errors_and_a_bias_are_noticed(scores):
    # mutants: a bias of half an error bar in either direction, error bars wrong by a factor 1.5
    for name, z in scores.items():
        assert not is_normal(np.array(z) + 0.5) and not is_normal(np.array(z) - 0.5), name
        assert not is_normal(np.array(z) * 1.5) and not is_normal(np.array(z) / 1.5), name


def test_weaker_couplings_are_noticed():
    # mutant: a kernel with 0.98 K; every seed alone may pass, the 200 together do not
    action, lattice, observables, exact = ising()
    wrong, z = action.with_couplings(K=(0.245, 0.343)), []
    for seed in range(SEEDS):
        phi = wrong.new_field(lattice)
        start(phi, "hot", Key(seed))
        chain = Chain(wrong, HeatBath(), State(phi, 0), Key(seed), Schedule(100, 1000, 2), observables)
        z.append(
            z_score(estimate(np.array([row["bond_x"] for row in chain.run()]), spacing=2), exact["bond_x"])
        )
    assert np.median(np.abs(z)) < 4.5 and normality_p_value(z) < P_MUTANT
