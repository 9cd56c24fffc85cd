"""``lft analyze`` on saved configurations and on recordings: what it writes, draws, and refuses."""

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from lft.analysis.correlator import zero_momentum
from lft.analysis.crosscorrelation import correlation_matrices
from lft.analysis.kernel import overlaps
from lft.analysis.npoint import n_point
from lft.analysis.source import Source, as_source
from lft.analysis.spectrum import space_time, structure_factor
from lft.archive import Archive
from lft.commands import correlators
from lft.geometry import Graph, Lattice
from tests.helpers import load_json

RUN = """
seed = 5
[lattice]
shape = [8, 10]
axes = ["x", "y"]
spacing = ["42 um", "42 um"]
[action]
name = "ising"
K = 0.25
[update]
name = "heatbath"
[run]
start = "hot"
thermalize = 50
updates = 1200
measure_every = 3
save_every = SAVE
"""


def simulate(lft_main, save=6):
    Path("run.toml").write_text(RUN.replace("SAVE", str(save)))
    lft_main("run run.toml -o a.h5 --quiet")


def wave_raster(path="rec.npz", T=1500, shape=(8, 6), positions=True, **more):
    """Spikes of waves that run along x, one site per two bins."""
    rng = np.random.default_rng(0)
    x = np.repeat(np.arange(shape[0]), shape[1])
    phase = (np.arange(T)[:, None] - 2 * x + 40) % 40
    raster = rng.random((T, len(x))) < 0.05 + 0.5 * (phase < 4)
    where = {"positions": 42.0 * np.argwhere(np.ones(shape))} if positions else {}
    np.savez(path, raster=raster.T.astype(np.int8), bin_s=0.01, **where, **more)
    return raster


def test_an_archive_keeps_its_keys_and_gains_correlators(lft_main):
    simulate(lft_main)
    lft_main("analyze a.h5 --json plain.json")
    out, _ = lft_main("analyze a.h5 --json all.json --correlators --points 1,0;0,1 --points 1,0 --plot a.png")
    plain, whole = load_json("plain.json"), load_json("all.json")
    assert "correlators" not in plain and all(whole[k] == v for k, v in plain.items() if k != "warnings")
    found = whole["correlators"]
    assert set(found["two_point"]) == {"x", "y"} and set(found["zero_momentum"]) == {"x", "y"}
    assert {"mean", "correlation", "distribution"} <= set(found["ergodicity"])
    assert Path("a.png").read_bytes()[:4] == b"\x89PNG" and "q_EA" in out and "C[1,0;0,1]" in out
    # two sites: the same number as the two-point function, which averages over the same pairs
    point, c = found["n_point"][1], found["two_point"]["x"]
    assert point["displacements"] == [[0, 0], [1, 0]]
    assert point["value"] == pytest.approx(c["value"][1], abs=0.2 * c["error"][1])
    # the measured series and the configurations agree
    with Archive("a.h5") as archive:
        z = zero_momentum(archive, "x", max_lag=4)
    value = np.array(found["zero_momentum"]["x"]["value"])[:4]
    assert np.all(abs(value - z.value) < 4.5 * z.error)


def test_measured_series_alone_give_masses(lft_main):
    simulate(lft_main, save=0)
    out, err = lft_main("analyze a.h5 --correlators --json a.json --plot a.svg")
    found = load_json("a.json")["correlators"]
    assert "no saved configurations" in err and not found["two_point"] and "mass_y" in out
    assert found["zero_momentum"]["y"]["mass"]["value"] > 0 and Path("a.svg").exists()
    for option in ("--matrices m.h5", "--points 1,0"):
        assert "save_every" in lft_main(f"analyze a.h5 {option}", 2).err


