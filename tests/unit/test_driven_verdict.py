"""Fits with inputs that change in time: simulated, scored, checked and ranked under the same inputs."""

import itertools

import numpy as np
import pytest
from scipy import stats

from lft.cli import main
from lft.errors import InputError
from lft.inference.causal.model import CausalModel
from lft.inference.likelihood import GibbsModel, exact
from lft.inference.verdict import checks, driven
from lft.inference.verdict.checks import check_model
from lft.inference.verdict.driven import DrivenModel
from tests.helpers import load_json

RNG = np.random.default_rng(3)
N, BINS = 2, 5
A = np.array([[0, 0.8], [0.8, 0]])
C, U, X = RNG.normal(-0.5, 0.3, N), RNG.normal(0, 1, (N, 2)), RNG.normal(0, 1, (BINS, 2))
LATE = RNG.normal(0, 0.7, (2, N, N))
MODELS = {
    "pairwise": GibbsModel(C, A),
    "k-pairwise": GibbsModel(C, A, [0, 0.2, -0.4]),
    "neural": GibbsModel(C, A, None, {1: 0.4, 2: -0.3}),
    "lagged": GibbsModel(C, A, None, None, LATE),
}
STATES = np.array(list(itertools.product([0, 1], repeat=N * BINS))).reshape(-1, BINS, N)


def weights(gibbs):
    return np.array([gibbs.log_weights(s).sum() + (s * (X @ U.T)).sum() for s in STATES])


@pytest.mark.parametrize("name", MODELS)
def test_scores_against_enumeration(name):
    gibbs = MODELS[name]
    w = weights(gibbs)
    log_p = w - np.logaddexp.reduce(w)
    model = DrivenModel(gibbs, U, X)
    for k in range(0, len(STATES), 37):
        found = model.log_likelihood([STATES[k]], [[0, 2, BINS]])
        assert found.value == pytest.approx(log_p[k], abs=1e-10) == found.blocks.sum() and found.error == 0
    wrong = DrivenModel(gibbs, U, np.roll(X, 1, axis=0)).log_likelihood([STATES[37]]).value
    assert abs(wrong - log_p[37]) > 0.01  # the mutant: a bin late


