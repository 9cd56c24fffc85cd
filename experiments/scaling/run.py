"""Constants measured here, model against two ranks, and what the model predicts up to 10^4 ranks.

    python run.py OUT              measure on one and on two ranks (two minutes), fit, predict
    python run.py OUT --predict    from OUT/measured.json alone

Leaves measured.json, tables.md and scaling.png in OUT.  Model: model.py; explanation: docs/scaling.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from model import Network, Sweep, strong, weak

from lft.bits import choose_depth
from lft.domain import process_grid
from lft.errors import DomainError

HERE = Path(__file__).resolve().parent
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 10000)
NODE, LATENCY, LINK = 64, 2e-6, 25e9
"""Assumptions: ranks of a node (up to here messages are those measured, in shared memory), what a message between
nodes costs more, bytes per second of a node's link."""
STEPS = 10
SHAPES = {  # bytes per site of a face and exchange, exchanges per sweep, allreduces
    "ising-2d": (1.0, 2, 0), "ising-3d": (1.0, 2, 0), "ising-bits-2d": (1 / 16, 2, 0), "ising-bits-3d": (1 / 16, 2, 0),
    "phi4-2d": (8.0, STEPS, 2), "phi4-3d": (8.0, STEPS, 2),
}
WEAK = (
    ("Ising generic 256^2", "ising-2d", (256, 256), 1), ("Ising generic 64^3", "ising-3d", (64, 64, 64), 1),
    ("Ising bits 1024^2", "ising-bits-2d", (1024, 1024), 1), ("Ising bits 4096^2", "ising-bits-2d", (4096, 4096), 1),
    ("Ising bits 256^3", "ising-bits-3d", (256, 256, 256), 1), ("phi4 512^2", "phi4-2d", (512, 512), 1),
    ("phi4 64^3", "phi4-3d", (64, 64, 64), 1), ("phi4 64^3, halo of 4", "phi4-3d", (64, 64, 64), 4),
    ("phi4 512^2, halo of 10", "phi4-2d", (512, 512), 10),
)
STRONG = (
    ("Ising bits 32768^2", "ising-bits-2d", (32768, 32768), 1), ("Ising bits 2048^3", "ising-bits-3d", (2048,) * 3, 1),
    ("Ising generic 512^3", "ising-3d", (512, 512, 512), 1), ("phi4 512^3", "phi4-3d", (512, 512, 512), 1),
    ("phi4 512^3, halo of 4", "phi4-3d", (512, 512, 512), 4), ("phi4 8192^2", "phi4-2d", (8192, 8192), 1),
)


