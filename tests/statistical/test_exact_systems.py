"""The engine against exact results: |z| < 4.5 with our own errors, required precision, mutants that fail.

Every check is a function of an updater and an action, so that its mutants run through the same lines: a test
that cannot tell a broken kernel from a right one says nothing.
"""

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix, kron

from lft._kernels import binary
from lft.actions import Ising, Neural, Pairwise, Phi4
from lft.analysis import estimate
from lft.geometry import Graph, Lattice
from lft.observables import default_observables, measure_all
from lft.protocols import Info, State
from lft.rng import Key, Stream
from lft.testing import (
    assert_agrees,
    enumerate_lattice,
    enumerate_neural,
    enumerate_states,
    free_field,
    ising_chain,
    kaufman_bonds,
    single_site_phi4,
    z_score,
)
from lft.updaters import HMC, HeatBath, Metropolis, start

SEED = 20
Z_MAX = 4.5


def sample(action, geometry, updater, observe, n, thermalize=200, every=1, seed=SEED):
    """Series of ``observe(phi)`` (a number or a vector), one entry per ``every`` updates.

    Real fields start cold: a coarse trajectory that starts at phi = 3 is rejected for ever.
    """
    phi, key = action.new_field(geometry), Key(seed)
    start(phi, "cold" if action.kind == "real" else "hot", key)
    state, rows = State(phi, 0), []
    for k in range(1, thermalize + n * every + 1):
        state, _ = updater.step(action, state, key)
        if k > thermalize and (k - thermalize) % every == 0:
            rows.append(observe(phi))
    return np.array(rows)


def estimates(series):
    """One Estimate per column."""
    series = series.reshape(len(series), -1)
    return [estimate(series[:, k], name=f"column {k}") for k in range(series.shape[1])]


def agree(found, exact, precision):
    """Every column agrees with its exact value."""
    for e, value in zip(found, np.ravel(exact), strict=True):
        assert_agrees(e, float(value), Z_MAX, precision)


def is_rejected(found, exact):
    """True if a column deviates by more than the limit."""
    return any(not abs(z_score(e, float(v))) < Z_MAX for e, v in zip(found, np.ravel(exact), strict=True))


# --- mutants


class Weak:
    """Mutant of any updater: the loops see couplings that are a factor too small, exp(-0.98 dS) for 0.98."""

    def __init__(self, updater, factor=0.98):
        self.updater, self.factor, self.name, self.action = updater, factor, updater.name, None

    def step(self, action, state, key):
        if self.action is None:
            self.action = action.with_couplings(
                **{
                    name: {k: self.factor * v for k, v in g.items()}
                    if isinstance(g, dict)
                    else tuple(self.factor * v for v in g)
                    if isinstance(g, tuple)
                    else None
                    if g is None
                    else self.factor * g
                    for name, g in action.couplings.items()
                    if name not in ("unit", "lam")
                }
            )
        return self.updater.step(self.action, state, key)


class StaleHalo:
    """Mutant: the halo is never refreshed after the start."""

    def __init__(self, updater):
        self.updater, self.name = updater, updater.name

    def step(self, action, state, key):
        state.phi.exchange = lambda: None
        return self.updater.step(action, state, key)


class OneClass:
    """Mutant: all sites at once, as if there were a single color."""

    name = "one class"

    def step(self, action, state, key):
        phi = state.phi
        kernel, plan = action.bind(phi)
        u, _ = key.fill("logistic", 0, 1, phi.values.size, state.t, Stream.HEATBATH)
        flat = phi.data.reshape(-1)
        p, q = sites(plan)
        flat[p] = np.where(binary.raising(kernel, flat, p, q) < u, kernel.high, kernel.low)
        phi.exchange()
        return State(phi, state.t + 1), None


class FrozenCounter:
    """Mutant: the update is not part of the counter beyond its lowest bits, so the numbers repeat."""

    def __init__(self, updater, period=16):
        self.updater, self.period, self.name = updater, period, updater.name

    def step(self, action, state, key):
        self.updater.step(action, State(state.phi, state.t % self.period), key)
        return State(state.phi, state.t + 1), None


