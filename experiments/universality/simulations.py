"""The simulations of this experiment: which lattices, at which couplings, how long."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lft.archive import Archive
from lft.config import read_config
from lft.simulation import run

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
start = "cold"
thermalize = {thermalize}
updates = {updates}
measure_every = {every}
checkpoint = "1 h"
"""


@dataclass(frozen=True)
class Model:
    """A theory near its critical point: coupling, sizes, and what makes a configuration file of it."""

    name: str
    coupling: str
    center: float
    dimension: int
    sizes: tuple
    update: object  # function of L
    action: str
    every: int
    seed: int

    def text(self, L, coupling, measurements, seed):
        """The TOML configuration of one run."""
        return TEMPLATE.format(
            seed=seed, shape=[L] * self.dimension, action=self.action.format(coupling=repr(coupling)),
            update=self.update(L), thermalize=max(500, self.every * measurements // 50),
            updates=self.every * measurements, every=self.every,
        )


MODELS = (
    Model("ising2d", "K", K_ISING_2D, 2, (8, 12, 16, 24, 32, 48, 64), lambda L: 'name = "swendsen-wang"',
          'name = "ising"\nK = {coupling}', 3, 2000),
    Model("ising3d", "K", K_ISING_3D, 3, (6, 8, 10, 12, 16, 20, 24, 32), lambda L: 'name = "swendsen-wang"',
          'name = "ising"\nK = {coupling}', 3, 3000),
    Model("phi4_3d", "kappa", KAPPA_PHI4_3D, 3, (6, 8, 10, 12, 16, 20, 24),
          lambda L: f'name = "hmc"\nlength = 1.0\nsteps = {6 if L < 16 else 8}\nclusters = 1',
          f'name = "phi4"\nkappa = {{coupling}}\nlambda = {LAMBDA_PHI4_3D}', 2, 4000),
)

COLLAPSE_SIZES, COLLAPSE_X = (16, 24, 32, 48), (-1.2, -0.8, -0.4, 0.4, 0.8, 1.2)
"""The second set of 2-D Ising runs: x = (K - K_c) L on both sides of the critical point."""


def archives(folder, measurements, names=("ising2d", "ising3d", "phi4_3d"), is_quiet=True):
    """Run what is missing in a folder; ``{model: {L: path}}``."""
    out = {}
    for model in (m for m in MODELS if m.name in names):
        out[model.name] = {
            L: simulated(folder, f"{model.name}_L{L:02d}", model.text(L, model.center, measurements, model.seed + L),
                         is_quiet)
            for L in model.sizes
        }
    return out


def collapse_archives(folder, measurements, is_quiet=True):
    """The 2-D Ising runs beside the critical point: ``{L: [path, ...]}``, couplings increasing."""
    model, out = MODELS[0], {}
    for L in COLLAPSE_SIZES:
        couplings = [model.center + x / L for x in COLLAPSE_X]
        out[L] = [
            simulated(folder, f"collapse_L{L:02d}_{k}", model.text(L, K, measurements, 5000 + 100 * k + L), is_quiet)
            for k, K in enumerate(couplings)
        ]
    return out


def simulated(folder, name, text, is_quiet):
    """The archive of one run; an unfinished or older one of another configuration is replaced."""
    path = Path(folder) / f"{name}.h5"
    if path.exists():
        with Archive(path) as archive:
            if archive.meta["config_text"] == text and archive.t == archive.schedule.total:
                return path
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / f"{name}.toml"
        source.write_text(text)
        run(read_config(source), path, overwrite=True, is_quiet=is_quiet)
    return path
