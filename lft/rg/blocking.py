"""Block-spin transformations: a field on a lattice, in blocks of sites, becomes a field on a coarser lattice.

A block holds ``b_1 x b_2 x ...`` neighboring sites, in space, in time or in both.  ``BLOCKINGS`` names the
rules that make one value of a block's values; only its *active* sites count.  With ``n`` active sites of a
block, ``u`` of which are up (spin +1, or a spike) and values ``phi_1 .. phi_n``:

==============  ================================================================  =====================
rule            coarse value                                                      kinds
==============  ================================================================  =====================
``majority``    up if ``2u > n``, down if ``2u < n``, a fair coin if ``2u = n``   spin, gas
``decimation``  the value of one fixed site of the block                          spin, gas, real
``average``     ``rescale (phi_1 + ... + phi_n) / n``, a real field               spin, gas, real
``or``          up if ``u >= 1``                                                  spin, gas
``k-of-n``      up if ``u >= k``                                                  spin, gas
==============  ================================================================  =====================

A coarse site is active if its block holds at least ``min_active`` active spatial sites (decimation: if the
kept site is active).  Blocks that do not fill up at the far end of an open axis are left out;
:func:`plan_blocks` says which.  Boundaries stay, spacings grow by the factor.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from lft.domain import Domain
from lft.errors import InputError
from lft.field import Field
from lft.geometry import TIME, Graph, Lattice
from lft.rng import Key, Stream

CHUNK_SITES = 1 << 22
"""Fine sites worked on at once: bounds the memory beside input and output to some tens of MB."""


@dataclass(frozen=True, eq=False)
class BlockPlan:
    """Which blocks a field falls into, and what is left over.

    Attributes
    ----------
    fine, coarse : Lattice or Graph
        The geometries before and after.
    factor : tuple of int
        Sites per block along each axis, user's order.
    dropped : dict of str to int
        Planes at the far end of each axis that belong to no block.
    dropped_fraction : float
        Fraction of the active sites that belong to no active block.
    n_active : ndarray of int, coarse storage shape (read-only, broadcast)
        Active fine sites that count in each block; 0 where the coarse site is inactive.
    """

    fine: Lattice | Graph
    coarse: Lattice | Graph
    factor: tuple[int, ...]
    dropped: dict[str, int]
    dropped_fraction: float
    n_active: np.ndarray = dataclasses.field(repr=False)

    @property
    def storage_factor(self):
        """Sites per block along each storage axis."""
        return _to_storage(self.fine, self.factor, 1)


@dataclass(frozen=True)
class Blocks:
    """A run of coarse time planes: what a rule may look at.

    ``values`` are the fine values (storage order, whole blocks only), ``factor`` and ``offset`` one number
    per storage axis, ``n_active`` the active sites per block, ``coin(ties)`` True or False for each tie.
    """

    values: np.ndarray
    kind: str
    factor: tuple[int, ...]
    n_active: np.ndarray
    k: int
    offset: tuple[int, ...]
    rescale: float
    coin: object

    def total(self):
        """Sum of the values of each block; inactive sites are 0."""
        return block_sum(self.values, self.factor)

    def keep(self):
        """The value of one site of each block, at ``offset``."""
        return self.values[tuple(slice(o, None, b) for o, b in zip(self.offset, self.factor, strict=True))]

    def up(self):
        """Number of active sites of each block that are up: ``sum s = 2u - n`` for spins."""
        total = self.total()
        return total if self.kind == "gas" else (total + self.n_active) // 2

    def binary(self, is_up):
        """Up and down as this kind of field writes them, 0 where no site exists."""
        up = is_up.astype(np.int8)
        if self.kind == "spin":
            up *= 2
            up -= 1
        up *= self.n_active > 0
        return up


def majority(blocks):
    """Up if more than half of the active sites are up; a tie is decided by a fair coin.

    The coin is a pure function of (seed, level, coarse site), whatever the rest of the field is.
    """
    excess = 2 * blocks.up() - blocks.n_active
    is_up = excess > 0
    ties = (excess == 0) & (blocks.n_active > 0)
    if ties.any():
        is_up[ties] = blocks.coin(ties)
    return blocks.binary(is_up)


def decimation(blocks):
    """The value of one site of the block, the first one or the one at ``offset``.

    A marginal of the fine field: correlators of the kept sites do not change,
    ``<phi'_i phi'_j> = <phi_bi phi_bj>``.
    """
    return blocks.keep()


def average(blocks):
    """``rescale`` times the mean over the active sites; a real field."""
    mean = blocks.total() * float(blocks.rescale)
    mean /= np.maximum(blocks.n_active, 1)
    mean *= blocks.n_active > 0
    return mean


def any_up(blocks):
    """Up if any active site is up; ``p' = 1 - (1-p)^n`` for independent sites."""
    return blocks.binary(blocks.up() >= 1)


