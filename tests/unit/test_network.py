"""Finite networks step by step: the compiled loops against plain loops with the same random numbers, bit by bit."""

import dataclasses
import math

import numpy as np
import pytest

from lft.errors import DivergenceError, InputError
from lft.meanfield.fluctuations.lyapunov import lyapunov_exponent
from lft.meanfield.model import (
    Bernoulli,
    Connection,
    FixedIndegree,
    Gaussian,
    InputNoise,
    Model,
    Poisson,
    Population,
    Solve,
)
from lft.meanfield.network.steps import build_network, poisson_law
from lft.meanfield.network.weights import draw_weights, network_key
from lft.meanfield.neurons.binary import Binary
from lft.meanfield.neurons.lif import LIF
from lft.meanfield.neurons.rate import Rate
from lft.rng import Stream

SOLVE = Solve("stationary", 0.1, 10.0)


# ---- weights
@pytest.mark.parametrize("weights", [Gaussian(-1.5, 2.0), Bernoulli(0.2, 0.5), Bernoulli(0.2, 0.5, 0.3),
                                     FixedIndegree(80, -0.2), FixedIndegree(80, -0.2, 0.1)], ids=str)
def test_weights_have_the_statistics_of_the_model(weights):
    """M and V of the drawn matrix; 5 standard errors of a sum of 400 x 400 weights."""
    n = 400
    w = draw_weights(weights, n, slice(0, n), network_key(3, 0)).dense()
    s = weights.statistics(n)
    assert w.sum() / n == pytest.approx(s.mean, abs=5 * math.sqrt(s.variance / n) + 1e-12)
    variance = n * (np.mean(w**2) - s.mean**2 / n**2)
    assert variance == pytest.approx(s.variance, rel=5 * math.sqrt(3.0) / n / math.sqrt(weights_share(weights, n)))


def weights_share(weights, n):
    """Share of the weights that are not zero."""
    return {"gaussian": lambda: 1.0, "bernoulli": lambda: weights.probability,
            "fixed-indegree": lambda: weights.indegree / n}[weights.name]()


def test_fixed_indegree_is_exact_and_uniform():
    w = draw_weights(FixedIndegree(30, 1.0), 100, slice(0, 2000), network_key(3, 0)).dense()
    assert set(w.sum(axis=1)) == {30.0}
    assert set(np.unique(w)) == {0.0, 1.0}
    expected = 2000 * 0.3
    chi2 = np.sum((w.sum(axis=0) - expected) ** 2) / (expected * 0.7)
    assert 60 < chi2 < 150  # 99 degrees of freedom


@pytest.mark.parametrize("weights", [Gaussian(0.0, 1.0), Bernoulli(0.3, 1.0, 0.2), FixedIndegree(7, 1.0, 0.5)], ids=str)
def test_weights_do_not_depend_on_which_rows_are_drawn(weights):
    whole = draw_weights(weights, 31, slice(0, 40), network_key(3, 0), 2).dense()
    part = draw_weights(weights, 31, slice(13, 29), network_key(3, 0), 2).dense()
    assert (whole[13:29] == part).all()
    other = draw_weights(weights, 31, slice(0, 40), network_key(3, 1), 2).dense()
    assert (whole != other).any()
    assert (whole != draw_weights(weights, 31, slice(0, 40), network_key(3, 0), 3).dense()).any()


@pytest.mark.parametrize("weights", [Gaussian(0.0, 1.0), Bernoulli(0.3, 1.0), FixedIndegree(7, 1.0, 0.5)], ids=str)
def test_sums_over_weights(weights):
    w = draw_weights(weights, 31, slice(0, 45), network_key(3, 0), scale=0.5)
    y = np.random.default_rng(1).normal(size=31)
    y[::3] = 0.0
    out = np.ones(45)
    w.add(y, out)
    assert np.allclose(out, 1 + w.dense() @ y, atol=1e-13)
    assert np.allclose(w.dense(), 0.5 * draw_weights(weights, 31, slice(0, 45), network_key(3, 0)).dense())


