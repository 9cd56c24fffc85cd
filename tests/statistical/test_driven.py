"""Inputs that change in time: actions against enumeration, fits with calibrated errors, simulated as they are."""

import numpy as np
import pytest
from scipy import stats

from lft.actions import Neural
from lft.cli import main
from lft.geometry import Graph
from lft.gibbs import KPairwise, Lagged
from lft.inference.inputs import EventLocked, InputDesign, Smooth
from lft.inference.neural_fit import fit_neural
from lft.inference.result import load_fit
from lft.protocols import State
from lft.rng import Key
from lft.testing import enumerate_states, k_pairwise_action, lagged_action, neural_action
from lft.updaters import HeatBath, Metropolis
from tests.helpers import load_json
from tests.statistical.test_gibbs_actions import agrees, is_rejected, sample, symmetric

UNITS, BINS, COPIES = 3, 4, 60
RNG = np.random.default_rng(61)
A, I = symmetric(RNG, UNITS), RNG.normal(0.4, 0.4, UNITS)
U, X = RNG.normal(0, 0.8, (UNITS, 2)), RNG.normal(0, 1.0, (BINS, 2))
C = RNG.normal(0, 0.5, (2, UNITS, UNITS))
V = np.array([0.0, 0.3, -0.6, 0.9])


def build(name, u, x, copies=1):
    """The action of many copies of the units, which do not see each other."""
    many = np.eye(copies)
    driven = {"A": np.kron(many, A), "I": np.tile(I, copies), "input_weights": np.tile(u, (copies, 1)), "inputs": x}
    if name == "neural":
        return Neural(B={1: -0.35, 2: 0.25}, **driven)
    return Lagged(J_lag=[np.kron(many, c) for c in C], **driven)


def exact_action(name, x):
    drive = -float((X @ U.T * x).sum())
    if name == "neural":
        return neural_action(x, A, {1: -0.35, 2: 0.25}, I) + drive
    return lagged_action(x, A, I, C) + drive


def means(x, p):
    """Means by bin and unit, and of pairs one bin apart."""
    return np.concatenate([
        np.einsum("s,sai->ai", p, x).ravel(), np.einsum("s,sai,saj->aij", p, x[:, 1:], x[:, :-1]).ravel()
    ])  # fmt: skip


PAIRS = [("neural", HeatBath()), ("neural", Metropolis()), ("lagged", HeatBath())]


@pytest.mark.parametrize(("name", "updater"), PAIRS)
def test_inputs_by_bin_against_enumeration(name, updater):
    states = enumerate_states(UNITS * BINS, "gas").reshape(-1, BINS, UNITS)
    weight = np.exp([-exact_action(name, x) for x in states])
    expected = means(states.astype(float), weight / weight.sum())

    def run(u, x, n):
        def observe(phi):
            copies = phi.values.reshape(BINS, COPIES, UNITS).transpose(1, 0, 2).astype(float)
            return means(copies, np.full(COPIES, 1 / COPIES))

        return sample(build(name, u, x, COPIES), Graph(UNITS * COPIES, BINS), updater, observe, n)

    agrees(run(U, X, 800), expected, 0.01)
    for wrong in ((U, np.roll(X, 1, axis=0)), (-U, X), (0 * U, X)):  # mutants: a bin late; the sign of I; no input
        assert is_rejected(run(*wrong, 150), expected)


