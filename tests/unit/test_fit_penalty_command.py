"""``lft fit`` with penalties, bootstrap, posterior, discovery and power: what it prints, stores and refuses."""

import h5py
import numpy as np
import pytest

from lft.commands.fit_penalty import Plan
from lft.inference.result import load_fit
from tests.helpers import load_json, run_lft
from tests.objectives import ising_exact

ONE = "r.npy --bin 10ms --overwrite --model pairwise -o f.h5 --json f.json"


@pytest.fixture
def fit(lft_main):
    """Run ``lft fit`` on 4 units of which 0 and 1 are coupled; returns (JSON, arrays, text)."""
    j = np.zeros((4, 4))
    j[0, 1] = j[1, 0] = 0.25
    np.save("r.npy", ising_exact(j, np.full(4, -0.5), 2500, np.random.default_rng(3)).T)

    def run(options, line=ONE):
        out = lft_main(f"fit {line} {options}")
        with h5py.File("f.h5") as file:
            return load_json("f.json"), {name: file[name][()] for name in file}, out.out

    return run


def test_penalties_store_path_scores_and_selection(fit):
    free, _, _ = fit("")
    for kind in ("l1", "l2", "group"):
        data, arrays, text = fit(f"--penalty {kind} --folds 3")
        penalty = data["penalty"]
        assert penalty["kind"] == kind and penalty["cross_validation"]["folds"] == 3 and f"penalty: {kind} at" in text
        n = len(penalty["path"]["strengths"])
        assert arrays["penalty_path_theta"].shape == (n, 10) and arrays["penalty_cv_scores"].shape == (3, n)
        best = int(np.argmax(arrays["penalty_cv_scores"].mean(axis=0)))
        assert penalty["strength"] == pytest.approx(arrays["penalty_path_strengths"][best])
        value, error = (data["couplings"]["J[0,1]"][k] for k in ("value", "error"))
        assert abs(value - 0.25) < 4.5 * error
        assert value < free["couplings"]["J[0,1]"]["value"] + 1e-9  # shrunk
        assert arrays["penalty_theta"][:6] == pytest.approx(4 * arrays["J"][np.triu_indices(4, 1)], abs=1e-12)
        assert arrays["penalty_theta_error"][0] == pytest.approx(4 * error)
    assert np.isin([b"a[0,1]", b"c[3]"], arrays["parameter_names"]).all()


def test_a_penalized_fit_can_be_simulated(fit, lft_main):
    fit("--penalty l1 --strength 2.0 --refit")
    lft_main("run f.h5 -o a.h5 --set run.updates=200")
    assert load_json_of(lft_main, "analyze a.h5")["observables"]


def load_json_of(lft_main, line):
    lft_main(f"{line} --json out.json")
    return load_json("out.json")


def test_discovery_finds_the_one_coupling(fit):
    for options in ("", "--procedure storey", "--surrogates 25", "--penalty l1 --strength 1.0"):
        data, arrays, text = fit(f"--discovery 0.05 {options}")
        assert [n[1:] for n in data["discovery"]["found"]] == ["[0,1]"] and "discovery: 1 of 6 couplings" in text
        table = arrays["discovery_found_table"]
        assert table[0, 1] and table[1, 0] and table.sum() == 2
        assert np.array_equal(arrays["discovery_z_table"], arrays["discovery_z_table"].T)
    data, _, _ = fit("--discovery 0.05 --surrogates 6")
    assert data["discovery"]["null_draws"] == 36 and not data["discovery"]["found"]
    assert any("a null of 36 draws cannot show" in w and "--surrogates 20" in w for w in data["warnings"])


def test_bootstrap_posterior_and_power(fit):
    data, arrays, text = fit("--bootstrap 30 --posterior 60 --power 0.05")
    assert 0.6 < data["bootstrap"]["ratio_to_sandwich"] < 1.6 and "bootstrap: 30 samples" in text
    error = 4 * data["couplings"]["J[0,1]"]["error"]
    assert 0.5 < arrays["posterior_sd"][0] / error < 1.6 and arrays["posterior_samples"].shape == (4, 60, 10)
    assert data["posterior"]["divergences"] == 0 and "posterior: 4 x 60 samples" in text
    errors = np.array([c["error"] for n, c in data["couplings"].items() if n[0] == "J"])
    needed = ((1.959964 + 0.841621) * errors / 0.05) ** 2 * data["n_train"]
    assert data["power"]["median_bins"] == pytest.approx(np.median(needed), rel=1e-5) and "power: coupling 0.05" in text
    assert all(0.4 < r < 1.8 for r in data["power_scaling"].values()) and "halves" in text
    assert data["identifiability"]["gauge"] and data["identifiability"]["weak"] == []


@pytest.mark.parametrize("options", ["--ridge 600", "--penalty l2 --strength 150", "--penalty l1 --strength 6"])
def test_bootstrap_repeats_the_penalized_fit(fit, options, monkeypatch):
    """Samples scatter about the penalized estimate with its error; mutant: samples fitted without the penalty."""
    arrays = fit(f"{options} --bootstrap 40")[1]
    theta, error = 4 * arrays["J"][np.triu_indices(4, 1)], arrays["bootstrap_error"][:6]
    used = [0] if "l1" in options else slice(0, 6)  # a coupling that is zero in many samples has a lopsided interval

    def distance(found):
        middle = (found["bootstrap_low"] + found["bootstrap_high"])[:6] / 2
        return np.abs((middle - theta)[used] / error[used]).max()

    assert distance(arrays) < 0.7
    if "ridge" in options:  # the errors of the others hold their bias
        expected = 4 * arrays["J_error"][np.triu_indices(4, 1)]
        assert error / expected == pytest.approx(1, abs=4.5 / np.sqrt(2 * 40))
    monkeypatch.setattr(Plan, "_again", lambda *args, **more: {})
    assert distance(fit(f"{options} --bootstrap 40")[1]) > 1.5


