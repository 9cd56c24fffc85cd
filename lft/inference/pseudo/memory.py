"""Memory of a fit, stated before it is allocated; what does not fit is refused with what would."""

from __future__ import annotations

import os

from lft.errors import InputError
from lft.inference import newton
from lft.inference.pseudo.errors import ROW_BLOCKS
from lft.inference.pseudo.information import ROWS_BYTES
from lft.inference.pseudo.patterns import LANES


def n_couplings(n_units, k_max=0, n_lags=0, is_counted=False):
    """Largest number of parameters of a fit: a, C, b, V, c."""
    n = n_units
    return n * (n - 1) // 2 + k_max * n * n + n_lags + (n - 2 if is_counted else 0) + n


def needed(n_units, k_max, n_lags, is_counted, n_rows, n_spikes):
    """Bytes per rank of a fit, from its sizes: lists of features, weights and sums, vectors of the search, errors."""
    n, shifts = n_units, 1 + 2 * k_max
    features = n * shifts + n_lags + (2 * n + 2 if is_counted else 0) + 1
    size = n_couplings(n, k_max, n_lags, is_counted)
    lists = 8 * n_rows * 2 + 4 * n_spikes * (shifts + 1) + 32 * n_spikes * (2 * n_lags + bool(is_counted))
    matrices = 8 * n * features * 10 + 24 * 2 * size * 2 + 8 * n * n * 8
    search = 8 * size * 12
    rows = 16 * n * features**2
    if rows <= ROWS_BYTES:
        errors = 2 * rows
    else:
        errors = 4 * LANES * features**2 // 2 + 8 * 6 * features**2
    blocks = max(min(newton.MAX_FINE, n_rows, max(2**24 // max(size, 1), ROW_BLOCKS)), 1)
    return lists + matrices + search + errors + 8 * 3 * blocks * size


def check_memory(n_units, k_max, n_lags, is_counted, n_rows, n_spikes, n_ranks=1):
    """One line that states the memory; InputError that says how many units would fit where it exceeds the machine's."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    what = k_max, n_lags, is_counted, n_rows
    here, size = needed(n_units, *what, n_spikes), n_couplings(n_units, k_max, n_lags, is_counted)
    if here * n_ranks > 0.9 * there:
        low, high = 1, n_units
        while high - low > 1:
            middle = (low + high) // 2
            fits = needed(middle, *what, n_spikes * middle // n_units) * n_ranks <= 0.9 * there
            low, high = (middle, high) if fits else (low, middle)
        raise InputError(
            f"{n_units} units with {size} couplings need {here / 1e9:.3g} GB on each of {n_ranks} ranks, this machine "
            f"has {there / 1e9:.3g} GB: about {low} units would fit"
        )
    return f"memory: about {here / 1e9:.2g} GB per rank for {size} couplings, and the recording on the first"
