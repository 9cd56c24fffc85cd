"""Couplings against the width of a bin: what changes is a property of the bin, not of the network."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError

CLIPPED_WARNING = 0.05
STABLE = 0.8
"""Correlation of couplings between neighboring widths below which they are said to depend on the bin."""


@dataclass(frozen=True)
class ScanPoint:
    """One width.

    Attributes
    ----------
    bin_s : float
    n_bins : int
    spike_probability : float
        Mean over units and bins.
    clipped : float
        Fraction of the spikes that are second or later in their bin.
    gain : tuple of float
        Held-out score above independent units and its error, bits per spike.
    rms : float
        Root mean square of the couplings.
    correlation : float
        Pearson correlation of the couplings with those at the width before; nan for the first.
    n_couplings : int
        Finite ones behind ``rms``.
    """

    bin_s: float
    n_bins: int
    spike_probability: float
    clipped: float
    gain: tuple
    rms: float
    correlation: float
    n_couplings: int


@dataclass(frozen=True)
class Scan:
    """A bin-width scan.

    Attributes
    ----------
    points : tuple of ScanPoint
    model : str
    """

    points: tuple
    model: str

    @property
    def warnings(self):
        """Lines where the couplings depend on the bin, or spikes are lost."""
        out = []
        for before, after in itertools.pairwise(self.points):
            if after.correlation < STABLE:
                out.append(
                    f"couplings depend on the bin: those at {1e3 * before.bin_s:g} ms and {1e3 * after.bin_s:g} ms "
                    f"have the correlation {after.correlation:.2f} (stable is above {STABLE:g})"
                )
        wide = [p for p in self.points if p.clipped > CLIPPED_WARNING]
        if wide:
            out.append(
                f"more than {100 * CLIPPED_WARNING:.0f} % of the spikes are second or later in their bin at "
                + ", ".join(f"{1e3 * p.bin_s:g} ms" for p in wide)
            )
        return out

    def table(self):
        """Lines for a terminal."""
        rows = [("bin", "bins", "p(spike)", "clipped", "bits/spike", "rms coupling", "correlation")]
        gain = lambda p: f"{p.gain[0]:.4f} +- {p.gain[1]:.4f}"  # noqa: E731
        for p in self.points:
            correlation = f"{p.correlation:.3f}" if math.isfinite(p.correlation) else ""
            rows.append(
                (
                    f"{1e3 * p.bin_s:g} ms",
                    str(p.n_bins),
                    f"{p.spike_probability:.4f}",
                    f"{100 * p.clipped:.2f} %",
                    gain(p),
                    f"{p.rms:.4f}",
                    correlation,
                )
            )
        width = [max(len(row[k]) for row in rows) for k in range(7)]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, width, strict=True)) for row in rows)

    def as_json(self):
        """Plain numbers."""
        plain = lambda x: float(x) if math.isfinite(x) else None  # noqa: E731
        return {
            "model": self.model,
            "points": [
                {
                    "bin_s": p.bin_s,
                    "n_bins": p.n_bins,
                    "spike_probability": p.spike_probability,
                    "clipped": p.clipped,
                    "bits_per_spike": {"value": plain(p.gain[0]), "error": plain(p.gain[1])},
                    "rms_coupling": plain(p.rms),
                    "correlation_with_previous": plain(p.correlation),
                    "n_couplings": p.n_couplings,
                }
                for p in self.points
            ],
            "warnings": self.warnings,
        }


def scan_bins(fit_at, widths_s):
    """Fit at several widths.

    Parameters
    ----------
    fit_at : callable
        ``bin_s -> (fit, spike probability, clipped fraction)``; a fit as :class:`lft.inference.result.Fit`.
    widths_s : sequence of float
        At least 2, increasing, seconds.

    Returns
    -------
    Scan
    """
    widths_s = [float(w) for w in widths_s]
    if len(widths_s) < 2 or any(b <= a for a, b in itertools.pairwise(widths_s)):
        raise InputError(f"bin widths {widths_s} s: valid are at least 2, increasing")
    points, before, model = [], None, ""
    for width in widths_s:
        fit, probability, clipped = fit_at(width)
        couplings, model = pair_couplings(fit), fit.model
        finite = np.isfinite(couplings)
        per_spike = 1 / (probability * math.log(2))
        points.append(
            ScanPoint(
                width,
                fit.n_bins,
                probability,
                clipped,
                tuple(per_spike * np.array(fit.gain, dtype=float)),
                float(np.sqrt((couplings[finite] ** 2).mean())) if finite.any() else math.nan,
                _correlation(before, couplings),
                int(finite.sum()),
            )
        )
        before = couplings
    return Scan(tuple(points), model)


def pair_couplings(fit):
    """The couplings of a fit that a scan follows: equal-time pairs, else those at all lags or displacements, flat; nan
    where the fit has none."""
    arrays = fit.arrays()
    for name, error in (("J", "J_error"), ("A", "A_error")):
        if name in arrays:
            upper = np.triu_indices(len(arrays[name]), 1)
            known = ~np.isnan(arrays[error][upper]) if error in arrays else True
            return np.where(known, arrays[name][upper], np.nan)
    for name in ("J_lag", "K"):
        if name in arrays:
            return np.asarray(arrays[name], dtype=float).ravel()
    raise InputError(f"model {fit.model!r} has no couplings: a scan of bin widths needs some")


def _correlation(first, second):
    if first is None or first.shape != second.shape:
        return math.nan
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 3 or not (first[known].std() > 0 and second[known].std() > 0):
        return math.nan
    return float(np.corrcoef(first[known], second[known])[0, 1])
