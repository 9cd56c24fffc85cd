"""Bootstrap and posterior of kinetic and GLM fits: the written-out likelihood, exact posteriors, and the command."""

import itertools
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from lft.commands.fit_units import UnitErrors
from lft.errors import InputError
from lft.inference.basis import make_basis
from lft.inference.causal import rows
from lft.inference.causal.fit import fit_glm, fit_kinetic
from lft.inference.causal.model import CausalModel
from lft.inference.causal.objective import CausalObjective
from lft.inference.inputs import InputDesign, Smooth
from lft.inference.protocols import Objective
from lft.inference.uncertainty.bootstrap import bootstrap, finite_maximum
from lft.inference.uncertainty.posterior import Prior, sample_posterior
from tests.helpers import load_json
from tests.unit.test_uncertainty import LIMIT, posterior_z


def examined(fit, *args, **options):
    """What an examination sees: [(objective, theta, influences, Examined)] by target, and the fit."""
    seen = []
    return seen, fit(*args, examine=lambda *parts: seen.append(parts), **options)


def rasters(link, n=4, seed=0):
    rng = np.random.default_rng(seed)
    if link == "poisson":
        return [rng.poisson(0.4, (t, n)).astype(np.int8) for t in (300, 200)]
    return [(rng.random((t, n)) < 0.2).astype(np.int8) for t in (300, 200)]


@pytest.mark.parametrize("link", ["logit", "cloglog", "poisson"])
@pytest.mark.parametrize("case", ["basis", "sparse", "joined"])
def test_the_written_out_likelihood_is_that_of_the_spikes(link, case, monkeypatch):
    """Value, derivatives, stretches and repeated rows of one target against the sums over spikes."""
    monkeypatch.setattr(rows, "DENSE", 1.0 if case == "sparse" else 0.0)
    cross, own = make_basis("raised-cosine", 2, 5), make_basis("bspline", 3, 5)
    if case != "basis":
        cross = own = make_basis("identity", 1, 1)
    options = {"family": "poisson"} if link == "poisson" else {"link": link}
    inputs = None if case == "joined" else InputDesign([Smooth(4)])
    seen, fit = examined(fit_glm, rasters(link), basis=cross, own_basis=own, inputs=inputs, test=0.1, **options)
    rng = np.random.default_rng(1)
    for o, theta, _, one in seen:
        assert isinstance(o, Objective) and isinstance(o.X, np.ndarray) == (case != "sparse")
        same = CausalObjective(one.task.design, [one.target], one.task.n_train, {one.target: one.bounds.keep})
        assert o.names() == same.names()
        at = theta + 0.1 * rng.normal(size=o.size)
        drawn = [(10, 60), (10, 60), (250, 420), (310, 320)]  # the last lies in the one before: repeated too
        for a, b in ((o, same), (o.over(drawn), same.over(drawn))):
            (value, gradient, make), (v, g, m) = a.evaluate(at), b.evaluate(at)
            assert abs(value - v) < 1e-9 * abs(v) and np.allclose(gradient, g, atol=1e-9)
            assert np.allclose(make(None).solve(np.eye(o.size)), m(None).solve(np.eye(o.size)))
            assert np.allclose(a.score(at, 20, 130), b.score(at, 20, 130), atol=1e-9)
            assert abs(a.log_likelihood(at, 20, 130) - b.log_likelihood(at, 20, 130)) < 1e-9 * abs(v)
        value, gradient, make = o.evaluate(at)
        assert (o.join().joined is not None) == (case == "joined")
        again = o.evaluate(at)
        assert abs(again[0] - value) < 1e-9 * abs(value) and np.allclose(again[1], gradient, atol=1e-9)
        assert np.allclose(again[2](None).solve(gradient), make(None).solve(gradient))
        whole = [o.score(at, a, b) for a, b in drawn]
        assert np.allclose(o.over(drawn).evaluate(at)[1], np.sum(whole, axis=0))
        h, J = one.on_grid(np.stack([theta, theta]))
        assert np.allclose(h, fit.h[one.target]) and np.allclose(J, fit.J_lag[:, one.target])


def test_too_large_to_write_out(monkeypatch):
    monkeypatch.setattr(rows, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="select fewer units"):
        examined(fit_kinetic, rasters("logit"))


# ---- posterior
def one_unit(link, n_bins=80, seed=3):
    """A unit that couples to its own last bin: parameters c and w."""
    J = np.full((1, 1, 1), 0.3 if link == "poisson" else 0.8)
    model = CausalModel(np.array([-1.5 if link != "poisson" else -1.0]), J, link)
    raster = model.simulate(n_bins, seed=seed)[0]
    options = {"family": "poisson"} if link == "poisson" else {"link": link}
    seen, _ = examined(fit_glm, raster, test=0.0, **options)
    return raster, seen[0]


