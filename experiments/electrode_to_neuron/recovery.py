"""Known fine lattice -> electrodes and bins -> fit -> inverse map: are the true couplings inside their errors?

    python experiments/electrode_to_neuron/recovery.py --seeds 20 --out DIR [--cases chain,bins,...]

Prints one line per seed, and at the end, per case, how many of the seeds hold the truth: each coupling within its
interval of one and of two sigma, and all couplings together within the joint region of two sigma (95.45 %), within the
intervals that hold all at once, and within the two-sigma intervals of each.  Writes ``recovery.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lft.geometry import Lattice, utah_array
from lft.inference.lattice_estimator import lattice_estimator
from lft.inference.lattice_fit import fit_lattice
from lft.rg.inverse.ensemble import FineModel, Observation, simulate
from lft.rg.inverse.match import Target, default_starts, inverse_map
from lft.rg.inverse.regions import TWO_SIGMA


@dataclass(frozen=True)
class Case:
    """A recording with a known origin."""

    recorded: Lattice
    factor: tuple
    truth: tuple
    displacements: tuple
    rule: str = "decimation"
    surround: int = 2
    climbs: bool = False  # from small factors, with all starts; else from the two attractive guesses


PLANES = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1))
CASES = {
    "chain": Case(Lattice((20000,), ("t",), "open", ("3 ms",)), (3,), (0.6, -0.4), ((1,), (2,), (3,))),
    "columns": Case(Lattice((8, 8, 3000), ("x", "y", "t"), ("periodic", "periodic", "open"),
                            ("100 um", "100 um", "5 ms")), (2, 2, 1), (0.12, 0.15, 0.25, -0.15), PLANES),
    "bins": Case(Lattice((8, 8, 3000), ("x", "y", "t"), ("periodic", "periodic", "open"),
                         ("100 um", "100 um", "10 ms")), (2, 2, 2), (0.12, 0.15, 0.25, -0.15), PLANES),
    "far": Case(utah_array(3000, "10 ms"), (4, 4, 5), (0.21, 0.21, 0.22, -0.02), PLANES, climbs=True),
    "farther": Case(utah_array(3000, "10 ms"), (8, 8, 10), (0.215, 0.215, 0.225, 0.0), PLANES, climbs=True),
    "utah-or": Case(utah_array(3000, "10 ms"), (2, 2, 2), (0.16, 0.13, 0.25, -0.45), PLANES, rule="or"),
}  # fmt: skip


def record(case, seed):
    """The recording: one long configuration of the fine lattice, seen through the array."""
    observation = Observation(case.recorded, case.factor, case.rule, surround=case.surround)
    ensemble = simulate(FineModel(observation), case.truth, 2, case.recorded.n_time, seed=10**6 + seed, spacing=10)
    return ensemble.fields[0], observation


def recover(case, seed, progress=None):
    """The inverse map of a recording; the fit assumes one field for all sites, as the truth has."""
    field, observation = record(case, seed)
    vectors = case.displacements
    fit = fit_lattice(field, vectors, site_field=False, test=0.0)
    values = [v for v, _ in fit.couplings.values()]
    names = tuple(fit.couplings)
    target = Target(names, values, fit.joint_covariance, field.geometry.n_active, fit.n_blocks)
    estimator = lattice_estimator(vectors, values)
    starts = None if case.climbs else _starts(target, observation)
    result = inverse_map(target, observation, estimator, starts=starts, seed=seed, check_size=False,
                         progress=progress)  # fmt: skip
    return fit, result


def _starts(target, observation):
    """The two attractive guesses; what an even decimation hides (signs) is a matter of the demonstration."""
    return default_starts(target, FineModel(observation))[:2]


def row(case, seed, progress=None):
    """One seed: the match, and whether it holds the truth in each of the three ways."""
    before = time.process_time()
    fit, result = recover(case, seed, progress)
    pairs = np.array(list(result.couplings.values()))
    return {
        "seed": seed, "names": list(result.names), "couplings": pairs.tolist(),
        "z": ((pairs[:, 0] - case.truth) / pairs[:, 1]).tolist(),
        "one_sigma": _inside(result.intervals, result.names, case.truth),
        "two_sigma": _inside(result.intervals_at(), result.names, case.truth),
        "at_once": _inside(result.intervals_at(at_once=True), result.names, case.truth),
        "p_of_truth": result.p_of(case.truth), "degrees_of_freedom": result.degrees_of_freedom,
        "p": result.p_value, "dof": result.dof, "noise_share": result.noise_share,
        "flat": [str(d) for d in result.flat], "notes": result.notes, "observed": dict(fit.couplings),
        "verdict": result.verdict, "alternatives": result.alternatives, "seconds": time.process_time() - before,
    }  # fmt: skip


def _inside(ranges, names, truth):
    """Per coupling whether its interval holds the truth; None where there is no interval."""
    return [bool(ranges[n][0] <= x <= ranges[n][1]) if n in ranges else None for n, x in zip(names, truth, strict=True)]


def tell(name, r):
    """A line per seed."""
    found = (
        f"{n} not determined" if math.isnan(v) else f"{n} {v:+.4f}({e:.4f}) z {z:+.2f}"
        for n, (v, e), z in zip(r["names"], r["couplings"], r["z"], strict=True)
    )
    print(name, r["seed"], "  ".join(found), f"p of truth {r['p_of_truth']:.2g}; {r['verdict']}; {r['seconds']:.0f} s",
          *r["flat"], *r["notes"], flush=True)  # fmt: skip


def summary(name, case, rows):
    """How many seeds hold the truth: every coupling by itself, all of them, and the joint region."""
    for k, coupling in enumerate(rows[0]["names"]):
        z = np.array([r["z"][k] for r in rows if not math.isnan(r["z"][k])])
        counts = [sum(r[key][k] is True for r in rows) for key in ("one_sigma", "two_sigma")]
        moments = f"mean z {z.mean():+.2f} sd {z.std():.2f}" if len(z) else "-"
        print(f"{name:8} {coupling:10} true {case.truth[k]:+.3f}  {moments}  inside 1 sigma {counts[0]}/{len(z)}  "
              f"2 sigma {counts[1]}/{len(z)}")  # fmt: skip
    said = [r for r in rows if math.isfinite(r["p_of_truth"])]
    region = sum(r["p_of_truth"] > 1 - TWO_SIGMA for r in said)
    box, each = (sum(all(x is not False for x in r[key]) for r in said) for key in ("at_once", "two_sigma"))
    seconds = sum(r["seconds"] for r in rows)
    print(f"{name:8} all couplings together, of {len(said)} seeds: joint 2-sigma region {region}, intervals at once "
          f"{box}, each in its own 2 sigma {each}; {seconds:.0f} s of processor time", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--out", default="recovery", metavar="DIR")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    out, folder = {}, Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.cases.split(","):
        case, rows = CASES[name], []
        for seed in range(args.first, args.first + args.seeds):
            rows.append(row(case, seed, print if args.verbose else None))
            tell(name, rows[-1])
            seconds = sum(r["seconds"] for r in rows)
            out[name] = {"names": rows[0]["names"], "truth": case.truth, "rows": rows, "seconds": seconds}
            (folder / "recovery.json").write_text(json.dumps(out, indent=1) + "\n")
        summary(name, case, rows)


if __name__ == "__main__":
    main()
