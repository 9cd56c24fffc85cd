"""Symplectic schemes: palindromic, reversible, volume-preserving, of their order, bitwise alike."""

import math

import numpy as np
import pytest
from cases import REAL, name_of

from lft._kernels import noise, real_loops
from lft.actions import Ising, Phi4
from lft.analysis import estimate
from lft.errors import InputError
from lft.geometry import Lattice
from lft.integrators import SCHEMES, Scheme, scheme
from lft.protocols import State
from lft.rng import Key
from lft.testing import z_score
from lft.updaters import HMC, HeatBath, Metropolis, start

KEY = Key(11)
SETS = ("baseline", "avx2", "avx512")
every_scheme = pytest.mark.parametrize("name", SCHEMES)

EULER = Scheme("euler", (1.0, 0.0), (1.0,), 1, "kick, then drift: symplectic but not reversible, a mutant")
DRIFTING = Scheme("drifting", (0.5, 0.5), (1.02,), 2, "drifts that do not add up to one, a mutant")


@every_scheme
def test_coefficients_are_palindromic_and_add_up(name):
    s = SCHEMES[name]
    assert len(s.kicks) == len(s.drifts) + 1
    assert math.fsum(s.kicks) == pytest.approx(1, abs=1e-15) and math.fsum(s.drifts) == pytest.approx(
        1, abs=1e-15
    )
    assert s.kicks == pytest.approx(s.kicks[::-1], abs=1e-15) and s.drifts == pytest.approx(
        s.drifts[::-1], abs=1e-15
    )
    pairs = s.pairs(7, 0.1)
    assert sum(k for k, _ in pairs) == pytest.approx(0.7) and sum(d for _, d in pairs) == pytest.approx(0.7)
    assert pairs[-1][1] == 0 and len(pairs) == 7 * len(s.drifts) + 1  # merged kicks
    assert scheme(name) is s


def test_unknown_schemes_are_refused():
    with pytest.raises(InputError, match="leapfrog, omelyan2, omelyan4"):
        scheme("rk4")


def energy(hmc, action, phi, mom):
    return math.fsum(hmc.energy_lines(action, phi, mom))


def hmc_with(scheme, steps, length):
    hmc = HMC(steps, length)
    hmc.scheme = scheme
    return hmc


def return_error(case, hmc):
    """Largest deviation after a trajectory forth and, with the momenta turned, back."""
    phi = case.new_field(3)
    mom = hmc.momenta(case.action, State(phi, 2), KEY).copy()
    origin = phi.data.copy()
    first = mom[phi.domain.interior].copy()
    hmc.integrate(case.action, phi, mom)
    moved = abs(phi.values - origin[phi.domain.interior]).max()
    mom *= -1
    hmc.integrate(case.action, phi, mom)
    assert moved > 1e-3
    return max(abs(phi.data - origin).max(), abs(mom[phi.domain.interior] + first).max())


@every_scheme
@pytest.mark.parametrize("case", REAL, ids=name_of)
def test_reversible(case, name):
    assert return_error(case, HMC(6, 0.9, name)) < 1e-10


def test_an_irreversible_scheme_is_noticed():
    case = next(c for c in REAL if c.id == "phi4-axes-3d-odd-time-last")
    assert return_error(case, hmc_with(EULER, 6, 0.9)) > 1e-4


def slope(scheme):
    """d log rms(dH) / d log eps of trajectories of length 1 in a stable range of step sizes."""
    action = Phi4(kappa=(0.15, 0.2), lam=0.3)
    lattice, steps = Lattice((6, 7)), np.array([8, 12, 16, 24, 32])
    rms = []
    for n in steps:
        squares = []
        for seed in range(10):
            phi = action.new_field(lattice)
            start(phi, "hot", Key(seed))
            hmc = hmc_with(scheme, int(n), 1.0)
            mom = hmc.momenta(action, State(phi, seed), Key(seed)).copy()
            before = energy(hmc, action, phi, mom)
            hmc.integrate(action, phi, mom)
            squares.append((energy(hmc, action, phi, mom) - before) ** 2)
        rms.append(math.sqrt(np.mean(squares)))
    return np.polyfit(np.log(1 / steps), np.log(rms), 1)[0]


@every_scheme
def test_violation_of_energy_scales_with_the_order(name):
    assert slope(SCHEMES[name]) == pytest.approx(SCHEMES[name].order, abs=0.15)


@pytest.mark.parametrize("mutant", [EULER, DRIFTING], ids=lambda s: s.name)
def test_a_scheme_of_lower_order_is_noticed(mutant):
    assert slope(mutant) < 1.7


