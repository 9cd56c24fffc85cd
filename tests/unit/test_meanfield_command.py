"""``lft meanfield``: files, JSON keys, exit codes, the figure."""

import json
import sys

import h5py
import numpy as np
import pytest

from lft.cli import main
from lft.meanfield.neurons.beside import find_beside

SCS = """
[population.x]
neuron = "rate"
gain = "tanh"
[[connection]]
from = "x"
to = "x"
weights = "gaussian"
std = 2.0
[solve]
mode = "stationary"
dt = 0.1
duration = 60.0
"""


@pytest.fixture
def model(here):
    (here / "model.toml").write_text(SCS)
    return here


def test_files_and_keys(model, capsys):
    assert main(["meanfield", "model.toml", "-o", "mf.h5", "--json", "mf.json", "--plot", "mf.png"]) == 0
    assert "state_variance" in capsys.readouterr().out
    data = json.loads((model / "mf.json").read_text())
    x = data["populations"]["x"]
    assert {"mean", "state_variance", "output_variance", "lags", "autocovariance"} <= set(x)
    assert data["converged"] is True and data["seconds"] > 0
    assert x["state_variance"]["value"] == pytest.approx(1.924805, abs=1e-5)
    assert set(data["lyapunov"]) == set(data["spectral_radius"]) == {"value", "error"}
    assert len(x["lags"]) == len(x["autocovariance"]) == 301
    with h5py.File(model / "mf.h5") as file:
        assert file.attrs["schema"] == "lft-meanfield" and file.attrs["config_text"] == SCS
        assert json.loads(file.attrs["json"])["populations"]["x"]["mean"] == x["mean"]
        group = file["populations/x"]
        assert group["autocovariance"].attrs["axes"] == "lags" and group["autocovariance_error"].shape == (301,)
        assert np.array_equal(file["axis/lags"], x["lags"])
    assert (model / "mf.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["meanfield", "model.toml", "-o", "mf.h5"]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["meanfield", "model.toml", "-o", "mf.h5", "--overwrite", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "closed"


def test_two_time_files(model, capsys):
    (model / "model.toml").write_text(SCS.replace("stationary", "two-time").replace("60.0", "3.0"))
    assert main(["meanfield", "model.toml", "-o", "mf.h5", "--json", "mf.json", "--plot", "mf.svg"]) == 0
    x = json.loads((model / "mf.json").read_text())["populations"]["x"]
    assert len(x["times"]) == len(x["mean"]["value"]) == len(x["state_variance"]["error"]) == 31
    assert "autocovariance" not in x
    with h5py.File(model / "mf.h5") as file:
        q = file["populations/x/covariance"]
        assert q.shape == (31, 31) and q.attrs["axes"] == "times,times"


def test_what_is_rounded_or_without_effect_is_said(model, capsys):
    text = SCS.replace("stationary", "two-time").replace("60.0", "3.04").replace("std = 2.0", "std = 0.5\ndelay = 5.0")
    (model / "model.toml").write_text(text)
    assert main(["meanfield", "model.toml", "-o", "mf.h5"]) == 0
    err = capsys.readouterr().err
    assert "duration 3.04: rounded to 3, a multiple of dt" in err and "the connection does nothing" in err


def test_the_state_of_a_neuron_with_a_run_of_its_own_is_observed(model, capsys):
    (model / "cells.py").write_text(
        "import numpy as np\n"
        "class Cell:\n    timescale = 1.0\n"
        "    def init(self, M, rng):\n        return {'x': np.zeros(M)}\n"
        "    def observe(self, state):\n        return state['x']\n"
        "    def step(self, state, h, k):\n"
        "        state['x'] = state['x'] + 0.1 * (h - state['x'])\n        return np.tanh(state['x'])\n"
        "    def run(self, state, h):\n        return np.array([self.step(state, row, 0) for row in h])\n"
    )
    own = '"cells:Cell"\ninput = 0.5\ninput_noise = { intensity = 0.2, tau = 0.5 }'
    text = SCS.replace('"rate"\ngain = "tanh"', own).replace("60.0", "12.0\nsamples = 256")
    (model / "model.toml").write_text(text.replace("std = 2.0", "std = 0.3"))
    assert main(["meanfield", "model.toml", "-o", "mf.h5", "--json", "mf.json"]) == 0
    x = json.loads((model / "mf.json").read_text())["populations"]["x"]
    assert x["state_mean"]["value"] == pytest.approx(0.5, abs=0.02)


def test_names_are_drawn_as_they_are(model):
    (model / "model.toml").write_text(SCS.replace("population.x", 'population."$x_{$"').replace('"x"', '"$x_{$"'))
    assert main(["meanfield", "model.toml", "-o", "mf.h5", "--plot", "mf.svg"]) == 0
    assert (model / "mf.svg").is_file()


@pytest.mark.parametrize(
    "change, code, words",
    [
        (("std = 2.0", "stdd = 2.0"), 2, "connection 1] stdd: unknown key"),
        (('"tanh"', '"linear"'), 1, "without bound"),
        (("std = 2.0", "std = 2.0\nmean = nan"), 2, "mean = nan"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Prophet"'), 2, "not causal"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Late"'), 2, "not causal"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Coupled"'), 2, "change with the input of other neurons"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Spikes"'), 2, "returned 1; valid is the number of spikes"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Prepared"'), 2, "prepare(0.1) returned None"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Listed"'), 2, "observe returned list of shape (32,)"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Short"'), 2, "output returned ndarray of shape (3,)"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Endless"'), 2, "timescale = inf"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Alone"'), 2, "valid are init(M, rng), step(state, h, k)"),
        (("std = 2.0", "std = 1e200"), 2, "mean or variance of its input overflow"),
        (("[population.x]", "[population.'x/y']"), 2, "valid is a name of printable characters without '/'"),
        (("[population.x]", '[population."."]'), 2, "valid is a name of printable"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Broken"'), 1, "not finite at step"),
        (('neuron = "rate"\ngain = "tanh"', 'neuron = "cells:Unstable"'), 1, "grows without bound"),
    ],
)
def test_failures_are_one_line(model, capsys, change, code, words):
    (model / "cells.py").write_text(
        "import numpy as np\n"
        "class Broken:\n"
        "    def init(self, M, rng):\n        return None\n"
        "    def step(self, state, h, k):\n        return h * np.nan\n"
        "class Unstable(Broken):\n"
        "    def step(self, state, h, k):\n        return 10.0 * h + 1.0\n"
        "class Late(Broken):\n"  # 3 steps ahead, from step 70 on
        "    def run(self, state, h):\n        return np.concatenate([h[:70], h[73:], h[-3:]])\n"
        "class Coupled(Broken):\n"
        "    def step(self, state, h, k):\n        return h - h.mean()\n"
        "class Spikes(Broken):\n    is_point_process = True\n"
        "    def step(self, state, h, k):\n        return 1.0 * (h > 1.0)\n"
        "class Listed(Broken):\n"
        "    def observe(self, state):\n        return [0.0] * 32\n"
        "class Short(Broken):\n"
        "    def output(self, state):\n        return np.zeros(3)\n"
        "class Endless(Broken):\n    timescale = np.inf\n"
        "class Alone(Broken):\n"
        "    def step(self, h):\n        return h\n"
        "class Prepared(Broken):\n"
        "    def prepare(self, dt):\n        pass\n"
        "class Prophet(Broken):\n"
        "    def run(self, state, h):\n        return np.concatenate([h[1:], h[-1:]])\n"
    )
    assert change[0] in SCS
    small = SCS.replace(*change).replace("60.0", "12.0\nsamples = 256\nsweeps = 12")
    (model / "model.toml").write_text(small)
    assert main(["meanfield", "model.toml", "-o", "mf.h5"]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("lft: ") and err.count("\n") == 1 and words in err, err
    assert not (model / "mf.h5").exists()


OWN = """import numpy as np
class Cell:
    timescale = 1.0
    def __init__(self, limit=3, kind="step"):
        self.limit, self.kind = limit, kind
        if kind == "new":
            raise RuntimeError("no such kind")
    def init(self, M, rng):
        if self.kind == "init":
            return {}["rate"]
        return {"x": np.zeros(M), "rng": rng}
    def step(self, state, h, k):
        if self.kind == "step" and k >= self.limit:
            raise ZeroDivisionError("first line\\nsecond line")
        if self.kind == "nan" and k >= self.limit:
            h = np.where(np.arange(len(h)) == 1, np.inf, h)
        if self.kind == "ahead":
            self.seen = getattr(self, "seen", 0) + 1
            return h + self.seen
        if self.kind == "shape":
            return h[None, :]
        if self.kind == "open":
            open("nowhere.txt")
        state["x"] = state["x"] + 0.1 * (h - state["x"])
        return state["x"]
def gain(x):
    return np.asarray(x) + undefined
"""


@pytest.mark.parametrize("values, where, words", [
    ('kind = "step"', ", [population.x]", "ZeroDivisionError: first line\\nsecond line (cells.py, line 14, in step)"),
    ('limit = 57', ", [population.x]", "raised ZeroDivisionError"),
    ('kind = "init"', ", [population.x]", "raised KeyError: 'rate' (cells.py, line 10, in init)"),
    ('kind = "open"', ", [population.x]", "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.txt'"),
    ('kind = "new"', ", [population.x] neuron", "raised RuntimeError: no such kind (cells.py, line 7, in __init__)"),
    ('kind = "ahead"', "population x", "two runs of the neuron with the same input"),
    ('kind = "shape"', "population x", "returned shape (1, "),
])
def test_exceptions_of_own_neurons_are_one_line(model, capsys, values, where, words):
    (model / "cells.py").write_text(OWN)
    own = SCS.replace('neuron = "rate"\ngain = "tanh"', f'neuron = "cells:Cell"\n{values}')
    (model / "model.toml").write_text(own.replace("60.0", "12.0\nsamples = 256\nsweeps = 12"))
    assert main(["meanfield", "model.toml", "-o", "mf.h5"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("lft: ") and err.count("\n") == 1 and where in err and words in err, err
    assert not (model / "mf.h5").exists()


@pytest.mark.parametrize("limit", [0, 40, 199])
def test_outputs_that_become_infinite_are_refused_at_any_step(model, capsys, limit):
    (model / "cells.py").write_text(OWN)
    own = SCS.replace('neuron = "rate"\ngain = "tanh"', f'neuron = "cells:Cell"\nkind = "nan"\nlimit = {limit}')
    (model / "model.toml").write_text(own.replace("60.0", "12.0\nsamples = 256\nsweeps = 12"))
    assert main(["meanfield", "model.toml", "-o", "mf.h5"]) == 1
    assert f"not finite at step {limit + 1}" in capsys.readouterr().err


GAINS = """import numpy as np
from helping import half
def phi(x):
    return np.tanh(x) + half * 0.0
def late(x):
    if x.size > 3:
        raise ArithmeticError("too many")
    return x
def scalar(x):
    return 1.0 if x > 0 else 0.0
def total(x):
    return x.sum()
number = 3.0
"""


@pytest.mark.parametrize("gain, words", [
    ("mygains:late", "model.toml, [population.x]: the neuron raised ArithmeticError: too many (mygains.py, line 7, in"),
    ("mygains:scalar", "'mygains:scalar': raised ValueError: The truth value of an array with more than one element"),
    ("mygains:total", "'mygains:total': made shape () of (3,); valid is one value for each of an array"),
    ("mygains:number", "'mygains:number': is not a function; valid is linear, tanh"),
    ("mygains:ph", "mygains.py has no 'ph'; valid is linear, tanh"),
    ("mygain:phi", "mygain cannot be imported (ModuleNotFoundError: No module named 'mygain'; no mygain.py either)"),
])
def test_own_gains_that_fail_are_one_line(model, capsys, gain, words):
    (model / "mygains.py").write_text(GAINS)
    (model / "helping.py").write_text("half = 0.5\n")
    (model / "model.toml").write_text(SCS.replace('"tanh"', f'"{gain}"').replace("60.0", "10.0"))
    assert main(["meanfield", "model.toml", "-o", "mf.h5"]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and err.startswith("lft: model.toml, [population.x]"), err


def test_own_gain_beside_the_file(model, capsys):
    """With a module of its own beside it, from another folder: the built-in tanh; in the file as it was named.  A
    module of the same name beside another model is another one."""
    beside = model / "beside"
    beside.mkdir()
    (beside / "mygains.py").write_text(GAINS)
    (beside / "helping.py").write_text("half = 0.5\n")
    found = []
    for gain in ("mygains:phi", "tanh"):
        (beside / "model.toml").write_text(SCS.replace('"tanh"', f'"{gain}"').replace("60.0", "10.0"))
        assert main(["meanfield", "beside/model.toml", "-o", "mf.h5", "--json", "mf.json", "--overwrite"]) == 0
        found.append(json.loads((model / "mf.json").read_text()))
    own, tanh = found
    assert own["config"]["population"]["x"]["gain"] == "mygains:phi"
    other = model / "other"
    other.mkdir()
    (other / "mygains.py").write_text("from helping import half\ndef phi(x):\n    return half * x\n")
    (other / "helping.py").write_text("half = 0.25\n")
    assert find_beside("mygains:phi", other)(8.0) == 2.0 and find_beside("mygains:phi", beside)(0.0) == 0.0
    assert "helping" not in sys.modules and str(other) not in sys.path
    variances = [data["populations"]["x"]["state_variance"]["value"] for data in (own, tanh)]
    assert variances[0] == pytest.approx(variances[1], rel=1e-6)
