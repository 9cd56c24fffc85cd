"""Spread of pairwise covariances and dimension against the spectral radius, linear networks with white noise.

    N Var(c_ij)/(mean c_ii)^2 = 1/(1 - r^2)^2 - 1,        PR/N = (1 - r^2)^2

for covariances of time integrals, c = (1 - W)^-1 (1 - W)^-T, which a drawn network has without sampling in time.
Seconds.  `python spread.py`
"""

import numpy as np
from common import Table, arguments, mean_error

from lft.meanfield.fluctuations.spread import radius_of_spread, relative_spread
from lft.meanfield.model import Gaussian
from lft.meanfield.network.weights import draw_weights, network_key
from lft.plotting.figure import COLORS, new_figure, save

args = arguments(__doc__, size=1000, draws=6)
n, radii = args.size, (0.2, 0.35, 0.5, 0.6, 0.7, 0.8)
spreads, dimensions = [], []
for r in radii:
    both = []
    for draw in range(args.draws):
        w = draw_weights(Gaussian(0.0, r), n, slice(0, n), network_key(3, draw), round(100 * r)).dense()
        b = np.linalg.inv(np.eye(n) - w)
        c = b @ b.T
        own = np.diag(c)
        off = (np.sum(c * c) - np.sum(own**2)) / (n * (n - 1))
        both.append((n * off / own.mean() ** 2, own.sum() ** 2 / np.sum(c * c) / n))
    spreads.append(mean_error([x for x, _ in both]))
    dimensions.append(mean_error([x for _, x in both]))
table = Table(f"linear networks, N = {n}")
for r, found in zip(radii, spreads, strict=True):
    table.row(f"N Var/mean^2, radius {r:g}", relative_spread(r), *found)
for r, found in zip(radii, dimensions, strict=True):
    table.row(f"PR/N, radius {r:g}", (1 - r * r) ** 2, *found)
for r, (value, error) in zip(radii, spreads, strict=True):
    slope = (radius_of_spread(value + error) - radius_of_spread(value - error)) / 2
    table.row(f"radius from the spread, {r:g}", r, radius_of_spread(value), slope)
table.end()
figure, axes = new_figure(1, 2, width=4.2)
x = np.linspace(0, 0.9, 200)
for ax, line, points, label in (
    (axes[0, 0], [relative_spread(r) for r in x], spreads, "N Var(c_ij)/(mean c_ii)^2"),
    (axes[0, 1], (1 - x * x) ** 2, dimensions, "PR/N"),
):
    ax.plot(x, line, color=COLORS[0], label="theory")
    ax.errorbar(
        radii, [v for v, _ in points], [e for _, e in points], fmt="o", ms=4, color=COLORS[1], label=f"network, N = {n}"
    )
    ax.set(xlabel="spectral radius", ylabel=label)
axes[0, 0].set_yscale("log")
axes[0, 0].legend(frameon=False, fontsize=7)
save(figure, args.figures / "spread.png")
