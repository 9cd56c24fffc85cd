"""Correlators of systems whose correlators are known: free field, Ising ring, enumerated lattices, waves, independent
units."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import kstest

from lft.analysis.correlator import Correlator, anisotropy, two_point, zero_momentum
from lft.analysis.ergodicity import NULLS, ergodicity, stationarity, wasserstein
from lft.analysis.kernel import overlaps
from lft.analysis.mass import effective_mass, fit_mass, scan_mass
from lft.analysis.npoint import joint_cumulant, n_point, n_point_momentum, subsets
from lft.analysis.propagation import velocity
from lft.analysis.source import Source
from lft.analysis.spectrum import SpaceTime, dynamic_structure, space_time, structure_factor
from lft.errors import InputError
from lft.geometry import Graph, Lattice
from lft.testing import assert_agrees, enumerate_states, free_field, z_score

Z_MAX = 4.5


def scores(value, error, exact):
    return (np.asarray(value) - exact) / np.asarray(error)


def assert_all_agree(value, error, exact, relative_error_max):
    z = scores(value, error, exact)
    assert np.all(np.abs(z) < Z_MAX), f"largest |z| = {np.abs(z).max():.2f}"
    assert np.sqrt((z**2).mean()) < 1.35
    assert np.max(error) <= relative_error_max * np.max(np.abs(exact))
    return z


# ---- free field on a periodic space-time lattice
SHAPE, KAPPA = (6, 4, 16), (0.1, 0.08, 0.22)
FREE = free_field(SHAPE, KAPPA).propagator_p


def free_source(n, seed=0, geometry=None):
    """Independent configurations with the exact covariance, by FFT."""
    root = np.sqrt(FREE)

    def reader(k, start, stop):
        noise = np.random.default_rng([seed, k]).standard_normal(SHAPE)
        phi = np.fft.ifftn(np.fft.fftn(noise) * root).real
        return phi[np.newaxis] if geometry else np.moveaxis(phi, 2, 0)[start:stop]

    return Source(geometry or Lattice(SHAPE, ("x", "y", "t")), "real", n, reader)


def test_propagator_of_the_free_field_in_every_representation():
    source = free_source(1200)
    lags = np.arange(9)
    exact_kt = np.fft.ifft(FREE, axis=2)[:, :, lags].real.transpose(2, 0, 1)  # S(k, t)
    S = structure_factor(source, lags=lags, n_blocks=40, per_site=False)
    assert_all_agree(S.value.real, S.error.real, exact_kt, 0.02)
    D = dynamic_structure(source, segment=16, taper="none", n_blocks=40, per_site=False)
    assert_all_agree(D.value, D.error, FREE.transpose(2, 0, 1), 0.1)
    C = space_time(source, max_lag=8, n_blocks=40, per_site=False)
    exact_rt = np.fft.ifftn(FREE).real
    at = np.ix_(C.r[0], C.r[1], lags)
    assert_all_agree(C.value, C.error, exact_rt[at].transpose(2, 0, 1), 0.01)
    # mutant: a wrong coupling is rejected
    wrong = free_field(SHAPE, (0.1, 0.08, 0.2)).propagator_p
    assert np.abs(scores(D.value, D.error, wrong.transpose(2, 0, 1))).max() > Z_MAX


def test_structure_factor_of_configurations_without_time():
    S = structure_factor(free_source(1200, 1, Lattice(SHAPE)), n_blocks=40)
    assert_all_agree(S.value, S.error, FREE, 0.1)


def test_mass_of_the_free_field():
    """Pole of the propagator at zero momentum: cosh m = (1 - 2 kappa_x - 2 kappa_y) / (2 kappa_t)."""
    m = math.acosh((1 - 2 * KAPPA[0] - 2 * KAPPA[1]) / (2 * KAPPA[2]))
    z = zero_momentum(free_source(1200, 2), "t", max_lag=8, n_blocks=80)
    _, value, error = effective_mass(z)
    assert_agrees((value[1], error[1]), m, relative_error_max=0.08)
    fit = fit_mass(z, 0, 7)
    assert_agrees((fit.mass, fit.error), m, relative_error_max=0.04)
    assert fit.p > 1e-4 and fit.covariance == "full" and fit.period == 16
    scan = scan_mass(z)
    assert_agrees((scan.mass, scan.error), m, relative_error_max=0.05)


def test_gaussian_fields_have_no_higher_cumulants():
    sets = [[(1, 0, 0), (0, 0, 1)], [(0, 0, 1), (1, 0, 0), (1, 0, 1)]]
    for point in n_point(free_source(400, 3), sets, n_blocks=20, per_site=False):
        assert abs(z_score(point, 0)) < Z_MAX and point.error < 0.01
    (four,) = n_point_momentum(free_source(400, 4), [([(1, 0), (-1, 0), (0, 1), (0, -1)], (0, 0, 1, 1))])
    assert abs(four.value.real) < Z_MAX * four.error.real


# ---- Ising ring in a field, by its transfer matrix
def ring_moment(L, K, h, places):
    """<s_p1 s_p2 ...> of a ring of L spins."""
    s = np.array([1.0, -1.0])
    T = np.exp(K * np.outer(s, s) + h * (s[:, None] + s) / 2)
    product, position = np.eye(2), 0
    for p in sorted(places):
        product = product @ np.linalg.matrix_power(T, p - position) @ np.diag(s)
        position = p
    product = product @ np.linalg.matrix_power(T, L - position)
    return np.trace(product) / np.trace(np.linalg.matrix_power(T, L))


def ring_cumulant(L, K, h, places):
    n = len(places)
    return joint_cumulant(np.array([ring_moment(L, K, h, [places[i] for i in s]) for s in subsets(n)]), n)


def ring_source(n, L, K, h, seed=0, batch=200):
    """Independent exact samples: each spin from its conditional probability, the ring closed at spin 0."""
    s = np.array([1.0, -1.0])
    T = np.exp(K * np.outer(s, s) + h * (s[:, None] + s) / 2)
    powers = [np.linalg.matrix_power(T, k) for k in range(L + 1)]

    def draw(b):
        rng = np.random.default_rng([seed, b])
        out = np.empty((batch, L), np.int8)
        first = (rng.random(batch) > powers[L][0, 0] / np.trace(powers[L])).astype(int)
        now = first
        out[:, 0] = now
        for x in range(1, L):
            weight = T[now] * powers[L - x][:, first].T
            now = (rng.random(batch) > weight[:, 0] / weight.sum(axis=1)).astype(int)
            out[:, x] = now
        return 1 - 2 * out

    kept = {}

    def reader(k, start, stop):
        if k // batch not in kept:
            kept.clear()
            kept[k // batch] = draw(k // batch)
        return kept[k // batch][k % batch : k % batch + 1]

    return Source(Lattice((L,)), "spin", n, reader)


def test_n_point_functions_of_the_ising_ring_in_a_field():
    L, K, h = 12, 0.4, 0.15
    sets = [[(1,)], [(3,)], [(1,), (2,)], [(2,), (5,)], [(1,), (2,), (3,)], [(1,), (4,), (6,)], [(0,), (1,)]]
    found = n_point(ring_source(20000, L, K, h), sets, n_blocks=40)
    for displacements, point in zip(sets, found, strict=True):
        places = [0, *(d[0] for d in displacements)]
        exact = ring_cumulant(L, K, h, places)
        assert_agrees(point, exact)
        assert point.error < 0.015 and point.raw == pytest.approx(ring_moment(L, K, h, places), abs=0.02)
    assert abs(z_score(found[2], 0)) > 10 and abs(z_score(found[6], 0)) > 10  # they are not zero
    # mutant: the moment in place of the cumulant
    assert abs(z_score((found[2].raw, found[2].error), ring_cumulant(L, K, h, [0, 1, 2]))) > Z_MAX


def test_bispectrum_of_the_ising_ring_in_a_field():
    L, K, h = 12, 0.4, 0.15
    c3 = np.array([[ring_cumulant(L, K, h, [0, a, b]) for b in range(L)] for a in range(L)])
    exact = np.fft.fft2(c3)  # (1/V) <phi_k1 phi_k2 phi_-(k1+k2)> = sum over a, b of exp(-i(k1 a + k2 b)) C_3(a, b)
    (b,) = n_point_momentum(ring_source(20000, L, K, h), [([(1,), (2,), (-3,)], None)], n_blocks=40)
    assert_agrees((b.value.real, b.error.real), exact[1, 2].real, relative_error_max=0.1)
    assert abs(b.value.imag) < Z_MAX * b.error.imag


def test_mass_of_the_ising_ring():
    """-ln tanh K."""
    K, L = 0.9, 40
    m = -math.log(math.tanh(K))
    z = zero_momentum(ring_source(6000, L, K, 0.0, seed=5), "x", max_lag=15, n_blocks=100)
    _, value, error = effective_mass(z)
    assert_agrees((value[0], error[0]), m, relative_error_max=0.05)
    fits = [fit_mass(z, 0, 12, covariance=c) for c in ("full", "svd", "shrinkage", "diagonal")]
    for fit in fits:
        assert_agrees((fit.mass, fit.error), m, relative_error_max=0.06)
    assert len({f.covariance for f in fits}) == 4 and fits[2].shrinkage > 0
    assert fit_mass(z, 0, 12).p > 1e-4
    # mutant: the open form on a closed ring bends at the far end
    whole = zero_momentum(ring_source(6000, 14, K, 0.0, seed=6), "x", max_lag=7, n_blocks=100)
    opened = Correlator("x", whole.r, whole.value, whole.error, rows=whole.rows, weights=whole.weights)
    assert fit_mass(opened, 0, 6).p < 1e-4 < fit_mass(whole, 0, 6).p


def test_two_states_are_found_and_one_is_refused():
    rng, r = np.random.default_rng(8), np.arange(14)
    rows = np.exp(-0.15 * r) + 0.8 * np.exp(-0.9 * r) + 0.01 * rng.standard_normal((300, 14))
    z = Correlator("t", r, rows.mean(axis=0), rows.std(axis=0, ddof=1) / math.sqrt(300), rows=rows,
                   weights=np.ones(300))
    two = fit_mass(z, 0, 13, n_states=2)
    assert_agrees((two.mass, two.error), 0.15, relative_error_max=0.05)
    assert two.p > 1e-4 > fit_mass(z, 0, 13).p
    assert scan_mass(z, first=[0], last=13, n_states=(1, 2)).best.masses == two.masses
    with pytest.raises(InputError, match="best p"):
        scan_mass(z, first=[0], last=13)
    for arguments, words in (((0, 1), "at least 3"), ((5, 20), "0 <= first"), ((0, 9, 3), "1, 2"),
                             ((0, 9, 1, "none"), "auto, full")):
        with pytest.raises(InputError, match=words):
            fit_mass(z, *arguments)
    few = Correlator("t", r, z.value, z.error, rows=rows[:10], weights=np.ones(10))
    with pytest.raises(InputError, match="singular"):
        fit_mass(few, 0, 13, covariance="full")
    constant = Correlator("t", r, np.ones(14), np.zeros(14), rows=np.ones((9, 14)), weights=np.ones(9))
    with pytest.raises(InputError, match="constant"):
        fit_mass(constant, 0, 5)


@pytest.mark.validate
def test_errors_and_p_values_of_fits_are_calibrated():
    """Over 300 seeds with a correlated covariance: z standard normal, p uniform, for every treatment of it."""
    r = np.arange(10)
    root = np.linalg.cholesky(0.9 ** np.abs(r[:, None] - r))
    z, p = {c: [] for c in ("full", "svd", "shrinkage")}, {c: [] for c in ("full", "svd", "shrinkage")}
    for seed in range(300):
        rows = np.exp(-0.3 * r) + 0.1 * np.random.default_rng(seed).standard_normal((80, 10)) @ root.T
        c = Correlator("t", r, rows.mean(axis=0), rows.std(axis=0, ddof=1) / math.sqrt(80), rows=rows,
                       weights=np.ones(80))
        for kind in z:
            fit = fit_mass(c, 0, 9, covariance=kind)
            z[kind].append((fit.mass - 0.3) / fit.error)
            p[kind].append(fit.p)
    for kind in z:
        assert abs(np.mean(z[kind])) < 0.25 and 0.85 < np.std(z[kind]) < 1.2, kind
        assert kstest(p[kind], "uniform").pvalue > 1e-3, kind


# ---- masks and open edges, by enumeration
def test_n_point_functions_with_a_mask_and_open_edges():
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    lattice = Lattice((3, 3), ("x", "y"), ("open", "periodic"), mask=mask)
    sites = np.argwhere(mask)
    states = enumerate_states(8)
    pairs = [(i, j) for i, j in itertools.product(range(8), repeat=2)
             if tuple(sites[j]) in {(sites[i][0] + 1, sites[i][1]), (sites[i][0], (sites[i][1] + 1) % 3)}]
    S = -0.3 * sum(states[:, i] * states[:, j] for i, j in pairs) - states @ np.linspace(-0.4, 0.4, 8)
    weight = np.exp(-S) / np.exp(-S).sum()
    drawn = states[np.random.default_rng(0).choice(len(states), 20000, p=weight)]

    def reader(k, a, b):
        out = np.zeros((1, 3, 3), np.int8)
        out[0][mask] = drawn[k]
        return out

    source = Source(lattice, "spin", 20000, reader)
    number = {tuple(x): i for i, x in enumerate(sites)}
    sets = [[(1, 0)], [(0, 1), (1, 0)], [(1, 0), (0, 1), (1, 1)]]
    for per_site in (True, False):
        for displacements, point in zip(sets, n_point(source, sets, 40, per_site), strict=True):
            columns = []
            for x in sites:
                partners = [(x[0] + d[0], (x[1] + d[1]) % 3) for d in [(0, 0), *displacements]]
                if all(p in number for p in partners):
                    columns.append([number[p] for p in partners])
            n = len(displacements) + 1
            moments = np.array([[weight @ states[:, [c[i] for i in s]].prod(axis=1) for c in columns]
                                for s in subsets(n)])
            exact = joint_cumulant(moments if per_site else moments.mean(axis=1), n)
            assert_agrees(point, np.mean(exact))
            assert point.error < 0.012 and point.n_sites == len(columns)


# ---- two-dimensional Ising model with two couplings
def ising_rows(n, L, T, K_x, K_t, seed, sweeps=30):
    """Heat bath on many lattices at once, two colors."""
    rng = np.random.default_rng(seed)
    s = rng.choice([-1, 1], (n, L, T))
    even = (np.add.outer(np.arange(L), np.arange(T)) % 2) == 0
    for _ in range(sweeps):
        for color in (even, ~even):
            g = K_x * (np.roll(s, 1, 1) + np.roll(s, -1, 1)) + K_t * (np.roll(s, 1, 2) + np.roll(s, -1, 2))
            s = np.where(color, np.where(rng.random(s.shape) < 1 / (1 + np.exp(-2 * g)), 1, -1), s)
    return s


def test_masses_of_the_anisotropic_ising_model():
    """Above the transition 1/xi_x = ln coth K_x - 2 K_y along an axis (Onsager)."""
    K_x, K_y = 0.22, 0.4
    m = {"x": math.log(1 / math.tanh(K_x)) - 2 * K_y, "y": math.log(1 / math.tanh(K_y)) - 2 * K_x}
    s = ising_rows(1500, 16, 24, K_x, K_y, 1)
    source = Source(Lattice((16, 24), ("x", "y")), "spin", len(s), lambda k, a, b: s[k : k + 1])
    found = {axis: zero_momentum(source, axis, max_lag=12, n_blocks=100) for axis in "xy"}
    scans = {axis: scan_mass(z, last={"x": 5, "y": 9}[axis]) for axis, z in found.items()}
    for axis, scan in scans.items():
        assert_agrees((scan.mass, scan.error), m[axis], relative_error_max=0.2)
        assert scan.best.p > 1e-3
    value, error = anisotropy(found["x"], found["y"], lambda c, of: 1 / effective_mass_at(c, of))
    assert_agrees((value, error), m["y"] / m["x"], relative_error_max=0.1)
    assert abs(z_score((value, error), 1.0)) > Z_MAX  # mutant: isotropy


def effective_mass_at(c, of):
    """Mass from distances 1 and 3 of a periodic correlator."""
    half = of.period / 2
    low, high = 1e-3, 4.0
    for _ in range(60):
        m = (low + high) / 2
        if math.cosh(m * (half - 1)) / math.cosh(m * (half - 3)) > c[1] / c[3]:
            high = m
        else:
            low = m
    return m


# ---- travelling waves
def wave_source(speed, boundary, n=8, T=400, L=32, noise=1.0):
    """Bumps that run along x from random places, with noise; an open axis shows a part of a longer ring."""
    ring = L if boundary == "periodic" else 3 * L

    def reader(k, a, b):
        rng = np.random.default_rng(k)
        out = noise * rng.standard_normal((T, L, 3))
        for start in rng.uniform(0, ring, 3):
            d = (np.arange(L) - speed * np.arange(T)[:, None] - start + ring / 2) % ring - ring / 2
            out += np.exp(-(d**2) / 8)[:, :, None]
        return out[a:b]

    return Source(Lattice((L, 3, T), ("x", "y", "t"), (boundary, boundary, "open"), ("42 um", "42 um", "10 ms")),
                  "real", n, reader)


@pytest.mark.parametrize("boundary", ["periodic", "open"])
@pytest.mark.parametrize("speed", [0.5, -0.25, 1.5])
def test_velocity_of_a_travelling_wave(boundary, speed):
    C = space_time(wave_source(speed, boundary), max_lag=40, reach=12, n_blocks=16)
    v = velocity(C)
    assert_agrees((v.speed, v.speed_error + 1e-3), abs(speed), relative_error_max=0.03)
    assert v.direction == pytest.approx((math.copysign(1, speed), 0), abs=0.05)
    value, _, unit = v.physical
    assert value == pytest.approx(v.speed * 42e-3 / 0.01) and unit == "mm/s"
    assert abs(z_score((v.speed, v.speed_error + 1e-3), 1.1 * abs(speed))) > Z_MAX  # mutant


def test_no_velocity_without_a_wave():
    noise = Source(Lattice((16, 300), ("x", "t"), "open"), "real", 8,
                   lambda k, a, b: np.random.default_rng(k).standard_normal((300, 16))[a:b])
    with pytest.raises(InputError, match="stand"):
        velocity(space_time(noise, max_lag=10))
    static = Source(Lattice((16, 300), ("x", "t"), "open"), "real", 8, lambda k, a, b: standing(k)[a:b])
    v = velocity(space_time(static, max_lag=20))
    assert math.isnan(v.speed) and v.at_least > 10  # everything is up together: no peak moves


def standing(k):
    rng = np.random.default_rng(k)
    common = np.convolve(rng.standard_normal(300), np.exp(-np.arange(-9, 10) ** 2 / 18.0), "same")
    return common[:, None] * np.exp(-np.arange(16) / 20) + 0.3 * rng.standard_normal((300, 16))


def pulses(k, a, b, speed=0.5, width=8.0, T=240, L=20):
    """Three plane pulses in random directions."""
    rng = np.random.default_rng(k)
    x, y = np.meshgrid(np.arange(L) - L / 2, np.arange(L) - L / 2, indexing="ij")
    t = np.arange(T)[:, None, None]
    out = 0.3 * rng.standard_normal((T, L, L))
    for angle, start in zip(rng.uniform(0, 2 * np.pi, 3), rng.uniform(60, 180, 3), strict=True):
        out += np.exp(-((t - start - (x * np.cos(angle) + y * np.sin(angle)) / speed) ** 2) / (2 * width**2))
    return out[a:b]


def test_velocity_of_waves_in_all_directions():
    """The width is exact while it has grown little, and low by at most 30 % beyond."""
    lattice = Lattice((20, 20, 240), ("x", "y", "t"), "open")
    C = space_time(Source(lattice, "real", 32, pulses), max_lag=60, n_blocks=8)
    near = velocity(C, "spread", reach=5)
    assert near.speed == pytest.approx(0.5, abs=0.05) and near.speed_error < 0.04
    far = velocity(C, "spread")
    assert 0.35 < far.speed < 0.5


def test_fronts_in_both_directions_of_a_line():
    """In one dimension the peak of the average is exactly at d/v."""
    there, back = (wave_source(v, "periodic", n=12, noise=0.5) for v in (0.4, -0.4))
    both = Source(there.geometry, "real", 24, lambda k, a, b: (there, back)[k % 2].read(k // 2, a, b))
    C = space_time(both, max_lag=40, reach=12, n_blocks=12)
    flat = SpaceTime(("x",), C.r[:1], C.lags, C.value[:, :, 1], C.error[:, :, 1], C.rows[:, :, :, 1], C.weights,
                     C.n_pairs[:, 1], (C.steps[0], C.steps[-1]))
    v = velocity(flat, "radial")
    assert_agrees((v.speed, v.speed_error + 2e-3), 0.4, relative_error_max=0.05)
    assert 0.28 < velocity(flat, "spread").speed < 0.42
    with pytest.raises(InputError, match="directed, radial, spread"):
        velocity(flat, "sideways")


# ---- overlaps
def test_overlaps_of_independent_units_are_normal_with_the_known_variance():
    N, n = 400, 600
    m = np.linspace(-0.8, 0.8, N)
    source = Source(Lattice((N,)), "spin", n,
                    lambda k, a, b: np.where(np.random.default_rng(k).random((1, N)) < (1 + m) / 2, 1, -1))
    P = overlaps(source, n_replicas=n, n_null=40)
    assert_agrees(P.mean, (m**2).mean(), relative_error_max=0.02)
    assert_agrees(P.variance, (1 - m**4).sum() / N**2, relative_error_max=0.05)
    assert abs(z_score(P.kurtosis, 0)) < Z_MAX and P.kurtosis[1] < 0.1
    assert P.p > 0.02 and P.null_variance.mean() == pytest.approx(P.variance[0], rel=0.05)


# ---- ergodicity and stationarity
def bernoulli(seed, N=20, T=640, drift=0.0, K=6):
    """Trials of independent units; with a drift trial k has another rate."""
    def reader(k, a, b):
        rng = np.random.default_rng([seed, k])
        rate = np.linspace(0.1, 0.3, N) * (1 + drift * (k - (K - 1) / 2))
        return (rng.random((T, N)) < rate).astype(np.int8)[a:b]

    return Source(Graph(N, T), "gas", K, reader)


@pytest.mark.parametrize("null", NULLS)
def test_nulls_of_ergodicity_are_uniform_and_a_drift_is_seen(null):
    p = np.array([[t.p for t in ergodicity(bernoulli(s), null=null, n_null=99, seed=s).tests] for s in range(40)])
    for column in p.T:
        assert kstest(column, "uniform").pvalue > 1e-4
    drifting = ergodicity(bernoulli(0, drift=0.12), null=null, n_null=99)
    assert drifting.mean.p < 0.05 and drifting.distribution.p < 0.05 and drifting.mean.z > 3
    # finite trials alone give E_m = (1 - 1/K) mean f(1-f)/T
    f = np.linspace(0.1, 0.3, 20)
    still = ergodicity(bernoulli(1), null=null, n_null=99)
    assert still.mean.null_mean == pytest.approx(5 / 6 * (f * (1 - f)).mean() / 640, rel=0.15)


@pytest.mark.validate
@pytest.mark.parametrize("null, T", [("blocks", 25600), ("trials", 25600), ("circular", 12800)])
def test_nulls_of_stationarity_are_uniform_over_many_seeds(null, T):
    """Units with tau_int = 4.5 bins, cells of ninety of them; of forty-five where runs of cells are kept together.

    With cells of 18 tau_int the statistic in mean lies 5 % above its null, since neighboring cells are correlated.
    """
    def recording(seed, N=15):
        rng = np.random.default_rng(seed)
        stay = rng.random((T, N)) < 0.8
        phi = (rng.random((T, N)) < 0.25).astype(np.int8)
        for a in range(1, T):
            phi[a] = np.where(stay[a], phi[a - 1], phi[a])
        return Source(Graph(N, T), "gas", 1, lambda k, a, b: phi[a:b])

    p = np.array([[t.p for t in stationarity(recording(s), null=null, n_null=199, seed=s).tests] for s in range(100)])
    for column in p.T:
        assert kstest(column, "uniform").pvalue > 1e-3, p.mean(axis=0)


def test_a_correlation_that_changes_is_seen_where_rates_do_not():
    """Pairs are tied in the second half alone: in correlation, not in mean."""
    rng = np.random.default_rng(3)
    phi = (rng.random((8000, 20)) < 0.3).astype(np.int8)
    phi[4000:, 1::2] = np.where(rng.random((4000, 10)) < 0.5, phi[4000:, ::2], phi[4000:, 1::2])
    s = stationarity(Source(Graph(20, 8000), "gas", 1, lambda k, a, b: phi[a:b]))
    assert s.correlation.p < 0.01 and s.mean.p > 0.01 and s.n_trials == 8 and s.cell_bins == 125


def test_statistics_of_ergodicity_are_the_definitions():
    source = bernoulli(2, K=4)
    e = ergodicity(source, n_null=19)
    trials = [source.read(k, 0, 640).astype(float) for k in range(4)]
    f = np.array([x.mean(axis=0) for x in trials])
    Phi = np.array([x.T @ x / 640 for x in trials])
    upper = np.triu_indices(20, 1)
    assert e.mean.value == pytest.approx(((f - f.mean(axis=0)) ** 2).mean())
    assert e.correlation.value == pytest.approx(((Phi - Phi.mean(axis=0)) ** 2)[:, upper[0], upper[1]].mean())
    pairs = [wasserstein(f[i], f[j]) for i, j in itertools.combinations(range(4), 2)]
    assert e.distribution.value == pytest.approx(np.mean(pairs))


def test_ergodicity_refuses_what_it_cannot_compare():
    one = Source(Graph(3, 50), "gas", 1, lambda k, a, b: np.zeros((b - a, 3), np.int8))
    for call, words in ((lambda: ergodicity(one), "at least 2"), (lambda: stationarity(bernoulli(0)), "trials"),
                        (lambda: stationarity(one, n_windows=1), ">= 2"), (lambda: stationarity(one, 10, 10), "50"),
                        (lambda: stationarity(one, 2, 4, null="x"), "blocks, trials"),
                        (lambda: stationarity(one, 2, 4, n_null=5), ">= 19"),
                        (lambda: wasserstein([1.0], [1.0, 2.0]), "same size")):
        with pytest.raises(InputError, match=words):
            call()


# ---- error bars
@pytest.mark.validate
def test_error_bars_of_correlators_are_calibrated():
    """Ising ring, 200 seeds: z of C(r), S(k) and the cumulants is standard normal."""
    L, K = 12, 0.5
    t = math.tanh(K)
    exact = np.array([(t**r + t ** (L - r)) / (1 + t**L) for r in range(L)])
    z = []
    for seed in range(200):
        source = ring_source(400, L, K, 0.0, seed=seed + 100)
        C = two_point(source, max_lag=4, n_blocks=20)["x"]
        S = structure_factor(source, n_blocks=20)
        (four,) = n_point(source, [[(1,), (2,), (3,)]], 20)
        z.append([*((C.value - exact[:5]) / C.error)[1:], *((S.value - np.fft.fft(exact).real) / S.error)[1:4],
                  (four.value - ring_cumulant(L, K, 0.0, [0, 1, 2, 3])) / four.error])
    z = np.array(z)
    assert np.all(np.abs(z.mean(axis=0)) < 0.35) and np.all((z.std(axis=0) > 0.85) & (z.std(axis=0) < 1.25))
