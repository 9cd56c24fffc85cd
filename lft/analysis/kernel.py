"""The kernel of a recording and its correlation matrices: Phi, Pi, offset, row and column averages, overlaps.

With the kernel ``Omega`` (N units x T bins, 0/1) as defined in docs/theory.md:

    offset w = (1/NT) sum phi,   row averages f_i = (1/T) sum_a phi_i^a,   column averages c^a = (1/N) sum_i phi_i^a
    Phi = Omega Omega^T / T  (space, N x N),       Pi = Omega^T Omega / N  (time, T x T)

Whether the framework centers these matrices and how it normalizes them is a reconstruction, hence the options
``centered=`` and ``normalization=``.  Identities that the tests check: ``diag Phi = f``, ``diag Pi = c``,
``tr Phi/N = tr Pi/T = w``, ``T eig(Phi) = N eig(Pi)`` on the common spectrum, and with spins ``sigma = 2 phi - 1``
``Phi_s = 4 Phi - 2 (f 1^T + 1 f^T) + 1 1^T`` (``Pi_s`` with c).  Time plays the role of replicas: off-diagonal
``Pi_s^{ab}`` is the overlap of two times, its histogram is P(q).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.crosscorrelation import correlation_matrices
from lft.analysis.source import as_source, ordered_map, site_means
from lft.errors import InputError

VALUES = ("gas", "spin")
NORMALIZATIONS = ("mean", "sum")
MAX_TIMES = 8192
MAX_OVERLAP_BYTES = 512 * 2**20


# ---- averages
@dataclass(frozen=True, eq=False)
class Averages:
    """Offset, row averages and column averages of a kernel of zeros and ones.

    Attributes
    ----------
    offset : float
    rows : ndarray, shape (N,)
        f_i: fraction of bins in which unit i is up.
    columns : ndarray, shape (T,)
        c^a: fraction of units up in bin a, averaged over the configurations; without a time axis one per configuration.
    column_variance : float
        Variance of c over bins (and configurations).
    """

    offset: float
    rows: np.ndarray
    columns: np.ndarray
    column_variance: float

    @property
    def susceptibility(self):
        """N var_a(c^a), of zeros and ones: sum over all pairs of units of their covariance, over N."""
        return len(self.rows) * self.column_variance

    def row_spectrum(self, levels=101):
        """Quantile function of the row averages at equidistant levels from 0 to 1."""
        return np.quantile(self.rows, np.linspace(0, 1, levels))

    def column_spectrum(self, levels=101):
        """Quantile function of the column averages."""
        return np.quantile(self.columns, np.linspace(0, 1, levels))


def averages(data, comm=None):
    """Offset, row and column averages of binary data (spins count as 1 where they are up).

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
        Of kind gas or spin.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.kernel import averages
    >>> from lft.field import Field
    >>> from lft.geometry import Graph
    >>> a = averages(Field.from_array(Graph(2, 4), "gas", np.array([[1, 0], [1, 1], [0, 0], [0, 1]])))
    >>> a.offset, a.rows.tolist(), a.columns.tolist()
    (0.5, [0.5, 0.5], [0.5, 1.0, 0.0, 0.5])
    """
    source = as_source(data)
    _require_binary(source)
    parts = source.blocks(64, at_least=1)
    n = source.n_active
    rows, columns, square = 0, np.zeros(source.n_bins if source.has_time else source.n_configurations), 0
    for up_rows, pieces in ordered_map(lambda b: _up_sums(source, b), parts, comm):
        rows = rows + up_rows
        for start, counts in pieces:
            columns[start : start + len(counts)] += counts
            square += int((counts**2).sum())
    total = source.n_configurations * source.n_bins
    offset = rows.sum() / (n * total)
    columns /= n * (source.n_configurations if source.has_time else 1)
    variance = square / (total * n**2) - offset**2
    return Averages(float(offset), rows / total, columns, float(max(variance, 0.0)))


def _up_sums(source, block):
    rows, pieces = np.zeros(source.n_active, np.int64), []
    for values, first in _stretches(source, block):
        up = values[:, source.mask] > 0
        rows += up.sum(axis=0)
        pieces.append((first, up.sum(axis=1).astype(np.int64)))
    return rows, pieces


def _stretches(source, block):
    """Chunks of a block with the place of their first column: the bin, or (no time axis) the configuration."""
    if not source.has_time:
        for c, _, _ in block:
            yield source.read(c, 0, 1), c
        return
    for piece in block:
        position = piece[1]
        for values, n in source.chunks([piece]):
            yield values, position
            position += n


def _require_binary(source):
    if not source.is_binary:
        raise InputError(f"{source.name}: a {source.kind} field is not made of zeros and ones; valid are gas, spin")


# ---- matrices
def spin_from_gas(matrix, mean):
    """``4 M - 2 (m 1^T + 1 m^T) + 1 1^T``: Phi or Pi of spins from that of zeros and ones and its averages (f or c)."""
    return 4 * matrix - 2 * (mean[:, np.newaxis] + mean) + 1


def gas_from_spin(matrix, mean):
    """The inverse of :func:`spin_from_gas`; ``mean`` are the averages of zeros and ones."""
    return (matrix + 2 * (mean[:, np.newaxis] + mean) - 1) / 4


def space_matrix(data, values="gas", centered=False, normalization="mean", comm=None):
    """Space correlation matrix Phi, N x N.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
        Of kind gas or spin, at most 6000 active sites.
    values : {"gas", "spin"}
        Zeros and ones, or -1 and +1.
    centered : bool, optional
        Subtract ``f f^T`` (a reconstruction: the framework's choice is not known).
    normalization : {"mean", "sum"}
        Divide by T or not (likewise).
    comm : mpi4py communicator, optional

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.kernel import space_matrix
    >>> from lft.field import Field
    >>> from lft.geometry import Graph
    >>> omega = Field.from_array(Graph(2, 4), "gas", np.array([[1, 0], [1, 1], [0, 0], [0, 1]]))
    >>> space_matrix(omega).tolist()
    [[0.5, 0.25], [0.25, 0.5]]
    """
    source = as_source(data)
    _check_options(source, values, normalization)
    (raw,) = correlation_matrices(source, (0,), "raw", min(20, _n_samples(source)), comm)
    f = site_means(source, True, comm)[source.mask]
    stored = raw.value
    if source.kind == "spin":
        f = (f + 1) / 2
        stored = gas_from_spin(stored, f)
    return _finish(stored, f, values, centered, raw.n_pairs if normalization == "sum" else 1)


def time_matrix(data, start=0, stop=None, configuration=0, values="gas", centered=False, normalization="mean"):
    """Time correlation matrix Pi of a window of one configuration, T x T with T = stop - start.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
        Of kind gas or spin, with a time axis.
    start, stop : int, optional
        Window in bins, at most 8192 long.
    configuration : int, optional
    values, centered, normalization
        As for :func:`space_matrix`, with the column averages c and N.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.kernel import time_matrix
    >>> from lft.field import Field
    >>> from lft.geometry import Graph
    >>> omega = Field.from_array(Graph(2, 3), "gas", np.array([[1, 0], [1, 1], [0, 0]]))
    >>> time_matrix(omega).tolist()
    [[0.5, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    source = as_source(data)
    _check_options(source, values, normalization)
    stop = source.n_bins if stop is None else stop
    if not 0 <= start < stop <= source.n_bins or not 0 <= configuration < source.n_configurations:
        raise InputError(f"window {start}..{stop} of configuration {configuration}: valid are 0 <= start < stop <= "
                         f"{source.n_bins} and configurations 0..{source.n_configurations - 1}")
    if stop - start > MAX_TIMES:
        raise InputError(f"window of {stop - start} bins: Pi is made of at most {MAX_TIMES}; take a shorter window")
    up = (source.read(configuration, start, stop)[:, source.mask] > 0).astype(np.float32)
    matrix = np.rint((up @ up.T).astype(np.float64)) / up.shape[1]
    return _finish(matrix, up.mean(axis=1, dtype=np.float64), values, centered,
                   up.shape[1] if normalization == "sum" else 1)


def _check_options(source, values, normalization):
    _require_binary(source)
    if values not in VALUES:
        raise InputError(f"values {values!r}: valid are {', '.join(VALUES)}")
    if normalization not in NORMALIZATIONS:
        raise InputError(f"normalization {normalization!r}: valid are {', '.join(NORMALIZATIONS)}")


def _finish(matrix, mean, values, centered, scale):
    if centered:
        matrix = (matrix - np.outer(mean, mean)) * (4 if values == "spin" else 1)
    elif values == "spin":
        matrix = spin_from_gas(matrix, mean)
    return matrix * scale


def _n_samples(source):
    return source.n_configurations if not source.has_time else source.n_configurations * source.n_bins


def overlap_with(data, reference=None, comm=None):
    """Overlap ``Q_k = (1/NT) sum sigma^k sigma^ref`` of every configuration (trial) with a reference kernel.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
        Zeros and ones count as -1 and +1.
    reference : array_like, shape (bins, *space), optional
        A kernel of -1 and +1 (or means of them), such as the ground state.  Default: the mean of all *other*
        configurations, so that a trial is not compared with itself.

    Returns
    -------
    ndarray, shape (n_configurations,)

    Notes
    -----
    Two passes; one configuration and its sum in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.kernel import overlap_with
    >>> from lft.analysis.source import Source
    >>> from lft.geometry import Lattice
    >>> signs = Source(Lattice((4,)), "spin", 3, lambda k, a, b: np.full((1, 4), 1 - 2 * (k == 2)))
    >>> overlap_with(signs).tolist(), overlap_with(signs, np.ones((1, 4))).tolist()
    ([0.0, 0.0, -1.0], [1.0, 1.0, -1.0])
    """
    source = as_source(data)

    def kernel(k):
        values = source.read(k, 0, source.n_bins)[:, source.mask]
        return 2 * values.astype(np.int8) - 1 if source.kind == "gas" else values

    trials = range(source.n_configurations)
    if reference is not None:
        reference = np.asarray(reference, float)
        if reference.shape != (source.n_bins, *source.shape):
            raise InputError(f"reference has shape {reference.shape}: valid is {(source.n_bins, *source.shape)}")
        chosen = reference[:, source.mask]
        return np.array(list(ordered_map(lambda k: float((kernel(k) * chosen).mean()), trials, comm)))
    if len(trials) < 2:
        raise InputError(f"{source.name}: one configuration has no others to be compared with; give a reference")
    kind = np.int64 if source.is_binary else np.float64
    total = sum(ordered_map(lambda part: sum(kernel(k).astype(kind) for k in part),
                            np.array_split(np.array(trials), min(64, len(trials))), comm))

    def overlap(k):
        own = kernel(k).astype(float)
        return float((own * (total - own)).mean() / (len(trials) - 1))

    return np.array(list(ordered_map(overlap, trials, comm)))


def marchenko_pastur(n_units, n_bins):
    """Edges ``(1 -+ sqrt(N/T))^2`` between which the eigenvalues of the correlation matrix of independent units lie.

    Standard result for N, T large; with N > T there are N - T zeros besides.

    Examples
    --------
    >>> from lft.analysis.kernel import marchenko_pastur
    >>> marchenko_pastur(100, 400)
    (0.25, 2.25)
    """
    if n_units < 1 or n_bins < 1:
        raise InputError(f"N = {n_units}, T = {n_bins}: valid are positive numbers")
    ratio = math.sqrt(n_units / n_bins)
    return (1 - ratio) ** 2, (1 + ratio) ** 2


def edwards_anderson(data, n_blocks=20, comm=None):
    """Edwards-Anderson parameter ``q_EA = (1/N) sum_i m_i^2`` with m_i the mean of unit i as a spin (+-1, or real).

    Returns
    -------
    value, error, naive : float
        The plain sum over measured means (``naive``) is too large by (1/N) sum_i var(m_i); ``value`` has that taken
        off by leaving out blocks, with its error.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.kernel import edwards_anderson
    >>> from lft.analysis.source import Source
    >>> from lft.geometry import Lattice
    >>> noise = lambda k, a, b: np.random.default_rng(k).choice([-1, 1], (b - a, 50))
    >>> value, error, naive = edwards_anderson(Source(Lattice((50,)), "spin", 400, noise))
    >>> bool(abs(value) < 4.5 * error), bool(abs(naive - 1 / 400) < 0.001)
    (True, True)
    """
    from lft.analysis.resample import jackknife

    source = as_source(data)
    blocks = source.blocks(n_blocks)
    rows = []
    for total, n in ordered_map(lambda b: _block_total(source, b), blocks, comm):
        rows.append(np.append(2 * total - n if source.kind == "gas" else total, n))
    rows = np.array(rows, float)
    square = lambda m: ((m[:-1] / m[-1]) ** 2).mean()  # noqa: E731
    value, error = jackknife(rows, square, len(rows))
    return value, error, float(square(rows.sum(axis=0)))


def _block_total(source, block):
    n = 0
    total = np.zeros(source.n_active, np.int64 if source.is_binary else np.float64)
    for values, m in source.chunks(block):
        total += values[:, source.mask].sum(axis=0, dtype=total.dtype)
        n += m
    return total, n


# ---- overlaps
@dataclass(frozen=True, eq=False)
class Overlaps:
    """Distribution P(q) of the overlaps of pairs of replicas (times, or configurations).

    Attributes
    ----------
    q : ndarray
        Centers of the histogram.
    density : ndarray
        P(q), integrating to 1.
    mean, variance, kurtosis : (value, error)
        Of q, with errors from leaving out groups of replicas; kurtosis is the excess.
    n_replicas, n_sites : int
    null_density : ndarray
        P(q) after shuffling every unit over the replicas.
    null_variance : ndarray
        Variance of q in each shuffle.
    p : float
        Probability under the null of a variance at least as large: 1/(1 + shuffles) at the least.
    """

    q: np.ndarray
    density: np.ndarray
    mean: tuple
    variance: tuple
    kurtosis: tuple
    n_replicas: int
    n_sites: int
    null_density: np.ndarray
    null_variance: np.ndarray
    p: float


def overlaps(data, n_replicas=1000, replicas="bins", n_null=20, seed=0, comm=None):
    """P(q): histogram of ``q_ab = (1/N) sum_i sigma_i^a sigma_i^b`` over pairs of replicas, with its null.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
    n_replicas : int, optional
        Replicas taken, evenly spaced over all there are (bins next to each other are correlated), >= 20.
    replicas : {"bins", "configurations"}
        Columns of the kernel (of all configurations), or whole configurations.
    n_null : int, optional
        Shuffles: each unit's values are permuted over the replicas, which keeps every m_i and destroys what units
        have in common.
    seed : int, optional

    Returns
    -------
    Overlaps

    Notes
    -----
    For independent units ``<q> = (1/N) sum m_i^2`` and ``var q = (1/N^2) sum (1 - m_i^4)`` (standard result).  Cost:
    n_replicas^2 N operations, (1 + n_null) times; memory n_replicas N bytes, at most 512 MB (real fields: 4 times).

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.kernel import overlaps
    >>> from lft.analysis.source import Source
    >>> from lft.geometry import Lattice
    >>> noise = lambda k, a, b: np.random.default_rng(k).choice([-1, 1], (b - a, 100))
    >>> P = overlaps(Source(Lattice((100,)), "spin", 400, noise), n_replicas=400)
    >>> bool(abs(P.variance[0] - 0.01) < 4.5 * P.variance[1]), bool(P.p > 0.01)
    (True, True)
    """
    source = as_source(data)
    if replicas not in ("bins", "configurations"):
        raise InputError(f"replicas {replicas!r}: valid are bins, configurations")
    by_bin = replicas == "bins" and source.has_time
    there = source.n_configurations * (source.n_bins if by_bin else 1)
    n_sites = source.n_active * (1 if by_bin else source.n_bins)
    n = min(n_replicas, there)
    if n < 20:
        raise InputError(f"{source.name}: {n} replicas; P(q) needs at least 20 ({replicas})")
    size = n * n_sites * (1 if source.is_binary else 4)
    if size > MAX_OVERLAP_BYTES:
        most = int(MAX_OVERLAP_BYTES * n / size)
        raise InputError(f"n_replicas = {n}: their {n_sites} sites need {size / 2**20:.0f} MB; at most {most} fit")
    places = np.linspace(0, there - 1, n).astype(int)
    spins = _replicas(source, places, by_bin, n_sites, comm)
    rng = np.random.default_rng(seed)
    groups = np.arange(n) * 20 // n
    q = _overlap_matrix(spins)
    upper = np.triu_indices(n, 1)
    edges = _edges(q[upper], n_sites, source.is_binary)
    density = _density(q[upper], edges)
    mean, variance, kurtosis = _moments(q, groups)
    null_density, null_variance = 0.0, []
    for _ in range(n_null):
        shuffled = _overlap_matrix(rng.permuted(spins, axis=0))[upper]
        null_density = null_density + _density(shuffled, edges) / n_null
        null_variance.append(shuffled.var())
    p = (1 + sum(v >= variance[0] for v in null_variance)) / (1 + n_null)
    return Overlaps((edges[1:] + edges[:-1]) / 2, density, mean, variance, kurtosis, n, n_sites, null_density,
                    np.array(null_variance), p)


def _replicas(source, places, by_bin, n_sites, comm):
    """(replicas, sites): +-1 as int8, or float32."""
    def rows(part):
        out = np.empty((len(part), n_sites), np.int8 if source.is_binary else np.float32)
        for k, place in enumerate(part):
            if by_bin:
                bins = source.read(place // source.n_bins, place % source.n_bins, place % source.n_bins + 1)
            else:
                bins = source.read(place, 0, source.n_bins)
            values = bins[:, source.mask].ravel()
            out[k] = np.where(values > 0, 1, -1) if source.is_binary else values
        return out

    return np.concatenate(list(ordered_map(rows, np.array_split(places, min(64, len(places))), comm)))


def _overlap_matrix(spins, columns=65536):
    n, n_sites = spins.shape
    total = np.zeros((n, n))
    for a in range(0, n_sites, columns):
        part = spins[:, a : a + columns].astype(np.float32)
        total += part @ part.T
    return total / n_sites


def _edges(q, n_sites, is_binary):
    """Edges of a histogram whose cells hold the same number of possible values of q."""
    low, high = q.min(), q.max()
    if not is_binary:
        pad = 1e-9 + 1e-9 * max(abs(low), abs(high))
        return np.linspace(low - pad, high + pad, 81)
    step = 2 / n_sites  # q takes the values -1, -1 + 2/N, ..., 1
    cells = max(1, math.ceil((high - low) / step / 80))
    count = math.floor((high - low) / (cells * step) + 1e-9) + 1
    return low - step / 2 + cells * step * np.arange(count + 1)


def _density(q, edges):
    """Cells of one width, as numbers and not as edges: NumPy then counts in one pass instead of sorting."""
    return np.histogram(q, len(edges) - 1, (edges[0], edges[-1]))[0] / (len(q) * np.diff(edges))


def _moments(q, groups):
    """Mean, variance and excess kurtosis over pairs, each with the error from leaving out one group of replicas."""
    n_groups = groups[-1] + 1
    member = (groups[:, np.newaxis] == np.arange(n_groups)).astype(float)
    off = q - np.diag(np.diag(q))
    sums = [member.T @ (1 - np.eye(len(q))) @ member] + [member.T @ off**k @ member for k in range(1, 5)]

    def of(powers):
        m1, m2, m3, m4 = (powers[k] / powers[0] for k in range(1, 5))
        variance = m2 - m1**2
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        return m1, variance, fourth / variance**2 - 3 if variance > 0 else math.nan

    whole = of([s.sum() for s in sums])
    parts = np.array([of([s.sum() - 2 * s[g].sum() + s[g, g] for s in sums]) for g in range(n_groups)])
    errors = np.sqrt((n_groups - 1) / n_groups * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))
    return tuple((float(v), float(e)) for v, e in zip(whole, errors, strict=True))
