"""Many configurations, blocked again and again: where operators are measured level by level, batch by batch.

Configurations come as batches, arrays of int8 of shape (n, *storage shape), from a chain (:func:`sampled`) or from any
other source; nothing but the operators' sums is kept, so memory does not grow with their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lft.chain import Chain, Schedule
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Lattice
from lft.protocols import State
from lft.rg.blocking import block, plan_blocks
from lft.rg.monte_carlo.operators import BATCH, Products
from lft.updaters import start

MAX_BATCH_BYTES = 1 << 28
"""Most memory of a batch at level 0."""


def batch_size(lattice):
    """Configurations per batch: what the kernel takes at once, fewer on large lattices."""
    return max(1, min(BATCH, MAX_BATCH_BYTES // math.prod(lattice.storage_shape)))


def sampled(action, lattice, updater, key, n, every=1, thermalize=0, begin="hot", kernel="auto"):
    """Batches of configurations of a chain that runs while they are used.

    Parameters
    ----------
    action, lattice, updater, key
        As in :class:`lft.chain.Chain`; the fastest loops that can run the pair are taken.
    n : int
        Configurations, >= 1.
    every, thermalize : int, optional
        Updates between two configurations, and before the first.
    begin : {"hot", "cold", "silent"}, optional
    kernel : str, optional
        ``auto``, or ``generic``: the reference loops.

    Yields
    ------
    ndarray of int8, shape (n_batch, *storage shape)

    Examples
    --------
    >>> from lft.actions import Ising
    >>> from lft.clusters import SwendsenWang
    >>> from lft.geometry import Lattice
    >>> from lft.rg.monte_carlo.cascade import sampled
    >>> from lft.rng import Key
    >>> [b.shape for b in sampled(Ising(0.3), Lattice((4, 4)), SwendsenWang(), Key(1), 300)]
    [(256, 4, 4), (44, 4, 4)]
    """
    for name, value, least in (("n", n, 1), ("every", every, 1), ("thermalize", thermalize, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} = {value!r}: valid is an integer >= {least}")
    phi = action.new_field(lattice)
    action.bind(phi)
    start(phi, begin, key)
    chain = Chain(action, updater, State(phi, 0), key, Schedule(thermalize, int(n) * every), [],
                  kernel=kernel)
    if thermalize:
        chain.advance(thermalize)
    size = batch_size(lattice)
    for done in range(0, n, size):
        batch = np.empty((min(size, n - done), *lattice.storage_shape), np.int8)
        for row in batch:
            chain.advance(every)
            row[...] = phi.values
        yield batch
    chain.close()


def block_batch(values, plan, name, kind="spin", k=None, seed=0, level=0, first=0):
    """Blocked configurations of a batch.

    Parameters
    ----------
    values : ndarray of int8, shape (n, *storage shape of plan.fine)
    plan : lft.rg.blocking.BlockPlan
        Of the lattice, with the same rule and ``offset`` 0.
    name, k, seed, level
        As in :func:`lft.rg.blocking.block`.
    first : int, optional
        Number of the first configuration: coins belong to (seed, level, configuration, coarse site), not to batches.

    Returns
    -------
    ndarray, shape (n, *storage shape of plan.coarse)
    """
    fine, factor = plan.fine, plan.storage_factor
    mask = fine.storage_mask()
    stack = Lattice(  # the configurations are planes of one lattice more, along an open axis that is not blocked
        (len(values), *fine.storage_shape),
        ("t", *(f"a{i}" for i in range(len(fine.storage_shape)))),
        ("open", *("periodic" if p else "open" for p in fine.storage_periodic)),
        mask=None if mask is None else np.broadcast_to(mask, fine.storage_shape),
    )
    whole = Field(stack, kind)
    whole.data = values
    return block(whole, name, (1, *factor), k=k, seed=seed, level=level, first_plane=first).values


@dataclass(frozen=True)
class OperatorSeries:
    """Sums of operators of every configuration at every level.

    Attributes
    ----------
    operators : tuple of Operator
    lattices : tuple of Lattice
        Level by level.
    scales : tuple of tuple of int
        Sites of level 0 per site, user's axis order.
    sums : tuple of ndarray of int64, shape (n, n_operators)
        Per level.
    n_products : tuple of ndarray of int
        Products per operator and level.
    blocking : str
    factor : tuple of int
    chains : tuple of int
        Configurations of each chain, in order.
    notes : list of str
    """

    operators: tuple
    lattices: tuple
    scales: tuple
    sums: tuple
    n_products: tuple
    blocking: str
    factor: tuple
    chains: tuple
    notes: list = field(default_factory=list)

    @property
    def n(self):
        """Configurations."""
        return len(self.sums[0])

    @property
    def n_levels(self):
        """Levels, that of the unblocked field included."""
        return len(self.sums)

    def sector(self, is_even):
        """Indices of the even or of the odd operators."""
        return np.array([i for i, o in enumerate(self.operators) if o.is_even is is_even], int)

    def joined(self, other):
        """Both series one after the other, as further chains."""
        if (self.operators, self.lattices, self.blocking) != (other.operators, other.lattices, other.blocking):
            raise InputError("series of different operators, lattices or blockings cannot be joined")
        sums = tuple(np.concatenate(pair) for pair in zip(self.sums, other.sums, strict=True))
        return OperatorSeries(self.operators, self.lattices, self.scales, sums, self.n_products, self.blocking,
                              self.factor, self.chains + other.chains, self.notes + other.notes)


def plan_cascade(lattice, operators, blocking, factor, levels, k=None):
    """Plans of the blockings, compiled operators per level, and notes on why it ends early.

    It ends where the lattice cannot be divided any more or no product of an operator is left.
    """
    if not isinstance(lattice, Lattice):
        raise InputError(f"blocks of operators live on a lattice, not on a {type(lattice).__name__}")
    if isinstance(levels, bool) or not isinstance(levels, int | np.integer) or levels < 0:
        raise InputError(f"levels = {levels!r}: valid is an integer >= 0")
    if blocking == "average":
        raise InputError("blocking 'average' makes real fields; operators of spins take or, majority, decimation, "
                         "k-of-n")
    products, plans, notes = [Products(lattice, operators)], [], []
    for level in range(1, levels + 1):
        try:
            plan = plan_blocks(products[-1].lattice, factor, name=blocking)
            compiled = Products(plan.coarse, operators)
        except InputError as reason:
            if level == 1:
                raise
            notes.append(f"level {level}: no further blocking: {reason}")
            break
        dropped = {axis: n for axis, n in plan.dropped.items() if n}
        if dropped:
            notes.append(f"level {level}: planes that fill no block were left out: {dropped}")
        plans.append(plan)
        products.append(compiled)
    return plans, products, notes


def measure_cascade(batches, lattice, operators, blocking="majority", factor=2, levels=3, k=None, seed=0, kind="spin"):
    """Operators of configurations and of their blocks, level by level.

    Parameters
    ----------
    batches : iterable of ndarray of int8, shape (n, *storage shape)
        One chain.
    lattice : Lattice
    operators : sequence of Operator
    blocking, factor, k
        As in :func:`lft.rg.blocking.block`.
    levels : int
        Blockings after level 0.
    seed : int
        Of the coins that settle ties.
    kind : {"spin", "gas"}

    Returns
    -------
    OperatorSeries

    Raises
    ------
    InputError
        Bad arguments, a lattice that cannot be divided once, no configuration.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.geometry import Lattice
    >>> from lft.rg.monte_carlo.cascade import measure_cascade
    >>> from lft.rg.monte_carlo.operators import operator_set
    >>> up = np.ones((5, 8, 8), np.int8)
    >>> series = measure_cascade([up], Lattice((8, 8)), operator_set(2, 1, 1), levels=2)
    >>> [s[0].tolist() for s in series.sums]
    [[128, 64], [32, 16], [8, 4]]
    """
    plans, products, notes = plan_cascade(lattice, operators, blocking, factor, levels, k)
    sums, done = [[] for _ in products], 0
    for batch in batches:
        values = np.ascontiguousarray(batch, np.int8)
        for level, compiled in enumerate(products):
            if level:
                values = block_batch(values, plans[level - 1], blocking, kind, k, seed, level, done)
            sums[level].append(compiled.sums(values, kind))
        done += len(batch)
    if not done:
        raise InputError("no configuration: nothing to measure")
    scales = [(1,) * len(lattice.shape)]
    for plan in plans:
        scales.append(tuple(a * b for a, b in zip(scales[-1], plan.factor, strict=True)))
    factors = (factor,) * len(lattice.shape) if isinstance(factor, int | np.integer) else tuple(factor)
    return OperatorSeries(
        tuple(operators), tuple(p.lattice for p in products), tuple(scales),
        tuple(np.concatenate(s) for s in sums), tuple(p.n_products for p in products), blocking, factors, (done,),
        notes,
    )  # fmt: skip
