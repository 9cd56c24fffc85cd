"""Compiled neuron steps against the NumPy classes, number by number, and responses to the same random numbers."""

import numpy as np
import pytest

from lft._kernels import neurons as kernels
from lft.meanfield.neurons import EIF, LIF, QIF, AdEx, Binary, EscapeRate, Rate, prepared
from lft.meanfield.saddle.draws import Draws
from lft.meanfield.saddle.simulate import Runner
from lft.rng import Key

CELLS = {
    "rate": (Rate("tanh"), 0.1, 1.0),
    "rate with white noise": (Rate("relu", tau=0.7, noise=0.4, initial_mean=0.3), 0.1, 1.0),
    "rate with colored noise": (Rate("erf", noise=0.4, noise_tau=0.5), 0.1, 1.0),
    "rate with a gain of one's own": (Rate(np.arctan), 0.1, 1.0),
    "binary": (Binary(threshold=0.2), 0.1, 1.0),
    "synchronous": (Binary(update="synchronous", levels="pm1"), 0.1, 1.0),
    "soft": (Binary("erfc", width=0.7, initial=0.2), 0.1, 1.0),
    "soft and synchronous": (Binary("logistic", update="synchronous"), 0.1, 1.0),
    "lif": (LIF(), 4e-4, 30.0),
    "lif without dead time": (LIF(refractory=0.0), 4e-4, 30.0),
    "lif with a synapse": (LIF(synapse=0.005), 4e-4, 30.0),
    "qif": (QIF(), 4e-4, 30.0),
    "eif": (EIF(), 4e-4, 30.0),
    "eif without dead time": (EIF(refractory=0.0, slope=0.5), 4e-4, 30.0),
    "eif, sharp beyond the largest number": (EIF(slope=0.01), 4e-4, 30.0),
    "adex": (AdEx(a=0.2, b=2.0, tau_w=0.03), 4e-4, 40.0),
    "escape rate": (EscapeRate("exp", tau=0.02), 1e-3, 1.0),
    "escape rate, dead time": (EscapeRate("logistic", rate=200.0, refractory=0.005), 1e-3, 1.0),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("m", [1, 37])
def test_compiled_steps_are_the_reference(name, m):
    """Same outputs, same state afterwards, same random numbers left for whoever draws next; 1e-12 of their size."""
    cell, dt, scale = CELLS[name]
    rng = np.random.default_rng(1)
    h = scale * (0.9 + 0.4 * rng.standard_normal((201, m)))
    white = np.full(len(h), 0.3)
    results = []
    for is_compiled in (True, False):
        runner = Runner(prepared(cell, dt), "x", is_compiled)
        assert runner.is_compiled is is_compiled
        draws = Draws(Key(5), m, first=3)
        y, observed = runner.run(h.copy(), draws, white)
        results.append((y, observed, [draws.random(), draws.standard_normal(), draws.standard_exponential()]))
    (y, seen, after), (other, other_seen, other_after) = results
    assert np.abs(y - other).max() <= 1e-12 * np.abs(other).max()
    assert (y != other[0]).any()
    assert (seen is None) == (other_seen is None)
    if seen is not None:
        assert np.allclose(seen, other_seen, rtol=1e-12, atol=1e-12)
    assert all((a == b).all() for a, b in zip(after, other_after, strict=True))


def test_another_random_number_is_seen():
    """Broken twin: samples that are counted from another number, and a neuron without crossings within a step."""
    cell, dt, _ = CELLS["lif"]
    h = np.full((400, 50), 19.0)

    def spikes(first, white):
        return Runner(prepared(cell, dt), "x").run(h, Draws(Key(5), 50, first), np.full(400, white))[0]

    assert (spikes(0, 0.5) == spikes(0, 0.5)).all() and (spikes(0, 0.5) != spikes(1, 0.5)).any()
    assert spikes(0, 0.5).sum() > 1.1 * spikes(0, 0.0).sum()


def test_adaptation_and_other_steps_stay_with_the_reference():
    """A class that inherits compiled steps and defines another step is run by its own."""

    class Deaf(type(prepared(LIF(), 1e-4))):
        def step(self, state, h, k):
            return np.zeros(len(h))

    assert not Runner(Deaf(LIF(), 1e-4), "x").is_compiled
    assert not Runner(prepared(EscapeRate(adaptation=1.0), 1e-3), "x").is_compiled

    class Linear(EIF):
        def drift(self, v):
            return self.rest - v

    assert not Runner(prepared(Linear(), 1e-4), "x").is_compiled


def test_exponential_of_the_kernel():
    """Within one unit in the last place over its whole range (the measured largest: 0.91)."""
    rng = np.random.default_rng(1)
    x = np.concatenate([np.linspace(-700.0, 700.0, 100001), rng.normal(size=50000), [0.0, -0.0, 5e-324]])
    exact = np.exp(x.astype(np.longdouble))
    found = kernels.exp(x)
    assert (abs(found - exact) / np.spacing(exact.astype(float))).max() <= 1.0
    assert kernels.exp([0.0]).tolist() == [1.0] and kernels.exp([]).size == 0
    far = x * (1.0 + 1e-15)  # broken twin: an argument that is off in its last digits
    assert (abs(kernels.exp(far) - exact) / np.spacing(exact.astype(float))).max() > 100


@pytest.mark.parametrize("cell", [QIF(), EIF(), AdEx(b=2.0)], ids=lambda cell: cell.name)
def test_instruction_sets_give_the_same_bits(cell):
    """Potentials, not spikes alone, after many steps; 203 neurons: blocks, vectors and a rest."""
    best = kernels.instruction_set()
    h, seen = 30.0 + 12.0 * np.random.default_rng(2).standard_normal((300, 203)), []
    try:
        for name in ("baseline", "avx2", "avx512"):
            try:
                kernels.force_instruction_set(name)
            except ValueError:
                continue  # this processor lacks it
            neuron = prepared(cell, 4e-4)
            state = neuron.init(203, Draws(Key(3), 203))
            y = np.empty_like(h)
            neuron.compiled(state, h, np.zeros(len(h)), y)
            assert y.any()
            seen.append([y, state.v, state.w, state.held, kernels.exp(h / 10)])
    finally:
        kernels.force_instruction_set(best)
    assert seen and all((a == b).all() for other in seen for a, b in zip(seen[0], other, strict=True))
    with pytest.raises(ValueError, match="sse9"):
        kernels.force_instruction_set("sse9")