class SlowMetropolis:
    """Metropolis of a real field in numpy; mutants: acceptance exp(-exponent dS), one uniform for both."""

    name = "slow metropolis"

    def __init__(self, width, exponent=1.0, is_one_number=False):
        self.width, self.exponent, self.is_one_number = width, exponent, is_one_number
        self.rng = np.random.default_rng(9)

    def step(self, action, state, key):
        phi = state.phi
        kernel, plan = action.bind(phi)
        flat = phi.data.reshape(-1)
        for p0, q0, _, count in plan.classes:
            p, q = (
                np.concatenate(
                    [first + plan.step * np.arange(n) for first, n in zip(start, count, strict=True)]
                )
                for start in (p0, q0)
            )
            u = self.rng.random(len(p))
            v = u if self.is_one_number else self.rng.random(len(p))
            new = flat[p] + self.width * (2 * v - 1)
            dS = action.loops.site_dS(kernel, flat, p, q, new)
            flat[p] = np.where(self.exponent * dS < -np.log(u), new, flat[p])
            phi.exchange()
        return State(phi, state.t + 1), None


class Careless(HMC):
    """Mutant: every trajectory is accepted."""

    def step(self, action, state, key):
        self.integrate(action, state.phi, self.momenta(action, state, key))
        return State(state.phi, state.t + 1), Info(1, 1, 0.0, 0.0)


class Hot(HMC):
    """Mutant: momenta of variance 1.05."""

    def momenta(self, action, state, key):
        mom = super().momenta(action, state, key)
        mom *= math.sqrt(1.05)
        return mom


class FlippedSign(HMC):
    """Mutant: accepts with exp(+dH)."""

    def energy_lines(self, action, phi, mom):
        return -super().energy_lines(action, phi, mom)


def sites(plan):
    """Flat and slice index of every local site, row-major."""
    j = np.arange(plan.length)
    return (plan.line_p[:, None] + j).ravel(), (plan.line_q[:, None] + j).ravel()


# --- two-dimensional Ising model


def ising_bonds(shape, copies, K, updater, n, every=1):
    """Mean bonds along x and y of many copies of a torus: the axis of the copies carries no coupling."""
    lattice = Lattice((*shape, copies), boundary=("periodic", "periodic", "open"))
    action = Ising(K={(1, 0, 0): K[0], (0, 1, 0): K[1]})
    return estimates(
        sample(action, lattice, updater, lambda phi: action.bond_sums(phi) / lattice.n_sites, n, 300, every)
    )


@pytest.mark.parametrize(
    ("shape", "copies", "K", "updater", "n", "every", "precision"),
    [
        ((16, 16), 240, (0.30, 0.30), HeatBath(), 8000, 1, 2e-4),
        ((24, 12), 240, (0.30, 0.40), Metropolis(), 5200, 2, 2e-4),
        ((15, 13), 120, (0.25, -0.3), HeatBath(), 1300, 1, 1e-3),  # odd extents, antiferromagnetic seam
        ((3, 5), 800, (0.35, 0.2), Metropolis(), 1000, 1, 2e-3),  # every second plane is a seam
        ((2, 4), 800, (0.20, 0.3), HeatBath(), 1000, 1, 2e-3),  # a pair with two bonds
    ],
    ids=["isotropic", "anisotropic", "odd", "small", "pair"],
)
def test_ising_bonds_of_a_torus(shape, copies, K, updater, n, every, precision):
    agree(ising_bonds(shape, copies, K, updater, n, every), kaufman_bonds(*shape, *K), precision)


@pytest.mark.parametrize(
    "mutant",
    [
        Weak(HeatBath()),
        Weak(Metropolis()),
        Weak(HeatBath(), 0.995),
        OneClass(),
        StaleHalo(HeatBath()),
        StaleHalo(Metropolis()),
        FrozenCounter(HeatBath()),
    ],
    ids=[
        "heat bath 0.98",
        "metropolis 0.98",
        "heat bath 0.995",
        "one class",
        "stale halo",
        "stale halo m",
        "frozen counter",
    ],
)
def test_broken_ising_updates_are_rejected(mutant):
    assert is_rejected(
        ising_bonds((16, 16), 40, (0.30, 0.30), mutant, 2500), kaufman_bonds(16, 16, 0.30, 0.30)
    )


@pytest.mark.validate
@pytest.mark.parametrize("updater", [Metropolis(), HeatBath()], ids=lambda u: u.name)
def test_ising_bonds_near_criticality(updater):
    exact = kaufman_bonds(32, 32, 0.42, 0.42)
    agree(ising_bonds((32, 32), 50, (0.42, 0.42), updater, 20_000, 4), exact, 3e-4)
    assert is_rejected(ising_bonds((32, 32), 50, (0.42, 0.42), Weak(updater, 0.998), 5000, 4), exact)


