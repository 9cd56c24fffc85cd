"""Causal fits, fits with inputs, and their chains: the same bits on any number of ranks, and after an interruption."""

import numpy as np
import pytest

from lft.archive import Archive, field_sha256
from lft.cli import main
from lft.commands.fit_causal import parse_basis
from lft.inference.causal.fit import fit_glm
from lft.inference.causal.model import CausalModel
from lft.inference.inputs import InputDesign, Smooth
from lft.inference.result import load_fit
from tests.helpers import run_python

SCRIPT = """
import sys
from lft.cli import main
from lft.domain import world
comm = world()
for line in open("lines.txt"):
    if line.strip():
        code = main(line.replace("RANKS", str(1 if comm is None else comm.Get_size())).split())
        assert code == 0, line
"""
N_UNITS, N_BINS = 19, 700  # three batches of targets

LINES = """
fit r.npz --model kinetic --lags 2 -o kRANKS.h5
fit r.npz --model kinetic --penalty l2 --strength 4 -o pRANKS.h5
fit r.npz --model glm --basis raised-cosine:2:40ms --input smooth:3 -o gRANKS.h5
fit r.npz --model neural --input smooth:3 -o nRANKS.h5
run nRANKS.h5 -o naRANKS.h5 --quiet --set run.updates=4 --set run.save_every=2
run k.toml -o kaRANKS.h5 --quiet
run g.toml -o gaRANKS.h5 --quiet
run k.toml -o kbRANKS.h5 --quiet --set run.replicas=2
resume kbRANKS.h5 --updates 3 --quiet
"""


def config(model, fit):
    return (
        f'seed = 5\n[lattice]\nbins = 23\n[action]\nname = "{model}"\ncouplings = "{fit}"\n'
        "[run]\nreplicas = 5\nsave_every = 2\n"
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    J = np.random.default_rng(0).normal(0, 0.1, (1, N_UNITS, N_UNITS))
    raster = CausalModel.of_spins(np.full(N_UNITS, -0.6), J).simulate(N_BINS, seed=1)[0]
    np.savez("r.npz", raster=raster.T, bin_s=0.01)
    assert main("fit r.npz --model kinetic --lags 3 -o k0.h5".split()) == 0
    assert main("fit r.npz --model glm --basis raised-cosine:2:40ms --input smooth:3 -o g0.h5".split()) == 0
    (tmp_path / "k.toml").write_text(config("kinetic", "k0.h5"))
    (tmp_path / "g.toml").write_text(config("glm", "g0.h5"))
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "lines.txt").write_text(LINES)
    return tmp_path, raster


def test_fits_and_chains_do_not_depend_on_ranks(folder):
    path, raster = folder
    for line in LINES.split("\n"):
        assert not line or main(line.replace("RANKS", "1").split()) == 0
    for ranks in (2, 3):
        done = run_python(["script.py"], path, ranks)
        assert done.returncode == 0, done.stderr
    for name in ("k", "p", "g", "n"):
        fits = [load_fit(f"{name}{ranks}.h5") for ranks in (1, 2, 3)]
        for key in fits[0].arrays:
            for other in fits[1:]:
                assert np.array_equal(fits[0][key], other[key], equal_nan=True), (name, key)
    for name in ("ka", "ga", "na"):
        seen = set()
        for ranks in (1, 2, 3):
            with Archive(f"{name}{ranks}.h5") as archive:
                fields = [field_sha256(archive.kind, archive.configuration(i)) for i in range(2)]
                seen.add((field_sha256(archive.kind, archive.last()), archive.series_sha256(), *fields))
        assert len(seen) == 1, name
    with Archive("ka1.h5") as whole, Archive("kb3.h5") as resumed:
        assert np.array_equal(whole.last(), resumed.last()) and whole.series_sha256() == resumed.series_sha256()
    basis = parse_basis("--basis", "raised-cosine:2:40ms", 0.01)
    direct = fit_glm(raster, basis=basis, inputs=InputDesign([Smooth(3)]))
    assert np.array_equal(direct.J_lag, load_fit("g2.h5")["J_lag"])
    with Archive("ga3.h5") as archive:
        drawn = direct.causal_model().simulate(23, seed=5, n_chains=5)
        assert np.array_equal(archive.last(), drawn[4])
