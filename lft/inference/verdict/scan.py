"""Couplings against the width of a bin: what changes is a property of the bin, not of the network."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError

CLIPPED_WARNING = 0.05
STABLE = 0.8
"""Correlation of couplings between neighboring widths below which they are said to depend on the bin, where they differ
by more than their errors: couplings that are mostly noise are not correlated either."""
SIGNIFICANT = 3.0


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
    difference : float
        Mean square of the difference to s times the couplings at the width before, in units of the errors of both, with
        the s that fits best; below 1 where noise is all (both widths share most of it), nan for the first.
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
    difference: float
    n_couplings: int

    @property
    def depends_on_bin(self):
        """Whether the couplings differ from those at the width before by more than a factor and their errors."""
        noise = 1 + SIGNIFICANT * math.sqrt(2 / max(self.n_couplings, 1))
        return self.correlation < STABLE and not self.difference <= noise


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
            if after.depends_on_bin:
                out.append(
                    f"couplings depend on the bin: those at {1e3 * before.bin_s:g} ms and {1e3 * after.bin_s:g} ms "
                    f"have the correlation {after.correlation:.2f} (stable is above {STABLE:g}) and differ by "
                    f"{math.sqrt(after.difference):.2g} times their errors"
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
                    "difference_from_previous": plain(p.difference),
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
        couplings, model = pair_couplings(fit), fit.model  # value and error
        value, finite = couplings[0], np.isfinite(couplings[0])
        per_spike = 1 / (probability * math.log(2))
        points.append(
            ScanPoint(
                width,
                fit.n_bins,
                probability,
                clipped,
                tuple(per_spike * np.array(fit.gain, dtype=float)),
                float(np.sqrt((value[finite] ** 2).mean())) if finite.any() else math.nan,
                *_against(before, couplings),
                int(finite.sum()),
            )
        )
        before = couplings
    return Scan(tuple(points), model)


def pair_couplings(fit):
    """(2, n): the couplings of a fit that a scan follows, and their errors: equal-time pairs, else those at all lags or
    displacements, flat; nan where the fit has none."""
    arrays = fit.arrays()
    for name in ("J", "A", "J_lag", "K"):
        if name not in arrays:
            continue
        value = np.asarray(arrays[name], float)
        error = np.asarray(arrays.get(f"{name}_error", np.full(value.shape, np.nan)), float)
        if name in ("J", "A"):
            upper = np.triu_indices(len(value), 1)
            return np.array([np.where(np.isnan(error[upper]), np.nan, value[upper]), error[upper]])
        return np.array([value.ravel(), error.ravel()])
    raise InputError(f"model {fit.model!r} has no couplings: a scan of bin widths needs some")


def _against(first, second):
    """(correlation, difference) of the couplings at two widths."""
    if first is None or first.shape != second.shape:
        return math.nan, math.nan
    known = np.isfinite(first[0]) & np.isfinite(second[0])
    x, y = first[0, known], second[0, known]
    if known.sum() < 3 or not (x.std() > 0 and y.std() > 0):
        return math.nan, math.nan
    return float(np.corrcoef(x, y)[0, 1]), _difference(first[:, known], second[:, known])


def _difference(first, second):
    known = (first[1] > 0) & (second[1] > 0)
    (x, a), (y, b) = first[:, known], second[:, known]
    if not known.any():
        return math.nan
    scales = np.geomspace(0.05, 20.0, 241)[:, None]
    return float(((y - scales * x) ** 2 / (b**2 + (scales * a) ** 2)).mean(axis=1).min())