def test_single_precision_weights_are_the_rounded_ones():
    double = draw_weights(Gaussian(0.0, 1.0), 20, slice(0, 20), network_key(1, 0)).dense()
    single = draw_weights(Gaussian(0.0, 1.0), 20, slice(0, 20), network_key(1, 0), precision="single").dense()
    assert (single == double.astype(np.float32)).all()


# ---- steps
def two_populations():
    """Rate neurons with delays, a filter, noise, drive in time: everything that the step loop knows."""
    e = Population("e", Rate("tanh", noise=0.1), size=12, input=((0.0, 0.5), (0.4, -0.2)),
                   external=(Poisson(3, 2.0, 0.1),), noise=InputNoise(0.3, 0.5))
    i = Population("i", Rate("relu", tau=0.5), size=9, noise=InputNoise(0.2))
    return Model((e, i), (
        Connection("e", "e", Gaussian(0.5, 1.0)),
        Connection("e", "i", FixedIndegree(4, 0.3), delay=0.3),
        Connection("i", "e", Bernoulli(0.5, -0.4), delay=0.1, synapse=0.2),
        Connection("i", "i", Gaussian(-0.5, 0.0), synapse=0.2),
    ), SOLVE)


def test_steps_follow_the_equation():
    """Every input against the definition, from the recorded outputs alone."""
    model = two_populations()
    network = build_network(model, dt=0.1, seed=4)
    assert network.method == "steps"
    dense = [w.dense() for w in network.weights]
    first = network.outputs_now()
    external, inputs, outputs = [], [], [[y] for y in first]
    for part in network.parts:
        part.external = remembering(part.external, external)
    for _ in range(12):
        for a, y in enumerate(network.step()):
            outputs[a].append(y)
        inputs.append([h.copy() for h in network.h])
    b = math.exp(-0.1 / 0.2)
    filtered = {0: np.zeros(12), 1: np.zeros(9)}
    for k in range(12):
        e, i = outputs[0][k], outputs[1][k]
        delayed_e = outputs[0][k - 3] if k >= 3 else np.zeros(12)
        delayed_i = outputs[1][k - 1] if k >= 1 else np.zeros(9)
        filtered[0] = b * filtered[0] + (1 - b) * dense[2] @ delayed_i
        filtered[1] = b * filtered[1] + (1 - b) * dense[3] @ i
        expected = [external[2 * k] + dense[0] @ e + filtered[0]]
        expected.append(external[2 * k + 1] + dense[1] @ delayed_e + filtered[1])
        for got, want in zip(inputs[k], expected, strict=True):
            assert np.allclose(got, want, atol=1e-13)


def remembering(function, into):
    def wrapped(k):
        into.append(function(k))
        return into[-1].copy()

    return wrapped


def test_external_input_has_its_moments():
    p = Population("x", Rate("linear"), size=20000, input=((0.0, 1.0), (0.5, 2.0)), external=(Poisson(10, 3.0, 0.2),),
                   noise=InputNoise(0.4))
    part = build_network(Model((p,), ()), dt=0.1, seed=2).parts[0]
    for k, drive in ((0, 1.0), (5, 2.0)):
        h = part.external(k)
        variance = (10 * 3.0 * 0.2**2 + 0.4) / 0.1
        assert h.mean() == pytest.approx(drive + 6.0, abs=5 * math.sqrt(variance / 20000))
        assert h.var() == pytest.approx(variance, rel=0.06)


def test_colored_noise_has_its_autocovariance():
    p = Population("x", Rate("linear"), size=20000, noise=InputNoise(0.6, 0.5))
    part = build_network(Model((p,), ()), dt=0.1, seed=2).parts[0]
    h = np.array([part.external(k) for k in range(6)])
    for lag in (0, 3, 5):
        expected = 0.6 / (2 * 0.5) * math.exp(-lag * 0.1 / 0.5)
        assert np.mean(h[0] * h[lag]) == pytest.approx(expected, abs=5 * 0.6 / math.sqrt(20000))


