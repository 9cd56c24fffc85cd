"""Actions: named couplings, conjugate operators, and the compiled kernel of each.

    S[phi] = sum_k g_k O_k[phi],        weight exp(-S)

====================  ====  =======================================================================
:class:`Ising`        spin  ``-sum_d K_d sum_x s_x s_(x+d) - sum_x h_x s_x``
:class:`Phi4`         real  ``sum_x [-2 sum_d kappa_d phi_x phi_(x+d) + phi^2 + lambda (phi^2-1)^2]``
:class:`Neural`       gas   ``sum A_ij phi_i^a phi_j^a + sum B^{ab} phi_i^a phi_i^b + sum I_i phi_i^a``
:class:`Pairwise`     spin  ``-1/2 sum J_ij s_i^a s_j^a - sum h_i s_i^a``
====================  ====  =======================================================================

A new action is a final class with inline site functions (``_kernels/README.md``) and a face like these.
"""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np

from lft import drive
from lft._kernels import binary, lines, real_loops
from lft._kernels.actions import IsingKernel, NeuralKernel, PairwiseKernel, Phi4Kernel
from lft.domain import Domain
from lft.errors import InputError
from lft.field import Field
from lft.geometry import TIME, Graph, Lattice
from lft.plan import Plan
from lft.ties import neighbors_of, tied_units

MAX_DISPLACEMENTS = 64
"""Most displacements that a kernel holds (lft/_kernels/actions.pxd)."""

PRECISIONS = ("float64", "float32")
"""Numbers of which real fields may consist."""


