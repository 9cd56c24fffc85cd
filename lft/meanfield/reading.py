"""A model file (TOML) to a :class:`lft.meanfield.model.Model`.

A key that is unknown, missing, of the wrong type or out of range is an error that names the key, the value and what is
valid; every default is written out in ``Model.resolved``.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from pathlib import Path

import numpy as np

from lft.errors import InputError
from lft.meanfield.model import (
    ENSEMBLES,
    INPUTS,
    METHODS,
    MODES,
    Bernoulli,
    Connection,
    FixedIndegree,
    Gaussian,
    InputNoise,
    Model,
    Poisson,
    Population,
    Solve,
)
from lft.meanfield.neurons import read_neuron
from lft.meanfield.structured import SHAPES, LowRank, Profile, SharedNoise, Sites
from lft.sections import Section, choice, integer, number, text

POSITIVE = (number(0, is_open=True), "a number > 0")
NOT_NEGATIVE = (number(0), "a number >= 0")
ANY = (number(), "a number")
COUNT = (integer(1), "an integer >= 1")
NAME = (text, "the name of a population")
DRIVE = 'a number, or a list of [time, value] in order of time, such as [[0.0, 0.5], [10.0, 1.0]]'
MAX_STEPS = 2**24
LEAST = 32
"""Paths of a replica: four in each of the batches that tell its noise."""


def read_model(path):
    """Read and check a model file.

    Parameters
    ----------
    path : path
        TOML, UTF-8.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        One line that names file, section, key, value and what is valid.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}; valid is a TOML file")
    try:
        source = path.read_bytes().decode()
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start}); valid is TOML in UTF-8") from None
    return build_model(source, path.name, path.parent)


def build_model(source, name="model", folder="."):
    """The model of a TOML text; ``name`` is what messages call it, ``folder`` where own neuron modules are looked for.

    Examples
    --------
    >>> from lft.meanfield.reading import build_model
    >>> model = build_model('''
    ... [population.x]
    ... neuron = "rate"
    ... [[connection]]
    ... from = "x"
    ... to = "x"
    ... weights = "gaussian"
    ... std = 1.5
    ... [solve]
    ... mode = "stationary"
    ... dt = 0.05
    ... duration = 100.0
    ... ''')
    >>> model.names, model.connections[0].weights, model.solve.samples
    (('x',), Gaussian(mean=0.0, std=1.5), 10000)
    """
    try:
        tree = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name}: not valid TOML: {error}") from None
    return build_tree(tree, name, folder, source)


def build_tree(tree, name="model", folder=".", source=""):
    """The model of a TOML tree, as :func:`tomllib.loads` gives it; ``source`` is the text it was read from."""
    top = Section(name, "", tree)
    for key, valid in (("population", "tables [population.NAME]"), ("connection", "tables [[connection]]"),
                       ("solve", "the table [solve]"), ("shared_noise", "tables [[shared_noise]]")):
        top.get(key, lambda value: value, valid, [] if key in ("connection", "shared_noise") else ...)
    top.done()
    solve = _section(name, "solve", tree["solve"], _solve)
    tables = tree["population"]
    if not isinstance(tables, dict) or not tables:
        raise InputError(f"{name}, [population]: valid are tables [population.NAME], at least one")
    dt = solve[0].dt
    populations = {
        p: _section(name, f"population.{p}", table, lambda s, p=p: _population(s, p, dt, folder))
        for p, table in tables.items()
    }
    listed = tree.get("connection", [])
    if not isinstance(listed, list):
        raise InputError(f"{name}, [connection]: write [[connection]] with two brackets, once for each")
    connections = [
        _section(name, f"connection {n + 1}", table, lambda s: _connection(s, dt)) for n, table in enumerate(listed)
    ]
    noises = tree.get("shared_noise", [])
    if not isinstance(noises, list):
        raise InputError(f"{name}, [shared_noise]: write [[shared_noise]] with two brackets, once for each")
    shared = [_section(name, f"shared_noise {n + 1}", table, _shared) for n, table in enumerate(noises)]
    resolved = {
        "population": {p: r for p, (_, r) in populations.items()},
        "connection": [r for _, r in connections],
        "solve": solve[1],
    }
    if shared:
        resolved["shared_noise"] = [r for _, r in shared]
    found = tuple(p for p, _ in populations.values())
    try:
        model = Model(found, tuple(c for c, _ in connections), solve[0], source, resolved,
                      tuple(n for n, _ in shared))
    except InputError as error:
        raise InputError(f"{name}, {error}") from None
    late = next((p.name for p in found if p.is_driven_in_time), None)
    if late is not None and solve[0].mode == "stationary":
        raise InputError(f"{name}, [population.{late}] input: changes in time; valid in mode = 'two-time' alone")
    return model


