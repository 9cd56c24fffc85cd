"""Two-point functions along every axis and correlation lengths, of simulated configurations and recordings alike.

    C_axis(r) = (1/n_r) sum_(x, x + r e_axis both exist) <dphi_x dphi_(x + r e_axis)>,   dphi_x = phi_x - <phi_x>
    Z_axis(r) = (L/V) (1/n_r) sum_x <dM(x) dM(x+r)>,    dM(x) = sum over the plane at x of dphi       (zero momentum)

With a time axis the bins are the samples of the average and ``<phi_x>`` is the mean of each site over time, so a
difference of rates between sites is not mistaken for a correlation; without one the configurations are the samples and
the mean is one number.  Missing sites and open ends are left out of the average (zero padding, divided by the number
of pairs).  Errors: the samples are cut into blocks, the spread of the blocks' correlators gives the error.  Everything
is read in pieces (:mod:`lft.analysis.source`).  The measured mean makes every value low by the square of its own error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.estimate import estimate
from lft.analysis.source import as_source, n_bins_of, normalized, ordered_map, site_means, weighted_mean
from lft.analysis.spectrum import count_pairs, padded_shape, pair_sums
from lft.errors import InputError


@dataclass(frozen=True)
class Correlator:
    """C(r) along one axis.

    Attributes
    ----------
    axis : str
    r : ndarray of int
        Distance in sites.
    value, error : ndarray
    step : Quantity or None
        Physical length of one site.
    rows, weights : ndarray or None
        The blocks' correlators (blocks, r) and their weights, (blocks,) or (blocks, r): what covariances are made of.
    period : int or None
        Extent of a periodic axis.
    """

    axis: str
    r: np.ndarray
    value: np.ndarray
    error: np.ndarray
    step: object = None
    rows: np.ndarray | None = None
    weights: np.ndarray | None = None
    period: int | None = None

    @property
    def normalized(self):
        """C(r)/C(0) and its error (that of C(r) alone, over C(0))."""
        scale = self.value[0] if self.value[0] > 0 else math.nan
        return self.value / scale, self.error / scale

    @property
    def distance(self):
        """r in physical units, or in sites where there are none."""
        return self.r * (self.step.value if self.step else 1.0)

    @property
    def covariance(self):
        """Covariance matrix of the values from the blocks: its rank is at most blocks - 1."""
        scaled = normalized(self.weights, 2) * (self.rows - self.value)
        return scaled.T @ scaled * len(scaled) / (len(scaled) - 1)

    @property
    def left_out(self):
        """Means of all blocks but one, (blocks, r)."""
        w = normalized(self.weights, 2)
        return (self.value - w * self.rows) / (1 - w)

    def jackknife(self, function):
        """``(value, error)`` of a function of C(r), leaving out one block at a time.

        error^2 = sum_b (B-1)/B (f_b - mean f)^2 for equal blocks; a function value that is not finite makes both NaN.
        """
        whole = np.asarray(function(self.value), float)
        parts = np.array([function(row) for row in self.left_out], float)
        return whole, np.sqrt((len(parts) - 1) / len(parts) * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))

    def as_json(self):
        """Lists of r, value and error, and the physical step."""
        clean = lambda a: [float(v) if math.isfinite(v) else None for v in a]  # noqa: E731
        return {
            "r": self.r.tolist(),
            "value": clean(self.value),
            "error": clean(self.error),
            "step": str(self.step) if self.step else None,
        }


def two_point(fields, max_lag=64, n_blocks=20, comm=None):
    """Connected two-point functions along every axis.

    Parameters
    ----------
    fields : Source, Archive, Field or sequence of Field
        Spin, gas or real values on one lattice.
    max_lag : int
        Longest distance, in sites; shorter on short axes.
    n_blocks : int
        Blocks of samples behind the errors.
    comm : mpi4py communicator, optional
        Blocks are shared out among its ranks; the result has the same bits for any number.

    Returns
    -------
    dict of str to Correlator
        Errors are NaN where there is only one sample.

    Notes
    -----
    Cost: one FFT of a bin and one pass over time per site; 64 x 64 sites x 90000 bins take about 40 s and 200 MB
    beside the field.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.correlator import two_point
    >>> from lft.field import Field
    >>> from lft.geometry import Lattice
    >>> lattice = Lattice((8, 8, 400), ("x", "y", "t"))
    >>> spins = np.where(np.random.default_rng(0).random(lattice.shape) < 0.5, 1, -1)
    >>> c = two_point(Field.from_array(lattice, "spin", spins))["x"]
    >>> bool(abs(c.value[0] - 1) < 0.01 and abs(c.value[1]) < 5 * c.error[1])
    True
    """
    source = as_source(fields)
    mean = site_means(source, None, comm)
    blocks = source.blocks(max(2, n_blocks), at_least=1)
    weights = np.array([n_bins_of(b) for b in blocks], float)
    axes = {}
    for k, axis in enumerate(source.axes):
        lags = _lags(max_lag, source.shape[k], source.periodic[k])
        if len(lags) > 1:
            axes[axis] = k, lags
    out = {}
    if axes:
        shape = padded_shape(source)
        pairs = count_pairs(source, shape)
        parts = list(ordered_map(lambda b: _space_rows(source, b, mean, shape, axes), blocks, comm))
        for axis, (k, lags) in axes.items():
            n = _along(pairs, k, lags)
            rows = np.array([part[axis] for part in parts]) / np.where(n > 0, n, np.nan)
            out[axis] = correlator_of(source, axis, lags, rows, weights)
    if source.has_time and source.n_bins > 1:
        lags = _lags(max_lag, source.n_bins, True)
        parts = list(ordered_map(lambda b: _time_sums(source, b, mean, lags), blocks, comm))
        out["t"] = _of_sums(source, "t", lags, parts, source.n_active)
    return out


def zero_momentum(fields, axis, max_lag=64, n_blocks=40, comm=None):
    """Connected correlator at zero momentum along an axis: what decays with the mass (or inverse correlation time).

        Z(r) = (L/V) (1/n_r) sum_x <dM(x) dM(x+r)>,   dM(x) = sum over the plane at x of dphi,   n_r pairs of planes

    Parameters
    ----------
    fields, max_lag, n_blocks, comm
        As for :func:`two_point`.
    axis : str
        A spatial axis, or ``"t"``: then the planes are the bins.

    Returns
    -------
    Correlator
        With its blocks and, on a periodic axis, its period: feed it to :mod:`lft.analysis.mass`.

    Notes
    -----
    Cost: one pass over the data.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.correlator import zero_momentum
    >>> from lft.analysis.source import Source
    >>> from lft.geometry import Lattice
    >>> noise = lambda k, a, b: np.random.default_rng(k).choice([-1, 1], (b - a, 16, 4))
    >>> z = zero_momentum(Source(Lattice((16, 4)), "spin", 400, noise), "x")
    >>> bool(abs(z.value[0] - 1) < 4.5 * z.error[0] and abs(z.value[3]) < 4.5 * z.error[3]), z.period
    (True, 16)
    """
    source = as_source(fields)
    check_axis(source, axis)
    mean = site_means(source, None, comm)
    blocks = source.blocks(n_blocks)
    if axis == "t":
        lags = _lags(max_lag, source.n_bins, True)
        parts = list(ordered_map(lambda b: _total_sums(source, b, mean, lags), blocks, comm))
        return _of_sums(source, axis, lags, parts, source.n_active)
    k = source.axes.index(axis)
    L, is_periodic = source.shape[k], source.periodic[k]
    lags = _lags(max_lag, L, True)
    rows = np.array(list(ordered_map(lambda b: _plane_products(source, b, mean, k, lags), blocks, comm)))
    weights = np.array([n_bins_of(b) for b in blocks], float)
    n = np.full(len(lags), L) if is_periodic else L - lags
    return correlator_of(source, axis, lags, rows / weights[:, np.newaxis] / n * (L / source.n_active), weights)


def check_axis(source, axis):
    """InputError unless the source has this axis and it is longer than one site."""
    names = (*source.axes, *(("t",) if source.has_time else ()))
    if axis not in names:
        raise InputError(f"axis {axis!r}: valid are {', '.join(names)}")
    if (source.n_bins if axis == "t" else source.shape[source.axes.index(axis)]) < 4:
        raise InputError(f"axis {axis!r}: a correlator needs at least 4 sites along it")


def correlator_of(source, axis, lags, rows, weights):
    """Weighted mean of the blocks' correlators, and its error from their spread."""
    if len(rows) > 1:
        value, error = weighted_mean(rows, weights)
    else:
        value, error = rows[0], np.full(len(lags), np.nan)
    if axis == "t":
        period = source.n_bins if source.is_time_periodic else None
    else:
        k = source.axes.index(axis)
        period = source.shape[k] if source.periodic[k] else None
    return Correlator(axis, lags, value, error, source.geometry.quantity(axis), rows, np.asarray(weights), period)


