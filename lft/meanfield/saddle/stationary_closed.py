"""Stationary solution without sampling, for neurons whose gain acts on a Gaussian variable.

A neuron says what it is by ``closed_form``, a :class:`GainForm`: the summed input, low-pass filtered with ``tau_in``
and joined by private noise, is a stationary Gaussian process x with mean mu, frozen variance s and covariance
``D(tau)``; then::

    m = E phi(x),     q = E phi phi (covariance s),     F(tau) = E phi phi (covariance s + D(tau)) - q
    A(tau) = F(tau)                                             rate neuron
    A(tau) = K * F + (<y^2> - q - (K * F)(0)) exp(-|tau|/T)     binary, updated at rate 1/T (K = exp(-|tau|/T)/2T)
    A(tau) = F(tau) off zero, A(0) = <y^2> - q                  binary, updated synchronously
    A(tau) = m delta(tau) + F(tau)                              spikes of intensity phi

and ``D = sum V kappa kappa * A`` through the filter, ``s = sum V2 q + Vc (q - m^2)``.  The binary form solves
``A - T^2 A'' = F``: the equation of a rate neuron with noise that makes up for the jumps (derivation of this project).

Functions of the lag live on a periodic grid that grows until the covariance has decayed.  Filters act in continuous
time (Lorentzians), white noise by its exact covariance: dt is a resolution, not a step, and the error in it is second
order, estimated by solving with 2 dt as well.
"""

from __future__ import annotations

import math

import numpy as np

from lft.errors import ConvergenceError, InputError
from lft.meanfield.neurons.forms import GainForm
from lft.meanfield.saddle.closed import mean_gain, pair_moment
from lft.meanfield.saddle.mixing import fixed_point
from lft.meanfield.structured import structure_of

MAX_POINTS = 2**20
DECAYED = 1e-5
FARTHEST = 12
"""Power of 2 up to which inputs are tried from which outputs might hold themselves."""


def form_of(neuron):
    """The GainForm of a neuron, or None."""
    form = getattr(neuron, "closed_form", None)
    return form if isinstance(form, GainForm) else None


def has_closed_form(model):
    """True if every population can be solved without sampling."""
    return all(form_of(p.neuron) is not None for p in model.populations)


def exponential(lags, tau):
    """``exp(-|t|/tau)/(2 tau)``."""
    return np.exp(-lags / tau) / (2 * tau)


def two_exponentials(lags, a, b):
    """The convolution of ``exponential`` with time constants a and b."""
    if abs(a - b) < 1e-6 * max(a, b):
        return (1 + lags / a) * np.exp(-lags / a) / (4 * a)
    return (a * np.exp(-lags / a) - b * np.exp(-lags / b)) / (2 * (a * a - b * b))


def white_response(lags, taus):
    """Covariance of unit white noise behind one or two low-pass filters."""
    taus = [t for t in taus if t > 0]
    if not taus:
        raise InputError(
            "white noise (or unfiltered spikes) acts on a gain without a filter, so that its variance is infinite: "
            "give the connection a synapse, or the noise a tau"
        )
    return exponential(lags, taus[0]) if len(taus) == 1 else two_exponentials(lags, *taus[:2])


