"""Strong synapses: rates of 12500 integrate-and-fire neurons beside spike trains as input, Gaussian input and Siegert

Model A at (g, eta) = (5, 2), K/N = 0.1, for synapses of 0.3, 0.5 and 0.7 mV (0.1 in the original), with the factor
1 - K/N in every theory.  On a grid, jumps of one step count together and crossings of the threshold in between are
missed: networks run on grids of 0.05 and 0.25 ms, and the linear extrapolation to 0 stands beside the first.  Some
twenty minutes.
``python strong_synapses.py [--draws 8] [--duration 4.0] [--samples 1600] [--sweeps 48]``
"""

import numpy as np
from common import Table, arguments, mean_error

from lft.meanfield.fluctuations.integrate_fire import white_noise_rates
from lft.meanfield.model import Connection, FixedIndegree, Model, Poisson, Population, Solve
from lft.meanfield.network.steps import build_network
from lft.meanfield.neurons import LIF
from lft.meanfield.solver import solve

G, ETA, CE, CI, TAU, THRESHOLD = 5.0, 2.0, 1000, 250, 0.02, 20.0


def brunel(weight, **settings):
    """Model A with sizes; ``settings`` of the solver."""
    drive = (Poisson(CE, ETA * THRESHOLD / (weight * CE * TAU), weight),)
    cells = tuple(Population(p, LIF(), size, external=drive) for p, size in (("E", 10000), ("I", 2500)))
    weights = {"E": FixedIndegree(CE, weight), "I": FixedIndegree(CI, -G * weight)}
    links = tuple(Connection(source, target, weights[source], delay=0.0015) for target in "EI" for source in "EI")
    return Model(
        cells, links, Solve("stationary", **{"dt": 5e-4, "duration": 1.0, "replicas": 8, "max_lag": 0.3, **settings})
    )


def network_rate(weight, draw, duration, dt=5e-5):
    """Mean rate of all neurons of one network, Hz."""
    network = build_network(brunel(weight), dt=dt, seed=1, draw=draw)
    network.advance(round(0.3 / dt))
    steps = round(0.1 / dt)
    return np.mean([np.concatenate(network.advance(steps), axis=1).mean() for _ in range(round(duration / 0.1))])


if __name__ == "__main__":
    args = arguments(__doc__, draws=8, duration=4.0, samples=1600, sweeps=48)
    table = Table("rates in Hz of all 12500 neurons")
    for weight in (0.3, 0.5, 0.7):
        fine, coarse = (
            np.array([network_rate(weight, draw, args.duration, dt) for draw in range(args.draws)])
            for dt in (5e-5, 2.5e-4)
        )
        network = mean_error(1.25 * fine - 0.25 * coarse)
        print(f"{weight:g} mV, networks: 0.05 ms {mean_error(fine)}, 0.25 ms {mean_error(coarse)}", flush=True)
        for name, mode in (("spike trains", "shot"), ("Gaussian", "gaussian")):
            more = {"damping": 0.75} if mode == "gaussian" else {}
            found = solve(brunel(weight, input=mode, samples=args.samples, sweeps=args.sweeps, **more))
            value, error = np.average([found.populations[p]["mean"] for p in "EI"], axis=0, weights=(0.8, 0.2))
            table.row(f"{weight:g} mV, {name} ({error:.2g})", value, *network, error)
        table.row(f"{weight:g} mV, Siegert", white_noise_rates(brunel(weight), np.full(2, 20.0))[0], *network)
    table.end()
