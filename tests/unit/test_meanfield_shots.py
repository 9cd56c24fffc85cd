"""Spike trains of random partners as input: the compiled loops against plain ones, and what the partners are."""

import dataclasses
import math

import numpy as np
import pytest

from lft._kernels import shots as kernel
from lft.errors import InputError
from lft.meanfield.fluctuations.integrate_fire import (
    population_noise,
    white_inputs_of,
    white_loop,
    white_noise_rates,
    white_noise_response,
)
from lft.meanfield.model import Connection, FixedIndegree, Model, Poisson, Population, Solve
from lft.meanfield.neurons import LIF, EscapeRate
from lft.meanfield.reading import build_model
from lft.meanfield.saddle.closed import siegert
from lft.meanfield.saddle.shots import Pool, ShotDrive, alike, independent
from lft.meanfield.saddle.stationary import PARTS, Grid, solve_replica
from lft.meanfield.saddle.two_time import System
from lft.meanfield.solver import solve
from lft.rng import Key, Stream

PERIOD, LENGTH = 0.4, 0.55


def pool(n_pairs, rate, seed=1):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rate * PERIOD, 2 * n_pairs)
    times = np.concatenate([np.sort(rng.uniform(0, PERIOD, c)) for c in counts])
    return np.concatenate([[0], np.cumsum(counts)]), times


def shots(links, outside=(), key=5):
    return kernel.Shots(list(links), list(outside), PERIOD, LENGTH, int(Stream.MEANFIELD_PARTNER),
                        int(Stream.MEANFIELD_TRAIN), Key(key).word)


def two_links(n_pairs=4):
    """An excitatory and an inhibitory connection, and a train from outside: (jump, Shots of it alone), and the list."""
    degrees = np.full(n_pairs, 30, np.int64), np.arange(5, 5 + n_pairs, dtype=np.int64)
    links = [(*pool(6, 40.0), degrees[0], 0.02, 0.0, 0), (*pool(6, 40.0, 2), degrees[1], -0.05, 0.0, 1)]
    outside = [(900.0, 0.02, 0)]
    return links, outside


def plain(times, jumps, v, drive, tau, threshold, reset, refractory):
    """The neuron between and at events, one by one."""
    spikes, now = [], 0.0
    for t, jump in [*zip(times, jumps, strict=True), (LENGTH, None)]:
        while drive > threshold and t > now:
            rise = tau * math.log((drive - v) / (drive - threshold)) if v < threshold else 0.0
            if now + rise >= t:
                break
            spikes.append(now + rise)
            v, now = reset, now + rise + refractory
        if jump is None or t < now:
            continue
        v, now = drive + (v - drive) * math.exp(-(t - now) / tau) + jump / tau, t
        if v >= threshold:
            spikes.append(t)
            v, now = reset, t + refractory
    return spikes


@pytest.mark.parametrize("drive, refractory", [(8.0, 0.002), (25.0, 0.002), (25.0, 0.0), (-5.0, 0.0)])
def test_neurons_go_from_event_to_event(drive, refractory):
    links, outside = two_links()
    alone = [kernel.trains(shots([x]), 4) for x in links] + [kernel.trains(shots([], outside), 4)]
    sizes = [links[0][3], links[1][3], outside[0][1]]
    v = np.linspace(9.0, 19.0, 8)
    offsets, found = kernel.integrate_and_fire(shots(links, outside), v, drive, 1e-3, 550, 0.02, 20.0, 10.0, refractory)
    assert len(found) > 20
    for i in range(8):
        parts = [times[start[i] : start[i + 1]] for start, times in alone]
        times = np.concatenate(parts)
        jumps = np.repeat(sizes, [len(p) for p in parts])
        order = np.argsort(times)
        expected = plain(times[order], jumps[order], v[i], drive, 0.02, 20.0, 10.0, refractory)
        assert np.allclose(found[offsets[i] : offsets[i + 1]], expected, rtol=0, atol=1e-12)


def test_jumps_are_input_of_their_step():
    links, outside = two_links()
    h = np.ones((550, 8))
    kernel.superpose(shots(links, outside), 1e-3, h)
    expected = np.ones((550, 8))
    for alone, size in ((shots(links[:1]), 0.02), (shots(links[1:]), -0.05), (shots([], outside), 0.02)):
        start, times = kernel.trains(alone, 4)
        who = np.repeat(np.arange(8), np.diff(start))
        np.add.at(expected, (np.minimum((times / 1e-3).astype(int), 549), who), size / 1e-3)
    assert np.allclose(h, expected, rtol=1e-12, atol=1e-9)  # sums of +-50 in another order


