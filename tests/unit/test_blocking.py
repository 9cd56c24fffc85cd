"""Blocking rules against loops over blocks, and the laws that each rule obeys."""

import itertools
import math

import numpy as np
import pytest

from lft.errors import InputError
from lft.field import Field
from lft.geometry import Graph, Lattice
from lft.rg import blocking
from lft.rg.blocking import BLOCKINGS, KINDS, block, plan_blocks
from lft.rng import Key, Stream

AXES = ("x", "y", "z")


def random_field(rng, shape, axes, kind="spin", boundary="open", density=0.7, p=0.5):
    """A field with random values and, where there is space, a random mask."""
    space = tuple(n for n, a in zip(shape, axes, strict=True) if a != "t")
    mask = rng.random(space) < density if space else None
    if mask is not None and not mask.any():
        mask.flat[0] = True
    lattice = Lattice(shape, axes, boundary, None, mask)
    values = {
        "spin": lambda: np.where(rng.random(shape) < p, 1, -1),
        "gas": lambda: (rng.random(shape) < p).astype(int),
        "real": lambda: rng.normal(size=shape),
    }[kind]()
    return Field.from_array(lattice, kind, values)


def full_mask(lattice):
    """Active sites over all axes, user's order."""
    if lattice.mask is None:
        return np.ones(lattice.shape, bool)
    mask = lattice.mask if lattice.time_axis is None else np.expand_dims(lattice.mask, lattice.time_axis)
    return np.broadcast_to(mask, lattice.shape)


def coins_of(field, plan, seed, level):
    """Up or down for every coarse site, user's order."""
    n = math.prod(plan.coarse.storage_shape)
    numbers = Key(seed).fill("uniform", 0, 1, n, level, Stream.BLOCKING)[0]
    return plan.coarse.from_storage(numbers.reshape(plan.coarse.storage_shape)) < 0.5