def _section(source, name, table, read):
    """(what a reader makes of a table, the values in use)."""
    section = Section(source, name, table)
    value = read(section)
    section.done()
    return value, section.resolved


def _solve(s):
    solve = Solve(
        s.get("mode", choice(MODES), " or ".join(MODES)),
        s.get("dt", *POSITIVE),
        s.get("duration", *POSITIVE),
        s.get("samples", integer(128), "an integer >= 128", Solve.samples),
        s.get("seed", integer(0, 2**64 - 1), "an integer from 0 to 2^64 - 1", Solve.seed),
        s.get("method", choice(METHODS), ", ".join(METHODS), Solve.method),
        s.get("replicas", integer(4, 1024), "an integer from 4 to 1024", Solve.replicas),
        s.get("sweeps", integer(2), "an integer >= 2", Solve.sweeps),
        s.get("tolerance", *NOT_NEGATIVE, Solve.tolerance),
        s.get("damping", _fraction, "a number from 0 to 1, without 1", Solve.damping),
        s.get("warmup", *NOT_NEGATIVE, None),
        s.get("max_lag", *POSITIVE, None),
        s.get("input", choice(INPUTS), " or ".join(INPUTS), Solve.input),
    )
    if not 4 <= solve.duration / solve.dt <= MAX_STEPS:
        s.fail("duration", f"4 to {MAX_STEPS} steps of dt = {solve.dt:g}")
    if solve.samples < LEAST * solve.replicas:
        s.fail("samples", f"an integer >= {LEAST * solve.replicas}, {LEAST} for each of the {solve.replicas} replicas")
    if solve.method == "march" and solve.mode != "two-time":
        s.fail("method", "march in mode = 'two-time' alone")
    if solve.max_lag is not None and not solve.dt <= solve.max_lag < solve.duration:
        s.fail("max_lag", f"a number from dt to below the duration {solve.duration:g}")
    return solve


def _fraction(value):
    value = number(0)(value)
    if value >= 1:
        raise ValueError
    return value


def _population(s, name, dt, folder):
    neuron = read_neuron(s, dt, folder)
    return Population(
        name,
        neuron,
        s.get("size", integer(2), "an integer >= 2", None),
        s.get("input", _drive, DRIVE, 0.0),
        _external(s),
        _input_noise(s),
        s.get("dale", choice(("excitatory", "inhibitory")), "excitatory or inhibitory", None),
        _sites(s),
    )


def _sites(s):
    """``lattice`` and ``site_input``."""
    def extents(value):
        value = value if isinstance(value, list) else [value]
        if not value:
            raise ValueError
        return tuple(integer(1)(n) for n in value)

    shape = s.get("lattice", extents, "numbers of sites along the axes, such as [32, 32]", None)
    valid = "one number per site, or a table { amplitude = 0.5, waves = [1, 0] }"
    given = s.get("site_input", lambda v: v, valid, None)
    if given is None:
        return None if shape is None else Sites(shape)
    if shape is None:
        s.fail("site_input", "a lattice beside it: lattice = [64]")
    if isinstance(given, dict):
        wave = Section(s.source, f"{s.name}] [site_input", given)
        amplitude = wave.get("amplitude", *ANY)
        waves = wave.get("waves", lambda v: tuple(integer(0)(n) for n in v), "waves along each axis, such as [1, 0]")
        wave.done()
        if len(waves) != len(shape):
            s.fail("site_input", f"waves along each of the {len(shape)} axes")
        grid = np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij")
        phase = 2 * np.pi * sum(k * x for k, x in zip(waves, grid, strict=True))
        return Sites(shape, tuple((amplitude * np.cos(phase)).ravel().tolist()))
    if not isinstance(given, list) or len(given) != math.prod(shape):
        s.fail("site_input", f"{valid}; here {math.prod(shape)} numbers")
    return Sites(shape, tuple(number()(x) for x in given))


def _shared(s):
    def factors(value):
        if not isinstance(value, dict) or not value:
            raise ValueError
        return tuple((k, number()(v)) for k, v in value.items())

    return SharedNoise(s.get("intensity", *NOT_NEGATIVE), s.get("tau", *NOT_NEGATIVE, 0.0),
                       s.get("to", factors, "factors of populations, such as { E = 1.0, I = 0.5 }"))


