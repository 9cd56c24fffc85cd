"""Normalizations and Boltzmann learning by chains, against sums over all states; what must not pass."""

from importlib import import_module

import numpy as np
import pytest

from lft.errors import DivergenceError, InputError
from lft.inference.likelihood import (
    GibbsModel,
    exact,
    fit_boltzmann,
    fit_exact,
    load_model,
    log_likelihood,
    log_z_difference,
    normalization,
)
from lft.inference.likelihood import boltzmann as module
from lft.inference.likelihood.exact_fit import ExactObjective, Problem
from lft.inference.likelihood.joint import keeps_firing
from lft.inference.likelihood.memory import memory
from lft.inference.likelihood.operators import Operators
from lft.inference.likelihood.products import add_products
from lft.inference.likelihood.sampling import Chains
from lft.inference.likelihood.stretches import Stretches
from lft.testing.statistics import assert_agrees

norm = import_module("lft.inference.likelihood.normalization")  # the package has a function of that name


def pairwise(n=8, size=0.8, seed=0):
    rng = np.random.default_rng(seed)
    a = np.triu(rng.normal(0, size, (n, n)), 1)
    return GibbsModel(rng.normal(-1, 0.4, n), a + a.T)


def spacetime():
    return GibbsModel([-1.2, -0.8, -1.0], [[0, 0.7, -0.4], [0.7, 0, 0.3], [-0.4, 0.3, 0]], None, {1: 0.7, 2: -0.4})


def test_quadrature():
    for power in range(23):
        assert norm.KRONROD @ norm.NODES**power == pytest.approx(1 / (power + 1), abs=1e-15)
    assert norm.GAUSS @ norm.NODES**13 == pytest.approx(1 / 14, abs=1e-15)


@pytest.mark.parametrize(("method", "limit"), [("annealing", 0.02), ("integration", 0.003)])
def test_log_z_of_a_bin(method, limit):
    model = pairwise(12)
    exactly = normalization(model).per_bin
    found = normalization(model, method=method, seed=2)
    assert_agrees((found.per_bin, found.per_bin_error), exactly)
    assert found.per_bin_error < limit
    wrong = normalization(model.scaled(0.9), method=method, seed=2)  # the mutant: couplings a tenth too small
    if method == "integration":
        with pytest.raises(AssertionError):
            assert_agrees((wrong.per_bin, wrong.per_bin_error), exactly)


def test_log_z_of_a_stretch():
    """Bulk and ends of a space-time model, from the transfer matrix."""
    model = spacetime()
    found = normalization(model, method="integration", seed=1, n_chains=128)
    exactly = normalization(model)
    assert_agrees((found.per_bin, found.per_bin_error), exactly.per_bin)
    assert_agrees((found.ends, found.ends_error), exactly.ends)
    assert found.per_bin_error < 1e-3 and found.ends_error < 0.1
    value, error = found.log_z(500)
    assert_agrees((value, error), exact.log_z(model, 500))


def test_annealing_that_fails_says_so():
    with pytest.raises(DivergenceError, match="count as"):
        norm._mean_exp(np.concatenate([np.zeros(127), [40.0]]))
    with pytest.warns(Warning, match="may be too small"):
        norm._mean_exp(np.concatenate([np.full(20, 9.0), np.zeros(1004)]))


def test_difference_of_normalizations():
    first, second = pairwise(10), pairwise(10).scaled(1.05)
    exactly = exact.log_z(second, 1) - exact.log_z(first, 1)
    assert_agrees(log_z_difference(first, second, seed=3), exactly, relative_error_max=0.02)


def test_likelihood_by_chains():
    model = pairwise(10)
    raster = model.simulate(300, seed=1)[0]
    best, found = log_likelihood(model, [raster]), log_likelihood(model, [raster], method="integration", seed=4)
    assert_agrees((found.value, found.error), best.value)
    assert 0 < found.error < 300 * 0.005


