"""Scaling exponents of a recording beside those of its nulls, and whether they differ.

An exponent says nothing by itself: heterogeneous units that do not interact follow power laws too (J. J. Briguglio et
al., arXiv 2507.23030, abstract and introduction).  So every exponent is measured in the same way on surrogates of
every null (:mod:`lft.rg.phenomenological.surrogates`), on the same levels, and compared:

    distance = (x - mean)/sqrt(error^2 + sd^2)           mean, sd over the surrogates, error of the recording
    p = rank of |x - m| among recording and surrogates, m the mean of all, over their number n + 1

p is exact for a null whose surrogates are exchangeable with the recording: of recordings that are drawn from the null,
5 % have p <= 0.05.  The latent null is fitted to the recording and so lies nearer to it than its own samples do: there
p is too large rather than too small.  p cannot fall below 1/(n + 1); "differs" needs p <= 0.05, thus at least 19
surrogates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.rg.phenomenological.activity import choose_blocks, cut_into_blocks
from lft.rg.phenomenological.clusters import Curve, coarse_grain
from lft.rg.phenomenological.momentum import momentum_space
from lft.rg.phenomenological.power_laws import common_slope, fit_power_law, jackknife_covariance, slope_weights
from lft.rg.phenomenological.surrogates import NULLS, surrogate_key, surrogate_maker
from lft.rng import Key, Stream

EXPONENTS = {"alpha": "variance", "beta": "free_energy", "mu": "eigenvalues", "z": "correlation_time",
             "beta_typical": "typical_free_energy"}
"""Curve behind each exponent; ``beta_typical`` is that of the mean of -ln P0 over clusters: exactly 1 for any
independent units, however different they are."""
P_DIFFERS = 0.05


def allowed_levels(name, curve):
    """Levels an exponent may be fitted on: eigenvalues of ranks 1, 2, 4, ... up to K/4; times of at least one bin."""
    if name == "mu":
        size = len(curve.scale)
        rank = np.arange(1, size + 1)
        return (rank & (rank - 1) == 0) & (rank <= max(2, size // 4))
    if name == "z":
        with np.errstate(invalid="ignore"):
            return curve.value >= 1
    return np.ones(len(curve.scale), bool)


def exponents(scaling, has_scan=True):
    """``{name: PowerLaw}`` of a :class:`~lft.rg.phenomenological.clusters.Scaling`; undefined: nan and why."""
    out = {}
    for name, source in EXPONENTS.items():
        if source in scaling.curves:
            curve = scaling.curves[source]
            out[name] = fit_power_law(curve, allowed_levels(name, curve), has_scan)
    return out


def used_levels(curve, law, name):
    """The levels that a fit used, as a mask."""
    from lft.rg.phenomenological.power_laws import usable

    inside = (curve.scale >= law.first * (1 - 1e-9)) & (curve.scale <= law.last * (1 + 1e-9))
    return usable(curve) & inside & allowed_levels(name, curve)


@dataclass(frozen=True)
class Comparison:
    """One number of the recording beside one null.

    Attributes
    ----------
    value, error : float
        Of the recording, on the levels that it and all surrogates have; error from the time blocks.
    null, spread : float
        Mean and standard deviation over the surrogates.
    n : int
        Surrogates.
    distance, p_value : float
    verdict : str
        ``differs``, ``does not differ``, ``undecided`` (too few surrogates) or ``undefined``.
    first, last : float
        Range of the scale.
    """

    value: float
    error: float
    null: float
    spread: float
    n: int
    distance: float
    p_value: float
    verdict: str
    first: float = math.nan
    last: float = math.nan

    def sentence(self, name, null):
        """The verdict in words."""
        from lft.analysis.estimate import format_with_error

        if self.verdict == "undefined":
            return f"{name} cannot be compared with {null}: not defined on three levels in common"
        numbers = (f"{format_with_error(self.value, self.error)} against {format_with_error(self.null, self.spread)} "
                   f"(distance {self.distance:.1f}, p = {self.p_value:.2g}, {self.n} surrogates)")
        return f"{name} {self.verdict if self.verdict != 'undecided' else 'is undecided'} " \
               f"{'from' if self.verdict != 'undecided' else 'against'} {null}: {numbers}"


def compare(value, error, surrogates, first=math.nan, last=math.nan):
    """Comparison of one number with those of surrogates.

    Examples
    --------
    >>> from lft.rg.phenomenological.nulls import compare
    >>> compare(5.0, 0.1, [1.0, 1.1, 0.9] * 7).verdict, compare(1.05, 0.1, [1.0, 1.1, 0.9] * 7).verdict
    ('differs', 'does not differ')
    """
    surrogates = np.asarray(surrogates, float)
    n = len(surrogates)
    if n < 2 or not (math.isfinite(value) and np.isfinite(surrogates).all()):
        return Comparison(value, error, math.nan, math.nan, n, math.nan, math.nan, "undefined", first, last)
    everyone = np.append(surrogates, value)
    away = np.abs(everyone - everyone.mean())
    p = np.count_nonzero(away >= away[-1] * (1 - 1e-12)) / (n + 1)
    spread = float(surrogates.std(ddof=1))
    width = math.hypot(error if math.isfinite(error) else 0.0, spread)
    gap = value - float(surrogates.mean())
    distance = gap / width if width > 0 else math.copysign(math.inf, gap) if gap else 0.0
    if p <= P_DIFFERS:
        verdict = "differs"
    else:
        verdict = "undecided" if 1 / (n + 1) > P_DIFFERS and p <= 1 / (n + 1) + 1e-12 else "does not differ"
    return Comparison(value, error, float(surrogates.mean()), spread, n, distance, p, verdict, first, last)


def compare_exponent(name, law, curve, null_curves):
    """An exponent beside surrogates, on the levels of its fit that all of them have."""
    levels = used_levels(curve, law, name)
    slopes, levels = common_slope([curve, *null_curves], levels)
    if not np.isfinite(slopes).all():
        return compare(math.nan, math.nan, slopes[1:])
    w = slope_weights(curve.scale[levels])
    s = jackknife_covariance(np.log(curve.replicas[:, levels]), curve.fold)
    scale = curve.scale[levels]
    return compare(float(slopes[0]), math.sqrt(max(0.0, float(w @ s @ w))), slopes[1:], float(scale.min()),
                   float(scale.max()))


def unit_halves(values, laws, scaling, n_splits=4, seed=0, **options):
    """Exponents on random halves of the units: ``{name: (error, mean over halves)}``.

    ``error^2 = mean over splits of (x_1 - x_2)^2/4``, the error of a mean of two halves: what another choice of units
    of the same kind would have given.  The mean over halves differs from the whole where an exponent depends on the
    number of units.  Same levels as the whole, as far as the halves have them (down to a single cluster).
    """
    values = np.asarray(values)
    n = values.shape[1]
    out = {name: [] for name in laws}
    alike = {"min_clusters": 1, "max_levels": len(scaling.n_clusters) - 1}
    for split in range(n_splits if n >= 16 else 0):
        order = np.argsort(Key(seed).fill("uniform", 0, 1, n, split, Stream.SUBSET)[0])
        halves = [coarse_grain(values[:, np.sort(part)], has_errors=False, **{**options, **alike})
                  for part in (order[: n // 2], order[n // 2 :])]
        for name, law in laws.items():
            curves = [h.curves.get(EXPONENTS[name]) for h in halves]
            if None in curves or not math.isfinite(law.value):
                continue
            whole = scaling.curves[EXPONENTS[name]]
            pair, _ = common_slope([_fitting(c, whole) for c in curves], used_levels(whole, law, name))
            if np.isfinite(pair).all():
                out[name].append(pair)
    result = {}
    for name, pairs in out.items():
        pairs = np.array(pairs).reshape(-1, 2)
        if len(pairs):
            result[name] = (math.sqrt(float(((pairs[:, 0] - pairs[:, 1]) ** 2).mean()) / 4), float(pairs.mean()))
        else:
            result[name] = (math.nan, math.nan)
    return result


@dataclass(frozen=True, eq=False)
class Analysis:
    """Phenomenological RG of a recording at one bin width, beside its nulls.

    Attributes
    ----------
    scaling : Scaling
    laws : dict of PowerLaw
    halves : dict
        ``{exponent: (error over unit subsets, mean over halves)}``.
    momentum : MomentumSpace or None
    null_curves : dict
        ``{null: {curve: (mean, standard deviation)}}`` over the surrogates, per level; ``momentum`` among them.
    comparisons : dict
        ``{null: {exponent: Comparison}}``, and ``kurtosis`` (of the largest clusters), ``momentum_kurtosis`` (of the
        strongest cutoff).
    bin_s : float or None
    tau_bins : float
        Integrated correlation time of the summed activity, in bins.
    n_surrogates, seed : int
    notes : tuple of str
    """

    scaling: object
    laws: dict
    halves: dict
    momentum: object
    null_curves: dict
    comparisons: dict
    bin_s: float | None
    tau_bins: float
    n_surrogates: int
    seed: int
    notes: tuple = ()


def analyse(values, bin_s=None, *, nulls=tuple(NULLS), n_surrogates=19, seed=0, n_blocks=None, n_splits=4,
            has_momentum=True, progress=None, **options):
    """Exponents with errors over time blocks and unit subsets, beside nulls.

    Parameters
    ----------
    values : array_like, shape (T, N)
        Spikes 0/1, time first.
    bin_s : float, optional
        Width of a bin in seconds, for the record.
    nulls : sequence of str, optional
        Of :data:`lft.rg.phenomenological.surrogates.NULLS`.
    n_surrogates : int, optional
        Per null; 0: none.  Fewer than 19 cannot show a difference at 5 %.
    seed : int, optional
    n_blocks : int, optional
        Time blocks; default :func:`lft.rg.phenomenological.activity.choose_blocks`.
    n_splits : int, optional
        Random splits of the units into halves.
    has_momentum : bool, optional
        Momentum-space coarse-graining as well.
    progress : callable, optional
        Called with a line of text after each null.
    **options
        Of :func:`lft.rg.phenomenological.clusters.coarse_grain`.

    Returns
    -------
    Analysis

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.phenomenological.nulls import analyse
    >>> common = np.random.default_rng(1).random((4000, 1)) < 0.3
    >>> spikes = (np.random.default_rng(2).random((4000, 16)) < 0.1 + 0.3 * common).astype(np.int8)
    >>> a = analyse(spikes, nulls=("circular",), n_splits=0, has_momentum=False)
    >>> a.comparisons["circular"]["alpha"].verdict
    'differs'
    """
    wrong = [n for n in nulls if n not in NULLS]
    if wrong:
        raise InputError(f"null {wrong[0]!r}: valid are {', '.join(NULLS)}")
    if isinstance(n_surrogates, bool) or not isinstance(n_surrogates, int | np.integer) or n_surrogates < 0:
        raise InputError(f"surrogates = {n_surrogates!r}: valid is an integer >= 0")
    values = np.asarray(values)
    notes = []
    chosen, tau, remarks = choose_blocks(values)
    if n_blocks is None:
        n_blocks, notes = chosen, [*remarks]
    activity = cut_into_blocks(values, n_blocks)
    scaling = coarse_grain(activity, **options)
    laws = exponents(scaling)
    notes += [*scaling.notes, *(f"{name}: {note}" for name, law in laws.items() for note in law.notes)]
    halves = unit_halves(values, laws, scaling, n_splits, seed, n_blocks=n_blocks, **options)
    momentum = momentum_space(activity) if has_momentum else None
    null_curves, comparisons = {}, {}
    for null in nulls if n_surrogates else ():
        make, remarks = surrogate_maker(null, values)
        notes += remarks
        samples, cutoffs = [], []
        for n in range(n_surrogates):
            surrogate = cut_into_blocks(make(surrogate_key(seed, null, n)), n_blocks)
            samples.append(coarse_grain(surrogate, has_errors=False, **options))
            if momentum is not None:
                cutoffs.append(momentum_space(surrogate, has_errors=False).kurtosis)
        comparisons[null] = _comparisons(scaling, laws, momentum, samples, cutoffs)
        null_curves[null] = _summaries(scaling, samples, cutoffs)
        if progress is not None:
            progress(f"{null}: {n_surrogates} surrogates")
    if 0 < n_surrogates < 19 and nulls:
        notes.append(f"{n_surrogates} surrogates: p cannot fall below {1 / (n_surrogates + 1):.2g}; 19 are needed to "
                     "show a difference at 5 %")
    return Analysis(scaling, laws, halves, momentum, null_curves, comparisons, bin_s, tau, int(n_surrogates), seed,
                    tuple(dict.fromkeys(notes)))


def _comparisons(scaling, laws, momentum, samples, cutoffs):
    out = {}
    for name, law in laws.items():
        curve = scaling.curves[EXPONENTS[name]]
        others = [_fitting(s.curves.get(EXPONENTS[name]), curve) for s in samples]
        out[name] = compare_exponent(name, law, curve, others)
    curve = scaling.curves["kurtosis"]
    tops = [_fitting(s.curves["kurtosis"], curve).value[-1] for s in samples]
    scale = float(curve.scale[-1])
    out["kurtosis"] = compare(float(curve.value[-1]), float(curve.error[-1]), tops, scale, scale)
    if momentum is not None:
        k = momentum.kurtosis
        tops = [c.value[-1] for c in cutoffs]
        scale = float(k.scale[-1])
        out["momentum_kurtosis"] = compare(float(k.value[-1]), float(k.error[-1]), tops, scale, scale)
    return out


def _fitting(other, curve):
    """A surrogate's curve on the levels of the recording, nan where it has fewer."""
    value = np.full(len(curve.scale), np.nan)
    if other is not None and not (len(other.scale) and other.scale[0] != curve.scale[0]):
        n = min(len(value), len(other.value))
        value[:n] = other.value[:n]
    return Curve(curve.scale, value, np.empty((0, len(value))), np.array([]))


def _summaries(scaling, samples, cutoffs):
    out = {}
    for name, curve in scaling.curves.items():
        rows = np.array([_fitting(s.curves.get(name), curve).value for s in samples])
        out[name] = _mean_and_spread(rows)
    if cutoffs:
        n = min(len(c.value) for c in cutoffs)
        out["momentum"] = _mean_and_spread(np.array([c.value[:n] for c in cutoffs]))
    return out


def _mean_and_spread(rows):
    spread = rows.std(axis=0, ddof=1) if len(rows) > 1 else np.full(rows.shape[1], np.nan)
    return rows.mean(axis=0), spread
