"""Fluctuations of finite networks by measured responses: against closed forms, for closed and sampled solutions."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov

from lft.errors import ConvergenceError, InputError
from lft.meanfield.fluctuations.finite_size import finite_size
from lft.meanfield.model import Connection, FixedIndegree, Gaussian, Model, Population, Solve
from lft.meanfield.neurons import Binary, Rate
from lft.meanfield.solver import solve


def near(pair, exact, relative):
    """Within Student's t of eight partitions (|t| < 6.9) plus the grid's own error, and precise."""
    value, error = np.asarray(pair[0]), np.asarray(pair[1])
    scale = np.max(np.abs(exact))
    assert np.all(np.abs(value - exact) < 6.9 * error + relative * scale), (value, error, exact)
    assert np.all(error < 0.05 * scale), (value, error)


def test_inhibitory_binary_network():
    """N Var(Y) from a response that is measured rather than known; oscillating populations have none."""
    n, k, drive = 2000, 100, 2.05
    weights = FixedIndegree(k, -1 / math.sqrt(k))
    model = Model(
        (Population("x", Binary(), n, drive),), (Connection("x", "x", weights),), Solve("stationary", 0.05, 40.0)
    )
    solution = solve(model)
    found = finite_size(solution, samples=8192)
    value, error = found.population_covariance
    near((n * value, n * error), np.array([[0.01416]]), 0.03)
    closed = solution.network["population_covariance"][0]
    near((value, error), closed, 0.03)
    plain = solution.populations["x"]["output_variance"][0] / n  # mutant: without the loop
    assert abs(value[0, 0] - plain) > 10 * error[0, 0]
    late = dataclasses.replace(model, connections=(Connection("x", "x", weights, delay=0.5),))
    with pytest.raises(ConvergenceError, match="winds 2 times around 0") as caught:
        solve(late)
    assert caught.value.history


def test_linear_populations_are_exact():
    """Y' = -Y + M Y + noise/N: the Lyapunov equation; from a closed and from a sampled solution."""
    mean = np.array([[0.3, -0.9], [0.8, -0.4]])
    noise, sizes = np.array([0.5, 0.2]), np.array([100, 300])
    cells = tuple(Population(p, Rate("linear", noise=s), int(n)) for p, s, n in zip("ab", noise, sizes, strict=True))
    links = tuple(Connection("ab"[j], "ab"[i], Gaussian(mean[i, j], 0.5)) for i in range(2) for j in range(2))
    model = Model(cells, links, Solve("stationary", 0.04, 24.0, samples=2400, sweeps=16))
    closed = finite_size(solve(model), samples=2048)
    sampled = finite_size(
        solve(dataclasses.replace(model, solve=dataclasses.replace(model.solve, method="sampling"))), samples=2048
    )
    omega = closed.omega
    # the random weights enter through A alone: power of single neurons from V, then the sandwich
    alone = np.eye(2) * (1 + omega**2)[:, None, None]
    power = np.linalg.solve(alone - 0.25 * np.ones((2, 2)), 2 * noise[:, None])
    matrix = (1 + 1j * omega)[:, None, None] * np.eye(2) - mean
    source = np.eye(2) * (power[..., 0] * (1 + omega**2)[:, None] / sizes)[:, None, :]
    inverse = np.linalg.inv(matrix)
    spectrum = inverse @ source @ np.conj(np.swapaxes(inverse, 1, 2))
    exact = spectrum.mean(axis=0).real / 0.04
    white = solve_continuous_lyapunov(mean - np.eye(2), -2 * np.diag(noise / sizes))
    assert np.max(np.abs(exact - white)) > 0.05 * np.max(exact)  # A is not that of the noise alone
    for found in (closed, sampled):
        near(found.population_covariance, exact, 0.03)
    assert closed.spectral_radius[0] == pytest.approx(math.sqrt(0.5), rel=0.02)


def test_spread_of_a_driven_rate_network():
    """N Var(c_ij) of x' = -x + g J x + noise, g = 0.5: the closed spectra give the same as the measured ones."""
    from lft.meanfield.fluctuations.spread import equal_time_spread

    g, n = 0.5, 300
    model = Model(
        (Population("x", Rate("linear", noise=1.0), n),),
        (Connection("x", "x", Gaussian(0.0, g)),),
        Solve("stationary", 0.05, 20.0),
    )
    found = finite_size(solve(model), samples=1024, spread=True)
    w = found.omega
    power = 2 / (1 + w * w - g * g)
    exact = equal_time_spread(w, 1 / (1 + 1j * w)[None], np.array([[g * g]]), power[None], np.array([n]))
    near(found.pair_spread, exact, 0.04)
    assert abs(found.pair_spread[0][0, 0] / exact[0, 0] - 4) > 2.5  # twice the variance is seen


def test_bad_input():
    model = Model((Population("x", Rate(noise=0.1)),), (), Solve("stationary", 0.1, 10.0))
    with pytest.raises(InputError, match="'x' has no size"):
        finite_size(solve(model))
    late = dataclasses.replace(model, solve=Solve("two-time", 0.1, 2.0))
    with pytest.raises(InputError, match="mode = 'two-time'"):
        finite_size(solve(late))
