"""Pseudo-likelihood fits of known Ising couplings: lft beside its peers, and at 1000 units.  See README.md.

    python experiments/fit_peers/run.py FOLDER --peers VENV/bin/python
    python experiments/fit_peers/run.py FOLDER --only scale-1000

Cases: J ~ N(0, 0.25/N), h uniform; 10 chains of heat bath thinned by 10 sweeps (scale: 1000 chains, 5 sweeps).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CASES = {  # units, bins, range of h, chains, sweeps between samples
    "dense-20": (20, 100_000, (-1.0, -0.2), 10, 10),
    "dense-40": (40, 100_000, (-1.0, -0.2), 10, 10),
    "sparse-40": (40, 100_000, (-2.0, -1.0), 10, 10),
    "dense-100": (100, 50_000, (-1.0, -0.2), 10, 10),
}
SCALE = (1000, 1_000_000, (-2.6, -2.0), 1000, 5)
MPIEXEC = Path(sys.executable).with_name("mpiexec")


# ---- data
def couplings(n, h_range, seed, is_centered):
    """J, h in spins; ``is_centered``: fields that act on top of silent neighbors, so that all rates stay low."""
    rng = np.random.default_rng(seed)
    J = np.triu(rng.normal(0, np.sqrt(0.25 / n), (n, n)), 1)
    J = J + J.T
    h = rng.uniform(*h_range, n)
    return J, h + 0.97 * J.sum(axis=1) if is_centered else h


def samples(J, h, n_bins, n_chains, thin, seed):
    """int8 (bins, units) of 0/1, chain after chain."""
    from scipy.sparse import csr_matrix

    from lft.actions import Pairwise
    from lft.geometry import Graph
    from lft.rng import Key
    from lft.sparse import Lanes

    action = Pairwise(J=csr_matrix(J), h=h)
    phi = action.new_field(Graph(len(h), n_chains))
    phi.values[...] = -1
    chains, key = Lanes(action, phi, "heatbath"), Key(seed).word
    chains.load()
    out = np.empty((n_bins // n_chains, n_chains, len(h)), np.int8)
    t = 0
    for row in range(-5, len(out)):
        for _ in range(thin):
            chains.sweep(t, key)
            t += 1
        if row >= 0:
            chains.store()
            out[row] = phi.values > 0
    return out.transpose(1, 0, 2).reshape(-1, len(h))


def data(name, folder, seed):
    path = folder / f"{name}-{seed}.npz"
    if not path.exists():
        n, n_bins, h_range, chains, thin = SCALE if name == "scale-1000" else CASES[name]
        J, h = couplings(n, h_range, seed, name == "scale-1000")
        x = samples(J, h, n_bins, chains, thin, seed)
        np.savez(path, raster=np.ascontiguousarray(x.T), bin_s=0.01)
        np.savez(folder / f"{name}-{seed}-truth.npz", J=J, h=h)
    truth = np.load(folder / f"{name}-{seed}-truth.npz")
    return path, truth["J"], truth["h"]


# ---- entrants: 0/1 raster (bins, units) -> J, h and perhaps J_error
def lft(x):
    from lft.inference.neural_fit import fit_pairwise

    fit = fit_pairwise(x, test=0)
    return fit.J, fit.h, fit.J_error


def lft_maximum(x):
    """The maximum alone, which is all that the peers give."""
    from lft.inference.pseudo.checkpoint import Checkpoint
    from lft.inference.pseudo.maximum import find_maximum
    from lft.inference.pseudo.objective import pairwise_objective
    from lft.inference.pseudo.result import couplings

    whole = pairwise_objective(x)
    found = find_maximum(whole.patterns, whole.layout, len(x), 0.0, None, Checkpoint(None), lambda line: None)
    objective, theta = found[:2]
    fit = couplings(objective.layout, theta, np.zeros((1, objective.size)), [], True)
    return fit["J"], fit["h"], None


def numpy_newton(x):
    """Newton's method for each unit by itself, J_ij and J_ji averaged."""
    s = 2.0 * x - 1
    n_bins, n = s.shape
    J, h = np.zeros((n, n)), np.zeros(n)
    for i in range(n):
        others = np.delete(np.arange(n), i)
        design = np.column_stack([s[:, others], np.ones(n_bins)])
        theta = np.zeros(n)
        for _ in range(20):
            p = 1 / (1 + np.exp(-2 * (design @ theta)))  # P(s_i = 1) = 1 / (1 + exp(-2 (h_i + sum J s)))
            gradient = 2 * design.T @ (x[:, i] - p)
            hessian = 4 * (design * (p * (1 - p))[:, None]).T @ design
            step = np.linalg.solve(hessian, gradient)
            theta += step
            if gradient @ step < 1e-8:
                break
        J[i, others], h[i] = theta[:-1], theta[-1]
    return (J + J.T) / 2, h, None


def scikit_learn(x):
    """LogisticRegression per unit, lbfgs, no penalty to speak of."""
    from sklearn.linear_model import LogisticRegression

    s = 2.0 * x - 1
    n = s.shape[1]
    J, h = np.zeros((n, n)), np.zeros(n)
    for i in range(n):
        others = np.delete(np.arange(n), i)
        model = LogisticRegression(C=1e10, solver="lbfgs", max_iter=1000, tol=1e-6).fit(s[:, others], x[:, i])
        J[i, others], h[i] = model.coef_[0] / 2, model.intercept_[0] / 2
    return (J + J.T) / 2, h, None


