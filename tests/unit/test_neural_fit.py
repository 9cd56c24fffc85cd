"""Neural fit: likelihood and derivatives against plain loops, enumeration, unbounded pairs, spins."""

import itertools

import numpy as np
import pytest

from lft.errors import DivergenceError, InputError
from lft.inference.neural_fit import fit_neural, fit_pairwise
from lft.inference.pseudo.objective import neural_objective
from lft.inference.result import fit_json, load_fit, save_fit


def random_couplings(rng, n, lags):
    a = np.triu(rng.normal(0, 0.3, (n, n)), 1)
    return a + a.T, {k: float(rng.normal(0, 0.3)) for k in lags}, rng.normal(0.5, 0.3, n)


def action(raster, a, b, i):
    """S of one raster (T, N); ordered pairs, open time."""
    total = np.einsum("ti,ij,tj->", raster, a, raster) + (raster @ i).sum()
    return total + sum(2 * v * (raster[k:] * raster[:-k]).sum() for k, v in b.items())


def slow_likelihood(raster, a, b, i):
    """Sum of log P(phi|rest) by flipping one site at a time in the action."""
    total = 0.0
    for site in np.ndindex(raster.shape):
        flipped = raster.copy()
        flipped[site] = 1 - flipped[site]
        total -= np.logaddexp(0, action(raster, a, b, i) - action(flipped, a, b, i))
    return total


def pack(objective, a, b, i):
    x, y = objective.layout.pairs.T
    return np.concatenate([-2 * a[x, y], -2 * np.array(list(b.values())), -i])


@pytest.mark.parametrize("lags", [(), (1,), (2, 5)])
def test_likelihood_is_the_conditional_of_the_action(lags):
    rng = np.random.default_rng(1)
    rasters = [(rng.random((t, 4)) < 0.4).astype(np.int8) for t in (12, 7)]
    a, b, i = random_couplings(rng, 4, lags)
    model = neural_objective(rasters, lags=lags)
    value, _, _ = model.evaluate(pack(model, a, b, i))
    assert value == pytest.approx(sum(slow_likelihood(r, a, b, i) for r in rasters), rel=1e-12)


def test_score_vanishes_at_the_truth_by_enumeration():
    rng = np.random.default_rng(3)
    a, b, i = random_couplings(rng, 3, (1, 2))
    states = np.array(list(itertools.product((0, 1), repeat=9)), np.int8).reshape(-1, 3, 3)
    weight = -np.array([action(s.astype(float), a, b, i) for s in states])
    probability = np.exp(weight - np.logaddexp.reduce(weight))
    model = neural_objective(list(states), lags=(1, 2))
    scores = np.array([model.score(pack(model, a, b, i), 3 * n, 3 * n + 3) for n in range(len(states))])
    assert np.abs(probability @ scores).max() < 1e-13
    wrong = np.array(
        [model.score(pack(model, a, {1: b[1] + 0.05, 2: b[2]}, i), 3 * n, 3 * n + 3) for n in range(512)]
    )
    assert np.abs(probability @ wrong).max() > 1e-3


def test_exact_frequencies_return_exact_couplings():
    """Every word of 4 units as often as its probability says (times 4e5, rounded): the fit is the truth."""
    rng = np.random.default_rng(4)
    j = np.triu(rng.normal(0, 0.3, (4, 4)), 1)
    j = j + j.T
    h = rng.normal(-0.3, 0.2, 4)
    words = np.array(list(itertools.product((0, 1), repeat=4)), np.int8)
    s = 2.0 * words - 1
    weight = 0.5 * np.einsum("wi,ij,wj->w", s, j, s) + s @ h  # the spin convention, stated independently
    probability = np.exp(weight - np.logaddexp.reduce(weight))
    raster = np.repeat(words, np.round(4e5 * probability).astype(int), axis=0)
    fit = fit_pairwise(raster, test=0, n_blocks=2)
    assert np.allclose(fit.J, j, atol=1e-4) and np.allclose(fit.h, h, atol=1e-4)
    assert np.allclose(fit.A, -2 * j, atol=2e-4) and np.allclose(fit.J_error, fit.A_error / 2)
    assert np.allclose(fit.I, -2 * (h - j.sum(axis=1)), atol=5e-4)  # spin field to gas field


def test_h_error_contains_the_correlation_with_j():
    """h = -I/2 - sum A/2: its variance is not the sum of those of the parts."""
    rng = np.random.default_rng(5)
    raster = (rng.random((5000, 3)) < 0.4).astype(np.int8)
    fit = fit_pairwise(raster, test=0)
    naive = np.sqrt(fit.I_error**2 / 4 + (fit.A_error**2).sum(axis=1) / 4)
    assert np.all(fit.h_error < 0.97 * naive)
    rate = raster.mean(axis=0)
    assert np.allclose(fit.h_error, 0.5 / np.sqrt(5000 * rate * (1 - rate)), rtol=0.35)


def test_units_permute():
    rng = np.random.default_rng(6)
    raster = (rng.random((2000, 5)) < 0.3).astype(np.int8)
    order = rng.permutation(5)
    one, two = fit_neural(raster), fit_neural(raster[:, order])
    assert np.allclose(one.A[np.ix_(order, order)], two.A, atol=1e-8)
    assert np.allclose(one.I_error[order], two.I_error, rtol=1e-6) and one.B[1] == pytest.approx(
        two.B[1], abs=1e-9
    )
    assert one.score["test"] == pytest.approx(two.score["test"])


