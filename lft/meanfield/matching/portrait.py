"""What a stationary solution says of its network: one set of numbers for every model, so that models can be compared.

    timescale           int_0^inf A(tau) dtau / A(0), of the output and of the state
    spectrum            S(f) = int A(tau) exp(-2 pi i f tau) dtau; spikes: with the white part
    variance            int S |F|^2 df,  F the average over a window (0: the output itself)
    bulk_radius         sqrt(spectral radius of V_ab R_a(0)^2): 1 is the transition by heterogeneity
    mean_loop           largest real part of the eigenvalues of R(0) M: 1 is the transition of the means
    unstable_modes      zeros of det(1 - R M) that grow (Nyquist)
    population_covariance, pair_mean                 (1 - R M)^-1 diag(A/N) (1 - R M)^-H
    coherence           |S_ab|^2/(S_aa S_bb) of the population means at frequency 0; ``coherence_spectrum``, for pairs
                        a < b by frequency, is a curve
    pair_spread         Var(c_ij) over pairs,  :mod:`lft.meanfield.fluctuations.spread`
    participation       PR/N = (sum c_ii)^2/N / (sum c_ii^2 + sum_(i != j) c_ij^2) of the whole network

From ``R_a(w) = R_a(0)/((1 + i w tau_in)(1 + i w tau_out))`` of neurons whose gain acts on a Gaussian variable (or a
step's delay, where updates are synchronous); a solution without responses has the quantities up to the variance.
Standard results of linear response; several populations in ``pair_spread`` are a reconstruction
(:mod:`lft.meanfield.fluctuations.spread`). The heterogeneity of
c_ii is of higher order and left out of the participation ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lft.errors import InputError
from lft.meanfield.fluctuations.covariance import (
    coherence,
    couplings,
    determinant,
    pair_covariance,
    population_spectrum,
    spectral_radius,
    unstable_modes,
    winding,
)
from lft.meanfield.fluctuations.feedback import of_solution
from lft.meanfield.fluctuations.spread import equal_time_spread
from lft.meanfield.saddle.stationary_closed import form_of
from lft.meanfield.solver import solve
from lft.meanfield.structure.closed import private_power, shared_spectrum

SCALARS = (
    "mean",
    "state_mean",
    "state_variance",
    "output_variance",
    "frozen_variance",
    "variance",
    "timescale",
    "state_timescale",
    "fano",
    "response",
)
MATRICES = ("population_covariance", "coherence", "pair_mean", "pair_spread")
WHOLE = ("participation", "spectral_radius", "bulk_radius", "mean_loop", "unstable_modes", "lyapunov")
CURVES = ("autocovariance", "state_autocovariance", "spectrum")
BY_PAIR = "coherence_spectrum"
MAX_FREQUENCIES = 1500
"""Frequencies of the double integral of the spread; more are thinned out to equal steps."""


@dataclass(frozen=True)
class Portrait:
    """Numbers of one model.

    Attributes
    ----------
    names : tuple of str
        Populations.
    values : dict
        ``{name: (value, error)}``: arrays (P,) for SCALARS, (P, P) for MATRICES, floats for WHOLE.
    lags, frequencies : ndarray
        Frequencies in cycles per time.
    curves : dict
        ``{name: (value (P, L), error)}``; ``spectrum`` and ``coherence_spectrum`` by frequency, the others by lag.
    window : float
    notes : tuple of str
    solution : object
        What it is of (None for a recording).
    """

    names: tuple
    values: dict
    lags: np.ndarray
    frequencies: np.ndarray
    curves: dict
    window: float = 0.0
    notes: tuple = ()
    solution: object = field(default=None, repr=False)

    def __contains__(self, name):
        return name in self.values

    def __getitem__(self, name):
        """(value, error) of a name."""
        if name not in self.values:
            raise InputError(f"statistic {name!r}: valid are {', '.join(self.values)}")
        return self.values[name]


def portrait(model, comm=None, window=0.0, start="guess"):
    """Solve a model and describe it.

    Parameters
    ----------
    model : Model
        Mode ``stationary``.
    comm : communicator, optional
    window : float, optional
        Time over which outputs are averaged before variances and covariances of pairs; needed for spikes.
    start : str, optional
        As in :func:`lft.meanfield.solver.solve`.

    Returns
    -------
    Portrait

    Raises
    ------
    InputError, ConvergenceError
        As :func:`lft.meanfield.solver.solve`.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.matching.portrait import portrait
    >>> from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
    >>> from lft.meanfield.neurons import Rate
    >>> cells = Population("x", Rate("linear", noise=1.0))
    >>> quiet = portrait(Model((cells,), (Connection("x", "x", Gaussian(0.0, 0.5)),), Solve("stationary", 0.05, 60.0)))
    >>> [np.round(quiet[name][0], 3).item() for name in ("bulk_radius", "state_variance")]
    [0.5, 1.155]
    """
    if model.solve is None or model.solve.mode != "stationary":
        raise InputError("mode: valid for a comparison of models is 'stationary'")
    return describe(solve(model, comm, start), window)


def describe(solution, window=0.0):
    """The :class:`Portrait` of a stationary solution.

    Errors of what is derived are what a shift of all values by their errors, at once, changes (an upper bound in first
    order, for errors of one sign as for noise), and a third of what every second lag changes.
    """
    if solution.mode != "stationary":
        raise InputError(f"mode = {solution.mode!r}: valid for a comparison of models is 'stationary'")
    if not (window >= 0 and math.isfinite(window)):
        raise InputError(f"window = {window!r}: valid is a number >= 0")
    model = solution.model
    parts = [solution.populations[p.name].quantities for p in model.populations]
    values = {}
    for name in SCALARS:
        if all(name in q for q in parts):
            values[name] = tuple(np.array([float(q[name][k]) for q in parts]) for k in (0, 1))
    curves = {}
    for name in CURVES[:2]:
        if all(name in q for q in parts):
            curves[name] = tuple(np.array([q[name][k] for q in parts]) for k in (0, 1))
    notes = list(solution.notes)
    base, more = _derived(solution, values, curves, window, 0.0)
    shifted, _ = _derived(solution, values, curves, window, 1.0)
    coarse, _ = _derived(solution, values, curves, window, 0.0, 2)
    notes += more
    frequencies = base.pop("frequencies")
    for name, value in base.items():
        error = np.full(np.shape(value), math.nan)
        if name in shifted and name in coarse:
            other = np.asarray(coarse[name])
            if name in ("spectrum", BY_PAIR):  # frequencies beyond those of the coarse grid: as at its last one
                other = np.array([np.interp(frequencies, coarse["frequencies"], row) for row in other])
                beyond = frequencies > coarse["frequencies"][-1]
                other[:, beyond] = value[:, beyond]
            error = np.abs(np.asarray(shifted[name]) - value) + np.abs(other - value) / 3
        if name in ("spectrum", BY_PAIR):
            curves[name] = (value, error)
        else:
            values[name] = (value, error)
    for name in ("spectral_radius", "lyapunov"):
        if name in solution.network:
            values[name] = solution.network[name]
    return Portrait(model.names, values, solution.axis, frequencies, curves, window, tuple(notes), solution)


def _derived(solution, values, curves, window, shift, stride=1):
    """(quantities, notes) with every input moved by ``shift`` errors, from every ``stride``-th lag."""
    model, lags = solution.model, solution.axis[::stride]
    dt = float(lags[1] - lags[0])
    moved = {k: v + shift * e for k, (v, e) in values.items()}
    moved.update({k: (v + shift * e)[:, ::stride] for k, (v, e) in curves.items()})
    spiking = np.array([bool(getattr(p.neuron, "is_point_process", False)) for p in model.populations])
    own = moved["autocovariance"].copy()
    delta = np.where(spiking, moved["mean"], 0.0)
    if solution.method != "closed":  # sampled spikes hold their delta function in lag 0, a closed form leaves it out
        own[spiking, 0] = own[spiking, 1]
    out, notes = {}, []
    omega, power = spectrum_of(own, dt)
    power = power + delta[:, None]
    negative = float(-power[power < 0].sum() / max(power[power > 0].sum(), 1e-300))
    if negative > 0.01:
        notes.append(f"{negative:.1%} of the power of the outputs came out negative and was cut: a longer duration")
    power = np.maximum(power, 0.0)
    half = slice(0, len(lags))
    out["frequencies"], out["spectrum"] = np.abs(omega[half]) / (2 * np.pi), power[:, half]
    if not spiking.any():
        out["timescale"] = _integral(own, dt)
    else:
        out["fano"] = power[:, 0] / np.maximum(moved["mean"], 1e-300)
    if "state_autocovariance" in moved:
        out["state_timescale"] = _integral(moved["state_autocovariance"], dt)
    seen = power * np.sinc(omega * window / (2 * np.pi)) ** 2
    has_variance = window > 0 or not spiking.any()
    if has_variance:
        out["variance"] = seen.mean(axis=1) / dt if window else own[:, 0]
    elif shift == 0:
        notes.append("spikes have no variance at one time: give a window (a bin width) for variances and pairs")
    if any(c.symmetry for c in model.connections):
        if shift == 0:
            notes.append("partially symmetric weights: no fluctuations of populations and pairs")
    elif "response" in moved:
        populations = {p: {k: (v[a], 0.0) for k, v in moved.items() if k in SCALARS} for a, p in enumerate(model.names)}
        weights, more = of_solution(model, populations)
        notes += more
        _fluctuations(model, moved["response"], weights, omega, power, seen, out, notes, has_variance, dt)
    return out, notes


def spectrum_of(half, dt):
    """(angular frequencies in the order of an FFT, power (P, F)) of autocovariances (P, L) by lag from 0 on.

    >>> w, s = spectrum_of(np.exp(-0.01 * np.arange(4000))[None], 0.01)
    >>> round(float(s[0, 0]), 3)
    2.0
    """
    whole = np.concatenate([half, half[:, -2:0:-1]], axis=1)
    return 2 * np.pi * np.fft.fftfreq(whole.shape[1], dt), np.fft.fft(whole, axis=1).real * dt


def _integral(half, dt):
    """``int_0^inf A/A(0)`` by the trapezoidal rule; 0 where nothing moves."""
    start = half[:, 0]
    area = dt * (half.sum(axis=1) - 0.5 * start)
    return np.divide(area, start, out=np.zeros_like(area), where=np.abs(start) > 1e-14)


def response_of(model, static, omega, dt):
    """R_a(w), (P, F): the static response behind the filters of the neuron, or None where these are not known.

    ``dt`` is the step of neurons that are updated together.
    """
    out = []
    for p, s in zip(model.populations, static, strict=True):
        form = form_of(p.neuron)
        if form is None:
            return None
        out.append(s * form.answer(omega, dt))
    return np.array(out)


def _fluctuations(model, static, weights, omega, power, seen, out, notes, has_variance, dt):
    """Stability, covariances of populations and pairs, dimension."""
    response = response_of(model, static, omega, dt)
    if response is None:
        return
    variance = np.array(model.matrices()[1])
    coupling = couplings(model, omega, weights)
    mean_weights = couplings(model, np.zeros(1), weights)[0].real
    out["bulk_radius"] = spectral_radius(variance, static)
    out["mean_loop"] = float(np.max(np.linalg.eigvals(static[:, None] * mean_weights).real))
    try:
        out["unstable_modes"] = float(_growing(model, omega, response, coupling))
    except InputError as error:
        notes.append(f"unstable modes: {error}")
    sizes = [p.size for p in model.populations]
    if not has_variance or out.get("unstable_modes", 0.0):
        return
    if any(s is None for s in sizes):
        if len(sizes) > 1:
            notes.append("pairs and dimension: give every population a size")
            return
        spread = _spread(omega, response, variance, seen, np.ones(1), notes)
        if spread is not None and np.max(np.abs(mean_weights)) == 0:
            own = out["variance"][0]
            out["participation"] = float(own**2 / (own**2 + spread[0, 0]))
        return
    sizes = np.array(sizes, float)
    common = shared_spectrum(model, omega) if model.shared else None
    private = private_power(model, omega, response, power)
    spectrum = population_spectrum(response, coupling, private, sizes, common)
    window = np.divide(seen[0], power[0], out=np.ones_like(seen[0]), where=power[0] > 0)
    covariance = np.einsum("f,fab->ab", window, spectrum).real / len(omega) / dt
    out["population_covariance"] = covariance
    out["pair_mean"] = pair_covariance(covariance, out["variance"], sizes)
    if len(sizes) > 1:
        with np.errstate(invalid="ignore"):  # nan where there is no power at all
            whole = coherence(spectrum[: len(power[0]) // 2 + 1]).real
        out["coherence"] = whole[0]
        out[BY_PAIR] = whole[(slice(None), *np.triu_indices(len(sizes), 1))].T
    spread = _spread(omega, response, variance, window * private, sizes, notes)
    if spread is not None:
        out["pair_spread"] = spread
        square = spread + out["pair_mean"] ** 2
        pairs = np.einsum("a,ab,b->", sizes, square, sizes) - sizes @ np.diag(square)
        own = out["variance"]
        out["participation"] = float((sizes @ own) ** 2 / sizes.sum() / (sizes @ own**2 + pairs))


def _growing(model, omega, response, coupling):
    """Number of growing modes; where neurons are updated together time is discrete and no frequency is the largest."""
    if not any(form_of(p.neuron).is_discrete for p in model.populations):
        return unstable_modes(omega, response, coupling)
    half = slice(0, len(omega) // 2 + 1)
    return winding(determinant(response[:, half], coupling[half]))


def _spread(omega, response, variance, seen, sizes, notes):
    """Spread of the covariances of pairs; None beyond the transition."""
    keep = np.arange(len(omega))
    heavy = np.flatnonzero((seen > 1e-7 * seen.max(axis=1, keepdims=True)).any(axis=0))
    highest = np.abs(omega[heavy]).max()
    keep = keep[np.abs(omega) <= highest]
    step = max(1, len(keep) // MAX_FREQUENCIES)
    if step > 1:  # frequency 0 and both signs stay
        number = np.rint(omega[keep] / np.abs(omega[1])).astype(int)
        keep = keep[number % step == 0]
    # equal_time_spread takes the step between neighbors of the list: in ascending order
    keep = keep[np.argsort(omega[keep])]
    try:
        return equal_time_spread(omega[keep], response[:, keep], variance, seen[:, keep], sizes)
    except InputError as error:
        notes.append(f"spread of pairs: {error}")
        return None
