"""Bonds and spins counted while the last color is swept: the integers of the pass of its own, on every code path."""

import itertools

import numpy as np
import pytest

from lft._kernels import ising_bits
from lft.actions import Ising
from lft.bits import IsingBits
from lft.geometry import Lattice
from lft.rng import Key
from lft.updaters import start

SHAPES = [(8, 64), (6, 7), (5, 8), (2, 300), (6, 513), (64, 1024), (4, 6, 10), (6, 4, 7), (4, 2, 4, 6)]


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def path(request):
    best = ising_bits.path()
    try:
        ising_bits.force(request.param)
    except ValueError:
        pytest.skip(f"this processor has no {request.param}")  # the baseline path always runs
    yield request.param
    ising_bits.force(best)


def both(shape, boundary, updater, change=None):
    """(sums while sweeping or None, sums of the pass of its own) after each of three pairs of sweeps."""
    action = Ising(K=tuple(0.2 + 0.1 * k for k in range(len(shape))), h=0.1)
    phi, key = action.new_field(Lattice(shape, boundary=boundary)), Key(3)
    start(phi, "hot", key)
    bits = IsingBits(action, phi, updater)
    bits.load()
    bits.measure()  # who measures is taken to do so again
    if change:
        change(bits)
    out = []
    for t in range(3):
        bits.sweep(2 * t, key.word, 2)
        while_sweeping, bits._sums = bits._sums, None
        out.append((while_sweeping, bits.measure()))
    return out


def agree(first, second):
    return np.array_equal(first[0], second[0]) and first[1] == second[1]


@pytest.mark.parametrize("updater", ["metropolis", "heatbath"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_while_sweeping_are_those_of_a_pass_of_their_own(path, shape, updater):
    n_fused = 0
    for boundary in itertools.product(("periodic", "open"), repeat=len(shape)):
        is_bipartite = all(b == "open" or n % 2 == 0 for b, n in zip(boundary, shape, strict=True))
        for while_sweeping, alone in both(shape, boundary, updater):
            assert (while_sweeping is not None) == is_bipartite, boundary
            assert not is_bipartite or agree(while_sweeping, alone), boundary
            n_fused += is_bipartite
    assert n_fused >= 3


def test_nobody_pays_who_does_not_measure():
    action = Ising(K=0.4)
    phi, key = action.new_field(Lattice((8, 64))), Key(3)
    start(phi, "hot", key)
    bits = IsingBits(action, phi, "metropolis")
    bits.load()
    bits.sweep(0, key.word)
    assert bits._sums is None
    bits.measure()
    bits.sweep(1, key.word)
    assert bits._sums is not None
    bits.sweep(2, key.word)  # nobody looked at the last ones
    assert bits._sums is None


def test_a_neighbor_that_is_not_counted_shows():
    def without_the_line_above(bits):
        bonds = ising_bits.Bonds([(0, -bits._words)], 1)
        bits._passes = [(*p[:2], [(*part[:4], bonds) for part in p[2]], *p[3:]) for p in bits._passes]

    assert not any(agree(*pair) for pair in both((8, 64), "periodic", "metropolis", without_the_line_above))
