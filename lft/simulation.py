"""Runs and resumptions: from a configuration to an archive, on any number of ranks."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from types import SimpleNamespace

from lft.archive import Archive, Recorder, check_output, on_root
from lft.chain import Chain, drive
from lft.clusters import CLUSTER_UPDATES, cluster_bytes
from lft.config import MAX_UPDATES, make_updater
from lft.errors import InputError
from lft.observables import default_observables, observables_of
from lft.percolation import DirectedPercolation
from lft.protocols import State
from lft.replica_sections import make_ladder
from lft.spreading import Ensemble, ensemble_bytes
from lft.tempering import Tempering
from lft.updaters import start


class Progress:
    """Progress on standard error: a live line on a terminal, else a plain line every ``every_s`` seconds."""

    def __init__(self, n_sites, done=0, every_s=10.0, stream=None):
        self.stream = stream or sys.stderr
        self.is_live = self.stream.isatty()
        self.every_s = 0.2 if self.is_live else every_s
        self.n_sites, self.first = n_sites, done
        self.began = self.last = time.monotonic()

    def __call__(self, t, total, seconds):
        now = time.monotonic()
        if now - self.last < self.every_s and not (t == total and self.is_live):
            return
        self.last = now
        rate = (t - self.first) / max(now - self.began, 1e-9)
        speed = rate * self.n_sites / 1e9
        left = _span((total - t) / rate)
        text = f"update {t}/{total} ({100 * t / total:.0f} %), {speed:.3g} site updates/ns, {left} left"
        if self.is_live:
            self.stream.write("\r\x1b[K" + text + ("\n" if t == total else ""))
        else:
            self.stream.write(text + "\n")
        self.stream.flush()


def _span(seconds):
    seconds = round(seconds)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def run(config, path, comm=None, overwrite=False, is_quiet=False):
    """Simulate a configuration and write its archive; returns the chain, interrupted or finished.

    It is a :class:`Chain`, or a :class:`lft.tempering.Tempering` where the configuration has a ladder.

    Parameters
    ----------
    config : RunConfig
    path : path
        The archive; an existing one is refused without ``overwrite``.
    comm : mpi4py communicator, optional
        The lattice is spread over its ranks; the result does not depend on their number.
    """
    on_root(comm, check_output, path, overwrite)
    slots = 1 if config.ladder is None else len(config.ladder.inverse_temperatures)
    check_memory(config.geometry, config.action, 1 if comm is None else comm.Get_size(), slots, config.updater)
    chain = _new(config, comm)
    meta = {
        "config": json.dumps(config.resolved),
        "config_text": config.text,
        "updater": repr(config.updater),
        "kernel": chain.kernel,
        "seed": str(config.key.seed),
        "checkpoint_s": config.checkpoint_s,
    }
    recorder = Recorder(path, meta)
    recorder.checkpoint(chain)  # a folder that cannot hold the archive is found out now, not after an hour
    return _finish(chain, recorder, config.checkpoint_s, is_quiet)


def _new(config, comm):
    if config.action.name == DirectedPercolation.name:
        return Ensemble(config.action, config.geometry, config.start, config.key, config.schedule, comm)
    return _new_chain(config, comm) if config.ladder is None else _new_tempering(config, comm)


def _new_chain(config, comm):
    phi = config.action.new_field(config.geometry, comm)
    config.action.bind(phi)  # couplings that do not fit the lattice are found out before there is a file
    start(phi, config.start, config.key)
    return Chain(
        config.action,
        config.updater,
        State(phi, 0),
        config.key,
        config.schedule,
        observables_of(config.action, config.geometry, config.updater),
        kernel=config.kernel,
    )


def _new_tempering(config, comm):
    what = (config.action, config.updater, config.geometry, config.key, config.schedule, config.ladder)
    chain = Tempering(*what, default_observables(config.action, config.geometry), comm, config.kernel)
    chain.start(config.start)
    return chain


def check_memory(geometry, action, n_ranks, slots=1, updater=None):
    """Raise InputError if a rank's field, clusters and copies of a checkpoint exceed the memory of this machine.

    The system grants more memory than there is and kills the program later: the size is compared beforehand.
    """
    need = geometry.n_sites * (8 if action.kind == "real" else 1) * (2 + 1 / n_ranks)
    if slots > 1:  # packed copies of all slots on rank 0, twice while they are written, and the slots' own fields
        need += (slots - 1) * geometry.n_sites * (16 if action.kind == "real" else 0.25)
        need += (slots / n_ranks - 1) * geometry.n_sites * (8 if action.kind == "real" else 1)
    if any(u.name in CLUSTER_UPDATES for u in getattr(updater, "updaters", (updater,)) if u is not None):
        need += cluster_bytes(geometry.n_sites / n_ranks, n_ranks)
    if action.name == DirectedPercolation.name:
        need += ensemble_bytes(geometry)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > there:
        raise InputError(
            f"[lattice] shape = {list(geometry.shape)}: {geometry.n_sites:.3g} sites"
            f"{f' at {slots} temperatures' if slots > 1 else ''} need "
            f"{need / 1e9:.3g} GB, this machine has {there / 1e9:.3g} GB of memory"
        )


def _finish(chain, recorder, checkpoint_s, is_quiet):
    slots = len(getattr(chain, "inverse_temperatures", "1"))
    progress = None if is_quiet else Progress(slots * chain.state.phi.geometry.n_sites, chain.state.t)
    drive(chain, recorder, checkpoint_s, progress)
    chain.close()
    return chain


def resume(path, updates=None, comm=None, is_quiet=False):
    """Continue an archive on any number of ranks, bit for bit as if it had never stopped.

    Parameters
    ----------
    updates : int, optional
        Default: finish the planned updates.  Else as many more than were planned are planned now.
    """
    if updates is not None and updates < 1:
        raise InputError(f"--updates {updates}: valid is an integer >= 1")
    on_root_only = {}  # the configuration stays on rank 0 until it is scattered

    def load():
        with Archive(path) as archive:
            check_output(path, overwrite=True)
            for name in archive.names:
                archive.samples(name)  # a damaged series is found out now, not at the first checkpoint
            on_root_only["fields"] = [archive.geometry.to_storage(array) for array in archive.state_arrays()]
            parts = ("tempering", "spreading", "meta", "config", "update", "geometry", "action", "key", "schedule")
            parts += ("counters", "t")
            return {name: getattr(archive, name) for name in (*parts, "checkpoint_s")}

    old = SimpleNamespace(**on_root(comm, load))
    action, schedule = old.action, old.schedule
    schedule = dataclasses.replace(schedule, updates=schedule.updates + (updates or 0))
    if schedule.updates > MAX_UPDATES:
        raise InputError(f"--updates {updates}: all updates of an archive must stay below 2^47")
    run = old.config["run"]
    run |= {name: schedule.updates for name in ("updates", "replicas") if name in run}
    updater = make_updater(old.update, action, str(path))
    try:
        if old.spreading is not None:
            chain = Ensemble(action, old.geometry, old.spreading["start"], old.key, schedule, comm)
            chain.restore(old.t, old.counters, old.spreading)
        elif old.tempering is None:
            phi = action.new_field(old.geometry, comm)
            phi.values[...] = phi.domain.scatter(on_root_only.get("fields", [None])[0], phi.data.dtype)
            phi.exchange()
            parts = (action, updater, State(phi, old.t), old.key, schedule)
            observables = observables_of(action, old.geometry, updater)
            chain = Chain(*parts, observables, old.counters, kernel=str(old.meta["kernel"]))
        else:
            ladder = make_ladder(old.config["tempering"], action, schedule, str(path))
            parts = (action, updater, old.geometry, old.key, schedule, ladder)
            observables = default_observables(action, old.geometry)
            chain = Tempering(*parts, observables, comm, old.update["kernel"])
            chain.restore(old.t, old.counters, old.tempering, on_root_only.get("fields"))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    meta = {k: v for k, v in old.meta.items() if k not in ("ranks", "threads")} | {"config": json.dumps(old.config)}
    return _finish(chain, Recorder(path, meta, is_new=False), old.checkpoint_s, is_quiet)
