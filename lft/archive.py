"""The archive of a run: one self-contained HDF5 file, written aside, flushed and renamed at every checkpoint.

Schema 1 (read by all later versions)::

    /                attributes schema = "lft-archive", schema_version, lft_version
    /meta            attributes config (JSON), config_text (verbatim TOML), updater, seed, replica, kernel, ranks
    /lattice         attributes kind, shape, axes, boundary, spacing; dataset mask
    /action          attributes name, couplings (JSON); datasets of the array couplings
    /samples/t       update index of each measurement
    /samples/NAME    (measurement, *axes), attributes axes, doc
    /configurations  t; field (n, cells): bit-packed for binary fields, float64 for real ones, user's axis order
    /state           attributes t and counters; field as above

A reader sees either the previous checkpoint or the new one, never half of it; killing the process loses at most what
came after the last checkpoint.  Rank 0 alone touches the file; it must be able to hold one configuration.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from lft.errors import ArchiveError, InputError
from lft.geometry import Graph, Lattice

SCHEMA, VERSION = "lft-archive", 1
BUFFER_BYTES = 256 * 2**20


def on_root(domain_or_comm, function, *arguments):
    """Run on rank 0 and give its result, or its exception, to every rank."""
    comm = getattr(domain_or_comm, "comm", domain_or_comm)
    if comm is None:
        return function(*arguments)
    outcome = None
    if comm.Get_rank() == 0:
        try:
            outcome = (True, function(*arguments))
        except Exception as error:
            outcome = (False, error)
    is_fine, value = comm.bcast(outcome, 0)
    if not is_fine:
        raise value
    return value


def explain(error, path, doing):
    """One line for an operating-system or HDF5 error."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC or "No space left" in str(error):
        return f"{path}: no space left on the device while {doing}"
    if isinstance(error, PermissionError) or "Permission denied" in str(error):
        return f"{path}: no permission while {doing}"
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{path}: failed while {doing}: {first}"


def check_output(path, overwrite):
    """Raise InputError unless a file can be created at ``path`` (an existing one only with ``overwrite``)."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory, the output must be a file")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists; give another name, or --overwrite to replace it")
    folder = path.parent if str(path.parent) else Path(".")
    if not folder.is_dir():
        raise InputError(f"{path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{path}: no permission to write in {folder}")


@contextlib.contextmanager
def replacing(path, doing="writing"):
    """Open ``path`` for writing aside; flush, fsync and rename on success, remove the partial file on failure."""
    import h5py

    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        with h5py.File(part, "w") as file:
            yield file
        with open(part, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise ArchiveError(explain(error, path, doing)) from error


# ---- geometry and action
def write_geometry(group, geometry):
    """Store a geometry in an HDF5 group."""
    if isinstance(geometry, Graph):
        group.attrs.update(kind="graph", n_units=geometry.n_units, n_bins=geometry.n_bins, boundary=geometry.boundary)
        group.attrs["bin_width"] = geometry.bin_width or ""
        return
    group.attrs.update(kind="lattice", shape=geometry.shape, axes=list(geometry.axes), boundary=list(geometry.boundary))
    group.attrs["spacing"] = list(geometry.spacing or [])
    if geometry.mask is not None:
        group["mask"] = geometry.mask


def read_geometry(group):
    """The geometry stored by :func:`write_geometry`."""
    attrs = group.attrs
    if attrs["kind"] == "graph":
        width = str(attrs["bin_width"]) or None
        return Graph(int(attrs["n_units"]), int(attrs["n_bins"]), str(attrs["boundary"]), width)
    return Lattice(
        tuple(int(n) for n in attrs["shape"]),
        tuple(str(a) for a in attrs["axes"]),
        tuple(str(b) for b in attrs["boundary"]),
        tuple(str(s) for s in attrs["spacing"]) or None,
        group["mask"][()] if "mask" in group else None,
    )


def write_action(group, action):
    """Store name and couplings of a built-in action."""
    scalars = {}
    for name, value in action.couplings.items():
        if hasattr(value, "tocsr"):
            csr = value.tocsr()
            for part in ("data", "indices", "indptr"):
                group[f"{name}_{part}"] = getattr(csr, part)
            group[f"{name}_data"].attrs["shape"] = csr.shape
        elif isinstance(value, np.ndarray):
            group[name] = value
        elif isinstance(value, dict):
            keys = [list(k) if isinstance(k, tuple) else int(k) for k in value]
            scalars[name] = {"keys": keys, "values": list(value.values())}
        else:
            scalars[name] = list(value) if isinstance(value, tuple) else value
    group.attrs["name"] = action.name
    group.attrs["couplings"] = json.dumps(scalars)


def read_action(group):
    """The action stored by :func:`write_action`."""
    from lft.actions import ACTIONS

    couplings = {}
    for name, value in json.loads(group.attrs["couplings"]).items():
        if isinstance(value, dict):
            keys = [tuple(k) if isinstance(k, list) else k for k in value["keys"]]
            value = dict(zip(keys, value["values"], strict=True))
        couplings[name] = value
    for name in group:
        if name.endswith("_data") and "shape" in group[name].attrs:
            from scipy.sparse import csr_matrix

            stem = name[: -len("_data")]
            parts = tuple(group[f"{stem}_{part}"][()] for part in ("data", "indices", "indptr"))
            couplings[stem] = csr_matrix(parts, shape=tuple(group[name].attrs["shape"]))
        elif not name.endswith(("_indices", "_indptr")):
            couplings[name] = group[name][()]
    return ACTIONS[str(group.attrs["name"])](**couplings)


# ---- configurations
def pack(kind, array):
    """A configuration as a flat row: one bit per site for binary fields (1 = high), float64 for real ones."""
    flat = np.ascontiguousarray(array).ravel()
    return flat.astype("<f8") if kind == "real" else np.packbits(flat > 0)


def unpack(kind, row, geometry):
    """The configuration in the user's axis order from a row of :func:`pack`; 0 on inactive sites."""
    if kind == "real":
        return np.asarray(row).reshape(geometry.shape)
    bits = np.unpackbits(row, count=geometry.n_sites).astype(np.int8).reshape(geometry.shape)
    if kind == "gas":
        return bits
    spins = 2 * bits - 1
    if geometry.mask is not None:
        t = geometry.time_axis
        spins *= geometry.mask if t is None else np.expand_dims(geometry.mask, t)
    return spins


