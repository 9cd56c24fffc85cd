"""Causal chains: units that draw every bin given the past, as actions and as what ``lft run`` draws.

    eta_i(a) = c_i + sum_q u_iq x_q(a) + sum_{k=1..K} sum_j C_ij(k) n_j(a-k),        P(n_i(a)) from the link (lft.links)

The probability of a whole raster is the product over bins, so that its action is known with its normalization:

    S = -log P = - sum_ia [ n_i eta_i - log(1 + exp eta_i) ]            (logit)

beside a Gibbs measure with the same couplings it has the second term, which depends on the configuration.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lft import gibbs, links
from lft._kernels import lagged
from lft.actions import BaseAction
from lft.errors import DivergenceError, InputError
from lft.geometry import Graph
from lft.percolation import DirectedPercolation
from lft.protocols import Info, State
from lft.rng import Key, Stream

CHUNK = 8192
MIN_PAST = 1000
PAST_LAGS = 10


@dataclass(frozen=True, repr=False)
class CausalChain:
    """Units that draw every bin given the past (equation above).

    Kinetic Ising spins ``s = 2 n - 1`` with ``P(s_i) = exp(s_i H_i)/(2 cosh H_i)`` are the link ``logit`` with
    ``C = 4 J`` and ``c_i = 2 h_i - 2 sum_kj J_ij(k)`` (:meth:`of_spins`).

    Parameters
    ----------
    c : ndarray (N,)
    coupling : ndarray (K, N, N)
        Row = target; -infinity where a spike makes the other impossible.
    link : {"logit", "cloglog", "poisson"}
        With ``poisson`` n are counts.
    inputs : ndarray (T, Q) or None
        Columns x_q of one stretch of bins; simulations and scores then begin with it and are not longer.
    input_weights : ndarray (N, Q) or None
        u_iq.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.causal import CausalChain
    >>> chain = CausalChain.of_spins(h=np.array([-1.0, -1.0]), J=np.array([[[0.0, 0.5], [0.0, 0.0]]]))
    >>> chain.simulate(1000, seed=1, n_chains=2).shape
    (2, 1000, 2)
    """

    c: np.ndarray
    coupling: np.ndarray
    link: str = "logit"
    inputs: np.ndarray | None = None
    input_weights: np.ndarray | None = None

    def __post_init__(self):
        c, coupling = np.array(self.c, float), np.array(self.coupling, float)
        n = len(c)
        if c.ndim != 1 or coupling.ndim != 3 or coupling.shape[1:] != (n, n):
            raise InputError(
                f"c of shape {c.shape} and couplings of shape {coupling.shape}: valid are (N,) and (K, N, N)"
            )
        if not np.isfinite(c).all() or np.isnan(coupling).any() or (coupling == np.inf).any():
            raise InputError("c and couplings must be finite; couplings may also be -infinity")
        if self.link not in links.LINKS:
            raise InputError(f"link {self.link!r}: valid are {', '.join(links.LINKS)}")
        inputs = None if self.inputs is None else np.ascontiguousarray(self.inputs, float)
        if (inputs is None) != (self.input_weights is None):
            raise InputError("inputs and input_weights: valid is both or neither")
        if inputs is not None:
            u = np.array(self.input_weights, float)
            if (
                inputs.ndim != 2
                or u.shape != (n, inputs.shape[1])
                or not (np.isfinite(inputs).all() and np.isfinite(u).all())
            ):
                raise InputError(
                    f"inputs of shape {inputs.shape}, weights of shape {u.shape}: valid are finite numbers (T, Q) "
                    f"and ({n}, Q)"
                )
            object.__setattr__(self, "input_weights", u)
        object.__setattr__(self, "c", c)
        object.__setattr__(self, "coupling", coupling)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "_by_source", np.ascontiguousarray(coupling.transpose(0, 2, 1)))

    @classmethod
    def of_spins(cls, h, J, inputs=None, input_weights=None):
        """Kinetic Ising model; ``J`` (K, N, N), row = target; inputs times weights are added to H (spin convention)."""
        h, J = np.asarray(h, float), np.asarray(J, float)
        u = None if input_weights is None else 2 * np.asarray(input_weights, float)
        return cls(2 * h - 2 * J.sum(axis=(0, 2)), 4 * J, "logit", inputs, u)

    def spins(self):
        """(h, J) of the kinetic Ising convention."""
        J = self.coupling / 4
        return self.c / 2 + J.sum(axis=(0, 2)), J

    def __repr__(self):
        return f"<{type(self).__name__} {self.link}: {self.n_units} units, {self.n_lags} lags>"

    @property
    def n_units(self):
        return len(self.c)

    @property
    def n_lags(self):
        return len(self.coupling)

    # ---- given a raster
    def eta(self, raster, start=0, stop=None, inputs=None):
        """(rows, N) linear predictor of bins of one trial; before the trial no unit fires."""
        raster = np.asarray(raster)
        stop = len(raster) if stop is None else stop
        past = np.zeros((self.n_lags + stop - start, self.n_units), np.int8)
        low = max(start - self.n_lags, 0)
        past[self.n_lags - (start - low) :] = raster[low:stop]
        inputs = self.inputs if inputs is None else inputs
        if inputs is not None and len(inputs) < stop:
            raise InputError(f"inputs of {len(inputs)} bins, the raster has {stop}")
        return self.eta_of(past, None if inputs is None else inputs[start:stop])

    def eta_of(self, rows, inputs=None):
        """(n, N) linear predictor of the bins ``rows[K:]``, int8 (K + n, N), with columns of inputs for them."""
        out = np.empty((len(rows) - self.n_lags, self.n_units))
        lagged.fields(self.c, self._by_source, rows, out)
        if inputs is not None:
            out += np.asarray(inputs) @ self.input_weights.T
        return out

    def bin_log_likelihood(self, raster, inputs=None):
        """(T,) log-probability of each bin given the past; 0 for the first K bins, whose past is not known."""
        out = np.zeros(len(raster))
        for a in range(self.n_lags, len(raster), CHUNK):
            b = min(a + CHUNK, len(raster))
            eta = self.eta(raster, a, b, inputs)
            out[a:b] = links.log_probability(self.link, eta, np.asarray(raster[a:b])).sum(axis=1)
        return out

    # ---- simulation
    def simulate(self, n_bins, *, seed, n_chains=1, n_past=None):
        """int8 (n_chains, n_bins, N): independent stretches (counts with ``poisson``).

        Chain r uses the random numbers that update r of ``lft run`` uses with the same seed; the result depends on
        nothing else.  Each starts silent, ``n_past`` bins earlier (default the larger of 1000 and 10 K), with the input
        of the first bin where there is one.

        Raises
        ------
        InputError
            More bins than the inputs have.
        DivergenceError
            A Poisson rate above 490 per bin, or a count above 127: the model runs away.
        """
        if n_bins < 1 or n_chains < 1:
            raise InputError(f"n_bins = {n_bins}, n_chains = {n_chains}: valid are integers >= 1")
        return np.stack([self.stretch(n_bins, Key(seed), r, n_past) for r in range(n_chains)])

    def stretch(self, n_bins, key, number, n_past=None):
        """(n_bins, N) of one chain."""
        if self.inputs is not None and n_bins > len(self.inputs):
            raise InputError(
                f"n_bins = {n_bins}: the inputs of this model have {len(self.inputs)} bins, no more can be drawn"
            )
        draw = Drawing(self, key, number, n_past)
        return draw.bins(n_bins)


class Drawing:
    """A chain in the making: :meth:`bins` draws the next ones.

    Parameters
    ----------
    model : CausalChain
    key : lft.rng.Key
    number : int
        Of the stretch, the time word of its random numbers.
    n_past : int, optional
        Bins drawn and forgotten before the first.
    past : ndarray (K, N), optional
        What came before ``first_bin``, in place of a start of its own.
    """

    def __init__(self, model, key, number, n_past=None, past=None, first_bin=0):
        self.model, self.key, self.number, self.next = model, key, number, int(first_bin)
        if past is None:
            self.past = np.zeros((model.n_lags, model.n_units), np.int8)
            n_past = max(MIN_PAST, PAST_LAGS * model.n_lags) if n_past is None else n_past
            for start in range(0, n_past if model.n_lags else 0, CHUNK):
                self._draw(min(CHUNK, n_past - start), start, Stream.CAUSAL_PAST, is_past=True)
        else:
            self.past = np.ascontiguousarray(past, np.int8)

    def bins(self, n):
        """(n, N) int8."""
        out = np.empty((n, self.model.n_units), np.int8)
        for start in range(0, n, CHUNK):
            stop = min(start + CHUNK, n)
            out[start:stop] = self._draw(stop - start, self.next, Stream.CAUSAL)
            self.next += stop - start
        return out

    def _draw(self, n, first, stream, is_past=False):
        m, inputs = self.model, None
        if m.inputs is not None:
            columns = np.broadcast_to(m.inputs[0], (n, m.inputs.shape[1])) if is_past else m.inputs[first : first + n]
            inputs = np.ascontiguousarray(columns @ m.input_weights.T)
        rows = np.empty((m.n_lags + n, m.n_units), np.int8)
        rows[: m.n_lags] = self.past
        link = links.LINKS.index(m.link)
        failed = lagged.draw(link, m.c, m._by_source, inputs, rows, first, self.number, int(stream), self.key.word)
        if failed >= 0:
            raise DivergenceError(f"causal model: a Poisson rate runs away at bin {first + failed} (above 490 per bin)")
        self.past = rows[n:].copy()
        return rows[m.n_lags :]


# ---- actions and updater
class _CausalAction(BaseAction):
    """What kinetic and glm share: S = -log P of the bins whose past lies in the stretch, drawn bin by bin."""

    geometry_type = Graph
    is_drawn = True

    def displacements(self, geometry):
        """The lags 1..K, as steps (k, 0)."""
        return [(k, 0) for k in range(1, len(self._couplings["J"]) + 1)]

    def new_field(self, geometry, comm=None):
        """A field whose halo holds the past of K bins; time must be open and longer than K."""
        if isinstance(geometry, Graph):
            n, n_lags = len(self._couplings["h"]), len(self._couplings["J"])
            if geometry.boundary != "open":
                raise InputError(f"action {self.name}: time is {geometry.boundary}; a causal chain needs open time")
            if geometry.n_units != n:
                raise InputError(f"action {self.name}: couplings of {n} units, the graph has {geometry.n_units}")
            if geometry.n_bins <= n_lags:
                raise InputError(
                    f"action {self.name}: {geometry.n_bins} bins, {n_lags} lags; valid are more bins than lags"
                )
            inputs = self._couplings["inputs"]
            if inputs is not None and geometry.n_bins > len(inputs):
                raise InputError(
                    f"action {self.name}: {geometry.n_bins} bins, its inputs have {len(inputs)}; valid are at "
                    "most as many"
                )
        return super().new_field(geometry, comm)

    def kernel(self, plan, geometry):
        """The chain itself."""
        return self.chain

    def action_lines(self, phi):
        """-log P of each local bin given the K bins before; 0 where they lie before the stretch."""
        n_lags, chain = self.chain.n_lags, self.chain
        halo, n = phi.domain.halo[0], phi.domain.local_shape[0]
        rows = np.ascontiguousarray(phi.data[halo - n_lags : halo + n] > 0, np.int8)
        first = phi.domain.slices[0].start
        out = np.zeros(n)
        for a in range(max(n_lags - first, 0), n, CHUNK):
            b = min(a + CHUNK, n)
            inputs = None if chain.inputs is None else chain.inputs[first + a : first + b]
            eta = chain.eta_of(rows[a : b + n_lags], inputs)
            out[a:b] = -links.log_probability(chain.link, eta, rows[a + n_lags : b + n_lags]).sum(axis=1)
        return out

    def operators(self, phi):
        """None: S is not linear in the couplings."""
        raise InputError(
            f"action {self.name}: its normalization depends on the couplings; it has no conjugate operators"
        )

    def scaled(self, b):
        """The action itself for b = 1."""
        if b == 1:
            return self
        raise InputError(f"action {self.name}: a causal chain has no temperature (b = {b}); valid is 1")


class Kinetic(_CausalAction):
    """Kinetic Ising spins: P(s_i^a) = exp(s_i H_i)/(2 cosh H_i), H_i = h_i + sum_kj J[k-1, i, j] s_j^(a-k).

    Parameters
    ----------
    h : ndarray (N,)
    J : ndarray (K, N, N)
        Row = target.
    inputs, input_weights : ndarray (T, Q) and (N, Q), optional
        ``sum_q u_iq x_q(a)`` is added to H_i(a).

    Examples
    --------
    >>> import numpy as np
    >>> from lft.causal import Kinetic
    >>> Kinetic(h=np.zeros(2), J=np.zeros((1, 2, 2))).chain.n_units
    2
    """

    name, kind = "kinetic", "spin"

    def __init__(self, h, J, inputs=None, input_weights=None):
        super().__init__(h=np.asarray(h, float), J=np.asarray(J, float), inputs=inputs, input_weights=input_weights)
        self.chain  # noqa: B018  checks the shapes

    @cached_property
    def chain(self):
        """The :class:`CausalChain`."""
        return CausalChain.of_spins(*self._couplings.values())


class GLM(_CausalAction):
    """Bernoulli generalized linear model of spikes 0/1: eta_i = h_i + sum_kj J[k-1, i, j] n_j^(a-k), link logit or
    cloglog.

    Parameters
    ----------
    h : ndarray (N,)
    J : ndarray (K, N, N)
        Row = target; -infinity at the lags of a refractory time.
    inputs, input_weights : ndarray (T, Q) and (N, Q), optional
    link : {"logit", "cloglog"}
    """

    name, kind = "glm", "gas"

    def __init__(self, h, J, inputs=None, input_weights=None, link="logit"):
        if link not in ("logit", "cloglog"):
            raise InputError(f"link = {link!r}: valid are logit, cloglog; a field of 0 and 1 cannot hold counts")
        parts = {"h": np.asarray(h, float), "J": np.asarray(J, float), "inputs": inputs, "input_weights": input_weights}
        super().__init__(**parts, link=link)
        self.chain  # noqa: B018  checks the shapes

    @cached_property
    def chain(self):
        """The :class:`CausalChain`."""
        c = self._couplings
        return CausalChain(c["h"], c["J"], c["link"], c["inputs"], c["input_weights"])


class Draw:
    """One update draws a whole stretch anew, independent of the last: bin by bin from a start of its own.

    Update t is chain t of :meth:`CausalChain.simulate`.  Ranks hold blocks of time; each draws its own when the past
    has
    come from the rank before, and the first goes on to the next stretch meanwhile.  The numbers are those of global
    bins,
    so the stretch does not depend on the blocks.
    """

    name, kinds = "draw", ("spin", "gas")
    streams = (Stream.CAUSAL, Stream.CAUSAL_PAST)

    def __repr__(self):
        return "Draw()"

    def step(self, action, state, key):
        """One stretch."""
        if not isinstance(action, _CausalAction):
            raise InputError(f"update 'draw' works on causal chains (kinetic, glm), not on action {action.name!r}")
        started = time.perf_counter()
        phi, domain, chain = state.phi, state.phi.domain, action.chain
        first, past = domain.slices[0].start, None
        if first and chain.n_lags:
            past = np.empty((chain.n_lags, chain.n_units), np.int8)
            domain.comm.Recv(past, domain.rank - 1, tag=7)
        elif first:
            past = np.zeros((0, chain.n_units), np.int8)
        drawing = Drawing(chain, key, state.t, past=past, first_bin=first)
        rows = drawing.bins(domain.local_shape[0])
        if domain.rank + 1 < domain.n_ranks and chain.n_lags:
            domain.comm.Send(np.ascontiguousarray(drawing.past), domain.rank + 1, tag=7)
        phi.values[...] = 2 * rows - 1 if action.kind == "spin" else rows
        phi.exchange()
        return State(phi, state.t + 1), Info(rows.size, rows.size, 0.0, time.perf_counter() - started)


ACTIONS = {**gibbs.ACTIONS, "kinetic": Kinetic, "glm": GLM, "directed-percolation": DirectedPercolation}
"""All actions by the name used in configurations, those that are drawn forward in time included."""
