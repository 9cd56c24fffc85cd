"""Boltzmann learning has the same bits on any number of ranks."""

import h5py
import numpy as np
import pytest

from lft.inference.likelihood import GibbsModel
from tests.helpers import run_lines

OPTIONS = {"pairwise": "", "neural": " --reach 0,1"}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """{model: arrays of its fit, of each number of ranks}"""
    folder, found = tmp_path_factory.mktemp("boltzmann"), {model: [] for model in OPTIONS}
    truth = GibbsModel([-1.0, -0.5, -1.0], [[0, 0.8, 0], [0.8, 0, -0.4], [0, -0.4, 0]], None, {1: 0.4})
    np.savez(folder / "r.npz", raster=truth.simulate(400, seed=1)[0].T, bin_s=0.02)
    for ranks, models in ((None, OPTIONS), (2, OPTIONS), (3, ["pairwise"])):
        run_lines([f"fit r.npz --model {model} --method boltzmann --accuracy 0.2{OPTIONS[model]} -o {model}{ranks}.h5"
                   for model in models], folder, ranks)
        for model in models:
            with h5py.File(folder / f"{model}{ranks}.h5") as file:
                found[model].append({name: file[name][()] for name in file})
    return found


@pytest.mark.parametrize("model", OPTIONS)
def test_ranks(fitted, model):
    found = fitted[model]
    for other in found[1:]:
        assert found[0].keys() == other.keys()
        for name, array in found[0].items():
            assert np.array_equal(array, other[name], equal_nan=True), name
