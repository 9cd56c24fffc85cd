"""The archive of a run: one self-contained HDF5 file, written aside, flushed and renamed at every checkpoint.

Schema 1 (read by all later versions)::

    /                attributes schema = "lft-archive", schema_version, lft_version
    /meta            attributes config (JSON), config_text (TOML), updater, seed, kernel, checkpoint_s, ranks, threads
    /lattice         attributes kind, shape, axes, boundary, spacing; dataset mask
    /action          attributes name, couplings (JSON); datasets of the array couplings
    /samples/t       update index of each measurement
    /samples/NAME    (measurement, *axes), attributes axes, doc
    /configurations  t; field (n, cells): bit-packed for binary fields, float64 for real ones, user's axis order
    /state           attributes t and counters; field as above
    /spreading       only of directed percolation: see lft.spreading; /samples is then empty
    /tempering       only of parallel tempering: see lft.tempering; /samples then have a first axis "temperature",
                     and the configurations (state/field too) are those of the target temperature

A reader sees either the previous checkpoint or the new one, never half of it; killing the process loses at most what
came after the last checkpoint.  Rank 0 alone touches the file; it must be able to hold one configuration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from lft import threads
from lft.chain import Counters, Schedule
from lft.errors import ArchiveError, InputError
from lft.geometry import Graph, Lattice
from lft.rng import Key
from lft.tempering import Journeys

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
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left" in str(error):
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


def check_json(path):
    """Raise InputError unless a report can be written at ``path``: only an older report is replaced."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        return  # a pipe or a device
    check_output(path, overwrite=True)
    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(64).lstrip()
        if head and not head.startswith(b"{"):
            raise InputError(f"{path}: exists and is not JSON; give another name")