def creutz(hmc, n):
    """Estimate of <exp(-dH)> after thermalization."""
    action = Phi4(kappa=0.18, lam=0.4)
    phi = action.new_field(Lattice((6, 6)))
    start(phi, "hot", KEY)
    state, values = State(phi, 0), []
    for k in range(n + 200):
        state, info = hmc.step(action, state, KEY)
        if k >= 200:
            values.append(math.exp(-info.dH))
    return estimate(np.array(values), name="exp(-dH)")


COARSE = {"leapfrog": 7, "omelyan2": 4, "omelyan4": 2}
"""Steps at which dH fluctuates by a few per cent: with fewer, rare values rule; with more, no power."""


@every_scheme
def test_mean_of_exp_minus_dH_is_one(name):
    # area preservation: a Jacobian other than 1 or a wrong measure of the momenta would show here
    e = creutz(HMC(COARSE[name], 1.5, name), 4000)
    assert 3e-4 < e.error < 4e-3
    assert abs(z_score(e, 1.0)) < 4.5


class Friction(HMC):
    """Mutant: loses one per cent of the momenta, so the trajectory shrinks phase space."""

    def integrate(self, action, phi, mom):
        super().integrate(action, phi, mom)
        mom *= 0.99


@every_scheme
def test_shrinking_phase_space_is_noticed(name):
    assert abs(z_score(creutz(Friction(COARSE[name], 1.5, name), 4000), 1.0)) > 4.5


# --- instruction sets


@pytest.fixture
def restore():
    best = noise.instruction_set()
    yield best
    noise.force_instruction_set(best)


def available():
    best = noise.instruction_set()
    names = []
    for name in SETS:
        try:
            noise.force_instruction_set(name)
        except ValueError:
            continue
        names.append(name)
    noise.force_instruction_set(best)
    return names


def test_every_processor_has_the_baseline_and_the_best_is_chosen(restore):
    assert available()[0] == "baseline" and restore == available()[-1]
    assert real_loops() is real_loops(restore) is Phi4.loops
    with pytest.raises(ValueError, match="'sse9' is not available"):
        noise.force_instruction_set("sse9")


def test_noise_has_the_same_bits_on_every_instruction_set(restore):
    def everything():
        out = [noise.log(np.random.default_rng(1).random(1003))]
        for kind in ("uniform", "exponential", "logistic", "normal"):
            for n in (1, 7, 8, 9, 1003):
                out += noise.fill(kind, 2**32 - 5, 3, n, 2**40, 3, 1, KEY.word)
        return b"".join(a.tobytes() for a in out)

    found = set()
    for name in available():
        noise.force_instruction_set(name)
        assert noise.instruction_set() == name
        found.add(everything())
    assert len(found) == 1


@pytest.mark.parametrize("case", REAL, ids=name_of)
def test_real_loops_have_the_same_bits_on_every_instruction_set(case, restore):
    found = set()
    for name in available():
        noise.force_instruction_set(name)
        action = case.action.with_couplings()
        action.loops = real_loops(name)
        phi = action.new_field(case.geometry)
        start(phi, "hot", KEY)
        state, bits = State(phi, 0), b""
        for updater in (Metropolis(1.1), HMC(4, 0.8), HMC(2, 0.8, "omelyan4")):
            state, info = updater.step(action, state, KEY)
            bits += (
                phi.data.tobytes()
                + np.array([action.S(phi), info.dH]).tobytes()
                + action.force(phi).tobytes()
            )
        found.add(bits)
    assert len(found) == 1


def test_long_lines_have_the_same_bits_on_every_instruction_set(restore):
    # lines longer than a chunk, lengths that fill no vector
    found = set()
    for name in available():
        noise.force_instruction_set(name)
        bits = b""
        for shape in ((4, 517), (3, 1030)):
            action = Phi4(kappa=(0.2, 0.1), lam=0.7)
            action.loops = real_loops(name)
            phi = action.new_field(Lattice(shape))
            start(phi, "hot", KEY)
            state, _ = HMC(5, 1.0).step(action, State(phi, 0), KEY)
            Metropolis().step(action, state, KEY)
            bits += phi.data.tobytes() + np.float64(action.S(phi)).tobytes()
        found.add(bits)
    assert len(found) == 1


def test_binary_sweeps_have_the_same_bits_on_every_instruction_set(restore):
    found = set()
    for name in available():
        noise.force_instruction_set(name)
        action = Ising(K=(0.3, 0.2, 0.1), h=0.05)
        phi = action.new_field(Lattice((5, 6, 37), boundary=("periodic", "open", "periodic")))
        start(phi, "hot", KEY)
        state = State(phi, 0)
        for k in range(10):
            state, _ = (Metropolis() if k % 2 else HeatBath()).step(action, state, KEY)
        found.add(phi.data.tobytes())
    assert len(found) == 1