@pytest.mark.parametrize("case", ["static", "space-time"])
def test_moments_of_stretches(case):
    """Total operators of a recording, its noise reduced, and their covariance."""
    model = pairwise(6) if case == "static" else spacetime()
    rasters = [np.zeros((400, model.n_units), np.int8), np.zeros((40, model.n_units), np.int8)]
    rasters[0][::2] = rasters[1][1::3] = 1
    rasters[0][5, 0] = 0
    problem = Problem(rasters, "pairwise" if case == "static" else "neural", (1, 2), 0.0, 1.0)
    objective = ExactObjective(problem.operators, problem.train)
    theta = problem.operators.theta(model)
    expected, H = objective.expected(theta), objective.evaluate(theta)[2](None)
    stretches = Stretches(problem.operators, model, problem.train, 8, 5, 1)
    moments = stretches.moments(0.05)
    z = (moments.total - expected) / moments.error
    assert np.abs(z).max() < 4.5
    noise = np.sqrt(stretches.covariance(100 if case == "static" else 4)[0].diagonal())
    assert np.allclose(noise**2, H.diagonal(), rtol=0.1 if case == "static" else 0.2)
    assert (moments.error < 0.3 * noise).all()
    off = Stretches(problem.operators, model.scaled(0.8), problem.train, 8, 5, 1).moments(0.05)
    assert np.abs((off.total - expected) / off.error).max() > 4.5  # the mutant


@pytest.mark.parametrize("family", ["pairwise", "k-pairwise", "neural", "lagged"])
def test_boltzmann_learning_finds_the_maximum(family):
    truth = {
        "pairwise": pairwise(5),
        "k-pairwise": GibbsModel(np.full(5, -1.0), 0.3 * (1 - np.eye(5)), [0, 0, 0, 0.8, 1.0, 0.5]),
        "neural": spacetime(),
        "lagged": GibbsModel([-1.0, -0.5], None, None, None, [[[0.4, 0.8], [-0.6, 0]]]),
    }[family]
    is_late = family in ("neural", "lagged")
    raster = truth.simulate(600 if is_late else 1500, seed=1)[0]
    options = {"model": family, "lags": (1, 2), "test": 0.1}
    best = fit_exact(raster, **options)
    start = GibbsModel(truth.c)  # far from the maximum
    fit = fit_boltzmann(raster, start=start, n_chains=256 if is_late else 512, seed=2, accuracy=0.02, **options)
    for name, (value, error) in best.named().items():
        if np.isfinite(error) and error > 0:
            assert abs(fit.named()[name][0] - value) < 0.45 * error, name  # chains add little
            assert fit.named()[name][1] == pytest.approx(error, rel=0.25)
    assert fit.checks["worst_z"] < 3 and fit.checks["rms_z_chains"] < 3
    assert fit.score["train"] == pytest.approx(best.score["train"], abs=5e-4)
    assert fit.checks["gain_over_start"][0] > 5


def bursts():
    """Four sparse units, two of them nearly one, that keep each other active: directed couplings in both directions."""
    a = np.zeros((4, 4))
    a[0, 1] = a[1, 0] = 5.0
    C = np.array([[1.5, 0.0, 1.5, 0.0], [0.0, 1.5, 0.0, 1.0], [1.0, 0.5, 0.0, 1.5], [0.0, 1.5, 1.0, -2.0]])
    return GibbsModel([-5.5, -5.0, -4.2, -4.0], a, None, None, C[None])


