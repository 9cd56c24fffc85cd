"""Many chains of a Gibbs model by heat bath: 64 to a word, words dealt to ranks, the same for any number of ranks."""

from __future__ import annotations

import math
import warnings

import numpy as np

from lft import threads
from lft._kernels import gibbs
from lft.errors import DataWarning, InputError
from lft.rng import Key, Stream

LANES = 64
MAX_SWEEPS = 1 << 14
"""Sweeps after which chains that still remember their start are reported."""


class Chains:
    """Chains of a Gibbs model on stretches of ``n_rows`` bins with open ends, advanced by sweeps of heat bath.

    Half of the chains (odd ones) start at random, half silent: :meth:`thermalize` compares them.

    Parameters
    ----------
    model : GibbsModel
    n_words : int
        Chains come in words of 64.
    n_rows : int
        Bins of a chain; a static model has 1.
    seed : int
    comm : communicator, optional
        Each rank holds consecutive words; chains do not depend on how many ranks there are.
    folded : bool
        The 64 lanes of a word are consecutive stretches of ONE chain of ``64 n_rows`` bins.
    rate : array (N,), optional
        Probability of a spike where a chain starts at random; default 1/2.

    Examples
    --------
    >>> from lft.inference.likelihood import GibbsModel
    >>> from lft.inference.likelihood.sampling import Chains
    >>> chains = Chains(GibbsModel([0.0, 0.0]), 2, 1, seed=3)
    >>> chains.sweep(5)
    >>> chains.values().shape
    (128, 1, 2)
    """

    def __init__(self, model, n_words, n_rows, *, seed, comm=None, folded=False, rate=0.5):
        rank, size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
        self.comm, self.n_words, self.n_rows, self.folded = comm, n_words, n_rows, folded
        self.first, last = rank * n_words // size, (rank + 1) * n_words // size
        self.key, self.t = Key(seed), 0
        n = model.n_units
        self.state = np.zeros((last - self.first, n_rows, n), np.uint64)
        self._threads = threads.count()
        self._start(np.broadcast_to(np.asarray(rate, float), n))
        self.set_model(model)

    def _start(self, rate):
        shape = self.state.shape[1:]
        for word in range(len(self.state)):
            n = int(np.prod(shape)) * 32
            u, _ = self.key.fill("uniform", (self.first + word) * n, 1, n, 0, Stream.GIBBS_START)
            bits = (u.reshape(*shape, 32) < rate[:, None]).astype(np.uint64)
            self.state[word] = (bits << np.arange(1, LANES, 2, dtype=np.uint64)).sum(axis=-1, dtype=np.uint64)

    def set_model(self, model):
        """Other couplings; the chains go on from where they are."""
        if self.folded and self.n_rows <= len(model.lagged):
            raise InputError(f"{self.n_rows} rows: a folded chain needs more than its {len(model.lagged)} lags")
        self.model = model
        self._kernel = gibbs.Model(self.n_rows, *_edges(model), model.steps, self.folded)

    def sweep(self, n=1):
        """Visit every unit of every bin of every local chain ``n`` times."""
        if not len(self.state):
            self.t += n
            return
        for _ in range(n):
            self._kernel.sweep(self.state, self.first, self.t, int(Stream.GIBBS_SWEEP), self.key.word, self._threads)
            self.t += 1

    def values(self):
        """Local chains, int8 (64 words, rows, N); folded: (words, 64 rows, N)."""
        words, rows, n = self.state.shape
        raw = np.ascontiguousarray(self.state).view(np.uint8).reshape(words, rows, n, 8)
        bits = np.unpackbits(raw, axis=3, bitorder="little").view(np.int8)  # words, rows, N, lanes
        if self.folded:
            return np.ascontiguousarray(bits.transpose(0, 3, 1, 2)).reshape(words, LANES * rows, n)
        return np.ascontiguousarray(bits.transpose(0, 3, 1, 2)).reshape(words * LANES, rows, n)

    def lanes(self):
        """int8 (local words, 64, rows, N): lanes, folded or not."""
        return self.values().reshape(len(self.state), LANES, self.n_rows, -1)

    # ---- equilibrium
    def summaries(self):
        """(64 words, 2) of all ranks: W and number of spikes of each lane; the same on every rank."""
        phi = self.lanes()
        flat = phi.reshape(-1, self.n_rows, phi.shape[-1])
        mine = np.stack([self.model.log_weights(flat).sum(axis=1), flat.sum(axis=(1, 2), dtype=float)], axis=1)
        if self.comm is None:
            return mine
        return np.concatenate(self.comm.allgather(mine))

    def thermalize(self, minimum=32, maximum=MAX_SWEEPS, is_quiet=False, most=math.inf):
        """Sweep until chains that started silent and at random agree, then as long again.

        Agreement: mean weight and mean number of spikes of both halves differ by less than 3 standard errors.  Where
        they do not agree after ``maximum`` sweeps, ``is_settled`` is False, and a warning is given unless ``is_quiet``.
        With ``most`` the chains are on trial: no warning, no sweeps beyond ``maximum``, and none at all once they have
        more spikes.

        Returns
        -------
        sweeps : int
            Sweeps made.
        spacing : int
            Sweeps after which weight and number of spikes of a chain are forgotten (correlation below 0.05, or below
            what so many chains resolve).
        """
        done, target, self.is_settled = 0, minimum, True
        while True:
            self.sweep(target - done)
            done = target
            x = self.summaries()
            if x[:, 1].mean() - 3 * x[:, 1].std() / math.sqrt(len(x)) > most:
                self.is_settled = False
                return done, 1
            if _halves_agree(x):
                break
            if done >= maximum:
                self.is_settled = False
                if most < math.inf:
                    return done, 1
                if is_quiet:
                    break
                warnings.warn(
                    f"chains that started silent and at random still differ after {done} sweeps: the model has "
                    "several states that single flips do not join; averages are those of a mixture",
                    DataWarning,
                    stacklevel=2,
                )
                break
            target = 2 * done
        self.sweep(done)
        return 2 * done, self._spacing(2 * done)

    def _spacing(self, longest):
        first = self.summaries()
        first = (first - first.mean(axis=0)) / np.maximum(first.std(axis=0), 1e-12)
        limit, lag, made = max(0.05, 2 / math.sqrt(len(first))), 1, 0
        while lag < max(longest, 2):
            self.sweep(lag - made)
            made = lag
            now = self.summaries()
            now = (now - now.mean(axis=0)) / np.maximum(now.std(axis=0), 1e-12)
            if np.abs((first * now).mean(axis=0)).max() < limit:
                break
            lag *= 2
        return lag


