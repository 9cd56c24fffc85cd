"""Reweighting: expectation values at couplings near, or between, those that were simulated.

Ensembles i = 1..M of one lattice, N_i measurements each, ran with the weights exp(-u_i), u_i(n) = sum_k g_k^(i) O_k(n).
At couplings g every measurement n of every ensemble gets the weight

    W_n = (1/c_n) exp(-u_g(n)) / sum_j (N_j/c_j) exp(f_j - u_j(n)),         <A>_g = sum_n W_n A_n / sum_n W_n

with the free energies f_i = -ln Z_i up to a constant, fixed by asking that <1>_i = 1 in every ensemble,

    exp(-f_i) = sum_n (1/c_n) exp(-u_i(n)) / sum_j (N_j/c_j) exp(f_j - u_j(n)).

M = 1 is single-histogram reweighting, W = exp(u_1 - u_g).  For M > 1 these are the multiple-histogram equations without
bins, also known as MBAR (Ferrenberg and Swendsen, Phys. Rev. Lett. 63, 1195 (1989); Shirts and Chodera, J. Chem. Phys.
129, 124105 (2008); standard results).  ``c_i = max(1, 2 tau_int)`` in measurements, of the slowest operator whose
coupling differs between the ensembles: correlated ensembles count less, and nothing is thrown away.  The solution
minimizes the convex function

    sum_n (1/c_n) ln(sum_j (N_j/c_j) exp(f_j - u_j(n))) - sum_j (N_j/c_j) f_j

and Newton's method finds it in a few steps.

A weight is only as good as its overlap: the effective number of independent measurements is

    n_eff = (sum_n W_n)^2 / sum_n c_n W_n^2

with the c of the couplings that are moved (the sign of a magnetization that hardly ever turns does not matter as long
as h stays), and below :data:`MIN_EFFECTIVE` of them the answer is refused, with the couplings that are within reach.

Errors: jackknife.  All ensembles are cut into the same number of blocks; leaving out block b of each, the free energies
move by one Newton step (the next step would change them at second order), and the weights follow.  With one ensemble
the Gamma method is used for numbers.

Why not pymbar: the solver is the page below and needs numpy alone; pymbar brings 200 MB of dependencies (jax beside it
for speed) and seconds of import time, takes decorrelated samples only (it wants subsampling), and knows no blocks.  The
tests compare free energies and means with those of pymbar 4.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass

import numpy as np

from lft.analysis.estimate import MIN_LENGTH_IN_TAU, Estimate, estimate, format_with_error
from lft.analysis.resample import Resamples
from lft.errors import DivergenceError, InputError, SeriesTooShort

MIN_EFFECTIVE = 100
"""Fewer effective measurements than this are no estimate: the weights' tail has hardly been sampled."""

CHUNK = 2**15


@dataclass(frozen=True)
class Reweighted:
    """A number at couplings that were not simulated; prints ``0.6101(12) n_eff=5400 of 60000``.

    Attributes
    ----------
    value, error : float
    n_effective : float
        Independent measurements behind it.
    n : int
        Measurements that were there.
    """

    value: float
    error: float
    n_effective: float
    n: int

    @property
    def is_constant(self):
        """True if nothing fluctuated: no error could be estimated."""
        return self.error == 0

    def __str__(self):
        if self.is_constant:
            return f"{self.value:.10g} constant: no error can be estimated, n={self.n}"
        return f"{format_with_error(self.value, self.error)} n_eff={self.n_effective:.0f} of {self.n}"


