"""Directed percolation at its critical point: the known exponents of 1+1 dimensions, and none beside it."""

import numpy as np
import pytest

from lft.analysis.spreading import exponents
from lft.archive import Archive
from lft.cli import main

pytestmark = pytest.mark.validate

KNOWN = {"delta": 0.159464, "theta": 0.313686, "2/z": 1.265226}
CONFIG = """seed = {seed}
[lattice]
shape = [4096, 5001]
[action]
name = "directed-percolation"
p = {p}
kind = "{kind}"
[run]
start = "{start}"
replicas = {n}
"""


def measured(folder, kind, p, start="seed", n=12800, seed=5):
    """{name: (z against the known exponent, error)} of the slopes from step 250 to 5000."""
    (folder / "c.toml").write_text(CONFIG.format(kind=kind, p=p, start=start, n=n, seed=seed))
    assert main(["run", str(folder / "c.toml"), "-o", str(folder / "c.h5"), "--quiet", "--overwrite"]) == 0
    with Archive(folder / "c.h5") as archive:
        assert start == "full" or archive.spreading["contact"] == -1
        found = exponents(archive, 250, 5000)
    values = {k: v for k, v in found.items() if isinstance(v, dict)}
    return {k: ((v["value"] - KNOWN[k]) / v["error"], v["error"]) for k, v in values.items()}


@pytest.mark.parametrize(("kind", "p"), [("bond", 0.644700185), ("site", 0.70548515)])
def test_exponents_from_a_seed(tmp_path, kind, p):
    found = measured(tmp_path, kind, p)
    assert set(found) == set(KNOWN)
    assert all(abs(z) < 4.5 and error < 0.01 for z, error in found.values()), found


def test_decay_of_a_full_lattice(tmp_path):
    (z, error), = measured(tmp_path, "bond", 0.644700185, "full", 384).values()
    assert abs(z) < 4.5 and error < 0.003


@pytest.mark.parametrize("p", [0.6417, 0.6477])
def test_beside_the_threshold_they_are_rejected(tmp_path, p):
    """Half a percent away: the critical point is seen, not any power law."""
    found = measured(tmp_path, "bond", p)
    assert np.abs([z for z, _ in found.values()]).max() > 9
