"""Gibbs models: log-odds are differences of weights, conversions keep them, chains do not depend on how they run."""

import itertools

import numpy as np
import pytest

from lft._kernels import gibbs
from lft.actions import Neural
from lft.errors import DataWarning, InputError
from lft.geometry import Graph
from lft.inference.likelihood import GibbsModel, from_arrays, load_model
from lft.inference.likelihood.sampling import Chains, simulate
from lft.inference.neural_fit import fit_neural, fit_pairwise
from lft.inference.pseudo.fit import fit_gibbs
from lft.inference.result import save_fit
from lft.testing.statistics import assert_agrees


def make(seed=0, n=3, V=True, lags=2):
    rng = np.random.default_rng(seed)
    a = np.triu(rng.normal(0, 0.8, (n, n)), 1)
    C = rng.normal(0, 0.6, (lags, n, n)) if lags else None
    b = {1: 0.5, 2: -0.3} if lags else None
    return GibbsModel(rng.normal(-0.7, 0.3, n), a + a.T, rng.normal(0, 0.5, n + 1) if V else None, b, C)


def test_log_odds_are_differences_of_weights():
    model = make()
    raster = (np.random.default_rng(1).random((6, 3)) < 0.4).astype(np.int8)
    odds = model.log_odds(raster)
    for t, i in itertools.product(range(6), range(3)):
        high, low = raster.copy(), raster.copy()
        high[t, i], low[t, i] = 1, 0
        difference = model.log_weights(high).sum() - model.log_weights(low).sum()
        assert abs(odds[t, i] - difference) < 1e-12


def test_weights_are_those_of_the_action():
    """The engine's action on the same couplings: W + S is constant (zero)."""
    rng = np.random.default_rng(2)
    A = np.triu(rng.normal(0, 0.5, (4, 4)), 1)
    A, B, I = A + A.T, {1: 0.3, 3: -0.2}, rng.normal(1, 0.3, 4)
    model = from_arrays("neural", {"A": A, "B": np.array([0.3, -0.2]), "lags": np.array([1, 3]), "I": I})
    action = Neural(A=A, B=B, I=I)
    phi = action.new_field(Graph(4, 7))
    phi.values[...] = rng.random((7, 4)) < 0.5
    phi.exchange()
    assert model.log_weights(phi.values).sum() == pytest.approx(-action.action_lines(phi).sum(), abs=1e-12)


def fit_lagged(rasters):
    return fit_gibbs("lagged", rasters, k_max=2)


def fit_counted(rasters):
    return fit_gibbs("k-pairwise", rasters, is_counted=True)


@pytest.mark.parametrize("fit", [fit_pairwise, fit_neural, fit_lagged, fit_counted])
def test_models_of_fits(fit, tmp_path):
    raster = (np.random.default_rng(3).random((2000, 3)) < 0.3).astype(np.int8)
    result = fit([raster])
    save_fit(result, tmp_path / "f.h5")
    for model in (load_model(result), load_model(tmp_path / "f.h5")):
        part = model.pseudo_log_likelihood(raster[:1600])
        # the last bins of training hear the first of the test stretch: leave that row out of the comparison
        full = model.pseudo_log_likelihood(raster)[:1600]
        assert full.sum() / 4800 == pytest.approx(result.score["train"], abs=1e-12)
        assert np.allclose(part[:-2], full[:-2])
    if result.model == "pairwise":
        spins = from_arrays("pairwise", {"J": result.J, "h": result.h})
        assert np.allclose(spins.a, model.a) and np.allclose(spins.c, model.c)


def exact_means(model, n_bins):
    states = np.array(list(itertools.product([0, 1], repeat=model.n_units * n_bins))).reshape(-1, n_bins, model.n_units)
    w = model.log_weights(states).sum(axis=1)
    p = np.exp(w - w.max())
    return np.tensordot(p / p.sum(), states, 1)


