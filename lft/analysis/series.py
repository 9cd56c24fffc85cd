"""Reading a series of measurements: checks, replicas, centering."""

import numpy as np

from lft.errors import InputError

MIN_MEASUREMENTS = 4          # below this neither a variance nor a first autocorrelation means anything


def check_replicas(series, name):
    """Return a series as a list of float64 arrays of shape (n_r, k), or say what is wrong with it."""
    is_list = isinstance(series, (list, tuple)) and len(series) > 0 and np.ndim(series[0]) > 0
    parts = series if is_list else [series]
    labels = [f"{name}, replica {r}" if is_list else name for r in range(len(parts))]
    replicas = [check_array(part, label) for part, label in zip(parts, labels, strict=True)]
    widths = {r.shape[1] for r in replicas}
    if len(widths) > 1:
        raise InputError(f"{name}: the replicas have {sorted(widths)} columns; all need the same number")
    return replicas


def check_array(part, label):
    """Return one series as float64 of shape (n, k), or say what is wrong with it."""
    try:
        data = np.asarray(part)
        if data.dtype.kind not in "biuf":
            raise TypeError
        data = data.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{label}: expected an array of real numbers, got {type(part).__name__} that numpy "
                         "does not read as one; split complex data into real and imaginary columns") from None
    if data.ndim not in (1, 2) or data.shape[1:] == (0,):
        raise InputError(f"{label} has shape {data.shape}: give (n,) or (n, k), measurements first; "
                         "reshape further axes into k, and pass replicas as a list")
    if len(data) < MIN_MEASUREMENTS:
        raise InputError(f"{label} has {len(data)} measurements; at least {MIN_MEASUREMENTS} are needed")
    if not np.isfinite(data).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(data))[0])
        raise InputError(f"{label} is not finite: element [{', '.join(map(str, index))}] is {data[index]}")
    return data.reshape(len(data), -1)


MAX_SPAN = 2**27
"""Longest chain, from the first to the last place of a gappy series, in units of their common stride."""


def check_index(index, replicas, name):
    """Return the places of the measurements, one integer array per replica, or say what is wrong with them."""
    is_list = isinstance(index, (list, tuple)) and len(index) > 0 and np.ndim(index[0]) > 0
    parts = index if is_list else [index]
    if len(parts) != len(replicas):
        raise InputError(f"{name}: index has {len(parts)} parts for {len(replicas)} replicas; give one per replica")
    out = []
    for r, (part, replica) in enumerate(zip(parts, replicas, strict=True)):
        label = f"{name}: index of replica {r}" if is_list else f"{name}: index"
        places = np.asarray(part)
        if places.dtype.kind not in "iu" or places.shape != (len(replica),):
            raise InputError(f"{label} has shape {places.shape} and type {places.dtype}; it must hold one integer per "
                             f"measurement, {len(replica)}")
        places = places.astype(np.int64)
        steps = np.diff(places)
        if (steps <= 0).any():
            k = int(np.argmax(steps <= 0))
            raise InputError(f"{label}: element {k + 1} is {places[k + 1]} after {places[k]}; the places must increase "
                             "strictly (drop repeated measurements, sort the others)")
        if (places[-1] - places[0]) // max(1, int(np.gcd.reduce(steps))) > MAX_SPAN:
            raise InputError(f"{label} spans {places[-1] - places[0]} places; valid are at most {MAX_SPAN} of their "
                             "common stride: count in measurements, not in updates")
        out.append(places)
    return out


def center(replicas):
    """Overall means (k,) and the replicas with them subtracted."""
    n = sum(len(r) for r in replicas)
    origin = replicas[0][0]            # a shift by one measurement keeps the digits when mean >> fluctuation
    shift = sum((r - origin).sum(axis=0) for r in replicas) / n
    return origin + shift, [r - origin - shift for r in replicas]


def largest(replicas):
    """Largest absolute value of each column, (k,)."""
    return np.max([abs(r).max(axis=0) for r in replicas], axis=0)
