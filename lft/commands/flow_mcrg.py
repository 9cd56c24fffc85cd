"""``lft flow --method mcrg``: exponents from the correlations of operators before and after blocking."""

from __future__ import annotations

import re

import numpy as np

from lft.commands.configurations import open_configurations
from lft.commands.flow_refit import parse_factor
from lft.errors import InputError
from lft.rg.blocking import BLOCKINGS
from lft.rg.cascade import measure_cascade
from lft.rg.mcrg import SingularMatrix, save_stability, stability
from lft.rg.operators import equivalent_axes, operator_set, parse_operator


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


def checked_blocking(args):
    """The rule of ``--blocking`` (default majority), one that makes spins."""
    if args.levels < 1:
        raise InputError(f"--levels {args.levels}: --method {args.method} takes an integer >= 1")
    blocking = args.blocking or "majority"
    if blocking not in BLOCKINGS or blocking == "average":
        valid = ", ".join(b for b in BLOCKINGS if b != "average")
        raise InputError(f"--blocking {blocking!r}: --method {args.method} takes {valid}")
    if blocking != "k-of-n" and args.k is not None:
        raise InputError(f"--k {args.k}: only with --blocking k-of-n, this one is {blocking}")
    return blocking


def operators_of(args, source):
    """The operators of ``--operators``: numbers EVEN,ODD, or names parted by blanks; returns (operators, notes)."""
    lattice, text = source.lattice, (args.operators or "7,4").strip()
    groups, n_axes = equivalent_axes(lattice, source.action), len(lattice.shape)
    notes = []
    if n_axes > 1 and groups != [tuple(range(n_axes))]:
        shown = ["=".join(lattice.axes[a] for a in g) for g in groups] or ["none"]
        notes.append(f"axes that symmetry makes equal: {', '.join(shown)}")
    if re.fullmatch(r"\d+,\d+", text):
        even, odd = (int(p) for p in text.split(","))
        if not even + odd:
            raise InputError("--operators 0,0: valid is at least one operator")
        return operator_set(n_axes, even, odd, groups), notes
    if re.fullmatch(r"[\d,]*", text):
        raise InputError(f"--operators {text!r}: valid is EVEN,ODD such as 7,4, or names such as "
                         f"'h K[1{',0' * (n_axes - 1)}]', parted by blanks")
    found = [parse_operator(p, n_axes, groups) for p in text.split()]
    return sorted(found, key=lambda o: not o.is_even), notes


def save(result, path):
    """Write FLOW.h5."""
    save_stability(result, path)


def plot(result, path):
    """Draw the exponents against iteration and number of operators."""
    from lft.plotting import plot_exponents

    plot_exponents(result, path)