def _halves_agree(x):
    silent, random = x[0::2], x[1::2]
    error = np.sqrt(silent.var(axis=0) / len(silent) + random.var(axis=0) / len(random))
    return bool((np.abs(silent.mean(axis=0) - random.mean(axis=0)) <= 3 * error + 1e-12).all())


def _edges(model):
    n = model.n_units
    start, to, w = _rows(model.a)
    late = [(k, L.T) for k, L in enumerate(model.lagged, 1)]  # bin a + k of j hears i through C_ji
    late += [(-k, L) for k, L in enumerate(model.lagged, 1)]
    wide = np.concatenate([L for _, L in late], axis=1) if late else np.zeros((n, 0))
    late_start, index, late_w = _rows(wide)
    by = np.array([k for k, _ in late], np.int32)
    late_by = by[index // n] if late else index
    return np.array(model.c), start, to, w, late_start, (index % n).astype(np.int32), late_by.astype(np.int32), late_w


def _rows(matrix):
    """Start, column and value of the entries of each row; at least one entry, so that there is an address."""
    i, j = np.nonzero(matrix)
    start = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=len(matrix)))]).astype(np.int64)
    return start, np.append(j, 0).astype(np.int32), np.append(matrix[i, j], 0.0)


def simulate(model, n_bins, *, seed, n_chains=1):
    """Independent stretches of a Gibbs model in the stationary state.

    Static models: bins are independent draws, taken from up to 8192 chains at intervals after which they are
    forgotten.  Space-time models: one chain per stretch; the open ends lie a margin (:meth:`GibbsModel.margin`)
    outside, and lanes of a word share one stretch.

    Parameters
    ----------
    model : GibbsModel
    n_bins : int
        >= 1.
    seed : int
    n_chains : int
        >= 1.

    Returns
    -------
    ndarray of int8 (n_chains, n_bins, N)

    Raises
    ------
    InputError
        ``n_bins`` or ``n_chains`` below 1.

    Notes
    -----
    Warns (DataWarning) when chains remember how they started.  Cost: about 5 ns per unit, bin and sweep for 100 units
    with dense couplings; thermalization is at least 64 sweeps.
    """
    for name, value in (("n_bins", n_bins), ("n_chains", n_chains)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise InputError(f"{name} = {value!r}: valid is an integer >= 1")
    if model.kind == "static":
        return draws(model, n_bins * n_chains, seed=seed).reshape(n_chains, n_bins, model.n_units)
    margin = model.margin()
    rows = max(-(-(n_bins + 2 * margin) // LANES), len(model.lagged) + 1)
    chains = Chains(model, n_chains, rows, seed=seed, folded=True)
    chains.thermalize()
    return np.ascontiguousarray(chains.values()[:, margin : margin + n_bins])


def draws(model, n, *, seed):
    """Independent draws (n, N) of a static model, int8."""
    words = max(min(-(-n // LANES), 128), 4)
    chains = Chains(model, words, 1, seed=seed)
    _, spacing = chains.thermalize()
    out = np.empty((n, model.n_units), np.int8)
    for start in range(0, n, words * LANES):
        part = out[start : start + words * LANES]
        part[...] = chains.values()[: len(part), 0]
        chains.sweep(2 * spacing)
    return out