@contextlib.contextmanager
def aside(path, doing="writing"):
    """The path of a file beside ``path``: flushed and renamed on success, removed on failure."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        with open(part, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError | RuntimeError | KeyError):  # KeyError: an object is damaged
            raise ArchiveError(explain(error, path, doing)) from error
        raise


class Spool:
    """A file for HDF5 that keeps the first failure to itself and swallows what follows.

    HDF5 cannot close a file that it cannot write: on a full disk the process would die in its cleanup.
    """

    def __init__(self, raw):
        self.raw, self.error = raw, None
        self.seek, self.tell, self.flush = raw.seek, raw.tell, raw.flush
        self.read, self.readinto = raw.read, raw.readinto

    def _keep(self, error):
        self.error = self.error or error

    def write(self, data):
        """Write all bytes (an unbuffered file may take fewer at once)."""
        view = memoryview(data).cast("B")
        try:
            while view:
                view = view[self.raw.write(view) :]
        except OSError as error:
            self._keep(error)
        return len(data)

    def truncate(self, size=None):
        """Set the length."""
        try:
            return self.raw.truncate(size)
        except OSError as error:
            self._keep(error)
            return size


@contextlib.contextmanager
def replacing(path, doing="writing"):
    """Open an HDF5 file that takes the place of ``path`` as a whole, or not at all."""
    import h5py

    with aside(path, doing) as part, open(part, "w+b", buffering=0) as raw:
        spool = Spool(raw)
        try:
            with h5py.File(spool, "w", libver=("v110", "v110")) as file:  # which adds checksums
                yield file
        finally:
            if spool.error is not None:
                raise spool.error


def write_text(text, path):
    """Write a text file as a whole, or not at all."""
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe or a device
        path.write_text(text)
        return
    with aside(path) as part:
        part.write_text(text)


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
    if action.inputs is not None:
        group["inputs"] = action.inputs
    group.attrs["name"] = action.name
    group.attrs["couplings"] = json.dumps(scalars)
    if action.dtype is not None:
        group.attrs["precision"] = action.dtype.name


def read_action(group):
    """The action stored by :func:`write_action`."""
    from lft.causal import ACTIONS

    couplings = {"precision": str(group.attrs["precision"])} if "precision" in group.attrs else {}
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


def read_tempering(group):
    """What :meth:`lft.tempering.Tempering.extras` wrote, without the fields."""
    out = {name: group[name][()] for name in group if name != "fields"}
    out |= {"target": int(group.attrs["target"]), "coupling": str(group.attrs["coupling"])}
    out["kernels"] = [str(name) for name in group.attrs["kernels"]]
    n, pairs = len(out["inverse_temperatures"]), ("proposed", "accepted", "acceptance_sum")
    whole = {name: n - (name in pairs) for name in ("counts", *pairs, *Journeys.ARRAYS, "kernels")}
    wrong = [name for name, length in whole.items() if len(out[name]) != length]
    if wrong or len(group["fields"]) != n or not 0 <= out["target"] < n:
        raise ValueError(f"{', '.join(wrong) or 'fields or target'} do not fit the {n} inverse temperatures")
    b = out["inverse_temperatures"]
    if not (np.isfinite(b).all() and b[0] >= 0 and (np.diff(b) > 0).all()):
        raise ValueError(f"inverse temperatures {b.tolist()}")
    if sorted(out["replica"].tolist()) != list(range(n)) or np.abs(out["direction"]).max() > 1:
        raise ValueError("replica or direction")
    if not np.isfinite(out["acceptance_sum"]).all() or min(out[name].min() for name in ("counts", *pairs)) < 0:
        raise ValueError("counts of swaps or updates")
    return out


SPREADING = ("active", "alive", "square", "size", "duration")


def read_spreading(group, geometry):
    """What :meth:`lft.spreading.Ensemble.extras` wrote."""
    out = {name: group[name][()] for name in SPREADING}
    out |= {"start": str(group.attrs["start"]), "contact": int(group.attrs["contact"])}
    wrong = [name for name in SPREADING[:3] if out[name].shape != (geometry.shape[-1], 64)]
    if wrong or out["size"].shape != out["duration"].shape or out["start"] not in ("seed", "full"):
        raise ValueError(f"{', '.join(wrong) or 'size, duration or start'} do not fit the lattice")
    if min(out[name].min(initial=0) for name in SPREADING) < 0:
        raise ValueError("negative counts")
    return out


# ---- configurations
def pack(kind, array):
    """A configuration as a flat row: one bit per site for binary fields (1 = high), float64 for real ones."""
    flat = np.ascontiguousarray(array).ravel()
    return flat.astype("<f8") if kind == "real" else np.packbits(flat > 0)


def unpack(kind, row, geometry):
    """The configuration in the user's axis order from a row of :func:`pack`; 0 on inactive sites."""
    if kind == "real":
        return np.asarray(row).reshape(geometry.shape)
    bits = np.unpackbits(row)[: geometry.n_sites].astype(np.int8).reshape(geometry.shape)
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

    def add_configuration(self, t, chain):
        """One whole configuration (collective)."""
        row = chain.target_row(pack)
        if row is not None:
            self.configurations.append((t, row))
            self._bytes += row.nbytes

    def checkpoint(self, chain):
        """Write everything (collective); on failure the previous archive stays as it was."""
        chain.collect_counts()
        rows = chain.rows(pack)
        on_root(chain.domain, self._write, chain, rows)
        self.samples, self.configurations, self._bytes = [], [], 0
        self.is_new = False

    def _write(self, chain, rows):
        import h5py

        from lft import __version__

        phi = chain.state.phi
        doing = f"writing the checkpoint at update {chain.state.t}"
        with replacing(self.path, doing) as file, contextlib.ExitStack() as stack:
            file.attrs.update(schema=SCHEMA, schema_version=VERSION, lft_version=__version__)
            meta = file.create_group("meta")
            meta.attrs.update(self.meta)
            meta.attrs.update(ranks=chain.domain.n_ranks, threads=threads.count())
            write_geometry(file.create_group("lattice"), phi.geometry)
            write_action(file.create_group("action"), chain.action)
            if not self.is_new:
                old = stack.enter_context(h5py.File(self.path, "r"))
                for name in ("samples", "configurations"):
                    if name in old:
                        old.copy(name, file)
            self._append_samples(file, chain.observables, chain.leading_axes)
            self._append_configurations(file, phi.kind)
            state = file.create_group("state")
            state.attrs.update(t=chain.state.t, kind=phi.kind, **vars(chain.counters))
            extras = chain.extras()
            state["field"] = rows[extras.get("target", 0)]
            if extras:
                group = file.create_group(chain.extras_group)
                for name, value in extras.items():
                    if isinstance(value, np.ndarray):
                        group.create_dataset(name, data=value, fletcher32=value.size > 0)
                    else:
                        group.attrs[name] = value
                if chain.extras_group == "tempering":
                    group.create_dataset("fields", data=np.array(rows), fletcher32=True)

    def _append_samples(self, file, observables, leading):
        group = file.require_group("samples")
        if not self.samples:
            return
        # an archive of an earlier version keeps the observables it began with, so that all series stay equally long
        names = [n for n in group if n != "t"] if "t" in group else list(self.samples[0][1])
        _extend(group, "t", np.array([t for t, _ in self.samples], np.int64))
        for name in names:
            rows = np.array([values[name] for _, values in self.samples], np.float64)
            _extend(group, name, rows)
        if "acceptance" in group:
            group["acceptance"].attrs.update(doc="accepted proposals since the last measurement", axes=list(leading))
        if "replica" in group:
            group["replica"].attrs.update(doc="number of the replica at each temperature", axes=list(leading))
        for observable in observables:
            for name in observable.names:
                if name in group:
                    group[name].attrs["doc"] = observable.doc
                    group[name].attrs["axes"] = [*leading, *observable.axes]

    def _append_configurations(self, file, kind):
        group = file.require_group("configurations")
        if self.configurations:
            _extend(group, "t", np.array([t for t, _ in self.configurations], np.int64))
            _extend(group, "field", np.array([row for _, row in self.configurations]))


