"""Tables of what run.py or patches.py found, as Markdown.

python experiments/fit_recordings/summarize.py FOLDER
"""

import json
import sys
from pathlib import Path

from lft.analysis.estimate import format_with_error

MODELS = ("pairwise", "k-pairwise", "neural", "lagged", "kinetic", "glm")
BY_LIKELIHOOD = ("pairwise, likelihood", "neural, likelihood")
COMPARED = ("count", "triples", "crosscorrelogram", "silences", "avalanche_size", "avalanche_duration")


def pair(entry):
    """``0.123(4)``."""
    return format_with_error(entry["value"], entry["error"])


def models_of(found):
    """Columns: families, and second fits of a family by the likelihood proper."""
    made = {m["model"] for one in found.values() for m in one["ranking"]["models"]}
    return tuple(m for m in MODELS + BY_LIKELIHOOD if m in made)


def scores(found):
    """Held-out bits per spike above independent units."""
    columns = models_of(found)
    lines = ["| recording | " + " | ".join(columns) + " | selected |", "|---" * (len(columns) + 2) + "|"]
    for name, one in found.items():
        ranking = one["ranking"]
        by_model = {m["model"]: m for m in ranking["models"]}
        best = ranking["models"][0]["model"]
        cells = []
        for model in columns:
            missing = "no fit" if model in ranking["failed"] else ""
            text = pair(by_model[model]["bits_per_spike"]) if model in by_model else missing
            cells.append(f"**{text}**" if model == best else text)
        lines.append(f"| {name} | {' | '.join(cells)} | {ranking['selected']} |")
    return lines


