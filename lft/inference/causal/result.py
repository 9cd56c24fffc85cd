"""Results of causal fits: couplings on the lag grid with errors, and the model that simulates them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lft import links
from lft.errors import InputError
from lft.inference.causal.model import CausalModel
from lft.inference.inputs import MAX_CELLS
from lft.inference.result import Fit

MAX_NAMED = 10**5


@dataclass(kw_only=True, repr=False)
class CausalFit(Fit):
    """Directed couplings over lags; row = target, column = source.

    ``kinetic``: spins s = +-1, ``P(s_i^a) = exp(s_i H_i)/(2 cosh H_i)``, ``H_i = h_i + sum_kj J_lag[k-1, i, j]
    s_j^{a-k}
    (+ sum_q u_iq x_q(a))``.  ``glm``: spikes n = 0, 1 (or counts), ``eta_i = h_i + sum_kj J_lag[k-1, i, j] n_j^{a-k}
    (+ sum_q u_iq x_q(a))`` with the link.

    Attributes
    ----------
    link : str
    h, h_error : ndarray (N,)
    J_lag, J_lag_error : ndarray (K, N, N)
        Errors from the sandwich over blocks of time; pointwise where a basis joins lags.  J = -infinity at the lags
        of a
        refractory time that was given.
    h_error_information, J_lag_error_information : ndarray
        Errors from the inverse information: equal to the others where the model holds.
    basis, own_basis : ndarray (K, M)
        Filters are ``J_lag[:, i, j] = basis @ weights[i, j]``, those of the own history ``own_basis @ own_weights[i]``.
    weights, weights_error, weights_expected : ndarray (N, N, M)
        The last: spikes of the target expected behind the source within each function; errors are rough below 5.
    own_weights, own_weights_error : ndarray (N, M_own)
    input_names : list of str
    input_weights, input_error : ndarray (N, Q)
    inputs : ndarray (T, Q) or None
        Their columns; None where they would need more than 2^22 numbers.
    unit : ndarray (N,)
        Index of each unit in the recording.
    """

    link: str
    h: np.ndarray
    h_error: np.ndarray
    h_error_information: np.ndarray
    J_lag: np.ndarray
    J_lag_error: np.ndarray
    J_lag_error_information: np.ndarray
    basis: np.ndarray
    own_basis: np.ndarray
    weights: np.ndarray
    weights_error: np.ndarray
    weights_expected: np.ndarray
    own_weights: np.ndarray
    own_weights_error: np.ndarray
    input_names: list = field(default_factory=list)
    input_weights: np.ndarray
    input_error: np.ndarray
    inputs: np.ndarray | None = None
    unit: np.ndarray

    def named(self):
        """``h[i]``, ``u[q,i]`` and ``J[k,i,j]`` (lag, target, source); the last only if there are at most 1e5."""
        n, q = len(self.h), len(self.input_names)
        out = {f"h[{i}]": (float(self.h[i]), float(self.h_error[i])) for i in range(n)}
        for m in range(q):
            for i in range(n):
                out[f"u[{m},{i}]"] = (float(self.input_weights[i, m]), float(self.input_error[i, m]))
        if self.J_lag.size <= MAX_NAMED:
            for k, i, j in np.ndindex(self.J_lag.shape):
                out[f"J[{k + 1},{i},{j}]"] = (float(self.J_lag[k, i, j]), float(self.J_lag_error[k, i, j]))
        return out

    def arrays(self):
        names = (
            "h", "h_error", "h_error_information", "J_lag", "J_lag_error", "J_lag_error_information",
            "basis", "own_basis", "weights", "weights_error", "weights_expected", "own_weights", "own_weights_error",
            "input_weights", "input_error", "unit",
        )  # fmt: skip
        out = {name: getattr(self, name) for name in names}
        out["lags"] = np.arange(1, len(self.J_lag) + 1)
        out["link"] = np.int64(links.LINKS.index(self.link))
        if self.inputs is not None:
            out["inputs"] = self.inputs
        return out

    def causal_model(self):
        """The :class:`CausalModel` of the fit."""
        return model_of(self.model, self.arrays())


def model_of(model, arrays):
    """The :class:`CausalModel` of a fit's arrays (:func:`parts_of`)."""
    p = parts_of(arrays)
    if model == "kinetic":
        return CausalModel.of_spins(p["h"], p["J"], p["inputs"], p["input_weights"])
    return CausalModel(p["h"], p["J"], p["link"], p["inputs"], p["input_weights"])


def parts_of(arrays):
    """h, J, link, inputs and their weights of the arrays of a fit's file.

    Raises
    ------
    InputError
        The fit has inputs, but was too long for their columns to be kept.
    """
    u = arrays["input_weights"]
    inputs = arrays.get("inputs")
    if u.shape[1] and inputs is None:
        raise InputError(
            f"this fit has {u.shape[1]} time-dependent inputs whose columns are not in its file (more than "
            f"{MAX_CELLS} numbers): it cannot be simulated as it is"
        )
    if not u.shape[1]:
        inputs = u = None
    link = links.LINKS[int(arrays["link"])]
    return {"h": arrays["h"], "J": arrays["J_lag"], "inputs": inputs, "input_weights": u, "link": link}