class Reweighting:
    """Ensembles of one lattice at one or several couplings, ready to be asked at others.

    Parameters
    ----------
    ensembles : list of lft.analysis.measured.Measured
        Of one theory on one lattice; their couplings may differ.
    n_blocks : int
        Blocks of the jackknife, 8 to 1000; each should be much longer than the autocorrelation time.
    min_effective : float
        Effective measurements below which an answer is refused.

    Attributes
    ----------
    free_energies : ndarray (M,)
        -ln Z_i relative to the first ensemble.
    free_energy_errors : ndarray (M,)
        From the jackknife; 0 for the first.
    inefficiency : ndarray (M,)
        c_i.

    Raises
    ------
    InputError
        Ensembles of different theories or lattices, or too short for the blocks.

    Notes
    -----
    Cost: O(N M) for each Newton step and each question, N all measurements; memory N (M + 1) numbers.

    Examples
    --------
    Independent spins in a field: <m> = tanh h, ln Z = V ln(2 cosh h).

    >>> import numpy as np
    >>> from lft.analysis.measured import Measured
    >>> from lft.analysis.reweight import Reweighting
    >>> rng, V = np.random.default_rng(1), 50
    >>> def at(h):
    ...     M = 2.0 * rng.binomial(V, 1 / (1 + np.exp(-2 * h)), 20000) - V
    ...     return Measured({"h": h}, {"h": -M}, {"magnetization": M / V}, V, V)
    >>> r = Reweighting([at(0.1), at(0.3)])
    >>> m = r.mean("magnetization", h=0.2)
    >>> bool(abs(m.value - np.tanh(0.2)) < 4.5 * m.error), m.error < 0.002
    (True, True)
    >>> exact = -V * np.log(np.cosh(0.3) / np.cosh(0.1))
    >>> bool(abs(r.free_energies[1] - exact) < 4.5 * r.free_energy_errors[1])
    True
    """

    def __init__(self, ensembles, n_blocks=40, min_effective=MIN_EFFECTIVE):
        self.ensembles, self._columns = list(ensembles), {}
        _check(self.ensembles, n_blocks)
        self.names = sorted(self.ensembles[0].couplings)
        self.counts = np.array([e.n for e in self.ensembles])
        self.n, self.n_blocks, self.min_effective = int(self.counts.sum()), int(n_blocks), float(min_effective)
        self.owner = np.repeat(np.arange(len(self.ensembles)), self.counts)
        edges = [np.linspace(0, n, n_blocks + 1).astype(int) for n in self.counts]
        self.block = np.concatenate([np.repeat(np.arange(n_blocks), np.diff(e)) for e in edges])
        self.couplings = np.array([[e.couplings[k] for k in self.names] for e in self.ensembles], float)
        operators = np.column_stack([np.concatenate([e.operators[k] for e in self.ensembles]) for k in self.names])
        self.origin = operators.mean(axis=0)  # exponents of deviations stay small; free energies get it back
        self.operators = operators - self.origin
        self.slowness = np.array([_slowness(e, self.names) for e in self.ensembles])  # (M, couplings)
        self.inefficiency = self.slowness[:, self._moved(self.couplings[0])].max(axis=1)
        self._warn_if_short()
        self._solve()

    def _warn_if_short(self):
        """A block must be longer than the correlation: 50 tau_int in all, as everywhere."""
        for e, c in zip(self.ensembles, self.inefficiency, strict=True):
            if e.n < MIN_LENGTH_IN_TAU * c / 2:
                warnings.warn(SeriesTooShort(
                    f"{e.label}: {e.n} measurements are {2 * e.n / c:.3g} tau_int of its slowest operator, fewer than "
                    f"{MIN_LENGTH_IN_TAU}: errors after reweighting are not to be trusted"), stacklevel=3)

    # ---- free energies
    def _solve(self):
        c = self.inefficiency[self.owner]
        self.log_share = np.log(self.counts / self.inefficiency)
        potential = self.operators @ self.couplings.T  # (N, M)
        f = self._first_guess()
        log_omega = -np.log(c)
        for _ in range(100):
            log_terms = self.log_share + f - potential
            log_den = _log_sum(log_terms)
            p = np.exp(log_terms - log_den[:, None])
            gradient = p.T @ np.exp(log_omega) - np.exp(self.log_share)
            if np.abs(gradient).max() < 1e-10 * np.exp(self.log_share).sum():
                break
            f = self._newton(f, potential, p, gradient, np.exp(log_omega), log_den)
        else:
            raise DivergenceError(f"multiple-histogram equations of {len(self.ensembles)} ensembles did not converge "
                                  "in 100 steps: neighboring ensembles do not overlap; add couplings between them")
        self.log_base = log_omega - log_den  # W = exp(log_base - u_g)
        self.p = p
        self._jackknife_free_energies(np.exp(log_omega))
        shift = (self.couplings - self.couplings[0]) @ self.origin
        self.free_energies = f - f[0] + shift
        self._f = f
        samples = self._f_samples - self._f_samples[:, :1]
        self.free_energy_errors = self._resamples(f - f[0], f - f[0] + samples).error

    def _first_guess(self):
        """Trapezoids of d f / d g = <O> along the couplings, sorted by the first principal direction."""
        means = np.array([self.operators[self.owner == i].mean(axis=0) for i in range(len(self.ensembles))])
        f = np.zeros(len(means))
        order = np.argsort(self.couplings @ _direction(self.couplings))
        for a, b in itertools.pairwise(order):
            f[b] = f[a] + (self.couplings[b] - self.couplings[a]) @ (means[a] + means[b]) / 2
        return f

    def _newton(self, f, potential, p, gradient, omega, log_den):
        hessian = np.diag(p.T @ omega) - p.T @ (omega[:, None] * p)
        step = np.zeros_like(f)
        step[1:] = _solve_positive(hessian[1:, 1:], -gradient[1:])
        share = np.exp(self.log_share)
        objective = omega @ log_den - share @ f
        scale = 1.0
        while scale > 1e-6:
            trial = f + scale * step
            value = omega @ _log_sum(self.log_share + trial - potential) - share @ trial
            if value <= objective + 1e-12 * abs(objective):
                break
            scale /= 2
        return f + scale * step

    def _jackknife_free_energies(self, omega):
        """Shifts of f when one block of each ensemble is left out: one Newton step from the solution."""
        M, B = len(self.ensembles), self.n_blocks
        self._f_samples, self._ratio = np.zeros((B, M)), np.ones((B, M))
        for i in range(M):
            lost = np.bincount(self.block[self.owner == i], minlength=B)
            self._ratio[:, i] = 1 - lost / self.counts[i]
        if M == 1:
            return
        share = np.exp(self.log_share)
        total_p, total_pp = self.p.T @ omega, self.p.T @ (omega[:, None] * self.p)
        for b in range(B):
            rows = self.block == b
            p, w = self.p[rows], omega[rows]
            left_p, left_pp = total_p - p.T @ w, total_pp - p.T @ (w[:, None] * p)
            step = _solve_positive((np.diag(left_p) - left_pp)[1:, 1:], -(left_p - share * self._ratio[b])[1:])
            self._f_samples[b, 1:] = step

    def _resamples(self, center, samples):
        lost = np.bincount(self.block, minlength=self.n_blocks)
        return Resamples("jackknife", np.asarray(center, float), np.asarray(samples, float), self.n / lost,
                         np.zeros(self.n_blocks, int))

    # ---- weights at other couplings
    def point(self, couplings=None, **by_name):
        """Couplings as an array in the order of :attr:`names`; those not named keep the value they ran at."""
        wanted = {**(couplings or {}), **by_name}
        unknown = sorted(set(wanted) - set(self.names))
        if unknown:
            raise InputError(f"coupling {unknown[0]!r}: these archives can be reweighted in {', '.join(self.names)}")
        out = []
        for k, name in enumerate(self.names):
            here = np.unique(self.couplings[:, k])
            value = wanted.get(name, here[0] if len(here) == 1 else None)
            if value is None:
                raise InputError(f"{name}: the ensembles ran at {here.tolist()}; give the value you want")
            if not math.isfinite(value):
                raise InputError(f"{name} = {value}: valid is a finite number")
            out.append(float(value))
        return np.array(out)

    def log_weights(self, g):
        """ln W_n at a point, (N,), up to a constant."""
        return self.log_base - self.operators @ g

    def n_effective(self, couplings=None, **by_name):
        """Effective number of independent measurements at some couplings."""
        g = self.point(couplings, **by_name)
        return self._n_effective(self.log_weights(g), g)

    def _moved(self, g):
        """Which couplings differ between the ensembles or from all of them; if none, those that are not zero."""
        differs = (self.couplings != self.couplings[0]).any(axis=0)
        moved = differs | ~np.isclose(g, self.couplings, rtol=1e-13, atol=0).any(axis=0)
        if not moved.any():
            moved = self.couplings[0] != 0
        return moved if moved.any() else np.ones(len(self.names), bool)

    def _n_effective(self, log_w, g):
        w = np.exp(log_w - log_w.max())
        c = self.slowness[:, self._moved(g)].max(axis=1)
        return float(w.sum() ** 2 / (c[self.owner] @ w**2))

    def n_at_home(self):
        """Largest number of effective measurements at the couplings of any one ensemble."""
        return max(self._n_effective(self.log_weights(g), g) for g in self.couplings)

    def reach(self, name, couplings=None):
        """Interval of one coupling, around the ensemble nearest to ``couplings``, with enough effective measurements.

        Returns
        -------
        low, high : float
            Found by bisection, to 1 part in 1000 of the interval; nan where even the ensembles' own couplings have
            too few.
        """
        k = self.names.index(name)
        wanted = {**{n: self.couplings[0, i] for i, n in enumerate(self.names)}, **(couplings or {})}
        base = self.point(wanted)
        here = self.couplings[np.argmin(np.abs(self.couplings[:, k] - base[k])), k]

        def is_enough(value):
            g = base.copy()
            g[k] = value
            return self._n_effective(self.log_weights(g), g) >= self.min_effective

        if not is_enough(here):
            return math.nan, math.nan
        spread = max(float(np.std(self.operators[:, k])), 1e-300)
        return tuple(_edge(is_enough, here, sign * 0.1 / spread) for sign in (-1, 1))

    def require(self, couplings=None, **by_name):
        """ln W at the couplings; InputError with n_eff and the reachable interval where they are too far away."""
        g = self.point(couplings, **by_name)
        log_w = self.log_weights(g)
        n_effective = self._n_effective(log_w, g)
        if n_effective >= self.min_effective:
            return log_w, n_effective
        asked = dict(zip(self.names, g.tolist(), strict=True))
        moved = [n for k, n in enumerate(self.names) if not np.isclose(g[k], self.couplings[:, k], rtol=1e-13).any()]
        said = ", ".join(f"{n} = {asked[n]:.8g}" for n in moved or self.names)
        text = (f"{said}: {n_effective:.3g} effective of {self.n} measurements at {self._where()}, fewer than "
                f"{self.min_effective:g}: this would be an extrapolation")
        for name in (moved or self.names)[:1]:
            low, high = self.reach(name, {n: v for n, v in asked.items() if n not in moved})
            if not math.isnan(low):
                text += f"; within reach is {name} = {low:.6g} to {high:.6g}"
            else:
                text += f"; even where they ran they are worth only {self.n_at_home():.3g}"
        raise InputError(f"{text}; simulate nearer, or longer")

    def _where(self):
        return ", ".join(f"{n} = {', '.join(f'{v:.8g}' for v in np.unique(self.couplings[:, k])[:6])}"
                         for k, n in enumerate(self.names) if len(np.unique(self.couplings[:, k])) > 1
                         or len(self.ensembles) == 1)

    # ---- answers
    def columns(self, names):
        """Series of observables of all ensembles, (N, k)."""
        for name in names:
            if name not in self._columns:
                self._columns[name] = np.concatenate([e.column(name) for e in self.ensembles])
        return np.column_stack([self._columns[name] for name in names])

    def means(self, names, couplings=None, *, with_operator=None, **by_name):
        """Means of observables at some couplings, as jackknife :class:`~lft.analysis.resample.Resamples` (k,).

        Parameters
        ----------
        names : list of str
        with_operator : str, optional
            Name of a coupling: then also <O> and <a O> follow, (2k + 1,), for derivatives; O from its overall mean.
        """
        log_w, _ = self.require(couplings, **by_name)
        a = self.columns(names)
        if with_operator is not None:
            o = self.operators[:, [self.names.index(with_operator)]]
            a = np.hstack([a, o, a * o])
        w = np.exp(log_w - log_w.max())
        return self._resamples(w @ a / w.sum(), self._left_out(w, a))

    def center(self, names, couplings=None, *, with_operator=None, **by_name):
        """The means of :meth:`means` without their errors, ndarray; quick, for searches.  No refusal."""
        log_w = self.log_weights(self.point(couplings, **by_name))
        a = self.columns(names)
        if with_operator is not None:
            o = self.operators[:, [self.names.index(with_operator)]]
            a = np.hstack([a, o, a * o])
        w = np.exp(log_w - log_w.max())
        return w @ a / w.sum()

    def _left_out(self, w, a):
        """Means without one block of each ensemble, with the free energies that belong to them, (B, k)."""
        B = self.n_blocks
        up, down = np.zeros((B, a.shape[1])), np.zeros(B)
        if len(self.ensembles) == 1:
            starts = np.flatnonzero(np.diff(self.block, prepend=-1))
            parts_up, parts_down = np.add.reduceat(w[:, None] * a, starts, axis=0), np.add.reduceat(w, starts)
            return (parts_up.sum(axis=0) - parts_up) / (parts_down.sum() - parts_down)[:, None]
        change = (self._ratio * np.exp(self._f_samples)).T  # (M, B)
        for start in range(0, self.n, CHUNK):
            rows = slice(start, start + CHUNK)
            v = w[rows, None] / (self.p[rows] @ change)
            v[np.arange(len(v)), self.block[rows]] = 0.0
            up += v.T @ a[rows]
            down += v.sum(axis=0)
        return up / down[:, None]

    def mean(self, what, couplings=None, *, function=None, **by_name):
        """One number at some couplings with its error.

        Parameters
        ----------
        what : str or list of str
            An observable; or several, with ``function(means) -> float``.

        Returns
        -------
        Reweighted
        """
        names = [what] if isinstance(what, str) else list(what)
        if function is None and len(names) > 1:
            raise InputError(f"{len(names)} observables: give function(means) -> float")
        log_w, n_effective = self.require(couplings, **by_name)
        if len(self.ensembles) == 1:
            e = self._gamma(names, function, log_w)
            return Reweighted(e.value, e.error, n_effective, self.n)
        values = self.means(names, couplings, **by_name).map(lambda m: m[0] if function is None else function(m))
        return Reweighted(float(values.center), float(values.error), n_effective, self.n)

    def _gamma(self, names, function, log_w) -> Estimate:
        """Gamma method for f(<w a>/<w>)."""
        w = np.exp(log_w - log_w.max())
        a = self.columns(names)
        if not np.ptp(a, axis=0).any():
            value = float(a[0, 0] if function is None else function(a[0]))
            return Estimate(value, 0.0, 0.0, 0.5, 0.0, 0, self.n)
        outer = (lambda m: m[0]) if function is None else function
        series = np.column_stack([w, w[:, None] * a])
        return estimate(series, lambda m: outer(m[1:] / m[0]), name=", ".join(names))

    def derivative(self, names, coupling, function, couplings=None, **by_name):
        """d f(<a>)/d g at some couplings, as Resamples: the fluctuation formula d<a>/dg = -(<a O> - <a><O>)."""
        k = len(names)

        def slope(m):
            direction = -(m[k + 1 :] - m[:k] * m[k])
            step = 1e-5 * np.max(np.abs(m[:k])) / max(np.max(np.abs(direction)), 1e-300)
            return (function(m[:k] + step * direction) - function(m[:k] - step * direction)) / (2 * step)

        return self.means(names, couplings, with_operator=coupling, **by_name).map(slope)

    def log_z(self, couplings=None, **by_name):
        """ln Z at some couplings over that of the first ensemble, with its error (:class:`Reweighted`)."""
        g = self.point(couplings, **by_name)
        log_w, n_effective = self.require(couplings, **by_name)
        top = log_w.max()
        w = np.exp(log_w - top)
        center = math.log(w.sum()) + top + self._f[0]
        if len(self.ensembles) == 1:
            sums = np.bincount(self.block, w, self.n_blocks)
            samples = np.log((w.sum() - sums) / self._ratio[:, 0]) + top + self._f[0]
        else:
            change = (self._ratio * np.exp(self._f_samples)).T
            down = np.zeros(self.n_blocks)
            for start in range(0, self.n, CHUNK):
                rows = slice(start, start + CHUNK)
                v = w[rows, None] / (self.p[rows] @ change)
                v[np.arange(len(v)), self.block[rows]] = 0.0
                down += v.sum(axis=0)
            samples = np.log(down) + top + self._f[0] + self._f_samples[:, 0]
        values = self._resamples(center, samples)
        shift = -(g - self.couplings[0]) @ self.origin
        return Reweighted(float(values.center + shift), float(values.error), n_effective, self.n)


