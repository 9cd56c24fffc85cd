"""The sections ``[tempering]`` and ``[anneal]`` of a configuration."""

from __future__ import annotations

from lft.annealing import MAX_RESTARTS, SCHEDULES, Cooling
from lft.errors import InputError
from lft.sections import Section, boolean, choice, integer, number, numbers
from lft.tempering import MAX_SLOTS, Ladder

MAX_UPDATES = 2**47 - 1  # the random numbers count updates in 48 bits


def ladder_section(section, action, schedule):
    """The ladder of ``[tempering]``: a list, or ``min``, ``max`` and ``count`` for a geometric one."""
    listed, spread = "inverse_temperatures", ("min", "max", "count")
    if listed in section.table:
        twice = next((key for key in spread if key in section.table), None)
        if twice is not None:
            raise InputError(f"{section.where(twice)}: not together with {listed}")
        b = section.get(listed, _increasing, "a list of at least 2 increasing numbers >= 0")
        section.known.extend(spread)
    else:
        section.known.append(listed)
        if not any(key in section.table for key in spread):
            raise InputError(f"{section.where(listed)} is missing: valid is a list of increasing numbers, or min, max "
                             "and count")
        low = section.get("min", number(0, True), "a finite number > 0")
        high = section.get("max", number(low, True), f"a finite number above min = {low}", 1.0)
        if not high > low:
            raise InputError(f"{section.where('min')} = {low}: valid is a number below max = {high}")
        n = section.get("count", integer(2, MAX_SLOTS), f"an integer from 2 to {MAX_SLOTS}")
        b = (low, *(low * (high / low) ** (k / (n - 1)) for k in range(1, n - 1)), high)
    options = {
        "coupling": section.get("coupling", _coupling(action), "one of " + ", ".join(_coupling(action).names), ""),
        "swap_every": section.get("swap_every", integer(1, MAX_UPDATES), "an integer >= 1 (below 2^47)", 1),
        "is_tuned": section.get("tune", boolean, "true or false", False),
        "target": section.get("target", number(), f"one of {listed}", None),
    }
    try:
        ladder = Ladder(b, **options)
        ladder.check(action, schedule)
    except InputError as error:
        raise InputError(f"{section.source}, [tempering] {error}") from None
    section.resolved[listed], section.resolved["target"] = list(b), b[ladder.target_slot]
    return ladder


def _increasing(value):
    if not isinstance(value, list):
        raise ValueError
    return numbers(value)


def _coupling(action):
    """Check of a coupling's name in a configuration file (``lambda`` is lam in Python)."""
    names = {("lambda" if n == "lam" else n): n for n, g in action.couplings.items() if n != "unit" and g is not None}

    def check(value):
        if not isinstance(value, str) or value not in names:
            raise ValueError
        return names[value]

    check.names = names
    return check


def cooling_section(section):
    """The schedule of ``[anneal]``."""
    options = {
        "sweeps": section.get("sweeps", integer(1, MAX_UPDATES), "an integer >= 1 (below 2^47)", 1000),
        "first": section.get("from", number(0), "a finite number >= 0", 0.1),
        "last": section.get("to", number(0, True), "a finite number > 0", 5.0),
        "schedule": section.get("schedule", choice(SCHEDULES), " or ".join(SCHEDULES), "geometric"),
        "restarts": section.get("restarts", integer(1, MAX_RESTARTS), f"an integer from 1 to {MAX_RESTARTS}", 16),
    }
    try:
        return Cooling(**options)
    except InputError as error:
        raise InputError(f"{section.source}, [anneal] {error}") from None


def make_ladder(table, action, schedule, source):
    """The ladder that a resolved ``[tempering]`` table describes."""
    table = {key: value for key, value in table.items() if key not in ("min", "max", "count") and value != ""}
    return ladder_section(Section(source, "tempering", table), action, schedule)
