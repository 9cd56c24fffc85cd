"""What an archive of parallel tempering says: estimates at every temperature, and how well the replicas travel."""

from __future__ import annotations

import math

import numpy as np

from lft.analysis.estimate import Estimate
from lft.analysis.summary import summarize

FEW_TRIPS = 10
"""Below so many round trips the temperatures have hardly exchanged anything from end to end."""


class Slot:
    """One temperature of an archive, with the face of an :class:`lft.archive.Archive` of a plain chain."""

    spreading = None

    def __init__(self, archive, index):
        self.archive, self.index = archive, index
        self.path, self.config, self.geometry, self.action = (
            archive.path,
            archive.config,
            archive.geometry,
            archive.action,
        )
        self.names = [name for name in archive.names if name != "replica"]
        self.n_samples = archive.n_samples

    def samples(self, name):
        """Series of one observable at this temperature, (measurement, *axes)."""
        return self.archive.samples(name)[:, self.index]


def slot_name(archive, index):
    """``b = 0.5``, or ``K = 0.5 K`` where one coupling is tempered."""
    b, coupling = archive.tempering["inverse_temperatures"][index], archive.tempering["coupling"]
    return f"{coupling} x {b:.6g}" if coupling else f"b = {b:.6g}"


def plain(archive):
    """The archive of a plain chain as it is; of a tempered one the temperature whose configurations it holds."""
    return archive if archive.tempering is None else Slot(archive, archive.tempering["target"])


def summarize_slots(archive):
    """Estimates at all temperatures.

    Returns
    -------
    estimates : dict
        Name to a list over the temperatures of :class:`Estimate` (of lists of them for vector observables); where a
        quantity cannot be estimated at one temperature its value and error are nan.
    notes : list of str
        Warnings, each with the temperatures it concerns.
    """
    n = len(archive.tempering["inverse_temperatures"])
    each, where = [], {}
    for i in range(n):
        estimates, notes = summarize(Slot(archive, i))
        each.append(estimates)
        for note in notes:
            where.setdefault(note.split(":")[0], []).append((i, note))
    nothing = Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, 0, archive.n_samples)
    names = list(dict.fromkeys(name for estimates in each for name in estimates))
    filled = {name: [estimates.get(name, nothing) for estimates in each] for name in names}
    out = []
    for found in where.values():
        first, note = found[0]
        more = f" (and at {len(found) - 1} other temperatures)" if len(found) > 1 else ""
        out.append(f"{slot_name(archive, first)}: {note}{more}")
    return filled, out


def travel(archive):
    """How well the replicas travel: the ``tempering`` object of ``lft analyze --json``, and warnings.

    ``acceptance`` is the mean of min(1, exp(..)) over the swaps tried since thermalization, ``rejection`` = 1 minus it,
    ``barrier`` their sum; ``round_trip`` the mean duration, in updates, from one arrival of a replica at the first
    temperature to the next one after a visit to the last; ``ideal`` what it would be if each replica forgot its past
    between two swaps, 2 R (1 + sum r/(1-r)) swaps; ``flow`` the fraction of replicas at each temperature that were
    last at the first end: a straight line from 1 to 0 over the slots is best.
    """
    t = archive.tempering
    n, every = len(t["inverse_temperatures"]), int(archive.config["tempering"]["swap_every"])
    tried = t["proposed"]
    acceptance = [float(a / m) if m else None for a, m in zip(t["acceptance_sum"], tried, strict=True)]
    rejection = [1 - a for a in acceptance if a is not None]
    is_open = len(rejection) == n - 1 and all(r < 1 for r in rejection)
    trips = int(t["trips"].sum())
    mean, error = _mean(trips, int(t["trip_sum"].sum()), int(t["trip_squares"].sum()))
    each = [_mean(*map(int, row)) for row in zip(t["trips"], t["trip_sum"], t["trip_squares"], strict=True)]
    seen = t["up"] + t["down"]
    data = {
        "inverse_temperatures": t["inverse_temperatures"].tolist(),
        "coupling": t["coupling"] or None,
        "target": float(t["inverse_temperatures"][t["target"]]),
        "kernels": t["kernels"],
        "swaps": {"proposed": tried.tolist(), "accepted": t["accepted"].tolist(), "acceptance": acceptance},
        "barrier": sum(rejection) if rejection else None,
        "round_trips": int(trips),
        "round_trip": {
            "value": mean,
            "error": error,
            "ideal": 2 * n * (1 + sum(r / (1 - r) for r in rejection)) * every if is_open else None,
        },
        "replicas": {
            "round_trips": t["trips"].tolist(),
            "value": [m for m, _ in each],
            "error": [e for _, e in each],
            "slot": np.argsort(t["replica"]).tolist(),
        },
        "flow": [float(u / s) if s else None for u, s in zip(t["up"], seen, strict=True)],
    }
    return data, _complaints(archive, data)


