"""The maximum of a pseudo-likelihood, with an optional ridge; what has no finite maximum is found and taken out.

Newton steps (:func:`lft.inference.newton.maximize`), first on an eighth of the rows where couplings stand out of its
noise, then on all.  Which information a step uses decides on the cost alone, as gradients are exact:

- far from the maximum passes over the data (:class:`lft.inference.pseudo.information.PassInformation`), solved the more
  roughly the farther it is;
- once the remaining gain is below 1e-3 nats (twice), the information of all rows, where these fit in memory: no
  combination of parameters moves by more than 0.03 standard errors from there on, so it serves the last steps and the
  errors alike.  Where a step leaves more than a hundredth of that gain (a parameter that runs away) it is made again.
"""

from __future__ import annotations

import itertools

import numpy as np

from lft.inference import newton
from lft.inference.pseudo import errors
from lft.inference.pseudo.information import ROWS_BYTES, PassInformation, information, rows_bytes
from lft.inference.pseudo.layout import without
from lft.inference.pseudo.objective import GibbsObjective

MAX_SUSPECTS = 500
SEARCH_SIZE = 400  # parameters up to which the information of all rows is cheaper than passes
NEAR = 1e-3  # promised gain (nats, twice) from which on the information is that of the maximum
KEEPS = 1e-2  # part of the gain promised there that may be left after a step, else the information is made again
TOLERANCE = 1e-11  # promised gain at the end, with the information of all rows: one more step at most
PART, N_STRETCHES = 8, 16
PART_ROWS = 20  # rows of the part per parameter of the widest conditional
PART_WORTH = 4.0  # promised gain per parameter on the part above which couplings stand out of its noise
PART_GAIN = 0.1  # promised gain per parameter at which the search leaves the part
ROUGHEST = 0.2
FORCING = {True: (0.02, 1e-3), False: (0.5, 0.03)}  # whether the rows fit in memory: see _Search.tolerance


def penalty(layout, ridge):
    """Diagonal of the information of the ridge, (ridge/2) A^2 = (ridge/8) a^2, the same for C, and of what is held."""
    f = layout.first
    extra = np.zeros(layout.size)
    extra[: f[1]] = extra[f[2] : f[3]] = ridge / 4
    extra[layout.is_held()] += newton.HELD_SD**-2
    return extra


def find_maximum(lists, layout, n_train, ridge, comm, checkpoint, report):
    """Search until no coupling runs away.

    Returns
    -------
    objective : GibbsObjective
        Without the couplings that run away.
    theta : ndarray
    information : Information
        At theta, with the ridge.
    gone : list of str
        Names of those couplings.
    """
    gone = []
    for attempt in itertools.count():
        objective = GibbsObjective(lists, layout, [(0, n_train)], comm)
        search = _Search(objective, penalty(layout, ridge), checkpoint, attempt, report)
        tolerance = TOLERANCE if rows_bytes(layout) <= ROWS_BYTES else newton.TOLERANCE
        theta, _, at_maximum = newton.maximize(search.evaluate, search.start(), tolerance, keeper=search)
        drop = runaway(objective, theta, at_maximum, layout.kinds() == "u" if ridge > 0 else None)
        if not drop.any():
            return objective, theta, at_maximum, gone
        gone += np.array(layout.names(), object)[drop].tolist()
        layout = without(layout, drop)


