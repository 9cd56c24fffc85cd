"""The run configuration: TOML text to checked values to the objects of a run.

One file describes a run completely.  A key that is unknown, missing, of the wrong type or out of range is an error
that names the key, the value and what is valid; every default is written out in :attr:`RunConfig.resolved`.
"""

from __future__ import annotations

import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lft.actions import PRECISIONS, Ising, Neural, Pairwise, Phi4
from lft.causal import ACTIONS, GLM, Draw, Kinetic
from lft.chain import Schedule
from lft.clusters import SignFlips
from lft.errors import InputError, LftError
from lft.geometry import Graph, Lattice
from lft.implementations import AUTO, KERNELS
from lft.integrators import SCHEMES
from lft.percolation import KINDS as PERCOLATION_KINDS
from lft.percolation import STARTS as PERCOLATION_STARTS
from lft.percolation import DirectedPercolation, check_geometry
from lft.replica_sections import MAX_UPDATES, cooling_section, ladder_section
from lft.rng import Key
from lft.sections import Section
from lft.sections import choice as _choice
from lft.sections import integer as _integer
from lft.sections import list_of as _list_of
from lft.sections import number as _number
from lft.sections import numbers as _numbers
from lft.sections import text as _text
from lft.sections import text_or_list as _text_or_list
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
ACTION_KEYS = {
    "ising": ("K", "h", "couplings"),
    "phi4": ("kappa", "lambda", "precision"),
    "neural": ("A", "B", "I", "couplings"),
    "pairwise": ("J", "h", "couplings"),
    "kinetic": ("J", "h", "couplings"),
    "glm": ("J", "h", "link", "couplings"),
    "directed-percolation": ("p", "kind"),
}
FIT_MODELS = {
    "ising": ("lattice", "independent"),
    "neural": ("neural", "pairwise"),
    "pairwise": ("pairwise",),
    "kinetic": ("kinetic",),
    "glm": ("glm",),
}
DRAWN = ("kinetic", "glm")  # causal chains: drawn bin by bin, no [update] section
PERCOLATION = DirectedPercolation.name  # drawn slice by slice, no [update] section either


def _displacements(value):
    """One number, one per axis, or a table {"1,0,0" = K}."""
    if isinstance(value, dict):
        couplings = {tuple(int(c) for c in key.split(",")): _number()(k) for key, k in value.items()}
        twice = next((d for d in couplings if tuple(-c for c in d) in couplings and any(d)), None)
        if twice is not None:
            other = tuple(-c for c in twice)
            raise InputError(f"displacements {twice} and {other} join the same sites: give one")
        return couplings
    return _numbers(value)


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


