"""``lft anneal``: the lowest action that simulated annealing finds, and the evidence for it."""

from __future__ import annotations

import json
import math

import numpy as np

from lft import __version__
from lft.actions import Pairwise
from lft.annealing import anneal
from lft.archive import check_output, field_sha256, on_root, replacing, write_action, write_geometry
from lft.config import read_config
from lft.errors import InputError
from lft.geometry import Graph
from lft.simulation import check_memory

SCHEMA, VERSION = "lft-ground", 1
MAX_SHOWN = 1000
"""Most different actions that the JSON report lists."""


def anneal_config(args, comm):
    """Anneal what the command line asks for and write the file; returns (data for ``--json``, notes) on rank 0."""
    config = read_config(args.config, args.settings)
    if config.anneal is None:
        raise InputError(
            f"{args.config}: [anneal] is missing: valid keys are sweeps, from, to, schedule and restarts (all have "
            "defaults)"
        )
    on_root(comm, check_output, args.output, args.overwrite)
    many = config.geometry
    if isinstance(config.action, Pairwise):
        many = Graph(config.geometry.n_units, config.anneal.restarts)
    check_memory(many, config.action, 1 if comm is None else comm.Get_size(), 1)
    what = (config.action, config.updater, config.geometry, config.anneal, config.key)
    try:
        ground = anneal(*what, config.start, comm, config.kernel)
    except InputError as error:
        raise InputError(f"{args.config}, [anneal] {error}") from None
    ranks = 1 if comm is None else comm.Get_size()
    return on_root(comm, _report, ground, config, args.output, ranks)


def _report(ground, config, path, ranks):
    data, notes = describe(ground)
    data |= {"ranks": ranks, "config": config.resolved, "warnings": notes}
    with replacing(path) as file:
        file.attrs.update(schema=SCHEMA, schema_version=VERSION, lft_version=__version__)
        meta = file.create_group("meta")
        meta.attrs.update(config=json.dumps(config.resolved), config_text=config.text, kernel=ground.kernel)
        meta.attrs.update(ranks=ranks, seed=str(config.key.seed), updater=repr(config.updater))
        write_geometry(file.create_group("lattice"), ground.geometry)
        write_action(file.create_group("action"), ground.action)
        file["actions"] = ground.actions
        file["actions"].attrs["doc"] = "lowest action of each restart"
        file["configurations"] = np.array(ground.configurations)
        file["configurations"].attrs["doc"] = "different configurations of the lowest action, axes as in the config"
        file.attrs["lowest"] = ground.lowest
    return data, notes


def describe(ground):
    """(dictionary, warnings) of an annealing run."""
    values, counts = ground.histogram()
    n, reached = len(ground.actions), int(ground.has_reached.sum())
    p = reached / n
    data = {
        "action": ground.lowest,
        "action_density": ground.lowest / ground.geometry.n_active,
        "restarts": n,
        "reached": reached,
        "fraction": {"value": p, "error": math.sqrt(max(p * (1 - p), 1 / n) / n)},
        "configurations": len(ground.configurations),
        "energies": {"action": values[:MAX_SHOWN], "restarts": counts[:MAX_SHOWN], "different": len(values)},
        "field_sha256": [field_sha256(ground.action.kind, a) for a in ground.configurations[:MAX_SHOWN]],
        "kernel": ground.kernel,
        "seconds": ground.seconds,
    }
    notes = []
    if reached == 1 and n > 1:
        notes.append(
            f"one of {n} restarts reached the lowest action: there may well be a lower one; take more sweeps, or more"
            " restarts"
        )
    elif n == 1:
        notes.append("one restart tells nothing about how hard the lowest action is to find: take more")
    return data, notes


def format_ground(data):
    """The lowest action, how often it was found, and the next ones."""
    lines = [
        f"lowest action            {data['action']:.12g} ({data['action_density']:.8g} per site)",
        f"reached by               {data['reached']} of {data['restarts']} restarts",
        f"different configurations {data['configurations']}",
        "actions found            restarts",
    ]
    rows = list(zip(data["energies"]["action"], data["energies"]["restarts"], strict=True))
    lines += [f"  {S:<22.12g} {count}" for S, count in rows[:10]]
    if data["energies"]["different"] > 10:
        lines.append(f"  and {data['energies']['different'] - 10} higher ones")
    return "\n".join(lines)
