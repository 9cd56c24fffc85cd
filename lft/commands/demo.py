"""``lft demo``: the whole path on a recording whose couplings are known.

A 2+1-dimensional neural lattice is simulated and written out as a recording.  From the recording alone: fit, simulate
at the fit (under ``mpirun`` with 2 ranks if an MPI library is there), compare correlators, block and refit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from shutil import which

import numpy as np

from lft import plotting
from lft.actions import Ising
from lft.analysis.correlator import two_point
from lft.archive import Archive
from lft.chain import Chain, Schedule
from lft.domain import library_name
from lft.errors import InputError, LftError
from lft.field import Field
from lft.geometry import Lattice
from lft.inference.lattice_fit import fit_lattice
from lft.inference.recording import read_recording
from lft.inference.result import save_fit
from lft.protocols import State
from lft.rg.flow import flow, save_flow
from lft.rng import Key, Stream
from lft.updaters import HeatBath, start

SHAPE, SPACING = (20, 16, 3000), ("50 um", "50 um", "10 ms")
COUPLINGS = {(1, 0, 0): 0.19, (0, 1, 0): 0.15, (0, 0, 1): 0.27}
SEED = 2026
FIGURES = ("couplings.png", "correlators.png", "flow.png")
FILES = ("demo.json", "recording.npz", "fit.h5", "simulation.h5", "flow.h5", *FIGURES)


def demo(folder, overwrite=False, report=print):
    """Run the demonstration and leave figures and ``demo.json`` in ``folder``; returns the JSON data."""
    started = time.monotonic()
    folder = Path(folder)
    there = next((folder / name for name in FILES if (folder / name).exists()), None)
    if there is not None and not overwrite:
        raise InputError(f"{there}: exists; give another folder (-o), or --overwrite to replace it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from error

    report(f"1. a recording: {SHAPE[0]} x {SHAPE[1]} units, {SHAPE[2]} bins, couplings known")
    recording_path = folder / "recording.npz"
    h = make_recording(recording_path)

    report("2. fit: maximum pseudo-likelihood, from the recording alone")
    field = read_recording(recording_path).lattice_field()
    fit = fit_lattice(field)
    save_fit(fit, folder / "fit.h5", overwrite=True)
    couplings = _compare_couplings(fit, h)
    for name, c in couplings.items():
        report(f"   {name:10} true {c['true']:+.4f}   fitted {c['value']:+.4f} +- {c['error']:.4f}")
    score = fit.score
    report(f"   held-out score {score['test']:.5f}, independent model {score['test_independent']:.5f} nats/bin/unit")

    report("3. simulate at the fit")
    ranks = simulate_at_fit(folder, report)

    report("4. correlators of the recording beside those of the simulation")
    with Archive(folder / "simulation.h5") as archive:
        fields = [
            Field.from_array(archive.geometry, "spin", archive.configuration(k))
            for k in range(archive.n_configurations)
        ]
    recorded, simulated = two_point(field, 24), two_point(fields, 24)
    correlators = _compare_correlators(recorded, simulated)
    for axis, c in correlators.items():
        report(f"   C_{axis}(1)/C_{axis}(0): {c['recording'][1]:.4f} and {c['simulation'][1]:.4f}, "
               f"largest |z| {c['max_abs_z']:.1f} up to r = {c['r'][-1]}")

    report("5. flow: every second site and bin (decimation), refitted")

    def refit(fields):
        result = fit_lattice(fields, test=0.0)
        return {**result.couplings, "h": result.h_mean}

    levels = flow([field], refit, blocking="decimation", factor=2, levels=2)
    report("\n".join("   " + line for line in levels.table().splitlines()))
    save_flow(levels, folder / "flow.h5")

    plotting.plot_recovery(couplings, folder / "couplings.png")
    plotting.plot_comparison({"recording": recorded, "simulation at the fit": simulated}, folder / "correlators.png")
    plotting.plot_flow(levels, folder / "flow.png")
    data = {
        "couplings": couplings,
        "score": score,
        "correlators": correlators,
        "flow": levels.as_json(),
        "ranks": ranks,
        "seconds": time.monotonic() - started,
    }
    (folder / "demo.json").write_text(json.dumps(data, indent=2) + "\n")
    report(f"done in {data['seconds']:.0f} s: demo.json and figures in {folder}")
    return data


def make_recording(path):
    """Simulate the known lattice and write it as a raster with positions; returns the true site fields."""
    key = Key(SEED)
    lattice = Lattice(SHAPE, ("x", "y", "t"), "open", SPACING)
    u = key.fill("uniform", 0, 1, SHAPE[0] * SHAPE[1], 0, Stream.SYNTHETIC)[0]
    h = (-0.16 + 0.2 * u).reshape(SHAPE[:2])
    action = Ising(K=COUPLINGS, h=h)
    phi = action.new_field(lattice)
    start(phi, "silent", key)
    chain = Chain(action, HeatBath(), State(phi, 0), key, Schedule(200, 1), [])
    for _ in range(200):
        chain.advance()
    raster = (phi.array() > 0).reshape(-1, SHAPE[2])
    sites = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE[:2]], indexing="ij"), axis=-1).reshape(-1, 2)
    np.savez_compressed(path, raster=raster, bin_s=0.010, positions=50.0 * sites)
    return h


def _compare_couplings(fit, h):
    couplings = {
        name: {"true": COUPLINGS[d], "value": fit.couplings[name][0], "error": fit.couplings[name][1]}
        for d, name in zip(fit.displacements, fit.couplings, strict=False)
        if d in COUPLINGS
    }
    couplings["<h>"] = {"true": float(h.mean()), "value": fit.h_mean[0], "error": fit.h_mean[1]}
    return couplings


def mpiexec():
    """The mpirun that belongs to this Python's MPI library: beside the interpreter, else on the path; or None."""
    if library_name().startswith("none"):
        return None
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else which("mpiexec") or which("mpirun")


