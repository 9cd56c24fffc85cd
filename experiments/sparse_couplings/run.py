"""How far can a penalty lower the error of sparse couplings?  The cross-validated ridge beside the Bayes limit.

    python experiments/sparse_couplings/run.py [-o FILE.json] [--draws 10] [--draw-bins 2000000]

Pairwise couplings of 40 units that fire in 6.5 to 7.2 % of 1e5 bins; README.md beside this file has the question, the
equations and the table.  About half a minute of one core per draw.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from lft.inference.likelihood.model import GibbsModel
from lft.inference.likelihood.sampling import draws
from lft.inference.penalty.fit import fit_penalized
from lft.inference.pseudo.fit import fit_gibbs

UNITS, BINS = 40, 100_000
J_VARIANCE = 0.25 / UNITS
H_RANGE = (-2.0, -1.0)
FIRING = (0.065, 0.072)
KNOWN = 1e8  # precision of fields that are given
PAIRS = np.triu_indices(UNITS, 1)
N_PAIRS = len(PAIRS[0])


# ---- the case
def draw_model(seed):
    """J ~ N(0, 0.25/N), h ~ U(-2, -1) in spins, as log-odds theta = (a of the pairs, c)."""
    rng = np.random.default_rng(seed)
    J = rng.normal(0, np.sqrt(J_VARIANCE), N_PAIRS)
    return to_log_odds(J, rng.uniform(*H_RANGE, UNITS))


def to_log_odds(J, h):
    """``a = 4 J``, ``c_i = 2 h_i - 2 sum_j J_ij``."""
    return np.concatenate([4 * J, 2 * h - 2 * square(J).sum(axis=1)])


def square(pairs):
    """Symmetric matrix of a vector over pairs."""
    out = np.zeros((UNITS, UNITS))
    out[PAIRS] = pairs
    return out + out.T


def model_of(theta):
    """The distribution that can be drawn from."""
    return GibbsModel(theta[N_PAIRS:], square(theta[:N_PAIRS]))


def fields():
    """(N, size) matrix B with ``h = B theta``: ``h_i = (c_i + sum_j a_ij / 2) / 2``."""
    out = np.zeros((UNITS, N_PAIRS + UNITS))
    out[PAIRS[0], np.arange(N_PAIRS)] = out[PAIRS[1], np.arange(N_PAIRS)] = 0.25
    out[np.arange(UNITS), N_PAIRS + np.arange(UNITS)] = 0.5
    return out


# ---- estimates by pseudo-likelihood
def pseudo_likelihood(raster, truth):
    """Couplings a without penalty, by the cross-validated ridge and by the best strength of its path."""
    free = fit_gibbs("pairwise", raster, test=0.0)
    kept = []

    def penalize(objective):
        kept.append(fit_penalized(objective, "l2"))
        return kept[0].theta, kept[0].errors.influences

    ridge = fit_gibbs("pairwise", raster, test=0.0, penalize=penalize)
    penalized, a = kept[0], truth[:N_PAIRS]
    along = [error_of(theta[:N_PAIRS], a) for theta in penalized.path["theta"]]
    z = (4 * ridge.J[PAIRS] - a) / (4 * ridge.J_error[PAIRS])
    free_z = (4 * free.J[PAIRS] - a) / (4 * free.J_error[PAIRS])
    known = np.isfinite(free_z)  # a pair that never fires together has no maximum: J = 0, without error
    return {
        "free": 4 * free.J[PAIRS],
        "ridge": 4 * ridge.J[PAIRS],
        "best_on_path": min(along),
        "strength": penalized.strength,
        "coverage": float((np.abs(z) < 1.96).mean()),
        "sd_of_z": float(z.std()),
        "free_sd_of_z": float(free_z[known].std()),
        "free_unbounded": free.unbounded,
    }


def error_of(found, true):
    """rms(found - true) / rms(true)."""
    return float(np.sqrt(((found - true) ** 2).mean() / (true**2).mean()))


# ---- the posterior under the true prior, from the full likelihood
def information(truth, n, seed):
    """Fisher information of one bin at the true model, (size, size), from n independent bins."""
    from scipy.sparse import csr_matrix, hstack

    size = N_PAIRS + UNITS
    second, mean = np.zeros((size, size)), np.zeros(size)
    phi = draws(model_of(truth), n, seed=seed)
    for start in range(0, n, 1 << 17):
        x = csr_matrix(phi[start : start + (1 << 17)].astype(float))
        operators = hstack([x[:, PAIRS[0]].multiply(x[:, PAIRS[1]]), x], format="csr")
        second += (operators.T @ operators).toarray()
        mean += np.asarray(operators.sum(axis=0)).ravel()
    mean /= n
    return second / n - np.outer(mean, mean)


def bayes_limits(truth, n_bins, seed):
    """Expected error of a, over recordings of this truth, of posterior means under true priors.

    With F the information of the recording, a prior of precision P around m and M = (F + P)^-1,

        E (theta_hat - theta)(theta_hat - theta)^T = M F M + M P (theta - m)(theta - m)^T P M

    to leading order in the length.  Averaged over truths from the prior this is M: no estimator has a smaller mean.
    """
    F = BINS * information(truth, n_bins, seed)
    B, size = fields(), N_PAIRS + UNITS
    on_a = np.diag(np.where(np.arange(size) < N_PAIRS, 1 / (16 * J_VARIANCE), 0.0))
    middle, variance = np.mean(H_RANGE), (H_RANGE[1] - H_RANGE[0]) ** 2 / 12
    priors = {
        "no prior": (0 * on_a, middle),
        "true prior of J": (on_a, middle),
        "true priors of J and h": (on_a + B.T @ B / variance, middle),
        "true prior of J, h known": (on_a + KNOWN * B.T @ B, B @ truth),
    }
    out = {}
    for name, (P, h) in priors.items():
        center = np.concatenate([np.zeros(N_PAIRS), np.broadcast_to(2 * h, UNITS)])
        M = np.linalg.inv(F + P)
        bias = M @ (P @ (truth - center))
        square_error = np.einsum("ij,jk,ki->i", M, F, M, optimize=True) + bias**2
        out[name] = float(np.sqrt(square_error[:N_PAIRS].mean() / (truth[:N_PAIRS] ** 2).mean()))
    return out


# ---- all draws
def study(seed, n_bins):
    """Errors of all estimates of one draw, or None where it fires too rarely or too often."""
    truth = draw_model(seed)
    raster = draws(model_of(truth), BINS, seed=1000 + seed)
    firing = float(raster.mean())
    if not FIRING[0] <= firing <= FIRING[1]:
        return None
    began, a = time.process_time(), truth[:N_PAIRS]
    fits = pseudo_likelihood(raster, truth)
    return {
        "seed": seed,
        "firing": firing,
        "free": error_of(fits.pop("free"), a),
        "ridge": error_of(fits.pop("ridge"), a),
        **fits,
        "bayes": bayes_limits(truth, n_bins, 10_000 + seed),
        "cpu_s": time.process_time() - began,
    }


def summary(found):
    """Mean ratio to the fit without penalty (limits: to its expected error), with its standard error over draws."""
    ratios = {
        "cross-validated ridge": [f["ridge"] / f["free"] for f in found],
        "best ridge of the path": [f["best_on_path"] / f["free"] for f in found],
    }
    for name in list(found[0]["bayes"])[1:]:
        ratios[name] = [f["bayes"][name] / f["bayes"]["no prior"] for f in found]
    n = len(found)
    return {
        name: {
            "mean": float(np.mean(r)),
            "error": float(np.std(r, ddof=1) / np.sqrt(n)) if n > 1 else None,
            "sd": float(np.std(r, ddof=1)) if n > 1 else None,
            "below_0.75": int((np.array(r) <= 0.75).sum()),
            "range": [float(min(r)), float(max(r))],
        }
        for name, r in ratios.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="sparse_couplings.json")
    parser.add_argument("--draws", type=int, default=10, help="the first ones, by seed, that fire at the given rate")
    parser.add_argument("--draw-bins", type=int, default=1_000_000, help="sampled bins behind the information")
    parser.add_argument("--first-seed", type=int, default=1)
    args = parser.parse_args()
    found, seed = [], args.first_seed
    while len(found) < args.draws:
        one = study(seed, args.draw_bins)
        seed += 1
        if one is None:
            continue
        found.append(one)
        print(json.dumps(one), flush=True)
        made = {"draws": found, "ratios": summary(found)}
        Path(args.output).write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(made["ratios"], indent=1))


if __name__ == "__main__":
    main()
