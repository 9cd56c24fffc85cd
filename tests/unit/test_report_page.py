"""``lft report``: everything that the files hold is on the page, and the page needs nothing beside it."""

import base64
import html
import itertools
import json
import re
from html.parser import HTMLParser

import h5py
import numpy as np
import pytest

from lft.analysis.estimate import format_with_error
from lft.cli import main

LATTICE = """seed = 3
[lattice]
shape = [16, 16]
[action]
name = "ising"
K = 0.3
[update]
name = "heatbath"
[run]
updates = 1600
measure_every = 2
save_every = 2
[anneal]
restarts = 3
sweeps = 20
"""
NETWORK = """[population.x]
neuron = "rate"
gain = "erf"
[[connection]]
from = "x"
to = "x"
weights = "gaussian"
mean = 0.2
std = 0.8
[solve]
mode = "{mode}"
dt = 0.1
duration = 4.0
samples = 256
"""


class Page(HTMLParser):
    """Tags that are open, images, and the text without tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.cells = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes)["src"])
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.cells.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One file of each kind."""
    path = tmp_path_factory.mktemp("report")
    (path / "run.toml").write_text(LATTICE)
    rng = np.random.default_rng(4)
    raster = rng.random((5, 3000)) < 0.2
    raster[1] |= raster[0] & (rng.random(3000) < 0.4)
    np.savez(path / "spikes.npz", raster=raster.astype(np.int8), bin_s=0.01)
    at = lambda name: str(path / name)  # noqa: E731
    lines = [
        ["run", at("run.toml"), "-o", at("a.h5"), "--quiet"],
        ["anneal", at("run.toml"), "-o", at("ground.h5")],
        ["fit", at("spikes.npz"), "--model", "pairwise", "-o", at("fit.h5"), "--json", at("fit.json")],
        ["flow", at("a.h5"), "-o", at("refit.h5"), "--levels", "1"],
        ["flow", at("a.h5"), "-o", at("mcrg.h5"), "--method", "mcrg", "--levels", "1", "--operators", "2,1"],
        ["run", at("run.toml"), "-o", at("half.h5"), "--quiet", "--set", "lattice.shape=[8,8]"],
        ["flow", at("a.h5"), "-o", at("matching.h5"), "--method", "matching", "--against", at("half.h5")],
    ]
    for mode in ("stationary", "two-time"):
        (path / f"{mode}.toml").write_text(NETWORK.format(mode=mode))
        lines.append(["meanfield", at(f"{mode}.toml"), "-o", at(f"{mode}.h5")])
    for line in lines:
        assert main(line) == 0, line
    return path


def page(path):
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.open == []  # every element is closed, in order
    return text, parsed


def test_one_page_holds_every_kind_with_its_figure(folder, tmp_path, capsys):
    kinds = ["a", "ground", "fit", "refit", "mcrg", "matching", "stationary", "two-time"]
    out = tmp_path / "report.html"
    assert main(["report", *(str(folder / f"{k}.h5") for k in kinds), "-o", str(out)]) == 0
    text, parsed = page(out)
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "http" not in re.sub(r'"data:[^"]*"', "", text)
    assert len(parsed.images) == len(kinds) - 1  # a ground state has none
    for image in parsed.images:
        data = base64.b64decode(image.removeprefix("data:image/png;base64,"))
        assert data.startswith(b"\x89PNG") and len(data) > 5000
    for kind in kinds:
        assert f"{kind}.h5: " in " ".join(parsed.cells)


def test_every_coupling_of_a_fit_stands_on_the_page_with_its_error(folder, tmp_path):
    fit = json.loads((folder / "fit.json").read_text())
    out = tmp_path / "r.html"
    assert main(["report", str(folder / "fit.h5"), "-o", str(out)]) == 0
    _, parsed = page(out)
    assert len(fit["couplings"]) == 15
    for name, pair in fit["couplings"].items():
        at = parsed.cells.index(name)
        assert parsed.cells[at + 1] == format_with_error(pair["value"], pair["error"])


def test_estimates_of_an_archive_are_those_of_analyze(folder, tmp_path):
    out, numbers = tmp_path / "r.html", tmp_path / "a.json"
    assert main(["report", str(folder / "a.h5"), "-o", str(out)]) == 0
    assert main(["analyze", str(folder / "a.h5"), "--json", str(numbers)]) == 0
    _, parsed = page(out)
    beside = set(itertools.pairwise(parsed.cells))
    scalars = {n: e for n, e in json.loads(numbers.read_text())["observables"].items() if isinstance(e["value"], float)}
    assert len(scalars) > 10
    for name, entry in scalars.items():
        assert (name, format_with_error(entry["value"], entry["error"])) in beside


def test_numbers_and_figures_of_any_command_can_be_added(folder, tmp_path):
    odd = {"model": "<b>&", "warnings": ["a < b"], "couplings": {"K<1>": {"value": None, "error": None}},
           "list": [{"level": 1, "value": 2.0, "error": 0.1}], "many": {str(n): {"value": n, "error": 1} for n in
                                                                        range(100)}}
    (tmp_path / "odd.json").write_text(json.dumps(odd))
    (tmp_path / "f.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    out = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "odd.json"), str(tmp_path / "f.svg"), "-o", str(out)]) == 0
    text, parsed = page(out)
    shown = "".join(parsed.cells)
    for part in ("K<1>", "not determined", "a < b", "2.00(10)", "<b>&", "and 40 more in the file"):
        assert part in shown, part
    assert "<b>" not in text and parsed.images[0].startswith("data:image/svg+xml;base64,")
    assert html.escape("K<1>") in text


def test_phenomenological_flows_have_their_curves(folder, tmp_path):
    out = tmp_path / "r.html"
    assert main(["flow", str(folder / "spikes.npz"), "-o", str(tmp_path / "p.h5"), "--method", "prg"]) == 0
    assert main(["report", str(tmp_path / "p.h5"), "-o", str(out)]) == 0
    _, parsed = page(out)
    assert len(parsed.images) == 1 and "alpha" in parsed.cells


def test_bad_input_leaves_no_page(folder, tmp_path, capsys):
    h5py.File(tmp_path / "other.h5", "w").close()
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "notes.txt").write_text("x")
    out = tmp_path / "r.html"
    for name, words in {
        str(folder / "spikes.npz"): "a recording",
        str(folder / "run.toml"): "valid are files that lft wrote",
        "missing.h5": "no such file",
        str(tmp_path / "other.h5"): "schema is None",
        str(tmp_path / "broken.json"): "not JSON",
        str(tmp_path / "list.json"): "holds a list",
        str(tmp_path / "notes.txt"): "valid are",
    }.items():
        capsys.readouterr()
        assert main(["report", str(folder / "fit.h5"), name, "-o", str(out)]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
        assert not out.exists()
    out.write_text("mine")
    assert main(["report", str(folder / "fit.h5"), "-o", str(out)]) == 2
    assert out.read_text() == "mine"
    assert main(["report", str(folder / "fit.h5"), "-o", str(out), "--overwrite"]) == 0
    assert main(["report", str(folder / "fit.h5"), "-o", str(folder / "fit.h5"), "--overwrite"]) == 2
