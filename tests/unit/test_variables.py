"""From couplings to what an experiment measures, and back."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from lft.errors import InputError
from lft.geometry import Lattice
from lft.rg.chains import chain_moments
from lft.rg.flow import Level
from lft.rg.inverse.ensemble import FineModel, Observation, simulate
from lft.rg.variables import (
    chain_from_variables,
    chain_variables,
    connectivity,
    ensemble_variables,
    experimental_variables,
    propagate,
    rate_to_field,
    refractory_variables,
    steps,
)


def test_a_neuron_there_and_back_with_errors():
    C = np.array([[4e-4, -1e-4], [-1e-4, 9e-4]])
    there = chain_variables(0.8, -0.9, "2 ms", C)
    moments = chain_moments(0.8, -0.9)
    assert there["rate_hz"].value == pytest.approx(moments.probability / 0.002)
    assert there["correlation_time_ms"].value == pytest.approx(2 * moments.persistence)
    # errors: a cloud of couplings
    cloud = np.random.default_rng(1).multivariate_normal([0.8, -0.9], C, 4000)
    rates = [chain_moments(*c).probability / 0.002 for c in cloud]
    assert there["rate_hz"].error == pytest.approx(np.std(rates), rel=0.1)
    back = chain_from_variables(there["rate_hz"].value, there["correlation_time_ms"].value, "2 ms", (3.0, 0.2))
    assert (back["K"].value, back["h"].value) == pytest.approx((0.8, -0.9), abs=1e-9)
    assert back["covariance"].shape == (2, 2) and back["K"].error > 0
    assert rate_to_field(there["rate_hz"].value, 0.8, "2 ms").value == pytest.approx(-0.9, abs=1e-9)


def test_units_matter():
    line = chain_variables(0.5, 0.0, "50 um")
    assert line["correlation_length_um"].value == pytest.approx(-50 / math.log(math.tanh(0.5)))
    assert chain_variables(0.5, 0.0, "0.05 mm")["correlation_length_um"].value == pytest.approx(
        line["correlation_length_um"].value
    )
    assert "rate_hz" not in line


def test_refractory_neuron_both_ways():
    there = refractory_variables("1 ms", "3 ms", activity=0.2)
    assert there["rate_hz"].value == pytest.approx(88.2139741, abs=1e-6)
    back = refractory_variables("1 ms", 3, rate_hz=there["rate_hz"].value, error=2.0)
    assert back["activity"].value == pytest.approx(0.2, abs=1e-9)
    assert back["field"].error == pytest.approx(back["activity"].error / 0.2, rel=1e-3)


def test_propagation_is_that_of_a_linear_map():
    M, C = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]]), np.array([[2.0, 0.3], [0.3, 1.0]])
    value, covariance = propagate(lambda x: M @ x, [1.0, -2.0], C)
    np.testing.assert_allclose(value, M @ [1.0, -2.0])
    np.testing.assert_allclose(covariance, M @ C @ M.T, rtol=1e-8)


def test_connectivity_counts_sites_and_lengths():
    couplings = {"K[1,0,0]": (0.2, 0.01), "K[2,0,0]": (0.1, 0.01), "K[0,0,1]": (0.5, 0.01), "h": (0.3, 0.1)}
    out = connectivity(couplings, ("50 um", "50 um", "1 ms"))
    assert out["coupling_strength"].value == pytest.approx(0.6)
    assert out["coupling_strength"].error == pytest.approx(2 * math.hypot(0.01, 0.01), rel=1e-6)
    assert out["connectivity_range_um"].value == pytest.approx(math.sqrt((0.2 * 50**2 + 0.1 * 100**2) / 0.3))
    assert out["connected_sites"].value == pytest.approx(2 * 0.09 / 0.05)
    assert connectivity({"K[0,0,1]": (0.5, 0.01)}, ("50 um", "50 um", "1 ms")) == {}


def test_simulated_chain_has_its_exact_variables():
    """Rate and susceptibility of the chain; its structure factor gives xi = sqrt(rho)/(1 - rho) at any mode."""
    recorded = Lattice((1024,), ("t",), "periodic", ("2 ms",))
    K, h = 0.9, -0.15
    ensemble = simulate(FineModel(Observation(recorded, 1)), (K, h), 400, 1024, seed=4)
    ours, exact = ensemble_variables(ensemble.fine, ensemble.modes["fine"]), chain_moments(K, h)
    true = {
        "rate_hz": exact.probability / 0.002,
        "susceptibility": exact.susceptibility,
        "correlation_time_ms": 2 * math.sqrt(exact.correlation) / (1 - exact.correlation),
    }
    for name, value in true.items():
        assert abs(ours[name].value - value) < 4.5 * ours[name].error
    assert ours["rate_hz"].error < 0.02 * true["rate_hz"]
    assert ours["susceptibility"].error < 0.2 * true["susceptibility"]
    assert ours["correlation_time_ms"].error < 0.1 * true["correlation_time_ms"]


def test_errors_of_couplings_enter_and_flat_directions_erase():
    recorded = Lattice((512,), ("t",), "periodic", ("2 ms",))
    model = FineModel(Observation(recorded, 1))
    runs = {s: simulate(model, (0.3, -0.5 + s), 60, 512, seed=4) for s in (0.0, 0.1, -0.1)}
    modes = [runs[s].modes["fine"] for s in (0.0, 0.1, -0.1)]
    still = (modes[0], modes[0], 0.1)
    slopes, C = [still, (modes[1], modes[2], 0.1)], np.diag([0.0, 0.04**2])
    plain = ensemble_variables(runs[0.0].fine, modes[0])["rate_hz"]
    full = ensemble_variables(runs[0.0].fine, modes[0], slopes, C)["rate_hz"]
    rate = lambda h: chain_moments(0.3, h).probability / 0.002  # noqa: E731
    slope = (rate(-0.499) - rate(-0.501)) / 0.002
    assert full.error == pytest.approx(math.hypot(plain.error, 0.04 * slope), rel=0.05)
    assert plain.error < 0.2 * full.error
    erased = ensemble_variables(runs[0.0].fine, modes[0], slopes, C, flat=[np.array([0.0, 0.25])])
    assert math.isnan(erased["rate_hz"].value)


def test_variables_of_a_level():
    observables = {
        "magnetization": (-0.6, 0.01), "density": (0.2, 0.005), "rate_hz": (20.0, 0.5),
        "connected_x": (0.16, 0.01), "connected_y": (-0.01, 0.01), "connected_t": (0.32, 0.01),
    }  # fmt: skip
    couplings = {"K[1,0,0]": (0.1, 0.01), "K[0,1,0]": (0.1, 0.01), "K[0,0,1]": (0.3, 0.01)}
    level = Level((1, 1, 1), ("42 um", "42 um", "10 ms"), (8, 8, 100), 6400, couplings, observables)
    out = experimental_variables(level)
    assert out["correlation_length_x_um"].value == pytest.approx(-42 / math.log(0.25))
    assert math.isnan(out["correlation_length_y_um"].value)
    assert out["correlation_time_ms"].value == pytest.approx(-10 / math.log(0.5))
    assert out["velocity_x_um_per_ms"].value == pytest.approx(42 / 10 * math.log(0.5) / math.log(0.25))
    assert out["connectivity_range_um"].value == pytest.approx(42)
    assert experimental_variables(SimpleNamespace(spacing=None)) == {}
    # a column of electrodes has no neighbors along y: names tell which spacing is meant
    del observables["connected_y"]
    level = Level((1, 1, 1), ("42 um", "60 um", "10 ms"), (8, 1, 100), 800, couplings, observables)
    out = experimental_variables(level, ("x", "y", "t"))
    assert out["correlation_length_x_um"].value == pytest.approx(-42 / math.log(0.25))
    assert "correlation_length_x_um" not in experimental_variables(level)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: steps("400 um", "150 um", "--to-spacing", "length"), "--to-spacing.*2.66667"),
        (lambda: steps("1 ms", "2 ms", "--to-bin", "time"), "--to-bin.*0.5"),
        (lambda: steps("1 ms", "2", "--to-bin", "time"), "--to-bin.*unit"),
        (lambda: chain_variables(0.1, 0.0, "2"), "spacing"),
        (lambda: chain_from_variables(600.0, 3.0, "2 ms"), "probability"),
        (lambda: chain_from_variables(20.0, -1.0, "2 ms"), "correlation_time_ms"),
        (lambda: refractory_variables("2 ms", "3 ms", activity=0.1), "refractory"),
        (lambda: refractory_variables("1 ms", 3), "one of the two"),
        (lambda: propagate(lambda x: x, [1.0], np.eye(2)), "covariance"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
