"""The same bits on any number of ranks and after any interruption; a failure ends the job with one message.

A launch costs a second, so each number of ranks starts once and works through all configurations.
"""

import json
import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest

from lft.archive import Archive, field_sha256
from lft.config import read_config
from lft.domain import process_grid
from lft.simulation import resume, run
from tests.helpers import environment, python_command, run_lft, run_python

RUN = """
seed = 12
[lattice]
{lattice}
[action]
{action}
[update]
{update}
[run]
start = "{start}"
thermalize = 5
updates = 40
measure_every = 4
save_every = 20
"""


def config(lattice, action, update='name = "metropolis"', start="hot"):
    return RUN.format(lattice=lattice, action=action, update=update, start=start)


NEURAL = 'name = "neural"\nA = [[0, -0.3, 0.1], [-0.3, 0, 0.2], [0.1, 0.2, 0]]'

CONFIGS = {
    "ising-2d-odd": config("shape = [9, 7]", 'name = "ising"\nK = 0.4\nh = 0.02'),
    "ising-3d-odd": config(
        'shape = [7, 9, 5]\naxes = ["x", "y", "t"]\nboundary = ["open", "periodic", "periodic"]',
        'name = "ising"\nK = [0.2, 0.25, 0.3]',
        'name = "heatbath"',
    ),
    "ising-3d-small": config("shape = [3, 3, 11]", 'name = "ising"\nK = 0.25'),
    "ising-mask": config(
        'shape = [8, 9, 6]\naxes = ["x", "t", "y"]\nboundary = ["open", "periodic", "periodic"]\n'
        'mask = "mask.npy"',
        'name = "ising"\nK = 0.3\nh = -0.1',
    ),
    "ising-mask-still": config(
        'shape = [8, 6]\nmask = "mask.npy"', 'name = "ising"\nK = 0.5', 'name = "heatbath"'
    ),
    "ising-site-field": config(
        'shape = [8, 6, 5]\naxes = ["x", "y", "t"]\nboundary = "open"', 'name = "ising"\nK = 0.2'
    ),
    "ising-steps": config(
        "shape = [13, 9]", 'name = "ising"\nK = {"1,0" = 0.2, "1,1" = 0.1, "2,0" = -0.15, "-1,2" = 0.1}'
    ),
    "ising-swendsen-wang": config(
        'shape = [9, 11]\nboundary = ["periodic", "open"]',
        'name = "ising"\nK = 0.45\nh = 0.01',
        'name = "swendsen-wang"',
    ),
    "ising-wolff": config("shape = [10, 9]", 'name = "ising"\nK = 0.42', 'name = "wolff"\nclusters = 2'),
    "phi4-overrelax": config(
        "shape = [7, 8]",
        'name = "phi4"\nkappa = 0.33\nlambda = 0.5',
        'name = "hmc"\nsteps = 5\noverrelax = 2\nclusters = 1',
    ),
    "phi4-metropolis": config(
        "shape = [7, 5, 6]", 'name = "phi4"\nkappa = [0.1, 0.15, 0.12]\nlambda = 0.7', 'name = "metropolis"'
    ),
    "phi4-hmc": config(
        'shape = [6, 5, 7]\naxes = ["t", "x", "y"]\nboundary = ["periodic", "open", "periodic"]',
        'name = "phi4"\nkappa = 0.12\nlambda = 0.5',
        'name = "hmc"\nsteps = 6\nlength = 0.9',
    ),
    "phi4-hmc-mask": config(
        'shape = [8, 6]\nmask = "mask.npy"',
        'name = "phi4"\nkappa = 0.2\nlambda = 0.3',
        'name = "hmc"\nsteps = 3\nlength = 0.8\nintegrator = "omelyan4"',
        "cold",
    ),
    "neural": config(
        'shape = [3, 17]\naxes = ["unit", "t"]\nboundary = "periodic"',
        NEURAL + "\nB = [-0.25, 0.1]\nI = [0.4, 0.1, 0.6]",
    ),
    "neural-open": config(
        'shape = [19, 3]\naxes = ["t", "unit"]',
        NEURAL + '\nB = {"1" = -0.25, "3" = 0.2}\nI = 0.3',
        'name = "heatbath"',
    ),
    "k-pairwise": config(
        'shape = [3, 17]\naxes = ["unit", "t"]',
        NEURAL.replace("neural", "k-pairwise") + "\nI = [0.4, 0.1, 0.6]\nV = [0, 0, 0.5, -1.0]",
    ),
    "lagged": config(
        'shape = [3, 17]\naxes = ["unit", "t"]\nboundary = "periodic"',
        NEURAL.replace("neural", "lagged")
        + "\nI = 0.5\nJ_lag = [[[0.3, 0.5, 0], [0, 0, -0.4], [0.2, 0, 0]], [[0, 0, 0.7], [0, 0.1, 0], [0, 0, 0]]]",
        'name = "heatbath"',
    ),
    "chain": config("shape = [17]", 'name = "ising"\nK = 0.7', 'name = "heatbath"'),
    "time-only": config(
        'shape = [15]\naxes = ["t"]\nboundary = "open"',
        'name = "phi4"\nkappa = 0.3\nlambda = 0.5',
        'name = "metropolis"',
    ),
}
EIGHT = ("ising-3d-odd", "phi4-hmc")

