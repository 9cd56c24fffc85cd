"""A fine lattice and how it is seen: geometry, blocking, operators, and the estimator on what is seen."""

import numpy as np
import pytest

from lft.errors import InputError
from lft.field import Field
from lft.geometry import Lattice, utah_array
from lft.inference.lattice_estimator import lattice_estimator
from lft.inference.lattice_fit import fit_lattice
from lft.rg.inverse.ensemble import FineModel, Observation, choose_volume, simulate
from lft.rg.variables import mode_number


def noise(lattice, seed=0, p=0.3):
    spins = np.where(np.random.default_rng(seed).random(lattice.shape) < p, 1, -1)
    return Field.from_array(lattice, "spin", spins)


def test_utah_array():
    array = utah_array(50, "20 ms")
    assert array.shape == (10, 10, 50) and array.n_active == 96 * 50
    assert array.spacing == ("400 um", "400 um", "20 ms")
    assert not array.mask[[0, 0, -1, -1], [0, -1, 0, -1]].any() and array.mask.sum() == 96
    assert utah_array(5).spacing is None


def test_the_fine_lattice_behind_a_utah_array():
    seen = Observation(utah_array(100, "20 ms"), (8, 8, 20), rule="or", surround=2)
    fine = seen.fine_lattice(16)
    assert fine.shape == (96, 96, 320) and fine.spacing == ("50 um", "50 um", "1 ms")
    assert set(fine.boundary) == {"periodic"} and fine.mask is None
    field = seen.observe(noise(fine, p=0.02))
    assert field.geometry.mask.sum() == 96 and field.geometry.boundary == ("open", "open", "periodic")


@pytest.mark.parametrize("rule", ["decimation", "or", "k-of-n"])
def test_electrodes_sample_sites_and_bins_hold_steps(rule):
    """Against plain numpy, with a mask, an offset and tissue around the array."""
    mask = np.array([[1, 1, 0], [1, 1, 1]], bool)
    array = Lattice((2, 3, 6), ("x", "y", "t"), "open", mask=mask)
    offset = (1, 0, 2) if rule == "decimation" else (1, 0, 0)
    k = 2 if rule == "k-of-n" else None
    seen = Observation(array, (2, 3, 4), rule, k, offset=offset, surround=1)
    phi = noise(seen.fine_lattice())
    fine = phi.array()
    sites = fine[1::2, 0::3][:2, :3].reshape(2, 3, 6, 4)
    up = {"decimation": sites[..., 2] > 0, "or": (sites > 0).any(axis=3), "k-of-n": (sites > 0).sum(axis=3) >= 2}
    expected = np.where(up[rule], 1, -1) * mask[:, :, None]
    np.testing.assert_array_equal(seen.observe(phi).array(), expected)


def test_decimation_leaves_the_correlators_of_the_kept_sites():
    """Per configuration, exactly: <s s'> of neighbors is that at distance b of the same sites of the fine field."""
    lattice = Lattice((6, 6, 24), ("x", "y", "t"))
    phi = noise(Observation(lattice, (2, 2, 3)).fine_lattice())
    coarse, fine = Observation(lattice, (2, 2, 3)).observe(phi).array(), phi.array()
    kept = fine[::2, ::2, ::3]
    for axis, b in ((0, 2), (1, 2), (2, 3)):
        far = np.roll(fine, -b, axis)[::2, ::2, ::3]
        assert (kept * far).sum() == (coarse * np.roll(coarse, -1, axis)).sum()
    wide = Observation(lattice, (2, 2, 3), "or").observe(phi).array()
    assert (wide == 1).sum() > (kept == 1).sum()  # bins that OR are something else


