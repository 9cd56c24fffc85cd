"""How much of the multi-information of neighboring units do pairs explain, and how much of the answer is bias?

    python experiments/multi_information/run.py [--data FOLDER] [-o FILE.json] [--groups 8] [--units 10]

FOLDER (or the environment variable LFT_DATA) holds the recordings.  Question, rules and table: README.md beside this
file.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np

from lft.errors import DataWarning
from lft.inference.likelihood.information import ESTIMATES, multi_information
from lft.inference.recording import read_recording

RECORDINGS = (
    ("retina_P11_m1r2", 0.02),
    ("retina_P9_7mar", 0.02),
    ("culture_ctx_DIV28", 0.02),
    ("aplysia_Jun0514_da01", 0.05),
)
RULES = ("spread", "busiest", "random")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("LFT_DATA"))
    parser.add_argument("-o", "--output", default="multi_information.json")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--units", type=int, default=10)
    parser.add_argument("--active", type=float, default=0.01, help="lowest probability of a spike in a bin")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data FOLDER or set LFT_DATA")
    results = {}
    for name, bin_s in RECORDINGS:
        path = Path(args.data) / f"{name}.h5"
        if not path.is_file():
            print(f"{name}: not in {args.data}, left out")
            continue
        results[name] = recording(path, bin_s, args)
        Path(args.output).write_text(json.dumps(results, indent=2) + "\n")


def recording(path, bin_s, args):
    """Groups by every rule, plug-in; by the first rule, all estimates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # clipping is reported in the table of the README
        raster = read_recording(path, bin_s).bin(bin_s)
    began, out = time.process_time(), {}
    for rule in RULES:
        groups = nearest_groups(raster, rule, args)
        for estimate in ESTIMATES if rule == RULES[0] else ("plug-in",):
            found = [multi_information(raster.values[:, g], estimate=estimate) for g in groups]
            out[f"{rule}, {estimate}"] = summary = summarize(found)
            print(
                f"{path.stem:22s} {rule:8s} {estimate:13s} I_N {summary['i_n']:.3f} bits, I_2/I_N "
                f"{summary['ratio']:.3f} +- {summary['error']:.3f} ({summary['lowest']:.3f}-{summary['highest']:.3f})",
                flush=True,
            )
    out["seconds"] = time.process_time() - began
    return out


def nearest_groups(raster, rule, args):
    """Groups of a seed and the active units nearest to it; seeds by the rule, ties of distance by the unit's number.

    ``spread``: the busiest unit, then always the active unit farthest from all seeds.  ``busiest``: the busiest unit
    that is in no group yet.  ``random``: eight active units, seed 1.
    """
    rate = raster.values.mean(axis=0)
    active = np.flatnonzero(rate >= args.active)
    at = np.asarray(raster.positions_um, float)[active]
    rate = rate[active]
    distance = np.linalg.norm(at[:, None] - at[None, :], axis=2)
    order = np.argsort(distance, axis=1, kind="stable")[:, : args.units]
    if rule == "random":
        seeds = np.random.default_rng(1).choice(len(active), args.groups, replace=False)
    elif rule == "spread":
        seeds = [int(rate.argmax())]
        while len(seeds) < args.groups:
            seeds.append(int(distance[seeds].min(axis=0).argmax()))
    else:
        seeds, free = [], np.ones(len(active), bool)
        while len(seeds) < args.groups:
            left = np.flatnonzero(free) if free.any() else np.arange(len(active))
            left = np.setdiff1d(left, seeds)
            seeds.append(int(left[rate[left].argmax()]))
            free[order[seeds[-1]]] = False
    return [active[order[s]] for s in seeds]


def summarize(found):
    """Mean over groups, its error from their scatter and from within, and the range."""
    ratio = np.array([m.ratio[0] for m in found])
    return {
        "i_n": float(np.mean([m.i_n[0] for m in found])),
        "i_2": float(np.mean([m.i_2[0] for m in found])),
        "ratio": float(ratio.mean()),
        "error": float(ratio.std(ddof=1) / np.sqrt(len(ratio))),
        "lowest": float(ratio.min()),
        "highest": float(ratio.max()),
        "error_of_one": float(np.mean([m.ratio[1] for m in found])),
        "words": float(np.mean([m.words for m in found])),
    }


if __name__ == "__main__":
    main()
