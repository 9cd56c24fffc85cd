"""Effective masses and correlated fits of a decaying correlator: correlation lengths and times.

A zero-momentum correlator decays as ``sum_n A_n exp(-m_n r)``, on a periodic axis of L sites as
``sum_n A_n [exp(-m_n r) + exp(-m_n (L-r))]``; the smallest m is the inverse of the exponential correlation length
(along time: the inverse correlation time).

    chi^2 = sum_(r, r') (C(r) - f(r)) W_(r r') (C(r') - f(r')),     W = inverse of the covariance of C

The covariance comes from blocks, so it is itself noisy.  ``covariance=`` says what is inverted: ``"full"`` (chi^2 then
follows Hotelling's distribution with the number of blocks, not the chi^2 distribution), ``"svd"`` (directions of the
correlation matrix below ``cut`` times the largest are left out), ``"shrinkage"`` (the correlation matrix pulled toward
the unit matrix by the intensity that the blocks' scatter asks for), ``"diagonal"``.  Errors never trust W: they
propagate the full covariance through the fit, ``G cov G^T`` with ``G = (J^T W J)^-1 J^T W``.  All standard results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.analysis.source import normalized
from lft.errors import InputError

COVARIANCES = ("auto", "full", "svd", "shrinkage", "diagonal")
P_MIN = 1e-4
"""A scan whose best fit has a smaller p value is refused: the model is wrong."""
BLOCKS_PER_POINT = 5
"""With at least so many blocks per fitted point ``"auto"`` inverts the full covariance, else it shrinks."""


# ---- effective mass
def effective_mass(correlator):
    """Effective mass m(r) between neighboring distances, by leave-one-block-out.

        open axis:      C(r)/C(r+1) = exp(m)
        periodic axis:  C(r)/C(r+1) = cosh(m (r - L/2)) / cosh(m (r + 1 - L/2))

    Parameters
    ----------
    correlator : Correlator
        With its blocks, distances 0, 1, 2, ...

    Returns
    -------
    r, value, error : ndarray
        r is the smaller distance of each pair, up to L/2 - 1 on a periodic axis.  NaN where C has no such m (it does
        not fall, or is not positive, in the mean or in a block left out).

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.correlator import Correlator
    >>> from lft.analysis.mass import effective_mass
    >>> r = np.arange(9)
    >>> rows = np.cosh(0.3 * (r - 8)) * np.linspace(0.9, 1.1, 6)[:, None]
    >>> z = Correlator("x", r, rows.mean(axis=0), rows.std(axis=0), rows=rows, weights=np.ones(6), period=16)
    >>> bool(np.allclose(effective_mass(z)[1], 0.3))
    True
    """
    r, L = np.asarray(correlator.r, float), correlator.period
    n = len(r) - 1 if L is None else int(min(len(r) - 1, L // 2))
    if n < 1:
        raise InputError(f"correlator along {correlator.axis}: an effective mass needs at least two distances")
    with np.errstate(invalid="ignore", divide="ignore"):
        value, error = correlator.jackknife(lambda c: _masses(r[:n], c[: n + 1], L))
    return correlator.r[:n], value, error


def _masses(r, c, L):
    ratio = np.where((c[:-1] > 0) & (c[1:] > 0), c[:-1] / np.where(c[1:] > 0, c[1:], 1.0), np.nan)
    if L is None:
        return np.where(ratio > 0, np.log(ratio), np.nan)
    return _solve_cosh(ratio, L / 2 - r)


def _solve_cosh(ratio, far):
    """m of cosh(m far)/cosh(m (far-1)) = ratio by bisection; it rises from 1 at m = 0 like exp(m)."""
    solvable = ratio > 1
    target = np.log(np.where(solvable, ratio, 2.0))
    # below log(2 ratio) at far <= 1, where cosh(m far) / cosh(m (far - 1)) is smallest
    low, high = np.zeros_like(target), target + math.log(4.0)
    for _ in range(80):
        middle = (low + high) / 2
        above = _log_cosh(middle * far) - _log_cosh(middle * (far - 1)) > target
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(solvable, (low + high) / 2, np.nan)


def _log_cosh(x):
    x = np.abs(x)
    return x + np.log1p(np.exp(-2 * x)) - math.log(2)


# ---- fits
@dataclass(frozen=True)
class MassFit:
    """One correlated fit.

    Attributes
    ----------
    axis : str
    mass, error : float
        Smallest mass, per site (per bin along time), and its error.
    amplitude : tuple of float
        A_n, the smallest mass first.
    masses : tuple of float
    first, last : int
        Distances that were fitted, both included.
    chi2, dof, p : float
        ``dof`` is the expectation of chi^2 (points - parameters for ``full`` and ``svd``); ``p`` the probability of a
        larger one.
    covariance : str
        What was inverted.
    condition : float
        Condition number of the correlation matrix before anything was done to it.
    shrinkage : float
        Intensity of the shrinkage, 0 for none.
    dropped : int
        Directions left out by ``svd``.
    n_blocks : int
    period : int or None
    """

    axis: str
    mass: float
    error: float
    amplitude: tuple
    masses: tuple
    first: int
    last: int
    chi2: float
    dof: float
    p: float
    covariance: str
    condition: float
    shrinkage: float
    dropped: int
    n_blocks: int
    period: int | None = None

    def __call__(self, r):
        """The fitted function."""
        return _basis(np.asarray(r, float), np.array(self.masses), self.period) @ np.array(self.amplitude)

    @property
    def length(self):
        """Correlation length (time) 1/m and its error, in sites (bins)."""
        return 1 / self.mass, self.error / self.mass**2

    def __str__(self):
        return (f"m={format_with_error(self.mass, self.error)} r={self.first}..{self.last} "
                f"chi2/dof={self.chi2:.3g}/{self.dof:.3g} p={self.p:.2g} {self.covariance}")


def fit_mass(correlator, first, last, n_states=1, covariance="auto", cut=1e-4):
    """Fit a sum of exponentials (periodic: of their sums with the images) to a correlator.

    Parameters
    ----------
    correlator : Correlator
        With its blocks.
    first, last : int
        Distances to fit, both included; at least ``2 n_states + 1`` of them.
    n_states : {1, 2}
        Number of exponentials.
    covariance : {"auto", "full", "svd", "shrinkage", "diagonal"}
        See the module; ``"auto"`` is full from 5 blocks per point on, else shrinkage.
    cut : float, optional
        For ``svd``: smallest eigenvalue kept, relative to the largest.

    Returns
    -------
    MassFit

    Raises
    ------
    InputError
        A range that does not fit the correlator, a covariance of too low a rank, or no decay in the range.

    Notes
    -----
    The amplitudes are eliminated (they enter linearly), the masses found by least squares from several starts.  Cost:
    about a millisecond.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.correlator import Correlator
    >>> from lft.analysis.mass import fit_mass
    >>> noise = np.random.default_rng(1).standard_normal((200, 12)) * 0.01
    >>> rows = 2 * np.exp(-0.25 * np.arange(12)) + noise
    >>> z = Correlator("t", np.arange(12), rows.mean(axis=0), rows.std(axis=0) / 200**0.5, rows=rows,
    ...                weights=np.ones(200))
    >>> fit = fit_mass(z, 0, 11)
    >>> bool(abs(fit.mass - 0.25) < 4.5 * fit.error), fit.covariance, bool(fit.p > 1e-4)
    (True, 'full', True)
    """
    index = _range(correlator, first, last, n_states)
    weights = normalized(correlator.weights, 2)[:, index if np.ndim(correlator.weights) > 1 else 0]
    rows, y, r = correlator.rows[:, index], correlator.value[index], np.asarray(correlator.r, float)[index]
    cov = correlator.covariance[np.ix_(index, index)]
    white, kind, notes = _whitening(rows, weights, cov, covariance, cut)
    masses = _minimize(white, y, r, correlator.period, n_states)
    F = _basis(r, masses, correlator.period)
    amplitude = np.linalg.lstsq(white @ F, white @ y, rcond=None)[0]
    residual = white @ (y - F @ amplitude)
    J = np.concatenate([F, _slopes(r, masses, correlator.period) * amplitude], axis=1)
    WJ = white @ J
    G = np.linalg.pinv(WJ) @ white
    errors = np.sqrt(np.diag(G @ cov @ G.T))
    mass, error = float(masses[0]), float(errors[n_states])
    if not (np.isfinite(error) and mass > 0):
        raise InputError(f"correlator along {correlator.axis}: no decay resolved between r = {first} and {last}")
    chi2 = float(residual @ residual)
    dof, p = _judge(chi2, white, WJ, cov, kind, len(rows))
    return MassFit(correlator.axis, mass, error, tuple(map(float, amplitude)), tuple(map(float, masses)),
                   int(first), int(last), chi2, dof, p, kind, **notes, n_blocks=len(rows), period=correlator.period)


def _range(correlator, first, last, n_states):
    if n_states not in (1, 2):
        raise InputError(f"n_states = {n_states!r}: valid are 1, 2")
    if correlator.rows is None or len(correlator.rows) < 4:
        raise InputError(f"correlator along {correlator.axis}: a fit needs at least 4 blocks of data")
    top = int(correlator.r[-1])
    if not 0 <= first < last <= top or last - first < 2 * n_states:
        raise InputError(f"fit range {first}..{last}: valid are 0 <= first < last <= {top} with at least "
                         f"{2 * n_states + 1} distances for {n_states} exponentials")
    index = np.flatnonzero((correlator.r >= first) & (correlator.r <= last))
    if not np.isfinite(correlator.value[index]).all() or not (correlator.error[index] > 0).all():
        raise InputError(f"correlator along {correlator.axis}: a value in {first}..{last} is undefined or has no "
                         "error (constant data)")
    return index


def _basis(r, masses, L):
    r = r[:, np.newaxis]
    images = 0.0 if L is None else np.exp(-masses * (L - r))
    return np.exp(-masses * r) + images


def _slopes(r, masses, L):
    """d/dm of the basis."""
    r = r[:, np.newaxis]
    images = 0.0 if L is None else (L - r) * np.exp(-masses * (L - r))
    return -r * np.exp(-masses * r) - images


def _whitening(rows, weights, cov, covariance, cut):
    """A matrix w with ``w^T w = W``, the name of what was done, and notes about it."""
    if covariance not in COVARIANCES:
        raise InputError(f"covariance {covariance!r}: valid are {', '.join(COVARIANCES)}")
    n_blocks, n = rows.shape
    if covariance == "auto":
        covariance = "full" if n_blocks >= BLOCKS_PER_POINT * n else "shrinkage"
    scale = np.sqrt(np.diag(cov))
    R = cov / np.outer(scale, scale)
    eigenvalues, vectors = np.linalg.eigh(R)
    smallest = max(eigenvalues[0], 0.0)
    notes = {"condition": float(eigenvalues[-1] / smallest) if smallest else math.inf, "shrinkage": 0.0, "dropped": 0}
    if covariance == "full" and (n >= n_blocks - 1 or not eigenvalues[0] > 1e-13 * eigenvalues[-1]):
        raise InputError(f"covariance 'full': the matrix of {n} points from {n_blocks} blocks is singular (condition "
                         f"number {notes['condition']:.3g}); take 'svd' or 'shrinkage', fewer points or more blocks")
    if covariance == "diagonal":
        return np.diag(1 / scale), covariance, notes
    if covariance == "shrinkage":
        notes["shrinkage"] = lam = _shrinkage(rows, weights)
        eigenvalues = (1 - lam) * np.maximum(eigenvalues, 0) + lam
        if not eigenvalues[0] > 1e-10:
            raise InputError(f"covariance 'shrinkage': the blocks ask for none and the matrix is singular ({n} points, "
                             f"{n_blocks} blocks); take 'svd' or fewer points")
    keep = np.ones(n, bool)
    if covariance == "svd":
        keep = eigenvalues > cut * eigenvalues[-1]
        notes["dropped"] = int((~keep).sum())
    return (vectors[:, keep] / np.sqrt(eigenvalues[keep])).T / scale, covariance, notes


def _shrinkage(rows, weights):
    """Intensity ``sum var(r_ij) / sum r_ij^2`` over i != j, between 0 and 1 (Ledoit-Wolf form; standard result)."""
    weights = weights.reshape(len(rows), -1)
    x = (rows - (weights * rows).sum(axis=0)) * np.sqrt(weights * len(rows))
    x = x / np.sqrt((x**2).mean(axis=0))
    n = len(x)
    products = np.einsum("bi,bj->bij", x, x)
    variance = products.var(axis=0, ddof=1) / n
    off = ~np.eye(x.shape[1], dtype=bool)
    bottom = (products.mean(axis=0)[off] ** 2).sum()
    return float(np.clip(variance[off].sum() / bottom, 0, 1)) if bottom > 0 else 1.0


def _minimize(white, y, r, L, n_states):
    """Masses, ascending, of least squares with the amplitudes eliminated."""
    from scipy.optimize import least_squares

    target, span = white @ y, r[-1] - r[0]

    def residual(logs):
        with np.errstate(over="ignore"):
            masses = np.cumsum(np.exp(np.clip(logs, -30, 5)))
        F = white @ _basis(r, masses, L)
        if not np.isfinite(F).all():
            return np.full(len(target), 1e6)
        return target - F @ np.linalg.lstsq(F, target, rcond=None)[0]

    best = None
    for guess in (0.3 / span, 1 / span, 3 / span, 10 / span):
        start = np.log([guess, 3 * guess][:n_states])
        found = least_squares(residual, start, method="trf", x_scale=1.0, xtol=1e-12, ftol=1e-14, gtol=1e-14)
        if best is None or found.cost < best.cost - 1e-12 * (1 + best.cost):
            best = found
    return np.cumsum(np.exp(np.clip(best.x, -30, 5)))


def _judge(chi2, white, WJ, cov, kind, n_blocks):
    """Expectation of chi^2 and the probability of a larger one, with the covariance that the data have."""
    from scipy.special import chdtrc, fdtrc

    Q = np.eye(len(WJ)) - WJ @ np.linalg.pinv(WJ)
    spread = Q @ white @ cov @ white.T @ Q
    mean, square = float(np.trace(spread)), float(np.trace(spread @ spread))
    if not mean > 1e-12:
        return 0.0, math.nan
    if kind in ("full", "svd"):  # Hotelling: the inverted covariance is itself an estimate
        dof = round(mean)
        rest = n_blocks - dof
        p = float(fdtrc(dof, rest, chi2 * rest / ((n_blocks - 1) * dof))) if rest > 0 else math.nan
        return float(dof), p
    return mean, float(chdtrc(mean**2 / square, chi2 * mean / square))


# ---- scan of the fit range
@dataclass(frozen=True)
class MassScan:
    """All fits of a scan and their average.

    Attributes
    ----------
    axis : str
    mass, error : float
        Average over the fits with Akaike weights; the error holds their spread.
    systematic : float
        The spread alone.
    fits : tuple of MassFit
    weights : tuple of float
        Normalized.
    failed : int
        Ranges in which no decay was found.
    """

    axis: str
    mass: float
    error: float
    systematic: float
    fits: tuple
    weights: tuple
    failed: int

    @property
    def best(self):
        """The fit with the largest weight."""
        return self.fits[int(np.argmax(self.weights))]

    @property
    def length(self):
        """Correlation length (time) 1/m and its error, in sites (bins)."""
        return 1 / self.mass, self.error / self.mass**2

    def __str__(self):
        return f"m={format_with_error(self.mass, self.error)} from {len(self.fits)} ranges; best {self.best}"

    def as_json(self):
        """Numbers for a report."""
        best = self.best
        return {"value": self.mass, "error": self.error, "systematic": self.systematic, "length": self.length[0],
                "length_error": self.length[1], "ranges": len(self.fits), "failed": self.failed,
                "best": {"first": best.first, "last": best.last, "mass": best.mass, "error": best.error,
                         "chi2": best.chi2, "dof": best.dof, "p": best.p if math.isfinite(best.p) else None,
                         "covariance": best.covariance, "shrinkage": best.shrinkage, "dropped": best.dropped,
                         "condition": best.condition if math.isfinite(best.condition) else None,
                         "states": len(best.masses)}}


def scan_mass(correlator, first=None, last=None, n_states=(1,), covariance="auto", cut=1e-4):
    """Fit all ranges and average over them.

        weight = exp(-(chi^2 + 2 parameters + 2 points left out)/2)      (Akaike information)
        m = sum w m_i,    error^2 = sum w error_i^2 + sum w (m_i - m)^2

    chi^2 is scaled so that its expectation is the number of points less the parameters.

    Parameters
    ----------
    correlator : Correlator
        With its blocks.
    first : sequence of int, optional
        First distances to try.  Default: from 0 on while at least as many points are left as a fit needs and one more.
    last : int, optional
        Last distance.  Default: the last one before C(r) falls below three of its errors (at most L/2).
    n_states, covariance, cut
        As for :func:`fit_mass`; ``n_states`` is a sequence.

    Raises
    ------
    InputError
        No range holds a decay whose error is smaller than it, or no fit has a p value above 1e-4.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.correlator import Correlator
    >>> from lft.analysis.mass import scan_mass
    >>> rng, r = np.random.default_rng(2), np.arange(16)
    >>> rows = np.exp(-0.2 * r) + 0.5 * np.exp(-r) + 0.02 * rng.standard_normal((400, 16))
    >>> z = Correlator("t", r, rows.mean(axis=0), rows.std(axis=0) / 20, rows=rows, weights=np.ones(400))
    >>> scan = scan_mass(z)
    >>> bool(abs(scan.mass - 0.2) < 4.5 * scan.error), scan.best.first > 0
    (True, True)
    """
    if correlator.rows is None or len(correlator.rows) < 4:
        raise InputError(f"correlator along {correlator.axis}: a fit needs at least 4 blocks of data")
    top = int(correlator.r[-1])
    if last is None:
        below = np.flatnonzero(~(correlator.value > 3 * correlator.error))
        last = int(below[0]) - 1 if len(below) else top
    fits, failed, reason = [], 0, f"C(r) is above three of its errors only up to r = {last}"
    for states in n_states:
        tries = range(0, last - 2 * states) if first is None else first
        for low in tries:
            try:
                fit = fit_mass(correlator, low, last, states, covariance, cut)
            except InputError as error:
                failed, reason = failed + 1, str(error)
                continue
            if fit.error < fit.mass:
                fits.append(fit)
            else:
                failed, reason = failed + 1, f"m = {fit.mass:.2g} +- {fit.error:.2g} for r = {low}..{last}"
    best = max((f.p for f in fits if math.isfinite(f.p)), default=0.0)
    if fits and best < P_MIN:
        raise InputError(f"correlator along {correlator.axis}: no sum of {' or '.join(map(str, n_states))} decays "
                         f"describes it (best p = {best:.2g} up to r = {last})")
    if not fits:
        raise InputError(f"correlator along {correlator.axis}: no correlation length resolved ({reason})")
    start = min(f.first for f in fits)
    score = []
    for f in fits:
        n_parameters = 2 * len(f.masses)
        dof = f.last - f.first + 1 - n_parameters
        chi2 = f.chi2 * dof / f.dof if f.dof > 0 else 0.0
        score.append(-(chi2 + 2 * n_parameters + 2 * (f.first - start)) / 2)
    w = np.exp(np.array(score) - max(score))
    w /= w.sum()
    values, errors = np.array([f.mass for f in fits]), np.array([f.error for f in fits])
    mass = float(w @ values)
    systematic = float(np.sqrt(w @ (values - mass) ** 2))
    error = float(np.sqrt(w @ errors**2 + systematic**2))
    if not error < mass:
        raise InputError(f"correlator along {correlator.axis}: no correlation length resolved, m = {mass:.2g} +- "
                         f"{error:.2g} over {len(fits)} fit ranges")
    return MassScan(correlator.axis, mass, error, systematic, tuple(fits), tuple(map(float, w)), failed)