def test_conditionals_are_those_of_the_weight():
    model, w = DrivenModel(MODELS["lagged"], U, X), weights(MODELS["lagged"])
    for k in (5, 700):
        z = model.log_odds(STATES[k])
        for place in range(N * BINS):
            bit = 1 << (N * BINS - 1 - place)
            assert z.ravel()[place] == pytest.approx(w[k | bit] - w[k & ~bit], abs=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_copies_have_the_rates_of_every_bin(name):
    """Stretches of 5 bins, one after the other with 60 silent bins of strong inhibition between: each is one draw."""
    gibbs, gap, copies = MODELS[name], 3, 4000
    silence = np.full((gap, 1), -1.0)
    block = np.block([[X, np.zeros((BINS, 1))], [np.zeros((gap, 2)), silence]])
    u = np.column_stack([U, np.full(N, 30.0)])  # -30 between
    w = weights(gibbs)
    p = np.exp(w - np.logaddexp.reduce(w))
    expected = np.einsum("s,sai->ai", p, STATES)

    def z(columns):
        x = DrivenModel(gibbs, u, np.tile(columns, (copies, 1))).simulate(copies * (BINS + gap), seed=4)[0]
        mean = x.reshape(copies, BINS + gap, N)[:, :BINS].mean(axis=0)
        return (mean - expected) / np.sqrt(expected * (1 - expected) / copies)

    assert np.abs(z(block)).max() < 4.5
    late = block.copy()
    late[:BINS, :2] = np.roll(X, 1, axis=0)
    assert np.abs(z(late)).max() > 10  # the mutant


def test_sampled_normalization(monkeypatch):
    n = 8
    a = np.triu(RNG.normal(0, 0.5, (n, n)), 1)
    model = DrivenModel(GibbsModel(np.full(n, -1.0), a + a.T), RNG.normal(0, 1, (n, 1)), np.arange(40)[:, None] % 3)
    x = model.simulate(40, seed=1)
    true = model.log_likelihood(x)
    monkeypatch.setattr(exact, "MAX_UNITS", 4)
    found = model.log_likelihood(x)
    assert 0 < found.error < 0.02 * abs(true.value) and abs(found.value - true.value) < 4.5 * found.error
    monkeypatch.setattr(driven, "MAX_SAMPLED", 2)
    with pytest.raises(InputError, match="3 different inputs in the 40 bins"):
        model.log_likelihood(x)


def test_units_alone_under_inputs():
    """A column of 0 and 1: rates in both kinds of bins, but for the prior; a unit silent in one of them is held."""
    inputs = (np.arange(6000) % 5 == 0).astype(float)[:, None]
    rate = np.array([[0.1, 0.3], [0.4, 0.0]])  # without, with
    x = (np.random.default_rng(0).random((6000, 2)) < rate[:, inputs[:, 0].astype(int)].T).astype(np.int8)
    model = driven.independent([x], inputs)
    z = model.log_odds(x[:5])[[1, 0]]  # without, with
    seen = np.array([x[inputs[:, 0] == k].mean(axis=0) for k in (0, 1)])
    assert np.allclose(1 / (1 + np.exp(-z[:, 0])), seen[:, 0], atol=1e-3)
    assert 1 / (1 + np.exp(-z[0, 1])) == pytest.approx(seen[0, 1], abs=1e-3) and -20 < model.weights[1, 0] < -5
    assert driven.over(model, 3, 8).inputs.tolist() == inputs[3:8].tolist()


def flashes(seed, bins=3000, n=4):
    """A model of 4 units that flashes drive, and one stretch of it."""
    rng = np.random.default_rng(seed)
    a = np.triu(rng.normal(0, 0.5, (n, n)), 1)
    inputs = (rng.random((bins, 1)) < 0.1).astype(float)
    model = DrivenModel(GibbsModel(np.full(n, -1.5), a + a.T), np.full((n, 1), 2.0), inputs)
    return model, model.simulate(bins, seed=seed)[0]


def test_checks_under_inputs():
    model, x = flashes(1)
    right = check_model(model, x, n_labels=2000, seed=2)
    assert right.failed == [] and right.n_stretches == (30, 60)
    without = GibbsModel(np.log(x.mean() / (1 - x.mean())) * np.ones(4), model.gibbs.a)
    assert "P(K)" in {right[k].label for k in check_model(without, x, n_labels=2000, seed=2).failed}
    chain = CausalModel(np.full(4, -1.5), np.zeros((1, 4, 4)), "logit", model.inputs, model.weights)
    assert check_model(chain, chain.simulate(3000, seed=5), n_labels=2000, seed=2).failed == []
    with pytest.raises(InputError, match="multiple of the 30 recorded"):
        check_model(model, x, n_stretches=50)
    with pytest.raises(InputError, match="2 trials"):
        check_model(model, [x, x])


@pytest.mark.validate
def test_p_values_under_inputs_are_uniform(monkeypatch):
    """Bursts of input in few stretches: matched labels are calibrated, labels dealt out to all are not."""
    keys = ("rates", "pairs", "count")

    def p_values(seeds):
        out = []
        for seed in seeds:
            model, _ = flashes(seed)
            inputs = model.inputs * (np.arange(3000) % 1500 < 300)[:, None]
            model = DrivenModel(model.gibbs, model.weights * 1.5, inputs)
            found = check_model(model, model.simulate(3000, seed=seed + 500)[0], n_labels=2000, seed=seed)
            out.append([c.p for c in found.checks[:3]])
        return np.array(out)

    matched = p_values(range(60))
    assert all(stats.kstest(column, "uniform").pvalue > 1e-3 for column in matched.T), keys
    monkeypatch.setattr(checks, "_matched_labels", lambda n, copies, *more: checks._labels(n, n * copies, *more))
    assert stats.kstest(p_values(range(60))[:, 0], "uniform").pvalue < 1e-4


def written(tmp_path, gibbs, weights, bins, seed):
    """A recording under flashes of 3 bins."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.choice(bins - 5, bins // 30, replace=False))
    inputs = np.zeros((bins, 1))
    for a in at:
        inputs[a : a + 3] = 1
    x = DrivenModel(gibbs, weights, inputs).simulate(bins, seed=seed)[0]
    path = tmp_path / "r.npz"
    np.savez(path, raster=x.T.astype(bool), bin_s=0.02, events_s=at * 0.02 + 1e-6)
    return path


def fitted(path, tmp_path, *more):
    out = tmp_path / "f.h5"
    line = ["fit", path, "-o", out, "--overwrite", "--json", tmp_path / "f.json", "--input", "events:3:0 ms,60 ms"]
    assert main([str(part) for part in (*line, *more)]) == 0
    return load_json(tmp_path / "f.json")


def test_the_command_compares_and_checks_under_inputs(tmp_path, capsys):
    gibbs = GibbsModel(np.full(4, -1.5), 0.8 * (1 - np.eye(4)))
    path = written(tmp_path, gibbs, np.array([[2.0], [1.0], [0.0], [-1.0]]), 6000, 1)
    found = fitted(path, tmp_path, "--compare", "pairwise,kinetic", "--check")
    ranking = found["ranking"]
    assert ranking["selected"] == found["model"] == "pairwise" and found["checks"]["failed"] == []
    number = {m["model"]: m["n_parameters"] for m in ranking["models"]}
    assert number["independent"] == 4 * (1 + 3)
    alone = written(tmp_path, GibbsModel(np.full(4, -1.5)), np.full((4, 1), 2.0), 3000, 2)
    found = fitted(alone, tmp_path, "--compare", "pairwise")
    assert found["ranking"]["selected"] == "independent"  # common input is no coupling
    assert any("inputs and no couplings" in w for w in found["warnings"])
    capsys.readouterr()


@pytest.mark.validate
@pytest.mark.parametrize("family", ["pairwise", "lagged", "independent"])
def test_the_right_family_wins_under_inputs(family, tmp_path, capsys):
    wins = 0
    for seed in range(20):
        rng = np.random.default_rng(900 + seed)
        a = np.triu(rng.normal(0, 0.6, (5, 5)), 1)
        late = rng.normal(0, 0.6, (1, 5, 5)) if family == "lagged" else None
        gibbs = GibbsModel(rng.normal(-1.5, 0.3, 5), None if family == "independent" else a + a.T, None, None, late)
        path = written(tmp_path, gibbs, rng.normal(1, 1, (5, 1)), 12000, seed)
        found = fitted(path, tmp_path, "--compare", "pairwise,lagged,kinetic")
        wins += found["ranking"]["selected"] == family
        capsys.readouterr()
    assert wins >= 19


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--events", "nan.txt", "--input", "events:2:0 ms,40 ms"], "event 1 is at nan"),
        (["--events", "late.txt", "--input", "events:2:0 ms,40 ms"], "no event reaches into the recording of 600 bins"),
        (["--input", "covariates:ones.npy"], "column 0 is 1 in all 480 training bins"),
        ("--input smooth:3 --discovery 0.1 --surrogates 2 --trials=0s,1s".split(), "--surrogates: not together"),
    ],
)
def test_inputs_that_say_nothing(more, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((3, 600)) < 0.3
    np.savez("r.npz", raster=x, bin_s=0.02)
    (tmp_path / "nan.txt").write_text("0.5\nnan\n")
    (tmp_path / "late.txt").write_text("1000\n")
    np.save("ones.npy", np.ones(600))
    assert main(["fit", "r.npz", "--model", "pairwise", "-o", "f.h5", *more]) == 2
    assert words in capsys.readouterr().err


def test_a_family_that_cannot_be_fitted_stops_no_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((4, 2000)) < 0.3
    x[3] = x[1]
    np.savez("r.npz", raster=x, bin_s=0.02)
    line = ["fit", "r.npz", "--compare", "pairwise,kinetic", "-o", "f.h5", "--json", "f.json"]
    assert main(line) == 0
    found = load_json("f.json")["ranking"]
    assert found["selected"] == "pairwise" and "same bins" in found["failed"]["kinetic"]
    line[3] = "kinetic"
    assert main([*line, "--overwrite"]) == 2
    capsys.readouterr()
