"""Export to pyerrors and ArviZ, and our errors beside those of pyerrors 2.17.0 (stored, and live where it is)."""

import importlib.util
import warnings

import numpy as np
import pytest

from lft.analysis import estimate
from lft.analysis.covariance import covariance
from lft.analysis.export import to_arviz, to_pyerrors
from lft.archive import Archive
from lft.errors import InputError
from lft.testing import ar1_series

HAS_PYERRORS, HAS_ARVIZ = (importlib.util.find_spec(name) is not None for name in ("pyerrors", "arviz"))
needs_pyerrors = pytest.mark.skipif(not HAS_PYERRORS, reason="pyerrors is not installed (pip install lft[pyerrors])")
needs_arviz = pytest.mark.skipif(not HAS_ARVIZ, reason="arviz is not installed (pip install lft[arviz])")

KEPT = np.r_[0:9000, 12000:30000]
PARTS = [12_000, 5_000]


def two_replicas():
    y = ar1_series(PARTS[0], 0.7, seed=3, shape=(2,)) + np.array([1.0, 2.0])
    return [y[: PARTS[1]], y[PARTS[1] :]]


CASES = {  # series, function, index
    "fast": lambda: (ar1_series(20000, 0.6, seed=1), None, None),
    "slow": lambda: (ar1_series(20000, 0.9, seed=2), None, None),
    "ratio": lambda: (two_replicas(), lambda m: m[0] / m[1], None),
    "stride": lambda: (ar1_series(30000, 0.8, seed=4)[::3], None, np.arange(0, 30000, 3)),
    "gap": lambda: (ar1_series(30000, 0.8, seed=4)[KEPT], None, KEPT),
}
STORED = {  # pyerrors 2.17.0, gamma_method(S=1.5): value, dvalue, ddvalue, tau_int, error of tau_int, window
    "fast": (-0.022679726825372292, 0.013819252874226948, 0.000396927819321737, 1.97337530728, 0.106208647665175, 16),
    "slow": (0.031069854608825154, 0.03075388898903046, 0.0017191946587988597, 9.4202158093039, 0.965147222437963, 62),
    "ratio": (0.5080764332393958, 0.011035808921930216, 0.000433310700054924, 2.459235099855382, 0.179329062132209, 18),
    "stride": (0.019136425053737433, 0.017373885310111328, 0.00058917711631074, 1.5079728283475, 0.0951410481311, 11),
    "gap": (0.020215518901711835, 0.0179512419764702, 0.0006323172394330948, 4.32330377369038, 0.283595994283058, 33),
}
CORRELATION = [[1, 0.5764688918551077, -0.4502454265221005], [0.5764688918551077, 1, 0.4703600546145613],
               [-0.4502454265221005, 0.4703600546145613, 1]]  # of m0/m1, m0 m1, m1, pyerrors 2.17.0


def agree(case, stored):
    """Ours against (value, dvalue, ddvalue, tau, dtau, window) of pyerrors.

    Without replicas or gaps the errors are the same formula: equal to rounding.  pyerrors centers every replica by its
    own mean, and gives a lag its full weight beside a gap: 1e-3.  Its tau_int is normalized without the bias
    correction, ours with it: 1e-3.
    """
    series, function, index = CASES[case]()
    e = estimate(series, function, index=index)
    exact = 1e-9 if case in ("fast", "slow", "stride") else 2e-3
    assert e.value == pytest.approx(stored[0], rel=1e-9)
    assert (e.error, e.error_of_error) == pytest.approx(stored[1:3], rel=exact)
    assert e.tau_int / e.spacing == pytest.approx(stored[3], rel=2e-3)
    assert e.tau_int_error / e.spacing == pytest.approx(stored[4], rel=1e-2)
    assert e.window == stored[5]


@pytest.mark.parametrize("case", list(CASES))
def test_errors_equal_the_stored_ones_of_pyerrors(case):
    agree(case, STORED[case])


def test_the_comparison_sees_another_window():
    series, _, _ = CASES["slow"]()
    assert estimate(series, s_tau=2.0).error != pytest.approx(STORED["slow"][1], rel=1e-3)


def test_correlations_are_near_the_stored_ones():
    # pyerrors correlates the fluctuations without time lags; for AR(1) columns of one rate that is the same in the mean
    c = covariance(two_replicas(), [lambda m: m[0] / m[1], lambda m: m[0] * m[1], lambda m: m[1]])
    assert abs(c.correlation - CORRELATION).max() < 0.1


@needs_pyerrors
@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.filterwarnings("ignore")
def test_errors_equal_those_of_pyerrors_here(case):
    series, function, index = CASES[case]()
    obs = to_pyerrors(series, case, index)
    if function is not None:
        obs = obs[0] / obs[1]
    obs.gamma_method(S=1.5)
    e = obs.e_names[0]
    agree(case, (obs.value, obs.dvalue, obs.ddvalue, obs.e_tauint[e], obs.e_dtauint[e], obs.e_windowsize[e]))
    assert (obs.value, obs.dvalue) == pytest.approx(STORED[case][:2], rel=1e-9)


@pytest.fixture
def archive_path(tmp_path):
    from lft.cli import main

    (tmp_path / "run.toml").write_text(
        "seed = 3\n[lattice]\nshape = [6, 6]\n[action]\nname = 'ising'\nK = 0.3\n[update]\nname = 'metropolis'\n"
        "[run]\nstart = 'hot'\nthermalize = 20\nupdates = 400\nmeasure_every = 2\n")
    assert main(["run", str(tmp_path / "run.toml"), "-o", str(tmp_path / "run.h5"), "--quiet"]) == 0
    return tmp_path / "run.h5"


@needs_pyerrors
@pytest.mark.filterwarnings("ignore")
def test_archives_become_observables(archive_path):
    with Archive(archive_path) as archive:
        obs = to_pyerrors(archive)
        assert obs["m2"].value == pytest.approx(archive.samples("m2").mean())
        assert len(obs["structure_x"]) == 2


@needs_arviz
@pytest.mark.filterwarnings("ignore")
def test_archives_become_chains(archive_path):
    with Archive(archive_path) as archive:
        data = to_arviz([archive, archive])
        assert data.posterior["m2"].shape == (2, 200)
        assert np.array_equal(data.posterior["m2"].values[1], archive.samples("m2"))
        assert data.posterior.attrs["updates_per_draw"] == 2 and data.posterior.attrs["dropped_draws"] == 0
        assert data.posterior["structure_x"].shape == (2, 200, 2)


@pytest.mark.skipif(HAS_PYERRORS, reason="pyerrors is installed")
def test_a_missing_pyerrors_is_named():
    with pytest.raises(InputError, match=r"pyerrors cannot be imported .*pip install lft\[pyerrors\]"):
        to_pyerrors(ar1_series(100, 0.0, seed=1))


@pytest.mark.skipif(HAS_ARVIZ, reason="arviz is installed")
def test_a_missing_arviz_is_named(archive_path):
    with warnings.catch_warnings(), Archive(archive_path) as archive, pytest.raises(InputError, match=r"lft\[arviz\]"):
        to_arviz(archive)
