"""``lft bench``: rates of every kernel on this machine, each beside the roofs that bound it.

CPU time of one thread, the median of five runs after an untimed one; numbers are fresh in every run, since a repeated
counter trains the branch predictor.  Two roofs, both measured here (``lft.commands.roofs``):

    memory    bandwidth at the footprint of the fields / bytes that an update must move between field and core
    random    random numbers (or bits) per ns / those that an update consumes

The lower one binds; ``fraction`` is the share of it that the kernel reaches.  A kernel far below both is bound by its
arithmetic.  A new kernel is one entry of :func:`_cases`.
"""

from __future__ import annotations

import fnmatch
import math
import statistics
import time

import numpy as np

from lft.actions import Ising, Neural, Pairwise, Phi4
from lft.commands import roofs
from lft.errors import InputError
from lft.geometry import Graph, Lattice
from lft.implementations import choose
from lft.meanfield.model import Poisson
from lft.meanfield.neurons import LIF, Binary, Rate
from lft.percolation import DirectedPercolation, Words
from lft.protocols import State
from lft.rng import Key
from lft.updaters import HMC, HeatBath, Metropolis, Overrelax, SwendsenWang, Wolff, start
from lft.wavefront import Phi4Waves


def bench(scale=1.0, only="*"):
    """The data of ``lft bench --json``.

    Parameters
    ----------
    scale : float
        Below 1 shortens every measurement (tests).
    only : str
        Kernels whose name matches this pattern (``*`` and ``?``).

    Raises
    ------
    InputError
        No kernel matches.
    """
    cases = {name: rest for name, *rest in _cases()}
    chosen = {name: rest for name, rest in cases.items() if fnmatch.fnmatchcase(name, only)}
    if not chosen:
        raise InputError(f"--only {only!r} matches no kernel: known are {', '.join(cases)}")
    sizes = roofs.cache_sizes()
    moved, supply = roofs.bandwidth(sizes, scale), roofs.supply(scale)
    best = {level: max(moved["copy"][level], moved["triad"][level]) for level in moved["copy"]}
    kernels = {}
    for name, (measure, n_bytes, footprint, *randoms) in chosen.items():
        level = roofs.level_of(footprint, sizes)
        kernels[name] = _beside_roofs(measure(scale), n_bytes, best[level], level, supply, *randoms)
    machine = roofs.machine()
    return {"kernels": kernels, "bandwidth_GB_s": best, "copy_GB_s": moved["copy"], "triad_GB_s": moved["triad"],
            "noise_per_ns": supply, "cache_bytes": sizes, "machine": machine,
            "instruction_set": machine["instruction_set"], "threads": 1}


def _beside_roofs(rate, n_bytes, bandwidth, level, supply, randoms=None):
    """One kernel's entry; ``randoms`` is (kind, how many a site update consumes)."""
    bounds = {"memory": bandwidth / n_bytes}
    if randoms and randoms[0] in supply:
        bounds["random"] = supply[randoms[0]] / randoms[1]
    binding = min(bounds, key=bounds.get)
    return {
        "site_updates_per_ns": rate,
        "bytes_per_site": n_bytes,
        "fraction_of_bandwidth": rate * n_bytes / bandwidth,
        "level": level,
        "randoms_per_site": {randoms[0]: randoms[1]} if randoms else {},
        "roofs_per_ns": bounds,
        "binding": binding,
        "fraction": rate / bounds[binding],
    }


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
        return geometry.n_sites * getattr(updater, "steps", 1) / roofs.median_ns(run, n, scale)

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

        return geometry.n_sites / roofs.median_ns(run, n, scale)

    return measure


def _blocked_leapfrog(geometry, precision="float64"):
    """Site-steps per ns of leapfrog steps blocked in time, twenty at a time, from stored momenta."""

    def measure(scale):
        action = Phi4(kappa=0.2 / len(geometry.shape), lam=0.5, precision=precision)
        phi = action.new_field(geometry)
        start(phi, "hot", Key(12))
        waves = Phi4Waves(action, phi, HMC(20, 0.4))
        waves.load()
        momenta = [np.zeros_like(phi.values)]

        def run(repeats):
            momenta[0] = waves.evolve(momenta[0], [(0.02, 0.02)] * (20 * repeats))

        run(1)
        return 20 * geometry.n_sites / roofs.median_ns(run, 2e7 / geometry.n_sites, scale)

    return measure


