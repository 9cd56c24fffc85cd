"""lft flow --method mcrg, matching and refit --operators: files, JSON forms, figures, and what they refuse."""

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest

from lft.errors import InputError
from tests.helpers import load_json

ISING = """seed = 7
[lattice]
shape = [16, 16]
[action]
name = "ising"
K = {K}
h = {h}
[update]
name = "swendsen-wang"
[run]
thermalize = 50
updates = {updates}
measure_every = 1
save_every = {save_every}
"""
PHI4 = """seed = 8
[lattice]
shape = [8, 8]
[action]
name = "phi4"
kappa = 0.2
lambda = 0.5
[update]
name = "hmc"
[run]
thermalize = 1
updates = 30
measure_every = 1
save_every = 1
"""
GRAPH = """seed = 9
[lattice]
shape = [3, 20]
axes = ["unit", "t"]
[action]
name = "neural"
A = [[0.0, -0.3, 0.1], [-0.3, 0.0, 0.0], [0.1, 0.0, 0.0]]
I = [0.5, 0.6, 0.7]
[update]
name = "metropolis"
[run]
thermalize = 1
updates = 30
measure_every = 1
save_every = 1
"""


def config(name="run.toml", K=0.44, h=0.0, updates=600, save_every=0, shape=None):
    text = ISING.format(K=K, h=h, updates=updates, save_every=save_every)
    Path(name).write_text(text if shape is None else text.replace("[16, 16]", str(shape)))


def test_mcrg_of_a_configuration_and_of_its_archive_agree(lft_main):
    config(save_every=1)
    out, _ = lft_main("flow run.toml --method mcrg -o a.h5 --levels 2 --operators 3,2 --json a.json --plot a.png")
    assert "y_t" in out and "16x16 -> 8x8" in out
    lft_main("run run.toml -o archive.h5 --quiet")
    lft_main("flow archive.h5 --method mcrg -o b.h5 --levels 2 --operators 3,2 --json b.json")
    a, b = load_json("a.json"), load_json("b.json")
    assert a == b
    assert [level["scale"] for level in a["levels"]] == [[1, 1], [2, 2], [4, 4]]
    assert {e["level"] for e in a["eigenvalues"]["y_t"]} == {1, 2}
    assert [e["operators"] for e in a["eigenvalues"]["y_t"] if e["level"] == 1] == [1, 2, 3]
    assert [e["operators"] for e in a["eigenvalues"]["y_h"] if e["level"] == 2] == [1, 2]
    for sector, exact in (("y_t", 1.0), ("y_h", 1.875)):
        best = a["eigenvalues"][sector][-1]
        assert abs(best["value"] - exact) < 4.5 * best["error"] + 0.1
        assert best["error"] == pytest.approx(math.hypot(best["statistical"], best["systematic"]))
        assert best["condition_number"] >= 1
    assert Path("a.png").stat().st_size > 10_000
    with h5py.File("a.h5") as file:
        assert file.attrs["schema"] == "lft-flow" and json.loads(file.attrs["json"]) == a
        T, error = file["y_t/1/T"][()], file["y_t/1/T_error"][()]
    assert T.shape == error.shape == (3, 3) and (error > 0).all()


def test_operators_can_be_named_and_a_singular_level_is_said(lft_main):
    config()
    line = "flow run.toml --method mcrg -o a.h5 --levels 3 --operators".split()
    out, err = lft_main([*line, "h K[1,0] K[2,0]"])
    assert "y_h" in out and "singular stability matrix: condition number inf" in err  # 2 x 2 sites: (2, 0) is constant


def test_matching_finds_the_critical_coupling(lft_main):
    config(K=0.41, updates=5000)
    out, err = lft_main("flow run.toml --method matching -o m.h5 --levels 2 --operators 3,0 --json m.json --plot m.svg")
    data = load_json("m.json")
    found = data["critical"]["K[1,0]"]
    exact = 0.5 * math.log(1 + math.sqrt(2))
    assert abs(found["value"] - exact) < 4.5 * found["error"] and found["error"] < 0.015
    assert "pilot runs moved" in err and "critical K[1,0]" in out
    assert data["shapes"] == [[16, 16], [8, 8]] and [level["shape"] for level in data["levels"]][-1] == [4, 4]
    assert Path("m.svg").stat().st_size > 1000


def test_matching_of_two_archives(lft_main):
    for name, shape in (("large", [16, 16]), ("small", [8, 8])):
        config(f"{name}.toml", updates=500, save_every=1, shape=shape)
        lft_main(f"run {name}.toml -o {name}.h5 --quiet")
    lft_main("flow large.h5 --against small.h5 --method matching -o m.h5 --levels 2 --json m.json")
    assert load_json("m.json")["configurations"] == [500, 500]
    assert "--against" in lft_main("flow large.h5 --method matching -o n.h5", code=2).err
    config("other.toml", K=0.3, save_every=1, shape=[8, 8])
    lft_main("run other.toml -o other.h5 --quiet")
    assert "differ" in lft_main("flow large.h5 --against other.h5 --method matching -o n.h5", code=2).err


