"""What the tests of bad input feed to the program: good files, made once, and the table of what is wrong.

A case is what is built in an empty folder, a command line, and the words that the answer must hold.
"""

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
RUN = {
    "run.start": '"hot"', "run.thermalize": "2", "run.updates": "8", "run.measure_every": "2",
       "run.save_every": "4",
    "run.checkpoint": '"5 min"',
}
ISING = {
    "seed": "7", "lattice.shape": "[4, 6]", "lattice.axes": '["x", "t"]',
         "lattice.boundary": '["periodic", "open"]',
    "lattice.spacing": '["42 um", "20 ms"]', "action.name": '"ising"', "action.K": "[0.2, 0.3]",
         "action.h": "0.1",
    "update.name": '"metropolis"', **RUN,
}
PHI4 = {
    "seed": "7", "lattice.shape": "[4, 6]", "action.name": '"phi4"', "action.kappa": "0.2",
        "action.lambda": "0.5",
    "update.name": '"hmc"', "update.steps": "5", "update.length": "1.0", "update.integrator": '"leapfrog"',
        **RUN,
}
NEURAL = {
    "seed": "7", "lattice.shape": "[2, 12]", "lattice.axes": '["unit", "t"]', "action.name": '"neural"',
    "action.A": "[[0.0, -0.3], [-0.3, 0.0]]", "action.B": "[-0.2]", "action.I": "[1.0, 1.5]",
    "update.name": '"heatbath"', **RUN,
}
LATE = {**NEURAL, "action.name": '"lagged"', "action.J_lag": "[[0.0, 0.5], [0.1, 0.0]]", "action.B": None}
COUNTED = {**LATE, "action.name": '"k-pairwise"', "action.V": "[0.0, 0.0, 0.5]", "action.J_lag": None}
PAIRWISE = {
    "seed": "7", "lattice.shape": "[2, 12]", "lattice.axes": '["unit", "t"]', "action.name": '"pairwise"',
    "action.J": "[[0.0, 0.3], [0.3, 0.0]]", "action.h": "[0.1, -0.2]", "update.name": '"heatbath"', **RUN,
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


# ---- lft run: keys
SECTION_KEYS = {
    "seed": ("an integer", ['"7"', "true", "7.0", "-1", "18446744073709551616", "[7]", "nan"]),
    "lattice.shape": ("positive integer", ['"4"', "4", "[4.0, 6]", "[true, 6]", "[]", "[0, 6]", "[-4, 6]",
                                           '["4", 6]']),
    "lattice.axes": ("names", ['"xt"', "[1, 2]", "[]", '["x", "x"]', '["x", "t t"]', '["", "t"]']),
    "lattice.boundary": ("periodic", ["1", '"closed"', '["open", "moebius"]', "[true, true]", "[]"]),
    "lattice.spacing": ("such as", ["42", '"42 um"', "[42, 20]", '["42", "20 ms"]', '["-42 um", "20 ms"]',
                                    '["0 um", "20 ms"]', '["42 um", "20 parsecs"]', '["nan um", "20 ms"]',
                                    '["1e999 um", "20 ms"]']),
    "lattice.mask": (".npy", ["1", '""', "[true]"]),
    "action.name": ("one of ising, phi4, neural", ['"isin"', "1", "[]", '""']),
    "action.K": ("number", ['"0.2"', "true", "[]", '["a", "b"]', "nan", "inf", "-inf", "[0.2, nan]",
                            "[[0.2], [0.3]]",
                            '{"1,0" = nan}', '{"a" = 0.2}']),
    "action.h": ("a finite number", ['"0.1"', "true", "nan", "[0.1]"]),
    "update.name": ("metropolis, heatbath", ['"gibs"', "1", '"wolf"', "true"]),
    "run.start": ("hot, cold", ['"warm"', "1", "true"]),
    "run.thermalize": ("an integer >= 0", ["-1", "1.0", "true", '"2"', "nan"]),
    "run.updates": ("an integer >= 1", ["0", "140737488355328", "-8", "8.0", "true", '"8"', "[8]"]),
    "run.measure_every": ("an integer >= 1", ["0", "-1", "2.5", "false"]),
    "run.save_every": ("an integer >= 0", ["-1", "0.5", "true", '"all"']),
    "run.checkpoint": ("such as", ['"5 parsecs"', "0", "300", '"0 s"', '"-5 min"', '"5"', '"min"', "true",
                                   '"5 um"']),
}
PHI4_KEYS = {
    "action.kappa": ("number", ['"0.2"', "true", "nan", "[]", "[0.2, inf]"]),
    "action.lambda": ("a finite number >= 0", ["-0.1", "nan", '"0.5"', "true", "[0.5]"]),
    "update.name": ("hmc", ['"heatbath"']),
    "update.steps": ("an integer >= 1", ["0", "-1", "5.0", "true", '"5"', "nan"]),
    "update.length": ("a finite number > 0", ["0", "-1.0", "nan", "inf", "true", '"1"']),
    "update.integrator": ("leapfrog, ", ['"euler"', "2", "true"]),
    "update.overrelax": ("an integer from 0 (none) to 256", ["-1", "257", "1.0", "true", '"4"']),
    "update.clusters": ("an integer from 0 (none) to 256", ["-1", "257", "0.5"]),
}
WOLFF_KEYS = {"update.clusters": ("an integer >= 1", ["0", "-1", "2.0", "true", '"2"', "2147483648"])}
NEURAL_KEYS = {
    "lattice.shape": ("units", ["[3, 12]"]),
    "lattice.axes": ("t", ['["a", "b"]', '["t", "t"]', '["unit"]']),
    "action.A": ("A = |a symmetric matrix of finite numbers with zero diagonal",
                 ["[[0.0, nan], [nan, 0.0]]", "[[0.0, inf], [inf, 0.0]]", '"A"', "[[0.0, 1.0], [2.0]]", "0.3",
                  "[]",
                  "true", "[1.0, 2.0]", '[["a", "b"], ["b", "a"]]']),
    "action.B": ("B|lag", ['{"0" = -0.2}', '{"-1" = -0.2}', '{"a" = -0.2}', "[nan]", '"B"', '{"1" = "x"}']),
    "action.I": ("I|per unit", ["[1.0]", "[1.0, nan]", '"I"', "[1.0, 1.0, 1.0]", "true"]),
    "update.name": ("metropolis, heatbath", ['"hmc"']),
}
PAIRWISE_KEYS = {
    "lattice.shape": ("units", ["[3, 12]"]),
    "action.J": ("J|symmetric matrix of finite numbers with zero diagonal|npz",
                 ["[[0.0, nan], [nan, 0.0]]", "[[0.0, 1.0], [2.0]]", "0.3", "[]", "true", "[1.0, 2.0]"]),
    "action.h": ("h|per unit", ["[1.0]", "[1.0, nan]", "[1.0, 1.0, 1.0]", "true"]),
    "update.name": ("metropolis, heatbath", ['"hmc"']),
}
TEMPERED_KEYS = {
    "tempering.inverse_temperatures": ("increasing numbers", ["0.5", '"0.5"', '["0.5", 1.0]', "[0.5, nan]", "[]",
                                                              "[0.8, 0.5]", "[0.5, 0.5]", "[true, 1.0]"]),
    "tempering.swap_every": ("an integer >= 1", ["0", "-1", "1.5", "true", '"1"']),
    "tempering.coupling": ("one of K, h", ['"kappa"', "1", '""', "[]", "true"]),
    "tempering.tune": ("true or false", ["1", '"yes"', "0.5"]),
    "tempering.target": ("one of the inverse temperatures|0.8", ["0.7", "2"]),
}
SPREAD_KEYS = {
    "tempering.min": ("number", ["0", "-0.5", "nan", '"0.5"', "true", "1.0", "2.0"]),
    "tempering.max": ("a finite number", ["0.2", "inf", '"1"', "0.5"]),
    "tempering.count": ("an integer from 2 to", ["1", "0", "-3", "4.0", "true", "1000000"]),
}
ANNEAL_KEYS = {
    "anneal.sweeps": ("an integer >= 1", ["0", "-1", "5.0", "true"]),
    "anneal.restarts": ("an integer from 1 to", ["0", "2.5", "true", "10000000"]),
    "anneal.from": ("a finite number", ["-0.1", "nan", '"0.1"']),
    "anneal.to": ("a finite number", ["0", "inf", "0.05", "true"]),
    "anneal.schedule": ("linear or geometric", ['"exponential"', "1"]),
}
CASES = [
    run_with(base, key, value, f"{key.rpartition('.')[2]}|{words}")
    for base, table in (
        (ISING, SECTION_KEYS),
        (PHI4, PHI4_KEYS),
        (NEURAL, NEURAL_KEYS),
        (PAIRWISE, PAIRWISE_KEYS),
        (TEMPERED, TEMPERED_KEYS),
        (SPREAD, SPREAD_KEYS),
        (ANNEALED, ANNEAL_KEYS),
        ({**ISING, "update.name": '"wolff"'}, WOLFF_KEYS),
    )
    for key, (words, values) in table.items()
    for value in values
]
CASES += [
    run_with(ISING, "sed", "7", "sed|unknown|did you mean 'seed'", "unknown key at the top"),
    run_with(ISING, "latice.shape", "[4]", "latice|unknown|did you mean 'lattice'", "unknown section"),
    run_with(ISING, "zzz.a", "1", "zzz|unknown|lattice, action", "unknown section without a neighbor"),
    run_with(ISING, "lattice.shpe", "[4]", "[lattice] shpe|unknown|did you mean 'shape'"),
    run_with(ISING, "action.k", "1.0", "[action] k|unknown|K, h"),
    run_with(ISING, "action.lambda", "1.0", "[action] lambda|unknown|K, h"),
    run_with(ISING, "update.step", "1", "[update] step|unknown"),
    run_with(ISING, "run.update", "1", "[run] update|unknown|did you mean 'updates'"),
    run_with(ISING, "update.steps", "5", "[update] steps|unknown", "steps for metropolis"),
    run_with(ISING, "update.width", "0.5", "[update] width|unknown", "width for spins"),
    run_with(PHI4, "update.width", "0.5", "[update] width|unknown|steps, length, integrator",
             "width for hmc"),
    run_with({**PHI4, "update.name": '"metropolis"'}, "update.steps", "5", "[update] steps|unknown|width"),
    run_with({**PHI4, "update.name": '"metropolis"', "update.steps": None, "update.length": None,
              "update.integrator": None}, "update.width", "0.0", "[update] width|> 0"),
    run_with(ISING, "update.name", '"hmc"', "[update] name|hmc|metropolis, heatbath", "hmc on ising"),
    run_with(ISING, "update.clusters", "2", "[update] clusters|unknown", "clusters for metropolis"),
    run_with(NEURAL, "update.name", '"wolff"', "[update] name|wolff|metropolis, heatbath", "clusters of a gas"),
    run_with(PHI4, "update.name", '"swendsen-wang"', "[update] name|one of metropolis, hmc", "clusters of phi4"),
    run_with(ISING, "lattice.shape", None, "[lattice] shape|missing", "shape missing"),
    run_with(PHI4, "lattice.shape", None, "[lattice] shape|missing", "shape missing, phi4"),
    run_with(NEURAL, "lattice.shape", None, "[lattice] shape|missing", "shape missing, neural"),
    run_with(ISING, "action.name", None, "[action] name|missing|ising, phi4, neural", "action name missing"),
    run_with(ISING, "action.K", None, "[action] K|missing", "K missing"),
    run_with(PHI4, "action.kappa", None, "[action] kappa|missing", "kappa missing"),
    run_with(PHI4, "action.lambda", None, "[action] lambda|missing", "lambda missing"),
    run_with(ISING, "lattice.shape", "[4611686018427387904, 2]", "shape|2^62", "more sites than integers"),
    *[Case(f"more sites than memory, {shape}", "run {}/run.toml -o {}/out.h5", "[lattice] shape|memory",
           functools.partial(
        config, ISING, **{"lattice.shape": shape})) for shape in ("[100000000, 100000000]",
                                                                  "[3000000, 1000000]")],
    run_with(ISING, "lattice.axes", '["x", "y", "t"]', "axes|3|2", "too many axes"),
    run_with(ISING, "lattice.boundary", '["open"]', "boundary|1|2", "too few boundaries"),
    run_with(ISING, "lattice.spacing", '["42 um"]', "spacing|1|2", "too few spacings"),
    run_with(ISING, "lattice.spacing", '["20 ms", "20 ms"]', "spacing|axis x|20 ms|um",
             "time unit on a space axis"),
    run_with(ISING, "lattice.spacing", '["42 um", "42 um"]', "spacing|axis t|42 um|ms",
             "length unit on the time axis"),
    run_with(ISING, "action.K", "[0.2, 0.3, 0.4]", "[action] K|3 values|2 axes|one per axis",
             "K of wrong length"),
    run_with(ISING, "action.K", '{"1" = 0.2}', "[action] K|displacement (1,)|2 integers"),
    run_with(ISING, "action.K", '{"1,0" = 0.2, "-1,0" = 0.1}', "[action] K|(1, 0) and (-1, 0)|give one"),
    run_with(ISING, "action.K", '{"0,0" = 0.2}', "[action] K|displacement (0, 0)|nonzero"),
    run_with(ISING, "action.K", '{"3,0" = 0.2}', "[action] K|displacement (3, 0)|periodic with 4 sites"),
    run_with(ISING, '"a\\nb"', "1", "a|b|unknown", "a key with a line break"),
    run_with(PHI4, "action.kappa", "[0.2]", "[action] kappa|1 values|2 axes", "kappa of wrong length"),
    run_with(NEURAL, "action.A", "[[0.0, -0.3], [0.3, 0.0]]", "[action] A is not symmetric"),
    run_with(NEURAL, "action.A", "[[1.0, -0.3], [-0.3, 0.0]]", "[action] A|nonzero diagonal"),
    run_with(LATE, "action.J_lag", None, "[action] J_lag|missing", "J_lag missing"),
    run_with(LATE, "action.J_lag", "[[0.0, 0.5, 0.1]]", "[action] J_lag|(1, 1, 3)|row = target", "J_lag not square"),
    run_with(LATE, "action.J_lag", '"nowhere.npy"', "[action] J_lag|nowhere.npy: no such file", "J_lag of no file"),
    run_with(LATE, "action.V", "[0.0]", "[action] V|unknown|J_lag", "V of lagged"),
    run_with(COUNTED, "action.V", None, "[action] V|missing", "V missing"),
    run_with(COUNTED, "action.V", "[0.0, 0.5]", "[action] A|2 units|1", "V of fewer units"),
    run_with(COUNTED, "action.V", "0.5", "[action] V|each count", "V a number"),
    run_with(PAIRWISE, "action.J", "[[0.0, -0.3], [0.3, 0.0]]", "[action] J is not symmetric"),
    run_with(PAIRWISE, "action.J", "[[1.0, -0.3], [-0.3, 0.0]]", "[action] J|nonzero diagonal|belong to h"),
    run_with(PAIRWISE, "action.J", '"nowhere.npz"', "[action] J|nowhere.npz: no such file", "J of no file"),
    run_with(PAIRWISE, "action.J", '"run.toml"', "[action] J|run.toml: not a matrix", "J of a file of another kind"),
    run_with({k: v for k, v in PAIRWISE.items() if k != "action.J"}, "action.h", "0.1", "[action] J is missing",
             "no J"),
    run_with({**NEURAL, "action.I": "0.5"}, "action.A", "[[0.0, -0.3]]", "[action] A|shape (1, 2)|square"),
    run_with({**NEURAL, "lattice.boundary": '"periodic"'}, "action.B", '{"7" = -0.2}', "B|lag 7|periodic|14",
             "lag beyond half of periodic time"),
    run_with(NEURAL, "lattice.spacing", '["42 um", "5 um"]', "spacing|5 um|ms",
             "length as the bin of a graph"),
    run_with(ISING, "lattice.bins", "5", "[lattice] bins|couplings", "bins without couplings"),
]

# ---- lft run: other files, --set, the file itself
RUN = "run {}/run.toml -o {}/out.h5"


def with_mask(content):
    return {**config(ISING, **{"lattice.mask": '"mask.npy"'}),
            **({} if content is None else {"mask.npy": content})}


def with_couplings(name, content, **changes):
    base = {k: v for k, v in ISING.items() if k.split(".")[0] not in ("lattice", "action")}
    text = {**base, "action.name": f'"{name}"', "action.couplings": '"fit.h5"', "update.name": '"heatbath"',
            **changes}
    return {"run.toml": toml(text).encode(), **({} if content is None else {"fit.h5": content})}


CASES += [
    Case("mask missing", RUN, "[lattice] mask|mask.npy|no such file", with_mask(None)),
    Case("mask of wrong shape", RUN, "mask|(5,)|(4,)", with_mask(npy(np.ones(5, bool)))),
    Case("mask of wrong type", RUN, "mask|float64|bool", with_mask(npy(np.ones(4)))),
    Case("mask all false", RUN, "mask|every site is inactive", with_mask(npy(np.zeros(4, bool)))),
    Case("mask is text", RUN, "mask|mask.npy|not a .npy", with_mask(b"0 1 1 0")),
    Case("mask is .npz", RUN, "mask|mask.npy|not a .npy", with_mask(npz(mask=np.ones(4, bool)))),
    Case("mask is a broken zip", RUN, "mask|mask.npy|not a .npy", with_mask(b"PK\x03\x04 and no more")),
    Case("mask is empty", RUN, "mask|mask.npy|not a .npy", with_mask(b"")),
    Case("mask is truncated", RUN, "mask|mask.npy|not a .npy", with_mask(npy(np.ones(4, bool))[:-2])),
    Case("couplings missing", RUN, "[action] couplings|fit.h5|no such file|lft fit",
         with_couplings("neural", None)),
    Case("couplings are text", RUN, "couplings|fit.h5|HDF5", with_couplings("ising", b"K = 0.3")),
    Case("couplings are an archive", RUN, "couplings|fit.h5|lft-archive|lft-fit",
         lambda: with_couplings("ising", archive())),
    Case("couplings of another model", RUN, "couplings|fit.h5|lattice|neural",
         lambda: with_couplings("neural", fitted("lattice"))),
    Case("couplings of a graph on a lattice", RUN, "couplings|fit.h5|pairwise|lattice",
         lambda: with_couplings("ising", fitted("pairwise"))),
    Case("couplings and K", RUN, "[action] K|couplings",
         lambda: with_couplings("ising", fitted("lattice"), **{"action.K": "0.1"})),
    Case("couplings and another shape", RUN, "[lattice] shape|(3, 2)",
         lambda: with_couplings("ising", fitted("lattice"), **{
             "lattice.shape": "[2, 3, 50]", "lattice.axes": '["x", "y", "t"]'})),
    Case("couplings and a boundary", RUN, "[lattice] boundary|bins",
         lambda: with_couplings("ising", fitted("lattice"), **{"lattice.boundary": '"periodic"'})),
    Case("couplings for phi4", RUN, "[action] couplings|unknown",
         lambda: config(PHI4, **{"action.couplings": '"fit.h5"'})),
    Case("a fit cut short", "run {}/fit.h5 -o {}/out.h5", "fit.h5|HDF5",
         lambda: {"fit.h5": fitted("lattice")[:3000]}),
    Case("an archive as configuration", "run {}/old.h5 -o {}/out.h5", "old.h5|lft-archive",
         lambda: {"old.h5": archive()}),
    *[Case(f"--set {s}", f"{RUN} --set {s}", words, lambda: config(ISING)) for s, words in {
        "run.updates": "--set|run.updates|key.path=value",
        "=5": "--set|=5|key.path=value",
        "run..updates=5": "--set|key.path=value",
        "run.updates=many": "[run] updates|many|integer",
        "run.updates=": "[run] updates|integer",
        "run.upd=5": "[run] upd|unknown|updates",
        "run.updates.more=5": "--set|updates|not a section",
        "run=5": "[run]|table|5",
        "seed=-1": "seed|-1",
        "lattice.shape=[0,2]": "shape|0",
    }.items()],
    Case("syntax error", RUN, "run.toml|not valid TOML|line 3",
         {"run.toml": b'seed = 7\n[action]\nname = \n'}),
    Case("a key twice", RUN, "run.toml|not valid TOML", {"run.toml": b"seed = 7\nseed = 8\n"}),
    Case("configuration missing", RUN, "run.toml|no such file"),
    Case("configuration is a folder", "run {} -o {}/out.h5", "is a directory"),
    Case("configuration is binary", RUN, "run.toml|not a text file", {"run.toml": bytes(range(256))}),
    Case("configuration is empty", RUN, "run.toml|[action]|missing", {"run.toml": b""}),
    Case("section is a number", RUN, "run.toml|[lattice]|table",
         {"run.toml": b"lattice = 3\n[action]\nname='ising'\n"}),
    Case("output exists", RUN, "out.h5|exists|--overwrite", lambda: {**config(ISING), "out.h5": archive()}),
    Case("output is a folder", "run {}/run.toml -o {} --overwrite", "is a directory", lambda: config(ISING)),
    Case("output in a missing folder", "run {}/run.toml -o {}/no/out.h5", "no|does not exist",
         lambda: config(ISING)),
    Case("output in a file", "run {}/run.toml -o {}/run.toml/out.h5", "run.toml|does not exist",
         lambda: config(ISING)),
    Case("output is the configuration", "run {}/run.toml -o {}/run.toml --overwrite", "run.toml|is read",
         lambda: config(ISING)),
    Case("no output", "run {}/run.toml", "run|-o", lambda: config(ISING)),
    Case("a field that runs away", RUN, "action", lambda: config({
        **PHI4, "action.kappa": "1e308", "action.lambda": "0.0", "update.name": '"metropolis"',
                                                                  "update.steps": None,
        "update.length": None, "update.integrator": None}), 1),
]

# ---- tempering and annealing
ANNEAL = "anneal {}/run.toml -o {}/out.h5"
CASES += [
    run_with(TEMPERED, "tempering.inverse_temperatures", None, "[tempering] inverse_temperatures|missing|min, max"),
    run_with(TEMPERED, "tempering.inverse_temperatures", "[1.0]", "[tempering]|1 inverse temperatures|2 to"),
    run_with(TEMPERED, "tempering.inverse_temperatures", "[-0.5, 1.0]", "[tempering]|>= 0"),
    run_with(TEMPERED, "tempering.count", "4", "[tempering] count|not together with inverse_temperatures"),
    run_with(SPREAD, "tempering.min", None, "[tempering] min|missing", "min of a ladder missing"),
    run_with(SPREAD, "tempering.count", None, "[tempering] count|missing", "count of a ladder missing"),
    run_with(SPREAD, "tempering.tune", "true", "[tempering] thermalize = 2|64", "tuning without thermalization"),
    run_with({**TEMPERED, "run.thermalize": "500", "tempering.target": "0.8"}, "tempering.tune", "true",
             "[tempering] target = 0.8|first|last", "tuning would move the target"),
    run_with({**PHI4, "tempering.inverse_temperatures": "[0.0, 1.0]"}, "seed", "7", "[tempering]|0|real field",
             "a real field at b = 0"),
    run_with({**PHI4, "tempering.inverse_temperatures": "[0.5, 1.0]"}, "tempering.coupling", '"unit"',
             "[tempering] coupling|one of kappa, lambda"),
    run_with(TEMPERED, "tempering.beta", "1", "[tempering] beta|unknown|swap_every"),
    run_with(ANNEALED, "anneal.sweep", "1", "[anneal] sweep|unknown|did you mean 'sweeps'"),
    Case("tempering is a number", RUN, "run.toml, [tempering]|table",
         lambda: {"run.toml": b"tempering = 3\n" + toml(ISING).encode()}),
    Case("anneal without a section", ANNEAL, "[anneal] is missing|sweeps", lambda: config(ISING)),
    Case("anneal: geometric from 0", ANNEAL, "[anneal] from = 0|linear",
         lambda: config(ANNEALED, **{"anneal.from": "0.0", "anneal.schedule": '"geometric"'})),
    Case("anneal: a real field from 0", ANNEAL, "[anneal] from = 0|real field",
         lambda: config({**PHI4, "anneal.from": "0.0", "anneal.schedule": '"linear"'})),
    Case("anneal: bins of pairwise", ANNEAL, "shape|2 bins|1", lambda: config({
        "lattice.shape": "[2, 2]", "lattice.axes": '["unit", "t"]', "action.name": '"pairwise"',
        "action.J": "[[0.0, 1.0], [1.0, 0.0]]", "anneal.sweeps": "5"})),
    Case("anneal: output exists", ANNEAL, "out.h5|exists|--overwrite",
         lambda: {**config(ANNEALED), "out.h5": archive()}),
    *[Case(f"{c} tempered: {name}", f"{c} {{}}/a.h5", f"a.h5|damaged|{words}",
           lambda change=change: {"a.h5": altered(change, "tempered")})
      for c in ("status", "analyze", "resume")
      for name, words, change in (
          ("without ladder", "tempering", lambda f: f["tempering"].pop("inverse_temperatures")),
          ("without fields", "tempering", lambda f: f["tempering"].pop("fields")),
          ("without kernels", "tempering", lambda f: f["tempering"].attrs.pop("kernels")),
          ("without journeys", "tempering", lambda f: f["tempering"].pop("since")),
          ("ladder that falls", "inverse temp", lambda f: f["tempering/inverse_temperatures"].__setitem__(0, 0.9)),
          ("ladder not finite", "inverse temp", lambda f: f["tempering/inverse_temperatures"].__setitem__(0, np.nan)),
          ("a replica twice", "replica", lambda f: f["tempering/replica"].__setitem__(0, f["tempering/replica"][1])),
          ("acceptance not finite", "counts", lambda f: f["tempering/acceptance_sum"].__setitem__(0, np.inf)),
          ("target out of range", "tempering", lambda f: f["tempering"].attrs.modify("target", 7)),
          ("replicas of another number", "tempering", lambda f: (f["tempering"].pop("replica"),
                                                                 f["tempering"].create_dataset("replica", data=[0]))),
      )],
    Case("analyze of a ground state", "analyze {}/a.h5", "a.h5|lft-ground|lft-archive", lambda: {"a.h5": ground()}),
]

# ---- archives
CASES += [
    *[Case(f"{c}: {name}", f"{c} {{}}/a.h5", f"a.h5|{words}", {} if content is None else {"a.h5": content})
      for c in ("status", "analyze", "resume")
      for name, words, content in (
          ("missing", "no such file", None),
          ("text", "not a readable HDF5", b"not an archive\n"),
          ("empty", "not a readable HDF5", b""),
          ("another HDF5", "schema|lft-archive", spikes()["rec.h5"]),
      )],
    *[Case(f"{c}: {name}", f"{c} {{}}/a.h5", f"a.h5|{words}",
           lambda change=change: {"a.h5": altered(change)})
      for c in ("status", "analyze", "resume")
      for name, words, change in (
          ("newer schema", "schema version 99|1", lambda f: f.attrs.modify("schema_version", 99)),
          ("schema version is text", "damaged", lambda f: f.attrs.__setitem__("schema_version", "new")),
          ("without schema version", "damaged", lambda f: f.attrs.pop("schema_version")),
          ("without state", "damaged|state", lambda f: f.pop("state")),
          ("without samples", "damaged|samples", lambda f: f.pop("samples")),
          ("without meta", "damaged|meta", lambda f: f.pop("meta")),
          ("without config", "damaged|config", lambda f: f["meta"].attrs.pop("config")),
          ("config no JSON", "damaged", lambda f: f["meta"].attrs.modify("config", "{")),
          ("config without a run", "damaged|run", lambda f: f["meta"].attrs.modify("config", "{}")),
          ("without shape", "damaged|shape", lambda f: f["lattice"].attrs.pop("shape")),
          ("without couplings", "damaged|couplings", lambda f: f["action"].attrs.pop("couplings")),
          ("unknown action", "damaged", lambda f: f["action"].attrs.modify("name", "potts")),
          ("without t", "damaged|t", lambda f: f["state"].attrs.pop("t")),
      )],
    *[Case(f"{c}: {name}", f"{c} {{}}/a.h5", f"a.h5|damaged|{words}",
           lambda change=change: {"a.h5": altered(change)})
      for c in ("analyze", "resume")
      for name, words, change in (
          ("without field", "state/field", lambda f: f["state"].pop("field")),
          ("field too short", "state/field", lambda f: (f["state"].pop("field"),
                                                        f["state"].create_dataset("field",
                                                                                  data=np.zeros(1,
                                                                                                np.uint8)))),
      )],
    Case("analyze: without update index", "analyze {}/a.h5", "a.h5|measurements",
         lambda: {"a.h5": altered(lambda f: f["samples"].pop("t"))}),
    Case("resume: without seed", "resume {}/a.h5", "a.h5|damaged|seed",
         lambda: {"a.h5": altered(lambda f: f["meta"].attrs.pop("seed"))}),
    Case("resume: without counters", "resume {}/a.h5", "a.h5|damaged|proposed",
         lambda: {"a.h5": altered(lambda f: f["state"].attrs.pop("proposed"))}),
    Case("resume: another kernel", "resume {}/a.h5", "a.h5|kernel|cuda",
         lambda: {"a.h5": altered(lambda f: f["meta"].attrs.modify("kernel", "cuda"))}),
    *[Case(f"resume --updates {n}", f"resume {{}}/a.h5 --updates {n}", f"--updates|{n}|integer",
           lambda: {"a.h5": archive()}) for n in ("0", "-5", "many", "1.5")],
    Case("resume --updates beyond the counter", "resume {}/a.h5 --updates 140737488355328", "--updates|2^47",
         lambda: {"a.h5": archive()}),
    Case("resume --updates without a number", "resume {}/a.h5 --updates", "--updates|argument",
         lambda: {"a.h5": archive()}),
    Case("a folder as archive", "status {}", "is a directory"),
    Case("analyze: too few measurements", "analyze {}/a.h5", "a.h5|1 measurements|4",
         lambda: {"a.h5": archive("short")}),
    *[Case(f"{c}: --json in a missing folder", f"{c} --json {{}}/no/out.json", "no|does not exist", files)
      for c, files in (("status {}/a.h5", lambda: {"a.h5": archive()}),
                       ("analyze {}/a.h5", lambda: {"a.h5": archive()}),
                       ("info", {}), ("bench", {}),
                       ("fit {}/rec.npz -o {}/fit.h5", raster), ("flow {}/rec.npz -o {}/flow.h5", raster))],
    Case("--json is something else", "status {}/a.h5 --json {}/paper.txt", "paper.txt|exists|not JSON",
         lambda: {"a.h5": archive(), "paper.txt": b"A paper\n"}),
    Case("--json and --plot are one", "analyze {}/a.h5 --json {}/x.png --plot {}/x.png", "x.png|two outputs",
         lambda: {"a.h5": archive()}),
    Case("--json and the output are one", "fit {}/rec.npz -o {}/fit.h5 --json {}/fit.h5",
         "fit.h5|two outputs", raster),
    Case("--json is a folder", "status {}/a.h5 --json {}", "is a directory", lambda: {"a.h5": archive()}),
    *[Case(f"{c}: --json is the input", f"{c} {{}}/a.h5 --json {{}}/a.h5", "a.h5|is read",
           lambda: {"a.h5": archive()}) for c in ("status", "analyze")],
    *[Case(f"{c}: --plot {name}", f"{c} --plot {{}}/{name}", f"{name}|.png, .svg, .pdf", files)
      for name in ("out.bmp", "out") for c, files in (
          ("analyze {}/a.h5", lambda: {"a.h5": archive()}), ("fit {}/rec.npz -o {}/fit.h5", raster),
          ("flow {}/rec.npz -o {}/flow.h5", raster))],
    *[Case(f"{c}: --plot exists", f"{c} --plot {{}}/out.png", "out.png|exists|--overwrite", files)
      for c, files in (
          ("analyze {}/a.h5", lambda: {"a.h5": archive(), "out.png": b"mine"}),
          ("fit {}/rec.npz -o {}/fit.h5", lambda: {**raster(), "out.png": b"mine"}),
          ("flow {}/rec.npz -o {}/flow.h5", lambda: {**raster(), "out.png": b"mine"}))],
    Case("analyze: spikes without --bin", "analyze {}/rec.h5", "rec.h5|lft-archive|--bin", spikes),
    Case("analyze: an option of recordings", "analyze {}/a.h5 --pitch 42um", "--pitch|recordings",
         lambda: {"a.h5": archive()}),
    Case("analyze: --matrices exists", "analyze {}/rec.npz --matrices {}/m.h5", "m.h5|exists|--overwrite",
         lambda: {**raster(), "m.h5": b"mine"}),
    Case("--plot in a missing folder", "analyze {}/a.h5 --plot {}/no/out.png", "no|does not exist",
         lambda: {"a.h5": archive()}),
]

# ---- recordings
FIT = "fit {}/rec.h5 -o {}/fit.h5 --bin 20ms"
FIT_NPZ = "fit {}/rec.npz -o {}/fit.h5"


def both(id, options, words, files):
    """A recording, or an option on it, that ``lft fit`` and ``lft flow`` refuse alike."""
    return [Case(f"{c}: {id}", f"{c} {options} -o {{}}/out.h5", words, files) for c in ("fit", "flow")]


CASES += [
    *both("missing", "{}/rec.h5 --bin 20ms", "rec.h5|no such file", {}),
    *both("a folder", "{} --bin 20ms", "is a directory", {}),
    *both("text", "{}/rec.txt --bin 20ms", "rec.txt|not a recording|NWB", {"rec.txt": b"0.1 0.2\n"}),
    *both("empty file", "{}/rec.h5 --bin 20ms", "rec.h5|empty", {"rec.h5": b""}),
    *both("truncated HDF5", "{}/rec.h5 --bin 20ms", "rec.h5|truncated",
          lambda: {"rec.h5": spikes()["rec.h5"][:4000]}),
    *both("truncated .npz", "{}/rec.npz", "rec.npz|damaged", lambda: {"rec.npz": raster()["rec.npz"][:700]}),
    *both("truncated .npy", "{}/rec.npy --bin 20ms", "rec.npy|damaged",
          lambda: {"rec.npy": npy(raster_of())[:-9]}),
    *both("objects in .npy", "{}/rec.npy --bin 20ms", "rec.npy",
          lambda: {"rec.npy": npy(np.array([None, "a"], dtype=object))}),
    *both("unsorted times", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[70]|unit 1|ascend",
          lambda: spikes(spike_times=replaced(TIMES, 70, 0.0))),
    *both("a negative time", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[0]|-0.5|negative",
          lambda: spikes(spike_times=replaced(TIMES, 0, -0.5))),
    *both("a time that is nan", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[5]|nan|finite",
          lambda: spikes(spike_times=replaced(TIMES, 5, np.nan))),
    *both("an infinite time", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[59]|inf|finite",
          lambda: spikes(spike_times=replaced(TIMES, 59, np.inf))),
    *both("a time after the end", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[59]|9.5|duration_s",
          lambda: spikes(spike_times=replaced(TIMES, 59, 9.5))),
    *both("no duration", "{}/rec.h5 --bin 20ms", "rec.h5|duration_s|0",
          lambda: spikes(attributes={"duration_s": 0.0})),
    *both("no spikes", "{}/rec.h5 --bin 20ms", "rec.h5|no spike",
          lambda: spikes(spike_times=np.zeros(0), spike_index=np.zeros(7, int))),
    *both("no units", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index|no unit",
          lambda: spikes(spike_times=np.zeros(0), spike_index=np.zeros(1, int), positions=None)),
    *both("index beyond the spikes", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index|361|360",
          lambda: spikes(spike_index=replaced(np.arange(7) * 60, 6, 361))),
    *both("index descends", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index[3]|descend",
          lambda: spikes(spike_index=replaced(np.arange(7) * 60, 2, 300))),
    *both("index of floats", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index|integers",
          lambda: spikes(spike_index=np.arange(7) * 60.0)),
    *both("no index", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index|missing", lambda: spikes(spike_index=None)),
    *both("no positions", "{}/rec.h5 --bin 20ms", "rec.h5|no positions", lambda: spikes(positions=None)),
    *both("too few positions", "{}/rec.h5 --bin 20ms", "rec.h5|positions|5|6",
          lambda: spikes(positions=GRID[:5])),
    *both("irregular positions", "{}/rec.h5 --bin 20ms", "rec.h5|unit|lattice|--pitch",
          lambda: spikes(positions=replaced(GRID, (2, 0), 17.3))),
    *both("two units on a site", "{}/rec.h5 --bin 20ms", "rec.h5|units 0 and 5|site (0, 0)",
          lambda: spikes(positions=replaced(GRID, 5, 0.0))),
    *both("a position that is nan", "{}/rec.h5 --bin 20ms", "rec.h5|positions[3]|finite",
          lambda: spikes(positions=replaced(GRID, 3, np.nan))),
    *both("raster of counts", "{}/rec.npz", "rec.npz|unit 1, bin 2|2|0 and 1",
          lambda: raster(raster=replaced(raster_of().astype(int), (1, 2), 2))),
    *both("raster of fractions", "{}/rec.npz", "rec.npz|unit 1, bin 2|0.5|0 and 1",
          lambda: raster(raster=replaced(raster_of().astype(float), (1, 2), 0.5))),
    *both("raster with nan", "{}/rec.npz", "rec.npz|unit 1, bin 2|nan|0 and 1",
          lambda: raster(raster=replaced(raster_of().astype(float), (1, 2), np.nan))),
    *both("raster of one axis", "{}/rec.npz", "rec.npz|raster|shape (400,)",
          lambda: raster(raster=raster_of()[0])),
    *both("raster without spikes", "{}/rec.npz", "rec.npz|no spike",
          lambda: raster(raster=np.zeros((6, 400)))),
    *both("raster without bins", "{}/rec.npz", "rec.npz|empty", lambda: raster(raster=np.zeros((6, 0)))),
    *both("raster of negative bins", "{}/rec.npz", "rec.npz|bin_s|-0.02", lambda: raster(bin_s=-0.02)),
    *both(".npy without --bin", "{}/rec.npy", "rec.npy|--bin", lambda: {"rec.npy": npy(raster_of())}),
    *both("spikes without --bin", "{}/rec.h5", "rec.h5|--bin", spikes),
    *[case for text in ("0", "0ms", "-20ms", "20", "20um", "ms", "nan ms", "1e999s")
      for case in both(f"--bin {text}", f"{{}}/rec.h5 --bin={text.replace(' ', '')}", "--bin|ms", spikes)],
    *both("--bin longer than the recording", "{}/rec.h5 --bin 9s", "rec.h5|9 s|longer|8 s", spikes),
    *both("--bin no multiple", "{}/rec.npz --bin 30ms", "rec.npz|30 ms|multiple|20 ms", raster),
    *both("--bin longer than the raster", "{}/rec.npz --bin 9s", "rec.npz|9 s|longer", raster),
    *both("--bin that makes too many bins", "{}/rec.h5 --bin 1e-12s", "rec.h5|bins", spikes),
    *both("--pitch of time", "{}/rec.h5 --bin 20ms --pitch 20ms", "--pitch|20ms|um", spikes),
    *both("--pitch 0", "{}/rec.h5 --bin 20ms --pitch 0um", "--pitch|0um", spikes),
    *both("--pitch too wide", "{}/rec.h5 --bin 20ms --pitch 400um", "rec.h5|units|site|pitch", spikes),
    *[case for reach in ("1", "a,b", "-1,1", "1,1,1", "1.5,1", "", "1,999999999", "999999999,1")
      for case in both(f"--reach {reach}", f"{{}}/rec.npz --reach={reach}", f"--reach|{reach}|SPACE,TIME",
                       raster)],
    *both("--reach 0,0", "{}/rec.npz --reach 0,0", "reach|(0, 0)", raster),
    *both("--reach with too many couplings", "{}/rec.npz --reach 1,60", "displacements|22", raster),
    *both("unknown method", "{}/rec.npz --method boltzman", "--method|boltzman", raster),
    *both("output exists", "{}/rec.npz", "out.h5|exists|--overwrite",
          lambda: {**raster(), "out.h5": b"mine"}),
    *both("output is the recording", "{}/out.h5 --bin 20ms --overwrite", "out.h5|is read",
          lambda: {"out.h5": spikes()["rec.h5"]}),
    *[Case(f"{c}: output in a missing folder", f"{c} {{}}/rec.npz -o {{}}/no/out.h5", "no|does not exist",
           raster)
      for c in ("fit", "flow")],
    *[Case(f"{c}: no output", f"{c} {{}}/rec.npz", f"{c}|-o", raster) for c in ("fit", "flow")],
    *[Case(f"--test {f}", f"{FIT_NPZ} --test={f}", f"--test|{f}|valid is a", raster)
      for f in ("1", "-0.1", "nan", "inf", "half", "")],
    Case("--test that leaves nothing", f"{FIT_NPZ} --test 0.9999", "train", raster),
    Case("unknown model", f"{FIT_NPZ} --model latice",
         "--model|latice|independent, lattice, neural, pairwise", raster),
    *[Case(f"--ridge {r}", f"{FIT_NPZ} --model neural --ridge={r}", f"ridge|{r}|valid is a|number", raster)
      for r in ("-1", "nan", "inf", "much")],
    *[Case(f"--window {w}", f"{FIT} --window={w}", words, spikes) for w, words in {
        "1": "--window|1|START,STOP", "a,b": "--window|a,b", "1,2,3": "--window|1,2,3", "5,3": "5.0|3.0|8",
        "-1,3": "-1.0|8", "0,9": "9.0|8", "nan,3": "nan|8", "8,9": "8.0|9.0",
        "": "--window|START,STOP"}.items()],
    Case("--window of a raster", f"{FIT_NPZ} --window 1,2", "--window|raster", raster),
    *[Case(f"--units {u}, {name}", f"{command} --units={u}", words, files)
      for name, command, files in (("spikes", FIT, spikes), ("raster", FIT_NPZ, raster)) for u, words in {
          "a": "--units|a|0,3,10-20", "0,": "--units|0,3,10-20", "9": "--units|9|5", "-1": "--units|-1",
          "0,0": "--units|0|twice", "3-1": "--units|3-1", "0-99999999999": "--units|99999999999|5",
          "": "--units|0,3,10-20"}.items()],
    *[Case(f"more parameters than bins, {model}", f"fit {{}}/rec.npz -o {{}}/fit.h5 --model {model}",
           "40 training bins|parameters of each unit|ridge", lambda: raster(raster=raster_of(151, 50), positions=None))
      for model in ("pairwise", "neural", "k-pairwise", "lagged")],
    *[Case(f"--reach beyond the raster, {model}", f"{FIT_NPZ} --model {model} --reach 0,400",
           "--reach|0,400|400 bins", raster) for model in ("neural", "lagged")],
    Case("lagged without a lag", f"{FIT_NPZ} --model lagged --reach 1,0", "--reach|1,0|lagged|at least 1 bin", raster),
    Case("the search of a fit is another file", f"{FIT_NPZ} --model pairwise", "fit.h5.search|not the search of a fit",
         lambda: {**raster(), "fit.h5.search": b"mine"}),
]

# ---- flow, the rest
FLOW = "flow {}/rec.npz -o {}/flow.h5"
CASES += [
    *[Case(f"--factor {f}", f"{FLOW} --factor={f}", words, raster) for f, words in {
        "0": "--factor|0|>= 1", "-1": "--factor|-1", "two": "--factor|two", "2,2": "factor|(2, 2)|x, y, t",
                                                                                    "": "--factor",
        "2,0,1": "--factor|2,0,1", "1.5": "--factor|1.5", "1": "--factor|1", "1,1,1": "--factor|1,1,1",
        "500": "factor|500"}.items()],
    *[Case(f"--levels {n}", f"{FLOW} --levels={n}", f"--levels|{n}|integer", raster) for n in ("-1", "two",
                                                                                               "1.5")],
    Case("unknown blocking", f"{FLOW} --blocking mean", "--blocking|mean|majority, decimation", raster),
    Case("average cannot be refitted", f"{FLOW} --blocking average", "--blocking|average|majority", raster),
    Case("k-of-n without --k", f"{FLOW} --blocking k-of-n", "--k|k-of-n|1 to 8", raster),
    *[Case(f"k-of-n with --k {k}", f"{FLOW} --blocking k-of-n --k={k}", f"--k|{k}|{w}", raster)
      for k, w in (("0", "1 to 8"), ("-2", "1 to 8"), ("9", "1 to 8"), ("two", "integer"))],
    Case("--k without k-of-n", f"{FLOW} --blocking or --k 2", "--k|2|k-of-n", raster),
    *[Case(f"prg: {options}", f"{FLOW} --method prg {options}", words, raster) for options, words in (
        ("--surrogates -1", "--surrogates -1|integer >= 0"),
        ("--nulls shuffled,phase", "--nulls|phase|shuffled, circular, independent, latent"),
        ("--nulls ,", "--nulls|valid is a list"),
        ("--bins 10ms", "10 ms|20 ms|multiple"),
        ("--bins 40ms,fast", "--bins|fast|such as"),
        ("--pairing best", "--pairing|best|held-out, same, normalized"),
        ("--blocks 5", "--blocks 5|even integer >= 4"),
        ("--blocks 100", "400 bins in 100 blocks|at least 8 bins"),
        ("--seed -1", "--seed -1|0 to 2^64 - 1"),
        ("--units 0,1,2", "3 of 3 units vary|at least 4"),
        ("--units 0-9", "--units|0-9|0 to 5"),
        ("--window 1,5", "--window|raster"),
        ("--blocking or", "--blocking or|prg"),
    )],
    Case("prg of a recording that never changes", f"{FLOW} --method prg", "0 of 6 units vary",
         functools.partial(raster, raster=np.ones((6, 400), bool))),
    Case("prg of few bins", f"{FLOW} --method prg", "20 bins|at least 32",
         functools.partial(raster, raster=raster_of(6, 20))),
    Case("prg of an archive", "flow {}/a.h5 -o {}/flow.h5 --method prg", "a.h5|recording|archive",
         lambda: {"a.h5": archive()}),
    Case("flow of phi4", "flow {}/a.h5 -o {}/flow.h5", "a.h5|phi4|spin", lambda: {"a.h5": archive("phi4")}),
    Case("flow of a graph", "flow {}/a.h5 -o {}/flow.h5", "a.h5|graph|lattice",
         lambda: {"a.h5": archive("neural")}),
    Case("flow of a damaged archive", "flow {}/a.h5 -o {}/flow.h5", "a.h5|damaged|state",
         lambda: {"a.h5": altered(lambda f: f.pop("state"))}),
    Case("flow of a fit", "flow {}/fit.h5 -o {}/flow.h5", "fit.h5|spike_times",
         lambda: {"fit.h5": fitted("lattice")}),
    *[Case(f"inverse map {options}", f"{FLOW} {options}", words, raster) for options, words in {
        "--to-spacing 50um": "--to-spacing|42 um|50 um|whole number",
        "--to-spacing 21": "--to-spacing|21|unit", "--to-spacing 21ms": "--to-spacing|21ms|um",
        "--to-spacing 0um": "--to-spacing|0um|positive", "--to-bin 21um": "--to-bin|21um|ms",
        "--to-bin 40ms": "--to-bin|20 ms|40 ms|whole number", "--to-bin 3ms": "--to-bin|20 ms|3 ms",
        "--to-bin 20ms": "--to-bin|20ms|no coarser", "--to-bin 10": "--to-bin|10|unit",
        "--to-bin 10ms --factor 3": "--factor|3|--to-bin", "--to-bin 10ms --levels 1": "--levels|1|--to-bin",
        "--to-bin 10ms --blocking average": "--blocking|average|decimation, or",
        "--to-bin 10ms --blocking k-of-n": "--k|1 to 2", "--to-bin 10ms --blocking k-of-n --k 3": "--k|3|1 to 2",
        "--to-bin 10ms --k 1": "--k|1|k-of-n", "--to-bin 10ms --surround=-1": "--surround|-1",
        "--to-bin 10ms --configurations 3": "--configurations|3|40", "--method inverse": "inverse|--to-spacing",
        "--to-bin 10ms --method prg": "prg", "--to-spacing 0.01um": "coarser target"}.items()],
    Case("inverse map without positions or bin width", "flow {}/a.h5 -o {}/flow.h5 --to-bin 1ms",
         "a.h5|no physical spacing", lambda: {"a.h5": archive("bare")}),
    Case("inverse map of another model", "flow {}/fit.h5 -o {}/flow.h5 --to-bin 1ms", "fit.h5|neural|lattice",
         lambda: {"fit.h5": fitted("neural")}),
    Case("unknown command", "simulate {}/run.toml", "simulate|run|resume|analyze"),
    Case("no command", "", "run, resume|-h"),
    Case("unknown option", "status {}/a.h5 --fast", "--fast", lambda: {"a.h5": archive()}),
    Case("missing argument", "status", "archive"),
    Case("demo in a file", "demo -o {}/a", "a|cannot be made", {"a": b"mine"}),
    Case("demo beside a fit", "demo -o {}", "fit.h5|exists|--overwrite", {"fit.h5": b"mine"}),
    Case("demo done before", "demo -o {}", "demo.json|exists|--overwrite", {"demo.json": b"{}"}),
]
