"""Exponents and critical couplings of the Ising model by Monte Carlo renormalization group.

    python experiments/monte_carlo_rg/run.py [-o FOLDER] [--jobs 2] [--only 2d,3d,matching,plane] [--quick]

Questions, figures and findings: README.md beside this file.
"""

import argparse
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from functools import reduce
from pathlib import Path

import numpy as np

from lft.actions import Ising
from lft.clusters import SwendsenWang
from lft.geometry import Lattice
from lft.plotting import plot_exponents, plot_flow_field, plot_matching
from lft.rg.monte_carlo.cascade import measure_cascade, sampled
from lft.rg.monte_carlo.fixed_points import fixed_point, flow_field, sampled_map
from lft.rg.monte_carlo.matching import match
from lft.rg.monte_carlo.operators import operator_set, parse_operator
from lft.rg.monte_carlo.stability import stability
from lft.rng import Key

CRITICAL = {2: 0.5 * math.log(1 + math.sqrt(2)), 3: 0.22165463}
REPLICAS = 4  # independent chains, whatever the number of processes: the results do not depend on it
SEED = 20


def chain(shape, K, n, levels, operators, replica):
    """Operators of one chain of Swendsen-Wang updates and of its blocks."""
    lattice = Lattice(shape)
    batches = sampled(Ising(K), lattice, SwendsenWang(), Key(SEED + shape[0], replica), n, 1, 300)
    return measure_cascade(batches, lattice, operator_set(len(shape), *operators), "majority", 2, levels, seed=replica)


def series(pool, shape, K, n, levels, operators):
    """All chains, one after the other."""
    jobs = [pool.submit(chain, shape, K, n // REPLICAS, levels, operators, r) for r in range(REPLICAS)]
    return reduce(lambda a, b: a.joined(b), [j.result() for j in jobs])


def exponents(pool, dimension, L, n, levels, operators, folder):
    result = stability(series(pool, (L,) * dimension, CRITICAL[dimension], n, levels, operators))
    plot_exponents(result, folder / f"exponents_{dimension}d.png")
    print(result.table(), *result.notes, sep="\n")
    return result.as_json()


def matching(pool, n, folder):
    """From a coupling one per cent off."""
    K = 0.436
    for quick in (True, False):  # a short run finds the neighborhood, a long one the number
        runs = [series(pool, (L, L), K, n // 10 if quick else n, levels, (7, 0)) for L, levels in ((64, 4), (32, 3))]
        result = match(*runs, {"1,0": K})
        K *= 1 + result.shifts[max(result.shifts)][0] if quick else 1
    plot_matching(result, folder / "matching.png")
    value, statistical, systematic = result.critical["K[1,0]"]
    print(result.table(), f"exact {CRITICAL[2]:.7f}, off by {value - CRITICAL[2]:+.2g}", sep="\n")
    return {"value": value, "statistical": statistical, "systematic": systematic, "exact": CRITICAL[2]}


def plane(n, folder):
    """Flow in the plane of nearest and next-nearest couplings: a grid, and the fixed point of this truncation."""
    operators = [parse_operator(name, 2) for name in ("1,0", "1,1")]
    flow = sampled_map(Lattice((16, 16)), operators, "majority", 2, n, seed=SEED)
    nearest, diagonal = np.meshgrid(np.linspace(0.15, 0.5, 6), np.linspace(-0.05, 0.2, 6), indexing="ij")
    field = flow_field(flow, np.column_stack([nearest.ravel(), diagonal.ravel()]), ("K[1,0]", "K[1,1]"))
    point = fixed_point(sampled_map(Lattice((32, 32)), operators, "majority", 2, 4 * n, seed=SEED + 1), [0.35, 0.08])
    plot_flow_field(field, folder / "flow_field.png", point, ("K[1,0]", "K[1,1]"))
    print(point.table(("K[1,0]", "K[1,1]"), 2.0))
    return point.as_json(("K[1,0]", "K[1,1]"), 2.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", default="output", type=Path)
    parser.add_argument("--jobs", default=2, type=int, help="processes")
    parser.add_argument("--only", default="2d,3d,matching,plane", help="parts, parted by commas")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the configurations")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    few = 20 if args.quick else 1
    path = args.output / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {}
    with ProcessPoolExecutor(args.jobs) as pool:
        parts = {
            "2d": lambda: exponents(pool, 2, 64, 600_000 // few, 4, (7, 4), args.output),
            "3d": lambda: exponents(pool, 3, 64, 24_000 // few, 4, (7, 4), args.output),
            "matching": lambda: matching(pool, 240_000 // few, args.output),
            "plane": lambda: plane(600 // min(few, 3), args.output),
        }
        for name in args.only.split(","):
            started = time.perf_counter()
            print(f"--- {name}", flush=True)
            summary[name] = {"result": parts[name](), "seconds": time.perf_counter() - started}
            print(f"{name}: {summary[name]['seconds']:.0f} s", flush=True)
    path.write_text(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
