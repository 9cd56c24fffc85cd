"""One sweep of the two-time solver on several ranks: T = 2000 steps, 10,000 paths, two populations

Wall and processor time of a sweep of all replicas (inputs, fresh paths, neurons, moments), the slowest rank counting,
median over the sweeps after three that are not timed; at most as many ranks as cores.  In the end the rank-M update
beside the matrix product of the same BLAS, on one core.
``python sweep.py [--ranks 2] [--sweeps 5] [--only "lif;rate"]``
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
    """{name: Model}: model A of Brunel at (5, 2), and noisy rate neurons with the same signs, where the inputs of both
    populations have one covariance; then populations in which they have not, of every built-in neuron."""
    from lft.meanfield.model import Connection, FixedIndegree, Gaussian, Model, Poisson, Population, Solve
    from lft.meanfield.neurons import EIF, LIF, QIF, AdEx, Binary, EscapeRate, Rate

    def network(neuron, weight, dt, unlike=1.0, synapse=0.0, **drive):
        cells = tuple(Population(p, neuron, **drive) for p in "EI")
        links = tuple(
            Connection(b, a, FixedIndegree(k, sign * weight * (unlike if a == "I" else 1.0)), 4 * dt, synapse)
            for b, k, sign in (("E", 1000, 1.0), ("I", 250, -5.0))
            for a in "EI"
        )
        return Model(cells, links, Solve("two-time", dt, STEPS * dt, samples=PATHS, replicas=REPLICAS))

    spikes, noisy, dt = {"external": (Poisson(1000, 20.0, 0.1),)}, Rate("tanh", noise=0.3), 2e-4
    smooth = tuple(Connection(b, a, Gaussian(0.0, 1.2)) for b in "EI" for a in "EI")
    quiet = Model((Population("E", Rate("tanh")), Population("I", Rate("erf"))), smooth,
                  Solve("two-time", 0.05, STEPS * 0.05, samples=PATHS, replicas=REPLICAS))
    return {
        "lif": network(LIF(), 0.1, dt, **spikes),
        "rate": network(noisy, 0.003, 0.05, input=0.5),
        "lif, unlike": network(LIF(), 0.1, dt, 1.1, **spikes),
        "rate, unlike": network(noisy, 0.003, 0.05, 1.1, input=0.5),
        "rate, no noise": quiet,
        "lif, synapses": network(LIF(), 0.1, dt, 1.1, 0.005, **spikes),
        "binary": network(Binary("erfc"), 0.003, 0.05, 1.1, input=0.1),
        "escape-rate": network(EscapeRate("logistic", rate=50.0), 1e-4, 5e-4, 1.1),
        "qif": network(QIF(), 0.1, dt, 1.1, **spikes),
        "eif": network(EIF(), 0.1, dt, 1.1, **spikes),
        "adex": network(AdEx(), 0.1, dt, 1.1, **spikes),
    }


def update_rate():
    """GF/s of the rank-M update of smooth paths and of a matrix product of the same BLAS, in double precision, and of
    the update of spikes and a product in single."""
    import numpy as np

    from lft.meanfield.saddle.simulate import gram

    rng = np.random.default_rng(1)
    white, square = rng.normal(size=(STEPS, PATHS // REPLICAS)), rng.normal(size=(STEPS, STEPS))
    y, spikes = white.cumsum(axis=0).cumsum(axis=0), (white > 2.0) * 5e3

    def rate(call, operations):
        seconds = []
        for _ in range(6):
            began = time.process_time()
            call()
            seconds.append(time.process_time() - began)
        return operations / min(seconds) / 1e9

    flops, single = STEPS**2 * (PATHS // REPLICAS), square.astype(np.float32)
    return [rate(lambda: gram(y), flops), rate(lambda: square @ square, 2 * STEPS**3),
            rate(lambda: gram(spikes, unit=5e3), flops), rate(lambda: single @ single, 2 * STEPS**3)]


def work(name, n_sweeps):
    """Seconds of each sweep, the slowest rank counting, CPU seconds and memory of all ranks; JSON on rank 0."""
    from lft.domain import world
    from lft.meanfield.saddle.averaging import mix
    from lft.meanfield.saddle.two_time import Summary, System, from_silence, replica_domain, sweep

    comm, system = world(), System(models()[name])
    mine = range(*replica_domain(system.model, comm).slices[0].indices(REPLICAS))
    states = {replica: (from_silence(system), Summary(system.n + 1)) for replica in mine}
    wall, cpu = [], []
    for number in range(3 + n_sweeps):
        if comm is not None:
            comm.Barrier()
        began, used = time.perf_counter(), time.process_time()
        for replica, (state, summary) in states.items():
            new, _ = sweep(system, state, number, replica, summary)
            mix(state, new, 0.5)  # undamped, inhibition makes it alternate
        found = (time.perf_counter() - began, time.process_time() - used)
        every = [found] if comm is None else comm.gather(found)
        if comm is None or comm.rank == 0:
            wall.append(max(w for w, _ in every))
            cpu.append(sum(c for _, c in every))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = [memory] if comm is None else comm.gather(memory)
    if comm is None or comm.rank == 0:
        rates = [float(states[mine[0]][0][3 * a][-100:].mean()) for a in range(2)]
        print(json.dumps([wall[3:], cpu[3:], memory, rates]))


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--sweeps", type=int, default=5)
    parser.add_argument("--only", default="", help="names with a semicolon between them; default: all")
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
    for name in args.only.split(";") if args.only else models():
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
    update, product, spikes, single = update_rate()
    print(f"\nrank-M update {update:.1f} GF/s, {update / product:.0%} of a matrix product ({product:.1f}); of spikes "
          f"{spikes:.1f}, {spikes / single:.0%} of one in single precision ({single:.1f})")


if __name__ == "__main__":
    main()