def test_ising_with_field_mask_and_diagonals_against_enumeration():
    # 13 active sites, many copies along an axis without couplings; z of the mean spin and of every bond
    mask = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 0, 1]], bool)
    K = {(1, 0): 0.3, (0, 1): -0.2, (1, 1): 0.15}
    h = np.round(np.random.default_rng(1).normal(0, 0.3, (4, 4)), 3)
    exact = enumerate_lattice((4, 4), K, h, periodic=(True, False), mask=mask)
    copies = 200
    lattice = Lattice((4, 4, copies), ("x", "y", "t"), ("periodic", "open", "open"), mask=mask)
    action = Ising(K={(*d, 0): k for d, k in K.items()}, h=h)
    expected = [*exact.bonds.values(), *exact.mean_field[mask]]
    counts = np.array([lattice.count_bonds(d) for d in action.displacements(lattice)])
    assert counts.tolist() == [copies * n for n in exact.n_bonds.values()]

    def run(updater, n):
        def observe(phi):
            return np.append(action.bond_sums(phi) / counts, action.site_time_sums(phi)[mask] / copies)

        return estimates(sample(action, lattice, updater, observe, n))

    for updater in (Metropolis(), HeatBath()):
        found = run(updater, 2000)
        for e, value in zip(found, expected, strict=True):
            assert_agrees(e, value, Z_MAX)
            assert e.error < 3e-3
    assert is_rejected(run(Weak(HeatBath(), 0.95), 800), expected)


@pytest.mark.parametrize("boundary", ["periodic", "open"])
def test_chain_against_the_transfer_matrix(boundary):
    # many copies: the second axis carries no coupling
    exact = ising_chain(10, 0.6, 0.25, boundary == "periodic")
    lattice, action = Lattice((10, 400), boundary=(boundary, "open")), Ising(K=(0.6, 0.0), h=0.25)
    bonds = lattice.count_bonds((1, 0))

    def run(updater, n):
        return estimates(
            sample(
                action,
                lattice,
                updater,
                lambda phi: (action.bond_sums(phi)[0] / bonds, action.site_sum(phi) / 4000),
                n,
            )
        )

    for updater in (Metropolis(), HeatBath()):
        agree(run(updater, 6000), (exact.bond, exact.magnetization), 1e-3)
    assert is_rejected(run(Weak(HeatBath()), 800), (exact.bond, exact.magnetization))


# --- neural fields


def neural_setups():
    rng = np.random.default_rng(7)
    upper = np.triu(np.round(rng.normal(0, 0.35, (4, 4)), 3), 1)
    A4, I4 = upper + upper.T, np.round(rng.normal(0.3, 0.6, 4), 3)
    A2 = np.array([[0, -0.3], [-0.3, 0]])
    return {
        "reference": (A2, {1: -0.25}, np.array([0.5, 0.5]), 3, "open"),
        "open": (A4, {1: -0.25, 2: 0.2}, I4, 5, "open"),
        "periodic": (A4, {1: -0.25, 2: 0.2}, I4, 4, "periodic"),
    }


COPIES = 50


@pytest.mark.parametrize("storage", ["dense", "sparse"])
@pytest.mark.parametrize("name", neural_setups())
def test_neural_moments_against_enumeration(name, storage):
    # copies of the units that do not see each other: the same law 50 times in one field
    A, B, I, T, boundary = neural_setups()[name]
    N = len(A)
    exact = enumerate_neural(A, B, I, T, boundary == "periodic")
    pair, lag = np.triu_indices(N, 1), np.triu_indices(T, 1)
    expected = np.concatenate([exact.phi.ravel(), exact.Phi[pair], exact.Pi[lag], [exact.action]])
    blocks = kron(np.eye(COPIES), csr_matrix(A)).tocsr()
    action = Neural(A=blocks if storage == "sparse" else blocks.toarray(), B=B, I=np.tile(I, COPIES))
    graph = Graph(N * COPIES, T, boundary)

    def observe(phi):
        x = phi.values.reshape(T, COPIES, N).astype(float)
        flat = x.transpose(1, 0, 2)  # copy, time, unit
        Phi = (flat.transpose(0, 2, 1) @ flat).sum(axis=0) / (COPIES * T)
        Pi = (flat @ flat.transpose(0, 2, 1)).sum(axis=0) / (COPIES * N)
        return np.concatenate([x.mean(axis=1).ravel(), Phi[pair], Pi[lag], [action.S(phi) / COPIES]])

    def run(updater, n):
        return estimates(sample(action, graph, updater, observe, n))

    updater = HeatBath() if storage == "sparse" else Metropolis()
    found = run(updater, 4000)
    for e, value in zip(found, expected, strict=True):
        assert_agrees(e, value, Z_MAX)
        assert e.error < 0.01 * max(abs(value), 0.3)
    if storage == "sparse":
        assert is_rejected(run(Weak(updater, 0.93), 2000), expected)
    if boundary == "periodic":
        assert is_rejected(run(StaleHalo(updater), 2000), expected)


