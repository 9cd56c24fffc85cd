"""Sweeps with fixed-point fields against the same sweep done site by site in doubles with the same random words.

The chain must not depend on the resolution of the fields, on how a sweep is organized, on the instruction set, on
threads and on ranks.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import lft.cached
from lft._kernels import local_fields, noise
from lft.actions import Ising, Neural, Pairwise
from lft.cached import WAYS, CachedFields
from lft.errors import InputError
from lft.geometry import Graph, Lattice
from lft.rng import Key, Stream
from lft.updaters import start
from tests.helpers import run_python

KEY = Key(2024, 5)
UPDATERS = ["metropolis", "heatbath"]


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def loops(request):
    best = local_fields.path()
    try:
        local_fields.force(request.param)
    except ValueError:
        pytest.skip(f"no {request.param} here")  # the processor lacks it; the baseline path always runs
    yield request.param
    local_fields.force(best)


def matrix(n, size, seed, density=1.0):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(0, size, (n, n)) * (rng.random((n, n)) < density), 1)
    return upper + upper.T


def neural(n, n_bins, B, seed=1, boundary="open", sparse=False, mean=0.5):
    A = matrix(n, 0.6 / np.sqrt(n), seed, 0.2 if sparse else 1.0)
    I = np.random.default_rng(seed + 50).normal(mean, 0.4, n)
    return Neural(A=csr_matrix(A) if sparse else A, B=B, I=I), Graph(n, n_bins, boundary)


CASES = {
    "glass": (Pairwise(matrix(70, 0.12, 1), h=0.1), Graph(70, 5)),
    "glass-fields": (Pairwise(matrix(19, 0.3, 2), h=np.linspace(-1, 1, 19)), Graph(19, 70)),
    "glass-pair": (Pairwise(matrix(2, 0.3, 2)), Graph(2, 3)),
    "open": neural(33, 40, {1: -0.3, 2: 0.2}),
    "periodic": neural(16, 21, {1: -0.3, 3: 0.2}, 2, "periodic"),
    "no-lags": neural(65, 9, {}, 3),
    "long-lags": neural(5, 8, {2: 0.3, 4: -0.2, 9: 1.0}, 4),
    "rare": neural(40, 60, {1: -0.5}, 5, mean=3.5),
    "sparse": neural(90, 13, {1: -0.3, 2: 0.2}, 6, sparse=True),
    "empty-pattern": (Neural(A=csr_matrix((7, 7)), B={1: 0.3}, I=0.2), Graph(7, 9)),
    "no-matrix": (Neural(A=None, B={1: -0.4}, I=0.3), Graph(6, 11, "periodic")),
    "one-unit": (Neural(A=np.zeros((1, 1)), B={1: 0.4}, I=0.1), Graph(1, 9)),
}
every_case = pytest.mark.parametrize("case", CASES)
both_updates = pytest.mark.parametrize("updater", UPDATERS)


def ways_of(action):
    matrix = action.couplings.get("J", action.couplings.get("A"))
    return [w for w in WAYS if w != "blocked" or (isinstance(matrix, np.ndarray) and local_fields.has_blocked())]


def new_field(case, begin="hot", comm=None):
    action, graph = CASES[case]
    phi = action.new_field(graph, comm)
    start(phi, begin, KEY)
    return action, phi


def run(case, updater, way, n=3, t=2**33 + 7):
    action, phi = new_field(case)
    fields = CachedFields(action, phi, updater, way)
    fields.load()
    counts = [fields.sweep(t + k, KEY.word) for k in range(n)]
    return phi.values.copy(), counts, fields


# --- the twin


def word(bin_, unit, n, t, stream, draw):
    tiles = -(-n // 32)
    block = (bin_ * tiles + unit // 32) * 8 + unit % 8
    tail = (t >> 32 & 0xFFFF) << 16 | stream << 8 | draw
    counter = (block & 0xFFFFFFFF, block >> 32, t & 0xFFFFFFFF, tail)
    return noise.philox4x32(counter, (KEY.word & 0xFFFFFFFF, KEY.word >> 32))[unit % 32 // 8]


def uniform(bin_, unit, n, t, stream):
    k = word(bin_, unit, n, t, stream, 0) << 20 | word(bin_, unit, n, t, stream, 1) >> 12
    return (k + 0.5) / 2**52


def twin(case, updater, n_sweeps, t):
    """Fields and flips after each sweep, by S of the generic loops' formulas in numpy."""
    action, phi = new_field(case)
    n, n_bins = phi.geometry.n_units, phi.geometry.n_bins
    x, g = phi.values.astype(float), action.couplings
    is_spin, is_heatbath = action.kind == "spin", updater == "heatbath"
    M = g["J"] if is_spin else np.zeros((n, n)) if g["A"] is None else g["A"]
    M = M if isinstance(M, np.ndarray) else M.toarray()
    one = np.broadcast_to(g["h"] if is_spin else g["I"], n)
    stream = int(Stream.HEATBATH if is_heatbath else Stream.METROPOLIS)
    _, plan = action.bind(phi)
    counts = []
    for sweep in range(n_sweeps):
        flips = 0
        for _, _, sites, _ in plan.classes:
            for a in (int(s) // n for s in sites):
                for i in range(n):
                    if is_spin:
                        raising = -2 * (M[i] @ x[a] + one[i])
                    else:
                        raising = 2 * M[i] @ x[a] + one[i]
                        for lag, value in g["B"].items():
                            for b in (a - lag, a + lag):
                                if phi.geometry.boundary == "periodic":
                                    raising += 2 * value * x[b % n_bins, i]
                                elif 0 <= b < n_bins:
                                    raising += 2 * value * x[b, i]
                    u = uniform(a, i, n, t + sweep, stream)
                    is_high = x[a, i] > 0
                    if is_heatbath:
                        flip = (raising < np.log((1 - u) / u)) != is_high
                    else:
                        flip = (-raising if is_high else raising) < -np.log(u)
                    if flip:
                        x[a, i] = 1 - x[a, i] if not is_spin else -x[a, i]
                        flips += 1
        counts.append((x.size, flips))
    return x.astype(np.int8), counts


@both_updates
@every_case
def test_every_way_equals_the_twin(case, updater):
    values, counts = twin(case, updater, 2, 2**33 + 7)
    assert sum(c for _, c in counts) > 0
    for way in ways_of(CASES[case][0]):
        got = run(case, updater, way, 2)
        assert np.array_equal(got[0], values) and got[1] == counts, way


@both_updates
@every_case
def test_every_instruction_set_and_any_number_of_threads_give_the_same_bits(case, updater, loops, monkeypatch):
    for way in ways_of(CASES[case][0]):
        for n_threads in (1, 3):
            monkeypatch.setenv("LFT_THREADS", str(n_threads))
            values, counts, _ = run(case, updater, way, 5)
            digest = hashlib.sha256(values.tobytes()).hexdigest(), counts
            assert SEEN.setdefault((case, updater), digest) == digest, (way, n_threads)


SEEN = {}


# --- decisions


@both_updates
@pytest.mark.parametrize("case", ["glass", "open", "sparse"])
def test_decisions_in_doubles_are_those_of_clear_fields(case, updater, monkeypatch):
    # an enormous range of unclear decisions: everything is decided in doubles
    clear = {w: run(case, updater, w, 6) for w in ways_of(CASES[case][0])}
    monkeypatch.setattr(lft.cached, "LOG_ERROR", 30.0)
    monkeypatch.setattr(lft.cached, "MAX_SCALE", 2.0**16)
    monkeypatch.setattr(lft.cached, "MAX_WINDOW", 1e3)
    for way, (values, counts, fields) in clear.items():
        other = run(case, updater, way, 6)
        assert np.array_equal(values, other[0]) and counts == other[1], way
        assert fields.n_exact < 0.01 * values.size * 6 and other[2].n_exact > 0.9 * values.size * 6


@both_updates
def test_coarse_fields_change_nothing_but_without_their_margin_they_do(updater, monkeypatch):
    values, counts, _ = run("glass", updater, "kept", 40)
    monkeypatch.setattr(lft.cached, "MAX_SCALE", 64.0)
    monkeypatch.setattr(lft.cached, "MAX_WINDOW", 10.0)
    for way in ways_of(CASES["glass"][0]):
        coarse = run("glass", updater, way, 40)
        assert np.array_equal(coarse[0], values) and coarse[1] == counts and coarse[2].n_exact > 100
    # the broken twin: the same fields, believed to be exact
    monkeypatch.setattr(lft.cached.Couplings, "resolution", lambda self, log_error: (64.0, 0.0))
    wrong = run("glass", updater, "kept", 40)
    assert not np.array_equal(wrong[0], values)


@both_updates
def test_the_error_of_single_precision_stays_below_its_bound(updater, loops):
    rng = np.random.default_rng(8)
    edge = 2**local_fields.SPECIAL
    k = np.concatenate([rng.integers(0, 2**32, 2**18), edge + np.arange(2**15), 2**32 - 1 - edge - np.arange(2**15)])
    k = np.concatenate([k, 2 ** rng.uniform(18, 32, 2**17)]).astype(np.int64)
    scale, is_heatbath = 2.0**25, updater == "heatbath"
    T, special = local_fields.thresholds(k.astype(np.uint32), is_heatbath, scale, 0.0)
    is_inside = np.ones(len(k), bool)
    is_inside[special] = False
    outside = (k < edge) | (k >= 2**32 - edge)
    assert outside[special].all() and (special.size >= outside.sum())
    for end in (1e-9, 1 - 1e-9):  # the ends of the interval that a word stands for
        u = (k + end) / 2**32
        exact = np.log((1 - u) / u) if is_heatbath else -np.log(u)
        error = np.abs(T / scale - exact)[is_inside].max()
        assert error < lft.cached.LOG_ERROR * (2 if is_heatbath else 1), error


# --- choice, bad input


@pytest.mark.parametrize(
    ("action", "graph", "updater", "message"),
    [
        (Pairwise(csr_matrix(matrix(9, 0.3, 1))), Graph(9, 3), "metropolis", "sparse"),
        (Neural(I=np.ones(3)), Graph(3, 4), "hmc", "metropolis, heatbath"),
        (Neural(I=0.0), Graph(3, 4), "metropolis", "cost nothing"),
        (Neural(A=matrix(9, 1e9, 1)), Graph(9, 3), "heatbath", "fixed point"),
        (Ising(0.4), Lattice((8, 8)), "heatbath", "Neural and Pairwise"),
    ],
)
def test_what_the_generic_loops_must_serve_is_refused(action, graph, updater, message):
    phi = action.new_field(graph)
    assert not CachedFields.supports(action, phi, updater)
    with pytest.raises(InputError, match=message):
        CachedFields(action, phi, updater)


def test_unknown_ways_and_times_are_refused():
    action, phi = new_field("open")
    with pytest.raises(InputError, match="kept, fresh, blocked"):
        CachedFields(action, phi, "heatbath", "fast")
    fields = CachedFields(action, phi, "heatbath")
    fields.load()
    with pytest.raises(InputError, match="2\\^48"):
        fields.sweep(2**48, 1)


# --- decomposition

SCRIPT = """
import hashlib, json
import numpy as np
from lft.cached import CachedFields
from lft.domain import world
from lft.errors import DomainError
from tests.conformance.test_cached import CASES, KEY, new_field, ways_of

comm, out = world(), {}
for case in ("open", "periodic", "glass-fields", "sparse", "rare"):
    for updater in ("metropolis", "heatbath"):
        for way in ways_of(CASES[case][0]):
            action, phi = new_field(case, comm=comm)
            fields = CachedFields(action, phi, updater, way)
            fields.load()
            counts = [phi.domain.sum_int(np.array(fields.sweep(t, KEY.word))).tolist() for t in range(4)]
            whole = phi.array()
            if whole is not None:
                out[f"{case} {updater} {way}"] = [counts, hashlib.sha256(whole.tobytes()).hexdigest()]
if out:
    print(json.dumps(out))
"""


def test_the_chain_does_not_depend_on_the_number_of_ranks(tmp_path):
    script = tmp_path / "spread.py"
    script.write_text(SCRIPT)
    results = []
    for ranks in (None, 2, 3, 4):
        done = run_python([script], tmp_path, ranks, env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])})
        assert done.returncode == 0, done.stderr
        results.append(done.stdout.strip())
    assert len(results[0]) > 100 and len(set(results)) == 1
