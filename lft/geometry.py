"""Space-time lattices and graphs: what exists, who is a neighbor of whom, which sites may be updated together.

A geometry knows nothing of ranks and of fields.  Arrays are *stored* time first, ``(time, *space)`` or
``(time, unit)``; users name axes in any order (``x, y, t``).  A site has a global index (row-major in storage
order), coordinates, and, on a rank, a local index (``lft.domain``).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.units import Quantity, parse_quantity

BOUNDARIES = ("periodic", "open")
TIME = "t"


def _check_extents(shape, what):
    if not len(shape):
        raise InputError(f"{what} = []: valid is a list of at least one positive integer")
    for n in shape:
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise InputError(f"{what} = {list(shape)}: every extent must be a positive integer, got {n!r}")
    if math.prod(int(n) for n in shape) >= 2**62:
        raise InputError(f"{what} = {list(shape)}: the number of sites must stay below 2^62")


@dataclass(frozen=True)
class Coloring:
    """Classes of sites that do not interact, from global coordinates alone.

    The color of a site at storage coordinates ``x`` is ``(a . x) mod m``; on a periodic axis whose extent breaks
    this pattern the last ``seam`` planes form classes of their own.  Two sites of one class never interact, so a
    class may be updated in any order, and on any number of ranks, with the same result.  ``sequential`` says that
    the last axis is walked site by site instead (units of a graph interact with each other at equal time).
    """

    coefficients: tuple[int, ...]
    modulus: int
    seam: tuple[int, ...]
    sequential: bool = False

    def classes(self):
        """All (color, seam flags) pairs in the order of update; a flag is True inside the seam of that axis."""
        flags = itertools.product(*[(False, True) if w else (False,) for w in self.seam])
        return [(c, f) for f in flags for c in range(self.modulus)]


def color_lattice(displacements, shape, periodic):
    """A :class:`Coloring` of a hypercubic lattice for the given displacements (storage order).

    The smallest modulus ``m`` with coefficients ``a`` such that ``a . d`` is no multiple of ``m`` for any
    displacement ``d``; among those, the one with the fewest seams.  Nearest neighbors need 2 colors, all 26
    neighbors in three dimensions 8.
    """
    n_axes = len(shape)
    reach = [max((abs(d[axis]) for d in displacements), default=0) for axis in range(n_axes)]
    if not displacements:
        return Coloring((0,) * n_axes, 1, (0,) * n_axes)
    vectors = np.array(displacements)
    for m in range(2, 2 + 3 ** min(len(displacements) + 1, 12)):
        best = None
        choices = [range(1, m) if reach[axis] else (0,) for axis in range(n_axes - 1)]
        for head in itertools.product(*choices):
            a = (*head, 1 if reach[-1] else 0)
            if np.any(vectors @ np.array(a) % m == 0):
                continue
            seam = tuple(
                reach[axis] if periodic[axis] and a[axis] * shape[axis] % m else 0 for axis in range(n_axes)
            )
            cost = sum(1 for w in seam if w)
            if best is None or cost < best[0]:
                best = (cost, a, seam)
            if cost == 0:
                break
        if best is not None:
            return Coloring(best[1], m, best[2])
    raise InputError(f"no coloring found for the displacements {displacements}")


@dataclass(frozen=True, eq=False)
class Lattice:
    """A hypercubic space-time lattice of any dimension.

    Parameters
    ----------
    shape : sequence of int
        Sites per axis, each >= 1, in the user's axis order.
    axes : sequence of str, optional
        Names of the axes; ``"t"`` marks time.  Default ``x, y, z, w, ...`` (no time axis).
    boundary : str or sequence of str, optional
        ``"periodic"`` or ``"open"``, for all axes or one per axis.  Default periodic.
    spacing : sequence of str or None, optional
        Physical distance of neighbors per axis, such as ``"42 um"`` or ``"20 ms"``.
    mask : ndarray of bool, optional
        True where a site exists, over the spatial axes (user's order, time left out).  An inactive site carries no
        field: it is absent, not zero, and takes part in no bond and no average.

    Notes
    -----
    A bond joins two different sites: a periodic axis of extent 1 has none, and on an extent of 2 the pair is joined
    twice, as on any torus.

    Examples
    --------
    >>> from lft.geometry import Lattice
    >>> lattice = Lattice((64, 32, 100), ("x", "y", "t"), ("open", "open", "periodic"), ("42 um", "42 um", "20 ms"))
    >>> lattice.storage_shape
    (100, 64, 32)
    >>> lattice.n_sites
    204800
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...] | None = None
    boundary: tuple[str, ...] | str = "periodic"
    spacing: tuple[str, ...] | None = None
    mask: np.ndarray | None = None

    def __post_init__(self):
        shape = self.shape if isinstance(self.shape, list | tuple | np.ndarray) else (self.shape,)
        _check_extents(shape, "shape")
        shape = tuple(int(n) for n in shape)
        axes = tuple(self.axes) if self.axes is not None else _default_axes(len(shape))
        if len(axes) != len(shape):
            raise InputError(f"axes = {list(axes)}: {len(axes)} names for a shape of {len(shape)} axes")
        if len(set(axes)) != len(axes) or not all(isinstance(a, str) and a.isidentifier() for a in axes):
            raise InputError(f"axes = {list(axes)}: valid are different names, letters and digits only")
        boundary = (self.boundary,) * len(shape) if isinstance(self.boundary, str) else tuple(self.boundary)
        if len(boundary) != len(shape):
            raise InputError(
                f"boundary has {len(boundary)} values but the lattice has {len(shape)} axes ({', '.join(axes)}): "
                "give one for all axes, or one per axis"
            )
        for b in boundary:
            if b not in BOUNDARIES:
                raise InputError(f"boundary {b!r}: valid are {', '.join(BOUNDARIES)}")
        spacing = self._checked_spacing(len(shape), axes)
        for name, value in (("shape", shape), ("axes", axes), ("boundary", boundary), ("spacing", spacing)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "mask", self._checked_mask())

    def _checked_spacing(self, n_axes, axes):
        if self.spacing is None:
            return None
        spacing = tuple(self.spacing)
        if len(spacing) != n_axes:
            raise InputError(f"spacing has {len(spacing)} values but the lattice has {n_axes} axes")
        for axis, text in zip(axes, spacing, strict=True):
            parse_quantity(text, dimension="time" if axis == TIME else "length", name=f"spacing of axis {axis}")
        return spacing

    def _checked_mask(self):
        if self.mask is None:
            return None
        mask = np.array(self.mask, dtype=bool)
        if mask.shape != self.space_shape:
            raise InputError(f"mask has shape {mask.shape}, the spatial axes have {self.space_shape}")
        if not mask.any():
            raise InputError("mask: every site is inactive; at least one must exist")
        if mask.all():
            return None
        mask.setflags(write=False)
        return mask

    # ---- identity: value semantics, although an array is inside
    def _identity(self):
        return (self.shape, self.axes, self.boundary, self.spacing, None if self.mask is None else self.mask.tobytes())

    def __eq__(self, other):
        return isinstance(other, Lattice) and self._identity() == other._identity()

    def __hash__(self):
        return hash(self._identity())

    # ---- axes
    @property
    def time_axis(self):
        """Index of the time axis in the user's order, or None."""
        return self.axes.index(TIME) if TIME in self.axes else None

    @property
    def storage_order(self):
        """User's axis indices in storage order: time first, then space."""
        t = self.time_axis
        space = [i for i in range(len(self.shape)) if i != t]
        return tuple(space if t is None else [t, *space])

    @property
    def storage_shape(self):
        """Extents in storage order.  One axis alone is stored with a second of extent 1, so that it can be cut."""
        shape = tuple(self.shape[i] for i in self.storage_order)
        return (*shape, 1) if len(shape) == 1 else shape

    @property
    def storage_periodic(self):
        """Which storage axes close on themselves.  A periodic axis of extent 1 has no bonds and counts as open."""
        flags = tuple(self.boundary[i] == "periodic" and self.shape[i] > 1 for i in self.storage_order)
        return (*flags, False) if len(flags) == 1 else flags

    @property
    def space_shape(self):
        """Extents of the spatial axes (all but time), user's order; ``()`` for time alone."""
        return tuple(n for i, n in enumerate(self.shape) if i != self.time_axis)

    @property
    def space_axes(self):
        """Names of the spatial axes, user's order."""
        return tuple(a for a in self.axes if a != TIME)

    @property
    def n_time(self):
        """Number of time bins, 1 without a time axis."""
        return 1 if self.time_axis is None else self.shape[self.time_axis]

    @property
    def n_active(self):
        """Number of sites that exist."""
        return self.n_sites if self.mask is None else int(self.mask.sum()) * self.n_time

    @property
    def n_sites(self):
        """Number of sites, inactive ones included."""
        return math.prod(self.shape)

    def to_storage(self, array):
        """View of an array in the user's axis order as stored (time first)."""
        return np.transpose(array, self.storage_order).reshape(self.storage_shape)

    def from_storage(self, array):
        """View of a stored array in the user's axis order."""
        shape = tuple(self.shape[i] for i in self.storage_order)
        return np.transpose(np.asarray(array).reshape(shape), np.argsort(self.storage_order))

    def storage_mask(self):
        """Active sites in storage order, with time of extent 1 in front if there is a time axis; None if all are."""
        if self.mask is None:
            return None
        if self.time_axis is not None:
            return self.mask[np.newaxis]
        return self.mask.reshape(self.storage_shape)

    def storage_displacement(self, displacement):
        """A displacement (user's order) in storage order."""
        vector = tuple(int(displacement[i]) for i in self.storage_order)
        return (*vector, 0) if len(vector) == 1 else vector

    def quantity(self, axis):
        """Spacing of the named axis as a :class:`lft.units.Quantity`, or None."""
        if self.spacing is None:
            return None
        return parse_quantity(self.spacing[self.axes.index(axis)])

    # ---- neighbors
    def unit_displacements(self):
        """One displacement per axis, user's order: the nearest-neighbor bonds."""
        return [tuple(int(i == k) for i in range(len(self.shape))) for k in range(len(self.shape))]

    def check_displacement(self, displacement):
        """Raise InputError unless the displacement is a nonzero vector that fits the lattice."""
        d = tuple(displacement)
        if len(d) != len(self.shape) or not any(d):
            raise InputError(f"displacement {d}: valid is a nonzero vector of {len(self.shape)} integers")
        for axis, step in enumerate(d):
            n, periodic = self.shape[axis], self.boundary[axis] == "periodic"
            if periodic and n > 1 and 2 * abs(step) > n:
                raise InputError(
                    f"displacement {d}: axis {self.axes[axis]} is periodic with {n} sites, "
                    f"a step of {step} needs at least {2 * abs(step)}"
                )

    def joins(self, displacement):
        """Whether any bond has this displacement (extent 1, or an open axis that is too short, has none)."""
        return all(abs(step) < self.shape[axis] for axis, step in enumerate(displacement))

    def count_bonds(self, displacement):
        """Number of pairs (site, site + displacement) that both exist; on a torus each site starts one."""
        if not self.joins(displacement):
            return 0
        mask = np.ones(self.space_shape, bool) if self.mask is None else self.mask
        both = mask
        for position, axis in enumerate(i for i in range(len(self.shape)) if i != self.time_axis):
            both = _shifted(both, displacement[axis], position, self.boundary[axis] == "periodic")
        pairs = int((mask & both).sum())
        if self.time_axis is None:
            return pairs
        t = self.time_axis
        n_times = self.n_time - (abs(displacement[t]) if self.boundary[t] == "open" else 0)
        return pairs * max(n_times, 0)

    def coloring(self, displacements):
        """A :class:`Coloring` for couplings at these displacements (user's order)."""
        vectors = [self.storage_displacement(d) for d in displacements if self.joins(d)]
        return color_lattice(vectors, self.storage_shape, self.storage_periodic)

    def halo(self, displacements):
        """Widest step along each storage axis."""
        vectors = [self.storage_displacement(d) for d in displacements if self.joins(d)]
        return tuple(max((abs(v[k]) for v in vectors), default=0) for k in range(len(self.storage_shape)))


