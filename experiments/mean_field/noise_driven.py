"""Noise shifts the transition to chaos and opens a gap: perturbations grow at first, but the network is not chaotic.

    x' = -x + g J tanh(x) + xi,   <xi xi> = 2 s2 delta;   local radius g sqrt<phi'^2>, exponent lambda

Transition: Delta(0) = g^2 <phi^2> (Schuecker, Goedeke, Helias 2018).  About two minutes.  `python noise_driven.py`
"""

import numpy as np
from common import Table, arguments, mean_error

from lft.meanfield.fluctuations.lyapunov import lyapunov_exponent
from lft.meanfield.fluctuations.potential import critical_coupling
from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
from lft.meanfield.neurons import Rate
from lft.meanfield.solver import solve
from lft.plotting.figure import COLORS, new_figure, save


def network(g, size=None):
    weights = (Connection("x", "x", Gaussian(0.0, g)),)
    cells = Population("x", Rate("tanh", noise=args.s2), size=size)
    return Model((cells,), weights, Solve("stationary", 0.05, 60.0))


args = arguments(__doc__, size=800, draws=4, s2=0.5, duration=120.0)
point = critical_coupling("tanh", args.s2)
print(f"s2 = {args.s2:g}: transition at g = {point.g:.4f}, local radius there {point.local_radius:.3f}")
couplings = [1.5, 1.75, point.g, 2.15, 2.4]
table = Table(f"\nlargest Lyapunov exponent, N = {args.size}")
measured = []
for g in couplings:
    theory = solve(network(g)).network
    values = [
        lyapunov_exponent(network(g, args.size), duration=args.duration, warmup=20.0, dt=0.1, draw=d).value
        for d in range(args.draws)
    ]
    measured.append(mean_error(values))
    table.row(f"g = {g:.4g} (radius {theory['spectral_radius'][0]:.3f})", theory["lyapunov"][0], *measured[-1])
table.end()
gs = np.linspace(1.1, 2.5, 29)
found = [solve(network(g)).network for g in gs]
exponents = np.array([s["lyapunov"][0] for s in found])
radii = np.array([s["spectral_radius"][0] for s in found])
begin = float(np.interp(1.0, radii, gs))
print(f"local radius 1 at g = {begin:.3f}: expansive and not chaotic from there to {point.g:.3f}")
figure, axes = new_figure(1, 1, width=5.0)
ax = axes[0, 0]
ax.axvspan(begin, point.g, color=COLORS[4], alpha=0.25, lw=0, label="expansive, not chaotic")
ax.plot(gs, exponents, color=COLORS[0], label="largest exponent, theory")
ax.plot(gs, radii - 1, color=COLORS[1], label="local radius - 1, theory")
ax.errorbar(
    couplings,
    [m for m, _ in measured],
    [e for _, e in measured],
    fmt="o",
    ms=4,
    color=COLORS[0],
    label=f"network, N = {args.size}",
)
ax.axhline(0.0, color="0.6", lw=0.8)
ax.set(xlabel="g")
ax.legend(frameon=False, fontsize=7)
save(figure, args.figures / "noise_driven.png")
