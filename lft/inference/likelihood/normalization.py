"""log Z of a Gibbs model: exact where the states can be summed, else by annealing or by thermodynamic integration.

Both go along a straight line of couplings from independent units with the rates of the model (log Z known) to it,
``W_x = (1 - x) W_0 + x W_1``, x from 0 to 1:

* annealed importance sampling (standard result): ``Z_1/Z_0 = < exp(sum_s [W_(x_(s+1)) - W_(x_s)]) >`` over chains that
  follow the line; unbiased for Z whatever the number of sweeps, the spread of the weights tells when it fails;
* thermodynamic integration: ``log Z_1/Z_0 = int_0^1 < W_1 - W_0 >_x dx`` by Gauss-Kronrod nodes.

A static model has one log Z per bin.  In space-time log Z of a stretch of T bins is ``T f + e`` up to terms that are
exponentially small: f from the middle of simulated stretches, e from what their ends differ.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass

import numpy as np

from lft.errors import DataWarning, DivergenceError, InputError
from lft.inference.likelihood import exact
from lft.inference.likelihood.model import GibbsModel
from lft.inference.likelihood.sampling import Chains
from lft.inference.protocols import LogLikelihood
from lft.rng import Key

LOWEST_ESS = 10.0
"""Effective number of chains below which annealing has failed."""

_NODES = np.array([
    0.991455371120812639, 0.949107912342758525, 0.864864423359769073, 0.741531185599394440,
    0.586087235467691130, 0.405845151377397167, 0.207784955007898468, 0.0,
])  # fmt: skip
_KRONROD = np.array([
    0.022935322010529225, 0.063092092629978553, 0.104790010322250184, 0.140653259715525919,
    0.169004726639267903, 0.190350578064785410, 0.204432940075298892, 0.209482141084727828,
])  # fmt: skip
_GAUSS = np.array([
    0, 0.129484966168869693, 0, 0.279705391489276668, 0, 0.381830050505118945, 0, 0.417959183673469388,
])  # fmt: skip
NODES = (1 + np.concatenate([-_NODES, _NODES[-2::-1]])) / 2
KRONROD = np.concatenate([_KRONROD, _KRONROD[-2::-1]]) / 2
GAUSS = np.concatenate([_GAUSS, _GAUSS[-2::-1]]) / 2


@dataclass(frozen=True)
class Normalization:
    """log Z of stretches with open ends: ``per_bin T + ends``.

    Attributes
    ----------
    per_bin, per_bin_error : float
        Nats.
    ends, ends_error : float
        0 for a static model.
    method : {"exact", "annealing", "integration"}
    ess : float
        Effective number of chains behind annealing; nan otherwise.
    quadrature : float
        Error of the integral over the line that statistics does not explain, part of ``per_bin_error``.
    model : GibbsModel or None
        Where the ends are exact for every length.
    """

    per_bin: float
    per_bin_error: float
    ends: float = 0.0
    ends_error: float = 0.0
    method: str = "exact"
    ess: float = math.nan
    quadrature: float = 0.0
    model: GibbsModel | None = None

    def log_z(self, n_bins):
        """(log Z, standard error) of a stretch of n_bins."""
        if self.model is not None:
            return exact.log_z(self.model, n_bins), 0.0
        return n_bins * self.per_bin + self.ends, n_bins * self.per_bin_error + self.ends_error


def normalization(model, *, method="auto", seed=0, n_chains=None, comm=None):
    """log Z of a Gibbs model.

    Parameters
    ----------
    model : GibbsModel
    method : {"auto", "exact", "annealing", "integration"}
        ``auto``: exact where it is possible, else integration (at equal cost its error is three times smaller).
    seed : int
    n_chains : int, optional
        Multiple of 64 >= 128; the error falls as its square root.  Default 1024, for space-time models 128.

    Returns
    -------
    Normalization
        Kept with the model for the same arguments.

    Raises
    ------
    DivergenceError
        The effective number of chains of annealing is below 10.
    InputError
        Bad arguments.

    Examples
    --------
    >>> from lft.inference.likelihood import GibbsModel
    >>> model = GibbsModel([-1.0, -1.0, -0.5], [[0, 0.5, 0], [0.5, 0, -0.4], [0, -0.4, 0]])
    >>> sampled = normalization(model, method="annealing", seed=1)
    >>> abs(sampled.per_bin - normalization(model).per_bin) < 4.5 * sampled.per_bin_error
    True
    """
    if method not in ("auto", "exact", "annealing", "integration"):
        raise InputError(f"method {method!r}: valid are auto, exact, annealing, integration")
    if n_chains is None:
        n_chains = 1024 if model.kind == "static" else 128
    if not isinstance(n_chains, int | np.integer) or n_chains < 128 or n_chains % 64:
        raise InputError(f"n_chains = {n_chains!r}: valid is a multiple of 64, at least 128")
    if method == "auto":
        method = "exact" if exact.is_small(model) else "integration"
    key = method, seed, n_chains
    if key not in model._cache:
        if method == "exact":
            made = _exact(model)
        else:
            made = (annealing if method == "annealing" else integration)(model, seed=seed, n_chains=n_chains, comm=comm)
        model._cache[key] = made
    return model._cache[key]


def _exact(model):
    if model.kind == "static":
        return Normalization(exact.log_z(model, 1), 0.0)
    longer, shorter = (exact.log_z(model, n) for n in (20_000, 10_000))
    slope = (longer - shorter) / 10_000
    return Normalization(slope, 0.0, shorter - 10_000 * slope, 0.0, model=model)


# ---- the line
class _Line:
    """Models between independent units with the rates of a model and the model; stretches that represent it."""

    def __init__(self, model, seed, n_chains, comm):
        self.end = model
        margin = model.margin()
        self.rows = 1 if model.kind == "static" else 2 * margin + max(64, margin // 2)
        self.core = slice(margin, self.rows - margin)
        self.words, self.seed, self.comm = n_chains // 64, seed, comm
        chains = Chains(model, self.words, self.rows, seed=Key(seed, 1).word, comm=comm)
        chains.thermalize()
        rate = _all(comm, chains.values()[:, self.core].mean(axis=(1))).mean(axis=0)
        rate = np.clip(rate, 0.5 / (n_chains + 1), 1 - 0.5 / (n_chains + 1))
        self.start = GibbsModel(np.log(rate / (1 - rate)))
        self.rate = rate
        self.difference = _difference(model, self.start)
        self.log_z0 = float(np.logaddexp(0, self.start.c).sum())

    def at(self, x):
        return self.end.scaled(float(x), self.start)

    def chains(self, replica):
        """Independent draws of the start: every lane begins at the rates."""
        made = Chains(self.start, self.words, self.rows, seed=Key(self.seed, replica).word, comm=self.comm)
        made.sweep()  # one heat bath of independent units is a draw
        return made

    def gain(self, chains):
        """W_1 - W_0 by local chain and bin."""
        return self.difference.log_weights(chains.values())


def _difference(model, start):
    return GibbsModel(model.c - start.c, model.a, model.V, None, model.lagged)


def _all(comm, mine):
    """Rows of all ranks, in the order of the chains."""
    return mine if comm is None else np.concatenate(comm.allgather(mine))


# ---- annealed importance sampling
def annealing(model, *, seed=0, n_chains=1024, comm=None):
    """log Z by annealed importance sampling; see :func:`normalization`.

    A pilot run of 128 chains chooses the steps of the line so that the spread of a step's weight is about constant and
    the spread of the sum stays below one.  For a space-time model the stretch is one long and one half as long: their
    difference is f.

    Returns
    -------
    Normalization
    """
    line = _Line(model, seed, n_chains, comm)
    log_w = _anneal(line, _schedule(line), 3)
    value, error, ess = _mean_exp(log_w)
    value += line.rows * line.log_z0
    if model.kind == "static":
        return Normalization(value, error, method="annealing", ess=ess)
    half = _Line(model, seed, n_chains, comm)
    half.rows = line.rows // 2
    log_w = _anneal(half, _schedule(half), 4)
    value2, error2, ess2 = _mean_exp(log_w)
    value2 += half.rows * half.log_z0
    bins = line.rows - half.rows
    slope, slope_error = (value - value2) / bins, math.hypot(error, error2) / bins
    return Normalization(
        slope, slope_error, value - line.rows * slope, error + line.rows * slope_error, "annealing", min(ess, ess2)
    )


def _schedule(line):
    """Points of the line: steps after which the weight of a chain has spread by a fixed amount."""
    pilot = _Line.__new__(_Line)
    pilot.__dict__ = {**line.__dict__, "words": 2}
    chains = pilot.chains(2)
    grid = np.linspace(0, 1, 17)
    spread = []
    for x in grid:
        chains.set_model(line.at(x))
        chains.sweep(4)
        spread.append(max(_all(line.comm, line.gain(chains).sum(axis=1)).std(), 1e-6))
    length = np.concatenate([[0], np.cumsum((np.array(spread[1:]) + spread[:-1]) / 2 * np.diff(grid))])
    step = min(0.3, 0.5 / length[-1])
    n = min(max(math.ceil(length[-1] / step), 8), 5000)
    return np.interp(np.linspace(0, length[-1], n + 1), length, grid)


def _anneal(line, points, replica):
    chains = line.chains(replica)
    log_w = np.zeros(len(chains.state) * 64)
    for before, after in itertools.pairwise(points):
        log_w += (after - before) * line.gain(chains).sum(axis=1)
        chains.set_model(line.at(after))
        chains.sweep()
    return _all(line.comm, log_w)


def _mean_exp(log_w):
    """(log of the mean weight, its error, effective number of chains)."""
    top = log_w.max()
    w = np.exp(log_w - top)
    ess = float(w.sum() ** 2 / (w**2).sum())
    if ess < LOWEST_ESS:
        raise DivergenceError(
            f"annealing: {len(w)} chains count as {ess:.1f}, valid is at least {LOWEST_ESS:g}; take more chains, or "
            "thermodynamic integration"
        )
    if ess < 0.05 * len(w):
        warnings.warn(
            f"annealing: {len(w)} chains count as {ess:.0f}; the error of log Z may be too small",
            DataWarning,
            stacklevel=4,
        )
    error = w.std(ddof=1) / (w.mean() * math.sqrt(len(w)))
    # the log of a mean of n weights is low by half the variance
    return float(top + math.log(w.mean()) + error**2 / 2), float(error), ess


# ---- thermodynamic integration
def integration(model, *, seed=0, n_chains=1024, n_samples=32, comm=None, start=None, line=None):
    """log Z by thermodynamic integration; see :func:`normalization`.

    At each of 15 Gauss-Kronrod nodes the chains go on from the node before, are thermalized, and give ``n_samples``
    values at intervals in which they forget.  The error is that of the integral over independent chains, so it holds
    autocorrelations and those between nodes; the difference of the two quadratures beyond what statistics explains is
    added.  Where it dominates, the line is cut in halves.

    Returns
    -------
    Normalization
    """
    line = _Line(model, seed, n_chains, comm) if line is None else line
    parts = _integrate(line, [(0.0, 1.0)], n_samples, 5)
    bulk, ends, quadrature = parts
    n = len(bulk)
    return Normalization(
        per_bin=line.log_z0 + float(bulk.mean()),
        per_bin_error=float(math.hypot(bulk.std(ddof=1) / math.sqrt(n), quadrature)),
        ends=float(ends.mean()),
        ends_error=float(ends.std(ddof=1) / math.sqrt(n)) if line.rows > 1 else 0.0,
        method="integration",
        quadrature=quadrature,
    )


def _integrate(line, intervals, n_samples, replica, depth=0):
    """(integral of the bulk by chain, of the ends by chain, quadrature error)."""
    chains = line.chains(replica + depth)
    bulk = ends = low = 0.0
    for a, b in intervals:
        for node, kronrod, gauss in zip(NODES, KRONROD, GAUSS, strict=True):
            chains.set_model(line.at(a + (b - a) * node))
            middle, end = _sample(line, chains, n_samples)
            bulk = bulk + (b - a) * kronrod * middle
            ends = ends + (b - a) * kronrod * end
            low = low + (b - a) * (kronrod - gauss) * middle
    noise = low.std(ddof=1) / math.sqrt(len(low))
    quadrature = max(abs(float(low.mean())) - 3 * noise, 0.0)
    if quadrature > bulk.std(ddof=1) / math.sqrt(len(bulk)) and depth < 4:
        halves = [(x, y) for a, b in intervals for x, y in ((a, (a + b) / 2), ((a + b) / 2, b))]
        return _integrate(line, halves, n_samples, replica, depth + 1)
    return bulk, ends, quadrature


def _sample(line, chains, n_samples):
    """Means over time of W_1 - W_0 by chain: per bin in the middle, and what the ends add."""
    _, spacing = chains.thermalize(minimum=8)
    middle = ends = 0.0
    for _ in range(n_samples):
        chains.sweep(spacing)
        gain = line.gain(chains)
        inside = gain[:, line.core].mean(axis=1)
        middle = middle + inside / n_samples
        ends = ends + (gain.sum(axis=1) - line.rows * inside) / n_samples
    return _all(line.comm, middle), _all(line.comm, ends)


# ---- likelihood of recordings
def log_likelihood(model, rasters, edges=None, *, method="auto", seed=0, n_chains=None, comm=None):
    """Log-likelihood of trials under a Gibbs model, normalized.

    Parameters
    ----------
    model : GibbsModel
    rasters : list of array (T, N)
    edges : list of array, optional
        For each trial increasing bins; ``blocks`` are the sums between them, of all trials in sequence.  Default: one
        block per trial.  A term that joins two bins counts in the later one, log Z by its share of the bins.
    method, seed, n_chains : see :func:`normalization`

    Returns
    -------
    LogLikelihood
        Nats; ``error`` is that of the normalization, common to all blocks.
    """
    made = normalization(model, method=method, seed=seed, n_chains=n_chains, comm=comm)
    edges = [[0, len(r)] for r in rasters] if edges is None else edges
    value = error = 0.0
    blocks = []
    for raster, edge in zip(rasters, edges, strict=True):
        weights = weights_by_bin(model, np.asarray(raster))
        log_z, z_error = made.log_z(len(raster))
        value, error = value + weights.sum() - log_z, error + z_error
        total = np.concatenate([[0.0], np.cumsum(weights)])
        edge = np.asarray(edge)
        blocks.append(np.diff(total[edge]) - np.diff(edge) * log_z / len(raster))
    return LogLikelihood(float(value), float(error), np.concatenate(blocks))


def weights_by_bin(model, raster, rows=1 << 15):
    """W by bin in pieces of bounded size."""
    lags, out = len(model.lagged), []
    for start in range(0, len(raster), rows):
        before = min(lags, start)
        out.append(model.log_weights(raster[start - before : start + rows])[before:])
    return np.concatenate(out)


def log_z_difference(first, second, *, seed=0, n_chains=1024, n_samples=32, comm=None):
    """log Z of ``second`` minus that of ``first`` per bin, for two models near each other.

    Thermodynamic integration along the straight line between them (three Gauss-Legendre nodes: the integrand is smooth
    where they are near): the error is far below that of two separate normalizations.

    Returns
    -------
    value, error : float
        Per bin, nats.
    """
    between = _Line.__new__(_Line)
    margin = max(first.margin(), second.margin())
    rows = 2 * margin + max(64, margin // 2) if len(second.lagged) or len(first.lagged) else 1
    lags = max(len(first.lagged), len(second.lagged))
    zero = np.zeros((lags, *first.a.shape))
    L1, L2 = (np.concatenate([m.lagged, zero[len(m.lagged) :]]) for m in (first, second))
    V = None
    if first.V is not None or second.V is not None:
        V = sum(sign * m.V for sign, m in ((1, second), (-1, first)) if m.V is not None)
    difference = GibbsModel(second.c - first.c, second.a - first.a, V, None, L2 - L1)
    between.__dict__ = {"start": first, "end": second, "rows": rows, "core": slice(margin, rows - margin),
                        "words": n_chains // 64, "seed": seed, "comm": comm, "difference": difference}  # fmt: skip
    chains = Chains(first, n_chains // 64, rows, seed=Key(seed, 9).word, comm=comm)
    nodes, weights = np.polynomial.legendre.leggauss(3)
    total = 0.0
    for node, weight in zip((1 + nodes) / 2, weights / 2, strict=True):
        chains.set_model(between.at(node))
        total = total + weight * _sample(between, chains, n_samples)[0]
    return float(total.mean()), float(total.std(ddof=1) / math.sqrt(len(total)))
