"""``lft fit --model kinetic | glm | gaussian``: causal models, inputs, trials, and the Gaussian field.

The methods ``pseudo`` (default) and ``exact`` are one here: given the past, units are independent, so that the
pseudo-likelihood is the likelihood, and that of a Gaussian field is known in closed form.

================================  ==================================================================================
``--lags N``                      longest lag in bins, one weight per lag (default 1; gaussian: 0)
``--basis NAME:N:DURATION``       glm: N functions up to that lag instead: raised-cosine, bspline, exponential
``--own-basis NAME:N:DURATION``   glm: of the own history; ``none`` leaves it out (kinetic too)
``--family``, ``--link``          glm: bernoulli (default) or poisson; logit (default) or cloglog
``--refractory DURATION``         glm: no spike within this time of a unit's last one
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
from lft.archive import on_root
from lft.commands.recordings import window_of
from lft.errors import DataWarning, InputError
from lft.inference.causal.basis import make_basis
from lft.inference.causal.fit import fit_glm, fit_kinetic
from lft.inference.causal.gaussian import fit_gaussian
from lft.inference.causal.inputs import EventLocked, Given, InputDesign, Smooth
from lft.inference.causal.spikes import MAX_COUNT
from lft.inference.raster import Raster
from lft.units import parse_quantity


def fit_causal_model(recording, bin_s, args, comm=None):
    """``kinetic`` and ``glm``; ranks share the targets."""
    held = []
    packed, inputs, bin_s, unit = on_root(comm, _prepared, recording, bin_s, args, held)
    report = held.pop() if held else None
    options = {
        "inputs": inputs, "test": args.test, "ridge": args.ridge, "bin_s": bin_s, "unit": unit, "comm": comm,
        "penalize": getattr(args, "penalize", None), "examine": getattr(args, "examine", None),
    }  # fmt: skip
    rasters = [_unpacked(*part) for part in packed]
    lags = _positive("--lags", 1 if args.lags is None else args.lags)
    if args.model == "kinetic":
        fit = fit_kinetic(rasters, n_lags=lags, own=args.own_basis is None, **options)
    else:
        basis = make_basis("identity", lags, lags) if args.basis is None else parse_basis("--basis", args.basis, bin_s)
        own = "same"
        if args.own_basis is not None:
            own = None if args.own_basis == "none" else parse_basis("--own-basis", args.own_basis, bin_s)
        refractory = 0 if args.refractory is None else bins_of("--refractory", args.refractory, bin_s)
        family = args.family or "bernoulli"
        more = {"family": family, "link": args.link, "basis": basis, "own_basis": own, "refractory": refractory}
        fit = fit_glm(rasters, **more, **options)
    fit.method = args.method
    return fit, report


fit_causal_model.is_parallel = True


def _prepared(recording, bin_s, args, held):
    """What every rank needs (packed rasters, inputs, bin width, units); the report goes to ``held`` of rank 0."""
    if args.model == "kinetic":
        if args.own_basis not in (None, "none"):
            raise InputError(f"--own-basis {args.own_basis!r}: valid for --model kinetic is none")
    if args.basis is not None and args.lags is not None:
        raise InputError("--lags: not together with --basis, which has its own duration")
    events = read_events(args, recording)
    is_counts = args.family == "poisson"
    rasters, bin_s, report, trial_events = cut(recording, bin_s, args, events, is_counts)
    held.append(report)
    packed = [(r if is_counts else np.packbits(r), r.shape) for r in rasters]
    return packed, make_inputs(args, trial_events, [len(r) for r in rasters], bin_s), bin_s, report.unit


def _unpacked(values, shape):
    if values.ndim == 2:
        return values
    return np.unpackbits(values, count=shape[0] * shape[1]).reshape(shape).view(np.int8)


def fit_gaussian_model(recording, bin_s, args):
    """``gaussian``: counts per bin, each unit minus its mean and over its standard deviation."""
    events = read_events(args, recording)
    rasters, bin_s, report, _ = cut(recording, bin_s, args, events, True)
    fit = fit_gaussian(rasters, n_lags=args.lags or 0, standardize=True, test=args.test, ridge=args.ridge, bin_s=bin_s,
                       unit=report.unit)  # fmt: skip
    fit.method = args.method
    return fit, report


def _positive(name, value):
    if value < 1:
        raise InputError(f"{name} {value}: valid is an integer >= 1")
    return value


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
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(f"{where}: shape {values.shape}; valid is a list of at least one finite time in seconds")
    return np.sort(values)


# ---- inputs and bases
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


def bins_of(option, text, bin_s):
    """A duration in bins, which it must fill."""
    seconds = parse_quantity(text, "time", option).si
    n = round(seconds / bin_s)
    if n < 1 or abs(n * bin_s - seconds) > 1e-6 * seconds:
        raise InputError(f"{option} {text!r}: valid is a multiple of the bin width, {bin_s:g} s")
    return n


def parse_basis(option, text, bin_s):
    """A basis from ``NAME:N:DURATION``."""
    parts = text.split(":")
    if len(parts) != 3 or not parts[1].isdecimal():
        raise InputError(f'{option} {text!r}: valid is NAME:N:DURATION, such as "raised-cosine:5:100 ms"')
    return make_basis(parts[0], int(parts[1]), bins_of(option, parts[2], bin_s))
