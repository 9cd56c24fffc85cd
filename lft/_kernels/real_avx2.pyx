# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The loops of real.pyx compiled for AVX2 (setup.py): the same bits, chosen at run time."""
from lft._kernels.actions cimport real_action_t
include "real_loops.pxi"
