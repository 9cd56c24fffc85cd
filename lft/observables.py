"""What is measured on a configuration: global, per site where intensive, identical on all ranks.

Sums over sites are exact (integers, or exactly rounded), so a measured series has the same bits on any number of
ranks.  An average over bonds runs over the pairs that exist: on an open axis, or beside an inactive site, the missing
pair is left out, not counted as zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft._kernels import halo, lines
from lft.geometry import Graph, Lattice

MAX_LAG = 64
"""Longest distance of the correlators that a run records."""

MAX_PROFILE = 512
"""Most planes along an axis whose mean field is recorded one by one."""


@dataclass(frozen=True)
class Site:
    """Moments of the mean field m = (1/V) sum phi: magnetization, abs_magnetization, m2, m4 of one configuration."""

    names = ("magnetization", "abs_magnetization", "m2", "m4")
    axes: tuple[str, ...] = ()
    doc: str = "m, |m|, m^2, m^4 with m = (1/V) sum_x phi_x over active sites"

    def measure(self, action, state):
        m = action.site_sum(state.phi) / state.phi.geometry.n_active
        return {"magnetization": m, "abs_magnetization": abs(m), "m2": m * m, "m4": m**4}


@dataclass(frozen=True)
class ChainMoments:
    """The same moments where the bins are independent chains: m_a = (1/N) sum_i phi_i^a, averaged over the chains a."""

    names = Site.names
    axes: tuple[str, ...] = ()
    doc: str = "m_a, |m_a|, m_a^2, m_a^4 with m_a = (1/N) sum_i phi_i^a, mean over the chains a"

    def measure(self, action, state):
        phi = state.phi
        m = phi.values.sum(axis=1, dtype=np.int64) / phi.geometry.n_units
        powers = zip(self.names, (m, np.abs(m), m**2, m**4), strict=True)
        return {name: phi.domain.sum_lines(values, name) / phi.geometry.n_bins for name, values in powers}


@dataclass(frozen=True)
class Bonds:
    """Mean of phi_x phi_(x+d) over the pairs that exist: ``bond_<axis>``, ``bond[d]`` for other displacements."""

    names: tuple[str, ...]
    counts: tuple[int, ...]
    axes: tuple[str, ...] = ()
    doc: str = "mean of phi_x phi_(x+d) over existing pairs"

    @classmethod
    def of(cls, action, geometry):
        displacements = action.displacements(geometry)
        if isinstance(geometry, Graph):
            counts = [
                geometry.n_units * max(0, geometry.n_bins - (k if geometry.boundary == "open" else 0))
                for k, _ in displacements
            ]
            return cls(tuple(f"lag_{k}" for k, _ in displacements), tuple(counts))
        units = dict(zip(geometry.unit_displacements(), geometry.axes, strict=True))
        names = [f"bond_{units[d]}" if d in units else f"bond[{','.join(map(str, d))}]" for d in displacements]
        return cls(tuple(names), tuple(geometry.count_bonds(d) for d in displacements))

    def measure(self, action, state):
        sums = action.bond_sums(state.phi)
        return {n: s / c for n, s, c in zip(self.names, sums, self.counts, strict=True) if c}


@dataclass(frozen=True)
class ActionDensity:
    """S/V."""

    names = ("action_density",)
    axes: tuple[str, ...] = ()
    doc: str = "action per active site"

    def measure(self, action, state):
        return {"action_density": action.S(state.phi) / state.phi.geometry.n_active}


@dataclass(frozen=True)
class Moments:
    """Mean phi^2 and phi^4 of a real field."""

    names = ("phi2", "phi4")
    axes: tuple[str, ...] = ()
    doc: str = "mean of phi^2 and of phi^4"

    def measure(self, action, state):
        second, fourth = action.moments(state.phi)
        n = state.phi.geometry.n_active
        return {"phi2": second / n, "phi4": fourth / n}


@dataclass(frozen=True)
class Rates:
    """Mean of phi per unit over the time bins."""

    names = ("rate",)
    axes: tuple[str, ...] = ("unit",)
    doc: str = "mean of phi over bins, per unit"

    def measure(self, action, state):
        return {"rate": action.site_time_sums(state.phi) / state.phi.geometry.n_bins}


@dataclass(frozen=True)
class Planes:
    """Zero-momentum two-point function and lowest modes along one axis.

    With the plane sums ``M(x) = sum_(transverse) phi`` over an axis of L planes,

        correlator_<axis>(r) = (1/V) (L / n_r) sum_x M(x) M(x+r),      n_r pairs of planes
        mode_<axis>          = (1/V) (sum_x cos(2 pi x/L) M(x), sum_x sin(2 pi x/L) M(x))
        structure_<axis>     = (1/V) (|M~(0)|^2, |M~(1)|^2),           M~(k) = sum_x exp(2 pi i k x/L) M(x)

    by FFT.  They are not connected: subtract with the means in the analysis.  Where planes differ (open ends,
    inactive sites, site fields) and there are at most ``MAX_PROFILE`` of them, ``profile_<axis>`` is the mean field
    of each plane, M(x) L/V, which that subtraction needs.
    """

    axis: str
    storage_axis: int
    is_periodic: bool
    is_uniform: bool
    axes: tuple[str, ...] = ("component",)
    doc: str = "plane sums along one axis: see lft.observables.Planes"

    @property
    def names(self):
        """The observables of this axis."""
        stems = ("correlator", "mode", "structure", *(() if self.is_uniform else ("profile",)))
        return tuple(f"{stem}_{self.axis}" for stem in stems)

    def measure(self, action, state):
        phi = state.phi
        M = plane_sums(action, phi, self.storage_axis)
        V, L = phi.geometry.n_active, len(M)
        x = 2 * np.pi * np.arange(L) / L
        mode = np.array([np.dot(np.cos(x), M), np.dot(np.sin(x), M)])
        profile = {} if self.is_uniform or L > MAX_PROFILE else {f"profile_{self.axis}": M * (L / V)}
        return profile | {
            f"correlator_{self.axis}": correlate(M, self.is_periodic) * (L / V),
            f"mode_{self.axis}": mode / V,
            f"structure_{self.axis}": np.array([M.sum() ** 2, (mode**2).sum()]) / V,
        }


def correlate(M, is_periodic, max_lag=MAX_LAG, other=None):
    """(1/n_r) sum_x M(x) M(x+r) for r = 0..min(L//2, max_lag), by FFT; ``other``: N(x) in place of M(x)."""
    L = len(M)
    size = L if is_periodic else 2 * L
    transform = np.fft.rfft(M, size)
    first = transform if other is None else np.fft.rfft(other, size)
    full = np.fft.irfft(np.conj(first) * transform, size)
    r = np.arange(min(L // 2, max_lag) + 1)
    return full[r] / (L if is_periodic else L - r)


def plane_sums(action, phi, axis):
    """Global sums of the field over the planes perpendicular to a storage axis: exact, the same on all ranks."""
    domain = phi.domain
    n, here = domain.shape[axis], domain.slices[axis]
    if phi.kind != "real":
        others = tuple(k for k in range(len(domain.shape)) if k != axis)
        sums = np.zeros(n, np.int64)
        held = None if phi.resident is None else phi.resident.plane_sums(axis)
        sums[here] = held if held is not None else phi.values.sum(axis=others, dtype=np.int64)
        return domain.sum_int(sums).astype(float)
    _, plan = action.bind(phi)
    limbs = np.zeros((n, halo.N_LIMBS), np.int64)
    local = np.zeros((domain.local_shape[axis], halo.N_LIMBS), np.int64)
    if axis == len(domain.shape) - 1:
        bad = halo.deposit_columns(np.ascontiguousarray(phi.values, np.float64).reshape(-1, plan.length), local)
    else:
        out = np.empty(len(plan.line_p))
        lines.line_sums(phi.flat(), plan.line_p, plan.length, out)
        group = np.indices(domain.local_shape[:-1])[axis].ravel().astype(np.intp)
        bad = halo.deposit(out, group, local)
    limbs[here] = local
    return domain.sum_limbs(limbs, bad, "field")


def default_observables(action, geometry):
    """What ``lft run`` measures for an action on a geometry."""
    if action.has_independent_bins:
        return [ChainMoments(), ActionDensity(), Rates(doc="mean of phi over chains, per unit")]
    out = [Bonds.of(action, geometry), Site(), ActionDensity()]
    if action.kind == "real":
        out.append(Moments())
    if isinstance(geometry, Lattice):
        planes = [(geometry.axes[user], k) for k, user in enumerate(geometry.storage_order)]
    else:
        out.append(Rates())
        planes = [("t", 0)]
    is_homogeneous = geometry.mask is None and not np.ndim(action.couplings.get("h", 0.0))
    for name, k in planes:
        if geometry.storage_shape[k] > 1:
            is_periodic = geometry.storage_periodic[k]
            out.append(Planes(name, k, is_periodic, is_periodic and (name == "t" or is_homogeneous)))
    return out


def observables_of(action, geometry, updater):
    """The default observables, and those that only this updater offers (``updater.observables``)."""
    offered = getattr(updater, "observables", None)
    return [*default_observables(action, geometry), *(offered(action, geometry) if offered else [])]


def measure_all(observables, action, state):
    """All values of one configuration, by name."""
    values = {}
    for observable in observables:
        values.update(observable.measure(action, state))
    return values
