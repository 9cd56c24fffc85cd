"""Time-dependent inputs of Gibbs models against dense sums of real columns, exact samples, and their own mutants."""

import itertools

import numpy as np
import pytest

from lft.errors import InputError
from lft.inference.inputs import EventLocked, Given, InputDesign, Smooth
from lft.inference.neural_fit import fit_k_pairwise, fit_lagged, fit_neural, fit_pairwise
from lft.inference.pseudo.drive import MAX_VALUES, drive_of
from lft.inference.pseudo.objective import assemble
from lft.inference.pseudo.patterns import spikes_of
from lft.inference.result import load_fit, save_fit

FAMILIES = {
    "pairwise": {},
    "neural": {"lags": (1, 2)},
    "k-pairwise": {"is_counted": True},
    "lagged": {"k_max": 1},
}


def design(lengths, seed=0):
    rng = np.random.default_rng(seed)
    events = [np.sort(rng.choice(n, n // 12, replace=False)) for n in lengths]  # windows overlap
    covariates = [rng.choice([-0.5, 0.0, 1.25], (n, 2)) for n in lengths]
    return InputDesign([EventLocked(events, -2, 6, 4), Smooth(4), Given(covariates), Smooth(3, True, "trial")])


def columns_of(terms, lengths, n_train):
    """Columns x_q(a) of an InputDesign, as real numbers."""
    return terms.bind(lengths, n_train).columns(0, sum(lengths))


def exact_samples(a, c, drive, rng):
    """One bin per row of ``drive`` (bins, units) of exp(sum a phi phi / 2 + sum (c + drive) phi), by enumeration."""
    states = np.array(list(itertools.product([0, 1], repeat=len(c))))
    energy = states @ c + 0.5 * np.einsum("si,ij,sj->s", states, a, states)
    p = np.exp(energy + drive @ states.T)
    p /= p.sum(axis=1, keepdims=True)
    return states[(rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)].astype(np.int8)


# ---- features
def test_values_make_the_columns():
    lengths = [45, 31, 7]
    drive = drive_of(design(lengths), lengths, 60)
    assert len(drive.names) == 4 + 3 + 2 + 2
    assert np.array_equal(drive.columns(0, 83), columns_of(design(lengths), lengths, 60))
    assert np.array_equal(drive.columns(13, 57), drive.columns(0, 83)[13:57])
    assert drive.digest() != drive_of(design(lengths, 1), lengths, 60).digest()
    assert drive_of(None, lengths, 60) is None and drive_of(InputDesign(), lengths, 60) is None


def test_values_keep_their_places_over_chunks(monkeypatch):
    from lft.inference.pseudo import drive

    whole = drive_of(design([400]), [400], 400)
    monkeypatch.setattr(drive, "CHUNK", 37)
    parts = drive_of(design([400]), [400], 400)
    assert whole.digest() == parts.digest()


def test_a_drift_of_many_bins_has_steps():
    (_, columns), (_, stepped) = (Smooth(5, steps=s).bind([10000], 8000) for s in (None, 80))
    fine, coarse = columns(0, 10000), stepped(0, 10000)
    assert len(np.unique(coarse[:8000], axis=0)) == 80 and np.array_equal(np.unique(coarse[7999:], axis=0), coarse[-1:])
    assert np.abs(coarse[:8000].mean(axis=0)).max() < 1e-12 and 0 < np.abs(fine - coarse)[:8000].max() < 0.1
    drive = drive_of(InputDesign([Smooth(5)]), [10000], 8000)
    assert len(drive.table) == 80 and np.array_equal(drive.columns(0, 10000), coarse)


def test_too_many_values_are_refused():
    with pytest.raises(InputError, match=f"input covariate: .* different values .* at most {MAX_VALUES}"):
        drive_of(InputDesign([Given([np.arange(5000.0)])]), [5000], 5000)
    with pytest.raises(InputError, match="is given twice"):
        drive_of(InputDesign([Smooth(3), Smooth(4)]), [50], 50)
    with pytest.raises(InputError, match="valid is an InputDesign"):
        fit_pairwise(np.eye(6, dtype=np.int8)[:, :3], inputs=[Smooth(3)])


# ---- objective
@pytest.mark.parametrize("family", FAMILIES)
def test_value_and_gradient_are_those_of_real_columns(family):
    lengths, rng = [70, 50], np.random.default_rng(3)
    rasters = [(rng.random((n, 4)) < 0.4).astype(np.int8) for n in lengths]
    drive, terms = drive_of(design(lengths), lengths, 100), FAMILIES[family]
    without = assemble(spikes_of(rasters), 4, 100, np.arange(4), **terms)
    units = np.arange(4)
    driven = np.array([(i, q) for i in range(4) for q in range(drive.n_inputs)])[rng.random(44) < 0.7]
    objective = assemble(spikes_of(rasters), 4, 100, units, **terms, drive=drive, driven=driven)
    assert objective.size == without.size + len(driven)
    assert objective.names()[-1] == f"u[{driven[-1, 1]},{driven[-1, 0]}]"

    theta = rng.normal(0, 0.4, objective.size)
    u = np.zeros((4, drive.n_inputs))
    u[tuple(driven.T)] = theta[without.size :]
    # log-odds without inputs, bin by bin, from scores of single rows: d/dc log P = phi - p
    place = [without.names().index(f"c[{i}]") for i in range(4)]
    phi = np.concatenate(rasters)[:100]
    p = phi - np.array([without.score(theta[: without.size], a, a + 1)[place] for a in range(100)])
    x = drive.columns(0, 100)
    z = np.log(p / (1 - p)) + x @ u.T
    expected = (phi * z - np.logaddexp(0, z)).sum()
    value, gradient, make = objective.evaluate(theta)
    assert abs(value - expected) < 1e-9 * abs(expected)
    residual = phi - 1 / (1 + np.exp(-z))
    of_u = (residual.T @ x)[tuple(driven.T)]
    assert np.allclose(gradient[without.size :], of_u, rtol=1e-9, atol=1e-9)  # p from differences loses some digits
    step = 1e-5 * rng.normal(size=objective.size)
    slope = (objective.evaluate(theta + step)[0] - objective.evaluate(theta - step)[0]) / 2
    assert abs(slope - gradient @ step) < 1e-6 * abs(slope) + 1e-12
    there = objective.evaluate(theta + step)[1] - objective.evaluate(theta - step)[1]
    assert np.allclose(-there / 2, make(None).product(step), rtol=1e-4, atol=1e-9)  # rounding over steps of 1e-5


# ---- fits
def test_known_inputs_are_recovered():
    rng, n_bins, n = np.random.default_rng(5), 20000, 4
    a = np.triu(rng.normal(0, 0.6, (n, n)), 1)
    a, c = a + a.T, rng.uniform(-2.2, -1.2, n)
    terms = InputDesign([EventLocked([np.sort(rng.choice(n_bins - 20, 400, replace=False))], -2, 12, 4), Smooth(4)])
    x = columns_of(terms, [n_bins], n_bins)
    u = rng.normal(0, 0.7, (n, x.shape[1]))
    raster = exact_samples(a, c, x @ u.T, rng)
    fit = fit_pairwise(raster, test=0.0, inputs=terms)
    upper = np.triu_indices(n, 1)
    z = np.concatenate([
        ((-2 * fit.A - a)[upper]) / (2 * fit.A_error[upper]), (-fit.I - c) / fit.I_error,
        ((fit.input_weights - u) / fit.input_error).ravel(),
    ])  # fmt: skip
    assert np.abs(z).max() < 4.5 and (z**2).sum() < len(z) + 4.5 * np.sqrt(2 * len(z))
    shifted = exact_samples(a, c, np.roll(x, 5, axis=0) @ u.T, rng)  # mutant: the response comes five bins late
    wrong = fit_pairwise(shifted, test=0.0, inputs=terms)
    assert np.abs((wrong.input_weights - u) / wrong.input_error).max() > 4.5


def test_a_common_input_is_no_coupling():
    rng, n_bins = np.random.default_rng(6), 20000
    terms = InputDesign([EventLocked([np.arange(10, n_bins - 20, 80)], 0, 10, 10)])
    x = columns_of(terms, [n_bins], n_bins)
    drive = np.outer(x.sum(axis=1), [1.5, 1.5, 0.0])  # units 0 and 1 respond, nothing is coupled
    raster = exact_samples(np.zeros((3, 3)), np.full(3, -2.0), drive, rng)
    with_input, without = fit_neural(raster, inputs=terms), fit_neural(raster)
    assert abs(with_input.A[0, 1]) < 4.5 * with_input.A_error[0, 1]
    assert without.A[0, 1] < -8 * without.A_error[0, 1]  # what the fit without it takes for excitation
    assert abs(with_input.A[0, 2]) < 4.5 * with_input.A_error[0, 2] and with_input.gain[0] > without.gain[0]


@pytest.mark.parametrize("fit", [fit_pairwise, fit_neural, fit_k_pairwise, fit_lagged])
def test_trials_and_the_file(fit, tmp_path):
    lengths, rng = [300] * 5 if fit in (fit_pairwise, fit_k_pairwise) else [1500], np.random.default_rng(8)
    rasters = [(rng.random((n, 4)) < 0.3).astype(np.int8) for n in lengths]
    found = fit(rasters, inputs=design(lengths))
    assert found.input_weights.shape == (4, 11) and found.inputs.shape == (1500, 11)
    assert found.input_names[:2] == ["event[0]", "event[1]"] and "u[10,3]" in found.named()
    assert np.abs(found.input_weights / found.input_error).max() < 4.5
    mean = found.with_mean_input()
    assert np.allclose(mean.I, found.I - found.input_weights @ found.inputs[: found.n_train].mean(axis=0))
    save_fit(found, tmp_path / "f.h5")
    stored = load_fit(tmp_path / "f.h5")
    assert np.array_equal(stored.arrays["input_weights"], found.input_weights)
    assert np.array_equal(stored.arrays["inputs"], found.inputs)


@pytest.mark.parametrize("ridge", [0.0, 2.0])
def test_weights_without_a_maximum_are_named(ridge):
    rng, events = np.random.default_rng(9), np.arange(5, 990, 20)
    raster = (rng.random((1000, 3)) < 0.3).astype(np.int8)
    for lag in (0, 1):
        raster[events + lag, 1] = 0  # unit 1 is silent in the first two bins of the window
    terms = InputDesign([EventLocked([events], 0, 4, 4)])
    found = fit_pairwise(raster, test=0.0, ridge=ridge, inputs=terms)
    assert {"u[0,1]", "u[1,1]"} <= set(found.unbounded)
    assert (found.input_weights[1, :2] < -2).all() and np.isnan(found.input_error[1, :2]).all()
    without = fit_pairwise(np.delete(raster, np.concatenate([events, events + 1]), axis=0), test=0.0, ridge=ridge)
    assert abs(found.I[1] - without.I[1]) < 0.1 * without.I_error[1] + 0.02  # what is held does not move the field
    assert np.isfinite(found.input_error[1, 2:]).all() and any("weights of inputs" in w for w in found.warnings)


def test_a_penalty_leaves_such_weights_out():
    rng, events = np.random.default_rng(9), np.arange(5, 990, 20)
    raster = (rng.random((1000, 3)) < 0.3).astype(np.int8)
    raster[events, 1] = 0
    terms = InputDesign([EventLocked([events], 0, 4, 4)])
    found = fit_pairwise(raster, test=0.0, inputs=terms, penalize=lambda o: (o.start(), np.ones((2, o.size))))
    assert "u[0,1]" in found.unbounded and found.input_weights[1, 0] == 0 and np.isnan(found.input_error[1, 0])


def test_a_unit_that_stops_has_no_drift_of_a_finite_size():
    rng = np.random.default_rng(10)
    raster = (rng.random((6000, 3)) < 0.3).astype(np.int8)
    raster[1500:, 0] = 0
    found = fit_pairwise(raster, test=0.0, inputs=InputDesign([Smooth(8)]))
    assert any(name.startswith("u[") and name.endswith(",0]") for name in found.unbounded)
    assert np.isfinite(found.input_error[1:]).all() and np.abs(found.input_weights).max() < 100


# ---- the command
@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, events = np.random.default_rng(11), np.arange(0.4, 19.5, 0.3)
    times, index = [], []
    for _ in range(3):
        own = np.sort(np.concatenate([rng.uniform(0, 20, 150), events + rng.uniform(0, 0.1, len(events))]))
        times.append(own)
        index.append(len(own))
    import h5py

    with h5py.File("r.h5", "w") as file:
        file["spike_times"], file["spike_index"] = np.concatenate(times), np.concatenate([[0], np.cumsum(index)])
        file["events_s"] = events
    return tmp_path


def test_trials_and_terms_from_the_command(folder, lft_main):
    lft_main("fit r.h5 --model neural --bin 20ms --test 0 --input events:5:0ms,100ms --input smooth:4 -o a.h5")
    found = load_fit("a.h5")
    assert found.arrays["input_weights"].shape == (3, 8) and found.json["n_bins"] == len(found.arrays["inputs"])
    assert (found.arrays["input_weights"][:, :5].mean(axis=1) > 0.8).all()  # the response that was put in
    lft_main("fit r.h5 --model neural --bin 20ms --test 0 --trials=-100ms,200ms --input trial:5 -o b.h5")
    assert "inputs" not in load_fit("b.h5").arrays  # trials with couplings in time are no one sequence of bins
    assert "cannot be simulated as it is" in lft_main("run b.h5 -o c.h5", 2).err
    lft_main("fit r.h5 --model pairwise --bin 20ms --test 0 --trials=-100ms,200ms --input trial:5 -o d.h5")
    assert load_fit("d.h5").arrays["inputs"].shape == (load_fit("d.h5").json["n_bins"], 4)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--model pairwise --method exact --input smooth:4", "--input: only for --method pseudo, not for exact"),
        ("--model neural --method boltzmann --trials=-10ms,20ms", "--trials: only for --method pseudo"),
        ("--model pairwise --input smooth:4 --heat", "--input: not together with --heat"),
        ("--model pairwise --input smooth:4 --rank 1", "--rank 1: not together with --input"),
        ("--model lattice --input smooth:4", "--input: only for --model pairwise"),
        ("--model neural --input smooth:1", "1 functions; valid is an integer >= 2"),
        ("--model neural --input events:4:0ms,20s", "different values"),
    ],
)
def test_what_does_not_go_is_said(folder, lft_main, line, words):
    out = lft_main(f"fit r.h5 --bin 20ms -o x.h5 {line}", 2)
    assert words in out.err and out.err.count("\n") == 1 and not list(folder.glob("x.h5*"))
