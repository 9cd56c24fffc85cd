"""Monte Carlo renormalization group: the linearized transformation near a fixed point, from correlations of operators.

With O the operators of a configuration and O' those of its blocks, the couplings K of the one and K' of the other obey

    d<O'_c>/dK_b = sum_a <O'_c O'_a>_c dK'_a/dK_b     =>     T = dK'/dK = <O' O'>_c^-1 <O' O>_c

(R. H. Swendsen, doi 10.1103/PhysRevLett.42.859).  The eigenvalues of T at the fixed point are powers of the length
rescaling b: ``y = ln(lambda) / ln(b)``, with ``y_t = 1/nu`` the largest of the even operators, without a field, and
``y_h = (d + 2 - eta)/2`` that of the odd ones.  Blocking n times brings the critical theory near the fixed point, using
more operators removes truncation: both dependencies are part of the result.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, field, replace

import numpy as np

from lft.analysis.estimate import estimate, format_with_error
from lft.errors import InputError, LftError, SeriesTooShort

MAX_CONDITION = 1e10
"""Beyond this condition number a matrix of correlations is called singular."""
MIN_BLOCKS = 10
"""Fewest jackknife blocks of which an error is made."""
MAX_BLOCKS = 100
LENGTH_IN_TAU = 10
"""Configurations per jackknife block in units of the longest autocorrelation time."""
SCHEMA, VERSION = "lft-flow", 1
SECTORS = {"y_t": True, "y_h": False}


class SingularMatrix(LftError):
    """The matrix <O' O'>_c has no meaningful inverse; ``condition_number`` says how far it is from having one."""

    def __init__(self, message, condition_number):
        super().__init__(message)
        self.condition_number = condition_number


@dataclass(frozen=True)
class Moments:
    """Sums by jackknife block: of O', O, O' O' and O' O, with a common origin subtracted.

    Attributes
    ----------
    n : ndarray (g,)
    coarse, fine : ndarray (g, m)
    coarse_coarse, coarse_fine : ndarray (g, m, m)
        First index: O'.
    """

    n: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    coarse_coarse: np.ndarray
    coarse_fine: np.ndarray

    @classmethod
    def of(cls, coarse, fine, edges):
        """From series (n, m) of both levels and the edges of the blocks."""
        coarse, fine = (np.asarray(x, float) - np.mean(x, axis=0) for x in (coarse, fine))
        parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
        return cls(
            np.diff(edges).astype(float),
            np.array([coarse[p].sum(axis=0) for p in parts]),
            np.array([fine[p].sum(axis=0) for p in parts]),
            np.array([coarse[p].T @ coarse[p] for p in parts]),
            np.array([coarse[p].T @ fine[p] for p in parts]),
        )

    def connected(self):
        """<O' O'>_c and <O' O>_c of all configurations [0] and of all without block j [1 + j]."""
        out = []
        for second, other in ((self.coarse_coarse, self.coarse), (self.coarse_fine, self.fine)):
            n, a, b, ab = (_left_out(x) for x in (self.n, self.coarse, other, second))
            n = n[:, None, None]
            out.append(ab / n - a[:, :, None] * b[:, None, :] / n**2)
        return out


def _left_out(x):
    total = x.sum(axis=0)
    return np.concatenate([total[None], total - x])


def condition_number(correlations):
    """Condition number of ``<O' O'>_c`` with the operators scaled to unit variance; inf if one never changes."""
    variance = np.diag(correlations)
    if not np.isfinite(correlations).all() or (variance <= 1e-12 * max(variance.max(), 1e-300)).any():
        return math.inf
    scale = np.sqrt(variance)
    with np.errstate(all="ignore"):
        values = np.linalg.eigvalsh(correlations / np.outer(scale, scale))
    return math.inf if values[0] <= 0 else float(values[-1] / values[0])


def stability_matrix(coarse_coarse, coarse_fine, names=()):
    """``T = <O' O'>_c^-1 <O' O>_c``, T_ab = dK'_a/dK_b.

    Parameters
    ----------
    coarse_coarse, coarse_fine : ndarray (m, m)
        Connected correlations; first index O'.
    names : sequence of str, optional
        For the message.

    Returns
    -------
    T : ndarray (m, m)
    condition : float

    Raises
    ------
    SingularMatrix
        The condition number of ``<O' O'>_c`` (operators scaled to unit variance) exceeds 1e10.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.monte_carlo.stability import stability_matrix
    >>> T, condition = stability_matrix(np.diag([2.0, 8.0]), np.array([[4.0, 0], [0, 4.0]]))
    >>> T.tolist(), condition
    ([[2.0, 0.0], [0.0, 0.5]], 1.0)
    """
    condition = condition_number(coarse_coarse)
    if condition > MAX_CONDITION:
        raise SingularMatrix(
            f"singular stability matrix: condition number {condition:.3g} of <O'O'> with "
            f"{len(coarse_coarse)} operators{' (' + ' '.join(names) + ')' if len(names) else ''}, at most "
            f"{MAX_CONDITION:.0e}: fewer operators, fewer levels or a larger lattice",
            condition,
        )
    scale = 1 / np.sqrt(np.diag(coarse_coarse))
    scaled = coarse_coarse * np.outer(scale, scale)
    return scale[:, None] * np.linalg.solve(scaled, scale[:, None] * coarse_fine), condition


