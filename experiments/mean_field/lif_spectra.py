"""Spectra of integrate-and-fire neurons at (g, eta) = (5, 2): the sampled solution beside networks of three sizes

Bands of 5 Hz up to 500 Hz, both sides through the same Hann window of 1 s, errors of bands: between draws of the
network, between replicas of the solution.  "within" counts bands that differ by at most 5 %; "or 2 errors" those whose
distance from that is at most two standard errors.  The theory has the factor 1 - K/N and the feedback of order 1/N, so
that what is left falls with the size; "offset" is its root mean square with the part of the errors taken away.
Some twenty minutes for each size.
``python lif_spectra.py [--draws 3] [--duration 8.0] [--samples 4000] [--sweeps 40] [--sizes 12500,25000,50000]``
"""

import dataclasses
import itertools

import numpy as np
from common import arguments
from strong_synapses import brunel

from lft.meanfield.compare import beside, within
from lft.meanfield.network.run import simulate_network
from lft.meanfield.solver import solve
from lft.plotting.figure import COLORS, new_figure, save

EDGES = np.concatenate([[2.0], np.arange(5.0, 501.0, 5.0)])  # 1 Hz holds what the window leaves of the mean

WIDTHS = (12, 9, 20, 9, 8, 9, 12, 9, 13)


def line(name, rows):
    """One line of the table; the offset and its statistical error."""
    error, own = (np.array([getattr(r, key) / r.theory for r in rows]) for key in ("network_error", "theory_error"))
    off, noise2 = np.array([r.relative for r in rows]), error**2 + own**2
    worst, square = int(np.argmax(np.abs(off))), np.mean(off**2 - noise2)
    offset = np.sqrt(max(square, 0.0))
    scatter = np.sqrt(np.sum(2 * noise2**2 + 4 * off**2 * noise2)) / len(off) / (2 * max(offset, 1e-9))
    cells = [
        name,
        f"{100 * np.sqrt(np.mean(off**2)):.2f}",
        f"{100 * np.median(error):.2f} to {100 * error.max():.2f}",
        f"{100 * np.median(own):.2f}",
        f"{100 * offset:.2f}",
        f"{100 * min(scatter, 9.99):.2f}",
        f"{100 * off[worst]:+.1f} ({EDGES[worst]:g})",
        f"{100 * within(rows, 0.05, 0.0):.0f}%",
        f"{100 * within(rows, 0.05, 2.0):.0f}%",
    ]
    print("".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True)), flush=True)
    return offset, scatter


def compared(size, args):
    """The solution beside networks of a size."""
    settings = {"dt": 2e-4, "duration": 0.4, "max_lag": 0.15, "damping": 0.5}
    model = brunel(0.1, size, samples=args.samples, sweeps=args.sweeps, **settings)
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
    return beside(solve(model), network), network


if __name__ == "__main__":
    args = arguments(__doc__, draws=3, duration=8.0, samples=4000, sweeps=40, sizes="12500,25000,50000")
    sizes, offsets = [int(n) for n in args.sizes.split(",")], []
    figure, axes = new_figure(1, 2, width=7.5, height=3.0)
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    for number, size in enumerate(sizes):
        both, network = compared(size, args)
        row = both.row("mean", "E")
        print(
            f"\nN = {size}: mean rate of E {row.theory:.2f}({row.theory_error:.2f}), "
            f"networks {row.network:.2f}({row.network_error:.2f}) Hz"
        )
        names = ("draws", "rms %", "error %", "theory %", "offset", "error", "largest %", "within", "or 2 errors")
        print("".join(f"{name:>{width}}" for name, width in zip(names, WIDTHS, strict=True)))
        rows = both.bands(EDGES)[: len(EDGES) - 1]
        offsets.append(line("all", rows))
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
                    for r, m in zip(rows, moved, strict=True)
                ],
            )
        if number == 0:
            axes[0, 0].plot(middle, [r.theory for r in rows], color=COLORS[0], label="sampled solution")
            axes[0, 0].errorbar(
                middle,
                [r.network for r in rows],
                [2 * r.network_error for r in rows],
                fmt=".",
                ms=3,
                color=COLORS[1],
                label=f"networks, N = {size}",
            )
        axes[0, 1].plot(middle, [100 * r.relative for r in rows], color=COLORS[number], label=f"N = {size}")
    print("\nN times the offset, which falls as 1/N where this is constant:")
    for size, (offset, error) in zip(sizes, offsets, strict=True):
        print(f"{size:>8}  {size * offset:8.0f} +- {size * error:.0f}")
    for limit in (-5, 5):
        axes[0, 1].axhline(limit, color="0.7", lw=0.8)
    axes[0, 0].set(xlabel="frequency (Hz)", ylabel="spectrum (Hz)", xscale="log")
    axes[0, 1].set(xlabel="frequency (Hz)", ylabel="networks - solution (%)", xscale="log")
    for ax in axes[0]:
        ax.legend()
    save(figure, args.figures / "lif_spectra.png")
