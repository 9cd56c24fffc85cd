"""Known numbers of mean-field theories, and what `lft.meanfield` gives for them, one line each.

Reference numbers are closed forms that were computed elsewhere; where none is known ("other parameters"), two routes of
the package that share no code stand beside each other: the stationary solver on a grid of lags, and the potential of
the autocovariance (`lft.meanfield.fluctuations.potential`).  Simulations of networks are in the other scripts.
Half a minute.  `python reference.py`
"""

import math

import numpy as np

from lft.meanfield.fluctuations.potential import critical_coupling, rate_potential
from lft.meanfield.fluctuations.spread import participation_ratio, radius_of_spread, relative_spread
from lft.meanfield.matching.portrait import portrait
from lft.meanfield.model import Connection, FixedIndegree, Gaussian, Model, Population, Solve
from lft.meanfield.neurons import Binary, Rate
from lft.meanfield.saddle.closed import siegert
from lft.meanfield.solver import solve

WORST = {}


def show(group, name, reference, value):
    """One line, and the largest deviation of the group."""
    off = 100 * (value / reference - 1) if reference else float("nan")
    WORST[group] = max(WORST.get(group, 0.0), 0.0 if math.isnan(off) else abs(off))
    print(
        f"{group:28}{name:30}{reference:13.7g}{value:13.7g}" + (f"{off:10.4f}" if reference else f"{'-':>10}"),
        flush=True,
    )


def one(neuron, weights, size=None, drive=0.0, mode="stationary", dt=0.05, duration=100.0):
    """A network of one population."""
    cells = Population("x", neuron, size, drive)
    return Model((cells,), (Connection("x", "x", weights),), Solve(mode, dt, duration))


print(f"{'group':28}{'quantity':30}{'reference':>13}{'lft':>13}{'diff %':>10}")
CHAOS = {
    2.0: (1.924805, 0.513178, (1.86300, 1.69966, 1.03458, 0.35106), -0.23756, 0.1125, 0.48682, 0.0197),
    3.0: (5.446326, 0.680581, (5.13179, 4.39586, 2.13894, 0.52661), -0.52634, 0.2354, 0.31942, 0.0447),
}
for g, (variance, output, curve, ground, exponent, slope, dimension) in CHAOS.items():
    group, p = f"chaos, tanh, g = {g:g}", rate_potential("tanh", g)
    seen = portrait(one(Rate("tanh"), Gaussian(0.0, g), 3200))
    own = seen.curves["state_autocovariance"][0][0]
    show(group, "Delta(0)", variance, seen["state_variance"][0][0])
    show(group, "C_phi(0)", output, seen["output_variance"][0][0])
    for lag, value in zip((1.0, 2.0, 5.0, 10.0), curve, strict=True):
        show(group, f"Delta({lag:g})", value, own[round(lag / 0.05)])
    show(group, "E0", ground, p.levels(step=0.04)[0])
    show(group, "lambda_max", exponent, seen["lyapunov"][0])
    show(group, "<phi'>", slope, p.mean_slope)
    show(group, "PR/N", dimension, seen["participation"][0])
for g, value in ((1.1, 0.111063), (1.2, 0.242629)):
    show("chaos, tanh", f"Delta(0), g = {g:g}", value, rate_potential("tanh", g).variance)
erf = solve(one(Rate("erf"), Gaussian(0.0, 2.0))).populations["x"]
show("chaos, erf, g = 2", "Delta(0)", 2.064080, erf["state_variance"][0])
show("chaos, erf, g = 2", "C_phi(0)", 0.553807, erf["output_variance"][0])
for s2, g, radius in ((0.25, 1.6741, 1.101), (0.5, 1.9557, 1.158)):
    point = critical_coupling("tanh", s2)
    show("driven, transition", f"g_c, s2 = {s2:g}", g, point.g)
    show("driven, transition", f"local radius, s2 = {s2:g}", radius, point.local_radius)
    show("driven, transition", f"lambda there, s2 = {s2:g}", 0.0, point.lyapunov(0.04))