def test_pairs_share_frozen_rates_and_nothing_else():
    """Trains j and j + n have one frozen rate: neurons of a pair get the same number of spikes, at other times."""
    n, degree = 300, 20
    rng = np.random.default_rng(3)
    counts = np.tile(rng.integers(0, 30, n), 2)
    times = np.concatenate([np.sort(rng.uniform(0, PERIOD, c)) for c in counts])
    link = (np.concatenate([[0], np.cumsum(counts)]), times, np.full(n, degree, np.int64), 1.0, 0.0, 0)
    jumps = kernel.Shots([link], [], PERIOD, PERIOD, 51, 52, Key(2).word)
    start, found = kernel.trains(jumps, n)
    received = np.diff(start)
    assert np.array_equal(received[:n], received[n:])  # a mutant that draws the partners anew fails here
    expected = degree * counts.mean()
    assert abs(received.mean() - expected) < 4.5 * math.sqrt(degree * counts.var() / n)
    assert received[:n].var() == pytest.approx(degree * counts.var(), rel=4.5 * math.sqrt(2 / n))
    assert all(not np.isin(found[start[i] : start[i + 1]], found[start[i + n] : start[i + n + 1]]).any()
               for i in range(20) if received[i])


def equal_time_z(rows):
    """Mean covariance of rows (neurons, time) with one another, over its error if they were independent."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    n, t = rows.shape
    own = (rows**2).mean()
    whole = (rows.sum(axis=0) ** 2).mean() / n  # own + (n - 1) covariance
    return (whole / own - 1.0) / math.sqrt(2.0 / t)


def test_shifts_make_inputs_independent():
    """Partners that fire together: no neuron has input in common with another at one time.  Mutant: no shifts."""
    n, bins = 100, 40
    rng = np.random.default_rng(4)
    volleys = np.sort(rng.uniform(0, PERIOD, 6))
    start = 6 * np.arange(2 * n + 1)
    times = np.tile(volleys, 2 * n)
    jumps = kernel.Shots([(start, times, np.full(n, 15, np.int64), 1.0, 0.0, 0)], [], PERIOD, PERIOD, 51, 52, 9)
    h = np.zeros((bins, 2 * n))
    kernel.superpose(jumps, PERIOD / bins, h)
    unshifted = np.tile(np.histogram(volleys, bins, (0, PERIOD))[0] * 15.0, (2 * n, 1))
    assert abs(equal_time_z(h.T)) < 4.5
    assert equal_time_z(unshifted) > 30


def test_part_of_a_pool_is_kept():
    """First members of the pairs that stay and of the new ones, then the second members in the same order."""
    old, new, kept = Pool(*pool(5, 30.0)), Pool(*pool(3, 30.0, 2)), np.array([1, 4])
    mixed = old.joined(new, kept)
    expected = [(old, 1), (old, 4), (new, 0), (new, 1), (new, 2), (old, 6), (old, 9), (new, 3), (new, 4), (new, 5)]
    assert mixed.n == 10
    for j, (source, k) in enumerate(expected):
        assert np.array_equal(mixed.times[mixed.start[j] : mixed.start[j + 1]],
                              source.times[source.start[k] : source.start[k + 1]])
    assert old.joined(new, kept[:0]).start.tolist() == new.start.tolist()


def balanced(**other):
    """Two populations of few large synapses; ``other``: what the second one has of its own."""
    drive = (Poisson(100, 20.0, 0.7),)
    cells = (Population("E", LIF(), external=drive), Population("I", LIF(**other), external=drive))
    weights = {"E": FixedIndegree(80, 0.7), "I": FixedIndegree(20, -4.2)}
    links = [Connection(b, a, weights[b]) for a in "EI" for b in "EI"]
    links[2:] = links[:1:-1]  # the order of connections does not matter
    return Model(cells, tuple(links), Solve("stationary", dt=1e-3, duration=0.3, samples=128, replicas=4, sweeps=9,
                                            input="shot", warmup=0.05, max_lag=0.05))


def rates_of(model, replicas=16, n_pairs=64):
    """Rates of both populations in one sweep from the same start: (replicas, 2)."""
    system = System(model)
    system.links = independent(system)
    grid, found = Grid(model, system.runners), []
    for replica in range(replicas):
        drive = ShotDrive(system, grid, n_pairs, Key(3, replica), 1.0, np.full(2, 15.0))
        state = [part for a in range(2) for part in (np.full(1, 15.0), np.zeros(1), np.zeros(4), np.zeros(2))]
        found.append([drive.run(a, state, Key(4, replica), 0.0)[0].mean() for a in range(2)])
    return np.array(found)


def test_populations_have_random_numbers_in_common():
    """Alike: the same rate to the last bit.  Nearly alike: rates scatter together, so that a balanced sum of them
    scatters less; the mutant has independent numbers, as the second population of another replica."""
    rates = rates_of(balanced(), 2)
    assert np.array_equal(rates[:, 0], rates[:, 1]) and rates[0, 0] != rates[1, 0]
    rates = rates_of(balanced(refractory=0.0025))
    near, mutant = rates[:, 0] - rates[:, 1], rates[:, 0] - np.roll(rates[:, 1], 1)
    assert near.var() < 0.1 * mutant.var() and near.mean() > 0


def test_populations_that_are_alike_are_computed_once():
    calls = []

    class Counted(LIF):
        def prepare(self, dt):
            step = super().prepare(dt)
            fire = step.on_jumps
            step.on_jumps = lambda *given: calls.append(1) or fire(*given)
            return step

    model, counted = balanced(), Counted()
    cells = tuple(dataclasses.replace(p, neuron=counted) for p in model.populations)
    system = System(dataclasses.replace(model, populations=cells))
    system.links = independent(system)
    grid = Grid(model, system.runners)
    state = solve_replica(system, grid, None, 0, (1.0, 0.0), np.array([15.0, 15.0]))[0].state
    assert len(calls) == 9  # sweeps
    assert all(np.array_equal(one, two) for one, two in zip(state[:PARTS], state[PARTS:], strict=True))
    assert alike(System(balanced(refractory=0.0025))) == [0, 1]


def alone(cell, external, **settings):
    settings = {**dict(dt=5e-4, duration=0.4, samples=256, replicas=4, sweeps=9, warmup=0.1, max_lag=0.02,
                       method="sampling", input="shot"), **settings}
    return solve(Model((Population("x", cell, external=external),), (), Solve("stationary", **settings)))


def test_many_small_jumps_are_white_noise():
    """Jumps of 0.1 mV: Siegert's rate, but for half a jump of overshoot at the threshold.  Mutant: large jumps."""
    exact = siegert(15.0, math.sqrt(22.5), 0.02, 20.0, 10.0, 0.002)
    value, error = alone(LIF(), (Poisson(1000, 60.0, 0.1), Poisson(1000, 52.5, -0.1))).populations["x"]["mean"]
    assert abs(value - exact) < 6.9 * error + 0.02 * exact and error < 0.03 * exact
    value, error = alone(LIF(), (Poisson(1, 1676.4706, 0.5), Poisson(1, 11.029412, -8.0))).populations["x"]["mean"]
    assert abs(value - exact) > 0.03 * exact + 6.9 * error  # the same mean and variance, a rate of 4.8 Hz