def _mean(n, total, squares):
    """Mean duration and its error from counts and exact integer sums; None where there is none."""
    if n == 0:
        return None, None
    mean = total / n
    variance = (squares - total * total / n) / (n - 1) if n > 1 else math.nan
    return mean, math.sqrt(max(variance, 0.0) / n) if n > 1 else None


def _complaints(archive, data):
    notes = []
    tried, accepted = data["swaps"]["proposed"], data["swaps"]["accepted"]
    closed = [i for i, (m, a) in enumerate(zip(tried, accepted, strict=True)) if m and not a]
    if closed:
        where = ", ".join(f"{slot_name(archive, i)} and {slot_name(archive, i + 1)}" for i in closed[:3])
        more = f" and {len(closed) - 3} other pairs" if len(closed) > 3 else ""
        notes.append(f"no configuration ever passed between {where}{more}: add temperatures there, or tune = true")
    if data["round_trips"] < FEW_TRIPS:
        notes.append(
            f"{data['round_trips']} round trips between the first and the last temperature, fewer than {FEW_TRIPS}: "
            "the temperatures have hardly helped each other; run longer, or with more temperatures"
        )
    return notes


def format_slots(archive, data, estimates):
    """Observables by temperature, then the report on swaps and round trips."""
    labels = [slot_name(archive, i) for i in range(len(archive.tempering["inverse_temperatures"]))]
    width = max(map(len, labels))
    lines = []
    for name, values in estimates.items():
        lines.append(name)
        for label, value in zip(labels, values, strict=True):
            if isinstance(value, Estimate):
                lines.append(f"  {label:{width}}  {value}")
            else:
                shown = "  ".join(f"{v.value:.4g}" for v in value[:6])
                lines.append(f"  {label:{width}}  [{len(value)}] {shown}{' ...' if len(value) > 6 else ''}")
    return "\n".join([*lines, *_format_travel(labels, width, data["tempering"])])


def _format_travel(labels, width, t):
    lines = ["swaps (acceptance with the next temperature; replicas coming from the first end)"]
    acceptance = [*t["swaps"]["acceptance"], None]
    tried = [*t["swaps"]["proposed"], None]
    for label, a, m, f in zip(labels, acceptance, tried, t["flow"], strict=True):
        pair = "-" if a is None else f"{a:.3f} of {m}"
        lines.append(f"  {label:{width}}  {pair:20} {'-' if f is None else f'{f:.3f}'}")
    if t["barrier"] is not None:
        lines.append(f"communication barrier    {t['barrier']:.4g} (sum of the rejections)")
    trip = t["round_trip"]
    text = "" if trip["value"] is None else f", {trip['value']:.5g} updates each"
    text += "" if trip["error"] is None else f" (+- {trip['error']:.2g})"
    text += "" if trip["ideal"] is None else f", ideal {trip['ideal']:.5g}"
    each = " ".join(map(str, t["replicas"]["round_trips"]))
    return [*lines, f"round trips              {t['round_trips']}{text}", f"  of each replica        {each}"]
