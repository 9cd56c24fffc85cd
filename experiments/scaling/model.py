"""Time of one sweep on P ranks: arithmetic, bytes, messages, reductions.

    T = c + n V b f + m sum_k max over (near, far) of (2 alpha + bytes_k / beta) + r alpha_r log2 P

c       overhead of one sweep in Python (seconds), b one site update, V sites of the rank, n leapfrogs (1 for spins)
f       redundant work of a halo of w layers that is refreshed every w steps (of spins: every w colors)
m       exchanges per sweep, a fraction where spins are swept several times between two; along each cut axis k, one
        after the other, two messages of a face each
r       allreduces per sweep

Ranks that follow each other share a node; the last cut axis varies fastest.  A face that leaves the node shares the
node's link with all others that leave it.  Near constants are measured by run.py, far ones are an assumption.  The
process grid is the package's own, so limits such as "the last axis is never cut" are in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lft.domain import process_grid
from lft.errors import DomainError


@dataclass(frozen=True)
class Network:
    """Seconds per message, bytes per second, seconds per stage of an allreduce: inside a node and between nodes.

    ``beta`` is one rank's, ``beta_far`` that of a node's link, ``node`` the ranks of a node.
    """

    alpha: float
    beta: float
    alpha_reduce: float
    node: int
    alpha_far: float
    beta_far: float
    reduce_far: float

    def axis_seconds(self, face_bytes, stride, extent):
        """Both messages along one axis; neighbors are ``stride`` ranks apart, the axis has ``extent`` blocks."""
        near = 2 * self.alpha + 2 * face_bytes / self.beta
        leaving = 0.0 if stride * extent <= self.node else min(1.0, stride / self.node)
        if not leaving:
            return near
        return max(near, 2 * self.alpha_far + 2 * face_bytes * self.node * leaving / self.beta_far)

    def reduce_seconds(self, ranks):
        """An allreduce as a tree, the stages inside the node first."""
        inside = min(ranks, self.node)
        return math.log2(inside) * self.alpha_reduce + math.log2(ranks / inside) * self.reduce_far


@dataclass(frozen=True)
class Sweep:
    """What one sweep (or trajectory) of a kernel needs.

    Attributes
    ----------
    overhead, site : float
        Seconds per sweep and per site update; ``steps`` site updates (leapfrogs) per sweep.
    bytes_per_face : float
        Bytes that one site of a face sends per exchange and layer of the halo.
    exchanges : int
        Exchanges per sweep with a halo of one layer.
    width : int
        Layers of the halo: exchanges become rarer by this factor, messages longer by as much.
    reductions : int
        Allreduces per sweep.
    """

    overhead: float
    site: float
    bytes_per_face: float
    exchanges: int
    steps: int = 1
    width: int = 1
    reductions: int = 0

    def seconds(self, shape, ranks, network, grid=None):
        """Time of one sweep of a periodic lattice on this many ranks."""
        if grid is None:
            grid = process_grid(shape, (True,) * len(shape), (self.width,) * len(shape), ranks)
        block = [-(-n // p) for n, p in zip(shape, grid, strict=True)]
        volume = math.prod(block)
        cut = [k for k, p in enumerate(grid) if p > 1]
        # of w steps between two exchanges, step s updates w - s further layers on each side
        redundant = (self.width - 1) / 2 * sum(2 / block[k] for k in cut)
        work = self.overhead + self.steps * volume * self.site * (1 + redundant)
        layers = self.bytes_per_face * self.width
        rounds = self.exchanges / self.width  # a trajectory ends with an exchange, sweeps follow each other
        talk = (math.ceil(rounds) if self.steps > 1 else rounds) * sum(
            network.axis_seconds(volume // block[k] * layers, math.prod(grid[k + 1 :]), grid[k]) for k in cut)
        return work + talk + self.reductions * network.reduce_seconds(ranks)


def weak(sweep, block, ranks, network):
    """Efficiency T(1) / T(P) with one block per rank; the first axes grow, as nearly square as P allows."""
    grid = _square(ranks, len(block) - 1)
    shape = [n * p for n, p in zip(block, (*grid, 1), strict=True)]
    return sweep.seconds(block, 1, network) / sweep.seconds(shape, ranks, network, (*grid, 1))


def strong(sweep, shape, ranks, network):
    """Efficiency T(1) / (P T(P)) of one lattice, or None where the domain cannot be cut so often."""
    try:
        return sweep.seconds(shape, 1, network) / ranks / sweep.seconds(shape, ranks, network)
    except DomainError:
        return None


def _square(n, axes):
    if axes == 1:
        return (n,)
    side = next(p for p in range(math.isqrt(n), 0, -1) if n % p == 0)
    return (n // side, *_square(side, axes - 1))
