"""Blocks of units: pairing against a slow literal search, partitions against brute force, fields against loops."""

import itertools

import numpy as np
import pytest

from lft.errors import InputError
from lft.field import Field
from lft.geometry import Graph, Lattice
from lft.rg import graph_blocking
from lft.rg.blocking import KINDS
from lft.rg.graph_blocking import (
    Partition,
    block_centers,
    block_graph,
    by_correlation,
    by_distance,
    by_partition,
    correlations,
    cut_weight,
    greedy_pairs,
    pair_partition,
)


def pairs_by_hand(c):
    """Strike out rows and columns of the largest entry, again and again."""
    c = np.array(c, dtype=float)
    np.fill_diagonal(c, np.nan)
    pairs = []
    while not np.isnan(c).all():
        i, j = np.unravel_index(np.nanargmax(c), c.shape)
        pairs.append((min(i, j), max(i, j)))
        c[[i, j]] = c[:, [i, j]] = np.nan
    return pairs


def symmetric(rng, n, levels=None):
    c = rng.normal(size=(n, n)) if levels is None else rng.integers(0, levels, (n, n)).astype(float)
    return np.triu(c, 1) + np.triu(c, 1).T


@pytest.mark.parametrize("n", [2, 3, 8, 31, 60])
@pytest.mark.parametrize("levels", [None, 3])
def test_greedy_pairs_are_those_of_a_literal_search(n, levels):
    c = symmetric(np.random.default_rng(n), n, levels)
    pairs, left = greedy_pairs(c)
    assert [tuple(p) for p in pairs] == pairs_by_hand(c)
    assert sorted([*pairs.ravel(), *left]) == list(range(n)) and len(left) == n % 2


def test_units_without_a_correlation_are_left():
    c = symmetric(np.random.default_rng(0), 7)
    c[2] = c[:, 2] = np.nan
    pairs, left = greedy_pairs(c)
    assert 2 in left and len(pairs) == 3 and [tuple(p) for p in pairs] == pairs_by_hand(c)
    partition = pair_partition(c)
    assert partition.left.tolist() == [2] and "1 of 7 units" in partition.notes()[0]


def test_correlations_are_those_of_numpy_and_nan_for_constant_units():
    values = (np.random.default_rng(1).random((500, 6)) < 0.3).astype(np.int8)
    values[:, 4] = 1
    c = correlations(values, chunk_bins=64)
    others = [0, 1, 2, 3, 5]
    np.testing.assert_allclose(c[np.ix_(others, others)], np.corrcoef(values[:, others].T), atol=1e-14)
    assert np.isnan(c[4]).all()
    assert by_correlation(values).label[4] == -1


def test_distance_pairs_nearest_first_and_centers_are_means():
    rng = np.random.default_rng(2)
    x = rng.random((15, 2))
    pairs = pairs_by_hand(-((x[:, None] - x[None]) ** 2).sum(axis=-1))
    partition = by_distance(x)
    assert [tuple(m) for m in partition.members] == pairs
    np.testing.assert_allclose(block_centers(x, partition), [x[list(p)].mean(axis=0) for p in pairs])


@pytest.mark.parametrize("seed", range(6))
def test_bisection_finds_the_smallest_cut_of_small_graphs(seed):
    rng = np.random.default_rng(seed)
    w = abs(symmetric(rng, 10)) * (symmetric(rng, 10) > 0.3)
    found = cut_weight(w, by_partition(w, 2))
    best = min(
        cut_weight(w, Partition([int(i not in half) for i in range(10)]))
        for half in itertools.combinations(range(10), 5)
    )
    random = cut_weight(w, Partition(np.arange(10) % 2))
    assert best <= found <= 1.15 * best + 1e-12 and (found < random or random == best)


def test_parts_have_equal_size_and_exchanges_lower_the_cut(monkeypatch):
    rng = np.random.default_rng(3)
    w = abs(symmetric(rng, 60)) * (abs(symmetric(rng, 60)) > 1)
    for parts in (2, 3, 4, 7, 60):
        sizes = by_partition(w, parts).sizes
        assert len(sizes) == parts and sizes.max() - sizes.min() <= 1
    refined = cut_weight(w, by_partition(w, 4))
    monkeypatch.setattr(graph_blocking, "_exchange", lambda w, side: None)
    assert refined < cut_weight(w, by_partition(w, 4))


def test_blocks_of_a_square_lattice_are_compact():
    """4 parts of an 8 x 8 grid: the quadrants cut 16 bonds, random parts about 84."""
    site = np.arange(64).reshape(8, 8)
    w = np.zeros((64, 64))
    for a, b in ((site[1:], site[:-1]), (site[:, 1:], site[:, :-1])):
        w[a.ravel(), b.ravel()] = w[b.ravel(), a.ravel()] = 1
    from scipy.sparse import csr_array

    dense, sparse = by_partition(w, 4), by_partition(csr_array(w), 4)
    assert cut_weight(w, dense) <= 20
    assert np.array_equal(dense.label, sparse.label)


