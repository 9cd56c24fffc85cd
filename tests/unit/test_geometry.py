"""Lattices and graphs: what is refused, how many bonds there are, where a site is stored, its color."""

import itertools
import math

import numpy as np
import pytest

from lft.errors import InputError
from lft.geometry import Coloring, Graph, Lattice, color_lattice

# --- errors name the value and what is valid


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "at least one positive integer"),
        (((4, 0),), "got 0"),
        (((4, -2),), "got -2"),
        (((4, 2.0),), "got 2.0"),
        (((4, True),), "got True"),
        (((2**31, 2**31),), r"below 2\^62"),
        (((4, 4), ("x",)), "1 names for a shape of 2"),
        (((4, 4), ("x", "x")), "different names"),
        (((4, 4), ("x", "y z")), "different names"),
        (((4, 4), ("x", 1)), "different names"),
        (((4, 4, 4), ("x", "y", "t"), ("open", "open")), r"2 values but the lattice has 3 axes \(x, y, t\)"),
        (((4, 4), None, "closed"), "valid are periodic, open"),
        (((4, 4), None, ("open", "reflecting")), "valid are periodic, open"),
        (((4, 4), ("x", "t"), "open", ("42 um",)), "1 values but the lattice has 2"),
        (((4, 4), ("x", "t"), "open", ("42 ms", "20 ms")), "spacing of axis x"),
        (((4, 4), ("x", "t"), "open", ("42 um", "20 um")), "spacing of axis t"),
        (
            ((4, 4), ("x", "t"), "open", None, np.ones((4, 4), bool)),
            r"mask has shape \(4, 4\), the spatial axes have \(4,\)",
        ),
        (((4, 4), None, "open", None, np.zeros((4, 4), bool)), "every site is inactive"),
    ],
)
def test_bad_lattices_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Lattice(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4), "n_units"),
        ((4, 0), "n_bins"),
        ((4, 2.5), "n_bins"),
        ((4, 4, "free"), "valid are periodic, open"),
        ((4, 4, "open", "5 um"), "bin_width"),
    ],
)
def test_bad_graphs_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Graph(*arguments)


@pytest.mark.parametrize(
    ("displacement", "message"),
    [
        ((0, 0), "nonzero vector of 2"),
        ((1,), "nonzero vector of 2"),
        ((1, 0, 0), "nonzero vector of 2"),
        ((3, 0), "needs at least 6"),
        ((-3, 0), "needs at least 6"),
    ],
)
def test_bad_displacements_are_refused(displacement, message):
    with pytest.raises(InputError, match=message):
        Lattice((5, 5), None, ("periodic", "open")).check_displacement(displacement)
    Lattice((5, 5), None, ("periodic", "open")).check_displacement((2, 40))  # an open axis sets no limit


# --- identity and storage


def test_lattices_are_values():
    mask = np.array([[True, False], [True, True]])
    make = [
        lambda: Lattice((2, 2, 5), ("x", "y", "t"), "open", mask=mask),
        lambda: Lattice((2, 2, 5), ("x", "y", "t"), "open"),
        lambda: Lattice((2, 2, 5), ("x", "y", "t")),
        lambda: Lattice((2, 2, 5)),
        lambda: Lattice((2, 5, 2)),
    ]
    for i, j in itertools.product(range(len(make)), repeat=2):
        assert (make[i]() == make[j]()) == (i == j)
        assert i != j or hash(make[i]()) == hash(make[j]())
    assert Lattice((2, 2)) != Graph(2, 2) and Graph(3, 4) == Graph(3, 4) != Graph(4, 3)


def test_the_mask_is_a_read_only_copy():
    mask = np.array([True, False, True])
    lattice = Lattice((3,), mask=mask)
    mask[:] = False
    assert lattice.n_active == 2
    with pytest.raises(ValueError, match="read-only"):
        lattice.mask[0] = False
    assert Lattice((3,), mask=np.ones(3, bool)).mask is None  # a full mask is no mask