def test_trials_are_not_joined():
    rng = np.random.default_rng(7)
    rasters = [(rng.random((200, 3)) < 0.3).astype(np.int8) for _ in range(5)]
    for t in rasters:  # a border that would look like a strong memory if joined
        t[-1] = t[0] = 1
    separate = fit_neural(rasters, test=0)
    shuffled = fit_neural([rasters[i] for i in (4, 2, 0, 1, 3)], test=0)
    joined = fit_neural(np.concatenate(rasters), test=0)
    assert separate.B[1] == pytest.approx(shuffled.B[1], abs=1e-9)
    assert abs(separate.B[1] - joined.B[1]) > 1e-3


def test_unbounded_pairs_and_units_are_listed_and_held():
    rng = np.random.default_rng(8)
    raster = (rng.random((3000, 5)) < 0.2).astype(np.int8)
    raster[:, 1] &= 1 - raster[:, 0]  # never together
    raster[:, 3] &= raster[:, 2]  # 3 fires only with 2
    raster[:2400, 4] = 0  # silent in training
    fit = fit_neural(raster)
    assert set(fit.unbounded) == {"I[3]", "I[4]", "A[0,1]", "A[2,3]", "A[0,4]", "A[1,4]", "A[2,4]", "A[3,4]"}
    assert fit.A[0, 1] > 1 and fit.A[2, 3] < -1 and fit.A[0, 4] == 0  # on the side to which they run; silent: 0
    assert np.isnan([fit.A_error[0, 1], fit.A_error[2, 3], fit.I_error[3], fit.I_error[4]]).all()
    assert np.isfinite(fit.I_error[:3]).all() and np.isfinite(fit.A_error[1, 2])
    assert fit.I[4] == pytest.approx(np.log((2400.5) / 0.5), rel=1e-6)
    assert "A[0,4]" in fit.warnings[1] and "2 pairs lack a joint state" in fit.warnings[2] and len(fit.warnings) == 3
    assert np.isfinite(list(fit.score.values())[1:]).all()
    assert fit_json(fit)["couplings"]["A[0,1]"]["error"] is None
    ridged = fit_neural(raster, ridge=1.0)
    assert ridged.A[0, 1] > 0.3 and np.isfinite(ridged.A_error[0, 1])  # positive = inhibitory


def test_hidden_separation_is_found_at_convergence():
    """A unit that fires exactly with the majority of three others: all states of all pairs occur.

    And yet the words seen (m of the three fire, x the fourth) are the zeros of the two-body form
    q = x(3 - 2m) + m(m-1)/2 >= 0, whose weight can grow without bound.
    """
    rng = np.random.default_rng(9)
    raster = (rng.random((2000, 5)) < 0.5).astype(np.int8)
    raster[:, 3] = raster[:, :3].sum(axis=1) >= 2
    fit = fit_pairwise(raster)
    assert {"A[0,3]", "A[1,3]", "A[2,3]"} <= set(fit.unbounded) and not any(
        "4" in name for name in fit.unbounded
    )
    assert np.isnan(fit.J_error[0, 3]) and abs(fit.J[0, 4]) < 4.5 * fit.J_error[0, 4]


def test_refractory_lag_is_an_error():
    rng = np.random.default_rng(10)
    raster = (rng.random((3000, 4)) < 0.4).astype(np.int8)
    raster[1::2] = 0
    with pytest.raises(DivergenceError, match=r"B\[1\].*no finite maximum"):
        fit_neural(raster, lags=(1,))


def test_bad_input_is_one_clear_line():
    raster = np.random.default_rng(0).integers(0, 2, (50, 3)).astype(np.int8)
    for call, words in [
        (lambda: fit_neural(2 * raster), "values from 0 to 2"),
        (lambda: fit_neural([]), "rasters = "),
        (lambda: fit_neural(raster[:, 0]), "valid is"),
        (lambda: fit_neural([raster, raster[:, :2]]), "raster 1 has 2 units"),
        (lambda: fit_neural(raster, lags=(0,)), "lags = "),
        (lambda: fit_neural(raster, lags=(1, 1)), "only once"),
        (lambda: fit_neural(raster, lags=(50,)), "from 1 to 49"),
        (lambda: fit_neural(raster, ridge=-1.0), "ridge = -1.0"),
        (lambda: fit_neural(raster, test=-0.1), "test = -0.1"),
        (lambda: fit_neural(raster, unit=[1, 2]), "one integer per unit"),
        (lambda: fit_neural(np.zeros((20, 3), np.int8)), "nothing to fit"),
    ]:
        with pytest.raises(InputError, match=words):
            call()


def test_save_and_load(tmp_path):
    raster = np.random.default_rng(0).integers(0, 2, (400, 3)).astype(np.int8)
    neural, pairs = fit_neural(raster, lags=(1, 3), bin_s=0.005, unit=[7, 2, 9]), fit_pairwise(raster)
    save_fit(neural, tmp_path / "neural.h5")
    save_fit(pairs, tmp_path / "pairs.h5")
    one, two = load_fit(tmp_path / "neural.h5"), load_fit(tmp_path / "pairs.h5")
    assert (
        np.array_equal(one["A"], neural.A) and list(one["lags"]) == [1, 3] and list(one["unit"]) == [7, 2, 9]
    )
    assert np.array_equal(one["B"], [neural.B[1], neural.B[3]]) and one.json["bin_s"] == 0.005
    assert np.array_equal(two["J"], pairs.J) and np.array_equal(two["h_error"], pairs.h_error)
    assert set(one.couplings) == {"A[0,1]", "A[0,2]", "A[1,2]", "B[1]", "B[3]", "I[0]", "I[1]", "I[2]"}
    assert set(two.couplings) == {"J[0,1]", "J[0,2]", "J[1,2]", "h[0]", "h[1]", "h[2]"}
    assert "A[0,1]" in repr(neural) and two.model == "pairwise"
    with pytest.raises(InputError, match="does not live on a lattice"):
        _ = one.lattice
