"""Directed percolation: exact enumerations, the compiled loop against plain NumPy, the command line."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from lft._kernels import percolation as kernel
from lft.analysis.spreading import exponents, group_sizes, ratio, series, summarize_spreading
from lft.archive import Archive
from lft.chain import Schedule
from lft.cli import main
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Lattice
from lft.percolation import DirectedPercolation, Words, configuration
from lft.rng import Key
from lft.spreading import Ensemble, bits_of
from lft.testing.percolation import Enumeration, numbers, slices, step_of
from tests.helpers import load_json

BOUND, PRECISION = 4.5, 0.01


def lattice(shape, boundary="periodic"):
    space = (boundary,) * (len(shape) - 1) if isinstance(boundary, str) else boundary
    return Lattice(shape, (*"xyzw"[: len(shape) - 1], "t"), (*space, "open"))


def drawn(action, geometry, n, start="seed", seed=1):
    ensemble = Ensemble(action, geometry, start, Key(seed), Schedule(updates=n))
    ensemble.run()
    return ensemble


# ---- against enumeration
def deviations(sums, n, exact, p):
    """Largest |z| and relative error of N, survival and squared distance by time step."""
    worst, error = 0.0, 0.0
    for t in range(1, len(sums["active"])):
        P = float(exact.survival(t, p))
        mean = {"active": float(exact.active(t, p)), "alive": P, "square": float(exact.square(t, p))}
        for name in mean:
            value, sigma = ratio(sums[name][t].astype(float), group_sizes(n).astype(float))
            if sigma == 0:
                assert value == mean[name]  # at one place only, as the squared distance on a ring of one site
                continue
            worst = max(worst, abs(value - mean[name]) / sigma)
            error = max(error, sigma / mean[name])
    return worst, error


CASES = [
    ("bond", 4, (12,), ("periodic",)),
    ("bond", 4, (3,), ("periodic",)),
    ("bond", 4, (3,), ("open",)),
    ("bond", 4, (1,), ("periodic",)),
    ("bond", 4, (2,), ("periodic",)),
    ("site", 5, (12,), ("periodic",)),
    ("site", 5, (4,), ("open",)),
    ("bond", 2, (5, 7), ("periodic", "periodic")),
    ("site", 3, (2, 3), ("open", "periodic")),
    ("bond", 2, (2, 2), ("open", "open")),
    ("site", 2, (2, 3, 2), ("open", "open", "periodic")),
]


def reduced(kind, n_steps, shape, boundary):
    """The longest enumeration of at most so many steps that fits."""
    for n in range(n_steps, 0, -1):
        try:
            return Enumeration(kind, n, shape, boundary), n
        except ValueError:
            continue
    raise AssertionError("nothing to enumerate")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_configuration(case):
    kind, n_steps, shape, boundary = case
    exact, n_steps = reduced(*case)
    assert n_steps >= 2
    p, n = 0.6447 if len(shape) == 1 else 0.4, 64 * 1500
    geometry = lattice((*shape, n_steps + 1), boundary)
    worst, error = deviations(drawn(DirectedPercolation(p, kind), geometry, n).extras(), n, exact, p)
    assert worst < BOUND and error < PRECISION


class Twice(DirectedPercolation):
    """Mutant: two active parents open a site with probability 2 p (cut at 1), not 1 - (1-p)^2."""

    def _exact(self, n_axes):
        return [min(Fraction(m) * Fraction(self.couplings["p"]), Fraction(1)) for m in range(2**n_axes + 1)]


class Blunt(DirectedPercolation):
    """Mutant: the probability has 5 bits."""

    def thresholds(self, n_axes):
        return tuple(q >> 59 << 59 for q in super().thresholds(n_axes))


@pytest.mark.parametrize("mutant", [Twice(0.6447), Blunt(0.6447), DirectedPercolation(0.6447, "site")], ids=repr)
def test_wrong_probabilities_are_rejected(mutant):
    exact, n = Enumeration("bond", 4, (12,), ("periodic",)), 64 * 1500
    worst, _ = deviations(drawn(mutant, lattice((12, 5)), n).extras(), n, exact, 0.6447)
    assert worst > 2 * BOUND


def radius_of(step):
    """Deviation of the squared distance after 3 steps when slices are drawn by a rule of neighbors."""
    exact, geometry = Enumeration("bond", 3, (12,), ("periodic",)), lattice((12, 4))
    at = 2 * np.arange(12) + 1 - 12
    last = [slices(DirectedPercolation(0.6447), geometry, "seed", 3, w, step=step)[-1] for w in range(12)]
    values = np.concatenate([(n * at[:, np.newaxis] ** 2).sum(axis=0) for n in last]).astype(float)
    return abs(values.mean() - float(exact.square(3, 0.6447))) / (values.std() / math.sqrt(len(values)))


def test_slices_that_drift_are_rejected():
    assert radius_of(step_of) < BOUND
    assert radius_of(lambda t: 1) > 2 * BOUND


def test_enumeration_by_hand():
    p = Fraction(3, 10)
    bond, site = Enumeration("bond", 2, (9,), ("periodic",)), Enumeration("site", 2, (9,), ("periodic",))
    assert bond.active(1, p) == 2 * p and bond.survival(1, p) == 1 - (1 - p) ** 2
    assert bond.active(2, p) == 2 * p * p + 1 - (1 - p * p) ** 2  # the two ends, and the middle by two ways
    assert site.active(2, p) == 2 * p * p + p * (1 - (1 - p) ** 2)
    assert site.square(2, p) == 4 * 2 * p * p


def test_weights_of_all_configurations_add_up_to_one():
    for kind, boundary in itertools.product(("bond", "site"), ("periodic", "open")):
        geometry, action = lattice((3, 4), boundary), DirectedPercolation(0.35, kind)
        exact, total, N = Enumeration(kind, 3, (3,), (boundary,)), 0.0, 0.0
        for values in itertools.product((0, 1), repeat=9):
            n = np.concatenate([[[0, 1, 0]], np.reshape(values, (3, 3))]).T
            weight = math.exp(-action.S(Field.from_array(geometry, "gas", n)))
            total, N = total + weight, N + weight * n[:, 3].sum()
        assert abs(total - 1) < 1e-12 and abs(N - float(exact.active(3, 0.35))) < 1e-12


# ---- limits and coupling
@pytest.mark.parametrize("kind", ["bond", "site"])
def test_nothing_and_everything(kind):
    x = drawn(DirectedPercolation(0.0, kind), lattice((20, 9)), 100).extras()
    assert x["active"][0].sum() == 100 and not x["active"][1:].any() and (x["duration"] == 1).all()
    x = drawn(DirectedPercolation(1.0, kind), lattice((40, 9)), 100).extras()
    t = np.arange(9)
    assert (x["active"].sum(1) == 100 * (t + 1)).all() and (x["alive"].sum(1) == 100).all()
    assert (x["square"].sum(1) * 3 == 100 * (t + 1) * t * (t + 2)).all()
    x = drawn(DirectedPercolation(1.0, kind), lattice((6, 5, 9), "open"), 70, "full").extras()
    assert (x["active"].sum(1) == 70 * 30).all()
    x = drawn(DirectedPercolation(1.0, kind), lattice((9, 11, 13, 5)), 3).extras()
    assert (x["active"].sum(1) == 3 * (np.arange(5) + 1) ** 3).all()


def test_a_larger_p_contains_the_smaller():
    geometry, before = lattice((30, 40)), None
    for p in (0.3, 0.6, 0.6447, 0.65, 0.9, 1.0):
        now = np.array([configuration(DirectedPercolation(p), geometry, "full", 5, r) for r in range(3)])
        assert before is None or ((before <= now).all() and (before < now).any())
        before = now


# ---- the compiled loop
SHAPES = [((7, 30), "periodic"), ((8, 30), "open"), ((1, 6), "periodic"), ((1, 6), "open"), ((2, 9), "periodic"),
          ((5, 4, 12), ("open", "periodic")), ((3, 2, 5, 9), ("periodic", "open", "periodic")),
          ((2, 3, 2, 3, 6), "periodic")]  # fmt: skip


@pytest.mark.parametrize("path", ["aes", "baseline"])
@pytest.mark.parametrize(("shape", "boundary"), SHAPES, ids=str)
def test_the_bits_of_plain_numpy(shape, boundary, path):
    was = kernel.path()
    if path == "aes" and was != "aes":
        pytest.skip("no AES on this processor")  # the baseline runs there and is compared
    geometry = lattice(shape, boundary)
    kernel.force(path)
    try:
        cases = ("bond", "seed", 0.62), ("site", "seed", 0.8), ("bond", "full", 0.3), ("site", "full", 1.0)
        for kind, start, p in cases:
            action, seed = DirectedPercolation(p, kind), 2**63 + 11
            words = Words(action, geometry, start, seed, [0, 5], [2**64 - 1, 0b1011])
            parts = [words.advance(min(7, shape[-1] - 1 - t)) for t in range(0, shape[-1] - 1, 7)]
            count, square, alive = (np.concatenate([p[k] for p in parts], axis=1) for k in range(3))
            for w, (word, lanes) in enumerate(((0, 2**64 - 1), (5, 0b1011))):
                expected = slices(action, geometry, start, seed, word, lanes)[1:]
                assert np.array_equal(count[w], expected.sum(axis=1))
                assert np.array_equal(bits_of(alive[w]) > 0, expected.any(axis=1))
                if start == "seed":
                    assert np.array_equal(square[w], distances(expected, geometry))
            whole = configuration(action, geometry, start, seed, 64 * 5 + 1)
            assert np.array_equal(whole, slices(action, geometry, start, seed, 5)[:, :, 1])
    finally:
        kernel.force(was)


def distances(expected, geometry):
    """(T - 1, 64) summed squared distances from the seed."""
    out = []
    for t, now in enumerate(expected, start=1):
        total = np.zeros(geometry.shape[:-1], np.int64)
        for k, (n, b) in enumerate(zip(geometry.shape[:-1], geometry.boundary[:-1], strict=True)):
            d = np.abs(2 * np.arange(n) + t % 2 - 2 * (n // 2))
            d = np.minimum(d, 2 * n - d) if b == "periodic" else d
            total += (d**2).reshape([-1 if i == k else 1 for i in range(total.ndim)])
        out.append((now * total.reshape(-1, 1)).sum(axis=0))
    return np.array(out)


def test_numbers_of_sites_steps_words_and_seeds_differ():
    a, b = numbers(4, 3, Key(1, 0).word), numbers(4, 4, Key(1, 0).word)
    c, d = numbers(4, 3, Key(1, 1).word), numbers(4, 3, Key(2, 0).word)
    assert len(np.unique([a, b, c, d])) == 4 * 4 * 64
    u = numbers(2000, 9, Key(3, 1).word) / 2.0**64
    assert abs(u.mean() - 0.5) < BOUND / math.sqrt(12 * u.size)
    for shift in (1, 7):  # neighboring sites and replicas
        for x in (u - 0.5, (u - 0.5).T):
            assert abs((x[shift:] * x[:-shift]).mean() * 12) < BOUND / math.sqrt(x[shift:].size)


# ---- errors
def test_errors_are_those_of_independent_replicas():
    n, z, spread = 640, [], []
    exact = Enumeration("bond", 4, (12,), ("periodic",))
    for seed in range(60):
        x = drawn(DirectedPercolation(0.6447), lattice((12, 5)), n, seed=seed).extras()
        value, error = ratio(x["active"][4].astype(float), group_sizes(n).astype(float))
        z.append((value - float(exact.active(4, 0.6447))) / error)
        value, error = ratio(x["square"][4].astype(float), x["active"][4].astype(float))
        spread.append((value - float(exact.square(4, 0.6447) / exact.active(4, 0.6447))) / error)
    for pulls in (np.array(z), np.array(spread)):
        assert abs(pulls.mean()) < BOUND / math.sqrt(60) and 0.7 < pulls.std() < 1.35


# ---- the command line
CONFIG = """seed = 7
[lattice]
shape = [40, 30]
[action]
name = "directed-percolation"
p = 0.644700185
kind = "bond"
[run]
start = "seed"
replicas = 200
save_every = 50
"""


@pytest.fixture
def folder(here):
    (here / "dp.toml").write_text(CONFIG)
    return here


def test_run_analyze_report(folder, capsys):
    assert main("run dp.toml -o a.h5 --quiet".split()) == 0
    assert main("analyze a.h5 --json a.json --plot a.png".split()) == 0
    assert main("report a.h5 -o r.html".split()) == 0
    assert main("status a.h5 --json s.json".split()) == 0
    data, state = load_json("a.json"), load_json("s.json")
    observables = data["observables"]
    for name in ("active", "survival", "radius2", "density"):
        assert {len(observables[name][k]) for k in ("value", "error", "tau_int", "n")} == {30}
    assert observables["active"]["value"][0] == 1 and observables["survival"]["n"][3] == 200
    assert np.allclose(np.array(observables["active"]["value"]) / 40, observables["density"]["value"])
    assert state["updates"] == state["planned"] == 200 and 0 < state["acceptance"] < 1
    assert set(data["effective_exponents"]) == {"from", "to", "delta", "theta", "2/z"}
    with Archive("a.h5") as archive:
        assert archive.n_configurations == 4
        for i in range(4):
            n = configuration(archive.action, archive.geometry, "seed", 7, 50 * (i + 1) - 1)
            assert np.array_equal(archive.configuration(i), n.T)
        assert np.array_equal(archive.last(), archive.configuration(3))
        assert archive.spreading["size"][49] == archive.configuration(0).sum()
        assert np.array_equal(archive.spreading["duration"], archive.spreading["duration"].clip(1, 30))
        assert archive.spreading["size"].sum() == archive.spreading["active"].sum()
        assert archive.spreading["duration"].sum() == archive.spreading["alive"].sum()


def fingerprint(path):
    assert main(["analyze", path, "--json", "f.json"]) == 0
    data = load_json("f.json")
    return data["field_sha256"], data["series_sha256"]


def test_interruptions_threads_and_savings_change_nothing(folder, monkeypatch):
    assert main("run dp.toml -o a.h5 --quiet".split()) == 0
    assert main("run dp.toml -o b.h5 --quiet --set run.replicas=1".split()) == 0
    for more in (62, 1, 2, 134):
        assert main(f"resume b.h5 --quiet --updates {more}".split()) == 0
    assert main("run dp.toml -o c.h5 --quiet --set run.save_every=0".split()) == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert main("run dp.toml -o d.h5 --quiet".split()) == 0
    assert len({fingerprint(f"{name}.h5") for name in "abcd"}) == 1


@pytest.mark.parametrize("start", ["seed", "full"])
@pytest.mark.parametrize("n", [1, 65])
def test_few_replicas_have_numbers_or_none(folder, start, n):
    assert main(f"run dp.toml -o a.h5 --quiet --set run.replicas={n} --set run.start={start}".split()) == 0
    assert main("analyze a.h5 --json a.json --plot a.png".split()) == 0
    data = load_json("a.json")["observables"]
    assert (data["active"]["error"][5] is None) == (n == 1)
    assert all(v is None for v in data["radius2"]["value"]) == (start == "full")


def test_spacing_gives_units(folder):
    assert main(["run", "dp.toml", "-o", "a.h5", "--quiet", "--set", 'lattice.spacing=["42 um", "20 ms"]']) == 0
    assert main("analyze a.h5 --json a.json".split()) == 0
    data = load_json("a.json")
    radius = data["physical"]["radius2"]
    sites = data["observables"]["radius2"]["value"][9]
    assert radius["unit"] == "um^2" and math.isclose(radius["value"][9], sites * 42**2)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("run.replicas=0", "replicas = 0: valid is an integer >= 1"),
        ("run.start=hot", "start = 'hot': valid is seed or full"),
        ("run.thermalize=3", "thermalize: unknown key; valid are"),
        ("run.updates=3", "updates: unknown key; valid are"),
        ("action.p=1.5", "p = 1.5: valid is a number from 0 to 1"),
        ("action.p=nan", "p = nan: valid is a number from 0 to 1"),
        ("action.kind=both", "kind = 'both': valid is bond or site"),
        ("update.name=metropolis", "[update]: action 'directed-percolation' is drawn slice by slice; leave"),
        ("tempering.count=3", "[tempering]: action 'directed-percolation' has no temperature"),
        ("lattice.mask=m.npy", "mask: not with action 'directed-percolation'"),
        ("lattice.shape=[5]", "valid are 1 to 6 space axes and, last, time"),
        ('lattice.axes=["t","x"]', 'the last axis of directed percolation is time, "t"'),
        ('lattice.boundary=["open","periodic"]', 'time, the last axis, must be "open"'),
    ],
)
def test_wrong_keys_are_one_line(folder, capsys, setting, words):
    assert main(["run", "dp.toml", "-o", "a.h5", "--set", setting]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (folder / "a.h5").exists()


def test_replicas_are_asked_for(folder, capsys):
    (folder / "n.toml").write_text(CONFIG.replace("replicas = 200\n", ""))
    assert main("run n.toml -o a.h5".split()) == 2
    assert "[run] replicas is missing" in capsys.readouterr().err


def test_damage_and_misuse_are_one_line(folder, capsys):
    import h5py

    assert main("run dp.toml -o a.h5 --quiet".split()) == 0
    assert main("analyze a.h5 --reweight p=0.6".split()) == 2
    with h5py.File("a.h5", "r+") as file:
        del file["spreading/alive"]
    capsys.readouterr()
    assert main("analyze a.h5".split()) == 2 and main("resume a.h5 --updates 5".split()) == 2
    assert capsys.readouterr().err.count("damaged archive, spreading") == 2


def test_slopes_know_how_times_are_correlated(folder):
    assert main("run dp.toml -o a.h5 --quiet --set run.replicas=3000".split()) == 0
    with Archive("a.h5") as archive:
        found, (values, errors) = exponents(archive, 5, 29), series(archive)["active"]
        alone = math.hypot(errors[5] / values[5], errors[29] / values[29]) / math.log(29 / 5)
        assert found["theta"]["error"] < 0.95 * alone
        assert set(summarize_spreading(archive)[0]) == {"active", "survival", "radius2", "density", "size", "duration"}
        with pytest.raises(InputError, match="1 <= first < last <= 29"):
            exponents(archive, 0, 29)