def block_by_hand(field, name, factor, k=None, seed=0, level=0, offset=None, rescale=1.0, min_active=1):
    """Slow oracle: one block at a time.  Returns values and active sites in the user's order."""
    lattice = field.geometry
    offset = offset or (0,) * len(factor)
    values, active = field.array(), full_mask(lattice)
    shape = tuple(n // b for n, b in zip(lattice.shape, factor, strict=True))
    coins = coins_of(field, plan_blocks(lattice, factor, min_active, name, offset), seed, level)
    result, exists = np.zeros(shape), np.zeros(shape, bool)
    time_factor = 1 if lattice.time_axis is None else factor[lattice.time_axis]
    down = -1 if field.kind == "spin" else 0
    for site in itertools.product(*map(range, shape)):
        cells = tuple(slice(i * b, (i + 1) * b) for i, b in zip(site, factor, strict=True))
        if name == "decimation":
            corner = tuple(i * b + o for i, b, o in zip(site, factor, offset, strict=True))
            exists[site], result[site] = active[corner], values[corner]
            continue
        inside = values[cells][active[cells]]
        exists[site] = len(inside) // time_factor >= min_active
        if not exists[site]:
            continue
        up, n = int((inside == 1).sum()), len(inside)
        if name == "average":
            result[site] = rescale * inside.sum() / n
        else:
            is_up = {
                "majority": coins[site] if 2 * up == n else 2 * up > n,
                "or": up >= 1,
                "k-of-n": k is not None and up >= k,
            }[name]
            result[site] = 1 if is_up else down
    return result, exists


def case(seed):
    """Random shape, axes, mask and factors in one to four dimensions, time in any place or absent."""
    rng = np.random.default_rng(seed)
    n_axes = int(rng.integers(1, 5))
    axes = list(AXES[:n_axes]) if n_axes < 4 and rng.random() < 0.4 else [*AXES[: n_axes - 1], "t"]
    rng.shuffle(axes)
    factor = tuple(int(b) for b in rng.integers(1, 4, n_axes))
    shape = tuple(int(b * rng.integers(1, 4) + rng.integers(0, b)) for b in factor)
    return rng, shape, tuple(axes), factor


# ---- against loops
@pytest.mark.parametrize("name", BLOCKINGS)
@pytest.mark.parametrize("seed", range(25))
def test_every_rule_against_loops(name, seed, monkeypatch):
    monkeypatch.setattr(blocking, "CHUNK_SITES", 7)  # many chunks
    rng, shape, axes, factor = case(seed)
    for kind in KINDS[name]:
        field = random_field(rng, shape, axes, kind, p=0.4)
        offset = tuple(int(rng.integers(0, b)) for b in factor) if name == "decimation" else 0
        k = int(rng.integers(1, math.prod(factor) + 1)) if name == "k-of-n" else None
        rescale = 1.3 if name == "average" else 1.0
        try:
            coarse = block(field, name, factor, k=k, seed=5, level=2, offset=offset, rescale=rescale)
        except InputError as reason:
            assert "coarse lattice is empty" in str(reason)
            continue
        expected, exists = block_by_hand(field, name, factor, k, 5, 2, offset or None, rescale)
        assert np.array_equal(full_mask(coarse.geometry), exists)
        assert coarse.kind == ("real" if name == "average" else kind)
        assert coarse.geometry.axes == axes and coarse.geometry.boundary == field.geometry.boundary
        if name == "average":
            np.testing.assert_allclose(coarse.array(), expected * exists, rtol=1e-13, atol=1e-13)
        else:
            assert np.array_equal(coarse.array(), expected * exists)
        coarse.check()


@pytest.mark.parametrize("seed", range(10))
def test_least_number_of_active_sites(seed):
    rng = np.random.default_rng(seed)
    field = random_field(rng, (6, 8, 5), ("x", "y", "t"), density=0.6)
    for name, min_active in itertools.product(("majority", "average", "or"), (1, 2, 3)):
        coarse = block(field, name, (2, 2, 2), min_active=min_active)
        expected, exists = block_by_hand(field, name, (2, 2, 2), min_active=min_active)
        assert np.array_equal(full_mask(coarse.geometry), exists)
        np.testing.assert_allclose(coarse.array(), expected * exists, rtol=1e-13)


def test_factor_one_changes_nothing():
    rng = np.random.default_rng(1)
    for kind, name in ((k, n) for n in BLOCKINGS for k in KINDS[n]):
        field = random_field(rng, (3, 4, 5), ("x", "t", "y"), kind)
        coarse = block(field, name, 1, k=1 if name == "k-of-n" else None)
        assert coarse.geometry == field.geometry and np.array_equal(coarse.array(), field.array())


@pytest.mark.parametrize("name", BLOCKINGS)
def test_the_input_is_left_alone_and_halos_are_filled(name):
    field = random_field(np.random.default_rng(2), (4, 4, 4), ("x", "y", "t"), boundary="periodic")
    before = field.data.copy()
    coarse = block(field, name, 2, k=1 if name == "k-of-n" else None, halo=(1, 1, 1))
    assert np.array_equal(field.data, before)
    assert np.array_equal(coarse.data, np.pad(coarse.values, 1, mode="wrap"))
    from lft.domain import Domain

    padded = Field(field.geometry, "spin", Domain((4, 4, 4), (True,) * 3, (2, 1, 0)))
    padded.values[...] = field.values
    again = block(padded, name, 2, k=1 if name == "k-of-n" else None)
    assert np.array_equal(again.values, coarse.values)


def test_large_blocks_do_not_overflow():
    for shape in ((16, 16, 200), (64, 64, 20)):
        field = Field.from_array(Lattice(shape, ("x", "y", "t"), "open"), "spin", np.ones(shape))
        assert block(field, "majority", shape).array().item() == 1
        assert block(field, "average", shape).array().item() == 1.0
        assert block(field, "k-of-n", shape, k=math.prod(shape)).array().item() == 1


# ---- laws
@pytest.mark.parametrize("name", BLOCKINGS)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_the_axes_does_not_matter(name, order):
    rng = np.random.default_rng(3)
    axes, factor, shape = (
        ("x", "y", "t"),
        (3, 1, 3),
        (6, 5, 7),
    )  # odd blocks: no ties, whose coins follow the sites
    mask = None if name == "majority" else rng.random((6, 5)) < 0.7
    values = np.where(rng.random(shape) < 0.4, 1, -1)
    k = 4 if name == "k-of-n" else None
    first = block(
        Field.from_array(Lattice(shape, axes, "open", None, mask), "spin", values), name, factor, k=k
    )
    space = [i for i in order if i != 2]
    lattice = Lattice(
        [shape[i] for i in order],
        [axes[i] for i in order],
        "open",
        None,
        None if mask is None else mask.transpose(space),
    )
    other = block(
        Field.from_array(lattice, "spin", values.transpose(order)), name, [factor[i] for i in order], k=k
    )
    np.testing.assert_allclose(other.array(), first.array().transpose(order), rtol=1e-13)


@pytest.mark.parametrize("place", range(3))
def test_the_place_of_the_time_axis_does_not_change_the_coins(place):
    rng = np.random.default_rng(4)
    values = np.where(rng.random((4, 6, 8)) < 0.5, 1, -1)  # x, y, t
    first = block(
        Field.from_array(Lattice((4, 6, 8), ("x", "y", "t")), "spin", values), "majority", 2, seed=9
    )
    axes = ["x", "y"]
    axes.insert(place, "t")
    moved = np.moveaxis(values, 2, place)
    other = block(Field.from_array(Lattice(moved.shape, axes), "spin", moved), "majority", 2, seed=9)
    assert np.array_equal(other.array(), np.moveaxis(first.array(), 2, place))


def test_decimation_keeps_correlators():
    """Correlators of the kept sites are those of the fine field at b times the distance, exactly."""
    rng = np.random.default_rng(5)
    field = random_field(rng, (12, 9, 20), ("x", "y", "t"), density=1.1)
    fine = field.array().astype(int)
    coarse = block(field, "decimation", (2, 3, 4)).array().astype(int)
    kept = fine[::2, ::3, ::4]
    for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 1, 3)):
        low = tuple(slice(0, n - s) for n, s in zip(coarse.shape, step, strict=True))
        high = tuple(slice(s, None) for s in step)
        wide = tuple(slice(s * b, None, b) for s, b in zip(step, (2, 3, 4), strict=True))
        assert np.array_equal(coarse[low] * coarse[high], kept[low] * fine[wide])