DRIVER = """
import dataclasses, sys
import numpy as np
from lft.actions import Ising
from lft.cli import main
from lft.config import read_config
from lft.domain import process_grid
from lft.domain import world
from lft.simulation import run

task, suffix, *names = sys.argv[1:]
for name in names:
    if task == "resume":
        code = main(["resume", f"{name}-{suffix}.h5", "--updates", "11", "--quiet"])
    elif name == "ising-site-field":
        config = read_config(f"{name}.toml")
        field = np.random.default_rng(5).normal(0, 0.5, config.geometry.space_shape)
        config = dataclasses.replace(config, action=Ising(K=0.2, h=field))
        run(config, f"{name}-{suffix}.h5", world(), is_quiet=True)
        code = 0
    else:
        code = main(["run", f"{name}.toml", "-o", f"{name}-{suffix}.h5", "--quiet"])
    if code:
        sys.exit(code)
"""


def hashes(path):
    with Archive(path) as archive:
        saved = [
            field_sha256(archive.kind, archive.configuration(k)) for k in range(archive.n_configurations)
        ]
        return field_sha256(archive.kind, archive.last()), archive.series_sha256(), saved, archive.t


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ranks")
    for name, text in CONFIGS.items():
        (path / f"{name}.toml").write_text(text)
    np.save(path / "mask.npy", np.random.default_rng(3).random((8, 6)) < 0.75)
    (path / "driver.py").write_text(DRIVER)
    return path


def drive(folder, ranks, task, suffix, names):
    done = run_python(["driver.py", task, suffix, *names], folder, ranks)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.fixture(scope="module")
def serial(folder):
    drive(folder, None, "run", "1", CONFIGS)
    return {name: hashes(folder / f"{name}-1.h5") for name in CONFIGS}


# --- the same bits


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_same_bits_on_any_number_of_ranks(folder, serial, ranks):
    names = EIGHT if ranks == 8 else list(CONFIGS)
    drive(folder, ranks, "run", f"r{ranks}", names)
    for name in names:
        assert hashes(folder / f"{name}-r{ranks}.h5") == serial[name], name
        with Archive(folder / f"{name}-r{ranks}.h5") as archive:
            assert archive.meta["ranks"] == ranks


def test_what_was_compared_is_not_trivial(serial, folder):
    # different chains differ, a field is not constant, and ranks did cut two axes
    assert len({h[0] for h in serial.values()}) == len({h[1] for h in serial.values()}) == len(CONFIGS)
    for name in CONFIGS:
        with Archive(folder / f"{name}-1.h5") as archive:
            assert (
                len(np.unique(archive.last())) > 1
                and archive.n_samples == 10
                and archive.n_configurations == 2
            )
    for shape, ranks in (((5, 7, 9), 8), ((6, 5, 7), 8), ((3, 3, 11), 4)):
        assert sorted(process_grid(shape, (True,) * 3, (1, 1, 1), ranks))[1] > 1
    # mutant: one update more
    chain = run(
        read_config(folder / "chain.toml", ["run.updates=41"]), folder / "chain-longer.h5", is_quiet=True
    )
    assert chain.state.t == 46 and hashes(folder / "chain-longer.h5")[0] != serial["chain"][0]


