"""Fits by pseudo-likelihood: a plain Newton search as oracle, searches that go on, sick data, memory."""

import numpy as np
import pytest

from lft.errors import InputError
from lft.inference.neural_fit import fit_k_pairwise, fit_lagged, fit_neural, fit_pairwise
from lft.inference.pseudo import checkpoint, maximum, memory
from lft.inference.pseudo import fit as engine
from lft.inference.result import fit_json, load_fit, save_fit


def plain_newton(x):
    """Joint maximum of the pairwise pseudo-likelihood by dense design matrices: theta = (a of i < j, c)."""
    t, n = x.shape
    i, j = np.triu_indices(n, 1)
    design = np.zeros((n, t, len(i) + n))
    for p in range(len(i)):
        design[i[p], :, p], design[j[p], :, p] = x[:, j[p]], x[:, i[p]]
    for u in range(n):
        design[u, :, len(i) + u] = 1
    theta = np.zeros(len(i) + n)
    for _ in range(30):
        p = 1 / (1 + np.exp(-design @ theta))
        gradient = np.einsum("utp,ut->p", design, x.T - p)
        hessian = np.einsum("utp,ut,utq->pq", design, p * (1 - p), design, optimize=True)
        theta = theta + np.linalg.solve(hessian, gradient)
    return theta[: len(i)], theta[len(i) :]


def raster(n=6, t=1500, seed=0, rate=0.3):
    rng = np.random.default_rng(seed)
    x = (rng.random((t, n)) < rate).astype(np.int8)
    x[:, 1] |= x[:, 0] & (rng.random(t) < 0.3)
    return x


def test_maximum_is_that_of_a_plain_newton_search(monkeypatch):
    x = raster()
    a, c = plain_newton(x.astype(float))
    for limit in (10**6, 0):  # rows in memory, passes over the data
        monkeypatch.setattr(maximum, "SEARCH_SIZE", limit)
        fit = fit_pairwise(x, test=0)
        assert np.allclose(-2 * fit.A[np.triu_indices(6, 1)], a, atol=1e-8 if limit else 2e-5)
        assert np.allclose(-fit.I, c, atol=1e-8 if limit else 2e-5)


def copies(t=2400, seed=3):
    """Pairs of units that fire together in nine bins of ten: couplings that stand out of any noise."""
    rng = np.random.default_rng(seed)
    x = (rng.random((t, 6)) < 0.3).astype(np.int8)
    x[:, 3:] = x[:, :3] ^ (rng.random((t, 3)) < 0.1)
    return x


@pytest.mark.parametrize("worth, n_searches", [(maximum.PART_WORTH, 2), (np.inf, 1)])
def test_a_first_phase_on_a_part_leads_to_the_same_maximum(worth, n_searches, monkeypatch):
    x, searches = copies(), []
    right = maximum.newton.maximize
    monkeypatch.setattr(maximum.newton, "maximize", lambda *a, **k: searches.append(1) or right(*a, **k))
    monkeypatch.setattr(maximum, "PART_WORTH", worth)
    fit = fit_pairwise(x, test=0)
    assert len(searches) == n_searches
    a, c = plain_newton(x.astype(float))
    assert np.allclose(-2 * fit.A[np.triu_indices(6, 1)], a, atol=1e-7) and np.allclose(-fit.I, c, atol=1e-7)
    # the information of the last step is that of the maximum, also for the errors
    monkeypatch.setattr(maximum, "NEAR", 0.0)
    exact = fit_pairwise(x, test=0)
    assert np.allclose(fit.J_error, exact.J_error, rtol=2e-3, atol=0)  # information of a point NEAR nats away


class Stopped(Exception):
    pass


def stop_after(n):
    """A report that gives up at the n-th evaluation, as a kill would."""
    seen = []

    def report(line):
        seen.append(line)
        if sum("evaluation" in s for s in seen) > n:
            raise Stopped

    return report


@pytest.mark.parametrize("passes, make", [(False, raster), (True, raster), (True, copies)])
def test_a_search_goes_on_with_the_same_bits(tmp_path, monkeypatch, passes, make):
    if passes:
        monkeypatch.setattr(maximum, "SEARCH_SIZE", 0)
    monkeypatch.setattr(checkpoint.Checkpoint, "every_s", 0.0)
    keeper = checkpoint.Checkpoint.__init__.__defaults__
    monkeypatch.setattr(checkpoint.Checkpoint.__init__, "__defaults__", tuple(0.0 if d == 2.0 else d for d in keeper))
    x, path = make(), tmp_path / "fit.h5.search"
    fit_some = fit_k_pairwise if make is raster else fit_pairwise
    evaluations = []
    whole = fit_some(x, report=lambda line: evaluations.append("evaluation" in line))
    for n in (3, 4, 5, 7) if make is copies else (3,):
        with pytest.raises(Stopped):
            fit_some(x, checkpoint=path, report=stop_after(n))
        assert path.exists()
        left = []
        resumed = fit_some(x, checkpoint=path, report=lambda line, left=left: left.append("evaluation" in line))
        assert not path.exists() and sum(left) < sum(evaluations)
        for name, array in whole.arrays().items():
            assert np.array_equal(array, resumed.arrays()[name], equal_nan=True), name
    # another problem does not go on from there
    with pytest.raises(Stopped):
        fit_k_pairwise(x, checkpoint=path, report=stop_after(3))
    other = fit_k_pairwise(x, ridge=1.0, checkpoint=path)
    assert np.array_equal(other.A, fit_k_pairwise(x, ridge=1.0).A)
    path.write_text("mine")
    with pytest.raises(InputError, match="not the search of a fit"):
        fit_k_pairwise(x, checkpoint=path)
    assert path.read_text() == "mine"


