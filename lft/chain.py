"""The loop: update, count, measure, save, checkpoint.

Order inside a run: update, t+1, measure (after thermalization), save, checkpoint.  The chain is a deterministic
function of (action, updater, schedule, key); clocks decide only when a checkpoint is written.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field

import numpy as np

from lft.errors import InputError
from lft.implementations import AUTO, choose
from lft.observables import measure_all
from lft.protocols import State

BATCH_S = 0.2
"""Longest time spent in updates before signals and the clock are looked at, in seconds."""


@dataclass(frozen=True)
class Schedule:
    """How many updates, and what happens when.

    Parameters
    ----------
    thermalize : int
        Updates before the first measurement, >= 0.
    updates : int
        Updates after thermalization, >= 1.
    measure_every, save_every : int
        Interval of measurements (>= 1) and of saved configurations (0 = none), in updates after thermalization.
    """

    thermalize: int = 0
    updates: int = 1
    measure_every: int = 1
    save_every: int = 0

    def __post_init__(self):
        for name, low in (("thermalize", 0), ("updates", 1), ("measure_every", 1), ("save_every", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise InputError(f"{name} = {value!r}: valid is an integer >= {low}")

    @property
    def total(self):
        """Updates of the whole run, thermalization included."""
        return self.thermalize + self.updates

    def measures(self, t):
        """``t > thermalize and (t - thermalize) % measure_every == 0``."""
        return t > self.thermalize and (t - self.thermalize) % self.measure_every == 0

    def next_event(self, t):
        """The first update after ``t`` that ends with a measurement, a saved configuration, or the run."""
        since = t - self.thermalize
        periods = [p for p in (self.measure_every, self.save_every) if p]
        if since < 0:
            return min(self.thermalize + min(periods), self.total)
        return min(*(t + p - since % p for p in periods), self.total)

    def saves(self, t):
        """``save_every and t > thermalize and (t - thermalize) % save_every == 0``."""
        return bool(self.save_every) and t > self.thermalize and (t - self.thermalize) % self.save_every == 0


@dataclass
class Counters:
    """Global counts that a checkpoint carries along."""

    proposed: int = 0  # since the last measurement
    accepted: int = 0
    proposed_total: int = 0  # since the start
    accepted_total: int = 0
    seconds: float = 0.0  # spent in updates


@dataclass
class Chain:
    """A Markov chain and its measurements.

    Examples
    --------
    >>> from lft.actions import Ising
    >>> from lft.chain import Chain, Schedule
    >>> from lft.geometry import Lattice
    >>> from lft.observables import default_observables
    >>> from lft.protocols import State
    >>> from lft.rng import Key
    >>> from lft.updaters import HeatBath, start
    >>> action, lattice, key = Ising(K=0.3), Lattice((8, 8)), Key(1)
    >>> phi = action.new_field(lattice)
    >>> start(phi, "hot", key)
    >>> chain = Chain(action, HeatBath(), State(phi, 0), key, Schedule(10, 50, 5), default_observables(action, lattice))
    >>> sum(1 for sample in chain.run())
    10
    """

    action: object
    updater: object
    state: State
    key: object
    schedule: Schedule
    observables: list
    counters: Counters = field(default_factory=Counters)
    kernel: str = AUTO
    leading_axes: tuple[str, ...] = ()
    extras_group: str = ""
    _local: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))

    def __post_init__(self):
        self._implementation = choose(self.action, self.updater, self.state.phi, self.kernel)
        self.kernel = self._implementation.name

    @property
    def domain(self):
        """Who the ranks of this chain are."""
        return self.state.phi.domain

    def advance(self, n=1, is_untouched=False):
        """``n`` updates in one go; ``is_untouched``: the field is as the last call left it."""
        self.state, info = self._implementation.advance(self.state, self.key, n, is_untouched)
        self._local += (info.proposed, info.accepted)
        self.counters.seconds += info.seconds
        return info

    def close(self):
        """Free what the chain holds of the MPI library; a later update opens it again."""
        self._implementation.close()
        self.state.phi.domain.close()

    def collect_counts(self):
        """Bring the ranks' local counts into the global counters (collective)."""
        proposed, accepted = (int(v) for v in self.state.phi.domain.sum_int(self._local))
        self._local[:] = 0
        c = self.counters
        c.proposed, c.accepted = c.proposed + proposed, c.accepted + accepted
        c.proposed_total, c.accepted_total = c.proposed_total + proposed, c.accepted_total + accepted

    def rows(self, pack):
        """``[pack(kind, array)]`` of the configuration on rank 0, None elsewhere (collective)."""
        array = self.state.phi.array()
        return None if array is None else [pack(self.state.phi.kind, array)]

    def target_row(self, pack):
        """``pack(kind, array)`` of the configuration to be saved on rank 0, None elsewhere (collective)."""
        rows = self.rows(pack)
        return None if rows is None else rows[0]

    def extras(self):
        """What a checkpoint holds beside the state of a plain chain: nothing."""
        return {}

    def measure(self):
        """All observables of the present configuration (collective)."""
        self.collect_counts()
        values = measure_all(self.observables, self.action, self.state)
        values["acceptance"] = self.counters.accepted / self.counters.proposed if self.counters.proposed else np.nan
        self.counters.proposed = self.counters.accepted = 0
        return values

    def run(self, until=None):
        """Iterate over the measurements up to update ``until`` (default: the end of the schedule)."""
        until = self.schedule.total if until is None else until
        while self.state.t < until:
            self.advance(min(until, self.schedule.next_event(self.state.t)) - self.state.t)
            if self.schedule.measures(self.state.t):
                yield self.measure()


