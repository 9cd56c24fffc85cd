"""Lattice fit: the table is the likelihood, its derivatives are right, exact data give exact couplings."""

import itertools

import numpy as np
import pytest

from lft.errors import DivergenceError, InputError
from lft.field import Field
from lft.geometry import Graph, Lattice
from lft.inference import lattice_fit, newton, patterns
from lft.inference.lattice_fit import displacements, fit_independent, fit_lattice
from lft.inference.result import fit_json, load_fit, save_fit

CASES = [
    ((7,), ("x",), "periodic", False),
    ((6,), ("x",), "open", False),
    ((40,), ("t",), "open", False),
    ((5, 30), ("x", "t"), ("periodic", "open"), False),
    ((30, 4), ("t", "x"), ("periodic", "open"), True),
    ((2, 12), ("x", "t"), "periodic", False),
    ((4, 5), ("x", "y"), ("open", "periodic"), True),
    ((4, 3, 25), ("x", "y", "t"), "open", True),
    ((4, 25, 6), ("x", "t", "y"), ("periodic", "periodic", "periodic"), True),
    ((3, 1, 20), ("x", "y", "t"), "open", False),
]


def random_fields(lattice, rng, kind="spin", n=1, p=0.3):
    fields = []
    for _ in range(n):
        values = (rng.random(lattice.shape) < p).astype(int)
        fields.append(Field.from_array(lattice, kind, values if kind == "gas" else 2 * values - 1))
    return fields


def make_lattice(case, rng):
    shape, axes, boundary, masked = case
    space = tuple(n for n, a in zip(shape, axes, strict=True) if a != "t")
    mask = None
    if masked:
        mask = rng.random(space) < 0.7
        mask.flat[0] = mask.flat[-1] = True
    return Lattice(shape, axes, boundary, mask=mask)


def neighbor(lattice, array, d):
    """array[x + d], 0 where that site does not exist."""
    for axis, step in enumerate(d):
        if lattice.boundary[axis] == "open" or lattice.shape[axis] == 1:
            rolled = np.zeros_like(array)
            n = lattice.shape[axis]
            for i in range(n):
                if 0 <= i + step < n:
                    np.moveaxis(rolled, axis, 0)[i] = np.moveaxis(array, axis, 0)[i + step]
            array = rolled
        else:
            array = np.roll(array, -step, axis)
    return array


def slow_likelihood(lattice, fields, vectors, h, k, site_field):
    """Sum of log P(s|rest), one configuration at a time; ``h`` per active site, or of length 1."""
    mask = np.ones(lattice.space_shape, bool) if lattice.mask is None else lattice.mask
    field_of = np.zeros(lattice.space_shape)
    field_of[mask] = h if site_field else h[0]
    exists = mask
    if lattice.time_axis is not None:
        field_of = np.expand_dims(field_of, lattice.time_axis)
        exists = np.expand_dims(mask, lattice.time_axis)
    total = 0.0
    for f in fields:
        s = f.array().astype(int)
        s = (2 * s - 1) * exists if f.kind == "gas" else s
        eta = field_of + np.zeros(lattice.shape)
        for d, value in zip(vectors, k, strict=True):
            eta = eta + value * (neighbor(lattice, s, d) + neighbor(lattice, s, tuple(-x for x in d)))
        total -= np.logaddexp(0, -2 * s * eta)[s != 0].sum()
    return total


@pytest.mark.parametrize("case", CASES, ids=lambda c: "x".join(map(str, c[0])) + "".join(c[1]))
@pytest.mark.parametrize(("kind", "p"), [("spin", 0.5), ("gas", 0.03)])
@pytest.mark.parametrize("site_field", [True, False])
def test_the_table_holds_the_likelihood(case, kind, p, site_field):
    rng = np.random.default_rng(7)
    lattice = make_lattice(case, rng)
    fields = random_fields(lattice, rng, kind, n=3, p=p)
    vectors = displacements(lattice, (1, 2), diagonals=len(lattice.shape) < 3)
    counter = patterns.PatternCounter(fields, vectors, site_field)
    h, k = rng.normal(size=counter.n_groups), rng.normal(size=len(vectors))
    cut = counter.n_rows // 3
    parts = [counter.count((0, cut)), counter.count((cut, counter.n_rows))]
    total = sum(part.log_likelihood(h, k) for part in parts)
    assert total == pytest.approx(slow_likelihood(lattice, fields, vectors, h, k, site_field), rel=1e-12)
    assert sum((part.plus + part.minus).sum() for part in parts) == lattice.n_active * 3