def _wolff(action, geometry, n):
    """Sites of clusters per ns: an update visits one cluster, not the lattice."""

    def measure(scale):
        key, phi = Key(13), action.new_field(geometry)
        start(phi, "cold", key)
        state, rates = State(phi, 0), []
        for _ in range(max(2, int(20 * scale))):
            state, _ = SwendsenWang().step(action, state, key)
        for _ in range(roofs.REPEATS + 1):
            began, visited = time.process_time(), 0
            for _ in range(max(1, int(n * scale))):
                state, info = Wolff().step(action, state, key)
                visited += info.proposed
            rates.append(visited / max(time.process_time() - began, 1e-9) / 1e9)
        return statistics.median(rates[1:])

    return measure


def _sparse(n_chains, is_real, n):
    """Site updates per ns of chains on a random graph of 1e5 units, degree 6 (a few less), couplings 0.5 J."""

    def measure(scale):
        from scipy.sparse import csr_matrix

        size, rng = max(1000, int(100_000 * min(1, scale))), np.random.default_rng(5)
        ends = rng.permutation(np.repeat(np.arange(size), 6)).reshape(-1, 2)
        ends = np.unique(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1), axis=0)
        J = 0.5 * (rng.normal(size=len(ends)) if is_real else rng.choice([-1.0, 1.0], len(ends)))
        J = csr_matrix((J, (ends[:, 0], ends[:, 1])), shape=(size, size))
        return _updates(Pairwise(J=J + J.T), Graph(size, n_chains), Metropolis(), n, "auto")(scale)

    return measure


def _neuron_steps(neuron, dt, input_mean, n_steps=200, m=1250):
    """Neuron-steps per ns along given input paths, as a replica of a mean-field sampler runs them."""

    def measure(scale):
        from lft.meanfield.neurons import prepared
        from lft.meanfield.saddle.draws import Draws
        from lft.meanfield.saddle.simulate import Runner

        runner = Runner(prepared(neuron, dt), "bench")
        h = input_mean + np.random.default_rng(5).normal(0, 1, (n_steps, m))
        white = np.full(n_steps, 0.3)
        count = [0]

        def run(repeats):
            for _ in range(repeats):
                count[0] += 1
                runner.run(h, Draws(Key(count[0]), m), white)

        run(1)
        return n_steps * m / roofs.median_ns(run, 20, scale)

    return measure


def _mean_field_sweep(neuron, weight, dt, n_steps=2000, m=1250, **drive):
    """Neuron-steps per ns of whole two-time sweeps of two populations: inputs, paths, neurons, moments.

    One replica of eight of 10,000 paths; Cholesky of the inputs' covariances, T^2 M for the paths and T^2 M for the
    moments: arithmetic of BLAS, so that the share of the roofs says little.
    """

    def measure(scale):
        from lft.meanfield.model import Connection, FixedIndegree, Model, Population, Solve
        from lft.meanfield.saddle.averaging import mix
        from lft.meanfield.saddle.two_time import Summary, System, from_silence, sweep

        n, paths = max(100, int(n_steps * min(1, scale))), max(32, int(m * min(1, scale)))
        cells = tuple(Population(p, neuron, **drive) for p in "EI")
        weights = {"E": FixedIndegree(1000, weight), "I": FixedIndegree(250, -5 * weight)}
        links = tuple(Connection(source, target, weights[source], 4 * dt) for source in "EI" for target in "EI")
        system = System(Model(cells, links, Solve("two-time", dt, n * dt, samples=8 * paths)))
        state, summary, count = from_silence(system), Summary(system.n + 1), [0]

        def run(repeats):
            for _ in range(repeats):
                count[0] += 1
                new, _ = sweep(system, state, count[0], 0, summary)
                mix(state, new, 0.5)  # undamped, inhibition makes it alternate

        run(3)
        return 2 * n * paths / roofs.median_ns(run, 1, 1)

    return measure