def test_operators_are_those_of_the_action():
    lattice = Lattice((8, 8, 32), ("x", "y", "t"))
    model = FineModel(Observation(lattice, 1), [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
    ensemble = simulate(model, (0.1, 0.15, 0.2, -0.1), 3, 32)
    last = ensemble.fields[-1].array().astype(int)
    sums = [(last * np.roll(last, -1, axis)).sum() for axis in range(3)]
    np.testing.assert_array_equal(ensemble.operators[-1], [*sums, last.sum()])
    planes = [last.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    modes = [abs(np.fft.fft(p)[mode_number(len(p))]) ** 2 for p in planes]
    assert mode_number(32) == 2
    np.testing.assert_allclose(ensemble.modes["fine"][-1], [last.sum(), *modes], rtol=1e-9)


def test_the_same_seed_gives_the_same_configurations():
    model = FineModel(Observation(Lattice((4, 4, 16), ("x", "y", "t")), 2))
    a, b, c = (simulate(model, (0.1, 0.1, 0.2, -0.1), 4, 16, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.operators, b.operators)
    assert (a.operators != c.operators).any()


def test_means_follow_the_couplings_as_covariances_say():
    """d<f>/d theta = cov(f, O), exact on few sites: the differences behind the inverse map against fluctuations."""
    model = FineModel(Observation(Lattice((64,), ("t",), "periodic"), 1))
    run = lambda K, h: simulate(model, (K, h), 2000, 64, seed=3, spacing=3, keep_fields=False)  # noqa: E731
    center, delta = run(0.3, -0.2), 0.05
    f = center.operators / 64
    by_covariance = np.cov(f.T, center.operators.T)[:2, 2:]
    for k in range(2):
        up, down = (run(*(np.array([0.3, -0.2]) + s * delta * np.eye(2)[k])).operators / 64 for s in (1, -1))
        slope = (up.mean(axis=0) - down.mean(axis=0)) / (2 * delta)
        error = np.sqrt(2 * up.var(axis=0) / 2000) / (2 * delta)
        spread = np.sqrt(f.var(axis=0) * center.operators[:, k].var() / 2000)
        assert (abs(slope - by_covariance[:, k]) < 4.5 * np.hypot(error, 1.5 * spread)).all()
        assert (error < 0.1 * abs(by_covariance[:, k])).all()


def test_estimator_is_the_fit_and_its_influences_are_its_errors():
    mask = np.ones((5, 4), bool)
    mask[0, 0] = False
    lattice = Lattice((5, 4, 40), ("x", "y", "t"), ("open", "periodic", "open"), mask=mask)
    fields = [noise(lattice, seed) for seed in range(60)]
    vectors = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1))
    fit = fit_lattice(fields, vectors, site_field=False, test=0)
    for start in (None, np.full(5, 0.1)):
        values, influences = lattice_estimator(vectors, start)(fields)
        np.testing.assert_allclose(values, [v for v, _ in fit.couplings.values()], atol=2e-6)
    errors = np.sqrt((influences**2).sum(axis=0))
    np.testing.assert_allclose(errors, [e for _, e in fit.couplings.values()], rtol=0.35)
    # the influence of a field is what leaving it out changes
    without, _ = lattice_estimator(vectors)(fields[1:])
    np.testing.assert_allclose(values - without, influences[0], atol=0.15 * errors.max())
    joint = np.sqrt(fit.joint_covariance.diagonal())
    np.testing.assert_allclose(joint, [e for _, e in fit.couplings.values()], rtol=1e-9)


def test_volume_is_small_and_says_what_it_gave_up():
    array = Lattice((64, 64, 90000), ("x", "y", "t"), "open", ("42 um", "42 um", "20 ms"))
    small = choose_volume(Observation(array, (2, 2, 2)), max_fine_sites=2**22)
    assert small.n_fine <= 2**22 and not small.notes and small.n_time >= 16
    patch = choose_volume(Observation(array, (8, 8, 20)))
    assert patch.n_fine <= 2**24 and "periodic patch" in patch.notes[0]
    assert patch.doubled().n_fine == 2 * patch.n_fine
    with pytest.raises(InputError, match="coarser target"):
        choose_volume(Observation(array, (100, 100, 1000)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": 0}, "factor"),
        ({"factor": (2, 2)}, "factor.*x, y, t"),
        ({"factor": 2, "rule": "average"}, "rule"),
        ({"factor": 2, "rule": "k-of-n"}, "k = None"),
        ({"factor": 2, "rule": "k-of-n", "k": 3}, "k = 3"),
        ({"factor": 2, "k": 1}, "k = 1"),
        ({"factor": 2, "offset": 2}, "offset 2"),
        ({"factor": 2, "surround": -1}, "surround"),
        ({"factor": 2, "space": "k-of-n"}, "space"),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(InputError, match=words):
        Observation(Lattice((4, 4, 8), ("x", "y", "t")), **options)