@pytest.mark.parametrize("density", [0.02, 0.5])
def test_hash_direct_small_chunks_and_growth_give_one_table(monkeypatch, density):
    rng = np.random.default_rng(3)
    lattice = make_lattice(((6, 5, 200), ("x", "y", "t"), ("periodic", "open", "open"), True), rng)
    fields = random_fields(lattice, rng, "gas", 2, density)
    vectors = displacements(lattice, (1, 1), True)[:5]
    reference = patterns.PatternCounter(fields, vectors, True).count((10, 333))
    monkeypatch.setattr(patterns, "DIRECT_CELLS", 0)
    monkeypatch.setattr(patterns, "CHUNK_SITES", 700)
    original = patterns._Table._allocate
    monkeypatch.setattr(
        patterns._Table, "_allocate", lambda self, n: original(self, max(n if n < 2**16 else 2, 2))
    )
    hashed = patterns.PatternCounter(fields, vectors, True).count((10, 333))
    for name in ("group", "f", "minus", "plus"):
        assert np.array_equal(getattr(reference, name), getattr(hashed, name))


def test_a_recording_that_does_not_compress_is_refused(monkeypatch):
    rng = np.random.default_rng(3)
    lattice = Lattice((6, 5, 200), ("x", "y", "t"), "open")
    monkeypatch.setattr(patterns, "DIRECT_CELLS", 0)
    monkeypatch.setattr(patterns, "MAX_BITS", 8)
    original = patterns._Table._allocate
    monkeypatch.setattr(patterns._Table, "_allocate", lambda self, n: original(self, 64 if n == 2**16 else n))
    with pytest.raises(InputError, match="different local patterns"):
        fit_lattice(random_fields(lattice, rng, p=0.5), diagonals=True)


