"""Operators: shapes by symmetry, sums against shifted arrays, local fields as derivatives; masks and open ends."""

import itertools

import numpy as np
import pytest

from lft.errors import InputError
from lft.geometry import Lattice
from lft.rg.monte_carlo import operators as module
from lft.rg.monte_carlo.operators import Operator, Products, equivalent_axes, operator, operator_set, parse_operator


def sums_by_hand(lattice, o, spins):
    """Visit every site and image; the user's axis order; a product with an absent site is none."""
    mask = np.ones(lattice.space_shape, bool) if lattice.mask is None else lattice.mask
    if lattice.time_axis is not None:
        mask = np.broadcast_to(np.expand_dims(mask, lattice.time_axis), lattice.shape)
    total = number = 0
    for x in itertools.product(*map(range, lattice.shape)):
        for shape in o.shapes:
            value = 1
            for d in shape:
                y = tuple(a + b for a, b in zip(x, d, strict=True))
                inside = [
                    (0 <= c < n) or (b == "periodic" and n > 1)
                    for c, n, b in zip(y, lattice.shape, lattice.boundary, strict=True)
                ]
                y = tuple(c % n for c, n in zip(y, lattice.shape, strict=True))
                value *= int(spins[y]) if all(inside) and mask[y] else 0
            total += value
            number += value != 0
    return total, number


def random_lattice(name):
    mask = np.random.default_rng(3).random((5, 4)) < 0.75
    return {
        "torus": Lattice((4, 6)),
        "line": Lattice((9,)),
        "open line": Lattice((9,), boundary="open"),
        "cube": Lattice((4, 3, 5)),
        "holes": Lattice((5, 4), boundary="open", mask=mask),
        "holes on a torus": Lattice((5, 4), mask=mask),
        "space-time": Lattice((5, 4, 6), ("x", "y", "t"), ("open", "periodic", "open"), mask=mask),
        "time first": Lattice((6, 5, 4), ("t", "x", "y"), ("periodic", "open", "open"), mask=mask),
    }[name]


LATTICES = ("torus", "line", "open line", "cube", "holes", "holes on a torus", "space-time", "time first")


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize("kind", ["spin", "gas"])
def test_sums_are_those_of_a_loop_over_sites(name, kind):
    lattice = random_lattice(name)
    n_axes = len(lattice.shape)
    ops = operator_set(n_axes, min(5, 2 + 2 * n_axes), 4 if n_axes > 1 else 2, equivalent_axes(lattice))
    rng = np.random.default_rng(1)
    spins = rng.choice([-1, 1], (300, *lattice.shape)).astype(np.int8)  # more than one batch
    stored = np.stack([lattice.to_storage(s) for s in spins])
    mask = lattice.storage_mask()
    stored = stored if mask is None else stored * mask.astype(np.int8)
    compiled = Products(lattice, ops)
    sums = compiled.sums(stored if kind == "spin" else (stored > 0).astype(np.int8), kind)
    for c in (0, 255, 256, 299):
        by_hand = [sums_by_hand(lattice, o, spins[c]) for o in ops]
        assert sums[c].tolist() == [v for v, _ in by_hand]
        assert compiled.n_products.tolist() == [n for _, n in by_hand]


