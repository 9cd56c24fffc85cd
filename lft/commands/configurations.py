"""Where many configurations of a theory come from: an archive that saved them, or a chain that runs meanwhile.

And what the options mean that all flow methods on configurations share: factor, blocking, operators.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from lft.archive import SCHEMA as ARCHIVE_SCHEMA
from lft.archive import Archive
from lft.chain import Schedule
from lft.config import read_config
from lft.errors import InputError
from lft.geometry import Lattice
from lft.rg.blocking import BLOCKINGS
from lft.rg.monte_carlo.cascade import batch_size, sampled
from lft.rg.monte_carlo.operators import equivalent_axes, operator_set, parse_operator

MIN_CONFIGURATIONS = 20


@dataclass(frozen=True)
class Configurations:
    """A stream of configurations of one action on one lattice.

    Attributes
    ----------
    name : str
        The file, for messages.
    lattice : Lattice
    action, updater : as in a chain; updater is None for an archive
    kind : str
    n : int
        How many.
    batches : callable
        ``batches()`` iterates over int8 arrays (n, *storage shape); each call starts anew.
    seed : int
    config : RunConfig or None
    notes : list of str
    """

    name: str
    lattice: Lattice
    action: object
    kind: str
    n: int
    batches: object
    seed: int
    config: object
    notes: list


def is_archive(path):
    """Whether a file is an archive of this package."""
    try:
        with open(path, "rb") as file:
            if file.read(8) != b"\x89HDF\r\n\x1a\n":
                return False
    except OSError:
        return False  # the reader of recordings says what is wrong
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("schema") == ARCHIVE_SCHEMA
    except (OSError, KeyError, RuntimeError):
        return False


def is_config(path):
    """Whether a source is a configuration to be simulated: by the ending of its name."""
    return str(path).endswith(".toml")


def open_configurations(source, method):
    """The configurations of an archive or of a TOML file that is simulated on the fly.

    Of a TOML file ``[run] updates`` are made, and every ``save_every``-th (0: every ``measure_every``-th) is used.

    Raises
    ------
    InputError
        Neither of them, a graph, a field that is not of spins, fewer than 20 configurations.
    """
    if is_config(source):
        found = _of_config(source)
    elif is_archive(source):
        found = _of_archive(source)
    else:
        raise InputError(f"{source}: --method {method} takes an archive with saved configurations (save_every), or a "
                         "run configuration .toml")
    if not isinstance(found.lattice, Lattice):
        raise InputError(f"{source}: a graph has no blocks in space; valid is a lattice")
    if found.kind != "spin":
        raise InputError(f"{source}: action {found.action.name!r} has a {found.kind} field; --method {method} takes "
                         "spin fields")
    if found.n < MIN_CONFIGURATIONS:
        raise InputError(f"{source}: {found.n} configurations; --method {method} needs at least {MIN_CONFIGURATIONS}"
                         f"{' (save_every in [run])' if found.config is None else ''}")
    return found


def _of_archive(path):
    with Archive(path) as archive:
        geometry, action, kind, n = archive.geometry, archive.action, archive.kind, archive.n_configurations
        seed = int(archive.config["seed"])

    def batches():
        with Archive(path) as archive:
            size = batch_size(geometry)
            for a in range(0, n, size):
                rows = [geometry.to_storage(archive.configuration(k)) for k in range(a, min(a + size, n))]
                yield np.stack(rows).astype(np.int8)

    return Configurations(str(path), geometry, action, kind, n, batches, seed, None, [])


def _of_config(path):
    return simulated(read_config(path), str(path))


def simulated(config, name, lattice=None, action=None, replica=0):
    """The configurations of a run configuration, on another lattice or with another action if asked."""
    lattice = config.geometry if lattice is None else lattice
    action = config.action if action is None else action
    if config.ladder is not None or config.anneal is not None:
        raise InputError(f"{name}: [tempering] and [anneal] make no plain chain; leave them out")
    schedule: Schedule = config.schedule
    every = schedule.save_every or schedule.measure_every
    n = schedule.updates // every
    key = replace(config.key, replica=replica)

    def batches():
        return sampled(action, lattice, config.updater, key, n, every, schedule.thermalize, config.start,
                       config.kernel)

    return Configurations(name, lattice, action, action.kind, n, batches, config.key.seed, config, [])


# ---- options of lft flow
def parse_factor(text):
    """``--factor``: one integer, or a list of one per axis."""
    try:
        parts = [int(p) for p in text.split(",")]
    except ValueError:
        parts = [0]
    if min(parts) < 1 or max(parts) == 1:
        valid = "an integer >= 2, or integers >= 1 per axis such as 2,2,1"
        raise InputError(f"--factor {text!r}: valid is {valid}")
    return parts[0] if len(parts) == 1 else parts


def checked_blocking(args, least=1):
    """The rule of ``--blocking`` (default majority), one that makes spins."""
    if args.levels < least:
        raise InputError(f"--levels {args.levels}: --method {args.method} takes an integer >= {least}")
    blocking = args.blocking or "majority"
    if blocking not in BLOCKINGS or blocking == "average":
        valid = ", ".join(b for b in BLOCKINGS if b != "average")
        raise InputError(f"--blocking {blocking!r}: --method {args.method} takes {valid}")
    if blocking == "k-of-n" and (args.k is None or args.k < 1):
        raise InputError(f"{'--k is missing' if args.k is None else f'--k {args.k}'}: k-of-n takes an integer >= 1")
    if blocking != "k-of-n" and args.k is not None:
        raise InputError(f"--k {args.k}: only with --blocking k-of-n, this one is {blocking}")
    return blocking


def axis_groups(args, source):
    """Axes that lattice, action and ``--factor`` leave equivalent."""
    factor, n = parse_factor(args.factor), len(source.lattice.shape)
    if np.ndim(factor) and len(factor) != n:
        raise InputError(f"--factor {args.factor}: the lattice has {n} axes ({', '.join(source.lattice.axes)})")
    return equivalent_axes(source.lattice, source.action, factor)


def operators_of(args, source):
    """The operators of ``--operators``: numbers EVEN,ODD, or names parted by blanks; returns (operators, notes)."""
    lattice, text = source.lattice, (args.operators or "7,4").strip()
    groups, n_axes = axis_groups(args, source), len(lattice.shape)
    notes = []
    if n_axes > 1 and groups != [tuple(range(n_axes))]:
        shown = ["=".join(lattice.axes[a] for a in g) for g in groups] or ["none"]
        notes.append(f"axes that symmetry makes equal: {', '.join(shown)}")
    if re.fullmatch(r"\d+,\d+", text):
        even, odd = (int(p) for p in text.split(","))
        if not even + odd:
            raise InputError("--operators 0,0: valid is at least one operator")
        return operator_set(n_axes, even, odd, groups), notes
    if re.fullmatch(r"[\d,]*", text):
        raise InputError(f"--operators {text!r}: valid is EVEN,ODD such as 7,4, or names such as "
                         f"'h K[1{',0' * (n_axes - 1)}]', parted by blanks")
    found = [parse_operator(p, n_axes, groups) for p in text.split()]
    return sorted(found, key=lambda o: not o.is_even), notes