@pytest.mark.parametrize("shape", [(5,), (4, 3), (4, 3, 2), (2, 3, 4, 5)])
def test_time_is_stored_first_and_storage_is_invertible(shape):
    array = np.arange(math.prod(shape)).reshape(shape)
    for time in [None, *range(len(shape))]:
        axes = tuple("t" if k == time else "abcd"[k] for k in range(len(shape)))
        lattice = Lattice(shape, axes)
        stored = lattice.to_storage(array)
        assert stored.shape == lattice.storage_shape and len(stored.shape) >= 2
        assert np.array_equal(lattice.from_storage(stored), array)
        assert lattice.n_time == (1 if time is None else shape[time])
        assert lattice.space_shape == tuple(n for k, n in enumerate(shape) if k != time)
        if time is not None:
            assert stored.shape[0] == shape[time]
            moved = np.moveaxis(array, time, 0)  # the other axes keep their order
            assert np.array_equal(stored.reshape(moved.shape), moved)
        for k in range(len(shape)):  # a step in the user's order and as stored
            d = tuple(int(i == k) for i in range(len(shape)))
            rolled = lattice.to_storage(np.roll(array, d, range(len(shape))))
            assert np.array_equal(
                rolled, np.roll(stored, lattice.storage_displacement(d), range(stored.ndim))
            )


def test_mask_in_storage_order_stands_still_in_time():
    mask = np.random.default_rng(1).random((3, 4)) < 0.6
    lattice = Lattice((3, 5, 4), ("x", "t", "y"), mask=mask)
    assert np.array_equal(
        np.broadcast_to(lattice.storage_mask(), lattice.storage_shape), np.stack([mask] * 5)
    )
    assert lattice.n_active == 5 * mask.sum() and lattice.n_sites == 60
    assert np.array_equal(Lattice((3, 4), mask=mask).storage_mask(), mask)
    assert np.array_equal(Lattice((4,), mask=mask[0]).storage_mask(), mask[:1].T)  # a second axis of extent 1


def test_quantities_of_the_axes():
    lattice = Lattice((4, 4), ("x", "t"), "open", ("42 um", "20 ms"))
    assert (str(lattice.quantity("x")), str(lattice.quantity("t"))) == ("42 um", "20 ms")
    assert Lattice((4, 4)).quantity("x") is None
    assert str(Graph(2, 3, "open", "5 ms").quantity("t")) == "5 ms" and Graph(2, 3).quantity("t") is None


# --- bonds


def bonds_by_hand(lattice, d):
    """Pairs (x, x + d) of two sites that exist; an axis of extent 1 has none, as documented."""
    mask = np.ones(lattice.shape, bool)
    if lattice.mask is not None:
        t = lattice.time_axis
        mask &= lattice.mask if t is None else np.expand_dims(lattice.mask, t)
    count = 0
    for x in np.ndindex(lattice.shape):
        y = []
        for k, n in enumerate(lattice.shape):
            target = x[k] + d[k]
            if lattice.boundary[k] == "periodic" and n > 1:
                target %= n
            y.append(target)
        exists = all(0 <= c < n for c, n in zip(y, lattice.shape, strict=True))
        count += bool(exists and tuple(y) != x and mask[x] and mask[tuple(y)])
    return count


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (1, 6), (2, 3), (5, 4), (3, 1, 4), (2, 2, 5)])
def test_count_bonds_agrees_with_counting(shape):
    rng = np.random.default_rng(2)
    for boundary in itertools.product(("periodic", "open"), repeat=len(shape)):
        for time in (None, 0, len(shape) - 1):
            axes = tuple("t" if k == time else "abcd"[k] for k in range(len(shape)))
            space = tuple(n for k, n in enumerate(shape) if k != time)
            random_mask = rng.random(space) < 0.7
            for mask in (None, random_mask if random_mask.any() else None):
                lattice = Lattice(shape, axes, boundary, mask=mask)
                for d in itertools.product((-2, -1, 0, 1, 2), repeat=len(shape)):
                    wraps = any(
                        b == "periodic" and n > 1 and 2 * abs(s) > n
                        for b, n, s in zip(boundary, shape, d, strict=True)
                    )
                    if any(d) and not wraps:
                        lattice.check_displacement(d)
                        assert lattice.count_bonds(d) == bonds_by_hand(lattice, d), (lattice, d)


