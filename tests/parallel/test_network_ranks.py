"""Finite networks on several ranks: the same outputs and exponents, bit by bit."""

import json

from tests.helpers import run_python

DRIVER = """
import hashlib, json
import numpy as np
from lft.domain import world
from lft.meanfield.fluctuations.lyapunov import lyapunov_exponent
from lft.meanfield.model import (
    Bernoulli, Connection, FixedIndegree, Gaussian, InputNoise, Model, Poisson, Population, Solve,
)
from lft.meanfield.network.steps import build_network
from lft.meanfield.network.run import simulate_network
from lft.meanfield.neurons.binary import Binary
from lft.meanfield.neurons.lif import LIF
from lft.meanfield.neurons.rate import Rate

comm = world()
e = Population("e", Rate("tanh", noise=0.1), size=23, external=(Poisson(3, 2.0, 0.1),), noise=InputNoise(0.3, 0.5))
i = Population("i", Rate("tanh", tau=0.5), size=10)
rate = Model((e, i), (
    Connection("e", "e", Gaussian(0.5, 2.0)), Connection("e", "i", FixedIndegree(4, 0.3), delay=0.3),
    Connection("i", "e", Bernoulli(0.5, -0.4, 0.1), delay=0.1, synapse=0.2),
), Solve("stationary", 0.1, 10.0))
chaos = Model((Population("x", Rate("tanh"), size=31),), (Connection("x", "x", Gaussian(0.0, 3.0)),), rate.solve)
cell = LIF(threshold=15.0, reset=5.0)
spiking = Model((
    Population("e", cell, size=25, external=(Poisson(100, 12.0, 0.9),)),
    Population("i", cell, size=14, input=22.0, noise=InputNoise(0.3)),
), (
    Connection("e", "e", FixedIndegree(9, 0.6), delay=0.0015), Connection("e", "i", Gaussian(2.0, 1.0), delay=0.0005),
    Connection("i", "e", Bernoulli(0.5, -1.0), delay=0.0010),
), Solve("stationary", 1e-4, 1.0))
cells = Population("x", Binary(), size=40, input=0.5)
binary = Model((cells,), (Connection("x", "x", Gaussian(0.0, 1.0)),), rate.solve)

def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

out = {}
for name, model in (("rate", rate), ("spiking", spiking), ("binary", binary)):
    network = build_network(model, seed=3, comm=comm)
    y = network.advance(120)
    moved = float(sum(np.abs(np.diff(a, axis=0)).sum() for a in y))
    out[name] = [network.method, digest(y), digest(network.observe()), moved]
out["lyapunov"] = repr(lyapunov_exponent(chaos, duration=4.0, warmup=1.0, comm=comm))
s = simulate_network(rate, duration=15.0, warmup=1.0, max_lag=0.3, draws=2, comm=comm)
out["statistics"] = digest([m.value for m in s.values.values()])
s = simulate_network(binary, duration=15.0, warmup=1.0, max_lag=0.3, draws=5, comm=comm)
out["events"] = digest([m.value for m in s.values.values()] + [m.error for m in s.values.values()])
if comm is None or comm.Get_rank() == 0:
    print(json.dumps(out))
"""


def test_results_do_not_depend_on_the_number_of_ranks(tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    results = []
    for ranks in (None, 2, 3):
        done = run_python(["driver.py"], tmp_path, ranks)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    assert all(v[3] > 0 for k, v in results[0].items() if isinstance(v, list))
    assert results[1] == results[0]
    assert results[2] == results[0]
