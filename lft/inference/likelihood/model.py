"""Gibbs models of 0/1 units: log-odds, weights, sampling and conversion from fits.

    P(phi) = exp(W(phi)) / Z
    W = sum_a [ sum_i c_i phi_i^a + sum_{i<j} a_ij phi_i^a phi_j^a + V(K^a) ]
        + sum_k b_k sum_ia phi_i^a phi_i^(a+k) + sum_k sum_ij C_ij(k) sum_a phi_i^a phi_j^(a-k)

with K^a = sum_i phi_i^a, on a stretch of bins with open ends.  Every number is a log-odds: positive makes spikes more
likely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lft.errors import InputError

FAMILIES = ("independent", "pairwise", "neural", "k-pairwise", "lagged")
CAUSAL = ("kinetic", "glm")
LONGEST = 1024
"""Bins of a margin, at most."""


@dataclass(frozen=True, eq=False, repr=False)
class GibbsModel:
    """A Gibbs distribution of 0/1 rasters: static without ``b`` and ``C``, else space-time.

    Parameters
    ----------
    c : array (N,)
        One-body log-odds.
    a : array (N, N), optional
        Symmetric, zero diagonal.
    V : array (N + 1,), optional
        Potential of the number of spikes in a bin.
    b : dict {int: float}, optional
        Coupling of a unit to itself by lag >= 1.
    C : array (k, N, N), optional
        ``C[k - 1, i, j]`` couples unit i in bin a to unit j in bin a - k: row = target.

    Attributes
    ----------
    lagged : ndarray (k_max, N, N)
        C with b on its diagonals; length 0 for a static model.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.likelihood import GibbsModel
    >>> model = GibbsModel(c=[-1.0, -1.0], a=[[0, 0.8], [0.8, 0]], b={1: 0.5})
    >>> model.kind, model.n_units
    ('space-time', 2)
    >>> model.log_odds(np.array([[1, 1], [0, 1]])).round(9).tolist()
    [[-0.2, 0.3], [0.3, -0.5]]
    >>> model.simulate(50, seed=1, n_chains=3).shape
    (3, 50, 2)
    """

    c: np.ndarray
    a: np.ndarray | None = None
    V: np.ndarray | None = None
    b: dict | None = None
    C: np.ndarray | None = None
    lagged: np.ndarray = field(init=False)
    _cache: dict = field(init=False, default_factory=dict)

    def __post_init__(self):
        c = np.array(self.c, float).reshape(-1)
        n = len(c)
        if not n:
            raise InputError("c = []: valid is one number per unit, at least one")
        a = np.zeros((n, n)) if self.a is None else np.array(self.a, float)
        if a.shape != (n, n):
            raise InputError(f"a has shape {a.shape}: valid is ({n}, {n}) for {n} units")
        if not np.array_equal(a, a.T) or a.diagonal().any():
            raise InputError("a: valid is a symmetric matrix with a zero diagonal")
        V = None if self.V is None else np.array(self.V, float)
        if V is not None and V.shape != (n + 1,):
            raise InputError(f"V has shape {V.shape}: valid is ({n + 1},), from no spike to {n}")
        b = {int(k): float(v) for k, v in (self.b or {}).items()}
        C = np.zeros((0, n, n)) if self.C is None else np.array(self.C, float)
        if C.ndim != 3 or C.shape[1:] != (n, n):
            raise InputError(f"C has shape {C.shape}: valid is (lags, {n}, {n})")
        if any(k < 1 for k in b):
            raise InputError(f"b: lag {min(b)}; valid are integers >= 1")
        lagged = np.zeros((max([len(C), *b], default=0), n, n))
        lagged[: len(C)] = C
        for k, v in b.items():
            lagged[k - 1][np.diag_indices(n)] += v
        for name, value in (("c", c), ("a", a), ("V", V), ("b and C", lagged)):
            if value is not None and not np.isfinite(value).all():
                raise InputError(f"{name}: holds {value[~np.isfinite(value)][0]}; valid are finite numbers")
        for name, value in (("c", c), ("a", a), ("V", V), ("b", b), ("C", C), ("lagged", lagged)):
            object.__setattr__(self, name, value)

    def __repr__(self):
        parts = ["a"] * bool(self.a.any()) + ["V"] * (self.V is not None) + [f"b[{k}]" for k in self.b]
        parts += [f"C[1..{len(self.C)}]"] * bool(len(self.C))
        return f"GibbsModel({self.n_units} units, {self.kind}: c{''.join(', ' + p for p in parts)})"

    # ---- what a model is
    @property
    def n_units(self):
        return len(self.c)

    @property
    def kind(self):
        """``static`` or ``space-time``."""
        return "space-time" if len(self.lagged) else "static"

    @property
    def steps(self):
        """V(K + 1) - V(K), K = 0 .. N - 1, or None."""
        return None if self.V is None else np.diff(self.V)

    def scaled(self, fraction, start=None):
        """The model on the straight line of couplings from ``start`` (default: its independent part) to this one.

        Parameters
        ----------
        fraction : float
        start : GibbsModel, optional
            Default: c alone, everything else 0.
        """
        start = GibbsModel(self.c) if start is None else start

        def mix(x, y):
            return y + fraction * (x - y)

        lags = max(len(self.lagged), len(start.lagged))
        L, M = (np.concatenate([m.lagged, np.zeros((lags - len(m.lagged), *m.a.shape))]) for m in (self, start))
        V = None
        if self.V is not None or start.V is not None:
            zero = np.zeros(self.n_units + 1)
            V = mix(zero if self.V is None else self.V, zero if start.V is None else start.V)
        return GibbsModel(mix(self.c, start.c), mix(self.a, start.a), V, None, mix(L, M))

    # ---- log-odds and weights
    def log_odds(self, raster):
        """Conditional log-odds of every spike given all the rest.

        Parameters
        ----------
        raster : array (T, N) of 0 and 1
            One trial: beyond its ends there is nothing.

        Returns
        -------
        ndarray (T, N)
        """
        return self.odds_of(self._checked(raster))

    def odds_of(self, phi):
        """:meth:`log_odds` of unchecked stretches (..., T, N) of numbers 0.0 and 1.0, in their precision."""
        kind = phi.dtype.type
        out = phi @ self.a.astype(kind) + self.c.astype(kind)
        for k, L in enumerate(self.lagged.astype(kind), 1):
            if k < phi.shape[-2]:
                out[..., k:, :] += phi[..., :-k, :] @ L.T
                out[..., :-k, :] += phi[..., k:, :] @ L
        if self.V is not None:
            others = phi.sum(axis=-1, keepdims=True) - phi
            out += self.steps.astype(kind)[others.astype(np.intp)]
        return out

    def log_weights(self, raster):
        """W of one trial by bin, (T,): terms that join two bins count in the later one.

        Parameters
        ----------
        raster : array (T, N) of 0 and 1, or (R, T, N)
            Several stretches give (R, T).
        """
        phi = np.asarray(raster)
        phi = self._checked(phi) if phi.ndim == 2 else phi.astype(float)
        out = phi @ self.c + 0.5 * ((phi @ self.a) * phi).sum(axis=-1)
        if self.V is not None:
            out += self.V[phi.sum(axis=-1).astype(np.intp)]
        for k, L in enumerate(self.lagged, 1):
            if k < phi.shape[-2]:
                out[..., k:] += ((phi[..., :-k, :] @ L.T) * phi[..., k:, :]).sum(axis=-1)
        return out

    def _checked(self, raster):
        raster = np.asarray(raster)
        if raster.ndim != 2 or raster.shape[1] != self.n_units:
            raise InputError(f"raster has shape {raster.shape}: valid is (bins, {self.n_units})")
        if ((raster != 0) & (raster != 1)).any():
            raise InputError("raster: valid are the values 0 and 1")
        return raster.astype(float)

    def pseudo_log_likelihood(self, raster):
        """Sum over units of log P(phi_i^a | rest) by bin, (T,)."""
        z = self.log_odds(raster)
        return (np.asarray(raster) * z - np.logaddexp(0, z)).sum(axis=1)

    # ---- sampling and normalization: their own modules
    def simulate(self, n_bins, *, seed, n_chains=1):
        """Independent stretches in the stationary state; see :func:`lft.inference.likelihood.sampling.simulate`.

        Returns
        -------
        ndarray of int8 (n_chains, n_bins, N)
            The same for any number of threads; no margin of an open end is in it.
        """
        from lft.inference.likelihood.sampling import simulate

        return simulate(self, n_bins, seed=seed, n_chains=n_chains)

    def log_likelihood(self, rasters, edges=None, **options):
        """Normalized, in nats; see :func:`lft.inference.likelihood.normalization.log_likelihood`."""
        from lft.inference.likelihood.normalization import log_likelihood

        return log_likelihood(self, rasters, edges, **options)

    def margin(self):
        """Bins after which an open end is forgotten: the longest lag and 20 times the measured memory
        (:func:`lft.inference.likelihood.memory.memory`); kept with the model."""
        if not len(self.lagged):
            return 0
        if "margin" not in self._cache:
            from lft.inference.likelihood.memory import memory

            self._cache["margin"] = min(max(len(self.lagged) + math.ceil(20 * memory(self)), 10), LONGEST)
        return self._cache["margin"]


def from_arrays(model, arrays):
    """A Gibbs model from the arrays of a fit (``FIT.h5``).

    ``c = -I``, ``a = -2 A``, ``b(k) = -2 B(k)`` (theory: weight exp(-S)); a file with J and h alone gives ``a = 4 J``,
    ``c_i = 2 h_i - 2 sum_j J_ij``.  ``V`` (N + 1,) and ``J_lag`` (k, N, N), row = target, are log-odds as they are.

    Parameters
    ----------
    model : str
        ``independent``, ``pairwise``, ``neural``, ``k-pairwise`` or ``lagged``.
    arrays : mapping of str to array

    Raises
    ------
    InputError
        Another model, or arrays are missing.
    """
    if model not in FAMILIES:
        raise InputError(f"model {model!r}: valid for a Gibbs model are {', '.join(FAMILIES)}")
    has = arrays.keys()
    if "I" in has:
        c = -np.asarray(arrays["I"], float)
        a = -2.0 * np.asarray(arrays["A"], float) if "A" in has else None
    elif "h" in has and np.ndim(arrays["h"]) == 1:
        h = np.asarray(arrays["h"], float)
        J = np.asarray(arrays["J"], float) if "J" in has else np.zeros((len(h), len(h)))
        c, a = 2 * h - 2 * J.sum(axis=1), 4 * J
    else:
        raise InputError(f"fit of model {model!r}: holds neither I nor h of units, but {', '.join(has)}")
    b = None
    if "B" in has and np.size(arrays["B"]):
        b = {int(k): -2.0 * float(v) for k, v in zip(arrays["lags"], arrays["B"], strict=True)}
    V = np.asarray(arrays["V"], float) if "V" in has else None
    C = np.asarray(arrays["J_lag"], float) if "J_lag" in has else None
    return GibbsModel(c, a, V, b, C)


def from_fit(fit):
    """A Gibbs model from a fit in memory or from :func:`lft.inference.result.load_fit`."""
    arrays = fit.arrays() if callable(fit.arrays) else fit.arrays
    return from_arrays(fit.model, arrays)


def load_model(fit):
    """The model that can be simulated and scored, of a fit or its file.

    Parameters
    ----------
    fit : str, Path, Fit or StoredFit

    Returns
    -------
    BinaryModel
        :class:`GibbsModel`, or what :mod:`lft.inference.causal` makes of kinetic and GLM fits.

    Raises
    ------
    InputError
        No such file, or a model that neither knows.
    """
    if isinstance(fit, str) or hasattr(fit, "__fspath__"):
        from lft.inference.result import load_fit

        fit = load_fit(fit)
    if fit.model in CAUSAL:
        return _causal(fit)
    return from_fit(fit)


def _causal(fit):
    from importlib import import_module

    try:
        module = import_module("lft.inference.causal.result")
    except ModuleNotFoundError:
        raise InputError(f"model {fit.model!r}: valid are {', '.join(FAMILIES)}") from None
    return module.model_of(fit.model, fit.arrays() if callable(fit.arrays) else fit.arrays)