def test_the_command_line_itself_gives_the_same_bits(folder, serial):
    done = run_lft(["run", "ising-2d-odd.toml", "-o", "line.h5", "--quiet"], folder, ranks=2)
    assert (done.returncode, done.stdout) == (0, "line.h5: 45 updates done\n"), done.stderr
    assert hashes(folder / "line.h5") == serial["ising-2d-odd"]
    done = run_lft(["analyze", "line.h5", "--json", "-"], folder)
    data = json.loads(done.stdout)
    assert (data["field_sha256"], data["series_sha256"]) == serial["ising-2d-odd"][:2]


# --- interruption


def test_stopped_and_resumed_on_other_ranks_is_never_stopped(folder, serial):
    names = ["ising-3d-odd", "ising-mask", "phi4-metropolis", "phi4-hmc", "neural", "ising-wolff"]
    names += ["ising-swendsen-wang", "phi4-overrelax"]
    for name in names:
        run(
            read_config(folder / f"{name}.toml", ["run.updates=13"]),
            folder / f"{name}-part.h5",
            is_quiet=True,
        )
    drive(folder, 3, "resume", "part", names)
    drive(folder, 2, "resume", "part", names)
    for name in names:
        resume(folder / f"{name}-part.h5", updates=5, is_quiet=True)
        assert hashes(folder / f"{name}-part.h5") == serial[name], name


LONG = (
    config("shape = [12, 10]", 'name = "ising"\nK = 0.4', 'name = "heatbath"').replace(
        "updates = 40", "updates = 24000"
    )
    + 'checkpoint = "50 ms"\n'
)
LONG = LONG.replace("save_every = 20", "save_every = 4000").replace("measure_every = 4", "measure_every = 10")


@pytest.fixture(scope="module")
def never_stopped(folder):
    (folder / "long.toml").write_text(LONG)
    run(read_config(folder / "long.toml"), folder / "long.h5", is_quiet=True)
    return hashes(folder / "long.h5")


def interrupted(folder, name, signal_number, ranks):
    """Start the long run, interrupt it on its way; returns exit code, standard output and error."""
    path = folder / name
    command = python_command(["-m", "lft", "run", "long.toml", "-o", name, "--quiet"], ranks)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        first = os.stat(path).st_ino
        while os.stat(path).st_ino == first and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)  # a checkpoint inside the loop was written
        process.send_signal(signal_number)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, error


def time_of(path):
    with Archive(path) as archive:
        return archive.t


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_stops_a_serial_run_cleanly(folder, never_stopped, name):
    path = folder / f"{name}.h5"
    code, out, error = interrupted(folder, path.name, getattr(signal, name), None)
    assert code == 0, error
    stopped = int(
        re.fullmatch(
            rf"{name}.h5: stopped at update (\d+) of 24005; continue with: lft resume {name}.h5\n", out
        )[1]
    )
    assert 0 < stopped == time_of(path) < 24005
    assert resume(path, is_quiet=True).state.t == 24005
    assert hashes(path) == never_stopped
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_the_launcher_loses_nothing_that_was_written(folder, never_stopped, name):
    # what a launcher does with a signal is its affair; the archive must be whole and resume to the same bits
    path = folder / f"mpi-{name}.h5"
    code, _, error = interrupted(folder, path.name, getattr(signal, name), 2)
    assert 0 < time_of(path) < 24005, (code, error)
    assert "Traceback" not in error
    assert run_lft(["resume", path.name, "--quiet"], folder).returncode == 0
    assert hashes(path) == never_stopped


def test_a_killed_run_resumes_from_its_last_checkpoint(folder, never_stopped):
    path = folder / "killed.h5"
    code, _, _ = interrupted(folder, path.name, signal.SIGKILL, None)
    assert code == -signal.SIGKILL and 0 < time_of(path) < 24005
    assert resume(path, is_quiet=True).state.t == 24005
    assert hashes(path) == never_stopped
    assert not list(folder.glob("*.part"))


# --- failures


def one_line(text):
    lines = [line for line in text.splitlines() if line.startswith("lft: ")]
    assert len(lines) == 1 and "Traceback" not in text, text
    return lines[0]


