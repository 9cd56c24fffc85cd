"""Small Gibbs models without sampling: all states of a bin, or the transfer matrix of a stretch.

Static models: the table of all 2^N weights, built by doubling.  Its superset sums

    g(S) = sum_{s containing S} P(s) = < prod_{i in S} phi_i >

are all moments at once (N 2^N additions); averages of pairs and the covariance of pairs, of four units, are entries.

Space-time models: the last k bins are a state, a new bin multiplies by exp of its terms.  Silent bins weigh nothing, so
an open end is a past of zeros.  Forward and backward vectors converge to those of the largest eigenvalue, and a
stretch of any length is two ends and a bulk.
"""

from __future__ import annotations

import itertools

import numpy as np

from lft.errors import InputError

MAX_UNITS = 20
"""Units of a static model whose 2^N states are summed."""
MAX_BITS = 12
"""Units times lags of a space-time model whose transfer matrix is used."""
MAX_JOINT = 20
"""Units times (lags + 1): a state and the next bin, where log Z is asked for in passing."""
MAX_FITTED = 24
"""The same for a fit: 12 units and one lag take 0.7 GB, 4 CPU s per step."""
_SETTLED = 1e-14


def is_small(model):
    """Whether a model is summed exactly."""
    n, lags = model.n_units, len(model.lagged)
    return n <= MAX_UNITS if not lags else n * lags <= MAX_BITS and n * (lags + 1) <= MAX_JOINT


# ---- static
def log_weight_table(model):
    """W of all 2^N states of a bin; bit i of the index is unit i.

    Raises
    ------
    InputError
        More than 20 units.
    """
    n = model.n_units
    if n > MAX_UNITS:
        raise InputError(f"{n} units: enumeration is for at most {MAX_UNITS}")
    table = np.zeros(1)
    for i in range(n):
        push = np.full(1, model.c[i])
        for j in range(i):
            push = np.concatenate([push, push + model.a[i, j]])
        table = np.concatenate([table, table + push])
    return table if model.V is None else table + model.V[spike_counts(n)]


def spike_counts(n):
    """Number of set bits of 0 .. 2^n - 1."""
    count = np.zeros(1, np.intp)
    for _ in range(n):
        count = np.concatenate([count, count + 1])
    return count


def probabilities(model):
    """(P of all 2^N states of a bin, log Z) of a static model."""
    w = log_weight_table(model)
    top = w.max()
    p = np.exp(w - top)
    z = p.sum()
    return p / z, float(top + np.log(z))


def superset_sums(p):
    """``g(S)``: sum of p over all states that contain S; a copy.

    >>> superset_sums(np.array([0.1, 0.2, 0.3, 0.4])).round(9).tolist()
    [1.0, 0.6, 0.7, 0.4]
    """
    g = np.array(p, float)
    for bit in range(len(g).bit_length() - 1):
        view = g.reshape(-1, 2, 1 << bit)
        view[:, 0] += view[:, 1]
    return g


def static_moments(operators, model, with_covariance=True):
    """log Z, <O> and cov(O) of one bin of a static model.

    Parameters
    ----------
    operators : Operators
        Without lags.
    model : GibbsModel

    Returns
    -------
    log_z : float
    mean : ndarray (size,)
    covariance : ndarray (size, size) or None

    Notes
    -----
    Cost: N 2^N for the moments, times the number of levels of V + 1.
    """
    p, log_z = probabilities(model)
    n_pairs, _, _, n_levels, n_units = operators.sizes
    bits = np.concatenate(
        [(1 << operators.pairs).sum(axis=1), 1 << operators.units]  # sets of units whose product is the operator
    ).astype(np.int64)
    g = superset_sums(p)
    where = np.r_[0:n_pairs, n_pairs + n_levels : n_pairs + n_levels + n_units]
    mean = np.zeros(operators.size)
    mean[where] = g[bits]
    second = np.zeros((operators.size,) * 2) if with_covariance else None
    if with_covariance:
        second[np.ix_(where, where)] = g[bits[:, None] | bits[None, :]]
    count = spike_counts(model.n_units) if n_levels else None
    for number, level in enumerate(operators.levels, n_pairs):
        part = np.where(np.isin(count, level), p, 0.0)
        mean[number] = part.sum()
        if with_covariance:
            second[number, number] = mean[number]
            second[number, where] = second[where, number] = superset_sums(part)[bits]
    return log_z, mean, None if second is None else second - np.outer(mean, mean)


