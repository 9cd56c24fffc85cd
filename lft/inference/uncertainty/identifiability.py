"""What the data cannot tell: flat and nearly flat directions of the likelihood, its gauge, and defects of a raster.

With D = diag(H) the matrix ``D^(-1/2) H D^(-1/2)`` has eigenvalues between 0 and its size, and 1 for parameters that do
not compete.  An eigenvalue e inflates the error of a combination of parameters by ``1/sqrt(e)`` over what it would be
with all others known; zero means that the combination is not determined at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lft.errors import InputError

FLAT = 1e-8
WEAK = 1e-2
MAX_SIZE = 3000


@dataclass(frozen=True)
class Direction:
    """A combination of parameters that the data determine badly.

    Attributes
    ----------
    eigenvalue : float
        Of the scaled information.
    is_flat : bool
        No information at all, up to rounding.
    error : float
        Standard error along the direction, log-odds, from the information; infinite if flat.
    parameters : tuple of (name, weight)
        The components that make up 90 % of the unit vector (in log-odds), at most 8.
    """

    eigenvalue: float
    is_flat: bool
    error: float
    parameters: tuple

    def __str__(self):
        terms = " ".join(f"{w:+.2f} {name}" for name, w in self.parameters)
        return f"{'flat' if self.is_flat else 'weak'} direction (eigenvalue {self.eigenvalue:.1e}): {terms}"


def weak_directions(objective, theta, weak=WEAK):
    """Eigenvectors of the scaled information below ``weak``, worst first.

    Parameters
    ----------
    objective : Objective
        At most 3000 parameters.
    theta : ndarray (size,)
        Where the information is taken: an estimate, penalized if the data are separable.
    weak : float
        Largest eigenvalue reported.

    Returns
    -------
    list of Direction

    Raises
    ------
    InputError
        Too many parameters.

    Notes
    -----
    Cost: ``size^3`` times a few.

    Examples
    --------
    Two columns that are the same: their difference is free.

    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> x[:, 2] = x[:, 0]
    >>> print(weak_directions(LinearObjective(x, np.zeros(50)), np.zeros(3))[0].parameters[0][0])
    a[0]
    """
    size = objective.size
    if size > MAX_SIZE:
        raise InputError(f"directions of {size} parameters: valid are at most {MAX_SIZE}; select fewer units")
    make = objective.evaluate(theta)[2]
    tiny = 1e-12 * objective.n_rows
    diagonal = np.maximum(make(np.full(size, tiny)).diagonal(), tiny)
    shift = 1e-9  # H + shift D is invertible, and has the same eigenvectors
    scale = np.sqrt(diagonal)
    inverse = make(shift * diagonal).solve(np.diag(scale)) * scale[:, None]
    values, vectors = np.linalg.eigh((inverse + inverse.T) / 2)
    eigenvalues = 1 / values[::-1] - shift  # of the largest of the inverse
    vectors = vectors[:, ::-1]
    names, out = objective.names(), []
    for e, v in zip(eigenvalues, vectors.T, strict=True):
        if e > weak:
            break
        direction = v / scale
        length = np.linalg.norm(direction)
        direction /= length
        order = np.argsort(-np.abs(direction).round(9), kind="stable")  # equal ones in their own order
        enough = int(np.searchsorted(np.cumsum(direction[order] ** 2), 0.9)) + 1
        sign = np.sign(direction[order[0]])
        parts = tuple((names[j], float(sign * direction[j])) for j in order[: min(enough, 8)])
        flat = bool(e < FLAT)
        out.append(Direction(float(max(e, 0.0)), flat, np.inf if flat else float(1 / (np.sqrt(e) * length)), parts))
    return out


def gauge(model):
    """What is fixed by convention in a model: sentences, empty where nothing is.

    >>> gauge("pairwise")[0]
    'phi_i^2 = phi_i: a diagonal A_ii and the field I_i enter only as A_ii + I_i; A_ii = 0 is chosen'
    """
    diagonal = "phi_i^2 = phi_i: a diagonal A_ii and the field I_i enter only as A_ii + I_i; A_ii = 0 is chosen"
    symmetric = "the weight holds A_ij + A_ji alone: A is symmetric"
    table = {
        "pairwise": [diagonal, symmetric],
        "neural": [
            diagonal,
            symmetric,
            "B(0) enters only as B(0) + I_i: B(0) = 0 is chosen",
        ],
        "k-pairwise": [
            diagonal,
            symmetric,
            "V(K) with V linear in K is a common field, and with V quadratic in K a common coupling: "
            "the fit fixes or penalizes both",
        ],
        "lagged": [
            diagonal,
            "the same-time part of the couplings is symmetric; C_ij(k) and C_ji(-k) are one number",
        ],
    }
    return table.get(model, [])


@dataclass(frozen=True)
class Defects:
    """What makes couplings of a raster undetermined or infinite, by unit and pair.

    Attributes
    ----------
    silent, saturated : tuple of int
        Units that never, or always, fire.
    duplicates : tuple of (i, j)
        Units with the same spikes in every bin.
    never_together, nested : tuple of (i, j)
        Pairs that never fire in one bin; pairs where i fires only together with j (i != j in spikes).
    """

    silent: tuple
    saturated: tuple
    duplicates: tuple
    never_together: tuple
    nested: tuple

    def messages(self):
        """One line each, none where nothing is wrong."""
        lines = (
            ("never fire", "their fields are minus infinity", self.silent),
            ("always fire", "their fields are infinite", self.saturated),
            ("are duplicates", "only the sum of their couplings to others is determined", self.duplicates),
            ("never fire together", "a coupling without penalty is minus infinity", self.never_together),
            ("fire (first) only with the other", "a coupling without penalty is infinite", self.nested),
        )
        return [
            f"{len(items)} {'units' if isinstance(items[0], int) else 'pairs'} {what}: "
            f"{', '.join(map(str, items[:5]))}{', ...' if len(items) > 5 else ''}; {why}"
            for what, why, items in lines
            if items
        ]


def raster_defects(raster):
    """Silent, saturated and duplicate units; pairs that never or only coincide.

    Parameters
    ----------
    raster : ndarray (T, N)
        0/1.

    Examples
    --------
    >>> import numpy as np
    >>> d = raster_defects(np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]))
    >>> d.silent, d.duplicates, d.never_together
    ((3,), ((0, 1),), ((0, 2), (1, 2)))
    """
    x = np.asarray(raster).astype(np.float32)  # counts below 2^24 per chunk are exact
    together = np.zeros((x.shape[1],) * 2)
    for a in range(0, len(x), 2**20):
        together += x[a : a + 2**20].T @ x[a : a + 2**20]
    count = together.diagonal()
    active = (count > 0) & (count < len(x))
    pairs = [(i, j) for i in range(len(count)) for j in range(len(count)) if i != j and active[i] and active[j]]
    same = {(i, j) for i, j in pairs if together[i, j] == count[i] == count[j]}
    return Defects(
        tuple(np.flatnonzero(count == 0).tolist()),
        tuple(np.flatnonzero(count == len(x)).tolist()),
        tuple(sorted(p for p in same if p[0] < p[1])),
        tuple((i, j) for i, j in pairs if i < j and together[i, j] == 0),
        tuple((i, j) for i, j in pairs if together[i, j] == count[i] and (i, j) not in same),
    )