def measure(out):
    """Run measure.py on one and on two ranks."""
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        sys.exit("no mpiexec beside the interpreter or on PATH: pip install mpich")
    command = [sys.executable, str(HERE / "measure.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LFT_THREADS": "1"}
    data = {"load": os.getloadavg()[0]}
    for name, words in (("one", command), ("two", [launcher, "-n", "2", *command])):
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        data[name] = json.loads(done.stdout)
    (out / "measured.json").write_text(json.dumps(data, indent=1))


def constants(data):
    """({case: Sweep}, Network) by least squares of relative errors.

    Spins: T = c + b V.  phi4: T = c + n (e + b V) + g V for n leapfrogs; c + n e is the overhead, b + g/n the site.
    """
    from scipy.optimize import nnls

    sweeps = {}
    for name, (n_bytes, exchanges, reductions) in SHAPES.items():
        rows = [r for r in data["one"]["sweeps"] if r["case"] == name]
        t = np.array([r["seconds"] for r in rows])
        volume = np.array([float(math.prod(r["block"])) for r in rows])
        n = np.array([float(r["steps"]) for r in rows])
        columns = [np.ones_like(t), volume] if not n[0] else [np.ones_like(t), n * volume, n, volume]
        (c, b, *more), _ = nnls(np.stack(columns, 1) / t[:, None], np.ones_like(t))
        if more:
            c, b = c + STEPS * more[0], b + more[1] / STEPS
        sweeps[name] = Sweep(c, b, n_bytes, exchanges, STEPS if n[0] else 1, 1, reductions)
    exchange = {int(k): v for k, v in data["two"]["exchange"].items()}
    sizes = sorted(exchange)
    beta = (sizes[-1] - sizes[-2]) / (exchange[sizes[-1]] - exchange[sizes[-2]])
    alpha, reduction = data["two"]["halo"] / 2, data["two"]["allreduce"]
    return sweeps, Network(alpha, beta, reduction, NODE, alpha + LATENCY, LINK, reduction + LATENCY)


def pairs(data, sweeps, node):
    """Rows of measured and predicted efficiency of two ranks."""
    for one, two in zip(data["one"]["pairs"], data["two"]["pairs"], strict=True):
        sweep = sweeps[one["case"]]
        if one["steps"]:
            sweep = dataclasses.replace(sweep, steps=one["steps"], exchanges=one["steps"])
        sweep = deepened(sweep, one["case"], tuple(one["block"]), sweep.width, weak, 2)
        block = one["block"]
        both = sweep.seconds((2 * block[0], *block[1:]), 2, node, (2, *[1] * (len(block) - 1)))
        yield (one["case"], " x ".join(map(str, block)), one["seconds"], two["seconds"],
               one["seconds"] / two["seconds"], sweep.seconds(block, 1, node) / both)


class Blocks(NamedTuple):
    """What the choice of a depth asks of a domain."""

    shape: tuple
    grid: tuple


def predictions(rows, sweeps, node, law):
    """{label: [efficiency or None for each of RANKS]}."""
    out = {}
    for label, case, shape, width in rows:
        out[label] = [law(deepened(sweeps[case], case, shape, width, law, p), shape, p, node) for p in RANKS]
    return out


def deepened(sweep, case, shape, width, law, ranks):
    """The same with a halo of so many layers; of bits as many as the package takes for this block."""
    if "bits" in case and ranks > 1:
        try:
            grid = process_grid(shape, (True,) * len(shape), (1,) * len(shape), ranks) if law is strong else None
        except DomainError:
            return sweep
        block = [n // p for n, p in zip(shape, grid, strict=True)] if grid else list(shape)
        # weak: rods and slabs as model.weak makes them, cut along every axis but the last once there are enough ranks
        cut = grid or (*([2] * min(len(shape) - 1, int(math.log2(ranks)))), *[1] * len(shape))[: len(shape)]
        width = max(1, choose_depth(Blocks(tuple(n * p for n, p in zip(block, cut, strict=True)), cut), 2))
    both = 2 if width > 1 else 1  # the halo's momenta, or the other color, are needed too
    return dataclasses.replace(sweep, width=width, bytes_per_face=both * sweep.bytes_per_face)


def figure(path, weak_rows, strong_rows):
    """Efficiencies against ranks, two panels."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for axis, rows, title in zip(axes, (weak_rows, strong_rows), ("weak: one block per rank", "strong: one lattice"),
                                 strict=True):
        for k, (label, values) in enumerate(rows.items()):
            points = [(p, v) for p, v in zip(RANKS, values, strict=True) if v is not None]
            axis.plot(*zip(*points, strict=True), label=label, color=f"C{k}", marker="os^Dv<>Xp"[k], ms=4, lw=1.2)
        axis.axvline(NODE, color="0.7", lw=0.8, zorder=0)
        axis.text(NODE * 1.1, 0.02, f"beyond {NODE} ranks:\nassumed network", color="0.4", fontsize=8)
        axis.set(xscale="log", xlabel="ranks", title=title, ylim=(0, 1.05))
        axis.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.1))
    axes[0].set_ylabel("efficiency")
    figure.savefig(path, dpi=110)


def tables(data, sweeps, node, weak_rows, strong_rows):
    """Everything as Markdown."""
    lines = [f"Library: {data['one']['library']}; load while measuring {data['load']:.1f}.", "",
             f"Two ranks in shared memory: {2e6 * node.alpha:.2g} us per halo exchange of one axis (both directions), "
             f"{node.beta / 1e9:.3g} GB/s each way, {1e6 * node.alpha_reduce:.2g} us per exact sum (allreduce of "
             "69 integers).", "",
             "| kernel | overhead of a sweep, us | ns per site update | updates/ns |", "|---|---|---|---|"]
    lines += [f"| {name} | {1e6 * s.overhead:.3g} | {1e9 * s.site:.3g} | {1e-9 / s.site:.3g} |"
              for name, s in sweeps.items()]
    lines += ["", "| two ranks | block per rank | T(1), us | T(2), us | efficiency | model |",
              "|---|---|---|---|---|---|"]
    lines += [f"| {n} | {b} | {1e6 * x:.3g} | {1e6 * y:.3g} | {e:.2f} | {m:.2f} |"
              for n, b, x, y, e, m in pairs(data, sweeps, node)]
    shown = [RANKS.index(p) for p in (2, 16, 64, 128, 1024, 10000)]
    for title, rows in (("weak", weak_rows), ("strong", strong_rows)):
        lines += ["", f"| {title} | " + " | ".join(str(RANKS[k]) for k in shown) + " |",
                  "|---" * (len(shown) + 1) + "|"]
        lines += [f"| {label} | " + " | ".join("-" if v[k] is None else f"{v[k]:.2f}" for k in shown) + " |"
                  for label, v in rows.items()]
    return "\n".join(lines) + "\n"


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--predict", action="store_true", help="use OUT/measured.json")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.predict:
        measure(arguments.out)
    data = json.loads((arguments.out / "measured.json").read_text())
    sweeps, node = constants(data)
    weak_rows, strong_rows = predictions(WEAK, sweeps, node, weak), predictions(STRONG, sweeps, node, strong)
    text = tables(data, sweeps, node, weak_rows, strong_rows)
    (arguments.out / "tables.md").write_text(text)
    figure(arguments.out / "scaling.png", weak_rows, strong_rows)
    print(text)


if __name__ == "__main__":
    main()
