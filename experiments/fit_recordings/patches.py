"""The same question at the size of the recordings: patches of 20 to 40 units, cross-validated penalties.

    python experiments/fit_recordings/patches.py [DATA_FOLDER] [-o FOLDER] [--only NAME] [--units N] [--bins N]

README.md beside this file has the question, what is fitted and the findings; ``summarize.py`` makes its tables.
"""

import argparse
import os
import time

import numpy as np
from run import RECORDINGS, TEST, each_recording

from lft.commands.fit_check import CAUSAL, constraints_of, heat_of, model_of, n_parameters
from lft.errors import DivergenceError, InputError
from lft.inference.basis import make_basis
from lft.inference.causal.fit import fit_glm, fit_kinetic
from lft.inference.likelihood.boltzmann import fit_boltzmann
from lft.inference.likelihood.counts import continue_potential
from lft.inference.likelihood.information import multi_information
from lft.inference.likelihood.model import GibbsModel
from lft.inference.likelihood.normalization import normalization
from lft.inference.penalty.fit import fit_penalized
from lft.inference.pseudo.fit import fit_gibbs
from lft.inference.recording import read_recording
from lft.inference.trials import split_trials
from lft.inference.verdict.checks import check_model
from lft.inference.verdict.conditional import conditional_scores
from lft.inference.verdict.drift import drift
from lft.inference.verdict.independent import IndependentModel
from lft.inference.verdict.ranking import held_out, rank
from lft.plotting.verdict import plot_checks, plot_heat, plot_ranking

LEAST_SPIKES, LEAST_FIRING = 30, 0.01  # an active unit fires in 1 % of the bins
SAME, SAME_BIN_S = 0.5, 0.001  # share of the rarer one's spikes from which two electrodes count as one cell
BETAS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35)
FOLDS, PATH = 4, 7  # of the choice of a strength
STRENGTHS = (10.0, 100.0, 1000.0, 10_000.0)  # of the causal models, nats
CAUSAL_BINS = 20_000  # of the training stretch, behind their choice
CHECK = {"max_triples": 1000, "n_labels": 2999}
GROUPS, GROUP_UNITS = 3, 10
SHORT = "pairwise; kinetic; glm; pairwise, likelihood"
PATCHES = {  # units, bins at most, families: each recording within 10 minutes of one core
    "retina_P11_m1r2": (40, 90_000, SHORT),
    "retina_P9_7mar": (40, 90_000, SHORT),
    "culture_ctx_DIV28": (40, 30_000, SHORT),
    "aplysia_Jun0514_da01": (40, 30_000, SHORT + "; k-pairwise; neural; neural, likelihood"),
    "aplysia_Jun0514_da02": (40, 30_000, SHORT),
    "aplysia_Jun0514_da03": (40, 30_000, SHORT + "; neural, likelihood"),
}
CHECKED = ("pairwise", "neural", "glm")
QUESTIONS = (("neural, likelihood", "pairwise, likelihood"), ("glm", "pairwise, likelihood"),
             ("glm", "neural, likelihood"), ("kinetic", "pairwise, likelihood"))  # fmt: skip


# ---- the patch
def patch_of(recording, n_units, bin_s):
    """Nearest units around the most active one, without second electrodes of one cell; and those left out."""
    from scipy.sparse import csr_matrix

    least = max(LEAST_SPIKES, LEAST_FIRING * recording.duration_s / bin_s)
    spikes = recording.rates_hz * recording.duration_s
    busy = np.flatnonzero(spikes >= least)
    first = busy[np.argmax(spikes[busy])]
    distance = ((recording.positions_um[busy] - recording.positions_um[first]) ** 2).sum(axis=1)
    near = busy[np.argsort(distance, kind="stable")][: 2 * n_units]
    values = csr_matrix(recording.select([int(i) for i in near]).bin(SAME_BIN_S).values.astype(float))
    together, count = (values.T @ values).toarray(), np.asarray(values.sum(axis=0)).ravel()
    kept, left = [], []
    for k in range(len(near)):
        if len(kept) == n_units:
            break
        same = [m for m in kept if together[k, m] > SAME * min(count[k], count[m])]
        left.append(int(near[k])) if same else kept.append(k)
    return sorted(int(near[k]) for k in kept), left


