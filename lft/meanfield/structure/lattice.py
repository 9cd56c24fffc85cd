"""Networks on a periodic lattice with a drive that depends on the site: each site a population, sums by FFT.

    mu(x)     = I + I(x) + sum_b sum_x' M_ab p_ab(x - x') m_b(x')
    frozen(x) = sum_b sum_x' p_ab(x - x') [V2 q_b + Vc (q_b - m_b^2)](x')          D(x, tau) likewise

with the gains and filters of :mod:`lft.meanfield.saddle.stationary_closed`; a connection without a profile sees the
mean over the sites. Where the drive is the same at all sites, so is the state, and the profile plays no part in it:
such a model is solved as one without a lattice. Distance-dependent ensembles on a lattice are a reconstruction of this
project; the FFT is checked against the same sites as populations with dense connections (:func:`as_populations`).

Memory: sites x lags; cost of an iteration: sites (L log L + gain), and L FFTs over space.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from lft.errors import ConvergenceError, InputError
from lft.meanfield.model import Connection, Gaussian, Model
from lft.meanfield.network.structured import displacement_table
from lft.meanfield.saddle.closed import mean_gain, pair_moment
from lft.meanfield.saddle.mixing import fixed_point
from lft.meanfield.saddle.stationary_closed import (
    DECAYED,
    MAX_POINTS,
    _exponential_behind,
    _Grid,
    _System,
    _tail,
    form_of,
    white_response,
)

MAX_STATE = 2**26
"""Entries of the state (sites x lags)."""


def sites_of(model):
    """The lattice's shape of a model on a lattice; all populations share it."""
    shapes = {p.sites.shape for p in model.populations if p.sites is not None}
    if len(shapes) != 1 or any(p.sites is None for p in model.populations):
        raise InputError("site_input: valid where all populations live on the same lattice")
    return shapes.pop()


def as_populations(model):
    """The same network with a population for every site and dense connections: for small lattices and checks.

    Parameters
    ----------
    model : Model
        All populations on one lattice; gaussian weights.
    """
    shape = sites_of(model)
    n = math.prod(shape)
    populations, connections = [], []
    for p in model.populations:
        drives = p.sites.drive or (0.0,) * n
        size = None if p.size is None else p.size // n
        populations += [
            dataclasses.replace(p, name=f"{p.name}{x}", input=p.input + d, size=size, sites=None)
            for x, d in enumerate(drives)
        ]
    for c in model.connections:
        table = np.full((n, n), 1.0 / n) if c.profile is None else displacement_table(c.profile, shape)
        for x in range(n):
            for y in range(n):
                weights = Gaussian(c.weights.mean * table[x, y], c.weights.std * math.sqrt(table[x, y]))
                connections.append(Connection(f"{c.source}{y}", f"{c.target}{x}", weights, c.delay, c.synapse))
    return Model(tuple(populations), tuple(connections), model.solve)


