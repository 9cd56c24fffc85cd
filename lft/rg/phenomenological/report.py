"""Phenomenological RG of a recording as text, JSON and HDF5: the bin width asked for, and others beside it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np

from lft.analysis.estimate import format_with_error
from lft.rg.phenomenological.nulls import EXPONENTS

SCHEMA, VERSION = "lft-prg", 1
LEVEL_CURVES = ("variance", "silence", "free_energy", "correlation_time", "kurtosis", "skewness")


@dataclass(frozen=True, eq=False)
class PhenomenologicalFlow:
    """Analyses of one recording at several bin widths; the first is the one asked for.

    Attributes
    ----------
    analyses : list of :class:`lft.rg.phenomenological.nulls.Analysis`
    notes : list of str
    """

    analyses: list
    notes: list = field(default_factory=list)

    def as_json(self):
        """The JSON form of ``lft flow --method prg --json``."""
        return {"method": "prg", **_analysis_json(self.analyses[0]),
                "bin_sweep": [_sweep_json(a) for a in self.analyses] if len(self.analyses) > 1 else [],
                "notes": list(self.notes)}

    def table(self):
        """Exponents beside their nulls, the levels, the verdicts in words, the bin sweep."""
        first = self.analyses[0]
        parts = [_head(first), _exponent_table(first), _level_table(first)]
        if first.comparisons:
            parts.append("\n".join(verdicts(first)))
        if len(self.analyses) > 1:
            parts.append(_sweep_table(self.analyses))
        return "\n\n".join(parts)


def verdicts(analysis):
    """One sentence per exponent and null, and how many to expect by chance."""
    lines = [c.sentence(_title(name, analysis), null) for null, entries in analysis.comparisons.items()
             for name, c in entries.items()]
    tested = sum(c.verdict in ("differs", "does not differ") for e in analysis.comparisons.values() for c in e.values())
    return [*lines, f"({tested} comparisons at 5 %: {0.05 * tested:.2g} differences are expected by chance)"]


def _title(name, analysis):
    if name == "kurtosis":
        return f"kurtosis at K = {analysis.scaling.curves['kurtosis'].scale[-1]:g}"
    if name == "momentum_kurtosis":
        return f"kurtosis of the {analysis.momentum.n_modes[-1]} leading modes"
    return name


# ---- JSON
def _number(x):
    return float(x) if x is not None and math.isfinite(x) else None


def _pair(value, error):
    return {"value": _number(value), "error": _number(error)}


def _analysis_json(a):
    s = a.scaling
    out = {
        "bin_s": a.bin_s, "n_units": s.n_units, "n_bins": s.n_bins, "n_blocks": s.n_blocks,
        "block_bins": s.block_bins, "correlation_time_bins": _number(a.tau_bins), "held_out": s.held_out,
        "surrogates": a.n_surrogates, "seed": a.seed,
        "exponents": {name: _law_json(law, a.halves.get(name)) for name, law in a.laws.items()},
        "nulls": {null: {name: {**_pair(c.null, c.spread), "n": c.n} for name, c in entries.items()}
                  for null, entries in a.comparisons.items()},
        "verdicts": {null: {name: _comparison_json(c, _title(name, a), null) for name, c in entries.items()}
                     for null, entries in a.comparisons.items()},
        "levels": [_level_json(a, k) for k in range(len(s.n_clusters))],
    }
    for name in ("alpha", "beta", "mu", "z"):  # a key that is always there, also where the recording is too small
        out["exponents"].setdefault(name, _pair(math.nan, math.nan))
    if a.momentum is not None:
        m = a.momentum
        out["momentum"] = {
            "n_modes": list(m.n_modes), "n_above_noise": m.n_above_noise, "noise_edge": m.noise_edge,
            "n_bins": m.n_bins,
            "kurtosis": [_pair(v, e) for v, e in zip(m.kurtosis.value, m.kurtosis.error, strict=True)],
            "nulls": {null: [_pair(v, e) for v, e in zip(*curves["momentum"], strict=True)]
                      for null, curves in a.null_curves.items()},
        }
    return out


def _law_json(law, halves):
    error_units, half = halves or (math.nan, math.nan)
    return {
        **_pair(law.value, law.error), "error_units": _number(error_units), "half_of_the_units": _number(half),
        "chi2": _number(law.chi2), "dof": law.dof, "p_value": _number(law.p_value), "rejected": bool(law.is_rejected),
        "first": _number(law.first), "last": _number(law.last), "n_levels": law.n_levels, "ranges_tried": law.tried,
        "gls": _pair(law.gls, law.gls_error), "notes": list(law.notes),
    }


def _comparison_json(c, title, null):
    return {**_pair(c.value, c.error), "null": _number(c.null), "spread": _number(c.spread),
            "distance": _number(c.distance), "p_value": _number(c.p_value), "verdict": c.verdict,
            "first": _number(c.first), "last": _number(c.last), "sentence": c.sentence(title, null)}


def _level_json(a, k):
    s = a.scaling
    out = {"scale": [int(s.scale[k])], "n_clusters": s.n_clusters[k]}
    for name in LEVEL_CURVES:
        curve = s.curves[name]
        out[name] = _pair(curve.value[k], curve.error[k])
    out["nulls"] = {null: {name: _pair(curves[name][0][k], curves[name][1][k]) for name in LEVEL_CURVES}
                    for null, curves in a.null_curves.items()}
    return out


def _sweep_json(a):
    full = _analysis_json(a)
    return {key: full[key] for key in ("bin_s", "n_bins", "exponents", "nulls", "verdicts")}


# ---- text
def _time(seconds):
    return f"{seconds * 1e3:g} ms" if seconds < 1 else f"{seconds:g} s"


def _head(a):
    s = a.scaling
    width = f" of {_time(a.bin_s)}" if a.bin_s else ""
    block = f"{s.n_blocks} blocks of {s.block_bins} bins"
    how = "clusters found in one half of the blocks, measured in the other" if s.held_out else \
        "clusters found and measured on the same bins"
    return f"{s.n_units} units, {s.n_bins} bins{width}, {block}; {how}"


def _text(value, error):
    if not math.isfinite(value):
        return "-"
    if not math.isfinite(error) or error <= 1e-9 * max(1.0, abs(value)):
        return f"{value:.4g}({'constant' if error >= 0 else '?'})"
    return format_with_error(value, error)


def _columns(rows):
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _exponent_table(a):
    rows = [["exponent", "value", "units", "half N", "scale", "chi2/dof", "p", *a.comparisons]]
    for name, law in a.laws.items():
        error_units, half = a.halves.get(name, (math.nan, math.nan))
        row = [name, _text(law.value, law.error), "-" if math.isnan(error_units) else f"+-{error_units:.2g}",
               "-" if math.isnan(half) else f"{half:.3f}",
               f"{law.first:.4g}..{law.last:.4g}" if math.isfinite(law.first) else "-",
               f"{law.chi2 / law.dof:.3g}" if law.dof and math.isfinite(law.chi2) else "-",
               "-" if math.isnan(law.p_value) else f"{law.p_value:.1g}{' !' if law.is_rejected else ''}"]
        for entries in a.comparisons.values():
            c = entries[name]
            mark = {"differs": " *", "undecided": " ?"}.get(c.verdict, "")
            row.append(_text(c.null, c.spread) + mark if c.verdict != "undefined" else "undefined")
        rows.append(row)
    legend = ["value: error over time blocks; units: error over unit subsets; half N: mean over halves of the units;",
              "! power law rejected at 5 %; nulls: mean(sd) over surrogates, on the levels shared with the recording,",
              "* differs (p <= 0.05), ? undecided (too few surrogates)"]
    return _columns(rows) + "\n" + "\n".join(legend)


def _level_table(a):
    s = a.scaling
    rows = [["K", "clusters", *LEVEL_CURVES]]
    for k in range(len(s.n_clusters)):
        rows.append([str(s.scale[k]), str(s.n_clusters[k]),
                     *(_text(s.curves[n].value[k], s.curves[n].error[k]) for n in LEVEL_CURVES)])
    out = _columns(rows)
    if a.momentum is not None:
        m = a.momentum
        pairs = ", ".join(f"{n}: {_text(v, e)}" for n, v, e in
                          zip(m.n_modes, m.kurtosis.value, m.kurtosis.error, strict=True))
        out += (f"\nmomentum space, kurtosis by modes kept: {pairs}\n{m.n_above_noise} of {len(m.eigenvalues)} "
                f"eigenvalues lie above the noise edge {m.noise_edge:.3g} (independent bins)")
    return out


def _sweep_table(analyses):
    names = [n for n in EXPONENTS if any(n in a.laws for a in analyses)]
    nulls = list(analyses[0].comparisons)
    rows = [["bin", *names, *(["differs from"] if nulls else [])]]
    for a in sorted(analyses, key=lambda a: a.bin_s or 0):
        row = [_time(a.bin_s) if a.bin_s else "-"]
        for n in names:
            law = a.laws.get(n)
            row.append("-" if law is None else _text(law.value, law.error) + (" !" if law.is_rejected else ""))
        if nulls:
            row.append("; ".join(f"{null}: " + (", ".join(n for n in names if n in e and e[n].verdict == "differs")
                                                or "nothing") for null, e in a.comparisons.items()))
        rows.append(row)
    return _columns(rows)


# ---- HDF5
def save(flow, path):
    """Write FLOW.h5: attribute ``json``, and per bin width a group with every curve of the recording and its nulls.

    ``bin_<n>/curves/<name>``: columns scale, value, error; ``bin_<n>/replicas/<name>``: without one block each;
    ``bin_<n>/nulls/<null>/<name>``: columns mean, standard deviation; ``autocorrelation`` (level, lag);
    ``spectra/<K>``; ``pairs/fold_<f>/level_<k>``; ``momentum_eigenvalues``.
    """
    from lft.archive import replacing

    with replacing(path, "writing the flow") as file:
        file.attrs.update(schema=SCHEMA, schema_version=VERSION, json=json.dumps(flow.as_json()))
        for n, a in enumerate(flow.analyses):
            _save_analysis(file.create_group(f"bin_{n}"), a)


def _save_analysis(group, a):
    s = a.scaling
    group.attrs["bin_s"] = math.nan if a.bin_s is None else a.bin_s
    curves = dict(s.curves) if a.momentum is None else {**s.curves, "momentum": a.momentum.kurtosis}
    for name, curve in curves.items():
        group[f"curves/{name}"] = np.column_stack([curve.scale, curve.value, curve.error])
        group[f"curves/{name}"].attrs["columns"] = ["scale", "value", "error"]
        group[f"replicas/{name}"] = curve.replicas
    for null, entries in a.null_curves.items():
        for name, (mean, spread) in entries.items():
            group[f"nulls/{null}/{name}"] = np.column_stack([mean, spread])
            group[f"nulls/{null}/{name}"].attrs["columns"] = ["mean", "standard deviation"]
    group["autocorrelation"] = s.autocorrelation
    for k, spectrum in s.spectra.items():
        group[f"spectra/{k}"] = spectrum
    for level, counts in enumerate(s.counts):
        if counts:
            group[f"counts/{s.scale[level]}"] = np.array(sorted(counts.items()))
    for f, levels in enumerate(s.pairs):
        for k, pairs in enumerate(levels):
            group[f"pairs/fold_{f}/level_{k}"] = pairs
    if a.momentum is not None:
        group["momentum_eigenvalues"] = a.momentum.eigenvalues
