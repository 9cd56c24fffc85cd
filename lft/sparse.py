"""Chains on a sparse graph: one chain by colors, many chains in lanes or in bits.

:class:`lft.actions.Pairwise` with a sparse matrix, and :class:`lft.actions.Neural` with a sparse A and no B, which is
the same model by s = 2 phi - 1.  The bins of such a field do not interact: ``Graph(N, R)`` holds R independent chains.

=================  =============================  ==============================================================
:class:`Colored`   few chains, any couplings      a color of the graph at a time, fixed-point fields kept current
:class:`Lanes`     many chains, any couplings     a unit of 64 chains at a time
:class:`ChainBits` many chains, couplings +-K     a unit of 512 chains at a time, one bit each
=================  =============================  ==============================================================

Each chain is a function of the key, its number among all chains and the couplings: the same bits on every instruction
set, for any number of ranks, threads and restarts.  The decisions of the first two are those of numbers in double
precision; single precision and fixed point only settle what they settle for certain (``_kernels/c/sparse_real.c``).
"""

from __future__ import annotations

import math
import sys
from decimal import Decimal

import numpy as np

from lft import threads
from lft._kernels import sparse
from lft.actions import Neural, Pairwise
from lft.bits import heatbath_threshold, metropolis_threshold
from lft.errors import InputError
from lft.geometry import Graph
from lft.rng import Stream
from lft.ties import tied_units

UPDATERS = {"metropolis": Stream.METROPOLIS, "heatbath": Stream.HEATBATH}
FEW, MANY = 8, 65
"""Chains from which on lanes beat colors, and bits beat lanes (measured: ``_kernels/c/sparse_real.c``)."""
MAX_RULES, MAX_DEGREE = 256, 4096
MAX_UNITS, MAX_CHAINS = 2**27, 2**26  # what the counters of the random numbers hold
_LOG2_SCALE = 29  # a fixed-point field stays below 2^30
_CERTAIN = 3e-5  # relative error of a probability in single precision apart from that of the field
_HOPELESS = 1e30  # a margin that leaves every decision to double precision


class Model:
    """The couplings as spins: S = - sum_(i<j) J_ij s_i s_j - sum_i h_i s_i.

    Attributes
    ----------
    start, to, J : ndarray
        Edges of unit i are ``start[i]`` to ``start[i + 1]``, by neighbor; explicit zeros are left out.
    h : ndarray (N,)
    is_free : ndarray of bool (N,)
        Nothing acts on the unit: Metropolis must refuse half of its flips.
    """

    def __init__(self, action, geometry):
        if type(action) is Pairwise:
            matrix, self.h = action.couplings["J"].copy(), action.fields(geometry)
        else:
            A, I = action.couplings["A"], action.couplings["I"]
            matrix = A * -0.5
            sums = [math.fsum(A.data[a:b]) for a, b in zip(A.indptr[:-1], A.indptr[1:], strict=True)]
            self.h = -0.5 * (np.array(sums) + I)
        matrix.eliminate_zeros()
        matrix.sort_indices()
        self.h = np.ascontiguousarray(self.h, dtype=np.float64)
        self.n = matrix.shape[0]
        self.start = matrix.indptr.astype(np.int64)
        self.to = matrix.indices.astype(np.int32)
        self.J = matrix.data.astype(np.float64)
        self.degree = np.diff(self.start)
        self.is_free = (self.degree == 0) & (self.h == 0)

    def has_ties(self):
        """Whether flips of coupled units may cost nothing for ever (``lft.ties``)."""
        from scipy.sparse import csr_matrix

        edges = csr_matrix((self.J, self.to, self.start), shape=(self.n, self.n))
        return bool(np.any(self.degree[tied_units(edges, self.h, (-1, 1))]))

    def sum_rows(self, values):
        """Sums over the edges of each unit."""
        return np.bincount(np.repeat(np.arange(self.n), self.degree), values, self.n)


