"""Tempering and annealing from the command line, their files, and the parts of the engine that they use."""

import json

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from lft.actions import Ising, Neural, Pairwise, Phi4
from lft.archive import Archive
from lft.cli import main
from lft.errors import InputError
from lft.geometry import Graph, Lattice
from lft.groups import Groups
from lft.implementations import choose
from lft.rng import Key
from lft.tempering import Ladder, contract
from lft.updaters import HeatBath, Metropolis, start

RUN = """
seed = 3
[lattice]
shape = [6, 8]
axes = ["x", "t"]
spacing = ["42 um", "20 ms"]
[action]
name = "ising"
K = 0.3
[tempering]
{ladder}
[anneal]
sweeps = 40
restarts = 4
[run]
thermalize = 64
updates = 400
measure_every = 2
save_every = 200
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tempering")
    (path / "run.toml").write_text(RUN.format(ladder="min = 0.6\nmax = 1\ncount = 3\ntune = true"))
    assert main(["run", str(path / "run.toml"), "-o", str(path / "a.h5"), "--quiet"]) == 0
    return path


def test_the_archive_holds_all_temperatures(folder):
    with Archive(folder / "a.h5") as archive:
        t = archive.tempering
        assert archive.samples("bond_x").shape == (200, 3) and archive.samples("correlator_t").shape == (200, 3, 5)
        assert list(archive.file["samples/correlator_t"].attrs["axes"]) == ["temperature", "component"]
        assert list(archive.file["samples/acceptance"].attrs["axes"]) == ["temperature"]
        assert t["target"] == 2 and archive.n_configurations == 2 and len(archive.state_arrays()) == 3
        assert sorted(t["replica"]) == [0, 1, 2] and t["inverse_temperatures"][[0, 2]].tolist() == [0.6, 1.0]
        assert archive.file.attrs["schema_version"] == 1  # what is new is a group of its own
        assert all(part.fletcher32 for part in archive.file["tempering"].values())  # damage of the file shows
        assert archive.config["tempering"]["inverse_temperatures"][0] == 0.6
        assert archive.config["tempering"]["target"] == 1.0


def test_analyze_status_flow_and_figure(folder, capsys):
    archive = str(folder / "a.h5")
    assert main(["analyze", archive, "--json", str(folder / "a.json"), "--plot", str(folder / "a.png")]) == 0
    out = capsys.readouterr().out
    data = json.loads((folder / "a.json").read_text())
    assert len(data["observables"]["bond_x"]["value"]) == 3 and len(data["observables"]["m2"]["tau_int"]) == 3
    assert np.shape(data["observables"]["correlator_t"]["value"]) == (3, 5)
    assert set(data["physical"]) <= {"xi_x", "xi_t"} and "replica" not in data["observables"]
    t = data["tempering"]
    assert len(t["swaps"]["acceptance"]) == 2 and 0 < t["barrier"] < 2 and t["target"] == 1.0
    assert t["round_trip"]["value"] > t["round_trip"]["ideal"] * 0.5
    assert sum(t["replicas"]["round_trips"]) == t["round_trips"]
    assert t["flow"][0] == 1.0 and t["flow"][-1] == 0.0
    assert "communication barrier" in out and out.count("  b = 1 ") == len(data["observables"]) + 1
    assert main(["status", archive, "--json", "-"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["temperatures"] == 3 and status["round_trips"] == t["round_trips"] and status["updates"] == 464
    assert main(["flow", archive, "-o", str(folder / "flow.h5"), "--levels", "1"]) == 0


def test_few_round_trips_and_closed_pairs_are_said(folder, capsys):
    (folder / "far.toml").write_text(RUN.format(ladder="inverse_temperatures = [0.2, 9.0]"))
    assert main(["run", str(folder / "far.toml"), "-o", str(folder / "far.h5"), "--quiet"]) == 0
    assert main(["analyze", str(folder / "far.h5")]) == 0
    err = capsys.readouterr().err
    assert "fewer than 10" in err and "no configuration ever passed between b = 0.2 and b = 9" in err


def test_a_plain_run_is_what_it_was(folder, capsys):
    """A chain without [tempering] has no trace of it."""
    text = (folder / "run.toml").read_text()
    lines = (line for line in text.splitlines() if not line.startswith(("[temp", "min", "max", "count", "tune")))
    plain = "\n".join(lines)
    (folder / "plain.toml").write_text(plain)
    assert main(["run", str(folder / "plain.toml"), "-o", str(folder / "plain.h5"), "--quiet"]) == 0
    with Archive(folder / "plain.h5") as archive:
        assert archive.tempering is None and "tempering" not in archive.file and "tempering" not in archive.config
        assert archive.samples("bond_x").shape == (200,)


def test_anneal_writes_what_it_found(folder, capsys):
    path = folder / "ground.h5"
    assert main(["anneal", str(folder / "run.toml"), "-o", str(path), "--json", str(folder / "ground.json")]) == 0
    assert "reached by" in capsys.readouterr().out
    data = json.loads((folder / "ground.json").read_text())
    assert data["action"] == pytest.approx(-0.3 * 96) and data["restarts"] == 4
    assert sum(data["energies"]["restarts"]) == 4 and data["energies"]["action"][0] == data["action"]
    with h5py.File(path, "r") as file:
        assert file.attrs["schema"] == "lft-ground" and file["actions"].shape == (4,)
        assert file["configurations"].shape == (data["configurations"], 6, 8)
        assert set(np.unique(file["configurations"])) <= {-1, 1}
        assert file["actions"][()].min() == data["action"] == file.attrs["lowest"]
    argv = ["anneal", str(folder / "run.toml"), "-o", str(path), "--overwrite", "--json", "-"]
    assert main([*argv, "--set", "anneal.restarts=1"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["reached"] == 1 and "one restart" in err


# --- parts


GLASS = np.array([[0, 0.5, -1.0], [0.5, 0, 0.25], [-1.0, 0.25, 0]])
ACTIONS = [
    (Ising(K=(0.3, -0.2), h=0.1), Lattice((4, 5))),
    (Ising(K={(1, 1): 0.3}, h=np.linspace(-1, 1, 20).reshape(4, 5)), Lattice((4, 5))),
    (Phi4(kappa=0.2, lam=0.7), Lattice((4, 4))),
    (Phi4(kappa=(0.1, 0.2), lam=0.0), Lattice((4, 4))),
    (Neural(A=GLASS, B={1: 0.2, 2: -0.1}, I=0.3), Graph(3, 7)),
    (Neural(A=csr_matrix(GLASS), I=np.array([0.1, 0.2, 0.3])), Graph(3, 7)),
    (Neural(B={1: 0.2}, I=0.3), Graph(3, 7)),
    (Pairwise(J=GLASS, h=0.2), Graph(3, 4)),
    (Pairwise(J=csr_matrix(GLASS), h=np.array([0.1, -0.2, 0.3])), Graph(3, 4)),
]


@pytest.mark.parametrize(("action", "geometry"), ACTIONS, ids=lambda v: type(v).__name__)
def test_a_scaled_action_is_a_multiple(action, geometry):
    phi = action.new_field(geometry)
    start(phi, "hot", Key(8))
    S = action.S(phi)
    assert action.scaled(1.0) is action
    for b in (0.25, 0.7, 3.0):
        assert action.scaled(b).S(phi) == pytest.approx(b * S, rel=1e-12)
        assert action.scaled(b).name == action.name
    operators = action.operators(phi)
    assert sum(contract(g, operators[name]) for name, g in action.couplings.items()) == pytest.approx(S, rel=1e-12)
    for name, g in action.couplings.items():
        if name != "unit" and g is not None:
            tempered = Ladder((0.5, 1.0), coupling=name).scaled(action, 0.5)
            rest = S - contract(g, operators[name])
            assert tempered.S(phi) == pytest.approx(rest + 0.5 * (S - rest), rel=1e-12)


def test_the_force_of_a_scaled_field_is_a_multiple():
    action = Phi4(kappa=0.2, lam=0.7)
    phi = action.new_field(Lattice((4, 4)))
    start(phi, "hot", Key(8))
    assert action.scaled(0.3).force(phi) == pytest.approx(0.3 * action.force(phi), rel=1e-12)
    with pytest.raises(InputError, match="b = 0"):
        action.scaled(0.0)


@pytest.mark.parametrize("updater", [Metropolis(), HeatBath()])
@pytest.mark.parametrize("action", [Ising(K=0.4, h=0.1), Ising(K=(0.4, -0.2)), Ising(K={(0, 1): 0.4}, h=-0.2)])
def test_packed_copies_trade_places_and_count_as_the_field_does(action, updater):
    fields, loops = [], []
    for seed in (1, 2):
        phi = action.new_field(Lattice((5, 6)))
        start(phi, "hot", Key(seed))
        fields.append(phi)
        loops.append(choose(action.scaled(seed), updater, phi))
        loops[-1].update(_state(phi), Key(seed), 3)
    assert {l.name for l in loops} == {"ising-bits"}
    energies = [_energy(l, action) for l in loops]
    loops[0].exchange(loops[1])
    assert [_energy(l, action) for l in loops] == energies[::-1]
    for phi, l in zip(fields, loops, strict=True):
        l.store()
        assert action.S(phi) == pytest.approx(_energy(l, action), rel=1e-12)
    assert not np.array_equal(fields[0].values, fields[1].values)


def _state(phi):
    from lft.protocols import State

    return State(phi, 0)


def _energy(loops, action):
    return float(np.dot(loops.weights(action.couplings), loops.sums()))


def test_one_rank_holds_every_member():
    groups = Groups(None, 5)
    table = np.arange(5.0).reshape(5, 1)
    assert groups.members == range(5) and groups.n_groups == 1 and groups.within is None
    assert groups.share(table) is table and groups.merge({1: 2}) == {1: 2}
    assert groups.collect(3, "x") == groups.deliver(3, "x") == "x"
