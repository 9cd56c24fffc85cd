"""Parallel tempering: one theory at several inverse temperatures that trade configurations.

    pi(phi_0, ..., phi_(R-1)) = prod_i exp(-b_i E(phi_i) - S_rest(phi_i)),    b_0 < ... < b_(R-1)

where ``S = E + S_rest``: E is the whole action (S_rest = 0), or the term ``g O`` of one named coupling.  Each slot i is
an ordinary chain with its own key ``Key(seed, replica=i)``.  After every ``swap_every`` updates neighboring slots
exchange configurations with probability min(1, exp((b_i - b_j)(E_i - E_j))), which leaves pi invariant: the even pairs
after even swaps, the odd pairs after odd ones (deterministic even-odd: not reversible, but faster than random pairs).

Configurations move, couplings stay: the loops of a slot (thresholds, packed rows, messages, work arrays) are built
once.  Within a rank two packed copies trade references, no site is touched; building the bit-sliced loops of new
couplings instead costs 0.7-1.3 ms, as much as 10 sweeps of 1024 x 1024 sites.  Between ranks one local block travels
each way.  With a swap after each update and 8 temperatures an update costs 1.8 times (bit-sliced 1024^2, 65 us alone),
1.3 times (generic Ising 256^2) and 1.2 times (HMC, phi^4 128^2) that of a single chain: the energies.  They are exact
sums and the swaps draw from the pair's number, so every rank takes the same decisions.

Tuning moves the inner temperatures during the first half of the thermalization, to equal steps of the cumulative
rejection ``Lambda(b) = sum of r_i`` (the "communication barrier"): then all pairs are refused equally often, which
minimizes the ideal round-trip time ``2 R (1 + sum_i r_i / (1 - r_i))`` swaps (standard results on non-reversible
parallel tempering, associated with Syed, Bouchard-Cote, Deligiannidis and Doucet; reconstructed).
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass

import numpy as np

from lft.chain import Counters
from lft.errors import DomainError, InputError
from lft.groups import Groups
from lft.implementations import AUTO, choose
from lft.observables import measure_all
from lft.protocols import Info, State
from lft.rng import Key, Stream
from lft.updaters import start

MAX_SLOTS = 1024
TUNINGS = 5
"""The ladder is tuned after 1/32, 1/16, 1/8, 1/4 and 1/2 of the thermalization."""
MIN_TUNING_SWAPS = 64
"""Fewest swaps of a thermalization that tunes: the first tuning then has seen two of them."""


@dataclass(frozen=True)
class Ladder:
    """The inverse temperatures of a tempering run.

    Parameters
    ----------
    inverse_temperatures : tuple of float
        Factors b of the whole action or of one coupling, increasing, at least 2; b = 1 is the theory itself.
    coupling : str
        Name of the coupling that b multiplies; ``""``: the whole action.
    swap_every : int
        Updates between two swaps, >= 1.
    is_tuned : bool
        Whether thermalization moves the inner temperatures.
    target : float, optional
        The b whose configurations are saved.  Default: 1 if it is in the ladder, else the last one.

    Examples
    --------
    >>> from lft.tempering import Ladder
    >>> Ladder((0.5, 0.7, 1.0)).target_slot
    2
    """

    inverse_temperatures: tuple[float, ...]
    coupling: str = ""
    swap_every: int = 1
    is_tuned: bool = False
    target: float | None = None

    def __post_init__(self):
        b = self.inverse_temperatures
        if len(b) < 2 or len(b) > MAX_SLOTS:
            raise InputError(f"{len(b)} inverse temperatures: valid are 2 to {MAX_SLOTS}")
        if not all(math.isfinite(x) and x >= 0 for x in b):
            raise InputError(f"inverse_temperatures = {list(b)}: valid are finite numbers >= 0")
        if any(low >= high for low, high in itertools.pairwise(b)):
            raise InputError(f"inverse_temperatures = {list(b)}: valid are increasing numbers")
        if isinstance(self.swap_every, bool) or not isinstance(self.swap_every, int) or self.swap_every < 1:
            raise InputError(f"swap_every = {self.swap_every!r}: valid is an integer >= 1")
        if self.target is not None and self.target not in b:
            raise InputError(f"target = {self.target}: valid is one of the inverse temperatures {list(b)}")
        if self.is_tuned and self.target_slot not in (0, len(b) - 1):
            raise InputError(
                f"target = {b[self.target_slot]}: tuning moves the inner temperatures, so the target must be the first "
                f"({b[0]}) or the last one ({b[-1]})"
            )

    @property
    def target_slot(self):
        """Number of the slot whose configurations are saved."""
        target = self.target if self.target is not None else 1.0
        b = self.inverse_temperatures
        return b.index(target) if target in b else len(b) - 1

    def check(self, action, schedule):
        """Raise InputError unless the ladder suits an action and a schedule."""
        if self.coupling:
            valid = [name for name, value in action.couplings.items() if name != "unit" and value is not None]
            if self.coupling not in valid:
                raise InputError(f"coupling {self.coupling!r}: action {action.name} has {', '.join(valid)}")
        elif action.kind == "real" and self.inverse_temperatures[0] == 0:
            raise InputError("inverse temperature 0 of a real field: valid is > 0, else exp(-b S) cannot be normalized")
        if self.is_tuned and schedule.thermalize < MIN_TUNING_SWAPS * self.swap_every:
            raise InputError(
                f"thermalize = {schedule.thermalize}: tuning needs at least {MIN_TUNING_SWAPS} swaps, "
                f"{MIN_TUNING_SWAPS * self.swap_every} updates"
            )

    def scaled(self, action, b):
        """The action of a slot."""
        if not self.coupling:
            return action.scaled(b)
        if b == 1:
            return action
        value = action.couplings[self.coupling]
        return action.with_couplings(**{self.coupling: _map(value, lambda g: b * g)})


def _map(value, function):
    if isinstance(value, dict):
        return {key: function(g) for key, g in value.items()}
    if isinstance(value, tuple):
        return tuple(function(g) for g in value)
    return function(value)


def contract(coupling, operator):
    """g O: the full contraction of a coupling of any form with its operator, exactly summed."""
    if coupling is None:
        return 0.0
    if isinstance(coupling, dict):
        return math.fsum(g * operator[key] for key, g in coupling.items())
    if hasattr(coupling, "multiply"):
        return math.fsum(coupling.multiply(operator).tocsr().data)
    return math.fsum(np.ravel(np.asarray(coupling, dtype=float) * np.asarray(operator, dtype=float)))


def acceptance(gain):
    """min(1, exp(gain)) element by element, to about 1e-12 and the same bits on every processor.

    Tuning depends on it, and library exponentials differ between instruction sets in the last bit.
    """
    x = np.maximum(np.minimum(gain, 0.0), -100.0) / 1024  # |x| < 0.1: seven terms of the series are enough
    series = np.ones_like(x)
    for k in range(8, 0, -1):
        series = 1.0 + series * x / k
    for _ in range(10):
        series = series * series
    return np.where(gain > -100.0, series, 0.0)


def tuned(b, rejection):
    """The ladder with equal steps of cumulative rejection; its ends stay.

    Parameters
    ----------
    b : sequence of float, shape (R,)
    rejection : sequence of float, shape (R-1,)
        Mean rejection 1 - min(1, exp(..)) of each pair of neighbors.

    Examples
    --------
    >>> from lft.tempering import tuned
    >>> tuned([0.0, 0.5, 1.0], [0.125, 0.625])
    [0.0, 0.7, 1.0]
    """
    # a floor keeps temperatures apart where nothing is ever refused
    floor = max(1e-3, 0.02 * max(rejection))
    steps = [max(float(r), floor) for r in rejection]
    share = sum(steps) / len(steps)
    out, pair, before = [float(b[0])], 0, 0.0
    for k in range(1, len(b) - 1):
        while before + steps[pair] < k * share and pair < len(steps) - 1:
            before += steps[pair]
            pair += 1
        part = min(max((k * share - before) / steps[pair], 0.0), 1.0)
        out.append(float(b[pair] + part * (b[pair + 1] - b[pair])))
    out.append(float(b[-1]))
    # rounding may not merge neighbors
    is_increasing = all(low < high for low, high in itertools.pairwise(out))
    return out if is_increasing else [float(x) for x in b]


class Journeys:
    """Which replica is where, and how long it takes from the hot end to the cold one and back.

    A replica is a configuration that moves through the slots.  A round trip ends when it comes back to slot 0 after a
    visit to the last slot; its duration counts from the previous such arrival.
    """

    ARRAYS = ("replica", "direction", "since", "trips", "trip_sum", "trip_squares", "up", "down")

    def __init__(self, n):
        self.replica = np.arange(n)  # by slot
        self.reset()

    def reset(self):
        """Forget all trips; the replicas stay where they are."""
        n = len(self.replica)
        self.direction = np.zeros(n, np.int64)  # by replica: +1 was last at the hot end, -1 at the cold end, 0 neither
        self.since = np.full(n, -1)  # by replica: last arrival from the cold end at the hot one
        self.trips, self.trip_sum, self.trip_squares = (np.zeros(n, np.int64) for _ in range(3))
        self.up, self.down = np.zeros(n, np.int64), np.zeros(n, np.int64)  # by slot: visits of either direction

    def move(self, pairs, t):
        """The pairs (slot, slot + 1) traded at update t."""
        r = self.replica
        r[pairs], r[pairs + 1] = r[pairs + 1], r[pairs].copy()
        hot, cold = r[0], r[-1]
        if self.direction[hot] == -1:
            if self.since[hot] >= 0:
                duration = t - self.since[hot]
                self.trips[hot] += 1
                self.trip_sum[hot] += duration
                self.trip_squares[hot] += duration * duration
            self.since[hot] = t
        self.direction[hot], self.direction[cold] = 1, -1
        here = self.direction[r]
        self.up += here == 1
        self.down += here == -1


@dataclass
class _Slot:
    """One temperature on this rank: loops, configuration, and whether field and packed copy are up to date."""

    index: int
    phi: object
    key: Key
    action: object = None
    loops: object = None
    is_packed: bool = False  # the loops hold a packed copy of their own
    weights: tuple = ()  # of a packed copy's sums in E
    is_untouched: bool = False  # the packed copy is up to date
    is_stored: bool = True  # the field is up to date

    def put(self, action, loops):
        """Take the loops of another action."""
        self.store()
        if self.loops is not None:
            self.loops.close()
        self.action, self.loops, self.is_packed, self.is_untouched = action, loops, hasattr(loops, "exchange"), False

    def update(self, t, n):
        """``n`` updates from ``t`` on; a packed copy is not written back before somebody needs the field."""
        step = self.loops.update if self.is_packed else self.loops.advance
        _, info = step(State(self.phi, t), self.key, n, self.is_untouched)
        # a resident copy is unpacked by whoever reads the field
        self.is_untouched, self.is_stored = True, not self.is_packed or self.phi.resident is not None
        return info

    def store(self):
        """Bring the field up to date."""
        if not self.is_stored:
            self.loops.store()
            self.is_stored = True

    def show(self, t):
        """Make the field ready to be measured: a packed copy measures itself, also after a swap has brought it here,
        so that the last bits of sums do not depend on where that came from."""
        if self.is_packed:
            self.update(t, 0)
        self.store()

    def trade(self, other):
        """Exchange configurations with another slot of this rank."""
        if self.is_packed and type(other.loops) is type(self.loops) and self.is_untouched and other.is_untouched:
            self.loops.exchange(other.loops)
            self.is_stored, other.is_stored = other.is_stored, self.is_stored
            return
        for slot in (self, other):
            slot.store()
            slot.is_untouched = False
        kept = self.phi.data.copy()
        self.phi.data[...] = other.phi.data
        other.phi.data[...] = kept


class Tempering:
    """Chains at all temperatures of a ladder and their swaps, with the face of a :class:`lft.chain.Chain`.

    Parameters
    ----------
    action, updater, geometry : objects
        The theory (b = 1), how to update it, where it lives.
    key : Key
        Of the run: slot i draws from ``Key(seed, replica=i)``.
    schedule : Schedule
    ladder : Ladder
    observables : list
        Measured at every temperature with the theory's own action (``action_density`` is S/V, not b S/V).
    comm : mpi4py communicator, optional
        Any number of ranks: :class:`lft.groups.Groups` says who does what.
    kernel : str
        As ``[update] kernel``.

    Examples
    --------
    >>> from lft.actions import Ising
    >>> from lft.chain import Schedule
    >>> from lft.geometry import Lattice
    >>> from lft.observables import default_observables
    >>> from lft.rng import Key
    >>> from lft.tempering import Ladder, Tempering
    >>> from lft.updaters import Metropolis
    >>> action, lattice = Ising(K=0.5), Lattice((8, 8))
    >>> observables, ladder = default_observables(action, lattice), Ladder((0.5, 0.75, 1.0))
    >>> chain = Tempering(action, Metropolis(), lattice, Key(1), Schedule(10, 50, 5), ladder, observables)
    >>> chain.start("hot")
    >>> chain.advance(60).proposed
    11520
    >>> chain.measure()["bond_x"].shape, int(chain.proposed.sum())
    ((3,), 50)
    """

    leading_axes = ("temperature",)

    extras_group = "tempering"

    def __init__(self, action, updater, geometry, key, schedule, ladder, observables, comm=None, kernel=AUTO):
        ladder.check(action, schedule)
        n = len(ladder.inverse_temperatures)
        self.action, self.updater, self.key = action, updater, key
        self.schedule, self.ladder, self.observables = schedule, ladder, observables
        self.domain = Groups(comm, n)
        self.t, self.counters = 0, Counters()
        self.inverse_temperatures = np.array(ladder.inverse_temperatures)
        self.journeys = Journeys(n)
        self.proposed, self.accepted = np.zeros(n - 1, np.int64), np.zeros(n - 1, np.int64)
        self.acceptance_sum = np.zeros(n - 1)
        self.counts = np.zeros((n, 2), np.int64)  # proposals and acceptances by slot since the last measurement
        self._local = np.zeros((n, 2), np.int64)
        self._wanted = kernel
        self._slots = [_Slot(i, self._new_field(geometry), Key(key.seed, i)) for i in self.domain.members]
        self._choose([kernel] * n)
        every, events = ladder.swap_every, (*self._tunings(), schedule.thermalize)
        self._events = sorted(t for t in set(events) if t % every)  # batches end at swaps anyway

    def _new_field(self, geometry):
        try:
            phi = self.action.new_field(geometry, self.domain.within)
        except DomainError as error:
            n, ranks = self.domain.n_members, self.domain.n_ranks
            raise DomainError(f"{n} temperatures on {ranks} ranks: {error}") from None
        self.action.bind(phi)
        return phi

    def _choose(self, wanted):
        """Loops of the wanted names for the present temperatures (collective)."""
        names = [self.ladder.coupling] if self.ladder.coupling else list(self.action.couplings)
        tempered = {name: self.action.couplings[name] for name in names}
        for slot in self._slots:
            if slot.action is not None and slot.action is not self.action:
                slot.action.release(slot.phi)
            action = self.ladder.scaled(self.action, float(self.inverse_temperatures[slot.index]))
            slot.put(action, choose(action, self.updater, slot.phi, wanted[slot.index]))
            if slot.is_packed:
                slot.weights = slot.loops.weights(tempered)
        names = self.domain.merge({slot.index: slot.loops.name for slot in self._slots})
        self.kernels = [names[i] for i in range(len(names))]

    @property
    def kernel(self):
        """The names of the loops in use."""
        return ", ".join(dict.fromkeys(self.kernels))

    @property
    def state(self):
        """Update number, and a field of this rank: its values are current after :meth:`measure` alone."""
        return State(self._slots[0].phi, self.t)

    # ---- running
    def start(self, name):
        """Fill all fields."""
        for slot in self._slots:
            start(slot.phi, name, slot.key)
            slot.is_untouched = False

    def advance(self, n=1, is_untouched=False):
        """``n`` updates of every slot, and the swaps that fall into them."""
        began, end = time.perf_counter(), self.t + n
        every, thermalize = self.ladder.swap_every, self.schedule.thermalize
        before = self._local.sum(axis=0)
        while self.t < end:
            while self._events and self._events[0] <= self.t:
                self._events.pop(0)
            stop = min(end, self.t + every - self.t % every, *self._events[:1])
            for slot in self._slots:
                info = slot.update(self.t, stop - self.t)
                self._local[slot.index] += (info.proposed, info.accepted)
            self.t = stop
            if stop % every == 0:
                self._swap()
            if stop in self._tunings():
                self._tune()
            if stop == thermalize:
                self._reset()
        seconds = time.perf_counter() - began
        self.counters.seconds += seconds
        proposed, accepted = (int(v) for v in self._local.sum(axis=0) - before)
        return Info(proposed, accepted, 0.0, seconds)

    def _tunings(self):
        """Updates after which the ladder is tuned."""
        if not self.ladder.is_tuned:
            return ()
        return tuple(self.schedule.thermalize >> k for k in range(TUNINGS, 0, -1))

    def _energy(self, slot):
        """E of a configuration: exact, the same on every rank of the group (collective)."""
        if slot.is_packed:
            return math.fsum(w * n for w, n in zip(slot.weights, slot.loops.sums(), strict=True))
        if self.ladder.coupling:
            name = self.ladder.coupling
            return contract(self.action.couplings[name], self.action.operators(slot.phi)[name])
        return self.action.S(slot.phi)

    def _swap(self):
        b, n = self.inverse_temperatures, len(self.inverse_temperatures)
        table = np.zeros((n, 1))
        for slot in self._slots:
            table[slot.index] = self._energy(slot)
        E = self.domain.share(table)[:, 0]
        first = (self.t // self.ladder.swap_every) % 2
        pairs = np.arange(first, n - 1, 2)
        if not len(pairs):
            self.journeys.move(pairs, self.t)
            return
        gain = (b[pairs] - b[pairs + 1]) * (E[pairs] - E[pairs + 1])
        is_accepted = -gain < self.key.fill("exponential", first, 2, len(pairs), self.t, Stream.SWAP)[0]
        self.proposed[pairs] += 1
        self.accepted[pairs] += is_accepted
        self.acceptance_sum[pairs] += acceptance(gain)
        trading = pairs[is_accepted]
        here = {slot.index: slot for slot in self._slots}
        for i in trading.tolist():
            low, high = here.get(i), here.get(i + 1)
            if low is not None and high is not None:
                low.trade(high)
            elif low is not None or high is not None:
                slot, other = (low, i + 1) if low is not None else (high, i)
                slot.store()
                self.domain.trade(slot.phi.data, slot.index, other)
                slot.is_untouched = False
        self.journeys.move(trading, self.t)

    def _tune(self):
        n = np.maximum(self.proposed, 1)  # a pair that was not tried yet counts as one that is always refused
        self.inverse_temperatures = np.array(tuned(self.inverse_temperatures, 1 - self.acceptance_sum / n))
        self._choose([self._wanted] * len(self.kernels))
        self._reset()

    def _reset(self):
        """Forget the swaps so far: the ladder is another one, or the measurement begins."""
        self.proposed[:] = self.accepted[:] = 0
        self.acceptance_sum[:] = 0
        self.journeys.reset()

    def close(self):
        """Free what is held of the MPI library."""
        for slot in self._slots:
            slot.store()
            slot.loops.close()
            slot.phi.domain.close()
        self.domain.close()

    # ---- measuring
    def collect_counts(self):
        """Bring the ranks' local counts into the global ones (collective)."""
        counts = self.domain.sum_int(self._local.copy())
        self._local[:] = 0
        self.counts += counts
        proposed, accepted = (int(v) for v in counts.sum(axis=0))
        self.counters.proposed_total += proposed
        self.counters.accepted_total += accepted

    def measure(self):
        """Observables at all temperatures, first axis the slot, and ``replica``: which one is where (collective)."""
        self.collect_counts()
        rows = {}
        for slot in self._slots:
            slot.show(self.t)
            values = measure_all(self.observables, self.action, State(slot.phi, self.t))
            rows[slot.index] = {name: np.asarray(value, dtype=float) for name, value in values.items()}
        names = list(rows[self._slots[0].index])
        shapes = [rows[self._slots[0].index][name].shape for name in names]
        table = np.zeros((len(self.inverse_temperatures), sum(math.prod(s) for s in shapes)))
        for index, row in rows.items():
            table[index] = np.concatenate([np.zeros(0), *(row[name].ravel() for name in names)])
        table, out, begin = self.domain.share(table), {}, 0
        for name, shape in zip(names, shapes, strict=True):
            out[name] = table[:, begin : begin + math.prod(shape)].reshape(-1, *shape)
            begin += math.prod(shape)
        proposed, accepted = self.counts.T
        out["acceptance"] = np.where(proposed > 0, accepted / np.maximum(proposed, 1), np.nan)
        out["replica"] = self.journeys.replica.astype(float)
        self.counts[:] = 0
        return out

    # ---- checkpoints
    def _row(self, i, pack):
        slot = next((s for s in self._slots if s.index == i), None)
        row = None
        if slot is not None:
            slot.store()
            array = slot.phi.array()
            row = None if array is None else pack(slot.phi.kind, array)
        return self.domain.collect(i, row)

    def rows(self, pack):
        """``pack(kind, array)`` of the configurations of all slots on rank 0, None elsewhere (collective)."""
        rows = [self._row(i, pack) for i in range(len(self.inverse_temperatures))]
        return rows if self.domain.rank == 0 else None

    def target_row(self, pack):
        """``pack(kind, array)`` of the target's configuration on rank 0, None elsewhere (collective)."""
        return self._row(self.ladder.target_slot, pack)

    def extras(self):
        """What a checkpoint holds beside fields and counters: ladder, swaps, journeys (arrays by slot or replica)."""
        return {
            "inverse_temperatures": self.inverse_temperatures,
            "counts": self.counts,
            "proposed": self.proposed,
            "accepted": self.accepted,
            "acceptance_sum": self.acceptance_sum,
            **{name: getattr(self.journeys, name) for name in Journeys.ARRAYS},
            "target": self.ladder.target_slot,
            "coupling": self.ladder.coupling,
            "kernels": self.kernels,
        }

    def restore(self, t, counters, extras, arrays):
        """Continue from a checkpoint (collective).

        Parameters
        ----------
        extras : dict
            As :meth:`extras` gave it.
        arrays : list of ndarray or None
            The configurations of all slots in storage order, on rank 0.
        """
        self.t, self.counters = t, counters
        for name in ("inverse_temperatures", "counts", "proposed", "accepted", "acceptance_sum"):
            getattr(self, name)[...] = extras[name]
        for name in Journeys.ARRAYS:
            getattr(self.journeys, name)[...] = extras[name]
        self._choose([str(name) for name in extras["kernels"]])
        for i in range(len(self.inverse_temperatures)):
            whole = self.domain.deliver(i, None if arrays is None else arrays[i])
            slot = next((s for s in self._slots if s.index == i), None)
            if slot is not None:
                slot.phi.values[...] = slot.phi.domain.scatter(whole, slot.phi.data.dtype)
                slot.phi.exchange()
                slot.is_untouched = False
