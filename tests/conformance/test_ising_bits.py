"""Bit-sliced Ising sweeps against the same sweep done site by site in Python with the same random words.

The twin has its own AES, its own classes, neighbors and thresholds; the fields must be equal, on every instruction
set and on any number of ranks.
"""

import functools
import hashlib
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from lft._kernels import ising_bits
from lft.actions import Ising
from lft.bits import IsingBits, heatbath_threshold, metropolis_threshold
from lft.bits_line import IsingLine
from lft.domain import Domain
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Lattice
from lft.observables import plane_sums
from lft.rng import Key, Stream
from tests.helpers import run_python

KEY = Key(2024, 3)
WORD = 2**64 - 1


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def loops(request):
    best = ising_bits.path()
    try:
        ising_bits.force(request.param)
    except ValueError:
        pytest.skip(f"no {request.param} here")  # the processor lacks it; the baseline path always runs
    yield request.param
    ising_bits.force(best)


# --- random numbers: AES by its definition, seven rounds with a Weyl sequence of keys


def times(a, b):
    """Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1."""
    out = 0
    for k in range(8):
        if b >> k & 1:
            out ^= a << k
    for k in range(15, 7, -1):
        if out >> k & 1:
            out ^= 0x11B << (k - 8)
    return out


@functools.cache
def sbox():
    """Inverse, then b_i + b_(i+4) + b_(i+5) + b_(i+6) + b_(i+7) + c_i."""
    out = []
    for x in range(256):
        inverse = next((y for y in range(256) if times(x, y) == 1), 0)
        bits = [inverse >> i & 1 for i in range(8)]
        new = [sum(bits[(i + k) % 8] for k in (0, 4, 5, 6, 7)) + (0x63 >> i & 1) for i in range(8)]
        out.append(sum((b & 1) << i for i, b in enumerate(new)))
    return out


@functools.cache
def products():
    return {c: [times(c, x) for x in range(256)] for c in (1, 2, 3)}


def aes_round(state, key, is_last=False):
    table, product = sbox(), products()
    shifted = [[table[state[4 * ((c + r) % 4) + r]] for r in range(4)] for c in range(4)]
    if not is_last:
        mix = [[2, 3, 1, 1], [1, 2, 3, 1], [1, 1, 2, 3], [3, 1, 1, 2]]
        shifted = [
            [functools.reduce(int.__xor__, (product[f][x] for f, x in zip(row, column, strict=True))) for row in mix]
            for column in shifted
        ]
    return bytes(a ^ b for a, b in zip(itertools.chain(*shifted), key, strict=True))


@functools.lru_cache(maxsize=200_000)
def block(low, high, key):
    """Two words of the counter (low, high)."""

    def round_key(i):
        return (key + i * 0x9E3779B97F4A7C15 & WORD).to_bytes(8, "little") + (
            i * 0xBB67AE8584CAA73B & WORD
        ).to_bytes(8, "little")

    x = low.to_bytes(8, "little") + high.to_bytes(8, "little")
    x = bytes(a ^ b for a, b in zip(x, round_key(0), strict=True))
    for i in range(1, 8):
        x = aes_round(x, round_key(i), i == 7)
    return int.from_bytes(x[:8], "little"), int.from_bytes(x[8:], "little")


def test_one_round_gives_the_published_bytes():
    # FIPS 197, appendix B: start of rounds 1, 2, and of 10 with the output
    cases = [
        ("193de3bea0f4e22b9ac68d2ae9f84808", "a0fafe1788542cb123a339392a6c7605", "a49c7ff2689f352b6b5bea43026a5049", 0),
        ("eb40f21e592e38848ba113e71bc342d2", "d014f9a8c9ee2589e13f0cc8b6630ca6", "3925841d02dc09fbdc118597196a0b32", 1),
        # Intel's white paper on AES instructions: AESENC, AESENCLAST
        ("7b5b54657374566563746f725d53475d", "48692853686179295b477565726f6e5d", "a8311c2f9fdba3c58b104b58ded7e595", 0),
        ("7b5b54657374566563746f725d53475d", "48692853686179295b477565726f6e5d", "c7fb881e938c5964177ec42553fdc611", 1),
    ]
    for state, key, expected, last in cases:
        arguments = (bytes.fromhex(state), bytes.fromhex(key), bool(last))
        # the white paper writes the high byte first
        flip = slice(None, None, -1) if state.startswith("7b") else slice(None)
        arguments = (arguments[0][flip], arguments[1][flip], arguments[2])
        for function in (aes_round, ising_bits.aes_round):
            assert function(*arguments)[flip].hex() == expected


