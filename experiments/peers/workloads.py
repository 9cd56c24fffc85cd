"""The work that every entrant does: what is simulated, how large, and which independent value checks it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

EPS = 0.1
"""Leapfrog step of the phi4 workloads."""
KAPPA, LAMBDA = 0.2, 0.5
"""S = sum [-2 kappa phi_x phi_(x+d) + phi^2 + lambda (phi^2 - 1)^2]."""
SWEEP, LEAPFROG, TRAJECTORY = "site updates", "site-steps", "site-steps of whole trajectories"


@dataclass(frozen=True)
class Workload:
    """One row of the comparison.

    Attributes
    ----------
    kind : str
        ``lattice`` (Ising, all K alike), ``graph`` (spin glass) or ``phi4``.
    shape : tuple
        Extents of a lattice; ``(N,)`` of a graph.
    beta : float
        Inverse temperature at which the rate is measured.
    check_shape, check_beta : tuple, float
        Where the energy is compared: away from criticality, so that a short run is equilibrated.
    chains : int
        Independent chains of the same couplings.
    couplings : str
        ``gaussian`` or ``pm1`` (graphs).
    exact : float, optional
        Energy per site at ``check_beta``.
    peers : tuple
        Who takes part.
    unit : str
        What is counted.
    """

    kind: str
    shape: tuple
    beta: float
    peers: tuple
    check_shape: tuple = ()
    check_beta: float = 0.0
    chains: int = 1
    couplings: str = ""
    degree: int = 0
    exact: float | None = None
    unit: str = SWEEP

    @property
    def n_sites(self):
        """Sites of one chain."""
        return math.prod(self.shape)


def onsager(beta):
    """Energy per site of the infinite square lattice, J = 1 (Onsager 1944, standard form).

    e = - coth(2 beta) [1 + (2/pi) (2 tanh^2(2 beta) - 1) K(k)],  k = 2 sinh(2 beta) / cosh^2(2 beta)
    """
    k = 2 * math.sinh(2 * beta) / math.cosh(2 * beta) ** 2
    a, b = 1.0, math.sqrt(1 - k * k)
    while abs(a - b) > 1e-15:
        a, b = (a + b) / 2, math.sqrt(a * b)
    elliptic = math.pi / (2 * a)
    return -1 / math.tanh(2 * beta) * (1 + 2 / math.pi * (2 * math.tanh(2 * beta) ** 2 - 1) * elliptic)


SQUARE = {"check_shape": (512, 512), "check_beta": 0.30, "exact": onsager(0.30)}
CUBE = {"check_shape": (64, 64, 64), "check_beta": 0.15}
SPARSE = {"kind": "graph", "shape": (100_000,), "degree": 6, "beta": 0.5, "check_shape": (100_000,), "check_beta": 0.25}
DENSE = {"kind": "graph", "shape": (1000,), "couplings": "gaussian", "beta": 1.0, "check_shape": (1000,),
         "check_beta": 0.5}
WORKLOADS = {
    "ising-2d-1024": Workload("lattice", (1024, 1024), 0.44, ("mcising", "jax", "numba", "peapods", "openjij"),
                              **SQUARE),
    "ising-2d-4096": Workload("lattice", (4096, 4096), 0.44, ("mcising", "jax", "numba", "peapods"), **SQUARE),
    "ising-3d-256": Workload("lattice", (256, 256, 256), 0.2216, ("jax", "numba", "peapods"), **CUBE),
    "sparse-real-1": Workload(**SPARSE, couplings="gaussian", peers=("openjij", "dwave", "numba")),
    "sparse-real-64": Workload(**SPARSE, couplings="gaussian", chains=64, peers=("openjij", "dwave", "numba")),
    "sparse-pm1-512": Workload(**SPARSE, couplings="pm1", chains=512, peers=("openjij", "dwave", "numba")),
    "dense-1000-1": Workload(**DENSE, peers=("openjij", "dwave", "numba")),
    "dense-1000-64": Workload(**DENSE, chains=64, peers=("openjij", "dwave", "numba")),
    "phi4-512x512": Workload("phi4", (512, 512), 0.0, ("numba", "jax"), unit=LEAPFROG),
    "phi4-64x64x64": Workload("phi4", (64, 64, 64), 0.0, ("numba", "jax"), unit=LEAPFROG),
    "phi4-4096x4096": Workload("phi4", (4096, 4096), 0.0, ("numba", "jax"), unit=LEAPFROG),
    "phi4-trajectory-512x512": Workload("phi4", (512, 512), 0.0, ("blackjax",), unit=TRAJECTORY),
}


def graph(work):
    """(a, b, J): the edges of a spin glass, each once, E = - sum J s_a s_b; the same for every entrant."""
    rng = np.random.default_rng(5)
    n = work.n_sites
    if not work.degree:
        a, b = np.triu_indices(n, 1)
        return a.astype(np.intc), b.astype(np.intc), rng.normal(size=len(a)) / math.sqrt(n)
    ends = np.repeat(np.arange(n), work.degree)
    rng.shuffle(ends)
    a, b = ends[::2], ends[1::2]
    pairs = np.unique((np.minimum(a, b) * n + np.maximum(a, b))[a != b])
    a, b = (pairs // n).astype(np.intc), (pairs % n).astype(np.intc)
    return a, b, rng.normal(size=len(a)) if work.couplings == "gaussian" else rng.choice([-1.0, 1.0], len(a))


def glass_energy(a, b, J, spins):
    """Energy per site, mean over chains, of spins (chains, N)."""
    spins = spins.reshape(-1, spins.shape[-1])
    return -float(np.mean([np.dot(J, s[a].astype(float) * s[b]) for s in spins])) / spins.shape[-1]


def hot_phi(shape):
    """The starting field of the energy violation: independent standard normals."""
    return np.random.default_rng(7).normal(size=shape)


def phi4_action(x):
    """S of a periodic lattice."""
    hop = sum((x * np.roll(x, 1, d)).sum() for d in range(x.ndim))
    return float(-2 * KAPPA * hop + (x * x + LAMBDA * (x * x - 1) ** 2).sum())
