"""Trials, events and time-dependent inputs of ``lft fit``, for causal and Gibbs models alike.

================================  ==================================================================================
``--input TERM``                  ``events:N:START,STOP`` (N splines over a window around events), ``smooth:N`` (drift
                                  over the recording), ``trial:N`` (time within the trial), ``covariates:FILE``
                                  (.npy or .npz, bins x columns); may be repeated
``--events FILE``                 event times in seconds (text, one per line, or ``events_s`` of .npz); default
                                  ``events_s`` of the recording.  Both on the clock of the recording, of which
                                  ``--window`` is a part
``--trials START,STOP``           cut the recording into trials around the events; all events that reach into a trial
                                  count for ``--input events``
================================  ==================================================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from pathlib import Path

import numpy as np

from lft._kernels import recording as kernel
from lft.commands.recordings import window_of
from lft.errors import DataWarning, InputError
from lft.inference.causal.spikes import MAX_COUNT
from lft.inference.inputs import EventLocked, Given, InputDesign, Smooth
from lft.inference.raster import Raster
from lft.units import parse_quantity


# ---- rasters and trials
def cut(recording, bin_s, args, events, is_counts):
    """(list of rasters or count arrays, bin width, report, events of each trial in bins)."""
    if args.trials is None:
        if isinstance(recording, Raster):
            if is_counts:
                raise InputError("this recording is a raster of 0 and 1: counts need spike times")
            rasters, report = [recording.values], recording.report
        else:
            with _quiet(is_counts):
                raster = recording.bin(bin_s)
            rasters, report = [raster.values], raster.report
            if is_counts:
                rasters = [bin_counts(recording, bin_s, 0.0, raster.n_bins)]
                report = _together([report], rasters, True)
        width = report.bin_s
        origin = getattr(report, "start_s", 0.0)
        at = [] if events is None else np.floor((events - origin) / width + kernel.EDGE_TOLERANCE).astype(int)
        return rasters, width, report, [at]
    if isinstance(recording, Raster):
        raise InputError("--trials: only for recordings of spike times, this one is a raster")
    if events is None:
        raise InputError("--trials: needs event times: give --events FILE, or a recording with events_s")
    before, after = window("--trials", args.trials)
    if before > 0 or after <= 0:
        raise InputError(f'--trials {args.trials!r}: valid is START,STOP around the event, such as "-500 ms,1 s"')
    centers = _inside(events, before, after, recording, getattr(args, "window", None))
    with _quiet(is_counts):
        trials = recording.trials(centers, -before, after, bin_s)
    rasters = [t.values for t in trials]
    if is_counts:
        rasters = [bin_counts(recording, bin_s, e + before, t.n_bins) for e, t in zip(centers, trials, strict=True)]
    at = [np.floor((events - (e + before)) / bin_s + kernel.EDGE_TOLERANCE).astype(int) for e in centers]
    report = _together([t.report for t in trials], rasters, is_counts)
    return rasters, bin_s, report, at


def _inside(events, before, after, recording, window_text):
    """The events whose trials lie in the window, all without one; warnings for those left out, and for shared bins."""
    keep = np.ones(len(events), bool)
    if window_text is not None:
        keep = (events + before >= 0) & (events + after <= recording.duration_s)
    if not keep.any():
        raise InputError(f"--trials: none of {len(events)} events has its trial within --window {window_text}")
    if not keep.all():
        warnings.warn(f"{(~keep).sum()} of {len(events)} events have no complete trial within --window {window_text} "
                      "and are left out", DataWarning, stacklevel=2)  # fmt: skip
    kept = events[keep]
    shared = int((np.diff(kept) < (after - before) * (1 - 1e-9)).sum())
    if shared:
        warnings.warn(f"{shared} of {len(kept)} trials begin before the last one has ended: the bins that they share "
                      "are fitted twice, so errors are too small; shorter --trials, or none, avoid that", DataWarning,
                      stacklevel=2)  # fmt: skip
    return kept


@contextlib.contextmanager
def _quiet(is_counts):
    """Counts lose nothing to clipping, so there is nothing to warn of."""
    with warnings.catch_warnings():
        if is_counts:
            warnings.simplefilter("ignore", DataWarning)
        yield


def _together(reports, rasters, is_counts):
    """One report of several stretches: what all of them hold, what was clipped, and the rest as outside."""
    first, held = reports[0], sum(r.sum(axis=0, dtype=np.int64) for r in rasters)
    clipped = np.zeros_like(held) if is_counts else sum(r.clipped_of_unit for r in reports)
    outside = np.maximum(first.spikes_of_unit - held - clipped, 0)
    return dataclasses.replace(
        first, n_bins=sum(len(r) for r in rasters), clipped_of_unit=clipped, outside_of_unit=outside
    )


def bin_counts(recording, bin_s, start_s, n_bins):
    """int8 (n_bins, N) spikes per bin, with the edges of :meth:`lft.inference.recording.Recording.bin`, none clipped.

    Raises InputError where a bin holds more than 127.
    """
    out = np.zeros((n_bins, recording.n_units), np.int8)
    for i in range(recording.n_units):
        times = recording.spike_times[recording.spike_index[i] : recording.spike_index[i + 1]]
        at = np.floor((times - start_s) / bin_s + kernel.EDGE_TOLERANCE).astype(np.int64)
        counts = np.bincount(at[(at >= 0) & (at < n_bins)], minlength=n_bins)
        if counts.max(initial=0) > MAX_COUNT:
            raise InputError(
                f"{recording.source}: unit {i} fires {counts.max()} times in bin {counts.argmax()}; valid is at most "
                f"{MAX_COUNT}: take shorter bins"
            )
        out[:, i] = counts
    return out


# ---- events
def read_events(args, recording):
    """Event times in seconds from ``--events`` or the recording; None without.

    A window starts the clock anew: its start is taken off.
    """
    events = _events_of(args.recording) if args.events is None else _listed_events(args.events)
    if events is None or getattr(args, "window", None) is None:
        return events
    return events - window_of(args.window)[0]


def _listed_events(path):
    file = Path(path)
    if not file.is_file():
        raise InputError(f"--events {path}: no such file")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                values = arrays["events_s"]
        elif file.suffix == ".npy":
            values = np.load(file, allow_pickle=False)
        else:
            values = np.loadtxt(file, ndmin=1)
    except (KeyError, ValueError, OSError) as error:
        raise InputError(
            f"--events {path}: valid is text with one time (s) per line, or events_s in .npz ({error})"
        ) from None
    return _checked_events(values, f"--events {path}")


def _events_of(path):
    """``events_s`` (dataset or attribute) of a recording's file, if it has one."""
    values = None
    try:
        if str(path).endswith(".npz"):
            with np.load(path, allow_pickle=False) as arrays:
                values = arrays["events_s"] if "events_s" in arrays else None
        elif not str(path).endswith(".npy"):
            import h5py

            with h5py.File(path, "r") as file:
                values = file["events_s"][()] if "events_s" in file else file.attrs.get("events_s")
    except (OSError, ValueError):
        return None  # what cannot be read has been complained about already
    return None if values is None else _checked_events(values, f"{path}: events_s")


