"""The maximum of a concave pseudo-likelihood, kept in a file so that a search goes on where it was stopped.

The steps are those of :func:`lft.inference.newton.maximize`: Newton, damped (Levenberg-Marquardt) where a step does not
raise the function.  Steps are solved inexactly where the information is known by passes over the data alone; gradients
are exact, so the end is not affected.  Each step is a function of what the checkpoint holds (parameters, damping and
its scale): an interrupted search ends with the same bits.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lft.archive import on_root, replacing
from lft.errors import DivergenceError, InputError
from lft.inference.newton import SingularInformation, is_below_rounding

SCHEMA = "lft-search"
TOLERANCE = 1e-8
MAX_STEPS = 100
ROUGHLY = 0.05  # how far below the tolerance a promised gain must be that a preconditioner estimates


@dataclass
class Checkpoint:
    """What a search has reached, in an HDF5 file beside the output; that of another problem is not used but replaced.

    Attributes
    ----------
    path : Path or None
        None keeps nothing.
    identity : str
        Hash of the data and of the options.
    comm : mpi4py communicator or None
        Rank 0 writes and reads.
    every_s : float
        Seconds between two writings.
    """

    path: Path | None
    identity: str = ""
    comm: object = None
    every_s: float = 2.0  # a search that is done sooner leaves no file
    written: float = field(default_factory=time.monotonic)

    def read(self, name):
        """(theta, scale, damping) of the search ``name``, or None."""
        if self.path is None:
            return None
        return on_root(self.comm, self._read, name)

    def _read(self, name):
        import h5py

        if not Path(self.path).exists():
            return None
        try:
            with h5py.File(self.path, "r") as file:
                if file.attrs.get("schema") != SCHEMA:
                    raise OSError
                if file.attrs["identity"] != self.identity or name not in file:
                    return None
                return file[name]["theta"][()], file[name]["scale"][()], float(file[name].attrs["damping"])
        except (OSError, KeyError, RuntimeError):
            raise InputError(
                f"{self.path}: exists and is not the search of a fit; the fit keeps its search there: move the file"
            ) from None

    def write(self, name, theta, scale, damping):
        if self.path is not None:
            on_root(self.comm, self._write, name, theta, scale, damping)

    def _write(self, name, theta, scale, damping):
        if time.monotonic() - self.written < self.every_s:
            return
        with replacing(self.path, "writing the checkpoint of the fit") as file:
            file.attrs.update(schema=SCHEMA, identity=self.identity)
            group = file.create_group(name)
            group.attrs["damping"] = damping
            group.create_dataset("theta", data=theta)
            group.create_dataset("scale", data=scale)
        self.written = time.monotonic()

    def remove(self):
        if self.path is not None:
            on_root(self.comm, lambda: Path(self.path).unlink(missing_ok=True))


def identity(arrays, options):
    """Hash of arrays and of a dictionary of plain options."""
    total = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
    for array in arrays:
        total.update(np.ascontiguousarray(array).view(np.uint8).data)
    return total.hexdigest()


def maximize(evaluate, theta, checkpoint=None, name="search", tolerance=TOLERANCE, max_steps=MAX_STEPS):
    """Maximum of a concave function.

    Parameters
    ----------
    evaluate : callable
        ``theta -> (value, gradient, make)``; ``make(extra)`` is the information with ``extra`` on its diagonal.
    theta : ndarray
        Start.
    checkpoint : Checkpoint, optional
        Written after every step, under ``name``.
    tolerance : float
        Stop when the gain that the quadratic model promises is below this (nats, twice).

    Returns
    -------
    theta, value, gradient

    Raises
    ------
    DivergenceError
        After ``max_steps`` steps, or when no step raises the function.
    """
    saved = checkpoint.read(name) if checkpoint is not None else None
    damping, scale = 0.0, None
    if saved is not None and saved[0].shape == theta.shape:
        theta, scale, damping = saved
    value, gradient, make = evaluate(theta)
    information = None  # undamped, at theta
    for _ in range(max_steps):
        if damping == 0:
            information = make(None) if information is None else information
            scale = information.diagonal() if scale is None else scale
            if float(gradient @ information.estimate(gradient)) < ROUGHLY * tolerance:
                return theta, value, gradient
        step, damping, information = _step(make, gradient, scale, damping, information)
        promised = float(gradient @ step)
        if promised < tolerance and damping == 0:
            return theta, value, gradient
        new = evaluate(theta + step)
        gain = new[0] - value
        is_small = is_below_rounding(promised, value)
        if is_small:
            is_better = float(new[1] @ make(damping * scale if damping else None).solve(new[1])) < promised
        else:
            is_better = np.isfinite(gain) and gain >= 1e-2 * promised  # 1/2 for a quadratic function
        if not is_better:
            damping = max(10 * damping, 1e-3)
            if damping > 1e9:
                raise DivergenceError(f"fit: no step raises the likelihood, promised gain {promised:.3g} nats")
            continue
        if gain < 0.1 * promised and not is_small:
            damping = max(4 * damping, 1e-3)
        else:
            damping = damping / 10 if damping > 1e-5 else 0.0
        theta = theta + step
        (value, gradient, make), information = new, None
        if checkpoint is not None:
            checkpoint.write(name, theta, scale, damping)
    raise DivergenceError(f"fit: not converged after {max_steps} Newton steps, promised gain {promised:.3g} nats")


def _step(make, gradient, scale, damping, information):
    """(step, damping, undamped information or None); more damping where the matrix is singular, not flat."""
    while True:
        try:
            if damping:
                return make(damping * scale).solve(gradient), damping, information
            information = make(None) if information is None else information
            return information.solve(gradient), damping, information
        except SingularInformation:
            if not 0 < damping < 1e-2:
                raise
            damping *= 10
