"""The roofs of ``lft bench``: the loops compute what they claim, and the lower roof binds."""

import numpy as np
import pytest

from lft._kernels import ising_bits
from lft._kernels import roofs as loops
from lft.commands import bench, roofs


def test_triad_is_a_plus_s_b():
    rng = np.random.default_rng(1)
    for n in (1, 7, 8, 1001):
        a, b, out = rng.normal(size=n), rng.normal(size=n), np.empty(n)
        loops.triad(out, a, b, 0.3, 2)
        assert (out == a + 0.3 * b).all()
    with pytest.raises(ValueError, match="lengths 3, 4, 4"):
        loops.triad(np.empty(3), np.empty(4), np.empty(4), 1.0, 1)


def test_ars_makes_the_bits_that_it_counts():
    bits, fold = loops.ars(5, 7, False, 64)
    if not bits:
        pytest.skip("this processor has no AES instructions")  # the supply of ARS bits is measured only with them
    assert bits >= 64 * 512 and bits % 512 == 0
    assert loops.ars(5, 7, False, 64) == (bits, fold)
    expected = np.zeros(2, np.uint64)
    for n in range(bits // 128):
        expected ^= np.array(ising_bits.random_block(5 + n, 0, 7), np.uint64)
    assert fold == int(expected[0] ^ expected[1])
    others = [loops.ars(6, 7, False, 64), loops.ars(5, 8, False, 64), loops.ars(5, 7, True, 64)]
    assert fold not in [word for _, word in others]


def test_footprints_find_their_level():
    sizes = {"L1": 100, "L2": 1000, "L3": 10_000}
    assert [roofs.level_of(n, sizes) for n in (1, 100, 101, 5000, 10_001)] == ["L1", "L1", "L2", "L3", "DRAM"]
    found = roofs.cache_sizes()
    assert list(found) == ["L1", "L2", "L3"] and found["L1"] < found["L2"] < found["L3"]


@pytest.mark.parametrize(("rate", "randoms", "binding", "fraction"), [
    (1.0, None, "memory", 0.2),
    (1.0, ("uniform", 2), "random", 0.5),
    (1.0, ("uniform", 0.1), "memory", 0.2),
    (1.0, ("absent on this processor", 11), "memory", 0.2),
])
def test_the_lower_roof_binds(rate, randoms, binding, fraction):
    entry = bench._beside_roofs(rate, 8, 40.0, "L2", {"uniform": 4.0}, *([randoms] if randoms else []))
    assert entry["binding"] == binding and entry["fraction"] == pytest.approx(fraction)
    assert entry["fraction_of_bandwidth"] == pytest.approx(0.2)


def test_names_of_kernels_are_unique():
    names = [name for name, *_ in bench._cases()]
    assert len(names) == len(set(names))
