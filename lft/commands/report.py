"""What the commands say about archives and machines."""

from __future__ import annotations

import math
import platform
import sys

from lft import threads
from lft.analysis.estimate import Estimate
from lft.analysis.source import as_source
from lft.analysis.spreading import exponents, summarize_spreading, table
from lft.analysis.summary import as_json, physical_lengths, summarize
from lft.analysis.tempered import format_slots, plain, summarize_slots, travel
from lft.archive import Archive, field_sha256, on_root
from lft.commands.correlators import correlate, measured_correlators, recording_source, save_matrices
from lft.errors import InputError

HDF5 = b"\x89HDF\r\n\x1a\n"


def status(path):
    """Progress, rate and acceptance of an archive, as ``lft status --json`` writes them."""
    with Archive(path) as archive:
        counters, planned = archive.counters, archive.schedule.total
        proposed = counters.proposed_total
        steps = archive.update.get("steps", 1) if archive.update["name"] == "hmc" else 1
        slots = 1 if archive.tempering is None else len(archive.tempering["inverse_temperatures"])
        work = archive.geometry.n_active * archive.t * steps * slots
        work = proposed if archive.spreading is not None else work  # of the lattice only what activity reached
        return {
            "updates": archive.t,
            "planned": planned,
            "missing": planned - archive.t,
            "site_updates_per_ns": work / counters.seconds / 1e9 if counters.seconds else None,
            "acceptance": counters.accepted_total / proposed if proposed else None,
            "kernel": archive.kernel,
            "ranks": archive.ranks,
            "threads": archive.threads,
            "seconds": counters.seconds,
            "measurements": archive.n_samples,
            "configurations": archive.n_configurations,
            "bytes": archive.path.stat().st_size,
            **({} if archive.tempering is None else _progress_of(archive.tempering)),
        }


def _progress_of(tempering):
    return {"temperatures": len(tempering["inverse_temperatures"]), "round_trips": int(tempering["trips"].sum())}


def analyze(path):
    """(data for ``lft analyze --json``, estimates, notes) of an archive."""
    with Archive(path) as archive:
        is_tempered = archive.tempering is not None
        how = summarize_slots if is_tempered else summarize if archive.spreading is None else summarize_spreading
        estimates, notes = how(archive)
        array = archive.last()
        axes = list(archive.config["lattice"].get("axes") or [])
        if axes and axes[-1] == "t" and archive.geometry.axes[0] == "t" and len(axes) == array.ndim == 2:
            array = array.T  # a graph is kept (t, unit), the configuration file may say (unit, t)
        data = {
            "observables": as_json(estimates),
            "physical": physical_lengths(archive, at_target(archive, estimates)),
            "field_sha256": field_sha256(archive.kind, array),
            "series_sha256": archive.series_sha256(),
            "config": archive.config,
            "warnings": notes,
        }
        if archive.spreading is not None:
            data["effective_exponents"] = exponents(archive)
        if is_tempered:
            data["tempering"], more = travel(archive)
            notes.extend(more)
        return data, estimates, notes


