"""Bit-sliced Ising sweeps against exact results: Kaufman's torus, enumeration with fields and open ends.

The wrong kernels at the end must be rejected by the same test at the same length.
"""

import numpy as np
import pytest

import lft.bits
from lft.actions import Ising
from lft.bits import IsingBits
from lft.bits_line import IsingLine
from lft.geometry import Lattice
from lft.rng import Key
from lft.testing import assert_agrees, enumerate_lattice, kaufman_bonds, z_score
from lft.updaters import start

UPDATERS = ["metropolis", "heatbath"]


def series(lattice, action, updater, n, seed, begin="cold", thermalize=600):
    """Bonds per axis and spin sum after each sweep."""
    phi = action.new_field(lattice)
    key = Key(seed)
    start(phi, begin, key)
    bits = IsingBits(action, phi, updater)
    bits.load()
    for t in range(thermalize):
        bits.sweep(t, key.word)
    out = np.empty((n, len(lattice.shape) + 1))
    for i in range(n):
        bits.sweep(thermalize + i, key.word)
        bonds, total = bits.measure()
        out[i, :-1], out[i, -1] = bonds, total
    return out


def estimate(x, n_bins=64):
    """Mean and its error from bins much longer than the correlation time."""
    bins = x[: len(x) // n_bins * n_bins].reshape(n_bins, -1).mean(axis=1)
    return bins.mean(), bins.std(ddof=1) / np.sqrt(n_bins)


def torus(shape, K, updater, n, seed, begin="hot"):
    """Estimates and exact values of the bonds per site along both axes."""
    samples = series(Lattice(shape), Ising(K=K), updater, n, seed, begin) / np.prod(shape)
    exact = kaufman_bonds(*shape, *np.broadcast_to(K, 2))
    return [(estimate(samples[:, a]), exact[a]) for a in range(2)]


@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("K", [0.25, 0.36, 0.5, (0.2, 0.45), (-0.3, 0.25)], ids=str)
def test_bonds_on_the_torus_are_those_of_kaufman(K, updater):
    begin = "cold" if K == 0.5 else "hot"
    for value, exact in torus((512, 512), K, updater, 6000 if K == 0.25 else 4500, 11, begin):
        assert_agrees(value, exact, relative_error_max=2e-4)


@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("shape", [(7, 14), (14, 7), (5, 7)], ids=str)
def test_an_odd_torus_has_its_seam_right(shape, updater):
    for value, exact in torus(shape, 0.35, updater, 12000, 4):
        assert_agrees(value, exact, relative_error_max=1e-2)


def ring(length, updater):
    """Mean bond of a ring after each sweep, K = 1/2."""
    action, lattice, key = Ising(K=0.5), Lattice((length,)), Key(6)
    phi = action.new_field(lattice)
    start(phi, "hot", key)
    bits = IsingLine(action, phi, updater)
    bits.load()
    for t in range(100):
        bits.sweep(t, key.word)
    samples = np.empty(20000)
    for i in range(len(samples)):
        bits.sweep(100 + i, key.word)
        samples[i] = bits.measure()[0][0] / length
    return samples


def ring_bonds(length, K):
    """(v + v^(L-1)) / (1 + v^L), v = tanh K: transfer matrix."""
    v = np.tanh(K)
    return (v + v ** (length - 1)) / (1 + v**length)


@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("length", [1000, 8, 15])
def test_a_ring_has_the_bonds_of_its_transfer_matrix(length, updater):
    assert_agrees(estimate(ring(length, updater)), ring_bonds(length, 0.5), relative_error_max=8e-3)


def test_a_ring_whose_free_flips_are_always_accepted_is_rejected(monkeypatch):
    # such a chain keeps the number of domain walls that move up minus that of those that move down
    make = IsingBits._make_rule

    def always(self, members):
        self._halves_ties = False
        return make(self, members)

    monkeypatch.setattr(IsingBits, "_make_rule", always)
    assert abs(z_score(estimate(ring(8, "metropolis")), ring_bonds(8, 0.5))) > 20


@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize(
    ("shape", "boundary", "K", "h"),
    [
        ((3, 5), "oo", (0.4, 0.3), 0.2),
        ((4, 4), "pp", 0.3, -0.1),
        ((2, 3, 3), "opo", (0.2, -0.3, 0.4), 0.15),
        ((2, 2, 2, 2), "pppp", 0.1, 0.05),
        ((3, 6), "po", 0.35, 0.0),
        ((2, 3, 3), "ppp", (0.1, 0.2, 0.15), 0.1),
        ((3, 5), "op", (0.3, 0.4), -0.1),
    ],
    ids=["open", "field", "mixed-3d", "4d", "half-open", "odd-3d", "odd-line"],
)
def test_small_lattices_agree_with_enumeration(shape, boundary, K, h, updater):
    periodic = [b == "p" for b in boundary]
    lattice = Lattice(shape, boundary=["periodic" if p else "open" for p in periodic])
    units = lattice.unit_displacements()
    exact = enumerate_lattice(shape, dict(zip(units, np.broadcast_to(K, len(shape)), strict=True)), h, periodic)
    samples = series(lattice, Ising(K=K, h=h), updater, 13000, 21)
    for a, d in enumerate(units):
        assert_agrees(estimate(samples[:, a]), exact.bonds[d] * exact.n_bonds[d], relative_error_max=0.03)
    n = np.prod(shape)
    if h:
        assert_agrees(estimate(samples[:, -1] / n), exact.m, relative_error_max=0.05)
    assert_agrees(estimate((samples[:, -1] / n) ** 2), exact.m2, relative_error_max=0.03)


def test_both_updates_agree_in_three_dimensions():
    # 24^3 in the disordered phase: no exact value is known, the two chains share no threshold
    values = [
        estimate(series(Lattice((24, 24, 24)), Ising(K=0.19), u, 12000, 31)[:, :3].sum(axis=1)) for u in UPDATERS
    ]
    difference = values[0][0] - values[1][0], np.hypot(values[0][1], values[1][1])
    assert abs(z_score(difference, 0.0)) < 4.5 and difference[1] < 1e-3 * values[0][0]


# --- one uniform per site


def sweep_by_arrays(spins, K, rng, share):
    """Heat-bath sweep of closed lines without couplings between them, in numpy; ``share`` maps the uniforms."""
    for color in (0, 1):
        field = K * (np.roll(spins, 1, axis=1) + np.roll(spins, -1, axis=1))[:, color::2]
        u = share(rng.integers(0, 2**64, field.shape, np.uint64))
        spins[:, color::2] = np.where(u / 2.0**64 < 1 / (1 + np.exp(-2 * field)), 1, -1)


def share_word(u):
    """One uniform for the spins of a word of one row and color."""
    return np.repeat(u[:, ::64], 64, axis=1)[:, : u.shape[1]]


def share_rounds(u):
    """One random bit for all rounds of a site."""
    return np.where(u >> np.uint64(63), np.uint64(2**64 - 1), np.uint64(0))


def worst_correlation(sampler):
    """Largest abs z of <s_0 s_r> along closed lines against v^r, v = tanh K, and between lines against 0."""
    K, shape, n = 0.4, (24, 256), 900
    if sampler == "kernel":
        action, key = Ising(K=(0.0, K)), Key(8)
        phi = action.new_field(Lattice(shape))
        start(phi, "hot", key)
        bits = IsingBits(action, phi, "heatbath")
        bits.load()
    else:
        rng = np.random.default_rng(8)
        spins = rng.choice(np.array([-1, 1]), shape)
    steps = [(0, 1), (0, 2), (0, 3), (0, 8), (0, 32), (1, 0), (2, 0), (1, 2)]
    samples = np.empty((n, len(steps)))
    for t in range(-30, n):
        if sampler == "kernel":
            bits.sweep(t + 30, key.word)
            if t >= 0:
                bits.store()
                spins = phi.values.astype(int)
        else:
            sweep_by_arrays(spins, K, rng, sampler)
        if t >= 0:
            samples[t] = [(spins * np.roll(spins, (-a, -b), (0, 1))).mean() for a, b in steps]
    exact = [0.0 if a else np.tanh(K) ** b for a, b in steps]
    return max(abs(z_score(estimate(samples[:, k], 30), e)) for k, e in enumerate(exact))


def test_sites_do_not_share_their_uniforms():
    assert worst_correlation("kernel") < 4.5
    assert worst_correlation(lambda u: u) < 4.5
    assert worst_correlation(share_word) > 20
    assert worst_correlation(share_rounds) > 20


@pytest.mark.parametrize(
    "broken",
    [lambda T: T * 98 // 100, lambda T: T >> 61 << 61, lambda T: (T >> 58) + 1 << 58],
    ids=["2-percent-low", "three-bits", "six-bits-rounded-up"],
)
def test_wrong_thresholds_are_rejected(broken, monkeypatch):
    right = lft.bits.metropolis_threshold
    monkeypatch.setattr(lft.bits, "metropolis_threshold", lambda f: min(broken(right(f)), 2**64))
    worst = max(abs(z_score(v, e)) for v, e in torus((128, 256), 0.36, "metropolis", 3000, 11))
    assert worst > 6
