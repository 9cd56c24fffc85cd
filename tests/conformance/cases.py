"""The registry of actions on lattices and graphs of every kind, each with a slow and obviously right twin.

The twin keeps couplings as one dense symmetric matrix ``J`` and one field ``h`` over the active sites
(``S = x J x/2 + h x`` for binary fields, minus V of the count of each bin where there is one), built from
:func:`lft.testing.enumeration.count_bonds` alone;
``test_actions.py`` compares it with the loop oracles of :mod:`lft.testing.oracles`, and the other tests may
then rely on it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from lft.actions import Ising, Neural, Pairwise, Phi4
from lft.geometry import Graph, Lattice
from lft.gibbs import KPairwise, Lagged
from lft.rng import Key
from lft.testing import (
    ising_action,
    k_pairwise_action,
    lagged_action,
    neural_action,
    pairwise_action,
    phi4_action,
)
from lft.testing.enumeration import count_bonds
from lft.updaters import start


def periodicity(lattice):
    """Per axis, as the geometry documents it: a periodic axis of extent 1 has no bonds and counts as open."""
    return [b == "periodic" and n > 1 for b, n in zip(lattice.boundary, lattice.shape, strict=True)]


def full_mask(geometry):
    """Active sites over all axes, user's order."""
    if geometry.mask is None:
        return np.ones(geometry.shape, bool)
    t = geometry.time_axis
    return np.broadcast_to(geometry.mask if t is None else np.expand_dims(geometry.mask, t), geometry.shape)


def over_time(geometry, values):
    """Values per site of a time slice, or one number, over all axes, user's order."""
    values = np.asarray(values, float)
    if values.ndim and isinstance(geometry, Lattice) and geometry.time_axis is not None:
        values = np.expand_dims(values, geometry.time_axis)
    return np.broadcast_to(values, geometry.shape)


