"""A fitted causal model: conditional log-odds, exact log-likelihood, simulation bin by bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft._kernels import lagged
from lft.errors import DivergenceError, InputError
from lft.inference.causal import links
from lft.inference.protocols import LogLikelihood
from lft.rng import Key, Stream

CHUNK = 8192
MIN_PAST = 1000
PAST_LAGS = 10


@dataclass(frozen=True, repr=False)
class CausalModel:
    """Units that draw every bin given the past: a :class:`lft.inference.protocols.BinaryModel`.

        eta_i(a) = c_i + sum_q u_iq x_q(a) + sum_{k=1..K} sum_j C[k-1, i, j] n_j(a-k),    P(n_i(a)) from the link

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
    >>> from lft.inference.causal.model import CausalModel
    >>> model = CausalModel.of_spins(h=np.array([-1.0, -1.0]), J=np.array([[[0.0, 0.5], [0.0, 0.0]]]))
    >>> rasters = model.simulate(1000, seed=1, n_chains=2)
    >>> rasters.shape, rasters.dtype.name
    ((2, 1000, 2), 'int8')
    >>> model.log_likelihood(list(rasters)).error
    0.0
    """

    c: np.ndarray
    coupling: np.ndarray
    link: str = "logit"
    inputs: np.ndarray | None = None
    input_weights: np.ndarray | None = None
    kind = "causal"

    def __post_init__(self):
        c, coupling = np.array(self.c, float), np.array(self.coupling, float)
        n = len(c)
        if c.ndim != 1 or coupling.ndim != 3 or coupling.shape[1:] != (n, n):
            raise InputError(f"c of shape {c.shape} and couplings of shape {coupling.shape}: valid are (N,) and (K, N, N)")
        if not np.isfinite(c).all() or np.isnan(coupling).any() or (coupling == np.inf).any():
            raise InputError("c and couplings must be finite; couplings may also be -infinity")
        if self.link not in links.LINKS:
            raise InputError(f"link {self.link!r}: valid are {', '.join(links.LINKS)}")
        inputs = None if self.inputs is None else np.ascontiguousarray(self.inputs, float)
        if (inputs is None) != (self.input_weights is None):
            raise InputError("inputs and input_weights: valid is both or neither")
        if inputs is not None:
            u = np.array(self.input_weights, float)
            if inputs.ndim != 2 or u.shape != (n, inputs.shape[1]) or not (np.isfinite(inputs).all() and np.isfinite(u).all()):
                raise InputError(
                    f"inputs of shape {inputs.shape}, weights of shape {u.shape}: valid are finite numbers (T, Q) and ({n}, Q)"
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
        return f"<CausalModel {self.link}: {self.n_units} units, {self.n_lags} lags>"

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
        out = np.empty((stop - start, self.n_units))
        lagged.fields(self.c, self._by_source, past, out)
        inputs = self.inputs if inputs is None else inputs
        if inputs is not None:
            if len(inputs) < stop:
                raise InputError(f"inputs of {len(inputs)} bins, the raster has {stop}")
            out += np.asarray(inputs[start:stop]) @ self.input_weights.T
        return out

    def log_odds(self, raster):
        """(T, N) log-odds of a spike (``poisson``: of at least one) given the past; before the raster nobody fires."""
        return links.log_odds(self.link, self.eta(raster))

    def bin_log_likelihood(self, raster, inputs=None):
        """(T,) log-probability of each bin given the past; 0 for the first K bins, whose past is not known."""
        out = np.zeros(len(raster))
        for a in range(self.n_lags, len(raster), CHUNK):
            b = min(a + CHUNK, len(raster))
            eta = self.eta(raster, a, b, inputs)
            out[a:b] = links.log_probability(self.link, eta, np.asarray(raster[a:b])).sum(axis=1)
        return out

    def log_likelihood(self, rasters, edges=None):
        """Exact log-likelihood given the first K bins of each trial, which count nothing.

        Parameters
        ----------
        rasters : list of ndarray (T, N)
        edges : list of ndarray, optional
            Per trial the bins between which ``blocks`` sums; default one block per trial.
        """
        parts = [self.bin_log_likelihood(r) for r in rasters]
        edges = [np.array([0, len(r)]) for r in rasters] if edges is None else edges
        sums = [np.concatenate([[0.0], np.cumsum(p)]) for p in parts]
        blocks = [np.diff(s[np.asarray(e)]) for s, e in zip(sums, edges, strict=True)]
        return LogLikelihood(float(sum(p.sum() for p in parts)), 0.0, np.concatenate(blocks))

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
            raise InputError(f"n_bins = {n_bins}: the inputs of this model have {len(self.inputs)} bins, no more can be drawn")
        draw = Drawing(self, key, number, n_past)
        return draw.bins(n_bins)


class Drawing:
    """A chain in the making: :meth:`bins` draws the next ones.

    Parameters
    ----------
    model : CausalModel
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