class Interrupt:
    """Context in which SIGTERM, SIGINT and SIGUSR1 ask for a clean stop instead of killing the process.

    Batch systems announce the end of a job by such a signal; the first one makes the run write a checkpoint after
    the update in progress and exit with status 0, a second SIGINT interrupts at once.
    """

    SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")

    def __init__(self):
        self.received = None
        self._old = {}

    def __enter__(self):
        for name in self.SIGNALS:
            if hasattr(signal, name):
                number = getattr(signal, name)
                try:
                    self._old[number] = signal.signal(number, self._handle)
                except ValueError:  # not in the main thread: the program that embeds us keeps its handlers
                    return self
        return self

    def _handle(self, number, frame):
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = number

    def __exit__(self, *exc):
        for number, handler in self._old.items():
            signal.signal(number, handler)


def drive(chain, recorder, checkpoint_s, progress=None):
    """Run a chain to the end of its schedule, recording and checkpointing; returns True if it was interrupted.

    Parameters
    ----------
    chain : Chain or lft.tempering.Tempering
    recorder : lft.archive.Recorder
        Receives measurements and configurations and writes checkpoints.
    checkpoint_s : float
        Seconds between checkpoints; a checkpoint is not repeated before 20 times its own duration has passed.
    progress : callable, optional
        Called as ``progress(t, total, seconds)`` after each update on rank 0.
    """
    domain, schedule = chain.domain, chain.schedule
    due = time.monotonic() + checkpoint_s
    batch, is_untouched = 1, False
    with Interrupt() as interrupt:
        while chain.state.t < schedule.total:
            n = min(batch, schedule.next_event(chain.state.t) - chain.state.t)
            info = chain.advance(n, is_untouched)
            is_untouched = True
            t = chain.state.t
            if schedule.measures(t):
                recorder.add(t, chain.measure())
            if schedule.saves(t):
                recorder.add_configuration(t, chain)
            if progress is not None and domain.rank == 0:
                progress(t, schedule.total, chain.counters.seconds)
            # rank 0's clock and buffer decide about a checkpoint and about the length of the next batch, any rank's
            # signal stops the run; the batch is short enough that a signal is answered at once
            is_root = domain.rank == 0
            wants = is_root and (time.monotonic() > due or recorder.is_full)
            suits = int(BATCH_S * n / max(info.seconds, 1e-9)) if is_root else 0
            stop, write, batch = _agree(domain, interrupt.received is not None, wants, min(max(suits, is_root), 10**6))
            if stop:
                break
            if write and t < schedule.total:
                started = time.monotonic()
                recorder.checkpoint(chain)
                now = time.monotonic()
                due = now + max(checkpoint_s, 20 * (now - started))
        recorder.checkpoint(chain)
    return chain.state.t < schedule.total


def _agree(domain, *flags):
    if domain.comm is None:
        return flags
    return tuple(int(v) for v in domain.sum_int(np.array(flags, np.int64)))
