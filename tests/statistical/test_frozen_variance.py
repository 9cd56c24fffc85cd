"""Frozen variances: measured without bias, told from 0, led to the fixed point to which iteration only creeps."""

import dataclasses

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm, t

from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
from lft.meanfield.neurons import Rate
from lft.meanfield.saddle import frozen, stationary
from lft.meanfield.saddle.agreement import frozen_doubt
from lft.meanfield.saddle.averaging import Replicas
from lft.meanfield.saddle.frozen import Excess, Feedback, controlled
from lft.meanfield.saddle.paths import frozen_offsets
from lft.meanfield.solver import solve
from lft.rng import Key, Stream
from lft.testing import normality_p_value


def network(std, mean=-0.4, drive=0.3, **settings):
    cells = Population("x", Rate("tanh"), input=drive)
    return Model((cells,), (Connection("x", "x", Gaussian(mean, std)),), Solve("stationary", 0.1, **settings))


def closed(model):
    return solve(dataclasses.replace(model, solve=Solve("stationary", 0.05, 200.0))).populations["x"]


# ---- measured
def test_offsets_have_the_normal_distribution():
    """One in each n-th of it.  Scaled to variance 1, the mutant, they move what a saturating neuron makes of them."""
    z = np.array([frozen_offsets(Key(1, k), 50, Stream.MEANFIELD_STATIC) for k in range(400)])
    assert kstest(z.ravel(), "norm").pvalue > 1e-3 and (np.diff(z, axis=1) > 0).all()
    inside = norm.cdf(z) * 50 - np.arange(50)
    assert (inside >= 0).all() and (inside <= 1).all()
    exact = 2 * quad(lambda x: np.tanh(x) ** 2 * norm.pdf(x), 0, 12)[0]
    scaled = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)
    found, mutant = (np.mean(np.tanh(x) ** 2, axis=1) for x in (z, scaled))
    assert abs(found.mean() - exact) < 4.5 * found.std() / 20 and found.std() < 0.005 * exact
    assert mutant.std() > 2 * found.std()


def pairs(rng, n):
    """Time averages of saturating neurons, their own slow input, their frozen offsets; e = 0.6^2."""
    offsets, slow = norm.ppf((np.arange(n) + rng.random(n)) / n), rng.normal(size=(2, n))
    slow -= slow.mean()
    y = (
        0.6 * offsets
        + (1.0 - 0.3 * offsets**2) * slow
        - 0.15 * offsets * (slow**2 - 1.0)
        + 0.1 * rng.normal(size=(2, n))
    )
    return y, slow, offsets


def test_slow_input_is_taken_out_without_bias():
    """Mutant: coefficients from the same pairs, which fit what is no linear share of slow input and bias e."""

    def excess(y):
        return float(np.mean((y[0] - y.mean()) * (y[1] - y.mean())))

    def own(y, slow, offsets):
        xi = np.concatenate([offsets, offsets])
        design = np.column_stack([*(xi**k for k in range(4)), *(slow.ravel() * xi**k for k in range(3))])
        shares = np.linalg.lstsq(design, y.ravel(), rcond=None)[0]
        return y - (design[:, 4:] @ shares[4:]).reshape(y.shape)

    rng = np.random.default_rng(1)
    given = [pairs(rng, 50) for _ in range(1500)]
    plain, found, mutant = (
        np.array([f(*x) for x in given])
        for f in (lambda y, *_: excess(y), lambda *x: excess(controlled(*x)), lambda *x: excess(own(*x)))
    )
    exact = 0.36
    assert abs(plain.mean() - exact) < 0.05 * exact + 4.5 * plain.std() / 38  # -Var/2n: slow input adds up to 0
    assert abs(found.mean() - exact) < 0.01 * exact + 4.5 * found.std() / 38 and found.std() < 0.75 * plain.std()
    assert mutant.mean() - exact > 0.01 * exact + 4.5 * mutant.std() / 38
    y, slow, offsets = pairs(rng, 20)
    assert controlled(y, slow, offsets) is y  # too few for the coefficients
    assert np.allclose(controlled(3.0 * slow, slow, np.zeros(20)), 0.0)  # without frozen input: one coefficient


