"""Correlators have the same bits on any number of ranks: of saved configurations and of a recording."""

import json

import numpy as np
import pytest

from tests.helpers import run_lft, run_lines

RUN = """
seed = 5
[lattice]
shape = [6, 5, 12]
axes = ["x", "y", "t"]
boundary = ["open", "periodic", "open"]
[action]
NAME
[update]
name = "metropolis"
[run]
thermalize = 10
updates = 110
measure_every = 2
save_every = 5
"""
ACTIONS = {"phi4": 'name = "phi4"\nkappa = 0.12\nlambda = 0.5'}  # sums of real numbers, where the order matters

SOURCES = {"phi4.h5": " --correlators --points 1,0,0;0,0,1", "rec.npz": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("correlators")
    for name, action in ACTIONS.items():
        (path / f"{name}.toml").write_text(RUN.replace("NAME", action))
    x = np.repeat(np.arange(5), 4)
    up = np.random.default_rng(0).random((400, 20)) < 0.1 + 0.4 * ((np.arange(400)[:, None] - x) % 10 < 2)
    np.savez(path / "rec.npz", raster=up.T.astype(np.int8), bin_s=0.01, positions=42.0 * np.argwhere(np.ones((5, 4))))
    first = [f"run {name}.toml -o {name}.h5 --quiet" for name in ACTIONS]
    for ranks in (None, 3):
        run_lines(first + [f"analyze {source}{options} --max-lag 5 --json {source}-{ranks}.json "
                           f"--matrices {source}-{ranks}.h5" for source, options in SOURCES.items()], path, ranks)
        first = []
    return path


@pytest.mark.parametrize("source", SOURCES)
def test_correlators_have_the_same_bits_on_any_number_of_ranks(folder, source):
    found = [json.loads((folder / f"{source}-{ranks}.json").read_text()) for ranks in (None, 3)]
    assert found[0]["correlators"]["two_point"]["t"]["value"][1] != 0
    assert found[0] == found[1]
    import h5py

    with h5py.File(folder / f"{source}-None.h5") as one, h5py.File(folder / f"{source}-3.h5") as other:
        names = []
        one.visit(names.append)
        for name in names:
            if isinstance(one[name], h5py.Dataset):
                assert np.array_equal(one[name][()], other[name][()], equal_nan=True), name
        assert "lagged/2/covariance" in names


def test_a_failure_on_all_ranks_is_one_line(folder):
    done = run_lft(["analyze", "phi4.h5", "--points", "0,0,40"], folder, 2)
    assert done.returncode != 0 and done.stderr.count("lft:") == 1 and "12 bins" in done.stderr