# --- discrete Schwinger-Dyson (Callen): <phi_i X> = <X P(phi_i = high)>, X free of phi_i


def callen(target, sampled, geometry, updater, n):
    """Estimates of the violation, X = 1 and X = the neighbor in the first direction; 0 if the law holds."""
    phi = sampled.new_field(geometry)
    _, plan = target.bind(phi)
    p, q = sites(plan)
    if plan.active is not None:
        inside = plan.active[q] > 0
        p, q = p[inside], q[inside]

    def observe(phi):
        kernel, plan = target.bind(phi)
        flat = phi.data.reshape(-1)
        high = 1 / (1 + np.exp(binary.raising(kernel, flat, p, q)))
        difference = flat[p] - (kernel.low + (kernel.high - kernel.low) * high)
        return difference.mean(), (difference * flat[p + plan.offsets[0]]).mean()

    return estimates(sample(sampled, geometry, updater, observe, n))


CALLEN = {
    "ising": (
        Ising(K=(0.3, 0.2, 0.25), h=0.1),
        Lattice((9, 8, 7), ("x", "y", "t"), ("open", "periodic", "periodic")),
    ),
    "ising, longer range": (
        Ising(K={(1, 0): 0.2, (1, 1): 0.15, (2, 0): -0.2}, h=np.linspace(-0.5, 0.5, 200).reshape(20, 10)),
        Lattice((20, 10), mask=np.random.default_rng(2).random((20, 10)) < 0.8),
    ),
    "neural": (
        Neural(
            A=csr_matrix(np.where(abs(np.subtract.outer(range(30), range(30))) == 1, -0.3, 0.0)),
            B={1: -0.3, 3: 0.2},
            I=0.6,
        ),
        Graph(30, 25, "periodic"),
    ),
}


@pytest.mark.parametrize("updater", [Metropolis(), HeatBath()], ids=lambda u: u.name)
@pytest.mark.parametrize("name", CALLEN)
def test_discrete_schwinger_dyson(name, updater):
    action, geometry = CALLEN[name]
    agree(callen(action, action, geometry, updater, 2000), (0, 0), 2e-3)
    assert is_rejected(callen(action, action, geometry, Weak(updater, 0.9), 2000), (0, 0))


# --- real fields


@pytest.mark.parametrize("updater", [Metropolis(1.4), HMC(8, 1.0)], ids=lambda u: u.name)
@pytest.mark.parametrize("boundary", ["periodic", ("periodic", "open")], ids=["periodic", "mixed"])
def test_free_field(updater, boundary):
    shape, kappa = (16, 18), (0.12, 0.08)
    lattice, action = Lattice(shape, boundary=boundary), Phi4(kappa=kappa, lam=0.0)
    exact = free_field(shape, kappa, [b == "periodic" for b in lattice.boundary])
    counts = np.array([lattice.count_bonds(d) for d in lattice.unit_displacements()])

    def run(updater, n):
        def observe(phi):
            return np.append(action.bond_sums(phi) / counts, action.moments(phi)[0] / lattice.n_sites)

        return estimates(sample(action, lattice, updater, observe, n))

    expected = (*exact.bonds, exact.phi2)
    bond_x, bond_y, phi2 = run(updater, 12_000 if updater.name == "metropolis" else 5000)
    assert_agrees(phi2, exact.phi2, Z_MAX, 2e-3)
    assert_agrees(bond_x, exact.bonds[0], Z_MAX, 2e-2)
    assert_agrees(bond_y, exact.bonds[1], Z_MAX, 2e-2)
    assert is_rejected(run(Weak(updater, 0.8), 1500), expected)