def _drive(value):
    if not isinstance(value, list):
        return number()(value)
    if not value or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise ValueError
    pairs = tuple((number()(t), number()(v)) for t, v in value)
    if any(b[0] <= a[0] for a, b in itertools.pairwise(pairs)):
        raise ValueError
    return pairs


def _external(s):
    """``external``: one table or a list of them."""
    valid = "a table { indegree = 1000, rate = 20.0, weight = 0.1 }, or a list of them"
    tables = s.get("external", lambda v: v if isinstance(v, list) else [v], valid, [])
    out = []
    for table in tables:
        if not isinstance(table, dict):
            s.fail("external", valid)
        train = Section(s.source, f"{s.name}] [external", table)
        out.append(Poisson(train.get("indegree", *COUNT, 1), train.get("rate", *NOT_NEGATIVE),
                           train.get("weight", *ANY)))
        train.done()
    return tuple(out)


def _input_noise(s):
    valid = "a table { intensity = 1.0, tau = 0.0 }"

    def table(value):
        if not isinstance(value, dict):
            raise ValueError
        return value

    given = s.get("input_noise", table, valid, None)
    if given is None:
        return None
    noise = Section(s.source, f"{s.name}] [input_noise", given)
    out = InputNoise(noise.get("intensity", *NOT_NEGATIVE), noise.get("tau", *NOT_NEGATIVE, 0.0))
    noise.done()
    return out


def _connection(s, dt):
    source, target = s.get("from", *NAME), s.get("to", *NAME)
    kind = s.get("weights", choice(ENSEMBLES), ", ".join(ENSEMBLES))
    if kind == "gaussian":
        weights = Gaussian(s.get("mean", *ANY, 0.0), s.get("std", *NOT_NEGATIVE, 0.0))
    elif kind == "bernoulli":
        weights = Bernoulli(s.get("probability", _probability, "a number above 0, up to 1"), s.get("weight", *ANY),
                            s.get("weight_std", *NOT_NEGATIVE, 0.0))
    elif kind == "low-rank":
        weights = _low_rank(s)
    else:
        weights = FixedIndegree(s.get("indegree", *COUNT), s.get("weight", *ANY),
                                s.get("weight_std", *NOT_NEGATIVE, 0.0))
    delay, synapse = s.get("delay", *NOT_NEGATIVE, 0.0), s.get("synapse", *NOT_NEGATIVE, 0.0)
    if kind != "gaussian":
        return Connection(source, target, weights, delay, synapse)
    symmetry = s.get("symmetry", number(-1), "a number from -1 to 1", 0.0)
    return Connection(source, target, weights, delay, synapse, symmetry, _profile(s))


def _profile(s):
    def table(value):
        if not isinstance(value, dict):
            raise ValueError
        return value

    given = s.get("profile", table, 'a table { shape = "gaussian", width = 3.0 }', None)
    if given is None:
        return None
    part = Section(s.source, f"{s.name}] [profile", given)
    out = Profile(part.get("shape", choice(SHAPES), ", ".join(SHAPES)), part.get("width", *POSITIVE))
    part.done()
    return out


def _low_rank(s):
    """Numbers for rank one, lists for more; ``overlap`` a number, the diagonal, or the rows of the matrix."""
    def vector(low=-math.inf):
        def check(value):
            return tuple(number(low)(v) for v in (value if isinstance(value, list) else [value]))
        return check

    valid = "a number, or one for each rank"
    std, left = s.get("std", *NOT_NEGATIVE, 0.0), s.get("left_mean", vector(), valid, (0.0,))
    left_std = s.get("left_std", vector(0), valid, (1.0,) * len(left))
    left = left if len(left) == len(left_std) else left * len(left_std)
    n = len(left_std)
    right = s.get("right_mean", vector(), valid, (0.0,) * n)
    right_std = s.get("right_std", vector(0), valid, (1.0,) * n)

    def square(value):
        if isinstance(value, list) and value and isinstance(value[0], list):
            return tuple(vector()(row) for row in value)
        row = vector()(value)
        return tuple(tuple(x if k == j else 0.0 for j in range(len(row))) for k, x in enumerate(row))

    overlap = s.get("overlap", square, "a number, the diagonal, or the rows of a matrix",
                    tuple((0.0,) * n for _ in range(n)))
    try:
        return LowRank(std, left, left_std, right, right_std, overlap)
    except InputError as error:
        raise InputError(f"{s.source}, [{s.name}]: {error}") from None


def _probability(value):
    value = number(0, is_open=True)(value)
    if value > 1:
        raise ValueError
    return value