def test_large_sparse_graphs_take_the_iterative_way(monkeypatch):
    from scipy.sparse import csr_array

    monkeypatch.setattr(graph_blocking, "SPARSE_UNITS", 30)
    w = np.kron(np.eye(2), np.ones((30, 30)))
    w[29, 30] = w[30, 29] = 0.5
    shuffle = np.random.default_rng(4).permutation(60)
    partition = by_partition(csr_array(w[shuffle][:, shuffle]), 2)
    assert cut_weight(w[shuffle][:, shuffle], partition) == 0.5


def by_hand(values, kind, partition, name, b, k, rescale):
    """One block at a time; ties of majority are left open (nan)."""
    out = np.zeros((len(values) // b, partition.n_blocks))
    down = -1 if kind == "spin" else 0
    for t, (number, units) in itertools.product(range(len(out)), enumerate(partition.members)):
        inside = values[t * b : (t + 1) * b, units].astype(float)
        up, n = int((inside == 1).sum()), inside.size
        out[t, number] = {
            "majority": np.nan if 2 * up == n else (1 if 2 * up > n else down),
            "decimation": inside[0, 0],
            "average": rescale * inside.mean(),
            "or": 1 if up else down,
            "k-of-n": 1 if up >= (k or 0) else down,
        }[name]
    return out


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in KINDS.items() for kind in kinds])
@pytest.mark.parametrize("b", [1, 3])
def test_block_graph_is_the_loop_over_blocks(name, kind, b, monkeypatch):
    rng = np.random.default_rng(5)
    values = {
        "spin": lambda: rng.choice([-1, 1], (31, 11)),
        "gas": lambda: rng.integers(0, 2, (31, 11)),
        "real": lambda: rng.normal(size=(31, 11)),
    }[kind]()
    field = Field.from_array(Graph(11, 31, bin_width="5 ms"), kind, values)
    partition = Partition([0, 2, 1, 1, -1, 0, 2, 2, 3, 3, 0])
    k, rescale = (2 if name == "k-of-n" else None), (1.7 if name == "average" else 1.0)
    coarse = block_graph(field, partition, name, b, k=k, rescale=rescale, seed=4)
    expected = by_hand(values, kind, partition, name, b, k, rescale)
    known = ~np.isnan(expected)
    np.testing.assert_allclose(coarse.values[known], expected[known])
    assert coarse.kind == ("real" if name == "average" else kind)
    assert coarse.geometry == Graph(4, 31 // b, bin_width=f"{5 * b} ms")
    if name == "majority" and kind != "real":
        assert not known.all() and len(np.unique(coarse.values[~known])) == 2
        monkeypatch.setattr(graph_blocking, "CHUNK_SITES", 1)  # coins do not depend on how bins are grouped
        again = block_graph(field, partition, name, b, seed=4)
        assert np.array_equal(again.values, coarse.values)


def test_large_blocks_do_not_overflow():
    """300 units times 5 bins, all up: sums far beyond one byte."""
    field = Field.from_array(Graph(600, 10), "spin", np.ones((10, 600)))
    halves = Partition(np.arange(600) // 300)
    for b in (1, 5):
        assert (block_graph(field, halves, "majority", b).values == 1).all()
        assert (block_graph(field, halves, "average", b, rescale=300.0).values == 300).all()
        assert (block_graph(field, halves, "k-of-n", b, k=300 * b).values == 1).all()


def test_partitions_compose_and_decimation_keeps_the_unit_asked_for():
    first, second = Partition([0, 0, 1, 2, -1]), Partition([1, 0, 1])
    both = first.then(second)
    assert both.label.tolist() == [1, 1, 0, 1, -1]
    field = Field.from_array(Graph(5, 2), "gas", np.arange(10).reshape(2, 5) % 2)
    kept = block_graph(field, both, "decimation", kept=[2, 3])
    assert np.array_equal(kept.values, field.values[:, [2, 3]])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda f, p: greedy_pairs([[1, 0.1], [0.2, 1]]), "not symmetric"),
        (lambda f, p: greedy_pairs([[1.0]]), "at least 2"),
        (lambda f, p: greedy_pairs([[1, np.inf], [np.inf, 1]]), "infinite"),
        (lambda f, p: pair_partition(np.full((3, 3), np.nan)), "no two of the 3 units"),
        (lambda f, p: by_distance([[0, np.nan], [1, 1]]), "finite"),
        (lambda f, p: by_partition(np.eye(3), 4), "from 1 to 3"),
        (lambda f, p: Partition([0, 2]), "block 1 has no unit"),
        (lambda f, p: Partition([-1, -1]), "left out"),
        (lambda f, p: Partition([0, 1]).then(Partition([0, 0, 0])), "3 units after one with 2"),
        (lambda f, p: block_graph(f, Partition([0, 0]), "or"), "partition of 2 units, the field has 3"),
        (lambda f, p: block_graph(f, p, "k-of-n", k=4), "largest block has 2"),
        (lambda f, p: block_graph(f, p, "or", 9), "no block is complete"),
        (lambda f, p: block_graph(f, p, "decimation", kept=[2, 2]), "does not belong"),
        (lambda f, p: block_graph(Field(Lattice((4, 4)), "gas"), p, "or"), "on a Graph"),
    ],
)
def test_bad_input_is_one_line(what, message):
    field = Field.from_array(Graph(3, 4), "gas", np.zeros((4, 3)))
    with pytest.raises(InputError, match=message) as caught:
        what(field, Partition([0, 0, 1]))
    assert "\n" not in str(caught.value)
