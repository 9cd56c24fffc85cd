"""A fit has the same couplings, bit by bit, on any number of ranks, and goes on after a kill on another number."""

import os
import signal
import subprocess
import time

import h5py
import numpy as np
import pytest

from tests.helpers import environment, python_command, run_lft, run_lines


def arrays(path):
    with h5py.File(path, "r") as file:
        return {name: file[name][()] for name in file}


def recording(path, n=70, t=3000, seed=0):
    rng = np.random.default_rng(seed)
    rate = rng.uniform(0.05, 0.2, n)[:, None] * (1 + 0.5 * np.sign(rng.normal(size=t)))
    np.savez(path, raster=(rng.random((n, t)) < rate).astype(np.int8), bin_s=0.01)


MODELS = ("pairwise", "k-pairwise", "lagged")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Folder with MODELRANKS.h5 of every model."""
    folder = tmp_path_factory.mktemp("fits")
    for model in MODELS:
        recording(folder / f"{model}.npz", n=70 if model == "pairwise" else 40)
    for ranks, models in ((None, MODELS), (2, MODELS), (3, MODELS[:1])):
        lines = [f"fit {model}.npz --model {model} --ridge 1 -o {model}{ranks}.h5" for model in models]
        assert run_lines(lines, folder, ranks).stdout.count("PseudoFit") == len(models)  # rank 0 alone speaks
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_same_bits_on_any_number_of_ranks(model, fitted):
    tmp_path, results = fitted, {}
    for ranks in (None, 2, 3) if model == "pairwise" else (None, 2):
        results[ranks] = arrays(tmp_path / f"{model}{ranks}.h5")
    for ranks in list(results)[1:]:
        different = [k for k, v in results[None].items() if not np.array_equal(v, results[ranks][k], equal_nan=True)]
        assert not different, (ranks, different)
    assert not list(tmp_path.glob("*.search"))


def test_bad_input_on_ranks_is_one_line(tmp_path):
    recording(tmp_path / "rec.npz", n=40, t=30)
    done = run_lft(["fit", "rec.npz", "--model", "pairwise", "-o", "out.h5"], tmp_path, 2)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "parameters of each unit" in done.stderr


SLOW = """
import sys, time
from lft.inference.pseudo import checkpoint, fit
right = fit.GibbsObjective.evaluate
def slowly(self, theta):
    time.sleep(0.4)
    return right(self, theta)
fit.GibbsObjective.evaluate = slowly
checkpoint.Checkpoint.__init__.__defaults__ = tuple(
    0.0 if d == 2.0 else d for d in checkpoint.Checkpoint.__init__.__defaults__)
from lft.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_fit_goes_on(tmp_path):
    recording(tmp_path / "rec.npz", n=40)
    (tmp_path / "slow.py").write_text(SLOW)
    options = ["fit", "rec.npz", "--model", "pairwise", "--ridge", "1", "-o"]
    assert run_lft([*options, "whole.h5"], tmp_path).returncode == 0
    command = python_command(["slow.py", *options, "killed.h5"])
    child = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
    search = tmp_path / "killed.h5.search"
    end = time.monotonic() + 60
    while not search.exists() and child.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert search.exists() and not (tmp_path / "killed.h5").exists()
    done = run_lft([*options, "killed.h5"], tmp_path, 2)
    assert done.returncode == 0, done.stderr
    assert not search.exists()
    whole, resumed = arrays(tmp_path / "whole.h5"), arrays(tmp_path / "killed.h5")
    assert all(np.array_equal(v, resumed[k], equal_nan=True) for k, v in whole.items())