class BaseAction:
    """What all faces share: couplings, fields of the right halo, plans, and sums along lines."""

    name = ""
    kind = ""
    loops = binary  # module with the compiled loops; a third-party action names its own
    geometry_type = Lattice
    has_independent_bins = False  # whether the time axis of a graph counts chains that know nothing of each other
    dtype = None  # of the field, where it is not that of its kind
    inputs = None  # columns of inputs that change in time (lft.drive)
    _options = MappingProxyType({})  # arguments beside the couplings

    def __init__(self, **couplings):
        self._couplings = couplings
        self.couplings = MappingProxyType(couplings)

    def __repr__(self):
        inside = ", ".join(f"{k}={_short(v)}" for k, v in {**self._couplings, **self._options}.items())
        return f"{type(self).__name__}({inside})"

    def __reduce__(self):
        return _rebuild, (type(self), {**self._couplings, **self._options})

    def with_couplings(self, **changes):
        """The same action with other values of some couplings."""
        unknown = sorted(set(changes) - set(self._couplings))
        if unknown:
            raise InputError(f"coupling {unknown[0]!r} of {self.name}: valid are {', '.join(self._couplings)}")
        return type(self)(**{**self._couplings, **self._options, **changes})

    def halves_ties(self, geometry):
        """Whether Metropolis must refuse half of the flips that cost nothing (``lft.ties``)."""
        if self.__dict__.get("_ties", (None,))[0] is not geometry:
            self._ties = (geometry, self._has_ties(geometry))
        return self._ties[1]

    def _has_ties(self, geometry):
        return False

    def scaled(self, b):
        """The action b S: since S is linear in its couplings, every one of them times ``b``."""
        if b == 1:
            return self
        return type(self)(**{name: _times(value, b) for name, value in self._couplings.items()}, **self._options)

    def new_field(self, geometry, comm=None):
        """A field of zeros with the halo that this action needs."""
        if not isinstance(geometry, self.geometry_type):
            raise InputError(
                f"action {self.name} lives on a {self.geometry_type.__name__}, not on a {type(geometry).__name__}"
            )
        halo = geometry.halo(self.displacements(geometry))
        domain = Domain(geometry.storage_shape, geometry.storage_periodic, halo, comm)
        return Field(geometry, self.kind, domain, self.dtype)

    def bind(self, phi):
        """(kernel, plan) of this action for a field; built once per field."""
        cache = phi.__dict__.setdefault("_bound", {})
        if id(self) not in cache:
            displacements = self.displacements(phi.geometry)
            need = phi.geometry.halo(displacements)
            if any(have < want for have, want in zip(phi.domain.halo, need, strict=True)):
                raise InputError(f"field has a halo of {phi.domain.halo}, action {self.name} needs {need}")
            plans = phi.__dict__.setdefault("_plans", {})  # actions that differ in their couplings alone share one
            if tuple(displacements) not in plans:
                plans[tuple(displacements)] = Plan(phi.geometry, phi.domain, displacements)
            plan = plans[tuple(displacements)]
            cache[id(self)] = (self, self.kernel(plan, phi.geometry), plan)
        return cache[id(self)][1:]

    def release(self, phi):
        """Forget what :meth:`bind` built, for actions that come and go on one field; the plan stays."""
        phi.__dict__.get("_bound", {}).pop(id(self), None)

    def action_lines(self, phi):
        """Share of S of each local line."""
        kernel, plan = self.bind(phi)
        out = np.empty(len(plan.line_p))
        arguments = (kernel, phi.flat(), plan.line_p, plan.line_q, plan.length)
        if self.kind == "real":
            self.loops.action_lines(*arguments, plan.active, out)
        else:
            self.loops.action_lines(*arguments, out)
        return out

    def S(self, phi):
        """The action of the configuration, the same bits on every number of ranks.

        The exact sum of rounded shares of lines; of a resident field -(sum_d K_d B_d + h M) with exact integers B, M,
        which may differ in the last bit.
        """
        total = self.resident_S(phi)
        if total is not None:
            return total
        return phi.domain.sum_lines(self.action_lines(phi), f"action {self.name}")

    def resident_S(self, phi):
        """S from the sums of a resident field; None where there are none."""
        return None

    def site_sum(self, phi):
        """sum_x phi_x."""
        total = None if phi.resident is None else phi.resident.site_sum()
        if total is not None:
            return float(phi.domain.sum_int(np.array([total]))[0])
        _, plan = self.bind(phi)
        out = np.empty(len(plan.line_p))
        lines.line_sums(phi.flat(), plan.line_p, plan.length, out)
        return phi.domain.sum_lines(out, "field")

    def bond_sums(self, phi):
        """sum_x phi_x phi_(x+d) for each displacement of :meth:`displacements` (0 where it joins nothing)."""
        if phi.resident is not None:
            steps = self.displacements(phi.geometry)
            sums = [phi.resident.bond_sum(d) if phi.geometry.joins(d) else 0 for d in steps]
            if None not in sums:
                return phi.domain.sum_int(np.array(sums, np.int64)).astype(float)
        _, plan = self.bind(phi)
        out = np.zeros((len(plan.line_p), len(plan.offsets)))
        lines.bonds(phi.flat(), plan.line_p, plan.length, plan.offsets, out)
        sums = dict(zip(plan.bonded, phi.domain.sum_columns(out, "bonds"), strict=True))
        return np.array([sums.get(d, 0.0) for d in self.displacements(phi.geometry)])

    def site_time_sums(self, phi):
        """sum_a phi_x^a for each site of a time slice, user's spatial order (binary fields)."""
        geometry, first = phi.geometry, 1 if TIME in phi.geometry.axes else 0
        whole = np.zeros(phi.domain.shape[first:], np.int64)
        whole[phi.domain.slices[first:]] = phi.values.sum(axis=0, dtype=np.int64) if first else phi.values
        whole = phi.domain.sum_int(whole).astype(float)
        if isinstance(geometry, Graph):
            return whole
        return whole.reshape(geometry.space_shape) if first else geometry.from_storage(whole)


def _rebuild(face, couplings):
    return face(**couplings)


def _times(value, factor):
    """A coupling of any form (number, sequence, mapping, array, sparse matrix or None) times a number."""
    if value is None:
        return None
    if isinstance(value, dict):
        return {key: factor * v for key, v in value.items()}
    if isinstance(value, tuple):
        return tuple(factor * v for v in value)
    return value * factor


def _short(value):
    if isinstance(value, np.ndarray):
        return f"<array {value.shape}>"
    return repr(value)


def _finite(name, value):
    array = np.asarray(value, dtype=float)
    if not np.isfinite(array).all():
        raise InputError(f"{name} = {value!r}: every coupling must be a finite number")
    return array