@pytest.mark.parametrize("mean", [0.0, 0.3, 40.0, 900.0])
def test_poisson_law(mean):
    law = poisson_law(mean)
    assert law[-1] == 1.0
    assert len(law) - law.sum() == pytest.approx(mean, rel=1e-9, abs=1e-12)  # mean = sum of P(count > k)


def test_rate_network_agrees_with_matrix_products():
    """Dense rate network: 40 steps of x <- a x + (1 - a) W phi(x)."""
    model = Model((Population("x", Rate("tanh"), size=30),), (Connection("x", "x", Gaussian(0.0, 2.0)),), SOLVE)
    network = build_network(model, seed=9)
    w, x, a = network.weights[0].dense(), network.observe()[0].copy(), math.exp(-0.1)
    for _ in range(40):
        y = network.advance(1)[0][0]
        x = a * x + (1 - a) * w @ np.tanh(x)
    assert np.allclose(y, np.tanh(x), atol=1e-9)


# ---- flips
def plain_glauber(network, model, n_steps):
    """The event loop in plain Python, from the same random numbers."""
    sizes = [p.size for p in model.populations]
    first = np.concatenate([[0], np.cumsum(sizes)])
    w = np.zeros((first[-1], first[-1]))
    for a, b, part in network.weights:
        w[first[a] : first[a + 1], first[b] : first[b + 1]] += part.dense()
    y, event, out = network.y.copy(), 0, []
    rates = [1 / p.neuron.tau for p in model.populations]
    total = sum(r * n for r, n in zip(rates, sizes, strict=True))
    from scipy.stats import poisson

    for k in range(n_steps):
        count = int(poisson.ppf(network.key.uniform(k, Stream.MEANFIELD_EVENT, draw=1), total * network.dt))
        for _ in range(count):
            u, v = (x[0] for x in network.key.fill("uniform", event, 1, 1, 0, Stream.MEANFIELD_EVENT))
            event += 1
            place = u * total
            a = 0
            while a < len(sizes) - 1 and place >= rates[a] * sizes[a]:
                place -= rates[a] * sizes[a]
                a += 1
            i = first[a] + int(place / rates[a])
            p = model.populations[a]
            x = (p.drive(k * network.dt) + w[i] @ y - p.neuron.threshold) / p.neuron.width
            gain = {"heaviside": float(x > 0), "erfc": 0.5 * math.erfc(-x / math.sqrt(2)),
                    "logistic": 0.5 * (1 + math.tanh(0.5 * x))}[p.neuron.gain]
            low = -1.0 if p.neuron.levels == "pm1" else 0.0
            y[i] = 1.0 if v < gain else low
        out.append(y.copy())
    return np.array(out)


@pytest.mark.parametrize("weights", [Gaussian(0.0, 1.0), FixedIndegree(5, -0.31), Bernoulli(0.4, 0.3, 0.1)], ids=str)
def test_flips_against_a_plain_loop(weights):
    drive = ((0.0, 0.3), (1.0, -0.3))
    e = Population("e", Binary(gain="erfc", threshold=0.1, width=0.5, tau=2.0), size=20, input=drive)
    i = Population("i", Binary(levels="pm1", threshold=0.05), size=15, input=0.2)
    s = Population("s", Binary(gain="logistic", width=0.3), size=11)
    model = Model((e, i, s), tuple(Connection(a, b, weights) for a, b in
                                   (("e", "e"), ("e", "i"), ("i", "e"), ("i", "s"), ("s", "i"))), SOLVE)
    network = build_network(model, dt=0.5, seed=3)
    assert network.method == "events"
    expected = plain_glauber(network, model, 12)
    got = np.concatenate(network.advance(12), axis=1)
    assert (got == expected).all()
    assert (np.diff(got, axis=0) != 0).sum() > 10
    assert np.allclose(network.h, network.summed(), atol=1e-12)


