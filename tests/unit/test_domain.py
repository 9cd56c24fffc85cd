"""Blocks, halos and exact sums; ranks are played by a communicator that only counts."""

import itertools
import math

import numpy as np
import pytest

from lft._kernels import halo as kernel
from lft.domain import Domain, launched_ranks, process_grid
from lft.errors import DivergenceError, DomainError


class Rank:
    """What a Domain asks of a communicator before it sends anything."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size


# --- process grid and blocks


@pytest.mark.parametrize("n_ranks", range(1, 25))
@pytest.mark.parametrize(
    ("shape", "halo"),
    [
        ((16, 12), (1, 1)),
        ((9, 7, 5), (1, 1, 1)),
        ((8, 8, 8, 8), (2, 1, 1, 1)),
        ((100, 3), (4, 0)),
        ((24, 1), (1, 0)),
    ],
)
def test_grid_is_the_cheapest_that_exists(shape, halo, n_ranks):
    limits = [max(1, n // max(1, w)) for n, w in zip(shape[:-1], halo, strict=False)]
    possible = [
        g for g in itertools.product(*[range(1, limit + 1) for limit in limits]) if math.prod(g) == n_ranks
    ]
    if not possible:
        with pytest.raises(DomainError, match=rf"{n_ranks} ranks .* largest usable number is \d+") as error:
            process_grid(shape, None, halo, n_ranks)
        usable = int(str(error.value).rsplit(" ", 1)[1])
        assert usable < n_ranks and math.prod(process_grid(shape, None, halo, usable)) == usable
        return

    def surface(grid):
        blocks = [-(-n // p) for n, p in zip(shape, (*grid, 1), strict=True)]
        return sum(math.prod(blocks) // blocks[k] * max(1, halo[k]) for k, p in enumerate(grid) if p > 1)

    grid = process_grid(shape, None, halo, n_ranks)
    assert grid[-1] == 1 and math.prod(grid) == n_ranks  # the last axis is never cut
    assert surface(grid[:-1]) == min(surface(g) for g in possible)


@pytest.mark.parametrize(
    ("shape", "halo"),
    [((16, 12), (1, 1)), ((9, 7, 5), (2, 1, 1)), ((5, 6, 7, 3), (1, 1, 1, 1)), ((13, 1), (3, 0))],
)
@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4, 6, 8])
def test_blocks_cover_the_lattice_once_and_are_wide_enough(shape, halo, n_ranks):
    try:
        domains = [Domain(shape, (True,) * len(shape), halo, Rank(r, n_ranks)) for r in range(n_ranks)]
    except DomainError:
        limits = [n // w for n, w in zip(shape[:-1], halo, strict=False)]
        assert all(math.prod(g) != n_ranks for g in itertools.product(*[range(1, m + 1) for m in limits]))
        return
    covered = np.zeros(shape, int)
    for domain in domains:
        covered[domain.slices] += 1
        assert domain.slices == domains[0].block_of(domain.rank)
        assert domain.local_shape[-1] == shape[-1]
        for n, w, p in zip(domain.local_shape, halo, domain.grid, strict=True):
            assert n >= 1 and (p == 1 or n >= w)
    assert (covered == 1).all()
    sizes = [math.prod(d.local_shape) for d in domains]
    assert max(sizes) - min(sizes) <= math.prod(shape) // min(shape[:-1])  # nearly equal


def test_too_many_ranks_name_the_largest_usable_number():
    with pytest.raises(DomainError, match=r"5 ranks .* 4 x 8 planes .* largest usable number is 4"):
        process_grid((4, 8), None, (1, 1), 5)
    with pytest.raises(DomainError, match=r"at least 2 wide.* largest usable number is 2"):
        process_grid((4, 8), None, (2, 2), 4)


def test_a_periodic_axis_narrower_than_its_halo_is_refused():
    with pytest.raises(DomainError, match="periodic with 1 planes, a halo of 2"):
        Domain((1, 4), (True, False), (2, 0))


def test_strides_are_those_of_the_padded_array():
    domain = Domain((4, 5, 6), (True,) * 3, (1, 2, 0))
    data = np.zeros(domain.padded_shape)
    assert domain.strides == tuple(s // data.itemsize for s in data.strides)
    assert data[domain.interior].shape == (4, 5, 6)


# --- halo


@pytest.mark.parametrize("dtype", [np.int8, np.float64])
@pytest.mark.parametrize(
    ("shape", "halo"),
    [
        ((4, 5), (1, 1)),
        ((4, 5), (2, 2)),
        ((2, 7), (1, 3)),
        ((1, 3), (1, 1)),
        ((6,), (2,)),
        ((3, 4, 5), (1, 0, 2)),
        ((3, 4, 5), (1, 2, 1)),
        ((2, 3, 2, 4), (1, 1, 1, 2)),
    ],
)
def test_serial_halo_is_what_numpy_pads(shape, halo, dtype):
    # axis after axis: wrapped where periodic, zeros beyond an open end; corners included
    rng = np.random.default_rng(3)
    values = rng.integers(-9, 9, shape).astype(dtype)
    for periodic in itertools.product((True, False), repeat=len(shape)):
        domain = Domain(shape, periodic, halo)
        data = np.zeros(domain.padded_shape, dtype)
        data[domain.interior] = values
        expected = values
        for axis, (w, wraps) in enumerate(zip(halo, periodic, strict=True)):
            widths = [(w, w) if k == axis else (0, 0) for k in range(len(shape))]
            expected = np.pad(expected, widths, mode="wrap" if wraps else "constant")
        domain.exchange(data)
        assert np.array_equal(data, expected)
        domain.exchange(data)  # once more changes nothing
        assert np.array_equal(data, expected)


# --- exact sums

NASTY = {
    "cancellation": [1e16, 1.0, -1e16, 1e-30, 3.0],
    "largest": [np.finfo(float).max, -np.finfo(float).max, 1.0],
    "denormal": [5e-324] * 7 + [2.0**-1022, -(2.0**-1022)],
    "halfway": [1.0, 2.0**-53, 2.0**-106],
    "halfway down": [1.0, 2.0**-53, -(2.0**-106)],
    "zeros": [0.0, -0.0],
    "negative": [-1.0, -(2.0**-60), -1e300, 1e300],
    "empty": [],
}


@pytest.mark.parametrize("name", NASTY)
def test_sums_are_correctly_rounded(name):
    assert Domain((1, 1), (False, False)).sum_lines(NASTY[name]) == math.fsum(NASTY[name])


def test_random_sums_of_all_magnitudes_are_exact_and_free_of_order():
    rng = np.random.default_rng(4)
    domain = Domain((1, 1), (False, False))
    for _ in range(100):
        n = int(rng.integers(1, 200))
        values = rng.standard_normal(n) * 2.0 ** rng.integers(-1060, 1000, n)
        exact = math.fsum(values)
        assert domain.sum_lines(values) == domain.sum_lines(rng.permutation(values)) == exact
    plain = [float(np.sum(rng.permutation(np.append(values, -values)))) for _ in range(20)]
    assert len(set(plain)) > 1  # mutant: ordinary sums depend on the order


def test_sums_of_parts_add_up_to_the_same_bits():
    # limbs are what ranks add: any partition gives the correctly rounded total
    rng = np.random.default_rng(5)
    values = rng.standard_normal(300) * 10.0 ** rng.integers(-200, 200, 300)
    for parts in (2, 3, 8):
        total = np.zeros((1, kernel.N_LIMBS), np.int64)
        for part in np.array_split(rng.permutation(values), parts):
            limbs = np.zeros_like(total)
            kernel.deposit(part, np.zeros(len(part), np.intp), limbs)
            total += limbs
        assert kernel.round_limbs(total[0]) == math.fsum(values)


def test_accumulators_of_any_sign_are_rounded_once():
    """Limbs of both signs, as many ranks and cancellations leave them, against one division of the whole number."""
    rng = np.random.default_rng(8)
    for number in range(400):
        limbs, first, n = np.zeros(kernel.N_LIMBS, np.int64), rng.integers(0, 60), rng.integers(1, 8)
        limbs[first : first + n] = rng.integers(-(2**62), 2**62, n) >> rng.integers(0, 62)
        total = sum(int(limb) << (32 * k) for k, limb in enumerate(limbs))
        assert kernel.round_limbs(limbs) == total / (1 << 1074), number
    limbs[:] = 0
    assert kernel.round_limbs(limbs) == 0.0
    limbs[0] = -1
    assert kernel.round_limbs(limbs) == -5e-324
    limbs[-1] = 2**40
    with pytest.raises(OverflowError):
        kernel.round_limbs(limbs)
    with pytest.raises(ValueError, match="67 limbs: valid are 68"):
        kernel.round_limbs(limbs[1:])


def test_columns_are_summed_one_by_one():
    rng = np.random.default_rng(6)
    values = rng.standard_normal((50, 7)) * 10.0 ** rng.integers(-30, 30, (50, 7))
    limbs = np.zeros((7, kernel.N_LIMBS), np.int64)
    assert kernel.deposit_columns(values, limbs) == 0
    assert [kernel.round_limbs(row) for row in limbs] == [math.fsum(column) for column in values.T]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_reported(bad):
    with pytest.raises(DivergenceError, match="energy: 2 values are not finite"):
        Domain((1, 1), (False, False)).sum_lines([1.0, bad, 2.0, bad], "energy")


# --- serial null object, and the launcher


def test_serial_domain_gathers_and_scatters_copies():
    domain = Domain((3, 4), (True, True), (1, 1))
    values = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(domain.gather(values), values) and domain.gather(values) is not values
    assert (
        np.array_equal(domain.scatter(values, np.int8), values)
        and domain.scatter(values, np.int8).dtype == np.int8
    )
    assert domain.any(True) and not domain.any(False)
    assert domain.broadcast("x") == "x" and domain.sum_int([1, 2]).tolist() == [1, 2]


def test_launched_ranks_reads_the_environment(monkeypatch):
    assert launched_ranks() == 1  # conftest dropped the launcher of pytest
    monkeypatch.setenv("PMI_SIZE", "4")
    assert launched_ranks() == 4
    monkeypatch.setenv("PMI_SIZE", "many")
    assert launched_ranks() == 1
