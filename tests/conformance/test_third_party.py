"""An action that is not ours: one ``.pyx``, one face, no fork; every promise of the engine holds for it.

phi^6 with gradient bonds:

    S = sum_x [ m phi_x^2 / 2 + g phi_x^6 / 6 ] + (c/2) sum_<xy> (phi_x - phi_y)^2

on a periodic lattice.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import lft
from lft.actions import BaseAction
from lft.analysis import estimate
from lft.errors import InputError
from lft.geometry import Lattice
from lft.protocols import State
from lft.rng import Key
from lft.testing import assert_agrees, z_score
from lft.updaters import HMC, HeatBath, Metropolis, start
from tests.helpers import environment

PACKAGE = Path(lft.__file__).resolve().parent
LATTICE = Lattice((5, 6))
COUPLINGS = {"c": 0.7, "m": 0.4, "g": 0.9}

PHI6 = """
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
cimport cython

@cython.final
cdef class Phi6Kernel:
    cdef public int n
    cdef Py_ssize_t offset[8]
    cdef double c, m, g

    def __init__(self, offsets, c, m, g):
        self.n = len(offsets)
        for d in range(self.n):
            self.offset[d] = offsets[d]
        self.c, self.m, self.g = c, m, g

    cdef inline double site_dS(self, const double *phi, Py_ssize_t p, Py_ssize_t q, double y,
                               int n) noexcept nogil:
        cdef double x = phi[p], f = 0.0
        cdef int d
        for d in range(n):
            f += phi[p + self.offset[d]] + phi[p - self.offset[d]]
        return (y * y - x * x) * (self.m / 2 + n * self.c) - self.c * f * (y - x) + self.g / 6 * (y**6 - x**6)

    cdef inline double site_force(self, const double *phi, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double x = phi[p], f = 0.0
        cdef int d
        for d in range(n):
            f += phi[p + self.offset[d]] + phi[p - self.offset[d]]
        return self.c * (f - 2 * n * x) - self.m * x - self.g * x**5

    cdef inline double site_action(self, const double *phi, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef double x = phi[p], s = 0.0, y
        cdef int d
        for d in range(n):
            y = phi[p + self.offset[d]] - x
            s += y * y
        return self.m / 2 * x * x + self.g / 6 * x**6 + self.c / 2 * s

ctypedef fused real_action_t:
    Phi6Kernel

include "real_loops.pxi"
"""

TRIPLET = """
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
cimport cython

ctypedef signed char cell

@cython.final
cdef class TripletKernel:
    # 0/1 field: a coupling of three successive sites along the first displacement, and a field
    cdef public int low, high, n
    cdef Py_ssize_t offset[8]
    cdef double g, h

    def __init__(self, offsets, g, h):
        self.n, self.low, self.high = len(offsets), 0, 1
        for d in range(self.n):
            self.offset[d] = offsets[d]
        self.g, self.h = g, h

    cdef inline double raising(self, const cell *s, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef Py_ssize_t o = self.offset[0]
        return self.h + self.g * (s[p + o] * s[p + 2 * o] + s[p - o] * s[p + o] + s[p - o] * s[p - 2 * o])

    cdef inline double site_action(self, const cell *s, Py_ssize_t p, Py_ssize_t q, int n) noexcept nogil:
        cdef Py_ssize_t o = self.offset[0]
        return s[p] * (self.h + self.g * s[p + o] * s[p + 2 * o])

ctypedef fused binary_action_t:
    TripletKernel

include "binary_loops.pxi"
"""

BUILD = """
import sys, numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
name, kernels, root = sys.argv[1:4]
del sys.argv[1:4]
module = Extension(name, [name + ".pyx"], include_dirs=[kernels, numpy.get_include()],
                   define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
                   extra_compile_args=["-O1", "-g0", "-ffp-contract=off"])
modules = cythonize([module], include_path=[kernels, root], quiet=True)
setup(name=name, script_args=["build_ext", "--inplace"], ext_modules=modules)
"""


def build(name, source, folder):
    """Compile one module in a folder and import it from there."""
    (folder / f"{name}.pyx").write_text(source.lstrip())
    (folder / "build.py").write_text(textwrap.dedent(BUILD))
    command = [sys.executable, "build.py", name, PACKAGE / "_kernels", PACKAGE.parent]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    sys.path.insert(0, os.fspath(folder))
    try:
        return __import__(name)
    finally:
        sys.path.remove(os.fspath(folder))


@pytest.fixture(scope="module")
def Phi6(tmp_path_factory):
    module = build("phi6_for_test", PHI6, tmp_path_factory.mktemp("phi6"))

    class Phi6(BaseAction):
        name, kind, loops = "phi6", "real", module

        def __init__(self, c, m, g):
            super().__init__(c=c, m=m, g=g)

        def displacements(self, geometry):
            return geometry.unit_displacements()

        def kernel(self, plan, geometry):
            return module.Phi6Kernel(plan.offsets, **self.couplings)

        def force(self, phi):
            kernel, plan = self.bind(phi)
            out = np.zeros_like(phi.data)
            self.loops.force(
                kernel,
                phi.data.reshape(-1),
                out.reshape(-1),
                plan.line_p,
                plan.line_q,
                plan.length,
                plan.active,
            )
            return out[phi.domain.interior]

    return Phi6


def differences(x):
    return [np.roll(x, -1, axis) - x for axis in range(x.ndim)]


def action_of(x, c, m, g):
    return np.sum(m * x**2 / 2 + g * x**6 / 6) + c / 2 * sum(np.sum(d**2) for d in differences(x))


def force_of(x, c, m, g):
    return c * sum(d - np.roll(d, 1, axis) for axis, d in enumerate(differences(x))) - m * x - g * x**5


def hot(action, seed=1):
    phi = action.new_field(LATTICE)
    start(phi, "hot", Key(seed))
    return phi


def test_action_force_and_difference_agree_with_numpy(Phi6):
    action = Phi6(**COUPLINGS)
    phi = hot(action)
    x = phi.array()
    assert action.S(phi) == pytest.approx(action_of(x, **COUPLINGS), rel=1e-13)
    assert action.force(phi) == pytest.approx(force_of(x, **COUPLINGS), rel=1e-12, abs=1e-12)
    assert action.with_couplings(c=0.0).S(phi) == pytest.approx(action_of(x, 0.0, 0.4, 0.9), rel=1e-13)
    kernel, plan = action.bind(phi)
    new = np.random.default_rng(2).normal(size=LATTICE.shape)
    for (i, j), value in np.ndenumerate(new):
        moved = x.copy()
        moved[i, j] = value
        found = action.loops.site_dS(
            kernel,
            phi.data.reshape(-1),
            plan.line_p[i : i + 1] + j,
            plan.line_q[i : i + 1] + j,
            np.array([value]),
        )
        expected = action_of(moved, **COUPLINGS) - action_of(x, **COUPLINGS)
        assert found[0] == pytest.approx(expected, abs=1e-11 * max(1, abs(expected)))


@pytest.mark.parametrize("integrator", ["leapfrog", "omelyan2", "omelyan4"])
def test_trajectories_are_reversible(Phi6, integrator):
    action = Phi6(**COUPLINGS)
    phi, hmc = hot(action), HMC(10, 0.5, integrator)
    mom = hmc.momenta(action, State(phi, 0), Key(1)).copy()
    origin = phi.data.copy()
    hmc.integrate(action, phi, mom)
    mom *= -1
    hmc.integrate(action, phi, mom)
    assert abs(phi.data - origin).max() < 1e-10


def schwinger_dyson(sampled, target, updater, n):
    """Estimate of <phi dS/dphi> per site, S of ``target``, on a chain of ``sampled``: 1 if they are one."""
    phi = hot(sampled)
    state, values = State(phi, 0), []
    for k in range(n + 200):
        state, _ = updater.step(sampled, state, Key(3))
        if k >= 200:
            values.append(-np.mean(phi.values * target.force(phi)))
    return estimate(np.array(values))


@pytest.mark.parametrize(
    ("updater", "n"), [(Metropolis(1.5), 16_000), (HMC(6, 0.9), 8_000)], ids=["metropolis", "hmc"]
)
def test_schwinger_dyson(Phi6, updater, n):
    action = Phi6(**COUPLINGS)
    assert_agrees(schwinger_dyson(action, action, updater, n), 1.0, relative_error_max=0.005)
    for change in ({"c": 0.63}, {"m": 0.25}, {"g": 0.8}):  # mutants: a kernel with a wrong coupling
        wrong = schwinger_dyson(action.with_couplings(**change), action, updater, n)
        assert abs(z_score(wrong, 1.0)) > 4.5, (change, wrong)


def test_a_heat_bath_for_a_real_field_is_refused(Phi6):
    action = Phi6(**COUPLINGS)
    with pytest.raises(InputError, match="'phi6' has kind 'real': valid are metropolis, hmc"):
        HeatBath().step(action, State(hot(action), 0), Key(1))


@pytest.mark.validate
def test_a_binary_action_of_three_sites(tmp_path):
    """S = g sum_x s_x s_(x+1) s_(x+2) + h sum_x s_x on a ring: steps 1 and 2 interact, three colors."""
    module = build("triplet_for_test", TRIPLET, tmp_path)

    class Triplet(BaseAction):
        name, kind, loops = "triplet", "gas", module

        def __init__(self, g, h):
            super().__init__(g=g, h=h)

        def displacements(self, geometry):
            return [(1,), (2,)]

        def kernel(self, plan, geometry):
            return module.TripletKernel(plan.offsets, **self.couplings)

    L, g, h = 8, -1.2, 0.4
    states = (np.arange(2**L)[:, None] >> np.arange(L) & 1).astype(float)
    S = (g * states * np.roll(states, -1, 1) * np.roll(states, -2, 1) + h * states).sum(axis=1)
    weight = np.exp(-S)
    exact = (weight * states.mean(axis=1)).sum() / weight.sum()
    ring, action = Lattice((L,)), Triplet(g, h)
    phi = action.new_field(ring)
    for row in states[::17]:
        phi.values[:, 0] = row
        phi.exchange()
        assert action.S(phi) == pytest.approx(S[int(row @ 2 ** np.arange(L))], abs=1e-13)

    def mean(sampled, updater):
        start(phi, "hot", Key(1))
        state, values = State(phi, 0), []
        for _ in range(30_000):
            state, _ = updater.step(sampled, state, Key(1))
            values.append(phi.values.mean())
        return estimate(np.array(values[100:]))

    for updater in (Metropolis(), HeatBath()):
        assert_agrees(mean(action, updater), exact, relative_error_max=0.01)
        assert abs(z_score(mean(action.with_couplings(g=0.95 * g), updater), exact)) > 4.5