def test_silent_and_duplicate_units_under_a_penalty(lft_main):
    rng = np.random.default_rng(0)
    x = (rng.random((4, 800)) < 0.2).astype(np.int8)
    x[1] = 0
    x[3] = x[0]
    np.save("r.npy", x)
    err = lft_main(f"fit {ONE} --penalty l2 --strength 5").err
    data = load_json("f.json")
    assert set(data["unbounded"]) == {"I[1]", "A[0,1]", "A[1,2]", "A[1,3]"} and "unit" in err
    assert all(np.isfinite(c["value"]) for c in data["couplings"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--penalty lasso", "--penalty 'lasso': valid are l1, l2, group"),
        ("--penalty l1 --model lattice", "--penalty: valid for the models pairwise"),
        ("--penalty l1 --ridge 3", "--penalty l1 and --ridge 3: valid is one of them"),
        ("--penalty l1 --strength big", "--strength 'big': valid is auto or a number > 0"),
        ("--penalty l1 --strength 0", "--strength '0': valid is auto or a number > 0"),
        ("--penalty l1 --strength 1 --folds 3", "--rule and --folds have nothing to choose"),
        ("--penalty l1 --folds 1", "--folds 1: valid is an integer >= 2"),
        ("--penalty l1 --rule mean", "--rule 'mean': valid are best, one-se"),
        ("--penalty l2 --refit", "--refit and --mix are for l1 and group"),
        ("--penalty l1 --mix 1.5", "--mix 1.5: valid is a number, 0 <= mix < 1"),
        ("--strength 3", "--strength: needs --penalty"),
        ("--bootstrap 1", "--bootstrap 1: valid is an integer >= 2"),
        ("--bootstrap 10 --model lattice", "--bootstrap: valid for the models pairwise, neural"),
        ("--posterior 100 --penalty l2", "valid is one of them"),
        ("--posterior 100 --prior flat", "prior 'flat': valid are gaussian, laplace, hierarchical"),
        ("--posterior 100 --prior gaussian:wide", "--prior 'gaussian:wide': valid is NAME or NAME:SCALE"),
        ("--prior laplace", "--prior: needs --posterior"),
        ("--discovery 1.2", "--discovery 1.2: valid is a rate, 0 < Q < 1"),
        ("--discovery 0.1 --procedure holm", "--procedure 'holm': valid are bh, by, storey"),
        ("--surrogates 5", "--surrogates: needs --discovery"),
        ("--discovery 0.1 --penalty l2", "--discovery: l2 shrinks every coupling"),
        ("--posterior 100 --ridge 2", "--posterior and --ridge 2: the posterior of pairwise is adjusted at"),
        ("--power 0.1 --penalty l1", "--power and --penalty l1: errors of a penalized fit do not fall"),
        ("--power 0", "--power 0: valid is the size of a coupling, > 0"),
    ],
)
def test_bad_input(options, message, lft_main):
    np.save("r.npy", (np.random.default_rng(0).random((3, 300)) < 0.3).astype(np.int8))
    err = lft_main(f"fit {ONE} {options}", code=2).err
    assert message in err and err.count("\n") == 1


def test_any_number_of_ranks_gives_the_same(tmp_path):
    np.save(tmp_path / "r.npy", (np.random.default_rng(0).random((4, 600)) < 0.3).astype(np.int8))
    forms = []
    for ranks in (None, 2):
        line = f"fit r.npy --bin 10ms --model pairwise -o f{ranks}.h5 --json f.json --penalty l1 --folds 3"
        done = run_lft(f"{line} --bootstrap 4 --discovery 0.1".split(), tmp_path, ranks)
        assert done.returncode == 0, done.stderr
        data = load_json(tmp_path / "f.json")
        data.pop("seconds")
        with h5py.File(tmp_path / f"f{ranks}.h5") as file:
            forms.append((data, {name: file[name][()] for name in file if file[name].dtype.kind == "f"}))
    assert forms[0][0] == forms[1][0]
    assert all(np.array_equal(v, forms[1][1][k], equal_nan=True) for k, v in forms[0][1].items())


def test_couplings_without_an_error_are_neither_tested_nor_bootstrapped_in_silence(lft_main, tmp_path):
    x = (np.random.default_rng(1).random((2500, 4)) < 0.25).astype(np.int8)
    x[:, 1] &= 1 - x[:, 0]  # never together
    np.savez("held.npz", raster=x.T, bin_s=0.02)
    lft_main("fit held.npz --model pairwise --discovery 0.1 --bootstrap 12 -o f.h5")
    stored = load_fit("f.h5")
    assert any("1 couplings have no error and are not tested" in w and "J[0,1]" in w for w in stored.json["warnings"])
    at = stored["parameter_names"].astype(str).tolist().index("a[0,1]")
    assert np.flatnonzero(np.isnan(stored["bootstrap_error"])).tolist() == [at]
    assert np.isnan(stored["J_error"][0, 1]) and np.isfinite(stored["J_error"][2, 3])
