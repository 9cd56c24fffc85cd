"""Crossings, matched couplings, slopes and peaks against enumerated lattices; collapse against known exponents."""

import functools
import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from test_reweighting_exact import binder, torus

from lft.analysis.collapse import Points, collapse, quality
from lft.analysis.powerlaw import fit_power, scan_power
from lft.analysis.reweight import Reweighting
from lft.analysis.scaling import (
    at_binder,
    binder_slope,
    crossings,
    extrapolate,
    log_m2_slope,
    matched_coupling,
    peak,
    scale,
)
from lft.errors import InputError
from lft.testing import normality_p_value

SIDES = (2, 3, 4)


def exact_u(side, K):
    return binder(torus(side).exact(K))


def exact_crossing(small, large):
    return brentq(lambda K: exact_u(small, K) - exact_u(large, K), 0.3, 0.8)


def exact_slope(side, K, d=1e-5):
    return (exact_u(side, K + d) - exact_u(side, K - d)) / (2 * d)


@functools.cache
def reweightings(seed, n=30_000, K=0.5):
    return {side: Reweighting([torus(side).sampled(K, 0.0, n, 100 * seed + side)], n_blocks=30) for side in SIDES}


def test_crossings_are_those_of_the_enumerated_lattices():
    found = crossings(reweightings(1), "K")
    for row in found.rows:
        z = (row.coupling - exact_crossing(row.small, row.large)) / row.error
        assert abs(z) < 4.5 and row.error < 0.02, (row, z)
    assert found.covariance[0, 1] != 0  # both share L = 3


def test_errors_of_crossings_and_their_covariance_over_seeds():
    exact = np.array([exact_crossing(2, 3), exact_crossing(3, 4)])
    found = [crossings(reweightings(s, 4000), "K") for s in range(40)]
    g = np.array([[row.coupling for row in f.rows] for f in found])
    z = (g - exact) / [[row.error for row in f.rows] for f in found]
    assert normality_p_value(z) > 1e-3
    spread, stated = np.cov(g.T), np.mean([f.covariance for f in found], axis=0)
    assert np.sign(spread[0, 1]) == np.sign(stated[0, 1])
    assert stated[0, 1] / math.sqrt(stated[0, 0] * stated[1, 1]) == pytest.approx(
        spread[0, 1] / math.sqrt(spread[0, 0] * spread[1, 1]), abs=0.25)


def test_the_check_sees_errors_of_one_lattice_alone():
    """Broken twin: half of the variance is missing."""
    exact = exact_crossing(3, 4)
    z = []
    for s in range(40):
        r = reweightings(s, 4000)
        row = crossings({3: r[3], 4: r[4]}, "K").rows[0]
        u = r[4].means(("m2", "m4"), {"K": row.coupling}).map(binder)
        difference = exact_slope(4, row.coupling) - exact_slope(3, row.coupling)
        z.append((row.coupling - exact) / (0.5 * float(u.error) / difference))
    assert normality_p_value(z) < 1e-3


@pytest.mark.parametrize("side", [3, 4])
def test_numbers_where_the_cumulant_takes_a_value(side):
    r = reweightings(2)[side]
    K = brentq(lambda x: exact_u(side, x) - 0.55, 0.2, 0.8)
    (g, dg), (slope, ds) = at_binder(r, "K", 0.55, binder_slope)
    assert abs(g - K) < 4.5 * dg and dg < 0.01 and g == matched_coupling(r, "K", 0.55)
    assert abs(slope - exact_slope(side, K)) < 4.5 * ds and ds < 0.05 * slope
    _, (chi, dc) = at_binder(r, "K", 0.55, lambda m: m[0])
    assert abs(chi - torus(side).exact(K)[0]) < 4.5 * dc and dc < 0.01
    _, (log_slope, dl) = at_binder(r, "K", 0.55, log_m2_slope)
    high, low = (math.log(torus(side).exact(K + d)[0]) for d in (1e-5, -1e-5))
    assert abs(log_slope - (high - low) / 2e-5) < 4.5 * dl


def test_errors_at_a_matched_cumulant_over_seeds():
    K = brentq(lambda x: exact_u(4, x) - 0.55, 0.2, 0.8)
    chi, slope = torus(4).exact(K)[0], exact_slope(4, K)
    z = []
    for s in range(30):
        r = Reweighting([torus(4).sampled(0.38, 0.0, 12_000, 100 * s + 4)], n_blocks=30)
        for function, exact in ((lambda m: m[0], chi), (binder_slope, slope)):
            _, (value, error) = at_binder(r, "K", 0.55, function)
            z.append((value - exact) / error)
    assert normality_p_value(z) > 1e-3


