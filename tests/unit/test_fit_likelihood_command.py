"""``lft fit --method exact, boltzmann, tap, ...``: files that simulate, scores of the right kind, clear refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

from lft.cli import main
from lft.inference.likelihood import GibbsModel, load_model
from lft.inference.result import load_fit

TRUTH = GibbsModel([-1.0, -0.5, -1.0], [[0, 0.8, 0], [0.8, 0, -0.4], [0, -0.4, 0]], None, {1: 0.4})


@pytest.fixture
def recording(here):
    np.savez("r.npz", raster=TRUTH.simulate(500, seed=1)[0].T, bin_s=0.02)
    return "r.npz"


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("pairwise", "exact"),
        ("neural", "exact"),
        ("k-pairwise", "exact"),
        ("lagged", "exact"),
        ("lagged", "boltzmann"),
        ("pairwise", "boltzmann"),
        ("pairwise", "mean-field"),
        ("pairwise", "tap"),
        ("pairwise", "sessak-monasson"),
        ("pairwise", "bethe"),
        ("pairwise", "mpf"),
    ],
)
def test_every_method(recording, model, method):
    options = ["--accuracy", "0.3"] if method == "boltzmann" else []
    assert not main(
        ["fit", recording, "--model", model, "--method", method, "-o", "f.h5", "--json", "f.json", *options]
    )
    found = json.loads(Path("f.json").read_text())
    kind = "log-likelihood" if method in ("exact", "boltzmann") else "pseudo-log-likelihood"
    assert (found["model"], found["method"], found["score"]["kind"]) == (model, method, kind)
    assert -1 < found["score"]["test"] < 0 and found["n_units"] == 3 and found["n_bins"] == 500
    fit = load_fit("f.h5")
    assert np.isfinite(fit["log_z"]).all() == (kind == "log-likelihood")
    x = load_model("f.h5").simulate(20, seed=1)
    assert x.shape == (1, 20, 3) and set(np.unique(x)) <= {0, 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "lattice", "--method", "exact"], "valid for the model lattice are pseudo"),
        (["--model", "pairwise", "--method", "plefka"], "valid for the model pairwise are"),
        (["--model", "pairwise", "--method", "tap", "--ridge", "1"], "--ridge 1"),
        (["--model", "neural", "--method", "exact", "--reach", "1,9"], "--method boltzmann"),
        (["--model", "neural", "--method", "exact", "--reach", "1,600"], "--reach '1,600'"),
        (["--model", "lagged", "--method", "exact", "--reach", "1,9"], "--method boltzmann"),
        (["--model", "lagged", "--method", "boltzmann", "--reach", "1,0"], "TIME of at least 1 bin"),
        (["--model", "pairwise", "--method", "boltzmann", "--accuracy", "0"], "accuracy = 0"),
    ],
)
def test_refusals(recording, capsys, arguments, message):
    assert main(["fit", recording, "-o", "f.h5", *arguments]) == 2
    assert message in capsys.readouterr().err
