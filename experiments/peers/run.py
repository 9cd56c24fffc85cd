"""The same work by lft and by the packages that pip installs, side by side: rates, ratios, and a check of the physics.

    python run.py FOLDER [--only PATTERN] [--json FILE] [--seconds S] [--core C]

Creates FOLDER/environment (venv), installs each peer there if it can be, then runs every workload of workloads.py:
one worker process per entrant, all pinned to one core with one thread, measured in turn (lft, peer, lft, peer, ...),
so that whatever else the machine does falls on all alike.  The rate is the work of 4n sweeps over the CPU time that 5n
sweeps take longer than n; the median of five, with minimum and maximum.  Energies are compared before rates.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from workloads import WORKLOADS  # noqa: E402  (this folder)

PACKAGES = ("numpy", "scipy", "numba", "jax", "mcising", "peapods", "dwave-samplers", "openjij", "blackjax")
REPEATS = 5
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS",
                     "NUMBA_NUM_THREADS", "LFT_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


def install(folder):
    """The environment's Python; a peer that cannot be installed is reported and left out."""
    environment = folder / "environment"
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    for package in PACKAGES:
        done = subprocess.run([*command, package], capture_output=True, text=True)
        if done.returncode:
            print(f"not installed: {package}: {done.stderr.strip().splitlines()[-1]}")
    return python


class Worker:
    """One entrant in a process of its own."""

    def __init__(self, python, name, workload, core):
        self.name = name
        path = os.environ.get("PYTHONPATH", "") if name == "lft" else ""  # of no use to the peers' environment
        self.process = subprocess.Popen(
            [python, HERE / "entrants.py", name, workload], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}))

    def ask(self, *request):
        """The answer, or RuntimeError with the entrant's reason."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        while line := self.process.stdout.readline():
            if line.startswith("{"):  # peers that print are ignored
                answer = json.loads(line)
                if "ok" in answer:
                    return answer["ok"]
                raise RuntimeError(answer["failed"])
        raise RuntimeError(f"ended with code {self.process.wait()}")

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def contest(name, work, pythons, seconds, core):
    """Rates of one workload, the entrants in turn."""
    workers, result = [], {}
    for entrant in ("lft", *work.peers):
        worker = Worker(pythons["lft" if entrant == "lft" else "peers"], entrant, name, core)
        entry = result[entrant] = {}
        try:
            entry["version"] = worker.ask("version")
            entry["check"] = worker.ask("check")
            entry["n"] = worker.ask("calibrate", seconds)
            workers.append(worker)
        except RuntimeError as reason:
            entry["failed"] = str(reason)
            worker.close()
    rates = {worker.name: [] for worker in workers}
    for _ in range(REPEATS):
        for worker in workers:
            rates[worker.name].append(worker.ask("measure", result[worker.name]["n"]))
    for worker in workers:
        values = rates[worker.name]
        result[worker.name] |= {"rate": statistics.median(values), "min": min(values), "max": max(values),
                                "note": worker.ask("note")}
        worker.close()
    judge(work, result)
    return result


def judge(work, result):
    """Energies against the exact one, or against lft's; ratios lft/peer of the medians."""
    ours = result["lft"]
    for name, entry in result.items():
        if "rate" not in entry:
            continue
        value, error = entry["check"]
        if work.exact is not None:
            entry["z"] = (value - work.exact) / error
        elif name != "lft" and "rate" in ours:
            entry["z"] = (value - ours["check"][0]) / math.hypot(error, ours["check"][1])
        if name != "lft" and "rate" in ours:
            entry["lft/peer"] = ours["rate"] / entry["rate"]


def table(results):
    """The results as a Markdown table."""
    lines = ["| workload | entrant | work/ns (min - max) | lft/peer | check (z) | |", "|---|---|---|---|---|---|"]
    for name, result in results.items():
        for entrant, e in result.items():
            if "rate" not in e:
                lines.append(f"| {name} | {entrant} | - | - | - | {e['failed']} |")
                continue
            ratio = f"{e['lft/peer']:.3g}" if "lft/peer" in e else ""
            z = f" ({e['z']:+.1f})" if "z" in e else ""
            lines.append(f"| {name} | {entrant} {e['version']} | {e['rate']:.4g} ({e['min']:.3g} - {e['max']:.3g}) | "
                         f"{ratio} | {e['check'][0]:.5g}{z} | {e.get('note') or ''} |")
    return "\n".join(lines)


def processor():
    """Name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        return next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="workloads, e.g. 'ising-2d-*'")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time of one measurement (default 1)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    chosen = {n: w for n, w in WORKLOADS.items() if fnmatch.fnmatch(n, arguments.only)}
    if not chosen:
        parser.error(f"--only {arguments.only!r}: known are {', '.join(WORKLOADS)}")
    pythons = {"lft": sys.executable, "peers": install(arguments.folder.resolve())}
    header = {"date": datetime.date.today().isoformat(), "cpu": processor(), "core": arguments.core,
              "load": os.getloadavg()[0], "python": platform.python_version(), "repeats": REPEATS,
              "seconds": arguments.seconds}
    print(", ".join(f"{k} {v}" for k, v in header.items()), flush=True)
    results = {}
    for name, work in chosen.items():
        results[name] = contest(name, work, pythons, arguments.seconds, arguments.core)
        print(table({name: results[name]}).split("\n", 2)[2], flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps({**header, "load at the end": os.getloadavg()[0],
                                                  "results": results}, indent=1))
    print(f"\n{table(results)}")
    wrong = [(n, e) for n, r in results.items() for e, x in r.items() if abs(x.get("z", 0)) > 4.5]
    if wrong:
        sys.exit(f"physics disagrees: {wrong}")


if __name__ == "__main__":
    main()