@dataclass(frozen=True)
class Eigenvalue:
    """The largest eigenvalue of T in one sector, at one iteration, with the first m operators.

    ``level`` n: T from level n-1 to n.  ``value`` is ``y = ln(eigenvalue)/ln(b)``; nan where the eigenvalue is not real
    and positive.  ``statistical`` is its jackknife error.  ``systematic`` estimates what is left of the distance from
    the fixed point and of truncation: the change to the next iteration (the last one: from the one before), and the
    change to the full set of operators (the full set: from one operator less), added in quadrature.  nan with a single
    iteration and a single operator: nothing to compare with.
    """

    sector: str
    level: int
    operators: int
    value: float
    statistical: float
    eigenvalue: float
    eigenvalue_error: float
    condition_number: float
    systematic: float = math.nan

    @property
    def error(self):
        """Statistical and systematic error in quadrature; the statistical one alone where the other is unknown."""
        if math.isnan(self.systematic):
            return self.statistical
        return math.hypot(self.statistical, self.systematic)

    def as_json(self):
        """The entry of ``eigenvalues`` in the JSON form."""
        number = lambda x: float(x) if math.isfinite(x) else None  # noqa: E731
        return {
            "level": self.level, "operators": self.operators, "value": number(self.value), "error": number(self.error),
            "statistical": number(self.statistical), "systematic": number(self.systematic),
            "eigenvalue": number(self.eigenvalue), "eigenvalue_error": number(self.eigenvalue_error),
            "condition_number": number(self.condition_number),
        }  # fmt: skip


@dataclass(frozen=True)
class StabilityResult:
    """Eigenvalues by sector, iteration and number of operators, and what they were made of.

    Attributes
    ----------
    eigenvalues : list of Eigenvalue
    spectra : dict
        ``{(sector, level): (eigenvalues of T with all operators, matrix T, error of T)}``.
    series : lft.rg.monte_carlo.cascade.OperatorSeries
    b : float
        Length rescaling of one iteration.
    n_blocks : int
        Jackknife blocks.
    tau_int : float
        Longest integrated autocorrelation time met, in configurations.
    notes : list of str
    """

    eigenvalues: list
    spectra: dict
    series: object
    b: float
    n_blocks: int
    tau_int: float
    notes: list = field(default_factory=list)

    def best(self, sector, level):
        """The entry with the most operators, or None."""
        found = [e for e in self.eigenvalues if e.sector == sector and e.level == level]
        return max(found, key=lambda e: e.operators, default=None)

    def as_json(self):
        """The JSON form of ``lft flow --json``."""
        s = self.series
        levels = []
        for n in range(s.n_levels):
            means = operator_means(s, n, self.n_blocks)
            levels.append({
                "scale": list(s.scales[n]), "shape": list(s.lattices[n].shape), "couplings": {},
                "observables": {o.name: {"value": v, "error": e} for o, (v, e) in zip(s.operators, means, strict=True)},
            })  # fmt: skip
        return {
            "method": "mcrg", "blocking": s.blocking, "factor": list(s.factor), "axes": list(s.lattices[0].axes),
            "configurations": s.n, "jackknife_blocks": self.n_blocks, "tau_int": self.tau_int,
            "operators": {"even": [o.name for o in s.operators if o.is_even],
                          "odd": [o.name for o in s.operators if not o.is_even]},
            "levels": levels,
            "eigenvalues": {name: [e.as_json() for e in self.eigenvalues if e.sector == name] for name in SECTORS},
        }  # fmt: skip

    def table(self):
        """y by number of operators (rows) and iteration (columns), one table per sector.

        Errors in parentheses: statistical, then systematic.
        """
        out = []
        for sector in SECTORS:
            entries = {(e.operators, e.level): e for e in self.eigenvalues if e.sector == sector}
            if not entries:
                continue
            levels = sorted({k[1] for k in entries})
            head = [sector, *(_arrow(self.series.lattices, n) for n in levels)]
            rows = [head]
            for m in sorted({k[0] for k in entries}):
                cells = [_text(entries.get((m, n))) for n in levels]
                rows.append([f"{m} operator{'s' if m > 1 else ''}", *cells])
            widths = [max(len(r[k]) for r in rows) for k in range(len(head))]
            out += ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows] + [""]
        return "\n".join(out).rstrip()


