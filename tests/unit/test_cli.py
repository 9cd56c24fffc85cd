"""What the commands promise: their round trips, files and JSON forms, key by key."""

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import lft
from lft import threads
from lft.archive import Archive
from lft.cli import main
from lft.errors import InputError

ISING = """seed = 7
[lattice]
shape = [4, 3, 6]
axes = ["x", "y", "t"]
boundary = ["periodic", "open", "open"]
spacing = ["42 um", "42 um", "20 ms"]
[action]
name = "ising"
K = [0.2, 0.1, 0.3]
h = 0.05
[update]
name = "heatbath"
[run]
thermalize = 20
updates = 200
measure_every = 2
save_every = 20
"""
PHI4 = """seed = 8
[lattice]
shape = [6, 5]
[action]
name = "phi4"
kappa = [0.2, 0.15]
lambda = 0.5
[update]
name = "hmc"
steps = 4
length = 0.8
integrator = "omelyan2"
[run]
thermalize = 10
updates = 100
measure_every = 1
"""
NEURAL = """seed = 9
[lattice]
shape = [3, 20]
axes = ["unit", "t"]
[action]
name = "neural"
A = [[0.0, -0.3, 0.1], [-0.3, 0.0, 0.0], [0.1, 0.0, 0.0]]
B = {"1" = -0.2, "3" = 0.1}
I = [0.5, 0.6, 0.7]
[update]
name = "metropolis"
[run]
thermalize = 10
updates = 100
measure_every = 1
save_every = 10
"""
CONFIGS = {"ising": ISING, "phi4": PHI4, "neural": NEURAL}
MOMENTS = {"magnetization", "abs_magnetization", "m2", "m4", "binder", "susceptibility", "acceptance"}


