"""Responses of any causal neuron, R(t, s) = d<y(t)>/d mu(s), estimated from samples along its input paths.

Three estimators that need no model, none of which knows the others' assumptions:

    common noise   [y | mu + e f] - [y | mu - e f]  over 2 e,  the same random numbers in both: any neuron, any profile
                   f(t) of the kick; biased in order e^2
    correlation    <y(t) xi(s)>/D  where the input has a white part xi of intensity D; <y eta^T> C^-1 for a general
                   Gaussian input (Novikov, Furutsu): no second run, no bias
    score          sum_t <y(t) s(u)>, s = d log p(step u)/dh(u), for neurons that choose at random (escape rate,
                   binary with a soft gain) and say how probable their choice was

All three give the response to one step of input per time: a kick e in step s changes <y(t)> by ``e dt R(t, s)``.  In a
stationary state R depends on the lag alone, and the average over s is taken; errors come from batches of paths.
Standard results; the correlation estimator is Gaussian integration by parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.meanfield.neurons import prepared
from lft.meanfield.saddle.draws import Draws, normals
from lft.meanfield.saddle.simulate import Runner
from lft.rng import Key, Stream

METHODS = ("common-noise", "correlation", "score")
BATCHES = 16
KICK = 0.1
"""Default size of a kick, in standard deviations of the input in one step."""


@dataclass(frozen=True)
class Response:
    """Response to the mean input by lag.

    Attributes
    ----------
    lags : ndarray (L,)
        Time from the step's begin to the output at its end and later: dt, 2 dt, ...
    value, error : ndarray (L,)
        R per unit of time, with standard errors.
    static, static_error : float
        ``dt sum R``: the response to a constant input, up to the longest lag.
    method : str
    """

    lags: np.ndarray
    value: np.ndarray
    error: np.ndarray
    static: float
    static_error: float
    method: str

    def spectrum(self, omega):
        """(R(w), error): ``dt sum_k R_k exp(-i w t_k)``, t_k the middle of lag's step; the error is that of its
        modulus at most."""
        dt = self.lags[0]
        phase = np.exp(-1j * np.multiply.outer(np.asarray(omega, float), self.lags - 0.5 * dt))
        return dt * phase @ self.value, dt * math.sqrt(float(np.sum(self.error**2)))


def _result(batches, dt, method):
    """Response from estimates of independent batches (B, L)."""
    batches = np.asarray(batches)
    root = math.sqrt(len(batches))
    static = dt * batches.sum(axis=1)
    return Response(
        dt * np.arange(1, batches.shape[1] + 1),
        batches.mean(axis=0),
        batches.std(axis=0, ddof=1) / root,
        float(static.mean()),
        float(static.std(ddof=1)) / root,
        method,
    )


def response(
    neuron,
    dt,
    paths,
    n_lags,
    *,
    white=0.0,
    method="common-noise",
    warmup=0,
    kick=None,
    seed=1,
    samples=4096,
    covariance=None,
):
    """Stationary response of a neuron to its mean input.

    Parameters
    ----------
    neuron : object
        A neuron model, not yet prepared.
    dt : float
    paths : callable
        ``paths(key, m)`` -> (T, m): stationary Gaussian input *without* its white part.
    n_lags : int
        Lags, in steps; ``warmup + n_lags < T``.
    white : float, optional
        Intensity D of white noise that is added to the paths.
    method : str, optional
        ``"common-noise"``, ``"correlation"`` or ``"score"``.
    warmup : int, optional
        Steps before the first kick.
    kick : float, optional
        Size of a kick of one step (common noise); default: a tenth of the input's standard deviation in one step.
    seed : int, optional
    samples : int, optional
        Paths, in 16 batches.
    covariance : ndarray (T, T), optional
        ``"correlation"`` without white noise: the covariance of the paths; directions below 1e-8 of the largest
        variance are left out.

    Returns
    -------
    Response

    Raises
    ------
    InputError
        The method does not fit the neuron or the input.

    Notes
    -----
    Common noise: two runs, a kick in every ``n_lags``-th step.  The errors of correlation and score do not fall with
    the lag, so that their static response gets worse with the number of lags.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.fluctuations.response import response
    >>> from lft.meanfield.neurons import Rate
    >>> still = lambda key, m: np.zeros((20, m))
    >>> r = response(Rate("linear"), 0.1, still, 20, white=1.0)
    >>> bool(np.allclose(r.value, (1 - np.exp(-0.1)) * np.exp(-r.lags + 0.1) / 0.1))
    True
    """
    if method not in METHODS:
        raise InputError(f"method = {method!r}: valid are {', '.join(METHODS)}")
    cell = prepared(neuron, dt)
    runner, found = Runner(cell, "neuron"), []
    for b in range(BATCHES):
        key = Key(seed, b)
        h = np.array(paths(key, max(samples // BATCHES, 8)), float)
        n, m = h.shape
        if not 0 < n_lags <= n - warmup:
            raise InputError(f"n_lags = {n_lags}: valid is from 1 to the {n - warmup} steps after the warm-up")
        xi = math.sqrt(white / dt) * normals(key, n, m, stream=Stream.MEANFIELD_RESPONSE) if white else None
        if xi is not None:
            h += xi
        level = np.full(n, white)
        if method == "common-noise":
            size = kick or KICK * (float(h.std()) or 1.0)
            found.append(_common_noise(runner, h, key, level, n_lags, warmup, size, dt))
        elif method == "correlation":
            y = runner.run(h, Draws(key, m), level, keep_state=False)[0][1:]
            if xi is not None:
                found.append(_by_lag(y, xi / white, n_lags, warmup))
            elif covariance is None:
                raise InputError("method = 'correlation': the input has no white part: give the covariance of paths")
            else:
                found.append(_novikov(y, h, covariance, n_lags, warmup) / dt)
        else:
            found.append(_score(cell, h, key, n_lags, warmup) / dt)
    return _result(found, dt, method)


def _common_noise(runner, h, key, level, n_lags, warmup, size, dt):
    """Kicks in every n_lags-th step, up or down at random in each path, so that the tails of earlier kicks cancel."""
    n, m = h.shape
    starts = np.arange(warmup, n - n_lags + 1, n_lags)
    sides = np.array([key.fill("uniform", 0, 1, m, t, Stream.MEANFIELD_RESPONSE, 1)[0] for t in range(len(starts))])
    sides = np.where(sides < 0.5, -size, size)
    ys = []
    for sign in (1.0, -1.0):
        moved = h.copy()
        moved[starts] += sign * sides
        ys.append(runner.run(moved, Draws(key, m), level, keep_state=False)[0][1:])
    change = ys[0] - ys[1]
    answers = [change[s : s + n_lags] @ side for s, side in zip(starts, sides, strict=True)]
    return np.mean(answers, axis=0) / (2.0 * size**2 * dt * m)


def _by_lag(y, x, n_lags, warmup):
    """``mean over s of <y(s + lag) x(s)>``: (n_lags,); outputs belong to the ends of steps."""
    centered = y - y[warmup:].mean()
    n = len(y) - n_lags + 1
    rows = x[warmup:n]
    return np.array([np.einsum("ij,ij->", centered[warmup + k : n + k], rows) for k in range(n_lags)]) / rows.size


def _novikov(y, h, covariance, n_lags, warmup):
    """R = <y eta^T> C^-1 on the directions that C has, averaged along diagonals."""
    eta = h - h.mean(axis=1, keepdims=True)
    cross = (y - y.mean(axis=1, keepdims=True)) @ eta.T / (h.shape[1] - 1)
    values, vectors = np.linalg.eigh(covariance)
    keep = values > 1e-8 * values[-1]
    r = (cross @ vectors[:, keep] / values[keep]) @ vectors[:, keep].T
    n = len(y)
    return np.array([np.diagonal(r, -k)[warmup : n - n_lags + 1].mean() for k in range(n_lags)])


def _score(cell, h, key, n_lags, warmup):
    """``sum_u <y(t) d log p(step u)/dh(s)>``: an input acts on the choices of its step and, through the neuron's filter
    (``score_decay`` per step), on those of the steps that follow."""
    if not hasattr(cell, "score"):
        raise InputError(f"method = 'score': {type(cell).__name__} has no score(state, h, k)")
    n, m = h.shape
    state = cell.init(m, Draws(key, m))
    y, scores = np.empty((n, m)), np.empty((n, m))
    for k in range(n):
        y[k] = cell.step(state, h[k].copy(), k)
        scores[k] = cell.score(state, h[k], k)
    if not np.isfinite(scores).all():
        raise InputError("method = 'score': the score of the neuron is not finite; its gain needs a slope")
    own = _by_lag(y, scores, n_lags, warmup)
    return np.convolve(own, getattr(cell, "score_decay", 0.0) ** np.arange(n_lags))[:n_lags]
