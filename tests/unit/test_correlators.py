"""Correlators against slow and obviously right sums, and the identities of the correlation matrices."""

import itertools

import numpy as np
import pytest

from lft.analysis.correlator import anisotropy, correlation_length, second_moment_length, two_point, zero_momentum
from lft.analysis.crosscorrelation import correlation_matrices
from lft.analysis.kernel import (
    averages,
    edwards_anderson,
    gas_from_spin,
    marchenko_pastur,
    overlaps,
    space_matrix,
    spin_from_gas,
    time_matrix,
)
from lft.analysis.npoint import n_point, n_point_momentum
from lft.analysis.source import Source, as_source, ordered_map, site_means
from lft.analysis.spectrum import dynamic_structure, space_time, structure_factor
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Graph, Lattice

MASK = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1]], bool)


def fields_of(kind="spin", boundary=("open", "periodic", "open"), mask=MASK, n=2, T=60, seed=0):
    """Fields with a memory in time, and their lattice."""
    rng = np.random.default_rng(seed)
    lattice = Lattice((3, 4, T), ("x", "y", "t"), boundary, ("42 um", "42 um", "20 ms"), mask)
    out = []
    for _ in range(n):
        noise = rng.standard_normal((3, 4, T + 3))
        smooth = noise[..., 3:] + 0.7 * noise[..., 2:-1] + 0.5 * noise[..., :-3] + 0.3 * np.roll(noise, 1, 1)[..., 3:]
        smooth += np.linspace(-0.8, 0.8, 4)[:, None]
        values = {"spin": np.where(smooth > 0.5, 1, -1), "gas": (smooth > 0.8).astype(int), "real": smooth}[kind]
        out.append(Field.from_array(lattice, kind, values * (1 if mask is None else mask[..., None])))
    return lattice, out


def arrays(fields):
    """(configuration, bin, x, y) as floats."""
    return np.array([f.values.reshape(f.geometry.n_time, 3, 4) for f in fields], float)


def brute_pairs(x, mask, d, lag, periodic):
    """Mean of dphi dphi over all pairs (site, site + d), (bin, bin + lag) that exist."""
    n_t = x.shape[1]
    mean = x.mean(axis=(0, 1))
    values = []
    for i, j in np.argwhere(mask):
        k, m = i + d[0], j + d[1]
        if periodic[0]:
            k %= 3
        if periodic[1]:
            m %= 4
        if not (0 <= k < 3 and 0 <= m < 4 and mask[k, m]):
            continue
        for a in range(n_t):
            b = a + lag
            if periodic[2]:
                b %= n_t
            if b < n_t:
                values.append((x[:, a, i, j] - mean[i, j]) * (x[:, b, k, m] - mean[k, m]))
    return np.mean(values) if values else np.nan


@pytest.mark.parametrize("kind", ["spin", "gas", "real"])
@pytest.mark.parametrize("boundary", [("open", "periodic", "open"), ("periodic", "open", "periodic")])
def test_space_time_is_the_sum_over_existing_pairs(kind, boundary):
    _, fields = fields_of(kind, boundary)
    periodic = [b == "periodic" for b in boundary]
    C = space_time(fields, max_lag=3, n_blocks=6)
    x = arrays(fields)
    for i, j, lag in itertools.product(range(len(C.r[0])), range(len(C.r[1])), range(4)):
        expected = brute_pairs(x, MASK, (C.r[0][i], C.r[1][j]), lag, periodic)
        assert C.value[lag, i, j] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_two_point_is_the_sum_over_existing_pairs():
    _, fields = fields_of("gas")
    found, x = two_point(fields, max_lag=5, n_blocks=6), arrays(fields)
    for axis, unit in (("x", (1, 0)), ("y", (0, 1))):
        for r, value in zip(found[axis].r, found[axis].value, strict=True):
            expected = brute_pairs(x, MASK, (r * unit[0], r * unit[1]), 0, (False, True, False))
            assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)
    for r, value in zip(found["t"].r, found["t"].value, strict=True):
        assert value == pytest.approx(brute_pairs(x, MASK, (0, 0), r, (False, True, False)), abs=1e-12)
    assert set(found) == {"x", "y", "t"} and np.all(found["t"].error > 0)


