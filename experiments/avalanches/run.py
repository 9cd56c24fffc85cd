"""Avalanches at criticality: directed percolation from a seed, its exponents, and its sizes and durations.

    python experiments/avalanches/run.py -o output              # about 5 minutes of processor time
    python experiments/avalanches/run.py --quick -o output      # a tenth of the replicas, shorter

Writes avalanches.json and avalanches.png, and an archive for each case.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np

from lft.analysis.spreading import exponents, series
from lft.archive import Archive
from lft.cli import main as lft
from lft.plotting.figure import COLORS, new_figure, save

# (kind, p, shape, replicas); p_c of 1+1 from the literature, those of 2+1 and 3+1 are general knowledge, checked here
CASES = {
    "1+1 bond": ("bond", 0.644700185, (4096, 5001), 12800),
    "1+1 site": ("site", 0.70548515, (4096, 5001), 12800),
    "1+1 bond, p = 0.635": ("bond", 0.635, (4096, 5001), 12800),
    "1+1 bond, p = 0.655": ("bond", 0.655, (4096, 2001), 1280),
    "2+1 bond": ("bond", 0.28733838, (256, 256, 501), 25600),
    "3+1 bond": ("bond", 0.13237417, (64, 64, 64, 201), 25600),
}
KNOWN = {  # delta, theta, 2/z
    1: (0.159464, 0.313686, 1.265226),
    2: (0.4505, 0.2295, 1.1325),
    3: (0.7320, 0.1057, 1.0520),
}
MIN_COUNT = 10


def simulate(name, folder, quick):
    """The archive of one case, made by ``lft run`` unless it is there."""
    kind, p, shape, replicas = CASES[name]
    if quick:
        shape, replicas = (*shape[:-1], (shape[-1] - 1) // 5 + 1), replicas // 10
    stem = name.replace(" ", "_").replace(",", "").replace("=_", "")
    config, path = folder / f"{stem}.toml", folder / f"{stem}.h5"
    config.write_text(
        f'seed = 1\n[lattice]\nshape = {list(shape)}\n[action]\nname = "directed-percolation"\n'
        f'p = {p}\nkind = "{kind}"\n[run]\nstart = "seed"\nreplicas = {replicas}\n'
    )
    if not path.exists() and lft(["run", str(config), "-o", str(path), "--quiet"]) != 0:
        raise SystemExit(f"{path}: failed")
    return path


def distribution(values, cut):
    """(x, density, error) in bins of half an octave up to ``cut``, of those with at least 10 avalanches."""
    edges = np.unique(np.floor(2 ** np.arange(0, math.log2(cut) + 0.5, 0.5))).astype(np.int64)
    count = np.histogram(values, edges)[0]
    width = np.diff(edges)
    keep = count >= MIN_COUNT
    middle = np.sqrt(edges[:-1] * (edges[1:] - 1.0))
    density = count / width / len(values)
    return middle[keep], density[keep], (density / np.sqrt(np.maximum(count, 1)))[keep]


def slope(values, low, high):
    """(exponent, error) of a power law between two cuts, from the shares of equal log intervals.

    With a share f of the avalanches above ``low`` that end below ``high``, exponent 1 + a of the density gives
    ``1 - f = (low/high)^a``; f is a binomial share.
    """
    inside = values >= low
    n, f = inside.sum(), (values[inside] < high).mean()
    a = -math.log(1 - f) / math.log(high / low)
    return 1 + a, math.sqrt(f / (1 - f) / n) / math.log(high / low)


def describe(name, path, quick):
    """All numbers of one case."""
    with Archive(path) as archive:
        T, n = archive.geometry.shape[-1], archive.t
        s = archive.spreading
        out = {"replicas": n, "steps": T - 1, "contact": s["contact"], "cpu_s": archive.counters.seconds}
        out["exponents"] = exponents(archive, max(T // 20, 5), T - 1)
        d, t = len(archive.geometry.shape) - 1, np.unique(np.geomspace(1, T - 1, 60).astype(int))
        out["t"] = t.tolist()
        out["series"] = {k: [v[t].tolist(), e[t].tolist()] for k, (v, e) in series(archive).items()}
        delta, theta, _ = KNOWN[d]
        # sizes of avalanches that ended before the last slice: s ~ duration^(1 + theta + delta)
        low, high = 30, T - 1
        cut_low, cut_high = low ** (1 + theta + delta), high ** (1 + theta + delta) / 10
        out["duration"] = slope(s["duration"], low, high)
        out["size"] = slope(s["size"], cut_low, cut_high)
        out["expected"] = {"duration": 1 + delta, "size": 1 + delta / (1 + theta + delta)}
        out["sizes"] = [v.tolist() for v in distribution(s["size"], s["size"].max())]
        out["durations"] = [v.tolist() for v in distribution(s["duration"][s["duration"] < T], T - 1)]
    return out


def draw(found, path):
    """Spreading above, avalanches below."""
    figure, axes = new_figure(2, 3, width=3.9)
    names = [n for n in found if n.startswith("1+1 bond")] + ["2+1 bond", "3+1 bond"]
    for ax, key, label in zip(axes[0], ("survival", "active", "radius2"), ("survival", "active sites", "$R^2$"),
                              strict=True):  # fmt: skip
        for k, name in enumerate(names):
            t, (v, e) = np.array(found[name]["t"]), np.array(found[name]["series"][key])
            keep = v > 0
            ax.errorbar(t[keep], v[keep], e[keep], lw=1, color=COLORS[k], label=name)
        ax.set(xscale="log", yscale="log", xlabel="time step", ylabel=label)
    axes[0, 0].legend(fontsize=7, frameon=False)
    for ax, key, label in zip(axes[1], ("sizes", "durations"), ("size", "duration"), strict=False):
        for k, name in enumerate(names):
            x, v, e = np.array(found[name][key])
            ax.errorbar(x, v, e, fmt="o-", ms=2, lw=0.7, color=COLORS[k])
        ax.set(xscale="log", yscale="log", xlabel=f"{label} of an avalanche", ylabel="probability density")
    for k, name in enumerate(names):
        e = found[name]["exponents"]
        known = KNOWN[int(name[0])]
        for j, key in enumerate(("delta", "theta", "2/z")):
            if e[key]["value"] is not None:
                axes[1, 2].errorbar(j + 0.1 * (k - 2), e[key]["value"] - known[j], e[key]["error"] or 0, fmt="o", ms=4,
                                    color=COLORS[k])  # fmt: skip
    axes[1, 2].axhline(0, color="0.7", lw=0.8)
    axes[1, 2].set_ylim(-0.3, 0.3)
    axes[1, 2].set_xticks(range(3), ["$\\delta$", "$\\theta$", "$2/z$"])
    axes[1, 2].set(ylabel="effective minus known exponent")
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="output")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    found, started = {}, time.process_time()
    for name in CASES:
        found[name] = describe(name, simulate(name, folder, args.quick), args.quick)
        e = found[name]["exponents"]
        pairs = ", ".join(f"{k} = {e[k]['value']:.4f}({e[k]['error']:.4f})" for k in ("delta", "theta", "2/z")
                          if e[k]["value"] is not None and e[k]["error"] is not None)  # fmt: skip
        shown = {k: f"{found[name][k][0]:.3f}({found[name][k][1]:.3f})" for k in ("size", "duration")}
        print(f"{name}: {pairs}; density exponents {shown}, expected at p_c {found[name]['expected']}; "
              f"contact {found[name]['contact']}, {time.process_time() - started:.0f} s", flush=True)  # fmt: skip
    (folder / "avalanches.json").write_text(json.dumps(found))
    draw(found, folder / "avalanches.png")


if __name__ == "__main__":
    main()