# ---- space-time
class Transfer:
    """Transfer matrix of a space-time model: N lags <= 12.

    Parameters
    ----------
    model : GibbsModel
    longest : int
        Bins of the longest stretch that will be asked for.

    Raises
    ------
    InputError
        The model is too large.
    """

    def __init__(self, model, longest=20_000):
        n, lags = model.n_units, len(model.lagged)
        if not lags or n * lags > MAX_BITS or n * (lags + 1) > MAX_FITTED:
            raise InputError(
                f"{n} units and {lags} lags: the transfer matrix is for units times lags <= {MAX_BITS} and units times "
                f"(lags + 1) <= {MAX_FITTED}"
            )
        self.n, self.lags = model.n_units, len(model.lagged)
        bits = (np.arange(1 << self.n)[:, None] >> np.arange(self.n) & 1).astype(float)
        self.bits = bits
        shape = [1 << self.n] * (self.lags + 1)  # axes: bin a - k, ..., a - 1, a
        w = np.broadcast_to(log_weight_table(_static_part(model)), shape).copy()
        for k in range(1, self.lags + 1):
            pair = bits @ model.lagged[k - 1].T @ bits.T  # source, target
            w += pair.reshape([1 << self.n if axis in (self.lags - k, self.lags) else 1 for axis in range(len(shape))])
        self.top = float(w.max())
        self.step = np.exp(w - self.top).reshape(1 << self.n * self.lags, 1 << self.n)
        self._run(longest)

    def forward(self, x):
        joint = (x[:, None] * self.step).reshape(1 << self.n, -1)
        return joint.sum(axis=0)

    def backward(self, y):
        """y by the state after the step; the oldest bin of the state before it is free."""
        later = np.broadcast_to(y, (1 << self.n, len(y))).reshape(self.step.shape)
        return (self.step * later).sum(axis=1)

    def _run(self, longest):
        """Normalized forward and backward vectors until they settle, and the logs of their norms."""
        self.left, self.left_log = _settle(self.forward, np.eye(1, len(self.step))[0], longest)
        self.right, self.right_log = _settle(self.backward, np.full(len(self.step), 1.0 / len(self.step)), longest)

    def log_z(self, n_bins):
        """log Z of a stretch of n_bins."""
        settled = len(self.left_log)
        logs = self.left_log[:n_bins]
        total = float(logs.sum()) + self.left_log[-1] * max(n_bins - settled, 0)
        return float(total + n_bins * self.top)  # forward vectors have sum 1

    def joint(self, n_bins):
        """Expected number of times that (state, next bin) occurs in a stretch: (2^(N k), 2^N), sum n_bins."""
        out = np.zeros_like(self.step)
        m, r = len(self.left) - 1, len(self.right) - 1
        edge = range(n_bins) if n_bins <= m + r else itertools.chain(range(m), range(n_bins - r, n_bins))
        for a in edge:
            out += self._joint_at(self.left[min(a, m)], self.right[min(n_bins - 1 - a, r)])
        if n_bins > m + r:
            out += (n_bins - m - r) * self._joint_at(self.left[m], self.right[r])
        return out

    def _joint_at(self, x, y):
        later = np.broadcast_to(y, (1 << self.n, len(y))).reshape(self.step.shape)
        joint = x[:, None] * self.step * later
        return joint / joint.sum()

    def mean(self, operators, n_bins):
        """<O> of a stretch of n_bins."""
        joint = self.joint(n_bins).reshape([1 << self.n] * (self.lags + 1))
        now = joint.sum(axis=tuple(range(self.lags)))
        out, at = np.zeros(operators.size), operators.at
        second = self.bits.T @ (now[:, None] * self.bits)

        def late(k):
            """sum_a <phi_j^(a-k) phi_i^a>, (source, target)."""
            axes = tuple(x for x in range(self.lags + 1) if x not in (self.lags - k, self.lags))
            return self.bits.T @ joint.sum(axis=axes) @ self.bits

        i, j = operators.pairs.T
        out[at["a"]] = second[i, j]
        for number, k in enumerate(operators.lags, at["b"].start):
            if k <= self.lags:
                out[number] = np.trace(late(k))
        for k, places, i, j in operators.by_lag():
            out[at["C"].start + places] = late(k)[j, i]
        count = self.bits.sum(axis=1).astype(int)
        for number, level in enumerate(operators.levels, at["V"].start):
            out[number] = now[np.isin(count, level)].sum()
        out[at["c"]] = second.diagonal()[operators.units]
        return out

    def covariance(self, operators):
        """cov(O) per bin of a long stretch, with all that its bins share: (size, size).

        With ``O^a = O(s, x)`` of a state s and the next bin x, transition matrix P and stationary distribution pi,

            cov = cov(O^a, O^a) + C + C^T,    C = sum_(t>0) cov(O^a, O^(a+t)) = < u diag(pi) (1 - P + 1 pi^T)^-1 v >

        u the mean of O given the state after, v that given the state before.

        Notes
        -----
        Cost: a system of 2^(N lags) equations; 4 CPU s for 12 units and one lag.
        """
        from scipy.linalg import solve

        n, lags, bits = self.n, self.lags, self.bits
        joint = self._joint_at(self.left[-1], self.right[-1])
        states, pi = len(joint), joint.sum(axis=1)
        known = np.maximum(pi, np.finfo(float).tiny)  # states of no weight get nowhere
        i, j = operators.pairs.T
        count = bits.sum(axis=1).astype(int)
        levels = [np.isin(count, level).astype(float)[:, None] for level in operators.levels]
        static = np.concatenate([bits[:, i] * bits[:, j], *levels, bits[:, operators.units]], axis=1)
        place = np.arange(states)
        past = np.stack([place >> n * (k - 1) & (1 << n) - 1 for k in range(1, lags + 1)])  # bins a - 1 ... a - k
        g = bits[past]  # (lag, state, unit)
        # means given the state before
        ahead = (joint @ np.concatenate([static, bits], axis=1)) / known[:, None]
        n_static = static.shape[1]
        v = [
            ahead[:, :n_static],
            *((ahead[:, n_static:, None] * g[k][:, None, :]).reshape(states, -1) for k in range(lags)),
        ]
        # and after: the newest bin is x, the one before it lag 1, ..., the oldest is averaged over
        now = bits[past[0]]
        oldest = (bits.T @ joint.reshape(1 << n, -1)).T / known[:, None]
        u = [static[past[0]]]
        for k in range(1, lags + 1):
            source = g[k] if k < lags else oldest
            u.append((now[:, :, None] * source[:, None, :]).reshape(states, -1))
        u, v = np.concatenate(u, axis=1), np.concatenate(v, axis=1)
        mean = pi @ v
        # the same bin
        wide = g.transpose(1, 0, 2).reshape(states, -1)  # (state, (lag, source))
        first, second = np.triu_indices(wide.shape[1])
        equal = np.empty((u.shape[1],) * 2)
        equal[:n_static, :n_static] = static.T @ (joint.sum(axis=0)[:, None] * static)
        once = wide.T @ joint  # ((lag, source), x)
        mixed = np.einsum("wx,xs,xi->wsi", once, static, bits, optimize=True)
        twice = (wide[:, first] * wide[:, second]).T @ joint
        pairs = (twice @ (bits[:, :, None] * bits[:, None, :]).reshape(len(bits), -1)).reshape(-1, n, n)
        both = np.empty((wide.shape[1], wide.shape[1], n, n))
        both[first, second] = pairs
        both[second, first] = pairs
        both = both.reshape(lags, n, lags, n, n, n).transpose(0, 4, 1, 2, 5, 3)  # lag, target, source, twice
        equal[n_static:, n_static:] = both.reshape((lags * n * n,) * 2)
        mixed = mixed.reshape(lags, n, n_static, n).transpose(2, 0, 3, 1).reshape(n_static, -1)
        equal[:n_static, n_static:], equal[n_static:, :n_static] = mixed, mixed.T
        # later bins
        moves = np.zeros((states, states))
        to = (place << n & states - 1)[:, None] + np.arange(1 << n)
        moves[place[:, None], to] = joint / known[:, None]
        resolvent = np.eye(states) - moves + pi
        later = (u - mean).T @ (pi[:, None] * solve(resolvent, v - mean, overwrite_a=True, check_finite=False))
        full = equal - np.outer(mean, mean) + later + later.T
        return self._chosen(operators, n_static) @ full @ self._chosen(operators, n_static).T

    def _chosen(self, operators, n_static):
        """Operators as sums of (static ones, all directed ones): (size, n_static + lags N^2)."""
        n, at = self.n, operators.at
        out = np.zeros((operators.size, n_static + self.lags * n * n))
        kept = np.r_[at["a"], at["V"], at["c"]]
        out[kept, np.arange(n_static)] = 1
        for number, k in enumerate(operators.lags, at["b"].start):
            out[number, n_static + (k - 1) * n * n + np.arange(n) * (n + 1)] = 1
        k, target, source = operators.directed.T
        out[np.arange(at["C"].start, at["C"].stop), n_static + (k - 1) * n * n + target * n + source] = 1
        return out


