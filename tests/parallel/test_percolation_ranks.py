"""Directed percolation on ranks: the same sums and configurations, also after an interruption or a death."""

import os
import signal
import subprocess
import time

import h5py

from lft.commands.report import analyze
from tests.helpers import environment, python_command, run_lft, run_python

CONFIG = """seed = 11
[lattice]
shape = {shape}
boundary = {boundary}
[action]
name = "directed-percolation"
p = {p}
kind = "{kind}"
[run]
start = "{start}"
replicas = 301
save_every = 100
checkpoint = "10 ms"
"""
CASES = {
    "bond": {"shape": [41, 60], "boundary": ["periodic", "open"], "p": 0.6447, "kind": "bond", "start": "seed"},
    "site": {"shape": [9, 6, 31], "boundary": ["open", "periodic", "open"], "p": 0.4, "kind": "site", "start": "full"},
}


SCRIPT = """
from lft.cli import main
from lft.domain import world
comm = world()
n = 1 if comm is None else comm.Get_size()
for line in open("lines.txt"):
    assert main(line.replace("RANKS", str(n)).split()) == 0, line
"""
LINES = """run bond.toml -o bondRANKS.h5 --quiet
run site.toml -o siteRANKS.h5 --quiet
run bond.toml -o bond9RANKS.h5 --quiet --set run.replicas=77
resume bond9RANKS.h5 --updates 224 --quiet
"""


def hashes(path):
    data, _, _ = analyze(path)
    return data["field_sha256"], data["series_sha256"], *data["warnings"]


def test_the_same_on_any_number_of_ranks(tmp_path):
    for name, case in CASES.items():
        (tmp_path / f"{name}.toml").write_text(CONFIG.format(**case))
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "lines.txt").write_text(LINES)
    for ranks in (None, 2, 3):
        done = run_python(["script.py"], tmp_path, ranks)
        assert done.returncode == 0, done.stderr
    resume = run_lft(["resume", "bond92.h5", "--updates", "3", "--quiet"], tmp_path)
    assert resume.returncode == 0, resume.stderr
    for name in CASES:
        assert len({hashes(tmp_path / f"{name}{n}.h5") for n in (1, 2, 3)}) == 1
    assert hashes(tmp_path / "bond93.h5") == hashes(tmp_path / "bond1.h5") != hashes(tmp_path / "bond92.h5")


def test_killed_and_resumed(tmp_path):
    settings = ["--set", "run.replicas=10000", "--set", "lattice.shape=[400,400]", "--quiet"]
    (tmp_path / "c.toml").write_text(CONFIG.format(**CASES["bond"]))
    process = subprocess.Popen(python_command(["-m", "lft", "run", "c.toml", "-o", "k.h5", *settings]), cwd=tmp_path,
                               env=environment())  # fmt: skip
    path, end = tmp_path / "k.h5", time.monotonic() + 60
    while time.monotonic() < end and not (path.exists() and done_of(path)):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < done_of(path) <= 10000
    assert run_lft(["resume", "k.h5", "--quiet"], tmp_path).returncode == 0
    assert run_lft(["run", "c.toml", "-o", "w.h5", *settings], tmp_path).returncode == 0
    assert hashes(path) == hashes(tmp_path / "w.h5")


def done_of(path):
    with h5py.File(path, "r") as file:
        return int(file["state"].attrs["t"])