def check_bursts(seed):
    """Directed couplings of few spikes, from independent units: the maximum of the transfer matrix, nothing else."""
    truth = bursts()
    raster = truth.simulate(20_000, seed=seed + 2)[0]
    options = {"model": "lagged", "test": 0.0, "ridge": 1.0}
    best = fit_exact(raster, **options)
    rate = raster.mean(axis=0)
    start = GibbsModel(np.log(rate / (1 - rate)))
    fit = fit_boltzmann(raster, start=start, n_chains=256, seed=seed, accuracy=0.03, **options)
    exactly = ExactObjective(Problem(raster, "lagged", (), 0.0, 1.0, 1).operators, [raster], 1.0)
    theta, at = (exactly.operators.theta(load_model(x)) for x in (fit, best))
    top, _, make = exactly.evaluate(at)
    assert 0 <= top - exactly.evaluate(theta)[0] < 0.05 * exactly.size  # nats; chains of 33 recordings leave p/66
    # by the information: blocks of time have no error for a coupling whose event occurs once
    assert (np.abs(theta - at) < 0.7 * np.sqrt(make(None).inverse_diagonal())).all()
    assert not any("not at its maximum" in line for line in fit.warnings)
    mutant = exactly.operators.theta(truth.scaled(0.9))  # couplings a tenth too small
    assert top - exactly.evaluate(mutant)[0] > 0.05 * exactly.size


def test_boltzmann_learning_of_sparse_bursts():
    check_bursts(1)


NAMED = (
    r"\d+ of 2\d moments .*: [aCc]\[[\d,]+\] \(\d+ recorded, [\d.e+-]+ in chains, z = [+-][\d.e+]+\).*"
    "; give a larger --ridge"
)
BURSTS = {"model": "lagged", "start": GibbsModel(np.full(4, -3.0)), "ridge": 1.0, "n_chains": 128, "accuracy": 0.5}


def _everything_strays(monkeypatch):
    def arrived(self, state):
        return self.stretches(state.theta, state.seeds) if np.array_equal(state.theta, state.back) else None

    monkeypatch.setattr(module._Learner, "arrived", arrived)
    monkeypatch.setattr(module, "SMALLEST", 0.2)


def _nothing_is_gained(monkeypatch):
    monkeypatch.setattr(module._Learner, "promise", lambda self, residual, moments: (1e4, 1.0))
    monkeypatch.setattr(module, "STALLED", 2)


def _nothing_settles(monkeypatch):
    def thermalize(self, **trial):
        self.is_settled = False
        return 32, 1

    monkeypatch.setattr(Chains, "thermalize", thermalize)


@pytest.mark.parametrize(
    ("ends", "options", "reason"),
    [
        (None, {"max_steps": 1}, "not converged after 1 steps; what is left of the gradient promises .* nats"),
        (_everything_strays, {}, "even small ones lead into another state, which the recording does not visit"),
        (_nothing_is_gained, {}, r"no progress in the last 2 of \d steps"),
        (_nothing_settles, {}, "still differ after 2048 sweeps: the model has several states"),
    ],
)
def test_every_end_without_a_maximum_names_what_is_off(monkeypatch, ends, options, reason):
    raster = bursts().simulate(2000, seed=3)[0]
    if ends is not None:
        ends(monkeypatch)
    with pytest.raises(DivergenceError, match=f"Boltzmann learning: .*{reason}.*{NAMED}") as raised:
        fit_boltzmann(raster, **BURSTS, **options)
    assert "\n" not in str(raised.value)


def test_a_state_in_which_units_keep_on_firing(monkeypatch):
    """Steps that lead there are refused, whatever chains that begin as recorded say; the end names it and a way out."""
    model = bursts()
    assert not keeps_firing(model, float(model.simulate(3000, seed=1)[0].sum(axis=1).mean()))
    assert keeps_firing(GibbsModel(model.c, model.a, None, None, 3 * model.C), 0.3)
    raster = model.simulate(2000, seed=3)[0]
    monkeypatch.setattr(module, "keeps_firing", lambda model, rate, seed: True)
    monkeypatch.setattr(module, "SMALLEST", 0.2)
    with pytest.raises(DivergenceError, match=r"steps led into a state in which units keep on firing.*kinetic or glm"):
        fit_boltzmann(raster, **BURSTS)


def test_two_units_that_single_flips_do_not_move():
    x = pairwise(4).simulate(1, seed=1, n_chains=800)[:, 0]
    for other in (x[:, 0], 1 - x[:, 0]):
        with pytest.raises(InputError, match="units 0 and 4 fire in exactly the same bins, or the one where"):
            fit_boltzmann(np.column_stack([x, other]))


