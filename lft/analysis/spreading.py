"""Estimates of a spreading ensemble (:mod:`lft.spreading`), by time step, with errors over replicas.

With N_r(t) active sites in replica r, n replicas and V sites in a slice,

    active(t)   = (1/n) sum_r N_r                    survival(t) = (1/n) sum_r [N_r > 0]
    density(t)  = active(t)/V                        radius2(t)  = sum_r sum_x |x - x0|^2 / sum_r N_r

radius2 is averaged over all active sites of all replicas, in units of the spacing of a slice (a step moves activity by
1/2 along every axis; where a step is called 1, multiply by 4).  At criticality, from a seed,

    survival ~ t^-delta,     active ~ t^theta,     radius2 ~ t^(2/z)

Errors: of survival that of independent trials; of the others from 64 groups of replicas (r mod 64), of ratios to first
order.  Groups are the same at all times, so that errors of slopes, which :func:`exponents` gives, know how
neighboring times are correlated.
"""

from __future__ import annotations

import math

import numpy as np

from lft.analysis.estimate import Estimate, format_with_error
from lft.errors import InputError

VECTORS = ("active", "survival", "radius2", "density")
MIN_STEPS = 20
"""Below so many slices no slope is given."""


def group_sizes(n, n_groups=64):
    """Replicas in each group."""
    return n // n_groups + (np.arange(n_groups) < n % n_groups)


