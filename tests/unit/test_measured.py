"""What archives hold for reweighting: the operators must give back the action, sum_k g_k O_k = S."""

import numpy as np
import pytest

from lft.analysis.measured import Measured, read_measured
from lft.analysis.reweight import Reweighting
from lft.archive import Archive
from lft.cli import main
from lft.errors import InputError, SeriesTooShort
from lft.testing import ar1_series

RUN = "[update]\nname = '{update}'\n{more}[run]\nstart = 'hot'\nthermalize = 5\nupdates = 40\nmeasure_every = 2\n"
LATTICES = {
    "one K": ("shape = [4, 6]", "name = 'ising'\nK = 0.3\nh = 0.1", {"K", "h"}),
    "K per axis, open": ("shape = [4, 6]\nboundary = ['open', 'periodic']", "name = 'ising'\nK = [0.3, 0.1]",
                         {"K_x", "K_y", "h"}),
    "displacements": ("shape = [4, 6]", "name = 'ising'\nK = {'1,0' = 0.2, '1,1' = 0.1}", {"K_x", "K[1,1]", "h"}),
    "phi4": ("shape = [4, 6]", "name = 'phi4'\nkappa = 0.2\nlambda = 0.5", {"kappa", "lambda"}),
    "phi4 per axis": ("shape = [4, 6]", "name = 'phi4'\nkappa = [0.2, 0.1]\nlambda = 0.0",
                      {"kappa_x", "kappa_y", "lambda"}),
}


def archive(tmp_path, lattice, action, update="metropolis", more=""):
    text = f"seed = 5\n[lattice]\n{lattice}\n[action]\n{action}\n" + RUN.format(update=update, more=more)
    (tmp_path / "run.toml").write_text(text)
    path = tmp_path / "run.h5"
    assert main(["run", str(tmp_path / "run.toml"), "-o", str(path), "--quiet", "--overwrite"]) == 0
    return path


@pytest.mark.parametrize("name", list(LATTICES))
def test_couplings_times_operators_are_the_action(tmp_path, name):
    lattice, action, names = LATTICES[name]
    with Archive(archive(tmp_path, lattice, action)) as a:
        (m,) = read_measured(a)
        S = a.samples("action_density") * 24
    assert set(m.couplings) == names and m.volume == 24 and m.extent == 4
    total = sum(m.couplings[k] * m.operators[k] for k in names)
    if "phi4" in name:
        total = total + 24 * m.observables["phi2"]
    assert total == pytest.approx(S, rel=1e-12)


def test_temperatures_scale_the_couplings(tmp_path):
    ladder = "[tempering]\ninverse_temperatures = [0.5, 1.0]\nswap_every = 2\ncoupling = 'K'\n"
    with Archive(archive(tmp_path, *LATTICES["one K"][:2], more=ladder)) as a:
        low, high = read_measured(a)
        assert low.couplings == {"K": 0.15, "h": 0.1} and high.couplings == {"K": 0.3, "h": 0.1}
        with pytest.raises(InputError, match="scale K alone"):
            read_measured(a, whole=True)
    with Archive(archive(tmp_path, *LATTICES["one K"][:2], more=ladder.replace("coupling = 'K'\n", ""))) as a:
        assert [m.couplings for m in read_measured(a)] == [{"b": 0.5}, {"b": 1.0}]


def test_arrays_of_couplings_leave_the_temperature(tmp_path):
    np.save(tmp_path / "J.npy", 0.1 * (np.ones((4, 4)) - np.eye(4)))
    action = f"name = 'pairwise'\nJ = '{tmp_path / 'J.npy'}'\nh = 0.1"
    with Archive(archive(tmp_path, "shape = [4, 8]\naxes = ['unit', 't']", action)) as a:
        (m,) = read_measured(a)
        assert m.couplings == {"b": 1.0} and m.operators["b"] == pytest.approx(a.samples("action_density") * 32)


def test_what_is_no_function_of_a_configuration_is_refused(tmp_path):
    with Archive(archive(tmp_path, *LATTICES["one K"][:2], update="swendsen-wang")) as a:
        (m,) = read_measured(a)
        assert "m2_improved" in a.names and "acceptance" not in m.observables
        with pytest.raises(InputError, match="average over the clusters"):
            m.column("m2_improved")
        assert np.array_equal(m.column("structure_x[1]"), a.samples("structure_x")[:, 1])
        with pytest.raises(InputError, match="no observable 'structure_x'"):
            m.column("structure_x")


def one(n=400, **changes):
    o = ar1_series(n, 0.0, seed=1)
    return Measured(**{"couplings": {"K": 0.1}, "operators": {"K": o}, "observables": {"a": o**2}, "volume": 4,
                       "extent": 2, **changes})


def test_a_magnetization_that_does_not_turn_leaves_the_coupling_of_bonds_alone():
    o, slow = ar1_series(4000, 0.0, seed=2), ar1_series(4000, 0.999, seed=3)
    m = Measured({"K": 0.1, "h": 0.0}, {"K": o, "h": slow}, {"a": o}, 4, 2)
    r = Reweighting([m])  # warnings are errors: none for h, whose coupling does not move
    assert r.n_effective(K=0.2) > 2000 and r.n_effective(h=0.001) < 100
    with pytest.raises(InputError, match=r"h = 0\.001: "):
        r.mean("a", h=0.001)


def test_short_ensembles_are_said_to_be():
    with pytest.warns(SeriesTooShort, match="errors after reweighting are not to be trusted"):
        Reweighting([one(operators={"K": ar1_series(400, 0.95, seed=4)})])


@pytest.mark.parametrize("call, message", [
    (lambda: one(operators={"h": np.ones(400)}), "one operator per coupling"),
    (lambda: one(observables={"a": np.ones(3)}), "must hold 400 finite measurements"),
    (lambda: Reweighting([]), "no ensemble"),
    (lambda: Reweighting([one()], n_blocks=4), "n_blocks = 4"),
    (lambda: Reweighting([one(100)], n_blocks=40), "100 measurements are too few for 40 blocks"),
    (lambda: Reweighting([one(), one(fixed=("other",))]), "another theory"),
    (lambda: Reweighting([one(), one(couplings={"K": 0.2})]).point(), "give the value you want"),
    (lambda: Reweighting([one()]).point(K=float("nan")), "valid is a finite number"),
    (lambda: Reweighting([one()]).mean(["a", "a"], K=0.1), "2 observables: give function"),
    (lambda: Reweighting([one()]).mean("a", K=9.0), r"K = 9: .* extrapolation; within reach is K = -"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
