"""From couplings in log-odds and the influences of blocks on them to a fit with errors and held-out scores."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft.inference import newton
from lft.inference.likelihood.model import GibbsModel
from lft.inference.likelihood.normalization import log_likelihood
from lft.inference.pseudo.result import PseudoFit

SCORE_BLOCKS = 20


@dataclass(kw_only=True, repr=False)
class GibbsFit(PseudoFit):
    """A :class:`lft.inference.pseudo.result.PseudoFit` with what needs a normalization or chains.

    Attributes
    ----------
    log_z : tuple of float
        log Z per bin and its error, nats; nan where no method asked for it.
    checks : dict
        What the method measured about itself, by name.
    """

    log_z: tuple = (math.nan, math.nan)
    checks: dict

    def arrays(self):
        return super().arrays() | {"log_z": np.array(self.log_z)}


def independent_model(train):
    """Units alone; a unit that never or always fires gets (n + 1/2)/(T + 1)."""
    rows = sum(len(r) for r in train)
    fires = sum(r.sum(axis=0, dtype=float) for r in train)
    rate = np.where((fires > 0) & (fires < rows), fires / rows, (fires + 0.5) / (rows + 1))
    return GibbsModel(np.log(rate / (1 - rate)))


def scores(model, train, test, *, kind="log-likelihood", longest_lag=0, **options):
    """Score of train and test stretch in nats per bin and unit, the independent model's, and the gain with its error.

    Parameters
    ----------
    kind : {"log-likelihood", "pseudo-log-likelihood"}
        For the first, ``options`` go to :func:`lft.inference.likelihood.normalization.normalization`; the error of
        log Z is part of that of the gain and stands as ``log_z_error`` in the score.

    Returns
    -------
    score : dict
    gain : (float, float)
    """
    alone = independent_model(train)

    def measure(which, rasters):
        edges = [_edges(len(r), longest_lag, len(rasters)) for r in rasters]
        if kind == "log-likelihood":
            out = log_likelihood(which, rasters, edges, **options)
            return out.blocks, out.error
        sums = [np.add.reduceat(which.pseudo_log_likelihood(r), e[:-1]) for r, e in zip(rasters, edges, strict=True)]
        return np.concatenate(sums), 0.0

    n = model.n_units
    size = sum(len(r) for r in train) * n
    score = {"kind": kind, "train": float(measure(model, train)[0].sum() / size)}
    if not test:
        return score | {"test": math.nan, "test_independent": math.nan}, (math.nan, math.nan)
    (blocks, error), (others, _) = measure(model, test), measure(alone, test)
    sizes = np.concatenate([np.diff(_edges(len(r), longest_lag, len(test))) for r in test]) * float(n)
    total = sizes.sum()
    score |= {"test": float(blocks.sum() / total), "test_independent": float(others.sum() / total)}
    if kind == "log-likelihood":
        score["log_z_error"] = float(error / total)
    value, spread = newton.gain_with_error(blocks - others, sizes)
    return score, (value, math.hypot(spread, error / total))


def _edges(n_bins, longest_lag, n_trials):
    n_blocks = max(min(-(-SCORE_BLOCKS // n_trials), n_bins // max(10 * longest_lag, 1)), 1)
    return np.linspace(0, n_bins, n_blocks + 1).astype(int)


def couplings(operators, theta, u, spins):
    """Arrays A, B, I (J, h, V, J_lag) with errors of a vector of couplings and the influences u (blocks, size) on it.

    A = -a/2, B = -b/2, I = -c;  J = a/4, h_i = c_i/2 + sum_j a_ij/4.
    """
    n, units = operators.n_units, operators.units
    model = operators.model(theta)
    error = np.sqrt((u**2).sum(axis=0))
    a_error, b_error, late_error, v_error, c_part = np.split(error, operators.cuts)
    u_a, _, _, _, u_c = np.split(u, operators.cuts, axis=1)
    A_error = np.full((n, n), np.nan)
    np.fill_diagonal(A_error, 0.0)
    i, j = operators.pairs.T
    A_error[i, j] = A_error[j, i] = a_error / 2
    c_error = np.full(n, np.nan)
    c_error[units] = c_part
    out = {
        "A": -model.a / 2 + 0.0,
        "A_error": A_error,
        "B": {k: -v / 2 for k, v in model.b.items()},
        "B_error": {k: float(e) / 2 for k, e in zip(operators.lags, b_error, strict=True)},
        "I": -model.c,
        "I_error": c_error,
    }
    if operators.k_max:
        J_lag_error = np.full(model.C.shape, np.nan)
        k, target, source = operators.directed.T
        J_lag_error[k - 1, target, source] = late_error
        out |= {"J_lag": model.C, "J_lag_error": J_lag_error}
    if model.V is not None:
        V_error = np.zeros(n + 1)
        for e, level in zip(v_error, operators.levels, strict=True):
            V_error[list(level)] = np.nan
            V_error[level[0]] = e
        V_error[[k for k in range(3, n + 1) if not any(k in level for level in operators.levels)]] = np.nan
        out |= {"V": model.V, "V_error": V_error}
    if spins:
        u_h = np.zeros((len(u), n))
        u_h[:, units] = u_c / 2
        np.add.at(u_h.T, i, u_a.T / 4)
        np.add.at(u_h.T, j, u_a.T / 4)
        h_error = np.sqrt((u_h**2).sum(axis=0))
        h_error[np.isnan(c_error) | _beside_fixed(operators)] = np.nan
        h = model.c / 2 + model.a.sum(axis=1) / 4
        out |= {"J": model.a / 4, "J_error": A_error / 2, "h": h, "h_error": h_error}
    return out


def _beside_fixed(operators):
    """Mask of the units with a coupling that is fixed at 0 to another that has a field: h contains it."""
    n, free = operators.n_units, np.zeros((operators.n_units,) * 2, bool)
    i, j = operators.pairs.T
    free[i, j] = free[j, i] = True
    active = np.isin(np.arange(n), operators.units)
    return (active[:, None] & active & ~free & ~np.eye(n, dtype=bool)).any(axis=1)


def trial_lengths(rasters):
    """Different lengths and how many trials have each."""
    return {n: len(list(g)) for n, g in itertools.groupby(sorted(len(r) for r in rasters))}
