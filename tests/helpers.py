"""Starting the program as a user does: serially, or on several ranks."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lft


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
