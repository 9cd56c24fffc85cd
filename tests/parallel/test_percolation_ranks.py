"""Directed percolation on ranks: the same sums and configurations, also after an interruption or a death."""

import os
import signal
import subprocess
import time

import h5py
import pytest

from tests.helpers import environment, load_json, python_command, run_lft

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


def hashes(folder, name):
    done = run_lft(["analyze", name, "--json", "j.json"], folder)
    assert done.returncode == 0, done.stderr
    data = load_json(folder / "j.json")
    return data["field_sha256"], data["series_sha256"], data["warnings"]


@pytest.mark.parametrize("case", CASES)
def test_the_same_on_any_number_of_ranks(tmp_path, case):
    (tmp_path / "c.toml").write_text(CONFIG.format(**CASES[case]))
    seen = set()
    for ranks in (1, 2, 3):
        assert run_lft(["run", "c.toml", "-o", f"{ranks}.h5", "--quiet"], tmp_path, ranks).returncode == 0
        seen.add(repr(hashes(tmp_path, f"{ranks}.h5")))
    part = ["run", "c.toml", "-o", "part.h5", "--quiet", "--set", "run.replicas=77"]
    assert run_lft(part, tmp_path, 2).returncode == 0
    assert run_lft(["resume", "part.h5", "--updates", "224", "--quiet"], tmp_path, 3).returncode == 0
    seen.add(repr(hashes(tmp_path, "part.h5")))
    assert len(seen) == 1


def test_killed_and_resumed(tmp_path):
    settings = ["--set", "run.replicas=20000", "--set", "lattice.shape=[400,400]", "--quiet"]
    (tmp_path / "c.toml").write_text(CONFIG.format(**CASES["bond"]))
    process = subprocess.Popen(python_command(["-m", "lft", "run", "c.toml", "-o", "k.h5", *settings]), cwd=tmp_path,
                               env=environment())  # fmt: skip
    path, end = tmp_path / "k.h5", time.monotonic() + 60
    while time.monotonic() < end and not (path.exists() and done_of(path)):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < done_of(path) <= 20000
    assert run_lft(["resume", "k.h5", "--quiet"], tmp_path).returncode == 0
    assert run_lft(["run", "c.toml", "-o", "w.h5", *settings], tmp_path).returncode == 0
    assert hashes(tmp_path, "k.h5") == hashes(tmp_path, "w.h5")


def done_of(path):
    with h5py.File(path, "r") as file:
        return int(file["state"].attrs["t"])
