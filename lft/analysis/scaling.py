"""Finite-size scaling: crossings of Binder cumulants, and exponents from how quantities grow with L.

Near a critical point g_c, on lattices of extent L, with corrections from the leading irrelevant operator,

    U(g, L)     = u((g - g_c) L^(1/nu)) + ...,       U = 1 - <m^4>/(3 <m^2>^2)
    dU/dg       = a L^(1/nu) (1 + b L^-omega),       chi = V <m^2> = a L^(2-eta) (1 + b L^-omega)

Crossings of U for two sizes approach g_c like L^-(1/nu + omega).  Exponents are read off where U takes one and the same
value U_f on every lattice (phenomenological coupling): there the scaling variable is the same for all L, no g_c is
needed, and the fluctuations of U and of the quantity, which go together, cancel in part.  Standard results: K. Binder,
Z. Phys. B 43, 119 (1981); A. M. Ferrenberg, D. P. Landau, Phys. Rev. B 44, 5081 (1991).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.analysis.powerlaw import Scan, choose, finite, linear_fit, scan_power
from lft.errors import InputError

COLUMNS = ("m2", "m4")
MOMENTS = ("m2", "m4", "O", "m2 O", "m4 O")


def binder(m):
    """U = 1 - <m^4>/(3 <m^2>^2) from means that begin with m2, m4."""
    return 1 - m[1] / (3 * m[0] ** 2)


def binder_slope(m):
    """dU/dg from (m2, m4, O, m2 O, m4 O): with dm2 = -(<m^2 O> - <m^2><O>) and dm4 alike."""
    d2, d4 = -(m[3] - m[0] * m[2]), -(m[4] - m[1] * m[2])
    return -d4 / (3 * m[0] ** 2) + 2 * m[1] * d2 / (3 * m[0] ** 3)


def log_m2_slope(m):
    """d ln <m^2> / dg from the same means; scales like the slope of U, with other corrections."""
    return -(m[3] - m[0] * m[2]) / m[0]


@dataclass(frozen=True)
class Crossing:
    """Where the Binder cumulants of two lattices are equal."""

    small: int
    large: int
    coupling: float
    error: float
    binder: float


@dataclass(frozen=True)
class Crossings:
    """Crossings of neighboring sizes, with the covariance that shared lattices give them.

    Attributes
    ----------
    rows : list of Crossing
    covariance : ndarray
    notes : list of str
        Pairs without a crossing within reach.
    """

    rows: list
    covariance: np.ndarray
    notes: list


@dataclass
class Scaling:
    """What :func:`scale` found; ``quantities`` holds the fitted numbers by size.

    Attributes
    ----------
    coupling : str
    sizes : list of int
    crossings : Crossings
    critical : tuple of float
        (value, error) of g_c, extrapolated from the crossings.
    critical_scan : Scan
    binder_value : float
        U_f at which the exponents were read off.
    matched : dict
        L to (coupling, error) where U = U_f.
    slope, chi : dict
        L to (value, error) of dU/dg and of V <m^2> there.
    nu, eta : tuple of float
        (value, error), averaged over L_min (:attr:`Scan.average`).
    slope_scan, chi_scan : Scan
    omega : float or None
    curves : dict
        L to arrays (coupling, U, error) beside g_c, for figures.
    notes : list of str
    """

    coupling: str
    sizes: list
    crossings: Crossings
    critical: tuple
    critical_scan: Scan
    binder_value: float
    matched: dict
    slope: dict
    chi: dict
    nu: tuple
    eta: tuple
    slope_scan: Scan
    chi_scan: Scan
    omega: object
    curves: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    def as_json(self):
        """The result as plain numbers."""
        pair = lambda p: {"value": finite(p[0]), "error": finite(p[1])}  # noqa: E731
        return {
            "coupling": self.coupling,
            "sizes": list(self.sizes),
            "critical": {**pair(self.critical), **_quality(self.critical_scan)},
            "nu": {**pair(self.nu), **_quality(self.slope_scan)},
            "eta": {**pair(self.eta), **_quality(self.chi_scan)},
            "omega": self.omega,
            "binder": self.binder_value,
            "crossings": [dict(zip(("small", "large", "value", "error", "binder"),
                                   (c.small, c.large, c.coupling, c.error, c.binder), strict=True))
                          for c in self.crossings.rows],
            "matched": [{"L": L, "coupling": pair(self.matched[L]), "slope": pair(self.slope[L]),
                         "chi": pair(self.chi[L])} for L in self.sizes],
            "scans": {"critical": [f.as_json() for f in self.critical_scan.fits],
                      "slope": [f.as_json() for f in self.slope_scan.fits],
                      "chi": [f.as_json() for f in self.chi_scan.fits]},
            "notes": list(self.notes),
        }

    def table(self):
        """Crossings, the numbers by size, and the exponents, as text."""
        lines = [f"crossings of the Binder cumulant          {self.coupling}"]
        lines += [f"  L = {c.small:3} and {c.large:3}   U = {c.binder:.5f}   {format_with_error(c.coupling, c.error)}"
                  for c in self.crossings.rows]
        lines.append(f"at U = {self.binder_value:.5f}:   L, {self.coupling}, dU/d{self.coupling}, V <m^2>")
        lines += [f"  {L:4}  {format_with_error(*self.matched[L]):18} {format_with_error(*self.slope[L]):14} "
                  f"{format_with_error(*self.chi[L])}" for L in self.sizes]
        rows = ((f"{self.coupling}_c", self.critical, self.critical_scan), ("nu", self.nu, self.slope_scan),
                ("eta", self.eta, self.chi_scan))
        for name, value, scan in rows:
            f = scan.chosen
            correction = f"omega = {self.omega:g}" if self.omega else "no correction"
            lines.append(f"{name:7} = {format_with_error(*value):14} best fit: chi^2/dof = {f.chi_squared:.2f}/{f.dof}"
                         f", L >= {f.L[0]}, {correction}")
        return "\n".join(lines)


def _quality(scan):
    f = scan.chosen
    return {"chi_squared": finite(f.chi_squared), "dof": f.dof, "L_min": f.L[0]}


# ---- one lattice
def binder_at(reweighting, coupling, g):
    """Binder cumulant at g without its error; searches call it many times."""
    return binder(reweighting.center(COLUMNS, {coupling: g}))


def overlap(reweightings, coupling):
    """Interval of a coupling that all of some Reweightings reach; nan where one has none."""
    low, high = np.array([r.reach(coupling) for r in reweightings]).T
    return float(low.max()), float(high.min())


def matched_coupling(reweighting, coupling, value):
    """The coupling at which U takes a value; InputError if it does not within reach."""
    return _root(lambda g: binder_at(reweighting, coupling, g) - value, [reweighting], coupling,
                 f"U = {value:.5f} on L = {reweighting.ensembles[0].extent}")


def _root(function, reweightings, coupling, what):
    """The zero of a function of the coupling nearest to where the ensembles ran, within the reach of all."""
    from scipy.optimize import brentq

    low, high = overlap(reweightings, coupling)
    k = reweightings[0].names.index(coupling)
    start = float(np.mean([r.couplings[:, k].mean() for r in reweightings]))
    step = 0.1 / max(float(np.std(r.operators[:, k])) for r in reweightings)
    if math.isnan(low) or math.isnan(high):
        worst = min(reweightings, key=lambda r: r.n_at_home())
        raise InputError(f"{what}: L = {worst.ensembles[0].extent} has only {worst.n_at_home():.3g} effective "
                         f"measurements of {worst.n}, fewer than {worst.min_effective:g}; simulate longer")
    if not low <= start <= high:
        raise InputError(f"{what}: the couplings in reach do not overlap; simulate nearer to each other")
    ends, values = [start, start], [function(start)] * 2
    while ends[0] > low or ends[1] < high:
        for side in (0, 1):
            new = max(ends[0] - step, low) if side == 0 else min(ends[1] + step, high)
            if new == ends[side] or not math.isfinite(new):
                continue
            value = function(new)
            if value * values[side] <= 0 and value != values[side]:
                return float(brentq(function, *sorted((ends[side], new)), xtol=1e-14, rtol=1e-13))
            ends[side], values[side] = new, value
        step *= 1.1
        if step > 1e3 * max(abs(start), 1.0):
            break
    raise InputError(f"{what}: not within reach, {low:.6g} to {high:.6g}; simulate nearer to it, or longer")


def at_binder(reweighting, coupling, value, function):
    """A function of the means where U = value: ``(coupling, error), (quantity, error)``.

    ``function(m)`` of the means ``MOMENTS``.  With the jackknife deviations dU and dy at the matched coupling g,
    dg = -dU/U' and dy + y' dg are those of the coupling and of the quantity.
    """
    g = matched_coupling(reweighting, coupling, value)
    means = reweighting.means(COLUMNS, {coupling: g}, with_operator=coupling)
    step = 0.02 / float(np.std(reweighting.operators[:, reweighting.names.index(coupling)]))
    up, down = (function(reweighting.center(COLUMNS, {coupling: g + s}, with_operator=coupling)) for s in (step, -step))
    y_slope, u_slope = (up - down) / (2 * step), binder_slope(means.center)
    both = means.map(lambda m: np.array([binder(m), function(m)])).deviations()
    dg = -both[:, 0] / u_slope
    dy = both[:, 1] + y_slope * dg
    return (g, float(np.sqrt(dg @ dg))), (float(function(means.center)), float(np.sqrt(dy @ dy)))


def peak(reweighting, coupling, volume=None):
    """Largest connected susceptibility V (<m^2> - <|m|>^2): ``(coupling, error), (height, error)``.

    The coupling's deviations are -d(chi')/chi'' at the peak.  InputError where the peak lies at the end of reach.
    """
    from scipy.optimize import minimize_scalar

    V = reweighting.ensembles[0].volume if volume is None else volume
    columns = ("m2", "abs_magnetization")
    low, high = reweighting.reach(coupling)
    k = reweighting.names.index(coupling)
    wide = 20 / max(float(np.std(reweighting.operators[:, k])), 1e-300)  # reach may be endless on small lattices
    low, high = max(low, reweighting.couplings[:, k].min() - wide), min(high, reweighting.couplings[:, k].max() + wide)

    def chi(g):
        m = reweighting.center(columns, {coupling: g})
        return V * (m[0] - m[1] ** 2)

    points = np.linspace(low, high, 41)
    k = int(np.argmax([chi(g) for g in points]))
    if k in (0, len(points) - 1):
        raise InputError(f"peak of the susceptibility: at the end of what is within reach, {low:.6g} to {high:.6g}; "
                         "simulate beyond it")
    found = minimize_scalar(lambda g: -chi(g), bracket=tuple(points[k - 1 : k + 2]), tol=1e-10)
    g, step = float(found.x), (high - low) / 200
    curvature = (chi(g + step) - 2 * chi(g) + chi(g - step)) / step**2
    means = reweighting.means(columns, {coupling: g}, with_operator=coupling)

    def both(m):
        d2, d1 = -(m[3] - m[0] * m[2]), -(m[4] - m[1] * m[2])
        return np.array([V * (d2 - 2 * m[1] * d1), V * (m[0] - m[1] ** 2)])

    deviations = means.map(both).deviations()
    dg = -deviations[:, 0] / curvature
    return (g, float(np.sqrt(dg @ dg))), (float(chi(g)), float(np.sqrt(deviations[:, 1] @ deviations[:, 1])))


# ---- several lattices
def crossings(reweightings, coupling):
    """Binder crossings of neighboring sizes.

    Parameters
    ----------
    reweightings : dict of int to Reweighting
        By L.
    coupling : str

    Returns
    -------
    Crossings

    Raises
    ------
    InputError
        No pair crosses within what both lattices reach.
    """
    sizes, found, notes = sorted(reweightings), [], []
    for small, large in itertools.pairwise(sizes):
        a, b = reweightings[small], reweightings[large]
        try:
            g = _root(lambda x, a=a, b=b: binder_at(a, coupling, x) - binder_at(b, coupling, x), (a, b), coupling,
                      f"crossing of the Binder cumulants of L = {small} and {large}")
        except InputError as error:
            notes.append(str(error))
            continue
        slopes = [binder_slope(r.center(COLUMNS, {coupling: g}, with_operator=coupling)) for r in (a, b)]
        found.append((small, large, g, slopes[0] - slopes[1]))
    if not found:
        raise InputError(notes[0] if notes else "crossings need archives of at least two sizes")
    covariance = np.zeros((len(found), len(found)))
    for L in sizes:
        mine = [k for k, (small, large, *_) in enumerate(found) if L in (small, large)]
        rows = []
        for k in mine:
            small, _, g, difference = found[k]
            sign = 1 if L == small else -1
            u = reweightings[L].means(COLUMNS, {coupling: g}).map(binder)
            rows.append(-sign * u.deviations() / difference)
        if mine:
            rows = np.array(rows)
            covariance[np.ix_(mine, mine)] += rows @ rows.T
    errors = np.sqrt(np.diag(covariance))
    out = [Crossing(s, large, g, float(e), float(binder_at(reweightings[large], coupling, g)))
           for (s, large, g, _), e in zip(found, errors, strict=True)]
    return Crossings(out, covariance, notes)


def extrapolate(found, power=None):
    """g_c from crossings: ``g = g_c + a L^-power`` with the smaller size as L; generalized least squares.

    Without a power the crossings of large lattices are taken to agree (a = 0 from L_min on).  With a single crossing
    it stands for g_c itself, without degrees of freedom.

    Returns
    -------
    Scan
    """
    rows = found.rows
    g, L = np.array([c.coupling for c in rows]), np.array([c.small for c in rows], float)
    fits = []
    for k in range(len(rows)):
        n = len(rows) - k
        design = np.ones((n, 1))
        if power is not None and n > 1:
            design = np.column_stack([design, L[k:] ** -power])
        names = ("critical", "amplitude")[: design.shape[1]]
        fits.append(linear_fit(names, design, g[k:], found.covariance[k:, k:], tuple(c.small for c in rows[k:])))
    return choose(fits)


def scale(reweightings, coupling, *, binder_value=None, omega=None, nu=None):
    """Critical coupling and exponents from the same theory on several lattices.

    Parameters
    ----------
    reweightings : dict of int to Reweighting
        By L, at least 3 sizes (4 with a correction).
    coupling : str
        The coupling that is tuned.
    binder_value : float, optional
        U_f at which exponents are read off.  Default: U at the crossing of the two largest lattices.
    omega : float, optional
        Exponent of the leading correction, held fixed; None: pure power laws.
    nu : float, optional
        For the extrapolation of the crossings; default: the fitted one.

    Returns
    -------
    Scaling

    Raises
    ------
    InputError
        Too few sizes, no crossing within reach, or U_f out of reach on some lattice.

    Notes
    -----
    Cost: about 100 passes over the measurements of each lattice.  Every smallest size is tried; the numbers reported
    are averages over these fits, with the spread of the fits in the error.  All fits are kept in the scans.
    """
    sizes = sorted(reweightings)
    found = crossings(reweightings, coupling)
    value = found.rows[-1].binder if binder_value is None else float(binder_value)
    matched, slope, chi = {}, {}, {}
    for L in sizes:
        r = reweightings[L]
        V = r.ensembles[0].volume
        matched[L], slope[L] = at_binder(r, coupling, value, lambda m: abs(binder_slope(m)))
        _, chi[L] = at_binder(r, coupling, value, lambda m, V=V: V * m[0])
    slope_scan, chi_scan = scan_power(slope, omega), scan_power(chi, omega)
    (p, dp), (q, dq) = slope_scan.average, chi_scan.average
    notes = list(found.notes)
    for what, scan in (("slope of U", slope_scan), ("susceptibility", chi_scan)):
        if not scan.is_good:
            f = scan.chosen
            notes.append(f"{what}: no fit is acceptable (best chi^2/dof = {f.chi_squared:.3g}/{f.dof}): "
                         "larger lattices, or a correction to scaling (omega), are needed")
        elif scan.chosen.dof == 1:
            notes.append(f"{what}: the accepted fit has 1 degree of freedom")
    extrapolation = extrapolate(found, None if omega is None else (1 / nu if nu else p) + omega)
    if not extrapolation.is_good:
        notes.append("crossings: no extrapolation is acceptable; the last one stands alone")
    critical = extrapolation.average
    return Scaling(coupling, sizes, found, critical, extrapolation, value, matched, slope, chi, (1 / p, dp / p**2),
                   (2 - q, dq), slope_scan, chi_scan, omega, _curves(reweightings, coupling, critical[0], slope), notes)


def _curves(reweightings, coupling, center, slope, n=17):
    """U with its error on couplings where that of the middle size moves by 0.06 to either side, within reach."""
    sizes = sorted(reweightings)
    half = 0.06 / slope[sizes[len(sizes) // 2]][0]
    out = {}
    for L in sizes:
        low, high = reweightings[L].reach(coupling)
        g = np.linspace(max(low, center - half), min(high, center + half), n)
        if g[0] < g[-1]:
            u = [reweightings[L].means(COLUMNS, {coupling: x}).map(binder) for x in g[1:-1]]  # the ends round
            out[L] = (g[1:-1], np.array([float(v.center) for v in u]), np.array([float(v.error) for v in u]))
    return out
