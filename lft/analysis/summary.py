"""Every observable of an archive with its error: what ``lft analyze`` prints."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np

from lft.analysis.estimate import Estimate, estimate
from lft.errors import InputError, SeriesTooShort
from lft.observables import correlate


def summarize(archive):
    """Estimates of all observables of an archive, derived ones included.

    Parameters
    ----------
    archive : lft.archive.Archive

    Returns
    -------
    estimates : dict
        Name to :class:`Estimate`, or to a list of them for vector observables.
    notes : list of str
        Series that are too short for their error to be trusted, and by how much.
    """
    spacing = int(archive.config["run"]["measure_every"])
    if archive.n_samples < 4:
        raise InputError(
            f"{archive.path}: {archive.n_samples} measurements; at least 4 are needed for an error (and more than "
            "50 autocorrelation times for one to be trusted): run longer or measure more often"
        )
    estimates, notes, short = {}, [], {}

    def add(name, *arguments, **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SeriesTooShort)
            value = estimate(*arguments, spacing=spacing, name=name, **options)
        for w in caught:
            if issubclass(w.category, SeriesTooShort):
                short[name] = (50 * value.tau_int - value.n * spacing, str(w.message))
        return value

    for name in archive.names:
        series = archive.samples(name)
        if series.ndim == 1:
            estimates[name] = add(name, series)
        else:
            columns = series.reshape(len(series), -1)
            estimates[name] = [add(f"{name}[{k}]", columns[:, k]) for k in range(columns.shape[1])]
    for name, columns, function in derived(archive):
        series = np.column_stack([archive.samples(c).reshape(archive.n_samples, -1) for c in columns])
        if not np.ptp(series, axis=0).any():  # a chain that stands still has no fluctuations to compare
            with np.errstate(divide="ignore", invalid="ignore"):
                if name.startswith("xi_") or not math.isfinite(function(series[0])):
                    continue
        value = add(name, series, function)
        if name.startswith("xi_"):
            value, note = _root(name, value)
            notes.extend(note)
        estimates[name] = value
    for name in [n for n in archive.names if n.startswith("correlator_")]:
        connected = _connected(archive, name, add)
        if connected is not None:
            estimates[name.replace("correlator", "connected")] = connected
    return estimates, _too_short(short) + notes + _constant(estimates)


def _constant(estimates):
    """One line about all observables that never changed: their error 0 is no statement."""
    parts = {name: value if isinstance(value, list) else [value] for name, value in estimates.items()}
    names = [name for name, each in parts.items() if all(e.is_constant for e in each)]
    if not names:
        return []
    return [f"constant over all measurements, no error can be estimated (0 does not mean exact): {', '.join(names)}"]


def _too_short(short):
    """One line about all series that are too short: the worst one, with how much is missing, and the others' names."""
    if not short:
        return []
    worst = max(short, key=lambda name: short[name][0])
    others = list(dict.fromkeys(name.split("[")[0] for name in short))
    others = [name for name in others if name != worst.split("[")[0]]
    more = f"; too short are also: {', '.join(others)}" if others else ""
    return [short[worst][1] + more]


def _connected(archive, name, add):
    """Connected zero-momentum correlator, C(r) - (V/L) (1/n_r) sum_x p(x) p(x+r) with the mean field p of each plane.

    Where the planes are alike p = <m>.  Else the error comes from the series of the first-order expansion in the
    means, C_n(r) - (p*p_n + p_n*p)(r) + (p*p)(r), whose mean is the estimate.  None where the profile of unlike planes
    was not recorded.
    """
    geometry, axis = archive.geometry, name.removeprefix("correlator_")
    k = geometry.axes.index(axis)
    planes = geometry.n_active / geometry.shape[k]
    series = archive.samples(name)
    label = name.replace("correlator", "connected")
    if f"profile_{axis}" in archive.names:
        profile = archive.samples(f"profile_{axis}")
        p, is_periodic = profile.mean(axis=0), _is_periodic(geometry, axis)
        square = correlate(p, is_periodic)
        cross = [correlate(q, is_periodic, other=p) + correlate(p, is_periodic, other=q) for q in profile]
        series = series - planes * (np.array(cross) - square)
        return [add(f"{label}[{r}]", series[:, r]) for r in range(series.shape[1])]
    is_homogeneous = geometry.mask is None and not np.ndim(archive.action.couplings.get("h", 0.0))
    if not (_is_periodic(geometry, axis) and (axis == "t" or is_homogeneous)):
        return None
    m = archive.samples("magnetization")
    pairs = [np.column_stack([series[:, r], m]) for r in range(series.shape[1])]
    return [add(f"{label}[{r}]", pair, lambda v: v[0] - v[1] ** 2 * planes) for r, pair in enumerate(pairs)]


