"""Correlators have the same bits on any number of ranks: of saved configurations and of a recording."""

import json

import numpy as np
import pytest

from tests.helpers import run_lft

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("correlators")
    for name, action in ACTIONS.items():
        (path / f"{name}.toml").write_text(RUN.replace("NAME", action))
        done = run_lft(["run", f"{name}.toml", "-o", f"{name}.h5", "--quiet"], path)
        assert done.returncode == 0, done.stderr
    x = np.repeat(np.arange(5), 4)
    up = np.random.default_rng(0).random((400, 20)) < 0.1 + 0.4 * ((np.arange(400)[:, None] - x) % 10 < 2)
    np.savez(path / "rec.npz", raster=up.T.astype(np.int8), bin_s=0.01, positions=42.0 * np.argwhere(np.ones((5, 4))))
    return path


@pytest.mark.parametrize("source, options", [
    ("phi4.h5", ["--correlators", "--points", "1,0,0;0,0,1"]), ("rec.npz", []),
])
def test_correlators_have_the_same_bits_on_any_number_of_ranks(folder, source, options):
    found = []
    for ranks in (None, 3):
        done = run_lft(["analyze", source, *options, "--max-lag", "5", "--json", f"{source}-{ranks}.json",
                        "--matrices", f"{source}-{ranks}.h5"], folder, ranks)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((folder / f"{source}-{ranks}.json").read_text()))
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
