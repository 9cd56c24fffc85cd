"""Ergodicity between trials and stationarity between windows, each with its null and a p value.

K trials (or windows of one recording) are compared with their ensemble mean <.>_K:

    in mean:          E_m = (1/K) sum_k (1/N) sum_i (f_i(k) - <f_i>_K)^2
    in correlation:   E_c = (1/K) sum_k (2/(N(N-1))) sum_(i<j) (Phi_ij(k) - <Phi_ij>_K)^2
    in distribution:  E_d = mean over pairs of trials of W_1,  W_1 = (1/N) sum_n |f_(n)(k) - f_(n)(l)|   (sorted f)

with f_i(k) and Phi_ij(k) the row averages and the (uncentered) space correlation of trial k.  The estimators are a
reconstruction of what the framework calls ergodicity in mean, in correlation and in distribution; W_1 of two samples of
one size is the mean distance of their quantile functions (standard result).

A finite trial alone gives ``E_m ~ f(1-f)/T``, so a value means nothing without its null.  Trials are cut into cells,
long compared with the correlation time, and the cells are put together anew:

    "blocks"     cells are permuted over all trials and places: the process is the same at all times in all trials
    "trials"     cells are permuted over the trials at each place: trials are alike, whatever happens within a trial
    "circular"   the sequence of all cells is closed to a ring, turned by a random angle, cut into runs of several cells
                 and the runs are permuted: keeps correlations that are longer than a cell

``p = (1 + number of nulls at least as large)/(1 + nulls)`` is uniform under the null for independent cells.
Neighboring cells of L bins share a little: E_m lies above its null by a fraction of about tau_int/L ("circular":
tau_int over the length of a run), to be compared with its own width of about sqrt(2/(N K)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.source import as_source, ordered_map
from lft.errors import InputError

NULLS = ("blocks", "trials", "circular")
NAMES = ("mean", "correlation", "distribution")


@dataclass(frozen=True, eq=False)
class NullTest:
    """A statistic beside its null.

    Attributes
    ----------
    name : {"mean", "correlation", "distribution"}
    value : float
    null_mean, null_std : float
        Of the statistic under the null.
    p : float
        Probability under the null of a value at least as large.
    null : ndarray
        The draws.
    """

    name: str
    value: float
    null_mean: float
    null_std: float
    p: float
    null: np.ndarray

    @property
    def z(self):
        """Distance from the null in its standard deviations."""
        return (self.value - self.null_mean) / self.null_std if self.null_std > 0 else math.nan

    def __str__(self):
        return f"{self.name:13} {self.value:.4g}  null {self.null_mean:.4g} +- {self.null_std:.2g}  p={self.p:.3g}"

    def as_json(self):
        """Numbers for a report."""
        return {"value": self.value, "null_mean": self.null_mean, "null_std": self.null_std, "p": self.p}


@dataclass(frozen=True, eq=False)
class Ergodicity:
    """Tests of trials (windows) against each other.

    Attributes
    ----------
    mean, correlation, distribution : NullTest
    n_trials, n_cells : int
        Trials, and cells of each.
    cell_bins : int
        Length of a cell (configurations, without a time axis): it must be long compared with the correlation time.
    dropped_bins : int
        Bins of each trial (of the whole sequence) that do not fill a cell and are left out.
    n_units_correlated : int
        Units in E_c: the most active ones where there are more than ``max_units``.
    null_kind : str
    rows : ndarray, shape (K, N)
        f_i(k).
    """

    mean: NullTest
    correlation: NullTest
    distribution: NullTest
    n_trials: int
    n_cells: int
    cell_bins: int
    dropped_bins: int
    n_units_correlated: int
    null_kind: str
    rows: np.ndarray

    @property
    def tests(self):
        """The three tests."""
        return (self.mean, self.correlation, self.distribution)


def ergodicity(data, n_cells=8, null="blocks", n_null=400, seed=0, max_units=400, comm=None):
    """Compare the configurations of a source, as trials of one experiment, with each other.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
        Of kind gas or spin (counted as 1 where up), with a time axis; at least 2 configurations.
    n_cells : int, optional
        Cells per trial, >= 2.
    null : {"blocks", "trials", "circular"}
    n_null : int, optional
        Draws of the null, >= 19.
    seed : int, optional
    max_units : int, optional
        Most units whose pairs enter E_c.
    comm : mpi4py communicator, optional

    Returns
    -------
    Ergodicity

    Notes
    -----
    Cost: one pass of ``T N_c^2`` operations (N_c units in E_c), then a null draw costs K N log N.  Memory:
    K n_cells (N + 4 N_c^2) bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.ergodicity import ergodicity
    >>> from lft.analysis.source import Source
    >>> from lft.geometry import Graph
    >>> trial = lambda k, a, b: (np.random.default_rng(k).random((400, 30)) < 0.2).astype(np.int8)[a:b]
    >>> e = ergodicity(Source(Graph(30, 400), "gas", 6, trial))
    >>> all(t.p > 0.01 for t in e.tests), e.n_trials, e.cell_bins
    (True, 6, 50)
    """
    source = as_source(data)
    if not source.has_time or source.n_configurations < 2:
        raise InputError(f"{source.name}: {source.n_configurations} trials; ergodicity compares at least 2 with a time "
                         "axis (windows of one recording: stationarity)")
    length = _cell_length(source.n_bins, n_cells, "n_cells")
    cells = [[(c, s * length, (s + 1) * length)] for c in range(source.n_configurations) for s in range(n_cells)]
    dropped = source.n_bins - n_cells * length
    sizes = (source.n_configurations, n_cells, length, dropped)
    return _compare(source, cells, *sizes, null, n_null, seed, max_units, comm)


def stationarity(data, n_windows=8, n_cells=8, null="blocks", n_null=400, seed=0, max_units=400, comm=None):
    """Compare windows of time with each other: of one recording, or of the Monte Carlo time of a chain.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
        Of kind gas or spin.  With a time axis one configuration; without one the configurations in their order.
    n_windows : int, optional
        Windows, >= 2.
    n_cells, null, n_null, seed, max_units, comm
        As for :func:`ergodicity`.

    Returns
    -------
    Ergodicity
        Trials are the windows.

    Examples
    --------
    A rate that drifts by a third is found out.

    >>> import numpy as np
    >>> from lft.analysis.ergodicity import stationarity
    >>> from lft.field import Field
    >>> from lft.geometry import Graph
    >>> p = np.linspace(0.15, 0.2, 4000)[:, None]
    >>> phi = (np.random.default_rng(0).random((4000, 30)) < p).astype(np.int8)
    >>> s = stationarity(Field.from_array(Graph(30, 4000), "gas", phi))
    >>> s.mean.p < 0.01, s.distribution.p < 0.01
    (True, True)
    """
    source = as_source(data)
    if source.has_time and source.n_configurations > 1:
        raise InputError(f"{source.name}: {source.n_configurations} configurations with a time axis are trials: "
                         "ergodicity compares them; give one for stationarity")
    if isinstance(n_windows, bool) or not isinstance(n_windows, int | np.integer) or n_windows < 2:
        raise InputError(f"n_windows = {n_windows!r}: valid is an integer >= 2")
    total = source.n_bins if source.has_time else source.n_configurations
    length = _cell_length(total, n_windows * n_cells, "n_windows x n_cells")
    starts = [s * length for s in range(n_windows * n_cells)]
    if source.has_time:
        cells = [[(0, s, s + length)] for s in starts]
    else:
        cells = [[(c, 0, 1) for c in range(s, s + length)] for s in starts]
    dropped = total - length * len(cells)
    return _compare(source, cells, n_windows, n_cells, length, dropped, null, n_null, seed, max_units, comm)


def _cell_length(n_bins, n_cells, label):
    if isinstance(n_cells, bool) or not isinstance(n_cells, int | np.integer) or not 2 <= n_cells <= n_bins:
        raise InputError(f"{label} = {n_cells!r}: valid is an integer from 2 to {n_bins}, the number of bins")
    return n_bins // n_cells


def _compare(source, cells, K, B, length, dropped, null, n_null, seed, max_units, comm):
    if not source.is_binary:
        raise InputError(f"{source.name}: a {source.kind} field is not made of zeros and ones; valid are gas, spin")
    if null not in NULLS:
        raise InputError(f"null {null!r}: valid are {', '.join(NULLS)}")
    if isinstance(n_null, bool) or not isinstance(n_null, int | np.integer) or n_null < 19:
        raise InputError(f"n_null = {n_null!r}: valid is an integer >= 19 (p below 0.05 needs them)")
    counts = np.array(list(ordered_map(lambda c: _up_counts(source, c), cells, comm)))
    f = counts / length
    active = np.argsort(-counts.sum(axis=0), kind="stable")[:max_units]
    active.sort()
    gram = _gram(source, cells, active, length, comm)
    rng = np.random.default_rng(seed)
    orders = [np.arange(K * B)] + [_order(rng, K, B, null) for _ in range(n_null)]
    values = np.array([_statistics(f, gram, order.reshape(K, B)) for order in orders])
    tests = []
    for name, (value, *draws) in zip(NAMES, values.T, strict=True):
        draws = np.array(draws)
        # sums in another order differ in the last digits; equal arrangements must count as equal
        p = (1 + np.count_nonzero(draws >= value * (1 - 1e-9))) / (1 + n_null)
        tests.append(NullTest(name, float(value), float(draws.mean()), float(draws.std()), float(p), draws))
    rows = f.reshape(K, B, -1).mean(axis=1)
    return Ergodicity(*tests, K, B, length, dropped, len(active), null, rows)


def _up_counts(source, cell):
    return sum((v[:, source.mask] > 0).sum(axis=0) for v, _ in source.chunks(cell))


def _gram(source, cells, active, length, comm):
    """Inner products of the cells' Phi over the pairs i < j, per pair."""
    n = len(active)
    upper = np.triu_indices(n, 1)
    if n < 2:
        return np.zeros((len(cells), len(cells)))

    def pairs(cell):
        total = 0
        for values, _ in source.chunks(cell):
            up = (values[:, source.mask][:, active] > 0).astype(np.float32)
            total = total + (up.T @ up)[upper]
        return total.astype(np.float32)

    vectors = np.array(list(ordered_map(pairs, cells, comm)))
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)  # E_c does not see it, and digits are saved
    gram = np.zeros((len(cells), len(cells)))
    for a in range(0, vectors.shape[1], 65536):
        part = (vectors[:, a : a + 65536] - mean[a : a + 65536]).astype(np.float64)
        gram += part @ part.T
    return gram / (length**2 * vectors.shape[1])


