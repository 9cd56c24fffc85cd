"""One sweep of the two-time solver on several ranks: T = 2000 steps, 10,000 paths, two populations

Wall and processor time of a sweep of all replicas (inputs, fresh paths, neurons, moments), the slowest rank counting,
median over the sweeps after three that are not timed; at most as many ranks as cores.
``python sweep.py [--ranks 2] [--sweeps 5]``
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

STEPS, PATHS, REPLICAS = 2000, 10000, 8


def models():
    """{name: Model}: model A of Brunel at (5, 2), and noisy rate neurons with the same signs."""
    from lft.meanfield.model import Connection, FixedIndegree, Model, Poisson, Population, Solve
    from lft.meanfield.neurons import LIF, Rate

    def network(neuron, weight, dt, **drive):
        cells = tuple(Population(p, neuron, **drive) for p in "EI")
        weights = {"E": FixedIndegree(1000, weight), "I": FixedIndegree(250, -5 * weight)}
        links = tuple(Connection(source, target, weights[source], 4 * dt) for source in "EI" for target in "EI")
        return Model(cells, links, Solve("two-time", dt, STEPS * dt, samples=PATHS, replicas=REPLICAS))

    return {
        "lif": network(LIF(), 0.1, 2e-4, external=(Poisson(1000, 20.0, 0.1),)),
        "rate": network(Rate("tanh", noise=0.3), 0.003, 0.05, input=0.5),
    }


def work(name, n_sweeps):
    """Seconds of each sweep, the slowest rank counting, CPU seconds and memory of all ranks; JSON on rank 0."""
    from lft.domain import world
    from lft.meanfield.saddle.averaging import mix
    from lft.meanfield.saddle.two_time import System, from_silence, moments, outputs, replica_domain

    comm, system = world(), System(models()[name])
    mine = range(*replica_domain(system.model, comm).slices[0].indices(REPLICAS))
    states = {replica: from_silence(system) for replica in mine}
    wall, cpu = [], []
    for number in range(3 + n_sweeps):
        if comm is not None:
            comm.Barrier()
        began, used = time.perf_counter(), time.process_time()
        for replica, state in states.items():
            new = [part for found in outputs(system, state, number, replica) for part in moments(*found)]
            states[replica] = mix(state, new, 0.5)  # undamped, inhibition makes it alternate
        found = (time.perf_counter() - began, time.process_time() - used)
        every = [found] if comm is None else comm.gather(found)
        if comm is None or comm.rank == 0:
            wall.append(max(w for w, _ in every))
            cpu.append(sum(c for _, c in every))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = [memory] if comm is None else comm.gather(memory)
    if comm is None or comm.rank == 0:
        rates = [float(states[mine[0]][3 * a][-100:].mean()) for a in range(2)]
        print(json.dumps([wall[3:], cpu[3:], memory, rates]))


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--sweeps", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.sweeps)
        return
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    print(f"{args.ranks} ranks, T = {STEPS}, {PATHS} paths, two populations, {REPLICAS} replicas\n")
    print("| neurons | wall, s: median (least to most) | CPU, s | memory of a rank, MB | load | mean outputs |")
    print("|---|---|---|---|---|---|")
    for name in models():
        command = [
            mpiexec,
            "-n",
            str(args.ranks),
            sys.executable,
            __file__,
            "--sweeps",
            str(args.sweeps),
            "--worker",
            name,
        ]
        load = os.getloadavg()[0]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        wall, cpu, memory, means = json.loads(done.stdout)
        print(
            f"| {name} | {statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f}) | "
            f"{statistics.median(cpu):.2f} | {max(memory):.0f} | {load:.1f} | "
            f"{', '.join(f'{m:.4g}' for m in means)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
