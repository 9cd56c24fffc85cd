"""``lft meanfield --compare`` and ``--match``: tables, JSON, figures, bad input; structured model files."""

import json

import numpy as np
import pytest

from lft.cli import main
from lft.meanfield.reading import build_model
from lft.meanfield.structured import LowRank

SETTINGS = '\n[solve]\nmode = "stationary"\ndt = 0.1\nduration = 20.0\n'
WEIGHTS = '\n[[connection]]\nfrom = "x"\nto = "x"\nweights = "gaussian"\nstd = {}\n'
RATE = '[population.x]\nneuron = "rate"\ngain = "erf"\nnoise = {}\n' + WEIGHTS + SETTINGS


@pytest.fixture
def models(here):
    (here / "a.toml").write_text(RATE.format(1.0, 0.8))
    (here / "b.toml").write_text(RATE.format(2.0, 0.5))
    return here


def test_compare(models, capsys):
    words = ["meanfield", "a.toml", "--compare", "b.toml", "-o", "m.h5", "--json", "m.json", "--plot", "m.png"]
    assert main(words) == 0
    text = capsys.readouterr().out
    for name in ("state_variance", "spectrum", "timescale", "participation", "bulk_radius", "lyapunov"):
        assert name in text
    data = json.loads((models / "m.json").read_text())
    rows = {(r["name"], r["where"]): r for r in data["comparison"]["rows"]}
    assert rows["state_variance", "x"]["one"] == data["populations"]["x"]["state_variance"]["value"]
    assert rows["state_variance", "x"]["two"] > rows["state_variance", "x"]["one"]
    assert data["comparison"]["labels"] == ["a", "b"]
    assert (models / "m.png").read_bytes()[:4] == b"\x89PNG"


def test_match(models, capsys):
    words = ["meanfield", "a.toml", "--match", "b.toml", "--free", "population.x.noise,connection.1.std"]
    assert main([*words, "-o", "m.h5", "--json", "m.json"]) == 0
    assert "matched" in capsys.readouterr().out
    data = json.loads((models / "m.json").read_text())
    found = data["match"]["parameters"]
    assert found["population.x.noise"]["value"] == pytest.approx(2.0, rel=1e-4)
    assert found["connection.1.std"]["value"] == pytest.approx(0.5, rel=1e-4)
    assert data["config"]["connection"][0]["std"] == found["connection.1.std"]["value"]  # the matched model is written
    assert data["match"]["undetermined"] == []


def test_match_to_a_raster(models, capsys):
    """Independent 0/1 units: a binary population with a private noisy drive gets their mean and heterogeneity."""
    rng = np.random.default_rng(1)
    p = 0.3 + 0.05 * rng.standard_normal(40)
    np.savez(models / "raster.npz", raster=(rng.random((4000, 40)) < p).astype(np.int8).T, bin_s=0.1)
    (models / "c.toml").write_text(
        '[population.x]\nneuron = "binary"\ngain = "erfc"\nupdate = "synchronous"\ninput = -1.0\nsize = 1000\n'
        + WEIGHTS.format(0.4)
        + SETTINGS
    )
    words = ["meanfield", "c.toml", "--match", "raster.npz", "--free", "population.x.input,connection.1.std"]
    code = main([*words, "--statistics", "mean,frozen_variance", "-o", "m.h5", "--json", "m.json"])
    assert code == 0, capsys.readouterr().err
    rows = {r["name"]: r for r in json.loads((models / "m.json").read_text())["match"]["statistics"]}
    for name, value in (("mean", p.mean()), ("frozen_variance", p.var(ddof=1))):
        assert abs(rows[name]["target"] - value) < 4.5 * rows[name]["target_error"]
        assert rows[name]["model"] == pytest.approx(rows[name]["target"], rel=1e-2)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--match", "b.toml"], "--free"),
        (["--free", "population.x.noise"], "--match"),
        (["--match", "b.toml", "--free", "population.x.nose"], "valid are population.x"),
        (["--match", "b.toml", "--free", "population.x.noise,population.x.noise"], "named twice"),
        (["--match", "b.toml", "--free", "population.x.noise", "--statistics", "mean,size"], "'size'"),
        (["--match", "b.toml", "--free", "population.x.noise", "--compare", "b.toml"], "one of them"),
        (["--compare", "none.toml"], "no such file"),
        (["--compare", "b.toml", "--statistics", "mean"], "--match"),
        (["--bin", "20 ms"], "--bin"),
    ],
)
def test_bad_options(models, capsys, words, message):
    assert main(["meanfield", "a.toml", "-o", "m.h5", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (models / "m.h5").exists()


LATTICE = RATE.format(0.5, 0.8).replace("gain", "lattice = [4]\ngain")
LOW_RANK = RATE.format(0.5, 0.8).replace('"gaussian"', '"low-rank"')
SHARED = "\n[[shared_noise]]\nintensity = 0.1\nto = {{ {} = 1.0 }}\n"


def test_structured_files():
    model = build_model(LOW_RANK + "".join(SHARED.format("x")))
    assert isinstance(model.connections[0].weights, LowRank) and model.shared[0].factor("x") == 1.0
    vectors = "left_std = [1.0, 2.0]\nright_std = 3.0\noverlap = [[1.0, 0.5], [0.0, 1.0]]"
    two = LOW_RANK.replace("std = 0.8", f"std = 0.8\n{vectors}")
    with pytest.raises(Exception, match="low-rank"):
        build_model(two)  # one right_std for two vectors
    model = build_model(two.replace("right_std = 3.0", "right_std = [3.0, 3.0]"))
    assert model.connections[0].weights.rank == 2
    wave = LATTICE.replace("lattice", "site_input = { amplitude = 0.5, waves = [1] }\nlattice")
    assert build_model(wave).populations[0].sites.drive == pytest.approx((0.5, 0.0, -0.5, 0.0), abs=1e-12)
    assert (
        build_model(LATTICE.replace("std = 0.8", 'std = 0.8\nprofile = { shape = "box", width = 1.0 }'))
        .connections[0]
        .profile.width
        == 1.0
    )


@pytest.mark.parametrize(
    "text, message",
    [
        (LATTICE.replace("lattice", "site_input = [1.0]\nlattice"), "4 numbers"),
        (RATE.format(0.5, 0.8).replace("gain", "site_input = [1.0]\ngain"), "lattice"),
        (
            RATE.format(0.5, 0.8).replace("std = 0.8", 'std = 0.8\nprofile = { shape = "box", width = 1.0 }'),
            "same lattice",
        ),
        (RATE.format(0.5, 0.8).replace("std = 0.8", "std = 0.8\nsymmetry = 1.5"), "-1 to 1"),
        (LATTICE.replace("gain", "size = 6\ngain"), "multiple"),
        (LOW_RANK.replace("std = 0.8", "std = 0.8\noverlap = 2.0"), "overlap"),
        (RATE.format(0.5, 0.8) + SHARED.format("y"), "'y'"),
        (RATE.format(0.5, 0.8) + SHARED.format("x").replace("0.1", "-0.1"), "intensity"),
    ],
)
def test_bad_structure(here, capsys, text, message):
    (here / "m.toml").write_text(text)
    assert main(["meanfield", "m.toml", "-o", "m.h5"]) == 2
    assert message in capsys.readouterr().err