def simulate_at_fit(folder, report):
    """``lft run fit.h5`` as a user would start it; returns the number of ranks that served."""
    command = [sys.executable, "-P", "-m", "lft", "run", str(folder / "fit.h5"), "-o", str(folder / "simulation.h5")]
    command += ["--overwrite", "--quiet"]
    for setting in ("run.thermalize=100", "run.updates=200", "run.measure_every=5", "run.save_every=50"):
        command += ["--set", setting]
    launcher = mpiexec()
    if launcher is None:
        report("   no MPI library: one rank (pip install 'lft[mpi]' brings one)")
    else:
        failure = _try_command([launcher, "-n", "2", *command])
        if failure is None:
            report(f"   {Path(launcher).name} -n 2 lft run fit.h5 -o simulation.h5")
            return 2
        report(f"   mpirun failed ({failure}); one rank instead")
    failure = _try_command(command)
    if failure is not None:
        raise LftError(f"the simulation at the fit failed: {failure}")
    report("   lft run fit.h5 -o simulation.h5")
    return 1


def _try_command(command):
    """None if the command succeeds, else the last line that it said."""
    result = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    if result.returncode == 0:
        return None
    return (result.stderr.strip() or result.stdout.strip() or "no message").splitlines()[-1]


def clean_environment():
    """This process's environment without what a launcher put there: a child that starts mpirun is a new job.

    The child finds this package in whatever folder it runs.
    """
    drop = ("PMI_", "PMIX_", "OMPI_", "HYDI_", "HYDRA_", "MPIR_CVAR_CH4_", "SLURM_STEP")
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    return {k: v for k, v in os.environ.items() if not k.startswith(drop)} | {"PYTHONPATH": path}


def _compare_correlators(recorded, simulated):
    out = {}
    for axis, a in recorded.items():
        b = simulated[axis]
        (x, dx), (y, dy) = a.normalized, b.normalized
        n = min(len(x), len(y))
        z = (x[1:n] - y[1:n]) / np.hypot(dx[1:n], dy[1:n])
        out[axis] = {
            "r": a.r[:n].tolist(),
            "step": str(a.step),
            "recording": x[:n].tolist(),
            "recording_error": dx[:n].tolist(),
            "simulation": y[:n].tolist(),
            "simulation_error": dy[:n].tolist(),
            "max_abs_z": float(np.abs(z).max()),
        }
    return out
