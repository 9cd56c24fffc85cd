"""Fixed points of a flow in coupling space, the flow linearized there, and flow fields over a grid.

A *flow map* is a function ``K -> Mapped``: the couplings K' after one blocking, their covariance (0 where the map is
exact) and the derivative ``T = dK'/dK``, where it is known.  Exact maps: :func:`decimation_map` (chains),
:func:`migdal_kadanoff_map`; any closed form by :func:`exact_map`.  :func:`sampled_map` simulates K, blocks, and fits K'
in the same space of operators, with T from the correlations of operators (:mod:`lft.rg.monte_carlo.stability`).

A fixed point solves ``R(K) - K = 0``; its eigenvalues are ``b^y``.  In a truncated space, and on a finite lattice, it
is the fixed point of that truncation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lft.actions import Ising
from lft.analysis.estimate import format_with_error
from lft.clusters import SwendsenWang
from lft.errors import DivergenceError, InputError, LftError
from lft.rg.blocking import plan_blocks
from lft.rg.monte_carlo.cascade import block_batch, sampled
from lft.rg.monte_carlo.operators import Products
from lft.rg.monte_carlo.refit import fit_operators, simulate
from lft.rg.monte_carlo.stability import Moments, stability_matrix
from lft.rng import Key
from lft.updaters import HeatBath, Sequence

DIFFERENCE = 1e-6
MAX_STEP = 0.1
"""Longest change of a coupling in one step towards a fixed point."""
MAX_CONDITION = 1e8
CHAINS = 64


@dataclass(frozen=True)
class Mapped:
    """K' of one blocking: couplings (m,), their covariance (m, m), and T = dK'/dK (m, m) or None."""

    couplings: np.ndarray
    covariance: np.ndarray
    derivative: np.ndarray | None = None


# ---- maps
def exact_map(function):
    """The flow map of a closed form ``K (m,) -> K' (m,)``; T by central differences."""

    def flow(K):
        K = np.asarray(K, float)
        columns = []
        for k in range(len(K)):
            h = DIFFERENCE * max(1.0, abs(K[k]))
            step = np.zeros(len(K))
            step[k] = h
            columns.append((np.asarray(function(K + step)) - np.asarray(function(K - step))) / (2 * h))
        return Mapped(np.asarray(function(K), float), np.zeros((len(K),) * 2), np.column_stack(columns))

    return flow


def decimation_map(b=2):
    """Chain ``(K,)`` or ``(K, h)`` of which every b-th spin is kept.

    Powers of the transfer matrix ``T = exp(K s s' + h (s + s')/2)``: ``K' = (1/4) ln[T11 T22/T12^2]`` and
    ``h' = (1/2) ln[T11/T22]`` of ``T^b``; without a field ``tanh K' = tanh(K)^b``.  Standard result.

    Examples
    --------
    >>> from lft.rg.monte_carlo.fixed_points import decimation_map
    >>> [round(float(x), 8) for x in decimation_map(3)([0.6, -0.4]).couplings]
    [0.11505714, -0.93914649]
    """
    _check_b(b)

    def function(K):
        if len(K) == 1:
            return np.array([math.atanh(math.tanh(K[0]) ** b)])
        coupling, h = K
        T = np.array([[coupling + h, -coupling], [-coupling, coupling - h]])
        T = np.linalg.matrix_power(np.exp(T - T.max()), b)
        log = np.log(T / T.max())
        return np.array([(log[0, 0] + log[1, 1]) / 4 - log[0, 1] / 2, (log[0, 0] - log[1, 1]) / 2])

    return exact_map(function)


def migdal_kadanoff_map(dimension=2, b=2):
    """Nearest-neighbor Ising model: bonds moved together, then decimated, ``tanh K' = tanh(b^(d-1) K)^b``.

    An approximation.  Standard result; for d = 2 and b = 2 its fixed point is K = 0.3047 with y_t = 0.747.
    """
    _check_b(b)
    return exact_map(lambda K: np.arctanh(np.tanh(b ** (dimension - 1) * np.asarray(K)) ** b))


def _check_b(b):
    if isinstance(b, bool) or not isinstance(b, int | np.integer) or b < 2:
        raise InputError(f"b = {b!r}: valid is an integer >= 2")


