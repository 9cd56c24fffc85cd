"""Reweighting against exact results: enumerated lattices, Kaufman's finite 2-D Ising model, free energies."""

import functools
import math

import numpy as np
import pytest

from lft.analysis.measured import Measured, read_measured
from lft.analysis.reweight import Reweighting
from lft.archive import Archive
from lft.cli import main
from lft.testing import enumerate_states, kaufman_bonds, kaufman_log_z, normality_p_value, z_score

binder = lambda m: 1 - m[1] / (3 * m[0] ** 2)  # noqa: E731


class Torus:
    """All configurations of a small 2-D Ising torus: exact means, and independent samples."""

    def __init__(self, side):
        self.side, self.V = side, side * side
        s = np.asarray(enumerate_states(self.V), dtype=float).reshape(-1, side, side)
        self.o_k = -sum((s * np.roll(s, 1, axis)).sum(axis=(1, 2)) for axis in (1, 2))
        self.o_h = -s.sum(axis=(1, 2))
        self.m = -self.o_h / self.V

    @functools.cache  # noqa: B019
    def weights(self, K, h):
        """Boltzmann factors over the largest one, and its logarithm."""
        u = K * self.o_k + h * self.o_h
        return np.exp(-(u - u.min())), -u.min()

    def exact(self, K, h=0.0):
        """<m^2>, <m^4>, <bond sum>, ln Z."""
        w, shift = self.weights(K, h)
        mean = lambda a: float(w @ a / w.sum())  # noqa: E731
        return mean(self.m**2), mean(self.m**4), mean(-self.o_k), math.log(w.sum()) + shift

    def sampled(self, K, h, n, seed, repeat=1):
        """n measurements drawn from the exact distribution; with ``repeat`` each stays for that many."""
        w, _ = self.weights(K, h)
        cumulative = np.cumsum(w)
        picked = np.searchsorted(cumulative, np.random.default_rng(seed).random(n // repeat) * cumulative[-1])
        picked = np.repeat(picked, repeat)
        o_k, o_h, m = self.o_k[picked], self.o_h[picked], self.m[picked]
        observables = {"m2": m**2, "m4": m**4, "bonds": -o_k, "magnetization": m, "abs_magnetization": abs(m)}
        return Measured({"K": K, "h": h}, {"K": o_k, "h": o_h}, observables, self.V, self.side, label=f"K = {K}")


@functools.cache
def torus(side):
    return Torus(side)


def exact(K, h):
    return torus(4).exact(K, h)


def sampled(*arguments):
    return torus(4).sampled(*arguments)


V, SIDE = 16, 4


def test_single_histogram_in_two_couplings():
    r = Reweighting([sampled(0.30, 0.02, 60_000, 1)])
    for K, h in ((0.33, 0.02), (0.27, 0.0), (0.31, 0.04)):
        m2, m4, bonds, log_z = exact(K, h)
        for name, value, precision in (("m2", m2, 0.02), ("m4", m4, 0.04), ("bonds", bonds, 0.02)):
            e = r.mean(name, K=K, h=h)
            assert abs(z_score(e, value)) < 4.5 and e.error < precision * value, (name, K, h, str(e), value)
        u = r.mean(["m2", "m4"], function=binder, K=K, h=h)
        assert abs(z_score(u, 1 - m4 / (3 * m2**2))) < 4.5
        z = r.log_z(K=K, h=h)
        assert abs(z_score(z, log_z - exact(0.30, 0.02)[3])) < 4.5 and z.error < 0.02


@pytest.mark.parametrize("repeat", [1, 8])
def test_multiple_histogram_free_energies_and_means(repeat):
    Ks = (0.15, 0.25, 0.35, 0.5)
    r = Reweighting([sampled(K, 0.0, 8000 * repeat, 10 + k, repeat) for k, K in enumerate(Ks)])
    log_z = np.array([exact(K, 0.0)[3] for K in Ks])
    for k in range(1, 4):
        z = (r.free_energies[k] + log_z[k] - log_z[0]) / r.free_energy_errors[k]
        assert abs(z) < 4.5 and r.free_energy_errors[k] < 0.1
    for K in (0.2, 0.30, 0.42):
        m2, _, bonds, free = exact(K, 0.0)
        assert abs(z_score(r.mean("m2", K=K), m2)) < 4.5 and r.mean("m2", K=K).error < 0.02 * m2
        assert abs(z_score(r.mean("bonds", K=K), bonds)) < 4.5
        z = r.log_z(K=K)
        assert abs(z_score(z, free - log_z[0])) < 4.5 and z.error < 0.05
    if repeat > 1:  # every measurement counts an eighth
        assert r.inefficiency == pytest.approx(repeat, rel=0.2)


def scores(make, n):
    """z of <m2> and of the free energy over seeds."""
    out = []
    for s in range(n):
        r = Reweighting(make(s), n_blocks=20)
        m2, _, _, free = exact(0.3, 0.0)
        out += [z_score(r.mean("m2", K=0.3), m2), z_score(r.log_z(K=0.3), free - exact(0.2, 0.0)[3])]
    return np.array(out)


def ladder(s, repeat=8):
    return [sampled(K, 0.0, 400 * repeat, 1000 * k + s, repeat) for k, K in enumerate((0.2, 0.28, 0.36, 0.44))]


def test_errors_over_seeds_are_those_of_a_normal_distribution():
    z = scores(ladder, 40)
    assert normality_p_value(z) > 1e-3 and z.std() < 1.35


def test_the_check_sees_errors_that_ignore_the_autocorrelation():
    """Broken twin: shuffled measurements look independent, and the blocks' errors come out a third as large."""
    def shuffled(s):
        rng = np.random.default_rng(s)
        out = []
        for e in ladder(s):
            order = rng.permutation(e.n)
            out.append(Measured(e.couplings, {k: o[order] for k, o in e.operators.items()},
                                {k: o[order] for k, o in e.observables.items()}, V, SIDE))
        return out

    z = scores(shuffled, 40)
    assert normality_p_value(z) < 1e-3 and z.std() > 1.8


def test_the_check_sees_a_wrong_free_energy():
    """Broken twin: ensembles pooled without their free energies."""
    r = Reweighting([sampled(K, 0.0, 8000, 20 + k) for k, K in enumerate((0.15, 0.35))])
    r.log_base = r.log_base + 0.5 * (r.owner == 1)
    m2 = exact(0.25, 0.0)[0]
    assert abs(z_score(r.mean("m2", K=0.25), m2)) > 4.5


def test_derivatives_are_those_of_the_exact_sums():
    r = Reweighting([sampled(0.3, 0.0, 60_000, 2)])
    d = 1e-4
    high, low = exact(0.32 + d, 0.0), exact(0.32 - d, 0.0)
    slope = (binder(high) - binder(low)) / (2 * d)
    s = r.derivative(["m2", "m4"], "K", binder, K=0.32)
    assert abs(s.center - slope) < 4.5 * s.error and s.error < 0.05 * slope


CONFIG = """seed = {seed}
[lattice]
shape = [8, 8]
[action]
name = "ising"
K = {K}
[update]
name = "metropolis"
[run]
start = "hot"
thermalize = 200
updates = {updates}
measure_every = 10
{more}"""


def archive(tmp_path, K, seed, more="", updates=40_000):
    path = tmp_path / f"{seed}.h5"
    (tmp_path / "run.toml").write_text(CONFIG.format(K=K, seed=seed, more=more, updates=updates))
    assert main(["run", str(tmp_path / "run.toml"), "-o", str(path), "--quiet"]) == 0
    return path


def energy_and_heat(K):
    """Mean bond, and d(bond)/dK per site, of the 8 x 8 torus (Kaufman)."""
    d = 1e-4
    u = lambda x: sum(kaufman_bonds(8, 8, x, x)) / 2  # noqa: E731
    return u(K), (u(K + d) - u(K - d)) / (2 * d)


def test_kaufman_energy_and_specific_heat_between_and_beside_archives(tmp_path):
    paths = [archive(tmp_path, K, seed) for K, seed in ((0.38, 1), (0.43, 2))]
    single, both = [], []
    for path in paths:
        with Archive(path) as a:
            single += read_measured(a)
    both = Reweighting(single)
    one = Reweighting(single[:1])
    for r, couplings in ((one, (0.37, 0.40)), (both, (0.39, 0.405, 0.42, 0.44))):
        for K in couplings:
            bond, heat = energy_and_heat(K)
            e = r.mean(["bond_x", "bond_y"], function=lambda m: m.mean(), K=K)
            assert abs(z_score(e, bond)) < 4.5 and e.error < 0.02 * bond, (K, str(e), bond)
            c = r.derivative(["bond_x", "bond_y"], "K", lambda m: m.mean(), K=K)
            assert abs(c.center - heat) < 4.5 * c.error and c.error < 0.1 * heat, (K, c.center, c.error, heat)
    z = both.log_z(K=0.41)
    assert abs(z_score(z, kaufman_log_z(8, 8, 0.41, 0.41) - kaufman_log_z(8, 8, 0.38, 0.38))) < 4.5 and z.error < 0.1


@pytest.mark.parametrize("coupling", ["", "K"])
def test_tempered_archives_are_histograms_at_all_their_temperatures(tmp_path, coupling):
    more = '[tempering]\ninverse_temperatures = [0.8, 0.9, 1.0]\nswap_every = 5\n'
    more += f'coupling = "{coupling}"\n' if coupling else ""
    with Archive(archive(tmp_path, 0.42, 3, more, 16_000)) as a:
        r = Reweighting(read_measured(a))
    assert len(r.ensembles) == 3 and r.names == (["K", "h"] if coupling else ["b"])
    at = {"K": 0.95 * 0.42} if coupling else {"b": 0.95}
    e = r.mean(["bond_x", "bond_y"], at, function=lambda m: m.mean())
    bond, _ = energy_and_heat(0.95 * 0.42)
    assert abs(z_score(e, bond)) < 4.5 and e.error < 0.02 * bond


PYMBAR = {"free energies": (0.0, -0.74269266, -2.10696475, -5.64274438), "m2": (0.1751893, 0.35694393, 0.70857966)}
"""pymbar 4.0.3, of the ensembles below; <m^2> at K = 0.2, 0.3, 0.42."""


def of_pymbar():
    """Couplings and ensembles of the comparison."""
    Ks = (0.15, 0.25, 0.35, 0.5)
    return Ks, [sampled(K, 0.0, 8000, 10 + k) for k, K in enumerate(Ks)]


def test_free_energies_equal_the_stored_ones_of_pymbar():
    _, ensembles = of_pymbar()
    r = Reweighting(ensembles)
    r.inefficiency[:] = 1.0  # pymbar takes every sample for independent
    r._solve()
    assert r.free_energies == pytest.approx(PYMBAR["free energies"], abs=1e-7)
    assert [r.mean("m2", K=K).value for K in (0.2, 0.3, 0.42)] == pytest.approx(PYMBAR["m2"], abs=1e-7)


@pytest.mark.filterwarnings("ignore")
def test_free_energies_equal_those_of_pymbar_here():
    pymbar = pytest.importorskip("pymbar", reason="pymbar is not installed: compared with stored numbers alone")
    Ks, ensembles = of_pymbar()
    o, m2 = (np.concatenate(a) for a in zip(*((e.operators["K"], e.observables["m2"]) for e in ensembles), strict=True))
    found = pymbar.MBAR(np.array([K * o for K in Ks]), [e.n for e in ensembles])
    f = found.compute_free_energy_differences()
    assert f["Delta_f"][0] == pytest.approx(PYMBAR["free energies"], abs=1e-6)
    r = Reweighting(ensembles)
    assert r.free_energy_errors[1:] == pytest.approx(f["dDelta_f"][0][1:], rel=0.5)
    for K, value in zip((0.2, 0.3, 0.42), PYMBAR["m2"], strict=True):
        theirs = found.compute_multiple_expectations(m2[None], K * o)
        assert theirs["mu"][0] == pytest.approx(value, abs=1e-6)
        assert r.mean("m2", K=K).error == pytest.approx(theirs["sigma"][0], rel=0.5)