class LatticeSystem:
    """The map of all sites; the state holds m (sites), q (sites), F (sites, lags) of each population."""

    def __init__(self, model, grid):
        self.model, self.grid, self.shape = model, grid, sites_of(model)
        self.n = math.prod(self.shape)
        self.forms = [form_of(p.neuron) for p in model.populations]
        for p, form in zip(model.populations, self.forms, strict=True):
            if form is None:
                raise InputError(
                    f"population {p.name}: its neuron has no closed form; valid with site_input are rate, "
                    "binary and escape-rate neurons"
                )
        self.n_lags = len(grid.lags)
        self.width = self.n * (2 + self.n_lags)
        plain = dataclasses.replace(
            model, connections=(), populations=tuple(dataclasses.replace(p, sites=None) for p in model.populations)
        )
        self.plain = _System(plain, grid)
        self.drive = [p.drive(0.0) + np.array(p.sites.drive or np.zeros(self.n)) for p in model.populations]
        flat = np.full(self.shape, 1.0 / self.n)
        self.kernels = [
            np.fft.fftn(flat if c.profile is None else c.profile.table(self.shape)) for c in model.connections
        ]

    def parts(self, state, k):
        """(m, q, F) of a population: (sites,), (sites,), (sites, lags)."""
        own = state[k * self.width : (k + 1) * self.width]
        return own[: self.n], own[self.n : 2 * self.n], own[2 * self.n :].reshape(self.n, self.n_lags)

    def around(self, kernel, values):
        """``sum_x' p(x - x') values(x')`` for (sites,) or (sites, lags)."""
        whole = values.reshape(*self.shape, -1)
        axes = tuple(range(len(self.shape)))
        out = np.fft.ifftn(kernel[..., None] * np.fft.fftn(whole, axes=axes), axes=axes).real
        return out.reshape(values.shape)

    def _sites(self, state, k, function):
        """A function of the plain system's state, site by site."""
        m, q, own = self.parts(state, k)
        small = np.zeros(len(self.forms) * (2 + self.n_lags))
        at, out = k * (2 + self.n_lags), []
        for x in range(self.n):
            small[at], small[at + 1], small[at + 2 : at + 2 + self.n_lags] = m[x], q[x], own[x]
            out.append(np.array(function(small)))  # a copy: the function may return a view of the state
        return out

    def output(self, state, k):
        """Autocovariance of the output, (sites, lags)."""
        return np.array(self._sites(state, k, lambda s: self.plain.output(s, k)))

    def _filtered(self, state, b, taus):
        """Autocovariance of the output of population b behind the filters, (sites, lags)."""
        source, grid = self.forms[b], self.grid
        m, _, own = self.parts(state, b)
        if source.kind == "binary" and source.tau_out:

            def one(s):
                smooth, jump = self.plain.binary_parts(s, b)
                return grid.convolve(smooth, *taus) + jump * _exponential_behind(grid, source.tau_out, taus)

            return np.array(self._sites(state, b, one))
        if source.kind == "spikes":
            return np.array(
                [grid.convolve(f, *taus) + x * white_response(grid.lags, taus) for f, x in zip(own, m, strict=True)]
            )
        values = own if source.kind == "value" else self.output(state, b)
        return np.array([grid.convolve(f, *taus) for f in values])

    def inputs(self, state, k):
        """(mu, frozen variance, covariance by lag) of population k: (sites,), (sites,), (sites, lags)."""
        p, form = self.model.populations[k], self.forms[k]
        mu, frozen = self.drive[k].copy(), np.zeros(self.n)
        dynamic = np.tile(self.plain.fixed[k], (self.n, 1))
        for c, kernel in zip(self.model.connections, self.kernels, strict=True):
            if c.target != p.name:
                continue
            b, s = self.model.index(c.source), self.model.statistics(c)
            m, q, _ = self.parts(state, b)
            mu += s.mean * self.around(kernel, m)
            if s.variance:
                frozen += self.around(kernel, s.second * q + s.covariance * (q - m * m))
                taus = [t for t in (c.synapse, form.tau_in) if t > 0]
                dynamic += s.variance * self.around(kernel, self._filtered(state, b, taus))
        return mu, np.maximum(frozen, 0.0), dynamic

    def __call__(self, state):
        new = np.empty_like(state)
        for k, form in enumerate(self.forms):
            m, q, own = self.parts(new, k)
            mu, frozen, dynamic = self.inputs(state, k)
            variance = frozen + np.maximum(dynamic[:, 0], 0.0)
            m[:] = mean_gain(form.gain, mu, np.sqrt(variance))
            for x in range(self.n):
                lags = pair_moment(form.gain, mu[x], variance[x], np.append(frozen[x], frozen[x] + dynamic[x]))
                q[x], own[x] = lags[0], lags[1:] - lags[0]
        return new

    def start(self, scale, push):
        """All sites in the state that the model has without site_input."""
        small, damping = _start(self.model, self.grid, scale, push)
        state = np.empty(len(self.forms) * self.width)
        for k in range(len(self.forms)):
            at = k * (2 + self.n_lags)
            m, q, own = self.parts(state, k)
            m[:], q[:], own[:] = small[at], small[at + 1], small[at + 2 : at + 2 + self.n_lags]
        return state, damping


def _start(model, grid, scale, push):
    without = dataclasses.replace(
        model,
        populations=tuple(dataclasses.replace(p, sites=None) for p in model.populations),
        connections=tuple(dataclasses.replace(c, profile=None) for c in model.connections),
    )
    system = _System(without, grid)
    begin, damping = system.start(scale, push)
    try:
        return fixed_point(system, begin, damping=damping, tolerance=1e-6)[0], damping
    except ConvergenceError:
        return begin, damping