def _percolation(kind, p, n):
    """Sites with an active parent per ns, 64 replicas of a full lattice at criticality after its first 64 steps."""

    def measure(scale):
        lattice = Lattice((16384, 10**6), ("x", "t"), ("periodic", "open"))
        words, rates = Words(DirectedPercolation(p, kind), lattice, "full", 5, [0], [2**64 - 1]), []
        words.advance(64)
        for _ in range(roofs.REPEATS + 1):
            before, began = words.reached[0], time.process_time()
            words.advance(max(1, int(n * scale)))
            rates.append((words.reached[0] - before) / max(time.process_time() - began, 1e-9) / 1e9)
        return statistics.median(rates[1:])

    return measure


BITS = "ising-bits"
HEAD, BLOCK = ("ars-bits", 11), ("uniform", 2)


def _cases():
    """(name, measure, bytes per site update, bytes of the fields[, (kind of random numbers, how many per update)]).

    A sliced comparison takes 11 bits per site; the generic loops draw a block of two uniforms for each.
    """
    square, cube = Lattice((1024, 1024)), Lattice((64, 64, 64))
    critical = 0.5 * math.log(1 + math.sqrt(2))
    rng = np.random.default_rng(5)  # couplings of an example, not of a chain
    A = np.triu(rng.normal(0, 0.05, (100, 100)), 1)
    neural = Neural(A=A + A.T, B={1: -0.3}, I=np.full(100, 2.0))
    large = Lattice((256, 256, 256))
    phi4 = Phi4(0.2, 0.5), Lattice((512, 512))
    J = np.triu(rng.normal(0, 1000**-0.5, (1000, 1000)), 1)
    glass = Pairwise(J + J.T)
    sparks = Neural(A=A + A.T, B={1: -0.3, 2: -0.1, 3: 0.05}, I=np.full(100, 4.6))
    return [
        ("ising-bits-2d-metropolis", _updates(Ising(critical), square, Metropolis(), 200, BITS), 0.5, 2**17, HEAD),
        ("ising-bits-2d-heatbath", _updates(Ising(critical), square, HeatBath(), 200, BITS), 0.5, 2**17, HEAD),
        ("ising-bits-3d-metropolis", _updates(Ising(0.2216), large, Metropolis(), 20, BITS), 0.5, 2**21, HEAD),
        ("ising-2d-metropolis", _updates(Ising(critical), square, Metropolis(), 3), 4, 2**20, BLOCK),
        ("ising-2d-heatbath", _updates(Ising(critical), square, HeatBath(), 3), 4, 2**20, BLOCK),
        ("ising-3d-metropolis", _updates(Ising(0.2216), cube, Metropolis(), 12), 4, 2**18, BLOCK),
        ("ising-2d-swendsen-wang", _updates(Ising(critical), square, SwendsenWang(), 3), 24, 2**23),
        ("ising-2d-wolff", _wolff(Ising(critical), square, 20), 48, 2**25),
        ("phi4-2d-overrelax", _updates(Phi4(0.34, 0.5), Lattice((512, 512)), Overrelax(), 2), 32, 2**21, BLOCK),
        ("phi4-2d-leapfrog", _leapfrog(Lattice((512, 512)), 20), 32, 2**22),
        ("phi4-3d-leapfrog", _leapfrog(cube, 20), 32, 2**22),
        ("phi4-blocked-2d-leapfrog", _blocked_leapfrog(Lattice((512, 512))), 3.2, 2**22),
        ("phi4-blocked-3d-leapfrog", _blocked_leapfrog(cube), 3.2, 2**22),
        ("phi4-blocked-large-leapfrog", _blocked_leapfrog(Lattice((4096, 4096))), 3.2, 2**28),
        ("phi4-blocked-2d-leapfrog-f32", _blocked_leapfrog(Lattice((512, 512)), "float32"), 1.6, 2**21),
        ("phi4-blocked-3d-leapfrog-f32", _blocked_leapfrog(cube, "float32"), 1.6, 2**21),
        ("phi4-blocked-2d-hmc", _updates(*phi4, HMC(10, 1.0), 20, "phi4-blocked"), 1.6, 2**22, ("normal", 0.1)),
        ("phi4-2d-hmc", _updates(*phi4, HMC(10, 1.0), 2), 32, 2**22, ("normal", 0.1)),
        ("phi4-2d-metropolis", _updates(*phi4, Metropolis(), 2), 32, 2**21, BLOCK),
        ("dense-one-chain", _updates(glass, Graph(1000, 1), Metropolis(), 40, "pairwise-cached"), 1300, 2**22, BLOCK),
        ("dense-64-chains", _updates(glass, Graph(1000, 64), Metropolis(), 20, "pairwise-cached"), 128, 2**23, BLOCK),
        ("sparse-one-chain", _sparse(1, True, 100), 82, 2**23, BLOCK),
        ("sparse-64-chains", _sparse(64, True, 40), 1.9, 2**23),
        ("sparse-pm-512-chains", _sparse(512, False, 40), 1.1, 2**23, HEAD),
        ("neural-100-rare", _updates(sparks, Graph(100, 10000), HeatBath(), 2, "neural-cached"), 9, 2**20, BLOCK),
        ("meanfield-lif-steps", _neuron_steps(LIF(), 4e-4, 18.0), 16, 2**22, ("uniform", 1)),
        ("meanfield-rate-steps", _neuron_steps(Rate("tanh", noise=0.3), 0.1, 0.0), 16, 2**22, ("normal", 1)),
        ("meanfield-binary-steps", _neuron_steps(Binary(), 0.1, 0.0), 16, 2**22, ("uniform", 1)),
        ("meanfield-lif-sweep", _mean_field_sweep(LIF(), 0.1, 2e-4, external=(Poisson(1000, 20.0, 0.1),)), 60, 2**25,
         ("normal", 1)),
        ("meanfield-rate-sweep", _mean_field_sweep(Rate("tanh", noise=0.3), 0.003, 0.05, input=0.5), 60, 2**25,
         ("normal", 1)),
        ("percolation-bits", _percolation("bond", 0.644700185, 40), 0.7, 2**18, HEAD),
        ("neural-dense-100-heatbath", _updates(neural, Graph(100, 2000), HeatBath(), 2), 100 * 9, 2**18, BLOCK),
    ]


