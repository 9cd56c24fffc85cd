"""Reading, binning and placing recordings: every format, every malformed file, every spike accounted for."""

import math
import os
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from lft.errors import DataWarning, InputError
from lft.inference.raster import Raster
from lft.inference.recording import Recording, read_recording
from lft.inference.sites import find_pitch, place

TIMES = np.array([0.01, 0.02, 0.06, 0.5, 0.05, 0.99])
INDEX = np.array([0, 4, 4, 6])
POSITIONS = np.array([[0.0, 0.0], [42.0, 0.0], [0.0, 84.0]])
RASTER = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]], np.int8)  # units x bins
GOOD = {"spike_times": TIMES, "spike_index": INDEX, "positions": POSITIONS, "duration_s": 1.0}


def write_npz(path, **changes):
    """A good spike file with some arrays changed, or left out (None)."""
    np.savez(path, **{k: v for k, v in (GOOD | changes).items() if v is not None})
    return path


def write_hdf5(path, attributes=(), **changes):
    with h5py.File(path, "w") as file:
        for name, value in (GOOD | changes).items():
            if value is not None and name != "duration_s":
                file[name] = value
        for name, value in ({"duration_s": (GOOD | changes)["duration_s"]} | dict(attributes)).items():
            if value is not None:
                file.attrs[name] = value
    return path


def write_nwb(path, electrodes=((0,), (1,), (2,)), z=None, **changes):
    with h5py.File(path, "w") as file:
        data = {"spike_times": TIMES, "spike_times_index": INDEX[1:]} | changes
        for name, value in data.items():
            if value is not None:
                file[f"units/{name}"] = value
        if electrodes is not None:
            file["units/electrodes"] = np.array([e for unit in electrodes for e in unit], int)
            file["units/electrodes_index"] = np.cumsum([len(unit) for unit in electrodes])
            table = file.create_group("general/extracellular_ephys/electrodes")
            table["x"], table["y"] = POSITIONS.T
            if z is not None:
                table["z"] = z
    return path


