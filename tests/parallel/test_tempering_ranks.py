"""Tempering and annealing: the same bits on any number of ranks, however they are split, and after interruptions."""

import json

import h5py
import numpy as np
import pytest

import lft.chain
from lft.archive import Archive
from lft.config import read_config
from lft.simulation import resume, run
from tests.helpers import run_python

RUN = """
seed = 12
[lattice]
{lattice}
[action]
{action}
[update]
{update}
[tempering]
{tempering}
[anneal]
sweeps = 30
from = 0.2
to = 4.0
restarts = 5
[run]
thermalize = 128
updates = 40
measure_every = 4
save_every = 20
"""


def config(lattice, action, update, tempering):
    return RUN.format(lattice=lattice, action=action, update=update, tempering=tempering)


CONFIGS = {
    "ising": config(
        "shape = [9, 8]",
        'name = "ising"\nK = 0.5\nh = 0.02',
        'name = "metropolis"',
        "min = 0.7\nmax = 1.0\ncount = 3\ntune = true",
    ),
    "generic": config(
        'shape = [6, 7]\nboundary = ["open", "periodic"]',
        'name = "ising"\nK = 0.5',
        'name = "heatbath"\nkernel = "generic"',
        "inverse_temperatures = [0.0, 0.5, 0.8, 1.0, 1.1]\nswap_every = 3",
    ),
    "phi4": config(
        "shape = [8, 4]",
        'name = "phi4"\nkappa = 0.25\nlambda = 0.6',
        'name = "hmc"\nsteps = 4',
        'inverse_temperatures = [0.5, 0.8, 1.0, 1.3]\ncoupling = "kappa"\nswap_every = 2\ntune = true\ntarget = 1.3',
    ),
    "neural": config(
        'shape = [3, 17]\naxes = ["unit", "t"]',
        'name = "neural"\nA = [[0, -0.3, 0.1], [-0.3, 0, 0.2], [0.1, 0.2, 0]]\nB = [-0.25]\nI = 0.3',
        'name = "heatbath"',
        "inverse_temperatures = [0.5, 1.0]",
    ),
    "pairwise": config(
        'shape = [4, 1]\naxes = ["unit", "t"]',
        'name = "pairwise"\nJ = [[0, 1, -1, 0.5], [1, 0, 1, 0], [-1, 1, 0, -0.3], [0.5, 0, -0.3, 0]]',
        'name = "metropolis"',
        "inverse_temperatures = [0.2, 0.5, 0.8, 1.0]",
    ),
}

