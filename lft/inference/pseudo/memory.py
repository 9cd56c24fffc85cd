"""Memory of a fit, stated before it is allocated; what does not fit is refused with what would."""

from __future__ import annotations

import os

from lft.errors import InputError
from lft.inference import newton
from lft.inference.pseudo.errors import ROW_BLOCKS
from lft.inference.pseudo.information import ROWS_BYTES
from lft.inference.pseudo.patterns import LANES


def needed(n_units, n_shifts, n_own, n_levels, n_rows, n_spikes):
    """Bytes per rank of a fit, from its sizes: lists of features, weights and sums, vectors of the search, errors."""
    n, features = n_units, n_units * n_shifts + n_own + (2 * n_units + 2 if n_levels else 0) + 1
    size = n * (n - 1) // 2 + (n_shifts // 2) * n * n + n + n_own + n_levels
    lists = 8 * n_rows * 2 + 4 * n_spikes * (n_shifts + 1) + 32 * n_spikes * (2 * n_own + bool(n_levels))
    matrices = 8 * n * features * 10 + 24 * 2 * size * 2 + 8 * n * n * 8
    search = 8 * size * 12
    rows = 16 * n * features**2
    if rows <= ROWS_BYTES:
        errors = 2 * rows
    else:
        errors = 4 * LANES * features**2 // 2 + 8 * 6 * features**2
    blocks = max(min(newton.MAX_FINE, n_rows, max(2**24 // max(size, 1), ROW_BLOCKS)), 1)
    influences = 8 * 3 * blocks * size
    return lists + matrices + search + max(errors + influences, 0)


def check_memory(layout, spikes, n_train, n_ranks=1):
    """One line that states the memory; InputError that says how many units would fit where it exceeds the machine's."""
    n, n_rows, n_spikes = layout.n_units, len(spikes[1]) - 1, len(spikes[2])
    shapes = (len(layout.shifts), len(layout.lags), layout.n_levels)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    bytes_here = needed(n, *shapes, n_rows, n_spikes)
    if bytes_here * n_ranks > 0.9 * there:
        low, high = 1, n
        while high - low > 1:
            middle = (low + high) // 2
            fits = needed(middle, *shapes, n_rows, n_spikes * middle // n) * n_ranks <= 0.9 * there
            low, high = (middle, high) if fits else (low, middle)
        raise InputError(
            f"{n} units with {layout.size} couplings need {bytes_here / 1e9:.3g} GB on each of {n_ranks} ranks, this "
            f"machine has {there / 1e9:.3g} GB: about {low} units would fit"
        )
    return f"memory: about {bytes_here / 1e9:.2g} GB per rank for {layout.size} couplings"