@dataclass(frozen=True)
class Graph:
    """Units with arbitrary couplings at equal time, repeated over time bins.

    Who is coupled to whom is a matter of the action (its matrix ``A``, dense or sparse); the geometry fixes the
    number of units and bins and the ends of time.  A graph stays whole on each rank, time is cut.

    Parameters
    ----------
    n_units, n_bins : int
        Number of units and time bins, each >= 1.
    boundary : str, optional
        ``"open"`` (default) or ``"periodic"`` in time.
    bin_width : str, optional
        Duration of a bin, such as ``"5 ms"``.

    Examples
    --------
    >>> from lft.geometry import Graph
    >>> Graph(40, 1000, bin_width="5 ms").storage_shape
    (1000, 40)
    """

    n_units: int
    n_bins: int
    boundary: str = "open"
    bin_width: str | None = None

    def __post_init__(self):
        _check_extents((self.n_units,), "n_units")
        _check_extents((self.n_bins,), "n_bins")
        if self.boundary not in BOUNDARIES:
            raise InputError(f"boundary {self.boundary!r}: valid are {', '.join(BOUNDARIES)}")
        if self.bin_width is not None:
            parse_quantity(self.bin_width, dimension="time", name="bin_width")

    axes = (TIME, "unit")
    mask = None

    @property
    def shape(self):
        return (self.n_bins, self.n_units)

    storage_shape = shape

    @property
    def storage_periodic(self):
        return (self.boundary == "periodic" and self.n_bins > 1, False)

    @property
    def n_sites(self):
        return self.n_bins * self.n_units

    n_active = n_sites

    def to_storage(self, array):
        """The array itself: a graph is kept as it is stored."""
        return np.asarray(array)

    from_storage = to_storage

    def storage_mask(self):
        """None: every unit exists at every time."""
        return None

    def joins(self, displacement):
        """Whether any pair of bins has this lag."""
        return abs(displacement[0]) < self.n_bins

    def storage_displacement(self, displacement):
        """A step (lag, 0) as it is stored."""
        return tuple(displacement)

    def quantity(self, axis):
        """Bin width as a quantity for the time axis, else None."""
        return parse_quantity(self.bin_width) if axis == TIME and self.bin_width else None

    def coloring(self, displacements):
        """Time slices of one color do not interact; the units of a slice are walked in order."""
        lags = sorted({abs(d[0]) for d in displacements if self.joins(d)})
        if not lags:
            return Coloring((0, 0), 1, (0, 0), sequential=True)
        m = next(m for m in range(2, lags[-1] + 2) if all(k % m for k in lags))
        seam = lags[-1] if self.storage_periodic[0] and self.n_bins % m else 0
        return Coloring((1, 0), m, (seam, 0), sequential=True)

    def halo(self, displacements):
        """Longest lag, and 0 for the units."""
        return (max((abs(d[0]) for d in displacements if self.joins(d)), default=0), 0)


