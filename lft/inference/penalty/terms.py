"""What is subtracted from the log-likelihood, its proximal map and its optimality conditions.

    Omega(theta) = s [ sum_G w_G |theta_G|_2 + 1/2 sum_j q_j theta_j^2 ]

with a strength s and groups G of parameters.  ``l2`` has w = 0; ``l1`` one parameter per group; ``group`` those of
``Objective.groups()``; ``mix`` between 0 and 1 makes an elastic mixture of either with ``l2``.  Fields (kind ``c``)
stay free.  A penalty on log-odds ``a`` with free fields is the same as one on couplings of spins, J = a/4, as the
fields absorb the change of variables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.errors import InputError

KINDS = ("l1", "l2", "group")
FREE_KIND = "c"


@dataclass(frozen=True, eq=False)
class Penalty:
    """A penalty at strength 1.

    Attributes
    ----------
    kind : {"l1", "l2", "group"}
    index : ndarray (size,) of int
        Number of the group of each parameter, 0 <= index < n_groups; -1 for free parameters.
    norm_weights : ndarray (n_groups,)
        w_G, in nats per unit of the norm.
    ridge_weights : ndarray (size,)
        q_j; zero for free parameters.
    """

    kind: str
    index: np.ndarray
    norm_weights: np.ndarray
    ridge_weights: np.ndarray

    @property
    def penalized(self):
        """(size,) of bool."""
        return self.index >= 0

    @property
    def has_norm(self):
        """Whether the penalty has a kink, and sets parameters to exactly zero."""
        return bool(self.norm_weights.any())

    def norms(self, theta):
        """|theta_G|_2 of every group."""
        where = self.penalized
        squares = np.bincount(self.index[where], theta[where] ** 2, len(self.norm_weights))
        return np.sqrt(squares)

    def value(self, theta, strength):
        """Omega in nats."""
        ridge = 0.5 * float(self.ridge_weights @ theta**2)
        return strength * (float(self.norm_weights @ self.norms(theta)) + ridge)

    def norm_value(self, theta, strength):
        """The part of Omega with the kink."""
        return strength * float(self.norm_weights @ self.norms(theta))

    def spread(self, per_group, free=0.0):
        """A number per group as a number per parameter."""
        return np.where(self.penalized, np.append(per_group, free)[self.index], free)

    def shrink(self, point, metric, strength):
        """Proximal map of the norms: argmin_z Omega_norm(z) + 1/2 sum_j R_j (z_j - point_j)^2.

        ``metric`` (n_groups,) is R, one number per group: soft thresholding for ``l1``, of the norm for ``group``.
        """
        norms = self.norms(point)
        cut = strength * self.norm_weights / metric
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(norms > cut, 1 - cut / norms, 0.0)
        return np.where(self.penalized, point * self.spread(factor, 1.0) + 0.0, point)  # + 0.0: no negative zeros

    def residual(self, theta, gradient, strength):
        """Smallest element of ``gradient - d Omega``: zero at the maximum (Karush, Kuhn, Tucker).

        ``gradient`` is that of the log-likelihood alone.
        """
        slope = gradient - strength * self.ridge_weights * theta
        norms, cut = self.norms(theta), strength * self.norm_weights
        with np.errstate(divide="ignore", invalid="ignore"):
            outside = np.where(norms > 0, cut / norms, 0.0)  # cut theta_G/|theta_G| where the group is present
            slopes = self.norms(slope)
            inside = np.where(norms > 0, 1.0, np.where(slopes > cut, 1 - cut / slopes, 0.0))
        return slope * self.spread(inside, 1.0) - theta * self.spread(outside)

    def smallest_empty_strength(self, gradient):
        """The strength from which on every penalized group is zero, from the gradient where they are.

        ``max_G |g_G|_2 / w_G``; infinite for a penalty without a kink.
        """
        if not self.has_norm:
            return np.inf
        norms = self.norms(gradient)
        return float((norms[self.norm_weights > 0] / self.norm_weights[self.norm_weights > 0]).max(initial=0.0))


def penalty_for(objective, kind, *, information_diagonal=None, mix=0.0):
    """The penalty of a kind on an objective.

    Parameters
    ----------
    objective : Objective
    kind : {"l1", "l2", "group"}
    information_diagonal : ndarray (size,), optional
        Diagonal of the information where all penalized parameters are zero.  With it the norm of a group has the
        weight ``sqrt(sum_j in G H_jj)``, so that under the null hypothesis every group is equally likely to be kept:
        the score of a coupling between rare units has little noise.  Without it the weight is ``sqrt(|G|)``.
    mix : float
        Share of the quadratic part for ``l1`` and ``group``, 0 <= mix < 1.

    Returns
    -------
    Penalty

    Raises
    ------
    InputError
        Unknown kind, mix out of range, or nothing to penalize.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.eye(3), np.ones(3), kinds="aac")
    >>> p = penalty_for(o, "l1")
    >>> p.index.tolist(), p.shrink(np.array([0.5, -3.0, 0.2]), np.ones(2), strength=1.0).tolist()
    ([0, 1, -1], [0.0, -2.0, 0.2])
    """
    if kind not in KINDS:
        raise InputError(f"penalty {kind!r}: valid are {', '.join(KINDS)}")
    if isinstance(mix, bool) or not isinstance(mix, int | float | np.number) or not 0 <= mix < 1:
        raise InputError(f"mix = {mix!r}: valid is a number, 0 <= mix < 1")
    groups = np.asarray(objective.groups())
    penalized = (np.asarray(objective.kinds()) != FREE_KIND) & (groups >= 0)
    if not penalized.any():
        raise InputError("penalty: the model has no couplings, only fields, which are never penalized")
    index = np.full(objective.size, -1)
    n_penalized = int(penalized.sum())
    index[penalized] = (
        np.unique(groups[penalized], return_inverse=True)[1] if kind == "group" else np.arange(n_penalized)
    )
    scale = np.ones(objective.size) if information_diagonal is None else np.asarray(information_diagonal)
    weights = np.sqrt(np.bincount(index[penalized], scale[penalized]))
    ridge = np.where(penalized, 1.0, 0.0)
    if kind == "l2":
        return Penalty(kind, index, np.zeros(len(weights)), ridge)
    return Penalty(kind, index, (1 - mix) * weights, mix * ridge)
