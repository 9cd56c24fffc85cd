"""``lft fit`` with --check, --compare, --bin-scan and --heat: what stands in the files, and bad input."""

import json

import numpy as np
import pytest

from lft.cli import main
from lft.inference.likelihood.model import GibbsModel
from lft.inference.result import load_fit

MODEL = GibbsModel(np.full(4, -2.0), 0.8 * (1 - np.eye(4)), None, {1: 1.2})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("verdict")
    np.savez(path / "rec.npz", raster=MODEL.simulate(5000, seed=7)[0].T, bin_s=0.01)
    return path


def lft(folder, *options, output="fit.h5"):
    out = folder / output
    return main(["fit", str(folder / "rec.npz"), "-o", str(out), "--overwrite", "--json", str(out) + ".json", *options])


def test_check_scan_and_heat_stand_in_the_files(folder, capsys):
    options = ("--check", str(folder / "c.png"), "--heat", str(folder / "h.png"), "--bin-scan", "10 ms,20 ms")
    assert lft(folder, "--model", "neural", *options) == 0
    said = json.loads((folder / "fit.h5.json").read_text())
    assert said["checks"]["failed"] == [] and said["checks"]["statistics"]["pairs"]["fitted"]
    assert said["pitfalls"]["drift"]["p_rates"] > 0.001 and said["pitfalls"]["clipped"] == 0
    assert [p["bin_s"] for p in said["bin_scan"]["points"]] == [0.01, 0.02]
    assert len(said["specific_heat"]["fit"]["beta"]) == 12 and "critical" in said["specific_heat"]["caveat"]
    stored = load_fit(folder / "fit.h5")
    assert stored["check_pairs"].shape == (4, 6) and stored.json["checks"] == said["checks"]
    assert all((folder / name).stat().st_size > 10_000 for name in ("c.png", "h.png"))
    assert "not rejected" in capsys.readouterr().out


def test_a_model_without_time_fails_its_check(folder):
    assert lft(folder, "--model", "pairwise", "--check", output="static.h5") == 0
    failed = json.loads((folder / "static.h5.json").read_text())["checks"]["failed"]
    assert "autocorrelation" in failed and "pairs" not in failed


def test_compare_saves_the_selected_model(folder, capsys):
    assert lft(folder, "--compare", "pairwise,neural,kinetic", output="best.h5") == 0
    ranking = json.loads((folder / "best.h5.json").read_text())["ranking"]
    assert ranking["selected"] == "neural" == load_fit(folder / "best.h5").model
    assert {m["model"] for m in ranking["models"]} == {"independent", "pairwise", "neural", "kinetic"}
    assert {m["model"]: m["n_parameters"] for m in ranking["models"]} == {
        "independent": 4, "pairwise": 10, "neural": 11, "kinetic": 20,
    }  # fmt: skip
    assert "selected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--compare", "pairwise,ising"), "ising"),
        (("--compare", "pairwise", "--test", "0"), "held-out"),
        (("--model", "pairwise", "--check", "c.txt"), "c.txt"),
        (("--model", "pairwise", "--bin-scan", "10 ms"), "at least 2"),
        (("--model", "pairwise", "--bin-scan", "10 ms,15 ms"), "multiple"),
        (("--model", "kinetic", "--heat"), "kinetic"),
        (("--model", "lattice", "--check"), "lattice"),
        (("--model", "glm", "--family", "poisson", "--check"), "poisson"),
        (("--model", "glm", "--trials", "0 ms,50 ms", "--check"), "--trials"),
        (("--model", "lattice", "--input", "smooth:4"), "--input: only for --model pairwise, neural"),
        (("--model", "independent", "--trials=-50 ms,50 ms"), "--trials: only for"),
        (("--model", "lattice", "--events", "none.txt"), "--events: only for"),
        (("--model", "kinetic", "--events", "none.txt"), "nothing uses the events"),
        (("--model", "independent", "--ridge", "3"), "--ridge: only for"),
        (("--model", "kinetic", "--reach", "1,3"), "--reach: only for"),
        (("--model", "pairwise", "--lags", "3"), "--lags: only for"),
        (("--model", "pairwise", "--family", "poisson"), "--family: only for"),
        (("--model", "pairwise", "--accuracy", "0.1"), "only for --method boltzmann"),
        (("--compare", "pairwise,neural", "--lags", "2"), "not for --model pairwise, neural"),
        (("--compare", "pairwise", "--method", "bolzmann"), "'bolzmann'"),
        (("--compare", "pairwise", "--model", "kinetic"), "names its models"),
    ],
)
def test_bad_input(folder, options, words, capsys):
    assert lft(folder, *options, output="bad.h5") == 2
    message = capsys.readouterr().err.strip()
    assert words in message and "\n" not in message and not (folder / "bad.h5").exists()


def test_what_the_selected_model_does_not_have_is_left_out(tmp_path):
    """Independent units on a lattice: their fields are checked unit by unit, and no finished ranking is lost."""
    rng = np.random.default_rng(5)
    rates = np.array([0.02, 0.3, 0.1, 0.2, 0.15, 0.25])
    grid = 42.0 * np.array([[1, 1], [0, 0], [2, 0], [0, 1], [1, 0], [2, 1]])  # not in the order of the sites
    np.savez(tmp_path / "rec.npz", raster=rng.random((6, 4000)) < rates[:, None], bin_s=0.01, positions=grid)
    extra = ("--check", "--heat", "--bin-scan", "10 ms,20 ms")
    assert lft(tmp_path, "--compare", "pairwise", *extra, output="best.h5") == 0
    said = json.loads((tmp_path / "best.h5.json").read_text())
    assert said["ranking"]["selected"] == said["model"] == "independent"
    assert said["checks"]["failed"] == []  # rates of the wrong units fail
    assert not {"bin_scan", "specific_heat"} & set(said)
    assert [w.split(":")[0] for w in said["warnings"] if "not done" in w] == ["--bin-scan", "--heat"]