MEMORIES = {
    "alone": GibbsModel([-4.0], b={1: 4.0}),
    "together": GibbsModel([-4.0, -4.0], [[0, 1], [1, 0]], C=[[[0, 3.0], [3.0, 0]]]),  # no self-coupling at all
    "around": GibbsModel([-3.0] * 3, C=[np.zeros((3, 3)), [[0, 4.0, 0], [0, 0, 4.0], [4.0, 0, 0]]]),
    "repulsion": GibbsModel([-3.0, -2.0], C=[[[-8.0, 0], [0, -8.0]]]),
}


@pytest.mark.parametrize("case", MEMORIES)
def test_memory(case):
    """Slowest mode of chains against the second eigenvalue of the transfer matrix."""
    model = MEMORIES[case]
    transfer = exact.Transfer(model)
    matrix = [transfer.forward(x) for x in np.eye(len(transfer.step))]
    first, second = np.sort(np.abs(np.linalg.eigvals(matrix)))[:-3:-1]
    slowest = 1 / np.log(first / second)
    assert memory(model) == pytest.approx(slowest, rel=0.15)
    assert model.margin() >= 15 * slowest
    own = np.abs(np.einsum("kii->ki", model.lagged)).sum(axis=0).max()  # the mutant: self-couplings alone
    if case != "alone":
        assert abs(-1 / np.log(np.tanh(max(own, 1e-3) / 4)) / slowest - 1) > 0.5


@pytest.mark.parametrize("p", [0.02, 0.5])
def test_products_of_sparse_tables(p):
    """The same whole numbers as from the dense table, with pairs that are not free and levels of the count."""
    rng = np.random.default_rng(1)
    pairs = np.argwhere(np.triu(rng.random((30, 30)) < 0.8, 1))
    op = Operators(30, pairs, (), ((3,), (4, 5, 6)), np.arange(1, 30), np.zeros(30))
    x = (rng.random((4000, 1, 30)) < p).astype(np.int8)
    table = op.values(x)
    assert np.array_equal(op.sparse_values(x[:, 0]).toarray(), table)
    first, second = np.zeros(op.size), np.zeros((op.size,) * 2)
    add_products(op, x[:2500], first, second)
    add_products(op, x[2500:], first, second)
    assert np.array_equal(first, table.sum(axis=0)) and np.array_equal(second, table.T @ table)
    x[7, 0, 3] ^= 1  # the mutant: one spike
    assert not np.array_equal(op.sparse_values(x[:, 0]).toarray(), table)


def test_boltzmann_learning_goes_on_after_a_kill(tmp_path, monkeypatch):
    raster = pairwise(4).simulate(1000, seed=1)[0]
    options = {"start": GibbsModel(np.zeros(4)), "n_chains": 128, "seed": 3, "accuracy": 0.2}
    whole = fit_boltzmann(raster, **options)
    path, saves = tmp_path / "f.search", []
    save = module.Store.save

    def killed(self, state):
        save(self, state)
        saves.append(state.step)
        if len(saves) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.Store, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_boltzmann(raster, checkpoint=path, **options)
    monkeypatch.setattr(module.Store, "save", save)
    with pytest.raises(InputError, match="another fit"):
        fit_boltzmann(raster[:-1], checkpoint=path, **options)
    resumed = fit_boltzmann(raster, checkpoint=path, **options)
    assert np.array_equal(resumed.J, whole.J) and np.array_equal(resumed.J_error, whole.J_error)
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "glm"}, "model 'glm': valid for Boltzmann learning are .*lagged"),
        ({"model": "lagged", "k_max": 0}, r"lags = \(0,\)"),
        ({"accuracy": 0}, "accuracy = 0"),
        ({"n_chains": 100}, "n_chains = 100"),
        ({"start": GibbsModel([0.0])}, "start has 1 units"),
    ],
)
def test_bad_requests(options, message):
    raster = (np.random.default_rng(0).random((100, 3)) < 0.3).astype(np.int8)
    with pytest.raises(InputError, match=message):
        fit_boltzmann(raster, **options)
    with pytest.raises(InputError, match="valid are auto"):
        normalization(pairwise(3), method="guess")
    with pytest.raises(InputError, match="n_chains = 7"):
        normalization(pairwise(3), n_chains=7)