@pytest.fixture
def lft_main(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder; returns (standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(line, code=0):
        capsys.readouterr()
        assert main(line.split()) == code, capsys.readouterr().err
        return capsys.readouterr()

    return run


def write(name):
    Path("run.toml").write_text(CONFIGS[name])


def load(path):
    """JSON as the contract wants it: no NaN, no Infinity."""

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    return json.loads(Path(path).read_text(), parse_constant=refuse)


# ---- run, status, analyze, resume
@pytest.mark.parametrize("name", CONFIGS)
def test_status_holds_what_the_contract_names(name, lft_main):
    write(name)
    lft_main("run run.toml -o a.h5 --quiet")
    out, err = lft_main("status a.h5 --json s.json")
    data = load("s.json")
    assert {
        "updates",
        "planned",
        "site_updates_per_ns",
        "acceptance",
        "kernel",
        "ranks",
        "threads",
        "seconds",
    } <= set(data)
    with Archive("a.h5") as archive:
        total = archive.config["run"]["thermalize"] + archive.config["run"]["updates"]
    assert (data["updates"], data["planned"], data["ranks"], data["threads"]) == (total, total, 1, 1)
    assert isinstance(data["kernel"], str) and 0 < data["acceptance"] <= 1
    steps = 4 if name == "phi4" else 1
    sites = {"ising": 72, "phi4": 30, "neural": 60}[name]
    assert data["site_updates_per_ns"] == pytest.approx(
        sites * total * steps / data["seconds"] / 1e9, rel=1e-12
    )
    assert err == "" and all(key in out for key in data)


@pytest.mark.parametrize("name", CONFIGS)
def test_analyze_holds_what_the_contract_names(name, lft_main):
    write(name)
    lft_main("run run.toml -o a.h5 --quiet")
    lft_main("analyze a.h5 --json a.json")
    data = load("a.json")
    assert {"observables", "field_sha256", "series_sha256", "config"} <= set(data)
    names = set(data["observables"])
    bonds = {
        "ising": {"bond_x", "bond_y", "bond_t"},
        "phi4": {"bond_x", "bond_y", "phi2", "phi4"},
        "neural": {"lag_1", "lag_3", "rate"},
    }[name]
    assert names >= MOMENTS | bonds | {"action_density"}
    for value in data["observables"].values():
        assert set(value) == {"value", "error", "tau_int", "n"}
        lengths = {len(v) for v in value.values() if isinstance(v, list)}
        assert len(lengths) <= 1 and (not lengths or all(isinstance(v, list) for v in value.values()))
    assert data["observables"]["m2"]["n"] == 100
    assert data["config"]["seed"] == {"ising": 7, "phi4": 8, "neural": 9}[name]
    assert data["config"]["run"]["start"] == "hot"  # every default is written out


@pytest.mark.parametrize("name", CONFIGS)
def test_observables_are_their_definitions(name, lft_main):
    """binder, susceptibility and means, computed anew from the series in the file."""
    write(name)
    lft_main("run run.toml -o a.h5 --quiet")
    lft_main("analyze a.h5 --json a.json")
    data = load("a.json")["observables"]
    with h5py.File("a.h5") as file:
        series = {n: file["samples"][n][()] for n in file["samples"]}
    m2, m4, m = (series[n].mean() for n in ("m2", "m4", "abs_magnetization"))
    sites = {"ising": 72, "phi4": 30, "neural": 60}[name]
    assert data["binder"]["value"] == pytest.approx(1 - m4 / (3 * m2**2), rel=1e-12)
    assert data["susceptibility"]["value"] == pytest.approx(sites * (m2 - m**2), rel=1e-12)
    np.testing.assert_array_equal(series["m2"], series["magnetization"] ** 2)
    np.testing.assert_array_equal(series["abs_magnetization"], abs(series["magnetization"]))
    for key, values in series.items():
        if values.ndim == 1 and key != "t":
            assert data[key]["value"] == pytest.approx(values.mean(), rel=1e-12, abs=1e-15)
    assert np.array_equal(series["t"], series["t"][0] + (series["t"][1] - series["t"][0]) * np.arange(100))


def saved_spins(file, dataset, index, shape):
    """The bits of a configuration, unpacked without the engine."""
    row = file[dataset][index] if index is not None else file[dataset][()]
    return np.unpackbits(row)[: math.prod(shape)].reshape(shape).astype(np.int8)


def test_bonds_and_magnetization_of_saved_configurations(lft_main):
    """Updates that are measured and saved: the series is that of the configuration."""
    write("ising")
    lft_main("run run.toml -o a.h5 --quiet")
    with h5py.File("a.h5") as file:
        t = file["samples/t"][()]
        for k, when in enumerate(file["configurations/t"][()]):
            s = 2 * saved_spins(file, "configurations/field", k, (4, 3, 6)).astype(int) - 1
            (row,) = np.flatnonzero(t == when)
            sample = {n: file["samples"][n][row] for n in ("bond_x", "bond_y", "bond_t", "magnetization")}
            assert sample["bond_x"] == pytest.approx((s * np.roll(s, -1, 0)).mean(), abs=1e-14)
            assert sample["bond_y"] == pytest.approx((s[:, :-1] * s[:, 1:]).mean(), abs=1e-14)
            assert sample["bond_t"] == pytest.approx((s[..., :-1] * s[..., 1:]).mean(), abs=1e-14)
            assert sample["magnetization"] == pytest.approx(s.mean(), abs=1e-14)
        assert len(file["configurations/t"]) == 10


@pytest.mark.parametrize("name", CONFIGS)
def test_hashes_are_those_of_the_contract(name, lft_main):
    """Row-major order of the configuration file: spins as int8, real fields as little-endian float64."""
    write(name)
    lft_main("run run.toml -o a.h5 --quiet")
    lft_main("analyze a.h5 --json a.json")
    data = load("a.json")
    with h5py.File("a.h5") as file:
        if name == "phi4":
            raw = file["state/field"][()].reshape(6, 5).astype("<f8").tobytes()
        elif name == "ising":
            raw = (2 * saved_spins(file, "state/field", None, (4, 3, 6)) - 1).astype(np.int8).tobytes()
        else:  # the file says (unit, t)
            raw = np.ascontiguousarray(saved_spins(file, "state/field", None, (20, 3)).T).tobytes()
        series = hashlib.sha256()
        for key in sorted(n for n in file["samples"] if n != "t"):
            series.update(key.encode() + file["samples"][key][()].astype("<f8").tobytes())
    assert data["field_sha256"] == hashlib.sha256(raw).hexdigest()
    assert data["series_sha256"] == series.hexdigest()


@pytest.mark.parametrize("name", CONFIGS)
def test_resuming_is_running_longer(name, lft_main):
    """60 % and then the rest gives the bits of a run without a stop; so does a second run."""
    write(name)
    updates = 200 if name == "ising" else 100
    lft_main("run run.toml -o whole.h5 --quiet")
    lft_main("run run.toml -o again.h5 --quiet")
    lft_main(f"run run.toml -o parts.h5 --quiet --set run.updates={updates * 6 // 10}")
    lft_main(f"resume parts.h5 --quiet --updates {updates * 4 // 10}")
    hashes = []
    for file in ("whole", "again", "parts"):
        lft_main(f"analyze {file}.h5 --json {file}.json")
        data = load(f"{file}.json")
        hashes.append((data["field_sha256"], data["series_sha256"], data["config"]["run"]["updates"]))
    assert hashes[0] == hashes[1] == hashes[2]
    lft_main("run run.toml -o other.h5 --quiet --set seed=123")
    lft_main("analyze other.h5 --json other.json")
    other = load("other.json")
    assert other["config"]["seed"] == 123 and other["field_sha256"] != hashes[0][0]
    with Archive("whole.h5") as a, Archive("parts.h5") as b:
        assert a.n_configurations == b.n_configurations and a.t == b.t
        for k in range(a.n_configurations):
            np.testing.assert_array_equal(a.configuration(k), b.configuration(k))


def test_the_archive_holds_the_configuration_and_its_defaults(lft_main):
    write("ising")
    lft_main(
        "run run.toml -o a.h5 --quiet --set run.updates=8 --set action.h=0.5 --set update.name=metropolis"
    )
    with Archive("a.h5") as archive:
        assert archive.meta["config_text"] == ISING
        config = archive.config
    assert config["run"] == {
        "start": "hot",
        "thermalize": 20,
        "updates": 8,
        "measure_every": 2,
        "save_every": 20,
        "checkpoint": "5 min",
    }
    assert config["action"] == {"name": "ising", "K": [0.2, 0.1, 0.3], "h": 0.5}
    assert config["update"] == {"name": "metropolis", "kernel": "auto"}


def test_overwrite_replaces_and_nothing_is_left_beside(lft_main, tmp_path):
    write("ising")
    lft_main("run run.toml -o a.h5 --quiet")
    lft_main("run run.toml -o a.h5 --quiet", code=2)
    out, err = lft_main("run run.toml -o a.h5 --quiet --overwrite --set run.updates=4")
    assert "24 updates done" in out and err == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "run.toml"]
    lft_main("status a.h5 --json s.json")
    lft_main("status a.h5 --json s.json")  # an older report is replaced
    assert load("s.json")["updates"] == 24


def test_progress_goes_to_standard_error(lft_main, monkeypatch):
    from lft import simulation

    write("ising")
    monkeypatch.setattr(simulation.Progress.__init__, "__defaults__", (0, 0.0, None))
    out, err = lft_main("run run.toml -o a.h5")
    assert "update " in err and "site updates/ns" in err and "update" not in out.replace("updates done", "")


@pytest.mark.parametrize(
    "line", ["status a.h5", "analyze a.h5", "fit r.npz -o f.h5", "flow a.h5 -o g.h5", "info"]
)
def test_json_to_standard_output_is_nothing_but_json(line, lft_main):
    write("ising")
    lft_main("run run.toml -o a.h5 --quiet")
    np.savez("r.npz", raster=noise(6, 300), bin_s=0.02, positions=GRID)
    out, err = lft_main(f"{line} --json -")
    assert json.loads(out)
    assert all(text.startswith("warning: ") for text in err.splitlines())
    lft_main(f"{line} --json x.json{' --overwrite' if ' -o ' in line else ''}")
    assert set(load("x.json")) == set(json.loads(out))


def test_figures(lft_main):
    write("ising")
    lft_main("run run.toml -o a.h5 --quiet")
    np.savez("r.npz", raster=noise(6, 300), bin_s=0.02, positions=GRID)
    lft_main("analyze a.h5 --plot a.png")
    lft_main("fit r.npz -o f.h5 --plot f.svg")
    lft_main("flow a.h5 -o g.h5 --levels 1 --factor 1,1,2 --plot g.pdf")
    assert Path("a.png").read_bytes()[:4] == b"\x89PNG" and b"<svg" in Path("f.svg").read_bytes()
    assert Path("g.pdf").read_bytes()[:5] == b"%PDF-"
    lft_main("analyze a.h5 --plot a.png", code=2)
    lft_main("analyze a.h5 --plot a.png --overwrite")


# ---- fit
GRID = np.array([[x, y] for x in (0.0, 42.0, 84.0) for y in (0.0, 42.0)])


def noise(n_units, n_bins, p=0.3):
    return np.random.default_rng(5).random((n_units, n_bins)) < p


def save_recording(form, raster, bin_s=0.02):
    """The same spikes in one of the forms of the contract; returns the arguments that read it."""
    if form == "npz":
        np.savez("r.npz", raster=raster, bin_s=bin_s, positions=GRID)
        return "r.npz"
    if form == "npy":
        np.save("r.npy", raster)
        return f"r.npy --bin {bin_s}s"
    times = [(np.flatnonzero(row) + 0.5) * bin_s for row in raster]
    index = np.concatenate([[0], np.cumsum([len(t) for t in times])])
    arrays = {"spike_times": np.concatenate(times), "spike_index": index, "positions": GRID}
    if form == "spikes.npz":
        np.savez("s.npz", duration_s=raster.shape[1] * bin_s, **arrays)
        return f"s.npz --bin {bin_s}s"
    with h5py.File("r.h5", "w") as file:
        file.attrs.update(duration_s=raster.shape[1] * bin_s, metadata_json="{}")
        for name, array in arrays.items():
            file[name] = array
    return f"r.h5 --bin {bin_s}s"


@pytest.mark.parametrize("form", ["npz", "npy", "h5", "spikes.npz"])
@pytest.mark.parametrize("model", ["independent", "lattice", "neural", "pairwise"])
def test_fit_holds_what_the_contract_names(model, form, lft_main):
    if form == "npy" and model in ("lattice", "independent"):
        return  # a bare raster has no positions
    raster = noise(6, 500)
    arguments = save_recording(form, raster)
    lft_main(f"fit {arguments} --model {model} -o f.h5 --json f.json")
    data = load("f.json")
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
    score, values = load("f.json")["score"], raster.astype(float)
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
    data = load("f.json")
    assert (data["n_units"], data["n_bins"], data["score"]["test"]) == (4, 300, None)
    with h5py.File("f.h5") as file:
        assert file["unit"][()].tolist() == [1, 3, 4, 5] and file["lags"][()].tolist() == [1, 2]
    arguments = save_recording("npz", raster)
    _, err = lft_main(
        f"fit {arguments} --model neural -o g.h5 --json g.json --units 1,3-5 --bin 40ms --reach 0,0"
    )
    with h5py.File("g.h5") as file:
        assert file["unit"][()].tolist() == [1, 3, 4, 5] and file["B"].shape == (0,)
    assert load("g.json")["n_bins"] == 250
    assert "spikes" in err and "clipped" in err and "DataWarning" not in err
    lft_main(f"fit {arguments} --bin 20ms -o d.h5 --json d.json --diagonals")
    assert len(load("d.json")["couplings"]) == 13


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
    a, b = load("a.json"), load("b.json")
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
        write("ising")
        lft_main("run run.toml -o a.h5 --quiet --set lattice.shape=[4,4,24] --set run.updates=100")
        out, err = lft_main("flow a.h5 -o f.h5 --json f.json --levels 1")
        assert "majority" in err
    else:
        out, err = lft_main(
            f"flow {save_recording('h5', noise(6, 500))} -o f.h5 --json f.json --factor 1,1,2 --levels 2"
        )
        assert "blocking: or" in err
    data = load("f.json")
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
    data = load("f.json")
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
    again = load("g.json")
    assert again["verdicts"]["shuffled"]["alpha"]["verdict"] == "undecided" and not again["held_out"]
    assert load("h.json") == again != load("i.json")  # a function of the seed


def test_the_inverse_map_holds_both_scales(lft_main):
    """A fit of independent units, and the lattice of 21 um behind: the smallest simulation that runs."""
    lft_main(f"fit {save_recording('npz', noise(6, 400))} -o fit.h5 --test 0 --reach 2,1")
    line = "flow fit.h5 -o f.h5 --to-spacing 21um --configurations 40"
    out, _ = lft_main(f"{line} --json f.json --plot f.png")
    data = load("f.json")
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
    level, fit = load("f.json")["levels"][0]["couplings"], load("g.json")["couplings"]
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
        value = load(f"f{k}.json")["levels"][1]["observables"]["density"]["value"]
        assert value == pytest.approx(both.mean(), rel=1e-12)


# ---- the rest
def test_demo(lft_main, tmp_path):
    """The whole path on known couplings: everything is found within 4.5 errors."""
    lft_main("demo -o demo")
    data = load("demo/demo.json")
    assert {"couplings", "correlators", "flow"} <= set(data)
    assert {"K[1,0,0]", "K[0,1,0]", "K[0,0,1]"} <= set(data["couplings"])
    for name, c in data["couplings"].items():
        assert {"true", "value", "error"} <= set(c)
        assert abs(c["value"] - c["true"]) < 4.5 * c["error"], (name, c)
        assert 0 < c["error"] < 0.02
    assert all(c["max_abs_z"] < 4.5 for c in data["correlators"].values())
    assert len(data["flow"]["levels"]) == 3
    figures = sorted(p.name for p in (tmp_path / "demo").glob("*.png"))
    assert figures == ["correlators.png", "couplings.png", "flow.png"]
    assert not list((tmp_path / "demo").glob("*.part"))
    lft_main("demo -o demo", code=2)


def test_bench(lft_main, monkeypatch):
    from lft.commands import bench

    whole = bench.bench
    monkeypatch.setattr(bench, "bench", lambda only: whole(scale=0.003, only=only))
    monkeypatch.setattr(bench.roofs, "REPEATS", 1)
    out, _ = lft_main("bench --json b.json")
    data = load("b.json")
    assert set(data) >= {"kernels", "bandwidth_GB_s"} and data["bandwidth_GB_s"]
    for kernel in data["kernels"].values():
        assert set(kernel) >= {"site_updates_per_ns", "bytes_per_site", "fraction_of_bandwidth"}
        assert (
            min(kernel["site_updates_per_ns"], kernel["bytes_per_site"], kernel["fraction_of_bandwidth"]) > 0
        )
        assert kernel["binding"] in kernel["roofs_per_ns"] and min(kernel["roofs_per_ns"].values()) > 0
        assert kernel["fraction"] == pytest.approx(
            kernel["site_updates_per_ns"] / min(kernel["roofs_per_ns"].values()))
    assert all(name in out for name in data["kernels"])
    assert {"cpu", "load", "threads", "lft"} <= set(data["machine"])
    out, _ = lft_main("bench --only ising-bits-2d-*")
    assert "ising-bits-2d-heatbath" in out and "phi4" not in out
    lft_main("bench --only nothing", code=2)


def test_info(lft_main):
    lft_main("info --json i.json")
    data = load("i.json")
    assert data["lft"] == lft.__version__ and data["numpy"] == np.__version__
    assert {"mpi", "instruction_set", "threads"} <= set(data)


def child(*arguments, cwd=None):
    env = {**os.environ, "PYTHONPATH": str(Path(lft.__file__).resolve().parent.parent)}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=env,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_python_m_lft_is_the_program(tmp_path):
    (tmp_path / "run.toml").write_text(ISING)
    done = child("-m", "lft", "run", "run.toml", "-o", "a.h5", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout == "a.h5: 220 updates done\n"
    done = child("-m", "lft", "analyze", "a.h5", "--json", "-", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["observables"]
    assert child("-m", "lft", "status", "no.h5", cwd=tmp_path).returncode == 2


def test_a_closed_pipe_is_no_failure(tmp_path):
    (tmp_path / "run.toml").write_text(ISING)
    assert child("-m", "lft", "run", "run.toml", "-o", "a.h5", cwd=tmp_path).returncode == 0
    line = f"set -o pipefail; {sys.executable} -m lft analyze a.h5 --json - | head -n 1"
    env = {**os.environ, "PYTHONPATH": str(Path(lft.__file__).resolve().parent.parent)}
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60
    )
    assert done.returncode == 0 and done.stdout == "{\n"
    assert "BrokenPipe" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "modules",
    [
        "lft",
        "lft.cli",
        "lft.simulation, lft.config, lft.actions, lft.analysis, lft.testing",
        "lft.inference.recording, lft.inference.lattice_fit, lft.inference.neural_fit, lft.rg.flow",
        "lft.plotting, lft.commands.fit, lft.commands.flow, lft.commands.report",
    ],
)
def test_importing_has_no_side_effect(modules):
    """No MPI starts, and nothing heavy is loaded that is not used."""
    heavy = ("mpi4py", "mpi4py.MPI", "matplotlib", "scipy", "scipy.sparse", "scipy.fft", "h5py")
    code = f"import sys, {modules}; print([m for m in {heavy} if m in sys.modules])"
    done = child("-W", "error", "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 1),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "3", "LFT_THREADS": "2"}, 2),
        ({"LFT_THREADS": ""}, 1),
        ({"LFT_THREADS": "0"}, "LFT_THREADS = '0'"),
        ({"LFT_THREADS": "two"}, "LFT_THREADS = 'two'"),
        ({"OMP_NUM_THREADS": "-1"}, "OMP_NUM_THREADS = '-1'"),
        ({"LFT_THREADS": "4096"}, "from 1 to 1024"),
    ],
)
def test_the_environment_sets_the_threads_of_a_rank(monkeypatch, environment, expected):
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, int):
        assert threads.count() == expected
    else:
        with pytest.raises(InputError, match=expected):
            threads.count()
        assert main(["info"]) == 2
