"""``flow`` with its methods, the command line itself, ``demo``."""

import functools

import numpy as np

from tests.unit.bad.files import Case, altered, archive, fitted, raster, raster_of

FLOW = "flow {}/rec.npz -o {}/flow.h5"
CASES = [
    *[Case(f"--factor {f}", f"{FLOW} --factor={f}", words, raster) for f, words in {
        "0": "--factor|0|>= 1", "-1": "--factor|-1", "two": "--factor|two", "2,2": "factor|(2, 2)|x, y, t",
                                                                                    "": "--factor",
        "2,0,1": "--factor|2,0,1", "1.5": "--factor|1.5", "1": "--factor|1", "1,1,1": "--factor|1,1,1",
        "500": "factor|500"}.items()],
    *[Case(f"--levels {n}", f"{FLOW} --levels={n}", f"--levels|{n}|integer", raster) for n in ("-1", "two",
                                                                                               "1.5")],
    Case("unknown blocking", f"{FLOW} --blocking mean", "--blocking|mean|majority, decimation", raster),
    Case("average cannot be refitted", f"{FLOW} --blocking average", "--blocking|average|majority", raster),
    Case("k-of-n without --k", f"{FLOW} --blocking k-of-n", "--k|k-of-n|1 to 8", raster),
    *[Case(f"k-of-n with --k {k}", f"{FLOW} --blocking k-of-n --k={k}", f"--k|{k}|{w}", raster)
      for k, w in (("0", "1 to 8"), ("-2", "1 to 8"), ("9", "1 to 8"), ("two", "integer"))],
    Case("--k without k-of-n", f"{FLOW} --blocking or --k 2", "--k|2|k-of-n", raster),
    *[Case(f"prg: {options}", f"{FLOW} --method prg {options}", words, raster) for options, words in (
        ("--surrogates -1", "--surrogates -1|integer >= 0"),
        ("--nulls shuffled,phase", "--nulls|phase|shuffled, circular, independent, latent"),
        ("--nulls ,", "--nulls|valid is a list"),
        ("--bins 10ms", "10 ms|20 ms|multiple"),
        ("--bins 40ms,fast", "--bins|fast|such as"),
        ("--pairing best", "--pairing|best|held-out, same, normalized"),
        ("--blocks 5", "--blocks 5|even integer >= 4"),
        ("--blocks 100", "400 bins in 100 blocks|at least 8 bins"),
        ("--seed -1", "--seed -1|0 to 2^64 - 1"),
        ("--units 0,1,2", "3 of 3 units vary|at least 4"),
        ("--units 0-9", "--units|0-9|0 to 5"),
        ("--window 1,5", "--window|raster"),
        ("--blocking or", "--blocking or|prg"),
    )],
    Case("prg of a recording that never changes", f"{FLOW} --method prg", "0 of 6 units vary",
         functools.partial(raster, raster=np.ones((6, 400), bool))),
    Case("prg of few bins", f"{FLOW} --method prg", "20 bins|at least 32",
         functools.partial(raster, raster=raster_of(6, 20))),
    Case("prg of an archive", "flow {}/a.h5 -o {}/flow.h5 --method prg", "a.h5|recording|archive",
         lambda: {"a.h5": archive()}),
    Case("flow of phi4", "flow {}/a.h5 -o {}/flow.h5", "a.h5|phi4|spin", lambda: {"a.h5": archive("phi4")}),
    Case("flow of a graph", "flow {}/a.h5 -o {}/flow.h5", "a.h5|graph|lattice",
         lambda: {"a.h5": archive("neural")}),
    Case("flow of a damaged archive", "flow {}/a.h5 -o {}/flow.h5", "a.h5|damaged|state",
         lambda: {"a.h5": altered(lambda f: f.pop("state"))}),
    Case("flow of a fit", "flow {}/fit.h5 -o {}/flow.h5", "fit.h5|spike_times",
         lambda: {"fit.h5": fitted("lattice")}),
    *[Case(f"inverse map {options}", f"{FLOW} {options}", words, raster) for options, words in {
        "--to-spacing 50um": "--to-spacing|42 um|50 um|whole number",
        "--to-spacing 21": "--to-spacing|21|unit", "--to-spacing 21ms": "--to-spacing|21ms|um",
        "--to-spacing 0um": "--to-spacing|0um|positive", "--to-bin 21um": "--to-bin|21um|ms",
        "--to-bin 40ms": "--to-bin|20 ms|40 ms|whole number", "--to-bin 3ms": "--to-bin|20 ms|3 ms",
        "--to-bin 20ms": "--to-bin|20ms|no coarser", "--to-bin 10": "--to-bin|10|unit",
        "--to-bin 10ms --factor 3": "--factor|3|--to-bin", "--to-bin 10ms --levels 1": "--levels|1|--to-bin",
        "--to-bin 10ms --blocking average": "--blocking|average|decimation, or",
        "--to-bin 10ms --blocking k-of-n": "--k|1 to 2", "--to-bin 10ms --blocking k-of-n --k 3": "--k|3|1 to 2",
        "--to-bin 10ms --k 1": "--k|1|k-of-n", "--to-bin 10ms --surround=-1": "--surround|-1",
        "--to-bin 10ms --configurations 3": "--configurations|3|40", "--method inverse": "inverse|--to-spacing",
        "--to-bin 10ms --method prg": "prg", "--to-spacing 0.01um": "coarser target"}.items()],
    Case("inverse map without positions or bin width", "flow {}/a.h5 -o {}/flow.h5 --to-bin 1ms",
         "a.h5|no physical spacing", lambda: {"a.h5": archive("bare")}),
    Case("inverse map of another model", "flow {}/fit.h5 -o {}/flow.h5 --to-bin 1ms", "fit.h5|neural|lattice",
         lambda: {"fit.h5": fitted("neural")}),
    Case("unknown command", "simulate {}/run.toml", "simulate|run|resume|analyze"),
    Case("no command", "", "run, resume|-h"),
    Case("unknown option", "status {}/a.h5 --fast", "--fast", lambda: {"a.h5": archive()}),
    Case("missing argument", "status", "archive"),
    Case("demo in a file", "demo -o {}/a", "a|cannot be made", {"a": b"mine"}),
    Case("demo beside a fit", "demo -o {}", "fit.h5|exists|--overwrite", {"fit.h5": b"mine"}),
    Case("demo done before", "demo -o {}", "demo.json|exists|--overwrite", {"demo.json": b"{}"}),
]