@pytest.mark.parametrize(("factor", "p"), [((1, 1, 5), 0.1), ((2, 2, 2), 0.05), ((3, 1, 2), 0.3)])
def test_or_of_independent_sites(factor, p):
    n, b = 1_200_000, math.prod(factor)
    field = random_field(np.random.default_rng(6), (60, 20, 1000), ("x", "y", "t"), "gas", density=1.1, p=p)
    assert field.values.size == n
    expected = 1 - (1 - p) ** b
    mean = block(field, "or", factor).values.mean()
    assert abs(mean - expected) < 4.5 * math.sqrt(expected * (1 - expected) * b / n)
    wrong = 1 - (1 - p) ** (b + 1)
    assert abs(mean - wrong) > 4.5 * math.sqrt(expected * (1 - expected) * b / n)


def test_k_of_n_of_independent_sites():
    p, n = 0.2, 900_000
    field = random_field(np.random.default_rng(7), (30, 30, 1000), ("x", "y", "t"), "gas", density=1.1, p=p)
    for k in range(1, 6):
        exact = sum(math.comb(5, j) * p**j * (1 - p) ** (5 - j) for j in range(k, 6))
        mean = block(field, "k-of-n", (1, 1, 5), k=k).values.mean()
        assert abs(mean - exact) < 4.5 * math.sqrt(exact * (1 - exact) * 5 / n)


