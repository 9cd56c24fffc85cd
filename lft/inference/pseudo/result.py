"""From parameters of the log-odds and their influences to the couplings that a fit reports."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from lft.inference.result import NeuralFit

MAX_NAMED = 10**5


@dataclass(kw_only=True, repr=False)
class PseudoFit(NeuralFit):
    """A :class:`lft.inference.result.NeuralFit` with what ``k-pairwise`` and ``lagged`` add.

    Attributes
    ----------
    V, V_error : ndarray (N + 1,) or None
        ``k-pairwise``: log-odds potential of the number K of units that fire; V(0) = V(1) = V(2) = 0 is the gauge.
        V is constant, without error, from the first K that never occurs on.
    J_lag, J_lag_error : ndarray (k_max, N, N) or None
        ``lagged``: log-odds C_ij(k) of the weight exp(sum C_ij(k) phi_i^a phi_j^{a-k}), row = target i, the later bin.
        J and h of such a fit are the equal-time part in spins.
    errors_from : str
        ``joint``, ``rows`` (each row alone, the two values of a pair averaged) or ``none``.
    input_names : list of str
        Columns x_q of time-dependent inputs.
    input_weights, input_error : ndarray (N, Q) or None
        u_iq, log-odds: ``I_i^a = I_i - sum_q u_iq x_q(a)``, in spins ``h_i^a = h_i + (1/2) sum_q u_iq x_q(a)``.
    inputs : ndarray (T, Q) or None
        The columns, all trials in sequence; None where they would need more than 2^22 numbers, or several trials have
        couplings in time, so that no one sequence of bins is what was fitted.
    mean_input : ndarray (Q,) or None
        Their means over the training bins.
    """

    V: np.ndarray | None = None
    V_error: np.ndarray | None = None
    J_lag: np.ndarray | None = None
    J_lag_error: np.ndarray | None = None
    errors_from: str = "joint"
    input_names: list = field(default_factory=list)
    input_weights: np.ndarray | None = None
    input_error: np.ndarray | None = None
    inputs: np.ndarray | None = None
    mean_input: np.ndarray | None = None

    def with_mean_input(self):
        """The fit with constant fields in place of its inputs, those of their mean over the training bins."""
        if self.input_weights is None:
            return self
        more = self.input_weights @ self.mean_input
        h = None if self.h is None else self.h + more / 2
        return replace(self, I=self.I - more, h=h, input_weights=None, input_error=None, inputs=None, input_names=[])

    def named(self):
        """Couplings by name; above 1e5 pairs those of one unit, b and V alone (the arrays hold all)."""
        n = len(self.I)
        if n * (n - 1) // 2 + (0 if self.J_lag is None else self.J_lag.size) <= MAX_NAMED:
            out = super().named()
            if self.J_lag is not None:
                out |= {
                    f"J_lag[{k + 1},{i},{j}]": (float(v), float(self.J_lag_error[k, i, j]))
                    for (k, i, j), v in np.ndenumerate(self.J_lag)
                }
        else:
            one, error, name = (self.I, self.I_error, "I") if self.J is None else (self.h, self.h_error, "h")
            out = {f"B[{k}]": (float(v), float(self.B_error[k])) for k, v in self.B.items()}
            out |= {f"{name}[{i}]": (float(one[i]), float(error[i])) for i in range(n)}
        if self.input_weights is not None:
            out |= {
                f"u[{q},{i}]": (float(self.input_weights[i, q]), float(self.input_error[i, q]))
                for q, i in np.ndindex(self.input_weights.T.shape)
            }
        if self.V is not None:
            out |= {f"V[{k}]": (float(self.V[k]), float(self.V_error[k])) for k in range(3, len(self.V))}
        return out

    def arrays(self):
        names = ("V", "V_error", "J_lag", "J_lag_error", "input_weights", "input_error", "inputs", "mean_input")
        more = {name: getattr(self, name) for name in names}
        return super().arrays() | {name: array for name, array in more.items() if array is not None}


def couplings(layout, theta, u, merged, has_spins):
    """Arrays of a :class:`PseudoFit` with errors from the influences ``u`` (blocks, size) of the blocks.

    Gas to log-odds and spins: ``a = -2 A = 4 J``, ``b = -2 B``, ``c = -I``, ``h_i = c_i / 2 + sum_j a_ij / 4``.
    """
    from scipy.sparse import csr_array

    n, f = layout.n_units, layout.first
    error = np.sqrt((u**2).sum(axis=0))
    i, j = layout.pairs.T
    a, a_error = np.zeros((n, n)), np.full((n, n), np.nan)
    np.fill_diagonal(a_error, 0.0)
    a[i, j] = a[j, i] = theta[: f[1]]
    a_error[i, j] = a_error[j, i] = error[: f[1]]
    c, c_error = np.zeros(n), np.full(n, np.nan)
    c[layout.units], c_error[layout.units] = theta[f[4] : f[5]], error[f[4] : f[5]]
    lags = layout.lags
    out = {
        "A": -a / 2 + 0.0,
        "A_error": a_error / 2,
        "B": {k: float(-v / 2) for k, v in zip(lags, theta[f[1] : f[2]], strict=True)},
        "B_error": {k: float(e / 2) for k, e in zip(lags, error[f[1] : f[2]], strict=True)},
        "I": -c,
        "I_error": c_error,
    }
    if has_spins:
        place = np.full(n, -1)
        place[layout.units] = np.arange(len(layout.units))
        ends, pair = place[np.concatenate([i, j])], np.tile(np.arange(f[1]), 2)
        to_h = csr_array((np.full(len(ends), 0.25), (pair, ends)), shape=(f[1], len(layout.units)))
        u_h = u[:, f[4] : f[5]] / 2 + u[:, : f[1]] @ to_h
        h_error = np.full(n, np.nan)
        h_error[layout.units] = np.sqrt((u_h**2).sum(axis=0))
        out |= {"J": a / 4, "J_error": a_error / 4, "h": c / 2 + a.sum(axis=1) / 4, "h_error": h_error}
    if layout.values is not None:
        shape = (n, layout.values.shape[1])
        weight, weight_error = np.zeros(shape), np.full(shape, np.nan)
        unit, q = layout.driven.T
        weight[unit, q], weight_error[unit, q] = theta[f[5] :], error[f[5] :]
        out |= {"input_weights": weight, "input_error": weight_error}
    if layout.level is not None:
        level = layout.level[: n + 1]
        free = level >= 0
        v, v_error = np.zeros(n + 1), np.zeros(n + 1)
        v[free] = theta[f[3] : f[4]][level[free]]
        v_error[free] = error[f[3] : f[4]][level[free]]
        v_error[merged] = np.nan
        out |= {"V": v, "V_error": v_error}
    if layout.directed_lags:
        lag, lag_error = np.zeros((len(layout.directed_lags), n, n)), np.full((len(layout.directed_lags), n, n), np.nan)
        k, i, j = layout.directed.T
        k = np.searchsorted(layout.directed_lags, k)
        lag[k, i, j], lag_error[k, i, j] = theta[f[2] : f[3]], error[f[2] : f[3]]
        out |= {"J_lag": lag, "J_lag_error": lag_error}
    return out
