"""Maximum likelihood of small Gibbs models, by Newton steps on the exact likelihood.

    L(theta) = theta . O(data) - sum_trials log Z_T(theta),      dL/dtheta = O(data) - <O>,      H = cov(O)

The likelihood is concave and its maximum unique where H is not singular.  Static models: all states of a bin.
Space-time models: the transfer matrix; H by central differences of the exact <O>.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from lft.errors import InputError
from lft.inference import held, newton
from lft.inference.likelihood import exact
from lft.inference.likelihood.counts import continued
from lft.inference.likelihood.model import from_fit
from lft.inference.likelihood.operators import free_operators, sandwich, start_theta
from lft.inference.likelihood.result import GibbsFit, couplings, scores, trial_lengths
from lft.inference.pseudo.fit import USER, fit_gibbs
from lft.inference.trials import checked_lags, checked_rasters, split_trials

_STEP = 1e-4
FEW = 2
"""Bins per parameter below which a fit is warned of."""
LONG = 20
"""Stretches so many times as long as an end is felt count as without ends in the covariance."""
MAX_SETTLING = 5000
"""Bins after which an end of a model must be forgotten to rounding where steps are taken: memory of 150 bins."""
FARTHEST = {"a": 30.0, "b": 30.0, "C": 30.0, "V": 300.0, "c": 300.0}
"""Log-odds beyond which a coupling is taken to run to infinity; V makes up for whole sums of the others."""
MODELS = ("pairwise", "k-pairwise", "neural", "lagged")


class ExactObjective:
    """The log-likelihood of trials, its gradient and information.

    Parameters
    ----------
    operators : Operators
    rasters : list of int8 array (T, N)
        Training trials.
    ridge : float
        ``(ridge/2) sum A^2`` is subtracted, A = -a/2, and ``(ridge/8) sum C^2``.
    """

    def __init__(self, operators, rasters, ridge=0.0):
        self.operators, self.size = operators, operators.size
        self.n_rows = sum(len(r) for r in rasters)
        self.lengths = trial_lengths(rasters)
        self.observed = sum(operators.total(r) for r in rasters)
        self.farthest = np.repeat(list(FARTHEST.values()), operators.sizes)
        self.far = None  # couplings beyond reach that a step has asked for
        self.penalty = penalty(operators, ridge)

    def _expected(self, theta):
        model = self.operators.model(theta)
        if model.kind == "static":
            log_z, mean, covariance = exact.static_moments(self.operators, model)
            return self.n_rows * log_z, self.n_rows * mean, lambda: self.n_rows * covariance
        transfer = self._transfer(theta)
        log_z = sum(n * transfer.log_z(bins) for bins, n in self.lengths.items())
        return log_z, self._transfer_mean(transfer), lambda: self._covariance(transfer, theta)

    def _covariance(self, transfer, theta):
        """cov(O): that of the bins of long stretches; of short ones, by differences, with their ends."""
        _check_memory(transfer)
        if min(self.lengths) > LONG * len(transfer.left):
            return self.n_rows * transfer.covariance(self.operators)
        return self._differences(theta)

    def _transfer(self, theta):
        return exact.Transfer(self.operators.model(theta), max(self.lengths))

    def _transfer_mean(self, transfer):
        return sum(n * transfer.mean(self.operators, bins) for bins, n in self.lengths.items())

    def _differences(self, theta):
        out = np.empty((self.size,) * 2)
        for k in range(self.size):
            at = [theta + sign * _STEP * np.eye(self.size)[k] for sign in (1, -1)]
            plus, minus = (self._transfer_mean(self._transfer(x)) for x in at)
            out[k] = (plus - minus) / (2 * _STEP)
        return (out + out.T) / 2

    def expected(self, theta):
        """<O> of the training stretch."""
        return self._expected(theta)[1]

    def evaluate(self, theta):
        """As :class:`lft.inference.protocols.Objective`."""
        if (np.abs(theta) > self.farthest).any():
            self.far = theta
            return -np.inf, np.zeros(self.size), None
        log_z, mean, covariance = self._expected(theta)
        value = theta @ self.observed - log_z - 0.5 * (self.penalty * theta**2).sum()
        made = []

        def make(extra):
            if not made:
                made.append(covariance() + np.diag(self.penalty))
            return newton.DenseInformation(made[0], extra)

        return float(value), self.observed - mean - self.penalty * theta, make


def penalty(operators, ridge):
    """Diagonal of the information of the ridge, (ridge/2) A^2 = (ridge/8) a^2, the same for C, and of what is held."""
    out = np.zeros(operators.size)
    out[operators.at["a"]] = out[operators.at["C"]] = ridge / 4
    out[operators.held] += newton.HELD_SD**-2
    return out


def fit_exact(
    rasters, *, model="pairwise", lags=(1,), k_max=1, test=0.2, ridge=0.0, n_blocks=None, bin_s=None, unit=None
):
    """Fit a small Gibbs model by exact maximum likelihood.

    Parameters
    ----------
    rasters : ndarray (T, N), or sequence of them
        0/1; several are trials.
    model : {"pairwise", "k-pairwise", "neural", "lagged"}
        Static models have at most 20 units; with lags, units times longest lag <= 12 and units times (lag + 1) <= 24.
    lags : tuple of int
        Of ``neural``.
    k_max : int
        Longest lag of ``lagged``, >= 1.
    test : float
        Fraction at the end that is scored, not fitted.
    ridge : float
        L2 penalty on A (and C) in nats, >= 0.
    n_blocks : int, optional
        Blocks behind the errors; 0 takes bins as independent: errors from the inverse information alone.
    bin_s, unit : as in :func:`lft.inference.neural_fit.fit_neural`

    Returns
    -------
    GibbsFit
        ``score`` is the log-likelihood with its normalization.

    Raises
    ------
    InputError
        The model is too large to be summed, or bad arguments.
    DivergenceError
        Couplings that cannot be told apart.

    Notes
    -----
    Errors: sandwich with blocks of time.  Cost of a step for 20 units: 20 2^20 additions and a matrix of 210 x 210;
    with lags a system of 2^(N lag) equations: 8 retinal units and one lag 1 CPU s in all, 12 units some minutes; two
    transfer matrices per coupling where trials are not 20 times as long as an end is felt.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.likelihood import GibbsModel, fit_exact
    >>> model = GibbsModel([-1.0, -0.5, -1.0], [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    >>> fit = fit_exact(model.simulate(20000, seed=4)[0])
    >>> bool(abs(fit.J[0, 1] - 0.25) < 4.5 * fit.J_error[0, 1])
    True
    """
    started = time.perf_counter()
    if model not in MODELS:
        raise InputError(f"model {model!r}: valid for an exact fit are {', '.join(MODELS)}")
    problem = Problem(rasters, model, lags, test, ridge, k_max)
    longest = problem.operators.longest
    size = problem.n_units * max(longest, 1)
    limit = exact.MAX_BITS if longest else exact.MAX_UNITS
    if size > limit or (longest and problem.n_units * (longest + 1) > exact.MAX_FITTED):
        what = f"{problem.n_units} units" + (f" and lags up to {longest}" if longest else "")
        raise InputError(
            f"{what}: the exact sum is for at most {exact.MAX_UNITS} units without lags, and units times lags <= "
            f"{exact.MAX_BITS} with them; valid here is --method boltzmann"
        )
    start = _start(problem, test, ridge)
    objective = ExactObjective(problem.operators, problem.train, ridge)
    theta, information = _maximum(objective, start)
    return problem.finish(
        theta, information, objective.expected(theta), "exact", n_blocks, bin_s, unit, started, method="exact"
    )


def _start(problem, test, ridge):
    """Independent units; with a V, whose large counts they never reach, the maximum of the pseudo-likelihood."""
    if problem.model != "k-pairwise":
        return start_theta(problem.operators, problem.train)
    return problem.start_at(from_fit(problem.pseudo(test, ridge)))


def _check_memory(transfer):
    """DivergenceError at the edge of a second state, where units keep on firing: every further step would take longer
    than the last, and no recording tells how long such bursts are."""
    longest = max(len(transfer.left), len(transfer.right))
    if longest > MAX_SETTLING:
        raise newton.DivergenceError(
            f"fit: an end of the model is felt over {longest} bins, as bursts of it hardly end: the maximum of the "
            "likelihood lies at the edge of a state in which units keep on firing; give --ridge, fewer units or lags, "
            "wider bins, or take --model kinetic or glm, whose likelihood has no such edge"
        )


def _maximum(objective, start):
    """(theta, information); couplings that run to infinity are named."""
    search = _climb if objective.operators.longest else newton.maximize
    try:
        theta, _, information = search(objective.evaluate, start)
    except newton.DivergenceError:
        if objective.far is None:
            raise
        far = np.flatnonzero(np.abs(objective.far) > objective.farthest)
        newton.raise_runaway([objective.operators.names()[k] for k in far], objective.far[far])
    return theta, information


def _climb(evaluate, theta, most=2.0, max_steps=100):
    """Newton steps that end where the slope along them has fallen: as :func:`lft.inference.newton.maximize`.

    Where units keep each other active log Z has an edge, beyond which they all fire: a quadratic form does not see it
    from below, and sees little else from above.  On the edge, which bisection of the slope finds, it sees both.
    """
    value, gradient, make = evaluate(theta)
    part = 1.0
    for _ in range(max_steps):
        information = make(None)
        step = information.solve(gradient)
        promised = float(gradient @ step)
        if promised < newton.TOLERANCE:
            return theta, value, information
        longest = min(1.0, most / np.abs(step).max())
        low, high, part = 0.0, None, min(longest, 4 * part)
        while high is None or high - low > 1e-9 * longest:
            new = evaluate(theta + part * step)
            slope = float(new[1] @ step) if np.isfinite(new[0]) else -np.inf
            if slope < -0.5 * promised:
                high = part
            elif slope > 0.7 * promised and part < longest:
                low = part
            else:
                break
            part = min(2 * part, longest) if high is None else (low + high) / 2
        else:
            break
        theta, (value, gradient, make) = theta + part * step, new
    raise newton.DivergenceError(f"fit: no step raises the likelihood, promised gain {promised:.3g} nats")


class Problem:
    """What every fit of this package does first and last: checked data, free couplings, split, errors and scores."""

    def __init__(self, rasters, model, lags, test, ridge, k_max=1):
        self.model, self.ridge = model, ridge
        self.rasters = checked_rasters(rasters)
        if isinstance(ridge, bool) or not isinstance(ridge, int | float | np.number) or not 0 <= ridge < np.inf:
            raise InputError(f"ridge = {ridge!r}: valid is a finite number >= 0")
        lags = checked_lags(lags if model == "neural" else (), self.rasters)
        self.k_max = checked_lags((k_max,), self.rasters)[0] if model == "lagged" else 0
        self.n_rows, self.n_units = sum(len(r) for r in self.rasters), self.rasters[0].shape[1]
        self.n_train = newton.split_rows(self.n_rows, test)
        self.train, self.test = split_trials(self.rasters, test)
        self.operators, self.unbounded, self.warnings = free_operators(model, self.train, lags, ridge, self.k_max)
        if self.n_train < FEW * self.operators.size:
            self.warnings.append(
                f"{self.n_train} training bins for {self.operators.size} parameters: expect large errors and biased "
                "couplings; a penalty, fewer units or a longer recording help"
            )

    def start_at(self, model):
        """The free couplings of a model; a potential of the count is continued from it where nothing tells it."""
        if self.model == "k-pairwise":
            self.operators = replace(self.operators, fixed_V=continued(model.c, model.a, self.train))
        return self.operators.theta(model)

    def pseudo(self, test, ridge, comm=None):
        """The fit of the same family by pseudo-likelihood."""
        counted = self.model == "k-pairwise"
        return fit_gibbs(
            self.model, self.rasters, lags=self.operators.lags, k_max=self.k_max, is_counted=counted, test=test,
            ridge=ridge, comm=comm,
        )  # fmt: skip

    def finish(self, theta, information, expected, name, n_blocks, bin_s, unit, started, **options):
        """GibbsFit with sandwich errors and scores; ``options``: kind of score, arguments of its normalization."""
        u, warning = self.influences(information, expected, n_blocks)
        u = self.without_errors(u, information)
        checks = options.pop("checks", {})
        return self.result(theta, u, name, bin_s, unit, started, [warning] if warning else [], checks, **options)

    def influences(self, information, expected, n_blocks):
        """Rows u with covariance ``U^T U``; ``n_blocks = 0``: of independent bins, the inverse information."""
        if n_blocks == 0:
            return np.linalg.cholesky(information.solve(np.eye(len(expected)))).T, None
        return sandwich(self.operators, information, self.train, self.n_train, expected, n_blocks)

    def without_errors(self, u, information):
        """The influences, nan for what is held and what moves along with it, which are named."""
        op = self.operators
        if not len(op.held):
            return u
        lost = held.carried(information, op.held, np.sqrt((u**2).sum(axis=0)))
        names = np.array([USER[name[0]] + name[1:] for name in op.names()], object)
        self.warnings = [*self.warnings, held.note(names[op.held].tolist(), int(lost.sum()))]
        self.unbounded = self.unbounded + names[lost].tolist()
        return np.where(lost, np.nan, u)

    def result(self, theta, u, name, bin_s, unit, started, warnings, checks, **options):
        gibbs = self.operators.model(theta)
        longest = self.operators.longest
        kind = options.setdefault("kind", "log-likelihood")
        score, gain = scores(gibbs, self.train, self.test, longest_lag=longest, **options)
        log_z = (np.nan, np.nan)
        if kind == "log-likelihood":
            made = next(iter(gibbs._cache[k] for k in gibbs._cache if isinstance(k, tuple)))
            log_z = (made.per_bin, made.per_bin_error)
        arrays = couplings(self.operators, theta, u, self.model != "neural")
        if "h" in arrays:
            lost = np.isnan(arrays["h_error"][self.operators.units])
            self.unbounded = self.unbounded + [f"h[{i}]" for i in self.operators.units[lost]]
        return GibbsFit(
            model=self.model, method=name, score=score, gain=gain, n_units=self.n_units, n_bins=self.n_rows,
            n_train=self.n_train, n_blocks=len(u), bin_s=bin_s, warnings=self.warnings + warnings,
            unbounded=self.unbounded, unit=self.unit(unit), log_z=log_z, checks=checks, **arrays,
            seconds=time.perf_counter() - started,
        )  # fmt: skip

    def unit(self, unit):
        """Index of each unit in the recording, checked."""
        unit = np.arange(self.n_units) if unit is None else np.asarray(unit)
        if unit.shape != (self.n_units,) or unit.dtype.kind not in "iu":
            raise InputError(
                f"unit: got shape {unit.shape} of type {unit.dtype}; valid is one integer per unit, {self.n_units}"
            )
        return unit.astype(np.int64)
