"""The Newton search that every fit uses: gains below rounding, inexact information, interruptions."""

import numpy as np
import pytest

from lft.errors import DivergenceError
from lft.inference import newton
from lft.testing.objectives import LogisticObjective


def problem():
    """A logistic regression and its maximum."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4))
    objective = LogisticObjective(x, (rng.random(400) < 1 / (1 + np.exp(-x @ [1.0, -0.5, 0.0, 2.0]))).astype(float))
    theta = np.zeros(4)
    for _ in range(20):
        _, gradient, make = objective.evaluate(theta)
        theta = theta + make(None).solve(gradient)
    return objective, theta


def coarse(objective, offset=1e12):
    """The same function as part of a sum so large that only gains above 1e-3 nats are seen, rounded down."""

    def evaluate(theta):
        value, gradient, make = objective.evaluate(theta)
        return np.floor(1024 * (value - offset)) / 1024 - 1e-3 * (gradient @ gradient < 1e-2), gradient, make

    return evaluate


def test_gains_below_rounding_are_judged_by_the_gradient(monkeypatch):
    """Near this maximum the computed value even falls: the search ends there all the same, and quickly."""
    objective, maximum = problem()
    count = []

    def counted(theta):
        count.append(theta)
        return coarse(objective)(theta)

    assert np.allclose(newton.maximize(counted, np.zeros(4))[0], maximum, atol=1e-8)
    assert len(count) <= 9
    # the mutant that trusts the value alone
    monkeypatch.setattr(newton, "is_below_rounding", lambda promised, value: False)
    with pytest.raises(DivergenceError):
        newton.maximize(coarse(objective), np.zeros(4))


class TooSmall:
    """A third of the information: steps three times too long."""

    def __init__(self, right):
        self.right = right

    def solve(self, vector):
        return 3 * self.right.solve(vector)

    def diagonal(self):
        return self.right.diagonal()


def test_a_step_that_leads_away_is_refused_below_rounding():
    """Steps three times too long double the gradient: damped ones must take their place, whatever the value says."""
    objective, maximum = problem()

    def flat(theta):
        _, gradient, make = objective.evaluate(theta)
        return -1e15, gradient, lambda extra: make(extra) if extra is not None else TooSmall(make(None))

    found = newton.maximize(flat, maximum + 0.01, max_steps=1000)[0]
    assert np.allclose(found, maximum, atol=1e-4)


class Memory:
    """A keeper that holds the last state, and gives up before the n-th one."""

    def __init__(self, n=None):
        self.state, self.left = None, n

    def read(self):
        return self.state

    def write(self, *state):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        self.state = state


def test_an_interrupted_search_ends_with_the_same_bits():
    objective, _ = problem()
    start = np.array([8.0, 8.0, -8.0, -8.0])  # far: some steps are damped
    whole = newton.maximize(objective.evaluate, start)
    for n in (1, 3, 5, 7):
        memory = Memory(n)
        with pytest.raises(KeyboardInterrupt):
            newton.maximize(objective.evaluate, start, keeper=memory)
        memory.left = None
        again = newton.maximize(objective.evaluate, start, keeper=memory)
        assert np.array_equal(whole[0], again[0]) and whole[1] == again[1]


def test_an_estimate_spares_the_last_solution():
    objective, maximum = problem()
    solutions = []

    class Estimating:
        def __init__(self, right):
            self.right, self.diagonal = right, right.diagonal

        def estimate(self, vector):
            return self.right.solve(vector)

        def solve(self, vector):
            solutions.append(vector)
            return self.right.solve(vector)

    def evaluate(theta):
        value, gradient, make = objective.evaluate(theta)
        return value, gradient, lambda extra: Estimating(make(extra))

    assert np.allclose(newton.maximize(evaluate, maximum)[0], maximum, atol=1e-12) and not solutions
