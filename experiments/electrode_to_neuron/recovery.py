"""Known fine lattice -> electrodes and bins -> fit -> inverse map: are the true couplings inside their errors?

    python experiments/electrode_to_neuron/recovery.py --seeds 20 --out DIR [--cases chain,bins,...]

Prints one line per seed and coupling z-scores, and at the end, per case and coupling, how many of the seeds have the
true value within one and two standard errors.  Writes ``recovery.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lft.geometry import Lattice, utah_array
from lft.inference.lattice_estimator import lattice_estimator
from lft.inference.lattice_fit import fit_lattice
from lft.rg.inverse.ensemble import FineModel, Observation, simulate
from lft.rg.inverse.match import Target, default_starts, inverse_map


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--out", default="recovery", metavar="DIR")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    out = {}
    for name in args.cases.split(","):
        case, rows, started = CASES[name], [], time.process_time()
        for seed in range(args.seeds):
            before = time.process_time()
            fit, result = recover(case, seed, print if args.verbose else None)
            pairs = np.array(list(result.couplings.values()))
            z = (pairs[:, 0] - case.truth) / pairs[:, 1]
            rows.append({"couplings": pairs.tolist(), "z": z.tolist(), "p": result.p_value, "dof": result.dof,
                         "noise_share": result.noise_share, "flat": [str(d) for d in result.flat],
                         "notes": result.notes, "observed": dict(fit.couplings), "verdict": result.verdict,
                         "alternatives": result.alternatives,
                         "seconds": time.process_time() - before})  # fmt: skip
            print(name, seed, "  ".join(f"{n} {v:+.4f}({e:.4f}) z {zz:+.2f}" for n, (v, e), zz in
                  zip(result.names, pairs, z, strict=True)), f"p {result.p_value:.2g},",
                  f"{rows[-1]['seconds']:.0f} s", *result.flat, *result.notes, flush=True)  # fmt: skip
        seconds = time.process_time() - started
        z = np.array([r["z"] for r in rows])
        out[name] = {"names": list(result.names), "truth": case.truth, "rows": rows, "seconds": seconds}
        for k, coupling in enumerate(result.names):
            moments = f"mean z {z[:, k].mean():+.2f} sd {z[:, k].std():.2f}"
            print(f"{name:8} {coupling:10} true {case.truth[k]:+.3f}  {moments}  "
                  f"inside 1 sigma {np.sum(abs(z[:, k]) < 1)}/{len(z)}  2 sigma {np.sum(abs(z[:, k]) < 2)}/{len(z)}")
        print(f"{name:8} all couplings inside 2 sigma: {np.sum((abs(z) < 2).all(axis=1))}/{len(z)} seeds; of all "
              f"{z.size}: {np.sum(abs(z) < 2)}; {seconds:.0f} s of processor time", flush=True)
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recovery.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