class _Chains:
    """What the three share: the field, the numbers of its chains, load and store by batches."""

    def __init__(self, action, phi, updater_name):
        reason = refusal(action, phi, updater_name)
        if reason:
            raise InputError(f"{type(self).__name__}: {reason}")
        self.phi = phi
        self.is_heatbath = updater_name == "heatbath"
        self._stream = int(UPDATERS[updater_name])
        self._threads = threads.count()
        self.model = Model(action, phi.geometry)
        bins = phi.domain.slices[0]
        self.first, self.n_chains = bins.start, bins.stop - bins.start
        self.n_sites = self.n_chains * self.model.n
        self._low = -1 if phi.kind == "spin" else 0

    def sweep(self, t, key_word):
        """Visit every unit of every local chain once; returns the numbers of proposals and of changes."""
        if not 0 <= t < 2**48:
            raise InputError(f"t = {t}: valid is a number from 0 to 2^48 - 1")
        return self.n_sites, self._sweep(t, key_word)

    def site_sum(self):
        """None: sums are those of the field (:class:`lft.protocols.Resident`)."""

    def bond_sum(self, displacement):
        """None."""

    def plane_sums(self, axis):
        """None."""

    def _spans(self, width, first):
        """(word, first bit, first row, rows) of the local chains; words begin at global chain ``first``."""
        row = 0
        while row < self.n_chains:
            word, bit = divmod(self.first + row - first, width)
            rows = min(width - bit, self.n_chains - row)
            yield word, bit, row, rows
            row += rows

    def _masks(self, n_words, first):
        mask = np.zeros(n_words, np.uint64)
        for word, bit, _, rows in self._spans(64, first):
            mask[word] = ((1 << rows) - 1) << bit
        return mask


def _edges(array):
    """At least one entry, so that the kernels can take its address."""
    return array if len(array) else np.zeros(1, array.dtype)


