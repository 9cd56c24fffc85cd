"""Universality: critical points and exponents of the 2-D and 3-D Ising model and of 3-D phi4 from small lattices.

    python experiments/universality/run.py FOLDER [--only ising2d ...] [--share 1.0]

Simulates what is missing in FOLDER (about 12 minutes on one core), analyzes, and writes table.md, results.json and one
figure per model there.  Question, findings and choices: README.md beside this file.
"""

import argparse
import json
import math
from pathlib import Path

from simulations import K_ISING_2D, MODELS, archives, collapse_archives

from lft.analysis.collapse import Points, collapse
from lft.analysis.estimate import format_with_error
from lft.analysis.measured import read_measured
from lft.analysis.reweight import Reweighting
from lft.analysis.scaling import binder, scale
from lft.archive import Archive
from lft.plotting import plot_scaling

REFERENCE = {  # value, error, source
    "ising2d": {"critical": (K_ISING_2D, 0.0, "exact"), "nu": (1.0, 0.0, "exact"), "eta": (0.25, 0.0, "exact")},
    "ising3d": {"critical": (0.221654626, 5e-9, "Ferrenberg, Xu, Landau 2018"),
                "nu": (0.63002, 1e-4, "Hasenbusch 2010"), "eta": (0.03627, 1e-4, "Hasenbusch 2010")},
    "phi4_3d": {"critical": (0.1875483, 2e-7, "Hasenbusch 1999, from memory"),
                "nu": (0.63002, 1e-4, "Hasenbusch 2010"), "eta": (0.03627, 1e-4, "Hasenbusch 2010")},
}
TITLES = {"ising2d": "2-D Ising", "ising3d": "3-D Ising", "phi4_3d": "3-D phi4, lambda = 1.1"}
# exponents of the leading corrections, held fixed.  2-D Ising: the regular background of <m^2> against L^(-1/4); 3-D
# Ising: omega = 0.832(6) (Hasenbusch 2010); phi4 at lambda = 1.1 was chosen because that correction is absent there
OMEGA = {"ising2d": 1.75, "ising3d": 0.832, "phi4_3d": None}
BINDER = {"ising2d": None, "ising3d": 0.4655, "phi4_3d": 0.4655}  # where exponents are read off; None: last crossing
SYMBOLS = {"critical": {"ising2d": "K_c", "ising3d": "K_c", "phi4_3d": "kappa_c"}}


def analyze(name, paths):
    """Finite-size scaling of one model."""
    sizes = {}
    for L, path in paths.items():
        with Archive(path) as archive:
            measured = read_measured(archive)
        sizes[L] = Reweighting(measured, n_blocks=max(8, min(40, measured[0].n // 250)))
    return scale(sizes, MODELS[name].coupling, omega=OMEGA[name], binder_value=BINDER[name])


def collapsed(paths):
    """Collapse of the Binder cumulant of the 2-D Ising model from independent runs beside the critical point."""
    rows = []
    for L, each in paths.items():
        for path in each:
            with Archive(path) as archive:
                (measured,) = read_measured(archive)
            u = Reweighting([measured], n_blocks=20).means(("m2", "m4"), measured.couplings).map(binder)
            rows.append((L, measured.couplings["K"], float(u.center), float(u.error)))
    points = Points(*map(list, zip(*rows, strict=True)))
    start = {"critical": 0.442, "nu": 0.95}
    return collapse(points, start, fixed=("rho",), degree=5, omega=1.75, correction_degree=1, n_bootstrap=200), points


def rows_of(name, result):
    """(quantity, value, error, chi^2/dof, literature, source, z) of a model."""
    out = []
    for quantity in ("critical", "nu", "eta"):
        value, error = getattr(result, quantity)
        scan = {"critical": result.critical_scan, "nu": result.slope_scan, "eta": result.chi_scan}[quantity]
        exact, uncertainty, source = REFERENCE[name][quantity]
        symbol = SYMBOLS.get(quantity, {}).get(name, quantity)
        quality = f"{scan.chosen.chi_squared:.1f}/{scan.chosen.dof}"
        z = (value - exact) / math.hypot(error, uncertainty)
        out.append((TITLES[name], symbol, value, error, quality, exact, source, z))
    return out


def markdown(rows):
    """The table of docs/critical-points.md."""
    lines = ["| model | quantity | result | chi^2/dof of the best fit | literature | source | z |", "|---" * 7 + "|"]
    for model, symbol, value, error, quality, exact, source, z in rows:
        result = format_with_error(value, error)
        lines.append(f"| {model} | {symbol} | {result} | {quality} | {exact:.8g} | {source} | {z:+.1f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--only", nargs="*", choices=tuple(MODELS), default=tuple(MODELS))
    parser.add_argument("--share", type=float, default=1.0, help="fraction of the measurements")
    args = parser.parse_args()
    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows, results = [], {}
    for name in args.only:
        result = analyze(name, archives(folder, name, args.share))
        found, points = collapsed(collapse_archives(folder, args.share)) if name == "ising2d" else (None, None)
        print(f"\n{TITLES[name]}\n{result.table()}")
        for note in result.notes:
            print(f"note: {note}")
        rows += rows_of(name, result)
        results[name] = result.as_json()
        if found is not None:
            print(f"collapse of U: {found}")
            results[name]["collapse"] = found.as_json()
            for quantity, symbol in (("critical", "K_c (collapse)"), ("nu", "nu (collapse)")):
                (value, error), (exact, _, source) = getattr(found, quantity), REFERENCE[name][quantity]
                rows.append((TITLES[name], symbol, value, error, f"{found.chi_squared:.1f}/{found.dof}", exact, source,
                             (value - exact) / error))
        plot_scaling(result, folder / f"{name}.png", found, points)
    (folder / "table.md").write_text(markdown(rows))
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print("\n" + markdown(rows))


if __name__ == "__main__":
    main()