def connected_series(archive, name):
    """Series (measurement, r) whose mean is the connected zero-momentum correlator, or None as in :func:`_connected`.

    The product of means is expanded to first order about the means of the whole series, so that means over blocks have
    the fluctuations of the estimate.
    """
    geometry, axis = archive.geometry, name.removeprefix("correlator_")
    planes = geometry.n_active / geometry.shape[geometry.axes.index(axis)]
    series, is_periodic = archive.samples(name), _is_periodic(geometry, axis)
    if f"profile_{axis}" in archive.names:
        profile = archive.samples(f"profile_{axis}")
        p = profile.mean(axis=0)
        cross = [correlate(q, is_periodic, other=p) + correlate(p, is_periodic, other=q) for q in profile]
        return series - planes * (np.array(cross) - correlate(p, is_periodic))
    is_homogeneous = geometry.mask is None and not np.ndim(archive.action.couplings.get("h", 0.0))
    if not (is_periodic and (axis == "t" or is_homogeneous)):
        return None
    m = archive.samples("magnetization")[:, np.newaxis]
    return series - planes * (2 * m * m.mean() - m.mean() ** 2)


def _is_periodic(geometry, axis):
    boundary = geometry.boundary
    return (boundary if isinstance(boundary, str) else boundary[geometry.axes.index(axis)]) == "periodic"


def _root(name, square):
    """xi from xi^2; where xi^2 is not positive within its error there is no length to report."""
    if square.value > 0:
        xi = math.sqrt(square.value)
        scale = 1 / (2 * xi)
        changes = {"value": xi, "error": square.error * scale, "error_of_error": square.error_of_error * scale}
        return dataclasses.replace(square, **changes), []
    note = f"{name}: no correlation length resolved, xi^2 = {square.value:.2g} +- {square.error:.2g}"
    return dataclasses.replace(square, value=math.nan, error=math.nan), [note]


def derived(archive):
    """(name, columns, function of their means) of the derived quantities that the archive allows."""
    V = archive.geometry.n_units if archive.action.has_independent_bins else archive.geometry.n_active
    out = [
        ("binder", ("m2", "m4"), lambda m: 1 - m[1] / (3 * m[0] ** 2) if m[0] else math.nan),
        ("susceptibility", ("m2", "abs_magnetization"), lambda m: V * (m[0] - m[1] ** 2)),
    ]
    if "m2_improved" in archive.names:
        # without a field the mean of m is zero by symmetry, so the whole m^2 is the variance (not V (<m^2> - <|m|>^2))
        field = ("magnetization_improved",) if "magnetization_improved" in archive.names else ()
        out.append(("susceptibility_improved", ("m2_improved", *field), lambda m: V * (m[0] - sum(m[1:]) ** 2)))
    if "m4_improved" in archive.names:
        columns = ("m2_improved", "m4_improved")
        out.append(("binder_improved", columns, lambda m: 1 - m[1] / (3 * m[0] ** 2) if m[0] else math.nan))
    for name in archive.names:
        if name.startswith("structure_"):
            axis = name.removeprefix("structure_")
            L = archive.geometry.shape[archive.geometry.axes.index(axis)]
            columns = (name, "magnetization", f"mode_{axis}")
            out.append((f"xi_{axis}", columns, _correlation_length(V, L)))
    return out


def _correlation_length(V, L):
    """Square of the second-moment correlation length from the two lowest connected modes.

    xi^2 = (S(0)/S(1) - 1) / (2 sin(pi/L))^2,  S(k) = <|phi~(k)|^2>/V - |<phi~(k)>|^2/V.
    """

    def xi_squared(means):
        S0, S1, m, cosine, sine = means
        connected0, connected1 = S0 - V * m**2, S1 - V * (cosine**2 + sine**2)
        return (connected0 / connected1 - 1) / (2 * math.sin(math.pi / L)) ** 2

    return xi_squared


def as_json(estimates):
    """``{NAME: {"value", "error", "tau_int", "n"}}``, lists for vectors; what is not finite becomes None."""
    return {name: _entry(value) for name, value in estimates.items()}


def _entry(value):
    if isinstance(value, Estimate):
        numbers = {"value": value.value, "error": value.error, "tau_int": value.tau_int, "n": value.n}
        clean = {k: (v if math.isfinite(v) else None) for k, v in numbers.items()}
        return clean | {"constant": True} if value.is_constant else clean
    entries = [_entry(v) for v in value]
    return {k: [e[k] for e in entries] for k in ("value", "error", "tau_int", "n")}


def physical_lengths(archive, estimates):
    """Correlation lengths and times in the units of the spacing: ``{NAME: {"value", "error", "unit"}}``."""
    out = _physical_radius(archive, estimates) if "radius2" in estimates else {}
    for name, value in estimates.items():
        if name.startswith("xi_"):
            quantity = archive.geometry.quantity(name.removeprefix("xi_"))
            if quantity is not None:
                scale = {"value": value.value * quantity.value, "error": value.error * quantity.value}
                out[name] = {k: v if math.isfinite(v) else None for k, v in scale.items()} | {"unit": quantity.unit}
    return out


def _physical_radius(archive, estimates):
    """radius2 of directed percolation where all space axes have one spacing."""
    geometry = archive.geometry
    spacings = [geometry.quantity(axis) for axis in geometry.space_axes]
    if None in spacings or len({q.si for q in spacings}) > 1:
        return {}
    area = spacings[0].value ** 2
    clean = lambda x: x * area if math.isfinite(x) else None  # noqa: E731
    parts = {k: [clean(getattr(e, k)) for e in estimates["radius2"]] for k in ("value", "error")}
    return {"radius2": parts | {"unit": f"{spacings[0].unit}^2"}}
