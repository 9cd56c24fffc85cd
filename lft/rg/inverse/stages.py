"""From coarse to fine: where to begin, and how a solution at one factor starts the search at the next.

A lattice 8 times finer lies close to criticality, where a good guess is hard and a bad one costs long simulations far
from the answer.  At a factor of 2 guesses are good and simulations short, so the search climbs: every stage observes a
lattice about twice as fine as the last, and all of them are matched to the same recorded couplings.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from lft.rg.variables import displacement_of

CRITICAL = 1.3
"""2 sum_d K_d of guesses at most; critical are 1.33 (cubic lattice) and 1.76 (square lattice)."""

CLEAR = 0.1
"""Where a sign is to be tried, the coupling begins at least so large: at zero an even decimation has no derivative."""


def stages(observation):
    """Observations by factors that grow about twofold from stage to stage; the last one is ``observation``.

    An even factor stays even, so that what an even decimation hides (signs) stays hidden alike.

    Examples
    --------
    >>> from lft.geometry import Lattice
    >>> from lft.rg.inverse.ensemble import Observation
    >>> array = Lattice((10, 10, 500), ("x", "y", "t"), "open")
    >>> [seen.factor for seen in stages(Observation(array, (8, 8, 10)))]
    [(2, 2, 2), (4, 4, 4), (8, 8, 10)]
    >>> [seen.factor for seen in stages(Observation(array, (2, 2, 3)))]
    [(2, 2, 3)]
    """
    n = max(int(math.log2(max(observation.factor))), 1)
    out = []
    for j in range(1, n + 1):
        factor = tuple(_between(b, j / n) for b in observation.factor)
        if observation.k is not None:
            t = observation.recorded.time_axis
            k = min(max(round(observation.k * factor[t] / observation.factor[t]), 1), factor[t])
        else:
            k = None
        offset = tuple(o * f // b for o, f, b in zip(observation.offset, factor, observation.factor, strict=True))
        out.append(dataclasses.replace(observation, factor=factor, offset=offset, k=k))
    out[-1] = observation
    return [s for i, s in enumerate(out) if s is observation or s.factor not in {o.factor for o in out[i + 1 :]}]


def _between(b, share):
    f = b**share
    if b % 2:
        return max(round(f), 1)
    return max(2 * round(f / 2), 2)


# ---- guesses
def default_starts(target, model):
    """Guesses: the exact one-dimensional inverse along each axis, kept below a mean-field instability; one half of it;
    and, with the opposite signs, along every set of axes that are decimated by even factors (which hides signs).
    """
    observation = model.observation
    c = dict(zip(target.names, target.values, strict=True))
    units = observation.recorded.unit_displacements()
    coarse = np.array([c.get(_name(d), 0.0) for d in units])
    m = _mean_field(c.get("h", 0.0), 2 * sum(v for n, v in c.items() if displacement_of(n)))
    t = observation.recorded.time_axis
    m = _finer(m, 1 if t is None else observation.factor[t], observation)
    along = _along(coarse, 1 / np.array(observation.factor))
    along = _capped(along, m)

    def start(K):
        values = dict(zip(units, K, strict=True))
        sought = np.array([values.get(d, 0.0) for d in model.displacements])
        h = math.atanh(np.clip(m, -0.9999, 0.9999)) - 2 * sought.sum() * m
        return np.append(sought, np.clip(h, -4, 4))

    out, hidden = [start(along), start(along / 2)], hidden_signs(model)
    for n in range(1, len(hidden) + 1):
        for axes in map(list, itertools.combinations(hidden, n)):
            flipped = along.copy()
            flipped[axes] = -np.maximum(np.abs(flipped[axes]), CLEAR)
            out.append(start(flipped))
    return out


def hidden_signs(model):
    """Axes along which decimation by an even factor (nearly) hides the sign of the nearest-neighbor coupling."""
    observation = model.observation
    units, t = observation.recorded.unit_displacements(), observation.recorded.time_axis
    return [
        axis
        for axis, b in enumerate(observation.factor)
        if b % 2 == 0
        and (observation.space if axis != t else observation.rule) == "decimation"
        and units[axis] in model.displacements
    ]


def attractive_twins(ends, model):
    """Starts with all hidden signs positive, for ends that have negative ones: a search may have walked through zero.

    The field changes such that ``atanh(m) - 2 sum_d K_d m`` stays.
    """
    units = model.observation.recorded.unit_displacements()
    at = [model.displacements.index(units[axis]) for axis in hidden_signs(model)]
    out = []
    for end in ends:
        turned = [k for k in at if end.theta[k] < 0]
        if turned:
            theta = end.theta.copy()
            theta[turned] = np.maximum(-theta[turned], CLEAR)
            theta[-1] -= 2 * (theta - end.theta)[turned].sum() * end.magnetization
            out.append(theta)
    return out


def carried(theta, m, model, finer):
    """Where the search at the next stage begins, given couplings and magnetization at this one.

    Candidates, the caller takes what matches best: the couplings as they are (near a fixed point of decimation), and
    the exact one-dimensional relation along each axis, kept below the mean-field instability; fields change such that
    ``atanh(m) - 2 sum_d K_d m`` misses what it misses now.
    """
    units = model.observation.recorded.unit_displacements()
    ratio = np.array(finer.observation.factor) / np.array(model.observation.factor)
    t = model.observation.recorded.time_axis
    m_new = _finer(m, 1.0 if t is None else ratio[t], model.observation)
    K = theta[:-1]
    along = K.copy()
    for k, d in enumerate(model.displacements):
        if d in units:
            along[k] = _along(K[k], 1 / ratio[units.index(d)])
    along = np.where(np.abs(along) < np.abs(K), K, along)
    excess = theta[-1] - _field(m, K)

    def start(K):
        return np.append(K, np.clip(_field(m_new, K) + excess, -6, 6))

    return [start(K), start(_capped(along, m_new))]


def _field(m, K):
    return math.atanh(np.clip(m, -0.9999, 0.9999)) - 2 * K.sum() * m


def _finer(m, b, observation):
    """Magnetization of steps of which b make a bin with magnetization m, if they were independent."""
    if observation.recorded.time_axis is None or observation.rule == "decimation":
        return m
    p = (1 + m) / 2
    fine = 1 - (1 - p) ** (1 / b) if observation.rule == "or" else p if observation.rule == "majority" else p / b
    return 2 * min(max(fine, 1e-4), 1 - 1e-4) - 1


def _along(K, power):
    rho = np.tanh(K)
    return np.arctanh(np.sign(rho) * np.abs(rho) ** power)


def _capped(K, m):
    """Below the mean-field instability at magnetization m and, roughly, below criticality without a field."""
    total = 2 * np.abs(K).sum()
    gain = max(total * (1 - m * m), total / CRITICAL)
    return K / gain if len(K) > 1 and gain > 1 else K


def _name(displacement):
    return f"K[{','.join(map(str, displacement))}]"


def _mean_field(h, total):
    m = math.tanh(h)
    for _ in range(200):
        m = 0.5 * m + 0.5 * math.tanh(h + total * m)
    return m
