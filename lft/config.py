"""The run configuration: TOML text to checked values to the objects of a run.

One file describes a run completely.  A key that is unknown, missing, of the wrong type or out of range is an error
that names the key, the value and what is valid; every default is written out in :attr:`RunConfig.resolved`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from lft.action_sections import DRAWN, FIT_MODELS, PERCOLATION, geometry_and_action, stored_fit
from lft.causal import ACTIONS, Draw
from lft.chain import Schedule
from lft.clusters import SignFlips
from lft.errors import InputError
from lft.implementations import AUTO, KERNELS
from lft.integrators import SCHEMES
from lft.percolation import STARTS as PERCOLATION_STARTS
from lft.replica_sections import MAX_UPDATES, cooling_section, ladder_section
from lft.rng import Key
from lft.sections import Section
from lft.sections import choice as _choice
from lft.sections import integer as _integer
from lft.sections import number as _number
from lft.sections import text as _text
from lft.units import parse_quantity
from lft.updaters import HMC, STARTS, UPDATERS, HeatBath, Metropolis, Overrelax, Sequence, SwendsenWang, Wolff

SECTIONS = ("lattice", "action", "update", "run")
OPTIONAL = ("tempering", "anneal")  # sections that only some runs have
UPDATE_KEYS = {
    "metropolis": ("width",),
    "heatbath": (),
    "hmc": ("steps", "length", "integrator", "overrelax", "clusters"),
    "wolff": ("clusters",),
    "swendsen-wang": (),
}


@dataclass(frozen=True)
class RunConfig:
    """A checked configuration and the objects it describes."""

    geometry: object
    action: object
    updater: object
    key: Key
    schedule: Schedule
    start: str
    checkpoint_s: float
    kernel: str
    text: str
    resolved: dict
    ladder: object = None  # lft.tempering.Ladder, if [tempering] is given
    anneal: object = None  # lft.annealing.Cooling, if [anneal] is given


def read_config(path, settings=()):
    """Read and check a run configuration.

    Parameters
    ----------
    path : path
        A TOML file, or an HDF5 file written by ``lft fit`` (simulated as it is, with default settings).
    settings : sequence of str
        ``key.path=value`` overrides, values in TOML syntax (a bare word counts as text).

    Returns
    -------
    RunConfig

    Raises
    ------
    InputError
        One line that names file, section, key, value and what is valid.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}; valid is a TOML file")
    try:
        raw = path.read_bytes()
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read") from error
    if raw[:8] == b"\x89HDF\r\n\x1a\n":
        text = _fit_as_text(path)
    else:
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a text file (byte {error.start}); valid is TOML in UTF-8") from None
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    for setting in settings:
        _apply(tree, setting)
    return build(tree, text, path.name, path.parent)


def _fit_as_text(path):
    model = stored_fit(path, str(path)).model
    name = next((action for action, models in FIT_MODELS.items() if model in models), None)
    if name is None:
        valid = ", ".join(dict.fromkeys(model for models in FIT_MODELS.values() for model in models))
        raise InputError(f"{path}: a fit of model {model!r} cannot be simulated; valid are {valid}")
    action = f'[action]\nname = "{name}"\ncouplings = "{path.name}"\n'
    if name in DRAWN:
        return f"seed = 1\n\n{action}\n[run]\nreplicas = 100\n"
    return f'seed = 1\n\n{action}\n[update]\nname = "heatbath"\n\n[run]\nstart = "silent"\n'


