"""Covariances of order 1/N in an inhibitory binary network with fixed in-degree, against the event-driven network.

    N Var(Y),  Y = mean of all neurons;   J = -j/sqrt K, threshold half-way between two input levels

Under two minutes.  `python binary_covariances.py [--draws 12]`
"""

import math

from common import Table, arguments

from lft.meanfield.matching.portrait import portrait
from lft.meanfield.model import Connection, FixedIndegree, Model, Population, Solve
from lft.meanfield.network.run import simulate_network
from lft.meanfield.neurons import Binary
from lft.plotting.figure import COLORS, new_figure, save

CASES = ((2000, 100, 1.0, 2.05), (2000, 400, 1.0, 4.025), (4000, 400, 2.0, 3.05))

args = arguments(__doc__, draws=12, duration=1500.0)
figure, axes = new_figure(1, 3, width=3.8)
for ax, (size, k, j, drive) in zip(axes[0], CASES, strict=True):
    cells = Population("x", Binary(), size=size, input=drive)
    weights = (Connection("x", "x", FixedIndegree(k, -j / math.sqrt(k))),)
    model = Model((cells,), weights, Solve("stationary", 0.0125, 30.0))
    theory = portrait(model)
    seen = simulate_network(
        model, duration=args.duration, warmup=20.0, max_lag=6.0, draws=args.draws, dt=0.1, neurons=400, pairs=False
    )
    table = Table(f"\nN = {size}, K = {k}, j = {j:g}, input {drive:g}")
    table.row("mean", theory["mean"][0][0], seen["mean"].value[0], seen["mean"].error[0])
    now, both = len(seen.lags) - 1, seen["population_covariance"]
    table.row(
        "N Var(Y)",
        size * theory["population_covariance"][0][0, 0],
        size * both.value[now, 0, 0],
        size * both.error[now, 0, 0],
        size * theory["population_covariance"][1][0, 0],
    )
    pair = seen["mean_pair_covariance"]
    table.row(
        "N c_ij",
        size * theory["pair_mean"][0][0, 0],
        size * pair.value[0, 0],
        size * pair.error[0, 0],
        size * theory["pair_mean"][1][0, 0],
    )
    table.end()
    curve = theory.curves["autocovariance"][0][0]
    inside = theory.lags <= 6.0
    ax.plot(theory.lags[inside], curve[inside], color=COLORS[0], label="theory")
    ax.errorbar(
        seen.lags[::3],
        seen["autocovariance"].value[0, ::3],
        seen["autocovariance"].error[0, ::3],
        fmt="o",
        ms=3,
        color=COLORS[1],
        label="network",
    )
    ax.set(title=f"N = {size}, K = {k}, j = {j:g}", xlabel="time lag", ylabel="autocovariance of a neuron")
    ax.legend(frameon=False, fontsize=7)
save(figure, args.figures / "binary_covariances.png")