class _LatticeAction(BaseAction):
    """Bonds given per axis (a number or one per axis) or per displacement (a mapping)."""

    bond_name = ""

    def displacements(self, geometry):
        """Steps at which sites interact, user's order."""
        steps = list(self.bond_couplings(geometry))
        if len(steps) > MAX_DISPLACEMENTS:
            raise InputError(f"{self.bond_name} has {len(steps)} displacements: valid are at most {MAX_DISPLACEMENTS}")
        return steps

    def bond_couplings(self, geometry):
        """Mapping of displacement to coupling on this lattice."""
        value = self._couplings[self.bond_name]
        if isinstance(value, dict):
            for d in value:
                geometry.check_displacement(d)
            return value
        units = geometry.unit_displacements()
        if np.ndim(value) == 0:
            return {d: float(value) for d in units}
        if len(value) != len(units):
            raise InputError(
                f"{self.bond_name} has {len(value)} values but the lattice has {len(units)} axes "
                f"({', '.join(geometry.axes)}): give one number for all axes, or one per axis"
            )
        return {d: float(v) for d, v in zip(units, value, strict=True)}

    @staticmethod
    def _clean(name, value):
        if isinstance(value, dict):
            return {tuple(int(c) for c in d): float(_finite(f"{name}{list(d)}", k)) for d, k in value.items()}
        array = _finite(name, value)
        if array.ndim > 1:
            raise InputError(f"{name} has shape {array.shape}: give one number, or one per axis")
        return float(array) if array.ndim == 0 else tuple(array.tolist())

    def _joined(self, plan, geometry):
        couplings = self.bond_couplings(geometry)
        return [couplings[d] for d in plan.bonded]


class Ising(_LatticeAction):
    """Spins on a lattice: S = - sum_d K_d sum_x s_x s_(x+d) - sum_x h_x s_x, s = +-1.

    Parameters
    ----------
    K : float, sequence or dict
        One number for all axes, one per axis, or ``{displacement: K}`` for any set of displacements.
    h : float or ndarray
        One field for all sites, or one per site of a time slice (the spatial shape, user's order).

    Examples
    --------
    >>> from lft.actions import Ising
    >>> from lft.geometry import Lattice
    >>> action = Ising(K=(0.2, 0.4))
    >>> phi = action.new_field(Lattice((4, 4)))
    >>> phi.values[...] = 1
    >>> phi.exchange()
    >>> round(action.S(phi), 12)
    -9.6
    """

    name, kind, loops, bond_name = "ising", "spin", binary, "K"

    def __init__(self, K, h=0.0):
        field = _finite("h", h)
        super().__init__(K=self._clean("K", K), h=float(field) if field.ndim == 0 else field)

    def kernel(self, plan, geometry):
        """The compiled object that the generic loops accept."""
        h = self._couplings["h"]
        if np.ndim(h):
            if h.shape != geometry.space_shape:
                raise InputError(f"h has shape {h.shape}, the spatial axes have {geometry.space_shape}")
            h = plan.slice_array(h, geometry)
        return IsingKernel(plan.offsets, self._joined(plan, geometry), h)

    def operators(self, phi):
        """Conjugate operators: minus the sum over bonds per displacement, minus the sum of spins."""
        sums = self.bond_sums(phi)
        value = self._couplings["K"]
        if isinstance(value, dict):
            bonds = dict(zip(value, (-sums).tolist(), strict=True))
        else:
            bonds = -sums if np.ndim(value) else -math.fsum(sums)
        h = self._couplings["h"]
        return {"K": bonds, "h": -self.site_time_sums(phi) if np.ndim(h) else -self.site_sum(phi)}

    def resident_S(self, phi):
        """S from the sums of a resident field; None where there are none."""
        if phi.resident is None or np.ndim(self._couplings["h"]):
            return None
        bonds = self.bond_sums(phi)
        if phi.resident is None:
            return None
        terms = [K * b for K, b in zip(self.bond_couplings(phi.geometry).values(), bonds, strict=True)]
        return -math.fsum([*terms, self._couplings["h"] * self.site_sum(phi)])

    def _has_ties(self, geometry):
        if geometry.mask is not None:
            return True  # what the mask leaves may be a ring
        bonds = [d for d, K in self.bond_couplings(geometry).items() if K and geometry.joins(d)]
        periodic = [b == "periodic" for b in geometry.boundary]
        return len(neighbors_of(bonds, geometry.shape, periodic)) <= 2


