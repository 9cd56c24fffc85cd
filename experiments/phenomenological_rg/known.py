"""Phenomenological RG of systems whose exponents are known: the first table of README.md.

    python experiments/phenomenological_rg/known.py
"""

import math

import numpy as np

from lft.actions import Ising
from lft.geometry import Lattice
from lft.protocols import State
from lft.rg.phenomenological.clusters import coarse_grain
from lft.rg.phenomenological.nulls import exponents
from lft.rng import Key
from lft.testing.hierarchical import hierarchical_gaussian
from lft.updaters import SwendsenWang, start


def main():
    rng = np.random.default_rng(1)
    p = rng.permutation(np.geomspace(0.005, 0.3, 128))
    show("independent, p = 0.05", rng.random((40000, 128)) < 0.05)
    show("independent, p = 0.005 to 0.3", rng.random((40000, 128)) < p)
    show("identical", np.repeat(rng.random((10000, 1)) < 0.2, 32, axis=1))
    show("Gaussian tree, alpha = 1.6, z = 0.5", hierarchical_gaussian(40000, 6, 1.6, 1, 0.5, 2.0))
    spins = ising(64, 2000)
    show("critical Ising 64^2, pairs by correlation", spins)
    scaling = show("critical Ising 64^2, geometric blocks", spins, pairs=square_pairs(64, 8))
    value = scaling.curves["variance"].value
    squares = [f"{math.log(value[k + 2] / value[k], 4):.3f}" for k in (0, 2, 4, 6)]
    print("local alpha of squares, 1 -> 2 -> 4 -> 8 -> 16:", *squares)


def show(name, values, **options):
    """One row: exponents on all levels with errors."""
    scaling = coarse_grain(np.asarray(values), **options)
    laws = exponents(scaling, has_scan=False)
    cells = [str(laws[n]) for n in ("alpha", "beta", "beta_typical", "mu", "z")]
    print(f"{name} | " + " | ".join(cells), flush=True)
    return scaling


def ising(size, n, seed=11):
    """0/1 samples of the critical Ising model, two Swendsen-Wang updates apart."""
    action, lattice = Ising(K=math.log(1 + math.sqrt(2)) / 2, h=0.0), Lattice((size, size))
    phi, key = action.new_field(lattice), Key(seed)
    start(phi, "hot", key)
    state, updater, out = State(phi, 0), SwendsenWang(), np.empty((n, size * size), np.int8)
    for i in range(-100, 2 * n):
        state, _ = updater.step(action, state, key)
        if i >= 0:
            out[i // 2] = phi.values.ravel() > 0
    return out


def square_pairs(size, levels):
    """Pairs that make 2 x 1, 2 x 2, 4 x 2, ... blocks."""
    out, shape = [], [size, size]
    for k in range(levels):
        place = np.arange(shape[0] * shape[1]).reshape(shape)
        first, second = (place[::2], place[1::2]) if k % 2 == 0 else (place[:, ::2], place[:, 1::2])
        out.append(np.column_stack([first.ravel(), second.ravel()]))
        shape[k % 2] //= 2
    return out


if __name__ == "__main__":
    main()
