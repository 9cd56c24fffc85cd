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
from tests.helpers import GRID, ISING, load_json, noise

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


def write(name):
    Path("run.toml").write_text(CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_status_holds_what_the_contract_names(name, lft_main):
    write(name)
    lft_main("run run.toml -o a.h5 --quiet")
    out, err = lft_main("status a.h5 --json s.json")
    data = load_json("s.json")
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
    data = load_json("a.json")
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
    data = load_json("a.json")["observables"]
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
    data = load_json("a.json")
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
        data = load_json(f"{file}.json")
        hashes.append((data["field_sha256"], data["series_sha256"], data["config"]["run"]["updates"]))
    assert hashes[0] == hashes[1] == hashes[2]
    lft_main("run run.toml -o other.h5 --quiet --set seed=123")
    lft_main("analyze other.h5 --json other.json")
    other = load_json("other.json")
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
    assert load_json("s.json")["updates"] == 24


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
    assert set(load_json("x.json")) == set(json.loads(out))


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


def test_demo(lft_main, tmp_path):
    """The whole path on known couplings: everything is found within 4.5 errors."""
    lft_main("demo -o demo")
    data = load_json("demo/demo.json")
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
    data = load_json("b.json")
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
    data = load_json("i.json")
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