# ---- long checks
@pytest.mark.validate
@pytest.mark.parametrize("method", ["annealing", "integration"])
def test_errors_of_log_z_are_calibrated(method):
    model = pairwise(12, 1.0, 3)
    exactly = normalization(model).per_bin
    found = [normalization(model, method=method, seed=s, n_chains=512) for s in range(60)]
    z = np.array([(f.per_bin - exactly) / f.per_bin_error for f in found])
    assert np.abs(z).max() < 4.5 and 0.8 < z.std() < 1.25 and abs(z.mean()) < 4.5 / np.sqrt(60)


@pytest.mark.validate
def test_errors_of_exact_fits_are_calibrated():
    truth = pairwise(5, 0.5, 4)
    z = []
    for seed in range(100):
        fit = fit_exact(truth.simulate(4000, seed=seed)[0], test=0)
        upper = np.triu_indices(5, 1)
        z.append(((fit.J - truth.a / 4)[upper]) / fit.J_error[upper])
    z = np.array(z)
    assert 0.9 < z.std() < 1.1 and np.abs(z.mean(axis=0)).max() < 4.5 / 10
    assert 0.93 < (np.abs(z) < 1.96).mean() < 0.97


@pytest.mark.validate
@pytest.mark.parametrize("seed", range(2, 10))
def test_boltzmann_learning_of_bursts_over_seeds(seed):
    check_bursts(seed)


@pytest.mark.validate
@pytest.mark.parametrize("accuracy", [0.02, 0.05])
def test_chains_add_no_more_than_accuracy_allows(accuracy):
    """Distance from the exact maximum, in standard errors of the recording, over 20 recordings."""
    z = []
    for seed in range(20):
        raster = pairwise(5).simulate(1500, seed=seed)[0]
        best = fit_exact(raster, test=0.0, ridge=1.0).named()
        fit = fit_boltzmann(raster, test=0.0, ridge=1.0, n_chains=512, seed=seed, accuracy=accuracy).named()
        z.append([(fit[name][0] - value) / error for name, (value, error) in best.items()])
    z = np.array(z)
    print(f"accuracy {accuracy}: rms {np.sqrt((z**2).mean()):.3f}, largest {np.abs(z).max():.3f}")
    assert np.sqrt((z**2).mean()) < np.sqrt(accuracy) and np.abs(z).max() < 4.5 * np.sqrt(accuracy)


@pytest.mark.validate
def test_boltzmann_learning_beats_the_pseudo_likelihood():
    """100 units, 5e4 bins: all 5050 moments within 3 errors of new chains, and a likelihood above that of its start,
    the maximum of the pseudo-likelihood; the mutant, its couplings a tenth too small, lies below.  80 s of one core."""
    rng = np.random.default_rng(0)
    J = np.triu(rng.normal(0, 0.05, (100, 100)), 1)
    J, h = J + J.T, rng.uniform(-1, -0.2, 100)
    raster = GibbsModel(2 * h - 2 * J.sum(axis=1), 4 * J).simulate(50_000, seed=1)[0]
    fit = fit_boltzmann(raster, test=0.0, seed=1)
    gain, error = fit.checks["gain_over_start"]
    print(f"worst z {fit.checks['worst_z']:.2f}; nats above the pseudo-likelihood fit: {gain:.2f}({error:.2f})")
    assert fit.checks["worst_z"] < 3
    assert gain > 3 * error and error < 3
    best, mutant = load_model(fit), load_model(fit).scaled(0.9)
    problem = Problem(raster, "pairwise", (), 0.0, 0.0).operators
    change, spread = log_z_difference(best, mutant, seed=2)
    lost = (problem.theta(best) - problem.theta(mutant)) @ problem.total(raster) + len(raster) * change
    assert lost > 50 and lost > 10 * len(raster) * spread
