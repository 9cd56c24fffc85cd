"""Good files, made once, and the shape of a case: what is built in an empty folder, a command line, what it answers."""

import contextlib
import functools
import io
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

from lft.cli import main

# ---- configurations, as {section.key: TOML text}
CHAIN = {
    "run.start": '"hot"', "run.thermalize": "2", "run.updates": "8", "run.measure_every": "2",
       "run.save_every": "4",
    "run.checkpoint": '"5 min"',
}
ISING = {
    "seed": "7", "lattice.shape": "[4, 6]", "lattice.axes": '["x", "t"]',
         "lattice.boundary": '["periodic", "open"]',
    "lattice.spacing": '["42 um", "20 ms"]', "action.name": '"ising"', "action.K": "[0.2, 0.3]",
         "action.h": "0.1",
    "update.name": '"metropolis"', **CHAIN,
}
PHI4 = {
    "seed": "7", "lattice.shape": "[4, 6]", "action.name": '"phi4"', "action.kappa": "0.2",
        "action.lambda": "0.5",
    "update.name": '"hmc"', "update.steps": "5", "update.length": "1.0", "update.integrator": '"leapfrog"',
        **CHAIN,
}
NEURAL = {
    "seed": "7", "lattice.shape": "[2, 12]", "lattice.axes": '["unit", "t"]', "action.name": '"neural"',
    "action.A": "[[0.0, -0.3], [-0.3, 0.0]]", "action.B": "[-0.2]", "action.I": "[1.0, 1.5]",
    "update.name": '"heatbath"', **CHAIN,
}
LATE = {**NEURAL, "action.name": '"lagged"', "action.J_lag": "[[0.0, 0.5], [0.1, 0.0]]", "action.B": None}
COUNTED = {**LATE, "action.name": '"k-pairwise"', "action.V": "[0.0, 0.0, 0.5]", "action.J_lag": None}
PAIRWISE = {
    "seed": "7", "lattice.shape": "[2, 12]", "lattice.axes": '["unit", "t"]', "action.name": '"pairwise"',
    "action.J": "[[0.0, 0.3], [0.3, 0.0]]", "action.h": "[0.1, -0.2]", "update.name": '"heatbath"', **CHAIN,
}

TEMPERED = {**ISING, "tempering.inverse_temperatures": "[0.5, 0.8, 1.0]", "tempering.swap_every": "1",
            "tempering.coupling": '"K"', "tempering.tune": "false", "tempering.target": "1.0"}
SPREAD = {**ISING, "tempering.min": "0.5", "tempering.max": "1.0", "tempering.count": "4"}
ANNEALED = {**ISING, "anneal.sweeps": "5", "anneal.from": "0.1", "anneal.to": "2.0", "anneal.restarts": "2",
            "anneal.schedule": '"linear"'}


def toml(base, **changes):
    """The TOML text of a base with changes (None removes a key)."""
    top, sections = [], {}
    for key, text in {**base, **changes}.items():
        section, _, name = key.rpartition(".")
        lines = sections.setdefault(section, []) if section else top
        if text is not None:
            lines.append(f"{name} = {text}")
    return "\n".join([*top, *(line for s, lines in sections.items() for line in (f"[{s}]", *lines))]) + "\n"


def config(base, **changes):
    """Builder of run.toml."""
    return {"run.toml": toml(base, **changes).encode()}


# ---- good files, made once
@functools.cache
def archive(name="ising"):
    """The bytes of a good archive."""
    base = {"ising": ISING, "phi4": PHI4, "neural": NEURAL, "short": {**ISING, "run.updates": "3"},
            "tempered": TEMPERED, "bare": {k: v for k, v in ISING.items() if k != "lattice.spacing"}}[name]
    with TemporaryDirectory() as folder:
        run, out = Path(folder, "run.toml"), Path(folder, "out.h5")
        run.write_text(toml(base))
        assert main(["run", str(run), "-o", str(out), "--quiet"]) == 0
        return out.read_bytes()


def altered(change, name="ising"):
    """A good archive after ``change(h5py.File)``."""
    stream = io.BytesIO(archive(name))
    with h5py.File(stream, "r+") as file:
        change(file)
    return stream.getvalue()


@functools.cache
def ground():
    """The bytes of a good file of lft anneal."""
    with TemporaryDirectory() as folder:
        run, out = Path(folder, "run.toml"), Path(folder, "out.h5")
        run.write_text(toml(ANNEALED))
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["anneal", str(run), "-o", str(out)]) == 0
        return out.read_bytes()


def raster_of(n_units=6, n_bins=400):
    return np.random.default_rng(4).random((n_units, n_bins)) < 0.3


GRID = np.array([[x, y] for x in (0.0, 42.0, 84.0) for y in (0.0, 42.0)])


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **{k: v for k, v in arrays.items() if v is not None})
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def raster(**changes):
    """rec.npz with a raster."""
    return {"rec.npz": npz(**{"raster": raster_of(), "bin_s": 0.02, "positions": GRID, **changes})}


def spikes(attributes=None, **changes):
    """rec.h5 with spike times."""
    times = [np.sort(np.random.default_rng(i).uniform(0, 8, 60)) for i in range(6)]
    arrays = {"spike_times": np.concatenate(times), "spike_index": np.arange(7) * 60, "positions": GRID,
              **changes}
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs.update({"duration_s": 8.0, "metadata_json": "{}"} if attributes is None else attributes)
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    return {"rec.h5": stream.getvalue()}


def replaced(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


TIMES = np.concatenate([np.sort(np.random.default_rng(i).uniform(0, 8, 60)) for i in range(6)])


@functools.cache
def fitted(model):
    """The bytes of a good fit."""
    with TemporaryDirectory() as folder:
        recording, out = Path(folder, "rec.npz"), Path(folder, "fit.h5")
        recording.write_bytes(raster()["rec.npz"])
        assert main(["fit", str(recording), "--model", model, "-o", str(out)]) == 0
        return out.read_bytes()


@dataclass(frozen=True)
class Case:
    """A command line that must fail; ``{}`` in it is the folder."""

    id: str
    argv: str
    words: str  # that the line must hold, separated by |
    files: object = None  # {name: bytes}, or a function that makes it
    code: int = 2


def run_with(base, key, text, words, id=None):
    """``lft run`` of a configuration with one key set to a wrong value (None: left out)."""
    name = base["action.name"].strip('"')
    files = functools.partial(config, base, **{key: text})
    return Case(id or f"{name} {key} = {text}", "run {}/run.toml -o {}/out.h5", f"run.toml|{words}", files)