@pytest.mark.parametrize("name", LATTICES)
def test_local_fields_are_derivatives(name):
    """f_a(x) = (O_a[s_x = 1] - O_a[s_x = -1]) / 2."""
    lattice = random_lattice(name)
    ops = operator_set(len(lattice.shape), 3, 2, equivalent_axes(lattice))
    compiled = Products(lattice, ops)
    spins = np.random.default_rng(2).choice([-1, 1], lattice.storage_shape).astype(np.int8)
    fields = compiled.local_fields(spins)
    pairs = np.empty((2 * len(compiled.sites), compiled.n_sites), np.int8)
    flat = compiled.with_absent(spins)[:-1]
    pairs[:] = flat
    for k, x in enumerate(compiled.sites):
        pairs[2 * k, x], pairs[2 * k + 1, x] = 1, -1
    sums = compiled.sums(pairs.reshape(-1, *lattice.storage_shape))
    assert np.array_equal(fields, (sums[::2] - sums[1::2]) // 2)


def test_the_reference_catches_a_wrong_count(monkeypatch):
    """Mutant: products that reach beyond an open end are counted as if the lattice were closed."""
    lattice = random_lattice("holes")
    ops = operator_set(2, 3, 1)
    spins = np.where(lattice.mask, 1, 0).astype(np.int8)
    right = Products(lattice, ops).sums(spins[None])[0].tolist()
    assert right == [sums_by_hand(lattice, o, np.ones((5, 4)))[0] for o in ops]
    monkeypatch.setattr(module, "_moved", lambda number, step, axis, is_periodic, absent: np.roll(number, -step, axis))
    assert Products(lattice, ops).sums(spins[None])[0].tolist() != right


def test_shapes_are_closed_under_the_symmetries_and_disjoint():
    for n_axes, groups in ((1, None), (2, None), (3, None), (3, [(0, 1)]), (2, [])):
        ops = operator_set(n_axes, 8 if n_axes > 1 else 3, 6 if n_axes > 1 else 3, groups)
        shapes = [s for o in ops for s in o.shapes]
        assert len(set(shapes)) == len(shapes)
        for o in ops:
            for shape in o.shapes:
                assert operator(shape, groups).shapes == o.shapes
                assert parse_operator(o.coupling, n_axes, groups) == o


def test_the_shortest_operators_of_the_square_lattice():
    names = [o.name for o in operator_set(2, 7, 4)]
    assert names == ["1,0", "1,1", "0,1;1,0;1,1", "2,0", "2,1", "1,0;1,1;2,0", "1,-1;1,1;2,0",
                     "h", "1,0;1,1", "1,0;2,0", "1,1;2,0"]  # fmt: skip
    assert [len(o.shapes) for o in operator_set(3, 4, 1)] == [3, 6, 4, 3, 1]
    assert len(operator([(0, 0, 0), (1, 0, 0)], [(0, 1)]).shapes) == 2


def test_axes_belong_together_only_if_nothing_tells_them_apart():
    from lft.actions import Ising

    assert equivalent_axes(Lattice((8, 8))) == [(0, 1)]
    assert equivalent_axes(Lattice((8, 4))) == []
    assert equivalent_axes(Lattice((8, 8, 8)), None, (2, 1, 2)) == [(0, 2)]
    assert equivalent_axes(Lattice((8, 8), boundary=("open", "periodic"))) == []
    assert equivalent_axes(Lattice((8, 8), ("x", "t"))) == []
    assert equivalent_axes(Lattice((8, 8)), Ising((0.3, 0.4))) == []
    assert equivalent_axes(Lattice((8, 8, 8)), Ising((0.3, 0.4, 0.3))) == [(0, 2)]
    assert equivalent_axes(Lattice((8, 8)), Ising({(1, 0): 0.3, (0, 1): 0.3, (1, 1): 0.1, (1, -1): 0.1})) == [(0, 1)]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda: operator([]), "at least one"),
        (lambda: operator([(0, 0), (0, 0)]), "different displacements"),
        (lambda: operator([(0, 0), (1,)]), "one dimension"),
        (lambda: operator([(0, 0), (1, 0)], [(0, 2)]), "disjoint groups of the axes 0 to 1"),
        (lambda: parse_operator("1,x", 2), "'1,x'"),
        (lambda: parse_operator("1,0,0", 2), "displacements of 2 integers"),
        (lambda: operator_set(2, -1, 1), "-1 even"),
        (lambda: operator_set(1, 60, 60), "no more than"),
        (lambda: Products(Lattice((4, 4)), []), "at least one"),
        (lambda: Products(Lattice((4,)), operator_set(2, 1, 0)), "2 axes, the lattice 1"),
        (lambda: Products(Lattice((4, 4)), 2 * operator_set(2, 1, 0)), "stands twice"),
        (lambda: Products(Lattice((1, 4), boundary="open"), [Operator("1,0", (((0, 0), (1, 0)),))]), "no such product"),
        (lambda: Products(Lattice((40000, 40000)), operator_set(2, 2, 0)), "GB"),
        (lambda: Products(Lattice((4, 4)), operator_set(2, 1, 0)).sums(np.ones((1, 4, 5), np.int8)), "shape"),
    ],
)
def test_bad_input_is_one_line(what, message):
    with pytest.raises(InputError, match=message) as caught:
        what()
    assert "\n" not in str(caught.value)
