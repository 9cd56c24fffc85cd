"""A fine lattice and how it is seen: configurations of a model, its operators, and the coarse fields a recording shows.

:class:`Observation` is the map from fine spins to a recording: electrodes sit on every b-th site of the tissue
(decimation in space), bins hold b_t time steps (OR, k-of-n, or decimation in time), and beyond an open edge of the
array the tissue goes on, unobserved.  :func:`simulate` runs the fine lattice, weight ``exp(sum_k theta_k O_k)``, and
keeps, per configuration, the operators ``O_k`` conjugate to the couplings, the lowest modes, and the coarse field.

Derivatives with respect to the couplings are covariances within one such run, of operators and scores that are near
each other: :mod:`lft.rg.inverse.response`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from lft.actions import Ising
from lft.chain import Chain, Schedule
from lft.errors import InputError
from lft.field import Field
from lft.geometry import TIME, Lattice
from lft.protocols import State
from lft.rg.blocking import block
from lft.rg.inverse.response import cell_operators
from lft.rg.variables import mode_number
from lft.rng import Key, Stream
from lft.updaters import HeatBath

RULES = ("decimation", "or", "k-of-n", "majority")
TARGET_SITES = 4096
"""Coarse sites of one configuration: more configurations say more about derivatives than larger ones."""
MAX_FINE_SITES = 2**24
BATCH_SITES = 2**19
MIN_BINS = 16


@dataclass(frozen=True)
class Observation:
    """How a fine lattice is seen on the sites and bins of a recording.

    Parameters
    ----------
    recorded : Lattice
        Geometry of the recording: array, mask, boundaries.
    factor : int or sequence of int
        Fine sites per recorded site, user's axis order.
    rule : {"decimation", "or", "k-of-n", "majority"}
        What makes a bin of its time steps: the last one of the block at ``offset`` (decimation), any spike (or), ...
    k : int, optional
        For k-of-n.
    space : {"decimation", "or", "majority"}
        What an electrode sees of its cell: one site (default), or all of them.
    offset : int or sequence of int
        Which site of a cell decimation keeps.
    surround : int
        Pitches of unobserved tissue beyond each pair of open edges of the array; 0: the tissue ends with the array.

    Examples
    --------
    >>> from lft.geometry import Lattice
    >>> array = Lattice((4, 4, 500), ("x", "y", "t"), "open", ("400 um", "400 um", "20 ms"))
    >>> seen = Observation(array, (2, 2, 4), rule="or", surround=1)
    >>> fine = seen.fine_lattice(16)
    >>> fine.shape, fine.spacing, fine.boundary
    ((10, 10, 64), ('200 um', '200 um', '5 ms'), ('periodic', 'periodic', 'periodic'))
    """

    recorded: Lattice
    factor: tuple
    rule: str = "decimation"
    k: int | None = None
    space: str = "decimation"
    offset: tuple = 0
    surround: int = 2

    def __post_init__(self):
        lattice = self.recorded
        if not isinstance(lattice, Lattice):
            raise InputError(f"recorded = {lattice!r}: valid is a Lattice")
        for name in ("factor", "offset"):
            value = getattr(self, name)
            values = (value,) * len(lattice.shape) if isinstance(value, int | np.integer) else tuple(value)
            least = 1 if name == "factor" else 0
            if len(values) != len(lattice.shape) or any(
                isinstance(v, bool) or not isinstance(v, int | np.integer) or v < least for v in values
            ):
                axes = ", ".join(lattice.axes)
                raise InputError(f"{name} = {value!r}: valid is an integer >= {least}, or one per axis ({axes})")
            object.__setattr__(self, name, tuple(int(v) for v in values))
        for axis, b, o in zip(lattice.axes, self.factor, self.offset, strict=True):
            if o >= b:
                raise InputError(f"offset {o} of axis {axis}: valid are 0 to {b - 1}, sites of a cell")
        for name, valid in (("rule", RULES), ("space", ("decimation", "or", "majority"))):
            if getattr(self, name) not in valid:
                raise InputError(f"{name} = {getattr(self, name)!r}: valid are {', '.join(valid)}")
        n_bins = self.factor[lattice.time_axis] if lattice.time_axis is not None else 1
        if (self.rule == "k-of-n") != (self.k is not None):
            raise InputError(f"k = {self.k!r}: rule 'k-of-n' needs an integer k, the others take none")
        if self.k is not None and not (isinstance(self.k, int) and 1 <= self.k <= n_bins):
            raise InputError(f"k = {self.k!r}: valid are 1 to {n_bins}, the time steps of a bin")
        if isinstance(self.surround, bool) or not isinstance(self.surround, int) or self.surround < 0:
            raise InputError(f"surround = {self.surround!r}: valid is an integer >= 0")

    # ---- geometry
    def torus(self, n_time=None):
        """The coarse lattice of which the recording is a window: periodic where tissue surrounds it, and in time."""
        return _torus(self, n_time)

    def fine_lattice(self, n_time=None):
        """The fine lattice behind ``n_time`` bins (default: as many as recorded)."""
        return _fine(self, n_time)

    def seen_lattice(self, n_time=None):
        """Geometry of what :meth:`observe` returns: the array with its mask, time periodic with ``n_time`` bins."""
        return _seen(self, n_time)

    def fold(self, phi):
        """The coarse field on the whole torus."""
        if self.space == self.rule and self.k is None:
            return block(phi, self.rule, self.factor, offset=self.offset if self.rule == "decimation" else 0)
        t = self.recorded.time_axis
        in_time = tuple(b if i == t else 1 for i, b in enumerate(self.factor))
        in_space = tuple(1 if i == t else b for i, b in enumerate(self.factor))
        for name, factor in ((self.space, in_space), (self.rule, in_time)):
            if max(factor) > 1:
                offset = tuple(o if b > 1 else 0 for o, b in zip(self.offset, factor, strict=True))
                is_kept = name == "decimation"
                phi = block(phi, name, factor, k=self.k if name == "k-of-n" else None, offset=offset if is_kept else 0)
        return phi

    def window_of(self, values, n_time):
        """The part of stored coarse values that the array records, as a field."""
        field = Field(self.seen_lattice(n_time), "spin")
        field.values[...] = values[tuple(slice(0, n) for n in field.values.shape)]
        mask = field.local_mask()
        if mask is not None:
            field.values[...] *= mask
        return field

    def observe(self, phi):
        """What the array records of a fine field: a :class:`lft.field.Field` on :meth:`seen_lattice`."""
        coarse = self.fold(phi)
        return self.window_of(coarse.values, coarse.geometry.n_time)


# built once for thousands of configurations
@lru_cache(maxsize=64)
def _torus(observation, n_time):
    lattice, shape, boundary = observation.recorded, [], []
    for axis, n, ends in zip(lattice.axes, lattice.shape, lattice.boundary, strict=True):
        if axis == TIME:
            shape.append(n if n_time is None else n_time)
            boundary.append("periodic")
        else:
            shape.append(n + (observation.surround if ends == "open" else 0))
            boundary.append("periodic" if observation.surround else ends)
    return Lattice(tuple(shape), lattice.axes, tuple(boundary), lattice.spacing)


@lru_cache(maxsize=64)
def _fine(observation, n_time):
    torus, spacing = _torus(observation, n_time), None
    if torus.spacing is not None:
        quantities = [torus.quantity(a).scaled(1 / b) for a, b in zip(torus.axes, observation.factor, strict=True)]
        spacing = tuple(f"{q.value:.12g} {q.unit}" for q in quantities)
    shape = tuple(n * b for n, b in zip(torus.shape, observation.factor, strict=True))
    return Lattice(shape, torus.axes, torus.boundary, spacing)


@lru_cache(maxsize=64)
def _seen(observation, n_time):
    lattice = observation.recorded
    shape, boundary = list(lattice.shape), list(lattice.boundary)
    if lattice.time_axis is not None:
        shape[lattice.time_axis] = n_time or lattice.n_time
        boundary[lattice.time_axis] = "periodic"
    return Lattice(tuple(shape), lattice.axes, tuple(boundary), lattice.spacing, lattice.mask)


def field_name(displacement):
    """``K[1,0,0]``: the name of a coupling at a displacement."""
    return f"K[{','.join(str(int(step)) for step in displacement)}]"


@dataclass(frozen=True)
class FineModel:
    """Translation-invariant Ising spins behind an observation: one K per displacement and one h.

    Parameters
    ----------
    observation : Observation
    displacements : sequence of tuple of int, optional
        User's axis order; default the nearest neighbors along every axis.
    """

    observation: Observation
    displacements: tuple = None

    def __post_init__(self):
        lattice = self.observation.recorded
        given = lattice.unit_displacements() if self.displacements is None else self.displacements
        object.__setattr__(self, "displacements", tuple(tuple(int(x) for x in d) for d in given))

    @property
    def names(self):
        """Names of the couplings, h last."""
        return (*map(field_name, self.displacements), "h")

    def action(self, theta):
        """The action at couplings ``theta`` (in the order of :attr:`names`)."""
        units = self.observation.recorded.unit_displacements()
        values = dict(zip(self.displacements, (float(v) for v in theta[:-1]), strict=True))
        if set(values) <= set(units):
            return Ising(K=[values.get(d, 0.0) for d in units], h=float(theta[-1]))
        return Ising(K=values, h=float(theta[-1]))


@dataclass(frozen=True)
class Volume:
    """Bins and configurations of a simulation, and what had to be given up to keep it small."""

    observation: Observation
    n_time: int | None
    notes: tuple = ()

    @property
    def n_fine(self):
        """Fine sites of a configuration."""
        return self.observation.fine_lattice(self.n_time).n_sites

    def doubled(self):
        """Twice the bins (without time: twice the first axis), to see whether the size matters."""
        if self.n_time is not None:
            return dataclasses.replace(self, n_time=2 * self.n_time)
        recorded = self.observation.recorded
        bigger = Lattice((2 * recorded.shape[0], *recorded.shape[1:]), recorded.axes, recorded.boundary,
                         recorded.spacing)
        return dataclasses.replace(self, observation=dataclasses.replace(self.observation, recorded=bigger))


def choose_volume(observation, max_fine_sites=MAX_FINE_SITES, target_sites=TARGET_SITES):
    """The simulated volume: the recorded array with a short stretch of time, smaller if the fine lattice is too big.

    Time is periodic, so a stretch has no ends; it should span several correlation times, which
    :func:`lft.rg.inverse.match.inverse_map` checks by doubling.  An array whose fine lattice exceeds ``max_fine_sites``
    even at 16 bins is replaced by a periodic patch without edges and mask; the notes say so.
    """
    recorded, notes = observation.recorded, []
    n_space = math.prod(observation.torus(1).space_shape)
    n_time = None
    if recorded.time_axis is not None:
        b = observation.factor[recorded.time_axis]
        per_bin = observation.fine_lattice(1).n_sites
        wanted = max(target_sites // n_space, MIN_BINS, -(-64 // b))
        n_time = min(wanted, max(recorded.n_time, MIN_BINS))
        n_time = max(min(n_time, max_fine_sites // per_bin), MIN_BINS)
        n_time += n_time % 2
    if observation.fine_lattice(n_time).n_sites > max_fine_sites:
        observation = _patch(observation, n_time, max_fine_sites)
        shape = "x".join(map(str, observation.recorded.space_shape))
        full = "x".join(map(str, recorded.space_shape))
        notes.append(
            f"the fine lattice behind {full} sites is too big: simulated is a periodic patch of {shape} recorded "
            "sites, without the edges and inactive sites of the array"
        )
    return Volume(observation, n_time, tuple(notes))


def _patch(observation, n_time, max_fine_sites):
    recorded = observation.recorded
    space = [i for i in range(len(recorded.shape)) if i != recorded.time_axis]
    shape = list(recorded.shape)

    def patch():
        lattice = Lattice(tuple(shape), recorded.axes, "periodic", recorded.spacing)
        return dataclasses.replace(observation, recorded=lattice)

    while patch().fine_lattice(n_time).n_sites > max_fine_sites:
        longest = max(space, key=lambda i: shape[i])
        if shape[longest] <= 4:
            raise InputError(
                f"factor {list(observation.factor)}: even a patch of {'x'.join(str(shape[i]) for i in space)} recorded "
                f"sites has {patch().fine_lattice(n_time).n_sites} fine sites, more than {max_fine_sites}: take a "
                "coarser target"
            )
        shape[longest] = max(4, shape[longest] // 2)
    return patch()


@dataclass(frozen=True)
class Ensemble:
    """Configurations of a fine model at couplings theta.

    Attributes
    ----------
    model : FineModel
    theta : ndarray (n_theta,)
    fine, torus : Lattice
        The fine lattice, and the coarse one.
    operators : ndarray (N, n_theta)
        Sums over the fine lattice per configuration: bonds per displacement, then spins.
    modes : dict of {"fine", "coarse"} to ndarray (N, 1 + n_axes)
        Sum of spins M, and ``|sum_x exp(2 pi i n x/L) s|^2`` along each axis, n from ``mode_number``; empty unless
        asked for.
    fields : list of Field
        What the array records of each configuration.
    cells : ndarray (N, n_theta, *torus.shape) or None
        The operators by cells of the coarse lattice.
    spacing : int
        Updates between configurations.
    """

    model: FineModel
    theta: np.ndarray
    fine: Lattice
    torus: Lattice
    operators: np.ndarray
    modes: dict
    fields: list = field(repr=False)
    cells: np.ndarray | None = field(default=None, repr=False)
    spacing: int = 1


def simulate(model, theta, n, n_time=None, *, seed=0, thermalize=300, spacing=5, keep_fields=True, keep_modes=True,
             keep_cells=False):
    """Configurations of the fine lattice by heat bath, and what the array records of them.

    Parameters
    ----------
    model : FineModel
    theta : sequence of float
        Couplings in the order of ``model.names``.
    n : int
        Configurations, >= 2.
    n_time : int, optional
        Recorded bins of one configuration.
    seed : int
        The same seed and couplings give the same configurations.
    thermalize, spacing : int
        Updates before the first configuration and between two.
    keep_fields, keep_modes, keep_cells : bool
        What to compute beside the operators.

    Returns
    -------
    Ensemble

    Notes
    -----
    About 0.2 ns per fine site and update (1 ns below 10^5 sites); per fine site and configuration 1 ns to look at it,
    1 ns for the modes and 2 ns for the cells.
    """
    observation = model.observation
    fine, key, action = observation.fine_lattice(n_time), Key(seed), model.action(theta)
    if n < 2:
        raise InputError(f"n = {n}: valid is at least 2 configurations")
    running = _running(fine)
    phi = action.new_field(running)
    _begin(phi, float(theta[-1]), key)
    chain = Chain(action, HeatBath(), State(phi, 0), key, Schedule(0, 1), [])
    chain.advance(thermalize)
    wanted = [action.displacements(running).index(d) for d in model.displacements]
    operators, waiting = np.empty((n, len(theta))), []
    seen = _Seen(model, n_time, keep_fields, keep_modes, keep_cells)
    batch = max(BATCH_SITES // fine.n_sites, 1) if fine.time_axis is not None else 1
    for i in range(n):
        chain.advance(spacing, is_untouched=True)
        operators[i, :-1] = action.bond_sums(phi)[wanted]
        operators[i, -1] = action.site_sum(phi)
        if not (keep_fields or keep_modes or keep_cells):
            continue
        waiting.append(running.from_storage(phi.values).copy())
        if len(waiting) == batch or i == n - 1:
            seen.add(waiting)
            waiting = []
    chain.close()
    modes = {name: np.concatenate(rows) for name, rows in seen.modes.items() if rows}
    cells = np.concatenate(seen.cells) if seen.cells else None
    return Ensemble(model, np.array(theta, float), fine, seen.torus, operators, modes, seen.fields, cells, spacing)


class _Seen:
    """What the array shows of configurations (user's axis order), many at a time, one after the other along time."""

    def __init__(self, model, n_time, keep_fields, keep_modes, keep_cells):
        self.model, self.n_time = model, n_time
        self.keep_fields, self.keep_modes, self.keep_cells = keep_fields, keep_modes, keep_cells
        self.torus, self.fine = _torus(model.observation, n_time), _fine(model.observation, n_time)
        self.fields, self.cells, self.modes = [], [], {"fine": [], "coarse": []}

    def add(self, arrays):
        """Fine configurations; blocks never reach from one into the next."""
        observation, stack = self.model.observation, np.stack(arrays)
        if self.keep_cells:
            periodic = [ends == "periodic" for ends in self.fine.boundary]
            self.cells.append(cell_operators(stack, self.model.displacements, observation.factor, periodic))
        if not (self.keep_fields or self.keep_modes):
            return
        parts = self._fold(stack)
        if self.keep_modes:
            self.modes["fine"].append(_modes(stack))
            self.modes["coarse"].append(_modes(parts))
        if self.keep_fields:
            self.fields += [observation.window_of(self.torus.to_storage(part), self.n_time) for part in parts]

    def _fold(self, stack):
        """Coarse configurations of fine ones: sites are sampled before time is blocked."""
        observation, m, t = self.model.observation, len(stack), self.torus.time_axis
        n_time = self.n_time if m == 1 or t is None else m * self.n_time
        if observation.space == "decimation":
            sampled, observation = _sampled(observation)
            sites = [slice(None) if i == t else slice(o, None, b)
                     for i, (o, b) in enumerate(zip(sampled.offset, sampled.factor, strict=True))]  # fmt: skip
            stack = stack[(slice(None), *sites)]
        if max(observation.factor) == 1:
            return stack
        lattice = _fine(observation, n_time)
        phi = Field(lattice, "spin")
        line = stack[0] if m == 1 else np.concatenate(list(stack), axis=t)
        phi.values[...] = lattice.to_storage(line)
        coarse = observation.fold(phi)
        folded = coarse.geometry.from_storage(coarse.values)
        return folded[np.newaxis] if m == 1 else np.stack(np.split(folded, m, axis=t))


@lru_cache(maxsize=64)
def _sampled(observation):
    """(the observation, what remains to be done in time once its sites are sampled)."""
    t = observation.recorded.time_axis
    factor = tuple(b if i == t else 1 for i, b in enumerate(observation.factor))
    offset = tuple(o if i == t else 0 for i, o in enumerate(observation.offset))
    return observation, dataclasses.replace(observation, factor=factor, offset=offset)


def _begin(phi, h, key):
    """Independent spins; all down or up where the field is strong, since a sparse theory may have a dense phase too."""
    if abs(h) > 0.3:
        phi.values[...] = 1 if h > 0 else -1
    else:
        u = key.fill("uniform", 0, 1, phi.values.size, 0, Stream.START)[0]
        phi.values[...] = np.where(u < 0.5, 1, -1).reshape(phi.values.shape)
    phi.exchange()


def _running(fine):
    """The same lattice with time stored last where that is the longest axis: long rows are several times faster."""
    t = fine.time_axis
    if t is None or len(fine.shape) == 1 or t != len(fine.shape) - 1 or fine.n_time < max(fine.shape):
        return fine
    return Lattice(fine.shape, (*fine.axes[:-1], "steps"), fine.boundary)


def _modes(stack):
    """Sum of the field and a mode along every axis, for configurations in the user's axis order."""
    out = [stack.reshape(len(stack), -1).sum(axis=1, dtype=np.int64).astype(float)]
    for axis in range(1, stack.ndim):
        planes = stack.sum(axis=tuple(k for k in range(1, stack.ndim) if k != axis), dtype=np.int32)
        L = planes.shape[1]
        out.append(abs(planes @ np.exp(2j * np.pi * mode_number(L) * np.arange(L) / L)) ** 2)
    return np.column_stack(out)
