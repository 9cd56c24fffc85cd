"""Critical slowing down: how the autocorrelation time of each update grows with L, and what is left of its speed.

    python experiments/critical_slowing_down/run.py [-o FOLDER] [--quick] [--jobs 2] [--only wolff]
    python experiments/critical_slowing_down/run.py --critical-point [--jobs 2]

Ising model (Metropolis, Wolff, Swendsen-Wang) and phi4 (HMC, overrelaxed HMC, HMC with cluster flips), both in two
dimensions at their critical points.  Question, figure and findings: README.md beside this file.
"""

import argparse
import dataclasses
import json
import math
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lft.actions import Ising, Phi4
from lft.analysis import estimate
from lft.analysis.estimate import format_with_error
from lft.clusters import SignFlips, SwendsenWang, Wolff
from lft.errors import SeriesTooShort
from lft.geometry import Lattice
from lft.implementations import choose
from lft.protocols import State
from lft.rng import Key
from lft.updaters import HMC, Metropolis, Overrelax, Sequence, start

K_CRITICAL = 0.5 * math.log(1 + math.sqrt(2))
LAMBDA, KAPPA_CRITICAL = 0.5, 0.3435  # README.md: crossing of the Binder cumulants
BINDER_ISING = 0.61069  # of the square torus, in the universality class of the 2-D Ising model


def steps_of(L):
    """Leapfrog steps of a trajectory of length 1: dH stays the same when the step shrinks like V^(-1/4)."""
    return round(6 * math.sqrt(L / 16))


@dataclasses.dataclass(frozen=True)
class Method:
    """An update of one model, and how many measurements at which interval (in updates) resolve its tau_int."""

    model: str
    label: str
    color: str
    updater: object  # function of L
    sizes: tuple
    interval: object  # function of L
    measurements: object  # function of L


METHODS = {
    "metropolis": Method(
        "ising", "Metropolis, bit-sliced", "#1b6ca8", lambda L: Metropolis(), (16, 24, 32, 48, 64, 96, 128),
        lambda L: max(1, round(0.005 * L**2.17)), lambda L: 12000 if L < 96 else 5000,
    ),
    "wolff": Method(
        "ising", "Wolff (in sweeps)", "#d1495b", lambda L: Wolff(), (16, 24, 32, 48, 64, 96, 128, 192, 256),
        lambda L: 1, lambda L: 20000 if L < 128 else 8000,
    ),
    "swendsen-wang": Method(
        "ising", "Swendsen-Wang", "#2e7d32", lambda L: SwendsenWang(), (16, 24, 32, 48, 64, 96, 128, 192, 256),
        lambda L: 1, lambda L: 20000 if L < 128 else 8000,
    ),
    "hmc": Method(
        "phi4", "HMC", "#8e6c8a", lambda L: HMC(steps_of(L), 1.0), (16, 24, 32, 48, 64, 96, 128),
        lambda L: max(1, round(0.02 * L**2)), lambda L: 3000 if L < 48 else 1800 if L < 96 else 600 if L < 128 else 500,
    ),
    "hmc-overrelax": Method(
        "phi4", "HMC + 4 overrelaxation sweeps", "#e08e0b", lambda L: Sequence([HMC(steps_of(L), 1.0), Overrelax(4)]),
        (16, 24, 32, 48, 64, 96, 128),
        lambda L: max(1, round(0.004 * L**2)), lambda L: 3000 if L < 64 else 600 if L < 128 else 500,
    ),
    "hmc-clusters": Method(
        "phi4", "HMC + cluster flips of the signs", "#3c3c3c", lambda L: Sequence([HMC(steps_of(L), 1.0), SignFlips()]),
        (16, 24, 32, 48, 64, 96, 128), lambda L: 1, lambda L: 8000 if L < 64 else 4000,
    ),
}


