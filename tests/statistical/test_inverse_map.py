"""The inverse map finds known fine couplings, says what it cannot know, and refuses the wrong observation."""

import math

import numpy as np
import pytest

from lft.errors import InputError
from lft.geometry import Lattice
from lft.inference.lattice_estimator import lattice_estimator
from lft.inference.lattice_fit import fit_lattice
from lft.rg.chains import undecimate_chain
from lft.rg.inverse.ensemble import FineModel, Observation, simulate
from lft.rg.inverse.match import Target, default_starts, goodness, inverse_map
from lft.rg.inverse.profile import Profile, intervals
from lft.testing import assert_agrees, decimate_chain, normality_p_value

LINE = ((1,), (2,), (3,))
PLANES = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1))


def chain(n_bins=20000):
    return Lattice((n_bins,), ("t",), "open", ("2 ms",))


def recover(recorded, factor, truth, vectors, seed, rule="decimation", matched_rule=None, site_field=False, **options):
    """The inverse map of a recording made from a known fine lattice; ``matched_rule``: what the map believes."""
    observation = Observation(recorded, factor, rule)
    field = simulate(FineModel(observation), truth, 2, recorded.n_time, seed=10**6 + seed, spacing=10).fields[0]
    fit = fit_lattice(field, vectors, site_field=site_field, test=0.0)
    values = [*(v for n, (v, _) in fit.couplings.items() if n != "h"), fit.h_mean[0]]
    estimator = lattice_estimator(vectors, values)
    target = Target(estimator.names, values, fit.joint_covariance, field.geometry.n_active, fit.n_blocks)
    believed = Observation(recorded, factor, matched_rule or rule)
    options = {"starts": default_starts(target, FineModel(believed))[:1], "check_size": False, **options}
    return fit, inverse_map(target, believed, estimator, seed=seed, **options)


@pytest.mark.parametrize("b", [2, 3, 4])
def test_fitted_couplings_of_a_decimated_chain_are_those_of_the_transfer_matrix(b):
    """K' and h' by the b-th power of the matrix, and no second neighbors; bins that OR are another chain."""
    recorded = chain(400000)
    z = {}
    for rule in ("decimation", "or"):
        field = simulate(FineModel(Observation(recorded, b, rule)), (0.6, -0.4), 2, 400000, seed=7).fields[0]
        fit = fit_lattice(field, LINE, site_field=False, test=0.0)
        exact = dict(zip(("K[1]", "h"), decimate_chain(0.6, -0.4, b), strict=True)) | {"K[2]": 0.0, "K[3]": 0.0}
        z[rule] = {name: (fit.couplings[name][0] - value) / fit.couplings[name][1] for name, value in exact.items()}
        if rule == "decimation":
            assert fit.couplings["K[1]"][1] < 0.01 and fit.couplings["h"][1] < 0.02
    assert max(map(abs, z["decimation"].values())) < 4.5
    assert abs(z["or"]["h"]) > 10


@pytest.mark.parametrize(("b", "K", "h"), [(2, 0.5, -0.3), (3, 0.6, -0.4), (4, 0.7, 0.1)])
def test_exact_couplings_of_a_decimated_chain_lead_back(b, K, h):
    """The target is exact (transfer matrix), so only the simulation errs; longer displacements vanish exactly."""
    coarse = decimate_chain(K, h, b)
    target = Target(("K[1]", "K[2]", "h"), [coarse[0], 0.0, coarse[1]], np.eye(3) * 1e-10, 1e6)
    vectors = ((1,), (2,))
    start = default_starts(target, FineModel(Observation(chain(), b)))[:1]
    result = inverse_map(target, Observation(chain(), b), lattice_estimator(vectors), starts=start,
                         n_configurations=80, n_pilot=40, check_size=False)  # fmt: skip
    assert_agrees(result.couplings["K[1]"], K, relative_error_max=0.05)
    assert_agrees(result.couplings["h"], h, relative_error_max=0.25)
    assert result.p_value > 1e-3 and not result.flat


