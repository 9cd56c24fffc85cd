"""Generalized linear models beside their peers: the same estimate, the time it takes, and the largest problems.

    python experiments/fit_peers/glm.py                  # Poisson and logistic GLM against the libraries that are
    installed
    python experiments/fit_peers/glm.py --scale 1e6 --batches 2      # 1000 units: 2 of the 125 batches of 8 targets

Peers: scikit-learn, statsmodels, nemos (each optional).  Everyone gets the same rows and columns; a peer's design
matrix
is built outside its time.  Times are CPU seconds of one process (set OMP_NUM_THREADS=1).
"""

import argparse
import json
import resource
import time

import numpy as np

from lft.inference.basis import make_basis
from lft.inference.causal.fit import fit_batch, fit_glm, make_task
from lft.inference.causal.model import CausalModel


def recording(n, bins, link, seed=1):
    """Random filters in the basis that is fitted."""
    rng = np.random.default_rng(seed)
    basis = make_basis("raised-cosine", 4, 25)
    C = np.einsum("km,ijm->kij", basis.matrix, rng.normal(0, 0.25 / np.sqrt(n), (n, n, 4)))
    C[:, np.arange(n), np.arange(n)] = -1.5 * basis.matrix[:, :1]
    return CausalModel(np.full(n, -2.8), C, link).simulate(bins, seed=seed)[0], basis


def columns(raster, basis):
    """The design matrix that a general library needs: (rows, units x functions)."""
    K = basis.n_lags
    past = np.stack([raster[K - k : len(raster) - k] for k in range(1, K + 1)]).astype(float)
    return np.einsum("kaj,km->ajm", past, basis.matrix, optimize=True).reshape(len(raster) - K, -1)


def sklearn(X, Y, link):
    from sklearn.linear_model import LogisticRegression, PoissonRegressor

    out = []
    for y in Y.T:
        if link == "poisson":
            model = PoissonRegressor(alpha=0.0, solver="newton-cholesky", tol=1e-8, max_iter=200).fit(X, y)
        else:
            model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=200).fit(X, y)
        out.append(np.append(model.intercept_, model.coef_.ravel()))
    return np.array(out)


def statsmodels(X, Y, link):
    import statsmodels.api as sm

    family = sm.families.Poisson() if link == "poisson" else sm.families.Binomial()
    Z = sm.add_constant(X)
    return np.array([sm.GLM(y, Z, family=family).fit(tol=1e-10).params for y in Y.T])


def nemos(X, Y, link):
    import jax
    import nemos as nmo

    jax.config.update("jax_enable_x64", True)
    kind = (
        nmo.observation_models.PoissonObservations
        if link == "poisson"
        else nmo.observation_models.BernoulliObservations
    )
    out = []
    for y in Y.T:
        model = nmo.glm.GLM(
            observation_model=kind(), solver_name="LBFGS", solver_kwargs={"tol": 1e-10, "maxiter": 2000}
        )
        model.fit(X, y)
        out.append(np.append(np.ravel(model.intercept_), np.ravel(model.coef_)))
    return np.array(out)


PEERS = {"scikit-learn": sklearn, "statsmodels": statsmodels, "nemos": nemos}


def log_likelihood(weights, X, Y, link):
    """Nats of all rows and targets; weights (targets, 1 + columns)."""
    from scipy.special import gammaln

    eta = X @ weights[:, 1:].T + weights[:, 0]
    terms = Y * eta - np.exp(eta) - gammaln(Y + 1) if link == "poisson" else Y * eta - np.logaddexp(0, eta)
    return float(terms.sum())


def compare(n, bins, link):
    """One row per program: CPU seconds, the largest difference of a weight in units of its error, and how far its
    log-likelihood (nats, all rows) lies above that of lft."""
    raster, basis = recording(n, bins, link)
    options = {"family": "poisson"} if link == "poisson" else {"link": link}
    started = time.process_time()
    fit = fit_glm(raster, basis=basis, test=0.0, **options)
    rows = {"lft": {"cpu_s": time.process_time() - started, "with_errors": True}}
    ours = np.array(
        [
            np.concatenate([[fit.h[i]], *(fit.own_weights[i] if i == j else fit.weights[i, j] for j in range(n))])
            for i in range(n)
        ]
    )
    errors = np.array(
        [
            np.concatenate(
                [[fit.h_error[i]], *(fit.own_weights_error[i] if i == j else fit.weights_error[i, j] for j in range(n))]
            )
            for i in range(n)
        ]
    )
    X, Y = columns(raster, basis), raster[basis.n_lags :].astype(float)
    reached = log_likelihood(ours, X, Y, link)
    rows["lft"]["log_likelihood"] = reached
    for name, peer in PEERS.items():
        try:
            started = time.process_time()
            theirs = peer(X, Y, link)
            seconds = time.process_time() - started
        except ImportError as reason:
            rows[name] = {"absent": str(reason)}
            continue
        except Exception as reason:  # another library's failure is a result of the comparison
            rows[name] = {"failed": f"{type(reason).__name__}: {reason}"[:200]}
            continue
        rows[name] = {"cpu_s": seconds, "ratio": seconds / rows["lft"]["cpu_s"],
                      "largest_difference": float(np.nanmax(np.abs(theirs - ours) / errors)),
                      "log_likelihood_above": log_likelihood(theirs, X, Y, link) - reached}  # fmt: skip
    return {"link": link, "units": n, "bins": bins, "rate": float(raster.mean()), "programs": rows}


def scale(bins, n_batches, n=1000, ridge=1.0):
    """Time of some batches of the kinetic fit of 1000 units that fire in 1 % of the bins, and the memory."""
    rng = np.random.default_rng(0)
    w = np.zeros((1, n, n))
    for i in range(n):
        w[0, i, rng.integers(0, n, 20)] = rng.normal(size=20)
    w[0][np.diag_indices(n)] = -2
    started = time.process_time()
    raster = CausalModel(np.full(n, -4.75), w).simulate(bins, seed=3)[0]
    drawn = time.process_time() - started
    started = time.process_time()
    one = make_basis("identity", 1, 1)
    task, _, targets = make_task([raster], one, one, "logit", test=0.0, ridge=ridge, spins=True)
    prepared = time.process_time() - started
    started = time.process_time()
    results = [r for b in range(n_batches) for r in fit_batch(task, targets[8 * b : 8 * b + 8])]
    each = (time.process_time() - started) / n_batches
    z = np.concatenate([(4 * r.rows["J_lag"][0] - w[0, r.target]) / (4 * r.rows["J_lag_error"][0]) for r in results])
    return {
        "units": n, "bins": bins, "rate": float(raster.mean()), "simulation_cpu_s": drawn,
        "preparation_cpu_s": prepared, "batch_cpu_s": each, "whole_fit_cpu_s": prepared + each * -(-n // 8),
        "rms_z": float(np.sqrt(np.nanmean(z**2))),
        "peak_memory_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--bins", type=int, default=20000)
    parser.add_argument("--scale", type=float, metavar="BINS")
    parser.add_argument("--batches", type=int, default=2)
    args = parser.parse_args()
    if args.scale:
        print(json.dumps(scale(int(args.scale), args.batches), indent=2))
        return
    for link in ("poisson", "logit"):
        print(json.dumps(compare(args.units, args.bins, link), indent=2), flush=True)


if __name__ == "__main__":
    main()
