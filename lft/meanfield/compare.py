"""Theory beside the finite network, number by number.

    z = (network - theory)/sqrt(error_network^2 + error_theory^2)

The network's error comes from independent draws of its weights (from 3 draws on; else from segments of time, and then
says so), the theory's from its sampling.  Differences of order 1/N are real: a precise simulation of a small network
has a large z where theory and network agree to a few per cent, so that the relative difference stands beside it.

Spectra are compared by bands, whose errors on both sides are those of the band and not of its frequencies: over draws
(or, of fewer than three, with the correlation of neighboring frequencies of a Hann window), and over replicas of the
theory.  The theory's spectrum is what the network's estimator sees of it, through the same window and bins.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.meanfield.network.run import simulate_network
from lft.meanfield.solver import solve

PER_POPULATION = ("mean", "heterogeneity", "static", "state_variance", "pair_variance", "participation")
PER_PAIR = ("mean_pair_covariance", "pair_mean", "pair_spread")
CURVES = ("autocovariance", "second")
SPECTRA = ("spectrum",)
SPREAD_OF = ("spectrum_replicas",)  # (R, P, F): for errors of means over frequencies
N_POINTS = 7  # lags or bands of a curve in the table
HANN = (1.0, (2 / 3) ** 2, (1 / 6) ** 2)
"""Correlation of the power at frequencies 0, 1 and 2 apart behind a Hann window."""


@dataclass(frozen=True)
class Row:
    """One number of theory and network."""

    name: str
    where: str
    theory: float
    theory_error: float
    network: float
    network_error: float

    @property
    def z(self):
        """Difference in standard errors; nan without an error."""
        error = math.hypot(0.0 if math.isnan(self.theory_error) else self.theory_error, self.network_error)
        return (self.network - self.theory) / error if error > 0 else math.nan

    @property
    def relative(self):
        """Difference over the theory; nan where that is 0 within its error or within rounding."""
        noise = 0.0 if math.isnan(self.theory_error) else self.theory_error
        is_zero = abs(self.theory) <= max(noise, 1e-12 * abs(self.network), 1e-14)
        return math.nan if is_zero else (self.network - self.theory) / abs(self.theory)


@dataclass(frozen=True)
class NetworkComparison:
    """What :func:`compare` returns.

    Attributes
    ----------
    rows : tuple of Row
    statistics : NetworkStatistics
    theory : dict
        Arrays of the theory by the names of the statistics, each (value, error).
    notes : tuple of str
    """

    rows: tuple
    statistics: object
    theory: dict
    notes: tuple = ()

    def row(self, name, where=None):
        """The first row of a name (and place)."""
        found = [r for r in self.rows if r.name == name and where in (None, r.where)]
        if not found:
            raise InputError(f"row {name!r}: valid are {', '.join(sorted({r.name for r in self.rows}))}")
        return found[0]

    def bands(self, edges):
        """Rows of the mean spectrum in bands of frequency, population by population.

        Parameters
        ----------
        edges : sequence of float
            Ascending; a band holds the network's frequencies from one edge to below the next.

        Raises
        ------
        InputError
            No spectrum on one side, or a band without a frequency.
        """
        if "spectrum" not in self.theory or "spectrum" not in self.statistics.values:
            raise InputError("bands: theory and network need a spectrum")
        names = self.statistics.model.names
        return tuple(_bands(names, self.theory, self.statistics, np.asarray(edges, float)))

    def table(self):
        """Text, one line for each number."""
        head = ("quantity", "where", "theory", "error", "network", "error", "diff %", "z")
        lines = [head]
        for r in self.rows:
            lines.append((
                r.name, r.where, f"{r.theory:.6g}", _short(r.theory_error), f"{r.network:.6g}",
                _short(r.network_error), _or_dash(100 * r.relative, ".2f"), _or_dash(r.z, ".1f"),
            ))
        widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
        left = ("<", "<", *(">" * 6))
        text = ["  ".join(f"{c:{s}{w}}" for c, s, w in zip(line, left, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([*text, *(f"note: {n}" for n in self.notes)])

    def as_json(self):
        """Plain numbers."""
        rows = [{**dataclasses.asdict(r), "z": r.z, "relative": r.relative} for r in self.rows]
        for row in rows:
            row.update({k: None for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)})
        return {"rows": rows, "notes": list(self.notes), "error_from": self.statistics.error_from,
                "method": self.statistics.method}


def within(rows, relative=0.05, errors=2.0):
    """Share of rows that differ by no more than ``relative`` of the theory and ``errors`` standard errors.

    With ``errors = 0`` the share that is inside alone; errors of theory and network are taken together.

    >>> rows = [Row("spectrum", "x", 1.0, 0.0, 1.06, 0.01), Row("spectrum", "x", 1.0, 0.0, 1.08, 0.01)]
    >>> within(rows, 0.05, 0.0), within(rows, 0.05, 2.0)
    (0.0, 0.5)
    """
    inside = [abs(r.network - r.theory) <= relative * abs(r.theory)
              + errors * math.hypot(0.0 if math.isnan(r.theory_error) else r.theory_error, r.network_error)
              for r in rows]
    return sum(inside) / len(inside)


def _short(x):
    return _or_dash(x, ".2g")


def _or_dash(x, form):
    return "-" if math.isnan(x) else f"{x:{form}}"


def resize(model, size):
    """The model with populations of other sizes.

    Parameters
    ----------
    model : Model
    size : int or dict of str to int
        Of the only population, or of each by name; an int for several populations is their sum, shared out in
        proportion to the sizes they have.

    Raises
    ------
    InputError
        A size below 2, an unknown name, or no sizes to go by.
    """
    names = model.names
    if isinstance(size, dict):
        unknown = [n for n in size if n not in names]
        if unknown:
            raise InputError(f"size of {unknown[0]!r}: valid are {', '.join(names)}")
        sizes = [size.get(p.name, p.size) for p in model.populations]
    elif len(names) == 1:
        sizes = [size]
    else:
        if any(p.size is None for p in model.populations):
            raise InputError(f"N = {size}: give a size to each of the populations {', '.join(names)}")
        old = [p.size for p in model.populations]
        edges = [round(size * sum(old[: k + 1]) / sum(old)) for k in range(len(old))]
        sizes = [b - a for a, b in zip([0, *edges[:-1]], edges, strict=True)]
    for name, n in zip(names, sizes, strict=True):
        if isinstance(n, bool) or not isinstance(n, int) or n < 2:
            raise InputError(f"population {name!r}: size {n!r}; valid is an integer >= 2")
    populations = tuple(dataclasses.replace(p, size=n) for p, n in zip(model.populations, sizes, strict=True))
    return dataclasses.replace(model, populations=populations)


def default_simulation(model):
    """Times of a simulation from the settings of the solver and the time scales of the neurons."""
    settings = model.solve
    if settings is None:
        raise InputError("the model has no [solve]: give duration, warmup, max_lag and dt")
    slowest = max(
        [float(getattr(p.neuron, "timescale", 1.0)) for p in model.populations]
        + [c.delay + c.synapse for c in model.connections]
    )
    max_lag = settings.max_lag or min(10.0 * slowest, settings.duration / 2)
    return {"duration": max(10.0 * settings.duration, 80.0 * max_lag), "warmup": 40.0 * slowest, "max_lag": max_lag}


def compare(model, size, theory=None, **simulation):
    """Solve a model, simulate its network, and set the two side by side.

    Parameters
    ----------
    model : Model
    size : int or dict
        Size of the network (:func:`resize`); the theory is that of the resized model.
    theory : callable, mapping or object, optional
        Default :func:`lft.meanfield.solver.solve`.  ``theory(model)`` or what it would return: a stationary
        :class:`lft.meanfield.result.Solution`, or a mapping from names of statistics
        (:class:`lft.meanfield.network.run.NetworkStatistics`) to values or pairs of value and error, in which
        ``"lags"`` and ``"frequencies"`` are the places of the curves.  ``population_covariance`` (P, P) is the one at
        equal times.
    **simulation
        Arguments of :func:`lft.meanfield.network.run.simulate_network`; duration, warmup and max_lag default to
        :func:`default_simulation`.

    Returns
    -------
    NetworkComparison

    Examples
    --------
    >>> from lft.meanfield.compare import compare
    >>> from lft.meanfield.model import Connection, Gaussian, Model, Population
    >>> from lft.meanfield.neurons.rate import Rate
    >>> cells = Population("x", Rate(gain="linear", noise=1.0))
    >>> model = Model((cells,), (Connection("x", "x", Gaussian(0.0, 0.3)),))
    >>> both = compare(model, 100, {"mean": [0.0]}, dt=0.1, duration=60.0, warmup=5.0, max_lag=1.0, draws=4)
    >>> abs(both.row("mean").z) < 10
    True
    """
    model = resize(model, size)
    if not {"duration", "warmup", "max_lag"} <= set(simulation):
        simulation = {**default_simulation(model), **simulation}
    found = (theory or solve)(model) if theory is None or callable(theory) else theory
    return beside(found, simulate_network(model, **simulation))


def beside(theory, statistics):
    """A theory and a measured network as one NetworkComparison.  Arguments: :func:`compare`."""
    arrays = theory
    if hasattr(theory, "populations"):
        arrays = {**solution_arrays(theory), **_solution_spectrum(theory, statistics)}
    places = {key: np.asarray(arrays[key], float) for key in ("lags", "frequencies") if key in arrays}
    pairs = {k: _with_error(v) for k, v in arrays.items() if k not in (*places, *SPREAD_OF)}
    spreads = {k: np.asarray(arrays[k], float) for k in SPREAD_OF if k in arrays}
    names, rows, notes = statistics.model.names, [], [f"theory: {n}" for n in getattr(theory, "notes", ())]
    for name, (value, error) in pairs.items():
        if name not in statistics.values:
            notes.append(f"{name}: the network was not asked for it")
        elif name in PER_POPULATION:
            rows += _rows(name, names, value, error, statistics[name])
        elif name in PER_PAIR:
            rows += _pair_rows(name, names, value, error, statistics[name].value, statistics[name].error)
        elif name == "population_covariance" and value.ndim == 2:
            now, measured = len(statistics.lags) - 1, statistics[name]
            rows += _pair_rows(name, names, value, error, measured.value[now], measured.error[now])
        elif name in CURVES + SPECTRA:
            axis = "lags" if name in CURVES else "frequencies"
            if axis not in places:
                raise InputError(f"{name}: the theory gives no {axis}")
            if name in CURVES:
                rows += _curve(name, names, places[axis], value, error, statistics)
            else:
                rows += _bands(names, {**pairs, **places, **spreads}, statistics)
        else:
            notes.append(f"{name}: has no rows here")
    if statistics.error_from == "time":
        notes.append("errors of the network are from segments of time: the scatter over weights is not in them")
    return NetworkComparison(tuple(rows), statistics, {**pairs, **places, **spreads}, tuple(notes))


def solution_arrays(solution):
    """What a stationary solution says of the statistics of a network, as :func:`compare` takes it.

    Spikes: lag 0 of the autocovariance is left out, its value depends on the bins; the variance of the state is left
    out as well where the neuron does not say what its state is.
    """
    if solution.mode != "stationary":
        raise InputError(f"mode = {solution.mode!r}: valid is 'stationary'; compare transients by simulate_transient")
    found = [solution.populations[p.name].quantities for p in solution.model.populations]
    spiking = any(getattr(p.neuron, "is_point_process", False) for p in solution.model.populations)
    out = {"lags": solution.axis}
    for key, name in (("mean", "mean"), ("frozen_variance", "heterogeneity"), ("state_variance", "state_variance"),
                      ("autocovariance", "autocovariance")):
        if all(key in q for q in found) and not (spiking and key == "state_variance"):
            out[name] = tuple(np.array([q[key][k] for q in found], dtype=float) for k in (0, 1))
    if "population_covariance" in solution.network:
        pair = solution.network["population_covariance"]
        out["population_covariance"] = tuple(np.array(v, dtype=float) for v in pair)
    if spiking and "autocovariance" in out:
        out["lags"] = out["lags"][1:]
        out["autocovariance"] = tuple(a[:, 1:] for a in out["autocovariance"])
    return out


def _with_error(value):
    """(value, error) as arrays; a value alone has the error nan."""
    if isinstance(value, tuple):
        v, e = (np.asarray(x, float) for x in value)
        return v, np.broadcast_to(e, v.shape)
    v = np.asarray(value, float)
    return v, np.full(v.shape, np.nan)


def _rows(name, names, value, error, measured):
    return [
        Row(name, n, float(value[a]), float(error[a]), float(measured.value[a]), float(measured.error[a]))
        for a, n in enumerate(names)
    ]


def _pair_rows(name, names, *four):
    """Rows of a matrix over populations: theory and its error, network and its error."""
    where = [f"{a}, {b}" for a in names for b in names]
    return [Row(name, w, *map(float, n)) for w, *n in zip(where, *(x.ravel() for x in four), strict=True)]


def _solution_spectrum(solution, statistics):
    """Spectra of a stationary solution as the network's estimator sees them, {} where it has no lags for that.

    ``S(f) = dt [x(0) + 2 sum_k x(t_k) cos(2 pi f t_k)]``, x the autocovariance times that of the Hann window; bins
    take ``sinc^2`` off what is not white in spikes.  The error of a closed solution is the sum of those of the lags.
    """
    found = [solution.populations[p.name].quantities for p in solution.model.populations]
    if "spectrum" not in statistics.values or not all("autocovariance" in q for q in found):
        return {}
    lags, f = solution.axis, statistics.frequencies
    dt, length = float(lags[1] - lags[0]), float(1.0 / f[1])
    n = round(length / dt)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
    window = np.fft.irfft(np.abs(np.fft.rfft(hann, 2 * n)) ** 2, 2 * n)[:n]
    kernel = 2.0 * dt * np.cos(2 * np.pi * np.outer(f, lags[:n]))
    kernel[:, 0] *= 0.5
    kernel *= (window / window[0])[: kernel.shape[1]]
    value, error = (np.array([q["autocovariance"][k][:n] for q in found], float) for k in (0, 1))
    seen = np.ones((len(found), len(f)))
    white = np.zeros((len(found), 1))
    for a, p in enumerate(solution.model.populations):
        if getattr(p.neuron, "is_point_process", False):
            seen[a] = (np.sinc(f * statistics.dt) / np.sinc(f * dt)) ** 2
            white[a] = found[a]["mean"][0]
            if solution.method == "closed":  # a closed form leaves the delta function out
                value[a, 0] += white[a, 0] / dt
    out = {"frequencies": f, "spectrum": (white + (value @ kernel.T - white) * seen, error @ np.abs(kernel.T))}
    if "autocovariance" in solution.replicas:
        parts = solution.replicas["autocovariance"][..., :n] @ kernel.T * seen
        out["spectrum"] = (out["spectrum"][0], parts.std(axis=0, ddof=1) / math.sqrt(len(parts)))
        out["spectrum_replicas"] = parts
    return out


def _bands(names, theory, statistics, edges=None):
    """Rows of the spectrum by bands of the network's frequencies; default N_POINTS bands of equal width."""
    (value, error), f = theory["spectrum"], statistics.frequencies
    at = theory["frequencies"]
    if edges is None:
        inside = np.flatnonzero((f >= at[0]) & (f <= at[-1]) & (np.arange(len(f)) > 1))  # the window cuts the lowest
        if not len(inside):
            raise InputError(f"spectrum: no frequencies of the network lie in the theory's range {at[0]:g} to "
                             f"{at[-1]:g}")
        edges = f[np.append(inside[np.linspace(0, len(inside), N_POINTS, endpoint=False).astype(int)], inside[-1])]
        edges[-1] *= 1 + 1e-9
    draws, parts = statistics["spectrum"].draws, theory.get("spectrum_replicas")
    rows = []
    for a, name in enumerate(names):
        for low, high in itertools.pairwise(edges):
            k = np.flatnonzero((f >= low) & (f < high))
            if not len(k):
                raise InputError(f"bands: no frequency of the network from {low:g} to {high:g}")
            mine, own = draws[:, a, k].mean(axis=1), float(np.mean(np.interp(f[k], at, error[a])))
            if statistics.error_from == "networks":
                scatter = float(mine.std(ddof=1)) / math.sqrt(len(mine))
            else:
                scatter = math.sqrt(_of_sum(statistics["spectrum"].error[a, k])) / len(k)
            if parts is not None:
                own = float(parts[:, a, k].mean(axis=1).std(ddof=1)) / math.sqrt(len(parts))
            rows.append(Row("spectrum", f"{name}, f {f[k[0]]:.4g} to {f[k[-1]]:.4g}",
                            float(np.mean(np.interp(f[k], at, value[a]))), own, float(mine.mean()), scatter))
    return rows


def _of_sum(errors):
    """Squared error of the sum over neighboring frequencies."""
    pairs = [share * float(errors[: len(errors) - k] @ errors[k:]) for k, share in enumerate(HANN)]
    return pairs[0] + 2.0 * sum(pairs[1:])


def _curve(name, names, at, value, error, statistics):
    """Rows of a curve at a few of the network's lags inside the theory's range."""
    mine = statistics.lags
    inside = np.flatnonzero((mine >= at[0] - 1e-12) & (mine <= at[-1] + 1e-12))
    if not len(inside):
        raise InputError(f"{name}: no lags of the network lie in the theory's range {at[0]:g} to {at[-1]:g}")
    picked = np.unique(inside[np.linspace(0, len(inside) - 1, N_POINTS).round().astype(int)])
    measured = statistics[name]
    return [
        Row(name, f"{n}, lag {mine[k]:.4g}", float(np.interp(mine[k], at, value[a])),
            float(np.interp(mine[k], at, error[a])), float(measured.value[a, k]), float(measured.error[a, k]))
        for a, n in enumerate(names) for k in picked
    ]
