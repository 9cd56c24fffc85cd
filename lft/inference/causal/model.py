"""A fitted causal model: what simulation, held-out scores and checks use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft import links
from lft.causal import CausalChain
from lft.inference.protocols import LogLikelihood


@dataclass(frozen=True, repr=False)
class CausalModel(CausalChain):
    """A :class:`lft.causal.CausalChain` as a :class:`lft.inference.protocols.BinaryModel`; the likelihood is exact.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.causal.model import CausalModel
    >>> model = CausalModel.of_spins(h=np.array([-1.0, -1.0]), J=np.array([[[0.0, 0.5], [0.0, 0.0]]]))
    >>> rasters = model.simulate(1000, seed=1, n_chains=2)
    >>> rasters.shape, rasters.dtype.name
    ((2, 1000, 2), 'int8')
    >>> model.log_likelihood(list(rasters)).error
    0.0
    """

    kind = "causal"

    def log_odds(self, raster):
        """(T, N) log-odds of a spike (``poisson``: of at least one) given the past; before the raster nobody fires."""
        return links.log_odds(self.link, self.eta(raster))

    def log_likelihood(self, rasters, edges=None):
        """Exact log-likelihood given the first K bins of each trial, which count nothing.

        Parameters
        ----------
        rasters : list of ndarray (T, N)
        edges : list of ndarray, optional
            Per trial the bins between which ``blocks`` sums; default one block per trial.
        """
        parts = [self.bin_log_likelihood(r) for r in rasters]
        edges = [np.array([0, len(r)]) for r in rasters] if edges is None else edges
        sums = [np.concatenate([[0.0], np.cumsum(p)]) for p in parts]
        blocks = [np.diff(s[np.asarray(e)]) for s, e in zip(sums, edges, strict=True)]
        return LogLikelihood(float(sum(p.sum() for p in parts)), 0.0, np.concatenate(blocks))
