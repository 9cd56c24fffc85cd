"""A mean-field solution has the same bits on any number of ranks."""

import json

import h5py
import numpy as np
import pytest

from tests.helpers import run_lft, run_lines

STATIONARY = """
[population.x]
neuron = "rate"
gain = "tanh"
noise = 0.3
input = 0.2
[population.y]
neuron = "lif"
input = 22.0
input_noise = { intensity = 0.2 }
[[connection]]
from = "x"
to = "x"
weights = "gaussian"
mean = 0.3
std = 0.8
[solve]
mode = "stationary"
method = "sampling"
dt = 0.001
duration = 0.05
samples = 200
sweeps = 6
warmup = 0.02
replicas = 5
"""
SHOT = """
[population.x]
neuron = "lif"
size = 50
external = { indegree = 100, rate = 60.0, weight = 0.2 }
[[connection]]
from = "x"
to = "x"
weights = "bernoulli"
probability = 0.2
weight = -0.5
[solve]
mode = "stationary"
input = "shot"
dt = 0.001
duration = 0.05
samples = 200
sweeps = 12
warmup = 0.02
replicas = 5
"""
TWO_TIME = """
[population.x]
neuron = "binary"
size = 500
[[connection]]
from = "x"
to = "x"
weights = "fixed-indegree"
indegree = 50
weight = -0.1
[solve]
mode = "two-time"
dt = 0.1
duration = 2.0
samples = 200
sweeps = 8
replicas = 5
"""


def arrays(path):
    with h5py.File(path, "r") as file:
        out = {}
        file.visititems(lambda name, item: out.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        return out


MODELS = {"stationary": STATIONARY, "shot": SHOT, "two-time": TWO_TIME, "march": TWO_TIME + 'method = "march"\n'}


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """{model: {ranks: (arrays, JSON)}}"""
    folder, results = tmp_path_factory.mktemp("meanfield"), {name: {} for name in MODELS}
    for name, text in MODELS.items():
        (folder / f"{name}.toml").write_text(text)
    for ranks, names in ((None, MODELS), (2, ["stationary"]), (3, MODELS)):
        outs = {name: f"{name}{ranks}.h5" for name in names}
        run_lines([f"meanfield {name}.toml -o {out} --json {out}.json" for name, out in outs.items()], folder, ranks)
        for name, out in outs.items():
            results[name][ranks] = arrays(folder / out), json.loads((folder / f"{out}.json").read_text())
    return results


@pytest.mark.parametrize("name", MODELS)
def test_same_bits_on_any_number_of_ranks(name, solved):
    results = solved[name]
    whole, data = results[None]
    for ranks, (other, other_data) in results.items():
        assert sorted(other) == sorted(whole)
        different = [k for k in whole if not np.array_equal(whole[k], other[k], equal_nan=True)]
        assert not different, (ranks, different)
        assert other_data["populations"] == data["populations"]
    assert np.all(whole["populations/x/mean_error"] >= 0) and np.any(whole["populations/x/mean_error"] > 0)


def test_more_ranks_than_replicas_are_refused(tmp_path):
    (tmp_path / "model.toml").write_text(TWO_TIME.replace("replicas = 5", "replicas = 4"))
    done = run_lft(["meanfield", "model.toml", "-o", "out.h5"], tmp_path, 5)
    assert done.returncode == 2 and "5 ranks share 4 replicas" in done.stderr and done.stderr.count("\n") == 1