# ---- fits
def penalized(model, train, bin_s, strength="auto", **terms):
    """Pseudo-likelihood with the L2 strength that predicts blocks of the training stretch: (fit, strength)."""
    found, choice = [], {} if strength != "auto" else {"n_folds": FOLDS, "n_strengths": PATH}

    def penalize(objective):
        found.append(fit_penalized(objective, "l2", strength=strength, **choice))
        return found[0].theta, found[0].errors.influences

    fit = fit_gibbs(model, train, test=0.0, bin_s=bin_s, penalize=penalize, **terms)
    if model == "k-pairwise":
        fit = continue_potential(fit, train, [])
    return fit, found[0].strength


def boltzmann(model, train, bin_s, strength, **terms):
    """Maximum of the likelihood proper with the same prior, from independent units.

    A pseudo-likelihood has every pair twice, so that its strength is twice that of the prior; ``ridge`` is four times
    the strength in log-odds.  Its maximum is no start here: it may have a mode with all units active.
    """
    rate = np.mean(train[0], axis=0)
    return fit_boltzmann(
        train, model=model, test=0.0, bin_s=bin_s, start=GibbsModel(np.log(rate / (1 - rate))), ridge=4 * strength / 2,
        accuracy=0.25, n_chains=128 if model == "neural" else None, **terms,
    )  # fmt: skip


def causal(fit, train):
    """A causal fit with the strength that predicts halves of the first training bins: (fit, strength)."""
    rows = train[0][:CAUSAL_BINS]
    cut = len(rows) // 2
    parts, score = (rows[:cut], rows[cut:]), np.zeros(len(STRENGTHS))
    for learned, judged in (parts, parts[::-1]):
        reference = IndependentModel.fitted([learned])
        for k, strength in enumerate(STRENGTHS):
            model = model_of(fit([learned], strength))
            score[k] += held_out(model, [judged], [np.array([0, len(judged)])], reference).value
    best = STRENGTHS[int(score.argmax())]
    return fit(train, best), best


def fit_all(train, bin_s, families, report):
    """Fits of all families and the strengths of their penalties; failures with their reasons."""
    basis = make_basis("raised-cosine", 4, 10)
    fits, strengths, failed, seconds = {}, {}, {}, {}

    def keep(name, make):
        began = time.process_time()
        try:
            fits[name], strengths[name] = make()
        except (DivergenceError, InputError) as reason:
            failed[name] = " ".join(str(reason).split())
        seconds[name] = time.process_time() - began
        report(f"{name}: {seconds[name]:.0f} s, strength {strengths.get(name)}")

    def learn(model, **terms):
        if "pairwise" not in strengths:
            raise DivergenceError("no strength: fit pairwise first")
        return boltzmann(model, train, bin_s, strengths["pairwise"], **terms), strengths["pairwise"] / 2

    makers = {
        "pairwise": lambda: penalized("pairwise", train, bin_s),
        # the couplings A of the next two have the prior of those of the first
        "k-pairwise": lambda: penalized("k-pairwise", train, bin_s, strengths.get("pairwise", "auto"), is_counted=True),
        "neural": lambda: penalized("neural", train, bin_s, strengths.get("pairwise", "auto"), lags=(1,)),
        "lagged": lambda: penalized("lagged", train, bin_s, k_max=1),
        "kinetic": lambda: causal(lambda r, s: fit_kinetic(r, n_lags=1, test=0.0, ridge=s, bin_s=bin_s), train),
        "glm": lambda: causal(lambda r, s: fit_glm(r, basis=basis, test=0.0, ridge=s, bin_s=bin_s), train),
        "pairwise, likelihood": lambda: learn("pairwise"),
        "neural, likelihood": lambda: learn("neural", lags=(1,)),
    }
    for name in families.split(";"):
        keep(name.strip(), makers[name.strip()])
    return fits, strengths, failed, seconds