def _extend(group, name, rows):
    if name not in group:
        chunk = (max(1, min(512, 2**16 // max(1, rows[0].nbytes))), *rows.shape[1:])
        group.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=chunk, fletcher32=True)
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
        with self._reading("schema"):
            schema, version = self.file.attrs.get("schema"), self.file.attrs.get("schema_version")
            needed = ("meta", "lattice", "action", "samples", "state")
            missing = [name for name in needed if name not in self.file]
        if schema != SCHEMA:
            raise InputError(f"{self.path}: not an archive of lft run (schema {schema!r}, expected {SCHEMA!r})")
        with self._reading("schema_version"):
            version = int(version)
        if version > VERSION:
            raise InputError(f"{self.path}: schema version {version}, this program reads up to {VERSION}")
        if missing:
            raise InputError(f"{self.path}: damaged archive, {missing[0]!r} is missing")
        with self._reading("lattice"):
            self.geometry = read_geometry(self.file["lattice"])
        with self._reading("action"):
            self.action = read_action(self.file["action"])
        with self._reading("meta"):
            self.meta = dict(self.file["meta"].attrs)
            "".join(map(str, self.meta.values())).encode()  # h5py lets wrong bytes pass in a text
            self.config = json.loads(self.meta["config"])
            self.key = Key(int(self.meta["seed"]))
            self.checkpoint_s = float(self.meta["checkpoint_s"])
            run = self.config["run"]
            self.schedule = Schedule(**{f.name: run[f.name] for f in dataclasses.fields(Schedule)})
            self.update = dict(self.config["update"])
            self.kernel, self.ranks = str(self.meta["kernel"]), int(self.meta["ranks"])
            self.threads = int(self.meta.get("threads", 1))  # absent from the first archives, which knew no threads
        with self._reading("tempering"):
            group = self.file.get("tempering")
            self.tempering = None if group is None else read_tempering(group)
        with self._reading("spreading"):
            group = self.file.get("spreading")
            self.spreading = None if group is None else read_spreading(group, self.geometry)
        with self._reading("state"):
            state = dict(self.file["state"].attrs)
            self.kind, self.t = str(state["kind"]), int(state["t"])
            counts = {f.name: type(f.default)(state[f.name]) for f in dataclasses.fields(Counters)}
            self.counters = Counters(**counts)

    @contextlib.contextmanager
    def _reading(self, what):
        """Whatever HDF5, numpy, JSON and the constructors say of damaged content, as one line."""
        try:
            yield
        except Exception as error:  # the libraries answer with exceptions of a dozen kinds
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path}: damaged archive, {what} cannot be read ({reason})") from error

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
        with self._reading("samples"):
            return sorted(n for n in self.file["samples"] if n != "t")

    @property
    def n_samples(self):
        return self._length("samples")

    def samples(self, name):
        """Series of one observable, (measurement, *axes)."""
        if name not in self.names:
            raise InputError(f"{self.path}: no observable {name!r}; it has {', '.join(self.names)}")
        with self._reading(f"samples/{name}"):
            series = np.asarray(self.file[f"samples/{name}"][()], dtype=np.float64)
            if len(series) != self.n_samples:
                raise ValueError(f"{len(series)} values for {self.n_samples} measurements")
            return series

    @property
    def n_configurations(self):
        """Number of saved configurations."""
        return self._length("configurations")

    def _length(self, group):
        if group == "samples" and self.spreading is not None:
            return self.t  # every replica is measured
        with self._reading(f"{group}/t"):
            return len(self.file[f"{group}/t"]) if group in self.file and "t" in self.file[group] else 0

    def configuration(self, index):
        """Saved configuration in the user's axis order."""
        return self._configuration("configurations/field", index)

    def last(self):
        """The configuration of the last checkpoint, user's axis order."""
        return self._configuration("state/field", ())

    def state_arrays(self):
        """The configurations of all temperatures at the last checkpoint (of the only one), user's axis order."""
        if self.tempering is None:
            return [self.last()]
        return [self._configuration("tempering/fields", i) for i in range(len(self.tempering["replica"]))]

    def _configuration(self, name, index):
        with self._reading(name):
            return unpack(self.kind, self.file[name][index], self.geometry)

    def series_sha256(self):
        """Hash of all measured series: name, then little-endian float64 values, in the order of the names."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.samples(name), dtype="<f8").tobytes())
        for name in () if self.spreading is None else sorted(SPREADING):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.spreading[name], dtype="<i8").tobytes())
        return digest.hexdigest()
