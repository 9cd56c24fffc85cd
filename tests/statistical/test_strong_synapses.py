"""Spike trains as input: errors over seeds, and strong synapses against networks and Siegert's formula."""

import dataclasses

import numpy as np
import pytest

from lft.errors import ConvergenceError
from lft.meanfield.fluctuations.integrate_fire import white_noise_rates
from lft.meanfield.model import Connection, FixedIndegree, Model, Poisson, Population, Solve
from lft.meanfield.neurons import LIF
from lft.meanfield.neurons.lif import _LIFStep
from lft.meanfield.saddle.agreement import check_agreement, check_memory, side_notes
from lft.meanfield.saddle.stationary import PARTS, solve_stationary
from lft.meanfield.solver import solve
from lft.testing import normality_p_value

SEEDS = 32
RATES = np.array([20.0, 20.0])


def small(weight, seed, samples, **settings):
    """Model A with a tenth of the partners; the two populations are not alike."""
    drive = (Poisson(100, 30.0 / (weight * 100 * 0.02), weight),)
    cells = (Population("E", LIF(), external=drive), Population("I", LIF(refractory=0.003), external=drive))
    weights = {"E": FixedIndegree(100, weight), "I": FixedIndegree(25, -10 * weight)}
    links = tuple(Connection(b, a, weights[b]) for a in "EI" for b in "EI")
    return Model(
        cells,
        links,
        Solve(
            "stationary",
            **{
                **dict(
                    dt=1e-3,
                    duration=0.15,
                    warmup=0.06,
                    max_lag=0.03,
                    samples=samples,
                    replicas=8,
                    sweeps=15,
                    seed=seed,
                    input="shot",
                ),
                **settings,
            },
        ),
    )


def rates(weight, seed, samples, **settings):
    """(mean, error) of both populations, without what the public call adds of modes of the network: (2, 2)."""
    _, _, total, _ = solve_stationary(small(weight, seed, samples, **settings), rates=RATES)
    return np.array([[part[(PARTS + 1) * a][0] for a in (0, 1)] for part in (total.mean, total.error)])


JUMPS = [pytest.param(0.3, marks=pytest.mark.validate), 0.5, pytest.param(0.7, marks=pytest.mark.validate)]


@pytest.mark.parametrize("weight", JUMPS)
def test_what_has_not_settled_is_refused(weight, monkeypatch):
    """Replicas begin on both sides.  Mutants: pools that are never renewed, which leaves replicas where their first
    rates put them, are refused; replicas that all begin below are named, though they may have settled."""
    from lft.meanfield.saddle.shots import ShotDrive

    def solved(first, sweeps=15):
        model = small(weight, 3, 256, sweeps=sweeps)
        _, _, total, _ = solve_stationary(model, rates=np.full(2, first))
        check_agreement(model, total)
        check_memory(model, total)
        return total.mean[0][0], total.error[0][0], side_notes(model, total)

    value, error, notes = solved(20.0, 30)
    assert error < 0.03 * value and not notes
    other, own, notes = solved(5.0)
    assert len(notes) == 2 and all("began below" in note for note in notes)
    assert abs(other - value) < 5.4 * np.hypot(error, own)  # Student's t, 7 degrees of freedom: 1e-3
    monkeypatch.setattr(ShotDrive, "follow", lambda self, state, key: None)
    with pytest.raises(ConvergenceError, match="remember where they began"):
        solved(20.0)


def deviations(found):
    """z of each seed against the mean of the others, as normal numbers (Student's t, 7 degrees of freedom)."""
    from scipy.stats import norm, t

    value, error = found
    n = len(value)
    rest = (value.sum() - value) / (n - 1)
    return norm.ppf(t.cdf((value - rest) / np.sqrt(error**2 + np.mean(error**2) / (n - 1)), 7))


def chance(z):
    """Probability of squares that add up to as little or as much, either side."""
    from scipy.stats import chi2

    below = chi2.cdf(np.sum(z**2), len(z))
    return 2.0 * min(below, 1.0 - below)


