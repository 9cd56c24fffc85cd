"""Tempering, its archives, and annealing."""

import numpy as np

from tests.unit.bad.files import (
    ANNEALED,
    ISING,
    PHI4,
    SPREAD,
    TEMPERED,
    Case,
    altered,
    archive,
    config,
    ground,
    run_with,
    toml,
)
from tests.unit.bad.running import RUN

ANNEAL = "anneal {}/run.toml -o {}/out.h5"
CASES = [
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
