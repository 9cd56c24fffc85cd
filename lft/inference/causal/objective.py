"""The log-likelihood of a causal model as an :class:`lft.inference.protocols.Objective`, and Newton target by target.

Targets do not share parameters: the information is block diagonal, one block per target, and each is maximized alone.
"""

from __future__ import annotations

import itertools

import numpy as np

from lft.errors import DivergenceError
from lft.inference.causal.design import LANES, Batch, TargetInformation
from lft.inference.newton import SingularInformation, is_below_rounding

TOLERANCE = 1e-8
MAX_STEPS = 100
FAST = 0.03
MAX_RESETS = 3


class SingularTarget(SingularInformation):
    """The information of one lane is singular: at the start, or after its parameters have run away."""

    def __init__(self, lane, is_start, message):
        super().__init__(message)
        self.lane, self.is_start = int(lane), is_start


class BlockInformation:
    """Block-diagonal information, one block per target."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.cuts = np.concatenate([[0], np.cumsum([len(b.diagonal()) for b in blocks])])

    def _parts(self, vector):
        return [vector[a:b] for a, b in itertools.pairwise(self.cuts)]

    def solve(self, vector):
        """H^-1 vector; a second axis holds several right-hand sides."""
        return np.concatenate([b.solve(v) for b, v in zip(self.blocks, self._parts(vector), strict=True)])

    def diagonal(self):
        """Diagonal of H."""
        return np.concatenate([b.diagonal() for b in self.blocks])

    def inverse_diagonal(self):
        """Diagonal of H^-1."""
        return np.concatenate([b.inverse_diagonal() for b in self.blocks])


class CausalObjective:
    """Exact log-likelihood of some targets (:mod:`lft.inference.protocols`); parameters target by target.

    Parameters
    ----------
    design : Design
        Its rows are all bins of all trials; those it does not fit count nothing.
    targets : sequence of int
    n_rows : int
        Rows of the fitted stretch, from the first.
    keeps : dict, optional
        Free parameters by target (padded places); default all that the target has.
    pinned : dict, optional
        Rows of certain outcome by target: (rows, sign).

    Notes
    -----
    ``evaluate`` keeps one matrix per target: P^2 numbers each, P = 1 + inputs + sources x functions.  Fits of many
    units go through :func:`maximize_batch`, which keeps those of eight targets.
    """

    def __init__(self, design, targets, n_rows, keeps=None, pinned=None, ranges=None):
        self.design, self.targets, self.n_rows = design, [int(i) for i in targets], int(n_rows)
        self.ranges = ranges or [(0, self.n_rows)]
        self.keeps = {i: design.places(i) if keeps is None or i not in keeps else keeps[i] for i in self.targets}
        self.pinned = pinned or {}
        parts = [self.targets[a : a + LANES] for a in range(0, len(self.targets), LANES)]
        self.batches = [
            Batch(design, part, {lane: self.pinned[i] for lane, i in enumerate(part) if i in self.pinned})
            for part in parts
        ]
        self.cuts = np.concatenate([[0], np.cumsum([len(self.keeps[i]) for i in self.targets])])
        self.size = int(self.cuts[-1])

    @property
    def longest_lag(self):
        """K: how far a row looks back."""
        return self.design.n_lags

    # ---- parameters
    def parameters(self, target):
        """(kind, m, source) of each parameter of a target: kind c, u or w."""
        d = self.design
        out = []
        for place in self.keeps[target]:
            if place < d.n_dense:
                out.append(("c", 0, -1) if place == 0 else ("u", int(place) - 1, -1))
            else:
                s, m = divmod(int(place) - d.n_dense, d.width)
                out.append(("w", m, int(d.sources[s])))
        return out

    def names(self):
        """``c[i]``, ``u[q,i]`` (input, target), ``C[k,i,j]`` (lag, target, source) or ``w[m,i,j]`` (function)."""
        text = []
        for i in self.targets:
            for kind, m, j in self.parameters(i):
                if kind == "w":
                    text.append(f"C[{m + 1},{i},{j}]" if self.design.is_identity and i != j else f"w[{m},{i},{j}]")
                else:
                    text.append(f"c[{i}]" if kind == "c" else f"u[{m},{i}]")
        return text

    def kinds(self):
        """``c`` for constants and inputs (free of penalties), ``C`` for couplings and own history."""
        return np.array(["C" if kind == "w" else "c" for i in self.targets for kind, _, _ in self.parameters(i)])

    def groups(self):
        """One group per pair of target and source; -1 for constants and inputs."""
        n = self.design.table.n_units
        return np.array([i * n + j if kind == "w" else -1 for i in self.targets for kind, _, j in self.parameters(i)])

    def start(self):
        """Parameters of the model without couplings: c from the rates, all else 0."""
        from lft import links

        theta = np.zeros(self.size)
        for number, i in enumerate(self.targets):
            times = self.design.table.times(i)
            p = self.design.fits[times].sum() / max(self.design.n_fitted, 1)
            theta[self.cuts[number]] = links.inverse(self.design.link, p)
        return theta

    def padded(self, theta, number):
        """(size of the design, lanes) of the batch of this number."""
        batch = self.batches[number]
        out = np.zeros((self.design.size, LANES))
        for lane, i in enumerate(batch.targets):
            k = number * LANES + lane
            out[self.keeps[i], lane] = theta[self.cuts[k] : self.cuts[k + 1]]
        return out

    def _joined(self, parts):
        """(size, ...) from arrays (padded, lanes) of the batches."""
        return np.concatenate(
            [part[self.keeps[i], lane] for batch, part in zip(self.batches, parts, strict=True)
             for lane, i in enumerate(batch.targets)]
        )  # fmt: skip

    # ---- protocol
    def evaluate(self, theta):
        """Log-likelihood, gradient and ``extra -> BlockInformation``."""
        value, parts, matrices = 0.0, [], []
        at = np.array(theta, float)
        for number, batch in enumerate(self.batches):
            v, g = batch.evaluate(self.padded(at, number))
            value += float(v[: batch.n_lanes].sum())
            parts.append(g)
        visit = self.design.visit()

        def make(extra=None):
            if not matrices:  # a trial step that is refused never asks for them
                for number, batch in enumerate(self.batches):
                    if len(self.batches) > 1 or not self.design.is_last(visit):
                        batch.evaluate(self.padded(at, number))
                    matrices.append(batch.hessian())
            blocks = []
            for k, i in enumerate(self.targets):
                add = None if extra is None else extra[self.cuts[k] : self.cuts[k + 1]]
                blocks.append(TargetInformation(matrices[k // LANES][k % LANES], self.keeps[i], add))
            return BlockInformation(blocks)

        return value, self._joined(parts), make

    def _stretches(self, start, stop):
        """Bins of the rows start <= row < stop."""
        row = 0
        for a, b in self.ranges:
            low, high = max(start, row), min(stop, row + b - a)
            if low < high:
                yield a + low - row, a + high - row
            row += b - a

    def score(self, theta, start, stop):
        """Gradient of some rows."""
        total = np.zeros(self.size)
        for a, b in self._stretches(start, stop):
            parts = [batch.evaluate(self.padded(theta, n), a, b)[1] for n, batch in enumerate(self.batches)]
            total += self._joined(parts)
        return total

    def log_likelihood(self, theta, start, stop):
        """Log-likelihood of some rows, nats."""
        total = 0.0
        for a, b in self._stretches(start, stop):
            for n, batch in enumerate(self.batches):
                total += float(batch.evaluate(self.padded(theta, n), a, b)[0][: batch.n_lanes].sum())
        return total

    def over(self, ranges):
        """The same problem on some ranges of rows; the past of a row is read wherever it lies, and a row that is named
        twice counts twice."""
        bins = [stretch for a, b in ranges for stretch in self._stretches(a, b)]
        repeats = np.zeros(len(self.design.fits))
        for a, b in bins:
            repeats[a:b] += self.design.fits[a:b]
        n_rows = sum(b - a for a, b in bins)
        fits = (repeats > 0).astype(np.uint8)
        design = self.design.restricted(fits, repeats if repeats.max(initial=0) > 1 else None)
        return CausalObjective(design, self.targets, n_rows, self.keeps, self.pinned, bins)


def maximize_batch(batch, theta, keeps, ridge=None, other=None):
    """Maximum of each lane's log-likelihood by damped Newton steps, as :func:`lft.inference.newton.maximize`.

    Parameters
    ----------
    batch : Batch
    theta : ndarray (size, lanes)
        Start, padded.
    keeps : list of ndarray
        Free parameters of each lane.
    ridge : ndarray (size, lanes), optional
        ``value -= sum ridge theta^2/2``.
    other : ndarray (size, lanes), optional
        Another start; each lane takes the better of the two.

    Returns
    -------
    theta, value (lanes,), list of TargetInformation, number of steps

    Raises
    ------
    DivergenceError, SingularInformation
        Naming the target.
    """
    n = batch.n_lanes
    ridge = np.zeros_like(theta) if ridge is None else ridge

    def evaluate(at):
        value, gradient = batch.evaluate(at)
        return value - 0.5 * (ridge * at**2).sum(axis=0), gradient - ridge * at

    if other is not None:
        is_better = evaluate(theta)[0] >= evaluate(other)[0]
        theta = np.where(is_better, theta, other)
    value, gradient = evaluate(theta)
    matrices = list(batch.hessian())
    scale = [m.diagonal()[k] + ridge[k, lane] for lane, (m, k) in enumerate(zip(matrices, keeps, strict=True))]
    damping, done, information = np.zeros(n), np.zeros(n, bool), [None] * n
    fresh, before = np.ones(n, bool), np.full(n, np.inf)  # whose matrix is of its theta; last promised gain
    is_current, resets = True, np.zeros(n, int)
    for count in range(MAX_STEPS):
        while True:
            step, promised = [None] * n, np.zeros(n)
            for lane in np.flatnonzero(~done):
                keep = keeps[lane]
                if information[lane] is None:
                    factored = _factor(batch, lane, matrices, keep, ridge, scale, damping[lane], count == 0)
                    information[lane], damping[lane] = factored
                step[lane] = information[lane].solve(gradient[keep, lane])
                promised[lane] = gradient[keep, lane] @ step[lane]
                if promised[lane] < TOLERANCE and damping[lane]:  # damping has done its work
                    damping[lane], resets[lane] = 0.0, resets[lane] + 1
                    if resets[lane] > MAX_RESETS:
                        raise SingularTarget(lane, False, f"unit {batch.targets[lane]}: no finite maximum")
                    factored = _factor(batch, lane, matrices, keep, ridge, scale, 0.0, False)
                    information[lane], damping[lane] = factored
                    step[lane] = information[lane].solve(gradient[keep, lane])
                    promised[lane] = gradient[keep, lane] @ step[lane]
            # an old matrix serves as long as it brings the gain down fast, and never at the end
            near = ~done & (promised < TOLERANCE) & (damping == 0)
            old = ~done & ~fresh
            slow = old & ~near & ((damping > 0) | (promised > FAST * before))
            if not slow.any() and not ((old & near).any() and (near | done).all()):
                break
            if not is_current:
                batch.evaluate(theta)
            renewed = batch.hessian()
            for lane in np.flatnonzero(~done & ~fresh):
                matrices[lane], information[lane], fresh[lane] = renewed[lane], None, True
        for lane in np.flatnonzero(near & fresh):
            done[lane] = True
            theta[keeps[lane], lane] += step[lane]  # below the tolerance already, and the square of it after
        if done.all():
            return theta, value, information, count
        trial = theta.copy()
        moves = np.flatnonzero(~done & ~near)
        for lane in moves:
            trial[keeps[lane], lane] += step[lane]
        new_value, new_gradient = evaluate(trial)
        is_current = True  # whether the work arrays belong to theta
        for lane in moves:
            before[lane] = promised[lane]
            gain = new_value[lane] - value[lane]
            is_small = is_below_rounding(promised[lane], value[lane])
            if is_small:
                left = new_gradient[keeps[lane], lane]
                is_better = left @ information[lane].solve(left) < promised[lane]
            else:
                is_better = np.isfinite(gain) and gain >= 1e-2 * promised[lane]
            if not is_better:
                damping[lane] = max(10 * damping[lane], 1e-3)
                information[lane], is_current = None, False
                if damping[lane] > 1e9:
                    raise DivergenceError(f"unit {batch.targets[lane]}: no step raises the likelihood")
                continue
            if gain < 0.1 * promised[lane] and not is_small:
                damping[lane], information[lane] = max(4 * damping[lane], 1e-3), None
            elif damping[lane]:
                damping[lane], information[lane] = damping[lane] / 10 if damping[lane] > 1e-5 else 0.0, None
            theta[:, lane], value[lane], gradient[:, lane] = trial[:, lane], new_value[lane], new_gradient[:, lane]
            fresh[lane] = False
    lane = int(np.flatnonzero(~done)[0])
    raise SingularTarget(lane, False, f"unit {batch.targets[lane]}: not converged after {MAX_STEPS} Newton steps")


def _factor(batch, lane, matrices, keep, ridge, scale, damping, is_start):
    while True:
        try:
            return TargetInformation(matrices[lane], keep, ridge[keep, lane] + damping * scale[lane]), damping
        except SingularInformation as error:
            if not 0 < damping < 1e-2:
                raise SingularTarget(lane, is_start, f"unit {batch.targets[lane]}: {error}") from None
            damping *= 10
