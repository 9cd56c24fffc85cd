"""Boltzmann learning has the same bits on any number of ranks."""

import h5py
import numpy as np
import pytest

from lft.inference.likelihood import GibbsModel
from tests.helpers import run_lft


@pytest.mark.parametrize(("model", "extra"), [("pairwise", []), ("neural", ["--reach", "0,1"])])
def test_ranks(tmp_path, model, extra):
    truth = GibbsModel([-1.0, -0.5, -1.0], [[0, 0.8, 0], [0.8, 0, -0.4], [0, -0.4, 0]], None, {1: 0.4})
    np.savez(tmp_path / "r.npz", raster=truth.simulate(400, seed=1)[0].T, bin_s=0.02)
    found = []
    for ranks in (None, 2, 3) if model == "pairwise" else (None, 2):
        arguments = ["fit", "r.npz", "--model", model, "--method", "boltzmann", "--accuracy", "0.2", *extra]
        done = run_lft([*arguments, "-o", f"{ranks}.h5"], tmp_path, ranks)
        assert done.returncode == 0, done.stderr
        with h5py.File(tmp_path / f"{ranks}.h5") as file:
            found.append({name: file[name][()] for name in file})
    for other in found[1:]:
        assert found[0].keys() == other.keys()
        for name, array in found[0].items():
            assert np.array_equal(array, other[name], equal_nan=True), name