def test_a_far_chain_is_found_by_climbing():
    """Twelve steps per bin: stages of 2, 6 and 12, both signs, and lines that say so."""
    coarse, lines = decimate_chain(1.4, -0.05, 12), []
    target = Target(("K[1]", "K[2]", "h"), [coarse[0], 0.0, coarse[1]], np.eye(3) * 1e-5, 1e5)
    result = inverse_map(target, Observation(chain(), 12), lattice_estimator(((1,), (2,))), n_configurations=80,
                         n_pilot=40, check_size=False, progress=lines.append)  # fmt: skip
    assert_agrees(result.couplings["K[1]"], 1.4, relative_error_max=0.03)
    assert_agrees(result.couplings["h"], -0.05, relative_error_max=0.3)
    low, high = result.intervals["K[1]"]
    assert low < result.couplings["K[1]"][0] < high
    stages_told = [line for line in lines if line.startswith("stage")]
    assert [line.split(",")[0] for line in stages_told] == [
        "stage 1 of 3: factor 2", "stage 2 of 3: factor 6", "stage 3 of 3: factor 12"
    ]  # fmt: skip


def test_a_sampled_chain_agrees_with_its_exact_inverse():
    fit, result = recover(chain(), 3, (0.6, -0.4), LINE, seed=1, n_configurations=80, n_pilot=40)
    for name, true in (("K[1]", 0.6), ("h", -0.4)):
        assert_agrees(result.couplings[name], true, relative_error_max=0.12)
    # the fit with one neighbor, inverted exactly, is another estimate of the same
    exact = undecimate_chain(fit.couplings["K[1]"][0], fit.couplings["h"][0], 3).solutions[0]
    assert abs(exact[0] - result.couplings["K[1]"][0]) < 2 * result.couplings["K[1]"][1]
    assert "matched" in result.verdict


def test_a_lattice_in_space_and_time():
    recorded = Lattice((6, 6, 1500), ("x", "y", "t"), ("periodic", "periodic", "open"))
    truth = (0.16, 0.18, 0.2, -0.1)
    _, result = recover(recorded, (2, 2, 1), truth, PLANES, seed=3, n_configurations=100, n_pilot=40)
    for (name, pair), true in zip(result.couplings.items(), truth, strict=True):
        assert_agrees(pair, true, relative_error_max=0.2 if name != "h" else 0.5)
    assert result.p_value > 1e-3


def test_bins_that_or_are_not_decimation():
    """The same recording, read the right way and the wrong way: chi^2 refuses the wrong one."""
    options = {"n_configurations": 80, "n_pilot": 40}
    for matched, is_right in (("or", True), ("decimation", False)):
        _, result = recover(chain(40000), 4, (0.8, -0.3), LINE, 5, "or", matched, **options)
        assert (result.p_value > 0.01) == is_right
        assert ("rejected" in result.verdict) == (not is_right)


def test_the_sign_that_an_even_decimation_hides_is_reported():
    coarse = decimate_chain(0.5, 0.0, 2)
    target = Target(("K[1]", "K[2]", "h"), [coarse[0], 0.0, coarse[1]], np.eye(3) * 1e-6, 1e5)
    result = inverse_map(target, Observation(chain(), 2), lattice_estimator(((1,), (2,))), n_configurations=60,
                         n_pilot=40, check_size=False)  # fmt: skip
    assert_agrees(result.couplings["K[1]"], 0.5, relative_error_max=0.1)
    other = [a["couplings"]["K[1]"] for a in result.alternatives]
    assert len(other) == 1 and other[0] == pytest.approx(-0.5, abs=0.05)


def test_what_decimation_has_erased_is_not_a_number():
    """K = 0.15 over 4 steps leaves 0.0005: the recording bounds K, and h with it, but does not determine them."""
    coarse = decimate_chain(0.15, -0.6, 4)
    target = Target(("K[1]", "K[2]", "h"), [coarse[0], 0.0, coarse[1]], np.diag([0.02, 0.02, 0.02]) ** 2, 3000)
    start = [(0.15, -0.6)]
    result = inverse_map(target, Observation(chain(), 4), lattice_estimator(((1,), (2,))), starts=start,
                         n_configurations=60, n_pilot=40, check_size=False)  # fmt: skip
    assert len(result.flat) == 1 and "not determined" in result.verdict
    assert math.isnan(result.couplings["K[1]"][0])
    direction = result.flat[0]
    assert abs(direction.weights["K[1]"]) > 0.5
    true = sum(direction.weights[n] * v for n, v in zip(result.names, (0.15, -0.6), strict=True))
    assert (direction.low is None or direction.low < true) and (direction.high is None or true < direction.high)
    assert direction.low is not None or direction.high is not None  # it does bound something


