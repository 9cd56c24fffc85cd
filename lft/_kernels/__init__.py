"""Compiled loops.  ``real_loops()`` gives the variant for this processor; contract and measured cost: README.md."""

from importlib import import_module


def real_loops(instruction_set=None):
    """Module with the loops over real fields for an instruction set (default: the best of this processor)."""
    if instruction_set is None:
        from lft._kernels import noise

        instruction_set = noise.instruction_set()
    name = {"baseline": "real", "avx2": "real_avx2", "avx512": "real_avx512"}[instruction_set]
    return import_module(f"lft._kernels.{name}")