def test_structure_factors_are_the_transforms():
    _, fields = fields_of("real")
    x = arrays(fields)
    d = (x - x.mean(axis=(0, 1))) * MASK
    modes = np.fft.fft2(d)
    S = structure_factor(fields, lags=[0, 2], n_blocks=6)
    assert S.value[0].real == pytest.approx((abs(modes) ** 2).mean(axis=(0, 1)) / MASK.sum())
    assert S.value[1] == pytest.approx((modes[:, :-2].conj() * modes[:, 2:]).mean(axis=(0, 1)) / MASK.sum())
    assert structure_factor(fields, n_blocks=6).value == pytest.approx(S.value[0].real)
    D = dynamic_structure(fields, segment=15, taper="none", n_blocks=4)
    power = abs(np.fft.fftn(d.reshape(2, 4, 15, 3, 4), axes=(2, 3, 4))) ** 2
    assert D.value == pytest.approx(power.mean(axis=(0, 1)) / (15 * MASK.sum()))
    assert D.value.mean(axis=0) == pytest.approx(S.value[0].real)  # (1/n) sum_omega S(k, omega) = S(k)


def test_space_time_is_the_transform_of_the_structure_factor():
    _, fields = fields_of("spin", ("periodic",) * 3, mask=None)
    S = structure_factor(fields, lags=[0, 1, 2], n_blocks=6)
    C = space_time(fields, max_lag=2, n_blocks=6)
    whole = np.fft.ifft2(S.value).real
    for i, j in itertools.product(range(3), range(4)):
        assert C.value[:, i, j] == pytest.approx(whole[:, C.r[0][i], C.r[1][j]])


@pytest.mark.parametrize("axis, others", [("x", 3), ("y", 2), ("t", (2, 3))])
def test_zero_momentum_is_the_product_of_plane_sums(axis, others):
    _, fields = fields_of("gas")
    x = arrays(fields)
    M = ((x - x.mean(axis=(0, 1))) * MASK).sum(axis=others)
    if axis == "t":
        with pytest.raises(InputError, match="'q'"):
            zero_momentum(fields, "q")
    if axis == "x":
        with pytest.raises(InputError, match="at least 4"):
            zero_momentum(fields, axis)
        return
    Z = zero_momentum(fields, axis, max_lag=4, n_blocks=8)
    for r, value in zip(Z.r, Z.value, strict=True):
        if axis == "t":
            expected = (M[:, : 60 - r] * M[:, r:]).mean() / MASK.sum()
        else:
            expected = (M * np.roll(M, -r, axis=2)).mean() * 4 / MASK.sum()
        assert value == pytest.approx(expected)
    assert Z.period == (4 if axis == "y" else None)


def brute_cumulant(x, mask, points, periodic, per_site):
    """Cumulant from its definition by moments, site by site."""
    t_max = max(p[2] for p in points)
    columns = []
    for i, j in np.argwhere(mask):
        places = [(i + p[0], (j + p[1]) % 4 if periodic else j + p[1]) for p in points]
        if all(0 <= k < 3 and 0 <= m < 4 and mask[k, m] for k, m in places):
            columns.append([x[:, p[2] : x.shape[1] - t_max + p[2], k, m].ravel()
                            for p, (k, m) in zip(points, places, strict=True)])
    if not per_site:
        columns = [np.concatenate(c) for c in zip(*columns, strict=True)]
        columns = [columns]
    out = []
    for v in columns:
        m = lambda *idx, v=v: np.prod([v[i] for i in idx], axis=0).mean()  # noqa: E731
        if len(points) == 2:
            out.append(m(0, 1) - m(0) * m(1))
        elif len(points) == 3:
            out.append(m(0, 1, 2) - m(0, 1) * m(2) - m(0, 2) * m(1) - m(1, 2) * m(0) + 2 * m(0) * m(1) * m(2))
        else:
            d = [c - c.mean() for c in v]
            e = lambda *idx, d=d: np.prod([d[i] for i in idx], axis=0).mean()  # noqa: E731
            out.append(e(0, 1, 2, 3) - e(0, 1) * e(2, 3) - e(0, 2) * e(1, 3) - e(0, 3) * e(1, 2))
    return np.mean(out), len(columns)


SETS = [[(1, 0, 0)], [(0, 1, 2)], [(0, 1, 0), (1, 0, 1)], [(0, 0, 1), (0, 1, 0), (0, 1, 1)]]


