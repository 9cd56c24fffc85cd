"""Fluctuations of finite networks around any stationary solution, sampled or closed, whatever the neurons.

The response R_a(w) of a neuron is measured along the input paths of the solution
(:mod:`lft.meanfield.fluctuations.response`); with the solution's own autocovariance A_a it gives

    Cov(w)  = (1 - R M)^-1 diag(A/N) (1 - R M)^-H          covariances of the populations' means, order 1/N
    Var c_ij                                               their spread over pairs, order 1/N
    radius  = sqrt(max |eig(R_a(0)^2 V_ab)|)               of the random part, at rest

(:mod:`~lft.meanfield.fluctuations.covariance`, :mod:`~lft.meanfield.fluctuations.spread`); M between binary neurons
holds the feedback through the variance of the input (:mod:`~lft.meanfield.fluctuations.feedback`).  The closed forms of
:mod:`~lft.meanfield.fluctuations.covariance_closed` are the same sandwich with R known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lft.errors import InputError
from lft.meanfield.fluctuations.covariance import (
    couplings,
    determinant,
    population_spectrum,
    spectral_radius,
    spectrum_to_covariance,
    winding,
)
from lft.meanfield.fluctuations.feedback import of_solution
from lft.meanfield.fluctuations.response import response
from lft.meanfield.fluctuations.spread import equal_time_spread
from lft.meanfield.saddle.paths import circulant_paths, frozen_offsets
from lft.meanfield.saddle.stationary import Grid, Inputs
from lft.meanfield.saddle.two_time import System
from lft.rng import Stream

PARTITIONS = 8
"""Independent measurements of the responses, whose scatter is the error."""
MEMORY = 8.0
"""Longest lag of a response in units of the neuron's timescale."""


@dataclass(frozen=True)
class FiniteSize:
    """Fluctuations of a finite network.

    Attributes
    ----------
    omega : ndarray (F,)
        Angular frequencies, order of ``numpy.fft.fftfreq``.
    response : ndarray (P, F)
    population_spectrum : ndarray (F, P, P) or None
    population_covariance : (ndarray (P, P), error) or None
        At equal times; None for unstable states and for spikes (a delta function at lag 0).
    pair_spread : (ndarray (P, P), error) or None
        Variance over pairs of the equal-time covariance, where asked for; not for spikes.
    spectral_radius : (float, float)
    notes : list of str
    """

    omega: np.ndarray
    response: np.ndarray
    population_spectrum: np.ndarray | None
    population_covariance: tuple | None
    pair_spread: tuple | None
    spectral_radius: tuple
    notes: list = field(default_factory=list)