def test_more_ranks_than_planes_is_one_line_and_no_archive(folder):
    done = run_lft(["run", "time-only.toml", "-o", "none.h5", "--set", "lattice.shape=[3]"], folder, ranks=4)
    assert done.returncode == 2
    assert one_line(done.stderr).endswith("the largest usable number is 3")
    assert not list(folder.glob("none.h5*"))


def test_a_bad_configuration_on_ranks_is_one_line(folder):
    done = run_lft(["run", "chain.toml", "-o", "none.h5", "--set", "run.updates=-1"], folder, ranks=2)
    assert done.returncode == 2 and "[run] updates = -1" in one_line(done.stderr)
    done = run_lft(["resume", "missing.h5"], folder, ranks=2)
    assert done.returncode == 2 and "missing.h5: no such file" in one_line(done.stderr)
    done = run_lft(["status", "missing.h5"], folder, ranks=2)
    assert done.returncode == 2 and "missing.h5: no such file" in one_line(done.stderr)


def test_a_command_that_needs_one_rank_answers_once(folder, serial):
    done = run_lft(["status", "chain-1.h5", "--json", "-"], folder, ranks=2)
    assert done.returncode == 0 and json.loads(done.stdout)["updates"] == 45


@pytest.mark.parametrize("launcher", [{"PMI_SIZE": "4"}, {"OMPI_COMM_WORLD_SIZE": "4"}])
@pytest.mark.parametrize("library", [{}, {"MPI4PY_LIBMPI": "/nonexistent"}])
def test_a_launcher_of_another_mpi_is_refused(folder, launcher, library):
    # four processes that see one rank each would all write the same archive
    done = run_lft(["run", "chain.toml", "-o", "none.h5"], folder, env={**launcher, **library})
    assert done.returncode in (1, 2)
    line = one_line(done.stderr)
    assert "says 4 processes, the MPI library sees 1" in line and next(iter(launcher)) in line
    assert not list(folder.glob("none.h5*"))


BROKEN = """
import sys
from lft import errors
from lft.cli import main
from lft.updaters import Metropolis

original = Metropolis.step

def step(self, action, state, key):
    if state.t == 3 and state.phi.domain.rank in RANKS:
        raise KIND("broken on purpose")
    return original(self, action, state, key)

Metropolis.step = step
arguments = ["--set", "update.kernel=generic", "--overwrite", "--quiet"]
sys.exit(main(["run", "ising-2d-odd.toml", "-o", "broken.h5", *arguments]))
"""


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [("RuntimeError", "(1,)"), ("errors.DivergenceError", "(1,)"), ("errors.DivergenceError", "(0, 1)")],
)
def test_an_exception_ends_the_whole_job_at_once(folder, kind, ranks):
    (folder / "broken.py").write_text(BROKEN.replace("KIND", kind).replace("RANKS", ranks))
    started = time.monotonic()
    done = run_python(["broken.py"], folder, ranks=2, timeout=60)
    assert time.monotonic() - started < 20
    assert done.returncode not in (0, 2)
    assert done.stderr.count("broken on purpose") == (2 if kind == "RuntimeError" else 1), done.stderr
    assert hashes(folder / "broken.h5")[3] == 0  # what was written stays readable


# --- without MPI


def test_without_an_mpi_library_a_run_is_serial(folder, serial):
    done = run_lft(
        ["run", "chain.toml", "-o", "no-library.h5", "--quiet"], folder, env={"MPI4PY_LIBMPI": "/nonexistent"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert hashes(folder / "no-library.h5") == serial["chain"]


def test_without_mpi4py_a_run_is_serial(folder, serial):
    code = "import sys; sys.modules['mpi4py'] = None; from lft.cli import main; sys.exit(main(sys.argv[1:]))"
    done = run_python(["-c", code, "run", "chain.toml", "-o", "no-mpi4py.h5", "--quiet"], folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert hashes(folder / "no-mpi4py.h5") == serial["chain"]
    done = run_python(["-c", code, "run", "chain.toml", "-o", "none.h5"], folder, env={"PMI_SIZE": "4"})
    assert done.returncode == 1 and "says 4 processes" in one_line(done.stderr)
