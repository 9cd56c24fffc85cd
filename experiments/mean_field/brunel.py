"""Phase points of the sparse integrate-and-fire network of Brunel (2000, model A): rates against Siegert and network.

    threshold 20 mV, reset 10 mV, tau 20 ms, refractory 2 ms, J = 0.1 mV, CE = 1000, CI = 250, delay 1.5 ms

eta is the external rate over that which reaches the threshold without recurrence.  Theory: self-consistent Siegert
rates (white input).  Networks of 12500 neurons; two to three minutes.  `python brunel.py [--duration 0.2]`
"""

import math

import numpy as np
from common import Table, arguments, mean_error

from lft.meanfield.model import Connection, FixedIndegree, Model, Poisson, Population, Solve
from lft.meanfield.network.steps import build_network
from lft.meanfield.neurons import LIF
from lft.meanfield.saddle.closed import siegert
from lft.plotting.figure import COLORS, new_figure, save

TAU, THRESHOLD, J, CE, CI = 0.02, 20.0, 0.1, 1000, 250


def self_consistent(g, eta):
    """Rate that reproduces itself: mu, sigma^2 from the rate, bisection."""
    from scipy.optimize import brentq

    outside = eta * THRESHOLD / (J * CE * TAU)

    def excess(rate):
        mu = TAU * J * (CE * (outside + rate) - g * CI * rate)
        sigma = math.sqrt(TAU * J * J * (CE * (outside + rate) + g * g * CI * rate))
        return siegert(mu, sigma, TAU, THRESHOLD, 10.0, 0.002) - rate

    return brentq(excess, 0.01, 480.0)


def network(g, eta):
    outside = eta * THRESHOLD / (J * CE * TAU)
    train = (Poisson(CE, outside, J),)
    cells = (Population("E", LIF(), size=10000, external=train), Population("I", LIF(), size=2500, external=train))
    weights = tuple(
        Connection(a, b, FixedIndegree(k, w), delay=0.0015)
        for a, k, w in (("E", CE, J), ("I", CI, -g * J))
        for b in "EI"
    )
    return Model(cells, weights, Solve("stationary", 0.0001, 0.4))


args = arguments(__doc__, duration=0.2, draws=3)
points = ((5.0, 2.0), (4.5, 0.9), (6.0, 4.0))
figure, axes = new_figure(len(points), 1, width=6.5, height=1.5)
table = Table("rates in Hz, mean of all 12500 neurons")
for ax, (g, eta) in zip(axes[:, 0], points, strict=True):
    rates, activity = [], None
    for draw in range(args.draws):
        run = build_network(network(g, eta), dt=0.0001, seed=1, draw=draw)
        run.advance(1000)
        counts = [np.concatenate(run.advance(100), axis=1).mean(axis=1) for _ in range(round(args.duration / 0.01))]
        activity = np.concatenate(counts)
        rates.append(activity.mean())
    table.row(f"g = {g:g}, eta = {eta:g}", self_consistent(g, eta), *mean_error(rates))
    shown = activity[-1500:].reshape(-1, 5).mean(axis=1)
    ax.plot(0.5 * np.arange(len(shown)), shown, lw=0.8, color=COLORS[0])
    ax.set(ylabel="Hz", title=f"g = {g:g}, eta = {eta:g}: activity of the population")
    ax.title.set_fontsize(8)
axes[-1, 0].set(xlabel="time (ms)")
table.end()
save(figure, args.figures / "brunel.png")
