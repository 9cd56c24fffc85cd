"""Constants of the model, measured on one or two ranks; prints JSON on rank 0.  Started by run.py.

Messages, and what is compared between one and two ranks, are wall time: the shortest of many short batches, since on a
shared machine the shortest is the one that nobody interrupted.  Rates of one rank are CPU time, median of seven.
"""

import json
import statistics
import sys
import time

import numpy as np
from lft._kernels.halo import N_LIMBS
from mpi4py import MPI

from lft import Lattice
from lft.actions import Ising, Phi4
from lft.implementations import choose
from lft.protocols import State
from lft.rng import Key
from lft.updaters import HMC, Metropolis, start

COMM = MPI.COMM_WORLD
BATCHES = 2000
SIZES = (8, 64, 512, 4096, 32768, 262144, 2097152)
CASES = {  # name: action, updater, kernel, blocks per rank
    "ising-2d": (Ising(0.44), Metropolis(), "generic", ((32, 64), (64, 128), (128, 256), (256, 256))),
    "ising-3d": (Ising(0.2216), Metropolis(), "generic", ((8, 16, 32), (16, 32, 32), (32, 32, 64))),
    "ising-bits-2d": (Ising(0.44), Metropolis(), "ising-bits", ((64, 256), (256, 512), (1024, 1024), (2048, 2048))),
    "ising-bits-3d": (Ising(0.2216), Metropolis(), "ising-bits", ((16, 16, 256), (64, 64, 256), (256, 256, 256))),
    "phi4-2d": (Phi4(0.2, 0.5), HMC, "auto", ((64, 64), (128, 128), (256, 256), (512, 512))),
    "phi4-3d": (Phi4(0.15, 0.5), HMC, "auto", ((16, 16, 32), (32, 32, 64), (64, 64, 64))),
}
PAIRS = {  # compared between one and two ranks: block per rank, leapfrogs of a trajectory
    "ising-2d": ((256, 256), 0), "ising-bits-2d": ((1024, 1024), 0), "ising-bits-3d": ((64, 64, 256), 0),
    "phi4-2d": ((256, 256), 4),
}


def shortest(function, batches=BATCHES, budget=10.0):
    """Shortest time of many calls, every rank starting together; the slowest rank counts."""
    best, end = 1e9, time.perf_counter() + budget
    for _ in range(batches):
        COMM.Barrier()
        began = time.perf_counter()
        function()
        took = COMM.allreduce(time.perf_counter() - began, MPI.MAX)
        best = min(best, took)
        if COMM.bcast(time.perf_counter() > end):
            break
    return best


def exchange_seconds(n_bytes):
    """Both ranks send and receive so many bytes by persistent requests, as a domain does."""
    send, receive = np.zeros(n_bytes, np.int8), np.zeros(n_bytes, np.int8)
    other = 1 - COMM.rank
    requests = [COMM.Send_init(send, other, 1), COMM.Recv_init(receive, other, 1)]
    repeats = 20 if n_bytes < 100_000 else 2

    def run():
        for _ in range(repeats):
            MPI.Prequest.Startall(requests)
            MPI.Request.Waitall(requests)

    seconds = shortest(run) / repeats
    for request in requests:
        request.Free()
    return seconds


def halo_seconds():
    """A domain's own exchange of a small halo, one cut axis: buffers filled, both messages, buffers emptied."""
    phi = Ising(0.44).new_field(Lattice((16, 16)), COMM)

    def run():
        for _ in range(20):
            phi.exchange()

    return shortest(run) / 20


def reduce_seconds():
    """An exact sum of the package: the limbs of one fixed-point number."""
    limbs, total = np.zeros(N_LIMBS + 1, np.int64), np.zeros(N_LIMBS + 1, np.int64)

    def run():
        for _ in range(20):
            COMM.Allreduce(limbs, total)

    return shortest(run) / 20


def prepare(name, block, steps):
    """(advance by n sweeps, name of the implementation) for one block per rank, cut along the first axis."""
    action, updater, kernel, _ = CASES[name]
    if steps:
        updater = updater(steps, 0.1 * steps)
    phi = action.new_field(Lattice((block[0] * COMM.size, *block[1:])), COMM if COMM.size > 1 else None)
    start(phi, "hot", Key(1))
    loops, state = choose(action, updater, phi, kernel), [State(phi, 1)]
    state[0], _ = loops.advance(state[0], Key(1), 8)

    def advance(n):
        state[0], _ = loops.advance(state[0], Key(1), n, True)

    return advance, loops.name


def cpu_seconds(name, block, steps):
    """CPU time of one sweep; packing and unpacking, done once per batch, cancel in the difference of two batches."""
    advance, kernel = prepare(name, block, steps)
    began = time.process_time()
    advance(2)
    n = max(1, int(0.02 / max((time.process_time() - began) / 2, 1e-7)))
    times = []
    for _ in range(7):
        t = [time.process_time()]
        for repeats in (n, 3 * n):
            advance(repeats)
            t.append(time.process_time())
        times.append((t[2] - 2 * t[1] + t[0]) / (2 * n))
    return statistics.median(times), kernel


def wall_seconds(name, block, steps):
    """The same in wall time, all ranks together; batches short enough to be left alone now and then."""
    advance, kernel = prepare(name, block, steps)
    few, many = (1, 2) if steps or name == "ising-2d" else (3, 9)
    return (shortest(lambda: advance(many)) - shortest(lambda: advance(few))) / (many - few), kernel


def entry(name, block, steps, measured):
    """One line of the record."""
    seconds, kernel = measured(name, block, steps)
    return {"case": name, "block": block, "steps": steps, "seconds": seconds, "kernel": kernel}


def main():
    """Everything for this number of ranks."""
    out = {"ranks": COMM.size, "library": MPI.Get_library_version().split("\n")[0].strip("\0 ")}
    if COMM.size == 2:
        out["exchange"] = {n: exchange_seconds(n) for n in SIZES}
        out["halo"] = halo_seconds()
        out["allreduce"] = reduce_seconds()
    else:
        out["sweeps"] = [entry(name, block, steps, cpu_seconds) for name, (_, updater, _, blocks) in CASES.items()
                         for block in blocks for steps in ((2, 6) if updater is HMC else (0,))]
    out["pairs"] = [entry(name, *what, wall_seconds) for name, what in PAIRS.items()]
    if COMM.rank == 0:
        json.dump(out, sys.stdout)


main()
