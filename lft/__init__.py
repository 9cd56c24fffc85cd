"""Lattice field theory engine for neural activity: simulate, fit, renormalize.

The public names, from bottom to top; importing them starts no MPI, reads no file and logs nothing.
"""

from lft.actions import Ising, Neural, Phi4
from lft.analysis import Estimate, estimate, jackknife
from lft.analysis.correlator import correlation_length, two_point
from lft.archive import Archive
from lft.chain import Chain, Schedule
from lft.config import read_config
from lft.domain import Domain, world
from lft.errors import InputError, LftError
from lft.field import Field
from lft.geometry import Graph, Lattice
from lft.inference.lattice_fit import fit_lattice
from lft.inference.neural_fit import fit_neural, fit_pairwise
from lft.inference.recording import Recording, read_recording
from lft.inference.result import load_fit, save_fit
from lft.observables import default_observables
from lft.protocols import State
from lft.rg.blocking import block
from lft.rg.flow import flow
from lft.rng import Key, Stream
from lft.simulation import resume, run
from lft.updaters import HMC, HeatBath, Metropolis, start

__version__ = "0.1.0"

__all__ = [
    "HMC",
    "Archive",
    "Chain",
    "Domain",
    "Estimate",
    "Field",
    "Graph",
    "HeatBath",
    "InputError",
    "Ising",
    "Key",
    "Lattice",
    "LftError",
    "Metropolis",
    "Neural",
    "Phi4",
    "Recording",
    "Schedule",
    "State",
    "Stream",
    "block",
    "correlation_length",
    "default_observables",
    "estimate",
    "fit_lattice",
    "fit_neural",
    "fit_pairwise",
    "flow",
    "jackknife",
    "load_fit",
    "read_config",
    "read_recording",
    "resume",
    "run",
    "save_fit",
    "start",
    "two_point",
    "world",
]
