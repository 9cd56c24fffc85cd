"""Trajectories blocked in time have the bits of the generic loops: any lattice, blocking, threads, ranks."""

import hashlib

import numpy as np
import pytest

from lft._kernels import phi4_waves
from lft.actions import Ising, Phi4
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Graph, Lattice
from lft.protocols import State
from lft.rng import Key
from lft.updaters import HMC, start
from lft.wavefront import Blocking, Phi4Waves, choose_blocking
from tests.helpers import run_python

CASES = {
    "square": (Lattice((8, 8)), 0.2),
    "odd": (Lattice((7, 5)), (0.1, 0.25)),
    "open": (Lattice((6, 9), boundary="open"), 0.2),
    "mixed": (Lattice((9, 6), boundary=("periodic", "open")), (0.1, 0.3)),
    "long rows": (Lattice((5, 521)), 0.2),
    "many rows": (Lattice((300, 3)), 0.2),
    "time in the middle": (Lattice((4, 6, 5), ("x", "t", "y"), ("open", "periodic", "periodic")), (0.1, 0.2, 0.15)),
    "cube": (Lattice((6, 5, 17)), 0.15),
    "open in the middle": (Lattice((5, 4, 8), boundary=("periodic", "open", "open")), 0.15),
    "four axes": (Lattice((3, 4, 5, 6)), 0.1),
    "four axes and time": (Lattice((3, 2, 5, 4), ("x", "y", "z", "t"), ("open", "periodic", "open", "periodic")), 0.1),
    "two sites": (Lattice((2, 2)), 0.1),
    "one axis": (Lattice((9,)), 0.2),
    "an axis of one site": (Lattice((5, 1, 7)), 0.1),
    "one row": (Lattice((1, 33)), 0.2),
    "no bonds along rows": (Lattice((6, 16)), {(1, 0): 0.2}),
    "bonds in another order": (Lattice((6, 16)), {(0, 1): 0.2, (1, 0): 0.1}),
    "negative and zero": (Lattice((6, 8, 8)), (-0.1, 0.0, 0.2)),
}


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def loops(request):
    """Each set of loops in turn."""
    best = phi4_waves.path()
    try:
        phi4_waves.force(request.param)
    except ValueError:
        pytest.skip("this processor lacks the instructions")  # baseline always runs
    yield request.param
    phi4_waves.force(best)


def generic(lattice, action, updater, n, key):
    """Field and energy changes of ``n`` trajectories of the generic loops."""
    phi = action.new_field(lattice)
    start(phi, "hot", key)
    state, changes = State(phi, 0), []
    for _ in range(n):
        state, info = updater.step(action, state, key)
        changes.append((info.accepted > 0, info.dH))
    return phi.data, changes


def blocked(lattice, action, updater, n, key, **options):
    """The same by passes."""
    phi = action.new_field(lattice)
    start(phi, "hot", key)
    waves = Phi4Waves(action, phi, updater, **options)
    waves.load()
    changes = [waves.trajectory(t, key) for t in range(n)]
    waves.store()
    return phi.data, changes


def assert_same(a, b):
    assert np.array_equal(a[0], b[0])
    assert a[1] == b[1]


@pytest.mark.parametrize("case", CASES)
def test_the_bits_are_those_of_the_generic_loops(case, loops):
    lattice, kappa = CASES[case]
    action, key = Phi4(kappa, 0.4), Key(5)
    updater = HMC(5, 1.0, "omelyan2")
    want = generic(lattice, action, updater, 3, key)
    assert_same(blocked(lattice, action, updater, 3, key), want)
    for blocking in (Blocking(1), Blocking(3, 2, 3), Blocking(10, 1, 1), Blocking(4, 3, 7)):
        for n_threads in (1, 3):
            found = blocked(lattice, action, updater, 3, key, blocking=blocking, n_threads=n_threads)
            assert_same(found, want)


@pytest.mark.parametrize("integrator", ["leapfrog", "omelyan2", "omelyan4"])
@pytest.mark.parametrize("steps", [1, 2, 70])
def test_any_integrator_and_number_of_steps(integrator, steps):
    lattice, action, key = Lattice((12, 10)), Phi4(0.25, 0.7), Key(9)
    updater = HMC(steps, 0.1 * steps, integrator)
    assert_same(blocked(lattice, action, updater, 2, key), generic(lattice, action, updater, 2, key))


def test_a_trajectory_that_diverges_is_rejected_like_the_generic_one():
    lattice, action, key, updater = Lattice((8, 8)), Phi4(0.2, 5.0), Key(2), HMC(12, 40.0)
    found, want = (f(lattice, action, updater, 2, key) for f in (blocked, generic))
    assert_same(found, want)
    assert found[1] == [(False, np.inf)] * 2


def test_acceptance_is_that_of_the_generic_loops():
    lattice, action, key, updater = Lattice((10, 12)), Phi4(0.22, 0.3), Key(4), HMC(4, 1.2)
    found, want = (f(lattice, action, updater, 40, key) for f in (blocked, generic))
    assert_same(found, want)
    accepted = sum(a for a, _ in found[1])
    assert 5 < accepted < 38  # both branches


# --- broken twins


