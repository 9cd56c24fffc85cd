"""Recording beside simulation at the fit: every statistic with its errors, a discrepancy, and a calibrated p value.

The recording is cut into M stretches of L bins; the model is simulated in n independent stretches of the same L, so
that whatever a finite length or a cut border does happens to both.  For a statistic with components v_k (functions of
pooled sums, :mod:`lft.inference.verdict.statistics`), with jackknife errors e_k over the stretches of each side,

    chi2 = mean over k of (v_k^rec - v_k^sim)^2 / (e_k^rec^2 + e_k^sim^2)

is about 1 for a right model and many stretches; components are correlated, so its distribution is not taken from a
formula.  If the model is right and a stretch is long against the correlation time, recorded and simulated stretches are
exchangeable: the labels are dealt out anew many times, and

    p = (1 + number of dealings at least as discrepant) / (1 + dealings)

is exact for any statistic (standard result for permutation tests; each p is uniform, or larger for discrete data).  The
discrepancy of a dealing is the smaller of the p values of two numbers, the mean square of the components in units of
label-blind errors, and the headline number of the table: the first sees any deviation, the second a common shift of
many noisy components.  The p value of the smaller is again read off from the dealings, so nothing is gained twice.

A model under inputs that change in time is simulated on the whole stretch with the same inputs, twice, and the copies
are cut where the recording is.  Stretches under other inputs are not exchangeable, those at one place are: labels are
dealt out anew at each place, which of the three is called recorded.

A statistic that the fit matches by construction agrees better than chance would have it, hence its p is too large,
never too small (standard result for plug-in p values and efficient estimates).  This holds for the stretch that was
fitted; on other data the errors of the couplings would come on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.inference.newton import integrated_time
from lft.inference.trials import checked_rasters
from lft.inference.verdict.statistics import join_rare, measure, statistics
from lft.rng import Key, Stream

LEVEL = 0.01
"""Family-wise level at which statistics are said to fail (Holm)."""


@dataclass(frozen=True, eq=False)
class Check:
    """One statistic of the recording beside the simulation.

    Attributes
    ----------
    key, label, headline_label : str
    recording, simulation : tuple of float
        The headline number and its standard error.
    values, errors : ndarray (2, d)
        All components, recording and simulation.
    x : ndarray (d,) or None
        Abscissa of a curve.
    x_label : str
    width : ndarray (d,) or None
        Integers in each class of a histogram.
    chi2, p : float
        nan where nothing can be compared.
    n_compared : int
        Components that vary at all.
    fitted : bool
    """

    key: str
    label: str
    headline_label: str
    recording: tuple
    simulation: tuple
    values: np.ndarray
    errors: np.ndarray
    x: np.ndarray | None
    x_label: str
    width: np.ndarray | None
    chi2: float
    p: float
    n_compared: int
    fitted: bool

    @property
    def z(self):
        """Difference of the headline numbers in their joint error."""
        error = math.hypot(self.recording[1], self.simulation[1])
        return (self.recording[0] - self.simulation[0]) / error if error > 0 else math.nan

    def as_json(self):
        """Plain numbers."""
        return {
            "label": self.label,
            "of": self.headline_label,
            "recording": {"value": _plain(self.recording[0]), "error": _plain(self.recording[1])},
            "simulation": {"value": _plain(self.simulation[0]), "error": _plain(self.simulation[1])},
            "z": _plain(self.z),
            "chi2": _plain(self.chi2),
            "p": _plain(self.p),
            "components": int(self.n_compared),
            "fitted": bool(self.fitted),
        }


@dataclass(frozen=True, eq=False)
class Checks:
    """All statistics of one fit, and what was compared.

    Attributes
    ----------
    checks : tuple of Check
    n_stretches : tuple of int
        Recorded and simulated.
    stretch_bins : int
    dropped_bins : int
        Of the recording, at the end of each trial.
    correlation_bins : float
        Integrated autocorrelation time of the population count, bins (1/2 = none).
    bin_s : float or None
    notes : tuple of str
    """

    checks: tuple
    n_stretches: tuple
    stretch_bins: int
    dropped_bins: int
    correlation_bins: float
    bin_s: float | None = None
    notes: tuple = ()

    def __getitem__(self, key):
        for check in self.checks:
            if check.key == key:
                return check
        raise KeyError(key)

    @property
    def failed(self):
        """Keys of the statistics that reject the model, by Holm's procedure at :data:`LEVEL`."""
        tested = sorted((c for c in self.checks if math.isfinite(c.p)), key=lambda c: c.p)
        out = []
        for rank, check in enumerate(tested):
            if check.p * (len(tested) - rank) > LEVEL:
                break
            out.append(check.key)
        return out

    def table(self):
        """Lines for a terminal: statistic, recording, simulation, chi2, p."""
        from lft.analysis.estimate import format_with_error

        shown = lambda pair: format_with_error(*pair) if pair[1] > 0 else f"{pair[0]:.4g}"  # noqa: E731
        rows = [("statistic", "of", "recording", "simulation", "chi2", "p", "")]
        for c in self.checks:
            mark = "fails" if c.key in self.failed else "fitted" if c.fitted else ""
            rows.append(
                (
                    c.label,
                    c.headline_label,
                    shown(c.recording),
                    shown(c.simulation),
                    f"{c.chi2:.3g}",
                    f"{c.p:.3g}",
                    mark,
                )
            )
        width = [max(len(row[k]) for row in rows) for k in range(7)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)).rstrip() for row in rows]
        rec, sim = self.n_stretches
        head = f"{rec} recorded and {sim} simulated stretches of {self.stretch_bins} bins"
        if self.bin_s is not None:
            head += f" ({self.stretch_bins * self.bin_s:.4g} s)"
        level = f"at the level {LEVEL:g} (all statistics together)"
        by = ", ".join(self[k].label for k in self.failed)
        verdict = f"the model is rejected {level} by: {by}" if by else f"the model is not rejected {level}"
        return "\n".join([head, *lines, verdict])

    def as_json(self):
        """The key ``checks`` of ``lft fit --json``."""
        return {
            "statistics": {c.key: c.as_json() for c in self.checks},
            "failed": self.failed,
            "level": LEVEL,
            "n_stretches": list(self.n_stretches),
            "stretch_bins": self.stretch_bins,
            "dropped_bins": self.dropped_bins,
            "correlation_bins": _plain(self.correlation_bins),
            "notes": list(self.notes),
        }

    def arrays(self):
        """Datasets for FIT.h5: ``check_KEY`` (4, d), rows recording, error, simulation, error; ``check_KEY_x`` (d,)."""
        out = {}
        for c in self.checks:
            rows = (c.values[0], c.errors[0], c.values[1], c.errors[1])
            out[f"check_{c.key}"] = np.array(rows)
            if c.x is not None:
                out[f"check_{c.key}_x"] = c.x
        return out


