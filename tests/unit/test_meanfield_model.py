"""The statistics of weight ensembles, and the reader of model files."""

import numpy as np
import pytest

from lft.errors import InputError
from lft.meanfield.model import Bernoulli, Connection, FixedIndegree, Gaussian, Model, Poisson, Population
from lft.meanfield.neurons import LIF, Rate
from lft.meanfield.reading import build_model, read_model

CONTRACT = """
[population.x]
size = 3200
neuron = "rate"
gain = "tanh"
tau = 1.0
noise = 0.0

[population.E]
neuron = "lif"
tau = 0.020
threshold = 20.0
reset = 10.0
refractory = 0.002
external = { indegree = 1000, rate = 20.0, weight = 0.1 }

[[connection]]
from = "x"
to = "x"
weights = "gaussian"
mean = 0.0
std = 1.5

[[connection]]
from = "E"
to = "E"
weights = "fixed-indegree"
indegree = 1000
weight = 0.1
delay = 0.0015

[solve]
mode = "stationary"
dt = 0.05
duration = 100.0
samples = 10000
seed = 1
"""


def test_the_published_schema():
    model = build_model(CONTRACT)
    assert model.names == ("x", "E")
    x, e = model.populations
    assert x.neuron == Rate("tanh", 1.0, 0.0) and x.size == 3200
    assert e.neuron == LIF(0.02, 20.0, 10.0, 0.002) and e.external == (Poisson(1000, 20.0, 0.1),)
    assert model.connections[1] == Connection("E", "E", FixedIndegree(1000, 0.1), 0.0015)
    assert model.resolved["solve"]["replicas"] == 8 and model.resolved["population"]["x"]["initial_std"] == 1.0


def sampled_statistics(draw, n_pre, n_post, rng):
    """Mean and variance over neurons of sum_j W_ij y_j for a frozen y, and for a constant y."""
    y = rng.normal(1.0, 1.0, n_pre)
    w = np.array([draw(rng, n_pre) for _ in range(n_post)])
    return w @ y, w @ np.ones(n_pre), y


