"""Directed percolation by other means: every bond or site configuration, and slices in plain NumPy.

The enumeration knows nothing of probabilities given the slice before: it opens and closes each bond (site) in space and
follows activity from position to position, in half spacings.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np

from lft._kernels import percolation as kernel
from lft.percolation import LANES, parents
from lft.rng import Key, Stream
from lft.spreading import bits_of

MAX_ELEMENTS = 22


class Enumeration:
    """Exact means over all configurations of open bonds, or sites, that activity from one site can meet.

    Parameters
    ----------
    kind : {"bond", "site"}
    n_steps : int
    shape, boundary : tuple
        Of the space axes; the seed stands at site L // 2.

    Examples
    --------
    >>> from fractions import Fraction
    >>> exact = Enumeration("bond", 2, (9,), ("periodic",))
    >>> exact.active(1, Fraction(1, 2)), exact.survival(1, Fraction(1, 2)), exact.square(1, Fraction(1, 2))
    (Fraction(1, 1), Fraction(3, 4), Fraction(1, 1))
    """

    def __init__(self, kind, n_steps, shape, boundary):
        self.kind, self.shape, self.boundary = kind, shape, boundary
        seed = tuple(2 * (n // 2) for n in shape)
        slices, links = [[seed]], []
        for t in range(n_steps):
            pairs = [(x, y) for x in slices[-1] for y in self._children(x, t)]
            links.append(pairs)
            slices.append(sorted({y for _, y in pairs}))
        elements = [(t, *pair) if kind == "bond" else (t, pair[1]) for t, pairs in enumerate(links) for pair in pairs]
        elements = sorted(set(elements), key=elements.index) if kind == "site" else elements
        self.n_elements = len(elements)
        if self.n_elements > MAX_ELEMENTS:
            raise ValueError(f"{self.n_elements} bonds or sites: valid are at most {MAX_ELEMENTS}")
        number = np.arange(2**self.n_elements, dtype=np.int64)
        is_open = lambda k: (number >> k & 1).astype(bool)  # noqa: E731
        self.n_open = sum(is_open(k).astype(np.int64) for k in range(self.n_elements))
        wet, self._sums = {seed: np.ones(len(number), bool)}, [self._count({seed: np.ones(len(number), bool)}, seed)]
        index = {e: k for k, e in enumerate(elements)} if kind == "site" else None
        bond = 0
        for t, pairs in enumerate(links):
            after = {y: np.zeros(len(number), bool) for y in slices[t + 1]}
            for x, y in pairs:
                after[y] |= wet[x] & is_open(bond if index is None else index[t, y])
                bond += 1
            wet = after
            self._sums.append(self._count(wet, seed))

    def _children(self, x, t):
        """Positions x +- 1 along every axis, both signs; a torus has 2 L half spacings."""
        for signs in itertools.product((-1, 1), repeat=len(x)):
            y = [a + s for a, s in zip(x, signs, strict=True)]
            for k, (n, boundary) in enumerate(zip(self.shape, self.boundary, strict=True)):
                if boundary == "periodic":
                    y[k] %= 2 * n
            low = (t + 1) % 2
            if all(low <= a <= 2 * (n - 1) + low for a, n in zip(y, self.shape, strict=True)):
                yield tuple(y)

    def _count(self, wet, seed):
        """Sums over configurations with k open elements of N, [N > 0] and the squared distance."""
        N = sum(w.astype(np.int64) for w in wet.values())
        square = sum(w * self._square(y, seed) for y, w in wet.items())
        sums = [np.bincount(self.n_open, np.asarray(v, float), self.n_elements + 1) for v in (N, N > 0, square)]
        return [[int(v) for v in s] for s in sums]

    def _square(self, y, seed):
        total = 0
        for a, b, n, boundary in zip(y, seed, self.shape, self.boundary, strict=True):
            d = abs(a - b)
            total += min(d, 2 * n - d) ** 2 if boundary == "periodic" else d**2
        return total

    def _mean(self, which, t, p):
        p = Fraction(p)
        return sum(c * p**k * (1 - p) ** (self.n_elements - k) for k, c in enumerate(self._sums[t][which]))

    def active(self, t, p):
        """Mean number of active sites of slice t, a Fraction."""
        return self._mean(0, t, p)

    def survival(self, t, p):
        """Probability that slice t has an active site."""
        return self._mean(1, t, p)

    def square(self, t, p):
        """Mean of the summed squared distance from the seed, in half spacings."""
        return self._mean(2, t, p)


def step_of(t):
    """The other parent of site x stands at x + 1 (from even slices) or x - 1 (from odd ones)."""
    return 1 if t % 2 == 0 else -1


def numbers(sites, t, key):
    """uint64 (sites, 64): the number u of each site of slice t in each replica of a word."""
    u = np.zeros((sites, LANES), np.uint64)
    for draw in range(32):
        words = kernel.blocks(np.arange(sites, dtype=np.uint64), t, int(Stream.PERCOLATION), draw, key)
        for half in range(2):
            u |= bits_of(words[:, half]).astype(np.uint64) << np.uint64(63 - 2 * draw - half)
    return u


def slices(action, geometry, start, seed, word, lanes=2**64 - 1, step=step_of):
    """bool (T, sites, 64) of one word of replicas; ``step`` may be a broken rule."""
    *space, n_steps = geometry.shape
    limits = action.thresholds(len(space))
    certain = np.array([q >> 64 > 0 for q in limits])
    below = np.array([q & (2**64 - 1) for q in limits], np.uint64)
    now = np.zeros((*space, LANES), np.int64)
    wanted = bits_of(np.array(lanes, np.uint64))
    if start == "seed":
        now[tuple(n // 2 for n in space)] = wanted
    else:
        now[...] = wanted
    out, key = [now.reshape(-1, LANES) > 0], Key(seed, word).word
    for t in range(n_steps - 1):
        m = parents(now, 0 if step(t) > 0 else 1, geometry).reshape(-1, LANES)
        u = numbers(len(m), t + 1, key)
        now = ((m > 0) & (certain[m] | (u < below[m]))).astype(np.int64).reshape(*space, LANES)
        out.append(now.reshape(-1, LANES) > 0)
    return np.array(out)
