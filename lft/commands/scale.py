"""``lft scale``: critical coupling and exponents from archives of several lattices; ``lft analyze --reweight``."""

from __future__ import annotations

import contextlib
import math
import warnings

from lft.analysis.collapse import Points, collapse
from lft.analysis.measured import read_measured
from lft.analysis.reweight import Reweighting
from lft.analysis.scaling import binder, scale
from lft.analysis.summary import derived
from lft.archive import Archive
from lft.errors import InputError, SeriesTooShort
from lft.geometry import Lattice


def parse_couplings(texts):
    """``["K=0.44,h=0", ...]`` as a dict of numbers."""
    out = {}
    for part in ",".join(texts).split(",") if texts else []:
        name, sign, value = part.strip().partition("=")
        try:
            out[name.strip()] = float(value)
            if not (sign and name.strip() and math.isfinite(float(value))):
                raise ValueError
        except ValueError:
            raise InputError(f"--reweight {part.strip()!r}: valid is COUPLING=NUMBER, or several with commas") from None
    return out


# ---- lft analyze ARCHIVE --reweight K=0.44
def reweighted(path, texts):
    """``(data for --json, lines, notes)``: the observables of an archive at other couplings.

    The observables are the scalar ones of the archive and what follows from them (Binder cumulant, susceptibility).
    """
    target = parse_couplings(texts)
    with _collected() as notes, Archive(path) as archive:
        whole = set(target) == {"b"}
        r = Reweighting(read_measured(archive, whole=whole), n_blocks=_blocks(archive.n_samples))
        out = {}
        scalars = sorted(n for n, v in r.ensembles[0].observables.items() if v.ndim == 1)
        for name in scalars:
            out[name] = r.mean(name, target)
        for name, columns, function in derived(archive):
            if all(c in scalars for c in columns):
                out[name] = r.mean(list(columns), target, function=function)
    constant = [name for name, v in out.items() if v.is_constant]
    if constant:
        notes.append(f"constant: no error can be estimated for {', '.join(constant)} (0 does not mean exact)")
    data = {
        "reweighted": {
            "couplings": dict(zip(r.names, r.point(target).tolist(), strict=True)),
            "simulated": [e.couplings for e in r.ensembles],
            "n_effective": r.n_effective(target),
            "observables": {name: {"value": v.value, "error": v.error, "n_effective": v.n_effective, "n": v.n}
                            for name, v in out.items()},
        },
        "warnings": notes,
    }
    head = ", ".join(f"{k} = {v:.8g}" for k, v in data["reweighted"]["couplings"].items())
    return data, [f"reweighted to {head}", *(f"{name:24} {v}" for name, v in out.items())], notes


# ---- lft scale ARCHIVE...
def scale_archives(paths, coupling=None, omega=None, binder_value=None):
    """``(Scaling, Collapse or None, Points or None, notes)`` of archives of one theory on several lattices.

    Archives of one size are joined by multiple-histogram reweighting; tempered archives count with all temperatures.
    Where every size has at least three couplings, the Binder cumulants measured there are collapsed, too.
    """
    with _collected() as notes:
        sizes = _by_size(paths)
        names = sorted(set.intersection(*(set(r.names) for r in sizes.values())))
        coupling = coupling or _tuned(sizes, names)
        if coupling not in names:
            raise InputError(f"--coupling {coupling!r}: these archives have {', '.join(names)}")
        result = scale(sizes, coupling, omega=omega, binder_value=binder_value)
        found, points = _collapse(sizes, coupling, result, notes)
    return result, found, points, [*notes, *result.notes]


def as_json(result, found):
    """The JSON form of ``lft scale``."""
    return {**result.as_json(), "collapse": None if found is None else found.as_json()}


def table(result, found):
    """The text of ``lft scale``."""
    return result.table() + (f"\ncollapse of U   {found}" if found is not None else "")


def _by_size(paths):
    """{L: Reweighting}; all archives must hold one theory on lattices of equal sides."""
    measured, first = {}, None
    for path in dict.fromkeys(map(str, paths)):
        with Archive(path) as archive:
            if not isinstance(archive.geometry, Lattice) or len(set(archive.geometry.shape)) > 1:
                shape = getattr(archive.geometry, "shape", "a graph")
                raise InputError(f"{path}: {shape}; finite-size scaling takes lattices with sides of one length")
            what = (archive.action.name, archive.geometry.boundary, len(archive.geometry.shape))
            first = first or (path, what)
            if what != first[1]:
                raise InputError(f"{path}: {what} is another theory than {first[1]} of {first[0]}")
            measured.setdefault(archive.geometry.shape[0], []).extend(read_measured(archive))
    if len(measured) < 3:
        raise InputError(f"archives of L = {sorted(measured)}: at least 3 sizes are needed")
    return {L: Reweighting(m, n_blocks=_blocks(min(e.n for e in m))) for L, m in sorted(measured.items())}


def _blocks(n):
    """As many as leave 250 measurements in each, 8 to 40."""
    return max(8, min(40, n // 250))


def _tuned(sizes, names):
    """The coupling that differs between archives, else the bond coupling."""
    for name in names:
        if any(len(set(r.couplings[:, r.names.index(name)])) > 1 for r in sizes.values()):
            return name
    return next((n for n in names if n in ("K", "kappa")), names[0])


def _collapse(sizes, coupling, result, notes):
    """Collapse of the Binder cumulants at the simulated couplings (one ensemble each: independent points)."""
    rows = []
    for L, r in sizes.items():
        for e in r.ensembles:
            alone = Reweighting([e], n_blocks=r.n_blocks)
            u = alone.means(("m2", "m4"), e.couplings).map(binder)
            rows.append((L, e.couplings[coupling], float(u.center), float(u.error)))
    if min(sum(row[0] == L for row in rows) for L in sizes) < 3:
        return None, None
    g_c = result.critical[0]
    points = Points(*map(list, zip(*rows, strict=True)))
    try:
        found = collapse(points, {"critical": g_c, "nu": result.nu[0]}, fixed=("rho",), degree=5)
    except InputError as error:
        notes.append(str(error))
        return None, None
    if found.p_value < 0.01:
        notes.append(f"collapse: chi^2/dof = {found.chi_squared:.3g}/{found.dof}: the data do not fall on one curve; "
                     "leave out small lattices or distant couplings")
    return found, points


@contextlib.contextmanager
def _collected():
    """Warnings about short series as notes, each said once."""
    notes = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SeriesTooShort)
        yield notes
    short = list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, SeriesTooShort)))
    if short:
        notes.append(short[0] + (f" (and {len(short) - 1} other series)" if len(short) > 1 else ""))
