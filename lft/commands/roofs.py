"""Roofs of this machine: what it moves and how many random numbers it makes when it does nothing else.

All rates are per second of CPU time of one thread, the median of REPEATS runs after an untimed one.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from itertools import count
from pathlib import Path

import numpy as np

from lft import __version__, threads
from lft._kernels import noise, roofs
from lft.rng import Key

REPEATS = 5
CACHES = {"L1": 2**15, "L2": 2**20, "L3": 2**25}
"""Bytes, where the system does not tell."""


def median_ns(function, n, scale=1.0):
    """CPU time of one call of ``function(n)`` divided by n, in ns: the median of REPEATS."""
    n = max(1, int(n * scale))
    function(1)
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        function(n)
        times.append((time.process_time() - began) / n)
    return max(statistics.median(times), 1e-9) * 1e9


def cache_sizes():
    """Bytes of L1 (data), L2 and L3 as Linux reports them for the first processor; CACHES elsewhere."""
    sizes = dict(CACHES)
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, level, text = ((index / name).read_text().strip() for name in ("type", "level", "size"))
            unit = {"K": 2**10, "M": 2**20, "G": 2**30}[text[-1]]
            if kind in ("Data", "Unified") and f"L{level}" in sizes:
                sizes[f"L{level}"] = int(text[:-1]) * unit
        except (OSError, ValueError, KeyError):
            continue
    return sizes


def level_of(footprint, sizes):
    """The cache that holds ``footprint`` bytes, or ``"DRAM"``."""
    return next((level for level, size in sizes.items() if footprint <= size), "DRAM")


def bandwidth(sizes, scale=1.0):
    """GB/s of copy (16 B per element) and triad (24 B) on buffers that together fill half of each level.

    DRAM is measured on four times the last cache; ``scale`` < 1 shrinks times and the large buffers (tests).
    """
    buffers = {level: size // 2 for level, size in sizes.items()}
    buffers["DRAM"] = 4 * max(sizes.values())
    out = {"copy": {}, "triad": {}}
    for level, size in buffers.items():
        size = max(int(size * min(4 * scale, 1)), 2**13)
        n = size // 24
        a, b, c = np.ones(n), np.ones(n), np.empty(n)
        half = np.ones(size // 16)
        target = np.empty_like(half)

        def copy(repeats, half=half, target=target):
            for _ in range(repeats):
                np.copyto(target, half)

        def triad(repeats, a=a, b=b, c=c):
            roofs.triad(c, a, b, 0.5, repeats)

        repeats = 2**31 // max(size, 2**16)
        out["copy"][level] = 2 * half.nbytes / median_ns(copy, repeats, scale)
        out["triad"][level] = 3 * a.nbytes / median_ns(triad, repeats, scale)
    return out


def supply(scale=1.0):
    """Random numbers per ns by kind; ``"ars-bits"`` are bits of the bit-sliced sweeps, two of whose seven
    rounds are shared (absent without AES)."""
    key, n, t = Key(1), 2**11, count()

    def fill(kind):
        def run(repeats):
            for _ in range(repeats):
                noise.fill(kind, 0, 1, n, next(t), 0, 0, key.word)

        return run

    out = {k: 2 * n / median_ns(fill(k), 2400, scale) for k in ("uniform", "exponential", "logistic", "normal")}

    def ars(is_shared):
        def run(repeats):
            for _ in range(repeats):
                roofs.ars(next(t) << 20, key.word, is_shared, 2**10)

        return run

    bits, _ = roofs.ars(0, key.word, True, 2**10)
    if bits:
        out["ars-bits"] = bits / median_ns(ars(True), 4000, scale)
        out["ars-bits-unshared"] = bits / median_ns(ars(False), 4000, scale)
    return out


def machine():
    """What a rate must be quoted with: processor, threads, versions, load."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": threads.count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "instruction_set": noise.instruction_set(),
        "lft": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