@pytest.mark.parametrize("case", ["static", "space-time"])
def test_chains_have_the_exact_means(case):
    model, rows = (make(4, 6, lags=0), 1) if case == "static" else (make(5, 3), 4)
    exact = exact_means(model, rows)
    wrong = model.scaled(0.7)  # the mutant: couplings a little off
    for sampled, holds in ((model, True), (wrong, False)):
        chains = Chains(sampled, 100, rows, seed=7)
        chains.thermalize()
        total = np.zeros_like(exact)
        for _ in range(20):
            chains.sweep(8)
            total += chains.values().mean(axis=0)
        z = (total / 20 - exact) / np.sqrt(exact * (1 - exact) / (20 * 6400))
        assert (np.abs(z).max() < 4.5) == holds


def test_folded_chain_obeys_callen():
    """<phi_j (phi_i - p(phi_i | rest))> = 0 for every j elsewhere, also across the borders of lanes."""
    model = make(6)
    chains = Chains(model, 8, 5, seed=3, folded=True)
    chains.thermalize()
    sums, n = [], 40
    for _ in range(n):
        chains.sweep(6)
        for x in chains.values():
            residual = x - 1 / (1 + np.exp(-model.log_odds(x)))
            sums.append([(residual[:-1, i] * x[1:, j]).mean() for i in range(3) for j in range(3)])
    sums = np.array(sums)
    z = sums.mean(axis=0) / (sums.std(axis=0) / np.sqrt(len(sums)))
    assert np.abs(z).max() < 4.5
    assert sums.std(axis=0).max() / np.sqrt(len(sums)) < 2e-3


def test_simulation_agrees_with_chains():
    model = make(7, 2)
    long = simulate(model, 4000, seed=1, n_chains=4).astype(float)
    short = Chains(model, 32, 41, seed=2)
    short.thermalize()
    middle = short.values()[:, 20].astype(float)
    for i in range(2):
        blocks = long[:, :, i].reshape(40, -1).mean(axis=1)
        exact = middle[:, i].mean()
        error = np.hypot(blocks.std() / np.sqrt(40), middle[:, i].std() / np.sqrt(len(middle)))
        assert_agrees((blocks.mean(), error), exact, relative_error_max=0.1)


def test_same_bits_on_every_instruction_set_and_split():
    model, best = make(8, 5), gibbs.instruction_set()

    def run(words=3):
        chains = Chains(model, words, 4, seed=11)
        chains.sweep(6)
        return chains.values()

    try:
        whole = run()
        gibbs.force_instruction_set("baseline")
        assert np.array_equal(run(), whole)
    finally:
        gibbs.force_instruction_set(best)
    assert np.array_equal(run(2), whole[:128])

    class Rank:
        def __init__(self, rank):
            self.Get_rank, self.Get_size = (lambda: rank), (lambda: 2)

    parts = []
    for rank in range(2):
        chains = Chains(model, 3, 4, seed=11, comm=Rank(rank))
        chains.sweep(6)
        parts.append(chains.values())
    assert np.array_equal(np.concatenate(parts), whole)


def test_states_that_do_not_mix_are_reported():
    n = 12
    strong = GibbsModel(np.full(n, -11.0), 2.0 * (1 - np.eye(n)))
    chains = Chains(strong, 4, 1, seed=1)
    with pytest.warns(DataWarning, match="still differ"):
        chains.thermalize(maximum=64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"c": []}, "at least one"),
        ({"c": [0.0, 0.0], "a": np.ones((2, 2))}, "zero diagonal"),
        ({"c": [0.0, 0.0], "a": [[0.0]]}, "shape"),
        ({"c": [np.nan]}, "c: holds nan"),
        ({"c": [0.0], "V": [0.0]}, "V has shape"),
        ({"c": [0.0], "b": {0: 1.0}}, "lag 0"),
        ({"c": [0.0], "C": [[1.0]]}, "C has shape"),
    ],
)
def test_bad_models(arguments, message):
    with pytest.raises(InputError, match=message):
        GibbsModel(**arguments)


def test_bad_requests():
    with pytest.raises(InputError, match="n_bins = 0"):
        make().simulate(0, seed=1)
    with pytest.raises(InputError, match="values 0 and 1"):
        make().log_odds(np.full((2, 3), 2))
    with pytest.raises(InputError, match="model 'lattice'"):
        from_arrays("lattice", {})
    with pytest.raises(InputError, match="no such file"):
        load_model("absent.h5")
