"""``lft report``: archives, fits, flows, solutions, ground states, JSON files and figures on one page.

Nothing is computed that the file does not hold, but for an archive, whose observables get their errors here.  Tables
are made of whatever has a value and an error in the JSON form of a result; figures are those of ``--plot``, drawn
again from the file and set into the page, which needs nothing beside it.
"""

from __future__ import annotations

import base64
import html
import json
import math
import tempfile
from pathlib import Path

from lft.analysis.estimate import format_with_error
from lft.archive import aside, check_output
from lft.commands.report import HDF5, analyze, at_target, is_recording, status
from lft.errors import ArchiveError, InputError

MAX_ROWS = 60
MAX_TEXT = 200
IMAGES = {".png": "image/png", ".svg": "image/svg+xml"}
KINDS = {
    "lft-archive": "simulation",
    "lft-fit": "fit",
    "lft-flow": "renormalization flow",
    "lft-prg": "phenomenological renormalization",
    "lft-meanfield": "mean-field solution",
    "lft-ground": "ground state",
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; border-top: 1px solid #ccc; padding-top: 1rem; margin-top: 2.5rem }
h3 { font-size: 1rem; margin-bottom: .3rem } img { max-width: 100% }
table { border-collapse: collapse; margin: .4rem 0 1rem } td, th { padding: .1rem .9rem .1rem 0; text-align: left }
th { border-bottom: 1px solid #999; font-weight: 600 } td + td { font-variant-numeric: tabular-nums }
.note { color: #8a4b00 } pre { background: #f6f6f6; padding: .6rem; overflow-x: auto; font-size: 13px }
"""


def write_report(paths, output, overwrite=False):
    """Write the page; every file is read before the first byte is written.

    Parameters
    ----------
    paths : sequence of str
        Archives, fits, flows, mean-field solutions, ground states (HDF5), JSON files of any command, PNG and SVG.
    output : str
        The page.
    overwrite : bool
        Replace an existing page.

    Raises
    ------
    InputError
        A file that does not exist, is a recording, or of no known kind; an output that exists.
    """
    check_output(output, overwrite)
    sections = [section(Path(path)) for path in paths]
    with aside(output, "writing the report") as part:
        part.write_text(_page(sections, Path(output).stem), encoding="utf-8")


def section(path):
    """``(title, HTML)`` of one file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; valid are files that lft wrote, JSON, PNG and SVG")
    if path.suffix.lower() in IMAGES:
        return path.name, _image(path.read_bytes(), IMAGES[path.suffix.lower()], path.stem)
    with path.open("rb") as file:
        head = file.read(8)
    if is_recording(path):
        raise InputError(f"{path}: a recording; fit or analyze it first and report what comes out")
    if head == HDF5:
        return _hdf5(path)
    if path.suffix.lower() == ".json":
        return f"{path.name}: numbers", _results(_json(path))
    raise InputError(f"{path}: valid are files that lft wrote (HDF5), JSON, PNG and SVG")


def _json(path):
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as reason:
        raise InputError(f"{path}: not JSON ({reason})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a {type(data).__name__}, a result is an object with names")
    return data


def _hdf5(path):
    import h5py

    try:
        with h5py.File(path, "r") as file:
            schema = file.attrs.get("schema")
            data = json.loads(file.attrs["json"]) if "json" in file.attrs else {}
            actions = file["actions"][()] if schema == "lft-ground" else None
    except (OSError, KeyError, ValueError, RuntimeError) as reason:
        raise ArchiveError(f"{path}: cannot be read ({' '.join(str(reason).split())})") from None
    if schema not in KINDS:
        raise InputError(f"{path}: schema is {schema!r}, valid are {', '.join(KINDS)}")
    title = f"{path.name}: {KINDS[schema]}"
    if schema == "lft-archive":
        return title, _archive(path)
    if schema == "lft-ground":
        lowest = float(actions.min())
        reached = int((actions <= lowest + 1e-9 * abs(lowest)).sum())
        data = {"lowest action": lowest, "restarts": len(actions), "restarts that reached it": reached}
    return title, _figure(path, data, schema) + _results(data)


def _archive(path):
    from lft.analysis.tempered import plain
    from lft.archive import Archive
    from lft.plotting import plot_archive

    progress = status(path)
    data, estimates, notes = analyze(path)
    with Archive(path) as archive:
        config = archive.config
        figure = _drawn(lambda target: plot_archive(plain(archive), at_target(archive, estimates), target))
    shown = {k: v for k, v in progress.items() if v is not None}
    return (
        _notes(notes) + _facts(shown) + figure + _tables({"observables": data["observables"]})
        + _details("configuration", config)
    )  # fmt: skip


def _figure(path, data, schema):
    """The figure that the command itself draws; '' where the file holds too little for one."""
    from lft.plotting.stored import draw_stored

    return _drawn(lambda target: draw_stored(path, data, schema, target))


def _drawn(draw):
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "figure.png"
        draw(target)
        return _image(target.read_bytes(), "image/png", "figure") if target.exists() else ""


def _image(data, kind, text):
    return f'<p><img alt="{html.escape(text)}" src="data:{kind};base64,{base64.b64encode(data).decode()}"></p>\n'


# ---- results of any shape
def _results(data):
    """Warnings, plain facts, every table of values with errors, and the rest folded away."""
    notes = [*data.get("warnings", []), *data.get("notes", [])]
    facts = {k: v for k, v in data.items() if isinstance(v, str | int | float) and k not in ("warnings", "notes")}
    facts |= {k: v for k, v in data.items() if _is_short_list(v) and k not in ("warnings", "notes", "unbounded")}
    score = data.get("score")
    if isinstance(score, dict):
        facts |= {f"score, {k}": v for k, v in score.items() if v is not None}
    if data.get("unbounded"):
        notes.append(f"without a finite maximum: {', '.join(map(str, data['unbounded'][:20]))}"
                     + (" ..." if len(data["unbounded"]) > 20 else ""))  # fmt: skip
    return _notes(notes) + _facts(facts) + _tables(data) + _details("everything", data)


def _is_short_list(value):
    return isinstance(value, list) and len(value) <= 8 and all(isinstance(v, str | int | float) for v in value)


def _is_pair(value):
    return isinstance(value, dict) and "value" in value and "error" in value and not isinstance(value["value"], list)


def _tables(data, where=""):
    """One table per dictionary whose entries are values with errors, wherever it stands."""
    out = []
    named = {k: v for k, v in data.items() if _is_pair(v)}
    vectors = {k: v for k, v in data.items() if isinstance(v, dict) and isinstance(v.get("value"), list)}
    if named or vectors:
        out.append(_table(where or "values", named, vectors))
    for key, value in data.items():
        place = f"{where}, {key}" if where else str(key)
        if isinstance(value, dict) and key not in named and key not in vectors and key != "config":
            out.append(_tables(value, place))
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            out.append(_rows(place, value) if all(map(_is_pair, value)) else _levels(place, value))
    return "".join(out)


def _levels(place, entries):
    names = [f"{place} {n}" + (f" ({'x'.join(map(str, e['scale']))})" if "scale" in e else "") for n, e in
             enumerate(entries)]  # fmt: skip
    return "".join(_tables(entry, name) for name, entry in zip(names, entries, strict=True))


def _rows(place, entries):
    """A list of values with errors that share their other keys: one row each."""
    keys = [k for k in entries[0] if k not in ("value", "error") and isinstance(entries[0][k], str | int | float)]
    rows = [[*(_plain(e.get(k)) for k in keys), _text(e)] for e in entries]
    return _html_table(place, [*keys, "value"], rows)


def _table(title, named, vectors):
    rows = [[name, _text(pair), _more(pair)] for name, pair in named.items()]
    for name, pair in vectors.items():
        values = ", ".join("-" if v is None else f"{v:.4g}" for v in pair["value"][:6])
        rows.append([name, values + (" ..." if len(pair["value"]) > 6 else ""), f"{len(pair['value'])} entries"])
    return _html_table(title, ["", "value", ""], rows)


def _text(pair):
    number = lambda x: math.nan if x is None else float(x)  # noqa: E731
    value, error = number(pair["value"]), number(pair["error"])
    if math.isnan(value):
        return "not determined"
    return f"{value:.6g} (no error)" if math.isnan(error) else format_with_error(value, error)


def _more(pair):
    rest = [f"{k} = {v:.4g}" for k, v in pair.items() if k not in ("value", "error") and isinstance(v, int | float)
            and not isinstance(v, bool)]  # fmt: skip
    return "; ".join(rest[:4])


def _plain(value):
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# ---- HTML
def _html_table(title, head, rows):
    cells = lambda tag, row: "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row)  # noqa: E731
    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows[:MAX_ROWS])
    left = f"<p>and {len(rows) - MAX_ROWS} more in the file</p>" if len(rows) > MAX_ROWS else ""
    header = f"<tr>{cells('th', head)}</tr>" if any(head) else ""
    return f"<h3>{html.escape(title)}</h3>\n<table>{header}\n{body}</table>{left}\n"


def _facts(facts):
    rows = []
    for name, value in facts.items():
        text = _plain(value)
        rows.append([name.replace("_", " "), text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " ..."])
    return _html_table("", ["", ""], rows).replace("<h3></h3>\n", "") if rows else ""


def _notes(notes):
    return "".join(f'<p class="note">warning: {html.escape(str(note))}</p>\n' for note in notes)


def _details(title, data):
    text = json.dumps(data, indent=1, default=str)
    if len(text) > 200_000:
        return ""
    return f"<details><summary>{title}</summary><pre>{html.escape(text)}</pre></details>\n"


def _page(sections, title):
    from lft import __version__

    contents = "".join(f'<li><a href="#s{n}">{html.escape(name)}</a></li>' for n, (name, _) in enumerate(sections))
    body = "".join(f'<h2 id="s{n}">{html.escape(name)}</h2>\n{text}' for n, (name, text) in enumerate(sections))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n<ul>{contents}</ul>\n{body}"
        f"<p>lft {html.escape(__version__)}. A number in parentheses is the standard error in units of the last digits."
        "</p></body></html>\n"
    )