def _order(rng, K, B, null):
    """Numbers of the cells at all places, trial after trial."""
    if null == "blocks":
        return rng.permutation(K * B)
    if null == "trials":
        return np.stack([rng.permutation(K) * B + b for b in range(B)], axis=1).ravel()
    run = max(n for n in range(1, max(1, B // 2) + 1) if B % n == 0)
    runs = (np.arange(K * B) + rng.integers(K * B)) % (K * B)
    return rng.permutation(runs.reshape(-1, run)).ravel()


def _statistics(f, gram, order):
    """E_m, E_c, E_d for cells put together as ``order`` (K, B) says."""
    K, B = order.shape
    rows = f[order].mean(axis=1)
    in_mean = ((rows - rows.mean(axis=0)) ** 2).mean()
    member = np.zeros((K, len(f)))
    np.add.at(member, (np.arange(K)[:, np.newaxis], order), 1 / B)
    member -= member.mean(axis=0)
    in_correlation = np.einsum("kb,bc,kc->", member, gram, member, optimize=True) / K
    ranked = np.sort(rows, axis=1)
    # mean over pairs of |x_k - x_l| of K sorted numbers: sum_k (2k - K + 1) x_k / (K (K-1)/2)
    weights = (2 * np.arange(K) - K + 1) / (K * (K - 1) / 2)
    in_distribution = float((weights @ np.sort(ranked, axis=0)).mean())
    return in_mean, in_correlation, in_distribution


def wasserstein(first, second):
    """W_1 distance of two samples of one size, ``mean |sorted first - sorted second|``.

    Examples
    --------
    >>> from lft.analysis.ergodicity import wasserstein
    >>> wasserstein([0.1, 0.5], [0.7, 0.1])
    0.1
    """
    first, second = np.sort(np.ravel(first)), np.sort(np.ravel(second))
    if first.shape != second.shape or not first.size:
        raise InputError(f"samples of {first.size} and {second.size} numbers: valid are two of the same size")
    return float(round(np.abs(first - second).mean(), 15))
