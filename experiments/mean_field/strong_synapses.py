"""Strong synapses: rates of 12500 integrate-and-fire neurons beside spike trains as input, Gaussian input and Siegert

Model A at (g, eta) = (5, 2), K/N = 0.1, for synapses of 0.3, 0.5 and 0.7 mV (0.1 in the original), with the factor
1 - K/N in every theory.  On a grid, jumps of one step count together and crossings of the threshold in between are
missed: "on the grid" is the theory of neurons that miss them as well (``OnGrid``), which is what the networks are to be
held against; the theory without it is that of networks without a grid.  Some twenty minutes.
``python strong_synapses.py [--draws 8] [--duration 4.0] [--samples 1600] [--sweeps 48] [--dt 5e-5] [--only 0]``
"""

import dataclasses

import numpy as np
from common import Table, arguments, mean_error

from lft.meanfield.fluctuations.integrate_fire import white_noise_rates
from lft.meanfield.model import Connection, FixedIndegree, Model, Poisson, Population, Solve
from lft.meanfield.network.steps import build_network
from lft.meanfield.neurons import LIF
from lft.meanfield.neurons.lif import _LIFStep
from lft.meanfield.solver import solve

G, ETA, CE, CI, TAU, THRESHOLD = 5.0, 2.0, 1000, 250, 0.02, 20.0


class _GridStep(_LIFStep):
    uses_white = takes_jumps = False


class OnGrid(LIF):
    """The neuron of the network: it sees the jumps of a step together, and the threshold at the end of the step."""

    def prepare(self, dt):
        return _GridStep(self, dt)


def on_grid(model, dt):
    """The model with neurons on a grid."""
    cell = OnGrid()
    cells = tuple(dataclasses.replace(p, neuron=cell) for p in model.populations)
    return dataclasses.replace(model, populations=cells, solve=dataclasses.replace(model.solve, dt=dt))


def brunel(weight, size=12500, **settings):
    """Model A with sizes; ``settings`` of the solver."""
    drive = (Poisson(CE, ETA * THRESHOLD / (weight * CE * TAU), weight),)
    cells = tuple(Population(p, LIF(), n, external=drive) for p, n in (("E", 4 * size // 5), ("I", size // 5)))
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
    args = arguments(__doc__, draws=8, duration=4.0, samples=1600, sweeps=48, dt=5e-5, only=0.0)
    table = Table(f"rates in Hz of all 12500 neurons, grid of {1e3 * args.dt:g} ms")
    for weight in (args.only,) if args.only else (0.3, 0.5, 0.7):
        network = mean_error([network_rate(weight, draw, args.duration, args.dt) for draw in range(args.draws)])
        settings = {"samples": args.samples, "sweeps": args.sweeps}
        shot = brunel(weight, input="shot", **settings)
        models = {
            "spike trains on the grid": on_grid(shot, args.dt),
            "spike trains": shot,
            "Gaussian": brunel(weight, damping=0.75, **settings),
        }
        for name, model in models.items():
            found = solve(model)
            value, error = np.average([found.populations[p]["mean"] for p in "EI"], axis=0, weights=(0.8, 0.2))
            table.row(f"{weight:g} mV, {name} ({error:.2g})", value, *network, error)
        table.row(f"{weight:g} mV, Siegert", white_noise_rates(brunel(weight), np.full(2, 20.0))[0], *network)
    table.end()