def k_of_n(blocks):
    """Up if at least ``k`` active sites are up; a block with fewer than ``k`` active sites is always down."""
    return blocks.binary(blocks.up() >= blocks.k)


BLOCKINGS = {
    "majority": majority,
    "decimation": decimation,
    "average": average,
    "or": any_up,
    "k-of-n": k_of_n,
}
KINDS = {
    "majority": ("spin", "gas"),
    "decimation": ("spin", "gas", "real"),
    "average": ("spin", "gas", "real"),
    "or": ("spin", "gas"),
    "k-of-n": ("spin", "gas"),
}


def block_sum(values, factor):
    """Sum over blocks of an array whose extents are multiples of the factors, one per axis.

    int8 becomes the narrowest of int8, int16 and int32 that holds the sum, float64 stays.  Axis by axis,
    first to last, so that the long sums run over contiguous memory.
    """
    n = 1
    for axis, b in enumerate(factor):
        n *= b
        if b == 1:
            continue
        lead = (slice(None),) * axis
        dtype = values.dtype if values.dtype.kind == "f" else _holder(n)
        total = np.add(values[(*lead, slice(0, None, b))], values[(*lead, slice(1, None, b))], dtype=dtype)
        for k in range(2, b):
            total += values[(*lead, slice(k, None, b))]
        values = total
    return values if values.dtype.kind == "f" else values.astype(_holder(2 * n), copy=False)


def _holder(n):
    """Smallest integer type for sums of n numbers in -1..1."""
    return np.int8 if n <= 127 else np.int16 if n <= 32767 else np.int32


