"""Which parameters a Gibbs model has, and how they make the weights of every unit's logistic regression.

The conditional log-odds of unit i in bin a are a sum over the features of :mod:`lft.inference.pseudo.patterns`,

    z_i^a = c_i + sum_j a_ij phi_j^a + sum_k b_k (phi_i^{a+k} + phi_i^{a-k})
            + sum_kj [C_ij(k) phi_j^{a-k} + C_ji(k) phi_j^{a+k}]
            + V(K_i^a + 1) - V(K_i^a) + sum_q u_iq x_q(a),      K_i^a = sum_{j != i} phi_j^a

with one weight per (target, feature).  The weights are linear in the parameters theta = (a, b, C, V, c, u): ``weights =
R theta`` with a sparse matrix R, in which every coupling stands as often as it appears in conditionals: a_ij in those
of i and j, C_ij(k) in that of i (bins before) and in that of j (bins after), u_iq with the weight x_q in those values
of the input where it is not 0.  Gradients come back through R^T.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lft.inference import held


@dataclass(frozen=True)
class Layout:
    """Parameters ``theta = (a of the pairs, b of the lags, C of the directed pairs, V of the levels, c of the units,
    u of the driven units)``.

    Attributes
    ----------
    n_units : int
    units : ndarray
        Units that are targets and have a c.
    pairs : ndarray (n_pairs, 2)
        ``i < j``.
    lags : tuple of int
        Of b.
    directed : ndarray (n_directed, 3)
        (lag, target, source) of C.
    directed_lags : tuple of int
        Lags whose shifts are features: shift 0, then -k, +k for each.
    level : ndarray (n_units + 2,) or None
        Place of V(K) among the free levels, -1 where V(K) = 0 by the gauge; K = 0 ... n_units + 1.
    values : ndarray (n_values, n_inputs) or None
        x_q of every value of the time-dependent inputs (:class:`lft.inference.pseudo.drive.Drive`).
    driven : ndarray (n_driven, 2) or None
        (unit, q) of the u.
    held : frozenset of str
        Names of couplings of pairs and inputs without a finite maximum that a Gaussian prior of standard deviation
        ``newton.HELD_SD`` keeps finite, on the side to which they run.
    """

    n_units: int
    units: np.ndarray
    pairs: np.ndarray
    lags: tuple = ()
    directed: np.ndarray | None = None
    directed_lags: tuple = ()
    level: np.ndarray | None = None
    values: np.ndarray | None = None
    driven: np.ndarray | None = None
    held: frozenset = frozenset()

    @property
    def n_pairs(self):
        return len(self.pairs)

    @property
    def n_directed(self):
        return 0 if self.directed is None else len(self.directed)

    @property
    def n_levels(self):
        return 0 if self.level is None else int(self.level.max()) + 1

    @property
    def n_values(self):
        return 0 if self.values is None else len(self.values)

    @property
    def n_driven(self):
        return 0 if self.driven is None else len(self.driven)

    @property
    def first(self):
        """Places of the first a, b, C, V, c, u, and the size."""
        sizes = [self.n_pairs, len(self.lags), self.n_directed, self.n_levels, len(self.units), self.n_driven]
        return np.concatenate([[0], np.cumsum(sizes)])

    @property
    def size(self):
        return int(self.first[-1])

    @property
    def shifts(self):
        return (0, *(s for k in self.directed_lags for s in (-k, k)))

    @property
    def counted(self):
        """Places of the shared features "K units fire"."""
        first = self.n_units * len(self.shifts)
        return slice(first, first + (self.n_units + 1 if self.level is not None else 0))

    @property
    def n_shared(self):
        return self.counted.stop + self.n_values

    @property
    def n_own(self):
        return len(self.lags) + (self.n_units + 1 if self.level is not None else 0)

    @property
    def n_features(self):
        """Shared features, own features, the constant."""
        return self.n_shared + self.n_own + 1

    @property
    def widest(self):
        """Largest number of parameters in the conditional of a unit: inputs have fewer weights than values."""
        return self.n_features - self.n_values + (0 if self.values is None else self.values.shape[1])

    @property
    def border(self):
        """Places of parameters that stand in the conditionals of all units (b and V)."""
        f = self.first
        return np.concatenate([np.arange(f[1], f[2]), np.arange(f[3], f[4])])

    def names(self):
        """``a[0,3]``, ``b[1]``, ``C[2,0,3]`` (lag, target, source), ``V[5]``, ``c[0]``, ``u[1,0]`` (input, unit)."""
        out = [f"a[{i},{j}]" for i, j in self.pairs] + [f"b[{k}]" for k in self.lags]
        if self.n_directed:
            out += [f"C[{k},{i},{j}]" for k, i, j in self.directed]
        if self.n_levels:
            out += [f"V[{int(np.flatnonzero(self.level == v)[0])}]" for v in range(self.n_levels)]
        out += [f"c[{i}]" for i in self.units]
        return out + ([f"u[{q},{i}]" for i, q in self.driven] if self.n_driven else [])

    def is_held(self):
        """Mask of the couplings in ``held``."""
        return np.isin(self.names(), sorted(self.held)) if self.held else np.zeros(self.size, bool)

    def kinds(self):
        return np.repeat(["a", "b", "C", "V", "c", "u"], np.diff(self.first))

    def groups(self):
        """One group per unordered pair of units (its a and all its C), b and V one each, c and u in none."""
        n, f = self.n_units, self.first
        out = np.full(self.size, -1)
        out[: f[1]] = self.pairs[:, 0] * n + self.pairs[:, 1]
        out[f[1] : f[2]] = n * n + np.arange(f[2] - f[1])
        if self.n_directed:
            low, high = np.sort(self.directed[:, 1:], axis=1).T
            out[f[2] : f[3]] = low * n + high
        out[f[3] : f[4]] = n * n + len(self.lags)
        _, place = np.unique(out[out >= 0], return_inverse=True)
        out[out >= 0] = place
        return out

    def matrix(self):
        """R (n_units n_features, size): weights of target i are its rows ``i n_features`` and following."""
        from scipy.sparse import csr_array

        n, m, f = self.n_units, self.n_features, self.first
        row, column, value = [], [], []

        def add(target, feature, parameter, number=1.0):
            row.append(np.asarray(target) * m + feature)
            column.append(np.broadcast_to(parameter, row[-1].shape))
            value.append(np.full(row[-1].shape, number))

        i, j = self.pairs.T
        add(i, j, np.arange(f[1]))
        add(j, i, np.arange(f[1]))
        for place in range(len(self.lags)):
            add(self.units, self.n_shared + place, f[1] + place)
        if self.n_directed:
            k, i, j = self.directed.T
            s = 2 * np.searchsorted(self.directed_lags, k) + 1
            add(i, s * n + j, np.arange(f[2], f[3]))
            add(j, (s + 1) * n + i, np.arange(f[2], f[3]))
        if self.level is not None:
            self._add_levels(add)
        add(self.units, m - 1, np.arange(f[4], f[5]))
        if self.n_driven:
            for place, q in np.argwhere(self.values):
                mine = np.flatnonzero(self.driven[:, 1] == q)
                add(self.driven[mine, 0], self.counted.stop + place, f[5] + mine, self.values[place, q])
        row, column, value = (np.concatenate(part) for part in (row, column, value))
        return csr_array((value, (row, column)), shape=(n * m, self.size))

    def _add_levels(self, add):
        """dV(K) = V(K + 1) - V(K) where K others fire; a unit that fires itself sees dV(K - 1) instead."""
        first = self.first[3]
        shared = self.counted.start
        own = self.n_shared + len(self.lags)
        for count in range(self.n_units + 1):
            for k, sign, feature in ((count, 1.0, shared), (count, -1.0, own), (count - 1, 1.0, own)):
                if k < 0:
                    continue
                for upper, s in ((k + 1, sign), (k, -sign)):
                    if self.level[upper] >= 0:
                        add(self.units, feature + count, first + self.level[upper], s)


def all_pairs(n_units, units=None):
    """Pairs ``i < j`` of some units, in the order of ``np.argwhere``."""
    inside = np.zeros(n_units, bool)
    inside[np.arange(n_units) if units is None else units] = True
    return np.argwhere(np.triu(inside[:, None] & inside[None, :], 1))


def levels_of(counts_seen, n_units):
    """Levels of V from the numbers K of firing units that occur.

    V = 0 for the three lowest K that occur (0, 1, 2 unless some unit always fires) fixes the gauge: a constant, and the
    terms linear and quadratic in K, which c and a hold.  Conditionals compare K with K + 1, so they tell V only up to
    the first K that never occurs: from there on V is constant.

    Parameters
    ----------
    counts_seen : ndarray of bool (n_units + 1,)
    n_units : int

    Returns
    -------
    level : ndarray (n_units + 2,)
        Place of V(K) among the free levels, -1 where V(K) = 0.
    merged : list of int
        The K above the gauge that have no level of their own.
    """
    lowest = int(np.argmax(counts_seen))
    level, n = np.full(n_units + 2, -1), 0
    for k in range(lowest + 3, n_units + 1):
        if not counts_seen[lowest : k + 1].all():
            break
        level[k:] = n
        n += 1
    return level, list(range(lowest + 3 + n, n_units + 1))


def counts_notes(merged, top):
    """Lines on the K without a V of their own, up to the largest that occurs, ``top``, and above."""
    gaps = [f"V[{k}]" for k in merged if k <= top]
    notes = []
    if gaps:
        notes.append(
            f"{len(gaps)} numbers of firing units do not occur, or lie above one that does not, or have no finite "
            f"maximum: {held.some(gaps)}; V is constant there"
        )
    return notes + ([above_note(top, "is constant, as nothing tells it")] if merged[-1] > top else [])


def above_note(top, what):
    """The line on V above the largest number that occurs."""
    return f"V above {top}, the largest number of units that fire together in training, {what}"


def without(layout, drop):
    """The layout without some of its couplings of pairs and inputs; a level of V joins the next lower one."""
    f = layout.first
    directed = None if layout.directed is None else layout.directed[~drop[f[2] : f[3]]]
    driven = None if layout.driven is None else layout.driven[~drop[f[5] :]]
    level = None if layout.level is None else without_levels(layout.level, np.flatnonzero(drop[f[3] : f[4]]))
    return replace(layout, pairs=layout.pairs[~drop[: f[1]]], directed=directed, level=level, driven=driven)


def without_levels(level, places):
    """The levels after some share the value of the next lower one."""
    level = level.copy()
    for v in sorted(places, reverse=True):
        level[level >= v] -= 1
    return level
