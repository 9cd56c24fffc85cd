"""Random numbers are a pure function of (seed, replica, site, t, stream, draw), and they are random."""

import itertools
import math

import numpy as np
import pytest

from lft._kernels import noise
from lft.errors import InputError
from lft.rng import GLOBAL_SITE, Key, Stream
from lft.testing import philox4x32

KEY = 0x299F31D0A4093822
N = 200_000


def as_uniforms(site, t, stream, draw, key=KEY):
    """The two uniforms of a block by the oracle: u = (k + 1/2) 2^-52, k the upper 52 bits of two words."""
    tail = (t >> 32) << 16 | stream << 8 | draw
    words = philox4x32((site & 0xFFFFFFFF, site >> 32, t & 0xFFFFFFFF, tail), (key & 0xFFFFFFFF, key >> 32))
    pairs = ((words[0] << 20 | words[1] >> 12), (words[2] << 20 | words[3] >> 12))
    return tuple((k + 0.5) * 2.0**-52 for k in pairs)


# --- the generator


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_published_known_answers(counter, key, words):
    assert noise.philox4x32(counter, key) == words


def test_blocks_agree_with_the_slow_oracle():
    rng = np.random.default_rng(1)
    for _ in range(200):
        counter, key = rng.integers(0, 2**32, 4).tolist(), rng.integers(0, 2**32, 2).tolist()
        assert noise.philox4x32(counter, key) == philox4x32(counter, key)


@pytest.mark.parametrize(
    ("site", "t", "stream", "draw"),
    [
        (0, 0, 0, 0),
        (5, 1, 2, 3),
        (2**32 - 2, 2**32 - 1, 255, 255),
        (2**40 + 1, 2**48 - 1, 1, 0),
        (2**64 - 1, 7, 4, 0),
    ],
)
@pytest.mark.parametrize("stride", [1, 2, 7])
def test_counter_layout(site, t, stream, draw, stride):
    # 19 sites: vector lanes and a remainder, across the carry from the low to the high word
    sites = [(site + m * stride) % 2**64 for m in range(19)]
    u, v = noise.fill("uniform", site, stride, 19, t, stream, draw, KEY)
    assert list(zip(u.tolist(), v.tolist(), strict=True)) == [as_uniforms(s, t, stream, draw) for s in sites]


def test_every_part_of_the_counter_matters():
    # all values that differ in one entry of (site, t, stream, draw, key) are different numbers
    base = {"site": 10, "t": 3, "stream": 1, "draw": 0, "key": KEY}
    changes = [{}]
    for name, width in (("site", 64), ("t", 48), ("stream", 8), ("draw", 8), ("key", 64)):
        changes += [{name: base[name] ^ (1 << bit)} for bit in range(width)]
    values = set()
    for change in changes:
        c = {**base, **change}
        u, v = noise.fill("uniform", c["site"], 1, 1, c["t"], c["stream"], c["draw"], c["key"])
        values.update((float(u[0]), float(v[0])))
    assert len(values) == 2 * len(changes)


def test_a_stride_skips_sites_and_nothing_else():
    u, v = noise.fill("uniform", 100, 1, 60, 5, 2, 0, KEY)
    for stride in (2, 3, 5):
        us, vs = noise.fill("uniform", 100, stride, 60 // stride, 5, 2, 0, KEY)
        assert np.array_equal(us, u[::stride]) and np.array_equal(vs, v[::stride])


@pytest.mark.parametrize(
    ("n", "t", "stream", "draw"), [(-1, 0, 0, 0), (1, 2**48, 0, 0), (1, 0, 256, 0), (1, 0, 0, 256)]
)
def test_counters_out_of_range_are_refused(n, t, stream, draw):
    with pytest.raises(ValueError, match="valid are"):
        noise.fill("uniform", 0, 1, n, t, stream, draw, KEY)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="uniform, exponential, logistic, normal"):
        noise.fill("poisson", 0, 1, 1, 0, 0, 0, KEY)


# --- keys


def test_neighboring_seeds_and_replicas_have_unrelated_keys():
    words = [Key(seed, replica).word for seed in range(40) for replica in range(40)]
    assert len(set(words)) == len(words)
    bits = [bin(a ^ b).count("1") for a, b in itertools.pairwise(words)]
    assert abs(np.mean(bits) - 32) < 4.5 * 4 / math.sqrt(len(bits))  # 64 fair bits: mean 32, deviation 4


def test_seed_and_replica_are_not_interchangeable_and_all_64_bits_count():
    assert Key(1, 2).word != Key(2, 1).word
    assert (
        len({Key(1 << bit).word for bit in range(64)} | {Key(0, 1 << bit).word for bit in range(64)}) == 128
    )


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", True, None])
def test_bad_seeds_are_named(seed):
    with pytest.raises(InputError, match="seed"):
        Key(seed)
    with pytest.raises(InputError, match="replica"):
        Key(0, seed)


