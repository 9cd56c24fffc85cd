"""Cluster updates on every geometry, against labels found bond by bond in Python with the same numbers.

The twin knows the counters of ``lft/_kernels/clusters.pyx`` but neither its lists of lines nor its union-find.
"""

import numpy as np
import pytest
from cases import CASES, REAL, name_of

from lft._kernels import noise
from lft.actions import Ising, Phi4
from lft.clusters import SignFlips, SwendsenWang, Wolff, clusters_of
from lft.errors import InputError
from lft.geometry import Graph, Lattice
from lft.protocols import State
from lft.rng import GLOBAL_SITE, Key, Stream
from lft.updaters import HMC, HeatBath, Metropolis, Overrelax, Sequence, reflection_centers

KEY = Key(77, 2)
T = 2**34 + 3
SPIN = [c for c in CASES if c.action.name in ("ising", "pairwise")]
every_case = pytest.mark.parametrize("case", SPIN, ids=name_of)


def number(site, draw, word, t=T, stream=Stream.CLUSTER, kind="exponential"):
    return KEY.fill(kind, int(site), 1, 1, t, stream, draw)[word][0]


def sites_of(case):
    """Global site of every active site (order of ``Case.active``) and the inverse map over the lattice."""
    g = case.geometry
    whole = np.arange(g.n_sites).reshape(g.storage_shape)
    site = g.from_storage(whole)[case.mask]
    return site, {int(s): i for i, s in enumerate(site)}