def test_neurons_without_a_loop_of_their_own_get_input_on_the_grid():
    """An escape-rate neuron with a linear response: its rate is known whatever the law of the input."""
    cells = Population("x", EscapeRate("linear", rate=1.0), input=30.0, external=(Poisson(10, 20.0, 0.02),))
    link = Connection("x", "x", FixedIndegree(20, 0.02), synapse=0.01)
    settings = Solve("stationary", dt=1e-3, duration=0.4, samples=256, replicas=4, sweeps=12, input="shot", warmup=0.05,
                     max_lag=0.1)
    value, error = solve(Model((cells,), (link,), settings)).populations["x"]["mean"]
    exact = 34.0 / (1 - 0.4)
    assert abs(value - exact) < 6.9 * error + 0.04 * exact and error < 0.03 * exact  # 1 - exp(-r dt): 3 % of the rate


LOOP = """
[population.x]
neuron = "{neuron}"
[[connection]]
from = "x"
to = "x"
weights = "{weights}"
{more}
[solve]
mode = "{mode}"
dt = 0.001
duration = 0.2
input = "{input}"
"""


@pytest.mark.parametrize("change, words", [
    ({"input": "poisson"}, "gaussian or shot"),
    ({"weights": "gaussian", "more": "std = 1.0"}, "needs fixed-indegree or bernoulli"),
    ({"neuron": "rate"}, "send no spikes"),
    ({"mode": "two-time"}, "input = 'gaussian'"),
])
def test_where_spike_trains_do_not_describe_the_input(change, words):
    given = {"neuron": "lif", "weights": "fixed-indegree", "more": "indegree = 10\nweight = 0.1", "mode": "stationary",
             "input": "shot", **change}
    with pytest.raises(InputError, match=words):
        solve(build_model(LOOP.format(**given)))


def brunel(size):
    drive = (Poisson(1000, 20.0, 0.1),)
    cells = tuple(Population(p, LIF(), size=n, external=drive) for p, n in (("E", size * 4 // 5), ("I", size // 5)))
    weights = {"E": FixedIndegree(1000, 0.1), "I": FixedIndegree(250, -0.5)}
    return Model(cells, tuple(Connection(b, a, weights[b], 0.0015) for a in "EI" for b in "EI"))


def test_fluctuations_of_a_finite_network_come_back():
    """G against the loop summed by iteration, divided by the response to the mean."""
    omega = np.array([0.0, 2 * np.pi * 40.0, 2 * np.pi * 150.0])
    model = brunel(12500)
    found, rates = population_noise(model, omega), white_noise_rates(model, np.full(2, 30.0))
    loop = white_loop(model, rates, omega)
    mu, intensity = white_inputs_of(model, rates)
    answer = white_noise_response(LIF(), mu[0], intensity[0], omega).to_mean
    for k in range(3):
        y = np.zeros((2, 2), complex)
        for _ in range(4000):
            y = y + 0.05 * (np.eye(2) + loop[k] @ y - y)  # damped: the loop is larger than 1
        expected = np.abs(loop[k] @ y / answer[k]) ** 2 / np.array([10000, 2500])
        assert np.allclose(found[k], expected, rtol=2e-3)  # what 4000 damped steps leave
        without = np.abs(loop[k] / answer[k]) ** 2 / np.array([10000, 2500])  # mutant: what comes back once
        assert np.abs(found[k] / without - 1).max() > 0.1