@pytest.mark.parametrize("estimator", ["pseudo", "moments"])
def test_refit_in_operators_reports_truncation(lft_main, estimator):
    config(K=0.3, updates=400, shape=[8, 8])
    lft_main(f"flow run.toml --operators 2,0 --estimator {estimator} -o r.h5 --levels 1 --json r.json --plot r.png")
    first, second = load_json("r.json")["levels"]
    K = first["couplings"]["K[1,0]"]
    assert abs(K["value"] - 0.3) < 4.5 * K["error"] and K["error"] < 0.05
    assert set(second["couplings"]) == {"K[1,0]", "K[1,1]"}
    assert second["truncation"]["outside"]["K[0,1;1,0;1,1]"]["gain"] >= 0
    inside = {name for name, e in second["truncation"]["simulation"].items() if e["is_inside"]}
    assert inside == {"1,0", "1,1"} and "density" in second["observables"]


def test_truncation_of_a_nearest_neighbor_flow(lft_main):
    """Blocking makes diagonal couplings; the level 0 has none."""
    config(K=0.4, updates=1600, save_every=2)
    lft_main("run run.toml -o a.h5 --quiet")
    out, _ = lft_main("flow a.h5 --truncation -o f.h5 --levels 1 --json f.json")
    first, second = (level["truncation"] for level in load_json("f.json")["levels"])
    assert set(first["outside"]) == {"K[1,1]", "K[1,-1]"} and "gain" in out
    assert all(abs(e["value"]) < 4.5 * e["error"] for e in first["outside"].values())
    assert all(e["value"] > 4.5 * e["error"] for e in second["outside"].values())
    assert second["gain"] > 10 * first["gain"] >= 0
    assert "always reported" in lft_main("flow a.h5 --truncation --operators 2,0 -o g.h5", code=2).err


def test_anisotropic_couplings_keep_their_axes_apart(lft_main):
    config(K="[0.2, 0.4]", updates=100)
    _, err = lft_main("flow run.toml --operators 2,0 -o r.h5 --levels 0 --json r.json")
    assert "axes that symmetry makes equal: none" in err
    (level,) = load_json("r.json")["levels"]
    for name, exact in (("K[1,0]", 0.2), ("K[0,1]", 0.4)):
        assert abs(level["couplings"][name]["value"] - exact) < 4.5 * level["couplings"][name]["error"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--method mcrg --operators 0,0", "0,0"),
        ("--method mcrg --operators 7", "EVEN,ODD"),
        ("--method mcrg --operators K[1,0,0]", "displacements of 2 integers"),
        ("--method mcrg --levels 0", "--levels 0"),
        ("--method mcrg --blocking average", "average"),
        ("--method mcrg --blocking k-of-n", "--k is missing"),
        ("--method mcrg --blocking or --k 2", "--k 2"),
        ("--method mcrg --factor 3", "no multiple of 3"),
        ("--method mcrg --factor 2,4", "one length rescaling"),
        ("--method mcrg --factor 2,2,2", "2 axes (x, y)"),
        ("--method matching --against x.h5", "makes both lattices itself"),
        ("--operators 2,0 --estimator newton", "pseudo, moments"),
        ("--method tension", "refit, mcrg, matching"),
    ],
)
def test_bad_options_are_one_line(lft_main, line, words):
    config(updates=60)
    _, err = lft_main(f"flow run.toml -o f.h5 {line}", code=2)
    assert words in err and err.count("\n") == 1 and not Path("f.h5").exists()


def test_sources_that_do_not_serve(lft_main):
    Path("phi4.toml").write_text(PHI4)
    Path("graph.toml").write_text(GRAPH)
    config("few.toml", updates=10, save_every=1)
    config("short.toml", updates=100, save_every=1)
    config("field.toml", updates=100, h=0.1)
    np.save("raster.npy", np.zeros((3, 50), np.int8))
    for source, method, words in (
        ("phi4.toml", "mcrg", "real field"),
        ("graph.toml", "mcrg", "graph has no blocks"),
        ("raster.npy", "mcrg", "takes an archive"),
        ("few.toml", "mcrg", "10 configurations"),
        ("short.toml", "mcrg", "too few blocks"),
        ("field.toml", "matching", "valid is h = 0"),
    ):
        _, err = lft_main(f"flow {source} --method {method} -o f.h5", code=2)
        assert words in err and err.count("\n") == 1
    lft_main("run few.toml -o few.h5 --quiet")
    assert "10 configurations" in lft_main("flow few.h5 --method mcrg -o f.h5", code=2).err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--method mcrg", "singular stability matrix: condition number inf"),
        ("--method matching --levels 1", "the configurations are frozen"),
        ("--operators 2,1", "cannot be told apart on this data: condition number"),
    ],
)
def test_constant_operators_are_never_inverted(lft_main, options, words):
    config(K=5.0, updates=110)
    text = Path("run.toml").read_text()
    Path("run.toml").write_text(text.replace("[run]", "[run]\nstart = 'cold'").replace("swendsen-wang", "metropolis"))
    _, err = lft_main(f"flow run.toml {options} -o f.h5", code=2)
    assert words in err and err.count("\n") == 1 and not Path("f.h5").exists()


def test_a_field_mixes_the_sectors_and_is_said(lft_main):
    config(updates=600, h=0.02)
    assert "mix" in lft_main("flow run.toml --method mcrg -o f.h5 --levels 1 --operators 2,1").err


def test_damaged_requests_raise_in_the_library_too():
    from lft.rg.monte_carlo.stability import length_rescaling

    with pytest.raises(InputError, match="one length rescaling"):
        length_rescaling((2, 3))
    assert length_rescaling((1, 2, 2)) == 2.0
