"""What the scripts of this folder share: arguments, tables of theory and network, figures."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np

FIGURES = Path(__file__).resolve().parent / "figures"


def arguments(text, **numbers):
    """``--name VALUE`` for every number, with its default, and ``--figures DIR``."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    args = parser.parse_args()
    args.figures.mkdir(parents=True, exist_ok=True)
    return args


class Table:
    """Rows of theory, network, difference and z, printed as they come."""

    def __init__(self, title):
        print(f"{title}\n{'quantity':34}{'theory':>12}{'network':>12}{'error':>10}{'diff %':>9}{'z':>8}", flush=True)

    def row(self, name, theory, network, error, theory_error=0.0):
        z = (network - theory) / math.hypot(error, theory_error)
        relative = f"{100 * (network / theory - 1):9.2f}" if theory else f"{'-':>9}"
        print(f"{name:34}{theory:12.5g}{network:12.5g}{error:10.2g}{relative}{z:8.1f}", flush=True)
        return z

    def end(self):
        print(f"processor time {time.process_time():.0f} s so far", flush=True)


def mean_error(values, axis=0):
    """Mean of independent networks and its standard error."""
    values = np.asarray(values, float)
    return values.mean(axis=axis), values.std(axis=axis, ddof=1) / math.sqrt(values.shape[axis])
