"""One table of a configuration file: its keys, their checks, and what to say of a wrong one."""

from __future__ import annotations

import difflib
import math

from lft.errors import InputError


class Section:
    """One table of the file: reads keys with checks, and in the end complains about those that nobody asked for."""

    def __init__(self, source, name, table):
        if not isinstance(table, dict):
            raise InputError(f"{source}, [{name}]: must be a table, got {table!r}")
        self.source, self.name, self.table, self.known, self.resolved = source, name, dict(table), [], {}

    def where(self, key):
        """``FILE, [section] key``."""
        return f"{self.source}, [{self.name}] {key}" if self.name else f"{self.source}, {key}"

    def fail(self, key, valid):
        """Raise InputError for a key's value."""
        shown = repr(self.table.get(key))
        shown = shown if len(shown) <= 60 else f"{shown[:56]} ..."
        raise InputError(f"{self.where(key)} = {shown}: valid is {valid}")

    def get(self, key, check, valid, default=...):
        """The checked value; ``check`` returns the value or raises ValueError/TypeError."""
        self.known.append(key)
        if key not in self.table:
            if default is ...:
                raise InputError(f"{self.where(key)} is missing: valid is {valid}")
            self.resolved[key] = default
            return default
        try:
            value = check(self.table[key])
        except InputError as error:
            raise InputError(f"{self.where(key)}: {error}") from None
        except (TypeError, ValueError):
            self.fail(key, valid)
        self.resolved[key] = self.table[key]
        return value

    def done(self):
        """Raise InputError for a key that is not known."""
        for key in self.table:
            if key not in self.known:
                close = difflib.get_close_matches(key, self.known, 1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                valid = ", ".join(self.known) or "none"
                raise InputError(f"{self.where(key)}: unknown key{hint}; valid are {valid}")


def integer(low, high=None):
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
            raise ValueError
        return value

    return check


def number(low=-math.inf, is_open=False):
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError
        if value < low or (is_open and value == low):
            raise ValueError
        return float(value)

    return check


def numbers(value):
    if isinstance(value, list):
        if not value:
            raise ValueError
        return tuple(number()(v) for v in value)
    return number()(value)


def choice(names):
    def check(value):
        if not isinstance(value, str) or value not in names:
            raise ValueError
        return value

    return check


def list_of(kind):
    def check(value):
        if not isinstance(value, list) or not value or not all(isinstance(v, kind) for v in value):
            raise ValueError
        return tuple(value)

    return check


def text(value):
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def text_or_list(value):
    return value if isinstance(value, str) else list_of(str)(value)


def boolean(value):
    if not isinstance(value, bool):
        raise ValueError
    return value