def plan_blocks(geometry, factor, min_active=1, name="or", offset=0):
    """Blocks of a geometry and the coarse geometry; raises InputError if there are none.

    Parameters
    ----------
    geometry : Lattice or Graph
    factor : int or sequence of int
        Sites per block, for all axes or one per axis in the user's order, >= 1.  Units of a graph have no
        order, so their factor is 1; one number for a graph is that of time.
    min_active : int, optional
        Least number of active spatial sites of a block whose coarse site is active.
    name : str, optional
        The rule; only ``"decimation"`` differs: there the kept site decides.
    offset : int or sequence of int, optional
        Which site of a block decimation keeps, 0 <= offset < factor.

    Returns
    -------
    BlockPlan

    Examples
    --------
    >>> from lft.geometry import Lattice
    >>> from lft.rg.blocking import plan_blocks
    >>> fine = Lattice((64, 64, 901), ("x", "y", "t"), "open", ("42 um", "42 um", "20 ms"))
    >>> plan = plan_blocks(fine, (2, 2, 3))
    >>> plan.coarse.shape, plan.coarse.spacing, plan.dropped["t"]
    ((32, 32, 300), ('84 um', '84 um', '60 ms'), 1)
    """
    factor = _per_axis(geometry, factor, "factor", 1)
    offset = _per_axis(geometry, offset, "offset", 0)
    for axis, n, b, o in zip(geometry.axes, geometry.shape, factor, offset, strict=True):
        periodic = (
            isinstance(geometry, Lattice) and geometry.boundary[geometry.axes.index(axis)] == "periodic"
        )
        periodic |= isinstance(geometry, Graph) and axis == TIME and geometry.boundary == "periodic"
        if b > n:
            raise InputError(f"factor {b} of axis {axis}: the axis has {n} sites, so no block is complete")
        if periodic and n % b:
            raise InputError(
                f"factor {b} of axis {axis}: the axis is periodic with {n} sites, no multiple of {b}"
            )
        if name == "decimation" and o >= b:
            raise InputError(f"offset {o} of axis {axis}: valid are 0 to {b - 1}, sites of a block")
    keep = offset if name == "decimation" else None
    shape = tuple(n // b for n, b in zip(geometry.shape, factor, strict=True))
    dropped = {a: n - m * b for a, n, m, b in zip(geometry.axes, geometry.shape, shape, factor, strict=True)}
    n_active = _count_active(geometry, factor, min_active, keep)
    coarse = _coarse_geometry(geometry, shape, factor, n_active)
    n_active = np.broadcast_to(n_active, coarse.storage_shape)
    used = int(n_active.sum(dtype=np.int64)) if keep is None else _sites_in_blocks(geometry, factor, n_active)
    return BlockPlan(geometry, coarse, factor, dropped, 1.0 - used / geometry.n_active, n_active)


def _per_axis(geometry, value, what, least):
    """One integer per axis, user's order; a single one holds for all axes (of a graph: for time)."""
    if isinstance(value, int | np.integer):
        values = (value, least) if isinstance(geometry, Graph) else (value,) * len(geometry.shape)
    else:
        values = tuple(value) if isinstance(value, list | tuple | np.ndarray) else (None,)
    names = ", ".join(geometry.axes)
    if len(values) != len(geometry.shape):
        raise InputError(f"{what} = {value!r}: valid is one integer, or one per axis ({names})")
    for axis, v in zip(geometry.axes, values, strict=True):
        if isinstance(v, bool) or not isinstance(v, int | np.integer) or v < least:
            raise InputError(f"{what} = {value!r}: axis {axis} has {v!r}; valid are integers >= {least}")
        if isinstance(geometry, Graph) and axis != TIME and v != least:
            raise InputError(f"{what} {v} of axis {axis}: units of a graph have no order; valid is {least}")
    return tuple(int(v) for v in values)


def _to_storage(geometry, values, fill):
    """One number per axis in storage order, ``fill`` for the second axis of a stored line."""
    if isinstance(geometry, Graph):
        return values
    ordered = tuple(values[i] for i in geometry.storage_order)
    return (*ordered, fill) if len(ordered) == 1 else ordered


def _whole_blocks(array, factor):
    """View of the blocks that fill up (an axis of extent 1 that stands for all times is left as it is)."""
    return array[tuple(slice(0, n // b * b) for n, b in zip(array.shape, factor, strict=True))]


def _count_active(geometry, factor, min_active, keep):
    """Active sites that count in each block (0: coarse site inactive), storage order, broadcastable."""
    b = _to_storage(geometry, factor, 1)
    n_space = math.prod(b[1:] if geometry.axes.count(TIME) else b)
    if (
        isinstance(min_active, bool)
        or not isinstance(min_active, int | np.integer)
        or not 1 <= min_active <= n_space
    ):
        raise InputError(
            f"min_active = {min_active!r}: valid are 1 to {n_space}, the spatial sites of a block"
        )
    mask = geometry.storage_mask()
    if mask is None:
        return np.full((1,) * len(b), 1 if keep is not None else math.prod(b), np.int32)
    times = 1
    if geometry.time_axis is not None:
        times, b = b[0], (1, *b[1:])
    mask = _whole_blocks(mask.astype(np.int8), b)
    if keep is not None:
        o = _to_storage(geometry, keep, 0)
        o = (0, *o[1:]) if geometry.time_axis is not None else o
        return mask[tuple(slice(s, None, f) for s, f in zip(o, b, strict=True))].astype(np.int32)
    counts = block_sum(mask, b).astype(np.int32)
    return np.where(counts >= min_active, counts * times, 0)


def _sites_in_blocks(geometry, factor, n_active):
    """Active fine sites in the blocks of active coarse sites, for decimation, which counts one per block."""
    b = _to_storage(geometry, factor, 1)
    mask = geometry.storage_mask()
    if mask is None:
        return int(n_active.sum(dtype=np.int64)) * math.prod(b)
    if geometry.time_axis is not None:
        inside = block_sum(_whole_blocks(mask.astype(np.int8), (1, *b[1:])), (1, *b[1:]))
        return int((inside * (n_active[:1] > 0)).sum(dtype=np.int64)) * b[0] * n_active.shape[0]
    return int((block_sum(_whole_blocks(mask.astype(np.int8), b), b) * (n_active > 0)).sum(dtype=np.int64))


def _scaled(geometry, axis, b):
    quantity = geometry.quantity(axis).scaled(b)
    return f"{quantity.value:.12g} {quantity.unit}"


def _coarse_geometry(geometry, shape, factor, n_active):
    if isinstance(geometry, Graph):
        width = _scaled(geometry, TIME, factor[0]) if geometry.bin_width else None
        return Graph(shape[1], shape[0], geometry.boundary, width)
    spacing = None
    if geometry.spacing is not None:
        spacing = [_scaled(geometry, a, b) for a, b in zip(geometry.axes, factor, strict=True)]
    mask = None
    if geometry.mask is not None:
        mask = (n_active > 0).reshape(
            tuple(n for a, n in zip(geometry.axes, shape, strict=True) if a != TIME)
        )
        if not mask.any():
            raise InputError(
                f"factor {list(factor)}: no block has enough active sites, the coarse lattice is empty"
            )
    return Lattice(shape, geometry.axes, geometry.boundary, spacing, mask)


def block(
    field, name, factor, k=None, seed=0, level=0, offset=0, rescale=1.0, min_active=1, halo=None, first_plane=0
):
    """The blocked field on the coarser geometry.

    Parameters
    ----------
    field : Field
        Of kind spin, gas or real, on a Lattice or a Graph, held whole (one rank).
    name : {"majority", "decimation", "average", "or", "k-of-n"}
        See ``BLOCKINGS``.
    factor : int or sequence of int
        Sites per block, for all axes or one per axis in the user's order.
    k : int, optional
        For ``k-of-n`` alone, which needs it: 1 <= k <= sites of a block.
    seed, level : int, optional
        The coins of ``majority`` are a function of seed, level and the coarse site (its global storage
        index).
    offset : int or sequence of int, optional
        Which site of the block ``decimation`` keeps; default the first.
    rescale : float, optional
        Factor of ``average``.
    min_active : int, optional
        Least number of active spatial sites of a block whose coarse site is active.
    halo : sequence of int, optional
        Halo of the returned field per storage axis.
    first_plane : int, optional
        Number of the first coarse plane (first storage axis) for the coins, where the field is a stretch of a longer
        one: stretches blocked one by one then give what the whole gives.

    Returns
    -------
    Field
        Same kind as the input, ``"real"`` for ``average``.  What was left out: ``plan_blocks(field.geometry,
        factor)``.

    Raises
    ------
    InputError
        Unknown name, a kind the rule does not take, a factor that leaves no block or breaks a periodic axis.

    Notes
    -----
    Cost about 1 ns per fine site (int8); memory beside input and output is a chunk of some tens of MB.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.field import Field
    >>> from lft.geometry import Lattice
    >>> from lft.rg.blocking import block
    >>> line = Field.from_array(Lattice((6,), ("t",), "open"), "gas", np.array([0, 1, 0, 0, 1, 1]))
    >>> block(line, "or", 2).array().tolist(), block(line, "k-of-n", 2, k=2).array().tolist()
    ([1, 0, 1], [0, 0, 1])
    """
    check_rule(field, name, k, rescale, level)
    plan = plan_blocks(field.geometry, factor, min_active, name, offset)
    if name == "k-of-n" and k > math.prod(plan.factor):
        raise InputError(f"k = {k}: a block of {list(plan.factor)} has {math.prod(plan.factor)} sites")
    coarse = plan.coarse
    kind = "real" if name == "average" else field.kind
    result = Field(coarse, kind, Domain(coarse.storage_shape, coarse.storage_periodic, halo))
    offsets = _to_storage(field.geometry, _per_axis(field.geometry, offset, "offset", 0), 0)
    factors, rule = plan.storage_factor, BLOCKINGS[name]
    fine = _whole_blocks(field.values, factors)
    key, plane = Key(seed), math.prod(coarse.storage_shape[1:])
    rows = max(1, CHUNK_SITES // (factors[0] * math.prod(fine.shape[1:])))
    for a in range(0, coarse.storage_shape[0], rows):
        part = slice(a, min(a + rows, coarse.storage_shape[0]))
        blocks = Blocks(
            fine[part.start * factors[0] : part.stop * factors[0]],
            field.kind,
            factors,
            plan.n_active[part],
            k or 0,
            offsets,
            rescale,
            lambda ties, a=a: flip_coins(ties, key, (first_plane + a) * plane, level),
        )
        result.values[part] = rule(blocks)
    result.exchange()
    return result


def flip_coins(ties, key, first_site, level):
    """Fair coins for the ties of a run of coarse sites that starts at a global site."""
    where = np.flatnonzero(ties)
    low, high = int(where[0]), int(where[-1]) + 1
    numbers = key.fill("uniform", first_site + low, 1, high - low, level, Stream.BLOCKING)[0]
    return numbers[where - low] < 0.5


def check_rule(field, name, k, rescale, level):
    if name not in BLOCKINGS:
        raise InputError(f"blocking {name!r}: valid are {', '.join(BLOCKINGS)}")
    if field.kind not in KINDS[name]:
        raise InputError(f"blocking {name!r} of a {field.kind!r} field: it takes {', '.join(KINDS[name])}")
    if field.domain.local_shape != field.domain.shape:
        raise InputError("blocking works on a whole field, this one is spread over ranks: gather it first")
    if name == "k-of-n" and (isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1):
        raise InputError(f"k = {k!r}: blocking 'k-of-n' needs an integer k >= 1")
    if name != "k-of-n" and k is not None:
        raise InputError(f"k = {k!r}: only blocking 'k-of-n' takes it")
    if isinstance(level, bool) or not isinstance(level, int | np.integer) or not 0 <= level < 2**48:
        raise InputError(f"level = {level!r}: valid is an integer from 0 to 2^48 - 1")
    if not math.isfinite(rescale) or (rescale != 1.0 and name != "average"):
        raise InputError(f"rescale = {rescale!r}: valid is a finite number, and only for blocking 'average'")