UTAH_SIDE, UTAH_PITCH = 10, "400 um"


def utah_array(n_time, bin_width=None, boundary="open", pitch=UTAH_PITCH):
    """The Utah-96 multielectrode array: 10 x 10 shanks without the corners, 400 um apart.

    Parameters
    ----------
    n_time : int
        Time bins.
    bin_width : str, optional
        Such as ``"20 ms"``.  Without it the lattice has no spacing at all: a spacing is per axis.
    boundary : str or sequence of str, optional
        As for :class:`Lattice`, axes x, y, t; default open.
    pitch : str, optional
        Distance of electrodes.

    Returns
    -------
    Lattice
        96 active sites per bin.  A finer lattice behind it: :class:`lft.rg.inverse.ensemble.Observation`.

    Examples
    --------
    >>> array = utah_array(1000, "20 ms")
    >>> array.shape, array.n_active // array.n_time, array.spacing
    ((10, 10, 1000), 96, ('400 um', '400 um', '20 ms'))
    """
    mask = np.ones((UTAH_SIDE, UTAH_SIDE), bool)
    mask[[0, 0, -1, -1], [0, -1, 0, -1]] = False
    spacing = None if bin_width is None else (pitch, pitch, bin_width)
    return Lattice((UTAH_SIDE, UTAH_SIDE, n_time), ("x", "y", TIME), boundary, spacing, mask)


def _default_axes(n_axes):
    names = "xyzw"
    return tuple(names[i] if i < len(names) else f"x{i}" for i in range(n_axes))


def _shifted(mask, step, axis, periodic):
    """mask[x + step] along one axis, False beyond an open end."""
    if periodic:
        return np.roll(mask, -step, axis)
    out = np.zeros_like(mask)
    n = mask.shape[axis]
    source, target = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
    source[axis] = slice(max(step, 0), n + min(step, 0))
    target[axis] = slice(max(-step, 0), n + min(-step, 0))
    out[tuple(target)] = mask[tuple(source)]
    return out


__all__ = ["BOUNDARIES", "TIME", "Coloring", "Graph", "Lattice", "Quantity", "color_lattice", "utah_array"]