def test_matrices_in_the_file(lft_main):
    raster = wave_raster().astype(float)
    lft_main("analyze rec.npz --matrices m.h5 --lags 0,3 --json r.json")
    with h5py.File("m.h5") as file:
        assert file["phi"][()] == pytest.approx(raster.T @ raster / 1500)
        assert file["pi"][:5, :5] == pytest.approx(raster[:5] @ raster[:5].T / 48)
        d = raster - raster.mean(axis=0)
        # spins: four times the covariance of zeros and ones
        assert file["lagged/3/covariance"][()] == pytest.approx(4 * d[:-3].T @ d[3:] / 1497)
        assert file["sites"][:2].tolist() == [[0, 0], [0, 1]] and file["averages/columns"].shape == (1500,)
        assert file["space_time/value"].shape[0] == len(file["space_time/lags"]) == 33
        assert {"structure_factor", "dynamic_structure", "eigenvalues"} <= set(file)
    data = load_json("r.json")
    assert data["observables"]["offset"]["value"] == pytest.approx(raster.mean())
    v = data["correlators"]["velocity"]["directed"]
    assert v["value"] == pytest.approx(0.5, abs=0.02) and v["direction"][0] == pytest.approx(1, abs=0.05)
    assert v["physical"]["value"] == pytest.approx(0.5 * 42e-3 / 0.01, rel=0.05)
    assert data["recording"]["n_bins"] == 1500


def test_units_without_positions_have_matrices_but_no_distances(lft_main):
    wave_raster(positions=False)
    out, err = lft_main("analyze rec.npz --units 0-19 --plot r.png --json r.json")
    found = load_json("r.json")["correlators"]
    assert "no distances" in err and list(found["two_point"]) == ["t"] and not found["velocity"]
    assert found["eigenvalues"]["largest"][0] > found["eigenvalues"]["edges"][1] and "largest_eigenvalue" in out
    assert "no positions" in lft_main("analyze rec.npz --pitch 42um", 2).err


def test_a_large_recording_is_binned_piece_by_piece(lft_main, monkeypatch):
    rng = np.random.default_rng(1)
    times = [np.sort(rng.random(900) * 30) for _ in range(12)]
    with h5py.File("s.h5", "w") as file:
        file.attrs["duration_s"] = 30.0
        file["spike_times"] = np.concatenate(times)
        file["spike_index"] = np.cumsum([0, *map(len, times)])
        file["positions"] = 42.0 * np.argwhere(np.ones((4, 3)))
    lft_main("analyze s.h5 --bin 10ms --json whole.json")
    monkeypatch.setattr(correlators, "FIELD_BYTES", 1000)
    _, err = lft_main("analyze s.h5 --bin 10ms --json parts.json")
    assert "piece by piece" in err
    assert load_json("parts.json")["correlators"] == load_json("whole.json")["correlators"]
    assert load_json("parts.json")["recording"] == load_json("whole.json")["recording"]


def test_constant_data_have_no_errors_to_invent(lft_main):
    """Every unit fires in every bin: notes, no numbers that look exact."""
    where = 42.0 * np.argwhere(np.ones((3, 3)))
    np.savez("ones.npz", raster=np.ones((9, 400), np.int8), bin_s=0.01, positions=where)
    _, err = lft_main("analyze ones.npz --json r.json --plot r.png --matrices m.h5")
    found = load_json("r.json")["correlators"]
    assert "constant" in err and not found["lengths"] and not found["velocity"] and "eigenvalues" not in found


def test_bad_input_is_one_line(lft_main):
    simulate(lft_main, save=6)
    wave_raster()
    for line, words in (
        ("analyze a.h5 --bin 5ms", "--bin"), ("analyze a.h5 --correlators --max-lag 2", "--max-lag 2"),
        ("analyze a.h5 --correlators --blocks 3", "--blocks 3"), ("analyze a.h5 --points 1,x", "--points"),
        ("analyze a.h5 --points 1,0,0", "2 integers"),
        ("analyze rec.npz --bin 3ms", "bin"), ("analyze rec.npz --units 99", "--units"),
        ("analyze rec.npz --matrices m.h5 --lags a", "--lags"), ("analyze rec.npz --matrices m.h5 --lags 5000", "lags"),
        ("analyze rec.npz --matrices no/m.h5", "does not exist"), ("analyze rec.npz --matrices rec.npz", "is read"),
    ):
        err = lft_main(line, 2).err
        assert words in err and err.count("\n") == 1, (line, err)
    assert not Path("m.h5").exists()