def test_gradient_and_information_are_derivatives():
    rng = np.random.default_rng(5)
    lattice = make_lattice(((4, 3, 60), ("x", "y", "t"), "open", True), rng)
    counter = patterns.PatternCounter(random_fields(lattice, rng), displacements(lattice), True)
    data, n = counter.count((0, 60)), counter.n_groups
    theta = 0.3 * rng.normal(size=n + 3)
    value, gradient, information = data.evaluate(theta[:n], theta[n:])
    assert value == pytest.approx(data.log_likelihood(theta[:n], theta[n:]), rel=1e-13)
    assert np.allclose(gradient, data.score(theta[:n], theta[n:]), atol=1e-10)
    step = 1e-5
    numeric, matrix = np.empty(n + 3), np.empty((n + 3, n + 3))
    for i, e in enumerate(np.eye(n + 3) * step):
        up, down = theta + e, theta - e
        numeric[i] = (data.log_likelihood(up[:n], up[n:]) - data.log_likelihood(down[:n], down[n:])) / (
            2 * step
        )
        matrix[i] = -(data.score(up[:n], up[n:]) - data.score(down[:n], down[n:])) / (2 * step)
    assert np.allclose(gradient, numeric, atol=1e-5)
    vector = rng.normal(size=(n + 3, 2))
    assert np.allclose(information.solve(vector), np.linalg.solve(matrix, vector), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "axes", "boundary"),
    [((3, 3), ("x", "t"), "open"), ((3, 3), ("x", "y"), "periodic"), ((2, 2, 2), ("x", "y", "t"), "open")],
)
def test_exact_distribution_returns_exact_couplings(shape, axes, boundary):
    """Every state counted with its exact probability: the maximum is the truth."""
    rng = np.random.default_rng(11)
    lattice = Lattice(shape, axes, boundary)
    vectors = displacements(lattice, (1, 1), diagonals=True)
    k = 0.3 * rng.normal(size=len(vectors))
    n_sites = int(np.prod(lattice.space_shape))
    h = 0.4 * rng.normal(size=n_sites)
    h_sites = h.reshape(lattice.space_shape)
    h_sites = h_sites if lattice.time_axis is None else np.expand_dims(h_sites, lattice.time_axis)
    states = np.array(list(itertools.product((-1, 1), repeat=lattice.n_sites))).reshape(-1, *shape)
    log_weight = np.array(
        [
            (h_sites * s).sum()
            + sum(c * (s * neighbor(lattice, s, d)).sum() for c, d in zip(k, vectors, strict=True))
            for s in states
        ]
    )
    probability = np.exp(log_weight - np.logaddexp.reduce(log_weight))
    fields = [Field.from_array(lattice, "spin", s) for s in states]
    counter = patterns.PatternCounter(fields, vectors, True)
    tables = [counter.count((i * lattice.n_time, (i + 1) * lattice.n_time)) for i in range(len(states))]
    weight = np.repeat(probability, [len(t.group) for t in tables]) * 1e6
    group, f, minus, plus = (
        np.concatenate([getattr(t, n) for t in tables]) for n in ("group", "f", "minus", "plus")
    )
    data = patterns.Patterns(group, f, minus * weight, plus * weight)
    assert np.abs(data.score(h, k)).max() < 1e-7
    totals = [np.bincount(group, w, n_sites) for w in (data.plus, data.minus)]
    h_fit, k_fit, _ = lattice_fit._maximum(data, vectors, *totals)
    assert np.allclose(k_fit, k, atol=1e-6) and np.allclose(h_fit, h, atol=1e-6)
    wrong = 1.1 * k
    assert np.abs(data.score(h, wrong)).max() > 10  # a coupling off by a tenth is seen


def test_displacement_sets():
    lattice = Lattice((8, 8, 50), ("x", "y", "t"), "open")
    assert displacements(lattice, (2, 1)) == [(1, 0, 0), (2, 0, 0), (0, 1, 0), (0, 2, 0), (0, 0, 1)]
    full = displacements(lattice, (1, 1), True)
    assert len(full) == 13 and all(tuple(-x for x in d) not in full for d in full)
    assert sum(d[2] > 0 for d in full) == 9
    assert displacements(Lattice((50, 8), ("t", "x"), "open"), (0, 3)) == [(1, 0), (2, 0), (3, 0)]
    torus = Lattice((2, 2), ("x", "y"))  # (1, 1) and (1, -1) read the same two neighbors
    assert len(displacements(torus, (1, 1), True)) == 3


def test_order_of_axes_and_kind_do_not_matter():
    rng = np.random.default_rng(2)
    mask = rng.random((4, 5)) < 0.8
    a = Lattice((4, 5, 80), ("x", "y", "t"), "open", mask=mask)
    b = Lattice((80, 4, 5), ("t", "x", "y"), "open", mask=mask)
    values = (rng.random(a.shape) < 0.3).astype(int)
    one = fit_lattice(Field.from_array(a, "spin", 2 * values - 1))
    two = fit_lattice(Field.from_array(b, "gas", np.moveaxis(values, 2, 0)))
    assert one.couplings["K[0,1,0]"] == pytest.approx(two.couplings["K[0,0,1]"], rel=1e-9)
    assert np.allclose(one.h, two.h, equal_nan=True) and np.array_equal(np.isnan(one.h), ~mask)


def test_trials_are_not_joined():
    rng = np.random.default_rng(8)
    lattice = Lattice((3, 40), ("x", "t"), "open")
    fields = random_fields(lattice, rng, n=6)
    order = [fields[i] for i in (3, 1, 0, 2, 5, 4)]
    one, two = (fit_lattice(f, test=0, bias_correction=False) for f in (fields, order))
    for name, (value, _) in one.couplings.items():
        assert value == pytest.approx(two.couplings[name][0], abs=1e-9)