@pytest.mark.validate
def test_errors_are_calibrated_and_fall_with_the_samples():
    """z over 32 seeds: KS and the sum of squares.  Mutant: errors half as large.  Doubling the samples divides errors
    by sqrt(2) and moves no mean."""
    few, many = (np.array([rates(0.3, seed, samples) for seed in range(SEEDS)]) for samples in (256, 512))
    for a in (0, 1):
        for found in (few, many):
            z = deviations(found[:, :, a].T)
            assert normality_p_value(z) > 1e-3 and chance(z) > 1e-3, (z.mean(), z.std())
            assert chance(2.0 * z) < 1e-3
        errors = [np.sqrt(np.mean(f[:, 1, a] ** 2)) for f in (few, many)]
        assert 1.15 < errors[0] / errors[1] < 1.7  # each mean square has 224 degrees of freedom: s.d. 0.095
        scatter = [f[:, 0, a].std(ddof=1) for f in (few, many)]
        means = [f[:, 0, a].mean() for f in (few, many)]
        assert abs(means[0] - means[1]) < 4.5 * np.hypot(*scatter) / np.sqrt(SEEDS) and scatter[1] < 0.03 * means[1]


def strong(weight, **settings):
    """Model A at (5, 2), N = 12,500: K/N = 0.1."""
    drive = (Poisson(1000, 40.0 / (weight * 1000 * 0.02), weight),)
    cells = (Population("E", LIF(), 10000, external=drive), Population("I", LIF(), 2500, external=drive))
    weights = {"E": FixedIndegree(1000, weight), "I": FixedIndegree(250, -5 * weight)}
    links = tuple(Connection(b, a, weights[b], 0.0015) for a in "EI" for b in "EI")
    return Model(
        cells,
        links,
        Solve(
            "stationary", **{**dict(dt=5e-4, duration=1.0, samples=800, replicas=4, sweeps=36, max_lag=0.3), **settings}
        ),
    )


NETWORKS = {0.5: (21.84, 0.15), 0.7: (23.94, 0.30)}
"""Hz, mean over all neurons and error: ten and six draws of 4 s on a grid of 0.05 ms (experiments/mean_field)."""


@pytest.mark.validate
@pytest.mark.parametrize("weight", [0.5, 0.7])
def test_strong_synapses_settle_closer_to_the_network_than_siegert(weight):
    """By the public call, two populations with sizes.  Mutant: jumps as if K/N were 0."""
    network, scatter = NETWORKS[weight]
    found = solve(strong(weight, input="shot")).populations
    value, error = found["E"]["mean"]
    assert found["I"]["mean"] == (value, error) and error < 0.02 * value
    siegert = white_noise_rates(strong(weight), np.full(2, 20.0))[0]
    both = np.hypot(error, scatter)
    assert abs(value - network) + 3.2 * both < abs(siegert - network)  # Student's t, 3 degrees of freedom: 95 %
    assert abs(value - network) < 0.12 * network
    large = strong(weight, input="shot")
    cells = tuple(dataclasses.replace(p, size=1000 * p.size) for p in large.populations)
    mutant, own = solve(dataclasses.replace(large, populations=cells)).populations["E"]["mean"]
    assert abs(mutant - network) - abs(value - network) > 3.2 * np.hypot(error, own)


class GridStep(_LIFStep):
    uses_white = takes_jumps = False


class OnGrid(LIF):
    """Sees the jumps of a step together and the threshold at its end, as the neurons of the network do."""

    def prepare(self, dt):
        return GridStep(self, dt)


@pytest.mark.validate
def test_strong_synapses_agree_with_the_network_on_its_grid():
    """0.7 mV, dt = 0.05 ms: 4 % are left, whose cause is not known.  Mutant: neurons without a grid."""
    network, scatter = NETWORKS[0.7]
    exact = strong(0.7, input="shot", replicas=8)
    cell = OnGrid()
    cells = tuple(dataclasses.replace(p, neuron=cell) for p in exact.populations)
    coarse = dataclasses.replace(exact, populations=cells, solve=dataclasses.replace(exact.solve, dt=5e-5))
    (value, error), (free, own) = (solve(m).populations["E"]["mean"] for m in (coarse, exact))
    assert abs(value - network) < 4.5 * np.hypot(error, scatter) and error < 0.02 * value
    assert free - network > 4.5 * np.hypot(own, scatter)
    assert free - value > 3.2 * np.hypot(error, own)
