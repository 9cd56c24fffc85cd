"""Connected n-point functions: joint cumulants of the field at given displacements, or of its Fourier modes.

    position:   C_n(d_1, ..., d_(n-1)) = (1/n_x) sum_x kappa(phi_x, phi_(x+d_1), ..., phi_(x+d_(n-1)))
    momentum:   G_n(k_1 t_1, ..., k_n t_n) = (1/V) kappa(phi~_k1(a+t_1), ..., phi~_kn(a+t_n)),   sum k_i = 0

over the sites x for which all n sites exist, with the joint cumulant (standard result)

    kappa(X_1..X_n) = sum over partitions P of {1..n} of (-1)^(|P|-1) (|P|-1)! prod_(B in P) <prod_(i in B) X_i>

so the two-point function is the covariance, and three points subtract every pair and mean.  Repeated displacements are
allowed: ``C_4(0, 0, 0)`` is the fourth cumulant of one site.  A displacement of time counts in bins.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.resample import jackknife
from lft.analysis.source import as_source, ordered_map, site_means
from lft.errors import InputError
from lft.geometry import Graph

MAX_POINTS = 6


@dataclass(frozen=True, eq=False)
class NPoint:
    """One n-point function.

    Attributes
    ----------
    displacements : tuple of tuple of int
        All n sites, the first at the origin.
    value, error : float
        Connected; from leave-one-block-out, the bias of order 1/samples removed.
    raw : float
        ``<phi_x phi_(x+d_1) ...>``: not connected.
    n_sites : int
        Sites x of a bin that the average runs over.
    """

    displacements: tuple
    value: float
    error: float
    raw: float
    n_sites: int


# ---- cumulants
def partitions(items):
    """All partitions of a sequence into blocks, as lists of tuples.

    Examples
    --------
    >>> from lft.analysis.npoint import partitions
    >>> [len(list(partitions(range(n)))) for n in range(1, 6)]
    [1, 2, 5, 15, 52]
    """
    items = tuple(items)
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for k in range(len(rest) + 1):
        for others in itertools.combinations(rest, k):
            left = tuple(i for i in rest if i not in others)
            for tail in partitions(left):
                yield [(first, *others), *tail]


def subsets(n):
    """Non-empty subsets of 0..n-1 in a fixed order."""
    return [s for k in range(1, n + 1) for s in itertools.combinations(range(n), k)]


def joint_cumulant(moments, n):
    """Joint cumulant of n variables from the moments of all their subsets.

    Parameters
    ----------
    moments : array_like, shape (2^n - 1, ...)
        ``<prod_(i in B) X_i>`` in the order of :func:`subsets`.

    Examples
    --------
    Third cumulant of a Bernoulli variable, p (1-p) (1-2p):

    >>> import numpy as np
    >>> from lft.analysis.npoint import joint_cumulant
    >>> round(float(joint_cumulant(np.full(7, 0.2), 3)), 12)
    0.096
    """
    place = {s: i for i, s in enumerate(subsets(n))}
    total = 0.0
    for parts in partitions(range(n)):
        product = 1.0
        for part in parts:
            product = product * moments[place[part]]
        total = total + (-1) ** (len(parts) - 1) * math.factorial(len(parts) - 1) * product
    return total


# ---- position
def n_point(data, sets, n_blocks=20, per_site=None, comm=None):
    """Connected n-point functions at given displacements, averaged over translations.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
    sets : sequence of sequences of displacements
        Each holds the n-1 displacements (vectors of integers in the user's axis order, ``(lag, 0)`` on a graph) of one
        function, 1 <= n-1 <= 5.
    n_blocks : int, optional
        Blocks of samples behind the errors, >= 4.
    per_site : bool, optional
        Take the cumulant at each site and average those (default where there is a time axis): differences between sites
        are then no correlation.  Else average the moments over the sites first, as translation invariance allows.
    comm : mpi4py communicator, optional
        Blocks are shared out among its ranks; the result has the same bits for any number.

    Returns
    -------
    list of NPoint

    Raises
    ------
    InputError
        A displacement that does not fit the lattice, for which no site has all partners, or too many points.

    Notes
    -----
    Cost: ``2^n - 1`` products per set, site and bin; one pass over the data.  Counts of binary fields are exact
    integers.  Memory: n_blocks x 2^n numbers per set, with ``per_site`` times the sites.

    Examples
    --------
    Three spins that are tied together, s_2 = s_0 s_1, are uncorrelated in pairs:

    >>> import numpy as np
    >>> from lft.analysis.npoint import n_point
    >>> from lft.analysis.source import Source
    >>> from lft.geometry import Lattice
    >>> def tied(k, a, b):
    ...     s = np.random.default_rng(k).choice([-1, 1], (1, 2))
    ...     return np.concatenate([s, s[:, :1] * s[:, 1:]], axis=1)
    >>> two, three = n_point(Source(Lattice((3,), boundary="open"), "spin", 400, tied), [[(1,)], [(1,), (2,)]])
    >>> bool(abs(two.value) < 4.5 * two.error), bool(abs(three.value - 1) < 4.5 * three.error + 1e-12), three.n_sites
    (True, True, 1)
    """
    source = as_source(data)
    sets = [_checked(source, displacements) for displacements in sets]
    per_site = source.has_site_means if per_site is None else per_site
    plans = [_plan(source, displacements) for displacements in sets]
    blocks = source.blocks(n_blocks)
    parts = list(ordered_map(lambda b: [_moment_sums(source, b, p, per_site) for p in plans], blocks, comm))
    out = []
    for k, (points, plan) in enumerate(zip(sets, plans, strict=True)):
        n, n_sites = len(points), int(plan["valid"].sum())
        rows = np.array([np.append(part[k][0].ravel(), part[k][1]) for part in parts])
        if not rows[:, -1].all():
            raise InputError(f"displacements {points[1:]}: reach beyond a block of time; take fewer blocks")
        scale = 1 if per_site else n_sites

        def connected(means, n=n, scale=scale):
            moments = means[:-1].reshape(2**n - 1, -1) / (means[-1] * scale)
            return joint_cumulant(moments, n).mean()

        value, error = jackknife(rows, connected, len(rows))
        total = rows.sum(axis=0)
        raw = (total[:-1].reshape(2**n - 1, -1)[-1] / (total[-1] * scale)).mean()
        out.append(NPoint(points, value, error, float(raw), n_sites))
    return out


def _checked(source, displacements):
    """The displacements of all n points, the origin first."""
    n_axes = len(source.geometry.shape)
    points = [(0,) * n_axes]
    for d in displacements:
        d = tuple(d) if np.ndim(d) else (d,)
        if len(d) != n_axes or any(isinstance(v, bool) or not isinstance(v, int | np.integer) for v in d):
            names = ", ".join(source.geometry.axes)
            raise InputError(f"displacement {d}: valid is a vector of {n_axes} integers ({names})")
        points.append(tuple(int(v) for v in d))
    if not 2 <= len(points) <= MAX_POINTS:
        raise InputError(f"displacements {list(displacements)}: valid are 1 to {MAX_POINTS - 1} of them")
    if isinstance(source.geometry, Graph) and any(unit for _, unit in points):
        raise InputError(f"displacements {points[1:]}: units of a graph have no distance; valid are (lag, 0)")
    return tuple(points)


def _plan(source, points):
    """Steps in time (all >= 0), steps in space, and where all points exist."""
    t = None if not source.has_time else (source.geometry.axes.index("t"))
    lags = [0 if t is None else d[t] for d in points]
    space = [tuple(v for i, v in enumerate(d) if i != t) or (0,) for d in points]
    lags = [k - min(lags) for k in lags]
    if max(lags) >= source.n_bins:
        raise InputError(f"displacements {points[1:]}: reach over {max(lags)} of {source.n_bins} bins")
    valid = source.mask
    for step in space:
        valid = valid & _moved(source.mask, step, source.periodic)
    if not valid.any():
        raise InputError(f"displacements {points[1:]}: no site has all {len(points)} points on this lattice")
    return {"lags": lags, "space": space, "valid": valid, "n": len(points)}


def _moved(values, step, periodic, first=0):
    """values[x + step] over the spatial axes, which begin at axis ``first``; nothing beyond open ends."""
    for axis, (s, is_periodic) in enumerate(zip(step, periodic, strict=True), start=first):
        if is_periodic:
            values = np.roll(values, -s, axis)
        elif s:
            n, moved = values.shape[axis], np.zeros_like(values)
            lines = np.arange(max(-s, 0), min(n, n - s))
            at = (slice(None),) * axis
            moved[(*at, lines)] = values[(*at, lines + s)]
            values = moved
    return values


def _moment_sums(source, block, plan, per_site):
    """Sums over the bins of a block of the products of all subsets, (2^n - 1[, sites]), and the number of bins."""
    kind = np.int64 if source.is_binary else np.float64
    valid, n, top = plan["valid"], plan["n"], max(plan["lags"])
    total, bins = 0, 0
    for values, m in source.chunks(block, ahead=top, cells=4 * math.prod(source.shape)):
        m = min(m, len(values) - top)
        if m <= 0:
            continue
        points = [_moved(values[k : k + m], step, source.periodic, 1)[:, valid]
                  for k, step in zip(plan["lags"], plan["space"], strict=True)]
        sums = []
        for subset in subsets(n):
            product = points[subset[0]]
            for i in subset[1:]:
                product = product * points[i]
            sums.append(product.sum(axis=0 if per_site else None, dtype=kind))
        total, bins = total + np.array(sums), bins + m
    return (np.zeros(2**n - 1) if bins == 0 else total), bins


# ---- momentum and (momentum, time)
@dataclass(frozen=True, eq=False)
class MomentumPoint:
    """One n-point function of Fourier modes: attributes wave_vectors, lags, value and error (complex: those of the real
    and of the imaginary part)."""

    wave_vectors: tuple
    lags: tuple
    value: complex
    error: complex


def n_point_momentum(data, sets, n_blocks=20, per_site=None, comm=None):
    """Connected n-point functions of Fourier modes, at equal or different times.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
    sets : sequence of (wave vectors, lags)
        Wave vectors: n integer vectors m_i over the spatial axes (user's order), ``k_i = 2 pi m_i/L``; their sum must
        vanish modulo the extents, else translation invariance makes the function zero.  Lags: n integers (bins), or
        None for equal times.  2 <= n <= 6.
    n_blocks, per_site, comm
        As for :func:`n_point`; ``per_site`` subtracts the mean of each site before the transform.

    Returns
    -------
    list of MomentumPoint

    Notes
    -----
    n = 2 is S(k, t), n = 3 the bispectrum, n = 4 the trispectrum.  Cost: V operations per mode and bin.

    Examples
    --------
    Independent spins up with probability 0.8: the bispectrum is their third cumulant, 8 p (1-p) (1-2p).

    >>> import numpy as np
    >>> from lft.analysis.npoint import n_point_momentum
    >>> from lft.analysis.source import Source
    >>> from lft.geometry import Lattice
    >>> coin = lambda k, a, b: np.where(np.random.default_rng(k).random((b - a, 16)) < 0.8, 1, -1)
    >>> (b,) = n_point_momentum(Source(Lattice((16,)), "spin", 4000, coin), [([(1,), (2,), (-3,)], None)])
    >>> bool(abs(b.value.real + 0.768) < 4.5 * b.error.real), bool(abs(b.value.imag) < 4.5 * b.error.imag)
    (True, True)
    """
    source = as_source(data)
    if not source.axes:
        raise InputError(f"{source.name}: a graph has no wave vectors")
    plans = [_momentum_plan(source, vectors, lags) for vectors, lags in sets]
    mean = site_means(source, per_site, comm)
    blocks = source.blocks(n_blocks)
    parts = list(ordered_map(lambda b: [_mode_sums(source, b, p, mean) for p in plans], blocks, comm))
    out = []
    for k, plan in enumerate(plans):
        n = len(plan["lags"])
        sums = np.array([part[k][0] for part in parts])
        bins = np.array([part[k][1] for part in parts])
        if not bins.all():
            raise InputError(f"lags {plan['lags']}: reach beyond a block of time; take fewer blocks")
        rows = np.concatenate([sums.real, sums.imag, bins[:, np.newaxis]], axis=1)

        def connected(means, n=n):
            half = (len(means) - 1) // 2
            value = joint_cumulant((means[:half] + 1j * means[half:-1]) / means[-1], n) / source.n_active
            return np.array([value.real, value.imag])

        value, error = jackknife(rows, connected, len(rows))
        out.append(MomentumPoint(plan["vectors"], plan["asked"], complex(*value), complex(*error)))
    return out


def _momentum_plan(source, vectors, lags):
    vectors = tuple(tuple(int(v) for v in np.atleast_1d(m)) for m in vectors)
    n = len(vectors)
    if not 2 <= n <= MAX_POINTS or any(len(m) != len(source.shape) for m in vectors):
        raise InputError(f"wave vectors {vectors}: valid are 2 to {MAX_POINTS} vectors of {len(source.shape)} integers")
    total = np.sum(vectors, axis=0) % source.shape
    if total.any():
        raise InputError(f"wave vectors {vectors}: their sum must vanish modulo {source.shape}, it is {total.tolist()}")
    asked = (0,) * n if lags is None else tuple(int(k) for k in lags)
    if len(asked) != n or max(asked) - min(asked) >= source.n_bins:
        raise InputError(f"lags {asked}: valid are {n} integers that span less than {source.n_bins} bins")
    x = np.indices(source.shape).reshape(len(source.shape), -1)[:, source.mask.ravel()]
    k = 2 * np.pi * np.array(vectors) / source.shape
    return {"vectors": vectors, "asked": asked, "lags": [t - min(asked) for t in asked], "waves": np.exp(-1j * (k @ x))}


def _mode_sums(source, block, plan, mean):
    n, top = len(plan["lags"]), max(plan["lags"])
    total, bins = np.zeros(2**n - 1, complex), 0
    for values, m in source.chunks(block, ahead=top, cells=2 * math.prod(source.shape)):
        m = min(m, len(values) - top)
        if m <= 0:
            continue
        modes = (values - mean)[:, source.mask] @ plan["waves"].T
        points = [modes[t : t + m, i] for i, t in enumerate(plan["lags"])]
        total += [math.prod((points[i] for i in s), start=np.ones(m)).sum() for s in subsets(n)]
        bins += m
    return total, bins

