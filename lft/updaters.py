"""Markov kernels that leave exp(-S) invariant, each a deterministic function of (state, key)."""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np

from lft._kernels import lines, overrelax
from lft.actions import Phi4
from lft.clusters import SwendsenWang, Wolff
from lft.errors import InputError
from lft.integrators import scheme
from lft.protocols import Info, State
from lft.rng import Stream


def _need_kind(updater, action, kinds):
    if action.kind not in kinds:
        raise InputError(
            f"update {updater.name!r} works on fields of kind {' or '.join(kinds)}; action {action.name!r} has kind "
            f"{action.kind!r}: valid are {', '.join(n for n, u in UPDATERS.items() if action.kind in u.kinds)}"
        )


def _need_double(updater, phi):
    if phi.data.dtype == np.float32:
        raise InputError(f"update {updater.name!r}: the generic loops need a float64 field, this one is float32")


def _sweep(updater, action, state, key, stream, *options):
    """Visit all color classes; the halo is refreshed after each, so a later class sees the new values."""
    started = time.perf_counter()
    phi = state.phi
    _need_double(updater, phi)
    kernel, plan = action.bind(phi)
    flat, accepted = phi.data.reshape(-1), 0
    for segments in plan.classes:
        arguments = (plan.step, plan.active, state.t, int(stream), key.word, plan.buffer)
        accepted += action.loops.sweep(kernel, flat, segments, *arguments, *options)
        phi.exchange()
    info = Info(plan.n_active_local, accepted, 0.0, time.perf_counter() - started)
    return State(phi, state.t + 1), info


class Metropolis:
    """Single-site Metropolis: propose, accept with probability min(1, exp(-dS)).

    Binary fields propose the flip; real fields ``phi + width (2 u - 1)`` with u uniform.  Sites of one color class do
    not interact, so their order is free and the sweep leaves exp(-S) invariant.  Where no site has more than two
    neighbors half of the flips that cost nothing are refused: else the chain would not be ergodic (``lft.ties``).

    Parameters
    ----------
    width : float
        Half width of the proposal of real fields, > 0.
    """

    name, kinds = "metropolis", ("spin", "gas", "real")
    streams = (Stream.METROPOLIS,)

    def __init__(self, width=1.0):
        if not np.isfinite(width) or width <= 0:
            raise InputError(f"width = {width!r}: valid is a finite number > 0")
        self.width = float(width)

    def __repr__(self):
        return f"Metropolis(width={self.width})"

    def step(self, action, state, key):
        """One sweep."""
        _need_kind(self, action, self.kinds)
        if action.kind == "real":
            return _sweep(self, action, state, key, Stream.METROPOLIS, self.width)
        return _sweep(self, action, state, key, Stream.METROPOLIS, False, action.halves_ties(state.phi.geometry))


class HeatBath:
    """Single-site heat bath of binary fields: P(phi = high | rest) = 1 / (1 + exp(S(high) - S(low))).

    ``accepted`` counts the sites whose value changed.
    """

    name, kinds = "heatbath", ("spin", "gas")
    streams = (Stream.HEATBATH,)

    def __repr__(self):
        return "HeatBath()"

    def step(self, action, state, key):
        """One sweep."""
        _need_kind(self, action, self.kinds)
        return _sweep(self, action, state, key, Stream.HEATBATH, True)


