"""Where the units of a recording stand on a lattice: pitch, the site of each unit, the mask."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.geometry import Lattice

AXES = ("x", "y", "z")
PITCH_TOLERANCE = 0.01
"""Largest distance of a unit from its site, in units of the pitch, for positions to be called a lattice."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Units on lattice sites.

    Attributes
    ----------
    sites : ndarray of int64, shape (N, d)
        Site of each unit along x, y, z, counted from 0 at the smallest coordinate.
    pitch_um : tuple of float, length d
        Distance of neighboring sites along each axis.
    largest_displacement_um : float
        Largest distance of a unit from its site.
    """

    sites: np.ndarray
    pitch_um: tuple[float, ...]
    largest_displacement_um: float

    @property
    def shape(self):
        """Sites along each axis."""
        return tuple(int(n) + 1 for n in self.sites.max(axis=0))

    @property
    def mask(self):
        """True where a unit stands, shape :attr:`shape`; the other sites are inactive, not silent."""
        mask = np.zeros(self.shape, bool)
        mask[tuple(self.sites.T)] = True
        return mask

    def lattice(self, n_bins, bin_s):
        """The space-time :class:`lft.geometry.Lattice`: axes x, y, (z,) t, open, inactive sites masked."""
        check_memory((n_bins, *self.shape), "lattice")
        d = len(self.pitch_um)
        spacing = [*(f"{p:.12g} um" for p in self.pitch_um), duration_text(bin_s)]
        return Lattice((*self.shape, n_bins), (*AXES[:d], "t"), "open", spacing, self.mask)


def duration_text(seconds):
    """A duration as the geometry writes it: ``20 ms`` below one second, ``1.5 s`` from there on."""
    return f"{seconds:.12g} s" if seconds >= 1 else f"{seconds * 1000:.12g} ms"


def check_memory(shape, source):
    """Raise InputError if an int8 array does not fit into the memory of this machine.

    The system grants more memory than there is and kills the program later: the size is compared beforehand.
    """
    size = math.prod(shape)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > there:
        raise InputError(
            f"{source}: {' x '.join(map(str, shape))} sites need {size / 1e9:.3g} GB, this machine has "
            f"{there / 1e9:.3g} GB of memory: use longer bins, a larger pitch or a shorter stretch"
        )


def check_positions(positions_um, n_units=None, source="positions"):
    """Positions as a float array (N, d), d = 1, 2 or 3; raises InputError otherwise."""
    positions = np.asarray(positions_um)
    if positions.dtype.kind not in "iuf":
        raise InputError(
            f"{source}: positions have the type {positions.dtype}; valid are real numbers, in um"
        )
    if positions.ndim != 2 or not 1 <= positions.shape[1] <= 3:
        raise InputError(f"{source}: positions have shape {positions.shape}; valid is (units, 1, 2 or 3)")
    if n_units is not None and len(positions) != n_units:
        raise InputError(f"{source}: positions has {len(positions)} rows, the recording {n_units} units")
    positions = np.array(positions, dtype=np.float64)
    if not np.isfinite(positions).all():
        unit = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        raise InputError(
            f"{source}: positions[{unit}] = {positions[unit].tolist()}: every coordinate must be finite"
        )
    return positions


def find_pitch(positions_um, unit=None):
    """Pitch of the lattice on which the units stand, one number per axis.

    The pitch of an axis is a distance ``p`` of two neighboring distinct coordinates such that every
    coordinate is ``min + k p`` with an integer ``k``, within 1 % of ``p``; rounding of the coordinates is
    averaged out.  An axis on which all units share one coordinate takes the pitch of the first axis that has
    one.

    Parameters
    ----------
    positions_um : array_like, shape (N, d)
        Coordinates, d = 1, 2 or 3.
    unit : sequence of int, optional
        What messages call the units.  Default 0, 1, ..., N-1.

    Returns
    -------
    tuple of float, length d

    Raises
    ------
    InputError
        Names the unit that does not stand on the lattice of the others.

    Notes
    -----
    Columns that hold no unit at all are no obstacle as long as two neighboring columns hold one somewhere;
    from the coordinates 0, 2, 5 alone no pitch is guessed.  Cost: distinct distances times distinct
    coordinates.

    Examples
    --------
    >>> from lft.inference.sites import find_pitch
    >>> find_pitch([[0, 0], [42, 0], [168, 100], [42, 300]])
    (42.0, 100.0)
    """
    positions = check_positions(positions_um)
    units = np.arange(len(positions)) if unit is None else np.asarray(unit)
    pitches = [_axis_pitch(positions[:, k], AXES[k], units) for k in range(positions.shape[1])]
    known = next((p for p in pitches if p is not None), None)
    if known is None:
        raise InputError(
            "positions: all units share one position, which has no pitch: give it (--pitch, in um)"
        )
    return tuple(known if p is None else p for p in pitches)


def _axis_pitch(coordinates, axis, units):
    distinct = np.unique(coordinates)
    distances = np.unique(np.diff(distinct))
    if not len(distances):
        return None
    offsets = distinct - distinct[0]
    # The largest distance that works: coordinates that differ by rounding alone also have a distance.
    for candidate in distances[::-1]:
        steps = np.concatenate([[0], np.cumsum(np.rint(np.diff(distinct) / candidate))])
        if not steps[-1]:
            continue
        pitch = float(offsets @ steps / (steps @ steps))
        if np.abs(offsets - steps * pitch).max() <= PITCH_TOLERANCE * pitch:
            return pitch
    smallest = float(distances[0])
    k = (coordinates - distinct[0]) / smallest
    worst = int(np.argmax(np.abs(k - np.rint(k))))
    raise InputError(
        f"positions: unit {units[worst]} at {axis} = {coordinates[worst]:.6g} um does not stand on a "
        f"lattice of pitch {smallest:.4g} um, the smallest distance along {axis}: give the pitch "
        "(--pitch, in um)"
    )


def place(positions_um, pitch_um=None, unit=None):
    """Put every unit on the nearest site of a lattice that starts at the smallest coordinate of each axis.

    Parameters
    ----------
    positions_um : array_like, shape (N, d)
    pitch_um : float or sequence of float, optional
        Distance of neighboring sites, for all axes or one per axis, > 0.  Default: :func:`find_pitch`.
    unit : sequence of int, optional
        What messages call the units.

    Returns
    -------
    Placement

    Raises
    ------
    InputError
        No pitch fits (see :func:`find_pitch`), or two units fall on one site: the message names both.

    Examples
    --------
    >>> from lft.inference.sites import place
    >>> placement = place([[0, 0], [41, 1], [84, 42]], pitch_um=42)
    >>> placement.sites.tolist(), placement.shape
    ([[0, 0], [1, 0], [2, 1]], (3, 2))
    """
    positions = check_positions(positions_um)
    units = np.arange(len(positions)) if unit is None else np.asarray(unit)
    n_axes = positions.shape[1]
    pitch = find_pitch(positions, units) if pitch_um is None else _check_pitch(pitch_um, n_axes)
    offsets = positions - positions.min(axis=0)
    sites = np.rint(offsets / pitch)
    if sites.max() >= 2**31:
        raise InputError(
            f"pitch {list(pitch)} um: the units would span {sites.max():.3g} sites; give a larger pitch"
        )
    sites = sites.astype(np.int64)
    _check_collisions(sites, units, pitch)
    displacement = np.sqrt(((offsets - sites * pitch) ** 2).sum(axis=1))
    return Placement(sites, tuple(float(p) for p in pitch), float(displacement.max()))


def _check_pitch(pitch_um, n_axes):
    try:
        pitch = np.array(pitch_um, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise InputError(f"pitch = {pitch_um!r}: valid is a positive length in um") from None
    if len(pitch) not in (1, n_axes):
        raise InputError(
            f"pitch has {len(pitch)} values, the positions {n_axes} axes: give one, or one per axis"
        )
    if not (np.isfinite(pitch) & (pitch > 0)).all():
        raise InputError(f"pitch = {pitch_um!r}: valid is a positive length in um")
    return np.broadcast_to(pitch, n_axes)


def _check_collisions(sites, units, pitch):
    order = np.lexsort(sites.T[::-1])
    same = (np.diff(sites[order], axis=0) == 0).all(axis=1)
    if same.any():
        k = int(np.flatnonzero(same)[0])
        first, second = sorted((int(units[order[k]]), int(units[order[k + 1]])))
        site = tuple(int(n) for n in sites[order[k]])
        raise InputError(
            f"positions: units {first} and {second} both fall on the site {site} at a pitch of "
            f"{' x '.join(f'{p:.4g}' for p in pitch)} um: give a smaller pitch, or leave one of them out"
        )
