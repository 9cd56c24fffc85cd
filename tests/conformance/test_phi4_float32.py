"""phi^4 fields of float32: the bits of a numpy twin, float64 sums, archives, and what refuses them."""

import dataclasses
import pickle

import numpy as np
import pytest

from lft._kernels import phi4_waves
from lft.actions import Phi4
from lft.archive import Archive, field_sha256
from lft.config import read_config
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Lattice
from lft.implementations import choose
from lft.observables import default_observables, measure_all
from lft.protocols import State
from lft.rng import Key, Stream
from lft.simulation import resume, run
from lft.updaters import HMC, HeatBath, Metropolis, start
from lft.wavefront import Blocking, Phi4Waves
from tests.helpers import run_lft

F = np.float32


def momenta(shape, t, key):
    """Normal numbers as lines.momenta draws them: block m of a line serves the sites m and m + ceil(length/2)."""
    length = shape[-1]
    half, rows = (length + 1) // 2, []
    for line in range(int(np.prod(shape[:-1]))):
        u, v = key.fill("normal", line * length, 1, half, t, Stream.MOMENTUM)
        rows.append(np.concatenate([u, v])[:length])
    return np.array(rows).reshape(shape).astype(F)


def shifted(phi, axis, step, is_periodic):
    """phi at the neighbor, 0 beyond an open end."""
    out = np.roll(phi, -step, axis)
    if not is_periodic:
        edge = [slice(None)] * phi.ndim
        edge[axis] = -1 if step > 0 else 0
        out[tuple(edge)] = 0
    return out


def twin(phi, lattice, kappa, lam, updater, t, key):
    """One trajectory in float32, operation by operation; the last field and its energy change in float64."""
    periodic = lattice.storage_periodic

    def force(phi):
        f = np.zeros_like(phi)
        for axis, k in enumerate(kappa):
            f = f + F(k) * (shifted(phi, axis, 1, periodic[axis]) + shifted(phi, axis, -1, periodic[axis]))
        return F(2) * f - F(2) * phi - F(4) * F(lam) * phi * (phi * phi - F(1))

    def energy(phi, mom):
        x, p = phi.astype(float), mom.astype(float)
        bonds = sum(k * x * shifted(x, a, 1, periodic[a]) for a, k in enumerate(kappa))
        return (p**2 / 2 - 2 * bonds + x**2 + lam * (x**2 - 1) ** 2).sum()

    mom = momenta(phi.shape, t, key)
    before = energy(phi, mom)
    for kick, drift in updater.scheme.pairs(updater.steps, updater.length / updater.steps):
        mom = mom + F(kick) * force(phi)
        if drift:
            phi = phi + F(drift) * mom
    assert phi.dtype == mom.dtype == F
    return phi, energy(phi, mom) - before