# ---- scores
def information(fit, train, seed=0):
    """Bits per bin that pairs take from the entropy of independent units, of the whole patch; and of groups of ten."""
    model = model_of(fit)
    made = normalization(model)
    phi = model.simulate(20_000, seed=seed)[0]
    p = np.clip(phi.mean(axis=0), 1e-9, 1 - 1e-9)
    weights = model.log_weights(phi)
    alone = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    error = np.hypot(made.per_bin_error, weights.std() / np.sqrt(len(phi)))
    value = (alone - (made.per_bin - weights.mean())) / np.log(2)
    raster, groups = train[0], []
    order = np.argsort(-raster.mean(axis=0), kind="stable")[: GROUPS * GROUP_UNITS]
    for k in range(len(order) // GROUP_UNITS):
        found = multi_information(raster[:, np.sort(order[k :: len(order) // GROUP_UNITS])])
        groups.append({"i_n": found.i_n, "i_2": found.i_2, "ratio": found.ratio})
    return {"i_2": (float(value), float(error / np.log(2))), "spikes_per_bin": float(p.sum()), "groups": groups}


# ---- one recording
def study(name, path, folder, args):
    """Everything about the patch of one recording, as plain numbers."""
    began, (bin_s, _) = time.process_time(), RECORDINGS[name]
    report = lambda line: print(f"[{time.process_time() - began:5.0f} s] {name}: {line}", flush=True)  # noqa: E731
    n_units, n_bins, families = PATCHES[name]
    n_units, n_bins, families = args.units or n_units, args.bins or n_bins, args.families or families
    recording = read_recording(path)
    units, left = patch_of(recording, n_units, bin_s)
    raster = recording.select(units).bin(bin_s)
    train, test = split_trials([raster.values[:n_bins]], TEST)
    firing = float(raster.values.mean())
    report(f"{len(units)} units, {len(train[0])} + {len(test[0])} bins, p = {firing:.4f}, left out {left}")
    fits, strengths, failed, seconds = fit_all(train, bin_s, families, report)
    models = {"independent": (IndependentModel.fitted(train), len(units))}
    models |= {family: (model_of(fit), n_parameters(fit)) for family, fit in fits.items()}
    for family in [f for f in fits if fits[f].model not in CAUSAL]:
        try:
            report(f"{family}: log Z {normalization(models[family][0])}")
        except DivergenceError as reason:
            failed[family] = " ".join(str(reason).split())
            del models[family]
    ranking = rank(models, test, failed=failed)
    report("\n" + ranking.table())
    plot_ranking(ranking, folder / f"{name}_ranking.png", name)
    out = {
        "units": units, "left_out": left, "bin_s": bin_s, "n_bins": raster.n_bins, "n_train": len(train[0]),
        "spike_probability": firing, "strengths": strengths, "seconds": seconds,
        "differences": {f"{a} - {b}": ranking.difference(a, b) for a, b in QUESTIONS if a in models and b in models},
        "ranking": ranking.as_json(), "checks": {},
        "conditional": conditional_scores({family: made for family, (made, _) in models.items()}, test),
    }  # fmt: skip
    report(f"conditional scores {out['conditional']}")
    for family in CHECKED:
        family = f"{family}, likelihood" if f"{family}, likelihood" in models else family
        if family in models:
            checks = check_model(models[family][0], train, constraints_of(fits[family]), bin_s=bin_s, **CHECK)
            plot_checks(checks, folder / f"{name}_{family.split(',')[0]}.png", family)
            out["checks"][family] = checks.as_json()
            report(f"{family}\n{checks.table()}")
    pairs = "pairwise, likelihood" if "pairwise, likelihood" in models else "pairwise"
    if pairs in fits:
        out["information"] = information(fits[pairs], train)
        report(f"information {out['information']}")
        again = lambda r: fit_gibbs("pairwise", r, test=0.0, ridge=4 * strengths["pairwise"])  # noqa: E731
        heat = heat_of(fits[pairs], again, train, betas=BETAS, n_chains=100)
        plot_heat(heat.fit, heat.control, folder / f"{name}_heat.png", f"{name}, pairwise, {len(units)} units")
        out["specific_heat"] = heat.as_json()
        report(heat.table())
    out["drift"], out["clipped"] = drift(train).as_json(), raster.report.clipped_fraction
    out["cpu_s"] = time.process_time() - began
    report(f"{out['cpu_s']:.0f} s of one core")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=os.environ.get("LFT_DATA"))
    parser.add_argument("-o", "--output", default="fit_patches_output")
    parser.add_argument("--only", choices=list(RECORDINGS), action="append")
    parser.add_argument("--units", type=int, help="default: 40")
    parser.add_argument("--bins", type=int, help="from the start of the recording, at most")
    parser.add_argument("--families", help=f"separated by semicolons; default: {SHORT}, and more on some")
    each_recording(parser, study)


if __name__ == "__main__":
    main()
