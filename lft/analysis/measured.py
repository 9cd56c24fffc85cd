"""What an archive holds for reweighting: couplings, the series of their conjugate operators, and the observables.

    weight exp(-S),      S = sum_k g_k O_k

========  ==================================================  ================================================
action    coupling                                            operator from the measured series
========  ==================================================  ================================================
ising     ``K``; ``K_<axis>`` or ``K[d]`` if several          -(pairs) x bond, summed over the axes it is for
ising     ``h`` (one number)                                  -V magnetization
phi4      ``kappa``, ``kappa_<axis>``, ``kappa[d]``           -2 (pairs) x bond
phi4      ``lambda``                                          V (phi4 - 2 phi2 + 1)
any       ``b``, the inverse temperature: weight exp(-b S)    V action_density
========  ==================================================  ================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.observables import Bonds

NOT_OF_A_CONFIGURATION = ("acceptance", "replica")


@dataclass(frozen=True)
class Measured:
    """Measurements of one theory at one set of couplings.

    Parameters
    ----------
    couplings : dict of str to float
        g_k at which the chain ran.
    operators : dict of str to ndarray (n,)
        O_k of each configuration, extensive; the same names.
    observables : dict of str to ndarray (n, ...)
        Other functions of the same configurations.
    volume : int
        Active sites (of one chain where the bins are independent chains).
    extent : int
        L, where all axes are equally long; else the smallest extent.
    spacing : float
        Updates between two measurements.
    label : str
        For messages.
    fixed : tuple
        What must agree if several are analyzed together.
    """

    couplings: dict
    operators: dict
    observables: dict
    volume: int
    extent: int
    spacing: float = 1
    label: str = "series"
    fixed: tuple = ()

    def __post_init__(self):
        n = self.n
        for group in (self.operators, self.observables):
            for name, series in group.items():
                if len(series) != n or not np.isfinite(series).all():
                    raise InputError(f"{self.label}: {name} must hold {n} finite measurements")
        if set(self.couplings) != set(self.operators) or n < 4:
            raise InputError(f"{self.label}: {n} measurements of operators {sorted(self.operators)} for couplings "
                             f"{sorted(self.couplings)}; at least 4 are needed, one operator per coupling")

    @property
    def n(self):
        """Number of measurements."""
        return len(next(iter(self.operators.values())))

    def column(self, name):
        """Series of an observable or operator by name, ``bond_x`` or ``structure_x[1]``."""
        stem, _, component = name.partition("[")
        if name in self.observables and self.observables[name].ndim == 1:
            return self.observables[name]
        if component and stem in self.observables and self.observables[stem].ndim > 1:
            try:
                return self.observables[stem].reshape(self.n, -1)[:, int(component.rstrip("]"))]
            except (ValueError, IndexError):
                pass
        if name.endswith("_improved"):
            raise InputError(f"{self.label}: {name} is an average over the clusters of an update, not a function of "
                             "one configuration, so it cannot be reweighted; valid is its plain counterpart")
        scalars = [k for k, v in self.observables.items() if v.ndim == 1]
        raise InputError(f"{self.label}: no observable {name!r} to reweight; valid are {', '.join(scalars)}, and "
                         "NAME[i] for a component of the others")


def read_measured(archive, whole=False):
    """What an archive holds for reweighting: one :class:`Measured`, or one per temperature of a tempered archive.

    Parameters
    ----------
    archive : lft.archive.Archive
    whole : bool
        True: the only coupling is ``b``, which multiplies the whole action (always so where the temperatures of an
        archive do, or where an array of couplings leaves no operator of its own in the archive).

    Returns
    -------
    list of Measured

    Raises
    ------
    InputError
        Too few measurements, or temperatures of one coupling whose operator the archive does not hold.
    """
    if archive.spreading is not None:
        raise InputError(f"{archive.path}: action {archive.action.name!r} has no couplings to reweight in")
    if archive.n_samples < 4:
        raise InputError(f"{archive.path}: {archive.n_samples} measurements; at least 4 are needed to reweight")
    tempering = archive.tempering
    factors = [None] if tempering is None else tempering["inverse_temperatures"].tolist()
    tempered = "" if tempering is None else tempering["coupling"]
    if whole and "action_density" not in archive.names:
        raise InputError(f"{archive.path}: holds no action_density, so b of the whole action cannot be reweighted")
    if tempered and whole:
        raise InputError(f"{archive.path}: its temperatures scale {tempered} alone; b of the whole action cannot be "
                         f"reweighted together with them")
    whole = whole or (tempering is not None and not tempered)
    skip = (*NOT_OF_A_CONFIGURATION, "t")
    names = [n for n in archive.names if n not in skip and not n.endswith("_improved")]
    every = {n: archive.samples(n) for n in names}
    out = []
    for slot, b in enumerate(factors):
        series = every if b is None else {n: v[:, slot] for n, v in every.items()}
        if whole:
            couplings = {"b": 1.0 if b is None else b}
            operators = {"b": series["action_density"] * archive.geometry.n_active}
        else:
            couplings, operators = _operators(archive, series)
            couplings = {k: g * b if b is not None and _belongs(k, tempered) else g for k, g in couplings.items()}
        if tempered and not any(_belongs(k, tempered) for k in couplings):
            raise InputError(f"{archive.path}: its temperatures scale {tempered}, whose operator no series of the "
                             "archive gives: it cannot be reweighted")
        if not couplings:
            couplings, operators = {"b": 1.0}, {"b": series["action_density"] * archive.geometry.n_active}
        at = ", ".join(f"{k} = {g:.8g}" for k, g in couplings.items())
        out.append(Measured(couplings, operators, series, _volume(archive), _extent(archive.geometry),
                            int(archive.config["run"]["measure_every"]), f"{archive.path} at {at}", _fixed(archive)))
    return out


def _belongs(name, coupling):
    name = "lam" if name == "lambda" else name
    return bool(coupling) and (name == coupling or name.startswith((f"{coupling}_", f"{coupling}[")))


def _operators(archive, series):
    """Couplings that are numbers, and their operators."""
    action, geometry = archive.action, archive.geometry
    bond = getattr(action, "bond_name", "")
    couplings, operators = {}, {}
    if bond:
        bonds = Bonds.of(action, geometry)
        factor = -2.0 if action.kind == "real" else -1.0
        given = action.couplings[bond]
        values = action.bond_couplings(geometry).values()
        for g, name, count in zip(values, bonds.names, bonds.counts, strict=True):
            if not count:
                continue
            key = bond if np.ndim(given) == 0 and not isinstance(given, dict) else name.replace("bond", bond)
            couplings[key] = float(g)
            operators[key] = operators.get(key, 0.0) + factor * count * series[name]
    h = action.couplings.get("h")
    if bond and h is not None and np.ndim(h) == 0:
        couplings["h"], operators["h"] = float(h), -geometry.n_active * series["magnetization"]
    if action.kind == "real" and "phi4" in series:
        couplings["lambda"] = float(action.couplings["lam"])
        operators["lambda"] = geometry.n_active * (series["phi4"] - 2 * series["phi2"] + 1)
    return couplings, operators


def _volume(archive):
    return archive.geometry.n_units if archive.action.has_independent_bins else archive.geometry.n_active


def _extent(geometry):
    return min(getattr(geometry, "shape", (geometry.n_active,)))


def _fixed(archive):
    """Name of the action, lattice, and the couplings that no series can move."""
    arrays = tuple(f"{k}={np.asarray(v).tolist()}" for k, v in archive.action.couplings.items()
                   if isinstance(v, np.ndarray) and v.ndim)
    g = archive.geometry
    mask = getattr(g, "mask", None)
    shape = map(str, getattr(g, "shape", (g.n_active,)))
    where = (*shape, str(g.boundary), "" if mask is None else mask.tobytes().hex())
    return (archive.action.name, *where, *arrays)
