"""Gibbs measures of 0/1 units beyond (A, B, I): a potential of the count, and directed couplings at lags.

====================  ====================================================================================
:class:`KPairwise`    ``sum A_ij phi_i^a phi_j^a + sum I_i phi_i^a - sum_a V(sum_i phi_i^a)``
:class:`Lagged`       ``sum A_ij phi_i^a phi_j^a + sum I_i phi_i^a - sum_kija C_ij(k) phi_i^a phi_j^(a-k)``
====================  ====================================================================================

A and I are those of :class:`lft.actions.Neural` (weight exp(-S), ordered pairs: negative is excitatory); V and C are
log-odds (weight exp(+V), exp(+C): positive is excitatory).  All four are what ``lft fit`` writes, by the same names.
"""

from __future__ import annotations

import numpy as np

from lft import actions, drive
from lft._kernels import binary
from lft._kernels.actions import GibbsKernel
from lft.actions import MAX_DISPLACEMENTS, BaseAction, _check_matrix, _finite, _pair_sums
from lft.errors import InputError
from lft.geometry import Graph

CHUNK = 2**20  # bins of a product in single precision: counts below 2^24 are exact


class _UnitAction(BaseAction):
    """What both share: one-body couplings and pairs at equal times."""

    kind, loops, geometry_type = "gas", binary, Graph

    def __init__(self, A, I, input_weights, inputs, **more):
        A = A.toarray() if hasattr(A, "toarray") else A
        I = _finite("I", I)
        if I.ndim > 1:
            raise InputError(f"I has shape {I.shape}: give one number, or one per unit")
        driven, self._options = drive.arguments(input_weights, inputs)
        self.inputs = self._options.get("inputs")
        super().__init__(A=_check_matrix(A), I=I, **more, **driven)

    @property
    def n_units(self):
        """Units of the couplings."""
        return self._sizes()[-1][1]

    def one_body(self, geometry):
        """I of each unit; raises InputError where the couplings do not fit the graph."""
        for name, n in self._sizes():
            if n != geometry.n_units:
                text = f"{n + 1} values, for {n} units" if name == "V" else f"{n} units"
                raise InputError(f"{name} has {text}; the graph has {geometry.n_units}")
        I = self._couplings["I"]
        return np.full(geometry.n_units, float(I)) if I.ndim == 0 else I

    def _sizes(self):
        A, I = self._couplings["A"], self._couplings["I"]
        return [*([] if A is None else [("A", len(A))]), *([("I", len(I))] if I.ndim else [])]

    def _pairs(self):
        A = self._couplings["A"]
        return None if A is None else 2.0 * A

    def _static_operators(self, phi):
        first = self.site_time_sums(phi)
        return {
            "A": _pair_sums(phi, self._couplings["A"]),
            "I": first if self._couplings["I"].ndim else first.sum(),
            **drive.operators(self, phi),
        }

    def _has_ties(self, geometry):
        # real couplings cost no flip exactly nothing, so that refusing half of those costs nothing either
        return True


class KPairwise(_UnitAction):
    """Pairs and a potential of the count: S = sum_a [ sum_ij A_ij phi_i^a phi_j^a + sum_i I_i phi_i^a - V(K^a) ].

    ``K^a = sum_i phi_i^a``.  Bins ``a`` are not coupled: on ``Graph(N, R)`` this is R independent chains of N units.

    Parameters
    ----------
    V : ndarray (N + 1,)
        Log-odds of K = 0 ... N spikes in a bin.  A constant changes S alone; terms linear and quadratic in K are also
        held by I and A.
    A : ndarray (N, N) or None
        Symmetric, zero diagonal; every pair counts twice.
    I : ndarray (N,) or float
    input_weights, inputs : ndarray (N, Q) and (T, Q), optional
        As in :class:`lft.actions.Neural`.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.gibbs import KPairwise
    >>> from lft.geometry import Graph
    >>> action = KPairwise(V=[0.0, 0.0, 0.5], A=np.array([[0, -0.3], [-0.3, 0]]), I=0.2)
    >>> phi = action.new_field(Graph(2, 3))
    >>> phi.values[...] = [[0, 0], [1, 0], [1, 1]]
    >>> round(action.S(phi), 12)  # 0.2 + (0.4 - 0.6 - 0.5)
    -0.5
    """

    name, has_independent_bins = "k-pairwise", True

    def __init__(self, V, A=None, I=0.0, input_weights=None, inputs=None):
        V = _finite("V", V)
        if V.ndim != 1 or len(V) < 2:
            raise InputError(f"V has shape {V.shape}: valid is one number for each count, from no spike to N")
        super().__init__(A, I, input_weights, inputs, V=V)

    def displacements(self, geometry):
        """None: bins are independent."""
        return []

    def _sizes(self):
        return [*super()._sizes(), ("V", len(self._couplings["V"]) - 1)]

    def kernel(self, plan, geometry):
        """The compiled object that the generic loops accept."""
        h = drive.one_body(self, self.one_body(geometry), plan, geometry)
        return GibbsKernel(h, self._pairs(), step=-np.diff(self._couplings["V"]))

    def counts(self, phi):
        """Spikes of each local bin."""
        return phi.values.sum(axis=1, dtype=np.intp)

    def action_lines(self, phi):
        """Share of S of each local bin."""
        return super().action_lines(phi) - self._couplings["V"][self.counts(phi)]

    def operators(self, phi):
        """O_A and O_I as in :class:`lft.actions.Neural`; O_V[K] = - number of bins with K spikes."""
        bins = np.bincount(self.counts(phi), minlength=phi.geometry.n_units + 1)
        return {**self._static_operators(phi), "V": -phi.domain.sum_int(bins).astype(float)}


