"""Participation ratio of rate networks with tanh gain and white noise, from order to chaos, against direct networks.

    PR/N = (sum c_ii)^2/N / sum c_ij^2,        c_ij covariances of tanh(x) at equal times

Theory: two-site cavity (Clark, Abbott, Litwin-Kumar 2023).

About two minutes.  `python dimension.py`
"""

import numpy as np
from common import Table, arguments

from lft.meanfield.matching.portrait import portrait
from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
from lft.meanfield.network.run import simulate_network
from lft.meanfield.neurons import Rate
from lft.plotting.figure import COLORS, new_figure, save


def network(g, s2, size=None):
    weights = (Connection("x", "x", Gaussian(0.0, g)),)
    return Model((Population("x", Rate("tanh", noise=s2), size=size),), weights, Solve("stationary", 0.05, 60.0))


args = arguments(__doc__, size=400, draws=4, duration=2000.0)
table = Table(f"PR/N, N = {args.size}")
found = []
for g, s2 in ((0.5, 0.5), (1.0, 0.5), (1.5, 0.5), (2.0, 0.5), (3.0, 0.0)):
    theory = portrait(network(g, s2))["participation"]
    seen = simulate_network(
        network(g, s2, args.size),
        duration=args.duration,
        warmup=50.0,
        max_lag=4.0,
        dt=0.1,
        draws=args.draws,
        sample_every=5,
    )["participation"]
    found.append((g, s2, seen.value[0], seen.error[0]))
    table.row(f"g = {g:g}, s2 = {s2:g}", float(theory[0]), seen.value[0], seen.error[0], float(theory[1]))
table.end()
figure, axes = new_figure(1, 1, width=4.6)
ax = axes[0, 0]
gs = np.linspace(0.1, 2.4, 16)
ax.plot(gs, [portrait(network(g, 0.5))["participation"][0] for g in gs], color=COLORS[0], label="theory, s2 = 0.5")
gs = np.linspace(1.3, 3.5, 10)
ax.plot(gs, [portrait(network(g, 0.0))["participation"][0] for g in gs], color=COLORS[1], label="theory, no noise")
for g, s2, value, error in found:
    ax.errorbar(
        g,
        value,
        error,
        fmt="o",
        ms=4,
        color=COLORS[0 if s2 else 1],
        label=f"network, N = {args.size}" if g == 0.5 else None,
    )
ax.set(xlabel="g", ylabel="PR/N", ylim=(0, 1))
ax.legend(frameon=False, fontsize=7)
save(figure, args.figures / "dimension.png")