class Phi4(_LatticeAction):
    """Real field: S = sum_x [-2 sum_d kappa_d phi_x phi_(x+d) + phi_x^2 + lambda (phi_x^2 - 1)^2].

    Parameters
    ----------
    kappa : float, sequence or dict
        Hopping, one number for all axes, one per axis, or per displacement.
    lam : float
        Quartic coupling, >= 0.
    precision : {"float64", "float32"}
        Of field, momenta and forces; sums are float64 in either case.  Rounding breaks the reversibility of a
        trajectory by about 1e-7 in float32, so its samples are exact to that order only.

    Notes
    -----
    As couplings of ``S = sum g O``: ``kappa`` with ``O = -2 sum phi phi``, ``lam`` with
    ``O = sum (phi^2 - 1)^2``, and the constant ``unit = 1`` with ``O = sum phi^2``.

    Examples
    --------
    >>> from lft.actions import Phi4
    >>> from lft.geometry import Lattice
    >>> action = Phi4(kappa=0.2, lam=0.5)
    >>> phi = action.new_field(Lattice((4, 4)))
    >>> round(action.S(phi), 12)
    8.0
    """

    name, kind, loops, bond_name = "phi4", "real", real_loops(), "kappa"

    def __init__(self, kappa, lam, unit=1.0, precision="float64"):
        lam = float(_finite("lambda", lam))
        if lam < 0:
            raise InputError(f"lambda = {lam}: valid is a number >= 0, else exp(-S) cannot be normalized")
        if unit != 1.0 and type(self) is Phi4:
            raise InputError(f"unit = {unit}: the coefficient of phi^2 is 1 by convention")
        if precision not in PRECISIONS:
            raise InputError(f"precision = {precision!r}: valid are {', '.join(PRECISIONS)}")
        super().__init__(kappa=self._clean("kappa", kappa), lam=lam, unit=float(unit))
        if precision != PRECISIONS[0]:
            self.dtype, self._options = np.dtype(precision), MappingProxyType({"precision": precision})

    def scaled(self, b):
        """The action b S (b > 0): phi^2 gets the coefficient b as well."""
        if b == 1:
            return self
        if not (np.isfinite(b) and b > 0):
            raise InputError(f"b = {b}: valid is a number > 0, else exp(-b S) cannot be normalized")
        return ScaledPhi4(**{name: _times(value, b) for name, value in self._couplings.items()}, **self._options)

    def kernel(self, plan, geometry):
        """The compiled object that the generic loops accept."""
        return Phi4Kernel(plan.offsets, self._joined(plan, geometry), self._couplings["lam"], self._couplings["unit"])

    def moments(self, phi):
        """(sum phi^2, sum phi^4)."""
        _, plan = self.bind(phi)
        out = np.empty((len(plan.line_p), 2))
        lines.moments(phi.flat(), plan.line_p, plan.length, out)
        return tuple(phi.domain.sum_columns(out, "phi^2 and phi^4").tolist())

    def operators(self, phi):
        """Conjugate operators of kappa, lam and unit."""
        value, sums = self._couplings["kappa"], self.bond_sums(phi)
        if isinstance(value, dict):
            hopping = dict(zip(value, (-2 * sums).tolist(), strict=True))
        else:
            hopping = -2 * sums if np.ndim(value) else -2 * math.fsum(sums)
        second, fourth = self.moments(phi)
        return {"kappa": hopping, "lam": fourth - 2 * second + phi.geometry.n_active, "unit": second}

    def force(self, phi):
        """-dS/dphi of the local block, storage order."""
        kernel, plan = self.bind(phi)
        out = np.zeros(phi.data.shape)
        flat = (phi.flat(), out.reshape(-1))
        self.loops.force(kernel, *flat, plan.line_p, plan.line_q, plan.length, plan.active)
        return out[phi.domain.interior]


class ScaledPhi4(Phi4):
    """A multiple b S of a :class:`Phi4`: ``unit`` = b is the coefficient of phi^2.  Loops written for the coefficient 1
    must refuse it (``type(action) is Phi4``)."""


