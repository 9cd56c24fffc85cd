"""What a neuron model is, and the registry of the built-in ones.

A neuron model is a causal map from the summed input to the output of M independent neurons at once::

    class Neuron:
        def init(self, M, rng):            # -> state, anything; rng draws for the M neurons
        def step(self, state, h, k):       # h (M,) is the input during step k = [k dt, (k+1) dt) -> y (M,)

``rng`` has the methods ``random()``, ``standard_normal()`` and ``standard_exponential()`` of numpy's generators, each
of which returns M numbers; keep it in the state if steps need noise.  Every neuron has numbers of its own, a function
of the seed and of the neuron alone: results depend neither on batches nor on ranks.  Call it the same number of times
in every step; a call whose size depends on what the neurons do is refused.

``y`` is a value at the end of the step (rates, states 0/1) or, with ``is_point_process = True``, spikes in the step
divided by dt.  Optional attributes and methods:

==================== =================================================================================================
``prepare(dt)``      returns the neuron for this grid step (called once); without it the neuron itself is used
``output(state)``    output before the first step; default 0
``observe(state)``   the state variable that ``state_variance`` speaks of (x of a rate neuron); default: the input h
``run(state, h)``    all steps at once, (T, M) -> (T, M), if that is faster
``timescale``        time after which the start is forgotten, roughly; default: the solver's window
``weight_scale``     what turns a weight into summed input (tau for weights given as jumps of a potential)
``is_point_process`` see above
``uses_white``       True: ``state.white`` is set to the intensity of the white part of h, one number per step
``on_jumps``         ``on_jumps(state, shots, drive, n_steps)``, where ``takes_jumps``: the spikes of neurons that
                     jumps drive, in continuous time (:mod:`lft.meanfield.saddle.shots`)
``tangent``          ``tangent(state, h, k)``: derivatives of the last step, for Lyapunov exponents
``score``            ``score(state, h, k)``: d log p(y)/dh of the last step, for response functions; ``score_decay``:
                     what of an input's effect is left a step later (0)
``closed_form``      which closed form of :mod:`lft.meanfield.saddle.closed` solves it without sampling
==================== =================================================================================================

A class of one's own is named ``"module:Class"`` in a model file, a gain ``"module:function"``; the module is looked for
beside the file, then on Python's path.  The other keys of the population's table are the arguments of the class; an
argument ``dt`` is filled in.
"""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path

from lft.errors import InputError, LftError
from lft.meanfield.neurons.beside import PACKAGE, find_beside, raised
from lft.meanfield.neurons.binary import Binary
from lft.meanfield.neurons.escape import EscapeRate
from lft.meanfield.neurons.lif import LIF
from lft.meanfield.neurons.rate import Rate
from lft.meanfield.neurons.spiking import EIF, QIF, AdEx

NEURONS = {n.name: n for n in (Rate, Binary, LIF, EscapeRate, QIF, EIF, AdEx)}
"""Built-in models: a frozen dataclass with ``name`` and ``KEYS = {key: (check, what is valid)}``."""


def read_neuron(section, dt, folder):
    """The neuron of a ``[population.NAME]`` table.

    Parameters
    ----------
    section : lft.sections.Section
    dt : float
        Grid step, for classes that take one.
    folder : path
        Where the model file lies.
    """
    names = ", ".join(NEURONS)

    def check(value):
        if not isinstance(value, str) or not (value in NEURONS or ":" in value):
            raise ValueError
        return value

    kind = section.get("neuron", check, f"{names} or 'module:Class'")
    if ":" in kind:
        return _own(section, kind, dt, folder)
    cls = NEURONS[kind]
    values = {}
    for key, (check_key, valid) in cls.KEYS.items():
        default = getattr(cls, key, ...)
        check_key = partial(check_key, folder=folder) if key == "gain" else check_key
        values[key] = section.get(key, check_key, valid, default)
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{section.where('neuron')} = {kind!r}: {error}") from None


COMMON = ("size", "neuron", "input", "external", "input_noise", "dale")
"""Keys of a population that are not the neuron's."""


def _own(section, kind, dt, folder):
    try:
        cls = find_beside(kind, folder)
    except InputError as error:
        section.fail("neuron", f"'module:Class' that can be imported ({error})")
    values = {k: v for k, v in section.table.items() if k not in COMMON}
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):
        signature = None
    if signature and "dt" in signature.parameters and "dt" not in values:
        values["dt"] = dt
    section.known.extend(k for k in values if k in section.table)
    section.resolved.update({k: v for k, v in values.items() if k in section.table})
    try:
        neuron = cls(**values)
    except TypeError as error:
        section.fail("neuron", f"a class that takes the other keys of the table as arguments ({error})")
    except LftError:
        raise
    except Exception as error:  # whatever the user's class finds wrong with its arguments
        _, found = raised(error) or ("", f"{type(error).__name__}: {error}")
        raise InputError(f"{section.where('neuron')} = {kind!r}: the class raised {found}") from error
    check_neuron(neuron, section.where("neuron"))
    return neuron


def check_neuron(neuron, where):
    """Raise InputError unless an object has the two methods of a neuron."""
    missing = [m for m in ("init", "step") if not callable(getattr(neuron, m, None))]
    if missing and not (hasattr(neuron, "prepare") and "init" in missing):
        raise InputError(
            f"{where} = {type(neuron).__name__}: has no method {' and no method '.join(missing)}; valid is a class "
            "with init(M, rng) and step(state, h, k)"
        )


def module_files(neuron):
    """Files of a user's code in a neuron: of its class and of its gain."""
    out = set()
    for code in (type(neuron), getattr(getattr(neuron, "gain", None), "value", None)):
        try:
            file = inspect.getsourcefile(code)
        except (TypeError, OSError):
            continue
        if file and not Path(file).resolve().is_relative_to(PACKAGE):
            out.add(file)
    return out


def prepared(neuron, dt):
    """The neuron for a grid step."""
    if not hasattr(neuron, "prepare"):
        return neuron
    ready = neuron.prepare(dt)
    if not hasattr(ready, "init") or not (hasattr(ready, "step") or hasattr(ready, "run")):
        raise InputError(f"{type(neuron).__name__}.prepare({dt:g}) returned {ready!r}; valid is a neuron with init(M, "
                         "rng) and step(state, h, k)")
    return ready
