"""Time of one sweep on P ranks: arithmetic, bytes, messages, reductions.

    T = c + V b f(w) + m (A alpha + B / beta) + r alpha_r log2 P

c     overhead of one sweep in Python (seconds), b one site update, V sites of the rank
f(w)  redundant work of a halo of width w that is refreshed every w steps
m     exchanges per sweep, each of A messages one after the other (one pair per cut axis) and B bytes in all
r     allreduces per sweep

Constants are measured by run.py; the network of many nodes is an assumption (class Network).  The process grid is the
package's own, so limits such as "the last axis is never cut" are in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lft.domain import process_grid
from lft.errors import DomainError


@dataclass(frozen=True)
class Network:
    """Seconds per message, bytes per second and rank, seconds per stage of an allreduce."""

    alpha: float
    beta: float
    alpha_reduce: float


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
        faces = sum(2 * volume // block[k] for k in cut)
        # of w steps between two exchanges, step s updates w - s further layers on each side
        redundant = (self.width - 1) / 2 * sum(2 / block[k] for k in cut)
        work = self.overhead + self.steps * volume * self.site * (1 + redundant)
        exchanges = math.ceil(self.exchanges / self.width)
        sent = faces * self.bytes_per_face * self.width
        talk = exchanges * (2 * len(cut) * network.alpha + sent / network.beta) if cut else 0.0
        stages = math.log2(ranks) if ranks > 1 else 0.0
        return work + talk + self.reductions * network.alpha_reduce * stages


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