def test_a_global_decision_has_a_site_of_its_own():
    key = Key(3)
    u, _ = key.fill("uniform", GLOBAL_SITE, 0, 1, 9, Stream.ACCEPT)
    assert key.uniform(9, Stream.ACCEPT) == u[0]
    assert (
        key.exponential(9, Stream.ACCEPT)
        == noise.fill("exponential", GLOBAL_SITE, 0, 1, 9, 4, 0, key.word)[0][0]
    )
    assert key.exponential(9, Stream.ACCEPT) == pytest.approx(-math.log(u[0]), rel=1e-15)


def test_streams_differ():
    assert len(set(Stream)) == len(Stream.__members__)
    assert max(Stream) < 200  # from 200 on: third parties


# --- distributions


def test_uniforms_stay_inside_and_are_symmetric():
    # u = (k + 1/2) 2^-52: never 0 or 1, and 1 - u is again such a number
    u = np.concatenate(noise.fill("uniform", 0, 1, N, 0, 1, 0, KEY))
    assert 0 < u.min() and u.max() < 1
    steps = u * 2.0**52 - 0.5
    assert np.array_equal(steps, np.rint(steps))
    assert np.array_equal(1 - (1 - u), u)


def within(values, mean, variance):
    return abs(values.mean() - mean) < 4.5 * math.sqrt(variance / values.size)


MOMENTS = {
    # mean, variance of x; mean, variance of x^2
    "uniform": (1 / 2, 1 / 12, 1 / 3, 4 / 45),
    "normal": (0.0, 1.0, 1.0, 2.0),
    "exponential": (1.0, 1.0, 2.0, 20.0),
    "logistic": (0.0, math.pi**2 / 3, math.pi**2 / 3, 16 * math.pi**4 / 45),
}


@pytest.mark.parametrize("kind", MOMENTS)
def test_moments(kind):
    mean, variance, second, fourth = MOMENTS[kind]
    for x in noise.fill(kind, 0, 1, N, 11, 1, 0, KEY):
        assert within(x, mean, variance) and within(x * x, second, fourth)
    u, v = noise.fill(kind, 0, 1, N, 11, 1, 0, KEY)
    assert within((u - mean) * (v - mean), 0, variance**2)  # the two of a block
    assert within((u[1:] - mean) * (u[:-1] - mean), 0, variance**2)  # neighboring sites
    w, _ = noise.fill(kind, 0, 1, N, 12, 1, 0, KEY)
    assert within((u - mean) * (w - mean), 0, variance**2)  # successive updates
    assert not within(1.02 * (x - mean) ** 2, variance, variance**2)  # mutant: two per cent too wide


@pytest.mark.parametrize("kind", ["uniform", "normal", "exponential", "logistic"])
def test_whole_distribution(kind):
    from scipy.stats import expon, kstest, logistic, norm, uniform

    cdf = {"uniform": uniform, "normal": norm, "exponential": expon, "logistic": logistic}[kind].cdf
    for x in noise.fill(kind, 10**12, 1, N, 2**40, 3, 1, KEY):
        assert kstest(x, cdf).pvalue > 1e-4
        assert kstest(x + 0.04 * x.std(), cdf).pvalue < 1e-6  # mutant: shifted


def test_transforms_of_the_same_uniforms():
    u, v = noise.fill("uniform", 0, 1, 1000, 4, 1, 0, KEY)
    assert noise.fill("exponential", 0, 1, 1000, 4, 1, 0, KEY)[0] == pytest.approx(-np.log(u), rel=4e-16)
    assert noise.fill("logistic", 0, 1, 1000, 4, 1, 0, KEY)[1] == pytest.approx(
        np.log((1 - v) / v), rel=1e-14, abs=3e-16
    )
    r, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * v
    a, b = noise.fill("normal", 0, 1, 1000, 4, 1, 0, KEY)
    assert a == pytest.approx(r * np.cos(angle), abs=4e-15)
    assert b == pytest.approx(r * np.sin(angle), abs=4e-15)


def test_logarithm_is_accurate_to_an_ulp():
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [
            rng.random(100_000),
            np.exp(rng.uniform(-700, 700, 100_000)),
            1 + rng.uniform(-1e-3, 1e-3, 10_000),
            [2.0**-53, 2.0**-52, 0.5, 1 - 2.0**-53, 1.0, np.sqrt(0.5), np.sqrt(2.0), 2.0],
        ]
    )
    exact = np.log(x.astype(np.longdouble))
    error = abs(noise.log(x) - exact) / np.spacing(abs(exact).astype(float))
    assert error.max() < 1.0
    assert noise.log([1.0]).tolist() == [0.0] and noise.log([]).size == 0
