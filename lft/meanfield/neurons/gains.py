"""Static gain functions of rate and binary neurons, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.meanfield.neurons.beside import find_beside, raised


@dataclass(frozen=True)
class Gain:
    """A gain with its derivative where it has one.

    Attributes
    ----------
    name : str
        Closed forms (:mod:`lft.meanfield.saddle.closed`) are found by it.
    value, slope : callable
        Vectorized; ``slope`` is None for a gain whose derivative is not known.
    """

    name: str
    value: Callable
    slope: Callable | None = None

    def __call__(self, x):
        return self.value(x)

    def __repr__(self):
        return repr(self.name)


def _erf(x):
    from scipy.special import erf

    return erf(0.5 * math.sqrt(math.pi) * x)


def _erfc(x):
    from scipy.special import erfc

    return 0.5 * erfc(-x / math.sqrt(2.0))


GAINS = {
    g.name: g
    for g in (
        Gain("linear", lambda x: x, lambda x: np.ones_like(x)),
        Gain("tanh", np.tanh, lambda x: 1.0 - np.tanh(x) ** 2),
        Gain("erf", _erf, lambda x: np.exp(-0.25 * math.pi * x**2)),
        Gain("relu", lambda x: np.maximum(x, 0.0), lambda x: (x > 0).astype(float)),
        Gain("exp", np.exp, np.exp),
        Gain("heaviside", lambda x: (x > 0).astype(float)),
        Gain("sign", lambda x: np.where(x > 0, 1.0, -1.0)),
        Gain("erfc", _erfc, lambda x: np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)),
        Gain("logistic", lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)), lambda x: 0.25 / np.cosh(0.5 * x) ** 2),
    )
}
"""``erf`` is ``erf(sqrt(pi) x/2)``, slope 1 at 0; ``erfc`` is ``erfc(-x/sqrt(2))/2``, a Gaussian threshold."""


def find_gain(what, names, folder=None):
    """The gain of a name, of a callable, or of ``"module:function"``.

    Parameters
    ----------
    what : str, Gain or callable
    names : tuple of str
        Names that are valid here.
    folder : path, optional
        Where a module is looked for before Python's path (:func:`lft.meanfield.neurons.beside.find_beside`).

    Raises
    ------
    InputError
        Unknown name, or the function cannot be imported.

    Examples
    --------
    >>> from lft.meanfield.neurons.gains import find_gain
    >>> find_gain("tanh", ("tanh",)), find_gain("math:cos", ()).value(0.0)
    ('tanh', 1.0)
    """
    if isinstance(what, Gain):
        return what
    if callable(what):
        return Gain(getattr(what, "__name__", "own"), what)
    valid = f"{', '.join(names)} or 'module:function'"
    if not isinstance(what, str) or (":" not in what and what not in names):
        raise InputError(f"gain = {what!r}: valid is {valid}")
    if ":" not in what:
        return GAINS[what]
    try:
        function = find_beside(what, folder)
    except InputError as error:
        raise InputError(f"gain = {what!r}: {error}; valid is {valid}") from None
    if not callable(function):
        raise InputError(f"gain = {what!r}: is not a function; valid is {valid}")
    return Gain(what, function)


def gain_key(names):
    """The check of ``gain`` in a model file: a name as it is, ``"module:function"`` as its :class:`Gain`."""

    def check(value, folder=None):
        gain = find_gain(value, names, folder)
        if ":" not in value:
            return value
        x = np.array([-1.0, 0.0, 2.0])
        try:
            shape = np.shape(gain(x.copy()))
        except Exception as error:  # whatever the user's function does
            found = raised(error) or ("", f"{type(error).__name__}: {error}")
            raise InputError(f"gain = {value!r}: raised {found[1]}; valid is a function of an array") from error
        if shape != x.shape:
            raise InputError(f"gain = {value!r}: made shape {shape} of (3,); valid is one value for each of an array")
        return gain

    return check