def solve_lattice(model, begin=(1.0, 0.0)):
    """Stationary state of a network on a lattice.

    Returns
    -------
    system : LatticeSystem
    state : ndarray
    history : list of float

    Raises
    ------
    InputError, ConvergenceError
        As :func:`lft.meanfield.saddle.stationary_closed.solve_closed`.
    """
    dt, n, start, history = model.solve.dt, 256, None, []
    while n * dt < 2 * model.solve.duration:
        n *= 2
    while True:
        grid = _Grid(n, dt)
        system = LatticeSystem(model, grid)
        if system.width * len(system.forms) > MAX_STATE:
            raise InputError(
                f"{system.n} sites and {n // 2} lags: valid are {MAX_STATE} numbers in all; a larger dt "
                "or a shorter duration"
            )
        state, damping = system.start(*begin)
        if start is not None:
            _take_over(system, state, *start)
        state, more = fixed_point(
            system, state, max_sweeps=max(model.solve.sweeps, 2000), damping=max(damping, model.solve.damping)
        )
        history += more
        slowest = max(_tail(half) for k in range(len(system.forms)) for half in system.output(state, k))
        if slowest < DECAYED:
            return system, state, history
        if 2 * n > MAX_POINTS:
            raise ConvergenceError(
                f"the autocovariance has not decayed after {n * dt / 2:g}: {slowest:.2g} of its "
                "start is left; take a larger dt, or another point than a transition",
                history,
            )
        n, start = 2 * n, (system, state)


def _take_over(system, state, old, old_state):
    """Start from the state on a smaller grid."""
    for k in range(len(system.forms)):
        for new, before in zip(system.parts(state, k), old.parts(old_state, k), strict=True):
            if new.ndim == 1:
                new[:] = before
            else:
                for x in range(system.n):
                    new[x] = np.interp(system.grid.lags, old.grid.lags, before[x], right=0.0)


def lattice_quantities(system, state, k, n):
    """Quantities of a population by name: averages over sites, and ``site_...`` by site in the lattice's shape.

    ``frozen_variance`` is that over all neurons: within sites and between them.
    """
    m, q, _ = system.parts(state, k)
    mu, frozen, dynamic = system.inputs(state, k)
    out = system.output(state, k)
    shape = system.shape
    within = q - m * m
    n = min(n, system.n_lags)
    state_variance = frozen + dynamic[:, 0]
    return {
        "mean": float(m.mean()),
        "state_mean": float(mu.mean()),
        "state_variance": float(np.mean(state_variance + mu**2) - mu.mean() ** 2),
        "output_variance": float(np.mean(q + out[:, 0]) - m.mean() ** 2),
        "frozen_variance": float(np.mean(q) - m.mean() ** 2),
        "autocovariance": out.mean(axis=0)[:n],
        "state_autocovariance": dynamic.mean(axis=0)[:n],
        "site_mean": m.reshape(shape).copy(),
        "site_frozen_variance": within.reshape(shape),
        "site_output_variance": (within + out[:, 0]).reshape(shape),
        "site_state_mean": mu.reshape(shape),
        "site_state_variance": state_variance.reshape(shape),
    }


def spread_by_distance(solution, name, window=0.0):
    """Variance over pairs of the covariance of two neurons, by the displacement of their sites.

    Parameters
    ----------
    solution : Solution
        Of a model on a lattice without ``site_input``, with one population of a size.
    name : str
    window : float, optional
        0: the limit of long windows, covariances of time integrals per time; the only value there is.

    Returns
    -------
    ndarray
        Array of the lattice's shape, ``Var C_ij(0, 0)`` of time-integrated outputs.
    """
    from lft.meanfield.fluctuations.spread import ring_spread

    model = solution.model
    p = model.population(name)
    if len(model.populations) != 1 or p.sites is None or p.size is None or window:
        raise InputError("spread by distance: valid for one population on a lattice, with a size, and window = 0")
    slope = float(solution.populations[name]["response"][0])
    own = solution.populations[name]["autocovariance"][0]
    dt = float(solution.axis[1] - solution.axis[0])
    power = dt * (2 * own.sum() - own[0])
    profile = np.zeros(p.sites.shape)
    for c in model.connections:
        table = np.full(p.sites.shape, 1.0 / p.sites.n) if c.profile is None else c.profile.table(p.sites.shape)
        profile += model.statistics(c).variance * table
    return ring_spread(slope, slope, profile, power, power) / (p.size // p.sites.n)
