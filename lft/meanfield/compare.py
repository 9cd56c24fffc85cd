"""Theory beside the finite network, number by number.

    z = (network - theory)/sqrt(error_network^2 + error_theory^2)

The network's error comes from independent draws of its weights (from 3 draws on; else from segments of time, and then
says so), the theory's from its sampling.  Differences of order 1/N are real: a precise simulation of a small network
has a large z where theory and network agree to a few per cent, so that the relative difference stands beside it.
"""

from __future__ import annotations

import dataclasses
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
N_POINTS = 7  # lags or frequencies of a curve in the table


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
    arrays = solution_arrays(theory) if hasattr(theory, "populations") else theory
    places = {key: np.asarray(arrays[key], float) for key in ("lags", "frequencies") if key in arrays}
    pairs = {k: _with_error(v) for k, v in arrays.items() if k not in ("lags", "frequencies")}
    names, rows, notes = statistics.model.names, [], []
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
            rows += _curve(name, names, places[axis], value, error, statistics, axis)
        else:
            notes.append(f"{name}: has no rows here")
    if statistics.error_from == "time":
        notes.append("errors of the network are from segments of time: the scatter over weights is not in them")
    return NetworkComparison(tuple(rows), statistics, {**pairs, **places}, tuple(notes))


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


def _curve(name, names, at, value, error, statistics, axis):
    """Rows of a curve at a few of the network's lags or frequencies inside the theory's range."""
    mine = getattr(statistics, axis)
    inside = np.flatnonzero((mine >= at[0] - 1e-12) & (mine <= at[-1] + 1e-12))
    if axis == "frequencies":
        inside = inside[inside > 1]  # the lowest two are cut by the window
    if not len(inside):
        raise InputError(f"{name}: no {axis} of the network lies in the theory's range {at[0]:g} to {at[-1]:g}")
    picked = np.unique(inside[np.linspace(0, len(inside) - 1, N_POINTS).round().astype(int)])
    measured, symbol = statistics[name], "lag" if axis == "lags" else "f"
    return [
        Row(name, f"{n}, {symbol} {mine[k]:.4g}", float(np.interp(mine[k], at, value[a])),
            float(np.interp(mine[k], at, error[a])), float(measured.value[a, k]), float(measured.error[a, k]))
        for a, n in enumerate(names) for k in picked
    ]