def _plain(x):
    return float(x) if math.isfinite(x) else None


def check_model(
    model, rasters, constraints=None, *, n_stretches=None, stretch_bins=None, max_lag=10, max_pairs=2000,
    max_triples=2000, n_labels=4999, seed=0, bin_s=None,
):  # fmt: skip
    """Compare a recording with simulations of a model.

    Parameters
    ----------
    model : BinaryModel
        Of :mod:`lft.inference.protocols`; only ``n_units`` and ``simulate`` are used, and of a model under inputs
        (:mod:`lft.inference.verdict.driven`) that its simulations begin with these.
    rasters : ndarray (T, N), or sequence of them
        0/1; the stretch that was fitted.  Several are trials, never joined.
    constraints : Constraints, optional
        What the fit matches by construction.
    n_stretches : int, optional
        Simulated stretches; default twice the recorded ones.  Under inputs a multiple of the recorded ones.
    stretch_bins : int, optional
        Length L; default T/50, at least 100 bins and at most T/10.
    max_lag, max_pairs, max_triples
        See :func:`lft.inference.verdict.statistics.statistics`.
    n_labels : int
        Dealings of the labels; p is at least 1/(n_labels + 1), so that Holm's procedure needs 2000 or more to reject.
    seed : int
    bin_s : float, optional
        For the record.

    Returns
    -------
    Checks

    Raises
    ------
    InputError
        Bad arguments, or a recording shorter than 10 stretches.

    Notes
    -----
    Cost: the simulation, and per stretch about ``L (N^2 + max_pairs + max_triples)`` operations.  Memory: (stretches)
    x (7 max_triples) float64.  The labels are exchangeable if a stretch is long against the correlation time of the
    population count; where L is below 10 of them a note says so.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.verdict.independent import IndependentModel
    >>> model = IndependentModel(np.full(5, -2.0))
    >>> checks = check_model(model, model.simulate(4000, seed=1)[0])
    >>> checks.failed, checks["rates"].p > 0.01
    ([], True)
    """
    rasters = checked_rasters(rasters)
    if rasters[0].shape[1] != model.n_units:
        raise InputError(f"raster of {rasters[0].shape[1]} units: the model has {model.n_units}")
    n_bins = sum(map(len, rasters))
    length = _stretch_bins(stretch_bins, n_bins, max_lag)
    recorded = [r[a : a + length] for r in rasters for a in range(0, len(r) - length + 1, length)]
    if len(recorded) < 10:
        raise InputError(
            f"{len(recorded)} stretches of {length} bins in {n_bins} bins ({len(rasters)} trials): a check needs at "
            "least 10; valid are shorter stretches or a longer recording"
        )
    n_stretches = 2 * len(recorded) if n_stretches is None else _integer("n_stretches", n_stretches, 10)
    n_labels = _integer("n_labels", n_labels, 2000)
    if getattr(model, "inputs", None) is None:
        simulated = model.simulate(length, seed=seed, n_chains=n_stretches)
        labels = _labels(len(recorded), n_stretches, n_labels, seed)
    else:
        simulated = _under_inputs(model, rasters, length, n_stretches, seed)
        labels = _matched_labels(len(recorded), len(simulated) // len(recorded), n_labels, seed)
    if not simulated.any():
        raise InputError("the simulation at the fit is silent throughout: nothing can be compared")
    tests = statistics(
        model.n_units, length, constraints, max_lag=max_lag, max_pairs=max_pairs, max_triples=max_triples, seed=seed
    )
    checks = tuple(_compare(test, measure(test, recorded), measure(test, simulated), labels) for test in tests)
    tau = _correlation_time(rasters)
    notes = _notes(checks, length, tau)
    dropped = n_bins - length * len(recorded)
    return Checks(checks, (len(recorded), n_stretches), length, dropped, tau, bin_s, notes)


def _under_inputs(model, rasters, length, n_stretches, seed):
    """Copies of the whole stretch under the inputs of the model, cut as the recording is, copy by copy."""
    if len(rasters) != 1:
        raise InputError(f"{len(rasters)} trials: a model under inputs is checked on one stretch")
    n = len(rasters[0]) // length
    if n_stretches % n:
        raise InputError(f"n_stretches = {n_stretches}: valid under inputs is a multiple of the {n} recorded ones")
    copies = model.simulate(n * length, seed=seed, n_chains=n_stretches // n)
    return copies.reshape(-1, length, model.n_units)


def _integer(name, value, low):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise InputError(f"{name} = {value!r}: valid is an integer >= {low}")
    return int(value)


def _stretch_bins(stretch_bins, n_bins, max_lag):
    if stretch_bins is not None:
        length = _integer("stretch_bins", stretch_bins, 2)
    else:
        length = max(n_bins // 50, min(100, n_bins // 10))
    if length <= max_lag:
        raise InputError(f"stretches of {length} bins: valid are more than max_lag = {max_lag}; {n_bins} bins in all")
    return length


def _correlation_time(rasters):
    counts = [r.sum(axis=1, dtype=float) for r in rasters]
    longest = max(counts, key=len)
    return float(integrated_time((longest - longest.mean())[:, None]))


def _notes(checks, length, tau):
    notes = []
    if length < 10 * 2 * tau:
        notes.append(
            f"stretches of {length} bins are short against the correlation of the population count in the recording "
            f"(2 tau = {2 * tau:.3g} bins): neighboring stretches are not independent, p values may be too small"
        )
    empty = [c.label for c in checks if not math.isfinite(c.p)]
    if empty:
        notes.append(f"nothing to compare in: {', '.join(empty)} (no event in recording and simulation)")
    return tuple(notes)


def _labels(n_recorded, n_simulated, n_labels, seed):
    """(1 + n_labels, n) of bool, True = called recorded; the first row is the truth."""
    n = n_recorded + n_simulated
    key = Key(seed)
    out = np.zeros((1 + n_labels, n), bool)
    out[0, :n_recorded] = True
    for t in range(n_labels):
        order = np.argsort(key.fill("uniform", 0, 1, n, t, Stream.CHECK_LABELS)[0], kind="stable")
        out[1 + t, order[:n_recorded]] = True
    return out


def _matched_labels(n_recorded, n_copies, n_labels, seed):
    """The same where only the stretches at one place, one of them recorded, may change their labels."""
    key = Key(seed)
    out = np.zeros((1 + n_labels, 1 + n_copies, n_recorded), bool)
    out[0, 0] = True
    for t in range(n_labels):
        uniform = key.fill("uniform", 0, 1, n_recorded, t, Stream.CHECK_LABELS)[0]
        out[1 + t, np.floor(uniform * (1 + n_copies)).astype(int), np.arange(n_recorded)] = True
    return out.reshape(1 + n_labels, -1)


def _compare(test, recorded, simulated, labels):
    test, (recorded, simulated) = join_rare(test, recorded, simulated)
    sides = [recorded, simulated]
    values = np.array([test.values(s.sum(axis=0)) for s in sides])
    errors = np.array([jackknife_error(test.values, s) for s in sides])
    heads = [(float(test.headline(s.sum(axis=0))), float(jackknife_error(test.headline, s))) for s in sides]
    both = np.concatenate(sides)
    scale = jackknife_error(test.values, both)
    varies = scale > 0
    chi2 = p = math.nan
    if varies.any():
        variance = (errors[:, varies] ** 2).sum(axis=0)
        # a component that varies over all stretches varies on one side at least
        chi2 = float(((values[0] - values[1])[varies] ** 2 / variance).mean())
        p = _permutation_p(test, both, labels, scale, varies)
    return Check(
        test.key, test.label, test.headline_label, *heads, values, errors, test.x, test.x_label, test.width, chi2, p,
        int(varies.sum()), test.fitted,
    )  # fmt: skip


def jackknife_error(function, sums):
    """Standard error of ``function(total of sums)``, leaving out one stretch at a time; shape of the function.

    Examples
    --------
    >>> import numpy as np
    >>> float(jackknife_error(lambda s: s[..., 1] / s[..., 0], np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 6.0]])).round(4))
    1.1547
    """
    n = len(sums)
    left = function(sums.sum(axis=0) - sums)
    return np.sqrt((n - 1) / n * ((left - left.mean(axis=0)) ** 2).sum(axis=0))


def _permutation_p(test, both, labels, scale, varies):
    total = both.sum(axis=0)
    discrepancy, shift = np.empty(len(labels)), np.empty(len(labels))
    step = max(1, 2**22 // both.shape[1])
    for a in range(0, len(labels), step):
        called = labels[a : a + step].astype(float) @ both
        rest = total - called
        difference = (test.values(called) - test.values(rest))[:, varies] / scale[varies]
        discrepancy[a : a + step] = (difference**2).mean(axis=1)
        shift[a : a + step] = np.abs(test.headline(called) - test.headline(rest))
    joint = np.minimum(_upper_tail(discrepancy), _upper_tail(shift))
    # sums in another order differ in the last digits; equal dealings must count as equal
    return float(np.count_nonzero(joint <= joint[0] * (1 + 1e-9)) / len(joint))


def _upper_tail(x):
    """Fraction of the entries at least as large, for each entry."""
    rounded = x * (1 - 1e-9)
    return 1 - np.searchsorted(np.sort(x), rounded, side="left") / len(x)