def fails_with(*words, call):
    """The call raises InputError with one line that holds every word."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert message and "\n" not in message
    for word in words:
        assert str(word) in message, message


def bin_by_hand(times, index, start, width, n_bins):
    """Slow oracle: exact rational edges of decimal numbers, one spike at a time."""
    from fractions import Fraction

    def exact(x):
        return Fraction(repr(float(x)))

    raster = np.zeros((n_bins, len(index) - 1), int)
    outside = np.zeros(len(index) - 1, int)
    for u in range(len(index) - 1):
        for t in times[index[u] : index[u + 1]]:
            a = math.floor((exact(t) - exact(start)) / exact(width))
            if 0 <= a < n_bins:
                raster[a, u] += 1
            else:
                outside[u] += 1
    return (raster > 0).astype(int), np.maximum(raster - 1, 0).sum(axis=0), outside


def random_recording(rng, n_units=7, duration=2.0, rate=20.0, decimals=None, **options):
    counts = rng.poisson(rate * duration, n_units)
    parts = [np.sort(rng.uniform(0, duration, n)) for n in counts]
    if decimals is not None:
        parts = [np.minimum(np.round(p, decimals), duration) for p in parts]
    return Recording(np.concatenate(parts), np.append(0, np.cumsum(counts)), duration, **options)


# ---- formats
@pytest.mark.parametrize("write", [write_npz, write_hdf5, write_nwb])
def test_spike_files_round_trip(tmp_path, write):
    recording = read_recording(write(tmp_path / "spikes.npz"))
    assert recording.n_units == 3
    assert np.array_equal(recording.spike_times, TIMES)
    assert np.array_equal(recording.spike_index, INDEX)
    assert np.array_equal(recording.positions_um, POSITIONS)
    assert recording.duration_s == (0.99 if write is write_nwb else 1.0)
    assert np.allclose(recording.rates_hz * recording.duration_s, [4, 0, 2])


def test_the_name_of_a_file_does_not_matter(tmp_path):
    path = write_hdf5(tmp_path / "a")
    np.save(tmp_path / "b.npy", RASTER)
    os.rename(tmp_path / "b.npy", tmp_path / "b.h5")
    assert isinstance(read_recording(path), Recording)
    assert isinstance(read_recording(str(tmp_path / "b.h5"), bin_s=0.1), Raster)


def test_hdf5_behind_a_user_block(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file["spike_times"], file["spike_index"] = TIMES, INDEX
        file.attrs["duration_s"] = 1.0
    assert read_recording(tmp_path / "a.h5").n_units == 3


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.float64])
def test_raster_files_round_trip(tmp_path, dtype):
    np.savez(tmp_path / "a.npz", raster=RASTER.astype(dtype), bin_s=0.02, positions=POSITIONS)
    np.save(tmp_path / "a.npy", RASTER.astype(dtype))
    for raster in (read_recording(tmp_path / "a.npz"), read_recording(tmp_path / "a.npy", bin_s=0.02)):
        assert np.array_equal(raster.values, RASTER.T) and raster.values.dtype == np.int8
        assert raster.bin_s == 0.02 and raster.report.spikes == 4 and raster.report.silent_units == [1]
    wide = read_recording(tmp_path / "a.npz", bin_s=0.04)
    assert wide.values.T.tolist() == [[1, 1], [0, 0], [1, 1]]


def test_a_missing_duration_is_reported(tmp_path):
    recording = read_recording(write_npz(tmp_path / "a.npz", duration_s=None))
    assert recording.duration_s == 0.99
    assert "duration_s" in recording.notes[0] and recording.bin(0.02).report.notes == recording.notes
    assert read_recording(write_hdf5(tmp_path / "b.h5", duration_s=None)).duration_s == 0.99


def test_nwb_positions(tmp_path):
    flat = read_recording(write_nwb(tmp_path / "flat.nwb", z=np.full(3, 5.0)))
    assert np.array_equal(flat.positions_um, POSITIONS) and any("one z" in n for n in flat.notes)
    deep = read_recording(write_nwb(tmp_path / "deep.nwb", z=[0.0, 1.0, 2.0]))
    assert deep.positions_um.shape == (3, 3)
    none = read_recording(write_nwb(tmp_path / "none.nwb", electrodes=None))
    assert none.positions_um is None and any("no positions" in n for n in none.notes)
    missing = read_recording(write_nwb(tmp_path / "missing.nwb", electrodes=((0,), (), (1,))))
    assert missing.positions_um is None and any("1 units have no electrode" in n for n in missing.notes)
    several = read_recording(write_nwb(tmp_path / "several.nwb", electrodes=((0, 1), (1,), (2,))))
    assert several.positions_um[0].tolist() == [21.0, 0.0] and any("mean" in n for n in several.notes)


# ---- malformed files
BAD_ARRAYS = [
    ({"spike_times": None}, ["spike_times", "missing", "positions, spike_index"]),
    ({"spike_index": None}, ["spike_index", "missing", "positions, spike_times"]),
    ({"spike_times": TIMES.reshape(2, 3)}, ["spike_times", "(2, 3)"]),
    ({"spike_times": TIMES.astype(complex)}, ["spike_times", "complex128"]),
    ({"spike_times": np.where(TIMES == 0.06, np.nan, TIMES)}, ["spike_times[2]", "nan", "unit 0", "finite"]),
    ({"spike_times": np.where(TIMES == 0.99, np.inf, TIMES)}, ["spike_times[5]", "inf", "unit 2", "finite"]),
    ({"spike_times": TIMES - 0.015}, ["spike_times[0]", "-0.00", "unit 0", "negative"]),
    ({"spike_times": TIMES[[1, 0, 2, 3, 4, 5]]}, ["spike_times[1]", "0.01", "0.02", "ascend"]),
    ({"spike_times": TIMES[[0, 1, 2, 3, 5, 4]]}, ["spike_times[5]", "unit 2", "ascend"]),
    ({"spike_times": TIMES * 2}, ["spike_times[5]", "1.98", "duration_s", "1.0"]),
    ({"spike_times": TIMES[:0], "spike_index": [0, 0, 0]}, ["no spike at all", "2 units"]),
    ({"spike_times": TIMES[:0], "spike_index": [0]}, ["spike_index", "no unit"]),
    ({"spike_index": np.array([1, 4, 4, 6])}, ["spike_index[0]", "1", "must be 0"]),
    ({"spike_index": np.array([0, 4, 3, 6])}, ["spike_index[2] = 3", "spike_index[1] = 4", "descend"]),
    ({"spike_index": np.array([0, 4, 4, 7])}, ["spike_index", "7", "6"]),
    ({"spike_index": np.array([0, 4, 4, 5])}, ["spike_index", "5", "6"]),
    ({"spike_index": INDEX.astype(float)}, ["spike_index", "float64"]),
    ({"spike_index": INDEX.reshape(2, 2)}, ["spike_index", "(2, 2)"]),
    ({"positions": POSITIONS[:2]}, ["positions", "2", "3 units"]),
    ({"positions": POSITIONS[:, 0]}, ["positions", "(3,)"]),
    ({"positions": np.zeros((3, 4))}, ["positions", "(3, 4)"]),
    ({"positions": np.array([[0, 0], [np.nan, 1], [1, 1]])}, ["positions[1]", "nan", "finite"]),
    ({"duration_s": 0.0}, ["duration_s", "0.0", "positive"]),
    ({"duration_s": -3.0}, ["duration_s", "-3.0", "positive"]),
    ({"duration_s": np.nan}, ["duration_s", "nan", "positive"]),
    ({"duration_s": np.array([1.0, 2.0])}, ["duration_s", "(2,)", "one number"]),
]


@pytest.mark.parametrize("write", [write_npz, write_hdf5])
@pytest.mark.parametrize(("changes", "words"), BAD_ARRAYS)
def test_bad_spike_files(tmp_path, write, changes, words):
    path = write(tmp_path / "bad.npz", **changes)
    fails_with(path, *words, call=lambda: read_recording(path))


BAD_RASTERS = [
    ({"raster": RASTER[0], "bin_s": 0.02}, ["raster", "(4,)", "units x bins"]),
    ({"raster": RASTER[:0], "bin_s": 0.02}, ["raster", "0 units x 4 bins", "empty"]),
    ({"raster": RASTER[:, :0], "bin_s": 0.02}, ["raster", "3 units x 0 bins", "empty"]),
    ({"raster": RASTER * 2, "bin_s": 0.02}, ["unit 0, bin 0 is 2", "bin the spikes"]),
    ({"raster": -RASTER, "bin_s": 0.02}, ["unit 0, bin 0 is -1", "0 and 1"]),
    ({"raster": RASTER * 0.5, "bin_s": 0.02}, ["unit 0, bin 0 is 0.5", "0 and 1"]),
    ({"raster": RASTER * np.nan, "bin_s": 0.02}, ["nan", "0 and 1"]),
    ({"raster": RASTER * 0, "bin_s": 0.02}, ["no spike at all", "3 units x 4 bins"]),
    ({"raster": RASTER.astype("U1"), "bin_s": 0.02}, ["raster", "<U1"]),
    ({"raster": RASTER}, ["bin_s", "--bin"]),
    ({"raster": RASTER, "bin_s": 0.0}, ["bin_s", "0.0", "positive"]),
    ({"raster": RASTER, "bin_s": -0.02}, ["bin_s", "-0.02", "positive"]),
    ({"raster": RASTER, "bin_s": np.inf}, ["bin_s", "inf", "positive"]),
    ({"raster": RASTER, "bin_s": "20 ms"}, ["bin_s", "one number"]),
    ({"raster": RASTER, "bin_s": 0.02, "positions": POSITIONS[:1]}, ["positions", "1", "3 units"]),
    ({"raster": RASTER, "bin_s": 0.02, "spike_times": TIMES}, ["raster", "spike_times", "one of them"]),
]


@pytest.mark.parametrize(("arrays", "words"), BAD_RASTERS)
def test_bad_raster_files(tmp_path, arrays, words):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    fails_with(path, *words, call=lambda: read_recording(path))


def _cut(path, source, size):
    path.write_bytes(Path(source).read_bytes()[:size])
    return path


def bad_containers(folder):
    """(path, bin width, words of the message)."""
    good_h5, good_npz = write_hdf5(folder / "good.h5"), write_npz(folder / "good.npz")
    np.save(folder / "good.npy", RASTER)
    np.savez(folder / "objects.npz", spike_times=np.array([[1], [2, 3]], object), spike_index=INDEX)
    (folder / "empty").touch()
    (folder / "text.csv").write_text("unit,time\n0,0.1\n")
    with h5py.File(folder / "group.h5", "w") as file:
        file.create_group("spike_times")
        file["spike_index"] = INDEX
    with h5py.File(folder / "scalar.h5", "w") as file:
        file["spike_times"], file["spike_index"] = 1.0, INDEX
    with h5py.File(folder / "bare.h5", "w"):
        pass
    with zipfile.ZipFile(folder / "text.npz", "w") as file:
        file.writestr("spike_times", "0.1")
        file.writestr("spike_index", "0")
    half = good_h5.stat().st_size // 2
    return [
        (folder / "absent.h5", None, ["no such file"]),
        (folder, None, ["directory"]),
        (folder / "empty", None, ["empty"]),
        (folder / "text.csv", None, ["not a recording", "npz"]),
        (_cut(folder / "cut.h5", good_h5, half), None, ["HDF5"]),
        (_cut(folder / "cut.npz", good_npz, 300), None, ["truncated or damaged"]),
        (_cut(folder / "cut.npy", folder / "good.npy", 133), 0.02, ["truncated or damaged"]),
        (folder / "good.npy", None, ["bin_s", "--bin"]),
        (folder / "good.npy", 0.0, ["bin_s", "positive"]),
        (folder / "objects.npz", None, ["damaged"]),
        (folder / "group.h5", None, ["spike_times is a group"]),
        (folder / "scalar.h5", None, ["spike_times is a single value"]),
        (folder / "bare.h5", None, ["spike_times", "holds nothing"]),
        (folder / "text.npz", None, ["spike_index", "not an array"]),
        (write_hdf5(folder / "n.h5", attributes={"n_units": 4}), None, ["n_units is 4", "4 entries"]),
        (write_nwb(folder / "a.nwb", spike_times=None), None, ["units/spike_times", "units/electrodes"]),
        (write_nwb(folder / "b.nwb", spike_times_index=None), None, ["units/spike_times_index"]),
        (write_nwb(folder / "c.nwb", spike_times_index=[4, 4, 9]), None, ["spike_index ends at 9", "6"]),
        (
            write_nwb(folder / "d.nwb", spike_times_index=[4.0, 4.0, 6.0]),
            None,
            ["spike_times_index", "float64"],
        ),
        (
            write_nwb(folder / "e.nwb", electrodes=((0,), (1,), (7,))),
            None,
            ["units/electrodes[2] = 7", "0 to 2"],
        ),
        (write_nwb(folder / "f.nwb", electrodes=((0,), (1,))), None, ["2 units", "3"]),
        (write_npz(folder / "nan.npz", spike_times=TIMES * np.nan, duration_s=None), None, ["finite"]),
    ]


def test_bad_containers(tmp_path):
    for path, bin_s, words in bad_containers(tmp_path):
        fails_with(path, *words, call=lambda p=path, b=bin_s: read_recording(p, b))


@pytest.mark.parametrize("write", [write_npz, write_hdf5, write_nwb])
def test_damaged_bytes_never_raise_anything_else(tmp_path, write):
    rng = np.random.default_rng(0)
    good = write(tmp_path / "good.npz").read_bytes()
    for k in range(100):
        damaged = bytearray(good)
        for where in rng.integers(0, len(good), 6):
            damaged[where] = rng.integers(256)
        path = tmp_path / f"damaged_{k}"
        path.write_bytes(damaged[: rng.integers(1, len(good)) if k % 4 == 0 else None])
        try:
            recording = read_recording(path, 0.01)
        except InputError as reason:
            assert str(path) in str(reason) and "\n" not in str(reason)
        else:
            assert recording.n_units >= 1


# ---- binning
def test_a_spike_on_an_edge_goes_to_the_later_bin():
    for width in (0.02, 0.1, 0.005, 0.001, 0.0003, 1 / 3, 0.7):
        edges = np.round(np.arange(3000) * width, 12)
        recording = Recording(edges, [0, 3000], 3000 * width)
        raster = recording.bin(width)
        assert raster.n_bins == 3000 and raster.values.all() and raster.report.clipped == 0
    assert np.flatnonzero(Recording([0.06], [0, 1], 1.0).bin(0.02).values).tolist() == [3]


def test_the_plain_floor_would_put_edges_wrong():
    """The mutant that the rule of the edges replaces: the oracle tells them apart."""
    times = np.round(np.arange(500) * 0.02, 2)
    oracle, _, _ = bin_by_hand(times, [0, 500], 0.0, 0.02, 500)
    assert np.array_equal(Recording(times, [0, 500], 10.0).bin(0.02).values, oracle)
    assert np.any(np.floor(times / 0.02) != np.flatnonzero(oracle))


def test_a_spike_just_before_an_edge_stays():
    raster = Recording([0.06 - 1e-5 * 0.02], [0, 1], 1.0).bin(0.02)
    assert np.flatnonzero(raster.values).tolist() == [2]


@pytest.mark.parametrize("seed", range(20))
def test_binning_against_exact_arithmetic(seed):
    rng = np.random.default_rng(seed)
    # Decimal times, so that many spikes lie exactly on edges.
    recording = random_recording(rng, rate=rng.choice([0.5, 5, 15]), decimals=int(rng.choice([2, 3])))
    width = float(rng.choice([0.01, 0.02, 0.03, 0.001, 0.07]))
    start, stop = sorted(np.round(rng.choice(201, 2, replace=False) * 0.01, 2).tolist())
    stop = max(stop, round(start + 0.07, 2))
    if stop > 2.0:
        start, stop = 0.0, 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        raster = recording.bin(width, start, stop)
    n_bins = round((stop - start) * 1000) // round(width * 1000)
    values, clipped, outside = bin_by_hand(recording.spike_times, recording.spike_index, start, width, n_bins)
    assert np.array_equal(raster.values, values)
    report = raster.report
    assert np.array_equal(report.clipped_of_unit, clipped) and np.array_equal(report.outside_of_unit, outside)
    assert report.spikes == values.sum() + report.clipped + report.outside == len(recording.spike_times)
    assert report.dropped_tail_s == pytest.approx(stop - start - n_bins * width, abs=1e-9)
    assert report.silent_units == np.flatnonzero(values.sum(axis=0) == 0).tolist()


def test_the_report_counts_every_spike():
    recording = Recording([0.001, 0.002, 0.003, 0.021, 0.049, 0.03], [0, 5, 5, 6], 0.05)
    with pytest.warns(DataWarning, match="2 of 5"):
        raster = recording.bin(0.02)
    report = raster.report
    assert report.clipped_of_unit.tolist() == [2, 0, 0] and report.outside_of_unit.tolist() == [1, 0, 0]
    assert report.clipped_fraction == 2 / 5 and report.dropped_tail_s == pytest.approx(0.01)
    assert report.silent_units == [1] and raster.n_bins == 2
    assert report.as_dict()["clipped"] == 2
    assert raster.rates_hz.tolist() == pytest.approx([50, 0, 25])


def test_clipping_below_five_percent_does_not_warn():
    times = np.append(np.arange(98) * 0.01 + 0.001, [0.9712])
    assert Recording(times, [0, 99], 1.0).bin(0.01).report.clipped == 1


def test_bad_binning():
    recording = Recording(TIMES, INDEX, 1.0, source="rec.h5")
    cases = [
        (lambda: recording.bin(0), ["bin_s", "0"]),
        (lambda: recording.bin(-0.1), ["bin_s", "-0.1"]),
        (lambda: recording.bin("20 ms"), ["bin_s", "20 ms"]),
        (lambda: recording.bin(math.nan), ["bin_s", "nan"]),
        (lambda: recording.bin(2.0), ["bin of 2 s", "longer"]),
        (lambda: recording.bin(1e-12), ["1e-12", "bins"]),
        (lambda: recording.bin(0.1, 0.5, 0.2), ["0.5", "0.2", "start < stop"]),
        (lambda: recording.bin(0.1, -0.5), ["-0.5"]),
        (lambda: recording.bin(0.1, 0, 1.5), ["1.5"]),
        (lambda: recording.bin(0.1, math.nan), ["nan"]),
        (lambda: recording.window(0.5, 0.5), ["0.5"]),
        (lambda: recording.select([0, 3]), ["unit 3", "0 to 2"]),
        (lambda: recording.select([-1]), ["unit -1", "0 to 2"]),
        (lambda: recording.select([1, 1]), ["twice"]),
        (lambda: recording.select([]), ["at least one"]),
        (lambda: recording.trials([], 0.1, 0.1, 0.01), ["events", "(0,)"]),
        (lambda: recording.trials([0.5, 0.05], 0.1, 0.1, 0.01), ["event 1 at 0.05 s", "leaves"]),
        (lambda: recording.trials([0.5, 0.95], 0.1, 0.1, 0.01), ["event 1 at 0.95 s", "leaves"]),
        (lambda: recording.trials([0.5, math.nan], 0.1, 0.1, 0.01), ["event 1 at nan"]),
        (lambda: recording.trials([0.5], -0.1, 0.2, 0.01), ["before_s", "-0.1"]),
        (lambda: recording.trials([0.5], 0.1, 0.1, 1.0), ["longer"]),
        (lambda: recording.bin_lattice(0.1), ["no positions"]),
        (lambda: recording.bin_lattice(0.1, kind="real"), ["kind", "spin, gas"]),
        (lambda: recording.bin(0.01).lattice(), ["no positions"]),
    ]
    for call, words in cases:
        fails_with("rec.h5" if "kind" not in words else "", *words, call=call)


# ---- parts
@pytest.mark.parametrize("seed", range(5))
def test_a_window_bins_like_the_stretch(seed):
    recording = random_recording(np.random.default_rng(seed), rate=4.0)
    part = recording.window(0.4, 1.6)
    assert part.duration_s == pytest.approx(1.2)
    assert np.array_equal(part.bin(0.001).values, recording.bin(0.001, 0.4, 1.6).values)


def test_the_whole_window_is_the_recording():
    recording = Recording([0.0, 1.0], [0, 2], 1.0)
    assert recording.window(0, 1.0).spike_times.tolist() == [0.0, 1.0]


def test_a_window_is_half_open():
    recording = Recording([0.25, 0.5, 0.75], [0, 3], 1.0)
    assert recording.window(0.25, 0.75).spike_times.tolist() == [0.0, 0.25]


def test_selected_units_keep_their_index():
    recording = random_recording(np.random.default_rng(1), positions_um=np.arange(14.0).reshape(7, 2))
    part = recording.select([5, 2]).select([1])
    assert part.unit.tolist() == [2] and part.positions_um.tolist() == [[4.0, 5.0]]
    unit = slice(recording.spike_index[2], recording.spike_index[3])
    assert np.array_equal(part.spike_times, recording.spike_times[unit])
    silent = Recording(TIMES, INDEX, 1.0).select([1, 2]).bin(0.01)
    assert silent.report.silent_units == [1]


def test_trials_are_aligned_stretches():
    recording = random_recording(np.random.default_rng(3), rate=2.0)
    events = [0.3, 0.777, 1.5]
    trials = recording.trials(events, 0.1, 0.25, 0.01)
    for event, trial in zip(events, trials, strict=True):
        assert trial.n_bins == 35 and trial.report.start_s == pytest.approx(event - 0.1)
        assert np.array_equal(trial.values, recording.bin(0.01, event - 0.1, event + 0.25).values)


def test_the_arrays_of_a_recording_cannot_be_changed():
    times = TIMES.copy()
    recording = Recording(times, INDEX, 1.0)
    times[0] = 99
    assert recording.spike_times[0] == 0.01
    with pytest.raises(ValueError, match="read-only"):
        recording.spike_times[0] = 1


# ---- wider bins
@pytest.mark.parametrize("factor", [1, 2, 3, 7])
def test_coarse_bins_are_bins_of_the_spikes(factor):
    recording = random_recording(np.random.default_rng(4), duration=1.0, rate=3.0)
    fine = recording.bin(0.001)
    coarse, direct = fine.coarsen(0.001 * factor), recording.bin(0.001 * factor)
    assert np.array_equal(coarse.values, direct.values)
    for name in ("spikes", "clipped", "outside", "silent_units"):
        assert getattr(coarse.report, name) == getattr(direct.report, name), name
    assert coarse.report.dropped_tail_s == pytest.approx(direct.report.dropped_tail_s)


@pytest.mark.filterwarnings("ignore::lft.errors.DataWarning")
def test_coarsening_keeps_what_was_lost_before():
    recording = random_recording(np.random.default_rng(5), duration=1.0, rate=3.0)
    raster = recording.bin(0.001, 0.1, 0.905)
    steps, once = raster.coarsen(0.002).coarsen(0.01), raster.coarsen(0.01)
    assert steps.n_bins == once.n_bins == 80 and np.array_equal(steps.values, once.values)
    for report in (raster.report, steps.report, once.report):
        assert report.outside > 0 and (report.clipped_of_unit >= 0).all()
        assert report.spikes == len(recording.spike_times)
    assert steps.report.outside == once.report.outside
    assert once.report.spikes - once.report.clipped - once.report.outside == once.values.sum()
    assert once.report.dropped_tail_s == pytest.approx(0.005)
    assert steps.report.dropped_tail_s == pytest.approx(0.005)


def test_bad_coarsening():
    raster = Raster(RASTER.T, 0.02)
    fails_with("30 ms", "20 ms", call=lambda: raster.coarsen(0.03))
    fails_with("10 ms", "20 ms", call=lambda: raster.coarsen(0.01))
    fails_with("longer", "80 ms", call=lambda: raster.coarsen(0.1))


# ---- lattices
def test_pitch_of_a_grid_with_gaps():
    rng = np.random.default_rng(0)
    sites = np.argwhere(rng.random((12, 9)) < 0.5)
    assert find_pitch(sites * [42.0, 100.0] + [7.0, -3.0]) == pytest.approx((42.0, 100.0))
    assert find_pitch(np.round(sites * 41.67, 2)) == pytest.approx((41.67, 41.67), rel=1e-3)
    assert find_pitch([[5.0, 0.0], [5.0, 30.0]]) == (30.0, 30.0)
    assert find_pitch([[0.0], [30.0], [90.0]]) == (30.0,)
    assert find_pitch(np.indices((2, 3, 2)).reshape(3, -1).T * [1.0, 2.0, 4.0]) == (1.0, 2.0, 4.0)


def test_pitch_tolerates_rounding_not_more():
    ideal = np.array([0.0, 42.0, 84.0, 126.0])
    assert find_pitch((ideal + np.array([0, 0.3, -0.2, 0.1]))[:, None])[0] == pytest.approx(42, rel=0.01)
    fails_with(
        "unit 2 at x = 85", "--pitch", call=lambda: find_pitch((ideal + np.array([0, 0, 1, 0]))[:, None])
    )


def test_coordinates_that_differ_by_rounding_are_one():
    assert find_pitch([[0.0], [41.8], [42.0], [84.0]])[0] == pytest.approx(42, rel=0.01)


def test_irregular_positions_name_a_unit():
    fails_with("unit", "does not stand", call=lambda: find_pitch(np.random.default_rng(0).random((30, 2))))
    fails_with("unit 30 at y", call=lambda: find_pitch([[0, 0], [1, 2], [1, 5]], unit=[10, 20, 30]))
    fails_with("share one position", call=lambda: find_pitch([[1.0, 1.0]]))


def test_placement_and_collisions():
    placement = place([[0, 0], [41, 1], [84, 42]], 42)
    assert placement.sites.tolist() == [[0, 0], [1, 0], [2, 1]]
    assert placement.largest_displacement_um == pytest.approx(math.sqrt(2))
    assert placement.mask.tolist() == [[True, False], [True, False], [False, True]]
    fails_with("units 5 and 9", "(1, 0)", call=lambda: place([[0, 0], [40, 0], [43, 1]], 42, unit=[1, 9, 5]))
    for pitch in (0, -1, math.nan, "42 um", [1, 2, 3]):
        fails_with("pitch", call=lambda p=pitch: place(POSITIONS, p))


def test_lattice_of_a_recording():
    recording = Recording(TIMES, INDEX, 1.0, POSITIONS)
    lattice = recording.bin(0.02).lattice(pitch_um=(42, 84))
    assert lattice.shape == (2, 2, 50) and lattice.axes == ("x", "y", "t")
    assert lattice.boundary == ("open",) * 3 and lattice.spacing == ("42 um", "84 um", "20 ms")
    assert lattice.mask.tolist() == [[True, True], [True, False]]
    line = Recording(TIMES, INDEX, 1.0, POSITIONS[:, :1] + [[0], [0], [10]])
    assert line.bin(0.02).lattice(pitch_um=10).axes == ("x", "t")


@pytest.mark.parametrize("n_axes", [1, 2, 3])
@pytest.mark.parametrize("width", [0, 1, 2])
def test_lattice_fields_hold_the_spikes(n_axes, width):
    rng = np.random.default_rng(n_axes)
    shape = (9, 3, 2)[:n_axes]
    chosen = np.flatnonzero(rng.random(math.prod(shape)) < 0.7)
    sites = np.stack(np.unravel_index(chosen, shape), axis=1)
    sites -= sites.min(axis=0)
    positions = rng.permutation(sites) * 42.0
    recording = random_recording(rng, len(positions), rate=3.0, positions_um=positions)
    raster, halo = recording.bin(0.003), (width,) * (n_axes + 1)
    spin, gas = raster.lattice_field(pitch_um=42, halo=halo), recording.bin_lattice(0.003, 42, kind="gas")
    direct = recording.bin_lattice(0.003, 42, halo=halo)
    assert direct.report.displacement_um == 0.0
    assert np.array_equal(direct.placement.sites * 42, positions - positions.min(axis=0))
    assert spin.geometry == gas.field.geometry == direct.field.geometry
    assert np.array_equal(spin.data, direct.field.data)
    array, mask = direct.field.array(), direct.field.geometry.mask
    for u, site in enumerate(raster.unit_sites if n_axes == 1 else raster.place(42).sites):
        assert np.array_equal(array[tuple(site)], 2 * raster.values[:, u] - 1)
        assert np.array_equal(gas.field.array()[tuple(site)], raster.values[:, u])
    if mask is not None:
        assert not array[~mask].any() and not gas.field.array()[~mask].any()
    direct.field.check()


def test_graph_field():
    field = Raster(RASTER.T, 0.02).graph_field()
    assert field.kind == "gas" and field.geometry.bin_width == "20 ms"
    assert np.array_equal(field.values, RASTER.T)
    field.check()


def test_a_raster_that_does_not_fit_into_memory():
    far = Recording(TIMES, INDEX, 1.0, POSITIONS * 1e5)
    fails_with("GB", call=lambda: far.bin_lattice(1e-5, pitch_um=1.0))


# ---- real recordings
@pytest.fixture
def data():
    folder = os.environ.get("LFT_DATA")
    if not folder:
        pytest.skip("LFT_DATA does not name the folder with the real recordings")
    return Path(folder)


PUBLISHED = [
    ("retina_P11_m1r2.h5", 0.02, 1152, 90000, 0.0060, 0.086, 61),
    ("retina_P11_m1r2.h5", 0.1, 1152, 18000, 0.0221, 0.002, 154),
    ("retina_P9_7mar.h5", 0.02, 1240, 90000, 0.0037, 0.231, 90),
    ("culture_ctx_DIV28.h5", 0.005, 59, 182400, 0.0640, 0.549, 52),
    ("aplysia_Jun0514_da01.h5", 0.05, 160, 2454, 0.0556, 0.024, 63),
]


@pytest.mark.filterwarnings("ignore::lft.errors.DataWarning")
@pytest.mark.parametrize(("name", "bin_s", "n_units", "n_bins", "p", "p_silence", "k_max"), PUBLISHED)
def test_statistics_of_real_recordings(data, name, bin_s, n_units, n_bins, p, p_silence, k_max):
    raster = read_recording(data / name).bin(bin_s)
    active = raster.values.sum(axis=1, dtype=int)
    assert (raster.n_units, raster.n_bins) == (n_units, n_bins)
    assert raster.values.mean() == pytest.approx(p, abs=5e-5)
    assert (active == 0).mean() == pytest.approx(p_silence, abs=5e-4)
    assert active.max() == k_max


@pytest.mark.filterwarnings("ignore::lft.errors.DataWarning")
def test_the_retina_is_a_lattice(data):
    recording = read_recording(data / "retina_P11_m1r2.h5")
    raster = recording.bin(1.0)
    lattice = raster.lattice()
    assert lattice.shape == (64, 64, 1800) and lattice.spacing[:2] == ("42 um", "42 um")
    assert int(lattice.mask.sum()) == 1152
    assert np.array_equal(raster.unit_sites * 42.0, recording.positions_um)


def test_the_aplysia_is_no_lattice(data):
    recording = read_recording(data / "aplysia_Jun0514_da01.h5")
    fails_with("aplysia", "unit", "--pitch", call=lambda: recording.bin(0.05).lattice())
    fails_with("units 110 and 115", call=lambda: recording.bin(0.05).lattice(pitch_um=2.0))
