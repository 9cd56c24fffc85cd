"""The inverse map: couplings of the fine lattice whose observation reproduces the couplings of a recording.

Given ``c`` with covariance ``C``, fitted at the electrode scale, wanted are the couplings ``theta`` of a finer lattice
such that simulating it, looking at it through the electrodes and bins (:class:`lft.rg.inverse.ensemble.Observation`)
and fitting what is seen, by the same estimator, gives ``c`` again (indirect inference, stochastic matching):

    chi^2(theta) = (c - c(theta))^T W (c - c(theta)),     W = (C_model + C_simulation)^-1
    theta <- theta + (J^T W J)^-1 J^T W (c - c(theta)),   J = dc/dtheta from the fluctuations of the same simulation

``C_model`` is the covariance that the matched model itself predicts for a recording of this size (it is known far
better than the measured ``C``, so it makes the better weight); errors come from the measured one:
``cov(theta) = P C P^T + cov_simulation(theta)`` with ``P = (J^T W J)^-1 J^T W``, the second part from the noise of both
c(theta) and J (:meth:`lft.rg.inverse.search.Frame.simulated`).  Both parts rest on finitely many blocks: what may be
concluded from them, for one coupling and for all at once, is in :mod:`lft.rg.inverse.regions`.

More couplings are observed than sought: what remains of the residual tests whether *any* lattice of the family can
produce the recording.  Combinations of ``theta`` that decimation has erased are reported as flat directions with the
interval that chi^2 allows along them, never as numbers.  Where the response bends within the errors the intervals are
those of the bent response, not symmetric (:mod:`lft.rg.inverse.profile`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.rg.inverse.ensemble import FineModel, choose_volume
from lft.rg.inverse.profile import Direction, bent, intervals, profile, search_interval
from lft.rg.inverse.regions import (
    ONE_SIGMA,
    TWO_SIGMA,
    degrees_of_freedom,
    goodness,
    joint_p_value,
    simultaneous_quantile,
)
from lft.rg.inverse.search import FLAT, Frame, Match, Search, Target
from lft.rg.inverse.stages import attractive_twins, default_starts, stages

LEVEL = 0.01
"""Below this p-value the verdict is that no lattice of the family reproduces the recording."""
MAX_TOTAL_SITES = 2**31
"""Fine sites of all configurations of one simulation: about 10 s."""
SLOW = 0.6
"""Correlation of neighboring fortieths of a run that gives a warning; 0.16 is the standard deviation of white noise."""
WEAK = 0.08
"""A combination of couplings known less well than this is named, flat or not."""


@dataclass(frozen=True)
class InverseMap:
    """Result of :func:`inverse_map`.

    Attributes
    ----------
    model : FineModel
    recorded : Lattice
        Geometry of the recording; ``volume.observation.recorded`` is that of the simulation.
    names : tuple of str
    theta : ndarray (n_theta,)
        The match; a coupling with a sizable part in a flat direction is not a number (:attr:`couplings`).
    covariance : ndarray (n_theta, n_theta)
        Of the identified directions: recording and simulation noise together.
    degrees_of_freedom : float
        Of that covariance; inf if it is known exactly.
    flat : list of Direction
    profile : lft.rg.inverse.profile.Profile
        How the response changes within the errors.
    chi2, dof, p_value : float, int, float
        Of the residual, with the measured covariance; p from Hotelling's T^2 where that has finitely many blocks.
    verdict : str
    noise_share : float
        Largest share of the simulation in the variance of a coupling.
    alternatives : list of dict
        Other couplings that match nearly as well: ``couplings``, ``chi2`` of a short simulation.
    """

    model: FineModel
    recorded: object
    target: Target
    names: tuple
    theta: np.ndarray
    covariance: np.ndarray
    degrees_of_freedom: float
    flat: list
    profile: object
    predicted: np.ndarray
    residual: np.ndarray
    chi2: float
    dof: int
    p_value: float
    verdict: str
    noise_share: float
    alternatives: list
    finite_size: dict
    volume: object
    n_configurations: int
    match: Match = field(repr=False)
    notes: list = field(default_factory=list)

    @property
    def couplings(self):
        """``{name: (value, error)}``; nan where the recording does not determine the coupling."""
        errors = np.sqrt(self.covariance.diagonal())
        out = {}
        for k, name in enumerate(self.names):
            is_known = name not in self.undetermined
            out[name] = (float(self.theta[k]), float(errors[k])) if is_known else (math.nan, math.nan)
        return out

    @property
    def undetermined(self):
        """Names of the couplings that are no numbers: those with a sizable part in a flat direction, and those that
        the walk along one moves by more than their error."""
        errors = np.sqrt(self.covariance.diagonal())
        return tuple(
            name
            for name, error in zip(self.names, errors, strict=True)
            if sum(d.weights[name] ** 2 for d in self.flat) >= 0.01
            or any(d.moved.get(name, 0.0) > error for d in self.flat)
        )

    @property
    def intervals(self):
        """68 % interval of every coupling that is a number, ``{name: (low, high)}``."""
        return self.intervals_at(ONE_SIGMA)

    def intervals_at(self, level=TWO_SIGMA, at_once=False):
        """Interval of every coupling that is a number, ``{name: (low, high)}``; not symmetric: the response bends.

        Parameters
        ----------
        level : float
            Probability, default that of two sigma, 0.9545.
        at_once : bool
            All couplings lie within their intervals in at least this share of recordings (a Sidak box, see
            :mod:`lft.rg.inverse.regions`), instead of each by itself.
        """
        d = int(self.profile.is_known.sum()) if at_once else 1
        width = simultaneous_quantile(level, self.degrees_of_freedom, max(d, 1))
        ranges = intervals(self.profile, self.names, self.theta, width)
        return {name: ends for name, ends in ranges.items() if name not in self.undetermined}

    def p_of(self, theta):
        """How well a given fine lattice agrees with the match: p-value of all its couplings together.

        Below 0.0455 ``theta`` lies outside the joint region of two sigma, in which bends of the response are counted.

        Parameters
        ----------
        theta : sequence of float
            In the order of :attr:`names`.

        Returns
        -------
        float
            nan where a combination is flat, since the response is then known around the match only, and from fewer
            blocks than directions.
        """
        if self.flat:
            return math.nan
        t2, d = self.profile.distance(np.asarray(theta, float) - self.theta)
        return joint_p_value(t2, d, self.degrees_of_freedom)


def inverse_map(target, observation, estimator, *, displacements=None, starts=None, n_configurations=None, n_pilot=None,
                seed=0, max_fine_sites=None, check_size=True, progress=None):
    """Couplings of the fine lattice whose observation reproduces the target.

    Parameters
    ----------
    target : Target
        Couplings at the recorded scale, in the estimator's order.
    observation : lft.rg.inverse.ensemble.Observation
    estimator : callable
        ``fields -> (values (n_c,), influences (n_fields, n_c))`` such as
        :func:`lft.inference.lattice_estimator.lattice_estimator`; the one that gave the target.
    displacements : sequence of tuple of int, optional
        Couplings sought; default the nearest neighbors along every axis, and h.
    starts : sequence of sequence of float, optional
        Where searches begin; default :func:`lft.rg.inverse.stages.default_starts`.  At large factors the search climbs
        from small ones (:func:`lft.rg.inverse.stages.stages`) unless starts are given.
    n_configurations : int, optional
        Of the last simulations; default: five times the recording, 400 to 2000, fewer (at least 100) where they would
        exceed 2^31 fine sites.  Candidates are compared with a quarter.
    n_pilot : int, optional
        Configurations while searching: 100, or 50 where one has more than 2^20 fine sites.
    seed : int
    max_fine_sites : int, optional
        Fine sites of one configuration, default 2^24.
    check_size : bool
        Simulate a doubled volume at the end and report the difference.
    progress : callable, optional
        Called with a line of text at every stage, and with lines that begin with blanks at every step.

    Returns
    -------
    InverseMap

    Raises
    ------
    InputError
        Names that do not fit, or too few couplings: fewer observed than sought.
    DivergenceError
        No start led anywhere.

    Notes
    -----
    Cost: two to five simulations of ``n_configurations``, a quarter of that for every candidate, a half for either
    side of every direction, and about ten of ``n_pilot`` per start and stage.  For a Utah array 8 x 8 x 10 finer (2.6
    million fine sites) a configuration takes 10 ms and the whole some minutes of one core.
    """
    progress = progress or (lambda line: None)
    volume = choose_volume(observation, **({} if max_fine_sites is None else {"max_fine_sites": max_fine_sites}))
    search = Search(target, volume, estimator, displacements, seed, lambda line: progress("  " + line))
    names = search.model.names
    n_sites = search.n_sites
    if n_configurations is None:
        most = max(min(2000, MAX_TOTAL_SITES // volume.n_fine), 100)
        n_configurations = min(max(int(5 * target.n_sites / n_sites), 400), most)
    if n_pilot is None:
        n_pilot = 100 if volume.n_fine <= 2**20 else 50
    for name, value, least in (("n_configurations", n_configurations, 40), ("n_pilot", n_pilot, 40)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} = {value!r}: valid is an integer >= {least}")
    if starts is not None:
        starts = [np.asarray(s, float) for s in starts]
        for start in starts:
            if start.shape != (len(names),) or not np.isfinite(start).all():
                raise InputError(f"start {start.tolist()}: valid are {len(names)} numbers, {', '.join(names)}")
    shape = "x".join(map(str, search.volume.observation.fine_lattice(volume.n_time).shape))
    progress(f"inverse map: {n_configurations} configurations of {shape} fine sites")
    found = _climb(search, starts, n_pilot, max_fine_sites, progress)
    progress(f"{len(found)} candidate{'s' if len(found) > 1 else ''}: comparing")
    best, alternatives = search.choose(found, max(n_configurations // 4, n_pilot))
    progress("refining the best match")
    match = search.refine(best.theta, n_configurations)
    progress("errors: profile of the response" + (", doubled volume" if check_size else ""))
    return _result(search, observation, match, alternatives, n_configurations, check_size)


def _climb(search, starts, n, max_fine_sites, progress):
    """Ends of the searches with few configurations, through stages of smaller factors unless starts are given."""
    observation = search.volume.observation
    seen = stages(observation) if starts is None else [observation]
    below, found = None, None
    for number, stage in enumerate(seen, start=1):
        options = {} if max_fine_sites is None else {"max_fine_sites": max_fine_sites}
        here = search if stage is observation else search.at(choose_volume(stage, **options))
        if below is None:
            begin = [[s] for s in (default_starts(search.target, here.model) if starts is None else starts)]
        else:
            # and the guess for this factor: where coarse couplings are weak, small factors are matched by weak ones too
            guess = default_starts(search.target, here.model)[0]
            begin = [*below.climb(found, here), [guess], [0.8 * guess]]
        factor = "x".join(map(str, stage.factor))
        progress(f"stage {number} of {len(seen)}: factor {factor}, {len(begin)} start{'s' if len(begin) > 1 else ''}")
        below, found = here, here.pilot(begin, n)
    twins = attractive_twins(found, below.model)
    if twins:
        progress(f"{len(twins)} start{'s' if len(twins) > 1 else ''} with the signs that decimation hides turned")
        with contextlib.suppress(DivergenceError):  # none of them led anywhere
            found += [f for f in below.pilot([[s] for s in twins], n) if all(f.is_apart(other) for other in found)]
    return found


# ---- what it amounts to
def _result(search, observation, match, alternatives, n_configurations, check_size):
    target, names = search.target, search.model.names
    match, W, frame, flat = _off_saddles(search, match, n_configurations)
    residual = target.values - match.predicted
    recorded, share = frame.covariance(target.covariance), frame.simulated(match, residual, W)
    covariance = recorded + share
    n_groups = len(match.spread)
    freedom = (math.inf if target.n_blocks is None else target.n_blocks - 1.0), n_groups - 1.0
    nu = degrees_of_freedom([(recorded, freedom[0]), (share, freedom[1])])
    with np.errstate(invalid="ignore", divide="ignore"):
        noise_share = float(np.nanmax(share.diagonal() / covariance.diagonal())) if frame.known.shape[1] else 0.0
    parts = [(target.covariance, freedom[0]), (match.noise, freedom[1])]
    chi2, dof, p = goodness(residual, parts, match.jacobian @ frame.known)
    notes = list(search.volume.notes)
    if not match.is_converged:
        notes.append("the last step was longer than its error: the match has not settled")
    notes += _slow(match.ensemble)
    if noise_share > 0.3:
        notes.append(f"simulation noise is up to {100 * noise_share:.0f} % of the variance: more configurations would "
                     "make the errors smaller")
    if target.n_blocks is not None and target.n_blocks < len(target.names) + 5:
        notes.append(f"the covariance of {len(target.names)} couplings rests on {target.n_blocks} blocks only")
    bends = profile(search, match, frame, covariance, max(n_configurations // 2, 100))
    notes += bends.weak(names, WEAK)
    size = _finite_size(search, match, frame, covariance, n_configurations, notes) if check_size else {}
    others = [{"couplings": dict(zip(names, map(float, f.theta), strict=True)), "chi2": f.chi2} for f in alternatives]
    result = InverseMap(
        model=search.model, recorded=observation.recorded, target=target, names=names, theta=match.theta,
        covariance=covariance, degrees_of_freedom=nu, flat=flat, profile=bends, predicted=match.predicted,
        residual=residual, chi2=chi2, dof=dof, p_value=p,
        verdict="", noise_share=noise_share, alternatives=others, finite_size=size, volume=search.volume,
        n_configurations=n_configurations, match=match, notes=notes,
    )  # fmt: skip
    notes += bent(bends, names, result.intervals)
    return dataclasses.replace(result, verdict=_verdict(result))


def _off_saddles(search, match, n):
    """The match, its weight and frame and its flat directions; refined again if the walk along one leads down."""
    for is_last in (False, True):
        W = np.linalg.inv(match.model + match.noise)
        frame = Frame.of(match.jacobian, match.jacobian_noise, W)
        scans = [search_interval(search, match, frame, k) for k in range(frame.flat.shape[1])]
        better = next((theta for _, theta in scans if theta is not None), None)
        if better is None or is_last:
            return match, W, frame, [direction for direction, _ in scans]
        search.say("a better match along a flat direction: refining there")
        match = search.refine(better, n)


def _slow(ensemble, n_groups=40):
    """A note if means over neighboring fortieths of the run are alike: noise, counted by them, is then too small."""
    edges = np.linspace(0, len(ensemble.operators), n_groups + 1).astype(int)[:-1]
    means = np.add.reduceat(ensemble.operators, edges, axis=0)
    means = means - means.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = np.nanmax((means[1:] * means[:-1]).sum(axis=0) / (means**2).sum(axis=0))
    if alike < SLOW:
        return []
    return [
        f"the simulation of the fine lattice moves slowly (correlation {alike:.2f} of neighboring fortieths of "
        f"{len(ensemble.operators) * ensemble.spacing} updates): it is close to criticality or between two phases, and "
        "the errors are too small"
    ]


def _verdict(result):
    if result.dof == 0:
        text = "not tested: as many couplings as unknowns; fit with diagonals or a longer reach"
    elif result.p_value < LEVEL:
        p = f"p = {result.p_value:.2g}"
        if result.match.is_converged and not result.flat:
            text = f"rejected: no fine lattice of this family was found that reproduces the couplings ({p})"
        else:  # the residual has not been searched in every direction
            text = f"no match found ({p}), which is no proof that there is none: the search has not settled everywhere"
    else:
        text = f"matched (p = {result.p_value:.2g})"
    if result.flat:
        text += f"; {len(result.flat)} combination{'s' if len(result.flat) > 1 else ''} of couplings not determined"
    if result.alternatives:
        text += f"; {len(result.alternatives)} other solution{'s' if len(result.alternatives) > 1 else ''} near by"
    return text


def _finite_size(search, match, frame, covariance, n, notes):
    """The same couplings in a doubled volume: what they would be fitted as, and how far theta would move."""
    theta = match.ensemble.theta
    small = match.predicted - match.jacobian @ (match.theta - theta)
    volume = search.volume.doubled()
    large = search.look(theta, max(n // 4, 40), volume)
    gap = large.values - small
    z = gap / np.sqrt((large.noise + match.noise).diagonal())
    shift = frame.step(gap)
    with np.errstate(invalid="ignore", divide="ignore"):
        shift_sigma = np.nan_to_num(np.abs(shift) / np.sqrt(covariance.diagonal()), posinf=0.0)
    out = {"largest_z": float(np.abs(z).max()), "largest_shift_in_errors": float(shift_sigma.max(initial=0.0))}
    if out["largest_z"] > 4.5:
        notes.append(
            f"a doubled volume changes the couplings by {out['largest_z']:.1f} of its own errors and the result by "
            f"{out['largest_shift_in_errors']:.1f}: the simulated volume is too small"
        )
    return out


__all__ = ["FLAT", "Direction", "InverseMap", "Target", "default_starts", "inverse_map"]