def _check(ensembles, n_blocks):
    if not ensembles:
        raise InputError("no ensemble to reweight")
    if not isinstance(n_blocks, (int, np.integer)) or not 8 <= n_blocks <= 1000:
        raise InputError(f"n_blocks = {n_blocks!r}: valid is an integer from 8 to 1000")
    first = ensembles[0]
    for e in ensembles:
        if e.fixed != first.fixed or set(e.couplings) != set(first.couplings):
            raise InputError(f"{e.label}: another theory, lattice or set of couplings than {first.label}; together "
                             "only archives of one theory on one lattice can be reweighted")
        if e.n < 4 * n_blocks:
            raise InputError(f"{e.label}: {e.n} measurements are too few for {n_blocks} blocks; at least "
                             f"{4 * n_blocks} are needed")


def _slowness(ensemble, names):
    """2 tau_int of each operator, in measurements, at least 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesTooShort)  # of operators whose couplings move it is said elsewhere
        return [max(1.0, 2 * estimate(ensemble.operators[k], name=ensemble.label).tau_int) for k in names]


def _direction(couplings):
    centered = couplings - couplings.mean(axis=0)
    return np.linalg.svd(centered, full_matrices=False)[2][0] if len(couplings) > 1 else np.ones(couplings.shape[1])


def _log_sum(terms):
    top = terms.max(axis=1)
    return top + np.log(np.exp(terms - top[:, None]).sum(axis=1))


def _solve_positive(matrix, rhs):
    """Solution with a positive semi-definite matrix; directions without curvature are not moved along."""
    if not len(rhs):
        return rhs
    return np.linalg.lstsq(matrix, rhs, rcond=1e-13)[0]


def _edge(is_enough, start, step):
    """Last value for which a condition holds, walking from start in growing steps, then bisecting."""
    good, bad = start, start + step
    while is_enough(bad):
        good, bad, step = bad, bad + 2 * step, 2 * step
        if not math.isfinite(bad) or abs(step) > 1e12:
            return math.copysign(math.inf, step)
    for _ in range(12):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if is_enough(middle) else (good, middle)
    return good
