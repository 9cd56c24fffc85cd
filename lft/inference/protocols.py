"""What fits are made of: a concave objective, and a model that can be simulated and scored.  Read this page first.

Units are 0/1 (``phi``), rows are bins of time, several trials are never joined.  Inside fits parameters are those of
the log-odds, so that a positive number makes a spike more likely; results convert them to the conventions of
``docs/theory.md`` (J, h in spins; A, B, I with the weight exp(-S)).

A *Gibbs* model has the weight

    exp( sum_a [ sum_i c_i phi_i + sum_{i<j} a_ij phi_i phi_j + V(sum_i phi_i) ]
         + sum_k b_k sum_ia phi_i^a phi_i^{a+k} + sum_k sum_ij C_ij(k) sum_a phi_i^a phi_j^{a-k} )

and is *static* when no term joins two bins, else *space-time*.  A *causal* model is a product over bins of independent
conditional probabilities given the past.  ``log_odds`` is conditional on all the rest for the first two and on the past
for the third.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Information(Protocol):
    """Minus the second derivative of an objective, factored or ready for products."""

    def solve(self, vector: np.ndarray) -> np.ndarray:
        """H^-1 vector; a second axis holds several right-hand sides."""

    def diagonal(self) -> np.ndarray:
        """Diagonal of H."""

    def inverse_diagonal(self) -> np.ndarray:
        """Diagonal of H^-1."""


@runtime_checkable
class Objective(Protocol):
    """A concave log-likelihood, or pseudo-log-likelihood, as a sum over rows (bins of all trials in sequence).

    Penalties, paths, cross-validation, bootstrap and posteriors are written against this alone.
    """

    size: int  # number of parameters
    n_rows: int  # bins of the stretch that is fitted

    def names(self) -> list[str]:
        """One name per parameter, such as ``a[0,3]``, ``b[1]``, ``c[0]``, ``C[2,0,3]`` (lag, target, source)."""

    def kinds(self) -> np.ndarray:
        """(size,) of strings: the family of each parameter (``a``, ``b``, ``c``, ``V``, ``C``); ``c`` stays free."""

    def groups(self) -> np.ndarray:
        """(size,) of integers: parameters that a group penalty keeps or drops together; -1 is never penalized."""

    def evaluate(self, theta: np.ndarray) -> tuple[float, np.ndarray, Any]:
        """Log-likelihood in nats (sum over rows), gradient, and a callable ``extra -> Information`` of H + diag(extra),
        ``extra`` (size,) or None."""

    def score(self, theta: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Gradient of the rows ``start <= row < stop``."""

    def log_likelihood(self, theta: np.ndarray, start: int, stop: int) -> float:
        """Log-likelihood of these rows, in nats."""

    def over(self, ranges: list[tuple[int, int]]) -> Objective:
        """The same problem restricted to some ranges of rows; neighbors in time across their borders are read."""


class LogLikelihood(NamedTuple):
    """Nats of a stretch of data: total, standard error of the normalization, and the sum over each bin or block."""

    value: float
    error: float
    blocks: np.ndarray


@runtime_checkable
class BinaryModel(Protocol):
    """A fitted distribution of 0/1 rasters: what simulation, held-out scores and checks use."""

    n_units: int
    kind: str  # "static", "space-time" or "causal"

    def log_odds(self, raster: np.ndarray) -> np.ndarray:
        """(T, N) conditional log-odds of a spike, from a raster (T, N) of one trial."""

    def simulate(self, n_bins: int, *, seed: int, n_chains: int = 1) -> np.ndarray:
        """int8 (n_chains, n_bins, N): independent stretches in the stationary state; the same for any rank count."""

    def log_likelihood(self, rasters: list[np.ndarray], edges: list[np.ndarray] | None = None) -> LogLikelihood:
        """Log-likelihood proper (with its normalization) of trials; ``blocks`` are sums between the given edges."""
