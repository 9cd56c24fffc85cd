"""``lft bench``: rates of every kernel on this machine beside its memory bandwidth.

CPU time of one thread, the median of five runs after an untimed one; numbers are fresh in every run, since a repeated
counter trains the branch predictor.  ``bytes_per_site`` is what an update must move between the field and the core;
``fraction_of_bandwidth`` compares that traffic with the bandwidth measured on a buffer as large as the fields.
"""

from __future__ import annotations

import math
import statistics
import time

import numpy as np

from lft._kernels import noise
from lft.actions import Ising, Neural, Pairwise, Phi4
from lft.geometry import Graph, Lattice
from lft.implementations import choose
from lft.protocols import State
from lft.rng import Key
from lft.updaters import HMC, HeatBath, Metropolis, start

REPEATS = 5


def bench(scale=1.0):
    """The data of ``lft bench --json``; ``scale`` < 1 shortens every measurement (tests)."""
    sizes = {"L2": 2**19, "L3": 2**22, "DRAM": 2**27}
    bandwidth = {name: _bandwidth(int(size * min(scale * 4, 1)), scale) for name, size in sizes.items()}
    kernels = {}
    for name, measure, n_bytes, footprint in _cases():
        rate = measure(scale)
        level = "L2" if footprint < 2**20 else "L3" if footprint < 2**24 else "DRAM"
        kernels[name] = {
            "site_updates_per_ns": rate,
            "bytes_per_site": n_bytes,
            "fraction_of_bandwidth": rate * n_bytes / bandwidth[level],
            "level": level,
        }
    supply = _noise_rate(scale)
    return {"kernels": kernels, "bandwidth_GB_s": bandwidth, "noise_per_ns": supply,
            "instruction_set": noise.instruction_set(), "threads": 1}


def _median(function, n, scale):
    n = max(1, int(n * scale))
    function(1)
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        function(n)
        times.append((time.process_time() - began) / n)
    return max(statistics.median(times), 1e-9) * 1e9