class Neural(BaseAction):
    """Spikes 0/1 of units over time: S = sum A_ij phi_i^a phi_j^a + sum B^{ab} phi_i^a phi_i^b + sum I_i phi_i^a.

    Sums run over ordered pairs, so every pair counts twice (canonical gauge: symmetric, zero diagonals).  ``B`` is
    translation invariant, ``B^{ab} = B(|a-b|)``.  Weights are exp(-S): a negative coupling is excitatory.  An
    implementation of the action outlined by Bardella et al., Entropy 26, 495 (2024), reconstructed from the
    abstract; see docs/theory.md.

    Parameters
    ----------
    A : ndarray (N, N) or scipy.sparse matrix or None
        Couplings at equal time: symmetric, zero diagonal.  None: no couplings.
    B : dict {lag: value}
        Couplings of a unit with itself at the given lags (bins, >= 1).
    I : ndarray (N,) or float
        One-body couplings.
    input_weights, inputs : ndarray (N, Q) and (T, Q), optional
        I_i^a = I_i - sum_q input_weights_iq inputs_aq (:mod:`lft.drive`).

    Examples
    --------
    >>> import numpy as np
    >>> from lft.actions import Neural
    >>> from lft.geometry import Graph
    >>> action = Neural(A=np.array([[0, -0.3], [-0.3, 0]]), B={1: -0.25}, I=np.array([0.5, 0.5]))
    >>> phi = action.new_field(Graph(2, 3))
    >>> phi.values[...] = 1
    >>> phi.exchange()
    >>> round(action.S(phi), 12)
    -0.8
    """

    name, kind, loops, geometry_type = "neural", "gas", binary, Graph

    def __init__(self, A=None, B=None, I=0.0, input_weights=None, inputs=None):
        driven, self._options = drive.arguments(input_weights, inputs)
        self.inputs = self._options.get("inputs")
        super().__init__(A=_check_matrix(A), B=_check_lags(B or {}), I=_finite("I", I), **driven)

    def displacements(self, geometry):
        """Lags in time, as steps (lag, 0)."""
        return [(k, 0) for k in self._couplings["B"]]

    def _per_unit(self, geometry):
        I = self._couplings["I"]
        if I.ndim and I.shape != (geometry.n_units,):
            raise InputError(f"I has shape {I.shape}, the graph has {geometry.n_units} units")
        A = self._couplings["A"]
        if A is not None and A.shape[0] != geometry.n_units:
            raise InputError(f"A has shape {A.shape}, the graph has {geometry.n_units} units")
        return np.full(geometry.n_units, float(I)) if I.ndim == 0 else I

    def kernel(self, plan, geometry):
        """The compiled object that the generic loops accept."""
        h = drive.one_body(self, self._per_unit(geometry), plan, geometry)
        A, B = self._couplings["A"], self._couplings["B"]
        K = [2.0 * B[d[0]] for d in plan.bonded]
        for lag in B:
            if geometry.storage_periodic[0] and 2 * lag > geometry.n_bins:
                raise InputError(f"B: lag {lag} on periodic time of {geometry.n_bins} bins needs at least {2 * lag}")
        if A is None:
            return NeuralKernel(plan.offsets, K, h)
        if isinstance(A, np.ndarray):
            return NeuralKernel(plan.offsets, K, h, dense=2.0 * A)
        return NeuralKernel(plan.offsets, K, h, sparse=(A.indptr, A.indices, 2.0 * A.data))

    def operators(self, phi):
        """O_A[i, j] = sum_a phi_i phi_j (ordered pairs, zero diagonal), O_B[k] = 2 sum phi phi(+k), O_I[i]."""
        first = self.site_time_sums(phi)
        lags = dict.fromkeys(self._couplings["B"], 0.0)
        lags.update({d[0]: 2.0 * s for d, s in zip(self.displacements(phi.geometry), self.bond_sums(phi), strict=True)})
        pairs = _pair_sums(phi, self._couplings["A"])
        one = {"I": first if self._couplings["I"].ndim else first.sum()}
        return {"A": pairs, "B": lags, **one, **drive.operators(self, phi)}

    def _has_ties(self, geometry):
        A, B = self._couplings["A"], self._couplings["B"]
        if drive.is_driven(self):
            return True  # real numbers: flips that cost exactly nothing are as rare as refusing half of them is cheap
        lags = [2.0 * b for lag, b in B.items() if lag < geometry.n_bins]
        return len(tied_units(None if A is None else 2.0 * A, self._per_unit(geometry), (0, 1), lags)) > 0


