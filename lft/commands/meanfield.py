"""``lft meanfield``: self-consistent means and covariances of a model file, beside another, or matched to one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np

from lft.archive import check_output, on_root
from lft.errors import InputError, LftError
from lft.meanfield.neurons.beside import raised
from lft.meanfield.neurons.registry import module_files
from lft.meanfield.reading import build_tree, read_model
from lft.meanfield.result import save_solution
from lft.meanfield.solver import solve


def solve_file(args, comm):
    """Solve and write what the command line asks for; returns (Solution, notes, extra).

    ``extra`` holds texts and JSON of ``--compare`` and ``--match``.
    """
    _check_options(args)
    model = read_model(args.config)
    try:
        return _solve_model(args, model, comm)
    except (LftError, MemoryError):
        raise
    except Exception as error:
        own = {p.name: module_files(p.neuron) for p in model.populations}
        found = raised(error, [file for files in own.values() for file in files])
        if found is None:
            raise
        names = [f", [population.{name}]" for name, files in own.items() if found[0] in files]
        raise InputError(f"{args.config}{''.join(names)}: the neuron raised {found[1]}") from error


def _solve_model(args, model, comm):
    on_root(comm, check_output, args.output, args.overwrite)
    if args.match:
        return _match(args, model, comm)
    if args.compare:
        return _compare(args, model, comm)
    solution = solve(model, comm)
    on_root(comm, _write, solution, args)
    return solution, solution.notes, {}


def _check_options(args):
    if args.match and args.compare:
        raise InputError("--match and --compare: give one of them (a match is compared with its target anyhow)")
    if bool(args.match) != bool(args.free):
        raise InputError("--match TARGET needs --free KEY,KEY, and --free needs --match: such as --free "
                         "population.x.noise,connection.1.std")
    if args.statistics and not args.match:
        raise InputError("--statistics: valid with --match alone")
    if args.bin and not (args.match or args.compare):
        raise InputError("--bin: valid with --match and --compare alone")


def _write(solution, args):
    save_solution(solution, args.output, args.overwrite)
    if args.plot:
        from lft.plotting.meanfields import plot_solution

        plot_solution(solution, args.plot)


def _window(args):
    from lft.units import parse_quantity

    return 0.0 if args.bin is None else parse_quantity(args.bin, "time", "--bin").si


def _compare(args, model, comm):
    from lft.meanfield.matching.portrait import portrait

    other = read_model(args.compare)
    one, two = portrait(model, comm, _window(args)), portrait(other, comm, _window(args))
    both = _beside(one, two, args)
    on_root(comm, _write_models, one.solution, both, args)
    return one.solution, [*one.notes, *(f"{args.compare}: {n}" for n in two.notes)], {"comparison": both}


def _beside(one, two, args, target=None):
    from lft.meanfield.matching.sidebyside import compare_models

    return compare_models(one, two, (Path(args.config).stem, Path(target or args.compare).stem))


def _write_models(solution, both, args):
    save_solution(solution, args.output, args.overwrite)
    if args.plot:
        from lft.plotting.models import plot_models

        plot_models(both, args.plot)


def _match(args, model, comm):
    from lft.meanfield.matching.keys import check_keys, substitute
    from lft.meanfield.matching.match import match
    from lft.meanfield.matching.portrait import portrait

    start = check_keys([k.strip() for k in args.free.split(",") if k.strip()], model.resolved)
    target, notes = _target(args, model, comm)
    window = target.window
    tree, path = tomllib.loads(model.text), Path(args.config)

    def describe(values):
        moved = substitute(tree, {k: v for k, v in values.items() if v != start[k]})
        return portrait(build_tree(moved, path.name, path.parent, model.text), comm, window)

    statistics = [s.strip() for s in args.statistics.split(",")] if args.statistics else None
    first = solve(model, comm)
    found = match(describe, start, target, statistics, is_exact=first.method == "closed")
    both = _beside(found.portrait, target, args, args.match)
    on_root(comm, _write_models, found.portrait.solution, both, args)
    return found.portrait.solution, [*found.portrait.notes, *notes], {"match": found, "comparison": both}


def _target(args, model, comm):
    """(Portrait, notes) of what ``--match`` names: a model file or a recording."""
    from lft.meanfield.matching.portrait import portrait

    if Path(args.match).suffix == ".toml":
        target = portrait(read_model(args.match), comm, _window(args))
        return target, [f"{args.match}: {n}" for n in target.notes]
    return _recording(args, model)


def _recording(args, model):
    from lft.commands.recordings import describe as what_binning_did
    from lft.commands.recordings import open_recording
    from lft.inference.raster import Raster
    from lft.meanfield.matching.recorded import recorded

    if len(model.populations) != 1:
        raise InputError(f"--match {args.match}: a recording is one population, the model has {len(model.populations)}")
    recording, bin_s = open_recording(args.match, args.bin)
    is_rate = bool(getattr(model.populations[0].neuron, "is_point_process", False))
    if isinstance(recording, Raster):
        raster = recording
    elif is_rate:
        seen = recorded(_counts(recording, bin_s), bin_s, True)
        return seen, list(seen.notes)
    else:
        raster = recording.bin(bin_s)
    seen = recorded(raster.values, raster.bin_s, is_rate)
    return seen, [*seen.notes, *what_binning_did(raster.report)]


def _counts(recording, bin_s):
    """All spikes of each unit in each whole bin, (T, N)."""
    n_bins = int(recording.duration_s / bin_s * (1 + 1e-9))
    out = np.zeros((n_bins, recording.n_units))
    for u in range(recording.n_units):
        times = recording.spike_times[recording.spike_index[u] : recording.spike_index[u + 1]]
        at = np.floor(times / bin_s * (1 + 1e-12)).astype(int)
        out[:, u] = np.bincount(at[at < n_bins], minlength=n_bins)
    return out