def test_goodness_is_uniform_and_needs_the_blocks():
    """p-values of Gaussian residuals whose covariance comes from 25 blocks; plain chi^2 rejects far too often."""
    rng, J = np.random.default_rng(0), np.random.default_rng(1).normal(size=(9, 3))
    C = np.cov(rng.normal(size=(9, 40))) + np.eye(9)
    L, ours, plain = np.linalg.cholesky(C), [], []
    for _ in range(1500):
        measured = np.cov(L @ rng.normal(size=(9, 25)))
        r = L @ rng.normal(size=9) + J @ rng.normal(size=3)  # a part that couplings can mend
        ours.append(goodness(r, measured, J, 25)[2])
        plain.append(goodness(r, measured, J)[2])
    low = np.mean(np.array(ours) < 0.05)
    assert abs(low - 0.05) < 4.5 * math.sqrt(0.05 * 0.95 / 1500)
    assert abs(np.mean(ours) - 0.5) < 4.5 / math.sqrt(12 * 1500)
    assert np.mean(np.array(plain) < 0.05) > 0.1
    assert goodness(np.ones(3), np.eye(3), np.eye(3))[1] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ("K[1]", "h")}, "names"),
        ({"values": [0.1, math.nan, 0.2]}, r"K\[2\]"),
        ({"covariance": -np.eye(3)}, "negative eigenvalue"),
        ({"n_sites": 0}, "n_sites"),
    ],
)
def test_bad_targets(change, words):
    good = {"names": ("K[1]", "K[2]", "h"), "values": [0.1, 0.0, 0.2], "covariance": np.eye(3), "n_sites": 10}
    with pytest.raises(InputError, match=words):
        Target(**{**good, **change})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"displacements": [(1,), (2,), (3,)]}, "cannot determine 4"),
        ({"starts": [[0.1]]}, "start"),
        ({"n_configurations": 3}, "n_configurations"),
        ({"n_pilot": 1}, "n_pilot"),
    ],
)
def test_bad_options(options, words):
    target = Target(("K[1]", "K[2]", "h"), [0.1, 0.0, 0.2], np.eye(3), 10)
    with pytest.raises(InputError, match=words):
        inverse_map(target, Observation(chain(), 2), lattice_estimator(((1,), (2,))), **options)


# ---- the long set: coverage over 20 seeds
SPACE_TIME = Lattice((8, 8, 3000), ("x", "y", "t"), ("periodic", "periodic", "open"))
CASES = {
    "chain": (chain(), (3,), (0.6, -0.4), LINE),
    "columns": (SPACE_TIME, (2, 2, 1), (0.12, 0.15, 0.25, -0.15), PLANES),
    "bins": (SPACE_TIME, (2, 2, 2), (0.12, 0.15, 0.25, -0.15), PLANES),
}


@pytest.mark.validate
@pytest.mark.parametrize("case", CASES)
def test_errors_cover_the_truth(case):
    """Of 20 seeds at least 90 % inside two standard errors, per coupling; errors a third as large would not pass."""
    recorded, factor, truth, vectors = CASES[case]
    rows = []
    for seed in range(20):
        pairs = np.array(list(recover(recorded, factor, truth, vectors, seed)[1].couplings.values()))
        rows.append((pairs[:, 0] - truth) / pairs[:, 1])
    z = np.array(rows)
    assert (np.mean(abs(z) < 2, axis=0) >= 0.9).all()
    assert np.mean(abs(3 * z) < 2) < 0.8
    assert normality_p_value(z[:, 0]) > 1e-4


@pytest.mark.parametrize("bend", [-0.4, 0.0, 0.3])
def test_intervals_are_those_of_the_bent_response(bend):
    """``y = t + q t^2`` on paper: the interval is where a residual of one error is met."""
    profile = Profile(np.eye(2), np.array([0.1, 0.02]), np.array([bend, 0.0]), np.array([0.01, 0.01]), [])
    ranges, notes = intervals(profile, ("K[1]", "h"), np.array([0.5, -0.1]))
    down, up = 0.5 - ranges["K[1]"][0], ranges["K[1]"][1] - 0.5
    assert bool(notes) == (bend != 0)
    for side, sign in ((up, 1), (down, -1)):
        t = side / 0.1
        turning = 1 + 4 * sign * bend
        assert t + sign * bend * t * t == pytest.approx(1.0 if turning > 0 else -1 / (4 * sign * bend))
    assert ranges["h"] == pytest.approx((-0.12, -0.08))
    assert profile.weak(("K[1]", "h"), 0.08) == ["known only to 0.10: 1.00 K[1]"]
