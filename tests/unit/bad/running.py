"""Keys and values of a configuration, the files that it names, ``--set``, the configuration itself."""

import functools

import numpy as np

from tests.unit.bad.files import (
    ANNEALED,
    COUNTED,
    ISING,
    LATE,
    NEURAL,
    PAIRWISE,
    PHI4,
    SPREAD,
    TEMPERED,
    Case,
    archive,
    config,
    fitted,
    npy,
    npz,
    run_with,
    toml,
)

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