def test_independent_model_is_the_log_odds():
    rng = np.random.default_rng(4)
    raster = (rng.random((1000, 5)) < 0.2).astype(np.int8)
    fit = fit_independent(raster)
    rate = raster[:800].mean(axis=0)
    assert np.allclose(fit.h, 0.5 * np.log(rate / (1 - rate)))
    n = raster[800:].sum(axis=0)
    expected = (n * np.log(rate) + (200 - n) * np.log(1 - rate)).sum() / 1000
    assert fit.score["test"] == pytest.approx(expected) == fit.score["test_independent"]
    assert set(fit_json(fit)["couplings"]) == {f"h[{i}]" for i in range(5)} and fit.model == "independent"
    # errors of a binomial log-odds, half of it in spins; the score is a sum over independent bins
    assert np.allclose(fit.h_error, 0.5 / np.sqrt(800 * rate * (1 - rate)), rtol=0.4)  # 20+ blocks: 16 % each


def test_silent_site_is_reported_and_scored():
    rng = np.random.default_rng(6)
    lattice = Lattice((4, 500), ("x", "t"), "open")
    values = (rng.random(lattice.shape) < 0.3).astype(int)
    values[2, :400] = 0
    fit = fit_lattice(Field.from_array(lattice, "gas", values))
    assert fit.unbounded == ["h[2]"] and np.isnan(fit.h_error[2]) and "Krichevsky" in fit.warnings[0]
    assert np.isfinite(fit.score["test"]) and np.isfinite(fit.score["test_independent"])
    fired = values[2, 400:].sum()
    independent = fit_independent(Field.from_array(lattice, "gas", values))
    kt = 0.5 / 401
    assert independent.h[2] == pytest.approx(0.5 * np.log(kt / (1 - kt)))
    assert fired > 0 and fit_json(fit)["unbounded"] == ["h[2]"]
    # the rest is the fit in which this site is a fixed -1, not an absent site
    assert all(np.isfinite(e) for _, e in fit.couplings.values())


def test_refractory_units_have_no_finite_coupling():
    rng = np.random.default_rng(9)
    lattice = Lattice((3, 2000), ("x", "t"), "open")
    values = (rng.random(lattice.shape) < 0.3).astype(int)
    values[:, 1::2] = values[:, 0] = (
        0  # a spike beside an open end would bound K: its absent neighbor reads 0
    )
    with pytest.raises(DivergenceError, match=r"K\[0,1\].*refractory"):
        fit_lattice(Field.from_array(lattice, "gas", values))


def test_bad_input_is_one_clear_line():
    rng = np.random.default_rng(0)
    lattice = Lattice((4, 50), ("x", "t"), "open")
    field = random_fields(lattice, rng)[0]
    for arguments, words in [
        ({"displacements": [(1, 0), (-1, 0)]}, "join the same sites"),
        ({"displacements": [(0, 0)]}, "nonzero vector"),
        ({"displacements": [(5, 0)]}, "no two sites"),
        ({"reach": (1, -1)}, "SPACE,TIME"),
        ({"reach": (0, 0)}, "no pair of sites"),
        ({"test": 1.0}, "test = 1.0"),
        ({"n_blocks": 1}, "n_blocks = 1"),
        ({"reach": (3, 30)}, "displacements at most 22"),
    ]:
        with pytest.raises(InputError, match=words):
            fit_lattice(field, **arguments)
    with pytest.raises(InputError, match="kind 'real'"):
        fit_lattice(Field.from_array(lattice, "real", np.ones(lattice.shape)))
    with pytest.raises(InputError, match="on a Lattice"):
        fit_lattice(Field(Graph(3, 5), "gas"))
    with pytest.raises(InputError, match="same lattice"):
        fit_lattice([field, random_fields(Lattice((4, 51), ("x", "t"), "open"), rng)[0]])
    with pytest.raises(InputError, match="site_field=False"):
        fit_lattice(random_fields(Lattice((4, 4)), rng), test=0)
    with pytest.raises(InputError, match="nothing to fit"):
        fit_lattice(Field.from_array(lattice, "spin", -np.ones(lattice.shape)))
    broken = field.copy()
    broken.data[3, 2] = 0
    with pytest.raises(InputError, match="value 0"):
        fit_lattice(broken)


