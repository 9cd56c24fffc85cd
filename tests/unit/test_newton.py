"""The search for a maximum ends where rounding hides what is left to gain."""

import numpy as np

from lft.inference.newton import DenseInformation, maximize


def test_the_search_ends_although_it_was_damped_and_gains_drown_in_rounding():
    def evaluate(x):
        # a large constant, as the log-likelihood of many bins: gains below 1e-8 round to 0
        value = 1e8 - float(np.log(np.cosh(x - 3)).sum())
        curvature = np.diag(1 / np.cosh(x - 3) ** 2)
        return value, -np.tanh(x - 3), lambda extra: DenseInformation(curvature, extra)

    x, value, _ = maximize(evaluate, np.array([1.2]))  # the first step overshoots, so that damping sets in
    assert abs(x[0] - 3) < 1e-3 and abs(value - 1e8) < 1e-6
