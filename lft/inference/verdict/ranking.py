"""Which model predicts best: held-out log-likelihood per spike, paired differences, a rule that prefers the simpler.

The log-likelihood proper (normalized, log Z included) of the bins that no model has seen, in bits per spike above
independent units,

    score(m) = [ ln P_m(test) - ln P_independent(test) ] / (spikes in test) / ln 2

Errors and comparisons come from B blocks of the test stretch.  Models see the same bins, so what counts is the *paired*
difference: with d_b = (nats of m - nats of m') in block b of n_b bins, sum d, and the error of the normalization eps

    se^2 = B/(B-1) sum_b (d_b - n_b sum d / sum n)^2 + eps_m^2 + eps_m'^2

Blocks must be long against the time over which d remembers: it is measured on pieces of a tenth of a block, the slowest
model deciding, and blocks are joined until each spans 20 such times (as those behind the errors of fits are), as long
as LEAST_BLOCKS are left; a warning says where that is not enough.

Two models *tie* if |sum d| <= t se, with t the two-sided quantile of Student's distribution with B - 1 degrees of
freedom at the level ALPHA divided by the number of comparisons with the best (Bonferroni).  The ranking *selects* the
model with the fewest parameters among the best one and those that tie with it.  Why not plainly the best score: a
family that contains the true one as a special case loses on held-out data only through the noise of its extra
parameters, half a nat each if the test stretch were as long as the training, and is ahead in nearly half of all
recordings.  Why not one standard error, the usual rule of cross-validation: each such family then beats the true one in
about one recording in eight.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.inference.newton import integrated_time
from lft.inference.protocols import LogLikelihood
from lft.inference.trials import checked_rasters

ALPHA = 0.01
PIECES = 10
"""Pieces of a block on which the memory of a score is measured."""
LEAST_BLOCKS = 8
LN2 = math.log(2)


@dataclass(frozen=True)
class Entry:
    """One model of a ranking.

    Attributes
    ----------
    name : str
    n_parameters : int
    log_likelihood : tuple of float
        Nats per bin and unit on the test stretch, and the standard error over its blocks.
    bits_per_spike : tuple of float
        Above independent units, and its standard error.
    behind : tuple of float
        Paired difference to the best model in bits per spike, and its standard error; (0, 0) for the best.
    ties : bool
        With the best.
    selected : bool
    """

    name: str
    n_parameters: int
    log_likelihood: tuple
    bits_per_spike: tuple
    behind: tuple
    ties: bool
    selected: bool


@dataclass(frozen=True, eq=False)
class Ranking:
    """Models by held-out score, best first.

    Attributes
    ----------
    entries : tuple of Entry
    n_bins, n_blocks, n_spikes : int
        Of the test stretch.
    threshold : float
        Standard errors beyond which a difference is no tie.
    normalization : dict
        ``{name: standard error of log Z, nats}`` where it is sampled.
    failed : dict
        ``{name: reason}`` of models that could not be fitted or scored.
    scores : dict
        ``{name: LogLikelihood}``, nats, by block.
    sizes : ndarray
        Bins of each block.
    memory_bins : float
        Bins over which the score of the slowest model above the reference remembers (integrated autocorrelation time
        less that of independent pieces; 0 where nothing beyond a piece of a tenth of a block is seen).
    """

    entries: tuple
    n_bins: int
    n_blocks: int
    n_spikes: int
    threshold: float
    normalization: dict
    failed: dict
    scores: dict
    sizes: np.ndarray
    memory_bins: float = 0.0

    def difference(self, first, second):
        """Paired difference of two models in bits per spike, and its standard error."""
        value, error = paired_difference(self.scores[first], self.scores[second], self.sizes)
        return value / (self.n_spikes * LN2), error / (self.n_spikes * LN2)

    @property
    def selected(self):
        """Name of the model that the rule of the module selects."""
        return next(e.name for e in self.entries if e.selected)

    def __getitem__(self, name):
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(name)

    @property
    def warnings(self):
        """Lines on models that do worse than units without couplings."""
        return [
            f"model {e.name}: {-e.bits_per_spike[0]:.3g} bits per spike below independent units on the test stretch: "
            "its joint distribution has states that the recording does not visit (a pseudo-likelihood does not see "
            "them: take --method exact or boltzmann), or it is overfitted (give --ridge)"
            for e in self.entries
            if e.bits_per_spike[0] < -self.threshold * e.bits_per_spike[1]
        ] + self._short_blocks()

    def _short_blocks(self):
        length = self.n_bins / self.n_blocks
        if 20 * self.memory_bins <= 1.5 * length:
            return []
        return [
            f"ranking: scores are correlated over about {self.memory_bins:.3g} bins and a block has {length:.3g}: "
            "errors may be too small; a longer test stretch is needed"
        ]

    def table(self):
        """Lines for a terminal."""
        from lft.analysis.estimate import format_with_error

        shown = lambda pair: format_with_error(*pair) if pair[1] > 0 else f"{pair[0]:.5g}"  # noqa: E731
        rows = [("model", "parameters", "nats/bin/unit", "bits/spike", "behind the best", "")]
        best = self.entries[0].name
        for e in self.entries:
            mark = [*(["tie"] if e.ties and e.name != best else []), *(["selected"] if e.selected else [])]
            behind = "" if e.name == best else shown(e.behind)
            rows.append(
                (e.name, str(e.n_parameters), shown(e.log_likelihood), shown(e.bits_per_spike), behind, ", ".join(mark))
            )
        width = [max(len(row[k]) for row in rows) for k in range(6)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)).rstrip() for row in rows]
        head = (
            f"held-out {self.n_bins} bins, {self.n_spikes} spikes, {self.n_blocks} blocks; a tie is a paired "
            f"difference below {self.threshold:.2f} standard errors; selected is the smallest of those that tie with "
            "the best"
        )
        lines = [head, *lines, *(f"{name}: no score ({reason})" for name, reason in self.failed.items())]
        return "\n".join(lines)

    def as_json(self):
        """Plain numbers."""
        pair = lambda p: {"value": p[0], "error": p[1]}  # noqa: E731
        return {
            "models": [
                {
                    "model": e.name,
                    "n_parameters": e.n_parameters,
                    "log_likelihood": pair(e.log_likelihood),
                    "bits_per_spike": pair(e.bits_per_spike),
                    "behind": pair(e.behind),
                    "ties": e.ties,
                    "selected": e.selected,
                }
                for e in self.entries
            ],
            "selected": self.selected,
            "n_bins": self.n_bins,
            "n_blocks": self.n_blocks,
            "n_spikes": self.n_spikes,
            "threshold": self.threshold,
            "memory_bins": self.memory_bins,
            "normalization_error": self.normalization,
            "failed": self.failed,
            "warnings": self.warnings,
        }


def rank(models, rasters, *, n_blocks=20, reference="independent", failed=None):
    """Score models on bins that none of them has seen, and rank them.

    Parameters
    ----------
    models : dict
        ``{name: (BinaryModel, number of parameters)}``, at least the reference.
    rasters : ndarray (T, N), or sequence of them
        The test stretch, 0/1; several are trials.
    n_blocks : int
        Blocks behind the errors, >= 5; fewer, at least 8, where scores are correlated over more than a twentieth of
        one.
    reference : str
        The model that scores 0.
    failed : dict, optional
        ``{name: reason}`` of models that are missing, for the record.

    Returns
    -------
    Ranking

    Raises
    ------
    InputError
        No reference, too few bins, no spike, or a score that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.verdict.independent import IndependentModel
    >>> true, wrong = IndependentModel(np.full(4, -1.0)), IndependentModel(np.full(4, -2.0))
    >>> ranking = rank({"independent": (true, 4), "wrong": (wrong, 4)}, true.simulate(2000, seed=3))
    >>> ranking.selected, ranking["wrong"].ties
    ('independent', False)
    """
    rasters = checked_rasters(rasters)
    if reference not in models:
        raise InputError(f"models {', '.join(models)}: the reference {reference!r} is missing")
    edges = block_edges([len(r) for r in rasters], n_blocks)
    n_spikes = int(sum(int(r.sum(dtype=np.int64)) for r in rasters))
    if n_spikes == 0:
        raise InputError(f"the {sum(map(len, rasters))} bins of the test stretch hold no spike: no score per spike")
    fine = [_pieces(e) for e in edges]
    found, failed = {}, dict(failed or {})
    for name, (model, _) in models.items():
        try:
            found[name] = held_out(model, rasters, fine, models[reference][0])
        except (DivergenceError, InputError) as reason:  # no log Z: the others go on
            if name == reference:
                raise
            failed[name] = " ".join(str(reason).split())
    for name, score in found.items():
        if not math.isfinite(score.value):
            raise InputError(f"model {name}: log-likelihood of the test stretch is {score.value}")
    found, sizes, memory = _joined(found, edges, fine, reference)
    n_units = rasters[0].shape[1]
    return _ranked(models, found, sizes, n_spikes, n_units, reference, failed, memory)


def _pieces(edges):
    """Every block cut into PIECES, or into its bins."""
    parts = [np.linspace(a, b, min(PIECES, b - a) + 1).astype(np.int64)[:-1] for a, b in itertools.pairwise(edges)]
    return np.append(np.concatenate(parts), edges[-1])


def _joined(found, edges, fine, reference):
    """Scores by block, bins of the blocks, and the memory of the scores in bins."""
    n_bins = sum(int(e[-1]) for e in edges)
    of_piece = np.concatenate([np.diff(e) for e in fine]).astype(float)
    gains = np.array([s.blocks - found[reference].blocks for name, s in found.items() if name != reference])
    rest = [d - of_piece * d.sum() / n_bins for d in gains]
    tau = max([integrated_time(d[:, None]) for d in rest], default=0.5)
    memory = (tau - 0.5) * n_bins / len(of_piece)
    # first piece of every block; a block that begins a trial does so whatever is joined
    starts, before = [], 0
    for e, f in zip(edges, fine, strict=True):
        starts.append(before + np.searchsorted(f, e[:-1]))
        before += len(f) - 1
    n_blocks = sum(map(len, starts))
    together = max(math.ceil(20 * memory / (n_bins / n_blocks)), 1)
    together = min(together, max(n_blocks // LEAST_BLOCKS, 1))
    starts = np.concatenate([s[: max(len(s) // together, 1) * together : together] for s in starts])
    scores = {name: LogLikelihood(s.value, s.error, np.add.reduceat(s.blocks, starts)) for name, s in found.items()}
    return scores, np.add.reduceat(of_piece, starts), float(memory)


def held_out(model, rasters, edges, reference):
    """:class:`LogLikelihood` of all bins, also of those whose past a causal model does not see.

    A causal model is scored by its conditional log-odds bin by bin.  It gives no distribution of the first bins of a
    trial, as many as its memory is long: there the reference stands in, so that every model is a normalized
    distribution of the same bins.
    """
    if model.kind != "causal":
        return model.log_likelihood(rasters, edges)
    memory, blocks = int(getattr(model, "n_lags", 0)), []
    for raster, edge in zip(rasters, edges, strict=True):
        z = np.array(model.log_odds(raster))
        z[:memory] = reference.log_odds(raster[:memory])
        total = np.concatenate([[0.0], np.cumsum((raster * z - np.logaddexp(0, z)).sum(axis=1))])
        blocks.append(np.diff(total[edge]))
    blocks = np.concatenate(blocks)
    return LogLikelihood(float(blocks.sum()), 0.0, blocks)


def block_edges(lengths, n_blocks):
    """Edges (per trial) of about ``n_blocks`` blocks of equal length in all; a short trial is one block.

    Examples
    --------
    >>> [e.tolist() for e in block_edges([100, 50], 6)]
    [[0, 25, 50, 75, 100], [0, 25, 50]]
    """
    total = sum(lengths)
    if isinstance(n_blocks, bool) or not isinstance(n_blocks, int | np.integer) or not 5 <= n_blocks <= total:
        raise InputError(f"n_blocks = {n_blocks!r}: valid is an integer from 5 to the {total} bins of the test stretch")
    return [np.linspace(0, n, max(1, round(n_blocks * n / total)) + 1).astype(np.int64) for n in lengths]


def paired_difference(first, second, sizes):
    """(sum of the difference, standard error) in nats of two :class:`LogLikelihood` over the same blocks."""
    d = first.blocks - second.blocks
    n = len(d)
    spread = n / (n - 1) * float(((d - sizes * d.sum() / sizes.sum()) ** 2).sum())
    return first.value - second.value, math.sqrt(spread + first.error**2 + second.error**2)


def _ranked(models, found, sizes, n_spikes, n_units, reference, failed, memory):
    from scipy.stats import t as student

    order = sorted(found, key=lambda name: -found[name].value)
    best, n_blocks, n_bins = order[0], len(sizes), int(sizes.sum())
    comparisons = max(len(order) - 1, 1)
    threshold = float(student.ppf(1 - ALPHA / (2 * comparisons), n_blocks - 1))
    zero = LogLikelihood(0.0, 0.0, np.zeros(n_blocks))
    per_spike = lambda pair: (pair[0] / (n_spikes * LN2), pair[1] / (n_spikes * LN2))  # noqa: E731
    tying, rows = [], {}
    for name in order:
        behind = paired_difference(found[best], found[name], sizes)
        ties = name == best or behind[0] <= threshold * behind[1]
        if ties:
            tying.append(name)
        alone = paired_difference(found[name], zero, sizes)
        gain = paired_difference(found[name], found[reference], sizes) if name != reference else (0.0, 0.0)
        rows[name] = {
            "log_likelihood": (alone[0] / (n_bins * n_units), alone[1] / (n_bins * n_units)),
            "bits_per_spike": per_spike(gain),
            "behind": per_spike(behind) if name != best else (0.0, 0.0),
            "ties": ties,
        }
    selected = min(tying, key=lambda name: models[name][1])  # the better one where the numbers are equal
    entries = tuple(Entry(name, int(models[name][1]), **rows[name], selected=name == selected) for name in order)
    errors = {name: float(score.error) for name, score in found.items() if score.error > 0}
    return Ranking(entries, n_bins, n_blocks, n_spikes, threshold, errors, failed, found, sizes, memory)