class HMC:
    """Hybrid Monte Carlo (Duane, Kennedy, Pendleton, Roweth, Phys. Lett. B 195, 216 (1987)).

    Gaussian momenta, a trajectory of ``steps`` symplectic steps of total ``length``, accepted with probability
    min(1, exp(-dH)).  dH is one exactly rounded sum over all sites, so every rank takes the same decision on any
    number of ranks.  A trajectory whose energy is no longer finite has probability 0 and is rejected.

    Parameters
    ----------
    steps : int
        Integration steps per trajectory, >= 1.
    length : float
        Duration of a trajectory, > 0.
    integrator : {"leapfrog", "omelyan2", "omelyan4"}
    """

    name, kinds = "hmc", ("real",)
    streams = (Stream.MOMENTUM, Stream.ACCEPT)

    def __init__(self, steps=10, length=1.0, integrator="leapfrog"):
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise InputError(f"steps = {steps!r}: valid is an integer >= 1")
        if not np.isfinite(length) or length <= 0:
            raise InputError(f"length = {length!r}: valid is a finite number > 0")
        self.steps, self.length, self.scheme = steps, float(length), scheme(integrator)

    def __repr__(self):
        return f"HMC(steps={self.steps}, length={self.length}, integrator={self.scheme.name!r})"

    def momenta(self, action, state, key):
        """Standard normal momenta on the padded local array."""
        _, plan = action.bind(state.phi)
        mom = plan.scratch("momenta", state.phi.data)
        arguments = (mom.reshape(-1), plan.line_p, plan.line_site, plan.line_q, plan.length, plan.active)
        lines.momenta(*arguments, state.t, int(Stream.MOMENTUM), key.word, plan.buffer[0])
        return mom

    def integrate(self, action, phi, mom):
        """Move (phi, mom) along one trajectory, in place."""
        kernel, plan = action.bind(phi)
        flat = phi.data.reshape(-1), mom.reshape(-1)
        for kick, drift in self.scheme.pairs(self.steps, self.length / self.steps):
            where = (plan.line_p, plan.line_q, plan.length)
            action.loops.kick_drift(kernel, *flat, *where, kick, drift, plan.active, plan.reach)
            if drift:
                phi.exchange()

    def energy_lines(self, action, phi, mom):
        """Share of H = mom^2/2 + S of each local line, as two arrays."""
        _, plan = action.bind(phi)
        kinetic = np.empty(len(plan.line_p))
        lines.squares(mom.reshape(-1), plan.line_p, plan.length, 0.5, kinetic)
        return np.concatenate([kinetic, action.action_lines(phi)])

    def step(self, action, state, key):
        """One trajectory."""
        _need_kind(self, action, self.kinds)
        _need_double(self, state.phi)
        started = time.perf_counter()
        phi = state.phi
        _, plan = action.bind(phi)
        old = plan.scratch("old field", phi.data)
        old[...] = phi.data
        mom = self.momenta(action, state, key)
        before = self.energy_lines(action, phi, mom)
        with np.errstate(over="ignore", invalid="ignore"):
            self.integrate(action, phi, mom)
            after = self.energy_lines(action, phi, mom)
        is_finite = bool(np.isfinite(after).all())
        if phi.domain.any(not is_finite):
            dH = np.inf
        else:
            dH = phi.domain.sum_lines(np.concatenate([after, -before]), "energy change of the trajectory")
        is_accepted = dH < key.exponential(state.t, Stream.ACCEPT)
        if not is_accepted:
            phi.data[...] = old
        # proposals are counted in sites, so that every updater's acceptance is a ratio over the local block
        accepted = plan.n_active_local if is_accepted else 0
        info = Info(plan.n_active_local, accepted, dH, time.perf_counter() - started)
        return State(phi, state.t + 1), info


class Overrelax:
    """Overrelaxation of :class:`lft.actions.Phi4`: reflect sites about a center that their neighbors fix.

        phi_x -> 2 c(f_x) - phi_x,   f_x = sum_d kappa_d (phi_(x+d) + phi_(x-d)),   accepted with min(1, exp(-dS))

    The reflection is its own inverse and preserves the measure, so detailed balance holds for any function c.  Here c
    is the center of the Gaussian that fits the site's conditional density best by itself: with v its variance,

        f = c (u - 2 lambda + 6 lambda v + 2 lambda c^2),   1/v = 2 (u - 2 lambda) + 12 lambda (c^2 + v)

    with u = 1 the coefficient of phi^2 (own derivation: the cubic force averaged over the Gaussian).  At lambda = 0
        flat, couplings = phi.data.reshape(-1), action.couplings
        table, scale = reflection_centers(couplings["lam"], couplings["unit"])
    does not, ``Sequence([HMC(), Overrelax(4)])``.

    Parameters
    ----------
    sweeps : int
        Sweeps per update, 1 to 256.
    """

    name, kinds = "overrelax", ("real",)
    streams = (Stream.OVERRELAX,)

    def __init__(self, sweeps=1):
        if isinstance(sweeps, bool) or not isinstance(sweeps, int) or not 1 <= sweeps <= 256:
            raise InputError(f"sweeps = {sweeps!r}: valid is an integer from 1 to 256")
        self.sweeps = sweeps

    def __repr__(self):
        return f"Overrelax(sweeps={self.sweeps})"

    def step(self, action, state, key):
        """``sweeps`` sweeps."""
        if not isinstance(action, Phi4):
            raise InputError(f"update {self.name!r} works on the action phi4, not on {action.name!r}")
        started = time.perf_counter()
        phi, accepted = state.phi, 0
        kernel, plan = action.bind(phi)
        flat, couplings = phi.data.reshape(-1), action.couplings
        table, scale = reflection_centers(couplings["lam"], couplings["unit"])
        for number in range(self.sweeps):
            for segments in plan.classes:
                counter = (state.t, int(Stream.OVERRELAX), number, key.word, plan.buffer[0])
                accepted += overrelax.sweep(kernel, flat, segments, plan.step, plan.active, *counter, table, scale)
                phi.exchange()
        info = Info(self.sweeps * plan.n_active_local, accepted, 0.0, time.perf_counter() - started)
        return State(phi, state.t + 1), info