def _stored_fit(path, where):
    from lft.inference.result import load_fit

    try:
        return load_fit(path)
    except (LftError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        is_ours = isinstance(error, LftError)
        message = str(error) if is_ours else f"{path}: damaged ({' '.join(str(error).split())})"
        raise InputError(message if where == str(path) else f"{where}: {message}") from None


def _fit_as_text(path):
    model = _stored_fit(path, str(path)).model
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
    geometry, action = _geometry_and_action(sections["lattice"], sections["action"], folder)
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
                f"{section.source}, [update]: action {action.name!r} is drawn slice by slice; valid without it"
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


# ---- lattice and action
def _geometry_and_action(lattice, action, folder):
    name = action.get("name", _choice(tuple(ACTIONS)), f"one of {', '.join(ACTIONS)}")
    fit = None
    if "couplings" in ACTION_KEYS[name] and "couplings" in action.table:
        fit = _load_fit(action, folder)
        for key in ACTION_KEYS[name]:
            if key != "couplings" and key in action.table:
                raise InputError(f"{action.where(key)}: not together with couplings = {action.table['couplings']!r}")
        action.known.extend(ACTION_KEYS[name])
    if name in ("neural", "pairwise"):
        built = _neural(action, fit) if name == "neural" else _pairwise(action, fit, folder)
        return _graph(lattice, built, fit), built
    if name in DRAWN:
        built = _causal(action, fit, folder)
        geometry = _graph(lattice, built, fit)
        if geometry.boundary != "open":
            raise InputError(f"{lattice.where('boundary')}: time of a causal chain is open")
        return geometry, built
    if name == PERCOLATION:
        return _percolation(lattice, action)
    geometry = _lattice(lattice, folder, fit if name == "ising" else None)
    if name == "phi4":
        built = Phi4(
            kappa=action.get("kappa", _displacements, "a number, or one per axis"),
            lam=action.get("lambda", _number(0), "a finite number >= 0"),
            precision=action.get("precision", _choice(PRECISIONS), ", ".join(PRECISIONS), PRECISIONS[0]),
        )
    elif fit is not None:
        built = _ising_of_fit(fit)
    else:
        built = Ising(
            K=action.get("K", _displacements, "a number, or one per axis"),
            h=action.get("h", _number(), "a finite number", 0.0),
        )
    try:
        built.displacements(geometry)
    except InputError as error:
        key = "" if str(error).startswith(built.bond_name) else f"{built.bond_name}: "
        raise InputError(f"{action.source}, [action] {key}{error}") from None
    return geometry, built


def _percolation(lattice, action):
    """Space axes, then time: the default names end in ``t``, and a boundary in one word is that of space."""
    table = lattice.table
    n = len(table["shape"]) if isinstance(table.get("shape"), list) else 0
    if n and "axes" not in table:
        table["axes"] = [*"xyzwvu"[: n - 1], "t"]
    if n and isinstance(table.get("boundary", "periodic"), str):
        table["boundary"] = [*[table.get("boundary", "periodic")] * (n - 1), "open"]
    for key in ("mask", "bins"):
        if key in table:
            raise InputError(f"{lattice.where(key)}: not with action {PERCOLATION!r}")
    geometry = _lattice(lattice, ".", None)
    p = action.get("p", _number(), "a number from 0 to 1")
    kind = action.get("kind", _choice(PERCOLATION_KINDS), " or ".join(PERCOLATION_KINDS), "bond")
    try:
        check_geometry(geometry)
    except InputError as error:
        raise InputError(f"{lattice.source}, [lattice] {error}") from None
    try:
        return geometry, DirectedPercolation(p, kind)
    except InputError as error:
        raise InputError(f"{action.source}, [action] {error}") from None


def _load_fit(action, folder):
    path = Path(folder) / action.get("couplings", _text, "the path of a file written by lft fit")
    fit, models = _stored_fit(path, action.where("couplings")), FIT_MODELS[action.table["name"]]
    if fit.model not in models:
        action.fail("couplings", f"a fit of model {' or '.join(models)}, this one is {fit.model!r}")
    return fit


def _ising_of_fit(fit):
    K = {}
    if "K" in fit:
        K = {tuple(int(c) for c in d): float(k) for d, k in zip(fit["displacements"], fit["K"], strict=True)}
    h = np.where(np.isnan(fit["h"]), 0.0, fit["h"])
    return Ising(K=K, h=h if h.ndim else float(h))


def _lattice(section, folder, fit):
    keys = ("shape", "axes", "boundary", "spacing", "mask", "bins")
    section.known.extend(keys)
    if fit is not None and "shape" not in section.table:
        base = fit.lattice
        bins = section.get("bins", _integer(1), "an integer >= 1", base.n_time)
        for key in keys[:-1]:
            if key in section.table:
                raise InputError(f"{section.where(key)}: comes from the couplings file; only bins can be changed")
        shape = tuple(bins if a == "t" else n for a, n in zip(base.axes, base.shape, strict=True))
        lattice = Lattice(shape, base.axes, base.boundary, base.spacing, base.mask)
        section.resolved.update(shape=list(shape), axes=list(base.axes), boundary=list(base.boundary))
        section.resolved["spacing"] = list(base.spacing or [])
        return lattice
    if "bins" in section.table:
        raise InputError(f"{section.where('bins')}: only with a couplings file and without shape")
    shape = section.get("shape", _list_of(int), "a list of positive integers, one per axis")
    axes = section.get("axes", _list_of(str), "a list of names, one per axis", None)
    boundary = section.get(
        "boundary", _text_or_list, "periodic or open, one per axis", "periodic"
    )
    spacing = section.get("spacing", _list_of(str), 'a list such as ["42 um", "42 um", "20 ms"], one per axis', None)
    mask = section.get("mask", lambda v: _load_mask(Path(folder) / _text(v)), "a .npy file of true and false", None)
    if fit is not None and fit.lattice.space_shape != tuple(
        n for n, a in zip(shape, axes or (), strict=False) if a != "t"
    ):
        section.fail("shape", f"a lattice with the spatial shape of the couplings file, {fit.lattice.space_shape}")
    try:
        lattice = Lattice(shape, axes, boundary, spacing, mask if fit is None or mask is not None else fit.lattice.mask)
    except InputError as error:
        raise InputError(f"{section.source}, [lattice] {error}") from None
    section.resolved.update(axes=list(lattice.axes), boundary=list(lattice.boundary))
    return lattice


def _load_mask(path):
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            mask = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a .npy array") from error
    if mask.dtype != bool:
        raise InputError(f"{path}: dtype {mask.dtype}, valid is bool")
    return mask


def _neural(section, fit):
    if fit is not None:
        lags = fit["lags"] if "lags" in fit else []
        B = {int(k): float(b) for k, b in zip(lags, fit["B"] if len(lags) else [], strict=True)}
        return Neural(A=fit["A"], B=B, I=fit["I"])
    A = section.get("A", _matrix, "a symmetric matrix of finite numbers with zero diagonal", None)
    B = section.get("B", _lags, 'a list for the lags 1, 2, ... or a table {"1" = -0.2}', {})
    I = section.get("I", _numbers, "a number, or one per unit", 0.0)
    section.known.append("couplings")
    if A is not None and np.ndim(I) and len(I) != len(A):
        section.fail("I", f"a number, or one per unit, {len(A)} as in A")
    try:
        return Neural(A=A, B=B, I=np.asarray(I))
    except InputError as error:
        raise InputError(f"{section.source}, [action] {error}") from None


def _pairwise(section, fit, folder):
    if fit is not None:
        return Pairwise(J=fit["J"], h=fit["h"])
    valid = "a symmetric matrix of finite numbers with zero diagonal, or the path of one (.npy, scipy.sparse .npz)"
    J = section.get("J", lambda v: _load_matrix(Path(folder) / v) if isinstance(v, str) else _matrix(v), valid)
    h = section.get("h", _numbers, "a number, or one per unit", 0.0)
    section.known.append("couplings")
    if np.ndim(h) and len(h) != J.shape[0]:
        section.fail("h", f"a number, or one per unit, {J.shape[0]} as in J")
    try:
        return Pairwise(J=J, h=np.asarray(h))
    except InputError as error:
        raise InputError(f"{section.source}, [action] {error}") from None


def _causal(section, fit, folder):
    name = section.table["name"]
    try:
        if fit is not None:
            return _causal_of_fit(name, fit)
        valid = "a matrix row = target, a list of them by lag, or the path of such an array (.npy)"
        read = lambda v: _load_matrix(Path(folder) / v, (2, 3)) if isinstance(v, str) else _stack(v)  # noqa: E731
        J = section.get("J", read, valid)
        h = section.get("h", _numbers, "a number, or one per unit")
        names = ("logit", "cloglog")
        link = section.get("link", _choice(names), " or ".join(names), "logit") if name == "glm" else None
        section.known.append("couplings")
        J = np.asarray(J, float) if np.ndim(J) == 3 else np.asarray(J, float)[None]
        h = np.full(J.shape[1], h) if np.ndim(h) == 0 else np.asarray(h)
        return Kinetic(h, J) if name == "kinetic" else GLM(h, J, link=link)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(section.source) else f"{section.source}, [action] {text}") from None