def test_independent_sites_follow_their_own_law():
    # kappa = 0: many copies of one site; both updaters, both moments
    lattice = Lattice((40, 40))
    for lam in (0.3, 1.5):
        exact, action = single_site_phi4(lam), Phi4(kappa=0.0, lam=lam)

        def run(updater, n, action=action):
            return estimates(
                sample(action, lattice, updater, lambda phi: np.array(action.moments(phi)) / 1600, n)
            )

        for updater in (Metropolis(1.5), HMC(8, 1.0)):
            agree(run(updater, 1500), (exact["phi2"], exact["phi4"]), 3e-3)
        assert is_rejected(run(Hot(8, 1.0), 1000), (exact["phi2"], exact["phi4"]))
        assert is_rejected(run(SlowMetropolis(1.5, is_one_number=True), 500), (exact["phi2"], exact["phi4"]))


PHI4 = Phi4(kappa=(0.18, 0.14), lam=0.5)
TORUS = Lattice((24, 20))


def phi4_observables(phi):
    """<phi dS/dphi> (1), <phi_(x+1) dS/dphi_x> (0), the latter across the seam alone; the force in numpy."""
    x, (k0, k1), lam = phi.values, PHI4.couplings["kappa"], PHI4.couplings["lam"]
    sums = k0 * (np.roll(x, 1, 0) + np.roll(x, -1, 0)) + k1 * (np.roll(x, 1, 1) + np.roll(x, -1, 1))
    gradient = 2 * x + 4 * lam * x * (x * x - 1) - 2 * sums
    across = np.roll(x, -1, 0) * gradient
    return (x * gradient).mean(), across.mean(), across[-1].mean()


def schwinger_dyson(updater, n):
    return estimates(sample(PHI4, TORUS, updater, phi4_observables, n))


@pytest.mark.parametrize(
    "updater",
    [Metropolis(1.3), HMC(6, 1.0), HMC(3, 1.0, "omelyan2"), HMC(2, 1.0, "omelyan4"), SlowMetropolis(1.3)],
    ids=["metropolis", "leapfrog", "omelyan2", "omelyan4", "metropolis in numpy"],
)
def test_schwinger_dyson_of_phi4(updater):
    one, zero, seam = schwinger_dyson(updater, 2200 if isinstance(updater, HMC) else 5000)
    assert_agrees(one, 1.0, Z_MAX, 3e-3)
    assert_agrees(zero, 0.0, Z_MAX, 3e-3)
    assert_agrees(seam, 0.0, Z_MAX, 1e-2)


@pytest.mark.parametrize(
    ("mutant", "n"),
    [
        (SlowMetropolis(1.3, exponent=0.98), 3000),
        (SlowMetropolis(1.3, is_one_number=True), 500),
        (Careless(4, 1.2), 500),
        (Hot(6, 1.0), 1000),
        (FlippedSign(4, 1.2), 1000),
        (StaleHalo(HMC(6, 1.0)), 5000),
        (StaleHalo(Metropolis(1.3)), 1500),
        (Weak(Metropolis(1.3), 0.9), 2500),
        (Weak(HMC(6, 1.0), 0.9), 1500),
    ],
    ids=[
        "exp(-0.98 dS)",
        "one number",
        "always accepted",
        "momenta 1.05",
        "flipped sign",
        "stale halo",
        "stale halo m",
        "metropolis kappa 0.9",
        "hmc kappa 0.9",
    ],
)
def test_broken_updates_of_phi4_are_rejected(mutant, n):
    assert is_rejected(schwinger_dyson(mutant, n), (1, 0, 0))


# --- spins with arbitrary couplings, on many chains

GLASS = np.triu(np.random.default_rng(12).normal(0, 0.35, (7, 7)), 1)
GLASS[6] = GLASS[:, 6] = 0.0  # unit 6 is coupled to nothing; with no field its flips cost nothing
PAIRWISE = Pairwise(J=GLASS + GLASS.T, h=np.array([0.3, -0.2, 0.0, 0.5, -0.4, 0.1, 0.0]))
CHAINS = Graph(7, 40)


def glass_observables(phi):
    """The observables of a run, and a correlation inside and outside the couplings."""
    values = measure_all(default_observables(PAIRWISE, CHAINS), PAIRWISE, State(phi, 0))
    s = phi.values
    pairs = [(s[:, 0] * s[:, 3]).mean(), (s[:, 2] * s[:, 6]).mean()]
    return np.concatenate([[values[n] for n in ("m2", "m4", "action_density")], values["rate"], pairs])


def glass_exact():
    s = enumerate_states(7).astype(float)
    S = -0.5 * np.einsum("ai,ij,aj->a", s, PAIRWISE.couplings["J"], s) - s @ PAIRWISE.couplings["h"]
    p = np.exp(-S) / np.exp(-S).sum()
    m = s.mean(axis=1)
    return np.concatenate([[p @ m**2, p @ m**4, p @ S / 7], p @ s, [p @ (s[:, 0] * s[:, 3]), p @ (s[:, 2] * s[:, 6])]])


