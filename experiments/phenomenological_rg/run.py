"""Phenomenological RG of two recordings beside their nulls, at several bin widths.

    python experiments/phenomenological_rg/run.py [DATA] [-o FOLDER] [--only retina|culture] [--bins "20 ms,50 ms"]

DATA: the folder with ``retina_P11_m1r2.h5`` and ``culture_ctx_DIV28.h5`` (default: the environment variable
``LFT_DATA``).  One ``lft flow --method prg`` per recording and bin width; what is already in FOLDER is kept.
Question, numbers and findings: README.md beside this file.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.commands.demo import clean_environment
from lft.errors import LftError
from lft.plotting.figure import COLORS, finite, new_figure, save

RECORDINGS = {  # surrogates per null by bin width
    "culture": ("culture_ctx_DIV28.h5", {"20 ms": 19, "5 ms": 19, "10 ms": 19, "50 ms": 19, "100 ms": 19}),
    "retina": ("retina_P11_m1r2.h5", {"20 ms": 19, "50 ms": 19, "100 ms": 19, "200 ms": 19}),
}
EXPONENTS = ("alpha", "beta", "mu", "z")
SYMBOLS = {"alpha": "$\\alpha$", "beta": "$\\beta$", "mu": "$\\mu$", "z": "$z$"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=os.environ.get("LFT_DATA"))
    parser.add_argument("-o", "--output", default="phenomenological_rg_output")
    parser.add_argument("--only", choices=RECORDINGS)
    parser.add_argument("--bins", help="bin widths instead of the usual ones")
    parser.add_argument("--surrogates", type=int, help="per null, instead of the usual numbers")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give the folder of the recordings, or set LFT_DATA")
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (file, bins) in RECORDINGS.items():
        if args.only in (None, name):
            for width in [b.strip() for b in args.bins.split(",")] if args.bins else bins:
                n = bins.get(width, 19) if args.surrogates is None else args.surrogates
                analyse(Path(args.data, file), name, width, folder, n)
            report(name, folder)


def stem(name, width):
    return f"{name}-{width.replace(' ', '')}"


def analyse(path, name, width, folder, surrogates):
    """``lft flow --method prg`` of one recording at one bin width."""
    out = folder / stem(name, width)
    if Path(f"{out}.json").exists():
        return
    line = ["flow", path, "--method", "prg", "--bin", width, "--surrogates", surrogates, "-o",
            f"{out}.h5", "--json", f"{out}.json", "--plot", f"{out}.svg", "--overwrite"]
    print("$ lft", *(str(a) if " " not in str(a) else f'"{a}"' for a in line), flush=True)
    result = subprocess.run([sys.executable, "-P", "-m", "lft", *map(str, line)], text=True, capture_output=True,
                            env=clean_environment())
    if result.returncode:
        raise LftError(f"{name}, {width}: {result.stderr.strip().splitlines()[-1]}")
    Path(f"{out}.txt").write_text(result.stdout + "\n" + result.stderr)
    print(result.stdout, flush=True)


def report(name, folder):
    """Table of exponents and distances at every bin width as Markdown, and the figure of the sweep."""
    found = [json.loads(p.read_text()) for p in folder.glob(f"{name}-*.json")]
    found.sort(key=lambda data: data["bin_s"])
    lines = []
    for data in found:
        nulls = list(data["nulls"])
        lines += [f"### {name}, {data['bin_s'] * 1e3:g} ms", "",
                  f"| {' | '.join(['exponent', 'value', 'units', 'half N', 'K', 'chi2/dof', *nulls])} |",
                  "|---|---|---|---|---|---|" + "---|" * len(nulls)]
        lines += [row(data, exponent, nulls) for exponent in (*EXPONENTS, "beta_typical")] + [""]
    text = "\n".join(lines)
    (folder / f"{name}.md").write_text(text)
    print(text)
    if len(found) > 1:
        sweep(found, folder / f"{name}-sweep.svg")


def row(data, name, nulls):
    e = data["exponents"][name]
    if e["value"] is None:
        return f"| {name} | undefined |" + " |" * (4 + len(nulls))
    number = lambda x, form: "" if x is None else format(x, form)  # noqa: E731
    chi2 = ""
    if e["chi2"] is not None and e["dof"]:
        chi2 = f"{e['chi2'] / e['dof']:.3g}" + (" (rejected)" if e["rejected"] else "")
    cells = [name, format_with_error(e["value"], e["error"]), number(e["error_units"], ".2g"),
             number(e["half_of_the_units"], ".3f"), f"{e['first']:g}..{e['last']:g}", chi2]
    for null in nulls:
        v = data["verdicts"][null][name]
        if v["verdict"] == "undefined":
            cells.append("undefined")
            continue
        text = f"{format_with_error(v['null'], v['spread'])}, {v['distance']:+.1f}"
        cells.append(f"**{text}**" if v["verdict"] == "differs" else text)
    return "| " + " | ".join(cells) + " |"


def sweep(found, path):
    """Exponents of recording and nulls against the bin width."""
    figure, axes = new_figure(1, 4, width=3.4, height=3.0)
    width = np.array([data["bin_s"] * 1e3 for data in found])
    for ax, name in zip(axes[0], EXPONENTS, strict=True):
        for k, null in enumerate(dict.fromkeys(null for data in found for null in data["nulls"])):
            pairs = [data["nulls"].get(null, {}).get(name, {"value": None, "error": None}) for data in found]
            y, e = np.array([(p["value"], p["error"]) for p in pairs], float).T
            ax.errorbar(*finite(width, y, e), fmt="-", lw=1.2, color=COLORS[1 + k % 5], label=null)
        laws = [data["exponents"][name] for data in found]
        y, e = np.array([(law["value"], law["error"]) for law in laws], float).T
        rejected = np.array([bool(law.get("rejected")) for law in laws])
        for mask, fill, label in ((~rejected, COLORS[0], "recording"), (rejected, "white", "no power law")):
            ax.errorbar(*finite(width[mask], y[mask], e[mask]), fmt="o", ms=5, color=COLORS[0], mfc=fill, label=label)
        ax.set(xscale="log", xlabel="bin (ms)", title=SYMBOLS[name])
        ax.set_xticks(width, [f"{w:g}" for w in width])
        ax.set_xticks([], minor=True)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    save(figure, path)


if __name__ == "__main__":
    main()
