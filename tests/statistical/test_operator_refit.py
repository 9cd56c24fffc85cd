"""Couplings in spaces of operators: exact flows of decimated chains, recovery of multi-spin couplings, truncation."""

import math

import numpy as np
import pytest

from lft.actions import Ising
from lft.clusters import SwendsenWang
from lft.errors import DivergenceError, InputError
from lft.geometry import Lattice
from lft.rg.blocking import plan_blocks
from lft.rg.monte_carlo import refit
from lft.rg.monte_carlo.cascade import block_batch, sampled
from lft.rg.monte_carlo.operator_flow import operator_flow
from lft.rg.monte_carlo.operators import Products, operator_set, parse_operator
from lft.rg.monte_carlo.refit import PatternTable, fit_operators, match_moments, simulate, simulated_moments
from lft.rng import Key
from lft.testing import assert_agrees, decimate_chain, enumerate_states
from lft.updaters import HeatBath

CHAIN_K, CHAIN_H = 0.6, -0.4


def ops(names, n_axes):
    return [parse_operator(n, n_axes) for n in names]


@pytest.fixture(scope="module")
def chains():
    """A ring of 768 spins in a field, 16000 configurations."""
    lattice = Lattice((768,))
    batches = sampled(Ising(CHAIN_K, CHAIN_H), lattice, SwendsenWang(), Key(3), 16_000, 1, 50)
    return lattice, np.concatenate(list(batches))


@pytest.mark.parametrize("b", [2, 3, 4])
def test_decimated_chain_in_a_field_has_the_couplings_of_the_transfer_matrix(chains, b):
    lattice, values = chains
    plan = plan_blocks(lattice, b, name="decimation")
    fit = fit_operators(block_batch(values, plan, "decimation"), plan.coarse, ops(("1", "h"), 1), ops(("2", "1;2"), 1))
    K, h = decimate_chain(CHAIN_K, CHAIN_H, b)
    if b == 3:
        assert (K, h) == (pytest.approx(0.1150571437, abs=2e-10), pytest.approx(-0.9391464865, abs=2e-10))
    assert_agrees(fit.couplings["K[1]"], K, relative_error_max=0.05)
    assert_agrees(fit.couplings["h"], h, relative_error_max=0.02)
    for value, error, _ in fit.outside.values():  # nothing is left out
        assert abs(value) < 4.5 * error


def test_decimation_leaves_the_correlators_of_the_kept_sites(chains):
    """<s_0 s_r> of the kept ring is <s_0 s_(b r)> of the fine one, from the transfer matrix."""
    from lft.testing import ising_chain

    lattice, values = chains
    exact = ising_chain(768, CHAIN_K, CHAIN_H)
    for b in (2, 3):
        plan = plan_blocks(lattice, b, name="decimation")
        coarse = block_batch(values, plan, "decimation").reshape(len(values), -1).astype(float)
        fine = values.reshape(len(values), -1)[:, ::b].astype(float)
        assert np.array_equal(coarse, fine)
        for r in (1, 2):
            per_configuration = (coarse * np.roll(coarse, -r, axis=1)).mean(axis=1)
            blocks = np.array([x.mean() for x in np.array_split(per_configuration, 50)])
            estimate = (per_configuration.mean(), blocks.std(ddof=1) / math.sqrt(50))
            assert_agrees(estimate, exact.two_point[b * r], relative_error_max=0.02)


def test_a_wrong_decimation_is_caught(chains):
    """Mutant: majority blocks are not a marginal; refitted by the same code they miss the exact couplings."""
    lattice, values = chains
    plan = plan_blocks(lattice, 3, name="majority")
    fit = fit_operators(block_batch(values, plan, "majority"), plan.coarse, ops(("1", "h"), 1))
    _, h = decimate_chain(CHAIN_K, CHAIN_H, 3)
    assert abs(fit.couplings["h"][0] - h) > 10 * fit.couplings["h"][1]


TRUE = {"1,0": 0.18, "1,1": -0.08, "0,1;1,0;1,1": 0.12, "h": 0.1, "1,0;1,1": 0.05}