def _arrow(lattices, n):
    before, after = ("x".join(map(str, lattices[k].shape)) for k in (n - 1, n))
    return f"n={n}: {before} -> {after}"


def _text(entry):
    if entry is None or not math.isfinite(entry.value):
        return "-"
    if not math.isfinite(entry.statistical):
        return f"{entry.value:.4g}(?)"
    text = format_with_error(entry.value, entry.statistical)
    if not math.isfinite(entry.systematic):
        return text
    decimals = len(text.split("(")[0].partition(".")[2])
    return f"{text}({max(round(entry.systematic * 10**decimals), 1)})"


def _with_systematic(entries):
    """The entries with the change to the next iteration and to the full set of operators."""
    values = {(e.sector, e.level, e.operators): e.value for e in entries}
    out = []
    for e in entries:
        most = max(m for s, n, m in values if (s, n) == (e.sector, e.level))
        level = e.level + 1 if (e.sector, e.level + 1, 1) in values else e.level - 1
        widest = max((m for s, n, m in values if (s, n) == (e.sector, level) and m <= e.operators), default=0)
        other = most if e.operators < most else e.operators - 1
        changes = [values.get((e.sector, level, widest), math.nan), values.get((e.sector, e.level, other), math.nan)]
        changes = [e.value - v for v in changes if math.isfinite(v)]
        out.append(replace(e, systematic=math.hypot(*changes) if changes else math.nan))
    return out


def jackknife_edges(series, n_blocks=None):
    """Edges of blocks that are long against the autocorrelation of the operators, and that time.

    The slowest of the operators at the last level and of the square of the first odd one decides: blocks hold at least
    10 of its integrated autocorrelation times, and there are at most 100.

    Raises
    ------
    InputError
        Fewer than 10 blocks are left, or a number that was asked for is out of range.
    """
    import warnings

    tau, starts = 0.5, np.concatenate([[0], np.cumsum(series.chains)])
    last = series.sums[-1].astype(float)
    odd = series.sector(False)
    columns = [last[:, k] for k in series.sector(True)] + ([last[:, odd[0]] ** 2] if len(odd) else [])
    for x in columns:
        chains = [x[a:b] for a, b in itertools.pairwise(starts) if b - a >= 4]
        if not chains or np.ptp(x) == 0:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeriesTooShort)  # too few blocks is said below, with what to do
            tau = max(tau, estimate(chains).tau_int)
    fit = int(series.n / (LENGTH_IN_TAU * 2 * tau)) if n_blocks is None else n_blocks
    if n_blocks is not None and (isinstance(n_blocks, bool) or not isinstance(n_blocks, int | np.integer)):
        raise InputError(f"n_blocks = {n_blocks!r}: valid is an integer from {MIN_BLOCKS} to {series.n}")
    if not MIN_BLOCKS <= fit <= series.n:
        raise InputError(
            f"too few blocks: {series.n} configurations with an autocorrelation time of {tau:.3g} make "
            f"{max(fit, 0)} independent blocks, errors need at least {MIN_BLOCKS}: about "
            f"{math.ceil(MIN_BLOCKS * LENGTH_IN_TAU * 2 * tau)} configurations"
        )
    n = fit if n_blocks is not None else min(fit, MAX_BLOCKS)
    per_chain = [max(1, round(n * c / series.n)) for c in series.chains]
    parts = zip(itertools.pairwise(starts), per_chain, strict=True)
    edges = [np.linspace(a, b, m + 1).astype(int)[:-1] for (a, b), m in parts]
    return np.concatenate([*edges, [series.n]]), float(tau)


def _jackknife(parts):
    """Error from the values without each block (blocks of nearly equal length)."""
    g = len(parts)
    return np.sqrt((g - 1) / g * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))


def operator_means(series, level, n_blocks):
    """(value, error) of every operator per product at a level."""
    x = series.sums[level] / series.n_products[level]
    blocks = np.array([b.mean(axis=0) for b in np.array_split(x, n_blocks)])
    error = blocks.std(axis=0, ddof=1) / math.sqrt(len(blocks))
    return [(float(v), float(e)) for v, e in zip(x.mean(axis=0), error, strict=True)]


