"""Bad input is one clear line and a number, and nothing on disk changes.

For every case of ``bad_input.py``: one line on standard error that holds the words, nothing on standard
output, no traceback, the exit code, and the folder after the command is, byte for byte, the one before it.
"""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from lft.cli import main
from tests.unit.bad import CASES
from tests.unit.bad.files import ISING, TIMES, archive, config, raster, spikes, toml


def snapshot(folder):
    """Every file below a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def build(case, folder):
    files = case.files() if callable(case.files) else case.files or {}
    for name, content in files.items():
        (folder / name).write_bytes(content)


def check_line(text, words):
    """One line that starts with the program and holds the words."""
    assert text.startswith("lft: ") and text.endswith("\n") and text.count("\n") == 1, text
    assert "Traceback" not in text and "  " not in text, text
    missing = [w for w in words.split("|") if w not in text]
    assert not missing, f"{missing} not in: {text}"
    assert len(text) < 600, text


def command(case, folder):
    return [part.replace("{}", str(folder)) for part in case.argv.split(" ") if part]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bad_input(case, tmp_path, capsys):
    build(case, tmp_path)
    before = snapshot(tmp_path)
    capsys.readouterr()
    code = main(command(case, tmp_path))
    out, err = capsys.readouterr()
    assert code == case.code, err
    check_line(err, case.words)
    assert out == ""
    after = snapshot(tmp_path)
    if case.code == 1:  # what was written stays readable
        with h5py.File(tmp_path / "out.h5", "r") as file:
            assert file.attrs["schema"] == "lft-archive"
        del after["out.h5"]
    assert after == before


def test_ids_are_different():
    ids = [case.id for case in CASES]
    assert len(ids) >= 90 and sorted(set(ids)) == sorted(ids)


# ---- damage anywhere
def attempt(argv, capsys):
    """Exit code and standard error of a command."""
    capsys.readouterr()
    code = main([str(a) for a in argv])
    return code, capsys.readouterr().err


COMMANDS = {
    "status": lambda path, folder: ["status", path],
    "analyze": lambda path, folder: ["analyze", path],
    "resume": lambda path, folder: ["resume", path, "--quiet"],
    "flow": lambda path, folder: ["flow", path, "-o", folder / "flow.h5", "--bin", "20ms"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_archive_cut_anywhere_is_refused(name, tmp_path, capsys):
    whole, path = archive(), tmp_path / "a.h5"
    rng = np.random.default_rng(21)
    for length in sorted({1, 8, 512, len(whole) - 1, *rng.integers(1, len(whole), 16).tolist()}):
        path.write_bytes(whole[:length])
        code, err = attempt(COMMANDS[name](path, tmp_path), capsys)
        assert code == 2, (length, err)
        check_line(err, "a.h5")
        assert snapshot(tmp_path) == {"a.h5": whole[:length]}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_archive_with_wrong_bytes_never_ends_in_a_traceback(name, tmp_path, capsys):
    """Wrong bytes in a number may pass unnoticed; wherever they are, the answer is a result or one line."""
    whole, path = archive(), tmp_path / "a.h5"
    rng = np.random.default_rng(22)
    filled = np.flatnonzero(np.frombuffer(whole, np.uint8)[:-16])  # most of a small archive is room to grow
    refused = 0
    for start in rng.choice(filled, 120).tolist():
        damaged = bytearray(whole)
        damaged[start : start + 4] = rng.bytes(4)
        path.write_bytes(damaged)
        (tmp_path / "flow.h5").unlink(missing_ok=True)
        code, err = attempt(COMMANDS[name](path, tmp_path), capsys)
        if code:
            refused += 1
            check_line(err, "lft")
            assert sorted(snapshot(tmp_path)) == ["a.h5"]
    assert refused > 5  # the damage was real


@pytest.mark.parametrize("build", [spikes, raster], ids=["spikes", "raster"])
def test_a_recording_cut_anywhere_is_refused(build, tmp_path, capsys):
    ((name, whole),) = build().items()
    path = tmp_path / name
    for length in sorted({1, 8, *np.random.default_rng(23).integers(1, len(whole), 18).tolist()}):
        path.write_bytes(whole[:length])
        code, err = attempt(["fit", path, "-o", tmp_path / "fit.h5", "--bin", "20ms"], capsys)
        assert code == 2, (length, err)
        check_line(err, name)
        assert snapshot(tmp_path) == {name: whole[:length]}


# ---- the machine says no
def test_a_configuration_that_may_not_be_read(tmp_path, capsys, monkeypatch):
    (tmp_path / "run.toml").write_text(toml(ISING))

    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, err = attempt(["run", tmp_path / "run.toml", "-o", tmp_path / "out.h5"], capsys)
    assert code == 2
    check_line(err, "run.toml|no permission")


@pytest.mark.parametrize("argv", ["run run.toml -o out.h5", "fit rec.npz -o out.h5", "flow rec.npz -o out.h5",
                                  "resume a.h5", "status a.h5 --json out.json",
                                  "fit rec.npz -o out.h5 --json out.json"])
def test_a_folder_that_may_not_be_written(argv, here, capsys, monkeypatch):
    for name, content in {**config(ISING), **raster(), "a.h5": archive()}.items():
        (here / name).write_bytes(content)
    monkeypatch.setattr(os, "access", lambda path, mode, **options: not mode & os.W_OK)
    before = snapshot(here)
    code, err = attempt(argv.split(), capsys)
    assert code == 2
    check_line(err, "no permission to write")
    assert snapshot(here) == before


@pytest.mark.parametrize("argv", ["run run.toml -o a.h5 --overwrite --quiet",
                                  "resume a.h5 --updates 4 --quiet",
                                  "fit rec.npz -o a.h5 --overwrite", "flow rec.npz -o a.h5 --overwrite",
                                  "status a.h5 --json b.json", "analyze a.h5 --json b.json"])
def test_a_full_disk_leaves_the_previous_file(argv, here, capsys, monkeypatch):
    for name, content in {**config(ISING), **raster(), "a.h5": archive(), "b.json": b"{}\n"}.items():
        (here / name).write_bytes(content)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = snapshot(here)
    code, err = attempt(argv.split(), capsys)
    assert code == 1
    check_line(err, f"{'b.json' if 'json' in argv else 'a.h5'}|no space left")
    assert snapshot(here) == before


def lft(argv, folder, *python):
    """The program in a process of its own; ``python`` are lines to run before it."""
    env = {**os.environ, "PYTHONPATH": str(Path(main.__code__.co_filename).parent.parent)}
    start = "; ".join([*python, "import sys", "from lft.cli import main", "sys.exit(main(sys.argv[1:]))"])
    return subprocess.run([sys.executable, "-c", start, *argv], cwd=folder, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env=env, timeout=60)


FILE_LIMIT = (
    "import resource, lft.domain; lft.domain.library_name(); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
)


@pytest.mark.parametrize("argv", ["run run.toml -o a.h5 --overwrite --quiet",
                                  "resume a.h5 --updates 4 --quiet",
                                  "fit rec.npz -o a.h5 --overwrite", "flow rec.npz -o a.h5 --overwrite",
                                  "analyze a.h5 --json b.json"])
def test_a_file_that_cannot_grow_leaves_the_previous_file(argv, tmp_path):
    """The kernel refuses to write beyond 4096 bytes, as on a full disk (MPI wants its own files first)."""
    for name, content in {**config(ISING), **raster(), "a.h5": archive(), "b.json": b"{}\n"}.items():
        (tmp_path / name).write_bytes(content)
    before = snapshot(tmp_path)
    result = lft(argv.split(), tmp_path, FILE_LIMIT)
    assert result.returncode == 1, result.stderr
    check_line("\n".join(line for line in result.stderr.splitlines() if "warning: " not in line) + "\n",
               "b.json" if "json" in argv else "a.h5")
    assert snapshot(tmp_path) == before


# ---- the program as users start it
def test_exit_codes_and_streams_of_the_program(tmp_path):
    (tmp_path / "run.toml").write_text(toml(ISING))
    result = lft(["run", "run.toml", "-o", "out.h5", "--set", "run.updates=0"], tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    check_line(result.stderr, "run.toml|[run] updates|0|integer >= 1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.toml"]


@pytest.mark.parametrize("name", ["", "run", "resume", "status", "analyze", "fit", "flow", "demo", "bench",
                                  "info"])
def test_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "-h"])
    out, err = capsys.readouterr()
    assert stop.value.code == 0 and err == "" and out.startswith(f"usage: lft {name}".rstrip())
    assert not re.search(r"\bNone\b", out)


# ---- what looks wrong and is not
def test_a_unit_without_spikes_is_reported_and_kept(tmp_path, capsys):
    times = TIMES[60:]
    (tmp_path / "rec.h5").write_bytes(spikes(spike_times=times,
                                             spike_index=np.r_[0, np.arange(6) * 60])["rec.h5"])
    for model in ("independent", "lattice", "neural", "pairwise"):
        argv = ["fit", tmp_path / "rec.h5", "-o", tmp_path / f"{model}.h5", "--bin", "20ms", "--model", model]
        code, err = attempt([*argv, "--json", tmp_path / f"{model}.json"], capsys)
        assert code == 0 and "1 units never fire: 0" in err, err
        data = json.loads((tmp_path / f"{model}.json").read_text())
        assert data["n_units"] == 6 and len(data["unbounded"]) >= 1
        code, err = attempt(["run", tmp_path / f"{model}.h5", "-o", tmp_path / f"{model}-run.h5", "--quiet",
                             "--set",
                             "run.thermalize=5", "--set", "run.updates=5"], capsys)
        assert code == 0, err


def test_the_last_updates_of_a_finished_archive(tmp_path, capsys):
    """Nothing is left to do: that is no error, and nothing changes."""
    (tmp_path / "a.h5").write_bytes(archive())
    attempt(["analyze", tmp_path / "a.h5", "--json", tmp_path / "b.json"], capsys)
    code, err = attempt(["resume", tmp_path / "a.h5"], capsys)
    assert (code, err) == (0, "")
    attempt(["analyze", tmp_path / "a.h5", "--json", tmp_path / "c.json"], capsys)
    assert (tmp_path / "b.json").read_text() == (tmp_path / "c.json").read_text()
