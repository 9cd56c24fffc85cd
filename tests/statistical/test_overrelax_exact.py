"""Overrelaxation and sign clusters of phi4, inside sequences, against exact results and the Schwinger-Dyson identity.

The wrong updates at the end must be rejected by the same tests at the same length.
"""

import numpy as np
import pytest

from lft.actions import Phi4
from lft.analysis import estimate
from lft.clusters import LatticeClusters, SignFlips
from lft.geometry import Lattice
from lft.protocols import State
from lft.rng import Key
from lft.testing import free_field, single_site_phi4, z_score
from lft.updaters import HMC, Metropolis, Overrelax, Sequence, start

MASK = np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [1, 1, 1, 0, 1]], bool)


def fields(action, lattice, updater, n, seed=3, thermalize=100):
    """Local configurations after each update, storage order."""
    phi, key = action.new_field(lattice), Key(seed)
    start(phi, "hot", key)
    state, out = State(phi, 0), np.empty((n, *phi.values.shape))
    for i in range(-thermalize, n):
        state, _ = updater.step(action, state, key)
        if i >= 0:
            out[i] = phi.values
    return out


def identity_scores(action, lattice, updater, n, seed=3):
    """z-scores of <phi dS/dphi> = 1 and <phi_(x+d) dS/dphi_x> = 0, averaged over the existing sites."""
    phi = action.new_field(lattice)
    mask = phi.local_mask()
    mask = np.ones(phi.values.shape, bool) if mask is None else np.broadcast_to(mask, phi.values.shape)
    x = fields(action, lattice, updater, n, seed)
    force = np.empty_like(x)
    for i in range(n):
        phi.values[...] = x[i]
        phi.exchange()
        force[i] = action.force(phi)
    own = -(x * force)[:, mask].mean(axis=1)
    other = -(np.roll(x, 1, 1) * force)[:, mask & np.roll(mask, 1, 0)].mean(axis=1)
    flips = (x[:, mask].mean(axis=1)) ** 3 + x[:, mask].mean(axis=1)  # odd in the field
    return [z_score(estimate(own), 1.0), z_score(estimate(other), 0.0), z_score(estimate(flips), 0.0)]


SYSTEMS = {
    "symmetric": (Phi4(0.3, 0.5), Lattice((10, 10))),
    "broken": (Phi4(0.25, 2.0), Lattice((6, 7), boundary=("open", "periodic"))),
    "mask": (Phi4((0.3, 0.25), 0.3), Lattice((4, 5), mask=MASK)),
    "steps": (Phi4({(1, 0, 0): 0.1, (0, 1, 1): 0.15, (0, 0, 1): -0.1}, 0.7), Lattice((4, 4, 5), ("x", "t", "y"))),
}
SEQUENCES = [Sequence([Metropolis(1.2), Overrelax(2)]), Sequence([HMC(6, 1.0), Overrelax(1), SignFlips(2)])]


@pytest.mark.parametrize("updater", SEQUENCES, ids=["metropolis-overrelax", "hmc-overrelax-clusters"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_schwinger_dyson_identities_hold(name, updater):
    assert np.abs(identity_scores(*SYSTEMS[name], updater, 2500)).max() < 4.5


@pytest.mark.parametrize("lam", [0.0, 0.5, 3.0])
def test_a_single_site_has_its_moments(lam):
    exact = single_site_phi4(lam)
    for extra in (Overrelax(), SignFlips()):
        x = fields(Phi4(0.3, lam), Lattice((1, 1)), Sequence([Metropolis(1.5), extra]), 6000)
        assert abs(z_score(estimate(x[:, 0, 0] ** 2), exact["phi2"])) < 4.5
        assert abs(z_score(estimate(x[:, 0, 0] ** 4), exact["phi4"])) < 4.5


def test_the_free_field_has_its_propagator_and_every_reflection_is_accepted():
    action, lattice = Phi4(0.22, 0.0), Lattice((8, 6))
    updater = Sequence([Metropolis(1.5), Overrelax(3)])
    x = fields(action, lattice, updater, 4000)
    assert abs(z_score(estimate((x**2).mean(axis=(1, 2))), free_field((8, 6), 0.22).phi2)) < 4.5
    phi = action.new_field(lattice)
    start(phi, "hot", Key(1))
    before = action.S(phi)
    _, info = Overrelax(5).step(action, State(phi, 0), Key(1))
    assert info.accepted == info.proposed == 5 * 48 and action.S(phi) == pytest.approx(before, rel=1e-12)


# --- wrong updates


class AlwaysReflects:
    """Overrelaxation without the acceptance step, even sites then odd ones."""

    name, kinds = "always", ("real",)

    def step(self, action, state, key):
        phi, kappa = state.phi, action.couplings["kappa"]
        x = np.indices(phi.values.shape).sum(axis=0) % 2
        for color in (0, 1):
            v = phi.values
            f = kappa * sum(np.roll(v, s, a) for s in (1, -1) for a in (0, 1))
            v[...] = np.where(x == color, 2 * f / 1.5 - v, v)
            phi.exchange()
        return State(phi, state.t + 1), None


def test_reflections_that_are_always_accepted_are_rejected():
    broken = Sequence([Metropolis(1.2), AlwaysReflects()])
    assert np.abs(identity_scores(*SYSTEMS["symmetric"], broken, 2500)).max() > 8


def test_wrong_clusters_of_the_signs_are_rejected(monkeypatch):
    right = LatticeClusters.__init__

    def init(self, action, phi):
        right(self, action, phi)
        self.weight = 0.5 * self.weight

    monkeypatch.setattr(LatticeClusters, "__init__", init)
    assert np.abs(identity_scores(*SYSTEMS["symmetric"], SEQUENCES[1], 2500)).max() > 8