DRIVER = """
import sys
from lft.cli import main

task, suffix, *names = sys.argv[1:]
for name in names:
    if task == "resume":
        code = main(["resume", f"{name}-{suffix}.h5", "--updates", "11", "--quiet"])
    elif task == "anneal":
        code = main(["anneal", f"{name}.toml", "-o", f"{name}-{suffix}.h5"])
    else:
        code = main(["run", f"{name}.toml", "-o", f"{name}-{suffix}.h5", "--quiet"])
    if code:
        sys.exit(code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tempering")
    for name, text in CONFIGS.items():
        (path / f"{name}.toml").write_text(text)
    (path / "driver.py").write_text(DRIVER)
    return path


def content(path):
    """Everything that must not depend on ranks or interruptions."""
    with Archive(path) as archive:
        t = archive.tempering
        saved = [archive.configuration(k).tobytes() for k in range(archive.n_configurations)]
        state = [array.tobytes() for array in archive.state_arrays()]
        arrays = {name: np.asarray(value).tobytes() for name, value in t.items() if name != "kernels"}
        return archive.series_sha256(), archive.t, saved, state, arrays, t["kernels"]


@pytest.fixture(scope="module")
def serial(folder):
    for name in CONFIGS:
        run(read_config(folder / f"{name}.toml"), folder / f"{name}-1.h5", is_quiet=True)
    return {name: content(folder / f"{name}-1.h5") for name in CONFIGS}


def drive(folder, ranks, task, suffix, names):
    done = run_python(["driver.py", task, suffix, *names], folder, ranks, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_same_bits_on_any_number_of_ranks(folder, serial, ranks):
    drive(folder, ranks, "run", f"r{ranks}", CONFIGS)
    for name in CONFIGS:
        assert content(folder / f"{name}-r{ranks}.h5") == serial[name], name
        with Archive(folder / f"{name}-r{ranks}.h5") as archive:
            assert archive.ranks == ranks


def test_what_was_compared_is_not_trivial(folder, serial):
    assert len({c[0] for c in serial.values()}) == len(CONFIGS)
    for name in CONFIGS:
        with Archive(folder / f"{name}-1.h5") as archive:
            t = archive.tempering
            assert t["accepted"].sum() > 5 and len(set(archive.samples("replica")[:, 0])) > 1, name
            assert archive.samples("acceptance").shape == (10, len(t["replica"]))
            assert np.array_equal(archive.last(), archive.state_arrays()[t["target"]])
            others = [a.tobytes() for a in archive.state_arrays()]
            assert len(set(others)) > 1
    with Archive(folder / "ising-1.h5") as archive:
        assert abs(archive.tempering["inverse_temperatures"][1] - np.sqrt(0.7)) > 1e-6
        assert archive.kernel == "ising-bits"


class Stop(lft.chain.Interrupt):
    """A signal that arrives at the first look, a few updates after the start."""

    looks = 0

    @property
    def received(self):
        Stop.looks -= 1
        return None if Stop.looks >= 0 else 15

    @received.setter
    def received(self, value):
        pass


def test_stopped_anywhere_and_resumed_on_other_ranks_is_never_stopped(folder, serial, monkeypatch):
    """Stops inside the tuning and between two tunings; then a resumption on 3 ranks, one on 2, one on 1."""
    names = ["ising", "generic", "phi4", "neural"]
    for name in names:
        path, looks = folder / f"{name}-part.h5", 0
        with monkeypatch.context() as patch:
            patch.setattr(lft.chain, "Interrupt", Stop)
            patch.setattr(lft.chain, "BATCH_S", 0.0)  # one update at a time
            Stop.looks = 3
            t = run(read_config(folder / f"{name}.toml", ["run.updates=13"]), path, is_quiet=True).state.t
            stops = [t]
            for looks in (20, 41):
                Stop.looks = looks
                stops.append(resume(path, is_quiet=True).state.t)
        assert stops == sorted(set(stops)) and 0 < stops[0] and stops[-1] < 128
        resume(path, is_quiet=True)
    drive(folder, 3, "resume", "part", names)
    drive(folder, 2, "resume", "part", names)
    for name in names:
        resume(folder / f"{name}-part.h5", updates=5, is_quiet=True)
        assert content(folder / f"{name}-part.h5") == serial[name], name


def ground(path):
    with h5py.File(path, "r") as file:
        return file["actions"][()].tobytes(), file["configurations"][()].tobytes(), file["meta"].attrs["kernel"]


def test_annealing_finds_the_same_on_any_number_of_ranks(folder):
    names = list(CONFIGS)
    for ranks in (None, 2, 3):
        drive(folder, ranks, "anneal", f"ground{ranks or 1}", names)
    for name in names:
        found = [ground(folder / f"{name}-ground{ranks}.h5") for ranks in (1, 2, 3)]
        assert found[0] == found[1] == found[2], name
    assert len({ground(folder / f"{name}-ground1.h5")[0] for name in names}) == len(names)


def test_one_failure_on_several_ranks_is_one_message(folder):
    (folder / "bad.toml").write_text(CONFIGS["ising"].replace("count = 3", "count = 1"))
    done = run_python(["-m", "lft", "run", "bad.toml", "-o", "bad.h5"], folder, 2)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "[tempering] count = 1" in done.stderr
    done = run_python(["-m", "lft", "run", "pairwise.toml", "-o", "bad.h5", "--set", "tempering.inverse_temperatures="
                       "[0.5,1.0]"], folder, 3)
    assert done.returncode and done.stderr.count("\n") == 1 and "2 temperatures on 3 ranks" in done.stderr
    done = run_python(["-m", "lft", "analyze", "ising-1.h5", "--json", "-"], folder)
    assert json.loads(done.stdout)["tempering"]["round_trips"] >= 0
