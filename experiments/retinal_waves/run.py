"""A recording of spontaneous activity on a lattice of electrodes, taken through the whole path by one command.

    python experiments/retinal_waves/run.py RECORDING.h5 [-o FOLDER] [--bin "20 ms"] [--bins 2000]

Fit, simulation at the fit on 1 and on 2 ranks, comparison of rates and correlators, flow.  Question, figures and
findings: README.md beside this file.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from lft import plotting
from lft.analysis.correlator import correlation_length, two_point
from lft.archive import Archive
from lft.commands.demo import clean_environment, mpiexec
from lft.errors import DataWarning, LftError
from lft.field import Field
from lft.inference.recording import read_recording
from lft.units import parse_quantity

MAX_LAG = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording")
    parser.add_argument("-o", "--output", default="retinal_waves_output")
    parser.add_argument("--bin", default="20 ms")
    parser.add_argument("--bins", type=int, default=2000, help="time bins of the simulated lattice")
    parser.add_argument("--updates", type=int, default=200, help="measured updates of a simulation")
    parser.add_argument("--levels", type=int, default=3)
    args = parser.parse_args()
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    step("fit", lft("fit", args.recording, "--model", "lattice", "--bin", args.bin, "-o", folder / "fit.h5",
                    "--json", folder / "fit.json", "--plot", folder / "fit.png", "--overwrite"))
    hashes = {}
    for ranks in (1, 2):
        simulate(folder, f"silent-{ranks}", ranks, args, "silent")
        hashes[ranks] = json.loads((folder / f"silent-{ranks}.json").read_text())["field_sha256"]
    simulate(folder, "hot", 1, args, "hot")
    step("flow", lft("flow", args.recording, "--bin", args.bin, "-o", folder / "flow.h5", "--levels", args.levels,
                     "--json", folder / "flow.json", "--plot", folder / "flow.png", "--overwrite"))
    summary = compare(folder, args)
    summary["same_bits_on_1_and_2_ranks"] = hashes[1] == hashes[2]
    summary["fit"] = json.loads((folder / "fit.json").read_text())["couplings"]
    summary["seconds"] = time.monotonic() - began
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    report(summary)


def lft(*arguments):
    return [sys.executable, "-P", "-m", "lft", *map(str, arguments)]


def step(name, command):
    """Run one command, show it as a user would type it, and stop with its message if it fails."""
    shown = [Path(c).name if Path(c).is_absolute() else c for c in command]
    print("$", " ".join(shown).replace(f"{Path(sys.executable).name} -P -m lft", "lft"), flush=True)
    result = subprocess.run(command, text=True, capture_output=True, env=clean_environment())
    if result.returncode:
        raise LftError(f"{name}: {result.stderr.strip().splitlines()[-1]}")
    for line in [*result.stdout.splitlines(), *result.stderr.splitlines()]:
        print("  ", line[:200])
    return result.stdout


def simulate(folder, name, ranks, args, start):
    """``lft run fit.h5`` on some ranks, from a start, and its analysis."""
    launcher = [] if ranks == 1 else [mpiexec(), "-n", str(ranks)]
    if ranks > 1 and launcher[0] is None:
        raise LftError("no MPI library: pip install 'lft[mpi]' brings one")
    settings = [f"lattice.bins={args.bins}", f"run.start={start}", "run.thermalize=100",
                f"run.updates={args.updates}", "run.measure_every=5", f"run.save_every={max(args.updates // 4, 1)}"]
    options = [word for setting in settings for word in ("--set", setting)]
    archive = folder / f"{name}.h5"
    step(name, launcher + lft("run", folder / "fit.h5", "-o", archive, "--overwrite", "--quiet", *options))
    subprocess.run(lft("analyze", archive, "--json", folder / f"{name}.json"), check=True, capture_output=True)


def configurations(path):
    """The saved configurations of an archive."""
    with Archive(path) as archive:
        return [
            Field.from_array(archive.geometry, "spin", archive.configuration(k))
            for k in range(archive.n_configurations)
        ]


def rates(fields):
    """Rate of every active site in Hz."""
    lattice = fields[0].geometry
    bin_s = lattice.quantity("t").si
    p = np.mean([(f.values == 1).mean(axis=0) for f in fields], axis=0)
    return p[np.ones(p.shape, bool) if lattice.mask is None else lattice.mask] / bin_s


def compare(folder, args):
    """Rates, correlators and correlation lengths of the recording and of both simulations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the fit has reported what binning clips
        recorded = read_recording(args.recording).bin_lattice(parse_quantity(args.bin).si).field
    sources = {"recording": [recorded], "simulation, from silence": configurations(folder / "silent-1.h5"),
               "simulation, from a hot start": configurations(folder / "hot.h5")}
    correlators = {label: two_point(fields, MAX_LAG) for label, fields in sources.items()}
    hz = {label: rates(fields) for label, fields in sources.items()}
    plotting.plot_comparison(correlators, folder / "correlators.png")
    plotting.plot_rates(hz["recording"], hz["simulation, from silence"], folder / "rates.png")
    summary = {}
    for label, fields in sources.items():
        lengths = {axis: correlation_length(fields, axis) for axis in recorded.geometry.axes}
        summary[label] = {
            "mean_rate_hz": float(hz[label].mean()),
            "rate_correlation": float(np.corrcoef(hz["recording"], hz[label])[0, 1]),
            "C(1)/C(0)": {a: float(c.normalized[0][1]) for a, c in correlators[label].items()},
            "C(4)/C(0)": {a: float(c.normalized[0][4]) for a, c in correlators[label].items()},
            "correlation_length": {a: length[2] for a, length in lengths.items()},
        }
    for name in ("silent-1", "hot"):
        with Archive(folder / f"{name}.h5") as archive:
            density = (1 + archive.samples("magnetization")) / 2
        summary[f"density of {name}"] = {"first": float(density[0]), "last": float(density[-1])}
    return summary


def report(summary):
    print(f"\nsame bits on 1 and 2 ranks: {summary['same_bits_on_1_and_2_ranks']}")
    for label, row in summary.items():
        if isinstance(row, dict) and "mean_rate_hz" in row:
            one = ", ".join(f"{a} {v:.3f}" for a, v in row["C(1)/C(0)"].items())
            four = ", ".join(f"{a} {v:.3f}" for a, v in row["C(4)/C(0)"].items())
            print(f"{label:30} {row['mean_rate_hz']:7.3f} Hz   C(1)/C(0): {one}   C(4)/C(0): {four}")
    print(f"{summary['seconds']:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except LftError as error:
        sys.exit(f"run.py: {error}")
