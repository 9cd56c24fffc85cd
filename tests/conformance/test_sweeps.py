"""Every updater on every geometry, against the same update done site by site in numpy with the same numbers.

The twin takes its classes from the coloring's definition, visits the sites of a class in reverse (inside a
class the order is free), and draws each number from its own counter.  The fields must be equal.
"""

import numpy as np
import pytest
from cases import BINARY, CASES, REAL, name_of
from scipy.sparse import csr_matrix

from lft.actions import Ising, Neural, Pairwise
from lft.domain import Domain
from lft.errors import DomainError, InputError
from lft.geometry import Graph, Lattice
from lft.integrators import SCHEMES
from lft.plan import Plan
from lft.protocols import State, Updater
from lft.rng import Key, Stream
from lft.updaters import HMC, UPDATERS, HeatBath, Metropolis, start

KEY = Key(2024, 1)
every_case = pytest.mark.parametrize("case", CASES, ids=name_of)


def class_sites(case, coloring):
    """Positions of the active sites (order of ``Case.active``) of each class, in the order of update."""
    g = case.geometry
    x = [g.from_storage(c)[case.mask] for c in np.indices(g.storage_shape)]
    color = sum(a * c for a, c in zip(coloring.coefficients, x, strict=True)) % coloring.modulus
    out = []
    for value, flags in coloring.classes():
        inside = color == value
        for c, w, n, flag in zip(x, coloring.seam, g.storage_shape, flags, strict=True):
            if w:
                inside &= (c >= n - w) == flag
        out.append(np.flatnonzero(inside))
    return out