class _Grid:
    """Lags of a periodic grid of n points and the filters on it."""

    def __init__(self, n, dt):
        self.n, self.dt = n, dt
        self.lags = dt * np.arange(n // 2 + 1)
        self.omega = 2 * np.pi * np.arange(n // 2 + 1) / (n * dt)

    def convolve(self, half, *taus):
        """A symmetric function of the lag (its half) behind low-pass filters, in continuous time."""
        power = np.ones_like(self.omega)
        for tau in taus:
            power = power / (1 + (self.omega * tau) ** 2)
        spectrum = np.fft.rfft(self.whole(half)).real * power
        return np.fft.irfft(spectrum, self.n)[: self.n // 2 + 1]

    def whole(self, half):
        return np.concatenate([half, half[-2:0:-1]])


class _System:
    """The map of all populations on one grid; the state vector holds (m, q, F at the lags) of each."""

    def __init__(self, model, grid):
        self.model, self.grid = model, grid
        self.forms = [form_of(p.neuron) for p in model.populations]
        self.width = 2 + len(grid.lags)
        for p, form in zip(model.populations, self.forms, strict=True):
            if form is None:
                raise InputError(f"population {p.name}: its neuron has no closed form; valid is method = 'sampling'")
        self.fixed = [self._external(k) for k in range(len(self.forms))]

    def _external(self, k):
        """Covariance of x that does not depend on the state."""
        lags, p, form = self.grid.lags, self.model.populations[k], self.forms[k]
        out = np.zeros_like(lags)
        for intensity, tau in (form.noise, (p.white, 0.0)):
            if intensity:
                out += intensity * white_response(lags, (form.tau_in, tau))
        if p.colored is not None:
            out += p.colored.intensity * white_response(lags, (p.colored.tau, form.tau_in))
        return out

    def parts(self, state, k):
        return state[k * self.width], state[k * self.width + 1], state[k * self.width + 2 : (k + 1) * self.width]

    def inputs(self, state, k):
        """(mu, frozen variance, covariance by lag) of the Gaussian variable x of population k."""
        p, form, grid = self.model.populations[k], self.forms[k], self.grid
        mu, frozen, dynamic = p.drive(0.0), 0.0, self.fixed[k].copy()
        for c in self.model.into(p.name):
            b, s = self.model.index(c.source), self.model.statistics(c)
            m, q, own = self.parts(state, b)
            source = self.forms[b]
            mu += s.mean * m
            frozen += s.second * q + s.covariance * (q - m * m)
            if not s.variance:
                continue
            taus = [t for t in (c.synapse, form.tau_in) if t > 0]
            if source.kind == "value" or (source.kind == "binary" and not source.tau_out):
                dynamic += s.variance * grid.convolve(self.output(state, b), *taus)
            elif source.kind == "spikes":
                dynamic += s.variance * (grid.convolve(own, *taus) + m * white_response(grid.lags, taus))
            else:
                smooth, jump = self.binary_parts(state, b)
                dynamic += s.variance * grid.convolve(smooth, *taus)
                dynamic += s.variance * jump * _exponential_behind(grid, source.tau_out, taus)
        return mu, max(frozen, 0.0), dynamic

    def binary_parts(self, state, b):
        """Smooth part of the autocovariance of an asynchronous binary population, and the weight of its exponential."""
        m, q, own = self.parts(state, b)
        form = self.forms[b]
        smooth = self.grid.convolve(own, form.tau_out)
        return smooth, self.square(m, form) - q - smooth[0]

    @staticmethod
    def square(m, form):
        """<y^2> of a binary neuron with mean m."""
        low, high = form.levels
        return low**2 + (m - low) / (high - low) * (high**2 - low**2)

    def output(self, state, b):
        """Autocovariance A of the output by lag (without the delta function of spikes)."""
        m, q, own = self.parts(state, b)
        form = self.forms[b]
        if form.kind != "binary":
            return own
        if form.tau_out:
            smooth, jump = self.binary_parts(state, b)
            return smooth + jump * np.exp(-self.grid.lags / form.tau_out)
        out = own.copy()
        out[0] = self.square(m, form) - q
        return out

    def __call__(self, state):
        new = np.empty_like(state)
        for k, form in enumerate(self.forms):
            mu, frozen, dynamic = self.inputs(state, k)
            variance = frozen + max(dynamic[0], 0.0)
            at = k * self.width
            new[at] = mean_gain(form.gain, mu, math.sqrt(variance))
            lags = pair_moment(form.gain, mu, variance, np.append(frozen, frozen + dynamic))
            new[at + 1] = lags[0]
            new[at + 2 : at + self.width] = lags[1:] - lags[0]
        return new

    def outputs(self, mu, std):
        """Mean output of every population for Gaussian variables of these means and standard deviations, (P,)."""
        return np.array([float(mean_gain(f.gain, x, s)) for f, x, s in zip(self.forms, mu, std, strict=True)])

    def relaxed(self, scale, push=0.0, most=600):
        """(m, variance) of populations whose Gaussian variables have no memory, after at most so many small steps.

        ``push`` = -1 and 1 begin from inputs far below and above: as far as the outputs there would hold them.
        """
        populations, model = self.model.populations, self.model
        mean = np.array(model.matrices()[0])
        drive = np.array([p.drive(0.0) for p in populations])
        variance = scale * np.array([max(sum(model.statistics(c).variance for c in model.into(p.name)), 1e-4)
                                     for p in populations])
        far = push * (np.abs(mean).sum(axis=1) + 5.0 * np.sqrt(variance))
        for factor in 2.0 ** np.arange(FARTHEST, 0, -1) if push else ():
            held = np.abs(mean) @ np.abs(self.outputs(drive + factor * far, np.sqrt(variance)))
            if np.isfinite(held).all() and np.any(held >= factor * np.abs(far)):
                far = factor * far
                break
        m = self.outputs(drive + far, np.sqrt(variance))
        slow, most = (0.03, most) if mean.any() else (0.5, 40)  # strong inhibition saturates under larger steps
        for _ in range(most):
            mu, std = drive + mean @ m, np.sqrt(variance)
            change = self.outputs(mu, std) - m
            m = m + slow * change
            variance = variance + slow * (self._input_variance(m, mu, std, scale) - variance)
            if not np.isfinite(m).all() or np.abs(change).max() <= 1e-8 * np.abs(m).max():
                break
        return m, variance

    def start(self, scale, push=0.0):
        """(state, damping) to begin with: Gaussian variables of a variance set by ``scale``, means that agree with it.

        ``push`` = -1 and 1 begin with means from far below and above: the low and the high one of several states.

        The damping is what the mean loop needs: with slopes S and mean weights M, plain iteration overshoots where
        S M has an eigenvalue below -1 (strong inhibition).
        """
        m, variance = self.relaxed(scale, push)
        mean, outputs = np.array(self.model.matrices()[0]), self.outputs
        drive = np.array([p.drive(0.0) for p in self.model.populations])
        mu, std = drive + mean @ m, np.sqrt(variance)
        slope = (outputs(mu + 0.1 * std, std) - outputs(mu - 0.1 * std, std)) / (0.2 * std)
        if not np.isfinite(slope).all():
            raise ConvergenceError("the mean outputs run away from the start: no state of finite rates was found", [])
        alpha = min(1.0, 1.2 / (1.0 + max(-np.linalg.eigvals(slope[:, None] * mean).real.min(), 0.2)))
        state = np.zeros(len(self.forms) * self.width)
        for k, form in enumerate(self.forms):
            slow = max(form.tau_in + form.tau_out, 2 * self.grid.dt) * 2
            total = pair_moment(form.gain, mu[k], std[k] ** 2, np.array([0.0, std[k] ** 2]))
            at = k * self.width
            state[at], state[at + 1] = m[k], total[0]
            state[at + 2 : at + self.width] = (total[1] - total[0]) * np.exp(-self.grid.lags / slow)
        return state, 1.0 - alpha

    def _input_variance(self, m, mu, std, scale):
        """Variance of the summed inputs without frozen part, times ``scale``, for :meth:`start`."""
        out = np.zeros(len(self.forms))
        for c in self.model.connections:
            a, b, s = self.model.index(c.target), self.model.index(c.source), self.model.statistics(c)
            form = self.forms[b]
            if form.kind == "binary":
                square = self.square(m[b], form)
            else:
                square = float(pair_moment(form.gain, mu[b], std[b] ** 2, np.array([std[b] ** 2]))[0])
            out[a] += scale * (s.second * square + s.covariance * (square - m[b] ** 2))
        return np.maximum(out + [fixed[0] for fixed in self.fixed], 1e-8)


def _exponential_behind(grid, tau_out, taus):
    """``exp(-|t|/tau_out)`` behind low-pass filters, exact for one filter."""
    if not taus:
        return np.exp(-grid.lags / tau_out)
    if len(taus) == 1:
        return 2 * tau_out * two_exponentials(grid.lags, tau_out, taus[0])
    return grid.convolve(2 * tau_out * two_exponentials(grid.lags, tau_out, taus[0]), *taus[1:])


def _kind(model):
    """The map of a model: this one, or that of a structured network."""
    if not structure_of(model):
        return _System
    from lft.meanfield.structure.closed import StructuredSystem

    return StructuredSystem


def _solve_on(model, n, dt, start, begin, settings):
    """State on a grid of n points; ``start`` is (grid, state) of a smaller grid or None."""
    grid = _Grid(n, dt)
    system = _kind(model)(model, grid)
    state, damping = system.start(*begin)
    damping = max(damping, settings.damping)
    if start is not None:
        old = start[0]
        for k in range(len(system.forms)):
            m, q, own = old.parts(start[1], k)
            at = k * system.width
            state[at], state[at + 1] = m, q
            state[at + 2 : at + system.width] = np.interp(grid.lags, old.grid.lags, own, right=0.0)
        state[system.width * len(system.forms) :] = start[1][old.width * len(old.forms) :]
    state, history = fixed_point(system, state, max_sweeps=max(settings.sweeps, 2000), damping=damping)
    return system, state, history


def solve_closed(model, begin=(1.0, 0.0)):
    """Stationary state of a model whose neurons all have a :class:`GainForm`.

    Parameters
    ----------
    model : Model
        With ``solve`` settings.
    begin : tuple of float, optional
        Order of the variance to begin with, and -1, 0 or 1 for means from below, from the drive, or from above: several
        starts find several stable states.

    Returns
    -------
    system : object
        Grid and map; ``system.inputs(state, k)``, ``system.output(state, k)``.
    state : ndarray
    history : list of float

    Raises
    ------
    ConvergenceError
        No convergence, or a covariance that does not decay on the largest grid.
    """
    settings = model.solve
    dt, n, start, history = settings.dt, 256, None, []
    while n * dt < 2 * settings.duration:
        n *= 2
    while True:
        system, state, more = _solve_on(model, n, dt, start, begin, settings)
        history += more
        slowest = max(_tail(system.output(state, k)) for k in range(len(system.forms)))
        if slowest < DECAYED:
            return system, state, history
        if 2 * n > MAX_POINTS:
            raise ConvergenceError(
                f"the autocovariance has not decayed after {n * dt / 2:g} (the largest lag on {n} points): "
                f"{slowest:.2g} of its start is left; take a larger dt, or another point than a transition", history
            )
        n, start = 2 * n, (system, state)


def _tail(half):
    size = abs(half[0])
    return float(np.max(np.abs(half[-len(half) // 8 :])) / size) if size > 1e-12 else 0.0