def length_rescaling(factor):
    """b of a blocking: the common factor of the axes that are blocked.

    Raises
    ------
    InputError
        Axes with different factors above 1: no single length is rescaled.
    """
    used = sorted({int(f) for f in factor if f > 1})
    if len(used) != 1:
        raise InputError(f"factor {list(factor)}: exponents need one length rescaling, the same for all axes blocked")
    return float(used[0])


def stability(series, n_blocks=None):
    """Eigenvalues y by sector, iteration and number of operators.

    Parameters
    ----------
    series : lft.rg.monte_carlo.cascade.OperatorSeries
        Of two levels or more.
    n_blocks : int, optional
        Jackknife blocks; default from the measured autocorrelation (:func:`jackknife_edges`).

    Returns
    -------
    StabilityResult
        Where a stability matrix is singular the entry is absent and a note gives its condition number.

    Raises
    ------
    InputError
        One level alone, too few blocks, axes with different factors.
    SingularMatrix
        No matrix of the first iteration can be inverted.

    Notes
    -----
    Statistical errors: jackknife over blocks of configurations.  Systematic ones: see :class:`Eigenvalue`; they do not
    contain the finite lattice.  Cost: n m^2 per level and n_blocks eigenvalue problems per entry.
    """
    if series.n_levels < 2:
        raise InputError("stability matrix: needs at least one blocking, levels >= 1")
    b = length_rescaling(series.factor)
    edges, tau = jackknife_edges(series, n_blocks)
    entries, spectra, notes, reasons = [], {}, list(series.notes), []
    for sector, is_even in SECTORS.items():
        which = series.sector(is_even)
        for level in range(1, series.n_levels):
            if not len(which):
                continue
            moments = Moments.of(series.sums[level][:, which], series.sums[level - 1][:, which], edges)
            cc, cf = moments.connected()
            for m in range(1, len(which) + 1):
                names = [series.operators[k].name for k in which[:m]]
                try:
                    entry, spectrum = _eigenvalue(sector, level, cc[:, :m, :m], cf[:, :m, :m], b, names)
                except SingularMatrix as reason:
                    notes.append(f"level {level}, {sector}: {reason}")
                    reasons.append(reason)
                    break
                entries.append(entry)
                spectra[sector, level] = spectrum
                if not math.isfinite(entry.value):
                    notes.append(f"level {level}, {sector}, {m} operators: the largest eigenvalue, "
                                 f"{entry.eigenvalue:.3g}, is not real and positive: no exponent")
    if not entries:
        raise reasons[0]
    entries = _with_systematic(entries)
    return StabilityResult(entries, spectra, series, b, len(edges) - 1, tau, notes)


def _eigenvalue(sector, level, cc, cf, b, names):
    T, condition = stability_matrix(cc[0], cf[0], names)
    for part in cc[1:]:
        if condition_number(part) > MAX_CONDITION:
            raise SingularMatrix(f"singular stability matrix: without one block of configurations <O'O'> of "
                                 f"{' '.join(names)} has no inverse", condition_number(part))
    parts = np.linalg.solve(cc[1:], cf[1:])
    whole = np.linalg.eigvals(T)
    lead = _leading(whole[None])[0]
    leads = _leading(np.linalg.eigvals(parts))
    is_real = lead.imag == 0 and lead.real > 0
    value = math.log(lead.real) / math.log(b) if is_real else math.nan
    usable = is_real and (leads.imag == 0).all() and (leads.real > 0).all()
    error = float(_jackknife(np.log(leads.real)) / math.log(b)) if usable else math.nan
    entry = Eigenvalue(sector, level, len(names), value, error, float(lead.real), float(_jackknife(leads.real)),
                       condition)
    return entry, (whole[np.argsort(-abs(whole))], T, _jackknife(parts))


def _leading(values):
    """The eigenvalue of largest modulus of each row."""
    return np.take_along_axis(values, np.argmax(abs(values), axis=1)[:, None], axis=1)[:, 0]


def save_stability(result, path):
    """Write FLOW.h5: attribute ``json``, and per iteration the matrices T with their errors."""
    from lft.archive import replacing

    with replacing(path, "writing the flow") as file:
        file.attrs.update(schema=SCHEMA, schema_version=VERSION, json=json.dumps(result.as_json()))
        file["scale"] = np.array(result.series.scales)
        for (sector, level), (values, matrix, error) in result.spectra.items():
            group = file.create_group(f"{sector}/{level}")
            group["eigenvalues"], group["T"], group["T_error"] = values, matrix, error
