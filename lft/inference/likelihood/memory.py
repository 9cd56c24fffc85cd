"""How long a space-time model remembers: the slowest linear mode of the units, measured in a few long chains.

    S(L) = < z^(a+L) z^a >_c,     tau = max_L  - L / log |largest eigenvalue of S(L) S(0)^-1|

z^a are the units of as many bins as the model has lags.  Correlations of any quantity fall at most as slowly as the
slowest mode; what a set of quantities shows of it approaches it from below as L grows (variational principle of
relaxation times, standard result for reversible chains), so lags are doubled until nothing is left to see.

Couplings alone do not tell: a unit that couples to none but itself, with b, forgets at worst like ``tanh(b/4)^t``, but
units that couple to one another keep up a burst together, and strong repulsion in time leaves no memory at all.
"""

from __future__ import annotations

import math

import numpy as np

from lft.inference.likelihood.sampling import Chains

WORDS, ROWS, SNAPSHOTS, SWEEPS = 2, 64, 16, 64
"""Chains of 64 x 64 bins, how often they are looked at, and sweeps before (and, altogether, between) at most."""
LOWEST = 6.0
"""An eigenvalue below so many times what sampling makes of nothing is none."""


def memory(model, seed=0):
    """Bins in which a space-time model forgets, to 1/e.

    Parameters
    ----------
    model : GibbsModel
    seed : int

    Returns
    -------
    float
        0 where no correlation in time is seen.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.likelihood import GibbsModel
    >>> from lft.inference.likelihood.memory import memory
    >>> alone = GibbsModel([-4.0], b={1: 4.0})  # transfer matrix: second eigenvalue tanh(1)
    >>> bool(abs(memory(alone) * -np.log(np.tanh(1.0)) - 1) < 0.1)
    True
    """
    lags = len(model.lagged)
    rows = max(ROWS, 2 * lags)
    chains = Chains(model, WORDS, rows, seed=seed, folded=True, rate=0.0)
    _, spacing = chains.thermalize(maximum=SWEEPS, is_quiet=True)
    seen = []
    for _ in range(SNAPSHOTS):
        chains.sweep(min(spacing, SWEEPS // 4))
        seen.append(chains.values())
    z = _features(model, np.concatenate(seen))
    n_chains, n_bins, n = *z.shape[:2], z.shape[0] * z.shape[1]
    slowest, lag = 0.0, 1
    while lag < n_bins // 8:
        late, early = z[:, lag:].reshape(-1, z.shape[2]), z[:, :-lag].reshape(-1, z.shape[2])
        largest = np.abs(np.linalg.eigvals(late.T @ early)).max() / (n_chains * (n_bins - lag))
        if largest < LOWEST * math.sqrt(z.shape[2] / n) or largest >= 1:
            break
        slowest = max(slowest, -lag / math.log(largest))
        lag *= 2
    return slowest


def _features(model, x):
    """White features of the last bins: the units, and the probability of a spike that they alone give in the next.

    The second are not linear: a unit that fires where two others have fired remembers both at once.
    """
    lags, n_bins = len(model.lagged), x.shape[1]
    last = [x[:, lags - k : n_bins - k + 1].astype(np.float32) for k in range(1, lags + 1)]  # k bins before the next
    odds = model.c + sum(past @ L.T for past, L in zip(last, model.lagged, strict=True))
    z = np.concatenate([*last, 1 / (1 + np.exp(-odds))], axis=2).astype(float)
    z -= z.mean(axis=(0, 1))
    z /= z.std(axis=(0, 1)) + 1e-3  # what hardly ever happens tells nothing
    flat = z.reshape(-1, z.shape[2])
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    kept = values > 1e-4
    return z @ (vectors[:, kept] / np.sqrt(values[kept]))