# ---- memory
def spins(n, shape=(32, 32)):
    return Source(Lattice(shape), "spin", n,
                  lambda k, a, b: np.random.default_rng(k).choice(np.array([-1, 1], np.int8), (1, *shape)))


def peak(function):
    tracemalloc.start()
    function()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


@pytest.mark.parametrize("function", [
    lambda s: structure_factor(s, n_blocks=10), lambda s: space_time(s, 0, n_blocks=10),
    lambda s: zero_momentum(s, "x", n_blocks=10), lambda s: n_point(s, [[(1, 0), (0, 1)]], 10),
    lambda s: list(correlation_matrices(s, (0,), n_blocks=10)), lambda s: overlaps(s, 30, n_null=1),
], ids=["structure_factor", "space_time", "zero_momentum", "n_point", "matrices", "overlaps"])
def test_memory_does_not_grow_with_the_configurations(function, monkeypatch):
    monkeypatch.setattr("lft.analysis.source.CHUNK_BYTES", 2**19)
    function(spins(40))  # imports and plans of transforms
    few, many = (peak(lambda n=n: function(spins(n))) for n in (100, 600))
    assert many < few + 2**19 + 500 * 200  # 500 configurations more would be 512 kB as int8, 4 MB as float64


def test_configurations_of_an_archive_are_read_in_runs(lft_main, monkeypatch):
    simulate(lft_main)
    monkeypatch.setattr("lft.analysis.source.SLAB_BYTES", 70)  # seven rows of ten bytes
    with Archive("a.h5") as archive:
        source = as_source(archive)
        for k in (0, 6, 7, 3, 199):
            assert np.array_equal(source.read(k, 0, 1)[0], archive.configuration(k))


SPARSE = """
import resource, sys, time
import h5py, numpy as np
from lft.analysis.correlator import two_point, zero_momentum
from lft.analysis.source import Source, as_source
from lft.analysis.spectrum import space_time
from lft.archive import Archive
class Enough(Exception): pass
archive = Archive("big.h5")
source = as_source(archive)
read, n = source.reader, [0]
size = archive.file["configurations/field"].id.get_storage_size
print("nominal_GB", archive.file["configurations/field"].size / 1e9)
for function in (lambda s: zero_momentum(s, "t"), lambda s: two_point(s, 8), lambda s: space_time(s, 4, 4)):
    end = time.process_time() + float(sys.argv[1])
    def reader(k, a, b):
        n[0] += 1
        if time.process_time() > end:
            raise Enough
        return read(k, a, b)
    try:
        function(Source(source.geometry, source.kind, source.n_configurations, reader))
    except Enough:
        pass
print("reads", n[0], "peak_MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.validate
def test_an_archive_of_100_gigabytes_needs_little_memory(lft_main, tmp_path):
    """A sparse archive: 100 GB of configurations by its shape, read for a while by three estimators."""
    from tests.helpers import run_python

    Path("run.toml").write_text(RUN.replace("SAVE", "6").replace("[8, 10]", "[128, 128, 128]").replace(
        'axes = ["x", "y"]', 'axes = ["x", "y", "t"]').replace('spacing = ["42 um", "42 um"]', "").replace(
        "updates = 1200", "updates = 6").replace("thermalize = 50", "thermalize = 0"))
    lft_main("run run.toml -o big.h5 --quiet")
    with h5py.File("big.h5", "r+") as file:
        n = 400_000
        for name in ("field", "t"):
            old = file[f"configurations/{name}"][()]
            del file[f"configurations/{name}"]
            data = file.create_dataset(f"configurations/{name}", (n, *old.shape[1:]), old.dtype,
                                       chunks=(16 if name == "t" else 1, *old.shape[1:]))
            data[: len(old)] = old
    done = run_python(["-c", SPARSE, "20"], tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert float(words[1]) > 100 and float(words[-1]) < 2000, done.stdout


def test_graphs_have_no_spatial_axes():
    source = Source(Graph(3, 10), "gas", 1, lambda k, a, b: np.zeros((b - a, 3), np.int8))
    assert source.axes == () and source.has_time and source.n_active == 3
