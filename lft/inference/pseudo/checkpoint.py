"""What a fit has reached, kept in a file so that the same call goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lft.archive import on_root, replacing
from lft.errors import InputError

SCHEMA = "lft-search"


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
        """Arrays of the entry ``name``, or None."""
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
                return {key: array[()] for key, array in file[name].items()}
        except (OSError, KeyError, RuntimeError):
            raise InputError(
                f"{self.path}: exists and is not the search of a fit; the fit keeps its search there: move the file"
            ) from None

    def write(self, name, **arrays):
        """Keep an entry; it takes the place of all others."""
        if self.path is not None:
            on_root(self.comm, self._write, name, arrays)

    def _write(self, name, arrays):
        if time.monotonic() - self.written < self.every_s:
            return
        with replacing(self.path, "writing the checkpoint of the fit") as file:
            file.attrs.update(schema=SCHEMA, identity=self.identity)
            for key, array in arrays.items():
                file[f"{name}/{key}"] = array
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
