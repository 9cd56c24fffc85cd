"""``fit`` (and what ``flow`` refuses like it): recordings, models, methods, options."""

import numpy as np

from tests.unit.bad.files import GRID, TIMES, Case, npy, raster, raster_of, replaced, spikes

FIT = "fit {}/rec.h5 -o {}/fit.h5 --bin 20ms"
FIT_NPZ = "fit {}/rec.npz -o {}/fit.h5"


def both(id, options, words, files):
    """A recording, or an option on it, that ``lft fit`` and ``lft flow`` refuse alike."""
    return [Case(f"{c}: {id}", f"{c} {options} -o {{}}/out.h5", words, files) for c in ("fit", "flow")]


CASES = [
    *both("missing", "{}/rec.h5 --bin 20ms", "rec.h5|no such file", {}),
    *both("a folder", "{} --bin 20ms", "is a directory", {}),
    *both("text", "{}/rec.txt --bin 20ms", "rec.txt|not a recording|NWB", {"rec.txt": b"0.1 0.2\n"}),
    *both("empty file", "{}/rec.h5 --bin 20ms", "rec.h5|empty", {"rec.h5": b""}),
    *both("truncated HDF5", "{}/rec.h5 --bin 20ms", "rec.h5|truncated",
          lambda: {"rec.h5": spikes()["rec.h5"][:4000]}),
    *both("truncated .npz", "{}/rec.npz", "rec.npz|damaged", lambda: {"rec.npz": raster()["rec.npz"][:700]}),
    *both("truncated .npy", "{}/rec.npy --bin 20ms", "rec.npy|damaged",
          lambda: {"rec.npy": npy(raster_of())[:-9]}),
    *both("objects in .npy", "{}/rec.npy --bin 20ms", "rec.npy",
          lambda: {"rec.npy": npy(np.array([None, "a"], dtype=object))}),
    *both("unsorted times", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[70]|unit 1|ascend",
          lambda: spikes(spike_times=replaced(TIMES, 70, 0.0))),
    *both("a negative time", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[0]|-0.5|negative",
          lambda: spikes(spike_times=replaced(TIMES, 0, -0.5))),
    *both("a time that is nan", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[5]|nan|finite",
          lambda: spikes(spike_times=replaced(TIMES, 5, np.nan))),
    *both("an infinite time", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[59]|inf|finite",
          lambda: spikes(spike_times=replaced(TIMES, 59, np.inf))),
    *both("a time after the end", "{}/rec.h5 --bin 20ms", "rec.h5|spike_times[59]|9.5|duration_s",
          lambda: spikes(spike_times=replaced(TIMES, 59, 9.5))),
    *both("no duration", "{}/rec.h5 --bin 20ms", "rec.h5|duration_s|0",
          lambda: spikes(attributes={"duration_s": 0.0})),
    *both("no spikes", "{}/rec.h5 --bin 20ms", "rec.h5|no spike",
          lambda: spikes(spike_times=np.zeros(0), spike_index=np.zeros(7, int))),
    *both("no units", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index|no unit",
          lambda: spikes(spike_times=np.zeros(0), spike_index=np.zeros(1, int), positions=None)),
    *both("index beyond the spikes", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index|361|360",
          lambda: spikes(spike_index=replaced(np.arange(7) * 60, 6, 361))),
    *both("index descends", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index[3]|descend",
          lambda: spikes(spike_index=replaced(np.arange(7) * 60, 2, 300))),
    *both("index of floats", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index|integers",
          lambda: spikes(spike_index=np.arange(7) * 60.0)),
    *both("no index", "{}/rec.h5 --bin 20ms", "rec.h5|spike_index|missing", lambda: spikes(spike_index=None)),
    *both("no positions", "{}/rec.h5 --bin 20ms", "rec.h5|no positions", lambda: spikes(positions=None)),
    *both("too few positions", "{}/rec.h5 --bin 20ms", "rec.h5|positions|5|6",
          lambda: spikes(positions=GRID[:5])),
    *both("irregular positions", "{}/rec.h5 --bin 20ms", "rec.h5|unit|lattice|--pitch",
          lambda: spikes(positions=replaced(GRID, (2, 0), 17.3))),
    *both("two units on a site", "{}/rec.h5 --bin 20ms", "rec.h5|units 0 and 5|site (0, 0)",
          lambda: spikes(positions=replaced(GRID, 5, 0.0))),
    *both("a position that is nan", "{}/rec.h5 --bin 20ms", "rec.h5|positions[3]|finite",
          lambda: spikes(positions=replaced(GRID, 3, np.nan))),
    *both("raster of counts", "{}/rec.npz", "rec.npz|unit 1, bin 2|2|0 and 1",
          lambda: raster(raster=replaced(raster_of().astype(int), (1, 2), 2))),
    *both("raster of fractions", "{}/rec.npz", "rec.npz|unit 1, bin 2|0.5|0 and 1",
          lambda: raster(raster=replaced(raster_of().astype(float), (1, 2), 0.5))),
    *both("raster with nan", "{}/rec.npz", "rec.npz|unit 1, bin 2|nan|0 and 1",
          lambda: raster(raster=replaced(raster_of().astype(float), (1, 2), np.nan))),
    *both("raster of one axis", "{}/rec.npz", "rec.npz|raster|shape (400,)",
          lambda: raster(raster=raster_of()[0])),
    *both("raster without spikes", "{}/rec.npz", "rec.npz|no spike",
          lambda: raster(raster=np.zeros((6, 400)))),
    *both("raster without bins", "{}/rec.npz", "rec.npz|empty", lambda: raster(raster=np.zeros((6, 0)))),
    *both("raster of negative bins", "{}/rec.npz", "rec.npz|bin_s|-0.02", lambda: raster(bin_s=-0.02)),
    *both(".npy without --bin", "{}/rec.npy", "rec.npy|--bin", lambda: {"rec.npy": npy(raster_of())}),
    *both("spikes without --bin", "{}/rec.h5", "rec.h5|--bin", spikes),
    *[case for text in ("0", "0ms", "-20ms", "20", "20um", "ms", "nan ms", "1e999s")
      for case in both(f"--bin {text}", f"{{}}/rec.h5 --bin={text.replace(' ', '')}", "--bin|ms", spikes)],
    *both("--bin longer than the recording", "{}/rec.h5 --bin 9s", "rec.h5|9 s|longer|8 s", spikes),
    *both("--bin no multiple", "{}/rec.npz --bin 30ms", "rec.npz|30 ms|multiple|20 ms", raster),
    *both("--bin longer than the raster", "{}/rec.npz --bin 9s", "rec.npz|9 s|longer", raster),
    *both("--bin that makes too many bins", "{}/rec.h5 --bin 1e-12s", "rec.h5|bins", spikes),
    *both("--pitch of time", "{}/rec.h5 --bin 20ms --pitch 20ms", "--pitch|20ms|um", spikes),
    *both("--pitch 0", "{}/rec.h5 --bin 20ms --pitch 0um", "--pitch|0um", spikes),
    *both("--pitch too wide", "{}/rec.h5 --bin 20ms --pitch 400um", "rec.h5|units|site|pitch", spikes),
    *[case for reach in ("1", "a,b", "-1,1", "1,1,1", "1.5,1", "", "1,999999999", "999999999,1")
      for case in both(f"--reach {reach}", f"{{}}/rec.npz --reach={reach}", f"--reach|{reach}|SPACE,TIME",
                       raster)],
    *both("--reach 0,0", "{}/rec.npz --reach 0,0", "reach|(0, 0)", raster),
    *both("--reach with too many couplings", "{}/rec.npz --reach 1,60", "displacements|22", raster),
    *both("unknown method", "{}/rec.npz --method boltzman", "--method|boltzman", raster),
    *both("output exists", "{}/rec.npz", "out.h5|exists|--overwrite",
          lambda: {**raster(), "out.h5": b"mine"}),
    *both("output is the recording", "{}/out.h5 --bin 20ms --overwrite", "out.h5|is read",
          lambda: {"out.h5": spikes()["rec.h5"]}),
    *[Case(f"{c}: output in a missing folder", f"{c} {{}}/rec.npz -o {{}}/no/out.h5", "no|does not exist",
           raster)
      for c in ("fit", "flow")],
    *[Case(f"{c}: no output", f"{c} {{}}/rec.npz", f"{c}|-o", raster) for c in ("fit", "flow")],
    *[Case(f"--test {f}", f"{FIT_NPZ} --test={f}", f"--test|{f}|valid is a", raster)
      for f in ("1", "-0.1", "nan", "inf", "half", "")],
    Case("--test that leaves nothing", f"{FIT_NPZ} --test 0.9999", "train", raster),
    Case("unknown model", f"{FIT_NPZ} --model latice",
         "--model|latice|independent, lattice, neural, pairwise", raster),
    *[Case(f"--ridge {r}", f"{FIT_NPZ} --model neural --ridge={r}", f"ridge|{r}|valid is a|number", raster)
      for r in ("-1", "nan", "inf", "much")],
    *[Case(f"--window {w}", f"{FIT} --window={w}", words, spikes) for w, words in {
        "1": "--window|1|START,STOP", "a,b": "--window|a,b", "1,2,3": "--window|1,2,3", "5,3": "5.0|3.0|8",
        "-1,3": "-1.0|8", "0,9": "9.0|8", "nan,3": "nan|8", "8,9": "8.0|9.0",
        "": "--window|START,STOP"}.items()],
    Case("--window of a raster", f"{FIT_NPZ} --window 1,2", "--window|raster", raster),
    *[Case(f"--units {u}, {name}", f"{command} --units={u}", words, files)
      for name, command, files in (("spikes", FIT, spikes), ("raster", FIT_NPZ, raster)) for u, words in {
          "a": "--units|a|0,3,10-20", "0,": "--units|0,3,10-20", "9": "--units|9|5", "-1": "--units|-1",
          "0,0": "--units|0|twice", "3-1": "--units|3-1", "0-99999999999": "--units|99999999999|5",
          "": "--units|0,3,10-20"}.items()],
    *[Case(f"more parameters than bins, {model}", f"fit {{}}/rec.npz -o {{}}/fit.h5 --model {model}",
           "40 training bins|parameters of each unit|ridge", lambda: raster(raster=raster_of(151, 50), positions=None))
      for model in ("pairwise", "neural", "k-pairwise", "lagged")],
    *[Case(f"--reach beyond the raster, {model}", f"{FIT_NPZ} --model {model} --reach 0,400",
           "--reach|0,400|400 bins", raster) for model in ("neural", "lagged")],
    Case("lagged without a lag", f"{FIT_NPZ} --model lagged --reach 1,0", "--reach|1,0|lagged|at least 1 bin", raster),
    Case("the search of a fit is another file", f"{FIT_NPZ} --model pairwise", "fit.h5.search|not the search of a fit",
         lambda: {**raster(), "fit.h5.search": b"mine"}),
]