def differences(found):
    """Paired differences to the best model."""
    columns = models_of(found)
    lines = ["| recording | best | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, one in found.items():
        models = one["ranking"]["models"]
        by_model = {m["model"]: m for m in models}
        cells = []
        for model in columns:
            m = by_model.get(model)
            same = m is None or m is models[0]
            cells.append("" if same else pair(m["behind"]) + (" (tie)" if m["ties"] else ""))
        lines.append(f"| {name} | {models[0]['model']} | {' | '.join(cells)} |")
    return lines


def questions(found):
    """Paired differences between families."""
    names = list(dict.fromkeys(q for one in found.values() for q in one.get("differences", {})))
    lines = [f"| recording | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, one in found.items():
        shown = one.get("differences", {})
        cells = [format_with_error(*shown[q]) if q in shown else "" for q in names]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def failures(found):
    """Statistics by which the first group rejects each family."""
    lines = ["| recording | family | rejected by |", "|---|---|---|"]
    for name, one in found.items():
        for family, checks in one.get("checks", {}).items():
            failed = [checks["statistics"][key]["label"] for key in checks["failed"]]
            lines.append(f"| {name} | {family} | {', '.join(failed) or 'nothing'} |")
    return lines


def pitfalls(found):
    """Drift, common input, clipping, specific heat."""
    head = "recording", "rates change (p)", "pairs change (p)", "couplings without, with input", "lost", "size left"
    lines = [f"| {' | '.join(head)} | clipped | peak of C, control |", "|---" * 8 + "|"]
    for name, one in found.items():
        drift, common = one["pitfalls"]["drift"], one["pitfalls"]["common_input"]
        heat = one["specific_heat"]
        peaks = ", ".join(f"{c['peak_beta']['value']:g} +- {c['peak_beta']['error']:.2g}"
                          for c in (heat["fit"], heat["control"]))  # fmt: skip
        cells = [
            name,
            f"{100 * drift['rate_change']:.0f} % ({drift['p_rates']:.2g})",
            f"{100 * drift['pair_change']:.0f} % ({drift['p_pairs']:.2g})",
            f"{common['significant_before']}, {common['significant_after']} of {common['n_pairs']}",
            *(f"{100 * x:.0f} %" for x in (common["lost"], common["slope"], one["pitfalls"]["clipped"])),
            peaks,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def scans(found):
    """Bin widths."""
    lines = ["| recording | bin (ms) | clipped | bits/spike | rms coupling | correlation with the width before |"]
    lines.append("|---" * 6 + "|")
    for name, one in found.items():
        for p in one["bin_scan"]["points"]:
            correlation = p["correlation_with_previous"]
            lines.append(
                f"| {name} | {1e3 * p['bin_s']:g} | {100 * p['clipped']:.1f} % | {pair(p['bits_per_spike'])} | "
                f"{p['rms_coupling']:.3f} | {'' if correlation is None else f'{correlation:.2f}'} |"
            )
    return lines


def conditional(found):
    """Bits per spike of single bins given all other units and bins, above independent units."""
    columns = [m for m in models_of(found) if any(m in one["conditional"] for one in found.values())]
    lines = ["| recording | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, one in found.items():
        cells = [format_with_error(*one["conditional"][m]) if m in one["conditional"] else "" for m in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def compared(found):
    """Recording, then simulation at the fit (z of the difference; bold: the whole statistic fails)."""
    labels = next(iter(next(iter(found.values()))["checks"].values()))["statistics"]
    head = [f"{labels[key]['label']}: {labels[key]['of']}" for key in COMPARED]
    lines = [f"| recording | {' | '.join(['', *head])} |", "|---" * (len(head) + 2) + "|"]
    for name, one in found.items():
        for number, (family, checks) in enumerate(one["checks"].items()):
            if number == 0:
                cells = [pair(checks["statistics"][key]["recording"]) for key in COMPARED]
                lines.append(f"| {name} | recorded | {' | '.join(cells)} |")
            cells = []
            for key in COMPARED:
                entry = checks["statistics"].get(key)
                text = "" if entry is None else f"{pair(entry['simulation'])} ({entry['z'] or 0:.1f})"
                cells.append(f"**{text}**" if key in checks["failed"] else text)
            lines.append(f"| | {family} | {' | '.join(cells)} |")
    return lines


def information(found):
    """Multi-information of pairs in the whole patch; I2/IN of groups of ten of its units."""
    lines = ["| recording | I2 of the patch, bits per bin | per spike | I2/IN of groups of ten |", "|---" * 4 + "|"]
    for name, one in found.items():
        i = one["information"]
        ratios = ", ".join(format_with_error(*g["ratio"]) for g in i["groups"])
        each = i["i_2"][0] / i["spikes_per_bin"]
        lines.append(f"| {name} | {format_with_error(*i['i_2'])} | {each:.3f} | {ratios} |")
    return lines


def patches(found):
    """Patches: what was fitted, drift, specific heat."""
    head = "recording", "units", "left out", "training bins", "firing", "rates change (p)", "clipped"
    lines = [f"| {' | '.join(head)} | strength of J, kinetic, glm | peak of C, control | CPU s |", "|---" * 10 + "|"]
    for name, one in found.items():
        heat, s, d = one["specific_heat"], one["strengths"], one["drift"]
        peaks = ", ".join(f"{c['peak_beta']['value']:g} +- {c['peak_beta']['error']:.2g}"
                          for c in (heat["fit"], heat["control"]))  # fmt: skip
        chosen = ", ".join(f"{s[m]:.2g}" if m in s else "none" for m in ("pairwise", "kinetic", "glm"))
        cells = [
            name, str(len(one["units"])), str(len(one["left_out"])), str(one["n_train"]),
            f"{one['spike_probability']:.4f}", f"{100 * d['rate_change']:.0f} % ({d['p_rates']:.2g})",
            f"{100 * one['clipped']:.0f} %", chosen, peaks, f"{one['cpu_s']:.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main():
    files = sorted(Path(sys.argv[1]).glob("*.json"))
    found = {path.stem: json.loads(path.read_text()) for path in files}
    whole = {name: one for name, one in found.items() if "checks" in one}
    of_patches = any("conditional" in one for one in whole.values())
    tables = (conditional, compared, information, patches) if of_patches else (pitfalls, scans)
    for table in (scores, differences, questions):
        print(f"{table.__doc__}\n", *table(found), "", sep="\n")
    for table in (failures, *tables) if whole else ():
        print(f"{table.__doc__}\n", *table(whole), "", sep="\n")
    print("CPU seconds:", ", ".join(f"{name} {one['cpu_s']:.0f}" for name, one in found.items()))


if __name__ == "__main__":
    main()