def test_random_blocks_equal_the_definition(loops):
    for low, high, key in [(0, 0, 0), (5, 7, 9), (WORD, WORD, WORD), (2**63 + 1, 12345 << 16 | 130, KEY.word)]:
        assert ising_bits.random_block(low, high, key) == block(low, high, key)


def test_random_bits_are_balanced_and_uncorrelated():
    # lanes, rounds, neighboring units, neighboring updates, neighboring keys: 2^19 bits each
    base = (77, 5 << 16 | 1 << 12, KEY.word)
    steps = {"unit": (1, 0, 0), "round": (0, 1, 0), "update": (0, 1 << 16, 0), "color": (0, 256, 0), "key": (0, 0, 1)}

    def bits(shift):
        words = [
            ising_bits.random_block(base[0] + 3 * i + shift[0], base[1] + (i << 20) + shift[1], base[2] + shift[2])
            for i in range(4096)
        ]
        return np.unpackbits(np.array(words, "<u8").view(np.uint8)).reshape(4096, 128) * 2.0 - 1

    x = bits((0, 0, 0))
    assert abs(x.mean()) * 724 < 4.5  # sqrt(2^19)
    assert np.abs(x.mean(axis=0)).max() * 64 < 5
    assert abs((x[:, 1:] * x[:, :-1]).mean()) * 721 < 4.5
    lanes = np.abs(np.corrcoef(x.T) - np.eye(128)).max() * 64
    assert lanes < 5.5  # the largest of 8128
    for name, shift in steps.items():
        y = bits(shift)
        assert abs((x * y).mean()) * 724 < 4.5, name
        assert np.abs(x.T @ y / 4096).max() * 64 < 5.8, name  # the largest of 16384


# --- thresholds


def test_thresholds_are_exact_to_the_last_bit():
    # exp by its series in rational numbers
    def exp(x):
        total = term = Fraction(1)
        for n in range(1, 120):
            term = term * x / n
            total += term
        return total

    from decimal import Decimal

    for value in (0.0, 0.1, 0.44, 1.7, 0.4406868):
        x = exp(2 * Fraction(value))
        assert heatbath_threshold(Decimal(value)) == round(2**64 * x / (1 + x))
        assert metropolis_threshold(Decimal(-value)) == round(2**64 / x)
    assert metropolis_threshold(Decimal(1)) == metropolis_threshold(Decimal(0)) == 2**64
    assert metropolis_threshold(Decimal(-5000)) == 0 and heatbath_threshold(Decimal(5000)) == 2**64


# --- one sweep against its twin


