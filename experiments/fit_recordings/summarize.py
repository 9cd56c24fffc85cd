"""Tables of what run.py found, as Markdown.

python experiments/fit_recordings/summarize.py FOLDER
"""

import json
import sys
from pathlib import Path

from lft.analysis.estimate import format_with_error

MODELS = ("pairwise", "k-pairwise", "neural", "lagged", "kinetic", "glm")


def pair(entry):
    """``0.123(4)``."""
    return format_with_error(entry["value"], entry["error"])


def scores(found):
    """Held-out bits per spike above independent units."""
    lines = ["| recording | " + " | ".join(MODELS) + " | selected |", "|---" * (len(MODELS) + 2) + "|"]
    for name, one in found.items():
        ranking = one["ranking"]
        by_model = {m["model"]: m for m in ranking["models"]}
        best = ranking["models"][0]["model"]
        cells = []
        for model in MODELS:
            text = pair(by_model[model]["bits_per_spike"]) if model in by_model else "no fit"
            cells.append(f"**{text}**" if model == best else text)
        lines.append(f"| {name} | {' | '.join(cells)} | {ranking['selected']} |")
    return lines


def differences(found):
    """Paired differences to the best model."""
    lines = ["| recording | best | " + " | ".join(MODELS) + " |", "|---" * (len(MODELS) + 2) + "|"]
    for name, one in found.items():
        models = one["ranking"]["models"]
        by_model = {m["model"]: m for m in models}
        cells = []
        for model in MODELS:
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


def main():
    files = sorted(Path(sys.argv[1]).glob("*.json"))
    found = {path.stem: json.loads(path.read_text()) for path in files}
    whole = {name: one for name, one in found.items() if "checks" in one}
    for table in (scores, differences, questions, failures, pitfalls, scans):
        shown = whole if table in (failures, pitfalls, scans) else found
        print(f"{table.__doc__}\n", *table(shown), "", sep="\n")
    print("CPU seconds:", ", ".join(f"{name} {one['cpu_s']:.0f}" for name, one in found.items()))


if __name__ == "__main__":
    main()