def field_sha256(kind, array):
    """Hash of a configuration in row-major user's order: spins as int8 (+-1), real fields as little-endian float64."""
    array = np.ascontiguousarray(array, dtype="<f8" if kind == "real" else np.int8)
    return hashlib.sha256(array.tobytes()).hexdigest()


class Recorder:
    """Collects measurements between checkpoints and writes the archive.

    Parameters
    ----------
    path : path
        The archive.
    meta : dict
        Attributes of ``/meta`` (strings and numbers).
    is_new : bool
        False continues an existing archive: its samples and configurations are carried over.
    """

    def __init__(self, path, meta, is_new=True):
        self.path, self.meta, self.is_new = Path(path), meta, is_new
        self.samples, self.configurations, self._bytes = [], [], 0

    @property
    def is_full(self):
        """True when the buffer should be written out."""
        return self._bytes > BUFFER_BYTES

    def add(self, t, values):
        """One measurement."""
        self.samples.append((t, values))
        self._bytes += sum(np.size(v) * 8 for v in values.values())

    def add_configuration(self, t, phi):
        """One whole configuration (collective)."""
        array = phi.array()
        if array is not None:
            row = pack(phi.kind, array)
            self.configurations.append((t, row))
            self._bytes += row.nbytes

    def checkpoint(self, chain):
        """Write everything (collective); on failure the previous archive stays as it was."""
        chain.collect_counts()
        array = chain.state.phi.array()
        on_root(chain.state.phi.domain, self._write, chain, array)
        self.samples, self.configurations, self._bytes = [], [], 0
        self.is_new = False

    def _write(self, chain, array):
        import h5py

        from lft import __version__

        phi = chain.state.phi
        doing = f"writing the checkpoint at update {chain.state.t}"
        with replacing(self.path, doing) as file, contextlib.ExitStack() as stack:
            file.attrs.update(schema=SCHEMA, schema_version=VERSION, lft_version=__version__)
            meta = file.create_group("meta")
            meta.attrs.update(self.meta)
            meta.attrs["ranks"] = phi.domain.n_ranks
            write_geometry(file.create_group("lattice"), phi.geometry)
            write_action(file.create_group("action"), chain.action)
            if not self.is_new:
                old = stack.enter_context(h5py.File(self.path, "r"))
                for name in ("samples", "configurations"):
                    if name in old:
                        old.copy(name, file)
            self._append_samples(file, chain.observables)
            self._append_configurations(file, phi.kind)
            state = file.create_group("state")
            state.attrs.update(t=chain.state.t, kind=phi.kind, **vars(chain.counters))
            state["field"] = pack(phi.kind, array)

    def _append_samples(self, file, observables):
        group = file.require_group("samples")
        if not self.samples:
            return
        _extend(group, "t", np.array([t for t, _ in self.samples], np.int64))
        for name in self.samples[0][1]:
            rows = np.array([values[name] for _, values in self.samples], np.float64)
            _extend(group, name, rows)
        for observable in observables:
            for name in observable.names:
                if name in group:
                    group[name].attrs["doc"] = observable.doc
                    group[name].attrs["axes"] = list(observable.axes)

    def _append_configurations(self, file, kind):
        group = file.require_group("configurations")
        if self.configurations:
            _extend(group, "t", np.array([t for t, _ in self.configurations], np.int64))
            _extend(group, "field", np.array([row for _, row in self.configurations]))