def _apply(tree, setting):
    key, sign, value = setting.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts):
        raise InputError(f"--set {setting!r}: valid is key.path=value, such as run.updates=5000")
    try:
        parsed = tomllib.loads(f"v = {value.strip()}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise InputError(f"--set {setting!r}: {part} is a value, not a section")
    tree[parts[-1]] = parsed


def build(tree, text, source, folder):
    """A :class:`RunConfig` from a parsed tree."""
    top = Section(source, "", tree)
    seed = top.get("seed", _integer(0, 2**64 - 1), "an integer from 0 to 2^64 - 1", 0)
    for name in SECTIONS:
        top.get(name, lambda value: value, "a table", {})
    for name in OPTIONAL:
        top.get(name, lambda value: value, "a table", None)
    top.done()
    sections = {name: Section(source, name, tree[name]) for name in (*SECTIONS, *OPTIONAL) if name in tree}
    sections = {name: Section(source, name, {}) for name in SECTIONS} | sections
    if "action" not in tree:
        raise InputError(f"{source}, [action] is missing: give name = one of {', '.join(ACTIONS)}")
    geometry, action = geometry_and_action(sections["lattice"], sections["action"], folder)
    updater = _updater(sections["update"], action)
    kernel = sections["update"].get("kernel", _choice(KERNELS), ", ".join(KERNELS), AUTO)
    is_drawn = getattr(action, "is_drawn", False)
    schedule, start, checkpoint_s = _replicas(sections["run"], action.name) if is_drawn else _run(sections["run"])
    for name in OPTIONAL:
        if is_drawn and name in sections:
            raise InputError(
                f"{source}, [{name}]: action {action.name!r} has no temperature; valid without this section"
            )
    ladder = ladder_section(sections["tempering"], action, schedule) if "tempering" in sections else None
    anneal = cooling_section(sections["anneal"]) if "anneal" in sections else None
    for section in sections.values():
        section.done()
    resolved = {"seed": seed, **{name: section.resolved for name, section in sections.items()}}
    parts = (geometry, action, updater, Key(seed), schedule, start, checkpoint_s, kernel, text, resolved)
    return RunConfig(*parts, ladder, anneal)


def _run(section):
    whole, positive = "an integer >= 0 (below 2^47)", "an integer >= 1 (below 2^47)"
    start = section.get("start", _choice(STARTS), ", ".join(STARTS), "hot")
    schedule = Schedule(
        thermalize=section.get("thermalize", _integer(0, MAX_UPDATES), whole, 1000),
        updates=section.get("updates", _integer(1, MAX_UPDATES), positive, 10000),
        measure_every=section.get("measure_every", _integer(1, MAX_UPDATES), positive, 10),
        save_every=section.get("save_every", _integer(0, MAX_UPDATES), whole, 0),
    )
    duration = section.get("checkpoint", _text, 'a duration such as "5 min"', "5 min")
    return schedule, start, parse_quantity(duration, "time", section.where("checkpoint")).si


def _replicas(section, name):
    """The schedule of drawn chains: every replica is one update, measured at once."""
    is_percolation, start = name == PERCOLATION, "silent"
    if is_percolation:
        start = section.get("start", _choice(PERCOLATION_STARTS), " or ".join(PERCOLATION_STARTS), "seed")
    whole, positive = "an integer >= 0 (below 2^47)", "an integer >= 1 (below 2^47)"
    has_updates = "updates" in section.table and "replicas" not in section.table and not is_percolation
    key = "updates" if has_updates else "replicas"
    default = ... if is_percolation else 100
    section.known.extend({"replicas"} - {key})
    n = section.get(key, _integer(1, MAX_UPDATES), f"{positive}: how many are drawn, independently", default)
    schedule = Schedule(0, n, 1, section.get("save_every", _integer(0, MAX_UPDATES), whole, 0))
    section.resolved.update(start=start, thermalize=0, updates=n, measure_every=1)
    duration = section.get("checkpoint", _text, 'a duration such as "5 min"', "5 min")
    return schedule, start, parse_quantity(duration, "time", section.where("checkpoint")).si


def _updater(section, action):
    if action.name == PERCOLATION:
        section.resolved["name"] = "draw"  # slice by slice: there is nothing to choose
        if section.table and section.table != {"name": "draw", "kernel": AUTO}:
            raise InputError(
                f"{section.source}, [update]: action {action.name!r} is drawn slice by slice; leave this section out"
            )
        section.known.append("name")
        return Draw()
    if getattr(action, "is_drawn", False):
        section.get("name", _choice(("draw",)), f"draw (or no [update] at all) for action {action.name!r}", "draw")
        return Draw()
    default = "hmc" if action.kind == "real" else "metropolis"
    valid = ", ".join(n for n, u in UPDATERS.items() if action.kind in u.kinds)
    name = section.get("name", _choice(tuple(UPDATERS)), f"one of {valid} for action {action.name!r}", default)
    if action.kind not in UPDATERS[name].kinds:
        section.fail("name", f"one of {valid} for action {action.name!r}")
    section.known.extend(UPDATE_KEYS[name])
    if name == "wolff":
        return Wolff(section.get("clusters", _integer(1, 2**31 - 1), "an integer >= 1", 1))
    if name == "swendsen-wang":
        return SwendsenWang()
    if name == "hmc":
        hmc = HMC(
            steps=section.get("steps", _integer(1), "an integer >= 1", 10),
            length=section.get("length", _number(0, True), "a finite number > 0", 1.0),
            integrator=section.get("integrator", _choice(tuple(SCHEMES)), ", ".join(SCHEMES), "leapfrog"),
        )
        valid = "an integer from 0 (none) to 256"
        sweeps = section.get("overrelax", _integer(0, 256), f"{valid}: sweeps after each trajectory", 0)
        flips = section.get("clusters", _integer(0, 256), f"{valid}: cluster flips of the signs", 0)
        more = [*([Overrelax(sweeps)] if sweeps else []), *([SignFlips(flips)] if flips else [])]
        return Sequence([hmc, *more]) if more else hmc
    if name == "metropolis" and action.kind == "real":
        return Metropolis(section.get("width", _number(0, True), "a finite number > 0", 1.0))
    if name == "metropolis":
        section.known.remove("width")
        return Metropolis()
    return HeatBath()


def make_updater(table, action, source):
    """The updater that a resolved ``[update]`` table describes."""
    return _updater(Section(source, "update", table), action)
