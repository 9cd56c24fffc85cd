"""``lft fit`` by pseudo-likelihood: what it says of the joint distribution, fits of given rank, V beyond all counts."""

import h5py
import numpy as np
import pytest

from lft.inference.likelihood import GibbsModel, exact, load_model
from lft.inference.likelihood.counts import continued
from lft.inference.likelihood.joint import second_state
from tests.helpers import load_json

N = 12


def sparse(n_bins=6000, seed=3):
    """Nine bins of ten are silent, the others have up to four spikes of any units: pairs excite, none fires more."""
    rng = np.random.default_rng(seed)
    count = rng.choice(5, n_bins, p=[0.9, 0.05, 0.03, 0.015, 0.005])
    return (rng.random((n_bins, N)).argsort(axis=1).argsort(axis=1) < count[:, None]).astype(np.int8)


def log_likelihood(model, raster):
    """Nats per bin, by the sum over all states."""
    return model.log_weights(raster).mean() - exact.probabilities(model)[1]


@pytest.fixture
def fit(lft_main):
    def run(line, raster=None):
        np.save("r.npy", (sparse() if raster is None else raster).T)
        lft_main(f"fit r.npy --bin 10ms -o f.h5 --json f.json --overwrite {line}")
        with h5py.File("f.h5") as file:
            return load_json("f.json"), {name: file[name][()] for name in file}

    return run


def test_the_potential_goes_on_beyond_all_counts(fit):
    raster = sparse()
    data, arrays = fit("--model k-pairwise --test 0")
    top = int(raster.sum(axis=1).max())
    model = load_model("f.h5")
    p = np.bincount(exact.spike_counts(N), weights=exact.probabilities(model)[0], minlength=N + 1)
    assert top == 4 and p[top + 1 :].sum() < 3 / len(raster) and np.isnan(arrays["V_error"][top + 1 :]).all()
    assert any(f"V above {top}," in w for w in data["warnings"])
    good = log_likelihood(model, raster)
    alone = GibbsModel(np.log(raster.mean(axis=0) / (1 - raster.mean(axis=0))))
    assert good > log_likelihood(alone, raster)
    # the score is that of the V in the file
    assert data["score"]["train"] == pytest.approx(model.pseudo_log_likelihood(raster).mean() / N, abs=1e-9)
    flat = arrays["V"].copy()
    flat[top + 1 :] = flat[top]  # the mutant: V constant where no count tells it
    assert log_likelihood(GibbsModel(model.c, model.a, flat), raster) < good - 0.1


def test_no_unit_is_more_likely_beyond_all_counts_than_alone():
    rng = np.random.default_rng(2)
    a = np.triu(rng.normal(0.5, 1, (9, 9)), 1)
    a, c = a + a.T, rng.normal(-2, 1, 9)
    x = np.eye(9, dtype=int)[[0, 1, 1]] + np.eye(9, dtype=int)[[2, 3, 4]]
    V = continued(c, a, [x])
    assert not V[:3].any() and (np.diff(V)[2:] <= 0).all()
    states = np.array([s for s in np.ndindex(*(2,) * 9) if sum(s) > 2])
    odds = GibbsModel(c, a, V).log_odds(states)
    assert (odds <= np.maximum(c, 0) + 1e-12).all()
    assert (GibbsModel(c, a).log_odds(states) > c + 1).any()


def test_a_second_state_is_said_in_one_line(fit):
    raster = sparse()
    data, _ = fit("--model pairwise", raster)
    lines = [w for w in data["warnings"] if "second state" in w or "chains settle" in w]
    found = load_model("f.h5")
    joint = exact.probabilities(found)[0] @ exact.spike_counts(N)
    assert joint > 2 * raster.sum(axis=1).mean()  # what the line is about, by the sum over all states
    assert len(lines) == 1 and "--penalty l2 or --method boltzmann" in lines[0]
    quiet, _ = fit("--model pairwise", (np.random.default_rng(4).random((6000, N)) < 0.1).astype(np.int8))
    assert not any("joint" in w for w in quiet["warnings"])


def test_the_look_is_quiet_for_right_models_of_every_kind():
    rng = np.random.default_rng(4)
    a = np.triu(rng.normal(0, 0.4, (8, 8)), 1)
    parts = {"a": a + a.T}, {"V": -0.1 * np.arange(9.0) ** 2}, {"b": {1: 0.8}}, {"C": rng.normal(0, 0.3, (2, 8, 8))}
    for part in parts:
        model = GibbsModel(rng.normal(-1.5, 0.5, 8), **part)
        rate = model.simulate(4000, seed=5)[0].sum(axis=1).mean()
        assert second_state(model, rate) is None
        assert "spikes per bin" in second_state(model, 3 * rate)  # the mutant: another recording


def test_a_rank_is_a_command(fit, lft_main):
    rng = np.random.default_rng(6)
    xi = rng.uniform(0.3, 0.6, 8)
    J = np.outer(xi, xi) * (1 - np.eye(8))
    model = GibbsModel(-2 * J.sum(axis=1) - 0.6, 4 * J)
    raster = model.simulate(6000, seed=7)[0]
    data, arrays = fit("--model pairwise --rank 1", raster)
    again = np.einsum("r,ri,rj->ij", arrays["signs"], arrays["patterns"], arrays["patterns"])
    upper = np.triu_indices(8, 1)
    assert np.allclose(arrays["J"][upper], again[upper], atol=1e-12) and data["rank"] == 1
    assert np.abs((arrays["J"] - J)[upper] / arrays["J_error"][upper]).max() < 4.5
    full, free = fit("--model pairwise", raster)
    assert arrays["J_error"][upper].mean() < 0.8 * free["J_error"][upper].mean()
    assert data["score"]["test"] > full["score"]["test"] - 1e-3
    lft_main("run f.h5 -o a.h5 --set lattice.bins=10 --set run.updates=20 --set run.thermalize=5 --quiet")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--model pairwise --rank 0", "rank = 0: valid is an integer from 1 to 11"),
        ("--model pairwise --rank 12", "rank = 12"),
        ("--model neural --rank 1", "--rank 1: valid for --model pairwise"),
        ("--model pairwise --method tap --rank 1", "--rank 1: valid for --model pairwise by --method pseudo"),
        ("--model pairwise --rank 1 --ridge 2", "--rank 1: not together with --ridge"),
        ("--model pairwise --rank 1 --penalty l2", "--rank 1: not together with --penalty"),
        ("--compare pairwise --rank 1", "--rank 1: not together with --compare"),
    ],
)
def test_bad_ranks_are_one_line(lft_main, line, words):
    np.save("r.npy", sparse(300).T)
    err = lft_main(f"fit r.npy --bin 10ms -o f.h5 {line}", 2).err
    assert words in err and err.count("\n") == 1