def test_peak_of_the_susceptibility():
    t = torus(4)

    def chi(K):
        w, _ = t.weights(K, 0.0)
        return 16 * (w @ t.m**2 / w.sum() - (w @ abs(t.m) / w.sum()) ** 2)

    exact = minimize_scalar(lambda K: -chi(K), bounds=(0.2, 0.6), method="bounded", options={"xatol": 1e-8})
    (g, dg), (height, dh) = peak(Reweighting([t.sampled(0.36, 0.0, 60_000, 7)]), "K")
    assert abs(g - exact.x) < 4.5 * dg and dg < 0.02, (g, dg, exact.x)
    assert abs(height - chi(exact.x)) < 4.5 * dh and dh < 0.03 * height
    with pytest.raises(InputError, match="at the end of what is within reach"):
        peak(Reweighting([t.sampled(0.9, 0.0, 4000, 8)]), "K")


def test_scale_puts_it_together():
    s = scale(reweightings(1), "K", binder_value=0.55)
    assert [c.small for c in s.crossings.rows] == [2, 3] and s.binder_value == 0.55
    data = s.as_json()
    assert {"critical", "nu", "eta", "crossings", "scans", "matched"} <= set(data) and len(s.curves) == 3
    assert "nu      =" in s.table() and "eta     =" in s.table()
    with pytest.raises(InputError, match=r"U = 0\.90000 on L = 2: not within reach"):
        scale(reweightings(1), "K", binder_value=0.9)


# ---- power laws
def law(sizes, p, b, omega, relative, seed):
    rng = np.random.default_rng(seed)
    return {L: (1.3 * L**p * (1 + b * L**-omega) * (1 + relative * rng.standard_normal()), 1.3 * L**p * relative)
            for L in sizes}


SIZES = (6, 8, 10, 12, 16, 20, 24, 32)


def test_exponents_with_a_correction_over_seeds():
    z = [(f["exponent"][0] - 1.5) / f["exponent"][1] for s in range(80)
         for f in [scan_power(law(SIZES, 1.5, -0.3, 0.8, 2e-3, s), 0.8).fits[0]]]
    assert normality_p_value(z) > 1e-3


def z_of(scan):
    value, error = scan.average
    return (value - 1.5) / error


def test_averages_over_the_smallest_size_hold_the_truth():
    """A pure law, one with its correction fitted, and one whose correction is left out of the fit."""
    for b, omega, fitted, wide in ((0.0, 1.0, None, 1.0), (-0.3, 0.8, 0.8, 1.0), (-0.5, 2.0, None, 2.0)):
        scans = [scan_power(law(SIZES, 1.5, b, omega, 2e-3, s), fitted) for s in range(30)]
        z = np.array([z_of(scan) for scan in scans])
        assert abs(np.median(z)) < wide and z.std() < 1.3, (b, np.median(z), z.std())
        assert np.mean(abs(z) < 2) > (0.9 if wide == 1 else 0.5)
        assert np.mean([scan.is_good for scan in scans]) > 0.8


def test_the_check_sees_what_one_fit_of_all_sizes_would_say():
    """Broken twin: the correction is left out, and no size."""
    scans = [scan_power(law(SIZES, 1.5, -0.5, 2.0, 2e-3, s)) for s in range(30)]
    z = np.array([(s.fits[0]["exponent"][0] - 1.5) / s.fits[0]["exponent"][1] for s in scans])
    assert abs(np.median(z)) > 4
    assert np.mean([s.chosen.L[0] for s in scans]) > SIZES[0] + 1


def test_a_law_that_never_holds_is_said_to():
    numbers = {L: (L**1.5 * math.exp((-1) ** k * 0.1), 1e-4 * L**1.5) for k, L in enumerate(SIZES)}
    assert not scan_power(numbers).is_good


def test_bad_power_laws_are_named():
    with pytest.raises(InputError, match="2 sizes: exponents with a correction need at least 3"):
        scan_power({8: (1.0, 0.1), 16: (2.0, 0.1)}, 0.8)
    with pytest.raises(InputError, match="positive values"):
        fit_power([4, 8, 16], [1, -1, 2], [0.1, 0.1, 0.1])


def test_extrapolated_crossings_keep_their_covariance():
    found = crossings(reweightings(1), "K")
    scan = extrapolate(found, 2.75)
    matrix = np.column_stack([np.ones(2), np.array([2.0, 3.0]) ** -2.75])
    value = np.linalg.solve(matrix, [row.coupling for row in found.rows])
    assert scan.fits[0]["critical"][0] == pytest.approx(value[0])
    row = np.linalg.inv(matrix)[0]
    assert scan.fits[0]["critical"][1] == pytest.approx(math.sqrt(row @ found.covariance @ row))


# ---- collapse
TRUE = {"critical": 0.44, "nu": 1.0, "rho": -0.25}