# ---- spikes
def lif_network(synapse=0.0, own=0.0):
    cell = LIF(tau=0.02, threshold=15.0, reset=5.0, refractory=0.002, synapse=own)
    external = () if synapse else (Poisson(100, 12.0, 0.9),)
    e = Population("e", cell, size=25, input=22.0 if synapse or own else 4.0, external=external)
    noise = None if own else InputNoise(0.3)
    i = Population("i", dataclasses.replace(cell, tau=0.01), size=14, input=18.0, noise=noise)
    return Model((e, i), (
        Connection("e", "e", FixedIndegree(9, 0.6), delay=0.0015, synapse=synapse),
        Connection("e", "i", Gaussian(2.0, 1.0), delay=0.0005, synapse=synapse),
        Connection("i", "e", Bernoulli(0.5, -1.0), delay=0.0010, synapse=synapse),
    ), Solve("stationary", 1e-4, 1.0))


def plain_spikes(network, model, n_steps, discards=True):
    """Leaky integrate-and-fire neurons in plain Python, from the same random numbers."""
    from scipy.stats import poisson

    names, dt = model.names, network.dt
    dense = [w.dense() for w in network.weights]
    V = [v.copy() for v in network.V]
    rest = [np.zeros(len(v), int) for v in V]
    current = [np.zeros(len(v)) for v in V]
    drive_filter = [0.0, 0.0]
    history = []
    for k in range(n_steps):
        spikes = []
        for a, p in enumerate(model.populations):
            n, cell = p.size, p.neuron
            tau_s = cell.synapse or max((c.synapse for c in model.into(p.name)), default=0.0)
            arriving = np.zeros(n)
            for c, w in zip(model.connections, dense, strict=True):
                late = k - round(c.delay / dt)
                if c.target == p.name and late >= 0:
                    arriving += w @ history[late][names.index(c.source)]
            key = network.parts[a].outside.key
            for e, train in enumerate(p.external):
                u = key.fill("uniform", 0, 1, n, k, Stream.MEANFIELD_EVENT, e)[0]
                arriving += train.weight * poisson.ppf(u, train.indegree * train.rate * dt)
            drive = p.drive(0.0) - cell.tau * sum(t.mean for t in p.external)
            if cell.synapse:
                s = math.exp(-dt / tau_s)
                drive_filter[a] = drive = s * drive_filter[a] + (1 - s) * drive
            decay = math.exp(-dt / cell.tau)
            V_new = decay * V[a] + (1 - decay) * drive
            if tau_s:
                s = math.exp(-dt / tau_s)
                # exact solution of tau V' = -V + c, tau_s c' = -c for c(0) = tau/tau_s * current
                V_new += (s - decay) * tau_s / (tau_s - cell.tau) * (cell.tau / tau_s) * current[a]
            if p.noise is not None:
                z = key.fill("normal", 0, 1, n, k, Stream.MEANFIELD_EVENT, 255)[0]
                V_new += math.sqrt(p.noise.intensity / (2 * cell.tau) * (1 - decay**2)) * z
            if tau_s:
                current[a] = s * current[a] + arriving
            else:
                V_new += arriving
            held = rest[a] > 0 if discards else np.zeros(n, bool)
            V[a] = np.where(held, V[a], V_new)
            rest[a] = np.maximum(rest[a] - 1, 0)
            fired = cell.threshold <= V[a]
            V[a] = np.where(fired, cell.reset, V[a])
            rest[a][fired] = round(cell.refractory / dt)
            spikes.append(fired.astype(float))
        history.append(spikes)
    return [np.array([h[a] for h in history]) / dt for a in range(len(names))]


@pytest.mark.parametrize(("synapse", "own"), [(0.0, 0.0), (0.003, 0.0), (0.0, 0.004)])
def test_spikes_against_a_plain_loop(synapse, own):
    model = lif_network(synapse, own)
    network = build_network(model, seed=5)
    assert network.method == "spikes"
    expected = plain_spikes(network, model, 700)
    got = network.advance(300)
    got = [np.concatenate([a, b]) for a, b in zip(got, network.advance(400), strict=True)]
    assert all(y.sum() * network.dt > 10 for y in got), [y.sum() * network.dt for y in got]
    for mine, plain in zip(got, expected, strict=True):
        assert (mine == plain).all()