def _extend(group, name, rows):
    if name not in group:
        chunk = (max(1, min(4096, 2**16 // max(1, rows[0].nbytes))), *rows.shape[1:])
        group.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=chunk)
        return
    data = group[name]
    n = len(data)
    data.resize(n + len(rows), axis=0)
    data[n:] = rows


class Archive:
    """Read side of an archive.

    Examples
    --------
    ``Archive("run.h5").samples("m2")`` is the series of m^2; ``Archive("run.h5").configuration(0)`` the first saved
    configuration in the user's axis order.
    """

    def __init__(self, path):
        import h5py

        self.path = Path(path)
        if not self.path.exists():
            raise InputError(f"{path}: no such file")
        if self.path.is_dir():
            raise InputError(f"{path}: is a directory, not an archive")
        try:
            self.file = h5py.File(self.path, "r")
        except PermissionError as error:
            raise InputError(f"{path}: no permission to read") from error
        except OSError as error:
            raise InputError(f"{path}: not a readable HDF5 file (truncated, or another format)") from error
        try:
            self._check()
        except BaseException:
            self.file.close()
            raise

    def _check(self):
        schema, version = self.file.attrs.get("schema"), self.file.attrs.get("schema_version")
        if schema != SCHEMA:
            raise InputError(f"{self.path}: not an archive of lft run (schema {schema!r}, expected {SCHEMA!r})")
        if version > VERSION:
            raise InputError(f"{self.path}: schema version {version}, this program reads up to {VERSION}")
        missing = [name for name in ("meta", "lattice", "action", "samples", "state") if name not in self.file]
        if missing:
            raise InputError(f"{self.path}: damaged archive, {missing[0]!r} is missing")
        self.geometry = read_geometry(self.file["lattice"])
        self.action = read_action(self.file["action"])
        self.meta = dict(self.file["meta"].attrs)
        self.config = json.loads(self.meta["config"])
        self.state = dict(self.file["state"].attrs)
        self.kind = str(self.state["kind"])
        self.t = int(self.state["t"])

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Close the file."""
        self.file.close()

    @property
    def names(self):
        """Names of the measured observables."""
        return sorted(n for n in self.file["samples"] if n != "t")

    @property
    def n_samples(self):
        return len(self.file["samples/t"]) if "t" in self.file["samples"] else 0

    def samples(self, name):
        """Series of one observable, (measurement, *axes)."""
        if name not in self.file["samples"]:
            raise InputError(f"{self.path}: no observable {name!r}; it has {', '.join(self.names)}")
        return self.file[f"samples/{name}"][()]

    @property
    def n_configurations(self):
        """Number of saved configurations."""
        group = self.file.get("configurations")
        return len(group["t"]) if group is not None and "t" in group else 0

    def configuration(self, index):
        """Saved configuration in the user's axis order."""
        return unpack(self.kind, self.file["configurations/field"][index], self.geometry)

    def last(self):
        """The configuration of the last checkpoint, user's axis order."""
        return unpack(self.kind, self.file["state/field"][()], self.geometry)

    def series_sha256(self):
        """Hash of all measured series: name, then little-endian float64 values, in the order of the names."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.samples(name), dtype="<f8").tobytes())
        return digest.hexdigest()