def data(seed, sigma=2e-3, sizes=(8, 16, 32), shift=0.0, n=9):
    rng = np.random.default_rng(seed)
    L, x = (a.ravel() for a in np.meshgrid(np.array(sizes, float), np.linspace(-0.8, 0.8, n)))
    g = TRUE["critical"] + x / L ** (1 / TRUE["nu"])
    f = 1.2 + 0.8 * np.tanh(1.1 * (x + shift * (L == sizes[-1])))
    scale = L ** TRUE["rho"]
    return Points(L, g, scale * (f + sigma * rng.standard_normal(len(L))), sigma * scale)


def test_collapse_recovers_known_exponents_over_seeds():
    found = [collapse(data(s), {"critical": 0.445, "nu": 0.9, "rho": -0.2}, degree=6) for s in range(50)]
    for name in TRUE:
        z = np.array([(getattr(f, name)[0] - TRUE[name]) / getattr(f, name)[1] for f in found])
        assert normality_p_value(z) > 1e-3, (name, z.mean(), z.std())
    chi2 = np.array([f.chi_squared for f in found])
    dof = found[0].dof
    assert abs(chi2.mean() - dof) < 4.5 * math.sqrt(2 * dof / 50)
    # S compares with straight lines: near 1 where the points lie dense on the curve
    assert 0.8 < np.mean([quality(*found[0].scaled(p), p.L) for p in (data(s, n=60) for s in range(10))]) < 1.2
    assert found[0].nu[1] < 0.03 and found[0].critical[1] < 1e-3


def test_bootstrap_and_curvature_agree():
    start = {"critical": 0.44, "nu": 1.0, "rho": -0.25}
    a, b = collapse(data(1), start, degree=6), collapse(data(1), start, degree=6, n_bootstrap=100, seed=3)
    for name in TRUE:
        assert getattr(b, name)[0] == getattr(a, name)[0]
        assert getattr(b, name)[1] == pytest.approx(getattr(a, name)[1], rel=0.3)
    assert b.samples.shape == (100, 3)


def test_the_check_sees_data_that_do_not_collapse():
    good, bad = (collapse(data(2, shift=shift), TRUE, degree=6) for shift in (0.0, 0.1))
    assert good.p_value > 1e-3 > bad.p_value
    wrong = collapse(data(2), {**TRUE, "nu": 0.8}, fixed=("nu",), degree=6)
    assert wrong.p_value < 1e-6 and wrong.nu == (0.8, 0.0) and wrong.quality > 3


def test_a_correction_to_scaling_is_found():
    p = data(3, sizes=(8, 16, 32, 64))
    y = p.y * 1.0 + p.L ** TRUE["rho"] * 0.5 * p.L**-1.0
    corrected = Points(p.L, p.g, y, p.error)
    with_it = collapse(corrected, TRUE, degree=6, omega=1.0)
    without = collapse(corrected, TRUE, degree=6)
    assert with_it.p_value > 1e-3 > without.p_value
    assert abs(with_it.nu[0] - 1) < 4.5 * with_it.nu[1]


def test_quality_of_points_on_a_line_is_zero():
    x = np.tile(np.linspace(0, 1, 5), 2)
    assert quality(x, 2 * x, np.full(10, 0.1), np.repeat([4, 8], 5)) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("change, message", [
    (lambda p: Points(p.L, p.g, p.y, 0 * p.error), "has error 0: constant data have no error"),
    (lambda p: Points(p.L, p.g[:-1], p.y, p.error), "four arrays of one length"),
    (lambda p: collapse(Points(*(a[p.L == 8] for a in (p.L, p.g, p.y, p.error))), TRUE), "at least two sizes"),
    (lambda p: collapse(p, {"critical": 0.44}), "give critical and nu > 0"),
    (lambda p: collapse(p, {**TRUE, "omega": 1.0}), "'omega': a collapse has the parameters"),
    (lambda p: collapse(p, TRUE, degree=20), "degree = 20"),
    (lambda p: collapse(Points(p.L, p.g + 5 * (p.L == 32), p.y, p.error), TRUE), "do not overlap"),
])
def test_bad_input_is_named(change, message):
    with pytest.raises(InputError, match=message):
        change(data(4))


def test_archives_at_several_couplings_are_collapsed_too():
    from lft.commands.scale import _collapse

    couplings = (0.35, 0.45, 0.55)
    sizes = {side: Reweighting([torus(side).sampled(K, 0.0, 6000, 10 * side + k) for k, K in enumerate(couplings)],
                               n_blocks=20) for side in SIDES}
    result, notes = scale(sizes, "K", binder_value=0.55), []
    found, points = _collapse(sizes, "K", result, notes)
    assert len(points.y) == 9 and found.dof == 9 - 2 - 6 and found.rho == (0.0, 0.0)
    assert found.x_scale > 0 and math.isfinite(found.quality)
    exact = [exact_u(int(L), K) for L, K in zip(points.L, points.g, strict=True)]
    assert abs((points.y - exact) / points.error).max() < 4.5