def coniii(x):
    """Pseudo of coniii: multipliers are h, then J of the pairs i < j."""
    from coniii.solvers import Pseudo

    s = (2 * x.astype(np.int64)) - 1
    n = s.shape[1]
    multipliers = np.asarray(Pseudo(s, iprint=False).solve())
    J = np.zeros((n, n))
    J[np.triu_indices(n, 1)] = multipliers[n:]
    return J + J.T, multipliers[:n], None


ENTRANTS = {"lft": lft, "lft, no errors": lft_maximum, "numpy": numpy_newton, "scikit-learn": scikit_learn,
            "coniii": coniii}  # fmt: skip


def entrant(name, source, out):
    """In a process of its own: one small fit to load everything, then the fit that is timed."""
    x = np.ascontiguousarray(np.load(source)["raster"].T)
    ENTRANTS[name](np.ascontiguousarray(x[:2000, :4]))
    start = time.process_time()
    J, h, error = ENTRANTS[name](x)
    seconds = time.process_time() - start
    np.savez(out, J=J, h=h, J_error=np.full_like(J, np.nan) if error is None else error, seconds=seconds)


def measure(name, source, folder, python):
    out = folder / "answer.npz"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [python, str(Path(__file__).resolve()), "--entrant", name, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        print(f"{name}: left out ({(done.stderr.strip().splitlines() or ['?'])[-1]})")
        return None
    with np.load(out) as answer:
        return {key: answer[key] for key in answer.files}


def quality(answer, J, h):
    upper = np.triu_indices(len(h), 1)
    error = (answer["J"] - J)[upper]
    z = error / answer["J_error"][upper]
    return {
        "J_error": float(np.sqrt((error**2).mean() / (J[upper] ** 2).mean())),
        "h_rmse": float(np.sqrt(((answer["h"] - h) ** 2).mean())),
        "z_std": float(z.std()),
        "cpu_s": float(answer["seconds"]),
    }


def small(name, folder, args):
    source, J, h = data(name, folder, args.seed)
    table = {}
    for peer in ENTRANTS:
        python = args.peers if peer in ("scikit-learn", "coniii") else sys.executable
        if python is None or (peer == "coniii" and name == "dense-100"):
            continue
        answers = [measure(peer, source, folder, python) for _ in range(1 if peer == "coniii" else args.repeats)]
        if answers[0] is not None:
            table[peer] = min((quality(a, J, h) for a in answers), key=lambda row: row["cpu_s"])
    print(f"\n{name}: {J.shape[0]} units, error of J = rms(J_fit - J) / rms(J)")
    for peer, row in table.items():
        ratio = row["cpu_s"] / table["lft"]["cpu_s"]
        print(f"  {peer:14} {row['cpu_s']:8.2f} CPU-s  x{ratio:6.1f}   J {row['J_error']:.4f}   h {row['h_rmse']:.4f}"
              f"   std of z {row['z_std']:.3f}")  # fmt: skip
    return table


# ---- 1000 units
CHILD = """
import resource, sys, time
start = time.time()
from lft.cli import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print("USED", time.time() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6, flush=True)
sys.exit(code)
"""


def scale(folder, args):
    """``lft fit`` with a ridge on one and on two ranks."""
    source, J, h = data("scale-1000", folder, args.seed)
    table, arrays = {}, {}
    for ranks in (2, 1):
        out = folder / f"scale-{ranks}.h5"
        launcher = [str(MPIEXEC), "-n", str(ranks)] if ranks > 1 else []
        options = ["fit", str(source), "--model", "pairwise", "--ridge", "20", "--test", "0", "--overwrite"]
        command = [*launcher, sys.executable, "-c", CHILD, *options, "-o", str(out)]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=True)
        used = np.array([[float(v) for v in line.split()[1:]] for line in done.stdout.splitlines()
                         if line.startswith("USED")])  # fmt: skip
        import h5py

        with h5py.File(out, "r") as file:
            arrays[ranks] = {name: file[name][()] for name in ("J", "h", "J_error", "h_error")}
        upper = np.triu_indices(len(h), 1)
        error = (arrays[ranks]["J"] - J)[upper]
        table[ranks] = {
            "wall_s": used[:, 0].max(), "cpu_s": used[:, 1].sum(), "memory_GB": used[:, 2].sum(),
            "J_error": np.sqrt((error**2).mean() / (J[upper] ** 2).mean()),
            "z_std": (error / arrays[ranks]["J_error"][upper]).std(),
        }  # fmt: skip
        print(f"scale-1000, {ranks} ranks:", ", ".join(f"{k} {v:.4g}" for k, v in table[ranks].items()))
    difference = max(np.abs(arrays[1][k] - arrays[2][k]).max() for k in ("J", "h"))
    same = all(np.array_equal(arrays[1][k], arrays[2][k], equal_nan=True) for k in arrays[1])
    print(f"couplings of 1 and 2 ranks: largest difference {difference:.3g}, same bits with errors: {same}")
    return {**{str(k): v for k, v in table.items()}, "difference": difference}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", choices=[*CASES, "scale-1000"])
    parser.add_argument("--peers", help="interpreter of an environment with scikit-learn and, if it builds, coniii")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--entrant", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.entrant:
        return entrant(*args.entrant)
    if args.folder is None:
        parser.error("give a folder for the data")
    args.folder.mkdir(parents=True, exist_ok=True)
    names = [args.only] if args.only else [*CASES, "scale-1000"]
    results = {name: scale(args.folder, args) if name == "scale-1000" else small(name, args.folder, args)
               for name in names}  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(results, indent=1, default=float))
    return None


if __name__ == "__main__":
    main()
