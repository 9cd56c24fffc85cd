"""Cluster updates give the same bits on every number of ranks and every way to cut the lattice."""

from tests.helpers import run_python

DRIVER = """
import hashlib
import numpy as np
from lft.actions import Ising, Pairwise, Phi4
from lft.clusters import SignFlips, SwendsenWang, Wolff
from lft.domain import Domain, _factorizations, world
from lft.field import Field
from lft.geometry import Graph, Lattice
from lft.observables import measure_all
from lft.protocols import State
from lft.rng import Key
from lft.updaters import HMC, Overrelax, Sequence, start

comm = world()
size = 1 if comm is None else comm.Get_size()
rng = np.random.default_rng(3)
mask, h = rng.random((8, 6)) < 0.8, rng.normal(0, 0.3, (8, 6))
J = np.triu(rng.normal(0.3, 0.2, (7, 7)), 1)
both = (SwendsenWang(), Wolff(2))
steps = {(1, 0): 0.2, (0, 1): 0.3, (1, 1): -0.2, (2, -1): 0.1}
real = (Sequence([HMC(4, 0.8), Overrelax(2), SignFlips(2)]),)
CASES = [
    (Ising(0.44), Lattice((9, 10)), both),
    (Ising(0.4, h=0.02), Lattice((8, 7), boundary=("open", "periodic")), both),
    (Ising(steps, h=h), Lattice((8, 6), mask=mask), both),
    (Ising((0.2, 0.25, 0.2), h=h), Lattice((8, 5, 6), ("x", "t", "y"), ("open",) + ("periodic",) * 2, mask=mask), both),
    (Ising(0.7), Lattice((17,)), both),
    (Ising(0.15), Lattice((4, 5, 4, 6)), both),
    (Pairwise(J=J + J.T, h=0.1), Graph(7, 9), both),
    (Pairwise(J=J + J.T), Graph(7, 9), both),
    (Phi4(0.3, 0.5), Lattice((8, 9)), real),
    (Phi4(0.2, 0.5), Lattice((6, 5, 7), boundary=("open", "periodic", "periodic")), real),
]


def grids(action, geometry):
    if size == 1 or isinstance(geometry, Graph):
        return [None]
    shape, halo = geometry.storage_shape, geometry.halo(action.displacements(geometry))
    every = [(*grid, 1) for grid in _factorizations(size, len(shape) - 1)]
    return [g for g in every if all(n // p >= max(1, w) for n, p, w in zip(shape, g, halo))]


def digest(action, geometry, updater, grid):
    halo = geometry.halo(action.displacements(geometry))
    domain = Domain(geometry.storage_shape, geometry.storage_periodic, halo, comm, grid)
    phi, key, found = Field(geometry, action.kind, domain), Key(5), hashlib.sha256()
    start(phi, "hot", key)
    state, counts = State(phi, 0), np.zeros(2, np.int64)
    for _ in range(8):
        state, info = updater.step(action, state, key)
        found.update(np.array(list(measure_all(updater.observables(action, geometry), action, state).values())))
        counts += domain.sum_int([info.proposed, info.accepted])
        whole = phi.array()
        found.update(b"" if whole is None else whole.tobytes())
    domain.close()
    return found.hexdigest()[:16] + f" {counts[0]} {counts[1]}"


for k, (action, geometry, updaters) in enumerate(CASES):
    for updater in updaters:
        for grid in grids(action, geometry):
            line = digest(action, geometry, updater, grid)
            if domain_rank == 0:
                print(k, updater.name, line)
""".replace("domain_rank", "(0 if comm is None else comm.Get_rank())")


def chains(folder, ranks):
    """(case, update) to the set of hashes over all grids, and the number of chains."""
    (folder / "driver.py").write_text(DRIVER)
    done = run_python(["driver.py"], folder, ranks)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" ", 2) for line in done.stdout.splitlines()]
    return {(k, name): {v for i, n, v in rows if (i, n) == (k, name)} for k, name, _ in rows}, len(rows)


def test_same_clusters_on_every_grid(tmp_path):
    serial, n = chains(tmp_path, None)
    assert n == len(serial) == 18 and len({next(iter(v)) for v in serial.values()}) == n
    for ranks in (2, 3, 4):
        found, n = chains(tmp_path, ranks)
        assert n > len(serial)  # several grids of some lattices
        assert found == serial, ranks


def test_labels_that_stay_with_their_rank_are_noticed(tmp_path):
    # mutant: clusters are not joined over the boundary between ranks
    change = "import lft.clusters as c\nc.Clusters._merge = lambda self, n: None\n"
    short = DRIVER.replace("enumerate(CASES)", "enumerate(CASES[:1])")
    (tmp_path / "driver.py").write_text(change + short.replace("(SwendsenWang(), Wolff(2))", "(SwendsenWang(),)"))
    serial, split = (run_python(["driver.py"], tmp_path, ranks).stdout.splitlines() for ranks in (None, 2))
    assert len(serial) == len(split) == 1 and serial != split
