"""Gibbs models of units under inputs that change from bin to bin, as models that simulate and are scored.

    P(phi) = exp( W(phi) + sum_ia f_i^a phi_i^a ) / Z[f],        f_i^a = sum_q u_iq x_q(a)

with the weight W of a :class:`lft.inference.likelihood.model.GibbsModel` and given columns x_q.  Z depends on the
inputs of the whole stretch:

* without couplings in time bins are independent, ``log Z = sum_a log Z(f^a)``, one number for each different f;
* with them the transfer matrix goes from bin to bin, its later state weighted by ``exp(f^a . phi^a)``.

Stretches are drawn by the actions that ``lft run`` draws (:mod:`lft.actions`, :mod:`lft.gibbs`), one field of all bins
for each copy, which never meet.  Causal models know their inputs themselves (:class:`lft.causal.CausalChain`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.inference.likelihood import exact
from lft.inference.likelihood.model import GibbsModel
from lft.inference.likelihood.normalization import normalization
from lft.inference.newton import HELD_SD
from lft.inference.protocols import LogLikelihood
from lft.rng import Key, Stream

MAX_SAMPLED = 256
"""Different inputs of a stretch whose log Z is sampled."""
MOST_SWEEPS = 2048
"""Sweeps after which fields that started silent and at random must agree."""
PARTS = 50
"""Parts of a field whose scatter tells whether two fields agree."""


def over(model, start, stop):
    """A model under the inputs of some bins: its simulations and scores begin with the first of them.

    Parameters
    ----------
    model : DrivenModel or CausalModel
        Of a fit with inputs; others are returned as they are.
    start, stop : int
    """
    inputs = getattr(model, "inputs", None)
    return model if inputs is None else replace(model, inputs=inputs[start:stop])


@dataclass(frozen=True, eq=False, repr=False)
class DrivenModel:
    """A Gibbs model under inputs, a :class:`lft.inference.protocols.BinaryModel` of one stretch of bins.

    Parameters
    ----------
    gibbs : GibbsModel
    weights : array (N, Q)
        u, log-odds: positive excites.
    inputs : array (T, Q)
        x of the bins; simulations and scores begin with the first row and are not longer.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.likelihood import GibbsModel
    >>> from lft.inference.verdict.driven import DrivenModel
    >>> model = DrivenModel(GibbsModel([-1.0, -1.0]), [[2.0], [0.0]], np.arange(6)[:, None] % 2)
    >>> model.simulate(6, seed=1, n_chains=2).shape, model.kind
    ((2, 6, 2), 'static')
    >>> x = np.array([[0, 0], [1, 0]])
    >>> round(model.log_likelihood([x]).value, 6)  # 1 - 3 log(1 + 1/e) - log(1 + e)
    -1.253047
    """

    gibbs: GibbsModel
    weights: np.ndarray
    inputs: np.ndarray

    def __post_init__(self):
        u, x = np.asarray(self.weights, float), np.ascontiguousarray(self.inputs, float)
        if u.ndim != 2 or x.ndim != 2 or u.shape != (self.gibbs.n_units, x.shape[1]):
            raise InputError(
                f"weights of shape {u.shape}, inputs of shape {x.shape}: valid are ({self.gibbs.n_units}, Q), (T, Q)"
            )
        if not (np.isfinite(u).all() and np.isfinite(x).all()):
            raise InputError("weights and inputs: valid are finite numbers")
        object.__setattr__(self, "weights", u)
        object.__setattr__(self, "inputs", x)

    @property
    def n_units(self):
        return self.gibbs.n_units

    @property
    def kind(self):
        """``static`` or ``space-time``."""
        return self.gibbs.kind

    def fields(self, n_bins):
        """f of the first bins, (n_bins, N)."""
        if n_bins > len(self.inputs):
            raise InputError(f"{n_bins} bins: the inputs of this model have {len(self.inputs)}")
        return self.inputs[:n_bins] @ self.weights.T

    def log_odds(self, raster):
        """Conditional log-odds of every spike given all the rest."""
        return self.gibbs.log_odds(raster) + self.fields(len(raster))

    def action(self, n_bins):
        """The action that draws it, on ``Graph(N, n_bins)``."""
        from lft.actions import Neural
        from lft.gibbs import KPairwise, Lagged

        g = self.gibbs
        common = {"A": -g.a / 2, "I": -g.c, "input_weights": self.weights, "inputs": self.inputs[:n_bins]}
        if g.V is not None:
            return KPairwise(V=g.V, **common)
        if len(g.C):
            return Lagged(J_lag=g.C, **common)
        return Neural(B={k: -v / 2 for k, v in g.b.items()}, **common)

    def simulate(self, n_bins, *, seed, n_chains=1):
        """int8 (n_chains, n_bins, N): copies of the stretch under the same inputs.

        Even copies start silent, odd ones at random; they are swept until the first two agree in weight and spikes
        (3 standard errors), then as long again.

        Raises
        ------
        DivergenceError
            They do not agree after 2048 sweeps.
        """
        self.fields(n_bins)
        action, copies = self.action(n_bins), max(n_chains, 2)
        states = [_started(action, self.n_units, n_bins, seed, copy) for copy in range(copies)]
        keys = [Key(seed, copy) for copy in range(copies)]
        done, target = 0, 32
        while True:
            _sweep(action, states[:2], keys, target - done)
            done = target
            if _agree(*(self._parts(s.phi.values) for s in states[:2])):
                break
            if done >= MOST_SWEEPS:
                raise DivergenceError(
                    f"simulation under the inputs: fields that started silent and at random still differ after {done} "
                    "sweeps: the model has several states that single flips do not join"
                )
            target = 2 * done
        _sweep(action, states[:2], keys, done)
        _sweep(action, states[2:], keys[2:], 2 * done)
        return np.stack([np.array(s.phi.values, np.int8) for s in states[:n_chains]])

    def _parts(self, raster):
        """Weight and spikes of parts of a raster, (parts, 2)."""
        both = np.stack([self.gibbs.log_weights(raster), raster.sum(axis=1, dtype=float)], axis=1)
        edges = np.linspace(0, len(raster), min(PARTS, len(raster)) + 1).astype(int)[:-1]
        return np.add.reduceat(both, edges)

    # ---- scores
    def log_likelihood(self, rasters, edges=None):
        """Normalized, in nats, of one trial that begins with the inputs.

        Parameters
        ----------
        rasters : list of one array (T, N)
        edges : list of one array, optional

        Returns
        -------
        LogLikelihood
            ``error`` where log Z is sampled: static models of more than 20 units with couplings.

        Raises
        ------
        InputError
            Several trials; too many units times lags; more than 256 different inputs whose log Z is sampled.
        """
        if len(rasters) != 1:
            raise InputError(f"{len(rasters)} trials: a model under inputs is scored on one stretch")
        raster = np.asarray(rasters[0])
        edge = np.array([0, len(raster)]) if edges is None else np.asarray(edges[0])
        f = self.fields(len(raster))
        by_bin = self.gibbs.log_weights(raster) + (f * raster).sum(axis=1)
        log_z, error = self._log_z_by_bin(f)
        total = np.concatenate([[0.0], np.cumsum(by_bin - log_z)])[edge]
        return LogLikelihood(float(total[-1] - total[0]), error, np.diff(total))

    def _log_z_by_bin(self, f):
        g = self.gibbs
        if g.kind != "static":
            return transfer_log_z(g, f), 0.0
        if g.V is None and not g.a.any():
            return np.logaddexp(0, g.c + f).sum(axis=1), 0.0
        values, place, number = np.unique(f, axis=0, return_inverse=True, return_counts=True)
        if not exact.is_small(g) and len(values) > MAX_SAMPLED:
            raise InputError(
                f"{len(values)} different inputs in the {len(f)} bins: log Z of {g.n_units} units is sampled for at "
                f"most {MAX_SAMPLED}; valid are fewer conditions, at most {exact.MAX_UNITS} units, or a causal model"
            )
        made = [normalization(replace_c(g, g.c + v), seed=k) for k, v in enumerate(values)]
        log_z = np.array([m.per_bin for m in made])
        error = math.sqrt(sum((n * m.per_bin_error) ** 2 for n, m in zip(number, made, strict=True)))
        return log_z[place.reshape(-1)], error


def replace_c(gibbs, c):
    """A static model with other one-body log-odds."""
    return GibbsModel(c, gibbs.a, gibbs.V)


def transfer_log_z(gibbs, fields):
    """log Z of a space-time model under fields (T, N), as the share of every bin: logs of the norms of vectors that the
    transfer matrix carries from bin to bin, (T,).

    Notes
    -----
    Cost: 2^(N (k + 1)) multiplications per bin; units times (lags + 1) <= 20, units times lags <= 12.
    """
    n, lags = gibbs.n_units, len(gibbs.lagged)
    if n * lags > exact.MAX_BITS or n * (lags + 1) > exact.MAX_JOINT:
        raise InputError(
            f"{n} units, {lags} lags under inputs: log Z is known for units times lags <= {exact.MAX_BITS} and units "
            f"times (lags + 1) <= {exact.MAX_JOINT}; valid are fewer units, a model without lags, or a causal model"
        )
    transfer = exact.Transfer(gibbs, 2)
    state, out = np.eye(1, len(transfer.step))[0], np.empty(len(fields))
    values, place = np.unique(fields, axis=0, return_inverse=True)
    push = np.exp(values @ transfer.bits.T)  # of the newest bin, the last axis of a state
    for a, number in enumerate(place.reshape(-1)):
        state = (transfer.forward(state).reshape(-1, 1 << n) * push[number]).ravel()
        total = state.sum()
        out[a] = np.log(total) + transfer.top
        state /= total
    return out


def independent(rasters, inputs):
    """Units alone under the inputs: each its own logistic regression, a prior of standard deviation
    ``newton.HELD_SD`` on the weights, so that those without a finite maximum have one.

    Parameters
    ----------
    rasters : list of one array (T, N)
    inputs : ndarray (at least T, Q)

    Returns
    -------
    DrivenModel
        Under all the inputs given.
    """
    from lft.inference.verdict.independent import IndependentModel

    (raster,) = rasters
    values, place, number = np.unique(inputs[: len(raster)], axis=0, return_inverse=True, return_counts=True)
    fires = np.zeros((len(values), raster.shape[1]))
    np.add.at(fires, place.reshape(-1), raster)
    start = IndependentModel.fitted([raster]).c
    design = np.column_stack([np.ones(len(values)), values])
    prior = np.append(0.0, np.full(values.shape[1], HELD_SD**-2))
    theta = np.zeros((raster.shape[1], design.shape[1]))
    for i, c in enumerate(start):
        theta[i, 0] = c
        if 0 < fires[:, i].sum() < len(raster):
            theta[i] = _logistic(design, fires[:, i], number, theta[i], prior)
    return DrivenModel(GibbsModel(theta[:, 0]), theta[:, 1:], inputs)


def _logistic(design, fires, number, theta, prior):
    """Maximum of a penalized logistic regression on counts, by Newton steps."""
    from lft.inference import newton

    def evaluate(theta):
        z = design @ theta
        p = 1 / (1 + np.exp(-z))
        value = float(fires @ z - number @ np.logaddexp(0, z) - 0.5 * prior @ theta**2)
        matrix = design.T @ ((number * p * (1 - p))[:, None] * design) + np.diag(prior)
        gradient = design.T @ (fires - number * p) - prior * theta
        return value, gradient, lambda extra: newton.DenseInformation(matrix, extra)

    return newton.maximize(evaluate, theta)[0]


# ---- drawing
def _started(action, n_units, n_bins, seed, copy):
    """A field that is silent (even copies) or random."""
    from lft.geometry import Graph
    from lft.protocols import State

    phi = action.new_field(Graph(n_units, n_bins))
    start = np.zeros((n_bins, n_units))
    if copy % 2:
        start = Key(seed, copy).fill("uniform", 0, 1, n_bins * n_units, 0, Stream.START)[0].reshape(start.shape) < 0.5
    phi.values[...] = start
    phi.exchange()
    return State(phi, 0)


def _sweep(action, states, keys, n):
    from lft.updaters import HeatBath

    updater = HeatBath()
    for k, key in zip(range(len(states)), keys, strict=False):
        for _ in range(n):
            states[k] = updater.step(action, states[k], key)[0]


def _agree(first, second):
    error = np.sqrt(sum(len(x) * x.var(axis=0, ddof=1) for x in (first, second)))
    return bool((np.abs(first.sum(axis=0) - second.sum(axis=0)) <= 3 * error + 1e-9).all())