def test_errors_of_a_large_fit_go_on_with_the_same_bits(tmp_path, monkeypatch):
    """Killed after one of the two tiles of targets: the other alone is made, and nothing is left behind."""
    monkeypatch.setattr(engine, "rows_bytes", lambda layout: np.inf)
    keeper = checkpoint.Checkpoint.__init__.__defaults__
    monkeypatch.setattr(checkpoint.Checkpoint.__init__, "__defaults__", tuple(0.0 if d == 2.0 else d for d in keeper))
    x, path = raster(n=40, t=500, rate=0.1), tmp_path / "fit.h5.search"
    whole = fit_neural(x, ridge=1.0)
    assert whole.errors_from == "rows"

    def stop(line):
        if line.startswith("errors: rows of units 0"):
            raise Stopped

    with pytest.raises(Stopped):
        fit_neural(x, ridge=1.0, checkpoint=path, report=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"fit.h5.search{end}" for end in ("", ".0")]
    made = []
    resumed = fit_neural(x, ridge=1.0, checkpoint=path, report=lambda line: made.append(line))
    assert [line for line in made if "errors: rows" in line] == ["errors: rows of units 32 to 39"]
    for name, array in whole.arrays().items():
        assert np.array_equal(array, resumed.arrays()[name], equal_nan=True), name
    assert not list(tmp_path.iterdir())
    # pieces of another problem are not used
    with pytest.raises(Stopped):
        fit_neural(x, ridge=1.0, checkpoint=path, report=stop)
    other = fit_neural(x, ridge=2.0, checkpoint=path)
    assert np.array_equal(other.A_error, fit_neural(x, ridge=2.0).A_error, equal_nan=True)
    assert not list(tmp_path.iterdir())


def test_twins_are_named():
    x = raster()
    x[:, 5] = x[:, 2]
    fit = fit_pairwise(x)
    assert any("units 2 and 5 fire in exactly the same bins" in w for w in fit.warnings) and "A[2,5]" in fit.unbounded
    ridged = fit_pairwise(x, ridge=1.0)
    assert any("2 and 5" in w for w in ridged.warnings) and ridged.J[2, 5] > 0.3


def test_more_parameters_than_bins():
    x = raster(n=30, t=25)
    with pytest.raises(InputError, match=r"training bins for .* parameters of each unit.*ridge"):
        fit_pairwise(x, test=0)
    fit = fit_pairwise(x, test=0, ridge=5.0)
    assert any("expect large errors" in w for w in fit.warnings) and np.isfinite(fit.J).all()
    assert not any("expect large errors" in w for w in fit_pairwise(raster()).warnings)


def test_sick_data_of_every_family():
    x = raster()
    x[:, 3] = 0
    x[:, 4] = 1
    for fit in (fit_pairwise(x), fit_neural(x, lags=(1,)), fit_k_pairwise(x), fit_lagged(x, k_max=1)):
        assert {"I[3]", "I[4]", "A[3,4]"} <= set(fit.unbounded)
        assert np.isfinite(list(fit.score.values())[1:]).all() and np.isfinite(fit.I).all()
        json = fit_json(fit)
        assert json["model"] == fit.model and np.isfinite(json["score"]["test"])
    for wrong, words in (
        (np.full((20, 2), np.nan), "values from nan"),
        ([x, np.zeros((0, 6), np.int8)], "raster 1 has shape"),
        ([], "rasters = "),
    ):
        for call in (fit_k_pairwise, fit_lagged):
            with pytest.raises(InputError, match=words):
                call(wrong)
    for k_max in (-1, 1500, 1.5, True):
        with pytest.raises(InputError, match="k_max"):
            fit_lagged(x, k_max=k_max)