def lattice_bonds(case, shift=0):
    """(i, j, 2K, variate) of every bond, with i, j positions in the order of ``Case.active``."""
    g, (_, position) = case.geometry, sites_of(case)
    couplings = case.action.bond_couplings(g)
    scale = 4.0 if case.is_real else 2.0
    for m, d in enumerate([d for d in couplings if g.joins(d)]):
        for x in np.argwhere(case.mask):
            y = x + d
            for axis, n in enumerate(g.shape):
                if g.boundary[axis] == "periodic" and n > 1:
                    y[axis] %= n
            if (y < 0).any() or (y >= g.shape).any() or not case.mask[tuple(y)]:
                continue
            own, other = (int(g.from_storage(np.arange(g.n_sites).reshape(g.storage_shape))[tuple(v)]) for v in (x, y))
            yield position[own], position[other], scale * couplings[d], number(own + shift, m // 2, m % 2)


def graph_bonds(case, shift=0):
    g, J = case.geometry, case.action.couplings["J"]
    J = J if isinstance(J, np.ndarray) else J.toarray()
    pairs = np.argwhere(np.triu(J, 1))
    blocks = (len(pairs) + 1) // 2
    for a in range(g.n_bins):
        for b, (i, j) in enumerate(pairs):
            e = number(a * blocks + b // 2 + shift * g.n_bins * blocks, 0, b % 2)
            yield a * g.n_units + i, a * g.n_units + j, 2 * J[i, j], e


def labels(case, x, shift=0):
    """Smallest position of each site's cluster, and the sites with an active bond to the ghost spin."""
    g, (site, _) = case.geometry, sites_of(case)
    is_graph = isinstance(g, Graph)
    number_of_bonds = 0 if is_graph else sum(g.joins(d) for d in case.action.bond_couplings(g))
    label = np.arange(len(x))
    bonds = graph_bonds(case, shift) if is_graph else lattice_bonds(case, shift * g.n_sites)
    for i, j, w, e in bonds:
        if w * x[i] * x[j] > e:
            label[label == max(label[i], label[j])] = min(label[i], label[j])
    tied = np.zeros(len(x), bool)
    if np.any(case.h):
        draw, word = (1, 0) if is_graph else (number_of_bonds // 2, number_of_bonds % 2)
        e = np.array([number(s + shift * g.n_sites, draw, word) for s in site])
        tied = -2 * case.h * x > e
    return label, tied


def smallest_sites(case, label):
    """Smallest global site of each label (positions follow the user's order, sites the stored one)."""
    site, _ = sites_of(case)
    return {k: int(site[label == k].min()) for k in np.unique(label)}


@every_case
def test_swendsen_wang_equals_its_twin(case):
    phi = case.new_field(9)
    x = case.active(phi)
    label, tied = labels(case, x)
    changed = 0
    for k, first in smallest_sites(case, label).items():
        members = label == k
        if tied[members].any():
            continue
        u, v = KEY.fill("uniform", first // 64, 1, 1, T, Stream.CLUSTER_FLIP)
        word = int(u[0] * 2**32) << 32 | int(v[0] * 2**32)
        if word >> first % 64 & 1:
            x[members] *= -1
            changed += members.sum()
    state, info = SwendsenWang().step(case.action, State(phi, T), KEY)
    assert np.array_equal(case.active(phi), x)
    assert (state.t, info.proposed, info.accepted) == (T + 1, case.geometry.n_active, changed)
    assert not phi.array()[~case.mask].any()
    refreshed = phi.copy()
    refreshed.exchange()
    assert np.array_equal(refreshed.data, phi.data)


def seeds(case, n):
    """Positions at which cluster ``n`` begins: one on a lattice, one per bin of a graph."""
    g, (_, position) = case.geometry, sites_of(case)
    if isinstance(g, Graph):
        u = [number(a + n * g.n_bins, 0, 0, stream=Stream.CLUSTER_SEED, kind="uniform") for a in range(g.n_bins)]
        return [a * g.n_units + int(v * g.n_units) for a, v in enumerate(u)]
    u = number(GLOBAL_SITE - n, 0, 0, stream=Stream.CLUSTER_SEED, kind="uniform")
    return [position[sorted(position)[int(u * g.n_active)]]]


@every_case
def test_wolff_equals_its_twin(case):
    phi = case.new_field(9)
    x = case.active(phi)
    proposed = accepted = 0
    for n in range(2):
        label, tied = labels(case, x, n)
        for seed in seeds(case, n):
            members = label == label[seed]
            proposed += members.sum()
            if not tied[members].any():
                x[members] *= -1
                accepted += members.sum()
    state, info = Wolff(2).step(case.action, State(phi, T), KEY)
    assert np.array_equal(case.active(phi), x)
    assert (state.t, info.proposed, info.accepted) == (T + 1, proposed, accepted)
    refreshed = phi.copy()
    refreshed.exchange()
    assert np.array_equal(refreshed.data, phi.data)


@pytest.mark.parametrize("case", REAL, ids=name_of)
def test_sign_flips_equal_their_twin(case):
    phi = case.new_field(9)
    x = case.active(phi)
    label, _ = labels(case, x)
    for k, first in smallest_sites(case, label).items():
        u, v = KEY.fill("uniform", first // 64, 1, 1, T, Stream.CLUSTER_FLIP)
        if (int(u[0] * 2**32) << 32 | int(v[0] * 2**32)) >> first % 64 & 1:
            x[label == k] *= -1
    SignFlips().step(case.action, State(phi, T), KEY)
    assert np.array_equal(case.active(phi), x)
    assert not phi.array()[~case.mask].any()


@pytest.mark.parametrize("case", REAL, ids=name_of)
def test_overrelaxation_equals_its_twin(case):
    phi = case.new_field(9)
    x, (site, position) = case.active(phi), sites_of(case)
    _, plan = case.action.bind(phi)
    table, scale = reflection_centers(case.action.couplings["lam"])
    accepted = 0
    for _, _, first, count in plan.classes:
        for s0, n in zip(first, count, strict=True):
            half = (int(n) + 1) // 2
            for m in range(int(n)):
                i = position.get(int(s0) + plan.step * m)
                if i is None:
                    continue
                block = int(s0) + plan.step * (m % half)
                e = number(block, 0, m // half, stream=Stream.OVERRELAX)
                f = -0.5 * case.J[i] @ x
                r = abs(f) * scale
                k = min(int(r), len(table) - 2)
                new = np.sign(f) * 2 * (table[k] + (r - k) * (table[k + 1] - table[k])) - x[i]
                if case.dS(x, i, new) < e:
                    x[i], accepted = new, accepted + 1
    _, info = Overrelax().step(case.action, State(phi, T), KEY)
    assert case.active(phi) == pytest.approx(x, abs=1e-11) and info.accepted == accepted
    assert len(site) == info.proposed and not phi.array()[~case.mask].any()


@pytest.mark.parametrize("path", ["avx512", "avx2", "baseline"])
def test_instruction_sets_give_the_same_chain(path):
    action, lattice, best = Ising(0.44, h=0.01), Lattice((20, 33)), noise.instruction_set()

    def chain():
        phi = action.new_field(lattice)
        phi.values[...] = 1
        phi.exchange()
        for t in range(4):
            SwendsenWang().step(action, State(phi, t), KEY)
            Wolff(3).step(action, State(phi, t), KEY)
        return phi.values.copy()

    expected = chain()
    try:
        noise.force_instruction_set(path)
    except ValueError:
        pytest.skip(f"this processor has no {path}")  # baseline always runs
    try:
        assert np.array_equal(chain(), expected)
    finally:
        noise.force_instruction_set(best)


def test_wide_labels_give_the_same_clusters():
    action, lattice = Ising(0.44), Lattice((12, 10))
    fields = []
    for dtype in (np.int32, np.int64):
        phi = action.new_field(lattice)
        phi.values[...] = 1
        phi.exchange()
        clusters = clusters_of(action, phi)
        clusters.parent = clusters.parent.astype(dtype)
        SwendsenWang().step(action, State(phi, 1), KEY)
        fields.append(phi.values.copy())
    assert np.array_equal(*fields) and (fields[0] == -1).any()


def test_members_of_a_sequence_draw_different_numbers():
    with pytest.raises(InputError, match=r"Wolff\(clusters=1\) draw the same random numbers \(stream CLUSTER\)"):
        Sequence([SwendsenWang(), Wolff()])
    with pytest.raises(InputError, match="at least one update"):
        Sequence([])
    assert repr(Sequence([HMC(3), Overrelax(2)])).startswith("Sequence([HMC(steps=3,")
    assert Sequence([Metropolis(), HeatBath()]).kinds == ("spin", "gas")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wolff(0), "clusters = 0: valid is an integer >= 1"),
        (lambda: Wolff(True), "clusters = True"),
        (lambda: Overrelax(257), "sweeps = 257: valid is an integer from 1 to 256"),
        (lambda: SignFlips(1.5), "updates = 1.5"),
        (lambda: Overrelax().step(Ising(0.1), None, None), "'overrelax' works on the action phi4, not on 'ising'"),
        (lambda: SignFlips().step(Ising(0.1), None, None), "'sign-flips' works on the action phi4, not on 'ising'"),
        (lambda: Wolff().step(Phi4(0.1, 0.5), None, None), "'wolff' works on fields of kind spin"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
