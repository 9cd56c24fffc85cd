"""Finite-size scaling collapse: one master curve for all lattices, with fitted exponents and their errors.

    y(g, L) = L^rho [ f(x) + L^-omega c(x) ],      x = (g - g_c) L^(1/nu)

f is a polynomial (and c, where a correction is asked for, one of low degree).  For given (g_c, 1/nu, rho) the curve is
linear least squares, so only the scaling parameters are searched (variable projection) and chi^2 has its usual meaning:
points minus all parameters.  Errors: from the curvature of chi^2, or from resampled data (bootstrap), each refitted.

As a check that knows nothing of polynomials, :func:`quality` compares every point with a straight line through its
neighbors of the *other* lattices, S = mean (y_i - Y_i)^2/(dy_i^2 + dY_i^2), about 1 for a good collapse (in the spirit
of J. Houdayer, A. K. Hartmann, Phys. Rev. B 70, 014418 (2004); reconstructed).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.errors import InputError

NAMES = ("critical", "inverse_nu", "rho")


@dataclass(frozen=True)
class Points:
    """Data of a collapse: one entry per lattice and coupling.

    Parameters
    ----------
    L, g, y, error : ndarray (n,)
        Extent, coupling, value and standard error (independent of each other).
    """

    L: np.ndarray
    g: np.ndarray
    y: np.ndarray
    error: np.ndarray

    def __post_init__(self):
        for name in ("L", "g", "y", "error"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        arrays = (self.L, self.g, self.y, self.error)
        if len({a.shape for a in arrays}) > 1 or self.L.ndim != 1:
            raise InputError(f"points of a collapse: L, g, y, error have shapes {[a.shape for a in arrays]}; valid are "
                             "four arrays of one length")
        if not all(np.isfinite(a).all() for a in arrays) or (self.L < 1).any():
            raise InputError("points of a collapse: all must be finite and L >= 1")
        if (self.error <= 0).any():
            k = int(np.argmax(self.error <= 0))
            raise InputError(f"points of a collapse: point {k} (L = {self.L[k]:g}, g = {self.g[k]:.6g}) has error "
                             f"{self.error[k]:g}: constant data have no error; leave the point out")


@dataclass(frozen=True)
class Collapse:
    """Scaling parameters of a collapse.

    Attributes
    ----------
    critical, nu, rho : tuple of float
        (value, error); the error of a parameter held fixed is 0.
    chi_squared : float
    dof : int
    quality : float
        S of :func:`quality`.
    samples : ndarray (n, 3)
        (g_c, 1/nu, rho) of the bootstrap; empty if the errors come from the curvature.
    curve : ndarray
        Coefficients of f in powers of x/x_scale, lowest first, then those of c.
    x_scale : float
    degree : int
    omega : float or None
    """

    critical: tuple
    nu: tuple
    rho: tuple
    chi_squared: float
    dof: int
    quality: float
    samples: np.ndarray
    curve: np.ndarray
    x_scale: float
    degree: int
    omega: object

    @property
    def p_value(self):
        """Probability of a larger chi^2."""
        from scipy.special import chdtrc

        return float(chdtrc(self.dof, self.chi_squared))

    def master(self, x):
        """f(x)."""
        return np.polynomial.polynomial.polyval(np.asarray(x, float) / self.x_scale, self.curve[: self.degree + 1])

    def scaled(self, points):
        """x, y L^-rho and its error of data points."""
        x = (points.g - self.critical[0]) * points.L ** (1 / self.nu[0])
        factor = points.L ** -self.rho[0]
        return x, points.y * factor, points.error * factor

    def __str__(self):
        parts = [f"{n} = {format_with_error(*v)}" for n, v in
                 (("critical", self.critical), ("nu", self.nu), ("rho", self.rho)) if v[1] > 0]
        return f"{', '.join(parts)}; chi^2/dof = {self.chi_squared:.1f}/{self.dof}, S = {self.quality:.2f}"

    def as_json(self):
        """The result as plain numbers."""
        pair = lambda p: {"value": float(p[0]), "error": float(p[1])}  # noqa: E731
        return {"critical": pair(self.critical), "nu": pair(self.nu), "rho": pair(self.rho),
                "chi_squared": self.chi_squared, "dof": self.dof, "quality": self.quality, "omega": self.omega}


def collapse(points, start, *, fixed=(), degree=4, omega=None, correction_degree=0, n_bootstrap=0, seed=0):
    """Fit (g_c, nu, rho) so that the data of all lattices fall on one curve.

    Parameters
    ----------
    points : Points
        At least two sizes, overlapping in the scaling variable.
    start : dict
        First guesses ``critical``, ``nu``, ``rho`` (default of rho: 0).
    fixed : tuple of str
        Which of them are not fitted, such as ``("rho",)`` for a Binder cumulant.
    degree : int
        Of the polynomial f, 1 to 12.
    omega : float, optional
        Adds L^-omega c(x), c of degree ``correction_degree``.
    n_bootstrap : int
        0: errors from the curvature of chi^2; else from so many sets of data drawn from N(y, error), refitted.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Collapse

    Raises
    ------
    InputError
        Fewer than two sizes, too few points for the parameters, or sizes that do not overlap at the start.

    Notes
    -----
    The errors are not inflated where chi^2 is bad: look at it.  Cost: milliseconds for 100 points, times the bootstrap.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.collapse import Points, collapse
    >>> rng = np.random.default_rng(1)
    >>> L, g = (a.ravel() for a in np.meshgrid([8.0, 16.0, 32.0], np.linspace(0.9, 1.1, 9)))
    >>> y = L**-0.25 * np.tanh(0.3 * (g - 1) * L) + rng.normal(0, 1e-3, L.size)
    >>> c = collapse(Points(L, g, y, np.full(L.size, 1e-3)), {"critical": 1.01, "nu": 0.9, "rho": -0.2}, degree=7)
    >>> bool(abs(c.nu[0] - 1) < 4 * c.nu[1] and abs(c.rho[0] + 0.25) < 4 * c.rho[1])
    True
    """
    from scipy.optimize import least_squares

    _check(points, start, fixed, degree)
    base = np.array([start["critical"], 1 / start["nu"], start.get("rho", 0.0)])
    free = [k for k, name in enumerate(NAMES) if name not in _fixed_names(fixed)]
    x_scale = float(np.abs((points.g - base[0]) * points.L ** base[1]).max())
    n_linear = degree + 1 + (0 if omega is None else correction_degree + 1)
    dof = len(points.y) - len(free) - n_linear
    if dof < 1:
        raise InputError(f"a collapse of {len(points.y)} points with {len(free)} + {n_linear} parameters: give more "
                         "points, or a lower degree")

    def complete(v):
        out = base.copy()
        out[free] = v
        return out

    def linear(p, y):
        """Residuals with the best curve, and its coefficients."""
        x = (points.g - p[0]) * points.L ** p[1] / x_scale
        factor = points.L ** p[2] / points.error
        design = np.vander(x, degree + 1, increasing=True)
        if omega is not None:
            design = np.hstack([design, np.vander(x, correction_degree + 1, increasing=True)
                                * points.L[:, None] ** -omega])
        design = design * factor[:, None]
        coefficients = np.linalg.lstsq(design, y / points.error, rcond=None)[0]
        return design @ coefficients - y / points.error, coefficients

    # the width of the scaling window sets the size of a step in g_c
    typical = np.array([x_scale / points.L.max() ** base[1], base[1], 1.0])[free]

    def fit(y, v):
        return least_squares(lambda u: linear(complete(u), y)[0], v, x_scale=typical, xtol=1e-12, ftol=1e-12,
                             gtol=1e-12, diff_step=1e-6, max_nfev=400)

    found = fit(points.y, base[free]) if free else None
    best = complete(found.x) if free else base
    residuals, curve = linear(best, points.y)
    chi_squared = float(residuals @ residuals)
    error, samples = np.zeros(3), np.empty((0, 3))
    if free and n_bootstrap:
        rng = np.random.default_rng(seed)
        samples = np.array([complete(fit(points.y + points.error * rng.standard_normal(len(points.y)), found.x).x)
                            for _ in range(n_bootstrap)])
        error = samples.std(axis=0, ddof=1)
        error[[k for k in range(3) if k not in free]] = 0.0
    elif free:
        curvature = found.jac.T @ found.jac
        condition = np.linalg.cond(curvature * np.outer(typical, typical))
        if not condition < 1e14:
            raise InputError(f"collapse: the data do not determine {', '.join(NAMES[k] for k in free)} (condition "
                             f"number {condition:.2g}); hold one of them fixed, or add couplings and sizes")
        error[free] = np.sqrt(np.diag(np.linalg.inv(curvature)))
    out = Collapse((best[0], error[0]), (1 / best[1], error[1] / best[1] ** 2), (best[2], error[2]), chi_squared, dof,
                   math.nan, samples, curve, x_scale, degree, omega)
    return Collapse(**{**vars(out), "quality": quality(*out.scaled(points), points.L)})


def quality(x, y, error, L):
    """S of scaled data: mean squared distance of each point from the line through its neighbors of other sizes.

    For each point and each other size that has data on both sides of x, the nearest one on either side is taken; a
    weighted straight line through all of them predicts Y +- dY, and

        S = mean (y - Y)^2/(error^2 + dY^2).

    nan where no point has neighbors.
    """
    terms = []
    for i in range(len(x)):
        near = []
        for other in np.unique(L[L != L[i]]):
            mine = np.flatnonzero(other == L)
            below, above = mine[x[mine] <= x[i]], mine[x[mine] > x[i]]
            if len(below) and len(above):
                near += [below[np.argmax(x[below])], above[np.argmin(x[above])]]
        if not near:
            continue
        w = 1 / error[near] ** 2
        d = x[near] - x[i]
        K, Kx, Kxx, Ky, Kxy = w.sum(), w @ d, w @ d**2, w @ y[near], w @ (d * y[near])
        delta = K * Kxx - Kx**2
        if delta <= 0:
            continue
        terms.append((y[i] - (Kxx * Ky - Kx * Kxy) / delta) ** 2 / (error[i] ** 2 + Kxx / delta))
    return float(np.mean(terms)) if terms else math.nan


def _fixed_names(fixed):
    return tuple("inverse_nu" if name == "nu" else name for name in fixed)


def _check(points, start, fixed, degree):
    valid = ("critical", "nu", "rho")
    wrong = sorted((set(fixed) | set(start)) - set(valid))
    if wrong:
        raise InputError(f"{wrong[0]!r}: a collapse has the parameters {', '.join(valid)}")
    if not {"critical", "nu"} <= set(start) or not start["nu"] > 0:
        raise InputError(f"start = {start!r}: give critical and nu > 0 (rho is 0 unless given)")
    if not 1 <= degree <= 12:
        raise InputError(f"degree = {degree!r}: valid is an integer from 1 to 12")
    sizes = np.unique(points.L)
    if len(sizes) < 2:
        raise InputError(f"a collapse needs at least two sizes, got L = {sizes.tolist()}")
    x = (points.g - start["critical"]) * points.L ** (1 / start["nu"])
    low, high = (max(f(x[size == points.L]) for size in sizes) if f is np.min else
                 min(f(x[size == points.L]) for size in sizes) for f in (np.min, np.max))
    if not low < high:
        raise InputError("the sizes do not overlap in the scaling variable (g - g_c) L^(1/nu) at the start values: "
                         "give couplings closer to each other, or better start values")