def finite_size(solution, *, samples=16384, n_lags=None, method="common-noise", seed=1, spread=False):
    """Covariances of populations and their spread over pairs, by measured responses.

    Parameters
    ----------
    solution : lft.meanfield.result.Solution
        Stationary; every population with a size.
    samples : int, optional
        Paths in all.
    n_lags : int, optional
        Longest lag of the response in steps; default 8 times the neuron's timescale.
    method : str, optional
        Of :func:`lft.meanfield.fluctuations.response.response`.
    seed : int, optional
    spread : bool, optional
        Also the spread over pairs, a sum over all pairs of frequencies for each of 10 estimates.

    Returns
    -------
    FiniteSize

    Raises
    ------
    InputError
        The solution is not stationary, or a population has no size.

    Notes
    -----
    Cost: that of two sweeps with as many samples, for each population.
    """
    model = solution.model
    if solution.mode != "stationary":
        raise InputError(f"mode = {solution.mode!r}: valid is a stationary solution")
    missing = [p.name for p in model.populations if p.size is None]
    if missing:
        raise InputError(f"population {missing[0]!r} has no size: covariances of a finite network need one")
    system = System(model)
    grid = Grid(model, system.runners)
    dt, sizes = grid.dt, np.array([p.size for p in model.populations])
    omega = 2 * np.pi * np.fft.fftfreq(grid.period, dt)
    power, power_error = _powers(solution, grid)
    weights, notes = of_solution(model, solution.populations)
    mean, (_, variance) = couplings(model, omega, weights), model.matrices()
    measured = [
        _responses(solution, system, grid, omega, samples // PARTITIONS, n_lags, method, (seed << 8) | part)
        for part in range(PARTITIONS)
    ]
    whole = np.mean(measured, axis=0)
    radii = [spectral_radius(variance, r[:, 0].real) for r in measured]
    radius = (spectral_radius(variance, whole[:, 0].real), float(np.std(radii, ddof=1)) / PARTITIONS**0.5)
    spiking = any(system.point)
    half = grid.period // 2
    turns = winding(determinant(whole[:, :half], mean[:half]))
    if turns:
        return FiniteSize(
            omega,
            whole,
            None,
            None,
            None,
            radius,
            [*notes, f"det(1 - R M) winds {turns} times around 0: the populations oscillate or run away together"],
        )
    spectrum = population_spectrum(whole, mean, power, sizes)
    covariance = over_pairs = None
    if not spiking:
        at_zero = lambda r, a: spectrum_to_covariance(population_spectrum(r, mean, a, sizes), dt)[0]  # noqa: E731
        covariance = _with_error(at_zero, whole, measured, power, power_error)
        if spread and radius[0] < 1:
            at_pairs = lambda r, a: equal_time_spread(omega, r, np.array(variance), a, sizes)  # noqa: E731
            try:
                over_pairs = _with_error(at_pairs, whole, measured, power, power_error)
            except InputError as error:
                notes.append(f"no spread over pairs: {error}")
    if radius[0] >= 1:
        notes.append(f"the spectral radius of R R V is {radius[0]:.3g}: pair covariances are not those of linear units")
    return FiniteSize(omega, whole, spectrum, covariance, over_pairs, radius, notes)


def _with_error(function, whole, measured, power, power_error):
    """Value from the mean response; error from the scatter of responses and the errors of A, taken as one shift."""
    value = function(whole, power)
    scatter = np.std([function(r, power) for r in measured], axis=0, ddof=1) / np.sqrt(len(measured))
    shift = np.abs(function(whole, power + power_error) - value)
    return value, np.hypot(scatter, shift)


def _powers(solution, grid):
    """A_a(w) >= 0 of every population on the full period, and its error."""
    values, errors = [], []
    for p in solution.model.names:
        lags, error = solution.populations[p]["autocovariance"]
        spectra = [grid.dt * grid.spectrum(x) for x in (lags, lags + error)]
        whole = [np.concatenate([s, s[-2:0:-1]]) for s in spectra]
        values.append(np.maximum(whole[0], 0.0))
        errors.append(np.abs(whole[1] - whole[0]) / np.sqrt(len(lags)))  # independent lags, not one shift
    return np.array(values), np.array(errors)


def _responses(solution, system, grid, omega, samples, n_lags, method, seed):
    """R_a(w) of every population, (P, F)."""
    state = []
    for p in solution.model.names:
        q = solution.populations[p]
        state += [np.array([q["mean"][0]]), np.array([q["frozen_variance"][0]]), q["autocovariance"][0], np.zeros(2)]
    inputs, out = Inputs(system, grid), []
    for a, p in enumerate(solution.model.populations):
        mu, frozen, power, white, _ = inputs(a, state)
        smooth = np.maximum(power - white / grid.dt, 0.0)
        memory = n_lags or round(
            MEMORY * max(float(getattr(system.runners[a].neuron, "timescale", 0.0)), 5 * grid.dt) / grid.dt
        )
        memory = min(memory, grid.window)
        length = min(grid.warmup + max(grid.window, memory), grid.period)

        def paths(key, m, mu=mu, frozen=frozen, smooth=smooth, steps=length):
            h = circulant_paths(smooth, steps, key, m) + mu
            return h + np.sqrt(frozen) * frozen_offsets(key, m, Stream.MEANFIELD_STATIC) if frozen else h

        measured = response(
            p.neuron,
            grid.dt,
            paths,
            memory,
            white=white,
            method=method,
            warmup=grid.warmup,
            samples=samples,
            seed=seed * 1024 + a,
            kick=0.2 * np.sqrt(max(float(power.mean()) + frozen, 1e-300)),
        )
        out.append(measured.spectrum(omega)[0])
    return np.array(out)