@lru_cache(maxsize=64)
def reflection_centers(lam, unit=1.0, n=512):
    """(c at f = 0, 1/scale, 2/scale, ..., scale) of :class:`Overrelax`; sums, products and roots only, so that the
    table has the same bits on every processor."""
    c = np.arange(4097) / 1024.0
    a = unit - 2.0 * lam + 6.0 * lam * c * c
    v = 1.0 / (a + np.sqrt(a * a + 12.0 * lam))
    f = np.maximum.accumulate(c * (unit - 2.0 * lam + 6.0 * lam * v + 2.0 * lam * c * c))
    scale = n / float(f[-1])
    target = np.arange(n) / scale
    k = np.searchsorted(f, target, side="right") - 1
    return c[k] + (target - f[k]) / (f[k + 1] - f[k]) * (c[k + 1] - c[k]), scale


class Sequence:
    """Several updates, one after the other, as one update.

    ``Info`` holds the counts and the energy change of the first.  Two members must not draw the same random numbers:
    give a member more sweeps instead of repeating it.

    Parameters
    ----------
    updaters : sequence of updaters
    """

    name = "sequence"

    def __init__(self, updaters):
        self.updaters = tuple(updaters)
        if not self.updaters:
            raise InputError("Sequence([]): valid is at least one update")
        seen = {}
        for updater in self.updaters:
            for stream in getattr(updater, "streams", ()):
                if stream in seen:
                    raise InputError(
                        f"Sequence: {seen[stream]!r} and {updater!r} draw the same random numbers (stream "
                        f"{stream.name}): give each kind of update once"
                    )
                seen[stream] = updater
        self.kinds = tuple(k for k in self.updaters[0].kinds if all(k in u.kinds for u in self.updaters))
        self.streams = tuple(seen)

    def __repr__(self):
        return f"Sequence([{', '.join(map(repr, self.updaters))}])"

    def step(self, action, state, key):
        """Each update once."""
        started = time.perf_counter()
        infos = [updater.step(action, state, key)[1] for updater in self.updaters]
        return State(state.phi, state.t + 1), infos[0]._replace(seconds=time.perf_counter() - started)

    def observables(self, action, geometry):
        """Those of the last update: what it saw is what is measured."""
        return getattr(self.updaters[-1], "observables", lambda *_: [])(action, geometry)


UPDATERS = {u.name: u for u in (Metropolis, HeatBath, HMC, Wolff, SwendsenWang)}
"""Updaters by the name used in configurations."""


STARTS = ("hot", "cold", "silent")


def start(phi, name, key):
    """Fill a field.

    ============  ==================================================================
    ``"hot"``     independent sites: fair coins, real fields standard normal
    ``"cold"``    ordered: spins +1, gas and real fields 0
    ``"silent"``  no spike anywhere: spins -1, gas and real fields 0
    ============  ==================================================================

    Numbers belong to global sites.  The equilibrium does not depend on the start, the time to reach it does: a theory
    fitted to sparse spikes often has a second, dense phase, where a hot start stays.
    """
    if name not in STARTS:
        raise InputError(f"start {name!r}: valid are {', '.join(STARTS)}")
    values, domain = phi.values, phi.domain
    if name != "hot":
        values[...] = (1 if name == "cold" else -1) if phi.kind == "spin" else 0
    else:
        # axes behind the last one that is cut are whole here: their sites have consecutive global numbers
        outer = max((k for k, ranks in enumerate(domain.grid) if ranks > 1), default=0) + 1
        n = int(np.prod(domain.shape[outer:]))
        kind = "normal" if phi.kind == "real" else "uniform"
        for index in np.ndindex(*domain.local_shape[:outer]):
            where = tuple(i + s.start for i, s in zip(index, domain.slices, strict=False))
            first = int(np.ravel_multi_index(where, domain.shape[:outer])) * n
            u = key.fill(kind, first, 1, n, 0, Stream.START)[0].reshape(domain.shape[outer:])
            values[index] = u if phi.kind == "real" else np.where(u < 0.5, 1, -1 if phi.kind == "spin" else 0)
    mask = phi.local_mask()
    if mask is not None:
        values[...] = values * mask
    phi.exchange()