def _static_part(model):
    from lft.inference.likelihood.model import GibbsModel

    return GibbsModel(model.c, model.a, model.V)


def _settle(step, x, longest):
    """Vectors of sum 1 until they stop changing, and the log of the factor of every step."""
    vectors, logs = [x], []
    while len(logs) < longest:
        y = step(vectors[-1])
        total = y.sum()
        logs.append(np.log(total))
        vectors.append(y / total)
        if len(logs) > 1 and np.abs(vectors[-1] - vectors[-2]).max() <= _SETTLED * vectors[-1].max():
            break
    return vectors, np.array(logs)


def log_z(model, n_bins):
    """log Z of a stretch of n_bins with open ends, exactly.

    Parameters
    ----------
    model : GibbsModel
        Static with at most 20 units, or space-time with units times lags <= 12.
    n_bins : int

    Examples
    --------
    >>> from lft.inference.likelihood import from_arrays
    >>> A, B = [[0, -0.3], [-0.3, 0]], [-0.25]
    >>> model = from_arrays("neural", {"A": A, "B": B, "lags": [1], "I": [0.5, 0.5]})
    >>> round(log_z(model, 3), 10)
    3.7040818737
    """
    if model.kind == "static":
        return n_bins * probabilities(model)[1]
    cache = model._cache
    if "transfer" not in cache:
        cache["transfer"] = Transfer(model)
    return cache["transfer"].log_z(n_bins)
