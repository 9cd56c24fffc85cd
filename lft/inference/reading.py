"""Files of recordings: NWB, HDF5, ``.npz`` and ``.npy``, told apart by their content, as plain arrays.

===========================
===================================================================================== content
arrays
===========================
===================================================================================== HDF5 with a group
``units``  NWB: ``units/spike_times``, ``units/spike_times_index`` (end of each unit); positions
                             from ``units/electrodes`` and the electrode table, where both are there
HDF5                         ``spike_times`` (s), ``spike_index`` (N + 1 offsets), optional ``positions`` (N,
1 to 3;
                             um), attribute ``duration_s``
``.npz``                     the same names; or ``raster`` (units x bins, 0/1), ``bin_s``, optional
``positions`` ``.npy``                     a raster (units x bins); the caller gives the width of the bins
===========================
=====================================================================================

Only the container is checked here; what the numbers must be is checked by ``Recording`` and ``Raster``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lft.errors import InputError

FORMATS = "NWB, HDF5 with spike_times and spike_index, .npz or .npy"
HDF5_MAGIC, ZIP_MAGIC, NPY_MAGIC = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x93NUMPY"
ELECTRODE_TABLE = "general/extracellular_ephys/electrodes"


def read_arrays(path):
    """The arrays of a recording by name, and ``notes`` on what the file does not say.

    Returns a dictionary with ``spike_times``, ``spike_index``, ``duration_s`` (or None) or with ``raster``,
    ``bin_s`` (or None); both with ``positions`` (or None) and ``notes``.  Raises InputError that names the
    file.
    """
    path = Path(path)
    return _guarded(path, lambda: _read(path, _head(path)))


def _read(path, head):
    if head.startswith(HDF5_MAGIC):
        return _read_hdf5(path)
    if head.startswith(ZIP_MAGIC):
        return _read_npz(path)
    if head.startswith(NPY_MAGIC):
        with open(path, "rb") as stream:
            raster = np.load(stream, allow_pickle=False)
        return {"raster": _units_by_bins(raster, path), "bin_s": None, "positions": None, "notes": []}
    if _is_hdf5_behind_a_user_block(path):
        return _read_hdf5(path)
    raise InputError(f"{path}: not a recording (its content is of no known kind); valid are {FORMATS}")


def _head(path):
    if path.is_dir():
        raise InputError(f"{path}: is a directory; valid is a file: {FORMATS}")
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as reason:
        raise InputError(f"{path}: cannot be read ({reason.strerror})") from None
    if not head:
        raise InputError(f"{path}: the file is empty; valid are {FORMATS}")
    return head


def _is_hdf5_behind_a_user_block(path):
    import h5py

    return bool(h5py.is_hdf5(path))


def _one_line(reason):
    return " ".join(str(reason).split())


def _guarded(path, read):
    """The result of a read; a damaged file raises InputError that names it."""
    try:
        return read()
    except InputError:
        raise
    except Exception as reason:  # the libraries answer a damaged file with exceptions of a dozen kinds
        raise InputError(
            f"{path}: cannot be read, it seems truncated or damaged ({_one_line(reason)})"
        ) from None


def _units_by_bins(raster, path):
    """The raster time first."""
    if raster.ndim != 2:
        raise InputError(f"{path}: raster has shape {raster.shape}; valid is two axes, units x bins")
    return raster.T


# ---- numpy
def _read_npz(path):
    # The stream is opened here because numpy leaves it open where the archive is damaged.
    with open(path, "rb") as stream:
        file = np.load(stream, allow_pickle=False)
        wanted = {"raster", "bin_s", "spike_times", "spike_index", "positions", "duration_s"} & set(
            file.files
        )
        arrays = {name: file[name] for name in sorted(wanted)}
        names = set(file.files)
    for name, value in arrays.items():
        if isinstance(value, bytes):
            raise InputError(f"{path}: {name} is not an array; valid is what numpy.savez writes")
    if "raster" in arrays and "spike_times" in arrays:
        raise InputError(f"{path}: holds both raster and spike_times; valid is one of them")
    number = {name: _scalar(arrays[name], name, path) for name in ("bin_s", "duration_s") if name in arrays}
    if "raster" in arrays:
        raster = _units_by_bins(arrays["raster"], path)
        return {
            "raster": raster,
            "bin_s": number.get("bin_s"),
            "positions": arrays.get("positions"),
            "notes": [],
        }
    for name in ("spike_times", "spike_index"):
        _require(name, names, path, "array")
    spikes = {name: arrays.get(name) for name in ("spike_times", "spike_index", "positions")}
    return _with_duration(spikes, number.get("duration_s"), path)


def _scalar(value, name, path):
    value = np.asarray(value)
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: {name} has shape {value.shape} and type {value.dtype}; valid is one number"
        )
    return float(value.ravel()[0])


def _require(name, names, path, what):
    if name not in names:
        there = ", ".join(sorted(names)) or "nothing"
        raise InputError(f"{path}: {what} {name} is missing; the file holds {there}")


def _with_duration(arrays, duration, path, notes=()):
    """Add the duration; where the file has none it is the last spike, which a note says."""
    notes = [*notes]
    times = np.asarray(arrays["spike_times"])
    if times.dtype == np.float32:
        notes.append("spike_times are single precision numbers, which resolve the end of the recording worst")
    if duration is None and times.size and times.dtype.kind in "iuf":
        finite = times[np.isfinite(times)]
        if not len(finite):
            raise InputError(f"{path}: no entry of spike_times is finite")
        duration = float(finite.max())
        notes.append(f"the file gives no duration_s; taken is the last spike, {duration} s")
    return {**arrays, "duration_s": duration, "notes": notes}


# ---- HDF5
def _read_hdf5(path):
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as reason:
        raise InputError(f"{path}: cannot be opened as HDF5 ({_one_line(reason)})") from None
    with file:
        if isinstance(file.get("units"), h5py.Group):
            return _read_nwb(file, path)
        arrays = {name: _dataset(file, name, path) for name in ("spike_times", "spike_index")}
        arrays["positions"] = _dataset(file, "positions", path) if "positions" in file else None
        duration = file.attrs.get("duration_s")
        count = file.attrs.get("n_units")
        if count is not None and _scalar(count, "attribute n_units", path) != len(arrays["spike_index"]) - 1:
            raise InputError(
                f"{path}: attribute n_units is {count}, but spike_index has "
                f"{len(arrays['spike_index'])} entries; valid is n_units + 1 of them"
            )
        if duration is not None:
            duration = _scalar(duration, "attribute duration_s", path)
        return _with_duration(arrays, duration, path)


def _dataset(group, name, path):
    import h5py

    where = "" if group.name == "/" else group.name.strip("/") + "/"
    if name not in group:
        _require(where + name, {where + key for key in group}, path, "dataset")
    data = group[name]
    if not isinstance(data, h5py.Dataset):
        raise InputError(f"{path}: {where + name} is a group; valid is a dataset")
    value = data[()]
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        raise InputError(f"{path}: {where + name} is a single value; valid is an array")
    return value


def _read_nwb(file, path):
    units = file["units"]
    times = _dataset(units, "spike_times", path)
    ends = _dataset(units, "spike_times_index", path)
    if ends.ndim != 1 or ends.dtype.kind not in "iu":
        raise InputError(
            f"{path}: units/spike_times_index has shape {ends.shape} and type {ends.dtype}; "
            "valid is one axis of integers"
        )
    notes = []
    positions = _nwb_positions(file, len(ends), path, notes)
    arrays = {
        "spike_times": times,
        "spike_index": np.append(0, ends.astype(np.int64)),
        "positions": positions,
    }
    return _with_duration(arrays, None, path, notes)


def _nwb_positions(file, n_units, path, notes):
    """Mean coordinates of the electrodes of each unit, or None with a note that says why."""
    units, table = file["units"], file.get(ELECTRODE_TABLE)
    if "electrodes" not in units or table is None:
        notes.append("no positions: the file has no units/electrodes or no table of electrodes")
        return None
    columns = [_dataset(table, name, path) for name in ("x", "y", "z") if name in table]
    if not {"x", "y"} <= set(table):
        notes.append("no positions: the table of electrodes has no columns x and y")
        return None
    coordinates = np.stack([np.asarray(c, np.float64) for c in columns], axis=1)
    if coordinates.shape[1] == 3 and len(np.unique(coordinates[:, 2])) == 1:
        coordinates = coordinates[:, :2]
        notes.append("the electrodes share one z, which is left out of the positions")
    rows = _dataset(units, "electrodes", path).astype(np.int64)
    if "electrodes_index" in units:
        offsets = np.append(0, _dataset(units, "electrodes_index", path).astype(np.int64))
    else:
        offsets = np.arange(len(rows) + 1)
    if len(offsets) != n_units + 1 or offsets[-1] != len(rows) or (np.diff(offsets) < 0).any():
        raise InputError(
            f"{path}: units/electrodes lists {len(offsets) - 1} units, units/spike_times_index {n_units}"
        )
    wrong = (rows < 0) | (rows >= len(coordinates))
    if wrong.any():
        raise InputError(
            f"{path}: units/electrodes[{int(np.flatnonzero(wrong)[0])}] = {rows[wrong][0]}; "
            f"the table of electrodes has the rows 0 to {len(coordinates) - 1}"
        )
    counts = np.diff(offsets)
    lost = (counts == 0).sum() + (~np.isfinite(coordinates[rows])).any(axis=1).sum()
    if lost:
        notes.append(f"no positions: {lost} units have no electrode, or one without finite coordinates")
        return None
    if (counts > 1).any():
        notes.append(f"the position of {(counts > 1).sum()} units is the mean of their electrodes")
    return np.add.reduceat(coordinates[rows], offsets[:-1], axis=0) / counts[:, np.newaxis]
