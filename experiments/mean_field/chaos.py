"""Transition to chaos of a random rate network (Sompolinsky, Crisanti, Sommers): autocovariances and exponents.

    x' = -x + g J tanh(x)

Closed theory against direct networks; one to two minutes.  `python chaos.py [--size 800] [--draws 4]`
"""

import numpy as np
from common import Table, arguments, mean_error

from lft.meanfield.fluctuations.lyapunov import lyapunov_exponent
from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
from lft.meanfield.network.run import simulate_network
from lft.meanfield.neurons import Rate
from lft.meanfield.solver import solve
from lft.plotting.figure import COLORS, new_figure, save


def network(g, size):
    weights = (Connection("x", "x", Gaussian(0.0, g)),)
    return Model((Population("x", Rate("tanh"), size=size),), weights, Solve("stationary", 0.05, 100.0))


args = arguments(__doc__, size=800, draws=4, duration=240.0, dt=0.1)
figure, axes = new_figure(1, 2, width=4.4)
for k, g in enumerate((2.0, 3.0)):
    model = network(g, args.size)
    theory = solve(model)
    x = theory.populations["x"]
    table = Table(f"\ng = {g:g}, N = {args.size}")
    seen = simulate_network(
        model, duration=args.duration, warmup=40.0, max_lag=7.0, draws=args.draws, dt=args.dt, pairs=False
    )
    curve, error = x["autocovariance"]
    measured = seen["autocovariance"]
    variance = seen["state_variance"]
    table.row("variance of x", x["state_variance"][0], variance.value[0], variance.error[0])
    for lag in (0.0, 1.0, 2.0, 5.0):
        n = round(lag / args.dt)
        at = float(np.interp(lag, theory.axis, curve))
        table.row(f"C_phi({lag:g})", at, measured.value[0, n], measured.error[0, n])
    exponents = [
        lyapunov_exponent(model, duration=80.0, warmup=20.0, dt=args.dt, draw=d).value for d in range(args.draws)
    ]
    table.row("largest Lyapunov exponent", theory.network["lyapunov"][0], *mean_error(exponents))
    table.end()
    ax = axes[0, 0]
    inside = theory.axis <= 7.0
    ax.plot(theory.axis[inside], curve[inside], color=COLORS[k], label=f"theory, g = {g:g}")
    ax.errorbar(
        seen.lags[::4],
        measured.value[0, ::4],
        measured.error[0, ::4],
        fmt="o",
        ms=3,
        color=COLORS[k],
        label=f"network, N = {args.size}",
    )
axes[0, 0].set(xlabel="time lag", ylabel="autocovariance of tanh(x)", ylim=(0, None))
axes[0, 0].legend(frameon=False, fontsize=7)
gs = np.linspace(1.15, 3.2, 12)
found = [solve(network(g, None)) for g in gs]
shown = (("lyapunov", COLORS[2], "largest exponent"), ("state_variance", COLORS[3], "variance of x / 10"))
for key, color, label in shown:
    values = [s.network[key][0] if key in s.network else s.populations["x"][key][0] / 10 for s in found]
    axes[0, 1].plot(gs, values, "o-", ms=3, color=color, label=label)
axes[0, 1].axvline(1.0, color="0.6", lw=0.8)
axes[0, 1].axhline(0.0, color="0.6", lw=0.8)
axes[0, 1].set(xlabel="g (1: transition)")
axes[0, 1].legend(frameon=False, fontsize=7)
save(figure, args.figures / "chaos.png")