def grid_moments(raster, link, prior, times=1):
    """Mean and covariance of (c, w) by quadrature of the definition; c has a flat prior."""
    axes = np.linspace(-7, 5, 601), np.linspace(-6, 6, 601)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    x, y = raster[:-1, 0].astype(float), raster[1:, 0].astype(float)
    log_p = -np.abs(points[:, 1] / prior.scale) if prior.kind == "laplace" else -0.5 * (points[:, 1] / prior.scale) ** 2
    for past, now in itertools.product(np.unique(x), np.unique(y)):
        count = times * ((x == past) & (y == now)).sum()
        eta = points[:, 0] + past * points[:, 1]
        if link == "poisson":
            log_p += count * (now * eta - np.exp(eta))
        else:
            p = 1 / (1 + np.exp(-eta)) if link == "logit" else -np.expm1(-np.exp(eta))
            with np.errstate(divide="ignore"):
                log_p += count * (np.log(p) if now else np.log1p(-p)) if count else 0.0
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    mean = w @ points
    return mean, (points - mean).T @ ((points - mean) * w[:, None])


@pytest.mark.parametrize("link", ["logit", "cloglog", "poisson"])
def test_posterior_on_a_grid(link):
    """Means, variances and covariance by quadrature; mutants: another prior, data counted twice."""
    raster, (_, _, _, one) = one_unit(link)
    wide, start = one.whole()
    prior = Prior("laplace" if link == "logit" else "gaussian", 0.7)
    p = sample_posterior(wide, start, prior=prior, adjust=False, n_samples=1000, n_warmup=150, seed=4)
    worst = lambda moments: max(np.abs(z).max() for z in posterior_z(p, *moments))  # noqa: E731
    mean, covariance = grid_moments(raster, link, prior)
    assert worst((mean, covariance)) < LIMIT and p.divergences == 0
    assert p.sd / np.sqrt(np.diag(covariance)) == pytest.approx(1, abs=0.07)
    assert worst(grid_moments(raster, link, Prior(prior.kind, 1.4))) > LIMIT
    assert worst(grid_moments(raster, link, prior, times=2)) > LIMIT


def test_posterior_bounds_what_has_no_maximum():
    """A unit never fires in the bin after another: no maximum, but a posterior; chains are numbered."""
    rng = np.random.default_rng(2)
    raster = (rng.random((600, 2)) < 0.3).astype(np.int8)
    raster[1:, 1] &= ~raster[:-1, 0]
    seen, fit = examined(fit_glm, raster, test=0.0)
    assert "J[1,1,0]" in fit.unbounded
    one = seen[1][3]
    wide, start = one.whole()
    assert wide.size == 3 and seen[1][0].size == 2
    options = {"prior": Prior("gaussian", 2.0), "adjust": False, "n_samples": 200, "n_warmup": 100, "n_chains": 2}
    p = sample_posterior(wide, start, **options)
    h, J = one.on_grid(p.samples.reshape(-1, 3), whole=True)
    assert np.array_equal(h, p.samples.reshape(-1, 3)[:, 0]) and -8 < J[:, 0, 0].mean() < -2 and J[:, 0, 0].max() < 0
    other = sample_posterior(wide, start, first_chain=2, **options)
    assert abs(np.corrcoef(p.samples[..., 0].ravel(), other.samples[..., 0].ravel())[0, 1]) < 0.25
    assert np.array_equal(sample_posterior(wide, start, first_chain=1, **options).samples[0], p.samples[1])


# ---- bootstrap
def test_bootstrap_error_of_a_chain_is_the_exact_one():
    """One unit of its own past: var w is the sum of the inverse counts of the four transitions."""
    raster, (o, theta, _, _) = one_unit("logit", 6000)
    edges = np.linspace(0, o.n_rows, 301).astype(int)
    b = bootstrap(o, theta, n_samples=300, seed=1, fit=finite_maximum, edges=edges)
    before, after = raster[:-1, 0], raster[1:, 0]
    counts = [((before == x) & (after == y)).sum() for x in (0, 1) for y in (0, 1)]
    exact = np.sqrt(np.sum(1 / np.array(counts, float)))
    spread = 1 / np.sqrt(2 * 300) + 1 / np.sqrt(2 * 300)  # samples, and blocks
    assert abs(b.error[1] / exact - 1) < 4.5 * spread / np.sqrt(2)

    class Once:  # mutant: a block that is drawn twice counts once
        size, n_rows, names, evaluate, score = o.size, o.n_rows, o.names, o.evaluate, o.score

        def over(self, ranges):
            return o.over(sorted(set(ranges)))

    wrong = bootstrap(Once(), theta, n_samples=300, seed=1, fit=finite_maximum, edges=edges)
    assert abs(wrong.error[1] / exact - 1) > 4.5 * spread / np.sqrt(2)