def ratio(A, B):
    """sum A/sum B over groups (last axis) and its error to first order; nan where sum B is 0 or there is one group.

    Examples
    --------
    >>> import numpy as np
    >>> ratio(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    (np.float64(2.0), np.float64(1.0))
    """
    total = np.asarray(B.sum(axis=-1), float)
    n = int((np.broadcast_to(B, A.shape).reshape(-1, A.shape[-1]) != 0).any(axis=0).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        value = A.sum(axis=-1) / total
        rest = A - np.asarray(value)[..., np.newaxis] * B
        error = np.sqrt((rest**2).sum(axis=-1) * (n / (n - 1) if n > 1 else np.nan)) / total
    return value, error


def series(archive):
    """Values and errors (T,) of the four observables by name.

    Parameters
    ----------
    archive : lft.archive.Archive
        Of directed percolation, with at least one complete replica.
    """
    s, n = archive.spreading, archive.t
    if n < 1:
        raise InputError(f"{archive.path}: no replica is complete yet; continue with lft resume")
    sizes = group_sizes(n).astype(float)
    active = ratio(s["active"].astype(float), sizes)
    P = s["alive"].sum(axis=1) / n
    survival = P, np.sqrt(P * (1 - P) / (n - 1)) if n > 1 else np.full(len(P), np.nan)
    V = math.prod(archive.geometry.shape[:-1])
    if s["start"] == "seed":
        radius2 = tuple(x / 4 for x in ratio(s["square"].astype(float), s["active"].astype(float)))
        radius2[1][s["alive"].sum(axis=1) < 2] = np.nan
    else:
        radius2 = np.full((2, len(P)), np.nan)
    return {"active": active, "survival": survival, "radius2": radius2, "density": tuple(x / V for x in active)}


def summarize_spreading(archive):
    """(estimates by name, notes): lists over time steps, and size and duration of an avalanche (one replica each)."""
    n, s = archive.t, archive.spreading
    freedom = max(min(n, 64) - 1, 1)
    out = {}
    for name, (values, errors) in series(archive).items():
        count = s["alive"].sum(axis=1) if name == "radius2" else np.full(len(values), n)
        doubt = errors / math.sqrt(2 * (n - 1 if name == "survival" and n > 1 else freedom))
        rows = zip(values.tolist(), errors.tolist(), doubt.tolist(), count.tolist(), strict=True)
        out[name] = [Estimate(v, e, d, 0.5, 0.0, 0, k) for v, e, d, k in rows]
    for name in ("size", "duration"):
        x = s[name].astype(float)
        error = float(x.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
        out[name] = Estimate(float(x.mean()), error, error / math.sqrt(2 * max(n - 1, 1)), 0.5, 0.0, 0, n)
    return out, _notes(archive)


def _notes(archive):
    notes, s = [], archive.spreading
    if archive.t < 64:
        notes.append(f"{archive.t} replicas: fewer than 64 are too few for errors to be trusted")
    if s["start"] == "seed" and s["contact"] >= 0:
        notes.append(f"activity reached the edge of the lattice at step {s['contact']}: later steps feel its size")
    return notes


def exponents(archive, first=None, last=None):
    """Effective exponents between two time steps, the slope of log X over log t, errors by jackknife over groups.

    Parameters
    ----------
    archive : lft.archive.Archive
    first, last : int, optional
        1 <= first < last <= T - 1; default the last decade.

    Returns
    -------
    dict or None
        ``from``, ``to``, and ``{NAME: {"value", "error"}}`` with the names delta (-slope of survival; from a full
        lattice of density), theta (active), 2/z (radius2); a value is None where activity has died out.  None where
        there are fewer than 20 slices and no steps are given.
    """
    s, n = archive.spreading, archive.t
    T = len(s["active"])
    if last is None and first is None and T < MIN_STEPS:
        return None
    last = T - 1 if last is None else last
    first = max(1, last // 10) if first is None else first
    if not 1 <= first < last < T:
        raise InputError(f"steps {first} and {last}: valid are 1 <= first < last <= {T - 1}")
    sizes = group_sizes(n).astype(float)
    at = {name: s[name][[first, last]].astype(float) for name in ("active", "alive", "square")}
    pairs = {"delta": ("alive", sizes, -1), "theta": ("active", sizes, 1), "2/z": ("square", at["active"], 1)}
    if s["start"] == "full":
        pairs = {"delta": ("active", sizes, -1)}
    out = {"from": first, "to": last}
    for name, (above, below, sign) in pairs.items():
        out[name] = _slope(at[above], np.broadcast_to(below, (2, 64)), sign / math.log(last / first), sizes > 0)
    return out


def _slope(A, B, scale, used):
    """{"value", "error"} of scale times the difference of log(sum A/sum B) between the two rows."""

    def value(A, B):
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = np.log(A / B)
            return scale * (high - low)

    whole = float(value(A.sum(axis=1), B.sum(axis=1)))
    n = int(used.sum())
    left_out = value(A.sum(axis=1, keepdims=True) - A[:, used], B.sum(axis=1, keepdims=True) - B[:, used])
    with np.errstate(invalid="ignore"):
        error = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()) if n > 1 else math.nan
    return {"value": whole if math.isfinite(whole) else None, "error": error if math.isfinite(error) else None}


def table(archive, estimates, slopes):
    """Values at steps 0, 1, 2, 5, 10, ... and the effective exponents, as text."""
    T = archive.geometry.shape[-1]
    steps = sorted({0, T - 1, *(m * 10**k for k in range(len(str(T))) for m in (1, 2, 5) if m * 10**k < T)})
    text = lambda e: "-" if math.isnan(e.value) else format_with_error(e.value, e.error)  # noqa: E731
    lines = [f"{'step':>9} " + "".join(f"{name:>20}" for name in VECTORS)]
    lines += [f"{t:>9} " + "".join(f"{text(estimates[name][t]):>20}" for name in VECTORS) for t in steps]
    lines += [f"{name:10}{text(estimates[name])} per replica" for name in ("size", "duration")]
    if slopes is not None:
        shown = ", ".join(f"{k} = {format_with_error(v['value'], v['error'] or math.nan)}" for k, v in slopes.items()
                          if isinstance(v, dict) and v["value"] is not None)  # fmt: skip
        lines.append(f"effective exponents from step {slopes['from']} to {slopes['to']}: {shown or 'none'}")
    return "\n".join([*lines, f"n = {archive.t} replicas"])
