"""A target of a causal fit as bootstraps and posteriors see it: its likelihood written out, the way to h and J.

A bootstrap repeats the fit, with the parameters that the fit left out left out (:mod:`.boundary`).  A posterior has a
prior that bounds every coupling, so it takes all of them: also those without a maximum have finite intervals there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.inference import newton
from lft.inference.causal import boundary
from lft.inference.causal.objective import CausalObjective
from lft.inference.causal.rows import write_out


@dataclass(frozen=True)
class Examined:
    """One target at its estimate.

    Attributes
    ----------
    task : lft.inference.causal.fit.Task
    target : int
    bounds : lft.inference.causal.boundary.Bounds
    theta : ndarray (size of the design,)
        Padded estimate.
    filters : ndarray (K, N)
        Couplings on the lag grid in the convention of the result, with the stated boundary values.
    """

    task: object
    target: int
    bounds: object
    theta: np.ndarray
    filters: np.ndarray

    def objective(self):
        """Likelihood of the parameters that the fit found free."""
        return self._write_out(self.bounds.keep, self.bounds.pinned)

    def whole(self):
        """(likelihood of all parameters, start): nothing is pinned but a refractory time that was given."""
        d = self.task.design
        places = d.places(self.target)
        dead = [(k, self.target, -1) for k in range(1, self.task.refractory + 1)]
        return self._write_out(places, boundary.pinned_rows(d, dead)).join(), self.theta[places]

    def _write_out(self, places, pinned):
        task, i = self.task, self.target
        o = CausalObjective(task.design, [i], task.n_train, {i: places})
        labels = (o.names(), o.kinds(), o.groups())
        return write_out(task.design, i, places, task.n_train, labels, pinned)

    def penalty(self):
        """Ridge and what is held, by parameter of :meth:`objective`: the fit has ``-(1/2) sum penalty theta^2``."""
        keep = self.bounds.keep
        out = np.where(keep < self.task.design.n_dense, 0.0, self.task.ridge)
        out[np.isin(keep, self.bounds.held)] = newton.HELD_SD**-2
        return out

    def on_grid(self, samples, whole=False):
        """h (S,) and J_lag (S, K, N) of samples (S, parameters) of one of the two objectives.

        Couplings without a free parameter are NaN; in h of spins (``h = c/2 + sum J``) they count with their stated
        values.
        """
        d, n = self.task.design, self.task.design.table.n_units
        places = d.places(self.target) if whole else self.bounds.keep
        half, scale = (2.0, 4.0) if self.task.spins else (1.0, 1.0)
        at = np.full(d.size, -1)
        at[places] = np.arange(len(places))
        J = np.full((len(samples), d.n_lags, n), np.nan)
        for s, j in enumerate(d.sources):
            matrix = d.own if j == self.target else d.cross
            if matrix is None:
                continue
            used = at[d.n_dense + s * d.width + np.arange(matrix.shape[1])]
            part = matrix[:, used >= 0]
            touched = np.abs(part).max(axis=1, initial=0.0) > 0
            J[:, touched, j] = samples[:, used[used >= 0]] @ part[touched].T / scale
        h = samples[:, 0] / half
        if self.task.spins:
            is_free = np.isfinite(J).any(axis=0)
            h = h + J[:, is_free].sum(axis=1) + self.filters[~is_free & np.isfinite(self.filters)].sum()
        return h, J