def test_bonds_of_a_torus_and_of_an_open_box():
    torus, box = Lattice((6, 5)), Lattice((6, 5), boundary="open")
    assert [torus.count_bonds(d) for d in torus.unit_displacements()] == [30, 30]
    assert [box.count_bonds(d) for d in box.unit_displacements()] == [25, 24]
    assert [box.count_bonds((1, 1)), box.count_bonds((-1, 1)), box.count_bonds((6, 0))] == [20, 20, 0]
    assert Lattice((2,)).count_bonds((1,)) == 2 and Lattice((1,)).count_bonds((1,)) == 0


# --- coloring


def test_simplest_colorings():
    assert color_lattice([], (4, 4), (True, True)) == Coloring((0, 0), 1, (0, 0))
    assert color_lattice([(1, 0), (0, 1)], (4, 4), (True, True)) == Coloring((1, 1), 2, (0, 0))
    assert color_lattice([(1, 0), (0, 1)], (5, 4), (True, True)).seam == (1, 0)
    assert color_lattice([(1, 0), (0, 1)], (5, 5), (False, False)).seam == (0, 0)
    cube = [d for d in itertools.product((-1, 0, 1), repeat=3) if any(d)]
    assert color_lattice(cube, (8, 8, 8), (True,) * 3).modulus == 8  # as the docstring says


@pytest.mark.parametrize(
    ("lags", "n_bins", "boundary", "modulus", "seam"),
    [
        ([1], 10, "open", 2, 0),
        ([1], 10, "periodic", 2, 0),
        ([1], 9, "periodic", 2, 1),
        ([1, 2], 9, "periodic", 3, 0),
        ([1, 2], 10, "periodic", 3, 2),
        ([1, 3], 8, "periodic", 2, 0),
        ([2], 6, "open", 3, 0),
        ([], 4, "open", 1, 0),
        ([1, 20], 10, "open", 2, 0),
    ],
)
def test_colorings_of_a_graph(lags, n_bins, boundary, modulus, seam):
    coloring = Graph(3, n_bins, boundary).coloring([(k, 0) for k in lags])
    assert (coloring.modulus, coloring.seam, coloring.sequential) == (modulus, (seam, 0), True)


@pytest.mark.parametrize("seed", range(40))
def test_no_two_sites_of_a_class_interact(seed):
    # random displacements on random boxes, by brute force from the definition of the class of a site
    rng = np.random.default_rng(seed)
    n_axes = int(rng.integers(1, 4))
    shape = tuple(int(n) for n in rng.integers(1, 9 if n_axes < 3 else 6, n_axes))
    boundary = tuple(rng.choice(["periodic", "open"], n_axes).tolist())
    lattice = Lattice(shape, boundary=boundary)
    steps = [
        d
        for d in itertools.product((-2, -1, 0, 1, 2), repeat=n_axes)
        if any(d)
        and not any(
            b == "periodic" and n > 1 and 2 * abs(s) > n for b, n, s in zip(boundary, shape, d, strict=True)
        )
    ]
    chosen = (
        [steps[i] for i in rng.choice(len(steps), min(len(steps), int(rng.integers(1, 5))), replace=False)]
        if steps
        else []
    )
    coloring = lattice.coloring(chosen)
    extents = lattice.storage_shape

    def class_of(x):
        color = sum(a * c for a, c in zip(coloring.coefficients, x, strict=True)) % coloring.modulus
        return color, tuple(bool(w) and c >= n - w for w, c, n in zip(coloring.seam, x, extents, strict=True))

    assert {class_of(x) for x in np.ndindex(extents)} <= set(coloring.classes())
    for d in chosen:
        if not lattice.joins(d):
            continue
        step = lattice.storage_displacement(d)
        for x in np.ndindex(extents):
            y = tuple(
                (c + s) % n if p else c + s
                for c, s, n, p in zip(x, step, extents, lattice.storage_periodic, strict=True)
            )
            if all(0 <= c < n for c, n in zip(y, extents, strict=True)):
                assert class_of(x) != class_of(y), (lattice, chosen, x, y)


def test_halo_is_the_widest_step_that_joins_something():
    lattice = Lattice((6, 1, 8), ("x", "y", "t"), ("periodic", "periodic", "open"))
    assert lattice.halo([(1, 0, 0), (2, 0, -3), (0, 1, 0), (0, 0, 40)]) == (3, 2, 0)
    assert Graph(4, 5).halo([(1, 0), (3, 0), (9, 0)]) == (3, 0)