@pytest.mark.parametrize("per_site", [True, False])
@pytest.mark.parametrize("kind", ["gas", "real"])
def test_n_point_functions_are_joint_cumulants(kind, per_site):
    """Blocks that do not cut time: then the leave-one-out value differs from the plain one by its bias term alone."""
    _, fields = fields_of(kind, n=8, T=20)
    x, found = arrays(fields), n_point(fields, SETS, n_blocks=8, per_site=per_site)
    for displacements, point in zip(SETS, found, strict=True):
        points = [(0, 0, 0), *displacements]
        whole, _ = brute_cumulant(x, MASK, points, True, per_site)
        parts = [brute_cumulant(np.delete(x, b, 0), MASK, points, True, per_site)[0] for b in range(8)]
        assert point.value == pytest.approx(8 * whole - 7 * np.mean(parts), abs=1e-12)
        assert point.error == pytest.approx(np.sqrt(7 / 8 * ((parts - np.mean(parts)) ** 2).sum()), abs=1e-12)


def test_n_point_refuses_what_does_not_fit():
    _, fields = fields_of()
    for sets, words in ([[[(1, 0)]], "3 integers"], [[[(3, 0, 0)]], "no site"], [[[(0, 0, 60)]], "60 bins"],
                        [[[]], "1 to 5"]):
        with pytest.raises(InputError, match=words):
            n_point(fields, sets)
    graph = Field.from_array(Graph(3, 50), "gas", np.eye(50, 3))
    with pytest.raises(InputError, match=r"\(lag, 0\)"):
        n_point(graph, [[(1, 1)]])
    with pytest.raises(InputError, match="vanish"):
        n_point_momentum(fields, [([(1, 0), (1, 0)], None)])


def test_two_modes_are_the_structure_factor():
    _, fields = fields_of("real", n=8, T=20)
    S = structure_factor(fields, lags=[0, 2], n_blocks=8)
    sets = [([(1, -1), (-1, 1)], None), ([(1, 1), (-1, -1)], (2, 0))]
    equal, later = n_point_momentum(fields, sets, n_blocks=8)
    assert equal.value.real == pytest.approx(S.value[0, 1, -1].real, abs=4 * equal.error.real)
    assert equal.value.imag == pytest.approx(0, abs=1e-12)
    # conj(phi_k(a)) phi_k(a + 2)
    assert later.value.real == pytest.approx(S.value[1, 1, 1].real, abs=4 * later.error.real)
    assert later.value.imag == pytest.approx(S.value[1, 1, 1].imag, abs=4 * later.error.imag)


# ---- matrices
@pytest.mark.parametrize("kind", ["spin", "gas", "real"])
@pytest.mark.parametrize("what", ["covariance", "pearson", "raw"])
def test_correlation_matrices_are_the_plain_sums(kind, what):
    _, fields = fields_of(kind)
    x = arrays(fields)[:, :, MASK]
    f = x.mean(axis=(0, 1))
    for m in correlation_matrices(fields, (0, 1, 7), what, n_blocks=5):
        first, second = (x[:, : 60 - m.lag].reshape(-1, 10), x[:, m.lag :].reshape(-1, 10))
        expected = (first - f).T @ (second - f) / len(first)
        if what == "raw":
            expected = first.T @ second / len(first)
        if what == "pearson":
            expected /= np.sqrt(np.outer(x.var(axis=(0, 1)), x.var(axis=(0, 1))))
        assert m.value == pytest.approx(expected, abs=1e-12) and m.n_pairs == len(first)
        assert np.all(m.error > 0)


def test_sparse_and_dense_counts_are_the_same(monkeypatch):
    phi = (np.random.default_rng(3).random((500, 12)) < 0.04).astype(np.int8)
    field = Field.from_array(Graph(12, 500), "gas", phi)
    sparse = list(correlation_matrices(field, (0, 3)))
    monkeypatch.setattr("lft.analysis.crosscorrelation.SPARSE_BELOW", 0.0)
    for a, b in zip(sparse, correlation_matrices(field, (0, 3)), strict=True):
        assert np.array_equal(a.value, b.value) and np.array_equal(a.error, b.error)


def test_a_constant_unit_has_no_pearson_correlation():
    phi = np.random.default_rng(3).integers(0, 2, (100, 3))
    phi[:, 1] = 0
    (m,) = correlation_matrices(Field.from_array(Graph(3, 100), "gas", phi), kind="pearson")
    assert np.isnan(m.value[1]).all() and np.isfinite(m.value[0, 2]) and np.all(m.z[1] == 0)


