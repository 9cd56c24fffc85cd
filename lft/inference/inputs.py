"""Time-dependent inputs I_i(t): columns of a design that every unit weighs in its own way.

    I_i(a) = sum_q u_iq x_q(a)

A design is a list of terms; bound to the trials of a recording it gives the columns ``x_q`` of any stretch of bins, so
that no array of all bins is needed.  Rows are the bins of all trials in sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lft.errors import InputError
from lft.inference.basis import bspline, make_basis

MAX_CELLS = 2**22
"""Numbers in the columns of inputs up to which the file of a fit keeps them."""


@dataclass(frozen=True)
class EventLocked:
    """The response to events: ``x_m(a) = sum_e b_m(a - e)``, e the bin of an event, from ``start`` to ``stop`` bins.

    Parameters
    ----------
    events : sequence of sequences of int
        Bins of the events, one sequence per trial, counted from the start of the trial; events whose window lies
        partly or wholly outside of the trial count as far as it overlaps.
    start, stop : int
        The window, bins relative to the event, start <= lag < stop; negative before the event.
    size : int
        Number of B-splines over the window; as many as bins gives one weight per bin (a peri-event histogram).
    name : str
    """

    events: tuple
    start: int
    stop: int
    size: int
    name: str = "event"

    def __post_init__(self):
        if not self.start < self.stop:
            raise InputError(f"input {self.name}: window {self.start} to {self.stop} bins; valid is start < stop")
        if not 1 <= self.size <= self.stop - self.start:
            raise InputError(
                f"input {self.name}: {self.size} functions on a window of {self.stop - self.start} bins; valid is "
                "1 to as "
                "many as bins"
            )
        object.__setattr__(self, "events", tuple(np.asarray(e, np.int64) for e in self.events))

    def bind(self, lengths, n_fit):
        """(names, function (start, stop) -> columns)."""
        if len(self.events) != len(lengths):
            raise InputError(
                f"input {self.name}: events of {len(self.events)} trials, the recording has {len(lengths)}"
            )
        if not any(len(e) for e in self.events):
            raise InputError(f"input {self.name}: no event at all")
        if not any(
            ((e + self.stop > 0) & (e + self.start < n)).any() for e, n in zip(self.events, lengths, strict=True)
        ):
            first = next(e[0] for e in self.events if len(e))
            raise InputError(
                f"input {self.name}: no event reaches into the recording of {sum(lengths)} bins; the first is in bin "
                f"{first}: valid are times in seconds on the clock of the recording"
            )
        n = self.stop - self.start
        table = np.eye(n) if self.size == n else make_basis("bspline", self.size, n).matrix
        origins = np.concatenate([[0], np.cumsum(lengths)])

        def columns(start, stop):
            out = np.zeros((stop - start, self.size))
            for events, low, high in zip(self.events, origins[:-1], origins[1:], strict=True):
                a, b = max(start, low), min(stop, high)
                if a >= b:
                    continue
                for e in events + low:
                    first, last = max(a, e + self.start), min(b, e + self.stop)
                    if first < last:
                        out[first - start : last - start] += table[first - e - self.start : last - e - self.start]
            return out

        return [f"{self.name}[{m}]" for m in range(self.size)], columns


@dataclass(frozen=True)
class Smooth:
    """Slow changes: cubic B-splines over the fitted stretch (``per_trial``: over the time within a trial).

    One function is left out and the others are taken minus their mean over the fitted rows, so that h stays the mean
    field: ``size`` functions give ``size - 1`` columns.  Bins after the fitted stretch have the value of its last bin.
    With ``steps`` the functions are constant on so many equal parts, at their value in the middle.
    """

    size: int
    per_trial: bool = False
    name: str = "smooth"
    steps: int | None = None

    def __post_init__(self):
        if isinstance(self.size, bool) or not isinstance(self.size, int | np.integer) or self.size < 2:
            raise InputError(f"input {self.name}: {self.size!r} functions; valid is an integer >= 2")

    def bind(self, lengths, n_fit):
        """(names, function (start, stop) -> columns)."""
        origins = np.concatenate([[0], np.cumsum(lengths)])
        high = float(max(lengths) if self.per_trial else n_fit) - 1

        def raw(start, stop):
            a = np.arange(start, stop)
            if self.per_trial:
                a = a - origins[np.searchsorted(origins, a, side="right") - 1]
            if self.steps is not None:
                part = np.minimum(a * self.steps // int(high + 1), self.steps - 1)
                a = (part + 0.5) * (high + 1) / self.steps - 0.5
            return bspline(a.astype(float), 0.0, max(high, 1.0), self.size)[:, :-1]

        step = 65536
        mean = sum(raw(a, min(a + step, n_fit)).sum(axis=0) for a in range(0, n_fit, step)) / n_fit
        return [f"{self.name}[{m}]" for m in range(self.size - 1)], lambda start, stop: raw(start, stop) - mean


@dataclass(frozen=True)
class Given:
    """Columns that the user gives, one array (T, n) per trial."""

    columns: tuple
    name: str = "covariate"

    def bind(self, lengths, n_fit):
        """(names, function (start, stop) -> columns)."""
        arrays = [np.asarray(c, float) for c in self.columns]
        arrays = [c[:, None] if c.ndim == 1 else c for c in arrays]
        if [len(c) for c in arrays] != list(lengths):
            raise InputError(
                f"input {self.name}: arrays of {[len(c) for c in arrays][:5]} bins, the trials have {list(lengths)[:5]}"
            )
        whole = np.concatenate(arrays)
        if not np.isfinite(whole).all():
            bad = np.argwhere(~np.isfinite(whole))[0]
            raise InputError(
                f"input {self.name}: column {bad[1]}, bin {bad[0]} is {whole[tuple(bad)]}; valid is finite"
            )
        constant = np.flatnonzero(np.ptp(whole[:n_fit], axis=0) == 0)
        if len(constant):
            raise InputError(
                f"input {self.name}: column {constant[0]} is {whole[0, constant[0]]:g} in all {n_fit} training bins, "
                "as the constant field of each unit is; valid are columns that change"
            )
        return [f"{self.name}[{m}]" for m in range(whole.shape[1])], lambda start, stop: whole[start:stop]


@dataclass(frozen=True)
class InputDesign:
    """A list of terms.

    Examples
    --------
    >>> from lft.inference.inputs import EventLocked, InputDesign, Smooth
    >>> design = InputDesign([EventLocked([[2, 7]], 0, 3, 3), Smooth(3)])
    >>> bound = design.bind([10], 10)
    >>> bound.names
    ['event[0]', 'event[1]', 'event[2]', 'smooth[0]', 'smooth[1]']
    >>> bound.columns(0, 6)[:, :3].tolist()[2:5]
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    terms: list = field(default_factory=list)

    def bind(self, lengths, n_fit):
        """The columns on trials of these lengths (bins), of which the first ``n_fit`` rows are fitted."""
        parts = [term.bind(list(lengths), int(n_fit)) for term in self.terms]
        names = [name for part in parts for name in part[0]]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise InputError(f"input {twice!r} is given twice: give each term a name of its own")
        return BoundInputs(names, [part[1] for part in parts])


class BoundInputs:
    """Columns of a design on one recording: ``names`` and :meth:`columns`."""

    def __init__(self, names=(), functions=()):
        self.names, self._functions = list(names), list(functions)

    @property
    def size(self):
        return len(self.names)

    def columns(self, start, stop):
        """(stop - start, size) float array of the rows start <= row < stop."""
        if not self._functions:
            return np.zeros((stop - start, 0))
        return np.concatenate([f(start, stop) for f in self._functions], axis=1)
