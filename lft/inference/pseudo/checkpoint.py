"""What a fit has reached, kept in files so that the same call goes on where it was stopped.

The search stands in one file, which rank 0 writes; the error stage of a large fit makes pieces, tile by tile of its
units, and each is written by the rank that makes it.  Neither depends on the number of ranks.
"""

from __future__ import annotations

import glob
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
    """What a fit has reached, in HDF5 files beside the output; those of another problem are not used but replaced.

    Attributes
    ----------
    path : Path or None
        None keeps nothing.  Pieces stand in ``PATH.0``, ``PATH.1``, ...
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
        return _entry(Path(self.path), self.identity, name)

    def write(self, name, **arrays):
        """Keep an entry; it takes the place of all others."""
        if self.path is not None:
            on_root(self.comm, self._write, name, arrays)

    def _write(self, name, arrays):
        if time.monotonic() - self.written < self.every_s:
            return
        _replace(self.path, self.identity, name, arrays)
        self.written = time.monotonic()

    def identity_with(self, arrays):
        """Identity of the problem and of some arrays more."""
        return identity(arrays, {"of": self.identity})

    def read_piece(self, number, identity):
        """Arrays of a piece, or None; for the calling rank alone."""
        return None if self.path is None else _entry(Path(f"{self.path}.{number}"), identity, "piece")

    def write_piece(self, number, identity, arrays):
        """Keep a piece for good; for the calling rank alone.  Stages shorter than ``every_s`` leave none."""
        if self.path is not None and time.monotonic() - self.written >= self.every_s:
            _replace(f"{self.path}.{number}", identity, "piece", arrays)

    def remove(self):
        """Remove all files."""
        if self.path is not None:
            on_root(self.comm, self._remove)

    def _remove(self):
        path = Path(self.path)
        for file in [path, *(f for f in path.parent.glob(f"{glob.escape(path.name)}.*") if f.suffix[1:].isdecimal())]:
            file.unlink(missing_ok=True)


def _entry(path, identity, name):
    """Arrays of an entry of a file, or None where it holds another problem or none."""
    import h5py

    if not path.exists():
        return None
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("schema") != SCHEMA:
                raise OSError
            if file.attrs["identity"] != identity or name not in file:
                return None
            return {key: array[()] for key, array in file[name].items()}
    except (OSError, KeyError, RuntimeError):
        raise InputError(
            f"{path}: exists and is not the search of a fit; the fit keeps its search there: move the file"
        ) from None


def _replace(path, identity, name, arrays):
    with replacing(path, "writing the checkpoint of the fit") as file:
        file.attrs.update(schema=SCHEMA, identity=identity)
        for key, array in arrays.items():
            file[f"{name}/{key}"] = array


def identity(arrays, options):
    """Hash of arrays and of a dictionary of plain options."""
    total = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
    for array in arrays:
        total.update(np.ascontiguousarray(array).view(np.uint8).data)
    return total.hexdigest()
