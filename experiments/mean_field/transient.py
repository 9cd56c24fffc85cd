"""A transient: two populations of rate neurons whose drive steps up, means and two-time covariances from the start on.

Closed two-time theory (exponential Euler, the step of the network) against direct networks; about a minute.
`python transient.py [--size 500]`
"""

import numpy as np
from common import Table, arguments

from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
from lft.meanfield.network.run import simulate_transient
from lft.meanfield.neurons import Rate
from lft.meanfield.solver import solve
from lft.plotting.figure import COLORS, new_figure, save

args = arguments(__doc__, size=500, draws=24)
step = ((0.0, 0.2), (8.0, 1.0))
cells = (
    Population("E", Rate("tanh"), size=args.size, input=step),
    Population("I", Rate("erf", tau=0.5), size=args.size),
)
weights = (
    Connection("E", "E", Gaussian(0.8, 1.3)),
    Connection("I", "E", Gaussian(-1.0, 0.8)),
    Connection("E", "I", Gaussian(1.0, 0.8)),
    Connection("I", "I", Gaussian(-0.4, 0.5)),
)
model = Model(cells, weights, Solve("two-time", 0.1, 16.0))
theory, seen = solve(model), simulate_transient(model, duration=16.0, draws=args.draws)
table = Table(f"two populations of {args.size}, drive of E from 0.2 to 1 at t = 8")
zs = []
for a, name in enumerate("EI"):
    result = theory.populations[name]
    for t in (2.0, 7.9, 9.0, 12.0, 16.0):
        n = round(t / 0.1)
        zs.append(
            table.row(
                f"mean of {name} at {t:g}", result["mean"][0][n], seen["mean"].value[a, n], seen["mean"].error[a, n]
            )
        )
    for t, s in ((7.9, 7.9), (9.0, 7.0), (16.0, 16.0), (16.0, 9.0)):
        n, m = round(t / 0.1), round(s / 0.1)
        zs.append(
            table.row(
                f"covariance of {name} at {t:g}, {s:g}",
                result["covariance"][0][n, m],
                seen["covariance"].value[a, n, m],
                seen["covariance"].error[a, n, m],
            )
        )
student = np.sqrt((args.draws - 1) / (args.draws - 3))
print(
    f"root mean square z {np.sqrt(np.mean(np.square(zs))):.2f} (of Student's t with {args.draws - 1} degrees of "
    f"freedom: {student:.2f})"
)
table.end()
figure, axes = new_figure(1, 3, width=4.0)
for a, name in enumerate("EI"):
    result, color = theory.populations[name], COLORS[a]
    variance = np.diagonal(seen["covariance"].value[a])
    for ax, line, points in (
        (axes[0, 0], result["mean"][0], seen["mean"].value[a]),
        (axes[0, 1], np.diagonal(result["covariance"][0]), variance),
    ):
        ax.plot(theory.axis, line, color=color, label=f"theory, {name}")
        ax.plot(seen.times[::6], points[::6], "o", ms=3, color=color, label=f"network, {name}")
axes[0, 0].set(xlabel="time", ylabel="mean output")
axes[0, 1].set(xlabel="time", ylabel="variance of the output")
axes[0, 0].legend(frameon=False, fontsize=7)
difference = seen["covariance"].value[0] - theory.populations["E"]["covariance"][0]
limit = float(np.abs(theory.populations["E"]["covariance"][0]).max())
image = axes[0, 2].imshow(
    difference, origin="lower", extent=(0, 16, 0, 16), cmap="RdBu_r", vmin=-0.1 * limit, vmax=0.1 * limit
)
axes[0, 2].set(xlabel="time", ylabel="time", title="network - theory, E (scale: 10 % of the largest)")
axes[0, 2].title.set_fontsize(8)
figure.colorbar(image, ax=axes[0, 2])
save(figure, args.figures / "transient.png")
