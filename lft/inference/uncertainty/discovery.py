"""Which couplings exist: p-values, false discovery rate, and a null made of the recording itself.

Every coupling is tested against zero, ``p = 2 (1 - Phi(|z|))`` with z = value/error.  Among m tests the procedures
below keep the expected share of false ones among those called (the false discovery rate) below q:

    bh      Benjamini-Hochberg: the largest k with p_(k) <= q k/m; right for independent and positively dependent tests
    by      Benjamini-Yekutieli: q divided by sum_(i<=m) 1/i; right for any dependence, with less power
    storey  bh with q/pi_0, pi_0 = (1 + number of p > 1/2)/(m/2): the estimated share of zero couplings

Where z is not normal under the null (pairs with few coincidences, correlated time), its distribution is measured:
surrogates in which every unit's train is shifted in a circle by an own random amount keep the rate, the correlations in
time of each unit, and no coupling at all.  Their z of all couplings together are the null, and
``p = (1 + number of |z_null| >= |z|)/(1 + number of z_null)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.source import ordered_map
from lft.errors import InputError
from lft.rng import Key, Stream

PROCEDURES = ("bh", "by", "storey")


@dataclass(frozen=True, eq=False)
class Discovery:
    """Tests of couplings against zero.

    Attributes
    ----------
    names : list of str
    z, p, q : ndarray (m,)
        q is the adjusted p-value: the smallest false discovery rate at which the coupling is called.  NaN where a
        coupling has no error.
    found : ndarray (m,) of bool
        q <= ``rate``.
    rate : float
    procedure : str
    zero_share : float
        Estimated share of couplings that are zero (at most 1).
    null_sd : float or None
        Standard deviation of z in the surrogates; None: the normal null.
    n_null : int
        Number of z in the surrogates.
    """

    names: list
    z: np.ndarray
    p: np.ndarray
    q: np.ndarray
    found: np.ndarray
    rate: float
    procedure: str
    zero_share: float
    null_sd: float | None
    n_null: int

    def report(self):
        """Plain numbers for JSON."""
        return {
            "rate": self.rate,
            "procedure": self.procedure,
            "tested": int(np.isfinite(self.p).sum()),
            "found": [self.names[i] for i in np.flatnonzero(self.found)],
            "zero_share": self.zero_share,
            "null_sd": self.null_sd,
            "null_draws": self.n_null,
        }


def discover(names, value, error, rate=0.05, *, procedure="bh", null_z=None):
    """Test couplings against zero at a false discovery rate.

    Parameters
    ----------
    names : list of str
    value, error : ndarray (m,)
        Estimates without the bias of a penalty; error nan or not positive: not tested.
    rate : float
        0 < rate < 1.
    procedure : {"bh", "by", "storey"}
    null_z : ndarray, optional
        z of surrogates without couplings (any shape); default the normal distribution.

    Returns
    -------
    Discovery

    Examples
    --------
    >>> import numpy as np
    >>> d = discover(["a", "b", "c"], np.array([5.0, 0.3, -4.0]), np.ones(3))
    >>> d.found.tolist()
    [True, False, True]
    """
    from scipy.special import ndtr

    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number) or not 0 < rate < 1:
        raise InputError(f"false discovery rate = {rate!r}: valid is a number, 0 < rate < 1")
    if procedure not in PROCEDURES:
        raise InputError(f"procedure {procedure!r}: valid are {', '.join(PROCEDURES)}")
    value, error = np.asarray(value, float), np.asarray(error, float)
    tested = np.isfinite(value) & np.isfinite(error) & (error > 0)
    z = np.full(len(value), np.nan)
    z[tested] = value[tested] / error[tested]
    null_sd, n_null = None, 0
    if null_z is None:
        p = 2 * ndtr(-np.abs(z))
    else:
        null = np.sort(np.abs(np.ravel(null_z)))
        null = null[np.isfinite(null)]
        if len(null) < 19:
            raise InputError(f"null of {len(null)} z values: at least 19 are needed")
        n_null, null_sd = len(null), float(np.sqrt((null**2).mean()))
        p = (1 + n_null - np.searchsorted(null, np.abs(z), side="left")) / (1 + n_null)
        p[~tested] = np.nan
    q = np.full(len(z), np.nan)
    share = zero_share(p[tested])
    q[tested] = adjusted(p[tested], procedure, share)
    found = np.nan_to_num(q, nan=1.0) <= rate
    return Discovery(list(names), z, p, q, found, float(rate), procedure, share, null_sd, n_null)


def zero_share(p):
    """Storey's estimate of the share of true nulls, at most 1: ``(1 + number of p > 1/2)/(m/2)``.

    >>> import numpy as np
    >>> zero_share(np.array([0.01, 0.02, 0.6, 0.9]))
    1.0
    """
    return min(1.0, (1 + int((p > 0.5).sum())) / (0.5 * len(p))) if len(p) else 1.0


def adjusted(p, procedure, share=1.0):
    """Adjusted p-values."""
    from scipy.stats import false_discovery_control

    if not len(p):
        return p
    q = false_discovery_control(p, method="by" if procedure == "by" else "bh")
    return np.minimum(q * share, 1.0) if procedure == "storey" else q


def shifted(raster, seed, surrogate, least=0):
    """The raster with every unit's train turned by an own random number of bins, at least ``least`` either way.

    >>> import numpy as np
    >>> x = np.eye(6, 2, dtype=np.int8)
    >>> shifted(x, seed=1, surrogate=0).sum(axis=0).tolist()
    [1, 1]
    """
    x = np.asarray(raster)
    n_bins, n_units = x.shape
    if not 0 <= 2 * least < n_bins:
        raise InputError(f"least shift = {least!r}: valid is 0 <= least < {n_bins / 2:g} bins")
    u = Key(seed, surrogate).fill("uniform", 0, 1, n_units, 0, Stream.NULL_SHIFT)[0]
    shifts = least + (u * (n_bins - 2 * least)).astype(np.int64)
    return np.stack([np.roll(x[:, i], s) for i, s in enumerate(shifts)], axis=1)


def null_z(raster, fit, n_surrogates, *, seed=0, least=None, comm=None):
    """z of every coupling in surrogates of circularly shifted units.

    Parameters
    ----------
    raster : ndarray (T, N)
        One trial; several trials are shifted within each: pass them through ``fit`` yourself.
    fit : callable
        ``fit(raster) -> z`` (m,) of the couplings of a raster, by the same estimator.
    n_surrogates : int
        >= 1.
    seed : int
    least : int, optional
        Smallest shift in bins; default a hundredth of the recording.
    comm : mpi4py communicator, optional

    Returns
    -------
    ndarray (n_surrogates, m)
    """
    if isinstance(n_surrogates, bool) or not isinstance(n_surrogates, int | np.integer) or n_surrogates < 1:
        raise InputError(f"surrogates = {n_surrogates!r}: valid is an integer >= 1")
    least = math.ceil(len(raster) / 100) if least is None else least
    # the difference of two uniform shifts is small now and then, as it must be for an exact null
    return np.stack(list(ordered_map(lambda k: fit(shifted(raster, seed, k, least)), range(n_surrogates), comm)))
