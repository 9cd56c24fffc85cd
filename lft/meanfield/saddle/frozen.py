"""Frozen variance of outputs, ``e = <ybar_1 ybar_2> - m^2``: measured, told from 0, and led to where it gives itself.

Measured.  Two neurons of a pair share their frozen offset ``xi`` and nothing else, so that e is without bias however
short the window.  What a time average owes to the slow part of its own input in the window, z, is known, has mean 0 and
is independent of xi and of the other neuron: it is taken out by regression on z, z xi and z xi^2 (control variates).
Variance of e that is left, tanh neurons in chaos (std 1.8 to 2.2, windows of 30 to 120 tau): 5 to 9 %.

Led.  Frozen variance of the outputs is frozen variance of the inputs, and the slope de_out/de_in is near 1 where frozen
and slow input do nearly the same to a neuron (tanh in chaos: 0.85 once the autocovariance has followed).  Iteration
then creeps, and noise hides it: averages of F(x) stop on the way, all replicas on one side (at a slope of 0.85 up to
40 % below, with an error of 9 %).  So the slope is measured, by tracks whose e is held apart while the rest
follows, with random numbers in common: a few sweeps tell it to 1 %, as the noise of the two is the same.  A Newton step
for the few e alone, along the states that follow them (recursive projection, Shroff and Keller, SIAM J. Numer. Anal.
30, 1099, 1993: standard), leads to the fixed point; while sweeps are averaged, what they give is moved by the
same step,

    F'(x) = F(x) + sum_a v_a ((1 - S)^-1 r - r)_a,    r = e_out - e_in,   S = de_out/de_in,   v_a = dx/de_a,

which has the fixed points of F and forgets where it began.  Noise of e is enlarged by (1 - S)^-1: that is the error
which such a fixed point has, and now replicas show it.
"""

from __future__ import annotations

import numpy as np

from lft.meanfield.saddle.averaging import mix

SIGNIFICANT = 3.0
MEMORY = 1.0 / 16.0
"""Weight of the last sweep in what is known of a frozen variance."""
ROOM = 10
"""Paths per coefficient for a regression on control variates."""
FOLDS = 8
"""Parts of the pairs for which the others tell the coefficients."""
APART = 0.3
"""Relative difference of the frozen variances of two tracks, which count for no less than ..."""
SMALL = 0.1
"""... this share of the variance of the output, so that what follows them stands out."""
TRACK_SWEEPS = 12
"""Sweeps in which the rest follows a held frozen variance; the second half of them is measured."""
TRACK_GAIN = 0.5
"""Share of the new in it: its own noise moves e_out, by more than the noise of e_out."""
DAMPED = 0.5
"""Most damping of a loop that follows within these sweeps."""
LEAST_PAIRS = 64
"""Pairs of a track, where a replica has as many: its regressions need some."""
STEPS = 3
"""Newton steps before the averaging, at most ..."""
NEAR = 0.25
"""... until one is smaller than this, relative to the frozen variance."""
ALONE = 1e-3
"""Frozen input without any frozen variance of outputs, relative to the dynamic input, up to which it may be noise."""
LARGEST = 20.0
"""Most that a step enlarges a residual: slopes of 0.95 and above, or those of a variance that grows."""
FURTHEST = 3.0
"""Most that a frozen variance grows in a step."""


class Excess:
    """A frozen variance and its noise over the last sweeps, by which it is told from 0.

    A single sweep cannot tell: where e is a few times its noise, to take it as 0 whenever it does not stand out would
    leave out small values and keep large ones, or cut the feedback without which there is none.
    """

    def __init__(self):
        self.mean, self.variance, self.n = 0.0, 0.0, 0

    def stands_out(self, excess, error):
        """Take in the value of a sweep and its standard error."""
        self.n += 1
        share = max(1.0 / self.n, MEMORY)
        self.mean += share * (excess - self.mean)
        self.variance = (1.0 - share) ** 2 * self.variance + (share * error) ** 2
        return self.mean > self.unseen

    @property
    def unseen(self):
        """Size below which a frozen variance does not stand out."""
        return SIGNIFICANT * float(np.sqrt(self.variance))


def controlled(averages, slow, offsets):
    """Time averages (2, n) of pairs of neurons without what the slow part of their own input explains.

    Parameters
    ----------
    averages : ndarray (2, n)
    slow : ndarray (2, n)
        Average of each neuron's dynamic input over the window, mean 0.
    offsets : ndarray (n,)
        Frozen input of each pair in standard deviations; zeros where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.saddle.frozen import controlled
    >>> rng = np.random.default_rng(1)
    >>> slow, offsets = rng.normal(size=(2, 500)), rng.normal(size=500)
    >>> y = controlled(0.3 * offsets + 2.0 * slow, slow, offsets)
    >>> bool(np.allclose(y, 0.3 * offsets))
    True
    """
    n, size = averages.shape[1], float(slow.std())
    powers = range(4) if offsets.any() else range(1)
    n_known = min(len(powers), 3)
    if size == 0 or averages.size < ROOM * (len(powers) + n_known):
        return averages
    z = slow / size
    design = np.stack([*(np.stack([offsets, offsets]) ** k for k in powers), *(z * offsets**k for k in range(n_known))])
    design, out = design.transpose(1, 2, 0), averages.copy()
    for fold in range(FOLDS):  # by coefficients that other pairs tell: with one's own, e had a bias of 0.1/n
        own = np.arange(n) % FOLDS == fold
        rows = design[:, ~own].reshape(-1, design.shape[2])
        shares = np.linalg.lstsq(rows, averages[:, ~own].ravel(), rcond=None)[0]
        out[:, own] -= design[:, own, len(powers) :] @ shares[len(powers) :]
    return out


