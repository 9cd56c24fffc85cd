"""Halos of several layers: the bits, counts and sums of one rank on 2, 3 and 4, whatever the depth of the halo."""

import json

import pytest

from tests.helpers import run_python

SCRIPT = '''
import hashlib, itertools, json, sys
import numpy as np
from mpi4py import MPI
import lft.bits
from lft.actions import Ising
from lft.bits import IsingBits
from lft.geometry import Lattice
from lft.rng import Key
from lft.updaters import start

comm = MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else None
key, out, depths = Key(5), {}, set()
CASES = [((16, 64), "pp"), ((17, 30), "op"), ((22, 7), "pp"), ((14, 9), "oo"), ((8, 12, 20), "ppp"),
         ((12, 9, 5), "opo"), ((9, 8, 6), "pop"), ((4, 8, 2, 6), "pppp")]
for latency in (0.0, 1e-6, 1e-3):
    lft.bits.LATENCY_S = latency
    for (shape, ends), updater in itertools.product(CASES, ("metropolis", "heatbath")):
        lattice = Lattice(shape, boundary=["periodic" if e == "p" else "open" for e in ends])
        action = Ising(K=tuple(0.25 + 0.05 * i for i in range(len(shape))), h=0.05)
        phi = action.new_field(lattice, comm)
        start(phi, "hot", key)
        bits, t, log = IsingBits(action, phi, updater), 0, []
        bits.load()
        depths.add(bits._depth)
        if len(sys.argv) > 1 and bits._depth:  # a wrong kernel: lines of the halo stay as they came
            bits._reach = [[]] * bits._depth
        for n in (1, 1, 2, 7, 1, 23, 1):
            _, changed = bits.sweep(t, key.word, n)
            t += n
            bonds, spins = bits.measure() if t != 4 else ([0] * len(shape), 0)
            log.append(phi.domain.sum_int([changed, *bonds, spins]).tolist())
        bits.store()
        whole = phi.array()
        if whole is not None:
            sums = [int((whole * np.roll(whole, -1, k)).sum()) for k in range(len(shape))] if "o" not in ends else []
            name = f"{shape} {ends} {updater}"
            digest = hashlib.sha256(np.ascontiguousarray(whole, np.int8).tobytes()).hexdigest()
            mine = [digest, log, sums == log[-1][1:-1] or not sums, int(whole.sum()) == log[-1][-1]]
            assert out.setdefault(name, mine) == mine or len(sys.argv) > 1, (name, latency)
        bits.domain.close()
        phi.domain.close()
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps([out, sorted(depths)]))
'''


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    done = run_python(["-c", SCRIPT], tmp_path_factory.mktemp("serial"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[0]


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_bits_and_counts_do_not_depend_on_ranks_or_on_the_depth_of_halos(ranks, serial, tmp_path):
    assert all(is_sum and is_spin for _, _, is_sum, is_spin in serial.values())
    done = run_python(["-c", SCRIPT], tmp_path, ranks)
    assert done.returncode == 0, done.stderr
    found, depths = json.loads(done.stdout)
    assert found == serial
    assert len(depths) > 2  # no deep halo, the thinnest, and more


def test_a_halo_that_is_not_updated_shows(serial, tmp_path):
    done = run_python(["-c", SCRIPT, "mutant"], tmp_path, 2)
    found = json.loads(done.stdout)[0]
    assert all(found[name] != serial[name] for name in found if "pp" in name)
