"""Compiled loops.  ``real_loops()`` gives the variant for this processor; contract and measured cost: README.md."""

import os
from importlib import import_module

# Read once, when the OpenMP library is loaded with the first kernel.  Its default, idle threads that spin, costs a
# factor of 1000 where threads share cores (64 sites: 4 us on one thread, 12 ms on two, 10 us with passive waiting).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def real_loops(instruction_set=None):
    """Module with the loops over real fields for an instruction set (default: the best of this processor)."""
    if instruction_set is None:
        from lft._kernels import noise

        instruction_set = noise.instruction_set()
    name = {"baseline": "real", "avx2": "real_avx2", "avx512": "real_avx512"}[instruction_set]
    return import_module(f"lft._kernels.{name}")