signs = solve(one(Binary(levels="pm1"), Gaussian(0.0, 1.0), dt=0.01, duration=60.0)).populations["x"]["autocovariance"][
    0
]
TABLE = {0.5: 0.75865, 1: 0.56773, 1.5: 0.42247, 2: 0.31351, 2.5: 0.23231, 3: 0.17202, 4: 0.09421, 5: 0.05157}
for t, value in TABLE.items():
    show("binary +-1", f"A({t:g})", value, signs[round(t / 0.01)])
show("binary +-1", "int A", 1.717079, np.trapezoid(signs, dx=0.01))
show("binary +-1", "tail rate", 0.602810, -math.log(signs[1300] / signs[1200]))
moving = solve(one(Rate("erf"), Gaussian(0.0, 1.5), mode="two-time", dt=0.1, duration=12.0)).populations["x"]
show("transient, erf, g = 1.5", "C(5, 5)", 0.566006, moving["state_variance"][0][50])
show("transient, erf, g = 1.5", "C(11.9, 11.9)", 0.776012, moving["state_variance"][0][119])
show("transient, erf, g = 1.5", "C(5, 10)", 0.238590, moving["state_covariance"][0][50, 100])
ramp = solve(one(Rate("linear"), Gaussian(0.0, 0.9), mode="two-time", dt=0.1, duration=5.0)).populations["x"]
show("transient, linear, g = .9", "C(5, 5), dt = .1", 0.0551, ramp["state_variance"][0][-1])
for n, k, j, drive, m, variance in (
    (2000, 100, 1.0, 2.05, 0.2353, 0.01406),
    (2000, 400, 1.0, 4.025, 0.2159, 0.00624),
    (4000, 400, 2.0, 3.05, 0.0943, 0.00477),
):
    solution = solve(one(Binary(), FixedIndegree(k, -j / math.sqrt(k)), n, drive, dt=0.01, duration=30.0))
    group = f"binary, N {n}, K {k}, j {j:g}"
    show(group, "m (reference: simulation)", m, solution.populations["x"]["mean"][0])
    show(group, "N Var(Y) (simulation)", variance, n * solution.network["population_covariance"][0][0, 0])
show("Siegert", "(15, 5) mV", 9.46080, siegert(15.0, 5.0, 0.02, 20.0, 10.0, 0.002))
show("Siegert", "(10, 4) mV", 0.122604, siegert(10.0, 4.0, 0.02, 20.0, 10.0, 0.002))
show("linear, radius 0.5", "N Delta^2", 0.7778, relative_spread(0.5))
show("linear, radius 0.5", "PR/N", 0.5625, participation_ratio(1.0, 1.0, relative_spread(0.5) / 1e6, 1e6 + 1))
show("linear, radius 0.5", "radius from the spread", 0.5, radius_of_spread(0.7778))
for gain, g, s2 in (
    ("tanh", 1.5, 0.0),
    ("tanh", 5.0, 0.0),
    ("erf", 1.5, 0.0),
    ("erf", 3.0, 0.0),
    ("tanh", 1.2, 0.1),
    ("tanh", 2.5, 1.0),
    ("erf", 1.0, 0.7),
):
    p = rate_potential(gain, g, s2)
    solution = solve(one(Rate(gain, noise=s2), Gaussian(0.0, g), dt=0.025))
    x, group = solution.populations["x"], f"other: {gain}, g {g:g}, s2 {s2:g}"
    show(group, "Delta(0)", p.variance, x["state_variance"][0])
    for lag in (1.0, 5.0):
        show(
            group,
            f"Delta({lag:g})",
            float(p.autocovariance([lag])[0]),
            x["state_autocovariance"][0][round(lag / 0.025)],
        )
    show(group, "lambda_max", p.lyapunov(0.04), solution.network["lyapunov"][0])
print("largest deviation in per cent:")
for group, off in WORST.items():
    print(f"  {group:28}{off:10.4f}")
