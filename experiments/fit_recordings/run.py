"""Which theory describes spontaneous activity best, out of sample?  Six recordings, one command.

    python experiments/fit_recordings/run.py [DATA_FOLDER] [-o FOLDER] [--only NAME] [--groups 3] [--units 8] [--bins N]

DATA_FOLDER (default: the environment variable LFT_DATA) holds the recordings.  From each, some groups of nearby active
units are fitted with every family, scored on the held-out last fifth, simulated and compared, and searched for
pitfalls; README.md beside this file tells the question and the findings.  About 2 minutes of one core per recording.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np

from lft.commands.fit_check import constraints_of, find_pitfalls, heat_of, model_of, n_parameters
from lft.errors import DataWarning, DivergenceError
from lft.inference.basis import make_basis
from lft.inference.causal.fit import fit_glm, fit_kinetic
from lft.inference.likelihood.exact_fit import fit_exact
from lft.inference.protocols import LogLikelihood
from lft.inference.pseudo.fit import fit_gibbs
from lft.inference.recording import read_recording
from lft.inference.trials import split_trials
from lft.inference.verdict.checks import check_model
from lft.inference.verdict.independent import IndependentModel
from lft.inference.verdict.ranking import held_out, rank
from lft.inference.verdict.scan import scan_bins
from lft.plotting.verdict import plot_checks, plot_heat, plot_ranking

RECORDINGS = {  # bin in s, widths of the scan in s
    "retina_P11_m1r2": (0.02, (0.005, 0.01, 0.02, 0.05)),
    "retina_P9_7mar": (0.02, (0.005, 0.01, 0.02, 0.05)),
    "culture_ctx_DIV28": (0.005, (0.002, 0.005, 0.01, 0.02)),
    "aplysia_Jun0514_da01": (0.05, (0.02, 0.05, 0.1, 0.2)),
    "aplysia_Jun0514_da02": (0.05, (0.02, 0.05, 0.1, 0.2)),
    "aplysia_Jun0514_da03": (0.05, (0.02, 0.05, 0.1, 0.2)),
}
TEST = 0.2
QUESTIONS = (("neural", "pairwise"), ("kinetic", "pairwise"), ("glm", "pairwise"), ("glm", "neural"))
RIDGE = 1.0  # nats, L2: keeps pairs that never coincide finite


class Groups:
    """Independent models of disjoint groups of units, as one model of all of them."""

    kind = "static"  # each part is scored by its own kind

    def __init__(self, parts, columns, references):
        self.parts, self.columns, self.references = parts, columns, references

    def log_likelihood(self, rasters, edges=None):
        found = [
            held_out(part, [r[:, columns] for r in rasters], edges, reference)
            for part, columns, reference in zip(self.parts, self.columns, self.references, strict=True)
        ]
        error = float(np.sqrt(sum(f.error**2 for f in found)))
        return LogLikelihood(sum(f.value for f in found), error, sum(f.blocks for f in found))


def families(rasters, bin_s):
    """The fit of every family to a training stretch."""
    common = {"test": 0.0, "ridge": RIDGE, "bin_s": bin_s}
    slow = make_basis("raised-cosine", 4, 10)
    return {
        "pairwise": lambda: fit_exact(rasters, model="pairwise", **common),
        "k-pairwise": lambda: fit_exact(rasters, model="k-pairwise", **common),
        "neural": lambda: fit_exact(rasters, model="neural", lags=(1,), **common),
        "lagged": lambda: fit_gibbs("lagged", rasters, k_max=1, **common),
        "kinetic": lambda: fit_kinetic(rasters, n_lags=1, **common),
        "glm": lambda: fit_glm(rasters, basis=slow, **common),
    }


def groups_of(recording, n_groups, n_units):
    """Disjoint groups of the nearest units around the most active ones that are left."""
    left = [int(i) for i in np.argsort(-recording.rates_hz, kind="stable")]
    out = []
    for _ in range(n_groups):
        distance = ((recording.positions_um[left] - recording.positions_um[left[0]]) ** 2).sum(axis=1)
        group = [left[k] for k in np.argsort(distance, kind="stable")[:n_units]]
        out.append(sorted(group))
        left = [i for i in left if i not in group]
    return out


def study(name, path, folder, args):
    """Everything about one recording, as plain numbers."""
    began, (bin_s, widths) = time.process_time(), RECORDINGS[name]
    recording = read_recording(path)
    if args.bins * bin_s < recording.duration_s:
        recording = recording.window(0, args.bins * bin_s)
    groups = groups_of(recording, args.groups, args.units)
    chosen = recording.select([i for g in groups for i in g])
    raster = chosen.bin(bin_s)
    train, test = split_trials([raster.values], TEST)
    columns = np.split(np.arange(raster.n_units), len(groups))
    fits, references, failed = {}, [], {}
    for part in columns:
        stretch = [r[:, part] for r in train]
        references.append(IndependentModel.fitted(stretch))
        for family, fit in families(stretch, bin_s).items():
            if args.families and family not in args.families.split(","):
                continue
            try:
                fits.setdefault(family, []).append(fit())
            except DivergenceError as reason:
                failed[family] = " ".join(str(reason).split())
    models = {"independent": (Groups(references, columns, references), raster.n_units)}
    for family, made in fits.items():
        if family not in failed:
            parts = [model_of(f) for f in made]
            models[family] = (Groups(parts, columns, references), sum(map(n_parameters, made)))
    ranking = rank(models, test, failed=failed)
    plot_ranking(ranking, folder / f"{name}_ranking.png", name)
    print(f"\n==== {name}: {args.groups} groups of {args.units} units, bins of {1e3 * bin_s:g} ms\n{ranking.table()}")
    differences = {f"{a} - {b}": ranking.difference(a, b) for a, b in QUESTIONS if a in models and b in models}
    if args.scores_only:
        return {"differences": differences, "ranking": ranking.as_json(), "cpu_s": time.process_time() - began}
    out = {
        "differences": differences,
        "units": [recording_units(g) for g in groups],
        "bin_s": bin_s,
        "n_bins": raster.n_bins,
        "spike_probability": float(raster.values.mean()),
        "ranking": ranking.as_json(),
        "checks": {},
    }
    first = [r[:, columns[0]] for r in train]
    for family in ("pairwise", "neural", "glm"):
        if family in models:
            fit = fits[family][0]
            checks = check_model(model_of(fit), first, constraints_of(fit), bin_s=bin_s)
            plot_checks(checks, folder / f"{name}_{family}.png", family)
            out["checks"][family] = checks.as_json()
            print(f"---- {family}, first group\n{checks.table()}", *checks.notes, sep="\n")
    pitfalls = find_pitfalls(train, bin_s, raster.report.clipped_fraction)
    heat = heat_of(fits["pairwise"][0], lambda r: fit_exact(r, model="pairwise", test=0.0, ridge=RIDGE), first)
    plot_heat(heat.fit, heat.control, folder / f"{name}_heat.png", f"{name}, pairwise, {args.units} units")
    scan = scan_of(chosen, widths)
    out |= {"pitfalls": pitfalls.as_json(), "specific_heat": heat.as_json(), "bin_scan": scan.as_json()}
    out["cpu_s"] = time.process_time() - began
    print("---- pitfalls", *pitfalls.warnings, scan.table(), *scan.warnings, heat.table(), sep="\n")
    print(f"{out['cpu_s']:.0f} s of one core", flush=True)
    return out


def recording_units(group):
    """Numbers of units as plain integers."""
    return [int(i) for i in group]


def scan_of(recording, widths):
    """Pairwise fits of all chosen units at several widths, by pseudo-likelihood."""

    def fit_at(bin_s):
        raster = recording.bin(bin_s)
        fit = fit_gibbs("pairwise", [raster.values], test=TEST, ridge=RIDGE, bin_s=bin_s)
        return fit, float(raster.values.mean()), raster.report.clipped_fraction

    return scan_bins(fit_at, widths)


def each_recording(parser, study):
    """Study every recording that the command line asks for, and write what was found."""
    args = parser.parse_args()
    if args.data is None:
        parser.error("no recordings: give their folder, or set LFT_DATA")
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", DataWarning)  # clipping and silent units stand in the tables
    for name in args.only or RECORDINGS:
        found = study(name, Path(args.data) / f"{name}.h5", folder, args)
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=os.environ.get("LFT_DATA"))
    parser.add_argument("-o", "--output", default="fit_recordings_output")
    parser.add_argument("--only", choices=list(RECORDINGS), action="append")
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--bins", type=int, default=30_000, help="from the start of the recording, at most")
    parser.add_argument("--families", help="such as pairwise,neural,glm; default: all")
    parser.add_argument("--scores-only", action="store_true", help="no simulation, no pitfalls")
    each_recording(parser, study)


if __name__ == "__main__":
    main()
