"""Operators of spins on a lattice: sums of products over a class of shapes that symmetry makes equal.

A *shape* is a set of displacements ``{d_1, ..., d_k}``; an operator sums it over the lattice and over its images under
reflections of the axes and exchanges of equivalent axes,

    O_a[s] = sum over images {d_1, ..., d_k} of the shape,  sum_x  s_(x+d_1) ... s_(x+d_k),        s = +-1,

each set of sites that translation makes equal once.  Operators with an even number of spins do not change under
``s -> -s``, those with an odd number change sign.  Beyond an open end and where no site exists there is no product;
fields of 0 and 1 are read as spins ``2 phi - 1``.

An operator is its shape, so a set is extended by writing displacements down: ``operator([(0, 0), (2, 1)])``.
:func:`operator_set` lists them from short to long, :class:`Products` evaluates a set on many configurations.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft._kernels import operators as kernel
from lft.errors import InputError
from lft.geometry import Lattice

BATCH = 64 * kernel.WORDS
"""Configurations that the kernel takes side by side."""
MAX_TABLE_BYTES = 2 << 30
"""Most memory for the tables of neighbors."""
MAX_SPINS = 6
"""Most spins of an operator that :func:`operator_set` looks for."""


@dataclass(frozen=True)
class Operator:
    """A class of products.

    Attributes
    ----------
    name : str
        ``"h"`` for a single spin, else the displacements from the first site: ``"1,0"``, ``"0,1;1,0;1,1"``.
    shapes : tuple of tuple of displacements
        All images, each beginning with the origin; user's axis order.
    """

    name: str
    shapes: tuple

    @property
    def n_spins(self):
        """Spins of a product."""
        return len(self.shapes[0])

    @property
    def is_even(self):
        """Whether the operator is unchanged when all spins turn over."""
        return self.n_spins % 2 == 0

    @property
    def coupling(self):
        """Name of the coupling: ``h``, ``K[1,0]``, ``K[0,1;1,0;1,1]``."""
        return self.name if self.name == "h" else f"K[{self.name}]"

    @property
    def n_axes(self):
        """Dimension of the lattice."""
        return len(self.shapes[0][0])


def operator(sites, equivalent=None):
    """The operator of a shape.

    Parameters
    ----------
    sites : sequence of tuple of int
        The sites of one product, all different; their common position does not matter.
    equivalent : sequence of sequence of int, optional
        Groups of axes that may be exchanged.  Default: all axes.  ``[(0, 1)]``: x and y, not t.

    Returns
    -------
    Operator

    Raises
    ------
    InputError
        No sites, sites twice, different dimensions, groups that are not disjoint axes.

    Examples
    --------
    >>> from lft.rg.monte_carlo.operators import operator
    >>> operator([(0, 0), (1, 0)]).shapes
    (((0, 0), (0, 1)), ((0, 0), (1, 0)))
    >>> operator([(0, 0), (1, 0)], equivalent=[]).shapes, operator([(3, 5)]).coupling
    ((((0, 0), (1, 0)),), 'h')
    >>> plaquette = operator([(0, 0), (1, 0), (0, 1), (1, 1)])
    >>> plaquette.coupling, len(plaquette.shapes), len(operator([(0, 0), (1, 2)]).shapes)
    ('K[0,1;1,0;1,1]', 1, 4)
    """
    try:
        sites = [tuple(int(c) for c in np.atleast_1d(d)) for d in sites]
    except (TypeError, ValueError):
        raise InputError(f"operator {sites!r}: valid is a list of displacements such as [(0, 0), (1, 0)]") from None
    n_axes = len(sites[0]) if sites else 0
    if not n_axes or any(len(d) != n_axes for d in sites) or len(set(sites)) != len(sites):
        raise InputError(f"operator {sites!r}: valid are different displacements of one dimension, at least one")
    shapes = sorted({_anchored(image) for image in _images(sites, _symmetries(n_axes, equivalent))})
    shown = max(shapes, key=_preference)
    name = "h" if len(sites) == 1 else ";".join(",".join(map(str, d)) for d in shown if any(d))
    return Operator(name, tuple(shapes))


def _preference(shape):
    """Which image gives the name: few negative numbers, first axes first."""
    flat = [c for d in shape for c in d]
    return (-sum(c < 0 for c in flat), shape[1:] and sorted(shape, reverse=True)[0], tuple(sorted(shape, reverse=True)))


def _symmetries(n_axes, equivalent):
    """Permutations of axes that leave the lattice as it is."""
    groups = [tuple(range(n_axes))] if equivalent is None else [tuple(g) for g in equivalent]
    members = [a for g in groups for a in g]
    if len(set(members)) != len(members) or any(not 0 <= a < n_axes for a in members):
        raise InputError(f"equivalent = {groups}: valid are disjoint groups of the axes 0 to {n_axes - 1}")
    out = []
    for choice in itertools.product(*[itertools.permutations(g) for g in groups]):
        order = list(range(n_axes))
        for group, image in zip(groups, choice, strict=True):
            for a, b in zip(group, image, strict=True):
                order[a] = b
        out.append(tuple(order))
    return out


def _images(sites, permutations):
    n_axes = len(sites[0])
    for order in permutations:
        for signs in itertools.product((1, -1), repeat=n_axes):
            yield [tuple(signs[a] * d[order[a]] for a in range(n_axes)) for d in sites]


def _anchored(sites):
    """The same set of sites with its first one (in lexicographic order) at the origin."""
    first = min(sites)
    return tuple(sorted(tuple(c - o for c, o in zip(d, first, strict=True)) for d in sites))


def parse_operator(text, n_axes, equivalent=None):
    """The operator of a name: ``"h"``, ``"1,0"``, ``"1,0;0,1;1,1"`` (displacements from a site at the origin).

    Examples
    --------
    >>> from lft.rg.monte_carlo.operators import parse_operator
    >>> parse_operator("1,0;0,1;1,1", 2).n_spins
    4
    """
    text = text.strip().removeprefix("K[").removesuffix("]")
    if text == "h":
        return operator([(0,) * n_axes])
    try:
        sites = [tuple(int(c) for c in part.split(",")) for part in text.split(";")]
    except ValueError:
        sites = [()]
    if any(len(d) != n_axes for d in sites):
        example = ",".join(["1"] + ["0"] * (n_axes - 1))
        raise InputError(f"operator {text!r}: valid is h, or displacements of {n_axes} integers such as {example}, "
                         "several of them parted by ;")
    return operator([(0,) * n_axes, *sites], equivalent)


def operator_set(n_axes, even=7, odd=4, equivalent=None):
    """The shortest even and odd operators.

    Order: the largest squared distance between two sites plus half the number of spins; then the number of spins,
    then the sum of the squared distances.  In two dimensions: neighbors 1,0; diagonal 1,1; plaquette; 2,0; 2,1; ...
    and spin; corner; line; ...

    Parameters
    ----------
    n_axes : int
    even, odd : int
        How many of each.
    equivalent
        See :func:`operator`.

    Returns
    -------
    list of Operator
        Even ones first.

    Examples
    --------
    >>> from lft.rg.monte_carlo.operators import operator_set
    >>> [o.name for o in operator_set(2, 4, 2)]
    ['1,0', '1,1', '0,1;1,0;1,1', '2,0', 'h', '1,0;1,1']
    """
    for what, n in (("even", even), ("odd", odd)):
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 0 <= n <= 60:
            raise InputError(f"{n!r} {what} operators: valid is an integer from 0 to 60")
    limit = 2
    while True:
        found = _shapes(n_axes, limit, equivalent)
        evens, odds = [[o for o in found if o.is_even is parity] for parity in (True, False)]
        if len(evens) >= even and len(odds) >= odd:
            return evens[:even] + odds[:odd]
        limit += 1
        if limit > 40:
            raise InputError(f"{even} even and {odd} odd operators: a lattice of {n_axes} axes has no more than "
                             f"{len(evens)} and {len(odds)} short ones; give their displacements")


def _rank(shape):
    square = [sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for p, q in itertools.combinations(shape, 2)]
    return (max(square, default=0) + (len(shape) // 2 - 1 if len(shape) > 1 else 0), len(shape), sum(square))


def _shapes(n_axes, limit, equivalent):
    """All operators up to a rank, in order."""
    reach = math.isqrt(limit)
    box = [d for d in itertools.product(range(-reach, reach + 1), repeat=n_axes) if d > (0,) * n_axes]
    near = [d for d in box if sum(c * c for c in d) <= limit]
    origin, known, found = (0,) * n_axes, set(), []

    def grow(shape, start):
        if _rank(shape)[0] <= limit and tuple(shape) not in known:
            new = operator(shape, equivalent)
            if not known.intersection(new.shapes):
                found.append((*_rank(shape), _order(new), new))
            known.update(new.shapes)
        if len(shape) == MAX_SPINS:
            return
        spare = limit - (len(shape) + 1) // 2 + 1
        for k in range(start, len(near)):
            d = near[k]
            if all(sum((a - b) ** 2 for a, b in zip(d, p, strict=True)) <= spare for p in shape):
                grow([*shape, d], k + 1)

    grow([origin], 0)
    return [entry[-1] for entry in sorted(found, key=lambda e: e[:-1])]


def _order(o):
    """Among operators of equal rank (axes that are not equivalent): first axes first."""
    return tuple(-c for d in o.shapes[-1] for c in d)


def equivalent_axes(lattice, action=None, factor=1):
    """Groups of axes that a lattice, its action and a blocking do not tell apart.

    Axes belong together if neither is time and extent, boundary, the action's couplings along them and the factor of
    the blocking (one, or one per axis) agree.

    Examples
    --------
    >>> from lft.geometry import Lattice
    >>> from lft.rg.monte_carlo.operators import equivalent_axes
    >>> equivalent_axes(Lattice((8, 8, 8), ("x", "y", "t")))
    [(0, 1)]
    """
    couplings = [None] * len(lattice.shape)
    if action is not None and hasattr(action, "bond_couplings"):
        bonds = action.bond_couplings(lattice)
        couplings = [sorted((tuple(sorted(map(abs, d))), K) for d, K in bonds.items() if d[a]) for a in
                     range(len(lattice.shape))]
    factors = [factor] * len(lattice.shape) if np.ndim(factor) == 0 else list(factor)
    groups = {}
    for axis, (name, b) in enumerate(zip(lattice.axes, factors, strict=True)):
        label = axis if name == "t" else (lattice.shape[axis], lattice.boundary[axis], str(couplings[axis]), b)
        groups.setdefault(label, []).append(axis)
    return [tuple(g) for g in groups.values() if len(g) > 1]


class Products:
    """Operators compiled for a lattice.

    Parameters
    ----------
    lattice : Lattice
    operators : sequence of Operator

    Attributes
    ----------
    n_products : ndarray of int, shape (n_operators,)
        Products that exist; an operator without any is an error.

    Raises
    ------
    InputError
        Operators of another dimension, two of one name, none that fits, tables beyond 2 GB.

    Notes
    -----
    Cost of :meth:`sums`: 0.02 to 0.04 ns per product and configuration (64 x 64 and 64^3, one core); tables of 4
    bytes per site and displacement.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.geometry import Lattice
    >>> from lft.rg.monte_carlo.operators import Products, operator_set
    >>> p = Products(Lattice((4, 4)), operator_set(2, 2, 1))
    >>> p.sums(np.ones((3, 4, 4), np.int8))[0].tolist(), p.n_products.tolist()
    ([32, 32, 16], [32, 32, 16])
    """

    def __init__(self, lattice, operators):
        if not isinstance(lattice, Lattice):
            raise InputError(f"operators live on a lattice, not on a {type(lattice).__name__}")
        self.lattice, self.operators = lattice, tuple(operators)
        self.n_sites = math.prod(lattice.storage_shape)
        if not self.operators:
            raise InputError("operators = []: valid is at least one")
        for o in self.operators:
            if o.n_axes != len(lattice.shape):
                raise InputError(f"operator {o.name}: it has {o.n_axes} axes, the lattice {len(lattice.shape)}")
        names = [o.name for o in self.operators]
        if len(set(names)) < len(names):
            raise InputError(f"operators {', '.join(names)}: one stands twice")
        self._rows, self._tables = {}, None
        shapes = [shape for o in self.operators for shape in o.shapes]
        wanted = dict.fromkeys(d for shape in shapes for d in shape)
        self._check_memory(len(wanted))
        mask = lattice.storage_mask()
        self._exists = (
            np.ones(self.n_sites, bool)
            if mask is None
            else np.broadcast_to(mask, lattice.storage_shape).reshape(-1).copy()
        )
        self.sites = np.flatnonzero(self._exists).astype(np.int32)
        self._table(wanted)
        self._terms = [np.array([self._rows[d] for d in shape], np.int32) for shape in shapes]
        self._bases = [self._base(term) for term in self._terms]
        self._count = np.array([self.n_sites if b is None else len(b) for b in self._bases], np.int64)
        starts = np.cumsum([0, *(len(o.shapes) for o in self.operators)])
        self._first = starts[:-1]
        self.n_products = np.add.reduceat(self._count, self._first)
        empty = [o.name for o, n in zip(self.operators, self.n_products, strict=True) if not n]
        if empty:
            raise InputError(f"operator {empty[0]}: the lattice {lattice.shape} has no such product")
        self._environment = None

    def _check_memory(self, n_rows):
        size = 4 * n_rows * self.n_sites
        if size > MAX_TABLE_BYTES or self.n_sites >= 2**31 - 1:
            raise InputError(
                f"{n_rows} displacements on {self.n_sites} sites: tables of {size / 2**30:.3g} GB, at most "
                f"{MAX_TABLE_BYTES / 2**30:.3g}; give fewer operators or a part of the lattice"
            )

    def _table(self, displacements):
        """Rows of the table for displacements that have none yet; a site that does not exist is n_sites."""
        new = [d for d in displacements if d not in self._rows]
        if not new:
            return
        shape, periodic = self.lattice.storage_shape, self.lattice.storage_periodic
        number = np.where(self._exists, np.arange(self.n_sites), self.n_sites).astype(np.int32).reshape(shape)
        rows = np.empty((len(new), self.n_sites), np.int32)
        for k, d in enumerate(new):
            moved = number
            for axis, step in enumerate(self.lattice.storage_displacement(d)):
                moved = _moved(moved, step, axis, periodic[axis], self.n_sites)
            rows[k] = moved.reshape(-1)
            self._rows[d] = len(self._rows)
        self._tables = rows if self._tables is None else np.concatenate([self._tables, rows])

    def _base(self, term):
        """Sites at which the product starts; None: at all."""
        whole = (self._tables[term] < self.n_sites).all(axis=0)
        return None if whole.all() else np.flatnonzero(whole).astype(np.int32)

    @property
    def is_full(self):
        """Whether every product that the operators speak of exists, at every site."""
        return bool((self._tables < self.n_sites).all())

    def sums(self, values, kind="spin"):
        """O_a of each configuration.

        Parameters
        ----------
        values : ndarray of int8, shape (n, *storage shape)
            Spins -1, +1 (0 where no site exists), or 0, 1.
        kind : {"spin", "gas"}, optional
            What the values are.

        Returns
        -------
        ndarray of int64, shape (n, n_operators)
        """
        flat = self._flat(values)
        out = np.empty((len(flat), len(self.operators)), np.int64)
        minus = np.empty((self.n_sites, kernel.WORDS), np.uint64)
        planes = np.empty((kernel.PLANES, kernel.WORDS), np.uint64)
        per_shape = np.empty((len(self._terms), BATCH), np.int64)
        for a in range(0, len(flat), BATCH):
            part = flat[a : a + BATCH]
            kernel.pack(np.ascontiguousarray(part - (part == 0) if kind == "gas" else part), minus)
            for k, (term, base) in enumerate(zip(self._terms, self._bases, strict=True)):
                kernel.count(minus, self._tables, term, base, int(self._count[k]), planes)
                bits = np.unpackbits(planes.view(np.uint8), axis=1, bitorder="little")
                powers = 2 ** np.arange(int(self._count[k]).bit_length(), dtype=np.int64)
                per_shape[k] = self._count[k] - 2 * (powers @ bits[: len(powers)].astype(np.int64))
            out[a : a + len(part)] = np.add.reduceat(per_shape, self._first, axis=0)[:, : len(part)].T
        return out

    def _flat(self, values):
        values = np.asarray(values)
        shape = tuple(self.lattice.storage_shape)
        if values.shape[1:] != shape or values.dtype != np.int8:
            raise InputError(f"values of shape {values.shape} and type {values.dtype}: valid is int8 (n, *{shape})")
        return np.ascontiguousarray(values.reshape(len(values), -1))

    # ---- environments of single sites
    def environment(self):
        """The compiled local fields, and the largest |f_a| that a site can have, per operator.

        Raises
        ------
        InputError
            A periodic axis so short that a product meets one of its own sites again.
        """
        if self._environment is None:
            self._check_distinct()
            factors = [
                [tuple(_minus(e, d) for e in shape if e != d) for shape in o.shapes for d in shape]
                for o in self.operators
            ]
            self._table(dict.fromkeys(d for group in factors for f in group for d in f))
            operator_start = np.cumsum([0, *map(len, factors)]).astype(np.int32)
            flat = [f for group in factors for f in group]
            factor_start = np.cumsum([0, *map(len, flat)]).astype(np.int32)
            term = np.array([self._rows[d] for f in flat for d in f] or [0], np.int32)
            tables = np.ascontiguousarray(self._tables)
            compiled = kernel.Environment(tables, operator_start, factor_start, term)
            self._environment = (compiled, np.diff(operator_start))
        return self._environment

    def _check_distinct(self):
        extents = zip(self.lattice.shape, self.lattice.boundary, strict=True)
        periods = [n if b == "periodic" else 0 for n, b in extents]
        for o in self.operators:
            for shape in o.shapes:
                sites = {tuple(c % p if p else c for c, p in zip(d, periods, strict=True)) for d in shape}
                if len(sites) < len(shape):
                    raise InputError(f"operator {o.name}: on the lattice {self.lattice.shape} it meets one of its own "
                                     "sites again around a periodic axis; fewer levels or shorter operators")

    def local_fields(self, configuration):
        """``f_a(x) = dO_a/ds_x`` at every existing site, (n_sites, n_operators): products of the other spins."""
        compiled, _ = self.environment()
        spins = self.with_absent(configuration)
        out = np.empty((len(self.sites), len(self.operators)), np.int64)
        for k in range(len(self.operators)):
            weight = np.zeros(len(self.operators), np.int64)
            weight[k] = 1
            column = np.empty(len(self.sites), np.int64)
            compiled.keys(spins, self.sites, weight, column)
            out[:, k] = column
        return out

    def with_absent(self, configuration):
        """Flat spins of one configuration with the 0 at the end that stands for sites that do not exist."""
        flat = np.asarray(configuration, np.int8).reshape(-1)
        if len(flat) != self.n_sites:
            raise InputError(f"configuration of {len(flat)} sites, the lattice has {self.n_sites}")
        return np.append(flat * self._exists, 0).astype(np.int8)


def _minus(a, b):
    return tuple(x - y for x, y in zip(a, b, strict=True))


def _moved(number, step, axis, is_periodic, absent):
    """number[x + step] along one axis; ``absent`` beyond an open end."""
    if step == 0:
        return number
    if is_periodic:
        return np.roll(number, -step, axis)
    out, n = np.full_like(number, absent), number.shape[axis]
    if abs(step) >= n:
        return out
    source, target = [slice(None)] * number.ndim, [slice(None)] * number.ndim
    source[axis] = slice(max(step, 0), n + min(step, 0))
    target[axis] = slice(max(-step, 0), n + min(-step, 0))
    out[tuple(target)] = number[tuple(source)]
    return out