@pytest.mark.parametrize("updater", [Metropolis(), HeatBath()], ids=lambda u: u.name)
def test_pairwise_spins_against_enumeration(updater):
    agree(estimates(sample(PAIRWISE, CHAINS, updater, glass_observables, 3000)), glass_exact(), None)
    assert is_rejected(estimates(sample(PAIRWISE, CHAINS, Weak(updater, 0.95), glass_observables, 3000)), glass_exact())


RINGS = {
    "lattice": (Ising(0.5), Lattice((8,))),
    "torus of four": (Ising(0.5), Lattice((2, 2))),
    "mask": (Ising(0.5), Lattice((3, 3), boundary="open", mask=np.arange(9).reshape(3, 3) != 4)),
    "graph": (Pairwise(0.5 * (np.roll(np.eye(8), 1, axis=1) + np.roll(np.eye(8), -1, axis=1))), Graph(8, 30)),
    "time": (Neural(B={1: -1.0}, I=2.0), Graph(5, 8, "periodic")),  # S = -2 phi phi' + 2 phi: K = 1/2 by s = 2 phi - 1
}


def ring_action(name, updater):
    """Mean action per site and its exact value for a closed chain of L spins at K (the torus of four doubles K)."""
    action, geometry = RINGS[name]
    L, K = (4, 1.0) if name == "torus of four" else (8, 0.5)
    t = math.tanh(K)
    bond = (t + t ** (L - 1)) / (1 + t**L)
    # of the gas: -2 phi phi' + 2 phi = -(s s' + s + s' + 1)/2 + s + 1 = -(s s')/2 + 1/2, s and s' on average alike
    exact = 0.5 - 0.5 * bond if name == "time" else -K * bond
    found = sample(action, geometry, updater, lambda phi: action.S(phi) / geometry.n_active, 6000)
    return estimates(found), exact


@pytest.mark.parametrize("name", RINGS)
def test_a_ring_under_metropolis_reaches_its_whole_space(name, monkeypatch):
    agree(*ring_action(name, Metropolis()), None)
    agree(*ring_action(name, HeatBath()), None)
    # mutant: flips that cost nothing are always accepted, and walls never turn around
    monkeypatch.setattr(type(RINGS[name][0]), "halves_ties", lambda self, geometry: False)
    found, exact = ring_action(name, Metropolis())
    assert abs(z_score(found[0], exact)) > 8


# --- one distribution, several updaters


def difference(found, other):
    return (found.value - other.value) / math.hypot(found.error, other.error)


def test_metropolis_and_hmc_sample_the_same_phi4():
    def run(updater, n, seed):
        return estimates(
            sample(
                PHI4,
                TORUS,
                updater,
                lambda phi: np.append(PHI4.bond_sums(phi), PHI4.moments(phi)) / 480,
                n,
                seed=seed,
            )
        )

    reference = run(Metropolis(1.3), 8000, 1)
    for updater in (HMC(6, 1.0), HMC(2, 1.2, "omelyan4")):
        assert all(
            abs(difference(a, b)) < Z_MAX for a, b in zip(reference, run(updater, 3500, 2), strict=True)
        )
    assert all(e.error < 0.01 * e.value for e in reference)
    assert any(
        abs(difference(a, b)) > Z_MAX for a, b in zip(reference, run(Hot(6, 1.0), 3500, 2), strict=True)
    )


@pytest.mark.parametrize("name", ["ising, longer range", "neural"])
def test_metropolis_and_heat_bath_sample_the_same_binary_field(name):
    action, geometry = CALLEN[name]

    def run(updater, n, seed):
        def observe(phi):
            return np.append(action.bond_sums(phi), [action.site_sum(phi), action.S(phi)]) / geometry.n_active

        return estimates(sample(action, geometry, updater, observe, n, seed=seed))

    reference = run(HeatBath(), 2000, 1)
    assert all(
        abs(difference(a, b)) < Z_MAX for a, b in zip(reference, run(Metropolis(), 2000, 2), strict=True)
    )
    assert all(e.error < 5e-3 for e in reference)
    weak = run(Weak(Metropolis(), 0.95), 2000, 2)
    assert any(abs(difference(a, b)) > Z_MAX for a, b in zip(reference, weak, strict=True))