def sampled_map(lattice, operators, blocking="majority", factor=2, n=1000, *, every=2, thermalize=200, k=None, seed=0):
    """The flow map by simulation: n configurations at K, blocked once, fitted in the same operators.

    Spaces of pairs and h are simulated by Swendsen-Wang and heat-bath updates in turn, others by the heat bath of
    :func:`lft.rg.refit.simulate` in 64 chains.  The derivative is the stability matrix of the same configurations.  The
    random numbers are the same at every K: the map is a smooth function of K but for flips near their thresholds.

    Parameters
    ----------
    lattice : Lattice
    operators : sequence of Operator
        Their couplings, in order, are the coordinates.
    blocking, factor, k
        As in :func:`lft.rg.blocking.block`.
    n, every, thermalize : int
        Configurations, updates between two of them, updates before.
    seed : int

    Raises
    ------
    InputError, DivergenceError
        When called: a fit or a stability matrix that is singular (with its condition number).
    """
    plan = plan_blocks(lattice, factor, name=blocking)
    fine, coarse = (Products(geometry, operators) for geometry in (lattice, plan.coarse))

    def flow(K):
        values = _configurations(lattice, operators, np.asarray(K, float), n, every, thermalize, seed)
        blocked = block_batch(values, plan, blocking, "spin", k, seed)
        fit = fit_operators(blocked, plan.coarse, operators)
        edges = np.array([0, len(values) // 2, len(values)])
        cc, cf = Moments.of(coarse.sums(blocked), fine.sums(values), edges).connected()
        T, _ = stability_matrix(cc[0], cf[0], [o.name for o in operators])
        return Mapped(fit.values, fit.covariance, T)

    return flow


def _configurations(lattice, operators, K, n, every, thermalize, seed):
    zero = (0,) * len(lattice.shape)
    if all(o.n_spins <= 2 for o in operators):
        terms = list(zip(operators, K, strict=True))
        pairs = {max(shape): float(c) for o, c in terms if o.n_spins == 2 for shape in o.shapes}
        h = sum(float(c) for o, c in terms if o.n_spins == 1)
        action = Ising(pairs or {tuple(int(i == 0) for i in range(len(zero))): 0.0}, h)
        updater = Sequence([SwendsenWang(), HeatBath()])
        return np.concatenate(list(sampled(action, lattice, updater, Key(seed), n, every, thermalize)))
    per_chain = max(1, -(-n // CHAINS))
    start = np.where(Key(seed).fill("uniform", 0, 1, CHAINS * math.prod(lattice.storage_shape), 0, 0)[0] < 0.5, -1, 1)
    start = start.astype(np.int8).reshape(CHAINS, *lattice.storage_shape)
    batches = simulate(lattice, operators, K, start, per_chain * every, Key(seed, 1), every, thermalize)
    return np.stack(list(batches), axis=1).reshape(-1, *lattice.storage_shape)[:n]  # chain by chain


# ---- fixed points
@dataclass(frozen=True)
class FixedPoint:
    """Where a flow stands still.

    Attributes
    ----------
    couplings : ndarray (m,)
    covariance : ndarray (m, m)
        ``(1 - T)^-1 cov(K') (1 - T)^-T``.
    derivative : ndarray (m, m)
        T there.
    eigenvalues : ndarray of complex (m,)
        Of T, the largest modulus first.
    path : ndarray (n_steps, m)
        Couplings on the way.
    notes : list of str
    """

    couplings: np.ndarray
    covariance: np.ndarray
    derivative: np.ndarray
    eigenvalues: np.ndarray
    path: np.ndarray
    notes: list = field(default_factory=list)

    @property
    def errors(self):
        """Standard errors of the couplings; 0 for an exact map."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0))

    def exponents(self, b):
        """``y = ln(lambda)/ln(b)`` of the real positive eigenvalues, nan for the others."""
        values = self.eigenvalues
        is_power = (abs(values.imag) < 1e-12) & (values.real > 0)
        return np.log(np.where(is_power, values.real, np.nan)) / math.log(b)

    def as_json(self, names, b):
        """Couplings with errors, eigenvalues and exponents."""
        return {
            "couplings": {n: {"value": float(v), "error": float(e)} for n, v, e in
                          zip(names, self.couplings, self.errors, strict=True)},
            "eigenvalues": [[float(x.real), float(x.imag)] for x in self.eigenvalues],
            "exponents": [None if math.isnan(y) else float(y) for y in self.exponents(b)],
            "steps": len(self.path), "notes": self.notes,
        }  # fmt: skip

    def table(self, names, b):
        """The fixed point as text."""
        shown = [f"{n} = {format_with_error(v, e) if e else f'{v:.8g}'}" for n, v, e in
                 zip(names, self.couplings, self.errors, strict=True)]  # fmt: skip
        exponents = ", ".join(f"{y:.4g}" for y in self.exponents(b))
        return "\n".join([f"fixed point: {', '.join(shown)}", f"exponents y: {exponents}", *self.notes])


def fixed_point(flow, start, tolerance=1e-10, max_steps=40):
    """Fixed point of a flow map by Newton's method.

    ``K <- K + (1 - T)^-1 (R(K) - K)``, no coupling moved by more than 0.1 in a step.  Where the map gives no T, it is
    kept by Broyden's rank-one rule, from T = 0.  It ends when the step is below the tolerance, or, for a sampled map,
    below half of its own error.

    Parameters
    ----------
    flow : callable
        ``K (m,) -> Mapped``.
    start : array_like (m,)
        Newton's method finds the fixed point nearby, trivial ones included.
    tolerance : float, optional
    max_steps : int, optional

    Returns
    -------
    FixedPoint

    Raises
    ------
    DivergenceError
        No convergence; the message holds the last couplings.
    InputError
        ``1 - T`` is singular (a marginal direction): its condition number is given.

    Examples
    --------
    >>> from lft.rg.monte_carlo.fixed_points import fixed_point, migdal_kadanoff_map
    >>> point = fixed_point(migdal_kadanoff_map(2, 2), [0.3])
    >>> round(float(point.couplings[0]), 6), round(float(point.exponents(2)[0]), 4)
    (0.304689, 0.7472)
    """
    K = np.array(start, float).reshape(-1)
    if not len(K) or not np.isfinite(K).all():
        raise InputError(f"start = {start!r}: valid is one finite number per coupling")
    path, before, jacobian = [K.copy()], None, None
    for _ in range(max_steps):
        image = flow(K)
        residual = np.asarray(image.couplings) - K
        if image.derivative is not None:
            jacobian = np.asarray(image.derivative) - np.eye(len(K))
        elif jacobian is None:
            jacobian = -np.eye(len(K))
        elif before is not None:
            change = K - before[0]
            jacobian = jacobian + np.outer(residual - before[1] - jacobian @ change, change) / (change @ change)
        smallest = np.linalg.svd(jacobian, compute_uv=False)[-1]
        condition = max(1.0, np.linalg.norm(jacobian, 2)) / smallest if smallest > 0 else math.inf
        if not condition < MAX_CONDITION:
            raise InputError(f"1 - T is singular at K = {K.tolist()}: condition number {condition:.3g}, at most "
                             f"{MAX_CONDITION:.0e}; a direction is marginal, there is no isolated fixed point")
        inverse = np.linalg.inv(jacobian)
        step = -inverse @ residual
        covariance = inverse @ np.asarray(image.covariance) @ inverse.T
        if not np.isfinite(step).all():
            break
        error = np.sqrt(np.maximum(np.diag(covariance), 0))
        before = (K.copy(), residual)
        largest = abs(step).max()
        K = K + step * min(1.0, MAX_STEP / largest if largest > 0 else 1.0)
        path.append(K.copy())
        if (abs(step) <= np.maximum(tolerance, error / 2)).all():
            T = jacobian + np.eye(len(K))
            values = np.linalg.eigvals(T).astype(complex)
            values = values[np.argsort(-abs(values))]
            notes = [] if image.derivative is not None else ["T from Broyden's rule: exact along the path alone"]
            return FixedPoint(K, covariance, T, values, np.array(path), notes)
    raise DivergenceError(f"no fixed point found in {max_steps} steps from {np.asarray(start).tolist()}: last "
                          f"couplings {K.tolist()}, last step {float(abs(step).max()):.3g}")


# ---- flow fields
@dataclass(frozen=True)
class FlowField:
    """One step of the flow from every point of a grid.

    Attributes
    ----------
    points, images, errors : ndarray (n, m)
        K, K' and the standard errors of K'; nan where there is no K' (see notes).
    names : tuple of str
    notes : list of str
    """

    points: np.ndarray
    images: np.ndarray
    errors: np.ndarray
    names: tuple
    notes: list = field(default_factory=list)


def flow_field(flow, points, names):
    """One step of a flow map from each of the points (n, m).

    A point at which the map fails stays without an image; a note gives the reason.

    Examples
    --------
    >>> from lft.rg.monte_carlo.fixed_points import decimation_map, flow_field
    >>> flow_field(decimation_map(2), [[0.5], [1.0]], ("K",)).images.round(4).tolist()
    [[0.2169], [0.6625]]
    """
    points = np.array(points, float)
    if points.ndim != 2 or points.shape[1] != len(names) or not np.isfinite(points).all():
        raise InputError(f"points have shape {points.shape}: valid are finite numbers, {len(names)} per point")
    images, errors, notes = np.full_like(points, np.nan), np.full_like(points, np.nan), []
    for row, K in enumerate(points):
        try:
            image = flow(K)
        except LftError as reason:
            notes.append(f"no image of {K.tolist()}: {reason}")
            continue
        images[row], errors[row] = image.couplings, np.sqrt(np.maximum(np.diag(image.covariance), 0))
    return FlowField(points, images, errors, tuple(names), notes)


def trajectory(flow, start, steps):
    """Couplings after 0, 1, .., ``steps`` blockings of a flow map, and their covariances, errors carried along.

    ``cov <- T cov T^T + cov(K')``; without T the covariance of the last step alone.
    """
    K, covariance = np.array(start, float), np.zeros((len(start),) * 2)
    points, covariances = [K], [covariance]
    for _ in range(steps):
        image = flow(K)
        T = image.derivative
        covariance = image.covariance + (0 if T is None else T @ covariance @ T.T)
        K = np.asarray(image.couplings)
        points.append(K)
        covariances.append(covariance)
    return np.array(points), np.array(covariances)
