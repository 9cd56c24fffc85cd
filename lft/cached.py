"""Sweeps over binary units with arbitrary pair couplings: local fields in fixed point, decisions exact in doubles.

:class:`lft.actions.Pairwise` and :class:`lft.actions.Neural`, Metropolis or heat bath.  Both are one problem of units
``phi = 0, 1`` (a spin is ``s = 2 phi - 1``): raising unit i costs

    S(high) - S(low) = c_i + sum_d K_d (phi_i^(a+d) + phi_i^(a-d)) + sum_j W_ij phi_j

with ``c = I, K = 2 B, W = 2 A`` or ``c_i = 2 sum_j J_ij - 2 h_i, W = -4 J``.  Fields in fixed point tell whether a
decision is clear; one that is not is taken in doubles from the spins.  So the chain is that of doubles, a function of
the key alone, whatever the resolution, the instruction set, the way a sweep is organized (kept fields, fresh fields,
blocks of bins) and the number of ranks and threads.  It visits units in the order of the generic loops but draws other
random numbers.  Layout, random numbers, measured rates: ``_kernels/c/cached.c``.
"""

from __future__ import annotations

import numpy as np

from lft import threads
from lft._kernels import local_fields
from lft.actions import Neural, Pairwise
from lft.errors import InputError
from lft.rng import Stream

UPDATERS = {"metropolis": Stream.METROPOLIS, "heatbath": Stream.HEATBATH}
WAYS = ("kept", "fresh", "blocked")
"""How a sweep is organized: the chain is the same."""

LOG_ERROR = 1.2e-5
"""Bound on the error of a logarithm in single precision; tests/conformance/test_cached.py measures it."""

MAX_SCALE = 2.0**25
MAX_FIXED = 2.0**30 - 2.0**10
MAX_WINDOW = 0.25
"""Largest half width, in units of S, of the range in which a decision is not clear."""

MAX_BLOCKED_UNITS = 4096
MAX_SUM = 127 * 255 + 127
PATTERNS = (np.arange(16)[:, None] >> np.arange(4) & 1) - 0.5