def test_counts_and_inputs_against_enumeration():
    bins, values = 400, X
    action = KPairwise(V=V, A=A, I=I, input_weights=U, inputs=np.tile(values, (bins // BINS, 1)))
    states, expected = enumerate_states(UNITS, "gas"), []
    for x in values:
        weight = np.exp([-k_pairwise_action(row[None], A, I - U @ x, V) for row in states])
        expected.append(weight / weight.sum() @ states)
    observe = lambda phi: phi.values.reshape(-1, BINS, UNITS).mean(axis=0).ravel()  # noqa: E731
    agrees(sample(action, Graph(UNITS, bins), HeatBath(), observe, 600), np.ravel(expected), 0.01)
    late = KPairwise(V=V, A=A, I=I, input_weights=U, inputs=np.tile(np.roll(X, 1, axis=0), (bins // BINS, 1)))
    assert is_rejected(sample(late, Graph(UNITS, bins), HeatBath(), observe, 150), np.ravel(expected))


@pytest.mark.parametrize("name", ["neural", "lagged", "k-pairwise"])
def test_the_action_is_linear_in_its_couplings(name):
    action = KPairwise(V=V, A=A, I=I, input_weights=U, inputs=X) if name == "k-pairwise" else build(name, U, X)
    phi = action.new_field(Graph(UNITS, BINS))
    phi.values[...] = np.random.default_rng(2).random((BINS, UNITS)) < 0.5
    phi.exchange()
    driven = action.operators(phi)["input_weights"]
    assert np.allclose(driven, -(phi.values.T.astype(float) @ X), atol=1e-14)
    without = action.with_couplings(input_weights=0 * U)
    assert abs(action.S(phi) - without.S(phi) - (U * driven).sum()) < 1e-12
    assert abs(action.scaled(0.5).S(phi) - 0.5 * action.S(phi)) < 1e-12


# ---- fits
def recording(seed, n_bins=4000, n=4):
    """A raster of the space-time theory with known inputs, and the truth."""
    rng = np.random.default_rng(seed)
    A, I = symmetric(rng, n) / 2, rng.uniform(0.8, 1.6, n)
    terms = InputDesign([EventLocked([np.arange(20, n_bins - 20, 37)], 0, 12, 3), Smooth(4)])
    from lft.inference.pseudo.drive import drive_of

    x = drive_of(terms, [n_bins], n_bins).columns(0, n_bins)
    u = rng.normal(0, 0.5, (n, x.shape[1]))
    action = Neural(A=A, B={1: -0.3}, I=I, input_weights=u, inputs=x)
    phi = action.new_field(Graph(n, n_bins))
    state = State(phi, 0)
    for _ in range(60):
        state, _ = HeatBath().step(action, state, Key(seed))
    return phi.values.copy(), terms, A, I, u


def z_of(fit, A, I, u):
    upper = np.triu_indices(len(I), 1)
    return np.concatenate([
        ((fit.A - A) / np.where(fit.A_error > 0, fit.A_error, 1))[upper], (fit.I - I) / fit.I_error,
        [(fit.B[1] + 0.3) / fit.B_error[1]], ((fit.input_weights - u) / fit.input_error).ravel(),
    ])  # fmt: skip


@pytest.mark.validate
def test_errors_of_fits_with_inputs_are_calibrated():
    z, spurious = [], []
    for seed in range(100):
        raster, *truth = recording(seed)
        terms, truth = truth[0], truth[1:]
        z.append(z_of(fit_neural(raster, test=0.0, inputs=terms), *truth))
        without = fit_neural(raster, test=0.0)
        spurious.append(((without.A - truth[0]) / np.where(without.A_error > 0, without.A_error, 1))[0, 1])
    z = np.array(z)
    per_seed = np.sqrt(np.mean(z**2, axis=1))
    assert abs((np.abs(z) < 1.96).mean() - 0.95) < 0.02
    # parameters of one recording are correlated: one of each recording enters the test of the distribution
    one = z[np.arange(100), np.arange(100) % z.shape[1]]
    assert stats.kstest(one, "norm").pvalue > 0.01 and 0.9 < per_seed.mean() < 1.1
    assert stats.kstest(2 * one, "norm").pvalue < 0.01  # mutant: errors half as large


def test_a_fit_with_inputs_is_simulated_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, events = np.random.default_rng(7), np.arange(0.2, 39.0, 0.4)
    rate = np.full((2000, 3), 0.1)
    for e in np.round(events / 0.02).astype(int):
        rate[e : e + 5] = [0.5, 0.3, 0.1]
    np.savez("r.npz", raster=(rng.random(rate.shape) < rate).T.astype(np.int8), bin_s=0.02)
    np.savetxt("events.txt", events)
    fit = 'fit r.npz --model pairwise --test 0 --events events.txt --input events:5:0ms,100ms -o f.h5'
    assert main(fit.split()) == 0
    assert load_fit("f.h5").arrays["input_weights"].shape == (3, 5)
    settings = ["run.updates=400", "run.thermalize=50", "run.measure_every=1"]
    assert main(["run", "f.h5", "-o", "a.h5", "--quiet", *(part for s in settings for part in ("--set", s))]) == 0
    assert main(["resume", "a.h5", "--updates", "200", "--quiet"]) == 0
    assert main(["analyze", "a.h5", "--json", "a.json"]) == 0
    found = load_json("a.json")["observables"]["rate"]
    expected = load_raster_rate()
    assert (np.abs(np.array(found["value"]) - expected) < 4.5 * np.array(found["error"])).all()
    assert (np.array(found["error"]) < 2e-3).all()


def load_raster_rate():
    with np.load("r.npz") as arrays:
        return arrays["raster"].mean(axis=1)