def _bandwidth(size, scale):
    """GB/s of a copy whose two buffers together hold ``size`` bytes."""
    source = np.ones(max(size // 16, 512))
    target = np.empty_like(source)

    def copy(n):
        for _ in range(n):
            np.copyto(target, source)

    return 2 * source.nbytes / _median(copy, 2**31 // max(size, 2**20), scale)


def _noise_rate(scale):
    key, n, t = Key(1), 2**14, iter(range(10**9))

    def fill(kind):
        def run(repeats):
            for _ in range(repeats):
                noise.fill(kind, 0, 1, n, next(t), 0, 0, key.word)

        return run

    return {kind: 2 * n / _median(fill(kind), 300, scale) for kind in ("uniform", "exponential", "logistic", "normal")}


def _updates(action, geometry, updater, n, kernel="generic"):
    """Site updates per ns of an updater (HMC: site-steps, momenta and energies included).

    A specialized kernel is timed in one batch, with packing and unpacking.
    """

    def measure(scale):
        key = Key(11)
        phi = action.new_field(geometry)
        start(phi, "hot", key)
        state = [State(phi, 1)]
        loops = choose(action, updater, phi, kernel)

        def run(repeats):
            state[0], _ = loops.advance(state[0], key, repeats)
            phi.data  # noqa: B018  reading it unpacks a resident copy

        run(max(2, int(20 * scale)))  # away from the hot start: its acceptance is not that of the theory
        return geometry.n_sites * getattr(updater, "steps", 1) / _median(run, n, scale)

    return measure


def _leapfrog(geometry, n):
    """Site-steps per ns of the bare force, kick and drift with the halo exchange."""

    def measure(scale):
        action = Phi4(kappa=0.2, lam=0.5)
        phi = action.new_field(geometry)
        start(phi, "hot", Key(12))
        kernel, plan = action.bind(phi)
        mom = np.zeros_like(phi.data)
        flat = phi.data.reshape(-1), mom.reshape(-1)

        def run(repeats):
            for _ in range(repeats):
                where = (plan.line_p, plan.line_q, plan.length)
                action.loops.kick_drift(kernel, *flat, *where, 0.02, 0.02, plan.active, plan.reach)
                phi.exchange()

        return geometry.n_sites / _median(run, n, scale)

    return measure


def _cases():
    """(name, measure, bytes per site update, bytes of the fields)."""
    square, cube = Lattice((1024, 1024)), Lattice((64, 64, 64))
    critical = 0.5 * math.log(1 + math.sqrt(2))
    rng = np.random.default_rng(5)  # couplings of an example, not of a chain
    A = np.triu(rng.normal(0, 0.05, (100, 100)), 1)
    neural = Neural(A=A + A.T, B={1: -0.3}, I=np.full(100, 2.0))
    J = np.triu(rng.normal(0, 1000**-0.5, (1000, 1000)), 1)
    glass = Pairwise(J + J.T)
    sparks = Neural(A=A + A.T, B={1: -0.3, 2: -0.1, 3: 0.05}, I=np.full(100, 4.6))
    large = Lattice((256, 256, 256))
    return [
        ("ising-bits-2d-metropolis", _updates(Ising(critical), square, Metropolis(), 200, "ising-bits"), 0.5, 2**17),
        ("ising-bits-2d-heatbath", _updates(Ising(critical), square, HeatBath(), 200, "ising-bits"), 0.5, 2**17),
        ("ising-bits-3d-metropolis", _updates(Ising(0.2216), large, Metropolis(), 20, "ising-bits"), 0.5, 2**21),
        ("ising-2d-metropolis", _updates(Ising(critical), square, Metropolis(), 3), 4, 2**20),
        ("ising-2d-heatbath", _updates(Ising(critical), square, HeatBath(), 3), 4, 2**20),
        ("ising-3d-metropolis", _updates(Ising(0.2216), cube, Metropolis(), 12), 4, 2**18),
        ("phi4-2d-leapfrog", _leapfrog(Lattice((512, 512)), 20), 32, 2**22),
        ("phi4-3d-leapfrog", _leapfrog(cube, 20), 32, 2**22),
        ("phi4-2d-hmc", _updates(Phi4(0.2, 0.5), Lattice((512, 512)), HMC(10, 1.0), 2), 32, 2**22),
        ("phi4-2d-metropolis", _updates(Phi4(0.2, 0.5), Lattice((512, 512)), Metropolis(), 2), 32, 2**21),
        ("pairwise-1000-one-chain", _updates(glass, Graph(1000, 1), Metropolis(), 40, "pairwise-cached"), 1300, 2**22),
        ("pairwise-1000-64-chains", _updates(glass, Graph(1000, 64), Metropolis(), 2, "pairwise-cached"), 128, 2**23),
        ("neural-100-rare", _updates(sparks, Graph(100, 10000), HeatBath(), 2, "neural-cached"), 9, 2**20),
        ("neural-dense-100-heatbath", _updates(neural, Graph(100, 2000), HeatBath(), 2), 100 * 9, 2**18),
    ]


def format_bench(data):
    """The rates as a table."""
    lines = [f"{'kernel':28} {'updates/ns':>10} {'bytes/site':>10} {'of bandwidth':>13}"]
    for name, k in data["kernels"].items():
        lines.append(
            f"{name:28} {k['site_updates_per_ns']:10.4f} {k['bytes_per_site']:10g} "
            f"{100 * k['fraction_of_bandwidth']:8.1f} % {k['level']}"
        )
    rows = (("bandwidth (copy)", data["bandwidth_GB_s"], " GB/s"), ("noise", data["noise_per_ns"], "/ns"))
    for label, values, unit in rows:
        lines.append(f"{label:28} " + ", ".join(f"{name} {value:.3g}{unit}" for name, value in values.items()))
    lines.append(f"instruction set              {data['instruction_set']}, {data['threads']} thread, CPU time")
    return "\n".join(lines)
