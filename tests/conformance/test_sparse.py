"""Chains on a sparse graph against the same chains done unit by unit in Python with the same random words.

The twin has its own coloring, fields and uniforms; the fields must be equal on every instruction set, for any number
of threads and ranks, and however the updates are cut into batches.
"""

import math
from decimal import Decimal

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import lft.sparse
from lft._kernels import ising_bits, sparse
from lft.actions import Neural, Pairwise
from lft.bits import heatbath_threshold, metropolis_threshold
from lft.domain import Domain
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Graph
from lft.rng import Key, Stream
from lft.sparse import ChainBits, Colored, Lanes
from lft.updaters import start
from tests.helpers import run_python

KEY = Key(2024, 5)
KINDS = [Colored, Lanes, ChainBits]
UPDATERS = ["metropolis", "heatbath"]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
every_updater = pytest.mark.parametrize("updater", UPDATERS)


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def loops(request):
    best = sparse.path()
    try:
        sparse.force(request.param)
    except ValueError:
        pytest.skip(f"no {request.param} here")  # the processor lacks it; the baseline path always runs
    yield request.param
    sparse.force(best)


def couplings(n, kind, seed=1, hub=0):
    """A random graph of mean degree 3 on units 2 to n - 1, unit 2 joined to ``hub`` others; 0 and 1 have no bond."""
    rng = np.random.default_rng(seed)
    pairs = {(i, j) for i, j in (sorted(rng.integers(2, n, 2)) for _ in range(3 * n // 2)) if i != j}
    pairs |= {(2, j) for j in range(3, 3 + hub)}
    a, b = np.array(sorted(pairs)).T
    value = rng.normal(0, 0.6, len(a)) if kind == "real" else rng.choice([-0.4, 0.4], len(a))
    J = csr_matrix((value, (a, b)), shape=(n, n))
    return J + J.T


def model(kind, with_h=True, n=40, hub=0, seed=1):
    h = np.zeros(n)
    if with_h:  # unit 0 is free, unit 1 has a field alone
        h[1::3] = 0.3
        if kind == "real":
            h[2:] += np.random.default_rng(2).normal(0, 0.2, n - 2)
    return Pairwise(J=couplings(n, kind, seed, hub), h=h)


def chains_of(cls, action, n_chains, updater, key=KEY):
    phi = action.new_field(Graph(action.couplings["J" if action.name == "pairwise" else "A"].shape[0], n_chains))
    start(phi, "hot", key)
    return cls(action, phi, updater)


# --- the twin


def uniform(cls, unit, chain, high, rule=None):
    """The 64 bits that decide about this unit of this chain."""
    if cls is ChainBits:
        low, lane = (unit & 0xFFFF) | unit >> 16 << 24 | chain // 128 << 36, chain % 128
        tail = sparse.random_block(low, high | 128 | lane, KEY.word)[0]
        if rule["single"]:
            return tail
        head = 0
        for k in range(sparse.HEAD):
            head = head << 1 | sparse.random_block(low, high | k, KEY.word)[lane // 64] >> lane % 64 & 1
        return head << 64 - sparse.HEAD | tail >> sparse.HEAD
    low, lane = (unit | chain // 8 << 32, chain % 8) if cls is Lanes else (unit // 8 | chain << 32, unit % 8)
    first = sparse.random_block(low, high, KEY.word)[lane // 4] >> 16 * (lane % 4) & 0xFFFF
    return first << 48 | sparse.random_block(low, high | 128 | lane, KEY.word)[0] >> 16


def slots(J, is_free):
    """Slot of each unit: greedy colors, each from a multiple of 32 on, the free units as a last color."""
    color = []
    for i in range(J.shape[0]):
        taken = {color[j] for j in J.indices[J.indptr[i] : J.indptr[i + 1]] if j < i}
        color.append(next(c for c in range(J.shape[0]) if c not in taken))
    top = max(color) + 1
    color = [top if f else c for c, f in zip(color, is_free, strict=True)]
    slot, base = {}, 0
    for c in range(top + 1):
        members = [i for i, k in enumerate(color) if k == c]
        slot.update({i: base + m for m, i in enumerate(members)})
        base += -(-len(members) // 32) * 32
    return slot


def twin(cls, J, h, s, updater, n_updates, beta=None):
    """Spins (chains, units) after these updates."""
    n_chains, n = s.shape
    s = s.astype(int)
    degree = np.diff(J.indptr)
    is_free = (degree == 0) & (h == 0)
    where = slots(J, is_free) if cls is Colored else {i: i for i in range(n)}
    stream = Stream.METROPOLIS if updater == "metropolis" else Stream.HEATBATH
    for t in range(n_updates):
        high = t << 16 | int(stream) << 12
        for chain in range(n_chains):
            factor = 1.0 if beta is None else beta[chain]
            for i in sorted(range(n), key=where.get):
                f = float(h[i])
                for e in range(J.indptr[i], J.indptr[i + 1]):
                    f += J.data[e] * s[chain, J.indices[e]]
                own = s[chain, i]
                if cls is ChainBits:
                    rule = lft.sparse.make_rule(int(degree[i]), abs(J.data).max(), float(h[i]), updater == "heatbath")
                    bits = uniform(cls, i, chain, high, rule)
                    f = float(round(f, 12))  # thresholds come from exact multiples of K
                    if updater == "heatbath":
                        is_likely = bits < heatbath_threshold(Decimal(abs(f)))
                        s[chain, i] = (1 if f >= 0 else -1) * (1 if is_likely else -1)
                    elif bits < (2**63 if degree[i] <= 2 and not f else metropolis_threshold(Decimal(-own * f))):
                        s[chain, i] = -own
                    continue
                u = ((uniform(cls, where[i], chain, high) >> 12) + 0.5) * 2.0**-52
                if updater == "heatbath":
                    s[chain, i] = 1 if -2 * f * factor < math.log((1 - u) / u) else -1
                elif 2 * own * f * factor + (math.log(2) if is_free[i] else 0) < -math.log(u):
                    s[chain, i] = -own
    return s


def as_spins(action):
    """J and h of an action on spins."""
    if action.name == "pairwise":
        return action.couplings["J"].tocsr(), np.broadcast_to(action.couplings["h"], action.couplings["J"].shape[:1])
    A, I = action.couplings["A"], action.couplings["I"]
    return (A * -0.5).tocsr(), -0.5 * (np.asarray(A.sum(axis=1)).ravel() + I)


@every_updater
@every_kind
@pytest.mark.parametrize("with_h", [False, True], ids=["no-field", "field"])
def test_sweeps_equal_their_twin(kind, updater, with_h, loops):
    action = model("pm" if kind is ChainBits else "real", with_h, n=24, hub=9)
    chains = chains_of(kind, action, 5 if kind is Colored else 67, updater)
    before = chains.phi.values.copy()
    chains.load()
    changed = sum(chains.sweep(t, KEY.word)[1] for t in range(2))
    chains.store()
    expected = twin(kind, *as_spins(action), before, updater, 2)
    assert np.array_equal(chains.phi.values, expected)
    assert changed > 0


@every_updater
def test_many_thresholds_are_compared_chain_by_chain(updater):
    J = couplings(90, "pm", hub=80)
    action = Pairwise(J=J * (0.01 / 0.4), h=0.003)
    chains = chains_of(ChainBits, action, 3, updater)
    before = chains.phi.values.copy()
    rule = lft.sparse.make_rule(int(np.diff(J.indptr)[2]), 0.01, 0.003, updater == "heatbath")
    assert rule["single"]
    chains.load()
    chains.sweep(0, KEY.word)
    chains.store()
    assert np.array_equal(chains.phi.values, twin(ChainBits, *as_spins(action), before, updater, 1))


def test_each_chain_has_its_own_temperature(loops):
    action, beta = model("real", n=20), np.linspace(0.2, 3, 35)
    phi = action.new_field(Graph(20, 35))
    start(phi, "hot", KEY)
    before = phi.values.copy()
    chains = Lanes(action, phi, "metropolis", beta)
    chains.load()
    for t in range(3):
        chains.sweep(t, KEY.word)
    chains.store()
    assert np.array_equal(phi.values, twin(Lanes, *as_spins(action), before, "metropolis", 3, beta))
    for wrong in (np.ones(34), np.zeros(35), np.full(35, np.nan)):
        with pytest.raises(InputError, match="beta"):
            chains.set_beta(wrong)


@every_updater
@every_kind
def test_spikes_are_the_spins_of_the_same_model(kind, updater):
    size = 2.0 if kind is ChainBits else 1.0
    A = couplings(30, "pm" if kind is ChainBits else "real") * size
    action = Neural(A=A, I=0.25)
    chains = chains_of(kind, action, 20, updater)
    before = 2 * chains.phi.values - 1
    chains.load()
    for t in range(2):
        chains.sweep(t, KEY.word)
    chains.store()
    chains.phi.check()
    J, h = as_spins(action)
    assert np.array_equal(2 * chains.phi.values - 1, twin(kind, J, chains.model.h, before, updater, 2))
    assert np.allclose(chains.model.h, h)


# --- what must not change a chain


def evolved(kind, action, n_chains, updater, n_updates=12, n_threads=1):
    chains = chains_of(kind, action, n_chains, updater)
    chains._threads = n_threads
    chains.load()
    changed = sum(chains.sweep(t, KEY.word)[1] for t in range(n_updates))
    chains.store()
    return chains.phi.values.copy(), changed


@every_updater
@every_kind
def test_instruction_sets_and_threads_give_the_same_bits(kind, updater):
    action = model("pm" if kind is ChainBits else "real", n=1000, hub=300)
    n_chains = {Colored: 3, Lanes: 150, ChainBits: 1100}[kind]
    best, results = sparse.path(), {}
    for name in ("baseline", "avx2", "avx512"):
        try:
            sparse.force(name)
        except ValueError:
            continue
        try:
            results[name] = evolved(kind, action, n_chains, updater)
            results[name + "-3"] = evolved(kind, action, n_chains, updater, n_threads=3)
        finally:
            sparse.force(best)
    first = results["baseline"]
    for name, (values, changed) in results.items():
        assert np.array_equal(values, first[0]) and changed == first[1], name


class Part:
    """A communicator that only tells which rank of how many this is."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size


@every_updater
@every_kind
def test_chains_cut_anywhere_give_the_same_bits(kind, updater):
    action = model("pm" if kind is ChainBits else "real", n=50)
    n_chains = {Colored: 5, Lanes: 171, ChainBits: 1301}[kind]
    whole, changed = evolved(kind, action, n_chains, updater)
    initial = chains_of(kind, action, n_chains, updater).phi.values
    for size in (2, 5):
        parts, total = [], 0
        for rank in range(size):
            geometry = Graph(50, n_chains)
            domain = Domain(geometry.storage_shape, geometry.storage_periodic, (0, 0), Part(rank, size))
            phi = Field(geometry, "spin", domain)
            phi.values[...] = initial[domain.slices]
            chains = kind(action, phi, updater)
            chains.load()
            total += sum(chains.sweep(t, KEY.word)[1] for t in range(12))
            chains.store()
            parts.append(phi.values)
        assert np.array_equal(np.concatenate(parts), whole) and total == changed


@every_kind
def test_loading_again_changes_nothing(kind):
    action = model("pm" if kind is ChainBits else "real", n=60)
    whole, _ = evolved(kind, action, 40, "metropolis", 9)
    chains = chains_of(kind, action, 40, "metropolis")
    for t in range(9):
        chains.load()
        chains.sweep(t, KEY.word)
        chains.store()
    assert np.array_equal(chains.phi.values, whole)


SCRIPT = """
import hashlib, sys
import numpy as np
from scipy.sparse import csr_matrix
from lft.actions import Pairwise
from lft.domain import world
from lft.geometry import Graph
from lft.implementations import choose
from lft.protocols import State
from lft.rng import Key
from lft.updaters import Metropolis, start
rng = np.random.default_rng(3)
J = np.triu(rng.choice([-0.5, 0, 0, 0, 0.5], (30, 30)), 1)
for matrix, n in ((J, 5), (J * rng.normal(size=J.shape), 77), (J, 300)):
    action = Pairwise(J=csr_matrix(matrix + matrix.T))
    phi = action.new_field(Graph(30, n), comm=world())
    start(phi, "hot", Key(4))
    loops = choose(action, Metropolis(), phi)
    state, _ = loops.advance(State(phi, 0), Key(4), 7)
    state, _ = loops.advance(state, Key(4), 6, is_untouched=True)
    whole = phi.array()
    if whole is not None:
        print(loops.name, hashlib.sha256(whole.tobytes()).hexdigest())
"""


def test_any_number_of_ranks_gives_the_same_bits(tmp_path):
    script = tmp_path / "chains.py"
    script.write_text(SCRIPT)
    results = []
    for ranks in (None, 3):
        done = run_python([script], tmp_path, ranks)
        assert done.returncode == 0, done.stderr
        results.append(done.stdout.strip())
    names = [line.split()[0] for line in results[0].splitlines()]
    assert names == ["pairwise-colored", "pairwise-lanes", "pairwise-bits"] and results[0] == results[1]


# --- single precision and fixed point settle only what they settle for certain


def in_double_precision(kind, action, n_chains, updater, monkeypatch, n_updates):
    with monkeypatch.context() as patch:
        patch.setattr(lft.sparse, "_CERTAIN", 1.0)  # every decision is left to double precision
        return evolved(kind, action, n_chains, updater, n_updates)[0]


@every_updater
@pytest.mark.parametrize("kind", [Colored, Lanes], ids=lambda k: k.__name__)
def test_rounding_never_decides(kind, updater, monkeypatch):
    action = model("real", n=3000, hub=400)
    n_chains, n_updates = (2, 120) if kind is Colored else (64, 6)
    values, _ = evolved(kind, action, n_chains, updater, n_updates)
    assert np.array_equal(values, in_double_precision(kind, action, n_chains, updater, monkeypatch, n_updates))
    monkeypatch.setattr(lft.sparse, "_CERTAIN", -3e-4)  # the broken twin claims more than it knows
    assert not np.array_equal(values, evolved(kind, action, n_chains, updater, n_updates)[0])


@pytest.mark.parametrize("kind", [Colored, Lanes], ids=lambda k: k.__name__)
def test_extreme_couplings_are_decided_exactly(kind, monkeypatch):
    h = np.zeros(40)
    h[3], h[4], h[5] = 1e6, -1e12, 1e-9
    action = Pairwise(J=couplings(40, "real") * 50, h=h)
    values, _ = evolved(kind, action, 20, "heatbath")
    assert np.array_equal(values, in_double_precision(kind, action, 20, "heatbath", monkeypatch, 12))
    assert (values[:, 3] == 1).all() and (values[:, 4] == -1).all()


def test_random_blocks_are_those_of_the_bit_sliced_lattice(loops):
    for low, high in [(0, 0), (5 | 3 << 32, 7 << 16 | 1 << 12 | 130), (2**64 - 1, 2**64 - 1)]:
        assert sparse.random_block(low, high, KEY.word) == ising_bits.random_block(low, high, KEY.word)


# --- set-up


def test_colors_separate_neighbors():
    chains = chains_of(Colored, model("real", n=500, hub=200), 1, "metropolis")
    J = chains.model
    group = chains.slot // 32
    rows = np.repeat(np.arange(J.n), J.degree)
    assert not (group[rows] == group[J.to]).any()
    assert len(set(chains.slot)) == J.n and chains.n_slots % 32 == 0


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_packing_and_unpacking_are_inverse(n, loops):
    rng = np.random.default_rng(n)
    values = rng.choice([-1, 1], (37, n)).astype(np.int8)
    words = np.zeros((n, 3), np.uint64)
    sparse.pack(values, 20, words, 1)
    assert np.array_equal((words[:, 1] >> np.uint64(23) & np.uint64(1)).astype(int) * 2 - 1, values[3])
    assert not words[:, ::2].any() and not (words[:, 1] & np.uint64((1 << 20) - 1)).any()
    for low, expected in ((-1, values), (0, (values + 1) // 2)):
        back = np.zeros_like(values)
        sparse.unpack(words, 1, 20, low, back)
        assert np.array_equal(back, expected)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_graphs_without_bonds_work(kind):
    action = Pairwise(J=csr_matrix((33, 33)), h=np.where(np.arange(33) == 5, 9.0, 0.0))
    values, changed = evolved(kind, action, 20, "metropolis", 30)
    assert (values[:, 5] == 1).all() and 0.4 < changed / (30 * 20 * 32) < 0.6


DENSE = np.array([[0, 0.5], [0.5, 0]])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Pairwise(J=DENSE), "not sparse"),
        (Neural(A=csr_matrix(DENSE), B={1: 0.2}), "couplings in time"),
        (Neural(A=None, I=1.0), "not sparse"),
        (Pairwise(J=csr_matrix(DENSE * 1e35)), "single precision"),
    ],
)
def test_what_does_not_fit_is_refused(action, message):
    with pytest.raises(InputError, match=message):
        Lanes(action, action.new_field(Graph(2, 8)), "metropolis")


def test_bits_need_couplings_of_one_size():
    action = Pairwise(J=couplings(20, "real"))
    with pytest.raises(InputError, match="several sizes"):
        ChainBits(action, action.new_field(Graph(20, 8)), "metropolis")
    action = Pairwise(J=couplings(400, "pm"), h=np.arange(400) / 400)
    with pytest.raises(InputError, match="different pairs"):
        ChainBits(action, action.new_field(Graph(400, 8)), "metropolis")
    with pytest.raises(InputError, match="t = -1"):
        chains_of(Lanes, model("real"), 8, "metropolis").sweep(-1, 0)
