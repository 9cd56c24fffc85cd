"""``lft flow --method mcrg``: exponents from the correlations of operators before and after blocking."""

from __future__ import annotations

import numpy as np

from lft.commands.configurations import checked_blocking, open_configurations, operators_of, parse_factor
from lft.errors import InputError
from lft.rg.monte_carlo.cascade import measure_cascade
from lft.rg.monte_carlo.stability import SingularMatrix, save_stability, stability


def compute(args):
    """Eigenvalues of the stability matrix by iteration and number of operators; returns (result, notes)."""
    blocking = checked_blocking(args)
    factor = parse_factor(args.factor)
    source = open_configurations(args.source, "mcrg")
    operators, notes = operators_of(args, source)
    series = measure_cascade(source.batches(), source.lattice, operators, blocking, factor, args.levels, args.k,
                             source.seed)  # fmt: skip
    try:
        result = stability(series)
    except SingularMatrix as reason:
        raise InputError(f"{source.name}: {reason}") from None
    if np.any(source.action.couplings.get("h", 0.0)):
        notes.append("the action has a field h: operators with an even and with an odd number of spins mix, and the "
                     "two sectors are no longer exact; at a critical point without field they are")
    result.notes[:0] = [*source.notes, *notes]
    return result, result.notes


def save(result, path):
    """Write FLOW.h5."""
    save_stability(result, path)


def plot(result, path):
    """Draw the exponents against iteration and number of operators."""
    from lft.plotting import plot_exponents

    plot_exponents(result, path)