def twin(spins, K, h, periodic, updater, t, key, line0=0):
    """One sweep of an array in storage order; returns the new array and the number of changes.

    ``line0``: number of the first line, where the array is a part of a lattice (two axes).
    """
    s, shape = spins.copy(), spins.shape
    n_axes, length = len(shape), shape[-1]
    units = -(-((length + 1) // 2) // 128)
    stream = int(Stream.HEATBATH if updater == "heatbath" else Stream.METROPOLIS)
    seams = [a for a in range(n_axes) if periodic[a] and shape[a] % 2]
    changed = 0
    for flags in itertools.product(*[(False, True) for _ in seams]):
        for color in (0, 1):
            for x in np.ndindex(shape):
                if sum(x) % 2 != color or any((x[a] == shape[a] - 1) != f for a, f in zip(seams, flags, strict=True)):
                    continue
                field, is_end = Fraction(h), periodic[-1] and shape[-1] % 2 and x[-1] == shape[-1] - 1
                for a in range(n_axes):
                    for step in (-1, 1):
                        y = x[a] + step
                        if K[a] == 0 or shape[a] == 1:
                            continue
                        if periodic[a]:
                            y %= shape[a]
                        elif not 0 <= y < shape[a]:
                            is_end |= a == n_axes - 1
                            continue
                        field += Fraction(K[a]) * int(s[(*x[:a], y, *x[a + 1 :])])
                m = x[-1] // 2
                line = 0
                for a in range(n_axes - 1):
                    line = line * shape[a] + x[a]
                unit = (line + line0) * units + m // 128
                low, high = unit & 0xFFFF | unit >> 16 << 24, t << 16 | stream << 12 | color << 8
                field = float(field)
                if updater == "heatbath":  # the likelier value has probability 1/(1 + exp(-2|F|))
                    proposal, p = (1 if field >= 0 else -1), 1 / (1 + math.exp(-2 * abs(field)))
                    otherwise = -proposal
                else:
                    proposal, p, otherwise = -s[x], math.exp(min(0.0, -2 * s[x] * field)), s[x]
                    if field == 0 and h == 0 and sum(min(n - 1, 2) for n, k in zip(shape, K, strict=True) if k) <= 2:
                        p = 0.5
                if is_end:
                    U = block(low, high | 128 | m % 128, key)[1]
                else:
                    U = 0
                    for k in range(ising_bits.HEAD):
                        word = block(low, high | k, key)[m % 128 // 64]
                        U |= (word >> m % 64 & 1) << (63 - k)
                    if abs(U / 2**64 - p) <= 2.0**-ising_bits.HEAD:
                        U |= block(low, high | 128 | m % 128, key)[0] >> ising_bits.HEAD
                new = proposal if U < 2**64 * p else otherwise
                changed += int(new != s[x])
                s[x] = new
    return s, changed


CASES = [
    ((4, 8), 0.44, 0.0, "pp"),
    ((6, 300), 0.3, 0.0, "pp"),
    ((3, 258), 0.44, 0.0, "pp"),
    ((5, 6), (0.3, -0.5), 0.0, "pp"),
    ((2, 2), 0.2, 0.1, "pp"),
    ((1, 16), 0.5, -0.2, "pp"),
    ((4, 9), 0.44, 0.0, "oo"),
    ((3, 3), (0.1, 0.4), 0.3, "po"),
    ((4, 131), 0.25, 0.0, "oo"),
    ((2, 1030), 0.4, 0.0, "po"),
    ((7, 12), -0.4, 0.15, "op"),
    ((3, 12), (0.0, 0.6), 0.0, "pp"),
    ((3, 12), (0.6, 0.0), 0.0, "po"),
    ((3, 4, 10), 0.22, 0.0, "ppp"),
    ((4, 3, 66), (0.2, 0.3, 0.1), 0.0, "opo"),
    ((3, 5, 14), 0.2, 0.1, "ppp"),
    ((3, 1, 7), 0.3, 0.0, "ooo"),
    ((2, 4, 130), 0.3, 0.0, "ppp"),
    ((2, 3, 2, 6), 0.15, 0.0, "pppp"),
    ((3, 2, 3, 5), (0.1, 0.2, -0.3, 0.4), -0.1, "popo"),
    ((4, 7), 0.4, 0.0, "pp"),
    ((3, 5), (0.3, -0.4), 0.1, "pp"),
    ((2, 259), 0.44, 0.0, "op"),
    ((3, 4, 3), (0.2, 0.0, 0.3), 0.0, "ppp"),
    ((3, 2, 3, 5), (0.1, 0.2, -0.3, 0.4), -0.1, "opop"),
    ((3, 131), (0.3, 0.0), 0.0, "pp"),
    ((300,), 0.5, 0.0, "p"),
    ((77,), 0.4, 0.1, "p"),
    ((2,), 0.4, 0.0, "p"),
    ((3,), -0.4, 0.0, "p"),
    ((130,), 0.4, 0.0, "o"),
    ((515,), 0.3, -0.1, "o"),
    ((4, 3, 66), (0.2, 0.2, 0.1), 0.0, "ppp"),
    ((4, 10), 0.1, 0.9, "pp"),
    ((4, 6), 30.0, 0.0, "pp"),
    ((4, 6), 1e-25, 0.0, "pp"),
    ((4, 6), 0.0, 0.4, "pp"),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{'x'.join(map(str, c[0]))}-{c[3]}-K{c[1]}-h{c[2]}")


def field_of(case, seed=0, comm=None):
    shape, K, h, boundary = case
    lattice = Lattice(shape, boundary=[{"p": "periodic", "o": "open"}[b] for b in boundary])
    spins = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), shape)
    action = Ising(K=K, h=h)
    empty = action.new_field(lattice, comm)
    return action, Field.from_array(lattice, "spin", spins, empty.domain), spins


def bits_of(action, phi, updater):
    return (IsingLine if len(phi.geometry.shape) == 1 else IsingBits)(action, phi, updater)


@pytest.mark.parametrize("updater", ["metropolis", "heatbath"])
@every_case
def test_sweep_equals_its_twin(case, updater, loops):
    action, phi, spins = field_of(case)
    bits = bits_of(action, phi, updater)
    bits.load()
    K = np.broadcast_to(case[1], len(case[0]))
    periodic = [b == "p" and n > 1 for b, n in zip(case[3], case[0], strict=True)]
    for t in (2**33 + 5, 2**33 + 6):
        if spins.ndim == 1:  # the only axis is the last one of the layout
            rows, changed = twin(spins[None], [0, *K], case[2], [False, *periodic], updater, t, KEY.word)
            spins = rows[0]
        else:
            spins, changed = twin(spins, K, case[2], periodic, updater, t, KEY.word)
        assert bits.sweep(t, KEY.word) == (spins.size, changed)
    before = phi.data.copy()
    bits.store()
    assert np.array_equal(phi.values.reshape(spins.shape), spins)
    assert before.shape == phi.data.shape
    fresh = phi.copy()
    fresh.exchange()
    assert np.array_equal(fresh.data, phi.data)


@pytest.mark.parametrize("updater", ["metropolis", "heatbath"])
def test_sites_undecided_after_the_head_equal_the_twin(updater):
    # one site in 2^11: a larger lattice meets about twenty
    case = ((40, 1024), 0.2, 0.0, "pp")
    action, phi, spins = field_of(case, 8)
    bits = IsingBits(action, phi, updater)
    bits.load()
    expected, changed = twin(spins, (0.2, 0.2), 0.0, (True, True), updater, 3, KEY.word)
    assert bits.sweep(3, KEY.word) == (spins.size, changed)
    bits.store()
    assert np.array_equal(phi.values, expected)


def test_units_beyond_sixteen_bits_equal_the_twin(loops):
    # the number of a unit is spread over the counter: lines around number 2^16
    shape, first, stop = (65550, 4), 65530, 65545
    action, phi, spins = field_of((shape, 0.3, 0.0, "pp"), 2)
    bits = IsingBits(action, phi, "metropolis")
    bits.load()
    bits.sweep(11, KEY.word)
    bits.store()
    part = spins[first - 2 : stop + 2]
    expected, _ = twin(part, (0.3, 0.3), 0.0, (False, True), "metropolis", 11, KEY.word, first - 2)
    assert np.array_equal(phi.values[first:stop], expected[2:-2])


@every_case
def test_measured_sums_equal_those_of_the_field(case, loops):
    action, phi, _ = field_of(case, 5)
    bits = bits_of(action, phi, "heatbath")
    bits.load()
    for t in range(2):
        sums = resident_sums(action, phi, bits)
        assert phi.resident is bits and bits.measure()[1] == sums[1]
        phi.data  # noqa: B018  unpacks
        assert phi.resident is None
        assert sums[:-1] == resident_sums(action, phi, None)[:-1]
        assert sums[-1] == pytest.approx(resident_sums(action, phi, None)[-1], rel=1e-14, abs=1e-12)
        bits.sweep(t, KEY.word)


def resident_sums(action, phi, resident):
    """What the observables are made of, as Python numbers; S comes last."""
    phi.resident = resident
    planes = [plane_sums(action, phi, k).tolist() for k in range(len(phi.domain.shape))]
    return [action.bond_sums(phi).tolist(), action.site_sum(phi), planes, action.S(phi)]


def test_columns_of_many_lines_are_counted(loops):
    # more than 255 lines: the binary counters are emptied in between; rows of one and of several registers
    for shape in ((700, 64), (600, 1100)):
        action, phi, spins = field_of((shape, 0.3, 0.0, "pp"), 9)
        bits = IsingBits(action, phi, "heatbath")
        bits.load()
        assert np.array_equal(bits.plane_sums(1), spins.sum(axis=0, dtype=int))
        assert np.array_equal(bits.plane_sums(0), spins.sum(axis=1, dtype=int))


def test_axes_are_named_in_the_users_order():
    lattice = Lattice((4, 6, 8), ("x", "t", "y"))
    action = Ising(K=(0.1, 0.2, 0.3))
    phi = action.new_field(lattice)
    phi.values[...] = np.random.default_rng(1).choice(np.array([-1, 1], np.int8), phi.values.shape)
    phi.exchange()
    bits = IsingBits(action, phi, "metropolis")
    bits.load()
    bits.sweep(0, 1)
    bits.store()
    assert np.array_equal(bits.measure()[0], action.bond_sums(phi))


@pytest.mark.parametrize(
    ("shape", "boundary", "K", "h"),
    [((64, 1024), "pp", 0.44, 0.0), ((31, 2050), "po", 0.44, 0.02), ((20, 17, 64), "ppp", 0.22, 0.0),
     ((6, 5, 7, 40), "oppp", (0.1, 0.2, 0.1, -0.2), 0.1)],
)
@pytest.mark.parametrize("updater", ["metropolis", "heatbath"])
def test_every_instruction_set_gives_the_same_bits(shape, boundary, K, h, updater):
    best, seen = ising_bits.path(), {}
    try:
        for name in ("baseline", "avx2", "avx512"):
            try:
                ising_bits.force(name)
            except ValueError:
                continue
            action, phi, _ = field_of((shape, K, h, boundary), 3)
            bits = IsingBits(action, phi, updater)
            bits.load()
            counts = [bits.sweep(t, 17) for t in range(4)]
            sums = bits.measure()
            bits.store()
            seen[name] = (counts, sums[0].tolist(), sums[1], hashlib.sha256(phi.values.tobytes()).hexdigest())
    finally:
        ising_bits.force(best)
    assert len({str(v) for v in seen.values()}) == 1, seen


@pytest.mark.parametrize(
    ("shape", "boundary", "K"),
    [((256, 4096), "pp", 0.44), ((1701, 700), "oo", (0.3, 0.5)), ((8, 560, 66), "ppp", 0.22), ((1400, 701), "pp", 0.4)],
)
def test_threads_give_the_same_bits(shape, boundary, K, monkeypatch):
    seen = set()
    for n in ("1", "2", "5"):
        monkeypatch.setenv("LFT_THREADS", n)
        action, phi, _ = field_of((shape, K, 0.0, boundary), 3)
        bits = IsingBits(action, phi, "heatbath")
        bits.load()
        counts = [bits.sweep(t, 17) for t in range(3)]
        bits.store()
        seen.add((str(counts), str(bits.measure()), hashlib.sha256(phi.data.tobytes()).hexdigest()))
    assert len(seen) == 1


# --- decomposition

SCRIPT = """
import hashlib, json, sys
import numpy as np
from lft.actions import Ising
from lft.bits import IsingBits
from lft.bits_line import IsingLine
from lft.domain import world
from lft.field import Field
from lft.geometry import Lattice
from lft.observables import plane_sums

comm, out = world(), {}
for shape, boundary, K, h in CASES:
    for updater in ("metropolis", "heatbath"):
        lattice = Lattice(shape, boundary=boundary)
        action = Ising(K=K, h=h)
        spins = np.random.default_rng(4).choice(np.array([-1, 1], np.int8), shape)
        phi = Field.from_array(lattice, "spin", spins, action.new_field(lattice, comm).domain)
        bits = (IsingBits if len(shape) > 1 else IsingLine)(action, phi, updater)
        bits.load()
        counts = [phi.domain.sum_int(np.array(bits.sweep(t, 99))).tolist() for t in range(5)]
        bonds, total = bits.measure()
        bonds, total = phi.domain.sum_int(bonds).tolist(), phi.domain.sum_int(np.array([total])).tolist()
        phi.resident = bits
        planes = [plane_sums(action, phi, k) for k in range(len(phi.domain.shape))]
        if comm is None or comm.Get_rank() == 0:
            phi.data  # unpacked without messages
        bits.store()
        assert phi.resident is None and bonds == action.bond_sums(phi).tolist()
        assert all(np.array_equal(M, plane_sums(action, phi, k)) for k, M in enumerate(planes))
        halo = phi.data.copy()
        phi.exchange()
        assert np.array_equal(halo, phi.data)
        whole = phi.array()
        if whole is not None:
            digest = hashlib.sha256(np.ascontiguousarray(whole).tobytes()).hexdigest()
            out[f"{shape} {updater}"] = [counts, bonds, total, digest]
if out:
    print(json.dumps(out))
"""
SPREAD = [
    ((12, 64), ("periodic", "periodic"), 0.44, 0.0),
    ((13, 70), ("periodic", "open"), (0.3, 0.5), 0.05),
    ((7, 5, 260), ("periodic", "periodic", "periodic"), 0.22, 0.0),
    ((6, 9, 33), ("open", "periodic", "open"), (0.2, 0.3, 0.1), -0.05),
    ((9, 67), ("periodic", "periodic"), 0.4, 0.0),
    ((7, 5, 9), ("open", "periodic", "periodic"), 0.2, 0.0),
    ((131,), ("periodic",), 0.4, 0.1),
    ((66,), ("open",), 0.4, 0.0),
    ((4, 5, 6, 10), ("periodic", "open", "periodic", "periodic"), 0.15, 0.0),
]


def test_the_chain_does_not_depend_on_the_number_of_ranks(tmp_path):
    script = tmp_path / "spread.py"
    script.write_text(SCRIPT.replace("CASES", repr(SPREAD)))
    results = []
    for ranks in (None, 2, 3, 4):
        done = run_python([script], tmp_path, ranks)
        assert done.returncode == 0, done.stderr
        results.append(done.stdout.strip())
    assert len(results[0]) > 100 and len(set(results)) == 1


# --- what is refused


@pytest.mark.parametrize(
    ("lattice", "action", "updater", "message"),
    [
        (Lattice((8, 1), boundary="open"), Ising(K=0.4), "metropolis", "last stored axis has 1"),
        (Lattice((1,), boundary="open"), Ising(K=0.4), "metropolis", "last stored axis has 1"),
        (Lattice((2,) * 5), Ising(K=0.4), "metropolis", "5 axes"),
        (Lattice((8, 8)), Ising(K={(1, 1): 0.4}), "metropolis", "nearest"),
        (Lattice((8, 8)), Ising(K=0.4, h=np.zeros((8, 8))), "heatbath", "h differs"),
        (Lattice((8, 8), mask=np.eye(8, dtype=bool)), Ising(K=0.4), "heatbath", "mask"),
        (Lattice((8, 8)), Ising(K=0.0), "metropolis", "free"),
        (Lattice((1, 8), boundary="open"), Ising(K=(0.3, 0.0)), "metropolis", "free"),
        (Lattice((8, 8)), Ising(K=0.4), "hmc", "metropolis, heatbath"),
    ],
)
def test_what_the_generic_loops_must_serve_is_refused(lattice, action, updater, message):
    phi = action.new_field(lattice)
    assert not IsingBits.supports(action, phi, updater)
    with pytest.raises(InputError, match=message):
        bits_of(action, phi, updater)


def test_bonds_by_displacement_are_accepted():
    for K in ({(1, 0): 0.3, (0, 1): 0.2}, {(0, 1): 0.2}):
        action = Ising(K=K)
        assert IsingBits.supports(action, action.new_field(Lattice((8, 8))), "metropolis")


def test_a_field_with_another_halo_is_served():
    lattice, action = Lattice((6, 10)), Ising(K=0.4)
    results = []
    for halo in ((1, 1), (2, 3)):
        phi = Field(lattice, "spin", Domain((6, 10), (True, True), halo))
        phi.values[...] = np.random.default_rng(2).choice(np.array([-1, 1], np.int8), (6, 10))
        bits = IsingBits(action, phi, "metropolis")
        bits.load()
        bits.sweep(0, 5)
        bits.store()
        results.append(phi.values.copy())
    assert np.array_equal(*results)
