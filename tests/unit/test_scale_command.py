"""``lft scale`` and ``lft analyze --reweight``: what they write, and what they say to bad input."""

import json

import pytest

from lft.cli import main

CONFIG = """seed = {seed}
[lattice]
shape = {shape}
[action]
name = "{name}"
{couplings}
[update]
name = "metropolis"
[run]
start = "hot"
thermalize = 100
updates = 24000
measure_every = 16
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Archives of L = 4, 6, 8 at K = 0.42, a rectangle, a real field, and one at another coupling."""
    path = tmp_path_factory.mktemp("scale")
    runs = {"L4": ([4, 4], "ising", "K = 0.42"), "L6": ([6, 6], "ising", "K = 0.42"),
            "L8": ([8, 8], "ising", "K = 0.42"), "L4b": ([4, 4], "ising", "K = 0.5"),
            "flat": ([4, 8], "ising", "K = 0.42"),
            "short": ([8, 8], "ising", "K = 0.43"), "phi4": ([4, 4], "phi4", "kappa = 0.2\nlambda = 0.5"),
            "zero": ([4, 4], "ising", "K = 3.0")}
    for seed, (name, (shape, action, couplings)) in enumerate(runs.items()):
        text = CONFIG.format(seed=seed, shape=shape, name=action, couplings=couplings)
        if name == "short":
            text = text.replace("24000", "800")
        if name == "zero":
            text = text.replace('"hot"', '"cold"')
        (path / "run.toml").write_text(text)
        assert main(["run", str(path / "run.toml"), "-o", str(path / f"{name}.h5"), "--quiet"]) == 0
    return path


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_scale_writes_table_json_and_figure(folder, capsys, tmp_path):
    three = [folder / f"{name}.h5" for name in ("L4", "L6", "L8", "L4b")]
    code, out, _ = run(capsys, "scale", *three, "--json", tmp_path / "s.json", "--plot", tmp_path / "s.png")
    assert code == 0 and "K_c     =" in out and "nu      =" in out
    data = json.loads((tmp_path / "s.json").read_text())
    assert data["sizes"] == [4, 6, 8] and data["coupling"] == "K" and data["collapse"] is None
    assert 0.3 < data["critical"]["value"] < 0.6 and data["nu"]["error"] > 0
    assert (tmp_path / "s.png").stat().st_size > 10_000


def test_reweighting_writes_observables(folder, capsys):
    code, out, _ = run(capsys, "analyze", folder / "L8.h5", "--reweight", "K=0.43", "--json", "-")
    data = json.loads(out)["reweighted"]
    assert code == 0 and data["couplings"] == {"K": 0.43, "h": 0.0} and data["n_effective"] > 100
    assert {"binder", "susceptibility", "bond_x", "m2"} <= set(data["observables"])
    code, out, _ = run(capsys, "analyze", folder / "L8.h5", "--reweight", "b=1.02")
    assert code == 0 and "reweighted to b = 1.02" in out
    code, out, _ = run(capsys, "analyze", folder / "phi4.h5", "--reweight", "kappa=0.205,lambda=0.52", "--json", "-")
    assert code == 0 and json.loads(out)["reweighted"]["couplings"] == {"kappa": 0.205, "lambda": 0.52}


def test_constant_observables_are_flagged(folder, capsys):
    code, out, err = run(capsys, "analyze", folder / "zero.h5", "--reweight", "h=0.0")
    assert code == 0 and "constant: no error can be estimated" in out and "0 does not mean exact" in err


@pytest.mark.parametrize("arguments, words", [
    (["analyze", "L8.h5", "--reweight", "K=0.9"], "extrapolation; within reach is K ="),
    (["analyze", "short.h5", "--reweight", "K=0.43"], "even where they ran they are worth only"),
    (["scale", "short.h5", "L4.h5", "L6.h5"], "L = 8 has only"),
    (["analyze", "L8.h5", "--reweight", "J=0.4"], "coupling 'J': these archives can be reweighted in K, h"),
    (["analyze", "L8.h5", "--reweight", "K"], "valid is COUPLING=NUMBER"),
    (["analyze", "L8.h5", "--reweight", "K=nan"], "valid is COUPLING=NUMBER"),
    (["analyze", "L8.h5", "--reweight", "K=0.42", "--plot", "a.png"], "not together with --reweight"),
    (["scale", "L4.h5", "L6.h5"], "at least 3 sizes"),
    (["scale", "L4.h5", "L6.h5", "flat.h5"], "sides of one length"),
    (["scale", "L4.h5", "L6.h5", "phi4.h5"], "is another theory than"),
    (["scale", "L4.h5", "L6.h5", "L8.h5", "--coupling", "J"], "these archives have K, h"),
    (["scale", "L4.h5", "L6.h5", "L8.h5", "--binder", "0.9"], "U = 0.90000 on L = 4: not within reach"),
    (["scale", "L4.h5", "L6.h5", "L8.h5", "--json", "L6.h5"], "is read by this command"),
    (["scale", "nothing.h5", "L6.h5", "L8.h5"], "no such file"),
])
def test_bad_input_is_one_line(folder, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(folder)
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and words in err and err.count("\n") == 1, (code, err)
