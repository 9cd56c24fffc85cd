"""``status``, ``analyze`` and ``resume`` of archives and of what is none."""

import numpy as np

from tests.unit.bad.files import Case, altered, archive, raster, spikes

CASES = [
    *[Case(f"{c}: {name}", f"{c} {{}}/a.h5", f"a.h5|{words}", {} if content is None else {"a.h5": content})
      for c in ("status", "analyze", "resume")
      for name, words, content in (
          ("missing", "no such file", None),
          ("text", "not a readable HDF5", b"not an archive\n"),
          ("empty", "not a readable HDF5", b""),
          ("another HDF5", "schema|lft-archive", spikes()["rec.h5"]),
      )],
    *[Case(f"{c}: {name}", f"{c} {{}}/a.h5", f"a.h5|{words}",
           lambda change=change: {"a.h5": altered(change)})
      for c in ("status", "analyze", "resume")
      for name, words, change in (
          ("newer schema", "schema version 99|1", lambda f: f.attrs.modify("schema_version", 99)),
          ("schema version is text", "damaged", lambda f: f.attrs.__setitem__("schema_version", "new")),
          ("without schema version", "damaged", lambda f: f.attrs.pop("schema_version")),
          ("without state", "damaged|state", lambda f: f.pop("state")),
          ("without samples", "damaged|samples", lambda f: f.pop("samples")),
          ("without meta", "damaged|meta", lambda f: f.pop("meta")),
          ("without config", "damaged|config", lambda f: f["meta"].attrs.pop("config")),
          ("config no JSON", "damaged", lambda f: f["meta"].attrs.modify("config", "{")),
          ("config without a run", "damaged|run", lambda f: f["meta"].attrs.modify("config", "{}")),
          ("without shape", "damaged|shape", lambda f: f["lattice"].attrs.pop("shape")),
          ("without couplings", "damaged|couplings", lambda f: f["action"].attrs.pop("couplings")),
          ("unknown action", "damaged", lambda f: f["action"].attrs.modify("name", "potts")),
          ("without t", "damaged|t", lambda f: f["state"].attrs.pop("t")),
      )],
    *[Case(f"{c}: {name}", f"{c} {{}}/a.h5", f"a.h5|damaged|{words}",
           lambda change=change: {"a.h5": altered(change)})
      for c in ("analyze", "resume")
      for name, words, change in (
          ("without field", "state/field", lambda f: f["state"].pop("field")),
          ("field too short", "state/field", lambda f: (f["state"].pop("field"),
                                                        f["state"].create_dataset("field",
                                                                                  data=np.zeros(1,
                                                                                                np.uint8)))),
      )],
    Case("analyze: without update index", "analyze {}/a.h5", "a.h5|measurements",
         lambda: {"a.h5": altered(lambda f: f["samples"].pop("t"))}),
    Case("resume: without seed", "resume {}/a.h5", "a.h5|damaged|seed",
         lambda: {"a.h5": altered(lambda f: f["meta"].attrs.pop("seed"))}),
    Case("resume: without counters", "resume {}/a.h5", "a.h5|damaged|proposed",
         lambda: {"a.h5": altered(lambda f: f["state"].attrs.pop("proposed"))}),
    Case("resume: another kernel", "resume {}/a.h5", "a.h5|kernel|cuda",
         lambda: {"a.h5": altered(lambda f: f["meta"].attrs.modify("kernel", "cuda"))}),
    *[Case(f"resume --updates {n}", f"resume {{}}/a.h5 --updates {n}", f"--updates|{n}|integer",
           lambda: {"a.h5": archive()}) for n in ("0", "-5", "many", "1.5")],
    Case("resume --updates beyond the counter", "resume {}/a.h5 --updates 140737488355328", "--updates|2^47",
         lambda: {"a.h5": archive()}),
    Case("resume --updates without a number", "resume {}/a.h5 --updates", "--updates|argument",
         lambda: {"a.h5": archive()}),
    Case("a folder as archive", "status {}", "is a directory"),
    Case("analyze: too few measurements", "analyze {}/a.h5", "a.h5|1 measurements|4",
         lambda: {"a.h5": archive("short")}),
    *[Case(f"{c}: --json in a missing folder", f"{c} --json {{}}/no/out.json", "no|does not exist", files)
      for c, files in (("status {}/a.h5", lambda: {"a.h5": archive()}),
                       ("analyze {}/a.h5", lambda: {"a.h5": archive()}),
                       ("info", {}), ("bench", {}),
                       ("fit {}/rec.npz -o {}/fit.h5", raster), ("flow {}/rec.npz -o {}/flow.h5", raster))],
    Case("--json is something else", "status {}/a.h5 --json {}/paper.txt", "paper.txt|exists|not JSON",
         lambda: {"a.h5": archive(), "paper.txt": b"A paper\n"}),
    Case("--json and --plot are one", "analyze {}/a.h5 --json {}/x.png --plot {}/x.png", "x.png|two outputs",
         lambda: {"a.h5": archive()}),
    Case("--json and the output are one", "fit {}/rec.npz -o {}/fit.h5 --json {}/fit.h5",
         "fit.h5|two outputs", raster),
    Case("--json is a folder", "status {}/a.h5 --json {}", "is a directory", lambda: {"a.h5": archive()}),
    *[Case(f"{c}: --json is the input", f"{c} {{}}/a.h5 --json {{}}/a.h5", "a.h5|is read",
           lambda: {"a.h5": archive()}) for c in ("status", "analyze")],
    *[Case(f"{c}: --plot {name}", f"{c} --plot {{}}/{name}", f"{name}|.png, .svg, .pdf", files)
      for name in ("out.bmp", "out") for c, files in (
          ("analyze {}/a.h5", lambda: {"a.h5": archive()}), ("fit {}/rec.npz -o {}/fit.h5", raster),
          ("flow {}/rec.npz -o {}/flow.h5", raster))],
    *[Case(f"{c}: --plot exists", f"{c} --plot {{}}/out.png", "out.png|exists|--overwrite", files)
      for c, files in (
          ("analyze {}/a.h5", lambda: {"a.h5": archive(), "out.png": b"mine"}),
          ("fit {}/rec.npz -o {}/fit.h5", lambda: {**raster(), "out.png": b"mine"}),
          ("flow {}/rec.npz -o {}/flow.h5", lambda: {**raster(), "out.png": b"mine"}))],
    Case("analyze: spikes without --bin", "analyze {}/rec.h5", "rec.h5|lft-archive|--bin", spikes),
    Case("analyze: an option of recordings", "analyze {}/a.h5 --pitch 42um", "--pitch|recordings",
         lambda: {"a.h5": archive()}),
    Case("analyze: --matrices exists", "analyze {}/rec.npz --matrices {}/m.h5", "m.h5|exists|--overwrite",
         lambda: {**raster(), "m.h5": b"mine"}),
    Case("--plot in a missing folder", "analyze {}/a.h5 --plot {}/no/out.png", "no|does not exist",
         lambda: {"a.h5": archive()}),
]