def test_a_margin_that_is_one_row_short_is_seen(monkeypatch):
    lattice, action, key, updater = Lattice((12, 8)), Phi4(0.2, 0.4), Key(5), HMC(4, 1.0)
    want = generic(lattice, action, updater, 2, key)
    whole = Phi4Waves._make_boxes
    monkeypatch.setattr(Phi4Waves, "_make_boxes", lambda self, depth: whole(self, depth - 1))
    found = blocked(lattice, action, updater, 2, key)
    assert not np.array_equal(found[0], want[0]) or found[1] != want[1]


def test_a_lost_bond_is_seen(monkeypatch):
    lattice, action, key, updater = Lattice((6, 5, 8)), Phi4(0.15, 0.4), Key(5), HMC(4, 1.0)
    want = generic(lattice, action, updater, 2, key)
    whole = Phi4Waves._make_box

    def broken(self, regions):
        box = whole(self, regions)
        box["neighbor"][0] = -1
        return box

    monkeypatch.setattr(Phi4Waves, "_make_box", broken)
    assert not np.array_equal(blocked(lattice, action, updater, 2, key)[0], want[0])


# --- ranks

SCRIPT = """
import hashlib
from lft.actions import Phi4
from lft.domain import world
from lft.geometry import Lattice
from lft.rng import Key
from lft.updaters import HMC, start
from lft.wavefront import Blocking, Phi4Waves

for shape, boundary, kappa, steps in CASES:
    lattice, action, key, comm = Lattice(shape, boundary=boundary), Phi4(kappa, 0.5), Key(3), world()
    phi = action.new_field(lattice, comm)
    start(phi, "hot", key)
    thin = min([n // p for n, p in zip(phi.domain.shape, phi.domain.grid) if p > 1], default=99)
    for blocking in (None, Blocking(min(steps, thin)), Blocking(1, 2, 3)):
        waves = Phi4Waves(action, phi, HMC(steps, 1.0), blocking, 2)
        waves.load()
        changes = [waves.trajectory(t, key) for t in range(3)]
        waves.store()
        whole = phi.array()
        if whole is not None:
            print(changes, hashlib.sha256(whole.tobytes()).hexdigest())
        waves.domain.close()
    phi.domain.close()
"""
SPREAD = [
    ((24, 16), "periodic", 0.2, 5),
    ((9, 7), "open", (0.1, 0.3), 4),
    ((8, 9, 10), ("periodic", "open", "periodic"), 0.12, 6),
    ((4, 4, 6, 8), "periodic", 0.1, 3),
    ((4, 4, 8), "periodic", 0.1, 7),
]


def test_the_chain_does_not_depend_on_the_number_of_ranks(tmp_path):
    script = tmp_path / "spread.py"
    script.write_text(SCRIPT.replace("CASES", repr(SPREAD)))
    results = []
    for ranks in (None, 2, 3, 4):
        done = run_python([script], tmp_path, ranks)
        assert done.returncode == 0, done.stderr
        results.append(done.stdout.strip())
    assert len(results[0]) > 100 and len(set(results)) == 1


# --- choices


def test_what_the_generic_loops_must_serve_is_refused():
    refused = [
        (Lattice((8, 8), mask=~np.eye(8, dtype=bool)), Phi4(0.1, 0.5), "mask"),
        (Lattice((8, 8)), Phi4({(1, 1): 0.1}, 0.5), "nearest"),
        (Lattice((2,) * 5), Phi4(0.1, 0.5), "5 axes"),
        (Lattice((1, 1)), Phi4(0.1, 0.5), "0 axes"),
        (Lattice((8, 8)), Ising(0.1), "valid is the action Phi4"),
    ]
    for lattice, action, message in refused:
        phi = action.new_field(lattice)
        assert not Phi4Waves.supports(action, phi)
        with pytest.raises(InputError, match=message):
            Phi4Waves(action, phi, HMC())
    graph = Graph(3, 4)
    assert not Phi4Waves.supports(Phi4(0.1, 0.5), Field(graph, "real"))


def test_the_choice_of_steps_follows_cache_and_blocks():
    def chosen(shape, n_steps=10, n_threads=1):
        phi = Phi4(0.1, 0.5).new_field(Lattice(shape))
        return choose_blocking(n_steps, phi.domain, len(shape), 8, n_threads)

    assert chosen((512, 512)).steps == 10
    assert chosen((4096, 4096)).steps >= 5
    assert chosen((8, 8, 8, 8)).steps < 5  # the rows around a thin lattice outnumber its own
    assert chosen((256, 256, 256)).steps < 10 or chosen((256, 256, 256)).split > 1  # planes overflow the cache


def test_hashes_of_the_loops_agree():
    digests = set()
    best = phi4_waves.path()
    try:
        for name in ("baseline", "avx2", "avx512"):
            try:
                phi4_waves.force(name)
            except ValueError:
                continue
            data, changes = blocked(Lattice((33, 70)), Phi4(0.24, 0.6), HMC(12, 1.1), 4, Key(8))
            digests.add((hashlib.sha256(data.tobytes()).hexdigest(), str(changes)))
    finally:
        phi4_waves.force(best)
    assert len(digests) == 1
