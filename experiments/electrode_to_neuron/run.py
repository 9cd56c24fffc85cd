"""From electrodes to the lattice behind them: a Utah array over a known fine lattice, and the couplings found again.

    python experiments/electrode_to_neuron/run.py [-o FOLDER] [--bins 20000]
    python experiments/electrode_to_neuron/run.py --figure recovery/recovery.json

Makes a recording of a 10 x 10 array without corners (400 um, 10 ms) from a lattice of 200 um and 5 ms, runs
``lft flow --to-spacing 200um --to-bin 5ms`` on it, and prints true couplings beside those found.  ``--figure`` draws
the table that ``recovery.py`` writes.  Question and findings: README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from lft.cli import main as lft
from lft.geometry import utah_array
from lft.plotting.figure import COLORS, new_figure, save
from lft.rg.inverse.ensemble import FineModel, Observation, simulate

TRUTH = {"K[1,0,0]": 0.20, "K[0,1,0]": 0.17, "K[0,0,1]": 0.20, "h": -0.15}
FACTOR = (2, 2, 2)


def make_recording(path, n_bins, seed=11):
    """Write the recording as a raster with positions; bins hold a spike if one of their two steps does."""
    array = utah_array(n_bins, "10 ms")
    model = FineModel(Observation(array, FACTOR, rule="or"))
    field = simulate(model, tuple(TRUTH.values()), 2, n_bins, seed=seed).fields[0]
    spikes = (field.values.reshape(n_bins, -1) > 0).astype(np.uint8)[:, array.mask.ravel()]
    positions = np.argwhere(array.mask) * 400.0
    np.savez_compressed(path, raster=spikes.T, bin_s=0.01, positions=positions)
    return spikes.mean() / 0.01


def demonstrate(folder, n_bins):
    folder.mkdir(parents=True, exist_ok=True)
    rate = make_recording(folder / "utah.npz", n_bins)
    print(f"recording: 96 electrodes, {n_bins} bins of 10 ms, {rate:.1f} Hz")
    names = {n: str(folder / n) for n in ("utah.npz", "inverse.h5", "inverse.json", "inverse.png")}
    code = lft(["flow", names["utah.npz"], "-o", names["inverse.h5"], "--to-spacing", "200um", "--to-bin", "5ms",
                "--json", names["inverse.json"], "--plot", names["inverse.png"], "--overwrite"])  # fmt: skip
    if code:
        raise SystemExit(code)
    found = json.loads((folder / "inverse.json").read_text())["levels"][0]["couplings"]
    for name, true in TRUTH.items():
        value, error = found[name].values()
        if value is None:
            print(f"{name:10} true {true:+.3f}   not determined")
        else:
            print(f"{name:10} true {true:+.3f}   found {value:+.4f} +- {error:.4f}   z {(value - true) / error:+.2f}")


def draw(path, figure_path):
    """Found minus true couplings, in errors and as they are, seed by seed."""
    data = json.loads(Path(path).read_text())
    figure, axes = new_figure(1, len(data), width=4.2, height=3.4)
    for ax, (case, result) in zip(axes[0], data.items(), strict=True):
        for k, true in enumerate(result["truth"]):
            pairs = np.array([row["couplings"][k] for row in result["rows"]])
            x = k + np.linspace(-0.3, 0.3, len(pairs))
            ax.errorbar(x, pairs[:, 0], pairs[:, 1], fmt="o", ms=2.5, lw=0.8, color=COLORS[k % len(COLORS)])
            ax.plot([k - 0.4, k + 0.4], [true, true], color="0.2", lw=1)
            inside = sum(row["two_sigma"][k] is True for row in result["rows"])
            where = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
            ax.annotate(f"{inside}/{len(pairs)}", (k, pairs[:, 0].max()), (0, 9), **where)
        ax.set_xticks(range(len(result["names"])), result["names"], fontsize=8)
        ax.margins(y=0.15)
        ax.set_title(f"{case}: inside two sigma", fontsize=9)
    axes[0, 0].set_ylabel("coupling of the fine lattice")
    save(figure, figure_path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="output", metavar="FOLDER")
    parser.add_argument("--bins", type=int, default=20000)
    parser.add_argument("--figure", metavar="recovery.json")
    args = parser.parse_args()
    folder = Path(args.output)
    if args.figure:
        folder.mkdir(parents=True, exist_ok=True)
        draw(args.figure, folder / "recovery.png")
    else:
        demonstrate(folder, args.bins)


if __name__ == "__main__":
    main()