def test_errors_of_a_matrix_are_calibrated():
    """Independent units: z of the covariances is standard normal."""
    phi = (np.random.default_rng(5).random((20000, 30)) < 0.3).astype(np.int8)
    (m,) = correlation_matrices(Field.from_array(Graph(30, 20000), "gas", phi), n_blocks=40)
    z = m.z[np.triu_indices(30, 1)]
    assert abs(z.mean()) < 4.5 / np.sqrt(z.size) and 0.85 < z.std() < 1.15
    assert m.error[0, 1] == pytest.approx(0.21 / np.sqrt(20000), rel=0.5)


def graph_field(kind="gas", N=7, T=50, seed=1):
    phi = (np.random.default_rng(seed).random((T, N)) < np.linspace(0.1, 0.7, N)).astype(np.int8)
    return phi, Field.from_array(Graph(N, T), kind, phi if kind == "gas" else 2 * phi - 1)


@pytest.mark.parametrize("kind", ["gas", "spin"])
def test_identities_of_phi_and_pi(kind):
    phi, field = graph_field(kind)
    T, N = phi.shape
    a, Phi, Pi = averages(field), space_matrix(field), time_matrix(field)
    assert np.array_equal(a.rows, phi.mean(axis=0)) and a.columns == pytest.approx(phi.mean(axis=1))
    assert np.diag(Phi) == pytest.approx(a.rows) and np.diag(Pi) == pytest.approx(a.columns)
    assert np.trace(Phi) / N == pytest.approx(a.offset) and np.trace(Pi) / T == pytest.approx(a.offset)
    assert T * np.linalg.eigvalsh(Phi) == pytest.approx(N * np.linalg.eigvalsh(Pi)[-N:])
    s = 2.0 * phi - 1
    assert space_matrix(field, "spin") == pytest.approx(s.T @ s / T)
    assert spin_from_gas(Phi, a.rows) == pytest.approx(s.T @ s / T)
    assert gas_from_spin(s.T @ s / T, a.rows) == pytest.approx(Phi)
    assert time_matrix(field, values="spin") == pytest.approx(s @ s.T / N)
    centered = Phi - np.outer(a.rows, a.rows)
    assert space_matrix(field, centered=True) == pytest.approx(centered)
    assert space_matrix(field, "spin", centered=True) == pytest.approx(4 * centered)
    assert space_matrix(field, normalization="sum") == pytest.approx(phi.T @ phi)
    assert time_matrix(field, 5, 9, normalization="sum") == pytest.approx(phi[5:9] @ phi[5:9].T)
    assert a.susceptibility == pytest.approx(N * phi.mean(axis=1).var())
    assert a.susceptibility == pytest.approx(centered.sum() / N)
    assert a.row_spectrum(3).tolist() == [a.rows.min(), np.median(a.rows), a.rows.max()]


def test_permutation_covariance():
    phi, field = graph_field()
    order = np.random.default_rng(2).permutation(phi.shape[1])
    moved = Field.from_array(Graph(*phi.shape[::-1]), "gas", phi[:, order])
    assert np.array_equal(space_matrix(moved), space_matrix(field)[np.ix_(order, order)])
    assert np.array_equal(time_matrix(moved), time_matrix(field))
    for a, b in zip(correlation_matrices(moved, (0, 2)), correlation_matrices(field, (0, 2)), strict=True):
        assert a.value == pytest.approx(b.value[np.ix_(order, order)], abs=1e-15)