@pytest.mark.parametrize(
    "ensemble, draw",
    [
        (Gaussian(0.7, 1.3), lambda rng, n: rng.normal(0.7 / n, 1.3 / np.sqrt(n), n)),
        (Bernoulli(0.3, 0.2, 0.1), lambda rng, n: (rng.random(n) < 0.3) * rng.normal(0.2, 0.1, n)),
        (
            FixedIndegree(60, 0.2, 0.1),
            lambda rng, n: np.isin(np.arange(n), rng.choice(n, 60, replace=False)) * rng.normal(0.2, 0.1, n),
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_statistics_are_those_of_drawn_weights(ensemble, draw):
    """The variance over neurons is V2 <y^2> + Vc var(y), for outputs that vary and for constant ones."""
    n, n_post = 200, 20000
    varying, constant, y = sampled_statistics(draw, n, n_post, np.random.default_rng(5))
    s = ensemble.statistics(n)
    for h, square, mean in ((varying, np.mean(y**2), y.mean()), (constant, 1.0, 1.0)):
        expected = s.second * square + s.covariance * (square - mean**2)
        assert abs(h.mean() - s.mean * mean) < 4.5 * h.std() / np.sqrt(n_post)
        error = expected * np.sqrt(2.5 / n_post)
        assert abs(h.var() - expected) < 4.5 * error and error < 0.02 * expected
    # mutants: without the factor of what is already there, or with all variance on the second moment
    if ensemble.name == "fixed-indegree":
        naive = 60 * (0.2**2 + 0.1**2) * np.mean(y**2)
        assert abs(varying.var() - naive) > 10 * naive * np.sqrt(2.5 / n_post)
    if ensemble.name == "bernoulli":
        naive = 60 * (0.2**2 + 0.1**2) * np.mean(y**2)
        assert abs(varying.var() - naive) > 10 * naive * np.sqrt(2.5 / n_post)


def test_weights_of_a_potential_are_scaled():
    cells = Population("E", LIF(tau=0.02), size=1000)
    model = Model((cells,), (Connection("E", "E", FixedIndegree(100, 0.1)),))
    s = model.statistics(model.connections[0])
    assert s.mean == pytest.approx(100 * 0.1 * 0.02) and s.covariance == pytest.approx(100 * 0.9 * (0.1 * 0.02) ** 2)
    driven = Population("E", LIF(tau=0.02), external=(Poisson(1000, 20.0, 0.1),))
    assert driven.drive(0.0) == pytest.approx(40.0)          # mV
    assert driven.white / 0.02 == pytest.approx(4.0)         # Siegert's sigma^2, mV^2


def test_drive_in_time():
    p = Population("x", Rate(), input=((1.0, 2.0), (3.0, -1.0)))
    assert [p.drive(t) for t in (0.0, 1.0, 2.9, 3.0)] == [0.0, 2.0, 2.0, -1.0]
    assert Population("x", Rate(), input=lambda t: 3 * t).drive(2.0) == 6.0


def changed(old, new):
    assert old in CONTRACT
    return CONTRACT.replace(old, new, 1)


BAD = {
    "unknown-key": (changed("tau = 1.0", "taus = 1.0"), "population.x] taus: unknown key|did you mean 'tau'"),
    "unknown-neuron": (changed('"rate"', '"rat"'), "[population.x] neuron = 'rat'|rate, binary, lif"),
    "unknown-gain": (changed('"tanh"', '"tan"'), "[population.x] gain|tanh"),
    "negative-tau": (changed("tau = 1.0", "tau = -1.0"), "[population.x] tau = -1.0: valid is a number > 0"),
    "reset": (changed("reset = 10.0", "reset = 30.0"), "reset = 30.0|below the threshold 20"),
    "mode": (changed('"stationary"', '"still"'), "[solve] mode = 'still': valid is stationary or two-time"),
    "no-dt": (changed("dt = 0.05\n", ""), "[solve] dt is missing"),
    "short": (changed("duration = 100.0", "duration = 0.1"), "[solve] duration = 0.1"),
    "few": (changed("samples = 10000", "samples = 255"), "[solve] samples = 255|256"),
    "from": (changed('from = "x"', 'from = "y"'), "connection 1: from = 'y': valid are x, E"),
    "weights": (changed('"gaussian"', '"normal"'), "connection 1] weights = 'normal': valid is gaussian, bernoulli"),
    "std": (changed("std = 1.5", "std = -1.5"), "connection 1] std = -1.5"),
    "indegree": (changed("indegree = 1000\nweight", "indegree = 0\nweight"), "connection 2] indegree = 0"),
    "external": (changed("rate = 20.0", "rates = 20.0"), "external|rate is missing"),
    "no-population": ("[population]\n[solve]\nmode = 'stationary'\ndt = 0.1\nduration = 10.0\n", "at least one"),
    "section": (CONTRACT + "[solver]\n", "solver: unknown key|did you mean 'solve'"),
    "toml": ("x = [", "not valid TOML"),
    "size": (changed("[population.E]\n", "[population.E]\nsize = 100\n"), "indegree = 1000|from 1 to 100"),
    "march": (changed("seed = 1", "seed = 1\nmethod = 'march'"), "method = 'march'|two-time"),
    "moving": (changed("noise = 0.0", "input = [[0.0, 1.0], [5.0, 2.0]]"), "input: changes in time"),
    "order": (changed("noise = 0.0", "input = [[5.0, 1.0], [0.0, 2.0]]"), "[population.x] input|order of time"),
    "module": (changed('"rate"', '"no_such_module:Cell"'), "neuron = 'no_such_module:Cell'|can be imported"),
    "dale": (changed("noise = 0.0", "dale = 'excitatory'"), "which is excitatory|other sign"),
    "bracket": (CONTRACT.replace("[[connection]]", "[connection]", 1).split("[[connection]]")[0]
                + "[solve]\nmode = 'stationary'\ndt = 0.1\nduration = 10.0\n", "two brackets"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_models_are_one_line(name):
    text, words = BAD[name]
    with pytest.raises(InputError) as caught:
        build_model(text, "model.toml")
    message = str(caught.value)
    assert "\n" not in message and message.startswith("model.toml")
    assert not [w for w in words.split("|") if w not in message], message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_model(tmp_path / "none.toml")


def test_own_neuron_beside_the_file(tmp_path):
    (tmp_path / "cells.py").write_text(
        "class Cell:\n    def __init__(self, dt, slope=1.0):\n        self.dt, self.slope = dt, slope\n"
        "    def init(self, M, rng):\n        return None\n    def step(self, state, h, k):\n"
        "        return self.slope * h\n"
    )
    text = changed('neuron = "rate"\ngain = "tanh"\ntau = 1.0\nnoise = 0.0', 'neuron = "cells:Cell"\nslope = 0.5')
    path = tmp_path / "model.toml"
    path.write_text(text)
    cell = read_model(path).populations[0].neuron
    assert (cell.dt, cell.slope) == (0.05, 0.5)
    path.write_text(text.replace("slope = 0.5", "slop = 0.5"))
    with pytest.raises(InputError, match="slop"):
        read_model(path)
    (tmp_path / "cells.py").write_text("class Cell:\n    pass\n")
    path.write_text(text.replace("slope = 0.5", ""))
    with pytest.raises(InputError, match=r"no method init and no method step"):
        read_model(path)
