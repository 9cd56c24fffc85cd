"""TestU01 on the generators of lft, in the orders in which a lattice uses their numbers.

    python run.py OUT                     every stream and battery, one after the other (about two CPU hours)
    python run.py OUT --only smallcrush   the short battery alone (three minutes)
    python run.py OUT --report            the table of what OUT holds, as docs/generator-battery.md

Needs TestU01 (Debian: libtestu01-0-dev, section non-free) and a C compiler.  Finished logs in OUT are kept, so an
interrupted run is continued; a battery that stopped half-way is reported with the results it had.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parent.parent / "lft" / "_kernels" / "c"

STREAMS = {
    "philox-sweep": "acceptance numbers of neighboring sites, row after row, sweep after sweep",
    "philox-colors": "every second site, acceptance and proposal in turn, then the other color",
    "philox-one-site": "one site, sweep after sweep",
    "philox-stacked": "each site beside its next 31 sweeps",
    "philox-keys": "16 neighboring seeds times 4 replicas, one number of each in turn",
    "philox-low-bits": "the lowest 32 of the 52 bits of both numbers, lowest bit first",
    "key-words": "the keys of seeds 0, 1, 2, ...",
    "ars-sweep": "the blocks of the bit-sliced sweep: units, rounds, colors, sweeps",
    "ars-heads": "the eleven bits that each site compares, site after site",
    "ars-one-unit": "one unit of 128 sites, sweep after sweep",
    "ars-keys": "16 neighboring seeds times 4 replicas, one block of each in turn",
    "ars-tail": "the blocks of undecided sites",
    "ars-large": "units far apart in a lattice of 2^48 units",
    "ars-one-plane": "one bit of every block: one site, all rounds, unit after unit",
}
MUTANTS = {
    "mutant-ars-1": "ARS with one round instead of seven",
    "mutant-ars-2": "ARS with two rounds",
    "mutant-repeat": "every sweep number used twice",
    "mutant-seeds": "keys made of seed + replica",
    "mutant-lcg": "x -> 69069 x + 1 mod 2^32",
    "mutant-randu": "RANDU",
}
CRUSHED = ("philox-sweep", "ars-sweep")
FAILED, NOTED = 1e-10, 1e-3
"""A p-value this close to 0 or 1 is a failure; one closer than NOTED is listed (two in a thousand are expected)."""


def plan(only):
    """(stream, battery) in order: the short batteries first."""
    jobs = [(s, "smallcrush") for s in [*MUTANTS, *STREAMS]]
    jobs += [(s, b) for b in ("rabbit", "alphabit") for s in STREAMS]
    jobs += [(s, "crush") for s in CRUSHED]
    return [job for job in jobs if only is None or job[1] == only]


def build(out):
    """Compile the driver with the kernels' own sources."""
    program = out / "battery"
    sources = [HERE / "battery.c", *(KERNELS / name for name in ("philox.c", "bitslice.c", "bitslice.h"))]
    if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return program
    command = ["gcc", "-O3", "-ffp-contract=off", "-std=gnu11", "-Wall", "-Wextra", f"-I{KERNELS}",
               "-I/usr/include/testu01", str(HERE / "battery.c"), str(KERNELS / "philox.c"),
               str(KERNELS / "bitslice.c"), "-ltestu01", "-ltestu01probdist", "-ltestu01mylib", "-lm",
               "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def log_of(out, stream, battery):
    """The log of one battery."""
    return out / f"{stream}.{battery}.log"


def run(out, only):
    """Run what OUT does not hold yet."""
    out.mkdir(parents=True, exist_ok=True)
    program = build(out)
    for stream, battery in plan(only):
        log = log_of(out, stream, battery)
        if log.exists() and "CPU seconds" in log.read_text():
            continue
        began = time.perf_counter()
        before = read(log)[1] if battery == "crush" and log.exists() else []
        first = [str(1 + max(n for n, _, _ in before)), "96"] if before else []  # Crush goes on after its last test
        with log.open("a" if before else "w") as file:
            command = [program, stream, battery, *first]
            subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=True)
        seconds = sum(_seconds(line) for line in log.read_text().splitlines())
        with log.open("a") as file:
            file.write(f"CPU seconds {seconds:.0f}, wall {time.perf_counter() - began:.0f}\n")
        _, p, _ = read(log)
        print(f"{stream:16} {battery:10} {len(p):4} p-values, smallest distance to 0 or 1: {_distance(p):.2g}")


def _seconds(line):
    found = re.match(r" Total CPU time:\s+(\d+):(\d+):(\d+\.\d+)", line)
    return sum(float(part) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else 0.0


def _distance(p):
    return min(min(x, 1 - x) for _, _, x in p) if p else math.nan


def read(log):
    """(version, [(test number, name, p)], CPU seconds) of a log."""
    text = log.read_text()
    p = [(int(n), name.strip(), float(x)) for n, x, name in re.findall(r"^RESULT (\d+) (\S+) (.*)$", text, re.M)]
    version = re.search(r"Version:\s+(.*)", text)
    return version.group(1) if version else "", p, sum(_seconds(line) for line in text.splitlines())


def report(out):
    """The table of docs/generator-battery.md."""
    rows, noted, total, failures, versions = [], [], 0, [], set()
    for stream, battery in plan(None):
        log = log_of(out, stream, battery)
        if not log.exists():
            continue
        version, p, seconds = read(log)
        if not p:
            continue
        versions.add(version)
        done = f"{max(n for n, _, _ in p)} of 96 tests" if battery == "crush" else "all"
        bad = [x for x in p if min(x[2], 1 - x[2]) < FAILED]
        seen = [x for x in p if min(x[2], 1 - x[2]) < NOTED]
        rows.append(f"| {stream} | {battery} | {done} | {len(p)} | {len(seen)} | {len(bad)} | {seconds / 60:.1f} |")
        if stream in STREAMS:
            total += len(p)
            noted += [f"| {stream} | {battery} | {n or ''} {name} | {x:.3g} |" if x < 0.5
                      else f"| {stream} | {battery} | {n or ''} {name} | 1 - {1 - x:.3g} |" for n, name, x in seen]
            failures += [(stream, battery)] if bad else []
        elif not bad:
            failures.append((stream, battery))
    print(f"{', '.join(sorted(versions))}\n")
    print("| stream | battery | finished | p-values | outside [1e-3, 1-1e-3] | outside [1e-10, 1-1e-10] | CPU min |")
    print("|---|---|---|---|---|---|---|", *rows, sep="\n")
    print(f"\n{len(noted)} of {total} p-values of the package's streams lie outside [1e-3, 1 - 1e-3]; "
          f"{0.002 * total:.1f} are expected of perfect numbers.\n")
    print("| stream | battery | test | p |", "|---|---|---|---|", *noted, sep="\n")
    print(f"\nVerdict: {'as it must be' if not failures else f'WRONG: {failures}'}")
    return not failures


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=("smallcrush", "rabbit", "alphabit", "crush"))
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if not arguments.report:
        run(arguments.out, arguments.only)
    sys.exit(not report(arguments.out))


if __name__ == "__main__":
    main()
