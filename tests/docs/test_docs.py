"""The documentation is true: examples run, configurations and command lines are valid, links lead on."""

import doctest
import importlib
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

import lft
from lft.cli import build_parser
from lft.config import build
from lft.meanfield.reading import build_model

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(lft.__file__).resolve().parent
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(PACKAGE.rglob("*.md"))]
    if page.is_file()
]


def modules():
    """Names of all modules written in Python."""
    names = [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "lft.") if m.name != "lft.__main__"]
    return ["lft", *[n for n in names if importlib.util.find_spec(n).origin.endswith(".py")]]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings(name):
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    with_examples = {
        name for name in modules() for test in finder.find(importlib.import_module(name)) if test.examples
    }
    assert {"lft.geometry", "lft.actions", "lft.units", "lft.domain", "lft.chain", "lft.rng"} <= with_examples


def blocks(language):
    """Fenced blocks of the pages: (page:line, text)."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            yield pytest.param(match.group(1), id=f"{page.relative_to(page.parents[1])}:{line}")


@pytest.mark.parametrize("text", list(blocks("toml")))
def test_configurations_are_accepted(text, tmp_path):
    if "population" in tomllib.loads(text):
        assert build_model(text, "example.toml", tmp_path).names
        return
    config = build(tomllib.loads(text), text, "example.toml", tmp_path)
    phi = config.action.new_field(config.geometry)
    config.action.bind(phi)


def write_recording(path, shape=(6, 5), n_bins=2000, bin_s=0.02):
    """The recording that examples speak of: independent units on a grid."""
    rng = np.random.default_rng(3)
    times = [
        np.flatnonzero(rng.random(n_bins) < 0.2) * bin_s + 0.5 * bin_s for _ in range(shape[0] * shape[1])
    ]
    with h5py.File(path, "w") as file:
        file.attrs["duration_s"] = n_bins * bin_s
        file["spike_times"] = np.concatenate(times)
        file["spike_index"] = np.cumsum([0, *map(len, times)])
        file["positions"] = 42.0 * np.argwhere(np.ones(shape))


@pytest.mark.parametrize("text", list(blocks("python")))
def test_programs_run(text, tmp_path):
    write_recording(tmp_path / "recording.h5")
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def command_lines():
    """Every ``lft ...`` in a bash block or at the start of a table cell of inline code."""
    for param in blocks("bash"):
        for line in param.values[0].splitlines():
            words = shlex.split(line, comments=True)
            programs = [k for k, word in enumerate(words) if Path(word).name == "lft"]
            if programs:
                yield pytest.param(words[programs[-1] + 1 :], id=f"{param.id} {line}"[:90])


@pytest.mark.parametrize("words", list(command_lines()))
def test_command_lines_parse(words):
    assert build_parser().parse_args(words).command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(page.parents[1])))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    missing = [
        t
        for t in targets
        if "://" not in t and not t.startswith("mailto:") and not (page.parent / t).exists()
    ]
    assert not missing


def test_every_command_and_option_is_documented():
    """docs/commands.md names every command, and no option that does not exist."""
    page = ROOT / "docs" / "commands.md"
    text = page.read_text(encoding="utf-8")
    (commands,) = [a for a in build_parser()._actions if a.dest == "command"]
    options = {o for p in commands.choices.values() for a in p._actions for o in a.option_strings}
    assert not [name for name in commands.choices if f"lft {name}" not in text]
    assert not set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - options