def test_a_wrong_delay_or_refractory_time_is_seen():
    """Broken twins of the plain loop."""
    model = lif_network()
    network = build_network(model, seed=5)
    got = network.advance(700)
    late = dataclasses.replace(
        model, connections=tuple(dataclasses.replace(c, delay=c.delay + 1e-4) for c in model.connections)
    )
    assert any((a != b).any() for a, b in zip(got, plain_spikes(build_network(model, seed=5), late, 700), strict=True))
    never = plain_spikes(build_network(model, seed=5), model, 700, discards=False)
    assert any((a != b).any() for a, b in zip(got, never, strict=True))


def test_chunks_do_not_matter():
    for model, dt in ((lif_network(), 1e-4), (two_populations(), 0.1)):
        whole = build_network(model, dt=dt, seed=2).advance(60)
        network = build_network(model, dt=dt, seed=2)
        parts = [network.advance(n) for n in (1, 7, 20, 32)]
        for a, y in enumerate(whole):
            assert (y == np.concatenate([p[a] for p in parts])).all()


# ---- own neurons and bad input
class Counter:
    """A neuron of one's own: it remembers half of what it was."""

    def init(self, M, rng):
        return {"y": rng.standard_normal(M)}

    def step(self, state, h, k):
        state["y"] = 0.5 * state["y"] + h
        return state["y"]


class Broken(Counter):
    def __init__(self, what):
        self.what = what

    def step(self, state, h, k):
        return self.what if k == 3 else np.zeros(len(h))


def own(neuron, size=6):
    return Model((Population("x", neuron, size=size),), (Connection("x", "x", Gaussian(0.0, 0.3)),), SOLVE)


def test_a_neuron_of_ones_own():
    network = build_network(own(Counter()))
    w, y = network.weights[0].dense(), network.states[0]["y"]
    first, second = network.advance(2)[0]
    assert np.allclose(first, 0.5 * y)  # no output before the first step
    assert np.allclose(second, 0.5 * first + w @ first)


@pytest.mark.parametrize(("build", "words"), [
    (lambda: build_network(Model((Population("x", Rate()),), (), SOLVE)), "population 'x' has no size"),
    (lambda: build_network(own(Rate()), dt=-1.0), "dt = -1.0"),
    (lambda: build_network(Model((Population("x", Rate(), size=5),), ())), "dt: the model has no"),
    (lambda: build_network(own(Rate()), method="fast"), "method = 'fast': valid are auto"),
    (lambda: build_network(own(Rate()), method="events"), "asynchronous binary neurons"),
    (lambda: build_network(own(Rate()), method="spikes"), "integrate-and-fire"),
    (lambda: build_network(own(Rate()), precision="half"), "precision = 'half'"),
    (lambda: build_network(own(Broken(np.zeros(3)))).advance(9), "an array of shape (3,) for 6"),
    (lambda: lyapunov_exponent(own(Counter()), duration=1.0, warmup=1.0), "has no tangent"),
    (lambda: lyapunov_exponent(own(Rate(gain=np.sign)), duration=1.0, warmup=1.0), "slope of its gain"),
    (lambda: lyapunov_exponent(two_populations(), duration=1.0, warmup=1.0), "delay or a filter"),
])
def test_bad_input(build, words):
    with pytest.raises(InputError) as caught:
        build()
    assert words in str(caught.value)


@pytest.mark.parametrize("bad", [np.full(6, np.nan), np.array([0, 0, np.inf, 0, 0, 0.0])])
def test_an_output_that_is_not_finite_names_neuron_and_step(bad):
    with pytest.raises(DivergenceError, match="not finite after step 3"):
        build_network(own(Broken(bad))).advance(9)
