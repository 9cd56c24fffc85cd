"""Archives of every version stay readable, analyzable and resumable; a failed write harms nothing.

``data/NAME-v1.h5`` were written by ``lft run`` (version 0.1.0, 47 updates) and then compressed; the
configuration is inside.  ``data/expected-v1.json`` holds their hashes, and those after 13 more updates.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import h5py
import numpy as np
import pytest

import lft.archive
from lft.archive import SCHEMA, VERSION, Archive, field_sha256
from lft.cli import main
from lft.config import read_config
from lft.errors import ArchiveError, InputError
from lft.simulation import resume, run
from tests.helpers import run_lft

DATA = Path(__file__).parent / "data"
EXPECTED = json.loads((DATA / "expected-v1.json").read_text())
every_version = pytest.mark.parametrize("name", EXPECTED)

CONFIG = """
seed = 5
[lattice]
shape = [6, 4]
axes = ["x", "t"]
boundary = ["open", "periodic"]
spacing = ["42 um", "20 ms"]
mask = "mask.npy"
[action]
name = "ising"
K = 0.3
[run]
thermalize = 2
updates = 20
measure_every = 2
save_every = 10
"""


@pytest.fixture
def old(tmp_path):
    """A copy of a committed archive that may be changed."""

    def copy(name):
        return Path(shutil.copy(DATA / f"{name}-v1.h5", tmp_path / f"{name}.h5"))

    return copy


@pytest.fixture
def archive(tmp_path):
    """An archive of 22 updates, just written."""
    np.save(tmp_path / "mask.npy", np.array([1, 1, 0, 1, 1, 1], bool))
    (tmp_path / "run.toml").write_text(CONFIG)
    run(read_config(tmp_path / "run.toml"), tmp_path / "run.h5", is_quiet=True)
    return tmp_path / "run.h5"


def exact_series(archive):
    """Hash of the series that are sums of the kernels; those by FFT may differ in the last bit elsewhere."""
    digest = hashlib.sha256()
    for name in archive.names:
        if name in ("magnetization", "action_density") or name.startswith(("bond_", "lag_")):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(archive.samples(name), "<f8").tobytes())
    return digest.hexdigest()


# --- old archives


@every_version
def test_an_old_archive_is_read_as_it_was_written(name):
    expected = EXPECTED[name]
    with Archive(DATA / f"{name}-v1.h5") as a:
        assert (a.t, a.n_samples, a.n_configurations, a.action.name) == (47, 10, 2, name)
        assert field_sha256(a.kind, a.last()) == expected["field_sha256"]
        assert a.series_sha256() == expected["series_sha256"]
        assert exact_series(a) == expected["exact_series_sha256"]
        assert [field_sha256(a.kind, a.configuration(k)) for k in range(2)] == expected[
            "configurations_sha256"
        ]
        assert np.array_equal(a.configuration(1), a.last())  # saved at the last update
        assert a.file["samples/t"][()].tolist() == list(range(11, 48, 4))


@every_version
def test_an_old_archive_describes_itself(name):
    # the measured values follow from the stored configuration, couplings and geometry alone
    with Archive(DATA / f"{name}-v1.h5") as a:
        phi = a.action.new_field(a.geometry)
        phi.values[...] = a.geometry.to_storage(a.last())
        phi.exchange()
        V = a.geometry.n_active
        assert a.samples("action_density")[-1] == a.action.S(phi) / V
        assert a.samples("magnetization")[-1] == a.action.site_sum(phi) / V


@every_version
def test_an_old_archive_is_analyzed(name, old, capsys):
    assert main(["analyze", str(old(name)), "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (
        data["field_sha256"] == EXPECTED[name]["field_sha256"] or name == "neural"
    )  # (unit, t) in its configuration
    assert data["series_sha256"] == EXPECTED[name]["series_sha256"]
    assert data["config"]["action"]["name"] == name
    for estimate in data["observables"].values():
        assert set(estimate) == {"value", "error", "tau_int", "n"}
    assert main(["status", str(old(name)), "--json", "-"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["updates"], status["planned"], status["missing"]) == (47, 47, 0)


@every_version
def test_an_old_archive_is_resumed_bit_for_bit(name, old):
    path, expected = old(name), EXPECTED[name]["resumed"]
    with Archive(path) as a:
        names = a.names
    resume(path, updates=13, is_quiet=True)
    with Archive(path) as a:
        assert (a.t, a.n_samples) == (expected["t"], 13)
        assert field_sha256(a.kind, a.last()) == expected["field_sha256"]
        assert exact_series(a) == expected["exact_series_sha256"]
        assert a.names == names  # no observable appears half-way
        assert {len(a.samples(n)) for n in names} == {13}
    assert not list(path.parent.glob("*.part"))


def test_the_hashes_notice_one_bit(old):
    path = old("ising")
    with h5py.File(path, "r+") as file:
        file["samples/bond_x"][3] = np.nextafter(file["samples/bond_x"][3], 1)
        file["state/field"][0] ^= 1 << 7
    with Archive(path) as a:
        assert a.series_sha256() != EXPECTED["ising"]["series_sha256"]
        assert exact_series(a) != EXPECTED["ising"]["exact_series_sha256"]
        assert field_sha256(a.kind, a.last()) != EXPECTED["ising"]["field_sha256"]


# --- schema


PLANES_AND_ACCEPTANCE = ("correlator_", "mode_", "structure_", "profile_", "acceptance")
"""Series that the first archives of schema 1 held without attributes of their own."""


def check_schema(path, is_graph=False, undocumented=()):
    """Groups, datasets and attributes that lft/archive.py documents."""
    with h5py.File(path) as file:
        assert (file.attrs["schema"], file.attrs["schema_version"]) == (SCHEMA, VERSION) and file.attrs[
            "lft_version"
        ]
        assert {"meta", "lattice", "action", "samples", "configurations", "state"} <= set(file)
        meta = file["meta"].attrs
        assert {"config", "config_text", "updater", "seed", "kernel", "ranks"} <= set(meta)
        assert json.loads(meta["config"])["seed"] == int(meta["seed"])
        lattice = (
            {"n_units", "n_bins", "boundary", "bin_width"}
            if is_graph
            else {"shape", "axes", "boundary", "spacing"}
        )
        assert lattice | {"kind"} <= set(file["lattice"].attrs)
        assert {"name", "couplings"} <= set(file["action"].attrs)
        n = len(file["samples/t"])
        for name, data in file["samples"].items():
            assert len(data) == n
            if name != "t" and not name.startswith(undocumented):
                assert data.attrs["doc"] and "axes" in data.attrs
        assert {"t", "kind", "proposed_total", "accepted_total", "seconds"} <= set(file["state"].attrs)
        assert len(file["configurations/t"]) == len(file["configurations/field"])
        assert "field" in file["state"]


@every_version
def test_old_archives_have_the_documented_schema(name):
    check_schema(DATA / f"{name}-v1.h5", name == "neural", PLANES_AND_ACCEPTANCE)


def test_new_archives_have_the_documented_schema(archive):
    check_schema(archive)
    with h5py.File(archive) as file:
        assert file["meta"].attrs["config_text"] == CONFIG  # verbatim
        assert file["lattice/mask"][()].tolist() == [True, True, False, True, True, True]
        resolved = json.loads(file["meta"].attrs["config"])
        assert (
            resolved["update"] == {"name": "metropolis", "kernel": "auto"} and resolved["run"]["checkpoint"] == "5 min"
        )  # defaults


def test_a_newer_schema_is_refused_with_both_versions(archive, capsys):
    with h5py.File(archive, "r+") as file:
        file.attrs["schema_version"] = VERSION + 1
    before = archive.read_bytes()
    for command in (["status"], ["analyze"], ["resume"]):
        assert main([*command, str(archive)]) == 2
        error = capsys.readouterr().err
        assert (
            f"schema version {VERSION + 1}, this program reads up to {VERSION}" in error
            and error.count("\n") == 1
        )
    assert archive.read_bytes() == before


def test_another_program_s_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["samples"] = [1.0]
    with pytest.raises(InputError, match="not an archive of lft run"):
        Archive(tmp_path / "other.h5")


@pytest.mark.parametrize("group", ["meta", "lattice", "action", "samples", "state"])
def test_a_missing_group_is_named(archive, group):
    with h5py.File(archive, "r+") as file:
        del file[group]
    with pytest.raises(InputError, match=f"damaged archive, '{group}' is missing"):
        Archive(archive)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_one_line(archive, fraction, capsys):
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(fraction * len(whole))])
    for command in ("analyze", "status", "resume"):
        assert main([command, str(archive)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"lft: {archive}: not a readable HDF5 file") and error.count("\n") == 1


def test_a_resumed_kernel_must_be_the_same(archive):
    with h5py.File(archive, "r+") as file:
        file["meta"].attrs["kernel"] = "bit-sliced"
    with pytest.raises(InputError, match="kernel 'bit-sliced' does not run ising"):
        resume(archive, updates=1, is_quiet=True)


# --- writing


def full_disk(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["fsync", "replace", "create", "dataset"])
@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_failed_checkpoint_leaves_the_previous_archive(archive, monkeypatch, where, kind, capsys):
    before, names = archive.read_bytes(), sorted(os.listdir(archive.parent))

    def fail(*arguments, **options):
        raise OSError(kind, os.strerror(kind))

    target = {
        "fsync": (os, "fsync"),
        "replace": (os, "replace"),
        "create": (h5py.File, "create_group"),
        "dataset": (h5py.Group, "__setitem__"),
    }[where]
    monkeypatch.setattr(*target, fail)
    assert main(["resume", str(archive), "--updates", "4", "--quiet"]) == 1
    monkeypatch.undo()
    error = capsys.readouterr().err
    said = {
        errno.ENOSPC: "no space left on the device",
        errno.EACCES: "no permission",
        errno.EIO: os.strerror(errno.EIO),
    }[kind]
    assert error.startswith(f"lft: {archive}: ") and said in error and error.count("\n") == 1
    assert "writing the checkpoint at update 26" in error
    assert archive.read_bytes() == before and sorted(os.listdir(archive.parent)) == names
    assert resume(archive, updates=4, is_quiet=True).state.t == 26  # and it goes on from there


def test_any_failure_removes_the_partial_file(archive, monkeypatch):
    # not only the operating system fails: whatever is raised, nothing half-written stays
    names = sorted(os.listdir(archive.parent))
    for kind in (ValueError, KeyError, MemoryError, KeyboardInterrupt):

        def fail(*arguments, kind=kind):
            raise kind("on purpose")

        monkeypatch.setattr(lft.archive, "write_action", fail)
        with pytest.raises((kind, ArchiveError)):
            resume(archive, updates=4, is_quiet=True)
        monkeypatch.undo()
        assert sorted(os.listdir(archive.parent)) == names


def test_a_full_disk_at_the_start_is_found_before_the_first_update(tmp_path, archive, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(
        ArchiveError, match="no space left on the device while writing the checkpoint at update 0"
    ):
        run(read_config(archive.parent / "run.toml"), tmp_path / "new.h5", is_quiet=True)
    assert not list(tmp_path.glob("new.h5*"))


def test_an_existing_archive_is_kept_without_overwrite(archive):
    before = archive.read_bytes()
    done = run_lft(["run", "run.toml", "-o", "run.h5"], archive.parent)
    assert done.returncode == 2 and "--overwrite" in done.stderr and done.stderr.count("\n") == 1
    assert archive.read_bytes() == before
    assert (
        run_lft(["run", "run.toml", "-o", "run.h5", "--overwrite", "--quiet"], archive.parent).returncode == 0
    )
    with Archive(archive) as a:
        assert a.t == 22


def test_a_stale_partial_file_is_no_obstacle(archive):
    # left by a killed process in the middle of a checkpoint
    archive.with_name("run.h5.part").write_bytes(b"half a checkpoint")
    assert resume(archive, updates=2, is_quiet=True).state.t == 24
    assert not list(archive.parent.glob("*.part"))
    assert stat.S_ISREG(archive.stat().st_mode)