@dataclass
class Case:
    """An action on a geometry, its twin, and configurations to try."""

    id: str
    geometry: object
    action: object
    J: np.ndarray = field(init=False)
    h: np.ndarray = field(init=False)

    def __post_init__(self):
        self.mask = full_mask(self.geometry)
        self.J, self.h = self._matrix()

    def _matrix(self):
        couplings, n = self.action.couplings, int(self.mask.sum())
        J = np.zeros((n, n))
        if self.action.name in ("k-pairwise", "lagged"):
            g, A = self.geometry, couplings["A"]
            J += 0 if A is None else 2 * np.kron(np.eye(g.n_bins), A)
            for k, C in enumerate(couplings.get("J_lag", ()), 1):
                bins = count_bonds((k,), np.ones(g.n_bins, bool), [g.boundary == "periodic"])  # from a to a + k
                J -= np.kron(bins.T, C) + np.kron(bins, C.T)
            return J, over_time(g, couplings["I"])[self.mask]
        if self.action.name == "neural":
            g = self.geometry
            for lag, value in couplings["B"].items():
                counts = count_bonds((lag, 0), self.mask, [g.boundary == "periodic", False])
                J += 2 * value * (counts + counts.T)
            A = couplings["A"]
            if A is not None:
                J += 2 * np.kron(np.eye(g.n_bins), A if isinstance(A, np.ndarray) else A.toarray())
            return J, over_time(g, couplings["I"])[self.mask]
        if self.action.name == "pairwise":
            J = couplings["J"]
            J = J if isinstance(J, np.ndarray) else J.toarray()
            return -np.kron(np.eye(self.geometry.n_bins), J), -over_time(self.geometry, couplings["h"])[self.mask]
        for d, value in self.action.bond_couplings(self.geometry).items():
            counts = count_bonds(d, self.mask, periodicity(self.geometry))
            J -= value * (counts + counts.T) * (1 if self.action.name == "ising" else 2)
        h = (
            -over_time(self.geometry, couplings["h"])[self.mask]
            if self.action.name == "ising"
            else np.zeros(n)
        )
        return J, h

    # ---- the twin: everything over the active sites, row-major user's order
    def S(self, x):
        """Action of the active values."""
        total = x @ self.J @ x / 2 + self.h @ x
        if "V" in self.action.couplings:
            total -= self.action.couplings["V"][x.reshape(-1, self.geometry.n_units).sum(axis=1).astype(int)].sum()
        return (
            total + np.sum(x**2 + self.action.couplings["lam"] * (x**2 - 1) ** 2) if self.is_real else total
        )

    def dS(self, x, i, new):
        """S(x_i = new) - S(x), from the terms that contain x_i."""
        change = (self.J[i] @ x + self.h[i]) * (new - x[i])
        if "V" in self.action.couplings:
            n, V = self.geometry.n_units, self.action.couplings["V"]
            count = int(x[i // n * n : i // n * n + n].sum())
            change -= V[int(count + new - x[i])] - V[count]
        if not self.is_real:
            return change
        lam = self.action.couplings["lam"]
        return change + new**2 + lam * (new**2 - 1) ** 2 - x[i] ** 2 - lam * (x[i] ** 2 - 1) ** 2

    def force(self, x):
        """-dS/dx of a real field."""
        return -(self.J @ x + 2 * x + 4 * self.action.couplings["lam"] * x * (x**2 - 1))

    def oracle(self, array):
        """Action by the loop oracle of lft.testing, user's order."""
        c, g = self.action.couplings, self.geometry
        if self.action.name == "neural":
            A = np.zeros((g.n_units,) * 2) if c["A"] is None else c["A"]
            A = A if isinstance(A, np.ndarray) else A.toarray()
            return neural_action(
                array, A, c["B"], np.broadcast_to(c["I"], g.n_units), g.boundary == "periodic"
            )
        if self.action.name in ("k-pairwise", "lagged"):
            A = np.zeros((g.n_units,) * 2) if c["A"] is None else c["A"]
            I = np.broadcast_to(c["I"], g.n_units)
            if "V" in c:
                return k_pairwise_action(array, A, I, c["V"])
            return lagged_action(array, A, I, c["J_lag"], g.boundary == "periodic")
        if self.action.name == "pairwise":
            J = c["J"] if isinstance(c["J"], np.ndarray) else c["J"].toarray()
            return pairwise_action(array, J, np.broadcast_to(c["h"], g.n_units))
        if self.action.name == "ising":
            spins = np.where(self.mask, array, 1)
            h = over_time(g, c["h"])
            return ising_action(spins, self.action.bond_couplings(g), h, periodicity(g), self.mask)
        units = {d: 0.0 for d in g.unit_displacements()}
        couplings = self.action.bond_couplings(g)
        kappa = [couplings.get(d, 0.0) for d in units]
        x = array[self.mask]
        rest = 0.0
        for d, value in couplings.items():
            if d not in units:
                rest -= 2 * value * (x @ count_bonds(d, self.mask, periodicity(g)) @ x)
        return phi4_action(array, kappa, c["lam"], periodicity(g), self.mask) + rest

    # ---- the engine's side
    @property
    def is_real(self):
        return self.action.kind == "real"

    @property
    def low_high(self):
        return (-1, 1) if self.action.kind == "spin" else (0, 1)

    def new_field(self, seed=1):
        """A hot configuration."""
        phi = self.action.new_field(self.geometry)
        start(phi, "hot", Key(seed))
        return phi

    def active(self, phi):
        """Active values of a field, row-major user's order, as floats."""
        return phi.array()[self.mask].astype(float)

    def addresses(self, phi):
        """(p, q, global site) of every active site in the order of :meth:`active`."""
        _, plan = self.action.bind(phi)
        j = np.arange(plan.length)
        shape = self.geometry.storage_shape
        out = []
        for first in (plan.line_p, plan.line_q, plan.line_site):
            whole = (first.astype(np.int64)[:, None] + j).reshape(shape)
            out.append(self.geometry.from_storage(whole)[self.mask])
        p, q, site = out
        return p.astype(np.intp), q.astype(np.intp), site.astype(np.uint64)


def _signs(d, geometry):
    return all(
        not (b == "periodic" and n > 1 and 2 * abs(s) > n)
        for b, n, s in zip(geometry.boundary, geometry.shape, d, strict=True)
    )


def _displacements(geometry, rng):
    """Nearest neighbors, diagonals and longer steps that fit, with different couplings."""
    steps = [
        d
        for d in itertools.product((-1, 0, 1, 2), repeat=len(geometry.shape))
        if any(d) and _signs(d, geometry)
    ]
    chosen = rng.permutation(len(steps))[:5]
    return {steps[k]: round(float(c), 3) for k, c in zip(chosen, rng.uniform(-0.3, 0.4, 5), strict=False)}


_PP, _PO = ("periodic", "periodic"), ("periodic", "open")
_MASK_2D = np.array([[1, 1, 0, 1, 1], [1, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], bool)
_MASK_3D = np.random.default_rng(5).random((3, 4, 5)) < 0.7

LATTICES = {
    "1d": Lattice((8,)),
    "1d-odd": Lattice((7,)),
    "1d-open": Lattice((6,), boundary="open"),
    "1d-single": Lattice((1,)),
    "1d-pair": Lattice((2,)),
    "1d-time": Lattice((9,), ("t",)),
    "1d-mask": Lattice((6,), mask=np.array([1, 1, 0, 1, 1, 1], bool)),
    "2d": Lattice((4, 6)),
    "2d-odd": Lattice((5, 7)),
    "2d-mixed": Lattice((5, 4), boundary=_PO),
    "2d-open": Lattice((3, 5), boundary="open"),
    "2d-pair": Lattice((2, 3)),
    "2d-four": Lattice((2, 2)),
    "2d-thin": Lattice((1, 5)),
    "2d-thin-last": Lattice((5, 1)),
    "2d-time-first": Lattice((6, 4), ("t", "x")),
    "2d-time-last": Lattice((5, 6), ("x", "t"), ("open", "periodic")),
    "2d-mask": Lattice((4, 5), mask=_MASK_2D),
    "3d": Lattice((4, 2, 4)),
    "3d-odd-time-last": Lattice((3, 4, 5), ("x", "y", "t"), ("periodic", "open", "periodic")),
    "3d-time-middle": Lattice((3, 5, 4), ("x", "t", "y"), ("open", "open", "periodic")),
    "3d-time-first": Lattice((3, 5, 2), ("t", "x", "y")),
    "3d-mask": Lattice((3, 4, 5), boundary=("open", "periodic", "periodic"), mask=_MASK_3D),
    "3d-mask-time": Lattice((4, 5, 4), ("x", "y", "t"), ("open", "periodic", "open"), mask=_MASK_2D),
    "4d": Lattice((2, 3, 2, 4), boundary=("periodic", "open", "periodic", "periodic")),
    "4d-time": Lattice((3, 2, 3, 3), ("x", "y", "t", "z")),
}


def _lattice_cases():
    for k, (name, lattice) in enumerate(LATTICES.items()):
        rng = np.random.default_rng(100 + k)
        axes = tuple(np.round(rng.uniform(-0.2, 0.5, len(lattice.shape)), 3).tolist())
        site_h = np.round(rng.uniform(-1, 1, lattice.space_shape), 3)
        steps = _displacements(lattice, rng)
        yield Case(f"ising-axes-{name}", lattice, Ising(K=axes, h=0.2))
        yield Case(f"ising-site-field-{name}", lattice, Ising(K=0.3, h=site_h))
        yield Case(f"phi4-axes-{name}", lattice, Phi4(kappa=axes, lam=0.5))
        if steps:
            yield Case(f"ising-steps-{name}", lattice, Ising(K=steps, h=site_h if k % 2 else -0.1))
            yield Case(f"phi4-steps-{name}", lattice, Phi4(kappa=steps, lam=0.1 * (k % 6)))


def _symmetric(rng, n, density):
    upper = np.triu(np.round(rng.normal(0, 0.5, (n, n)), 3) * (rng.random((n, n)) < density), 1)
    return upper + upper.T


def _neural_cases():
    graphs = {
        "open": (Graph(4, 6), {1: -0.3, 2: 0.2}),
        "periodic": (Graph(4, 6, "periodic"), {1: -0.3, 2: 0.2, 3: 0.1}),
        "odd": (Graph(3, 7, "periodic"), {1: -0.3, 3: 0.25}),
        "long-lags": (Graph(3, 5), {2: 0.3, 4: -0.2, 7: 1.0}),
        "one-unit": (Graph(1, 5, "periodic"), {1: 0.4}),
        "one-bin": (Graph(5, 1), {1: 0.4}),
        "one-bin-periodic": (Graph(5, 1, "periodic"), {}),
        "no-lags": (Graph(5, 3), {}),
    }
    for k, (name, (graph, B)) in enumerate(graphs.items()):
        rng = np.random.default_rng(200 + k)
        A, I = _symmetric(rng, graph.n_units, 0.8), np.round(rng.normal(0, 0.7, graph.n_units), 3)
        yield Case(f"neural-dense-{name}", graph, Neural(A=A, B=B, I=I))
        yield Case(f"neural-sparse-{name}", graph, Neural(A=csr_matrix(A), B=B, I=I))
        yield Case(f"neural-none-{name}", graph, Neural(A=None, B=B, I=0.3))
    yield Case(
        "neural-empty-pattern",
        Graph(3, 4),
        Neural(A=csr_matrix((3, 3)), B={1: 0.1}, I=np.array([0.1, -0.2, 0.0])),
    )


def _pairwise_cases():
    graphs = {"one-bin": Graph(5, 1), "bins": Graph(4, 5), "periodic": Graph(3, 4, "periodic"), "one-unit": Graph(1, 3)}
    for k, (name, graph) in enumerate(graphs.items()):
        rng = np.random.default_rng(300 + k)
        J, h = _symmetric(rng, graph.n_units, 0.8), np.round(rng.normal(0, 0.7, graph.n_units), 3)
        yield Case(f"pairwise-dense-{name}", graph, Pairwise(J=J, h=h))
        yield Case(f"pairwise-sparse-{name}", graph, Pairwise(J=csr_matrix(J), h=h))
    yield Case("pairwise-empty-pattern", Graph(3, 2), Pairwise(J=csr_matrix((3, 3)), h=0.4))


def _beyond_pairs_cases():
    graphs = {
        "open": (Graph(4, 6), 2),
        "periodic": (Graph(4, 6, "periodic"), 3),
        "odd": (Graph(3, 7, "periodic"), 2),
        "long-lags": (Graph(3, 4), 5),
        "one-unit": (Graph(1, 5, "periodic"), 1),
        "one-bin": (Graph(5, 1), 1),
        "wide": (Graph(11, 3), 1),  # more than eight units, which the kernel reads at once
    }
    for k, (name, (graph, lags)) in enumerate(graphs.items()):
        rng, n = np.random.default_rng(400 + k), graph.n_units
        A, I = _symmetric(rng, n, 0.8), np.round(rng.normal(0, 0.7, n), 3)
        V, C = np.round(rng.normal(0, 1, n + 1), 3), np.round(rng.normal(0, 0.5, (lags, n, n)), 3)
        yield Case(f"k-pairwise-{name}", graph, KPairwise(V=V, A=A, I=I))
        yield Case(f"lagged-{name}", graph, Lagged(J_lag=C, A=A, I=I))
    yield Case("k-pairwise-alone", Graph(4, 5), KPairwise(V=V[:5], I=0.3))
    yield Case("lagged-alone", Graph(3, 6), Lagged(J_lag=C[:, :3, :3], I=-0.2))


CASES = [*_lattice_cases(), *_neural_cases(), *_pairwise_cases(), *_beyond_pairs_cases()]
BINARY = [c for c in CASES if not c.is_real]
REAL = [c for c in CASES if c.is_real]


def name_of(case):
    """Test id."""
    return case.id