@pytest.mark.parametrize("loops", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize(
    ("shape", "boundary", "kappa"),
    [
        ((9, 21), "periodic", (0.2, 0.15)),
        ((6, 70), ("open", "periodic"), (0.2, 0.1)),
        ((5, 4, 33), ("periodic", "open", "open"), (0.1, 0.2, 0.15)),
        ((3, 4, 5, 16), "periodic", (0.1, 0.05, 0.1, 0.12)),
    ],
)
def test_the_bits_are_those_of_a_numpy_twin(shape, boundary, kappa, loops):
    best = phi4_waves.path()
    try:
        phi4_waves.force(loops)
    except ValueError:
        pytest.skip("this processor lacks the instructions")  # baseline always runs
    lattice, key, updater = Lattice(shape, boundary=boundary), Key(3), HMC(5, 1.0, "omelyan2")
    action = Phi4(kappa, 0.4, precision="float32")
    try:
        for blocking, n_threads in ((None, 1), (Blocking(3, 2, 3), 2)):
            phi = action.new_field(lattice)
            start(phi, "hot", key)
            assert phi.data.dtype == F
            waves = Phi4Waves(action, phi, updater, blocking, n_threads)
            waves.load()
            for t in range(3):
                before = phi.values.copy()
                want, change = twin(before, lattice, kappa, 0.4, updater, t, key)
                is_accepted, dH = waves.trajectory(t, key)
                waves.store()
                assert dH == pytest.approx(change, abs=1e-9 * phi.values.size)
                assert np.array_equal(phi.values, want if is_accepted else before)
    finally:
        phi4_waves.force(best)


def test_sums_are_those_of_the_same_numbers_in_float64():
    lattice, key = Lattice((6, 7, 9)), Key(2)
    wide, narrow = Phi4(0.15, 0.4), Phi4(0.15, 0.4, precision="float32")
    phi = narrow.new_field(lattice)
    start(phi, "hot", key)
    twin = Field(lattice, "real", wide.new_field(lattice).domain)
    twin.data[...] = phi.data
    found, want = (
        measure_all(default_observables(a, lattice), a, State(f, 0)) for a, f in ((narrow, phi), (wide, twin))
    )
    assert found.keys() == want.keys()
    assert all(np.array_equal(found[name], want[name]) for name in want)
    assert narrow.S(phi) == wide.S(twin)
    assert np.array_equal(narrow.force(phi), wide.force(twin))
    assert narrow.operators(phi) == wide.operators(twin)


def test_a_face_keeps_its_precision():
    action = Phi4(0.1, 0.5, precision="float32")
    for other in (action.with_couplings(kappa=0.2), pickle.loads(pickle.dumps(action)), eval(repr(action))):
        assert other.dtype == F and other.couplings.keys() == action.couplings.keys()
    assert "precision" not in repr(Phi4(0.1, 0.5))
    phi = action.new_field(Lattice((4, 4)))
    assert phi.copy().data.dtype == F


CONFIG = """
seed = 4
[lattice]
shape = [12, 10]
[action]
name = "phi4"
kappa = 0.2
lambda = 0.5
precision = "float32"
[update]
name = "hmc"
steps = 6
[run]
thermalize = 5
updates = 20
measure_every = 4
save_every = 10
"""


def test_an_archive_resumes_float32_exactly(tmp_path):
    (tmp_path / "run.toml").write_text(CONFIG)
    config = read_config(tmp_path / "run.toml")
    whole = run(config, tmp_path / "whole.h5", is_quiet=True)
    short = dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, updates=8))
    short.resolved["run"]["updates"] = 8
    run(short, tmp_path / "parts.h5", is_quiet=True)
    resume(tmp_path / "parts.h5", 12, is_quiet=True)
    digests = set()
    for name in ("whole.h5", "parts.h5"):
        with Archive(tmp_path / name) as archive:
            assert archive.action.dtype == F and archive.kernel == "phi4-blocked"
            digests.add((field_sha256("real", archive.last()), archive.series_sha256()))
            assert np.array_equal(archive.last(), archive.last().astype(F))
    assert len(digests) == 1
    assert whole.state.phi.data.dtype == F


def test_two_ranks_write_the_same_archive(tmp_path):
    (tmp_path / "run.toml").write_text(CONFIG)
    digests = set()
    for ranks in (None, 2):
        done = run_lft(["run", "run.toml", "-o", f"{ranks}.h5", "--quiet"], tmp_path, ranks)
        assert done.returncode == 0, done.stderr
        with Archive(tmp_path / f"{ranks}.h5") as archive:
            digests.add((field_sha256("real", archive.last()), archive.series_sha256()))
    assert len(digests) == 1


def test_what_only_float64_can_is_refused(tmp_path):
    lattice, action = Lattice((6, 6)), Phi4(0.1, 0.5, precision="float32")
    phi = action.new_field(lattice)
    for updater, kernel in ((Metropolis(), "auto"), (HMC(), "generic"), (HMC(), "generic-phi4")):
        with pytest.raises(InputError, match="on float32: valid is phi4-blocked"):
            choose(action, updater, phi, kernel)
    masked = Lattice((6, 6), mask=~np.eye(6, dtype=bool))
    with pytest.raises(InputError, match="on float32"):
        choose(action, HMC(), action.new_field(masked))
    for updater in (Metropolis(), HMC()):
        with pytest.raises(InputError, match="float64"):
            updater.step(action, State(phi, 0), Key(1))
    with pytest.raises(InputError, match="heatbath"):
        HeatBath().step(action, State(phi, 0), Key(1))
    with pytest.raises(InputError, match="precision = 'half': valid are float64, float32"):
        Phi4(0.1, 0.5, precision="half")
    (tmp_path / "run.toml").write_text(CONFIG.replace('"float32"', '"double"'))
    with pytest.raises(InputError, match="precision"):
        read_config(tmp_path / "run.toml")