class Pairwise(BaseAction):
    """Spins with arbitrary pair couplings: S = - sum_a [ 1/2 sum_ij J_ij s_i^a s_j^a + sum_i h_i s_i^a ], s = +-1.

    The pairwise maximum-entropy model, or a spin glass.  Bins ``a`` are not coupled: on ``Graph(N, R)`` this is R
    independent chains of one system of N spins.  With phi = (1+s)/2 it is :class:`Neural` without B.

    Parameters
    ----------
    J : ndarray (N, N) or scipy.sparse matrix
        Symmetric, zero diagonal; positive couplings align.
    h : float or ndarray (N,)
        Fields.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.actions import Pairwise
    >>> from lft.geometry import Graph
    >>> action = Pairwise(J=np.array([[0, 0.5], [0.5, 0]]), h=0.1)
    >>> phi = action.new_field(Graph(2, 3))
    >>> phi.values[...] = 1
    >>> round(action.S(phi), 12)
    -2.1
    """

    name, kind, loops, geometry_type = "pairwise", "spin", binary, Graph
    has_independent_bins = True

    def __init__(self, J, h=0.0):
        if J is None:
            raise InputError("J = None: valid is a symmetric matrix, units x units")
        super().__init__(J=_check_matrix(J, "J", "h"), h=_finite("h", h))
        if self._couplings["h"].ndim > 1:
            raise InputError(f"h has shape {self._couplings['h'].shape}: give one number, or one per unit")

    def displacements(self, geometry):
        """None: bins are independent."""
        return []

    def fields(self, geometry):
        """h of each unit; raises InputError where the couplings do not fit the graph."""
        J, h = self._couplings["J"], self._couplings["h"]
        for name, shape in (("J", J.shape[:1]), ("h", h.shape)):
            if shape and shape != (geometry.n_units,):
                raise InputError(f"{name} has {shape[0]} units, the graph has {geometry.n_units}")
        return np.full(geometry.n_units, float(h)) if h.ndim == 0 else h

    def kernel(self, plan, geometry):
        """The compiled object that the generic loops accept."""
        h, J = self.fields(geometry), self._couplings["J"]
        if isinstance(J, np.ndarray):
            return PairwiseKernel(h, dense=J)
        return PairwiseKernel(h, sparse=(J.indptr, J.indices, J.data))

    def operators(self, phi):
        """O_J[i, j] = -1/2 sum_a s_i s_j (zero diagonal; on the pattern of a sparse J), O_h[i] = - sum_a s_i."""
        first = -self.site_time_sums(phi)
        pairs = -0.5 * _pair_sums(phi, self._couplings["J"])
        return {"J": pairs, "h": first if self._couplings["h"].ndim else first.sum()}

    def tied_units(self, geometry):
        """Units that :meth:`halves_ties` is about."""
        return tied_units(self._couplings["J"], self.fields(geometry), (-1, 1))

    def _has_ties(self, geometry):
        return len(self.tied_units(geometry)) > 0


def _pair_sums(phi, matrix):
    """sum_a phi_i^a phi_j^a for i != j: dense, or on the pattern of a sparse matrix; None without a matrix."""
    if matrix is None:
        return None
    if not isinstance(matrix, np.ndarray):
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        sums = np.zeros(len(row), np.int64)
        for start in range(0, len(phi.values), 64):  # bounded memory: 64 bins of every pair at a time
            part = phi.values[start : start + 64]
            sums += (part[:, row] * part[:, matrix.indices]).sum(axis=0, dtype=np.int64)
        pairs = matrix.copy()
        pairs.data = phi.domain.sum_int(sums).astype(float)
        return pairs
    block = phi.values.astype(np.float32)  # counts below 2^24 are exact; longer blocks are split
    pairs = np.zeros((phi.geometry.n_units,) * 2, np.int64)
    for start in range(0, len(block), 2**20):
        part = block[start : start + 2**20]
        pairs += np.rint(part.T @ part).astype(np.int64)
    pairs = phi.domain.sum_int(pairs).astype(float)
    np.fill_diagonal(pairs, 0.0)
    return pairs


def _check_matrix(A, name="A", one_body="I"):
    if A is None:
        return None
    if hasattr(A, "tocsr"):
        A = A.tocsr().astype(float)
        A.sort_indices()
        values, difference, diagonal = A.data, abs(A - A.T), A.diagonal()
        asymmetric = difference.nnz > 0 and difference.max() > 0
    else:
        A = np.array(A, dtype=float)
        if A.ndim != 2 or A.shape[0] != A.shape[1]:
            raise InputError(f"{name} has shape {A.shape}: valid is a square matrix, units x units")
        values, diagonal, asymmetric = A, np.diagonal(A), not np.array_equal(A, A.T)
    _finite(name, values)
    if asymmetric:
        raise InputError(f"{name} is not symmetric: {name}_ij and {name}_ji are one coupling, give both the same value")
    if np.any(diagonal):
        raise InputError(f"{name} has a nonzero diagonal: one-body terms belong to {one_body} (canonical gauge)")
    return A


def _check_lags(B):
    clean = {}
    for lag, value in B.items():
        if isinstance(lag, bool) or not isinstance(lag, int | np.integer) or lag < 1:
            raise InputError(f"B: lag {lag!r}: valid is an integer number of bins >= 1")
        clean[int(lag)] = float(_finite(f"B[{lag}]", value))
    return clean


ACTIONS = {"ising": Ising, "phi4": Phi4, "neural": Neural, "pairwise": Pairwise}
"""Built-in actions by the name used in configurations."""
