"""Imports point down: who may import whom, read from the source of every module, functions included."""

import ast
import sys
from pathlib import Path

import pytest

import lft

PACKAGE = Path(lft.__file__).resolve().parent
LAYERS = (
    ("errors", "units"),
    ("threads",),
    ("_kernels",),
    ("rng", "geometry", "domain", "groups"),
    ("plan", "field", "ties", "links"),
    ("protocols",),
    ("drive",),
    ("actions",),
    ("percolation",),
    ("integrators", "clusters", "updaters", "observables", "gibbs"),
    ("bits", "wavefront", "cached", "causal"),
    ("bits_line",),
    ("sparse",),
    ("implementations",),
    ("chain", "tempering", "annealing", "sections"),
    ("spreading",),
    ("archive",),
    ("analysis",),
    ("rg", "inference", "meanfield", "testing"),
    ("replica_sections", "action_sections"),
    ("config",),
    ("simulation", "plotting"),
    ("lft",),  # the package's list of public names
    ("commands",),
    ("cli", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
STRANGERS = ({"rg", "inference"}, {"rg", "meanfield"}, {"inference", "meanfield"})
# what only some modules may import at all, and what no module imports before it is used
KEEPERS = {"mpi4py": {"domain.py", "archive.py", "cli.py"}, "matplotlib": {"plotting/figure.py"},
           "pyerrors": {"analysis/export.py"}, "arviz": {"analysis/export.py"}}  # the last two: optional extras
LAZY = {"mpi4py", "matplotlib", "h5py", "scipy", "pyerrors", "arviz"}
MAX_LINES = 600

SOURCES = sorted(PACKAGE.rglob("*.py"))
BELOW_KERNELS = sorted((PACKAGE / "_kernels").glob("*.p[yx][xdi]"))


def module_name(path):
    """``lft.rg.flow`` of a file."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(["lft", *(parts[:-1] if parts[-1] == "__init__" else parts)])


def unit(name):
    """The name in LAYERS to which a module belongs; the package itself is ``lft``."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "lft"


def imports(tree, is_inner=False):
    """(imported module, name or None, line, whether it is inside a function) of every import statement."""
    for node in ast.iter_child_nodes(tree):
        inner = is_inner or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, node.lineno, is_inner
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                yield node.module, alias.name, node.lineno, is_inner
        yield from imports(node, inner)


def imported_units(path):
    """(unit, line) of everything of the package that a module imports."""
    for name, what, line, _ in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if name.split(".")[0] != "lft":
            continue
        if name == "lft" and what is not None:
            if what == "__version__":
                continue
            is_module = (PACKAGE / what).is_dir() or (PACKAGE / f"{what}.py").is_file()
            yield (what if is_module else "lft"), line
        else:
            yield unit(name), line


def violations(path):
    """What in a module breaks the order, as text."""
    own = unit(module_name(path))
    for other, line in imported_units(path):
        if other == own:
            continue
        if other not in LEVEL:
            yield f"{path.name}:{line} imports {other}, which stands in no layer"
        elif LEVEL[other] > LEVEL[own] or {own, other} in STRANGERS:
            yield f"{path.name}:{line} ({own}) imports {other}"


def identity(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", SOURCES, ids=identity)
def test_imports_point_down(path):
    assert unit(module_name(path)) in LEVEL, "a new module: give it a layer"
    assert not list(violations(path))


@pytest.mark.parametrize("path", BELOW_KERNELS, ids=identity)
def test_kernels_import_kernels_alone(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] in ("from", "import", "cimport") and words[1].split(".")[0] == "lft":
            assert words[1].startswith("lft._kernels"), line


@pytest.mark.parametrize("path", SOURCES, ids=identity)
def test_heavy_libraries_stay_where_they_belong(path):
    for name, _, line, is_inner in imports(ast.parse(path.read_text(encoding="utf-8"))):
        library = name.split(".")[0]
        where = f"{identity(path)}:{line} imports {library}"
        assert path.relative_to(PACKAGE).as_posix() in KEEPERS.get(library, {path.name, identity(path)}), (
            where
        )
        assert is_inner or library not in LAZY, f"{where} at the top: only where it is used"
        known = library in sys.stdlib_module_names or library in {"lft", "numpy", *LAZY}
        assert known, f"{where}, which is no dependency"


@pytest.mark.parametrize("path", [*SOURCES, *BELOW_KERNELS], ids=identity)
def test_no_module_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_the_check_sees_a_wrong_import(tmp_path, monkeypatch):
    """Broken twins: upward, sideways, unknown, hidden in a function."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    for name in ("rg", "inference"):
        (tmp_path / name).mkdir()
    for name, text, count in (
        ("geometry.py", "import lft.actions\n", 1),
        ("geometry.py", "def f():\n    from lft.chain import Chain\n", 1),
        ("geometry.py", "from lft.errors import InputError\nfrom lft import __version__\n", 0),
        ("geometry.py", "from lft import Lattice\n", 1),
        ("rg/flow.py", "from lft.inference.result import load_fit\n", 1),
        ("rg/flow.py", "from lft.rg.blocking import block\nfrom lft.magic import x\n", 1),
    ):
        path = tmp_path / name
        path.write_text(text)
        assert len(list(violations(path))) == count, text