def analyze_source(args, comm=None):
    """(data for ``lft analyze --json``, words, notes, estimates, Correlations or None) of an archive or a recording.

    Collective: the correlators of configurations are shared out among the ranks, the rest is done by rank 0.
    """
    if not is_recording(args.archive):
        for name in ("bin", "pitch", "window", "units"):
            if getattr(args, name) is not None:
                raise InputError(f"--{name}: only for recordings, {args.archive} is none")
        data, estimates, notes = on_root(comm, analyze, args.archive)
        words = on_root(comm, format_estimates, data, estimates, args.archive)
        if not (args.correlators or args.matrices or args.points):
            return data, words, notes, estimates, None
        with Archive(args.archive) as archive:
            measured = on_root(comm, lambda: measured_correlators(plain(archive)))
            if not archive.n_configurations and (args.matrices or args.points):
                raise InputError(f"{args.archive}: holds no saved configurations; --matrices and --points need some "
                                 "([run] save_every > 0)")
            source = as_source(archive) if archive.n_configurations else None
            if source is None:
                notes = [*notes, f"{args.archive}: holds no saved configurations ([run] save_every = 0): only "
                                 "correlators that the run has measured"]
            result = correlate(source, args, comm, measured)
            save_matrices(args.matrices, result, args, comm)
    else:
        if args.bin is None and _first_bytes(args.archive) == HDF5:
            raise InputError(f"{args.archive}: not an archive of lft run (no schema 'lft-archive') but a recording of "
                             'spike times: give the width of its bins, such as --bin "20 ms"')
        source, notes, report = recording_source(args)
        result, words, estimates = correlate(source, args, comm), "", {}
        save_matrices(args.matrices, result, args, comm)
        data = {"observables": as_json(result.observables), "recording": report.as_dict()}
    notes = [*notes, *result.notes]
    data |= {"correlators": result.as_json(), "warnings": notes}
    return data, "\n".join(filter(None, [words, result.table()])), notes, estimates, result


def _first_bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read(8)
    except OSError:
        return b""  # the archive's reader says what is wrong


def is_recording(path):
    """Whether a file holds spikes: NumPy's formats, or HDF5 that is none of this program's and has spike times."""
    head = _first_bytes(path)
    if head.startswith((b"PK\x03\x04", b"\x93NUMPY")):
        return True
    if head != HDF5:
        return False
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "schema" not in file.attrs and ("spike_times" in file or "units" in file)
    except (OSError, KeyError, RuntimeError):
        return False


def at_target(archive, estimates):
    """The estimates of the temperature whose configurations the archive holds (of the only one)."""
    if archive.tempering is None:
        return estimates
    return {name: values[archive.tempering["target"]] for name, values in estimates.items()}


def format_estimates(data, estimates, path=None):
    """A table of the estimates: vectors are shown by their first components."""
    if "tempering" in data:
        with Archive(path) as archive:
            return format_slots(archive, data, estimates)
    if "effective_exponents" in data:
        with Archive(path) as archive:
            return table(archive, estimates, data["effective_exponents"])
    rows = []
    for name, value in estimates.items():
        if isinstance(value, Estimate):
            physical = data["physical"].get(name)
            extra = ""
            if physical and physical["value"] is not None:
                extra = f"  = {physical['value']:.4g} +- {physical['error'] or math.nan:.2g} {physical['unit']}"
            rows.append(f"{name:24} {value}{extra}")
        else:
            shown = "  ".join(f"{v.value:.4g}" for v in value[:6])
            rows.append(f"{name:24} [{len(value)}] {shown}{' ...' if len(value) > 6 else ''}")
    return "\n".join(rows)


def info():
    """Versions, MPI library and instruction sets, as ``lft info --json`` writes them."""
    from importlib.metadata import version

    import h5py

    from lft import __version__, implementations
    from lft._kernels import noise
    from lft.causal import ACTIONS
    from lft.updaters import UPDATERS

    return {
        "lft": __version__,
        "python": sys.version.split()[0],
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "h5py": version("h5py"),
        "hdf5": h5py.version.hdf5_version,
        "matplotlib": version("matplotlib"),
        "mpi": mpi_library(),
        "machine": f"{platform.system()} {platform.machine()}",
        "instruction_set": noise.instruction_set(),
        "threads": threads.count(),
        "kernels": {
            name: {
                "kernels": implementations.names(name),
                "updates": (
                    ["draw"]
                    if getattr(action, "is_drawn", False)
                    else [u for u, c in UPDATERS.items() if action.kind in c.kinds]
                ),
            }
            for name, action in ACTIONS.items()
        },
    }


def mpi_library():
    """Name of the MPI library that mpi4py loads, or why there is none."""
    from lft.domain import library_name

    return library_name()
