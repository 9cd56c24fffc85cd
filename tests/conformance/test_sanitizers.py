"""Every kernel under the address and undefined-behavior sanitizers: a build of its own, the conformance tests on it.

The slow set: compiling takes minutes.  All C sources and Cython modules that setup.py knows are built; one that no test
of EXERCISE loads is a failure.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "lft" / "_kernels"
C_SOURCES = sorted(KERNELS.glob("c/*.c"))
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
EXERCISE = ("tests/conformance", "tests/statistical/test_ising_bits_exact.py", "tests/unit/test_recording.py",
            "tests/unit/test_rng.py", "tests/unit/test_cli.py::test_bench",
            "tests/unit/test_percolation.py::test_the_bits_of_plain_numpy", "tests/unit/test_pseudo_objective.py",
            "tests/unit/test_causal.py", "tests/unit/test_meanfield_shots.py", "tests/unit/test_network.py",
            "tests/unit/test_neuron_kernels.py", "tests/unit/test_lattice_fit.py",
            "tests/unit/test_likelihood_chains.py")
LOADED = """import sys
from pathlib import Path
def pytest_sessionfinish():
    names = [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
    Path("loaded").write_text(" ".join(n.rpartition(".")[2] for n in names if n.startswith("lft._kernels.")))
"""
LEFT_OUT = ("tests/conformance/test_third_party.py", "tests/conformance/test_sanitizers.py")

pytestmark = pytest.mark.validate


def library(name):
    """Path of a sanitizer's run-time library, or None."""
    compiler = os.environ.get("CC", "cc").split()
    try:
        done = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True)
    except OSError:
        return None
    path = Path(done.stdout.strip())
    return path.resolve() if done.returncode == 0 and path.is_absolute() and path.exists() else None


def build(copy, *defines):
    """Compile the modules of a copy in place, sanitized; -O1 keeps compile times and reports readable."""
    flags = " ".join([SANITIZE, *defines])
    done = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace", "-j", "2"], cwd=copy,
                          env={**os.environ, "CFLAGS": flags, "LDFLAGS": SANITIZE}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def run(copy, *command):
    """(exit code, output, reports of the sanitizers) of a Python command on a sanitized copy."""
    logs = copy / "reports"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),
        "PYTHONMALLOC": "malloc",  # small Python objects get guard zones of their own
        "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
        # the interpreter's own leaks at exit are not ours, and numpy asks for memory that it may not get
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:log_path={logs}/asan",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={logs}/ubsan",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, "".join(p.read_text() for p in sorted(logs.iterdir()))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """A copy of the package and its tests, built with both sanitizers."""
    if library("libasan.so") is None or library("libubsan.so") is None:
        pytest.skip("the compiler brings no libasan and libubsan")  # nothing to preload
    copy = tmp_path_factory.mktemp("sanitized")
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in ("lft", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", copy)
    setup = (ROOT / "setup.py").read_text()
    assert '"-O3", "-g0"' in setup, "the optimization that this build replaces"
    (copy / "setup.py").write_text(setup.replace('"-O3", "-g0"', '"-O1", "-g"'))
    build(copy)
    return copy


def test_setup_builds_every_source():
    """What is not built is not checked."""
    setup = (ROOT / "setup.py").read_text()
    assert C_SOURCES and not [p.name for p in C_SOURCES if f'"{p.name}"' not in setup]


def test_no_report(sanitized):
    """The conformance tests of every kernel, on every instruction set that they force, without a report."""
    (sanitized / "loaded_kernels.py").write_text(LOADED)
    code, output, reports = run(sanitized, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "loaded_kernels",
                                *EXERCISE, *[f"--ignore={name}" for name in LEFT_OUT])
    assert not reports, reports[:5000]
    assert code == 0, output[-5000:]
    built = {path.name.partition(".")[0] for path in (sanitized / "lft" / "_kernels").glob("*.so")}
    assert built and built == set((sanitized / "loaded").read_text().split())


def test_the_sanitizer_sees_a_read_beyond_the_end(sanitized):
    """The broken twin: one element too far in one loop."""
    program = ("import numpy as np; from lft._kernels import roofs; "
               "a, b, c = np.ones(1000), np.ones(1000), np.empty(1000); roofs.triad(c, a, b, 0.5, 1); print('done')")
    code, output, reports = run(sanitized, "-c", program)
    assert code == 0 and "done" in output and not reports, reports[:3000]
    for made in [*sanitized.rglob("roofs*.so"), *sanitized.rglob("roofs*.o"), *sanitized.rglob("supply*.o")]:
        made.unlink()
    build(sanitized, "-DLFT_MUTANT=1")
    code, _, reports = run(sanitized, "-c", program)
    assert code != 0 and "heap-buffer-overflow" in reports and "triad" in reports