def test_options_of_the_matrices_are_checked():
    _, field = graph_field()
    for call, words in (
        (lambda: space_matrix(field, "spins"), "gas, spin"),
        (lambda: space_matrix(field, normalization="T"), "mean, sum"),
        (lambda: time_matrix(field, 40, 60), "window 40..60"),
        (lambda: list(correlation_matrices(field, (50,))), "0 to 49"),
        (lambda: list(correlation_matrices(field, (0,), "cov")), "covariance, pearson, raw"),
        (lambda: list(correlation_matrices(field, n_blocks=2)), ">= 4"),
        (lambda: overlaps(field, n_replicas=10), "at least 20"),
        (lambda: overlaps(field, replicas="trials"), "bins, configurations"),
        (lambda: averages(Field.from_array(Lattice((8,)), "real", np.ones(8))), "gas, spin"),
        (lambda: marchenko_pastur(0, 5), "positive"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_overlaps_are_those_of_all_pairs():
    phi, field = graph_field("spin", T=40)
    s = 2.0 * phi - 1
    q = (s @ s.T / 7)[np.triu_indices(40, 1)]
    P = overlaps(field, n_replicas=40)
    assert P.mean[0] == pytest.approx(q.mean()) and P.variance[0] == pytest.approx(q.var())
    assert P.kurtosis[0] == pytest.approx(((q - q.mean()) ** 4).mean() / q.var() ** 2 - 3)
    width = np.diff(P.q)[0]
    assert P.density.sum() * width == pytest.approx(1) and width == pytest.approx(2 / 7)
    assert P.density[np.argmin(abs(P.q - 1 / 7))] * width == pytest.approx(np.mean(np.isclose(q, 1 / 7)))


def test_common_input_is_seen_in_the_overlaps():
    """Mutant of independence: all units follow one signal."""
    rng = np.random.default_rng(4)
    phi = (rng.random((400, 50)) < np.where(rng.random((400, 1)) < 0.5, 0.6, 0.4)).astype(int)
    field = Field.from_array(Graph(50, 400), "gas", phi)
    assert overlaps(field, 400).p == pytest.approx(1 / 21)
    assert edwards_anderson(field)[0] < 0.01


# ---- sources
def test_pieces_ranks_and_kinds_of_source_do_not_matter(monkeypatch):
    """Small chunks and an archive-like reader give what whole fields give."""
    _, fields = fields_of("gas", n=1, T=200)
    whole = space_time(fields, 3, n_blocks=5), two_point(fields, 6, 5), n_point(fields, SETS, 5)
    asked = []

    def reader(k, a, b):
        asked.append(b - a)
        return as_source(fields).read(k, a, b)

    monkeypatch.setattr("lft.analysis.source.CHUNK_BYTES", 8 * 12 * 9)
    source = Source(fields[0].geometry, "gas", 1, reader)
    parts = space_time(source, 3, n_blocks=5), two_point(source, 6, 5), n_point(source, SETS, 5)
    assert max(asked) < 20
    assert parts[0].value == pytest.approx(whole[0].value, abs=1e-13, nan_ok=True)
    assert parts[1]["t"].value == pytest.approx(whole[1]["t"].value, abs=1e-13)
    assert [p.value for p in parts[2]] == [p.value for p in whole[2]]  # exact counts


class Fake:
    """A communicator whose other rank is played by the same function: what ordered_map needs of one."""

    def __init__(self, rank, size, log):
        self.rank, self.size, self.log = rank, size, log

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size

    def bcast(self, value, root):
        if root == self.rank:
            self.log.append(value)
            return value
        return f"from {root}"


def test_blocks_are_dealt_out_in_turn():
    log = []
    got = list(ordered_map(lambda x: x * x, range(7), Fake(1, 3, log)))
    assert got == ["from 0", 1, "from 2", "from 0", 16, "from 2", "from 0"] and log == [1, 16]


def test_sources_say_what_is_wrong():
    _, fields = fields_of()
    with pytest.raises(InputError, match="same lattice"):
        as_source([fields[0], Field.from_array(Lattice((4,)), "spin", np.ones(4))])
    with pytest.raises(InputError, match="at least one"):
        as_source([])
    short = Source(Lattice((4,)), "spin", 3, lambda k, a, b: np.ones((1, 4)))
    with pytest.raises(InputError, match="at least 4"):
        structure_factor(short)
    wrong = Source(Lattice((4,)), "spin", 30, lambda k, a, b: np.ones((1, 5)))
    with pytest.raises(InputError, match="expected"):
        site_means(wrong)


def test_lengths_of_a_known_exponential():
    """Second-moment length 1/(2 sinh(m/2)) and its ratio along two axes."""
    rng = np.random.default_rng(0)

    def correlator(m, axis):
        from lft.analysis.correlator import Correlator

        r, rows = np.arange(50), np.exp(-m * np.arange(50)) * (1 + 0.01 * rng.standard_normal((20, 1)))
        error = np.full(50, 1e-12)
        return Correlator(axis, r, rows.mean(axis=0), error, rows=rows, weights=np.ones(20))

    x, y = correlator(0.5, "x"), correlator(1.0, "y")
    ratio, error = anisotropy(x, y)
    assert second_moment_length(x)[0] == pytest.approx(1 / (2 * np.sinh(0.25)), rel=1e-6)
    assert ratio == pytest.approx(np.sinh(0.5) / np.sinh(0.25), rel=1e-6) and error < 1e-9  # a common factor drops out
    with pytest.raises(InputError, match="same blocks"):
        anisotropy(x, two_point(fields_of()[1], 5, 6)["t"])


def test_correlation_length_of_short_axes_is_refused():
    _, fields = fields_of()
    with pytest.raises(InputError, match="at least 4"):
        correlation_length(fields, "x")
