"""``lft flow``: renormalization flow of an archive or a recording, by one of several methods.

A method is a module with ``compute(args) -> (result, notes)``, ``save(result, path)`` and ``plot(result, path)``; a
result has ``as_json()`` and ``table()``.
"""

from __future__ import annotations

from importlib import import_module

from lft.archive import check_output
from lft.errors import InputError

METHODS = {
    "refit": "lft.commands.flow_refit",
    "mcrg": "lft.commands.flow_mcrg",
    "matching": "lft.commands.flow_matching",
    "prg": "lft.commands.flow_prg",
    "inverse": "lft.commands.flow_inverse",  # chosen by --to-spacing, --to-bin
}


def flow_source(args):
    """Compute, save and draw what the command line asks for; returns (result, notes)."""
    if args.method not in METHODS:
        raise InputError(f"--method {args.method!r}: valid are {', '.join(METHODS)}")
    if args.to_spacing is not None or args.to_bin is not None:
        if args.method not in ("refit", "inverse"):
            raise InputError(f"--to-spacing, --to-bin: the inverse map, not --method {args.method}")
        args.method = "inverse"
    check_output(args.output, args.overwrite)
    method = import_module(METHODS[args.method])
    result, notes = method.compute(args)
    method.save(result, args.output)
    if args.plot:
        method.plot(result, args.plot)
    return result, notes