def test_a_pair_shares_what_paths_that_add_up_to_0_have_in_common():
    """A of neurons that answer linearly, from pairs of few paths.  Mutant: half of the difference alone."""
    rng = np.random.default_rng(2)
    found, mutant = [], []
    for _ in range(300):
        y = rng.normal(size=(40, 16))
        y -= y.mean(axis=1, keepdims=True)
        y *= np.sqrt(16 / 15)  # variance 1 of each
        offsets = np.linspace(-2, 2, 8)
        both = y + np.concatenate([offsets, offsets])
        values, _ = stationary.measure(both[:, :8], both[:, 8:], True, 3, lambda *_: True)
        found.append(values[2][0])
        mutant.append(0.5 * np.mean((y[:, :8] - y[:, 8:]) ** 2))
    # the time average over 40 steps of the mean of all has nothing: A at lag 0 is the variance
    assert abs(np.mean(found) - 1.0) < 0.005 + 4.5 * np.std(found) / np.sqrt(300)
    assert np.mean(mutant) - 1.0 > 0.03 + 4.5 * np.std(mutant) / np.sqrt(300)


def test_a_frozen_variance_is_told_from_0_by_all_of_the_last_sweeps():
    known, alone = Excess(), Excess()
    rng, seen = np.random.default_rng(3), []
    for value in rng.normal(1.2, 1.0, 64):  # 1.2 standard errors a sweep
        seen.append(known.stands_out(value, 1.0))
    assert all(seen[24:]) and not Excess().stands_out(1.2, 1.0)
    assert known.unseen < 0.6 and sum(alone.stands_out(v, 1.0) for v in rng.normal(0.0, 1.0, 64)) == 0


def test_doubts_about_a_frozen_variance_are_in_its_error():
    model = network(2.0, 0.0, 0.0, duration=10.0)

    def doubt(missed, moved, e=0.2):
        total = Replicas()
        for k in range(8):
            row = np.array([0.0, 0.0, 0.0, missed, moved + 0.001 * (-1) ** k])
            total.add([np.zeros(1), np.array([e + 0.01 * (-1) ** k]), np.zeros(9), np.zeros(2), np.zeros(3), row])
        return frozen_doubt(model, total, 0)

    assert doubt(0.0, 0.0) == (0.0, []) and doubt(0.03, 0.0, e=0.0)[1] == []
    size, notes = doubt(0.03, 0.0)
    assert size == pytest.approx(0.03) and "a part of the sweeps" in notes[0]
    size, notes = doubt(0.03, -0.04)
    assert size == pytest.approx(0.05) and "still moved, by -0.04" in notes[1]


# ---- led
class Loop:
    """Two populations whose frozen variances feed on themselves, at once and through what follows them:
    e_out = c + S e + K A, A_out = d + B e, so that S + K B is the slope once A has followed."""

    slope = np.array([[0.5, 0.1], [0.3, 0.4]])
    through = np.array([[0.3, 0.0], [0.1, 0.2]])
    follows = np.array([[-0.5, 0.2], [0.1, -0.8]])
    root = np.array([0.3, 0.5])
    rest = np.array([1.0, 1.2])

    def __init__(self, noise=0.0, seed=0):
        self.noise, self.seed = noise, seed

    def outcome(self, state, k):
        e, a = (np.array([float(state[4 * p + i][0]) for p in (0, 1)]) for i in (1, 2))
        noise = self.noise * np.random.default_rng((self.seed, k)).normal(size=(2, 2))
        a_out = self.rest + self.follows @ (e - self.root) + noise[0]
        e_out = self.root + self.slope @ (e - self.root) + self.through @ (a - self.rest) + noise[1]
        new = [x for p in (0, 1) for x in (np.zeros(1), e_out[p : p + 1], np.full(3, a_out[p]), np.zeros(2))]
        return new, [np.full(1, self.noise**2) for _ in range(8)]

    def at(self, e):
        return [x for p in (0, 1) for x in (np.zeros(1), np.full(1, e[p]), np.full(3, self.rest[p]), np.zeros(2))]


def test_a_newton_step_leads_to_the_fixed_point():
    """Exact for a linear loop, in which the rest follows.  Mutant: the slope at once, without what follows."""
    loop, far = Loop(), (0.2, 0.4)
    whole = loop.slope + loop.through @ loop.follows
    feedback = Feedback(loop.at(far), [0, 1], 4, 0.0, loop.outcome)
    assert np.allclose(feedback.slope, whole, atol=0.01) and not np.allclose(loop.slope, whole, atol=0.1)
    state, size = feedback.step()
    found = np.array([state[1][0], state[5][0]])
    assert np.allclose(found, loop.root, atol=0.004) and size == pytest.approx(0.5, abs=0.02)
    assert np.allclose([state[2][0], state[6][0]], loop.rest, atol=0.02)  # the rest goes along
    plain = np.array(far) + np.linalg.inv(np.eye(2) - loop.slope) @ feedback.residual
    assert not np.allclose(plain, loop.root, atol=0.02)
    # what a sweep gives is moved to the fixed point, and not at all from there
    new, _ = loop.outcome(loop.at(loop.root), 0)
    assert all(np.allclose(a, b) for a, b in zip(feedback.lead(loop.at(loop.root), new), new, strict=True))


