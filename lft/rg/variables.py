"""Between couplings and what an experiment measures: rates, lengths, times, velocities, with units and errors.

====================  ============================================================  ============================
model parameter       experimental variable                                         functions
====================  ============================================================  ============================
tau, a, b             bin (ms), site (um), electrode pitch / a                      ``Lattice.spacing``
h                     firing rate (Hz), at given K                                  :func:`rate_hz`, ``rate_to_field``
K_t                   correlation time (ms)                                         ``chain_variables``, and back
K, h                  rate, correlation length (um) and time (ms), velocity         :func:`ensemble_variables`
                      (um/ms), susceptibility
K by displacement     range (um), number of coupled sites, summed coupling          :func:`connectivity`
R                     refractory time (ms): activity from rate, and back            :func:`refractory_variables`
====================  ============================================================  ============================

In one dimension (one neuron, a line) everything is exact (``lft.rg.chains``); in general the lattice is simulated and
each number carries its measured error.  Errors of couplings go through to first order: ``var f = g^T C g``.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.rg.chains import (
    chain_couplings,
    chain_moments,
    field_at_probability,
    hard_rod_activity,
    hard_rod_density,
)
from lft.units import parse_quantity

UM, MS = 1e-6, 1e-3
_COUPLING = re.compile(r"K\[(-?\d+(?:,-?\d+)*)\]")


@dataclass(frozen=True)
class Variable:
    """A number with error and unit.

    >>> print(Variable(12.3456, 0.21, "Hz"))
    12.35(21) Hz
    """

    value: float
    error: float
    unit: str = ""

    def as_json(self):
        """``{"value", "error", "unit"}``, None where a number is not finite."""
        number = lambda x: float(x) if math.isfinite(x) else None  # noqa: E731
        return {"value": number(self.value), "error": number(self.error), "unit": self.unit}

    def __str__(self):
        from lft.analysis.estimate import format_with_error

        if not math.isfinite(self.value):
            return "not resolved"
        if not (math.isfinite(self.error) and self.error > 0):
            text = f"{self.value:.5g}"
        else:
            text = format_with_error(self.value, self.error)
        return f"{text} {self.unit}".rstrip()


def propagate(function, values, covariance, step=1e-4):
    """Values of a function and their covariance, ``J C J^T`` with J by central differences.

    Parameters
    ----------
    function : callable
        ``function(values) -> sequence of float``.
    values : sequence of float (n,)
    covariance : ndarray (n, n)
    step : float
        Of the differences, in units of each standard error (at least 1e-7 in absolute terms).

    Returns
    -------
    ndarray (m,), ndarray (m, m)

    Examples
    --------
    >>> value, covariance = propagate(lambda x: [x[0] * x[1]], [2.0, 3.0], np.diag([0.01, 0.04]))
    >>> value.tolist(), round(float(covariance[0, 0]), 9)
    ([6.0], 0.25)
    """
    values, covariance = np.asarray(values, float), np.asarray(covariance, float)
    if covariance.shape != (len(values),) * 2:
        raise InputError(f"covariance has shape {covariance.shape}, there are {len(values)} values")
    center, columns = np.atleast_1d(np.asarray(function(values), float)), []
    for k, variance in enumerate(covariance.diagonal()):
        delta = np.zeros(len(values))
        delta[k] = max(step * math.sqrt(max(variance, 0.0)), 1e-7)
        up, down = (np.atleast_1d(np.asarray(function(values + sign * delta), float)) for sign in (1, -1))
        columns.append((up - down) / (2 * delta[k]))
    jacobian = np.array(columns).T
    return center, jacobian @ covariance @ jacobian.T


def _named(function, values, covariance, units):
    """Variables by name from a function that returns them in the order of ``units``."""
    center, spread = propagate(function, values, covariance)
    errors = np.sqrt(np.maximum(spread.diagonal(), 0.0))
    errors[errors < 1e-10 * np.abs(center)] = 0.0  # rounding of the differences
    rows = zip(units.items(), center, errors, strict=True)
    return {name: Variable(float(v), float(e), unit) for (name, unit), v, e in rows}


def _covariance(covariance, n):
    return np.zeros((n, n)) if covariance is None else np.asarray(covariance, float)


# ---- one neuron, or a line of sites: exact
def chain_variables(K, h, spacing, covariance=None):
    """Experimental variables of the Ising chain, exact.

        rate = p/tau,   correlation time = -tau/ln|rho|  (length for a line in space),   susceptibility of spins

    Parameters
    ----------
    K, h : float
        Weight ``exp(K s s' + h s)``; see :func:`lft.rg.chains.chain_moments`.
    spacing : str
        Bin width ("2 ms") of a chain in time, or site distance ("50 um") of a line in space.
    covariance : ndarray (2, 2), optional
        Of (K, h), from a fit.

    Returns
    -------
    dict of str to Variable
        In time ``rate_hz``, ``correlation_time_ms``; in space ``density``, ``correlation_length_um``; and
        ``susceptibility``, ``neighbor_correlation``.

    Examples
    --------
    >>> v = chain_variables(0.8, -0.5, "2 ms", np.diag([1e-4, 1e-4]))
    >>> print(v["correlation_time_ms"])
    1.840(32) ms
    """
    quantity = parse_quantity(spacing, name="spacing")
    is_time = quantity.dimension == "time"
    in_time, in_space = {"rate_hz": "Hz", "correlation_time_ms": "ms"}, {"density": "", "correlation_length_um": "um"}
    units = (in_time if is_time else in_space) | {"susceptibility": "", "neighbor_correlation": ""}
    scale = quantity.si / (MS if is_time else UM)

    def numbers(couplings):
        m = chain_moments(*couplings)
        first = m.probability / quantity.si if is_time else m.probability
        return [first, m.persistence * scale, m.susceptibility, m.correlation]

    return _named(numbers, [K, h], _covariance(covariance, 2), units)


def chain_from_variables(rate_hz, correlation_time_ms, bin_width, errors=(0.0, 0.0), sign=1):
    """Couplings (K, h) of one neuron with a given rate and correlation time: the way back.

        p = rate tau,   rho = sign exp(-tau/correlation time)

    Parameters
    ----------
    rate_hz, correlation_time_ms : float
    bin_width : str
        Such as "2 ms".
    errors : sequence of float
        Standard errors of the two, independent.
    sign : {1, -1}
        -1: the correlation alternates from bin to bin (refractoriness).

    Returns
    -------
    dict of str to Variable
        ``K``, ``h``; and their ``covariance`` as an ndarray (2, 2).

    Examples
    --------
    >>> v = chain_variables(0.8, -0.5, "2 ms")
    >>> back = chain_from_variables(v["rate_hz"].value, v["correlation_time_ms"].value, "2 ms")
    >>> round(back["K"].value, 9), round(back["h"].value, 9)
    (0.8, -0.5)
    """
    tau = parse_quantity(bin_width, "time", "bin_width").si
    if sign not in (1, -1):
        raise InputError(f"sign = {sign!r}: valid are 1 and -1")
    if not (np.isfinite(correlation_time_ms) and correlation_time_ms > 0):
        raise InputError(f"correlation_time_ms = {correlation_time_ms!r}: valid is a positive number")

    def couplings(x):
        return chain_couplings(x[0] * tau, sign * math.exp(-tau / (x[1] * MS)))

    center, covariance = propagate(couplings, [rate_hz, correlation_time_ms], np.diag(np.square(errors)))
    error = np.sqrt(covariance.diagonal())
    names = {"K": Variable(float(center[0]), float(error[0])), "h": Variable(float(center[1]), float(error[1]))}
    return names | {"covariance": covariance}


def rate_to_field(rate_hz, K, bin_width, errors=(0.0, 0.0)):
    """Field h of a chain that fires at a given rate at coupling K, exact; errors of (rate, K) go through.

    Examples
    --------
    >>> rate = chain_variables(0.3, -1.0, "5 ms")["rate_hz"].value
    >>> round(rate_to_field(rate, 0.3, "5 ms").value, 10)
    -1.0
    """
    tau = parse_quantity(bin_width, "time", "bin_width").si
    value, covariance = propagate(
        lambda x: [field_at_probability(x[0] * tau, x[1])], [rate_hz, K], np.diag(np.square(errors))
    )
    return Variable(float(value[0]), math.sqrt(max(covariance[0, 0], 0.0)))


def refractory_variables(bin_width, refractory, *, rate_hz=None, activity=None, error=0.0):
    """Rate and activity of a neuron that rests R bins after each spike (hard rods): give one, get both.

    Parameters
    ----------
    bin_width : str
    refractory : str or int
        Refractory time ("3 ms"; must be a multiple of the bin), or bins.
    rate_hz, activity : float
        One of the two.
    error : float
        Of the one that is given.

    Returns
    -------
    dict of str to Variable
        ``rate_hz``, ``activity`` (z per bin), ``field`` (ln z, conjugate to the number of spikes),
        ``refractory_ms``.

    Examples
    --------
    >>> v = refractory_variables("1 ms", "3 ms", activity=0.2)
    >>> round(v["rate_hz"].value, 6)
    88.213974
    """
    tau = parse_quantity(bin_width, "time", "bin_width").si
    R = refractory if isinstance(refractory, int) else steps(refractory, bin_width, "refractory", "time")
    if (rate_hz is None) == (activity is None):
        raise InputError("give rate_hz or activity, one of the two")

    def numbers(x):
        z = x[0] if rate_hz is None else hard_rod_activity(x[0] * tau, R)
        return [hard_rod_density(z, R) / tau, z, math.log(z)]

    given = activity if rate_hz is None else rate_hz
    out = _named(numbers, [given], [[error**2]], {"rate_hz": "Hz", "activity": "", "field": ""})
    return out | {"refractory_ms": Variable(R * tau / MS, 0.0, "ms")}


def steps(long, short, name, dimension):
    """How many times a quantity is in another, an integer >= 1; InputError names the pair otherwise.

    >>> steps("400 um", "50um", "to-spacing", "length")
    8
    """
    a, b = parse_quantity(long, dimension, name), parse_quantity(short, dimension, name)
    ratio = a.si / b.si
    n = round(ratio)
    if n < 1 or abs(ratio - n) > 1e-6 * max(ratio, 1):
        raise InputError(f"{name}: {a} is {ratio:.6g} times {b}; valid is a whole number of times, at least 1")
    return n


# ---- couplings by displacement
def displacement_of(name):
    """(1, 0, 0) of ``K[1,0,0]``, None of any other name.

    >>> displacement_of("K[1,0,-1]"), displacement_of("h")
    ((1, 0, -1), None)
    """
    match = _COUPLING.fullmatch(name)
    return tuple(int(part) for part in match.group(1).split(",")) if match else None


def connectivity(couplings, spacing, covariance=None):
    """How far and over how many sites couplings at equal or nearly equal time reach.

        strength = 2 sum_d K_d                          (both neighbors of each displacement)
        range^2  = sum_d |K_d| r_d^2 / sum_d |K_d|       r_d: length of the spatial part of d
        count    = 2 (sum_d |K_d|)^2 / sum_d K_d^2       coupled sites, each counted by its share

    over the displacements with a spatial part.

    Parameters
    ----------
    couplings : dict
        ``{"K[1,0,0]": (value, error), ...}``; other names are passed over.
    spacing : sequence of str
        Per axis, the unit tells time from space.
    covariance : ndarray, optional
        Of the K in the order of ``couplings``; default: independent errors.

    Returns
    -------
    dict of str to Variable
        ``coupling_strength``, ``connectivity_range_um``, ``connected_sites``; empty without spatial couplings, or
        where all of them vanish.

    Examples
    --------
    >>> v = connectivity({"K[1,0,0]": (0.2, 0.01), "K[0,1,0]": (0.2, 0.01)}, ("50 um", "50 um", "1 ms"))
    >>> v["connectivity_range_um"].value, v["connected_sites"].value
    (50.0, 4.0)
    """
    quantities = [parse_quantity(s) for s in spacing]
    unit_um = np.array([q.si / UM if q.dimension == "length" else 0.0 for q in quantities])
    names = [n for n in couplings if displacement_of(n) is not None]
    lengths = {n: float(np.linalg.norm(np.array(displacement_of(n)) * unit_um)) for n in names}
    kept = [k for k, n in enumerate(names) if lengths[n] > 0]
    if not kept or not any(couplings[names[k]][0] for k in kept):
        return {}
    values = np.array([couplings[names[k]][0] for k in kept])
    r = np.array([lengths[names[k]] for k in kept])
    if covariance is None:
        spread = np.diag([couplings[names[k]][1] ** 2 for k in kept])
    else:
        spread = np.asarray(covariance, float)[np.ix_(kept, kept)]

    def numbers(K):
        size = np.abs(K)
        return [2 * K.sum(), math.sqrt(size @ r**2 / size.sum()), 2 * size.sum() ** 2 / (K @ K)]

    units = {"coupling_strength": "", "connectivity_range_um": "um", "connected_sites": ""}
    return _named(numbers, values, spread, units)


# ---- from simulation
def mode_number(L):
    """Which mode of an axis of L sites tells the correlation length: wavelength near 12 sites, or L if that is less.

    The lowest mode differs from S(0) by (2 pi xi/L)^2 only, which noise hides where xi is a few sites.
    """
    return max(1, L // 12)


def mode_variables(lattice, modes):
    """Variables from the mean magnetization and one mode per axis of configurations on a periodic lattice.

        susceptibility = (<M^2> - <M>^2)/V,    xi_axis = sqrt(S(0)/S(n) - 1)/(2 sin(pi n/L)),    velocity = xi/xi_time

    with the structure factors ``S(0) = <M^2> - <M>^2``, ``S(n) = <|sum_x exp(2 pi i n x/L) s|^2>`` and ``n`` from
    :func:`mode_number`.  Exact for ``S ~ 1/(1 + (xi 2 sin(k/2))^2)``: in one dimension xi = sqrt(rho)/(1 - rho), close
    to -1/ln rho; the second-moment length for n = 1.

    Parameters
    ----------
    lattice : Lattice
    modes : ndarray (N, 1 + n_axes)
        Per configuration M and the mode of each axis, as :class:`lft.rg.inverse.ensemble.Ensemble` has them.

    Returns
    -------
    dict of str to (float, str)
        Value and unit; nan where fluctuations do not resolve a length (S(0) <= S(n)).
    """
    V = lattice.n_sites
    M, zero = modes[:, 0].mean(), modes[:, 0].var(ddof=1)
    out = {"density": ((1 + M / V) / 2, "")}
    bin_width = lattice.quantity("t") if lattice.time_axis is not None else None
    if bin_width is not None:
        out["rate_hz"] = (out["density"][0] / bin_width.si, "Hz")
    out["susceptibility"] = (zero / V, "")
    physical = {}
    for k, axis in enumerate(lattice.axes):
        L = lattice.shape[k]
        if L < 4 or lattice.boundary[k] != "periodic":
            continue
        excess = zero / modes[:, 1 + k].mean() - 1
        xi = math.sqrt(excess) / (2 * math.sin(math.pi * mode_number(L) / L)) if excess > 0 else math.nan
        quantity = lattice.quantity(axis)
        if quantity is None:
            out[f"correlation_length_{axis}"] = (xi, "sites")
        elif axis == "t":
            physical[axis] = xi * quantity.si / MS
            out["correlation_time_ms"] = (physical[axis], "ms")
        else:
            physical[axis] = xi * quantity.si / UM
            out[f"correlation_length_{axis}_um"] = (physical[axis], "um")
    for axis, length in physical.items():
        if axis != "t" and "t" in physical:
            out[f"velocity_{axis}_um_per_ms"] = (length / physical["t"], "um/ms")
    return out


def ensemble_variables(lattice, modes, slopes=None, covariance=None, flat=(), n_groups=40):
    """:func:`mode_variables` with errors: jackknife over groups of configurations, and couplings if asked.

    Parameters
    ----------
    lattice, modes
        As in :func:`mode_variables`.
    slopes : sequence of (ndarray, ndarray, float), optional
        Per coupling: modes at ``theta + delta``, at ``theta - delta``, and delta.
    covariance : ndarray (n_theta, n_theta), optional
        Of the couplings; ``var = jackknife + slope^T C slope``.
    flat : sequence of ndarray (n_theta,)
        Changes of the couplings that cannot be excluded: a variable that one of them moves by more than its error is
        not determined, nan.

    Returns
    -------
    dict of str to Variable
    """
    center = mode_variables(lattice, modes)
    n = min(n_groups, len(modes) // 2)
    edges = np.linspace(0, len(modes), n + 1).astype(int)
    parts = []
    for a, b in itertools.pairwise(edges):
        parts.append(mode_variables(lattice, np.concatenate([modes[:a], modes[b:]])))
    out = {}
    for name, (value, unit) in center.items():
        row = np.array([p[name][0] for p in parts])
        variance = (n - 1) / n * ((row - row.mean()) ** 2).sum()
        if slopes is not None:
            slope = np.array([_slope(lattice, name, *s) for s in slopes])
            variance += float(slope @ covariance @ slope)
            if any(not (slope @ v) ** 2 <= variance for v in flat):
                value, variance = math.nan, math.nan
        if not math.isfinite(variance):  # not resolved in some group, or at some neighboring coupling
            value = math.nan
        out[name] = Variable(float(value), math.sqrt(variance), unit)
    return out


def _slope(lattice, name, up, down, delta):
    return (mode_variables(lattice, up)[name][0] - mode_variables(lattice, down)[name][0]) / (2 * delta)


# ---- a level of a flow
def experimental_variables(level, axes=None):
    """Experimental variables of one level of a flow, where its spacing is known.

    From its observables: ``rate_hz``; per axis the length ``-a/ln c`` with the correlation of neighbors
    ``c = connected_<axis>/(1 - <s>^2)``: the correlation length (time) if the decay is exponential from the first
    neighbor on.  From its couplings: :func:`connectivity`.

    Parameters
    ----------
    level : lft.rg.flow.Level
        Or any object with ``spacing``, ``couplings``, ``observables``.
    axes : sequence of str, optional
        Names of the axes in the order of ``level.spacing``.  Without them the unit tells time from space, and a
        spatial axis is told apart only where every axis has a correlation.

    Returns
    -------
    dict of str to Variable
        Empty where the spacing is not known; nan where a correlation is not positive.
    """
    if level.spacing is None:
        return {}
    out, observed = {}, level.observables
    if "rate_hz" in observed:
        out["rate_hz"] = Variable(*map(float, observed["rate_hz"]), "Hz")
    m, m_error = observed.get("magnetization", (math.nan, math.nan))
    lengths = {}
    measured = [n.removeprefix("connected_") for n in observed if n.startswith("connected_")]
    spacing = None if axes is None else dict(zip(axes, level.spacing, strict=True))
    for axis in measured:
        quantity = _spacing_of(axis, measured, level.spacing, spacing)
        if quantity is None:
            continue
        is_time = quantity.dimension == "time"
        c, c_error = observed[f"connected_{axis}"]
        scale = quantity.si / (MS if is_time else UM)
        value, error = math.nan, math.nan
        ratio = c / (1 - m * m) if abs(m) < 1 else math.nan
        if 0 < ratio < 1:
            spread = math.hypot(c_error / c, 2 * m * m_error / (1 - m * m))
            value = -scale / math.log(ratio)
            error = scale / math.log(ratio) ** 2 * spread
        lengths[axis] = (value, error, is_time)
        name = "correlation_time_ms" if is_time else f"correlation_length_{axis}_um"
        out[name] = Variable(value, error, "ms" if is_time else "um")
    time = next(((v, e) for v, e, is_time in lengths.values() if is_time), None)
    for axis, (v, e, is_time) in lengths.items():
        if not is_time and time is not None:
            velocity = v / time[0]
            error = abs(velocity) * math.hypot(e / v, time[1] / time[0]) if v == v and time[0] == time[0] else math.nan
            out[f"velocity_{axis}_um_per_ms"] = Variable(velocity, error, "um/ms")
    return out | connectivity(level.couplings, level.spacing)


def _spacing_of(axis, axes, spacing, named):
    """Spacing of an axis of a level: by name, else by position if every axis has bonds."""
    if named is not None:
        return parse_quantity(named[axis])
    quantities = [parse_quantity(s) for s in spacing]
    if axis == "t":
        return next((q for q in quantities if q.dimension == "time"), None)
    return quantities[axes.index(axis)] if len(axes) == len(quantities) else None
