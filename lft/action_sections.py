"""The tables ``[lattice]`` and ``[action]`` of a run: where the field lives, and its action, written out or fitted."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from lft.actions import PRECISIONS, Ising, Neural, Pairwise, Phi4
from lft.causal import ACTIONS, GLM, Kinetic
from lft.errors import InputError, LftError
from lft.geometry import Graph, Lattice
from lft.gibbs import KPairwise, Lagged
from lft.percolation import KINDS as PERCOLATION_KINDS
from lft.percolation import DirectedPercolation, check_geometry
from lft.sections import choice as _choice
from lft.sections import integer as _integer
from lft.sections import list_of as _list_of
from lft.sections import number as _number
from lft.sections import numbers as _numbers
from lft.sections import text as _text
from lft.sections import text_or_list as _text_or_list
from lft.units import parse_quantity

ACTION_KEYS = {
    "ising": ("K", "h", "couplings"),
    "phi4": ("kappa", "lambda", "precision"),
    "neural": ("A", "B", "I", "couplings"),
    "pairwise": ("J", "h", "couplings"),
    "k-pairwise": ("A", "I", "V", "couplings"),
    "lagged": ("A", "I", "J_lag", "couplings"),
    "kinetic": ("J", "h", "couplings"),
    "glm": ("J", "h", "link", "couplings"),
    "directed-percolation": ("p", "kind"),
}
FIT_MODELS = {
    "ising": ("lattice", "independent"),
    "neural": ("neural", "pairwise"),
    "pairwise": ("pairwise",),
    "k-pairwise": ("k-pairwise",),
    "lagged": ("lagged",),
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


def stored_fit(path, where):
    """The fit in a file; ``where`` begins the message of an InputError if it is none."""
    from lft.inference.result import load_fit

    try:
        return load_fit(path)
    except (LftError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        is_ours = isinstance(error, LftError)
        message = str(error) if is_ours else f"{path}: damaged ({' '.join(str(error).split())})"
        raise InputError(message if where == str(path) else f"{where}: {message}") from None


def geometry_and_action(lattice, action, folder):
    """What the sections ``[lattice]`` and ``[action]`` describe; files that they name lie in ``folder``."""
    name = action.get("name", _choice(tuple(ACTIONS)), f"one of {', '.join(ACTIONS)}")
    fit = None
    if "couplings" in ACTION_KEYS[name] and "couplings" in action.table:
        fit = _load_fit(action, folder)
        for key in ACTION_KEYS[name]:
            if key != "couplings" and key in action.table:
                raise InputError(f"{action.where(key)}: not together with couplings = {action.table['couplings']!r}")
        action.known.extend(ACTION_KEYS[name])
    if name in GIBBS:
        built = GIBBS[name](action, fit, folder)
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
    fit, models = stored_fit(path, action.where("couplings")), FIT_MODELS[action.table["name"]]
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


def _neural(section, fit, folder):
    if fit is not None:
        lags = fit["lags"] if "lags" in fit else []
        B = {int(k): float(b) for k, b in zip(lags, fit["B"] if len(lags) else [], strict=True)}
        return Neural(A=fit["A"], B=B, I=fit["I"], **_inputs(section, fit))
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


def _inputs(section, fit):
    """Time-dependent inputs of a fit of units, as arguments of its action."""
    if "input_weights" not in fit:
        return {}
    if "inputs" not in fit:
        raise InputError(
            f"{section.source}: this fit has inputs whose columns are not in its file (too many numbers, or "
            "several trials with couplings in time): it cannot be simulated as it is"
        )
    return {"input_weights": fit["input_weights"], "inputs": fit["inputs"]}


def _pairwise(section, fit, folder):
    if fit is not None:
        if _inputs(section, fit):
            section.fail("name", "neural, in whose form a pairwise fit with inputs is simulated")
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


def _matrix_at(folder, *dimensions):
    """A check: an array of finite numbers, written out or the path of one."""

    def check(value):
        array = _load_matrix(Path(folder) / value, dimensions) if isinstance(value, str) else np.array(value, float)
        if array.ndim not in dimensions:
            raise ValueError
        return array

    return check


def _beyond_pairs(section, fit, folder):
    """``k-pairwise`` and ``lagged``: A and I as in ``neural``, and V or J_lag in log-odds."""
    name, face = ("V", KPairwise) if section.table["name"] == "k-pairwise" else ("J_lag", Lagged)
    if fit is not None:
        return face(fit[name], A=fit["A"], I=fit["I"], **_inputs(section, fit))
    section.known.append("couplings")
    matrix = "a symmetric matrix of finite numbers with zero diagonal, or the path of one (.npy)"
    A = section.get("A", _matrix_at(folder, 2), matrix, None)
    I = section.get("I", _numbers, "a number, or one per unit", 0.0)
    if name == "V":
        more = section.get("V", _matrix_at(folder, 1), "a list: one number for each count, from no spike to N")
    else:
        valid = "a matrix row = target, a list of them by lag, or the path of such an array (.npy)"
        more = section.get("J_lag", _matrix_at(folder, 2, 3), valid)
        more = more[None] if more.ndim == 2 else more
    try:
        built = face(more, A=A, I=np.asarray(I))
        built.one_body(Graph(built.n_units, 1))  # whether all are of as many units
    except InputError as error:
        raise InputError(f"{section.source}, [action] {error}") from None
    return built


GIBBS = {"neural": _neural, "pairwise": _pairwise, "k-pairwise": _beyond_pairs, "lagged": _beyond_pairs}
"""Readers of the actions on a graph that updates sample."""


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
    n_units = getattr(action, "n_units", n_units)
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
            f"{section.source}, [action] {'J_lag' if action.name == 'lagged' else 'B'}: lag {longest} on periodic time "
            f"of {shape[t]} bins "
            f"needs at least {2 * longest}"
        )
    try:
        return Graph(shape[1 - t], shape[t], boundaries[t], spacing[t] if spacing else None)
    except InputError as error:
        raise InputError(f"{section.source}, [lattice] {error}") from None
