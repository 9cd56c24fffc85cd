"""One entrant doing one workload, driven over standard input and output by run.py.

``python entrants.py NAME WORKLOAD`` answers each line of JSON with one: ``["check"]`` the physics, ``["calibrate", s]``
the number n of sweeps that takes s seconds, ``["measure", n]`` the rate from n and 5n sweeps, so that set-up
cancels, ``["version"]``.  Each entrant is a class with ``advance(n)`` (n sweeps or steps), ``energy()`` per site
(spins), ``violation()`` (dH per site of a trajectory of ten steps from :func:`workloads.hot_phi`), and
``updates``, what one sweep counts.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from importlib.metadata import version

import numpy as np
import workloads
from workloads import EPS, KAPPA, LAMBDA, LEAPFROG, TRAJECTORY, WORKLOADS

MOST_CHAINS = 4
"""Entrants that run chains one after the other are timed on this many; the rate per update is that of any number."""


class Lft:
    """The package through its public face: the action, the updater, and whatever implementation is chosen."""

    package = "lft"

    def __init__(self, work, shape, beta):
        from lft import Graph, Lattice
        from lft.actions import Ising, Phi4
        from lft.implementations import choose
        from lft.protocols import State
        from lft.rng import Key
        from lft.updaters import HMC, Metropolis, start

        self.work, self.key, self.beta, self.chains = work, Key(3), beta, work.chains
        if work.kind == "lattice":
            action, geometry = Ising(beta), Lattice(shape)
        elif work.kind == "graph":
            import scipy.sparse

            from lft.actions import Pairwise

            a, b, J = self.edges = workloads.graph(work)
            n = work.n_sites
            matrix = scipy.sparse.csr_array((np.r_[J, J] * beta, (np.r_[a, b], np.r_[b, a])), (n, n))
            action, geometry = Pairwise(matrix if work.degree else matrix.toarray()), Graph(n, work.chains)
        else:
            action, geometry = Phi4(KAPPA, LAMBDA), Lattice(shape)
        self.action, self.phi = action, action.new_field(geometry)
        start(self.phi, "hot", self.key)
        self.HMC, self.choose, self.loops = HMC, choose, {}
        self.updater = lambda n: HMC(n, n * EPS) if work.kind == "phi4" else Metropolis()
        self.state = State(self.phi, 0)
        self.updates = math.prod(shape) * work.chains
        self.is_untouched = False

    def _advance(self, n, updater):
        if updater not in self.loops:
            made = self.updater(updater)
            self.loops[updater] = self.choose(self.action, made, self.phi)
            self.is_untouched = False
        self.state, info = self.loops[updater].advance(self.state, self.key, n, self.is_untouched)
        self.is_untouched = len(self.loops) == 1
        return info

    def advance(self, n):
        if self.work.unit == LEAPFROG:
            self._advance(1, n)
        elif self.work.unit == TRAJECTORY:
            self._advance(n, 10)
        else:
            self._advance(n, 0)

    def energy(self):
        if self.work.kind == "graph":
            return workloads.glass_energy(*self.edges, np.asarray(self.phi.values).reshape(self.chains, -1))
        return self.action.S(self.phi) / self.beta / self.updates

    def violation(self):
        self.phi.values[...] = workloads.hot_phi(self.phi.values.shape)
        self.phi.exchange()
        self.is_untouched = False
        return self._advance(1, 10).dH / self.updates

    @property
    def note(self):
        return " + ".join(sorted({loops.name for loops in self.loops.values()}))


class Mcising:
    package = "mcising"

    def __init__(self, work, shape, beta):
        from mcising import IsingSimulation

        self.simulation = IsingSimulation(shape[0], 1.0, 0.0, 0.0, 0.0, 1)
        self.beta, self.updates = beta, math.prod(shape)

    def advance(self, n):
        self.simulation.sweep(n, temperature=1 / self.beta)

    def energy(self):
        s = np.asarray(self.simulation.get_spins(), float).reshape([math.isqrt(self.updates)] * 2)
        return -float((s * (np.roll(s, 1, 0) + np.roll(s, 1, 1))).mean())


class Peapods:
    """Its energy measurement after each sweep is included: it cannot be left out."""

    package = "peapods"
    note = "measures the energy in each sweep"

    def __init__(self, work, shape, beta):
        import peapods

        self.model = peapods.Ising(shape, temperatures=np.array([1 / beta]))
        self.updates = math.prod(shape)

    def advance(self, n):
        self.model.sample(n, sweep_mode="metropolis", sequential=True, warmup_ratio=0.0)

    def energy(self):
        return -float(np.ravel(self.model.get_energies())[0])  # it counts + s s'


class Jax:
    """Checkerboard with packed colors, int8 spins, threefry; phi4 with its force written out, float64."""

    package = "jax"

    def __init__(self, work, shape, beta):
        import jax
        import jax.numpy as jnp

        self.jax, self.work, self.updates = jax, work, math.prod(shape)
        if work.kind == "phi4":
            jax.config.update("jax_enable_x64", True)

            def force(x):
                hop = sum(jnp.roll(x, s, d) for d in range(x.ndim) for s in (1, -1))
                return 2 * KAPPA * hop - 2 * x - 4 * LAMBDA * x * (x * x - 1)

            def leap(_, pair):
                x, p = pair
                p = p + EPS * force(x)
                return x + EPS * p, p

            self.force = jax.jit(force)
            self.run = jax.jit(lambda n, x, p: jax.lax.fori_loop(0, n, leap, (x, p)))
            self.state = jnp.asarray(workloads.hot_phi(shape)), jnp.asarray(np.random.default_rng(8).normal(size=shape))
            return
        half = (*shape[:-1], shape[-1] // 2)
        parity = sum(np.indices(half[:-1])) % 2
        row = jnp.asarray(parity[..., None] == 1)

        def update(own, other, color, key):
            """Sites of one color: along the last axis the neighbors are the same bit and one to the side."""
            side = jnp.where(row ^ (color == 1), jnp.roll(other, -1, -1), jnp.roll(other, 1, -1))
            h = other + side + sum(jnp.roll(other, s, d) for d in range(len(half) - 1) for s in (1, -1))
            u = jax.random.uniform(key, half)
            return jnp.where(u < jnp.exp(-2 * beta * (own * h).astype(jnp.float32)), -own, own)

        def sweep(_, state):
            a, b, key = state
            key, first, second = jax.random.split(key, 3)
            a = update(a, b, 0, first)
            return a, update(b, a, 1, second), key

        def energy(a, b):
            side = jnp.where(row, jnp.roll(b, -1, -1), jnp.roll(b, 1, -1))
            h = b + side + sum(jnp.roll(b, s, d) for d in range(len(half) - 1) for s in (1, -1))
            return -(a * h).astype(jnp.int32).sum() / (2 * a.size)

        self.run = jax.jit(lambda n, s: jax.lax.fori_loop(0, n, sweep, s))
        self.measure_energy = jax.jit(energy)
        rng = np.random.default_rng(2)
        planes = [jnp.asarray(rng.choice(np.array([-1, 1], np.int8), half)) for _ in range(2)]
        self.state = (*planes, jax.random.key(0))

    def advance(self, n):
        self.state = self.run(n, self.state) if self.work.kind != "phi4" else self.run(n, *self.state)
        self.jax.block_until_ready(self.state)
        if self.work.kind == "phi4" and not np.isfinite(float(self.state[0][(0,) * len(self.work.shape)])):
            raise FloatingPointError("the trajectory diverged")

    def energy(self):
        return float(self.measure_energy(*self.state[:2]))

    def violation(self):
        x, p = self.state[0], self.state[1]
        return _violation(np.asarray(x), np.asarray(p), lambda y: np.asarray(self.force(y)),
                          lambda y, q: [np.asarray(z) for z in self.run(10, y, q)])


def _violation(x, p, force, ten_steps):
    """dH per site of ten leapfrogs; the loop starts with a whole kick, so half a kick is taken back at both ends."""
    before = phi4_energy(x, p)
    x, p = ten_steps(x, p - EPS / 2 * force(x))
    return (phi4_energy(x, p + EPS / 2 * force(x)) - before) / x.size


def phi4_energy(x, p):
    """H = p^2/2 + S."""
    return 0.5 * float((p * p).sum()) + workloads.phi4_action(np.asarray(x))


class Numba:
    """Loops as one would write them by hand: checkerboard int8, cached fields, two-pass leapfrog."""

    package = "numba"

    def __init__(self, work, shape, beta):
        import numba_loops

        self.work, self.shape, self.beta, self.loops = work, shape, beta, numba_loops
        rng = np.random.default_rng(2)
        self.updates = math.prod(shape)
        if work.kind == "phi4":
            self.x, self.p = workloads.hot_phi(shape), np.random.default_rng(8).normal(size=shape)
            return
        if work.kind == "lattice":
            self.s = rng.choice(np.array([-1, 1], np.int8), shape)
            neighbors = 2 * len(shape)
            self.table = np.exp(-2 * beta * np.arange(-neighbors, neighbors + 1.0))
            return
        a, b, J = self.edges = workloads.graph(work)
        n = work.n_sites
        chains = min(work.chains, MOST_CHAINS)
        self.updates *= chains
        kind = np.int8 if work.degree else np.float32
        self.s = rng.choice(np.array([-1, 1], kind), (chains, n))
        self.h = np.zeros((chains, n), np.float64 if work.degree else np.float32)
        for s, h in zip(self.s, self.h, strict=True):
            np.add.at(h, a, J * s[b])
            np.add.at(h, b, J * s[a])
        if work.degree:
            ends, order = np.r_[a, b], np.argsort(np.r_[a, b], kind="stable")
            self.graph = (np.r_[0, np.cumsum(np.bincount(ends, minlength=n))], np.r_[b, a][order].astype(np.int32),
                          np.r_[J, J][order])
        else:
            self.matrix = np.zeros((n, n), np.float32)
            self.matrix[a, b] = self.matrix[b, a] = J

    def advance(self, n):
        loops, kind = self.loops, self.work.kind
        if kind == "phi4":
            {2: loops.leapfrog_2d, 3: loops.leapfrog_3d}[self.x.ndim](self.x, self.p, EPS, KAPPA, LAMBDA, n)
        elif kind == "lattice":
            {2: loops.ising_2d, 3: loops.ising_3d}[self.s.ndim](self.s, self.table, n)
        else:
            for s, h in zip(self.s, self.h, strict=True):
                if self.work.degree:
                    loops.sparse(s, h, *self.graph, self.beta, n)
                else:
                    loops.dense(s, h, self.matrix, np.float32(self.beta), n)

    def energy(self):
        if self.work.kind == "graph":
            return workloads.glass_energy(*self.edges, self.s)
        s = self.s.astype(float)
        return -float(sum((s * np.roll(s, 1, d)).mean() for d in range(s.ndim)))

    def violation(self):
        def force(x):
            hop = sum(np.roll(x, s, d) for d in range(x.ndim) for s in (1, -1))
            return 2 * KAPPA * hop - 2 * x - 4 * LAMBDA * x * (x * x - 1)

        def ten(x, p):
            self.x, self.p = x, p
            self.advance(10)
            return self.x, self.p

        return _violation(self.x.copy(), self.p.copy(), force, ten)


class Openjij:
    """Its single-spin-flip core: one step of n sweeps at one temperature; chains one after the other."""

    package = "openjij"

    def __init__(self, work, shape, beta):
        import openjij.cxxjij as core

        self.core, self.beta, self.work = core, beta, work
        n = math.prod(shape)
        if work.kind == "lattice":
            site = np.arange(n).reshape(shape)
            a = np.concatenate([site.ravel()] * len(shape))
            b = np.concatenate([np.roll(site, -1, d).ravel() for d in range(len(shape))])
            self.edges = a, b, np.ones(len(a))
        else:
            self.edges = workloads.graph(work)
        a, b, J = self.edges
        if work.kind == "graph" and not work.degree:
            graph, matrix = core.graph.Dense(n), np.zeros((n + 1, n + 1))
            matrix[a, b] = matrix[b, a] = -J
            matrix[n, n] = 1
            graph.set_interaction_matrix(matrix)
        else:
            import scipy.sparse

            rows, columns = np.r_[a, b, n], np.r_[b, a, n]
            graph = core.graph.CSRSparse(scipy.sparse.csr_matrix((np.r_[-J, -J, 1.0], (rows, columns)), (n + 1, n + 1)))
        chains = min(work.chains, MOST_CHAINS)
        self.systems = [core.system.make_classical_ising(graph.gen_spin(1 + k), graph) for k in range(chains)]
        self.n, self.updates = n, n * chains

    def advance(self, n):
        schedule = self.core.utility.ClassicalSchedule()
        schedule.one_mc_step, schedule.updater_parameter.beta = n, self.beta
        for system in self.systems:
            self.core.algorithm.Algorithm_SingleSpinFlip_run(system, [schedule])

    def energy(self):
        spins = np.array([np.array(self.core.result.get_solution(s))[: self.n] for s in self.systems])
        return workloads.glass_energy(*self.edges, spins)


class Dwave:
    """The core of its simulated annealer with a constant schedule, sequential Metropolis; chains one after another."""

    package = "dwave-samplers"

    def __init__(self, work, shape, beta):
        from dwave.samplers.sa.simulated_annealing import simulated_annealing

        self.core, self.beta, self.edges = simulated_annealing, beta, workloads.graph(work)
        n, chains = work.n_sites, min(work.chains, MOST_CHAINS)
        self.rng = np.random.default_rng(2)
        self.spins = self.rng.choice(np.array([-1, 1], np.int8), (chains, n))
        self.updates = n * chains
        self.h, self.J = np.zeros(n), -self.edges[2]

    def advance(self, n):
        self.spins, _ = self.core(
            len(self.spins), self.h, *self.edges[:2], self.J, 1, np.full(n, self.beta),
            int(self.rng.integers(1, 2**31)), np.ascontiguousarray(self.spins), False, "Metropolis", None)

    def energy(self):
        return workloads.glass_energy(*self.edges, np.asarray(self.spins))


class Blackjax:
    """A whole HMC step of ten leapfrogs under jit, float64."""

    package = "blackjax"

    def __init__(self, work, shape, beta):
        import jax

        jax.config.update("jax_enable_x64", True)
        import blackjax
        import jax.numpy as jnp

        def density(flat):
            x = flat.reshape(shape)
            hop = sum((x * jnp.roll(x, 1, d)).sum() for d in range(x.ndim))
            return 2 * KAPPA * hop - (x * x + LAMBDA * (x * x - 1) ** 2).sum()

        self.jax, self.updates, self.density = jax, math.prod(shape), density
        kernel = blackjax.hmc(density, step_size=EPS, inverse_mass_matrix=jnp.ones(self.updates),
                              num_integration_steps=10)
        self.step, self.state, self.key = jax.jit(kernel.step), kernel.init(
            jnp.asarray(workloads.hot_phi(shape)).ravel()), jax.random.key(0)

    def advance(self, n):
        for _ in range(n):
            self.key, now = self.jax.random.split(self.key)
            self.state, _ = self.step(now, self.state)
        self.jax.block_until_ready(self.state)

    def violation(self):
        _, info = self.step(self.jax.random.key(1), self.state)
        before = 0.5 * float((info.momentum**2).sum()) - float(self.density(self.state.position))
        return (float(info.energy) - before) / self.updates


ENTRANTS = {"lft": Lft, "mcising": Mcising, "peapods": Peapods, "jax": Jax, "numba": Numba, "openjij": Openjij,
            "dwave": Dwave, "blackjax": Blackjax}


def check(kind, work):
    """(value, error) of the energy per site, or of the energy violation per site."""
    if work.kind == "phi4":
        entrant = kind(work, work.shape, 0.0)
        value = entrant.violation()
        return value, 0.03 * abs(value) + 3 / math.sqrt(work.n_sites) * EPS**2
    entrant = kind(work, work.check_shape, work.check_beta)
    entrant.advance(60)
    values = []
    for _ in range(16):
        entrant.advance(8)
        values.append(entrant.energy())
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def calibrate(entrant, seconds):
    """Sweeps n such that n and 5n together take so long without set-up; leaves the start behind on the way."""
    entrant.advance(1)  # compiles what is compiled
    n, began, before = 1, time.process_time(), 0.0
    while True:
        started = time.process_time()
        entrant.advance(n)
        now = time.process_time()
        took = now - started
        if now - began > seconds and n > 1:
            more = max(took - before, 0.1 * took)  # what the second half of the sweeps took
            return max(1, int(seconds / 6 * (n / 2) / more))
        n, before = 2 * n, took


def main(name, workload):
    """Answer requests until the input ends."""
    work, kind = WORKLOADS[workload], ENTRANTS[name]
    entrant = None
    per_sweep = 10 if work.unit == TRAJECTORY else 1
    for line in sys.stdin:
        request, *arguments = json.loads(line)
        try:
            if request == "version":
                answer = version(kind.package) if name != "lft" else __import__("lft").__version__
            elif request == "check":
                answer = check(kind, work)
            elif request == "calibrate":
                entrant = kind(work, work.shape, work.beta)
                answer = calibrate(entrant, *arguments)
                if work.unit == LEAPFROG:
                    answer = min(answer, 32)
            elif request == "measure":
                n = arguments[0]
                extra = 0.0
                while extra <= 0:  # on a busy machine set-up may vary by more than the work
                    times = []
                    for sweeps in (n, 5 * n):
                        began = time.process_time()
                        entrant.advance(sweeps)
                        times.append(time.process_time() - began)
                    extra = times[1] - times[0]
                answer = 4 * n * entrant.updates * per_sweep / extra * 1e-9
            elif request == "note":
                answer = getattr(entrant, "note", "")
            answer = {"ok": answer}
        except Exception as reason:
            answer = {"failed": f"{type(reason).__name__}: {str(reason).splitlines()[0] if str(reason) else ''}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(os.environ.get("TMPDIR", "/tmp"), "numba"))
    main(*sys.argv[1:])
