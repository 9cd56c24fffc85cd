"""Commands on recordings: lft fit and lft flow, their files and JSON forms, key by key."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from lft.archive import Archive
from tests.helpers import ISING, load_json, noise, save_recording


@pytest.mark.parametrize("form", ["npz", "npy", "h5", "spikes.npz"])
@pytest.mark.parametrize("model", ["independent", "lattice", "neural", "pairwise"])
def test_fit_holds_what_the_contract_names(model, form, lft_main):
    if form == "npy" and model in ("lattice", "independent"):
        return  # a bare raster has no positions
    raster = noise(6, 500)
    arguments = save_recording(form, raster)
    lft_main(f"fit {arguments} --model {model} -o f.h5 --json f.json")
    data = load_json("f.json")
    assert {"model", "method", "couplings", "score", "n_units", "n_bins", "bin_s", "seconds"} <= set(data)
    assert (data["model"], data["method"], data["n_units"], data["n_bins"]) == (model, "pseudo", 6, 500)
    assert data["bin_s"] == pytest.approx(0.02, rel=1e-12)
    assert set(data["score"]) >= {"kind", "train", "test", "test_independent"}
    assert data["score"]["kind"] in ("pseudo-log-likelihood", "log-likelihood")
    assert all(set(c) == {"value", "error"} for c in data["couplings"].values())
    if model == "lattice":
        assert set(data["couplings"]) == {"K[1,0,0]", "K[0,1,0]", "K[0,0,1]"}
    if model == "independent":
        assert data["score"]["test"] == pytest.approx(data["score"]["test_independent"], rel=1e-12)
    with h5py.File("f.h5") as file:
        assert json.loads(file.attrs["json"]) == data
        if model in ("neural", "pairwise"):
            assert file["unit"][()].tolist() == [0, 1, 2, 3, 4, 5]
            A, I = file["A"][()], file["I"][()]
            assert (
                A.shape == (6, 6) and np.array_equal(A, A.T) and not np.diagonal(A).any() and I.shape == (6,)
            )
        if model == "neural":
            assert file["B"].shape == (1,) and file["lags"][()].tolist() == [1]
        if model == "pairwise":
            J, h = file["J"][()], file["h"][()]
            assert (
                np.array_equal(J, J.T) and file["J_error"].shape == (6, 6) and file["h_error"].shape == (6,)
            )
            np.testing.assert_allclose(J, -A / 2, atol=1e-14)
            np.testing.assert_allclose(h, -I / 2 - A.sum(axis=1) / 2, atol=1e-12)


def test_the_score_is_that_of_the_last_part(lft_main):
    """Independent units: both scores computed anew from counts."""
    raster = noise(6, 500)
    lft_main(f"fit {save_recording('npz', raster)} --model independent -o f.h5 --json f.json --test 0.3")
    score, values = load_json("f.json")["score"], raster.astype(float)
    p = values[:, :350].mean(axis=1, keepdims=True)
    log = np.where(values, np.log(p), np.log(1 - p))
    assert score["train"] == pytest.approx(log[:, :350].mean(), rel=1e-9)
    assert score["test"] == pytest.approx(log[:, 350:].mean(), rel=1e-9)


def test_options_select_units_and_times(lft_main):
    raster = noise(6, 500)
    arguments = save_recording("h5", raster)
    lft_main(
        f"fit {arguments} --model neural -o f.h5 --json f.json --units 1,3-5 --window 2,8 --reach 0,2 "
        "--test 0"
    )
    data = load_json("f.json")
    assert (data["n_units"], data["n_bins"], data["score"]["test"]) == (4, 300, None)
    with h5py.File("f.h5") as file:
        assert file["unit"][()].tolist() == [1, 3, 4, 5] and file["lags"][()].tolist() == [1, 2]
    arguments = save_recording("npz", raster)
    _, err = lft_main(
        f"fit {arguments} --model neural -o g.h5 --json g.json --units 1,3-5 --bin 40ms --reach 0,0"
    )
    with h5py.File("g.h5") as file:
        assert file["unit"][()].tolist() == [1, 3, 4, 5] and file["B"].shape == (0,)
    assert load_json("g.json")["n_bins"] == 250
    assert "spikes" in err and "clipped" in err and "DataWarning" not in err
    lft_main(f"fit {arguments} --bin 20ms -o d.h5 --json d.json --diagonals")
    assert len(load_json("d.json")["couplings"]) == 13


@pytest.mark.parametrize("model", ["lattice", "independent", "neural", "pairwise"])
def test_what_fit_writes_can_be_simulated(model, lft_main):
    raster = noise(6, 300)
    lft_main(f"fit {save_recording('npz', raster)} --model {model} -o f.h5")
    short = (
        "--quiet --set run.thermalize=5 --set run.updates=20 --set run.measure_every=5 --set run.save_every=5"
    )
    lft_main(f"run f.h5 -o a.h5 {short}")
    lft_main("analyze a.h5 --json a.json")
    action = "ising" if model in ("lattice", "independent") else "neural"
    Path("run.toml").write_text(
        f'seed = 1\n[action]\nname = "{action}"\ncouplings = "f.h5"\n[update]\nname = "heatbath"\n'
        '[run]\nstart = "silent"\n'
    )
    lft_main(f"run run.toml -o b.h5 {short}")
    lft_main("analyze b.h5 --json b.json")
    a, b = load_json("a.json"), load_json("b.json")
    assert (a["field_sha256"], a["series_sha256"]) == (b["field_sha256"], b["series_sha256"])
    lft_main(f"run run.toml -o c.h5 {short} --set lattice.bins=50")
    with Archive("a.h5") as whole, Archive("c.h5") as short_one:
        assert whole.geometry.n_sites == 6 * 300 and short_one.geometry.n_sites == 6 * 50
        assert whole.geometry.quantity("t").si == pytest.approx(0.02)
    lft_main("resume a.h5 --quiet --updates 5")


# ---- flow
@pytest.mark.parametrize("source", ["archive", "recording"])
def test_flow_holds_what_the_contract_names(source, lft_main):
    if source == "archive":
        Path("run.toml").write_text(ISING)
        lft_main("run run.toml -o a.h5 --quiet --set lattice.shape=[4,4,24] --set run.updates=100")
        out, err = lft_main("flow a.h5 -o f.h5 --json f.json --levels 1")
        assert "majority" in err
    else:
        out, err = lft_main(
            f"flow {save_recording('h5', noise(6, 500))} -o f.h5 --json f.json --factor 1,1,2 --levels 2"
        )
        assert "blocking: or" in err
    data = load_json("f.json")
    scales = [level["scale"] for level in data["levels"]]
    assert scales == ([[1, 1, 1], [2, 2, 2]] if source == "archive" else [[1, 1, 1], [1, 1, 2], [1, 1, 4]])
    for level in data["levels"]:
        assert set(level["couplings"]) == {"K[1,0,0]", "K[0,1,0]", "K[0,0,1]", "h"}
        assert "density" in level["observables"]
        for value in [*level["couplings"].values(), *level["observables"].values()]:
            assert set(value) == {"value", "error"}
    with h5py.File("f.h5") as file:
        assert json.loads(file.attrs["json"]) == data
        assert file["scale"][()].tolist() == scales
    assert "scale" in out and "K[1,0,0]" in out
    lft_main("flow a.h5 -o f.h5" if source == "archive" else "flow r.h5 --bin 20ms -o f.h5", code=2)


def test_phenomenological_flow_holds_what_the_contract_names(lft_main):
    common = np.random.default_rng(3).random(1000) < 0.2
    spikes = np.random.default_rng(4).random((16, 1000)) < 0.05 + 0.3 * common
    np.savez("r.npz", raster=spikes, bin_s=0.02)
    line = "flow r.npz --method prg -o f.h5 --json f.json --plot f.png --bins 40ms --units 0-15 --blocks 8"
    out, err = lft_main(line)
    data = load_json("f.json")
    assert {"alpha", "beta", "mu", "z"} <= set(data["exponents"])
    assert set(data["nulls"]) == {"shuffled", "circular", "independent", "latent"}
    for entries in (data["exponents"], *data["nulls"].values()):
        assert all({"value", "error"} <= set(entries[name]) for name in ("alpha", "beta", "mu", "z"))
    assert data["exponents"]["alpha"]["value"] > 1.2 > 1.1 > data["nulls"]["circular"]["alpha"]["value"]
    verdict = data["verdicts"]["shuffled"]["alpha"]
    assert verdict["verdict"] == "differs" and verdict["p_value"] == 0.05 and verdict["distance"] > 5
    assert data["exponents"]["z"]["value"] is None and data["exponents"]["z"]["notes"]  # white in time: said
    assert [level["scale"] for level in data["levels"]] == [[1], [2], [4]]
    assert [b["bin_s"] for b in data["bin_sweep"]] == [0.02, 0.04]
    for text in ("alpha differs from shuffled", "z cannot be compared", "40 ms", "expected by chance"):
        assert text in out, text
    assert "fewer than 2 levels" in err
    with h5py.File("f.h5") as file:
        assert json.loads(file.attrs["json"]) == data
        scale, value, error = file["bin_0/curves/variance"][()].T
        assert scale.tolist() == [1, 2, 4] and (error > 0).all()
        assert value[0] == pytest.approx(data["levels"][0]["variance"]["value"])
        assert file["bin_0/nulls/latent/variance"].shape == (3, 2) and file["bin_1/replicas/variance"].shape[1] == 3
    lft_main("flow r.npz --method prg -o f.h5 --surrogates 0", code=2)
    for name, seed in ("g", 5), ("h", 5), ("i", 6):
        lft_main(f"flow r.npz --method prg -o {name}.h5 --json {name}.json --surrogates 3 --pairing same --seed {seed}")
    again = load_json("g.json")
    assert again["verdicts"]["shuffled"]["alpha"]["verdict"] == "undecided" and not again["held_out"]
    assert load_json("h.json") == again != load_json("i.json")  # a function of the seed


def test_the_inverse_map_holds_both_scales(lft_main):
    """A fit of independent units, and the lattice of 21 um behind: the smallest simulation that runs."""
    lft_main(f"fit {save_recording('npz', noise(6, 400))} -o fit.h5 --test 0 --reach 2,1")
    line = "flow fit.h5 -o f.h5 --to-spacing 21um --configurations 40"
    out, _ = lft_main(f"{line} --json f.json --plot f.png")
    data = load_json("f.json")
    assert data["method"] == "inverse" and data["factor"] == [2, 2, 1]
    fine, coarse = data["levels"]
    assert (fine["scale"], coarse["scale"]) == ([1, 1, 1], [2, 2, 1])
    assert (fine["spacing"], coarse["spacing"]) == (["21 um", "21 um", "20 ms"], ["42 um", "42 um", "20 ms"])
    assert set(fine["couplings"]) == {"K[1,0,0]", "K[0,1,0]", "K[0,0,1]", "h"}
    assert set(coarse["couplings"]) > set(fine["couplings"])  # more than are sought, so that the match can fail
    assert data["inverse"]["dof"] > 0 and 0 <= data["inverse"]["p_value"] <= 1
    assert "correlation_time_ms" in fine["variables"] and fine["variables"]["rate_hz"]["unit"] == "Hz"
    # independent units: spatial couplings over two sites cannot be determined, and are not printed as numbers
    assert fine["couplings"]["K[1,0,0]"]["value"] is None and "not determined" in out
    assert data["inverse"]["flat_directions"]
    with h5py.File("f.h5") as file:
        assert json.loads(file.attrs["json"]) == data
        assert file["jacobian"].shape == (len(coarse["couplings"]), 4)
    assert Path("f.png").stat().st_size > 5000
    lft_main(line, code=2)  # exists


def test_level_0_of_a_flow_is_the_fit(lft_main):
    arguments = save_recording("npz", noise(6, 500))
    lft_main(f"flow {arguments} -o f.h5 --json f.json --factor 1,1,2 --levels 1 --blocking decimation")
    lft_main(f"fit {arguments} -o g.h5 --json g.json --test 0")
    level, fit = load_json("f.json")["levels"][0]["couplings"], load_json("g.json")["couplings"]
    assert {name: level[name] for name in fit} == fit


def test_k_of_n_blocks(lft_main):
    """One of n is or; the density of the blocked raster is counted anew."""
    raster = noise(6, 500)
    arguments = save_recording("npz", raster)
    for k in (1, 2):
        lft_main(
            f"flow {arguments} -o f{k}.h5 --json f{k}.json --factor 1,1,2 --levels 1 "
            f"--blocking k-of-n --k {k}"
        )
        both = raster.reshape(6, 250, 2).sum(axis=2) >= k
        value = load_json(f"f{k}.json")["levels"][1]["observables"]["density"]["value"]
        assert value == pytest.approx(both.mean(), rel=1e-12)


# ---- the rest
