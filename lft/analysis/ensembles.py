"""Functions of observables from several independent ensembles: the error of each is propagated on its own.

    F = f(<a>_1, <b>_2, ...),      error^2 = sum over ensembles e of error_e^2

where ``error_e`` is that of the Gamma method for f with the means of all other ensembles held fixed: measurements of
one ensemble keep their correlations with each other, those of different ensembles have none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.estimate import estimate, format_with_error
from lft.analysis.series import center, check_replicas
from lft.errors import InputError


@dataclass(frozen=True)
class Combined:
    """A function of several ensembles; prints ``0.4823(12) from K=0.43: 61 %, K=0.44: 39 %`` (of error^2).

    Attributes
    ----------
    value, error, error_of_error : float
    parts : dict of str to Estimate
        What each ensemble alone contributes to the error, with its autocorrelation time.
    """

    value: float
    error: float
    error_of_error: float
    parts: dict

    @property
    def is_constant(self):
        """True if nothing fluctuated in any ensemble: no error could be estimated."""
        return self.error == 0

    def __str__(self):
        if self.is_constant:
            return f"{self.value:.10g} constant: no error can be estimated"
        shares = ", ".join(f"{name}: {100 * (p.error / self.error) ** 2:.0f} %" for name, p in self.parts.items())
        return f"{format_with_error(self.value, self.error)} from {shares}"


def combine(function, ensembles, *, index=None, spacing=1, s_tau=1.5):
    """A function of the means of several independent ensembles, with its error.

    Parameters
    ----------
    function : callable
        ``function({name: means}) -> float``: for each ensemble the array (k,) of the means of its columns.  Smooth on
        the scale of the errors; differentiated by central differences.
    ensembles : dict of str to (array_like (n, k) or (n,), or list of such arrays)
        Series of each ensemble, as :func:`lft.analysis.estimate` takes them: replicas, any lengths.
    index : dict of str to array_like, optional
        Places of the measurements of ensembles with gaps, as for :func:`lft.analysis.estimate`.
    spacing : float or dict of str to float, optional
        Updates between two measurements.
    s_tau : float, optional
        As for :func:`lft.analysis.estimate`.

    Returns
    -------
    Combined

    Raises
    ------
    InputError
        No ensemble, or as :func:`lft.analysis.estimate`.

    Notes
    -----
    Error of the error: sqrt(sum_e (error_e delta_e)^2)/error, with delta_e the error of error_e.  Cost: that of
    :func:`lft.analysis.estimate` for each ensemble.

    Examples
    --------
    >>> from lft.analysis.ensembles import combine
    >>> from lft.testing import ar1_series
    >>> data = {"small": ar1_series(20000, 0.5, seed=1) + 2, "large": ar1_series(8000, 0.8, seed=2) + 4}
    >>> ratio = combine(lambda m: m["small"][0] / m["large"][0], data)
    >>> abs(ratio.value - 0.5) < 4 * ratio.error, sorted(ratio.parts)
    (True, ['large', 'small'])
    """
    if not ensembles:
        raise InputError("ensembles: none given; give at least one series")
    replicas = {name: check_replicas(series, name) for name, series in ensembles.items()}
    means = {name: center(r)[0] for name, r in replicas.items()}
    parts = {}
    for name in ensembles:
        def alone(m, name=name):
            return function({**{k: v.copy() for k, v in means.items()}, name: m})

        step = spacing.get(name, 1) if isinstance(spacing, dict) else spacing
        places = (index or {}).get(name)
        parts[name] = estimate(replicas[name], alone, spacing=step, s_tau=s_tau, name=name,
                               index=_as_list(places))
    error = math.sqrt(sum(p.error**2 for p in parts.values()))
    spread = math.sqrt(sum((p.error * p.error_of_error) ** 2 for p in parts.values())) / error if error else 0.0
    first = next(iter(parts.values()))
    return Combined(first.value, error, spread, parts)


def _as_list(places):
    return places if places is None or (isinstance(places, list) and np.ndim(places[0])) else [places]