class _Search:
    """A penalized objective for Newton steps, and the keeper of what they have reached."""

    def __init__(self, objective, extra, checkpoint, attempt, report, origin=0.0):
        self.objective, self.extra, self.checkpoint, self.report = objective, extra, checkpoint, report
        self.attempt, self.origin, self.evaluations = attempt, origin, itertools.count(1)
        self.near, self.promised = None, np.inf  # (point, its information or None), and the gain promised there
        self.name = f"search{attempt}"

    def evaluate(self, theta):
        value, gradient, _ = self.objective.evaluate(theta)
        away = theta - self.origin
        value -= float((self.extra * away) @ away) / 2
        self.report(f"fit {self.attempt + 1}, evaluation {next(self.evaluations)}: {value:.10g} nats")
        gradient = gradient - self.extra * away
        return value, gradient, lambda more: self.information(theta, gradient, more)

    def information(self, theta, gradient, more):
        """What a step from theta uses, with ``more`` on the diagonal."""
        objective, layout = self.objective, self.objective.layout
        has_rows = rows_bytes(layout) <= ROWS_BYTES
        is_cheap = has_rows and (layout.size <= SEARCH_SIZE or len(layout.border) > 0)
        extra = self.extra if more is None else self.extra + more
        if is_cheap and more is not None:
            return information(objective, theta, extra)
        if self.near is not None and more is None:
            this = self._at_near()
            if float(gradient @ this.estimate(gradient)) < KEEPS * self.promised:
                return this
        this = information(objective, theta, extra) if is_cheap else PassInformation(objective, theta, extra)
        promised = float(gradient @ this.estimate(gradient))
        if not is_cheap:
            this.tolerance = self.tolerance(promised, has_rows)
        if has_rows and more is None and promised < NEAR:
            self.near = theta, this if is_cheap else None
            this = self._at_near()
            self.promised = float(gradient @ this.estimate(gradient))
        return this

    def tolerance(self, promised, has_rows):
        """Relative residual of a solution by passes, in proportion to the distance from the maximum in standard errors.

        A quadratic model is off in the same proportion (forcing terms, a standard result).  With more parameters than
        fit in memory a product costs about as much as an evaluation, and rough steps are cheaper.
        """
        forcing, finest = FORCING[has_rows]
        return min(max(forcing * np.sqrt(max(promised, 0.0) / self.objective.size), finest), ROUGHEST)

    def _at_near(self):
        theta, known = self.near
        if known is None:
            self.near = theta, information(self.objective, theta, self.extra)
        return self.near[1]

    def start(self):
        """Where the search begins: the maximum on a part of the rows, with a weak ridge around independent units.

        The noise of that maximum costs half the number of parameters times PART: where the part shows no more gain than
        that (1000 units in 1e5 bins of which they fire in 1 %: 0.7 per parameter), independent units are nearer, and
        the detour has doubled the time of the search.
        """
        objective, theta = self.objective, self.objective.start()
        widest = 1 + int(np.bincount(objective.layout.pairs.ravel()).max(initial=0))
        widest += 2 * objective.layout.n_directed // max(len(objective.layout.units), 1) + len(objective.layout.border)
        if objective.n_rows < PART * PART_ROWS * widest or self.checkpoint.read(self.name) is not None:
            return theta
        edges = np.linspace(0, objective.n_rows, N_STRETCHES + 1).astype(int)
        part = objective.over([(a, a + (b - a) // PART) for a, b in itertools.pairwise(edges)])
        search = _Search(part, self.extra / PART + 1.0, self.checkpoint, self.attempt, self.report, theta)
        search.name = f"part{self.attempt}"
        _, gradient, make = search.evaluate(theta)
        if float(gradient @ make(None).estimate(gradient)) < PART_WORTH * objective.size:
            return theta
        return newton.maximize(search.evaluate, theta, PART_GAIN * objective.size, keeper=search)[0]

    # ---- as a keeper
    def read(self):
        saved = self.checkpoint.read(self.name)
        if saved is None:
            return None
        if "near" in saved:
            self.near, self.promised = (saved["near"], None), float(saved["promised"])
        return saved["theta"], saved["scale"], float(saved["damping"])

    def write(self, theta, scale, damping):
        near = {} if self.near is None else {"near": self.near[0], "promised": self.promised}
        self.checkpoint.write(self.name, theta=theta, scale=scale, damping=damping, **near)


def runaway(objective, theta, info, among=None):
    """Mask of couplings of pairs and of inputs, or else of levels of V, whose error shows a runaway.

    ``among``: a mask of those that are looked at, default all.  DivergenceError where another parameter runs away.
    Where the rows do not fit in memory, that is judged with the errors.
    """
    layout = objective.layout
    none = np.zeros(layout.size, bool)
    if rows_bytes(layout) > ROWS_BYTES or (among is not None and not among.any()):
        return none
    bound = np.sqrt(errors.variance_bound(info.rows))
    suspects = np.flatnonzero(~(bound <= newton.RUNAWAY) & (True if among is None else among))
    if not len(suspects):
        return none
    suspects = suspects[np.argsort(-bound[suspects])][:MAX_SUSPECTS]
    unit = np.zeros((layout.size, len(suspects)))
    unit[suspects, np.arange(len(suspects))] = 1.0
    error = np.zeros(layout.size)
    error[suspects] = np.sqrt(info.solve(unit)[suspects, np.arange(len(suspects))])
    far = np.flatnonzero(error > newton.RUNAWAY)
    if not len(far):
        return none
    kinds = layout.kinds()[far]
    is_own = np.isin(kinds, ["a", "C", "u"])
    bad = far[is_own] if is_own.any() else far[kinds == "V"]
    if not len(bad):
        names = layout.names()
        newton.raise_runaway([{"b": "B", "c": "I"}[names[i][0]] + names[i][1:] for i in far], theta[far])
    # the worst ones alone: others may be pulled along by them
    none[bad[error[bad] > 0.1 * error[bad].max()]] = True
    return none