def test_bias_is_what_was_subtracted():
    rng = np.random.default_rng(13)
    field = random_fields(Lattice((5, 4, 100), ("x", "y", "t"), "open"), rng)[0]
    plain, corrected = fit_lattice(field, bias_correction=False), fit_lattice(field)
    assert not plain.bias.any() and corrected.bias.all()
    for i, (name, (value, error)) in enumerate(plain.couplings.items()):
        assert corrected.couplings[name] == pytest.approx((value - corrected.bias[i], error), rel=1e-12)
    rate = (field.array()[..., :80] == 1).mean(axis=2)  # the fields are refitted: every rate is still met
    counter = patterns.PatternCounter([field], corrected.displacements, True)
    k = np.array([v for v, _ in corrected.couplings.values()])
    score = counter.count((0, 80)).score(corrected.h.ravel(), k)
    assert rate.min() > 0 and np.abs(score[:20]).max() < 1e-3
    assert not fit_lattice(field, site_field=False).bias.any()


def test_left_out_axis_and_single_configuration_are_mentioned():
    rng = np.random.default_rng(1)
    fit = fit_lattice(random_fields(Lattice((6, 1, 80), ("x", "y", "t"), "open"), rng))
    assert any("K[0,1,0] left out" in w for w in fit.warnings)
    single = fit_lattice(random_fields(Lattice((30, 30)), rng), site_field=False)
    assert np.isnan(single.couplings["h"][1]) and "errors are undefined" in single.warnings[0]
    assert fit_json(single)["couplings"]["h"]["error"] is None


def test_gain_and_blocks():
    edges = newton.fine_edges(1000, 5, None)
    assert len(edges) == 401 and edges[-1] == 1000
    white = np.random.default_rng(0).normal(size=(400, 3))
    merged, warning = newton.merge_blocks(white, [white], 1000, 1)
    assert len(merged) == 100 and warning is None
    assert np.allclose(merged.sum(axis=0), white.sum(axis=0))
    slow = np.repeat(np.random.default_rng(1).normal(size=(8, 3)), 50, axis=0)
    merged, warning = newton.merge_blocks(slow, [slow], 1000, 1)
    assert len(merged) == 20 and "longer recording" in warning
    assert newton.gain_with_error(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == pytest.approx((1.0, 0.5))


def test_save_and_load(tmp_path):
    rng = np.random.default_rng(1)
    mask = np.ones((4, 3), bool)
    mask[1, 1] = False
    lattice = Lattice((4, 3, 120), ("x", "y", "t"), "open", ("42 um", "42 um", "20 ms"), mask)
    fit = fit_lattice(random_fields(lattice, rng))
    path = tmp_path / "fit.h5"
    save_fit(fit, path, config_extra={"bin": "20 ms"})
    stored = load_fit(path)
    assert stored.lattice == lattice and stored.json == fit_json(fit) and stored.attributes["bin_s"] == 0.02
    assert np.array_equal(stored["K"], [v for v, _ in fit.couplings.values()])
    assert np.array_equal(stored["h"], fit.h, equal_nan=True) and stored.couplings == fit.couplings
    assert [tuple(d) for d in stored["displacements"]] == list(fit.displacements)
    with pytest.raises(InputError, match="exists"):
        save_fit(fit, path)
    save_fit(fit, path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["fit.h5"]
    with pytest.raises(InputError, match="no array 'J'"):
        stored["J"]
    with pytest.raises(InputError, match="no such file"):
        load_fit(tmp_path / "none.h5")
    assert {"kind", "train", "test", "test_independent"} == set(stored.json["score"])


def test_rows_of_a_failed_write_disappear(tmp_path):
    class Broken:
        model, method, bin_s = "lattice", "pseudo", None

    with pytest.raises(AttributeError):
        save_fit(Broken(), tmp_path / "fit.h5")
    assert not list(tmp_path.iterdir())
