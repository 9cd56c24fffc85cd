"""Power laws of L fitted for every smallest size, and what they say together.

    y = a L^p (1 + b L^-omega)

Small lattices are precise and biased by corrections, large ones are neither: the smallest size L_min that enters is a
choice, made here by averaging over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.errors import InputError

MIN_P_VALUE = 0.1
"""A fit is accepted from the smallest L on at which chi^2 is not less probable than this."""

MAX_DRIFT = 2.0
"""... and at which the exponent moves by less than this, in standard errors of the move, when L_min grows."""

CORRECTION_SIZE = 1.0
"""Prior width of the amplitude b of a correction to scaling: without it large lattices alone leave b, and the exponent
that trades against it, undetermined."""


@dataclass(frozen=True)
class Fit:
    """A least-squares fit: parameters with errors, and how good it is.

    Attributes
    ----------
    names : tuple of str
    value, error : ndarray
    chi_squared : float
    dof : int
    L : tuple of int
        Sizes that entered.
    """

    names: tuple
    value: np.ndarray
    error: np.ndarray
    chi_squared: float
    dof: int
    L: tuple

    @property
    def p_value(self):
        """Probability of a larger chi^2; nan without degrees of freedom."""
        from scipy.special import chdtrc

        return float(chdtrc(self.dof, self.chi_squared)) if self.dof > 0 else math.nan

    def __getitem__(self, name):
        k = self.names.index(name)
        return float(self.value[k]), float(self.error[k])

    def __str__(self):
        numbers = ", ".join(f"{n} = {format_with_error(*self[n])}" for n in self.names)
        return f"{numbers}; chi^2/dof = {self.chi_squared:.2f}/{self.dof}, L = {self.L[0]}..{self.L[-1]}"

    def as_json(self):
        """Parameters, chi^2, dof and sizes; what is not finite is None."""
        numbers = {n: {"value": finite(v), "error": finite(e)} for n, v, e in
                   zip(self.names, self.value, self.error, strict=True)}
        return {**numbers, "chi_squared": finite(self.chi_squared), "dof": self.dof, "p_value": finite(self.p_value),
                "L": list(self.L)}


@dataclass(frozen=True)
class Scan:
    """Fits for every smallest size, and the one that is taken.

    Attributes
    ----------
    fits : list of Fit
        By increasing L_min.
    chosen : Fit
        Of the smallest L_min with p >= MIN_P_VALUE whose first parameter does not drift when L_min grows further
        (:func:`drift` below MAX_DRIFT); if none is so, the last one that leaves a degree of freedom.
    is_good : bool
        Whether the chosen one is of that kind.
    """

    fits: list
    chosen: Fit
    is_good: bool

    @property
    def average(self):
        """(value, error) of the first parameter, averaged over all L_min: what is reported.

        A fit has the weight exp(-(chi^2 + 2 parameters + 2 sizes left out)/2), and the variance of the average is that
        of the mixture, sum w (error^2 + value^2) - (sum w value)^2: where the exponent still drifts with L_min, which
        chi^2 alone often does not show, the error says so.  Fits without degrees of freedom do not take part, unless
        there is no other.  (Weights as in W. I. Jay, E. T. Neil, Phys. Rev. D 103, 114502 (2021); from general
        knowledge.)
        """
        fits = [f for f in self.fits if f.dof > 0] or self.fits[:1]
        most = max(len(f.L) for f in fits)
        cost = np.array([f.chi_squared + 2 * len(f.names) + 2 * (most - len(f.L)) for f in fits])
        w = np.exp(-(cost - cost.min()) / 2)
        w /= w.sum()
        value, error = (np.array([getattr(f, k)[0] for f in fits]) for k in ("value", "error"))
        mean = w @ value
        return float(mean), float(math.sqrt(w @ (error**2 + (value - mean) ** 2)))


def linear_fit(names, design, y, covariance, L):
    inverse = np.linalg.inv(covariance)
    matrix = np.linalg.inv(design.T @ inverse @ design)
    value = matrix @ design.T @ inverse @ y
    rest = y - design @ value
    return Fit(names, value, np.sqrt(np.diag(matrix)), float(rest @ inverse @ rest), len(y) - len(value), L)


def fit_power(L, y, error, omega=None, prior=CORRECTION_SIZE):
    """y = a L^p (1 + b L^-omega), b only with omega; weighted least squares of ln y.

    Parameters
    ----------
    L, y, error : array_like (n,)
        Sizes, positive values and their errors (independent, small against y).
    omega : float, optional
        Exponent of the leading correction to scaling, held fixed.
    prior : float or None
        b is taken to be of order one, 0 +- prior: (b/prior)^2 joins chi^2, as one more measurement.  None: free.

    Returns
    -------
    Fit
        Parameters ``exponent``, ``log_amplitude`` and, with omega, ``correction`` = b.

    Raises
    ------
    InputError
        Fewer sizes than parameters, or values that are not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.powerlaw import fit_power
    >>> L = np.array([8, 12, 16, 24, 32])
    >>> fit = fit_power(L, 2 * L**1.75 * (1 - 0.3 / L), 1e-4 * L**1.75, omega=1.0, prior=None)
    >>> bool(abs(fit["exponent"][0] - 1.75) < 1e-6)
    True
    """
    L, y, error = (np.asarray(v, float) for v in (L, y, error))
    n_parameters = 2 if omega is None else 3
    has_prior = omega is not None and prior is not None
    if len(L) + has_prior < n_parameters:
        raise InputError(f"{len(L)} sizes: a fit of {n_parameters} parameters needs at least as many")
    if not ((y > 0).all() and (error > 0).all() and np.isfinite(y).all()):
        raise InputError("a power law needs positive values with positive errors")
    from scipy.optimize import least_squares

    x, log_y, sigma = np.log(L), np.log(y), error / y

    def model(v):
        return v[1] + v[0] * x + (0.0 if omega is None else np.log(np.maximum(1 + v[2] * L**-omega, 1e-12)))

    start = np.polyfit(x, log_y, 1, w=1 / sigma).tolist() + [0.0] * (n_parameters - 2)

    def residuals(v):
        misfit = (model(v) - log_y) / sigma
        return np.append(misfit, v[2] / prior) if has_prior else misfit

    found = least_squares(residuals, start, x_scale="jac", xtol=1e-13, ftol=1e-13, gtol=1e-13)
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    names = ("exponent", "log_amplitude", "correction")[:n_parameters]
    return Fit(names, found.x, np.sqrt(np.diag(covariance)), float(2 * found.cost),
               len(L) + has_prior - n_parameters, tuple(int(v) for v in L))


def scan_power(numbers, omega=None):
    """:func:`fit_power` for every smallest size; numbers: L to (value, error).  Returns a :class:`Scan`."""
    sizes = sorted(numbers)
    need = 2 if omega is None else 3
    fits = []
    for k in range(len(sizes) - need + 1):
        use = sizes[k:]
        fits.append(fit_power(use, [numbers[L][0] for L in use], [numbers[L][1] for L in use], omega))
    if not fits:
        raise InputError(f"{len(sizes)} sizes: exponents {'with a correction ' if omega else ''}need at least {need}")
    return choose(fits)


def drift(fits):
    """Largest move of the first parameter from the first fit to the later ones, in its standard errors.

    The later fits use part of the data of the first, so the variance of the move is the difference of the variances.
    """
    first, moves = fits[0], [0.0]
    for f in fits[1:]:
        variance = f.error[0] ** 2 - first.error[0] ** 2
        if f.dof > 0 and variance > 0:
            moves.append(abs(f.value[0] - first.value[0]) / math.sqrt(variance))
    return max(moves)


def choose(fits):
    tested = [f for f in fits if f.dof > 0]
    for k, f in enumerate(tested):
        if f.p_value >= MIN_P_VALUE and drift(tested[k:]) < MAX_DRIFT:
            return Scan(fits, f, True)
    return Scan(fits, (tested or fits)[-1], False)


def finite(x):
    return float(x) if x is not None and math.isfinite(x) else None