def test_a_step_knows_its_noise():
    """Slopes with common random numbers are nearly exact where residuals are noise; a residual of noise alone moves
    little, and one variance out of two that counts as 0 stays."""
    loop = Loop(0.03, seed=2)
    feedback = Feedback(loop.at(loop.root), [0, 1], 4, 0.0, loop.outcome)
    assert np.allclose(feedback.slope, loop.slope + loop.through @ loop.follows, atol=0.01)
    assert 0 < np.abs(feedback.residual).max() < 4.5 * feedback.error.max() and not feedback.is_zero()
    small = Loop(0.03, seed=2)
    small.root = np.array([0.005, 0.005])
    assert Feedback(small.at(small.root), [0, 1], 4, 0.0, small.outcome).is_zero()
    new, _ = loop.outcome(loop.at(loop.root), 0)
    new[5][:] = 0.0
    assert feedback.lead(loop.at(loop.root), new) is new
    grown = [np.array([[s]]) for s in (0.99, 1.5)]
    assert [float(frozen.gain(s)[0, 0]) for s in grown] == pytest.approx([20.0, 20.0])
    chain = np.array([[0.0, 0.0], [0.7, 0.0]])  # without eigenvectors enough
    assert np.allclose(frozen.gain(chain), np.linalg.inv(np.eye(2) - chain))


def test_frozen_variance_that_feeds_on_itself(monkeypatch):
    """The slope of e_out is 0.85.  Mutant: sweeps alone, which creep and stop on the way."""
    model = network(1.8, duration=60.0, samples=2000, sweeps=30, seed=2, method="sampling")
    exact, found = closed(model), solve(model).populations["x"]
    for key, most in (("mean", 0.01), ("frozen_variance", 0.06), ("output_variance", 0.01)):
        value, error = found[key]
        assert abs(value - exact[key][0]) < 6.9 * error and error < most * value, key  # eight replicas: as |z| < 4.5
    value = found["frozen_variance"][0]
    assert value == pytest.approx(exact["frozen_variance"][0], rel=0.12)
    monkeypatch.setattr(stationary.Replica, "settle_frozen", lambda self, state, damping: state)
    monkeypatch.setattr(stationary, "MEMORIES", (2.0, 2.0))
    value, error = solve(model).populations["x"]["frozen_variance"]
    assert exact["frozen_variance"][0] - value > 3.0 * error


def test_no_frozen_variance_where_none_is_fed():
    """Symmetric chaos: 0 is a solution, the start is not, and decays by 0.95 in a sweep."""
    found = solve(network(2.0, 0.0, 0.0, duration=60.0, samples=1000, sweeps=24, method="sampling"))
    exact = closed(network(2.0, 0.0, 0.0, duration=60.0))
    x = found.populations["x"]
    assert x["frozen_variance"][0] < 1e-3 * exact["output_variance"][0]
    assert abs(x["output_variance"][0] - exact["output_variance"][0]) < 6.9 * x["output_variance"][1]


@pytest.mark.validate
@pytest.mark.parametrize("std, mean, drive", [(1.8, -0.4, 0.3), (2.2, -0.4, 0.3), (1.5, 0.5, 0.1)])
def test_errors_are_calibrated(std, mean, drive):
    """Over 24 seeds, by Student's t of eight replicas.  Errors half as large, the mutant, are refused."""
    exact, scores, errors = closed(network(std, mean, drive, duration=60.0)), [], []
    for seed in range(24):
        x = solve(network(std, mean, drive, duration=60.0, samples=4000, sweeps=40, seed=seed, method="sampling"))
        value, error = x.populations["x"]["frozen_variance"]
        scores.append(norm.ppf(t.cdf((value - exact["frozen_variance"][0]) / error, 7)))
        errors.append(error)
    assert normality_p_value(np.array(scores)) > 1e-3
    assert normality_p_value(3.0 * np.array(scores)) < 1e-3
    assert np.median(errors) < 0.05 * exact["frozen_variance"][0]