@pytest.fixture(scope="module")
def many_body():
    """64 chains of the many-body theory TRUE on a lattice with holes and one open axis."""
    mask = np.random.default_rng(1).random((12, 10)) < 0.9
    lattice = Lattice((12, 10), boundary=("open", "periodic"), mask=mask)
    operators = ops(TRUE, 2)
    start = np.ones((64, 12, 10), np.int8)
    batches = simulate(lattice, operators, list(TRUE.values()), start, 120, Key(2), every=3, thermalize=60)
    return lattice, operators, np.concatenate(list(batches))


def test_many_body_couplings_are_recovered(many_body):
    lattice, operators, values = many_body
    outside = ops(("2,0", "1,0;2,0"), 2)
    fit = fit_operators(values, lattice, operators, outside)
    for o in operators:
        assert_agrees(fit.couplings[o.coupling], TRUE[o.name], relative_error_max=0.15)
    for value, error, _ in fit.outside.values():
        assert abs(value) < 4.5 * error < 0.05


def test_what_the_space_leaves_out_is_found(many_body):
    """Without the plaquette the test of operators outside names it, with the right sign and most of its size."""
    lattice, operators, values = many_body
    space = [o for o in operators if o.n_spins != 4]
    fit = fit_operators(values, lattice, space, ops(("0,1;1,0;1,1", "2,0"), 2))
    value, error, gain = fit.outside["K[0,1;1,0;1,1]"]
    assert 0.5 * 0.12 < value < 1.5 * 0.12 and value > 5 * error
    assert gain == max(g for _, _, g in fit.outside.values())
    # the full fit gains about what the test foretells
    full = fit_operators(values, lattice, operators)
    assert full.score - fit.score == pytest.approx(gain, rel=0.2)


def test_simulation_of_a_space_samples_its_weight():
    """Means and covariances of operators on 3 x 4 sites against all states."""
    lattice = Lattice((3, 4), boundary=("open", "periodic"))
    operators, K = ops(TRUE, 2), np.array(list(TRUE.values()))
    states = enumerate_states(12).reshape(-1, 3, 4)
    o = Products(lattice, operators).sums(states).astype(float)
    weight = np.exp(o @ K)
    weight /= weight.sum()
    exact = weight @ o
    start = np.ones((200, 3, 4), np.int8)
    mean, error, C = simulated_moments(lattice, operators, K, start, 300, Key(5), every=2, thermalize=30)
    z = (mean - exact) / np.sqrt(np.diag(error))
    assert (abs(z) < 4.5).all() and (np.sqrt(np.diag(error)) < 0.1).all()
    np.testing.assert_allclose(C, (o * weight[:, None]).T @ o - np.outer(exact, exact), rtol=0.06)
    wrong, error, _ = simulated_moments(lattice, operators, 1.1 * K, start, 300, Key(5), every=2, thermalize=30)
    assert abs((wrong - exact) / np.sqrt(np.diag(error))).max() > 10  # the test sees a coupling off by a tenth


def test_moments_are_matched():
    """The exact means of an enumerated lattice give back its couplings."""
    lattice = Lattice((3, 4), boundary=("open", "periodic"))
    operators, K = ops(("1,0", "0,1;1,0;1,1", "h"), 2), np.array([0.25, 0.15, 0.1])
    states = enumerate_states(12).reshape(-1, 3, 4)
    o = Products(lattice, operators).sums(states).astype(float)
    weight = np.exp(o @ K)
    mean = weight @ o / weight.sum()
    start = np.ones((200, 3, 4), np.int8)
    fit = match_moments(mean, np.zeros((3, 3)), lattice, operators, [0.1, 0.0, 0.0], start, Key(6))
    for value, (fitted, error) in zip(K, fit.couplings.values(), strict=True):
        assert_agrees((fitted, error), value, relative_error_max=0.1)


