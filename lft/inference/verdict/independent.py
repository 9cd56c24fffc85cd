"""The model without couplings, against which every score is taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.inference.protocols import LogLikelihood
from lft.inference.trials import checked_rasters
from lft.rng import Key, Stream


@dataclass(frozen=True, eq=False)
class IndependentModel:
    """Units that fire on their own, each with its log-odds in every bin: ``P(phi_i = 1) = 1/(1 + exp(-c_i))``.

    Parameters
    ----------
    c : ndarray (N,)
        Log-odds of a spike.

    Examples
    --------
    >>> import numpy as np
    >>> model = IndependentModel(np.array([0.0, 0.0]))
    >>> model.log_likelihood([np.zeros((3, 2), np.int8)]).value == -6 * np.log(2)
    np.True_
    """

    c: np.ndarray
    kind = "static"

    @classmethod
    def fitted(cls, rasters):
        """The maximum-likelihood model; a unit that never or always fires gets the rate (n + 1/2)/(T + 1), the
        Krichevsky-Trofimov estimate, as in the fits."""
        rasters = checked_rasters(rasters)
        spikes = sum(r.sum(axis=0, dtype=np.int64) for r in rasters)
        n_bins = sum(map(len, rasters))
        edge = (spikes == 0) | (spikes == n_bins)
        rate = np.where(edge, (spikes + 0.5) / (n_bins + 1), spikes / n_bins)
        return cls(np.log(rate / (1 - rate)))

    @property
    def n_units(self):
        return len(self.c)

    def log_odds(self, raster):
        return np.broadcast_to(self.c, raster.shape)

    def simulate(self, n_bins, *, seed, n_chains=1):
        p = 1 / (1 + np.exp(-np.asarray(self.c)))
        n = n_bins * len(p)
        uniform = [Key(seed, m).fill("uniform", 0, 1, n, 0, Stream.START)[0] for m in range(n_chains)]
        return (np.array(uniform).reshape(n_chains, n_bins, len(p)) < p).astype(np.int8)

    def log_likelihood(self, rasters, edges=None):
        parts = [(r * self.c - np.logaddexp(0, self.c)).sum(axis=1) for r in rasters]
        blocks = [np.add.reduceat(x, e[:-1]) for x, e in zip(parts, _edges(rasters, edges), strict=True)]
        return LogLikelihood(float(sum(x.sum() for x in parts)), 0.0, np.concatenate(blocks))


def _edges(rasters, edges):
    return [np.array([0, len(r)]) for r in rasters] if edges is None else edges