class Colored(_Chains):
    """One chain after the other, a color of the graph at a time.

    Units of one color do not interact, so they are decided together, against a fixed-point copy of their fields that
    every change of a neighbor keeps current: integers, so it depends on the spins alone.

    Parameters
    ----------
    action : Pairwise or Neural
    phi : Field
        The field that :meth:`load` reads and :meth:`store` writes.
    updater_name : {"metropolis", "heatbath"}

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> from lft.actions import Pairwise
    >>> from lft.geometry import Graph
    >>> from lft.rng import Key
    >>> from lft.sparse import Colored
    >>> action = Pairwise(J=csr_matrix([[0, 0.5, 0], [0.5, 0, -0.3], [0, -0.3, 0]]))
    >>> phi = action.new_field(Graph(3, 1))
    >>> phi.values[...] = 1
    >>> chains = Colored(action, phi, "metropolis")
    >>> chains.n_colors
    2
    >>> chains.load()
    >>> proposed, accepted = chains.sweep(0, Key(7).word)
    >>> chains.store()
    """

    def __init__(self, action, phi, updater_name):
        super().__init__(action, phi, updater_name)
        model = self.model
        color = np.empty(model.n, np.int32)
        self.n_colors = sparse.color(model.start, _edges(model.to), color, np.full(model.n, -1, np.int32))
        color[model.is_free] = self.n_colors
        self._make_slots(color)
        self._make_net()
        self.state = np.zeros((self.n_chains, self.n_slots // 32), np.uint32)
        self.field = np.zeros((self.n_chains, self.n_slots), np.int32)

    def _make_slots(self, color):
        """Units in the order of their colors, each color from a multiple of 32 slots on."""
        order = np.argsort(color, kind="stable")
        counts = np.bincount(color)
        padded = -(-counts // sparse.SLOTS) * sparse.SLOTS
        shift = np.cumsum(padded) - padded - (np.cumsum(counts) - counts)
        self.n_slots = int(padded.sum())
        self._last = np.zeros(self.n_slots // sparse.SLOTS, np.uint8)
        self._last[np.cumsum(padded[padded > 0]) // sparse.SLOTS - 1] = 1
        self.slot = np.empty(self.model.n, np.int64)
        self.slot[order] = np.arange(self.model.n) + shift[color[order]]

    def _make_net(self):
        model, n = self.model, self.n_slots
        exists = np.zeros(n, bool)
        exists[self.slot] = True
        degree = np.zeros(n, np.int64)
        degree[self.slot] = model.degree
        start = np.concatenate([[0], np.cumsum(degree)])
        edge = np.repeat(start[self.slot] - model.start[:-1], model.degree) + np.arange(len(model.to))
        to, J = np.zeros(len(edge), np.int32), np.zeros(len(edge))
        to[edge], J[edge] = self.slot[model.to], model.J

        def at_slots(values, dtype=np.float64):
            out = np.zeros(n, dtype)
            out[self.slot] = values
            return out

        # S = sum over what the largest field can be: the fixed point of each unit has room for it and a bit to spare
        bound = np.abs(model.h) + model.sum_rows(np.abs(model.J))
        digits = _LOG2_SCALE - np.ceil(np.log2(np.maximum(bound, 2.0**-60)))
        power = at_slots(digits)
        push = 2 * np.rint(J * 2.0 ** power[to]).astype(np.int32)
        self._own = at_slots(np.rint(model.h * 2.0**digits), np.int32)
        error = 0.5 * (model.degree + 1) * 2.0**-digits
        margin = at_slots(2.02 * error + _CERTAIN)
        margin[margin > 0.25] = _HOPELESS
        extra = at_slots(math.log(2) * model.is_free) * (not self.is_heatbath)
        groups = (-1, sparse.SLOTS)
        self.net = sparse.Net(
            self.is_heatbath,
            start,
            _edges(to),
            _edges(J),
            at_slots(model.h),
            extra,
            np.where(extra.reshape(groups).max(axis=1) > 0, 32768, 65536).astype(np.float32),
            margin.reshape(groups).max(axis=1).astype(np.float32),
            push=_edges(push),
            scale=(-2 / math.log(2) * 2.0**-power).astype(np.float32),
            valid=np.packbits(exists, bitorder="little").view(np.uint32).copy(),
            last=self._last,
        )

    def load(self):
        """Read the local chains of the field."""
        bits = np.zeros((self.n_chains, self.n_slots), np.uint8)
        bits[:, self.slot] = self.phi.values > 0
        self.state[...] = np.packbits(bits, axis=1, bitorder="little").view(np.uint32)
        sparse.colors_fields(self.net, self._own, self.state, self.field)

    def store(self):
        """Write the chains back to the field."""
        bits = np.unpackbits(self.state.view(np.uint8), axis=1, bitorder="little")[:, self.slot]
        self.phi.values[...] = np.where(bits, 1, self._low)

    def _sweep(self, t, key_word):
        return sparse.colors_sweep(
            self.net, self.state, self.field, self.first, t, self._stream, key_word, self._threads
        )


class Lanes(_Chains):
    """Many chains with real couplings: 64 chains of a unit together, the units in order.

    Parameters
    ----------
    action : Pairwise or Neural
    phi : Field
    updater_name : {"metropolis", "heatbath"}
    beta : array (R,), optional
        Factor > 0 of the action of each chain, exp(-beta_r S): the temperatures of parallel tempering.  Default ones.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> from lft.actions import Pairwise
    >>> from lft.geometry import Graph
    >>> from lft.rng import Key
    >>> from lft.sparse import Lanes
    >>> action = Pairwise(J=csr_matrix([[0, 0.5], [0.5, 0]]), h=0.1)
    >>> phi = action.new_field(Graph(2, 16))
    >>> phi.values[...] = 1
    >>> chains = Lanes(action, phi, "heatbath", beta=np.linspace(0.5, 1.5, 16))
    >>> chains.load()
    >>> chains.sweep(0, Key(7).word)[0]
    32
    >>> chains.store()
    """

    def __init__(self, action, phi, updater_name, beta=None):
        super().__init__(action, phi, updater_name)
        self._first = self.first // 64 * 64
        n_words = -(-(self.first + self.n_chains) // 64) - self._first // 64
        self.state = np.zeros((n_words, self.model.n), np.uint64)
        self.mask = self._masks(n_words, self._first)
        self._beta = np.ones(64 * n_words)
        self.set_beta(np.ones(phi.domain.shape[0]) if beta is None else beta)

    def set_beta(self, beta):
        """Other factors of the chains, (R,) for all of them."""
        beta = np.asarray(beta, dtype=np.float64)
        n = self.phi.domain.shape[0]
        if beta.shape != (n,):
            raise InputError(f"beta has shape {beta.shape}: valid is one number for each of {n} chains")
        if not (np.isfinite(beta).all() and (beta > 0).all()):
            raise InputError("beta: every factor must be a finite number > 0")
        at = self.first - self._first
        self._beta[at : at + self.n_chains] = beta[self.first : self.first + self.n_chains]
        self._make_net(beta.max())

    def _make_net(self, beta_max):
        model = self.model
        total = model.sum_rows(np.abs(model.J))
        error = (model.degree + 3) * 2.0**-24 * (np.abs(model.h) + 3 * total)
        margin = 2.05 * beta_max * error + _CERTAIN
        margin[margin > 0.25] = _HOPELESS
        extra = math.log(2) * model.is_free * (not self.is_heatbath)
        self.net = sparse.Net(
            self.is_heatbath,
            model.start,
            np.append(model.to, np.zeros(sparse.LANES_AHEAD, np.int32)),
            _edges(model.J),
            model.h,
            extra,
            np.where(extra > 0, 32768, 65536).astype(np.float32),
            margin.astype(np.float32),
            base=(model.h - model.sum_rows(model.J)).astype(np.float32),
            twice=_edges((2 * model.J).astype(np.float32)),
        )

    def load(self):
        """Read the local chains of the field."""
        for word, bit, row, rows in self._spans(64, self._first):
            sparse.pack(self.phi.values[row : row + rows], bit, self.state.T, word)

    def store(self):
        """Write the chains back to the field."""
        for word, bit, row, rows in self._spans(64, self._first):
            sparse.unpack(self.state.T, word, bit, self._low, self.phi.values[row : row + rows])

    def _sweep(self, t, key_word):
        word = self._first // 64
        return sparse.lanes_sweep(
            self.net, self.state, self.mask, self._beta, word, t, self._stream, key_word, self._threads
        )


class ChainBits(_Chains):
    """Many chains with couplings +-K: one bit per chain, 512 chains of a unit together, the units in order.

    Parameters
    ----------
    action : Pairwise or Neural
        All nonzero |J_ij| equal, few different fields.
    phi : Field
    updater_name : {"metropolis", "heatbath"}

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> from lft.actions import Pairwise
    >>> from lft.geometry import Graph
    >>> from lft.rng import Key
    >>> from lft.sparse import ChainBits
    >>> action = Pairwise(J=csr_matrix([[0, 0.5], [0.5, 0]]))
    >>> phi = action.new_field(Graph(2, 512))
    >>> phi.values[...] = 1
    >>> chains = ChainBits(action, phi, "metropolis")
    >>> chains.load()
    >>> chains.sweep(0, Key(7).word)[0]
    1024
    >>> chains.store()
    """

    def __init__(self, action, phi, updater_name):
        super().__init__(action, phi, updater_name)
        reason = self.unequal(self.model)
        if reason:
            raise InputError(f"ChainBits: {reason}")
        model = self.model
        self._group = self.first // 128
        n_blocks = -(-(self.first + self.n_chains - 128 * self._group) // 512)
        self.state = np.zeros((n_blocks, model.n, sparse.WORDS), np.uint64)
        self.mask = self._masks(n_blocks * sparse.WORDS, 128 * self._group).reshape(n_blocks, sparse.WORDS)
        K = float(np.abs(model.J).max(initial=0.0))
        kinds = np.stack([model.degree.astype(np.float64), model.h + 0.0], axis=1)
        kinds, rule_of = np.unique(kinds, axis=0, return_inverse=True)
        rules = [make_rule(int(degree), K, float(h), self.is_heatbath) for degree, h in kinds]
        to = np.zeros(len(model.to) + sparse.AHEAD, np.int32)
        to[: len(model.to)] = 2 * model.to + (model.J < 0)
        self.graph = sparse.Graph(model.start, to, rule_of.reshape(-1).astype(np.uint16), rules)

    @staticmethod
    def unequal(model):
        """Why the couplings do not fit, or ''."""
        if len(np.unique(np.abs(model.J))) > 1:
            return "couplings of several sizes, valid are +-K"
        if model.degree.max(initial=0) > MAX_DEGREE:
            return f"a unit with {model.degree.max()} neighbors, valid are at most {MAX_DEGREE}"
        kinds = len(np.unique(np.stack([model.degree.astype(np.float64), model.h + 0.0], axis=1), axis=0))
        if kinds > MAX_RULES:
            return f"{kinds} different pairs of degree and field, valid are at most {MAX_RULES}"
        return ""

    def _words(self):
        """(words of a block, word, first bit, first row, rows) of the local chains."""
        for word, bit, row, rows in self._spans(64, 128 * self._group):
            block, word = divmod(word, sparse.WORDS)
            yield self.state[block], word, bit, row, rows

    def load(self):
        """Read the local chains of the field."""
        for words, word, bit, row, rows in self._words():
            sparse.pack(self.phi.values[row : row + rows], bit, words, word)

    def store(self):
        """Write the chains back to the field."""
        for words, word, bit, row, rows in self._words():
            sparse.unpack(words, word, bit, self._low, self.phi.values[row : row + rows])

    def _sweep(self, t, key_word):
        return sparse.bits_sweep(
            self.graph, self.state, self.mask, self._group, t, self._stream, key_word, self._threads
        )


def make_rule(degree, K, h, is_heatbath):
    """Tables of the units of one degree and field, by the number of set members and, with a field, the own spin."""
    by_spin = bool(h) and not is_heatbath
    exact = []
    for spin in range(1 + by_spin):
        for u in range(degree + 1):
            field = Decimal(K) * (2 * u - degree)
            if is_heatbath:  # a set member pushes up
                field += Decimal(h)
                exact.append((heatbath_threshold(abs(field)), field < 0))
            else:  # a set member is a bond that a flip satisfies
                field -= Decimal(h) * (2 * spin - 1)
                is_tie = degree <= 2 and not field  # lft.ties
                exact.append((2**63 if is_tie else metropolis_threshold(field), False))
    thresholds = [T for T, _ in exact]
    own = sorted({T for T in thresholds if 0 < T < 2**64})
    fast = 0
    half = degree // 2
    if not h and 1 <= degree <= 8 and (is_heatbath or degree > 2):
        ordered = [thresholds[degree - c] for c in range(half + 1)] if is_heatbath else thresholds[: (degree + 1) // 2]
        if max(ordered) < 2**64 and min(ordered) > 0:
            own, fast = ordered, degree + 16 * is_heatbath
    single = len(own) > sparse.MAX_CLASSES
    if fast:
        if is_heatbath:
            class_of = [min(u, degree - u) for u in range(degree + 1)]
        else:
            class_of = [u if u < len(own) else sparse.ALWAYS for u in range(degree + 1)]
    else:
        special = {0: sparse.NEVER, 2**64: sparse.ALWAYS}
        index = {T: c for c, T in enumerate(own)}
        class_of = [special.get(T, 0 if single else index.get(T)) for T in thresholds]
    table = [min(T, 2**64 - 1) for T in thresholds] if single else own or [0]
    planes = [[2**64 - 1 if T >> (63 - k) & 1 else 0 for T in own] for k in range(sparse.HEAD)]
    return {
        "degree": degree,
        "heatbath": is_heatbath,
        "by_spin": by_spin,
        "n_classes": 0 if single else len(own),
        "fast": fast,
        "single": single,
        "class_of": np.array(class_of, np.uint8),
        "inverted": np.array([i for _, i in exact], np.uint8),
        "threshold": np.array(table, np.uint64),
        "plane": np.zeros(1, np.uint64) if single or not own else np.array(planes, np.uint64).reshape(-1),
    }


def refusal(action, phi, updater_name):
    """Why the generic loops must serve, or ''."""
    if sys.byteorder != "little":
        return "chains are packed for little-endian processors"
    if updater_name not in UPDATERS:
        return f"update {updater_name!r}, valid are {', '.join(UPDATERS)}"
    if type(action) not in (Pairwise, Neural) or type(phi.geometry) is not Graph:
        return "valid are the actions Pairwise and Neural on a Graph"
    matrix = action.couplings["J" if type(action) is Pairwise else "A"]
    if matrix is None or isinstance(matrix, np.ndarray):
        return "the matrix is not sparse"
    if type(action) is Neural and any(action.couplings["B"].values()):
        return "couplings in time"
    if action.inputs is not None:
        return "inputs that change in time"
    if any(phi.domain.halo):
        return "the field has a halo"
    if matrix.shape[0] > MAX_UNITS or phi.geometry.n_bins > MAX_CHAINS:
        return f"more than {MAX_UNITS} units or {MAX_CHAINS} chains"
    one_body = action.couplings["h" if phi.kind == "spin" else "I"]
    largest = max(np.abs(matrix.data).max(initial=0.0), np.abs(one_body).max())
    if largest * max(1, matrix.nnz) > 1e30:
        return "couplings beyond the range of single precision"
    return ""


def supports(kind, action, phi, updater_name):
    """Whether a class of this module is the one to run the pair on this field, by action and geometry alone."""
    if refusal(action, phi, updater_name):
        return False
    n, model = phi.geometry.n_bins, Model(action, phi.geometry)
    if kind is not ChainBits and updater_name == "metropolis" and model.has_ties():
        return False
    if kind is Colored:
        return n < FEW
    use_bits = n >= MANY and not ChainBits.unequal(model)
    return n >= FEW and use_bits == (kind is ChainBits)
