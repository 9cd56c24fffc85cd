"""Parameters of a model file by their path: ``population.x.noise``, ``connection.1.std`` (connections from 1 on)."""

from __future__ import annotations

import copy

from lft.errors import InputError

SETTINGS = "solve"


def parameters(resolved):
    """``{path: value}`` of all numbers in a model's resolved values, settings of the solver left out.

    >>> parameters({"population": {"x": {"noise": 0.5, "neuron": "rate"}}, "connection": [{"std": 2.0}], "solve": {}})
    {'population.x.noise': 0.5, 'connection.1.std': 2.0}
    """
    out = {}

    def walk(value, path):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, [*path, str(key)])
        elif isinstance(value, list):
            for number, inner in enumerate(value, 1):
                walk(inner, [*path, str(number)])
        elif isinstance(value, int | float) and not isinstance(value, bool):
            out[".".join(path)] = value

    for key in ("population", "connection", "shared_noise"):
        walk(resolved.get(key, {}), [key])
    return out


def check_keys(keys, resolved):
    """The values of the parameters that are to be free.

    Raises
    ------
    InputError
        A path that is unknown, given twice, or no real number.
    """
    known, out = parameters(resolved), {}
    for key in keys:
        if key not in known:
            real = [k for k in known if not k.endswith(INTEGERS)]
            raise InputError(f"--free {key!r}: no parameter of this model; valid are {', '.join(real)}")
        if key in out:
            raise InputError(f"--free {key!r}: named twice")
        if key.endswith(INTEGERS):
            raise InputError(f"--free {key!r}: an integer; valid are real numbers")
        out[key] = float(known[key])
    if not out:
        raise InputError("--free: valid is a list of parameters, such as population.x.noise,connection.1.std")
    return out


INTEGERS = (".size", ".indegree")


def substitute(tree, values):
    """A copy of a TOML tree with other values at some paths."""
    out = copy.deepcopy(tree)
    for path, value in values.items():
        *parents, last = path.split(".")
        place = out
        for name in parents:
            place = place[int(name) - 1] if isinstance(place, list) else place.setdefault(name, {})
        if isinstance(place, list):
            place[int(last) - 1] = float(value)
        else:
            place[last] = float(value)
    return out