def all_ties(shape):
    """A spin field on pairs along x of which one is up: every block of two is a tie."""
    values = np.broadcast_to(np.array([1, -1])[:, None], (shape[0] // 2, 2, shape[1])).reshape(shape)
    return Field.from_array(Lattice(shape, ("x", "t"), "open"), "spin", values)


def fair(coins):
    """Mean 0 and no correlation between neighboring sites or times, |z| < 4.5."""
    n = coins.size
    z = [coins.sum() / math.sqrt(n)]
    for axis in range(coins.ndim):
        product = np.take(coins, range(1, coins.shape[axis]), axis) * np.take(
            coins, range(coins.shape[axis] - 1), axis
        )
        z.append(product.sum() / math.sqrt(product.size))
    return all(abs(value) < 4.5 for value in z)


def test_ties_are_fair(monkeypatch):
    field = all_ties((400, 500))
    coins = block(field, "majority", (2, 1), seed=1).values.astype(int)
    assert coins.shape == (500, 200) and fair(coins)
    other = block(field, "majority", (2, 1), seed=1, level=1).values
    assert fair(coins * other) and fair(coins * block(field, "majority", (2, 1), seed=2).values)
    # Mutants that must be rejected: ties always up; one coin per time; the same coins at all times.
    mutants = (
        lambda ties, *_: np.ones(int(ties.sum()), bool),
        lambda ties, *_: np.broadcast_to((np.arange(len(ties)) % 2 == 0)[:, None], ties.shape)[ties],
        lambda ties, *_: np.broadcast_to(coins[:1] > 0, ties.shape)[ties],
    )
    for mutant in mutants:
        monkeypatch.setattr(blocking, "flip_coins", mutant)
        assert not fair(block(field, "majority", (2, 1), seed=1).values.astype(int))


def test_the_coin_of_a_site_does_not_depend_on_the_rest_of_the_field(monkeypatch):
    rng = np.random.default_rng(8)
    tied = all_ties((40, 50))
    reference = block(tied, "majority", (2, 1), seed=3).array()
    monkeypatch.setattr(blocking, "CHUNK_SITES", 64)
    assert np.array_equal(block(tied, "majority", (2, 1), seed=3).array(), reference)
    values = tied.array()
    broken = rng.random((20, 50)) < 0.5
    values[::2][broken] = values[1::2][broken] = 1
    some = block(Field.from_array(tied.geometry, "spin", values), "majority", (2, 1), seed=3).array()
    assert np.array_equal(some, np.where(broken, 1, reference))


def test_average_of_spins_is_their_magnetization():
    field = random_field(np.random.default_rng(9), (8, 8, 8), ("x", "y", "t"), density=1.1)
    coarse = block(field, "average", (2, 4, 8))
    assert coarse.values.mean() == pytest.approx(field.values.mean())
    assert block(field, "average", (2, 4, 8), rescale=2.0).values.mean() == pytest.approx(
        2 * field.values.mean()
    )


# ---- geometry and report
def test_what_is_dropped_is_reported():
    rng = np.random.default_rng(10)
    mask = rng.random((7, 9)) < 0.5
    lattice = Lattice((7, 9, 11), ("x", "y", "t"), "open", ("42 um", "42 um", "20 ms"), mask)
    plan = plan_blocks(lattice, (2, 3, 4))
    assert plan.dropped == {"x": 1, "y": 0, "t": 3}
    assert plan.coarse.shape == (3, 3, 2) and plan.coarse.spacing == ("84 um", "126 um", "80 ms")
    assert plan.dropped_fraction == pytest.approx(1 - mask[:6].sum() * 8 / (mask.sum() * 11))
    assert plan_blocks(lattice, (2, 3, 4), name="decimation").factor == (2, 3, 4)
    kept = mask[:6:2, ::3]
    plan = plan_blocks(lattice, (2, 3, 4), name="decimation")
    assert np.array_equal(full_mask(plan.coarse)[..., 0], kept)
    inside = sum(
        mask[2 * i : 2 * i + 2, 3 * j : 3 * j + 3].sum()
        for i, j in itertools.product(range(3), repeat=2)
        if kept[i, j]
    )
    assert plan.dropped_fraction == pytest.approx(1 - inside * 8 / (mask.sum() * 11))
    assert plan_blocks(Lattice((4, 4)), 2).dropped_fraction == 0.0


def test_periodic_axes_may_shrink_to_one_site():
    lattice = Lattice((4, 6), ("x", "t"), ("periodic", "open"))
    coarse = block(Field.from_array(lattice, "spin", np.ones((4, 6))), "majority", (4, 2))
    assert coarse.geometry.shape == (1, 3) and coarse.geometry.boundary == ("periodic", "open")


def test_graphs_are_blocked_in_time():
    rng = np.random.default_rng(11)
    graph = Graph(5, 13, "open", "5 ms")
    values = (rng.random((13, 5)) < 0.3).astype(int)
    field = Field.from_array(graph, "gas", values)
    for factor in (3, (3, 1)):
        coarse = block(field, "or", factor)
        assert coarse.geometry == Graph(5, 4, "open", "15 ms")
        assert np.array_equal(coarse.array(), values[:12].reshape(4, 3, 5).max(axis=1))
    assert plan_blocks(graph, 3).dropped == {"t": 1, "unit": 0}
    late = block(field, "decimation", 3, offset=2)
    assert np.array_equal(late.array(), values[2::3])
    assert np.array_equal(
        block(field, "k-of-n", 3, k=2).array(), values[:12].reshape(4, 3, 5).sum(axis=1) >= 2
    )


SPIN = Field.from_array(Lattice((4, 6), ("x", "t"), ("periodic", "open")), "spin", np.ones((4, 6)))
REAL = Field.from_array(SPIN.geometry, "real", np.ones((4, 6)))
UNITS = Field.from_array(Graph(3, 8, "periodic"), "gas", np.ones((8, 3)))
SPARSE = Field.from_array(
    Lattice((4, 4), ("x", "y"), "open", None, np.eye(4) > 0), "spin", np.where(np.eye(4) > 0, 1, 0)
)
BAD = [
    (SPIN, ("median", 2), {}, ["'median'", "majority, decimation, average, or, k-of-n"]),
    (REAL, ("majority", 2), {}, ["'real'", "spin, gas"]),
    (REAL, ("or", 2), {}, ["'real'", "spin, gas"]),
    (REAL, ("k-of-n", 2), {"k": 1}, ["'real'", "spin, gas"]),
    (SPIN, ("majority", 0), {}, ["factor", "0", ">= 1"]),
    (SPIN, ("majority", -2), {}, ["factor", "-2"]),
    (SPIN, ("majority", 2.0), {}, ["factor", "2.0"]),
    (SPIN, ("majority", True), {}, ["factor", "True"]),
    (SPIN, ("majority", (2, 2, 2)), {}, ["factor", "(x, t)"]),
    (SPIN, ("majority", "2,2"), {}, ["factor", "2,2"]),
    (SPIN, ("majority", (3, 2)), {}, ["axis x", "periodic", "4", "3"]),
    (SPIN, ("majority", (2, 7)), {}, ["axis t", "7", "6 sites"]),
    (SPIN, ("k-of-n", 2), {}, ["k = None"]),
    (SPIN, ("k-of-n", 2), {"k": 0}, ["k = 0"]),
    (SPIN, ("k-of-n", 2), {"k": 5}, ["k = 5", "4 sites"]),
    (SPIN, ("or", 2), {"k": 1}, ["k = 1", "k-of-n"]),
    (SPIN, ("or", 2), {"rescale": 2.0}, ["rescale", "average"]),
    (SPIN, ("average", 2), {"rescale": math.nan}, ["rescale", "nan"]),
    (SPIN, ("decimation", 2), {"offset": 2}, ["offset 2", "0 to 1"]),
    (SPIN, ("decimation", 2), {"offset": (0, -1)}, ["offset", "-1"]),
    (SPIN, ("majority", 2), {"min_active": 0}, ["min_active", "0", "1 to 2"]),
    (SPIN, ("majority", 2), {"min_active": 3}, ["min_active", "3", "1 to 2"]),
    (SPIN, ("majority", 2), {"level": -1}, ["level", "-1"]),
    (SPIN, ("majority", 2), {"seed": -1}, ["seed", "-1"]),
    (UNITS, ("or", (2, 3)), {}, ["axis unit", "3"]),
    (UNITS, ("or", 3), {}, ["axis t", "periodic", "8"]),
    (SPARSE, ("or", 2), {"min_active": 3}, ["no block", "empty"]),
]


@pytest.mark.parametrize(("field", "arguments", "options", "words"), BAD)
def test_bad_input(field, arguments, options, words):
    with pytest.raises(InputError) as caught:
        block(field, *arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
