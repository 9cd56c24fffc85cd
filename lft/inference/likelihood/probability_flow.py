"""Minimum probability flow with single flips: a convex objective without a normalization.

    K(theta) = sum_a sum_i exp( -(1/2) sigma_i^a z_i^a ),      sigma = 2 phi - 1

with the log-odds z of unit i given the rest, is the rate at which probability would flow from the data to their
neighbors by one flip under dynamics that have the model as their equilibrium (minimum probability flow:
J. Sohl-Dickstein, P. Battaglino and M. DeWeese, arXiv 0906.4779).  z is linear in the couplings, so K is convex; its
minimum is consistent, like that of the pseudo-likelihood, but weighs surprising spikes exponentially.
"""

from __future__ import annotations

import itertools
import time

import numpy as np

from lft.errors import InputError
from lft.inference import newton
from lft.inference.likelihood.exact_fit import Problem, penalty

MAX_UNITS = 150
CHUNK = 8192


class FlowObjective:
    """Minus K, its gradient and information, for the pairwise model.

    Parameters
    ----------
    operators : Operators
        Of a pairwise model.
    rasters : list of int8 array (T, N)
    """

    def __init__(self, operators, rasters):
        self.operators, self.size = operators, operators.size
        self.rows = np.concatenate(rasters)
        self.n_rows = len(self.rows)
        n = operators.n_units
        self.position = np.full((n, n), -1)
        i, j = operators.pairs.T
        self.position[i, j] = self.position[j, i] = np.arange(len(operators.pairs))
        self.is_fitted = np.zeros(n, bool)
        self.is_fitted[operators.units] = True

    def _parts(self, theta, start, stop):
        """(phi, sigma e) by pieces: e = exp(-sigma z / 2), 0 for units outside the fit."""
        model = self.operators.model(theta)
        for a in range(start, stop, CHUNK):
            phi = self.rows[a : min(a + CHUNK, stop)].astype(float)
            sigma = 2 * phi - 1
            with np.errstate(over="ignore"):
                flow = np.exp(-0.5 * sigma * model.odds_of(phi)) * self.is_fitted
            yield phi, sigma, flow

    def score(self, theta, start, stop):
        """Gradient of -K over some rows."""
        total = np.zeros(self.size)
        for phi, sigma, flow in self._parts(theta, start, stop):
            total += self._gradient(phi, sigma, flow)
        return total

    def _gradient(self, phi, sigma, flow):
        push = 0.5 * sigma * flow
        i, j = self.operators.pairs.T
        both = push.T @ phi
        return np.concatenate([both[i, j] + both[j, i], push.sum(axis=0)[self.operators.units]])

    def evaluate(self, theta):
        """As :class:`lft.inference.protocols.Objective`."""
        value, gradient = 0.0, np.zeros(self.size)
        for phi, sigma, flow in self._parts(theta, 0, self.n_rows):
            value -= float(flow.sum())
            gradient += self._gradient(phi, sigma, flow)
        made = []

        def make(extra):
            if not made:
                made.append(self._matrix(theta))
            return newton.DenseInformation(made[0], extra)

        return value, gradient, make

    def _matrix(self, theta):
        n, op = self.operators.n_units, self.operators
        triple = np.zeros((n, n, n))
        single = np.zeros((n, n))
        total = np.zeros(n)
        for phi, _, flow in self._parts(theta, 0, self.n_rows):
            w = 0.25 * flow
            total += w.sum(axis=0)
            single += w.T @ phi
            for i in op.units:
                triple[i] += (phi * w[:, i : i + 1]).T @ phi
        matrix = np.zeros((self.size, self.size))
        for number, i in enumerate(op.units, len(op.pairs)):
            others = np.flatnonzero(self.position[i] >= 0)
            index = self.position[i, others]
            matrix[np.ix_(index, index)] += triple[i][np.ix_(others, others)]
            matrix[index, number] = matrix[number, index] = single[i, others]
            matrix[number, number] = total[i]
        return matrix


def fit_probability_flow(rasters, *, test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None):
    """Fit the pairwise model by minimum probability flow with single flips.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1, at most 150 units; several are trials.
    test, ridge, n_blocks, bin_s, unit
        As in :func:`lft.inference.likelihood.fit_exact`; the penalty ``(ridge/2) sum A^2`` is added to 4 K, which near
        independent units with p = 1/2 is as steep as the likelihood.

    Returns
    -------
    GibbsFit
        ``score`` is the pseudo-log-likelihood; errors are the sandwich over blocks of time.

    Notes
    -----
    Newton steps, N^3 T multiplications each.

    Examples
    --------
    >>> from lft.inference.likelihood import GibbsModel
    >>> model = GibbsModel([-1.0, -0.5, -1.0], [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    >>> fit = fit_probability_flow(model.simulate(20000, seed=4)[0])
    >>> bool(abs(fit.J[0, 1] - 0.25) < 4.5 * fit.J_error[0, 1])
    True
    """
    started = time.perf_counter()
    problem = Problem(rasters, "pairwise", (), test, ridge)
    if problem.n_units > MAX_UNITS:
        raise InputError(f"{problem.n_units} units: minimum probability flow is for at most {MAX_UNITS}")
    objective = FlowObjective(problem.operators, problem.train)
    prior = penalty(problem.operators, ridge) / 4

    def evaluate(theta):
        value, gradient, make = objective.evaluate(theta)

        def penalized(extra):
            return make(prior if extra is None else extra + prior)

        return value - 0.5 * (prior * theta**2).sum(), gradient - prior * theta, penalized

    theta, _, information = newton.maximize(evaluate, _start(problem), tolerance=1e-9)
    edges = newton.fine_edges(problem.n_train, objective.size, n_blocks)
    scores = np.stack([objective.score(theta, a, b) for a, b in itertools.pairwise(edges)])
    warning = None
    if n_blocks is None and len(scores) > 1:
        u = newton.influences(information, scores)
        parts = [part for part in np.split(u, problem.operators.cuts, axis=1) if part.shape[1]]
        scores, warning = newton.merge_blocks(scores, parts, problem.n_train, 0)
    u = problem.without_errors(newton.influences(information, scores), information)
    return problem.result(
        theta, u, "mpf", bin_s, unit, started, [warning] if warning else [], {},
        kind="pseudo-log-likelihood",
    )  # fmt: skip


def _start(problem):
    """Minimum for independent units: c is the log-odds of the rate, as for the likelihood."""
    from lft.inference.likelihood.operators import start_theta

    return start_theta(problem.operators, problem.train)