class Lagged(_UnitAction):
    """Directed couplings at finite lags, a Gibbs measure that does not change with time (not a causal chain):

        S = sum_a [ sum_ij A_ij phi_i^a phi_j^a + sum_i I_i phi_i^a ] - sum_k sum_ij C_ij(k) sum_a phi_i^a phi_j^(a-k)

    Parameters
    ----------
    J_lag : ndarray (K, N, N)
        ``J_lag[k - 1, i, j] = C_ij(k)`` in log-odds: row = target, the later bin; the diagonal is memory.
    A : ndarray (N, N) or None
        Symmetric, zero diagonal; every pair counts twice.
    I : ndarray (N,) or float
    input_weights, inputs : ndarray (N, Q) and (T, Q), optional
        As in :class:`lft.actions.Neural`.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.gibbs import Lagged
    >>> from lft.geometry import Graph
    >>> action = Lagged(J_lag=[[[0.0, 0.5], [0.0, 0.25]]], I=0.125)  # 1 drives 0 and itself, one bin later
    >>> phi = action.new_field(Graph(2, 3))
    >>> phi.values[...] = [[0, 1], [1, 1], [0, 0]]
    >>> phi.exchange()
    >>> round(action.S(phi), 12)  # 3/8 - 0.5 - 0.25
    -0.375
    """

    name = "lagged"

    def __init__(self, J_lag, A=None, I=0.0, input_weights=None, inputs=None):
        C = _finite("J_lag", J_lag)
        if C.ndim != 3 or C.shape[1] != C.shape[2] or not C.size:
            raise InputError(f"J_lag has shape {C.shape}: valid is (lags, units, units), row = target")
        if len(C) > MAX_DISPLACEMENTS:
            raise InputError(f"J_lag has {len(C)} lags: valid are at most {MAX_DISPLACEMENTS}")
        super().__init__(A, I, input_weights, inputs, J_lag=C)

    def displacements(self, geometry):
        """The lags 1 ... K, as steps (k, 0)."""
        return [(k, 0) for k in range(1, len(self._couplings["J_lag"]) + 1)]

    def _sizes(self):
        return [*super()._sizes(), ("J_lag", self._couplings["J_lag"].shape[1])]

    def kernel(self, plan, geometry):
        """The compiled object that the generic loops accept."""
        h, C = drive.one_body(self, self.one_body(geometry), plan, geometry), self._couplings["J_lag"]
        if geometry.storage_periodic[0] and 2 * len(C) > geometry.n_bins:
            raise InputError(
                f"J_lag: lag {len(C)} on periodic time of {geometry.n_bins} bins needs at least {2 * len(C)}"
            )
        lags = [k - 1 for k, _ in plan.bonded]
        late = -np.stack([C[lags].transpose(0, 2, 1), C[lags]], axis=1)  # to the later bin, to the earlier one
        return GibbsKernel(h, self._pairs(), plan.offsets, late)

    def operators(self, phi):
        """O_A and O_I as in :class:`lft.actions.Neural`; O_J_lag[k - 1, i, j] = - sum_a phi_i^a phi_j^(a-k)."""
        halo, n = phi.domain.halo[0], len(phi.values)
        sums = np.zeros(self._couplings["J_lag"].shape, np.int64)
        for k in range(1, min(len(sums), halo) + 1):
            for start in range(0, n, CHUNK):
                stop = min(start + CHUNK, n)
                later, earlier = (
                    phi.data[halo - back + start : halo - back + stop].astype(np.float32) for back in (0, k)
                )
                sums[k - 1] += np.rint(later.T @ earlier).astype(np.int64)
        return {**self._static_operators(phi), "J_lag": -phi.domain.sum_int(sums).astype(float)}


ACTIONS = {**actions.ACTIONS, "k-pairwise": KPairwise, "lagged": Lagged}
"""Actions that the generic loops serve, by the name used in configurations."""