def test_parameters_without_a_maximum_in_samples_are_named():
    rng = np.random.default_rng(0)
    raster = (rng.random((4000, 2)) < 0.2).astype(np.int8)
    raster[1:, 1] &= ~raster[:-1, 0]
    raster[[100, 101], [0, 1]] = 1
    raster[101, 0] = raster[102, 1] = 0  # one spike behind the other unit: one sample in three has none
    seen, _ = examined(fit_glm, raster, test=0.0)
    o, theta, _, _ = seen[1]
    b = bootstrap(o, theta, n_samples=60, fit=finite_maximum, n_blocks=40)
    assert np.isnan(b.error[1]) and np.isfinite(b.error[[0, 2]]).all() and b.n_failed == 0
    assert any("C[1,1,0]" in w for w in b.warnings)
    low, high = b.interval()
    assert np.isnan(low[1]) and (low[[0, 2]] < high[[0, 2]]).all()


# ---- command
@pytest.mark.parametrize(
    "model",
    [
        "kinetic --lags 2",
        "glm --basis raised-cosine:2:50ms --own-basis bspline:3:50ms --input smooth:3",
        "kinetic --ridge 2",
    ],
)
def test_command(lft_main, model):
    J = np.random.default_rng(0).normal(0, 0.25, (1, 3, 3))
    raster = CausalModel.of_spins(np.full(3, -0.7), J).simulate(1000, seed=1)[0]
    np.savez("r.npz", raster=raster.T, bin_s=0.01)
    out = lft_main(f"fit r.npz --model {model} --bootstrap 20 --posterior 40 -o f.h5 --json f.json").out
    data = load_json("f.json")
    with h5py.File("f.h5") as file:
        arrays = {name: file[name][()] for name in file}
    size = len(arrays["parameter_names"])
    assert arrays["posterior_samples"].shape == (4, 40, size) and arrays["bootstrap_error"].shape == (size,)
    for name in ("h", "J_lag"):
        assert arrays[f"{name}_posterior_sd"].shape == arrays[f"{name}_bootstrap_error"].shape == arrays[name].shape
        low, high = arrays[f"{name}_bootstrap_low"], arrays[f"{name}_bootstrap_high"]
        known = np.isfinite(low)
        assert known.any() and (low[known] <= high[known]).all()
        ratio = arrays[f"{name}_bootstrap_error"][known] / arrays[f"{name}_error"][known]
        assert 0.6 < np.median(ratio) < 1.6
        sd = arrays[f"{name}_posterior_sd"][known] / arrays[f"{name}_error"][known]
        assert 0.5 < np.median(sd) < 1.6
        center = arrays[f"{name}_posterior_mean"] - arrays[name]
        assert np.abs(center[known] / arrays[f"{name}_error"][known]).max() < 3
    # the tables are the flat samples in the convention of the fit
    where = list(arrays["parameter_names"]).index(b"c[1]")
    flat = arrays["posterior_samples"][..., where].mean()
    J = arrays["J_lag_posterior_mean"][:, 1].sum() if "kinetic" in model else 0.0
    assert arrays["h_posterior_mean"][1] == pytest.approx(flat / (2 if "kinetic" in model else 1) + J, abs=1e-5)
    assert data["bootstrap"]["samples"] == 20 and data["posterior"]["divergences"] == 0
    assert "bootstrap: 20 samples" in out and "posterior: 4 x 40 samples" in out


def test_units_of_several_ranks_are_joined():
    """What two ranks found, gathered in any order, is what one finds."""
    args = SimpleNamespace(bootstrap=4, posterior=4)
    errors = UnitErrors(args, Prior(), 3, lambda target: {})
    fit_kinetic(rasters("logit", 3)[0], test=0.0, examine=errors)

    def attached(*parts):
        plan = SimpleNamespace(arrays={}, report={}, lines=[], warnings=[])
        mine, errors.units = errors.units, parts[0]
        errors.attach(plan, 3, SimpleNamespace(allgather=lambda units: list(parts)))
        errors.units = mine
        return plan

    whole = attached(errors.units)
    for split in ({1}, {0, 2}):
        one, other = ({i: u for i, u in errors.units.items() if (i in split) == side} for side in (True, False))
        plan = attached(one, other)
        assert plan.report == whole.report and plan.lines == whole.lines and plan.arrays.keys() == whole.arrays.keys()
        for name, values in whole.arrays.items():
            same = values == plan.arrays[name]
            assert (same | (values != values)).all(), name
