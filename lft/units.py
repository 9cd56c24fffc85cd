"""Lengths and durations as the user writes them: ``"42 um"``, ``"20 ms"``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lft.errors import InputError

UNITS = {
    "m": ("length", 1.0),
    "cm": ("length", 1e-2),
    "mm": ("length", 1e-3),
    "um": ("length", 1e-6),
    "nm": ("length", 1e-9),
    "min": ("time", 60.0),
    "h": ("time", 3600.0),
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "us": ("time", 1e-6),
}
_PATTERN = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Z\u00b5\u03bc]+)\s*")


@dataclass(frozen=True)
class Quantity:
    """A positive number with a unit.

    Examples
    --------
    >>> from lft.units import parse_quantity
    >>> q = parse_quantity("20 ms")
    >>> q.si, str(q)
    (0.02, '20 ms')
    """

    value: float
    unit: str

    @property
    def si(self):
        """Value in meters or seconds."""
        return self.value / 1000.0 if self.unit in ("ms", "mm") else self.value * UNITS[self.unit][1]

    @property
    def dimension(self):
        """``"length"`` or ``"time"``."""
        return UNITS[self.unit][0]

    def scaled(self, factor):
        """The quantity times a number, in the same unit."""
        return Quantity(self.value * factor, self.unit)

    def __str__(self):
        return f"{self.value:g} {self.unit}"


def parse_quantity(text, dimension=None, name="quantity"):
    """Read ``"20 ms"``; raises InputError unless it is a positive finite number with a known unit.

    ``dimension`` (``"length"`` or ``"time"``) restricts the units, ``name`` is what the message calls the value.
    """
    valid = [u for u, (d, _) in UNITS.items() if dimension in (None, d)]
    message = f"{name} = {text!r}: valid is a positive number with a unit ({', '.join(valid)}), such as "
    message += '"20 ms"' if dimension == "time" else '"42 um"'
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InputError(message)
    value, unit = float(match.group(1)), match.group(2).replace("\u00b5", "u").replace("\u03bc", "u")
    if unit not in valid or not math.isfinite(value) or value <= 0:
        raise InputError(message)
    return Quantity(value, unit)
