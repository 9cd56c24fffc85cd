"""Routines that fit one target each, side by side: one pass over the spikes serves all that wait for it.

The loops of :class:`lft.inference.causal.design.Batch` take eight targets at a time, a penalized fit asks for the sums
of one.  Here every routine runs in a thread of its own until it asks for sums over some rows.  When all of them wait,
those rows are visited which the routine furthest behind asks for, once for every routine that waits for the same rows.
One thread runs at a time, in the order of the targets: results have the bits of routines that run one after the other,
as the eight lanes do not mix.  Measured (300 units, 1e5 bins, 13 strengths and 5 folds): see docs/causal-models.md.
"""

from __future__ import annotations

import threading

import numpy as np

from lft.inference.causal.design import LANES, Batch
from lft.inference.causal.objective import CausalObjective


class _Lane:
    """Stands for the batch of one target: sums come from the batch that all share."""

    n_lanes = 1

    def __init__(self, shared, lane, rows, design):
        self.shared, self.lane, self.rows, self.design = shared, lane, rows, design
        self.targets = [shared.targets[lane]]
        self.theta = None

    def evaluate(self, theta, start=None, stop=None):
        """Value and gradient in the first of the padded columns."""
        self.design._visits[0] += 1
        self.theta = theta[:, 0].copy()
        one_value, one_gradient = self.shared.ask(self.lane, (self.rows, "sums", start, stop), self.theta)
        value, gradient = np.zeros(LANES), np.zeros_like(theta)
        value[0], gradient[:, 0] = one_value, one_gradient
        return value, gradient

    def hessian(self):
        """Information at the last point."""
        return [self.shared.ask(self.lane, (self.rows, "information", None, None), self.theta)]


class _LaneObjective(CausalObjective):
    """The objective of one target of several."""

    def __init__(self, shared, lane, design, n_rows, keep, ranges=None):
        target = shared.targets[lane]
        own = design.restricted(design.fits, design.repeats)
        own._visits = [0]  # whether the work arrays hold a point is a question to this lane alone
        super().__init__(own, [target], n_rows, {target: keep}, None, ranges)
        self.shared, self.lane = shared, lane
        self.batches = [_Lane(shared, lane, shared.rows(design, self.ranges), own)]

    def over(self, ranges):
        part = super().over(ranges)
        keep = self.keeps[self.targets[0]]
        return _LaneObjective(self.shared, self.lane, part.design, part.n_rows, keep, part.ranges)


class Together:
    """Threads of some targets, and the sums that they ask for.

    Parameters
    ----------
    design : Design
    targets : sequence of int
        At most eight.
    n_rows : int
    keeps, pinned : list
        Of :class:`lft.inference.causal.boundary.Bounds`, target by target.
    """

    def __init__(self, design, targets, n_rows, keeps, pinned):
        self.design, self.targets, self.n_rows, self.keeps = design, [int(i) for i in targets], n_rows, keeps
        self.pinned = {lane: p for lane, p in enumerate(pinned) if p is not None}
        self.batches = {}
        n = len(self.targets)
        self.asked, self.answers, self.turns = [None] * n, [None] * n, [0] * n
        self.go, self.back = [threading.Semaphore(0) for _ in range(n)], threading.Semaphore(0)

    def rows(self, design, ranges):
        """The name of some rows; the batch of all targets on them is made when it is new."""
        name = tuple(ranges)
        if name not in self.batches:
            self.batches[name] = Batch(design, self.targets, self.pinned)
        return name

    def map(self, routine):
        """``routine(objective)`` of every target; the first error, in their order, is raised when all have ended."""
        results, errors = [None] * len(self.targets), {}

        def body(lane):
            self.go[lane].acquire()
            try:
                objective = _LaneObjective(self, lane, self.design, self.n_rows, self.keeps[lane])
                results[lane] = routine(objective)
            except BaseException as error:  # of whatever kind: it is raised again below, in the calling thread
                errors[lane] = error
            self.asked[lane] = None
            self.back.release()

        lanes = range(len(self.targets))
        for lane in lanes:
            threading.Thread(target=body, args=(lane,), daemon=True).start()
            self._resume(lane)
        while waiting := [lane for lane in lanes if self.asked[lane] is not None]:
            behind = min(waiting, key=lambda lane: (self.turns[lane], lane))
            what = self.asked[behind][0]
            served = [lane for lane in waiting if self.asked[lane][0] == what]
            self._serve(what, served)
            for lane in served:
                self._resume(lane)
        if errors:
            raise errors[min(errors)]
        return results

    def ask(self, lane, what, theta):
        """From a thread: wait for sums."""
        self.asked[lane] = what, theta
        self.back.release()
        self.go[lane].acquire()
        answer, self.answers[lane] = self.answers[lane], None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _resume(self, lane):
        """Let a thread run until it asks again, or ends."""
        before = self.asked[lane]
        self.go[lane].release()
        self.back.acquire()
        if before is not None and self.asked[lane] is not None:
            self.turns[lane] += before[0][0] != self.asked[lane][0][0]  # to other rows

    def _serve(self, what, lanes):
        rows, kind, start, stop = what
        batch, theta = self.batches[rows], np.zeros((self.design.size, LANES))
        for lane in lanes:
            theta[:, lane] = self.asked[lane][1]
        try:
            value, gradient = batch.evaluate(theta, start, stop)
            matrices = batch.hessian() if kind == "information" else None
        except Exception as error:
            for lane in lanes:
                self.answers[lane] = error
            return
        for lane in lanes:
            found = (value[lane], gradient[:, lane].copy()) if matrices is None else matrices[lane].copy()
            self.answers[lane] = found