def measure(name, L, share):
    """tau_int of m^2 and of the bond energy in sweeps, and the speed, of one update on one lattice."""
    method = METHODS[name]
    action = Ising(K=K_CRITICAL) if method.model == "ising" else Phi4(KAPPA_CRITICAL, LAMBDA)
    updater, key = method.updater(L), Key(1000 + L)
    phi = action.new_field(Lattice((L, L)))
    start(phi, "cold", key)
    loops, state = choose(action, updater, phi), State(phi, 0)
    interval, n = method.interval(L), max(400, int(share * method.measurements(L)))
    state, _ = loops.advance(state, key, n * interval // 10)
    m2, energy = np.empty(n), np.empty(n)
    seconds = proposed = 0.0
    for i in range(n):
        began = time.process_time()
        state, info = loops.advance(state, key, interval)
        seconds += time.process_time() - began
        proposed += info.proposed
        m2[i] = (action.site_sum(phi) / L**2) ** 2
        energy[i] = action.bond_sums(phi).sum() / L**2
    loops.close()
    # a Wolff update visits one cluster: its time in sweeps is its share of the lattice
    sweeps = proposed / (n * interval * L**2) if name == "wolff" else 1.0
    out = {"method": name, "L": L, "updates": n * interval, "sweeps_per_update": sweeps,
           "updates_per_ns": n * interval * sweeps * L**2 / (seconds * 1e9), "seconds": seconds}
    for label, series in (("m2", m2), ("energy", energy)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeriesTooShort)  # the length in tau_int stands in the table
            e = estimate(series, spacing=interval)
        tau = {"tau": e.tau_int * sweeps, "tau_error": e.tau_int_error * sweeps}
        out[label] = {"value": e.value, "error": e.error, **tau, "length_in_tau": n * interval / e.tau_int}
    out["effective_per_ns"] = out["updates_per_ns"] / (2 * out["m2"]["tau"])
    return out


def binder(L, kappa, n):
    """Binder cumulant 1 - <m^4> / (3 <m^2>^2) of phi4, by the update that decorrelates fastest."""
    action, key = Phi4(kappa, LAMBDA), Key(round(1e7 * kappa) + L)
    updater = Sequence([HMC(steps_of(L), 1.0), Overrelax(1), SignFlips()])
    phi = action.new_field(Lattice((L, L)))
    start(phi, "cold", key)
    state, m2 = State(phi, 0), np.empty(n)
    for i in range(-n // 20, n):
        state, _ = updater.step(action, state, key)
        m2[max(i, 0)] = (action.site_sum(phi) / L**2) ** 2
    e = estimate(np.column_stack([m2, m2**2]), lambda v: 1 - v[1] / (3 * v[0] ** 2))
    return L, kappa, e.value, e.error


def critical_point(jobs):
    """kappa at which U takes the value of the Ising class, for each L: quadratic interpolation of log(2/3 - U)."""
    kappas = (0.3424, 0.3430, 0.3436, 0.3442, 0.3448)
    points = [(L, k, n) for L, n in ((128, 5000), (64, 12000), (32, 20000)) for k in kappas]
    with ProcessPoolExecutor(jobs) as pool:
        rows = list(pool.map(binder, *zip(*points, strict=True)))
    print("| L | " + " | ".join(f"kappa = {k}" for k in kappas) + " | kappa_c |\n|" + "---|" * (len(kappas) + 2))
    target = math.log(2 / 3 - BINDER_ISING)
    for L in (32, 64, 128):
        U, error = np.array([(u, e) for size, _, u, e in rows if size == L]).T
        draws = np.random.default_rng(1).normal(U, error, (400, len(U)))  # errors of the interpolation only
        found = []
        for values in (U, *draws):
            fit = np.polyfit(np.log(2 / 3 - values), np.array(kappas) - 0.3436, 2)
            found.append(0.3436 + np.polyval(fit, target))
        cells = [format_with_error(u, e) for u, e in zip(U, error, strict=True)]
        print(f"| {L} | {' | '.join(cells)} | {format_with_error(found[0], float(np.std(found[1:])))} |")


def exponent(L, tau, error):
    """z and its error of tau = a L^z, weighted least squares of the logarithms; chi^2 per degree of freedom."""
    x, y, w = np.log(L), np.log(tau), np.asarray(tau) / np.asarray(error)
    (z, a), covariance = np.polyfit(x, y, 1, w=w, cov="unscaled")
    chi2 = float((((y - a - z * x) * w) ** 2).sum()) / max(len(L) - 2, 1)
    return float(z), float(math.sqrt(covariance[0, 0]) * max(1, math.sqrt(chi2))), float(math.exp(a)), chi2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default=str(Path(__file__).parent / "figures"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the measurements, L up to 64")
    parser.add_argument("--jobs", type=int, default=1, help="lattices simulated side by side")
    parser.add_argument("--only", nargs="*", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--critical-point", action="store_true", help="only find kappa_c from Binder cumulants")
    args = parser.parse_args()
    if args.critical_point:
        return critical_point(args.jobs)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    share, largest = (0.1, 64) if args.quick else (1.0, 256)
    points = [(n, L, share) for n in args.only for L in METHODS[n].sizes if L <= largest]
    points.sort(key=lambda p: -METHODS[p[0]].interval(p[1]) * p[1] ** 2)  # the longest first
    with ProcessPoolExecutor(args.jobs) as pool:
        results = []
        for future in as_completed([pool.submit(measure, *point) for point in points]):
            results.append(r := future.result())
            (folder / "points.json").write_text(json.dumps(results) + "\n")  # what is there if the run is stopped
            print(f"{r['method']:14} L={r['L']:<4} tau(m2) = {format_with_error(r['m2']['tau'], r['m2']['tau_error'])} "
                  f"sweeps, {r['updates_per_ns']:.3g} updates/ns, {r['seconds']:.0f} s", flush=True)
    results.sort(key=lambda r: (list(METHODS).index(r["method"]), r["L"]))
    summary = {"results": results, "exponents": exponents(results), "seconds": time.monotonic() - began}
    (folder / "critical_slowing_down.json").write_text(json.dumps(summary, indent=1) + "\n")
    draw(summary, folder / "critical_slowing_down.png")
    report(summary)


def exponents(results):
    """Fits of tau(m^2) from L = 24 on, by method."""
    out = {}
    for name in METHODS:
        rows = [r for r in results if r["method"] == name and r["L"] >= 24 and r["m2"]["length_in_tau"] > 50]
        if len(rows) >= 3:
            for label in ("m2", "energy"):
                taus = [r[label]["tau"] for r in rows], [r[label]["tau_error"] for r in rows]
                z, error, a, chi2 = exponent([r["L"] for r in rows], *taus)
                out.setdefault(name, {})[label] = {"z": z, "error": error, "amplitude": a, "chi2_per_dof": chi2}
    return out


def draw(summary, path):
    """Two rows: tau_int against L, and the effective speed; one column per model."""
    figure = Figure(figsize=(10.5, 8.2), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    titles = {"ising": "Ising model, K = K_c", "phi4": f"phi4, lambda = {LAMBDA:g}, kappa = {KAPPA_CRITICAL:g}"}
    for column, model in enumerate(titles):
        top, bottom = axes[:, column]
        for name, method in METHODS.items():
            rows = [r for r in summary["results"] if r["method"] == name]
            if method.model != model or not rows:
                continue
            L = np.array([r["L"] for r in rows])
            tau, error = (np.array([r["m2"][k] for r in rows]) for k in ("tau", "tau_error"))
            fit = summary["exponents"].get(name, {}).get("m2")
            text = f"{method.label}: z = {format_with_error(fit['z'], fit['error'])}" if fit else method.label
            style = {"color": method.color, "marker": "o", "ms": 4.5, "capsize": 2}
            top.errorbar(L, tau, error, ls="none", label=text, **style)
            if fit:
                x = np.geomspace(24, L.max(), 50)
                top.plot(x, fit["amplitude"] * x ** fit["z"], color=method.color, lw=1)
            speed = np.array([r["effective_per_ns"] for r in rows])
            bottom.errorbar(L, speed, speed * error / tau, ls="-", lw=1, label=method.label, **style)
        for ax in (top, bottom):
            ax.set(xscale="log", yscale="log")
            ax.set_xticks([16, 32, 64, 128, 256], ["16", "32", "64", "128", "256"])
            ax.minorticks_off()
            ax.grid(True, which="major", lw=0.4, alpha=0.5)
            ax.spines[["top", "right"]].set_visible(False)
        top.set(title=titles[model])
        bottom.set(xlabel="L")
        if top.get_legend_handles_labels()[0]:
            top.legend(frameon=False, fontsize=9, loc="upper left")
        low, high = top.get_ylim()
        top.set_ylim(low, high * 12)  # room for the legend
    axes[0, 0].set_ylabel("tau_int of m$^2$ (sweeps; HMC: trajectories)")
    axes[1, 0].set_ylabel("site updates / ns / (2 tau_int)")
    figure.savefig(path, dpi=150)


def report(summary):
    """The tables of README.md."""
    head = ("update", "L", "tau(m^2)", "tau(energy)", "updates/ns", "updates/ns/(2 tau)", "length / tau")
    print(f"\n| {' | '.join(head)} |\n" + "|---" * len(head) + "|")
    for r in summary["results"]:
        m2, energy = (format_with_error(r[k]["tau"], r[k]["tau_error"]) for k in ("m2", "energy"))
        print(f"| {METHODS[r['method']].label} | {r['L']} | {m2} | {energy} | {r['updates_per_ns']:.3g} | "
              f"{r['effective_per_ns']:.2g} | {r['m2']['length_in_tau']:.0f} |")
    print("\n| update | z of m^2 | chi^2/dof | z of the energy | chi^2/dof |\n" + "|---" * 5 + "|")
    for name, fits in summary["exponents"].items():
        cells = [f"{format_with_error(f['z'], f['error'])} | {f['chi2_per_dof']:.1f}" for f in fits.values()]
        print(f"| {METHODS[name].label} | {' | '.join(cells)} |")
    print(f"\n{summary['seconds']:.0f} s")


if __name__ == "__main__":
    main()