class Feedback:
    """Slope of the frozen variances upon themselves, and how the rest of the state follows them.

    Attributes
    ----------
    gain : ndarray (k, k)
        ``(1 - S)^-1``, at most ``LARGEST``.
    along : list of list of ndarray
        For each of them the change of every array of the state per unit of its frozen variance.
    residual, error : ndarray (k,)
        e_out - e_in, while the rest has followed, and its standard error.
    state : list of ndarray
        Rest of the state at these frozen variances.
    """

    def __init__(self, state, populations, parts, damping, sweep):
        """``populations``: those with a frozen variance; ``parts``: arrays per population in a state, the second and
        third its frozen variance and autocovariance; ``damping``: of the loop; ``sweep(track, k)``: the outcome of
        sweep k and the squared noise of its arrays, with the random numbers that all tracks have."""
        self._at = [parts * a + 1 for a in populations]
        apart = [APART * max(float(state[at][0]), SMALL * float(state[at][0] + state[at + 1][0])) for at in self._at]
        tracks = [[part.copy() for part in state] for _ in range(len(populations) + 1)]
        for track, at, by in zip(tracks[1:], self._at, apart, strict=True):
            track[at] = track[at] + by
        held = [[float(track[at][0]) for at in self._at] for track in tracks]
        means, seen, noises = None, [], []
        for k in range(TRACK_SWEEPS):
            found, noise2 = zip(*(sweep(track, k) for track in tracks), strict=True)
            e = np.array([[float(new[at][0]) for at in self._at] for new in found])
            for track, new, values in zip(tracks, found, held, strict=True):
                mix(track, new, TRACK_GAIN * (1.0 - damping))
                for at, value in zip(self._at, values, strict=True):
                    track[at][:] = value
            if k >= TRACK_SWEEPS // 2:
                seen.append(e)
                noises.append([float(noise2[0][at][0]) for at in self._at])
                n = len(seen)
                means = (
                    found
                    if n == 1
                    else [
                        [m + (x - m) / n for m, x in zip(mean, new, strict=True)]
                        for mean, new in zip(means, found, strict=True)
                    ]
                )
        seen = np.array(seen)
        slopes = (seen[:, 1:] - seen[:, :1]).transpose(0, 2, 1) / np.array(apart)  # (sweeps, of, by)
        self.slope = shrunk(slopes.mean(axis=0), slopes.std(axis=0, ddof=1) / np.sqrt(len(slopes)))
        self.gain = gain(self.slope)
        self.residual = seen[:, 0].mean(axis=0) - held[0]
        self.error = np.sqrt(np.mean(noises, axis=0) / len(noises))
        self.along = [
            [(x - m) / by for x, m in zip(mean, means[0], strict=True)]
            for mean, by in zip(means[1:], apart, strict=True)
        ]
        self.state = means[0]
        for j, at in enumerate(self._at):
            self.state[at] = np.full(1, held[0][j])
            for i, along in enumerate(self.along):
                along[at] = np.full(1, float(i == j))

    def step(self):
        """(state after a Newton step, its largest size relative to the frozen variances)."""
        old = np.array([float(self.state[at][0]) for at in self._at])
        step = np.clip(self.gain @ shrunk(self.residual, self.error), -old, (FURTHEST - 1.0) * old)
        return self._moved(self.state, step), float(np.max(np.abs(step) / old))

    def is_zero(self):
        """Whether no frozen variance stands out of the noise of the fixed point."""
        fixed = np.array([float(self.state[at][0]) for at in self._at]) + self.gain @ self.residual
        return bool(np.all(fixed < SIGNIFICANT * np.sqrt(self.gain**2 @ self.error**2)))

    def lead(self, state, new):
        """``new``, the outcome of a sweep from ``state``, moved by what a Newton step adds; as it is where a frozen
        variance counts as 0."""
        if any(new[at][0] == 0 for at in self._at):
            return new
        residual = np.array([float(new[at][0] - state[at][0]) for at in self._at])
        return self._moved(new, self.gain @ residual - residual)

    def enlarge(self, noise2):
        """The squared noise of the frozen variances, among that of all arrays, by what :meth:`lead` does to it."""
        found = self.gain**2 @ [float(noise2[at][0]) for at in self._at]
        for at, value in zip(self._at, found, strict=True):
            noise2[at] = np.full(1, value)

    def _moved(self, state, by):
        out = [part.copy() for part in state]
        for along, size in zip(self.along, by, strict=True):
            for part, direction in zip(out, along, strict=True):
                part += size * direction
        return out


def shrunk(value, error):
    """A value of which no more counts than what is told from its noise (the positive part of Stein's rule)."""
    return value * np.maximum(0.0, 1.0 - (error / np.maximum(np.abs(value), 1e-300)) ** 2)


def gain(slope):
    """``(1 - S)^-1``; slopes are scaled down where the largest eigenvalue would be above ``LARGEST``, or a variance
    grows (S > 1).

    Examples
    --------
    >>> import numpy as np
    >>> from lft.meanfield.saddle.frozen import gain
    >>> [round(float(gain(np.array([[s]]))[0, 0]), 3) for s in (-1.0, 0.0, 0.8, 0.99, 1.5)]
    [0.5, 1.0, 5.0, 20.0, 20.0]
    """
    most, top = 1.0 - 1.0 / LARGEST, float(np.max(np.linalg.eigvals(slope).real))
    return np.linalg.inv(np.eye(len(slope)) - slope * (most / top if top > most else 1.0))