def format_bench(data):
    """The rates as a table under a line about the machine."""
    about = data["machine"]
    lines = [
        f"{about['cpu']}, {about['instruction_set']}, 1 of {about['cores']} cores, load {about['load']}",
        f"lft {about['lft']}, Python {about['python']}, numpy {about['numpy']}, {about['system']}; CPU time",
        "",
        f"{'kernel':28} {'updates/ns':>10} {'bytes/site':>10} {'memory roof':>16} {'random roof':>21} {'binding':>8} "
        f"{'reached':>8}",
    ]
    for name, k in data["kernels"].items():
        memory = f"{k['roofs_per_ns']['memory']:.3g} {k['level']}"
        random = f"{k['roofs_per_ns']['random']:.3g} {next(iter(k['randoms_per_site']))}" \
            if "random" in k["roofs_per_ns"] else "-"
        lines.append(
            f"{name:28} {k['site_updates_per_ns']:10.4f} {k['bytes_per_site']:10g} {memory:>16} {random:>21} "
            f"{k['binding']:>8} {100 * k['fraction']:6.1f} %"
        )
    rows = (("copy", data["copy_GB_s"], " GB/s"), ("triad", data["triad_GB_s"], " GB/s"),
            ("random numbers", data["noise_per_ns"], "/ns"))
    lines.append("")
    for label, values, unit in rows:
        lines.append(f"{label:15} " + ", ".join(f"{name} {value:.3g}{unit}" for name, value in values.items()))
    return "\n".join(lines)
