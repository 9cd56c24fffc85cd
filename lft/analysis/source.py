"""Where configurations come from: one form for archives, recordings, fields and generators, read piece by piece.

A :class:`Source` knows its geometry and reads any stretch of time bins of any configuration; nothing else of it is ever
in memory.  Every estimator of the package walks over *blocks* of samples, adds up what it needs of each, and takes its
error from the spread of the blocks.  Under MPI the blocks are dealt out to the ranks, and each block's sums reach every
rank in the order of the blocks (:func:`ordered_map`): the result has the same bits for any number of ranks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lft.archive import Archive, unpack
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Graph

CHUNK_BYTES = 32 * 2**20
"""Size of the float64 chunks that estimators work on."""

SLAB_BYTES = 8 * 2**20
"""Stored configurations are read in runs of about this size."""

MIN_BLOCKS = 4
"""Fewest blocks from which an error is taken."""


@dataclass(frozen=True, eq=False)
class Source:
    """Configurations that can be read in stretches of time bins.

    Parameters
    ----------
    geometry : Lattice or Graph
        Its time axis, if any, is what stretches are cut from; without one a configuration is a single bin.
    kind : {"spin", "gas", "real"}
        Meaning of the values, as in :class:`lft.field.Field`.
    n_configurations : int
        Configurations (trials, samples of a chain), >= 1.
    reader : callable
        ``reader(configuration, start, stop)`` gives the bins start..stop, an array (bins, *space) with the spatial axes
        in the user's order (``(bins, units)`` for a graph); inactive sites are 0.  Callers do not write into it.
    name : str
        What error messages call it.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.analysis.source import Source
    >>> from lft.geometry import Lattice
    >>> noise = lambda k, a, b: np.random.default_rng(k).choice([-1, 1], (b - a, 8))
    >>> source = Source(Lattice((8,)), "spin", 1000, noise)
    >>> source.shape, source.n_bins, source.n_active, len(source.blocks(20))
    ((8,), 1, 8, 20)
    """

    geometry: object
    kind: str
    n_configurations: int
    reader: Callable
    name: str = "source"

    def __post_init__(self):
        if self.n_configurations < 1:
            raise InputError(f"{self.name}: holds {self.n_configurations} configurations; at least 1 is needed")

    # ---- what the geometry says, for lattices and graphs alike
    @property
    def has_time(self):
        """True if configurations consist of time bins."""
        return isinstance(self.geometry, Graph) or self.geometry.time_axis is not None

    @property
    def n_bins(self):
        """Time bins of a configuration, 1 without a time axis."""
        return self.geometry.n_bins if isinstance(self.geometry, Graph) else self.geometry.n_time

    @property
    def shape(self):
        """Extents of space in the user's order: what a bin looks like."""
        if isinstance(self.geometry, Graph):
            return (self.geometry.n_units,)
        return self.geometry.space_shape or (1,)

    @property
    def axes(self):
        """Names of the spatial axes that distances can be measured along (none for a graph)."""
        return () if isinstance(self.geometry, Graph) else self.geometry.space_axes

    @property
    def periodic(self):
        """Which spatial axes close on themselves."""
        if isinstance(self.geometry, Graph) or not self.geometry.space_axes:
            return (False,) * len(self.shape)
        pairs = zip(self.geometry.axes, self.geometry.boundary, self.geometry.shape, strict=True)
        return tuple(b == "periodic" and n > 1 for a, b, n in pairs if a != "t")

    @property
    def is_time_periodic(self):
        """True if the last bin is followed by the first."""
        return self.has_time and bool(self.geometry.storage_periodic[0])

    @property
    def mask(self):
        """Which sites exist, in the shape of a bin."""
        mask = self.geometry.mask
        return np.ones(self.shape, bool) if mask is None else mask

    @property
    def n_active(self):
        """Sites of a bin that exist."""
        return int(self.mask.sum())

    @property
    def is_binary(self):
        """True if sums of values and of their products are exact integers."""
        return self.kind != "real"

    @property
    def has_site_means(self):
        """Whether the mean is by default one per site (with a time axis) or one number (without)."""
        return self.has_time

    # ---- reading
    def read(self, configuration, start, stop):
        """Bins start..stop of a configuration, (bins, *space), as stored (int8 or float64)."""
        values = np.asarray(self.reader(configuration, start, stop))
        if values.shape != (stop - start, *self.shape):
            shape = (stop - start, *self.shape)
            raise InputError(f"{self.name}: configuration {configuration} came as {values.shape}, expected {shape}")
        return values

    def read_on(self, configuration, start, stop, ahead):
        """The same and up to ``ahead`` bins more: around the end of periodic time, not beyond that of open time."""
        if not ahead:
            return self.read(configuration, start, stop)
        if not self.is_time_periodic:
            return self.read(configuration, start, min(stop + ahead, self.n_bins))
        parts, position = [], start
        while position < stop + ahead:
            low = position % self.n_bins
            high = min(self.n_bins, low + stop + ahead - position)
            parts.append(self.read(configuration, low, high))
            position += high - low
        return np.concatenate(parts)

    def chunks(self, block, ahead=0, cells=None):
        """Arrays (bins + up to ``ahead`` more, *space) of a block, each with its number of own bins.

        The bins ahead belong to the next chunk: pairs of bins are counted by their first one.  ``cells``: float64
        numbers per bin that the caller makes of it, by default its sites.
        """
        step = max(2 * ahead, CHUNK_BYTES // (8 * (cells or math.prod(self.shape))), 1)
        if not self.has_time:
            for a in range(0, len(block), step):
                part = block[a : a + step]
                yield np.concatenate([self.read(c, 0, 1) for c, _, _ in part]), len(part)
            return
        for configuration, start, stop in block:
            for a in range(start, stop, step):
                b = min(a + step, stop)
                yield self.read_on(configuration, a, b, ahead), b - a

    def blocks(self, n_blocks, at_least=MIN_BLOCKS):
        """Samples in about ``n_blocks`` consecutive blocks: lists of (configuration, start, stop).

        Whole configurations where there are enough of them, else equal stretches of time of each.  InputError if there
        are fewer than ``at_least`` samples.
        """
        if isinstance(n_blocks, bool) or not isinstance(n_blocks, int | np.integer) or n_blocks < at_least:
            raise InputError(f"n_blocks = {n_blocks!r}: valid is an integer >= {at_least}")
        n = self.n_configurations
        if n >= n_blocks or not self.has_time:
            if n < at_least:
                raise InputError(f"{self.name}: {n} configurations; an error needs at least {at_least}")
            edges = np.linspace(0, n, min(n, n_blocks) + 1).astype(int)
            return [[(c, 0, self.n_bins) for c in range(a, b)] for a, b in itertools.pairwise(edges)]
        pieces = min(-(-n_blocks // n), self.n_bins)
        if n * pieces < at_least:
            raise InputError(f"{self.name}: {n * pieces} bins in all; an error needs at least {at_least} blocks")
        edges = np.linspace(0, self.n_bins, pieces + 1).astype(int)
        return [[(c, int(a), int(b))] for c in range(n) for a, b in itertools.pairwise(edges)]

    def everything(self):
        """All samples as one block."""
        return [(c, 0, self.n_bins) for c in range(self.n_configurations)]


def n_bins_of(block):
    """Number of bins in a block."""
    return sum(stop - start for _, start, stop in block)


def ordered_map(function, items, comm=None):
    """``function(item)`` for all items in their order, computed on the ranks in turn and given to all of them.

    Parameters
    ----------
    function : callable
        Returns any picklable value, such as arrays.
    items : sequence
        The same on every rank.
    comm : mpi4py communicator, optional
        None: one process.

    Notes
    -----
    Whoever adds the values up does it in the same order on any number of ranks: the same bits.  Cost: every value
    travels once to every rank; one value per rank is in memory.

    Examples
    --------
    >>> from lft.analysis.source import ordered_map
    >>> sum(ordered_map(lambda x: x * x, [1, 2, 3]))
    14
    """
    if comm is None:
        yield from map(function, items)
        return
    size, rank = comm.Get_size(), comm.Get_rank()
    for first in range(0, len(items), size):
        mine = function(items[first + rank]) if first + rank < len(items) else None
        for owner in range(min(size, len(items) - first)):
            yield comm.bcast(mine, owner)


def site_means(source, per_site=None, comm=None, n_parts=64):
    """Mean of the field: of each site over time and configurations, or (``per_site=False``) one number for all.

    Parameters
    ----------
    source : Source
    per_site : bool, optional
        Default: per site where there is a time axis.  A difference of rates between sites is then no correlation.

    Returns
    -------
    ndarray, shape of a bin
        0 on inactive sites.  Exact for binary fields.
    """
    per_site = source.has_site_means if per_site is None else per_site
    parts = source.blocks(min(n_parts, max(source.n_configurations, source.n_bins)), at_least=1)
    total = sum(ordered_map(lambda block: _sum_of_bins(source, block), parts, comm))
    mean = total / (source.n_configurations * source.n_bins)
    if per_site:
        return mean * source.mask
    return np.where(source.mask, mean.sum() / source.n_active, 0.0)


def _sum_of_bins(source, block):
    kind = np.int64 if source.is_binary else np.float64
    return sum(values.sum(axis=0, dtype=kind) for values, _ in source.chunks(block))


def weighted_mean(rows, weights):
    """Mean of blocks, and its error from their spread: ``(value, error)``.

        value = sum_b w_b rows_b,   error^2 = B/(B-1) sum_b w_b^2 (rows_b - value)^2,   sum_b w_b = 1

    Weights are one per block, or (blocks, n) where the n entries of the second axis have their own (lags at an open
    end).  Complex rows have complex errors: those of the real and of the imaginary part.
    """
    rows = np.asarray(rows)
    w = normalized(weights, rows.ndim)
    value = (w * rows).sum(axis=0)
    if np.iscomplexobj(rows):
        return value, weighted_mean(rows.real, weights)[1] + 1j * weighted_mean(rows.imag, weights)[1]
    spread = ((w * (rows - value)) ** 2).sum(axis=0) * len(rows) / (len(rows) - 1)
    return value, np.sqrt(spread)


def running_mean(parts):
    """:func:`weighted_mean` of (row, weight) pairs that come one by one: three arrays in memory, not one per block.

    Digits are lost only where the error is below about 1e-7 of the value.
    """
    total = square = linear = 0.0
    weight = weight2 = 0.0
    n = 0
    for row, w in parts:
        total, square, linear = total + w * row, square + (w * row) ** 2, linear + w * w * row
        weight, weight2, n = weight + w, weight2 + w * w, n + 1
    value = total / weight
    spread = np.maximum(square - 2 * value * linear + value**2 * weight2, 0) / weight**2
    return value, np.sqrt(spread * n / (n - 1))


def normalized(weights, n_axes):
    """Weights of blocks that add up to 1, with trailing axes for rows of ``n_axes`` axes."""
    w = np.asarray(weights, float)
    w = w / w.sum(axis=0)
    return w.reshape(*w.shape, *(1,) * (n_axes - w.ndim))


# ---- the sources there are
def as_source(data, name=None):
    """A source from an archive, a field, a sequence of fields, or a source as it is.

    Parameters
    ----------
    data : Source, Archive, Field or sequence of Field
        Fields must be serial (whole) and live on one lattice or graph.  An archive stays open as long as it is read.

    Raises
    ------
    InputError
        Fields of different lattices or spread over ranks; an archive without saved configurations.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, Archive):
        return source_of_archive(data)
    fields = [data] if isinstance(data, Field) else list(data)
    if not fields:
        raise InputError("fields = []: at least one is needed")
    geometry = fields[0].geometry
    if any(f.geometry != geometry for f in fields):
        raise InputError("fields: all must live on the same lattice")
    if any(f.domain.comm is not None for f in fields):
        raise InputError("fields: correlators need whole fields; gather them on one rank first")

    def reader(configuration, start, stop):
        field = fields[configuration]
        if isinstance(geometry, Graph):
            return field.values[start:stop]
        if geometry.time_axis is None:
            return geometry.from_storage(field.values)[np.newaxis][start:stop]
        return field.values.reshape(geometry.n_time, *(geometry.space_shape or (1,)))[start:stop]

    return Source(geometry, fields[0].kind, len(fields), reader, name or "fields")


def source_of_archive(archive):
    """The saved configurations of an archive, read in runs; of the last run and configuration a copy is kept."""
    n = archive.n_configurations
    if not n:
        raise InputError(
            f"{archive.path}: holds no saved configurations; simulate with [run] save_every > 0 to have some"
        )
    geometry, data = archive.geometry, archive.file["configurations/field"]
    per_slab = max(1, SLAB_BYTES // max(1, data.dtype.itemsize * data.shape[1]))
    kept = {"slab": None, "rows": None, "configuration": None, "bins": None}

    def configuration_of(index):
        if kept["configuration"] != index:
            slab = index // per_slab
            if kept["slab"] != slab:
                with archive._reading("configurations/field"):
                    kept["rows"] = data[slab * per_slab : (slab + 1) * per_slab]
                kept["slab"] = slab
            values = unpack(archive.kind, kept["rows"][index - slab * per_slab], geometry)
            stored = geometry.to_storage(values)
            if isinstance(geometry, Graph):
                bins = stored
            elif geometry.time_axis is None:
                bins = values[np.newaxis]
            else:
                bins = stored.reshape(geometry.n_time, *(geometry.space_shape or (1,)))
            kept.update(configuration=index, bins=bins)
        return kept["bins"]

    def reader(configuration, start, stop):
        return configuration_of(configuration)[start:stop]

    return Source(geometry, archive.kind, n, reader, str(archive.path))