class CachedFields:
    """Sweeps on a field of :class:`Pairwise` or :class:`Neural`, in place.

    Parameters
    ----------
    action : Pairwise or Neural
    phi : Field
    updater_name : {"metropolis", "heatbath"}
    way : {"kept", "fresh", "blocked"}, optional
        How a sweep is organized.  Default: by the number of units and bins and the density of spikes.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.actions import Pairwise
    >>> from lft.cached import CachedFields
    >>> from lft.geometry import Graph
    >>> from lft.rng import Key
    >>> action = Pairwise(J=np.array([[0, 0.5], [0.5, 0]]), h=0.1)
    >>> phi = action.new_field(Graph(2, 8))
    >>> phi.values[...] = 1
    >>> fields = CachedFields(action, phi, "heatbath")
    >>> fields.load()
    >>> sites, flips = fields.sweep(0, Key(7).word)
    >>> sites, flips == (phi.values < 0).sum()
    (16, np.True_)
    """

    def __init__(self, action, phi, updater_name, way=None):
        reason = _refusal(action, phi, updater_name)
        if reason:
            raise InputError(f"cached fields: {reason}")
        if way is not None and way not in WAYS:
            raise InputError(f"way {way!r}: valid are {', '.join(WAYS)}")
        self.phi = phi
        self._way = way
        self._stream = int(UPDATERS[updater_name])
        self.n = phi.geometry.n_units
        self._couplings = couplings = Couplings(action, phi)
        self.is_heatbath = updater_name == "heatbath"
        self._log_error = LOG_ERROR * (2 if self.is_heatbath else 1)
        self.model = self._make_model(couplings)
        self.can_block = couplings.W is not None and self.n <= MAX_BLOCKED_UNITS and local_fields.has_blocked()
        if way == "blocked" and not self.can_block:
            raise InputError("way 'blocked': valid is a dense matrix and a processor with AVX-512 VNNI")
        self.is_blocked_ready = False
        self._classes = self._make_classes(action)
        self.fields = None
        self.n_exact = 0
        self._work = None
        self._flips = 1.0
        self.n_sites = int(np.prod(phi.domain.local_shape))

    @staticmethod
    def supports(action, phi, updater_name):
        """Whether these sweeps can run: else the generic loops serve."""
        return not _refusal(action, phi, updater_name)

    # ---- couplings
    def _make_model(self, g):
        scale, self.half_width = g.resolution(self._log_error)
        padded = -(-self.n // local_fields.BLOCK) * local_fields.BLOCK
        fixed_c = np.zeros(padded, np.int32)
        fixed_c[: self.n] = np.rint(g.c * scale)
        dense = sparse = None
        if g.W is not None:
            W = np.zeros((self.n, -(-self.n // 8) * 8))
            W[:, : self.n] = g.W
            # a row is no multiple of 4 KB: rows that are added together do not fall on the same cache sets
            fixed = aligned((self.n, padded + 16), np.int32)
            fixed[:, : self.n] = np.rint(g.W * scale)
            dense = W, fixed
        else:
            start, index, value = g.sparse
            sparse = start, index, value, np.rint(value * scale).astype(np.int32)
        window = int(np.ceil(2 * self.half_width * scale)) + 2
        fixed_K = np.rint(g.K * scale).astype(np.int32)
        self.fixed = {"c": fixed_c, "K": fixed_K, "W": (dense or sparse)[-1]}
        return local_fields.Model(
            self.n, self.is_heatbath, g.low, g.offsets, g.c, g.K, dense, sparse, fixed_c, fixed_K,
            scale, self.half_width, window,
        )  # fmt: skip

    def _make_blocked(self):
        """Tables of the sums of four couplings, centered so that 16 bits reach furthest."""
        g, n, tile = self._couplings, self.n, local_fields.TILE
        tiles = -(-n // tile)
        W = np.zeros((tiles * tile, tiles * tile))
        W[:n, :n] = g.W
        reach = np.abs(W).reshape(len(W), -1, 4).sum(axis=2).max(initial=0.0) / 2
        scale = min(MAX_SUM / max(reach, 1e-30), MAX_FIXED / max(g.reach(), 1e-30), MAX_SCALE)
        table = aligned((tiles * tile // 4, tiles, 4, 2, 4, 16), np.int8)  # chunk, tile, target, byte, group, pattern
        error = np.zeros(len(W))
        for chunk in range(len(table)):
            exact = W[4 * chunk : 4 * chunk + 4].reshape(4, tiles, 4, 4) @ PATTERNS.T * scale
            fixed = np.rint(exact)
            error[4 * chunk : 4 * chunk + 4] = np.abs(fixed - exact).max(axis=-1).sum(axis=(1, 2))
            high = np.rint(fixed / 255)
            table[chunk] = np.stack([high, fixed - 255 * high], axis=3).transpose(1, 0, 3, 2, 4)
        c = np.zeros(len(W))
        c[:n] = (g.c + g.W.sum(axis=1) / 2) * scale
        square = np.stack([W[k : k + tile, k : k + tile] for k in range(0, len(W), tile)]) * scale
        triangle = np.rint(square).astype(np.int32)
        K = np.rint(g.K * scale)
        error += np.abs(np.rint(square) - square).sum(axis=1).ravel() + np.abs(np.rint(c) - c)
        error += 2 * np.abs(K - g.K * scale).sum()
        self.blocked_half_width = self._log_error + (error.max() + 1) / scale + 1e-12 * g.reach()
        window = int(np.ceil(2 * self.blocked_half_width * scale)) + 2
        c, K = np.rint(c).astype(np.int32), K.astype(np.int32)
        self.tables = {"c": c, "K": K, "table": table, "triangle": triangle}
        self.model.set_blocked(table, triangle, c, K, scale, self.blocked_half_width, window)
        self.is_blocked_ready = True

    def _make_classes(self, action):
        _, plan = action.bind(self.phi)
        halo = self.phi.domain.halo[0]
        bins = []
        for first, _, site, _ in plan.classes:
            number = np.ascontiguousarray(site // np.uint64(self.n))
            bins.append(local_fields.Bins(first, number, np.ascontiguousarray(first // self.n - halo)))
        return bins

    # ---- what users call
    def way(self, density):
        """The organization of a sweep at a density of high units, by the cost of each on one core (cached.c)."""
        if self._way is not None:
            return self._way
        n_bins = self.phi.domain.local_shape[0]
        return cheapest(self.n, n_bins // len(self._classes), density, self._flips, self.can_block, self.n_sites)

    def load(self):
        """Read the field: nothing but its density and, where they are kept, the local fields."""
        density = float(np.count_nonzero(self.phi.values > 0)) / max(self.n_sites, 1)
        self._now = self.way(density)
        if self._now == "blocked" and not self.is_blocked_ready:
            self._make_blocked()
            self._work = None
        n_threads = threads.count()
        if self._work is None or len(self._work) != n_threads:
            self._work = aligned((n_threads, -(-self.model.work() // 16) * 16), np.int32)
        if self._now != "kept":
            self.fields = None
            return
        if self.fields is None:
            padded = -(-self.n // local_fields.BLOCK) * local_fields.BLOCK
            self.fields = aligned((self.phi.domain.local_shape[0], padded), np.int32)
        for bins in self._classes:
            local_fields.fill(self.model, bins, self.phi.data.reshape(-1), self.fields, self._work)

    def sweep(self, t, key_word):
        """Visit every unit once; returns the local numbers of proposals and of flips (collective)."""
        if not 0 <= t < 2**48:
            raise InputError(f"t = {t}: valid is a number from 0 to 2^48 - 1")
        flat, total = self.phi.data.reshape(-1), 0
        for bins in self._classes:
            if self._now == "blocked":
                flips, exact = local_fields.sweep_blocked(
                    self.model, bins, flat, t, self._stream, key_word, self._work
                )
            else:
                flips, exact = local_fields.sweep(
                    self.model, bins, flat, self.fields, t, self._stream, key_word, self._work
                )
            total, self.n_exact = total + flips, self.n_exact + exact
            self.phi.exchange()
        self._flips = total / max(self.n_sites, 1)
        return self.n_sites, total


class Couplings:
    """c, K and W of S(high) - S(low), in doubles."""

    def __init__(self, action, phi):
        n = phi.geometry.n_units
        _, plan = action.bind(phi)
        self.offsets = plan.offsets
        is_spin = action.kind == "spin"
        self.low = -1 if is_spin else 0
        g = action.couplings
        matrix = g["J"] if is_spin else g["A"]
        factor = -4.0 if is_spin else 2.0
        if is_spin:
            self.c = -2.0 * action.fields(phi.geometry) + 2.0 * np.asarray(matrix.sum(axis=1)).ravel()
        else:
            self.c = np.array(np.broadcast_to(g["I"], n), float)
        self.K = np.array([2.0 * g["B"][d[0]] for d in plan.bonded] if not is_spin else [], float)
        self.W = self.sparse = None
        if isinstance(matrix, np.ndarray):
            self.W = factor * matrix
        elif matrix is None:
            self.sparse = np.zeros(n + 1, np.intp), np.zeros(1, np.intp), np.zeros(1)
        else:
            index = np.append(np.asarray(matrix.indices, np.intp), 0)  # an empty pattern still has an address
            self.sparse = np.asarray(matrix.indptr, np.intp), index, np.append(factor * matrix.data, 0.0)
        self.n = n

    def _over_rows(self, values):
        """Sum over j of a function of W_ij."""
        if self.W is not None:
            return values(self.W).sum(axis=1)
        start, _, value = self.sparse
        return np.add.reduceat(np.append(values(value[:-1]), 0.0), start[:-1]) * (np.diff(start) > 0)

    def reach(self):
        """Largest |S(high) - S(low)| that any configuration can have."""
        high = self.c + self._over_rows(lambda w: np.maximum(w, 0)) + 2 * np.maximum(self.K, 0).sum()
        low = self.c + self._over_rows(lambda w: np.minimum(w, 0)) + 2 * np.minimum(self.K, 0).sum()
        return float(max(np.abs(high).max(), np.abs(low).max()))

    def resolution(self, log_error):
        """Steps per unit of S of the fixed-point fields, and half the width of the range of unclear decisions.

        The rounding of c, K and W to steps of 1/scale changes a difference of S by at most the sum of its roundings;
        1e-12 of the reach covers the rounding of the sums of doubles.
        """
        scale = 2.0 ** np.floor(np.log2(min(MAX_FIXED / max(self.reach(), 1e-30), MAX_SCALE)))
        error = self._over_rows(lambda w: np.abs(np.rint(w * scale) - w * scale)).max(initial=0.0)
        error += 2 * np.abs(np.rint(self.K * scale) - self.K * scale).sum() + 0.5
        return scale, float(log_error + (error + 1) / scale + 1e-12 * self.reach())


def cheapest(n, n_bins, density, flips, can_block, n_sites):
    """``kept``, ``fresh`` or ``blocked`` by nanoseconds per unit, fitted to the rates in _kernels/c/cached.c.

    ``n_bins`` is the number of local bins of a color class, ``density`` that of high units, ``flips`` per unit.
    """
    scan = 4.6 + 30 * flips
    memory = 0.3 if 4 * n_sites < 2**21 else 1.5  # fields that leave the L2 cache are read and written in each sweep
    cost = {"kept": scan + 0.05 * flips * n + memory, "fresh": scan + (0.05 * density + 0.025 * flips) * n}
    if can_block:
        cost["blocked"] = -(-n_bins // 64) * 64 / max(n_bins, 1) * (2.8 + 0.004 * n)
    return min(cost, key=cost.get)


def _refusal(action, phi, updater_name):
    """Why the generic loops must serve, or ''."""
    if updater_name not in UPDATERS:
        return f"update {updater_name!r}, valid are {', '.join(UPDATERS)}"
    if type(action) not in (Neural, Pairwise):
        return "valid are the actions Neural and Pairwise"
    if type(action) is Pairwise and not isinstance(action.couplings["J"], np.ndarray):
        return "J is sparse"
    if action.inputs is not None:
        return "inputs that change in time"
    if updater_name == "metropolis" and action.halves_ties(phi.geometry):
        return "units whose flips cost nothing under Metropolis"
    half_width = Couplings(action, phi).resolution(2 * LOG_ERROR)[1]
    if half_width > MAX_WINDOW:
        return f"couplings so large that fixed point resolves {half_width:.2g} of S, valid is at most {MAX_WINDOW}"
    return ""


def aligned(shape, dtype):
    """Zeros, aligned to 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size].view(dtype).reshape(shape)