def _lags(max_lag, extent, is_halved):
    if isinstance(max_lag, bool) or not isinstance(max_lag, int | np.integer) or max_lag < 1:
        raise InputError(f"max_lag = {max_lag!r}: valid is an integer >= 1")
    return np.arange(min(max_lag, extent // (2 if is_halved else 1) - 1) + 1)


def _along(grid, k, lags):
    """Values at r e_k of an array over displacements."""
    return np.take(np.moveaxis(grid, k, -1)[(0,) * (grid.ndim - 1)], lags)


def _space_rows(source, block, mean, shape, axes):
    from scipy.fft import irfftn

    (power,), (bins,) = pair_sums(source, block, mean, [0], shape)
    c = irfftn(power, shape) / bins
    return {axis: _along(c, k, lags) for axis, (k, lags) in axes.items()}


def _of_sums(source, axis, lags, parts, scale):
    counts = np.array([n for _, n in parts])
    usable = (counts > 0).all(axis=1)
    if not usable.any():
        raise InputError(f"max_lag = {lags[-1]}: longer than every block of time; take a shorter one or fewer blocks")
    rows = np.array([total / (n * scale) for (total, n), good in zip(parts, usable, strict=True) if good])
    return correlator_of(source, axis, lags, rows, counts[usable])


def _time_sums(source, block, mean, lags):
    """sum over bins and active sites of dphi(a) dphi(a+k) for each lag, and the number of pairs of bins."""
    from scipy.fft import irfft, next_fast_len, rfft

    active = source.mask.ravel()
    offset = mean.ravel()[active][:, np.newaxis]
    total, counts = np.zeros(len(lags)), np.zeros(len(lags), np.int64)
    top = int(lags[-1])
    for values, n in source.chunks(block, ahead=top, cells=3 * math.prod(source.shape)):
        # sites first: the transform then runs over contiguous memory
        columns = np.ascontiguousarray(values.reshape(len(values), -1)[:, active].T) - offset
        size = next_fast_len(len(values) + top, real=True)
        first = rfft(columns[:, :n], size, axis=1)
        cross = np.einsum("xw,xw->w", first.conj(), rfft(columns, size, axis=1))
        total += irfft(cross, size)[lags]
        counts += np.clip(len(values) - lags, 0, n)
    return total, counts


def _total_sums(source, block, mean, lags):
    """The same of the sum over all sites of a bin."""
    total, counts = np.zeros(len(lags)), np.zeros(len(lags), np.int64)
    offset = mean.sum()
    others = tuple(range(1, len(source.shape) + 1))
    kind = np.int64 if source.is_binary else np.float64
    for values, n in source.chunks(block, ahead=int(lags[-1])):
        M = values.sum(axis=others, dtype=kind) - offset
        for i, lag in enumerate(lags):
            m = min(n, len(M) - lag)
            if m > 0:
                total[i] += M[:m] @ M[lag : lag + m]
                counts[i] += m
    return total, counts


def _planes(source, values, mean, k):
    """Sums of the connected field over the planes perpendicular to spatial axis k, (bins, L)."""
    others = tuple(i + 1 for i in range(len(source.shape)) if i != k)
    kind = np.int64 if source.is_binary else np.float64
    return values.sum(axis=others, dtype=kind) - mean.sum(axis=tuple(i - 1 for i in others))


def _plane_products(source, block, mean, k, lags):
    from scipy.fft import irfft, rfft

    L = source.shape[k]
    size = L if source.periodic[k] else 2 * L
    power = 0.0
    for values, _ in source.chunks(block):
        power = power + (np.abs(rfft(_planes(source, values, mean, k), size, axis=1)) ** 2).sum(axis=0)
    return irfft(power, size)[lags]


def correlation_length(fields, axis, segment=256, comm=None):
    """Second-moment correlation length along an axis, as ``(in sites, physical or None)``.

        xi = sqrt(S(0)/S(1) - 1) / (2 sin(pi/L)),   S(k) = <|sum_x exp(2 pi i k x/L) dM(x)|^2>

    with dM the sum of the connected field over the plane at x, and L planes.  Time is cut into segments of
    ``segment`` bins, each a sample.

    Returns
    -------
    Estimate, (value, error, unit) or None
        NaN where xi^2 is not positive: no correlation length is resolved.
    """
    source = as_source(fields)
    check_axis(source, axis)
    mean = site_means(source, None, comm)
    k = None if axis == "t" else source.axes.index(axis)
    L = min(segment, source.n_bins) if axis == "t" else source.shape[k]
    blocks = source.blocks(64, at_least=1) if k is not None else [[(c, 0, source.n_bins)]
                                                                  for c in range(source.n_configurations)]
    series = np.concatenate(list(ordered_map(lambda b: _mode_powers(source, b, mean, k, L), blocks, comm)))
    if len(series) < 4:
        raise InputError(f"correlation length along {axis}: {len(series)} samples, at least 4 are needed")
    scale = (2 * math.sin(math.pi / L)) ** 2
    square = estimate(series, lambda m: (m[0] / m[1] - 1) / scale, name=f"xi^2 along {axis}")
    quantity = source.geometry.quantity(axis)
    if not square.value > 0:
        return math.nan, math.nan, None
    xi = math.sqrt(square.value)
    error = square.error / (2 * xi)
    return xi, error, (xi * quantity.value, error * quantity.value, quantity.unit) if quantity else None


def _mode_powers(source, block, mean, k, segment):
    """(n, 2) series of |dM~(0)|^2 and |dM~(1)|^2 of the bins of a block, or (k None) of its segments of time."""
    if k is not None:
        rows = [_planes(source, values, mean, k) for values, _ in source.chunks(block)]
        return np.concatenate([np.abs(np.fft.rfft(M, axis=1)[:, :2]) ** 2 for M in rows])
    others = tuple(range(1, len(source.shape) + 1))
    kind = np.int64 if source.is_binary else np.float64
    M = np.concatenate([v.sum(axis=others, dtype=kind) for v, _ in source.chunks(block)]) - mean.sum()
    pieces = M[: len(M) // segment * segment].reshape(-1, segment)
    return np.abs(np.fft.rfft(pieces, axis=1)[:, :2]) ** 2


def second_moment_length(correlator, reach=None):
    """Second-moment correlation length from a zero-momentum correlator, for open and periodic axes alike.

        xi^2 = sum_(r=-R)^R r^2 Z(r) / (2 sum_(r=-R)^R Z(r))

    which is ``m^-2 (1 + O(m^2))`` for ``Z = exp(-m |r|)``: exactly ``xi = 1/(2 sinh(m/2))`` as R grows.

    Parameters
    ----------
    correlator : Correlator
        Of :func:`zero_momentum`, with its blocks.
    reach : int, optional
        R.  Default: up to the last r before Z(r) falls below twice its error, which biases xi low by what is cut off.

    Returns
    -------
    xi, error, reach : float, float, int
        In sites; NaN where the sums are not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.correlator import Correlator, second_moment_length
    >>> r, rows = np.arange(60), np.exp(-0.4 * np.arange(60)) * np.linspace(0.99, 1.01, 5)[:, None]
    >>> z = Correlator("x", r, rows.mean(axis=0), 1e-9 * rows[0], rows=rows, weights=np.ones(5))
    >>> xi, error, R = second_moment_length(z)
    >>> bool(abs(xi - 1 / (2 * np.sinh(0.2))) < 1e-6), R
    (True, 59)
    """
    if reach is None:
        below = np.flatnonzero(~(correlator.value > 2 * correlator.error))
        reach = int(below[0]) - 1 if len(below) else len(correlator.r) - 1
    if reach < 1:
        return math.nan, math.nan, 0
    value, error = correlator.jackknife(lambda c: _second_moment(correlator.r, c, reach))
    return float(value), float(error), reach


def _second_moment(r, c, reach):
    r, c = r[: reach + 1], c[: reach + 1]
    fold = np.where(r == 0, 1.0, 2.0)
    top, bottom = (fold * r**2 * c).sum(), 2 * (fold * c).sum()
    return math.sqrt(top / bottom) if top * bottom > 0 else math.nan


def anisotropy(first, second, length=None):
    """Ratio of the correlation lengths along two axes, ``(value, error)`` with the correlation of the two included.

    Parameters
    ----------
    first, second : Correlator
        Of :func:`zero_momentum` of the same data, with the same blocks.
    length : callable, optional
        ``length(c, correlator)`` gives the length in sites from values c at the distances of a correlator.  Default:
        the second-moment length with the reach that :func:`second_moment_length` takes for all data.

    Raises
    ------
    InputError
        The two have different blocks.
    """
    if len(first.weights) != len(second.weights):
        raise InputError(f"anisotropy: {len(first.weights)} blocks along {first.axis}, {len(second.weights)} along "
                         f"{second.axis}; both must be of the same blocks")
    if length is None:
        reach = {id(c): second_moment_length(c)[2] for c in (first, second)}
        length = lambda c, of: _second_moment(of.r, c, reach[id(of)])  # noqa: E731
    parts = []
    for c in (first, second):
        parts.append(np.array([length(row, c) for row in (c.value, *c.left_out)]))
    ratio = parts[0] / parts[1]
    n = len(ratio) - 1
    return float(ratio[0]), float(np.sqrt((n - 1) / n * ((ratio[1:] - ratio[1:].mean()) ** 2).sum()))