def _checked_events(values, where):
    values = np.asarray(values, float)
    if values.ndim == 1 and not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"{where}: event {bad} is at {values[bad]}; valid are finite times in seconds")
    if values.ndim != 1 or not len(values):
        raise InputError(f"{where}: shape {values.shape}; valid is a list of at least one finite time in seconds")
    return np.sort(values)


# ---- inputs
def make_inputs(args, events, lengths, bin_s):
    """The :class:`InputDesign` of all ``--input`` terms, or None."""
    terms = [_term(text, number, args, events, lengths, bin_s) for number, text in enumerate(args.input or [])]
    return InputDesign(terms) if terms else None


def _term(text, number, args, events, lengths, bin_s):
    name, _, rest = text.partition(":")
    if name in ("smooth", "trial"):
        return Smooth(_count(text, rest), name == "trial", name if number == 0 else f"{name}{number}")
    if name == "covariates":
        return Given(tuple(_covariates(rest, lengths)), f"covariate{number}" if number else "covariate")
    if name == "events":
        if not any(len(e) for e in events):
            raise InputError(f"--input {text!r}: needs event times: give --events FILE, or a recording with events_s")
        count, _, span = rest.partition(":")
        start, stop = window("--input", span)
        low, high = _signed_bins(start, bin_s), _signed_bins(stop, bin_s)
        return EventLocked(tuple(events), low, high, _count(text, count), f"event{number}" if number else "event")
    raise InputError(
        f"--input {text!r}: valid are events:N:START,STOP, smooth:N, trial:N, covariates:FILE, such as "
        '"events:8:-200 ms,500 ms"'
    )


def _count(text, value):
    try:
        return int(value)
    except ValueError:
        raise InputError(f"--input {text!r}: {value!r} is no number of functions; valid is an integer >= 1") from None


def _covariates(path, lengths):
    file = Path(path)
    if not file.is_file():
        raise InputError(f"--input covariates:{path}: no such file")
    try:
        loaded = np.load(file, allow_pickle=False)
        whole = loaded if isinstance(loaded, np.ndarray) else loaded["covariates"]
        whole = np.asarray(whole, float)
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"--input covariates:{path}: valid is a .npy array, or covariates in .npz ({error})") from None
    if whole.ndim not in (1, 2) or len(whole) != sum(lengths):
        raise InputError(f"--input covariates:{path}: shape {whole.shape}; valid is {sum(lengths)} bins x columns")
    return np.split(whole, np.cumsum(lengths)[:-1])


def window(option, text):
    """(start, stop) in seconds of ``-200 ms,500 ms``."""
    parts = text.split(",")
    if len(parts) != 2:
        raise InputError(f'{option} {text!r}: valid is START,STOP, such as "-200 ms,500 ms"')
    out = []
    for part in map(str.strip, parts):
        sign = -1.0 if part.startswith("-") else 1.0
        bare = part.lstrip("+-").strip()
        is_zero = bare.split(" ")[0].rstrip("mus") in ("0", "0.0")
        out.append(0.0 if is_zero else sign * parse_quantity(bare, "time", option).si)
    return out[0], out[1]


def _signed_bins(seconds, bin_s):
    return round(math.floor(seconds / bin_s + 1e-6))