def _causal_of_fit(name, fit):
    from lft.inference.causal.result import parts_of

    parts = parts_of(fit.arrays)
    if name == "kinetic":
        return Kinetic(parts["h"], parts["J"], parts["inputs"], parts["input_weights"])
    return GLM(**parts)


def _stack(value):
    J = np.array(value, dtype=float)
    if J.ndim not in (2, 3) or not np.isfinite(J).all():
        raise ValueError
    return J


def _load_matrix(path, dimensions=(2,)):
    """A matrix of a .npy file, or a sparse one as scipy.sparse.save_npz writes it."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if path.suffix == ".npz":
            from scipy.sparse import load_npz

            J = load_npz(path).tocsr()
            values = J.data
        else:
            with open(path, "rb") as file:
                J = values = np.lib.format.read_array(file, allow_pickle=False)
        if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values) or J.ndim not in dimensions:
            raise ValueError
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a matrix of numbers (.npy, or .npz of scipy.sparse.save_npz)") from error
    return J


def _matrix(value):
    A = np.array(value, dtype=float)
    if A.ndim != 2 or not np.isfinite(A).all():
        raise ValueError
    return A


def _lags(value):
    if isinstance(value, dict):
        return {int(k): _number()(v) for k, v in value.items()}
    return {k + 1: v for k, v in enumerate(np.atleast_1d(_numbers(value)).tolist())}


def _graph(section, action, fit):
    """A graph x time from a ``[lattice]`` of two axes, one of them ``t``."""
    couplings = action.couplings.values()  # matrices, vectors and numbers; only numbers leave the units open
    n_units = next((c.shape[0] for c in couplings if getattr(c, "shape", ())), None)
    valid = "two axes, t and one more for the units"
    if fit is not None and "shape" not in section.table:
        bins = section.get("bins", _integer(1), "an integer >= 1", int(fit.json["n_bins"]))
        boundary = section.get("boundary", _choice(("open", "periodic")), "open or periodic (time)", "open")
        width = f"{fit.json['bin_s'] * 1e3:.12g} ms" if fit.json.get("bin_s") else None
        section.resolved.update(shape=[bins, n_units], axes=["t", "unit"])
        return Graph(n_units, bins, boundary, width)
    shape = section.get("shape", _list_of(int), "a list of positive integers, one per axis")
    axes = section.get("axes", _list_of(str), "a list of names, one per axis", ("unit", "t"))
    boundary = section.get(
        "boundary", _text_or_list, "periodic or open, one per axis", "open"
    )
    spacing = section.get("spacing", _list_of(str), 'a list such as ["1", "5 ms"], one per axis', None)
    if len(shape) != 2 or len(axes) != 2 or axes.count("t") != 1:
        section.fail("axes" if len(shape) == 2 else "shape", valid)
    t = axes.index("t")
    boundaries = (boundary, boundary) if isinstance(boundary, str) else boundary
    if len(boundaries) != 2 or (spacing is not None and len(spacing) != 2):
        section.fail("boundary" if len(boundaries) != 2 else "spacing", "one value per axis")
    if n_units is not None and shape[1 - t] != n_units:
        section.fail("shape", f"{n_units} units along the axis {axes[1 - t]!r}, as the couplings have")
    if spacing:
        parse_quantity(spacing[t], "time", f"{section.source}, [lattice] spacing of axis t")
    longest = max((lag for lag, _ in action.displacements(None)), default=0)
    if boundaries[t] == "periodic" and 2 * longest > shape[t]:
        raise InputError(
            f"{section.source}, [action] B: lag {longest} on periodic time of {shape[t]} bins "
            f"needs at least {2 * longest}"
        )
    try:
        return Graph(shape[1 - t], shape[t], boundaries[t], spacing[t] if spacing else None)
    except InputError as error:
        raise InputError(f"{section.source}, [lattice] {error}") from None
