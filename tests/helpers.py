"""Starting the program as a user does: serially, or on several ranks."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import lft

ISING = """seed = 7
[lattice]
shape = [4, 3, 6]
axes = ["x", "y", "t"]
boundary = ["periodic", "open", "open"]
spacing = ["42 um", "42 um", "20 ms"]
[action]
name = "ising"
K = [0.2, 0.1, 0.3]
h = 0.05
[update]
name = "heatbath"
[run]
thermalize = 20
updates = 200
measure_every = 2
save_every = 20
"""


def environment(**changes):
    """The environment of a child, in which the package under test is importable; None removes a variable."""
    package = str(Path(lft.__file__).resolve().parent.parent)
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, **changes}
    return {k: v for k, v in env.items() if v is not None}


@functools.cache
def launcher():
    """Path of mpiexec (first the one beside the interpreter), and why it cannot be used ("" if it can)."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        return "", "no mpiexec beside the interpreter or on PATH: pip install mpich"
    check = subprocess.run(
        [sys.executable, "-c", "from mpi4py import MPI"],
        capture_output=True,
        text=True,
        env=environment(),
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    reason = check.stderr.strip().splitlines()[-1] if check.returncode else ""
    return found, f"mpi4py finds no MPI library: {reason}" if reason else ""


def python_command(args, ranks=None):
    """Command line of the interpreter with ``args``, on ``ranks`` ranks (None: without a launcher)."""
    if ranks is None:
        return [sys.executable, *map(str, args)]
    mpiexec, reason = launcher()
    if reason:
        pytest.skip(reason)  # no mpirun or no MPI library; the README's test command installs both
    return [mpiexec, "-n", str(ranks), sys.executable, *map(str, args)]


def run_python(args, cwd, ranks=None, timeout=120, env=None):
    """Run the interpreter with ``args`` in the folder ``cwd``; returns the CompletedProcess (text)."""
    command = python_command(args, ranks)
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        env=environment(**(env or {})),
    )


def run_lft(args, cwd, ranks=None, timeout=120, env=None):
    """Run ``lft ARGS`` in the folder ``cwd``, serially or on ``ranks`` ranks; skips where there is no MPI."""
    return run_python(["-m", "lft", *args], cwd, ranks, timeout, env)


LINES = """
import sys
from lft.cli import main
for line in sys.argv[1:]:
    code = main(line.split())
    if code:
        sys.exit(code)
"""


def run_lines(lines, cwd, ranks=None, timeout=120):
    """Several command lines of ``lft`` one after the other in one start, which costs a second per rank."""
    done = run_python(["-c", LINES, *lines], cwd, ranks, timeout)
    assert done.returncode == 0, done.stderr
    return done


def load_json(path):
    """JSON as the contract wants it: no NaN, no Infinity."""

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    return json.loads(Path(path).read_text(), parse_constant=refuse)


# ---- run, status, analyze, resume


GRID = np.array([[x, y] for x in (0.0, 42.0, 84.0) for y in (0.0, 42.0)])


def noise(n_units, n_bins, p=0.3):
    return np.random.default_rng(5).random((n_units, n_bins)) < p


def save_recording(form, raster, bin_s=0.02):
    """The same spikes in one of the forms of the contract; returns the arguments that read it."""
    if form == "npz":
        np.savez("r.npz", raster=raster, bin_s=bin_s, positions=GRID)
        return "r.npz"
    if form == "npy":
        np.save("r.npy", raster)
        return f"r.npy --bin {bin_s}s"
    times = [(np.flatnonzero(row) + 0.5) * bin_s for row in raster]
    index = np.concatenate([[0], np.cumsum([len(t) for t in times])])
    arrays = {"spike_times": np.concatenate(times), "spike_index": index, "positions": GRID}
    if form == "spikes.npz":
        np.savez("s.npz", duration_s=raster.shape[1] * bin_s, **arrays)
        return f"s.npz --bin {bin_s}s"
    with h5py.File("r.h5", "w") as file:
        file.attrs.update(duration_s=raster.shape[1] * bin_s, metadata_json="{}")
        for name, array in arrays.items():
            file[name] = array
    return f"r.h5 --bin {bin_s}s"
