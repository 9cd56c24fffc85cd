"""Cluster updates: Wolff and Swendsen-Wang for spins on lattices and graphs, with fields by a ghost spin.

Every bond whose term lowers the action, ``K s s' > 0``, is active with probability ``1 - exp(-2 |K|)``; the sites
that active bonds connect form clusters (Fortuin and Kasteleyn).  A field is a bond of strength h_x to one more spin
that stays +1, the ghost.  Turning any cluster that is not tied to the ghost over leaves exp(-S) invariant, whatever
the signs of the couplings; with frustration the clusters soon fill the lattice, and the update stays exact but moves
little.

Random numbers: the exponential variate of a bond belongs to (site, direction, update), the fair coin of a cluster to
its smallest global site.  So the labels, and with them the chain, do not depend on ranks.  Loops and layout:
``_kernels/clusters.pyx``.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from lft._kernels import clusters as loops
from lft.actions import Ising, Pairwise, Phi4
from lft.errors import InputError
from lft.protocols import Info, State
from lft.rng import GLOBAL_SITE, Stream

GHOST = -1
"""Label of the cluster that contains the ghost spin: smaller than every site."""

CLUSTER_UPDATES = ("swendsen-wang", "wolff", "sign-flips")
"""Names of the updates that need this workspace."""


def cluster_bytes(n_sites, n_ranks):
    """Bytes that the clusters of so many sites of a rank need at least: parents, turns, sums, labels of neighbors."""
    return n_sites * ((4 if n_sites < 2**31 - 1 else 8) + 1 + 8 + (8 if n_ranks > 1 else 0))


def clusters_of(action, phi):
    """The workspace of an action on a field, built once.

    Raises
    ------
    InputError
        The action has no clusters.
    """
    cache = phi.__dict__.setdefault("_clusters", {})
    if id(action) not in cache:
        kinds = (LatticeClusters, SignClusters, GraphClusters)
        kind = next((c for c in kinds if isinstance(action, c.action_type)), None)
        if kind is None:
            raise InputError(f"clusters: action {action.name!r} has none; valid are ising, pairwise and phi4")
        cache[id(action)] = (action, kind(action, phi))
    return cache[id(action)][1]


class Clusters:
    """Labels of the clusters of one configuration: union-find over the padded local array, merged over ranks.

    Attributes
    ----------
    parent : ndarray of int
        Root of each padded cell, both counted from 1; 0 is the ghost spin.
    t : int or None
        Number of updates after which the present labels are those of the last Swendsen-Wang update.
    """

    def __init__(self, action, phi):
        self.action, self.phi = action, phi
        _, self.plan = action.bind(phi)
        cells = phi.data.size
        self.parent = np.empty(cells + 1, np.int32 if cells < 2**31 - 1 else np.int64)
        self.turn = np.zeros(cells + 1, np.int8)
        self.lines = (self.plan.line_p, self.plan.line_site)
        self.length = self.plan.length
        self.t = self._labelled = None
        self.nodes = self.final = np.empty(0, np.int64)
        self._growth = None

    @property
    def flat(self):
        """The flat padded field; asked for anew each time, since other loops may hold its values in between."""
        return self.phi.data.reshape(-1)

    def holds(self, t):
        """Whether the last update of clusters is the one that led to update number ``t`` of this configuration."""
        return self.t == t and self._labelled is self.phi.data

    def mark(self, t):
        """The configuration at ``t`` is what the clusters made of it."""
        self.t, self._labelled = t, self.phi.data

    # ---- labels
    def label(self, t, key, shift=0, has_ghost=True):
        """Draw the bonds of update ``t`` and label the clusters (collective)."""
        n_cross = self._join(t, key, shift, has_ghost)
        loops.flatten(self.parent, self.plan.line_p, self.length)
        if self.phi.domain.comm is not None and self.is_cut:
            self._merge(n_cross)
        self.t = None

    def _merge(self, n_cross):
        """Join the clusters of all ranks: ``final[k]`` is the label of what its own rank calls ``nodes[k]``."""
        label = self.plan.scratch("labels", np.empty(self.phi.data.shape, np.int64))
        loops.site_labels(self.parent, *self.lines, self.length, label.reshape(-1))
        self.phi.domain.exchange(label)
        pairs = label.reshape(-1)[self.cross[:n_cross]]
        pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
        pairs = self.phi.domain.allgather(pairs)
        self.nodes, number = np.unique(pairs, return_inverse=True)
        parent = np.arange(len(self.nodes))
        loops.join_pairs(parent, number.reshape(-1, 2).astype(np.int64))
        self.final = self.nodes[parent]

    def _cells(self, sites):
        """Index in ``parent`` of global sites, -1 where another rank holds them; 0 for the ghost."""
        domain = self.phi.domain
        x = np.stack(np.unravel_index(np.maximum(sites, 0), domain.shape), axis=-1)
        start = np.array([s.start for s in domain.slices])
        stop = np.array([s.stop for s in domain.slices])
        is_here = ((x >= start) & (x < stop)).all(axis=-1)
        cell = ((x - start + np.array(domain.halo)) * np.array(domain.strides)).sum(axis=-1) + 1
        return np.where(sites == GHOST, 0, np.where(is_here, cell, -1))

    def _apply(self):
        """Turn the clusters over whose root is marked in ``turn``; returns the number of local sites."""
        return loops.apply_flips(self.flat, self.parent, self.turn, self.plan.line_p, self.length)

    def flip(self, t, key, number=0):
        """Turn each cluster over with probability 1/2; returns the number of local sites that changed."""
        coin = (t, int(Stream.CLUSTER_FLIP), number, key.word)
        loops.draw_flips(self.turn, *self.lines, self.length, *coin, self.plan.buffer[0])
        cell = self._cells(self.nodes)
        here = cell >= 0
        bits = loops.flip_bits(np.maximum(self.final[here], 0).astype(np.uint64), *coin)
        self.turn[cell[here]] = np.where(self.final[here] == GHOST, 0, bits)
        changed = self._apply()
        self.mark(t + 1)
        return changed

    # ---- what the labels know
    def _powers(self, total, scale):
        """Per local line the sums of (scale M)^2, (scale M)^4 and M over the clusters whose root lies on it."""
        out = np.empty((len(self.plan.line_p), 3))
        loops.power_lines(total, self.plan.line_p, self.length, scale, out)
        return out.T

    def moments(self):
        """(<m>, <m^2>, <m^4>) over all ways to turn the clusters over: see :class:`ClusterMoments` (collective)."""
        total = np.empty(len(self.parent), np.int64)
        loops.add_cells(self.flat, self.parent, self.plan.line_p, self.length, np.ones((1, 1), np.int64), total)
        return self._moments(total)

    def _merge_totals(self, total):
        """Sums of whole clusters at the roots, 0 at those that joined another; returns that of the ghost."""
        domain = self.phi.domain
        if domain.comm is None:
            return int(total[0])
        cell = self._cells(self.nodes)
        here = cell > 0  # the ghost is added separately
        parts = np.zeros(len(self.nodes) + 1, np.int64)
        parts[:-1][here] = total[cell[here]]
        parts[-1] = total[0]
        parts = domain.sum_int(parts)
        root = np.searchsorted(self.nodes, self.final)
        whole = np.zeros(len(self.nodes), np.int64)
        np.add.at(whole, root, parts[:-1])
        total[cell[here]] = np.where(self.final == self.nodes, whole, 0)[here]
        tied = int(whole[0]) if len(whole) and self.nodes[0] == GHOST else 0
        return int(parts[-1]) + tied


def _even_moments(m0, S2, S4):
    """<m^2> and <m^4> of m = m0 + sum of +-m_c with fair signs."""
    return m0**2 + S2, m0**4 + 6 * m0**2 * S2 + 3 * S2**2 - 2 * S4


class LatticeClusters(Clusters):
    """Clusters of :class:`lft.actions.Ising` on any lattice."""

    action_type, is_cut, strength = Ising, True, 2.0

    def __init__(self, action, phi):
        super().__init__(action, phi)
        geometry = phi.geometry
        couplings = action.bond_couplings(geometry)
        self.weight = np.array([self.strength * couplings[d] for d in self.plan.bonded])
        vectors = [geometry.storage_displacement(d) for d in self.plan.bonded]
        self.vectors = np.array(vectors, np.intp).reshape(len(vectors), len(phi.domain.shape))
        h = np.asarray(action.couplings.get("h", 0.0))
        self.ghost = None
        if np.any(h):
            self.ghost = 2.0 * self.plan.slice_array(np.broadcast_to(h, geometry.space_shape), geometry)
        self.base, self.remote = self._neighbors()
        n_cross = int(self.remote.sum()) * self.length
        self.cross = np.empty((max(n_cross, 1), 2), np.intp)
        self._pick = np.empty(self.length, np.intp)
        self.active = geometry.storage_mask()
        if self.active is not None:
            self.active = np.flatnonzero(self.active)

    def _neighbors(self):
        """First cell of the neighboring line per line and direction (-1: none), and whether it is another rank's."""
        domain = self.phi.domain
        x = np.indices(domain.local_shape[:-1]).reshape(len(domain.shape) - 1, -1)
        base = np.full((x.shape[1], len(self.vectors)), -1, np.intp)
        remote = np.zeros(base.shape, np.int8)
        halo, strides = np.array(domain.halo)[:, None], np.array(domain.strides)[:, None]
        for m, vector in enumerate(self.vectors):
            if not self.weight[m]:
                continue
            plain = x + vector[:-1, None]
            wrapped, exists = plain.copy(), np.ones(x.shape[1], bool)
            for axis, n in enumerate(domain.local_shape[:-1]):
                outside = (plain[axis] < 0) | (plain[axis] >= n)
                if domain.grid[axis] > 1:
                    remote[:, m] |= outside
                elif domain.periodic[axis]:
                    wrapped[axis] %= n
                else:
                    exists &= ~outside
            # the halo of another rank is addressed as it lies there
            y = np.where(remote[:, m] == 1, plain, wrapped)
            cell = ((y + halo[:-1]) * strides[:-1]).sum(axis=0) + domain.halo[-1]
            base[:, m] = np.where(exists, cell, -1)
            remote[:, m] &= exists
        return base, remote

    def _join(self, t, key, shift, has_ghost):
        plan, domain = self.plan, self.phi.domain
        along = np.ascontiguousarray(self.vectors[:, -1])
        lines = (plan.line_p, plan.line_q, plan.line_site, self.length, self.base, self.remote, along)
        counter = (shift, t, int(Stream.CLUSTER), key.word, plan.buffer[0])
        ghost = self.ghost if has_ghost else None
        arguments = (*lines, domain.periodic[-1], self.weight, ghost, *counter, self._pick, self.cross)
        return loops.lattice_bonds(self.flat, self.parent, *arguments)

    def _moments(self, total):
        domain, V = self.phi.domain, self.phi.geometry.n_active
        m0 = self._merge_totals(total) / V
        S2, S4 = (domain.sum_lines(v, "clusters") for v in self._powers(total, 1 / V)[:2])
        return m0, *_even_moments(m0, S2, S4)

    # ---- one cluster
    def seed(self, t, key, number):
        """The global site at which cluster ``number`` of update ``t`` begins: any active site, equally likely."""
        u = key.uniform(t, Stream.CLUSTER_SEED, site=GLOBAL_SITE - number)
        index = int(u * self.phi.geometry.n_active)
        if self.active is None:
            return index
        time_, place = divmod(index, len(self.active))
        per_slice = self.phi.geometry.n_sites // self.phi.geometry.n_time
        return time_ * per_slice + int(self.active[place])

    def flip_one(self, t, key, number):
        """Turn over the cluster of one random site; returns (local sites, flipped ones, M^2/n of the cluster)."""
        site, shift = self.seed(t, key, number), number * self.phi.geometry.n_sites
        if self.phi.domain.comm is None:
            n, flipped, M = self._grow(t, key, site, shift)
            return n, flipped, M * M / n
        self.label(t, key, shift, has_ghost=False)
        cell = self._cells(np.array([site]))[0]
        label = np.zeros(1, np.int64)
        if cell > 0:  # the label is the smallest site, which another rank may hold
            label[0] = self.plan.scratch("labels", self.phi.data).reshape(-1)[cell - 1]
            k = np.searchsorted(self.nodes, label[0])
            if k < len(self.nodes) and self.nodes[k] == label[0]:
                label[0] = self.final[k]
        label = self.phi.domain.sum_int(label)
        parts = self.nodes[self.final == label[0]] if label[0] in self.final else label
        roots = self._cells(parts)
        self.turn[...] = 0
        self.turn[roots[roots > 0]] = 1
        member = self.turn[self.parent]
        inside = member[1:] != 0
        sums = np.array([np.count_nonzero(inside & (self.flat != 0)), self.flat[inside].sum(dtype=np.int64), 0])
        local = int(sums[0])
        if self.ghost is not None:
            sums[2] = self._ghost_hits(member, t, key, shift)
        n, M, hits = self.phi.domain.sum_int(sums)
        if hits:
            return local, 0, int(M) ** 2 / int(n)
        return local, self._apply(), int(M) ** 2 / int(n)

    def _ghost_hits(self, member, t, key, shift):
        direction = len(self.weight)
        lines = (self.plan.line_p, self.plan.line_q, self.plan.line_site, self.length, self.ghost)
        where = (direction // 2, direction % 2 == 1, shift, t, int(Stream.CLUSTER), key.word, self.plan.buffer[0])
        return loops.ghost_hits(self.flat, member, *lines, *where)

    def _grow(self, t, key, site, shift):
        if self._growth is None:
            self._prepare_growth()
        cell = int(self._cells(np.array([site]))[0]) - 1
        steps = (self.plan.offsets, self._site_step, self._home, self._axes, self.weight, self.ghost)
        counter = (self.plan.slice_size, shift, t, int(Stream.CLUSTER), key.word)
        return loops.grow_lattice(self._growth, self.flat, cell, site, *steps, *counter)

    def _prepare_growth(self):
        domain = self.phi.domain
        own = np.full(domain.padded_shape, -1, np.int64)
        own[domain.interior] = np.arange(own.size).reshape(own.shape)[domain.interior]
        mark = np.full(domain.padded_shape, 2, np.int8)
        mark[domain.interior] = 0
        domain.exchange(own)  # a wrapped halo cell learns where it is at home; beyond an open end stays -1
        self._home = own.reshape(-1).astype(self.parent.dtype)
        sites = [math.prod(domain.shape[k + 1 :]) for k in range(len(domain.shape))]
        self._axes = np.array(list(zip(domain.strides, domain.halo, sites, strict=True)), np.intp)
        self._site_step = (self.vectors * np.array(sites, np.intp)).sum(axis=1).astype(np.int64)
        self._growth = loops.Growth(mark.reshape(-1))


class SignClusters(LatticeClusters):
    """Clusters of the signs of a real field: with the moduli fixed they are spins coupled by 2 kappa |phi phi'|."""

    action_type, strength = Phi4, 4.0


class GraphClusters(Clusters):
    """Clusters of :class:`lft.actions.Pairwise`: every bin of the graph is an independent copy."""

    action_type, is_cut = Pairwise, False

    def __init__(self, action, phi):
        super().__init__(action, phi)
        from scipy.sparse import coo_matrix, csr_matrix, triu

        graph = phi.geometry
        h = action.fields(graph)
        self.ghost = 2.0 * h if np.any(h) else None
        pairs = triu(csr_matrix(action.couplings["J"]), 1).tocoo()
        pairs.eliminate_zeros()
        order = np.lexsort((pairs.col, pairs.row))
        self.first, self.second = (v[order].astype(np.int32) for v in (pairs.row, pairs.col))
        self.weight = 2.0 * pairs.data[order]
        n_bonds = len(self.weight)
        ends = np.concatenate([self.first, self.second]), np.concatenate([self.second, self.first])
        bonds = np.concatenate([np.arange(n_bonds)] * 2) + 1.0  # 0 would not be stored
        table = coo_matrix((bonds, ends), shape=(graph.n_units,) * 2).tocsr()
        self._adjacency = (
            table.indptr.astype(np.intp),
            table.indices.astype(np.int32),
            (table.data - 1).astype(np.int32),
        )
        self.bins = (self.plan.line_site // np.uint64(graph.n_units)).astype(np.uint64)
        self._blocks = graph.n_bins * ((n_bonds + 1) // 2)
        self._noise = np.empty((2, min(1024, max(n_bonds, graph.n_units))))
        self.cross = np.empty((1, 2), np.intp)

    def _join(self, t, key, shift, has_ghost):
        where = (self.plan.line_p, self.bins, self.phi.geometry.n_units, self.first, self.second, self.weight)
        counter = (0, t, int(Stream.CLUSTER), key.word, self._noise)
        loops.graph_bonds(self.flat, self.parent, *where, self.ghost, *counter)
        return 0

    def _moments(self, total):
        # of each bin, then averaged: the bins are independent copies
        graph, domain = self.phi.geometry, self.phi.domain
        S2, S4, free = self._powers(total, 1 / graph.n_units)
        m0 = (self.phi.values.sum(axis=1, dtype=np.int64) - free) / graph.n_units
        return tuple(domain.sum_lines(v, "clusters") / graph.n_bins for v in (m0, *_even_moments(m0, S2, S4)))

    def flip_one(self, t, key, number):
        """Turn over the cluster of one random unit in every bin; returns (local sites, flipped ones, sum of M^2/n)."""
        graph = self.phi.geometry
        if self._growth is None:
            self._growth = loops.Growth(np.zeros(self.phi.data.size, np.int8))
        first = int(self.bins[0]) + number * graph.n_bins if len(self.bins) else 0
        u, _ = key.fill("uniform", first, 1, len(self.bins), t, Stream.CLUSTER_SEED)
        sites = flipped = 0
        share = np.zeros(len(self.bins))
        shifts = (number * self._blocks, number * graph.n_sites)
        for k, unit in enumerate((u * graph.n_units).astype(int)):
            where = (int(self.plan.line_p[k]), int(self.bins[k]), graph.n_units, int(unit), *self._adjacency)
            n, changed, M = loops.grow_graph(
                self._growth, self.flat, *where, self.weight, self.ghost, *shifts, t, int(Stream.CLUSTER), key.word
            )
            sites, flipped = sites + n, flipped + changed
            share[k] = M * M / n
        return sites, flipped, self.phi.domain.sum_lines(share, "clusters") / graph.n_bins


def _check(updater, action):
    if not isinstance(action, LatticeClusters.action_type | GraphClusters.action_type):
        raise InputError(
            f"update {updater.name!r} works on fields of kind spin with the actions ising and pairwise; action "
            f"{action.name!r} has kind {action.kind!r}: valid are other updates"
        )


class SwendsenWang:
    """Swendsen-Wang: draw all bonds, turn every cluster over with probability 1/2 (Phys. Rev. Lett. 58, 86 (1987)).

    One update visits every site once.  ``accepted`` counts the sites that changed.
    """

    name, kinds = "swendsen-wang", ("spin",)
    streams = (Stream.CLUSTER, Stream.CLUSTER_FLIP)

    def __repr__(self):
        return "SwendsenWang()"

    def step(self, action, state, key):
        """One update."""
        _check(self, action)
        started = time.perf_counter()
        phi = state.phi
        clusters = clusters_of(action, phi)
        clusters.label(state.t, key)
        accepted = clusters.flip(state.t, key)
        phi.exchange()
        info = Info(clusters.plan.n_active_local, accepted, 0.0, time.perf_counter() - started)
        return State(phi, state.t + 1), info

    def observables(self, action, geometry):
        """Improved estimators from the clusters of each update."""
        return [ClusterMoments(has_field=bool(np.any(action.couplings["h"])))]


class SignFlips:
    """Swendsen-Wang update of the signs of a real field, ``updates`` times (Brower and Tamayo, Phys. Rev. Lett. 62,
    1087 (1989)).

    The moduli stay, so it samples only together with another update: ``Sequence([HMC(), SignFlips()])``.

    Parameters
    ----------
    updates : int
        Labellings and flips per update, 1 to 256.
    """

    name, kinds = "sign-flips", ("real",)
    streams = (Stream.CLUSTER, Stream.CLUSTER_FLIP)

    def __init__(self, updates=1):
        if isinstance(updates, bool) or not isinstance(updates, int) or not 1 <= updates <= 256:
            raise InputError(f"updates = {updates!r}: valid is an integer from 1 to 256")
        self.updates = updates

    def __repr__(self):
        return f"SignFlips(updates={self.updates})"

    def step(self, action, state, key):
        """One update."""
        if not isinstance(action, Phi4):
            raise InputError(f"update {self.name!r} works on the action phi4, not on {action.name!r}")
        started = time.perf_counter()
        phi, accepted = state.phi, 0
        clusters = clusters_of(action, phi)
        for number in range(self.updates):
            clusters.label(state.t, key, number * phi.geometry.n_sites)
            accepted += clusters.flip(state.t, key, number)
            phi.exchange()
        info = Info(self.updates * clusters.plan.n_active_local, accepted, 0.0, time.perf_counter() - started)
        return State(phi, state.t + 1), info


class Wolff:
    """Wolff: turn over the cluster of one random site (Phys. Rev. Lett. 62, 361 (1989)), ``clusters`` times.

    On a graph every bin is a copy of its own and turns over ``clusters`` clusters.  ``proposed`` counts the sites of
    the clusters and ``accepted`` those that changed (all of them without a field): ``proposed / V`` of an update is its
    cost in sweeps.  On one rank the cost grows with the cluster; on several every cluster costs a labelling of the
    lattice.

    Parameters
    ----------
    clusters : int
        Clusters per update, >= 1.
    """

    name, kinds = "wolff", ("spin",)
    streams = (Stream.CLUSTER, Stream.CLUSTER_SEED)

    def __init__(self, clusters=1):
        if isinstance(clusters, bool) or not isinstance(clusters, int) or not 1 <= clusters < 2**31:
            raise InputError(f"clusters = {clusters!r}: valid is an integer >= 1")
        self.clusters = clusters

    def __repr__(self):
        return f"Wolff(clusters={self.clusters})"

    def step(self, action, state, key):
        """One update."""
        _check(self, action)
        started = time.perf_counter()
        phi = state.phi
        clusters = clusters_of(action, phi)
        proposed = accepted = 0
        share = 0.0
        for number in range(self.clusters):
            sites, flipped, mean = clusters.flip_one(state.t, key, number)
            phi.exchange()
            proposed, accepted, share = proposed + sites, accepted + flipped, share + mean
        clusters.mark(state.t + 1)
        clusters.share = share / self.clusters
        info = Info(proposed, accepted, 0.0, time.perf_counter() - started)
        return State(phi, state.t + 1), info

    def observables(self, action, geometry):
        """The improved estimator of m^2, where no field ties clusters to the ghost spin."""
        return [] if np.any(action.couplings["h"]) else [ClusterSize()]


@dataclass(frozen=True)
class ClusterMoments:
    """Moments of the mean spin, averaged over all ways to turn the clusters of the last update over.

    With m_c the share of cluster c in m = (1/V) sum_x s_x (absolute values for ferromagnets: its size / V), m_0 that of
    the clusters tied to the ghost spin,

        magnetization_improved = m_0                          only with a field
        m2_improved            = m_0^2 + S2,                  S2 = sum_c m_c^2
        m4_improved            = m_0^4 + 6 m_0^2 S2 + 3 S2^2 - 2 S4,   S4 = sum_c m_c^4

    Their means are those of m, m^2, m^4 (on a graph, of each bin, averaged over the bins); nan unless the last update
    was one of clusters.  Computed only when measured.
    """

    has_field: bool = False
    axes: tuple[str, ...] = ()
    doc: str = "m, m^2, m^4 averaged over all ways to turn the clusters of the last update over (improved estimators)"

    @property
    def names(self):
        """The observables that are offered."""
        field = ("magnetization_improved",) if self.has_field else ()
        return (*field, "m2_improved", "m4_improved")

    def measure(self, action, state):
        clusters = clusters_of(action, state.phi)
        if not clusters.holds(state.t):
            return dict.fromkeys(self.names, math.nan)
        return dict(zip(self.names, clusters.moments()[-len(self.names) :], strict=True))


@dataclass(frozen=True)
class ClusterSize:
    """m2_improved = (1/V) mean of M_C^2/n_C over the clusters C of the last update, M_C its spin sum, n_C its size.

    The mean is <m^2>, since a site of each cluster is chosen with probability n_C/V; for ferromagnets M_C^2/n_C is the
    size of the cluster.  On a graph V is the number of units, and the mean runs over the bins, which are copies.
    """

    names = ("m2_improved",)
    axes: tuple[str, ...] = ()
    doc: str = "m^2 from the mean size of the clusters of the last update (improved estimator)"

    def measure(self, action, state):
        clusters = clusters_of(action, state.phi)
        geometry = state.phi.geometry
        V = geometry.n_active if clusters.is_cut else geometry.n_units
        return {"m2_improved": clusters.share / V if clusters.holds(state.t) else math.nan}
