"""Runs of finite networks: several draws of the weights, measured, with errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.domain import Domain
from lft.errors import InputError
from lft.meanfield.network.binary import is_event_driven
from lft.meanfield.network.measure import Recorder, summarize
from lft.meanfield.network.steps import BLOCK_BYTES, build_network
from lft.meanfield.network.structured import needs_steps

MIN_DRAWS = 3
MAX_TRANSIENT = 2 << 30


@dataclass(frozen=True)
class Measured:
    """A statistic with its error.

    Attributes
    ----------
    value, error : ndarray
    dof : int
        Degrees of freedom of the error.
    draws : ndarray
        The value of each network, (draws, ...).
    """

    value: np.ndarray
    error: np.ndarray
    dof: int
    draws: np.ndarray


@dataclass(frozen=True)
class NetworkStatistics:
    """What a finite network did: statistics by name (:mod:`lft.meanfield.network.measure`).

    Attributes
    ----------
    model : Model
    dt : float
    lags : ndarray (L + 1,)
    frequencies : ndarray
        Cycles per time.
    window : float
        Time over which outputs were averaged before covariances of pairs.
    values : dict of str to Measured
        ``mean`` (P,), ``second``, ``autocovariance`` (P, L + 1), ``static``, ``heterogeneity`` (P,), ``spectrum``
        (P, F), ``population_covariance`` (2 L + 1, P, P) for lags -L..L, ``population_spectrum`` (F, P, P),
        ``mean_pair_covariance`` (P, P), ``state_variance`` (P,), ``pair_variance`` (P,), ``pair_mean``,
        ``pair_spread`` (P, P), ``participation`` (P,).
    error_from : str
        ``"networks"``: scatter over independent draws of the weights; ``"time"``: over segments of time, which does
        not contain the scatter over draws.
    method : str
    """

    model: object
    dt: float
    lags: np.ndarray
    frequencies: np.ndarray
    window: float
    values: dict
    error_from: str
    method: str

    def __getitem__(self, name):
        """The Measured of a statistic."""
        if name not in self.values:
            raise InputError(f"statistic {name!r}: valid are {', '.join(self.values)}")
        return self.values[name]


def simulate_network(model, *, duration, warmup, max_lag, draws=4, seed=1, dt=None, sample_every=1, neurons=500,
                     window=None, segments=8, pairs=True, comm=None, precision="double", method="auto"):
    """Simulate finite networks of a model and measure them.

    Parameters
    ----------
    model : Model
    duration, warmup, max_lag : float
        Measured time, time before it, longest lag.
    draws : int, optional
        Independent networks; from 3 on their scatter is the error.
    seed : int, optional
    dt : float, optional
        Grid step; default that of ``[solve]``.
    sample_every : int, optional
        Outputs are averaged over so many steps before they are measured (spikes: bins).  Rates and states are taken
        at the end of each.
    neurons, window, segments, pairs
        As in :class:`lft.meanfield.network.measure.Recorder`; the window is a time here.
    comm, precision, method
        As in :func:`lft.meanfield.network.steps.build_network`.

    Returns
    -------
    NetworkStatistics
        On every rank, the same for any number of them: ranks share the neurons of each network, or, where that is not
        possible (events), the networks.
    """
    if draws < 1:
        raise InputError(f"draws = {draws}: valid is an integer >= 1")
    def one(draw, comm):
        network = build_network(model, dt=dt, seed=seed, draw=draw, comm=comm, precision=precision, method=method)
        recorder = measure(network, duration=duration, warmup=warmup, max_lag=max_lag, sample_every=sample_every,
                           neurons=neurons, window=window, segments=segments, pairs=pairs)
        axes = recorder.dt, recorder.max_lag, recorder.block, recorder.window, recorder.segments
        return summarize(recorder), axes, network.method

    if comm is not None and method in ("auto", "events") and not needs_steps(model) and (
        is_event_driven(model, dt) is None
    ):
        ranks = Domain((comm.Get_size(), 1), (False, False), comm=comm)
        mine = {d: one(d, None) for d in range(ranks.rank, draws, ranks.n_ranks)}
        found = [ranks.broadcast_from(mine.get(d), d % ranks.n_ranks) for d in range(draws)]
    else:
        found = [one(d, comm) for d in range(draws)]
    (spacing, longest, block, window, segments), kind = found[0][1:]
    values = {name: combine([f[0][name] for f in found], segments) for name in found[0][0]}
    return NetworkStatistics(
        model, spacing, spacing * np.arange(longest + 1), np.fft.rfftfreq(block, spacing), window * spacing, values,
        "networks" if draws >= MIN_DRAWS else "time", kind,
    )


def measure(network, *, duration, warmup, max_lag, sample_every=1, neurons=500, window=None, segments=8, pairs=True):
    """Run one network through its warm-up and a measurement; the full Recorder.  Arguments as above."""
    spacing = network.dt * sample_every
    sizes = [p.size for p in network.model.populations]
    recorder = Recorder(
        sizes, spacing, round(duration / spacing), round(max_lag / spacing), neurons=neurons,
        window=1 if window is None else max(round(window / spacing), 1), segments=segments, pairs=pairs,
    )
    points = [getattr(p.neuron, "is_point_process", False) for p in network.model.populations]
    chunk = max(1, BLOCK_BYTES // (8 * sum(sizes) * sample_every))
    left = round(warmup / network.dt)
    while left > 0:
        network.advance(min(left, chunk * sample_every))
        left -= chunk * sample_every
    chunk = min(chunk, recorder.block)
    while not recorder.is_full:
        outputs = network.advance(chunk * sample_every)
        if sample_every > 1:
            outputs = [
                y.reshape(chunk, sample_every, -1).mean(axis=1) if is_point else y[sample_every - 1 :: sample_every]
                for y, is_point in zip(outputs, points, strict=True)
            ]
        recorder.observe(network.observe())
        recorder.add(outputs)
    return recorder


@dataclass(frozen=True)
class TransientStatistics:
    """What finite networks did from the start on.

    Attributes
    ----------
    model : Model
    times : ndarray (T + 1,)
        The first is the start.
    values : dict of str to Measured
        ``mean`` (P, T + 1), ``second`` (P, T + 1, T + 1): averages over neurons of y(t) and y(t) y(s);
        ``covariance``: second - mean mean; ``population_covariance`` (P, P, T + 1, T + 1): covariance over the
        networks of the population means, with an error for Gaussian fluctuations.
    """

    model: object
    times: np.ndarray
    values: dict

    def __getitem__(self, name):
        """The Measured of a statistic."""
        if name not in self.values:
            raise InputError(f"statistic {name!r}: valid are {', '.join(self.values)}")
        return self.values[name]


def simulate_transient(model, *, duration, draws=4, seed=1, dt=None, comm=None, precision="double", method="auto"):
    """Networks from their initial states on: means and second moments at all pairs of times.

    Parameters
    ----------
    model : Model
    duration : float
    draws : int, optional
        Independent networks, >= 3; covariances of population means need hundreds.
    seed, dt, comm, precision, method
        As in :func:`simulate_network`.

    Returns
    -------
    TransientStatistics

    Notes
    -----
    Memory: ``T x N`` outputs and ``T^2`` for every draw and population (``T^2`` for every pair of populations too).
    """
    if draws < MIN_DRAWS:
        raise InputError(f"draws = {draws}: valid is an integer >= {MIN_DRAWS}")
    means, seconds = [], []
    for draw in range(draws):
        network = build_network(model, dt=dt, seed=seed, draw=draw, comm=comm, precision=precision, method=method)
        n_steps = round(duration / network.dt)
        if n_steps < 1 or 8 * n_steps * sum(p.size for p in model.populations) > MAX_TRANSIENT:
            raise InputError(f"duration = {duration:g}: {n_steps} steps; valid is 1 up to 2 GB of outputs")
        start, later = network.outputs_now(), network.advance(n_steps)
        y = [np.concatenate([a[None], b]) for a, b in zip(start, later, strict=True)]
        means.append([x.mean(axis=1) for x in y])
        seconds.append([x @ x.T / x.shape[1] for x in y])
    means, seconds = np.array(means), np.array(seconds)  # (draws, P, T + 1), (draws, P, T + 1, T + 1)
    centered = means - means.mean(axis=0)
    covariance = np.einsum("dat,dbs->abts", centered, centered) / (draws - 1)
    own = np.einsum("aatt->at", covariance)
    error = np.sqrt((own[:, None, :, None] * own[None, :, None, :] + covariance**2) / (draws - 1))
    values = {
        "mean": _of_draws(means),
        "second": _of_draws(seconds),
        "covariance": _of_draws(seconds - means[..., :, None] * means[..., None, :]),
        "population_covariance": Measured(covariance, error, draws - 1, covariance[None]),
    }
    return TransientStatistics(model, network.dt * np.arange(n_steps + 1), values)


def _of_draws(values):
    n = len(values)
    return Measured(values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(n), n - 1, values)


def combine(results, segments):
    """One Measured of the (value, error) of several networks."""
    values = np.array([v for v, _ in results])
    n = len(values)
    if n >= MIN_DRAWS:
        scatter = np.var(values.real, axis=0, ddof=1) + np.var(values.imag, axis=0, ddof=1)
        error, dof = np.sqrt(scatter / n), n - 1
    else:
        error, dof = np.sqrt(np.sum([e**2 for _, e in results], axis=0)) / n, n * (segments - 1)
    return Measured(values.mean(axis=0), error, dof, values)
