"""The simulations of this experiment: which lattices, at which couplings, how long.

Each is an archive like those of ``lft run``, with the bonds and the moments of the mean field alone measured: what
finite-size scaling needs, at a tenth of the cost on small lattices.
"""

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lft.archive import Archive, Recorder
from lft.chain import Chain, drive
from lft.config import read_config
from lft.observables import Bonds, Moments, Site
from lft.protocols import State
from lft.updaters import start

K_ISING_2D = 0.5 * math.log(1 + math.sqrt(2))  # exact
K_ISING_3D = 0.22165463
KAPPA_PHI4_3D, LAMBDA_PHI4_3D = 0.1875483, 1.1

TEMPLATE = """seed = {seed}

[lattice]
shape = {shape}

[action]
{action}

[update]
{update}

[run]
start = "hot"
thermalize = {thermalize}
updates = {updates}
measure_every = {every}
checkpoint = "1 h"
"""
BITS = 'name = "metropolis"'  # 64 sites per word: below L = 32 no cluster update is worth its price


@dataclass(frozen=True)
class Model:
    """A theory near its critical point: what makes a configuration file, and by L (measurements, interval, update)."""

    name: str
    coupling: str
    center: float
    dimension: int
    action: str
    seed: int
    runs: dict

    def text(self, L, coupling, seed, share=1.0):
        """The TOML configuration of one run."""
        measurements, every, update = self.runs[L]
        n = max(1000, round(share * measurements))
        return TEMPLATE.format(
            seed=seed, shape=[L] * self.dimension, action=self.action.format(coupling=repr(coupling)), update=update,
            thermalize=every * max(50, n // 50), updates=every * n, every=every,
        )


def _hmc(steps, length):
    return f'name = "hmc"\nsteps = {steps}\nlength = {length}\nclusters = 2'


MODELS = {
    m.name: m
    for m in (
        Model("ising2d", "K", K_ISING_2D, 2, 'name = "ising"\nK = {coupling}', 2000, {
            8: (200_000, 20, BITS), 12: (200_000, 40, BITS), 16: (200_000, 80, BITS), 24: (150_000, 200, BITS),
            32: (100_000, 400, BITS), 48: (40_000, 800, BITS), 64: (30_000, 1500, BITS)}),
        Model("ising3d", "K", K_ISING_3D, 3, 'name = "ising"\nK = {coupling}', 3000, {
            6: (200_000, 12, BITS), 8: (150_000, 20, BITS), 10: (200_000, 32, BITS), 12: (80_000, 50, BITS),
            16: (50_000, 80, BITS), 20: (25_000, 130, BITS), 24: (16_000, 200, BITS),
            32: (30_000, 2, 'name = "wolff"\nclusters = 4')}),
        Model("phi4_3d", "kappa", KAPPA_PHI4_3D, 3,
              f'name = "phi4"\nkappa = {{coupling}}\nlambda = {LAMBDA_PHI4_3D}', 4000, {
                  6: (60_000, 1, _hmc(6, 1.0)), 8: (50_000, 1, _hmc(6, 1.0)), 10: (40_000, 1, _hmc(8, 0.8)),
                  12: (40_000, 1, _hmc(8, 0.8)), 16: (30_000, 1, _hmc(10, 0.6)), 20: (25_000, 1, _hmc(10, 0.6)),
                  24: (16_000, 1, _hmc(10, 0.6))}),
    )
}

COLLAPSE_SIZES, COLLAPSE_X, COLLAPSE_SHARE = (12, 16, 24, 32), (-1.2, -0.8, -0.4, 0.4, 0.8, 1.2), 0.15
"""The second set of 2-D Ising runs: x = (K - K_c) L on both sides of the critical point."""


def archives(folder, name, share=1.0, say=print):
    """Run what is missing of one model in a folder; ``{L: path}``."""
    model = MODELS[name]
    return {L: simulated(folder, f"{name}_L{L:02d}", model.text(L, model.center, model.seed + L, share), say)
            for L in model.runs}


def collapse_archives(folder, share=1.0, say=print):
    """The 2-D Ising runs beside the critical point: ``{L: [path, ...]}``, couplings increasing."""
    model, out = MODELS["ising2d"], {}
    for L in COLLAPSE_SIZES:
        couplings = [model.center + x / L for x in COLLAPSE_X]
        texts = [model.text(L, K, 5000 + 100 * k + L, COLLAPSE_SHARE * share) for k, K in enumerate(couplings)]
        out[L] = [simulated(folder, f"collapse_L{L:02d}_{k}", text, say) for k, text in enumerate(texts)]
    return out


def simulated(folder, name, text, say):
    """The archive of one run; an unfinished one, or one of another configuration, is replaced."""
    path = Path(folder) / f"{name}.h5"
    if path.exists():
        with Archive(path) as archive:
            if archive.meta["config_text"] == text and archive.t == archive.schedule.total:
                return path
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / f"{name}.toml"
        source.write_text(text)
        config = read_config(source)
    phi = config.action.new_field(config.geometry)
    start(phi, config.start, config.key)
    observables = [Bonds.of(config.action, config.geometry), Site()]
    if config.action.kind == "real":
        observables.append(Moments())
    chain = Chain(config.action, config.updater, State(phi, 0), config.key, config.schedule, observables,
                  kernel=config.kernel)
    meta = {"config": json.dumps(config.resolved), "config_text": config.text, "updater": repr(config.updater),
            "kernel": chain.kernel, "seed": str(config.key.seed), "checkpoint_s": config.checkpoint_s}
    drive(chain, Recorder(path, meta), config.checkpoint_s)
    chain.close()
    counters = chain.counters
    say(f"{name}: {chain.kernel}, {counters.accepted_total / max(1, counters.proposed_total):.2f} accepted")
    return path
