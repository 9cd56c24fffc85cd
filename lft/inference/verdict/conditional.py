"""A score that every family has without log Z: single spikes given all other units and bins, past and future.

    score(m) = sum over some bins a and all units i of ln P_m(phi_i^a | everything else)

in bits per spike above independent units.  For a Gibbs model these are its conditional log-odds.  A causal model gives
P(phi^b | past) bin by bin; by Bayes, every later bin that hears unit i weighs in,

    logit P(phi_i^a = 1 | else) = logit P(phi_i^a = 1 | past)
        + sum_(b = a+1)^(a+K) sum_j [ ln P(phi_j^b | past, phi_i^a = 1) - ln P(phi_j^b | past, phi_i^a = 0) ]

Like the log-likelihood proper it is largest, on average, for the true distribution, whatever the family (a composite
likelihood; standard result), so Gibbs and causal models may be compared by it.  It is no substitute: it asks how well a
hidden spike can be filled in, not how probable the recording is, and is blind to modes of the joint distribution that
the recording does not visit.  Where a model is far ahead here and far behind by its log-likelihood, that is its fault.
"""

from __future__ import annotations

import itertools

import numpy as np

from lft import links
from lft.errors import InputError
from lft.inference.trials import checked_rasters
from lft.inference.verdict.ranking import LN2, block_edges

N_BLOCKS = 20


def conditional_log_odds(model, raster, rows):
    """Log-odds of a spike given all other units and bins of one trial.

    Parameters
    ----------
    model : BinaryModel
        A causal one needs ``eta``, ``coupling`` (K, N, N) and ``link`` (:class:`lft.causal.CausalChain`).
    raster : ndarray (T, N)
        0/1; before the trial no unit fires, beyond it there is nothing.
    rows : sequence of int
        Bins, 0 <= a < T.

    Returns
    -------
    ndarray (rows, N)

    Raises
    ------
    InputError
        Bins outside the raster, or a causal model with infinite couplings (refractory bins).

    Notes
    -----
    Cost: ``K N^2`` logistics per bin for a causal model.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.causal.model import CausalModel
    >>> model = CausalModel(np.array([0.0]), np.array([[[2.0]]]))
    >>> conditional_log_odds(model, np.array([[0], [1]]), [0]).round(4).tolist()  # ln [P(1|1)/P(1|0)]
    [[0.5662]]
    """
    (raster,) = checked_rasters([raster])
    rows = np.asarray(rows, dtype=np.int64)
    if rows.size and not (rows.min() >= 0 and rows.max() < len(raster)):
        raise InputError(f"rows from {rows.min()} to {rows.max()}: valid are 0 to {len(raster) - 1}")
    if model.kind != "causal":
        return np.asarray(model.log_odds(raster))[rows]
    if not np.isfinite(model.coupling).all():
        raise InputError("conditional scores: not for infinite couplings (refractory bins)")
    eta = model.eta(raster)
    out = links.log_odds(model.link, eta[rows])
    for n, a in enumerate(rows):
        later = slice(a + 1, min(a + 1 + model.n_lags, len(raster)))
        C = model.coupling[: later.stop - later.start]  # bin, target, source
        silent, seen = eta[later][:, :, None] - C * raster[a], raster[later][:, :, None]
        change = links.log_probability(model.link, silent + C, seen) - links.log_probability(model.link, silent, seen)
        out[n] += change.sum(axis=(0, 1))
    return out


def conditional_scores(models, rasters, *, n_bins=1000, n_blocks=N_BLOCKS, reference="independent"):
    """Bits per spike above the reference, of bins spread evenly over a test stretch.

    Parameters
    ----------
    models : dict
        ``{name: BinaryModel}``, with the reference.
    rasters : ndarray (T, N), or sequence of them
    n_bins : int
        Bins that are scored, all units of each; at least ``n_blocks``.
    n_blocks : int
        Blocks behind the errors.
    reference : str

    Returns
    -------
    dict
        ``{name: (value, standard error)}``; differences between models are paired, so their errors are smaller.

    Raises
    ------
    InputError
        No reference, too few bins, or no spike in the bins that are scored.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.likelihood import GibbsModel
    >>> from lft.inference.verdict.independent import IndependentModel
    >>> model = GibbsModel([-1.0, -1.0], [[0, 2.0], [2.0, 0]])
    >>> raster = model.simulate(4000, seed=1)[0]
    >>> scores = conditional_scores({"independent": IndependentModel.fitted([raster]), "pairwise": model}, raster)
    >>> scores["independent"], scores["pairwise"][0] > 5 * scores["pairwise"][1]
    ((0.0, 0.0), True)
    """
    rasters = checked_rasters(rasters)
    if reference not in models:
        raise InputError(f"models {', '.join(models)}: the reference {reference!r} is missing")
    edges = block_edges([len(r) for r in rasters], n_blocks)
    if isinstance(n_bins, bool) or not isinstance(n_bins, int | np.integer) or n_bins < n_blocks:
        raise InputError(f"n_bins = {n_bins!r}: valid is an integer >= the {n_blocks} blocks")
    nats, sizes, spikes = {name: [] for name in models}, [], 0
    each = n_bins // sum(len(e) - 1 for e in edges)
    for raster, edge in zip(rasters, edges, strict=True):
        parts = [np.linspace(a, b - 1, max(min(each, b - a), 1)).astype(int) for a, b in itertools.pairwise(edge)]
        rows, starts = np.concatenate(parts), np.cumsum([0, *map(len, parts[:-1])])
        seen = raster[rows]
        spikes += int(seen.sum(dtype=np.int64))
        sizes += map(len, parts)
        for name, model in models.items():
            z = conditional_log_odds(model, raster, rows)
            nats[name].append(np.add.reduceat((seen * z - np.logaddexp(0, z)).sum(axis=1), starts))
    if not spikes:
        raise InputError(f"the {sum(sizes)} bins that are scored hold no spike: no score per spike")
    size, zero = np.array(sizes, float), np.concatenate(nats[reference])
    out = {}
    for name, parts in nats.items():
        d = np.concatenate(parts) - zero
        rest = d - size * d.sum() / size.sum()
        error = np.sqrt(len(d) / (len(d) - 1) * (rest**2).sum())
        out[name] = (float(d.sum() / (spikes * LN2)), float(error / (spikes * LN2)))
    return out