def walk(case, coloring):
    """Sites in the order of a sweep; inside a class backwards, but the units of a graph in order."""
    for sites in class_sites(case, coloring):
        if coloring.sequential:
            n = case.geometry.n_units
            slices = sorted({int(i) // n for i in sites}, reverse=True)
            yield from (i for a in slices for i in sites if i // n == a)
        else:
            yield from sites[::-1]


def coloring_of(case):
    return case.geometry.coloring(case.action.displacements(case.geometry))


# --- the coloring


@every_case
def test_classes_partition_the_sites_and_do_not_interact(case):
    phi = case.new_field()
    _, plan = case.action.bind(phi)
    _, _, site = case.addresses(phi)
    position = {int(s): i for i, s in enumerate(site)}
    seen = []
    for _, _, first, count in plan.classes:
        visited = [int(s) + plan.step * m for s, n in zip(first, count, strict=True) for m in range(int(n))]
        members = [position[s] for s in visited if s in position]
        seen += visited
        block = case.J[np.ix_(members, members)]
        if isinstance(case.geometry, Graph):  # units of one slice do interact
            time = np.array(members) // case.geometry.n_units
            block = np.where(time[:, None] == time, 0, block)
        assert not block.any()
    assert len(seen) == len(set(seen)) == case.geometry.n_sites
    assert set(position) <= set(seen)


@every_case
def test_addresses_of_segments_agree_with_those_of_lines(case):
    phi = case.new_field()
    _, plan = case.action.bind(phi)
    everywhere = {}
    for p, q, site in zip(plan.line_p, plan.line_q, plan.line_site, strict=True):
        everywhere.update({int(site) + j: (int(p) + j, int(q) + j) for j in range(plan.length)})
    for p0, q0, first, count in plan.classes:
        for p, q, site, n in zip(p0, q0, first, count, strict=True):
            for m in range(0, int(n) * plan.step, plan.step):
                assert everywhere[int(site) + m] == (int(p) + m, int(q) + m)


@pytest.mark.parametrize("n_ranks", [2, 3, 4, 6])
@pytest.mark.parametrize("case", CASES[::3], ids=name_of)
def test_ranks_share_each_class(case, n_ranks):
    # the classes of all ranks together are those of a serial run, in the same order
    g, d = case.geometry, case.action.displacements(case.geometry)

    class Rank:
        def __init__(self, rank):
            self.Get_rank, self.Get_size = (lambda: rank), (lambda: n_ranks)

    try:
        domains = [Domain(g.storage_shape, g.storage_periodic, g.halo(d), Rank(r)) for r in range(n_ranks)]
    except DomainError:
        assert n_ranks > 1
        return
    plans = [Plan(g, domain, d) for domain in domains]
    serial = case.action.bind(case.new_field())[1]

    def sites(segments, step):
        return {
            int(s) + step * m for s, n in zip(segments[2], segments[3], strict=True) for m in range(int(n))
        }

    together = [
        set().union(*(sites(p.classes[k], p.step) for p in plans)) for k in range(len(plans[0].classes))
    ]
    assert [c for c in together if c] == [c for c in (sites(c, serial.step) for c in serial.classes) if c]
    assert sum(p.n_active_local for p in plans) == g.n_active


# --- sweeps


@pytest.mark.parametrize("updater", [Metropolis, HeatBath], ids=lambda u: u.name)
@pytest.mark.parametrize("case", BINARY, ids=name_of)
def test_binary_sweep_equals_its_twin(case, updater):
    phi = case.new_field(9)
    low, high = case.low_high
    _, _, site = case.addresses(phi)
    x, t, is_heatbath = case.active(phi), 2**33 + 5, updater is HeatBath
    stream = Stream.HEATBATH if is_heatbath else Stream.METROPOLIS
    changed = 0
    for i in walk(case, coloring_of(case)):
        raising = case.dS(np.where(np.arange(len(x)) == i, low, x), i, high)
        u, v = KEY.fill("logistic" if is_heatbath else "uniform", int(site[i]), 1, 1, t, stream)
        if is_heatbath:
            new = high if raising < u[0] else low
        else:
            dS = raising if x[i] == low else -raising
            is_tie = dS == 0 and case.action.halves_ties(case.geometry)
            is_accepted = dS < -np.log(u[0]) and not (is_tie and v[0] >= 0.5)
            new = low + high - x[i] if is_accepted else x[i]
        changed += new != x[i]
        x[i] = new
    state, info = updater().step(case.action, State(phi, t), KEY)
    assert np.array_equal(case.active(state.phi), x)
    assert (state.t, info.proposed, info.accepted) == (t + 1, case.geometry.n_active, changed)
    refreshed = phi.copy()
    refreshed.exchange()
    assert np.array_equal(refreshed.data, phi.data)  # the halo is left fresh
    assert not phi.array()[~case.mask].any()


@pytest.mark.parametrize("case", REAL, ids=name_of)
def test_real_sweep_equals_its_twin(case):
    phi, width, t = case.new_field(9), 1.3, 77
    _, _, site = case.addresses(phi)
    x, accepted = case.active(phi), 0
    for i in walk(case, coloring_of(case)):
        u, v = KEY.fill("uniform", int(site[i]), 1, 1, t, Stream.METROPOLIS)
        new = x[i] + width * (2 * v[0] - 1)
        if case.dS(x, i, new) < -np.log(u[0]):
            x[i], accepted = new, accepted + 1
    state, info = Metropolis(width).step(case.action, State(phi, t), KEY)
    assert np.array_equal(case.active(phi), x)
    assert (state.t, info.proposed, info.accepted) == (t + 1, case.geometry.n_active, accepted)
    assert not phi.array()[~case.mask].any()


@pytest.mark.parametrize("integrator", SCHEMES)
@pytest.mark.parametrize("case", REAL, ids=name_of)
def test_trajectory_equals_its_twin(case, integrator):
    phi, t = case.new_field(9), 5
    g = case.geometry
    length = g.storage_shape[-1]
    half = (length + 1) // 2
    momenta = np.zeros(g.storage_shape)
    for line in np.ndindex(g.storage_shape[:-1]):  # block m serves m and m + half
        first = int(np.ravel_multi_index((*line, 0), g.storage_shape))
        u, v = KEY.fill("normal", first, 1, half, t, Stream.MOMENTUM)
        momenta[line] = np.append(u, v)[:length] if length % 2 == 0 else np.append(u, v[: half - 1])
    x, p = case.active(phi), g.from_storage(momenta)[case.mask]
    hmc = HMC(steps=3, length=0.45, integrator=integrator)
    old, before = x.copy(), case.S(x) + p @ p / 2
    for kick, drift in hmc.scheme.pairs(3, 0.15):
        p = p + kick * case.force(x)
        x = x + drift * p
    dH = case.S(x) + p @ p / 2 - before
    is_accepted = dH < KEY.exponential(t, Stream.ACCEPT)
    state, info = hmc.step(case.action, State(phi, t), KEY)
    assert info.dH == pytest.approx(dH, abs=1e-10 * max(1, abs(before)))
    assert case.active(phi) == pytest.approx(x if is_accepted else old, abs=1e-10)
    assert (state.t, info.accepted) == (t + 1, g.n_active if is_accepted else 0)
    assert not phi.array()[~case.mask].any()


def test_a_rejected_trajectory_leaves_no_trace():
    case = next(c for c in REAL if c.id == "phi4-axes-2d-odd")
    phi = case.new_field()
    before = phi.data.copy()
    _, info = HMC(steps=1, length=30.0).step(case.action, State(phi, 0), KEY)  # far beyond stability
    assert info.accepted == 0 and (info.dH > 1e3)
    assert np.array_equal(phi.data, before)
    with np.errstate(all="ignore"):
        _, info = HMC(steps=200, length=2e4).step(case.action, State(phi, 0), KEY)
    assert info.accepted == 0 and info.dH == np.inf and np.array_equal(phi.data, before)


# --- threads


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_threads_change_nothing(case, monkeypatch):
    for updater in (Metropolis(), HeatBath()):
        if case.action.kind not in updater.kinds:
            continue
        fields = []
        for n_threads in (1, 2, 5):
            monkeypatch.setenv("LFT_THREADS", str(n_threads))
            state, counts = State(case.new_field(), 0), []
            for _ in range(2):
                state, info = updater.step(case.action, state, KEY)
                counts.append(info.accepted)
            fields.append((state.phi.data.tobytes(), counts))
            assert len(case.action.bind(state.phi)[1].buffer) == n_threads
        assert fields[0] == fields[1] == fields[2]


# --- free couplings, and who may update what


@pytest.mark.parametrize("action", [Ising(K=0.0), Ising(K={(1, 0): 0.0}, h=np.zeros((6, 6)))])
def test_free_spins_under_metropolis_are_not_deterministic(action):
    phi = action.new_field(Lattice((6, 6)))
    start(phi, "cold", KEY)
    _, info = Metropolis().step(action, State(phi, 0), KEY)
    assert action.halves_ties(phi.geometry) and 0 < info.accepted < 36


def test_ties_are_halved_where_no_site_has_a_third_neighbor():
    pair, lone = np.array([[0, 0.1], [0.1, 0]]), np.zeros((3, 3))
    lone[:2, :2] = pair
    ring = 0.5 * (np.roll(np.eye(6), 1, axis=1) + np.roll(np.eye(6), -1, axis=1))
    unequal = ring.copy()
    unequal[0, 1] = unequal[1, 0] = 0.3
    branched = ring.copy()
    branched[0, 3] = branched[3, 0] = 0.5
    wide = Graph(3, 5)
    halved = [
        (Neural(A=np.zeros((3, 3)), B={1: 0.0}), wide),
        (Neural(), wide),
        (Neural(A=csr_matrix(lone), I=np.zeros(3)), wide),
        (Neural(B={1: -0.5}, I=1.0), wide),  # a spin chain in time, by s = 2 phi - 1
        (Pairwise(J=lone), wide),
        (Pairwise(J=csr_matrix(lone), h=np.array([0.1, 0.1, 0.0])), wide),
        (Pairwise(J=ring), Graph(6, 2)),
        (Pairwise(J=csr_matrix(unequal)), Graph(6, 2)),
        (Ising(0.4), Lattice((8,))),
        (Ising(0.4), Lattice((2, 2))),
        (Ising((0.4, 0.0)), Lattice((5, 5))),
        (Ising({(1, 1): 0.4}), Lattice((4, 4))),
        (Ising(0.4), Lattice((3, 3), boundary="open", mask=np.arange(9).reshape(3, 3) != 4)),
    ]
    assert all(action.halves_ties(geometry) for action, geometry in halved)
    always = [
        (Neural(I=0.1), wide),
        (Neural(B={1: 0.1, 2: 0.1}), wide),
        (Neural(B={1: 0.1}, I=0.3), wide),
        (Pairwise(J=csr_matrix(pair)), Graph(2, 2)),
        (Pairwise(J=lone, h=np.array([0.0, 0.0, 0.1])), wide),
        (Pairwise(J=branched), Graph(6, 2)),
        (Pairwise(J=ring, h=0.1), Graph(6, 2)),
        (Ising(0.1), Lattice((3, 4))),
        (Ising(0.1), Lattice((2, 4))),
        (Ising({(1,): 0.1, (2,): 0.1}), Lattice((8,))),
    ]
    assert not any(action.halves_ties(geometry) for action, geometry in always)


def test_the_product_of_two_free_spins_changes_under_metropolis():
    # both flips cost nothing: were both always accepted, the product would stay what it is at the start
    J = np.zeros((4, 4))
    J[0, 1] = J[1, 0] = 0.5
    action = Pairwise(J=J)
    phi = action.new_field(Graph(4, 50))
    start(phi, "cold", KEY)
    state, seen = State(phi, 0), set()
    for _ in range(4):
        state, _ = Metropolis().step(action, state, KEY)
        seen |= set((phi.values[:, 2] * phi.values[:, 3]).tolist())
    assert seen == {-1, 1}


def test_updaters_satisfy_the_protocol_and_name_the_fields_they_cannot_update():
    fields = {c.action.kind: c for c in CASES}
    for name, updater in UPDATERS.items():
        assert isinstance(updater(), Updater) and updater.name == name
        for kind, case in fields.items():
            if kind in updater.kinds:
                updater().step(case.action, State(case.new_field(), 0), KEY)
            else:
                with pytest.raises(InputError, match=f"update '{name}' works on fields of kind .* valid are"):
                    updater().step(case.action, State(case.new_field(), 0), KEY)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Metropolis(0.0), "width"),
        (lambda: Metropolis(np.nan), "width"),
        (lambda: HMC(0), "steps"),
        (lambda: HMC(2.5), "steps"),
        (lambda: HMC(True), "steps"),
        (lambda: HMC(5, -1.0), "length"),
        (lambda: HMC(5, np.inf), "length"),
        (lambda: HMC(5, 1.0, "euler"), "leapfrog, omelyan2, omelyan4"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


@every_case
def test_starts_belong_to_sites_not_to_the_shape_of_memory(case):
    hot, cold = case.new_field(3), case.new_field(3)
    start(cold, "cold", KEY)
    x = case.active(cold)
    assert np.all(x == (1 if case.action.kind == "spin" else 0))
    _, _, site = case.addresses(hot)
    length = case.geometry.storage_shape[-1]
    for value, s in zip(case.active(hot), site, strict=True):
        u = Key(3).fill("normal" if case.is_real else "uniform", int(s), 1, 1, 0, Stream.START)[0][0]
        low, high = case.low_high
        assert value == (u if case.is_real else high if u < 0.5 else low), (s, length)
    with pytest.raises(InputError, match="valid are hot, cold"):
        start(hot, "warm", KEY)
