"""Every kernel source says why it is shaped so: it begins with a design comment, or names the file that has it."""

import re
from pathlib import Path

import pytest

import lft

KERNELS = Path(lft.__file__).resolve().parent / "_kernels"
SOURCES = sorted(
    p
    for pattern in ("c/*.c", "c/*.h", "*.pyx", "*.pxi", "*.pxd")
    for p in KERNELS.glob(pattern)
    if p.read_text(encoding="utf-8")
)
HEADS = (
    r"(?:# cython:[^\n]*\n)*\"\"\"(.*?)\"\"\"",
    r"/\*(.*?)\*/",
    r"((?:#[^\n]*\n)+)",
)
NAMES = re.compile(r"\b[\w/]+\.(?:c|h|pyx|pxi|pxd|md)\b")
INCLUDES = re.compile(r'^#?include "(\w+\.\w+)"', re.MULTILINE)
MIN_WORDS = 20


def head(text):
    """The comment or docstring with which a source begins, or an empty string."""
    found = (re.match(pattern, text, re.DOTALL) for pattern in HEADS)
    return next((m.group(1) for m in found if m), "")


def explains(text):
    """Whether a head has a design section of its own: the word, and some words more than a reference."""
    _, word, rest = head(text).partition("esign")
    return bool(word) and len(rest.split()) >= MIN_WORDS


def has_design(path):
    """A design comment of its own, or one in a file that its head names or that it includes."""
    text = path.read_text(encoding="utf-8")
    if not head(text):
        return False
    if explains(text):
        return True
    named = {Path(name).name for name in NAMES.findall(head(text))} | set(INCLUDES.findall(text))
    others = [p for name in named if name != path.name for p in rooms(path, name)]
    return any(p.suffix == ".md" or explains(p.read_text(encoding="utf-8"))
               or any(n.endswith(".md") and rooms(path, Path(n).name)
                      for n in NAMES.findall(head(p.read_text(encoding="utf-8")))) for p in others)


def rooms(path, name):
    """The file of this name beside ``path``, in the folder of C beside it, or in the one above."""
    folder = path.parent
    return [p for p in (folder / name, folder / "c" / name, folder.parent / name) if p.is_file()]


def test_all_sources_are_found():
    assert {"philox.c", "bitslice.c", "bitslice.h", "binary_loops.pxi", "actions.pxd", "halo.pyx"} <= {
        p.name for p in SOURCES
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_source_has_a_design_comment(path):
    assert has_design(path)


def test_the_check_sees_a_missing_comment(tmp_path):
    """Broken twins: no comment, a comment without a design, a reference that leads nowhere."""
    long = "Design: " + "chosen because measured " * 10
    for name, text, is_right in (
        ("bare.c", "int x;\n", False),
        ("late.c", f"int x;\n/* {long} */\n", False),
        ("good.c", f"/* Sweeps.\n * {long} */\nint x;\n", True),
        ("short.c", "/* Sweeps.  Design: none.c */\n", False),
        ("points.pyx", '# cython: language_level=3\n"""Calls.  Design: good.c."""\n', True),
        ("what.pyx", '"""Calls things, many of them, in an order that this long sentence describes."""\n', False),
        ("wrapper.pyx", '"""Compiled for AVX2."""\ninclude "loops.pxi"\n', True),
        ("loops.pxi", f"# Loops.\n# {long}\nfrom x import y\n", True),
    ):
        (tmp_path / name).write_text(text)
        if name != "wrapper.pyx":
            assert has_design(tmp_path / name) == is_right, name
    assert has_design(tmp_path / "wrapper.pyx")