def test_a_refractory_unit_is_held_and_named():
    x = raster()
    x[1:, 0] &= 1 - x[:-1, 0]
    while (x[1:, 0] & x[:-1, 0]).any():
        x[1:, 0] &= 1 - x[:-1, 0]
    fit = fit_lagged(x, k_max=1)
    assert "J_lag[1,0,0]" in fit.unbounded and fit.J_lag[0, 0, 0] < -2 and np.isnan(fit.J_lag_error[0, 0, 0])
    assert fit_lagged(x, k_max=1, ridge=1.0).J_lag[0, 0, 0] < -0.5


def test_counts_that_never_occur_are_merged_and_named():
    x = raster(n=8, rate=0.2)
    x[x.sum(axis=1) == 5] = 0
    fit = fit_k_pairwise(x)
    assert [name for name in fit.unbounded if name[0] == "V"] == [f"V[{k}]" for k in range(5, 9)]
    top = int(x.sum(axis=1).max())  # V is continued beyond it: lft.inference.likelihood.counts
    assert 5 < top < 8 and np.all(fit.V[5 : top + 1] == fit.V[4]) and np.all(np.diff(fit.V[top:]) <= 0)
    assert fit.V[8] < fit.V[top] and np.isnan(fit.V_error[5:]).all() and np.all(fit.V[:3] == 0)
    assert 0 < fit.V_error[3] < 1 and any("V[5]" in w and "constant" in w for w in fit.warnings)


def test_a_level_that_runs_away_joins_the_lower_one(monkeypatch):
    """A level counts as running away above an error that only the highest, seen in few bins, exceeds."""
    x = (np.random.default_rng(3).random((6000, 5)) < 0.3).astype(np.int8)
    free = fit_k_pairwise(x, test=0)
    assert free.V_error[5] > 2 * free.V_error[4] and "V[5]" not in free.unbounded
    monkeypatch.setattr("lft.inference.newton.RUNAWAY", 0.4 * free.V_error[5])  # that of the inverse information
    assert max(np.nanmax(2 * free.A_error), free.V_error[3]) < 0.4 * free.V_error[5]
    fit = fit_k_pairwise(x, test=0)
    assert fit.unbounded == ["V[5]"] and fit.V[5] == fit.V[4] and np.isnan(fit.V_error[5])


def test_files_hold_all_arrays(tmp_path):
    x = raster()
    save_fit(fit_k_pairwise(x), tmp_path / "k.h5")
    save_fit(fit_lagged(x, k_max=2), tmp_path / "lagged.h5")
    k, lagged = load_fit(tmp_path / "k.h5"), load_fit(tmp_path / "lagged.h5")
    assert k.model == "k-pairwise" and k["V"].shape == k["V_error"].shape == (7,)
    assert np.allclose(k["J"], -k["A"] / 2) and "V[3]" in k.couplings
    assert lagged.model == "lagged" and lagged["J_lag"].shape == (2, 6, 6) and "J_lag[2,0,5]" in lagged.couplings
    assert np.allclose(lagged["h"], -lagged["I"] / 2 - lagged["A"].sum(axis=1) / 2)


def test_memory_is_stated_and_bounded():
    x = raster()
    lines = []
    fit_pairwise(x, report=lines.append)
    assert lines[0].startswith("memory: about") and "GB per rank for 21 couplings" in lines[0]
    big = "units .* this machine has .* GB: about [0-9]+ units would fit"
    with pytest.raises(InputError, match=f"1000000 {big}"):
        memory.check_memory(10**6, 0, 0, False, 10, 0)
    with pytest.raises(InputError, match=f"100000 {big}"):  # refused before anything of N x N is made
        fit_pairwise((np.random.default_rng(0).random((40, 100000)) < 0.3).astype(np.int8), ridge=1.0)
    for options in ((0, 0, False), (2, 0, False), (0, 3, True)):
        few, many = (memory.needed(n, *options, 10**5, 10**6) for n in (100, 1000))
        assert few < many < 200 * few


def test_large_fits_name_fields_alone(monkeypatch):
    monkeypatch.setattr("lft.inference.pseudo.result.MAX_NAMED", 10)
    fit = fit_pairwise(raster())
    assert set(fit.named()) == {f"h[{i}]" for i in range(6)} and fit.arrays()["J"].shape == (6, 6)


def test_fields_beside_a_held_pair_have_no_error_where_rows_do_not_fit(monkeypatch):
    from lft.inference.pseudo import fit, information, maximum

    raster = (np.random.default_rng(0).random((20000, 8)) < 0.1).astype(np.int8)
    raster[raster[:, 0] == 1, 1] = 0
    whole = fit.fit_gibbs("neural", raster, test=0.0)
    for module in (fit, information, maximum):
        monkeypatch.setattr(module, "ROWS_BYTES", 0)
    by_rows = fit.fit_gibbs("neural", raster, test=0.0)
    assert {"A[0,1]", "I[0]", "I[1]"} <= set(by_rows.unbounded) and np.isfinite(by_rows.I_error[2:]).all()
    assert "A[0,1]" in whole.unbounded and np.abs(whole.A - by_rows.A).max() < 1e-4
