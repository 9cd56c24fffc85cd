"""What Boltzmann learning needs to go on after an interruption, and the file that keeps it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from lft.errors import InputError


@dataclass
class State:
    """Everything that a fit needs to go on after an interruption."""

    theta: np.ndarray
    step: int
    covariance: np.ndarray  # of O of the whole training stretch, at the start of the steps
    n_draws: float  # independent stretches behind it
    measured_at: np.ndarray  # couplings at which it was measured
    quality: float  # r . H^-1 r before the last step
    seeds: int
    share: float  # inverse length of the next chains, in recordings
    back: np.ndarray  # couplings before the last step
    slope: float  # r . step at these
    spikes: float  # of chains at these
    reach: float  # nats, of the next step
    fences: np.ndarray  # (n, size): operators of bins to which steps have strayed, less the recorded ones
    sweeps: int  # that chains at these took to settle
    margin: int  # of the model at these
    lowest: float  # quality so far
    lowest_step: int  # when it was last lowered by a fifth
    strays: int  # steps that led into a second state


class Store:
    """A checkpoint: an npz file that appears whole, and knows which fit it belongs to."""

    def __init__(self, path, comm):
        self.path = None if path is None else Path(path)
        self.is_root = comm is None or comm.Get_rank() == 0
        self.comm = comm

    def mark(self, problem, first, *options):
        parts = [repr(options).encode(), problem.model.encode(), repr((problem.operators.lags, problem.k_max)).encode()]
        parts += [np.ascontiguousarray(r).tobytes() for r in problem.train] + [first.a.tobytes(), first.c.tobytes()]
        self.stamp = hashlib.sha256(b"|".join(parts)).hexdigest()

    def save(self, state):
        if self.path is None or not self.is_root:
            return
        part = self.path.with_name(self.path.name + ".part")
        with open(part, "wb") as file:
            np.savez(file, stamp=self.stamp, **vars(state))
        part.replace(self.path)

    def load(self):
        state = self._read() if self.path is not None and self.is_root else None
        return state if self.comm is None else self.comm.bcast(state)

    def _read(self):
        if not self.path.is_file():
            return None
        try:
            with np.load(self.path) as file:
                stamp = str(file["stamp"])
                values = {f.name: file[f.name] for f in fields(State)}
                state = State(**{name: x if x.ndim else x.item() for name, x in values.items()})
        except (OSError, ValueError, KeyError) as reason:
            raise InputError(f"{self.path}: no checkpoint of a fit ({reason})") from None
        if stamp != self.stamp:
            raise InputError(f"{self.path}: belongs to another fit; remove it to start afresh")
        return state

    def remove(self):
        if self.path is not None and self.is_root:
            self.path.unlink(missing_ok=True)