def test_both_estimators_agree_on_a_flow():
    lattice, operators = Lattice((16, 16)), operator_set(2, 2, 0)
    values = np.concatenate(list(sampled(Ising(0.3), lattice, HeatBath(), Key(7), 600, 10, 100)))
    flows = [
        operator_flow([values], 600, lattice, operators, operator_set(2, 3, 0), levels=1, seed=1, estimator=e)
        for e in ("pseudo", "moments")
    ]
    for level in range(2):
        pseudo, moments = (f.levels[level].couplings for f in flows)
        for name in pseudo:
            assert abs(pseudo[name][0] - moments[name][0]) < 4.5 * math.hypot(pseudo[name][1], moments[name][1])
    assert_agrees(flows[0].levels[0].couplings["K[1,0]"], 0.3, relative_error_max=0.05)
    data = flows[0].as_json()["levels"][0]["truncation"]
    assert set(data) == {"outside", "simulation"}
    for entry in data["simulation"].values():  # level 0 lies in the space: the simulation agrees
        assert abs(entry["value"]) < 4.5 * entry["error"]


def test_errors_grow_honestly_where_configurations_are_correlated():
    lattice = Lattice((8, 8))
    (values,) = sampled(Ising(0.3), lattice, HeatBath(), Key(8), 40, 50, 100)
    fit = fit_operators(values, lattice, operator_set(2, 1, 1))
    assert not fit.notes
    fit = fit_operators(np.repeat(values, 4, axis=0), lattice, operator_set(2, 1, 1), n_blocks=160)
    assert "autocorrelation" in fit.notes[0]


@pytest.mark.validate
def test_errors_are_calibrated():
    lattice, operators = Lattice((12, 12)), ops(("1,0", "1,1", "h"), 2)
    true, pulls = np.array([0.2, 0.05, 0.1]), []
    for seed in range(100):
        start = np.ones((40, 12, 12), np.int8)
        values = np.concatenate(list(simulate(lattice, operators, true, start, 1, Key(seed, 9), thermalize=60)))
        fit = fit_operators(values, lattice, operators)
        pulls.append((fit.values - true) / np.sqrt(np.diag(fit.covariance)))
    assert (abs(np.std(pulls, axis=0) - 1) < 0.25).all() and (abs(np.mean(pulls, axis=0)) < 0.4).all()


# ---- input that cannot be used
def test_operators_that_cannot_be_told_apart():
    values = np.random.default_rng(1).choice([-1, 1], (50, 4, 8)).astype(np.int8)
    same = [parse_operator(n, 2, []) for n in ("1,0", "3,0")]  # on an extent of 4, three steps are one back
    with pytest.raises(InputError, match=r"K\[1,0\] K\[3,0\] cannot be told apart .* condition number"):
        fit_operators(values, Lattice((4, 8)), same)


def test_a_product_that_meets_itself_is_no_local_field():
    """On 2 sites a step of 2 leads back: s_x would be predicted by itself."""
    values = np.random.default_rng(1).choice([-1, 1], (200, 8, 8)).astype(np.int8)
    with pytest.raises(InputError, match="meets one of its own sites"):
        fit_operators(values[:, :2, :2].copy(), Lattice((2, 2)), ops(("1,0", "2,0"), 2))
    flow = operator_flow([values], 200, Lattice((8, 8)), ops(("1,0", "2,0"), 2), levels=2, has_simulation=False)
    assert len(flow.levels) == 2 and "meets one of its own sites" in flow.notes[-1]


def test_a_coupling_without_a_finite_maximum():
    with pytest.raises((DivergenceError, InputError), match=r"no finite maximum|condition number"):
        fit_operators(np.ones((10, 4, 4), np.int8), Lattice((4, 4)), ops(("1,0", "h"), 2))


def test_patterns_that_are_too_many():
    with pytest.raises(InputError, match="local patterns"):
        PatternTable(Lattice((8, 8, 8)), operator_set(3, 30, 0))


def test_sorted_and_direct_tables_agree(monkeypatch):
    lattice, operators = Lattice((6, 6)), operator_set(2, 3, 1)
    values = np.random.default_rng(2).choice([-1, 1], (30, 6, 6)).astype(np.int8)
    direct = fit_operators(values, lattice, operators)
    monkeypatch.setattr(refit, "DIRECT_KEYS", 0)
    np.testing.assert_allclose(fit_operators(values, lattice, operators).values, direct.values, rtol=1e-12)
