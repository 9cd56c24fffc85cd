"""Spectra of integrate-and-fire neurons at (g, eta) = (5, 2): the sampled solution beside networks of 12500 neurons

Bands of 5 Hz up to 500 Hz, both sides through the same Hann window of 1 s, errors of bands: between draws of the
network, between replicas of the solution.  "within" counts bands that differ by at most 5 %; "or 2 errors" those whose
distance from that is at most two standard errors.  Some fifteen minutes.
``python lif_spectra.py [--draws 3] [--duration 8.0] [--samples 4000] [--sweeps 40]``
"""

import dataclasses
import itertools

import numpy as np
from common import Table, arguments
from strong_synapses import brunel

from lft.meanfield.compare import beside, within
from lft.meanfield.network.run import simulate_network
from lft.meanfield.solver import solve
from lft.plotting.figure import COLORS, new_figure, save

EDGES = np.concatenate([[2.0], np.arange(5.0, 501.0, 5.0)])  # 1 Hz holds what the window leaves of the mean

if __name__ == "__main__":
    args = arguments(__doc__, draws=3, duration=8.0, samples=4000, sweeps=40)
    settings = {"dt": 2e-4, "duration": 0.4, "max_lag": 0.15, "damping": 0.5}
    model = brunel(0.1, samples=args.samples, sweeps=args.sweeps, **settings)
    network = simulate_network(
        model,
        dt=5e-5,
        duration=args.duration,
        warmup=0.3,
        max_lag=0.25,
        sample_every=10,
        draws=args.draws,
        neurons=3000,
        pairs=False,
    )
    both = beside(solve(model), network)
    table = Table("mean rates in Hz")
    for name in "EI":
        row = both.row("mean", name)
        table.row(name, row.theory, row.network, row.network_error, row.theory_error)
    rows = both.bands(EDGES)
    excitatory = rows[: len(EDGES) - 1]
    print(f"\n{'draws':>6}{'error %':>20}{'theory %':>12}{'rms %':>8}{'largest %':>12}{'within':>9}{'or 2 errors':>13}")

    def line(name, rows):
        error, own = (np.array([getattr(r, key) / r.theory for r in rows]) for key in ("network_error", "theory_error"))
        off = np.array([r.relative for r in rows])
        worst = int(np.argmax(np.abs(off)))
        print(
            f"{name:>6}{100 * np.median(error):9.2f} to {100 * error.max():7.2f}{100 * np.median(own):12.2f}"
            f"{100 * np.sqrt(np.mean(off**2)):8.2f}{100 * off[worst]:+7.1f} ({EDGES[worst]:g})"
            f"{100 * within(rows, 0.05, 0.0):8.0f}%{100 * within(rows, 0.05, 2.0):12.0f}%",
            flush=True,
        )

    line("all", excitatory)
    spectrum, f = network["spectrum"], network.frequencies
    for draw in range(args.draws):  # one draw alone: the scatter between draws is its error
        moved = [
            float((spectrum.draws[draw] - spectrum.value)[0, (f >= low) & (f < high)].mean())
            for low, high in itertools.pairwise(EDGES)
        ]
        line(
            str(draw),
            [
                dataclasses.replace(r, network=r.network + m, network_error=r.network_error * args.draws**0.5)
                for r, m in zip(excitatory, moved, strict=True)
            ],
        )
    figure, axes = new_figure(1, 1, width=6.5, height=3.0)
    ax, middle = axes[0, 0], 0.5 * (EDGES[1:] + EDGES[:-1])
    ax.plot(middle, [r.theory for r in excitatory], color=COLORS[0], label="sampled solution")
    ax.errorbar(
        middle,
        [r.network for r in excitatory],
        [2 * r.network_error for r in excitatory],
        fmt=".",
        ms=3,
        color=COLORS[1],
        label="networks",
    )
    ax.set(xlabel="frequency (Hz)", ylabel="spectrum (Hz)", xscale="log")
    ax.legend()
    save(figure, args.figures / "lif_spectra.png")
