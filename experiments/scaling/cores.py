"""Two cores against one: two ranks, two threads of one rank, and two programs that know nothing of each other.

    python cores.py [--rounds 5] [--cases bits-1024,phi4-64] [--out cores.json]

Each core has the same work (weak scaling: the first axis doubles).  One block on one core takes T(1); the table has
T(1) / T(2) for the three ways to use two cores, medians over the rounds of medians over batches of 20 ms, the slowest
rank counting.  The last way is the ceiling: what two cores lose to each other's memory traffic and clock alone.
Wall time, so the machine must have two idle cores; the load is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BATCH_S, BATCHES = 0.02, 40
WAYS = ("one core", "two ranks", "two threads", "two programs")


def cases():
    """{name: (action, updater, geometry of n blocks, kernel)}."""
    import numpy as np
    from scipy.sparse import coo_matrix

    from lft import Graph, Lattice
    from lft.actions import Ising, Neural, Pairwise, Phi4
    from lft.updaters import HMC, HeatBath, Metropolis

    def lattice(*block):
        return lambda n: Lattice((block[0] * n, *block[1:]))

    rng = np.random.default_rng(1)
    J = np.triu(rng.normal(0, 1 / np.sqrt(1000), (1000, 1000)), 1)
    i, j = rng.integers(0, 10000, (2, 30000))
    pairs = np.unique(np.sort(np.stack([i, j])[:, i != j], axis=0), axis=1)
    signs = rng.choice([-0.5, 0.5], pairs.shape[1])
    K = coo_matrix((signs, tuple(pairs)), (10000, 10000))
    real = coo_matrix((rng.normal(0, 0.5, pairs.shape[1]), tuple(pairs)), (10000, 10000))
    A = np.triu(rng.normal(0, 0.1, (100, 100)), 1)
    neural = Neural(A=A + A.T, B={1: 0.2, 2: 0.1, 3: 0.05}, I=4.5)
    return {
        "ising-256": (Ising(0.44), Metropolis(), lattice(256, 256), "generic"),
        "bits-1024": (Ising(0.44), Metropolis(), lattice(1024, 1024), "auto"),
        "bits-4096": (Ising(0.44), Metropolis(), lattice(4096, 4096), "auto"),
        "bits-64x64x256": (Ising(0.2216), Metropolis(), lattice(64, 64, 256), "auto"),
        "bits-256^3": (Ising(0.2216), Metropolis(), lattice(256, 256, 256), "auto"),
        "phi4-512": (Phi4(0.2, 0.5), HMC(10, 1.0), lattice(512, 512), "auto"),
        "phi4-64^3": (Phi4(0.15, 0.5), HMC(10, 1.0), lattice(64, 64, 64), "auto"),
        "dense-1000": (Pairwise(J=J + J.T), Metropolis(), lambda n: Graph(1000, 64 * n), "auto"),
        "sparse-real": (Pairwise(J=real + real.T), Metropolis(), lambda n: Graph(10000, 64 * n), "auto"),
        "sparse-signs": (Pairwise(J=K + K.T), Metropolis(), lambda n: Graph(10000, 512 * n), "auto"),
        "neural-100": (neural, HeatBath(), lambda n: Graph(100, 4096 * n), "auto"),
    }


def work(name, n_blocks):
    """Seconds per update of this program's part, all its ranks together; prints JSON on rank 0."""
    import numpy as np

    from lft.domain import world
    from lft.implementations import choose
    from lft.protocols import State
    from lft.rng import Key
    from lft.updaters import start

    action, updater, geometry, kernel = cases()[name]
    comm = world()
    phi = action.new_field(geometry(n_blocks), comm)
    start(phi, "hot", Key(1))
    loops, state = choose(action, updater, phi, kernel), State(phi, 1)
    state, _ = loops.advance(state, Key(1), 2)
    began = time.perf_counter()
    state, _ = loops.advance(state, Key(1), 4, True)
    took = (time.perf_counter() - began) / 4
    n = max(1, int(BATCH_S / (took if comm is None else comm.bcast(took))))
    times = np.empty(BATCHES)
    for k in range(BATCHES):
        if comm is not None:
            comm.Barrier()
        began = time.perf_counter()
        state, _ = loops.advance(state, Key(1), n, True)
        times[k] = (time.perf_counter() - began) / n
    if comm is not None:
        slowest = np.empty_like(times)
        from mpi4py import MPI

        comm.Allreduce(times, slowest, MPI.MAX)
        times = slowest
    loops.close()
    phi.domain.close()
    if comm is None or comm.rank == 0:
        print(json.dumps([statistics.median(times), loops.name, phi.geometry.n_active // n_blocks]))


def launch(name, way):
    """The worker's record of one way to use the cores; of two programs the slower one."""
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    n_threads = "2" if way == "two threads" else "1"
    environment = {**os.environ, "LFT_THREADS": n_threads, "OMP_NUM_THREADS": n_threads}
    blocks = "2" if way in ("two ranks", "two threads") else "1"
    command = [sys.executable, __file__, "--worker", name, blocks]
    if way == "two ranks":
        command = [mpiexec, "-n", "2", *command]
    copies = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
              for _ in range(2 if way == "two programs" else 1)]
    done = [(c, *c.communicate()) for c in copies]
    for c, _, error in done:
        if c.returncode:
            sys.exit(error[-2000:])
    return max(json.loads(out) for _, out, _ in done)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker[0], int(arguments.worker[1]))
        return
    names = arguments.cases.split(",") if arguments.cases else list(cases())
    record = {"load": [os.getloadavg()[0]], "cases": {}}
    for _ in range(arguments.rounds):
        for name in names:
            case = record["cases"].setdefault(name, {way: [] for way in WAYS})
            for way in WAYS:
                seconds, case["kernel"], case["sites"] = launch(name, way)
                case[way].append(seconds)
        record["load"].append(os.getloadavg()[0])
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=1))
    print(f"load {min(record['load']):.1f} to {max(record['load']):.1f}, {arguments.rounds} rounds\n")
    print("| case | kernel | one core: T(1), us; updates/ns | two ranks | two threads | two programs |")
    print("|---|---|---|---|---|---|")
    for name, case in record["cases"].items():
        t = {way: statistics.median(case[way]) for way in WAYS}
        one = t["one core"]
        print(f"| {name} | {case['kernel']} | {1e6 * one:.4g}; {1e-9 * case['sites'] / one:.3g} | "
              + " | ".join(f"{one / t[way]:.2f}" for way in WAYS[1:]) + " |")


if __name__ == "__main__":
    main()
