"""Simulated annealing: the lowest action that slowly cooled chains find.

Each restart is a chain with weight exp(-b S) whose inverse temperature b rises from ``first`` to ``last``; then the
action is lowered until nothing changes: spins and spikes by single-site updates at a b so large that no step upwards
is taken, real fields by steepest descent.  Nothing guarantees that the lowest action found is the lowest there is; the
fraction of independent restarts that reach it is the evidence, since a ground state that is hard to find would be found
once.

Restart r draws from ``Key(seed, replica=r)``; the restarts are dealt to groups of ranks (``lft.groups``) and come out
the same on any number of ranks.  :class:`lft.actions.Pairwise` has no couplings between bins: there the bins of one
``Graph(N, restarts)`` are the restarts, one field that one loop updates.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from lft.actions import Pairwise
from lft.errors import InputError
from lft.geometry import Graph
from lft.groups import Groups
from lft.implementations import AUTO, choose
from lft.protocols import State
from lft.rng import Key
from lft.updaters import Metropolis, start

SCHEDULES = ("linear", "geometric")
MAX_RESTARTS = 10**6
MAX_STEPS = 100
"""Most different temperatures of a schedule: building the loops of one costs about a millisecond."""
QUENCH = 1e6
"""b at the end of the descent is this times ``last``: a step upwards is taken only if it costs less than 40 / b."""
MAX_QUENCH = 10_000
PATIENCE = 5
"""Sweeps of the descent without a lower action after which a restart is done."""
TOLERANCE = 1e-9
"""Two actions are the same if they differ by less than this times max(1, |S|)."""
MAX_KEPT = 1000
"""Most restarts whose configurations of the lowest action are compared and kept."""
BATCH_BYTES = 2**28
"""Memory of the restarts that are cooled together."""


@dataclass(frozen=True)
class Cooling:
    """How the temperature falls.

    Parameters
    ----------
    sweeps : int
        Updates of each restart on the way from ``first`` to ``last``, >= 1.
    first, last : float
        Inverse temperatures, multiples of the action; 0 <= first < last (geometric: first > 0).
    schedule : {"geometric", "linear"}
        How b rises from sweep to sweep, in at most ``MAX_STEPS`` steps.
    restarts : int
        Independent chains, >= 1.

    Examples
    --------
    >>> from lft.annealing import Cooling
    >>> Cooling(4, 1.0, 4.0, "linear").steps()
    [(1.0, 1), (2.0, 1), (3.0, 1), (4.0, 1)]
    """

    sweeps: int = 1000
    first: float = 0.1
    last: float = 5.0
    schedule: str = "geometric"
    restarts: int = 16

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise InputError(f"schedule = {self.schedule!r}: valid is {' or '.join(SCHEDULES)}")
        for name, low, high in (("sweeps", 1, 2**47 - 1), ("restarts", 1, MAX_RESTARTS)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"{name} = {value!r}: valid is an integer from {low} to {high}")
        if not (math.isfinite(self.first) and self.first >= 0):
            raise InputError(f"from = {self.first}: valid is a finite number >= 0")
        if not (math.isfinite(self.last) and self.last > self.first):
            raise InputError(f"to = {self.last}: valid is a finite number above from = {self.first}")
        if self.schedule == "geometric" and self.first == 0:
            raise InputError("from = 0: a geometric schedule needs a number > 0; linear may begin at 0")

    def steps(self):
        """(inverse temperature, updates) of each step."""
        n = min(self.sweeps, MAX_STEPS)
        size, extra = divmod(self.sweeps, n)
        out = []
        for k in range(n):
            x = k / (n - 1) if n > 1 else 1.0
            b = self.first + x * (self.last - self.first)
            if self.schedule == "geometric":
                b = self.last if x == 1 else self.first * (self.last / self.first) ** x
            out.append((b, size + (k < extra)))
        return out


@dataclass
class Ground:
    """The outcome of an annealing run (arrays and configurations on rank 0 alone).

    Attributes
    ----------
    actions : ndarray, shape (restarts,)
        Lowest action of each restart.
    configurations : list of ndarray
        The different configurations of the lowest action (at most ``MAX_KEPT``), user's axis order.
    kernel : str
        Names of the loops.
    """

    action: object
    geometry: object
    cooling: Cooling
    actions: np.ndarray
    configurations: list
    kernel: str
    seconds: float

    @property
    def lowest(self):
        """The lowest action found."""
        return float(self.actions.min())

    @property
    def has_reached(self):
        """Which restarts found the lowest action."""
        return _is_same(self.actions, self.lowest)

    def histogram(self):
        """Different actions found, increasing, and how many restarts ended at each."""
        values, counts = [], []
        for S in np.sort(self.actions).tolist():
            if values and _is_same(S, values[-1]):
                counts[-1] += 1
            else:
                values.append(S)
                counts.append(1)
        return values, counts


def _is_same(S, other):
    return np.abs(S - other) <= TOLERANCE * max(1.0, abs(other))


class _Restart:
    """Present and lowest configuration of one chain (of all chains of a :class:`Pairwise`), halo included."""

    def __init__(self, key, data):
        self.key, self.data, self.best = key, data.copy(), data.copy()
        self.lowest, self.idle = None, 0


class _Batch:
    """Restarts that are cooled together: the loops of a temperature are built once and serve one after the other."""

    def __init__(self, action, updater, phi, keys, kernel, begin):
        self.action, self.updater, self.phi, self.kernel = action, updater, phi, kernel
        self.by_line = isinstance(action, Pairwise)  # each line is a bin, each bin a restart
        self.names, self.t, self.restarts = {}, 0, []
        for key in keys:
            start(phi, begin, key)
            self.restarts.append(_Restart(key, phi.data))
            self.restarts[-1].lowest = self.energies()

    def energies(self):
        """S of the present field: of each bin on this rank, or of the lattice (the same on all ranks of the group)."""
        if self.by_line:
            return self.action.action_lines(self.phi)
        return np.array([self.action.S(self.phi)])

    def update(self, b, n, restarts, updater):
        """``n`` updates at inverse temperature b."""
        scaled = self.action.scaled(b)
        loops = choose(scaled, updater, self.phi, self.kernel)
        for one in restarts:
            self.phi.data[...] = one.data
            loops.advance(State(self.phi, self.t), one.key, n)
            self.remember(one)
            one.data[...] = self.phi.data
        loops.close()
        if scaled is not self.action:
            scaled.release(self.phi)
        self.names[loops.name] = True
        self.t += n

    def remember(self, one):
        """Keep the present field where it is lower than before (collective)."""
        S = self.energies()
        is_lower = S < one.lowest - TOLERANCE * np.maximum(1.0, np.abs(one.lowest))
        one.lowest = np.where(is_lower, S, one.lowest)
        if self.by_line:
            inside = one.best[self.phi.domain.interior]
            inside[is_lower] = self.phi.values[is_lower]
        elif is_lower[0]:
            one.best[...] = self.phi.data
        one.idle = 0 if self.phi.domain.any(bool(is_lower.any())) else one.idle + 1

    def cool(self, cooling):
        """From ``first`` to ``last``, then down to the nearest minimum."""
        for b, n in cooling.steps():
            self.update(b, n, self.restarts, self.updater)
        if self.phi.kind == "real":
            for one in self.restarts:
                self._relax(one)
            return
        for one in self.restarts:
            one.idle = 0
        for _ in range(MAX_QUENCH):  # a step that costs nothing may open the way down: some sweeps more
            moving = [one for one in self.restarts if one.idle < PATIENCE]
            if not moving:
                break
            self.update(QUENCH * cooling.last, 1, moving, Metropolis())

    def _relax(self, one):
        """Steepest descent of a real field: the step grows while the action falls and halves where it does not."""
        self.phi.data[...] = one.best
        step, S, values = 0.05, self.energies()[0], self.phi.values
        for _ in range(MAX_QUENCH):
            old = values.copy()
            values += step * self.action.force(self.phi)
            self.phi.exchange()
            new = self.energies()[0]
            if not new < S:
                values[...] = old
                self.phi.exchange()
                step *= 0.5
                if step < 1e-12:
                    break
                continue
            is_flat, S, step = S - new < 1e-15 * max(1.0, abs(new)), new, 1.2 * step
            if is_flat:
                break
        one.lowest = np.array([S])
        one.best[...] = self.phi.data


def anneal(action, updater, geometry, cooling, key, begin="hot", comm=None, kernel=AUTO):
    """Cool independent chains and collect the lowest configurations; returns a :class:`Ground`.

    Parameters
    ----------
    cooling : Cooling
    key : Key
        Restart r draws from ``Key(key.seed, replica=r)``; the bins of :class:`Pairwise` from ``key`` itself.
    begin : str
        Start of each restart, as ``[run] start``.
    comm : mpi4py communicator, optional
        Any number of ranks; the result does not depend on it.

    Raises
    ------
    InputError
        b = 0 of a real field, or a :class:`Pairwise` with more than one bin (bins are the restarts).

    Examples
    --------
    >>> from lft.actions import Ising
    >>> from lft.annealing import Cooling, anneal
    >>> from lft.geometry import Lattice
    >>> from lft.rng import Key
    >>> from lft.updaters import Metropolis
    >>> ground = anneal(Ising(K=1.0), Metropolis(), Lattice((6, 6)), Cooling(200, 0.1, 3.0, restarts=4), Key(1))
    >>> ground.lowest, len(ground.configurations) <= 2
    (-72.0, True)
    """
    began = time.perf_counter()
    if action.kind == "real" and cooling.first == 0:
        raise InputError("from = 0: a real field needs a number > 0, else exp(-b S) cannot be normalized")
    if isinstance(action, Pairwise):
        parts = _anneal_bins(action, updater, geometry, cooling, key, begin, comm, kernel)
    else:
        parts = _anneal_members(action, updater, geometry, cooling, key, begin, comm, kernel)
    return Ground(action, geometry, cooling, *parts, time.perf_counter() - began)


def _anneal_members(action, updater, geometry, cooling, key, begin, comm, kernel):
    groups = Groups(comm, cooling.restarts)
    phi = action.new_field(geometry, groups.within)
    table = np.zeros((cooling.restarts, 1))
    size = max(1, BATCH_BYTES // (2 * phi.data.nbytes))
    most = min(MAX_KEPT, max(1, BATCH_BYTES // math.prod(phi.domain.shape)))  # the same for any number of ranks
    kept, names = {}, {}
    for first in range(groups.members.start, groups.members.stop, size):
        numbers = range(first, min(first + size, groups.members.stop))
        batch = _Batch(action, updater, phi, [Key(key.seed, r) for r in numbers], kernel, begin)
        batch.cool(cooling)
        names |= batch.names
        for r, one in zip(numbers, batch.restarts, strict=True):
            table[r] = one.lowest
            kept[r] = one.best
        best = table[groups.members.start : numbers.stop].min()
        kept = {r: data for r, data in sorted(kept.items()) if _is_same(table[r, 0], best)}
        kept = {r: kept[r] for r in list(kept)[:most]}
    actions = groups.share(table)[:, 0]
    arrays = []
    for r in np.flatnonzero(_is_same(actions, actions.min()))[:most].tolist():
        array = None
        if r in kept:
            phi.data[...] = kept[r]
            array = phi.array()
        array = groups.collect(r, array)
        if array is not None and not _is_known(array, arrays, action.kind):
            arrays.append(array)
    phi.domain.close()
    names = groups.merge(names)
    groups.close()
    return actions, arrays, ", ".join(sorted(names))


def _is_known(array, others, kind):
    """Whether a configuration is among others (real fields: to 1e-3 at every site)."""
    if kind == "real":
        return any(np.abs(array - other).max() < 1e-3 for other in others if other is not None)
    return any(np.array_equal(array, other) for other in others if other is not None)


def _anneal_bins(action, updater, geometry, cooling, key, begin, comm, kernel):
    if geometry.n_bins != 1:
        raise InputError(
            f"shape: the graph has {geometry.n_bins} bins, annealing of {action.name} takes 1: bins are not coupled, "
            "and the restarts fill them"
        )
    many = Graph(geometry.n_units, cooling.restarts)
    phi = action.new_field(many, comm)
    batch = _Batch(action, updater, phi, [key], kernel, begin)
    batch.cool(cooling)
    one, here = batch.restarts[0], phi.domain.slices[0]
    bits = np.zeros(cooling.restarts, np.int64)
    bits[here] = one.lowest.view(np.int64)
    actions = phi.domain.sum_int(bits).view(np.float64)
    phi.data[...] = one.best
    arrays, whole = [], phi.array()
    if whole is not None:
        whole = many.to_storage(whole)[_is_same(actions, actions.min())]
        first = np.sort(np.unique(whole, axis=0, return_index=True)[1])[:MAX_KEPT]
        arrays = [geometry.from_storage(whole[k : k + 1]) for k in first]
    phi.domain.close()
    return actions, arrays, ", ".join(sorted(batch.names))
